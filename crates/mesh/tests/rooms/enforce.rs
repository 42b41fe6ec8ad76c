//! The room that holds the contract's rule against the caller.

use std::sync::Arc;

use kombify_contracts::kombify::contract::v1::{Access, Door};
use kombify_core::wire::RpcPath;
use kombify_core::{Caller, Code, Error, Plan};
use kombify_mesh::access::{Enforce, RefusedAtDoor, decide};

use crate::support::{
    CREATE_TENANT, GET_TENANT, GET_USER, HEALTH, LIST_KEYS, LIST_USERS, Manual, REPORT_REFUSALS, Stub, ada,
    called, caller, code, fault, module, request, send, service, user, with,
};

fn enforce() -> Enforce {
    Enforce { clock: Manual::new() }
}

/// A user of the platform's own people.
fn operator() -> Caller {
    caller(Some(user("root", &["user", "admin"])), None, Plan::Free, Vec::new())
}

/// A module that speaks for a user with these roles.
fn pair(module: &str, roles: &[&str]) -> Caller {
    caller(Some(user("ada", roles)), Some(service(module)), Plan::Free, Vec::new())
}

/// Everybody who may knock, in the order of the tables.
fn callers() -> [Caller; 7] {
    [
        Caller::default(),
        ada(),
        operator(),
        module("cloud"),
        module("kits"),
        pair("cloud", &["user"]),
        pair("cloud", &["admin"]),
    ]
}

const YES: Option<Code> = None;
const WHO: Option<Code> = Some(Code::AuthRequired);
const NO: Option<Code> = Some(Code::AuthInsufficient);

#[test]
fn every_door_opens_for_those_whom_it_is_for_and_for_nobody_else() {
    // Nobody, a user, an operator, the right module, another module, and the right module for a user and an operator.
    for (door, expected) in [
        (Door::Unspecified, [NO, NO, NO, NO, NO, NO, NO]),
        (Door::Public, [YES, YES, YES, YES, YES, YES, YES]),
        (Door::User, [WHO, YES, YES, NO, NO, YES, YES]),
        (Door::Tenant, [WHO, YES, YES, NO, NO, YES, YES]),
        (Door::Platform, [WHO, NO, YES, NO, NO, NO, NO]),
        (Door::Service, [WHO, NO, NO, YES, NO, NO, NO]),
    ] {
        let access = Access {
            door: door.into(),
            platform_roles: vec!["admin".to_owned(), "kombisphere_admin".to_owned()],
            services: vec!["cloud".to_owned(), "stack".to_owned()],
            ..Access::default()
        };
        let decided = callers().map(|caller| decide(&access, &caller).err().map(|fault| fault.code()));
        assert_eq!(decided, expected, "{door:?}");
    }
}

#[test]
fn a_door_that_names_nobody_opens_for_nobody() {
    for door in [Door::Platform, Door::Service] {
        let access = Access { door: door.into(), ..Access::default() };
        for caller in callers() {
            assert!(decide(&access, &caller).is_err(), "{door:?} {caller:?}");
        }
    }
    let access = Access { door: 99, ..Access::default() };
    assert!(
        callers().iter().all(|caller| decide(&access, caller).is_err()),
        "a door of a later contract stays shut"
    );
}

#[tokio::test]
async fn the_rule_of_each_method_is_the_one_of_its_contract() {
    for (path, expected) in [
        (LIST_KEYS, [YES, YES, YES, YES, YES, YES, YES]),
        (GET_USER, [WHO, YES, YES, NO, NO, YES, YES]),
        (GET_TENANT, [WHO, YES, YES, NO, NO, YES, YES]),
        (LIST_USERS, [WHO, NO, YES, NO, NO, NO, NO]),
        (REPORT_REFUSALS, [WHO, NO, NO, YES, YES, NO, NO]),
    ] {
        for (caller, expected) in callers().iter().zip(expected) {
            let stub = Stub::ok();
            let response = send(enforce(), &stub, called(path, caller).await).await;
            assert_eq!(code(&response), expected, "{path} {caller:?}");
            assert_eq!(stub.reached(), usize::from(expected.is_none()), "{path} {caller:?}");
            assert_eq!(response.extensions().get::<RefusedAtDoor>().is_some(), expected.is_some(), "{path}");
            assert_eq!(response.extensions().get::<RpcPath>(), Some(&RpcPath(path)));
        }
    }
}

