//! The life of a tenant: suspended, deleted, erased; and what its instance says to that.

use jiff::SignedDuration;
use kombify_core::tenant::{Tenant, TenantMove, TenantStatus};
use kombify_core::{Error, Etag, Result, TenantId};
use kombify_sqlite::ledger::Write;
use kombify_sqlite::{column, query};
use rusqlite::named_params;

use super::get;
use crate::outbox;

/// How many tenants begin to be erased at once, so that no write is long.
const ERASED: u32 = 100;

pub(super) fn change_status(
    write: &Write<'_>,
    id: TenantId,
    etag: Option<Etag>,
    to: TenantMove,
    (reason, grace): (String, SignedDuration),
) -> Result<Tenant> {
    let tenant = get(write.transaction, id)?;
    Etag::check(etag, tenant.etag)?;
    match (to, tenant.status) {
        (TenantMove::Suspend, TenantStatus::Creating | TenantStatus::Active) => {
            set_status(write, id, "suspended")?;
        }
        (TenantMove::Resume, TenantStatus::Suspended) => resume(write, id)?,
        (TenantMove::Delete, TenantStatus::Creating | TenantStatus::Active | TenantStatus::Suspended) => {
            delete(write, id, grace)?;
        }
        (TenantMove::Undelete, TenantStatus::Deleted) => {
            if tenant.erase_time.is_some_and(|erase_time| erase_time <= write.change.time) {
                return Err(Error::PreconditionFailed("the tenant's time of grace is over".into()));
            }
            undelete(write, id)?;
        }
        (TenantMove::Suspend, TenantStatus::Suspended | TenantStatus::Deleted)
        | (TenantMove::Resume, TenantStatus::Creating | TenantStatus::Active | TenantStatus::Deleted)
        | (TenantMove::Delete, TenantStatus::Deleted)
        | (TenantMove::Undelete, TenantStatus::Creating | TenantStatus::Active | TenantStatus::Suspended) => {
            return Err(Error::PreconditionFailed(format!("the tenant is {}", tenant.status.as_str())));
        }
    }
    outbox::tenant_changed(write, id)?;
    write.audit(&id, Some(id), [("reason", reason)])?;
    get(write.transaction, id)
}

fn set_status(write: &Write<'_>, id: TenantId, status: &str) -> Result<()> {
    query::execute(
        write.transaction,
        "UPDATE tenants
            SET status = :status, version = version + 1
          WHERE tenant_id = :tenant_id",
        named_params! { ":tenant_id": id.to_string(), ":status": status },
    )
    .map(drop)
}

fn resume(write: &Write<'_>, id: TenantId) -> Result<()> {
    query::execute(
        write.transaction,
        "UPDATE tenants
            SET status = CASE WHEN taken THEN 'active' ELSE 'creating' END, version = version + 1
          WHERE tenant_id = :tenant_id",
        named_params! { ":tenant_id": id.to_string() },
    )
    .map(drop)
}

fn delete(write: &Write<'_>, id: TenantId, grace: SignedDuration) -> Result<()> {
    let erase_time = write.change.time.saturating_add(grace).map_err(Error::internal)?;
    query::execute(
        write.transaction,
        "UPDATE tenants
            SET status_before = status, status = 'deleted', erase_time = :erase_time, version = version + 1
          WHERE tenant_id = :tenant_id",
        named_params! { ":tenant_id": id.to_string(), ":erase_time": erase_time.as_microsecond() },
    )
    .map(drop)
}

fn undelete(write: &Write<'_>, id: TenantId) -> Result<()> {
    query::execute(
        write.transaction,
        "UPDATE tenants
            SET status = CASE WHEN status_before = 'creating' AND taken THEN 'active' ELSE status_before END,
                status_before = NULL, erase_time = NULL, version = version + 1
          WHERE tenant_id = :tenant_id",
        named_params! { ":tenant_id": id.to_string() },
    )
    .map(drop)
}

