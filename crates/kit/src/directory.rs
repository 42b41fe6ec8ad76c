//! The files of a kit as a directory.
//!
//! Every folder is opened in the one above it, and every file in its folder, never by a path that somebody could bend
//! meanwhile; a link is not followed, wherever it leads. Nothing is opened before it is seen to be a file or a folder,
//! and nothing is read before that is seen again of what was opened: a fifo does not block, a device is not woken.
//!
//! What begins with a dot (`.git`, `.DS_Store`, an editor's file) is left out, so that a checkout is the same kit as
//! its commit. Everything else is a file of the kit, or a fault that names it.

use std::ffi::CString;
use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, fstat, openat, statat};

use crate::files::{FILE_BYTES_MAX, Files, Hostile, ReadError, Wrong, check_path};

/// How many entries of a directory and its folders are looked at, hidden ones included: no kit has as many, and whoever
/// names `/usr` by mistake hears of it at once.
const ENTRIES_MAX: usize = 1000;

impl Files {
    /// Reads the kit in `directory`, which is no link itself. It blocks, for as long as the disk does.
    ///
    /// # Errors
    /// - [`ReadError::Hostile`] if there is a file that does not fit, or something else than files and folders.
    /// - [`ReadError::Io`] if something cannot be read, or changes meanwhile.
    pub fn from_directory(directory: &Path) -> Result<Self, ReadError> {
        let root = open(CWD, directory, OFlags::DIRECTORY)
            .map_err(|cause| about(&directory.to_string_lossy(), &cause))?;
        let mut reading = Reading { files: Self::default(), entries_left: ENTRIES_MAX };
        reading.read_folder(&root, None)?;
        Ok(reading.files)
    }
}

struct Reading {
    files: Files,
    entries_left: usize,
}

impl Reading {
    /// Reads what is in a folder. `above` is its path; none for the directory itself. It goes no deeper than a path
    /// may.
    fn read_folder(&mut self, folder: &OwnedFd, above: Option<&str>) -> Result<(), ReadError> {
        for name in self.list(folder, above)? {
            let path = join(above, &name.to_string_lossy());
            let refused = |wrong| Hostile::new(&path, wrong);
            let failed = |cause: io::Error| about(&path, &cause);

            check_path(&path).map_err(refused)?;
            let stat =
                statat(folder, &name, AtFlags::SYMLINK_NOFOLLOW).map_err(|cause| failed(cause.into()))?;
            let kind = FileType::from_raw_mode(stat.st_mode);
            if kind.is_dir() {
                let inner = open(folder, &name, OFlags::DIRECTORY).map_err(failed)?;
                self.read_folder(&inner, Some(&path))?;
            } else if kind.is_file() {
                self.files.check(&path, 0)?;
                let file = File::from(open(folder, &name, OFlags::empty()).map_err(failed)?);
                let stat = fstat(&file).map_err(|cause| failed(cause.into()))?;
                let kind = FileType::from_raw_mode(stat.st_mode);
                if !kind.is_file() {
                    return Err(refused(Wrong::Kind(name_of(kind))).into());
                }
                self.files.check(&path, usize::try_from(stat.st_size).unwrap_or(usize::MAX))?;
                self.files.insert(&path, read_bounded(&file).map_err(failed)?)?;
            } else {
                return Err(refused(Wrong::Kind(name_of(kind))).into());
            }
        }
        Ok(())
    }

    /// The names in a folder that are not hidden, in order, so that the same directory always has the same first fault.
    fn list(&mut self, folder: &OwnedFd, above: Option<&str>) -> Result<Vec<CString>, ReadError> {
        let failed = |cause: io::Error| about(above.unwrap_or("."), &cause);
        let mut names = Vec::new();
        for entry in Dir::read_from(folder).map_err(|cause| failed(cause.into()))? {
            let entry = entry.map_err(|cause| failed(cause.into()))?;
            let name = entry.file_name();
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            self.entries_left = self.entries_left.checked_sub(1).ok_or_else(|| {
                let path = join(above, &name.to_string_lossy());
                Hostile::new(&path, Wrong::Entries { limit: ENTRIES_MAX })
            })?;
            if !name.to_bytes().starts_with(b".") {
                names.push(name.to_owned());
            }
        }
        names.sort();
        Ok(names)
    }
}

fn join(above: Option<&str>, name: &str) -> String {
    above.map_or_else(|| name.to_owned(), |above| format!("{above}/{name}"))
}

/// Opens for reading what lies right there: not behind a link, without waiting, and for no program that is started.
fn open(at: impl AsFd, path: impl rustix::path::Arg, flags: OFlags) -> io::Result<OwnedFd> {
    let always = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    Ok(openat(at, path, flags | always, Mode::empty())?)
}

/// The bytes of a file, and one more than a file may have at most: it may have grown since somebody asked how long it
/// is.
fn read_bounded(file: &File) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let limit = u64::try_from(FILE_BYTES_MAX).unwrap_or(u64::MAX);
    file.take(limit.saturating_add(1)).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The system's fault, and where it was.
fn about(path: &str, cause: &io::Error) -> ReadError {
    ReadError::Io(io::Error::new(cause.kind(), format!("'{}': {cause}", path.escape_default())))
}

