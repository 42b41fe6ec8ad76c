//! `kombify token <user>`: the whole sign-in for a shell, by a client library that is not the provider's own.

use std::fs::File;
use std::path::Path;
use std::sync::LazyLock;
use std::time::Duration;

use jiff::Timestamp;
use kombify_core::Clock as _;
use kombify_mesh::system::SystemClock;
use openidconnect::core::{CoreAuthenticationFlow, CoreClient, CoreProviderMetadata, CoreTokenResponse};
use openidconnect::{
    AuthorizationCode, ClientId, CsrfToken, IssuerUrl, Nonce, OAuth2TokenResponse as _, PkceCodeChallenge,
    RedirectUrl, RefreshToken, Scope, TokenResponse as _,
};
use regex::Regex;
use reqwest::redirect::Policy;
use reqwest::{StatusCode, Url};
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Serialize};

use crate::Fault;
use crate::config::Config;
use crate::data;

/// The client of the command line, as the development identity provider knows it.
pub const CLIENT: &str = "kombify-cli";

/// Where its codes go: a loopback address at which nobody listens, since the command reads the redirect itself.
pub const REDIRECT: &str = "http://127.0.0.1/callback";

/// A token that lasts shorter than this is refreshed, in seconds.
const FRESH_SECONDS: i64 = 60;

/// How long one answer of the identity provider may take.
const TIMEOUT: Duration = Duration::from_secs(10);

/// How many pages and redirects a sign-in takes at most.
const MAX_STEPS: usize = 8;

/// What is kept of a sign-in, for its owner alone.
#[derive(Deserialize, Serialize)]
struct Kept {
    issuer: String,
    access_token: String,
    refresh_token: Option<String>,
    expires: Timestamp,
}

/// An access token of `user`, good for a minute at least.
///
/// # Errors
/// - if no mesh runs, or if the user does not sign in with the password that is known.
pub async fn token(config: &Config, user: &str) -> Result<String, Fault> {
    if user.is_empty() || user.len() > 254 || user.contains(['/', '\\', '\0']) || user.starts_with('.') {
        return Err("the user must be a login or an e-mail address".into());
    }
    let issuer = data::endpoints(&config.data)?.idp;
    let file = config.data.join("tokens").join(format!("{user}.json"));
    // One at a time: two that refresh the same token would look like a thief to the provider.
    let turn =
        File::options().create(true).truncate(false).write(true).open(config.data.join("tokens.lock"))?;
    turn.lock()?;
    let kept = std::fs::read(&file).ok().and_then(|text| serde_json::from_slice::<Kept>(&text).ok());
    let kept = kept.filter(|kept| kept.issuer == issuer);
    let provider = Provider::discover(&issuer).await?;
    if let Some(kept) = &kept
        && kept.expires.as_second() - SystemClock.now().as_second() > FRESH_SECONDS
        && provider.still_takes(&issuer, &kept.access_token).await?
    {
        return Ok(kept.access_token.clone());
    }
    let refreshed = match kept.and_then(|kept| kept.refresh_token) {
        Some(refresh) => provider.refresh(refresh).await.ok(), // One that is no longer good: sign in again.
        None => None,
    };
    let answer = match refreshed {
        Some(answer) => answer,
        None => provider.sign_in(user, &password(&config.data, user)?).await?,
    };
    let lifetime = answer.expires_in().unwrap_or_default();
    let kept = Kept {
        issuer,
        access_token: answer.access_token().secret().clone(),
        refresh_token: answer.refresh_token().map(|token| token.secret().clone()),
        expires: SystemClock.now().checked_add(jiff::SignedDuration::try_from(lifetime)?)?,
    };
    keep(&file, &kept)?;
    Ok(kept.access_token)
}

fn keep(file: &Path, kept: &Kept) -> Result<(), Fault> {
    Ok(kombify_mesh::config::write_secret(file, &serde_json::to_vec(kept)?)?)
}

/// The password of a seeded user, as `up` wrote it down; of others, from the environment.
fn password(dir: &Path, user: &str) -> Result<SecretString, Fault> {
    if let Some(password) = data::passwords(dir)?.remove(user) {
        return Ok(password.into());
    }
    #[expect(clippy::disallowed_methods, reason = "a secret of this command alone, not configuration")]
    let given = std::env::var("KOMBIFY_PASSWORD");
    given
        .map(Into::into)
        .map_err(|_| format!("the password of {user} is not known: set KOMBIFY_PASSWORD").into())
}

type Client = CoreClient<
    openidconnect::EndpointSet,
    openidconnect::EndpointNotSet,
    openidconnect::EndpointNotSet,
    openidconnect::EndpointNotSet,
    openidconnect::EndpointMaybeSet,
    openidconnect::EndpointMaybeSet,
>;

/// The identity provider, as the client library knows it.
struct Provider {
    client: Client,
    http: reqwest::Client,
}

