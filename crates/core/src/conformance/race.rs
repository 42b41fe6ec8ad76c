//! What must hold however many call at the same time, on both handles.

use std::collections::BTreeSet;

use super::launch::new_launch;
use super::{
    CLOCK, Pair, change, change_by, code, creator, held, new_instance, new_report, new_tenant, org, promised,
    scope, sighting, stack, sub,
};
use crate::flag::FlagStore;
use crate::health::{HealthStore, Reported};
use crate::instance::InstanceStore;
use crate::launch::LaunchStore;
use crate::placed::Held;
use crate::sync::SyncKind;
use crate::tenant::{Tenant, TenantFilter, TenantMove, TenantStatus, TenantStore};
use crate::user::{UserPatch, UserStore};
use crate::{Clock as _, Code, InstanceId, Page, PlatformStore, Result, TenantId};

/// Of 64 who race for 20 places, 20 get one; the others are told to come again and leave nothing behind.
pub async fn no_place_is_given_twice_however_many_race(pair: &Pair) {
    let instance = pair.register("one", "eu", 20).await;
    let results = pair
        .race(64, |racer, store| async move {
            let new = new_tenant(&format!("tenant-{racer}"), &format!("org-{racer}"));
            TenantStore::create(&*store, &change("tenant.created"), &new).await
        })
        .await;
    let (placed, refused): (Vec<_>, Vec<_>) = results.into_iter().partition(Result::is_ok);
    assert_eq!((placed.len(), refused.len()), (20, 44), "{refused:?}");
    for fault in refused.into_iter().map(Result::unwrap_err) {
        assert_eq!(fault.code(), Code::ServiceUnavailable, "{fault}");
        assert!(fault.retry_after().is_some_and(|after| !after.is_zero()), "{fault}");
        assert!(fault.to_string().contains("place"), "refused for another reason: {fault}");
    }
    assert_eq!(pair.instances().find(instance.id).await.unwrap().unwrap().tenant_count, 20);
    assert_eq!(pair.tenants().list(&TenantFilter::default(), &Page::first()).await.unwrap().items.len(), 20);
    assert_eq!(pair.rows_of("tenant.created").await.len(), 20);
    let placed: BTreeSet<String> =
        placed.into_iter().map(|tenant| tenant.unwrap().slug.to_string()).collect();
    pair.register("two", "eu", 44).await;
    for racer in 0..64 {
        let slug = format!("tenant-{racer}");
        if !placed.contains(&slug) {
            assert_eq!(
                pair.tenants().memberships(&creator(&slug)).await.unwrap().iter().count(),
                0,
                "{slug}"
            );
            pair.create(&slug, &format!("org-{racer}")).await;
        }
    }
}

/// Of 16 creates of one owner, one makes a tenant and takes a place.
pub async fn one_owner_who_races_gets_one_tenant(pair: &Pair) {
    let instance = pair.register("one", "eu", 50).await;
    let results = pair
        .race(16, |racer, store| async move {
            let new = new_tenant(&format!("tenant-{racer}"), "org-1");
            TenantStore::create(&*store, &change("tenant.created"), &new).await
        })
        .await;
    one_and_conflicts(results);
    assert_eq!(pair.instances().find(instance.id).await.unwrap().unwrap().tenant_count, 1);
    assert_eq!(pair.rows_of("tenant.created").await.len(), 1);
}

/// Of 16 owners who want one slug, one gets it and a place.
pub async fn one_slug_that_many_want_goes_to_one(pair: &Pair) {
    let instance = pair.register("one", "eu", 50).await;
    let results = pair
        .race(16, |racer, store| async move {
            let new = new_tenant("home", &format!("org-{racer}"));
            TenantStore::create(&*store, &change("tenant.created"), &new).await
        })
        .await;
    one_and_conflicts(results);
    assert_eq!(pair.instances().find(instance.id).await.unwrap().unwrap().tenant_count, 1);
}

/// Of 16 twins, calls under one key, all answer with the one tenant that one of them made.
pub async fn twins_make_one_tenant(pair: &Pair) {
    let instance = pair.register("one", "eu", 50).await;
    let results = pair
        .race(16, |_, store| async move {
            let twin = promised(change_by("ann", "tenant.created"), "key-1", 1);
            TenantStore::create(&*store, &twin, &new_tenant("home", "org-1")).await
        })
        .await;
    let ids: BTreeSet<_> = results.into_iter().map(|tenant| tenant.unwrap().id).collect();
    assert_eq!(ids.len(), 1, "{ids:?}");
    assert_eq!(pair.instances().find(instance.id).await.unwrap().unwrap().tenant_count, 1);
    assert_eq!(pair.rows_of("tenant.created").await.len(), 1);
}

