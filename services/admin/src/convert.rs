//! Domain to wire. Each function takes its value apart field by field, so that a new field must find its place here.

use jiff::Timestamp;
use kombify_contracts::kombify::audit::v1 as audit_pb;
use kombify_contracts::kombify::flags::v1 as flags_pb;
use kombify_contracts::kombify::health::v1 as health_pb;
use kombify_contracts::kombify::list::v1::ListMeta;
use kombify_contracts::kombify::tenancy::v1 as tenancy_pb;
use kombify_contracts::kombify::users::v1 as users_pb;
use kombify_core::audit::AuditEvent;
use kombify_core::flag::{Entitlements, Flag, FlagChange};
use kombify_core::health::{HealthEvent, Reporter, state_at};
use kombify_core::instance::Instance;
use kombify_core::organisation::Organisation;
use kombify_core::sync::SyncStream;
use kombify_core::tenant::Tenant;
use kombify_core::user::{OwnProfile, Theme, User};
use kombify_core::{Actor, Error, Limits, Listed, PlanGrant, Result};
use kombify_mesh::report::metrics_message;

/// A time of whole seconds, as every answer has it.
pub fn time(time: Timestamp) -> prost_types::Timestamp {
    prost_types::Timestamp { seconds: time.as_second(), nanos: 0 }
}

/// The time that a request names in `field`.
pub fn parse_time(field: &str, time: prost_types::Timestamp) -> Result<Timestamp> {
    Timestamp::new(time.seconds, time.nanos).map_err(|_| Error::invalid(field, "is no time"))
}

/// The `meta` of a list.
pub fn meta<T>(listed: &Listed<T>) -> ListMeta {
    ListMeta { next_cursor: listed.next_cursor.clone(), limit: count(listed.limit) }
}

/// A count, as the wire has it.
fn count(count: u32) -> i32 {
    i32::try_from(count).unwrap_or(i32::MAX)
}

/// A user, with the plan of the moment `now`.
pub fn user(user: User, now: Timestamp) -> users_pb::User {
    let (display_name, avatar_url) = (user.display_name().to_owned(), user.avatar_url().to_owned());
    let User {
        sub,
        owner: _,
        profile,
        own,
        grant,
        create_time,
        update_time,
        revocation,
        identity_time: _,
        etag,
    } = user;
    let locked = revocation.is_some_and(|revocation| revocation.locked);
    let OwnProfile { display_name: _, avatar_url: _, locale, timezone, theme, email_notices } = own;
    users_pb::User {
        sub: sub.to_string(),
        email: profile.email,
        display_name,
        avatar_url,
        preferences: Some(users_pb::Preferences {
            locale,
            timezone,
            theme: theme.map_or("", Theme::as_str).to_owned(),
            email_notices,
        }),
        plan: PlanGrant::plan_at(grant.as_ref(), now).to_string(),
        status: if locked { "locked" } else { "active" }.to_owned(),
        create_time: Some(time(create_time)),
        update_time: Some(time(update_time)),
        etag: etag.to_string(),
    }
}

/// A tenant, with the plan of the moment `now`.
pub fn tenant(tenant: Tenant, now: Timestamp) -> tenancy_pb::Tenant {
    let Tenant {
        id,
        slug,
        name,
        owner,
        grant,
        instance,
        status,
        erase_time,
        members,
        usage,
        create_time,
        etag,
    } = tenant;
    let plan = PlanGrant::plan_at(grant.as_ref(), now);
    tenancy_pb::Tenant {
        id: id.to_string(),
        slug: slug.to_string(),
        name,
        org_id: owner.to_string(),
        plan: plan.to_string(),
        status: status.as_str().to_owned(),
        instance_id: instance.to_string(),
        limits: Some(limits(plan.limits())),
        usage: Some(tenancy_pb::Usage {
            members: count(members),
            stacks: count(usage.stacks),
            storage_gb: count(usage.storage_gb),
            ..tenancy_pb::Usage::default()
        }),
        create_time: Some(time(create_time)),
        etag: etag.to_string(),
        erase_time: erase_time.map(time),
    }
}

fn limits(limits: Limits) -> tenancy_pb::Limits {
    let Limits { members, nodes, stacks, running_simulations, storage_gb } = limits;
    tenancy_pb::Limits {
        members: members.map_or(-1, count),
        nodes: count(nodes),
        stacks: count(stacks),
        running_simulations: count(running_simulations),
        storage_gb: count(storage_gb),
    }
}

/// An instance, with its health at the moment `now`.
pub fn instance(instance: Instance, now: Timestamp) -> tenancy_pb::Instance {
    let Instance {
        id,
        name,
        region,
        mode,
        status,
        max_tenants,
        tenant_count,
        internal_endpoint,
        public_endpoint,
        maintenance,
        health,
        create_time,
        etag,
    } = instance;
    tenancy_pb::Instance {
        id: id.to_string(),
        name,
        region: region.to_string(),
        mode: mode.as_str().to_owned(),
        status: status.as_str().to_owned(),
        max_tenants: count(max_tenants),
        tenant_count: count(tenant_count),
        internal_endpoint,
        public_endpoint,
        create_time: Some(time(create_time)),
        etag: etag.to_string(),
        join_secret: String::new(),
        health: state_at(health.as_ref(), maintenance, now).to_string(),
        report_time: health.map(|health| time(health.report_time)),
        maintenance,
    }
}

