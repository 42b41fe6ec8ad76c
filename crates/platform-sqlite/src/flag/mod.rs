//! Flags, overrides and entitlements: one set, of which every change makes a new version.

mod entitlement;

use std::collections::BTreeMap;

use async_trait::async_trait;
use kombify_core::flag::{Entitled, Entitlements, Flag, FlagChange, FlagKey, FlagStore, bounds};
use kombify_core::page::Position;
use kombify_core::placed::PlacedFlags;
use kombify_core::{Change, Error, Etag, Listed, Page, Result, Sub};
use kombify_sqlite::ledger::Write;
use kombify_sqlite::query::Start;
use kombify_sqlite::{column, query};
use rusqlite::{Connection, Row, named_params};

use crate::PlatformSqlite;

macro_rules! select {
    ($rest:literal) => {
        concat!(
            "SELECT key, definition, version, create_time, update_time
               FROM flags
            ",
            $rest
        )
    };
}

#[async_trait]
impl FlagStore for PlatformSqlite {
    async fn find(&self, key: &FlagKey) -> Result<Option<Flag>> {
        let key = key.clone();
        self.db.read(move |connection| find(connection, &key)).await
    }

    async fn list(&self, page: &Page) -> Result<Listed<Flag>> {
        let page = page.clone();
        self.db.read(move |connection| list(connection, &page)).await
    }

    async fn set(
        &self,
        change: &Change,
        key: &FlagKey,
        etag: Option<Etag>,
        definition: &str,
        reason: &str,
    ) -> Result<Flag> {
        let (key, definition, reason) = (key.clone(), definition.to_owned(), reason.to_owned());
        self.write(change, move |write| {
            let before = find(write.transaction, &key)?;
            match &before {
                Some(flag) => Etag::check(etag, flag.etag)?,
                // No version is the present one of a flag that is not there; none is the 0th.
                None => Etag::check(etag, Etag::of(0))?,
            }
            let before = before.map(|flag| flag.definition).unwrap_or_default();
            if before != definition {
                let version = next_version(write, key.as_str(), &before, &definition, &reason)?;
                put(write, &key, &definition, version)?;
                refuse_too_many_flags(write)?;
            }
            write.audit(&key, None, [("reason", reason)])?;
            find(write.transaction, &key)?.ok_or_else(|| Error::internal("a flag that was just set is gone"))
        })
        .await
    }

    async fn delete(&self, change: &Change, key: &FlagKey, etag: Option<Etag>, reason: &str) -> Result<()> {
        let (key, reason) = (key.clone(), reason.to_owned());
        self.write(change, move |write| {
            let flag = find(write.transaction, &key)?.ok_or_else(|| Error::not_found("flag", &key))?;
            Etag::check(etag, flag.etag)?;
            next_version(write, key.as_str(), &flag.definition, "", &reason)?;
            query::execute(
                write.transaction,
                "DELETE FROM flags
                  WHERE key = :key",
                named_params! { ":key": key.as_str() },
            )?;
            write.audit(&key, None, [("reason", reason)])
        })
        .await
    }

    async fn changes(&self, key: Option<&FlagKey>, page: &Page) -> Result<Listed<FlagChange>> {
        let (key, page) = (key.cloned(), page.clone());
        self.db.read(move |connection| changes(connection, key.as_ref(), &page)).await
    }

    async fn overrides(&self, sub: &Sub) -> Result<String> {
        let sub = sub.clone();
        let found = self.db.read(move |connection| overrides(connection, &sub)).await?;
        Ok(found.unwrap_or_else(|| NO_OVERRIDES.to_owned()))
    }

    async fn set_overrides(&self, change: &Change, sub: &Sub, flags: &str, reason: &str) -> Result<String> {
        let (sub, flags, reason) = (sub.clone(), flags.to_owned(), reason.to_owned());
        self.write(change, move |write| {
            let before = overrides(write.transaction, &sub)?.unwrap_or_default();
            let after = if flags == NO_OVERRIDES { "" } else { &flags };
            if before != after {
                next_version(write, &format!("overrides of {sub}"), &before, after, &reason)?;
                put_overrides(write, &sub, after)?;
                refuse_too_many_overrides(write)?;
            }
            write.audit(&sub, None, [("reason", reason)])?;
            Ok(flags)
        })
        .await
    }

    async fn entitlements(&self, page: &Page) -> Result<Listed<Entitlements>> {
        let page = page.clone();
        self.db.read(move |connection| entitlement::list(connection, &page)).await
    }

