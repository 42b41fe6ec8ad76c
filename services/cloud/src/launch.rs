//! The way into a tenant (contract C6, Cloud's half): a launch code from Admin, posted by the browser to the tenant's
//! instance as Admin knows it.

use std::sync::Arc;

use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::{Extensions, HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use kombify_contracts::kombify::sso::v1::launch_service_client::LaunchServiceClient;
use kombify_contracts::kombify::sso::v1::{CreateLaunchCodeRequest, LaunchCode};
use kombify_core::{Error, Result};
use kombify_pages::{page, scripted};
use maud::html;
use serde::Deserialize;

use crate::pages::{Fault, for_user, is_signed_out, launch_url, see_other, settle};
use crate::portal::Portal;
use crate::session::Session;
use crate::sign_in::begin;

/// Sends the form; without scripts there is the button.
const SCRIPT: &str = "document.getElementById(\"launch\").submit();\n";

#[derive(Default, Deserialize)]
#[serde(default)]
pub(crate) struct Wanted {
    tenant: String,
    instance: String,
    challenge: String,
}

impl Wanted {
    /// What is asked for, by its letters.
    fn check(&self) -> Result<()> {
        let of = |text: &str, allowed: &[u8]| {
            text.bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || allowed.contains(&byte))
        };
        if !(3..=50).contains(&self.tenant.len()) || !of(&self.tenant, b"_-") {
            return Err(Error::invalid("tenant", "must be the slug or the id of a tenant"));
        }
        let is_instance = self.instance.len() == 45 && of(&self.instance, b"_-");
        if !self.instance.is_empty() && !is_instance {
            return Err(Error::invalid("instance", "must be the id of an instance"));
        }
        let is_challenge = self.challenge.len() == 43
            && self.challenge.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte));
        if !self.challenge.is_empty() && !is_challenge {
            return Err(Error::invalid("challenge", "must be a SHA-256 as base64url without padding"));
        }
        Ok(())
    }

    fn path(&self) -> String {
        let Self { tenant, instance, challenge } = self;
        if challenge.is_empty() {
            return format!("/launch?tenant={tenant}");
        }
        format!("/launch?tenant={tenant}&instance={instance}&challenge={challenge}")
    }
}

/// `GET /launch?tenant=&instance=&challenge=`.
pub(crate) async fn show(
    State(portal): State<Arc<Portal>>,
    extensions: Extensions,
    headers: HeaderMap,
    wanted: Result<Query<Wanted>, QueryRejection>,
) -> Result<Response, Fault> {
    let Query(wanted) = wanted.unwrap_or_default();
    wanted.check()?;
    let (session, launched) = match Session::read(&portal, &headers).await {
        Ok(session) => {
            let launched = launch(&portal, &extensions, &headers, &session, &wanted).await;
            (Some(session), launched)
        }
        Err(fault) => (None, Err(fault)),
    };
    let answered = match launched {
        // Nobody is here, or was signed out somewhere else meanwhile: the provider is asked, and refuses whom it has locked.
        Err(fault) if is_signed_out(&fault) => {
            let mut response = begin(&portal, &wanted.path(), false).await?;
            Session::forget(&portal, &mut response)?;
            return Ok(response);
        }
        answered => answered,
    };
    Ok(settle(&portal, session.as_ref(), answered)?)
}

async fn launch(
    portal: &Portal,
    extensions: &Extensions,
    headers: &HeaderMap,
    session: &Session,
    wanted: &Wanted,
) -> Result<Response> {
    if wanted.challenge.is_empty() {
        // From the API's host: the instance sets its nonce first, and comes back here.
        return see_other(&launch_url(portal, extensions, headers, session, wanted.tenant.clone()).await?);
    }
    let request = CreateLaunchCodeRequest {
        tenant: wanted.tenant.clone(),
        instance_id: wanted.instance.clone(),
        challenge: wanted.challenge.clone(),
    };
    let code = for_user(extensions, headers, session, async {
        LaunchServiceClient::new(portal.admin.clone()).create_launch_code(request).await
    });
    post_page(&code.await?.data.unwrap_or_default())
}

/// The page whose form takes the code to the instance, and nowhere else.
fn post_page(code: &LaunchCode) -> Result<Response> {
    let endpoint = code.public_endpoint.trim_end_matches('/');
    let body = html! {
        form id="launch" method="post" action=(format!("{endpoint}/sso/callback")) {
            input type="hidden" name="code" value=(code.code);
            button type="submit" { "Continue" }
        }
    };
    let mut response = page(StatusCode::OK, scripted("Opening the tenant", None, Some("/launch.js"), &body));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_SECURITY_POLICY, kombify_pages::policy(endpoint, true)?);
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("strict-origin"));
    Ok(response)
}

/// `GET /launch.js`.
pub(crate) async fn script() -> Response {
    ([(header::CONTENT_TYPE, "text/javascript; charset=utf-8")], SCRIPT).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_for_is_named_where_it_is_wrong() {
        let right = || Wanted {
            tenant: "home".into(),
            instance: "instance_01890a5d-ac96-774b-bcce-b302099a8057".into(),
            challenge: "A".repeat(43),
        };
        assert!(right().check().is_ok());
        for (wrong, field) in [
            (Wanted { tenant: "h".into(), ..right() }, "tenant"),
            (Wanted { tenant: "Home&x".into(), ..right() }, "tenant"),
            (Wanted { instance: "http://evil.example".into(), ..right() }, "instance"),
            (Wanted { challenge: "short".into(), ..right() }, "challenge"),
        ] {
            let Error::Invalid(fields) = wrong.check().unwrap_err() else { panic!("{field}") };
            assert_eq!(fields.keys().collect::<Vec<_>>(), [field]);
        }
    }

    #[test]
    fn the_code_goes_to_the_instance_and_nowhere_else() {
        let code = LaunchCode {
            code: "the-code".into(),
            public_endpoint: "http://stack.example:8080/".into(),
            ..LaunchCode::default()
        };
        let response = post_page(&code).unwrap();
        let policy = response.headers()[header::CONTENT_SECURITY_POLICY].to_str().unwrap();
        assert!(policy.contains("form-action http://stack.example:8080;"), "{policy}");
        assert!(policy.contains("script-src 'self'"), "{policy}");
        assert_eq!(response.headers()[header::REFERRER_POLICY], "strict-origin");
        assert!(response.headers().values().all(|value| !value.to_str().unwrap().contains("the-code")));
    }
}
