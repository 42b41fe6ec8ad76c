//! How a module joins the mesh: it registers its key at Admin by its join secret, and verifies others' tokens by the
//! keys that Admin serves. Source: contract C2.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use kombify_contracts::kombify::mesh::v1::key_service_client::KeyServiceClient;
use kombify_contracts::kombify::mesh::v1::{ListKeysRequest, RegisterKeyRequest};
use kombify_contracts::kombify::tenancy::v1::ClaimInstanceRequest;
use kombify_contracts::kombify::tenancy::v1::instance_service_client::InstanceServiceClient;
use kombify_core::mesh_key::MeshKey;
use kombify_core::{InstanceId, Result, ServiceIdentity};
use secrecy::{ExposeSecret as _, SecretString};
use tokio_util::sync::CancellationToken;

use crate::client::Peer;
use crate::identity::keys::{KeySource, PublishedKey};
use crate::identity::service_token::{Signer, published};
use crate::status::to_fault;

/// How long a module waits before it tries again to register.
const RETRY: Duration = Duration::from_secs(1);

/// Registers the key of `signer` at Admin, again and again until Admin takes it or `cancel` is called. `endpoint` is where
/// Admin pushes to; empty: nowhere.
pub async fn register(
    admin: Peer,
    signer: Arc<Signer>,
    join_secret: SecretString,
    endpoint: String,
    cancel: CancellationToken,
) {
    loop {
        match try_register(admin.clone(), &signer, &join_secret, &endpoint).await {
            Ok(()) => {
                tracing::info!(mesh.service = %signer.service(), "joined the mesh");
                return;
            }
            Err(cause) => tracing::warn!(%cause, "not joined the mesh yet"),
        }
        tokio::select! {
            () = cancel.cancelled() => return,
            () = tokio::time::sleep(RETRY) => {}
        }
    }
}

async fn try_register(
    admin: Peer,
    signer: &Signer,
    join_secret: &SecretString,
    endpoint: &str,
) -> Result<()> {
    let MeshKey { kid: _, service, public_key } = signer.public();
    let request = RegisterKeyRequest {
        proof: signer.prove(&service, &public_key),
        module: service.module,
        instance: service.instance,
        public_key,
        join_secret: join_secret.expose_secret().to_owned(),
        replace_proof: String::new(),
        endpoint: endpoint.to_owned(),
    };
    KeyServiceClient::new(admin).register_key(request).await.map_err(|status| to_fault(&status))?;
    Ok(())
}

/// Claims the instance of that name at Admin, again and again until Admin gives it or `cancel` is called; the signer with
/// which its Stack signs from then on goes by the instance's id.
pub async fn claim(
    admin: Peer,
    claimant: &Signer,
    join_secret: &SecretString,
    cancel: &CancellationToken,
) -> Option<InstanceId> {
    loop {
        match try_claim(admin.clone(), claimant, join_secret).await {
            Ok(id) => {
                tracing::info!(instance.id = %id, "instance claimed");
                return Some(id);
            }
            Err(cause) => {
                tracing::warn!(%cause, instance.name = claimant.service().instance, "instance not claimed yet");
            }
        }
        tokio::select! {
            () = cancel.cancelled() => return None,
            () = tokio::time::sleep(RETRY) => {}
        }
    }
}

async fn try_claim(admin: Peer, claimant: &Signer, join_secret: &SecretString) -> Result<InstanceId> {
    let MeshKey { kid: _, service, public_key } = claimant.public();
    let request = ClaimInstanceRequest {
        proof: claimant.prove(&service, &public_key),
        name: service.instance,
        public_key,
        join_secret: join_secret.expose_secret().to_owned(),
        replace_proof: String::new(),
    };
    let answer = InstanceServiceClient::new(admin).claim_instance(request).await;
    answer.map_err(|status| to_fault(&status))?.into_inner().data.unwrap_or_default().id.parse()
}

/// The keys of the mesh, as Admin serves them.
pub struct MeshKeys {
    admin: Peer,
}

impl MeshKeys {
    /// The keys that `admin` serves.
    pub fn new(admin: Peer) -> Self {
        Self { admin }
    }
}

#[async_trait]
impl KeySource for MeshKeys {
    async fn fetch(&self) -> Result<Vec<PublishedKey>> {
        let answer = KeyServiceClient::new(self.admin.clone()).list_keys(ListKeysRequest {}).await;
        let keys = answer.map_err(|status| to_fault(&status))?.into_inner().data;
        keys.into_iter()
            .map(|key| {
                let service = ServiceIdentity { module: key.module, instance: key.instance };
                published(MeshKey { kid: key.kid, service, public_key: key.public_key })
            })
            .collect()
    }
}
