//! Instances. A removed one keeps its row as 'deleted', which no query here shows.

use async_trait::async_trait;
use kombify_core::instance::{Claim, Endpoints, Instance, InstanceStatus, InstanceStore, NewInstance};
use kombify_core::mesh_key::MeshKey;
use kombify_core::page::Position;
use kombify_core::{Change, Error, Etag, InstanceId, Listed, Page, Result, ServiceIdentity};
use kombify_sqlite::{constraint, internal};
use rusqlite::{Connection, Row, named_params};

use crate::mesh_key::{self, Placed};
use crate::{PlatformSqlite, health, sync};
use kombify_sqlite::ledger::Write;
use kombify_sqlite::query::Start;
use kombify_sqlite::{column, query};

macro_rules! select {
    ($rest:literal) => {
        concat!(
            "SELECT instance_id, name, region, mode, status, max_tenants, tenant_count, internal_endpoint,
                    public_endpoint, maintenance, create_time, version, ",
            health::columns!(),
            "
               FROM instances
               LEFT JOIN health ON module = 'stack' AND instance = instance_id
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

    async fn set_endpoints(
        &self,
        change: &Change,
        id: InstanceId,
        etag: Option<Etag>,
        endpoints: Endpoints,
    ) -> Result<Instance> {
        self.write(change, move |write| {
            let instance = get(write.transaction, id)?;
            Etag::check(etag, instance.etag)?;
            let internal = endpoints.internal.unwrap_or_else(|| instance.internal_endpoint.clone());
            let public = endpoints.public.unwrap_or_else(|| instance.public_endpoint.clone());
            if (&internal, &public) != (&instance.internal_endpoint, &instance.public_endpoint) {
                set_endpoints(write, id, &internal, &public)?;
                sync::reach(write, &stack(id), &internal)?;
            }
            let details =
                [("name", instance.name), ("internalEndpoint", internal), ("publicEndpoint", public)];
            write.audit(&id, None, details)?;
            get(write.transaction, id)
        })
        .await
    }

    async fn set_maintenance(
        &self,
        change: &Change,
        id: InstanceId,
        etag: Option<Etag>,
        maintenance: bool,
    ) -> Result<Instance> {
        self.write(change, move |write| {
            let instance = get(write.transaction, id)?;
            Etag::check(etag, instance.etag)?;
            if instance.maintenance != maintenance {
                set_maintenance(write, id, maintenance)?;
                health::note_maintenance(write, &stack(id), instance.health.as_ref(), maintenance)?;
            }
            write.audit(&id, None, [("name", instance.name)])?;
            get(write.transaction, id)
        })
        .await
    }

    async fn find_by_name(&self, name: &str) -> Result<Option<Instance>> {
        let name = name.to_owned();
        self.db.read(move |connection| find_by_name(connection, &name)).await
    }

    async fn claim(&self, change: &Change, id: InstanceId, claim: &Claim) -> Result<Instance> {
        let claim = claim.clone();
        self.write(change, move |write| {
            let Claim { join_secret_hash, kid, public_key, replaces } = claim;
            if !knows_secret(write.transaction, id, &join_secret_hash)? {
                return Err(Error::AuthInvalid("there is no such instance, or its join secret is another"));
            }
            let instance = get(write.transaction, id)?;
            let key = MeshKey { kid, service: stack(id), public_key };
            match mesh_key::put_in_place(write, &key, replaces.as_deref())? {
                Placed::Already => {}
                Placed::Anew => {
                    write.audit(&id, None, [("name", instance.name.clone()), ("kid", key.kid.clone())])?;
                }
                Placed::Not => {
                    return Err(Error::AuthInvalid(
                        "the instance has another key: prove that this one replaces it",
                    ));
                }
            }
            sync::connect(write, &key.service, &instance.internal_endpoint)?;
            Ok(instance)
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
                    let stack = stack(id);
                    mesh_key::remove(write, &stack)?;
                    sync::disconnect(write, &stack)?;
                    health::forget(write, &stack)?;
                    write.audit(&id, None, [("name", instance.name)])
                }
            }
        })
        .await
    }
}

/// The name of the instance in the mesh.
fn stack(id: InstanceId) -> ServiceIdentity {
    ServiceIdentity { module: "stack".to_owned(), instance: id.to_string() }
}

fn insert(write: &Write<'_>, instance: &NewInstance) -> Result<()> {
    let NewInstance {
        id,
        name,
        region,
        mode,
        max_tenants,
        internal_endpoint,
        public_endpoint,
        join_secret_hash,
    } = instance;
    let inserted = query::attempt(
        write.transaction,
        "INSERT INTO instances (instance_id, name, region, mode, status, max_tenants, internal_endpoint,
                                public_endpoint, join_secret_hash, create_time)
         VALUES (:instance_id, :name, :region, :mode, 'active', :max_tenants, :internal_endpoint,
                 :public_endpoint, :join_secret_hash, :now)",
        named_params! {
            ":instance_id": id.to_string(),
            ":name": name,
            ":region": region.as_str(),
            ":mode": mode.as_str(),
            ":max_tenants": max_tenants,
            ":internal_endpoint": internal_endpoint,
            ":public_endpoint": public_endpoint,
            ":join_secret_hash": join_secret_hash,
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

fn find_by_name(connection: &Connection, name: &str) -> Result<Option<Instance>> {
    query::row(connection, select!("AND name = :name"), named_params! { ":name": name }, instance)
}

/// Hashes are compared, so that how long it takes says nothing of the secret.
fn knows_secret(connection: &Connection, id: InstanceId, join_secret_hash: &[u8; 32]) -> Result<bool> {
    query::exists(
        connection,
        "SELECT 1
           FROM instances
          WHERE instance_id = :id AND status <> 'deleted' AND join_secret_hash = :join_secret_hash",
        named_params! { ":id": id.to_string(), ":join_secret_hash": join_secret_hash },
    )
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

fn set_endpoints(write: &Write<'_>, id: InstanceId, internal: &str, public: &str) -> Result<()> {
    query::execute(
        write.transaction,
        "UPDATE instances
            SET internal_endpoint = :internal_endpoint, public_endpoint = :public_endpoint, version = version + 1
          WHERE instance_id = :id",
        named_params! {
            ":id": id.to_string(),
            ":internal_endpoint": internal,
            ":public_endpoint": public,
        },
    )
    .map(drop)
}

fn set_maintenance(write: &Write<'_>, id: InstanceId, maintenance: bool) -> Result<()> {
    query::execute(
        write.transaction,
        "UPDATE instances
            SET maintenance = :maintenance, version = version + 1
          WHERE instance_id = :id",
        named_params! { ":id": id.to_string(), ":maintenance": maintenance },
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
        maintenance: row.get("maintenance")?,
        health: health::tracked(row)?,
        create_time: column::time(row, "create_time")?,
        etag: column::etag(row)?,
    })
}
