//! Tokens for the tests: keys of each kind, where they are published, and a module that verifies by them.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use aws_lc_rs::hmac;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _, RSA_PKCS1_SHA256, RsaKeyPair,
};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::Response;
use kombify_core::directory::{Directory, Standing, TokenOnly};
use kombify_core::{Clock as _, Error, Result, ServiceIdentity, UserIdentity};
use kombify_mesh::identity::claims::ClaimNames;
use kombify_mesh::identity::keys::{Intervals, KeySet, KeySource, PublishedKey};
use kombify_mesh::identity::verifier::{Accepts, MESH_ISSUER, Verifier};
use kombify_mesh::identity::{Identify, Sessions};
use serde_json::{Value, json};
use tonic::body::Body;

use crate::support::{GET_USER, Manual, Stub, request, send, service, with};

pub(crate) const ISSUER: &str = "https://issuer.example";
pub(crate) const AUDIENCE: &str = "kombify";

enum Pair {
    Rsa(RsaKeyPair),
    Ec(EcdsaKeyPair),
    Ed(Ed25519KeyPair),
}

/// A key that signs tokens.
pub(crate) struct Key {
    pub(crate) kid: String,
    pub(crate) alg: &'static str,
    /// What a JWKS says of it.
    pub(crate) jwk: Value,
    /// Its public half, as a verifier holds it.
    pub(crate) public: Vec<u8>,
    pair: Pair,
}

impl Key {
    pub(crate) fn rs256(kid: &str) -> Self {
        let pair = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
        let n = base64(pair.public_key().modulus().big_endian_without_leading_zero());
        let e = base64(pair.public_key().exponent().big_endian_without_leading_zero());
        let public = pair.public_key().as_ref().to_vec();
        Self::of(kid, "RS256", json!({"kty": "RSA", "n": n, "e": e}), public, Pair::Rsa(pair))
    }

    pub(crate) fn es256(kid: &str) -> Self {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
        let public = pair.public_key().as_ref().to_vec();
        let (x, y) = public[1..].split_at(32); // An uncompressed point: 4, then x and y.
        let jwk = json!({"kty": "EC", "crv": "P-256", "x": base64(x), "y": base64(y)});
        Self::of(kid, "ES256", jwk, public, Pair::Ec(pair))
    }

    pub(crate) fn ed(kid: &str) -> Self {
        let pair = Ed25519KeyPair::generate().unwrap();
        let public = pair.public_key().as_ref().to_vec();
        let jwk = json!({"kty": "OKP", "crv": "Ed25519", "x": base64(&public)});
        Self::of(kid, "EdDSA", jwk, public, Pair::Ed(pair))
    }

    fn of(kid: &str, alg: &'static str, mut jwk: Value, public: Vec<u8>, pair: Pair) -> Self {
        jwk["kid"] = kid.into();
        jwk["alg"] = alg.into();
        jwk["use"] = "sig".into();
        Self { kid: kid.to_owned(), alg, jwk, public, pair }
    }

    fn sign(&self, message: &[u8]) -> Vec<u8> {
        match &self.pair {
            Pair::Rsa(pair) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), message, &mut signature).unwrap();
                signature
            }
            Pair::Ec(pair) => pair.sign(&SystemRandom::new(), message).unwrap().as_ref().to_vec(),
            Pair::Ed(pair) => pair.sign(message).as_ref().to_vec(),
        }
    }

    /// The header of the key's tokens.
    pub(crate) fn header(&self) -> Value {
        json!({"alg": self.alg, "typ": "JWT", "kid": self.kid})
    }

    /// A token that says `claims`.
    pub(crate) fn token(&self, claims: &Value) -> String {
        self.token_with(&self.header(), claims)
    }

    /// A token with a header of its own.
    pub(crate) fn token_with(&self, header: &Value, claims: &Value) -> String {
        let text = unsigned(header, claims);
        format!("{text}.{}", base64(&self.sign(text.as_bytes())))
    }
}

/// The part of a token that is signed.
pub(crate) fn unsigned(header: &Value, claims: &Value) -> String {
    format!("{}.{}", base64(header.to_string().as_bytes()), base64(claims.to_string().as_bytes()))
}

/// A token whose signature is the HMAC by `secret`.
pub(crate) fn hmac_token(header: &Value, claims: &Value, secret: &[u8]) -> String {
    let text = unsigned(header, claims);
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), text.as_bytes());
    format!("{text}.{}", base64(tag.as_ref()))
}

