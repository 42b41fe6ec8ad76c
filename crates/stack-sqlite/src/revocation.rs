//! The revocations that Admin pushes.

use std::collections::BTreeSet;

use kombify_core::placed::{Held, RevocationPush};
use kombify_core::revocation::{KEPT_HOURS, Revocation, UserRevocation};
use kombify_core::{Change, Result, Sub};
use kombify_sqlite::{column, query};
use rusqlite::{Connection, Transaction, named_params};

use crate::StackSqlite;
use crate::order::{self, Step};

/// The kind of these pushes, in the table of held versions.
pub(crate) const KIND: &str = "revocations";

impl StackSqlite {
    pub(crate) async fn apply_revocation_push(&self, change: &Change, push: &RevocationPush) -> Result<Held> {
        // One push after the other.
        let mut applying = self.state.applying.lock().await;
        let held = self.instance.read(|connection| order::held(connection, KIND)).await?;
        let keys = push.items.iter().map(|item| item.sub.clone());
        let step = order::step(held, applying.revocations.as_ref(), push.version, push.basis, keys);
        let (progress, only, version) = match step {
            Step::Held => return Ok(order::not_applied(held, false)),
            Step::SnapshotNeeded => return Ok(order::not_applied(held, true)),
            Step::Change(version) => (None, None, Some(version)),
            Step::Page(progress) => (Some(progress), None, None),
            Step::LastPage(version, seen) => (None, Some(seen), Some(version)),
        };
        let (items, now) = (push.items.clone(), change.time.as_microsecond());
        let apply = move |transaction: &Transaction<'_>| {
            items.iter().try_for_each(|item| put(transaction, item))?;
            if let Some(only) = only {
                keep_only(transaction, &only)?;
            }
            forget_old(transaction, now)?;
            version.map_or(Ok(()), |version| order::hold(transaction, KIND, version))
        };
        self.instance.write(change.action, apply).await?;
        applying.revocations = progress;
        Ok(Held { version: version.or(held).unwrap_or_default(), ..Held::default() })
    }
}

/// What is revoked of the user.
pub(crate) fn find(connection: &Connection, sub: &Sub) -> Result<Option<Revocation>> {
    query::row(
        connection,
        "SELECT revoke_time, locked
           FROM revocations
          WHERE sub = :sub",
        named_params! { ":sub": sub.as_str() },
        |row| Ok(Revocation { time: column::time(row, "revoke_time")?, locked: row.get("locked")? }),
    )
}

/// Takes the revocation up; the sessions end whose sign-ins count no more.
fn put(transaction: &Transaction<'_>, item: &UserRevocation) -> Result<()> {
    let UserRevocation { sub, revocation } = item;
    let Revocation { time, locked } = revocation;
    query::execute(
        transaction,
        "INSERT INTO revocations (sub, revoke_time, locked)
         VALUES (:sub, :revoke_time, :locked)
         ON CONFLICT (sub)
         DO UPDATE SET revoke_time = excluded.revoke_time, locked = excluded.locked",
        named_params! { ":sub": sub.as_str(), ":revoke_time": time.as_microsecond(), ":locked": locked },
    )?;
    let sessions = query::rows(
        transaction,
        "SELECT token_hash, auth_time
           FROM sessions
          WHERE sub = :sub",
        named_params! { ":sub": sub.as_str() },
        |row| Ok((row.get::<_, [u8; 32]>("token_hash")?, column::time(row, "auth_time")?)),
    )?;
    for (hash, _) in sessions.iter().filter(|(_, signed_in_at)| revocation.check(*signed_in_at).is_err()) {
        query::execute(
            transaction,
            "DELETE FROM sessions
              WHERE token_hash = :token_hash",
            named_params! { ":token_hash": hash },
        )?;
    }
    Ok(())
}

fn keep_only(transaction: &Transaction<'_>, only: &BTreeSet<Sub>) -> Result<()> {
    let subs: Vec<String> =
        query::rows(transaction, "SELECT sub FROM revocations", (), |row| row.get("sub"))?;
    let only: BTreeSet<&str> = only.iter().map(Sub::as_str).collect();
    for sub in subs.iter().filter(|sub| !only.contains(sub.as_str())) {
        query::execute(
            transaction,
            "DELETE FROM revocations
              WHERE sub = :sub",
            named_params! { ":sub": sub },
        )?;
    }
    Ok(())
}

/// Takes away what does not matter any more, as [`Revocation::matters_at`] says.
fn forget_old(transaction: &Transaction<'_>, now: i64) -> Result<()> {
    query::execute(
        transaction,
        "DELETE FROM revocations
          WHERE locked = 0 AND revoke_time <= :old",
        named_params! { ":old": now.saturating_sub(KEPT_HOURS * 3_600_000_000) },
    )
    .map(drop)
}
