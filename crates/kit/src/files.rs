//! The files of one kit, in memory and within bounds.
//!
//! What comes from outside (an archive, a directory, a Git repository) becomes [`Files`] file by file, and the first
//! file that does not fit ends it. What is in here can be written below a folder of any system without leaving it, and
//! packed by any `tar`.

use std::collections::BTreeMap;
use std::{fmt, io};

use bytes::Bytes;

/// How many files a kit may have: six of its own, and many tests.
pub const FILES_MAX: usize = 200;

/// How long a file may be, in bytes: people write and read it, and it is checked as a whole.
pub const FILE_BYTES_MAX: usize = 256 * 1024;

/// How long all files may be together, in bytes. Packed, and even if nothing can be compressed, they stay below the 4
/// MiB of a download. Source: contract C7.
pub const BYTES_MAX: usize = 2 * 1024 * 1024;

/// How long a path may be, in characters: what the name of a ustar header holds, so that no archive of ours needs an
/// extension of the format.
pub const PATH_CHARS_MAX: usize = 100;

/// How many segments a path may have: a file, and three folders around it.
pub const DEPTH_MAX: usize = 4;

/// How much of a path is shown where it is wrong, in characters.
const SHOWN_CHARS_MAX: usize = 100;

/// The files of one kit: path -> bytes, in the order of the paths' bytes.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Files {
    files: BTreeMap<String, Bytes>,
    bytes: usize,
}

impl Files {
    /// Adds a file.
    ///
    /// # Errors
    /// - [`Hostile`] if it does not fit. Nothing is added then.
    pub fn insert(&mut self, path: &str, bytes: impl Into<Bytes>) -> Result<(), Hostile> {
        let bytes = bytes.into();
        self.check(path, bytes.len())?;
        self.bytes += bytes.len();
        self.files.insert(path.to_owned(), bytes);
        Ok(())
    }

    /// Whether a file of that many bytes would fit, for whoever has not read it yet.
    ///
    /// # Errors
    /// - [`Hostile`] if it would not.
    pub fn check(&self, path: &str, bytes: usize) -> Result<(), Hostile> {
        self.find_wrong(path, bytes).map_or(Ok(()), |wrong| Err(Hostile::new(path, wrong)))
    }

    /// The bytes of the file of that path.
    pub fn find(&self, path: &str) -> Option<&Bytes> {
        self.files.get(path)
    }

    /// Each path and its bytes, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Bytes)> {
        self.files.iter().map(|(path, bytes)| (path.as_str(), bytes))
    }

    /// How many files there are.
    pub fn len(&self) -> usize {
        self.files.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    /// How many bytes all files have together.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    fn find_wrong(&self, path: &str, bytes: usize) -> Option<Wrong> {
        if let Err(wrong) = check_path(path) {
            return Some(wrong);
        }
        if bytes > FILE_BYTES_MAX {
            return Some(Wrong::FileBytes);
        }
        if let Some(clash) = self.files.keys().find_map(|there| find_clash(path, there)) {
            return Some(clash);
        }
        if self.files.len() >= FILES_MAX {
            return Some(Wrong::Files);
        }
        (self.bytes + bytes > BYTES_MAX).then_some(Wrong::Bytes)
    }
}

/// Paths and lengths: what is in a file belongs into no log.
impl fmt::Debug for Files {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter().map(|(path, bytes)| (path, bytes.len()))).finish()
    }
}

/// A file that does not fit, and why.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("'{path}' {wrong}")]
pub struct Hostile {
    path: String,
    wrong: Wrong,
}

impl Hostile {
    /// The file of that path is wrong. The path may be anything: it is kept as ASCII, and no more of it than can be
    /// shown.
    pub fn new(path: &str, wrong: Wrong) -> Self {
        let path = path.chars().flat_map(char::escape_default).take(SHOWN_CHARS_MAX).collect();
        Self { path, wrong }
    }

    /// The path, fit to be shown.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// What is wrong with the file.
    pub const fn wrong(&self) -> &Wrong {
        &self.wrong
    }
}

