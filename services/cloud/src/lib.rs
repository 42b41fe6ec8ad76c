//! Floor 4: Cloud, the user portal's back end: sign-in, the portal's plain page, the way into a tenant, the signed-in user's
//! own profile.
//!
//! Refuses to know: any store. What it shows and changes is Admin's, which it calls for the user, with its own token and the
//! user's; its own session is an encrypted cookie.

mod backchannel;
mod directory;
mod kits;
mod launch;
mod once;
mod pages;
mod portal;
mod profile;
mod provider;
mod session;
mod sign_in;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use kombify_contracts::kombify::cloud::v1::profile_service_server::ProfileServiceServer;
use kombify_contracts::kombify::identity::v1::revocation_sync_service_server::RevocationSyncServiceServer;
use kombify_mesh::client::Peer;
use kombify_mesh::pushed::Revocations;
use tonic::service::Routes;

pub use self::directory::CloudDirectory;
pub use self::pages::{PAGES, pages};
pub use self::portal::{Portal, PortalConfig};

/// The services that Cloud serves.
pub const SERVICES: [&str; 3] = [
    "kombify.cloud.v1.ProfileService",
    "kombify.identity.v1.IdentityService",
    "kombify.identity.v1.RevocationSyncService",
];

/// Cloud's methods; `admin` is who answers for users.
pub fn routes(admin: Peer, revocations: Arc<Revocations>) -> Routes {
    Routes::new(ProfileServiceServer::new(profile::Profile::new(admin)))
        .add_service(RevocationSyncServiceServer::from_arc(revocations))
        .add_service(kombify_mesh::whoami::service())
}
