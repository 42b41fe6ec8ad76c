//! Tenants and their places.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::sync::LazyLock;

use async_trait::async_trait;
use jiff::Timestamp;
use regex::Regex;

use crate::{
    Change, Error, Etag, InstanceId, Listed, Memberships, OrgId, Page, PlanGrant, Result, Sub, TenantId,
    TenantRole, TenantScope, TenantStanding,
};

/// The name of a tenant in URLs: unique for ever.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Slug(String);

impl Slug {
    /// The slug as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Slug {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Slug {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        #[expect(clippy::unwrap_used, reason = "a constant pattern, compiled by a test")]
        static SLUG: LazyLock<Regex> =
            LazyLock::new(|| Regex::new("^[a-z][a-z0-9-]{1,38}[a-z0-9]$").unwrap());
        // A slug never looks like an id, so that either can stand in a path.
        if SLUG.is_match(text) && text.parse::<TenantId>().is_err() {
            Ok(Self(text.to_owned()))
        } else {
            Err(Error::invalid("slug", "must be 3 to 40 of [a-z0-9-], a letter first, no hyphen last"))
        }
    }
}

/// The name of a region: 1 to 32 of `[a-z0-9-]`, a letter first.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Region(String);

impl Region {
    /// The region as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Region {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Region {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let well_formed = (1..=32).contains(&text.len())
            && text.starts_with(|first: char| first.is_ascii_lowercase())
            && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
        if well_formed {
            Ok(Self(text.to_owned()))
        } else {
            Err(Error::invalid("region", "must be 1 to 32 of [a-z0-9-], a letter first"))
        }
    }
}

/// Where a tenant is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TenantStatus {
    /// It has a place, which its instance has not acknowledged yet.
    Creating,
    /// Its members work in it.
    Active,
    /// The platform suspended it.
    Suspended,
    /// It is deleted; until its time of grace is over it can be undeleted.
    Deleted,
}

impl TenantStatus {
    /// Every status, in the order of a life.
    pub const ALL: [Self; 4] = [Self::Creating, Self::Active, Self::Suspended, Self::Deleted];

    /// The status as it stands in answers.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Creating => "creating",
            Self::Active => "active",
            Self::Suspended => "suspended",
            Self::Deleted => "deleted",
        }
    }

    /// What the status means to members.
    pub const fn standing(self) -> TenantStanding {
        match self {
            Self::Creating | Self::Active => TenantStanding::Open,
            Self::Suspended => TenantStanding::Suspended,
            Self::Deleted => TenantStanding::Deleted,
        }
    }
}

impl FromStr for TenantStatus {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        Self::ALL
            .into_iter()
            .find(|status| status.as_str() == text)
            .ok_or_else(|| Error::invalid("status", "must be creating, active, suspended or deleted"))
    }
}

/// How long a deleted tenant can be undeleted, in hours: 30 days. Source: the contracts, "Tenancy".
pub const GRACE_HOURS: i64 = 30 * 24;

/// What becomes of a tenant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TenantMove {
    /// Its members are refused.
    Suspend,
    /// They are let in again.
    Resume,
    /// It goes, after its time of grace.
    Delete,
    /// It stays.
    Undelete,
}

/// What a tenant uses, as its instance last reported it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Stacks.
    pub stacks: u32,
    /// Storage, in gigabytes (10^9 bytes), rounded up.
    pub storage_gb: u32,
}

/// What an instance has of a tenant of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TenantReport {
    /// The tenant.
    pub tenant: TenantId,
    /// The generation of the place that reports.
    pub generation: u32,
    /// Counts the changes of the tenant at its instance.
    pub version: u32,
    /// Every member and the role.
    pub members: BTreeMap<Sub, TenantRole>,
    /// What is used.
    pub usage: Usage,
}

