//! Cloud's pages with all that they stand on, and a browser.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{HeaderMap, Request, StatusCode, header};
use jiff::Timestamp;
use kombify_core::placed::{Basis, Push};
use kombify_core::revocation::{Revocation, UserRevocation};
use kombify_core::{Clock, ServiceIdentity};
use kombify_mesh::client::Peer;
use kombify_mesh::edge::ClientAddress;
use kombify_mesh::identity::issuer::Issuer as MeshIssuer;
use kombify_mesh::identity::keys::{Intervals, KeySet};
use kombify_mesh::identity::service_token;
use kombify_mesh::pushed::Revocations;
use kombify_mesh::rate::{RateLimiter, RateLimits};
use kombify_mesh::server::Pages;
use kombify_mesh::system::{SystemClock, SystemIds};
use tokio::task::JoinSet;
use tonic::codegen::{Bytes, tokio_stream};
use tower::ServiceExt as _;

use super::admin::Admin;
use super::issuer::{Issuer, SUB};
use crate::{Portal, PortalConfig};

pub(super) const ORIGIN: &str = "http://localhost:3000";
pub(super) const CLIENT_ID: &str = "kombify-cloud";

/// A clock that is set by hand. It begins at the present: the library that verifies ID tokens asks the system.
pub(super) struct Manual(Mutex<Timestamp>);

impl Manual {
    pub(super) fn advance(&self, seconds: i64) {
        let mut now = self.0.lock().unwrap();
        *now = Timestamp::from_second(now.as_second() + seconds).unwrap();
    }
}

impl Clock for Manual {
    fn now(&self) -> Timestamp {
        *self.0.lock().unwrap()
    }
}

pub(super) struct House {
    pub(super) clock: Arc<Manual>,
    pub(super) issuer: Arc<Issuer>,
    pub(super) admin: Arc<Admin>,
    pub(super) revocations: Arc<Revocations>,
    router: Router,
    _tasks: JoinSet<()>,
}

impl House {
    /// A house where Admin has pushed that nothing is revoked.
    pub(super) async fn open() -> Self {
        Self::counting(unlimited()).await
    }

    /// The same, where nobody may ask more often.
    pub(super) async fn counting(limits: RateLimits) -> Self {
        let house = Self::start(limits).await;
        house.push(1, Basis::Snapshot { page: 1, last: true }, None);
        house
    }

    pub(super) async fn before_the_push() -> Self {
        Self::start(unlimited()).await
    }

    async fn start(limits: RateLimits) -> Self {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default(); // Another test may have been first.
        let mut tasks = JoinSet::new();
        let present = Timestamp::from_second(SystemClock.now().as_second()).unwrap();
        let clock = Arc::new(Manual(Mutex::new(present)));
        let issuer = Issuer::start(Arc::clone(&clock), &mut tasks).await;
        let (admin, admin_url) = Admin::start(&mut tasks).await;
        let own = ServiceIdentity { module: "cloud".into(), instance: "main".into() };
        let signer = service_token::ephemeral(own, Arc::<Manual>::clone(&clock), &SystemIds).unwrap();
        let revocations = Arc::new(Revocations::default());
        let portal = Portal::new(PortalConfig {
            admin: Peer::new("admin", &admin_url, Arc::new(signer)).unwrap(),
            kits: Peer::anonymous(&admin_url).unwrap(),
            issuer: issuer.url.clone(),
            client_id: CLIENT_ID.into(),
            origin: ORIGIN.into(),
            key: "a key of thirty-two characters.....".into(),
            clock: Arc::<Manual>::clone(&clock),
            ids: Arc::new(SystemIds),
            issuer_keys: Arc::new(KeySet::new(MeshIssuer::new(&issuer.url).unwrap(), Intervals::default())),
            revocations: Arc::clone(&revocations),
            http: reqwest::Client::builder()
                .timeout(Duration::from_secs(5))
                .redirect(reqwest::redirect::Policy::none())
                .build()
                .unwrap(),
        });
        let limiter = RateLimiter::new(limits, Arc::<Manual>::clone(&clock));
        let pages = Pages { router: crate::pages(portal.unwrap()), paths: Some(crate::PAGES) };
        let router = pages.counted(Arc::new(limiter)).router;
        Self { clock, issuer, admin, revocations, router, _tasks: tasks }
    }

    pub(super) fn push(&self, version: u32, basis: Basis, revocation: Option<Revocation>) {
        let revocation =
            revocation.map(|revocation| UserRevocation { sub: SUB.parse().unwrap(), revocation });
        let push = Push { version, basis, items: revocation.into_iter().collect() };
        assert!(!self.revocations.apply(push, self.clock.now()).snapshot_needed);
    }

