//! The hand-off: how far each module has what was decided.

mod acknowledge;
mod push;

use async_trait::async_trait;
use jiff::Timestamp;
use kombify_core::placed::{Held, OrganisationPush, PlacedFlags, Push, RevocationPush, TenantPush};
use kombify_core::sync::{SyncKind, SyncStore, SyncStream};
use kombify_core::{Change, OrgId, Result, ServiceIdentity, TenantId};
use kombify_sqlite::ledger::Write;
use kombify_sqlite::{column, query};
use rusqlite::{Connection, Row, Transaction, named_params};

use crate::{PlatformSqlite, flag, null};
use push::Next;

#[async_trait]
impl SyncStore for PlatformSqlite {
    async fn connect(&self, change: &Change, target: &ServiceIdentity, endpoint: &str) -> Result<()> {
        let (target, endpoint) = (target.clone(), endpoint.to_owned());
        self.write(change, move |write| connect(write, &target, &endpoint)).await
    }

    async fn streams(&self) -> Result<Vec<SyncStream>> {
        self.db.read(streams).await
    }

    async fn tenants_for(
        &self,
        target: &ServiceIdentity,
        page: u32,
        after: Option<TenantId>,
    ) -> Result<Option<TenantPush>> {
        let (told, target, after) = (target.clone(), target.clone(), after.filter(|_| page > 1));
        self.next_push(
            page,
            move |connection| push::changed_tenants(connection, &told),
            move |transaction, page| push::page_of_tenants(transaction, &target, page, after),
        )
        .await
    }

    async fn organisations_for(
        &self,
        target: &ServiceIdentity,
        page: u32,
        after: Option<&OrgId>,
    ) -> Result<Option<OrganisationPush>> {
        let (told, target, after) = (target.clone(), target.clone(), after.filter(|_| page > 1).cloned());
        self.next_push(
            page,
            move |connection| push::changed_organisations(connection, &told),
            move |transaction, page| push::page_of_organisations(transaction, &target, page, after.as_ref()),
        )
        .await
    }

    async fn revocations_for(
        &self,
        target: &ServiceIdentity,
        page: u32,
        after: Option<&str>,
        now: Timestamp,
    ) -> Result<Option<RevocationPush>> {
        let (told, target) = (target.clone(), target.clone());
        let after = after.filter(|_| page > 1).map(str::to_owned);
        self.next_push(
            page,
            move |connection| push::changed_revocations(connection, &told),
            move |transaction, page| {
                push::page_of_revocations(transaction, &target, page, after.as_deref(), now)
            },
        )
        .await
    }

    async fn flags(&self) -> Result<PlacedFlags> {
        self.db.read(flag::placed).await
    }

    async fn acknowledge(
        &self,
        change: &Change,
        target: &ServiceIdentity,
        kind: SyncKind,
        pushed: u32,
        held: &Held,
        tenants: &[TenantId],
    ) -> Result<()> {
        let (target, held, tenants) = (target.clone(), held.clone(), tenants.to_vec());
        self.write(change, move |write| {
            acknowledge::acknowledge(write, &target, kind, pushed, &held, &tenants)
        })
        .await
    }

    async fn postpone(
        &self,
        target: &ServiceIdentity,
        kind: SyncKind,
        error: &str,
        next_attempt_time: Timestamp,
    ) -> Result<()> {
        let (target, error) = (target.clone(), error.to_owned());
        let postpone = move |transaction: &Transaction<'_>| {
            query::execute(
                transaction,
                "UPDATE sync_streams
                    SET attempts = attempts + 1, last_error = :error, next_attempt_time = :next_attempt_time
                  WHERE module = :module AND instance = :instance AND kind = :kind",
                named_params! {
                    ":module": target.module,
                    ":instance": target.instance,
                    ":kind": kind.as_str(),
                    ":error": error,
                    ":next_attempt_time": next_attempt_time.as_microsecond(),
                },
            )
            .map(drop)
        };
        self.db.write("sync.postponed", postpone).await
    }
}

impl PlatformSqlite {
    /// The next push of a kind: what `changes` finds, or the page of a snapshot that `snapshot` gives, for `page` 0 the
    /// first one.
    async fn next_push<T: Send + 'static>(
        &self,
        page: u32,
        changes: impl FnOnce(&Connection) -> Result<Next<T>> + Send + 'static,
        snapshot: impl FnOnce(&Transaction<'_>, u32) -> Result<Option<Push<T>>> + Send + 'static,
    ) -> Result<Option<Push<T>>> {
        let page = if page == 0 {
            match self.db.read(changes).await? {
                Next::Nothing => return Ok(None),
                Next::Changes(push) => return Ok(Some(push)),
                Next::Snapshot => 1,
            }
        } else {
            page
        };
        self.db.write("sync.snapshot", move |transaction| snapshot(transaction, page)).await
    }
}

