//! What must hold for the hand-off.

use std::collections::BTreeSet;

use jiff::Timestamp;

use super::{
    CLOCK, Pair, change, code, creator, held, kits, new_instance, new_tenant, next_page, org, promised,
    scope, seconds, sighting, stack, sub,
};
use crate::instance::InstanceStatus;
use crate::placed::{Basis, Founder, Held, PlacedStatus, PlacedTenant, TenantPush};
use crate::revocation::{KEPT_HOURS, Revocation, UserRevocation};
use crate::sync::{BATCH, SyncKind, SyncStore, SyncStream};
use crate::tenant::{GRACE_HOURS, TenantFilter, TenantMove, TenantStatus};
use crate::user::UserPatch;
use crate::{Change, Clock as _, Code, InstanceId, Page, Plan, PlanGrant, ServiceIdentity, TenantId};

const ACKNOWLEDGED: &str = "sync.acknowledged";

fn cloud() -> ServiceIdentity {
    ServiceIdentity { module: "cloud".into(), instance: "local".into() }
}

async fn connect(pair: &Pair, target: &ServiceIdentity) {
    pair.syncs().connect(&change("sync.connected"), target, "http://there").await.unwrap();
}

/// The next push of tenants, seen from the other handle.
async fn next(pair: &Pair, id: InstanceId) -> Option<TenantPush> {
    SyncStore::tenants_for(&*pair.b, &stack(id), 0, None).await.unwrap()
}

fn ids(push: &TenantPush) -> Vec<TenantId> {
    push.items.iter().map(|tenant| tenant.id).collect()
}

async fn tenants_stream(pair: &Pair, id: InstanceId) -> SyncStream {
    pair.stream(&stack(id), SyncKind::Tenants).await
}

/// An instance that has everything so far.
async fn in_step(pair: &Pair, name: &str, max_tenants: u32) -> InstanceId {
    let id = pair.register(name, "eu", max_tenants).await.id;
    pair.take_all(id).await;
    id
}

async fn count(pair: &Pair, id: InstanceId) -> u32 {
    pair.instances().find(id).await.unwrap().unwrap().tenant_count
}

/// Every module is told of its kinds, from where they are and at once; also when it comes again, whatever went wrong
/// before.
pub async fn a_module_that_connects_gets_everything_anew(pair: &Pair) {
    let new = new_instance("one", "eu", 10);
    for target in [stack(new.id), cloud(), kits()] {
        let kinds = SyncKind::of_module(&target.module);
        for endpoint in ["http://there", "http://elsewhere"] {
            let connected = change("sync.connected");
            pair.syncs().connect(&connected, &target, endpoint).await.unwrap();
            let streams = SyncStore::streams(&*pair.b).await.unwrap();
            let own: Vec<_> = streams.into_iter().filter(|stream| stream.target == target).collect();
            assert_eq!(
                own.iter().map(|stream| stream.kind).collect::<BTreeSet<_>>(),
                kinds.iter().copied().collect()
            );
            for stream in own {
                let expected = SyncStream {
                    target: target.clone(),
                    kind: stream.kind,
                    endpoint: endpoint.to_owned(),
                    acknowledged_version: 0,
                    pending: 0,
                    pending_time: None,
                    snapshot_due: true,
                    attempts: 0,
                    next_attempt_time: connected.time,
                    acknowledge_time: None,
                    last_error: String::new(),
                };
                assert_eq!(stream, expected);
                let later = seconds(connected.time, 60);
                pair.syncs().postpone(&target, stream.kind, "lost", later).await.unwrap();
            }
        }
    }
    assert!(pair.rows_of("sync.connected").await.is_empty());
}

/// Streams are ordered by module, then by kind, and say what waits and since when.
pub async fn streams_are_in_order_and_know_what_waits(pair: &Pair) {
    let one = in_step(pair, "one", 10).await;
    connect(pair, &cloud()).await;
    let streams = pair.syncs().streams().await.unwrap();
    let order: Vec<_> = streams.iter().map(|stream| (stream.target.module.as_str(), stream.kind)).collect();
    assert_eq!(
        order,
        [
            ("cloud", SyncKind::Revocations),
            ("stack", SyncKind::Flags),
            ("stack", SyncKind::Tenants),
            ("stack", SyncKind::Revocations),
        ]
    );
    let before = tenants_stream(pair, one).await;
    assert_eq!((before.pending, before.pending_time, before.is_due(Timestamp::MAX)), (0, None, false));
    let first = pair.create("home", "org-1").await;
    pair.create("other", "org-2").await;
    pair.move_on(first.id, TenantMove::Suspend).await;
    let stream = tenants_stream(pair, one).await;
    // What waits is a subject, however often it changed, and since its first change.
    assert_eq!((stream.pending, stream.pending_time), (2, Some(first.create_time)));
    assert!(stream.is_due(CLOCK.now()));
    pair.take_all(one).await;
    let after = tenants_stream(pair, one).await;
    assert_eq!((after.pending, after.pending_time), (0, None));
    assert!(after.acknowledge_time.is_some());
}

