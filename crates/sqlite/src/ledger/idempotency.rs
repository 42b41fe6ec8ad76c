//! The caller's promise that a repeat is a repeat: the table `idempotency_records`.

use kombify_core::{Error, Idempotency, Result};
use rusqlite::named_params;

use super::Write;
use crate::query;

/// How many records that are past their time a write takes away, so that the table stays small and no write is long.
const SWEPT: u32 = 100;

impl Write<'_> {
    /// The id of the thing that the same request made before, where the caller promised a repeat and this is one.
    ///
    /// # Errors
    /// - [`Error::Conflict`] if the key came with another request.
    pub fn repeated(&self) -> Result<Option<String>> {
        let Some(promise) = &self.change.idempotency else { return Ok(None) };
        let known = query::row(
            self.transaction,
            "SELECT digest, target_id
               FROM idempotency_records
              WHERE caller = :caller AND method = :method AND tenant_id = :tenant_id AND key = :key
                AND create_time > :expired",
            named_params! {
                ":caller": self.change.actor.key(),
                ":method": promise.method,
                ":tenant_id": tenant(promise),
                ":key": promise.key,
                ":expired": self.expired(),
            },
            |row| Ok((row.get::<_, [u8; 32]>("digest")?, row.get("target_id")?)),
        )?;
        match known {
            None => Ok(None),
            Some((digest, target)) if digest == promise.digest => Ok(Some(target)),
            Some(_) => Err(Error::Conflict("the Idempotency-Key was used with another request".into())),
        }
    }

    /// Keeps the promise: a repeat from now on finds `target`.
    ///
    /// # Errors
    /// - [`Error::Internal`] if it cannot be written.
    pub fn promise(&self, target: &str) -> Result<()> {
        let Some(promise) = &self.change.idempotency else { return Ok(()) };
        query::execute(
            self.transaction,
            "DELETE FROM idempotency_records
              WHERE rowid IN (
                    SELECT rowid
                      FROM idempotency_records
                     WHERE create_time <= :expired
                     ORDER BY create_time
                     LIMIT :swept)",
            named_params! { ":expired": self.expired(), ":swept": SWEPT },
        )?;
        query::execute(
            self.transaction,
            "INSERT INTO idempotency_records (caller, method, tenant_id, key, digest, target_id, create_time)
             VALUES (:caller, :method, :tenant_id, :key, :digest, :target_id, :now)
             ON CONFLICT (caller, method, tenant_id, key)
             DO UPDATE SET digest = excluded.digest, target_id = excluded.target_id,
                           create_time = excluded.create_time",
            named_params! {
                ":caller": self.change.actor.key(),
                ":method": promise.method,
                ":tenant_id": tenant(promise),
                ":key": promise.key,
                ":digest": promise.digest,
                ":target_id": target,
                ":now": self.now(),
            },
        )
        .map(drop)
    }

    /// What was promised at this moment or before is past its time.
    fn expired(&self) -> i64 {
        self.now().saturating_sub(Idempotency::KEPT_HOURS * 3_600_000_000)
    }
}

/// NULL equals nothing, so that "for no tenant" is a text.
fn tenant(promise: &Idempotency) -> String {
    promise.tenant.map(|tenant| tenant.to_string()).unwrap_or_default()
}
