//! Floor 3: the platform stores on SQLite: one file, every trait of `kombify_core`'s stores.
//!
//! Refuses to know: rules that stand above the rows. What a method promises stands at its trait; here is the SQL that
//! keeps the promise, one transaction a method.

use std::path::Path;
use std::sync::Arc;

use jiff::SignedDuration;
use kombify_core::tenant::GRACE_HOURS;
use kombify_core::{Change, Ids, Result};
use kombify_sqlite::{Database, Migration, OpenError, Options};

use kombify_sqlite::ledger::Write;

mod audit;
mod flag;
mod health;
mod instance;
mod launch;
mod mesh_key;
mod null;
mod organisation;
mod outbox;
mod revocation;
mod sync;
mod tenant;
mod user;

/// Every step of the schema. One that was released is never changed; the next one goes below.
const MIGRATIONS: &[Migration] = &[
    Migration {
        version: 1,
        name: "ground",
        sql: include_str!("../../../migrations/platform/sqlite/0001_ground.sql"),
    },
    Migration {
        version: 2,
        name: "handoff",
        sql: include_str!("../../../migrations/platform/sqlite/0002_handoff.sql"),
    },
    Migration {
        version: 3,
        name: "taken",
        sql: include_str!("../../../migrations/platform/sqlite/0003_taken.sql"),
    },
    Migration {
        version: 4,
        name: "health",
        sql: include_str!("../../../migrations/platform/sqlite/0004_health.sql"),
    },
    Migration {
        version: 5,
        name: "organisations",
        sql: include_str!("../../../migrations/platform/sqlite/0005_organisations.sql"),
    },
];

/// The platform's stores in one SQLite file. Clones are the same store.
#[derive(Clone)]
pub struct PlatformSqlite {
    db: Database,
    ids: Arc<dyn Ids>,
    grace: SignedDuration,
}

impl PlatformSqlite {
    /// Opens the file, which is made and migrated where that is due; `ids` names the rows of the audit log. Blocks.
    ///
    /// # Errors
    /// - [`OpenError`] says what is wrong with the file, and the way out.
    pub fn open(path: &Path, ids: Arc<dyn Ids>) -> Result<Self, OpenError> {
        let grace = SignedDuration::from_hours(GRACE_HOURS);
        Ok(Self { db: Database::open(path, MIGRATIONS, Options::default())?, ids, grace })
    }

    /// The same store, in which a tenant that is deleted from now on can be undeleted for so long.
    #[must_use]
    pub fn with_grace(self, grace: SignedDuration) -> Self {
        Self { grace, ..self }
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
    use std::collections::BTreeSet;
    use std::sync::Arc;

    use kombify_core::conformance::{Pair, SeededIds};
    use kombify_core::instance::{Claim, InstanceStore as _};
    use kombify_core::launch::{LaunchStore as _, NewLaunch};
    use kombify_core::placed::Held;
    use kombify_core::sync::{SyncKind, SyncStore as _};
    use kombify_core::tenant::{NewTenant, TenantFilter, TenantMove, TenantStatus, TenantStore, Usage};
    use kombify_core::user::UserStore;
    use kombify_core::{Code, Etag, Ids, Page, Plan, PlatformStore, ServiceIdentity, TenantScope};
    use kombify_sqlite::query;

    use super::*;

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

    /// A file of the first schema with a user, an instance and two tenants in it.
    async fn of_before(path: &Path) {
        let database = Database::open(path, &MIGRATIONS[..1], Options::default()).unwrap();
        let fill = |transaction: &rusqlite::Transaction<'_>| {
            let rows = "
                INSERT INTO organisations VALUES ('org-1', 'pro', 2000000000000000, 0), ('org-2', NULL, NULL, 0);
                INSERT INTO users (sub, owner, email, name, picture, identity_time, create_time, update_time)
                VALUES ('ann', 'org-1', 'ann@example.org', 'Ann', '', 0, 0, 0);
                INSERT INTO instances (instance_id, name, region, mode, status, max_tenants, tenant_count,
                                       internal_endpoint, public_endpoint, create_time)
                VALUES ('instance_00000000-0000-7000-8000-000000000001', 'one', 'eu', 'shared', 'active', 9, 2,
                        'http://one', 'https://one', 0);
                INSERT INTO tenants (tenant_id, slug, name, owner, instance_id, create_time, version)
                VALUES ('tenant_00000000-0000-7000-8000-000000000001', 'home', 'Home', 'org-1',
                        'instance_00000000-0000-7000-8000-000000000001', 1000000, 3),
                       ('tenant_00000000-0000-7000-8000-000000000002', 'other', 'Other', 'org-2',
                        'instance_00000000-0000-7000-8000-000000000001', 2000000, 1);
                INSERT INTO memberships VALUES
                    ('tenant_00000000-0000-7000-8000-000000000001', 'ann', 'admin'),
                    ('tenant_00000000-0000-7000-8000-000000000002', 'bob', 'admin');
                INSERT INTO audit_events
                VALUES ('audit_1', 0, NULL, NULL, NULL, 'a', '', NULL, '', '', 'r', 'done', '{}');";
            transaction.execute_batch(rows).map_err(kombify_sqlite::internal)
        };
        database.write("fill", fill).await.unwrap();
    }