/// From now on the module is at `endpoint`, and gets everything of its kinds anew.
pub(crate) fn connect(write: &Write<'_>, target: &ServiceIdentity, endpoint: &str) -> Result<()> {
    for kind in SyncKind::of_module(&target.module) {
        query::execute(
            write.transaction,
            "INSERT INTO sync_streams (module, instance, kind, endpoint, next_attempt_time)
             VALUES (:module, :instance, :kind, :endpoint, :now)
             ON CONFLICT (module, instance, kind)
             DO UPDATE SET endpoint = excluded.endpoint, snapshot_due = 1, snapshot_version = NULL,
                           snapshot_last = 0, attempts = 0, next_attempt_time = excluded.next_attempt_time,
                           last_error = ''",
            named_params! {
                ":module": target.module,
                ":instance": target.instance,
                ":kind": kind.as_str(),
                ":endpoint": endpoint,
                ":now": write.now(),
            },
        )?;
    }
    // It reports everything anew, and its versions may be older than they were: a backup may stand in its place.
    query::execute(
        write.transaction,
        "UPDATE tenants
            SET reported_version = 0
          WHERE :module = 'stack' AND instance_id = :instance",
        named_params! { ":module": target.module, ":instance": target.instance },
    )
    .map(drop)
}

/// From now on the module is at `endpoint`; what waits is tried there at once.
pub(crate) fn reach(write: &Write<'_>, target: &ServiceIdentity, endpoint: &str) -> Result<()> {
    query::execute(
        write.transaction,
        "UPDATE sync_streams
            SET endpoint = :endpoint, next_attempt_time = :now
          WHERE module = :module AND instance = :instance",
        named_params! {
            ":module": target.module,
            ":instance": target.instance,
            ":endpoint": endpoint,
            ":now": write.now(),
        },
    )
    .map(drop)
}

/// The module is gone: nothing is pushed to it any more.
pub(crate) fn disconnect(write: &Write<'_>, target: &ServiceIdentity) -> Result<()> {
    for sql in [
        "DELETE FROM sync_streams
          WHERE module = :module AND instance = :instance",
        "DELETE FROM outbox
          WHERE module = :module AND instance = :instance",
    ] {
        let whose = named_params! { ":module": target.module, ":instance": target.instance };
        query::execute(write.transaction, sql, whose)?;
    }
    Ok(())
}

fn streams(connection: &Connection) -> Result<Vec<SyncStream>> {
    let mut streams = query::rows(
        connection,
        "SELECT module, instance, kind, endpoint, acknowledged_version, snapshot_due, attempts, next_attempt_time,
                acknowledge_time, last_error,
                CASE kind
                    WHEN 'flags' THEN (
                         SELECT COUNT(*)
                           FROM flag_changes
                          WHERE flag_changes.version > acknowledged_version)
                    ELSE (
                         SELECT COUNT(*)
                           FROM outbox
                          WHERE outbox.module = sync_streams.module AND outbox.instance = sync_streams.instance
                            AND outbox.kind = sync_streams.kind AND seq > acknowledged_version)
                END AS pending,
                CASE kind
                    WHEN 'flags' THEN (
                         SELECT create_time
                           FROM flag_changes
                          WHERE flag_changes.version > acknowledged_version
                          ORDER BY flag_changes.version
                          LIMIT 1)
                    ELSE (
                         SELECT MIN(create_time)
                           FROM outbox
                          WHERE outbox.module = sync_streams.module AND outbox.instance = sync_streams.instance
                            AND outbox.kind = sync_streams.kind AND seq > acknowledged_version)
                END AS pending_time
           FROM sync_streams
          ORDER BY module, instance",
        (),
        stream,
    )?;
    streams.sort_by(|one, other| {
        let key =
            |stream: &SyncStream| (stream.target.module.clone(), stream.target.instance.clone(), stream.kind);
        key(one).cmp(&key(other))
    });
    Ok(streams)
}

fn stream(row: &Row<'_>) -> rusqlite::Result<SyncStream> {
    Ok(SyncStream {
        target: ServiceIdentity { module: row.get("module")?, instance: row.get("instance")? },
        kind: column::word(row, "kind")?,
        endpoint: row.get("endpoint")?,
        acknowledged_version: row.get("acknowledged_version")?,
        pending: row.get("pending")?,
        pending_time: null::time(row, "pending_time")?,
        snapshot_due: row.get("snapshot_due")?,
        attempts: row.get("attempts")?,
        next_attempt_time: column::time(row, "next_attempt_time")?,
        acknowledge_time: null::time(row, "acknowledge_time")?,
        last_error: row.get("last_error")?,
    })
}

/// How far a stream is: what decides about its next push.
struct Progress {
    acknowledged_version: u32,
    snapshot_due: bool,
    snapshot_version: Option<u32>,
    snapshot_last: bool,
    attempts: u32,
}

/// How far the stream is; `None`: the module never connected, or is not told of the kind.
fn progress(connection: &Connection, target: &ServiceIdentity, kind: SyncKind) -> Result<Option<Progress>> {
    query::row(
        connection,
        "SELECT acknowledged_version, snapshot_due, snapshot_version, snapshot_last, attempts
           FROM sync_streams
          WHERE module = :module AND instance = :instance AND kind = :kind",
        named_params! { ":module": target.module, ":instance": target.instance, ":kind": kind.as_str() },
        |row| {
            Ok(Progress {
                acknowledged_version: row.get("acknowledged_version")?,
                snapshot_due: row.get("snapshot_due")?,
                snapshot_version: row.get("snapshot_version")?,
                snapshot_last: row.get("snapshot_last")?,
                attempts: row.get("attempts")?,
            })
        },
    )
}
