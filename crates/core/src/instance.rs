//! Instances: the Stacks on which tenants have their places.

use std::fmt;
use std::str::FromStr;

use async_trait::async_trait;
use jiff::Timestamp;

use crate::health::Tracked;
use crate::tenant::Region;
use crate::{Change, Error, Etag, InstanceId, Listed, Page, Result};

/// Whom an instance is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InstanceMode {
    /// For many tenants.
    Shared,
    /// For one.
    Dedicated,
}

impl InstanceMode {
    /// The mode as it stands in answers.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Shared => "shared",
            Self::Dedicated => "dedicated",
        }
    }

    /// How many tenants an instance takes where nobody says it. Source: the contracts, "Tenancy".
    pub const fn default_max_tenants(self) -> u32 {
        match self {
            Self::Shared => 50,
            Self::Dedicated => 1,
        }
    }
}

impl FromStr for InstanceMode {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "shared" => Ok(Self::Shared),
            "dedicated" => Ok(Self::Dedicated),
            _ => Err(Error::invalid("mode", "must be shared or dedicated")),
        }
    }
}

/// Whether an instance takes tenants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InstanceStatus {
    /// It does.
    Active,
    /// It keeps those it has, and takes no more.
    Draining,
}

impl InstanceStatus {
    /// The status as it stands in answers.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Draining => "draining",
        }
    }
}

impl fmt::Display for InstanceStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for InstanceStatus {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "active" => Ok(Self::Active),
            "draining" => Ok(Self::Draining),
            _ => Err(Error::invalid("status", "must be active or draining")),
        }
    }
}

/// One running Stack.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Instance {
    /// Its id.
    pub id: InstanceId,
    /// Its name, unique among those that are not removed.
    pub name: String,
    /// Where it runs.
    pub region: Region,
    /// Whom it is for.
    pub mode: InstanceMode,
    /// Whether it takes tenants.
    pub status: InstanceStatus,
    /// How many tenants may have a place here.
    pub max_tenants: u32,
    /// How many have one.
    pub tenant_count: u32,
    /// Where the modules of the mesh reach it.
    pub internal_endpoint: String,
    /// Where browsers reach it.
    pub public_endpoint: String,
    /// Whether somebody works on it.
    pub maintenance: bool,
    /// How it was, when its last report came; `None`: it never reported.
    pub health: Option<Tracked>,
    /// When it was registered.
    pub create_time: Timestamp,
    /// The version of the row; its tenants and its health do not count.
    pub etag: Etag,
}

/// An instance that is to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewInstance {
    /// Its id.
    pub id: InstanceId,
    /// Its name.
    pub name: String,
    /// Where it runs.
    pub region: Region,
    /// Whom it is for.
    pub mode: InstanceMode,
    /// How many tenants may have a place there, at least 1; exactly 1 on a dedicated one.
    pub max_tenants: u32,
    /// Where the modules of the mesh reach it.
    pub internal_endpoint: String,
    /// Where browsers reach it.
    pub public_endpoint: String,
    /// The SHA-256 of the secret with which its Stack claims it.
    pub join_secret_hash: [u8; 32],
}

/// An instance that a Stack claims: the secret and the key are its proof.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// The SHA-256 of the join secret.
    pub join_secret_hash: [u8; 32],
    /// The key that is registered as `service:stack/<instance id>`.
    pub kid: String,
    /// The Ed25519 public key: 32 bytes as base64url without padding.
    pub public_key: String,
    /// The id of the present key that signed the replacement; `None`: none did.
    pub replaces: Option<String>,
}

/// Where an instance is; `None` stays as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Endpoints {
    /// Where modules reach it.
    pub internal: Option<String>,
    /// Where browsers reach it.
    pub public: Option<String>,
}

/// Where instances are kept. Each method happens wholly or not at all.
#[async_trait]
pub trait InstanceStore: Send + Sync + 'static {
    /// Adds an active instance. A change that was made before (same idempotency key) answers with the instance of that
    /// time, as it is now.
    ///
    /// # Errors
    /// - [`Error::Conflict`] if an instance has the name, or if the idempotency key was used with another request.
    /// - [`Error::NotFound`] on a repeat, if the instance was removed since.
    async fn register(&self, change: &Change, instance: &NewInstance) -> Result<Instance>;

    /// The instance of that id, unless it was removed.
    async fn find(&self, id: InstanceId) -> Result<Option<Instance>>;

    /// A part of the instances, newest first; only those of `status`, where one is given.
    async fn list(&self, status: Option<InstanceStatus>, page: &Page) -> Result<Listed<Instance>>;

    /// Sets the status. What has it already stays as it is, etag too; the audit has a row all the same.
    ///
    /// # Errors
    /// - [`Error::NotFound`] if there is none of that id.
    /// - [`Error::PreconditionFailed`] if `etag` is not the present one.
    async fn set_status(
        &self,
        change: &Change,
        id: InstanceId,
        etag: Option<Etag>,
        status: InstanceStatus,
    ) -> Result<Instance>;

    /// Says where it is from now on; `None` stays. What is so already stays as it is, etag too; the audit has a row all the
    /// same.
    ///
    /// # Errors
    /// - [`Error::NotFound`] if there is none of that id.
    /// - [`Error::PreconditionFailed`] if `etag` is not the present one.
    async fn set_endpoints(
        &self,
        change: &Change,
        id: InstanceId,
        etag: Option<Etag>,
        endpoints: Endpoints,
    ) -> Result<Instance>;

    /// Says whether somebody works on it. What is so already stays as it is; the audit has a row all the same.
    ///
    /// # Errors
    /// - [`Error::NotFound`] if there is none of that id.
    /// - [`Error::PreconditionFailed`] if `etag` is not the present one.
    async fn set_maintenance(
        &self,
        change: &Change,
        id: InstanceId,
        etag: Option<Etag>,
        maintenance: bool,
    ) -> Result<Instance>;

    /// The instance of that name, unless it was removed.
    async fn find_by_name(&self, name: &str) -> Result<Option<Instance>>;

    /// Gives the instance its Stack: registers the key, and everything is pushed anew. The same key again only does the
    /// latter, and is not audited again.
    ///
    /// # Errors
    /// - [`Error::AuthInvalid`] if there is none of that id, the join secret is another, or another key is registered and
    ///   did not sign the replacement.
    async fn claim(&self, change: &Change, id: InstanceId, claim: &Claim) -> Result<Instance>;

    /// Removes an instance that is draining and has no tenants.
    ///
    /// # Errors
    /// - [`Error::NotFound`] if there is none of that id.
    /// - [`Error::PreconditionFailed`] if `etag` is not the present one, or if it is active or has tenants.
    async fn remove(&self, change: &Change, id: InstanceId, etag: Option<Etag>) -> Result<()>;
}
