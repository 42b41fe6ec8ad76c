//! One write under way.

use kombify_core::{Change, Ids};
use rusqlite::Transaction;

/// What every statement of a write has at hand.
pub(crate) struct Write<'a> {
    /// The transaction that holds the effect, its audit row and its idempotency record.
    pub(crate) transaction: &'a Transaction<'a>,
    /// What is done, by whom, and when.
    pub(crate) change: &'a Change,
    /// Where the audit row's id comes from.
    pub(crate) ids: &'a dyn Ids,
}

impl Write<'_> {
    /// When the change is made, as columns hold it.
    pub(crate) fn now(&self) -> i64 {
        self.change.time.as_microsecond()
    }
}
