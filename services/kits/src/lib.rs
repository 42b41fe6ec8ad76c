//! Floor 4: the registry of `StackKits` (contract C7): kits from directories and Git repositories, each version kept for
//! ever as it came first, given by plan.
//!
//! Refuses to know: what a plan costs, who decides it, and what a stack is. What a kit is, the crate `kombify-kit` says.

mod convert;
mod directory;
mod gate;
mod git;
mod index;
mod intake;
mod keep;
mod registry;
mod rpc;
mod source;

use std::sync::Arc;

use kombify_contracts::kombify::identity::v1::revocation_sync_service_server::RevocationSyncServiceServer;
use kombify_contracts::kombify::kits::v1::kit_service_server::KitServiceServer;
use kombify_contracts::kombify::tenancy::v1::organisation_sync_service_server::OrganisationSyncServiceServer;
use kombify_core::Clock;
use kombify_mesh::pushed::{Organisations, Revocations};
use tonic::service::Routes;

pub use self::directory::KitsDirectory;
pub use self::gate::Viewer;
pub use self::git::GitSource;
pub use self::intake::Reach;
pub use self::registry::{Registry, RegistryConfig};
pub use self::source::{Place, Source};

/// The services that Kits serves.
pub const SERVICES: [&str; 4] = [
    "kombify.identity.v1.IdentityService",
    "kombify.identity.v1.RevocationSyncService",
    "kombify.kits.v1.KitService",
    "kombify.tenancy.v1.OrganisationSyncService",
];

/// What Kits stands on.
#[derive(Clone)]
pub struct Kits {
    /// The kits.
    pub registry: Arc<Registry>,
    /// The organisations, as Admin pushed them.
    pub organisations: Arc<Organisations>,
    /// What Admin revoked.
    pub revocations: Arc<Revocations>,
    /// The process's clock.
    pub clock: Arc<dyn Clock>,
}

/// Kits' methods.
pub fn routes(kits: &Kits) -> Routes {
    Routes::new(KitServiceServer::new(rpc::KitRpc::new(kits)))
        .add_service(RevocationSyncServiceServer::from_arc(Arc::clone(&kits.revocations)))
        .add_service(OrganisationSyncServiceServer::from_arc(Arc::clone(&kits.organisations)))
        .add_service(kombify_mesh::whoami::service())
}