pub(crate) fn base64(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// The claims with one of them changed.
pub(crate) fn changed(mut claims: Value, name: &str, value: Value) -> Value {
    claims[name] = value;
    claims
}

/// The claims without one of them.
pub(crate) fn without(mut claims: Value, name: &str) -> Value {
    claims.as_object_mut().unwrap().remove(name).unwrap();
    claims
}

#[derive(Default)]
struct Published {
    keys: Mutex<Vec<(Value, Option<ServiceIdentity>)>>,
    fails: AtomicBool,
    fetches: AtomicUsize,
}

/// Where keys are published. They can be swapped, it can fail, and it counts how often it is asked.
#[derive(Clone, Default)]
pub(crate) struct Source(Arc<Published>);

impl Source {
    /// Publishes these keys, and no others.
    pub(crate) fn publish(&self, keys: &[&Key]) {
        self.publish_all(keys.iter().map(|key| (key.jwk.clone(), None)).collect());
    }

    /// Publishes these keys of these services, and no others.
    pub(crate) fn publish_of(&self, keys: &[(&Key, &str)]) {
        self.publish_all(keys.iter().map(|(key, owner)| (key.jwk.clone(), Some(service(owner)))).collect());
    }

    /// Publishes these keys, and no others.
    pub(crate) fn publish_all(&self, keys: Vec<(Value, Option<ServiceIdentity>)>) {
        *self.0.keys.lock().unwrap() = keys;
    }

    pub(crate) fn fail(&self, fails: bool) {
        self.0.fails.store(fails, Ordering::Relaxed);
    }

    /// How often it was asked.
    pub(crate) fn fetches(&self) -> usize {
        self.0.fetches.load(Ordering::Relaxed)
    }
}

#[async_trait]
impl KeySource for Source {
    async fn fetch(&self) -> Result<Vec<PublishedKey>> {
        self.0.fetches.fetch_add(1, Ordering::Relaxed);
        tokio::task::yield_now().await; // Whoever asks at the same time gets the chance to.
        if self.0.fails.load(Ordering::Relaxed) {
            return Err(Error::unavailable("the source is away", Duration::from_secs(1)));
        }
        let keys = self.0.keys.lock().unwrap();
        let published = |(jwk, owner): &(Value, Option<ServiceIdentity>)| PublishedKey {
            jwk: serde_json::from_value(jwk.clone()).unwrap(),
            owner: owner.clone(),
        };
        Ok(keys.iter().map(published).collect())
    }
}

/// A directory that says the same of everybody; `None`: it is away.
pub(crate) struct Known(pub(crate) Option<Standing>);

#[async_trait]
impl Directory for Known {
    async fn standing(&self, _user: &UserIdentity) -> Result<Standing> {
        self.0.clone().ok_or_else(|| Error::unavailable("the directory is away", Duration::from_secs(1)))
    }

    fn knows_memberships(&self) -> bool {
        true
    }
}

/// The module `admin`, which verifies: an issuer with one key, a mesh with a key for `cloud` and one for `stack`.
pub(crate) struct House {
    pub(crate) clock: Arc<Manual>,
    pub(crate) key: Key,
    pub(crate) cloud: Key,
    pub(crate) stack: Key,
    pub(crate) issuer: Source,
    pub(crate) mesh: Source,
    pub(crate) issuer_keys: Arc<KeySet>,
    pub(crate) mesh_keys: Arc<KeySet>,
    pub(crate) verifier: Arc<Verifier>,
    pub(crate) directory: Arc<dyn Directory>,
    pub(crate) sessions: Option<Arc<dyn Sessions>>,
}

impl House {
    pub(crate) fn new() -> Self {
        let clock = Manual::new();
        let (key, cloud, stack) = (Key::ed("issuer-1"), Key::ed("cloud-1"), Key::ed("stack-1"));
        let (issuer, mesh) = (Source::default(), Source::default());
        issuer.publish(&[&key]);
        mesh.publish_of(&[(&cloud, "cloud"), (&stack, "stack")]);
        let issuer_keys = Arc::new(KeySet::new(issuer.clone(), Intervals::default()));
        let mesh_keys = Arc::new(KeySet::new(mesh.clone(), Intervals::default()));
        let accepts = Accepts {
            issuer: ISSUER.to_owned(),
            audience: AUDIENCE.to_owned(),
            claims: ClaimNames::default(),
            service_audience: "service:admin".to_owned(),
        };
        let verifier =
            Arc::new(Verifier::new(accepts, Arc::clone(&issuer_keys), Arc::clone(&mesh_keys), clock.clone()));
        let directory: Arc<dyn Directory> = Arc::new(TokenOnly);
        Self {
            sessions: None,
            clock,
            key,
            cloud,
            stack,
            issuer,
            mesh,
            issuer_keys,
            mesh_keys,
            verifier,
            directory,
        }
    }

    pub(crate) fn identify(&self) -> Identify {
        Identify {
            verifier: Arc::clone(&self.verifier),
            directory: Arc::clone(&self.directory),
            sessions: self.sessions.clone(),
        }
    }

    /// The present second.
    pub(crate) fn now(&self) -> i64 {
        self.clock.now().as_second()
    }

    /// What the issuer says of Ada.
    pub(crate) fn claims(&self) -> Value {
        let now = self.now();
        json!({"iss": ISSUER, "sub": "ada", "aud": AUDIENCE, "iat": now, "exp": now + 900})
    }

    /// Ada's token.
    pub(crate) fn token(&self) -> String {
        self.key.token(&self.claims())
    }

    /// What the module `module` says of itself.
    pub(crate) fn service_claims(&self, module: &str) -> Value {
        let now = self.now();
        json!({
            "iss": MESH_ISSUER,
            "sub": service(module).to_string(),
            "aud": "service:admin",
            "iat": now,
            "exp": now + 60,
        })
    }

    /// Cloud's token.
    pub(crate) fn service_token(&self) -> String {
        self.cloud.token(&self.service_claims("cloud"))
    }

    /// Calls a method with these headers through the identity room.
    pub(crate) async fn call(&self, headers: &[(&'static str, &str)]) -> (Response<Body>, Stub) {
        let stub = Stub::ok();
        let request =
            headers.iter().fold(request(GET_USER), |request, &(name, value)| with(request, name, value));
        (send(self.identify(), &stub, request).await, stub)
    }
}
