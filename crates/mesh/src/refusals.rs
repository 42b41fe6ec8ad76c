//! The refusals of a module without a store: Admin's log keeps them.

use kombify_contracts::kombify::audit::v1::audit_service_client::AuditServiceClient;
use kombify_contracts::kombify::audit::v1::{
    Actor as ActorMessage, Refusal as RefusalMessage, ReportRefusalsRequest,
};
use kombify_core::audit::Refusal;
use kombify_core::{Actor, Result};

use crate::client::Peer;
use crate::status::to_fault;

/// Reports `refusals` to Admin.
///
/// # Errors
/// - what Admin answers, and [`kombify_core::Error::Unavailable`] while it is away.
pub async fn report(admin: Peer, refusals: Vec<Refusal>) -> Result<()> {
    let request = ReportRefusalsRequest { refusals: refusals.into_iter().map(message).collect() };
    AuditServiceClient::new(admin).report_refusals(request).await.map_err(|status| to_fault(&status))?;
    Ok(())
}

fn message(refusal: Refusal) -> RefusalMessage {
    let Refusal { time, actor, action, target, tenant: _, ip, user_agent, request_id, details } = refusal;
    let Actor { sub, service, impersonator } = actor;
    let text = |value: Option<String>| value.unwrap_or_default();
    RefusalMessage {
        create_time: Some(prost_types::Timestamp {
            seconds: time.as_second(),
            nanos: time.subsec_nanosecond(),
        }),
        actor: Some(ActorMessage {
            sub: text(sub.map(|sub| sub.to_string())),
            service: text(service.map(|service| service.to_string())),
            impersonator: text(impersonator.map(|sub| sub.to_string())),
        }),
        action,
        target,
        ip,
        user_agent,
        request_id: request_id.to_string(),
        details: details.into_iter().collect(),
    }
}
