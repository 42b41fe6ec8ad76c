//! Sealed cookies: what a site without a store keeps at the browser, encrypted and authenticated (AES-256-GCM).

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::digest;
use axum::http::{HeaderMap, HeaderValue};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use kombify_core::{Error, Ids, Result};

use crate::cookies::{self, SameSite};

/// The form of what is sealed: another one is another version.
const VERSION: u8 = 2;

/// How many bytes say which key sealed a value: the first of its SHA-256.
const KEY_ID_LEN: usize = 4;

/// How long one cookie's value is at most: browsers take 4,096 bytes with name and attributes.
const PART_BYTES: usize = 3500;

/// How many cookies one value is split over at most.
const MAX_PARTS: usize = 4;

/// What seals and opens.
pub struct Seal {
    key: LessSafeKey,
    key_id: [u8; KEY_ID_LEN],
    secure: bool,
}

impl Seal {
    /// A seal by a key of 32 bytes; `secure` says whether browsers come by TLS.
    ///
    /// # Errors
    /// - [`Error::Internal`] if the key has another length.
    pub fn new(key: &[u8], secure: bool) -> Result<Self> {
        let mut key_id = [0; KEY_ID_LEN];
        key_id.copy_from_slice(&digest::digest(&digest::SHA256, key).as_ref()[..KEY_ID_LEN]);
        let key =
            UnboundKey::new(&AES_256_GCM, key).map_err(|_| Error::internal("a sealing key has 32 bytes"))?;
        Ok(Self { key: LessSafeKey::new(key), key_id, secure })
    }

    /// The headers that set the value under `name` until `expire_time`: as many cookies as it takes; those that it does not
    /// take are cleared.
    ///
    /// # Errors
    /// - [`Error::Internal`] if the value is too long.
    pub fn set(
        &self,
        ids: &dyn Ids,
        name: &str,
        value: &[u8],
        (now, expire_time): (Timestamp, Timestamp),
    ) -> Result<Vec<HeaderValue>> {
        let sealed = self.seal(ids, name, value, expire_time)?;
        let parts: Vec<&str> = (0..sealed.len())
            .step_by(PART_BYTES)
            .map(|start| &sealed[start..sealed.len().min(start + PART_BYTES)])
            .collect();
        if parts.len() > MAX_PARTS {
            return Err(Error::internal("the value is too long for cookies"));
        }
        let seconds = u64::try_from(expire_time.as_second() - now.as_second()).unwrap_or_default();
        (0..MAX_PARTS)
            .map(|part| {
                let name = part_name(name, part);
                match parts.get(part) {
                    Some(value) => cookies::set(&name, value, seconds, SameSite::Lax, self.secure),
                    None => cookies::clear(&name, self.secure),
                }
            })
            .collect()
    }

    /// The headers that take the value away.
    ///
    /// # Errors
    /// - [`Error::Internal`] if the name cannot stand in a header.
    pub fn clear(&self, name: &str) -> Result<Vec<HeaderValue>> {
        (0..MAX_PARTS).map(|part| cookies::clear(&part_name(name, part), self.secure)).collect()
    }

    /// The value under `name`; `None` where there is none, it has expired, or somebody else sealed or changed it.
    pub fn read(&self, headers: &HeaderMap, name: &str, now: Timestamp) -> Option<Vec<u8>> {
        let mut sealed = String::new();
        for part in 0..MAX_PARTS {
            match cookies::read(headers, &part_name(name, part)) {
                Some(value) => sealed.push_str(value),
                None => break,
            }
        }
        if sealed.is_empty() { None } else { self.open(name, &sealed, now) }
    }

    fn seal(&self, ids: &dyn Ids, name: &str, value: &[u8], expire_time: Timestamp) -> Result<String> {
        let mut nonce = [0; NONCE_LEN];
        ids.fill(&mut nonce);
        let mut sealed = expire_time.as_second().to_be_bytes().to_vec();
        sealed.extend_from_slice(value);
        self.key
            .seal_in_place_append_tag(
                Nonce::assume_unique_for_key(nonce),
                Aad::from(self.bound_to(name)),
                &mut sealed,
            )
            .map_err(|_| Error::internal("a cookie could not be sealed"))?;
        let mut whole = vec![VERSION];
        whole.extend_from_slice(&self.key_id);
        whole.extend_from_slice(&nonce);
        whole.append(&mut sealed);
        Ok(URL_SAFE_NO_PAD.encode(whole))
    }

    fn open(&self, name: &str, sealed: &str, now: Timestamp) -> Option<Vec<u8>> {
        let whole = URL_SAFE_NO_PAD.decode(sealed).ok()?;
        let (version, rest) = whole.split_first()?;
        let (key_id, rest) = rest.split_at_checked(KEY_ID_LEN)?;
        if *version != VERSION || key_id != self.key_id {
            return None;
        }
        let (nonce, sealed) = rest.split_at_checked(NONCE_LEN)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        let mut sealed = sealed.to_vec();
        let opened = self.key.open_in_place(nonce, Aad::from(self.bound_to(name)), &mut sealed).ok()?;
        let (expires, value) = opened.split_at_checked(8)?;
        let expires = i64::from_be_bytes(expires.try_into().ok()?);
        (now.as_second() < expires).then(|| value.to_vec())
    }

