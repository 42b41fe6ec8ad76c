//! Who calls, and what that gives a right to.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use jiff::Timestamp;

use crate::{Error, Plan, Result, TenantId};

/// A user, as the identity provider names one: 1 to 200 characters without control characters.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Sub(String);

impl Sub {
    /// The `sub` as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Sub {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Sub {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        if (1..=200).contains(&text.chars().count()) && !text.chars().any(char::is_control) {
            Ok(Self(text.to_owned()))
        } else {
            Err(Error::invalid("sub", "must be 1 to 200 characters without control characters"))
        }
    }
}

/// What owns a tenant: an organisation of the identity provider, or `user:<sub>` for a user who is in none.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct OrgId(String);

impl OrgId {
    /// The organisation of one user alone.
    pub fn alone(sub: &Sub) -> Self {
        Self(format!("user:{sub}"))
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for OrgId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for OrgId {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        if (1..=210).contains(&text.chars().count()) && !text.chars().any(char::is_control) {
            Ok(Self(text.to_owned()))
        } else {
            Err(Error::invalid("orgId", "must be 1 to 210 characters without control characters"))
        }
    }
}

/// What a member may do in a tenant, from least to most.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum TenantRole {
    /// Sees everything, changes nothing.
    Viewer,
    /// Works with stacks and nodes.
    Member,
    /// Manages members and the tenant itself, too.
    Admin,
}

impl TenantRole {
    /// Every role, from least to most.
    pub const ALL: [Self; 3] = [Self::Viewer, Self::Member, Self::Admin];

    /// The role as it stands in answers.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Member => "member",
            Self::Admin => "admin",
        }
    }
}

impl fmt::Display for TenantRole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for TenantRole {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        Self::ALL
            .into_iter()
            .find(|role| role.as_str() == text)
            .ok_or_else(|| Error::invalid("role", "must be viewer, member or admin"))
    }
}

/// Whether a tenant's members may work in it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TenantStanding {
    /// They may.
    #[default]
    Open,
    /// The platform suspended it.
    Suspended,
    /// It is deleted, and can be undeleted.
    Deleted,
    /// Its data cannot be read now: who its members are is not sure.
    Unreadable,
}

/// One tenant that a user is a member of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Membership {
    /// The tenant.
    pub tenant: TenantId,
    /// The tenant's slug.
    pub slug: String,
    /// What the user may do there.
    pub role: TenantRole,
    /// Whether anybody may do anything there.
    pub standing: TenantStanding,
}

/// The tenants of one user, at most [`Memberships::MAX`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Memberships(Vec<Membership>);

impl Memberships {
    /// How many memberships are kept for one caller at most.
    pub const MAX: usize = 100;

    /// These memberships; what is over the bound is left out.
    pub fn new(mut memberships: Vec<Membership>) -> Self {
        memberships.truncate(Self::MAX);
        Self(memberships)
    }

    /// The memberships, one by one.
    pub fn iter(&self) -> impl Iterator<Item = &Membership> {
        self.0.iter()
    }

    /// Only the membership in `tenant`: what a session for one tenant is good for.
    #[must_use]
    pub fn within(mut self, tenant: TenantId) -> Self {
        self.0.retain(|membership| membership.tenant == tenant);
        self
    }

    /// The membership in the tenant of that id or slug.
    pub fn find(&self, tenant: &str) -> Option<&Membership> {
        self.0.iter().find(|membership| membership.slug == tenant || membership.tenant.to_string() == tenant)
    }

    /// The one membership of a caller who has only one; deleted tenants count only where there is no other.
    pub fn only(&self) -> Option<&Membership> {
        let mut there = self.0.iter().filter(|membership| membership.standing != TenantStanding::Deleted);
        match (there.next(), there.next(), self.0.as_slice()) {
            (Some(only), None, _) | (None, _, [only]) => Some(only),
            (Some(_), Some(_), _) | (None, _, _) => None,
        }
    }
}

