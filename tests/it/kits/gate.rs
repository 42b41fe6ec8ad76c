//! Who sees which kit, and who may have it.

use std::fs;

use serde_json::{Value, json};

use super::{copy, default_spec};
use crate::homelab::{HANDED_WITHIN, now, until};
use crate::house::{House, Module};

const KITS: [(&str, &str); 6] = [
    ("dns", "free"),
    ("identity", "enterprise"),
    ("media", "pro"),
    ("office", "pro"),
    ("photos", "pro"),
    ("smart-home", "free"),
];

/// Every door to a kit, and what it answers.
async fn doors(house: &House, token: &str, kit: &str) -> Vec<(u16, String)> {
    let spec = json!({"specYaml": default_spec(kit)});
    let mut answers = Vec::new();
    for (verb, path) in [
        ("GET", format!("/v1/stackkits/{kit}")),
        ("GET", format!("/v1/stackkits/{kit}/download")),
        ("POST", format!("/v1/stackkits/{kit}/validate")),
        ("POST", format!("/v1/stackkits/{kit}/render")),
    ] {
        for module in [Module::Gateway, Module::Kits] {
            let call = house.call_at(module, verb, &path).by(token);
            let call = if verb == "POST" { call.json(&spec) } else { call };
            let answer = call.send().await;
            let told = answer.json["error"]["details"]["requiredPlan"].as_str().unwrap_or_default();
            answers.push((answer.status, told.to_owned()));
        }
    }
    answers
}

