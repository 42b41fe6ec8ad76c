//! The keys of one source: cached, refetched, and never trusted beyond what the source still publishes.

use std::sync::Arc;
use std::time::Duration;

use jsonwebtoken::Algorithm;
use kombify_core::Code;
use kombify_mesh::identity::keys::{Intervals, KeySet, REFRESH_INTERVAL, UNKNOWN_KEY_INTERVAL};
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::advance;
use tokio_util::sync::CancellationToken;

use crate::mint::{House, Key, Source, base64, changed, without};
use crate::support::{code, service};

fn key_set(source: &Source) -> Arc<KeySet> {
    Arc::new(KeySet::new(source.clone(), Intervals::default()))
}

/// Why there is no key of that id; `None` where there is one.
async fn missing(keys: &KeySet, kid: &str) -> Option<Code> {
    keys.get(kid).await.err().map(|fault| fault.code())
}

/// What the identity room says of a token by that key.
async fn said(house: &House, key: &Key) -> Option<Code> {
    let credential = format!("Bearer {}", key.token(&house.claims()));
    let (response, _) = house.call(&[("authorization", credential.as_str())]).await;
    code(&response)
}

#[tokio::test]
async fn a_key_is_good_from_its_publication_until_it_is_dropped() {
    let house = House::new();
    let next = Key::ed("issuer-2");
    assert_eq!(said(&house, &house.key).await, None);
    assert_eq!(said(&house, &next).await, Some(Code::AuthInvalid));

    house.issuer.publish(&[&house.key, &next]);
    house.issuer_keys.refresh().await.unwrap();
    assert_eq!((said(&house, &house.key).await, said(&house, &next).await), (None, None));

    house.issuer.publish(&[&next]);
    house.issuer_keys.refresh().await.unwrap();
    assert_eq!((said(&house, &house.key).await, said(&house, &next).await), (Some(Code::AuthInvalid), None));
}

#[tokio::test(start_paused = true)]
async fn an_unknown_key_id_makes_us_ask_at_most_once_in_a_while() {
    let source = Source::default();
    let (first, next) = (Key::ed("first"), Key::ed("next"));
    source.publish(&[&first]);
    let keys = key_set(&source);
    keys.refresh().await.unwrap();

    assert_eq!(missing(&keys, "next").await, Some(Code::AuthInvalid));
    assert_eq!(source.fetches(), 2);
    source.publish(&[&first, &next]);
    for kid in ["next", "other", "next"] {
        assert_eq!(missing(&keys, kid).await, Some(Code::AuthInvalid), "{kid}");
    }
    advance(UNKNOWN_KEY_INTERVAL.checked_sub(Duration::from_millis(1)).unwrap()).await;
    assert_eq!(missing(&keys, "next").await, Some(Code::AuthInvalid));
    assert_eq!(source.fetches(), 2);

    advance(Duration::from_millis(1)).await;
    assert_eq!(missing(&keys, "next").await, None);
    assert_eq!(source.fetches(), 3);
    assert_eq!(missing(&keys, "first").await, None);
    assert_eq!(source.fetches(), 3, "a known key is not asked for");
}

