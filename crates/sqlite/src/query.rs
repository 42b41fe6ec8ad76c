//! Statements, and what lists have in common.

use crate::fault::internal;
use kombify_core::{Page, Result};
use rusqlite::{Connection, OptionalExtension, Params, Row};

/// Every row of a query.
///
/// # Errors
/// - what [`internal`] makes of SQLite's fault.
pub fn rows<T>(
    connection: &Connection,
    sql: &str,
    params: impl Params,
    map: impl FnMut(&Row<'_>) -> rusqlite::Result<T>,
) -> Result<Vec<T>> {
    let mut statement = connection.prepare_cached(sql).map_err(internal)?;
    let rows = statement.query_map(params, map).map_err(internal)?;
    rows.collect::<rusqlite::Result<Vec<T>>>().map_err(internal)
}

/// The one row of a query, if there is one.
///
/// # Errors
/// - what [`internal`] makes of SQLite's fault.
pub fn row<T>(
    connection: &Connection,
    sql: &str,
    params: impl Params,
    map: impl FnOnce(&Row<'_>) -> rusqlite::Result<T>,
) -> Result<Option<T>> {
    let mut statement = connection.prepare_cached(sql).map_err(internal)?;
    statement.query_row(params, map).optional().map_err(internal)
}

/// Whether a query has a row.
///
/// # Errors
/// - what [`internal`] makes of SQLite's fault.
pub fn exists(connection: &Connection, sql: &str, params: impl Params) -> Result<bool> {
    let mut statement = connection.prepare_cached(sql).map_err(internal)?;
    statement.exists(params).map_err(internal)
}

/// Runs a statement that gives no rows; its fault is still SQLite's, so that a constraint can be told by name.
///
/// # Errors
/// - SQLite's own.
pub fn attempt(connection: &Connection, sql: &str, params: impl Params) -> rusqlite::Result<usize> {
    connection.prepare_cached(sql)?.execute(params)
}

/// Runs a statement that gives no rows.
///
/// # Errors
/// - what [`internal`] makes of SQLite's fault.
pub fn execute(connection: &Connection, sql: &str, params: impl Params) -> Result<usize> {
    attempt(connection, sql, params).map_err(internal)
}

/// Where a page begins and how many rows are read, for `(create_time, id) < (:time, :id) ... LIMIT :limit`.
pub struct Start {
    /// Before this moment, in microseconds.
    pub time: i64,
    /// Or at it, before this id.
    pub id: String,
    /// One row more than the page holds.
    pub limit: i64,
}

impl Start {
    /// Where `page` begins.
    pub fn of(page: &Page) -> Self {
        // No row is of the last microsecond there is: everything lies behind it.
        let (time, id) = page.after.as_ref().map_or_else(
            || (i64::MAX, String::new()),
            |after| (after.create_time.as_microsecond(), after.id.clone()),
        );
        // The row too many says that there is a next page.
        Self { time, id, limit: i64::from(page.limit) + 1 }
    }
}

/// The pattern for `LIKE :search ESCAPE '\'` that finds `search` anywhere. LIKE ignores the case of ASCII letters
/// only.
pub fn containing(search: &str) -> String {
    let mut pattern = String::with_capacity(search.len() + 2);
    pattern.push('%');
    for letter in search.chars() {
        if matches!(letter, '%' | '_' | '\\') {
            pattern.push('\\');
        }
        pattern.push(letter);
    }
    pattern.push('%');
    pattern
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_search_finds_its_own_letters_only() {
        assert_eq!(containing(""), "%%");
        assert_eq!(containing("a"), "%a%");
        assert_eq!(containing(r"100%_\"), r"%100\%\_\\%");
    }
}
