//! What is pushed next: the oldest changes, or a page of everything.
//!
//! A snapshot begins with its first page, which fixes the version of all of them: what changes from then on has a row
//! in the outbox behind it, and is pushed again as a change. The stream keeps that version, and whether the last page
//! was given out; so the acknowledgement of the last page is told from the others by what was given, not by what the
//! module says.

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};
use kombify_core::placed::{
    Basis, Founder, OrganisationPush, PlacedHome, PlacedOrganisation, PlacedTenant, Push, RevocationPush,
    TenantPush,
};
use kombify_core::revocation::KEPT_HOURS;
use kombify_core::revocation::UserRevocation;
use kombify_core::sync::{BATCH, SyncKind};
use kombify_core::{Error, OrgId, Result, ServiceIdentity, TenantId};
use kombify_sqlite::{column, query};
use rusqlite::{Connection, Row, Transaction, named_params};

use super::{Progress, progress};
use crate::{outbox, revocation};

/// What there is to push.
pub(super) enum Next<T> {
    /// The module has everything.
    Nothing,
    /// Everything anew.
    Snapshot,
    /// What changed.
    Changes(Push<T>),
}

macro_rules! select_tenant {
    ($rest:literal) => {
        concat!(
            "SELECT tenant_id, slug, tenants.name AS name, tenants.owner AS owner, plan, plan_end_time, generation,
                    founder, COALESCE(email, '') AS founder_email,
                    COALESCE(CASE display_name WHEN '' THEN users.name ELSE display_name END, '') AS founder_name,
                    CASE status
                        WHEN 'creating' THEN 'active'
                        WHEN 'erasing' THEN 'erased'
                        ELSE status
                    END AS placed_status,
                    tenants.create_time AS create_time
               FROM tenants
               JOIN organisations ON org_id = tenants.owner
               LEFT JOIN users ON sub = founder
              WHERE status <> 'erased' AND instance_id = :instance_id
            ",
            $rest
        )
    };
}

/// The tenants of the module's next push.
pub(super) fn changed_tenants(
    connection: &Connection,
    target: &ServiceIdentity,
) -> Result<Next<PlacedTenant>> {
    changes(connection, target, SyncKind::Tenants, |id| {
        query::row(
            connection,
            select_tenant!("AND tenant_id = :tenant_id"),
            named_params! { ":instance_id": target.instance, ":tenant_id": id },
            placed_tenant,
        )
    })
}

/// The organisations of the module's next push: also those of which there is nothing to know any more.
pub(super) fn changed_organisations(
    connection: &Connection,
    target: &ServiceIdentity,
) -> Result<Next<PlacedOrganisation>> {
    changes(connection, target, SyncKind::Organisations, |owner| {
        placed_organisation(connection, owner.parse().map_err(Error::internal)?).map(Some)
    })
}

/// The revocations of the module's next push.
pub(super) fn changed_revocations(
    connection: &Connection,
    target: &ServiceIdentity,
) -> Result<Next<UserRevocation>> {
    changes(connection, target, SyncKind::Revocations, |sub| {
        let sub = sub.parse().map_err(Error::internal)?;
        let found = revocation::of(connection, &sub)?;
        Ok(found.map(|revocation| UserRevocation { sub, revocation }))
    })
}

/// The oldest changes that the module does not have, each subject once and as it is now.
fn changes<T>(
    connection: &Connection,
    target: &ServiceIdentity,
    kind: SyncKind,
    find: impl Fn(&str) -> Result<Option<T>>,
) -> Result<Next<T>> {
    let Some(Progress { acknowledged_version: base_version, snapshot_due, .. }) =
        progress(connection, target, kind)?
    else {
        return Ok(Next::Nothing);
    };
    if snapshot_due {
        return Ok(Next::Snapshot);
    }
    let mut rows = query::rows(
        connection,
        "SELECT seq, subject
           FROM outbox
          WHERE module = :module AND instance = :instance AND kind = :kind AND seq > :acknowledged
          ORDER BY seq
          LIMIT :limit",
        named_params! {
            ":module": target.module,
            ":instance": target.instance,
            ":kind": kind.as_str(),
            ":acknowledged": base_version,
            ":limit": one_more(),
        },
        |row| Ok((row.get::<_, u32>("seq")?, row.get::<_, String>("subject")?)),
    )?;
    let more = rows.len() > BATCH;
    rows.truncate(BATCH);
    let Some(&(last, _)) = rows.last() else { return Ok(Next::Nothing) };
    // With its last change the module has everything: also up to the numbers that others got.
    let version = if more { last } else { outbox::latest(connection)? };
    let mut seen = BTreeSet::new();
    let mut items = Vec::new();
    for (_, subject) in &rows {
        if seen.insert(subject) {
            items.extend(find(subject)?);
        }
    }
    Ok(Next::Changes(Push { version, basis: Basis::Change { base_version }, items }))
}

/// A page of the tenants that have their place at the module.
pub(super) fn page_of_tenants(
    transaction: &Transaction<'_>,
    target: &ServiceIdentity,
    page: u32,
    after: Option<TenantId>,
) -> Result<Option<TenantPush>> {
    let tenants = query::rows(
        transaction,
        select_tenant!(
            "AND tenant_id > :after
           ORDER BY tenant_id
           LIMIT :limit"
        ),
        named_params! {
            ":instance_id": target.instance,
            ":after": after.map(|id| id.to_string()).unwrap_or_default(),
            ":limit": one_more(),
        },
        placed_tenant,
    )?;
    give(transaction, target, SyncKind::Tenants, page, tenants)
}