    /// Admin pushes, on top of nothing, that the user's sign-ins until now count no more.
    pub(super) fn revoke(&self, locked: bool) {
        let revocation = Revocation { time: self.clock.now(), locked };
        self.push(2, Basis::Change { base_version: 1 }, Some(revocation));
    }

    pub(super) fn browser(&self) -> Browser {
        Browser { router: self.router.clone(), cookies: BTreeMap::new(), address: "203.0.113.7" }
    }

    /// A browser where somebody has signed in.
    pub(super) async fn signed_in(&self) -> Browser {
        let mut browser = self.browser();
        let back = browser.sign_in(self, "/sign-in").await;
        assert_eq!((back.status, back.location()), (StatusCode::SEE_OTHER, "/"), "{}", back.body);
        browser
    }
}

/// Limits that nobody reaches.
fn unlimited() -> RateLimits {
    let mut limits = RateLimits::default();
    for limit in limits.0.values_mut() {
        limit.free = u32::MAX;
    }
    limits
}

/// A browser: it keeps cookies, and follows no redirect by itself.
#[derive(Clone)]
pub(super) struct Browser {
    router: Router,
    pub(super) cookies: BTreeMap<String, String>,
    pub(super) address: &'static str,
}

impl Browser {
    pub(super) async fn get(&mut self, uri: &str) -> Answer {
        self.send(Request::get(uri), Body::empty()).await
    }

    /// Sends a form of a page of Cloud's own.
    pub(super) async fn post(&mut self, uri: &str, form: &str) -> Answer {
        self.post_from(&[ORIGIN], uri, form).await
    }

    pub(super) async fn post_from(&mut self, origins: &[&str], uri: &str, form: &str) -> Answer {
        self.post_body(origins, uri, Body::from(form.to_owned())).await
    }

    /// Begins to send a form, of which nothing comes.
    pub(super) async fn post_nothing_from(&mut self, origins: &[&str], uri: &str) -> Answer {
        let never = tokio_stream::pending::<Result<Bytes, Infallible>>();
        self.post_body(origins, uri, Body::from_stream(never)).await
    }

    async fn post_body(&mut self, origins: &[&str], uri: &str, body: Body) -> Answer {
        let mut request =
            Request::post(uri).header(header::CONTENT_TYPE, "application/x-www-form-urlencoded");
        for origin in origins {
            request = request.header(header::ORIGIN, *origin);
        }
        self.send(request, body).await
    }

    /// Goes to `uri`, which sends to the issuer, and comes back from there.
    pub(super) async fn sign_in(&mut self, house: &House, uri: &str) -> Answer {
        let sent = self.get(uri).await;
        assert_eq!(sent.status, StatusCode::SEE_OTHER, "{}", sent.body);
        self.get(&house.issuer.authorize(sent.location())).await
    }

    pub(super) fn has_session(&self) -> bool {
        self.cookies.contains_key("kombify_cloud_session.0")
    }

    async fn send(&mut self, request: axum::http::request::Builder, body: Body) -> Answer {
        let cookies: Vec<_> = self.cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let mut request = request.header(header::COOKIE, cookies.join("; ")).body(body).unwrap();
        request.extensions_mut().insert(ClientAddress(self.address.to_owned()));
        let (parts, body) = self.router.clone().oneshot(request).await.unwrap().into_parts();
        for cookie in parts.headers.get_all(header::SET_COOKIE) {
            let (name, value) = cookie.to_str().unwrap().split(';').next().unwrap().split_once('=').unwrap();
            if value.is_empty() {
                self.cookies.remove(name);
            } else {
                self.cookies.insert(name.to_owned(), value.to_owned());
            }
        }
        let body = to_bytes(body, 1 << 20).await.unwrap();
        Answer {
            status: parts.status,
            headers: parts.headers,
            body: String::from_utf8(body.to_vec()).unwrap(),
        }
    }
}

pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: String,
}

impl Answer {
    pub(super) fn location(&self) -> &str {
        self.header("location")
    }

    pub(super) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// The page says that, as text or as markup.
    #[track_caller]
    pub(super) fn says(&self, text: &str) {
        assert!(self.body.contains(text), "{text}: {} {}", self.status, self.body);
    }

    #[track_caller]
    pub(super) fn is_silent_about(&self, text: &str) {
        assert!(!self.body.contains(text), "{text}: {}", self.body);
    }

    /// A page of that status with a fault of that code.
    #[track_caller]
    pub(super) fn refused(&self, status: u16, code: &str) {
        assert_eq!(self.status, status, "{}", self.body);
        self.says(&format!(r#"role="alert" data-code="{code}""#));
    }

    /// The page for whoever is not signed in.
    #[track_caller]
    pub(super) fn is_signed_out(&self) {
        assert_eq!(self.status, StatusCode::OK, "{}", self.body);
        self.says(r#"<a href="/sign-in">Sign in</a>"#);
    }
}
