//! The signing keys.

use std::time::Duration;

use jiff::Timestamp;
use kombify_core::{Error, Result};
use kombify_sqlite::internal;
use rusqlite::{Connection, params};

use super::{Store, time};
use crate::keys::{Alg, KeyRow, PUBLISHED_MAX, published};

impl Store {
    /// Every key that is kept, in the order of their making.
    pub(crate) async fn keys(&self) -> Result<Vec<KeyRow>> {
        self.database.read(load).await
    }

    /// Adds the very first key; does nothing where there is one.
    pub(crate) async fn add_first_key(&self, key: KeyRow) -> Result<()> {
        self.database
            .write("idp.key.first", move |connection| {
                if load(connection)?.is_empty() { insert(connection, &key) } else { Ok(()) }
            })
            .await
    }

    /// Adds a key and removes those that are published no more.
    ///
    /// # Errors
    /// - [`Error::Conflict`] if [`PUBLISHED_MAX`] keys are published already.
    pub(crate) async fn rotate(&self, key: KeyRow, now: Timestamp, grace: Duration) -> Result<()> {
        self.database
            .write("idp.key.rotate", move |connection| {
                let all = load(connection)?;
                let kept = published(all.clone(), now, grace);
                if kept.len() >= PUBLISHED_MAX {
                    let message =
                        format!("{PUBLISHED_MAX} keys are published: wait until the oldest is dropped");
                    return Err(Error::Conflict(message));
                }
                for gone in all.iter().filter(|row| !kept.iter().any(|kept| kept.kid == row.kid)) {
                    connection.execute("DELETE FROM keys WHERE kid = ?1", [&gone.kid]).map_err(internal)?;
                }
                insert(connection, &key)
            })
            .await
    }
}

fn load(connection: &Connection) -> Result<Vec<KeyRow>> {
    let mut statement = connection
        .prepare_cached("SELECT kid, alg, pkcs8, signs_time FROM keys ORDER BY seq")
        .map_err(internal)?;
    let rows: Vec<(String, String, Vec<u8>, i64)> = statement
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)))
        .and_then(Iterator::collect)
        .map_err(internal)?;
    rows.into_iter()
        .map(|(kid, alg, pkcs8, signs_time)| {
            let alg =
                Alg::parse(&alg).ok_or_else(|| Error::internal(format!("the key {kid} has no known alg")))?;
            Ok(KeyRow { kid, alg, pkcs8, signs_time: time(signs_time) })
        })
        .collect()
}

fn insert(connection: &Connection, key: &KeyRow) -> Result<()> {
    connection
        .execute(
            "INSERT INTO keys (kid, alg, pkcs8, signs_time) VALUES (?1, ?2, ?3, ?4)",
            params![key.kid, key.alg.as_str(), key.pkcs8, key.signs_time.as_millisecond()],
        )
        .map_err(internal)?;
    Ok(())
}
