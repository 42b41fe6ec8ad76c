//! One database file: the handle that everything goes through.

use std::fmt;
use std::path::{Path, PathBuf, absolute};
use std::sync::Arc;
use std::time::Duration;

use kombify_core::{Error, Result};
use rusqlite::{Connection, Transaction};

use crate::fault::{SOON, internal};
use crate::open::{self, Migration, OpenError};
use crate::readers::Readers;
use crate::writer::Writer;

/// How a database is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// How many reads run at the same time.
    pub readers: usize,
    /// How long a statement waits for a lock of another handle or process.
    pub busy_timeout: Duration,
    /// How many writes wait for their turn; one more is refused at once.
    pub queue: usize,
    /// How long a call waits for its turn.
    pub wait: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            readers: 4,
            busy_timeout: Duration::from_secs(5),
            queue: 256,
            wait: Duration::from_secs(5), // Beyond, most callers have given up, and work for them is lost.
        }
    }
}

/// An open SQLite file, in WAL mode: many read while one writes, and what is committed is on the disk. Clones are the
/// same handle; with the last one the writer ends and the WAL goes into the file.
#[derive(Clone)]
pub struct Database {
    inner: Arc<Inner>,
}

impl fmt::Debug for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Database").field("path", &self.inner.path).finish_non_exhaustive()
    }
}

struct Inner {
    path: PathBuf,
    // Closed before the writer: the last connection to go empties the WAL, and only the writer can.
    readers: Arc<Readers>,
    writer: Writer,
}

impl Database {
    /// Opens the file, which is made if it is not there (for this user alone), checked and migrated. Blocks.
    ///
    /// # Errors
    /// - [`OpenError`] says what is wrong with the file, and the way out.
    pub fn open(path: &Path, migrations: &'static [Migration], options: Options) -> Result<Self, OpenError> {
        // Absolute: what the process calls its directory may change, and no name is taken for a URI.
        let unreachable = |cause: std::io::Error| OpenError::Unreachable {
            path: path.to_owned(),
            cause: cause.to_string(),
        };
        let path = absolute(path).map_err(unreachable)?;
        let Options { readers, busy_timeout, queue, wait } = options;
        let writer = open::writer(&path, migrations, busy_timeout)?;
        let readers =
            (0..readers.max(1)).map(|_| open::reader(&path, busy_timeout)).collect::<Result<Vec<_>, _>>()?;
        let readers = Arc::new(Readers::new(readers, wait));
        let writer = Writer::start(writer, queue, wait).map_err(unreachable)?;
        Ok(Self { inner: Arc::new(Inner { path, readers, writer }) })
    }

