//! The part of Zitadel's user API, version 2, by which a platform locks users: for a service user with a personal access
//! token. Source: <https://zitadel.com/docs/reference/api/user>.

use std::sync::Arc;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use kombify_core::clock::rfc3339_seconds;
use kombify_core::{Code, Error};
use secrecy::ExposeSecret as _;
use serde_json::{Value, json};

use crate::issuer::Issuer;
use crate::oauth::json_answer;
use crate::store::users::User;
use crate::tokens;

/// A refusal as Zitadel's gateway writes it: the code is gRPC's, and the id says which check it was.
pub(crate) struct Refusal {
    status: StatusCode,
    code: u8,
    message: &'static str,
    /// Empty where it is none of Zitadel's own checks.
    id: &'static str,
}

impl Refusal {
    const fn not_found(id: &'static str) -> Self {
        Self { status: StatusCode::NOT_FOUND, code: 5, message: "User could not be found", id }
    }

    const fn precondition(message: &'static str, id: &'static str) -> Self {
        Self { status: StatusCode::BAD_REQUEST, code: 9, message, id }
    }
}

const UNAUTHENTICATED: Refusal =
    Refusal { status: StatusCode::UNAUTHORIZED, code: 16, message: "Token is invalid", id: "AUTH-7fs1e" };

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let Self { status, code, message, id } = self;
        if id.is_empty() {
            return json_answer(status, &json!({"code": code, "message": message, "details": []}));
        }
        let detail =
            json!({"@type": "type.googleapis.com/zitadel.v1.ErrorDetail", "id": id, "message": message});
        json_answer(
            status,
            &json!({"code": code, "message": format!("{message} ({id})"), "details": [detail]}),
        )
    }
}

impl From<Error> for Refusal {
    fn from(fault: Error) -> Self {
        tracing::error!(%fault, "request failed");
        if fault.code() == Code::ServiceUnavailable {
            let status = StatusCode::SERVICE_UNAVAILABLE;
            return Self { status, code: 14, message: "the provider cannot answer now", id: "" };
        }
        Self { status: StatusCode::INTERNAL_SERVER_ERROR, code: 13, message: "internal error", id: "" }
    }
}

/// `GET /v2/users/{user_id}`.
pub(crate) async fn get(
    State(issuer): State<Arc<Issuer>>,
    headers: HeaderMap,
    Path(id): Path<String>,
) -> Result<Response, Refusal> {
    check(&issuer, &headers)?;
    let user = issuer.store.find_user(&id).await?.ok_or(Refusal::not_found("QUERY-Dfbg2"))?;
    Ok(json_answer(StatusCode::OK, &json!({"details": details(&user), "user": message(&user)})))
}

/// `POST /v2/users/{user_id}/lock`.
pub(crate) async fn lock(
    State(issuer): State<Arc<Issuer>>,
    headers: HeaderMap,
    Path(id): Path<String>,
) -> Result<Response, Refusal> {
    let unknown = Refusal::not_found("COMMAND-450yxuqrh1");
    let so_already = Refusal::precondition("User should be active or initial", "COMMAND-lgws8wtsqf");
    set(&issuer, &headers, &id, true, (unknown, so_already)).await
}

/// `POST /v2/users/{user_id}/unlock`.
pub(crate) async fn unlock(
    State(issuer): State<Arc<Issuer>>,
    headers: HeaderMap,
    Path(id): Path<String>,
) -> Result<Response, Refusal> {
    let unknown = Refusal::not_found("COMMAND-x377t913pw");
    let so_already = Refusal::precondition("User is not locked", "COMMAND-olb9vb0oca");
    set(&issuer, &headers, &id, false, (unknown, so_already)).await
}

