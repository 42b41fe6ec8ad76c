//! Tenants: created with a place, seen by their members, listed, suspended and deleted.

use std::sync::Arc;
use std::time::Duration;

use kombify_contracts::kombify::tenancy::v1::tenant_service_server::TenantService;
use kombify_contracts::kombify::tenancy::v1::{
    CreateTenantRequest, CreateTenantResponse, DeleteTenantForOwnerRequest, DeleteTenantForOwnerResponse,
    DeleteTenantRequest, DeleteTenantResponse, GetTenantRequest, GetTenantResponse, Launch,
    LaunchTenantRequest, LaunchTenantResponse, ListAllTenantsRequest, ListAllTenantsResponse,
    ListTenantsRequest, ListTenantsResponse, ResumeTenantRequest, ResumeTenantResponse, SuspendTenantRequest,
    SuspendTenantResponse, Tenant as TenantMessage, UndeleteTenantForOwnerRequest,
    UndeleteTenantForOwnerResponse, UndeleteTenantRequest, UndeleteTenantResponse,
};
use kombify_core::instance::InstanceStore;
use kombify_core::tenant::{NewTenant, Region, Tenant, TenantFilter, TenantMove, TenantStatus, TenantStore};
use kombify_core::{
    Change, Clock, Error, Etag, Ids, Listed, Page, PlatformStore, Result, TenantId, TenantScope,
};
use kombify_mesh::{Opened, OrStatus as _, open, open_tenant};
use tokio::sync::Notify;
use tokio::time::Instant;
use tonic::{Request, Response, Status};

use crate::{Platform, answer_by, convert};

/// The service.
pub struct Tenants {
    store: Arc<dyn PlatformStore>,
    clock: Arc<dyn Clock>,
    ids: Arc<dyn Ids>,
    pushes: Arc<Notify>,
    acknowledgements: Arc<Notify>,
    default_region: Region,
}

/// How long whoever creates a tenant waits for its instance. Source: the contracts, "Tenancy".
const SETTLED_WITHIN: Duration = Duration::from_secs(10);

/// Between two looks at whether the instance has acknowledged it.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// When to try again where an instance refused.
const REFUSED_RETRY: Duration = Duration::from_secs(5);

