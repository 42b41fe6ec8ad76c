//! The audit log.

use std::collections::BTreeMap;

use async_trait::async_trait;
use jiff::Timestamp;
use kombify_core::audit::{AuditEvent, AuditFilter, AuditStore, Outcome, Refusal};
use kombify_core::page::Position;
use kombify_core::{Change, Listed, Page, Result, Sub};
use rusqlite::{Connection, named_params};

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
    let events = query::rows(
        connection,
        "SELECT event_id, create_time, actor_sub, actor_service, actor_impersonator, action, target, tenant_id, ip,
                user_agent, request_id, outcome, details
           FROM audit_events
          WHERE (:action = '' OR action = :action)
            AND (:sub IS NULL OR actor_sub = :sub)
            AND (:tenant_id IS NULL OR tenant_id = :tenant_id)
            AND (:outcome IS NULL OR outcome = :outcome)
            AND create_time >= :start_time
            AND create_time < :end_time
            AND (create_time, event_id) < (:time, :id)
          ORDER BY create_time DESC, event_id DESC
          LIMIT :limit",
        named_params! {
            ":action": action,
            ":sub": sub.as_ref().map(Sub::as_str),
            ":tenant_id": tenant.map(|tenant| tenant.to_string()),
            ":outcome": outcome.map(Outcome::as_str),
            ":start_time": start_time.map_or(i64::MIN, Timestamp::as_microsecond),
            ":end_time": end_time.map_or(i64::MAX, Timestamp::as_microsecond),
            ":time": start.time,
            ":id": start.id,
            ":limit": start.limit,
        },
        audit_row::event,
    )?;
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
