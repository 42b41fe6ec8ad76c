//! Service tokens: how a module of the mesh shows who it is. Source: contract C2.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use jsonwebtoken::jwk::{Jwk, ThumbprintHash};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use kombify_core::mesh_key::MeshKey;
use kombify_core::{Clock, Error, Ids, Result, ServiceIdentity};
use serde_json::json;

use super::keys::PublishedKey;
use super::verifier::MESH_ISSUER;

/// How long a service token is good, in seconds.
pub const LIFETIME_SECONDS: i64 = 60;

/// How long a token must still be good to be used again, in seconds.
const REUSE_SECONDS: i64 = 20;

/// The key with which one instance of a module signs.
pub struct Signer {
    service: ServiceIdentity,
    pair: Ed25519KeyPair,
    encoding: EncodingKey,
    kid: String,
    clock: Arc<dyn Clock>,
    last: Mutex<Vec<(String, String, Timestamp)>>,
}

impl Signer {
    /// The signer whose private key is in `path` (PKCS#8, mode 0600); it is made there if there is none.
    ///
    /// # Errors
    /// - [`Error::Internal`] if the file cannot be read, made, or is no key.
    pub fn open(path: &Path, service: ServiceIdentity, clock: Arc<dyn Clock>) -> Result<Self> {
        if !path.exists() {
            let made =
                Ed25519KeyPair::generate().map_err(|_| Error::internal("no Ed25519 key could be made"))?;
            let pkcs8 = made.to_pkcs8v1().map_err(|_| Error::internal("no Ed25519 key could be written"))?;
            crate::config::write_secret(path, pkcs8.as_ref()).map_err(Error::internal)?;
        }
        let pkcs8 =
            std::fs::read(path).map_err(|cause| Error::internal(format!("{}: {cause}", path.display())))?;
        Self::of(&pkcs8, service, clock)
    }

    /// The signer with that private key (PKCS#8).
    ///
    /// # Errors
    /// - [`Error::Internal`] if it is no Ed25519 key.
    pub fn of(pkcs8: &[u8], service: ServiceIdentity, clock: Arc<dyn Clock>) -> Result<Self> {
        let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(pkcs8)
            .map_err(|_| Error::internal("the mesh key is not an Ed25519 key in PKCS#8"))?;
        let kid = key_id(&URL_SAFE_NO_PAD.encode(pair.public_key()))?;
        let encoding = EncodingKey::from_ed_der(pkcs8);
        Ok(Self { service, pair, encoding, kid, clock, last: Mutex::default() })
    }

    /// Who signs.
    pub fn service(&self) -> &ServiceIdentity {
        &self.service
    }

    /// The public half, as it is registered at Admin.
    pub fn public(&self) -> MeshKey {
        let public_key = URL_SAFE_NO_PAD.encode(self.pair.public_key());
        MeshKey { kid: self.kid.clone(), service: self.service.clone(), public_key }
    }

    /// A token for the module that accepts `audience`, for example "service:admin".
    ///
    /// # Errors
    /// - [`Error::Internal`] if signing fails.
    pub fn token(&self, audience: &str) -> Result<String> {
        let now = self.clock.now();
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        last.retain(|(_, _, expires)| expires.as_second() - now.as_second() > REUSE_SECONDS);
        if let Some((_, token, _)) = last.iter().find(|(known, ..)| known == audience) {
            return Ok(token.clone());
        }
        let header = Header { kid: Some(self.kid.clone()), ..Header::new(Algorithm::EdDSA) };
        let expires = now.as_second() + LIFETIME_SECONDS;
        let claims = json!({
            "iss": MESH_ISSUER,
            "sub": self.service.to_string(),
            "aud": audience,
            "iat": now.as_second(),
            "exp": expires,
        });
        let token = jsonwebtoken::encode(&header, &claims, &self.encoding).map_err(Error::internal)?;
        let expires = Timestamp::from_second(expires).map_err(Error::internal)?;
        last.push((audience.to_owned(), token.clone(), expires));
        Ok(token)
    }

    /// The signature that proves, at registration, that the signer holds the key `public_key` replaces or is.
    pub fn prove(&self, service: &ServiceIdentity, public_key: &str) -> String {
        URL_SAFE_NO_PAD.encode(self.pair.sign(proof_text(service, public_key).as_bytes()))
    }
}

/// Whether `proof` is the signature of the registration of `public_key` by the key `by`.
pub fn proof_holds(by: &str, proof: &str, service: &ServiceIdentity, public_key: &str) -> bool {
    let (Ok(by), Ok(proof)) = (URL_SAFE_NO_PAD.decode(by), URL_SAFE_NO_PAD.decode(proof)) else {
        return false;
    };
    let text = proof_text(service, public_key);
    UnparsedPublicKey::new(&ED25519, by).verify(text.as_bytes(), &proof).is_ok()
}

fn proof_text(service: &ServiceIdentity, public_key: &str) -> String {
    format!("kombify-mesh-key:{}/{}:{public_key}", service.module, service.instance)
}

/// The id of an Ed25519 public key: its thumbprint (RFC 7638).
///
/// # Errors
/// - [`Error::Invalid`] if it is not the base64url of 32 bytes.
pub fn key_id(public_key: &str) -> Result<String> {
    let wrong = || Error::invalid("publicKey", "must be 32 bytes as base64url without padding");
    if URL_SAFE_NO_PAD.decode(public_key).map_err(|_| wrong())?.len() != 32 {
        return Err(wrong());
    }
    jwk(public_key, None)?.thumbprint(ThumbprintHash::SHA256).map_err(Error::internal)
}

/// A registered key, as the mesh's JWKS publishes it.
///
/// # Errors
/// - [`Error::Internal`] if it is no key.
pub fn published(key: MeshKey) -> Result<PublishedKey> {
    Ok(PublishedKey { jwk: jwk(&key.public_key, Some(&key.kid))?, owner: Some(key.service) })
}

fn jwk(public_key: &str, kid: Option<&str>) -> Result<Jwk> {
    let mut jwk = json!({"kty": "OKP", "crv": "Ed25519", "x": public_key, "use": "sig", "alg": "EdDSA"});
    if let Some(kid) = kid {
        jwk["kid"] = kid.into();
    }
    serde_json::from_value(jwk).map_err(Error::internal)
}

/// A key that is made for one test or one process, and never written.
///
/// # Errors
/// - [`Error::Internal`] if there is no randomness.
pub fn ephemeral(service: ServiceIdentity, clock: Arc<dyn Clock>, ids: &dyn Ids) -> Result<Signer> {
    let mut seed = [0; 32];
    ids.fill(&mut seed);
    let pair = Ed25519KeyPair::from_seed_unchecked(&seed).map_err(|_| Error::internal("no Ed25519 key"))?;
    let pkcs8 = pair.to_pkcs8v1().map_err(|_| Error::internal("no Ed25519 key"))?;
    Signer::of(pkcs8.as_ref(), service, clock)
}
