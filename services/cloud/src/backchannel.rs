//! The identity provider says that somebody has signed out: OpenID Connect Back-Channel Logout 1.0, section 2.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::FormRejection;
use axum::extract::{Form, State};
use axum::http::{Extensions, HeaderMap, StatusCode};
use axum::response::{IntoResponse as _, Response};
use jiff::Timestamp;
use jsonwebtoken::Validation;
use kombify_contracts::kombify::identity::v1::RevokeSessionsRequest;
use kombify_contracts::kombify::identity::v1::revocation_service_client::RevocationServiceClient;
use kombify_core::{Code, Error, Result};
use kombify_mesh::context::Context;
use kombify_mesh::status::to_fault;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::portal::Portal;

/// What a logout token says that it is.
const EVENT: &str = "http://schemas.openid.net/event/backchannel-logout";

/// How old a logout token may be, in seconds: a provider that says when the session ended tries for ten minutes to tell it.
const OLDEST_SECONDS: i64 = 600;

/// How far clocks may differ, in seconds. Source: contract C2.
const CLOCK_SKEW_SECONDS: i64 = 60;

/// How long a token may be, in bytes.
const MAX_TOKEN_BYTES: usize = 8 * 1024;

#[derive(Default, Deserialize)]
#[serde(default)]
pub(crate) struct Posted {
    logout_token: String,
}

/// Whose sign-ins count no more, and since when.
#[derive(Debug, PartialEq, Eq)]
struct Logout {
    sub: String,
    time: Timestamp,
}

/// `POST /backchannel-logout`.
pub(crate) async fn logout(
    State(portal): State<Arc<Portal>>,
    extensions: Extensions,
    headers: HeaderMap,
    posted: Result<Form<Posted>, FormRejection>,
) -> Response {
    let token = posted.map(|Form(posted)| posted.logout_token).unwrap_or_default();
    match take(&portal, &extensions, &headers, &token).await {
        Ok(()) => StatusCode::OK.into_response(),
        Err(fault) => refuse(&fault),
    }
}

fn refuse(fault: &Error) -> Response {
    if let Error::Internal(cause) = fault {
        tracing::error!(%cause, "request failed");
    }
    let (status, error) = match fault.code().http() {
        503 | 504 => (StatusCode::SERVICE_UNAVAILABLE, "temporarily_unavailable"),
        500.. => (StatusCode::INTERNAL_SERVER_ERROR, "server_error"),
        ..500 => (StatusCode::BAD_REQUEST, "invalid_request"),
    };
    (status, Json(json!({"error": error, "error_description": fault.to_string()}))).into_response()
}

async fn take(portal: &Portal, extensions: &Extensions, headers: &HeaderMap, token: &str) -> Result<()> {
    let claims = verify(portal, token).await?;
    let Logout { sub, time } = read(&claims, portal.clock.now())?;
    if portal.seen.has(token) {
        return Ok(()); // A replay changes nothing.
    }
    let revoke_time = prost_types::Timestamp { seconds: time.as_second(), nanos: 0 };
    let request = RevokeSessionsRequest { sub, revoke_time: Some(revoke_time) };
    let context = Context::of_page(extensions, headers, None);
    let revoked = context
        .scope(async { RevocationServiceClient::new(portal.admin.clone()).revoke_sessions(request).await });
    match revoked.await.map_err(|status| to_fault(&status)) {
        // Whom the platform never saw has no session here.
        Ok(_) => {}
        Err(fault) if fault.code() == Code::NotFound => {}
        Err(fault) if fault.code().http() >= 500 => return Err(fault),
        // The token held: what else Admin has against the call is no fault of the provider's.
        Err(fault) => return Err(Error::internal(format!("a revocation was refused: {fault}"))),
    }
    portal.seen.take(token);
    Ok(())
}

/// Whether the issuer signed the token for us.
async fn verify(portal: &Portal, token: &str) -> Result<Map<String, Value>> {
    if token.is_empty() || token.len() > MAX_TOKEN_BYTES {
        return Err(Error::invalid("logout_token", "must be a logout token"));
    }
    let header = jsonwebtoken::decode_header(token)
        .map_err(|_| Error::invalid("logout_token", "must be a signed JWT"))?;
    if header.crit.is_some() {
        return Err(Error::invalid("logout_token", "has extensions that nobody here understands"));
    }
    let kid = header.kid.ok_or_else(|| Error::invalid("logout_token", "must name its key"))?;
    let key = portal.issuer_keys.get(&kid).await?;
    let mut validation = Validation::new(key.algorithm);
    validation.set_issuer(&[&portal.issuer]);
    validation.set_audience(&[&portal.client_id]);
    validation.set_required_spec_claims(&["iss", "aud", "sub"]);
    // Times are held against the process's own clock, below.
    validation.validate_exp = false;
    let decoded = jsonwebtoken::decode::<Map<String, Value>>(token, &key.key, &validation);
    Ok(decoded
        .map_err(|_| Error::invalid("logout_token", "must be the issuer's, and for this client"))?
        .claims)
}

/// What a verified token says.
fn read(claims: &Map<String, Value>, now: Timestamp) -> Result<Logout> {
    let wrong = |message: &str| Error::invalid("logout_token", message);
    let is_logout = claims.get("events").and_then(|events| events.get(EVENT)).is_some_and(Value::is_object);
    if !is_logout {
        return Err(wrong("must be of the event of a back-channel logout"));
    }
    if claims.contains_key("nonce") {
        return Err(wrong("must not have a nonce: it is an ID token"));
    }
    let sub = claims.get("sub").and_then(Value::as_str).filter(|sub| !sub.is_empty());
    let sub = sub.ok_or_else(|| wrong("must name its subject"))?.to_owned();
    let at = |name: &str| claims.get(name).and_then(Value::as_i64);
    let issued = at("iat").ok_or_else(|| wrong("must say when it was issued"))?;
    let now = now.as_second();
    if issued > now + CLOCK_SKEW_SECONDS || issued < now - OLDEST_SECONDS - CLOCK_SKEW_SECONDS {
        return Err(wrong("must be of these minutes"));
    }
    if at("exp").is_some_and(|expires| now >= expires + CLOCK_SKEW_SECONDS) {
        return Err(wrong("has expired"));
    }
    let time = Timestamp::from_second(issued).map_err(|_| wrong("must say when it was issued"))?;
    Ok(Logout { sub, time })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claims() -> Value {
        json!({"iss": "i", "aud": "c", "sub": "ada", "iat": 1000, "exp": 1120, "jti": "j", "events": {EVENT: {}}})
    }

    #[test]
    fn a_logout_token_is_read_at_its_time_and_every_fault_of_it_is_refused() {
        let now = |second: i64| Timestamp::from_second(second).unwrap();
        let read = |claims: &Value, second: i64| read(claims.as_object().unwrap(), now(second));
        assert_eq!(read(&claims(), 1010).unwrap(), Logout { sub: "ada".into(), time: now(1000) });
        for (name, value) in [
            ("events", json!({})),
            ("events", json!({EVENT: "x"})),
            ("events", Value::Null),
            ("nonce", json!("n")),
            ("sub", json!("")),
            ("sub", Value::Null),
            ("iat", Value::Null),
            ("iat", json!(1100)),
            ("iat", json!(349)),
            ("exp", json!(900)),
        ] {
            let mut wrong = claims();
            wrong[name] = value.clone();
            if value.is_null() {
                wrong.as_object_mut().unwrap().remove(name);
            }
            assert!(read(&wrong, 1010).is_err(), "{name}: {value}");
        }
    }
}
