//! The room that counts: so many requests per minute, class and caller.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use http::Response;
use kombify_core::{Caller, Code, Error, Plan};
use kombify_mesh::edge::ClientAddress;
use kombify_mesh::rate::{ClassLimit, Limit, RateLimiter, RateLimits};
use tonic::body::Body;

use crate::support::{
    GET_USER, HEALTH, LIST_KEYS, LIST_USERS, Manual, REGISTER_KEY, REPORT_REFUSALS, Stub, called, caller,
    code, fault, header, module, request, send, service, user,
};

/// Small limits, so that they are reached.
fn small() -> RateLimits {
    let class = |free, pro, enterprise, by_address| ClassLimit { free, pro, enterprise, by_address };
    RateLimits(HashMap::from([
        ("admin".to_owned(), class(1, 2, 3, false)),
        ("other".to_owned(), class(2, 3, 4, false)),
        ("sign-in".to_owned(), class(2, 2, 2, true)),
    ]))
}

/// The room, and the clock that it counts by.
fn limit() -> (Limit, Arc<Manual>) {
    let clock = Manual::new();
    (Limit { limiter: Arc::new(RateLimiter::new(small(), clock.clone())) }, clock)
}

/// The user `sub` of that plan, with these roles.
fn of(sub: &str, plan: Plan, roles: &[&str]) -> Caller {
    caller(Some(user(sub, roles)), None, plan, Vec::new())
}

async fn count(room: &Limit, path: &str, caller: &Caller) -> Response<Body> {
    send(room.clone(), &Stub::ok(), called(path, caller).await).await
}

/// How many requests of `caller` are served before one is not, of 10 at most.
async fn served(room: &Limit, path: &str, caller: &Caller) -> usize {
    for served in 0..10 {
        if code(&count(room, path, caller).await).is_some() {
            return served;
        }
    }
    10
}

/// The five headers: limit, remaining, reset, and the drafts' two.
fn headers(response: &Response<Body>) -> [Option<&str>; 5] {
    ["x-ratelimit-limit", "x-ratelimit-remaining", "x-ratelimit-reset", "ratelimit-policy", "ratelimit"]
        .map(|name| header(response, name))
}

#[tokio::test]
async fn exactly_the_limit_of_the_plan_is_served() {
    for (plan, other, admin) in [(Plan::Free, 2, 1), (Plan::Pro, 3, 2), (Plan::Enterprise, 4, 3)] {
        let (room, _) = limit();
        let caller = of("ada", plan, &["admin"]);
        assert_eq!(served(&room, GET_USER, &caller).await, other, "{plan}");
        assert_eq!(served(&room, LIST_USERS, &caller).await, admin, "{plan}: classes are counted apart");
    }
}

#[test]
fn the_limits_are_those_of_the_contracts() {
    let limiter = RateLimiter::new(RateLimits::default(), Manual::new());
    for (class, free, pro, enterprise) in [
        ("admin", 10, 100, 500),
        ("other", 100, 500, 2000),
        ("sign-in", 20, 20, 20),
        ("stacks", 100, 500, 5000),
    ] {
        for (plan, expected) in [(Plan::Free, free), (Plan::Pro, pro), (Plan::Enterprise, enterprise)] {
            let counted = limiter.count(class, &of("ada", plan, &[]), "203.0.113.7").unwrap();
            assert_eq!(counted.limit, expected, "{class} {plan}");
        }
    }
    for method in kombify_contracts::methods() {
        let class = method.access.as_ref().unwrap().rate.as_str();
        assert!(
            class.is_empty() || RateLimits::default().0.contains_key(class),
            "{} counts as {class}",
            method.path
        );
    }
}

#[tokio::test]
async fn every_counted_answer_says_what_is_left() {
    let (room, clock) = limit();
    let ada = of("ada", Plan::Free, &[]);
    let policy = Some("\"minute\";q=2;w=60");

    let response = count(&room, GET_USER, &ada).await;
    assert_eq!(headers(&response), [Some("2"), Some("1"), Some("60"), policy, Some("\"minute\";r=1;t=60")]);
    clock.advance(20);
    let failing = Stub::refusing(|| Error::not_found("user", "eve"));
    let response = send(room.clone(), &failing, called(GET_USER, &ada).await).await;
    assert_eq!(code(&response), Some(Code::NotFound));
    assert_eq!(headers(&response), [Some("2"), Some("0"), Some("40"), policy, Some("\"minute\";r=0;t=40")]);

    let stub = Stub::ok();
    let response = send(room, &stub, called(GET_USER, &ada).await).await;
    assert_eq!(headers(&response), [Some("2"), Some("0"), Some("40"), policy, Some("\"minute\";r=0;t=40")]);
    let fault = fault(&response);
    assert_eq!((fault.code, fault.retry_after), (Code::RateLimited, Some(Duration::from_secs(40))));
    assert_eq!(fault.details.pairs["limit"], "2");
    assert_eq!(stub.reached(), 0);
}

