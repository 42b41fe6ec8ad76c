//! What must hold for launch codes.

use std::collections::BTreeSet;

use super::{CLOCK, IDS, Pair, change, code, instance_id, org, scope, seconds, sighting, sub};
use crate::launch::{Destination, LAUNCH_SECONDS, Launch, LaunchRefusal, LaunchStore, NewLaunch, Sha256};
use crate::tenant::TenantMove;
use crate::user::UserPatch;
use crate::{Change, Clock as _, Code, Error, Ids as _, InstanceId, Result, TenantId};

/// A code of its own hash, for `who`, without a challenge, good from now on.
pub(super) fn new_launch(who: &str, hash: u8) -> NewLaunch {
    let now = CLOCK.now();
    NewLaunch {
        hash: [hash; 32],
        sub: sub(who),
        owner: org("org-1"),
        roles: BTreeSet::from(["subscriber_pro".to_owned(), "admin".to_owned()]),
        challenge: None,
        instance: None,
        auth_time: now,
        // Other cases of the suite take seconds off the clock meanwhile.
        expire_time: seconds(now, 86_400),
    }
}

async fn issue(pair: &Pair, tenant: TenantId, launch: &NewLaunch) -> Result<Destination> {
    pair.launches().issue(scope(tenant), &change("launch.code.issued"), launch).await
}

async fn redeem(pair: &Pair, hash: u8, instance: InstanceId, challenge: Option<&Sha256>) -> Result<Launch> {
    redeem_at(pair, hash, instance, challenge, change("launch.code.redeemed")).await
}

async fn redeem_at(
    pair: &Pair,
    hash: u8,
    instance: InstanceId,
    challenge: Option<&Sha256>,
    change: Change,
) -> Result<Launch> {
    LaunchStore::redeem(&*pair.b, &change, &[hash; 32], instance, challenge).await
}

fn refused(result: Result<Launch>, expected: LaunchRefusal) {
    let fault = result.unwrap_err();
    assert_eq!(fault.code(), Code::AuthInvalid);
    assert_eq!(fault.to_string(), Error::from(expected).to_string());
}

async fn open_tenant(pair: &Pair) -> (TenantId, InstanceId) {
    let instance = pair.register("one", "eu", 10).await.id;
    let tenant = pair.create("home", "org-1").await.id;
    pair.take_all(instance).await;
    (tenant, instance)
}

/// A code leads to the tenant's instance, and gives there, once, all that it was issued with. Both are in the log, a
/// refusal is not.
pub async fn a_code_lets_its_user_in_once(pair: &Pair) {
    let (tenant, instance) = open_tenant(pair).await;
    let launch = NewLaunch { challenge: Some([9; 32]), ..new_launch("ann", 1) };
    let destination = issue(pair, tenant, &launch).await.unwrap();
    assert_eq!(destination, Destination { instance, public_endpoint: "https://one.example".into() });
    let redeemed = redeem(pair, 1, instance, Some(&[9; 32])).await.unwrap();
    let NewLaunch { sub, owner, roles, auth_time, .. } = launch;
    let expected = Launch { tenant, sub, owner, roles, email: String::new(), name: String::new(), auth_time };
    assert_eq!(redeemed, expected);
    refused(redeem(pair, 1, instance, Some(&[9; 32])).await, LaunchRefusal::Used);
    for action in ["launch.code.issued", "launch.code.redeemed"] {
        let rows = pair.rows_of(action).await;
        let targets: Vec<_> = rows.iter().map(|row| (row.target.clone(), row.tenant)).collect();
        assert_eq!(targets, [(tenant.to_string(), Some(tenant))], "{action}");
    }
}

/// Where more than one thing is wrong, the plainest is said; and what is refused for it stays good for who is right.
pub async fn a_code_is_refused_for_the_plainest_reason(pair: &Pair) {
    let (tenant, instance) = open_tenant(pair).await;
    let (elsewhere, browser, other) = (instance_id(), [9; 32], [8; 32]);
    refused(redeem(pair, 1, elsewhere, None).await, LaunchRefusal::Unknown);
    let launch = NewLaunch { challenge: Some(browser), ..new_launch("ann", 1) };
    issue(pair, tenant, &launch).await.unwrap();
    issue(pair, tenant, &new_launch("ann", 2)).await.unwrap();
    refused(redeem(pair, 1, elsewhere, Some(&other)).await, LaunchRefusal::OtherInstance);
    refused(redeem(pair, 1, instance, Some(&other)).await, LaunchRefusal::OtherChallenge);
    refused(redeem(pair, 1, instance, None).await, LaunchRefusal::OtherChallenge);
    refused(redeem(pair, 2, instance, Some(&browser)).await, LaunchRefusal::OtherChallenge);
    let late = || Change { time: seconds(launch.expire_time, 1), ..change("launch.code.redeemed") };
    refused(redeem_at(pair, 1, elsewhere, Some(&other), late()).await, LaunchRefusal::Expired);
    redeem(pair, 1, instance, Some(&browser)).await.unwrap();
    redeem(pair, 2, instance, None).await.unwrap();
    refused(redeem_at(pair, 1, elsewhere, Some(&other), late()).await, LaunchRefusal::Used);
}

/// A code is good up to its end, and not at it.
pub async fn a_code_expires_at_its_time_and_not_before(pair: &Pair) {
    let (tenant, instance) = open_tenant(pair).await;
    for (hash, late_by, good) in [(1, -1, true), (2, 0, false)] {
        let launch = new_launch("ann", hash);
        let launch = NewLaunch { expire_time: seconds(launch.auth_time, LAUNCH_SECONDS), ..launch };
        issue(pair, tenant, &launch).await.unwrap();
        let time = seconds(launch.expire_time, late_by);
        let redeem = Change { time, ..change("launch.code.redeemed") };
        let result = redeem_at(pair, hash, instance, None, redeem).await;
        if good {
            result.unwrap();
        } else {
            refused(result, LaunchRefusal::Expired);
        }
    }
}

