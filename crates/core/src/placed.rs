//! What Admin decides, as it is pushed to the modules: tenants with their places, organisations, revocations, flags.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

use crate::revocation::UserRevocation;
use crate::tenant::Slug;
use crate::{InstanceId, OrgId, Plan, PlanGrant, Sub, TenantId};

/// What an instance is told that a tenant is to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PlacedStatus {
    /// Its members work in it.
    Active,
    /// Its members are refused.
    Suspended,
    /// It is not there for its members; its data stays.
    Deleted,
    /// Nothing of it may be left.
    Erased,
}

impl PlacedStatus {
    /// Every status.
    pub const ALL: [Self; 4] = [Self::Active, Self::Suspended, Self::Deleted, Self::Erased];

    /// The status as it is pushed and kept.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Suspended => "suspended",
            Self::Deleted => "deleted",
            Self::Erased => "erased",
        }
    }
}

impl std::str::FromStr for PlacedStatus {
    type Err = crate::Error;

    fn from_str(text: &str) -> crate::Result<Self> {
        Self::ALL
            .into_iter()
            .find(|status| status.as_str() == text)
            .ok_or_else(|| crate::Error::invalid("status", "must be active, suspended, deleted or erased"))
    }
}

/// Who created a tenant: its first admin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Founder {
    /// The user.
    pub sub: Sub,
    /// The verified address; may be empty.
    pub email: String,
    /// The name; may be empty.
    pub name: String,
}

/// A tenant, as its instance has to know it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlacedTenant {
    /// The tenant.
    pub id: TenantId,
    /// Its slug.
    pub slug: Slug,
    /// What people read.
    pub name: String,
    /// What owns it.
    pub owner: OrgId,
    /// The grant of the owner.
    pub grant: Option<PlanGrant>,
    /// What it is to be.
    pub status: PlacedStatus,
    /// How often it has moved; 1 and up.
    pub generation: u32,
    /// Its first admin; counts only where the tenant is new at the instance.
    pub founder: Founder,
    /// When it was created.
    pub create_time: Timestamp,
}

/// Where a tenant of an organisation has its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlacedHome {
    /// The tenant.
    pub tenant: TenantId,
    /// The instance that has it.
    pub instance: InstanceId,
    /// What it is to be; never erased: what is being erased is no home any more.
    pub status: PlacedStatus,
}

/// What owns tenants, as a module has to know it that decides by plan and has no store of tenants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlacedOrganisation {
    /// The organisation.
    pub owner: OrgId,
    /// The grant that it has, ended or not.
    pub grant: Option<PlanGrant>,
    /// Where its tenants are, ordered by tenant; usually one.
    pub tenants: Vec<PlacedHome>,
}

impl PlacedOrganisation {
    /// Whether it has neither a grant nor a tenant: then there is nothing to know of it.
    pub fn is_empty(&self) -> bool {
        self.grant.is_none() && self.tenants.is_empty()
    }
}

/// How a push builds on what its receiver has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Basis {
    /// It changes the version that the receiver has.
    Change {
        /// That version.
        base_version: u32,
    },
    /// It is a page of everything there is; pages come in order.
    Snapshot {
        /// The page, 1 and up.
        page: u32,
        /// Whether it is the last one: what was in none is gone.
        last: bool,
    },
}

/// One push of one kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Push<T> {
    /// The version that the receiver has when it has applied it.
    pub version: u32,
    /// How it builds on what the receiver has.
    pub basis: Basis,
    /// What it brings.
    pub items: Vec<T>,
}

/// What the receiver of a push has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Held {
    /// The version.
    pub version: u32,
    /// Whether it could not build on what it has: it needs a snapshot.
    pub snapshot_needed: bool,
    /// The tenants that it could not take, and why.
    pub refused: Vec<(TenantId, String)>,
}

/// A push of tenants.
pub type TenantPush = Push<PlacedTenant>;

/// A push of organisations.
pub type OrganisationPush = Push<PlacedOrganisation>;

/// A push of revocations.
pub type RevocationPush = Push<UserRevocation>;

/// The whole set of flags, as it is pushed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PlacedFlags {
    /// The version of the set.
    pub version: u32,
    /// The definitions in flagd's format, JSON.
    pub definitions: String,
    /// The entitlements of plans.
    pub plans: BTreeMap<Plan, BTreeSet<String>>,
    /// The entitlements of organisations.
    pub organisations: BTreeMap<OrgId, BTreeSet<String>>,
    /// The overrides of users: JSON objects.
    pub overrides: BTreeMap<Sub, String>,
}
