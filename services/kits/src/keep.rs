//! What was seen of each source, for ever: `<keep>/<source>/<kit>/<version>.tar.gz`. A version that is there never changes.

use std::fs::{self, File};
use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};

use kombify_kit::{Digest, Files, ReadError, Version};

/// How many versions of a kit there may be.
pub(crate) const VERSIONS_MAX: usize = 200;

/// Where releases are kept.
#[derive(Clone, Debug)]
pub(crate) struct Keep {
    dir: PathBuf,
}

/// Why a release is not kept.
#[derive(Debug, thiserror::Error)]
pub(crate) enum KeepError {
    /// The version is there, with another content.
    #[error("{kit} was {} before, and is {} now: give what is new a new version", .digests.0, .digests.1)]
    Changed {
        /// The kit and its version.
        kit: String,
        /// What it was, and what it is.
        digests: Box<(Digest, Digest)>,
    },
    /// The kit has as many versions as it may have.
    #[error("{kit} has {VERSIONS_MAX} versions already: none of them is forgotten for another one")]
    Full {
        /// The kit.
        kit: String,
    },
    /// What is kept cannot be read.
    #[error("{path} cannot be read: {cause}")]
    Damaged {
        /// The file.
        path: String,
        /// Why.
        cause: ReadError,
    },
    /// The system fails.
    #[error("{path}: {cause}")]
    Io {
        /// The file or directory.
        path: String,
        /// Why.
        cause: std::io::Error,
    },
}

fn io(path: &Path) -> impl FnOnce(std::io::Error) -> KeepError + '_ {
    move |cause| KeepError::Io { path: path.display().to_string(), cause }
}

impl Keep {
    /// The keep in `dir`.
    pub(crate) const fn new(dir: PathBuf) -> Self {
        Self { dir }
    }

    fn path(&self, source: &str, kit: &str, version: &Version) -> PathBuf {
        self.dir.join(source).join(kit).join(format!("{version}.tar.gz"))
    }

    /// Keeps a release, unless it is there. It is there wholly or not at all, whatever ends the process.
    ///
    /// # Errors
    /// - [`KeepError::Changed`] if the version is there with another content.
    pub(crate) fn put(
        &self,
        source: &str,
        kit: &str,
        version: &Version,
        files: &Files,
    ) -> Result<(), KeepError> {
        let path = self.path(source, kit, version);
        let known = match self.find(source, kit, version) {
            // What cannot be read is of no use to anybody: the source has it still.
            Err(KeepError::Damaged { path, cause }) => {
                tracing::warn!(path, %cause, "what was kept is damaged, and is kept anew");
                None
            }
            known => known?,
        };
        if let Some(known) = known {
            let (known, given) = (known.digest(), files.digest());
            if known == given {
                return Ok(());
            }
            let (kit, digests) = (format!("{kit} {version}"), Box::new((known, given)));
            return Err(KeepError::Changed { kit, digests });
        }
        let (source_dir, parent) = (self.dir.join(source), self.dir.join(source).join(kit));
        if versions(&parent)?.len() >= VERSIONS_MAX {
            return Err(KeepError::Full { kit: kit.to_owned() });
        }
        fs::create_dir_all(&parent).map_err(io(&parent))?;
        // One process has the data, and one worker puts: the name is nobody else's.
        let half = parent.join(format!("{version}.new-half"));
        let written = File::create(&half).and_then(|mut file| {
            file.write_all(&files.to_tar_gz())?;
            file.sync_all()
        });
        written.map_err(io(&half))?;
        fs::rename(&half, &path).map_err(io(&path))?;
        // New directories, too, outlast a power cut.
        for dir in [&parent, &source_dir, &self.dir] {
            File::open(dir).and_then(|dir| dir.sync_all()).map_err(io(dir))?;
        }
        Ok(())
    }

    /// The files of a release.
    ///
    /// # Errors
    /// - [`KeepError::Damaged`] if they cannot be read.
    pub(crate) fn find(
        &self,
        source: &str,
        kit: &str,
        version: &Version,
    ) -> Result<Option<Files>, KeepError> {
        let path = self.path(source, kit, version);
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(cause) if cause.kind() == ErrorKind::NotFound => return Ok(None),
            Err(cause) => return Err(io(&path)(cause)),
        };
        let damaged = |cause| KeepError::Damaged { path: path.display().to_string(), cause };
        Files::from_tar_gz(file).map(Some).map_err(damaged)
    }

    /// The archive of a release as it is given out.
    ///
    /// # Errors
    /// - what the system says.
    pub(crate) fn archive(&self, source: &str, kit: &str, version: &Version) -> Result<Vec<u8>, KeepError> {
        let path = self.path(source, kit, version);
        fs::read(&path).map_err(io(&path))
    }

    /// Every release of the source: kit and version.
    ///
    /// # Errors
    /// - what the system says.
    pub(crate) fn list(&self, source: &str) -> Result<Vec<(String, Version)>, KeepError> {
        let mut releases = Vec::new();
        let dir = self.dir.join(source);
        for kit in names(&dir)? {
            // What else lies there is nobody's.
            if dir.join(&kit).is_dir() {
                releases.extend(versions(&dir.join(&kit))?.into_iter().map(|version| (kit.clone(), version)));
            }
        }
        Ok(releases)
    }
}

