//! The tokens: claims as Zitadel gives them, signed by the current key.

use std::collections::BTreeMap;

use aws_lc_rs::digest;
use axum::http::{HeaderMap, header};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use jsonwebtoken::Validation;
use kombify_core::{Error, Ids, Result};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::Config;
use crate::keys::{Alg, Ring, SigningKey};
use crate::oauth;
use crate::secret;
use crate::store::grants::Grant;
use crate::store::users::User;

/// How long a token is at most, in bytes; what is longer is not looked at.
const TOKEN_MAX_BYTES: usize = 16 * 1024;

/// The `typ` of an access token (RFC 9068).
const ACCESS: &str = "at+jwt";

/// The `typ` of an ID token.
const ID: &str = "JWT";

/// The `typ` of a logout token.
const LOGOUT: &str = "logout+jwt";

/// What an access token says. No e-mail, no name: Zitadel keeps them out, too. The time of the sign-in is in, as an Action
/// of Zitadel's would put it there: revocations are held against it.
#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct AccessClaims {
    iss: String,
    pub(crate) sub: String,
    aud: Vec<String>,
    exp: i64,
    iat: i64,
    nbf: i64,
    auth_time: i64,
    /// `V2_<grant>-at_<token>`: Zitadel's form.
    jti: String,
    azp: String,
    client_id: String,
    pub(crate) scope: String,
    /// Role -> {granting organisation: its domain}.
    #[serde(rename = "urn:zitadel:iam:org:project:roles")]
    pub(crate) roles: BTreeMap<String, BTreeMap<String, String>>,
    #[serde(rename = "urn:zitadel:iam:user:resourceowner:id")]
    org: String,
}

impl AccessClaims {
    /// The grant that the token came of.
    pub(crate) fn grant(&self) -> &str {
        self.jti.strip_prefix("V2_").and_then(|rest| rest.split_once("-at_")).map_or("", |(grant, _)| grant)
    }
}

/// What an ID token that comes back as a hint is asked for.
#[derive(Debug, Deserialize)]
pub(crate) struct Hint {
    pub(crate) sub: String,
    pub(crate) sid: String,
    /// The client that it was made for.
    pub(crate) azp: String,
}

/// The claims about `user` that the scope opens, for ID tokens and userinfo.
pub(crate) fn user_claims(user: &User, scope: &str) -> Map<String, Value> {
    let mut claims = Map::new();
    claims.insert("sub".into(), user.sub.as_str().into());
    if oauth::within("email", scope) {
        claims.insert("email".into(), user.email.as_str().into());
        claims.insert("email_verified".into(), true.into());
    }
    if oauth::within("profile", scope) {
        claims.insert("name".into(), user.name.as_str().into());
        claims.insert("preferred_username".into(), user.login.as_str().into());
    }
    claims
}

/// What tokens are made of: who gets them, for what, signed by which key.
pub(crate) struct Issue<'a> {
    pub(crate) key: &'a SigningKey,
    pub(crate) grant: &'a Grant,
    pub(crate) user: &'a User,
    /// The scope of the grant, or a narrower one.
    pub(crate) scope: &'a str,
    pub(crate) config: &'a Config,
    pub(crate) now: Timestamp,
}

