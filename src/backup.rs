//! `kombify backup`: copies the data while whoever uses it goes on. The copy is data itself: `KOMBIFY__DATA` names it, and
//! `up` or `run` starts on it.

use std::ffi::OsStr;
use std::fs::{self, DirBuilder, File};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use kombify_stack_sqlite::StackSqlite;

use crate::Fault;

/// The database of a Stack's instance, which knows of its tenants' members; they may change while the files are copied one
/// after the other.
const INSTANCE: &str = "instance.db";

/// Admin's database. It comes last: what a Stack holds, Admin knows then, and hands over whatever came since.
const PLATFORM: &str = "platform.db";

/// The directory with the tenants' files.
const TENANTS: &str = "tenants";

/// How deep directories are nested at most.
const DEPTH_MAX: usize = 8;

/// What was copied.
#[derive(Debug, Default)]
pub struct Copied {
    /// Databases: each as it was at one moment of its own.
    pub databases: usize,
    /// Other files: keys and secrets.
    pub files: usize,
    /// The files of tenants that could not be copied, and why: they are not in the copy.
    pub unreadable: Vec<String>,
}

/// Copies the data in `data` to `to`, which appears when it is whole, for this user alone. A database is copied as it is
/// at one moment and looked through; the instance before its tenants, the platform behind everything. What is erased
/// meanwhile is not in the copy, nor is the file of a tenant that cannot be read.
///
/// # Errors
/// - if there is no data, if there is something at `to`, or if anything else cannot be read or written: nothing is left.
pub fn backup(data: &Path, to: &Path) -> Result<Copied, Fault> {
    if !data.join("locks").is_dir() {
        return Err(format!(
            "{} is no data of kombify: name the directory with --config or KOMBIFY__DATA",
            data.display()
        )
        .into());
    }
    if to.try_exists()? {
        return Err(format!("{} is there already: give the backup a name of its own", to.display()).into());
    }
    let place = std::path::absolute(to)?;
    let parent = place.parent().unwrap_or(&place).canonicalize().map_err(|cause| failed(to, &cause))?;
    if parent.starts_with(data.canonicalize()?) {
        return Err(format!("{} is within the data: put the backup beside it", to.display()).into());
    }
    let mut partial = to.as_os_str().to_owned();
    // A name of its own: what others write beside it is theirs.
    partial.push(format!(".partial-{}", std::process::id()));
    let partial = PathBuf::from(partial);
    let mut copied = Copied::default();
    let done = copy_directory((data, &partial), 0, &mut copied).and_then(|()| {
        let published = fs::rename(&partial, to).and_then(|()| keep_names(&parent));
        published.map_err(|cause| failed(to, &cause))
    });
    if let Err(fault) = done {
        let _ = fs::remove_dir_all(&partial);
        return Err(fault);
    }
    Ok(copied)
}

fn copy_directory((from, to): (&Path, &Path), depth: usize, copied: &mut Copied) -> Result<(), Fault> {
    if depth > DEPTH_MAX {
        return Err(format!("{}: a link leads back into the data", from.display()).into());
    }
    DirBuilder::new().mode(0o700).create(to).map_err(|cause| failed(to, &cause))?;
    let entries = fs::read_dir(from).and_then(Iterator::collect::<io::Result<Vec<_>>>);
    let mut entries = entries.map_err(|cause| failed(from, &cause))?;
    entries.sort_by_key(|entry| (entry.file_name() == OsStr::new(PLATFORM), entry.file_name()));
    for entry in entries {
        let (path, copy) = (entry.path(), to.join(entry.file_name()));
        // Through links: the tenants may be on another volume.
        let kind = match path.metadata() {
            Ok(there) => there.file_type(),
            Err(cause) if cause.kind() == ErrorKind::NotFound => continue,
            Err(cause) => return Err(failed(&path, &cause)),
        };
        if kind.is_dir() {
            copy_directory((&path, &copy), depth + 1, copied)?;
        } else if path.extension() == Some(OsStr::new("db")) {
            match kombify_sqlite::backup(&path, &copy) {
                Ok(()) => {
                    if entry.file_name() == OsStr::new(INSTANCE) {
                        StackSqlite::distrust(&copy)?;
                    }
                    copied.databases += 1;
                }
                // Erased since the directory was read.
                Err(_) if !path.exists() => {}
                // The file of one tenant harms no other.
                Err(cause) if from.ends_with(TENANTS) => copied.unreadable.push(said(&path, &cause)),
                Err(cause) => return Err(failed(&path, &cause)),
            }
        } else if kind.is_file() && !is_passing(&path) {
            match copy_file(&path, &copy) {
                Ok(()) => copied.files += 1,
                Err(cause) if cause.kind() == ErrorKind::NotFound => {}
                Err(cause) => return Err(failed(&path, &cause)),
            }
        }
    }
    keep_names(to).map_err(|cause| failed(to, &cause))
}

