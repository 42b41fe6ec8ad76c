//! What must hold for tenants and their places.

use std::slice;

use super::{
    CLOCK, IDS, Pair, all_pages, change, code, creator, instance_id, new_claim, new_instance, new_report,
    new_tenant, seconds, stack, sub,
};
use crate::health::{Reported, UNREACHABLE_AFTER};
use crate::instance::{InstanceMode, InstanceStatus, NewInstance};
use crate::tenant::{NewTenant, Tenant, TenantFilter, TenantReport, TenantStore, Usage};
use crate::{Change, Clock as _, Code, Ids as _, Page, Sub, TenantRole, TenantScope};

/// A created tenant is found as it was answered, on its instance, with its creator as the one admin. Its owner was
/// perhaps never seen.
pub async fn a_tenant_has_a_place_and_its_creator_as_admin(pair: &Pair) {
    let instance = pair.register("one", "eu", 3).await;
    let create = change("tenant.created");
    let new = new_tenant("home", "org-1");
    let tenant = pair.tenants().create(&create, &new).await.unwrap();
    assert_eq!(
        (tenant.id, &tenant.slug, &tenant.name, &tenant.owner),
        (new.id, &new.slug, &new.name, &new.owner)
    );
    assert_eq!((tenant.instance, tenant.members, tenant.create_time), (instance.id, 1, create.time));
    assert_eq!((tenant.grant, tenant.erase_time), (None, None));
    let scope = TenantScope::system(tenant.id, "the suite reads what it wrote");
    assert_eq!(TenantStore::find(&*pair.b, scope).await.unwrap(), Some(tenant.clone()));
    let memberships = pair.tenants().memberships(&creator("home")).await.unwrap();
    let only = memberships.only().unwrap();
    assert_eq!((only.tenant, only.slug.as_str(), only.role), (tenant.id, "home", TenantRole::Admin));
    assert_eq!(pair.instances().find(instance.id).await.unwrap().unwrap().tenant_count, 1);
    let rows = pair.rows_of("tenant.created").await;
    assert_eq!(rows.len(), 1);
    assert_eq!((rows[0].target.clone(), rows[0].tenant), (tenant.id.to_string(), Some(tenant.id)));
    assert_eq!(rows[0].details["slug"], "home");
    assert_eq!(rows[0].details["instanceId"], instance.id.to_string());
}

/// Tenants go where the fewest are; among equals, to the instance that is there longest.
pub async fn the_emptiest_instance_takes_the_tenant(pair: &Pair) {
    let first = pair.register("first", "eu", 10).await.id;
    let second = pair.register("second", "eu", 10).await.id;
    let mut places = Vec::new();
    for number in 0..3 {
        places.push(pair.create(&format!("tenant-{number}"), &format!("org-{number}")).await.instance);
    }
    let third = pair.register("third", "eu", 10).await.id;
    for number in 3..5 {
        places.push(pair.create(&format!("tenant-{number}"), &format!("org-{number}")).await.instance);
    }
    // Counts before each: (0, 0), (1, 0), (1, 1), then with the third (2, 1, 0), (2, 1, 1).
    assert_eq!(places, [first, second, first, third, second]);
}

/// What drains keeps its tenants and takes no more; what is dedicated is for somebody else.
pub async fn an_instance_that_drains_or_is_dedicated_takes_none(pair: &Pair) {
    let draining = pair.register("draining", "eu", 10).await.id;
    let dedicated = NewInstance { mode: InstanceMode::Dedicated, ..new_instance("dedicated", "eu", 1) };
    pair.instances().register(&change("instance.registered"), &dedicated).await.unwrap();
    pair.bring_up(dedicated.id).await;
    assert_eq!(pair.create("kept", "org-1").await.instance, draining);
    let drain = change("instance.drained");
    pair.instances().set_status(&drain, draining, None, InstanceStatus::Draining).await.unwrap();
    let refused =
        pair.tenants().create(&change("tenant.created"), &new_tenant("late", "org-2")).await.unwrap_err();
    assert_eq!(refused.code(), Code::ServiceUnavailable);
    assert!(refused.retry_after().is_some_and(|after| !after.is_zero()));
    let activate = change("instance.activated");
    pair.instances().set_status(&activate, draining, None, InstanceStatus::Active).await.unwrap();
    assert_eq!(pair.create("late", "org-2").await.instance, draining);
}