/// All pages have one version, each tenant is on one of them, ordered; only behind the last one is the snapshot done.
pub async fn a_snapshot_brings_everything_once_in_pages_of_one_version(pair: &Pair) {
    let id = pair.register("one", "eu", 300).await.id;
    let count = 2 * BATCH + 1;
    let mut expected = BTreeSet::new();
    for number in 0..count {
        expected.insert(pair.create(&format!("tenant-{number}"), &format!("org-{number}")).await.id);
    }
    let before = tenants_stream(pair, id).await;
    assert_eq!(usize::try_from(before.pending).unwrap(), count);
    let (mut found, mut page, mut after, mut versions) = (Vec::new(), 0, None, BTreeSet::new());
    for number in 1..=3 {
        let push = pair.syncs().tenants_for(&stack(id), page, after).await.unwrap().unwrap();
        assert_eq!(push.basis, Basis::Snapshot { page: number, last: number == 3 });
        assert!(push.items.len() <= BATCH);
        versions.insert(push.version);
        found.extend(ids(&push));
        // A module has a version with the last page of it.
        let has = if number == 3 { push.version } else { 0 };
        pair.answer(id, push.version, &held(has), &ids(&push)).await;
        let stream = tenants_stream(pair, id).await;
        assert_eq!(stream.snapshot_due, number < 3, "page {number}");
        assert_eq!(stream.acknowledged_version, has, "page {number}");
        assert_eq!(stream.attempts, 0);
        let active = pair.tenant(*ids(&push).last().unwrap()).await.unwrap().status;
        assert_eq!(active, TenantStatus::Active, "page {number}");
        (page, after) = next_page(&push);
    }
    assert_eq!((versions.len(), found.len()), (1, count));
    assert!(found.is_sorted());
    assert_eq!(found.into_iter().collect::<BTreeSet<_>>(), expected);
    assert_eq!(tenants_stream(pair, id).await.pending, 0);
    assert_eq!(next(pair, id).await, None);
}

/// What changes behind the first page is pushed as a change when the snapshot is done, whichever page it was on.
pub async fn what_changes_while_a_snapshot_is_under_way_is_pushed_behind_it(pair: &Pair) {
    let id = pair.register("one", "eu", 300).await.id;
    let mut created = Vec::new();
    for number in 0..=BATCH {
        created.push(pair.create(&format!("tenant-{number}"), &format!("org-{number}")).await.id);
    }
    created.sort();
    let first = next(pair, id).await.unwrap();
    pair.answer(id, first.version, &held(0), &ids(&first)).await;
    pair.move_on(created[0], TenantMove::Suspend).await;
    let late = pair.create("late", "org-late").await.id;
    let (page, after) = next_page(&first);
    let second = pair.syncs().tenants_for(&stack(id), page, after).await.unwrap().unwrap();
    assert_eq!((second.version, second.basis), (first.version, Basis::Snapshot { page: 2, last: true }));
    pair.take(id, &second).await;
    let behind = next(pair, id).await.unwrap();
    assert_eq!(behind.basis, Basis::Change { base_version: first.version });
    assert_eq!(ids(&behind), [created[0], late]);
    assert_eq!(behind.items[0].status, PlacedStatus::Suspended);
}

/// A module that connects again in the midst of a snapshot begins at the first page; an acknowledgement of before does
/// not end it.
pub async fn a_page_of_a_snapshot_that_was_begun_anew_is_not_given(pair: &Pair) {
    let id = pair.register("one", "eu", 300).await.id;
    for number in 0..=BATCH {
        pair.create(&format!("tenant-{number}"), &format!("org-{number}")).await;
    }
    let first = next(pair, id).await.unwrap();
    let (page, after) = next_page(&first);
    connect(pair, &stack(id)).await;
    assert_eq!(pair.syncs().tenants_for(&stack(id), page, after).await.unwrap(), None);
    pair.take(id, &first).await;
    let stream = tenants_stream(pair, id).await;
    assert!(stream.snapshot_due);
    let anew = next(pair, id).await.unwrap();
    assert_eq!(anew.basis, Basis::Snapshot { page: 1, last: false });
    assert_eq!(pair.syncs().tenants_for(&cloud(), 0, None).await.unwrap(), None);
    assert_eq!(pair.syncs().tenants_for(&cloud(), 1, None).await.unwrap(), None);
}

