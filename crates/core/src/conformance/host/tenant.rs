//! What must hold for the tenants that are pushed.

use std::slice;

use super::super::{CLOCK, change, code, held, instance_id, scope, seconds, sub};
use super::{Keep, far, founder, new_invitation, new_session, placed};
use crate::placed::{Basis, Held, PlacedStatus, PlacedTenant, Push};
use crate::{Clock as _, Code, Page, Plan, PlanGrant, TenantRole, TenantStanding};

const WHOLE: Basis = Basis::Snapshot { page: 1, last: true };

fn page(page: u32, last: bool) -> Basis {
    Basis::Snapshot { page, last }
}

fn needs_snapshot(version: u32) -> Held {
    Held { snapshot_needed: true, ..held(version) }
}

/// A pushed tenant is found by id and by slug; its founder is its admin and its one member; its log begins with that.
pub async fn a_new_tenant_has_its_founder_as_admin(keep: &Keep) {
    assert_eq!(keep.host().held_tenants().await.unwrap(), None);
    assert_eq!(keep.host().find_tenant("home").await.unwrap(), None);
    let tenant =
        PlacedTenant { grant: Some(PlanGrant { plan: Plan::Pro, end_time: far() }), ..placed("home") };
    assert_eq!(keep.push(slice::from_ref(&tenant)).await, held(1));
    for name in ["home", &tenant.id.to_string()] {
        assert_eq!(keep.host().find_tenant(name).await.unwrap(), Some(tenant.clone()), "{name}");
    }
    assert_eq!(keep.host().count_tenants().await.unwrap(), 1);
    assert_eq!(keep.host().held_tenants().await.unwrap(), Some(1));
    let members = keep.everybody(tenant.id, None).await;
    assert_eq!(members.len(), 1);
    assert_eq!((&members[0].sub, members[0].role), (&tenant.founder.sub, TenantRole::Admin));
    assert_eq!((&members[0].email, &members[0].name), (&tenant.founder.email, &tenant.founder.name));
    assert_eq!((members[0].create_time, members[0].last_sign_in_time), (tenant.create_time, None));
    let memberships = keep.memberships(&founder("home")).await;
    assert_eq!(memberships.len(), 1);
    assert_eq!((memberships[0].tenant, memberships[0].slug.as_str()), (tenant.id, "home"));
    assert_eq!((memberships[0].role, memberships[0].standing), (TenantRole::Admin, TenantStanding::Open));
    let log = keep.log(tenant.id, "").await;
    assert_eq!(log.len(), 1);
    assert_eq!((log[0].action.as_str(), log[0].tenant), ("tenant.founded", Some(tenant.id)));
    assert_eq!(log[0].details["sub"], founder("home"));
}

/// A change counts for the version that it was made on; what is held already does nothing again.
pub async fn a_change_applies_once_and_only_to_what_it_builds_on(keep: &Keep) {
    let (one, two, three) = (placed("one"), placed("two"), placed("three"));
    let on = |base_version| Basis::Change { base_version };
    assert_eq!(keep.push_as(5, on(0), slice::from_ref(&one)).await, needs_snapshot(0));
    assert_eq!(keep.push_as(5, WHOLE, slice::from_ref(&one)).await, held(5));
    assert_eq!(keep.push_as(8, on(6), slice::from_ref(&two)).await, needs_snapshot(5));
    assert_eq!(keep.push_as(8, on(4), slice::from_ref(&two)).await, needs_snapshot(5));
    assert_eq!(keep.host().count_tenants().await.unwrap(), 1);
    assert_eq!(keep.push_as(8, on(5), slice::from_ref(&two)).await, held(8));
    let renamed = PlacedTenant { name: "Another".into(), ..two.clone() };
    assert_eq!(keep.push_as(8, on(5), slice::from_ref(&renamed)).await, held(8));
    assert_eq!(keep.push_as(7, on(8), slice::from_ref(&renamed)).await, held(8));
    assert_eq!(keep.host().find_tenant("two").await.unwrap(), Some(two));
    assert_eq!(keep.push_as(9, on(8), &[three]).await, held(9));
    assert_eq!(keep.host().count_tenants().await.unwrap(), 3);
    assert_eq!(keep.log(one.id, "tenant.founded").await.len(), 1);
}

