//! A copy of a database that is in use.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use kombify_core::{Error, Result};
use rusqlite::OpenFlags;

use crate::Options;
use crate::fault::internal;
use crate::open::{connect, create_private};

/// Copies the database in `from` as it is now to `to`: one file for this user alone, which appears when it is whole.
/// Whoever uses the database goes on meanwhile, in this process or another. Blocks.
///
/// # Errors
/// - [`Error::Conflict`] if there is something at `to`.
/// - [`Error::Unavailable`] if storage is full.
/// - [`Error::Internal`] if `from` is no whole database, or if the copy cannot be made.
pub fn backup(from: &Path, to: &Path) -> Result<()> {
    let busy_timeout = Options::default().busy_timeout;
    if to.try_exists().map_err(Error::internal)? {
        return Err(Error::Conflict(format!(
            "{} is there already: give the backup a name of its own",
            to.display()
        )));
    }
    let partial = partial(to);
    // What a backup left behind that was cut short.
    match fs::remove_file(&partial) {
        Err(cause) if cause.kind() != io::ErrorKind::NotFound => return Err(Error::internal(cause)),
        Ok(()) | Err(_) => {}
    }
    let taken =
        copy(from, &partial, busy_timeout).and_then(|()| publish(&partial, to).map_err(Error::internal));
    if taken.is_err() {
        let _ = fs::remove_file(&partial);
    }
    taken
}

fn partial(to: &Path) -> PathBuf {
    let mut name = to.file_name().map(OsString::from).unwrap_or_default();
    name.push(".partial");
    to.with_file_name(name)
}

fn copy(from: &Path, to: &Path, busy_timeout: Duration) -> Result<()> {
    create_private(to).map_err(Error::internal)?;
    let name = to.to_str().ok_or_else(|| Error::internal(format!("{} is not UTF-8", to.display())))?;
    // One read transaction: the copy is the database of one moment, and writers go on meanwhile.
    let source = connect(from, OpenFlags::SQLITE_OPEN_READ_ONLY, busy_timeout).map_err(internal)?;
    source.execute("VACUUM INTO ?1", [name]).map_err(internal)?;
    let copy = connect(to, OpenFlags::SQLITE_OPEN_READ_ONLY, busy_timeout).map_err(internal)?;
    let verdict: String =
        copy.query_row("PRAGMA integrity_check(1)", (), |row| row.get(0)).map_err(internal)?;
    if verdict == "ok" { Ok(()) } else { Err(Error::internal(format!("the copy is damaged: {verdict}"))) }
}

fn publish(partial: &Path, to: &Path) -> io::Result<()> {
    File::open(partial)?.sync_all()?;
    fs::rename(partial, to)?;
    // The new name must outlast a power cut, too.
    match to.parent() {
        Some(directory) if cfg!(unix) => File::open(directory)?.sync_all(),
        Some(_) | None => Ok(()),
    }
}