/// Subjects are pushed in the order of their last changes; what changed twice comes once, and as it is now. A push that was
/// not acknowledged comes again.
pub async fn changes_come_in_order_each_subject_once_and_as_it_is_now(pair: &Pair) {
    let id = in_step(pair, "one", 10).await;
    let base_version = tenants_stream(pair, id).await.acknowledged_version;
    let second = pair.create("second", "org-2").await.id;
    let first = pair.create("first", "org-1").await.id;
    pair.move_on(second, TenantMove::Delete).await;
    let push = next(pair, id).await.unwrap();
    assert_eq!((push.basis, ids(&push)), (Basis::Change { base_version }, vec![first, second]));
    let statuses: Vec<_> = push.items.iter().map(|tenant| tenant.status).collect();
    assert_eq!(statuses, [PlacedStatus::Active, PlacedStatus::Deleted]);
    assert_eq!(next(pair, id).await, Some(push.clone()));
    let third = pair.create("third", "org-3").await.id;
    pair.take(id, &push).await;
    let stream = tenants_stream(pair, id).await;
    assert_eq!((stream.acknowledged_version, stream.pending), (push.version, 1));
    let rest = next(pair, id).await.unwrap();
    assert_eq!((rest.basis, ids(&rest)), (Basis::Change { base_version: push.version }, vec![third]));
    pair.take(id, &rest).await;
    assert_eq!(next(pair, id).await, None);
}

/// However much waits, a push holds no more than it may, the next one builds on it, and none is left out.
pub async fn more_changes_than_a_push_holds_come_in_several(pair: &Pair) {
    let id = in_step(pair, "one", 300).await;
    let mut created = Vec::new();
    for number in 0..=2 * BATCH {
        created.push(pair.create(&format!("tenant-{number}"), &format!("org-{number}")).await.id);
    }
    let (mut found, mut base_version) = (Vec::new(), tenants_stream(pair, id).await.acknowledged_version);
    for expected in [BATCH, BATCH, 1] {
        let push = next(pair, id).await.unwrap();
        assert_eq!((push.items.len(), push.basis), (expected, Basis::Change { base_version }));
        found.extend(ids(&push));
        pair.take(id, &push).await;
        base_version = push.version;
    }
    assert_eq!(found, created);
    assert_eq!(next(pair, id).await, None);
}

/// Everything of the tenant is in the push, with the grant of its owner and the founder as the platform knows one.
pub async fn a_tenant_is_pushed_as_its_instance_has_to_know_it(pair: &Pair) {
    let id = pair.register("one", "eu", 10).await.id;
    let home = pair.create("home", "org-1").await;
    let other = pair.create("other", "org-2").await;
    let founder = creator("home");
    pair.sight(&sighting(founder.as_str(), "org-1", 100)).await;
    let grant = PlanGrant { plan: Plan::Pro, end_time: seconds(home.create_time, 86_400) };
    pair.organisations().grant(&change("plan.granted"), &org("org-1"), grant, "").await.unwrap();
    let expected = PlacedTenant {
        id: home.id,
        slug: home.slug,
        name: home.name,
        owner: home.owner,
        grant: Some(grant),
        status: PlacedStatus::Active,
        generation: 1,
        founder: Founder {
            email: format!("{founder}@example.org"),
            name: format!("Name of {founder}"),
            sub: founder.clone(),
        },
        create_time: home.create_time,
    };
    let push = next(pair, id).await.unwrap();
    assert_eq!((&push.items[0], push.items.len()), (&expected, 2));
    let unknown = Founder { sub: creator("other"), email: String::new(), name: String::new() };
    assert_eq!((push.items[1].id, &push.items[1].founder, push.items[1].grant), (other.id, &unknown, None));
    pair.take(id, &push).await;
    let patch = UserPatch { display_name: Some("Ann".into()), ..UserPatch::default() };
    pair.users().update(&change("user.updated"), &founder, None, patch).await.unwrap();
    for (to, status) in [
        (TenantMove::Suspend, PlacedStatus::Suspended),
        (TenantMove::Resume, PlacedStatus::Active),
        (TenantMove::Delete, PlacedStatus::Deleted),
    ] {
        pair.move_on(home.id, to).await;
        let push = next(pair, id).await.unwrap();
        assert_eq!((push.items[0].status, push.items[0].founder.name.as_str()), (status, "Ann"));
        pair.take(id, &push).await;
    }
    let erase = change("tenant.erased");
    let erase = Change { time: seconds(erase.time, GRACE_HOURS * 3600), ..erase };
    pair.tenants().erase_expired(&erase).await.unwrap();
    connect(pair, &stack(id)).await;
    let snapshot = next(pair, id).await.unwrap();
    assert_eq!(snapshot.items[0].status, PlacedStatus::Erased);
    pair.take(id, &snapshot).await;
    connect(pair, &stack(id)).await;
    assert_eq!(ids(&next(pair, id).await.unwrap()), [other.id]);
}

