//! What must hold for invitations.

use super::super::{CLOCK, all_pages, change, change_by, code, promised, scope, sub};
use super::{Keep, founder, joining, new_hash, new_invitation};
use crate::member::{AcceptBy, INVITATION_LIFETIME, InvitationStatus, NewInvitation};
use crate::{Change, Clock as _, Code, Error, Page, Result, TenantId, TenantRole};

async fn try_invite(
    keep: &Keep,
    tenant: TenantId,
    invitation: &NewInvitation,
    limit: Option<u32>,
) -> Result<crate::member::Invitation> {
    let invite = change("invitation.created");
    keep.members().invite(scope(tenant), &invite, invitation, limit).await
}

async fn statuses(keep: &Keep, tenant: TenantId, now: jiff::Timestamp) -> Vec<InvitationStatus> {
    let listed = keep.members().invitations(scope(tenant), &Page::first(), now).await.unwrap();
    listed.items.iter().map(|invitation| invitation.status).collect()
}

fn used(fault: &Error) -> Option<(&'static str, u32, u32)> {
    if let Error::QuotaExceeded { resource, limit, used } = fault {
        Some((resource, *limit, *used))
    } else {
        None
    }
}

/// A code makes its bearer a member with the role of the invitation, once; whoever guesses is told nothing.
pub async fn whoever_has_the_code_joins_once(keep: &Keep) {
    let tenant = keep.place("home").await.id;
    let new = new_invitation("", TenantRole::Viewer);
    let invite = change_by("ann", "invitation.created");
    let made = keep.members().invite(scope(tenant), &invite, &new, None).await.unwrap();
    assert_eq!((made.id, made.email.as_str(), made.role), (new.id, "", TenantRole::Viewer));
    assert_eq!((made.inviter, made.status), (sub("ann"), InvitationStatus::Pending));
    assert_eq!((made.create_time, made.expire_time), (invite.time, new.expire_time));
    assert_eq!(keep.members().tenant_of_code(&new.code_hash).await.unwrap(), Some(tenant));
    let guess = keep.accept(tenant, "bob", AcceptBy::Code(new_hash()), None).await;
    assert_eq!(code(guess), Code::NotFound);
    let accept = change("invitation.accepted");
    let joining = joining("bob", AcceptBy::Code(new.code_hash));
    let member = keep.members().accept(scope(tenant), &accept, &joining, None).await.unwrap();
    assert_eq!(
        (&member.sub, member.role, member.create_time),
        (&joining.sub, TenantRole::Viewer, accept.time)
    );
    assert_eq!((&member.email, &member.name), (&joining.email, &joining.name));
    assert_eq!(keep.role(tenant, "bob").await, Some(TenantRole::Viewer));
    assert_eq!(statuses(keep, tenant, CLOCK.now()).await, [InvitationStatus::Accepted]);
    let again = keep.accept(tenant, "cy", AcceptBy::Code(new.code_hash), None).await;
    assert_eq!(code(again), Code::NotFound);
    assert_eq!(keep.role(tenant, "cy").await, None);
}

/// An invitation for an address is found by it, and by nobody else's; one for whoever has the code by no address.
pub async fn an_address_joins_by_its_own_invitation(keep: &Keep) {
    let tenant = keep.place("home").await.id;
    keep.invite(tenant, &new_invitation("bob@example.org", TenantRole::Member)).await;
    keep.invite(tenant, &new_invitation("", TenantRole::Admin)).await;
    for email in ["cy@example.org", ""] {
        let refused = keep.accept(tenant, "cy", AcceptBy::Email(email.into()), None).await;
        assert_eq!(code(refused), Code::NotFound, "{email:?}");
    }
    let member = keep.accept(tenant, "bob", AcceptBy::Email("bob@example.org".into()), None).await.unwrap();
    assert_eq!(member.role, TenantRole::Member);
}

