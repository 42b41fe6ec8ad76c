//! Flags: set by the platform's people, pushed to the Stack, evaluated there for whoever asks.

use serde_json::{Value, json};

use super::{HANDED_WITHIN, join, tenant, until};
use crate::house::{House, Module};

/// A flag that is on for those on the plan pro.
fn for_pro() -> String {
    json!({
        "state": "ENABLED", "variants": {"on": true, "off": false}, "defaultVariant": "off",
        "targeting": {"if": [{"==": [{"var": "plan"}, "pro"]}, "on", null]},
    })
    .to_string()
}

async fn set(house: &House, root: &str, key: &str, definition: &str) -> Value {
    let body = json!({"definitionJson": definition, "reason": "a test"});
    house.call("PUT", &format!("/v1/admin/flags/{key}")).by(root).json(&body).send().await.data().clone()
}

async fn evaluate(house: &House, token: &str, key: &str) -> Value {
    let answer =
        house.call("POST", "/v1/flags:evaluate").by(token).json(&json!({"keys": [key]})).send().await;
    answer.data()["flags"][0].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flag_is_targeted_by_plan_and_answered_with_variant_reason_and_version() {
    let house = House::up();
    let [alice, bob, root] = ["alice", "bob", "root"].map(|user| house.token(user));
    tenant(&house, &alice, "home").await;
    tenant(&house, &bob, "bobs").await;
    let flag = set(&house, &root, "new-ui", &for_pro()).await;
    let version = flag["version"].as_i64().unwrap();
    until("the flag reaches the Stack", HANDED_WITHIN, async || {
        evaluate(&house, &bob, "new-ui").await["version"] == version
    })
    .await;
    let expected = |value: &str, variant: &str, reason: &str, error: &str| json!({"key": "new-ui", "valueJson": value, "variant": variant, "reason": reason, "version": version, "errorCode": error});
    assert_eq!(evaluate(&house, &bob, "new-ui").await, expected("true", "on", "TARGETING_MATCH", ""));
    assert_eq!(evaluate(&house, &alice, "new-ui").await, expected("false", "off", "DEFAULT", ""));
    let absent = evaluate(&house, &alice, "old-ui").await;
    assert_eq!(
        (absent["reason"].as_str(), absent["errorCode"].as_str()),
        (Some("ERROR"), Some("FLAG_NOT_FOUND"))
    );

    // One user gets another value than everybody else.
    let sub =
        crate::story::whoami(&house, Module::Gateway, &alice).await["userId"].as_str().unwrap().to_owned();
    let path = format!("/v1/admin/users/{sub}/flags");
    let body = json!({"flagsJson": "{\"new-ui\": true}", "reason": "she asked"});
    house.call("PUT", &path).by(&root).json(&body).send().await.data();
    until("the override reaches the Stack", HANDED_WITHIN, async || {
        evaluate(&house, &alice, "new-ui").await["valueJson"] == "true"
    })
    .await;

    let changes = house.call("GET", "/v1/admin/flag-changes").by(&root).send().await;
    let subjects: Vec<_> = changes.list().iter().map(|change| change["reason"].as_str().unwrap()).collect();
    assert_eq!(subjects, ["she asked", "a test"]);
    assert_eq!(
        changes.list()[1]["afterJson"].as_str().map(|text| text.parse::<Value>().unwrap()),
        Some(for_pro().parse().unwrap())
    );

    let wrong = json!({"definitionJson": "{\"state\": \"ENABLED\", \"variants\": {\"on\": true}, \"defaultVariant\": \"off\"}", "reason": "x"});
    let refused = house.call("PUT", "/v1/admin/flags/wrong").by(&root).json(&wrong).send().await;
    let fields = refused.wrong_fields();
    assert!(
        fields.len() == 1
            && fields[0].starts_with("flag.definitionJson")
            && fields[0].ends_with("defaultVariant"),
        "{fields:?}"
    );
    house.call("GET", "/v1/admin/flags").by(&alice).send().await.refused(403, "AUTH_INSUFFICIENT");
    let deleted = house.call("DELETE", "/v1/admin/flags/new-ui").by(&root).send().await;
    assert_eq!(deleted.status, 200, "{}", deleted.text);
    until("the deletion reaches the Stack", HANDED_WITHIN, async || {
        evaluate(&house, &bob, "new-ui").await["errorCode"] == "FLAG_NOT_FOUND"
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn entitlements_of_plan_and_organisation_come_together() {
    let house = House::up();
    let [bob, root] = ["bob", "root"].map(|user| house.token(user));
    let bobs = tenant(&house, &bob, "bobs").await;
    let entitle = |owner: &str, entitlements: Value| {
        let body = json!({"entitlements": entitlements, "reason": "test"});
        house.call("PUT", &format!("/v1/admin/entitlements/{owner}")).by(&root).json(&body)
    };
    entitle("pro", json!(["custom-domains", "backups"])).send().await.data();
    entitle(bobs["orgId"].as_str().unwrap(), json!(["gpu"])).send().await.data();
    entitle("nobodys-organisation", json!(["gpu"])).send().await.refused(404, "NOT_FOUND");
    until("the entitlements reach the Stack", HANDED_WITHIN, async || {
        let answer = house.call("GET", "/v1/entitlements").by(&bob).send().await;
        answer.status == 200 && answer.data()["entitlements"] == json!(["backups", "custom-domains", "gpu"])
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stack_that_was_down_has_the_change_after_its_start() {
    let mut house = House::up_apart();
    let [alice, bob, root] = ["alice", "bob", "root"].map(|user| house.token(user));
    tenant(&house, &bob, "bobs").await;
    set(&house, &root, "first", &for_pro()).await;
    until("the first flag reaches the Stack", HANDED_WITHIN, async || {
        evaluate(&house, &bob, "first").await["valueJson"] == "true"
    })
    .await;
    house.kill_stack();
    let second = set(&house, &root, "second", &for_pro()).await;
    until("Admin says that it waits", HANDED_WITHIN, async || {
        let status = super::status_of_stack(&house, &root).await;
        status["syncs"].as_array().unwrap().iter().any(|sync| sync["kind"] == "flags" && sync["pending"] == 1)
    })
    .await;
    house.start_stack(&[]);
    until("the second flag reaches the Stack", HANDED_WITHIN, async || {
        let answer =
            house.call("POST", "/v1/flags:evaluate").by(&bob).json(&json!({"keys": ["second"]})).send().await;
        answer.status == 200 && answer.data()["flags"][0]["version"] == second["version"]
    })
    .await;
    let joined = join(&house, &bob, &alice, "viewer").await;
    assert_eq!(joined["role"], "viewer");
    assert!(
        house
            .raw(Module::Stack, "GET /metrics HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
            .contains("200 OK")
    );
}
