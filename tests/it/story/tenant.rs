//! Step 3: a user creates a tenant, which takes a place on an instance, and sees it; others do not.

use serde_json::{Value, json};

use super::{audited, claims_of, whoami};
use crate::answer::{Answer, Call};
use crate::house::{House, Module};

fn create(house: &House, token: &str, slug: &str) -> Call {
    house.call("POST", "/v1/tenants").by(token).json(&json!({"slug": slug, "name": "Home"}))
}

async fn get(house: &House, token: &str, tenant: &str) -> Answer {
    house.call("GET", &format!("/v1/tenants/{tenant}")).by(token).send().await
}

/// How many tenants have a place on the seeded instance.
async fn places_taken(house: &House, root: &str) -> i64 {
    let instances = house.call("GET", "/v1/admin/instances").by(root).send().await;
    assert_eq!(instances.list().len(), 1);
    assert_eq!(instances.list()[0]["name"], "local");
    instances.list()[0]["tenantCount"].as_i64().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_is_created_once_however_often_it_is_asked_for() {
    let house = House::up();
    let (alice, bob, root) = (house.token("alice"), house.token("bob"), house.token("root"));
    assert_eq!(places_taken(&house, &root).await, 0);
    let first = create(&house, &alice, "home").header("idempotency-key", "key-1");
    let first = first.header("x-request-id", "create-1").send().await;
    let tenant = first.data();
    assert!(tenant["id"].as_str().unwrap().starts_with("tenant_"));
    assert_eq!((&tenant["slug"], &tenant["name"]), (&json!("home"), &json!("Home")));
    let sub = claims_of(&alice)["sub"].as_str().unwrap().to_owned();
    assert_eq!(tenant["orgId"], format!("user:{sub}"), "alice is in no organisation but the default one");
    assert_eq!((&tenant["plan"], &tenant["status"]), (&json!("free"), &json!("active")));
    let limits = json!({"members": 5, "nodes": 3, "stacks": 2, "runningSimulations": 1, "storageGb": 10});
    assert_eq!(tenant["limits"], limits);
    let usage = json!({"members": 1, "nodes": 0, "stacks": 0, "runningSimulations": 0, "storageGb": 0});
    assert_eq!(tenant["usage"], usage);

    let repeat = create(&house, &alice, "home").header("idempotency-key", "key-1").send().await;
    assert_eq!(repeat.data(), tenant, "a repeat answers the same thing");
    let body = create(&house, &alice, "other").header("idempotency-key", "key-1").send().await;
    body.refused(409, "CONFLICT");
    let second = create(&house, &alice, "second").header("idempotency-key", "key-2").send().await;
    second.refused(409, "CONFLICT");
    create(&house, &alice, "home").send().await.refused(409, "CONFLICT");
    let taken = create(&house, &bob, "home").header("idempotency-key", "key-1").send().await;
    taken.refused(409, "CONFLICT");
    assert_eq!(places_taken(&house, &root).await, 1, "who is refused takes no place");

    let bobs = create(&house, &bob, "bobs").header("idempotency-key", "key-1").send().await;
    assert_ne!(bobs.data()["id"], tenant["id"], "a key is its caller's");
    assert_eq!((&bobs.data()["plan"], &bobs.data()["limits"]["nodes"]), (&json!("pro"), &json!(10)));
    assert_eq!(places_taken(&house, &root).await, 2);

    let rows = audited(&house, &root, "tenant.created", "create-1").await;
    assert_eq!(rows.len(), 1);
    assert_eq!((&rows[0]["target"], &rows[0]["tenantId"]), (&tenant["id"], &tenant["id"]));
    assert_eq!((&rows[0]["actor"]["sub"], &rows[0]["actor"]["service"]), (&json!(sub), &json!("")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_that_is_asked_for_by_many_at_once_is_created_once() {
    let house = House::up();
    let (carol, root) = (house.token("carol"), house.token("root"));
    let mut racers = tokio::task::JoinSet::new();
    for racer in 0..16 {
        let key = format!("race-{}", racer % 2);
        racers.spawn(create(&house, &carol, "race").header("idempotency-key", &key).send());
    }
    let answers = racers.join_all().await;
    let (good, refused): (Vec<_>, Vec<_>) = answers.into_iter().partition(|answer| answer.status == 200);
    assert_eq!(good.len(), 8, "all who came with the key of the first");
    for answer in &good {
        assert_eq!(answer.data(), good[0].data());
    }
    for answer in &refused {
        answer.refused(409, "CONFLICT");
    }
    assert_eq!(places_taken(&house, &root).await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_is_seen_by_its_members_and_by_nobody_else() {
    let house = House::up();
    let [alice, bob, carol, root] = ["alice", "bob", "carol", "root"].map(|user| house.token(user));
    let home = create(&house, &alice, "home").send().await.data().clone();
    let id = home["id"].as_str().unwrap();
    for name in [id, "home"] {
        let seen = get(&house, &alice, name).await;
        assert_eq!(seen.data(), &home);
        assert_eq!(seen.header("etag"), format!("\"{}\"", home["etag"].as_str().unwrap()));
    }
    let members = house.call("GET", "/v1/tenants").by(&alice).send().await;
    assert_eq!(members.list(), std::slice::from_ref(&home));
    assert_eq!(members.json["meta"], json!({"nextCursor": "", "limit": 50}));
    let membership = json!([{"tenantId": id, "slug": "home", "role": "admin"}]);
    assert_eq!(whoami(&house, Module::Gateway, &alice).await["memberships"], membership);

    for name in [id, "home"] {
        let named = house.call("GET", "/v1/whoami").by(&alice).header("x-tenant-id", name).send().await;
        assert_eq!(named.data()["tenantId"], id);
    }
    let twice = |name: &str| house.call("GET", "/v1/tenants/home").by(&alice).header("x-tenant-id", name);
    assert_eq!(twice(id).send().await.data(), &home, "the header may say the same in other words");
    assert_eq!(twice("other").send().await.wrong_fields(), ["x-tenant-id"]);

    for stranger in [&bob, &carol, &root] {
        for name in [id, "home"] {
            let hidden = get(&house, stranger, name).await;
            let absent = "tenant_01890a5d-ac96-774b-bcce-b302099a8057";
            let absent = if name == id { absent } else { "nowhere" };
            let missing = get(&house, stranger, absent).await;
            assert_eq!(shape(&hidden, name), shape(&missing, absent));
        }
        let header = house.call("GET", "/v1/whoami").by(stranger).header("x-tenant-id", "home").send().await;
        header.refused(404, "NOT_FOUND");
        assert!(house.call("GET", "/v1/tenants").by(stranger).send().await.list().is_empty());
    }
    house.call("GET", "/v1/tenants/home").send().await.refused(401, "AUTH_REQUIRED");

    let carols = create(&house, &carol, "carols").send().await;
    let limits =
        json!({"members": -1, "nodes": 50, "stacks": 20, "runningSimulations": 10, "storageGb": 1000});
    assert_eq!(carols.data()["limits"], limits, "an enterprise has members without a limit");
    get(&house, &alice, "carols").await.refused(404, "NOT_FOUND");
    get(&house, &carol, "home").await.refused(404, "NOT_FOUND");
}

/// What a stranger could tell two refusals apart by.
fn shape(answer: &Answer, name: &str) -> (Value, Vec<String>) {
    let mut error = answer.refused(404, "NOT_FOUND").clone();
    error["message"] = error["message"].as_str().unwrap().replace(name, "?").into();
    for own in ["requestId", "timestamp"] {
        error[own] = Value::Null;
    }
    let mut headers: Vec<String> = answer.headers.keys().map(ToString::to_string).collect();
    headers.sort_unstable();
    (error, headers)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slug_and_a_name_are_held_against_their_bounds() {
    let house = House::up();
    let bob = house.token("bob");
    let long = format!("a{}", "b".repeat(40));
    for slug in ["", "ab", "Home", "-home", "home-", "1home", "ho_me", long.as_str()] {
        let answer = create(&house, &bob, slug).send().await;
        assert_eq!(answer.wrong_fields(), ["slug"], "{slug}");
    }
    let unnamed = house.call("POST", "/v1/tenants").by(&bob).json(&json!({"slug": "Bob", "name": ""}));
    assert_eq!(unnamed.send().await.wrong_fields(), ["name", "slug"]);
    let key = create(&house, &bob, "bobs").header("idempotency-key", &"k".repeat(129)).send().await;
    assert_eq!(key.wrong_fields(), ["idempotency-key"]);
    let elsewhere = json!({"slug": "bobs", "name": "Bobs", "region": "moon"});
    let elsewhere = house.call("POST", "/v1/tenants").by(&bob).json(&elsewhere).send().await;
    elsewhere.refused(503, "SERVICE_UNAVAILABLE");
    assert_eq!(create(&house, &bob, "bobs").send().await.status, 200, "nothing was taken before");
}
