//! Verifies what a caller holds: users' access tokens and modules' service tokens.

use std::sync::Arc;

use aws_lc_rs::digest;
use jiff::Timestamp;
use jsonwebtoken::Validation;
use kombify_core::{Clock, Error, Result, ServiceIdentity, UserIdentity};
use quick_cache::sync::Cache;
use serde_json::{Map, Value};

use super::claims::ClaimNames;
use super::keys::KeySet;
use super::service_token::LIFETIME_SECONDS;

/// How far clocks may differ, in seconds. Source: contract C2.
pub const CLOCK_SKEW_SECONDS: i64 = 60;

/// How many verified tokens are remembered at most.
const REMEMBERED_TOKENS: usize = 10_000;

/// How long a token may be.
const MAX_TOKEN_BYTES: usize = 8 * 1024;

/// The issuer of service tokens.
pub const MESH_ISSUER: &str = "kombify-mesh";

/// What a bearer token turned out to be.
#[derive(Clone, Debug)]
pub enum Verified {
    /// A user's access token.
    User(Arc<UserIdentity>),
    /// A module's service token.
    Service(Arc<ServiceIdentity>),
}

/// Which tokens are good here.
pub struct Accepts {
    /// The `iss` of users' tokens.
    pub issuer: String,
    /// The `aud` of users' tokens.
    pub audience: String,
    /// How claims are called.
    pub claims: ClaimNames,
    /// The `aud` of service tokens: "service:" and this module.
    pub service_audience: String,
}

/// A token that was verified: remembered until it expires or its key is dropped, and never in the time of grace after.
#[derive(Clone)]
struct Remembered {
    verified: Verified,
    kid: String,
    expires: Timestamp,
}

/// Verifies tokens.
pub struct Verifier {
    accepts: Accepts,
    issuer_keys: Arc<KeySet>,
    mesh_keys: Arc<KeySet>,
    remembered: Cache<[u8; 32], Remembered>,
    clock: Arc<dyn Clock>,
}

impl Verifier {
    /// A verifier of users' tokens by the issuer's keys, and of service tokens by the mesh's.
    pub fn new(
        accepts: Accepts,
        issuer_keys: Arc<KeySet>,
        mesh_keys: Arc<KeySet>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self { accepts, issuer_keys, mesh_keys, remembered: Cache::new(REMEMBERED_TOKENS), clock }
    }

    /// What `token` says, if it is good here and now.
    ///
    /// # Errors
    /// - [`Error::AuthInvalid`] if it is not.
    /// - [`Error::Unavailable`] if there are no keys to verify it by.
    pub async fn verify(&self, token: &str) -> Result<Verified> {
        if token.len() > MAX_TOKEN_BYTES {
            return Err(Error::AuthInvalid("it is too long"));
        }
        let hash: [u8; 32] = digest::digest(&digest::SHA256, token.as_bytes())
            .as_ref()
            .try_into()
            .map_err(|_| Error::internal("SHA-256 has 32 bytes"))?;
        let now = self.clock.now();
        if let Some(found) = self.remembered.get(&hash) {
            if now < found.expires && self.keys_of(&found.verified).known(&found.kid).is_some() {
                return Ok(found.verified);
            }
            self.remembered.remove(&hash);
        }
        let remembered = self.verify_anew(token, now).await?;
        let verified = remembered.verified.clone();
        if now < remembered.expires {
            self.remembered.insert(hash, remembered);
        }
        Ok(verified)
    }

    fn keys_of(&self, verified: &Verified) -> &KeySet {
        match verified {
            Verified::User(_) => &self.issuer_keys,
            Verified::Service(_) => &self.mesh_keys,
        }
    }

