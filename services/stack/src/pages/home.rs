//! The tenant's page: its stacks, its members, its flags.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{Extensions, HeaderMap, StatusCode, header};
use axum::response::Response;
use kombify_contracts::kombify::identity::v1::identity_service_client::IdentityServiceClient;
use kombify_contracts::kombify::identity::v1::{WhoAmIRequest, WhoAmIResponse};
use kombify_contracts::kombify::stack::v1::account_service_client::AccountServiceClient;
use kombify_contracts::kombify::stack::v1::evaluation_service_client::EvaluationServiceClient;
use kombify_contracts::kombify::stack::v1::member_service_client::MemberServiceClient;
use kombify_contracts::kombify::stack::v1::stack_service_client::StackServiceClient;
use kombify_contracts::kombify::stack::v1::{
    CreateStackRequest, DeleteStackRequest, EvaluateFlagsRequest, Evaluations, GetEntitlementsRequest,
    ListMembersRequest, ListStacksRequest, Member, SignOutRequest, Stack,
};
use kombify_core::{Code, Error, Result};
use kombify_pages::{alert, beside, page};
use maud::{Markup, html};
use serde::Deserialize;

use super::calls::{Calls, answer};
use super::{Fault, Portal, form, kits, see_other};
use crate::Entrance;

/// How many stacks and members the page shows.
const SHOWN: i32 = 100;

/// What the form for a new stack says.
#[derive(Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct NewStack {
    pub(super) name: String,
    /// The kit; empty: a draft.
    pub(super) kit: String,
    pub(super) spec_yaml: String,
}

/// The fields that are refused beside them.
const FIELDS: [&str; 2] = ["name", "specYaml"];

/// Behind what the faults of a spec stand.
const OF_SPEC: &str = "spec.";

/// What a name must be, in words.
const NAME_RULE: &str = "1 to 63 small letters, digits and hyphens; a letter first, no hyphen last";

/// Which stack is to go.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct OldStack {
    id: String,
}

/// `GET /`.
pub(super) async fn show(
    State(portal): State<Arc<Portal>>,
    extensions: Extensions,
    headers: HeaderMap,
) -> Result<Response, Fault> {
    render(&portal, &extensions, &headers, &NewStack::default(), None).await
}

/// `POST /stacks`.
pub(super) async fn create_stack(
    State(portal): State<Arc<Portal>>,
    extensions: Extensions,
    headers: HeaderMap,
    request: Request,
) -> Result<Response, Fault> {
    portal.check_origin(&headers)?;
    let typed = form::<NewStack>(request).await;
    let typed = typed.map_err(|_| Error::invalid("", "the form is too large or cannot be read"))?;
    let calls = calls(&portal, &extensions, &headers)?;
    let NewStack { name, kit, spec_yaml } = typed.clone();
    // Browsers send CRLF from a text area, whatever was typed.
    let spec_yaml = spec_yaml.replace("\r\n", "\n");
    let request = CreateStackRequest { name, kit, spec_yaml, ..CreateStackRequest::default() };
    match answer(StackServiceClient::new(calls).create_stack(request).await) {
        Ok(_) => Ok(see_other("/")?),
        Err(fault) if is_about_the_form(&fault) && !typed.kit.is_empty() => {
            kits::render(&portal, &extensions, &headers, &typed, Some(&fault)).await
        }
        Err(fault) if is_about_the_form(&fault) => {
            render(&portal, &extensions, &headers, &typed, Some(&fault)).await
        }
        Err(fault) => Err(fault.into()),
    }
}

/// `POST /stacks/delete`.
pub(super) async fn delete_stack(
    State(portal): State<Arc<Portal>>,
    extensions: Extensions,
    headers: HeaderMap,
    request: Request,
) -> Result<Response, Fault> {
    portal.check_origin(&headers)?;
    let old = form::<OldStack>(request).await;
    let OldStack { id } = old.map_err(|_| Error::invalid("id", "must be the id of a stack"))?;
    let calls = calls(&portal, &extensions, &headers)?;
    answer(
        StackServiceClient::new(calls).delete_stack(DeleteStackRequest { id, etag: String::new() }).await,
    )?;
    Ok(see_other("/")?)
}

/// `POST /sign-out`: ends the session here. At the identity provider the user stays signed in: Cloud signs out there.
pub(super) async fn sign_out(
    State(portal): State<Arc<Portal>>,
    extensions: Extensions,
    headers: HeaderMap,
) -> Result<Response, Fault> {
    portal.check_origin(&headers)?;
    if let Some(token) = portal.token(&headers)?.map(str::to_owned) {
        let calls = Calls::new(portal.calls.clone(), &extensions, &headers, None);
        answer(AccountServiceClient::new(calls).sign_out(SignOutRequest { token }).await)?;
    }
    let to = match &portal.host.entrance {
        Entrance::Platform { cloud, .. } => format!("{cloud}/"),
        Entrance::Alone => "/sign-in".to_owned(),
    };
    let mut response = see_other(&to)?;
    portal.clear_cookie(&mut response, &portal.session_cookie)?;
    Ok(response)
}

