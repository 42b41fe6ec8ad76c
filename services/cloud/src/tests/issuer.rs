//! An issuer that is made for tests: discovery, keys, and the token endpoint.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use axum::extract::{Form, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use kombify_core::Clock as _;
use reqwest::Url;
use serde_json::{Map, Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use super::house::{CLIENT_ID, Manual, ORIGIN};

/// How long its access tokens last, in seconds.
pub(super) const ACCESS_SECONDS: i64 = 900;

/// Whom it signs in.
pub(super) const SUB: &str = "100000000000000001";

/// A key that signs.
pub(super) struct Key {
    kid: String,
    public: String,
    encoding: EncodingKey,
}

impl Key {
    pub(super) fn new(kid: &str) -> Arc<Self> {
        let pair = Ed25519KeyPair::generate().unwrap();
        let pkcs8 = pair.to_pkcs8v1().unwrap();
        Arc::new(Self {
            kid: kid.to_owned(),
            public: URL_SAFE_NO_PAD.encode(pair.public_key()),
            encoding: EncodingKey::from_ed_der(pkcs8.as_ref()),
        })
    }

    pub(super) fn sign(&self, claims: &Value) -> String {
        let header = Header { kid: Some(self.kid.clone()), ..Header::new(Algorithm::EdDSA) };
        jsonwebtoken::encode(&header, claims, &self.encoding).unwrap()
    }

    fn jwk(&self) -> Value {
        json!({"kty": "OKP", "crv": "Ed25519", "use": "sig", "alg": "EdDSA", "kid": self.kid, "x": self.public})
    }
}

/// What a code was given for.
struct Granted {
    nonce: String,
    challenge: String,
}

/// What a test sets and looks at.
pub(super) struct Told {
    /// The keys that it publishes.
    pub(super) published: Vec<Arc<Key>>,
    /// The key that it signs with.
    pub(super) signs: Arc<Key>,
    /// Whether it answers nothing but 503.
    pub(super) is_away: bool,
    /// Claims of ID tokens that are other than they should be; `null` leaves one out.
    pub(super) claims: Map<String, Value>,
    /// Whether its discovery names where to sign out.
    pub(super) ends_sessions: bool,
    /// How often it was discovered.
    pub(super) discoveries: usize,
    /// How often somebody came for tokens with a refresh token.
    pub(super) refreshes: usize,
    /// The one refresh token that is good.
    pub(super) refresh: String,
    codes: HashMap<String, Granted>,
    made: usize,
}

pub(super) struct Issuer {
    pub(super) url: String,
    clock: Arc<Manual>,
    told: Mutex<Told>,
}

impl Issuer {
    pub(super) async fn start(clock: Arc<Manual>, tasks: &mut JoinSet<()>) -> Arc<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let key = Key::new("first");
        let told = Told {
            published: vec![Arc::clone(&key)],
            signs: key,
            is_away: false,
            claims: Map::new(),
            ends_sessions: true,
            discoveries: 0,
            refreshes: 0,
            refresh: String::new(),
            codes: HashMap::new(),
            made: 0,
        };
        let url = format!("http://{}", listener.local_addr().unwrap());
        let issuer = Arc::new(Self { url, clock, told: Mutex::new(told) });
        let router = Router::new()
            .route("/.well-known/openid-configuration", get(discovery))
            .route("/keys", get(keys))
            .route("/token", post(token))
            .with_state(Arc::clone(&issuer));
        tasks.spawn(async move { axum::serve(listener, router).await.unwrap() });
        issuer
    }

    pub(super) fn told(&self) -> MutexGuard<'_, Told> {
        self.told.lock().unwrap()
    }

    /// What the browser that was sent to `url` comes back with: somebody signed in at once.
    pub(super) fn authorize(&self, url: &str) -> String {
        let url = Url::parse(url).unwrap();
        assert!(url.as_str().starts_with(&format!("{}/authorize?", self.url)), "{url}");
        let wanted: HashMap<_, _> = url.query_pairs().into_owned().collect();
        for (name, value) in [
            ("response_type", "code"),
            ("client_id", CLIENT_ID),
            ("redirect_uri", &format!("{ORIGIN}/callback")),
            ("code_challenge_method", "S256"),
            ("scope", "openid profile email offline_access"),
        ] {
            assert_eq!(wanted[name], value, "{name}");
        }
        let mut told = self.told();
        told.made += 1;
        let code = format!("code-{}", told.made);
        let granted = Granted { nonce: wanted["nonce"].clone(), challenge: wanted["code_challenge"].clone() };
        told.codes.insert(code.clone(), granted);
        format!("/callback?code={code}&state={}", wanted["state"])
    }

    fn tokens(&self, told: &mut Told, nonce: Option<&str>) -> Value {
        told.made += 1;
        told.refresh = format!("refresh-{}", told.made);
        let now = self.clock.now().as_second();
        let mut claims = json!({
            "iss": self.url, "sub": SUB, "aud": CLIENT_ID, "iat": now, "exp": now + ACCESS_SECONDS,
            "auth_time": now, "nonce": nonce, "name": "Ada <Lovelace>", "email": "ada@example.com",
            "email_verified": true,
        });
        for (name, value) in &told.claims {
            claims[name] = value.clone();
        }
        claims.as_object_mut().unwrap().retain(|_, value| !value.is_null());
        json!({
            "access_token": format!("access-{}", told.made),
            "token_type": "Bearer",
            "expires_in": ACCESS_SECONDS,
            "refresh_token": told.refresh,
            "id_token": told.signs.sign(&claims),
        })
    }
}