/// A flag.
pub fn flag(flag: Flag) -> flags_pb::Flag {
    let Flag { key, definition, version, create_time, update_time, etag } = flag;
    flags_pb::Flag {
        key: key.to_string(),
        definition_json: definition,
        version: count(version),
        create_time: Some(time(create_time)),
        update_time: Some(time(update_time)),
        etag: etag.to_string(),
    }
}

/// A change of the set of flags.
pub fn flag_change(change: FlagChange) -> flags_pb::FlagChange {
    let FlagChange { version, subject, before, after, sub, reason, create_time } = change;
    flags_pb::FlagChange {
        version: count(version),
        subject,
        before_json: before,
        after_json: after,
        sub: sub.map(|sub| sub.to_string()).unwrap_or_default(),
        reason,
        create_time: Some(time(create_time)),
    }
}

/// The entitlements of a plan or an organisation.
pub fn entitlements(set: Entitlements) -> flags_pb::EntitlementSet {
    let Entitlements { owner, entitlements } = set;
    flags_pb::EntitlementSet {
        owner: owner.owner().to_owned(),
        kind: owner.kind().to_owned(),
        entitlements: entitlements.into_iter().collect(),
    }
}

/// How a module is at the moment `now`, and how far it has what Admin decided.
pub fn module_status(reporter: Reporter, streams: &[SyncStream], now: Timestamp) -> health_pb::ModuleStatus {
    let Reporter { service, instance_name, maintenance, tracked } = reporter;
    let syncs = streams.iter().filter(|stream| stream.target == service).map(sync_status).collect();
    let state = state_at(tracked.as_ref(), maintenance.is_some(), now);
    let state_time =
        maintenance.or_else(|| tracked.as_ref().map(|tracked| tracked.state_at(now).1)).map(time);
    let report = tracked.as_ref().map(|tracked| &tracked.report);
    health_pb::ModuleStatus {
        service: service.to_string(),
        instance_name: instance_name.unwrap_or_default(),
        state: state.to_string(),
        state_time,
        report_time: tracked.as_ref().map(|tracked| time(tracked.report_time)),
        components: report.map(|report| health_pb::Components {
            database: report.components.database.as_str().to_owned(),
            api: report.components.api.as_str().to_owned(),
            agents: report.components.agents.as_str().to_owned(),
        }),
        metrics: report.map(|report| metrics_message(report.metrics)),
        software_version: report.map(|report| report.software_version.clone()).unwrap_or_default(),
        syncs,
    }
}

fn sync_status(stream: &SyncStream) -> health_pb::SyncStatus {
    health_pb::SyncStatus {
        kind: stream.kind.as_str().to_owned(),
        acknowledged_version: count(stream.acknowledged_version),
        pending: count(stream.pending.max(u32::from(stream.snapshot_due))),
        pending_time: stream.pending_time.map(time),
        acknowledge_time: stream.acknowledge_time.map(time),
        last_error: stream.last_error.clone(),
    }
}

/// A state of health that began.
pub fn health_event(event: &HealthEvent) -> health_pb::HealthEvent {
    let HealthEvent { state, create_time, metrics } = *event;
    health_pb::HealthEvent {
        state: state.to_string(),
        create_time: Some(time(create_time)),
        metrics: Some(metrics_message(metrics)),
    }
}

/// An organisation, with the plan of the moment `now`.
pub fn organisation(organisation: Organisation, now: Timestamp) -> tenancy_pb::Organisation {
    let Organisation { id, grant, create_time } = organisation;
    tenancy_pb::Organisation {
        id: id.to_string(),
        plan: PlanGrant::plan_at(grant.as_ref(), now).to_string(),
        plan_end_time: grant.filter(|grant| grant.holds_at(now)).map(|grant| time(grant.end_time)),
        create_time: Some(time(create_time)),
    }
}

/// A row of the audit log.
pub fn audit_event(event: AuditEvent) -> audit_pb::AuditEvent {
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
    let text = |value: Option<String>| value.unwrap_or_default();
    audit_pb::AuditEvent {
        id: id.to_string(),
        create_time: Some(time(create_time)),
        actor: Some(audit_pb::Actor {
            sub: text(sub.map(|sub| sub.to_string())),
            service: text(service.map(|service| service.to_string())),
            impersonator: text(impersonator.map(|sub| sub.to_string())),
        }),
        action,
        target,
        tenant_id: text(tenant.map(|tenant| tenant.to_string())),
        ip,
        user_agent,
        request_id: request_id.to_string(),
        outcome: outcome.as_str().to_owned(),
        details: details.into_iter().collect(),
    }
}