/// What is wrong with what was typed, to be said beside the form.
fn is_about_the_form(fault: &Error) -> bool {
    matches!(
        fault.code(),
        Code::ValidationFailed | Code::Conflict | Code::QuotaExceeded | Code::AuthInsufficient
    )
}

/// The methods, called with the browser's session.
pub(super) fn calls(portal: &Portal, extensions: &Extensions, headers: &HeaderMap) -> Result<Calls> {
    let token = portal.token(headers)?.ok_or(Error::AuthInvalid("the session has ended: sign in again"))?;
    Ok(Calls::new(portal.calls.clone(), extensions, headers, Some(token)))
}

/// What the page shows.
struct Tenant {
    whoami: WhoAmIResponse,
    /// The tenant's, which may be another than the user's own.
    plan: Result<String>,
    stacks: Vec<Stack>,
    members: Vec<Member>,
    flags: Result<Evaluations>,
}

async fn read(calls: Calls) -> Result<Tenant> {
    let whoami = answer(IdentityServiceClient::new(calls.clone()).who_am_i(WhoAmIRequest {}).await)?;
    let request = ListStacksRequest { limit: SHOWN, cursor: String::new() };
    let stacks = answer(StackServiceClient::new(calls.clone()).list_stacks(request).await)?.data;
    let request = ListMembersRequest { limit: SHOWN, cursor: String::new() };
    let members = answer(MemberServiceClient::new(calls.clone()).list_members(request).await)?.data;
    // A set that was never pushed must not hide everything else.
    let entitled =
        EvaluationServiceClient::new(calls.clone()).get_entitlements(GetEntitlementsRequest {}).await;
    let plan = answer(entitled).map(|answer| answer.data.unwrap_or_default().plan);
    let flags =
        answer(EvaluationServiceClient::new(calls).evaluate_flags(EvaluateFlagsRequest::default()).await)
            .map(|answer| answer.data.unwrap_or_default());
    Ok(Tenant { whoami, plan, stacks, members, flags })
}

async fn render(
    portal: &Portal,
    extensions: &Extensions,
    headers: &HeaderMap,
    typed: &NewStack,
    fault: Option<&Error>,
) -> Result<Response, Fault> {
    if portal.token(headers)?.is_none() {
        return Ok(signed_out(portal));
    }
    match read(calls(portal, extensions, headers)?).await {
        Ok(tenant) => {
            let status = fault.map_or(StatusCode::OK, |fault| {
                StatusCode::from_u16(fault.code().http()).unwrap_or(StatusCode::BAD_REQUEST)
            });
            let cloud = match &portal.host.entrance {
                Entrance::Platform { cloud, .. } => Some(cloud.as_str()),
                Entrance::Alone => None,
            };
            let mut response = page(status, tenant_page(&tenant, cloud, typed, fault));
            if let Some(cloud) = cloud {
                // Signing out leads there, and browsers hold the policy against where a form leads, too.
                let policy = kombify_pages::policy(&format!("'self' {cloud}"), false)?;
                response.headers_mut().insert(header::CONTENT_SECURITY_POLICY, policy);
            }
            Ok(response)
        }
        // The session has ended somewhere else: the browser forgets it.
        Err(fault) if matches!(fault.code(), Code::AuthInvalid | Code::AuthRequired) => {
            let mut response = signed_out(portal);
            portal.clear_cookie(&mut response, &portal.session_cookie)?;
            Ok(response)
        }
        Err(fault) => Err(fault.into()),
    }
}

pub(super) fn signed_out(portal: &Portal) -> Response {
    let body = match &portal.host.entrance {
        Entrance::Platform { cloud, .. } => html! {
            p { "You are not signed in here." }
            p { a href=(format!("{cloud}/")) { "Open a tenant from your portal" } }
        },
        Entrance::Alone => html! {
            p { "You are not signed in here." }
            p { a href="/sign-in" { "Sign in" } }
        },
    };
    page(StatusCode::UNAUTHORIZED, kombify_pages::layout("Not signed in", None, &body))
}

fn tenant_page(tenant: &Tenant, cloud: Option<&str>, typed: &NewStack, fault: Option<&Error>) -> Markup {
    let who = tenant.whoami.data.clone().unwrap_or_default();
    let membership = who.memberships.first().cloned().unwrap_or_default();
    let name = if who.name.is_empty() { &who.user_id } else { &who.name };
    let writes = membership.role != "viewer";
    let body = html! {
        p {
            "Tenant " strong { (membership.slug) } ", where you are " strong { (membership.role) }
            @if let Ok(plan) = &tenant.plan { ", on the plan " strong { (plan) } }
            "."
        }
        @if let Some(cloud) = cloud { p { a href=(format!("{cloud}/")) { "All your tenants" } } }
        h2 { "Stacks" }
        // What was typed by whoever may not write any more.
        @if let Some(fault) = fault && !writes { (alert(fault)) }
        (stacks(&tenant.stacks, writes))
        @if writes { (new_stack(typed, fault)) }
        h2 { "Members" }
        (members(&tenant.members))
        h2 { "Flags" }
        (flags(&tenant.flags))
        (kombify_pages::sign_out())
    };
    kombify_pages::layout(&membership.slug, Some(name), &body)
}

