//! The audit log.

use std::collections::BTreeMap;

use async_trait::async_trait;
use jiff::Timestamp;
use kombify_core::audit::{AuditEvent, AuditFilter, AuditStore, Outcome, Refusal};
use kombify_core::page::Position;
use kombify_core::{Change, Listed, Page, Result, Sub};
use rusqlite::{Connection, ToSql, named_params};

use crate::query::Start;
use crate::{PlatformSqlite, audit_row, query};

#[async_trait]
impl AuditStore for PlatformSqlite {
    async fn append_refusals(&self, refusals: &[Refusal]) -> Result<()> {
        if refusals.is_empty() {
            return Ok(());
        }
        let events: Vec<AuditEvent> = refusals.iter().map(|refusal| self.event(refusal)).collect();
        let append = move |transaction: &rusqlite::Transaction<'_>| {
            events.iter().try_for_each(|event| audit_row::insert(transaction, event))
        };
        self.db.write("audit.refused", append).await
    }

    async fn read(&self, change: &Change, filter: &AuditFilter, page: &Page) -> Result<Listed<AuditEvent>> {
        let (filter, page) = (filter.clone(), page.clone());
        self.write(change, move |write| {
            let events = list(write.transaction, &filter, &page)?;
            write.audit_with(&"", None, described(&filter))?;
            Ok(events)
        })
        .await
    }
}

impl PlatformSqlite {
    fn event(&self, refusal: &Refusal) -> AuditEvent {
        let Refusal { time, actor, action, target, ip, user_agent, request_id, details } = refusal.clone();
        AuditEvent {
            id: self.ids.audit_event(time),
            create_time: time,
            actor,
            action,
            target,
            tenant: None,
            ip,
            user_agent,
            request_id,
            outcome: Outcome::Refused,
            details,
        }
    }
}

fn list(connection: &Connection, filter: &AuditFilter, page: &Page) -> Result<Listed<AuditEvent>> {
    let AuditFilter { action, sub, tenant, outcome, start_time, end_time } = filter;
    let start = Start::of(page);
    let sub = sub.as_ref().map(Sub::as_str);
    let tenant = tenant.map(|tenant| tenant.to_string());
    let outcome = outcome.map(Outcome::as_str);
    let start_time = start_time.map_or(i64::MIN, Timestamp::as_microsecond);
    let end_time = end_time.map_or(i64::MAX, Timestamp::as_microsecond);
    let mut values = named_params! {
        ":start_time": start_time,
        ":end_time": end_time,
        ":time": start.time,
        ":id": start.id,
        ":limit": start.limit,
    }
    .to_vec();
    // Only what is asked for stands in the statement, so that its index is found: a walk through the whole log would
    // keep every write waiting.
    let mut clauses = String::new();
    for (name, clause, value) in [
        (":action", " AND action = :action", (!action.is_empty()).then_some(action as &dyn ToSql)),
        (":sub", " AND actor_sub = :sub", sub.as_ref().map(|sub| sub as &dyn ToSql)),
        (":tenant_id", " AND tenant_id = :tenant_id", tenant.as_ref().map(|tenant| tenant as &dyn ToSql)),
        (":outcome", " AND outcome = :outcome", outcome.as_ref().map(|outcome| outcome as &dyn ToSql)),
    ] {
        if let Some(value) = value {
            clauses.push_str(clause);
            values.push((name, value));
        }
    }
    let sql = format!(
        "SELECT event_id, create_time, actor_sub, actor_service, actor_impersonator, action, target, tenant_id, ip,
                user_agent, request_id, outcome, details
           FROM audit_events
          WHERE create_time >= :start_time
            AND create_time < :end_time
            AND (create_time, event_id) < (:time, :id){clauses}
          ORDER BY create_time DESC, event_id DESC
          LIMIT :limit"
    );
    let events = query::rows(connection, &sql, values.as_slice(), audit_row::event)?;
    Ok(page.cut(events, |event| Position { create_time: event.create_time, id: event.id.to_string() }))
}

/// What was asked for, for the row of the reading itself.
fn described(filter: &AuditFilter) -> BTreeMap<String, String> {
    let AuditFilter { action, sub, tenant, outcome, start_time, end_time } = filter;
    [
        ("action", (!action.is_empty()).then(|| action.clone())),
        ("sub", sub.as_ref().map(ToString::to_string)),
        ("tenantId", tenant.map(|tenant| tenant.to_string())),
        ("outcome", outcome.map(|outcome| outcome.as_str().to_owned())),
        ("startTime", start_time.map(|time| time.to_string())),
        ("endTime", end_time.map(|time| time.to_string())),
    ]
    .into_iter()
    .filter_map(|(name, value)| value.map(|value| (name.to_owned(), value)))
    .collect()
}
