//! The hand-off, at Admin: what is on its way to which module, and how far each module has it.
//!
//! A change and its rows in the outbox are written in one transaction. A row says that a subject changed; what is pushed
//! is the subject as it is when the push is made, so that several changes of it may arrive as one. Versions are the
//! numbers of rows: a module that has acknowledged a version knows everything up to it.

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};

use crate::placed::{Held, OrganisationPush, PlacedFlags, RevocationPush, TenantPush};
use crate::{Change, Error, OrgId, Result, ServiceIdentity, TenantId};

/// What is pushed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum SyncKind {
    /// The set of flags.
    Flags,
    /// The tenants of an instance.
    Tenants,
    /// The organisations, with their plans and where their tenants are.
    Organisations,
    /// The revocations.
    Revocations,
}

impl SyncKind {
    /// Every kind.
    pub const ALL: [Self; 4] = [Self::Flags, Self::Tenants, Self::Organisations, Self::Revocations];

    /// The kind as it stands in answers.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Flags => "flags",
            Self::Tenants => "tenants",
            Self::Organisations => "organisations",
            Self::Revocations => "revocations",
        }
    }

    /// What a module is told: a Stack of flags and of its tenants; who decides by plan and has no store of tenants of the
    /// organisations; and every module of the revocations.
    pub fn of_module(module: &str) -> &'static [Self] {
        match module {
            "stack" => &[Self::Flags, Self::Tenants, Self::Revocations],
            "kits" => &[Self::Organisations, Self::Revocations],
            _ => &[Self::Revocations],
        }
    }
}

impl std::str::FromStr for SyncKind {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        Self::ALL
            .into_iter()
            .find(|kind| kind.as_str() == text)
            .ok_or_else(|| Error::invalid("kind", "must be flags, tenants, organisations or revocations"))
    }
}

/// How far one module has one kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SyncStream {
    /// The module.
    pub target: ServiceIdentity,
    /// The kind.
    pub kind: SyncKind,
    /// Where the module is reached.
    pub endpoint: String,
    /// The version that it acknowledged last.
    pub acknowledged_version: u32,
    /// How many changes it does not have yet.
    pub pending: u32,
    /// Since when the oldest of them waits.
    pub pending_time: Option<Timestamp>,
    /// Whether it has to get everything anew.
    pub snapshot_due: bool,
    /// How many tries in a row have failed.
    pub attempts: u32,
    /// When the next try may be.
    pub next_attempt_time: Timestamp,
    /// When it acknowledged last.
    pub acknowledge_time: Option<Timestamp>,
    /// What the last try failed with; empty: it did not.
    pub last_error: String,
}

impl SyncStream {
    /// Whether there is something to push at `now`. A time that no wait could have led to is one of a clock that was set
    /// back since.
    pub fn is_due(&self, now: Timestamp) -> bool {
        let wait = self.next_attempt_time.duration_since(now);
        (self.pending > 0 || self.snapshot_due) && (wait <= SignedDuration::ZERO || wait > LONGEST_WAIT)
    }
}

/// How long a module waits for the next try at most.
pub const LONGEST_WAIT: SignedDuration = SignedDuration::from_mins(1);

/// How many tenants, organisations or revocations one push brings at most.
pub const BATCH: usize = 100;

/// Where the hand-off is kept. Each method happens wholly or not at all.
#[async_trait]
pub trait SyncStore: Send + Sync + 'static {
    /// The module has (re)started and is at `endpoint`: everything is pushed to it anew.
    async fn connect(&self, change: &Change, target: &ServiceIdentity, endpoint: &str) -> Result<()>;

    /// Every stream, ordered by module and kind.
    async fn streams(&self) -> Result<Vec<SyncStream>>;

    /// The next push of tenants to the module: the oldest changes, or the page of a snapshot that begins behind `after`;
    /// `None` if it has everything. `page` is 0 for changes, else the page of the snapshot, 1 and up.
    async fn tenants_for(
        &self,
        target: &ServiceIdentity,
        page: u32,
        after: Option<TenantId>,
    ) -> Result<Option<TenantPush>>;

    /// The next push of organisations to the module, in the same way; a snapshot holds those that have a grant or a tenant.
    /// One that has neither any more is pushed once, as an empty one.
    async fn organisations_for(
        &self,
        target: &ServiceIdentity,
        page: u32,
        after: Option<&OrgId>,
    ) -> Result<Option<OrganisationPush>>;

    /// The next push of revocations to the module, in the same way; `after` is the last `sub` of the page before.
    async fn revocations_for(
        &self,
        target: &ServiceIdentity,
        page: u32,
        after: Option<&str>,
        now: Timestamp,
    ) -> Result<Option<RevocationPush>>;

    /// The set of flags as it is now.
    async fn flags(&self) -> Result<PlacedFlags>;

    /// The module has everything up to `pushed` of the kind, and said what it holds. `tenants` are those of the push: new
    /// ones that it took are active from now on; new ones that it refused are gone, with slug, place and idempotency
    /// record; erased ones give their place back. A module that needs a snapshot gets one next, and so does one that holds a
    /// version which was never given.
    ///
    /// # Errors
    /// - [`Error::Conflict`] if it holds one that no backup explains.
    async fn acknowledge(
        &self,
        change: &Change,
        target: &ServiceIdentity,
        kind: SyncKind,
        pushed: u32,
        held: &Held,
        tenants: &[TenantId],
    ) -> Result<()>;

    /// A try failed: the next one may be at `next_attempt_time`.
    async fn postpone(
        &self,
        target: &ServiceIdentity,
        kind: SyncKind,
        error: &str,
        next_attempt_time: Timestamp,
    ) -> Result<()>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_is_told_to_somebody_and_nobody_is_told_of_tenants_in_two_ways() {
        let told = |module| SyncKind::of_module(module);
        for kind in SyncKind::ALL {
            assert_eq!(kind.as_str().parse::<SyncKind>().unwrap(), kind);
            assert!(told("stack").contains(&kind) || told("kits").contains(&kind), "{kind:?}");
        }
        for module in ["stack", "kits", "cloud", "gateway"] {
            let kinds = told(module);
            assert!(kinds.contains(&SyncKind::Revocations), "{module}");
            assert!(
                !(kinds.contains(&SyncKind::Tenants) && kinds.contains(&SyncKind::Organisations)),
                "{module}"
            );
        }
        assert_eq!(told("cloud"), [SyncKind::Revocations]);
    }

    #[test]
    fn a_clock_that_was_set_back_holds_nothing_up() {
        let now: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let mut stream = SyncStream {
            target: ServiceIdentity { module: "cloud".into(), instance: "local".into() },
            kind: SyncKind::Revocations,
            endpoint: String::new(),
            acknowledged_version: 0,
            pending: 1,
            pending_time: None,
            snapshot_due: false,
            attempts: 0,
            next_attempt_time: now,
            acknowledge_time: None,
            last_error: String::new(),
        };
        for (seconds, due) in [(-3600, true), (0, true), (1, false), (60, false), (61, true), (3600, true)] {
            stream.next_attempt_time = now + SignedDuration::from_secs(seconds);
            assert_eq!(stream.is_due(now), due, "{seconds}");
        }
        stream.pending = 0;
        assert!(!stream.is_due(now));
    }
}
