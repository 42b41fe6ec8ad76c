//! The OIDC issuer, as a relying party sees it: discovery, keys, userinfo.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use jsonwebtoken::jwk::JwkSet;
use kombify_core::user::ProviderProfile;
use kombify_core::{Error, Result};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::time::Instant;

use super::keys::{KeySource, PublishedKey};
use crate::context::Context;

/// How long the issuer may take for one answer.
const ISSUER_TIMEOUT: Duration = Duration::from_secs(3);

/// How long an issuer that did not answer for userinfo is left alone: a mirror must not make every request wait.
const USERINFO_BACKOFF: Duration = Duration::from_secs(10);

/// How large an answer of the issuer may be.
const MAX_ANSWER_BYTES: usize = 256 * 1024;

/// The issuer.
#[derive(Clone)]
pub struct Issuer {
    url: String,
    http: reqwest::Client,
    userinfo_failed: Arc<Mutex<Option<Instant>>>,
}

#[derive(Deserialize)]
struct Discovery {
    issuer: String,
    jwks_uri: String,
    userinfo_endpoint: String,
}

/// What userinfo says. Source: OpenID Connect Core 1.0, section 5.1.
#[derive(Deserialize)]
struct Userinfo {
    sub: String,
    #[serde(default)]
    email: String,
    #[serde(default)]
    email_verified: bool,
    #[serde(default)]
    name: String,
    #[serde(default)]
    picture: String,
}

impl Issuer {
    /// The issuer of that URL, for example "<http://localhost:8083>".
    ///
    /// # Errors
    /// - [`Error::Internal`] if no HTTP client can be made.
    pub fn new(url: &str) -> Result<Self> {
        let http = reqwest::Client::builder()
            .timeout(ISSUER_TIMEOUT)
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .map_err(Error::internal)?;
        Ok(Self { url: url.trim_end_matches('/').to_owned(), http, userinfo_failed: Arc::default() })
    }

    /// The issuer's URL: the `iss` of its tokens.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// What userinfo says of the user of the request that is being served; `None` where no user's token is there, or
    /// while the issuer does not answer.
    pub async fn userinfo(&self, sub: &str) -> Option<ProviderProfile> {
        let token = Context::current()?.user_token?;
        let failed = *self.userinfo_failed.lock().unwrap_or_else(PoisonError::into_inner);
        if failed.is_some_and(|failed| failed.elapsed() < USERINFO_BACKOFF) {
            return None;
        }
        let asked = self.ask_userinfo(sub, token.expose()).await;
        // A token that the issuer refuses says nothing of the issuer.
        let is_away = matches!(asked, Err(Error::Unavailable { .. }));
        *self.userinfo_failed.lock().unwrap_or_else(PoisonError::into_inner) = is_away.then(Instant::now);
        asked.ok()
    }

    async fn ask_userinfo(&self, sub: &str, token: &str) -> Result<ProviderProfile> {
        let discovery = self.discover().await?;
        let info: Userinfo = read(self.http.get(&discovery.userinfo_endpoint).bearer_auth(token)).await?;
        if info.sub != sub {
            return Err(away("userinfo is of somebody else"));
        }
        let email = if info.email_verified { info.email } else { String::new() };
        let picture = if info.picture.starts_with("https://") { info.picture } else { String::new() };
        Ok(ProviderProfile { email: cut(email, 254), name: cut(info.name, 100), picture: cut(picture, 500) })
    }

    async fn discover(&self) -> Result<Discovery> {
        let url = format!("{}/.well-known/openid-configuration", self.url);
        let discovery: Discovery = read(self.http.get(url)).await?;
        if discovery.issuer == self.url { Ok(discovery) } else { Err(away("discovery names another issuer")) }
    }
}

#[async_trait]
impl KeySource for Issuer {
    async fn fetch(&self) -> Result<Vec<PublishedKey>> {
        let discovery = self.discover().await?;
        let set: JwkSet = read(self.http.get(discovery.jwks_uri)).await?;
        Ok(set.keys.into_iter().map(|jwk| PublishedKey { jwk, owner: None }).collect())
    }
}

async fn read<T: DeserializeOwned>(request: reqwest::RequestBuilder) -> Result<T> {
    let answer = async {
        let mut response = request.send().await?.error_for_status()?;
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await? {
            body.extend_from_slice(&chunk);
            if body.len() > MAX_ANSWER_BYTES {
                break;
            }
        }
        Ok::<_, reqwest::Error>(body)
    };
    let body = answer.await.map_err(|cause| match cause.status() {
        Some(status) if status.is_client_error() => Error::AuthInvalid("the identity provider refuses it"),
        _ => away(&cause.without_url().to_string()),
    })?;
    if body.len() > MAX_ANSWER_BYTES {
        return Err(away("the answer is too large"));
    }
    serde_json::from_slice(&body).map_err(|cause| away(&cause.to_string()))
}

fn away(cause: &str) -> Error {
    tracing::warn!(cause, "the issuer cannot be asked");
    Error::unavailable("the identity provider cannot be asked", Duration::from_secs(5))
}

fn cut(text: String, characters: usize) -> String {
    if text.chars().count() > characters { text.chars().take(characters).collect() } else { text }
}
