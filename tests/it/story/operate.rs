//! Step 4: the platform's people register, drain and remove instances, look at everything, grant plans, read the audit.

use std::time::Duration;

use jiff::SignedDuration;
use kombify_contracts::kombify::contract::v1::{Access, Door};
use kombify_core::Clock as _;
use kombify_core::audit::ACCESS_REFUSED;
use kombify_core::clock::rfc3339_seconds;
use kombify_mesh::system::SystemClock;
use serde_json::{Value, json};

use super::{audit, audited, claims_of, pages, whoami};
use crate::answer::{Answer, Call};
use crate::house::{House, Module};

const INSTANCES: &str = "/v1/admin/instances";

fn second() -> Value {
    json!({"name": "second", "internalEndpoint": "http://localhost:8090", "publicEndpoint": "https://two.example"})
}

/// What a platform admin does, each request under a name of its own, and what the audit must say of it.
struct Operator {
    token: String,
    steps: Vec<(String, &'static str, &'static str)>,
}

impl Operator {
    fn new(token: String) -> Self {
        Self { token, steps: Vec::new() }
    }

    /// Calls, and remembers that `action` must be in the audit with this outcome.
    async fn step(&mut self, call: Call, action: &'static str, outcome: &'static str) -> Answer {
        let request_id = format!("step-{}", self.steps.len());
        let answer = call.by(&self.token).header("x-request-id", &request_id).send().await;
        self.steps.push((request_id, action, outcome));
        answer
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_is_registered_drained_activated_and_removed_and_every_step_is_in_the_audit() {
    let house = House::up();
    let mut root = Operator::new(house.token("root"));
    let register = |body: &Value| house.call("POST", INSTANCES).json(body).header("idempotency-key", "key-1");
    let first = root.step(register(&second()), "instance.registered", "done").await;
    let instance = first.data();
    assert_eq!((&instance["name"], &instance["region"]), (&json!("second"), &json!("local")));
    assert_eq!((&instance["mode"], &instance["status"]), (&json!("shared"), &json!("active")));
    assert_eq!((&instance["maxTenants"], &instance["tenantCount"]), (&json!(50), &json!(0)));
    let repeat = register(&second()).by(&root.token).send().await;
    let mut told = instance.clone();
    assert!(told["joinSecret"].as_str().unwrap().len() >= 32);
    told["joinSecret"] = "".into();
    assert_eq!(repeat.data(), &told, "a repeat answers the same thing, but its secret is told once");
    let mut other = second();
    other["name"] = "third".into();
    let other = root.step(register(&other), "instance.registered", "refused").await;
    other.refused(409, "CONFLICT");
    let named = house.call("POST", INSTANCES).json(&second());
    root.step(named, "instance.registered", "refused").await.refused(409, "CONFLICT");

    let one = format!("{INSTANCES}/{}", instance["id"].as_str().unwrap());
    let verb = |verb: &str| house.call("POST", &format!("{one}:{verb}"));
    let remove = || house.call("DELETE", &one);
    let early = root.step(remove(), "instance.removed", "refused").await;
    early.refused(412, "PRECONDITION_FAILED");
    let stale = root.step(verb("drain").header("if-match", "\"v99\""), "instance.drained", "refused").await;
    stale.refused(412, "PRECONDITION_FAILED");
    let seen = verb("drain").header("if-match", first.header("etag"));
    let drained = root.step(seen, "instance.drained", "done").await;
    assert_eq!(drained.data()["status"], "draining");
    assert_ne!(drained.data()["etag"], instance["etag"]);
    let again = root.step(verb("drain"), "instance.drained", "done").await;
    assert_eq!(again.data(), drained.data(), "draining a draining instance changes nothing");
    for (status, name) in [("active", "local"), ("draining", "second")] {
        let listed = house.call("GET", &format!("{INSTANCES}?status={status}")).by(&root.token).send().await;
        let listed: Vec<&Value> = listed.list().iter().map(|instance| &instance["name"]).collect();
        assert_eq!(listed, [name], "{status}");
    }
    let active = root.step(verb("activate"), "instance.activated", "done").await;
    assert_eq!(active.data()["status"], "active");
    root.step(verb("drain"), "instance.drained", "done").await.data();
    let gone = root.step(remove(), "instance.removed", "done").await;
    assert_eq!((gone.status, &gone.json), (200, &json!({})));
    house.call("GET", &one).by(&root.token).send().await.refused(404, "NOT_FOUND");
    root.step(remove(), "instance.removed", "refused").await.refused(404, "NOT_FOUND");
    root.step(verb("drain"), "instance.drained", "refused").await.refused(404, "NOT_FOUND");
    let left = house.call("GET", INSTANCES).by(&root.token).send().await;
    assert_eq!(left.list().len(), 1);

    let sub = claims_of(&root.token)["sub"].clone();
    for (request_id, action, outcome) in &root.steps {
        let rows = audited(&house, &root.token, action, request_id).await;
        assert_eq!(rows.len(), 1, "{request_id} {action}: {rows:?}");
        assert_eq!((&rows[0]["outcome"], &rows[0]["actor"]["sub"]), (&json!(outcome), &sub));
        if *outcome == "done" {
            assert_eq!(rows[0]["target"], instance["id"], "{request_id} {action}");
        }
    }
}

/// A path at the gateway for a method, with ids of nothing in place of its variables.
fn path_of(template: &str) -> String {
    let id =
        if template.contains("/instances/") { "instance_01890a5d-ac96-774b-bcce-b302099a8057" } else { "1" };
    template.replace("{id}", id)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_for_the_platforms_people_is_refused_to_everybody_else_and_the_refusal_is_kept() {
    let house = House::up();
    // Carol's plan lets her ask often enough.
    let (carol, root) = (house.token("carol"), house.token("root"));
    let is_platform = |access: &&Access| access.door() == Door::Platform;
    let mut asked = 0;
    for method in kombify_contracts::methods() {
        let (Some(access), Some(http)) = (method.access.as_ref().filter(is_platform), &method.http) else {
            continue;
        };
        asked += 1;
        let path = path_of(&http.template);
        let request_id = format!("refused-{asked}");
        let call = || {
            let call = house.call(http.verb, &path);
            if http.body.is_some() { call.json(&json!({})) } else { call }
        };
        call().send().await.refused(401, "AUTH_REQUIRED");
        let answer = call().by(&carol).header("x-request-id", &request_id).send().await;
        assert_eq!(answer.status, 403, "{}: {}", method.path, answer.text);
        answer.refused(403, "AUTH_INSUFFICIENT");
        let action = if access.audit.is_empty() { ACCESS_REFUSED } else { access.audit.as_str() };
        let rows = audited(&house, &root, action, &request_id).await;
        assert_eq!(rows.len(), 1, "{}", method.path);
        assert_eq!(rows[0]["actor"]["sub"], claims_of(&carol)["sub"]);
        assert_eq!(rows[0]["target"], method.path.as_str());
        assert_eq!(
            (&rows[0]["outcome"], &rows[0]["details"]["code"]),
            (&json!("refused"), &json!("AUTH_INSUFFICIENT"))
        );
    }
    assert!(asked >= 11, "only {asked} methods are for the platform's people");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_is_granted_until_its_end_and_counts_at_once() {
    let house = House::up();
    let (alice, root) = (house.token("alice"), house.token("root"));
    let tenant = json!({"slug": "home", "name": "Home"});
    house.call("POST", "/v1/tenants").by(&alice).json(&tenant).send().await.data();
    let organisation = format!("user:{}", claims_of(&alice)["sub"].as_str().unwrap());
    let path = |organisation: &str| format!("/v1/admin/organisations/{organisation}");
    let grant = |organisation: &str, end_time: &str| {
        let body = json!({"plan": "pro", "endTime": end_time, "reason": "a friend of the house"});
        house.call("POST", &format!("{}:grantPlan", path(organisation))).by(&root).json(&body)
    };
    let from_now = |seconds| rfc3339_seconds(SystemClock.now() + SignedDuration::from_secs(seconds));
    let nodes = async || {
        let seen = house.call("GET", "/v1/tenants/home").by(&alice).send().await;
        (seen.data()["plan"].clone(), seen.data()["limits"]["nodes"].clone())
    };
    assert_eq!(nodes().await, (json!("free"), json!(3)));

    let past = grant(&organisation, &from_now(-60)).send().await;
    assert_eq!(past.wrong_fields(), ["grant.endTime"]);
    grant("user:nobody", &from_now(3600)).send().await.refused(404, "NOT_FOUND");
    assert_eq!(nodes().await, (json!("free"), json!(3)));

    let end = from_now(3600);
    let request = || grant(&organisation, &end).header("idempotency-key", "key-1");
    let granted = request().header("x-request-id", "grant-1").send().await;
    assert_eq!((&granted.data()["plan"], &granted.data()["planEndTime"]), (&json!("pro"), &json!(end)));
    assert_eq!(request().send().await.data(), granted.data(), "a repeat answers the same thing");
    let another = grant(&organisation, &from_now(7200)).header("idempotency-key", "key-1").send().await;
    another.refused(409, "CONFLICT");
    assert_eq!(nodes().await, (json!("pro"), json!(10)));
    assert_eq!(whoami(&house, Module::Gateway, &alice).await["plan"], "pro");
    let profile = house.call("GET", "/v1/users/me").by(&alice).send().await;
    assert_eq!(profile.data()["plan"], "pro");
    let seen = house.call("GET", &path(&organisation)).by(&root).send().await;
    assert_eq!(seen.data(), granted.data());
    let rows = audited(&house, &root, "organisation.plan.granted", "grant-1").await;
    assert_eq!((rows.len(), &rows[0]["target"]), (1, &json!(organisation)));
    let details = json!({"plan": "pro", "endTime": end, "reason": "a friend of the house"});
    assert_eq!(rows[0]["details"], details);

    grant(&organisation, &from_now(2)).send().await.data();
    assert_eq!(whoami(&house, Module::Gateway, &alice).await["plan"], "pro");
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(whoami(&house, Module::Gateway, &alice).await["plan"], "free", "free follows the end");
    assert_eq!(nodes().await, (json!("free"), json!(3)));
    let over = house.call("GET", &path(&organisation)).by(&root).send().await;
    assert_eq!((&over.data()["plan"], over.data().get("planEndTime")), (&json!("free"), None));
}

#[tokio::test(flavor = "multi_thread")]
async fn with_no_place_left_a_tenant_comes_later() {
    let house = House::up();
    let (alice, root) = (house.token("alice"), house.token("root"));
    let local = house.call("GET", INSTANCES).by(&root).send().await.list()[0]["id"].clone();
    let local = local.as_str().unwrap();
    let verb = |verb: &str| house.call("POST", &format!("{INSTANCES}/{local}:{verb}")).by(&root);
    let create = || {
        let tenant = json!({"slug": "home", "name": "Home"});
        house.call("POST", "/v1/tenants").by(&alice).json(&tenant).header("idempotency-key", "key-1")
    };
    verb("drain").send().await.data();
    let full = create().header("x-request-id", "full-1").send().await;
    let error = full.refused(503, "SERVICE_UNAVAILABLE");
    assert!(error["message"].as_str().unwrap().contains("place"), "{error}");
    assert!(full.header("retry-after").parse::<u64>().unwrap() >= 1);
    let grpc = house.rpc(
        Module::Gateway,
        Some(&alice),
        "kombify.tenancy.v1.TenantService/CreateTenant",
        &json!({"slug": "home", "name": "Home"}),
    );
    grpc.refused(14, "Unavailable");
    let rows = audited(&house, &root, "tenant.created", "full-1").await;
    assert_eq!((rows.len(), &rows[0]["details"]), (1, &json!({"code": "SERVICE_UNAVAILABLE"})));

    // An instance whose Stack never reported gets nobody.
    house.call("POST", INSTANCES).by(&root).json(&second()).send().await.data();
    create().send().await.refused(503, "SERVICE_UNAVAILABLE");
    verb("activate").send().await.data();
    let placed = create().send().await;
    assert_eq!(placed.data()["slug"], "home", "an error is not kept under the key");
    assert_eq!(placed.data()["instanceId"], local);

    verb("drain").send().await.data();
    let occupied = house.call("DELETE", &format!("{INSTANCES}/{local}")).by(&root).send().await;
    occupied.refused(412, "PRECONDITION_FAILED");
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_are_filtered_and_their_pages_hold_everything_once() {
    let house = House::up();
    let [alice, bob, carol, root] = ["alice", "bob", "carol", "root"].map(|user| house.token(user));
    for (token, slug) in [(&alice, "home"), (&bob, "homestead"), (&carol, "castle")] {
        let tenant = json!({"slug": slug, "name": format!("The {slug}")});
        house.call("POST", "/v1/tenants").by(token).json(&tenant).send().await.data();
    }
    house.call("POST", INSTANCES).by(&root).json(&second()).send().await.data();
    let local = house.call("GET", "/v1/tenants/home").by(&alice).send().await.data()["instanceId"].clone();
    let by_instance = format!("/v1/admin/tenants?instanceId={}", local.as_str().unwrap());
    for (path, key, count) in [
        ("/v1/admin/users", "sub", 4),
        ("/v1/admin/users?search=EXAMPLE", "sub", 4),
        ("/v1/admin/users?search=alice", "sub", 1),
        ("/v1/admin/users?search=%25", "sub", 0),
        ("/v1/admin/users?orgId=310000000000000003", "sub", 1),
        ("/v1/admin/tenants", "id", 3),
        ("/v1/admin/tenants?search=home", "id", 2),
        ("/v1/admin/tenants?search=The", "id", 3),
        (by_instance.as_str(), "id", 3),
        ("/v1/admin/instances", "id", 2),
        ("/v1/admin/instances?status=draining", "id", 0),
        ("/v1/admin/audit?action=tenant.created", "id", 3),
        ("/v1/admin/audit?action=user.created&outcome=done", "id", 4),
        ("/v1/admin/audit?startTime=2020-01-01T00:00:00Z&endTime=2020-02-01T00:00:00Z", "id", 0),
    ] {
        let whole = pages(&house, &root, path, 100).await;
        assert_eq!(whole.len(), count, "{path}");
        for limit in [1, 2] {
            assert_eq!(pages(&house, &root, path, limit).await, whole, "{path} by {limit}");
        }
        let mut ids: Vec<String> = whole.iter().map(|thing| thing[key].to_string()).collect();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), count, "{path} has something twice");
        let times: Vec<&str> = whole.iter().map(|thing| thing["createTime"].as_str().unwrap()).collect();
        assert!(times.is_sorted_by(|newer, older| newer >= older), "{path}: {times:?}");
    }
    let page = house.call("GET", "/v1/admin/tenants?limit=1").by(&root).send().await;
    let cursor = page.json["meta"]["nextCursor"].as_str().unwrap();
    for other in
        [format!("/v1/admin/tenants?search=home&cursor={cursor}"), format!("/v1/admin/users?cursor={cursor}")]
    {
        assert_eq!(house.call("GET", &other).by(&root).send().await.wrong_fields(), ["cursor"], "{other}");
    }
    for wrong in ["limit=101", "limit=-1", "limit=x"] {
        let answer = house.call("GET", &format!("/v1/admin/users?{wrong}")).by(&root).send().await;
        assert_eq!(answer.wrong_fields(), ["limit"], "{wrong}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_audit_is_filtered_and_says_who_read_it() {
    let house = House::up();
    let [alice, bob, root] = ["alice", "bob", "root"].map(|user| house.token(user));
    let tenant = json!({"slug": "home", "name": "Home"});
    let tenant = house.call("POST", "/v1/tenants").by(&alice).json(&tenant).send().await.data().clone();
    let refused = house.call("POST", "/v1/tenants").by(&bob).json(&json!({"slug": "home", "name": "B"}));
    refused.header("x-request-id", "taken-1").send().await.refused(409, "CONFLICT");
    assert_eq!(audited(&house, &root, "tenant.created", "taken-1").await.len(), 1);

    let (alice, bob) = (claims_of(&alice)["sub"].clone(), claims_of(&bob)["sub"].clone());
    let id = tenant["id"].as_str().unwrap();
    for (filter, field, value) in [
        ("&action=tenant.created&outcome=done".to_owned(), "target", &tenant["id"]),
        (format!("&tenantId={id}"), "tenantId", &tenant["id"]),
        (format!("&action=tenant.created&sub={}", alice.as_str().unwrap()), "target", &tenant["id"]),
        ("&action=tenant.created&outcome=refused".to_owned(), "requestId", &json!("taken-1")),
        (format!("&outcome=refused&sub={}", bob.as_str().unwrap()), "requestId", &json!("taken-1")),
    ] {
        let rows = audit(&house, &root, &filter).await;
        assert_eq!((rows.len(), &rows[0][field]), (1, value), "{filter}: {rows:?}");
    }

    let path = format!("/v1/admin/audit?tenantId={id}&outcome=done");
    let read = house.call("GET", &path).by(&root).header("x-request-id", "read-1").send().await;
    assert_eq!(read.list().len(), 1);
    let rows = audited(&house, &root, "audit.read", "read-1").await;
    assert_eq!(rows.len(), 1, "a read is an action, too");
    assert_eq!(rows[0]["details"], json!({"tenantId": id, "outcome": "done"}));
    assert_eq!(rows[0]["actor"]["sub"], claims_of(&root)["sub"]);
    let wrong = house.call("GET", "/v1/admin/audit?tenantId=home").by(&root).send().await;
    assert_eq!(wrong.wrong_fields(), ["tenantId"]);
}
