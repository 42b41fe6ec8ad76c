//! For the tests: a clock that is set by hand, an issuer in a directory of its own, and a browser.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::extract::ConnectInfo;
use axum::http::{HeaderMap, Method, Request, header};
use axum::{Router, http};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use kombify_core::{Clock, Ids};
use secrecy::ExposeSecret as _;
use serde_json::Value;
use tempfile::TempDir;
use tower::ServiceExt as _;

use crate::issuer::Issuer;
use crate::oauth::with_parameters;
use crate::store::sessions::Session;
use crate::token::challenge;
use crate::{Client, Config, Idp, SeedUser, secret};

pub(crate) const ISSUER: &str = "http://localhost:8083";
pub(crate) const AUDIENCE: &str = "kombify";
pub(crate) const DEFAULT_ORG: &str = "org-default";
/// The service user's personal access token.
pub(crate) const SERVICE_TOKEN: &str = "pat-of-the-platform-0123456789";
pub(crate) const PORTAL: &str = "portal";
pub(crate) const CALLBACK: &str = "http://localhost:3000/auth/callback";
pub(crate) const LEFT: &str = "http://localhost:3000/";
pub(crate) const VERIFIER: &str = "a-verifier-of-43-characters-is-long-enough.";

/// A clock that is set by hand.
pub(crate) struct Manual(Mutex<Timestamp>);

impl Manual {
    pub(crate) fn advance(&self, by: Duration) {
        let mut now = self.0.lock().unwrap();
        *now += by;
    }
}

impl Clock for Manual {
    fn now(&self) -> Timestamp {
        *self.0.lock().unwrap()
    }
}

/// Randomness that never repeats, and is the same in every run.
#[derive(Default)]
pub(crate) struct Counted(AtomicU64);

impl Ids for Counted {
    fn fill(&self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_mut(32) {
            let count = self.0.fetch_add(1, Ordering::Relaxed);
            chunk.copy_from_slice(&secret::hash(&count.to_string())[..chunk.len()]);
        }
    }
}

/// Alice, a user; root, who may rotate keys.
pub(crate) fn seeds() -> [SeedUser; 2] {
    let user = |login: &str, name: &str, role: &str| SeedUser {
        login: login.into(),
        email: format!("{login}@example.com"),
        name: name.into(),
        org: format!("org-{login}"),
        roles: vec![(role.into(), format!("org-{login}"))],
        password: None,
    };
    [user("alice", "Alice Liddell", "user"), user("root", "Root", "kombisphere_admin")]
}

/// An issuer in a directory of its own.
pub(crate) struct House {
    pub(crate) idp: Idp,
    pub(crate) clock: Arc<Manual>,
    /// Alice's.
    pub(crate) password: String,
    pub(crate) root_password: String,
    pub(crate) seeded_at: Timestamp,
    directory: Arc<TempDir>,
}

impl House {
    pub(crate) fn open() -> Self {
        Self::telling(&format!("{CALLBACK}/backchannel"))
    }

    /// One that tells the portal there when a session ends.
    pub(crate) fn telling(backchannel: &str) -> Self {
        let directory = TempDir::new().unwrap();
        let seeded_at: Timestamp = "2026-01-02T03:04:05Z".parse().unwrap();
        let clock = Arc::new(Manual(Mutex::new(seeded_at)));
        let client = |id: &str, redirect_uri: &str, backchannel: &str| Client {
            id: id.into(),
            redirect_uris: vec![redirect_uri.into()],
            post_logout_redirect_uris: vec![LEFT.into()],
            backchannel_logout_uri: Some(backchannel.into()),
        };
        let config = Config {
            issuer: ISSUER.into(),
            audience: AUDIENCE.into(),
            access_token_lifetime: Duration::from_mins(15),
            refresh_token_lifetime: Duration::from_hours(720),
            session_lifetime: Duration::from_hours(12),
            publish_ahead: Duration::from_mins(2),
            sign_ins_per_minute: 20,
            default_org: DEFAULT_ORG.into(),
            service_token: Some(SERVICE_TOKEN.into()),
            clients: vec![
                client(PORTAL, CALLBACK, backchannel),
                client("cli", "http://127.0.0.1/callback", "http://127.0.0.1/backchannel"),
            ],
        };
        let path = directory.path().join("idp.db");
        let idp =
            Idp::open(&path, config, Arc::<Manual>::clone(&clock), Arc::new(Counted::default())).unwrap();
        Self {
            idp,
            clock,
            password: String::new(),
            root_password: String::new(),
            seeded_at,
            directory: Arc::new(directory),
        }
    }

    pub(crate) async fn seeded() -> Self {
        Self::open().seed().await
    }