impl Issue<'_> {
    pub(crate) fn access_token(&self, ids: &dyn Ids) -> Result<String> {
        let mut roles: BTreeMap<String, BTreeMap<String, String>> = BTreeMap::new();
        for (role, org) in &self.user.roles {
            roles.entry(role.clone()).or_default().insert(org.clone(), format!("{org}.localhost"));
        }
        let claims = AccessClaims {
            iss: self.config.issuer.clone(),
            sub: self.user.sub.clone(),
            aud: vec![self.config.audience.clone()],
            exp: (self.now + self.config.access_token_lifetime).as_second(),
            iat: self.now.as_second(),
            nbf: self.now.as_second(),
            auth_time: self.grant.auth_time.as_second(),
            jti: format!("V2_{}-at_{}", self.grant.id, secret::digits(ids)),
            azp: self.grant.client_id.clone(),
            client_id: self.grant.client_id.clone(),
            scope: self.scope.to_owned(),
            roles,
            org: self.user.org.clone(),
        };
        sign(self.key, ACCESS, &claims)
    }

    /// The ID token beside `access_token`.
    pub(crate) fn id_token(&self, nonce: Option<&str>, access_token: &str) -> Result<String> {
        let mut claims = user_claims(self.user, self.scope);
        let own = json!({
            "iss": self.config.issuer,
            "aud": [self.grant.client_id],
            "azp": self.grant.client_id,
            "exp": (self.now + self.config.access_token_lifetime).as_second(),
            "iat": self.now.as_second(),
            "auth_time": self.grant.auth_time.as_second(),
            "sid": self.grant.sid,
            "at_hash": left_half_of_hash(self.key.alg, access_token),
        });
        if let Value::Object(own) = own {
            claims.extend(own);
        }
        if let Some(nonce) = nonce {
            claims.insert("nonce".into(), nonce.into());
        }
        sign(self.key, ID, &claims)
    }
}

/// The claims of an access token of ours that is good at `now`.
pub(crate) fn read_access_token(
    ring: &Ring,
    token: &str,
    config: &Config,
    now: Timestamp,
) -> Option<AccessClaims> {
    let claims: AccessClaims = verify(ring, token, ACCESS, config, &[&config.audience])?;
    (claims.exp > now.as_second()).then_some(claims)
}

/// What an ID token of ours says, however old: it hints at whom to sign out (OIDC RP-Initiated Logout, 2).
pub(crate) fn read_hint(ring: &Ring, token: &str, config: &Config) -> Option<Hint> {
    let clients: Vec<&str> = config.clients.iter().map(|client| client.id.as_str()).collect();
    verify(ring, token, ID, config, &clients)
}

/// The bearer token of a request.
pub(crate) fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(header::AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(token.trim())
}

/// A logout token with these claims.
pub(crate) fn sign_logout(key: &SigningKey, claims: &Value) -> Result<String> {
    sign(key, LOGOUT, claims)
}

fn sign(key: &SigningKey, typ: &str, claims: &impl Serialize) -> Result<String> {
    let header = json!({"alg": key.alg.as_str(), "kid": key.kid, "typ": typ});
    let claims = serde_json::to_vec(claims).map_err(Error::internal)?;
    let message =
        format!("{}.{}", URL_SAFE_NO_PAD.encode(header.to_string()), URL_SAFE_NO_PAD.encode(claims));
    let signature = URL_SAFE_NO_PAD.encode(key.sign(message.as_bytes())?);
    Ok(format!("{message}.{signature}"))
}

/// The claims of a token that a published key of ours signed, of this `typ`, by this issuer, for one of `audience`. The
/// algorithm is the key's: what the header claims must agree with it. The time is the caller's to look at.
fn verify<T: DeserializeOwned>(
    ring: &Ring,
    token: &str,
    typ: &str,
    config: &Config,
    audience: &[&str],
) -> Option<T> {
    if token.len() > TOKEN_MAX_BYTES {
        return None;
    }
    let header = jsonwebtoken::decode_header(token).ok()?;
    let key = ring.find(header.kid.as_deref()?)?;
    let mut validation = Validation::new(key.alg.algorithm());
    validation.validate_exp = false; // By our clock, not by the system's.
    validation.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
    validation.set_issuer(&[&config.issuer]);
    validation.set_audience(audience);
    let verified = jsonwebtoken::decode(token, &key.decoding, &validation).ok()?;
    (verified.header.typ.as_deref() == Some(typ)).then_some(verified.claims)
}

