//! Tenants, their places and their members.

use std::time::Duration;

use async_trait::async_trait;
use kombify_core::page::Position;
use kombify_core::tenant::{NewTenant, Region, Tenant, TenantFilter, TenantStore};
use kombify_core::{
    Change, Error, Listed, Membership, Memberships, Page, Result, Sub, TenantId, TenantRole, TenantScope,
};
use rusqlite::{Connection, Row, named_params};

use crate::query::Start;
use crate::write::Write;
use crate::{PlatformSqlite, column, organisation, query};

/// When to try again where a region is full: an instance has to be added first.
const PLACE_AFTER: Duration = Duration::from_secs(30);

macro_rules! select {
    ($rest:literal) => {
        concat!(
            "SELECT tenant_id, slug, name, owner, instance_id, tenants.create_time AS create_time, version, plan,
                    plan_end_time,
                    (SELECT COUNT(*) FROM memberships WHERE memberships.tenant_id = tenants.tenant_id) AS members
               FROM tenants
               JOIN organisations ON org_id = owner
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

/// Takes a place on the emptiest instance of the region, and says whose it is.
fn place(write: &Write<'_>, region: &Region) -> Result<String> {
    let instance = query::row(
        write.transaction,
        "UPDATE instances
            SET tenant_count = tenant_count + 1
          WHERE instance_id = (
                SELECT instance_id
                  FROM instances
                 WHERE status = 'active' AND mode = 'shared' AND region = :region AND tenant_count < max_tenants
                 ORDER BY tenant_count, create_time, instance_id
                 LIMIT 1)
         RETURNING instance_id",
        named_params! { ":region": region.as_str() },
        |row| row.get("instance_id"),
    )?;
    instance
        .ok_or_else(|| Error::unavailable(format!("no instance of region {region} has a place"), PLACE_AFTER))
}

fn insert(write: &Write<'_>, tenant: &NewTenant, instance: &str) -> Result<()> {
    let NewTenant { id, slug, name, owner, creator, region: _ } = tenant;
    query::execute(
        write.transaction,
        "INSERT INTO tenants (tenant_id, slug, name, owner, instance_id, create_time)
         VALUES (:tenant_id, :slug, :name, :owner, :instance_id, :now)",
        named_params! {
            ":tenant_id": id.to_string(),
            ":slug": slug.as_str(),
            ":name": name,
            ":owner": owner.as_str(),
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
    query::row(connection, select!("WHERE tenant_id = :id"), named_params! { ":id": id }, tenant)
}

fn get(connection: &Connection, id: TenantId) -> Result<Tenant> {
    find(connection, id)?.ok_or_else(|| Error::not_found("tenant", id))
}

fn list_of(connection: &Connection, member: &Sub, page: &Page) -> Result<Listed<Tenant>> {
    let start = Start::of(page);
    let tenants = query::rows(
        connection,
        select!(
            "WHERE tenant_id IN (SELECT tenant_id FROM memberships WHERE sub = :sub)
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
            r"WHERE (slug LIKE :search ESCAPE '\' OR name LIKE :search ESCAPE '\')
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
        "SELECT tenant_id, slug, role
           FROM memberships
           JOIN tenants USING (tenant_id)
          WHERE sub = :sub
          ORDER BY tenant_id
          LIMIT :limit",
        named_params! { ":sub": member.as_str(), ":limit": i64::try_from(Memberships::MAX).unwrap_or(i64::MAX) },
        |row| {
            Ok(Membership {
                tenant: column::word(row, "tenant_id")?,
                slug: row.get("slug")?,
                role: column::word(row, "role")?,
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
        members: row.get("members")?,
        create_time: column::time(row, "create_time")?,
        etag: column::etag(row)?,
    })
}
