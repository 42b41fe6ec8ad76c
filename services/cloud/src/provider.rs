//! The identity provider, as Cloud signs people in there: authorization code with PKCE, by the library `openidconnect`.

use std::time::Duration;

use jiff::Timestamp;
use kombify_core::{Error, Result};
use kombify_mesh::identity::keys::UNKNOWN_KEY_INTERVAL;
use openidconnect::core::{CoreAuthPrompt, CoreAuthenticationFlow, CoreClient, CoreTokenResponse};
use openidconnect::{
    AuthorizationCode, ClaimsVerificationError, ClientId, CsrfToken, EndpointMaybeSet, EndpointNotSet,
    EndpointSet, IssuerUrl, Nonce, OAuth2TokenResponse as _, PkceCodeChallenge, PkceCodeVerifier,
    ProviderMetadataWithLogout, RedirectUrl, RefreshToken, RequestTokenError, Scope,
    SignatureVerificationError, TokenResponse as _,
};
use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;
use tokio::time::Instant;

/// How long what the provider says of itself is kept.
const DISCOVERED_FOR: Duration = Duration::from_mins(10);

/// How long a provider that did not answer is left alone: whoever comes meanwhile must not wait for it, too.
const LEFT_ALONE: Duration = Duration::from_secs(1);

/// When to try again where the provider is away.
const RETRY: Duration = Duration::from_secs(5);

type Client = CoreClient<
    EndpointSet,
    EndpointNotSet,
    EndpointNotSet,
    EndpointNotSet,
    EndpointMaybeSet,
    EndpointMaybeSet,
>;

/// The provider.
pub struct Provider {
    issuer: String,
    client_id: String,
    redirect: String,
    http: reqwest::Client,
    known: Mutex<Known>,
}

/// What is known of the provider.
#[derive(Default)]
struct Known {
    discovered: Option<Discovered>,
    /// When the provider last failed to say it.
    failed: Option<Instant>,
}

#[derive(Clone)]
struct Discovered {
    client: Client,
    end_session: Option<String>,
    at: Instant,
}

/// What a sign-in that is under way needs again when the browser comes back: sealed in a cookie of one use.
#[derive(Deserialize, Serialize)]
pub struct Pending {
    pub(crate) state: String,
    pub(crate) nonce: String,
    pub(crate) verifier: String,
    /// Where the browser goes afterwards, on this site.
    pub(crate) return_to: String,
    /// Whether the provider was told to ask anew, whoever is signed in there.
    pub(crate) anew: bool,
}

/// Who has signed in.
pub struct SignedIn {
    pub(crate) sub: String,
    pub(crate) name: String,
    pub(crate) email: String,
    pub(crate) auth_time: Timestamp,
    pub(crate) id_token: String,
    pub(crate) tokens: Tokens,
}

/// What calls are made with.
#[derive(Clone, Deserialize, Serialize)]
pub struct Tokens {
    pub(crate) access: String,
    pub(crate) refresh: Option<String>,
    /// When the access token expires, in seconds since 1970.
    pub(crate) expires: i64,
}

impl Tokens {
    /// Whether the access token lasts for more than so many seconds after `now`.
    pub(crate) fn last_after(&self, now: Timestamp, seconds: i64) -> bool {
        self.expires - now.as_second() > seconds
    }
}

impl Provider {
    /// The provider at `issuer`, where Cloud is `client_id` and is reached at `origin`.
    pub fn new(issuer: &str, client_id: &str, origin: &str, http: reqwest::Client) -> Self {
        Self {
            issuer: issuer.to_owned(),
            client_id: client_id.to_owned(),
            redirect: format!("{origin}/callback"),
            http,
            known: Mutex::default(),
        }
    }

    /// What the provider says of itself, its keys with it.
    async fn discovered(&self) -> Result<Discovered> {
        self.discovered_within(DISCOVERED_FOR).await
    }

    /// The same, asked anew where that was longer ago; what is known stays good while the provider is away.
    async fn discovered_within(&self, kept: Duration) -> Result<Discovered> {
        let mut known = self.known.lock().await; // One asks, the others wait for the answer.
        if let Some(fresh) = known.discovered.as_ref().filter(|known| known.at.elapsed() < kept) {
            return Ok(fresh.clone());
        }
        if known.failed.is_none_or(|failed| failed.elapsed() >= LEFT_ALONE) {
            match self.discover().await {
                Ok(fresh) => *known = Known { discovered: Some(fresh), failed: None },
                Err(cause) => {
                    known.failed = Some(Instant::now());
                    return known.discovered.clone().ok_or(cause);
                }
            }
        }
        known.discovered.clone().ok_or_else(unavailable)
    }

    async fn discover(&self) -> Result<Discovered> {
        let issuer = IssuerUrl::new(self.issuer.clone()).map_err(Error::internal)?;
        let metadata = ProviderMetadataWithLogout::discover_async(issuer, &self.http)
            .await
            .map_err(|cause| away(&cause.to_string()))?;
        let end_session =
            metadata.additional_metadata().end_session_endpoint.as_ref().map(ToString::to_string);
        let redirect = RedirectUrl::new(self.redirect.clone()).map_err(Error::internal)?;
        let client =
            CoreClient::from_provider_metadata(metadata, ClientId::new(self.client_id.clone()), None)
                .set_redirect_uri(redirect);
        Ok(Discovered { client, end_session, at: Instant::now() })
    }

