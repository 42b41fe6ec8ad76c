//! The user says who it is.

use std::sync::Arc;

use axum::extract::rejection::{FormRejection, QueryRejection};
use axum::extract::{Form, Query, State};
use axum::http::HeaderMap;
use axum::response::Response;
use kombify_core::{Error, Result};
use secrecy::SecretString;
use serde::Deserialize;

use crate::issuer::Issuer;
use crate::limits::Address;
use crate::pages::{self, Fault};
use crate::secret::{self, Hash, RANDOM_LEN};
use crate::store::requests::Pending;
use crate::store::sessions::SignIn;
use crate::store::users::{User, fold};
use crate::{authorize, oauth};

/// How long a login may be, in bytes: what is longer is nobody's.
const LOGIN_MAX_BYTES: usize = 320;

/// What leads to the page.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(crate) struct Asked {
    /// The authorization request that waits, or nothing.
    pub(crate) request: String,
}

/// The form.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(crate) struct Typed {
    csrf: String,
    request: String,
    login: String,
    password: SecretString,
}

pub(crate) async fn show(
    State(issuer): State<Arc<Issuer>>,
    headers: HeaderMap,
    asked: Result<Query<Asked>, QueryRejection>,
) -> Result<Response, Fault> {
    let request = asked.map(|Query(asked)| asked.request).unwrap_or_default();
    let pending = waiting(&issuer, &request).await?;
    if pending.is_none()
        && let Some(user) = user_of(&issuer, &headers).await?
    {
        return Ok(pages::signed_in(&user, !request.is_empty()));
    }
    let login = pending.as_ref().and_then(|pending| pending.login_hint.as_deref()).unwrap_or_default();
    Ok(with_form(&issuer, &headers, &request, pending.as_ref(), |form| pages::sign_in(form, login, None)))
}

pub(crate) async fn submit(
    State(issuer): State<Arc<Issuer>>,
    headers: HeaderMap,
    address: Address,
    typed: Result<Form<Typed>, FormRejection>,
) -> Result<Response, Fault> {
    let Form(typed) = typed.map_err(|_| Error::invalid("", "the form must come from its own page"))?;
    issuer.limits.form(&address, issuer.now())?;
    issuer.csrf.check(&issuer.cookies, &headers, &typed.csrf)?;
    if let Some(user) = recognise(&issuer, &typed).await? {
        // Only who knows the password learns that.
        if user.locked {
            let pending = waiting(&issuer, &typed.request).await?;
            let error = Some("This account is locked.");
            return Ok(with_form(&issuer, &headers, &typed.request, pending.as_ref(), |form| {
                pages::sign_in(form, &typed.login, error)
            }));
        }
        tracing::info!(user.sub = %user.sub, "user signed in");
        return Ok(finish(&issuer, &headers, &user, &typed.request).await?);
    }
    let pending = waiting(&issuer, &typed.request).await?;
    let error = Some("No account has this name and this password.");
    Ok(with_form(&issuer, &headers, &typed.request, pending.as_ref(), |form| {
        pages::sign_in(form, &typed.login, error)
    }))
}

/// The user of that login, if the password is right. It takes as long either way.
async fn recognise(issuer: &Issuer, typed: &Typed) -> Result<Option<User>> {
    let login = fold(&typed.login);
    if login.len() > LOGIN_MAX_BYTES {
        return Ok(None);
    }
    issuer.limits.attempt(&login, issuer.now())?;
    let user = issuer.store.find_user_by_login(&login).await?;
    let hash = user.as_ref().map(|user| user.password_hash.clone());
    if !issuer.passwords.verify(hash, typed.password.clone()).await? {
        return Ok(None);
    }
    issuer.limits.right(&login);
    Ok(user)
}

/// Begins the user's session in this browser, and sends it on to where it was going.
pub(crate) async fn finish(
    issuer: &Issuer,
    headers: &HeaderMap,
    user: &User,
    request: &str,
) -> Result<Response> {
    let (session, code) = (secret::random(&*issuer.ids), secret::random(&*issuer.ids));
    let answered = issuer
        .store
        .sign_in(SignIn {
            sub: user.sub.clone(),
            session: secret::hash(&session),
            sid: secret::digits(&*issuer.ids),
            replaces: issuer.cookies.session(headers).map(|session| secret::hash(&session)),
            request: request_hash(request),
            code: secret::hash(&code),
            lifetime: issuer.config.session_lifetime,
            now: issuer.now(),
        })
        .await?;
    let mut response = match answered {
        Some(pending) => authorize::answer(&pending, &code)?,
        None if request.is_empty() => oauth::see_other("/sign-in")?,
        None => pages::signed_in(user, true),
    };
    pages::set_cookie(&mut response, issuer.cookies.set_session(&session, issuer.config.session_lifetime));
    Ok(response)
}

/// The user who is signed in in this browser.
pub(crate) async fn user_of(issuer: &Issuer, headers: &HeaderMap) -> Result<Option<User>> {
    match issuer.session(headers).await? {
        Some(session) => issuer.store.find_user(&session.sub).await,
        None => Ok(None),
    }
}

/// The authorization request that waits under this name.
pub(crate) async fn waiting(issuer: &Issuer, request: &str) -> Result<Option<Pending>> {
    match request_hash(request) {
        Some(hash) => issuer.store.find_request(hash, issuer.now()).await,
        None => Ok(None),
    }
}

