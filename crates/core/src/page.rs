//! Parts of lists, and the marks of versions.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;

use crate::{Error, Result};

/// Where a part of a list begins: behind the row of that time and id, newest first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Position {
    /// The creation time of the last row that was given.
    pub create_time: Timestamp,
    /// Its id.
    pub id: String,
}

/// Which part of a list is asked for. Lists are ordered by (creation time, id), newest first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// How many rows at most, 1 to [`Page::MAX`].
    pub limit: u32,
    /// Behind which row; `None`: from the start.
    pub after: Option<Position>,
    filter: u64,
}

impl Page {
    /// How many rows a page holds where the request says nothing.
    pub const DEFAULT: u32 = 50;
    /// How many rows a page holds at most.
    pub const MAX: u32 = 100;

    /// The page that a request asks for. `filter` is everything that narrows the list, as text: a cursor is good for
    /// the filter that it was made for only.
    ///
    /// # Errors
    /// - [`Error::Invalid`] if the cursor is not one of ours, or belongs to another filter.
    pub fn parse(limit: i32, cursor: &str, filter: &str) -> Result<Self> {
        let limit = match u32::try_from(limit) {
            Ok(0) | Err(_) => Self::DEFAULT,
            Ok(limit) => limit.min(Self::MAX),
        };
        let filter = fnv1a(filter.as_bytes());
        let after = (!cursor.is_empty()).then(|| Self::read(cursor, filter)).transpose()?;
        Ok(Self { limit, after, filter })
    }

    /// The first page of a list without a filter.
    pub fn first() -> Self {
        Self { limit: Self::MAX, after: None, filter: fnv1a(b"") }
    }

    /// Makes the answer of one row more than the page holds: the row too many says that there is a next page.
    pub fn cut<T>(&self, mut rows: Vec<T>, position: impl Fn(&T) -> Position) -> Listed<T> {
        let limit = self.limit as usize;
        let more = rows.len() > limit;
        rows.truncate(limit);
        let next_cursor =
            rows.last().filter(|_| more).map(|last| self.write(&position(last))).unwrap_or_default();
        Listed { items: rows, next_cursor, limit: self.limit }
    }

    fn write(&self, position: &Position) -> String {
        let text = format!("{:x}.{}.{}", self.filter, position.create_time.as_microsecond(), position.id);
        URL_SAFE_NO_PAD.encode(text)
    }

    fn read(cursor: &str, filter: u64) -> Result<Position> {
        let wrong = || Error::invalid("cursor", "must be the nextCursor of the same list");
        let bytes = URL_SAFE_NO_PAD.decode(cursor).map_err(|_| wrong())?;
        let text = String::from_utf8(bytes).map_err(|_| wrong())?;
        let mut parts = text.splitn(3, '.');
        let (Some(made_for), Some(micros), Some(id)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(wrong());
        };
        if u64::from_str_radix(made_for, 16).ok() != Some(filter) {
            return Err(Error::invalid("cursor", "belongs to another filter: start again without it"));
        }
        let create_time = micros.parse().ok().and_then(|micros| Timestamp::from_microsecond(micros).ok());
        Ok(Position { create_time: create_time.ok_or_else(wrong)?, id: id.to_owned() })
    }
}

/// A part of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed<T> {
    /// The rows.
    pub items: Vec<T>,
    /// What to ask with for the next part; empty at the end.
    pub next_cursor: String,
    /// How many rows this part holds at most.
    pub limit: u32,
}

/// The mark of one version of a thing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Etag(u32);

impl Etag {
    /// The mark of the version with that number.
    pub const fn of(version: u32) -> Self {
        Self(version)
    }

    /// What a caller asks for: empty and `*` stand for any version.
    ///
    /// # Errors
    /// - [`Error::PreconditionFailed`] for what is no etag of ours: it matches nothing.
    pub fn parse(text: &str) -> Result<Option<Self>> {
        match text {
            "" | "*" => Ok(None),
            text => text
                .strip_prefix('v')
                .and_then(|version| version.parse().ok())
                .map(|version| Some(Self(version)))
                .ok_or_else(Self::mismatch),
        }
    }

    /// Holds a version against what the caller asked for.
    ///
    /// # Errors
    /// - [`Error::PreconditionFailed`] if it is another version.
    pub fn check(wanted: Option<Self>, present: Self) -> Result<()> {
        if wanted.is_none_or(|wanted| wanted == present) { Ok(()) } else { Err(Self::mismatch()) }
    }

    fn mismatch() -> Error {
        Error::PreconditionFailed(
            "it was changed since: read it again, and send the etag that it has now".into(),
        )
    }
}

impl fmt::Display for Etag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "v{}", self.0)
    }
}

/// FNV-1a, 64 bits: a fixed function, so that a cursor outlives a restart and an upgrade.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, &byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_continues_behind_the_last_row_and_only_under_its_own_filter() {
        let page = Page::parse(2, "", "search=a").unwrap();
        let position = |id: &&str| Position { create_time: Timestamp::UNIX_EPOCH, id: (*id).to_owned() };
        let listed = page.cut(vec!["x.1", "x.2", "x.3"], position);
        assert_eq!(listed.items, ["x.1", "x.2"]);
        let next = Page::parse(2, &listed.next_cursor, "search=a").unwrap();
        assert_eq!(next.after.unwrap().id, "x.2");
        assert!(Page::parse(2, &listed.next_cursor, "search=b").is_err());
        assert!(Page::parse(2, "garbage!", "search=a").is_err());
        assert_eq!(page.cut(vec!["x.1", "x.2"], position).next_cursor, "");
    }

    #[test]
    fn a_limit_is_kept_within_its_bounds() {
        assert_eq!(Page::parse(0, "", "").unwrap().limit, Page::DEFAULT);
        assert_eq!(Page::parse(7, "", "").unwrap().limit, 7);
        assert_eq!(Page::parse(1000, "", "").unwrap().limit, Page::MAX);
    }

    #[test]
    fn an_etag_matches_its_own_version_only() {
        let present = Etag::of(3);
        assert!(Etag::check(Etag::parse("").unwrap(), present).is_ok());
        assert!(Etag::check(Etag::parse("*").unwrap(), present).is_ok());
        assert!(Etag::check(Etag::parse("v3").unwrap(), present).is_ok());
        assert_eq!(
            Etag::check(Etag::parse("v2").unwrap(), present).unwrap_err().code().as_str(),
            "PRECONDITION_FAILED"
        );
        assert_eq!(Etag::parse("else").unwrap_err().code().as_str(), "PRECONDITION_FAILED");
    }
}
