//! What the instance tells Admin: its tenants' members and usage; and what it counts for its health.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use kombify_contracts::kombify::tenancy::v1::tenant_report_service_client::TenantReportServiceClient;
use kombify_contracts::kombify::tenancy::v1::{
    ReportTenantsRequest, ReportedMember, TenantReport as TenantReportMessage,
};
use kombify_core::host::HostStore;
use kombify_core::tenant::TenantReport;
use kombify_core::{InstanceKeep, Result};
use kombify_mesh::client::Peer;
use kombify_mesh::report::Counts;
use kombify_mesh::status::to_fault;
use tokio_util::sync::CancellationToken;

use crate::convert;

/// How often is looked for what changed.
const LOOK_AGAIN: Duration = Duration::from_millis(500);

/// How long a report that failed waits for the next try.
const RETRY: Duration = Duration::from_secs(2);

/// Reports what changed, again and again until cancelled; everything once at the start.
pub async fn report_tenants(keep: Arc<dyn InstanceKeep>, admin: Peer, cancel: CancellationToken) {
    let mut anew = false;
    loop {
        if !anew {
            anew = HostStore::report_anew(&*keep).await.is_ok();
        }
        let pause = match report_due(&*keep, admin.clone()).await {
            Ok(true) => Duration::ZERO,
            Ok(false) => LOOK_AGAIN,
            Err(cause) => {
                tracing::warn!(%cause, "tenants not reported yet");
                RETRY
            }
        };
        tokio::select! {
            () = cancel.cancelled() => return,
            () = tokio::time::sleep(pause) => {}
        }
    }
}

/// Reports some of what changed; says whether there was something.
async fn report_due(keep: &dyn InstanceKeep, admin: Peer) -> Result<bool> {
    let reports = HostStore::reports_due(keep).await?;
    if reports.is_empty() {
        return Ok(false);
    }
    let request = ReportTenantsRequest { tenants: reports.iter().map(message).collect() };
    let answer = TenantReportServiceClient::new(admin).report_tenants(request).await;
    let refused = answer.map_err(|status| to_fault(&status))?.into_inner().refused_tenant_ids;
    for tenant in refused {
        tracing::warn!(tenant.id = tenant, "Admin has the tenant elsewhere: it was not mirrored");
    }
    HostStore::reported(keep, &reports).await?;
    Ok(true)
}

fn message(report: &TenantReport) -> TenantReportMessage {
    let TenantReport { tenant, generation, version, members, usage } = report;
    TenantReportMessage {
        tenant_id: tenant.to_string(),
        generation: convert::number(*generation),
        version: convert::number(*version),
        members: members
            .iter()
            .map(|(sub, role)| ReportedMember { sub: sub.to_string(), role: role.to_string() })
            .collect(),
        stacks: convert::number(usage.stacks),
        storage_gb: convert::number(usage.storage_gb),
    }
}

/// What an instance counts for its health.
pub struct HostCounts(pub Arc<dyn InstanceKeep>);

#[async_trait]
impl Counts for HostCounts {
    async fn tenants(&self) -> u32 {
        HostStore::count_tenants(&*self.0).await.unwrap_or_default()
    }

    async fn agents(&self) -> u32 {
        0 // No agent connects yet.
    }
}
