//! Everything is there after a restart, and two meshes never share their data.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{audit, whoami};
use crate::house::{House, Module};

/// The passwords of the seeded users.
fn passwords(house: &House) -> BTreeMap<String, String> {
    serde_json::from_slice(&std::fs::read(house.data().join("passwords.json")).unwrap()).unwrap()
}

/// Everything that the story has made, as its people see it.
async fn everything(house: &House, tokens: &BTreeMap<&str, String>) -> BTreeMap<String, Value> {
    let mut seen = BTreeMap::new();
    for (user, token) in tokens {
        seen.insert(format!("{user}: whoami"), whoami(house, Module::Gateway, token).await);
        for path in ["/v1/users/me", "/v1/tenants"] {
            let answer = house.call("GET", path).by(token).send().await;
            seen.insert(format!("{user}: {path}"), answer.data().clone());
        }
    }
    for path in ["users", "tenants", "instances"] {
        let answer = house.call("GET", &format!("/v1/admin/{path}")).by(&tokens["root"]).send().await;
        let mut listed = answer.data().clone();
        for thing in listed.as_array_mut().unwrap() {
            thing.as_object_mut().unwrap().remove("reportTime"); // Its Stack goes on to report.
        }
        seen.insert(path.to_owned(), listed);
    }
    let keys = house.rpc(Module::Admin, None, "kombify.mesh.v1.KeyService/ListKeys", &json!({})).json();
    let modules: Vec<&Value> = keys["data"].as_array().unwrap().iter().map(|key| &key["module"]).collect();
    assert_eq!(modules, ["admin", "cloud", "gateway", "kits", "stack"]);
    seen.insert("keys".to_owned(), keys);
    seen
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_is_there_after_a_restart_and_after_a_sudden_end() {
    let mut house = House::up();
    let passwords_before = passwords(&house);
    let tokens: BTreeMap<&str, String> =
        ["alice", "bob", "carol", "root"].into_iter().map(|user| (user, house.token(user))).collect();
    let (alice, root) = (&tokens["alice"], &tokens["root"]);
    let create = |house: &House| {
        let tenant = json!({"slug": "home", "name": "Home"});
        house.call("POST", "/v1/tenants").by(alice).json(&tenant).header("idempotency-key", "key-1")
    };
    let tenant = create(&house).send().await.data().clone();
    let organisation = format!("/v1/admin/organisations/{}:grantPlan", tenant["orgId"].as_str().unwrap());
    let grant = json!({"plan": "pro", "endTime": "2199-01-01T00:00:00Z", "reason": "for ever, nearly"});
    house.call("POST", &organisation).by(root).json(&grant).send().await.data();
    let profile = json!({"displayName": "Al", "preferences": {"theme": "dark"}});
    house.call("PATCH", "/v1/users/me").by(alice).json(&profile).send().await.data();
    house.call("GET", "/v1/admin/users").by(alice).send().await.refused(403, "AUTH_INSUFFICIENT");
    let second = json!({
        "name": "second", "internalEndpoint": "http://localhost:8090", "publicEndpoint": "https://two.example",
    });
    house.call("POST", "/v1/admin/instances").by(root).json(&second).send().await.data();
    let before = everything(&house, &tokens).await;
    assert_eq!(before["alice: whoami"]["plan"], "pro");
    assert_eq!(before["alice: /v1/users/me"]["displayName"], "Al");

    // A mesh that is asked to end loses no refusal either; one that is killed loses nothing that it answered.
    for sudden in [false, true] {
        let rows = audit(&house, root, "&outcome=done").await;
        if sudden {
            house.kill();
            house.start();
        } else {
            house.restart();
        }
        assert_eq!(everything(&house, &tokens).await, before, "killed: {sudden}");
        let after = audit(&house, root, "&outcome=done").await;
        for row in rows {
            assert!(after.contains(&row), "killed: {sudden}, lost: {row}");
        }
        let refusals = audit(&house, root, "&outcome=refused").await;
        assert_eq!(refusals.len(), 1, "{refusals:?}");
        assert_eq!(house.token("alice"), *alice, "the token of before is still good");
        assert_eq!(create(&house).send().await.data()["id"], tenant["id"], "the key of before is still kept");
        assert_eq!(passwords(&house), passwords_before);
        for password in passwords_before.values() {
            assert!(!house.said().contains(password.as_str()), "passwords are printed once");
        }
    }
    std::fs::remove_dir_all(house.data().join("tokens")).unwrap();
    let anew = house.token("alice");
    assert_ne!(anew, *alice);
    assert_eq!(
        whoami(&house, Module::Gateway, &anew).await,
        before["alice: whoami"],
        "the password holds, too"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_up_on_the_same_data_says_that_it_is_in_use() {
    let mut house = House::up();
    let alice = house.token("alice");
    let second = house.run(&["up"], &[]);
    assert!(!second.status.success());
    assert!(second.stdout.is_empty());
    let said = String::from_utf8(second.stderr).unwrap();
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(lines.len(), 1, "{said}");
    assert!(lines[0].contains(house.data().to_str().unwrap()) && lines[0].contains("in use"), "{said}");
    assert_eq!(whoami(&house, Module::Gateway, &alice).await["email"], "alice@example.com");

    house.kill();
    house.start();
    let identity = whoami(&house, Module::Gateway, &alice).await;
    assert_eq!(identity["email"], "alice@example.com", "who was killed holds no lock");
}
