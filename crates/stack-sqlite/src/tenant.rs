//! The tenants that Admin pushes: taken up, changed, erased.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use kombify_core::placed::{Founder, Held, PlacedStatus, PlacedTenant, TenantPush};
use kombify_core::{Change, Error, PlanGrant, Result, TenantId};
use kombify_sqlite::ledger::Write;
use kombify_sqlite::{column, query};
use rusqlite::{Connection, Transaction, named_params};
use tokio::task::spawn_blocking;

use crate::index::{self, Indexed};
use crate::order::{self, Step};
use crate::{StackSqlite, files, member};

/// The kind of these pushes, in the table of held versions.
pub(crate) const KIND: &str = "tenants";

/// When to try again where a file cannot be removed: somebody has to mend it first.
const AFTER_REPAIR: Duration = Duration::from_secs(30);

/// A tenant that has a row here.
struct Known {
    slug: String,
    placed: bool,
}

/// A tenant that is to be recorded.
struct Arrived {
    tenant: PlacedTenant,
    /// The members in a file that was made just now; `None` where the file was there.
    members: Option<BTreeMap<String, Indexed>>,
}

/// What a push comes down to, behind everything that happens to files.
#[derive(Default)]
struct Outcome {
    arrived: Vec<Arrived>,
    erased: Vec<TenantId>,
    gone: Vec<TenantId>,
    refused: Vec<(TenantId, String)>,
    held: Option<u32>,
}

impl StackSqlite {
    pub(crate) async fn apply_tenant_push(
        &self,
        change: &Change,
        push: &TenantPush,
        max_tenants: u32,
    ) -> Result<Held> {
        // One push after the other.
        let mut applying = self.state.applying.lock().await;
        let (held, known) =
            self.instance.read(|connection| Ok((order::held(connection, KIND)?, known(connection)?))).await?;
        let keys = push.items.iter().map(|tenant| tenant.id);
        let step = order::step(held, applying.tenants.as_ref(), push.version, push.basis, keys);
        let (progress, gone, version) = match step {
            Step::Held => {
                return Ok(Held { refused: absent(push, &known), ..order::not_applied(held, false) });
            }
            Step::SnapshotNeeded => return Ok(order::not_applied(held, true)),
            Step::Change(version) => (None, Vec::new(), Some(version)),
            Step::Page(progress) => (Some(progress), Vec::new(), None),
            Step::LastPage(version, seen) => (None, missing(&known, &seen), Some(version)),
        };
        let outcome = self.prepare(change, push, known, gone, max_tenants).await?;
        let outcome = Outcome { held: version, ..outcome };
        let answer = Held {
            version: version.or(held).unwrap_or_default(),
            snapshot_needed: false,
            refused: outcome.refused.clone(),
        };
        self.record(change, outcome).await?;
        applying.tenants = progress;
        Ok(answer)
    }

    /// Erases and makes files, and says what is to be recorded.
    async fn prepare(
        &self,
        change: &Change,
        push: &TenantPush,
        known: BTreeMap<TenantId, Known>,
        gone: Vec<TenantId>,
        max_tenants: u32,
    ) -> Result<Outcome> {
        let items: BTreeMap<TenantId, &PlacedTenant> =
            push.items.iter().map(|tenant| (tenant.id, tenant)).collect();
        let (erased, there): (Vec<_>, Vec<_>) =
            items.into_values().partition(|tenant| tenant.status == PlacedStatus::Erased);
        let erased: Vec<TenantId> = erased.into_iter().map(|tenant| tenant.id).collect();
        self.erase(&erased).await?;
        let mut slugs: BTreeMap<TenantId, String> = known
            .iter()
            .filter(|(id, known)| known.placed && !gone.contains(id) && !erased.contains(id))
            .map(|(id, known)| (*id, known.slug.clone()))
            .collect();
        let mut outcome = Outcome { erased, gone, ..Outcome::default() };
        for tenant in there {
            let members = match known.get(&tenant.id) {
                Some(known) if known.placed => Ok(None),
                before => match stands_against(tenant, &slugs, max_tenants) {
                    Some(reason) => Err(reason),
                    None if before.is_some() => Ok(None),
                    None => self.found(change, tenant).await.map(Some).map_err(|cause| {
                        tracing::error!(tenant.id = %tenant.id, %cause, "a tenant's file cannot be made");
                        format!("its data cannot be made: {cause}")
                    }),
                },
            };
            match members {
                Ok(members) => {
                    slugs.insert(tenant.id, tenant.slug.to_string());
                    outcome.arrived.push(Arrived { tenant: tenant.clone(), members });
                }
                Err(reason) => outcome.refused.push((tenant.id, reason)),
            }
        }
        Ok(outcome)
    }

