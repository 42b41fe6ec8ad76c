//! The Stack's own pages, plain and made here: the way in, and the tenant's stacks, members and flags.

mod calls;
mod home;
mod local;
mod sso;

use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use kombify_core::{Error, Result};
use kombify_mesh::server::App;
use kombify_pages::cookies::{self, SameSite};

use crate::Host;
use crate::sessions::{cookie, is_secure};

/// The paths that are pages, exactly.
pub const PAGES: [&str; 10] = [
    "/",
    "/icon.svg",
    "/join",
    "/sign-in",
    "/sign-out",
    "/sso/callback",
    "/sso/start",
    "/stacks",
    "/stacks/delete",
    "/style.css",
];

/// How large a form may be, in bytes: a spec of 64 KiB, each byte of it escaped.
const FORM_MAX_BYTES: usize = 256 * 1024;

/// What the pages stand on.
struct Portal {
    host: Host,
    calls: App,
    session_cookie: String,
    nonce_cookie: String,
}

/// The pages of `host`; `calls` are its methods, behind their rooms.
pub fn pages(host: Host, calls: App) -> Router {
    let portal = Arc::new(Portal {
        session_cookie: cookie(&host, "session"),
        nonce_cookie: cookie(&host, "launch"),
        host,
        calls,
    });
    Router::new()
        .route("/", get(home::show))
        .route("/stacks", get(to_start).post(home::create_stack))
        .route("/stacks/delete", get(to_start).post(home::delete_stack))
        .route("/sign-out", post(home::sign_out))
        .route("/sso/start", get(sso::start))
        .route("/sso/callback", post(sso::callback))
        .route("/sign-in", get(local::show_sign_in).post(local::sign_in))
        .route("/join", get(local::show_join).post(local::join))
        .route("/icon.svg", get(|| async { kombify_pages::icon() }))
        .route("/style.css", get(|| async { kombify_pages::stylesheet() }))
        .layer(DefaultBodyLimit::max(FORM_MAX_BYTES))
        .layer(middleware::map_response_with_state(is_secure(&portal.host), harden))
        .with_state(portal)
}

async fn harden(axum::extract::State(secure): axum::extract::State<bool>, response: Response) -> Response {
    kombify_pages::harden(response, secure)
}

/// A fault, as a page.
struct Fault(Error);

impl From<Error> for Fault {
    fn from(fault: Error) -> Self {
        Self(fault)
    }
}

impl IntoResponse for Fault {
    fn into_response(self) -> Response {
        kombify_pages::fault_page(&self.0)
    }
}

/// Sends the browser on.
fn see_other(to: &str) -> Result<Response> {
    let location = HeaderValue::try_from(to).map_err(Error::internal)?;
    Ok((StatusCode::SEE_OTHER, [(header::LOCATION, location)]).into_response())
}

/// Where only forms lead: whoever comes there otherwise, as by reloading the page that a form left, goes to the start.
async fn to_start() -> Result<Response, Fault> {
    Ok(see_other("/")?)
}

impl Portal {
    /// The token of the browser's session.
    fn token<'a>(&self, headers: &'a HeaderMap) -> Result<Option<&'a str>> {
        kombify_mesh::identity::cookie(headers, &self.session_cookie)
    }

    /// Whether a form comes from a page of ours.
    fn check_origin(&self, headers: &HeaderMap) -> Result<()> {
        kombify_pages::same_origin(headers, &self.host.origin)
    }

    fn set_cookie(
        &self,
        response: &mut Response,
        name: &str,
        value: &str,
        seconds: u64,
        same_site: SameSite,
    ) -> Result<()> {
        let cookie = cookies::set(name, value, seconds, same_site, is_secure(&self.host))?;
        response.headers_mut().append(header::SET_COOKIE, cookie);
        Ok(())
    }

    fn clear_cookie(&self, response: &mut Response, name: &str) -> Result<()> {
        let cookie = cookies::clear(name, is_secure(&self.host))?;
        response.headers_mut().append(header::SET_COOKIE, cookie);
        Ok(())
    }
}
