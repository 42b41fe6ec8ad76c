//! Feature flags and entitlements, as Admin keeps them. Source: contract C5.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use async_trait::async_trait;
use jiff::Timestamp;

use crate::{Change, Error, Etag, Listed, OrgId, Page, Plan, Result, Sub};

/// The key of a flag: 1 to 128 of `[A-Za-z0-9._-]`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FlagKey(String);

impl FlagKey {
    /// The key as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for FlagKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for FlagKey {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        // What is dots alone, clients take out of a path.
        let well_formed = (1..=128).contains(&text.len())
            && text.bytes().any(|byte| byte != b'.')
            && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte));
        if well_formed {
            Ok(Self(text.to_owned()))
        } else {
            Err(Error::invalid("key", "must be 1 to 128 of [A-Za-z0-9._-], not dots alone"))
        }
    }
}

/// One flag.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flag {
    /// Its key.
    pub key: FlagKey,
    /// Its definition in flagd's format, JSON.
    pub definition: String,
    /// The version of the set in which it got this definition.
    pub version: u32,
    /// When it was created.
    pub create_time: Timestamp,
    /// When it was changed last.
    pub update_time: Timestamp,
    /// The version of the row.
    pub etag: Etag,
}

/// One change of the set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FlagChange {
    /// The version of the set that it made.
    pub version: u32,
    /// What changed.
    pub subject: String,
    /// What it was before, JSON; empty: it was not there.
    pub before: String,
    /// What it is since, JSON; empty: it is gone.
    pub after: String,
    /// Who changed it.
    pub sub: Option<Sub>,
    /// Why.
    pub reason: String,
    /// When.
    pub create_time: Timestamp,
}

/// Who is entitled.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Entitled {
    /// Every organisation on a plan.
    Plan(Plan),
    /// One organisation.
    Organisation(OrgId),
}

impl Entitled {
    /// Reads the name of a plan, or else the id of an organisation.
    ///
    /// # Errors
    /// - [`Error::Invalid`] if it is neither.
    pub fn parse(text: &str) -> Result<Self> {
        match text.parse() {
            Ok(plan) => Ok(Self::Plan(plan)),
            Err(_) => Ok(Self::Organisation(text.parse()?)),
        }
    }

    /// The plan's name or the organisation's id.
    pub fn owner(&self) -> &str {
        match self {
            Self::Plan(plan) => plan.as_str(),
            Self::Organisation(id) => id.as_str(),
        }
    }

    /// What it is, as it stands in answers and columns.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Plan(_) => "plan",
            Self::Organisation(_) => "organisation",
        }
    }
}

/// What one plan or one organisation is entitled to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entitlements {
    /// Who.
    pub owner: Entitled,
    /// To what.
    pub entitlements: BTreeSet<String>,
}

/// How large a set may be, so that it is pushed in one message.
pub mod bounds {
    /// Flags.
    pub const FLAGS: usize = 1000;
    /// The definitions of all flags together, in bytes.
    pub const DEFINITIONS_BYTES: usize = 400_000;
    /// Organisations with entitlements of their own.
    pub const ORGANISATIONS: usize = 2000;
    /// The entitlements of all organisations together, in bytes.
    pub const ENTITLEMENTS_BYTES: usize = 250_000;
    /// Users with overrides.
    pub const OVERRIDES: usize = 2000;
    /// The overrides of all users together, in bytes.
    pub const OVERRIDES_BYTES: usize = 250_000;
}

/// Where flags are kept. Each method happens wholly or not at all; every change makes a new version of the whole set,
/// leaves a [`FlagChange`], and tells every instance. What is so already makes no new version.
#[async_trait]
pub trait FlagStore: Send + Sync + 'static {
    /// The flag of that key.
    async fn find(&self, key: &FlagKey) -> Result<Option<Flag>>;

    /// A part of the flags, newest first.
    async fn list(&self, page: &Page) -> Result<Listed<Flag>>;

    /// Creates the flag or replaces its definition, which the caller has checked.
    ///
    /// # Errors
    /// - [`Error::PreconditionFailed`] if `etag` is not the present one.
    /// - [`Error::Conflict`] if the set would be over its [`bounds`].
    async fn set(
        &self,
        change: &Change,
        key: &FlagKey,
        etag: Option<Etag>,
        definition: &str,
        reason: &str,
    ) -> Result<Flag>;

    /// Deletes the flag.
    ///
    /// # Errors
    /// - [`Error::NotFound`] if there is none of that key.
    /// - [`Error::PreconditionFailed`] if `etag` is not the present one.
    async fn delete(&self, change: &Change, key: &FlagKey, etag: Option<Etag>, reason: &str) -> Result<()>;

    /// A part of the changes, newest first; only those of one flag, where one is given.
    async fn changes(&self, key: Option<&FlagKey>, page: &Page) -> Result<Listed<FlagChange>>;

    /// The overrides of the user, a JSON object.
    async fn overrides(&self, sub: &Sub) -> Result<String>;

    /// Sets the overrides of the user, a JSON object of which the caller has checked the values; `{}` takes them away.
    ///
    /// # Errors
    /// - [`Error::Conflict`] if the set would be over its [`bounds`].
    async fn set_overrides(&self, change: &Change, sub: &Sub, flags: &str, reason: &str) -> Result<String>;

    /// A part of the entitlements that were ever set, newest first.
    async fn entitlements(&self, page: &Page) -> Result<Listed<Entitlements>>;

    /// Sets the entitlements of a plan or an organisation.
    ///
    /// # Errors
    /// - [`Error::NotFound`] if the organisation was never seen.
    /// - [`Error::Conflict`] if the set would be over its [`bounds`].
    async fn set_entitlements(
        &self,
        change: &Change,
        set: &Entitlements,
        reason: &str,
    ) -> Result<Entitlements>;
}