/// Lets the names in a directory outlast a power cut.
fn keep_names(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

/// Whether the file belongs to a process and not to the data: a database's side files, and what is being written.
fn is_passing(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    name.ends_with("-wal") || name.ends_with("-shm") || name.ends_with("-journal") || name.contains(".new-")
}

fn copy_file(from: &Path, to: &Path) -> io::Result<()> {
    let mut copy = File::options().write(true).create_new(true).mode(0o600).open(to)?;
    io::copy(&mut File::open(from)?, &mut copy)?;
    copy.sync_all()
}

fn failed(path: &Path, cause: &dyn std::error::Error) -> Fault {
    said(path, cause).into()
}

fn said(path: &Path, cause: &dyn std::error::Error) -> String {
    let mut said = format!("{}: {cause}", path.display());
    let mut source = cause.source();
    while let Some(cause) = source {
        said = format!("{said}: {cause}");
        source = cause.source();
    }
    said
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn sample() -> tempfile::TempDir {
        let home = tempfile::tempdir().unwrap();
        let data = home.path().join("data");
        for directory in ["locks", "keys", "stack/tenants"] {
            fs::create_dir_all(data.join(directory)).unwrap();
        }
        fs::write(data.join("keys/stack.pkcs8"), "key").unwrap();
        fs::write(data.join("stack/instance.db-wal"), "of a process").unwrap();
        home
    }

    #[test]
    fn the_copy_holds_what_is_data_and_is_its_owners_alone() {
        let home = sample();
        let (data, to) = (home.path().join("data"), home.path().join("copy"));
        let copied = backup(&data, &to).unwrap();
        assert_eq!((copied.databases, copied.files), (0, 1));
        assert_eq!(fs::read_to_string(to.join("keys/stack.pkcs8")).unwrap(), "key");
        assert!(!to.join("stack/instance.db-wal").exists());
        for (name, mode) in [("", 0o700), ("keys", 0o700), ("keys/stack.pkcs8", 0o600)] {
            assert_eq!(fs::metadata(to.join(name)).unwrap().permissions().mode() & 0o777, mode, "{name}");
        }
    }

    #[test]
    fn nothing_is_written_over_and_nothing_half_done_is_left() {
        let home = sample();
        let (data, to) = (home.path().join("data"), home.path().join("copy"));
        fs::create_dir(&to).unwrap();
        assert!(backup(&data, &to).unwrap_err().to_string().contains("is there already"));
        fs::remove_dir(&to).unwrap();
        fs::write(data.join("platform.db"), "no database").unwrap();
        let fault = backup(&data, &to).unwrap_err().to_string();
        assert!(fault.contains("platform.db"), "{fault}");
        let left: Vec<_> =
            fs::read_dir(home.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left, ["data"]);
        let fault = backup(home.path(), &to).unwrap_err().to_string();
        assert!(fault.contains("is no data of kombify"), "{fault}");
        let fault = backup(&data, &data.join("keys/copy")).unwrap_err().to_string();
        assert!(fault.contains("is within the data"), "{fault}");
    }

    #[test]
    fn links_are_followed_and_one_tenants_file_harms_no_other() {
        let home = sample();
        let (data, to) = (home.path().join("data"), home.path().join("copy"));
        let (elsewhere, tenants) = (home.path().join("volume"), data.join("stack/tenants"));
        fs::rename(&tenants, &elsewhere).unwrap();
        std::os::unix::fs::symlink(&elsewhere, &tenants).unwrap();
        rusqlite::Connection::open(elsewhere.join("good.db"))
            .unwrap()
            .execute_batch("CREATE TABLE a (b)")
            .unwrap();
        fs::write(elsewhere.join("bad.db"), "no database").unwrap();
        let copied = backup(&data, &to).unwrap();
        assert_eq!(copied.databases, 1);
        assert!(copied.unreadable.len() == 1 && copied.unreadable[0].contains("bad.db"), "{copied:?}");
        assert!(to.join("stack/tenants/good.db").exists());
        std::os::unix::fs::symlink(&data, data.join("keys/round")).unwrap();
        let fault = backup(&data, &home.path().join("other")).unwrap_err().to_string();
        assert!(fault.contains("leads back into the data"), "{fault}");
    }
}
