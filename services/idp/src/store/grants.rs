//! Codes, and what they gave.

use std::time::Duration;

use jiff::Timestamp;
use kombify_core::{Error, Result};
use kombify_sqlite::internal;
use rusqlite::{OptionalExtension as _, Row, Transaction, params};

use super::requests::Pending;
use super::sessions::Session;
use super::{Store, logouts, make_room, sweep, time};
use crate::oauth;
use crate::secret::Hash;

/// How long a code waits to be redeemed.
pub(crate) const CODE_LIFETIME: Duration = Duration::from_mins(1);

/// What a redeemed code gave: the right to tokens.
#[derive(Clone, Debug)]
pub(crate) struct Grant {
    pub(crate) id: String,
    pub(crate) sub: String,
    pub(crate) client_id: String,
    pub(crate) scope: String,
    pub(crate) sid: String,
    pub(crate) auth_time: Timestamp,
}

/// A code that is to be redeemed, and everything that it is held against.
pub(crate) struct Redemption {
    pub(crate) code: Hash,
    pub(crate) client_id: String,
    pub(crate) redirect_uri: String,
    /// The S256 challenge of the verifier that came with it.
    pub(crate) challenge: String,
    /// The grant that it is to give.
    pub(crate) grant_id: String,
    pub(crate) family: Hash,
    pub(crate) refresh: Hash,
    pub(crate) access_lifetime: Duration,
    pub(crate) refresh_lifetime: Duration,
    pub(crate) now: Timestamp,
}

/// A refresh token that is to be replaced by the next of its family.
pub(crate) struct Refresh {
    pub(crate) family: Hash,
    pub(crate) presented: Hash,
    pub(crate) next: Hash,
    pub(crate) client_id: String,
    /// The narrower scope that is asked for.
    pub(crate) scope: Option<String>,
    pub(crate) now: Timestamp,
}

const COLUMNS: &str = "grant_id, sub, client_id, scope, sid, auth_time";

impl Store {
    /// Keeps a code for a user who is signed in.
    pub(crate) async fn add_code(
        &self,
        code: Hash,
        pending: Pending,
        session: Session,
        now: Timestamp,
    ) -> Result<()> {
        self.database
            .write("idp.code.add", move |transaction| {
                sweep(transaction, now)?;
                insert_code(transaction, code, &pending, &session, now)
            })
            .await
    }

    /// Redeems a code, with the nonce that goes into the ID token. `None` if it is not good, or not for this client: it
    /// is burnt then. A second use takes back what the first gave.
    pub(crate) async fn redeem(&self, redemption: Redemption) -> Result<Option<(Grant, Option<String>)>> {
        self.database
            .write("idp.code.redeem", move |transaction| {
                sweep(transaction, redemption.now)?;
                redeem(transaction, &redemption)
            })
            .await
    }

    /// Replaces a refresh token. `None` if it is not the good one of its family: the family is revoked then.
    ///
    /// # Errors
    /// - [`Error::Invalid`] if the scope that is asked for is wider than what was granted: nothing has happened.
    pub(crate) async fn refresh(&self, refresh: Refresh) -> Result<Option<Grant>> {
        self.database
            .write("idp.grant.refresh", move |transaction| {
                let Refresh { family, presented, next, client_id, scope, now } = refresh;
                let sql = format!(
                    "UPDATE grants SET refresh_hash = ?3
                      WHERE family_hash = ?1 AND refresh_hash = ?2 AND client_id = ?4 AND expire_time > ?5
                  RETURNING {COLUMNS}"
                );
                let grant = transaction
                    .query_row(&sql, params![family, presented, next, client_id, now.as_millisecond()], row)
                    .optional()
                    .map_err(internal)?;
                let Some(grant) = grant else {
                    let revoked = transaction
                        .execute("DELETE FROM grants WHERE family_hash = ?1", [family])
                        .map_err(internal)?;
                    if revoked > 0 {
                        tracing::warn!(%client_id, "refresh token used again: its family is revoked");
                    }
                    return Ok(None);
                };
                if scope.is_some_and(|scope| !oauth::within(&scope, &grant.scope)) {
                    return Err(Error::invalid("scope", "must lie within the scope that was granted"));
                }
                Ok(Some(grant))
            })
            .await
    }

