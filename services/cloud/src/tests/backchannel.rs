//! The issuer says that somebody has left: every fault of a token alone is refused.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use kombify_core::{Clock as _, Error};
use serde_json::{Value, json};

use super::house::{Answer, CLIENT_ID, House};
use super::issuer::{Key, SUB};

const EVENT: &str = "http://schemas.openid.net/event/backchannel-logout";

/// What a good token says.
fn claims(house: &House) -> Value {
    let now = house.clock.now().as_second();
    json!({
        "iss": house.issuer.url, "aud": CLIENT_ID, "sub": SUB, "iat": now, "exp": now + 120, "jti": "one",
        "sid": "s", "events": {EVENT: {}},
    })
}

fn sign(house: &House, claims: &Value) -> String {
    house.issuer.told().signs.sign(claims)
}

/// The issuer sends it: it is no browser, and no page of ours.
async fn send(house: &House, token: &str) -> Answer {
    house.browser().post_from(&[], "/backchannel-logout", &format!("logout_token={token}")).await
}

#[track_caller]
fn refused(answer: &Answer, status: u16, error: &str) {
    assert_eq!(answer.status, status, "{}", answer.body);
    let says: Value = serde_json::from_str(&answer.body).unwrap();
    assert_eq!(says["error"], error);
    assert!(says["error_description"].as_str().is_some_and(|text| !text.is_empty()), "{says}");
    assert_eq!(answer.header("cache-control"), "no-store");
}

#[tokio::test]
async fn whoever_leaves_at_the_issuer_is_revoked_at_admin_and_a_replay_changes_nothing() {
    let house = House::open().await;
    let at = house.clock.now().as_second();
    let token = sign(&house, &claims(&house));
    house.clock.advance(30);
    let answer = send(&house, &token).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    assert_eq!(answer.header("cache-control"), "no-store");
    let [call] = &house.admin.calls()[..] else { panic!("one call revokes") };
    assert_eq!((call.method, call.by_service, &*call.user_token), ("RevokeSessions", true, ""));
    assert!(call.asked.contains(SUB) && call.asked.contains(&format!("seconds: {at}")), "{call:?}");
    assert_eq!(send(&house, &token).await.status, 200);
    assert!(house.admin.calls().is_empty());

    let mut many = claims(&house);
    many["aud"] = json!(["another", CLIENT_ID]);
    assert_eq!(send(&house, &sign(&house, &many)).await.status, 200, "it may be for others, too");
    many["jti"] = "two".into();
    many.as_object_mut().unwrap().remove("exp");
    assert_eq!(send(&house, &sign(&house, &many)).await.status, 200, "it need not expire");
    assert_eq!(house.admin.calls().len(), 2);
}

#[tokio::test]
async fn every_fault_of_a_token_is_refused() {
    let house = House::open().await;
    let now = house.clock.now().as_second();
    for (name, wrong) in [
        ("iss", json!("https://evil.example")),
        ("iss", Value::Null),
        ("aud", json!("another-client")),
        ("aud", json!(["another-client"])),
        ("aud", Value::Null),
        ("sub", json!("")),
        ("sub", Value::Null),
        ("iat", json!(now - 661)),
        ("iat", json!(now + 61)),
        ("iat", json!("now")),
        ("iat", Value::Null),
        ("exp", json!(now - 60)),
        ("events", json!({})),
        ("events", json!({EVENT: true})),
        ("events", json!([EVENT])),
        ("events", Value::Null),
        ("nonce", json!("n")),
        ("nonce", json!("")),
    ] {
        let mut claims = claims(&house);
        claims[name] = wrong.clone();
        claims.as_object_mut().unwrap().retain(|_, value| !value.is_null());
        let answer = send(&house, &sign(&house, &claims)).await;
        assert_eq!(answer.status, 400, "{name}: {wrong}");
        refused(&answer, 400, "invalid_request");
    }
    assert!(house.admin.calls().is_empty());
    for (name, right) in [("iat", json!(now - 660)), ("iat", json!(now + 60)), ("exp", json!(now - 59))] {
        let mut claims = claims(&house);
        claims[name] = right.clone();
        assert_eq!(send(&house, &sign(&house, &claims)).await.status, 200, "{name}: {right}");
    }
}

#[tokio::test]
async fn a_token_that_the_issuer_did_not_sign_is_refused() {
    let house = House::open().await;
    let good = sign(&house, &claims(&house));
    let parts: Vec<_> = good.split('.').collect();
    let encode = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let mut others = claims(&house);
    others["sub"] = "somebody-else".into();
    let header = |header: Value| format!("{}.{}.{}", encode(&header), parts[1], parts[2]);
    for (what, token) in [
        ("nothing", String::new()),
        ("no token", "x".to_owned()),
        ("too long", "x".repeat(9000)),
        ("other claims under the signature", format!("{}.{}.{}", parts[0], encode(&others), parts[2])),
        ("no signature", format!("{}.{}.", parts[0], parts[1])),
        ("no algorithm", format!("{}.{}.", encode(&json!({"alg": "none", "kid": "first"})), parts[1])),
        ("another algorithm", header(json!({"alg": "HS256", "kid": "first"}))),
        ("no key named", header(json!({"alg": "EdDSA"}))),
        ("an extension", header(json!({"alg": "EdDSA", "kid": "first", "crit": ["x"], "x": 1}))),
        ("another key of that name", Key::new("first").sign(&claims(&house))),
        ("a key that nobody published", Key::new("unknown").sign(&claims(&house))),
    ] {
        let answer = send(&house, &token).await;
        assert_eq!(answer.status, 400, "{what}");
        refused(&answer, 400, "invalid_request");
    }
    let no_form = house.browser().post_from(&[], "/backchannel-logout", "").await;
    refused(&no_form, 400, "invalid_request");
    assert!(house.admin.calls().is_empty());
    assert_eq!(send(&house, &good).await.status, 200);
}

#[tokio::test]
async fn it_is_done_once_admin_has_it() {
    let house = House::open().await;
    let token = sign(&house, &claims(&house));
    house.admin.refuses("RevokeSessions", &Error::unavailable("not now", Duration::from_secs(1)));
    refused(&send(&house, &token).await, 503, "temporarily_unavailable");
    // The token held: what Admin has against Cloud is not the issuer's fault, which tries again.
    house.admin.refuses("RevokeSessions", &Error::AuthInvalid("its key is not known"));
    refused(&send(&house, &token).await, 500, "server_error");
    house.admin.told().fault = None;
    house.admin.calls();
    assert_eq!(send(&house, &token).await.status, 200);
    assert_eq!(house.admin.calls().len(), 1, "what failed was no replay");
    // Whom the platform never saw has no session to end.
    house.admin.refuses("RevokeSessions", &Error::not_found("user", SUB));
    let mut stranger = claims(&house);
    stranger["sub"] = "never-seen".into();
    assert_eq!(send(&house, &sign(&house, &stranger)).await.status, 200);
}

#[tokio::test]
async fn without_the_issuers_keys_nothing_is_decided() {
    let house = House::open().await;
    house.issuer.told().is_away = true;
    let token = sign(&house, &claims(&house));
    refused(&send(&house, &token).await, 503, "temporarily_unavailable");
    assert!(house.admin.calls().is_empty());
}
