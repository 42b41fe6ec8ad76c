//! Tenants: created with a place, seen by their members, listed for the platform's people.

use std::sync::Arc;

use kombify_contracts::kombify::tenancy::v1::tenant_service_server::TenantService;
use kombify_contracts::kombify::tenancy::v1::{
    CreateTenantRequest, CreateTenantResponse, GetTenantRequest, GetTenantResponse, ListAllTenantsRequest,
    ListAllTenantsResponse, ListTenantsRequest, ListTenantsResponse, Tenant as TenantMessage,
};
use kombify_core::tenant::{NewTenant, Region, Tenant, TenantFilter, TenantStore};
use kombify_core::{Clock, Error, Ids, Listed, Page, PlatformStore, Result, TenantScope};
use kombify_mesh::{Opened, OrStatus as _, open, open_tenant};
use tonic::{Request, Response, Status};

use crate::{Platform, convert};

/// The service.
pub struct Tenants {
    store: Arc<dyn PlatformStore>,
    clock: Arc<dyn Clock>,
    ids: Arc<dyn Ids>,
    default_region: Region,
}

impl Tenants {
    /// The service, on the platform's store.
    pub fn new(platform: &Platform) -> Self {
        Self {
            store: Arc::clone(&platform.store),
            clock: Arc::clone(&platform.clock),
            ids: Arc::clone(&platform.ids),
            default_region: platform.default_region.clone(),
        }
    }

    async fn create(&self, opened: Opened<CreateTenantRequest>) -> Result<TenantMessage> {
        let user = opened.user()?;
        let CreateTenantRequest { slug, name, region } = &opened.message;
        if name.trim().is_empty() {
            return Err(Error::invalid("name", "must have a character that is not a space"));
        }
        let tenant = NewTenant {
            id: self.ids.tenant(opened.change.time),
            slug: slug.parse()?,
            name: name.clone(),
            owner: user.owner.clone(),
            creator: user.sub.clone(),
            region: if region.is_empty() { self.default_region.clone() } else { region.parse()? },
        };
        let tenant = TenantStore::create(&*self.store, &opened.change, &tenant).await?;
        tracing::info!(tenant.id = %tenant.id, instance.id = %tenant.instance, "tenant created");
        Ok(convert::tenant(tenant, self.clock.now()))
    }

    async fn get(&self, scope: TenantScope) -> Result<TenantMessage> {
        let tenant = TenantStore::find(&*self.store, scope).await?;
        let tenant = tenant.ok_or_else(|| Error::not_found("tenant", scope.tenant()))?;
        Ok(convert::tenant(tenant, self.clock.now()))
    }

    async fn list(&self, opened: Opened<ListTenantsRequest>) -> Result<ListTenantsResponse> {
        let member = &opened.user()?.sub;
        let page =
            Page::parse(opened.message.limit, &opened.message.cursor, &format!("tenants of {member}"))?;
        let listed = TenantStore::list_of(&*self.store, member, &page).await?;
        let meta = convert::meta(&listed);
        Ok(ListTenantsResponse { data: self.messages(listed), meta: Some(meta) })
    }

    async fn list_all(&self, opened: Opened<ListAllTenantsRequest>) -> Result<ListAllTenantsResponse> {
        let ListAllTenantsRequest { limit, cursor, search, instance_id } = opened.message;
        let page = Page::parse(limit, &cursor, &format!("tenants\n{search}\n{instance_id}"))?;
        let instance = if instance_id.is_empty() { None } else { Some(instance_id.parse()?) };
        let listed = TenantStore::list(&*self.store, &TenantFilter { search, instance }, &page).await?;
        let meta = convert::meta(&listed);
        Ok(ListAllTenantsResponse { data: self.messages(listed), meta: Some(meta) })
    }

    fn messages(&self, listed: Listed<Tenant>) -> Vec<TenantMessage> {
        let now = self.clock.now();
        listed.items.into_iter().map(|tenant| convert::tenant(tenant, now)).collect()
    }
}

#[tonic::async_trait]
impl TenantService for Tenants {
    async fn create_tenant(
        &self,
        request: Request<CreateTenantRequest>,
    ) -> Result<Response<CreateTenantResponse>, Status> {
        let tenant = self.create(open(request).or_status()?).await.or_status()?;
        Ok(Response::new(CreateTenantResponse { data: Some(tenant) }))
    }

    async fn get_tenant(
        &self,
        request: Request<GetTenantRequest>,
    ) -> Result<Response<GetTenantResponse>, Status> {
        let (scope, _) = open_tenant(request).or_status()?;
        let tenant = self.get(scope).await.or_status()?;
        Ok(Response::new(GetTenantResponse { data: Some(tenant) }))
    }

    async fn list_tenants(
        &self,
        request: Request<ListTenantsRequest>,
    ) -> Result<Response<ListTenantsResponse>, Status> {
        Ok(Response::new(self.list(open(request).or_status()?).await.or_status()?))
    }

    async fn list_all_tenants(
        &self,
        request: Request<ListAllTenantsRequest>,
    ) -> Result<Response<ListAllTenantsResponse>, Status> {
        Ok(Response::new(self.list_all(open(request).or_status()?).await.or_status()?))
    }
}
