//! Floor 0: the words of kombify, its rules, and the traits of its stores.
//!
//! Refuses to know: sockets, files, databases, tokens, clocks of its own. Time, randomness and ids come in as
//! arguments ([`Clock`], [`Ids`]); rows go in and out through the store traits, one file per noun.

pub mod audit;
pub mod caller;
pub mod change;
pub mod clock;
#[cfg(feature = "conformance")]
pub mod conformance;
pub mod directory;
pub mod error;
pub mod flag;
pub mod health;
pub mod host;
pub mod id;
pub mod instance;
pub mod launch;
pub mod member;
pub mod mesh_key;
pub mod organisation;
pub mod page;
pub mod placed;
pub mod plan;
pub mod revocation;
pub mod stack;
pub mod sync;
pub mod tenant;
pub mod user;
pub mod wire;

pub use caller::{
    Caller, Membership, Memberships, OrgId, ServiceIdentity, Sub, TenantRole, TenantScope, TenantStanding,
    UserIdentity,
};
pub use change::{Actor, Change, Idempotency};
pub use clock::Clock;
pub use error::{Code, Error, Result};
pub use id::{AuditEventId, Ids, InstanceId, InvitationId, RequestId, StackId, TenantId};
pub use page::{Etag, Listed, Page};
pub use plan::{Limits, Plan, PlanGrant};

/// Everything that the platform keeps, in one backend.
pub trait PlatformStore:
    user::UserStore
    + tenant::TenantStore
    + instance::InstanceStore
    + organisation::OrganisationStore
    + audit::AuditStore
    + mesh_key::MeshKeyStore
    + sync::SyncStore
    + launch::LaunchStore
    + flag::FlagStore
    + health::HealthStore
{
}

impl<T> PlatformStore for T where
    T: user::UserStore
        + tenant::TenantStore
        + instance::InstanceStore
        + organisation::OrganisationStore
        + audit::AuditStore
        + mesh_key::MeshKeyStore
        + sync::SyncStore
        + launch::LaunchStore
        + flag::FlagStore
        + health::HealthStore
{
}

/// Everything that an instance keeps: its own data, and each tenant's.
pub trait InstanceKeep: host::HostStore + stack::StackStore + member::MemberStore {}

impl<T> InstanceKeep for T where T: host::HostStore + stack::StackStore + member::MemberStore {}