#[tokio::test]
async fn those_who_ask_at_the_same_time_ask_once() {
    let source = Source::default();
    source.publish(&[&Key::ed("published")]);
    let keys = key_set(&source);
    let mut asking = JoinSet::new();
    for asker in 0..32 {
        let keys = Arc::clone(&keys);
        let kid = if asker % 2 == 0 { "published".to_owned() } else { format!("unknown-{asker}") };
        asking.spawn(async move { (asker, missing(&keys, &kid).await) });
    }
    for (asker, missing) in asking.join_all().await {
        assert_eq!(missing, (asker % 2 == 1).then_some(Code::AuthInvalid), "{asker}");
    }
    assert_eq!(source.fetches(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_source_that_fails_takes_no_known_key_away() {
    let source = Source::default();
    source.publish(&[&Key::ed("known")]);
    let keys = key_set(&source);
    keys.refresh().await.unwrap();

    source.fail(true);
    assert_eq!(keys.refresh().await.unwrap_err().code(), Code::ServiceUnavailable);
    advance(Duration::from_hours(1)).await;
    assert!(keys.known("known").is_some());
    assert_eq!(missing(&keys, "known").await, None);
    assert_eq!(
        missing(&keys, "other").await,
        Some(Code::AuthInvalid),
        "what the source once said still counts"
    );
}

#[tokio::test(start_paused = true)]
async fn where_nothing_is_known_yet_the_caller_is_told_to_come_back() {
    let source = Source::default();
    source.publish(&[&Key::ed("published")]);
    source.fail(true);
    let keys = key_set(&source);
    for _ in 0..10 {
        assert_eq!(missing(&keys, "published").await, Some(Code::ServiceUnavailable));
    }
    assert_eq!(source.fetches(), 1, "a source that fails is left alone for a while");

    source.fail(false);
    assert_eq!(missing(&keys, "published").await, Some(Code::ServiceUnavailable));
    advance(Duration::from_secs(1)).await;
    assert_eq!(
        missing(&keys, "published").await,
        None,
        "a failure is no reason to wait as for an unknown key"
    );
    assert_eq!(source.fetches(), 2);
}

#[tokio::test(start_paused = true)]
async fn keys_are_refetched_until_it_ends() {
    let source = Source::default();
    let keys = key_set(&source);
    let (cancel, running) = (CancellationToken::new(), Arc::clone(&keys));
    let until = cancel.clone();
    let mut tasks = JoinSet::new();
    tasks.spawn(async move { running.run(until).await });
    tokio::time::sleep(REFRESH_INTERVAL / 2).await;
    assert_eq!((source.fetches(), keys.known("late").is_some()), (1, false));

    source.publish(&[&Key::ed("late")]);
    source.fail(true);
    tokio::time::sleep(REFRESH_INTERVAL).await;
    assert_eq!((source.fetches(), keys.known("late").is_some()), (2, false), "a failure does not end it");
    source.fail(false);
    tokio::time::sleep(REFRESH_INTERVAL).await;
    assert_eq!((source.fetches(), keys.known("late").is_some()), (3, true));

    cancel.cancel();
    tasks.join_next().await.unwrap().unwrap();
}

#[tokio::test]
async fn a_key_verifies_by_its_own_algorithm_and_for_its_own_service() {
    let source = Source::default();
    let keys = key_set(&source);
    for (key, algorithm) in [
        (Key::rs256("rsa"), Algorithm::RS256),
        (Key::es256("ec"), Algorithm::ES256),
        (Key::ed("ed"), Algorithm::EdDSA),
    ] {
        let silent = without(without(key.jwk.clone(), "alg"), "use");
        for (jwk, owner) in [(key.jwk.clone(), None), (silent, Some(service("cloud")))] {
            source.publish_all(vec![(jwk, owner.clone())]);
            keys.refresh().await.unwrap();
            let known = keys.known(&key.kid).unwrap();
            assert_eq!((known.algorithm, &known.owner), (algorithm, &owner));
        }
    }
}

#[tokio::test]
async fn keys_that_do_not_verify_tokens_are_passed_over() {
    let source = Source::default();
    let keys = key_set(&source);
    let (rsa, ec, ed) = (Key::rs256("rsa"), Key::es256("ec"), Key::ed("ed"));
    let of = |key: &Key, name: &str, value: Value| changed(key.jwk.clone(), name, value);
    let p384 =
        json!({"kty": "EC", "crv": "P-384", "x": base64(&[1; 48]), "y": base64(&[2; 48]), "kid": "p384"});
    let jwks = vec![
        of(&rsa, "use", json!("enc")),
        of(&ed, "use", json!("enc")),
        of(&rsa, "alg", json!("RS512")),
        of(&rsa, "alg", json!("PS256")),
        of(&rsa, "alg", json!("RSA-OAEP")),
        of(&rsa, "alg", json!("HS256")),
        of(&ec, "alg", json!("RS256")),
        of(&ec, "alg", json!("ES384")),
        of(&ed, "alg", json!("ES256")),
        of(&rsa, "n", json!("not base64url!")),
        of(&ed, "x", json!("not base64url!")),
        p384,
        json!({"kty": "oct", "k": base64(b"a secret that everybody may read"), "kid": "oct", "alg": "HS256"}),
        json!({"kty": "OKP", "crv": "X25519", "x": base64(&[3; 32]), "kid": "x25519"}),
        json!({"kty": "future", "kid": "future", "pub": "x"}),
        without(ed.jwk.clone(), "kid"),
        of(&ed, "kid", json!("")),
        of(&ed, "kid", json!("x".repeat(201))),
    ];
    let good = Key::ed("good");
    for jwk in jwks {
        let kid = jwk["kid"].as_str().unwrap_or_default().to_owned();
        source.publish_all(vec![(jwk.clone(), None), (good.jwk.clone(), None)]);
        keys.refresh().await.unwrap();
        assert!(keys.known(&kid).is_none(), "{jwk}");
        assert!(keys.known("good").is_some(), "{jwk}");
    }
}
