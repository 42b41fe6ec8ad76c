//! How often anybody may try.

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use axum::extract::{ConnectInfo, FromRequestParts};
use axum::http::request::Parts;
use jiff::{SignedDuration, Timestamp};
use kombify_core::{Error, Result};

/// Wrong passwords for one login in a minute.
const BY_LOGIN: u32 = 10;

/// What a limit counts in.
const WINDOW: Duration = Duration::from_mins(1);

/// How many addresses or logins are counted apart at most; what is over it shares one count.
const KEYS_MAX: usize = 10_000;

/// The address of the peer, as the server tells it. `X-Forwarded-For` is not believed: nothing stands before this one.
pub(crate) struct Address(String);

impl<S: Send + Sync> FromRequestParts<S> for Address {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Infallible> {
        let address = parts.extensions.get::<ConnectInfo<SocketAddr>>();
        Ok(Self(address.map(|ConnectInfo(address)| address.ip().to_string()).unwrap_or_default()))
    }
}

/// The limits of the forms.
pub(crate) struct Limits {
    addresses: Counter,
    logins: Counter,
}

impl Limits {
    pub(crate) fn new(by_address: u32) -> Self {
        Self { addresses: Counter::new(by_address), logins: Counter::new(BY_LOGIN) }
    }

    /// Counts one form of `address`.
    ///
    /// # Errors
    /// - [`Error::RateLimited`] if there were too many in this minute.
    pub(crate) fn form(&self, address: &Address, now: Timestamp) -> Result<()> {
        self.addresses.take(&address.0, now)
    }

    /// Counts a wrong password for `login` ahead, so that many at once are counted, too: [`Limits::right`] takes it back.
    ///
    /// # Errors
    /// - [`Error::RateLimited`] if there were too many in this minute.
    pub(crate) fn attempt(&self, login: &str, now: Timestamp) -> Result<()> {
        self.logins.take(login, now)
    }

    /// The password was right.
    pub(crate) fn right(&self, login: &str) {
        self.logins.give_back(login);
    }
}

struct Window {
    start: Timestamp,
    count: u32,
}

struct Counter {
    limit: u32,
    windows: Mutex<HashMap<String, Window>>,
}

impl Counter {
    fn new(limit: u32) -> Self {
        Self { limit, windows: Mutex::default() }
    }

    fn take(&self, key: &str, now: Timestamp) -> Result<()> {
        let mut windows = self.windows.lock().unwrap_or_else(PoisonError::into_inner);
        if !windows.contains_key(key) && windows.len() >= KEYS_MAX {
            windows.retain(|_, window| left(window, now).is_some());
        }
        let key = if windows.contains_key(key) || windows.len() < KEYS_MAX { key } else { "" };
        let window = windows.entry(key.to_owned()).or_insert(Window { start: now, count: 0 });
        let retry_after = left(window, now).unwrap_or_else(|| {
            *window = Window { start: now, count: 0 };
            WINDOW
        });
        if window.count >= self.limit {
            return Err(Error::RateLimited { limit: self.limit, retry_after });
        }
        window.count += 1;
        Ok(())
    }

    fn give_back(&self, key: &str) {
        let mut windows = self.windows.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(window) = windows.get_mut(key) {
            window.count = window.count.saturating_sub(1);
        }
    }
}

/// How long the window still lasts; `None` once it is over.
fn left(window: &Window, now: Timestamp) -> Option<Duration> {
    let gone = now.duration_since(window.start).max(SignedDuration::ZERO);
    WINDOW.checked_sub(gone.unsigned_abs()).filter(|left| !left.is_zero())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_holds_for_a_minute_and_for_each_key_alone() {
        let counter = Counter::new(3);
        let now = Timestamp::UNIX_EPOCH;
        for _ in 0..3 {
            counter.take("a", now).unwrap();
        }
        let refusal = counter.take("a", now + Duration::from_secs(20)).unwrap_err();
        assert_eq!(refusal.retry_after(), Some(Duration::from_secs(40)));
        counter.take("b", now).unwrap();
        counter.give_back("a");
        counter.take("a", now + Duration::from_secs(59)).unwrap();
        counter.take("a", now + Duration::from_secs(59)).unwrap_err();
        counter.take("a", now + Duration::from_mins(1)).unwrap();
    }

    #[test]
    fn the_number_of_counts_is_bounded() {
        let counter = Counter::new(2);
        let now = Timestamp::UNIX_EPOCH;
        for key in 0..KEYS_MAX {
            counter.take(&key.to_string(), now).unwrap();
        }
        counter.windows.lock().unwrap().remove("0");
        for key in ["x", "y", "z"] {
            let _ = counter.take(key, now);
        }
        assert!(counter.windows.lock().unwrap().len() <= KEYS_MAX + 1);
        counter.take("w", now).unwrap_err();
        counter.take("w", now + WINDOW).unwrap();
    }
}
