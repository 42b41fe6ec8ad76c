//! Organisations and their grants.

use async_trait::async_trait;
use kombify_core::clock::rfc3339_seconds;
use kombify_core::organisation::{Organisation, OrganisationStore};
use kombify_core::{Change, Error, OrgId, PlanGrant, Result};
use rusqlite::{Connection, Row, named_params};

use crate::{PlatformSqlite, outbox};
use kombify_sqlite::ledger::Write;
use kombify_sqlite::{column, query};

#[async_trait]
impl OrganisationStore for PlatformSqlite {
    async fn find(&self, id: &OrgId) -> Result<Option<Organisation>> {
        let id = id.clone();
        self.db.read(move |connection| find(connection, &id)).await
    }

    async fn grant(
        &self,
        change: &Change,
        id: &OrgId,
        grant: PlanGrant,
        reason: &str,
    ) -> Result<Organisation> {
        let (id, reason) = (id.clone(), reason.to_owned());
        self.write(change, move |write| {
            if write.repeated()?.is_some() {
                return get(write.transaction, &id);
            }
            set_grant(write, &id, grant)?;
            outbox::owner_changed(write, &id)?;
            let details = [
                ("plan", grant.plan.to_string()),
                ("endTime", rfc3339_seconds(grant.end_time)),
                ("reason", reason),
            ];
            write.audit(&id, None, details)?;
            write.promise(id.as_str())?;
            get(write.transaction, &id)
        })
        .await
    }
}

/// Makes the organisation's row, where it is the first time that the platform sees it.
pub(crate) fn see(write: &Write<'_>, id: &OrgId) -> Result<()> {
    query::execute(
        write.transaction,
        "INSERT INTO organisations (org_id, create_time)
         VALUES (:org_id, :now)
         ON CONFLICT (org_id) DO NOTHING",
        named_params! { ":org_id": id.as_str(), ":now": write.now() },
    )
    .map(drop)
}

fn find(connection: &Connection, id: &OrgId) -> Result<Option<Organisation>> {
    query::row(
        connection,
        "SELECT org_id, plan, plan_end_time, create_time
           FROM organisations
          WHERE org_id = :org_id",
        named_params! { ":org_id": id.as_str() },
        organisation,
    )
}

fn get(connection: &Connection, id: &OrgId) -> Result<Organisation> {
    find(connection, id)?.ok_or_else(|| Error::not_found("organisation", id))
}

fn set_grant(write: &Write<'_>, id: &OrgId, grant: PlanGrant) -> Result<()> {
    let granted = query::execute(
        write.transaction,
        "UPDATE organisations
            SET plan = :plan, plan_end_time = :plan_end_time
          WHERE org_id = :org_id",
        named_params! {
            ":org_id": id.as_str(),
            ":plan": grant.plan.as_str(),
            ":plan_end_time": grant.end_time.as_microsecond(),
        },
    )?;
    if granted == 0 { Err(Error::not_found("organisation", id)) } else { Ok(()) }
}

fn organisation(row: &Row<'_>) -> rusqlite::Result<Organisation> {
    Ok(Organisation {
        id: column::word(row, "org_id")?,
        grant: column::grant(row)?,
        create_time: column::time(row, "create_time")?,
    })
}