/// A page with a form of this browser, which leads to where the request that waits came from.
pub(crate) fn with_form(
    issuer: &Issuer,
    headers: &HeaderMap,
    request: &str,
    pending: Option<&Pending>,
    page: impl FnOnce(&pages::Form<'_>) -> Response,
) -> Response {
    let token = issuer.csrf.issue(&*issuer.ids, &issuer.cookies, headers);
    let form = pages::Form {
        csrf: &token.token,
        request: if request_hash(request).is_some() { request } else { "" },
        leads_to: pending.map(|pending| pending.redirect_uri.as_str()),
    };
    let mut response = page(&form);
    pages::set_cookie(&mut response, token.set_cookie);
    response
}

fn request_hash(request: &str) -> Option<Hash> {
    let well_formed = request.len() == RANDOM_LEN
        && request.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_');
    well_formed.then(|| secret::hash(request))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use crate::testing::{CALLBACK, House, authorize_uri};

    #[tokio::test]
    async fn a_user_signs_in_by_short_name_or_address_and_the_client_gets_its_code() {
        let house = House::seeded().await;
        for login in ["alice", "ALICE@example.com"] {
            let mut browser = house.browser();
            let page = browser.get(&authorize_uri(&[])).await.follow(&mut browser).await;
            assert!(
                page.header("content-security-policy").contains("form-action 'self' http://localhost:3000;")
            );
            let answer = browser
                .submit(&page, "/sign-in", &[("login", login), ("password", house.password.as_str())])
                .await;
            let location = answer.location().unwrap();
            assert_eq!(answer.status, 303);
            assert!(
                location.starts_with(&format!("{CALLBACK}?code=")) && location.ends_with("&state=state%201")
            );
            assert!(browser.session(&house).await.is_some());
            assert!(browser.get("/sign-in").await.body.contains("You are signed in as"));
        }
    }

    #[tokio::test]
    async fn a_wrong_password_and_an_unknown_login_look_alike() {
        let house = House::seeded().await;
        let mut browser = house.browser();
        let page = browser.get("/sign-in").await;
        let mut bodies = Vec::new();
        for login in ["alice", "nobody"] {
            let answer = browser.submit(&page, "/sign-in", &[("login", login), ("password", "wrong")]).await;
            assert_eq!(answer.status, 422);
            assert!(answer.body.contains("role=\"alert\""));
            bodies.push(answer.body.replace(login, "?"));
        }
        assert_eq!(bodies[0], bodies[1]);
        assert!(browser.session(&house).await.is_none());
    }

    #[tokio::test]
    async fn a_forged_form_is_refused() {
        let house = House::seeded().await;
        let mut browser = house.browser();
        let page = browser.get("/sign-in").await;
        let fields = [("login", "alice"), ("password", house.password.as_str())];
        let forged = [("login", "alice"), ("password", house.password.as_str()), ("csrf", "Zm9yZ2Vk")];
        assert_eq!(browser.post("/sign-in", &forged).await.status, 403);
        assert_eq!(browser.post("/sign-in", &fields).await.status, 403);
        browser.origin = Some("http://localhost:3000".into());
        assert_eq!(browser.submit(&page, "/sign-in", &fields).await.status, 403);
        browser.origin = Some("null".into());
        assert_eq!(browser.submit(&page, "/sign-in", &fields).await.status, 403);
        browser.origin = None;
        let mut other = house.browser();
        other.get("/sign-in").await;
        assert_eq!(other.submit(&page, "/sign-in", &fields).await.status, 403);
        assert_eq!(browser.submit(&page, "/sign-in", &fields).await.status, 303);
    }

    #[tokio::test]
    async fn tries_are_bounded_by_address_and_by_login() {
        let house = House::seeded().await;
        let mut browser = house.browser();
        let page = browser.get("/sign-in").await;
        let right = [("login", "alice"), ("password", house.password.as_str())];
        let wrong = [("login", "alice"), ("password", "wrong")];
        for _ in 0..10 {
            assert_eq!(browser.submit(&page, "/sign-in", &wrong).await.status, 422);
        }
        let refused = browser.submit(&page, "/sign-in", &right).await;
        assert_eq!(refused.status, 429);
        assert_eq!(refused.header("retry-after"), "60");
        for _ in 0..9 {
            let answer =
                browser.submit(&page, "/sign-in", &[("login", "nobody"), ("password", "wrong")]).await;
            assert_eq!(answer.status, 422);
        }
        let other = [("login", "root"), ("password", house.password.as_str())];
        assert_eq!(browser.submit(&page, "/sign-in", &other).await.status, 429);
        browser.address = Some("10.0.0.2:9".parse().unwrap());
        assert_eq!(browser.submit(&page, "/sign-in", &other).await.status, 422);
        house.clock.advance(Duration::from_mins(1));
        assert_eq!(browser.submit(&page, "/sign-in", &right).await.status, 303);
    }

    #[tokio::test]
    async fn who_comes_too_late_is_signed_in_and_told_so() {
        let house = House::seeded().await;
        let mut browser = house.browser();
        let page = browser.get(&authorize_uri(&[("login_hint", "alice")])).await.follow(&mut browser).await;
        assert!(page.body.contains("value=\"alice\""));
        house.clock.advance(Duration::from_mins(10));
        let fields = [("login", "alice"), ("password", house.password.as_str())];
        let answer = browser.submit(&page, "/sign-in", &fields).await;
        assert_eq!(answer.status, 200);
        assert!(answer.body.contains("waits no more"));
        assert!(browser.session(&house).await.is_some());
    }
}
