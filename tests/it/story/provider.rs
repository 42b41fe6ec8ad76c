//! The development identity provider dies in the middle of its own writes: afterwards people sign in as before.

use std::os::unix::process::ExitStatusExt as _;

use serde_json::json;
use tokio::task::JoinSet;

use super::{failpoints, whoami};
use crate::browser::{Account, sign_up};
use crate::house::{House, Module};

/// The signal that ends a process which aborts.
const SIGABRT: i32 = 6;

/// A mesh that was up once, whose tokens last so short that each `kombify token` refreshes.
fn house() -> House {
    let mut house = House::fresh().with_env("KOMBIFY__IDP__ACCESS_TOKEN_SECONDS", "60");
    house.start();
    house
}

/// Starts `house` so that it dies at `write`.
fn arm(house: &mut House, write: &str, moment: &str) {
    assert!(house.terminate().success());
    let failpoint = format!("{write}:{moment}");
    house.start_with(&[("KOMBIFY_FAILPOINT", failpoint.as_str())]);
}

/// The mesh has died as it was told to; it is started again, and alice, whoever she was to the dead one, signs in.
async fn goes_on(house: &mut House, write: &str, moment: &str) {
    let status = house.wait_for_its_end();
    assert_eq!(status.signal(), Some(SIGABRT), "{write}:{moment}");
    house.start();
    let token = house.token("alice");
    let seen = whoami(house, Module::Gateway, &token).await;
    assert_eq!(seen["email"], "alice@example.com", "{write}:{moment}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sign_in_that_dies_at_any_write_is_made_again() {
    failpoints::needed();
    for write in ["idp.request.add", "idp.session.begin", "idp.code.redeem"] {
        for moment in ["before-commit", "after-commit"] {
            let mut house = house();
            arm(&mut house, write, moment);
            assert!(!house.run(&["token", "alice"], &[]).status.success(), "{write}:{moment}");
            goes_on(&mut house, write, moment).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refresh_that_dies_costs_a_new_sign_in_at_most() {
    failpoints::needed();
    for moment in ["before-commit", "after-commit"] {
        let mut house = house();
        house.token("alice");
        arm(&mut house, "idp.grant.refresh", moment);
        assert!(!house.run(&["token", "alice"], &[]).status.success(), "{moment}");
        goes_on(&mut house, "idp.grant.refresh", moment).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_signs_up_while_it_dies_has_an_account_or_has_none() {
    failpoints::needed();
    for (moment, is_there) in [("before-commit", false), ("after-commit", true)] {
        let mut house = house();
        arm(&mut house, "idp.user.add", moment);
        let account = Account::of("dora");
        let url = house.url(Module::Idp).to_owned();
        let mut signing_up = JoinSet::new();
        signing_up.spawn(async move { sign_up(&url, &Account::of("dora")).await.sub });
        let tried = signing_up.join_next().await.unwrap();
        assert!(tried.is_err(), "{moment}: nobody signs up at a dead provider");
        goes_on(&mut house, "idp.user.add", moment).await;
        if !is_there {
            sign_up(house.url(Module::Idp), &account).await;
        }
        let signed_in =
            house.run(&["token", &account.email], &[("KOMBIFY_PASSWORD", account.password.as_str())]);
        assert!(signed_in.status.success(), "{moment}: {}", String::from_utf8_lossy(&signed_in.stderr));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rotation_that_dies_leaves_keys_that_verify() {
    failpoints::needed();
    for moment in ["before-commit", "after-commit"] {
        let mut house = house();
        let (old, root) = (house.token("alice"), house.token("root"));
        arm(&mut house, "idp.key.rotate", moment);
        let rotate =
            house.call_at(Module::Idp, "POST", "/keys:rotate").by(&root).json(&json!({"alg": "ES256"}));
        assert!(rotate.try_send().await.is_err(), "{moment}");
        goes_on(&mut house, "idp.key.rotate", moment).await;
        let seen = whoami(&house, Module::Gateway, &old).await;
        assert_eq!(seen["email"], "alice@example.com", "{moment}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_key_is_made_whatever_the_first_start_dies_in() {
    failpoints::needed();
    for moment in ["before-commit", "after-commit"] {
        let mut house = House::fresh();
        let status =
            house.start_to_its_end(&[("KOMBIFY_FAILPOINT", format!("idp.key.first:{moment}").as_str())]);
        assert_eq!(status.signal(), Some(SIGABRT), "{moment}");
        house.start();
        let seen = whoami(&house, Module::Gateway, &house.token("alice")).await;
        assert_eq!(seen["email"], "alice@example.com", "{moment}");
    }
}
