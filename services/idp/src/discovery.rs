//! What a client reads first: the configuration, and the keys.

use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::Response;
use serde_json::{Value, json};

use crate::issuer::Issuer;
use crate::keys::Alg;
use crate::oauth::{Refusal, json_answer};

/// How long caches may keep it: less than the time for which a key is published ahead.
const CACHE: &str = "public, max-age=60";

pub(crate) async fn configuration(State(issuer): State<Arc<Issuer>>) -> Response {
    let base = &issuer.config.issuer;
    public(&json!({
        "issuer": base,
        "authorization_endpoint": format!("{base}/oauth/v2/authorize"),
        "token_endpoint": format!("{base}/oauth/v2/token"),
        "userinfo_endpoint": format!("{base}/oidc/v1/userinfo"),
        "end_session_endpoint": format!("{base}/oidc/v1/end_session"),
        "jwks_uri": format!("{base}/oauth/v2/keys"),
        "scopes_supported": ["openid", "profile", "email", "offline_access"],
        "response_types_supported": ["code"],
        "response_modes_supported": ["query"],
        "grant_types_supported": ["authorization_code", "refresh_token"],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": Alg::ALL.map(Alg::as_str),
        "token_endpoint_auth_methods_supported": ["none"],
        "code_challenge_methods_supported": ["S256"],
        "prompt_values_supported": ["none", "login", "create"],
        "claims_supported": [
            "iss", "sub", "aud", "exp", "iat", "auth_time", "nonce", "azp", "sid", "at_hash", "email",
            "email_verified", "name", "given_name", "family_name", "preferred_username", "updated_at",
        ],
        "backchannel_logout_supported": true,
        "backchannel_logout_session_supported": true,
        "claims_parameter_supported": false,
        "request_parameter_supported": false,
        "request_uri_parameter_supported": false,
    }))
}

pub(crate) async fn keys(State(issuer): State<Arc<Issuer>>) -> Result<Response, Refusal> {
    Ok(public(&issuer.ring().await?.jwks()))
}

/// An answer that any page may read: it holds nothing of anybody.
fn public(body: &Value) -> Response {
    let mut response = json_answer(StatusCode::OK, body);
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static(CACHE));
    response.headers_mut().insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    response
}

#[cfg(test)]
mod tests {
    use crate::testing::{House, ISSUER};

    #[tokio::test]
    async fn the_configuration_names_what_is_served() {
        let mut browser = House::open().browser();
        let answer = browser.get("/.well-known/openid-configuration").await;
        assert_eq!(answer.header("access-control-allow-origin"), "*");
        let configuration = answer.json();
        assert_eq!(configuration["issuer"], ISSUER);
        for endpoint in [
            "authorization_endpoint",
            "token_endpoint",
            "userinfo_endpoint",
            "end_session_endpoint",
            "jwks_uri",
        ] {
            let path = configuration[endpoint].as_str().unwrap().strip_prefix(ISSUER).unwrap();
            assert_ne!(browser.get(path).await.status, 404, "{endpoint}");
        }
    }

    #[tokio::test]
    async fn the_first_key_is_made_once_and_is_rs256() {
        let mut browser = House::open().browser();
        let answer = browser.get("/oauth/v2/keys").await;
        assert_eq!(answer.header("cache-control"), "public, max-age=60");
        let keys = answer.json();
        assert_eq!(keys["keys"].as_array().unwrap().len(), 1);
        assert_eq!(keys["keys"][0]["alg"], "RS256");
        assert_eq!(keys["keys"][0]["use"], "sig");
        assert_eq!(browser.get("/oauth/v2/keys").await.json(), keys);
    }
}