/// What can be wrong with a file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Wrong {
    /// The path is absolute, leads out, is hidden, or has other characters than those that every system takes.
    #[error("is no path of a kit: it must be segments of [A-Za-z0-9][A-Za-z0-9._-]* with / between them")]
    Path,
    /// The path is too long.
    #[error("is a path of more than {PATH_CHARS_MAX} characters")]
    Length,
    /// The path has too many segments.
    #[error("is a path of more than {DEPTH_MAX} segments")]
    Depth,
    /// The file is too long.
    #[error("has more than {FILE_BYTES_MAX} bytes")]
    FileBytes,
    /// There are too many files.
    #[error("is one file more than the {FILES_MAX} that a kit may have")]
    Files,
    /// The files are too long together.
    #[error("makes the kit larger than {BYTES_MAX} bytes")]
    Bytes,
    /// There is such a file already.
    #[error("is there twice")]
    Twice,
    /// On many systems, both would be the same file or lie in the same folder.
    #[error("differs from '{other}' by case only")]
    Case {
        /// The file that was there before.
        other: String,
    },
    /// What is a file in one path is a folder in the other.
    #[error("cannot lie beside '{other}': one of them is a folder of the other")]
    Folder {
        /// The file that was there before.
        other: String,
    },
    /// It is neither a file nor a folder: a link, a device, a submodule.
    #[error("is {0}: a kit has nothing but files and folders")]
    Kind(&'static str),
    /// A directory has more in it than anybody looks through.
    #[error("is one entry more than the {limit} of a directory that are looked at, hidden ones included")]
    Entries {
        /// How many are looked at.
        limit: usize,
    },
}

