//! Public keys by their id: cached, refetched, and never trusted beyond what their source still publishes.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use async_trait::async_trait;
use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk};
use jsonwebtoken::{Algorithm, DecodingKey};
use kombify_core::{Error, Result, ServiceIdentity};
use tokio::sync::Mutex;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// How often the keys are refetched. Source: contract C2.
pub const REFRESH_INTERVAL: Duration = Duration::from_mins(1);

/// How often, at most, a key id that nobody knows makes us refetch. Source: contract C2.
pub const UNKNOWN_KEY_INTERVAL: Duration = Duration::from_secs(30);

/// How long a source that failed is left alone.
const FAILURE_INTERVAL: Duration = Duration::from_secs(1);

/// A key as its source publishes it.
pub struct PublishedKey {
    /// The key.
    pub jwk: Jwk,
    /// The one service that may sign with it; `None` for an issuer's key.
    pub owner: Option<ServiceIdentity>,
}

/// Where keys come from.
#[async_trait]
pub trait KeySource: Send + Sync + 'static {
    /// The keys that are good now.
    ///
    /// # Errors
    /// - [`Error::Unavailable`] if the source cannot be asked.
    async fn fetch(&self) -> Result<Vec<PublishedKey>>;
}

/// A key that verifies, and the one algorithm that it verifies.
pub struct VerifyingKey {
    /// The key.
    pub key: DecodingKey,
    /// Its algorithm: pinned, so that a token cannot choose another.
    pub algorithm: Algorithm,
    /// The one service that may sign with it; `None` for an issuer's key.
    pub owner: Option<ServiceIdentity>,
}

/// How often keys are asked for.
#[derive(Clone, Copy, Debug)]
pub struct Intervals {
    /// Between two refetches.
    pub refresh: Duration,
    /// Between two refetches because of an unknown key id.
    pub unknown_key: Duration,
}

impl Default for Intervals {
    fn default() -> Self {
        Self { refresh: REFRESH_INTERVAL, unknown_key: UNKNOWN_KEY_INTERVAL }
    }
}

#[derive(Default)]
struct Attempts {
    /// When an unknown key id last made us ask.
    unknown_key: Option<Instant>,
    /// When the source last failed.
    failed: Option<Instant>,
    /// Whether the source was ever reached.
    reached: bool,
}

/// The keys of one source.
pub struct KeySet {
    source: Box<dyn KeySource>,
    keys: RwLock<Arc<HashMap<String, Arc<VerifyingKey>>>>,
    attempts: Mutex<Attempts>,
    intervals: Intervals,
}

impl KeySet {
    /// The keys of `source`, none of them fetched yet.
    pub fn new(source: impl KeySource, intervals: Intervals) -> Self {
        Self { source: Box::new(source), keys: RwLock::default(), attempts: Mutex::default(), intervals }
    }

    /// The key of that id, if the source published it when it was last asked.
    pub fn known(&self, kid: &str) -> Option<Arc<VerifyingKey>> {
        self.keys.read().unwrap_or_else(PoisonError::into_inner).get(kid).cloned()
    }

    /// The key of that id; an unknown one makes us ask the source, at most once in a while.
    ///
    /// # Errors
    /// - [`Error::AuthInvalid`] if the source has no such key.
    /// - [`Error::Unavailable`] if the source was never reached.
    pub async fn get(&self, kid: &str) -> Result<Arc<VerifyingKey>> {
        if let Some(key) = self.known(kid) {
            return Ok(key);
        }
        let mut attempts = self.attempts.lock().await; // One asks, the others wait for the answer.
        if let Some(key) = self.known(kid) {
            return Ok(key);
        }
        let recent = |at: Option<Instant>, interval| at.is_some_and(|at| at.elapsed() < interval);
        if !recent(attempts.failed, FAILURE_INTERVAL)
            && !recent(attempts.unknown_key, self.intervals.unknown_key)
        {
            let fetched = self.fetch(&mut attempts).await;
            attempts.unknown_key = fetched.is_ok().then(Instant::now);
        }
        let missing = if attempts.reached {
            Error::AuthInvalid("its key is not known")
        } else {
            Error::unavailable("the keys that verify tokens cannot be had", Duration::from_secs(5))
        };
        self.known(kid).ok_or(missing)
    }

    /// Asks the source now.
    ///
    /// # Errors
    /// - [`Error::Unavailable`] if the source cannot be asked; the keys that are known stay.
    pub async fn refresh(&self) -> Result<()> {
        self.fetch(&mut *self.attempts.lock().await).await
    }

    async fn fetch(&self, attempts: &mut Attempts) -> Result<()> {
        match self.source.fetch().await {
            Ok(published) => {
                let keys = published.into_iter().filter_map(verifying_key).collect();
                *self.keys.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(keys);
                attempts.failed = None;
                attempts.reached = true;
                Ok(())
            }
            Err(cause) => {
                attempts.failed = Some(Instant::now());
                tracing::warn!(%cause, "keys not refreshed");
                Err(cause)
            }
        }
    }

    /// Refetches again and again until cancelled.
    pub async fn run(&self, cancel: CancellationToken) {
        loop {
            let _ = self.refresh().await; // Logged where it failed; the known keys stay.
            tokio::select! {
                () = cancel.cancelled() => return,
                () = tokio::time::sleep(self.intervals.refresh) => {}
            }
        }
    }
}

/// The key of a JWK that signs by RS256, ES256 or `EdDSA`; others are passed over.
fn verifying_key(published: PublishedKey) -> Option<(String, Arc<VerifyingKey>)> {
    let PublishedKey { jwk, owner } = published;
    let kid = jwk.common.key_id.clone().filter(|kid| !kid.is_empty() && kid.len() <= 200)?;
    if jwk
        .common
        .public_key_use
        .as_ref()
        .is_some_and(|usage| *usage != jsonwebtoken::jwk::PublicKeyUse::Signature)
    {
        return None;
    }
    let algorithm = match &jwk.algorithm {
        AlgorithmParameters::RSA(_) => Algorithm::RS256,
        AlgorithmParameters::EllipticCurve(key) if key.curve == EllipticCurve::P256 => Algorithm::ES256,
        AlgorithmParameters::OctetKeyPair(key) if key.curve == EllipticCurve::Ed25519 => Algorithm::EdDSA,
        AlgorithmParameters::EllipticCurve(_)
        | AlgorithmParameters::OctetKeyPair(_)
        | AlgorithmParameters::OctetKey(_)
        | AlgorithmParameters::Other(_)
        | _ => return None,
    };
    let declared = jwk.common.key_algorithm.map(|declared| declared.to_string());
    if declared.is_some_and(|declared| declared != format!("{algorithm:?}")) {
        return None;
    }
    let key = DecodingKey::from_jwk(&jwk).ok()?;
    Some((kid, Arc::new(VerifyingKey { key, algorithm, owner })))
}
