//! What must hold however many call at the same time.

use std::collections::{BTreeMap, BTreeSet};

use super::super::{CLOCK, change, change_by, code, held, promised, scope, sub};
use super::{Keep, founder, joining, new_invitation, new_session, new_stack, placed, places};
use crate::host::HostStore;
use crate::member::{AcceptBy, MemberStore};
use crate::placed::{Basis, PlacedTenant, Push};
use crate::stack::StackStore;
use crate::{Clock as _, Code, Error, Page, Result, TenantRole};

fn split<T: std::fmt::Debug>(results: Vec<Result<T>>) -> (Vec<T>, Vec<Error>) {
    let (done, refused): (Vec<_>, Vec<_>) = results.into_iter().partition(Result::is_ok);
    (done.into_iter().map(Result::unwrap).collect(), refused.into_iter().map(Result::unwrap_err).collect())
}

fn all_are(refused: &[Error], code: Code) {
    for fault in refused {
        assert_eq!(fault.code(), code, "{fault}");
    }
}

/// Of 200 who race for 20 stacks, 20 get one.
pub async fn no_stack_is_made_over_the_limit_however_many_race(keep: &Keep) {
    let tenant = keep.place("home").await.id;
    let results = keep
        .race(200, |racer, store| async move {
            let new = new_stack(&format!("stack-{racer}"));
            StackStore::create(&*store, scope(tenant), &change("stack.created"), &new, places(20)).await
        })
        .await;
    let (made, refused) = split(results);
    assert_eq!((made.len(), refused.len()), (20, 180), "{refused:?}");
    all_are(&refused, Code::QuotaExceeded);
    assert_eq!(keep.stacks().list(scope(tenant), &Page::first()).await.unwrap().items.len(), 20);
    assert_eq!(keep.log(tenant, "stack.created").await.len(), 20);
}

/// Of 200 who are to be invited where there are 9 places beside the founder's, 9 are.
pub async fn no_invitation_is_made_over_the_limit_however_many_race(keep: &Keep) {
    let tenant = keep.place("home").await.id;
    let results = keep
        .race(200, |racer, store| async move {
            let new = new_invitation(&format!("racer-{racer}@example.org"), TenantRole::Member);
            MemberStore::invite(&*store, scope(tenant), &change("invitation.created"), &new, Some(10)).await
        })
        .await;
    let (made, refused) = split(results);
    assert_eq!((made.len(), refused.len()), (9, 191), "{refused:?}");
    all_are(&refused, Code::QuotaExceeded);
    let now = CLOCK.now();
    assert_eq!(keep.members().invitations(scope(tenant), &Page::first(), now).await.unwrap().items.len(), 9);
}

/// Of 200 who have an invitation, as many join as the plan has places, each in the tenant and in the index.
pub async fn nobody_joins_over_the_limit_however_many_race(keep: &Keep) {
    let tenant = keep.place("home").await.id;
    let mut hashes = Vec::new();
    for _ in 0..200 {
        let new = new_invitation("", TenantRole::Member);
        keep.invite(tenant, &new).await;
        hashes.push(new.code_hash);
    }
    let results = keep
        .race(200, |racer, store| {
            let joining = joining(&format!("racer-{racer}"), AcceptBy::Code(hashes[racer]));
            async move {
                let accept = change("invitation.accepted");
                MemberStore::accept(&*store, scope(tenant), &accept, &joining, Some(5)).await
            }
        })
        .await;
    let (joined, refused) = split(results);
    assert_eq!((joined.len(), refused.len()), (4, 196), "{refused:?}");
    all_are(&refused, Code::QuotaExceeded);
    assert_eq!(keep.everybody(tenant, None).await.len(), 5);
    let joined: BTreeSet<String> = joined.into_iter().map(|member| member.sub.to_string()).collect();
    for racer in 0..200 {
        let who = format!("racer-{racer}");
        assert_eq!(keep.role(tenant, &who).await.is_some(), joined.contains(&who), "{who}");
    }
}

