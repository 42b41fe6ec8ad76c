//! What must hold for organisations and their grants.

use super::{Pair, change, code, org, seconds, sighting, sub};
use crate::clock::rfc3339_seconds;
use crate::organisation::OrganisationStore;
use crate::{Code, Plan, PlanGrant, TenantScope};

const GRANTED: &str = "organisation.plan.granted";

/// An organisation is known from its first user on, without a grant; a stranger is not.
pub async fn an_organisation_is_there_from_its_first_user_on(pair: &Pair) {
    assert_eq!(pair.organisations().find(&org("org-1")).await.unwrap(), None);
    let seen = pair.sight(&sighting("ann", "org-1", 100)).await;
    pair.sight(&sighting("bob", "org-1", 100)).await;
    let organisation = OrganisationStore::find(&*pair.b, &org("org-1")).await.unwrap().unwrap();
    assert_eq!((organisation.id, organisation.grant), (org("org-1"), None));
    assert_eq!(organisation.create_time, seen.create_time);
}

/// The last grant is the one that is there, and each one is in the log with its reason.
pub async fn a_grant_takes_the_place_of_the_one_before(pair: &Pair) {
    let seen = pair.sight(&sighting("ann", "org-1", 100)).await;
    for (plan, days, reason) in
        [(Plan::Pro, 30, "a gift"), (Plan::Enterprise, 10, "a bigger one"), (Plan::Free, 1, "")]
    {
        let grant = PlanGrant { plan, end_time: seconds(seen.create_time, days * 86_400) };
        let granted =
            pair.organisations().grant(&change(GRANTED), &org("org-1"), grant, reason).await.unwrap();
        assert_eq!(granted.grant, Some(grant));
        assert_eq!(OrganisationStore::find(&*pair.b, &org("org-1")).await.unwrap(), Some(granted));
        let newest = pair.rows_of(GRANTED).await.remove(0);
        assert_eq!(newest.target, "org-1");
        assert_eq!(newest.details["plan"], plan.as_str());
        assert_eq!(newest.details["endTime"], rfc3339_seconds(grant.end_time));
        assert_eq!(newest.details["reason"], reason);
    }
    assert_eq!(pair.rows_of(GRANTED).await.len(), 3);
}

/// Users and tenants of the organisation show its grant; everybody else's stays.
pub async fn a_grant_shows_in_users_and_tenants(pair: &Pair) {
    pair.register("one", "eu", 10).await;
    let ann = pair.sight(&sighting("ann", "org-1", 100)).await;
    pair.sight(&sighting("bob", "org-2", 100)).await;
    let ours = pair.create("ours", "org-1").await;
    let theirs = pair.create("theirs", "org-2").await;
    let grant = PlanGrant { plan: Plan::Pro, end_time: seconds(ann.create_time, 86_400) };
    pair.organisations().grant(&change(GRANTED), &org("org-1"), grant, "a gift").await.unwrap();
    for (who, tenant, expected) in [("ann", ours.id, Some(grant)), ("bob", theirs.id, None)] {
        assert_eq!(pair.users().find(&sub(who)).await.unwrap().unwrap().grant, expected, "{who}");
        let scope = TenantScope::system(tenant, "the suite reads what it wrote");
        assert_eq!(pair.tenants().find(scope).await.unwrap().unwrap().grant, expected, "{who}");
    }
}

/// Nothing is granted to an organisation that the platform never saw.
pub async fn a_grant_for_nobody_known_finds_nothing(pair: &Pair) {
    let change = change(GRANTED);
    let grant = PlanGrant { plan: Plan::Pro, end_time: seconds(change.time, 86_400) };
    assert_eq!(
        code(pair.organisations().grant(&change, &org("org-1"), grant, "a gift").await),
        Code::NotFound
    );
    assert_eq!(pair.organisations().find(&org("org-1")).await.unwrap(), None);
    assert!(pair.rows_of(GRANTED).await.is_empty());
}
