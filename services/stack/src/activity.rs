//! What happened in a tenant.

use kombify_contracts::kombify::stack::v1::activity_service_server::ActivityService;
use kombify_contracts::kombify::stack::v1::{ListActivityRequest, ListActivityResponse};
use kombify_core::audit::AuditFilter;
use kombify_core::host::HostStore;
use kombify_core::{Page, Result, TenantScope};
use kombify_mesh::{OrStatus as _, open_tenant};
use tonic::{Request, Response, Status};

use crate::{Host, convert};

/// The service.
pub struct ActivityLog {
    host: Host,
}

impl ActivityLog {
    /// The service, on a host.
    pub fn new(host: &Host) -> Self {
        Self { host: host.clone() }
    }

    async fn list(&self, scope: TenantScope, request: ListActivityRequest) -> Result<ListActivityResponse> {
        let ListActivityRequest { limit, cursor, action } = request;
        let page = Page::parse(limit, &cursor, &format!("activity of {}\n{action}", scope.tenant()))?;
        let filter = AuditFilter { action, ..AuditFilter::default() };
        let listed = HostStore::activity(&*self.host.keep, scope, &filter, &page).await?;
        let meta = convert::meta(&listed);
        let data = listed.items.into_iter().map(convert::activity).collect();
        Ok(ListActivityResponse { data, meta: Some(meta) })
    }
}

#[tonic::async_trait]
impl ActivityService for ActivityLog {
    async fn list_activity(
        &self,
        request: Request<ListActivityRequest>,
    ) -> Result<Response<ListActivityResponse>, Status> {
        let (scope, opened) = open_tenant(request).or_status()?;
        Ok(Response::new(self.list(scope, opened.message).await.or_status()?))
    }
}
