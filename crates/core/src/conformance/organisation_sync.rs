//! What must hold for the hand-off of organisations.

use std::collections::BTreeSet;

use super::{CLOCK, Pair, change, held, kits, org, promised, seconds, sighting, stack};
use crate::placed::{Basis, Held, OrganisationPush, PlacedHome, PlacedOrganisation, PlacedStatus};
use crate::sync::{BATCH, SyncKind, SyncStore};
use crate::tenant::{GRACE_HOURS, TenantMove};
use crate::{Change, Clock as _, OrgId, Plan, PlanGrant, ServiceIdentity};

const GRANTED: &str = "organisation.plan.granted";

async fn connect(pair: &Pair, target: &ServiceIdentity) {
    pair.syncs().connect(&change("sync.connected"), target, "http://there").await.unwrap();
}

/// The next push of organisations, seen from the other handle.
async fn next(pair: &Pair) -> Option<OrganisationPush> {
    SyncStore::organisations_for(&*pair.b, &kits(), 0, None).await.unwrap()
}

async fn take(pair: &Pair, push: &OrganisationPush) {
    let (kind, held) = (SyncKind::Organisations, held(push.version));
    pair.syncs()
        .acknowledge(&change("sync.acknowledged"), &kits(), kind, push.version, &held, &[])
        .await
        .unwrap();
}

/// Connects the module, which has everything from then on.
async fn in_step(pair: &Pair) {
    connect(pair, &kits()).await;
    let snapshot = next(pair).await.unwrap();
    assert_eq!(snapshot.basis, Basis::Snapshot { page: 1, last: true });
    take(pair, &snapshot).await;
    assert_eq!(next(pair).await, None);
}

/// What the next change says, which is of one organisation, and is taken.
async fn told(pair: &Pair) -> PlacedOrganisation {
    let push = next(pair).await.unwrap();
    assert!(matches!(push.basis, Basis::Change { .. }), "{push:?}");
    take(pair, &push).await;
    assert_eq!(next(pair).await, None);
    let [only] = <[PlacedOrganisation; 1]>::try_from(push.items).unwrap();
    only
}

async fn grant(pair: &Pair, owner: &str, days: i64) -> PlanGrant {
    let change = change(GRANTED);
    let grant = PlanGrant { plan: Plan::Pro, end_time: seconds(change.time, days * 86_400) };
    pair.organisations().grant(&change, &org(owner), grant, "").await.unwrap();
    grant
}

fn owners(push: &OrganisationPush) -> Vec<&str> {
    push.items.iter().map(|organisation| organisation.owner.as_str()).collect()
}

async fn erase_expired(pair: &Pair) {
    let erase = change("tenant.erased");
    let erase = Change { time: seconds(erase.time, GRACE_HOURS * 3600), ..erase };
    assert_eq!(pair.tenants().erase_expired(&erase).await.unwrap(), 1);
}

/// Each grant is on its way, with the end that it has: the end itself needs no push. A repeat tells nobody again.
pub async fn a_grant_is_told_with_its_end(pair: &Pair) {
    pair.sight(&sighting("ann", "org-1", 100)).await;
    in_step(pair).await;
    for days in [30, 1] {
        let grant = grant(pair, "org-1", days).await;
        let expected = PlacedOrganisation { owner: org("org-1"), grant: Some(grant), tenants: Vec::new() };
        assert_eq!(told(pair).await, expected);
    }
    let lasting = PlanGrant::lasting(Plan::Enterprise);
    let promise = || promised(change(GRANTED), "key-1", 1);
    pair.organisations().grant(&promise(), &org("org-1"), lasting, "").await.unwrap();
    assert_eq!(told(pair).await.grant, Some(lasting));
    pair.organisations().grant(&promise(), &org("org-1"), lasting, "").await.unwrap();
    assert_eq!(next(pair).await, None);
}

/// Where the tenant of an owner is and what it is to be is told with the owner, until there is nothing to say any more.
pub async fn a_tenant_is_told_with_its_owner_all_its_life(pair: &Pair) {
    let instance = pair.register("one", "eu", 10).await.id;
    in_step(pair).await;
    let tenant = pair.create("home", "org-1").await.id;
    let placed = |status| PlacedOrganisation {
        owner: org("org-1"),
        grant: None,
        tenants: vec![PlacedHome { tenant, instance, status }],
    };
    assert_eq!(told(pair).await, placed(PlacedStatus::Active));
    pair.take_all(instance).await;
    assert_eq!(next(pair).await, None, "that the instance took it is nothing new");
    for (to, status) in [
        (TenantMove::Suspend, PlacedStatus::Suspended),
        (TenantMove::Resume, PlacedStatus::Active),
        (TenantMove::Delete, PlacedStatus::Deleted),
        (TenantMove::Undelete, PlacedStatus::Active),
        (TenantMove::Delete, PlacedStatus::Deleted),
    ] {
        pair.move_on(tenant, to).await;
        assert_eq!(told(pair).await, placed(status), "{to:?}");
    }
    erase_expired(pair).await;
    let gone = told(pair).await;
    assert!(gone.is_empty() && gone.owner == org("org-1"), "{gone:?}");
    pair.take_all(instance).await;
    assert_eq!(next(pair).await, None);
    let again = pair.create("again", "org-1").await.id;
    assert_eq!(told(pair).await.tenants[0].tenant, again);
}

