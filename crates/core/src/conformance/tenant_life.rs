//! What must hold for the life of a tenant: suspended, deleted, erased.

use std::slice;

use super::{Pair, change, code, creator, new_tenant, scope, seconds, stack, sub};
use crate::placed::PlacedStatus;
use crate::sync::SyncKind;
use crate::tenant::{
    GRACE_HOURS, Tenant, TenantFilter, TenantMove, TenantReport, TenantStatus, TenantStore, Usage,
};
use crate::{Change, Code, InstanceId, Page, Result, TenantId, TenantStanding};

const GRACE: i64 = GRACE_HOURS * 3600;

async fn attempt(pair: &Pair, id: TenantId, to: TenantMove) -> Result<Tenant> {
    pair.tenants().change_status(&change("tenant.moved"), id, None, to, "a reason").await
}

async fn erase(pair: &Pair, change: Change) -> u32 {
    pair.tenants().erase_expired(&change).await.unwrap()
}

/// A change so late that whatever is deleted now may be erased.
fn late() -> Change {
    let change = change("tenant.erased");
    Change { time: seconds(change.time, GRACE), ..change }
}

/// What the instance is told next.
async fn told(pair: &Pair, instance: InstanceId) -> Vec<(TenantId, PlacedStatus)> {
    let push = pair.syncs().tenants_for(&stack(instance), 0, None).await.unwrap();
    push.into_iter().flat_map(|push| push.items).map(|tenant| (tenant.id, tenant.status)).collect()
}

/// A tenant is creating until its instance has it; its members may be there already.
pub async fn a_new_tenant_is_creating(pair: &Pair) {
    pair.register("one", "eu", 10).await;
    let tenant = pair.create("home", "org-1").await;
    assert_eq!((tenant.status, tenant.erase_time), (TenantStatus::Creating, None));
    let memberships = pair.tenants().memberships(&creator("home")).await.unwrap();
    assert_eq!(memberships.only().unwrap().standing, TenantStanding::Open);
}

/// Each move leads where it says, from each status that allows it; from the others it is refused and changes nothing.
pub async fn every_move_is_allowed_from_where_it_says_and_from_nowhere_else(pair: &Pair) {
    use TenantMove::{Delete, Resume, Suspend, Undelete};
    use TenantStatus::{Active, Creating, Deleted, Suspended};
    let instance = pair.register("one", "eu", 100).await.id;
    let mut number = 0;
    for (from, to, expected) in [
        (Creating, Suspend, Some(Suspended)),
        (Creating, Resume, None),
        (Creating, Delete, Some(Deleted)),
        (Creating, Undelete, None),
        (Active, Suspend, Some(Suspended)),
        (Active, Resume, None),
        (Active, Delete, Some(Deleted)),
        (Active, Undelete, None),
        (Suspended, Suspend, None),
        (Suspended, Resume, Some(Active)),
        (Suspended, Delete, Some(Deleted)),
        (Suspended, Undelete, None),
        (Deleted, Suspend, None),
        (Deleted, Resume, None),
        (Deleted, Delete, None),
        (Deleted, Undelete, Some(Active)),
    ] {
        number += 1;
        let id = pair.create(&format!("tenant-{number}"), &format!("org-{number}")).await.id;
        if from != Creating {
            pair.take_all(instance).await;
        }
        match from {
            Creating | Active => {}
            Suspended => drop(attempt(pair, id, Suspend).await.unwrap()),
            Deleted => drop(attempt(pair, id, Delete).await.unwrap()),
        }
        let before = pair.tenant(id).await.unwrap();
        assert_eq!(before.status, from);
        let after = attempt(pair, id, to).await;
        if let Some(expected) = expected {
            let after = after.unwrap();
            assert_eq!(after.status, expected, "{from:?} {to:?}");
            assert_ne!(after.etag, before.etag, "{from:?} {to:?}");
            assert_eq!(pair.tenant(id).await, Some(after));
        } else {
            assert_eq!(code(after), Code::PreconditionFailed, "{from:?} {to:?}");
            assert_eq!(pair.tenant(id).await, Some(before));
        }
    }
    let nobody = attempt(pair, new_tenant("nobody", "org").id, Suspend).await;
    assert_eq!(code(nobody), Code::NotFound);
}

