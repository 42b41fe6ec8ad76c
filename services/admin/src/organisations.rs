//! Organisations: the plans that they are given.

use std::sync::Arc;

use kombify_contracts::kombify::tenancy::v1::organisation_service_server::OrganisationService;
use kombify_contracts::kombify::tenancy::v1::{
    GetOrganisationRequest, GetOrganisationResponse, GrantPlanRequest, GrantPlanResponse,
    Organisation as OrganisationMessage,
};
use kombify_core::organisation::OrganisationStore;
use kombify_core::{Clock, Error, OrgId, PlanGrant, PlatformStore, Result};
use kombify_mesh::{Opened, OrStatus as _, open};
use tokio::sync::Notify;
use tonic::{Request, Response, Status};

use crate::{Platform, convert};

/// The service.
pub struct Organisations {
    store: Arc<dyn PlatformStore>,
    clock: Arc<dyn Clock>,
    pushes: Arc<Notify>,
}

impl Organisations {
    /// The service, on the platform's store.
    pub fn new(platform: &Platform) -> Self {
        Self {
            store: Arc::clone(&platform.store),
            clock: Arc::clone(&platform.clock),
            pushes: Arc::clone(&platform.pushes),
        }
    }

    async fn get(&self, id: &str) -> Result<OrganisationMessage> {
        let id: OrgId = id.parse()?;
        let found = OrganisationStore::find(&*self.store, &id).await?;
        let organisation = found.ok_or_else(|| Error::not_found("organisation", &id))?;
        Ok(convert::organisation(organisation, self.clock.now()))
    }

    async fn grant(&self, opened: Opened<GrantPlanRequest>) -> Result<OrganisationMessage> {
        let id: OrgId = opened.message.id.parse()?;
        let grant = opened.message.grant.unwrap_or_default();
        let end_time = convert::parse_time("grant.endTime", grant.end_time.unwrap_or_default())?;
        if end_time <= opened.change.time {
            return Err(Error::invalid("grant.endTime", "must be in the future"));
        }
        let granted = PlanGrant { plan: grant.plan.parse()?, end_time };
        let organisation =
            OrganisationStore::grant(&*self.store, &opened.change, &id, granted, &grant.reason).await?;
        self.pushes.notify_one();
        tracing::info!(organisation.id = %id, plan = %granted.plan, "plan granted");
        Ok(convert::organisation(organisation, self.clock.now()))
    }
}

#[tonic::async_trait]
impl OrganisationService for Organisations {
    async fn get_organisation(
        &self,
        request: Request<GetOrganisationRequest>,
    ) -> Result<Response<GetOrganisationResponse>, Status> {
        let opened = open(request).or_status()?;
        let organisation = self.get(&opened.message.id).await.or_status()?;
        Ok(Response::new(GetOrganisationResponse { data: Some(organisation) }))
    }

    async fn grant_plan(
        &self,
        request: Request<GrantPlanRequest>,
    ) -> Result<Response<GrantPlanResponse>, Status> {
        let organisation = self.grant(open(request).or_status()?).await.or_status()?;
        Ok(Response::new(GrantPlanResponse { data: Some(organisation) }))
    }
}
