//! What must hold however many call at the same time, on both handles.

use std::collections::BTreeSet;

use super::{Pair, change, change_by, code, creator, new_instance, new_tenant, org, promised, sighting, sub};
use crate::instance::InstanceStore;
use crate::tenant::{TenantFilter, TenantStore};
use crate::user::{UserPatch, UserStore};
use crate::{Code, Page};

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

fn one_and_conflicts<T: std::fmt::Debug>(results: Vec<crate::Result<T>>) {
    let (done, refused): (Vec<_>, Vec<_>) = results.into_iter().partition(Result::is_ok);
    assert_eq!(done.len(), 1, "{refused:?}");
    for result in refused {
        assert_eq!(code(result), Code::Conflict);
    }
}
