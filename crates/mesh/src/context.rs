//! What a request takes along to the calls that it causes: its id, its trace, its deadline, the user's token.
//!
//! The identity room sets it; the [client](crate::client) forwards it. Nothing else reads a token.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use http::{Extensions, HeaderMap};
use kombify_core::{Clock as _, Ids as _, RequestId, ServiceIdentity, TenantId};
use tokio::time::Instant;

use crate::edge::{ClientAddress, user_agent};
use crate::system::{SystemClock, SystemIds};
use crate::trace::TraceContext;

/// How long a page may take with all that it asks of others.
const PAGE_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a page needs to say that what it asked for did not come in time.
const TO_SAY_SO: Duration = Duration::from_millis(100);

tokio::task_local! {
    static CONTEXT: Context;
}

/// When the answer is due. A request extension.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Deadline(pub Instant);

impl Deadline {
    /// How long there is still.
    pub fn remaining(self) -> Duration {
        self.0.saturating_duration_since(Instant::now())
    }
}

/// The raw token of the user. It cannot be printed.
#[derive(Clone)]
pub struct UserToken(Arc<str>);

impl UserToken {
    /// The token, from where the identity layer read it.
    pub(crate) fn new(token: &str) -> Self {
        Self(token.into())
    }

    pub(crate) fn expose(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for UserToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("UserToken([REDACTED])")
    }
}

/// What a request takes along.
#[derive(Clone, Debug)]
pub struct Context {
    /// The request's id.
    pub request_id: RequestId,
    /// The trace that it belongs to.
    pub trace: TraceContext,
    /// When its answer is due.
    pub deadline: Deadline,
    /// The module that speaks for the user.
    pub service: Option<ServiceIdentity>,
    /// The user's own token.
    pub(crate) user_token: Option<UserToken>,
    /// The address of the caller.
    pub ip: String,
    /// The caller's User-Agent.
    pub user_agent: String,
    /// The tenant that the caller entered, as soon as that is known: the refusals room reads it afterwards.
    pub(crate) entered: Arc<OnceLock<TenantId>>,
}

/// How long what a page needs may take, where the page itself has to be there by `own`.
fn page_deadline(own: Option<Deadline>) -> Deadline {
    let latest = Instant::now() + PAGE_TIMEOUT;
    let own = own.and_then(|own| own.0.checked_sub(TO_SAY_SO));
    Deadline(own.map_or(latest, |own| own.min(latest)))
}

impl Context {
    /// The context of a page: what a browser's request causes at other modules, in the name of the user whose token the
    /// page's own session holds. A page has ten seconds, and less where its own deadline is earlier: so that it can still say
    /// what is wrong.
    pub fn of_page(extensions: &Extensions, headers: &HeaderMap, user_token: Option<&str>) -> Self {
        // The outermost room has named every request of a served module.
        let named = extensions.get::<RequestId>().cloned();
        let trace = extensions.get::<TraceContext>().cloned();
        Self {
            request_id: named.unwrap_or_else(|| SystemIds.request(SystemClock.now())),
            trace: trace.unwrap_or_else(|| TraceContext::continue_from(None, &SystemIds)),
            deadline: page_deadline(extensions.get::<Deadline>().copied()),
            service: None,
            user_token: user_token.map(UserToken::new),
            ip: extensions.get::<ClientAddress>().map(|address| address.0.clone()).unwrap_or_default(),
            user_agent: user_agent(headers),
            entered: Arc::default(),
        }
    }

    /// Runs `future` in this context.
    pub async fn scope<F: Future>(self, future: F) -> F::Output {
        CONTEXT.scope(self, future).await
    }

    /// The context of the request that is being served, where one is.
    pub fn current() -> Option<Self> {
        CONTEXT.try_with(Clone::clone).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_has_time_left_to_say_that_something_did_not_come() {
        let within = |own: Option<Duration>| {
            let now = Instant::now();
            page_deadline(own.map(|own| Deadline(now + own))).0.saturating_duration_since(now)
        };
        assert!(within(None) >= PAGE_TIMEOUT);
        assert!(within(Some(Duration::from_hours(1))) >= PAGE_TIMEOUT);
        let short = within(Some(Duration::from_secs(2)));
        assert_eq!(short + TO_SAY_SO, Duration::from_secs(2));
    }
}