/// A place elsewhere is no place.
pub async fn the_region_is_respected(pair: &Pair) {
    let us = pair.register("us-one", "us", 10).await.id;
    let refused = pair.tenants().create(&change("tenant.created"), &new_tenant("home", "org-1")).await;
    assert_eq!(code(refused), Code::ServiceUnavailable);
    let there = NewTenant { region: "us".parse().unwrap(), ..new_tenant("home", "org-1") };
    assert_eq!(pair.tenants().create(&change("tenant.created"), &there).await.unwrap().instance, us);
}

/// A second tenant and a given slug are refused as that, even where there is no place.
pub async fn what_stands_against_a_tenant_is_said_before_a_missing_place(pair: &Pair) {
    pair.register("one", "eu", 1).await;
    pair.create("home", "org-1").await;
    for (slug, owner, expected) in [
        ("other", "org-1", Code::Conflict),
        ("home", "org-2", Code::Conflict),
        ("other", "org-2", Code::ServiceUnavailable),
    ] {
        let refused = pair.tenants().create(&change("tenant.created"), &new_tenant(slug, owner)).await;
        assert_eq!(code(refused), expected, "{slug} of {owner}");
    }
}

/// The second tenant of an owner and the second of a slug are refused with places to spare, too, and cost none.
pub async fn an_owner_has_one_tenant_and_a_slug_is_given_once(pair: &Pair) {
    let instance = pair.register("one", "eu", 10).await;
    pair.create("home", "org-1").await;
    for (slug, owner) in [("other", "org-1"), ("home", "org-2")] {
        let refused = pair.tenants().create(&change("tenant.created"), &new_tenant(slug, owner)).await;
        assert_eq!(code(refused), Code::Conflict, "{slug} of {owner}");
    }
    assert_eq!(pair.instances().find(instance.id).await.unwrap().unwrap().tenant_count, 1);
    pair.create("other", "org-2").await;
}

/// Who is a member of several tenants lists those, and nobody else's.
pub async fn a_member_lists_the_own_tenants_only(pair: &Pair) {
    pair.register("one", "eu", 10).await;
    let mut expected = Vec::new();
    for number in 0..4 {
        let creator = sub(if number % 2 == 0 { "ann" } else { "bob" });
        let new = NewTenant { creator, ..new_tenant(&format!("tenant-{number}"), &format!("org-{number}")) };
        let tenant = pair.tenants().create(&change("tenant.created"), &new).await.unwrap();
        if number % 2 == 0 {
            expected.insert(0, tenant);
        }
    }
    let ann: Sub = sub("ann");
    for limit in [1, 2, 5] {
        let tenants = all_pages(limit, |page| {
            let ann = &ann;
            async move { pair.tenants().list_of(ann, &page).await }
        });
        assert_eq!(tenants.await, expected, "{limit} a page");
    }
    let memberships = pair.tenants().memberships(&ann).await.unwrap();
    let mut ids: Vec<_> = expected.iter().map(|tenant| tenant.id).collect();
    ids.sort();
    assert_eq!(memberships.iter().map(|membership| membership.tenant).collect::<Vec<_>>(), ids);
    assert!(pair.tenants().list_of(&sub("cy"), &Page::first()).await.unwrap().items.is_empty());
    assert_eq!(pair.tenants().memberships(&sub("cy")).await.unwrap().iter().count(), 0);
}

/// Tenants that were made in the same moment are each on one page, newest first and then by id.
pub async fn pages_hold_every_tenant_once_and_in_order(pair: &Pair) {
    pair.register("one", "eu", 10).await;
    let moment = change("tenant.created");
    let mut ids = Vec::new();
    for number in [2, 0, 3, 1] {
        let new = new_tenant(&format!("tenant-{number}"), &format!("org-{number}"));
        ids.push(pair.tenants().create(&moment, &new).await.unwrap().id.to_string());
    }
    ids.sort_by(|one, other| other.cmp(one));
    for limit in [1, 2, 3, 4, 5] {
        let filter = TenantFilter::default();
        let tenants = all_pages(limit, |page| {
            let filter = &filter;
            async move { pair.tenants().list(filter, &page).await }
        });
        let found: Vec<String> = tenants.await.iter().map(|tenant| tenant.id.to_string()).collect();
        assert_eq!(found, ids, "{limit} a page");
    }
}

