//! How every module is: contract C8.

use std::sync::Arc;

use kombify_contracts::kombify::health::v1::health_service_server::HealthService;
use kombify_contracts::kombify::health::v1::{
    ListHealthHistoryRequest, ListHealthHistoryResponse, ListStatusRequest, ListStatusResponse,
    ReportHealthRequest, ReportHealthResponse,
};
use kombify_core::health::{Components, HealthReport, HealthStore, Metrics, Reported};
use kombify_core::sync::SyncStore;
use kombify_core::{Clock, Error, InstanceId, Page, PlatformStore, Result};
use kombify_mesh::{Opened, OrStatus as _, open};
use tonic::{Request, Response, Status};

use crate::{Platform, convert};

/// The service.
pub struct HealthReports {
    store: Arc<dyn PlatformStore>,
    clock: Arc<dyn Clock>,
}

impl HealthReports {
    /// The service, on the platform's store.
    pub fn new(platform: &Platform) -> Self {
        Self { store: Arc::clone(&platform.store), clock: Arc::clone(&platform.clock) }
    }

    async fn report(&self, opened: Opened<ReportHealthRequest>) -> Result<()> {
        let service = opened.caller.service().ok_or(Error::AuthRequired)?.clone();
        let report = read(opened.message)?;
        HealthStore::report(&*self.store, &service, &report, opened.change.time).await
    }

    async fn status(&self) -> Result<ListStatusResponse> {
        let reporters = HealthStore::reporters(&*self.store).await?;
        let streams = SyncStore::streams(&*self.store).await?;
        let now = self.clock.now();
        let data =
            reporters.into_iter().map(|reporter| convert::module_status(reporter, &streams, now)).collect();
        Ok(ListStatusResponse { data })
    }

    async fn history(&self, opened: Opened<ListHealthHistoryRequest>) -> Result<ListHealthHistoryResponse> {
        let ListHealthHistoryRequest { limit, cursor, id } = opened.message;
        let id: InstanceId = id.parse()?;
        let page = Page::parse(limit, &cursor, &format!("health of {id}"))?;
        let listed = HealthStore::history(&*self.store, id, &page).await?;
        let meta = convert::meta(&listed);
        let data = listed.items.iter().map(convert::health_event).collect();
        Ok(ListHealthHistoryResponse { data, meta: Some(meta) })
    }
}

fn read(request: ReportHealthRequest) -> Result<HealthReport> {
    let ReportHealthRequest {
        boot_id,
        sequence,
        report_time: _,
        status,
        components,
        metrics,
        software_version,
    } = request;
    let (components, metrics) = (components.unwrap_or_default(), metrics.unwrap_or_default());
    let count = |number: i32| u32::try_from(number).unwrap_or_default();
    let components = Components {
        database: components.database.parse()?,
        api: components.api.parse()?,
        agents: components.agents.parse()?,
    };
    Ok(HealthReport {
        boot_id,
        sequence: count(sequence),
        // No better than what it is made of, whatever it says.
        status: status.parse::<Reported>()?.max(components.best()),
        components,
        metrics: Metrics {
            cpu_percent: count(metrics.cpu_percent),
            memory_percent: count(metrics.memory_percent),
            storage_percent: count(metrics.storage_percent),
            tenant_count: count(metrics.tenant_count),
            agent_count: count(metrics.agent_count),
        },
        software_version,
    })
}

#[tonic::async_trait]
impl HealthService for HealthReports {
    async fn report_health(
        &self,
        request: Request<ReportHealthRequest>,
    ) -> Result<Response<ReportHealthResponse>, Status> {
        self.report(open(request).or_status()?).await.or_status()?;
        Ok(Response::new(ReportHealthResponse {}))
    }

    async fn list_status(
        &self,
        request: Request<ListStatusRequest>,
    ) -> Result<Response<ListStatusResponse>, Status> {
        let _: Opened<ListStatusRequest> = open(request).or_status()?;
        Ok(Response::new(self.status().await.or_status()?))
    }

    async fn list_health_history(
        &self,
        request: Request<ListHealthHistoryRequest>,
    ) -> Result<Response<ListHealthHistoryResponse>, Status> {
        Ok(Response::new(self.history(open(request).or_status()?).await.or_status()?))
    }
}
