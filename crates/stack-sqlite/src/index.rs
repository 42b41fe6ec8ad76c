//! The index of memberships: what instance.db knows of the members in the tenants' files.
//!
//! A tenant's file is the truth of its members. A change of them is marked in instance.db first, then made in the file,
//! then taken over into the index. What ends in between leaves the index stale: it is taken over anew before anybody
//! reads it again, by this process or by the next.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, MutexGuard};
use std::time::Duration;

use jiff::Timestamp;
use kombify_core::placed::PlacedStatus;
use kombify_core::{
    Change, Error, Membership, Memberships, Plan, PlanGrant, Result, Sub, TenantId, TenantRole, TenantScope,
    TenantStanding,
};
use kombify_sqlite::ledger::Write;
use kombify_sqlite::{column, query};
use rusqlite::{Connection, Row, named_params};
use tokio::time::Instant;

use crate::files::{Alone, Using};
use crate::{StackSqlite, locked, name};

/// How long the index of a tenant is left alone whose members could not be read.
const HEAL_AGAIN: Duration = Duration::from_secs(5);

/// The tenants whose index is stale, and when the next try to heal each is due.
pub(crate) type Stale = BTreeMap<TenantId, Option<Instant>>;

/// A change of members that is under way. It leaves the index stale, unless it comes to its end.
struct Marked<'a> {
    store: &'a StackSqlite,
    tenant: TenantId,
    indexed: bool,
    // Given back behind everything else: whoever changes members next, or heals, finds the tenant among the stale.
    _alone: Alone,
}

impl Drop for Marked<'_> {
    fn drop(&mut self) {
        let mut stale = self.store.stale();
        if self.indexed {
            stale.remove(&self.tenant);
        } else {
            stale.insert(self.tenant, None);
        }
    }
}

impl StackSqlite {
    /// Does `f` in the tenant's file, and takes the members over.
    pub(crate) async fn change_members<T: Send + 'static>(
        &self,
        scope: TenantScope,
        change: &Change,
        f: impl FnOnce(&Write<'_>) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let tenant = scope.tenant();
        let alone = self.files.alone(tenant).await?;
        // First of all: of a file that cannot be opened, the index stays as it is.
        let file = self.files.open(tenant).await?;
        self.mark(tenant, change).await?;
        let mut marked = Marked { store: self, tenant, indexed: false, _alone: Arc::clone(&alone) };
        let held = Arc::clone(&alone);
        let done = self.write_file(&file, tenant, change, move |write| Ok((f(write)?, held))).await;
        match self.take_over(tenant, name::beside(change.action, "indexed"), &file, &alone).await {
            Ok(()) => marked.indexed = true,
            // It was decided in the file, and whoever reads the index next heals it first.
            Err(cause) => tracing::warn!(tenant.id = %tenant, %cause, "members not indexed yet"),
        }
        done.map(|(value, _)| value)
    }

    /// Where the user is a member, at `now`.
    pub(crate) async fn memberships_of(&self, sub: &Sub, now: Timestamp) -> Result<Memberships> {
        let untrusted = self.heal().await;
        let sub = sub.clone();
        self.instance.read(move |connection| memberships(connection, &sub, now, &untrusted)).await
    }

    /// Heals what is stale of the index. Answers with the tenants that it cannot be trusted for.
    pub(crate) async fn heal(&self) -> BTreeSet<TenantId> {
        let stale: Vec<_> = self.stale().iter().map(|(tenant, again)| (*tenant, *again)).collect();
        let mut untrusted = BTreeSet::new();
        for (tenant, again) in stale {
            if again.is_some_and(|again| Instant::now() < again) {
                untrusted.insert(tenant);
            } else if let Err(cause) = self.heal_one(tenant).await {
                tracing::warn!(tenant.id = %tenant, %cause, "members not indexed yet");
                // Unless somebody else has healed it meanwhile.
                if let Some(again) = self.stale().get_mut(&tenant) {
                    *again = Some(Instant::now() + HEAL_AGAIN);
                }
                untrusted.insert(tenant);
            }
        }
        untrusted
    }

    pub(crate) fn stale(&self) -> MutexGuard<'_, Stale> {
        locked(&self.state.stale)
    }

    async fn heal_one(&self, tenant: TenantId) -> Result<()> {
        let alone = self.files.alone(tenant).await?;
        match self.stale().get(&tenant) {
            None => return Ok(()),
            // Somebody else has just tried in vain.
            Some(Some(again)) if Instant::now() < *again => {
                return Err(Error::unavailable("the members cannot be read", HEAL_AGAIN));
            }
            Some(_) => {}
        }
        let file = self.files.open(tenant).await?;
        self.take_over(tenant, "memberships.healed", &file, &alone).await?;
        self.stale().remove(&tenant);
        Ok(())
    }

    /// Says in instance.db that the members of the tenant change.
    pub(crate) async fn mark(&self, tenant: TenantId, change: &Change) -> Result<()> {
        let mark = move |transaction: &rusqlite::Transaction<'_>| {
            let marked = query::execute(
                transaction,
                "UPDATE tenants
                    SET dirty = 1
                  WHERE tenant_id = :tenant_id AND placed = 1",
                named_params! { ":tenant_id": tenant.to_string() },
            )?;
            if marked == 0 { Err(Error::not_found("tenant", tenant)) } else { Ok(()) }
        };
        self.instance.write(name::beside(change.action, "marked"), mark).await
    }

    /// Takes the members over from the tenant's file.
    async fn take_over(
        &self,
        tenant: TenantId,
        name: &'static str,
        file: &Using,
        alone: &Alone,
    ) -> Result<()> {
        let members = file.read(members).await?;
        let alone = Arc::clone(alone);
        // What began is finished even if the caller goes away: until then nobody else changes members.
        let take = move |transaction: &rusqlite::Transaction<'_>| {
            take(transaction, tenant, &members)?;
            Ok(alone)
        };
        self.instance.write(name, take).await.map(drop)
    }
}

