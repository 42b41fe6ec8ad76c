//! What must hold for the reports to Admin.

use std::collections::BTreeMap;
use std::slice;

use super::super::{change, scope, sub};
use super::{Keep, founder, placed, places};
use crate::TenantRole;
use crate::placed::PlacedTenant;
use crate::stack::StackPatch;
use crate::tenant::{TenantReport, Usage};

async fn due(keep: &Keep) -> Vec<TenantReport> {
    keep.host().reports_due().await.unwrap()
}

/// Reports everything that is due.
async fn report(keep: &Keep) -> Vec<TenantReport> {
    let reports = due(keep).await;
    keep.host().reported(&reports).await.unwrap();
    reports
}

/// A new tenant is reported with its founder until Admin has it.
pub async fn a_tenant_is_due_until_it_was_reported(keep: &Keep) {
    assert_eq!(due(keep).await, []);
    let tenant = keep.place("home").await;
    let reports = due(keep).await;
    assert_eq!(reports.len(), 1);
    assert_eq!((reports[0].tenant, reports[0].generation), (tenant.id, 1));
    assert!(reports[0].version >= 1, "Admin has version 0 of what was never reported");
    assert_eq!(reports[0].members, BTreeMap::from([(tenant.founder.sub, TenantRole::Admin)]));
    assert_eq!(reports[0].usage, Usage::default());
    assert_eq!(due(keep).await, reports);
    keep.host().reported(&reports).await.unwrap();
    assert_eq!(due(keep).await, []);
}

/// Who joins, leaves or gets another role is reported in a higher version each time; what changes nothing is not.
pub async fn a_change_of_members_is_due(keep: &Keep) {
    let tenant = keep.place("home").await.id;
    let mut version = report(keep).await[0].version;
    let member = |role| BTreeMap::from([(sub(&founder("home")), TenantRole::Admin), (sub("ann"), role)]);
    let mut next = async |expected: BTreeMap<_, _>| {
        let reports = report(keep).await;
        assert_eq!(reports.len(), 1);
        assert!(reports[0].version > version, "{} is not above {version}", reports[0].version);
        assert_eq!(reports[0].members, expected);
        version = reports[0].version;
    };
    keep.join(tenant, "ann", TenantRole::Viewer).await;
    next(member(TenantRole::Viewer)).await;
    let set = async |role| {
        let change = change("member.updated");
        keep.members().set_role(scope(tenant), &change, &sub("ann"), None, role, None).await.unwrap();
    };
    set(TenantRole::Member).await;
    next(member(TenantRole::Member)).await;
    set(TenantRole::Member).await;
    keep.members().note_sign_in(scope(tenant), &sub("ann"), super::far()).await.unwrap();
    assert_eq!(due(keep).await, []);
    keep.members().remove(scope(tenant), &change("member.removed"), &sub("ann"), None).await.unwrap();
    next(BTreeMap::from([(sub(&founder("home")), TenantRole::Admin)])).await;
}

/// Stacks that come and go are reported in a higher version, those that change are not.
pub async fn a_change_of_usage_is_due(keep: &Keep) {
    let tenant = keep.place("home").await.id;
    let before = report(keep).await[0].version;
    let stack = keep.stack(tenant, "attic").await;
    keep.stack(tenant, "cellar").await;
    let reports = report(keep).await;
    assert_eq!(reports.iter().map(|report| report.usage.stacks).collect::<Vec<_>>(), [2]);
    assert!(reports[0].version > before);
    let patch = StackPatch { spec_yaml: Some("x".into()), ..StackPatch::default() };
    let update = change("stack.updated");
    keep.stacks().update(scope(tenant), &update, stack.id, None, patch, places(9)).await.unwrap();
    assert_eq!(due(keep).await, []);
    keep.stacks().delete(scope(tenant), &change("stack.deleted"), stack.id, None).await.unwrap();
    let after = report(keep).await;
    assert_eq!((after[0].usage.stacks, after[0].version > reports[0].version), (1, true));
}

/// A report is about what was there when it was made.
pub async fn what_changes_while_it_is_reported_stays_due(keep: &Keep) {
    let tenant = keep.place("home").await.id;
    let under_way = due(keep).await;
    keep.join(tenant, "ann", TenantRole::Viewer).await;
    keep.host().reported(&under_way).await.unwrap();
    let reports = report(keep).await;
    assert_eq!(reports.len(), 1);
    assert!(reports[0].members.contains_key(&sub("ann")));
    assert_eq!(due(keep).await, []);
}

/// Whatever Admin has, it hears all of it again.
pub async fn everything_is_due_anew(keep: &Keep) {
    for slug in ["one", "two"] {
        keep.place(slug).await;
    }
    let reports = report(keep).await;
    assert_eq!(reports.len(), 2);
    keep.host().report_anew().await.unwrap();
    assert_eq!(report(keep).await, reports);
    assert_eq!(due(keep).await, []);
}

/// Admin takes reports from the present place only: behind a move everything is told anew, and late news of the place
/// before count for nothing.
pub async fn a_new_generation_is_due(keep: &Keep) {
    let tenant = keep.place("home").await;
    let before = report(keep).await;
    let moved = PlacedTenant { generation: 2, ..tenant };
    keep.push(slice::from_ref(&moved)).await;
    keep.host().reported(&before).await.unwrap();
    let reports = report(keep).await;
    assert_eq!(reports.iter().map(|report| report.generation).collect::<Vec<_>>(), [2]);
    assert_eq!(due(keep).await, []);
}

/// The others come next.
pub async fn twenty_are_reported_at_once(keep: &Keep) {
    let tenants: Vec<PlacedTenant> = (0..23).map(|number| placed(&format!("tenant-{number}"))).collect();
    keep.push(&tenants).await;
    assert_eq!(report(keep).await.len(), 20);
    assert_eq!(report(keep).await.len(), 3);
    assert_eq!(due(keep).await, []);
}
