//! Instances: registered, drained, activated and removed by the platform's people.

use std::sync::Arc;

use kombify_contracts::kombify::tenancy::v1::instance_service_server::InstanceService;
use kombify_contracts::kombify::tenancy::v1::{
    ActivateInstanceRequest, ActivateInstanceResponse, DrainInstanceRequest, DrainInstanceResponse,
    GetInstanceRequest, GetInstanceResponse, Instance as InstanceMessage, ListInstancesRequest,
    ListInstancesResponse, RegisterInstanceRequest, RegisterInstanceResponse, RemoveInstanceRequest,
    RemoveInstanceResponse,
};
use kombify_core::instance::{InstanceMode, InstanceStatus, InstanceStore, NewInstance};
use kombify_core::tenant::Region;
use kombify_core::{Change, Error, Etag, Ids, Page, PlatformStore, Result};
use kombify_mesh::{Opened, OrStatus as _, open};
use tonic::{Request, Response, Status};

use crate::{Platform, convert};

/// The service.
pub struct Instances {
    store: Arc<dyn PlatformStore>,
    ids: Arc<dyn Ids>,
    default_region: Region,
}

impl Instances {
    /// The service, on the platform's store.
    pub fn new(platform: &Platform) -> Self {
        Self {
            store: Arc::clone(&platform.store),
            ids: Arc::clone(&platform.ids),
            default_region: platform.default_region.clone(),
        }
    }

    async fn register(&self, opened: Opened<RegisterInstanceRequest>) -> Result<InstanceMessage> {
        let RegisterInstanceRequest { name, region, mode, max_tenants, internal_endpoint, public_endpoint } =
            opened.message;
        let mode = if mode.is_empty() { InstanceMode::Shared } else { mode.parse()? };
        let max_tenants = match u32::try_from(max_tenants) {
            Ok(0) | Err(_) => mode.default_max_tenants(),
            Ok(max) => max,
        };
        if mode == InstanceMode::Dedicated && max_tenants != 1 {
            return Err(Error::invalid("maxTenants", "must be 1 on a dedicated instance"));
        }
        let instance = NewInstance {
            id: self.ids.instance(opened.change.time),
            name,
            region: if region.is_empty() { self.default_region.clone() } else { region.parse()? },
            mode,
            max_tenants,
            internal_endpoint,
            public_endpoint,
        };
        let instance = InstanceStore::register(&*self.store, &opened.change, &instance).await?;
        tracing::info!(instance.id = %instance.id, instance.name = instance.name, "instance registered");
        Ok(convert::instance(instance))
    }

    async fn get(&self, id: &str) -> Result<InstanceMessage> {
        let instance = InstanceStore::find(&*self.store, id.parse()?).await?;
        instance.map(convert::instance).ok_or_else(|| Error::not_found("instance", id))
    }

    async fn list(&self, opened: Opened<ListInstancesRequest>) -> Result<ListInstancesResponse> {
        let ListInstancesRequest { limit, cursor, status } = opened.message;
        let page = Page::parse(limit, &cursor, &format!("instances\n{status}"))?;
        let status = if status.is_empty() { None } else { Some(status.parse()?) };
        let listed = InstanceStore::list(&*self.store, status, &page).await?;
        let meta = convert::meta(&listed);
        Ok(ListInstancesResponse {
            data: listed.items.into_iter().map(convert::instance).collect(),
            meta: Some(meta),
        })
    }

    async fn set_status(
        &self,
        change: &Change,
        id: &str,
        etag: &str,
        to: InstanceStatus,
    ) -> Result<InstanceMessage> {
        let instance =
            InstanceStore::set_status(&*self.store, change, id.parse()?, Etag::parse(etag)?, to).await?;
        tracing::info!(instance.id = %instance.id, instance.status = %instance.status, "instance status set");
        Ok(convert::instance(instance))
    }

    async fn remove(&self, opened: Opened<RemoveInstanceRequest>) -> Result<()> {
        let RemoveInstanceRequest { id, etag } = &opened.message;
        InstanceStore::remove(&*self.store, &opened.change, id.parse()?, Etag::parse(etag)?).await?;
        tracing::info!(instance.id = id, "instance removed");
        Ok(())
    }
}

#[tonic::async_trait]
impl InstanceService for Instances {
    async fn register_instance(
        &self,
        request: Request<RegisterInstanceRequest>,
    ) -> Result<Response<RegisterInstanceResponse>, Status> {
        let instance = self.register(open(request).or_status()?).await.or_status()?;
        Ok(Response::new(RegisterInstanceResponse { data: Some(instance) }))
    }

    async fn get_instance(
        &self,
        request: Request<GetInstanceRequest>,
    ) -> Result<Response<GetInstanceResponse>, Status> {
        let opened = open(request).or_status()?;
        let instance = self.get(&opened.message.id).await.or_status()?;
        Ok(Response::new(GetInstanceResponse { data: Some(instance) }))
    }

    async fn list_instances(
        &self,
        request: Request<ListInstancesRequest>,
    ) -> Result<Response<ListInstancesResponse>, Status> {
        Ok(Response::new(self.list(open(request).or_status()?).await.or_status()?))
    }

    async fn drain_instance(
        &self,
        request: Request<DrainInstanceRequest>,
    ) -> Result<Response<DrainInstanceResponse>, Status> {
        let opened = open(request).or_status()?;
        let DrainInstanceRequest { id, etag } = &opened.message;
        let instance =
            self.set_status(&opened.change, id, etag, InstanceStatus::Draining).await.or_status()?;
        Ok(Response::new(DrainInstanceResponse { data: Some(instance) }))
    }

    async fn activate_instance(
        &self,
        request: Request<ActivateInstanceRequest>,
    ) -> Result<Response<ActivateInstanceResponse>, Status> {
        let opened = open(request).or_status()?;
        let ActivateInstanceRequest { id, etag } = &opened.message;
        let instance = self.set_status(&opened.change, id, etag, InstanceStatus::Active).await.or_status()?;
        Ok(Response::new(ActivateInstanceResponse { data: Some(instance) }))
    }

    async fn remove_instance(
        &self,
        request: Request<RemoveInstanceRequest>,
    ) -> Result<Response<RemoveInstanceResponse>, Status> {
        self.remove(open(request).or_status()?).await.or_status()?;
        Ok(Response::new(RemoveInstanceResponse {}))
    }
}
