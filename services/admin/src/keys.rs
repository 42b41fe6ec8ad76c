//! The keys of the mesh: registered by join secret and proof, served to everybody.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use aws_lc_rs::constant_time::verify_slices_are_equal;
use kombify_contracts::kombify::mesh::v1::key_service_server::KeyService;
use kombify_contracts::kombify::mesh::v1::{
    ListKeysRequest, ListKeysResponse, RegisterKeyRequest, RegisterKeyResponse, ServiceKey,
};
use kombify_core::mesh_key::{MeshKey, MeshKeyStore};
use kombify_core::sync::SyncStore;
use kombify_core::{Actor, Change, Error, PlatformStore, Result, ServiceIdentity};
use kombify_mesh::identity::keys::{KeySet, KeySource, PublishedKey};
use kombify_mesh::identity::service_token::{key_id, proof_holds, published};
use kombify_mesh::{Opened, OrStatus as _, open};
use secrecy::{ExposeSecret as _, SecretString};
use tokio::sync::Notify;
use tonic::{Request, Response, Status};

use crate::Platform;

/// The registered keys and Admin's own, as a source for Admin itself.
pub struct StoredKeys {
    store: Arc<dyn PlatformStore>,
    own: MeshKey,
}

impl StoredKeys {
    /// The keys in `store`, and `own`.
    pub fn new(store: Arc<dyn PlatformStore>, own: MeshKey) -> Self {
        Self { store, own }
    }

    async fn all(&self) -> Result<Vec<MeshKey>> {
        let mut keys = MeshKeyStore::list(&*self.store).await?;
        keys.push(self.own.clone());
        keys.sort_by_key(|key| key.service.to_string());
        Ok(keys)
    }
}

#[async_trait]
impl KeySource for StoredKeys {
    async fn fetch(&self) -> Result<Vec<PublishedKey>> {
        self.all().await?.into_iter().map(published).collect()
    }
}

/// The service.
pub struct Keys {
    stored: StoredKeys,
    verified_by: Arc<KeySet>,
    join_secrets: Arc<BTreeMap<String, SecretString>>,
    pushes: Arc<Notify>,
}

impl Keys {
    /// The service, on the platform's store.
    pub fn new(platform: &Platform) -> Self {
        Self {
            stored: StoredKeys::new(Arc::clone(&platform.store), platform.own_key.clone()),
            verified_by: Arc::clone(&platform.mesh_keys),
            join_secrets: Arc::clone(&platform.join_secrets),
            pushes: Arc::clone(&platform.pushes),
        }
    }

    async fn register(&self, opened: Opened<RegisterKeyRequest>) -> Result<MeshKey> {
        let request = opened.message;
        let service = ServiceIdentity { module: request.module, instance: request.instance };
        self.check_join_secret(&service, &request.join_secret)?;
        if !proof_holds(&request.public_key, &request.proof, &service, &request.public_key) {
            return Err(Error::AuthInvalid("the proof is not by the key itself"));
        }
        let present = MeshKeyStore::find(&*self.stored.store, &service).await?;
        let replaces = match &present {
            Some(present) if present.public_key != request.public_key => {
                if !proof_holds(&present.public_key, &request.replace_proof, &service, &request.public_key) {
                    return Err(Error::AuthInvalid(
                        "another key is registered, and it did not sign the replacement",
                    ));
                }
                Some(present.kid.as_str())
            }
            Some(_) | None => None,
        };
        let key = MeshKey { kid: key_id(&request.public_key)?, service, public_key: request.public_key };
        let actor = Actor { service: Some(key.service.clone()), ..Actor::default() };
        let change = Change { actor, ..opened.change };
        let key = MeshKeyStore::register(&*self.stored.store, &change, &key, replaces).await?;
        if !request.endpoint.is_empty() {
            let connected = change.beside("module.connected");
            SyncStore::connect(&*self.stored.store, &connected, &key.service, &request.endpoint).await?;
            self.pushes.notify_one();
        }
        self.verified_by.refresh().await?;
        Ok(key)
    }

    fn check_join_secret(&self, service: &ServiceIdentity, given: &str) -> Result<()> {
        // Nobody has Admin's secret: its own key never comes by this way.
        // A Stack claims its instance instead.
        let by_secret = !matches!(service.module.as_str(), "admin" | "stack");
        let known = self.join_secrets.get(&service.module).filter(|_| by_secret);
        let right = known.is_some_and(|known| {
            verify_slices_are_equal(known.expose_secret().as_bytes(), given.as_bytes()).is_ok()
        });
        if right { Ok(()) } else { Err(Error::AuthInvalid("the join secret is not the module's")) }
    }
}

fn message(key: MeshKey) -> ServiceKey {
    let MeshKey { kid, service: ServiceIdentity { module, instance }, public_key } = key;
    ServiceKey { kid, module, instance, public_key }
}

#[tonic::async_trait]
impl KeyService for Keys {
    async fn register_key(
        &self,
        request: Request<RegisterKeyRequest>,
    ) -> Result<Response<RegisterKeyResponse>, Status> {
        let key = self.register(open(request).or_status()?).await.or_status()?;
        Ok(Response::new(RegisterKeyResponse { data: Some(message(key)) }))
    }

    async fn list_keys(
        &self,
        request: Request<ListKeysRequest>,
    ) -> Result<Response<ListKeysResponse>, Status> {
        let _: Opened<ListKeysRequest> = open(request).or_status()?;
        let keys = self.stored.all().await.or_status()?;
        Ok(Response::new(ListKeysResponse { data: keys.into_iter().map(message).collect() }))
    }
}
