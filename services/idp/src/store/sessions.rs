//! Who is signed in, in which browser.

use std::time::Duration;

use jiff::Timestamp;
use kombify_core::Result;
use kombify_sqlite::internal;
use rusqlite::{OptionalExtension as _, Transaction, params};

use super::requests::{self, Pending};
use super::{Store, grants, logouts, make_room, sweep, time, users};
use crate::secret::Hash;

/// A browser in which a user is signed in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Session {
    /// Names the session in ID tokens; not its secret.
    pub(crate) sid: String,
    pub(crate) sub: String,
    /// When the user showed the password.
    pub(crate) auth_time: Timestamp,
}

/// A sign-in that succeeded.
pub(crate) struct SignIn {
    pub(crate) sub: String,
    /// The secret of the session that begins.
    pub(crate) session: Hash,
    /// Its name, unless it replaces one of the same user, whose name it keeps.
    pub(crate) sid: String,
    /// The session that the browser had.
    pub(crate) replaces: Option<Hash>,
    /// The request that the browser came with.
    pub(crate) request: Option<Hash>,
    /// The code that answers it.
    pub(crate) code: Hash,
    pub(crate) lifetime: Duration,
    pub(crate) now: Timestamp,
}

impl Store {
    pub(crate) async fn find_session(&self, session: Hash, now: Timestamp) -> Result<Option<Session>> {
        self.database
            .read(move |connection| {
                connection
                    .query_row(
                        "SELECT sid, sub, auth_time FROM sessions WHERE session_hash = ?1 AND expire_time > ?2",
                        params![session, now.as_millisecond()],
                        |row| Ok(Session { sid: row.get(0)?, sub: row.get(1)?, auth_time: time(row.get(2)?) }),
                    )
                    .optional()
                    .map_err(internal)
            })
            .await
    }

    /// Begins a session, ends the one that the browser had, and answers the request that waits with a code. Gives the
    /// request, if it was still there.
    pub(crate) async fn sign_in(&self, sign_in: SignIn) -> Result<Option<Pending>> {
        self.database
            .write("idp.session.begin", move |transaction| {
                let SignIn { sub, session, sid, replaces, request, code, lifetime, now } = sign_in;
                sweep(transaction, now)?;
                users::check_lock(transaction, &sub)?;
                let replaced: Option<(String, String)> = transaction
                    .query_row(
                        "DELETE FROM sessions WHERE session_hash = ?1 RETURNING sid, sub",
                        [replaces],
                        |row| Ok((row.get(0)?, row.get(1)?)),
                    )
                    .optional()
                    .map_err(internal)?;
                let sid = replaced.filter(|(_, other)| *other == sub).map_or(sid, |(sid, _)| sid);
                make_room(transaction, "sessions")?;
                transaction
                    .execute(
                        "INSERT INTO sessions (session_hash, sid, sub, auth_time, create_time, expire_time)
                         VALUES (?1, ?2, ?3, ?4, ?4, ?5)",
                        params![session, sid, sub, now.as_millisecond(), (now + lifetime).as_millisecond()],
                    )
                    .map_err(internal)?;
                let pending = match request {
                    Some(request) => requests::take(transaction, request, now)?,
                    None => None,
                };
                if let Some(pending) = &pending {
                    let session = Session { sid, sub, auth_time: now };
                    grants::insert_code(transaction, code, pending, &session, now)?;
                }
                Ok(pending)
            })
            .await
    }

    /// Ends the session of that name, with the codes and the refresh tokens that came of it.
    /// Those of `clients` that got tokens in it will be told.
    pub(crate) async fn sign_out(&self, sid: &str, clients: Vec<String>, now: Timestamp) -> Result<()> {
        let sid = sid.to_owned();
        self.database.write("idp.session.end", move |transaction| end(transaction, &sid, &clients, now)).await
    }
}

/// Ends a session with everything that came of it.
pub(super) fn end(
    transaction: &Transaction<'_>,
    sid: &str,
    clients: &[String],
    now: Timestamp,
) -> Result<()> {
    logouts::announce(transaction, sid, clients, now)?;
    for sql in [
        "DELETE FROM sessions WHERE sid = ?1",
        "DELETE FROM codes WHERE sid = ?1",
        "DELETE FROM grants WHERE sid = ?1",
    ] {
        transaction.execute(sql, [sid]).map_err(internal)?;
    }
    Ok(())
}
