//! Stacks: what a tenant deploys.

use std::fmt;
use std::str::FromStr;

use async_trait::async_trait;
use jiff::Timestamp;

use crate::{Change, Error, Etag, Limits, Listed, Page, Result, StackId, TenantId, TenantScope};

/// How long a spec may be, in bytes. Source: the contracts, "C7 kits".
pub const SPEC_MAX_BYTES: usize = 64 * 1024;

/// The name of a stack: 1 to 63 of `[a-z0-9-]`, a letter first, no hyphen last.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StackName(String);

impl StackName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for StackName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for StackName {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let well_formed = (1..=63).contains(&text.len())
            && text.starts_with(|first: char| first.is_ascii_lowercase())
            && !text.ends_with('-')
            && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
        if well_formed {
            Ok(Self(text.to_owned()))
        } else {
            Err(Error::invalid("name", "must be 1 to 63 of [a-z0-9-], a letter first, no hyphen last"))
        }
    }
}

/// A version of a kit that a stack is pinned to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PinnedKit {
    /// The kit.
    pub id: String,
    /// Its version.
    pub version: String,
    /// The digest of that version.
    pub digest: String,
}

/// One stack.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stack {
    /// Its id.
    pub id: StackId,
    /// The tenant that it belongs to.
    pub tenant: TenantId,
    /// Its name.
    pub name: StackName,
    /// What it is pinned to; `None`: it is a draft.
    pub kit: Option<PinnedKit>,
    /// The spec as it came.
    pub spec_yaml: String,
    /// When it was created.
    pub create_time: Timestamp,
    /// When it was changed last.
    pub update_time: Timestamp,
    /// The version of the row.
    pub etag: Etag,
}

/// A stack that is to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewStack {
    /// Its id.
    pub id: StackId,
    /// Its name.
    pub name: StackName,
    /// What it is pinned to.
    pub kit: Option<PinnedKit>,
    /// The spec, at most [`SPEC_MAX_BYTES`].
    pub spec_yaml: String,
}

/// What changes of a stack; `None` stays.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StackPatch {
    /// The new name.
    pub name: Option<StackName>,
    /// The new spec.
    pub spec_yaml: Option<String>,
    /// What it is pinned to from now on; `Some(None)`: a draft.
    pub kit: Option<Option<PinnedKit>>,
}

/// What the plan allows a tenant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StackLimits {
    /// How many stacks.
    pub stacks: u32,
    /// How much its data may take, in gigabytes (10^9 bytes): what it is beyond, nothing may grow.
    pub storage_gb: u32,
}

impl From<Limits> for StackLimits {
    fn from(limits: Limits) -> Self {
        let Limits { members: _, nodes: _, stacks, running_simulations: _, storage_gb } = limits;
        Self { stacks, storage_gb }
    }
}

/// Where the stacks of tenants are kept. Each method happens wholly or not at all.
#[async_trait]
pub trait StackStore: Send + Sync + 'static {
    /// Adds the stack, within `limits`. A change that was made before (same idempotency key) answers
    /// with the stack of that time, as it is now.
    ///
    /// # Errors
    /// - [`Error::Conflict`] if the tenant has a stack of that name, or if the idempotency key was used with another
    ///   request.
    /// - [`Error::QuotaExceeded`] if the tenant has as many stacks as its limit, or its storage is used up.
    /// - [`Error::NotFound`] on a repeat, if the stack was deleted since.
    async fn create(
        &self,
        scope: TenantScope,
        change: &Change,
        stack: &NewStack,
        limits: StackLimits,
    ) -> Result<Stack>;

    /// The stack that the same change made before (same idempotency key), as it is now; `None`: this is the first time, or the
    /// caller promised no repeat.
    ///
    /// # Errors
    /// - [`Error::Conflict`] if the idempotency key was used with another request.
    /// - [`Error::NotFound`] if the stack was deleted since.
    async fn repeated(&self, scope: TenantScope, change: &Change) -> Result<Option<Stack>>;

    /// The stack of that id.
    async fn find(&self, scope: TenantScope, id: StackId) -> Result<Option<Stack>>;

    /// A part of the stacks, newest first.
    async fn list(&self, scope: TenantScope, page: &Page) -> Result<Listed<Stack>>;

    /// Changes the stack. What is so already stays as it is, etag too; the audit has a row all the same.
    ///
    /// # Errors
    /// - [`Error::NotFound`] if there is none of that id.
    /// - [`Error::Conflict`] if another stack has the name.
    /// - [`Error::PreconditionFailed`] if `etag` is not the present one.
    /// - [`Error::QuotaExceeded`] if as many stacks as the limit are older than it: it can only be read and deleted; or if
    ///   its spec would grow where the storage is used up.
    async fn update(
        &self,
        scope: TenantScope,
        change: &Change,
        id: StackId,
        etag: Option<Etag>,
        patch: StackPatch,
        limits: StackLimits,
    ) -> Result<Stack>;

    /// Deletes the stack.
    ///
    /// # Errors
    /// - [`Error::NotFound`] if there is none of that id.
    /// - [`Error::PreconditionFailed`] if `etag` is not the present one.
    async fn delete(
        &self,
        scope: TenantScope,
        change: &Change,
        id: StackId,
        etag: Option<Etag>,
    ) -> Result<()>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_a_label() {
        for right in ["a", "home", "a-1", &format!("a{}", "b".repeat(62))] {
            assert!(right.parse::<StackName>().is_ok(), "{right}");
        }
        for wrong in ["", "1a", "a-", "-a", "A", "a_b", &"a".repeat(64)] {
            assert!(wrong.parse::<StackName>().is_err(), "{wrong}");
        }
    }
}
