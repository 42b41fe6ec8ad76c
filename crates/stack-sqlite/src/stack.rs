//! A tenant's stacks.

use async_trait::async_trait;
use kombify_core::page::Position;
use kombify_core::stack::{NewStack, PinnedKit, Stack, StackLimits, StackName, StackPatch, StackStore};
use kombify_core::{Change, Error, Etag, Listed, Page, Result, StackId, TenantId, TenantScope};
use kombify_sqlite::ledger::Write;
use kombify_sqlite::query::Start;
use kombify_sqlite::{column, constraint, internal, query};
use rusqlite::{Connection, Row, named_params};

use crate::StackSqlite;
use crate::report::GIGABYTE;

macro_rules! select {
    ($rest:literal) => {
        concat!(
            "SELECT stack_id, name, kit_id, kit_version, kit_digest, spec_yaml, create_time, update_time, version
               FROM stacks
            ",
            $rest
        )
    };
}

#[async_trait]
impl StackStore for StackSqlite {
    async fn create(
        &self,
        scope: TenantScope,
        change: &Change,
        stack: &NewStack,
        limits: StackLimits,
    ) -> Result<Stack> {
        let stack = stack.clone();
        self.change_file(scope, change, move |write| create(write, scope.tenant(), &stack, limits)).await
    }

    async fn repeated(&self, scope: TenantScope, change: &Change) -> Result<Option<Stack>> {
        if change.idempotency.is_none() {
            return Ok(None);
        }
        self.change_file(scope, change, move |write| repeated(write, scope.tenant())).await
    }

    async fn find(&self, scope: TenantScope, id: StackId) -> Result<Option<Stack>> {
        self.read_file(scope, move |connection| find(connection, scope.tenant(), id)).await
    }

    async fn list(&self, scope: TenantScope, page: &Page) -> Result<Listed<Stack>> {
        let page = page.clone();
        self.read_file(scope, move |connection| list(connection, scope.tenant(), &page)).await
    }

    async fn update(
        &self,
        scope: TenantScope,
        change: &Change,
        id: StackId,
        etag: Option<Etag>,
        patch: StackPatch,
        limits: StackLimits,
    ) -> Result<Stack> {
        self.change_file(scope, change, move |write| {
            let before = get(write.transaction, scope.tenant(), id)?;
            Etag::check(etag, before.etag)?;
            update(write, &before, patch, limits)
        })
        .await
    }

    async fn delete(
        &self,
        scope: TenantScope,
        change: &Change,
        id: StackId,
        etag: Option<Etag>,
    ) -> Result<()> {
        self.change_file(scope, change, move |write| delete(write, scope.tenant(), id, etag)).await
    }
}

fn repeated(write: &Write<'_>, tenant: TenantId) -> Result<Option<Stack>> {
    let Some(earlier) = write.repeated()? else { return Ok(None) };
    get(write.transaction, tenant, earlier.parse().map_err(Error::internal)?).map(Some)
}

fn create(write: &Write<'_>, tenant: TenantId, new: &NewStack, limits: StackLimits) -> Result<Stack> {
    if let Some(earlier) = repeated(write, tenant)? {
        return Ok(earlier);
    }
    // What stands against the stack is said before a missing place: that stays true on a larger plan.
    refuse_name(write.transaction, &new.name)?;
    let used = count(write.transaction)?;
    if used >= limits.stacks {
        return Err(Error::QuotaExceeded { resource: "stacks", limit: limits.stacks, used });
    }
    refuse_to_grow(write.transaction, limits.storage_gb)?;
    let NewStack { id, name, kit, spec_yaml } = new;
    let stack = Stack {
        id: *id,
        tenant,
        name: name.clone(),
        kit: kit.clone(),
        spec_yaml: spec_yaml.clone(),
        create_time: write.change.time,
        update_time: write.change.time,
        etag: Etag::of(1),
    };
    insert(write, &stack)?;
    let details = [("name", name.to_string()), ("kit", pinned(kit.as_ref()))];
    write.audit(id, Some(tenant), details)?;
    write.promise(&id.to_string())?;
    get(write.transaction, tenant, *id)
}

