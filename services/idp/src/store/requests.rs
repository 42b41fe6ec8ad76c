//! The authorization requests that wait for a sign-in.

use std::time::Duration;

use jiff::Timestamp;
use kombify_core::Result;
use kombify_sqlite::internal;
use rusqlite::{OptionalExtension as _, Row, Transaction, params};

use super::{Store, make_room, sweep};
use crate::secret::Hash;

/// How long a request waits for its user.
const LIFETIME: Duration = Duration::from_mins(10);

/// An authorization request that was found good, and waits.
#[derive(Clone, Debug, Default)]
pub(crate) struct Pending {
    pub(crate) client_id: String,
    /// One that the client registered.
    pub(crate) redirect_uri: String,
    pub(crate) scope: String,
    /// The PKCE challenge, S256.
    pub(crate) challenge: String,
    pub(crate) state: Option<String>,
    pub(crate) nonce: Option<String>,
    pub(crate) login_hint: Option<String>,
}

const COLUMNS: &str = "client_id, redirect_uri, scope, challenge, state, nonce, login_hint";

impl Store {
    pub(crate) async fn add_request(&self, request: Hash, pending: Pending, now: Timestamp) -> Result<()> {
        self.database
            .write("idp.request.add", move |transaction| {
                sweep(transaction, now)?;
                make_room(transaction, "requests")?;
                let sql = format!(
                    "INSERT INTO requests (request_hash, {COLUMNS}, create_time, expire_time)
                     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)"
                );
                transaction
                    .execute(
                        &sql,
                        params![
                            request,
                            pending.client_id,
                            pending.redirect_uri,
                            pending.scope,
                            pending.challenge,
                            pending.state,
                            pending.nonce,
                            pending.login_hint,
                            now.as_millisecond(),
                            (now + LIFETIME).as_millisecond()
                        ],
                    )
                    .map_err(internal)?;
                Ok(())
            })
            .await
    }

    pub(crate) async fn find_request(&self, request: Hash, now: Timestamp) -> Result<Option<Pending>> {
        self.database
            .read(move |connection| {
                let sql =
                    format!("SELECT {COLUMNS} FROM requests WHERE request_hash = ?1 AND expire_time > ?2");
                connection
                    .query_row(&sql, params![request, now.as_millisecond()], row)
                    .optional()
                    .map_err(internal)
            })
            .await
    }
}

/// Takes the request away: it is answered once.
pub(super) fn take(transaction: &Transaction<'_>, request: Hash, now: Timestamp) -> Result<Option<Pending>> {
    let sql =
        format!("DELETE FROM requests WHERE request_hash = ?1 AND expire_time > ?2 RETURNING {COLUMNS}");
    transaction.query_row(&sql, params![request, now.as_millisecond()], row).optional().map_err(internal)
}

fn row(row: &Row<'_>) -> rusqlite::Result<Pending> {
    Ok(Pending {
        client_id: row.get(0)?,
        redirect_uri: row.get(1)?,
        scope: row.get(2)?,
        challenge: row.get(3)?,
        state: row.get(4)?,
        nonce: row.get(5)?,
        login_hint: row.get(6)?,
    })
}
