//! What Admin pushes: tenants, revocations, flags. The keep applies each once and in order.

use kombify_contracts::kombify::flags::v1::flag_sync_service_server::FlagSyncService;
use kombify_contracts::kombify::flags::v1::{ApplyFlagsRequest, ApplyFlagsResponse, HeldFlags};
use kombify_contracts::kombify::identity::v1::revocation_sync_service_server::RevocationSyncService;
use kombify_contracts::kombify::identity::v1::{ApplyRevocationsRequest, ApplyRevocationsResponse};
use kombify_contracts::kombify::tenancy::v1::tenant_sync_service_server::TenantSyncService;
use kombify_contracts::kombify::tenancy::v1::{ApplyTenantsRequest, ApplyTenantsResponse};
use kombify_core::Result;
use kombify_core::host::HostStore;
use kombify_flags::FlagSet;
use kombify_mesh::{Opened, OrStatus as _, handoff, open};
use tonic::{Request, Response, Status};

use crate::{Host, convert};

/// The services.
#[derive(Clone)]
pub struct Sync {
    host: Host,
}

impl Sync {
    /// The services, on a host.
    pub fn new(host: &Host) -> Self {
        Self { host: host.clone() }
    }

    async fn tenants(&self, opened: Opened<ApplyTenantsRequest>) -> Result<ApplyTenantsResponse> {
        let push = handoff::read_tenants(opened.message)?;
        let change = opened.change.beside("tenants.applied");
        let held = HostStore::apply_tenants(&*self.host.keep, &change, &push, self.host.max_tenants).await?;
        for (tenant, reason) in &held.refused {
            tracing::warn!(tenant.id = %tenant, reason, "tenant refused");
        }
        tracing::debug!(
            pushed = push.version,
            held = held.version,
            count = push.items.len(),
            "tenants applied"
        );
        Ok(handoff::held_tenants(held))
    }

    async fn revocations(&self, opened: Opened<ApplyRevocationsRequest>) -> Result<ApplyRevocationsResponse> {
        let push = handoff::read_revocations(opened.message)?;
        let change = opened.change.beside("revocations.applied");
        let held = HostStore::apply_revocations(&*self.host.keep, &change, &push).await?;
        Ok(handoff::held_revocations(&held))
    }

    async fn flags(&self, opened: Opened<ApplyFlagsRequest>) -> Result<HeldFlags> {
        let flags = handoff::read_flags(opened.message)?;
        // What cannot be read is refused before it takes the place of what can.
        FlagSet::parse(&flags.definitions)?;
        let change = opened.change.beside("flags.applied");
        let held = HostStore::apply_flags(&*self.host.keep, &change, &flags).await?;
        tracing::debug!(pushed = flags.version, held = held.flags.version, "flags applied");
        Ok(HeldFlags {
            version: convert::number(held.flags.version),
            apply_time: Some(convert::time(held.apply_time)),
        })
    }
}

#[tonic::async_trait]
impl TenantSyncService for Sync {
    async fn apply_tenants(
        &self,
        request: Request<ApplyTenantsRequest>,
    ) -> Result<Response<ApplyTenantsResponse>, Status> {
        Ok(Response::new(self.tenants(open(request).or_status()?).await.or_status()?))
    }
}

#[tonic::async_trait]
impl RevocationSyncService for Sync {
    async fn apply_revocations(
        &self,
        request: Request<ApplyRevocationsRequest>,
    ) -> Result<Response<ApplyRevocationsResponse>, Status> {
        Ok(Response::new(self.revocations(open(request).or_status()?).await.or_status()?))
    }
}

#[tonic::async_trait]
impl FlagSyncService for Sync {
    async fn apply_flags(
        &self,
        request: Request<ApplyFlagsRequest>,
    ) -> Result<Response<ApplyFlagsResponse>, Status> {
        let held = self.flags(open(request).or_status()?).await.or_status()?;
        Ok(Response::new(ApplyFlagsResponse { data: Some(held) }))
    }
}
