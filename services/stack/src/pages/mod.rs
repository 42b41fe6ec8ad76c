//! The Stack's own pages, plain and made here: the way in, and the tenant's stacks, members and flags.

mod calls;
mod home;
mod kits;
mod local;
mod sso;

use std::sync::Arc;

use axum::Router;
use axum::extract::rejection::FormRejection;
use axum::extract::{DefaultBodyLimit, Form, FromRequest as _, Request};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use kombify_core::{Error, Result};
use kombify_mesh::server::App;
use kombify_pages::cookies::{self, SameSite};
use serde::de::DeserializeOwned;

use crate::Host;
use crate::sessions::{cookie, is_secure};

/// The paths that are pages, exactly.
pub const PAGES: [&str; 12] = [
    "/",
    "/icon.svg",
    "/join",
    "/kit",
    "/kits",
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
    let secure = is_secure(&portal.host);
    let pages = Router::new()
        .route("/", get(home::show))
        .route("/kit", get(kits::show))
        .route("/kits", get(kits::list))
        .route("/stacks", get(to_start).post(home::create_stack))
        .route("/stacks/delete", get(to_start).post(home::delete_stack))
        .route("/sign-out", post(home::sign_out))
        .route("/sso/start", get(sso::start))
        .route("/sso/callback", post(sso::callback))
        .route("/sign-in", get(local::show_sign_in).post(local::sign_in))
        .route("/join", get(local::show_join).post(local::join))
        .route("/icon.svg", get(|| async { kombify_pages::icon() }))
        .route("/style.css", get(|| async { kombify_pages::stylesheet() }))
        .with_state(portal);
    guard(pages, secure)
}

/// What stands before every page: counting, and how large a form may be; every answer is hardened.
fn guard(pages: Router, secure: bool) -> Router {
    pages
        .layer(DefaultBodyLimit::max(FORM_MAX_BYTES))
        .layer(middleware::from_fn(count))
        .layer(middleware::map_response_with_state(secure, harden))
}

/// What a request for a page counts as, by the caller's address. What only shows something is counted where the methods
/// behind it are, by its user; so is a password, by its address.
fn class(path: &str) -> Option<&'static str> {
    match path {
        "/sso/callback" => Some("sign-in"), // Each asks Admin, which writes down what it refuses.
        "/join" | "/sign-in" | "/sign-out" | "/sso/start" | "/stacks" | "/stacks/delete" => Some("other"),
        _ => None,
    }
}

/// Counts a request before anything of it is read.
async fn count(request: Request, next: Next) -> Response {
    let counted = class(request.uri().path())
        .map_or(Ok(()), |class| kombify_mesh::pages::count(request.extensions(), class));
    match counted {
        Ok(()) => next.run(request).await,
        Err(fault) => kombify_pages::fault_page(&fault),
    }
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

/// The form of a request: read when it is sure where it comes from, for whoever may not send one is not waited for.
async fn form<T: DeserializeOwned>(request: Request) -> Result<T, FormRejection> {
    Form::from_request(request, &()).await.map(|Form(form)| form)
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

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use axum::body::{Body, to_bytes};
    use kombify_mesh::edge::ClientAddress;
    use kombify_mesh::rate::{RateLimiter, RateLimits};
    use kombify_mesh::server::Pages;
    use kombify_mesh::system::SystemClock;
    use tower::ServiceExt as _;

    use super::*;

    /// Pages behind the guard, and how often one of them was asked.
    fn guarded() -> (Router, Arc<AtomicUsize>) {
        let asked = Arc::new(AtomicUsize::new(0));
        let page = || {
            let asked = Arc::clone(&asked);
            move || {
                asked.fetch_add(1, Ordering::Relaxed);
                async { "asked" }
            }
        };
        let router = Router::new()
            .route("/", get(page()))
            .route("/sso/callback", post(page()))
            .route("/sso/start", get(page()));
        let limiter = Arc::new(RateLimiter::new(RateLimits::default(), Arc::new(SystemClock)));
        let pages = Pages { router: guard(router, false), paths: Some(&PAGES) };
        (pages.counted(limiter).router, asked)
    }

    async fn send(router: &Router, verb: &str, path: &str, address: &str) -> Response {
        let mut request = Request::builder().method(verb).uri(path).body(Body::empty()).unwrap();
        request.extensions_mut().insert(ClientAddress(address.to_owned()));
        router.clone().oneshot(request).await.unwrap()
    }

    #[tokio::test]
    async fn a_launch_is_counted_as_a_sign_in_by_its_address_before_admin_is_asked() {
        let (router, asked) = guarded();
        for _ in 0..20 {
            assert_eq!(send(&router, "POST", "/sso/callback", "203.0.113.7").await.status(), 200);
        }
        let refused = send(&router, "POST", "/sso/callback", "203.0.113.7").await;
        assert_eq!((refused.status().as_u16(), asked.load(Ordering::Relaxed)), (429, 20));
        assert!(refused.headers().contains_key(header::RETRY_AFTER));
        assert_eq!(refused.headers()[header::X_FRAME_OPTIONS], "DENY");
        let page = to_bytes(refused.into_body(), 1 << 20).await.unwrap();
        assert!(String::from_utf8_lossy(&page).contains(r#"data-code="RATE_LIMITED""#));
        assert_eq!(send(&router, "POST", "/sso/callback", "203.0.113.8").await.status(), 200);
        // The way there is counted apart, and is open more often.
        for _ in 0..100 {
            assert_eq!(send(&router, "GET", "/sso/start", "203.0.113.7").await.status(), 200);
        }
        assert_eq!(send(&router, "GET", "/sso/start", "203.0.113.7").await.status(), 429);
        assert_eq!(send(&router, "GET", "/", "203.0.113.7").await.status(), 200);
    }

    #[test]
    fn every_page_that_changes_something_is_counted() {
        let limits = RateLimits::default();
        for path in PAGES {
            let uncounted = matches!(path, "/" | "/icon.svg" | "/kit" | "/kits" | "/style.css");
            assert_eq!(class(path).is_none(), uncounted, "{path}");
            assert!(class(path).is_none_or(|class| limits.0.contains_key(class)), "{path}");
        }
    }
}
