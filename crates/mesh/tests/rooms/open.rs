//! The second half of access: what a service method makes of the request that it was let into.

use kombify_contracts::kombify::tenancy::v1::{CreateTenantRequest, GetTenantRequest};
use kombify_core::{Caller, Clock as _, Code, Plan, Result, TenantId, TenantRole};
use kombify_mesh::access::{Enforce, Opened, open, open_tenant};

use crate::support::{
    ADDRESS, CREATE_TENANT, GET_TENANT, GET_USER, Manual, REPORT_REFUSALS, REQUEST_ID, Stub, USER_AGENT, ada,
    called, caller, code, membership, module, send, service, tenant_id, user, with,
};

/// The message as a service method gets it: a call of `path` by `caller`, with these headers.
async fn let_in<R>(
    path: &str,
    caller: &Caller,
    headers: &[(&'static str, &str)],
    message: R,
) -> tonic::Request<R> {
    let stub = Stub::ok();
    let request = called(path, caller).await;
    let request = headers.iter().fold(request, |request, &(name, value)| with(request, name, value));
    let response = send(Enforce { clock: Manual::new() }, &stub, request).await;
    assert_eq!(code(&response), None);
    let mut request = tonic::Request::new(message);
    *request.extensions_mut() = stub.last().extensions().clone();
    request
}

/// A user who is a member of these tenants.
fn member(tenants: &[(&str, u8, TenantRole)]) -> Caller {
    let memberships = tenants.iter().map(|(slug, number, role)| membership(slug, *number, *role)).collect();
    caller(Some(user("ada", &["user"])), None, Plan::Pro, memberships)
}

/// The tenant that a call of `GetTenant` opens.
async fn opened(caller: &Caller, field: &str, header: Option<&str>) -> Result<TenantId> {
    let headers: Vec<_> = header.map(|header| ("x-tenant-id", header)).into_iter().collect();
    let request = let_in(GET_TENANT, caller, &headers, GetTenantRequest { tenant: field.to_owned() }).await;
    open_tenant(request).map(|(scope, _)| scope.tenant())
}

fn creation(slug: &str) -> CreateTenantRequest {
    CreateTenantRequest { slug: slug.to_owned(), name: "Home".to_owned(), region: String::new() }
}

#[tokio::test]
async fn the_tenant_is_what_the_field_names_else_the_header_else_the_only_one() {
    let (home, work) = (("home", 1, TenantRole::Viewer), ("work", 2, TenantRole::Admin));
    let (one, two, none) = (member(&[home]), member(&[home, work]), member(&[]));
    let (home_id, work_id) = (tenant_id(1).to_string(), tenant_id(2).to_string());
    let other_id = tenant_id(9).to_string();
    let invalid = Err(Code::ValidationFailed);
    for (caller, field, header, expected) in [
        (&two, "home", None, Ok(1)),
        (&two, home_id.as_str(), None, Ok(1)),
        (&two, "", Some("work"), Ok(2)),
        (&two, "", Some(work_id.as_str()), Ok(2)),
        (&one, "", None, Ok(1)),
        (&two, "", None, invalid),
        (&none, "", None, invalid),
        (&two, "home", Some("home"), Ok(1)),
        (&two, "home", Some(home_id.as_str()), Ok(1)),
        (&two, work_id.as_str(), Some("work"), Ok(2)),
        (&two, "home", Some("work"), invalid),
        (&two, home_id.as_str(), Some("work"), invalid),
        (&two, "home", Some("other"), invalid),
        (&one, "other", None, Err(Code::NotFound)),
        (&one, other_id.as_str(), None, Err(Code::NotFound)),
        (&one, "", Some("other"), Err(Code::NotFound)),
        (&none, "home", None, Err(Code::NotFound)),
        (&none, "home", Some("home"), Err(Code::NotFound)),
    ] {
        let found = opened(caller, field, header).await.map_err(|fault| fault.code());
        assert_eq!(found, expected.map(tenant_id), "{field:?} {header:?}");
    }
}

#[tokio::test]
async fn a_lesser_role_is_told_so_and_a_stranger_finds_nothing() {
    let caller = member(&[("home", 1, TenantRole::Viewer)]);
    let request = let_in(GET_USER, &caller, &[], GetTenantRequest::default()).await;
    let Opened { caller, .. } = open(request).unwrap();
    assert_eq!(caller.enter("home", TenantRole::Member).unwrap_err().code(), Code::AuthInsufficient);
    assert_eq!(caller.enter("work", TenantRole::Viewer).unwrap_err().code(), Code::NotFound);
}

#[tokio::test]
async fn a_method_without_a_role_in_its_contract_opens_no_tenant() {
    let caller = member(&[("home", 1, TenantRole::Admin)]);
    let request = let_in(GET_USER, &caller, &[], GetTenantRequest { tenant: "home".to_owned() }).await;
    assert_eq!(open_tenant(request).unwrap_err().code(), Code::InternalError);
}

#[tokio::test]
async fn a_request_that_came_past_access_is_our_fault() {
    assert_eq!(open(tonic::Request::new(creation("home"))).unwrap_err().code(), Code::InternalError);
    let request = tonic::Request::new(GetTenantRequest { tenant: "home".to_owned() });
    assert_eq!(open_tenant(request).unwrap_err().code(), Code::InternalError);
}

#[tokio::test]
async fn a_change_says_who_does_what_for_whom_and_when() {
    let caller = caller(Some(user("ada", &[])), Some(service("cloud")), Plan::Free, Vec::new());
    let headers = [("x-tenant-id", "home"), ("idempotency-key", "key-1")];
    let opened = open(let_in(CREATE_TENANT, &caller, &headers, creation("home")).await).unwrap();
    let change = &opened.change;
    assert_eq!(change.actor.sub.as_ref().map(ToString::to_string).as_deref(), Some("ada"));
    assert_eq!((&change.actor.service, &change.actor.impersonator), (&Some(service("cloud")), &None));
    assert_eq!((change.action, change.request_id.as_str()), ("tenant.created", REQUEST_ID));
    assert_eq!((change.ip.as_str(), change.user_agent.as_str()), (ADDRESS, USER_AGENT));
    assert_eq!(change.time, Manual::new().now());
    let idempotency = change.idempotency.as_ref().unwrap();
    assert_eq!((idempotency.key.as_str(), idempotency.method.as_str()), ("key-1", CREATE_TENANT));
    assert_eq!(opened.tenant_header.as_deref(), Some("home"));
    assert_eq!(opened.user().unwrap().sub.as_str(), "ada");
    assert_eq!(opened.message, creation("home"));
}

#[tokio::test]
async fn a_method_that_honours_no_key_promises_nothing() {
    let headers = [("idempotency-key", "key-1")];
    let opened = open(let_in(GET_TENANT, &ada(), &headers, GetTenantRequest::default()).await).unwrap();
    assert_eq!(opened.change.idempotency, None);
    assert_eq!(opened.change.action, "");
    let opened = open(let_in(CREATE_TENANT, &ada(), &[], creation("home")).await).unwrap();
    assert_eq!(opened.change.idempotency, None);
}

/// The digest of a promised creation.
async fn digest(message: CreateTenantRequest) -> [u8; 32] {
    let headers = [("idempotency-key", "key-1")];
    let opened = open(let_in(CREATE_TENANT, &ada(), &headers, message).await).unwrap();
    opened.change.idempotency.unwrap().digest
}

#[tokio::test]
async fn equal_messages_have_one_digest_and_different_ones_have_two() {
    let home = digest(creation("home")).await;
    assert_eq!(home, digest(creation("home")).await);
    assert_ne!(home, digest(creation("work")).await);
    assert_ne!(home, digest(CreateTenantRequest { region: "eu".to_owned(), ..creation("home") }).await);
    assert_ne!(home, [0; 32]);
}

#[tokio::test]
async fn behind_a_door_for_modules_there_is_no_user() {
    let request = let_in(REPORT_REFUSALS, &module("cloud"), &[], GetTenantRequest::default()).await;
    let opened = open(request).unwrap();
    assert_eq!(opened.user().unwrap_err().code(), Code::AuthRequired);
    assert_eq!(opened.change.actor.service, Some(service("cloud")));
}