/// An instance hears of no tenant of another one, neither in changes nor in snapshots; what waits for an instance that
/// is not there waits for it alone.
pub async fn an_instance_is_told_of_its_own_tenants_only(pair: &Pair) {
    let one = pair.register("one", "eu", 10).await.id;
    let two = pair.register("two", "eu", 10).await.id;
    let first = pair.create("first", "org-1").await;
    let second = pair.create("second", "org-2").await;
    assert_eq!((first.instance, second.instance), (one, two));
    for (instance, tenant) in [(one, first.id), (two, second.id)] {
        let snapshot = next(pair, instance).await.unwrap();
        assert_eq!(ids(&snapshot), [tenant]);
        pair.take(instance, &snapshot).await;
        pair.move_on(tenant, TenantMove::Suspend).await;
    }
    assert_eq!(tenants_stream(pair, two).await.pending, 1);
    assert_eq!(ids(&next(pair, one).await.unwrap()), [first.id]);
    // What an instance says of a tenant of another one is none of its business.
    let erase = change("tenant.erased");
    pair.move_on(second.id, TenantMove::Delete).await;
    let erase = Change { time: seconds(erase.time, GRACE_HOURS * 3600 + 3600), ..erase };
    assert_eq!(pair.tenants().erase_expired(&erase).await.unwrap(), 1);
    let push = next(pair, one).await.unwrap();
    pair.answer(one, push.version, &held(push.version), &[first.id, second.id]).await;
    assert_eq!(count(pair, two).await, 1);
    pair.take_all(two).await;
    assert_eq!((count(pair, one).await, count(pair, two).await), (1, 0));
}

/// A grant is on its way with everything that it is for; its end needs no push.
pub async fn a_grant_is_told_to_the_instances_of_the_owner(pair: &Pair) {
    let id = in_step(pair, "one", 10).await;
    let ours = pair.create("ours", "org-1").await;
    pair.create("theirs", "org-2").await;
    pair.take_all(id).await;
    let grant = PlanGrant { plan: Plan::Pro, end_time: seconds(ours.create_time, 86_400) };
    let promise = || promised(change("plan.granted"), "key-1", 1);
    pair.organisations().grant(&promise(), &org("org-1"), grant, "").await.unwrap();
    let push = next(pair, id).await.unwrap();
    assert_eq!((ids(&push), push.items[0].grant), (vec![ours.id], Some(grant)));
    pair.take(id, &push).await;
    pair.organisations().grant(&promise(), &org("org-1"), grant, "").await.unwrap();
    assert_eq!(next(pair, id).await, None);
}

/// Acknowledged tenants are active, those that were not in the push stay as they are.
pub async fn a_new_tenant_that_is_taken_is_active(pair: &Pair) {
    let id = in_step(pair, "one", 10).await;
    let taken = pair.create("taken", "org-1").await;
    let push = next(pair, id).await.unwrap();
    let late = pair.create("late", "org-2").await;
    let suspended = pair.create("suspended", "org-3").await;
    pair.move_on(suspended.id, TenantMove::Suspend).await;
    pair.take(id, &push).await;
    let active = pair.tenant(taken.id).await.unwrap();
    assert_eq!(active.status, TenantStatus::Active);
    assert_ne!(active.etag, taken.etag);
    assert_eq!(pair.tenant(late.id).await, Some(late.clone()));
    pair.take_all(id).await;
    assert_eq!(pair.tenant(late.id).await.unwrap().status, TenantStatus::Active);
    assert_eq!(pair.tenant(suspended.id).await.unwrap().status, TenantStatus::Suspended);
    pair.take_all(id).await;
    assert_eq!(pair.tenant(taken.id).await, Some(active));
    assert_eq!(count(pair, id).await, 3);
}

/// Of a refused new tenant nothing stays but the row of the log: slug, place, owner and key are free again, and what
/// waits about it is gone. The others of the push are taken.
pub async fn a_new_tenant_that_is_refused_never_was(pair: &Pair) {
    let id = in_step(pair, "one", 2).await;
    let create = || promised(change("tenant.created"), "key-1", 1);
    let refused = pair.tenants().create(&create(), &new_tenant("home", "org-1")).await.unwrap();
    let taken = pair.create("other", "org-2").await;
    let push = next(pair, id).await.unwrap();
    let grant = PlanGrant { plan: Plan::Pro, end_time: seconds(refused.create_time, 86_400) };
    pair.organisations().grant(&change("plan.granted"), &org("org-1"), grant, "").await.unwrap();
    let answer = Held { refused: vec![(refused.id, "its disk is full".into())], ..held(push.version) };
    pair.answer(id, push.version, &answer, &ids(&push)).await;
    assert_eq!(pair.tenant(refused.id).await, None);
    assert_eq!(pair.tenant(taken.id).await.unwrap().status, TenantStatus::Active);
    assert_eq!(pair.tenants().memberships(&creator("home")).await.unwrap().iter().count(), 0);
    assert_eq!(count(pair, id).await, 1);
    assert_eq!(next(pair, id).await, None);
    let stream = tenants_stream(pair, id).await;
    assert_eq!((stream.pending, stream.last_error.as_str()), (0, ""));
    let rows = pair.rows_of("tenant.refused").await;
    assert_eq!(
        (rows.len(), rows[0].target.clone(), rows[0].tenant),
        (1, refused.id.to_string(), Some(refused.id))
    );
    assert_eq!(rows[0].details["reason"], "its disk is full");
    let again = pair.tenants().create(&create(), &new_tenant("home", "org-1")).await.unwrap();
    assert_ne!(again.id, refused.id);
    assert_eq!(ids(&next(pair, id).await.unwrap()), [again.id]);
}

