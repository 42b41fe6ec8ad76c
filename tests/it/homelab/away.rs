//! Admin away: Stacks serve on from what they hold, and catch up afterwards.

use std::fs;

use serde_json::json;

use super::{HANDED_WITHIN, answers, stack, status_of_stack, tenant, until};
use crate::house::{House, Module};

#[tokio::test(flavor = "multi_thread")]
async fn a_stack_serves_on_while_admin_is_away_and_catches_up() {
    let mut house = House::up_apart();
    let [alice, bob] = ["alice", "bob"].map(|user| house.token(user));
    tenant(&house, &alice, "home").await;
    stack(&house, &alice, "one").await.data();
    let invited =
        house.call("POST", "/v1/invitations").by(&alice).json(&json!({"role": "viewer"})).send().await;
    let code = invited.data()["code"].clone();
    house.kill();
    let here = |verb: &str, path: &str| house.call_at(Module::Stack, verb, path);
    let listed = here("GET", "/v1/stacks").by(&alice).send().await;
    assert_eq!(listed.list().len(), 1, "with Admin, the gateway and the identity provider gone");
    here("POST", "/v1/stacks").by(&alice).json(&json!({"name": "two"})).send().await.data();
    here("POST", "/v1/flags:evaluate").by(&alice).json(&json!({})).send().await.data();
    // A session that joined while Admin was away is mirrored when it is back; an address that only Admin knows must wait.
    let by_code = here("POST", "/v1/invitations:accept").by(&bob).json(&json!({"code": code})).send().await;
    by_code.refused(503, "SERVICE_UNAVAILABLE");
    house.start();
    until("the Stack answers", HANDED_WITHIN, async || answers(&house, Module::Stack).await).await;
    let root = house.token("root");
    until("Admin sees what changed", HANDED_WITHIN, async || {
        let seen = house.call("GET", "/v1/tenants/home").by(&alice).send().await;
        seen.status == 200 && seen.data()["usage"]["stacks"] == 2
    })
    .await;
    until("the Stack is heard again", std::time::Duration::from_secs(20), async || {
        status_of_stack(&house, &root).await["state"] == "healthy"
    })
    .await;
    house.call("POST", "/v1/invitations:accept").by(&bob).json(&json!({"code": code})).send().await.data();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stack_that_has_another_port_is_found_there() {
    let mut house = House::up();
    let [alice, bob] = ["alice", "bob"].map(|user| house.token(user));
    tenant(&house, &alice, "home").await;
    assert!(house.terminate().success());
    house.give_another_port(Module::Stack);
    house.start();
    tenant(&house, &bob, "bobs").await;
    let launch = house.call("POST", "/v1/tenants/home:launch").by(&alice).send().await;
    let start = launch.data()["redirectUrl"].as_str().unwrap();
    assert!(start.starts_with(&format!("{}/sso/start?tenant=", house.url(Module::Stack))), "{start}");
    house.call("GET", "/v1/stacks").by(&alice).send().await.data();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_admin_decides_behind_a_backup_reaches_a_stack_that_is_ahead_of_it() {
    let mut house = House::fresh_apart().without_limits();
    house.start();
    house.start_stack(&[]);
    let [alice, root] = ["alice", "root"].map(|user| house.token(user));
    let home = tenant(&house, &alice, "home").await;
    let path = format!("/v1/admin/tenants/{}", home["id"].as_str().unwrap());
    let copy = house.data().with_file_name("copy");
    assert!(house.run(&["backup", copy.to_str().unwrap()], &[]).status.success());
    // The Stack goes on, and gets what the copy does not know.
    let flag = |value: &str| {
        let definition = json!({"state": "ENABLED", "variants": {"on": value}, "defaultVariant": "on"});
        json!({"definitionJson": definition.to_string(), "reason": "a test"})
    };
    for round in 0..3 {
        for step in ["suspend", "resume"] {
            let call = house.call("POST", &format!("{path}:{step}")).by(&root);
            let call = if step == "suspend" { call.json(&json!({"reason": "a test"})) } else { call };
            call.send().await.data();
        }
        let call = house.call("PUT", "/v1/admin/flags/before").by(&root).json(&flag(&round.to_string()));
        call.send().await.data();
    }
    let value = async |house: &House, key: &str| {
        let asked = json!({"keys": [key]});
        let answer = house.call("POST", "/v1/flags:evaluate").by(&alice).json(&asked).send().await;
        answer.json["data"]["flags"][0]["valueJson"].as_str().unwrap_or_default().to_owned()
    };
    until("the Stack has it", HANDED_WITHIN, async || value(&house, "before").await == "\"2\"").await;

    house.kill();
    for end in ["", "-wal", "-shm"] {
        let _ = fs::remove_file(house.data().join(format!("platform.db{end}"))); // Not each of them is there.
    }
    fs::copy(copy.join("platform.db"), house.data().join("platform.db")).unwrap();
    house.start();
    house
        .call("POST", &format!("{path}:suspend"))
        .by(&root)
        .json(&json!({"reason": "x"}))
        .send()
        .await
        .data();
    until("the Stack refuses", HANDED_WITHIN, async || {
        house.call("GET", "/v1/stacks").by(&alice).send().await.status == 403
    })
    .await;
    house.call("POST", &format!("{path}:resume")).by(&root).send().await.data();
    house.call("PUT", "/v1/admin/flags/behind").by(&root).json(&flag("new")).send().await.data();
    until("the Stack has the new flag", HANDED_WITHIN, async || value(&house, "behind").await == "\"new\"")
        .await;
    assert_eq!(value(&house, "before").await, "null", "what is no more at Admin is no more at the Stack");
    let syncs = status_of_stack(&house, &root).await["syncs"].clone();
    assert!(syncs.as_array().unwrap().iter().all(|sync| sync["lastError"] == ""), "{syncs}");
}
