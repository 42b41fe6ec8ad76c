//! Cloud's own session: an encrypted cookie with who has signed in and the tokens with which Admin is called.

use std::collections::HashMap;
use std::sync::{Arc, Mutex as SyncMutex, PoisonError};

use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::Response;
use jiff::{SignedDuration, Timestamp};
use kombify_core::{Error, Result};
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
    pub(crate) fn new(portal: &Portal, signed_in: SignedIn) -> Result<Self> {
        let now = portal.clock.now();
        let expires = now.checked_add(LIFETIME).map_err(Error::internal)?;
        let (key, _) = kombify_mesh::secret::make(&*portal.ids);
        let SignedIn { sub, name, email, auth_time, id_token, tokens } = signed_in;
        let (auth_time, expires) = (auth_time.as_second(), expires.as_second());
        Ok(Self { sub, name, email, id_token, tokens, auth_time, expires, key })
    }

    /// The session of the browser, with an access token that lasts for a while; `None` where there is none, or what was
    /// signed in counts no more. Says whether the cookie has to be set anew.
    ///
    /// # Errors
    /// - [`Error::Unavailable`] if the provider, or what Admin revoked, cannot be asked.
    pub(crate) async fn read(portal: &Portal, headers: &HeaderMap) -> Result<Option<(Self, bool)>> {
        let now = portal.clock.now();
        let Some(sealed) = portal.seal.read(headers, &portal.cookie("session"), now) else { return Ok(None) };
        let Ok(mut session) = serde_json::from_slice::<Self>(&sealed) else { return Ok(None) };
        let signed_in_at = Timestamp::from_second(session.auth_time).map_err(Error::internal)?;
        let sub = session.sub.parse().map_err(|_| Error::AuthInvalid("the session is of nobody"))?;
        if let Some(revocation) = portal.revocations.find(&sub)?
            && revocation.check(signed_in_at).is_err()
        {
            return Ok(None);
        }
        if session.tokens.expires - now.as_second() > FRESH_SECONDS {
            return Ok(Some((session, false)));
        }
        match session.refresh(portal, now).await {
            Ok(()) => Ok(Some((session, true))),
            Err(Error::AuthInvalid(_)) => Ok(None),
            Err(fault) => Err(fault),
        }
    }

    async fn refresh(&mut self, portal: &Portal, now: Timestamp) -> Result<()> {
        let turn = portal.refreshing.of(&self.key);
        let mut last = turn.lock().await;
        // Another request of this browser was first: what it got is good for this one, too.
        if let Some(tokens) = last.as_ref().filter(|tokens| tokens.expires - now.as_second() > FRESH_SECONDS)
        {
            self.tokens = tokens.clone();
            return Ok(());
        }
        let refresh =
            self.tokens.refresh.clone().ok_or(Error::AuthInvalid("the session cannot be refreshed"))?;
        self.tokens = portal.provider.refresh(&refresh, now).await?;
        *last = Some(self.tokens.clone());
        Ok(())
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

/// Adds cookies to an answer.
pub(crate) fn append(response: &mut Response, cookies: Vec<HeaderValue>) {
    for cookie in cookies {
        response.headers_mut().append(header::SET_COOKIE, cookie);
    }
}