/// What a snapshot does not name has no place any more, and is as it was when it has one again.
pub async fn a_snapshot_takes_the_place_of_what_it_does_not_name(keep: &Keep) {
    let (one, two) = (keep.place("one").await, keep.place("two").await);
    keep.join(one.id, "ann", TenantRole::Member).await;
    keep.join(two.id, "ann", TenantRole::Viewer).await;
    keep.stack(one.id, "attic").await;
    let (invitation, later) =
        (new_invitation("", TenantRole::Viewer), new_invitation("", TenantRole::Viewer));
    keep.invite(one.id, &invitation).await;
    assert_eq!(keep.push_as(7, WHOLE, slice::from_ref(&two)).await, held(7));
    assert_eq!(keep.host().find_tenant("one").await.unwrap(), None);
    assert_eq!(keep.host().count_tenants().await.unwrap(), 1);
    assert_eq!(keep.role(one.id, "ann").await, None);
    assert_eq!(keep.role(two.id, "ann").await, Some(TenantRole::Viewer));
    assert_eq!(code(keep.stacks().list(scope(one.id), &Page::first()).await), Code::NotFound);
    assert_eq!(keep.members().tenant_of_code(&invitation.code_hash).await.unwrap(), None);
    let session = new_session(one.id, "ann", CLOCK.now());
    assert_eq!(code(keep.host().open_session(&change("user.login"), &session).await), Code::NotFound);
    let invite = change("invitation.created");
    let invited = keep.members().invite(scope(one.id), &invite, &later, None).await;
    assert_eq!(code(invited), Code::NotFound);
    let again = PlacedTenant { generation: 3, ..one.clone() };
    assert_eq!(keep.push(slice::from_ref(&again)).await, held(8));
    assert_eq!(keep.host().find_tenant("one").await.unwrap(), Some(again));
    assert_eq!(keep.role(one.id, "ann").await, Some(TenantRole::Member));
    assert_eq!(keep.members().tenant_of_code(&invitation.code_hash).await.unwrap(), Some(one.id));
    assert_eq!(keep.members().tenant_of_code(&later.code_hash).await.unwrap(), None);
    assert_eq!(keep.stacks().list(scope(one.id), &Page::first()).await.unwrap().items.len(), 1);
    assert_eq!(keep.log(one.id, "tenant.founded").await.len(), 1);
}

/// Pages are taken up in their order and in one version; only behind the last one is the version held, and what was in
/// none gone.
pub async fn the_pages_of_a_snapshot_come_in_order(keep: &Keep) {
    let old = keep.place("old").await;
    let tenants: Vec<PlacedTenant> = ["one", "two", "three"].into_iter().map(placed).collect();
    let third = |number: usize| slice::from_ref(&tenants[number]);
    assert_eq!(keep.push_as(9, page(2, false), third(1)).await, needs_snapshot(1));
    assert_eq!(keep.push_as(9, page(1, false), third(0)).await, held(1));
    assert_eq!(keep.host().find_tenant("one").await.unwrap().as_ref(), Some(&tenants[0]));
    assert_eq!(keep.push_as(9, page(3, true), third(2)).await, needs_snapshot(1));
    assert_eq!(keep.push_as(10, page(2, false), third(1)).await, needs_snapshot(1));
    assert_eq!(keep.push_as(9, page(2, false), third(1)).await, held(1));
    assert_eq!(keep.push_as(9, page(2, false), third(1)).await, needs_snapshot(1));
    assert!(keep.host().find_tenant("old").await.unwrap().is_some());
    assert_eq!(keep.push_as(9, page(3, true), third(2)).await, held(9));
    assert_eq!(keep.host().held_tenants().await.unwrap(), Some(9));
    assert_eq!(keep.host().find_tenant("old").await.unwrap(), None);
    assert_eq!(keep.role(old.id, &founder("old")).await, None);
    assert_eq!(keep.host().count_tenants().await.unwrap(), 3);
    // Behind the last page there is no next one, and a first page begins anew.
    assert_eq!(keep.push_as(9, page(4, true), &[]).await, needs_snapshot(9));
    assert_eq!(keep.push_as(10, page(1, false), third(0)).await, held(9));
    assert_eq!(keep.push_as(11, page(1, false), third(1)).await, held(9));
    assert_eq!(keep.push_as(11, page(2, true), third(2)).await, held(11));
    assert_eq!(keep.host().find_tenant("one").await.unwrap(), None);
    assert_eq!(keep.host().count_tenants().await.unwrap(), 2);
}

/// What is held is not taken back by an older snapshot; the same one again is applied.
pub async fn a_snapshot_of_before_is_not_applied_and_the_same_again_is(keep: &Keep) {
    let (one, two) = (placed("one"), placed("two"));
    assert_eq!(keep.push_as(5, WHOLE, &[one.clone(), two.clone()]).await, held(5));
    assert_eq!(keep.push_as(4, WHOLE, slice::from_ref(&one)).await, held(5));
    assert_eq!(keep.host().count_tenants().await.unwrap(), 2);
    assert_eq!(keep.push_as(5, WHOLE, slice::from_ref(&one)).await, held(5));
    assert_eq!(keep.host().count_tenants().await.unwrap(), 1);
}