/// A search looks into slug and name, ignores case, and knows no wildcards; the filter by instance leaves out others.
pub async fn a_list_is_narrowed_by_search_and_instance(pair: &Pair) {
    let first = pair.register("first", "eu", 10).await.id;
    let second = pair.register("second", "eu", 10).await.id;
    for (slug, name) in [("alpha", "100% Home"), ("beta", "My_Home"), ("gamma", r"Back\Slash")] {
        let new = NewTenant { name: name.to_owned(), ..new_tenant(slug, &format!("org-{slug}")) };
        pair.tenants().create(&change("tenant.created"), &new).await.unwrap();
    }
    let cases: [(&str, _, &[&str]); 10] = [
        ("", None, &["gamma", "beta", "alpha"]),
        ("ALPHA", None, &["alpha"]),
        ("home", None, &["beta", "alpha"]),
        ("%", None, &["alpha"]),
        ("_", None, &["beta"]),
        (r"\", None, &["gamma"]),
        ("b_ta", None, &[]),
        ("", Some(first), &["gamma", "alpha"]),
        ("", Some(second), &["beta"]),
        ("home", Some(first), &["alpha"]),
    ];
    for (search, instance, expected) in cases {
        let filter = TenantFilter { search: search.to_owned(), instance };
        let listed = pair.tenants().list(&filter, &Page::first()).await.unwrap();
        let slugs: Vec<&str> = listed.items.iter().map(|tenant| tenant.slug.as_str()).collect();
        assert_eq!(slugs, expected, "{search:?} {instance:?}");
    }
}

/// A scope for a tenant that is not there finds nothing.
pub async fn a_tenant_of_nobody_known_is_not_found(pair: &Pair) {
    let scope = TenantScope::system(IDS.tenant(CLOCK.now()), "the suite looks for what is not there");
    assert_eq!(pair.tenants().find(scope).await.unwrap(), None);
}

/// A place is on an instance that was claimed, reported within thirty seconds that it is healthy, and on which nobody
/// works; otherwise the caller is told to come again.
pub async fn only_a_healthy_instance_with_a_stack_takes_a_tenant(pair: &Pair) {
    let new = new_instance("one", "eu", 10);
    let stack = stack(new.id);
    let attempt = async |number: u32, time| {
        let create = Change { time, ..change("tenant.created") };
        let tenant = new_tenant(&format!("tenant-{number}"), &format!("org-{number}"));
        pair.tenants().create(&create, &tenant).await
    };
    let refused = async |number, time, why: &str| {
        let fault = attempt(number, time).await.unwrap_err();
        assert_eq!(fault.code(), Code::ServiceUnavailable, "{why}: {fault}");
        assert!(fault.retry_after().is_some_and(|after| !after.is_zero()), "{why}: {fault}");
    };
    let report = async |sequence, status, time| {
        pair.health().report(&stack, &new_report("boot", sequence, status), time).await.unwrap();
    };
    let start = CLOCK.now();
    pair.instances().register(&change("instance.registered"), &new).await.unwrap();
    refused(0, start, "nobody claimed it").await;
    report(1, Reported::Healthy, start).await;
    refused(0, start, "nobody claimed it, whoever reports").await;
    pair.instances().claim(&change("instance.claimed"), new.id, &new_claim(new.id)).await.unwrap();
    attempt(1, start).await.unwrap();
    let silent = seconds(start, UNREACHABLE_AFTER.as_secs());
    attempt(2, seconds(silent, -1)).await.unwrap();
    refused(0, silent, "it is silent").await;
    report(2, Reported::Healthy, silent).await;
    let maintenance = change("instance.maintenance.set");
    pair.instances().set_maintenance(&maintenance, new.id, None, true).await.unwrap();
    refused(0, silent, "somebody works on it").await;
    pair.instances().set_maintenance(&maintenance, new.id, None, false).await.unwrap();
    attempt(3, silent).await.unwrap();
    report(3, Reported::Degraded, silent).await;
    attempt(4, silent).await.unwrap();
    report(4, Reported::Degraded, silent).await;
    refused(0, silent, "it is degraded").await;
    pair.health().report(&stack, &new_report("next boot", 1, Reported::Unhealthy), silent).await.unwrap();
    refused(0, silent, "it is warming").await;
    assert_eq!(pair.instances().find(new.id).await.unwrap().unwrap().tenant_count, 4);
}

fn report(tenant: &Tenant, version: u32, members: &[(&str, TenantRole)]) -> TenantReport {
    TenantReport {
        tenant: tenant.id,
        generation: 1,
        version,
        members: members.iter().map(|(who, role)| (sub(who), *role)).collect(),
        usage: Usage { stacks: version, storage_gb: 10 * version },
    }
}

/// Members and usage are as the newest report says; an older one changes nothing, nor does the same one again. The
/// version of the row stays.
pub async fn a_mirror_takes_what_is_newer_from_the_place_of_the_tenant(pair: &Pair) {
    let instance = pair.register("one", "eu", 10).await.id;
    let tenant = pair.create("home", "org-1").await;
    let other = pair.create("other", "org-2").await;
    assert_eq!(tenant.usage, Usage::default());
    let mirror = async |report| pair.tenants().mirror(instance, &[report], CLOCK.now()).await.unwrap();
    let newest = report(&tenant, 5, &[("ann", TenantRole::Admin), ("bob", TenantRole::Viewer)]);
    assert!(mirror(newest).await.is_empty());
    let mirrored = Tenant { members: 2, usage: Usage { stacks: 5, storage_gb: 50 }, ..tenant.clone() };
    assert_eq!(pair.tenant(tenant.id).await, Some(mirrored.clone()));
    for version in [5, 4] {
        assert!(mirror(report(&tenant, version, &[("cy", TenantRole::Admin)])).await.is_empty());
        assert_eq!(pair.tenant(tenant.id).await, Some(mirrored.clone()));
    }
    for (who, expected) in [("ann", Some(TenantRole::Admin)), ("bob", Some(TenantRole::Viewer)), ("cy", None)]
    {
        let memberships = pair.tenants().memberships(&sub(who)).await.unwrap();
        assert_eq!(memberships.only().map(|membership| membership.role), expected, "{who}");
    }
    assert_eq!(pair.tenants().memberships(&creator("home")).await.unwrap().iter().count(), 0);
    assert!(mirror(report(&tenant, 6, &[])).await.is_empty());
    assert_eq!(pair.tenant(tenant.id).await.unwrap().members, 0);
    assert_eq!(pair.tenant(other.id).await, Some(other));
}

/// What another instance or another generation has, or nobody, is named, and nothing of it is taken; the rest is.
pub async fn a_mirror_takes_nothing_for_another_place(pair: &Pair) {
    let instance = pair.register("one", "eu", 10).await.id;
    let tenant = pair.create("home", "org-1").await;
    let right = report(&tenant, 1, &[("ann", TenantRole::Admin)]);
    let stranger = TenantReport { tenant: IDS.tenant(CLOCK.now()), ..right.clone() };
    let moved = TenantReport { generation: 2, ..right.clone() };
    let elsewhere = pair.tenants().mirror(instance_id(), slice::from_ref(&right), CLOCK.now()).await.unwrap();
    assert_eq!(elsewhere, [tenant.id]);
    let refused = pair.tenants().mirror(instance, &[stranger.clone(), moved], CLOCK.now()).await.unwrap();
    assert_eq!(refused, [stranger.tenant, tenant.id]);
    assert_eq!(pair.tenant(tenant.id).await, Some(tenant.clone()));
    let refused = pair.tenants().mirror(instance, &[stranger.clone(), right], CLOCK.now()).await.unwrap();
    assert_eq!(refused, [stranger.tenant]);
    assert_eq!(pair.tenant(tenant.id).await.unwrap().usage.stacks, 1);
}