/// Every move is in the log with its reason, and on its way to the instance as what the tenant is then.
pub async fn a_move_is_audited_with_its_reason_and_told_to_the_instance(pair: &Pair) {
    let instance = pair.register("one", "eu", 10).await.id;
    let id = pair.create("home", "org-1").await.id;
    pair.take_all(instance).await;
    for (count, (to, expected)) in [
        (TenantMove::Suspend, PlacedStatus::Suspended),
        (TenantMove::Resume, PlacedStatus::Active),
        (TenantMove::Delete, PlacedStatus::Deleted),
        (TenantMove::Undelete, PlacedStatus::Active),
    ]
    .into_iter()
    .enumerate()
    {
        pair.move_on(id, to).await;
        assert_eq!(told(pair, instance).await, [(id, expected)]);
        pair.take_all(instance).await;
        let rows = pair.rows_of("tenant.moved").await;
        assert_eq!(
            (rows.len(), rows[0].tenant, rows[0].target.clone()),
            (count + 1, Some(id), id.to_string())
        );
        assert_eq!(rows[0].details["reason"], "a reason");
    }
    attempt(pair, id, TenantMove::Resume).await.unwrap_err();
    assert!(told(pair, instance).await.is_empty());
}

/// A move for another version than the present one is not made.
pub async fn a_move_needs_the_present_etag(pair: &Pair) {
    let id = pair.register("one", "eu", 10).await.id;
    let created = pair.create("home", "org-1").await.id;
    pair.take_all(id).await;
    let first = pair.tenant(created).await.unwrap();
    let attempt = async |etag, to| {
        pair.tenants().change_status(&change("tenant.moved"), first.id, Some(etag), to, "").await
    };
    let second = attempt(first.etag, TenantMove::Suspend).await.unwrap();
    assert_eq!(code(attempt(first.etag, TenantMove::Resume).await), Code::PreconditionFailed);
    assert_eq!(attempt(second.etag, TenantMove::Resume).await.unwrap().status, TenantStatus::Active);
}

/// Who undeletes a tenant finds it as it was: creating, active or suspended.
pub async fn an_undeleted_tenant_is_what_it_was(pair: &Pair) {
    let instance = pair.register("one", "eu", 10).await.id;
    for (number, expected) in
        [TenantStatus::Creating, TenantStatus::Active, TenantStatus::Suspended].into_iter().enumerate()
    {
        let id = pair.create(&format!("tenant-{number}"), &format!("org-{number}")).await.id;
        if expected != TenantStatus::Creating {
            pair.take_all(instance).await;
        }
        if expected == TenantStatus::Suspended {
            pair.move_on(id, TenantMove::Suspend).await;
        }
        let delete = change("tenant.deleted");
        let deleted = pair.tenants().change_status(&delete, id, None, TenantMove::Delete, "").await.unwrap();
        assert_eq!(deleted.erase_time, Some(seconds(delete.time, GRACE)));
        let undeleted = pair.move_on(id, TenantMove::Undelete).await;
        assert_eq!((undeleted.status, undeleted.erase_time), (expected, None));
    }
}

/// Suspended and deleted tenants stay in the lists, and a member sees what they are.
pub async fn members_see_where_the_tenant_is_in_its_life(pair: &Pair) {
    pair.register("one", "eu", 10).await;
    let id = pair.create("home", "org-1").await.id;
    for (to, standing) in [
        (TenantMove::Suspend, TenantStanding::Suspended),
        (TenantMove::Resume, TenantStanding::Open),
        (TenantMove::Delete, TenantStanding::Deleted),
    ] {
        let tenant = pair.move_on(id, to).await;
        let memberships = pair.tenants().memberships(&creator("home")).await.unwrap();
        let standings: Vec<_> = memberships.iter().map(|membership| membership.standing).collect();
        assert_eq!(standings, [standing]);
        let own = pair.tenants().list_of(&creator("home"), &Page::first()).await.unwrap();
        assert_eq!(own.items, slice::from_ref(&tenant));
        let all = pair.tenants().list(&TenantFilter::default(), &Page::first()).await.unwrap();
        assert_eq!(all.items, [tenant]);
    }
}

/// A deleted tenant is erased from its time on, and can be undeleted up to it; one that is not deleted never is.
pub async fn a_tenant_is_erased_after_its_time_of_grace_and_not_before(pair: &Pair) {
    let instance = pair.register("one", "eu", 10).await.id;
    let kept = pair.create("kept", "org-1").await.id;
    let id = pair.create("home", "org-2").await.id;
    pair.take_all(instance).await;
    let deleted = pair.move_on(id, TenantMove::Delete).await;
    let erase_time = deleted.erase_time.unwrap();
    let at = |time| Change { time, ..change("tenant.erased") };
    assert_eq!(erase(pair, at(seconds(erase_time, -1))).await, 0);
    assert_eq!(pair.tenant(id).await, Some(deleted));
    let undelete = at(erase_time);
    let too_late = pair.tenants().change_status(&undelete, id, None, TenantMove::Undelete, "").await;
    assert_eq!(code(too_late), Code::PreconditionFailed);
    pair.take_all(instance).await;
    assert_eq!(erase(pair, at(erase_time)).await, 1);
    assert_eq!(told(pair, instance).await, [(id, PlacedStatus::Erased)]);
    assert_eq!(erase(pair, at(erase_time)).await, 0);
    let rows = pair.rows_of("tenant.erased").await;
    assert_eq!((rows.len(), rows[0].tenant, rows[0].target.clone()), (1, Some(id), id.to_string()));
    assert!(pair.tenant(kept).await.is_some());
}