/// Of 16 instances of one name, one is registered.
pub async fn one_name_that_many_want_goes_to_one(pair: &Pair) {
    let results = pair
        .race(16, |_, store| async move {
            let new = new_instance("one", "eu", 1);
            InstanceStore::register(&*store, &change("instance.registered"), &new).await
        })
        .await;
    one_and_conflicts(results);
    assert_eq!(pair.instances().list(None, &Page::first()).await.unwrap().items.len(), 1);
}

/// A user whom 16 see for the first time is made once and audited once.
pub async fn one_user_whom_many_see_is_one_user(pair: &Pair) {
    let results = pair
        .race(16, |_, store| async move {
            UserStore::sight(&*store, &change("user.created"), &sighting("ann", "org-1", 100)).await
        })
        .await;
    let first = pair.users().find(&sub("ann")).await.unwrap().unwrap();
    assert_eq!(first.owner, org("org-1"));
    for user in results {
        assert_eq!(user.unwrap(), first);
    }
    assert_eq!(pair.rows_of("user.created").await.len(), 1);
}

/// Of 16 updates for the same version, one is done.
pub async fn one_etag_that_many_hold_is_good_for_one(pair: &Pair) {
    let etag = pair.sight(&sighting("ann", "org-1", 100)).await.etag;
    let results = pair
        .race(16, |racer, store| async move {
            let patch = UserPatch { display_name: Some(format!("name {racer}")), ..UserPatch::default() };
            UserStore::update(&*store, &change("user.updated"), &sub("ann"), Some(etag), patch).await
        })
        .await;
    let (done, refused): (Vec<_>, Vec<_>) = results.into_iter().partition(Result::is_ok);
    assert_eq!(done.len(), 1, "{refused:?}");
    for result in refused {
        assert_eq!(code(result), Code::PreconditionFailed);
    }
}

/// Of 4 who redeem each of 64 codes, one is let in; the others are told that it was used.
pub async fn one_code_that_many_redeem_is_good_for_one(pair: &Pair) {
    let instance = pair.register("one", "eu", 10).await.id;
    let tenant = pair.create("home", "org-1").await.id;
    for hash in 0..64 {
        pair.launches()
            .issue(scope(tenant), &change("launch.code.issued"), &new_launch("ann", hash))
            .await
            .unwrap();
    }
    // Racers of one code are neighbours: half of them on either handle.
    let results = pair
        .race(256, |racer, store| async move {
            let hash = [u8::try_from(racer / 4).unwrap(); 32];
            let redeem = change("launch.code.redeemed");
            Ok((racer / 4, LaunchStore::redeem(&*store, &redeem, &hash, instance, None).await))
        })
        .await;
    let mut let_in = BTreeSet::new();
    for (hash, result) in results.into_iter().map(Result::unwrap) {
        match result {
            Ok(launch) => {
                assert_eq!(launch.tenant, tenant);
                assert!(let_in.insert(hash), "the code {hash} was redeemed twice");
            }
            Err(fault) => {
                assert_eq!(fault.code(), Code::AuthInvalid, "{fault}");
                assert!(fault.to_string().contains("used"), "{fault}");
            }
        }
    }
    assert_eq!(let_in.len(), 64);
}

/// While tenants race for the last places, the instance refuses every other one that it is told of: at the end the count
/// is that of the tenants that are there, all of them active, and of the refused ones there is nothing.
pub async fn no_place_is_lost_or_given_twice_while_tenants_are_refused(pair: &Pair) {
    let instance = pair.register("one", "eu", 8).await.id;
    pair.take_all(instance).await;
    let results = pair
        .race(72, |racer, store| async move {
            if racer % 9 == 8 {
                return refuse_some(&*store, instance).await.map(|()| None);
            }
            let new = new_tenant(&format!("tenant-{racer}"), &format!("org-{racer}"));
            TenantStore::create(&*store, &change("tenant.created"), &new).await.map(Some)
        })
        .await;
    let mut created: Vec<Tenant> = Vec::new();
    for result in results {
        match result {
            Ok(tenant) => created.extend(tenant),
            Err(fault) => assert_eq!(fault.code(), Code::ServiceUnavailable, "{fault}"),
        }
    }
    assert!(created.len() >= 8, "{}", created.len());
    pair.take_all(instance).await;
    let there = pair.tenants().list(&TenantFilter::default(), &Page::first()).await.unwrap().items;
    let count = pair.instances().find(instance).await.unwrap().unwrap().tenant_count;
    assert!(count <= 8, "{count}");
    assert_eq!(usize::try_from(count).unwrap(), there.len());
    let refused = pair.rows_of("tenant.refused").await;
    assert_eq!(created.len(), there.len() + refused.len());
    let there: BTreeSet<TenantId> = there
        .into_iter()
        .map(|tenant| {
            assert_eq!(tenant.status, TenantStatus::Active);
            tenant.id
        })
        .collect();
    for tenant in created {
        let memberships = pair.tenants().memberships(&creator(tenant.slug.as_str())).await.unwrap();
        assert_eq!(memberships.iter().count(), usize::from(there.contains(&tenant.id)), "{}", tenant.slug);
    }
    let stream = pair.stream(&stack(instance), SyncKind::Tenants).await;
    assert_eq!((stream.pending, stream.snapshot_due), (0, false));
    for number in count..8 {
        pair.create(&format!("more-{number}"), &format!("more-{number}")).await;
    }
    let full = pair.tenants().create(&change("tenant.created"), &new_tenant("full", "full")).await;
    assert_eq!(code(full), Code::ServiceUnavailable);
}