/// The versions that a kit's directory has.
fn versions(dir: &Path) -> Result<Vec<Version>, KeepError> {
    let version = |file: &String| file.strip_suffix(".tar.gz").and_then(|version| version.parse().ok());
    Ok(names(dir)?.iter().filter_map(version).collect())
}

/// What is in a directory, sorted; nothing where it is not there.
fn names(dir: &Path) -> Result<Vec<String>, KeepError> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(cause) if cause.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(cause) => return Err(io(dir)(cause)),
    };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry.map_err(io(dir))?;
        names.push(entry.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(text: &'static str) -> Files {
        let mut files = Files::default();
        files.insert("kit.yaml", text).unwrap();
        files
    }

    #[test]
    fn a_version_is_for_ever_what_it_was_first() {
        let dir = tempfile::tempdir().unwrap();
        let keep = Keep::new(dir.path().join("kits"));
        let version: Version = "1.0.0-rc.1+build.7".parse().unwrap();
        assert!(keep.find("ours", "dns", &version).unwrap().is_none());
        keep.put("ours", "dns", &version, &files("one")).unwrap();
        keep.put("ours", "dns", &version, &files("one")).unwrap();
        let refused = keep.put("ours", "dns", &version, &files("two")).unwrap_err();
        assert!(refused.to_string().contains("give what is new a new version"), "{refused}");
        assert_eq!(keep.find("ours", "dns", &version).unwrap().unwrap(), files("one"));
        assert_eq!(keep.list("ours").unwrap(), [("dns".to_owned(), version.clone())]);
        assert_eq!(keep.list("theirs").unwrap(), []);
        // What else lies there is passed over.
        fs::write(dir.path().join("kits/ours/.DS_Store"), "x").unwrap();
        fs::write(dir.path().join("kits/ours/dns/notes.txt"), "x").unwrap();
        assert_eq!(keep.list("ours").unwrap().len(), 1);
        // Another source is another keep.
        keep.put("theirs", "dns", &version, &files("two")).unwrap();
    }

    #[test]
    fn a_full_kit_takes_no_other_version_and_forgets_none() {
        let dir = tempfile::tempdir().unwrap();
        let keep = Keep::new(dir.path().to_owned());
        let version = |number: usize| Version::new(1, 0, u64::try_from(number).unwrap());
        for number in 0..VERSIONS_MAX {
            keep.put("ours", "dns", &version(number), &files("one")).unwrap();
        }
        let refused = keep.put("ours", "dns", &version(VERSIONS_MAX), &files("one")).unwrap_err();
        assert!(matches!(refused, KeepError::Full { .. }), "{refused}");
        keep.put("ours", "dns", &version(0), &files("one")).unwrap();
        keep.put("ours", "other", &version(0), &files("one")).unwrap();
        assert_eq!(keep.list("ours").unwrap().len(), VERSIONS_MAX + 1);
    }

    #[test]
    fn what_was_written_by_half_is_not_there() {
        let dir = tempfile::tempdir().unwrap();
        let keep = Keep::new(dir.path().to_owned());
        let version: Version = "1.0.0".parse().unwrap();
        fs::create_dir_all(dir.path().join("ours/dns")).unwrap();
        fs::write(dir.path().join("ours/dns/1.0.0.new-half"), "x").unwrap();
        assert_eq!(keep.list("ours").unwrap(), []);
        keep.put("ours", "dns", &version, &files("one")).unwrap();
        assert_eq!(keep.list("ours").unwrap().len(), 1);
        fs::write(dir.path().join("ours/dns/1.0.0.tar.gz"), "x").unwrap();
        assert!(matches!(keep.find("ours", "dns", &version), Err(KeepError::Damaged { .. })));
        keep.put("ours", "dns", &version, &files("one")).unwrap();
        assert_eq!(keep.find("ours", "dns", &version).unwrap(), Some(files("one")));
    }
}
