//! The browser's way in (contract C6): `/sso/start` sets a nonce and sends to Cloud; `/sso/callback` takes the launch code
//! that Cloud's page posts, and opens the session. Nothing secret is ever in an address.

use std::sync::Arc;

use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, Request, State};
use axum::http::{Extensions, HeaderMap};
use axum::response::Response;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use kombify_core::{Actor, Change, Error, Result};
use kombify_mesh::context::Context;
use kombify_mesh::secret;
use kombify_pages::cookies::SameSite;
use serde::Deserialize;

use super::{Fault, Portal, form, see_other};
use crate::sessions::is_secure;
use crate::{Entrance, sso};

/// How long a browser may take from `/sso/start` to `/sso/callback`, in seconds. Source: contract C6.
const NONCE_SECONDS: u64 = 300;

/// How long the session's cookie is kept, in seconds: as long as the session.
const SESSION_SECONDS: u64 = 12 * 3600;

#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct Wanted {
    tenant: String,
}

/// What Cloud's page posts.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct Launched {
    code: String,
}

/// `GET /sso/start?tenant=`.
pub(super) async fn start(
    State(portal): State<Arc<Portal>>,
    wanted: Result<Query<Wanted>, QueryRejection>,
) -> Result<Response, Fault> {
    let Entrance::Platform { cloud, .. } = &portal.host.entrance else {
        return Ok(see_other("/sign-in")?);
    };
    let Query(Wanted { tenant }) = wanted.unwrap_or_default();
    let well_formed = (3..=50).contains(&tenant.len())
        && tenant
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_-".contains(&byte));
    if !well_formed {
        return Err(Error::invalid("tenant", "must be the slug or the id of a tenant").into());
    }
    let (nonce, challenge) = secret::make(&*portal.host.ids);
    let challenge = URL_SAFE_NO_PAD.encode(challenge);
    let instance = portal.host.instance;
    let mut response =
        see_other(&format!("{cloud}/launch?tenant={tenant}&instance={instance}&challenge={challenge}"))?;
    // Cloud's page posts from another site: under TLS the cookie has to say that it comes along all the same.
    let same_site = if is_secure(&portal.host) { SameSite::None } else { SameSite::Lax };
    portal.set_cookie(&mut response, &portal.nonce_cookie, &nonce, NONCE_SECONDS, same_site)?;
    Ok(response)
}

/// `POST /sso/callback`.
pub(super) async fn callback(
    State(portal): State<Arc<Portal>>,
    extensions: Extensions,
    headers: HeaderMap,
    request: Request,
) -> Result<Response, Fault> {
    let Entrance::Platform { cloud, .. } = &portal.host.entrance else {
        return Err(Error::NotImplemented("single sign-on".into()).into());
    };
    let (code, challenge) = take(&headers, cloud, &portal.nonce_cookie, request).await?;
    let context = Context::of_page(&extensions, &headers, None);
    let change = Change {
        actor: Actor::default(),
        action: "user.login",
        request_id: context.request_id.clone(),
        idempotency: None,
        ip: context.ip.clone(),
        user_agent: context.user_agent.clone(),
        time: portal.host.clock.now(),
    };
    let entered = context.scope(sso::enter(&portal.host, &change, &code, &challenge)).await;
    let (session, _) = entered?;
    let mut response = see_other("/")?;
    let session_cookie = &portal.session_cookie;
    portal.set_cookie(&mut response, session_cookie, &session.token, SESSION_SECONDS, SameSite::Lax)?;
    portal.clear_cookie(&mut response, &portal.nonce_cookie)?;
    Ok(response)
}

