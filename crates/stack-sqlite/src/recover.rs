//! What the process of before left half done, and is brought to its end before anything is served.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::Path;

use kombify_core::{Error, Result, TenantId};
use kombify_sqlite::{column, internal, query};
use rusqlite::{Connection, OpenFlags, TransactionBehavior};

use crate::index;
use crate::{files, tenant};

/// The tenants that there are, behind everything that was mended.
pub(crate) struct Recovered {
    /// Those that have a place here.
    pub(crate) placed: Vec<TenantId>,
    /// Those of them whose index could not be healed.
    pub(crate) stale: Vec<TenantId>,
}

/// A tenant with a row.
struct Known {
    id: TenantId,
    placed: bool,
    erasing: bool,
    dirty: bool,
}

/// Erases what was being erased, and takes over the members that changed. Blocks; nobody else uses the files yet.
pub(crate) fn recover(instance: &Path, tenants: &Path) -> Result<Recovered> {
    let access = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut connection = Connection::open_with_flags(instance, access).map_err(internal)?;
    connection.pragma_update(None, "foreign_keys", true).map_err(internal)?;
    let known = known(&connection)?;
    warn_of_strangers(tenants, &known.iter().map(|known| known.id).collect()).map_err(Error::internal)?;
    let mut recovered = Recovered { placed: Vec::new(), stale: Vec::new() };
    for Known { id, placed, erasing, dirty } in known {
        if erasing {
            files::remove(&files::path(tenants, id)).map_err(Error::internal)?;
            write(&mut connection, |connection| tenant::forget(connection, id))?;
            tracing::info!(tenant.id = %id, "tenant erased");
            continue;
        }
        if placed {
            recovered.placed.push(id);
        }
        // Who has no place here has no members here, and its file cannot be used.
        if dirty
            && placed
            && let Err(cause) = heal(&mut connection, tenants, id)
        {
            tracing::error!(tenant.id = %id, cause, "the members of a tenant cannot be read");
            recovered.stale.push(id);
        }
    }
    Ok(recovered)
}

/// Lets the next recovery take over the members of every tenant.
pub(crate) fn distrust(instance: &Path) -> Result<()> {
    let connection =
        Connection::open_with_flags(instance, OpenFlags::SQLITE_OPEN_READ_WRITE).map_err(internal)?;
    query::execute(&connection, "UPDATE tenants SET dirty = 1", ()).map(drop)
}

fn known(connection: &Connection) -> Result<Vec<Known>> {
    query::rows(
        connection,
        "SELECT tenant_id, placed, erasing, dirty
           FROM tenants
          ORDER BY tenant_id",
        (),
        |row| {
            Ok(Known {
                id: column::word(row, "tenant_id")?,
                placed: row.get("placed")?,
                erasing: row.get("erasing")?,
                dirty: row.get("dirty")?,
            })
        },
    )
}

/// A file that no row knows is somebody's data all the same.
fn warn_of_strangers(tenants: &Path, known: &BTreeSet<TenantId>) -> io::Result<()> {
    for entry in fs::read_dir(tenants)? {
        let path = entry?.path();
        if path.extension() != Some(OsStr::new("db")) {
            continue;
        }
        let id = path.file_stem().and_then(OsStr::to_str).and_then(|stem| stem.parse::<TenantId>().ok());
        if !id.is_some_and(|id| known.contains(&id)) {
            tracing::warn!(path = %path.display(), "a file is there that belongs to no tenant of this instance");
        }
    }
    Ok(())
}

/// Takes the members over from the tenant's file; says why that cannot be done.
fn heal(connection: &mut Connection, tenants: &Path, tenant: TenantId) -> Result<(), String> {
    let path = files::path(tenants, tenant);
    // Opened and closed: of the newest schema, and with what stands in its WAL.
    drop(files::open_blocking(&path, tenant, false).map_err(|cause| cause.to_string())?);
    let file = files::look_into(&path).map_err(|cause| cause.to_string())?;
    let members = index::members(&file).map_err(|fault| said(&fault))?;
    write(connection, |connection| index::take(connection, tenant, &members)).map_err(|fault| said(&fault))
}

fn write(connection: &mut Connection, f: impl FnOnce(&Connection) -> Result<()>) -> Result<()> {
    let transaction =
        connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(internal)?;
    f(&transaction)?;
    transaction.commit().map_err(internal)
}

/// The fault with its cause, which its own words hide.
pub(crate) fn said(fault: &Error) -> String {
    if let Error::Internal(cause) = fault { cause.to_string() } else { fault.to_string() }
}