/// From the moment that it is being erased, no read shows a tenant and no move touches it; its place, its owner and its
/// slug are still taken.
pub async fn what_is_being_erased_is_nowhere_and_keeps_its_place(pair: &Pair) {
    let instance = pair.register("one", "eu", 10).await.id;
    let tenant = pair.create("home", "org-1").await;
    pair.take_all(instance).await;
    pair.move_on(tenant.id, TenantMove::Delete).await;
    assert_eq!(erase(pair, late()).await, 1);
    gone(pair, &tenant).await;
    assert_eq!(pair.instances().find(instance).await.unwrap().unwrap().tenant_count, 1);
    for (slug, owner) in [("home", "org-2"), ("other", "org-1")] {
        let create = pair.tenants().create(&change("tenant.created"), &new_tenant(slug, owner)).await;
        assert_eq!(code(create), Code::Conflict, "{slug} of {owner}");
    }
}

/// When the instance has erased it, a tenant's place and owner are free again; its slug is not.
pub async fn what_is_erased_gives_back_place_and_owner_and_keeps_the_slug(pair: &Pair) {
    let instance = pair.register("one", "eu", 1).await.id;
    let tenant = pair.create("home", "org-1").await;
    pair.take_all(instance).await;
    pair.move_on(tenant.id, TenantMove::Delete).await;
    erase(pair, late()).await;
    pair.take_all(instance).await;
    gone(pair, &tenant).await;
    assert_eq!(pair.instances().find(instance).await.unwrap().unwrap().tenant_count, 0);
    let again = pair.tenants().create(&change("tenant.created"), &new_tenant("home", "org-1")).await;
    assert_eq!(code(again), Code::Conflict);
    assert_eq!(pair.create("other", "org-1").await.instance, instance);
}

async fn gone(pair: &Pair, tenant: &Tenant) {
    assert_eq!(pair.tenant(tenant.id).await, None);
    assert_eq!(TenantStore::find(&*pair.a, scope(tenant.id)).await.unwrap(), None);
    let member = creator(tenant.slug.as_str());
    assert_eq!(pair.tenants().memberships(&member).await.unwrap().iter().count(), 0);
    assert!(pair.tenants().list_of(&member, &Page::first()).await.unwrap().items.is_empty());
    let filter = TenantFilter { search: tenant.slug.to_string(), ..TenantFilter::default() };
    assert!(pair.tenants().list(&filter, &Page::first()).await.unwrap().items.is_empty());
    for to in [TenantMove::Suspend, TenantMove::Resume, TenantMove::Delete, TenantMove::Undelete] {
        assert_eq!(code(attempt(pair, tenant.id, to).await), Code::NotFound, "{to:?}");
    }
    let report = TenantReport {
        tenant: tenant.id,
        generation: 1,
        version: 99,
        members: [(sub("ann"), crate::TenantRole::Admin)].into(),
        usage: Usage::default(),
    };
    let refused = pair.tenants().mirror(tenant.instance, &[report], tenant.create_time).await.unwrap();
    assert_eq!(refused, [tenant.id]);
    assert_eq!(pair.tenants().memberships(&sub("ann")).await.unwrap().iter().count(), 0);
}

/// However many are due, a hundred begin at once, and the rest after them.
pub async fn a_hundred_begin_to_be_erased_at_once(pair: &Pair) {
    let instance = pair.register("one", "eu", 200).await.id;
    for number in 0..103 {
        let id = pair.create(&format!("tenant-{number}"), &format!("org-{number}")).await.id;
        pair.move_on(id, TenantMove::Delete).await;
    }
    let late = late();
    for expected in [100, 3, 0] {
        assert_eq!(erase(pair, late.clone()).await, expected);
    }
    pair.take_all(instance).await;
    assert_eq!(pair.stream(&stack(instance), SyncKind::Tenants).await.pending, 0);
    assert_eq!(pair.instances().find(instance).await.unwrap().unwrap().tenant_count, 0);
}