/// `at_hash` (OIDC Core, 3.1.3.6): by the hash of the signature's algorithm, which is SHA-512 for Ed25519.
fn left_half_of_hash(alg: Alg, text: &str) -> String {
    let algorithm = match alg {
        Alg::Rs256 | Alg::Es256 => &digest::SHA256,
        Alg::EdDsa => &digest::SHA512,
    };
    let hash = digest::digest(algorithm, text.as_bytes());
    let (left, _) = hash.as_ref().split_at(hash.as_ref().len() / 2);
    URL_SAFE_NO_PAD.encode(left)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use kombify_core::Clock as _;

    use super::*;
    use crate::testing::{AUDIENCE, House, ISSUER, PORTAL, claims_of};

    #[tokio::test]
    async fn an_access_token_has_zitadels_claims_and_neither_e_mail_nor_name() {
        let house = House::seeded().await;
        let tokens = house.browser().sign_in(&house, "openid profile email").await;
        let claims = claims_of(tokens.access());
        let mut names: Vec<&str> = claims.as_object().unwrap().keys().map(String::as_str).collect();
        names.sort_unstable();
        assert_eq!(
            names,
            [
                "aud",
                "auth_time",
                "azp",
                "client_id",
                "exp",
                "iat",
                "iss",
                "jti",
                "nbf",
                "scope",
                "sub",
                "urn:zitadel:iam:org:project:roles",
                "urn:zitadel:iam:user:resourceowner:id",
            ]
        );
        assert_eq!(claims["aud"], json!([AUDIENCE]));
        assert_eq!(claims["iss"], ISSUER);
        assert_eq!(claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap(), 900);
        assert_eq!(claims["urn:zitadel:iam:user:resourceowner:id"], "org-alice");
        assert_eq!(claims["urn:zitadel:iam:org:project:roles"]["user"]["org-alice"], "org-alice.localhost");
        assert_eq!(jsonwebtoken::decode_header(tokens.access()).unwrap().typ.unwrap(), "at+jwt");

        let id = claims_of(tokens.id());
        assert_eq!(id["aud"], json!([PORTAL]));
        assert_eq!(id["azp"], PORTAL);
        assert_eq!(id["email"], "alice@example.com");
        assert_eq!(id["email_verified"], true);
        assert_eq!(id["name"], "Alice Liddell");
        assert_eq!(id["nonce"], "nonce-1");
        assert_eq!(id["sub"], claims["sub"]);
        assert!(id["sid"].is_string() && id["auth_time"].is_i64() && id["at_hash"].is_string());
    }

    #[tokio::test]
    async fn a_scope_that_was_not_asked_for_opens_nothing() {
        let house = House::seeded().await;
        let tokens = house.browser().sign_in(&house, "openid").await;
        let id = claims_of(tokens.id());
        for absent in ["email", "email_verified", "name", "preferred_username"] {
            assert!(id.get(absent).is_none(), "{absent}");
        }
        assert!(tokens.refresh().is_none());
    }

    #[tokio::test]
    async fn a_token_is_read_only_whole_in_time_and_as_what_it_is() {
        let house = House::seeded().await;
        let tokens = house.browser().sign_in(&house, "openid").await;
        let (issuer, now) = (house.issuer(), house.clock.now());
        let ring = issuer.ring().await.unwrap();
        let config = &issuer.config;
        let access = tokens.access();
        assert!(read_access_token(&ring, access, config, now).is_some());
        assert!(read_access_token(&ring, access, config, now + Duration::from_secs(899)).is_some());
        assert!(read_access_token(&ring, access, config, now + Duration::from_mins(15)).is_none());
        assert!(read_access_token(&ring, tokens.id(), config, now).is_none());
        assert!(read_hint(&ring, access, config).is_none());
        assert!(read_hint(&ring, tokens.id(), config).is_some());

        let mut parts: Vec<String> = access.split('.').map(str::to_owned).collect();
        let mut claims: Value = claims_of(access);
        claims["sub"] = "1".into();
        parts[1] = URL_SAFE_NO_PAD.encode(claims.to_string());
        assert!(read_access_token(&ring, &parts.join("."), config, now).is_none());
        let key = ring.current(now).unwrap();
        for alg in ["none", "HS256", "ES256"] {
            parts[0] =
                URL_SAFE_NO_PAD.encode(json!({"alg": alg, "kid": key.kid, "typ": "at+jwt"}).to_string());
            assert!(read_access_token(&ring, &parts.join("."), config, now).is_none(), "{alg}");
        }
    }
}
