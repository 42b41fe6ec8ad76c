//! The directory with the data: who may use it, and what is written there for the command line.

use std::collections::BTreeMap;
use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::Fault;
use crate::run::Which;

/// The directory with the data, of which this process holds the modules that it runs.
pub struct Data {
    dir: PathBuf,
    /// Unlocked when the process ends, however it ends.
    _locks: Vec<File>,
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
    /// The Stack's URL.
    pub stack: String,
    /// The URL of the registry of StackKits; empty where an older mesh wrote this.
    #[serde(default)]
    pub kits: String,
    /// The identity provider's URL: the issuer.
    pub idp: String,
}

impl Data {
    /// Takes the data of these modules, and makes the directory where it is not there.
    ///
    /// # Errors
    /// - if it cannot be made or written, or if another process runs one of the modules on it.
    pub fn take(dir: &Path, modules: &[Which]) -> Result<Self, Fault> {
        let unusable = |cause: std::io::Error| {
            format!(
                "{} cannot be written ({cause}): choose another directory with KOMBIFY__DATA",
                dir.display()
            )
        };
        make_private_dir(&dir.join("locks")).map_err(unusable)?;
        let mut locks = Vec::new();
        for module in modules {
            let lock = File::options()
                .create(true)
                .truncate(false)
                .write(true)
                .open(lock_file(dir, *module))
                .map_err(unusable)?;
            match lock.try_lock() {
                Ok(()) => locks.push(lock),
                Err(TryLockError::WouldBlock) => {
                    return Err(format!(
                        "{} is in use: another kombify runs {module} on it; end that one, or choose another directory with KOMBIFY__DATA",
                        dir.display()
                    )
                    .into());
                }
                Err(TryLockError::Error(cause)) => return Err(unusable(cause).into()),
            }
        }
        Ok(Self { dir: dir.to_owned(), _locks: locks })
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

/// The file whose lock says who runs the module.
pub fn lock_file(dir: &Path, module: Which) -> PathBuf {
    dir.join("locks").join(module.name())
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