/// A tenant for which there is no place is named with the reason, and nothing of it is there; the others are taken. A
/// place that another one leaves is free.
pub async fn one_more_than_fits_is_refused(keep: &Keep) {
    let (one, two, three) = (placed("one"), placed("two"), placed("three"));
    let apply = async |version, basis, items: &[PlacedTenant]| {
        let push = Push { version, basis, items: items.to_vec() };
        keep.host().apply_tenants(&change("tenants.applied"), &push, 2).await.unwrap()
    };
    let answer = apply(1, WHOLE, &[one.clone(), two.clone(), three.clone()]).await;
    assert_eq!((answer.version, answer.snapshot_needed), (1, false));
    let refused: Vec<_> = answer.refused.iter().map(|(id, _)| *id).collect();
    assert_eq!(refused, [three.id]);
    assert!(answer.refused[0].1.contains('2'), "{}", answer.refused[0].1);
    assert_eq!(keep.host().find_tenant("three").await.unwrap(), None);
    assert_eq!(keep.memberships(&founder("three")).await, []);
    assert_eq!(code(keep.stacks().list(scope(three.id), &Page::first()).await), Code::NotFound);
    // Whoever is there stays there.
    let renamed = PlacedTenant { name: "Another".into(), ..one.clone() };
    assert_eq!(apply(2, Basis::Change { base_version: 1 }, slice::from_ref(&renamed)).await, held(2));
    assert_eq!(keep.host().find_tenant("one").await.unwrap(), Some(renamed.clone()));
    let gone = PlacedTenant { status: PlacedStatus::Erased, ..two };
    let answer = apply(3, Basis::Change { base_version: 2 }, &[gone, three.clone()]).await;
    assert_eq!(answer, held(3));
    assert_eq!(keep.host().find_tenant("three").await.unwrap(), Some(three));
    // So is one that a snapshot takes away.
    let four = placed("four");
    assert_eq!(apply(4, WHOLE, &[renamed, four.clone()]).await, held(4));
    assert_eq!(keep.host().find_tenant("four").await.unwrap(), Some(four));
}

/// Whoever did not hear the answer gets it again.
pub async fn a_repeat_of_a_push_refuses_what_was_refused(keep: &Keep) {
    keep.place("one").await;
    let push = Push {
        version: 2,
        basis: Basis::Change { base_version: 1 },
        items: vec![placed("two"), placed("three")],
    };
    let apply = async || keep.host().apply_tenants(&change("tenants.applied"), &push, 2).await.unwrap();
    for _ in 0..2 {
        let answer = apply().await;
        assert_eq!((answer.version, answer.snapshot_needed), (2, false));
        assert_eq!(answer.refused.iter().map(|(id, _)| *id).collect::<Vec<_>>(), [push.items[1].id]);
    }
}

/// Name, grant, status and generation are as they were pushed last; the founder counts only once.
pub async fn what_is_pushed_again_changes_the_record_and_not_the_members(keep: &Keep) {
    let tenant = keep.place("home").await;
    keep.join(tenant.id, "ann", TenantRole::Admin).await;
    keep.members()
        .remove(scope(tenant.id), &change("member.removed"), &sub(&founder("home")), None)
        .await
        .unwrap();
    let changed = PlacedTenant {
        name: "Another".into(),
        grant: Some(PlanGrant { plan: Plan::Enterprise, end_time: far() }),
        status: PlacedStatus::Suspended,
        generation: 2,
        ..tenant
    };
    assert_eq!(keep.push(slice::from_ref(&changed)).await, held(2));
    assert_eq!(keep.host().find_tenant("home").await.unwrap(), Some(changed.clone()));
    let members = keep.everybody(changed.id, None).await;
    assert_eq!(members.iter().map(|member| member.sub.as_str()).collect::<Vec<_>>(), ["ann"]);
    let without = PlacedTenant { grant: None, ..changed };
    keep.push(slice::from_ref(&without)).await;
    assert_eq!(keep.host().find_tenant("home").await.unwrap(), Some(without));
}

/// Members see that their tenant is suspended or deleted; sessions and data stay.
pub async fn a_closed_tenant_shows_its_standing(keep: &Keep) {
    let tenant = keep.place("home").await;
    let session = keep.session(tenant.id, &founder("home")).await;
    keep.stack(tenant.id, "attic").await;
    for (status, standing) in [
        (PlacedStatus::Suspended, TenantStanding::Suspended),
        (PlacedStatus::Deleted, TenantStanding::Deleted),
        (PlacedStatus::Active, TenantStanding::Open),
    ] {
        let closed = PlacedTenant { status, ..tenant.clone() };
        keep.push(slice::from_ref(&closed)).await;
        assert_eq!(keep.host().find_tenant("home").await.unwrap(), Some(closed));
        let memberships = keep.memberships(&founder("home")).await;
        assert_eq!(memberships.len(), 1);
        assert_eq!((memberships[0].role, memberships[0].standing), (TenantRole::Admin, standing));
        assert!(keep.is_open(&session).await);
        assert_eq!(keep.stacks().list(scope(tenant.id), &Page::first()).await.unwrap().items.len(), 1);
        assert_eq!(keep.host().count_tenants().await.unwrap(), 1);
    }
}

