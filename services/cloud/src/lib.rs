//! Floor 4: Cloud, the user portal's back end: the signed-in user's own profile.
//!
//! Refuses to know: any store. What it shows and changes is Admin's, which it calls for the user, with its own token
//! and the user's.

mod profile;
mod refusals;

use kombify_contracts::kombify::cloud::v1::profile_service_server::ProfileServiceServer;
use kombify_mesh::client::Peer;
use tonic::service::Routes;

pub use self::refusals::report_refusals;

/// The services that Cloud serves.
pub const SERVICES: [&str; 2] = ["kombify.cloud.v1.ProfileService", "kombify.identity.v1.IdentityService"];

/// Cloud's methods; `admin` is who answers for users.
pub fn routes(admin: Peer) -> Routes {
    Routes::new(ProfileServiceServer::new(profile::Profile::new(admin)))
        .add_service(kombify_mesh::whoami::service())
}