    /// Takes away everything of these tenants but their rows, which say until then that they are being erased.
    async fn erase(&self, tenants: &[TenantId]) -> Result<()> {
        if tenants.is_empty() {
            return Ok(());
        }
        let marked = tenants.to_vec();
        self.instance
            .write("tenants.erasing", move |transaction| {
                marked.iter().try_for_each(|tenant| mark_erasing(transaction, *tenant))
            })
            .await?;
        for &tenant in tenants {
            self.files.dismiss(tenant).await?;
            self.stale().remove(&tenant);
            self.remove_file(tenant).await?;
            tracing::info!(tenant.id = %tenant, "tenant erased");
        }
        Ok(())
    }

    /// Makes the file of a new tenant, with the founder as its admin, and says who its members are. Leaves nothing where
    /// that fails.
    pub(crate) async fn found(
        &self,
        change: &Change,
        tenant: &PlacedTenant,
    ) -> Result<BTreeMap<String, Indexed>> {
        let is_new = !self.files.path(tenant.id).try_exists().map_err(Error::internal)?;
        self.files.admit(tenant.id);
        let founded = self.write_founder(change, tenant).await;
        if founded.is_err() {
            self.files.dismiss(tenant.id).await?;
            if is_new {
                self.remove_file(tenant.id).await?;
            }
        }
        founded
    }

    async fn write_founder(
        &self,
        change: &Change,
        tenant: &PlacedTenant,
    ) -> Result<BTreeMap<String, Indexed>> {
        let id = tenant.id;
        let file = self.files.make(id).await?;
        let founding = change.beside("tenant.founded");
        let tenant = tenant.clone();
        let found = move |write: &Write<'_>| {
            found(write, &tenant)?;
            index::members(write.transaction)
        };
        self.write_file(&file, id, &founding, found).await
    }

    async fn remove_file(&self, tenant: TenantId) -> Result<()> {
        let path = self.files.path(tenant);
        let removed = spawn_blocking(move || files::remove(&path)).await.map_err(Error::internal)?;
        removed.map_err(|cause| {
            tracing::error!(tenant.id = %tenant, %cause, "a tenant's file cannot be removed");
            Error::unavailable("the data of a tenant cannot be removed", AFTER_REPAIR)
        })
    }

    /// Records everything at once, and serves who is there.
    async fn record(&self, change: &Change, outcome: Outcome) -> Result<()> {
        let made: Vec<TenantId> = outcome
            .arrived
            .iter()
            .filter(|arrived| arrived.members.is_some())
            .map(|arrived| arrived.tenant.id)
            .collect();
        let there: Vec<TenantId> = outcome.arrived.iter().map(|arrived| arrived.tenant.id).collect();
        let gone = outcome.gone.clone();
        let recorded =
            self.instance.write(change.action, move |transaction| record_all(transaction, &outcome)).await;
        if let Err(cause) = recorded {
            // The push comes again, and finds the files.
            for tenant in made {
                self.files.dismiss(tenant).await?;
            }
            return Err(cause);
        }
        for tenant in there {
            self.files.admit(tenant);
        }
        for tenant in gone {
            self.files.dismiss(tenant).await?;
        }
        Ok(())
    }
}