fn stacks(stacks: &[Stack], writes: bool) -> Markup {
    html! {
        @if stacks.is_empty() {
            p { "There is no stack yet." }
        } @else {
            table id="stacks" {
                thead { tr { th { "Name" } th { "Kit" } th { "Created" } @if writes { th { "" } } } }
                tbody {
                    @for stack in stacks {
                        tr {
                            td { (stack.name) }
                            td { @if stack.kit.is_empty() { "draft" } @else { (stack.kit) " " (stack.kit_version) } }
                            td { (day(stack.create_time.as_ref())) }
                            @if writes {
                                td {
                                    form method="post" action="/stacks/delete" {
                                        input type="hidden" name="id" value=(stack.id);
                                        button type="submit" aria-label=(format!("Delete {}", stack.name)) { "Delete" }
                                    }
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

pub(super) fn new_stack(typed: &NewStack, fault: Option<&Error>) -> Markup {
    let wrong = fault.map(|fault| fault.details().fields).unwrap_or_default();
    html! {
        form method="post" action="/stacks" {
            @if typed.kit.is_empty() {
                h3 { "Create a stack" }
                p.note { "Without a StackKit it is a draft, whose spec nobody checks. " a href="/kits" { "Choose a StackKit" } "." }
            } @else {
                input type="hidden" name="kit" value=(typed.kit);
            }
            @if let Some(fault) = fault && !wrong.keys().any(|field| is_beside(field)) {
                (alert(fault))
            }
            label for="name" { "Name" }
            input id="name" name="name" value=(typed.name) required maxlength="63" autocomplete="off"
                aria-describedby="name-says" aria-invalid=[wrong.contains_key("name").then_some("true")];
            (beside("name", &wrong, NAME_RULE))
            p.note { (NAME_RULE) "." }
            label for="spec" { "Spec (YAML)" }
            // A browser takes the first line's end off.
            textarea id="spec" name="spec_yaml" rows=(if typed.kit.is_empty() { "6" } else { "24" }) aria-describedby="specYaml-says"
                aria-invalid=[wrong.keys().any(|field| is_of_spec(field)).then_some("true")] { "\n" (typed.spec_yaml) }
            (beside("specYaml", &wrong, "text of at most 64 KiB"))
            @for (field, message) in wrong.iter().filter(|(field, _)| field.starts_with(OF_SPEC) || *field == "spec") {
                p role="alert" data-code="VALIDATION_FAILED" { strong { (field.strip_prefix(OF_SPEC).unwrap_or(field)) } ": " (message) }
            }
            button type="submit" { "Create stack" }
        }
    }
}

/// Whether a fault is told beside a field of the form.
fn is_beside(field: &str) -> bool {
    FIELDS.contains(&field) || is_of_spec(field)
}

/// Whether a fault is about the spec.
fn is_of_spec(field: &str) -> bool {
    field == "specYaml" || field == "spec" || field.starts_with(OF_SPEC)
}

fn members(members: &[Member]) -> Markup {
    html! {
        table id="members" {
            thead { tr { th { "Name" } th { "E-mail" } th { "Role" } th.wide { "Since" } } }
            tbody {
                @for member in members {
                    tr {
                        td { @if member.name.is_empty() { (member.sub) } @else { (member.name) } }
                        td { (member.email) }
                        td { (member.role) @if member.over_limit { " (over the plan: reads only)" } }
                        td.wide { (day(member.create_time.as_ref())) }
                    }
                }
            }
        }
    }
}

fn flags(flags: &Result<Evaluations>) -> Markup {
    html! {
        @match flags {
            Err(fault) => p { (fault) },
            Ok(flags) if flags.flags.is_empty() => p { "No flag is set." },
            Ok(flags) => {
                table id="flags" {
                    thead { tr { th { "Flag" } th { "Value" } th { "Variant" } th { "Why" } } }
                    tbody {
                        @for flag in &flags.flags {
                            tr { td { (flag.key) } td { (flag.value_json) } td { (flag.variant) } td { (flag.reason) } }
                        }
                    }
                }
                p.note { "Version " (flags.version) " of the set." }
            }
        }
    }
}

/// The day of a moment, in UTC.
fn day(time: Option<&prost_types::Timestamp>) -> String {
    let moment = time.and_then(|time| jiff::Timestamp::from_second(time.seconds).ok());
    moment.map(|moment| moment.strftime("%Y-%m-%d").to_string()).unwrap_or_default()
}
