//! Refusals of known callers: they go to the audit log by a bounded queue, since a refused call has no transaction.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response};
use kombify_contracts::kombify::contract::v1::Door;
use kombify_core::audit::{ACCESS_REFUSED, Refusal};
use kombify_core::{Actor, Caller, Clock, Code, Result};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tonic::body::Body;

use crate::access::RefusedAtDoor;
use crate::context::Context;
use crate::room::{Inner, Room, forward};
use crate::status::{failed, read};

/// How many refusals wait at most; what comes over it is counted, and lost.
const QUEUE: usize = 1024;

/// How many refusals are delivered at once.
const BATCH: usize = 100;

/// How long a refusal waits for others before it is delivered.
const LINGER: Duration = Duration::from_millis(50);

/// How long a delivery that failed waits for the next try.
const RETRY: Duration = Duration::from_secs(1);

/// Which refusals a module writes down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Those of its doors and of its use cases: a module that decides by its own store.
    Everything,
    /// Those of its doors: a module whose use cases call others, which write down their own refusals.
    Doors,
}

/// The way into the queue, and the room that fills it.
#[derive(Clone)]
pub struct Refusals {
    queue: mpsc::Sender<Refusal>,
    scope: Scope,
    clock: Arc<dyn Clock>,
}

/// The way out of the queue.
pub struct RefusalWorker {
    queue: mpsc::Receiver<Refusal>,
}

/// A queue for refusals.
pub fn queue(scope: Scope, clock: Arc<dyn Clock>) -> (Refusals, RefusalWorker) {
    let (sender, receiver) = mpsc::channel(QUEUE);
    (Refusals { queue: sender, scope, clock }, RefusalWorker { queue: receiver })
}

impl RefusalWorker {
    /// Delivers refusals in order until cancelled, and then what is left.
    pub async fn run<F, D>(mut self, cancel: CancellationToken, deliver: D)
    where
        F: Future<Output = Result<()>> + Send,
        D: Fn(Vec<Refusal>) -> F + Send,
    {
        loop {
            let mut batch = Vec::new();
            let stopping = tokio::select! {
                received = self.queue.recv_many(&mut batch, BATCH) => received == 0,
                () = cancel.cancelled() => {
                    self.queue.close();
                    self.queue.recv_many(&mut batch, BATCH).await == 0
                }
            };
            if stopping {
                return;
            }
            while let Err(cause) = deliver(batch.clone()).await {
                tracing::warn!(%cause, count = batch.len(), "refusals not delivered");
                if cancel.is_cancelled() {
                    return;
                }
                tokio::time::sleep(RETRY).await;
            }
            if !cancel.is_cancelled() {
                tokio::time::sleep(LINGER).await;
            }
        }
    }
}

impl Refusals {
    fn refusal(
        &self,
        path: &str,
        caller: &Caller,
        context: Context,
        response: &Response<Body>,
    ) -> Option<Refusal> {
        let status = failed(response)?;
        let at_door = response.extensions().get::<RefusedAtDoor>().is_some();
        if !at_door && self.scope == Scope::Doors {
            return None;
        }
        let access = kombify_contracts::method(path)?.access.as_ref()?;
        let code = read(&status).code;
        if !is_refusal(code, at_door, access.door(), !access.audit.is_empty()) {
            return None;
        }
        let action = if access.audit.is_empty() { ACCESS_REFUSED } else { &access.audit };
        Some(Refusal {
            time: self.clock.now(),
            actor: Actor::of(caller),
            action: action.to_owned(),
            target: path.to_owned(),
            tenant: context.entered.get().copied(),
            ip: context.ip,
            user_agent: context.user_agent,
            request_id: context.request_id,
            details: BTreeMap::from([("code".to_owned(), code.as_str().to_owned())]),
        })
    }
}

/// Whether a failed answer is a refusal to write down: every one of a door, every one of an action that has a name,
/// and whoever looks for what is not theirs. What was wrong, too often or too late is not a refusal.
fn is_refusal(code: Code, at_door: bool, door: Door, has_action: bool) -> bool {
    match code {
        Code::AuthRequired
        | Code::AuthInvalid
        | Code::AuthInsufficient
        | Code::QuotaExceeded
        | Code::TenantSuspended => true,
        Code::NotFound => at_door || has_action || matches!(door, Door::User | Door::Tenant),
        Code::Conflict | Code::PreconditionFailed | Code::ServiceUnavailable => has_action,
        Code::ValidationFailed
        | Code::MethodNotAllowed
        | Code::PayloadTooLarge
        | Code::UnsupportedMediaType
        | Code::RangeNotSatisfiable
        | Code::RateLimited
        | Code::Cancelled
        | Code::InternalError
        | Code::NotImplemented
        | Code::DeadlineExceeded => false,
    }
}

impl Room for Refusals {
    async fn pass(&self, request: Request<Body>, inner: impl Inner) -> Response<Body> {
        let caller = request.extensions().get::<Arc<Caller>>().filter(|caller| caller.is_known()).cloned();
        let context = request.extensions().get::<Context>().cloned();
        let (Some(caller), Some(context)) = (caller, context) else {
            return forward(inner, request).await; // An unknown caller's refusals are counted, not written.
        };
        let path = request.uri().path().to_owned();
        let response = forward(inner, request).await;
        if let Some(refusal) = self.refusal(&path, &caller, context, &response)
            && let Err(cause) = self.queue.try_send(refusal)
        {
            metrics::counter!("kombify_refusals_lost_total").increment(1);
            let cause = match cause {
                mpsc::error::TrySendError::Full(_) => "full",
                mpsc::error::TrySendError::Closed(_) => "closed",
            };
            tracing::error!(cause, "a refusal is lost: the queue to the audit log does not take it");
        }
        response
    }
}
