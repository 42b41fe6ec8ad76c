//! The issuer's keys, and one user's tokens by each of them.

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _, RSA_PKCS1_SHA256, RsaKeyPair};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use kombify_core::Clock as _;
use kombify_mesh::system::SystemClock;
use serde_json::{Value, json};

use crate::Fault;

/// Who has issued the tokens.
pub(crate) const ISSUER: &str = "http://localhost:8083";
/// For whom the tokens are.
pub(crate) const AUDIENCE: &str = "kombify";
/// Of whom the tokens speak.
pub(crate) const SUB: &str = "590319223485166500";

/// How long the tokens are good, in seconds: longer than the bench.
const LIFETIME_SECONDS: i64 = 3600;

/// Makes tokens.
pub(crate) struct Mint {
    rsa: RsaKeyPair,
    ed: Ed25519KeyPair,
}

impl Mint {
    pub(crate) fn make() -> Result<Self, Fault> {
        Ok(Self { rsa: RsaKeyPair::generate(KeySize::Rsa2048)?, ed: Ed25519KeyPair::generate()? })
    }

    /// The public keys, as a JWKS has them.
    pub(crate) fn published(&self) -> Vec<Value> {
        let rsa = self.rsa.public_key();
        let n = text(rsa.modulus().big_endian_without_leading_zero());
        let e = text(rsa.exponent().big_endian_without_leading_zero());
        let x = text(self.ed.public_key().as_ref());
        vec![
            json!({"kty": "RSA", "n": n, "e": e, "kid": "rsa", "use": "sig", "alg": "RS256"}),
            json!({"kty": "OKP", "crv": "Ed25519", "x": x, "kid": "ed", "use": "sig", "alg": "EdDSA"}),
        ]
    }

    /// The user's tokens, by RS256 and by `EdDSA`: the streams take them in turn.
    pub(crate) fn tokens(&self) -> Result<[String; 2], Fault> {
        let now = SystemClock.now().as_second();
        let claims = json!({
            "iss": ISSUER, "aud": [AUDIENCE], "sub": SUB, "iat": now, "exp": now + LIFETIME_SECONDS,
            "email": "alice@example.com", "email_verified": true, "name": "Alice Example",
            "urn:zitadel:iam:user:resourceowner:id": "310000000000000001",
            "urn:zitadel:iam:org:project:roles": {"user": {"310000000000000001": "example.com"}},
        });
        let signed = |alg: &str, kid: &str| {
            let header = json!({"alg": alg, "typ": "JWT", "kid": kid});
            format!("{}.{}", text(header.to_string().as_bytes()), text(claims.to_string().as_bytes()))
        };
        let (by_rsa, by_ed) = (signed("RS256", "rsa"), signed("EdDSA", "ed"));
        let mut signature = vec![0; self.rsa.public_modulus_len()];
        self.rsa.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), by_rsa.as_bytes(), &mut signature)?;
        let ed_signature = self.ed.sign(by_ed.as_bytes());
        Ok([format!("{by_rsa}.{}", text(&signature)), format!("{by_ed}.{}", text(ed_signature.as_ref()))])
    }
}

fn text(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}
