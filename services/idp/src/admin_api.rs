//! The part of Zitadel's user API, version 2, by which a platform locks users: for a service user with a personal access
//! token. Source: <https://zitadel.com/docs/reference/api/user>.

use std::sync::Arc;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use kombify_core::Error;
use kombify_core::clock::rfc3339_seconds;
use secrecy::ExposeSecret as _;
use serde_json::{Value, json};

use crate::issuer::Issuer;
use crate::oauth::json_answer;
use crate::store::users::User;
use crate::tokens;

/// A refusal as Zitadel's gateway writes it: the code is gRPC's.
pub(crate) struct Refusal {
    status: StatusCode,
    code: u8,
    message: &'static str,
}

const UNAUTHENTICATED: Refusal =
    Refusal { status: StatusCode::UNAUTHORIZED, code: 16, message: "invalid token (AUTH-7fs1e)" };
const NOT_FOUND: Refusal =
    Refusal { status: StatusCode::NOT_FOUND, code: 5, message: "User could not be found (QUERY-Dfbg2)" };
const LOCKED: Refusal =
    Refusal { status: StatusCode::BAD_REQUEST, code: 9, message: "User already locked (COMMAND-lgws8wtsqf)" };
const NOT_LOCKED: Refusal =
    Refusal { status: StatusCode::BAD_REQUEST, code: 9, message: "User is not locked (COMMAND-olb9vb0oca)" };

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        json_answer(self.status, &json!({"code": self.code, "message": self.message, "details": []}))
    }
}

impl From<Error> for Refusal {
    fn from(fault: Error) -> Self {
        tracing::error!(%fault, "request failed");
        Self { status: StatusCode::INTERNAL_SERVER_ERROR, code: 13, message: "internal error" }
    }
}

/// `GET /v2/users/{user_id}`.
pub(crate) async fn get(
    State(issuer): State<Arc<Issuer>>,
    headers: HeaderMap,
    Path(id): Path<String>,
) -> Result<Response, Refusal> {
    check(&issuer, &headers)?;
    let user = issuer.store.find_user(&id).await?.ok_or(NOT_FOUND)?;
    Ok(json_answer(StatusCode::OK, &json!({"details": details(&issuer, &user.org), "user": message(&user)})))
}

/// `POST /v2/users/{user_id}/lock`.
pub(crate) async fn lock(
    State(issuer): State<Arc<Issuer>>,
    headers: HeaderMap,
    Path(id): Path<String>,
) -> Result<Response, Refusal> {
    set(&issuer, &headers, &id, true, LOCKED).await
}

/// `POST /v2/users/{user_id}/unlock`.
pub(crate) async fn unlock(
    State(issuer): State<Arc<Issuer>>,
    headers: HeaderMap,
    Path(id): Path<String>,
) -> Result<Response, Refusal> {
    set(&issuer, &headers, &id, false, NOT_LOCKED).await
}

async fn set(
    issuer: &Issuer,
    headers: &HeaderMap,
    id: &str,
    locked: bool,
    so_already: Refusal,
) -> Result<Response, Refusal> {
    check(issuer, headers)?;
    let user = issuer.store.find_user(id).await?.ok_or(NOT_FOUND)?;
    if !issuer.store.set_lock(id, locked, issuer.told_clients(), issuer.now()).await? {
        return Err(so_already);
    }
    tracing::info!(user.sub = id, locked, "user lock set");
    Ok(json_answer(StatusCode::OK, &json!({"details": details(issuer, &user.org)})))
}

/// Whether the caller has the service user's token.
fn check(issuer: &Issuer, headers: &HeaderMap) -> Result<(), Refusal> {
    let known = issuer.config.service_token.as_ref().map(|token| token.expose_secret().as_bytes());
    let given = tokens::bearer(headers).map(str::as_bytes);
    match (known, given) {
        (Some(known), Some(given)) if verify_slices_are_equal(known, given).is_ok() => Ok(()),
        _ => Err(UNAUTHENTICATED),
    }
}

fn details(issuer: &Issuer, org: &str) -> Value {
    json!({"sequence": "1", "changeDate": rfc3339_seconds(issuer.now()), "resourceOwner": org})
}

fn message(user: &User) -> Value {
    let (given, family) = user.name.split_once(' ').unwrap_or((user.name.as_str(), ""));
    json!({
        "userId": user.sub,
        "state": if user.locked { "USER_STATE_LOCKED" } else { "USER_STATE_ACTIVE" },
        "username": user.login,
        "loginNames": [user.login],
        "preferredLoginName": user.login,
        "human": {
            "profile": {"givenName": given, "familyName": family, "displayName": user.name},
            "email": {"email": user.email, "isVerified": true},
        },
    })
}