/// A signed-in user, as a verified token tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserIdentity {
    /// The user.
    pub sub: Sub,
    /// The organisation that the token names.
    pub org: Option<OrgId>,
    /// What owns the user's tenant: the organisation, or the user alone where the organisation is the issuer's
    /// default one or none.
    pub owner: OrgId,
    /// The verified address, where the token has one.
    pub email: Option<String>,
    /// The name, where the token has one.
    pub name: Option<String>,
    /// The roles that count: platform roles only where the platform's own organisation granted them.
    pub roles: BTreeSet<String>,
    /// When the token was issued.
    pub issued_at: Timestamp,
    /// When the user signed in: the token's `auth_time`, else when it was issued.
    pub signed_in_at: Timestamp,
    /// Who acts as the user: the `act` claim of RFC 8693.
    pub impersonator: Option<Sub>,
}

impl UserIdentity {
    /// The plan that the subscriber roles stand for.
    pub fn plan_of_roles(&self) -> Plan {
        self.roles.iter().filter_map(|role| Plan::of_role(role)).max().unwrap_or_default()
    }
}

/// An instance of a module of the mesh, as a verified service token tells.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ServiceIdentity {
    /// The module, for example "cloud".
    pub module: String,
    /// Its instance, for example "local".
    pub instance: String,
}

impl fmt::Display for ServiceIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "service:{}/{}", self.module, self.instance)
    }
}

impl FromStr for ServiceIdentity {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let (module, instance) = text
            .strip_prefix("service:")
            .and_then(|rest| rest.split_once('/'))
            .filter(|(module, instance)| !module.is_empty() && !instance.is_empty())
            .ok_or_else(|| Error::invalid("sub", "must be service:<module>/<instance>"))?;
        Ok(Self { module: module.to_owned(), instance: instance.to_owned() })
    }
}

/// Who calls: nobody known, a user, a module of the mesh, or a module that acts for a user.
#[derive(Clone, Debug, Default)]
pub struct Caller {
    user: Option<UserIdentity>,
    service: Option<ServiceIdentity>,
    plan: Plan,
    memberships: Memberships,
}

impl Caller {
    /// A caller. Only the identity layer and tests make one.
    pub fn new(
        user: Option<UserIdentity>,
        service: Option<ServiceIdentity>,
        plan: Plan,
        memberships: Memberships,
    ) -> Self {
        Self { user, service, plan, memberships }
    }

    /// The user who calls, or for whom a module calls.
    pub fn user(&self) -> Option<&UserIdentity> {
        self.user.as_ref()
    }

    /// The module that calls.
    pub fn service(&self) -> Option<&ServiceIdentity> {
        self.service.as_ref()
    }

    /// The plan that decides for the caller.
    pub fn plan(&self) -> Plan {
        self.plan
    }

    /// Where the caller is a member.
    pub fn memberships(&self) -> &Memberships {
        &self.memberships
    }

    /// Whether somebody stands behind the call.
    pub fn is_known(&self) -> bool {
        self.user.is_some() || self.service.is_some()
    }

    /// The caller's right to `tenant` (an id or a slug), if the caller is a member with at least `needed`.
    ///
    /// # Errors
    /// - [`Error::NotFound`] for a stranger: that the tenant exists is a secret too.
    /// - [`Error::TenantSuspended`] for every member, while it is suspended.
    /// - [`Error::Unavailable`] while its data cannot be read.
    /// - [`Error::AuthInsufficient`] for a member of a lesser role.
    pub fn enter(&self, tenant: &str, needed: TenantRole) -> Result<TenantScope> {
        let Some(membership) = self.memberships.find(tenant) else {
            return Err(Error::not_found("tenant", tenant));
        };
        match membership.standing {
            TenantStanding::Deleted => Err(Error::not_found("tenant", tenant)),
            TenantStanding::Suspended => Err(Error::TenantSuspended),
            TenantStanding::Unreadable => Err(unreadable()),
            TenantStanding::Open if membership.role < needed => {
                Err(Error::AuthInsufficient(format!("the role {needed} is needed in this tenant")))
            }
            TenantStanding::Open => Ok(TenantScope(membership.tenant)),
        }
    }

