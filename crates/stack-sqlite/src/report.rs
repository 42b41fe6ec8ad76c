//! What is reported to Admin: members and usage.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use kombify_core::member::MEMBERS_MAX;
use kombify_core::tenant::{TenantReport, Usage};
use kombify_core::{Error, Result, TenantId};
use kombify_sqlite::{column, query};
use rusqlite::{Connection, Transaction, named_params};

use crate::{StackSqlite, State, locked};

/// How many tenants are reported at once.
const BATCH: usize = 20;

/// How many members are reported at once, unless one tenant has more: they go into one message.
const MEMBERS: usize = MEMBERS_MAX as usize;

/// Up to how many bytes a tenant's file counts as nothing: what an empty one has.
const EMPTY_BYTES: u64 = 1_000_000;

/// The bytes of a gigabyte. Source: `Usage`.
pub(crate) const GIGABYTE: u64 = 1_000_000_000;

/// A tenant that was touched when its use is over: what it uses is counted anew.
pub(crate) struct Touch {
    pub(crate) state: Arc<State>,
    pub(crate) tenant: TenantId,
}

impl Drop for Touch {
    fn drop(&mut self) {
        locked(&self.state.touched).insert(self.tenant);
    }
}

impl StackSqlite {
    pub(crate) async fn due_reports(&self) -> Result<Vec<TenantReport>> {
        let untrusted = self.heal().await;
        self.count_touched().await?;
        self.instance.read(move |connection| due(connection, &untrusted)).await
    }

    pub(crate) async fn report_all(&self) -> Result<()> {
        let placed = self.instance.write("tenants.report_anew", forget_reports).await?;
        locked(&self.state.touched).extend(placed);
        Ok(())
    }

    /// Counts what some of the touched tenants use. What is other than before is due.
    async fn count_touched(&self) -> Result<()> {
        for _ in 0..BATCH {
            let Some(tenant) = locked(&self.state.touched).pop_first() else { return Ok(()) };
            match self.usage(tenant).await {
                Ok(usage) => self.note_usage(tenant, usage).await?,
                // The next write to it touches it again.
                Err(cause) => tracing::debug!(tenant.id = %tenant, %cause, "usage not counted"),
            }
        }
        Ok(())
    }

    async fn usage(&self, tenant: TenantId) -> Result<Usage> {
        let file = self.files.open(tenant).await?;
        let stacks = file
            .read(|connection| query::row(connection, "SELECT COUNT(*) FROM stacks", (), |row| row.get(0)))
            .await?;
        let bytes = tokio::fs::metadata(self.files.path(tenant)).await.map_err(Error::internal)?.len();
        Ok(Usage { stacks: stacks.unwrap_or_default(), storage_gb: gigabytes(bytes) })
    }

    async fn note_usage(&self, tenant: TenantId, usage: Usage) -> Result<()> {
        let known = self.instance.read(move |connection| usage_of(connection, tenant)).await?;
        if known == Some(usage) {
            return Ok(());
        }
        self.instance.write("tenants.counted", move |transaction| put_usage(transaction, tenant, usage)).await
    }
}

fn gigabytes(bytes: u64) -> u32 {
    if bytes < EMPTY_BYTES { 0 } else { u32::try_from(bytes.div_ceil(GIGABYTE)).unwrap_or(u32::MAX) }
}

fn usage_of(connection: &Connection, tenant: TenantId) -> Result<Option<Usage>> {
    query::row(
        connection,
        "SELECT stacks, storage_gb
           FROM tenants
          WHERE tenant_id = :tenant_id",
        named_params! { ":tenant_id": tenant.to_string() },
        |row| Ok(Usage { stacks: row.get("stacks")?, storage_gb: row.get("storage_gb")? }),
    )
}

/// Admin takes only what has a higher version than what it has.
fn put_usage(transaction: &Transaction<'_>, tenant: TenantId, usage: Usage) -> Result<()> {
    let Usage { stacks, storage_gb } = usage;
    query::execute(
        transaction,
        "UPDATE tenants
            SET stacks = :stacks, storage_gb = :storage_gb, version = version + 1
          WHERE tenant_id = :tenant_id",
        named_params! {
            ":tenant_id": tenant.to_string(),
            ":stacks": stacks,
            ":storage_gb": storage_gb,
        },
    )
    .map(drop)
}

fn due(connection: &Connection, untrusted: &BTreeSet<TenantId>) -> Result<Vec<TenantReport>> {
    let mut reports = query::rows(
        connection,
        "SELECT tenant_id, generation, version, stacks, storage_gb
           FROM tenants
          WHERE placed = 1 AND version IS NOT reported_version
          ORDER BY tenant_id",
        (),
        |row| {
            Ok(TenantReport {
                tenant: column::word(row, "tenant_id")?,
                generation: row.get("generation")?,
                version: row.get("version")?,
                members: BTreeMap::new(),
                usage: Usage { stacks: row.get("stacks")?, storage_gb: row.get("storage_gb")? },
            })
        },
    )?;
    reports.retain(|report| !untrusted.contains(&report.tenant));
    reports.truncate(BATCH);
    let (mut carried, mut fitting) = (0, 0);
    for report in &mut reports {
        let members = query::rows(
            connection,
            "SELECT sub, role
               FROM memberships
              WHERE tenant_id = :tenant_id",
            named_params! { ":tenant_id": report.tenant.to_string() },
            |row| Ok((column::word(row, "sub")?, column::word(row, "role")?)),
        )?;
        carried += members.len();
        if fitting > 0 && carried > MEMBERS {
            break;
        }
        report.members = members.into_iter().collect();
        fitting += 1;
    }
    reports.truncate(fitting);
    Ok(reports)
}

/// What changed since the report was made stays due.
pub(crate) fn reported(transaction: &Transaction<'_>, reports: &[TenantReport]) -> Result<()> {
    for report in reports {
        query::execute(
            transaction,
            "UPDATE tenants
                SET reported_version = :version
              WHERE tenant_id = :tenant_id AND generation = :generation",
            named_params! {
                ":tenant_id": report.tenant.to_string(),
                ":generation": report.generation,
                ":version": report.version,
            },
        )?;
    }
    Ok(())
}

fn forget_reports(transaction: &Transaction<'_>) -> Result<Vec<TenantId>> {
    query::execute(transaction, "UPDATE tenants SET reported_version = NULL", ())?;
    query::rows(transaction, "SELECT tenant_id FROM tenants WHERE placed = 1", (), |row| {
        column::word(row, "tenant_id")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn storage_is_rounded_up_and_an_empty_file_is_nothing() {
        for (bytes, expected) in
            [(0, 0), (999_999, 0), (1_000_000, 1), (GIGABYTE, 1), (GIGABYTE + 1, 2), (u64::MAX, u32::MAX)]
        {
            assert_eq!(gigabytes(bytes), expected, "{bytes}");
        }
    }
}