/// Why the files of a kit cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// A file does not fit.
    #[error(transparent)]
    Hostile(#[from] Hostile),
    /// It is no archive, one of another format, or a damaged one.
    #[error("the archive cannot be read: {0}")]
    Archive(&'static str),
    /// The archive is too long, compressed or not.
    #[error("the archive has more than {limit_bytes} bytes")]
    Length {
        /// How long it may be, in bytes.
        limit_bytes: u64,
    },
    /// The system fails.
    #[error("reading fails: {0}")]
    Io(#[from] io::Error),
}

/// Checks a path by itself, whatever is at it.
pub(crate) fn check_path(path: &str) -> Result<(), Wrong> {
    if !path.split('/').all(is_segment) {
        Err(Wrong::Path)
    } else if path.len() > PATH_CHARS_MAX {
        Err(Wrong::Length)
    } else if path.split('/').count() > DEPTH_MAX {
        Err(Wrong::Depth)
    } else {
        Ok(())
    }
}

/// Neither nothing nor hidden nor `..`, and never an option of a program.
fn is_segment(segment: &str) -> bool {
    segment.starts_with(|first: char| first.is_ascii_alphanumeric())
        && segment.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
}

/// Why a path cannot lie beside one that is there.
fn find_clash(path: &str, there: &str) -> Option<Wrong> {
    let other = || there.to_owned();
    let (mut segments, mut beside) = (path.split('/'), there.split('/'));
    loop {
        match (segments.next(), beside.next()) {
            (None, None) => return Some(Wrong::Twice),
            (None, Some(_)) | (Some(_), None) => return Some(Wrong::Folder { other: other() }),
            (Some(one), Some(another)) if one == another => {}
            (Some(one), Some(another)) if one.eq_ignore_ascii_case(another) => {
                return Some(Wrong::Case { other: other() });
            }
            (Some(_), Some(_)) => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(paths: &[&str]) -> Files {
        let mut files = Files::default();
        for path in paths {
            files.insert(path, "x").unwrap();
        }
        files
    }

    fn wrong(files: &Files, path: &str) -> Option<Wrong> {
        files.check(path, 1).err().map(|hostile| hostile.wrong)
    }

    #[test]
    fn files_are_kept_in_the_order_of_their_paths() {
        let mut files = files(&["tests/a.yaml", "kit.yaml", "README.md", "tests-2.yaml"]);
        files.insert("compose.yaml", vec![b'y'; 3]).unwrap();
        let paths: Vec<_> = files.iter().map(|(path, _)| path).collect();
        assert_eq!(paths, ["README.md", "compose.yaml", "kit.yaml", "tests-2.yaml", "tests/a.yaml"]);
        assert_eq!(files.find("compose.yaml").unwrap(), "yyy");
        assert_eq!(files.find("schema.cue"), None);
        assert_eq!((files.len(), files.bytes()), (5, 7));
        assert!(!files.is_empty());
        assert!(format!("{files:?}").contains("\"compose.yaml\": 3"));
    }

    #[test]
    fn a_path_stays_below_the_folder_of_the_kit_on_every_system() {
        let long = "a".repeat(PATH_CHARS_MAX);
        for right in ["a", "a.b", "A-0_z..", "a/b/c/d", &long] {
            assert_eq!(wrong(&Files::default(), right), None, "{right}");
        }
        for path in [
            "",
            "/",
            "/a",
            "a/",
            "a//b",
            ".",
            "..",
            "../a",
            "a/../b",
            "a/..",
            "./a",
            ".git/config",
            "a/.hidden",
            "-a",
            "a/--option",
            "_a",
            "a b",
            "a\\b",
            "C:a",
            "a\0",
            "a\n",
            "a\u{202e}",
            "\u{e9}",
            "\u{ff0e}\u{ff0e}/a",
            "~",
            "*",
        ] {
            assert_eq!(wrong(&Files::default(), path), Some(Wrong::Path), "{path:?}");
        }
        assert_eq!(wrong(&Files::default(), &format!("{long}a")), Some(Wrong::Length));
        assert_eq!(wrong(&Files::default(), "a/b/c/d/e"), Some(Wrong::Depth));
    }

    #[test]
    fn paths_that_are_one_somewhere_do_not_lie_beside_each_other() {
        let files = files(&["kit.yaml", "tests/a.yaml"]);
        let case = |other: &str| Some(Wrong::Case { other: other.into() });
        let folder = |other: &str| Some(Wrong::Folder { other: other.into() });
        for (path, expected) in [
            ("kit.yaml", Some(Wrong::Twice)),
            ("tests/a.yaml", Some(Wrong::Twice)),
            ("Kit.yaml", case("kit.yaml")),
            ("tests/A.yaml", case("tests/a.yaml")),
            ("Tests/b.yaml", case("tests/a.yaml")),
            ("TESTS", case("tests/a.yaml")),
            ("tests", folder("tests/a.yaml")),
            ("kit.yaml/a", folder("kit.yaml")),
            ("tests/a.yaml/b", folder("tests/a.yaml")),
            ("kit.yaml2", None),
            ("tests/b.yaml", None),
            ("tests2/a.yaml", None),
            ("test", None),
        ] {
            assert_eq!(wrong(&files, path), expected, "{path}");
        }
    }

    #[test]
    fn a_kit_has_its_bounds() {
        let mut many = Files::default();
        for number in 0..FILES_MAX {
            many.insert(&format!("f{number}"), "").unwrap();
        }
        assert_eq!(wrong(&many, "one-more"), Some(Wrong::Files));

        let mut large = Files::default();
        assert_eq!(large.check("a", FILE_BYTES_MAX + 1).unwrap_err().wrong, Wrong::FileBytes);
        for number in 0..BYTES_MAX / FILE_BYTES_MAX {
            large.insert(&format!("f{number}"), vec![0; FILE_BYTES_MAX]).unwrap();
        }
        assert_eq!(wrong(&large, "one-more"), Some(Wrong::Bytes));
        large.insert("empty", "").unwrap();
        assert_eq!(large.bytes(), BYTES_MAX);
    }

    #[test]
    fn what_does_not_fit_is_not_added() {
        let mut files = files(&["kit.yaml"]);
        let before = files.clone();
        for path in ["kit.yaml", "../a", "KIT.yaml"] {
            files.insert(path, "other").unwrap_err();
            assert_eq!(files, before, "{path}");
        }
    }

    #[test]
    fn a_path_is_shown_so_that_it_harms_no_terminal() {
        let hostile = Hostile::new("a\u{1b}[2J\n\u{202e}\u{e9}", Wrong::Path);
        assert_eq!(hostile.path(), r"a\u{1b}[2J\n\u{202e}\u{e9}");
        assert!(hostile.to_string().starts_with(r"'a\u{1b}[2J\n\u{202e}\u{e9}' is no path of a kit"));
        let long = Hostile::new(&"\n".repeat(100_000), Wrong::Kind("a fifo"));
        assert_eq!(long.path().len(), SHOWN_CHARS_MAX);
        assert!(long.to_string().ends_with("' is a fifo: a kit has nothing but files and folders"));
        let bytes = Hostile::new("a", Wrong::FileBytes);
        assert_eq!(bytes.to_string(), "'a' has more than 262144 bytes");
    }
}