/// A page of the organisations that have a grant or a tenant.
pub(super) fn page_of_organisations(
    transaction: &Transaction<'_>,
    target: &ServiceIdentity,
    page: u32,
    after: Option<&OrgId>,
) -> Result<Option<OrganisationPush>> {
    let owners = query::rows(
        transaction,
        "SELECT org_id
           FROM organisations
          WHERE org_id > :after
            AND (plan IS NOT NULL
                 OR EXISTS (
                    SELECT 1
                      FROM tenants
                     WHERE owner = org_id AND status <> 'erasing'))
          ORDER BY org_id
          LIMIT :limit",
        named_params! { ":after": after.map(OrgId::as_str).unwrap_or_default(), ":limit": one_more() },
        |row| column::word(row, "org_id"),
    )?;
    let organisations =
        owners.into_iter().map(|owner| placed_organisation(transaction, owner)).collect::<Result<_>>()?;
    give(transaction, target, SyncKind::Organisations, page, organisations)
}

/// A page of the revocations that matter at `now`.
pub(super) fn page_of_revocations(
    transaction: &Transaction<'_>,
    target: &ServiceIdentity,
    page: u32,
    after: Option<&str>,
    now: Timestamp,
) -> Result<Option<RevocationPush>> {
    let kept = now.saturating_sub(SignedDuration::from_hours(KEPT_HOURS)).map_err(Error::internal)?;
    let revocations = query::rows(
        transaction,
        "SELECT sub, revoke_time, locked
           FROM revocations
          WHERE sub > :after
            AND (locked = 1 OR revoke_time > :kept)
          ORDER BY sub
          LIMIT :limit",
        named_params! {
            ":after": after.unwrap_or_default(),
            ":kept": kept.as_microsecond(),
            ":limit": one_more(),
        },
        |row| {
            let sub = column::word(row, "sub")?;
            Ok(revocation::revocation(row)?.map(|revocation| UserRevocation { sub, revocation }))
        },
    )?;
    give(transaction, target, SyncKind::Revocations, page, revocations.into_iter().flatten().collect())
}

/// Makes a page of one row more than it holds, and notes in the stream what was given; `None` if the module has no
/// such stream, or if the snapshot that the page is of was begun anew.
fn give<T>(
    transaction: &Transaction<'_>,
    target: &ServiceIdentity,
    kind: SyncKind,
    page: u32,
    mut items: Vec<T>,
) -> Result<Option<Push<T>>> {
    let Some(Progress { snapshot_version, .. }) = progress(transaction, target, kind)? else {
        return Ok(None);
    };
    let version = if page == 1 { Some(outbox::latest(transaction)?) } else { snapshot_version };
    let Some(version) = version else { return Ok(None) };
    let last = items.len() <= BATCH;
    items.truncate(BATCH);
    query::execute(
        transaction,
        "UPDATE sync_streams
            SET snapshot_due = 1, snapshot_version = :version, snapshot_last = :last
          WHERE module = :module AND instance = :instance AND kind = :kind",
        named_params! {
            ":module": target.module,
            ":instance": target.instance,
            ":kind": kind.as_str(),
            ":version": version,
            ":last": last,
        },
    )?;
    Ok(Some(Push { version, basis: Basis::Snapshot { page, last }, items }))
}

/// The row too many says that there is more.
fn one_more() -> i64 {
    i64::try_from(BATCH).unwrap_or(i64::MAX).saturating_add(1)
}

fn placed_tenant(row: &Row<'_>) -> rusqlite::Result<PlacedTenant> {
    Ok(PlacedTenant {
        id: column::word(row, "tenant_id")?,
        slug: column::word(row, "slug")?,
        name: row.get("name")?,
        owner: column::word(row, "owner")?,
        grant: column::grant(row)?,
        status: column::word(row, "placed_status")?,
        generation: row.get("generation")?,
        founder: Founder {
            sub: column::word(row, "founder")?,
            email: row.get("founder_email")?,
            name: row.get("founder_name")?,
        },
        create_time: column::time(row, "create_time")?,
    })
}

/// The organisation as it is now. A tenant that is being erased is none any more.
fn placed_organisation(connection: &Connection, owner: OrgId) -> Result<PlacedOrganisation> {
    let grant = query::row(
        connection,
        "SELECT plan, plan_end_time
           FROM organisations
          WHERE org_id = :org_id",
        named_params! { ":org_id": owner.as_str() },
        column::grant,
    )?;
    let tenants = query::rows(
        connection,
        "SELECT tenant_id, instance_id, CASE status WHEN 'creating' THEN 'active' ELSE status END AS placed_status
           FROM tenants
          WHERE owner = :org_id AND status <> 'erasing'
          ORDER BY tenant_id",
        named_params! { ":org_id": owner.as_str() },
        placed_home,
    )?;
    Ok(PlacedOrganisation { owner, grant: grant.flatten(), tenants })
}

fn placed_home(row: &Row<'_>) -> rusqlite::Result<PlacedHome> {
    Ok(PlacedHome {
        tenant: column::word(row, "tenant_id")?,
        instance: column::word(row, "instance_id")?,
        status: column::word(row, "placed_status")?,
    })
}