async fn set(
    issuer: &Issuer,
    headers: &HeaderMap,
    id: &str,
    locked: bool,
    (unknown, so_already): (Refusal, Refusal),
) -> Result<Response, Refusal> {
    check(issuer, headers)?;
    if issuer.store.find_user(id).await?.is_none() {
        return Err(unknown);
    }
    if !issuer.store.set_lock(id, locked, issuer.told_clients(), issuer.now()).await? {
        return Err(so_already);
    }
    tracing::info!(user.sub = id, locked, "user lock set");
    let user = issuer.store.find_user(id).await?.ok_or(unknown)?;
    Ok(json_answer(StatusCode::OK, &json!({"details": details(&user)})))
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

fn details(user: &User) -> Value {
    json!({
        "sequence": user.sequence.to_string(),
        "changeDate": rfc3339_seconds(user.change_time),
        "resourceOwner": user.org,
    })
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Answer, Browser, House, SERVICE_TOKEN};

    async fn sub(house: &House, login: &str) -> String {
        house.issuer().store.find_user_by_login(login).await.unwrap().unwrap().sub
    }

    async fn call(browser: &mut Browser, verb: &str, token: &str) -> Answer {
        browser.users_api(verb, token).await
    }

    /// What Zitadel's clients decide by: the status, the code of gRPC, and which check it was.
    fn refused(answer: &Answer) -> (u16, i64, String) {
        let said = answer.json();
        let id = said["details"][0]["id"].as_str().unwrap().to_owned();
        assert!(said["message"].as_str().unwrap().ends_with(&format!("({id})")), "{said}");
        (answer.status, said["code"].as_i64().unwrap(), id)
    }

    #[tokio::test]
    async fn only_the_service_user_asks() {
        let house = House::seeded().await;
        let alice = sub(&house, "alice").await;
        let mut browser = house.browser();
        let users_own = browser.sign_in(&house, "openid").await.access().to_owned();
        for token in ["", "wrong", users_own.as_str()] {
            for verb in ["", "/lock", "/unlock"] {
                let answer = call(&mut browser, &format!("{alice}{verb}"), token).await;
                assert_eq!(refused(&answer), (401, 16, "AUTH-7fs1e".into()), "{verb} {token}");
            }
        }
        assert!(!house.issuer().store.find_user(&alice).await.unwrap().unwrap().locked);
    }

    #[tokio::test]
    async fn a_user_is_locked_once_and_unlocked_once() {
        let house = House::seeded().await;
        let alice = sub(&house, "alice").await;
        let mut browser = house.browser();
        let state = async |browser: &mut Browser| {
            let said = call(browser, &alice, SERVICE_TOKEN).await.json();
            (said["user"]["state"].clone(), said["details"]["sequence"].clone())
        };
        assert_eq!(state(&mut browser).await, (json!("USER_STATE_ACTIVE"), json!("1")));
        house.clock.advance(std::time::Duration::from_mins(1));
        let locked = call(&mut browser, &format!("{alice}/lock"), SERVICE_TOKEN).await;
        let details = json!({
            "sequence": "2", "changeDate": rfc3339_seconds(house.now()), "resourceOwner": "org-alice",
        });
        assert_eq!((locked.status, locked.json()), (200, json!({"details": details})));
        assert_eq!(state(&mut browser).await, (json!("USER_STATE_LOCKED"), json!("2")));
        let again = call(&mut browser, &format!("{alice}/lock"), SERVICE_TOKEN).await;
        assert_eq!(refused(&again), (400, 9, "COMMAND-lgws8wtsqf".into()));
        let unlocked = call(&mut browser, &format!("{alice}/unlock"), SERVICE_TOKEN).await;
        assert_eq!((unlocked.status, unlocked.json()["details"]["sequence"].clone()), (200, json!("3")));
        let again = call(&mut browser, &format!("{alice}/unlock"), SERVICE_TOKEN).await;
        assert_eq!(refused(&again), (400, 9, "COMMAND-olb9vb0oca".into()));
        assert_eq!(state(&mut browser).await, (json!("USER_STATE_ACTIVE"), json!("3")));
    }

    #[tokio::test]
    async fn who_is_not_known_is_named_so_by_each_check() {
        let house = House::seeded().await;
        let mut browser = house.browser();
        for (verb, id) in
            [("", "QUERY-Dfbg2"), ("/lock", "COMMAND-450yxuqrh1"), ("/unlock", "COMMAND-x377t913pw")]
        {
            let answer = call(&mut browser, &format!("1{verb}"), SERVICE_TOKEN).await;
            assert_eq!(refused(&answer), (404, 5, id.into()));
        }
    }

    #[tokio::test]
    async fn a_lock_ends_what_came_of_every_sign_in() {
        let house = House::seeded().await;
        let alice = sub(&house, "alice").await;
        let mut browser = house.browser();
        let tokens = browser.sign_in(&house, "openid offline_access").await;
        let refresh = tokens.refresh().unwrap().to_owned();
        call(&mut house.browser(), &format!("{alice}/lock"), SERVICE_TOKEN).await;
        assert!(browser.session(&house).await.is_none());
        let fields = [("grant_type", "refresh_token"), ("client_id", "portal"), ("refresh_token", &*refresh)];
        assert_eq!(browser.token(&fields).await.json()["error"], "invalid_grant");
        let due = house.issuer().store.due_logouts(house.now()).await.unwrap();
        assert_eq!(due.iter().map(|logout| &*logout.client_id).collect::<Vec<_>>(), ["portal"]);
    }
}
