//! What Cloud's pages stand on.

use std::sync::Arc;

use aws_lc_rs::digest;
use kombify_core::{Clock, Ids, Result};
use kombify_mesh::client::Peer;
use kombify_mesh::identity::keys::KeySet;
use kombify_mesh::pushed::Revocations;
use kombify_pages::sealed::Seal;
use secrecy::{ExposeSecret as _, SecretString};

use crate::once::Once;
use crate::provider::Provider;
use crate::session::Refreshing;

/// What the pages are told.
pub struct PortalConfig {
    /// Admin, called with Cloud's own key.
    pub admin: Peer,
    /// The registry of kits.
    pub kits: Peer,
    /// The issuer's URL.
    pub issuer: String,
    /// Cloud as a client of the issuer.
    pub client_id: String,
    /// Where browsers reach Cloud, without a slash at the end.
    pub origin: String,
    /// What seals the cookies: 32 characters of randomness or more.
    pub key: SecretString,
    /// The process's clock.
    pub clock: Arc<dyn Clock>,
    /// The process's randomness.
    pub ids: Arc<dyn Ids>,
    /// The issuer's keys.
    pub issuer_keys: Arc<KeySet>,
    /// What Admin revoked.
    pub revocations: Arc<Revocations>,
    /// A client with timeouts, which follows no redirects.
    pub http: reqwest::Client,
}

/// What the pages stand on.
pub struct Portal {
    pub(crate) admin: Peer,
    pub(crate) kits: Peer,
    pub(crate) provider: Provider,
    pub(crate) issuer: String,
    pub(crate) client_id: String,
    pub(crate) origin: String,
    pub(crate) seal: Seal,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) ids: Arc<dyn Ids>,
    pub(crate) issuer_keys: Arc<KeySet>,
    pub(crate) revocations: Arc<Revocations>,
    pub(crate) refreshing: Refreshing,
    /// The sign-ins that browsers came back from.
    pub(crate) finished: Once,
    /// The logout tokens that the provider sent: it repeats what it is not sure of.
    pub(crate) seen: Once,
}

impl Portal {
    /// The portal of this configuration.
    ///
    /// # Errors
    /// - [`kombify_core::Error::Internal`] if nothing can be sealed.
    pub fn new(config: PortalConfig) -> Result<Self> {
        let PortalConfig {
            admin,
            kits,
            issuer,
            client_id,
            origin,
            key,
            clock,
            ids,
            issuer_keys,
            revocations,
            http,
        } = config;
        let secure = origin.starts_with("https://");
        let key = digest::digest(&digest::SHA256, key.expose_secret().as_bytes());
        Ok(Self {
            admin,
            kits,
            provider: Provider::new(&issuer, &client_id, &origin, http),
            issuer,
            client_id,
            seal: Seal::new(key.as_ref(), secure)?,
            origin,
            clock,
            ids,
            issuer_keys,
            revocations,
            refreshing: Refreshing::default(),
            finished: Once::default(),
            seen: Once::default(),
        })
    }

    /// Whether browsers come by TLS.
    pub(crate) fn is_secure(&self) -> bool {
        self.origin.starts_with("https://")
    }

    /// The name of a cookie: loopback ports share cookies, so it says whose it is.
    pub(crate) fn cookie(&self, what: &str) -> String {
        let prefix = if self.is_secure() { "__Host-" } else { "" };
        format!("{prefix}kombify_cloud_{what}")
    }
}
