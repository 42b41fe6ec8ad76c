//! How a file becomes a database: created, looked at, migrated.

use std::fs::OpenOptions;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, OpenFlags, TransactionBehavior};

/// One step of a schema. Steps only go forward, and one that was ever released is never changed.
#[derive(Clone, Copy, Debug)]
pub struct Migration {
    /// The version of the schema behind the step, from 1 on without a gap; `PRAGMA user_version` keeps it.
    pub version: u32,
    /// What the step is for, for messages.
    pub name: &'static str,
    /// Its statements. They run in one transaction, so they hold no BEGIN and no COMMIT.
    pub sql: &'static str,
}

/// Why a file cannot be used, and the way out.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The file cannot be created, read or written.
    #[error("cannot open {}: {cause}; its directory must be there, and this user must be able to write to both", .path.display())]
    Unreachable {
        /// The file.
        path: PathBuf,
        /// What the system says.
        cause: String,
    },
    /// Another process holds the file.
    #[error("{} is locked by another process: stop that one, or use another file", .path.display())]
    Locked {
        /// The file.
        path: PathBuf,
    },
    /// What is in the file is no whole database.
    #[error("{} is damaged ({cause}): restore a backup in its place; nothing was changed", .path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What SQLite found.
        cause: String,
    },
    /// The file was written by a newer program.
    #[error("{} has schema {found}, this kombify knows up to {known}: run a newer kombify; nothing was changed", .path.display())]
    Newer {
        /// The file.
        path: PathBuf,
        /// The version of its schema.
        found: u32,
        /// The newest version that this program knows.
        known: u32,
    },
    /// A step of the schema failed.
    #[error("{}: the migration to schema {version} ({name}) failed and was undone: {cause}; go on with the kombify that ran before, and report this", .path.display())]
    Migration {
        /// The file.
        path: PathBuf,
        /// The version that the step leads to.
        version: u32,
        /// The name of the step.
        name: &'static str,
        /// What SQLite says.
        cause: String,
    },
}

impl OpenError {
    fn of(path: &Path, fault: &rusqlite::Error) -> Self {
        let path = path.to_owned();
        match fault.sqlite_error_code() {
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Self::Locked { path },
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
                Self::Damaged { path, cause: fault.to_string() }
            }
            _ => Self::Unreachable { path, cause: fault.to_string() },
        }
    }

    fn unreachable(path: &Path, cause: impl Into<String>) -> Self {
        Self::Unreachable { path: path.to_owned(), cause: cause.into() }
    }
}

/// The connection that writes, to a file that is there, whole and of the newest schema.
pub(crate) fn writer(
    path: &Path,
    migrations: &[Migration],
    busy_timeout: Duration,
) -> Result<Connection, OpenError> {
    match create_private(path) {
        Err(cause) if cause.kind() != io::ErrorKind::AlreadyExists => {
            return Err(OpenError::unreachable(path, cause.to_string()));
        }
        Ok(()) | Err(_) => {}
    }
    let of = |fault: rusqlite::Error| OpenError::of(path, &fault);
    let mut connection = connect(path, OpenFlags::SQLITE_OPEN_READ_WRITE, busy_timeout).map_err(of)?;
    // A file that is refused keeps every byte: closing it must not move the WAL into it.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true).map_err(of)?;
    inspect(&connection, path, migrations)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, false).map_err(of)?;
    let mode: String =
        connection.pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get(0)).map_err(of)?;
    if mode != "wal" {
        return Err(OpenError::unreachable(path, "its file system cannot keep a write-ahead log"));
    }
    connection.pragma_update(None, "synchronous", "FULL").map_err(of)?;
    connection.pragma_update(None, "foreign_keys", true).map_err(of)?;
    migrate(&mut connection, path, migrations)?;
    Ok(connection)
}

/// Looks at a file without changing it: whether it is there to be written, whole, and of a schema that is known.
///
/// # Errors
/// - [`OpenError`] says what is wrong with it.
pub fn look(path: &Path, migrations: &[Migration]) -> Result<(), OpenError> {
    let of = |fault: rusqlite::Error| OpenError::of(path, &fault);
    let connection = connect(path, OpenFlags::SQLITE_OPEN_READ_WRITE, Duration::from_secs(1)).map_err(of)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true).map_err(of)?;
    inspect(&connection, path, migrations)
}

/// A connection that only reads, to a file that a writer has opened.
pub(crate) fn reader(path: &Path, busy_timeout: Duration) -> Result<Connection, OpenError> {
    let of = |fault: rusqlite::Error| OpenError::of(path, &fault);
    let connection = connect(path, OpenFlags::SQLITE_OPEN_READ_ONLY, busy_timeout).map_err(of)?;
    connection.pragma_update(None, "query_only", true).map_err(of)?;
    Ok(connection)
}

