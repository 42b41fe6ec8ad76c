//! What must hold for members.

use super::super::{CLOCK, all_pages, change, code, scope, seconds, sub};
use super::{Keep, founder, new_invitation, new_stack, places};
use crate::host::HostStore;
use crate::member::{AcceptBy, Member};
use crate::stack::{StackPatch, StackStore};
use crate::{Clock as _, Code, Etag, Page, TenantId, TenantRole};

async fn set_role(
    keep: &Keep,
    tenant: TenantId,
    who: &str,
    etag: Option<Etag>,
    role: TenantRole,
) -> crate::Result<Member> {
    keep.members().set_role(scope(tenant), &change("member.updated"), &sub(who), etag, role, Some(5)).await
}

async fn remove(keep: &Keep, tenant: TenantId, who: &str) -> crate::Result<()> {
    keep.members().remove(scope(tenant), &change("member.removed"), &sub(who), None).await
}

/// A role shows in the list and in the user's memberships; the same one again changes nothing but the log.
pub async fn a_role_is_set_once_and_every_time_audited(keep: &Keep) {
    let tenant = keep.place("home").await.id;
    let before = keep.join(tenant, "ann", TenantRole::Viewer).await;
    let after = set_role(keep, tenant, "ann", Some(before.etag), TenantRole::Member).await.unwrap();
    assert_eq!(after, Member { role: TenantRole::Member, etag: after.etag, ..before.clone() });
    assert_ne!(after.etag, before.etag);
    assert_eq!(set_role(keep, tenant, "ann", None, TenantRole::Member).await.unwrap(), after);
    assert_eq!(keep.everybody(tenant, None).await[0], after);
    assert_eq!(keep.role(tenant, "ann").await, Some(TenantRole::Member));
    let rows = keep.log(tenant, "member.updated").await;
    assert_eq!(rows.iter().map(|row| row.target.as_str()).collect::<Vec<_>>(), ["ann", "ann"]);
    assert_eq!((rows[1].details["before"].as_str(), rows[1].details["role"].as_str()), ("viewer", "member"));
    assert_eq!(code(set_role(keep, tenant, "cy", None, TenantRole::Member).await), Code::NotFound);
}

/// An etag is good for one change.
pub async fn a_role_needs_the_present_etag(keep: &Keep) {
    let tenant = keep.place("home").await.id;
    let before = keep.join(tenant, "ann", TenantRole::Viewer).await;
    set_role(keep, tenant, "ann", Some(before.etag), TenantRole::Member).await.unwrap();
    let late = set_role(keep, tenant, "ann", Some(before.etag), TenantRole::Admin).await;
    assert_eq!(code(late), Code::PreconditionFailed);
    assert_eq!(keep.role(tenant, "ann").await, Some(TenantRole::Member));
}

/// Somebody is always an admin: the last one is neither removed nor made less; with a second one, the first may go.
pub async fn the_last_admin_stays(keep: &Keep) {
    let tenant = keep.place("home").await.id;
    let first = founder("home");
    keep.join(tenant, "ann", TenantRole::Member).await;
    assert_eq!(code(remove(keep, tenant, &first).await), Code::PreconditionFailed);
    let less = set_role(keep, tenant, &first, None, TenantRole::Member).await;
    assert_eq!(code(less), Code::PreconditionFailed);
    assert_eq!(keep.role(tenant, &first).await, Some(TenantRole::Admin));
    set_role(keep, tenant, &first, None, TenantRole::Admin).await.unwrap();
    set_role(keep, tenant, "ann", None, TenantRole::Admin).await.unwrap();
    set_role(keep, tenant, &first, None, TenantRole::Viewer).await.unwrap();
    assert_eq!(code(remove(keep, tenant, "ann").await), Code::PreconditionFailed);
    remove(keep, tenant, &first).await.unwrap();
    assert_eq!(keep.everybody(tenant, None).await.len(), 1);
}