    pub(crate) async fn seed(self) -> Self {
        let mut house = self;
        let seeded = house.idp.seed(&seeds()).await.unwrap();
        let password = |of: usize| seeded[of].password.as_ref().unwrap().expose_secret().to_owned();
        (house.password, house.root_password) = (password(0), password(1));
        house
    }

    pub(crate) fn issuer(&self) -> &Issuer {
        &self.idp.issuer
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    pub(crate) fn browser(&self) -> Browser {
        Browser {
            router: self.idp.router(),
            cookies: BTreeMap::new(),
            origin: None,
            address: None,
            _directory: Arc::clone(&self.directory),
        }
    }
}

/// A browser: it keeps cookies, and follows no redirect by itself.
pub(crate) struct Browser {
    router: Router,
    pub(crate) cookies: BTreeMap<String, String>,
    /// What it says as `Origin` with a form.
    pub(crate) origin: Option<String>,
    /// Where it is, as the server sees it.
    pub(crate) address: Option<SocketAddr>,
    _directory: Arc<TempDir>,
}

impl Browser {
    pub(crate) async fn get(&mut self, uri: &str) -> Answer {
        self.send(Request::get(uri), Body::empty()).await
    }

    pub(crate) async fn post(&mut self, uri: &str, fields: &[(&str, &str)]) -> Answer {
        let fields: Vec<_> = fields.iter().map(|(name, value)| (*name, Some(*value))).collect();
        let body = with_parameters("", &fields).trim_start_matches('?').to_owned();
        let request = Request::post(uri).header(header::CONTENT_TYPE, "application/x-www-form-urlencoded");
        self.send(request, Body::from(body)).await
    }

    /// Sends the form of `page`, with its hidden fields.
    pub(crate) async fn submit(&mut self, page: &Answer, uri: &str, fields: &[(&str, &str)]) -> Answer {
        let hidden = ["csrf", "request"].into_iter().filter_map(|name| Some((name, page.hidden(name)?)));
        let all: Vec<_> = hidden.chain(fields.iter().copied()).collect();
        self.post(uri, &all).await
    }

    pub(crate) async fn token(&mut self, fields: &[(&str, &str)]) -> Answer {
        self.post("/oauth/v2/token", fields).await
    }

    pub(crate) async fn userinfo(&mut self, token: &str) -> Answer {
        let request =
            Request::get("/oidc/v1/userinfo").header(header::AUTHORIZATION, format!("Bearer {token}"));
        self.send(request, Body::empty()).await
    }

    pub(crate) async fn rotate(&mut self, token: &str, alg: &str) -> Answer {
        let request = Request::post("/keys:rotate").header(header::AUTHORIZATION, format!("Bearer {token}"));
        self.send(request, Body::from(format!("{{\"alg\": \"{alg}\"}}"))).await
    }

    /// Zitadel's user API: reads the user of that id, or does what stands behind it (`/lock`, `/unlock`).
    pub(crate) async fn users_api(&mut self, path: &str, token: &str) -> Answer {
        let uri = format!("/v2/users/{path}");
        let request = if path.contains('/') { Request::post(uri) } else { Request::get(uri) };
        let request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        self.send(request.header(header::CONTENT_TYPE, "application/json"), Body::from("{}")).await
    }

    /// Alice's code for the portal: at once where somebody is signed in, else by the form.
    pub(crate) async fn code(&mut self, house: &House, scope: &str) -> String {
        self.code_of(("alice", &house.password), &[("scope", scope)]).await
    }

    /// Alice's tokens for the portal.
    pub(crate) async fn sign_in(&mut self, house: &House, scope: &str) -> Tokens {
        self.sign_in_with(house, &[("scope", scope)]).await
    }

    pub(crate) async fn sign_in_with(&mut self, house: &House, parameters: &[(&str, &str)]) -> Tokens {
        let code = self.code_of(("alice", &house.password), parameters).await;
        self.redeem(&code).await
    }

    /// The tokens of that user for the portal, by the form.
    pub(crate) async fn sign_in_as(&mut self, house: &House, login: &str) -> Tokens {
        let password = if login == "root" { &house.root_password } else { &house.password };
        let code = self.code_of((login, password), &[("prompt", "login")]).await;
        self.redeem(&code).await
    }

    pub(crate) async fn redeem(&mut self, code: &str) -> Tokens {
        let fields = [
            ("grant_type", "authorization_code"),
            ("client_id", PORTAL),
            ("redirect_uri", CALLBACK),
            ("code_verifier", VERIFIER),
            ("code", code),
        ];
        self.token(&fields).await.tokens()
    }

