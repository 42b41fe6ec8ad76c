//! Logout tokens that are to be delivered to clients.

use std::time::Duration;

use jiff::Timestamp;
use kombify_core::Result;
use kombify_sqlite::internal;
use rusqlite::{Transaction, params};

use super::{Store, make_room, time};

/// How long a delivery is tried.
pub(crate) const TRIED_FOR: Duration = Duration::from_mins(10);

/// How many are read at one time, at most.
const BATCH: i64 = 64;

/// A logout token that is to be delivered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Logout {
    pub(crate) id: i64,
    pub(crate) client_id: String,
    pub(crate) sub: String,
    pub(crate) sid: String,
    pub(crate) attempts: u32,
    pub(crate) create_time: Timestamp,
}

/// Writes down that a client got tokens in a session: it is told when the session ends.
pub(super) fn remember(
    transaction: &Transaction<'_>,
    sid: &str,
    client_id: &str,
    sub: &str,
    now: i64,
) -> Result<()> {
    make_room(transaction, "session_clients")?;
    transaction
        .execute(
            "INSERT OR IGNORE INTO session_clients (sid, client_id, sub, create_time) VALUES (?1, ?2, ?3, ?4)",
            params![sid, client_id, sub, now],
        )
        .map(drop)
        .map_err(internal)
}

/// Writes down that those of `clients` that got tokens in the session are to be told.
pub(super) fn announce(
    transaction: &Transaction<'_>,
    sid: &str,
    clients: &[String],
    now: Timestamp,
) -> Result<()> {
    let told: Vec<(String, String)> = transaction
        .prepare_cached("DELETE FROM session_clients WHERE sid = ?1 RETURNING client_id, sub")
        .map_err(internal)?
        .query_map([sid], |row| Ok((row.get(0)?, row.get(1)?)))
        .and_then(Iterator::collect)
        .map_err(internal)?;
    for (client_id, sub) in told.into_iter().filter(|(client_id, _)| clients.contains(client_id)) {
        make_room(transaction, "logouts")?;
        transaction
            .execute(
                "INSERT INTO logouts (client_id, sub, sid, due_time, create_time) VALUES (?1, ?2, ?3, ?4, ?4)",
                params![client_id, sub, sid, now.as_millisecond()],
            )
            .map_err(internal)?;
    }
    Ok(())
}

impl Store {
    /// What is due now, the oldest first.
    pub(crate) async fn due_logouts(&self, now: Timestamp) -> Result<Vec<Logout>> {
        self.database
            .read(move |connection| {
                let mut statement = connection
                    .prepare_cached(
                        "SELECT logout_id, client_id, sub, sid, attempts, create_time
                           FROM logouts
                          WHERE due_time <= ?1
                          ORDER BY logout_id
                          LIMIT ?2",
                    )
                    .map_err(internal)?;
                statement
                    .query_map(params![now.as_millisecond(), BATCH], |row| {
                        Ok(Logout {
                            id: row.get(0)?,
                            client_id: row.get(1)?,
                            sub: row.get(2)?,
                            sid: row.get(3)?,
                            attempts: row.get(4)?,
                            create_time: time(row.get(5)?),
                        })
                    })
                    .and_then(Iterator::collect)
                    .map_err(internal)
            })
            .await
    }

    /// Removes what was delivered, or given up.
    pub(crate) async fn end_logout(&self, id: i64) -> Result<()> {
        self.database
            .write("idp.logout.end", move |transaction| {
                transaction
                    .execute("DELETE FROM logouts WHERE logout_id = ?1", [id])
                    .map(drop)
                    .map_err(internal)
            })
            .await
    }

    /// Notes a try that failed, and when the next may be.
    pub(crate) async fn postpone_logout(&self, id: i64, due: Timestamp) -> Result<()> {
        self.database
            .write("idp.logout.postpone", move |transaction| {
                transaction
                    .execute(
                        "UPDATE logouts SET attempts = attempts + 1, due_time = ?2 WHERE logout_id = ?1",
                        params![id, due.as_millisecond()],
                    )
                    .map(drop)
                    .map_err(internal)
            })
            .await
    }
}
