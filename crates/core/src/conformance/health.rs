//! What must hold for the health of the modules.

use super::{CLOCK, Pair, all_pages, change, code, instance_id, new_instance, new_report, seconds, stack};
use crate::health::{
    ComponentState, Components, HISTORY_HOURS, HealthEvent, HealthReport, HealthState, HealthStore, Metrics,
    Reported, Reporter, Tracked, UNREACHABLE_AFTER,
};
use crate::instance::InstanceStatus;
use crate::{Clock as _, Code, InstanceId, Listed, Page, ServiceIdentity};
use jiff::Timestamp;

/// An instance of which nobody has heard yet.
async fn silent(pair: &Pair, name: &str) -> InstanceId {
    let new = new_instance(name, "eu", 10);
    pair.instances().register(&change("instance.registered"), &new).await.unwrap().id
}

async fn report(pair: &Pair, id: InstanceId, boot: &str, sequence: u32, status: Reported, now: Timestamp) {
    pair.health().report(&stack(id), &new_report(boot, sequence, status), now).await.unwrap();
}

/// The states of the instance, oldest first, seen from the other handle.
async fn history(pair: &Pair, id: InstanceId) -> Vec<HealthEvent> {
    let mut events = HealthStore::history(&*pair.b, id, &Page::first()).await.unwrap().items;
    events.reverse();
    events
}

async fn tracked(pair: &Pair, id: InstanceId) -> Option<Tracked> {
    pair.instances().find(id).await.unwrap().unwrap().health
}

fn event(state: HealthState, sequence: u32, create_time: Timestamp) -> HealthEvent {
    HealthEvent { state, create_time, metrics: Metrics { cpu_percent: sequence, ..Metrics::default() } }
}

/// From each report follows what [`Tracked::take`] says, and each state that begins is kept with what was measured.
pub async fn a_state_is_believed_by_its_rules_and_kept_when_it_begins(pair: &Pair) {
    let id = silent(pair, "one").await;
    let start = CLOCK.now();
    let (mut expected, mut events) = (None, Vec::new());
    for (number, status) in [
        Reported::Degraded,
        Reported::Healthy,
        Reported::Degraded,
        Reported::Healthy,
        Reported::Unhealthy,
        Reported::Unhealthy,
        Reported::Healthy,
        Reported::Healthy,
    ]
    .into_iter()
    .enumerate()
    {
        let sequence = u32::try_from(number).unwrap() + 1;
        let now = seconds(start, 10 * i64::from(sequence));
        report(pair, id, "boot", sequence, status, now).await;
        let next = Tracked::take(expected.as_ref(), new_report("boot", sequence, status), now).unwrap();
        if expected.is_none_or(|before: Tracked| before.state != next.state) {
            events.push(event(next.state, sequence, now));
        }
        assert_eq!(tracked(pair, id).await.as_ref(), Some(&next));
        expected = Some(next);
    }
    let states: Vec<_> = events.iter().map(|event| event.state).collect();
    assert_eq!(
        states,
        [HealthState::Warming, HealthState::Healthy, HealthState::Unhealthy, HealthState::Healthy]
    );
    assert_eq!(history(pair, id).await, events);
    let rows = pair.rows(&crate::audit::AuditFilter::default()).await;
    assert_eq!(rows.iter().map(|row| row.action.as_str()).collect::<Vec<_>>(), ["instance.registered"]);
}

/// A repeat and what was overtaken change nothing, not even the silence.
pub async fn a_report_that_is_not_newer_changes_nothing(pair: &Pair) {
    let id = silent(pair, "one").await;
    let start = CLOCK.now();
    report(pair, id, "boot", 5, Reported::Healthy, start).await;
    let before = tracked(pair, id).await;
    for sequence in [5, 4] {
        report(pair, id, "boot", sequence, Reported::Unhealthy, seconds(start, 100)).await;
        assert_eq!(tracked(pair, id).await, before);
    }
    assert_eq!(history(pair, id).await.len(), 1);
    report(pair, id, "next boot", 1, Reported::Healthy, seconds(start, 10)).await;
    assert_ne!(tracked(pair, id).await, before);
    assert_eq!(history(pair, id).await.len(), 1);
}

