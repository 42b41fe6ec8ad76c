//! Revocations: which sign-ins of a user count no more.

use jiff::Timestamp;
use kombify_core::revocation::Revocation;
use kombify_core::{Result, Sub};
use kombify_sqlite::ledger::Write;
use kombify_sqlite::{column, query};
use rusqlite::{Connection, Row, named_params};

use crate::outbox;

/// Locks the user, or ends the lock; every module is told. Answers with the version that says so.
pub(crate) fn set_lock(write: &Write<'_>, sub: &Sub, locked: bool) -> Result<u32> {
    let before = find(write.transaction, sub)?.map(|(before, _)| before);
    match (before, locked) {
        (None, false) => outbox::latest(write.transaction),
        (before, true) => {
            let time = before.map_or(write.change.time, |before| before.time.max(write.change.time));
            put(write, sub, Revocation { time, locked })
        }
        (Some(before), false) => put(write, sub, Revocation { locked, ..before }),
    }
}

/// Ends the sign-ins of before `time`; every module is told. Answers with the version that says so, and whether
/// anything changed.
pub(crate) fn end_sign_ins(write: &Write<'_>, sub: &Sub, time: Timestamp) -> Result<(u32, bool)> {
    match find(write.transaction, sub)? {
        Some((before, version)) if before.time.as_microsecond() >= time.as_microsecond() => {
            Ok((version, false))
        }
        before => {
            let locked = before.is_some_and(|(before, _)| before.locked);
            Ok((put(write, sub, Revocation { time, locked })?, true))
        }
    }
}

/// The revocation in a row that has `revoke_time` and `locked`, which are NULL where there is none.
pub(crate) fn revocation(row: &Row<'_>) -> rusqlite::Result<Option<Revocation>> {
    let Some(locked) = row.get::<_, Option<bool>>("locked")? else { return Ok(None) };
    Ok(Some(Revocation { time: column::time(row, "revoke_time")?, locked }))
}

/// What is revoked of the user.
pub(crate) fn of(connection: &Connection, sub: &Sub) -> Result<Option<Revocation>> {
    Ok(find(connection, sub)?.map(|(revocation, _)| revocation))
}

fn find(connection: &Connection, sub: &Sub) -> Result<Option<(Revocation, u32)>> {
    query::row(
        connection,
        "SELECT revoke_time, locked, version
           FROM revocations
          WHERE sub = :sub",
        named_params! { ":sub": sub.as_str() },
        |row| {
            let revocation =
                Revocation { time: column::time(row, "revoke_time")?, locked: row.get("locked")? };
            Ok((revocation, row.get("version")?))
        },
    )
}

fn put(write: &Write<'_>, sub: &Sub, revocation: Revocation) -> Result<u32> {
    let version = outbox::revocation_changed(write, sub)?;
    query::execute(
        write.transaction,
        "INSERT INTO revocations (sub, revoke_time, locked, version)
         VALUES (:sub, :revoke_time, :locked, :version)
         ON CONFLICT (sub)
         DO UPDATE SET revoke_time = excluded.revoke_time, locked = excluded.locked, version = excluded.version",
        named_params! {
            ":sub": sub.as_str(),
            ":revoke_time": revocation.time.as_microsecond(),
            ":locked": revocation.locked,
            ":version": version,
        },
    )?;
    Ok(version)
}
