//! Instances. A removed one keeps its row as 'deleted', which no query here shows.

use async_trait::async_trait;
use kombify_core::instance::{Instance, InstanceStatus, InstanceStore, NewInstance};
use kombify_core::page::Position;
use kombify_core::{Change, Error, Etag, InstanceId, Listed, Page, Result};
use kombify_sqlite::{constraint, internal};
use rusqlite::{Connection, Row, named_params};

use crate::query::Start;
use crate::write::Write;
use crate::{PlatformSqlite, column, query};

macro_rules! select {
    ($rest:literal) => {
        concat!(
            "SELECT instance_id, name, region, mode, status, max_tenants, tenant_count, internal_endpoint,
                    public_endpoint, create_time, version
               FROM instances
              WHERE status <> 'deleted'
            ",
            $rest
        )
    };
}

#[async_trait]
impl InstanceStore for PlatformSqlite {
    async fn register(&self, change: &Change, instance: &NewInstance) -> Result<Instance> {
        let instance = instance.clone();
        self.write(change, move |write| {
            if let Some(earlier) = write.repeated()? {
                return get(write.transaction, earlier.parse().map_err(Error::internal)?);
            }
            insert(write, &instance)?;
            write.audit(&instance.id, None, [("name", instance.name)])?;
            write.promise(&instance.id.to_string())?;
            get(write.transaction, instance.id)
        })
        .await
    }

    async fn find(&self, id: InstanceId) -> Result<Option<Instance>> {
        self.db.read(move |connection| find(connection, id)).await
    }

    async fn list(&self, status: Option<InstanceStatus>, page: &Page) -> Result<Listed<Instance>> {
        let page = page.clone();
        self.db.read(move |connection| list(connection, status, &page)).await
    }

    async fn set_status(
        &self,
        change: &Change,
        id: InstanceId,
        etag: Option<Etag>,
        status: InstanceStatus,
    ) -> Result<Instance> {
        self.write(change, move |write| {
            let instance = get(write.transaction, id)?;
            Etag::check(etag, instance.etag)?;
            if instance.status != status {
                set_status(write, id, status.as_str())?;
            }
            write.audit(&id, None, [("name", instance.name)])?;
            get(write.transaction, id)
        })
        .await
    }

    async fn remove(&self, change: &Change, id: InstanceId, etag: Option<Etag>) -> Result<()> {
        self.write(change, move |write| {
            let instance = get(write.transaction, id)?;
            Etag::check(etag, instance.etag)?;
            match instance.status {
                InstanceStatus::Active => {
                    Err(Error::PreconditionFailed("the instance takes tenants: drain it first".into()))
                }
                InstanceStatus::Draining if instance.tenant_count > 0 => {
                    let tenants = instance.tenant_count;
                    Err(Error::PreconditionFailed(format!("the instance has tenants, still {tenants}")))
                }
                InstanceStatus::Draining => {
                    set_status(write, id, "deleted")?;
                    write.audit(&id, None, [("name", instance.name)])
                }
            }
        })
        .await
    }
}

fn insert(write: &Write<'_>, instance: &NewInstance) -> Result<()> {
    let NewInstance { id, name, region, mode, max_tenants, internal_endpoint, public_endpoint } = instance;
    let inserted = query::attempt(
        write.transaction,
        "INSERT INTO instances (instance_id, name, region, mode, status, max_tenants, internal_endpoint,
                                public_endpoint, create_time)
         VALUES (:instance_id, :name, :region, :mode, 'active', :max_tenants, :internal_endpoint,
                 :public_endpoint, :now)",
        named_params! {
            ":instance_id": id.to_string(),
            ":name": name,
            ":region": region.as_str(),
            ":mode": mode.as_str(),
            ":max_tenants": max_tenants,
            ":internal_endpoint": internal_endpoint,
            ":public_endpoint": public_endpoint,
            ":now": write.now(),
        },
    );
    inserted.map(drop).map_err(|fault| match constraint(&fault) {
        Some("instances.name") => Error::Conflict(format!("an instance has the name {name}")),
        _ => internal(fault),
    })
}

fn find(connection: &Connection, id: InstanceId) -> Result<Option<Instance>> {
    let id = id.to_string();
    query::row(connection, select!("AND instance_id = :id"), named_params! { ":id": id }, instance)
}

fn get(connection: &Connection, id: InstanceId) -> Result<Instance> {
    find(connection, id)?.ok_or_else(|| Error::not_found("instance", id))
}

fn list(connection: &Connection, status: Option<InstanceStatus>, page: &Page) -> Result<Listed<Instance>> {
    let start = Start::of(page);
    let instances = query::rows(
        connection,
        select!(
            "AND (:status IS NULL OR status = :status)
             AND (create_time, instance_id) < (:time, :id)
           ORDER BY create_time DESC, instance_id DESC
           LIMIT :limit"
        ),
        named_params! {
            ":status": status.map(InstanceStatus::as_str),
            ":time": start.time,
            ":id": start.id,
            ":limit": start.limit,
        },
        instance,
    )?;
    Ok(page.cut(instances, |instance| Position {
        create_time: instance.create_time,
        id: instance.id.to_string(),
    }))
}

fn set_status(write: &Write<'_>, id: InstanceId, status: &str) -> Result<()> {
    query::execute(
        write.transaction,
        "UPDATE instances
            SET status = :status, version = version + 1
          WHERE instance_id = :id",
        named_params! { ":id": id.to_string(), ":status": status },
    )
    .map(drop)
}

fn instance(row: &Row<'_>) -> rusqlite::Result<Instance> {
    Ok(Instance {
        id: column::word(row, "instance_id")?,
        name: row.get("name")?,
        region: column::word(row, "region")?,
        mode: column::word(row, "mode")?,
        status: column::word(row, "status")?,
        max_tenants: row.get("max_tenants")?,
        tenant_count: row.get("tenant_count")?,
        internal_endpoint: row.get("internal_endpoint")?,
        public_endpoint: row.get("public_endpoint")?,
        create_time: column::time(row, "create_time")?,
        etag: column::etag(row)?,
    })
}
