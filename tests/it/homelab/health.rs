//! How modules are: every one reports, silence is unreachable, and only a healthy instance gets tenants.

use std::time::Duration;

use serde_json::json;

use super::{instance, status_of_stack, tenant, until};
use crate::house::House;

#[tokio::test(flavor = "multi_thread")]
async fn every_module_reports_and_the_platforms_people_see_it() {
    let house = House::up();
    let root = house.token("root");
    until("everybody is healthy", Duration::from_secs(15), async || {
        let listed = house.call("GET", "/v1/admin/status").by(&root).send().await;
        let healthy: Vec<_> = listed
            .list()
            .iter()
            .filter(|module| module["state"] == "healthy")
            .map(|module| module["service"].as_str().unwrap().split('/').next().unwrap().to_owned())
            .collect();
        healthy == ["service:admin", "service:cloud", "service:gateway", "service:kits", "service:stack"]
    })
    .await;
    let stack = status_of_stack(&house, &root).await;
    assert_eq!(stack["components"], json!({"database": "ok", "api": "ok", "agents": "ok"}));
    assert_eq!(stack["metrics"]["agentCount"], 0);
    let kinds: Vec<_> =
        stack["syncs"].as_array().unwrap().iter().map(|sync| sync["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["flags", "tenants", "revocations"]);
    let local = instance(&house, &root).await;
    assert_eq!(local["health"], "healthy");
    assert!(local["reportTime"].is_string());
    let history = format!("/v1/admin/instances/{}/health", local["id"].as_str().unwrap());
    let history = house.call("GET", &history).by(&root).send().await;
    assert_eq!(history.list().last().unwrap()["state"], "healthy", "{}", history.text);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_stack_is_unreachable_within_thirty_seconds_and_healthy_again_after() {
    let mut house = House::up_apart();
    let [alice, root] = ["alice", "root"].map(|user| house.token(user));
    until("the Stack is healthy", Duration::from_secs(15), async || {
        instance(&house, &root).await["health"] == "healthy"
    })
    .await;
    house.kill_stack();
    // Nothing new is placed on it; what was promised before it was missed waits for it.
    until("it is unreachable", Duration::from_secs(31), async || {
        instance(&house, &root).await["health"] == "unreachable"
    })
    .await;
    let refused = house.call("POST", "/v1/tenants").by(&alice).json(&json!({"slug": "home", "name": "Home"}));
    refused.send().await.refused(503, "SERVICE_UNAVAILABLE");
    house.start_stack(&[]);
    until("it is healthy again", Duration::from_secs(15), async || {
        instance(&house, &root).await["health"] == "healthy"
    })
    .await;
    tenant(&house, &alice, "home").await;
    let id = instance(&house, &root).await["id"].as_str().unwrap().to_owned();
    let history = house.call("GET", &format!("/v1/admin/instances/{id}/health")).by(&root).send().await;
    let states: Vec<_> = history.list().iter().map(|event| event["state"].as_str().unwrap()).collect();
    assert_eq!(states, ["healthy", "unreachable", "healthy"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_on_which_somebody_works_gets_no_tenants() {
    let house = House::up();
    let [alice, root] = ["alice", "root"].map(|user| house.token(user));
    let id = instance(&house, &root).await["id"].as_str().unwrap().to_owned();
    let begun =
        house.call("POST", &format!("/v1/admin/instances/{id}:startMaintenance")).by(&root).send().await;
    assert_eq!(
        (begun.data()["health"].as_str(), begun.data()["maintenance"].as_bool()),
        (Some("maintenance"), Some(true))
    );
    let refused = house.call("POST", "/v1/tenants").by(&alice).json(&json!({"slug": "home", "name": "Home"}));
    refused.send().await.refused(503, "SERVICE_UNAVAILABLE");
    house.call("POST", &format!("/v1/admin/instances/{id}:endMaintenance")).by(&root).send().await.data();
    tenant(&house, &alice, "home").await;
}
