//! The user leaves: by a client that shows its ID token, or by a form of ours (OIDC RP-Initiated Logout 1.0).

use std::sync::Arc;

use axum::extract::rejection::{FormRejection, QueryRejection};
use axum::extract::{Form, Query, State};
use axum::http::HeaderMap;
use axum::response::Response;
use kombify_core::{Error, Result};
use serde::Deserialize;

use crate::issuer::Issuer;
use crate::oauth;
use crate::pages::{self, Fault, SignOut};
use crate::sign_in::user_of;
use crate::store::sessions::Session;
use crate::tokens::{self, Hint};

/// What the query or the form may say, as it comes.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(crate) struct Wanted {
    id_token_hint: Option<String>,
    client_id: Option<String>,
    post_logout_redirect_uri: Option<String>,
    state: Option<String>,
    /// The token of our own form: whoever sends it has been asked.
    csrf: Option<String>,
}

pub(crate) async fn asked(
    State(issuer): State<Arc<Issuer>>,
    headers: HeaderMap,
    wanted: Result<Query<Wanted>, QueryRejection>,
) -> Result<Response, Fault> {
    let Query(wanted) =
        wanted.map_err(|_| Error::invalid("", "each parameter may be given once, as UTF-8"))?;
    Ok(end(&issuer, &headers, &wanted, false).await?)
}

pub(crate) async fn posted(
    State(issuer): State<Arc<Issuer>>,
    headers: HeaderMap,
    wanted: Result<Form<Wanted>, FormRejection>,
) -> Result<Response, Fault> {
    let Form(wanted) = wanted.map_err(|_| Error::invalid("", "each field may be given once, as a form"))?;
    if let Some(csrf) = &wanted.csrf {
        issuer.csrf.check(&issuer.cookies, &headers, csrf)?;
    }
    Ok(end(&issuer, &headers, &wanted, wanted.csrf.is_some()).await?)
}

async fn end(issuer: &Issuer, headers: &HeaderMap, wanted: &Wanted, confirmed: bool) -> Result<Response> {
    let ring = issuer.ring().await?;
    let hint =
        wanted.id_token_hint.as_deref().and_then(|hint| tokens::read_hint(&ring, hint, &issuer.config));
    let target = target(issuer, wanted, hint.as_ref())?;
    let session = issuer.session(headers).await?;
    match ending(hint.as_ref(), session.as_ref(), confirmed) {
        Some(sids) => {
            for sid in sids {
                issuer.store.sign_out(sid, issuer.told_clients(), issuer.now()).await?;
            }
            leave(issuer, wanted, target)
        }
        None => ask(issuer, headers, wanted, target).await,
    }
}

/// Where the browser goes afterwards: only to what the client registered for that.
fn target<'a>(issuer: &Issuer, wanted: &'a Wanted, hint: Option<&Hint>) -> Result<Option<&'a str>> {
    let client_id = match (hint, &wanted.client_id) {
        (Some(hint), Some(client_id)) if hint.azp != *client_id => {
            return Err(Error::invalid("client_id", "must be the client of id_token_hint"));
        }
        (Some(hint), _) => Some(&hint.azp),
        (None, client_id) => client_id.as_ref(),
    };
    let Some(uri) = wanted.post_logout_redirect_uri.as_deref() else { return Ok(None) };
    // Without a client nobody has registered it: the user stays here.
    let Some(client_id) = client_id else { return Ok(None) };
    match issuer.client(client_id) {
        Some(client) if client.may_leave_to(uri) => Ok(Some(uri)),
        _ => Err(Error::invalid("post_logout_redirect_uri", "must be one that the client registered")),
    }
}

/// Which sessions end, or `None` if the user must be asked: without a hint, or with one for somebody else than who is
/// signed in, any page could do this.
fn ending<'a>(hint: Option<&'a Hint>, session: Option<&'a Session>, confirmed: bool) -> Option<Vec<&'a str>> {
    match (hint, session) {
        (Some(hint), None) => Some(vec![hint.sid.as_str()]),
        (Some(hint), Some(session)) if hint.sub == session.sub => {
            Some(vec![hint.sid.as_str(), session.sid.as_str()])
        }
        (_, Some(session)) if confirmed => Some(vec![session.sid.as_str()]),
        (_, Some(_)) => None,
        (None, None) => Some(Vec::new()),
    }
}

fn leave(issuer: &Issuer, wanted: &Wanted, target: Option<&str>) -> Result<Response> {
    tracing::info!("user signed out");
    let mut response = match target {
        Some(uri) => oauth::see_other(&oauth::with_parameters(uri, &[("state", wanted.state.as_deref())]))?,
        None => pages::signed_out(),
    };
    pages::set_cookie(&mut response, issuer.cookies.clear_session());
    Ok(response)
}

