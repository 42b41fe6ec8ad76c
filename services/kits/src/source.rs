//! Where kits come from.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use kombify_core::OrgId;
use kombify_kit::{Files, Hostile, MANIFEST, ReadError, Wrong};

use crate::git::GitSource;

/// How many kits, or archives of some, a directory may have.
const KITS_MAX: usize = 20_000;

/// A source of kits.
#[derive(Clone, Debug)]
pub struct Source {
    /// Its name: 1 to 40 of `[a-z0-9-]`. What was seen of it is kept under this name.
    pub name: String,
    /// Where it is.
    pub place: Place,
    /// Whose its kits are; `None`: everybody's.
    pub organisation: Option<OrgId>,
}

/// Where a source is.
#[derive(Clone, Debug)]
pub enum Place {
    /// Kits that come with the program: path -> content, the kit's directory first.
    BuiltIn(Arc<[(&'static str, &'static [u8])]>),
    /// A directory with kits in it, as directories or as archives; or the directory of one kit.
    Directory(PathBuf),
    /// A Git repository: each tag `v1.2.3` is a version of the kits in it.
    Git(Arc<GitSource>),
}

/// Something that a source has: a kit, or what is wrong with it.
pub(crate) struct Found {
    /// Where in the source.
    pub(crate) at: String,
    /// Its files.
    pub(crate) files: Result<Files, ReadError>,
}

/// What comes with the program.
pub(crate) fn built_in(contents: &[(&'static str, &'static [u8])]) -> Vec<Found> {
    let mut found: Vec<Found> = Vec::new();
    for (path, content) in contents {
        let Some((kit, inner)) = path.split_once('/') else { continue };
        if found.last().is_none_or(|last| last.at != kit) {
            found.push(Found { at: kit.to_owned(), files: Ok(Files::default()) });
        }
        if let Some(Found { files, .. }) = found.last_mut()
            && let Ok(known) = files
            && let Err(hostile) = known.insert(inner, *content)
        {
            *files = Err(hostile.into());
        }
    }
    found
}

/// Where the kits of a directory are, sorted by name: each is a directory, or an archive; or it is one kit itself.
///
/// # Errors
/// - if the directory cannot be read.
pub(crate) fn directory(path: &Path) -> std::io::Result<Vec<PathBuf>> {
    if path.join(MANIFEST).is_file() {
        return Ok(vec![path.to_owned()]);
    }
    let mut kits = Vec::new();
    for entry in std::fs::read_dir(path)? {
        let entry = entry?;
        if kits.len() >= KITS_MAX {
            return Err(std::io::Error::other(format!("there are more than {KITS_MAX} entries")));
        }
        let name = entry.file_name().to_string_lossy().into_owned();
        let kind = entry.file_type()?;
        let known = kind.is_dir() || kind.is_symlink() || name.ends_with(".tar.gz");
        if known && !name.starts_with('.') {
            kits.push(entry.path());
        }
    }
    kits.sort();
    Ok(kits)
}

/// Reads the kit there.
pub(crate) fn read(path: &Path) -> Found {
    let files = match path.symlink_metadata() {
        // What it leads to is not of this directory.
        Ok(there) if there.is_symlink() => {
            Err(Hostile::new(&path.display().to_string(), Wrong::Kind("a symbolic link")).into())
        }
        Ok(there) if there.is_dir() => Files::from_directory(path),
        Ok(there) if there.is_file() => {
            std::fs::File::open(path).map_err(ReadError::from).and_then(Files::from_tar_gz)
        }
        Ok(_) => Err(Hostile::new(&path.display().to_string(), Wrong::Kind("no file")).into()),
        Err(cause) => Err(cause.into()),
    };
    Found { at: path.display().to_string(), files }
}
