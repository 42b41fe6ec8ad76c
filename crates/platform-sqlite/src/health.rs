//! How modules are: their last reports, and the states that began.

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};
use kombify_core::health::{
    Components, HISTORY_HOURS, HealthEvent, HealthReport, HealthState, HealthStore, Metrics, Reporter,
    Tracked, UNREACHABLE_AFTER, state_at,
};
use kombify_core::page::Position;
use kombify_core::{Error, InstanceId, Listed, Page, Result, ServiceIdentity};
use kombify_sqlite::ledger::Write;
use kombify_sqlite::query::Start;
use kombify_sqlite::{column, query};
use rusqlite::{Connection, Row, Transaction, named_params};

use crate::{PlatformSqlite, null};

/// How many events that are past their time a report takes away, so that the table stays small and no write is long.
const SWEPT: u32 = 100;

/// How many modules there are at most in the list of all.
const REPORTERS: u32 = 1000;

/// The columns that [`tracked`] reads, of the table `health`.
macro_rules! columns {
    () => {
        "boot_id, sequence, reported, database, api, agents, cpu_percent, memory_percent, storage_percent,
         reported_tenants, reported_agents, software_version, report_time, state, state_time, streak,
         earlier_boot_id"
    };
}
pub(crate) use columns;

#[async_trait]
impl HealthStore for PlatformSqlite {
    async fn report(&self, service: &ServiceIdentity, report: &HealthReport, now: Timestamp) -> Result<()> {
        let (service, report) = (service.clone(), report.clone());
        self.db.write("health.reported", move |transaction| take(transaction, &service, report, now)).await
    }

    async fn note_silences(&self, now: Timestamp) -> Result<()> {
        let fresh = self.db.read(move |connection| silent(connection, now)).await?;
        if fresh.is_empty() {
            return Ok(());
        }
        self.db.write("health.silences", move |transaction| note_silences(transaction, now)).await
    }

    async fn reporters(&self) -> Result<Vec<Reporter>> {
        self.db.read(reporters).await
    }

    async fn history(&self, instance: InstanceId, page: &Page) -> Result<Listed<HealthEvent>> {
        let page = page.clone();
        self.db.read(move |connection| history(connection, instance, &page)).await
    }
}

fn take(
    transaction: &Transaction<'_>,
    service: &ServiceIdentity,
    report: HealthReport,
    now: Timestamp,
) -> Result<()> {
    let (before, noted) = find(transaction, service)?;
    let Some(tracked) = Tracked::take(before.as_ref(), report, now) else { return Ok(()) };
    put(transaction, service, &tracked)?;
    let silent_since = before
        .as_ref()
        .map(|before| before.state_at(now))
        .and_then(|(state, since)| (state == HealthState::Unreachable).then_some(since));
    if let Some((since, before)) = silent_since.zip(before.as_ref()).filter(|_| !noted) {
        note(transaction, service, HealthState::Unreachable, &before.report.metrics, since)?;
    }
    if silent_since.is_some() || before.is_none_or(|before| before.state != tracked.state) {
        note(transaction, service, tracked.state, &tracked.report.metrics, now)?;
    }
    sweep(transaction, now)
}

/// What is kept of the module's reports, and whether its silence is in the history.
fn find(connection: &Connection, service: &ServiceIdentity) -> Result<(Option<Tracked>, bool)> {
    let found = query::row(
        connection,
        concat!(
            "SELECT ",
            columns!(),
            ", silence_noted
               FROM health
              WHERE module = :module AND instance = :instance"
        ),
        named_params! { ":module": service.module, ":instance": service.instance },
        |row| Ok((tracked(row)?, row.get("silence_noted")?)),
    )?;
    Ok(found.unwrap_or_default())
}

/// The modules whose silence has become too long, and is not in the history.
fn silent(connection: &Connection, now: Timestamp) -> Result<Vec<(ServiceIdentity, Tracked)>> {
    let silent = query::rows(
        connection,
        concat!(
            "SELECT module, instance, ",
            columns!(),
            "
               FROM health
              WHERE silence_noted = 0 AND report_time <= :silent
              ORDER BY report_time"
        ),
        named_params! {
            ":silent": now.saturating_sub(UNREACHABLE_AFTER).map_err(Error::internal)?.as_microsecond(),
        },
        |row| {
            let service = ServiceIdentity { module: row.get("module")?, instance: row.get("instance")? };
            Ok(tracked(row)?.map(|tracked| (service, tracked)))
        },
    )?;
    Ok(silent.into_iter().flatten().collect())
}

