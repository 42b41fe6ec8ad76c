//! In which order pushes are applied, and which ones.

use std::collections::BTreeSet;

use kombify_core::Result;
use kombify_core::placed::{Basis, Held};
use kombify_sqlite::query;
use rusqlite::{Connection, named_params};

/// How far a snapshot was applied. It is not kept on the disk: a process that starts anew needs a snapshot from its
/// first page on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Progress<K> {
    version: u32,
    next_page: u32,
    seen: BTreeSet<K>,
}

/// What is to be done with a push.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Step<K> {
    /// Nothing: what is held is not older.
    Held,
    /// Nothing: it does not build on what is held.
    SnapshotNeeded,
    /// Its items are taken up; then everything up to this version is held.
    Change(u32),
    /// Its items are taken up; more pages follow.
    Page(Progress<K>),
    /// Its items are taken up, and what is in no page is gone; then everything up to this version is held.
    LastPage(u32, BTreeSet<K>),
}

/// What is to be done with a push of that version and basis, which names `keys`.
pub(crate) fn step<K: Clone + Ord>(
    held: Option<u32>,
    progress: Option<&Progress<K>>,
    version: u32,
    basis: Basis,
    keys: impl Iterator<Item = K>,
) -> Step<K> {
    match basis {
        Basis::Change { .. } if held.is_some_and(|held| version <= held) => Step::Held,
        Basis::Change { base_version } if held == Some(base_version) => Step::Change(version),
        Basis::Change { .. } => Step::SnapshotNeeded,
        Basis::Snapshot { .. } if held.is_some_and(|held| version < held) => Step::Held,
        Basis::Snapshot { page, last } => {
            let mut seen = match progress {
                _ if page == 1 => BTreeSet::new(),
                Some(progress) if (progress.version, progress.next_page) == (version, page) => {
                    progress.seen.clone()
                }
                Some(_) | None => return Step::SnapshotNeeded,
            };
            seen.extend(keys);
            if last {
                Step::LastPage(version, seen)
            } else {
                Step::Page(Progress { version, next_page: page.saturating_add(1), seen })
            }
        }
    }
}

/// The answer to a push that was not applied.
pub(crate) fn not_applied(held: Option<u32>, snapshot_needed: bool) -> Held {
    Held { version: held.unwrap_or_default(), snapshot_needed, refused: Vec::new() }
}

/// The version of that kind that is held.
pub(crate) fn held(connection: &Connection, kind: &str) -> Result<Option<u32>> {
    query::row(
        connection,
        "SELECT version
           FROM held_versions
          WHERE kind = :kind",
        named_params! { ":kind": kind },
        |row| row.get("version"),
    )
}

/// Everything of that kind up to `version` is held from now on.
pub(crate) fn hold(connection: &Connection, kind: &str, version: u32) -> Result<()> {
    query::execute(
        connection,
        "INSERT INTO held_versions (kind, version)
         VALUES (:kind, :version)
         ON CONFLICT (kind)
         DO UPDATE SET version = excluded.version",
        named_params! { ":kind": kind, ":version": version },
    )
    .map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(page: u32, last: bool) -> Basis {
        Basis::Snapshot { page, last }
    }

    fn progress(version: u32, next_page: u32, seen: &[u8]) -> Progress<u8> {
        Progress { version, next_page, seen: seen.iter().copied().collect() }
    }

    #[test]
    fn a_change_builds_on_the_version_that_is_held() {
        for (held, version, base_version, expected) in [
            (None, 5, 0, Step::SnapshotNeeded),
            (Some(4), 5, 4, Step::Change(5)),
            (Some(4), 9, 4, Step::Change(9)),
            (Some(4), 5, 3, Step::SnapshotNeeded),
            (Some(4), 6, 5, Step::SnapshotNeeded),
            (Some(5), 5, 4, Step::Held),
            (Some(6), 5, 4, Step::Held),
        ] {
            let step = step::<u8>(held, None, version, Basis::Change { base_version }, [1].into_iter());
            assert_eq!(step, expected, "{held:?} {version} {base_version}");
        }
    }

    #[test]
    fn the_pages_of_a_snapshot_come_in_order_and_are_of_one_version() {
        let two = progress(5, 3, &[1, 2]);
        let all: BTreeSet<u8> = [1, 2, 7].into();
        let only: BTreeSet<u8> = [7].into();
        for (held, so_far, version, basis, expected) in [
            (None, None, 5, page(1, true), Step::LastPage(5, only.clone())),
            (None, None, 5, page(1, false), Step::Page(progress(5, 2, &[7]))),
            (None, None, 5, page(2, true), Step::SnapshotNeeded),
            (None, Some(&two), 5, page(3, false), Step::Page(progress(5, 4, &[1, 2, 7]))),
            (None, Some(&two), 5, page(3, true), Step::LastPage(5, all)),
            (None, Some(&two), 5, page(2, false), Step::SnapshotNeeded),
            (None, Some(&two), 5, page(4, true), Step::SnapshotNeeded),
            (None, Some(&two), 6, page(3, true), Step::SnapshotNeeded),
            (None, Some(&two), 6, page(1, true), Step::LastPage(6, only.clone())),
            (Some(5), None, 5, page(1, true), Step::LastPage(5, only)),
            (Some(6), None, 5, page(1, true), Step::Held),
        ] {
            let step = step(held, so_far, version, basis, [7].into_iter());
            assert_eq!(step, expected, "{held:?} {so_far:?} {version} {basis:?}");
        }
    }
}
