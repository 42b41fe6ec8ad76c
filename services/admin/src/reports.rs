//! What instances tell Admin of their tenants: members and usage.

use std::sync::Arc;

use kombify_contracts::kombify::tenancy::v1::tenant_report_service_server::TenantReportService;
use kombify_contracts::kombify::tenancy::v1::{
    ReportTenantsRequest, ReportTenantsResponse, TenantReport as TenantReportMessage,
};
use kombify_core::tenant::{TenantReport, TenantStore, Usage};
use kombify_core::{PlatformStore, Result};
use kombify_mesh::{Opened, OrStatus as _, open};
use tonic::{Request, Response, Status};

use crate::Platform;
use crate::launches::instance_of;

/// The service.
pub struct Reports {
    store: Arc<dyn PlatformStore>,
}

impl Reports {
    /// The service, on the platform's store.
    pub fn new(platform: &Platform) -> Self {
        Self { store: Arc::clone(&platform.store) }
    }

    async fn report(&self, opened: Opened<ReportTenantsRequest>) -> Result<ReportTenantsResponse> {
        let instance = instance_of(opened.caller.service())?;
        let reports: Vec<_> = opened.message.tenants.into_iter().map(read).collect::<Result<_>>()?;
        let refused = TenantStore::mirror(&*self.store, instance, &reports, opened.change.time).await?;
        let refused_tenant_ids = refused.iter().map(ToString::to_string).collect();
        Ok(ReportTenantsResponse { refused_tenant_ids })
    }
}

fn read(report: TenantReportMessage) -> Result<TenantReport> {
    let TenantReportMessage { tenant_id, generation, version, members, stacks, storage_gb } = report;
    let count = |number: i32| u32::try_from(number).unwrap_or_default();
    Ok(TenantReport {
        tenant: tenant_id.parse()?,
        generation: count(generation),
        version: count(version),
        members: members
            .into_iter()
            .map(|member| Ok((member.sub.parse()?, member.role.parse()?)))
            .collect::<Result<_>>()?,
        usage: Usage { stacks: count(stacks), storage_gb: count(storage_gb) },
    })
}

#[tonic::async_trait]
impl TenantReportService for Reports {
    async fn report_tenants(
        &self,
        request: Request<ReportTenantsRequest>,
    ) -> Result<Response<ReportTenantsResponse>, Status> {
        Ok(Response::new(self.report(open(request).or_status()?).await.or_status()?))
    }
}