/// What was decided about a tenant before its instance first had it goes with it, if the instance refuses it then.
pub async fn a_tenant_that_was_never_taken_is_gone_whatever_was_decided_since(pair: &Pair) {
    let id = in_step(pair, "one", 10).await;
    for (number, moves) in [
        &[TenantMove::Suspend][..],
        &[TenantMove::Suspend, TenantMove::Resume],
        &[TenantMove::Delete],
        &[TenantMove::Delete, TenantMove::Undelete],
        &[TenantMove::Suspend, TenantMove::Delete, TenantMove::Undelete],
    ]
    .into_iter()
    .enumerate()
    {
        let tenant = pair.create(&format!("tenant-{number}"), &format!("org-{number}")).await;
        for to in moves {
            pair.move_on(tenant.id, *to).await;
        }
        let push = next(pair, id).await.unwrap();
        let answer = Held { refused: vec![(tenant.id, "it is full".into())], ..held(push.version) };
        pair.answer(id, push.version, &answer, &ids(&push)).await;
        assert_eq!(pair.tenant(tenant.id).await, None, "{moves:?}");
        assert_eq!(count(pair, id).await, 0, "{moves:?}");
    }
    // Resumed before it was taken, it is still to be taken.
    let tenant = pair.create("waits", "org-1").await.id;
    pair.move_on(tenant, TenantMove::Suspend).await;
    assert_eq!(pair.move_on(tenant, TenantMove::Resume).await.status, TenantStatus::Creating);
    pair.take_all(id).await;
    assert_eq!(pair.tenant(tenant).await.unwrap().status, TenantStatus::Active);
}

/// A module that holds a version which was never given has it from a store that is no more, as where a backup was put in
/// its place: it gets everything anew, under versions that are newer to it.
pub async fn a_module_that_is_ahead_gets_everything_anew(pair: &Pair) {
    let id = in_step(pair, "one", 10).await;
    let tenant = pair.create("home", "org-1").await.id;
    let push = next(pair, id).await.unwrap();
    let answer = change(ACKNOWLEDGED);
    let (target, lie, pushed) = (stack(id), held(push.version + 1_000_001), ids(&push));
    let absurd = pair.syncs().acknowledge(&answer, &target, SyncKind::Tenants, push.version, &lie, &pushed);
    assert_eq!(code(absurd.await), Code::Conflict);
    assert_eq!(next(pair, id).await, Some(push.clone()), "nothing has moved");
    let ahead = push.version + 5;
    pair.answer(id, push.version, &held(ahead), &ids(&push)).await;
    let stream = tenants_stream(pair, id).await;
    assert!(stream.snapshot_due && stream.acknowledged_version < push.version, "{stream:?}");
    assert_eq!(pair.tenant(tenant).await.unwrap().status, TenantStatus::Creating, "it took nothing");
    let push = next(pair, id).await.unwrap();
    assert_eq!((push.basis, push.version), (Basis::Snapshot { page: 1, last: true }, ahead));
    pair.take(id, &push).await;
    assert_eq!(pair.tenant(tenant).await.unwrap().status, TenantStatus::Active);
    pair.move_on(tenant, TenantMove::Suspend).await;
    let push = next(pair, id).await.unwrap();
    assert_eq!(push.basis, Basis::Change { base_version: ahead });
    assert!(push.version > ahead);

    let flags = pair.syncs().flags().await.unwrap().version;
    let acknowledge = |pushed, holds| {
        let target = stack(id);
        async move {
            let held = held(holds);
            pair.syncs()
                .acknowledge(&change(ACKNOWLEDGED), &target, SyncKind::Flags, pushed, &held, &[])
                .await
                .unwrap();
        }
    };
    acknowledge(flags, flags + 5).await;
    assert_eq!(pair.syncs().flags().await.unwrap().version, flags + 6);
    acknowledge(flags + 6, flags + 6).await;
    assert_eq!(pair.syncs().flags().await.unwrap().version, flags + 6, "now it has the same");
}

