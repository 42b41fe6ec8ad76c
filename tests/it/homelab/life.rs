//! The life of a tenant: created on an instance that takes it, suspended, resumed, deleted, undeleted, erased on both sides.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::{HANDED_WITHIN, files, instance, stack, tenant, until};
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
    let places = |instance: &Value| instance["tenantCount"].as_i64().unwrap();
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
async fn two_hundred_race_for_the_last_places_of_two_instances_of_which_one_refuses() {
    const RACERS: usize = 200;
    const TAKEN: usize = 12;
    const PLACES: usize = 5;
    let mut house =
        House::fresh().without_limits().with_env("KOMBIFY__STACK__MAX_TENANTS", TAKEN.to_string());
    house.start();
    let root = house.token("root");
    let other = house.add_stack(&root, "other", 5, &[("KOMBIFY__STACK__MAX_TENANTS", "1000")]).await;
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
    let (good, bad): (Vec<_>, Vec<_>) =
        racers.join_all().await.into_iter().partition(|answer| answer.status == 200);
    for answer in &bad {
        answer.refused(503, "SERVICE_UNAVAILABLE");
    }
    assert_eq!(good.len(), TAKEN + PLACES);
    let listed = house.all(&root, "/v1/admin/tenants").await;
    assert!(listed.iter().all(|tenant| tenant["status"] == "active"), "{listed:?}");
    let ids = |tenants: &[Value]| -> BTreeSet<String> {
        tenants.iter().map(|tenant| tenant["id"].as_str().unwrap().to_owned()).collect()
    };
    let told: Vec<Value> = good.iter().map(|answer| answer.data().clone()).collect();
    assert_eq!(ids(&listed), ids(&told), "who was told of a tenant has it, and there is no other");
    for (instance, data, count) in [
        (instance(&house, &root).await["id"].as_str().unwrap(), house.data().join("stack"), TAKEN),
        (&*other.id, other.data().join("stack"), PLACES),
    ] {
        let here: Vec<_> = listed.iter().filter(|tenant| tenant["instanceId"] == instance).cloned().collect();
        assert_eq!(here.len(), count, "{instance}");
        assert_eq!(files(&data), ids(&here), "no orphan on either side");
    }
    let counts = house.all(&root, "/v1/admin/instances").await;
    let counts: BTreeSet<_> =
        counts.iter().map(|instance| instance["tenantCount"].as_u64().unwrap()).collect();
    assert_eq!(counts, BTreeSet::from([PLACES as u64, TAKEN as u64]));
}
