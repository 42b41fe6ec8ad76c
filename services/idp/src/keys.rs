//! The signing keys: made, published ahead, used, and dropped once nothing that they signed is good any more.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use aws_lc_rs::encoding::{AsDer as _, Pkcs8V1Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _, RSA_PKCS1_SHA256, RsaKeyPair,
};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use jsonwebtoken::{Algorithm, DecodingKey};
use kombify_core::{Error, Result};
use serde_json::{Value, json};

use crate::secret;
use crate::store::Store;

/// How many keys are published at once at most: a JWKS is read whole by everybody.
pub(crate) const PUBLISHED_MAX: usize = 5;

/// How long a key stays published after the last token that it signed has expired: twice the skew that verifiers allow.
const AFTERWARDS: Duration = Duration::from_mins(2);

/// What a key signs with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Alg {
    /// RSA of 2048 bits: Zitadel's own.
    Rs256,
    /// P-256.
    Es256,
    /// Ed25519.
    EdDsa,
}

impl Alg {
    pub(crate) const ALL: [Self; 3] = [Self::Rs256, Self::Es256, Self::EdDsa];

    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Rs256 => "RS256",
            Self::Es256 => "ES256",
            Self::EdDsa => "EdDSA",
        }
    }

    pub(crate) fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|alg| alg.as_str() == text)
    }

    pub(crate) const fn algorithm(self) -> Algorithm {
        match self {
            Self::Rs256 => Algorithm::RS256,
            Self::Es256 => Algorithm::ES256,
            Self::EdDsa => Algorithm::EdDSA,
        }
    }
}

/// A key as it is kept.
#[derive(Clone)]
pub(crate) struct KeyRow {
    pub(crate) kid: String,
    pub(crate) alg: Alg,
    pub(crate) pkcs8: Vec<u8>,
    /// Published before, signs from then on, until the next one does.
    pub(crate) signs_time: Timestamp,
}

/// The rows that are published at `now`, in the order in which they sign. A key is published from its making until
/// `grace` after the next one took over.
pub(crate) fn published(mut rows: Vec<KeyRow>, now: Timestamp, grace: Duration) -> Vec<KeyRow> {
    rows.sort_by_key(|row| row.signs_time);
    let takeovers: Vec<_> = rows.iter().skip(1).map(|next| Some(next.signs_time)).chain([None]).collect();
    rows.into_iter()
        .zip(takeovers)
        .filter(|(_, takeover)| takeover.is_none_or(|takeover| now < takeover + grace))
        .map(|(row, _)| row)
        .collect()
}

/// A key that is ready to sign and to verify.
pub(crate) struct SigningKey {
    /// Its thumbprint (RFC 7638).
    pub(crate) kid: String,
    pub(crate) alg: Alg,
    /// What the JWKS says of it: public parts only.
    pub(crate) jwk: Value,
    pub(crate) decoding: DecodingKey,
    pair: Pair,
}

enum Pair {
    Rsa(RsaKeyPair),
    Ec(EcdsaKeyPair),
    Ed(Ed25519KeyPair),
}

