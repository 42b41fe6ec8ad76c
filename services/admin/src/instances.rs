//! Instances: registered, drained, worked on and removed by the platform's people; claimed by their Stacks.

use std::sync::Arc;

use kombify_contracts::kombify::tenancy::v1::instance_service_server::InstanceService;
use kombify_contracts::kombify::tenancy::v1::{
    ActivateInstanceRequest, ActivateInstanceResponse, ClaimInstanceRequest, ClaimInstanceResponse,
    ClaimedInstance, DrainInstanceRequest, DrainInstanceResponse, EndMaintenanceRequest,
    EndMaintenanceResponse, GetInstanceRequest, GetInstanceResponse, Instance as InstanceMessage,
    InstanceUpdate, ListInstancesRequest, ListInstancesResponse, RegisterInstanceRequest,
    RegisterInstanceResponse, RemoveInstanceRequest, RemoveInstanceResponse, StartMaintenanceRequest,
    StartMaintenanceResponse, UpdateInstanceRequest, UpdateInstanceResponse,
};
use kombify_core::instance::{
    Claim, Endpoints, Instance, InstanceMode, InstanceStatus, InstanceStore, NewInstance,
};
use kombify_core::mesh_key::MeshKeyStore;
use kombify_core::tenant::Region;
use kombify_core::{Actor, Change, Clock, Error, Etag, Ids, Page, PlatformStore, Result, ServiceIdentity};
use kombify_mesh::identity::keys::KeySet;
use kombify_mesh::identity::service_token::{key_id, proof_holds};
use kombify_mesh::secret;
use kombify_mesh::{Opened, OrStatus as _, open};
use tokio::sync::Notify;
use tonic::{Request, Response, Status};

use crate::{Platform, convert};

/// The service.
pub struct Instances {
    store: Arc<dyn PlatformStore>,
    clock: Arc<dyn Clock>,
    ids: Arc<dyn Ids>,
    mesh_keys: Arc<KeySet>,
    pushes: Arc<Notify>,
    default_region: Region,
}

