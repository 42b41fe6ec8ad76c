//! From SQLite's faults to ours.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use kombify_core::{Error, Result};
use rusqlite::ErrorCode;

/// When to try again where a turn did not come: turns are short.
pub(crate) const SOON: Duration = Duration::from_secs(1);

/// When to try again where storage fails: somebody has to make room first.
const AFTER_REPAIR: Duration = Duration::from_secs(30);

/// The fault that a caller sees for what SQLite says: not now where another holds the file or storage is full, else
/// ours.
pub fn internal(fault: rusqlite::Error) -> Error {
    match fault.sqlite_error_code() {
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
            Error::unavailable("the database is busy", SOON)
        }
        Some(ErrorCode::DiskFull | ErrorCode::SystemIoFailure) => {
            // The answer keeps no cause, and whoever has to make room needs it.
            tracing::error!(cause = %fault, "storage is full or failing");
            Error::unavailable("storage is full or failing", AFTER_REPAIR)
        }
        _ => Error::internal(fault),
    }
}

/// The constraint that a statement violated, as SQLite names it: "tenants.slug" for a unique column or index of
/// columns, the name of a CHECK, the name of an index of expressions. `None` for every other fault.
pub fn constraint(fault: &rusqlite::Error) -> Option<&str> {
    let rusqlite::Error::SqliteFailure(cause, Some(message)) = fault else { return None };
    if cause.code != ErrorCode::ConstraintViolation {
        return None;
    }
    let (_, name) = message.split_once(" constraint failed: ")?;
    Some(name.strip_prefix("index '").and_then(|name| name.strip_suffix('\'')).unwrap_or(name))
}

/// What `f` says; a panic in it is a fault of ours.
pub(crate) fn catch<T>(f: impl FnOnce() -> Result<T>) -> Result<T> {
    // What `f` touched is a transaction, which its own unwinding rolls back.
    catch_unwind(AssertUnwindSafe(f)).unwrap_or_else(|panic| {
        Err(Error::internal(format!("a panic inside a transaction: {}", said(panic.as_ref()))))
    })
}

fn said(panic: &(dyn Any + Send)) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("it said nothing")
}

#[cfg(test)]
mod tests {
    use kombify_core::Code;
    use rusqlite::{Connection, ffi};

    use super::*;

    #[test]
    fn a_violated_constraint_is_named() {
        let connection = Connection::open_in_memory().unwrap();
        connection
            .execute_batch(
                "CREATE TABLE rooms (name TEXT, beds INTEGER, CONSTRAINT rooms_beds CHECK (beds > 0)) STRICT;
                 CREATE UNIQUE INDEX rooms_name ON rooms (name);
                 CREATE UNIQUE INDEX rooms_half ON rooms (beds / 2);
                 INSERT INTO rooms VALUES ('attic', 4);",
            )
            .unwrap();
        for (sql, name) in [
            ("INSERT INTO rooms VALUES ('attic', 8)", Some("rooms.name")),
            ("INSERT INTO rooms VALUES ('cellar', 0)", Some("rooms_beds")),
            ("INSERT INTO rooms VALUES ('cellar', 5)", Some("rooms_half")),
            ("INSERT INTO nowhere VALUES (1)", None),
        ] {
            let fault = connection.execute(sql, ()).unwrap_err();
            assert_eq!(constraint(&fault), name, "{fault}");
        }
    }

    #[test]
    fn what_passes_is_unavailable_and_the_rest_is_internal() {
        for (code, expected) in [
            (ffi::SQLITE_BUSY, Code::ServiceUnavailable),
            (ffi::SQLITE_LOCKED, Code::ServiceUnavailable),
            (ffi::SQLITE_FULL, Code::ServiceUnavailable),
            (ffi::SQLITE_IOERR, Code::ServiceUnavailable),
            (ffi::SQLITE_CORRUPT, Code::InternalError),
            (ffi::SQLITE_CONSTRAINT, Code::InternalError),
        ] {
            let fault = internal(rusqlite::Error::SqliteFailure(ffi::Error::new(code), None));
            assert_eq!(fault.code(), expected, "{code}");
            assert_eq!(fault.retry_after().is_some(), expected == Code::ServiceUnavailable, "{code}");
        }
    }
}
