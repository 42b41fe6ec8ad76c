//! Step 2: a user reads and edits the own profile and preferences: Cloud, which calls Admin with both tokens.

use serde_json::{Value, json};

use super::{audited, claims_of};
use crate::answer::{Answer, Call};
use crate::house::{House, Module};

const ME: &str = "/v1/users/me";

fn change(house: &House, token: &str, change: &Value) -> Call {
    house.call("PATCH", ME).by(token).json(change)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_own_profile_is_read_and_changed_as_it_was_seen() {
    let house = House::up();
    let (alice, root) = (house.token("alice"), house.token("root"));
    let seen = house.call("GET", ME).by(&alice).send().await;
    let etag = seen.data()["etag"].as_str().unwrap().to_owned();
    assert_eq!(seen.header("etag"), format!("\"{etag}\""));
    assert_eq!(seen.data()["email"], "alice@example.com");
    assert_eq!(seen.data()["displayName"], "Alice Example", "the provider's name");
    assert_eq!(seen.data()["plan"], "free");

    let wanted = json!({
        "displayName": "Al",
        "avatarUrl": "https://example.com/al.png",
        "preferences": {"theme": "dark", "timezone": "Europe/Zurich", "locale": "de-CH", "emailNotices": true},
    });
    let changed = change(&house, &alice, &wanted)
        .header("if-match", &format!("\"{etag}\""))
        .header("x-request-id", "profile-1")
        .send()
        .await;
    let now = changed.data();
    for field in ["displayName", "avatarUrl", "preferences"] {
        assert_eq!(now[field], wanted[field]);
    }
    assert_ne!(now["etag"], etag.as_str());
    assert_eq!(changed.header("etag"), format!("\"{}\"", now["etag"].as_str().unwrap()));
    for field in ["sub", "email", "plan", "status", "createTime"] {
        assert_eq!(now[field], seen.data()[field], "{field} is not the user's to change");
    }

    let late = change(&house, &alice, &json!({"displayName": "Late"})).header("if-match", &etag).send().await;
    late.refused(412, "PRECONDITION_FAILED");
    let never =
        change(&house, &alice, &json!({"displayName": "Late"})).header("if-match", "never").send().await;
    never.refused(412, "PRECONDITION_FAILED");

    let partly = change(&house, &alice, &json!({"preferences": {"theme": "", "emailNotices": false}}));
    let partly = partly.header("if-match", "*").send().await;
    let left = json!({"theme": "", "timezone": "Europe/Zurich", "locale": "de-CH", "emailNotices": false});
    assert_eq!(partly.data()["preferences"], left, "what is absent stays, what is empty is cleared");
    assert_eq!(partly.data()["displayName"], "Al");
    let cleared = change(&house, &alice, &json!({"displayName": "", "avatarUrl": ""})).send().await;
    assert_eq!(cleared.data()["displayName"], "Alice Example", "a cleared name falls back to the provider's");
    assert_eq!(cleared.data()["avatarUrl"], "");
    assert_eq!(house.call("GET", ME).by(&alice).send().await.data(), cleared.data());

    let rows = audited(&house, &root, "user.profile.updated", "profile-1").await;
    assert_eq!(rows.len(), 1, "one change, one row: {rows:?}");
    let claims = claims_of(&alice);
    let sub = &claims["sub"];
    assert_eq!(rows[0]["actor"], json!({"sub": sub, "service": "service:cloud/local", "impersonator": ""}));
    assert_eq!((&rows[0]["target"], &rows[0]["outcome"]), (sub, &json!("done")));
    assert_eq!(rows[0]["ip"], "127.0.0.1");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_with_a_change_is_said_field_by_field() {
    let house = House::up();
    let alice = house.token("alice");
    let before = house.call("GET", ME).by(&alice).send().await;
    let long = format!(r#"{{"displayName": "{}"}}"#, "x".repeat(101));
    let cases: [(&str, &[&str]); 15] = [
        (r#"{"displayNam": "x"}"#, &["update.displayNam"]),
        (r#"{"email": "x@example.com"}"#, &["update.email"]),
        (r#"{"displayName": 7}"#, &["update.displayName"]),
        (r#"{"displayName": "a", "displayName": "b"}"#, &["update.displayName"]),
        (r#"{"displayName": "a\u0007b"}"#, &["update.displayName"]),
        (long.as_str(), &["update.displayName"]),
        (r#"{"avatarUrl": "http://example.com/a.png"}"#, &["update.avatarUrl"]),
        (r#"{"preferences": {"theme": "red"}}"#, &["update.preferences.theme"]),
        (r#"{"preferences": {"timezone": "Mars/Base"}}"#, &["update.preferences.timezone"]),
        (r#"{"preferences": {"locale": "d"}}"#, &["update.preferences.locale"]),
        (r#"{"preferences": {"emailNotices": "yes"}}"#, &["update.preferences.emailNotices"]),
        (r#"{"preferences": {"colour": "red"}}"#, &["update.preferences.colour"]),
        (
            r#"{"displayName": "\u0007", "preferences": {"theme": "red"}}"#,
            &["update.displayName", "update.preferences.theme"],
        ),
        ("[]", &["update"]),
        ("{", &[""]),
    ];
    for (body, fields) in cases {
        let call = house.call("PATCH", ME).by(&alice).raw("application/json", body.to_owned());
        assert_eq!(call.send().await.wrong_fields(), fields, "{body}");
    }
    let query = house.call("GET", "/v1/users/me?colour=red").by(&alice).send().await;
    assert_eq!(query.wrong_fields(), ["colour"]);
    let after = house.call("GET", ME).by(&alice).send().await;
    assert_eq!(after.data(), before.data(), "nothing was changed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stranger_learns_nothing_and_every_refusal_has_its_status() {
    let house = House::up();
    let (alice, bob) = (house.token("alice"), house.token("bob"));
    house.call("GET", ME).send().await.refused(401, "AUTH_REQUIRED");
    let malformed = house.call("PATCH", ME).raw("application/json", "{".to_owned());
    malformed.send().await.refused(401, "AUTH_REQUIRED");
    house.call("GET", ME).by("forged").send().await.refused(401, "AUTH_INVALID");

    let bobs = format!("/api/internal/users/{}", claims_of(&bob)["sub"].as_str().unwrap());
    let own = house.call_at(Module::Admin, "GET", &bobs).by(&bob).send().await;
    assert_eq!(own.data()["email"], "bob@example.com");
    let anothers = house.call_at(Module::Admin, "GET", &bobs).by(&alice).send().await;
    let nobodys = house.call_at(Module::Admin, "GET", "/api/internal/users/1").by(&alice).send().await;
    let (anothers, nobodys) = (anothers.refused(404, "NOT_FOUND"), nobodys.refused(404, "NOT_FOUND"));
    let sub = bobs.rsplit('/').next().unwrap();
    assert_eq!(anothers["message"].as_str().unwrap().replace(sub, "1"), nobodys["message"]);
    let change = house.call_at(Module::Admin, "PATCH", &bobs).by(&alice).json(&json!({"displayName": "x"}));
    change.send().await.refused(404, "NOT_FOUND");
    assert_eq!(
        house.call_at(Module::Admin, "GET", &bobs).by(&bob).send().await.data()["displayName"],
        "Bob Example"
    );
    for path in [bobs.as_str(), "/api/internal/anything", "/v1/nothing"] {
        house.call("GET", path).by(&bob).send().await.refused(404, "NOT_FOUND");
    }

    let verb = house.call("DELETE", ME).by(&alice).send().await;
    verb.refused(405, "METHOD_NOT_ALLOWED");
    assert_eq!(verb.header("allow"), "GET, PATCH");
    let kind = house.call("PATCH", ME).by(&alice).raw("text/plain", "{}".to_owned()).send().await;
    kind.refused(415, "UNSUPPORTED_MEDIA_TYPE");
    // The answer comes before the body does: so no client can be too busy sending to read it.
    let head = format!(
        "PATCH {ME} HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {alice}\r\nconnection: close\r\n\
         content-type: application/json\r\ncontent-length: 1048577\r\n\r\n"
    );
    let large = house.raw(Module::Gateway, &head);
    assert!(large.starts_with("HTTP/1.1 413 "), "{large}");
    assert!(large.contains(r#""code":"PAYLOAD_TOO_LARGE""#), "{large}");
    assert!(large.contains(r#""limitBytes":"1048576""#), "{large}");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_request_is_named_and_counted_by_caller() {
    let house = House::up();
    let (alice, bob) = (house.token("alice"), house.token("bob"));
    let named = house.call("GET", ME).by(&alice).header("x-request-id", "Mine-1.a_b").send().await;
    assert_eq!(named.header("x-request-id"), "Mine-1.a_b");
    let unnamed = house.call("GET", ME).by(&alice).header("x-request-id", "not well formed").send().await;
    assert!(unnamed.header("x-request-id").starts_with("req_"), "{:?}", unnamed.headers);
    let left = |answer: &Answer| answer.header("x-ratelimit-remaining").parse::<u32>().unwrap();
    assert_eq!(left(&named), left(&unnamed) + 1);
    for (token, limit) in [(&alice, "100"), (&bob, "500")] {
        let counted = house.call_at(Module::Admin, "GET", "/v1/whoami").by(token).send().await;
        assert_eq!(counted.header("x-ratelimit-limit"), limit);
        assert_eq!(counted.header("ratelimit-policy"), format!("\"minute\";q={limit};w=60"));
        assert!((1..=60).contains(&counted.header("x-ratelimit-reset").parse::<u64>().unwrap()));
        assert!(counted.header("ratelimit").starts_with("\"minute\";r="));
    }

    let mut last = house.call_at(Module::Admin, "GET", "/v1/whoami").by(&alice).send().await;
    for _ in 0..100 {
        if last.status != 200 {
            break;
        }
        last = house.call_at(Module::Admin, "GET", "/v1/whoami").by(&alice).send().await;
    }
    last.refused(429, "RATE_LIMITED");
    assert_eq!(last.header("x-ratelimit-remaining"), "0");
    assert!((1..=60).contains(&last.header("retry-after").parse::<u64>().unwrap()));
    let others = house.call_at(Module::Admin, "GET", "/v1/whoami").by(&bob).send().await;
    assert_eq!(others.status, 200, "others are not held up");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_calls_work_by_grpcurl_at_clouds_own_port() {
    const GET: &str = "kombify.cloud.v1.ProfileService/GetProfile";
    const UPDATE: &str = "kombify.cloud.v1.ProfileService/UpdateProfile";
    let house = House::up();
    let alice = house.token("alice");
    for (module, theme) in [(Module::Cloud, "light"), (Module::Gateway, "dark")] {
        let seen = house.rpc(module, Some(&alice), GET, &json!({})).json();
        assert_eq!(seen["data"], *house.call("GET", ME).by(&alice).send().await.data());
        let etag = seen["data"]["etag"].as_str().unwrap();
        let message = json!({"update": {"preferences": {"theme": theme}}, "etag": etag});
        let changed = house.rpc(module, Some(&alice), UPDATE, &message).json();
        assert_eq!(changed["data"]["preferences"]["theme"], theme);
        assert_ne!(changed["data"]["etag"], etag);
        house.rpc(module, Some(&alice), UPDATE, &message).refused(9, "FailedPrecondition");
        let wrong = json!({"update": {"preferences": {"theme": "red"}}});
        house.rpc(module, Some(&alice), UPDATE, &wrong).refused(3, "update.preferences.theme");
        house.rpc(module, Some(&alice), UPDATE, &json!({})).refused(3, "update");
        house.rpc(module, None, GET, &json!({})).refused(16, "Unauthenticated");
        house.rpc(module, Some("forged"), GET, &json!({})).refused(16, "Unauthenticated");
    }
    let another = json!({"sub": "1"});
    let user = house.rpc(Module::Admin, Some(&alice), "kombify.users.v1.UserService/GetUser", &another);
    user.refused(5, "NotFound");
}
