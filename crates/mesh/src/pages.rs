//! Pages: what a module shows to browsers, beside its methods. They are bounded and counted as calls are.

use std::sync::Arc;

use axum::Extension;
use bytes::Bytes;
use http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderName, REFERRER_POLICY, RETRY_AFTER,
    X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use http::{Extensions, HeaderValue, Request, Response, StatusCode};
use http_body_util::Full;
use kombify_core::error::Remote;
use kombify_core::{Caller, Error, Result};
use tonic::body::Body;

use crate::edge::ClientAddress;
use crate::rate::RateLimiter;
use crate::room::{Inner, Room, forward};
use crate::server::Pages;
use crate::status::{failed, read, seconds_up};

/// What counts the pages of a module. A request extension.
#[derive(Clone)]
struct Counter(Arc<RateLimiter>);

impl Pages {
    /// The same pages, which [`count`] counts by this limiter.
    #[must_use]
    pub fn counted(self, limiter: Arc<RateLimiter>) -> Self {
        Self { router: self.router.layer(Extension(Counter(limiter))), ..self }
    }
}

/// Counts a request for a page against a rate class, by the address of the caller: when a page is asked for, it knows
/// nobody yet.
///
/// # Errors
/// - [`Error::RateLimited`] if there were too many in this minute.
/// - [`Error::Internal`] if nothing counts the pages of this module.
pub fn count(extensions: &Extensions, class: &str) -> Result<()> {
    let Some(Counter(limiter)) = extensions.get::<Counter>() else {
        return Err(Error::internal("nothing counts the pages of this module"));
    };
    let address = extensions.get::<ClientAddress>().map_or("", |address| address.0.as_str());
    match limiter.count(class, &Caller::default(), address).and_then(|counted| counted.refusal()) {
        Some(refusal) => Err(refusal),
        None => Ok(()),
    }
}

/// The room that says to a browser, in plain words, what the rooms behind it refuse: they speak gRPC.
#[derive(Clone, Copy, Debug)]
pub struct Plain;

impl Room for Plain {
    async fn pass(&self, request: Request<Body>, inner: impl Inner) -> Response<Body> {
        let response = forward(inner, request).await;
        match failed(&response) {
            Some(status) => plain(&read(&status)),
            None => response,
        }
    }
}