    /// The caller's right to restore `tenant`, if the caller is an admin of it and it is deleted or open.
    ///
    /// # Errors
    /// - [`Error::NotFound`] for everybody who is not its admin.
    /// - [`Error::TenantSuspended`] while it is suspended.
    pub fn restore(&self, tenant: &str) -> Result<TenantScope> {
        match self.memberships.find(tenant) {
            Some(membership) if membership.role == TenantRole::Admin => match membership.standing {
                TenantStanding::Suspended => Err(Error::TenantSuspended),
                TenantStanding::Unreadable => Err(unreadable()),
                TenantStanding::Open | TenantStanding::Deleted => Ok(TenantScope(membership.tenant)),
            },
            Some(_) | None => Err(Error::not_found("tenant", tenant)),
        }
    }
}

fn unreadable() -> Error {
    Error::unavailable("the tenant's data cannot be read", Duration::from_secs(5))
}

/// The right to touch the rows of one tenant. Only the access layer gives one out, for the role that the contract
/// asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TenantScope(TenantId);

impl TenantScope {
    /// The tenant.
    pub fn tenant(self) -> TenantId {
        self.0
    }

    /// The right of the platform itself, for workers and for tests of the stores; `reason` is there to be read and
    /// searched for.
    pub fn system(tenant: TenantId, reason: &'static str) -> Self {
        debug_assert!(!reason.is_empty(), "a system scope says why");
        Self(tenant)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[expect(clippy::disallowed_methods, reason = "a test of callers makes one")]
    fn member(role: TenantRole) -> (Caller, TenantId) {
        let tenant = "tenant_01890a5d-ac96-774b-bcce-b302099a8057".parse().unwrap();
        let membership = Membership { tenant, slug: "home".into(), role, standing: TenantStanding::Open };
        (Caller::new(None, None, Plan::Free, Memberships::new(vec![membership])), tenant)
    }

    #[test]
    fn a_member_enters_by_id_and_by_slug_and_a_stranger_finds_nothing() {
        let (caller, tenant) = member(TenantRole::Member);
        assert_eq!(caller.enter("home", TenantRole::Viewer).unwrap().tenant(), tenant);
        assert_eq!(caller.enter(&tenant.to_string(), TenantRole::Member).unwrap().tenant(), tenant);
        assert_eq!(caller.enter("home", TenantRole::Admin).unwrap_err().code().as_str(), "AUTH_INSUFFICIENT");
        assert_eq!(caller.enter("other", TenantRole::Viewer).unwrap_err().code().as_str(), "NOT_FOUND");
    }

    #[test]
    fn a_suspended_tenant_refuses_its_members_and_a_deleted_one_is_not_there() {
        let tenant = "tenant_01890a5d-ac96-774b-bcce-b302099a8057".parse().unwrap();
        let caller = |role, standing| {
            let membership = Membership { tenant, slug: "home".into(), role, standing };
            #[expect(clippy::disallowed_methods, reason = "a test of callers makes one")]
            Caller::new(None, None, Plan::Free, Memberships::new(vec![membership]))
        };
        let code = |result: Result<TenantScope>| result.map_or_else(|fault| fault.code().as_str(), |_| "");
        let suspended = caller(TenantRole::Admin, TenantStanding::Suspended);
        assert_eq!(code(suspended.enter("home", TenantRole::Viewer)), "TENANT_SUSPENDED");
        assert_eq!(code(suspended.restore("home")), "TENANT_SUSPENDED");
        let deleted = caller(TenantRole::Admin, TenantStanding::Deleted);
        assert_eq!(code(deleted.enter("home", TenantRole::Viewer)), "NOT_FOUND");
        assert_eq!(code(deleted.restore("home")), "");
        assert!(deleted.memberships().only().is_some(), "so that it is told to be not there");
        let member = caller(TenantRole::Member, TenantStanding::Deleted);
        assert_eq!(code(member.restore("home")), "NOT_FOUND");
    }

    #[test]
    fn a_service_is_read_as_it_is_written() {
        let service: ServiceIdentity = "service:cloud/local".parse().unwrap();
        assert_eq!(service.to_string(), "service:cloud/local");
        for wrong in ["cloud/local", "service:cloud", "service:/x", "service:x/"] {
            assert!(wrong.parse::<ServiceIdentity>().is_err(), "{wrong}");
        }
    }
}
