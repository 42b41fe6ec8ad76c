//! Passwords: argon2id, two at a time.

use std::sync::Arc;

use argon2::Argon2;
use argon2::password_hash::{PasswordHash, PasswordHasher as _, PasswordVerifier as _, SaltString};
use kombify_core::{Error, Ids, Result};
use secrecy::{ExposeSecret as _, SecretString};
use tokio::sync::Semaphore;

/// How many characters a password has at least.
pub(crate) const MIN_CHARS: usize = 10;

/// How many characters a password has at most.
pub(crate) const MAX_CHARS: usize = 128;

/// How many hashes are computed at once: each takes 19 MiB and a core for some 20 ms.
const AT_ONCE: usize = 2;

/// What an unknown user's password is held against: the same work, and nothing matches it.
const NOBODY: &str =
    "$argon2id$v=19$m=19456,t=2,p=1$a29tYmlmeS1pZHAtbm9ib2R5$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

/// Hashes passwords and holds others against the hashes, off the runtime's threads.
pub(crate) struct Passwords {
    permits: Arc<Semaphore>,
}

impl Passwords {
    pub(crate) fn new() -> Self {
        Self { permits: Arc::new(Semaphore::new(AT_ONCE)) }
    }

    pub(crate) async fn hash(&self, ids: &dyn Ids, password: SecretString) -> Result<String> {
        let mut salt = [0; 16];
        ids.fill(&mut salt);
        let salt = SaltString::encode_b64(&salt).map_err(Error::internal)?;
        self.run(move || {
            let hash = Argon2::default().hash_password(password.expose_secret().as_bytes(), &salt);
            hash.map(|hash| hash.to_string()).map_err(Error::internal)
        })
        .await
    }

    /// Whether the password is the one of `hash`; never without a hash, after as much work.
    pub(crate) async fn verify(&self, hash: Option<String>, password: SecretString) -> Result<bool> {
        self.run(move || {
            let parsed = PasswordHash::new(hash.as_deref().unwrap_or(NOBODY)).map_err(Error::internal)?;
            let matches =
                Argon2::default().verify_password(password.expose_secret().as_bytes(), &parsed).is_ok();
            Ok(matches && hash.is_some())
        })
        .await
    }

    async fn run<T: Send + 'static>(&self, work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
        // The work keeps the permit: a browser that goes away does not make room for more.
        let permit = Arc::clone(&self.permits).acquire_owned().await.map_err(Error::internal)?;
        let done = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            work()
        });
        done.await.map_err(Error::internal)?
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Counted;

    #[tokio::test]
    async fn a_password_matches_its_own_hash_and_nobody_has_one() {
        let passwords = Passwords::new();
        let hash = passwords.hash(&Counted::default(), "correct horse".into()).await.unwrap();
        assert!(passwords.verify(Some(hash.clone()), "correct horse".into()).await.unwrap());
        assert!(!passwords.verify(Some(hash), "wrong horse".into()).await.unwrap());
        assert!(!passwords.verify(None, "correct horse".into()).await.unwrap());
    }

    #[tokio::test]
    async fn an_unknown_user_costs_the_same_work() {
        let hash = Passwords::new().hash(&Counted::default(), "correct horse".into()).await.unwrap();
        let (real, nobody) = (PasswordHash::new(&hash).unwrap(), PasswordHash::new(NOBODY).unwrap());
        assert_eq!((real.algorithm, real.version), (nobody.algorithm, nobody.version));
        assert_eq!(real.params, nobody.params);
        assert_eq!(real.hash.unwrap().len(), nobody.hash.unwrap().len());
    }
}