/// A silence of thirty seconds is a state, from its thirtieth second to the report that ends it, which begins its own.
pub async fn a_silence_is_kept_once_when_it_is_noted_or_when_a_report_ends_it(pair: &Pair) {
    let id = silent(pair, "one").await;
    let start = CLOCK.now();
    let long = UNREACHABLE_AFTER.as_secs();
    report(pair, id, "boot", 1, Reported::Healthy, start).await;
    let short = seconds(start, long - 1);
    report(pair, id, "boot", 2, Reported::Healthy, short).await;
    let mut expected = vec![event(HealthState::Healthy, 1, start)];
    assert_eq!(history(pair, id).await, expected);
    let silent_since = seconds(short, long);
    for (sequence, now) in [(3, silent_since), (4, seconds(silent_since, 5 * long))] {
        let before = tracked(pair, id).await.unwrap().report_time;
        let unreachable = event(HealthState::Unreachable, sequence - 1, seconds(before, long));
        if sequence == 4 {
            // Somebody looks before it is one, in its first moment, and again.
            for (later, noted) in [(-1, false), (0, true), (1, true)] {
                HealthStore::note_silences(&*pair.b, seconds(before, long + later)).await.unwrap();
                assert_eq!(history(pair, id).await.last() == Some(&unreachable), noted, "{later}");
            }
        }
        report(pair, id, "boot", sequence, Reported::Healthy, now).await;
        expected.push(unreachable);
        expected.push(event(HealthState::Healthy, sequence, now));
        assert_eq!(history(pair, id).await, expected);
    }
}

/// Nothing of a report is lost.
pub async fn a_reporter_is_shown_as_it_reported(pair: &Pair) {
    let service = ServiceIdentity { module: "cloud".into(), instance: "local".into() };
    let report = HealthReport {
        boot_id: "boot".into(),
        sequence: 3,
        status: Reported::Unhealthy,
        components: Components {
            database: ComponentState::Error,
            api: ComponentState::Timeout,
            agents: ComponentState::Ok,
        },
        metrics: Metrics {
            cpu_percent: 1,
            memory_percent: 2,
            storage_percent: 3,
            tenant_count: 4,
            agent_count: 5,
        },
        software_version: "1.2.3".into(),
    };
    let now = CLOCK.now();
    pair.health().report(&service, &report, now).await.unwrap();
    let tracked = Tracked {
        report,
        report_time: now,
        state: HealthState::Warming,
        state_time: now,
        streak: 1,
        earlier_boot_id: String::new(),
    };
    let expected = Reporter { service, instance_name: None, maintenance: None, tracked: Some(tracked) };
    assert_eq!(HealthStore::reporters(&*pair.b).await.unwrap(), [expected]);
}