impl SigningKey {
    /// Makes a key, as PKCS#8. RSA takes a while.
    fn generate(alg: Alg) -> Result<Vec<u8>> {
        let pkcs8 = match alg {
            Alg::Rs256 => {
                let pair = RsaKeyPair::generate(KeySize::Rsa2048).map_err(Error::internal)?;
                let der: Pkcs8V1Der<'_> = pair.as_der().map_err(Error::internal)?;
                der.as_ref().to_vec()
            }
            Alg::Es256 => EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING)
                .and_then(|pair| pair.to_pkcs8v1())
                .map_err(Error::internal)?
                .as_ref()
                .to_vec(),
            Alg::EdDsa => Ed25519KeyPair::generate()
                .and_then(|pair| pair.to_pkcs8v1())
                .map_err(Error::internal)?
                .as_ref()
                .to_vec(),
        };
        Ok(pkcs8)
    }

    fn parse(alg: Alg, pkcs8: &[u8]) -> Result<Self> {
        let text = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        let (pair, decoding, mut jwk, thumbprint) = match alg {
            Alg::Rs256 => {
                let pair = RsaKeyPair::from_pkcs8(pkcs8).map_err(Error::internal)?;
                let n = text(pair.public_key().modulus().big_endian_without_leading_zero());
                let e = text(pair.public_key().exponent().big_endian_without_leading_zero());
                let decoding = DecodingKey::from_rsa_components(&n, &e);
                let thumbprint = format!(r#"{{"e":"{e}","kty":"RSA","n":"{n}"}}"#);
                (Pair::Rsa(pair), decoding, json!({"kty": "RSA", "n": n, "e": e}), thumbprint)
            }
            Alg::Es256 => {
                let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8)
                    .map_err(Error::internal)?;
                // An uncompressed point: 4, then x and y of 32 bytes each.
                let Some((x, y)) =
                    pair.public_key().as_ref().get(1..).and_then(|point| point.split_at_checked(32))
                else {
                    return Err(Error::internal("a P-256 key has no point"));
                };
                let (x, y) = (text(x), text(y));
                let decoding = DecodingKey::from_ec_components(&x, &y);
                let thumbprint = format!(r#"{{"crv":"P-256","kty":"EC","x":"{x}","y":"{y}"}}"#);
                (Pair::Ec(pair), decoding, json!({"kty": "EC", "crv": "P-256", "x": x, "y": y}), thumbprint)
            }
            Alg::EdDsa => {
                let pair = Ed25519KeyPair::from_pkcs8(pkcs8).map_err(Error::internal)?;
                let x = text(pair.public_key().as_ref());
                let decoding = DecodingKey::from_ed_components(&x);
                let thumbprint = format!(r#"{{"crv":"Ed25519","kty":"OKP","x":"{x}"}}"#);
                (Pair::Ed(pair), decoding, json!({"kty": "OKP", "crv": "Ed25519", "x": x}), thumbprint)
            }
        };
        let kid = text(&secret::hash(&thumbprint));
        jwk["kid"] = kid.as_str().into();
        jwk["use"] = "sig".into();
        jwk["alg"] = alg.as_str().into();
        Ok(Self { kid, alg, jwk, decoding: decoding.map_err(Error::internal)?, pair })
    }

    /// The signature of `message`, in the form of JWS.
    pub(crate) fn sign(&self, message: &[u8]) -> Result<Vec<u8>> {
        match &self.pair {
            Pair::Rsa(pair) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), message, &mut signature)
                    .map_err(Error::internal)?;
                Ok(signature)
            }
            Pair::Ec(pair) => {
                let signature = pair.sign(&SystemRandom::new(), message).map_err(Error::internal)?;
                Ok(signature.as_ref().to_vec())
            }
            Pair::Ed(pair) => Ok(pair.sign(message).as_ref().to_vec()),
        }
    }
}

/// A new key, to sign from `signs_time` on.
pub(crate) async fn generate(alg: Alg, signs_time: Timestamp) -> Result<KeyRow> {
    let making = tokio::task::spawn_blocking(move || -> Result<KeyRow> {
        let pkcs8 = SigningKey::generate(alg)?;
        let kid = SigningKey::parse(alg, &pkcs8)?.kid;
        Ok(KeyRow { kid, alg, pkcs8, signs_time })
    });
    making.await.map_err(Error::internal)?
}

/// The keys that are published at one moment.
pub(crate) struct Ring {
    /// In the order in which they sign.
    keys: Vec<(Arc<SigningKey>, Timestamp)>,
}

impl Ring {
    /// The key that signs at `now`.
    pub(crate) fn current(&self, now: Timestamp) -> Result<&SigningKey> {
        let signing = self.keys.iter().rev().find(|(_, signs_time)| *signs_time <= now);
        let (key, _) =
            signing.or(self.keys.first()).ok_or_else(|| Error::internal("there is no signing key"))?;
        Ok(key)
    }

    pub(crate) fn find(&self, kid: &str) -> Option<&SigningKey> {
        self.keys.iter().find(|(key, _)| key.kid == kid).map(|(key, _)| &**key)
    }