/// A tenant that its instance refuses never was: whoever heard of it hears that, too.
pub async fn a_tenant_that_is_refused_is_taken_back(pair: &Pair) {
    let instance = pair.register("one", "eu", 10).await.id;
    pair.take_all(instance).await;
    in_step(pair).await;
    let tenant = pair.create("home", "org-1").await.id;
    assert_eq!(told(pair).await.tenants[0].tenant, tenant);
    let push = pair.syncs().tenants_for(&stack(instance), 0, None).await.unwrap().unwrap();
    let answer = Held { refused: vec![(tenant, "it is full".into())], ..held(push.version) };
    pair.answer(instance, push.version, &answer, &[tenant]).await;
    let gone = told(pair).await;
    assert!(gone.is_empty() && gone.owner == org("org-1"), "{gone:?}");
}

/// Owners are pushed in the order of their last changes, each once and as it is now, and wait since their first.
pub async fn an_owner_who_changes_often_is_told_once(pair: &Pair) {
    pair.register("one", "eu", 10).await;
    pair.sight(&sighting("ann", "org-1", 100)).await;
    in_step(pair).await;
    grant(pair, "org-1", 1).await;
    let since = pair.stream(&kits(), SyncKind::Organisations).await.pending_time;
    let tenant = pair.create("home", "org-2").await.id;
    let last = grant(pair, "org-1", 2).await;
    let stream = pair.stream(&kits(), SyncKind::Organisations).await;
    assert_eq!((stream.pending, stream.pending_time), (2, since));
    assert!(since.is_some() && stream.is_due(CLOCK.now()));
    let push = next(pair).await.unwrap();
    assert_eq!(owners(&push), ["org-2", "org-1"]);
    assert_eq!((push.items[0].tenants[0].tenant, push.items[1].grant), (tenant, Some(last)));
    assert_eq!(next(pair).await, Some(push.clone()), "what was not acknowledged comes again");
    take(pair, &push).await;
    let stream = pair.stream(&kits(), SyncKind::Organisations).await;
    assert_eq!((stream.acknowledged_version, stream.pending, stream.snapshot_due), (push.version, 0, false));
}

/// Who has neither a grant nor a tenant is in none of its pages, which are ordered and of one version; what changes
/// behind the first one is pushed as a change when the snapshot is done.
pub async fn a_snapshot_of_organisations_holds_those_with_a_grant_or_a_tenant(pair: &Pair) {
    pair.register("one", "eu", 10).await;
    for number in 0..BATCH {
        let owner = format!("org-{number:03}");
        pair.sight(&sighting(&format!("user-{number:03}"), &owner, 100)).await;
        grant(pair, &owner, 1).await;
    }
    pair.sight(&sighting("nobody", "org-none", 100)).await;
    let gone = pair.create("gone", "zz-gone").await.id;
    pair.move_on(gone, TenantMove::Delete).await;
    erase_expired(pair).await;
    pair.create("home", "zz-home").await;
    connect(pair, &kits()).await;
    let first = next(pair).await.unwrap();
    assert_eq!((first.items.len(), first.basis), (BATCH, Basis::Snapshot { page: 1, last: false }));
    assert!(owners(&first).is_sorted());
    grant(pair, "org-000", 2).await;
    let after: Option<&OrgId> = first.items.last().map(|organisation| &organisation.owner);
    let second = pair.syncs().organisations_for(&kits(), 2, after).await.unwrap().unwrap();
    assert_eq!((second.version, second.basis), (first.version, Basis::Snapshot { page: 2, last: true }));
    assert_eq!(owners(&second), ["zz-home"]);
    assert!(second.items[0].grant.is_none() && second.items[0].tenants.len() == 1);
    take(pair, &second).await;
    let behind = next(pair).await.unwrap();
    assert_eq!(behind.basis, Basis::Change { base_version: first.version });
    assert_eq!(owners(&behind), ["org-000"]);
}

/// A Stack has its tenants, and who does not decide by plan has the revocations; who is told of organisations is told of
/// neither tenants nor flags.
pub async fn only_who_decides_by_plan_without_tenants_is_told_of_organisations(pair: &Pair) {
    let instance = pair.register("one", "eu", 10).await.id;
    let cloud = ServiceIdentity { module: "cloud".into(), instance: "local".into() };
    for target in [&cloud, &kits()] {
        connect(pair, target).await;
    }
    pair.create("home", "org-1").await;
    grant(pair, "org-1", 1).await;
    let streams = pair.syncs().streams().await.unwrap();
    let kinds = |module: &str| -> BTreeSet<SyncKind> {
        let own = streams.iter().filter(|stream| stream.target.module == module);
        own.map(|stream| stream.kind).collect()
    };
    assert_eq!(kinds("kits"), [SyncKind::Organisations, SyncKind::Revocations].into());
    assert!(!kinds("stack").contains(&SyncKind::Organisations));
    assert!(!kinds("cloud").contains(&SyncKind::Organisations));
    for page in [0, 1] {
        for target in [&stack(instance), &cloud] {
            assert_eq!(pair.syncs().organisations_for(target, page, None).await.unwrap(), None, "{target}");
        }
        assert_eq!(pair.syncs().tenants_for(&kits(), page, None).await.unwrap(), None);
    }
    assert_eq!(owners(&next(pair).await.unwrap()), ["org-1"]);
}