/// At its end it is expired: for the list, for whoever accepts or withdraws, and for the quota.
pub async fn an_invitation_is_good_until_its_time(keep: &Keep) {
    let tenant = keep.place("home").await.id;
    let new = new_invitation("bob@example.org", TenantRole::Member);
    keep.invite(tenant, &new).await;
    let end = new.expire_time;
    assert_eq!(statuses(keep, tenant, super::seconds(end, -1)).await, [InvitationStatus::Pending]);
    assert_eq!(statuses(keep, tenant, end).await, [InvitationStatus::Expired]);
    for by in [AcceptBy::Code(new.code_hash), AcceptBy::Email("bob@example.org".into())] {
        let late = Change { time: end, ..change("invitation.accepted") };
        let refused = keep.members().accept(scope(tenant), &late, &joining("bob", by), None).await;
        assert_eq!(code(refused), Code::NotFound);
    }
    let late = Change { time: end, ..change("invitation.withdrawn") };
    assert_eq!(code(keep.members().withdraw(scope(tenant), &late, new.id).await), Code::PreconditionFailed);
    // The address may be invited anew, and the place is free.
    let late = Change { time: end, ..change("invitation.created") };
    let next = new_invitation("bob@example.org", TenantRole::Viewer);
    let next = NewInvitation { expire_time: end + INVITATION_LIFETIME, ..next };
    keep.members().invite(scope(tenant), &late, &next, Some(2)).await.unwrap();
    let soon = Change { time: super::seconds(end, 1), ..change("invitation.accepted") };
    let by = AcceptBy::Email("bob@example.org".into());
    let member = keep.members().accept(scope(tenant), &soon, &joining("bob", by), None).await.unwrap();
    assert_eq!(member.role, TenantRole::Viewer);
}

/// What is withdrawn, or was accepted, is not withdrawn again.
pub async fn a_withdrawn_invitation_is_good_for_nobody(keep: &Keep) {
    let tenant = keep.place("home").await.id;
    let new = new_invitation("bob@example.org", TenantRole::Member);
    keep.invite(tenant, &new).await;
    let withdraw =
        async |id| keep.members().withdraw(scope(tenant), &change("invitation.withdrawn"), id).await;
    withdraw(new.id).await.unwrap();
    assert_eq!(statuses(keep, tenant, CLOCK.now()).await, [InvitationStatus::Withdrawn]);
    assert_eq!(statuses(keep, tenant, super::far()).await, [InvitationStatus::Withdrawn]);
    for by in [AcceptBy::Code(new.code_hash), AcceptBy::Email("bob@example.org".into())] {
        assert_eq!(code(keep.accept(tenant, "bob", by, None).await), Code::NotFound);
    }
    assert_eq!(code(withdraw(new.id).await), Code::PreconditionFailed);
    assert_eq!(code(withdraw(new_invitation("", TenantRole::Viewer).id).await), Code::NotFound);
    let other = new_invitation("", TenantRole::Viewer);
    keep.invite(tenant, &other).await;
    keep.accept(tenant, "bob", AcceptBy::Code(other.code_hash), None).await.unwrap();
    assert_eq!(code(withdraw(other.id).await), Code::PreconditionFailed);
}

/// A member's address, however it is written, and one with a pending invitation, are invited no second time; nobody's
/// address is.
pub async fn an_address_is_invited_once(keep: &Keep) {
    let tenant = keep.place("home").await.id;
    keep.join(tenant, "ann", TenantRole::Member).await;
    keep.invite(tenant, &new_invitation("bob@example.org", TenantRole::Member)).await;
    for email in ["ann@example.org", "founder.of.home@example.org", "bob@example.org"] {
        let new = new_invitation(email, TenantRole::Viewer);
        assert_eq!(code(try_invite(keep, tenant, &new, None).await), Code::Conflict, "{email}");
        assert_eq!(keep.members().tenant_of_code(&new.code_hash).await.unwrap(), None, "{email}");
    }
    for _ in 0..2 {
        keep.invite(tenant, &new_invitation("", TenantRole::Viewer)).await;
    }
    let other = keep.place("other").await.id;
    keep.invite(other, &new_invitation("bob@example.org", TenantRole::Viewer)).await;
}

/// Together they are the limit at most; what is over is told with the numbers, and leaves no code.
pub async fn members_and_pending_invitations_count_together(keep: &Keep) {
    let tenant = keep.place("home").await.id;
    keep.join(tenant, "ann", TenantRole::Member).await;
    let pending = new_invitation("", TenantRole::Viewer);
    try_invite(keep, tenant, &pending, Some(3)).await.unwrap();
    let new = new_invitation("", TenantRole::Viewer);
    let fault = try_invite(keep, tenant, &new, Some(3)).await.unwrap_err();
    assert_eq!(used(&fault), Some(("members", 3, 3)), "{fault}");
    assert_eq!(keep.members().tenant_of_code(&new.code_hash).await.unwrap(), None);
    keep.members().withdraw(scope(tenant), &change("invitation.withdrawn"), pending.id).await.unwrap();
    try_invite(keep, tenant, &new, Some(3)).await.unwrap();
    try_invite(keep, tenant, &new_invitation("", TenantRole::Viewer), None).await.unwrap();
}