    async fn set_entitlements(
        &self,
        change: &Change,
        set: &Entitlements,
        reason: &str,
    ) -> Result<Entitlements> {
        let (set, reason) = (set.clone(), reason.to_owned());
        self.write(change, move |write| {
            let Entitlements { owner, entitlements } = &set;
            entitlement::refuse_a_stranger(write, owner)?;
            let before = entitlement::find(write.transaction, owner)?.unwrap_or_default();
            let after = serde_json::to_string(entitlements).map_err(Error::internal)?;
            if before != after {
                let subject = format!("entitlements of {}", owner.owner());
                next_version(write, &subject, &before, &after, &reason)?;
                entitlement::put(write, owner, &after)?;
                entitlement::refuse_too_many(write)?;
            }
            write.audit(&owner.owner(), None, [("reason", reason)])?;
            Ok(set)
        })
        .await
    }
}

/// The overrides of a user who has none.
const NO_OVERRIDES: &str = "{}";

/// The whole set, as it is pushed.
pub(crate) fn placed(connection: &Connection) -> Result<PlacedFlags> {
    let mut plans = BTreeMap::new();
    let mut organisations = BTreeMap::new();
    let sets = query::rows(
        connection,
        "SELECT kind, owner, entitlements
           FROM entitlements
          WHERE entitlements <> '[]'",
        (),
        entitlement::entitlements,
    )?;
    for Entitlements { owner, entitlements } in sets {
        match owner {
            Entitled::Plan(plan) => drop(plans.insert(plan, entitlements)),
            Entitled::Organisation(id) => drop(organisations.insert(id, entitlements)),
        }
    }
    let overrides = query::rows(
        connection,
        "SELECT sub, flags
           FROM flag_overrides",
        (),
        |row| Ok((column::word(row, "sub")?, row.get("flags")?)),
    )?;
    Ok(PlacedFlags {
        version: version(connection)?,
        definitions: definitions(connection)?,
        plans,
        organisations,
        overrides: overrides.into_iter().collect(),
    })
}