#[tokio::test(flavor = "multi_thread")]
async fn everybody_sees_every_kit_and_has_those_of_the_plan_by_every_door() {
    let mut house = House::fresh().without_limits();
    house.start();
    for (user, plan) in [("alice", 0), ("bob", 1), ("carol", 2)] {
        let token = house.token(user);
        let listed = house.call("GET", "/v1/stackkits").by(&token).send().await;
        let order = ["free", "pro", "enterprise"];
        let enough = |needed: &str| order.iter().position(|plan| *plan == needed).unwrap() <= plan;
        let seen: Vec<(&str, &str, bool)> = listed
            .list()
            .iter()
            .map(|kit| {
                let text = |key: &str| kit[key].as_str().unwrap();
                (text("id"), text("minPlan"), kit["available"].as_bool().unwrap())
            })
            .collect();
        let expected: Vec<_> = KITS.iter().map(|(id, needed)| (*id, *needed, enough(needed))).collect();
        assert_eq!(seen, expected, "{user}");
        for (kit, needed) in KITS {
            let expected = if enough(needed) { (200, String::new()) } else { (403, needed.to_owned()) };
            assert_eq!(doors(&house, &token, kit).await, vec![expected; 8], "{user} {kit}");
        }
        let message = json!({"id": "identity"});
        let by_grpc = house.rpc(Module::Kits, Some(&token), "kombify.kits.v1.KitService/GetKit", &message);
        if plan == 2 {
            assert_eq!(by_grpc.json()["data"]["minPlan"], "enterprise");
        } else {
            by_grpc.refused(7, "the kit identity needs the plan enterprise");
        }
    }
    // A stranger knows nothing, and no module but a Stack resolves.
    house.call("GET", "/v1/stackkits").send().await.refused(401, "AUTH_REQUIRED");
    let asked = json!({"tenantId": "tenant_00000000-0000-7000-8000-000000000001", "kit": "dns"});
    let method = "kombify.kits.v1.KitService/ResolveKit";
    house.rpc(Module::Kits, Some(&house.token("carol")), method, &asked).refused(7, "for modules");
    let refused = house.rpc(Module::Gateway, Some(&house.token("carol")), method, &asked);
    refused.refused(12, "is not served here");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_admin_grants_and_ends_decides() {
    let house = House::up();
    let (alice, root) = (house.token("alice"), house.token("root"));
    let who = house.call("GET", "/v1/whoami").by(&alice).send().await;
    let org = format!("user:{}", who.data()["userId"].as_str().unwrap());
    let grant = |plan: &str, end: &str| json!({"plan": plan, "endTime": end, "reason": "test"});
    let path = format!("/v1/admin/organisations/{org}:grantPlan");
    house.call("GET", "/v1/stackkits/media").by(&alice).send().await.refused(403, "AUTH_INSUFFICIENT");
    // She has no tenant: the organisation's plan comes by itself.
    house.call("POST", &path).by(&root).json(&grant("pro", "2099-01-01T00:00:00Z")).send().await.data();
    until("the plan reaches Kits", HANDED_WITHIN, async || {
        house.call("GET", "/v1/stackkits/media").by(&alice).send().await.status == 200
    })
    .await;
    let soon = jiff::Timestamp::from_second(now() + 2).unwrap().to_string();
    house.call("POST", &path).by(&root).json(&grant("pro", &soon)).send().await.data();
    until("the plan has ended", HANDED_WITHIN, async || {
        house.call("GET", "/v1/stackkits/media").by(&alice).send().await.status == 403
    })
    .await;
    // Whoever is locked gets no kit either.
    let sub = who.data()["userId"].as_str().unwrap();
    let lock = format!("/v1/admin/users/{sub}:lock");
    house.call("POST", &lock).by(&root).json(&json!({"reason": "test"})).send().await.data();
    let refused = house.call_at(Module::Kits, "GET", "/v1/stackkits").by(&alice).send().await;
    refused.refused(401, "AUTH_INVALID");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_custom_kit_is_its_organisations_alone_and_needs_enterprise() {
    let mut house = House::fresh();
    let kits = house.data().with_file_name("custom");
    for (organisation, id) in [("310000000000000003", "bobs"), ("310000000000000004", "carols")] {
        copy("dns", &kits.join(organisation), id, |_, text| text);
    }
    let config = format!(
        "[[kits.sources]]\nname = \"bob\"\npath = \"{0}/310000000000000003\"\norganisation = \"310000000000000003\"\n\
         [[kits.sources]]\nname = \"carol\"\npath = \"{0}/310000000000000004\"\norganisation = \"310000000000000004\"\n",
        kits.display()
    );
    house.configure_with(&config);
    house.start();
    let listed = async |user: &str| -> Vec<Value> {
        let token = house.token(user);
        house.call("GET", "/v1/stackkits").by(&token).send().await.list().to_vec()
    };
    let ids = |kits: &[Value]| -> Vec<String> {
        let ours = KITS.map(|(id, _)| id);
        let ids = kits.iter().map(|kit| kit["id"].as_str().unwrap().to_owned());
        ids.filter(|id| !ours.contains(&id.as_str())).collect()
    };
    assert_eq!(ids(&listed("alice").await), Vec::<String>::new());
    let bobs = listed("bob").await;
    assert_eq!(ids(&bobs), ["bobs"]);
    let own = bobs.iter().find(|kit| kit["id"] == "bobs").unwrap();
    assert_eq!((&own["minPlan"], &own["available"]), (&json!("enterprise"), &json!(false)));
    assert_eq!(ids(&listed("carol").await), ["carols"]);
    let (bob, carol) = (house.token("bob"), house.token("carol"));
    let refused = house.call("GET", "/v1/stackkits/bobs").by(&bob).send().await;
    assert_eq!(refused.refused(403, "AUTH_INSUFFICIENT")["details"]["requiredPlan"], "enterprise");
    house.call("GET", "/v1/stackkits/carols").by(&carol).send().await.data();
    for (token, kit) in [(&bob, "carols"), (&carol, "bobs")] {
        for (verb, path) in [("GET", ""), ("GET", "/download"), ("POST", "/validate"), ("POST", "/render")] {
            let path = format!("/v1/stackkits/{kit}{path}");
            let call = house.call(verb, &path).by(token);
            let call = if verb == "POST" { call.json(&json!({"specYaml": "a: 1"})) } else { call };
            call.send().await.refused(404, "NOT_FOUND");
        }
    }
    fs::remove_dir_all(&kits).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_id_stays_with_the_source_that_had_it_first_and_no_kit_is_mistaken_for_another() {
    let house = House::fresh();
    let (public, own) = (house.data().with_file_name("public"), house.data().with_file_name("own"));
    fs::create_dir(&public).unwrap();
    let secret = |name: &str, text: String| match name {
        "README.md" => "# Ours alone\n".to_owned(),
        _ => text,
    };
    copy("dns", &own, "names", secret);
    house.configure_with(&format!(
        "[kits]\nrefresh_seconds = 1\n[[kits.sources]]\nname = \"public\"\npath = \"{}\"\n\
         [[kits.sources]]\nname = \"carol\"\npath = \"{}\"\norganisation = \"310000000000000004\"\n",
        public.display(),
        own.display()
    ));
    let mut house = house;
    house.start();
    let (alice, carol) = (house.token("alice"), house.token("carol"));
    let download = "/v1/stackkits/names/download";
    let hers = house.call("GET", download).by(&carol).send().await;
    assert_eq!(hers.status, 200);
    house.call("GET", download).by(&alice).send().await.refused(404, "NOT_FOUND");
    copy("dns", &public, "names", |_, text| text);
    until("the other kit of that name is refused", HANDED_WITHIN, async || {
        house.log().contains("the kit names belongs to the source carol")
    })
    .await;
    house.call("GET", download).by(&alice).send().await.refused(404, "NOT_FOUND");
    house.restart();
    house.call("GET", download).by(&house.token("alice")).send().await.refused(404, "NOT_FOUND");
    let again = house.call("GET", download).by(&house.token("carol")).send().await;
    assert_eq!(again.bytes, hers.bytes);
    // Only where the configuration takes the one source away, the other one has the name.
    assert!(house.terminate().success());
    house.configure_with(&format!("[[kits.sources]]\nname = \"public\"\npath = \"{}\"\n", public.display()));
    house.start();
    let theirs = house.call("GET", download).by(&house.token("alice")).send().await;
    assert!(theirs.status == 200 && theirs.bytes != hers.bytes);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_newest_version_is_the_newest_that_the_plan_has() {
    let house = House::fresh();
    let dir = house.data().with_file_name("kits");
    for (version, plan) in [("1.0.0", "free"), ("1.1.0", "pro"), ("1.2.0", "enterprise")] {
        copy("dns", &dir.join(version), "names", |name, text| match name {
            "kit.yaml" => text
                .replace("\nversion: 1.0.0\n", &format!("\nversion: {version}\n"))
                .replace("minPlan: free", &format!("minPlan: {plan}")),
            _ => text,
        });
    }
    let source = |version: &str| {
        format!("[[kits.sources]]\nname = \"dir\"\npath = \"{}\"\n", dir.join(version).display())
    };
    let mut house = house;
    for version in ["1.0.0", "1.1.0", "1.2.0"] {
        house.configure_with(&source(version));
        house.start();
        assert!(house.terminate().success());
    }
    house.start();
    for (user, newest, versions) in [
        ("alice", "1.0.0", json!(["1.0.0"])),
        ("bob", "1.1.0", json!(["1.1.0", "1.0.0"])),
        ("carol", "1.2.0", json!(["1.2.0", "1.1.0", "1.0.0"])),
    ] {
        let token = house.token(user);
        let kit = house.call("GET", "/v1/stackkits/names").by(&token).send().await;
        assert_eq!((&kit.data()["version"], &kit.data()["versions"]), (&json!(newest), &versions), "{user}");
        let listed = house.call("GET", "/v1/stackkits?search=names").by(&token).send().await;
        let own = listed.list().iter().find(|kit| kit["id"] == "names").unwrap();
        assert_eq!((&own["version"], &own["available"]), (&json!(newest), &json!(true)), "{user}");
    }
    let alice = house.token("alice");
    let above = house.call("GET", "/v1/stackkits/names?version=1.2.0").by(&alice).send().await;
    assert_eq!(above.refused(403, "AUTH_INSUFFICIENT")["details"]["requiredPlan"], "enterprise");
}

#[tokio::test(flavor = "multi_thread")]
async fn kits_are_found_by_words_and_tags_page_by_page() {
    let house = House::up();
    let bob = house.token("bob");
    let found = async |query: &str| -> Vec<String> {
        let listed = house.call("GET", &format!("/v1/stackkits?{query}")).by(&bob).send().await;
        listed.list().iter().map(|kit| kit["id"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(found("search=DNS").await, ["dns"]);
    assert_eq!(found("search=forgejo%20authentik").await, ["identity"]);
    assert_eq!(found("search=nothing-of-that").await, Vec::<String>::new());
    assert_eq!(found("tags=dns&tags=privacy").await, ["dns"]);
    assert_eq!(found("tags=dns&tags=media").await, Vec::<String>::new());
    let all = house.all(&bob, "/v1/stackkits").await;
    assert_eq!(all.len(), KITS.len());
    let first = house.call("GET", "/v1/stackkits?limit=4").by(&bob).send().await;
    let cursor = first.json["meta"]["nextCursor"].as_str().unwrap().to_owned();
    assert_eq!((first.list().len(), first.json["meta"]["limit"].as_u64()), (4, Some(4)));
    assert_eq!(found(&format!("limit=4&cursor={cursor}")).await, ["photos", "smart-home"]);
    let other = house.call("GET", &format!("/v1/stackkits?search=dns&cursor={cursor}")).by(&bob).send().await;
    assert_eq!(other.wrong_fields(), ["cursor"]);
    for header in ["x-ratelimit-limit", "x-ratelimit-remaining", "ratelimit"] {
        assert!(!first.header(header).is_empty(), "{header}");
    }
    assert_eq!(first.header("x-ratelimit-limit"), "1000");
}