/// Who is a member already keeps the role, and the invitation; a full tenant takes nobody.
pub async fn a_member_joins_no_second_time_and_nobody_over_the_limit(keep: &Keep) {
    let tenant = keep.place("home").await.id;
    let new = new_invitation("", TenantRole::Viewer);
    keep.invite(tenant, &new).await;
    let by = AcceptBy::Code(new.code_hash);
    assert_eq!(code(keep.accept(tenant, &founder("home"), by.clone(), None).await), Code::Conflict);
    assert_eq!(keep.role(tenant, &founder("home")).await, Some(TenantRole::Admin));
    let fault = keep.accept(tenant, "bob", by.clone(), Some(1)).await.unwrap_err();
    assert_eq!(used(&fault), Some(("members", 1, 1)), "{fault}");
    assert_eq!(keep.role(tenant, "bob").await, None);
    keep.accept(tenant, "bob", by, Some(2)).await.unwrap();
}

/// Under one key there is one invitation; another request under it is a conflict; an error is not kept.
pub async fn a_repeated_invitation_is_the_same_one(keep: &Keep) {
    let tenant = keep.place("home").await.id;
    let key = |request| promised(change_by("ann", "invitation.created"), "key-1", request);
    let invite = async |request, invitation: &NewInvitation, limit| {
        keep.members().invite(scope(tenant), &key(request), invitation, limit).await
    };
    let first = new_invitation("bob@example.org", TenantRole::Member);
    assert_eq!(code(invite(1, &first, Some(1)).await), Code::QuotaExceeded);
    let made = invite(1, &first, Some(2)).await.unwrap();
    let repeat = new_invitation("bob@example.org", TenantRole::Member);
    assert_eq!(invite(1, &repeat, Some(2)).await.unwrap(), made);
    assert_eq!(keep.members().tenant_of_code(&repeat.code_hash).await.unwrap(), None);
    assert_eq!(keep.members().tenant_of_code(&first.code_hash).await.unwrap(), Some(tenant));
    assert_eq!(code(invite(2, &repeat, None).await), Code::Conflict);
    keep.members().withdraw(scope(tenant), &change("invitation.withdrawn"), made.id).await.unwrap();
    assert_eq!(invite(1, &repeat, Some(2)).await.unwrap().status, InvitationStatus::Withdrawn);
    assert_eq!(keep.log(tenant, "invitation.created").await.len(), 1);
}

/// A code leads to its one tenant until it was used or withdrawn.
pub async fn a_code_leads_to_its_tenant_while_it_is_good(keep: &Keep) {
    let (home, other) = (keep.place("home").await.id, keep.place("other").await.id);
    let mut codes = Vec::new();
    for tenant in [home, other, home] {
        let new = new_invitation("", TenantRole::Viewer);
        keep.invite(tenant, &new).await;
        codes.push((new, tenant));
    }
    keep.accept(home, "bob", AcceptBy::Code(codes[0].0.code_hash), None).await.unwrap();
    keep.members().withdraw(scope(other), &change("invitation.withdrawn"), codes[1].0.id).await.unwrap();
    for (number, (new, tenant)) in codes.into_iter().enumerate() {
        let leads_to = keep.members().tenant_of_code(&new.code_hash).await.unwrap();
        assert_eq!(leads_to, (number == 2).then_some(tenant));
    }
    assert_eq!(keep.members().tenant_of_code(&new_hash()).await.unwrap(), None);
}

/// Invitations of the same moment are each on one page, newest first and then by id.
pub async fn pages_hold_every_invitation_once_and_in_order(keep: &Keep) {
    let tenant = keep.place("home").await.id;
    let moment = change("invitation.created");
    let mut ids = Vec::new();
    for _ in 0..4 {
        let new = new_invitation("", TenantRole::Viewer);
        keep.members().invite(scope(tenant), &moment, &new, None).await.unwrap();
        ids.push(new.id.to_string());
    }
    ids.sort_by(|one, other| other.cmp(one));
    for limit in [1, 3, 4, 5] {
        let listed = all_pages(limit, |page| async move {
            keep.members().invitations(scope(tenant), &page, CLOCK.now()).await
        });
        let found: Vec<String> = listed.await.iter().map(|invitation| invitation.id.to_string()).collect();
        assert_eq!(found, ids, "{limit} a page");
    }
}
