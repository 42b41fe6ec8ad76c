//! The identity provider's users: a thin client of Zitadel's user API, version 2.
//! Source: <https://zitadel.com/docs/reference/api/user>.

use std::time::Duration;

use kombify_core::{Error, Result, Sub};
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;

/// How long the provider may take for one answer.
const TIMEOUT: Duration = Duration::from_secs(5);

/// When to try again where the provider is away.
const RETRY: Duration = Duration::from_secs(5);

/// The code of gRPC by which the provider says that something is so already.
const FAILED_PRECONDITION: i32 = 9;

/// The users of the identity provider.
#[derive(Clone)]
pub struct ProviderUsers {
    issuer: String,
    token: Option<SecretString>,
    http: reqwest::Client,
}

/// The states of a user that a lock leads to, and its end.
const LOCKED: &str = "USER_STATE_LOCKED";
const ACTIVE: &str = "USER_STATE_ACTIVE";

/// A user as the provider tells it.
#[derive(Deserialize)]
struct ReadUser {
    user: ProviderUser,
}

/// What of it matters here.
#[derive(Deserialize)]
struct ProviderUser {
    state: String,
}

/// What the provider says when it refuses.
#[derive(Deserialize)]
struct Refusal {
    #[serde(default)]
    code: i32,
}

impl ProviderUsers {
    /// The users of the provider at `issuer`, changed in the name of a service user with that personal access token.
    /// Without one nothing is changed.
    ///
    /// # Errors
    /// - [`Error::Internal`] if no client can be made.
    pub fn new(issuer: &str, token: Option<SecretString>) -> Result<Self> {
        let http = reqwest::Client::builder()
            .timeout(TIMEOUT)
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .map_err(Error::internal)?;
        Ok(Self { issuer: issuer.trim_end_matches('/').to_owned(), token, http })
    }

    /// Locks the user or ends the lock. What is so already stays so.
    ///
    /// # Errors
    /// - [`Error::NotFound`] if the provider does not know the user.
    /// - [`Error::PreconditionFailed`] if the user is in a state from which there is no way, such as deactivated.
    /// - [`Error::Unavailable`] if the provider cannot be asked, or refuses our token.
    pub async fn set_lock(&self, sub: &Sub, locked: bool) -> Result<()> {
        let (verb, meant) = if locked { ("lock", LOCKED) } else { ("unlock", ACTIVE) };
        let request = self.http.post(self.url(sub, Some(verb))?).json(&serde_json::json!({}));
        let answer = self.send(request).await?;
        let status = answer.status();
        if status.is_success() {
            return Ok(());
        }
        let refusal = answer.json::<Refusal>().await.unwrap_or(Refusal { code: 0 });
        match status.as_u16() {
            404 => Err(Error::not_found("user", sub)),
            400 | 409 | 412 if refusal.code == FAILED_PRECONDITION => {
                // It is so already, or the user is in a third state.
                let state = self.state(sub).await?;
                if state == meant {
                    return Ok(());
                }
                let message = format!("the identity provider cannot {verb} a user in state {state}");
                Err(Error::PreconditionFailed(message))
            }
            status => Err(away(&format!("it answers {status}"))),
        }
    }

    /// The state of the user, in the provider's words.
    async fn state(&self, sub: &Sub) -> Result<String> {
        let answer = self.send(self.http.get(self.url(sub, None)?)).await?;
        match answer.status().as_u16() {
            200 => {
                let read = answer.json::<ReadUser>().await;
                Ok(read.map_err(|cause| away(&cause.without_url().to_string()))?.user.state)
            }
            404 => Err(Error::not_found("user", sub)),
            status => Err(away(&format!("it answers {status}"))),
        }
    }

    async fn send(&self, request: reqwest::RequestBuilder) -> Result<reqwest::Response> {
        let Some(token) = &self.token else {
            return Err(away("no token for its user API is configured: set zitadel.token_file"));
        };
        let sent = request.bearer_auth(token.expose_secret()).send().await;
        sent.map_err(|cause| away(&cause.without_url().to_string()))
    }

    fn url(&self, sub: &Sub, verb: Option<&str>) -> Result<reqwest::Url> {
        let mut url = reqwest::Url::parse(&self.issuer).map_err(Error::internal)?;
        url.path_segments_mut()
            .map_err(|()| Error::internal("the issuer's URL has no path"))?
            .pop_if_empty()
            .extend(["v2", "users", sub.as_str()])
            .extend(verb);
        Ok(url)
    }
}

fn away(cause: &str) -> Error {
    tracing::warn!(cause, "the identity provider's users cannot be changed");
    Error::unavailable("the identity provider cannot be asked: nothing was changed", RETRY)
}

#[cfg(test)]
mod tests {
    use axum::Router;
    use axum::http::StatusCode;
    use axum::routing::{get, post};
    use kombify_core::Code;
    use serde_json::json;
    use tokio::task::JoinSet;

    use super::*;

    /// A provider that refuses every lock as it stands, of a user in that state.
    async fn provider(state: &'static str, tasks: &mut JoinSet<()>) -> ProviderUsers {
        let refuse = || async {
            (StatusCode::BAD_REQUEST, axum::Json(json!({"code": 9, "message": "not so", "details": []})))
        };
        let read = move || async move { axum::Json(json!({"details": {}, "user": {"state": state}})) };
        let router = Router::new()
            .route("/v2/users/1", get(read))
            .route("/v2/users/1/lock", post(refuse))
            .route("/v2/users/1/unlock", post(refuse));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        tasks.spawn(async move { axum::serve(listener, router).await.unwrap() });
        ProviderUsers::new(&url, Some("token".into())).unwrap()
    }

    #[tokio::test]
    async fn what_is_so_already_is_done_and_a_third_state_is_told() {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let (sub, mut tasks) = ("1".parse::<Sub>().unwrap(), JoinSet::new());
        for (state, locked, done) in [
            (LOCKED, true, true),
            (ACTIVE, false, true),
            (ACTIVE, true, false),
            ("USER_STATE_INACTIVE", true, false),
            ("USER_STATE_INACTIVE", false, false),
        ] {
            match provider(state, &mut tasks).await.set_lock(&sub, locked).await {
                Ok(()) => assert!(done, "{state} {locked}"),
                Err(fault) => {
                    assert_eq!((done, fault.code()), (false, Code::PreconditionFailed), "{state} {locked}");
                    assert!(fault.to_string().contains(state), "{fault}");
                }
            }
        }
        let provider = provider(ACTIVE, &mut tasks).await;
        let unknown = provider.set_lock(&"2".parse().unwrap(), true).await.unwrap_err();
        assert_eq!(unknown.code(), Code::NotFound);
    }
}
