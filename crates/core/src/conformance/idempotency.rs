//! What must hold for the promise that a repeat is a repeat.

use super::{Pair, change, change_by, code, new_instance, new_tenant, org, promised, seconds, sighting};
use crate::instance::InstanceStatus;
use crate::tenant::TenantFilter;
use crate::{Actor, Change, Code, Idempotency, Page, Plan, PlanGrant, ServiceIdentity};

const DAY: i64 = Idempotency::KEPT_HOURS * 3600;

fn creation(by: &str, key: &str, request: u8) -> Change {
    promised(change_by(by, "tenant.created"), key, request)
}

/// A repeat has no second effect and no second audit row; the tenant in its answer is the present one.
pub async fn a_repeat_answers_with_the_same_tenant_as_it_is_now(pair: &Pair) {
    let instance = pair.register("one", "eu", 10).await;
    pair.sight(&sighting("ann", "org-1", 100)).await;
    let first =
        pair.tenants().create(&creation("ann", "key-1", 1), &new_tenant("home", "org-1")).await.unwrap();
    let grant = PlanGrant { plan: Plan::Pro, end_time: seconds(first.create_time, DAY) };
    pair.organisations()
        .grant(&change("organisation.plan.granted"), &org("org-1"), grant, "a gift")
        .await
        .unwrap();
    let again =
        pair.tenants().create(&creation("ann", "key-1", 1), &new_tenant("home", "org-1")).await.unwrap();
    assert_eq!((again.id, again.create_time), (first.id, first.create_time));
    assert_eq!(again.grant, Some(grant));
    assert_eq!(pair.instances().find(instance.id).await.unwrap().unwrap().tenant_count, 1);
    assert_eq!(pair.rows_of("tenant.created").await.len(), 1);
}

/// A key stands for one request; another one under it does nothing.
pub async fn another_request_under_the_same_key_is_a_conflict(pair: &Pair) {
    pair.register("one", "eu", 10).await;
    pair.tenants().create(&creation("ann", "key-1", 1), &new_tenant("home", "org-1")).await.unwrap();
    let other = pair.tenants().create(&creation("ann", "key-1", 2), &new_tenant("other", "org-2")).await;
    assert_eq!(code(other), Code::Conflict);
    assert_eq!(pair.tenants().list(&TenantFilter::default(), &Page::first()).await.unwrap().items.len(), 1);
}

/// A key holds for 24 hours and not longer; then it is as good as new.
pub async fn a_key_is_kept_for_a_day(pair: &Pair) {
    pair.register("one", "eu", 10).await;
    let create = creation("ann", "key-1", 1);
    let first = pair.tenants().create(&create, &new_tenant("home", "org-1")).await.unwrap();
    let late = Change { time: seconds(create.time, DAY - 1), ..creation("ann", "key-1", 1) };
    assert_eq!(pair.tenants().create(&late, &new_tenant("home", "org-1")).await.unwrap().id, first.id);
    let next_day = Change { time: seconds(create.time, DAY), ..creation("ann", "key-1", 2) };
    let second = pair.tenants().create(&next_day, &new_tenant("other", "org-2")).await.unwrap();
    assert_ne!(second.id, first.id);
    let repeat = Change { time: seconds(create.time, DAY + 1), ..creation("ann", "key-1", 2) };
    assert_eq!(pair.tenants().create(&repeat, &new_tenant("other", "org-2")).await.unwrap().id, second.id);
}

/// The same key of another caller, or for another method, is another key.
pub async fn a_key_belongs_to_its_caller_and_its_method(pair: &Pair) {
    pair.register("one", "eu", 10).await;
    let ann =
        pair.tenants().create(&creation("ann", "key-1", 1), &new_tenant("home", "org-1")).await.unwrap();
    let bob =
        pair.tenants().create(&creation("bob", "key-1", 2), &new_tenant("other", "org-2")).await.unwrap();
    assert_ne!(ann.id, bob.id);
    let register = promised(change_by("ann", "instance.registered"), "key-1", 3);
    let instance = pair.instances().register(&register, &new_instance("two", "eu", 1)).await.unwrap();
    let register = promised(change_by("ann", "instance.registered"), "key-1", 3);
    assert_eq!(pair.instances().register(&register, &new_instance("two", "eu", 1)).await.unwrap(), instance);
}

/// The caller of a key is the user, whichever service speaks.
pub async fn a_user_has_the_same_key_through_every_service(pair: &Pair) {
    pair.register("one", "eu", 10).await;
    let direct = creation("ann", "key-1", 1);
    let cloud = ServiceIdentity { module: "cloud".into(), instance: "local".into() };
    let actor = Actor { service: Some(cloud), ..direct.actor.clone() };
    let first = pair.tenants().create(&direct, &new_tenant("home", "org-1")).await.unwrap();
    let through = Change { actor, ..creation("ann", "key-1", 1) };
    assert_eq!(pair.tenants().create(&through, &new_tenant("home", "org-1")).await.unwrap().id, first.id);
}

/// What failed may be tried again under its key.
pub async fn an_error_is_not_kept(pair: &Pair) {
    let failed = pair.tenants().create(&creation("ann", "key-1", 1), &new_tenant("home", "org-1")).await;
    assert_eq!(code(failed), Code::ServiceUnavailable);
    pair.register("one", "eu", 10).await;
    pair.tenants().create(&creation("ann", "key-1", 1), &new_tenant("home", "org-1")).await.unwrap();
}

/// A repeat does not bring back what was removed since.
pub async fn a_repeat_for_what_is_gone_finds_nothing(pair: &Pair) {
    let register = || promised(change_by("ann", "instance.registered"), "key-1", 1);
    let new = new_instance("one", "eu", 1);
    let instance = pair.instances().register(&register(), &new).await.unwrap();
    let drain = change("instance.drained");
    pair.instances().set_status(&drain, instance.id, None, InstanceStatus::Draining).await.unwrap();
    let now = pair.instances().register(&register(), &new).await.unwrap();
    assert_eq!((now.id, now.status), (instance.id, InstanceStatus::Draining));
    pair.instances().remove(&change("instance.removed"), instance.id, None).await.unwrap();
    assert_eq!(code(pair.instances().register(&register(), &new).await), Code::NotFound);
    assert!(pair.instances().list(None, &Page::first()).await.unwrap().items.is_empty());
}

/// A repeated grant leaves a later one where it is, and no audit row; another one under its key is a conflict.
pub async fn a_repeated_grant_grants_nothing_again(pair: &Pair) {
    let seen = pair.sight(&sighting("ann", "org-1", 100)).await;
    let grant = |plan| PlanGrant { plan, end_time: seconds(seen.create_time, DAY) };
    let promise = |request| promised(change("organisation.plan.granted"), "key-1", request);
    let org = org("org-1");
    pair.organisations().grant(&promise(1), &org, grant(Plan::Pro), "a gift").await.unwrap();
    let more = grant(Plan::Enterprise);
    pair.organisations().grant(&change("organisation.plan.granted"), &org, more, "more").await.unwrap();
    let repeat = pair.organisations().grant(&promise(1), &org, grant(Plan::Pro), "a gift").await.unwrap();
    assert_eq!(repeat.grant, Some(more));
    let other = pair.organisations().grant(&promise(2), &org, grant(Plan::Free), "no more").await;
    assert_eq!(code(other), Code::Conflict);
    assert_eq!(pair.rows_of("organisation.plan.granted").await.len(), 2);
}