impl Tenants {
    /// The service, on the platform's store.
    pub fn new(platform: &Platform) -> Self {
        Self {
            store: Arc::clone(&platform.store),
            clock: Arc::clone(&platform.clock),
            ids: Arc::clone(&platform.ids),
            pushes: Arc::clone(&platform.pushes),
            acknowledgements: Arc::clone(&platform.acknowledgements),
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
        self.pushes.notify_one();
        let tenant = self.settled(tenant).await?;
        tracing::info!(tenant.id = %tenant.id, instance.id = %tenant.instance, "tenant created");
        Ok(self.message(tenant))
    }

    /// The tenant as soon as its instance has acknowledged it, or as it is when that takes too long.
    async fn settled(&self, mut tenant: Tenant) -> Result<Tenant> {
        let due = answer_by(SETTLED_WITHIN);
        let scope = TenantScope::system(tenant.id, "whoever creates a tenant waits for its instance");
        while tenant.status == TenantStatus::Creating && Instant::now() < due {
            // Woken by every acknowledgement of this process; another process's is found by looking.
            let _ = tokio::time::timeout(LOOK_AGAIN, self.acknowledgements.notified()).await;
            tenant = TenantStore::find(&*self.store, scope).await?.ok_or_else(|| {
                Error::unavailable(
                    "the instance could not take the tenant: nothing was created",
                    REFUSED_RETRY,
                )
            })?;
        }
        Ok(tenant)
    }

    async fn change_status(
        &self,
        change: &Change,
        tenant: TenantId,
        etag: &str,
        to: TenantMove,
        reason: &str,
    ) -> Result<TenantMessage> {
        let etag = Etag::parse(etag)?;
        let tenant = TenantStore::change_status(&*self.store, change, tenant, etag, to, reason).await?;
        self.pushes.notify_one();
        tracing::info!(tenant.id = %tenant.id, tenant.status = tenant.status.as_str(), "tenant status changed");
        Ok(self.message(tenant))
    }

    async fn launch(&self, scope: TenantScope) -> Result<Launch> {
        let tenant = TenantStore::find(&*self.store, scope).await?;
        let tenant = tenant.ok_or_else(|| Error::not_found("tenant", scope.tenant()))?;
        let instance = InstanceStore::find(&*self.store, tenant.instance).await?;
        let instance =
            instance.ok_or_else(|| Error::internal("a tenant on an instance that is not there"))?;
        let endpoint = instance.public_endpoint.trim_end_matches('/');
        Ok(Launch { redirect_url: format!("{endpoint}/sso/start?tenant={}", tenant.slug) })
    }

    fn message(&self, tenant: Tenant) -> TenantMessage {
        convert::tenant(tenant, self.clock.now())
    }

    async fn get(&self, scope: TenantScope) -> Result<TenantMessage> {
        let tenant = TenantStore::find(&*self.store, scope).await?;
        let tenant = tenant.ok_or_else(|| Error::not_found("tenant", scope.tenant()))?;
        Ok(self.message(tenant))
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

    async fn launch_tenant(
        &self,
        request: Request<LaunchTenantRequest>,
    ) -> Result<Response<LaunchTenantResponse>, Status> {
        let (scope, _) = open_tenant(request).or_status()?;
        let launch = self.launch(scope).await.or_status()?;
        Ok(Response::new(LaunchTenantResponse { data: Some(launch) }))
    }

    async fn delete_tenant(
        &self,
        request: Request<DeleteTenantRequest>,
    ) -> Result<Response<DeleteTenantResponse>, Status> {
        let (scope, Opened { change, message, .. }) = open_tenant(request).or_status()?;
        let reason = "by an admin of the tenant";
        self.change_status(&change, scope.tenant(), &message.etag, TenantMove::Delete, reason)
            .await
            .or_status()?;
        Ok(Response::new(DeleteTenantResponse {}))
    }

    async fn undelete_tenant(
        &self,
        request: Request<UndeleteTenantRequest>,
    ) -> Result<Response<UndeleteTenantResponse>, Status> {
        let Opened { caller, change, message, .. } = open(request).or_status()?;
        let tenant = caller.restore(&message.tenant).or_status()?.tenant();
        let reason = "by an admin of the tenant";
        let tenant =
            self.change_status(&change, tenant, "", TenantMove::Undelete, reason).await.or_status()?;
        Ok(Response::new(UndeleteTenantResponse { data: Some(tenant) }))
    }

    async fn suspend_tenant(
        &self,
        request: Request<SuspendTenantRequest>,
    ) -> Result<Response<SuspendTenantResponse>, Status> {
        let Opened { change, message: SuspendTenantRequest { id, etag, suspension }, .. } =
            open(request).or_status()?;
        let reason = suspension.unwrap_or_default().reason;
        let tenant = id.parse().or_status()?;
        let tenant =
            self.change_status(&change, tenant, &etag, TenantMove::Suspend, &reason).await.or_status()?;
        Ok(Response::new(SuspendTenantResponse { data: Some(tenant) }))
    }

    async fn resume_tenant(
        &self,
        request: Request<ResumeTenantRequest>,
    ) -> Result<Response<ResumeTenantResponse>, Status> {
        let Opened { change, message: ResumeTenantRequest { id, etag }, .. } = open(request).or_status()?;
        let tenant = id.parse().or_status()?;
        let tenant = self.change_status(&change, tenant, &etag, TenantMove::Resume, "").await.or_status()?;
        Ok(Response::new(ResumeTenantResponse { data: Some(tenant) }))
    }

    async fn delete_tenant_for_owner(
        &self,
        request: Request<DeleteTenantForOwnerRequest>,
    ) -> Result<Response<DeleteTenantForOwnerResponse>, Status> {
        let Opened { change, message: DeleteTenantForOwnerRequest { id, etag, deletion }, .. } =
            open(request).or_status()?;
        let reason = deletion.unwrap_or_default().reason;
        let tenant = id.parse().or_status()?;
        let tenant =
            self.change_status(&change, tenant, &etag, TenantMove::Delete, &reason).await.or_status()?;
        Ok(Response::new(DeleteTenantForOwnerResponse { data: Some(tenant) }))
    }

    async fn undelete_tenant_for_owner(
        &self,
        request: Request<UndeleteTenantForOwnerRequest>,
    ) -> Result<Response<UndeleteTenantForOwnerResponse>, Status> {
        let Opened { change, message: UndeleteTenantForOwnerRequest { id }, .. } =
            open(request).or_status()?;
        let tenant = id.parse().or_status()?;
        let tenant = self.change_status(&change, tenant, "", TenantMove::Undelete, "").await.or_status()?;
        Ok(Response::new(UndeleteTenantForOwnerResponse { data: Some(tenant) }))
    }

    async fn list_all_tenants(
        &self,
        request: Request<ListAllTenantsRequest>,
    ) -> Result<Response<ListAllTenantsResponse>, Status> {
        Ok(Response::new(self.list_all(open(request).or_status()?).await.or_status()?))
    }
}
