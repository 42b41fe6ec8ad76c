//! What belongs to another tenant is not there: by every method of the contracts that is for members, for everybody who is
//! no member, whichever way the tenant or its things are named.

use kombify_contracts::kombify::contract::v1::Door;
use kombify_contracts::{Http, Method};
use serde_json::{Value, json};

use kombify_core::Code;

use super::sso::{Service, is_refused};
use super::{stack, tenant};
use crate::house::{House, Module};

/// The methods that are for members of a tenant, with their HTTP forms; the one that has none is asked for beside.
fn methods() -> impl Iterator<Item = (&'static Method, &'static Http)> {
    let is_members =
        |method: &&Method| method.access.as_ref().is_some_and(|access| access.door() == Door::Tenant);
    kombify_contracts::methods().iter().filter(is_members).filter_map(|method| {
        assert_eq!(method.http.is_none(), method.name == "CreateLaunchCode", "{}", method.path);
        Some((method, method.http.as_ref()?))
    })
}

/// A body that the method takes.
fn body(method: &Method) -> Value {
    match method.name.as_str() {
        "CreateStack" | "UpdateStack" => json!({"name": "mine"}),
        "CreateInvitation" | "UpdateMember" => json!({"role": "admin"}),
        _ => json!({}),
    }
}

/// What belongs to a tenant.
struct Things {
    tenant: Value,
    stack: Value,
    invitation: Value,
    member: Value,
}

impl Things {
    /// Somebody's tenant with a stack and an invitation.
    async fn of(house: &House, token: &str, slug: &str) -> Self {
        let tenant = tenant(house, token, slug).await;
        let stack = stack(house, token, "media").await.data().clone();
        let invite = house.call("POST", "/v1/invitations").by(token).json(&json!({"role": "viewer"}));
        let mut invitation = invite.send().await.data().clone();
        invitation["code"] = "".into(); // It is shown once.
        let members = house.call("GET", "/v1/members").by(token).send().await;
        Self { tenant, stack, invitation, member: members.list()[0].clone() }
    }

    /// The path of a method that names these things, and the tenant by this field.
    fn path(&self, template: &str, tenant: &str) -> String {
        let own = match template.split('/').nth(2).unwrap().split(':').next().unwrap() {
            "stacks" => &self.stack["id"],
            "invitations" => &self.invitation["id"],
            _ => &Value::Null,
        };
        let tenant = self.tenant[tenant].as_str().unwrap();
        let filled = template.replace("{tenant}", tenant).replace("{id}", own.as_str().unwrap_or_default());
        let path = filled.replace("{sub}", self.member["sub"].as_str().unwrap());
        assert!(
            !path.contains('{') && !path.ends_with('/'),
            "{template} has a variable that is not known here"
        );
        path
    }

    /// Everything is as it was.
    async fn are_untouched(&self, house: &House, token: &str) {
        let Self { tenant, stack, invitation, member } = self;
        for (path, thing) in [("stacks", stack), ("invitations", invitation), ("members", member)] {
            let listed = house.call("GET", &format!("/v1/{path}")).by(token).send().await;
            assert_eq!(listed.list(), std::slice::from_ref(thing));
        }
        let listed = house.call("GET", "/v1/tenants").by(token).send().await;
        let [listed] = listed.list() else { panic!("{}", listed.text) };
        assert_eq!((&listed["id"], &listed["etag"]), (&tenant["id"], &tenant["etag"]));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn by_no_method_is_another_tenant_there() {
    let mut house = House::fresh().without_limits();
    house.start();
    let [alice, bob, carol, root] = ["alice", "bob", "carol", "root"].map(|user| house.token(user));
    let home = Things::of(&house, &alice, "home").await;
    tenant(&house, &bob, "bobs").await;
    let cloud = Service::cloud(&house, &root).await;
    let code = cloud.issue(Some(&bob), "bobs", "").await.unwrap().code;
    let session = cloud.exchange(&code).await.unwrap().token;

    let mut asked = 0;
    for (method, http) in methods() {
        for named in ["id", "slug"] {
            let path = home.path(&http.template, named);
            let at_the_stack = method.service.starts_with("kombify.stack.");
            let mut callers =
                vec![(Module::Gateway, &bob), (Module::Gateway, &carol), (Module::Gateway, &root)];
            if at_the_stack {
                callers.extend([(Module::Stack, &bob), (Module::Stack, &session)]);
            }
            for (door, stranger) in callers {
                let mut call = house.call_at(door, http.verb, &path).by(stranger);
                if !http.template.contains("{tenant}") {
                    call = call.header("x-tenant-id", home.tenant[named].as_str().unwrap());
                }
                if http.body.is_some() {
                    call = call.json(&body(method));
                }
                let answer = call.send().await;
                assert_eq!(answer.status, 404, "{} at {door:?}: {}", method.path, answer.text);
                answer.refused(404, "NOT_FOUND");
                asked += 1;
            }
        }
    }
    assert!(asked > 100, "{asked}");
    for named in ["id", "slug"] {
        let issued = cloud.issue(Some(&bob), home.tenant[named].as_str().unwrap(), "").await;
        is_refused(issued, Code::NotFound, "not found");
    }
    home.are_untouched(&house, &alice).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn within_the_own_tenant_another_tenants_things_are_not_there() {
    let mut house = House::fresh().without_limits();
    house.start();
    let [alice, bob] = ["alice", "bob"].map(|user| house.token(user));
    let home = Things::of(&house, &alice, "home").await;
    let bobs = Things::of(&house, &bob, "bobs").await;
    let mut asked = Vec::new();
    for (method, http) in methods() {
        if !http.template.contains('{') || http.template.contains("{tenant}") {
            continue;
        }
        for name in [None, Some("bobs")] {
            let mut call = house.call(http.verb, &home.path(&http.template, "id")).by(&bob);
            if let Some(name) = name {
                call = call.header("x-tenant-id", name);
            }
            if http.body.is_some() {
                call = call.json(&body(method));
            }
            let answer = call.send().await;
            assert_eq!(answer.status, 404, "{}: {}", method.path, answer.text);
            answer.refused(404, "NOT_FOUND");
        }
        asked.push(method.name.as_str());
    }
    asked.sort_unstable();
    assert_eq!(
        asked,
        ["DeleteStack", "GetStack", "RemoveMember", "UpdateMember", "UpdateStack", "WithdrawInvitation"]
    );
    home.are_untouched(&house, &alice).await;
    bobs.are_untouched(&house, &bob).await;
}