/// An admin who is over the limit cannot act as one: before it holds as one, somebody younger must have gone up.
pub async fn an_admin_over_the_limit_is_none_to_rely_on(keep: &Keep) {
    let tenant = keep.place("home").await.id;
    let first = founder("home");
    keep.join(tenant, "ann", TenantRole::Member).await;
    keep.join(tenant, "bob", TenantRole::Admin).await;
    let remove = async |who: &str, limit| {
        keep.members().remove(scope(tenant), &change("member.removed"), &sub(who), Some(limit)).await
    };
    let (update, founder) = (change("member.updated"), sub(&first));
    let member = TenantRole::Member;
    let less = keep.members().set_role(scope(tenant), &update, &founder, None, member, Some(2));
    assert_eq!(code(less.await), Code::PreconditionFailed, "ann is a member, and bob is over the limit");
    assert_eq!(code(remove(&first, 1).await), Code::PreconditionFailed, "only ann could act then");
    remove(&first, 2).await.unwrap();
    assert_eq!(code(remove("bob", 2).await), Code::PreconditionFailed);
    remove("bob", 1).await.unwrap(); // Over the limit, bob was no admin to rely on.
}

/// Who was removed is no member, and signed in for other tenants only; whoever comes back is new.
pub async fn a_removed_member_is_out_and_its_sessions_for_the_tenant_end(keep: &Keep) {
    let (home, other) = (keep.place("home").await.id, keep.place("other").await.id);
    keep.join(home, "ann", TenantRole::Member).await;
    keep.join(other, "ann", TenantRole::Viewer).await;
    let (ended, stays) = (keep.session(home, "ann").await, keep.session(other, "ann").await);
    let founders = keep.session(home, &founder("home")).await;
    remove(keep, home, "ann").await.unwrap();
    assert!(!keep.is_open(&ended).await);
    assert!(keep.is_open(&stays).await && keep.is_open(&founders).await);
    let memberships = keep.memberships("ann").await;
    assert_eq!(memberships.iter().map(|membership| membership.tenant).collect::<Vec<_>>(), [other]);
    assert_eq!(keep.everybody(home, None).await.len(), 1);
    assert_eq!(code(remove(keep, home, "ann").await), Code::NotFound);
    let again = keep.join(home, "ann", TenantRole::Admin).await;
    assert_eq!(keep.everybody(home, None).await[0], again);
    assert_eq!(keep.role(home, "ann").await, Some(TenantRole::Admin));
}

/// Members who joined in the same moment are each on one page, newest first and then by name.
pub async fn pages_hold_every_member_once_and_in_order(keep: &Keep) {
    let tenant = keep.place("home").await.id;
    let moment = change("invitation.accepted");
    for number in [2, 0, 3, 1] {
        let invitation = new_invitation("", TenantRole::Viewer);
        keep.invite(tenant, &invitation).await;
        let joining = super::joining(&format!("member-{number}"), AcceptBy::Code(invitation.code_hash));
        keep.members().accept(scope(tenant), &moment, &joining, None).await.unwrap();
    }
    let expected = ["member-3", "member-2", "member-1", "member-0", "founder-of-home"];
    for limit in [1, 2, 3, 5, 6] {
        let members =
            all_pages(limit, |page| async move { keep.members().list(scope(tenant), &page, Some(2)).await })
                .await;
        let found: Vec<&str> = members.iter().map(|member| member.sub.as_str()).collect();
        assert_eq!(found, expected, "{limit} a page");
        let over: Vec<bool> = members.iter().map(|member| member.over_limit).collect();
        assert_eq!(over, [true, true, true, false, false], "{limit} a page");
    }
}