/// The code of a launch, and the challenge of the browser that began it. What comes from another page than Cloud's, or
/// from a browser that began no launch, is not even read, and never gets to Admin, which writes down what it refuses.
/// Whether the nonce is the one of the code only Admin knows.
async fn take(
    headers: &HeaderMap,
    cloud: &str,
    nonce_cookie: &str,
    request: Request,
) -> Result<(String, String)> {
    check_origin(headers, cloud)?;
    let nonce = kombify_mesh::identity::cookie(headers, nonce_cookie)?.filter(|nonce| is_secret(nonce));
    let nonce = nonce.ok_or(Error::AuthInvalid(
        "this browser did not begin the launch, or took too long: open the tenant again",
    ))?;
    match form::<Launched>(request).await {
        Ok(Launched { code }) if is_secret(&code) => Ok((code, URL_SAFE_NO_PAD.encode(secret::hash(nonce)))),
        Ok(_) | Err(_) => Err(Error::invalid("code", "must be a launch code")),
    }
}

/// A launch comes from Cloud's own page: by its configured origin, never by `Host`.
fn check_origin(headers: &HeaderMap, cloud: &str) -> Result<()> {
    kombify_pages::same_origin(headers, cloud)
        .map_err(|_| Error::AuthInvalid("the launch comes from a page that is not Cloud's"))
}

/// Whether a text has the form of what [`secret::make`] makes.
fn is_secret(text: &str) -> bool {
    text.len() == 43 && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte))
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::time::Duration;

    use axum::body::Body;
    use axum::http::{HeaderValue, header};
    use kombify_core::Code;
    use tokio::time::timeout;
    use tonic::codegen::{Bytes, tokio_stream};

    use super::*;

    const CLOUD: &str = "https://cloud.example";
    const COOKIE: &str = "kombify_stack_launch";

    fn headers(origins: &[&'static str], cookie: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for origin in origins {
            headers.append(header::ORIGIN, HeaderValue::from_static(origin));
        }
        headers.insert(header::COOKIE, cookie.parse().unwrap());
        headers
    }

    fn posted(body: Body) -> Request {
        let request = Request::post("/sso/callback");
        request.header(header::CONTENT_TYPE, "application/x-www-form-urlencoded").body(body).unwrap()
    }

    async fn is_refused(origins: &[&'static str], cookie: &str) {
        let never = tokio_stream::pending::<Result<Bytes, Infallible>>();
        let headers = headers(origins, cookie);
        let taken = take(&headers, CLOUD, COOKIE, posted(Body::from_stream(never)));
        let taken = timeout(Duration::from_secs(1), taken).await.expect("nobody waits for the form");
        assert_eq!(taken.unwrap_err().code(), Code::AuthInvalid, "{origins:?} {cookie}");
    }

    #[tokio::test(start_paused = true)]
    async fn what_this_browser_did_not_begin_or_cloud_did_not_send_is_not_even_read() {
        let good = format!("{COOKIE}={}", "n".repeat(43));
        for origins in [
            &[][..],
            &["null"],
            &["https://evil.example"],
            &["https://cloud.example.evil.example"],
            &[CLOUD, CLOUD],
        ] {
            is_refused(origins, &good).await;
        }
        for nonce in ["", "short", &"=".repeat(43), &"n".repeat(44)] {
            is_refused(&[CLOUD], &format!("{COOKIE}={nonce}")).await;
        }
        for cookie in ["other=1", &format!("{good}; {good}")] {
            is_refused(&[CLOUD], cookie).await;
        }
    }

    #[tokio::test]
    async fn the_code_goes_on_with_the_challenge_of_this_browsers_nonce() {
        let nonce = "n".repeat(43);
        let headers = headers(&[CLOUD], &format!("{COOKIE}={nonce}"));
        let code = "c".repeat(43);
        let taken = take(&headers, CLOUD, COOKIE, posted(format!("code={code}").into())).await.unwrap();
        assert_eq!(taken, (code, URL_SAFE_NO_PAD.encode(secret::hash(&nonce))));
        for wrong in ["", "code=", "code=short", &format!("code={}%3D", "c".repeat(42))] {
            let refused = take(&headers, CLOUD, COOKIE, posted(wrong.to_owned().into())).await.unwrap_err();
            assert_eq!(refused.code(), Code::ValidationFailed, "{wrong}");
        }
    }
}
