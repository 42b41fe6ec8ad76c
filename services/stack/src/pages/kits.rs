//! The kits that the tenant may have, and the way from one to a stack.

use std::sync::Arc;

use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::{Extensions, HeaderMap, StatusCode};
use axum::response::Response;
use kombify_contracts::kombify::identity::v1::identity_service_client::IdentityServiceClient;
use kombify_contracts::kombify::identity::v1::{Identity, WhoAmIRequest};
use kombify_core::{Code, Error, Result, TenantId};
use kombify_mesh::context::Context;
use kombify_pages::{layout, page};
use maud::html;
use serde::Deserialize;

use super::calls::answer;
use super::home::{NewStack, calls, new_stack, signed_out};
use super::{Fault, Portal};

/// Whose session it is, and in which tenant.
struct Visitor {
    name: String,
    tenant: TenantId,
    writes: bool,
}

/// The visitor behind the browser's session; `None`: there is none.
async fn visitor(portal: &Portal, extensions: &Extensions, headers: &HeaderMap) -> Result<Option<Visitor>> {
    if portal.token(headers)?.is_none() {
        return Ok(None);
    }
    // Through the rooms: what they refuse is no visitor.
    let calls = calls(portal, extensions, headers)?;
    let identity = match answer(IdentityServiceClient::new(calls).who_am_i(WhoAmIRequest {}).await) {
        Ok(answer) => answer.data.unwrap_or_default(),
        Err(fault) if matches!(fault.code(), Code::AuthInvalid | Code::AuthRequired) => return Ok(None),
        Err(fault) => return Err(fault),
    };
    let Identity { user_id, name, memberships, .. } = identity;
    let Some(membership) = memberships.into_iter().next() else {
        return Err(Error::not_found("tenant", "of this session"));
    };
    let name = if name.is_empty() { user_id } else { name };
    Ok(Some(Visitor { name, tenant: membership.tenant_id.parse()?, writes: membership.role != "viewer" }))
}

/// `GET /kits`.
pub(super) async fn list(
    State(portal): State<Arc<Portal>>,
    extensions: Extensions,
    headers: HeaderMap,
) -> Result<Response, Fault> {
    let Some(visitor) = visitor(&portal, &extensions, &headers).await? else {
        return Ok(signed_out(&portal));
    };
    let context = Context::of_page(&extensions, &headers, None);
    let kits = context.scope(portal.host.kits.list(visitor.tenant)).await?;
    let body = html! {
        p { a href="/" { "The tenant" } }
        (kombify_pages::kits::list(&kits))
    };
    Ok(page(StatusCode::OK, layout("StackKits", Some(&visitor.name), &body)))
}

/// Which kit.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct ToShow {
    id: String,
}

/// `GET /kit?id=`.
pub(super) async fn show(
    State(portal): State<Arc<Portal>>,
    extensions: Extensions,
    headers: HeaderMap,
    wanted: Result<Query<ToShow>, QueryRejection>,
) -> Result<Response, Fault> {
    let Query(ToShow { id }) = wanted.map_err(|_| Error::invalid("id", "must be the id of a kit"))?;
    let typed = NewStack { kit: id, ..NewStack::default() };
    render(&portal, &extensions, &headers, &typed, None).await
}

/// The page of a kit, with the form that makes a stack of it; what was typed stays where it was refused.
pub(super) async fn render(
    portal: &Portal,
    extensions: &Extensions,
    headers: &HeaderMap,
    typed: &NewStack,
    fault: Option<&Error>,
) -> Result<Response, Fault> {
    let Some(visitor) = visitor(portal, extensions, headers).await? else { return Ok(signed_out(portal)) };
    let context = Context::of_page(extensions, headers, None);
    let kit = context.scope(portal.host.kits.get(visitor.tenant, &typed.kit)).await?;
    let mut typed = typed.clone();
    if fault.is_none() {
        typed.spec_yaml.clone_from(&kit.default_spec_yaml);
    }
    let status = fault.map_or(StatusCode::OK, |fault| {
        StatusCode::from_u16(fault.code().http()).unwrap_or(StatusCode::BAD_REQUEST)
    });
    let body = html! {
        p { a href="/kits" { "All StackKits" } }
        @if visitor.writes {
            h2 { "Make a stack of it" }
            (new_stack(&typed, fault))
        }
        (kombify_pages::kits::one(&kit))
    };
    Ok(page(status, layout(&kit.title, Some(&visitor.name), &body)))
}
