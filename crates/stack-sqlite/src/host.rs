//! What an instance holds beside its tenants' own data, and its tenants' logs.

use async_trait::async_trait;
use jiff::Timestamp;
use kombify_core::audit::{AuditEvent, AuditFilter, Refusal};
use kombify_core::host::{HeldSet, HostStore, Session};
use kombify_core::placed::{Held, PlacedFlags, PlacedTenant, RevocationPush, TenantPush};
use kombify_core::revocation::Revocation;
use kombify_core::tenant::TenantReport;
use kombify_core::{Change, Error, InstanceId, Listed, Page, Result, Sub, TenantId, TenantScope};
use kombify_sqlite::ledger::audit;
use kombify_sqlite::{Database, column, query};
use rusqlite::{Connection, Transaction, named_params};

use crate::{StackSqlite, flag, order, report, revocation, session, tenant};

#[async_trait]
impl HostStore for StackSqlite {
    async fn identity(&self) -> Result<Option<InstanceId>> {
        self.instance.read(identity).await
    }

    async fn remember_identity(&self, id: InstanceId) -> Result<()> {
        self.instance.write("instance.remembered", move |transaction| remember(transaction, id)).await
    }

    async fn apply_tenants(&self, change: &Change, push: &TenantPush, max_tenants: u32) -> Result<Held> {
        self.apply_tenant_push(change, push, max_tenants).await
    }

    async fn apply_revocations(&self, change: &Change, push: &RevocationPush) -> Result<Held> {
        self.apply_revocation_push(change, push).await
    }

    async fn apply_flags(&self, change: &Change, flags: &PlacedFlags) -> Result<HeldSet> {
        let flags = flags.clone();
        self.change_instance(change, move |write| flag::apply(write, &flags)).await
    }

    async fn held_flags(&self) -> Result<Option<HeldSet>> {
        self.instance.read(flag::find).await
    }

    async fn held_tenants(&self) -> Result<Option<u32>> {
        self.instance.read(|connection| order::held(connection, tenant::KIND)).await
    }

    async fn held_revocations(&self) -> Result<Option<u32>> {
        self.instance.read(|connection| order::held(connection, revocation::KIND)).await
    }

    async fn find_tenant(&self, name: &str) -> Result<Option<PlacedTenant>> {
        let name = name.to_owned();
        self.instance.read(move |connection| tenant::find(connection, &name)).await
    }

    async fn count_tenants(&self) -> Result<u32> {
        self.instance.read(tenant::count).await
    }

    async fn revocation(&self, sub: &Sub) -> Result<Option<Revocation>> {
        let sub = sub.clone();
        self.instance.read(move |connection| revocation::find(connection, &sub)).await
    }

    async fn open_session(&self, change: &Change, session: &Session) -> Result<()> {
        let session = session.clone();
        self.change_instance(change, move |write| session::open(write, &session)).await
    }

    async fn find_session(&self, hash: &[u8; 32], now: Timestamp) -> Result<Option<Session>> {
        let hash = *hash;
        self.instance.read(move |connection| session::find(connection, &hash, now)).await
    }

    async fn end_session(&self, change: &Change, hash: &[u8; 32]) -> Result<()> {
        let hash = *hash;
        self.change_instance(change, move |write| session::end(write, &hash)).await
    }

    async fn reports_due(&self) -> Result<Vec<TenantReport>> {
        self.due_reports().await
    }

    async fn reported(&self, reports: &[TenantReport]) -> Result<()> {
        let reports = reports.to_vec();
        let note = move |transaction: &Transaction<'_>| report::reported(transaction, &reports);
        self.instance.write("tenants.reported", note).await
    }

    async fn report_anew(&self) -> Result<()> {
        self.report_all().await
    }

    async fn append_refusals(&self, refusals: &[Refusal]) -> Result<()> {
        let mut rest = Vec::new();
        let mut of_tenants: Vec<(TenantId, Vec<AuditEvent>)> = Vec::new();
        for refusal in refusals {
            let event = audit::refused(&*self.ids, refusal);
            let Some(tenant) = refusal.tenant else {
                rest.push(event);
                continue;
            };
            match of_tenants.iter_mut().find(|(of, _)| *of == tenant) {
                Some((_, events)) => events.push(event),
                None => of_tenants.push((tenant, vec![event])),
            }
        }
        for (tenant, events) in of_tenants {
            if let Err(cause) = self.append_to(tenant, events.clone()).await {
                // A stranger's name, or a file that cannot be written: a refusal is kept all the same.
                tracing::debug!(tenant.id = %tenant, %cause, "refusals go to the log of the instance");
                rest.extend(events);
            }
        }
        if rest.is_empty() { Ok(()) } else { append(&self.instance, rest).await }
    }

    async fn activity(
        &self,
        scope: TenantScope,
        filter: &AuditFilter,
        page: &Page,
    ) -> Result<Listed<AuditEvent>> {
        let (filter, page) = (filter.clone(), page.clone());
        self.read_file(scope, move |connection| audit::list(connection, &filter, &page)).await
    }
}

impl StackSqlite {
    async fn append_to(&self, tenant: TenantId, events: Vec<AuditEvent>) -> Result<()> {
        let file = self.files.open(tenant).await?;
        append(&file, events).await
    }
}

async fn append(log: &Database, events: Vec<AuditEvent>) -> Result<()> {
    let append = move |transaction: &Transaction<'_>| {
        events.iter().try_for_each(|event| audit::insert(transaction, event))
    };
    log.write("audit.refused", append).await
}

fn identity(connection: &Connection) -> Result<Option<InstanceId>> {
    query::row(connection, "SELECT instance_id FROM identity", (), |row| column::word(row, "instance_id"))
}

fn remember(transaction: &Transaction<'_>, id: InstanceId) -> Result<()> {
    query::execute(
        transaction,
        "INSERT INTO identity (only, instance_id)
         VALUES (1, :instance_id)
         ON CONFLICT (only) DO NOTHING",
        named_params! { ":instance_id": id.to_string() },
    )?;
    match identity(transaction)? {
        Some(known) if known != id => Err(Error::Conflict(format!(
            "this directory belongs to {known}: {id} needs a directory of its own"
        ))),
        Some(_) | None => Ok(()),
    }
}
