//! The outbox: that a subject changed, for each module that has to know, written in the transaction of the change.
//!
//! What is pushed is the subject as it is then. Rows go when the module has acknowledged them; their numbers are given
//! once, so that the highest one is the version of everything.

use kombify_core::sync::SyncKind;
use kombify_core::{OrgId, Result, Sub, TenantId};
use kombify_sqlite::ledger::Write;
use kombify_sqlite::query;
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

/// Tells the instance on which the tenant has its place, connected or not.
pub(crate) fn tenant_changed(write: &Write<'_>, id: TenantId) -> Result<()> {
    query::execute(
        write.transaction,
        "INSERT INTO outbox (module, instance, kind, subject, create_time)
         SELECT 'stack', instance_id, :kind, tenant_id, :now
           FROM tenants
          WHERE tenant_id = :tenant_id",
        named_params! {
            ":kind": SyncKind::Tenants.as_str(),
            ":tenant_id": id.to_string(),
            ":now": write.now(),
        },
    )
    .map(drop)
}

/// Tells the instances on which the owner's tenants have their places.
pub(crate) fn owner_changed(write: &Write<'_>, owner: &OrgId) -> Result<()> {
    query::execute(
        write.transaction,
        "INSERT INTO outbox (module, instance, kind, subject, create_time)
         SELECT 'stack', instance_id, :kind, tenant_id, :now
           FROM tenants
          WHERE owner = :owner",
        named_params! {
            ":kind": SyncKind::Tenants.as_str(),
            ":owner": owner.as_str(),
            ":now": write.now(),
        },
    )
    .map(drop)
}

/// Tells every module that revocations are pushed to. Answers with the version that all of them will acknowledge: who
/// connects later gets everything.
pub(crate) fn revocation_changed(write: &Write<'_>, sub: &Sub) -> Result<u32> {
    query::execute(
        write.transaction,
        "INSERT INTO outbox (module, instance, kind, subject, create_time)
         SELECT module, instance, kind, :sub, :now
           FROM sync_streams
          WHERE kind = :kind
          ORDER BY module, instance",
        named_params! {
            ":kind": SyncKind::Revocations.as_str(),
            ":sub": sub.as_str(),
            ":now": write.now(),
        },
    )?;
    latest(write.transaction)
}

/// Takes away every row about a tenant that is gone.
pub(crate) fn forget_tenant(write: &Write<'_>, id: TenantId) -> Result<()> {
    query::execute(
        write.transaction,
        "DELETE FROM outbox
          WHERE kind = :kind AND subject = :tenant_id",
        named_params! { ":kind": SyncKind::Tenants.as_str(), ":tenant_id": id.to_string() },
    )
    .map(drop)
}
