//! Cloud's own sign-in by the identity provider, and the way out again. Source: contract C6.

use std::sync::Arc;

use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::Response;
use kombify_core::{Error, Result};
use kombify_pages::{fault_page, layout, page, same_origin};
use maud::html;
use serde::Deserialize;

use crate::pages::{Fault, see_other};
use crate::portal::Portal;
use crate::provider::Pending;
use crate::session::{Session, append};

/// How long a sign-in may take, in seconds.
const PENDING_SECONDS: i64 = 600;

/// A path of this site: one slash first, and nothing that a browser could take for another host.
fn is_local_path(path: &str) -> bool {
    path.starts_with('/')
        && !path.starts_with("//")
        && path.len() <= 512
        && path.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\\')
}

#[derive(Default, Deserialize)]
#[serde(default)]
pub(crate) struct Wanted {
    r#return: Option<String>,
}

/// `GET /sign-in?return=`.
pub(crate) async fn sign_in(
    State(portal): State<Arc<Portal>>,
    wanted: Result<Query<Wanted>, QueryRejection>,
) -> Result<Response, Fault> {
    let Query(wanted) = wanted.unwrap_or_default();
    let return_to = wanted.r#return.filter(|path| is_local_path(path)).unwrap_or_else(|| "/".to_owned());
    Ok(begin(&portal, &return_to, false).await?)
}

/// Sends the browser to the identity provider; it comes back to `return_to`. `anew`: the provider asks, whoever is signed
/// in there already.
pub(crate) async fn begin(portal: &Portal, return_to: &str, anew: bool) -> Result<Response> {
    let (url, pending) = portal.provider.begin(return_to, anew).await?;
    let mut response = see_other(&url)?;
    let now = portal.clock.now();
    let expires = jiff::Timestamp::from_second(now.as_second() + PENDING_SECONDS).map_err(Error::internal)?;
    let value = serde_json::to_vec(&pending).map_err(Error::internal)?;
    append(&mut response, portal.seal.set(&*portal.ids, &portal.cookie("sign_in"), &value, (now, expires))?);
    Ok(response)
}

#[derive(Default, Deserialize)]
#[serde(default)]
pub(crate) struct Returned {
    code: Option<String>,
    state: Option<String>,
    error: Option<String>,
}

/// `GET /callback`.
pub(crate) async fn callback(
    State(portal): State<Arc<Portal>>,
    headers: HeaderMap,
    returned: Result<Query<Returned>, QueryRejection>,
) -> Response {
    let mut response = match finish(&portal, &headers, returned).await {
        Ok(Finished::SignedIn(response)) => response,
        Ok(Finished::Ended { return_to }) => match begin(&portal, &return_to, true).await {
            Ok(response) => return response,
            Err(fault) => fault_page(&fault),
        },
        Err(fault) => fault_page(&fault),
    };
    // What was pending is used, whatever came of it.
    if let Ok(cookies) = portal.seal.clear(&portal.cookie("sign_in")) {
        append(&mut response, cookies);
    }
    response
}

/// What came of a sign-in.
enum Finished {
    SignedIn(Response),
    /// The provider still holds a sign-in that was ended here, as by signing out at another browser.
    Ended {
        return_to: String,
    },
}

async fn finish(
    portal: &Portal,
    headers: &HeaderMap,
    returned: Result<Query<Returned>, QueryRejection>,
) -> Result<Finished> {
    let Query(returned) = returned.map_err(|_| Error::invalid("code", "must be given once"))?;
    let now = portal.clock.now();
    let pending = portal.seal.read(headers, &portal.cookie("sign_in"), now);
    let pending: Pending = pending
        .and_then(|pending| serde_json::from_slice(&pending).ok())
        .ok_or(Error::AuthInvalid("this browser began no sign-in, or took too long: sign in again"))?;
    if returned.state.as_deref() != Some(pending.state.as_str()) {
        return Err(Error::AuthInvalid("the sign-in is another one than this browser began: sign in again"));
    }
    if returned.error.is_some() {
        return Err(Error::AuthInvalid("the identity provider did not sign you in"));
    }
    if !portal.finished.take(&pending.state) {
        return Err(Error::AuthInvalid("this sign-in was used already: sign in again"));
    }
    let code = returned.code.ok_or(Error::AuthInvalid("the identity provider gave no code"))?;
    let (return_to, anew) = (pending.return_to.clone(), pending.anew);
    let signed_in = portal.provider.finish(code, pending, now).await?;
    let session = Session::new(portal, signed_in)?;
    match session.check(portal) {
        Err(Error::AuthInvalid(_)) if !anew => return Ok(Finished::Ended { return_to }),
        Err(fault @ Error::AuthInvalid(_)) => return Err(fault),
        // What Admin revoked is not here yet: the next page asks again.
        Ok(()) | Err(_) => {}
    }
    tracing::info!(user.sub = session.sub, "user signed in");
    let mut response = go_on(&return_to)?;
    session.keep(portal, &mut response)?;
    Ok(Finished::SignedIn(response))
}

/// Sends the browser on to where it wanted to go before it signed in. Browsers hold the policy of the provider's form
/// against every redirect behind it, and a launch redirects to an instance, which the provider does not know: a page ends
/// the redirects.
fn go_on(return_to: &str) -> Result<Response> {
    if return_to == "/" {
        return see_other(return_to);
    }
    let body = html! {
        p { a href=(return_to) { "Continue" } }
    };
    let mut response = page(StatusCode::OK, layout("Signed in", None, &body));
    let refresh = HeaderValue::try_from(format!("0;url={return_to}")).map_err(Error::internal)?;
    let headers = response.headers_mut();
    headers.insert(header::REFRESH, refresh);
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    Ok(response)
}

/// `POST /sign-out`.
pub(crate) async fn sign_out(
    State(portal): State<Arc<Portal>>,
    headers: HeaderMap,
) -> Result<Response, Fault> {
    same_origin(&headers, &portal.origin)?;
    let elsewhere = match Session::peek(&portal, &headers) {
        Some(session) => portal.provider.end_session(&session.id_token, &portal.origin).await,
        None => None,
    };
    let mut response = see_other(elsewhere.as_deref().unwrap_or("/"))?;
    Session::forget(&portal, &mut response)?;
    Ok(response)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_return_path_stays_on_this_site() {
        for good in ["/", "/launch?tenant=home&instance=x", "/a/b#c"] {
            assert!(is_local_path(good), "{good}");
        }
        for bad in ["", "a", "//evil.example", "https://evil.example", "/\\evil.example", "/a b", "/a\nb"] {
            assert!(!is_local_path(bad), "{bad}");
        }
        assert!(!is_local_path(&format!("/{}", "a".repeat(512))));
    }

    #[test]
    fn a_page_stands_between_the_providers_form_and_a_launch() {
        assert_eq!(go_on("/").unwrap().status(), StatusCode::SEE_OTHER);
        let response = go_on("/launch?tenant=home").unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(response.headers()[header::REFRESH], "0;url=/launch?tenant=home");
        // Its own address has the provider's code.
        assert_eq!(response.headers()[header::REFERRER_POLICY], "no-referrer");
    }
}
