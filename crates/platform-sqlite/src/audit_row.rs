//! The audit row that every write leaves in its own transaction.

use std::collections::BTreeMap;
use std::fmt::Display;

use kombify_core::audit::{AuditEvent, Outcome};
use kombify_core::{Actor, Error, Result, Sub, TenantId};
use rusqlite::{Connection, Row, named_params};

use crate::write::Write;
use crate::{column, query};

impl Write<'_> {
    /// Appends the row of this change: what it was done to, the tenant that it concerns, and what else there is to
    /// say.
    pub(crate) fn audit<const N: usize>(
        &self,
        target: &dyn Display,
        tenant: Option<TenantId>,
        details: [(&str, String); N],
    ) -> Result<()> {
        let details = details.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
        self.audit_with(target, tenant, details)
    }

    /// The same with as many details as there are.
    pub(crate) fn audit_with(
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
pub(crate) fn insert(connection: &Connection, event: &AuditEvent) -> Result<()> {
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

/// A row, as it is read.
pub(crate) fn event(row: &Row<'_>) -> rusqlite::Result<AuditEvent> {
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
