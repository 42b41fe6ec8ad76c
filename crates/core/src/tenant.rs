//! Tenants and their places.

use std::fmt;
use std::str::FromStr;
use std::sync::LazyLock;

use async_trait::async_trait;
use jiff::Timestamp;
use regex::Regex;

use crate::{
    Change, Error, Etag, InstanceId, Listed, Memberships, OrgId, Page, PlanGrant, Result, Sub, TenantId,
    TenantScope,
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
    /// How many members it has.
    pub members: u32,
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
    /// Adds the tenant on the emptiest active shared instance of the region, with the creator as its admin. A change
    /// that was made before (same idempotency key) answers with the tenant of that time, as it is now.
    ///
    /// # Errors
    /// - [`Error::Conflict`] if the owner has a tenant, if the slug was ever given, or if the idempotency key was used
    ///   with another request.
    /// - [`Error::Unavailable`] if no instance of the region has a place.
    async fn create(&self, change: &Change, tenant: &NewTenant) -> Result<Tenant>;

    /// The tenant that the scope is for.
    async fn find(&self, scope: TenantScope) -> Result<Option<Tenant>>;

    /// A part of the tenants that the user is a member of, newest first.
    async fn list_of(&self, member: &Sub, page: &Page) -> Result<Listed<Tenant>>;

    /// A part of all tenants, newest first.
    async fn list(&self, filter: &TenantFilter, page: &Page) -> Result<Listed<Tenant>>;

    /// Where the user is a member, ordered by tenant.
    async fn memberships(&self, member: &Sub) -> Result<Memberships>;
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
