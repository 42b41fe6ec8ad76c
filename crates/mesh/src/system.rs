//! The system's own time and randomness: made once, in `main`, and handed down.

use aws_lc_rs::rand;
use jiff::Timestamp;
use kombify_core::{Clock, Ids};

/// The system's clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "the one place that asks the system")]
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }
}

/// The system's randomness.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemIds;

impl Ids for SystemIds {
    #[expect(clippy::expect_used, reason = "without randomness there is no safe way on")]
    fn fill(&self, bytes: &mut [u8]) {
        rand::fill(bytes).expect("the system has randomness");
    }
}
