//! Members: invited, let in, given roles, taken out.

use serde_json::json;

use super::{HANDED_WITHIN, join, stack, tenant, until};
use crate::browser::{Account, sign_up};
use crate::house::{House, Module};

#[tokio::test(flavor = "multi_thread")]
async fn a_viewer_sees_and_may_not_write() {
    let house = House::up();
    let (alice, bob) = (house.token("alice"), house.token("bob"));
    let home = tenant(&house, &alice, "home").await;
    stack(&house, &alice, "media").await.data();
    let joined = join(&house, &alice, &bob, "viewer").await;
    assert_eq!(joined, json!({"tenantId": home["id"], "tenantSlug": "home", "role": "viewer"}));

    let seen = house.call("GET", "/v1/stacks").by(&bob).header("x-tenant-id", "home").send().await;
    assert_eq!(seen.list().len(), 1);
    let refused = house.call("POST", "/v1/stacks").by(&bob).json(&json!({"name": "mine"})).send().await;
    refused.refused(403, "AUTH_INSUFFICIENT");
    house.call("GET", "/v1/invitations").by(&bob).send().await.refused(403, "AUTH_INSUFFICIENT");
    until("Admin mirrors the members", HANDED_WITHIN, async || {
        let tenants = house.call("GET", "/v1/tenants").by(&bob).send().await;
        tenants.list().len() == 1 && tenants.list()[0]["usage"]["members"] == 2
    })
    .await;

    let members = house.call("GET", "/v1/members").by(&alice).send().await;
    let emails: Vec<_> = members.list().iter().map(|member| member["email"].as_str().unwrap()).collect();
    assert_eq!(emails, ["bob@example.com", "alice@example.com"], "newest first");
    let of_bob = members.list()[0]["sub"].as_str().unwrap().to_owned();
    let path = format!("/v1/members/{of_bob}");
    let promoted = house.call("PATCH", &path).by(&alice).json(&json!({"role": "member"})).send().await;
    assert_eq!(promoted.data()["role"], "member");
    stack(&house, &bob, "his").await.data();

    assert_eq!(house.call("DELETE", &path).by(&alice).send().await.status, 200);
    let gone = house.call("GET", "/v1/stacks").by(&bob).header("x-tenant-id", "home").send().await;
    gone.refused(404, "NOT_FOUND");
    until("Admin mirrors that, too", HANDED_WITHIN, async || {
        house.call("GET", "/v1/tenants").by(&bob).send().await.list().is_empty()
    })
    .await;
    house.call("POST", "/v1/members:leave").by(&alice).send().await.refused(412, "PRECONDITION_FAILED");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_invitation_is_good_once_for_whom_it_is_meant_and_until_it_is_withdrawn() {
    let house = House::up();
    let (alice, bob, carol) = (house.token("alice"), house.token("bob"), house.token("carol"));
    tenant(&house, &alice, "home").await;
    let invite = |body: serde_json::Value| house.call("POST", "/v1/invitations").by(&alice).json(&body);
    let accept = |token: &str, body: serde_json::Value| {
        house.call("POST", "/v1/invitations:accept").by(token).json(&body)
    };
    let by_mail = invite(json!({"email": "Bob@example.com", "role": "viewer"})).send().await;
    assert_eq!(by_mail.data()["email"], "bob@example.com");
    invite(json!({"email": "bob@example.com", "role": "viewer"})).send().await.refused(409, "CONFLICT");
    accept(&carol, json!({"tenant": "home"})).send().await.refused(404, "NOT_FOUND");
    accept(&bob, json!({})).send().await.refused(400, "VALIDATION_FAILED");
    assert_eq!(accept(&bob, json!({"tenant": "home"})).send().await.data()["role"], "viewer");
    accept(&bob, json!({"tenant": "home"})).send().await.refused(404, "NOT_FOUND");

    let open = invite(json!({"role": "member"})).header("idempotency-key", "k").send().await;
    let (id, code) = (open.data()["id"].as_str().unwrap(), open.data()["code"].as_str().unwrap());
    let again = invite(json!({"role": "member"})).header("idempotency-key", "k").send().await;
    assert_eq!(
        (again.data()["id"].as_str(), again.data()["code"].as_str()),
        (Some(id), Some("")),
        "shown once"
    );
    let listed = house.call("GET", "/v1/invitations").by(&alice).send().await;
    assert!(!listed.text.contains(code), "the code is kept nowhere");
    accept(&bob, json!({"code": code})).send().await.refused(409, "CONFLICT");
    assert_eq!(house.call("DELETE", &format!("/v1/invitations/{id}")).by(&alice).send().await.status, 200);
    accept(&carol, json!({"code": code})).send().await.refused(404, "NOT_FOUND");
    let again = house.call("DELETE", &format!("/v1/invitations/{id}")).by(&alice).send().await;
    again.refused(412, "PRECONDITION_FAILED");
    accept(&carol, json!({"code": "a".repeat(43)})).send().await.refused(404, "NOT_FOUND");

    let used = invite(json!({"role": "member"})).send().await.data()["code"].clone();
    accept(&carol, json!({"code": used})).send().await.data();
    accept(&house.token("root"), json!({"code": used})).send().await.refused(404, "NOT_FOUND");
    let of_a_service = house.rpc(
        Module::Stack,
        None,
        "kombify.stack.v1.MemberService/AcceptInvitation",
        &json!({"code": used}),
    );
    of_a_service.refused(16, "credential");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_plan_bounds_members_and_invitations_together() {
    let house = House::up();
    let alice = house.token("alice");
    tenant(&house, &alice, "home").await;
    let mut codes = Vec::new();
    for _ in 0..4 {
        let invited =
            house.call("POST", "/v1/invitations").by(&alice).json(&json!({"role": "viewer"})).send().await;
        codes.push(invited.data()["code"].clone());
    }
    let over = house.call("POST", "/v1/invitations").by(&alice).json(&json!({"role": "viewer"})).send().await;
    let error = over.refused(403, "QUOTA_EXCEEDED");
    assert_eq!(error["details"], json!({"resource": "members", "limit": "5", "used": "5"}));
    for (number, code) in codes.into_iter().enumerate() {
        let account = Account::of(&format!("guest{number}"));
        let guest = sign_up(house.url(Module::Idp), &account).await.access_token;
        let accepted =
            house.call("POST", "/v1/invitations:accept").by(&guest).json(&json!({"code": code})).send().await;
        accepted.data();
    }
    assert_eq!(house.call("GET", "/v1/members").by(&alice).send().await.list().len(), 5);
}
