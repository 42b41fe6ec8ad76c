//! What every write carries: who, what, why and how often.

use jiff::Timestamp;

use crate::{Caller, RequestId, ServiceIdentity, Sub, TenantId};

/// Who acts in a [`Change`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Actor {
    /// The user; `None` where a module or the platform acts for itself.
    pub sub: Option<Sub>,
    /// The module that acts, or speaks for the user.
    pub service: Option<ServiceIdentity>,
    /// Who acts as the user.
    pub impersonator: Option<Sub>,
}

impl Actor {
    /// The actor that stands behind a call.
    pub fn of(caller: &Caller) -> Self {
        Self {
            sub: caller.user().map(|user| user.sub.clone()),
            service: caller.service().cloned(),
            impersonator: caller.user().and_then(|user| user.impersonator.clone()),
        }
    }

    /// The platform itself: seeding, workers.
    pub fn system(module: &str) -> Self {
        let service = ServiceIdentity { module: module.to_owned(), instance: "system".to_owned() };
        Self { sub: None, service: Some(service), impersonator: None }
    }

    /// Under what name the actor's idempotency keys are kept: the user, whichever service speaks, else the service.
    pub fn key(&self) -> String {
        match (&self.sub, &self.service) {
            (Some(sub), _) => format!("user:{sub}"),
            (None, Some(service)) => service.to_string(),
            (None, None) => String::new(),
        }
    }
}

/// The caller's promise that a repeat is a repeat. Kept for 24 hours per (caller, method, tenant, key).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Idempotency {
    /// The Idempotency-Key, 1 to 128 characters.
    pub key: String,
    /// The method, as its gRPC path.
    pub method: String,
    /// The tenant that the method was called for.
    pub tenant: Option<TenantId>,
    /// SHA-256 of the request, re-encoded.
    pub digest: [u8; 32],
}

impl Idempotency {
    /// How long a key is kept, in hours. Source: the contracts, "Answers".
    pub const KEPT_HOURS: i64 = 24;
}

/// One change: the argument of every write. It becomes the audit row and the idempotency record in the write's own
/// transaction.
#[derive(Clone, Debug)]
pub struct Change {
    /// Who acts.
    pub actor: Actor,
    /// What is done, for example "tenant.created".
    pub action: &'static str,
    /// The request that does it.
    pub request_id: RequestId,
    /// The caller's promise, where there is one.
    pub idempotency: Option<Idempotency>,
    /// The caller's address, as far as it is known.
    pub ip: String,
    /// The caller's User-Agent, at most 256 characters.
    pub user_agent: String,
    /// When.
    pub time: Timestamp,
}

impl Change {
    /// A change that the platform makes by itself.
    pub fn system(module: &str, action: &'static str, request_id: RequestId, time: Timestamp) -> Self {
        Self {
            actor: Actor::system(module),
            action,
            request_id,
            idempotency: None,
            ip: String::new(),
            user_agent: String::new(),
            time,
        }
    }

    /// The same call doing something else beside, without the promise: a repeat of that is harmless by itself.
    #[must_use]
    pub fn beside(&self, action: &'static str) -> Self {
        Self { action, idempotency: None, ..self.clone() }
    }
}
