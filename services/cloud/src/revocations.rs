//! What Admin revoked, as Cloud holds it: in memory, from the snapshot that it gets when it starts.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use kombify_contracts::kombify::identity::v1::revocation_sync_service_server::RevocationSyncService;
use kombify_contracts::kombify::identity::v1::{ApplyRevocationsRequest, ApplyRevocationsResponse};
use kombify_core::directory::{Directory, Standing};
use kombify_core::placed::{Basis, Held, RevocationPush};
use kombify_core::revocation::Revocation;
use kombify_core::{Error, Result, Sub, UserIdentity};
use kombify_mesh::{OrStatus as _, handoff, open};
use tonic::{Request, Response, Status};

/// When to try again where nothing was pushed yet.
const PUSHED_SOON: Duration = Duration::from_secs(2);

/// The revocations that Cloud holds.
#[derive(Default)]
pub struct Revocations {
    held: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// The version that is held; `None` before the first snapshot is whole.
    version: Option<u32>,
    revocations: HashMap<Sub, Revocation>,
    /// The snapshot that is coming in: its version, its next page, and whom it names.
    snapshot: Option<(u32, u32, BTreeSet<Sub>)>,
}

impl Revocations {
    fn state(&self) -> MutexGuard<'_, State> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a first snapshot has come.
    pub fn are_there(&self) -> bool {
        self.state().version.is_some()
    }

    /// What is revoked of the user.
    ///
    /// # Errors
    /// - [`Error::Unavailable`] before the first snapshot.
    pub fn find(&self, sub: &Sub) -> Result<Option<Revocation>> {
        let state = self.state();
        match state.version {
            Some(_) => Ok(state.revocations.get(sub).copied()),
            None => Err(Error::unavailable("the revocations were not pushed yet", PUSHED_SOON)),
        }
    }

    /// Applies a push, once and in order; what no longer matters at `now` goes.
    pub(crate) fn apply(&self, push: RevocationPush, now: Timestamp) -> Held {
        let mut state = self.state();
        let held = state.version.unwrap_or_default();
        let known = Held { version: held, ..Held::default() };
        let needed = Held { version: held, snapshot_needed: true, refused: Vec::new() };
        match push.basis {
            Basis::Change { base_version } => {
                state.snapshot = None;
                match state.version {
                    Some(held) if push.version <= held => return known,
                    Some(held) if base_version == held => {}
                    Some(_) | None => return needed,
                }
                state.version = Some(push.version);
            }
            Basis::Snapshot { .. } if state.version.is_some_and(|held| push.version < held) => return known,
            Basis::Snapshot { page, last } => {
                if page == 1 {
                    state.snapshot = Some((push.version, 1, BTreeSet::new()));
                }
                match &mut state.snapshot {
                    Some((version, next, seen)) if *version == push.version && *next == page => {
                        *next += 1;
                        seen.extend(push.items.iter().map(|revocation| revocation.sub.clone()));
                    }
                    Some(_) | None => {
                        state.snapshot = None;
                        return needed;
                    }
                }
                if last {
                    let (_, _, seen) = state.snapshot.take().unwrap_or_default();
                    state.revocations.retain(|sub, _| seen.contains(sub));
                    state.version = Some(push.version);
                }
            }
        }
        state.revocations.extend(push.items.into_iter().map(|item| (item.sub, item.revocation)));
        state.revocations.retain(|_, revocation| revocation.matters_at(now));
        Held { version: state.version.unwrap_or_default(), ..Held::default() }
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

/// Cloud as a directory: it knows no plans and no memberships, and what was revoked.
pub struct CloudDirectory(Arc<Revocations>);

impl CloudDirectory {
    /// The directory with these revocations.
    pub fn new(revocations: Arc<Revocations>) -> Self {
        Self(revocations)
    }
}

#[async_trait]
impl Directory for CloudDirectory {
    async fn standing(&self, user: &UserIdentity) -> Result<Standing> {
        Ok(Standing { revocation: self.0.find(&user.sub)?, ..Standing::default() })
    }

    fn knows_memberships(&self) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use kombify_core::placed::Push;
    use kombify_core::revocation::UserRevocation;

    use super::*;

    const NOW: Timestamp = Timestamp::UNIX_EPOCH;

    fn push(version: u32, basis: Basis, subs: &[&str]) -> RevocationPush {
        let revocation = Revocation { time: NOW, locked: true };
        let items = subs.iter().map(|sub| UserRevocation { sub: sub.parse().unwrap(), revocation }).collect();
        Push { version, basis, items }
    }

    fn known(revocations: &Revocations, sub: &str) -> bool {
        revocations.find(&sub.parse().unwrap()).unwrap().is_some()
    }

    #[test]
    fn nothing_is_known_before_the_first_snapshot_is_whole() {
        let revocations = Revocations::default();
        let first = Basis::Snapshot { page: 1, last: false };
        assert!(!revocations.apply(push(5, first, &["ada"]), NOW).snapshot_needed);
        assert!(revocations.find(&"ada".parse().unwrap()).is_err());
        let held = revocations.apply(push(5, Basis::Snapshot { page: 2, last: true }, &["eve"]), NOW);
        assert_eq!((held.version, held.snapshot_needed), (5, false));
        assert!(known(&revocations, "ada") && known(&revocations, "eve") && !known(&revocations, "joe"));
    }

    #[test]
    fn what_does_not_build_on_what_is_held_asks_for_a_snapshot() {
        let revocations = Revocations::default();
        let change = |base_version| Basis::Change { base_version };
        assert!(revocations.apply(push(2, change(1), &["ada"]), NOW).snapshot_needed);
        assert!(
            revocations.apply(push(2, Basis::Snapshot { page: 2, last: true }, &[]), NOW).snapshot_needed
        );
        revocations.apply(push(2, Basis::Snapshot { page: 1, last: true }, &["ada"]), NOW);
        assert!(revocations.apply(push(5, change(4), &["eve"]), NOW).snapshot_needed);
        assert_eq!(revocations.apply(push(3, change(2), &["eve"]), NOW).version, 3);
        assert_eq!(
            revocations.apply(push(3, change(2), &["joe"]), NOW).version,
            3,
            "a repeat changes nothing"
        );
        assert!(known(&revocations, "eve") && !known(&revocations, "joe"));
        revocations.apply(push(2, Basis::Snapshot { page: 1, last: true }, &[]), NOW);
        assert!(known(&revocations, "ada"), "an older snapshot was overtaken");
        revocations.apply(push(4, Basis::Snapshot { page: 1, last: true }, &["joe"]), NOW);
        assert!(!known(&revocations, "ada") && known(&revocations, "joe"));
    }
}