/// A reporter is whoever reported, and every instance, reported or not, in the order of their names; a removed instance
/// is none.
pub async fn every_module_that_reported_and_every_instance_is_a_reporter(pair: &Pair) {
    let now = CLOCK.now();
    let (zoo, attic) = (silent(pair, "zoo").await, silent(pair, "attic").await);
    let gone = silent(pair, "gone").await;
    for id in [zoo, gone] {
        report(pair, id, "boot", 1, Reported::Healthy, now).await;
    }
    for module in ["kits", "cloud"] {
        let service = ServiceIdentity { module: module.into(), instance: "local".into() };
        let report = new_report("boot", 1, Reported::Healthy);
        pair.health().report(&service, &report, now).await.unwrap();
    }
    let maintenance = change("instance.maintenance.set");
    pair.instances().set_maintenance(&maintenance, attic, None, true).await.unwrap();
    let drain = change("instance.drained");
    pair.instances().set_status(&drain, gone, None, InstanceStatus::Draining).await.unwrap();
    pair.instances().remove(&change("instance.removed"), gone, None).await.unwrap();
    let reporters = pair.health().reporters().await.unwrap();
    assert_eq!(reporters[2].maintenance, Some(maintenance.time));
    let noted: Vec<_> =
        history(pair, attic).await.iter().map(|event| (event.state, event.create_time)).collect();
    assert_eq!(noted, [(HealthState::Maintenance, maintenance.time)]);
    let end = change("instance.maintenance.ended");
    pair.instances().set_maintenance(&end, attic, None, false).await.unwrap();
    let last = history(pair, attic).await.pop().unwrap();
    assert_eq!((last.state, last.create_time), (HealthState::Unreachable, end.time));
    assert_eq!(pair.health().reporters().await.unwrap()[2].maintenance, None);
    let shown: Vec<_> = reporters
        .iter()
        .map(|reporter| {
            let Reporter { service, instance_name, maintenance, tracked } = reporter;
            (service.to_string(), instance_name.as_deref(), maintenance.is_some(), tracked.is_some())
        })
        .collect();
    assert_eq!(
        shown,
        [
            ("service:cloud/local".to_owned(), None, false, true),
            ("service:kits/local".to_owned(), None, false, true),
            (stack(attic).to_string(), Some("attic"), true, false),
            (stack(zoo).to_string(), Some("zoo"), false, true),
        ]
    );
}

/// States are each on one page, newest first, also where two began in one moment.
pub async fn pages_hold_every_state_once_and_in_order(pair: &Pair) {
    let id = silent(pair, "one").await;
    let start = CLOCK.now();
    for sequence in 0..4 {
        // The silence begins in the moment of the report that ends it.
        let now = seconds(start, i64::from(sequence) * UNREACHABLE_AFTER.as_secs());
        report(pair, id, "boot", sequence, Reported::Healthy, now).await;
    }
    let mut expected = history(pair, id).await;
    assert_eq!(expected.len(), 7);
    expected.reverse();
    for limit in [1, 2, 3, 7, 8] {
        let found = all_pages(limit, |page| async move { pair.health().history(id, &page).await }).await;
        assert_eq!(found, expected, "{limit} a page");
    }
}

/// What is older than ninety days goes with a later report, of whomever.
pub async fn a_state_is_kept_for_ninety_days(pair: &Pair) {
    let (one, two) = (silent(pair, "one").await, silent(pair, "two").await);
    let start = CLOCK.now();
    report(pair, one, "boot", 1, Reported::Healthy, start).await;
    let kept = HISTORY_HOURS * 3600;
    report(pair, two, "boot", 1, Reported::Healthy, seconds(start, kept)).await;
    assert_eq!(history(pair, one).await.len(), 1);
    report(pair, two, "boot", 2, Reported::Healthy, seconds(start, kept + 1)).await;
    assert!(history(pair, one).await.is_empty());
    assert_eq!(history(pair, two).await.len(), 1);
}

/// There is a history of an instance that never reported, and none of one that is not there.
pub async fn a_history_is_of_an_instance_that_is_there(pair: &Pair) {
    let id = silent(pair, "one").await;
    let empty = Listed { items: Vec::new(), next_cursor: String::new(), limit: Page::MAX };
    assert_eq!(pair.health().history(id, &Page::first()).await.unwrap(), empty);
    assert_eq!(code(pair.health().history(instance_id(), &Page::first()).await), Code::NotFound);
    let drain = change("instance.drained");
    pair.instances().set_status(&drain, id, None, InstanceStatus::Draining).await.unwrap();
    pair.instances().remove(&change("instance.removed"), id, None).await.unwrap();
    assert_eq!(code(pair.health().history(id, &Page::first()).await), Code::NotFound);
}