/// Of 32 who have one code, one joins.
pub async fn one_code_that_many_have_is_good_for_one(keep: &Keep) {
    let tenant = keep.place("home").await.id;
    let new = new_invitation("", TenantRole::Member);
    keep.invite(tenant, &new).await;
    let hash = new.code_hash;
    let results = keep
        .race(32, |racer, store| async move {
            let joining = joining(&format!("racer-{racer}"), AcceptBy::Code(hash));
            let accept = change("invitation.accepted");
            MemberStore::accept(&*store, scope(tenant), &accept, &joining, None).await
        })
        .await;
    let (joined, refused) = split(results);
    assert_eq!(joined.len(), 1, "{refused:?}");
    all_are(&refused, Code::NotFound);
    assert_eq!(keep.everybody(tenant, None).await.len(), 2);
}

/// Of 32 calls under one key, all answer with the one stack that one of them made.
pub async fn twins_make_one_stack(keep: &Keep) {
    let tenant = keep.place("home").await.id;
    let results = keep
        .race(32, |_, store| async move {
            let twin = promised(change_by("ann", "stack.created"), "key-1", 1);
            StackStore::create(&*store, scope(tenant), &twin, &new_stack("attic"), places(1)).await
        })
        .await;
    let ids: BTreeSet<_> = results.into_iter().map(|stack| stack.unwrap().id).collect();
    assert_eq!(ids.len(), 1, "{ids:?}");
    assert_eq!(keep.log(tenant, "stack.created").await.len(), 1);
}

/// Of 32 who want one name, one gets it.
pub async fn one_name_that_many_want_goes_to_one(keep: &Keep) {
    let tenant = keep.place("home").await.id;
    let results = keep
        .race(32, |_, store| async move {
            let create = change("stack.created");
            StackStore::create(&*store, scope(tenant), &create, &new_stack("attic"), places(100)).await
        })
        .await;
    let (made, refused) = split(results);
    assert_eq!(made.len(), 1, "{refused:?}");
    all_are(&refused, Code::Conflict);
}

/// Sixteen times, of two admins who each remove the other, one stays.
pub async fn two_admins_who_remove_each_other_leave_one(keep: &Keep) {
    for number in 0..16 {
        let slug = format!("tenant-{number}");
        let tenant = keep.place(&slug).await.id;
        keep.join(tenant, "ann", TenantRole::Admin).await;
        let subs = [sub("ann"), sub(&founder(&slug))];
        let results = keep
            .race(2, |racer, store| {
                let other = subs[racer].clone();
                async move {
                    MemberStore::remove(&*store, scope(tenant), &change("member.removed"), &other, None).await
                }
            })
            .await;
        let (done, refused) = split(results);
        assert_eq!((done.len(), refused.len()), (1, 1), "{refused:?}");
        all_are(&refused, Code::PreconditionFailed);
        let left = keep.everybody(tenant, None).await;
        assert_eq!(left.iter().map(|member| member.role).collect::<Vec<_>>(), [TenantRole::Admin]);
    }
}

/// Eight times, of the sessions that eight open while their user is removed, none is there afterwards.
pub async fn no_session_outlives_a_removal_however_many_are_opened(keep: &Keep) {
    for number in 0..8 {
        let tenant = keep.place(&format!("tenant-{number}")).await.id;
        keep.join(tenant, "ann", TenantRole::Member).await;
        let results = keep
            .race(9, |racer, store| async move {
                let mut opened = Vec::new();
                if racer == 0 {
                    MemberStore::remove(&*store, scope(tenant), &change("member.removed"), &sub("ann"), None)
                        .await?;
                    return Ok(opened);
                }
                for _ in 0..64 {
                    let session = new_session(tenant, "ann", CLOCK.now());
                    match HostStore::open_session(&*store, &change("user.login"), &session).await {
                        Ok(()) => opened.push(session),
                        Err(fault) => {
                            assert_eq!(fault.code(), Code::NotFound, "{fault}");
                            break;
                        }
                    }
                }
                Ok(opened)
            })
            .await;
        for session in results.into_iter().flat_map(Result::unwrap) {
            assert!(!keep.is_open(&session).await, "{number}");
        }
    }
}

