//! The audit log.

use std::collections::BTreeMap;

use async_trait::async_trait;
use kombify_core::audit::{AuditEvent, AuditFilter, AuditStore, Refusal};
use kombify_core::{Change, Listed, Page, Result};
use kombify_sqlite::ledger::audit;

use crate::PlatformSqlite;

#[async_trait]
impl AuditStore for PlatformSqlite {
    async fn append_refusals(&self, refusals: &[Refusal]) -> Result<()> {
        if refusals.is_empty() {
            return Ok(());
        }
        let events: Vec<AuditEvent> =
            refusals.iter().map(|refusal| audit::refused(&*self.ids, refusal)).collect();
        let append = move |transaction: &rusqlite::Transaction<'_>| {
            events.iter().try_for_each(|event| audit::insert(transaction, event))
        };
        self.db.write("audit.refused", append).await
    }

    async fn read(&self, change: &Change, filter: &AuditFilter, page: &Page) -> Result<Listed<AuditEvent>> {
        let (filter, page) = (filter.clone(), page.clone());
        self.write(change, move |write| {
            let events = audit::list(write.transaction, &filter, &page)?;
            write.audit_with(&"", None, described(&filter))?;
            Ok(events)
        })
        .await
    }
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
