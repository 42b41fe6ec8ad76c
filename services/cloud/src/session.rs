//! Cloud's own session: an encrypted cookie with who has signed in and the tokens with which Admin is called.

use std::collections::HashMap;
use std::sync::{Arc, Mutex as SyncMutex, PoisonError};

use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::Response;
use jiff::{SignedDuration, Timestamp};
use kombify_core::{Code, Error, Result, Sub};
use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;

use crate::portal::Portal;
use crate::provider::{SignedIn, Tokens};

/// How long a session lasts at most. Source: the contracts, "C2 identity".
const LIFETIME: SignedDuration = SignedDuration::from_hours(12);

/// An access token that lasts shorter than this is refreshed, in seconds.
const FRESH_SECONDS: i64 = 60;

/// Somebody who has signed in at this browser.
#[derive(Clone, Deserialize, Serialize)]
pub(crate) struct Session {
    pub(crate) sub: String,
    pub(crate) name: String,
    pub(crate) email: String,
    pub(crate) id_token: String,
    pub(crate) tokens: Tokens,
    auth_time: i64,
    expires: i64,
    /// Names the session within this process, for refreshing one at a time.
    key: String,
    /// Whether it has other tokens than the browser's cookies.
    #[serde(skip)]
    renewed: bool,
}

/// One refresh of a session at a time: two with the same token would look like a thief to the provider.
#[derive(Default)]
pub(crate) struct Refreshing(SyncMutex<HashMap<String, Arc<Mutex<Option<Tokens>>>>>);

/// How many sessions' last tokens are remembered at most.
const REMEMBERED: usize = 10_000;

impl Refreshing {
    fn of(&self, key: &str) -> Arc<Mutex<Option<Tokens>>> {
        let mut sessions = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if sessions.len() >= REMEMBERED {
            sessions.retain(|_, session| Arc::strong_count(session) > 1);
        }
        Arc::clone(sessions.entry(key.to_owned()).or_default())
    }
}

impl Session {
    /// The session of whoever has signed in now.
    ///
    /// # Errors
    /// - [`Error::AuthInvalid`] if the provider's `sub` is none.
    pub(crate) fn new(portal: &Portal, signed_in: SignedIn) -> Result<Self> {
        let now = portal.clock.now();
        let expires = now.checked_add(LIFETIME).map_err(Error::internal)?;
        let (key, _) = kombify_mesh::secret::make(&*portal.ids);
        let SignedIn { sub, name, email, auth_time, id_token, tokens } = signed_in;
        parse(&sub)?;
        let (auth_time, expires) = (auth_time.as_second(), expires.as_second());
        Ok(Self { sub, name, email, id_token, tokens, auth_time, expires, key, renewed: false })
    }

    /// The session of the browser, with an access token that lasts for a while.
    ///
    /// # Errors
    /// - [`Error::AuthRequired`] if there is none.
    /// - [`Error::AuthInvalid`] if what was signed in counts no more: it says why.
    /// - [`Error::Unavailable`] if the provider, or what Admin revoked, cannot be asked.
    pub(crate) async fn read(portal: &Portal, headers: &HeaderMap) -> Result<Self> {
        let mut session = Self::peek(portal, headers).ok_or(Error::AuthRequired)?;
        session.check(portal)?;
        let now = portal.clock.now();
        if session.tokens.last_after(now, FRESH_SECONDS) {
            return Ok(session);
        }
        match session.refresh(portal, now).await {
            Ok(()) => Ok(session),
            // The provider is away, and the token is good for a few seconds yet.
            Err(fault) if fault.code() == Code::ServiceUnavailable && session.tokens.last_after(now, 0) => {
                Ok(session)
            }
            Err(fault) => Err(fault),
        }
    }

    /// The session as the browser has it: neither refreshed nor held against what was revoked.
    pub(crate) fn peek(portal: &Portal, headers: &HeaderMap) -> Option<Self> {
        let sealed = portal.seal.read(headers, &portal.cookie("session"), portal.clock.now())?;
        serde_json::from_slice(&sealed).ok()
    }

    /// Whether the sign-in still counts.
    ///
    /// # Errors
    /// - [`Error::AuthInvalid`] if it does not: it says why.
    /// - [`Error::Unavailable`] before Admin has pushed what it revoked.
    pub(crate) fn check(&self, portal: &Portal) -> Result<()> {
        let signed_in_at = Timestamp::from_second(self.auth_time).map_err(Error::internal)?;
        match portal.revocations.find(&parse(&self.sub)?)? {
            Some(revocation) => revocation.check(signed_in_at),
            None => Ok(()),
        }
    }

    async fn refresh(&mut self, portal: &Portal, now: Timestamp) -> Result<()> {
        let turn = portal.refreshing.of(&self.key);
        let mut last = turn.lock().await;
        // A refresh token is good once: what another request of this browser got replaces what the browser sent.
        if let Some(newer) = last.as_ref().filter(|last| last.expires > self.tokens.expires) {
            self.tokens = newer.clone();
            self.renewed = true;
            if self.tokens.last_after(now, FRESH_SECONDS) {
                return Ok(());
            }
        }
        let refresh =
            self.tokens.refresh.as_deref().ok_or(Error::AuthInvalid("the session cannot be refreshed"))?;
        self.tokens = portal.provider.refresh(refresh, now).await?;
        self.renewed = true;
        *last = Some(self.tokens.clone());
        Ok(())
    }

    /// Sets the cookies of the session where its tokens are not the browser's.
    pub(crate) fn keep_renewed(&self, portal: &Portal, response: &mut Response) -> Result<()> {
        if self.renewed { self.keep(portal, response) } else { Ok(()) }
    }

    /// Sets the cookies of the session.
    pub(crate) fn keep(&self, portal: &Portal, response: &mut Response) -> Result<()> {
        let expires = Timestamp::from_second(self.expires).map_err(Error::internal)?;
        let value = serde_json::to_vec(self).map_err(Error::internal)?;
        let times = (portal.clock.now(), expires);
        append(response, portal.seal.set(&*portal.ids, &portal.cookie("session"), &value, times)?);
        Ok(())
    }

    /// Takes the session's cookies away.
    pub(crate) fn forget(portal: &Portal, response: &mut Response) -> Result<()> {
        append(response, portal.seal.clear(&portal.cookie("session"))?);
        Ok(())
    }

    /// What is shown of whoever has signed in.
    pub(crate) fn shown_name(&self) -> &str {
        [&self.name, &self.email, &self.sub]
            .into_iter()
            .find(|text| !text.is_empty())
            .map_or("", String::as_str)
    }
}

fn parse(sub: &str) -> Result<Sub> {
    sub.parse().map_err(|_| Error::AuthInvalid("the session is of nobody"))
}

/// Adds cookies to an answer.
pub(crate) fn append(response: &mut Response, cookies: Vec<HeaderValue>) {
    for cookie in cookies {
        response.headers_mut().append(header::SET_COOKIE, cookie);
    }
}