/// Why a tenant that has no place here gets none.
fn stands_against(
    tenant: &PlacedTenant,
    slugs: &BTreeMap<TenantId, String>,
    max_tenants: u32,
) -> Option<String> {
    if slugs.values().any(|slug| slug == tenant.slug.as_str()) {
        return Some(format!("another tenant has the slug {} here", tenant.slug));
    }
    let full = u32::try_from(slugs.len()).is_ok_and(|count| count < max_tenants);
    (!full).then(|| format!("the instance is full: it takes {max_tenants} tenants"))
}

/// Those that have a place here and are in no page.
fn missing(known: &BTreeMap<TenantId, Known>, seen: &BTreeSet<TenantId>) -> Vec<TenantId> {
    known.iter().filter(|(id, known)| known.placed && !seen.contains(id)).map(|(id, _)| *id).collect()
}

/// Those of a push of before that have no place here: it was refused then, and perhaps nobody heard the answer.
fn absent(push: &TenantPush, known: &BTreeMap<TenantId, Known>) -> Vec<(TenantId, String)> {
    push.items
        .iter()
        .filter(|tenant| tenant.status != PlacedStatus::Erased)
        .filter(|tenant| !known.get(&tenant.id).is_some_and(|known| known.placed))
        .map(|tenant| (tenant.id, "it has no place here".to_owned()))
        .collect()
}

/// Every tenant with a row that is not being erased.
fn known(connection: &Connection) -> Result<BTreeMap<TenantId, Known>> {
    let known = query::rows(
        connection,
        "SELECT tenant_id, slug, placed
           FROM tenants
          WHERE erasing = 0",
        (),
        |row| {
            let known = Known { slug: row.get("slug")?, placed: row.get("placed")? };
            Ok((column::word(row, "tenant_id")?, known))
        },
    )?;
    Ok(known.into_iter().collect())
}

/// In the tenant's file: whose it is, and who its first member is, unless it has members.
fn found(write: &Write<'_>, tenant: &PlacedTenant) -> Result<()> {
    let id = tenant.id.to_string();
    query::execute(
        write.transaction,
        "INSERT INTO tenant (only, tenant_id)
         VALUES (1, :tenant_id)
         ON CONFLICT (only) DO NOTHING",
        named_params! { ":tenant_id": id },
    )?;
    if query::exists(write.transaction, "SELECT 1 FROM members", ())? {
        return Ok(());
    }
    member::insert_founder(write, &tenant.founder, tenant.create_time)?;
    write.audit(&tenant.id, Some(tenant.id), [("sub", tenant.founder.sub.to_string())])
}

/// Nobody enters the tenant any more, not even the next process.
pub(crate) fn mark_erasing(transaction: &Transaction<'_>, tenant: TenantId) -> Result<()> {
    query::execute(
        transaction,
        "UPDATE tenants
            SET placed = 0, erasing = 1
          WHERE tenant_id = :tenant_id",
        named_params! { ":tenant_id": tenant.to_string() },
    )?;
    wipe(transaction, tenant)
}

/// Takes away what there is of the tenant beside its row.
fn wipe(connection: &Connection, tenant: TenantId) -> Result<()> {
    for sql in [
        "DELETE FROM sessions
          WHERE tenant_id = :tenant_id",
        "DELETE FROM invitation_codes
          WHERE tenant_id = :tenant_id",
        "DELETE FROM memberships
          WHERE tenant_id = :tenant_id",
    ] {
        query::execute(connection, sql, named_params! { ":tenant_id": tenant.to_string() })?;
    }
    Ok(())
}

/// Takes away the row of an erased tenant, too.
pub(crate) fn forget(connection: &Connection, tenant: TenantId) -> Result<()> {
    wipe(connection, tenant)?;
    query::execute(
        connection,
        "DELETE FROM tenants
          WHERE tenant_id = :tenant_id",
        named_params! { ":tenant_id": tenant.to_string() },
    )
    .map(drop)
}

