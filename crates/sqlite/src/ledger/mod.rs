//! The ledger that stands beside rows of every kind: the audit log and the idempotency records, written in the transaction
//! of the change itself. Whoever uses it has the tables `audit_events` and `idempotency_records` in the schema.

pub mod audit;
mod idempotency;

use kombify_core::{Change, Ids};
use rusqlite::Transaction;

/// One write under way: what every statement of it has at hand.
pub struct Write<'a> {
    /// The transaction that holds the effect, its audit row and its idempotency record.
    pub transaction: &'a Transaction<'a>,
    /// What is done, by whom, and when.
    pub change: &'a Change,
    /// Where the audit row's id comes from.
    pub ids: &'a dyn Ids,
}

impl Write<'_> {
    /// When the change is made, as columns hold it.
    pub fn now(&self) -> i64 {
        self.change.time.as_microsecond()
    }
}
