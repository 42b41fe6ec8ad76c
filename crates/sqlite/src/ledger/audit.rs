//! The audit log: the table `audit_events`.

use std::collections::BTreeMap;
use std::fmt::Display;

use jiff::Timestamp;
use kombify_core::audit::{AuditEvent, AuditFilter, Outcome, Refusal};
use kombify_core::page::Position;
use kombify_core::{Actor, Error, Ids, Listed, Page, Result, Sub, TenantId};
use rusqlite::{Connection, Row, ToSql, named_params};

use super::Write;
use crate::query::Start;
use crate::{column, query};

impl Write<'_> {
    /// Appends the row of this change: what it was done to, the tenant that it concerns, and what else there is to
    /// say.
    ///
    /// # Errors
    /// - [`Error::Internal`] if the row cannot be written.
    pub fn audit<const N: usize>(
        &self,
        target: &dyn Display,
        tenant: Option<TenantId>,
        details: [(&str, String); N],
    ) -> Result<()> {
        let details = details.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
        self.audit_with(target, tenant, details)
    }

    /// The same with as many details as there are.
    ///
    /// # Errors
    /// - [`Error::Internal`] if the row cannot be written.
    pub fn audit_with(
        &self,
        target: &dyn Display,
        tenant: Option<TenantId>,
        details: BTreeMap<String, String>,
    ) -> Result<()> {
        let change = self.change;
        let event = AuditEvent {
            id: self.ids.audit_event(change.time),
            create_time: change.time,
            actor: change.actor.clone(),
            action: change.action.to_owned(),
            target: target.to_string(),
            tenant,
            ip: change.ip.clone(),
            user_agent: change.user_agent.clone(),
            request_id: change.request_id.clone(),
            outcome: Outcome::Done,
            details,
        };
        insert(self.transaction, &event)
    }
}

/// Appends a row.
///
/// # Errors
/// - [`Error::Internal`] if it cannot be written.
pub fn insert(connection: &Connection, event: &AuditEvent) -> Result<()> {
    let AuditEvent {
        id,
        create_time,
        actor: Actor { sub, service, impersonator },
        action,
        target,
        tenant,
        ip,
        user_agent,
        request_id,
        outcome,
        details,
    } = event;
    query::execute(
        connection,
        "INSERT INTO audit_events (event_id, create_time, actor_sub, actor_service, actor_impersonator, action, target,
                                   tenant_id, ip, user_agent, request_id, outcome, details)
         VALUES (:event_id, :create_time, :actor_sub, :actor_service, :actor_impersonator, :action, :target,
                 :tenant_id, :ip, :user_agent, :request_id, :outcome, :details)",
        named_params! {
            ":event_id": id.to_string(),
            ":create_time": create_time.as_microsecond(),
            ":actor_sub": sub.as_ref().map(Sub::as_str),
            ":actor_service": service.as_ref().map(ToString::to_string),
            ":actor_impersonator": impersonator.as_ref().map(Sub::as_str),
            ":action": action,
            ":target": target,
            ":tenant_id": tenant.map(|tenant| tenant.to_string()),
            ":ip": ip,
            ":user_agent": user_agent,
            ":request_id": request_id.as_str(),
            ":outcome": outcome.as_str(),
            ":details": serde_json::to_string(details).map_err(Error::internal)?,
        },
    )
    .map(drop)
}

/// The row of a refusal.
pub fn refused(ids: &dyn Ids, refusal: &Refusal) -> AuditEvent {
    let Refusal { time, actor, action, target, tenant, ip, user_agent, request_id, details } =
        refusal.clone();
    AuditEvent {
        id: ids.audit_event(time),
        create_time: time,
        actor,
        action,
        target,
        tenant,
        ip,
        user_agent,
        request_id,
        outcome: Outcome::Refused,
        details,
    }
}

/// A part of the log, newest first.
///
/// # Errors
/// - [`Error::Internal`] if the rows cannot be read.
pub fn list(connection: &Connection, filter: &AuditFilter, page: &Page) -> Result<Listed<AuditEvent>> {
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
    let events = query::rows(connection, &sql, values.as_slice(), event)?;
    Ok(page.cut(events, |event| Position { create_time: event.create_time, id: event.id.to_string() }))
}

/// A row, as it is read.
///
/// # Errors
/// - what a column says that no code of ours wrote.
pub fn event(row: &Row<'_>) -> rusqlite::Result<AuditEvent> {
    let outcome: String = row.get("outcome")?;
    let outcome = match outcome.as_str() {
        "done" => Outcome::Done,
        "refused" => Outcome::Refused,
        other => return Err(column::unreadable("outcome", &other)),
    };
    let details: String = row.get("details")?;
    Ok(AuditEvent {
        id: column::word(row, "event_id")?,
        create_time: column::time(row, "create_time")?,
        actor: Actor {
            sub: column::word_or_none(row, "actor_sub")?,
            service: column::word_or_none(row, "actor_service")?,
            impersonator: column::word_or_none(row, "actor_impersonator")?,
        },
        action: row.get("action")?,
        target: row.get("target")?,
        tenant: column::word_or_none(row, "tenant_id")?,
        ip: row.get("ip")?,
        user_agent: row.get("user_agent")?,
        request_id: column::word(row, "request_id")?,
        outcome,
        details: serde_json::from_str(&details).map_err(|cause| column::unreadable("details", &cause))?,
    })
}