/// An instance that has a tenant cannot lose it by refusing a change of it: the stream says what is wrong, until the
/// next success.
pub async fn a_tenant_that_is_refused_later_stays(pair: &Pair) {
    let id = in_step(pair, "one", 10).await;
    let tenant = pair.create("home", "org-1").await.id;
    pair.take_all(id).await;
    let suspended = pair.move_on(tenant, TenantMove::Suspend).await;
    let push = next(pair, id).await.unwrap();
    let answer = Held { refused: vec![(tenant, "its disk is full".into())], ..held(push.version) };
    pair.answer(id, push.version, &answer, &ids(&push)).await;
    assert_eq!(pair.tenant(tenant).await, Some(suspended));
    assert_eq!(count(pair, id).await, 1);
    let stream = tenants_stream(pair, id).await;
    assert!(
        stream.last_error.contains(&tenant.to_string()) && stream.last_error.contains("its disk is full")
    );
    assert_eq!((stream.acknowledged_version, stream.pending), (push.version, 0));
    assert!(pair.rows_of("tenant.refused").await.is_empty());
    // Nor is one erased that the instance would not erase.
    pair.move_on(tenant, TenantMove::Delete).await;
    let erase = change("tenant.erased");
    let erase = Change { time: seconds(erase.time, GRACE_HOURS * 3600), ..erase };
    pair.tenants().erase_expired(&erase).await.unwrap();
    let push = next(pair, id).await.unwrap();
    let answer = Held { refused: answer.refused, ..held(push.version) };
    pair.answer(id, push.version, &answer, &ids(&push)).await;
    assert_eq!(count(pair, id).await, 1);
    connect(pair, &stack(id)).await;
    pair.take_all(id).await;
    assert_eq!(count(pair, id).await, 0);
    assert_eq!(tenants_stream(pair, id).await.last_error, "");
}

/// A push that was under way when the time of grace ended did not say that the tenant is to be erased.
pub async fn a_tenant_is_erased_only_when_its_erasure_was_pushed(pair: &Pair) {
    let id = in_step(pair, "one", 10).await;
    let tenant = pair.create("home", "org-1").await.id;
    pair.take_all(id).await;
    pair.move_on(tenant, TenantMove::Delete).await;
    let before = next(pair, id).await.unwrap();
    assert_eq!(before.items[0].status, PlacedStatus::Deleted);
    let erase = change("tenant.erased");
    let erase = Change { time: seconds(erase.time, GRACE_HOURS * 3600), ..erase };
    pair.tenants().erase_expired(&erase).await.unwrap();
    pair.take(id, &before).await;
    assert_eq!(count(pair, id).await, 1);
    let then = next(pair, id).await.unwrap();
    assert_eq!(then.items[0].status, PlacedStatus::Erased);
    pair.take(id, &then).await;
    assert_eq!(count(pair, id).await, 0);
    pair.take(id, &then).await; // Delivered twice.
    assert_eq!(count(pair, id).await, 0);
}

/// A module that cannot build on what it has gets a snapshot: at once the first time, then later and later; nothing
/// else moves.
pub async fn a_module_that_needs_a_snapshot_gets_one_next(pair: &Pair) {
    let id = in_step(pair, "one", 10).await;
    let tenant = pair.create("home", "org-1").await;
    let before = tenants_stream(pair, id).await;
    let needy = Held { snapshot_needed: true, ..Held::default() };
    let mut waited = Vec::new();
    for attempts in 1..=9 {
        let push = next(pair, id).await.unwrap();
        let snapshot = Basis::Snapshot { page: 1, last: true };
        assert_eq!(push.basis == snapshot, attempts > 1);
        let answer = change(ACKNOWLEDGED);
        pair.syncs()
            .acknowledge(&answer, &stack(id), SyncKind::Tenants, push.version, &needy, &ids(&push))
            .await
            .unwrap();
        let stream = tenants_stream(pair, id).await;
        assert_eq!((stream.attempts, stream.snapshot_due), (attempts, true));
        assert_eq!(stream.acknowledged_version, before.acknowledged_version);
        assert_eq!((stream.pending, stream.acknowledge_time), (1, before.acknowledge_time));
        assert!(!stream.last_error.is_empty());
        waited.push(stream.next_attempt_time.duration_since(answer.time).as_secs());
    }
    assert_eq!(waited[0], 0);
    assert!(waited[1] > 0 && waited.is_sorted() && waited[8] <= 300, "{waited:?}");
    assert_eq!(pair.tenant(tenant.id).await, Some(tenant));
    // A module that says nothing, and has not what was pushed, is as one that needs it.
    let push = next(pair, id).await.unwrap();
    pair.answer(id, push.version, &held(push.version - 1), &ids(&push)).await;
    assert!(tenants_stream(pair, id).await.snapshot_due);
    pair.take_all(id).await;
    let stream = tenants_stream(pair, id).await;
    assert_eq!((stream.attempts, stream.snapshot_due, stream.pending), (0, false, 0));
    assert_eq!(stream.last_error, "");
}

