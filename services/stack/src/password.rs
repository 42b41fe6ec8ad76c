//! Passwords of local accounts: Argon2id, two at a time.

use std::sync::Arc;

use argon2::Argon2;
use argon2::password_hash::{PasswordHash, PasswordHasher as _, PasswordVerifier as _, SaltString};
use kombify_core::{Error, Ids, Result};
use secrecy::{ExposeSecret as _, SecretString};
use tokio::sync::Semaphore;

/// How many are hashed at once, however many processors there are: each takes 19 MB, and a processor for some tens of
/// milliseconds.
const AT_ONCE: usize = 2;

/// The hash of nobody's password: what an unknown login is held against, so that it takes as long as a known one.
const NOBODY: &str =
    "$argon2id$v=19$m=19456,t=2,p=1$a29tYmlmeS1zdGFjay1ub2JvZHk$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

/// Hashes and verifies.
#[derive(Clone)]
pub struct Passwords {
    turns: Arc<Semaphore>,
}

impl Passwords {
    /// The passwords of this process.
    pub fn new() -> Self {
        Self { turns: Arc::new(Semaphore::new(AT_ONCE)) }
    }

    /// The PHC string of a password.
    ///
    /// # Errors
    /// - [`Error::Internal`] if it cannot be hashed.
    pub async fn hash(&self, ids: &dyn Ids, password: SecretString) -> Result<String> {
        let salt = salt(ids)?;
        self.run(move || compute(&salt, password.expose_secret())).await
    }

    /// Whether the password has that hash; `None` is nobody's, and takes as long.
    ///
    /// # Errors
    /// - [`Error::Internal`] if the hash is none.
    pub async fn verify(&self, hash: Option<&str>, password: SecretString) -> Result<bool> {
        let known = hash.is_some();
        let hash = hash.unwrap_or(NOBODY).to_owned();
        self.run(move || {
            let parsed = PasswordHash::new(&hash).map_err(|cause| Error::internal(cause.to_string()))?;
            let right =
                Argon2::default().verify_password(password.expose_secret().as_bytes(), &parsed).is_ok();
            Ok(right && known)
        })
        .await
    }

    async fn run<T: Send + 'static>(&self, f: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
        let turn = Arc::clone(&self.turns).acquire_owned().await.map_err(Error::internal)?;
        tokio::task::spawn_blocking(move || {
            let _turn = turn;
            f()
        })
        .await
        .map_err(Error::internal)?
    }
}

fn salt(ids: &dyn Ids) -> Result<SaltString> {
    let mut bytes = [0; 16];
    ids.fill(&mut bytes);
    SaltString::encode_b64(&bytes).map_err(|cause| Error::internal(cause.to_string()))
}

fn compute(salt: &SaltString, password: &str) -> Result<String> {
    let hash = Argon2::default().hash_password(password.as_bytes(), salt);
    Ok(hash.map_err(|cause| Error::internal(cause.to_string()))?.to_string())
}
