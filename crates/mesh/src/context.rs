//! What a request takes along to the calls that it causes: its id, its trace, its deadline, the user's token.
//!
//! The identity room sets it; the [client](crate::client) forwards it. Nothing else reads a token.

use std::sync::Arc;
use std::time::Duration;

use kombify_core::{RequestId, ServiceIdentity};
use tokio::time::Instant;

use crate::trace::TraceContext;

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
}

impl Context {
    /// Runs `future` in this context.
    pub(crate) async fn scope<F: Future>(self, future: F) -> F::Output {
        CONTEXT.scope(self, future).await
    }

    /// The context of the request that is being served, where one is.
    pub fn current() -> Option<Self> {
        CONTEXT.try_with(Clone::clone).ok()
    }
}