async fn ask(
    issuer: &Issuer,
    headers: &HeaderMap,
    wanted: &Wanted,
    target: Option<&str>,
) -> Result<Response> {
    let user = user_of(issuer, headers).await?;
    let token = issuer.csrf.issue(&*issuer.ids, &issuer.cookies, headers);
    let mut response = pages::ask_to_sign_out(
        user.as_ref(),
        &SignOut {
            csrf: &token.token,
            client_id: wanted.client_id.as_deref(),
            leads_to: target,
            state: wanted.state.as_deref(),
        },
    );
    pages::set_cookie(&mut response, token.set_cookie);
    Ok(response)
}

#[cfg(test)]
mod tests {
    use crate::oauth::with_parameters;
    use crate::testing::{House, LEFT, PORTAL, authorize_uri};

    fn uri(parameters: &[(&str, &str)]) -> String {
        let parameters: Vec<_> = parameters.iter().map(|(name, value)| (*name, Some(*value))).collect();
        with_parameters("/oidc/v1/end_session", &parameters)
    }

    #[tokio::test]
    async fn an_id_token_ends_its_session_with_everything_that_came_of_it() {
        let house = House::seeded().await;
        let mut browser = house.browser();
        let tokens = browser.sign_in(&house, "openid offline_access").await;
        let session = browser.cookies.clone();
        let hint = [("id_token_hint", tokens.id()), ("post_logout_redirect_uri", LEFT), ("state", "s 1")];
        let answer = browser.get(&uri(&hint)).await;
        assert_eq!(answer.location(), Some(format!("{LEFT}?state=s%201").as_str()));
        assert!(browser.session(&house).await.is_none());
        browser.cookies = session;
        assert!(browser.session(&house).await.is_none(), "the cookie is worth nothing any more");
        assert_eq!(browser.userinfo(tokens.access()).await.status, 401);
        let refresh = [
            ("grant_type", "refresh_token"),
            ("client_id", PORTAL),
            ("refresh_token", tokens.refresh().unwrap()),
        ];
        assert_eq!(browser.token(&refresh).await.json()["error"], "invalid_grant");
        assert!(browser.get(&authorize_uri(&[])).await.location().unwrap().starts_with("/sign-in"));
        assert_eq!(browser.get(&uri(&hint)).await.status, 303, "again changes nothing");
    }

    #[tokio::test]
    async fn without_a_hint_the_user_is_asked_by_a_form() {
        let house = House::seeded().await;
        let mut browser = house.browser();
        let alice = browser.sign_in(&house, "openid").await;
        let root = house.browser().sign_in_as(&house, "root").await;
        let leave = [("client_id", PORTAL), ("post_logout_redirect_uri", LEFT)];
        for parameters in [
            vec![],
            leave.to_vec(),
            vec![("id_token_hint", "garbage")],
            vec![("id_token_hint", alice.access())],
            vec![("id_token_hint", root.id())],
        ] {
            let page = browser.get(&uri(&parameters)).await;
            assert!(page.body.contains("Alice Liddell"), "{}", page.body);
            assert!(browser.session(&house).await.is_some());
            let page = browser.post("/oidc/v1/end_session", &parameters).await;
            assert!(page.body.contains("Alice Liddell"), "{}", page.body);
        }
        let forged = [("csrf", "forged")];
        assert_eq!(browser.post("/oidc/v1/end_session", &forged).await.status, 403);
        assert!(browser.session(&house).await.is_some());

        let page = browser.get(&uri(&leave)).await;
        assert!(page.header("content-security-policy").contains("form-action 'self' http://localhost:3000;"));
        let answer = browser.submit(&page, "/oidc/v1/end_session", &leave).await;
        assert_eq!(answer.location(), Some(LEFT));
        assert!(browser.session(&house).await.is_none());
        assert!(browser.get(&uri(&[])).await.body.contains("You are signed out"));
    }

    #[tokio::test]
    async fn nobody_is_sent_to_where_no_client_lives() {
        let house = House::seeded().await;
        let mut browser = house.browser();
        let tokens = browser.sign_in(&house, "openid").await;
        let evil = ("post_logout_redirect_uri", "http://evil.example/");
        for parameters in [
            vec![("id_token_hint", tokens.id()), evil],
            vec![("client_id", PORTAL), evil],
            vec![("client_id", "x"), evil],
        ] {
            let answer = browser.get(&uri(&parameters)).await;
            assert_eq!((answer.status, answer.location()), (400, None));
        }
        let other = [("id_token_hint", tokens.id()), ("client_id", "cli")];
        assert_eq!(browser.get(&uri(&other)).await.status, 400);
        assert!(browser.get(&uri(&[evil])).await.location().is_none());
        assert!(browser.session(&house).await.is_some());
    }
}