/// The definitions in flagd's format, in the order of their keys.
fn definitions(connection: &Connection) -> Result<String> {
    let flags = query::rows(connection, select!("ORDER BY key"), (), flag)?;
    // A key is of letters that JSON takes as they are.
    let flags: Vec<String> =
        flags.into_iter().map(|Flag { key, definition, .. }| format!(r#""{key}":{definition}"#)).collect();
    Ok(format!(r#"{{"flags":{{{}}}}}"#, flags.join(",")))
}

/// The version of the set.
pub(crate) fn version(connection: &Connection) -> Result<u32> {
    let version = query::row(
        connection,
        "SELECT version
           FROM flag_set",
        (),
        |row| row.get("version"),
    )?;
    version.ok_or_else(|| Error::internal("the set of flags has no version"))
}

/// Makes the next version of the set, and notes what it is for.
fn next_version(write: &Write<'_>, subject: &str, before: &str, after: &str, reason: &str) -> Result<u32> {
    query::execute(
        write.transaction,
        "UPDATE flag_set
            SET version = version + 1",
        (),
    )?;
    let version = version(write.transaction)?;
    query::execute(
        write.transaction,
        "INSERT INTO flag_changes (version, subject, before_json, after_json, sub, reason, create_time)
         VALUES (:version, :subject, :before_json, :after_json, :sub, :reason, :now)",
        named_params! {
            ":version": version,
            ":subject": subject,
            ":before_json": before,
            ":after_json": after,
            ":sub": write.change.actor.sub.as_ref().map(Sub::as_str),
            ":reason": reason,
            ":now": write.now(),
        },
    )?;
    Ok(version)
}

fn find(connection: &Connection, key: &FlagKey) -> Result<Option<Flag>> {
    query::row(connection, select!("WHERE key = :key"), named_params! { ":key": key.as_str() }, flag)
}

fn put(write: &Write<'_>, key: &FlagKey, definition: &str, version: u32) -> Result<()> {
    query::execute(
        write.transaction,
        "INSERT INTO flags (key, definition, version, create_time, update_time)
         VALUES (:key, :definition, :version, :now, :now)
         ON CONFLICT (key)
         DO UPDATE SET definition = excluded.definition, version = excluded.version,
                       update_time = excluded.update_time",
        named_params! {
            ":key": key.as_str(),
            ":definition": definition,
            ":version": version,
            ":now": write.now(),
        },
    )
    .map(drop)
}

fn list(connection: &Connection, page: &Page) -> Result<Listed<Flag>> {
    let start = Start::of(page);
    let flags = query::rows(
        connection,
        select!(
            "WHERE (create_time, key) < (:time, :id)
             ORDER BY create_time DESC, key DESC
             LIMIT :limit"
        ),
        named_params! { ":time": start.time, ":id": start.id, ":limit": start.limit },
        flag,
    )?;
    Ok(page.cut(flags, |flag| Position { create_time: flag.create_time, id: flag.key.to_string() }))
}

fn changes(connection: &Connection, key: Option<&FlagKey>, page: &Page) -> Result<Listed<FlagChange>> {
    let start = Start::of(page);
    // The id of the start is empty on the first page, which is 0 as a number.
    let changes = query::rows(
        connection,
        "SELECT version, subject, before_json, after_json, sub, reason, create_time
           FROM flag_changes
          WHERE (:subject IS NULL OR subject = :subject)
            AND (create_time, version) < (:time, CAST(:id AS INTEGER))
          ORDER BY create_time DESC, version DESC
          LIMIT :limit",
        named_params! {
            ":subject": key.map(FlagKey::as_str),
            ":time": start.time,
            ":id": start.id,
            ":limit": start.limit,
        },
        flag_change,
    )?;
    Ok(page
        .cut(changes, |change| Position { create_time: change.create_time, id: change.version.to_string() }))
}

fn overrides(connection: &Connection, sub: &Sub) -> Result<Option<String>> {
    query::row(
        connection,
        "SELECT flags
           FROM flag_overrides
          WHERE sub = :sub",
        named_params! { ":sub": sub.as_str() },
        |row| row.get("flags"),
    )
}

/// Puts the overrides in the place of those that the user has; empty: in no place.
fn put_overrides(write: &Write<'_>, sub: &Sub, flags: &str) -> Result<()> {
    if flags.is_empty() {
        let whose = named_params! { ":sub": sub.as_str() };
        return query::execute(
            write.transaction,
            "DELETE FROM flag_overrides
              WHERE sub = :sub",
            whose,
        )
        .map(drop);
    }
    query::execute(
        write.transaction,
        "INSERT INTO flag_overrides (sub, flags)
         VALUES (:sub, :flags)
         ON CONFLICT (sub)
         DO UPDATE SET flags = excluded.flags",
        named_params! { ":sub": sub.as_str(), ":flags": flags },
    )
    .map(drop)
}

/// Gives the set as it is another version.
pub(crate) fn go_on_at(write: &Write<'_>, version: u32) -> Result<()> {
    query::execute(
        write.transaction,
        "UPDATE flag_set
            SET version = :version",
        named_params! { ":version": version },
    )
    .map(drop)
}

/// Counts the definitions as they are pushed, keys and commas too: they have to go into one message.
fn refuse_too_many_flags(write: &Write<'_>) -> Result<()> {
    refuse_beyond(
        write,
        "SELECT COUNT(*) AS count,
                COALESCE(SUM(octet_length(key) + octet_length(definition) + 4), 0) + 11 AS bytes
           FROM flags",
        ("flags", bounds::FLAGS),
        ("their definitions", bounds::DEFINITIONS_BYTES),
    )
}

fn refuse_too_many_overrides(write: &Write<'_>) -> Result<()> {
    refuse_beyond(
        write,
        "SELECT COUNT(*) AS count,
                COALESCE(SUM(octet_length(sub) + octet_length(flags)), 0) AS bytes
           FROM flag_overrides",
        ("users with overrides", bounds::OVERRIDES),
        ("their overrides", bounds::OVERRIDES_BYTES),
    )
}

/// Refuses a set that has become larger than one message: the write is undone with it.
fn refuse_beyond(
    write: &Write<'_>,
    sql: &str,
    (things, most): (&str, usize),
    (text, most_bytes): (&str, usize),
) -> Result<()> {
    let beyond = |there: u32, most: usize| usize::try_from(there).is_ok_and(|there| there > most);
    let counted = query::row(write.transaction, sql, (), |row| {
        Ok((row.get::<_, u32>("count")?, row.get::<_, u32>("bytes")?))
    })?;
    match counted {
        Some((count, _)) if beyond(count, most) => {
            Err(Error::Conflict(format!("there would be more than {most} {things}")))
        }
        Some((_, bytes)) if beyond(bytes, most_bytes) => {
            Err(Error::Conflict(format!("{text} would be more than {most_bytes} bytes")))
        }
        Some(_) | None => Ok(()),
    }
}

fn flag(row: &Row<'_>) -> rusqlite::Result<Flag> {
    Ok(Flag {
        key: column::word(row, "key")?,
        definition: row.get("definition")?,
        version: row.get("version")?,
        create_time: column::time(row, "create_time")?,
        update_time: column::time(row, "update_time")?,
        // Unlike a count of the row's own, the set's version never comes again for a flag that was deleted.
        etag: column::etag(row)?,
    })
}

fn flag_change(row: &Row<'_>) -> rusqlite::Result<FlagChange> {
    Ok(FlagChange {
        version: row.get("version")?,
        subject: row.get("subject")?,
        before: row.get("before_json")?,
        after: row.get("after_json")?,
        sub: column::word_or_none(row, "sub")?,
        reason: row.get("reason")?,
        create_time: column::time(row, "create_time")?,
    })
}
