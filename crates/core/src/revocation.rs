//! Revocations: which sign-ins count no more.

use jiff::{SignedDuration, Timestamp};

use crate::{Error, Result, Sub};

/// Which sign-ins of one user count no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Revocation {
    /// Those before this moment.
    pub time: Timestamp,
    /// All of them, whenever: the user is locked.
    pub locked: bool,
}

/// How long a revocation is kept that is no lock, in hours: an hour longer than the longest session. Source: contract C2,
/// "entries outlive the longest session".
pub const KEPT_HOURS: i64 = 13;

impl Revocation {
    /// Whether a sign-in of that moment still counts.
    ///
    /// # Errors
    /// - [`Error::AuthInvalid`] if it does not.
    pub fn check(&self, signed_in_at: Timestamp) -> Result<()> {
        if self.locked {
            return Err(Error::AuthInvalid("its user is locked"));
        }
        // Tokens tell whole seconds: a sign-in of the second of the revocation came before it.
        if signed_in_at.as_second() <= self.time.as_second() {
            return Err(Error::AuthInvalid("its sign-in was ended: sign in again"));
        }
        Ok(())
    }

    /// Whether it still matters at `now`.
    pub fn matters_at(&self, now: Timestamp) -> bool {
        self.locked || now.duration_since(self.time) < SignedDuration::from_hours(KEPT_HOURS)
    }
}

/// The revocation of one user, as it is pushed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserRevocation {
    /// Whose sign-ins.
    pub sub: Sub,
    /// Which of them.
    pub revocation: Revocation,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn what_is_older_than_the_revocation_does_not_count() {
        let revocation = Revocation { time: at("2026-01-01T12:00:05.7Z"), locked: false };
        for (signed_in, counts) in [
            ("2026-01-01T11:00:00Z", false),
            ("2026-01-01T12:00:04Z", false),
            ("2026-01-01T12:00:05Z", false),
            ("2026-01-01T12:00:06Z", true),
        ] {
            assert_eq!(revocation.check(at(signed_in)).is_ok(), counts, "{signed_in}");
        }
    }

    #[test]
    fn nothing_counts_of_who_is_locked() {
        let revocation = Revocation { time: at("2026-01-01T12:00:00Z"), locked: true };
        assert!(revocation.check(at("2027-01-01T12:00:00Z")).is_err());
        assert!(revocation.matters_at(at("2030-01-01T00:00:00Z")));
    }

    #[test]
    fn a_revocation_outlives_the_longest_session() {
        let revocation = Revocation { time: at("2026-01-01T00:00:00Z"), locked: false };
        assert!(revocation.matters_at(at("2026-01-01T12:59:59Z")));
        assert!(!revocation.matters_at(at("2026-01-01T13:00:00Z")));
    }
}