    /// Whether the grant still stands.
    pub(crate) async fn has_grant(&self, id: &str, now: Timestamp) -> Result<bool> {
        let id = id.to_owned();
        self.database
            .read(move |connection| {
                connection
                    .query_row(
                        "SELECT EXISTS (SELECT 1 FROM grants WHERE grant_id = ?1 AND expire_time > ?2)",
                        params![id, now.as_millisecond()],
                        |row| row.get(0),
                    )
                    .map_err(internal)
            })
            .await
    }
}

pub(super) fn insert_code(
    transaction: &Transaction<'_>,
    code: Hash,
    pending: &Pending,
    session: &Session,
    now: Timestamp,
) -> Result<()> {
    make_room(transaction, "codes")?;
    transaction
        .execute(
            "INSERT INTO codes (code_hash, client_id, redirect_uri, scope, challenge, nonce, sid, sub, auth_time,
                                create_time, expire_time)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
            params![
                code,
                pending.client_id,
                pending.redirect_uri,
                pending.scope,
                pending.challenge,
                pending.nonce,
                session.sid,
                session.sub,
                session.auth_time.as_millisecond(),
                now.as_millisecond(),
                (now + CODE_LIFETIME).as_millisecond()
            ],
        )
        .map_err(internal)?;
    Ok(())
}

fn redeem(transaction: &Transaction<'_>, redemption: &Redemption) -> Result<Option<(Grant, Option<String>)>> {
    let now = redemption.now.as_millisecond();
    // This one UPDATE decides among all who bring the code.
    let used = transaction
        .query_row(
            "UPDATE codes SET used_time = ?2, grant_id = ?3
              WHERE code_hash = ?1 AND used_time IS NULL AND expire_time > ?2
          RETURNING grant_id, sub, client_id, scope, sid, auth_time, redirect_uri, challenge, nonce",
            params![redemption.code, now, redemption.grant_id],
            |of| {
                Ok((
                    row(of)?,
                    of.get::<_, String>(6)?,
                    of.get::<_, String>(7)?,
                    of.get::<_, Option<String>>(8)?,
                ))
            },
        )
        .optional()
        .map_err(internal)?;
    let Some((grant, redirect_uri, challenge, nonce)) = used else {
        let sql = "DELETE FROM grants
                    WHERE grant_id = (SELECT grant_id FROM codes WHERE code_hash = ?1 AND used_time IS NOT NULL)";
        if transaction.execute(sql, [redemption.code]).map_err(internal)? > 0 {
            tracing::warn!(client_id = %redemption.client_id, "code used again: what it gave is revoked");
        }
        return Ok(None);
    };
    let signed_in: bool = transaction
        .query_row(
            "SELECT EXISTS (SELECT 1 FROM sessions WHERE sid = ?1 AND expire_time > ?2)",
            params![grant.sid, now],
            |row| row.get(0),
        )
        .map_err(internal)?;
    let good = signed_in
        && grant.client_id == redemption.client_id
        && redirect_uri == redemption.redirect_uri
        && challenge == redemption.challenge;
    if !good {
        return Ok(None);
    }
    logouts::remember(transaction, &grant.sid, &grant.client_id, &grant.sub, now)?;
    let refreshes = oauth::within("offline_access", &grant.scope);
    let lifetime = if refreshes { redemption.refresh_lifetime } else { redemption.access_lifetime };
    make_room(transaction, "grants")?;
    transaction
        .execute(
            "INSERT INTO grants (grant_id, sub, client_id, scope, sid, auth_time, family_hash, refresh_hash,
                                 create_time, expire_time)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
            params![
                grant.id,
                grant.sub,
                grant.client_id,
                grant.scope,
                grant.sid,
                grant.auth_time.as_millisecond(),
                refreshes.then_some(redemption.family),
                refreshes.then_some(redemption.refresh),
                now,
                (redemption.now + lifetime).as_millisecond()
            ],
        )
        .map_err(internal)?;
    Ok(Some((grant, nonce)))
}

fn row(row: &Row<'_>) -> rusqlite::Result<Grant> {
    Ok(Grant {
        id: row.get(0)?,
        sub: row.get(1)?,
        client_id: row.get(2)?,
        scope: row.get(3)?,
        sid: row.get(4)?,
        auth_time: time(row.get(5)?),
    })
}