/// Asks what there is to push, and refuses every other tenant of it.
async fn refuse_some(store: &dyn PlatformStore, instance: InstanceId) -> Result<()> {
    let target = stack(instance);
    let Some(push) = store.tenants_for(&target, 0, None).await? else { return Ok(()) };
    let tenants: Vec<TenantId> = push.items.iter().map(|tenant| tenant.id).collect();
    let refused = tenants.iter().step_by(2).map(|id| (*id, "no".to_owned())).collect();
    let held = Held { refused, ..held(push.version) };
    store
        .acknowledge(&change("sync.acknowledged"), &target, SyncKind::Tenants, push.version, &held, &tenants)
        .await
}

/// Of 16 who delete one tenant, one does; the others find it deleted.
pub async fn one_tenant_that_many_delete_is_deleted_once(pair: &Pair) {
    pair.register("one", "eu", 10).await;
    let id = pair.create("home", "org-1").await.id;
    let results = pair
        .race(16, |_, store| async move {
            store.change_status(&change("tenant.deleted"), id, None, TenantMove::Delete, "").await
        })
        .await;
    let (done, refused): (Vec<_>, Vec<_>) = results.into_iter().partition(Result::is_ok);
    assert_eq!(done.len(), 1, "{refused:?}");
    for result in refused {
        assert_eq!(code(result), Code::PreconditionFailed);
    }
    assert_eq!(pair.rows_of("tenant.deleted").await.len(), 1);
}

/// 32 changes of the set make 32 versions, each with a change of its own.
pub async fn many_changes_of_the_flags_are_as_many_versions(pair: &Pair) {
    let results = pair
        .race(32, |racer, store| async move {
            let key = format!("flag-{}", racer / 2).parse().unwrap();
            let definition = format!(r#"{{"racer":{racer}}}"#);
            FlagStore::set(&*store, &change("flag.set"), &key, None, &definition, "").await
        })
        .await;
    let versions: BTreeSet<u32> = results.into_iter().map(|flag| flag.unwrap().version).collect();
    assert_eq!(versions, (1..=32).collect());
    let changes = pair.flags().changes(None, &Page::first()).await.unwrap().items;
    assert_eq!(changes.iter().map(|change| change.version).collect::<BTreeSet<_>>(), versions);
    assert_eq!(pair.syncs().flags().await.unwrap().version, 32);
}

/// A report that comes 16 times at once is taken once.
pub async fn many_reports_of_one_sequence_begin_one_state(pair: &Pair) {
    let new = new_instance("one", "eu", 10);
    pair.instances().register(&change("instance.registered"), &new).await.unwrap();
    let results = pair
        .race(16, |_, store| async move {
            let report = new_report("boot", 1, Reported::Healthy);
            HealthStore::report(&*store, &stack(new.id), &report, CLOCK.now()).await
        })
        .await;
    assert!(results.iter().all(Result::is_ok), "{results:?}");
    assert_eq!(pair.health().history(new.id, &Page::first()).await.unwrap().items.len(), 1);
    let tracked = pair.instances().find(new.id).await.unwrap().unwrap().health.unwrap();
    assert_eq!(tracked.streak, 1);
}

fn one_and_conflicts<T: std::fmt::Debug>(results: Vec<Result<T>>) {
    let (done, refused): (Vec<_>, Vec<_>) = results.into_iter().partition(Result::is_ok);
    assert_eq!(done.len(), 1, "{refused:?}");
    for result in refused {
        assert_eq!(code(result), Code::Conflict);
    }
}
