//! Columns that may be NULL.

use jiff::Timestamp;
use kombify_sqlite::column;
use rusqlite::{Result, Row};

/// A time, where there is one.
pub(crate) fn time(row: &Row<'_>, name: &str) -> Result<Option<Timestamp>> {
    row.get::<_, Option<i64>>(name)?.map(|_| column::time(row, name)).transpose()
}
