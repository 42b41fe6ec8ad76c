//! The audit log: read by the platform's people, and told of refusals by modules that have no store.

use std::sync::Arc;

use kombify_contracts::kombify::audit::v1::audit_service_server::AuditService;
use kombify_contracts::kombify::audit::v1::{
    ListEventsRequest, ListEventsResponse, Refusal as RefusalMessage, ReportRefusalsRequest,
    ReportRefusalsResponse,
};
use kombify_core::audit::{AuditFilter, AuditStore, Outcome, Refusal};
use kombify_core::{Actor, Error, Page, PlatformStore, Result, ServiceIdentity};
use kombify_mesh::{Opened, OrStatus as _, open};
use tonic::{Request, Response, Status};

use crate::{Platform, convert};

/// The service.
pub struct Audit {
    store: Arc<dyn PlatformStore>,
}

impl Audit {
    /// The service, on the platform's store.
    pub fn new(platform: &Platform) -> Self {
        Self { store: Arc::clone(&platform.store) }
    }

    async fn list(&self, opened: Opened<ListEventsRequest>) -> Result<ListEventsResponse> {
        let ListEventsRequest { limit, cursor, action, sub, tenant_id, outcome, start_time, end_time } =
            opened.message;
        let filter = AuditFilter {
            sub: if sub.is_empty() { None } else { Some(sub.parse()?) },
            tenant: if tenant_id.is_empty() { None } else { Some(tenant_id.parse()?) },
            outcome: Outcome::parse(&outcome)?,
            start_time: start_time.map(|time| convert::parse_time("startTime", time)).transpose()?,
            end_time: end_time.map(|time| convert::parse_time("endTime", time)).transpose()?,
            action,
        };
        let page = Page::parse(limit, &cursor, &format!("audit {filter:?}"))?;
        let listed = AuditStore::read(&*self.store, &opened.change, &filter, &page).await?;
        let meta = convert::meta(&listed);
        Ok(ListEventsResponse {
            data: listed.items.into_iter().map(convert::audit_event).collect(),
            meta: Some(meta),
        })
    }

    async fn report(&self, opened: Opened<ReportRefusalsRequest>) -> Result<()> {
        let reporter = opened.caller.service().ok_or(Error::AuthRequired)?;
        let refusals: Vec<_> = opened
            .message
            .refusals
            .into_iter()
            .enumerate()
            .map(|(index, refusal)| read(index, refusal, reporter))
            .collect::<Result<_>>()?;
        AuditStore::append_refusals(&*self.store, &refusals).await
    }
}

/// What a module reports, with the module that reports it beside.
fn read(index: usize, refusal: RefusalMessage, reporter: &ServiceIdentity) -> Result<Refusal> {
    let RefusalMessage { create_time, actor, action, target, ip, user_agent, request_id, details } = refusal;
    let actor = actor.unwrap_or_default();
    let sub = |text: String| if text.is_empty() { Ok(None) } else { text.parse().map(Some) };
    let service = if actor.service.is_empty() { None } else { Some(actor.service.parse()?) };
    let mut details: std::collections::BTreeMap<_, _> = details.into_iter().collect();
    details.insert("reportedBy".to_owned(), reporter.to_string());
    Ok(Refusal {
        time: convert::parse_time(&format!("refusals[{index}].createTime"), create_time.unwrap_or_default())?,
        actor: Actor { sub: sub(actor.sub)?, service, impersonator: sub(actor.impersonator)? },
        action,
        target,
        // A module without a store enters no tenant.
        tenant: None,
        ip,
        user_agent,
        request_id: request_id.parse()?,
        details,
    })
}

#[tonic::async_trait]
impl AuditService for Audit {
    async fn list_events(
        &self,
        request: Request<ListEventsRequest>,
    ) -> Result<Response<ListEventsResponse>, Status> {
        Ok(Response::new(self.list(open(request).or_status()?).await.or_status()?))
    }

    async fn report_refusals(
        &self,
        request: Request<ReportRefusalsRequest>,
    ) -> Result<Response<ReportRefusalsResponse>, Status> {
        self.report(open(request).or_status()?).await.or_status()?;
        Ok(Response::new(ReportRefusalsResponse {}))
    }
}