/// A connection with what every connection of ours has.
pub(crate) fn connect(
    path: &Path,
    access: OpenFlags,
    busy_timeout: Duration,
) -> rusqlite::Result<Connection> {
    let connection = Connection::open_with_flags(path, access | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    connection.busy_timeout(busy_timeout)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false)?;
    connection.set_prepared_statement_cache_capacity(64);
    Ok(connection)
}

/// Makes an empty file that only this user may read; SQLite gives its side files the same mode.
///
/// A file that is there is not even opened: closing it here would take away the locks that this process holds on it
/// through other connections (POSIX).
pub(crate) fn create_private(path: &Path) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path).map(drop)
}

fn inspect(connection: &Connection, path: &Path, migrations: &[Migration]) -> Result<(), OpenError> {
    let of = |fault: rusqlite::Error| OpenError::of(path, &fault);
    if connection.is_readonly("main").map_err(of)? {
        return Err(OpenError::unreachable(path, "it may only be read"));
    }
    let found = schema(connection).map_err(of)?;
    let known = migrations.last().map_or(0, |migration| migration.version);
    if found > known {
        return Err(OpenError::Newer { path: path.to_owned(), found, known });
    }
    let verdict: String = connection.query_row("PRAGMA quick_check(1)", (), |row| row.get(0)).map_err(of)?;
    if verdict == "ok" {
        Ok(())
    } else {
        Err(OpenError::Damaged { path: path.to_owned(), cause: verdict.replace('\n', " ") })
    }
}

fn migrate(connection: &mut Connection, path: &Path, migrations: &[Migration]) -> Result<(), OpenError> {
    for migration in migrations {
        let Migration { version, name, .. } = *migration;
        let applied = apply(connection, migration).map_err(|fault| match OpenError::of(path, &fault) {
            OpenError::Unreachable { path, cause } => OpenError::Migration { path, version, name, cause },
            other @ (OpenError::Locked { .. }
            | OpenError::Damaged { .. }
            | OpenError::Newer { .. }
            | OpenError::Migration { .. }) => other,
        })?;
        if applied {
            tracing::info!(path = %path.display(), version, name, "schema migrated");
        }
    }
    Ok(())
}

/// Takes one step, unless it was taken; says whether it did.
fn apply(connection: &mut Connection, migration: &Migration) -> rusqlite::Result<bool> {
    if schema(connection)? >= migration.version {
        return Ok(false);
    }
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    // Another process may have taken the step while this one waited for its turn.
    if schema(&transaction)? >= migration.version {
        return Ok(false);
    }
    transaction.execute_batch(migration.sql)?;
    transaction.pragma_update(None, "user_version", migration.version)?;
    transaction.commit()?;
    Ok(true)
}

