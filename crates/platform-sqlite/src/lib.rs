//! Floor 3: the platform stores on SQLite: one file, every trait of `kombify_core`'s stores.
//!
//! Refuses to know: rules that stand above the rows. What a method promises stands at its trait; here is the SQL that
//! keeps the promise, one transaction a method.

use std::path::Path;
use std::sync::Arc;

use kombify_core::{Change, Ids, Result};
use kombify_sqlite::{Database, Migration, OpenError, Options};

use crate::write::Write;

mod audit;
mod audit_row;
mod column;
mod idempotency;
mod instance;
mod mesh_key;
mod organisation;
mod query;
mod tenant;
mod user;
mod write;

/// Every step of the schema. One that was released is never changed; the next one goes below.
const MIGRATIONS: &[Migration] = &[Migration {
    version: 1,
    name: "ground",
    sql: include_str!("../../../migrations/platform/sqlite/0001_ground.sql"),
}];

/// The platform's stores in one SQLite file. Clones are the same store.
#[derive(Clone)]
pub struct PlatformSqlite {
    db: Database,
    ids: Arc<dyn Ids>,
}

impl PlatformSqlite {
    /// Opens the file, which is made and migrated where that is due; `ids` names the rows of the audit log. Blocks.
    ///
    /// # Errors
    /// - [`OpenError`] says what is wrong with the file, and the way out.
    pub fn open(path: &Path, ids: Arc<dyn Ids>) -> Result<Self, OpenError> {
        Ok(Self { db: Database::open(path, MIGRATIONS, Options::default())?, ids })
    }

    /// Looks at a file without changing it: whether [`Self::open`] would take it.
    ///
    /// # Errors
    /// - [`OpenError`] says what is wrong with the file, and the way out.
    pub fn look(path: &Path) -> Result<(), OpenError> {
        kombify_sqlite::look(path, MIGRATIONS)
    }

    /// The file itself: for health, backups and checks.
    pub fn database(&self) -> &Database {
        &self.db
    }

    /// Does `f` in one transaction that goes by the name of the change's action.
    async fn write<T: Send + 'static>(
        &self,
        change: &Change,
        f: impl FnOnce(&Write<'_>) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let (change, ids) = (change.clone(), Arc::clone(&self.ids));
        let name = change.action;
        self.db.write(name, move |transaction| f(&Write { transaction, change: &change, ids: &*ids })).await
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use kombify_core::conformance::{Pair, SeededIds};
    use kombify_core::{Ids, PlatformStore};

    use super::PlatformSqlite;

    async fn fresh() -> Pair {
        let open = || {
            let home = tempfile::tempdir().unwrap();
            let path = home.path().join("platform.db");
            let ids: Arc<dyn Ids> = Arc::new(SeededIds::new());
            let a: Arc<dyn PlatformStore> = Arc::new(PlatformSqlite::open(&path, Arc::clone(&ids)).unwrap());
            let b: Arc<dyn PlatformStore> = Arc::new(PlatformSqlite::open(&path, ids).unwrap());
            Pair { a, b, keep: Box::new(home) }
        };
        tokio::task::spawn_blocking(open).await.unwrap()
    }

    kombify_core::platform_store_conformance!(fresh);

    #[tokio::test]
    async fn the_schema_holds_what_the_code_must_never_try() {
        let home = tempfile::tempdir().unwrap();
        let store =
            PlatformSqlite::open(&home.path().join("platform.db"), Arc::new(SeededIds::new())).unwrap();
        let log = |transaction: &rusqlite::Transaction<'_>| {
            let row = "INSERT INTO audit_events
                       VALUES ('audit_1', 0, NULL, NULL, NULL, 'a', '', NULL, '', '', 'r', 'done', '{}')";
            transaction.execute(row, ()).map(drop).map_err(kombify_sqlite::internal)
        };
        store.database().write("log", log).await.unwrap();
        for (wrong, constraint) in [
            ("UPDATE audit_events SET action = 'b'", None),
            ("DELETE FROM audit_events", None),
            (
                "REPLACE INTO audit_events
                 VALUES ('audit_1', 0, NULL, NULL, NULL, 'b', '', NULL, '', '', 'r', 'done', '{}')",
                None,
            ),
            (
                "INSERT INTO instances VALUES ('i', 'n', 'eu', 'shared', 'active', 1, 2, '', '', 0, 1)",
                Some("instances_tenant_count"),
            ),
            (
                "INSERT INTO instances VALUES ('i', 'n', 'eu', 'shared', 'gone', 1, 0, '', '', 0, 1)",
                Some("instances_status"),
            ),
            (
                "INSERT INTO instances VALUES ('i', 'n', 'eu', 'dedicated', 'active', 2, 0, '', '', 0, 1)",
                Some("instances_max_tenants"),
            ),
        ] {
            let attempt = move |transaction: &rusqlite::Transaction<'_>| {
                let fault = transaction.execute(wrong, ()).unwrap_err();
                assert_eq!(
                    fault.sqlite_error_code(),
                    Some(rusqlite::ErrorCode::ConstraintViolation),
                    "{fault}"
                );
                assert_eq!(kombify_sqlite::constraint(&fault), constraint, "{fault}");
                Ok(())
            };
            store.database().write("wrong", attempt).await.unwrap();
        }
        store.database().integrity_check().await.unwrap();
    }
}
