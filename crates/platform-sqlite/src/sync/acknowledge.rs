//! What follows when a module says what it holds.

use std::collections::BTreeMap;

use jiff::SignedDuration;
use kombify_core::placed::Held;
use kombify_core::sync::{LONGEST_WAIT, SyncKind};
use kombify_core::{Error, Result, ServiceIdentity, TenantId};
use kombify_sqlite::ledger::Write;
use kombify_sqlite::query;
use rusqlite::named_params;

use super::{Progress, progress};
use crate::{flag, outbox, tenant};

/// How far a module may be ahead of what was ever given.
const AHEAD_MAX: u32 = 1_000_000;

/// Up to how many characters the refusals of a push are kept.
const ERROR_MAX: usize = 500;

pub(super) fn acknowledge(
    write: &Write<'_>,
    target: &ServiceIdentity,
    kind: SyncKind,
    pushed: u32,
    held: &Held,
    tenants: &[TenantId],
) -> Result<()> {
    let Some(progress) = progress(write.transaction, target, kind)? else { return Ok(()) };
    if go_on_behind(write, kind, held.version)? {
        return start_anew(write, target, kind, &progress);
    }
    let of_snapshot = progress.snapshot_version == Some(pushed);
    let more_pages = of_snapshot && !progress.snapshot_last;
    if held.snapshot_needed || (!more_pages && held.version < pushed) {
        return start_anew(write, target, kind, &progress);
    }
    let refusals = match kind {
        SyncKind::Tenants => settle(write, target, pushed, held, tenants)?,
        SyncKind::Flags | SyncKind::Organisations | SyncKind::Revocations => String::new(),
    };
    let reached =
        if more_pages { progress.acknowledged_version } else { progress.acknowledged_version.max(pushed) };
    // A set of flags is always whole.
    let snapshot_done = kind == SyncKind::Flags || (of_snapshot && progress.snapshot_last);
    query::execute(
        write.transaction,
        "UPDATE sync_streams
            SET acknowledged_version = :reached,
                snapshot_due = CASE WHEN :snapshot_done THEN 0 ELSE snapshot_due END,
                snapshot_version = CASE WHEN :snapshot_done THEN NULL ELSE snapshot_version END,
                snapshot_last = CASE WHEN :snapshot_done THEN 0 ELSE snapshot_last END,
                attempts = 0, next_attempt_time = :now, acknowledge_time = :now, last_error = :refusals
          WHERE module = :module AND instance = :instance AND kind = :kind",
        named_params! {
            ":module": target.module,
            ":instance": target.instance,
            ":kind": kind.as_str(),
            ":reached": reached,
            ":snapshot_done": snapshot_done,
            ":now": write.now(),
            ":refusals": refusals,
        },
    )?;
    query::execute(
        write.transaction,
        "DELETE FROM outbox
          WHERE module = :module AND instance = :instance AND kind = :kind AND seq <= :reached",
        named_params! {
            ":module": target.module,
            ":instance": target.instance,
            ":kind": kind.as_str(),
            ":reached": reached,
        },
    )
    .map(drop)
}

/// A module that holds a version which was never given took it from this store as it was before a backup was put in its
/// place. Then versions go on behind it, so that the module takes up what comes; the answer is true.
///
/// # Errors
/// - [`Error::Conflict`] if it is so far ahead that no backup explains it: versions are few enough to run out.
fn go_on_behind(write: &Write<'_>, kind: SyncKind, held: u32) -> Result<bool> {
    let latest = match kind {
        SyncKind::Flags => flag::version(write.transaction)?,
        SyncKind::Tenants | SyncKind::Organisations | SyncKind::Revocations => {
            outbox::latest(write.transaction)?
        }
    };
    if held <= latest {
        return Ok(false);
    }
    if held - latest > AHEAD_MAX {
        return Err(Error::Conflict(format!(
            "it holds version {held}, and none above {latest} was ever given"
        )));
    }
    match kind {
        // The set as it is now is another one than the module has under that version.
        SyncKind::Flags => flag::go_on_at(write, held.saturating_add(1))?,
        SyncKind::Tenants | SyncKind::Organisations | SyncKind::Revocations => {
            outbox::go_on_behind(write, held)?;
        }
    }
    Ok(true)
}

/// The module gets a snapshot next: at once the first time, then later and later.
fn start_anew(
    write: &Write<'_>,
    target: &ServiceIdentity,
    kind: SyncKind,
    progress: &Progress,
) -> Result<()> {
    let seconds = match progress.attempts {
        0 => 0,
        attempts => (1_i64 << (attempts - 1).min(6)).min(LONGEST_WAIT.as_secs()),
    };
    let next =
        write.change.time.saturating_add(SignedDuration::from_secs(seconds)).map_err(Error::internal)?;
    query::execute(
        write.transaction,
        "UPDATE sync_streams
            SET snapshot_due = 1, snapshot_version = NULL, snapshot_last = 0, attempts = attempts + 1,
                next_attempt_time = :next_attempt_time, last_error = 'the module needs a snapshot'
          WHERE module = :module AND instance = :instance AND kind = :kind",
        named_params! {
            ":module": target.module,
            ":instance": target.instance,
            ":kind": kind.as_str(),
            ":next_attempt_time": next.as_microsecond(),
        },
    )
    .map(drop)
}

/// Moves the tenants of the push on in their lives. Answers with the refusals that no row could be taken away for.
fn settle(
    write: &Write<'_>,
    target: &ServiceIdentity,
    pushed: u32,
    held: &Held,
    tenants: &[TenantId],
) -> Result<String> {
    let refused: BTreeMap<TenantId, &str> =
        held.refused.iter().map(|(id, reason)| (*id, reason.as_str())).collect();
    let mut standing = Vec::new();
    for &id in tenants {
        match refused.get(&id) {
            None => tenant::taken(write, &target.instance, id, pushed)?,
            Some(reason) => {
                if !tenant::refused(write, &target.instance, id, reason)? {
                    standing.push(format!("{id} was refused: {reason}"));
                }
            }
        }
    }
    Ok(standing.join("; ").chars().take(ERROR_MAX).collect())
}
