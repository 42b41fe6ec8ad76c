//! A new signing key, asked for by an operator.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::State;
use axum::http::header::WWW_AUTHENTICATE;
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::Response;
use kombify_core::clock::rfc3339_seconds;
use kombify_core::error::Envelope;
use kombify_core::wire::REQUEST_ID;
use kombify_core::{Error, Result};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::issuer::Issuer;
use crate::keys::Alg;
use crate::oauth::json_answer;
use crate::tokens;
use crate::userinfo::bearer_claims;

/// Who may ask.
const ROLE: &str = "kombisphere_admin";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted {
    alg: String,
}

pub(crate) async fn rotate(State(issuer): State<Arc<Issuer>>, headers: HeaderMap, body: Bytes) -> Response {
    match decide(&issuer, &headers, &body).await {
        Ok(answer) => json_answer(StatusCode::OK, &answer),
        Err(fault) => refused(&issuer, &headers, &fault),
    }
}

async fn decide(issuer: &Issuer, headers: &HeaderMap, body: &[u8]) -> Result<Value> {
    tokens::bearer(headers).ok_or(Error::AuthRequired)?;
    let claims = bearer_claims(issuer, headers).await?;
    let claims = claims.ok_or(Error::AuthInvalid("it is no access token of this issuer that is good now"))?;
    if !claims.roles.contains_key(ROLE) {
        return Err(Error::AuthInsufficient(format!("the role {ROLE} is needed")));
    }
    let alg = serde_json::from_slice::<Wanted>(body)
        .ok()
        .and_then(|wanted| Alg::parse(&wanted.alg))
        .ok_or_else(|| Error::invalid("alg", "must be RS256, ES256 or EdDSA"))?;
    let key = issuer.keys.rotate(&issuer.store, alg, issuer.now(), issuer.config.publish_ahead).await?;
    tracing::info!(user.sub = %claims.sub, key.id = %key.kid, alg = alg.as_str(), "signing key rotated");
    Ok(json!({"kid": key.kid, "alg": alg.as_str(), "signsFrom": rfc3339_seconds(key.signs_time)}))
}

fn refused(issuer: &Issuer, headers: &HeaderMap, fault: &Error) -> Response {
    let now = issuer.now();
    let given = headers.get(REQUEST_ID).and_then(|id| id.to_str().ok()).and_then(|id| id.parse().ok());
    let request_id = given.unwrap_or_else(|| issuer.ids.request(now));
    if let Error::Internal(cause) = fault {
        tracing::error!(%cause, request.id = %request_id, "request failed");
    }
    let envelope = Envelope::of(fault, request_id.as_str(), now);
    let status = StatusCode::from_u16(envelope.http_status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = json_answer(status, &json!(envelope));
    if status == StatusCode::UNAUTHORIZED {
        response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    response
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use jsonwebtoken::jwk::JwkSet;
    use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, decode_header};

    use super::*;
    use crate::testing::{AUDIENCE, Browser, House, ISSUER, PORTAL};

    async fn jwks(browser: &mut Browser) -> JwkSet {
        serde_json::from_value(browser.get("/oauth/v2/keys").await.json()).unwrap()
    }

    fn kid(token: &str) -> String {
        decode_header(token).unwrap().kid.unwrap()
    }

    #[tokio::test]
    async fn a_new_key_is_published_ahead_then_signs_and_then_the_old_one_is_dropped() {
        let house = House::seeded().await;
        let mut browser = house.browser();
        let root = browser.sign_in_as(&house, "root").await;
        let old = kid(root.access());

        let answer = browser.rotate(root.access(), "ES256").await;
        assert_eq!(answer.status, 200, "{}", answer.body);
        let new = answer.json()["kid"].as_str().unwrap().to_owned();
        assert_eq!(answer.json()["signsFrom"], rfc3339_seconds(house.now() + Duration::from_mins(2)));
        assert!(jwks(&mut browser).await.find(&new).is_some());
        house.clock.advance(Duration::from_secs(119));
        assert_eq!(kid(browser.sign_in_as(&house, "root").await.access()), old);

        house.clock.advance(Duration::from_secs(1));
        let signed = browser.sign_in_as(&house, "root").await;
        assert_eq!(kid(signed.access()), new);
        assert_eq!(kid(signed.id()), new);
        assert_eq!(
            browser.userinfo(root.access()).await.status,
            200,
            "the old key is good for what it signed"
        );

        house.clock.advance(Duration::from_secs(2 * 900 + 119));
        assert!(jwks(&mut browser).await.find(&old).is_some());
        house.clock.advance(Duration::from_secs(1));
        let left = jwks(&mut browser).await;
        assert!(left.find(&old).is_none() && left.find(&new).is_some());
    }

    #[tokio::test]
    async fn what_each_algorithm_signs_verifies_from_the_jwks_alone() {
        let house = House::seeded().await;
        let mut browser = house.browser();
        for algorithm in [Algorithm::RS256, Algorithm::ES256, Algorithm::EdDSA] {
            let tokens = browser.sign_in_as(&house, "root").await;
            let keys = jwks(&mut browser).await;
            for (token, audience) in [(tokens.access(), AUDIENCE), (tokens.id(), PORTAL)] {
                let key = DecodingKey::from_jwk(keys.find(&kid(token)).unwrap()).unwrap();
                let mut validation = Validation::new(algorithm);
                validation.validate_exp = false;
                validation.set_audience(&[audience]);
                validation.set_issuer(&[ISSUER]);
                decode::<Value>(token, &key, &validation).unwrap();
            }
            let next = if algorithm == Algorithm::RS256 { "ES256" } else { "EdDSA" };
            assert_eq!(browser.rotate(tokens.access(), next).await.status, 200);
            house.clock.advance(Duration::from_mins(2));
        }
    }

    #[tokio::test]
    async fn at_most_five_keys_are_published() {
        let house = House::seeded().await;
        let mut browser = house.browser();
        let root = browser.sign_in_as(&house, "root").await;
        for _ in 0..4 {
            assert_eq!(browser.rotate(root.access(), "EdDSA").await.status, 200);
        }
        let refused = browser.rotate(root.access(), "EdDSA").await;
        assert_eq!((refused.status, refused.json()["error"]["code"].as_str()), (409, Some("CONFLICT")));
        assert_eq!(jwks(&mut browser).await.keys.len(), 5);
        house.clock.advance(Duration::from_mins(34));
        assert_eq!(jwks(&mut browser).await.keys.len(), 1);
        let root = browser.sign_in_as(&house, "root").await;
        assert_eq!(browser.rotate(root.access(), "EdDSA").await.status, 200);
    }

    #[tokio::test]
    async fn only_the_platforms_admins_rotate_and_only_to_what_is_known() {
        let house = House::seeded().await;
        let mut browser = house.browser();
        let alice = browser.sign_in_as(&house, "alice").await;
        assert_eq!(
            browser.rotate(alice.access(), "EdDSA").await.json()["error"]["code"],
            "AUTH_INSUFFICIENT"
        );
        assert_eq!(browser.rotate(alice.id(), "EdDSA").await.json()["error"]["code"], "AUTH_INVALID");
        assert_eq!(browser.post("/keys:rotate", &[]).await.json()["error"]["code"], "AUTH_REQUIRED");
        let root = browser.sign_in_as(&house, "root").await;
        let refused = browser.rotate(root.access(), "none").await;
        assert_eq!(
            (refused.status, refused.json()["error"]["code"].as_str()),
            (400, Some("VALIDATION_FAILED"))
        );
    }
}
