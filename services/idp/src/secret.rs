//! What nobody can guess, and how it is kept.

use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use kombify_core::Ids;
use secrecy::SecretString;

/// SHA-256 of a secret of 256 random bits: enough to keep it by, since there is nothing to guess.
pub(crate) type Hash = [u8; 32];

/// How long [`random`] is, in characters.
pub(crate) const RANDOM_LEN: usize = 43;

/// Letters and digits that nobody mistakes for one another; 32 of them, so that five bits choose one.
const READABLE: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";

pub(crate) fn hash(secret: &str) -> Hash {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest::digest(&digest::SHA256, secret.as_bytes()).as_ref());
    hash
}

/// 256 random bits as base64url.
pub(crate) fn random(ids: &dyn Ids) -> String {
    let mut bytes = [0; 32];
    ids.fill(&mut bytes);
    URL_SAFE_NO_PAD.encode(bytes)
}

/// 18 random decimal digits, the first not zero: the form of Zitadel's ids.
pub(crate) fn digits(ids: &dyn Ids) -> String {
    const LEAST: u64 = 100_000_000_000_000_000;
    let mut bytes = [0; 8];
    ids.fill(&mut bytes);
    (LEAST + u64::from_be_bytes(bytes) % (9 * LEAST)).to_string()
}

/// A password of 120 random bits that can be read out: `abcdef-ghijkm-npqrst-uvwxyz`.
pub fn readable(ids: &dyn Ids) -> SecretString {
    let mut bytes = [0; 24];
    ids.fill(&mut bytes);
    let groups: Vec<String> = bytes
        .chunks(6)
        .map(|group| group.iter().map(|byte| char::from(READABLE[usize::from(byte % 32)])).collect())
        .collect();
    groups.join("-").into()
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret as _;

    use super::*;
    use crate::testing::Counted;

    #[test]
    fn secrets_have_their_form_and_do_not_repeat() {
        let ids = Counted::default();
        assert_eq!(random(&ids).len(), RANDOM_LEN);
        assert_ne!(random(&ids), random(&ids));
        assert_eq!(digits(&ids).len(), 18);
        let password = readable(&ids);
        assert_eq!(password.expose_secret().len(), 27);
        assert!(password.expose_secret().bytes().all(|byte| byte == b'-' || READABLE.contains(&byte)));
    }
}