#[tokio::test]
async fn a_window_ends_and_the_refused_do_not_make_it_longer() {
    let (room, clock) = limit();
    let ada = of("ada", Plan::Free, &[]);
    assert_eq!(served(&room, GET_USER, &ada).await, 2);
    clock.advance(59);
    assert_eq!(served(&room, GET_USER, &ada).await, 0);
    clock.advance(1);
    assert_eq!(served(&room, GET_USER, &ada).await, 2);
    clock.advance(-3600);
    assert_eq!(served(&room, GET_USER, &ada).await, 2, "a clock that was set back locks nobody out");
}

#[tokio::test]
async fn two_callers_do_not_share() {
    let (room, _) = limit();
    assert_eq!(served(&room, GET_USER, &of("ada", Plan::Free, &[])).await, 2);
    assert_eq!(served(&room, GET_USER, &of("bob", Plan::Free, &[])).await, 2);
    let pair = caller(Some(user("ada", &[])), Some(service("cloud")), Plan::Free, Vec::new());
    assert_eq!(served(&room, GET_USER, &pair).await, 0, "a user is one caller, whichever module speaks");
}

#[tokio::test]
async fn whoever_is_unknown_is_counted_by_address() {
    let (room, _) = limit();
    for (address, expected) in [
        ("203.0.113.7", None),
        ("203.0.113.7", None),
        ("203.0.113.7", Some(Code::RateLimited)),
        ("198.51.100.1", None),
    ] {
        let mut request = called(LIST_KEYS, &Caller::default()).await;
        request.extensions_mut().insert(ClientAddress(address.to_owned()));
        assert_eq!(code(&send(room.clone(), &Stub::ok(), request).await), expected, "{address}");
    }
    assert_eq!(served(&room, LIST_KEYS, &of("ada", Plan::Free, &[])).await, 2, "a user is no address");
}

#[tokio::test]
async fn sign_in_is_counted_by_address_whoever_calls() {
    let (room, _) = limit();
    assert_eq!(code(&count(&room, REGISTER_KEY, &Caller::default()).await), None);
    assert_eq!(code(&count(&room, REGISTER_KEY, &module("cloud")).await), None);
    let response = count(&room, REGISTER_KEY, &of("ada", Plan::Enterprise, &["kombisphere_admin"])).await;
    assert_eq!(code(&response), Some(Code::RateLimited));
}

#[tokio::test]
async fn the_platforms_first_admins_have_no_limit_in_their_own_class() {
    let (room, _) = limit();
    let operator = of("root", Plan::Free, &["kombisphere_admin"]);
    assert_eq!(served(&room, LIST_USERS, &operator).await, 10);
    assert_eq!(headers(&count(&room, LIST_USERS, &operator).await), [None; 5]);
    assert_eq!(served(&room, GET_USER, &operator).await, 2);
    assert_eq!(served(&room, LIST_USERS, &of("root", Plan::Free, &["admin"])).await, 1);
}

#[tokio::test]
async fn modules_for_themselves_and_methods_without_a_class_are_not_counted() {
    let (room, _) = limit();
    for (path, caller) in [
        (LIST_KEYS, module("cloud")),
        (LIST_USERS, module("cloud")),
        (REPORT_REFUSALS, module("cloud")),
        (REPORT_REFUSALS, of("ada", Plan::Free, &[])),
        (HEALTH, Caller::default()),
    ] {
        assert_eq!(served(&room, path, &caller).await, 10, "{path}");
        assert_eq!(headers(&count(&room, path, &caller).await), [None; 5], "{path}");
    }
    let stub = Stub::ok();
    assert_eq!(code(&send(room, &stub, request(HEALTH)).await), None, "a request without a caller passes");
}
