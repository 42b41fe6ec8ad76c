//! Domain to wire. Each function takes its value apart field by field, so that a new field must find its place here.

use jiff::Timestamp;
use kombify_contracts::kombify::list::v1::ListMeta;
use kombify_contracts::kombify::stack::v1 as stack_pb;
use kombify_core::audit::AuditEvent;
use kombify_core::member::{Invitation, Member};
use kombify_core::stack::{PinnedKit, Stack};
use kombify_core::{Actor, Listed};

/// A time of whole seconds, as every answer has it.
pub fn time(time: Timestamp) -> prost_types::Timestamp {
    prost_types::Timestamp { seconds: time.as_second(), nanos: 0 }
}

/// A number, as the wire has it.
pub fn number(number: u32) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}

/// The `meta` of a list.
pub fn meta<T>(listed: &Listed<T>) -> ListMeta {
    ListMeta { next_cursor: listed.next_cursor.clone(), limit: number(listed.limit) }
}

/// A stack.
pub fn stack(stack: Stack) -> stack_pb::Stack {
    let Stack { id, tenant, name, kit, spec_yaml, create_time, update_time, etag } = stack;
    let (kit, kit_version, kit_digest) =
        kit.map(|PinnedKit { id, version, digest }| (id, version, digest)).unwrap_or_default();
    stack_pb::Stack {
        id: id.to_string(),
        tenant_id: tenant.to_string(),
        name: name.to_string(),
        kit,
        kit_version,
        kit_digest,
        spec_yaml,
        create_time: Some(time(create_time)),
        update_time: Some(time(update_time)),
        etag: etag.to_string(),
    }
}

/// A member.
pub fn member(member: Member) -> stack_pb::Member {
    let Member { sub, email, name, role, over_limit, create_time, last_sign_in_time, etag } = member;
    stack_pb::Member {
        sub: sub.to_string(),
        email,
        name,
        role: role.to_string(),
        over_limit,
        create_time: Some(time(create_time)),
        last_sign_in_time: last_sign_in_time.map(time),
        etag: etag.to_string(),
    }
}

/// An invitation, without its code.
pub fn invitation(invitation: Invitation) -> stack_pb::Invitation {
    let Invitation { id, email, role, status, inviter, create_time, expire_time } = invitation;
    stack_pb::Invitation {
        id: id.to_string(),
        email,
        role: role.to_string(),
        status: status.as_str().to_owned(),
        code: String::new(),
        inviter: inviter.to_string(),
        create_time: Some(time(create_time)),
        expire_time: Some(time(expire_time)),
    }
}

/// A row of the tenant's log. Addresses and agents are the platform's people's to see, not the members'.
pub fn activity(event: AuditEvent) -> stack_pb::Activity {
    let AuditEvent {
        id,
        create_time,
        actor: Actor { sub, service, impersonator: _ },
        action,
        target,
        tenant: _,
        ip: _,
        user_agent: _,
        request_id,
        outcome,
        details,
    } = event;
    stack_pb::Activity {
        id: id.to_string(),
        create_time: Some(time(create_time)),
        sub: sub.map(|sub| sub.to_string()).unwrap_or_default(),
        service: service.map(|service| service.to_string()).unwrap_or_default(),
        action,
        target,
        outcome: outcome.as_str().to_owned(),
        request_id: request_id.to_string(),
        details: details.into_iter().collect(),
    }
}
