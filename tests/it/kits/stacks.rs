//! Stacks that are made of kits: pinned when they name one, and refused where Kits refuses the spec.

use std::path::Path;
use std::sync::Arc;

use kombify_core::ServiceIdentity;
use kombify_mesh::identity::service_token::Signer;
use kombify_mesh::system::SystemClock;
use serde_json::{Value, json};

use super::{codes, copy, default_spec, validate};
use crate::homelab::{HANDED_WITHIN, instance, tenant, until};
use crate::house::{House, Module};

/// A token for Kits, of the Stack that has this data.
fn token(data: &Path, instance: &str) -> String {
    let own = ServiceIdentity { module: "stack".into(), instance: instance.to_owned() };
    let signer = Signer::open(&data.join("keys/stack.pkcs8"), own, Arc::new(SystemClock)).unwrap();
    signer.token("service:kits").unwrap()
}

/// The fields that a refusal names, with what it says of each.
fn fields(error: &Value) -> Vec<(&str, &str)> {
    let fields = error["details"]["fields"].as_object().unwrap();
    fields.iter().map(|(path, message)| (path.as_str(), message.as_str().unwrap())).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_spec_is_judged_rendered_and_made_a_stack_and_a_wrong_one_nowhere() {
    let house = House::up();
    let alice = house.token("alice");
    tenant(&house, &alice, "home").await;
    let right = default_spec("dns");
    assert_eq!(validate(&house, &alice, "dns", &right).await["valid"], true);
    let wrong = right.replace("192.168.1.10", "172.28.10.9").replace("dnsPort: 53", "dnsPort: 22");
    let verdict = validate(&house, &alice, "dns", &wrong).await;
    assert_eq!(codes(&verdict), ["RESERVED_RANGE"]);
    let first = &verdict["errors"][0];
    assert_eq!(
        (first["path"].as_str(), first["line"].as_u64(), first["column"].as_u64()),
        (Some("network.subnet"), Some(9), Some(11))
    );

    let rendered =
        house.call("POST", "/v1/stackkits/dns/render").by(&alice).json(&json!({"specYaml": right}));
    let rendered = rendered.send().await;
    assert!(rendered.data()["composeYaml"].as_str().unwrap().contains("io.kombify.stack: home-dns"));
    let refused = house.call("POST", "/v1/stackkits/dns/render").by(&alice).json(&json!({"specYaml": wrong}));
    let refused = refused.send().await;
    let told = fields(refused.refused(400, "VALIDATION_FAILED"));
    assert_eq!(told[0].0, "spec.network.subnet");
    assert!(told[0].1.starts_with("RESERVED_RANGE at line 9, column 11: holds 172.28.10.9"), "{told:?}");

    let kit = house.call("GET", "/v1/stackkits/dns").by(&alice).send().await;
    let body = |name: &str, kit: &str, version: &str, spec: &str| json!({"name": name, "kit": kit, "kitVersion": version, "specYaml": spec});
    let post = async |body: &Value| house.call("POST", "/v1/stacks").by(&alice).json(body).send().await;
    let made = post(&body("home-dns", "dns", "", &right)).await;
    let stack = made.data();
    let pinned = (&stack["kit"], &stack["kitVersion"], &stack["kitDigest"]);
    assert_eq!(pinned, (&json!("dns"), &json!("1.0.0"), &kit.data()["digest"]));
    let refused = post(&body("wrong", "dns", "", &wrong)).await;
    assert_eq!(fields(refused.refused(400, "VALIDATION_FAILED")), told, "the same as Kits says");
    let refused = post(&body("above", "media", "", &default_spec("media"))).await;
    assert_eq!(refused.refused(403, "AUTH_INSUFFICIENT")["details"]["requiredPlan"], "pro");
    post(&body("missing", "no-such-kit", "", &right)).await.refused(404, "NOT_FOUND");
    post(&body("version", "dns", "^2", &right)).await.refused(404, "NOT_FOUND");
    assert_eq!(post(&body("range", "dns", "newest", &right)).await.wrong_fields(), ["kitVersion"]);
    // Nothing of that is there, and a draft is nobody's to check.
    let draft = post(&json!({"name": "draft", "specYaml": "anything: [goes"})).await;
    assert_eq!(draft.data()["kit"], "");
    assert_eq!(house.all(&alice, "/v1/stacks").await.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stack_stays_at_its_version_until_another_one_is_asked_for() {
    let mut house = House::fresh();
    let dir = house.data().with_file_name("more");
    let version = |version: &'static str| {
        move |name: &str, text: String| match name {
            "kit.yaml" => text.replace("\nversion: 1.0.0\n", &format!("\nversion: {version}\n")),
            _ => text,
        }
    };
    copy("dns", &dir.join("a"), "names", version("1.0.0"));
    copy("dns", &dir.join("b"), "names", version("1.1.0"));
    let source =
        |name: &str| format!("[[kits.sources]]\nname = \"more\"\npath = \"{}/{name}\"\n", dir.display());
    let refresh = "[kits]\nrefresh_seconds = 1\n";
    house.configure_with(&format!("{refresh}{}", source("a")));
    house.start();
    let alice = house.token("alice");
    tenant(&house, &alice, "home").await;
    let spec = default_spec("dns").replace("kit: dns", "kit: names");
    let body = json!({"name": "first", "kit": "names", "specYaml": spec});
    let first = house.call("POST", "/v1/stacks").by(&alice).json(&body).send().await.data().clone();
    assert_eq!(first["kitVersion"], "1.0.0");

    // Another version comes, and the first one is still there.
    assert!(house.terminate().success());
    house.configure_with(&format!("{refresh}{}", source("b")));
    house.start();
    let alice = house.token("alice");
    let kit = house.call("GET", "/v1/stackkits/names").by(&alice).send().await;
    assert_eq!(kit.data()["versions"], json!(["1.1.0", "1.0.0"]));
    let old = house.call("GET", "/v1/stackkits/names?version=%3D1.0.0").by(&alice).send().await;
    assert_eq!(old.data()["digest"], first["kitDigest"]);
    let path = format!("/v1/stacks/{}", first["id"].as_str().unwrap());
    let change = async |body: Value| house.call("PATCH", &path).by(&alice).json(&body).send().await;
    let longer = format!("{spec}# a note\n");
    assert_eq!(change(json!({"specYaml": longer})).await.data()["kitVersion"], "1.0.0");
    let wrong = spec.replace("192.168.1.10", "127.0.0.1");
    let refused = change(json!({"specYaml": wrong})).await;
    assert_eq!(refused.wrong_fields(), ["spec.nodes[0].ip"]);
    let renamed = change(json!({"name": "second"})).await;
    assert_eq!(
        (&renamed.data()["kitVersion"], &renamed.data()["specYaml"]),
        (&json!("1.0.0"), &json!(longer))
    );
    let moved = change(json!({"kitVersion": "^1.1"})).await;
    assert_eq!(
        (&moved.data()["kitVersion"], &moved.data()["kitDigest"]),
        (&json!("1.1.0"), &kit.data()["digest"])
    );
    let drafted = change(json!({"kit": "", "specYaml": "anything"})).await;
    assert_eq!((&drafted.data()["kit"], &drafted.data()["kitDigest"]), (&json!(""), &json!("")));
    assert_eq!(change(json!({"kitVersion": "^1"})).await.wrong_fields(), ["update.kitVersion"]);
    let again = change(json!({"kit": "names", "kitVersion": "=1.0.0", "specYaml": spec})).await;
    assert_eq!(again.data()["kitDigest"], first["kitDigest"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_faults_are_told_as_far_as_an_answer_goes() {
    let house = House::up();
    let alice = house.token("alice");
    tenant(&house, &alice, "home").await;
    let mut spec = default_spec("dns");
    for number in 0..150 {
        spec += &["unknown_field_number_", &number.to_string(), ": x\n"].concat();
    }
    let verdict = validate(&house, &alice, "dns", &spec).await;
    assert_eq!(verdict["errors"].as_array().unwrap().len(), 100);
    for (path, body) in [
        ("/v1/stackkits/dns/render", json!({"specYaml": spec})),
        ("/v1/stacks", json!({"name": "wrong", "kit": "dns", "specYaml": spec})),
    ] {
        for module in [Module::Gateway, if path == "/v1/stacks" { Module::Stack } else { Module::Kits }] {
            let refused = house.call_at(module, "POST", path).by(&alice).json(&body).send().await;
            let details = &refused.refused(400, "VALIDATION_FAILED")["details"];
            let named = details["fields"].as_object().unwrap().len();
            let left_out: usize = details["fieldsLeftOut"].as_str().unwrap().parse().unwrap();
            assert!((20..=64).contains(&named), "{named}");
            assert_eq!(named + left_out, 100, "{path}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_that_race_are_made_one_after_the_other_and_a_repeat_asks_nobody() {
    let mut house = House::fresh().without_limits();
    house.start();
    let alice = house.token("alice");
    tenant(&house, &alice, "home").await;
    let spec = default_spec("dns");
    let body = json!({"name": "home-dns", "kit": "dns", "specYaml": spec});
    let create = || house.call("POST", "/v1/stacks").by(&alice).json(&body).header("idempotency-key", "once");
    let made = create().send().await.data().clone();
    let path = format!("/v1/stacks/{}", made["id"].as_str().unwrap());
    let mut racing = tokio::task::JoinSet::new();
    for number in 0..32 {
        let (outside, alice, path) = (house.outside(), alice.clone(), path.clone());
        let body = json!({"specYaml": format!("{spec}# {number}\n")});
        racing.spawn(async move { outside.call("PATCH", &path).by(&alice).json(&body).send().await });
    }
    let answers = racing.join_all().await;
    for answer in &answers {
        // Whoever is overtaken again and again is told so, and never of an etag that was not sent.
        assert!(answer.status == 200 || answer.status == 409, "{}", answer.text);
    }
    assert!(answers.iter().filter(|answer| answer.status == 200).count() >= 3);

    // The registry goes away: what was made is told all the same.
    assert!(house.terminate().success());
    house.start_without("kits");
    let again = house
        .call("POST", "/v1/stacks")
        .by(&house.token("alice"))
        .json(&body)
        .header("idempotency-key", "once")
        .send()
        .await;
    assert_eq!(again.data()["id"], made["id"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn while_kits_are_away_only_what_names_one_is_refused() {
    let mut house = House::fresh();
    house.start_without("kits");
    let alice = house.token("alice");
    tenant(&house, &alice, "home").await;
    let body = json!({"name": "home-dns", "kit": "dns", "specYaml": default_spec("dns")});
    let refused = house.call("POST", "/v1/stacks").by(&alice).json(&body).send().await;
    refused.refused(503, "SERVICE_UNAVAILABLE");
    assert!(!refused.header("retry-after").is_empty());
    let draft = house.call("POST", "/v1/stacks").by(&alice).json(&json!({"name": "draft"})).send().await;
    let path = format!("/v1/stacks/{}", draft.data()["id"].as_str().unwrap());
    house.call("PATCH", &path).by(&alice).json(&json!({"specYaml": "a: 1"})).send().await.data();
    house.call("GET", "/v1/stackkits").by(&alice).send().await.refused(503, "SERVICE_UNAVAILABLE");

    // They come, in a process of their own, and hear from Admin what they need.
    let mut kits = house.start_apart("kits");
    until("a stack is made of a kit", HANDED_WITHIN, async || {
        house.call("POST", "/v1/stacks").by(&alice).json(&body).send().await.status == 200
    })
    .await;
    assert!(house.call_at(Module::Kits, "GET", "/health").send().await.status == 200);
    kits.kill().unwrap();
    kits.wait().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stack_resolves_for_its_own_tenants_alone() {
    let mut house = House::fresh();
    house.start();
    let (alice, root) = (house.token("alice"), house.token("root"));
    let home = tenant(&house, &alice, "home").await;
    let other = house.add_stack(&root, "other", 5, &[]).await;
    // The other instance's own key, as whoever has its machine would use it.
    let asked = json!({"tenantId": home["id"], "kit": "dns", "specYaml": default_spec("dns")});
    let method = "kombify.kits.v1.KitService/ResolveKit";
    let place = instance(&house, &root).await["id"].as_str().unwrap().to_owned();
    let own = token(&house.data(), &place);
    let resolved = house.rpc(Module::Kits, Some(&own), method, &asked).json();
    assert_eq!(resolved["data"]["version"], "1.0.0");
    let theirs = token(&other.data(), &other.id);
    house.rpc(Module::Kits, Some(&theirs), method, &asked).refused(5, "not found");
}
