//! Floor 4: the Stack: tenants' homelabs. One instance holds many tenants, each in a file of its own; Admin says which, and
//! what each may do. Alone (mode "self-hosted") it holds one, and signs its people in itself.
//!
//! Refuses to know: how its keep stores rows, and any other service, beyond their contracts.

mod accounts;
mod activity;
mod alone;
mod convert;
mod directory;
mod evaluation;
mod kits;
mod members;
mod pages;
mod password;
mod report;
mod sessions;
mod sso;
mod stacks;
mod sync;

use std::sync::Arc;

use kombify_contracts::kombify::flags::v1::flag_sync_service_server::FlagSyncServiceServer;
use kombify_contracts::kombify::identity::v1::revocation_sync_service_server::RevocationSyncServiceServer;
use kombify_contracts::kombify::sso::v1::sso_service_server::SsoServiceServer;
use kombify_contracts::kombify::stack::v1::account_service_server::AccountServiceServer;
use kombify_contracts::kombify::stack::v1::activity_service_server::ActivityServiceServer;
use kombify_contracts::kombify::stack::v1::evaluation_service_server::EvaluationServiceServer;
use kombify_contracts::kombify::stack::v1::member_service_server::MemberServiceServer;
use kombify_contracts::kombify::stack::v1::stack_service_server::StackServiceServer;
use kombify_contracts::kombify::tenancy::v1::tenant_sync_service_server::TenantSyncServiceServer;
use kombify_core::placed::PlacedTenant;
use kombify_core::{
    Clock, Error, Ids, InstanceId, InstanceKeep, Limits, Plan, PlanGrant, Result, TenantScope,
};
use kombify_mesh::client::Peer;
use tonic::service::Routes;

pub use self::alone::{Founded, found};
pub use self::directory::HostDirectory;
pub use self::kits::{KitRegistry, MeshKits, SHOWN as KITS_SHOWN};
pub use self::pages::{PAGES, pages};
pub use self::report::{HostCounts, report_tenants};
pub use self::sessions::HostSessions;

/// The services that a Stack serves.
pub const SERVICES: [&str; 10] = [
    "kombify.flags.v1.FlagSyncService",
    "kombify.identity.v1.IdentityService",
    "kombify.identity.v1.RevocationSyncService",
    "kombify.sso.v1.SsoService",
    "kombify.stack.v1.AccountService",
    "kombify.stack.v1.ActivityService",
    "kombify.stack.v1.EvaluationService",
    "kombify.stack.v1.MemberService",
    "kombify.stack.v1.StackService",
    "kombify.tenancy.v1.TenantSyncService",
];

/// How people come in.
#[derive(Clone)]
pub enum Entrance {
    /// By the platform: Admin is asked, and Cloud sends them here.
    Platform {
        /// Admin, called with this instance's key.
        admin: Peer,
        /// Cloud's origin: the only one from which a launch may come.
        cloud: String,
    },
    /// By local accounts.
    Alone,
}

/// What a Stack stands on.
#[derive(Clone)]
pub struct Host {
    /// Where everything is kept.
    pub keep: Arc<dyn InstanceKeep>,
    /// The process's clock.
    pub clock: Arc<dyn Clock>,
    /// The process's randomness.
    pub ids: Arc<dyn Ids>,
    /// Which instance this is.
    pub instance: InstanceId,
    /// Where browsers reach it, without a slash at the end.
    pub origin: String,
    /// How people come in.
    pub entrance: Entrance,
    /// Who knows the kits.
    pub kits: Arc<dyn KitRegistry>,
    /// How many tenants it takes, whatever Admin thinks.
    pub max_tenants: u32,
}

impl Host {
    /// The tenant of a scope.
    async fn tenant(&self, scope: TenantScope) -> Result<PlacedTenant> {
        let id = scope.tenant();
        let found = kombify_core::host::HostStore::find_tenant(&*self.keep, &id.to_string()).await?;
        found.ok_or_else(|| Error::not_found("tenant", id))
    }

    /// The plan that decides in a tenant now.
    async fn plan(&self, scope: TenantScope) -> Result<Plan> {
        let tenant = self.tenant(scope).await?;
        Ok(PlanGrant::plan_at(tenant.grant.as_ref(), self.clock.now()))
    }

    /// What the plan allows the tenant now.
    async fn limits(&self, scope: TenantScope) -> Result<Limits> {
        Ok(self.plan(scope).await?.limits())
    }
}

/// A Stack's methods.
pub fn routes(host: &Host) -> Routes {
    let sync = sync::Sync::new(host);
    Routes::new(StackServiceServer::new(stacks::Stacks::new(host)))
        .add_service(MemberServiceServer::new(members::Members::new(host)))
        .add_service(ActivityServiceServer::new(activity::ActivityLog::new(host)))
        .add_service(EvaluationServiceServer::new(evaluation::Evaluator::new(host)))
        .add_service(AccountServiceServer::new(accounts::Accounts::new(host)))
        .add_service(SsoServiceServer::new(sso::Sso::new(host)))
        .add_service(FlagSyncServiceServer::new(sync.clone()))
        .add_service(TenantSyncServiceServer::new(sync.clone()))
        .add_service(RevocationSyncServiceServer::new(sync))
        .add_service(kombify_mesh::whoami::service())
}