pub(super) fn erase_expired(write: &Write<'_>) -> Result<u32> {
    let tenants = query::rows(
        write.transaction,
        "SELECT tenant_id
           FROM tenants
          WHERE status = 'deleted' AND erase_time <= :now
          ORDER BY erase_time, tenant_id
          LIMIT :limit",
        named_params! { ":now": write.now(), ":limit": ERASED },
        |row| column::word::<TenantId>(row, "tenant_id"),
    )?;
    for &id in &tenants {
        query::execute(
            write.transaction,
            "UPDATE tenants
                SET status = 'erasing', status_before = NULL, version = version + 1
              WHERE tenant_id = :tenant_id",
            named_params! { ":tenant_id": id.to_string() },
        )?;
        outbox::tenant_changed(write, id)?;
        write.audit(&id, Some(id), [])?;
    }
    u32::try_from(tenants.len()).map_err(Error::internal)
}

/// The instance has the tenant as it was pushed: a new one is active, and of one that was to be erased nothing is left.
/// One that is on another instance is none of its business.
pub(crate) fn taken(write: &Write<'_>, instance: &str, id: TenantId, pushed: u32) -> Result<()> {
    query::execute(
        write.transaction,
        "UPDATE tenants
            SET status = CASE status WHEN 'creating' THEN 'active' ELSE status END, taken = 1,
                version = version + 1
          WHERE tenant_id = :tenant_id AND instance_id = :instance_id AND taken = 0",
        named_params! { ":tenant_id": id.to_string(), ":instance_id": instance },
    )?;
    // A row behind the push: what was pushed was not yet that it is to be erased.
    let erased = query::execute(
        write.transaction,
        "UPDATE tenants
            SET status = 'erased', name = '', owner = NULL, founder = NULL, stacks = 0, storage_gb = 0,
                version = version + 1
          WHERE tenant_id = :tenant_id AND instance_id = :instance_id AND status = 'erasing'
            AND NOT EXISTS (
                SELECT 1
                  FROM outbox
                 WHERE kind = 'tenants' AND subject = :tenant_id AND seq > :pushed)",
        named_params! { ":tenant_id": id.to_string(), ":instance_id": instance, ":pushed": pushed },
    )?;
    if erased == 0 {
        return Ok(());
    }
    forget(write, id)?;
    give_place_back(write, instance)
}

/// The instance refused the tenant. One that it never took is gone as if it never was, whatever was decided about it
/// since, and the answer is true; the answer is false if there is one that stays.
pub(crate) fn refused(write: &Write<'_>, instance: &str, id: TenantId, reason: &str) -> Result<bool> {
    let stays = query::row(
        write.transaction,
        "SELECT taken OR status IN ('erasing', 'erased') AS stays
           FROM tenants
          WHERE tenant_id = :tenant_id AND instance_id = :instance_id",
        named_params! { ":tenant_id": id.to_string(), ":instance_id": instance },
        |row| row.get::<_, bool>("stays"),
    )?;
    match stays {
        None => return Ok(true),
        Some(false) => {}
        Some(true) => return Ok(false),
    }
    forget(write, id)?;
    outbox::forget_tenant(write, id)?;
    let whose = named_params! { ":tenant_id": id.to_string() };
    query::execute(
        write.transaction,
        "DELETE FROM idempotency_records
          WHERE target_id = :tenant_id OR tenant_id = :tenant_id",
        whose,
    )?;
    query::execute(
        write.transaction,
        "DELETE FROM tenants
          WHERE tenant_id = :tenant_id",
        whose,
    )?;
    give_place_back(write, instance)?;
    let beside = write.change.beside("tenant.refused");
    let refusal = Write { transaction: write.transaction, change: &beside, ids: write.ids };
    refusal.audit(&id, Some(id), [("instanceId", instance.to_owned()), ("reason", reason.to_owned())])?;
    Ok(true)
}

/// Takes away what belongs to the tenant alone.
fn forget(write: &Write<'_>, id: TenantId) -> Result<()> {
    for sql in [
        "DELETE FROM memberships
          WHERE tenant_id = :tenant_id",
        "DELETE FROM launch_codes
          WHERE tenant_id = :tenant_id",
    ] {
        query::execute(write.transaction, sql, named_params! { ":tenant_id": id.to_string() })?;
    }
    Ok(())
}

fn give_place_back(write: &Write<'_>, instance: &str) -> Result<()> {
    query::execute(
        write.transaction,
        "UPDATE instances
            SET tenant_count = tenant_count - 1
          WHERE instance_id = :instance_id",
        named_params! { ":instance_id": instance },
    )
    .map(drop)
}