impl Instances {
    /// The service, on the platform's store.
    pub fn new(platform: &Platform) -> Self {
        Self {
            store: Arc::clone(&platform.store),
            clock: Arc::clone(&platform.clock),
            ids: Arc::clone(&platform.ids),
            mesh_keys: Arc::clone(&platform.mesh_keys),
            pushes: Arc::clone(&platform.pushes),
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
        let (secret, join_secret_hash) = secret::make(&*self.ids);
        let instance = NewInstance {
            join_secret_hash,
            id: self.ids.instance(opened.change.time),
            name,
            region: if region.is_empty() { self.default_region.clone() } else { region.parse()? },
            mode,
            max_tenants,
            internal_endpoint,
            public_endpoint,
        };
        let new = instance.id;
        let instance = InstanceStore::register(&*self.store, &opened.change, &instance).await?;
        tracing::info!(instance.id = %instance.id, instance.name = instance.name, "instance registered");
        // A repeat finds an earlier instance, whose secret nobody has any more but who got it then.
        let join_secret = if instance.id == new { secret } else { String::new() };
        Ok(InstanceMessage { join_secret, ..self.message(instance) })
    }

    async fn get(&self, id: &str) -> Result<InstanceMessage> {
        let instance = InstanceStore::find(&*self.store, id.parse()?).await?;
        instance.map(|instance| self.message(instance)).ok_or_else(|| Error::not_found("instance", id))
    }

    async fn list(&self, opened: Opened<ListInstancesRequest>) -> Result<ListInstancesResponse> {
        let ListInstancesRequest { limit, cursor, status } = opened.message;
        let page = Page::parse(limit, &cursor, &format!("instances\n{status}"))?;
        let status = if status.is_empty() { None } else { Some(status.parse()?) };
        let listed = InstanceStore::list(&*self.store, status, &page).await?;
        let meta = convert::meta(&listed);
        Ok(ListInstancesResponse {
            data: listed.items.into_iter().map(|instance| self.message(instance)).collect(),
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
        Ok(self.message(instance))
    }

    async fn update(&self, opened: Opened<UpdateInstanceRequest>) -> Result<InstanceMessage> {
        let UpdateInstanceRequest { id, update, etag } = opened.message;
        let InstanceUpdate { internal_endpoint, public_endpoint } = update.unwrap_or_default();
        let endpoints = Endpoints { internal: internal_endpoint, public: public_endpoint };
        let (id, etag) = (id.parse()?, Etag::parse(&etag)?);
        let instance =
            InstanceStore::set_endpoints(&*self.store, &opened.change, id, etag, endpoints).await?;
        self.pushes.notify_one();
        tracing::info!(instance.id = %instance.id, "instance updated");
        Ok(self.message(instance))
    }

    async fn set_maintenance(
        &self,
        change: &Change,
        id: &str,
        etag: &str,
        to: bool,
    ) -> Result<InstanceMessage> {
        let etag = Etag::parse(etag)?;
        let instance = InstanceStore::set_maintenance(&*self.store, change, id.parse()?, etag, to).await?;
        tracing::info!(instance.id = %instance.id, maintenance = to, "instance maintenance set");
        Ok(self.message(instance))
    }

    async fn claim(&self, opened: Opened<ClaimInstanceRequest>) -> Result<ClaimedInstance> {
        let ClaimInstanceRequest { name, public_key, join_secret, proof, replace_proof } = opened.message;
        let refused = Error::AuthInvalid("the join secret is not the instance's");
        let Some(instance) = InstanceStore::find_by_name(&*self.store, &name).await? else {
            return Err(refused);
        };
        let claimant = ServiceIdentity { module: "stack".to_owned(), instance: name };
        if !proof_holds(&public_key, &proof, &claimant, &public_key) {
            return Err(Error::AuthInvalid("the proof is not by the key itself"));
        }
        let service = ServiceIdentity { module: "stack".to_owned(), instance: instance.id.to_string() };
        let present = MeshKeyStore::find(&*self.store, &service).await?;
        let replaces = present
            .filter(|present| proof_holds(&present.public_key, &replace_proof, &claimant, &public_key))
            .map(|present| present.kid);
        let claim = Claim {
            join_secret_hash: secret::hash(&join_secret),
            kid: key_id(&public_key)?,
            public_key,
            replaces,
        };
        let actor = Actor { service: Some(service), ..Actor::default() };
        let change = Change { actor, ..opened.change };
        let instance = InstanceStore::claim(&*self.store, &change, instance.id, &claim).await?;
        self.mesh_keys.refresh().await?;
        self.pushes.notify_one();
        tracing::info!(instance.id = %instance.id, instance.name = instance.name, "instance claimed");
        Ok(ClaimedInstance { id: instance.id.to_string(), public_endpoint: instance.public_endpoint })
    }

    fn message(&self, instance: Instance) -> InstanceMessage {
        convert::instance(instance, self.clock.now())
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

    async fn update_instance(
        &self,
        request: Request<UpdateInstanceRequest>,
    ) -> Result<Response<UpdateInstanceResponse>, Status> {
        let instance = self.update(open(request).or_status()?).await.or_status()?;
        Ok(Response::new(UpdateInstanceResponse { data: Some(instance) }))
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

    async fn start_maintenance(
        &self,
        request: Request<StartMaintenanceRequest>,
    ) -> Result<Response<StartMaintenanceResponse>, Status> {
        let opened = open(request).or_status()?;
        let StartMaintenanceRequest { id, etag } = &opened.message;
        let instance = self.set_maintenance(&opened.change, id, etag, true).await.or_status()?;
        Ok(Response::new(StartMaintenanceResponse { data: Some(instance) }))
    }

    async fn end_maintenance(
        &self,
        request: Request<EndMaintenanceRequest>,
    ) -> Result<Response<EndMaintenanceResponse>, Status> {
        let opened = open(request).or_status()?;
        let EndMaintenanceRequest { id, etag } = &opened.message;
        let instance = self.set_maintenance(&opened.change, id, etag, false).await.or_status()?;
        Ok(Response::new(EndMaintenanceResponse { data: Some(instance) }))
    }

    async fn claim_instance(
        &self,
        request: Request<ClaimInstanceRequest>,
    ) -> Result<Response<ClaimInstanceResponse>, Status> {
        let claimed = self.claim(open(request).or_status()?).await.or_status()?;
        Ok(Response::new(ClaimInstanceResponse { data: Some(claimed) }))
    }

    async fn remove_instance(
        &self,
        request: Request<RemoveInstanceRequest>,
    ) -> Result<Response<RemoveInstanceResponse>, Status> {
        self.remove(open(request).or_status()?).await.or_status()?;
        Ok(Response::new(RemoveInstanceResponse {}))
    }
}
