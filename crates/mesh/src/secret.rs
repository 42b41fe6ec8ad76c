//! Secrets that are shown once and kept as a hash: join secrets, launch codes, sessions, invitations.

use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use kombify_core::Ids;

/// 256 random bits as 43 characters, and their hash.
pub fn make(ids: &dyn Ids) -> (String, [u8; 32]) {
    let mut bytes = [0; 32];
    ids.fill(&mut bytes);
    let secret = URL_SAFE_NO_PAD.encode(bytes);
    let hash = hash(&secret);
    (secret, hash)
}

/// The SHA-256 of a secret: what is kept of it.
pub fn hash(secret: &str) -> [u8; 32] {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest::digest(&digest::SHA256, secret.as_bytes()).as_ref());
    hash
}