    pub(crate) fn jwks(&self) -> Value {
        json!({"keys": self.keys.iter().map(|(key, _)| &key.jwk).collect::<Vec<_>>()})
    }
}

/// The keys: the rows say which and when, the parsed ones are kept beside.
pub(crate) struct Keys {
    grace: Duration,
    parsed: Mutex<HashMap<String, Arc<SigningKey>>>,
}

impl Keys {
    /// Keys whose access tokens, and ID tokens, are good for `token_lifetime` each.
    pub(crate) fn new(token_lifetime: Duration) -> Self {
        Self { grace: token_lifetime * 2 + AFTERWARDS, parsed: Mutex::default() }
    }

    /// The keys that are published at `now`; makes the first one.
    pub(crate) async fn ring(&self, store: &Store, now: Timestamp) -> Result<Ring> {
        let mut rows = store.keys().await?;
        if rows.is_empty() {
            store.add_first_key(generate(Alg::Rs256, now).await?).await?;
            rows = store.keys().await?;
        }
        let mut parsed = self.parsed.lock().unwrap_or_else(PoisonError::into_inner);
        parsed.retain(|kid, _| rows.iter().any(|row| row.kid == *kid));
        let mut keys = Vec::new();
        for row in published(rows, now, self.grace) {
            let key = match parsed.get(&row.kid) {
                Some(key) => Arc::clone(key),
                None => Arc::new(SigningKey::parse(row.alg, &row.pkcs8)?),
            };
            parsed.insert(row.kid, Arc::clone(&key));
            keys.push((key, row.signs_time));
        }
        Ok(Ring { keys })
    }

    /// Publishes a new key that signs from `now + ahead` on.
    ///
    /// # Errors
    /// - [`Error::Conflict`] if [`PUBLISHED_MAX`] keys are published already.
    pub(crate) async fn rotate(
        &self,
        store: &Store,
        alg: Alg,
        now: Timestamp,
        ahead: Duration,
    ) -> Result<KeyRow> {
        let key = generate(alg, now + ahead).await?;
        store.rotate(key.clone(), now, self.grace).await?;
        Ok(key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(kid: &str, signs: u64) -> KeyRow {
        let signs_time = Timestamp::UNIX_EPOCH + Duration::from_secs(signs);
        KeyRow { kid: kid.into(), alg: Alg::EdDsa, pkcs8: Vec::new(), signs_time }
    }

    #[test]
    fn a_key_is_published_from_its_making_until_its_tokens_are_gone() {
        let rows = vec![row("a", 0), row("b", 1000), row("c", 1100)];
        for (now, kids) in [(0, "abc"), (1000, "abc"), (1299, "abc"), (1300, "bc"), (1400, "c"), (9000, "c")]
        {
            let now = Timestamp::UNIX_EPOCH + Duration::from_secs(now);
            let published = published(rows.clone(), now, Duration::from_mins(5));
            assert_eq!(published.iter().map(|row| row.kid.as_str()).collect::<String>(), kids);
        }
        let late_first = published(vec![row("b", 50), row("a", 20)], Timestamp::UNIX_EPOCH, Duration::ZERO);
        assert_eq!(late_first[0].kid, "a");
    }

    #[test]
    fn a_key_of_each_kind_is_read_as_it_was_made_and_shows_its_public_parts_only() {
        for alg in Alg::ALL {
            assert_eq!(Alg::parse(alg.as_str()), Some(alg));
            let pkcs8 = SigningKey::generate(alg).unwrap();
            let key = SigningKey::parse(alg, &pkcs8).unwrap();
            assert_eq!(key.kid, SigningKey::parse(alg, &pkcs8).unwrap().kid);
            for private in ["d", "p", "q", "dp", "dq", "qi"] {
                assert!(key.jwk.get(private).is_none());
            }
            let jwk: jsonwebtoken::jwk::Jwk = serde_json::from_value(key.jwk.clone()).unwrap();
            assert_eq!(jwk.thumbprint(jsonwebtoken::jwk::ThumbprintHash::SHA256).unwrap(), key.kid);
            assert!(key.sign(b"message").unwrap().len() >= 64);
        }
        assert_eq!(Alg::parse("HS256"), None);
    }
}
