//! The life of a tenant: created on an instance that takes it, suspended, resumed, deleted, undeleted, erased on both sides.

use std::time::Duration;

use serde_json::json;
use tokio::task::JoinSet;

use super::{HANDED_WITHIN, instance, stack, tenant, until};
use crate::browser::{Account, sign_up};
use crate::house::{House, Module};

#[tokio::test(flavor = "multi_thread")]
async fn a_suspended_tenant_refuses_its_members_and_keeps_its_data() {
    let house = House::up();
    let (alice, root) = (house.token("alice"), house.token("root"));
    let home = tenant(&house, &alice, "home").await;
    stack(&house, &alice, "media").await.data();
    let path = format!("/v1/admin/tenants/{}", home["id"].as_str().unwrap());
    let suspend = json!({"reason": "unpaid"});
    let suspended = house.call("POST", &format!("{path}:suspend")).by(&root).json(&suspend).send().await;
    assert_eq!(suspended.data()["status"], "suspended");
    until("the Stack refuses", HANDED_WITHIN, async || {
        house.call("GET", "/v1/stacks").by(&alice).send().await.status == 403
    })
    .await;
    house.call("GET", "/v1/stacks").by(&alice).send().await.refused(403, "TENANT_SUSPENDED");
    house.call("GET", "/v1/tenants/home").by(&alice).send().await.refused(403, "TENANT_SUSPENDED");
    house.call("POST", "/v1/tenants/home:launch").by(&alice).send().await.refused(403, "TENANT_SUSPENDED");
    let listed = house.call("GET", "/v1/tenants").by(&alice).send().await;
    assert_eq!(listed.list()[0]["status"], "suspended", "its members still see that it is there");
    let again = house.call("POST", &format!("{path}:suspend")).by(&root).json(&suspend).send().await;
    again.refused(412, "PRECONDITION_FAILED");
    house
        .call("POST", &format!("{path}:suspend"))
        .by(&alice)
        .json(&suspend)
        .send()
        .await
        .refused(403, "AUTH_INSUFFICIENT");
    let resumed = house.call("POST", &format!("{path}:resume")).by(&root).send().await;
    assert_eq!(resumed.data()["status"], "active");
    until("the Stack lets in again", HANDED_WITHIN, async || {
        house.call("GET", "/v1/stacks").by(&alice).send().await.status == 200
    })
    .await;
    assert_eq!(house.call("GET", "/v1/stacks").by(&alice).send().await.list().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_tenant_can_be_undeleted_and_later_is_erased_on_both_sides() {
    let mut house = House::fresh().with_env("KOMBIFY__ADMIN__SWEEP_SECONDS", "1");
    house.start();
    let (alice, root) = (house.token("alice"), house.token("root"));
    let home = tenant(&house, &alice, "home").await;
    let id = home["id"].as_str().unwrap();
    stack(&house, &alice, "media").await.data();
    let file = house.data().join(format!("stack/tenants/{id}.db"));
    assert!(file.exists());
    assert_eq!(house.call("DELETE", "/v1/tenants/home").by(&alice).send().await.json, json!({}));
    house.call("GET", "/v1/tenants/home").by(&alice).send().await.refused(404, "NOT_FOUND");
    until("the Stack hides it", HANDED_WITHIN, async || {
        let asked = house.call("GET", "/v1/stacks").by(&alice).header("x-tenant-id", "home").send().await;
        asked.status == 404
    })
    .await;
    let listed = house.call("GET", "/v1/tenants").by(&alice).send().await;
    assert_eq!(listed.list()[0]["status"], "deleted");
    assert!(listed.list()[0]["eraseTime"].is_string(), "{}", listed.text);
    let second =
        house.call("POST", "/v1/tenants").by(&alice).json(&json!({"slug": "other", "name": "Other"}));
    second.send().await.refused(409, "CONFLICT");
    let undeleted = house.call("POST", "/v1/tenants/home:undelete").by(&alice).send().await;
    assert_eq!(undeleted.data()["status"], "active");
    until("the Stack shows it again", HANDED_WITHIN, async || {
        house.call("GET", "/v1/stacks").by(&alice).send().await.status == 200
    })
    .await;
    assert_eq!(house.call("GET", "/v1/stacks").by(&alice).send().await.list().len(), 1, "nothing is lost");

    let status = house.terminate();
    assert!(status.success());
    house.start_with(&[("KOMBIFY__ADMIN__GRACE_SECONDS", "1")]);
    let places = |instance: &serde_json::Value| instance["tenantCount"].as_i64().unwrap();
    assert_eq!(places(&instance(&house, &root).await), 1);
    let path = format!("/v1/admin/tenants/{id}:delete");
    house.call("POST", &path).by(&root).json(&json!({"reason": "asked for"})).send().await.data();
    until("it is erased", Duration::from_secs(20), async || {
        !file.exists() && places(&instance(&house, &root).await) == 0
    })
    .await;
    let left: Vec<_> = std::fs::read_dir(house.data().join("stack/tenants")).unwrap().collect();
    assert!(left.is_empty(), "{left:?}");
    assert!(house.call("GET", "/v1/tenants").by(&alice).send().await.list().is_empty());
    house.call("POST", "/v1/tenants/home:undelete").by(&alice).send().await.refused(404, "NOT_FOUND");
    let same = house
        .call("POST", "/v1/tenants")
        .by(&alice)
        .json(&json!({"slug": "home", "name": "Home"}))
        .send()
        .await;
    same.refused(409, "CONFLICT");
    tenant(&house, &alice, "another").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_instance_refuses_was_never_there() {
    let mut house = House::fresh().with_env("KOMBIFY__STACK__MAX_TENANTS", "1");
    house.start();
    let [alice, bob, root] = ["alice", "bob", "root"].map(|user| house.token(user));
    tenant(&house, &alice, "home").await;
    let create = |house: &House| {
        let body = json!({"slug": "bobs", "name": "Bobs"});
        house.call("POST", "/v1/tenants").by(&bob).json(&body).header("idempotency-key", "k")
    };
    let refused = create(&house).send().await;
    refused.refused(503, "SERVICE_UNAVAILABLE");
    assert!(!refused.header("retry-after").is_empty());
    assert_eq!(instance(&house, &root).await["tenantCount"], 1, "the place is given back");
    assert!(house.call("GET", "/v1/tenants").by(&bob).send().await.list().is_empty());
    let files = std::fs::read_dir(house.data().join("stack/tenants")).unwrap();
    let files = files.filter(|file| file.as_ref().unwrap().path().extension().is_some_and(|end| end == "db"));
    assert_eq!(files.count(), 1, "no orphan in the Stack");
    let status = house.terminate();
    assert!(status.success());
    house.start_with(&[("KOMBIFY__STACK__MAX_TENANTS", "2")]);
    assert_eq!(create(&house).send().await.data()["slug"], "bobs", "slug and key are free again");
}

#[tokio::test(flavor = "multi_thread")]
async fn many_race_for_the_last_places_of_an_instance_that_refuses_some() {
    const RACERS: usize = 40;
    const TAKEN: usize = 12;
    let mut house = House::fresh()
        .with_env("KOMBIFY__STACK__MAX_TENANTS", TAKEN.to_string())
        .with_env("KOMBIFY__RATES__SIGN-IN__BY_ADDRESS", "true")
        .with_env("KOMBIFY__RATES__SIGN-IN__FREE", "100000")
        .with_env("KOMBIFY__RATES__SIGN-IN__PRO", "100000")
        .with_env("KOMBIFY__RATES__SIGN-IN__ENTERPRISE", "100000");
    house.start();
    let root = house.token("root");
    let mut owners = Vec::new();
    for racer in 0..RACERS {
        let account = Account::of(&format!("racer{racer}"));
        owners.push(sign_up(house.url(Module::Idp), &account).await.access_token);
    }
    let mut racers = JoinSet::new();
    for (racer, owner) in owners.iter().enumerate() {
        let body = json!({"slug": format!("racer-{racer}"), "name": "Racer"});
        let call = house.call("POST", "/v1/tenants").by(owner).json(&body);
        racers.spawn(async move { call.send().await });
    }
    let answers = racers.join_all().await;
    let good = answers.iter().filter(|answer| answer.status == 200).count();
    for answer in answers.iter().filter(|answer| answer.status != 200) {
        answer.refused(503, "SERVICE_UNAVAILABLE");
    }
    assert_eq!(good, TAKEN);
    assert_eq!(instance(&house, &root).await["tenantCount"], TAKEN);
    let listed = house.call("GET", "/v1/admin/tenants?limit=100").by(&root).send().await;
    assert_eq!(listed.list().len(), TAKEN);
    assert!(listed.list().iter().all(|tenant| tenant["status"] == "active"), "{}", listed.text);
    for tenant in listed.list() {
        let file = house.data().join(format!("stack/tenants/{}.db", tenant["id"].as_str().unwrap()));
        assert!(file.exists());
    }
}