/// What something is called that is neither a file nor a folder.
fn name_of(kind: FileType) -> &'static str {
    if kind.is_symlink() {
        "a symbolic link"
    } else if kind.is_fifo() {
        "a fifo"
    } else if kind.is_socket() {
        "a socket"
    } else if kind.is_char_device() || kind.is_block_device() {
        "a device"
    } else {
        "of a kind that is not known"
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;
    use std::fs;
    use std::os::unix::ffi::OsStrExt as _;
    use std::os::unix::fs::symlink;
    use std::os::unix::net::UnixListener;

    use tempfile::TempDir;

    use super::*;

    fn directory(files: &[(&str, &[u8])]) -> TempDir {
        let directory = tempfile::tempdir().unwrap();
        for (path, content) in files {
            let path = directory.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
        directory
    }

    fn fault(directory: &TempDir) -> String {
        Files::from_directory(directory.path()).unwrap_err().to_string()
    }

    #[test]
    fn a_directory_is_the_same_kit_as_its_archive() {
        let directory = directory(&[
            ("kit.yaml", b"name: x\n"),
            ("tests/a.yaml", b"hi"),
            ("README.md", b"#\n"),
            (".git/config", b"[core]"),
            (".DS_Store", b"\0"),
            ("tests/.a.yaml.swp", b"\0"),
        ]);
        fs::create_dir(directory.path().join("empty")).unwrap();
        symlink("/etc/passwd", directory.path().join(".link")).unwrap();
        let files = Files::from_directory(directory.path()).unwrap();
        let paths: Vec<_> = files.iter().map(|(path, _)| path).collect();
        assert_eq!(paths, ["README.md", "kit.yaml", "tests/a.yaml"]);
        assert_eq!(files.find("tests/a.yaml").unwrap(), "hi");
        assert_eq!(Files::from_tar(&files.to_tar()[..]).unwrap(), files);
    }

    #[test]
    fn no_link_is_followed() {
        let elsewhere = directory(&[("secret", b"s"), ("folder/secret", b"s")]);
        for (target, name) in [
            (elsewhere.path().join("secret"), "a-file"),
            (elsewhere.path().join("folder"), "a-folder"),
            ("kit.yaml".into(), "a-neighbour"),
            (".".into(), "a-circle"),
            ("nowhere".into(), "a-dead-end"),
        ] {
            let directory = directory(&[("kit.yaml", b"")]);
            symlink(target, directory.path().join(name)).unwrap();
            let says = format!("'{name}' is a symbolic link: a kit has nothing but files and folders");
            assert_eq!(fault(&directory), says);
        }
        let link = elsewhere.path().join("link");
        symlink("folder", &link).unwrap();
        let fault = Files::from_directory(&link).unwrap_err();
        assert!(matches!(fault, ReadError::Io(_)), "{fault}");
    }

    #[test]
    fn what_would_block_is_not_opened() {
        let with_fifo = directory(&[("kit.yaml", b"")]);
        rustix::fs::mkfifoat(CWD, with_fifo.path().join("a-fifo"), Mode::from_raw_mode(0o600)).unwrap();
        assert!(fault(&with_fifo).starts_with("'a-fifo' is a fifo"));

        let with_socket = directory(&[("kit.yaml", b"")]);
        let _listener = UnixListener::bind(with_socket.path().join("a-socket")).unwrap();
        assert!(fault(&with_socket).starts_with("'a-socket' is a socket"));
    }

    #[test]
    fn a_name_that_does_not_fit_is_a_fault_that_names_it() {
        let no_path = "is no path of a kit";
        for (path, says) in [
            ("a b", no_path),
            ("_a", no_path),
            ("tests/a~", no_path),
            ("caf\u{e9}", no_path),
            ("a\nb", no_path),
            ("a/b/c/d/e", "'a/b/c/d/e' is a path of more than 4 segments"),
            ("Kit.yaml", "by case only"),
            ("Tests/b.yaml", "by case only"),
        ] {
            let directory = directory(&[("kit.yaml", b""), ("tests/a.yaml", b""), (path, b"")]);
            assert!(fault(&directory).contains(says), "{path}");
        }
        let directory = directory(&[]);
        fs::write(directory.path().join(OsStr::from_bytes(b"a\xff")), "").unwrap();
        assert!(fault(&directory).starts_with(r"'a\u{fffd}' is no path of a kit"));
    }

    #[test]
    fn a_directory_is_left_at_the_first_bound() {
        let large = directory(&[("kit.yaml", b"")]);
        let file = File::create(large.path().join("large")).unwrap();
        file.set_len(1 << 33).unwrap();
        assert_eq!(fault(&large), "'large' has more than 262144 bytes");

        let many = directory(&[]);
        for number in 0..=200 {
            fs::write(many.path().join(format!("f{number:03}")), "").unwrap();
        }
        assert_eq!(fault(&many), "'f200' is one file more than the 200 that a kit may have");

        let hidden = directory(&[("kit.yaml", b""), ("tests/a.yaml", b"")]);
        for number in 0..ENTRIES_MAX {
            fs::write(hidden.path().join(format!("tests/.{number}")), "").unwrap();
        }
        assert!(fault(&hidden).contains("is one entry more than the 1000 of a directory"));
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        let directory = directory(&[("kit.yaml", b"")]);
        for path in ["none", "kit.yaml"] {
            let fault = Files::from_directory(&directory.path().join(path)).unwrap_err();
            assert!(matches!(fault, ReadError::Io(_)), "{fault}");
            assert!(fault.to_string().contains(path), "{fault}");
        }
    }
}
