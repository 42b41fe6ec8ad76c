//! Whatever write the process dies in, before its commit or after it: afterwards it is not there or there once, and the
//! same call goes on from there.

use std::collections::BTreeSet;
use std::os::unix::process::ExitStatusExt as _;

use kombify_contracts::Method;
use serde_json::{Value, json};

use super::{audit, audited, whoami};
use crate::answer::Call;
use crate::browser::{Account, sign_up};
use crate::house::{House, Module};

/// The signal that ends a process which aborts.
const SIGABRT: i32 = 6;

/// The moments at which a write can end the process.
const BEFORE: &str = "before-commit";
const AFTER: &str = "after-commit";

/// What the first start writes, beside what every start does.
const SEEDED: [(&str, usize); 5] = [
    ("user.created", 4),
    ("organisation.plan.granted", 2),
    ("instance.registered", 1),
    ("mesh.key.registered", 3),
    ("instance.claimed", 1),
];

/// Admin's writes that no user's call makes: they are the modules' own, and `homelab` lets them die.
const OF_MODULES: [&str; 5] =
    ["instance.claimed", "launch.code.issued", "launch.code.redeemed", "mesh.key.registered", "user.logout"];

/// These tests need a binary that can be told to die.
pub fn needed() {
    #[cfg(not(feature = "failpoints"))]
    panic!("this test needs the feature failpoints: run `make test`");
}

/// A write, and how it shows.
struct Write {
    /// The name of its failpoint.
    action: &'static str,
    /// The call that makes it: verb, path, body.
    call: (&'static str, String, Option<Value>),
    /// Who calls.
    token: String,
    /// Whether the call has an Idempotency-Key.
    keyed: bool,
    /// What the call answers.
    status: u16,
    /// The list in which the effect shows, and what the thing there has; nothing where only the audit has it.
    thing: Option<(String, Value)>,
    /// How many such things the effect makes.
    things: usize,
    /// What the same call answers when the effect is there, and how many more rows of the audit it leaves.
    again: (u16, usize),
}

impl Write {
    fn new(action: &'static str, token: &str, call: (&'static str, &str, Option<Value>)) -> Self {
        let (verb, path, body) = call;
        Self {
            action,
            call: (verb, path.to_owned(), body),
            token: token.to_owned(),
            keyed: false,
            status: 200,
            thing: None,
            things: 1,
            again: (200, 1),
        }
    }

    /// With an Idempotency-Key: the same call again is a repeat, which leaves no row.
    fn keyed(self) -> Self {
        Self { keyed: true, again: (200, 0), ..self }
    }

    /// The effect is a thing of this list that has these fields.
    fn makes(self, list: &str, fields: Value) -> Self {
        Self { thing: Some((list.to_owned(), fields)), ..self }
    }

    /// The effect is that the thing is no longer there.
    fn takes_away(self) -> Self {
        Self { things: 0, ..self }
    }

    /// What the call answers, where it is no success.
    fn answers(self, status: u16) -> Self {
        Self { status, ..self }
    }

    /// What the same call answers when the effect is there, and how many more rows of the audit it leaves.
    fn leaves_again(self, status: u16, rows: usize) -> Self {
        Self { again: (status, rows), ..self }
    }

    fn request(&self, house: &House, request_id: &str) -> Call {
        let (verb, path, body) = &self.call;
        let mut call = house.call(verb, path).by(&self.token).header("x-request-id", request_id);
        if let Some(body) = body {
            call = call.json(body);
        }
        if self.keyed { call.header("idempotency-key", self.action) } else { call }
    }

    /// Holds the number of things against what the effect makes, where it is there.
    async fn check_things(&self, house: &House, root: &str, there: bool) {
        let Some((list, fields)) = &self.thing else { return };
        let listed = house.call("GET", list).by(root).send().await;
        let is_it =
            |thing: &&Value| fields.as_object().unwrap().iter().all(|(name, value)| thing[name] == *value);
        let found = listed.list().iter().filter(is_it).count();
        let expected = if there { self.things } else { 1 - self.things };
        assert_eq!(found, expected, "{}, there: {there}: {}", self.action, listed.text);
    }

    /// Holds the rows that a request left in the audit against how many there must be.
    async fn check_rows(&self, house: &House, root: &str, request_id: &str, expected: usize) {
        let (action, outcome) = if self.action == "audit.refused" {
            ("access.refused", "refused")
        } else {
            (self.action, "done")
        };
        let mut rows = if expected == 0 {
            audit(house, root, &format!("&action={action}")).await
        } else {
            audited(house, root, action, request_id).await
        };
        rows.retain(|row| row["requestId"] == request_id && row["outcome"] == outcome);
        assert_eq!(rows.len(), expected, "{request_id}: {rows:?}");
    }
}