/// One customer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tenant {
    /// Its id.
    pub id: TenantId,
    /// Its name in URLs.
    pub slug: Slug,
    /// What people read.
    pub name: String,
    /// What owns it.
    pub owner: OrgId,
    /// The grant of the owner.
    pub grant: Option<PlanGrant>,
    /// Where it has its place.
    pub instance: InstanceId,
    /// Where it is in its life.
    pub status: TenantStatus,
    /// When a deleted tenant is erased.
    pub erase_time: Option<Timestamp>,
    /// How many members it has.
    pub members: u32,
    /// What it uses beside.
    pub usage: Usage,
    /// When it was created.
    pub create_time: Timestamp,
    /// The version of the row.
    pub etag: Etag,
}

/// A tenant that is to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewTenant {
    /// Its id.
    pub id: TenantId,
    /// Its name in URLs.
    pub slug: Slug,
    /// What people read.
    pub name: String,
    /// What owns it.
    pub owner: OrgId,
    /// Its first member, an admin.
    pub creator: Sub,
    /// Where its place is to be.
    pub region: Region,
}

/// Which tenants a list of the platform holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TenantFilter {
    /// Only those whose slug or name contains this, ignoring case; empty: all.
    pub search: String,
    /// Only those with a place on this instance.
    pub instance: Option<InstanceId>,
}

/// Where tenants are kept. Each method happens wholly or not at all.
#[async_trait]
pub trait TenantStore: Send + Sync + 'static {
    /// Adds the tenant, to be created on the emptiest instance of the region that is active, shared and healthy at the
    /// change's time, with the creator as its admin; its instance is told. A change that was made before (same
    /// idempotency key) answers with the tenant of that time, as it is now.
    ///
    /// # Errors
    /// - [`Error::Conflict`] if the owner has a tenant, if the slug was ever given, or if the idempotency key was used
    ///   with another request.
    /// - [`Error::Unavailable`] if no healthy instance of the region has a place.
    async fn create(&self, change: &Change, tenant: &NewTenant) -> Result<Tenant>;

    /// The tenant that the scope is for.
    async fn find(&self, scope: TenantScope) -> Result<Option<Tenant>>;

    /// A part of the tenants that the user is a member of, newest first.
    async fn list_of(&self, member: &Sub, page: &Page) -> Result<Listed<Tenant>>;

    /// A part of all tenants, newest first.
    async fn list(&self, filter: &TenantFilter, page: &Page) -> Result<Listed<Tenant>>;

    /// Where the user is a member, ordered by tenant.
    async fn memberships(&self, member: &Sub) -> Result<Memberships>;

    /// Moves the tenant on in its life, and tells its instance. `reason` goes to the audit.
    ///
    /// # Errors
    /// - [`Error::NotFound`] if there is none of that id, or it is being erased.
    /// - [`Error::PreconditionFailed`] if `etag` is not the present one, or if its status does not allow the move.
    async fn change_status(
        &self,
        change: &Change,
        tenant: TenantId,
        etag: Option<Etag>,
        to: TenantMove,
        reason: &str,
    ) -> Result<Tenant>;

    /// Begins to erase the deleted tenants whose time of grace was over at the change's time: their instances are told.
    /// Answers with how many they are, 100 at most.
    async fn erase_expired(&self, change: &Change) -> Result<u32>;

    /// Mirrors what `instance` has of its tenants. Answers with those that another instance or generation has, or that
    /// are not there: of these nothing was taken. What is older than what is mirrored changes nothing.
    async fn mirror(
        &self,
        instance: InstanceId,
        reports: &[TenantReport],
        now: Timestamp,
    ) -> Result<Vec<TenantId>>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slug_is_three_to_forty_of_its_alphabet() {
        for right in ["abc", "a-1", &format!("a{}", "b".repeat(39))] {
            assert!(right.parse::<Slug>().is_ok(), "{right}");
        }
        for wrong in ["", "ab", "1ab", "ab-", "Abc", "a_c", &"a".repeat(41)] {
            assert!(wrong.parse::<Slug>().is_err(), "{wrong}");
        }
    }
}
