//! What instances report of their tenants.

use kombify_core::tenant::{TenantReport, Usage};
use kombify_core::{InstanceId, Result, TenantId};
use kombify_sqlite::query;
use rusqlite::{Transaction, named_params};

pub(super) fn mirror(
    transaction: &Transaction<'_>,
    instance: InstanceId,
    reports: &[TenantReport],
) -> Result<Vec<TenantId>> {
    let mut strange = Vec::new();
    for report in reports {
        let TenantReport { tenant, generation, version, .. } = report;
        let mirrored = query::row(
            transaction,
            "SELECT reported_version
               FROM tenants
              WHERE tenant_id = :tenant_id AND instance_id = :instance_id AND generation = :generation
                AND status NOT IN ('erasing', 'erased')",
            named_params! {
                ":tenant_id": tenant.to_string(),
                ":instance_id": instance.to_string(),
                ":generation": generation,
            },
            |row| row.get::<_, u32>("reported_version"),
        )?;
        match mirrored {
            None => strange.push(*tenant),
            Some(mirrored) if *version > mirrored => take(transaction, report)?,
            Some(_) => {}
        }
    }
    Ok(strange)
}

fn take(transaction: &Transaction<'_>, report: &TenantReport) -> Result<()> {
    let TenantReport { tenant, generation: _, version, members, usage: Usage { stacks, storage_gb } } =
        report;
    let tenant = tenant.to_string();
    query::execute(
        transaction,
        "UPDATE tenants
            SET reported_version = :reported_version, stacks = :stacks, storage_gb = :storage_gb
          WHERE tenant_id = :tenant_id",
        named_params! {
            ":tenant_id": tenant,
            ":reported_version": version,
            ":stacks": stacks,
            ":storage_gb": storage_gb,
        },
    )?;
    query::execute(
        transaction,
        "DELETE FROM memberships
          WHERE tenant_id = :tenant_id",
        named_params! { ":tenant_id": tenant },
    )?;
    for (sub, role) in members {
        query::execute(
            transaction,
            "INSERT INTO memberships (tenant_id, sub, role)
             VALUES (:tenant_id, :sub, :role)",
            named_params! { ":tenant_id": tenant, ":sub": sub.as_str(), ":role": role.as_str() },
        )?;
    }
    Ok(())
}
