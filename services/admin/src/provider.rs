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
    /// - [`Error::Unavailable`] if the provider cannot be asked, or refuses our token.
    pub async fn set_lock(&self, sub: &Sub, locked: bool) -> Result<()> {
        let Some(token) = &self.token else {
            return Err(away("no token for its user API is configured: set zitadel.token_file"));
        };
        let verb = if locked { "lock" } else { "unlock" };
        let mut url = reqwest::Url::parse(&self.issuer).map_err(Error::internal)?;
        url.path_segments_mut()
            .map_err(|()| Error::internal("the issuer's URL has no path"))?
            .pop_if_empty()
            .extend(["v2", "users", sub.as_str(), verb]);
        let request = self.http.post(url).bearer_auth(token.expose_secret()).json(&serde_json::json!({}));
        let answer = request.send().await.map_err(|cause| away(&cause.without_url().to_string()))?;
        let status = answer.status();
        if status.is_success() {
            return Ok(());
        }
        let refusal = answer.json::<Refusal>().await.unwrap_or(Refusal { code: 0 });
        match status.as_u16() {
            404 => Err(Error::not_found("user", sub)),
            400 | 409 | 412 if refusal.code == FAILED_PRECONDITION => Ok(()), // It is so already.
            status => Err(away(&format!("it answers {status}"))),
        }
    }
}

fn away(cause: &str) -> Error {
    tracing::warn!(cause, "the identity provider's users cannot be changed");
    Error::unavailable("the identity provider cannot be asked: nothing was changed", RETRY)
}
