//! A locked user can neither sign in nor go on anywhere; an unlocked one signs in again.

use std::time::Duration;

use serde_json::json;

use super::{HANDED_WITHIN, stack, tenant, until};
use crate::house::{House, Module};

#[tokio::test(flavor = "multi_thread")]
async fn a_locked_user_goes_on_nowhere_and_comes_back_by_a_new_sign_in() {
    let house = House::up();
    let [bob, root] = ["bob", "root"].map(|user| house.token(user));
    tenant(&house, &bob, "bobs").await;
    stack(&house, &bob, "media").await.data();
    let listed = house.call("GET", "/v1/admin/users?search=bob@").by(&root).send().await;
    let sub = listed.list()[0]["sub"].as_str().unwrap().to_owned();
    let path = format!("/v1/admin/users/{sub}");
    let locked =
        house.call("POST", &format!("{path}:lock")).by(&root).json(&json!({"reason": "stolen"})).send().await;
    assert_eq!(locked.data()["user"]["status"], "locked");
    assert_eq!(locked.data()["unacknowledged"], json!([]), "every module has it when the lock is answered");
    for (module, path) in [
        (Module::Admin, "/v1/whoami"),
        (Module::Cloud, "/v1/users/me"),
        (Module::Stack, "/v1/stacks"),
        (Module::Gateway, "/v1/stacks"),
        (Module::Gateway, "/v1/whoami"),
    ] {
        house.call_at(module, "GET", path).by(&bob).send().await.refused(401, "AUTH_INVALID");
    }
    let signed_in = house.run(&["token", "bob"], &[]);
    assert!(!signed_in.status.success(), "a sign-in does not help");
    let again =
        house.call("POST", &format!("{path}:lock")).by(&root).json(&json!({"reason": "again"})).send().await;
    assert_eq!(again.status, 200, "{}", again.text);

    let unlocked = house.call("POST", &format!("{path}:unlock")).by(&root).send().await;
    assert_eq!(unlocked.data()["user"]["status"], "active");
    house.call_at(Module::Stack, "GET", "/v1/stacks").by(&bob).send().await.refused(401, "AUTH_INVALID");
    tokio::time::sleep(Duration::from_secs(1)).await; // Sign-ins are told in whole seconds.
    let fresh = house.token("bob");
    until("the new sign-in counts", HANDED_WITHIN, async || {
        house.call("GET", "/v1/stacks").by(&fresh).send().await.status == 200
    })
    .await;
    let nobody = house
        .call("POST", "/v1/admin/users/nobody:lock")
        .by(&root)
        .json(&json!({"reason": "x"}))
        .send()
        .await;
    nobody.refused(404, "NOT_FOUND");
    let actions = house.call("GET", "/v1/admin/audit?action=admin.user.locked").by(&root).send().await;
    assert!(actions.list().iter().any(|row| row["details"]["reason"] == "stolen"), "{}", actions.text);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_module_that_is_away_is_named_and_has_the_lock_after_its_start() {
    let mut house = House::up_apart();
    let [bob, root] = ["bob", "root"].map(|user| house.token(user));
    tenant(&house, &bob, "bobs").await;
    let listed = house.call("GET", "/v1/admin/users?search=bob@").by(&root).send().await;
    let sub = listed.list()[0]["sub"].as_str().unwrap().to_owned();
    house.kill_stack();
    let path = format!("/v1/admin/users/{sub}:lock");
    let locked = house.call("POST", &path).by(&root).json(&json!({"reason": "stolen"})).send().await;
    let behind = locked.data()["unacknowledged"].as_array().unwrap();
    assert!(
        behind.len() == 1 && behind[0].as_str().unwrap().starts_with("service:stack/instance_"),
        "{behind:?}"
    );
    house.start_stack(&[]);
    until("the Stack refuses", HANDED_WITHIN, async || {
        house.call_at(Module::Stack, "GET", "/v1/stacks").by(&bob).send().await.status == 401
    })
    .await;
}