/// Keeps the silences that became too long; a report that comes ends them.
fn note_silences(transaction: &Transaction<'_>, now: Timestamp) -> Result<()> {
    for (service, tracked) in silent(transaction, now)? {
        let (_, since) = tracked.state_at(now);
        note(transaction, &service, HealthState::Unreachable, &tracked.report.metrics, since)?;
        query::execute(
            transaction,
            "UPDATE health
                SET silence_noted = 1
              WHERE module = :module AND instance = :instance",
            named_params! { ":module": service.module, ":instance": service.instance },
        )?;
    }
    Ok(())
}

/// Keeps that somebody begins to work on an instance, or that nobody does any more and how it is then.
pub(crate) fn note_maintenance(
    write: &Write<'_>,
    service: &ServiceIdentity,
    tracked: Option<&Tracked>,
    maintenance: bool,
) -> Result<()> {
    let now = write.change.time;
    let state = state_at(tracked, maintenance, now);
    let metrics = tracked.map(|tracked| tracked.report.metrics).unwrap_or_default();
    note(write.transaction, service, state, &metrics, now)
}

fn put(transaction: &Transaction<'_>, service: &ServiceIdentity, tracked: &Tracked) -> Result<()> {
    let Tracked { report, report_time, state, state_time, streak, earlier_boot_id } = tracked;
    let HealthReport { boot_id, sequence, status, components, metrics, software_version } = report;
    let Components { database, api, agents } = components;
    let Metrics { cpu_percent, memory_percent, storage_percent, tenant_count, agent_count } = metrics;
    query::execute(
        transaction,
        concat!(
            "INSERT OR REPLACE INTO health (module, instance, ",
            columns!(),
            ")
             VALUES (:module, :instance, :boot_id, :sequence, :reported, :database, :api, :agents, :cpu_percent,
                     :memory_percent, :storage_percent, :reported_tenants, :reported_agents, :software_version,
                     :report_time, :state, :state_time, :streak, :earlier_boot_id)"
        ),
        named_params! {
            ":module": service.module,
            ":instance": service.instance,
            ":boot_id": boot_id,
            ":sequence": sequence,
            ":reported": status.as_str(),
            ":database": database.as_str(),
            ":api": api.as_str(),
            ":agents": agents.as_str(),
            ":cpu_percent": cpu_percent,
            ":memory_percent": memory_percent,
            ":storage_percent": storage_percent,
            ":reported_tenants": tenant_count,
            ":reported_agents": agent_count,
            ":software_version": software_version,
            ":report_time": report_time.as_microsecond(),
            ":state": state.as_str(),
            ":state_time": state_time.as_microsecond(),
            ":streak": streak,
            ":earlier_boot_id": earlier_boot_id,
        },
    )
    .map(drop)
}

fn note(
    transaction: &Transaction<'_>,
    service: &ServiceIdentity,
    state: HealthState,
    metrics: &Metrics,
    time: Timestamp,
) -> Result<()> {
    let Metrics { cpu_percent, memory_percent, storage_percent, tenant_count, agent_count } = metrics;
    query::execute(
        transaction,
        "INSERT INTO health_events (module, instance, state, cpu_percent, memory_percent, storage_percent,
                                    reported_tenants, reported_agents, create_time)
         VALUES (:module, :instance, :state, :cpu_percent, :memory_percent, :storage_percent,
                 :reported_tenants, :reported_agents, :create_time)",
        named_params! {
            ":module": service.module,
            ":instance": service.instance,
            ":state": state.as_str(),
            ":cpu_percent": cpu_percent,
            ":memory_percent": memory_percent,
            ":storage_percent": storage_percent,
            ":reported_tenants": tenant_count,
            ":reported_agents": agent_count,
            ":create_time": time.as_microsecond(),
        },
    )
    .map(drop)
}

fn sweep(transaction: &Transaction<'_>, now: Timestamp) -> Result<()> {
    let kept = now.saturating_sub(SignedDuration::from_hours(HISTORY_HOURS)).map_err(Error::internal)?;
    query::execute(
        transaction,
        "DELETE FROM health_events
          WHERE event_id IN (
                SELECT event_id
                  FROM health_events
                 WHERE create_time < :kept
                 ORDER BY create_time
                 LIMIT :swept)",
        named_params! { ":kept": kept.as_microsecond(), ":swept": SWEPT },
    )
    .map(drop)
}