    /// What a sealed value is bound to, beside its key: its form, and the cookie's name.
    fn bound_to(&self, name: &str) -> Vec<u8> {
        [&[VERSION], &self.key_id[..], name.as_bytes()].concat()
    }
}

fn part_name(name: &str, part: usize) -> String {
    format!("{name}.{part}")
}

#[cfg(test)]
mod tests {
    use axum::http::header;

    use super::*;

    struct Counting;

    impl Ids for Counting {
        fn fill(&self, bytes: &mut [u8]) {
            bytes.fill(7);
        }
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn seal() -> Seal {
        Seal::new(&[1; 32], false).unwrap()
    }

    /// The cookies that a browser sends after these headers.
    fn sent(set: &[HeaderValue]) -> Vec<(String, String)> {
        set.iter()
            .filter_map(|header| header.to_str().unwrap().split(';').next()?.split_once('='))
            .filter(|(_, value)| !value.is_empty())
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect()
    }

    fn headers(cookies: &[(String, String)]) -> HeaderMap {
        let line: Vec<_> = cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let mut headers = HeaderMap::new();
        headers.insert(header::COOKIE, line.join("; ").parse().unwrap());
        headers
    }

    #[test]
    fn what_was_sealed_opens_until_it_expires() {
        for length in [0, 1, 3000, 9000] {
            let value = vec![b'x'; length];
            let cookies = sent(&seal().set(&Counting, "s", &value, (at(0), at(60))).unwrap());
            assert_eq!(seal().read(&headers(&cookies), "s", at(59)), Some(value), "{length}");
            assert_eq!(seal().read(&headers(&cookies), "s", at(60)), None);
        }
        assert!(seal().set(&Counting, "s", &vec![0; 20_000], (at(0), at(60))).is_err());
    }

    #[test]
    fn whatever_was_changed_opens_no_more() {
        let cookies = sent(&seal().set(&Counting, "s", &[b'x'; 5000], (at(0), at(60))).unwrap());
        assert_eq!(cookies.len(), 2);
        let read = |cookies: &[(String, String)]| seal().read(&headers(cookies), "s", at(1));
        let mut swapped = cookies.clone();
        (swapped[0].1, swapped[1].1) = (cookies[1].1.clone(), cookies[0].1.clone());
        let mut tampered = cookies.clone();
        let other = if &cookies[1].1[10..11] == "A" { "B" } else { "A" };
        tampered[1].1.replace_range(10..11, other);
        let mut cut = cookies.clone();
        cut[1].1.truncate(100);
        let mut doubled = cookies.clone();
        doubled.push(cookies[0].clone());
        for wrong in [&swapped[..], &tampered, &cut, &cookies[..1], &cookies[1..], &doubled] {
            assert_eq!(read(wrong), None);
        }
        let other_key = Seal::new(&[2; 32], false).unwrap();
        assert_eq!(other_key.read(&headers(&cookies), "s", at(1)), None);
        let renamed: Vec<_> =
            cookies.iter().map(|(name, value)| (name.replace('s', "t"), value.clone())).collect();
        assert_eq!(seal().read(&headers(&renamed), "t", at(1)), None, "a value is bound to its name");
    }

    #[test]
    fn a_value_says_its_form_and_which_key_sealed_it() {
        let sealed_by = |key: u8| {
            let seal = Seal::new(&[key; 32], false).unwrap();
            URL_SAFE_NO_PAD.decode(seal.seal(&Counting, "s", b"x", at(60)).unwrap()).unwrap()
        };
        let (one, other) = (sealed_by(1), sealed_by(2));
        assert_eq!((one[0], other[0]), (VERSION, VERSION));
        assert_ne!(one[1..=KEY_ID_LEN], other[1..=KEY_ID_LEN]);
        assert_eq!(seal().open("s", &URL_SAFE_NO_PAD.encode(&one), at(1)), Some(b"x".to_vec()));
        for byte in 0..one.len() {
            let mut changed = one.clone();
            changed[byte] ^= 1;
            assert_eq!(seal().open("s", &URL_SAFE_NO_PAD.encode(&changed), at(1)), None, "byte {byte}");
            assert_eq!(seal().open("s", &URL_SAFE_NO_PAD.encode(&one[..byte]), at(1)), None, "{byte} bytes");
        }
        assert!(Seal::new(&[1; 31], false).is_err());
    }

    #[test]
    fn a_value_that_is_shorter_than_the_one_before_it_clears_the_parts_that_it_leaves() {
        let seal = Seal::new(&[1; 32], true).unwrap();
        let set = seal.set(&Counting, "__Host-s", b"x", (at(0), at(60))).unwrap();
        let texts: Vec<_> = set.iter().map(|header| header.to_str().unwrap()).collect();
        assert!(
            texts[0].starts_with("__Host-s.0=") && texts[0].ends_with("; Max-Age=60; Secure"),
            "{}",
            texts[0]
        );
        for (part, text) in texts.iter().enumerate().skip(1) {
            let cleared = format!("__Host-s.{part}=; HttpOnly; SameSite=Lax; Path=/; Max-Age=0; Secure");
            assert_eq!(*text, cleared);
        }
        assert_eq!(seal.clear("__Host-s").unwrap().len(), texts.len());
    }
}