fn schema(connection: &Connection) -> rusqlite::Result<u32> {
    connection.pragma_query_value(None, "user_version", |row| row.get(0))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use tempfile::TempDir;

    use super::*;
    use crate::{Database, Options};

    const ROOMS: Migration =
        Migration { version: 1, name: "rooms", sql: "CREATE TABLE rooms (name TEXT NOT NULL) STRICT;" };
    const BEDS: Migration = Migration {
        version: 2,
        name: "beds",
        sql: "ALTER TABLE rooms ADD COLUMN beds INTEGER NOT NULL DEFAULT 1;
              INSERT INTO rooms (name, beds) VALUES ('attic', 2);",
    };
    const WRONG: Migration = Migration {
        version: 3,
        name: "wrong",
        sql: "CREATE TABLE doors (id INTEGER); INSERT INTO nowhere VALUES (1);",
    };

    fn options() -> Options {
        Options { busy_timeout: Duration::from_millis(50), ..Options::default() }
    }

    fn open(path: &Path, migrations: &'static [Migration]) -> Result<Database, OpenError> {
        Database::open(path, migrations, options())
    }

    fn home() -> (TempDir, PathBuf) {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("test.db");
        (home, path)
    }

    #[tokio::test]
    async fn an_empty_file_takes_every_step_and_an_older_one_the_rest() {
        let (_home, path) = home();
        drop(open(&path, &[ROOMS]).unwrap());
        for _ in 0..2 {
            let database = open(&path, &[ROOMS, BEDS]).unwrap();
            let beds: u32 = database
                .read(|connection| {
                    connection
                        .query_row("SELECT SUM(beds) FROM rooms", (), |row| row.get(0))
                        .map_err(crate::internal)
                })
                .await
                .unwrap();
            assert_eq!(beds, 2, "a step is taken once");
        }
    }

    #[test]
    fn a_newer_schema_is_refused_and_the_file_keeps_every_byte() {
        let (_home, path) = home();
        drop(open(&path, &[ROOMS, BEDS]).unwrap());
        let before = fs::read(&path).unwrap();
        let fault = open(&path, &[ROOMS]).unwrap_err().to_string();
        let wanted =
            "test.db has schema 2, this kombify knows up to 1: run a newer kombify; nothing was changed";
        assert!(fault.ends_with(wanted), "{fault}");
        assert_eq!(fs::read(&path).unwrap(), before);
        assert!(open(&path, &[ROOMS, BEDS]).is_ok());
    }

    #[test]
    fn a_step_that_fails_is_undone() {
        let (_home, path) = home();
        let fault = open(&path, &[ROOMS, BEDS, WRONG]).unwrap_err().to_string();
        assert!(fault.contains("the migration to schema 3 (wrong) failed and was undone"), "{fault}");
        let connection = Connection::open(&path).unwrap();
        assert_eq!(schema(&connection).unwrap(), 2);
        let doors = "SELECT COUNT(*) FROM sqlite_schema WHERE name = 'doors'";
        assert_eq!(connection.query_row(doors, (), |row| row.get::<_, u32>(0)).unwrap(), 0);
    }

    #[test]
    fn a_damaged_file_is_refused_with_the_way_out() {
        let (_home, path) = home();
        drop(open(&path, &[ROOMS, BEDS]).unwrap());
        let mut torn = fs::read(&path).unwrap();
        torn[4096..4096 + 512].fill(0xff);
        for wrong in [torn, b"This is a letter, and no database, however long it gets. ".repeat(100)] {
            fs::write(&path, &wrong).unwrap();
            let fault = open(&path, &[ROOMS, BEDS]).unwrap_err();
            assert!(matches!(fault, OpenError::Damaged { .. }), "{fault:?}");
            assert!(fault.to_string().contains("test.db is damaged ("), "{fault}");
            assert!(fault.to_string().contains("restore a backup"), "{fault}");
            assert_eq!(fs::read(&path).unwrap(), wrong);
        }
    }

    #[test]
    fn what_cannot_be_opened_is_named_with_the_reason() {
        let (home, path) = home();
        for wrong in [home.path().join("nowhere/test.db"), home.path().to_owned(), path.join("x.db")] {
            fs::write(&path, "").unwrap();
            let fault = open(&wrong, &[ROOMS]).unwrap_err();
            assert!(matches!(fault, OpenError::Unreachable { .. }), "{fault:?}");
            assert!(fault.to_string().starts_with(&format!("cannot open {}: ", wrong.display())), "{fault}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn a_directory_that_cannot_be_written_to_is_named() {
        use std::os::unix::fs::PermissionsExt;

        let (home, path) = home();
        fs::set_permissions(home.path(), fs::Permissions::from_mode(0o500)).unwrap();
        // The superuser writes everywhere; there the system's own read-only corner stands for the directory.
        let root = fs::write(home.path().join("probe"), "").is_ok();
        let path = if root { PathBuf::from("/proc/test.db") } else { path };
        let fault = open(&path, &[ROOMS]).unwrap_err().to_string();
        assert!(fault.starts_with(&format!("cannot open {}: ", path.display())), "{fault}");
        assert!(fault.contains("this user must be able to write"), "{fault}");
    }

    #[cfg(unix)]
    #[test]
    fn only_its_own_user_reads_the_file() {
        use std::os::unix::fs::PermissionsExt;

        let (home, path) = home();
        let _database = open(&path, &[ROOMS]).unwrap();
        for file in fs::read_dir(home.path()).unwrap() {
            let file = file.unwrap();
            let mode = file.metadata().unwrap().permissions().mode() & 0o777;
            assert_eq!(mode, 0o600, "{}", file.path().display());
        }
    }

    #[test]
    fn a_file_that_another_process_holds_is_named() {
        let (_home, path) = home();
        let other = Connection::open(&path).unwrap();
        other.execute_batch("CREATE TABLE held (id INTEGER); BEGIN EXCLUSIVE").unwrap();
        let fault = open(&path, &[ROOMS]).unwrap_err();
        assert!(matches!(fault, OpenError::Locked { .. }), "{fault:?}");
        assert!(
            fault
                .to_string()
                .ends_with("test.db is locked by another process: stop that one, or use another file")
        );
    }
}