fn reporters(connection: &Connection) -> Result<Vec<Reporter>> {
    query::rows(
        connection,
        concat!(
            "SELECT COALESCE(module, 'stack') AS module, COALESCE(instance, instance_id) AS instance, name,
                    CASE WHEN maintenance THEN (
                         SELECT MAX(health_events.create_time)
                           FROM health_events
                          WHERE health_events.module = 'stack' AND health_events.instance = instance_id
                            AND health_events.state = 'maintenance')
                    END AS maintenance_time, ",
            columns!(),
            "
               FROM health
               FULL JOIN instances ON module = 'stack' AND instance = instance_id
              WHERE status IS NULL OR status <> 'deleted'
              ORDER BY 1, COALESCE(name, instance), 2
              LIMIT :limit"
        ),
        named_params! { ":limit": REPORTERS },
        |row| {
            Ok(Reporter {
                service: ServiceIdentity { module: row.get("module")?, instance: row.get("instance")? },
                instance_name: row.get("name")?,
                maintenance: null::time(row, "maintenance_time")?,
                tracked: tracked(row)?,
            })
        },
    )
}

fn history(connection: &Connection, instance: InstanceId, page: &Page) -> Result<Listed<HealthEvent>> {
    let there = query::exists(
        connection,
        "SELECT 1
           FROM instances
          WHERE instance_id = :id AND status <> 'deleted'",
        named_params! { ":id": instance.to_string() },
    )?;
    if !there {
        return Err(Error::not_found("instance", instance));
    }
    let start = Start::of(page);
    // The id of the start is empty on the first page, which is 0 as a number.
    let events = query::rows(
        connection,
        "SELECT event_id, state, cpu_percent, memory_percent, storage_percent, reported_tenants, reported_agents,
                create_time
           FROM health_events
          WHERE module = 'stack' AND instance = :instance
            AND (create_time, event_id) < (:time, CAST(:id AS INTEGER))
          ORDER BY create_time DESC, event_id DESC
          LIMIT :limit",
        named_params! {
            ":instance": instance.to_string(),
            ":time": start.time,
            ":id": start.id,
            ":limit": start.limit,
        },
        |row| {
            let event = HealthEvent {
                state: column::word(row, "state")?,
                create_time: column::time(row, "create_time")?,
                metrics: metrics(row)?,
            };
            Ok((row.get::<_, i64>("event_id")?, event))
        },
    )?;
    let Listed { items, next_cursor, limit } =
        page.cut(events, |(id, event)| Position { create_time: event.create_time, id: id.to_string() });
    Ok(Listed { items: items.into_iter().map(|(_, event)| event).collect(), next_cursor, limit })
}

/// Forgets the reports of a module that is gone, and what it was like.
pub(crate) fn forget(write: &Write<'_>, service: &ServiceIdentity) -> Result<()> {
    for sql in [
        "DELETE FROM health
          WHERE module = :module AND instance = :instance",
        "DELETE FROM health_events
          WHERE module = :module AND instance = :instance",
    ] {
        let whose = named_params! { ":module": service.module, ":instance": service.instance };
        query::execute(write.transaction, sql, whose)?;
    }
    Ok(())
}

/// What is kept of the reports of a module, from [`columns`]; they are NULL where it never reported.
pub(crate) fn tracked(row: &Row<'_>) -> rusqlite::Result<Option<Tracked>> {
    let Some(boot_id) = row.get("boot_id")? else { return Ok(None) };
    let report = HealthReport {
        boot_id,
        sequence: row.get("sequence")?,
        status: column::word(row, "reported")?,
        components: Components {
            database: column::word(row, "database")?,
            api: column::word(row, "api")?,
            agents: column::word(row, "agents")?,
        },
        metrics: metrics(row)?,
        software_version: row.get("software_version")?,
    };
    Ok(Some(Tracked {
        report,
        report_time: column::time(row, "report_time")?,
        state: column::word(row, "state")?,
        state_time: column::time(row, "state_time")?,
        streak: row.get("streak")?,
        earlier_boot_id: row.get("earlier_boot_id")?,
    }))
}

fn metrics(row: &Row<'_>) -> rusqlite::Result<Metrics> {
    Ok(Metrics {
        cpu_percent: row.get("cpu_percent")?,
        memory_percent: row.get("memory_percent")?,
        storage_percent: row.get("storage_percent")?,
        tenant_count: row.get("reported_tenants")?,
        agent_count: row.get("reported_agents")?,
    })
}