#[tokio::test]
async fn a_method_that_nobody_contracted_is_not_served() {
    let stub = Stub::ok();
    for path in [
        "/",
        "/kombify.users.v1.UserService/DropUsers",
        "/kombify.users.v1.UserService/getuser",
        "/kombify.users.v1.UserService/GetUser/",
        "//kombify.users.v1.UserService/GetUser",
        "/kombify.users.v2.UserService/GetUser",
        "/grpc.health.v1.HealthCheck/Check",
        "/x/grpc.health.v1.Health/Check",
    ] {
        let response = send(enforce(), &stub, called(path, &operator()).await).await;
        assert_eq!(code(&response), Some(Code::NotImplemented), "{path}");
        assert!(
            response.extensions().get::<RpcPath>().is_none(),
            "a path that a client chose is no name: {path}"
        );
    }
    assert_eq!(stub.reached(), 0);
}

#[tokio::test]
async fn health_and_reflection_are_for_everybody() {
    let stub = Stub::ok();
    for path in [
        HEALTH,
        "/grpc.health.v1.Health/Watch",
        "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
        "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
    ] {
        assert_eq!(code(&send(enforce(), &stub, request(path)).await), None, "{path}");
    }
    assert_eq!(stub.reached(), 4);
}

#[tokio::test]
async fn a_header_that_promises_something_is_well_formed_and_there_once() {
    let stub = Stub::ok();
    let long = "x".repeat(129);
    for name in ["idempotency-key", "x-tenant-id"] {
        for values in [&[""][..], &[long.as_str()], &["caf\u{e9}"], &["a", "b"], &["a", "a"]] {
            let request = called(CREATE_TENANT, &ada()).await;
            let request = values.iter().fold(request, |request, value| with(request, name, value));
            let response = send(enforce(), &stub, request).await;
            let fault = fault(&response);
            assert_eq!(fault.code, Code::ValidationFailed, "{name}: {values:?}");
            assert!(fault.details.fields.contains_key(name), "{name}: {values:?}");
        }
    }
    assert_eq!(stub.reached(), 0);

    let request = with(called(CREATE_TENANT, &ada()).await, "idempotency-key", &"k".repeat(128));
    assert_eq!(code(&send(enforce(), &stub, request).await), None);
    let request = with(called(GET_USER, &ada()).await, "idempotency-key", "");
    assert_eq!(code(&send(enforce(), &stub, request).await), None, "the method promises nothing");
}

#[tokio::test]
async fn a_stranger_learns_of_the_door_before_anything_else() {
    let stub = Stub::ok();
    let request = with(called(CREATE_TENANT, &Caller::default()).await, "idempotency-key", "");
    assert_eq!(code(&send(enforce(), &stub, request).await), Some(Code::AuthRequired));
}

#[tokio::test]
async fn a_request_that_came_past_identity_is_our_fault() {
    let stub = Stub::ok();
    let mut without_context = request(LIST_KEYS);
    without_context.extensions_mut().insert(Arc::new(operator()));
    for request in [request(LIST_KEYS), without_context] {
        let response = send(enforce(), &stub, request).await;
        assert_eq!(code(&response), Some(Code::InternalError));
    }
    assert_eq!(stub.reached(), 0);
}

#[tokio::test]
async fn what_the_service_refuses_was_not_refused_at_the_door() {
    let stub = Stub::refusing(|| Error::AuthInsufficient("not you".to_owned()));
    let response = send(enforce(), &stub, called(GET_USER, &ada()).await).await;
    assert_eq!(code(&response), Some(Code::AuthInsufficient));
    assert!(response.extensions().get::<RefusedAtDoor>().is_none());
    assert_eq!(response.extensions().get::<RpcPath>(), Some(&RpcPath(GET_USER)));
}
