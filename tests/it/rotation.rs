//! The issuer's keys change under running callers, by all three algorithms, and no call fails.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;

use crate::house::{House, Module};

/// How long a rotation may take to be seen in new tokens.
const PATIENCE: Duration = Duration::from_secs(20);

/// The algorithm and the key id that a token's header names.
fn header_of(token: &str) -> (String, String) {
    let header = jsonwebtoken::decode_header(token).unwrap();
    (format!("{:?}", header.alg), header.kid.unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_rotate_through_all_three_algorithms_without_one_failed_call() {
    // Tokens of a minute are refreshed by every `kombify token`; keys are published two seconds before they sign.
    let mut house = House::fresh()
        .with_env("KOMBIFY__IDP__ACCESS_TOKEN_SECONDS", "60")
        .with_env("KOMBIFY__IDP__PUBLISH_AHEAD_SECONDS", "2")
        .with_env("KOMBIFY__KEYS__REFRESH_SECONDS", "1");
    house.start();
    let house = Arc::new(house);
    let old = house.token("carol");
    let (stop, calls) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let caller = tokio::task::spawn_blocking({
        let (house, stop, calls, old) =
            (Arc::clone(&house), Arc::clone(&stop), Arc::clone(&calls), old.clone());
        let runtime = tokio::runtime::Handle::current();
        move || {
            let mut keys = BTreeSet::new();
            while !stop.load(Ordering::Relaxed) {
                let new = house.token("carol");
                keys.insert(header_of(&new));
                for token in [&new, &old] {
                    for module in [Module::Gateway, Module::Admin, Module::Cloud] {
                        let answer =
                            runtime.block_on(house.call_at(module, "GET", "/v1/whoami").by(token).send());
                        assert_eq!(answer.status, 200, "{module:?} after {keys:?}: {answer:?}");
                        calls.fetch_add(1, Ordering::Relaxed);
                    }
                }
                std::thread::sleep(Duration::from_millis(100));
            }
            keys
        }
    });
    for alg in ["ES256", "EdDSA", "RS256"] {
        let root = house.token("root");
        let rotated =
            house.call_at(Module::Idp, "POST", "/keys:rotate").by(&root).json(&json!({"alg": alg})).send();
        let rotated = rotated.await;
        assert_eq!(rotated.status, 200, "{rotated:?}");
        let kid = rotated.json["kid"].as_str().unwrap().to_owned();
        let begun = Instant::now();
        loop {
            let header = header_of(&house.token("root"));
            if header == (alg.to_owned(), kid.clone()) {
                break;
            }
            assert!(begun.elapsed() < PATIENCE, "tokens are still signed by {header:?}");
            assert!(!caller.is_finished(), "a call failed");
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        // The callers get to see it, too.
        tokio::time::sleep(Duration::from_secs(2)).await;
    }
    stop.store(true, Ordering::Relaxed);
    let keys = caller.await.unwrap();
    let algorithms: BTreeSet<_> = keys.iter().map(|(alg, _)| alg.as_str()).collect();
    assert_eq!(algorithms, BTreeSet::from(["ES256", "EdDSA", "RS256"]));
    assert_eq!(keys.len(), 4, "the first key and three more: {keys:?}");
    assert!(calls.load(Ordering::Relaxed) > 50);
}

#[tokio::test(flavor = "multi_thread")]
async fn only_an_admin_rotates_keys() {
    let house = House::up();
    let rotate = |token: Option<String>| {
        let call = house.call_at(Module::Idp, "POST", "/keys:rotate").json(&json!({"alg": "ES256"}));
        match token {
            Some(token) => call.by(&token),
            None => call,
        }
    };
    assert_eq!(rotate(None).send().await.status, 401);
    assert_eq!(rotate(Some(house.token("alice"))).send().await.status, 403);
    assert_eq!(rotate(Some(house.token("root"))).send().await.status, 200);
}