    /// The indexes of a table, and whatever is left of what was there before.
    async fn indexes(store: &PlatformSqlite, table: &'static str) -> Vec<String> {
        let read = move |connection: &rusqlite::Connection| {
            query::rows(
                connection,
                "SELECT name
                   FROM sqlite_schema
                  WHERE (type = 'index' AND tbl_name = :table AND sql IS NOT NULL) OR sql LIKE '%_of_before%'
                  ORDER BY name",
                rusqlite::named_params! { ":table": table },
                |row| row.get("name"),
            )
        };
        store.database().read(read).await.unwrap()
    }

    fn system() -> Change {
        let request = "req".parse().unwrap();
        Change::system("admin", "test", request, "2026-01-01T00:00:00Z".parse().unwrap())
    }

    #[tokio::test]
    async fn the_second_schema_takes_over_every_row_of_the_first() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("platform.db");
        of_before(&path).await;
        let store = PlatformSqlite::open(&path, Arc::new(SeededIds::new())).unwrap();
        store.database().integrity_check().await.unwrap();
        assert_eq!(indexes(&store, "memberships").await, ["memberships_of_user"]);
        let expected = ["tenants_erasable", "tenants_list", "tenants_of_instance"];
        assert_eq!(indexes(&store, "tenants").await, expected);
        let tenants =
            TenantStore::list(&store, &TenantFilter::default(), &Page::first()).await.unwrap().items;
        let shown: Vec<_> = tenants
            .iter()
            .map(|tenant| (tenant.slug.as_str(), tenant.status, tenant.members, tenant.etag, tenant.usage))
            .collect();
        let usage = Usage::default();
        assert_eq!(
            shown,
            [
                ("other", TenantStatus::Active, 1, Etag::of(1), usage),
                ("home", TenantStatus::Active, 1, Etag::of(3), usage)
            ]
        );
        assert_eq!(tenants[1].grant.map(|grant| grant.plan), Some(Plan::Pro));
        let ann = "ann".parse().unwrap();
        assert_eq!(store.memberships(&ann).await.unwrap().only().unwrap().tenant, tenants[1].id);
        assert_eq!(UserStore::find(&store, &ann).await.unwrap().unwrap().revocation, None);
        let instance = store.find_by_name("one").await.unwrap().unwrap();
        assert_eq!((instance.tenant_count, instance.maintenance, &instance.health), (2, false, &None));
        // Nobody knows a secret of an instance of before, not even an empty one.
        let claim =
            Claim { join_secret_hash: [0; 32], kid: "kid".into(), public_key: "key".into(), replaces: None };
        assert_eq!(store.claim(&system(), instance.id, &claim).await.unwrap_err().code(), Code::AuthInvalid);
        let stack = ServiceIdentity { module: "stack".into(), instance: instance.id.to_string() };
        store.connect(&system(), &stack, "http://one").await.unwrap();
        let snapshot = store.tenants_for(&stack, 0, None).await.unwrap().unwrap();
        let founders: Vec<_> =
            snapshot.items.iter().map(|tenant| (tenant.slug.as_str(), tenant.founder.sub.as_str())).collect();
        assert_eq!(founders, [("home", "ann"), ("other", "bob")]);
        for (slug, owner) in [("home", "org-3"), ("third", "org-1")] {
            let again = NewTenant {
                id: "tenant_00000000-0000-7000-8000-000000000003".parse().unwrap(),
                slug: slug.parse().unwrap(),
                name: "Again".into(),
                owner: owner.parse().unwrap(),
                creator: ann.clone(),
                region: "eu".parse().unwrap(),
            };
            assert_eq!(store.create(&system(), &again).await.unwrap_err().code(), Code::Conflict, "{slug}");
        }
    }

    #[tokio::test]
    async fn of_an_erased_tenant_nothing_is_kept_that_says_whose_it_was() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("platform.db");
        of_before(&path).await;
        let store = PlatformSqlite::open(&path, Arc::new(SeededIds::new())).unwrap();
        let instance = store.find_by_name("one").await.unwrap().unwrap().id;
        let stack = ServiceIdentity { module: "stack".into(), instance: instance.to_string() };
        let id = "tenant_00000000-0000-7000-8000-000000000001".parse().unwrap();
        let scope = TenantScope::system(id, "the test writes what it erases");
        let launch = NewLaunch {
            hash: [1; 32],
            sub: "ann".parse().unwrap(),
            owner: "org-1".parse().unwrap(),
            roles: BTreeSet::new(),
            challenge: None,
            instance: None,
            auth_time: system().time,
            expire_time: system().time,
        };
        store.issue(scope, &system(), &launch).await.unwrap();
        store.connect(&system(), &stack, "http://one").await.unwrap();
        store.change_status(&system(), id, None, TenantMove::Delete, "").await.unwrap();
        let late = Change { time: "2026-02-01T00:00:00Z".parse().unwrap(), ..system() };
        assert_eq!(store.erase_expired(&late).await.unwrap(), 1);
        let push = store.tenants_for(&stack, 0, None).await.unwrap().unwrap();
        let held = Held { version: push.version, ..Held::default() };
        store.acknowledge(&late, &stack, SyncKind::Tenants, push.version, &held, &[id]).await.unwrap();
        let kept = |connection: &rusqlite::Connection| {
            query::rows(
                connection,
                "SELECT slug, status, name, owner, founder,
                        (SELECT COUNT(*) FROM memberships WHERE memberships.tenant_id = tenants.tenant_id) AS members,
                        (SELECT COUNT(*) FROM launch_codes WHERE launch_codes.tenant_id = tenants.tenant_id) AS codes,
                        (SELECT COUNT(*) FROM outbox WHERE subject = tenants.tenant_id) AS outbox
                   FROM tenants
                  WHERE slug = 'home'",
                (),
                |row| {
                    let text = ["slug", "status", "name"].map(|name| row.get::<_, String>(name));
                    let whose = ["owner", "founder"].map(|name| row.get::<_, Option<String>>(name));
                    let counts = ["members", "codes", "outbox"].map(|name| row.get::<_, i64>(name));
                    Ok((text.map(Result::unwrap), whose.map(Result::unwrap), counts.map(Result::unwrap)))
                },
            )
        };
        let expected = (["home", "erased", ""].map(str::to_owned), [None, None], [0, 0, 0]);
        assert_eq!(store.database().read(kept).await.unwrap(), [expected]);
        store.database().integrity_check().await.unwrap();
    }

    #[tokio::test]
    async fn the_fifth_schema_keeps_what_waits_and_gives_no_version_twice() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("platform.db");
        let database = Database::open(&path, &MIGRATIONS[..4], Options::default()).unwrap();
        let fill = |transaction: &rusqlite::Transaction<'_>| {
            let rows = "
                INSERT INTO sync_streams (module, instance, kind, endpoint, acknowledged_version, snapshot_due,
                                          next_attempt_time)
                VALUES ('cloud', 'local', 'revocations', 'http://cloud', 1, 0, 0);
                INSERT INTO outbox (module, instance, kind, subject, create_time)
                VALUES ('cloud', 'local', 'revocations', 'ann', 1000000),
                       ('cloud', 'local', 'revocations', 'bob', 2000000),
                       ('cloud', 'local', 'revocations', 'cy', 3000000);
                DELETE FROM outbox WHERE subject <> 'bob';";
            transaction.execute_batch(rows).map_err(kombify_sqlite::internal)
        };
        database.write("fill", fill).await.unwrap();
        drop(database);
        let store = PlatformSqlite::open(&path, Arc::new(SeededIds::new())).unwrap();
        store.database().integrity_check().await.unwrap();
        assert_eq!(indexes(&store, "outbox").await, ["outbox_of_stream", "outbox_of_subject"]);
        assert_eq!(store.database().read(outbox::latest).await.unwrap(), 3);
        let streams = store.streams().await.unwrap();
        let shown: Vec<_> = streams
            .iter()
            .map(|stream| {
                (stream.kind, stream.endpoint.as_str(), stream.acknowledged_version, stream.pending)
            })
            .collect();
        assert_eq!(shown, [(SyncKind::Revocations, "http://cloud", 1, 1)]);
        assert!(!streams[0].snapshot_due);
    }

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
                "INSERT INTO instances VALUES ('i', 'n', 'eu', 'shared', 'active', 1, 2, '', '', 0, 1, NULL, 0)",
                Some("instances_tenant_count"),
            ),
            (
                "INSERT INTO instances VALUES ('i', 'n', 'eu', 'shared', 'gone', 1, 0, '', '', 0, 1, NULL, 0)",
                Some("instances_status"),
            ),
            (
                "INSERT INTO instances VALUES ('i', 'n', 'eu', 'dedicated', 'active', 2, 0, '', '', 0, 1, NULL, 0)",
                Some("instances_max_tenants"),
            ),
            (
                "INSERT INTO instances VALUES ('i', 'n', 'eu', 'shared', 'active', 1, 0, '', '', 0, 1, x'00', 0)",
                Some("instances_join_secret_hash"),
            ),
            (
                "INSERT INTO tenants VALUES ('t', 's', 'n', 'o', 'f', 'i', 1, 'erased', NULL, 0, 0, 0, 0, 0, 1, 1)",
                Some("tenants_erasure"),
            ),
            (
                "INSERT INTO tenants VALUES ('t', 's', 'n', 'o', 'f', 'i', 1, 'deleted', NULL, 0, 0, 0, 0, 0, 1, 1)",
                Some("tenants_deletion"),
            ),
            ("INSERT INTO flag_set VALUES (2, 0)", Some("flag_set_one")),
            ("INSERT INTO outbox VALUES (1, 'cloud', 'local', 'flags', 'a', 0)", Some("outbox_kind")),
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
