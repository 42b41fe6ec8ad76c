//! The browser's way in (contract C6): `/sso/start` sets a nonce and sends to Cloud; `/sso/callback` takes the launch code
//! that Cloud's page posts, and opens the session. Nothing secret is ever in an address.

use std::sync::Arc;

use axum::extract::rejection::{FormRejection, QueryRejection};
use axum::extract::{Form, Query, State};
use axum::http::{Extensions, HeaderMap, header};
use axum::response::Response;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use kombify_core::{Actor, Change, Error, Result};
use kombify_mesh::context::Context;
use kombify_mesh::secret;
use kombify_pages::cookies::SameSite;
use serde::Deserialize;

use super::{Fault, Portal, see_other};
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
    launched: Result<Form<Launched>, FormRejection>,
) -> Result<Response, Fault> {
    let Entrance::Platform { cloud, .. } = &portal.host.entrance else {
        return Err(Error::NotImplemented("single sign-on".into()).into());
    };
    check_origin(&headers, cloud)?;
    let nonce = kombify_mesh::identity::cookie(&headers, &portal.nonce_cookie)?.ok_or(Error::AuthInvalid(
        "this browser did not begin the launch, or took too long: open the tenant again",
    ))?;
    let Form(Launched { code }) = launched.map_err(|_| Error::invalid("code", "must be a launch code"))?;
    let is_code =
        code.len() == 43 && code.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte));
    if !is_code {
        return Err(Error::invalid("code", "must be a launch code").into());
    }
    let challenge = URL_SAFE_NO_PAD.encode(secret::hash(nonce));
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

/// A launch comes from Cloud's own page: by its configured origin, never by `Host`.
fn check_origin(headers: &HeaderMap, cloud: &str) -> Result<()> {
    let origin = headers.get(header::ORIGIN).and_then(|origin| origin.to_str().ok());
    if origin == Some(cloud) {
        return Ok(());
    }
    Err(Error::AuthInvalid("the launch comes from a page that is not Cloud's"))
}