impl Provider {
    async fn discover(issuer: &str) -> Result<Self, Fault> {
        let http = reqwest::Client::builder()
            .timeout(TIMEOUT)
            .redirect(Policy::none())
            .cookie_store(true)
            .build()?;
        let metadata = CoreProviderMetadata::discover_async(IssuerUrl::new(issuer.to_owned())?, &http)
            .await
            .map_err(|cause| format!("{issuer} does not answer ({cause}): start the mesh with `make up`"))?;
        let client = CoreClient::from_provider_metadata(metadata, ClientId::new(CLIENT.to_owned()), None)
            .set_redirect_uri(RedirectUrl::new(REDIRECT.to_owned())?);
        Ok(Self { client, http })
    }

    /// Whether the sign-in that the token came of still stands: it may have been ended since.
    async fn still_takes(&self, issuer: &str, token: &str) -> Result<bool, Fault> {
        let url = format!("{issuer}/oidc/v1/userinfo");
        let answer = self.http.get(url).bearer_auth(token).send().await?;
        Ok(answer.status() != StatusCode::UNAUTHORIZED)
    }

    async fn refresh(&self, token: String) -> Result<CoreTokenResponse, Fault> {
        let token = RefreshToken::new(token);
        Ok(self.client.exchange_refresh_token(&token)?.request_async(&self.http).await?)
    }

    async fn sign_in(&self, user: &str, password: &SecretString) -> Result<CoreTokenResponse, Fault> {
        let (challenge, verifier) = PkceCodeChallenge::new_random_sha256();
        let (url, state, nonce) = self
            .client
            .authorize_url(
                CoreAuthenticationFlow::AuthorizationCode,
                CsrfToken::new_random,
                Nonce::new_random,
            )
            .add_scopes(["profile", "email", "offline_access"].map(|scope| Scope::new(scope.to_owned())))
            .set_pkce_challenge(challenge)
            .url();
        let redirected = self.walk(url, user, password).await?;
        let parameter =
            |name: &str| redirected.query_pairs().find(|(key, _)| key == name).map(|(_, value)| value);
        if parameter("state").as_deref() != Some(state.secret()) {
            return Err("the identity provider answered to another request".into());
        }
        let code = parameter("code").ok_or("the identity provider gave no code")?.into_owned();
        let request = self.client.exchange_code(AuthorizationCode::new(code))?.set_pkce_verifier(verifier);
        let answer = request.request_async(&self.http).await?;
        let id_token = answer.id_token().ok_or("the identity provider gave no ID token")?;
        id_token.claims(&self.client.id_token_verifier(), &nonce)?;
        Ok(answer)
    }

    /// Goes the way of a browser: follows redirects, fills in the form, and stops at the redirect back to the client.
    async fn walk(&self, start: Url, user: &str, password: &SecretString) -> Result<Url, Fault> {
        let (mut url, mut asked) = (start, false);
        let mut response = self.http.get(url.clone()).send().await?;
        for _ in 0..MAX_STEPS {
            if response.status().is_redirection() {
                let location =
                    response.headers().get("location").ok_or("a redirect leads nowhere")?.to_str()?;
                url = url.join(location)?;
                if url.as_str().starts_with(REDIRECT) {
                    return Ok(url);
                }
                response = self.http.get(url.clone()).send().await?;
                continue;
            }
            if asked || response.status() != StatusCode::OK {
                return Err(format!("{user} was not signed in: the login or the password is wrong").into());
            }
            asked = true;
            let page = response.text().await?;
            let mut form = hidden_fields(&page);
            form.push(("login".to_owned(), user.to_owned()));
            form.push(("password".to_owned(), password.expose_secret().to_owned()));
            url = url.join("/sign-in")?;
            let origin = url.origin().ascii_serialization();
            response = self.http.post(url.clone()).header("origin", origin).form(&form).send().await?;
        }
        Err("the sign-in does not end".into())
    }
}

/// The hidden fields of a page's form.
fn hidden_fields(page: &str) -> Vec<(String, String)> {
    #[expect(clippy::unwrap_used, reason = "a constant pattern, compiled by a test")]
    static HIDDEN: LazyLock<Regex> =
        LazyLock::new(|| Regex::new(r#"<input type="hidden" name="([^"]*)" value="([^"]*)">"#).unwrap());
    HIDDEN.captures_iter(page).map(|found| (found[1].to_owned(), found[2].to_owned())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hidden_fields_of_a_form_are_found() {
        let page = r#"<form><input type="hidden" name="csrf" value="a"><input type="hidden" name="request" value="b">
            <input id="login" name="login" value="c"></form>"#;
        let fields = hidden_fields(page);
        assert_eq!(fields, [("csrf".to_owned(), "a".to_owned()), ("request".to_owned(), "b".to_owned())]);
    }
}
