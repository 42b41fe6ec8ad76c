//! Tenants, their places and their members. What is being erased keeps its row, which no query here shows.

mod life;
mod mirror;

use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use kombify_core::health::UNREACHABLE_AFTER;
use kombify_core::page::Position;
use kombify_core::tenant::{
    NewTenant, Region, Tenant, TenantFilter, TenantMove, TenantReport, TenantStatus, TenantStore, Usage,
};
use kombify_core::{
    Change, Error, Etag, InstanceId, Listed, Membership, Memberships, Page, Result, Sub, TenantId,
    TenantRole, TenantScope,
};
use rusqlite::{Connection, Row, named_params};

use crate::{PlatformSqlite, null, organisation, outbox};
use kombify_sqlite::ledger::Write;
use kombify_sqlite::query::Start;
use kombify_sqlite::{column, query};
pub(crate) use life::{refused, taken};

/// When to try again where a region is full: an instance has to be added first, or has to be well again.
const PLACE_AFTER: Duration = Duration::from_secs(30);

macro_rules! select {
    ($rest:literal) => {
        concat!(
            "SELECT tenant_id, slug, name, owner, instance_id, status, erase_time, stacks, storage_gb,
                    tenants.create_time AS create_time, version, plan, plan_end_time,
                    (SELECT COUNT(*) FROM memberships WHERE memberships.tenant_id = tenants.tenant_id) AS members
               FROM tenants
               JOIN organisations ON org_id = owner
              WHERE status NOT IN ('erasing', 'erased')
            ",
            $rest
        )
    };
}

#[async_trait]
impl TenantStore for PlatformSqlite {
    async fn create(&self, change: &Change, tenant: &NewTenant) -> Result<Tenant> {
        let tenant = tenant.clone();
        self.write(change, move |write| {
            if let Some(earlier) = write.repeated()? {
                return get(write.transaction, earlier.parse().map_err(Error::internal)?);
            }
            refuse_a_second(write, &tenant)?;
            let instance = place(write, &tenant.region)?;
            organisation::see(write, &tenant.owner)?;
            insert(write, &tenant, &instance)?;
            outbox::tenant_changed(write, tenant.id)?;
            let details = [("slug", tenant.slug.to_string()), ("instanceId", instance)];
            write.audit(&tenant.id, Some(tenant.id), details)?;
            write.promise(&tenant.id.to_string())?;
            get(write.transaction, tenant.id)
        })
        .await
    }

    async fn find(&self, scope: TenantScope) -> Result<Option<Tenant>> {
        self.db.read(move |connection| find(connection, scope.tenant())).await
    }

    async fn list_of(&self, member: &Sub, page: &Page) -> Result<Listed<Tenant>> {
        let (member, page) = (member.clone(), page.clone());
        self.db.read(move |connection| list_of(connection, &member, &page)).await
    }

    async fn list(&self, filter: &TenantFilter, page: &Page) -> Result<Listed<Tenant>> {
        let (filter, page) = (filter.clone(), page.clone());
        self.db.read(move |connection| list(connection, &filter, &page)).await
    }

    async fn memberships(&self, member: &Sub) -> Result<Memberships> {
        let member = member.clone();
        self.db.read(move |connection| memberships(connection, &member)).await
    }

    async fn change_status(
        &self,
        change: &Change,
        tenant: TenantId,
        etag: Option<Etag>,
        to: TenantMove,
        reason: &str,
    ) -> Result<Tenant> {
        let reason = (reason.to_owned(), self.grace);
        self.write(change, move |write| life::change_status(write, tenant, etag, to, reason)).await
    }

    async fn erase_expired(&self, change: &Change) -> Result<u32> {
        self.write(change, life::erase_expired).await
    }

    async fn mirror(
        &self,
        instance: InstanceId,
        reports: &[TenantReport],
        _now: Timestamp,
    ) -> Result<Vec<TenantId>> {
        let reports = reports.to_vec();
        self.db
            .write("tenant.mirrored", move |transaction| mirror::mirror(transaction, instance, &reports))
            .await
    }
}

/// Says what stands against the tenant before a place is looked for: that stays true when there are places again.
fn refuse_a_second(write: &Write<'_>, tenant: &NewTenant) -> Result<()> {
    let owned = query::exists(
        write.transaction,
        "SELECT 1
           FROM tenants
          WHERE owner = :owner",
        named_params! { ":owner": tenant.owner.as_str() },
    )?;
    if owned {
        return Err(Error::Conflict("the organisation has a tenant already".into()));
    }
    let given = query::exists(
        write.transaction,
        "SELECT 1
           FROM tenants
          WHERE slug = :slug",
        named_params! { ":slug": tenant.slug.as_str() },
    )?;
    if given {
        return Err(Error::Conflict(format!("the slug {} was given already", tenant.slug)));
    }
    Ok(())
}

