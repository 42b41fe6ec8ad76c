//! Floor 3: what an instance keeps, on SQLite: `instance.db`, and one file for each tenant, `tenants/<tenant_id>.db`.
//!
//! Refuses to know: rules that stand above the rows. What a method promises stands at its trait; here is the SQL that
//! keeps the promise. The two files have no transaction in common: a tenant's file decides what concerns the tenant alone,
//! and `instance.db` has what it needs of all of them, taken over from there.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use kombify_core::{Change, Ids, Result, Sub, TenantId, TenantScope};
use kombify_sqlite::ledger::Write;
use kombify_sqlite::{Database, Migration, OpenError};
use rusqlite::Connection;
use tokio::time::Instant;

use crate::files::{Files, Using};
use crate::index::Stale;
use crate::order::Progress;
use crate::report::Touch;

mod files;
mod flag;
mod host;
mod index;
mod invitation;
mod member;
mod name;
mod order;
mod recover;
mod report;
mod revocation;
mod session;
mod stack;
mod tenant;

/// Every step of the schema of `instance.db`. One that was released is never changed; the next one goes below.
const MIGRATIONS: &[Migration] = &[
    Migration { version: 1, name: "ground", sql: include_str!("../../../migrations/stack/0001_ground.sql") },
    Migration {
        version: 2,
        name: "invitation expiry",
        sql: include_str!("../../../migrations/stack/0002_invitation_expiry.sql"),
    },
];

/// How the tenants' files are used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// How many are open at most; one more waits until another is not used.
    pub open_tenants: usize,
    /// For how long one stays open that nobody uses.
    pub idle: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            open_tenants: 64, // Each has a thread, two connections and up to 4 MB of pages.
            idle: Duration::from_mins(1),
        }
    }
}

/// What an instance keeps, in one directory, which no other handle or process uses. Clones are the same handle.
#[derive(Clone)]
pub struct StackSqlite {
    instance: Database,
    files: Arc<Files>,
    ids: Arc<dyn Ids>,
    state: Arc<State>,
}

/// What is kept in memory only.
#[derive(Default)]
struct State {
    applying: tokio::sync::Mutex<Applying>,
    stale: Mutex<Stale>,
    touched: Mutex<BTreeSet<TenantId>>,
}

/// The snapshots whose pages are coming in.
#[derive(Default)]
struct Applying {
    tenants: Option<Progress<TenantId>>,
    revocations: Option<Progress<Sub>>,
}

impl StackSqlite {
    /// Opens the directory, which is made (for this user alone) and migrated where that is due, and brings to its end what
    /// was left half done. Tenants' files are opened when they are used: one that cannot be is a fault of its own
    /// callers. `ids` names the rows of the audit log. Blocks.
    ///
    /// # Errors
    /// - [`OpenError`] says what is wrong with the directory or with `instance.db`, and the way out.
    pub fn open(dir: &Path, ids: Arc<dyn Ids>, options: Options) -> Result<Self, OpenError> {
        let unreachable =
            |path: &Path, cause: String| OpenError::Unreachable { path: path.to_owned(), cause };
        let dir = std::path::absolute(dir).map_err(|cause| unreachable(dir, cause.to_string()))?;
        let (path, tenants) = (dir.join("instance.db"), dir.join("tenants"));
        make_private(&tenants).map_err(|cause| unreachable(&tenants, cause.to_string()))?;
        let instance = Database::open(&path, MIGRATIONS, kombify_sqlite::Options::default())?;
        let recovered =
            recover::recover(&path, &tenants).map_err(|fault| unreachable(&path, recover::said(&fault)))?;
        let Options { open_tenants, idle } = options;
        let files = Files::new(tenants, open_tenants, idle);
        recovered.placed.into_iter().for_each(|tenant| files.admit(tenant));
        let state = State::default();
        locked(&state.stale).extend(recovered.stale.into_iter().map(|tenant| (tenant, None)));
        Ok(Self { instance, files: Arc::new(files), ids, state: Arc::new(state) })
    }

    /// Looks at a file without changing it: whether it is an `instance.db` that [`Self::open`] would take.
    ///
    /// # Errors
    /// - [`OpenError`] says what is wrong with it, and the way out.
    pub fn look(path: &Path) -> Result<(), OpenError> {
        kombify_sqlite::look(path, MIGRATIONS)
    }

    /// Lets an `instance.db` that nobody uses take over the members of all tenants anew when it is opened next: theirs may
    /// be files of another moment, as behind a backup. Blocks.
    ///
    /// # Errors
    /// - [`kombify_core::Error::Internal`] if it cannot be written.
    pub fn distrust(path: &Path) -> Result<()> {
        recover::distrust(path)
    }

    /// Whether `instance.db` answers: cheap enough for a probe every second.
    ///
    /// # Errors
    /// - those of [`Database::check`].
    pub async fn check(&self) -> Result<()> {
        self.instance.check().await
    }

    /// Closes the tenants' files that nobody has used for long, without waiting for it. Only within a Tokio runtime.
    pub fn close_idle(&self, now: Instant) {
        self.files.close_idle(now);
    }

    /// Does `f` in one transaction of `instance.db`, which goes by the name of the change's action.
    async fn change_instance<T: Send + 'static>(
        &self,
        change: &Change,
        f: impl FnOnce(&Write<'_>) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let (change, ids) = (change.clone(), Arc::clone(&self.ids));
        let name = change.action;
        self.instance
            .write(name, move |transaction| f(&Write { transaction, change: &change, ids: &*ids }))
            .await
    }

    /// Does `f` in one transaction of the tenant's file, which goes by the name of the change's action.
    async fn change_file<T: Send + 'static>(
        &self,
        scope: TenantScope,
        change: &Change,
        f: impl FnOnce(&Write<'_>) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let file = self.files.open(scope.tenant()).await?;
        self.write_file(&file, scope.tenant(), change, f).await
    }

    /// The same in a file that is in use.
    async fn write_file<T: Send + 'static>(
        &self,
        file: &Using,
        tenant: TenantId,
        change: &Change,
        f: impl FnOnce(&Write<'_>) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let (change, ids) = (change.clone(), Arc::clone(&self.ids));
        let (name, touch) = (change.action, Touch { state: Arc::clone(&self.state), tenant });
        let write = move |transaction: &rusqlite::Transaction<'_>| {
            // What is used is counted behind the commit, even if the caller goes away.
            Ok((f(&Write { transaction, change: &change, ids: &*ids })?, touch))
        };
        file.write(name, write).await.map(|(value, _)| value)
    }

    /// What `f` reads in the tenant's file.
    async fn read_file<T: Send + 'static>(
        &self,
        scope: TenantScope,
        f: impl FnOnce(&Connection) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        self.files.open(scope.tenant()).await?.read(f).await
    }
}

/// What a lock guards, whoever panicked with it.
fn locked<T>(lock: &Mutex<T>) -> MutexGuard<'_, T> {
    lock.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Makes a directory, and those above it, that only this user may enter.
fn make_private(dir: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(dir)
}

#[cfg(test)]
mod tests;
