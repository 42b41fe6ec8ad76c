//! What Admin revoked.

use std::sync::{Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use kombify_contracts::kombify::identity::v1::revocation_sync_service_server::RevocationSyncService;
use kombify_contracts::kombify::identity::v1::{ApplyRevocationsRequest, ApplyRevocationsResponse};
use kombify_core::placed::{Held, Push, RevocationPush};
use kombify_core::revocation::Revocation;
use kombify_core::{Result, Sub};
use tonic::{Request, Response, Status};

use super::Pushed;
use crate::access::open;
use crate::handoff;
use crate::status::OrStatus as _;

/// The revocations that a module holds.
#[derive(Debug)]
pub struct Revocations {
    held: Mutex<Pushed<Sub, Revocation>>,
}

impl Default for Revocations {
    fn default() -> Self {
        Self { held: Mutex::new(Pushed::new("revocations")) }
    }
}

impl Revocations {
    fn held(&self) -> MutexGuard<'_, Pushed<Sub, Revocation>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a first snapshot has come.
    pub fn are_there(&self) -> bool {
        self.held().are_there()
    }

    /// What is revoked of the user.
    ///
    /// # Errors
    /// - [`kombify_core::Error::Unavailable`] before the first snapshot.
    pub fn find(&self, sub: &Sub) -> Result<Option<Revocation>> {
        Ok(self.held().find(sub)?.copied())
    }

    /// Applies a push, once and in order; what no longer matters at `now` goes.
    pub fn apply(&self, push: RevocationPush, now: Timestamp) -> Held {
        let Push { version, basis, items } = push;
        let items = items.into_iter().map(|item| (item.sub, item.revocation)).collect();
        let push = Push { version, basis, items };
        let (held, _) = self.held().apply(push, |revocation| revocation.matters_at(now));
        held
    }
}

#[tonic::async_trait]
impl RevocationSyncService for Revocations {
    async fn apply_revocations(
        &self,
        request: Request<ApplyRevocationsRequest>,
    ) -> Result<Response<ApplyRevocationsResponse>, Status> {
        let opened = open(request).or_status()?;
        let push = handoff::read_revocations(opened.message).or_status()?;
        Ok(Response::new(handoff::held_revocations(&self.apply(push, opened.change.time))))
    }
}

#[cfg(test)]
mod tests {
    use jiff::SignedDuration;
    use kombify_core::placed::Basis;
    use kombify_core::revocation::{KEPT_HOURS, UserRevocation};

    use super::*;

    #[test]
    fn a_revocation_is_held_as_long_as_it_matters() {
        let revocations = Revocations::default();
        let then = Timestamp::UNIX_EPOCH;
        let push = |version, basis, subs: &[(&str, bool)]| RevocationPush {
            version,
            basis,
            items: subs
                .iter()
                .map(|(sub, locked)| UserRevocation {
                    sub: sub.parse().unwrap(),
                    revocation: Revocation { time: then, locked: *locked },
                })
                .collect(),
        };
        let known = |sub: &str| revocations.find(&sub.parse().unwrap()).unwrap().is_some();
        assert!(revocations.find(&"ada".parse().unwrap()).is_err() && !revocations.are_there());
        let whole = push(1, Basis::Snapshot { page: 1, last: true }, &[("ada", false), ("eve", true)]);
        assert_eq!(revocations.apply(whole, then), Held { version: 1, ..Held::default() });
        assert!(revocations.are_there() && known("ada") && known("eve") && !known("joe"));
        let late = then + SignedDuration::from_hours(KEPT_HOURS);
        let change = push(2, Basis::Change { base_version: 1 }, &[("joe", true)]);
        assert_eq!(revocations.apply(change, late), Held { version: 2, ..Held::default() });
        assert!(!known("ada") && known("eve") && known("joe"));
    }
}
