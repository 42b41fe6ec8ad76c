//! What must hold for instances.

use super::{
    CLOCK, Pair, all_pages, change, code, instance_id, new_claim, new_instance, new_report, new_tenant,
    seconds, stack,
};
use crate::health::{HealthState, Reported, Tracked};
use crate::instance::{Claim, InstanceMode, InstanceStatus, InstanceStore, NewInstance};
use crate::mesh_key::MeshKey;
use crate::sync::SyncKind;
use crate::{Clock as _, Code, Etag, InstanceId, Page, Result};

async fn set(pair: &Pair, id: InstanceId, etag: Option<Etag>, status: InstanceStatus) -> Result<Etag> {
    let change = change("instance.status");
    pair.instances().set_status(&change, id, etag, status).await.map(|instance| instance.etag)
}

async fn remove(pair: &Pair, id: InstanceId, etag: Option<Etag>) -> Result<()> {
    pair.instances().remove(&change("instance.removed"), id, etag).await
}

/// A registered instance is found as it was answered, active and without tenants.
pub async fn an_instance_is_registered_active_and_empty(pair: &Pair) {
    let register = change("instance.registered");
    let new = NewInstance { mode: InstanceMode::Dedicated, ..new_instance("one", "eu", 1) };
    let instance = pair.instances().register(&register, &new).await.unwrap();
    let NewInstance {
        id,
        name,
        region,
        mode,
        max_tenants,
        internal_endpoint,
        public_endpoint,
        join_secret_hash: _,
    } = new;
    assert_eq!((instance.id, &instance.name, &instance.region, instance.mode), (id, &name, &region, mode));
    assert_eq!((instance.status, instance.tenant_count), (InstanceStatus::Active, 0));
    assert_eq!(instance.max_tenants, max_tenants);
    assert_eq!(
        (&instance.internal_endpoint, &instance.public_endpoint),
        (&internal_endpoint, &public_endpoint)
    );
    assert_eq!((instance.maintenance, &instance.health), (false, &None));
    assert_eq!(instance.create_time, register.time);
    assert_eq!(InstanceStore::find(&*pair.b, id).await.unwrap(), Some(instance));
    assert_eq!(pair.instances().find(instance_id()).await.unwrap(), None);
    let rows = pair.rows_of("instance.registered").await;
    assert_eq!((rows.len(), rows[0].target.clone()), (1, id.to_string()));
}

/// Two instances never have one name, and a removed one has none.
pub async fn a_name_is_taken_until_its_instance_is_removed(pair: &Pair) {
    let first = pair.register("one", "eu", 1).await.id;
    let register = || async {
        pair.instances().register(&change("instance.registered"), &new_instance("one", "us", 1)).await
    };
    assert_eq!(code(register().await), Code::Conflict);
    set(pair, first, None, InstanceStatus::Draining).await.unwrap();
    assert_eq!(code(register().await), Code::Conflict);
    remove(pair, first, None).await.unwrap();
    let second = register().await.unwrap().id;
    set(pair, second, None, InstanceStatus::Draining).await.unwrap();
    remove(pair, second, None).await.unwrap();
    register().await.unwrap();
}

/// Setting the status that is there changes nothing, etag too, and is audited all the same.
pub async fn a_status_is_set_once_and_every_time_audited(pair: &Pair) {
    let instance = pair.register("one", "eu", 1).await;
    let drained = set(pair, instance.id, None, InstanceStatus::Draining).await.unwrap();
    assert_ne!(drained, instance.etag);
    assert_eq!(set(pair, instance.id, None, InstanceStatus::Draining).await.unwrap(), drained);
    let status = pair.instances().find(instance.id).await.unwrap().unwrap().status;
    assert_eq!(status, InstanceStatus::Draining);
    let rows = pair.rows_of("instance.status").await;
    assert_eq!(rows.len(), 2);
    assert!(rows.iter().all(|row| row.target == instance.id.to_string()));
}

/// A status for another version than the present one is not set, nor for what is not there.
pub async fn a_status_needs_the_present_etag(pair: &Pair) {
    let instance = pair.register("one", "eu", 1).await;
    let drained = set(pair, instance.id, Some(instance.etag), InstanceStatus::Draining).await.unwrap();
    let stale = set(pair, instance.id, Some(instance.etag), InstanceStatus::Active).await;
    assert_eq!(code(stale), Code::PreconditionFailed);
    set(pair, instance.id, Some(drained), InstanceStatus::Active).await.unwrap();
    assert_eq!(code(set(pair, instance_id(), None, InstanceStatus::Active).await), Code::NotFound);
}

/// A tenant that comes leaves the version of its instance.
pub async fn a_tenant_leaves_the_etag_of_its_instance(pair: &Pair) {
    let before = pair.register("one", "eu", 2).await;
    pair.create("home", "org-1").await;
    let after = pair.instances().find(before.id).await.unwrap().unwrap();
    assert_eq!((after.etag, after.tenant_count), (before.etag, 1));
}