/// What was acknowledged stays so, whatever comes late.
pub async fn a_version_only_moves_forward(pair: &Pair) {
    let id = in_step(pair, "one", 10).await;
    pair.create("home", "org-1").await;
    let first = next(pair, id).await.unwrap();
    pair.take(id, &first).await;
    pair.create("other", "org-2").await;
    let second = next(pair, id).await.unwrap();
    pair.take(id, &second).await;
    pair.take(id, &first).await;
    assert_eq!(tenants_stream(pair, id).await.acknowledged_version, second.version);
    assert!(second.version > first.version);
    let nobody = pair
        .syncs()
        .acknowledge(&change(ACKNOWLEDGED), &cloud(), SyncKind::Revocations, 7, &held(7), &[])
        .await;
    nobody.unwrap();
    assert!(pair.syncs().streams().await.unwrap().iter().all(|stream| stream.target != cloud()));
}

/// A failed try is counted, with its fault and the time of the next; a success ends that.
pub async fn a_failed_try_is_put_off_and_the_next_success_forgets_it(pair: &Pair) {
    let id = in_step(pair, "one", 10).await;
    pair.create("home", "org-1").await;
    let push = next(pair, id).await.unwrap();
    for attempts in 1..=2 {
        let later = seconds(CLOCK.now(), 3600);
        pair.syncs().postpone(&stack(id), SyncKind::Tenants, "it is away", later).await.unwrap();
        let stream = tenants_stream(pair, id).await;
        assert_eq!((stream.attempts, stream.next_attempt_time), (attempts, later));
        assert_eq!((stream.last_error.as_str(), stream.pending), ("it is away", 1));
        assert!(!stream.is_due(seconds(later, -1)) && stream.is_due(later));
    }
    assert_eq!(pair.stream(&stack(id), SyncKind::Flags).await.attempts, 0);
    let answer = change(ACKNOWLEDGED);
    pair.syncs()
        .acknowledge(&answer, &stack(id), SyncKind::Tenants, push.version, &held(push.version), &ids(&push))
        .await
        .unwrap();
    let stream = tenants_stream(pair, id).await;
    assert_eq!((stream.attempts, stream.last_error.as_str()), (0, ""));
    assert_eq!((stream.next_attempt_time, stream.acknowledge_time), (answer.time, Some(answer.time)));
}

/// A snapshot has the locks, and of the other revocations those that still matter; changes have each as it is. Both
/// come in pages.
pub async fn a_snapshot_of_revocations_holds_those_that_matter(pair: &Pair) {
    let now = CLOCK.now();
    let kept = KEPT_HOURS * 3600;
    for (who, time) in [("ann", seconds(now, -kept)), ("bob", seconds(now, 1 - kept)), ("cy", now)] {
        pair.sight(&sighting(who, "org-1", 100)).await;
        pair.users().revoke(&change("user.logout"), &sub(who), time).await.unwrap();
    }
    pair.sight(&sighting("dee", "org-1", 100)).await;
    let lock = Change { time: seconds(now, -10 * kept), ..change("user.locked") };
    pair.users().set_lock(&lock, &sub("dee"), true, "").await.unwrap();
    connect(pair, &cloud()).await;
    let push = pair.syncs().revocations_for(&cloud(), 0, None, now).await.unwrap().unwrap();
    assert_eq!(push.basis, Basis::Snapshot { page: 1, last: true });
    let revocation =
        |who: &str, time, locked| UserRevocation { sub: sub(who), revocation: Revocation { time, locked } };
    let expected = [
        revocation("bob", seconds(now, 1 - kept), false),
        revocation("cy", now, false),
        revocation("dee", lock.time, true),
    ];
    assert_eq!(push.items, expected);
    acknowledge_revocations(pair, &cloud(), push.version).await;
    assert_eq!(pair.syncs().revocations_for(&cloud(), 0, None, now).await.unwrap(), None);
    let time = seconds(now, 1);
    pair.users().revoke(&change("user.logout"), &sub("cy"), time).await.unwrap();
    let change = pair.syncs().revocations_for(&cloud(), 0, None, now).await.unwrap().unwrap();
    assert_eq!(change.basis, Basis::Change { base_version: push.version });
    assert_eq!(change.items, [revocation("cy", time, false)]);
    acknowledge_revocations(pair, &cloud(), change.version).await;
    for number in 0..BATCH {
        let who = format!("user-{number:03}");
        pair.sight(&sighting(&who, "org-1", 100)).await;
        pair.users().revoke(&super::change("user.logout"), &sub(&who), now).await.unwrap();
    }
    connect(pair, &cloud()).await;
    let first = pair.syncs().revocations_for(&cloud(), 0, None, now).await.unwrap().unwrap();
    assert_eq!((first.items.len(), first.basis), (BATCH, Basis::Snapshot { page: 1, last: false }));
    let after = first.items.last().unwrap().sub.as_str();
    let second = pair.syncs().revocations_for(&cloud(), 2, Some(after), now).await.unwrap().unwrap();
    assert_eq!((second.version, second.basis), (first.version, Basis::Snapshot { page: 2, last: true }));
    let subs: BTreeSet<_> = first.items.into_iter().chain(second.items).map(|item| item.sub).collect();
    assert_eq!(subs.len(), BATCH + 3);
}