    /// The session of this browser, as the issuer sees it.
    pub(crate) async fn session(&self, house: &House) -> Option<Session> {
        let mut headers = HeaderMap::new();
        headers.insert(header::COOKIE, self.cookie_line().parse().unwrap());
        house.issuer().session(&headers).await.unwrap()
    }

    async fn code_of(&mut self, (login, password): (&str, &str), parameters: &[(&str, &str)]) -> String {
        let mut answer = self.get(&authorize_uri(parameters)).await;
        if answer.location().is_some_and(|location| location.starts_with('/')) {
            let page = answer.follow(self).await;
            answer = self.submit(&page, "/sign-in", &[("login", login), ("password", password)]).await;
        }
        answer.code()
    }

    fn cookie_line(&self) -> String {
        let pairs: Vec<_> = self.cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
        pairs.join("; ")
    }

    async fn send(&mut self, request: http::request::Builder, body: Body) -> Answer {
        let mut request = request.body(body).unwrap();
        if !self.cookies.is_empty() {
            request.headers_mut().insert(header::COOKIE, self.cookie_line().parse().unwrap());
        }
        if let (Some(origin), &Method::POST) = (&self.origin, request.method()) {
            request.headers_mut().insert(header::ORIGIN, origin.parse().unwrap());
        }
        if let Some(address) = self.address {
            request.extensions_mut().insert(ConnectInfo(address));
        }
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        for cookie in parts.headers.get_all(header::SET_COOKIE) {
            let cookie = cookie.to_str().unwrap();
            let (name, value) = cookie.split(';').next().unwrap().split_once('=').unwrap();
            if cookie.contains("Max-Age=0") {
                self.cookies.remove(name);
            } else {
                self.cookies.insert(name.to_owned(), value.to_owned());
            }
        }
        let body = to_bytes(body, usize::MAX).await.unwrap();
        Answer {
            status: parts.status.as_u16(),
            headers: parts.headers,
            body: String::from_utf8(body.to_vec()).unwrap(),
        }
    }
}

/// What came back.
pub(crate) struct Answer {
    pub(crate) status: u16,
    headers: HeaderMap,
    pub(crate) body: String,
}

impl Answer {
    /// The header, or nothing.
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map(|value| value.to_str().unwrap()).unwrap_or_default()
    }

    pub(crate) fn location(&self) -> Option<&str> {
        self.headers.get(header::LOCATION).map(|location| location.to_str().unwrap())
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }

    pub(crate) async fn follow(&self, browser: &mut Browser) -> Self {
        browser.get(self.location().unwrap()).await
    }

    /// The code that goes to the client.
    pub(crate) fn code(&self) -> String {
        let location = self.location().unwrap();
        let code = location.strip_prefix(CALLBACK).and_then(|query| query.strip_prefix("?code="));
        code.unwrap().split('&').next().unwrap().to_owned()
    }

    pub(crate) fn tokens(&self) -> Tokens {
        assert_eq!(self.status, 200, "{}", self.body);
        Tokens(self.json())
    }

    fn hidden(&self, name: &str) -> Option<&str> {
        let (_, rest) = self.body.split_once(&format!("name=\"{name}\" value=\""))?;
        rest.split('"').next()
    }
}

/// What the token endpoint gave.
pub(crate) struct Tokens(Value);

impl Tokens {
    pub(crate) fn access(&self) -> &str {
        self.0["access_token"].as_str().unwrap()
    }

    pub(crate) fn id(&self) -> &str {
        self.0["id_token"].as_str().unwrap()
    }

    pub(crate) fn refresh(&self) -> Option<&str> {
        self.0["refresh_token"].as_str()
    }
}

/// The claims of a token, unverified.
pub(crate) fn claims_of(token: &str) -> Value {
    let claims = URL_SAFE_NO_PAD.decode(token.split('.').nth(1).unwrap()).unwrap();
    serde_json::from_slice(&claims).unwrap()
}

/// The portal's authorization request, with other or further parameters.
pub(crate) fn authorize_uri(parameters: &[(&str, &str)]) -> String {
    let challenge = challenge(VERIFIER);
    let mut all = BTreeMap::from([
        ("response_type", "code"),
        ("client_id", PORTAL),
        ("redirect_uri", CALLBACK),
        ("scope", "openid profile email"),
        ("state", "state 1"),
        ("nonce", "nonce-1"),
        ("code_challenge", challenge.as_str()),
        ("code_challenge_method", "S256"),
    ]);
    all.extend(parameters.iter().copied());
    let all: Vec<_> = all.into_iter().map(|(name, value)| (name, Some(value))).collect();
    with_parameters("/oauth/v2/authorize", &all)
}
