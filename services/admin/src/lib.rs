//! Floor 4: Admin, the platform's back end: users, tenants and their places, plans, flags, what is
//! handed to the other modules, how they are, the mesh's keys, the audit log.
//!
//! Refuses to know: which engine keeps its rows, and any other service.

mod audit;
mod convert;
mod directory;
mod flags;
mod health;
mod instances;
mod keys;
mod launches;
mod organisations;
mod provider;
mod push;
mod reports;
mod revocations;
mod sweep;
mod tenants;
mod users;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use kombify_contracts::kombify::audit::v1::audit_service_server::AuditServiceServer;
use kombify_contracts::kombify::flags::v1::flag_service_server::FlagServiceServer;
use kombify_contracts::kombify::health::v1::health_service_server::HealthServiceServer;
use kombify_contracts::kombify::identity::v1::revocation_service_server::RevocationServiceServer;
use kombify_contracts::kombify::mesh::v1::key_service_server::KeyServiceServer;
use kombify_contracts::kombify::sso::v1::launch_service_server::LaunchServiceServer;
use kombify_contracts::kombify::tenancy::v1::instance_service_server::InstanceServiceServer;
use kombify_contracts::kombify::tenancy::v1::organisation_service_server::OrganisationServiceServer;
use kombify_contracts::kombify::tenancy::v1::tenant_report_service_server::TenantReportServiceServer;
use kombify_contracts::kombify::tenancy::v1::tenant_service_server::TenantServiceServer;
use kombify_contracts::kombify::users::v1::user_service_server::UserServiceServer;
use kombify_core::mesh_key::MeshKey;
use kombify_core::tenant::Region;
use kombify_core::{Clock, Ids, PlatformStore};
use kombify_mesh::context::Context;
use kombify_mesh::identity::issuer::Issuer;
use kombify_mesh::identity::keys::KeySet;
use secrecy::SecretString;
use tokio::sync::Notify;
use tokio::time::Instant;
use tonic::service::Routes;

pub use self::directory::PlatformDirectory;
pub use self::keys::StoredKeys;
pub use self::provider::ProviderUsers;
pub use self::push::Pusher;
pub use self::sweep::{note_silences, sweep};

/// The services that Admin serves.
pub const SERVICES: [&str; 12] = [
    "kombify.audit.v1.AuditService",
    "kombify.flags.v1.FlagService",
    "kombify.health.v1.HealthService",
    "kombify.identity.v1.IdentityService",
    "kombify.identity.v1.RevocationService",
    "kombify.mesh.v1.KeyService",
    "kombify.sso.v1.LaunchService",
    "kombify.tenancy.v1.InstanceService",
    "kombify.tenancy.v1.OrganisationService",
    "kombify.tenancy.v1.TenantReportService",
    "kombify.tenancy.v1.TenantService",
    "kombify.users.v1.UserService",
];

/// What Admin stands on.
#[derive(Clone)]
pub struct Platform {
    /// Where everything is kept.
    pub store: Arc<dyn PlatformStore>,
    /// The process's clock.
    pub clock: Arc<dyn Clock>,
    /// The process's randomness.
    pub ids: Arc<dyn Ids>,
    /// The identity provider.
    pub issuer: Issuer,
    /// The keys of the mesh, as Admin itself verifies by them.
    pub mesh_keys: Arc<KeySet>,
    /// Admin's own public key: it is served with the others.
    pub own_key: MeshKey,
    /// The join secret of each module.
    pub join_secrets: Arc<BTreeMap<String, SecretString>>,
    /// The identity provider's users, to lock them.
    pub provider: ProviderUsers,
    /// Told when there is something to push.
    pub pushes: Arc<Notify>,
    /// Told when a module has acknowledged something.
    pub acknowledgements: Arc<Notify>,
    /// The region of a tenant or an instance for which nobody names one.
    pub default_region: Region,
}

/// How long before the caller's deadline a call stops waiting and answers with what there is.
const ANSWER_EARLY: Duration = Duration::from_secs(1);

/// When a call that waits `at_most` so long for the modules must answer.
fn answer_by(at_most: Duration) -> Instant {
    let left = Context::current().map_or(at_most, |context| context.deadline.remaining());
    Instant::now() + at_most.min(left.saturating_sub(ANSWER_EARLY))
}

/// Admin's methods.
pub fn routes(platform: &Platform) -> Routes {
    Routes::new(UserServiceServer::new(users::Users::new(platform)))
        .add_service(TenantServiceServer::new(tenants::Tenants::new(platform)))
        .add_service(InstanceServiceServer::new(instances::Instances::new(platform)))
        .add_service(OrganisationServiceServer::new(organisations::Organisations::new(platform)))
        .add_service(AuditServiceServer::new(audit::Audit::new(platform)))
        .add_service(KeyServiceServer::new(keys::Keys::new(platform)))
        .add_service(FlagServiceServer::new(flags::Flags::new(platform)))
        .add_service(HealthServiceServer::new(health::HealthReports::new(platform)))
        .add_service(LaunchServiceServer::new(launches::Launches::new(platform)))
        .add_service(RevocationServiceServer::new(revocations::Revocations::new(platform)))
        .add_service(TenantReportServiceServer::new(reports::Reports::new(platform)))
        .add_service(kombify_mesh::whoami::service())
}

/// Delivers the refusals of Admin's own doors to its log.
///
/// # Errors
/// - what the store says.
pub async fn keep_refusals(
    store: Arc<dyn PlatformStore>,
    refusals: Vec<kombify_core::audit::Refusal>,
) -> kombify_core::Result<()> {
    kombify_core::audit::AuditStore::append_refusals(&*store, &refusals).await
}