    async fn verify_anew(&self, token: &str, now: Timestamp) -> Result<Remembered> {
        let header =
            jsonwebtoken::decode_header(token).map_err(|_| Error::AuthInvalid("it is not a signed JWT"))?;
        if header.crit.is_some() {
            return Err(Error::AuthInvalid("it has extensions that nobody here understands")); // RFC 7515, 4.1.11.
        }
        let kid = header.kid.ok_or(Error::AuthInvalid("it names no key"))?;
        // The issuer decides which keys are asked; whether it really issued the token, the signature tells.
        let claimed: Map<String, Value> = jsonwebtoken::dangerous::insecure_decode_claims(token)
            .map_err(|_| Error::AuthInvalid("its claims cannot be read"))?;
        let from_mesh = claimed.get("iss").and_then(Value::as_str) == Some(MESH_ISSUER);
        let (keys, issuer, audience) = if from_mesh {
            (&self.mesh_keys, MESH_ISSUER, &self.accepts.service_audience)
        } else {
            (&self.issuer_keys, self.accepts.issuer.as_str(), &self.accepts.audience)
        };
        if !from_mesh && claimed.get("iss").and_then(Value::as_str) != Some(issuer) {
            return Err(Error::AuthInvalid("its issuer is not ours"));
        }
        let key = keys.get(&kid).await?;
        let mut validation = Validation::new(key.algorithm);
        validation.set_issuer(&[issuer]);
        validation.set_audience(&[audience]);
        validation.set_required_spec_claims(&["iss", "aud", "sub", "exp"]);
        // Times are held against the process's own clock, below.
        validation.validate_exp = false;
        let claims = jsonwebtoken::decode::<Map<String, Value>>(token, &key.key, &validation)
            .map_err(|cause| Error::AuthInvalid(reason(&cause)))?
            .claims;
        let expires = check_times(&claims, now)?;
        let verified = if from_mesh {
            check_lifetime(&claims)?;
            let sub = claims.get("sub").and_then(Value::as_str).unwrap_or_default();
            let service = sub.parse().map_err(|_| Error::AuthInvalid("its subject is not a service"))?;
            if key.owner.as_ref() != Some(&service) {
                return Err(Error::AuthInvalid("its key belongs to another service"));
            }
            Verified::Service(Arc::new(service))
        } else {
            Verified::User(Arc::new(self.accepts.claims.read(&claims)?))
        };
        Ok(Remembered { verified, kid, expires })
    }
}

/// When a token with these times expires, which is good now: clocks may differ by [`CLOCK_SKEW_SECONDS`].
fn check_times(claims: &Map<String, Value>, now: Timestamp) -> Result<Timestamp> {
    let at = |name: &str| claims.get(name).and_then(Value::as_f64);
    #[expect(clippy::cast_precision_loss, reason = "seconds since 1970 fit")]
    let now = now.as_second() as f64;
    #[expect(clippy::cast_precision_loss, reason = "a minute fits")]
    let skew = CLOCK_SKEW_SECONDS as f64;
    let expires = at("exp").ok_or(Error::AuthInvalid("its expiry is missing"))?;
    if now >= expires + skew {
        return Err(Error::AuthInvalid("it has expired"));
    }
    if at("nbf").is_some_and(|begins| begins > now + skew)
        || at("iat").is_some_and(|issued| issued > now + skew)
    {
        return Err(Error::AuthInvalid("it is not good yet"));
    }
    #[expect(clippy::cast_possible_truncation, reason = "seconds since 1970 fit")]
    let expires = expires as i64;
    Timestamp::from_second(expires).map_err(|_| Error::AuthInvalid("its expiry is no time"))
}

/// A service token lives for a minute at most, whoever signed it for longer. Source: contract C2.
fn check_lifetime(claims: &Map<String, Value>) -> Result<()> {
    let at = |name: &str| claims.get(name).and_then(Value::as_i64);
    match (at("iat"), at("exp")) {
        (Some(issued), Some(expires)) if expires - issued <= LIFETIME_SECONDS => Ok(()),
        _ => Err(Error::AuthInvalid("a service token is good for a minute only")),
    }
}

#[expect(clippy::wildcard_enum_match_arm, reason = "another crate's, and open")]
fn reason(cause: &jsonwebtoken::errors::Error) -> &'static str {
    use jsonwebtoken::errors::ErrorKind;
    match cause.kind() {
        ErrorKind::InvalidAudience => "its audience is another",
        ErrorKind::InvalidIssuer => "its issuer is not ours",
        ErrorKind::InvalidAlgorithm => "its algorithm is not its key's",
        ErrorKind::MissingRequiredClaim(_) => "a claim is missing",
        _ => "its signature does not hold",
    }
}