    /// What `f` reads: all of it from the same moment.
    ///
    /// # Errors
    /// - [`Error::Unavailable`] if no reader is free in time.
    /// - [`Error::Internal`] if `f` panics.
    /// - What `f` says.
    #[tracing::instrument(name = "db.read", skip_all, err(level = "debug"))]
    pub async fn read<T: Send + 'static>(
        &self,
        f: impl FnOnce(&Connection) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        self.inner.readers.run(f).await
    }

    /// Does `f` in one transaction, which is kept only if `f` says `Ok`. Writes happen one after the other; `name` is
    /// for spans and failpoints.
    ///
    /// What began is finished, even if the caller goes away; what did not begin in time never happens.
    ///
    /// # Errors
    /// - [`Error::Unavailable`] if too many writes wait, or if the turn does not come in time: nothing was done.
    /// - [`Error::Internal`] if `f` panics: nothing was done.
    /// - What `f` says: nothing was done.
    #[tracing::instrument(name = "db.write", skip_all, fields(write = name), err(level = "debug"))]
    pub async fn write<T: Send + 'static>(
        &self,
        name: &'static str,
        f: impl FnOnce(&Transaction<'_>) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        self.inner.writer.run(name, f).await
    }

    /// Whether the database answers: cheap enough for a probe every second.
    ///
    /// # Errors
    /// - [`Error::Unavailable`] if nobody does writes any more, or if no reader is free.
    /// - [`Error::Internal`] if the file cannot be read.
    pub async fn check(&self) -> Result<()> {
        if !self.inner.writer.lives() {
            return Err(Error::unavailable("the writer of the database is gone", SOON));
        }
        self.read(|connection| connection.query_row("SELECT 1", (), |_| Ok(())).map_err(internal)).await
    }

    /// Reads every page and holds rows, indexes and references against each other: minutes on a large file.
    ///
    /// # Errors
    /// - [`Error::Internal`] with the first finding.
    pub async fn integrity_check(&self) -> Result<()> {
        self.read(|connection| {
            let verdict: String =
                connection.query_row("PRAGMA integrity_check(1)", (), |row| row.get(0)).map_err(internal)?;
            if verdict != "ok" {
                return Err(Error::internal(format!("the database is damaged: {verdict}")));
            }
            let mut references = connection.prepare("PRAGMA foreign_key_check").map_err(internal)?;
            if references.exists(()).map_err(internal)? {
                return Err(Error::internal(
                    "the database is damaged: a row refers to one that is not there",
                ));
            }
            Ok(())
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use kombify_core::Code;
    use tempfile::TempDir;
    use tokio::sync::oneshot;
    use tokio::task::JoinSet;

    use super::*;

    const ROOMS: &[Migration] = &[Migration {
        version: 1,
        name: "rooms",
        sql: "CREATE TABLE rooms (name TEXT NOT NULL) STRICT;
              CREATE TABLE counter (count INTEGER NOT NULL) STRICT;
              INSERT INTO counter (count) VALUES (0);",
    }];

    fn fresh(options: Options) -> (TempDir, Database) {
        let home = tempfile::tempdir().unwrap();
        let database = Database::open(&home.path().join("test.db"), ROOMS, options).unwrap();
        (home, database)
    }

    fn add(transaction: &Transaction<'_>, name: &str) -> Result<()> {
        transaction.execute("INSERT INTO rooms (name) VALUES (?1)", [name]).map(drop).map_err(internal)
    }

    async fn rooms(database: &Database) -> u32 {
        let count = |connection: &Connection| {
            connection.query_row("SELECT COUNT(*) FROM rooms", (), |row| row.get(0)).map_err(internal)
        };
        database.read(count).await.unwrap()
    }

    /// A write that has begun, and ends when it is told to.
    async fn held(database: &Database, racers: &mut JoinSet<Result<()>>) -> mpsc::Sender<()> {
        let (began, running) = oneshot::channel();
        let (release, held) = mpsc::channel();
        let database = database.clone();
        racers.spawn(async move {
            let wait = move |transaction: &Transaction<'_>| {
                add(transaction, "held")?;
                began.send(()).unwrap();
                held.recv().map_err(Error::internal)
            };
            database.write("held", wait).await
        });
        running.await.unwrap();
        release
    }

    #[tokio::test]
    async fn what_fails_or_panics_leaves_nothing_and_the_writer_lives_on() {
        let (_home, database) = fresh(Options::default());
        let failed = |transaction: &Transaction<'_>| -> Result<()> {
            add(transaction, "attic")?;
            Err(Error::Conflict("no".into()))
        };
        assert_eq!(database.write("failed", failed).await.unwrap_err().code(), Code::Conflict);
        let panicked = |transaction: &Transaction<'_>| -> Result<()> {
            add(transaction, "attic")?;
            panic!("the attic is on fire")
        };
        assert_eq!(database.write("panicked", panicked).await.unwrap_err().code(), Code::InternalError);
        assert_eq!(rooms(&database).await, 0);
        database.write("done", |transaction| add(transaction, "cellar")).await.unwrap();
        assert_eq!(rooms(&database).await, 1);
        database.check().await.unwrap();
    }

    #[tokio::test]
    async fn a_read_that_panics_costs_no_reader() {
        let (_home, database) = fresh(Options { readers: 1, ..Options::default() });
        for _ in 0..3 {
            let fault = database.read(|_| -> Result<()> { panic!("no") }).await.unwrap_err();
            assert_eq!(fault.code(), Code::InternalError);
        }
        assert_eq!(rooms(&database).await, 0);
    }

    #[tokio::test]
    async fn a_reader_cannot_write() {
        let (_home, database) = fresh(Options::default());
        let write = |connection: &Connection| {
            connection.execute("INSERT INTO rooms (name) VALUES ('attic')", ()).map(drop).map_err(internal)
        };
        assert!(database.read(write).await.is_err());
        assert_eq!(rooms(&database).await, 0);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn readers_do_not_see_what_is_not_committed() {
        let (_home, database) = fresh(Options::default());
        let mut racers = JoinSet::new();
        let release = held(&database, &mut racers).await;
        assert_eq!(rooms(&database).await, 0);
        release.send(()).unwrap();
        assert!(racers.join_all().await.iter().all(Result::is_ok));
        assert_eq!(rooms(&database).await, 1);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_full_queue_and_a_turn_that_does_not_come_answer_unavailable_and_never_happen() {
        let (_home, database) =
            fresh(Options { queue: 1, wait: Duration::from_millis(100), ..Options::default() });
        let mut racers = JoinSet::new();
        let release = held(&database, &mut racers).await;
        let (waited, refused) = tokio::join!(
            database.write("waits", |transaction| add(transaction, "waits")),
            database.write("refused", |transaction| add(transaction, "refused")),
        );
        for fault in [waited.unwrap_err(), refused.unwrap_err()] {
            assert_eq!(fault.code(), Code::ServiceUnavailable, "{fault}");
            assert_eq!(fault.retry_after(), Some(Duration::from_secs(1)), "{fault}");
        }
        release.send(()).unwrap();
        assert!(racers.join_all().await.iter().all(Result::is_ok));
        // Whoever gave up still has the one place in the queue, until the writer comes to it.
        while database.write("last", |transaction| add(transaction, "last")).await.is_err() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        assert_eq!(rooms(&database).await, 2, "only the held one and the last one happened");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn two_handles_on_one_file_lose_no_write() {
        let (home, first) = fresh(Options::default());
        let second = Database::open(&home.path().join("test.db"), ROOMS, Options::default()).unwrap();
        let mut racers = JoinSet::new();
        for racer in 0..64 {
            let database = if racer % 2 == 0 { first.clone() } else { second.clone() };
            racers.spawn(async move {
                let count = |transaction: &Transaction<'_>| {
                    let count: u32 = transaction
                        .query_row("SELECT count FROM counter", (), |row| row.get(0))
                        .map_err(internal)?;
                    transaction
                        .execute("UPDATE counter SET count = ?1", [count + 1])
                        .map(drop)
                        .map_err(internal)
                };
                database.write("count", count).await
            });
        }
        for result in racers.join_all().await {
            result.unwrap();
        }
        let count = |connection: &Connection| {
            connection
                .query_row("SELECT count FROM counter", (), |row| row.get::<_, u32>(0))
                .map_err(internal)
        };
        assert_eq!(first.read(count).await.unwrap(), 64);
    }

    #[tokio::test]
    async fn a_backup_is_one_whole_file_that_opens() {
        let (home, database) = fresh(Options::default());
        database.write("done", |transaction| add(transaction, "attic")).await.unwrap();
        let to = home.path().join("backup.db");
        crate::backup(&home.path().join("test.db"), &to).unwrap();
        database.write("later", |transaction| add(transaction, "cellar")).await.unwrap();
        assert_eq!(crate::backup(&home.path().join("test.db"), &to).unwrap_err().code(), Code::Conflict);
        let side_files = ["backup.db-wal", "backup.db-shm", "backup.db.partial"];
        assert!(side_files.iter().all(|name| !home.path().join(name).exists()));
        let copy = Database::open(&to, ROOMS, Options::default()).unwrap();
        copy.integrity_check().await.unwrap();
        assert_eq!(rooms(&copy).await, 1);
        database.integrity_check().await.unwrap();
    }

    #[tokio::test]
    async fn the_last_handle_leaves_one_file_behind() {
        let (home, database) = fresh(Options::default());
        let other = database.clone();
        drop(database);
        other.write("done", |transaction| add(transaction, "attic")).await.unwrap();
        assert!(home.path().join("test.db-wal").exists());
        drop(other);
        assert!(!home.path().join("test.db-wal").exists());
        let again = Database::open(&home.path().join("test.db"), ROOMS, Options::default()).unwrap();
        assert_eq!(rooms(&again).await, 1);
    }
}