/// Every write that a running mesh makes, with what it needs made ready.
async fn writes(house: &House, root: &str) -> Vec<Write> {
    let (alice, bob) = (house.token("alice"), house.token("bob"));
    let dora = sign_up(house.url(Module::Idp), &Account::of("dora")).await;
    let instance = |name: &str| {
        let endpoint = "https://stack.example";
        json!({"name": name, "internalEndpoint": endpoint, "publicEndpoint": endpoint})
    };
    let mut paths = Vec::new();
    for (name, drained) in [("to-drain", false), ("to-activate", true), ("to-remove", true)] {
        let made = house.call("POST", "/v1/admin/instances").by(root).json(&instance(name)).send().await;
        let path = format!("/v1/admin/instances/{}", made.data()["id"].as_str().unwrap());
        if drained {
            house.call("POST", &format!("{path}:drain")).by(root).send().await.data();
        }
        paths.push(path);
    }
    let drain = format!("{}:drain", paths[0]);
    let activate = format!("{}:activate", paths[1]);
    let bobs = "310000000000000003";
    let grant = format!("/v1/admin/organisations/{bobs}:grantPlan");
    let enterprise = json!({"plan": "enterprise", "endTime": "2199-01-01T00:00:00Z", "reason": "a test"});
    let instances = "/v1/admin/instances?limit=100";
    let mut writes = life_writes(house, root).await;
    writes.extend(flag_writes(house, root).await);
    writes.extend([
        Write::new("user.created", &dora.access_token, ("GET", "/v1/whoami", None))
            .makes("/v1/admin/users?limit=100", json!({"sub": dora.sub, "email": "dora@example.com"}))
            .leaves_again(200, 0),
        Write::new(
            "user.profile.updated",
            &alice,
            ("PATCH", "/v1/users/me", Some(json!({"displayName": "Al"}))),
        )
        .makes("/v1/admin/users?limit=100", json!({"email": "alice@example.com", "displayName": "Al"})),
        Write::new(
            "tenant.created",
            &bob,
            ("POST", "/v1/tenants", Some(json!({"slug": "bobs", "name": "Bobs"}))),
        )
        .keyed()
        .makes("/v1/admin/tenants?limit=100", json!({"slug": "bobs", "orgId": bobs})),
        Write::new("instance.registered", root, ("POST", "/v1/admin/instances", Some(instance("new"))))
            .keyed()
            .makes(instances, json!({"name": "new", "status": "active"})),
        Write::new(
            "instance.updated",
            root,
            ("PATCH", &paths[1], Some(json!({"publicEndpoint": "http://moved"}))),
        )
        .makes(instances, json!({"name": "to-activate", "publicEndpoint": "http://moved"})),
        Write::new("instance.drained", root, ("POST", &drain, None))
            .makes(instances, json!({"name": "to-drain", "status": "draining"})),
        Write::new("instance.activated", root, ("POST", &activate, None))
            .makes(instances, json!({"name": "to-activate", "status": "active"})),
        Write::new("instance.removed", root, ("DELETE", &paths[2], None))
            .makes(instances, json!({"name": "to-remove"}))
            .takes_away()
            .leaves_again(404, 0),
        Write::new("organisation.plan.granted", root, ("POST", &grant, Some(enterprise)))
            .keyed()
            .makes("/v1/admin/users?limit=100", json!({"email": "bob@example.com", "plan": "enterprise"})),
        Write::new("audit.read", root, ("GET", "/v1/admin/audit?limit=1", None)),
        Write::new("audit.refused", &alice, ("GET", "/v1/admin/users", None))
            .answers(403)
            .leaves_again(403, 1),
    ]);
    writes
}