fn update(write: &Write<'_>, before: &Stack, patch: StackPatch, limits: StackLimits) -> Result<Stack> {
    let (id, tenant) = (before.id, before.tenant);
    refuse_over(write.transaction, before, limits.stacks)?;
    let StackPatch { name, spec_yaml, kit } = patch;
    let after = Stack {
        name: name.unwrap_or_else(|| before.name.clone()),
        spec_yaml: spec_yaml.unwrap_or_else(|| before.spec_yaml.clone()),
        kit: kit.unwrap_or_else(|| before.kit.clone()),
        ..before.clone()
    };
    if after.name != before.name {
        refuse_name(write.transaction, &after.name)?;
    }
    if after.spec_yaml.len() > before.spec_yaml.len() {
        refuse_to_grow(write.transaction, limits.storage_gb)?;
    }
    if after != *before {
        put(write, &after)?;
    }
    let details = [("name", after.name.to_string()), ("kit", pinned(after.kit.as_ref()))];
    write.audit(&id, Some(tenant), details)?;
    get(write.transaction, tenant, id)
}

fn delete(write: &Write<'_>, tenant: TenantId, id: StackId, etag: Option<Etag>) -> Result<()> {
    let before = get(write.transaction, tenant, id)?;
    Etag::check(etag, before.etag)?;
    query::execute(
        write.transaction,
        "DELETE FROM stacks
          WHERE stack_id = :stack_id",
        named_params! { ":stack_id": id.to_string() },
    )?;
    write.audit(&id, Some(tenant), [("name", before.name.to_string())])
}

/// Refuses what would need more storage than the plan has.
fn refuse_to_grow(connection: &Connection, limit: u32) -> Result<()> {
    let used = query::row(
        connection,
        "SELECT (page_count - freelist_count) * page_size AS bytes
           FROM pragma_page_count, pragma_freelist_count, pragma_page_size",
        (),
        |row| row.get::<_, i64>("bytes"),
    )?;
    let used = used.and_then(|bytes| u64::try_from(bytes).ok()).unwrap_or_default();
    if used < u64::from(limit) * GIGABYTE {
        return Ok(());
    }
    let used = u32::try_from(used.div_ceil(GIGABYTE)).unwrap_or(u32::MAX);
    Err(Error::QuotaExceeded { resource: "storage", limit, used })
}

/// Refuses to change a stack that the plan has no place for any more.
fn refuse_over(connection: &Connection, stack: &Stack, limit: u32) -> Result<()> {
    let older = query::row(
        connection,
        "SELECT COUNT(*)
           FROM stacks
          WHERE (create_time, stack_id) < (:create_time, :stack_id)",
        named_params! {
            ":create_time": stack.create_time.as_microsecond(),
            ":stack_id": stack.id.to_string(),
        },
        |row| row.get::<_, u32>(0),
    )?;
    if older.is_some_and(|older| older < limit) {
        return Ok(());
    }
    Err(Error::QuotaExceeded { resource: "stacks", limit, used: count(connection)? })
}

fn refuse_name(connection: &Connection, name: &StackName) -> Result<()> {
    let taken = query::exists(
        connection,
        "SELECT 1
           FROM stacks
          WHERE name = :name",
        named_params! { ":name": name.as_str() },
    )?;
    if taken { Err(taken_already(name)) } else { Ok(()) }
}

fn taken_already(name: &StackName) -> Error {
    Error::Conflict(format!("the tenant has a stack {name} already"))
}

fn count(connection: &Connection) -> Result<u32> {
    let count = query::row(connection, "SELECT COUNT(*) FROM stacks", (), |row| row.get(0))?;
    Ok(count.unwrap_or_default())
}

fn pinned(kit: Option<&PinnedKit>) -> String {
    kit.map(|kit| format!("{}@{}", kit.id, kit.version)).unwrap_or_default()
}

