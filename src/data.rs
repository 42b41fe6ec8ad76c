//! The directory with the data: who may use it, and what is written there for the command line.

use std::collections::BTreeMap;
use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::Fault;

/// The directory with the data, held by this process alone.
pub struct Data {
    dir: PathBuf,
    /// Unlocked when the process ends, however it ends.
    _lock: File,
}

/// Where the modules of a running mesh are.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Endpoints {
    /// The gateway's URL.
    pub gateway: String,
    /// Admin's URL.
    pub admin: String,
    /// Cloud's URL.
    pub cloud: String,
    /// The identity provider's URL: the issuer.
    pub idp: String,
}

impl Data {
    /// Takes the directory, and makes it where it is not there.
    ///
    /// # Errors
    /// - if it cannot be made or written, or if another process has it.
    pub fn take(dir: &Path) -> Result<Self, Fault> {
        let unusable = |cause: std::io::Error| {
            format!(
                "{} cannot be written ({cause}): choose another directory with KOMBIFY__DATA",
                dir.display()
            )
        };
        make_private_dir(dir).map_err(unusable)?;
        let lock = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(dir.join("lock"))
            .map_err(unusable)?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { dir: dir.to_owned(), _lock: lock }),
            Err(TryLockError::WouldBlock) => Err(format!(
                "{} is in use: another kombify runs on it; end that one, or choose another directory with KOMBIFY__DATA",
                dir.display()
            )
            .into()),
            Err(TryLockError::Error(cause)) => Err(unusable(cause).into()),
        }
    }

    /// The directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// A file in the directory.
    pub fn file(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// Writes where the modules are, for the command line.
    ///
    /// # Errors
    /// - what the system says.
    pub fn write_endpoints(&self, endpoints: &Endpoints) -> Result<(), Fault> {
        Ok(kombify_mesh::config::write_secret(
            &self.file("endpoints.json"),
            &serde_json::to_vec_pretty(endpoints)?,
        )?)
    }
}

/// Where the modules are that run on the data in `dir`.
///
/// # Errors
/// - if none ever ran there.
pub fn endpoints(dir: &Path) -> Result<Endpoints, Fault> {
    let file = dir.join("endpoints.json");
    let text = std::fs::read(&file)
        .map_err(|_| format!("no mesh was ever started on {}: start one with `make up`", dir.display()))?;
    Ok(serde_json::from_slice(&text)?)
}

/// The passwords of the seeded users: login -> password.
pub type Passwords = BTreeMap<String, String>;

/// The file with the passwords of the seeded users, for the command line; its owner's alone.
pub fn passwords_file(dir: &Path) -> PathBuf {
    dir.join("passwords.json")
}

/// The passwords of the seeded users, where there are any.
///
/// # Errors
/// - if the file is there and cannot be read.
pub fn passwords(dir: &Path) -> Result<Passwords, Fault> {
    match std::fs::read(passwords_file(dir)) {
        Ok(text) => Ok(serde_json::from_slice(&text)?),
        Err(cause) if cause.kind() == std::io::ErrorKind::NotFound => Ok(Passwords::new()),
        Err(cause) => Err(cause.into()),
    }
}

fn make_private_dir(dir: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)
}
