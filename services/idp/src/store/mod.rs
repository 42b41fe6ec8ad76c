//! What the issuer keeps, in one SQLite file: a file per noun, a method per transaction.

pub(crate) mod grants;
pub(crate) mod keys;
pub(crate) mod logouts;
pub(crate) mod requests;
pub(crate) mod sessions;
pub(crate) mod users;

use std::path::Path;

use jiff::Timestamp;
use kombify_core::Result;
use kombify_sqlite::{Database, Migration, OpenError, Options, internal};
use rusqlite::{Transaction, params};

const MIGRATIONS: &[Migration] = &[
    Migration { version: 1, name: "ground", sql: include_str!("../../../../migrations/idp/0001_ground.sql") },
    Migration { version: 2, name: "logout", sql: include_str!("../../../../migrations/idp/0002_logout.sql") },
    Migration { version: 3, name: "change", sql: include_str!("../../../../migrations/idp/0003_change.sql") },
];

/// How long a used code is remembered, in milliseconds: its second use revokes what the first gave.
const CODE_KEPT_MS: i64 = 10 * 60 * 1000;

/// How many rows a table of what expires holds at most; the oldest give way.
const ROWS_MAX: i64 = 10_000;

/// The database of the issuer.
pub(crate) struct Store {
    database: Database,
}

impl Store {
    pub(crate) fn open(path: &Path) -> Result<Self, OpenError> {
        Ok(Self { database: Database::open(path, MIGRATIONS, Options::default())? })
    }

    pub(crate) async fn check(&self) -> Result<()> {
        self.database.check().await
    }
}

/// Whether [`Store::open`] would take the file.
pub(crate) fn look(path: &Path) -> Result<(), OpenError> {
    kombify_sqlite::look(path, MIGRATIONS)
}

/// Removes what has expired. Every write that adds a row begins with it.
fn sweep(transaction: &Transaction<'_>, now: Timestamp) -> Result<()> {
    let now = now.as_millisecond();
    for (table, before) in
        [("requests", now), ("sessions", now), ("grants", now), ("codes", now - CODE_KEPT_MS)]
    {
        let sql = format!("DELETE FROM {table} WHERE expire_time <= ?1");
        transaction.prepare_cached(&sql).map_err(internal)?.execute([before]).map_err(internal)?;
    }
    transaction
        .prepare_cached("DELETE FROM session_clients WHERE sid NOT IN (SELECT sid FROM sessions)")
        .and_then(|mut statement| statement.execute([]))
        .map(drop)
        .map_err(internal)
}

/// Makes room for one more row in `table`: the oldest rows go.
fn make_room(transaction: &Transaction<'_>, table: &'static str) -> Result<()> {
    let count: i64 = transaction
        .prepare_cached(&format!("SELECT COUNT(*) FROM {table}"))
        .and_then(|mut statement| statement.query_row([], |row| row.get(0)))
        .map_err(internal)?;
    if count >= ROWS_MAX {
        let sql = format!(
            "DELETE FROM {table}
              WHERE rowid IN (SELECT rowid FROM {table} ORDER BY create_time, rowid LIMIT ?1)"
        );
        transaction.execute(&sql, params![count - ROWS_MAX + 1]).map_err(internal)?;
    }
    Ok(())
}

/// A time as the tables keep it.
fn time(millis: i64) -> Timestamp {
    Timestamp::from_millisecond(millis).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use kombify_core::Clock as _;

    use super::requests::Pending;
    use crate::secret;
    use crate::testing::House;

    #[tokio::test]
    async fn what_expires_is_bounded_and_swept() {
        let house = House::open();
        let (issuer, pending) = (house.issuer(), Pending::default());
        let now = house.clock.now();
        issuer
            .store
            .database
            .write("idp.fill", move |transaction| {
                let sql = "INSERT INTO requests
                    WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?1)
                    SELECT CAST(i AS BLOB), '', '', '', '', NULL, NULL, NULL, ?2 + i, ?2 + 600000 FROM n";
                transaction.execute(sql, [super::ROWS_MAX, now.as_millisecond()]).map_err(super::internal)?;
                Ok(())
            })
            .await
            .unwrap();

        let count = || async {
            let sql = "SELECT COUNT(*) FROM requests";
            issuer
                .store
                .database
                .read(move |connection| {
                    connection.query_row(sql, [], |row| row.get(0)).map_err(super::internal)
                })
                .await
                .unwrap()
        };
        issuer.store.add_request(secret::hash("one more"), pending.clone(), now).await.unwrap();
        let rows: i64 = count().await;
        assert_eq!(rows, super::ROWS_MAX);
        let later = now + Duration::from_mins(10);
        issuer.store.add_request(secret::hash("later"), pending, later).await.unwrap();
        assert_eq!(count().await, 1);
        assert!(issuer.store.find_request(secret::hash("one more"), later).await.unwrap().is_none());
        assert!(issuer.store.find_request(secret::hash("later"), later).await.unwrap().is_some());
    }
}
