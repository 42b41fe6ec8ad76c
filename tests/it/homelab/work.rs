//! A member works: stacks are made, changed and deleted, within what the plan allows, and nobody else sees them.

use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::{HANDED_WITHIN, now, stack, tenant, until};
use crate::house::{House, Module};

const SPEC: &str = "# kept as it came\nname: media\nservices:\n  jellyfin: {enabled: true}\n";

#[tokio::test(flavor = "multi_thread")]
async fn a_member_makes_changes_and_deletes_a_stack() {
    let house = House::up();
    let alice = house.token("alice");
    let home = tenant(&house, &alice, "home").await;
    let body = json!({"name": "media", "specYaml": SPEC});
    let made =
        house.call("POST", "/v1/stacks").by(&alice).json(&body).header("idempotency-key", "k").send().await;
    let media = made.data().clone();
    assert_eq!((media["tenantId"].clone(), media["specYaml"].as_str()), (home["id"].clone(), Some(SPEC)));
    assert_eq!((media["kit"].as_str(), media["kitDigest"].as_str()), (Some(""), Some("")));
    let again =
        house.call("POST", "/v1/stacks").by(&alice).json(&body).header("idempotency-key", "k").send().await;
    assert_eq!(again.data(), &media, "the same call again is the same stack");
    let id = media["id"].as_str().unwrap();
    let path = format!("/v1/stacks/{id}");
    assert_eq!(house.call("GET", &path).by(&alice).send().await.data(), &media);
    assert_eq!(house.call("GET", "/v1/stacks").by(&alice).send().await.list(), std::slice::from_ref(&media));
    stack(&house, &alice, "media").await.refused(409, "CONFLICT");

    let rename = json!({"name": "films"});
    let renamed =
        house.call("PATCH", &path).by(&alice).json(&rename).header("if-match", "\"v1\"").send().await;
    assert_eq!(renamed.data()["name"], "films");
    assert_eq!(renamed.data()["specYaml"], SPEC, "what is absent stays");
    let late = house.call("PATCH", &path).by(&alice).json(&rename).header("if-match", "\"v1\"").send().await;
    late.refused(412, "PRECONDITION_FAILED");
    let cleared = house.call("PATCH", &path).by(&alice).json(&json!({"specYaml": ""})).send().await;
    assert_eq!(cleared.data()["specYaml"], "");

    for (wrong, field) in [
        (json!({"name": "Media"}), "name"),
        (json!({"name": "media-"}), "name"),
        (json!({"name": "big", "specYaml": "x".repeat(65_537)}), "specYaml"),
        (json!({"name": "big", "specYaml": "\u{e4}".repeat(40_000)}), "specYaml"),
        (json!({"name": "versioned", "kitVersion": "^1"}), "kitVersion"),
    ] {
        let refused = house.call("POST", "/v1/stacks").by(&alice).json(&wrong).send().await;
        assert_eq!(refused.wrong_fields(), [field]);
    }
    assert_eq!(house.call("DELETE", &path).by(&alice).send().await.json, json!({}));
    house.call("GET", &path).by(&alice).send().await.refused(404, "NOT_FOUND");
    let activity = house.call("GET", "/v1/activity").by(&alice).send().await;
    let done: Vec<&str> = activity
        .list()
        .iter()
        .filter(|row| row["outcome"] == "done")
        .map(|row| row["action"].as_str().unwrap())
        .collect();
    assert_eq!(done, ["stack.deleted", "stack.updated", "stack.updated", "stack.created", "tenant.founded"]);
    until("what was refused in the tenant is there, too", HANDED_WITHIN, async || {
        let activity = house.call("GET", "/v1/activity").by(&alice).send().await;
        activity.list().iter().filter(|row| row["outcome"] == "refused").count() >= 3
    })
    .await;

    let by_grpc =
        house.rpc(Module::Stack, Some(&alice), "kombify.stack.v1.StackService/ListStacks", &json!({}));
    assert_eq!(by_grpc.json()["data"], json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_plan_bounds_what_is_made_and_a_grant_widens_it() {
    let house = House::up();
    let (alice, root) = (house.token("alice"), house.token("root"));
    let home = tenant(&house, &alice, "home").await;
    stack(&house, &alice, "one").await.data();
    let two = stack(&house, &alice, "two").await.data().clone();
    let third = stack(&house, &alice, "three").await;
    let error = third.refused(403, "QUOTA_EXCEEDED");
    assert_eq!(error["details"], json!({"resource": "stacks", "limit": "2", "used": "2"}));
    for (header, value) in [("x-quota-limit", "2"), ("x-quota-used", "2"), ("x-quota-remaining", "0")] {
        assert_eq!(third.header(header), value, "{header}");
    }
    until("Admin mirrors the usage", HANDED_WITHIN, async || {
        let seen = house.call("GET", "/v1/tenants/home").by(&alice).send().await;
        seen.data()["usage"]["stacks"] == 2
    })
    .await;

    let org = home["orgId"].as_str().unwrap();
    let grant = |end: &str| json!({"plan": "pro", "endTime": end, "reason": "test"});
    let path = format!("/v1/admin/organisations/{org}:grantPlan");
    house.call("POST", &path).by(&root).json(&grant("2099-01-01T00:00:00Z")).send().await.data();
    until("the plan reaches the Stack", HANDED_WITHIN, async || {
        stack(&house, &alice, "three").await.status == 200
    })
    .await;
    for name in ["four", "five"] {
        stack(&house, &alice, name).await.data();
    }
    stack(&house, &alice, "six").await.refused(403, "QUOTA_EXCEEDED");

    // The grant ends: nothing is deleted, and what is over the limit can only be read and deleted.
    let soon = (now() + 1).to_string();
    let soon =
        soon.parse::<i64>().map(|second| jiff::Timestamp::from_second(second).unwrap().to_string()).unwrap();
    house.call("POST", &path).by(&root).json(&grant(&soon)).send().await.data();
    let stacks: Vec<Value> = house.call("GET", "/v1/stacks").by(&alice).send().await.list().to_vec();
    assert_eq!(stacks.len(), 5);
    let newest = format!("/v1/stacks/{}", stacks[0]["id"].as_str().unwrap());
    until("the end of the plan reaches the Stack", HANDED_WITHIN, async || {
        let renamed = house.call("PATCH", &newest).by(&alice).json(&json!({"specYaml": "a: 1"})).send().await;
        renamed.status == 403
    })
    .await;
    house.call("GET", &newest).by(&alice).send().await.data();
    let oldest = format!("/v1/stacks/{}", two["id"].as_str().unwrap());
    house.call("PATCH", &oldest).by(&alice).json(&json!({"specYaml": "a: 1"})).send().await.data();
    assert_eq!(house.call("DELETE", &newest).by(&alice).send().await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_race_for_the_last_places_of_a_quota() {
    let house = House::up();
    let carol = house.token("carol");
    tenant(&house, &carol, "carols").await;
    for taken in 0..15 {
        stack(&house, &carol, &format!("s{taken}")).await.data();
    }
    let mut racers = JoinSet::new();
    for racer in 0..200 {
        let call = house.call("POST", "/v1/stacks").by(&carol).json(&json!({"name": format!("r{racer}")}));
        racers.spawn(async move { call.send().await.status });
    }
    let answers = racers.join_all().await;
    assert_eq!(answers.iter().filter(|status| **status == 200).count(), 5, "{answers:?}");
    assert!(answers.iter().all(|status| matches!(status, 200 | 403)), "{answers:?}");
    assert_eq!(house.call("GET", "/v1/stacks").by(&carol).send().await.list().len(), 20);
}
