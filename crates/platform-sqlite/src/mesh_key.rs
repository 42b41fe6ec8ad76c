//! The keys of the mesh.

use async_trait::async_trait;
use kombify_core::mesh_key::{MAX_KEYS, MeshKey, MeshKeyStore};
use kombify_core::{Change, Error, Result, ServiceIdentity};
use kombify_sqlite::{constraint, internal};
use rusqlite::{Connection, Row, named_params};

use crate::PlatformSqlite;
use kombify_sqlite::ledger::Write;
use kombify_sqlite::query;

#[async_trait]
impl MeshKeyStore for PlatformSqlite {
    async fn find(&self, service: &ServiceIdentity) -> Result<Option<MeshKey>> {
        let service = service.clone();
        self.db.read(move |connection| find(connection, &service)).await
    }

    async fn register(&self, change: &Change, key: &MeshKey, replaces: Option<&str>) -> Result<MeshKey> {
        let (key, replaces) = (key.clone(), replaces.map(str::to_owned));
        self.write(change, move |write| match put_in_place(write, &key, replaces.as_deref())? {
            Placed::Already => Ok(key),
            Placed::Anew => {
                write.audit(&key.service, None, [("kid", key.kid.clone())])?;
                Ok(key)
            }
            Placed::Not => Err(Error::Conflict(format!(
                "{} has another key: prove that this one replaces it",
                key.service
            ))),
        })
        .await
    }

    async fn list(&self) -> Result<Vec<MeshKey>> {
        self.db.read(list).await
    }
}

/// What became of a key that was to be registered.
pub(crate) enum Placed {
    /// It is there already.
    Already,
    /// It is there from now on.
    Anew,
    /// It is not: another one is there than the one that it replaces.
    Not,
}

/// Puts the key in the place of the one with the id `replaces` (`None`: of none).
pub(crate) fn put_in_place(write: &Write<'_>, key: &MeshKey, replaces: Option<&str>) -> Result<Placed> {
    match (find(write.transaction, &key.service)?, replaces) {
        (Some(present), _) if present == *key => return Ok(Placed::Already),
        (None, None) => make_room(write)?,
        (Some(present), Some(old)) if present.kid == old => {}
        (Some(_), _) | (None, Some(_)) => return Ok(Placed::Not),
    }
    put(write, key)?;
    Ok(Placed::Anew)
}

/// Takes the key of the service away: it signs no more.
pub(crate) fn remove(write: &Write<'_>, service: &ServiceIdentity) -> Result<()> {
    query::execute(
        write.transaction,
        "DELETE FROM mesh_keys
          WHERE module = :module AND instance = :instance",
        named_params! { ":module": service.module, ":instance": service.instance },
    )
    .map(drop)
}

fn find(connection: &Connection, service: &ServiceIdentity) -> Result<Option<MeshKey>> {
    query::row(
        connection,
        "SELECT module, instance, kid, public_key
           FROM mesh_keys
          WHERE module = :module AND instance = :instance",
        named_params! { ":module": service.module, ":instance": service.instance },
        key,
    )
}

fn make_room(write: &Write<'_>) -> Result<()> {
    let full = query::exists(
        write.transaction,
        "SELECT 1
           FROM mesh_keys
          LIMIT 1 OFFSET :last",
        named_params! { ":last": MAX_KEYS - 1 },
    )?;
    if full { Err(Error::Conflict(format!("the mesh has {MAX_KEYS} keys already"))) } else { Ok(()) }
}

fn put(write: &Write<'_>, key: &MeshKey) -> Result<()> {
    let MeshKey { kid, service, public_key } = key;
    let put = query::attempt(
        write.transaction,
        "INSERT INTO mesh_keys (module, instance, kid, public_key, create_time)
         VALUES (:module, :instance, :kid, :public_key, :now)
         ON CONFLICT (module, instance)
         DO UPDATE SET kid = excluded.kid, public_key = excluded.public_key, create_time = excluded.create_time",
        named_params! {
            ":module": service.module,
            ":instance": service.instance,
            ":kid": kid,
            ":public_key": public_key,
            ":now": write.now(),
        },
    );
    put.map(drop).map_err(|fault| match constraint(&fault) {
        // Who signs with a key is told by its id: two services must never share one.
        Some("mesh_keys.kid") => Error::Conflict("the key is another service's".into()),
        _ => internal(fault),
    })
}

fn list(connection: &Connection) -> Result<Vec<MeshKey>> {
    query::rows(
        connection,
        "SELECT module, instance, kid, public_key
           FROM mesh_keys
          ORDER BY module, instance",
        (),
        key,
    )
}

fn key(row: &Row<'_>) -> rusqlite::Result<MeshKey> {
    Ok(MeshKey {
        kid: row.get("kid")?,
        service: ServiceIdentity { module: row.get("module")?, instance: row.get("instance")? },
        public_key: row.get("public_key")?,
    })
}
