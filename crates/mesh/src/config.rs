//! Configuration: one TOML file, and `KOMBIFY__SECTION__KEY` over it. Unknown keys are refused.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use figment::Figment;
use figment::providers::{Env, Format as _, Toml};
use serde::de::DeserializeOwned;

/// Why there is no configuration, in one line.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file is not there.
    #[error("{} is not there: name another file with --config, or none", .0.display())]
    Missing(PathBuf),
    /// A key is unknown, or a value is of the wrong kind.
    #[error("the configuration is not right: {0}")]
    Wrong(String),
}

/// Reads the configuration: defaults, then the file, then the customary names of the environment (each with the key that
/// it stands for), then our own.
///
/// # Errors
/// - [`ConfigError::Missing`] if a file is named that is not there.
/// - [`ConfigError::Wrong`] if a key is unknown or a value does not fit; the text names both key and source.
pub fn load<T: DeserializeOwned>(
    file: Option<&Path>,
    customary: &[(&'static str, &'static str)],
) -> Result<T, ConfigError> {
    let mut figment = Figment::new();
    if let Some(file) = file {
        if !file.exists() {
            return Err(ConfigError::Missing(file.to_owned()));
        }
        figment = figment.merge(Toml::file_exact(file));
    }
    for &(name, key) in customary {
        figment = figment.merge(Env::raw().only(&[name]).map(move |_| key.into()));
    }
    let figment = figment.merge(Env::prefixed("KOMBIFY__").split("__"));
    figment.extract().map_err(|cause| {
        let one_line = cause.to_string().replace('\n', " ");
        ConfigError::Wrong(one_line)
    })
}

/// Writes a secret that only its owner may read, whole or not at all.
///
/// # Errors
/// - what the system says.
pub fn write_secret(path: &Path, secret: &[u8]) -> std::io::Result<()> {
    use std::os::unix::fs::OpenOptionsExt as _;
    // A name of its own: two may write at the same time, and the last one wins whole.
    static WRITTEN: AtomicU64 = AtomicU64::new(0);
    let number = WRITTEN.fetch_add(1, Ordering::Relaxed);
    let beside = path.with_extension(format!("new-{}-{number}", std::process::id()));
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent)?;
    }
    let mut file =
        std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&beside)?;
    file.write_all(secret)?;
    file.sync_all()?;
    std::fs::rename(&beside, path)
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Sample {
        #[serde(default)]
        port: u16,
    }

    #[test]
    fn an_unknown_key_and_a_wrong_value_are_refused_by_name() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("kombify.toml");
        for (text, named) in [("prot = 1", "prot"), ("port = \"x\"", "port"), ("port = 70000", "port")] {
            std::fs::write(&file, text).unwrap();
            let fault = load::<Sample>(Some(&file), &[]).unwrap_err().to_string();
            assert!(fault.contains(named), "{fault}");
            assert!(!fault.contains('\n'), "{fault}");
        }
        std::fs::write(&file, "port = 7").unwrap();
        assert_eq!(load::<Sample>(Some(&file), &[]).unwrap().port, 7);
        assert!(
            load::<Sample>(Some(Path::new("/nowhere/kombify.toml")), &[])
                .unwrap_err()
                .to_string()
                .contains("nowhere")
        );
    }

    #[test]
    fn a_secret_is_for_its_owner_only() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("deep").join("key");
        write_secret(&path, b"secret").unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(std::fs::read(&path).unwrap(), b"secret");
    }
}