fn insert(write: &Write<'_>, stack: &Stack) -> Result<()> {
    let Stack { id, tenant: _, name, kit, spec_yaml, create_time, update_time, etag: _ } = stack;
    query::attempt(
        write.transaction,
        "INSERT INTO stacks (stack_id, name, kit_id, kit_version, kit_digest, spec_yaml, create_time, update_time)
         VALUES (:stack_id, :name, :kit_id, :kit_version, :kit_digest, :spec_yaml, :create_time, :update_time)",
        named_params! {
            ":stack_id": id.to_string(),
            ":name": name.as_str(),
            ":kit_id": kit.as_ref().map(|kit| &kit.id),
            ":kit_version": kit.as_ref().map(|kit| &kit.version),
            ":kit_digest": kit.as_ref().map(|kit| &kit.digest),
            ":spec_yaml": spec_yaml,
            ":create_time": create_time.as_microsecond(),
            ":update_time": update_time.as_microsecond(),
        },
    )
    .map(drop)
    .map_err(|fault| refused(&fault, name).unwrap_or_else(|| internal(fault)))
}

fn put(write: &Write<'_>, stack: &Stack) -> Result<()> {
    let Stack { id, tenant: _, name, kit, spec_yaml, create_time: _, update_time: _, etag: _ } = stack;
    query::attempt(
        write.transaction,
        "UPDATE stacks
            SET name = :name, kit_id = :kit_id, kit_version = :kit_version, kit_digest = :kit_digest,
                spec_yaml = :spec_yaml, update_time = :now, version = version + 1
          WHERE stack_id = :stack_id",
        named_params! {
            ":stack_id": id.to_string(),
            ":name": name.as_str(),
            ":kit_id": kit.as_ref().map(|kit| &kit.id),
            ":kit_version": kit.as_ref().map(|kit| &kit.version),
            ":kit_digest": kit.as_ref().map(|kit| &kit.digest),
            ":spec_yaml": spec_yaml,
            ":now": write.now(),
        },
    )
    .map(drop)
    .map_err(|fault| refused(&fault, name).unwrap_or_else(|| internal(fault)))
}

/// What a constraint says.
fn refused(fault: &rusqlite::Error, name: &StackName) -> Option<Error> {
    match constraint(fault) {
        Some("stacks.name") => Some(taken_already(name)),
        Some("stacks_spec") => Some(Error::invalid("specYaml", "must have 64 KiB at most")),
        Some(_) | None => None,
    }
}

fn find(connection: &Connection, tenant: TenantId, id: StackId) -> Result<Option<Stack>> {
    query::row(
        connection,
        select!("WHERE stack_id = :stack_id"),
        named_params! { ":stack_id": id.to_string() },
        |row| stack(row, tenant),
    )
}

fn get(connection: &Connection, tenant: TenantId, id: StackId) -> Result<Stack> {
    find(connection, tenant, id)?.ok_or_else(|| Error::not_found("stack", id))
}

fn list(connection: &Connection, tenant: TenantId, page: &Page) -> Result<Listed<Stack>> {
    let start = Start::of(page);
    let stacks = query::rows(
        connection,
        select!(
            "WHERE (create_time, stack_id) < (:time, :id)
             ORDER BY create_time DESC, stack_id DESC
             LIMIT :limit"
        ),
        named_params! { ":time": start.time, ":id": start.id, ":limit": start.limit },
        |row| stack(row, tenant),
    )?;
    let position = |stack: &Stack| Position { create_time: stack.create_time, id: stack.id.to_string() };
    Ok(page.cut(stacks, position))
}

fn stack(row: &Row<'_>, tenant: TenantId) -> rusqlite::Result<Stack> {
    let kit: Option<String> = row.get("kit_id")?;
    let kit = kit
        .map(|id| {
            Ok::<_, rusqlite::Error>(PinnedKit {
                id,
                version: row.get("kit_version")?,
                digest: row.get("kit_digest")?,
            })
        })
        .transpose()?;
    Ok(Stack {
        id: column::word(row, "stack_id")?,
        tenant,
        name: column::word(row, "name")?,
        kit,
        spec_yaml: row.get("spec_yaml")?,
        create_time: column::time(row, "create_time")?,
        update_time: column::time(row, "update_time")?,
        etag: column::etag(row)?,
    })
}