/// Of an erased tenant there is no member, no session, no code and no row; what comes by its id is new.
pub async fn an_erased_tenant_is_nowhere(keep: &Keep) {
    let (tenant, other) = (keep.place("home").await, keep.place("other").await);
    keep.join(tenant.id, "ann", TenantRole::Admin).await;
    let invitation = new_invitation("bob@example.org", TenantRole::Viewer);
    keep.invite(tenant.id, &invitation).await;
    let session = keep.session(tenant.id, "ann").await;
    let kept = keep.session(other.id, &founder("other")).await;
    keep.stack(tenant.id, "attic").await;
    let erased = PlacedTenant { status: PlacedStatus::Erased, ..tenant.clone() };
    assert_eq!(keep.push(slice::from_ref(&erased)).await, held(3));
    for name in ["home", &tenant.id.to_string()] {
        assert_eq!(keep.host().find_tenant(name).await.unwrap(), None);
    }
    assert_eq!(keep.host().count_tenants().await.unwrap(), 1);
    for who in ["ann", &founder("home")] {
        assert_eq!(keep.memberships(who).await, []);
    }
    assert!(!keep.is_open(&session).await);
    assert!(keep.is_open(&kept).await);
    assert_eq!(keep.members().tenant_of_code(&invitation.code_hash).await.unwrap(), None);
    assert_eq!(code(keep.stacks().list(scope(tenant.id), &Page::first()).await), Code::NotFound);
    let refused = keep.host().open_session(&change("user.login"), &session).await;
    assert_eq!(code(refused), Code::NotFound);
    // What is not there is erased already.
    assert_eq!(keep.push(&[erased]).await, held(4));
    assert_eq!(keep.push(slice::from_ref(&tenant)).await, held(5));
    assert_eq!(keep.everybody(tenant.id, None).await.len(), 1);
    assert_eq!(keep.log(tenant.id, "").await.len(), 1);
    assert!(keep.stacks().list(scope(tenant.id), &Page::first()).await.unwrap().items.is_empty());
    assert_eq!(keep.memberships("ann").await, []);
}

/// The members that the plan has places for are those who came first, as long as the grant lasts.
pub async fn whoever_is_over_the_limit_of_the_plan_is_a_viewer(keep: &Keep) {
    let end = far();
    let granted = |plan| Some(PlanGrant { plan, end_time: end });
    let tenant = PlacedTenant { grant: granted(Plan::Pro), ..placed("home") };
    keep.push(slice::from_ref(&tenant)).await;
    for number in 1..12 {
        keep.join(tenant.id, &format!("member-{number}"), TenantRole::Member).await;
    }
    let roles = async |now| {
        let mut roles = Vec::new();
        for number in 1..12 {
            let memberships =
                keep.members().memberships(&sub(&format!("member-{number}")), now).await.unwrap();
            roles.push(memberships.only().unwrap().role);
        }
        roles
    };
    // The founder has the first place of ten, then of five.
    let split = |places: usize| {
        let mut roles = vec![TenantRole::Member; places - 1];
        roles.resize(11, TenantRole::Viewer);
        roles
    };
    assert_eq!(roles(CLOCK.now()).await, split(10));
    assert_eq!(roles(seconds(end, -1)).await, split(10));
    assert_eq!(roles(end).await, split(5));
    keep.push(&[PlacedTenant { grant: granted(Plan::Enterprise), ..tenant.clone() }]).await;
    assert_eq!(roles(CLOCK.now()).await, split(12));
    keep.push(&[PlacedTenant { grant: None, ..tenant.clone() }]).await;
    assert_eq!(roles(CLOCK.now()).await, split(5));
    // A place that becomes free is taken by whoever came next.
    keep.members().remove(scope(tenant.id), &change("member.removed"), &sub("member-1"), None).await.unwrap();
    assert_eq!(keep.role(tenant.id, "member-5").await, Some(TenantRole::Member));
    assert_eq!(keep.role(tenant.id, "member-6").await, Some(TenantRole::Viewer));
}

/// An instance is one, whoever asks; another one is refused.
pub async fn an_identity_is_remembered_for_ever(keep: &Keep) {
    assert_eq!(keep.host().identity().await.unwrap(), None);
    let (id, other) = (instance_id(), instance_id());
    for _ in 0..2 {
        keep.host().remember_identity(id).await.unwrap();
        assert_eq!(keep.host().identity().await.unwrap(), Some(id));
    }
    assert_eq!(code(keep.host().remember_identity(other).await), Code::Conflict);
    assert_eq!(keep.host().identity().await.unwrap(), Some(id));
}
