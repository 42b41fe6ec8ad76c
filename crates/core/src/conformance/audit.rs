//! What must hold for the audit log.

use std::collections::{BTreeMap, BTreeSet};

use super::launch::new_launch;
use super::{
    CLOCK, Pair, all_pages, change, change_by, code, new_claim, new_instance, new_tenant, org, scope,
    seconds, sighting, sub,
};
use crate::audit::{AuditEvent, AuditFilter, AuditStore, Outcome, Refusal};
use crate::flag::{Entitled, Entitlements};
use crate::instance::{Endpoints, InstanceStatus};
use crate::launch::NewLaunch;
use crate::mesh_key::MeshKey;
use crate::tenant::{GRACE_HOURS, TenantMove, TenantReport, Usage};
use crate::user::UserPatch;
use crate::{Actor, Change, Clock as _, Code, Page, Plan, PlanGrant, Result, ServiceIdentity};

fn cloud() -> ServiceIdentity {
    ServiceIdentity { module: "cloud".into(), instance: "local".into() }
}

fn refusal(who: &str, target: &str) -> Refusal {
    let refused = change_by(who, "access.refused");
    Refusal {
        time: refused.time,
        actor: refused.actor,
        action: refused.action.to_owned(),
        target: target.to_owned(),
        tenant: None,
        ip: refused.ip,
        user_agent: refused.user_agent,
        request_id: refused.request_id,
        details: BTreeMap::from([("code".to_owned(), "NOT_FOUND".to_owned())]),
    }
}

/// The log without the rows of the suite's own readings.
struct Log<'a> {
    pair: &'a Pair,
    rows: Vec<AuditEvent>,
}

impl Log<'_> {
    /// Writes, and holds that the log grew by one row of the action.
    async fn grows_by<T>(&mut self, action: &'static str, write: impl AsyncFnOnce(Change) -> Result<T>) {
        write(change(action)).await.unwrap();
        let mut rows = self.pair.rows(&AuditFilter::default()).await;
        rows.retain(|row| row.action != "audit.read");
        assert_eq!(rows.len(), self.rows.len() + 1, "{action}");
        assert_eq!(rows[0].action, action);
        assert_eq!(rows[1..], self.rows[..], "{action} changed what was there");
        self.rows = rows;
    }
}

/// Whatever is written, the log grows by one row of that action, and what was there stays.
pub async fn every_write_leaves_exactly_one_row(pair: &Pair) {
    let (ann, org) = (sub("ann"), org("org-1"));
    let seen = sighting("ann", "org-1", 100);
    let patch = UserPatch { locale: Some("de".into()), ..UserPatch::default() };
    let (one, spare) = (new_instance("one", "eu", 10), new_instance("spare", "us", 10));
    let tenant = new_tenant("home", "org-1");
    let grant = PlanGrant { plan: Plan::Pro, end_time: seconds(CLOCK.now(), 86_400) };
    let key = |kid: &str| MeshKey { kid: kid.to_owned(), service: cloud(), public_key: kid.repeat(43) };
    let (first, second) = (key("a"), key("b"));
    let (users, tenants, instances, keys) = (pair.users(), pair.tenants(), pair.instances(), pair.keys());
    let (all, draining) = (AuditFilter::default(), InstanceStatus::Draining);
    let mut log = Log { pair, rows: Vec::new() };
    log.grows_by("user.created", async |change| users.sight(&change, &seen).await).await;
    log.grows_by("user.updated", async |change| users.update(&change, &ann, None, patch).await).await;
    log.grows_by("instance.registered", async |change| instances.register(&change, &one).await).await;
    log.grows_by("instance.registered", async |change| instances.register(&change, &spare).await).await;
    let claim = new_claim(one.id);
    log.grows_by("instance.claimed", async |change| instances.claim(&change, one.id, &claim).await).await;
    pair.bring_up(one.id).await;
    log.grows_by("tenant.created", async |change| tenants.create(&change, &tenant).await).await;
    for _ in 0..2 {
        log.grows_by("instance.maintenance.set", async |change| {
            instances.set_maintenance(&change, spare.id, None, true).await
        })
        .await;
    }
    log.grows_by("organisation.plan.granted", async |change| {
        pair.organisations().grant(&change, &org, grant, "a gift").await
    })
    .await;
    for _ in 0..2 {
        log.grows_by("instance.drained", async |change| {
            instances.set_status(&change, spare.id, None, draining).await
        })
        .await;
    }
    let elsewhere = Endpoints { internal: Some("http://elsewhere:1".into()), public: None };
    for _ in 0..2 {
        log.grows_by("instance.updated", async |change| {
            instances.set_endpoints(&change, spare.id, None, elsewhere.clone()).await
        })
        .await;
    }
    log.grows_by("instance.removed", async |change| instances.remove(&change, spare.id, None).await).await;
    log.grows_by("mesh.key.registered", async |change| keys.register(&change, &first, None).await).await;
    log.grows_by("mesh.key.registered", async |change| keys.register(&change, &second, Some("a")).await)
        .await;
    log.grows_by("access.refused", async |_| pair.log().append_refusals(&[refusal("ann", "/a")]).await).await;
    log.grows_by("log.read", async |change| pair.log().read(&change, &all, &Page::first()).await).await;
}

