//! Entitlements of plans and organisations.

use std::collections::BTreeSet;

use kombify_core::flag::{Entitled, Entitlements, bounds};
use kombify_core::page::Position;
use kombify_core::{Error, Listed, OrgId, Page, Plan, Result};
use kombify_sqlite::ledger::Write;
use kombify_sqlite::query::Start;
use kombify_sqlite::{column, query};
use rusqlite::{Connection, Row, named_params};

use super::refuse_beyond;

pub(super) fn list(connection: &Connection, page: &Page) -> Result<Listed<Entitlements>> {
    let start = Start::of(page);
    let sets = query::rows(
        connection,
        "SELECT kind, owner, entitlements, create_time
           FROM entitlements
          WHERE (create_time, kind || ' ' || owner) < (:time, :id)
          ORDER BY create_time DESC, kind || ' ' || owner DESC
          LIMIT :limit",
        named_params! { ":time": start.time, ":id": start.id, ":limit": start.limit },
        |row| Ok((column::time(row, "create_time")?, entitlements(row)?)),
    )?;
    let Listed { items, next_cursor, limit } = page.cut(sets, |(create_time, set)| Position {
        create_time: *create_time,
        id: format!("{} {}", set.owner.kind(), set.owner.owner()),
    });
    Ok(Listed { items: items.into_iter().map(|(_, set)| set).collect(), next_cursor, limit })
}

pub(super) fn find(connection: &Connection, owner: &Entitled) -> Result<Option<String>> {
    query::row(
        connection,
        "SELECT entitlements
           FROM entitlements
          WHERE kind = :kind AND owner = :owner",
        named_params! { ":kind": owner.kind(), ":owner": owner.owner() },
        |row| row.get("entitlements"),
    )
}

pub(super) fn put(write: &Write<'_>, owner: &Entitled, entitlements: &str) -> Result<()> {
    query::execute(
        write.transaction,
        "INSERT INTO entitlements (kind, owner, entitlements, create_time)
         VALUES (:kind, :owner, :entitlements, :now)
         ON CONFLICT (kind, owner)
         DO UPDATE SET entitlements = excluded.entitlements",
        named_params! {
            ":kind": owner.kind(),
            ":owner": owner.owner(),
            ":entitlements": entitlements,
            ":now": write.now(),
        },
    )
    .map(drop)
}

pub(super) fn refuse_a_stranger(write: &Write<'_>, owner: &Entitled) -> Result<()> {
    let Entitled::Organisation(id) = owner else { return Ok(()) };
    let seen = query::exists(
        write.transaction,
        "SELECT 1
           FROM organisations
          WHERE org_id = :org_id",
        named_params! { ":org_id": id.as_str() },
    )?;
    if seen { Ok(()) } else { Err(Error::not_found("organisation", id)) }
}

pub(super) fn refuse_too_many(write: &Write<'_>) -> Result<()> {
    refuse_beyond(
        write,
        "SELECT COUNT(*) AS count,
                COALESCE(SUM(octet_length(owner) + octet_length(entitlements)), 0) AS bytes
           FROM entitlements
          WHERE kind = 'organisation' AND entitlements <> '[]'",
        ("organisations with entitlements", bounds::ORGANISATIONS),
        ("their entitlements", bounds::ENTITLEMENTS_BYTES),
    )
}

pub(super) fn entitlements(row: &Row<'_>) -> rusqlite::Result<Entitlements> {
    let kind: String = row.get("kind")?;
    let owner = match kind.as_str() {
        "plan" => Entitled::Plan(column::word::<Plan>(row, "owner")?),
        "organisation" => Entitled::Organisation(column::word::<OrgId>(row, "owner")?),
        other => return Err(column::unreadable("kind", &other)),
    };
    let text: String = row.get("entitlements")?;
    let entitlements: BTreeSet<String> =
        serde_json::from_str(&text).map_err(|cause| column::unreadable("entitlements", &cause))?;
    Ok(Entitlements { owner, entitlements })
}
