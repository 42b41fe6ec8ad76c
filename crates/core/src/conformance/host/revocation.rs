//! What must hold for the revocations that are pushed.

use super::super::{CLOCK, change, held, seconds, sub};
use super::{Keep, hours, new_session};
use crate::placed::{Basis, Held, Push};
use crate::revocation::{KEPT_HOURS, Revocation, UserRevocation};
use crate::{Change, Clock as _, TenantRole};

const WHOLE: Basis = Basis::Snapshot { page: 1, last: true };

fn revoked(who: &str, time: jiff::Timestamp, locked: bool) -> UserRevocation {
    UserRevocation { sub: sub(who), revocation: Revocation { time, locked } }
}

async fn push(keep: &Keep, version: u32, basis: Basis, items: &[UserRevocation]) -> Held {
    let push = Push { version, basis, items: items.to_vec() };
    keep.host().apply_revocations(&change("revocations.applied"), &push).await.unwrap()
}

async fn known(keep: &Keep, who: &str) -> bool {
    keep.host().revocation(&sub(who)).await.unwrap().is_some()
}

/// A session whose sign-in counts no more is gone; those of others, and later ones, stay.
pub async fn a_revocation_ends_the_sessions_of_before(keep: &Keep) {
    let tenant = keep.place("home").await.id;
    for who in ["ann", "bob"] {
        keep.join(tenant, who, TenantRole::Member).await;
    }
    let time = CLOCK.now();
    let mut sessions = Vec::new();
    for (who, signed_in, stays) in
        [("ann", -3600, false), ("ann", -1, false), ("ann", 0, false), ("ann", 1, true), ("bob", -3600, true)]
    {
        let session = new_session(tenant, who, seconds(time, signed_in));
        keep.host().open_session(&change("user.login"), &session).await.unwrap();
        sessions.push((session, stays));
    }
    let half = time + jiff::SignedDuration::from_millis(500);
    assert_eq!(push(keep, 1, WHOLE, &[revoked("ann", half, false)]).await, held(1));
    for (session, stays) in sessions {
        assert_eq!(keep.is_open(&session).await, stays, "{} {}", session.sub, session.auth_time);
        let revocation = keep.host().revocation(&session.sub).await.unwrap();
        let counts = revocation.is_none_or(|revocation| revocation.check(session.auth_time).is_ok());
        assert_eq!(counts, stays, "the session and the revocation agree");
    }
    let known = keep.host().revocation(&sub("ann")).await.unwrap();
    assert_eq!(known, Some(Revocation { time: half, locked: false }));
    assert_eq!(keep.host().revocation(&sub("bob")).await.unwrap(), None);
}

/// Who is locked has no session, whenever it began; the end of the lock brings none back.
pub async fn a_lock_ends_every_session(keep: &Keep) {
    let tenant = keep.place("home").await.id;
    keep.join(tenant, "ann", TenantRole::Member).await;
    let session = keep.session(tenant, "ann").await;
    let before = seconds(session.auth_time, -60);
    push(keep, 1, WHOLE, &[revoked("ann", before, true)]).await;
    assert!(!keep.is_open(&session).await);
    push(keep, 2, Basis::Change { base_version: 1 }, &[revoked("ann", before, false)]).await;
    assert!(!keep.is_open(&session).await);
    let known = keep.host().revocation(&sub("ann")).await.unwrap();
    assert_eq!(known, Some(Revocation { time: before, locked: false }));
}

/// A push takes away what is older than the longest session; a lock stays.
pub async fn what_does_not_matter_any_more_goes(keep: &Keep) {
    let time = CLOCK.now();
    push(keep, 1, WHOLE, &[revoked("ann", time, false), revoked("bob", time, true)]).await;
    let late = |version, now| {
        let basis = Basis::Change { base_version: version - 1 };
        let push = Push { version, basis, items: Vec::new() };
        let change = Change { time: now, ..change("revocations.applied") };
        async move { keep.host().apply_revocations(&change, &push).await.unwrap() }
    };
    late(2, seconds(hours(time, KEPT_HOURS), -1)).await;
    assert!(known(keep, "ann").await);
    late(3, hours(time, KEPT_HOURS)).await;
    assert!(!known(keep, "ann").await);
    assert!(known(keep, "bob").await);
}

/// As for tenants, and with a version of its own.
pub async fn revocations_are_applied_in_order(keep: &Keep) {
    let time = CLOCK.now();
    let on = |base_version| Basis::Change { base_version };
    let needs = |version| Held { snapshot_needed: true, ..held(version) };
    assert_eq!(push(keep, 3, on(2), &[revoked("ann", time, false)]).await, needs(0));
    assert!(!known(keep, "ann").await);
    assert_eq!(push(keep, 3, WHOLE, &[revoked("ann", time, false)]).await, held(3));
    assert_eq!(push(keep, 5, on(4), &[revoked("bob", time, false)]).await, needs(3));
    assert_eq!(push(keep, 3, on(2), &[revoked("bob", time, false)]).await, held(3));
    assert!(!known(keep, "bob").await);
    assert_eq!(push(keep, 5, on(3), &[revoked("bob", time, false)]).await, held(5));
    assert!(known(keep, "ann").await && known(keep, "bob").await);
    assert_eq!(keep.host().held_tenants().await.unwrap(), None);
}

/// What is in no page of a snapshot is not revoked.
pub async fn a_snapshot_of_revocations_brings_all_there_are(keep: &Keep) {
    let time = CLOCK.now();
    let page = |page, last| Basis::Snapshot { page, last };
    push(keep, 1, WHOLE, &[revoked("ann", time, true), revoked("bob", time, false)]).await;
    assert_eq!(push(keep, 4, page(1, false), &[revoked("bob", time, false)]).await, held(1));
    assert!(known(keep, "ann").await);
    assert_eq!(push(keep, 4, page(2, true), &[revoked("cy", time, false)]).await, held(4));
    assert!(!known(keep, "ann").await);
    assert!(known(keep, "bob").await && known(keep, "cy").await);
}
