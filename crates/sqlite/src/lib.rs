//! Floor 2: one SQLite file done well: opened, checked and migrated; one writer, many readers; backups.
//!
//! Refuses to know: whose rows these are, and what they mean, the [`ledger`] of changes aside. SQL comes in as closures,
//! and faults go out as [`kombify_core::Error`].

mod backup;
pub mod column;
mod database;
mod failpoint;
mod fault;
pub mod ledger;
mod open;
pub mod query;
mod readers;
mod writer;

pub use backup::backup;
pub use database::{Database, Options};
pub use fault::{constraint, internal};
pub use open::{Migration, OpenError, look};