async fn discovery(State(issuer): State<Arc<Issuer>>) -> Response {
    let mut told = issuer.told();
    told.discoveries += 1;
    if told.is_away {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    }
    let url = &issuer.url;
    let mut says = json!({
        "issuer": url,
        "authorization_endpoint": format!("{url}/authorize"),
        "token_endpoint": format!("{url}/token"),
        "userinfo_endpoint": format!("{url}/userinfo"),
        "jwks_uri": format!("{url}/keys"),
        "response_types_supported": ["code"],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": ["EdDSA"],
    });
    if told.ends_sessions {
        says["end_session_endpoint"] = format!("{url}/end").into();
    }
    Json(says).into_response()
}

async fn keys(State(issuer): State<Arc<Issuer>>) -> Response {
    let told = issuer.told();
    if told.is_away {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    }
    Json(json!({"keys": told.published.iter().map(|key| key.jwk()).collect::<Vec<_>>()})).into_response()
}

async fn token(State(issuer): State<Arc<Issuer>>, Form(asked): Form<HashMap<String, String>>) -> Response {
    let mut told = issuer.told();
    if told.is_away {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    }
    let refused = || (StatusCode::BAD_REQUEST, Json(json!({"error": "invalid_grant"}))).into_response();
    let is_ours = asked.get("client_id").is_some_and(|client| client == CLIENT_ID);
    let nonce = match asked.get("grant_type").map(String::as_str) {
        Some("authorization_code") if is_ours => {
            let Some(granted) = told.codes.remove(&asked["code"]) else { return refused() };
            let verifier = kombify_mesh::secret::hash(&asked["code_verifier"]);
            if granted.challenge != URL_SAFE_NO_PAD.encode(verifier)
                || asked["redirect_uri"] != format!("{ORIGIN}/callback")
            {
                return refused();
            }
            Some(granted.nonce)
        }
        Some("refresh_token") if is_ours => {
            told.refreshes += 1;
            if asked["refresh_token"] != told.refresh {
                // As providers do that take a second use for a theft: nothing of the grant is good any more.
                told.refresh.clear();
                return refused();
            }
            None
        }
        _ => return refused(),
    };
    Json(issuer.tokens(&mut told, nonce.as_deref())).into_response()
}