/// Takes a place on the emptiest healthy instance of the region, and says whose it is.
fn place(write: &Write<'_>, region: &Region) -> Result<String> {
    let silent = write.change.time.saturating_sub(UNREACHABLE_AFTER).map_err(Error::internal)?;
    let instance = query::row(
        write.transaction,
        "UPDATE instances
            SET tenant_count = tenant_count + 1
          WHERE instance_id = (
                SELECT instance_id
                  FROM instances
                 WHERE status = 'active' AND mode = 'shared' AND region = :region AND tenant_count < max_tenants
                   AND maintenance = 0
                   AND EXISTS (
                       SELECT 1
                         FROM mesh_keys
                        WHERE module = 'stack' AND instance = instance_id)
                   AND EXISTS (
                       SELECT 1
                         FROM health
                        WHERE module = 'stack' AND instance = instance_id AND state = 'healthy'
                          AND report_time > :silent)
                 ORDER BY tenant_count, create_time, instance_id
                 LIMIT 1)
         RETURNING instance_id",
        named_params! { ":region": region.as_str(), ":silent": silent.as_microsecond() },
        |row| row.get("instance_id"),
    )?;
    instance.ok_or_else(|| {
        Error::unavailable(format!("no healthy instance of region {region} has a place"), PLACE_AFTER)
    })
}

fn insert(write: &Write<'_>, tenant: &NewTenant, instance: &str) -> Result<()> {
    let NewTenant { id, slug, name, owner, creator, region: _ } = tenant;
    query::execute(
        write.transaction,
        "INSERT INTO tenants (tenant_id, slug, name, owner, founder, instance_id, status, create_time)
         VALUES (:tenant_id, :slug, :name, :owner, :founder, :instance_id, 'creating', :now)",
        named_params! {
            ":tenant_id": id.to_string(),
            ":slug": slug.as_str(),
            ":name": name,
            ":owner": owner.as_str(),
            ":founder": creator.as_str(),
            ":instance_id": instance,
            ":now": write.now(),
        },
    )?;
    query::execute(
        write.transaction,
        "INSERT INTO memberships (tenant_id, sub, role)
         VALUES (:tenant_id, :sub, :role)",
        named_params! {
            ":tenant_id": id.to_string(),
            ":sub": creator.as_str(),
            ":role": TenantRole::Admin.as_str(),
        },
    )
    .map(drop)
}

fn find(connection: &Connection, id: TenantId) -> Result<Option<Tenant>> {
    let id = id.to_string();
    query::row(connection, select!("AND tenant_id = :id"), named_params! { ":id": id }, tenant)
}

fn get(connection: &Connection, id: TenantId) -> Result<Tenant> {
    find(connection, id)?.ok_or_else(|| Error::not_found("tenant", id))
}

fn list_of(connection: &Connection, member: &Sub, page: &Page) -> Result<Listed<Tenant>> {
    let start = Start::of(page);
    let tenants = query::rows(
        connection,
        select!(
            "AND tenant_id IN (SELECT tenant_id FROM memberships WHERE sub = :sub)
             AND (tenants.create_time, tenant_id) < (:time, :id)
           ORDER BY tenants.create_time DESC, tenant_id DESC
           LIMIT :limit"
        ),
        named_params! {
            ":sub": member.as_str(),
            ":time": start.time,
            ":id": start.id,
            ":limit": start.limit,
        },
        tenant,
    )?;
    Ok(page.cut(tenants, position))
}

fn list(connection: &Connection, filter: &TenantFilter, page: &Page) -> Result<Listed<Tenant>> {
    let TenantFilter { search, instance } = filter;
    let start = Start::of(page);
    let tenants = query::rows(
        connection,
        select!(
            r"AND (slug LIKE :search ESCAPE '\' OR name LIKE :search ESCAPE '\')
              AND (:instance_id IS NULL OR instance_id = :instance_id)
              AND (tenants.create_time, tenant_id) < (:time, :id)
            ORDER BY tenants.create_time DESC, tenant_id DESC
            LIMIT :limit"
        ),
        named_params! {
            ":search": query::containing(search),
            ":instance_id": instance.map(|instance| instance.to_string()),
            ":time": start.time,
            ":id": start.id,
            ":limit": start.limit,
        },
        tenant,
    )?;
    Ok(page.cut(tenants, position))
}

fn position(tenant: &Tenant) -> Position {
    Position { create_time: tenant.create_time, id: tenant.id.to_string() }
}

fn memberships(connection: &Connection, member: &Sub) -> Result<Memberships> {
    query::rows(
        connection,
        "SELECT tenant_id, slug, role, status
           FROM memberships
           JOIN tenants USING (tenant_id)
          WHERE sub = :sub AND status NOT IN ('erasing', 'erased')
          ORDER BY tenant_id
          LIMIT :limit",
        named_params! { ":sub": member.as_str(), ":limit": i64::try_from(Memberships::MAX).unwrap_or(i64::MAX) },
        |row| {
            Ok(Membership {
                tenant: column::word(row, "tenant_id")?,
                slug: row.get("slug")?,
                role: column::word(row, "role")?,
                standing: column::word::<TenantStatus>(row, "status")?.standing(),
            })
        },
    )
    .map(Memberships::new)
}

fn tenant(row: &Row<'_>) -> rusqlite::Result<Tenant> {
    Ok(Tenant {
        id: column::word(row, "tenant_id")?,
        slug: column::word(row, "slug")?,
        name: row.get("name")?,
        owner: column::word(row, "owner")?,
        grant: column::grant(row)?,
        instance: column::word(row, "instance_id")?,
        status: column::word(row, "status")?,
        erase_time: null::time(row, "erase_time")?,
        members: row.get("members")?,
        usage: Usage { stacks: row.get("stacks")?, storage_gb: row.get("storage_gb")? },
        create_time: column::time(row, "create_time")?,
        etag: column::etag(row)?,
    })
}