/// The life of tenants and of an instance, and the lock of a user.
async fn life_writes(house: &House, root: &str) -> Vec<Write> {
    let (mut tenants, mut owners) = (Vec::new(), Vec::new());
    for slug in ["to-suspend", "to-resume", "to-delete", "to-undelete"] {
        let owner = sign_up(house.url(Module::Idp), &Account::of(slug)).await.access_token;
        let body = json!({"slug": slug, "name": slug});
        let made = house.call("POST", "/v1/tenants").by(&owner).json(&body).send().await;
        tenants.push(format!("/v1/admin/tenants/{}", made.data()["id"].as_str().unwrap()));
        owners.push(owner);
    }
    let why = json!({"reason": "a test"});
    let suspended = house.call("POST", &format!("{}:suspend", tenants[1])).by(root).json(&why).send().await;
    suspended.data();
    let deleted = house.call("DELETE", "/v1/tenants/to-undelete").by(&owners[3]).send().await;
    assert_eq!(deleted.status, 200, "{}", deleted.text);
    let listed = house.call("GET", "/v1/admin/instances").by(root).send().await;
    let local = listed.list().iter().find(|instance| instance["name"] == "local").unwrap();
    let local = format!("/v1/admin/instances/{}", local["id"].as_str().unwrap());
    let erin = sign_up(house.url(Module::Idp), &Account::of("erin")).await;
    whoami(house, Module::Gateway, &erin.access_token).await;
    let erin = format!("/v1/admin/users/{}", erin.sub);
    let all = "/v1/admin/tenants?limit=100";
    let tenant = |slug: &str, status: &str| json!({"slug": slug, "status": status});
    let email = "erin@example.com";
    let users = "/v1/admin/users?limit=100";
    vec![
        Write::new("tenant.suspended", root, ("POST", &format!("{}:suspend", tenants[0]), Some(why.clone())))
            .makes(all, tenant("to-suspend", "suspended"))
            .leaves_again(412, 0),
        Write::new("tenant.resumed", root, ("POST", &format!("{}:resume", tenants[1]), None))
            .makes(all, tenant("to-resume", "active"))
            .leaves_again(412, 0),
        Write::new("tenant.deleted", &owners[2], ("DELETE", "/v1/tenants/to-delete", None))
            .makes(all, tenant("to-delete", "deleted"))
            .leaves_again(404, 0),
        Write::new("tenant.undeleted", &owners[3], ("POST", "/v1/tenants/to-undelete:undelete", None))
            .makes(all, tenant("to-undelete", "active"))
            .leaves_again(412, 0),
        Write::new(
            "instance.maintenance.started",
            root,
            ("POST", &format!("{local}:startMaintenance"), None),
        )
        .makes("/v1/admin/instances?limit=100", json!({"name": "local", "maintenance": true})),
        Write::new("instance.maintenance.ended", root, ("POST", &format!("{local}:endMaintenance"), None))
            .makes("/v1/admin/instances?limit=100", json!({"name": "local", "maintenance": false})),
        Write::new("admin.user.locked", root, ("POST", &format!("{erin}:lock"), Some(why)))
            .makes(users, json!({"email": email, "status": "locked"})),
        Write::new("admin.user.unlocked", root, ("POST", &format!("{erin}:unlock"), None))
            .makes(users, json!({"email": email, "status": "active"})),
    ]
}

/// What decides which flags are on.
async fn flag_writes(house: &House, root: &str) -> Vec<Write> {
    let definition =
        json!({"state": "ENABLED", "variants": {"on": true, "off": false}, "defaultVariant": "off"});
    let body = json!({"definitionJson": definition.to_string(), "reason": "a test"});
    house.call("PUT", "/v1/admin/flags/to-delete").by(root).json(&body).send().await.data();
    let sub = whoami(house, Module::Gateway, root).await["userId"].as_str().unwrap().to_owned();
    let overrides = json!({"flagsJson": "{\"new\": true}", "reason": "a test"});
    let entitlements = json!({"entitlements": ["custom-domains"], "reason": "a test"});
    let flags = "/v1/admin/flags?limit=100";
    vec![
        Write::new("flag.set", root, ("PUT", "/v1/admin/flags/new", Some(body)))
            .makes(flags, json!({"key": "new"})),
        Write::new("flag.deleted", root, ("DELETE", "/v1/admin/flags/to-delete", None))
            .makes(flags, json!({"key": "to-delete"}))
            .takes_away()
            .leaves_again(404, 0),
        Write::new(
            "flag.overrides.set",
            root,
            ("PUT", &format!("/v1/admin/users/{sub}/flags"), Some(overrides)),
        ),
        Write::new("entitlements.set", root, ("PUT", "/v1/admin/entitlements/pro", Some(entitlements))),
    ]
}

/// The actions of the platform's contracts and of what no method names, beside those of the modules.
fn actions() -> BTreeSet<&'static str> {
    let platforms = |method: &&Method| {
        let service = method.service.as_str();
        kombify_admin::SERVICES.contains(&service) || kombify_cloud::SERVICES.contains(&service)
    };
    let named = kombify_contracts::methods().iter().filter(platforms);
    let named = named.filter_map(|method| method.access.as_ref());
    let mut actions: BTreeSet<&str> = named.map(|access| access.audit.as_str()).collect();
    actions.extend(["user.created", "audit.refused"]);
    actions.remove("");
    for action in OF_MODULES {
        actions.remove(action);
    }
    actions
}