async fn acknowledge_revocations(pair: &Pair, target: &ServiceIdentity, version: u32) {
    pair.syncs()
        .acknowledge(&change(ACKNOWLEDGED), target, SyncKind::Revocations, version, &held(version), &[])
        .await
        .unwrap();
}

/// Whoever has acknowledged everything has acknowledged the version that a lock was answered with: so a caller can wait
/// for it, on every module.
pub async fn every_module_acknowledges_the_version_of_a_revocation(pair: &Pair) {
    let id = in_step(pair, "one", 10).await;
    pair.sight(&sighting("ann", "org-1", 100)).await;
    let targets = [stack(id), cloud(), kits()];
    for target in &targets[1..] {
        connect(pair, target).await;
    }
    for target in &targets {
        let push = pair.syncs().revocations_for(target, 0, None, CLOCK.now()).await.unwrap().unwrap();
        acknowledge_revocations(pair, target, push.version).await;
    }
    let told = pair.users().set_lock(&change("user.locked"), &sub("ann"), true, "").await.unwrap();
    for target in &targets {
        assert!(
            pair.stream(target, SyncKind::Revocations).await.acknowledged_version < told.version,
            "{target}"
        );
        let push = pair.syncs().revocations_for(target, 0, None, CLOCK.now()).await.unwrap().unwrap();
        assert_eq!(push.items.len(), 1);
        acknowledge_revocations(pair, target, push.version).await;
        assert!(
            pair.stream(target, SyncKind::Revocations).await.acknowledged_version >= told.version,
            "{target}"
        );
    }
}

/// The set is pending, as many changes as there are, until a module has acknowledged its version; also one in which
/// there is nothing, once.
pub async fn flags_are_pending_until_their_version_is_acknowledged(pair: &Pair) {
    let id = pair.register("one", "eu", 10).await.id;
    let flags = async || pair.stream(&stack(id), SyncKind::Flags).await;
    let acknowledge = async |pushed, holds| {
        pair.syncs()
            .acknowledge(&change(ACKNOWLEDGED), &stack(id), SyncKind::Flags, pushed, &held(holds), &[])
            .await
            .unwrap();
    };
    assert!(flags().await.snapshot_due);
    assert_eq!(pair.syncs().flags().await.unwrap().version, 0);
    acknowledge(0, 0).await;
    assert!(!flags().await.is_due(Timestamp::MAX));
    let first = change("flag.set");
    pair.flags().set(&first, &"a".parse().unwrap(), None, "{}", "").await.unwrap();
    pair.flags().set(&change("flag.set"), &"b".parse().unwrap(), None, "{}", "").await.unwrap();
    let stream = flags().await;
    assert_eq!((stream.pending, stream.pending_time), (2, Some(first.time)));
    let set = pair.syncs().flags().await.unwrap();
    pair.flags().set(&change("flag.set"), &"c".parse().unwrap(), None, "{}", "").await.unwrap();
    acknowledge(set.version, set.version).await;
    assert_eq!((flags().await.acknowledged_version, flags().await.pending), (set.version, 1));
    acknowledge(set.version + 1, set.version).await;
    let stream = flags().await;
    assert_eq!((stream.acknowledged_version, stream.pending), (set.version, 1), "it has not what was pushed");
    acknowledge(set.version + 1, set.version + 1).await;
    let stream = flags().await;
    assert_eq!((stream.pending, stream.pending_time, stream.snapshot_due), (0, None, false));
}

/// With an instance that is removed its streams go, and what waits for it.
pub async fn a_removed_instance_is_told_nothing(pair: &Pair) {
    let id = pair.register("one", "eu", 10).await.id;
    let tenant = pair.create("home", "org-1").await;
    let push = next(pair, id).await.unwrap();
    let answer = Held { refused: vec![(tenant.id, "no".into())], ..held(push.version) };
    pair.answer(id, push.version, &answer, &ids(&push)).await;
    let drain = change("instance.drained");
    pair.instances().set_status(&drain, id, None, InstanceStatus::Draining).await.unwrap();
    pair.instances().remove(&change("instance.removed"), id, None).await.unwrap();
    assert!(pair.syncs().streams().await.unwrap().is_empty());
    assert_eq!(next(pair, id).await, None);
    assert!(pair.tenants().list(&TenantFilter::default(), &Page::first()).await.unwrap().items.is_empty());
    let stranger = pair.tenants().find(scope(tenant.id)).await.unwrap();
    assert_eq!(stranger, None);
    let moved =
        pair.tenants().change_status(&change("tenant.moved"), tenant.id, None, TenantMove::Suspend, "").await;
    assert_eq!(code(moved), Code::NotFound);
}
