//! The set of flags that Admin pushes.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::str::FromStr;

use kombify_core::host::HeldSet;
use kombify_core::placed::PlacedFlags;
use kombify_core::{Error, Result};
use kombify_sqlite::ledger::Write;
use kombify_sqlite::{column, query};
use rusqlite::{Connection, Row, named_params};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// The set that is held.
pub(crate) fn find(connection: &Connection) -> Result<Option<HeldSet>> {
    query::row(
        connection,
        "SELECT version, definitions, plans, organisations, overrides, apply_time
           FROM flag_set",
        (),
        |row| {
            let flags = PlacedFlags {
                version: row.get("version")?,
                definitions: row.get("definitions")?,
                plans: map(row, "plans")?,
                organisations: map(row, "organisations")?,
                overrides: map(row, "overrides")?,
            };
            Ok(HeldSet { flags, apply_time: column::time(row, "apply_time")? })
        },
    )
}

/// Takes the set up, if it is newer than what is held, and answers with what is held.
pub(crate) fn apply(write: &Write<'_>, flags: &PlacedFlags) -> Result<HeldSet> {
    let PlacedFlags { version, definitions, plans, organisations, overrides } = flags;
    query::execute(
        write.transaction,
        "INSERT INTO flag_set (only, version, definitions, plans, organisations, overrides, apply_time)
         VALUES (1, :version, :definitions, :plans, :organisations, :overrides, :now)
         ON CONFLICT (only)
         DO UPDATE SET version = excluded.version, definitions = excluded.definitions, plans = excluded.plans,
                       organisations = excluded.organisations, overrides = excluded.overrides,
                       apply_time = excluded.apply_time
                 WHERE excluded.version > flag_set.version",
        named_params! {
            ":version": version,
            ":definitions": definitions,
            ":plans": json(plans)?,
            ":organisations": json(organisations)?,
            ":overrides": json(overrides)?,
            ":now": write.now(),
        },
    )?;
    find(write.transaction)?.ok_or_else(|| Error::internal("the set of flags is not there"))
}

/// The map as a JSON object.
fn json<K: Display, V: Serialize>(map: &BTreeMap<K, V>) -> Result<String> {
    let named: BTreeMap<String, &V> = map.iter().map(|(key, value)| (key.to_string(), value)).collect();
    serde_json::to_string(&named).map_err(Error::internal)
}

/// The JSON object of a column as a map.
fn map<K, V>(row: &Row<'_>, column: &str) -> rusqlite::Result<BTreeMap<K, V>>
where
    K: FromStr<Err: Display> + Ord,
    V: DeserializeOwned,
{
    let text: String = row.get(column)?;
    let named: BTreeMap<String, V> =
        serde_json::from_str(&text).map_err(|cause| column::unreadable(column, &cause))?;
    named
        .into_iter()
        .map(|(key, value)| Ok((key.parse().map_err(|cause| column::unreadable(column, &cause))?, value)))
        .collect()
}
