//! From columns to words.

use std::fmt::Display;
use std::str::FromStr;

use jiff::Timestamp;
use kombify_core::{Etag, PlanGrant};
use rusqlite::types::Type;
use rusqlite::{Error, Result, Row};

/// The text of a column as the word that it stands for.
///
/// # Errors
/// - if it is none: no code of ours wrote it.
pub fn word<T: FromStr<Err: Display>>(row: &Row<'_>, column: &str) -> Result<T> {
    read(column, &row.get::<_, String>(column)?)
}

/// The same for a column that may be NULL.
///
/// # Errors
/// - if it is none: no code of ours wrote it.
pub fn word_or_none<T: FromStr<Err: Display>>(row: &Row<'_>, column: &str) -> Result<Option<T>> {
    row.get::<_, Option<String>>(column)?.map(|text| read(column, &text)).transpose()
}

/// A time.
///
/// # Errors
/// - if it is none: no code of ours wrote it.
pub fn time(row: &Row<'_>, column: &str) -> Result<Timestamp> {
    moment(column, row.get(column)?)
}

/// The mark of the row's version.
///
/// # Errors
/// - if it is none: no code of ours wrote it.
pub fn etag(row: &Row<'_>) -> Result<Etag> {
    row.get("version").map(Etag::of)
}

/// The grant of an organisation, from `plan` and `plan_end_time`.
///
/// # Errors
/// - if it is none: no code of ours wrote it.
pub fn grant(row: &Row<'_>) -> Result<Option<PlanGrant>> {
    let (plan, end_time) = (word_or_none(row, "plan")?, row.get::<_, Option<i64>>("plan_end_time")?);
    let Some((plan, end_time)) = plan.zip(end_time) else { return Ok(None) };
    Ok(Some(PlanGrant { plan, end_time: moment("plan_end_time", end_time)? }))
}

/// The fault of a row that holds what no code of ours wrote.
pub fn unreadable(column: &str, cause: &dyn Display) -> Error {
    Error::FromSqlConversionFailure(0, Type::Text, format!("{column}: {cause}").into())
}

fn read<T: FromStr<Err: Display>>(column: &str, text: &str) -> Result<T> {
    text.parse().map_err(|cause| unreadable(column, &cause))
}

fn moment(column: &str, microseconds: i64) -> Result<Timestamp> {
    Timestamp::from_microsecond(microseconds).map_err(|cause| unreadable(column, &cause))
}