/// An instance that takes tenants, has some, is another version or is not there is not removed.
pub async fn only_what_drains_and_is_empty_is_removed(pair: &Pair) {
    let full = pair.register("full", "eu", 1).await.id;
    pair.create("home", "org-1").await;
    let empty = pair.register("empty", "eu", 1).await;
    assert_eq!(code(remove(pair, empty.id, None).await), Code::PreconditionFailed);
    let drained = set(pair, empty.id, None, InstanceStatus::Draining).await.unwrap();
    assert_eq!(code(remove(pair, empty.id, Some(empty.etag)).await), Code::PreconditionFailed);
    set(pair, full, None, InstanceStatus::Draining).await.unwrap();
    assert_eq!(code(remove(pair, full, None).await), Code::PreconditionFailed);
    assert_eq!(code(remove(pair, instance_id(), None).await), Code::NotFound);
    assert!(pair.rows_of("instance.removed").await.is_empty());
    remove(pair, empty.id, Some(drained)).await.unwrap();
    assert_eq!(pair.rows_of("instance.removed").await.len(), 1);
}

/// A removed instance is not found, not listed, not changed, not removed again, and takes no tenants.
pub async fn what_was_removed_is_nowhere(pair: &Pair) {
    let id = pair.register("one", "eu", 9).await.id;
    set(pair, id, None, InstanceStatus::Draining).await.unwrap();
    remove(pair, id, None).await.unwrap();
    assert_eq!(InstanceStore::find(&*pair.b, id).await.unwrap(), None);
    assert!(pair.instances().list(None, &Page::first()).await.unwrap().items.is_empty());
    assert_eq!(code(set(pair, id, None, InstanceStatus::Active).await), Code::NotFound);
    assert_eq!(code(remove(pair, id, None).await), Code::NotFound);
    let maintenance = change("instance.maintenance.set");
    assert_eq!(code(pair.instances().set_maintenance(&maintenance, id, None, true).await), Code::NotFound);
    let claim = change("instance.claimed");
    assert_eq!(code(pair.instances().claim(&claim, id, &new_claim(id)).await), Code::AuthInvalid);
    assert_eq!(pair.keys().find(&stack(id)).await.unwrap(), None);
    let refused = pair.tenants().create(&change("tenant.created"), &new_tenant("home", "org-1")).await;
    assert_eq!(code(refused), Code::ServiceUnavailable);
}

/// Instances that were made in the same moment are each on one page, newest first and then by id.
pub async fn pages_hold_every_instance_once_and_in_order(pair: &Pair) {
    let moment = change("instance.registered");
    let mut ids = Vec::new();
    for name in ["c", "a", "d", "b"] {
        let instance = pair.instances().register(&moment, &new_instance(name, "eu", 1)).await.unwrap();
        ids.push(instance.id.to_string());
    }
    ids.sort_by(|one, other| other.cmp(one));
    for limit in [1, 2, 3, 4, 5] {
        let instances =
            all_pages(limit, |page| async move { pair.instances().list(None, &page).await }).await;
        let found: Vec<String> = instances.iter().map(|instance| instance.id.to_string()).collect();
        assert_eq!(found, ids, "{limit} a page");
    }
}

/// The filter by status leaves out the other one.
pub async fn a_list_of_a_status_holds_no_other(pair: &Pair) {
    let draining = pair.register("draining", "eu", 1).await.id;
    let active = pair.register("active", "eu", 1).await.id;
    set(pair, draining, None, InstanceStatus::Draining).await.unwrap();
    for (status, expected) in [
        (None, vec![active, draining]),
        (Some(InstanceStatus::Active), vec![active]),
        (Some(InstanceStatus::Draining), vec![draining]),
    ] {
        let listed = pair.instances().list(status, &Page::first()).await.unwrap();
        assert_eq!(
            listed.items.iter().map(|instance| instance.id).collect::<Vec<_>>(),
            expected,
            "{status:?}"
        );
    }
}

/// Saying that somebody works on it is a change of the row, once; every time it is audited.
pub async fn maintenance_is_set_once_and_every_time_audited(pair: &Pair) {
    let before = pair.register("one", "eu", 1).await;
    let set = async |etag, maintenance| {
        let change = change("instance.maintenance.set");
        pair.instances().set_maintenance(&change, before.id, etag, maintenance).await
    };
    let during = set(Some(before.etag), true).await.unwrap();
    assert!(during.maintenance);
    assert_ne!(during.etag, before.etag);
    assert_eq!(set(None, true).await.unwrap(), during);
    assert_eq!(code(set(Some(before.etag), false).await), Code::PreconditionFailed);
    assert_eq!(InstanceStore::find(&*pair.b, before.id).await.unwrap(), Some(during));
    assert!(!set(None, false).await.unwrap().maintenance);
    let rows = pair.rows_of("instance.maintenance.set").await;
    assert_eq!(rows.len(), 3);
    assert!(rows.iter().all(|row| row.target == before.id.to_string()));
    let maintenance = change("instance.maintenance.set");
    let nobody = pair.instances().set_maintenance(&maintenance, instance_id(), None, true).await;
    assert_eq!(code(nobody), Code::NotFound);
}

