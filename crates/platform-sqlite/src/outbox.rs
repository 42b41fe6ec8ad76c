//! The outbox: that a subject changed, for each module that has to know, written in the transaction of the change.
//!
//! What is pushed is the subject as it is then: a subject has one row for each module, that of its last change, with the
//! time of the first that the module does not have. Rows go when the module has acknowledged them; their numbers are given
//! once, so that the highest one is the version of everything.

use kombify_core::sync::SyncKind;
use kombify_core::{OrgId, Result, Sub, TenantId};
use kombify_sqlite::ledger::Write;
use kombify_sqlite::{column, query};
use rusqlite::{Connection, named_params};

/// The highest version that was ever given; 0 before the first one.
pub(crate) fn latest(connection: &Connection) -> Result<u32> {
    let latest = query::row(
        connection,
        "SELECT seq
           FROM sqlite_sequence
          WHERE name = 'outbox'",
        (),
        |row| row.get("seq"),
    )?;
    Ok(latest.unwrap_or_default())
}

/// Tells the instance on which the tenant has its place, connected or not, and who is told of organisations.
pub(crate) fn tenant_changed(write: &Write<'_>, id: TenantId) -> Result<()> {
    tell_instance(write, id)?;
    home_changed(write, id)
}

/// Tells the instances on which the owner's tenants have their places, and who is told of organisations.
pub(crate) fn owner_changed(write: &Write<'_>, owner: &OrgId) -> Result<()> {
    let tenants = query::rows(
        write.transaction,
        "SELECT tenant_id
           FROM tenants
          WHERE owner = :owner
          ORDER BY tenant_id",
        named_params! { ":owner": owner.as_str() },
        |row| column::word(row, "tenant_id"),
    )?;
    tenants.into_iter().try_for_each(|id| tell_instance(write, id))?;
    tell_streams(write, SyncKind::Organisations, owner.as_str())
}

/// Tells who is told of organisations that the tenant of one has changed, or is about to be gone.
fn home_changed(write: &Write<'_>, id: TenantId) -> Result<()> {
    let owner = query::row(
        write.transaction,
        "SELECT owner
           FROM tenants
          WHERE tenant_id = :tenant_id",
        named_params! { ":tenant_id": id.to_string() },
        |row| row.get::<_, Option<String>>("owner"),
    )?;
    owner.flatten().map_or(Ok(()), |owner| tell_streams(write, SyncKind::Organisations, &owner))
}

/// Tells the instance on which the tenant has its place, connected or not.
fn tell_instance(write: &Write<'_>, id: TenantId) -> Result<()> {
    query::execute(
        write.transaction,
        "INSERT INTO outbox (module, instance, kind, subject, create_time)
         SELECT 'stack', instance_id, :kind, tenant_id,
                COALESCE((SELECT MIN(create_time)
                            FROM outbox
                           WHERE kind = :kind AND subject = :tenant_id AND module = 'stack'
                             AND instance = instance_id), :now)
           FROM tenants
          WHERE tenant_id = :tenant_id",
        named_params! {
            ":kind": SyncKind::Tenants.as_str(),
            ":tenant_id": id.to_string(),
            ":now": write.now(),
        },
    )?;
    keep_last(write, SyncKind::Tenants, &id.to_string())
}

/// Tells every module that revocations are pushed to. Answers with the version that all of them will acknowledge.
pub(crate) fn revocation_changed(write: &Write<'_>, sub: &Sub) -> Result<u32> {
    tell_streams(write, SyncKind::Revocations, sub.as_str())?;
    latest(write.transaction)
}

/// Tells every module that the kind is pushed to: who connects later gets everything.
fn tell_streams(write: &Write<'_>, kind: SyncKind, subject: &str) -> Result<()> {
    query::execute(
        write.transaction,
        "INSERT INTO outbox (module, instance, kind, subject, create_time)
         SELECT module, instance, kind, :subject,
                COALESCE((SELECT MIN(create_time)
                            FROM outbox
                           WHERE kind = :kind AND subject = :subject AND module = sync_streams.module
                             AND instance = sync_streams.instance), :now)
           FROM sync_streams
          WHERE kind = :kind
          ORDER BY module, instance",
        named_params! { ":kind": kind.as_str(), ":subject": subject, ":now": write.now() },
    )?;
    keep_last(write, kind, subject)
}

/// Takes away the rows about earlier changes of the subject: what is pushed is the subject as it is.
fn keep_last(write: &Write<'_>, kind: SyncKind, subject: &str) -> Result<()> {
    query::execute(
        write.transaction,
        "DELETE FROM outbox
          WHERE kind = :kind AND subject = :subject
            AND seq < (SELECT MAX(seq)
                         FROM outbox AS last
                        WHERE last.kind = :kind AND last.subject = :subject
                          AND last.module = outbox.module AND last.instance = outbox.instance)",
        named_params! { ":kind": kind.as_str(), ":subject": subject },
    )
    .map(drop)
}

/// Lets versions go on behind `version`, which is not below the highest one.
pub(crate) fn go_on_behind(write: &Write<'_>, version: u32) -> Result<()> {
    let known = query::execute(
        write.transaction,
        "UPDATE sqlite_sequence
            SET seq = :version
          WHERE name = 'outbox'",
        named_params! { ":version": version },
    )?;
    if known > 0 {
        return Ok(());
    }
    query::execute(
        write.transaction,
        "INSERT INTO sqlite_sequence (name, seq)
         VALUES ('outbox', :version)",
        named_params! { ":version": version },
    )
    .map(drop)
}

/// Takes away every row about a tenant that is about to be gone as if it never was; who is told of organisations hears
/// that its owner has it no more.
pub(crate) fn forget_tenant(write: &Write<'_>, id: TenantId) -> Result<()> {
    query::execute(
        write.transaction,
        "DELETE FROM outbox
          WHERE kind = :kind AND subject = :tenant_id",
        named_params! { ":kind": SyncKind::Tenants.as_str(), ":tenant_id": id.to_string() },
    )?;
    home_changed(write, id)
}
