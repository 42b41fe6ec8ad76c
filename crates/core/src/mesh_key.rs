//! The keys with which the modules of the mesh sign.

use async_trait::async_trait;

use crate::{Change, Result, ServiceIdentity};

/// The public key of one instance of a module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MeshKey {
    /// The key's id: the RFC 7638 thumbprint.
    pub kid: String,
    /// Whose key it is.
    pub service: ServiceIdentity,
    /// The Ed25519 public key: 32 bytes as base64url without padding.
    pub public_key: String,
}

/// Where keys are kept. Each method happens wholly or not at all.
#[async_trait]
pub trait MeshKeyStore: Send + Sync + 'static {
    /// The key of the service.
    async fn find(&self, service: &ServiceIdentity) -> Result<Option<MeshKey>>;

    /// Puts the key in the place of the one with the id `replaces` (`None`: of none). The same key again changes
    /// nothing and is not audited again.
    ///
    /// # Errors
    /// - [`crate::Error::Conflict`] if the present key is neither the same nor the one to replace, or if there are
    ///   [`MAX_KEYS`] keys already.
    async fn register(&self, change: &Change, key: &MeshKey, replaces: Option<&str>) -> Result<MeshKey>;

    /// Every key, ordered by module and instance.
    async fn list(&self) -> Result<Vec<MeshKey>>;
}

/// How many keys the mesh has at most.
pub const MAX_KEYS: u32 = 1000;