/// A name finds its instance as it is; a removed one has none.
pub async fn an_instance_is_found_by_its_name_until_it_is_removed(pair: &Pair) {
    let one = pair.register("one", "eu", 1).await;
    pair.register("two", "eu", 1).await;
    assert_eq!(InstanceStore::find_by_name(&*pair.b, "one").await.unwrap(), Some(one.clone()));
    assert_eq!(pair.instances().find_by_name("three").await.unwrap(), None);
    set(pair, one.id, None, InstanceStatus::Draining).await.unwrap();
    remove(pair, one.id, None).await.unwrap();
    assert_eq!(pair.instances().find_by_name("one").await.unwrap(), None);
}

/// A claim registers the key and is audited; the same one again is not, and both begin to push everything anew.
pub async fn a_claim_registers_the_key_once_and_connects_every_time(pair: &Pair) {
    let new = new_instance("one", "eu", 1);
    let id = new.id;
    let registered = pair.instances().register(&change("instance.registered"), &new).await.unwrap();
    let claim = new_claim(id);
    for _ in 0..2 {
        let claimed = change("instance.claimed");
        assert_eq!(pair.instances().claim(&claimed, id, &claim).await.unwrap(), registered);
        let Claim { kid, public_key, .. } = claim.clone();
        let key = MeshKey { kid, service: stack(id), public_key };
        assert_eq!(pair.keys().find(&stack(id)).await.unwrap(), Some(key));
        for &kind in SyncKind::of_module("stack") {
            let stream = pair.stream(&stack(id), kind).await;
            assert!(stream.snapshot_due && stream.is_due(claimed.time), "{stream:?}");
            assert_eq!((stream.endpoint, stream.attempts), (new.internal_endpoint.clone(), 0));
            let later = seconds(claimed.time, 60);
            pair.syncs().postpone(&stack(id), kind, "lost", later).await.unwrap();
        }
        pair.take_all(id).await;
        assert!(!pair.stream(&stack(id), SyncKind::Tenants).await.snapshot_due);
    }
    let rows = pair.rows_of("instance.claimed").await;
    assert_eq!((rows.len(), rows[0].target.clone()), (1, id.to_string()));
    assert_eq!(rows[0].details["kid"], claim.kid);
    let Claim { kid, .. } = claim;
    let next = Claim { kid: "next".into(), public_key: "next".into(), replaces: Some(kid), ..new_claim(id) };
    pair.instances().claim(&change("instance.claimed"), id, &next).await.unwrap();
    assert_eq!(pair.keys().find(&stack(id)).await.unwrap().unwrap().kid, "next");
    assert_eq!(pair.rows_of("instance.claimed").await.len(), 2);
}

/// Without the secret, for an instance that is not there, or against another key, nothing is claimed.
pub async fn a_claim_needs_the_secret_and_the_present_key(pair: &Pair) {
    let new = new_instance("one", "eu", 1);
    pair.instances().register(&change("instance.registered"), &new).await.unwrap();
    let attempt =
        async |id, claim: Claim| code(pair.instances().claim(&change("instance.claimed"), id, &claim).await);
    let right = new_claim(new.id);
    let wrong = Claim { join_secret_hash: [8; 32], ..right.clone() };
    assert_eq!(attempt(new.id, wrong.clone()).await, Code::AuthInvalid);
    let stranger = instance_id();
    assert_eq!(attempt(stranger, new_claim(stranger)).await, Code::AuthInvalid);
    let from_nothing = Claim { replaces: Some("k0".into()), ..right.clone() };
    assert_eq!(attempt(new.id, from_nothing).await, Code::AuthInvalid);
    assert_eq!(pair.keys().find(&stack(new.id)).await.unwrap(), None);
    assert!(pair.syncs().streams().await.unwrap().is_empty());
    pair.instances().claim(&change("instance.claimed"), new.id, &right).await.unwrap();
    for replaces in [None, Some("k0".to_owned())] {
        let other = Claim { kid: "other".into(), replaces, ..right.clone() };
        assert_eq!(attempt(new.id, other).await, Code::AuthInvalid);
    }
    // Who has the key has not the secret.
    assert_eq!(attempt(new.id, wrong).await, Code::AuthInvalid);
    assert_eq!(pair.keys().find(&stack(new.id)).await.unwrap().unwrap().kid, right.kid);
    assert_eq!(pair.rows_of("instance.claimed").await.len(), 1);
}

/// The last report shows in every read, and leaves the version of the row.
pub async fn an_instance_shows_its_last_report(pair: &Pair) {
    let new = new_instance("one", "eu", 1);
    let before = pair.instances().register(&change("instance.registered"), &new).await.unwrap();
    let (report, now) = (new_report("boot", 1, Reported::Degraded), CLOCK.now());
    pair.health().report(&stack(new.id), &report, now).await.unwrap();
    let health = Tracked {
        report,
        report_time: now,
        state: HealthState::Warming,
        state_time: now,
        streak: 1,
        earlier_boot_id: String::new(),
    };
    let after = InstanceStore::find(&*pair.b, new.id).await.unwrap().unwrap();
    assert_eq!((after.health.as_ref(), after.etag), (Some(&health), before.etag));
    assert_eq!(pair.instances().list(None, &Page::first()).await.unwrap().items, [after]);
}
