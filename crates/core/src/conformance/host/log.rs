//! What must hold for the logs.

use std::collections::BTreeMap;

use super::super::{CLOCK, IDS, all_pages, change, code, scope, sub};
use super::{Keep, founder, new_invitation, new_stack, places};
use crate::audit::{AuditFilter, Outcome, Refusal};
use crate::member::AcceptBy;
use crate::stack::StackPatch;
use crate::{Actor, Change, Clock as _, Code, Ids as _, TenantId, TenantRole};

/// Whatever is done in a tenant stands in its log once, with all that the change knows.
pub async fn every_write_leaves_exactly_one_row(keep: &Keep) {
    let tenant = keep.place("home").await.id;
    let there = scope(tenant);
    let mut made: Vec<Change> = Vec::new();
    let mut next = |action| {
        made.push(change(action));
        made[made.len() - 1].clone()
    };
    let (stack, invitation) = (new_stack("attic"), new_invitation("", TenantRole::Member));
    keep.stacks().create(there, &next("stack.created"), &stack, places(9)).await.unwrap();
    let patch = StackPatch { spec_yaml: Some("x".into()), ..StackPatch::default() };
    keep.stacks().update(there, &next("stack.updated"), stack.id, None, patch, places(9)).await.unwrap();
    keep.stacks().delete(there, &next("stack.deleted"), stack.id, None).await.unwrap();
    keep.members().invite(there, &next("invitation.created"), &invitation, None).await.unwrap();
    let joining = super::joining("ann", AcceptBy::Code(invitation.code_hash));
    keep.members().accept(there, &next("invitation.accepted"), &joining, None).await.unwrap();
    let (ann, role) = (sub("ann"), TenantRole::Viewer);
    keep.members().set_role(there, &next("member.updated"), &ann, None, role, None).await.unwrap();
    keep.members().remove(there, &next("member.removed"), &ann, None).await.unwrap();
    let other = new_invitation("", TenantRole::Member);
    keep.members().invite(there, &next("invitation.created"), &other, None).await.unwrap();
    keep.members().withdraw(there, &next("invitation.withdrawn"), other.id).await.unwrap();
    let log = keep.log(tenant, "").await;
    assert_eq!(log.len(), made.len() + 1, "and the founding");
    for (row, change) in log.iter().rev().skip(1).zip(&made) {
        assert_eq!((row.action.as_str(), row.create_time), (change.action, change.time));
        assert_eq!((&row.actor, &row.request_id), (&change.actor, &change.request_id));
        assert_eq!((&row.ip, &row.user_agent), (&change.ip, &change.user_agent));
        assert_eq!((row.tenant, row.outcome), (Some(tenant), Outcome::Done));
        assert!(!row.target.is_empty());
    }
}

/// What was not done is not in the log.
pub async fn what_fails_leaves_no_row(keep: &Keep) {
    let tenant = keep.place("home").await.id;
    let there = scope(tenant);
    let before = keep.log(tenant, "").await;
    let stack = keep.stacks().create(there, &change("stack.created"), &new_stack("attic"), places(0)).await;
    assert_eq!(code(stack), Code::QuotaExceeded);
    let role = TenantRole::Viewer;
    let first = sub(&founder("home"));
    let less = keep.members().set_role(there, &change("member.updated"), &first, None, role, None).await;
    assert_eq!(code(less), Code::PreconditionFailed);
    let invitation = new_invitation("founder.of.home@example.org", role);
    let invited = keep.members().invite(there, &change("invitation.created"), &invitation, None).await;
    assert_eq!(code(invited), Code::Conflict);
    let removed = keep.members().remove(there, &change("member.removed"), &sub("cy"), None).await;
    assert_eq!(code(removed), Code::NotFound);
    assert_eq!(keep.log(tenant, "").await, before);
}

fn refusal(action: &str, tenant: Option<TenantId>) -> Refusal {
    let time = CLOCK.now();
    Refusal {
        time,
        actor: Actor { sub: Some(sub("mallory")), service: None, impersonator: None },
        action: action.to_owned(),
        target: "/test/Method".to_owned(),
        tenant,
        ip: "192.0.2.66".to_owned(),
        user_agent: "conformance/1".to_owned(),
        request_id: IDS.request(time),
        details: BTreeMap::from([("code".to_owned(), "AUTH_INSUFFICIENT".to_owned())]),
    }
}

/// The log of a tenant has the refusals within it, in their order and as they are, and no other.
pub async fn refusals_go_to_the_log_of_their_tenant(keep: &Keep) {
    let (home, other) = (keep.place("home").await.id, keep.place("other").await.id);
    let elsewhere = IDS.tenant(CLOCK.now());
    let refusals = [
        refusal("one", Some(home)),
        refusal("two", Some(other)),
        refusal("three", None),
        refusal("four", Some(elsewhere)),
        refusal("five", Some(home)),
    ];
    keep.host().append_refusals(&refusals).await.unwrap();
    keep.host().append_refusals(&[]).await.unwrap();
    let refused = AuditFilter { outcome: Some(Outcome::Refused), ..AuditFilter::default() };
    let actions = async |tenant| {
        let listed = keep.host().activity(scope(tenant), &refused, &crate::Page::first()).await.unwrap();
        listed.items.into_iter().map(|row| row.action).collect::<Vec<_>>()
    };
    assert_eq!(actions(home).await, ["five", "one"]);
    assert_eq!(actions(other).await, ["two"]);
    let row = keep.log(home, "one").await.remove(0);
    let expected = refusals[0].clone();
    assert_eq!((row.create_time, row.actor, row.target), (expected.time, expected.actor, expected.target));
    assert_eq!((row.tenant, row.outcome), (Some(home), Outcome::Refused));
    assert_eq!((row.ip, row.request_id, row.details), (expected.ip, expected.request_id, expected.details));
}

/// Rows of the same moment are each on one page, newest first and then by id; a filter holds on every page.
pub async fn pages_hold_every_row_once_and_in_order(keep: &Keep) {
    let tenant = keep.place("home").await.id;
    let moment = refusal("twice", Some(tenant));
    let mut refusals = vec![moment.clone(), moment];
    for number in 0..3 {
        refusals.push(refusal(&format!("once-{number}"), Some(tenant)));
    }
    keep.host().append_refusals(&refusals).await.unwrap();
    for (action, count) in [("", 6), ("twice", 2), ("once-1", 1), ("never", 0)] {
        let filter = &AuditFilter { action: action.to_owned(), ..AuditFilter::default() };
        let first = keep.log(tenant, action).await;
        assert_eq!(first.len(), count, "{action}");
        assert!(first.is_sorted_by(|one, next| (one.create_time, one.id) > (next.create_time, next.id)));
        for limit in [1, 2, 6, 7] {
            let rows =
                all_pages(
                    limit,
                    |page| async move { keep.host().activity(scope(tenant), filter, &page).await },
                );
            assert_eq!(rows.await, first, "{action}, {limit} a page");
        }
    }
}