/// A refusal as text, as hardened as a page.
fn plain(refused: &Remote) -> Response<Body> {
    let mut response = Response::new(Body::new(Full::<Bytes>::from(format!("{}\n", refused.message))));
    *response.status_mut() =
        StatusCode::from_u16(refused.code.http()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = response.headers_mut();
    for (name, value) in [
        (CONTENT_TYPE, "text/plain; charset=utf-8"),
        (CONTENT_SECURITY_POLICY, "default-src 'none'; frame-ancestors 'none'; base-uri 'none'"),
        (X_FRAME_OPTIONS, "DENY"),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (REFERRER_POLICY, "same-origin"),
        (CACHE_CONTROL, "no-store"),
        (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    if let Some(delay) = refused.retry_after {
        headers.insert(RETRY_AFTER, seconds_up(delay).into());
    }
    response
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::net::{IpAddr, Ipv4Addr, SocketAddr};
    use std::time::Duration;

    use axum::Router;
    use axum::extract::ConnectInfo;
    use axum::routing::{get, post};
    use futures_util::stream;
    use http::HeaderMap;
    use http_body::Frame;
    use http_body_util::{BodyExt as _, StreamBody};
    use kombify_core::{Clock, Code};
    use tokio::sync::Notify;
    use tokio::task::JoinSet;
    use tokio::time::Instant;
    use tower::ServiceExt as _;

    use super::*;
    use crate::health::Health;
    use crate::rate::{ClassLimit, RateLimits};
    use crate::server::{App, Module, ServerConfig};
    use crate::status::refuse;
    use crate::system::{SystemClock, SystemIds};

    const PAGES: &[&str] = &["/", "/form"];

    fn clock() -> Arc<dyn Clock> {
        Arc::new(SystemClock)
    }

    /// A module with these pages, whose methods refuse everything.
    fn app(config: ServerConfig, router: Router) -> App {
        let module = Module {
            service: "test",
            config,
            clock: clock(),
            ids: Arc::new(SystemIds),
            trusted_proxies: [IpAddr::V4(Ipv4Addr::LOCALHOST)].into(),
            health: Health::new(clock(), None),
        };
        let calls = tower::service_fn(|_: Request<Body>| async {
            Ok::<_, Infallible>(refuse(&Error::NotImplemented("every method".into())))
        });
        let limit = ClassLimit { free: 2, pro: 2, enterprise: 2, by_address: true };
        let limits = RateLimits([("sign-in".to_owned(), limit)].into());
        let pages = Pages { router, paths: Some(PAGES) };
        module.app(Some(pages.counted(Arc::new(RateLimiter::new(limits, clock())))), calls)
    }

    fn ask(path: &str) -> Request<Body> {
        Request::get(path).body(Body::empty()).unwrap()
    }

    async fn send(app: &App, request: Request<Body>) -> Response<Body> {
        app.clone().oneshot(request).await.unwrap()
    }

    async fn text(response: Response<Body>) -> String {
        String::from_utf8(response.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap()
    }

    #[track_caller]
    fn is_hardened(response: &Response<Body>) {
        for (name, value) in [
            ("content-security-policy", "default-src 'none'; frame-ancestors 'none'; base-uri 'none'"),
            ("x-frame-options", "DENY"),
            ("x-content-type-options", "nosniff"),
            ("cache-control", "no-store"),
            ("content-type", "text/plain; charset=utf-8"),
        ] {
            assert_eq!(response.headers()[name], value, "{name}");
        }
        assert!(!response.headers().contains_key("grpc-status"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_form_that_does_not_come_in_time_is_given_up() {
        let router = Router::new().route("/form", post(|_: Bytes| async { "read" }));
        let app = app(ServerConfig::default(), router);
        for timeout in ["", "60S"] {
            let never = StreamBody::new(stream::pending::<Result<Frame<Bytes>, Infallible>>());
            let mut request = Request::post("/form").body(Body::new(never)).unwrap();
            if !timeout.is_empty() {
                request.headers_mut().insert("grpc-timeout", HeaderValue::from_static(timeout));
            }
            let begun = Instant::now();
            let response = send(&app, request).await;
            let elapsed = begun.elapsed();
            assert!(elapsed >= Duration::from_secs(10) && elapsed < Duration::from_secs(11), "{elapsed:?}");
            assert_eq!(response.status(), StatusCode::GATEWAY_TIMEOUT, "{timeout}");
            is_hardened(&response);
        }
        assert_eq!(text(send(&app, Request::post("/form").body(Body::empty()).unwrap()).await).await, "read");
    }

    #[tokio::test]
    async fn one_page_too_many_is_told_to_come_back_and_everything_else_is_served() {
        let entered = Arc::new(Notify::new());
        let inside = Arc::clone(&entered);
        let slow = get(move || {
            let inside = Arc::clone(&inside);
            async move {
                inside.notify_one();
                std::future::pending::<&'static str>().await
            }
        });
        let router = Router::new().route("/form", slow).route("/", get(|| async { "home" }));
        let app = app(ServerConfig { max_requests: 1, ..ServerConfig::default() }, router);
        let mut open = JoinSet::new();
        open.spawn(app.clone().oneshot(ask("/form")));
        entered.notified().await;

        let response = send(&app, ask("/")).await;
        assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(response.headers()["retry-after"], "1");
        is_hardened(&response);
        assert_eq!(text(response).await, "the service is busy\n");
        let mut call = ask("/");
        call.headers_mut().insert("content-type", HeaderValue::from_static("application/grpc"));
        assert_eq!(send(&app, call).await.headers()["grpc-status"], "12", "calls have places of their own");
        assert_eq!(send(&app, ask("/health")).await.status(), StatusCode::OK);

        open.shutdown().await;
        assert_eq!(text(send(&app, ask("/")).await).await, "home");
    }

    #[tokio::test]
    async fn a_page_that_panics_is_an_answer_that_says_nothing() {
        let fragile = get(|headers: HeaderMap| async move {
            assert!(headers.contains_key("x-calm"), "a secret of the inside");
            "calm"
        });
        let app = app(ServerConfig::default(), Router::new().route("/", fragile));
        for _ in 0..2 {
            let response = send(&app, ask("/")).await;
            assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);
            is_hardened(&response);
            assert_eq!(text(response).await, "internal error\n");
        }
        let mut request = ask("/");
        request.headers_mut().insert("x-calm", HeaderValue::from_static("yes"));
        assert_eq!(text(send(&app, request).await).await, "calm");
    }

    #[tokio::test]
    async fn pages_are_counted_by_the_address_that_our_own_proxies_saw() {
        let page = get(|extensions: Extensions| async move {
            match count(&extensions, "sign-in") {
                Ok(()) => String::new(),
                Err(fault) => fault.to_string(),
            }
        });
        let app = app(ServerConfig::default(), Router::new().route("/", page));
        let refused = "too many requests: the limit is 2 a minute";
        for (peer, forwarded, expected) in [
            ("127.0.0.1", "203.0.113.7", ""),
            ("127.0.0.1", "6.6.6.6, 203.0.113.7", ""),
            ("127.0.0.1", "203.0.113.7", refused),
            ("127.0.0.1", "203.0.113.8", ""),
            // Whoever is no proxy of ours says nothing about others.
            ("203.0.113.9", "203.0.113.7", ""),
            ("203.0.113.9", "1.1.1.1", ""),
            ("203.0.113.9", "2.2.2.2", refused),
        ] {
            let mut request = ask("/");
            request.headers_mut().insert("x-forwarded-for", HeaderValue::from_static(forwarded));
            let peer: IpAddr = peer.parse().unwrap();
            request.extensions_mut().insert(ConnectInfo(SocketAddr::new(peer, 1)));
            assert_eq!(text(send(&app, request).await).await, expected, "{peer} for {forwarded}");
        }
    }

    #[test]
    fn what_nothing_counts_is_not_served() {
        assert_eq!(count(&Extensions::new(), "other").unwrap_err().code(), Code::InternalError);
    }
}