    /// Where the browser signs in, and what is needed when it comes back. `anew`: the provider asks, whoever is signed in
    /// there already.
    ///
    /// # Errors
    /// - [`Error::Unavailable`] if the provider is away.
    pub async fn begin(&self, return_to: &str, anew: bool) -> Result<(String, Pending)> {
        let Discovered { client, .. } = self.discovered().await?;
        let (challenge, verifier) = PkceCodeChallenge::new_random_sha256();
        let flow = CoreAuthenticationFlow::AuthorizationCode;
        let request = client
            .authorize_url(flow, CsrfToken::new_random, Nonce::new_random)
            .add_scopes(["profile", "email", "offline_access"].map(|scope| Scope::new(scope.to_owned())))
            .set_pkce_challenge(challenge);
        let request = if anew { request.add_prompt(CoreAuthPrompt::Login) } else { request };
        let (url, state, nonce) = request.url();
        let pending = Pending {
            state: state.secret().clone(),
            nonce: nonce.secret().clone(),
            verifier: verifier.secret().clone(),
            return_to: return_to.to_owned(),
            anew,
        };
        Ok((url.to_string(), pending))
    }

    /// Exchanges the code with which the browser came back, and verifies who has signed in.
    ///
    /// # Errors
    /// - [`Error::AuthInvalid`] if the provider refuses the code, or what it says does not hold.
    /// - [`Error::Unavailable`] if the provider is away.
    pub async fn finish(&self, code: String, pending: Pending, now: Timestamp) -> Result<SignedIn> {
        let Discovered { client, .. } = self.discovered().await?;
        let request = client
            .exchange_code(AuthorizationCode::new(code))
            .map_err(Error::internal)?
            .set_pkce_verifier(PkceCodeVerifier::new(pending.verifier));
        let answer = request.request_async(&self.http).await.map_err(|cause| refused(&cause))?;
        let id_token = answer.id_token().ok_or(Error::AuthInvalid("the provider gave no ID token"))?;
        let nonce = Nonce::new(pending.nonce);
        let verify = |client: &Client| id_token.claims(&client.id_token_verifier(), &nonce);
        let verified = match verify(&client) {
            // The provider may sign by a key that it had not published yet when it was last asked.
            Err(ClaimsVerificationError::SignatureVerification(
                SignatureVerificationError::NoMatchingKey,
            )) => verify(&self.discovered_within(UNKNOWN_KEY_INTERVAL).await?.client),
            verified => verified,
        };
        let claims = verified.map_err(|cause| {
            tracing::warn!(%cause, "an ID token does not hold");
            Error::AuthInvalid("the provider's ID token does not hold")
        })?;
        let name = claims.name().and_then(|name| name.get(None)).map(|name| name.to_string());
        let verified = claims.email_verified().unwrap_or(false);
        let auth_time = claims.auth_time().unwrap_or_else(|| claims.issue_time()).timestamp();
        Ok(SignedIn {
            sub: claims.subject().to_string(),
            name: name.unwrap_or_default(),
            email: claims.email().filter(|_| verified).map(|email| email.to_string()).unwrap_or_default(),
            auth_time: Timestamp::from_second(auth_time).map_err(Error::internal)?,
            id_token: id_token.to_string(),
            tokens: tokens(&answer, None, now),
        })
    }

    /// New tokens for a refresh token.
    ///
    /// # Errors
    /// - [`Error::AuthInvalid`] if the provider refuses it.
    /// - [`Error::Unavailable`] if the provider is away.
    pub async fn refresh(&self, refresh: &str, now: Timestamp) -> Result<Tokens> {
        let Discovered { client, .. } = self.discovered().await?;
        let token = RefreshToken::new(refresh.to_owned());
        let request = client.exchange_refresh_token(&token).map_err(Error::internal)?;
        let answer = request.request_async(&self.http).await.map_err(|cause| refused(&cause))?;
        Ok(tokens(&answer, Some(refresh), now))
    }

    /// Where the browser signs out; `None` where the provider has no such place.
    pub async fn end_session(&self, id_token: &str, origin: &str) -> Option<String> {
        let end_session = self.discovered().await.ok()?.end_session?;
        let mut url = reqwest::Url::parse(&end_session).ok()?;
        url.query_pairs_mut()
            .append_pair("id_token_hint", id_token)
            .append_pair("client_id", &self.client_id)
            .append_pair("post_logout_redirect_uri", &format!("{origin}/"));
        Some(url.to_string())
    }
}

fn tokens(answer: &CoreTokenResponse, before: Option<&str>, now: Timestamp) -> Tokens {
    let lifetime = answer.expires_in().unwrap_or_default().as_secs();
    Tokens {
        access: answer.access_token().secret().clone(),
        // A provider that does not rotate gives none anew.
        refresh: answer.refresh_token().map(|token| token.secret().clone()).or(before.map(str::to_owned)),
        expires: now.as_second().saturating_add(i64::try_from(lifetime).unwrap_or(i64::MAX)),
    }
}

fn refused<RE, T>(cause: &RequestTokenError<RE, T>) -> Error
where
    RE: std::error::Error + 'static,
    T: openidconnect::ErrorResponse + 'static,
{
    match cause {
        RequestTokenError::ServerResponse(_) => {
            Error::AuthInvalid("the identity provider refuses it: sign in again")
        }
        RequestTokenError::Request(_) | RequestTokenError::Parse(..) | RequestTokenError::Other(_) => {
            away(&cause.to_string())
        }
    }
}

fn away(cause: &str) -> Error {
    tracing::warn!(cause, "the identity provider cannot be asked");
    unavailable()
}

fn unavailable() -> Error {
    Error::unavailable("the identity provider cannot be asked", RETRY)
}
