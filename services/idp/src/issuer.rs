//! Everything that a handler needs.

use std::path::Path;
use std::sync::Arc;

use axum::http::HeaderMap;
use jiff::Timestamp;
use kombify_core::{Clock, Ids, Result};
use kombify_sqlite::OpenError;

use crate::Config;
use crate::client::{self, Client};
use crate::cookie::Cookies;
use crate::csrf::Csrf;
use crate::keys::{Keys, Ring};
use crate::limits::Limits;
use crate::password::Passwords;
use crate::secret;
use crate::store::Store;
use crate::store::sessions::Session;

/// The issuer: its configuration, its store, its keys.
pub(crate) struct Issuer {
    pub(crate) config: Config,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) ids: Arc<dyn Ids>,
    pub(crate) store: Store,
    pub(crate) keys: Keys,
    pub(crate) passwords: Passwords,
    pub(crate) limits: Limits,
    pub(crate) csrf: Csrf,
    pub(crate) cookies: Cookies,
}

impl Issuer {
    pub(crate) fn open(
        path: &Path,
        mut config: Config,
        clock: Arc<dyn Clock>,
        ids: Arc<dyn Ids>,
    ) -> Result<Self, OpenError> {
        let store = Store::open(path)?;
        config.issuer.truncate(config.issuer.trim_end_matches('/').len());
        Ok(Self {
            store,
            keys: Keys::new(config.access_token_lifetime),
            passwords: Passwords::new(),
            limits: Limits::new(config.sign_ins_per_minute),
            csrf: Csrf::new(&*ids, client::origin(&config.issuer)),
            cookies: Cookies::new(config.issuer.starts_with("https://")),
            config,
            clock,
            ids,
        })
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    pub(crate) fn client(&self, id: &str) -> Option<&Client> {
        self.config.clients.iter().find(|client| client.id == id)
    }

    /// The clients that are told of ended sessions.
    pub(crate) fn told_clients(&self) -> Vec<String> {
        let told = self.config.clients.iter().filter(|client| client.backchannel_logout_uri.is_some());
        told.map(|client| client.id.clone()).collect()
    }

    /// The keys that are published now.
    pub(crate) async fn ring(&self) -> Result<Ring> {
        self.keys.ring(&self.store, self.now()).await
    }

    /// The session of the browser that sent `headers`.
    pub(crate) async fn session(&self, headers: &HeaderMap) -> Result<Option<Session>> {
        match self.cookies.session(headers) {
            Some(session) => self.store.find_session(secret::hash(&session), self.now()).await,
            None => Ok(None),
        }
    }
}