/// A member, as the index has one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Indexed {
    role: TenantRole,
    create_time: i64,
}

/// The members in a tenant's file.
pub(crate) fn members(connection: &Connection) -> Result<BTreeMap<String, Indexed>> {
    query::rows(connection, "SELECT sub, role, create_time FROM members", (), indexed)
        .map(|members| members.into_iter().collect())
}

/// Makes the index of the tenant that of these members; the sessions of whoever is no member any more end.
pub(crate) fn take(
    connection: &Connection,
    tenant: TenantId,
    members: &BTreeMap<String, Indexed>,
) -> Result<()> {
    let tenant = tenant.to_string();
    let before: BTreeMap<String, Indexed> = query::rows(
        connection,
        "SELECT sub, role, create_time
           FROM memberships
          WHERE tenant_id = :tenant_id",
        named_params! { ":tenant_id": tenant },
        indexed,
    )?
    .into_iter()
    .collect();
    for sub in before.keys().filter(|sub| !members.contains_key(*sub)) {
        for sql in [
            "DELETE FROM memberships
              WHERE tenant_id = :tenant_id AND sub = :sub",
            "DELETE FROM sessions
              WHERE tenant_id = :tenant_id AND sub = :sub",
        ] {
            query::execute(connection, sql, named_params! { ":tenant_id": tenant, ":sub": sub })?;
        }
    }
    for (sub, member) in members.iter().filter(|(sub, member)| before.get(*sub) != Some(*member)) {
        query::execute(
            connection,
            "INSERT INTO memberships (tenant_id, sub, role, create_time)
             VALUES (:tenant_id, :sub, :role, :create_time)
             ON CONFLICT (tenant_id, sub)
             DO UPDATE SET role = excluded.role, create_time = excluded.create_time",
            named_params! {
                ":tenant_id": tenant,
                ":sub": sub,
                ":role": member.role.as_str(),
                ":create_time": member.create_time,
            },
        )?;
    }
    query::execute(
        connection,
        "UPDATE tenants
            SET dirty = 0, version = version + :changed
          WHERE tenant_id = :tenant_id",
        named_params! { ":tenant_id": tenant, ":changed": before != *members },
    )
    .map(drop)
}

fn indexed(row: &Row<'_>) -> rusqlite::Result<(String, Indexed)> {
    Ok((row.get("sub")?, Indexed { role: column::word(row, "role")?, create_time: row.get("create_time")? }))
}

fn memberships(
    connection: &Connection,
    sub: &Sub,
    now: Timestamp,
    untrusted: &BTreeSet<TenantId>,
) -> Result<Memberships> {
    let mut memberships = query::rows(
        connection,
        "SELECT tenant_id, slug, role, status, plan, plan_end_time,
                (SELECT COUNT(*)
                   FROM (SELECT 1
                           FROM memberships AS older
                          WHERE older.tenant_id = own.tenant_id
                            AND (older.create_time, older.sub) < (own.create_time, own.sub)
                          LIMIT :bound)) AS older
           FROM memberships AS own
           JOIN tenants USING (tenant_id)
          WHERE sub = :sub AND placed = 1
          ORDER BY tenant_id",
        named_params! { ":sub": sub.as_str(), ":bound": largest_limit() },
        |row| {
            let plan = PlanGrant::plan_at(column::grant(row)?.as_ref(), now);
            let older: u32 = row.get("older")?;
            let over_limit = plan.limits().members.is_some_and(|limit| older >= limit);
            let role = column::word(row, "role")?;
            Ok(Membership {
                tenant: column::word(row, "tenant_id")?,
                slug: row.get("slug")?,
                role: if over_limit { TenantRole::Viewer } else { role },
                standing: standing(column::word(row, "status")?),
            })
        },
    )?;
    for membership in &mut memberships {
        if untrusted.contains(&membership.tenant) {
            membership.standing = TenantStanding::Unreadable;
        }
    }
    Ok(Memberships::new(memberships))
}

/// The most members that a plan allows which does not allow every number: nobody needs to count further.
fn largest_limit() -> Option<u32> {
    Plan::ALL.iter().filter_map(|plan| plan.limits().members).max()
}

const fn standing(status: PlacedStatus) -> TenantStanding {
    match status {
        PlacedStatus::Active => TenantStanding::Open,
        PlacedStatus::Suspended => TenantStanding::Suspended,
        PlacedStatus::Deleted | PlacedStatus::Erased => TenantStanding::Deleted,
    }
}