/// While 64 join, leave and change roles in four tenants, everybody can read; in the end the index says what the tenants
/// say, and so do the reports.
pub async fn the_memberships_are_those_of_the_tenants_however_many_change_them(keep: &Keep) {
    let mut tenants = Vec::new();
    for number in 0..4 {
        tenants.push(keep.place(&format!("tenant-{number}")).await.id);
    }
    let results = keep
        .race(64, |racer, store| {
            let tenant = tenants[racer % 4];
            async move {
                let (there, who) = (scope(tenant), format!("racer-{}", racer / 4));
                let new = new_invitation("", TenantRole::Member);
                MemberStore::invite(&*store, there, &change("invitation.created"), &new, None).await?;
                let joining = joining(&who, AcceptBy::Code(new.code_hash));
                MemberStore::accept(&*store, there, &change("invitation.accepted"), &joining, None).await?;
                let role = if racer % 3 == 0 { TenantRole::Admin } else { TenantRole::Viewer };
                let update = change("member.updated");
                MemberStore::set_role(&*store, there, &update, &joining.sub, None, role, None).await?;
                let mine = store.memberships(&joining.sub, CLOCK.now()).await?;
                let now = mine.iter().find(|membership| membership.tenant == tenant);
                assert!(now.is_some(), "{who} joined, and is told so");
                if racer % 5 == 0 {
                    let remove = change("member.removed");
                    MemberStore::remove(&*store, there, &remove, &joining.sub, None).await?;
                }
                Ok(())
            }
        })
        .await;
    let (done, failed) = split(results);
    assert_eq!(done.len(), 64, "{failed:?}");
    let reports = keep.host().reports_due().await.unwrap();
    for tenant in tenants {
        let truth: BTreeMap<_, _> =
            keep.everybody(tenant, None).await.into_iter().map(|member| (member.sub, member.role)).collect();
        let reported = reports.iter().find(|report| report.tenant == tenant).unwrap();
        assert_eq!(reported.members, truth);
        for racer in 0..16 {
            let who = sub(&format!("racer-{racer}"));
            let found = keep.members().memberships(&who, CLOCK.now()).await.unwrap();
            let found = found.iter().find(|membership| membership.tenant == tenant).is_some();
            assert_eq!(found, truth.contains_key(&who), "{who}");
        }
    }
}

/// Of 32 times the same push, each answers with what is held, and one founds the tenants.
pub async fn one_push_that_comes_often_is_applied_once(keep: &Keep) {
    keep.place("first").await;
    let tenants: Vec<PlacedTenant> = (0..4).map(|number| placed(&format!("tenant-{number}"))).collect();
    let push = Push { version: 2, basis: Basis::Change { base_version: 1 }, items: tenants.clone() };
    let results = keep
        .race(32, |_, store| {
            let push = push.clone();
            async move { HostStore::apply_tenants(&*store, &change("tenants.applied"), &push, 40).await }
        })
        .await;
    for result in results {
        assert_eq!(result.unwrap(), held(2));
    }
    assert_eq!(keep.host().count_tenants().await.unwrap(), 5);
    for tenant in tenants {
        assert_eq!(keep.log(tenant.id, "tenant.founded").await.len(), 1);
        assert_eq!(keep.everybody(tenant.id, None).await.len(), 1);
    }
}

/// Of 32 pushes on the same version, one is applied; of its tenants, those for which there is a place are there.
pub async fn no_tenant_is_taken_over_the_limit_however_many_pushes_race(keep: &Keep) {
    keep.place("first").await;
    let results = keep
        .race(32, |racer, store| async move {
            let items = (0..3).map(|number| placed(&format!("tenant-{racer}-{number}"))).collect();
            let push = Push { version: 2, basis: Basis::Change { base_version: 1 }, items };
            HostStore::apply_tenants(&*store, &change("tenants.applied"), &push, 3).await
        })
        .await;
    let refused: Vec<usize> = results.into_iter().map(|held| held.unwrap().refused.len()).collect();
    assert_eq!(refused.iter().filter(|refused| **refused == 1).count(), 1, "{refused:?}");
    assert_eq!(refused.iter().filter(|refused| **refused == 3).count(), 31, "{refused:?}");
    assert_eq!(keep.host().count_tenants().await.unwrap(), 3);
    assert_eq!(code(keep.stacks().list(scope(placed("other").id), &Page::first()).await), Code::NotFound);
}
