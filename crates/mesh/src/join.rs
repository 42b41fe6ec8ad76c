//! How a module joins the mesh: it registers its key at Admin by its join secret, and verifies others' tokens by the
//! keys that Admin serves. Source: contract C2.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use kombify_contracts::kombify::mesh::v1::key_service_client::KeyServiceClient;
use kombify_contracts::kombify::mesh::v1::{ListKeysRequest, RegisterKeyRequest};
use kombify_core::mesh_key::MeshKey;
use kombify_core::{Result, ServiceIdentity};
use secrecy::{ExposeSecret as _, SecretString};
use tokio_util::sync::CancellationToken;

use crate::client::Peer;
use crate::identity::keys::{KeySource, PublishedKey};
use crate::identity::service_token::{Signer, published};
use crate::status::to_fault;

/// How long a module waits before it tries again to register.
const RETRY: Duration = Duration::from_secs(1);

/// Registers the key of `signer` at Admin, again and again until Admin takes it or `cancel` is called.
pub async fn register(
    admin: Peer,
    signer: Arc<Signer>,
    join_secret: SecretString,
    cancel: CancellationToken,
) {
    loop {
        match try_register(admin.clone(), &signer, &join_secret).await {
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

async fn try_register(admin: Peer, signer: &Signer, join_secret: &SecretString) -> Result<()> {
    let MeshKey { kid: _, service, public_key } = signer.public();
    let request = RegisterKeyRequest {
        proof: signer.prove(&service, &public_key),
        module: service.module,
        instance: service.instance,
        public_key,
        join_secret: join_secret.expose_secret().to_owned(),
        replace_proof: String::new(),
    };
    KeyServiceClient::new(admin).register_key(request).await.map_err(|status| to_fault(&status))?;
    Ok(())
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