/// Whoever was locked or signed out since the sign-in is refused, and the code is used up with that.
pub async fn a_code_of_a_user_who_was_locked_or_signed_out_is_used_up(pair: &Pair) {
    let (tenant, instance) = open_tenant(pair).await;
    for who in ["ann", "bob", "cy"] {
        pair.sight(&sighting(who, "org-1", 100)).await;
    }
    for (hash, who) in [(1, "ann"), (2, "bob"), (3, "cy")] {
        issue(pair, tenant, &new_launch(who, hash)).await.unwrap();
    }
    pair.users().set_lock(&change("user.locked"), &sub("ann"), true, "").await.unwrap();
    let out = change("user.logout");
    pair.users().revoke(&out, &sub("bob"), out.time).await.unwrap();
    for hash in [1, 2] {
        refused(redeem(pair, hash, instance, None).await, LaunchRefusal::Revoked);
        refused(redeem(pair, hash, instance, None).await, LaunchRefusal::Used);
    }
    redeem(pair, 3, instance, None).await.unwrap();
    issue(pair, tenant, &new_launch("bob", 4)).await.unwrap(); // Signed in again since.
    redeem(pair, 4, instance, None).await.unwrap();
    assert_eq!(pair.rows_of("launch.code.redeemed").await.len(), 2);
}

/// A tenant that was suspended or deleted since lets nobody in.
pub async fn a_code_of_a_tenant_that_is_closed_is_refused(pair: &Pair) {
    let (tenant, instance) = open_tenant(pair).await;
    for hash in [1, 2, 3] {
        issue(pair, tenant, &new_launch("ann", hash)).await.unwrap();
    }
    pair.move_on(tenant, TenantMove::Suspend).await;
    assert_eq!(code(redeem(pair, 1, instance, None).await), Code::TenantSuspended);
    pair.move_on(tenant, TenantMove::Delete).await;
    assert_eq!(code(redeem(pair, 2, instance, None).await), Code::NotFound);
    pair.move_on(tenant, TenantMove::Undelete).await;
    pair.move_on(tenant, TenantMove::Resume).await;
    redeem(pair, 3, instance, None).await.unwrap();
}

/// There is no code for a tenant that is closed or not there, nor for another instance than the tenant's own.
pub async fn a_code_is_issued_for_an_open_tenant_and_its_own_instance(pair: &Pair) {
    let (tenant, instance) = open_tenant(pair).await;
    let elsewhere = NewLaunch { instance: Some(instance_id()), ..new_launch("ann", 1) };
    assert_eq!(code(issue(pair, tenant, &elsewhere).await), Code::PreconditionFailed);
    let here = NewLaunch { instance: Some(instance), ..new_launch("ann", 2) };
    assert_eq!(issue(pair, tenant, &here).await.unwrap().instance, instance);
    let stranger = IDS.tenant(CLOCK.now());
    assert_eq!(code(issue(pair, stranger, &new_launch("ann", 3)).await), Code::NotFound);
    pair.move_on(tenant, TenantMove::Suspend).await;
    assert_eq!(code(issue(pair, tenant, &new_launch("ann", 4)).await), Code::TenantSuspended);
    pair.move_on(tenant, TenantMove::Delete).await;
    assert_eq!(code(issue(pair, tenant, &new_launch("ann", 5)).await), Code::NotFound);
    assert_eq!(pair.rows_of("launch.code.issued").await.len(), 1);
}

/// For an hour behind its end, who comes late is told why; with the next code after that it is forgotten.
pub async fn codes_of_long_ago_go(pair: &Pair) {
    let (tenant, instance) = open_tenant(pair).await;
    let first = new_launch("ann", 1);
    issue(pair, tenant, &first).await.unwrap();
    for (hash, after, expected) in [(2, 3600, LaunchRefusal::Expired), (3, 3601, LaunchRefusal::Unknown)] {
        let time = seconds(first.expire_time, after);
        let later = NewLaunch { expire_time: seconds(time, 60), ..new_launch("ann", hash) };
        let issue = Change { time, ..change("launch.code.issued") };
        pair.launches().issue(scope(tenant), &issue, &later).await.unwrap();
        let redeem = Change { time, ..change("launch.code.redeemed") };
        refused(redeem_at(pair, 1, instance, None, redeem).await, expected);
    }
}

/// Who is mirrored is shown with address and name; what the user set here is stronger.
pub async fn a_redemption_shows_the_names_that_the_platform_mirrors(pair: &Pair) {
    let (tenant, instance) = open_tenant(pair).await;
    for hash in [1, 2] {
        issue(pair, tenant, &new_launch("ann", hash)).await.unwrap();
    }
    pair.sight(&sighting("ann", "org-1", 100)).await;
    let launch = redeem(pair, 1, instance, None).await.unwrap();
    assert_eq!((launch.email.as_str(), launch.name.as_str()), ("ann@example.org", "Name of ann"));
    let patch = UserPatch { display_name: Some("Annie".into()), ..UserPatch::default() };
    pair.users().update(&change("user.updated"), &sub("ann"), None, patch).await.unwrap();
    let launch = redeem(pair, 2, instance, None).await.unwrap();
    assert_eq!((launch.email.as_str(), launch.name.as_str()), ("ann@example.org", "Annie"));
}