fn record_all(transaction: &Transaction<'_>, outcome: &Outcome) -> Result<()> {
    let Outcome { arrived, erased, gone, refused: _, held } = outcome;
    for tenant in erased {
        forget(transaction, *tenant)?;
    }
    for tenant in gone {
        query::execute(
            transaction,
            "UPDATE tenants
                SET placed = 0
              WHERE tenant_id = :tenant_id",
            named_params! { ":tenant_id": tenant.to_string() },
        )?;
    }
    for Arrived { tenant, members } in arrived {
        put(transaction, tenant)?;
        if let Some(members) = members {
            index::take(transaction, tenant.id, members)?;
        }
    }
    held.map_or(Ok(()), |version| order::hold(transaction, KIND, version))
}

/// Records the tenant as it was pushed. A slug is for ever: that of a row stays.
fn put(transaction: &Transaction<'_>, tenant: &PlacedTenant) -> Result<()> {
    let PlacedTenant { id, slug, name, owner, grant, status, generation, founder, create_time } = tenant;
    query::execute(
        transaction,
        "INSERT INTO tenants (tenant_id, slug, name, owner, plan, plan_end_time, status, generation, founder,
                              founder_email, founder_name, create_time)
         VALUES (:tenant_id, :slug, :name, :owner, :plan, :plan_end_time, :status, :generation, :founder,
                 :founder_email, :founder_name, :create_time)
         ON CONFLICT (tenant_id)
         DO UPDATE SET name = excluded.name, owner = excluded.owner, plan = excluded.plan,
                       plan_end_time = excluded.plan_end_time, status = excluded.status,
                       generation = excluded.generation, founder = excluded.founder,
                       founder_email = excluded.founder_email, founder_name = excluded.founder_name,
                       create_time = excluded.create_time, placed = 1, erasing = 0,
                       reported_version = CASE
                           WHEN tenants.placed = 1 AND tenants.generation = excluded.generation
                           THEN tenants.reported_version
                       END",
        named_params! {
            ":tenant_id": id.to_string(),
            ":slug": slug.as_str(),
            ":name": name,
            ":owner": owner.as_str(),
            ":plan": grant.map(|grant: PlanGrant| grant.plan.as_str()),
            ":plan_end_time": grant.map(|grant: PlanGrant| grant.end_time.as_microsecond()),
            ":status": status.as_str(),
            ":generation": generation,
            ":founder": founder.sub.as_str(),
            ":founder_email": founder.email,
            ":founder_name": founder.name,
            ":create_time": create_time.as_microsecond(),
        },
    )
    .map(drop)
}

/// The tenant of that id or slug, if it has a place here.
pub(crate) fn find(connection: &Connection, name: &str) -> Result<Option<PlacedTenant>> {
    query::row(
        connection,
        // No slug looks like an id.
        "SELECT tenant_id, slug, name, owner, plan, plan_end_time, status, generation, founder, founder_email,
                founder_name, create_time
           FROM tenants
          WHERE placed = 1 AND (tenant_id = :name OR slug = :name)",
        named_params! { ":name": name },
        |row| {
            Ok(PlacedTenant {
                id: column::word(row, "tenant_id")?,
                slug: column::word(row, "slug")?,
                name: row.get("name")?,
                owner: column::word(row, "owner")?,
                grant: column::grant(row)?,
                status: column::word(row, "status")?,
                generation: row.get("generation")?,
                founder: Founder {
                    sub: column::word(row, "founder")?,
                    email: row.get("founder_email")?,
                    name: row.get("founder_name")?,
                },
                create_time: column::time(row, "create_time")?,
            })
        },
    )
}

/// How many tenants have a place here.
pub(crate) fn count(connection: &Connection) -> Result<u32> {
    let count =
        query::row(connection, "SELECT COUNT(*) FROM tenants WHERE placed = 1", (), |row| row.get(0))?;
    Ok(count.unwrap_or_default())
}

/// Whether the tenant has a place here.
pub(crate) fn is_placed(connection: &Connection, tenant: TenantId) -> Result<bool> {
    query::exists(
        connection,
        "SELECT 1
           FROM tenants
          WHERE tenant_id = :tenant_id AND placed = 1",
        named_params! { ":tenant_id": tenant.to_string() },
    )
}
