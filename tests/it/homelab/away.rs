//! Admin away: Stacks serve on from what they hold, and catch up afterwards.

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