/// Lets the mesh die in each write, and goes on.
async fn dies_in_every_write(moment: &str) {
    let mut house = House::up();
    let root = house.token("root");
    let writes = writes(&house, &root).await;
    assert_eq!(writes.iter().map(|write| write.action).collect::<BTreeSet<_>>(), actions());
    for write in &writes {
        let (first, second) = (format!("{}-1", write.action), format!("{}-2", write.action));
        write.check_things(&house, &root, false).await;
        assert!(house.terminate().success());
        house.start_with(&[("KOMBIFY_FAILPOINT", &format!("{}:{moment}", write.action))]);
        let answer = write.request(&house, &first).try_send().await;
        // A refusal is answered before it is written; nothing else is answered and not written.
        if let Ok(answer) = answer {
            assert_eq!((write.action, answer.status), ("audit.refused", 403), "{}", answer.text);
        }
        let status = house.wait_for_its_end();
        assert_eq!(status.signal(), Some(SIGABRT), "{} {moment}: {status}", write.action);

        house.start();
        let there = moment == AFTER;
        write.check_things(&house, &root, there).await;
        write.check_rows(&house, &root, &first, usize::from(there)).await;
        let again = write.request(&house, &second).send().await;
        let (status, rows) = if there { write.again } else { (write.status, 1) };
        assert_eq!(again.status, status, "{} {moment}: {}", write.action, again.text);
        write.check_things(&house, &root, true).await;
        write.check_rows(&house, &root, &second, rows).await;
        write.check_rows(&house, &root, &first, usize::from(there)).await;
        check_places(&house, &root).await;
    }
}

/// Every tenant has one place, and no place is taken by nobody.
async fn check_places(house: &House, root: &str) {
    let tenants = house.call("GET", "/v1/admin/tenants?limit=100").by(root).send().await;
    let instances = house.call("GET", "/v1/admin/instances?limit=100").by(root).send().await;
    for instance in instances.list() {
        let here = tenants.list().iter().filter(|tenant| tenant["instanceId"] == instance["id"]).count();
        assert_eq!(instance["tenantCount"], here, "{instance}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_not_committed_is_not_there_and_the_same_call_makes_it() {
    needed();
    dies_in_every_write(BEFORE).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_committed_is_there_once_however_often_it_is_asked_for() {
    needed();
    dies_in_every_write(AFTER).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_first_start_that_dies_is_gone_on_with_by_the_next() {
    needed();
    for (action, _) in SEEDED {
        for moment in [BEFORE, AFTER] {
            let failpoint = format!("{action}:{moment}");
            let mut house = House::fresh();
            let status = house.start_to_its_end(&[("KOMBIFY_FAILPOINT", &failpoint)]);
            assert_eq!(status.signal(), Some(SIGABRT), "{failpoint}: {status}\n{}", house.log());
            assert!(!house.said().contains("kombify is up"), "{failpoint}");
            house.start();
            check_seeded(&house, &failpoint).await;
        }
    }
}

/// Everything that a first start makes is there once, and its passwords were printed.
async fn check_seeded(house: &House, failpoint: &str) {
    let said = house.said();
    for user in ["alice", "bob", "carol", "root"] {
        let printed = said.lines().any(|line| line.trim_start().starts_with(&format!("{user} ")));
        assert!(printed, "{failpoint}: nobody ever saw the password of {user}");
    }
    let (carol, root) = (house.token("carol"), house.token("root"));
    assert_eq!(whoami(house, Module::Gateway, &carol).await["plan"], "enterprise", "{failpoint}");
    let profile = house.call("GET", "/v1/users/me").by(&carol).send().await;
    assert_eq!(profile.data()["email"], "carol@example.com", "{failpoint}: Cloud has joined the mesh");
    for (path, count) in [("users", 4), ("instances", 1), ("tenants", 0)] {
        let listed = house.call("GET", &format!("/v1/admin/{path}")).by(&root).send().await;
        assert_eq!(listed.list().len(), count, "{failpoint}: {}", listed.text);
    }
    for (action, count) in SEEDED {
        let rows = audit(house, &root, &format!("&action={action}")).await;
        assert_eq!(rows.len(), count, "{failpoint}: {action}: {rows:?}");
    }
}