/// The list says who only reads by now, for any limit.
pub async fn whoever_came_last_is_over_the_limit(keep: &Keep) {
    let tenant = keep.place("home").await.id;
    for who in ["ann", "bob"] {
        keep.join(tenant, who, TenantRole::Member).await;
    }
    for (limit, expected) in [
        (None, [false, false, false]),
        (Some(4), [false, false, false]),
        (Some(3), [false, false, false]),
        (Some(2), [true, false, false]),
        (Some(1), [true, true, false]),
        (Some(0), [true, true, true]),
    ] {
        let over: Vec<bool> =
            keep.everybody(tenant, limit).await.iter().map(|member| member.over_limit).collect();
        assert_eq!(over, expected, "{limit:?}");
    }
}

/// The last time counts, and it is no change of the member.
pub async fn a_sign_in_is_noted_and_the_etag_stays(keep: &Keep) {
    let tenant = keep.place("home").await.id;
    let before = keep.join(tenant, "ann", TenantRole::Member).await;
    let now = CLOCK.now();
    for time in [now, seconds(now, 60), seconds(now, 30)] {
        keep.members().note_sign_in(scope(tenant), &sub("ann"), time).await.unwrap();
    }
    keep.members().note_sign_in(scope(tenant), &sub("cy"), now).await.unwrap();
    let members = keep.everybody(tenant, None).await;
    assert_eq!(members.len(), 2);
    assert_eq!(members[0], Member { last_sign_in_time: Some(seconds(now, 60)), ..before });
    assert_eq!(members[1].last_sign_in_time, None);
}

/// With the right to one tenant, nothing of another is listed, found or changed.
pub async fn one_tenant_never_sees_the_rows_of_another(keep: &Keep) {
    let (ours, theirs) = (keep.place("ours").await.id, keep.place("theirs").await.id);
    keep.join(theirs, "ann", TenantRole::Member).await;
    let invitation = new_invitation("bob@example.org", TenantRole::Member);
    keep.invite(theirs, &invitation).await;
    let stack = keep.stack(theirs, "attic").await;
    let there = scope(ours);
    let subs: Vec<String> =
        keep.everybody(ours, None).await.iter().map(|member| member.sub.to_string()).collect();
    assert_eq!(subs, [founder("ours")]);
    assert!(keep.members().invitations(there, &Page::first(), CLOCK.now()).await.unwrap().items.is_empty());
    assert!(keep.stacks().list(there, &Page::first()).await.unwrap().items.is_empty());
    assert_eq!(keep.stacks().find(there, stack.id).await.unwrap(), None);
    assert_eq!(keep.log(ours, "").await.len(), 1);
    assert_eq!(code(remove(keep, ours, "ann").await), Code::NotFound);
    assert_eq!(code(set_role(keep, ours, "ann", None, TenantRole::Admin).await), Code::NotFound);
    let withdraw = change("invitation.withdrawn");
    assert_eq!(code(keep.members().withdraw(there, &withdraw, invitation.id).await), Code::NotFound);
    for by in [AcceptBy::Code(invitation.code_hash), AcceptBy::Email("bob@example.org".into())] {
        assert_eq!(code(keep.accept(ours, "bob", by, None).await), Code::NotFound);
    }
    let patch = StackPatch { spec_yaml: Some("ours".into()), ..StackPatch::default() };
    let update =
        keep.stacks().update(there, &change("stack.updated"), stack.id, None, patch, places(10)).await;
    assert_eq!(code(update), Code::NotFound);
    let delete = keep.stacks().delete(there, &change("stack.deleted"), stack.id, None).await;
    assert_eq!(code(delete), Code::NotFound);
    // What the one has stands in nobody's way elsewhere.
    let create = change("stack.created");
    keep.stacks().create(there, &create, &new_stack("attic"), places(1)).await.unwrap();
    assert_eq!(StackStore::find(&*keep.store, scope(theirs), stack.id).await.unwrap(), Some(stack));
    assert_eq!(keep.everybody(theirs, None).await.len(), 2);
    assert!(HostStore::find_tenant(&*keep.store, "theirs").await.unwrap().is_some());
}