/// The same holds for what is done to users, flags and tenants; what only tells a module leaves none.
pub async fn what_is_decided_leaves_one_row_and_its_hand_off_none(pair: &Pair) {
    let instance = pair.register("one", "eu", 10).await.id;
    let ann = pair.sight(&sighting("ann", "org-1", 100)).await;
    let tenant = pair.create("home", "org-1").await.id;
    let (users, tenants, flags) = (pair.users(), pair.tenants(), pair.flags());
    let key = "a.flag".parse().unwrap();
    let set = Entitlements { owner: Entitled::Plan(Plan::Pro), entitlements: BTreeSet::from(["x".into()]) };
    let code = new_launch("ann", 1);
    let mut rows = pair.rows(&AuditFilter::default()).await;
    rows.retain(|row| row.action != "audit.read");
    let mut log = Log { pair, rows };
    for (action, locked) in [("user.locked", true), ("user.locked", true), ("user.unlocked", false)] {
        log.grows_by(action, async |change| users.set_lock(&change, &ann.sub, locked, "why").await).await;
    }
    log.grows_by("user.logout", async |change| users.revoke(&change, &ann.sub, change.time).await).await;
    for _ in 0..2 {
        log.grows_by("flag.set", async |change| flags.set(&change, &key, None, "{}", "why").await).await;
    }
    log.grows_by("flag.deleted", async |change| flags.delete(&change, &key, None, "why").await).await;
    log.grows_by("flag.overrides.set", async |change| {
        flags.set_overrides(&change, &ann.sub, r#"{"a":true}"#, "why").await
    })
    .await;
    log.grows_by("entitlements.set", async |change| flags.set_entitlements(&change, &set, "why").await).await;
    let code = NewLaunch { auth_time: CLOCK.now(), ..code };
    log.grows_by("launch.code.issued", async |change| {
        pair.launches().issue(scope(tenant), &change, &code).await
    })
    .await;
    log.grows_by("launch.code.redeemed", async |change| {
        pair.launches().redeem(&change, &code.hash, instance, None).await
    })
    .await;
    pair.take_all(instance).await;
    let report = TenantReport {
        tenant,
        generation: 1,
        version: 1,
        members: BTreeMap::new(),
        usage: Usage { stacks: 1, storage_gb: 1 },
    };
    tenants.mirror(instance, &[report], CLOCK.now()).await.unwrap();
    for (action, to) in [
        ("tenant.suspended", TenantMove::Suspend),
        ("tenant.resumed", TenantMove::Resume),
        ("tenant.deleted", TenantMove::Delete),
    ] {
        log.grows_by(action, async |change| tenants.change_status(&change, tenant, None, to, "why").await)
            .await;
    }
    log.grows_by("tenant.erased", async |change| {
        let time = seconds(change.time, GRACE_HOURS * 3600 + 1);
        tenants.erase_expired(&Change { time, ..change }).await
    })
    .await;
}

/// A row has the actor with the service and the impersonator, the address, the program, the request and the time.
pub async fn a_row_says_all_that_the_change_knows(pair: &Pair) {
    let mut write = change_by("ann", "user.created");
    write.actor = Actor { service: Some(cloud()), impersonator: Some(sub("support")), ..write.actor };
    write.ip = "2001:db8::1".into();
    write.user_agent = "a \"browser\" from 'afar' \u{1f30d}".into();
    pair.users().sight(&write, &sighting("ann", "org-1", 100)).await.unwrap();
    let row = pair.rows_of("user.created").await.remove(0);
    let expected = AuditEvent {
        id: row.id,
        create_time: write.time,
        actor: write.actor,
        action: "user.created".into(),
        target: "ann".into(),
        tenant: None,
        ip: write.ip,
        user_agent: write.user_agent,
        request_id: write.request_id,
        outcome: Outcome::Done,
        details: row.details.clone(),
    };
    assert_eq!(row, expected);
}

/// A write that is refused by the store is not in the log: whoever refused it says so.
pub async fn what_fails_leaves_no_row(pair: &Pair) {
    let update =
        pair.users().update(&change("user.updated"), &sub("nobody"), None, UserPatch::default()).await;
    assert_eq!(code(update), Code::NotFound);
    let create = pair.tenants().create(&change("tenant.created"), &new_tenant("home", "org-1")).await;
    assert_eq!(code(create), Code::ServiceUnavailable);
    assert!(pair.rows_of("user.updated").await.is_empty());
    assert!(pair.rows_of("tenant.created").await.is_empty());
    assert_eq!(pair.organisations().find(&org("org-1")).await.unwrap(), None);
}

/// Every refusal becomes a row with all that it says, and none is lost in a crowd.
pub async fn refusals_are_appended_as_they_are_and_in_their_order(pair: &Pair) {
    pair.log().append_refusals(&[]).await.unwrap();
    let refusals: Vec<Refusal> = (0..5).map(|number| refusal("ann", &format!("/method/{number}"))).collect();
    pair.log().append_refusals(&refusals).await.unwrap();
    let mut rows = pair.rows_of("access.refused").await;
    rows.reverse();
    assert_eq!(rows.len(), refusals.len());
    for (row, refusal) in rows.into_iter().zip(refusals) {
        let Refusal { time, actor, action, target, tenant, ip, user_agent, request_id, details } = refusal;
        let expected = AuditEvent {
            id: row.id,
            create_time: time,
            actor,
            action,
            target,
            tenant,
            ip,
            user_agent,
            request_id,
            outcome: Outcome::Refused,
            details,
        };
        assert_eq!(row, expected);
    }
}

/// The first reading sees nothing of itself; the second sees the first, with what it asked for.
pub async fn reading_is_a_row_that_is_not_yet_in_its_own_answer(pair: &Pair) {
    let filter =
        AuditFilter { sub: Some(sub("operator")), outcome: Some(Outcome::Done), ..AuditFilter::default() };
    assert!(pair.rows(&filter).await.is_empty());
    let rows = pair.rows(&AuditFilter::default()).await;
    assert_eq!(rows.len(), 1);
    assert_eq!((rows[0].action.as_str(), rows[0].target.as_str(), rows[0].tenant), ("audit.read", "", None));
    let asked: Vec<_> = rows[0].details.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    assert_eq!(asked, [("outcome", "done"), ("sub", "operator")]);
}

/// Action, user, tenant, outcome and time each narrow the list, alone and together; the end is not in it.
pub async fn a_filter_holds_for_every_row(pair: &Pair) {
    pair.register("one", "eu", 10).await;
    let tenant = pair
        .tenants()
        .create(&change_by("ann", "tenant.created"), &new_tenant("home", "org-1"))
        .await
        .unwrap();
    let moved = change_by("bob", "user.created");
    pair.users().sight(&moved, &sighting("bob", "org-2", 100)).await.unwrap();
    pair.log().append_refusals(&[refusal("ann", "/a")]).await.unwrap();
    let all = AuditFilter::default();
    let cases = [
        (AuditFilter { action: "tenant.created".into(), ..all.clone() }, vec!["tenant.created"]),
        (AuditFilter { action: "tenant".into(), ..all.clone() }, vec![]),
        (AuditFilter { sub: Some(sub("ann")), ..all.clone() }, vec!["access.refused", "tenant.created"]),
        (AuditFilter { tenant: Some(tenant.id), ..all.clone() }, vec!["tenant.created"]),
        (AuditFilter { outcome: Some(Outcome::Refused), ..all.clone() }, vec!["access.refused"]),
        (
            AuditFilter { sub: Some(sub("ann")), outcome: Some(Outcome::Done), ..all.clone() },
            vec!["tenant.created"],
        ),
        (
            AuditFilter {
                start_time: Some(moved.time),
                end_time: Some(seconds(moved.time, 1)),
                ..all.clone()
            },
            vec!["user.created"],
        ),
        (AuditFilter { sub: Some(sub("bob")), end_time: Some(moved.time), ..all.clone() }, vec![]),
        (
            AuditFilter { end_time: Some(moved.time), ..all.clone() },
            vec!["tenant.created", "instance.claimed", "instance.registered"],
        ),
    ];
    for (filter, expected) in cases {
        let rows = pair.rows(&filter).await;
        let actions: Vec<&str> = rows.iter().map(|row| row.action.as_str()).collect();
        assert_eq!(actions, expected, "{filter:?}");
    }
}

/// Rows of one moment are each on one page, newest first and then by id, while readings add rows of their own.
pub async fn pages_hold_every_row_once_and_in_order(pair: &Pair) {
    let moment = change("user.created");
    for number in 0..5 {
        pair.users().sight(&moment, &sighting(&format!("user-{number}"), "org-1", 100)).await.unwrap();
    }
    let expected = pair.rows_of("user.created").await;
    assert!(expected.is_sorted_by(|one, other| one.id.to_string() > other.id.to_string()));
    for limit in [1, 2, 5, 6] {
        let filter = AuditFilter { action: "user.created".into(), ..AuditFilter::default() };
        let rows = all_pages(limit, |page| {
            let filter = &filter;
            async move { AuditStore::read(&*pair.a, &change("audit.read"), filter, &page).await }
        });
        assert_eq!(rows.await, expected, "{limit} a page");
    }
}
