//! How modules are: their reports, and the state that follows from them. Source: contract C8.

use std::fmt;
use std::str::FromStr;

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};

use crate::{Error, InstanceId, Listed, Page, Result, ServiceIdentity};

/// How often a module reports, in seconds. Source: contract C8.
pub const REPORT_SECONDS: i64 = 10;

/// The silence after which a module is unreachable: three missed reports.
pub const UNREACHABLE_AFTER: SignedDuration = SignedDuration::from_secs(3 * REPORT_SECONDS);

/// How many reports in a row it takes to believe another state.
const BELIEVED_AFTER: u32 = 2;

/// How long history is kept, in hours: 90 days. Source: contract C8.
pub const HISTORY_HOURS: i64 = 90 * 24;

/// What a module says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reported {
    /// All is well.
    Healthy,
    /// It serves, but something is not well.
    Degraded,
    /// It does not serve.
    Unhealthy,
}

impl Reported {
    /// Every status, from best to worst.
    pub const ALL: [Self; 3] = [Self::Healthy, Self::Degraded, Self::Unhealthy];

    /// The status as it is reported and kept.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Healthy => "healthy",
            Self::Degraded => "degraded",
            Self::Unhealthy => "unhealthy",
        }
    }
}

impl FromStr for Reported {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        Self::ALL
            .into_iter()
            .find(|status| status.as_str() == text)
            .ok_or_else(|| Error::invalid("status", "must be healthy, degraded or unhealthy"))
    }
}

/// How a module is, as Admin sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HealthState {
    /// All is well.
    Healthy,
    /// It serves, but something is not well.
    Degraded,
    /// It does not serve.
    Unhealthy,
    /// It does not report.
    Unreachable,
    /// It has started, and was not healthy yet.
    Warming,
    /// Somebody works on it.
    Maintenance,
}

impl HealthState {
    /// Every state.
    pub const ALL: [Self; 6] =
        [Self::Healthy, Self::Degraded, Self::Unhealthy, Self::Unreachable, Self::Warming, Self::Maintenance];

    /// The state as it stands in answers and columns.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Healthy => "healthy",
            Self::Degraded => "degraded",
            Self::Unhealthy => "unhealthy",
            Self::Unreachable => "unreachable",
            Self::Warming => "warming",
            Self::Maintenance => "maintenance",
        }
    }
}

impl From<Reported> for HealthState {
    fn from(reported: Reported) -> Self {
        match reported {
            Reported::Healthy => Self::Healthy,
            Reported::Degraded => Self::Degraded,
            Reported::Unhealthy => Self::Unhealthy,
        }
    }
}

impl fmt::Display for HealthState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for HealthState {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        Self::ALL
            .into_iter()
            .find(|state| state.as_str() == text)
            .ok_or_else(|| Error::invalid("state", "must be a state of health"))
    }
}

/// How one component is: "ok", "error" or "timeout".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ComponentState {
    /// It answers.
    #[default]
    Ok,
    /// It answers with an error.
    Error,
    /// It does not answer in time.
    Timeout,
}

impl ComponentState {
    /// The state as it is reported and kept.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Error => "error",
            Self::Timeout => "timeout",
        }
    }
}

impl FromStr for ComponentState {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "ok" => Ok(Self::Ok),
            "error" => Ok(Self::Error),
            "timeout" => Ok(Self::Timeout),
            _ => Err(Error::invalid("component", "must be ok, error or timeout")),
        }
    }
}

/// What a module looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Components {
    /// Its database.
    pub database: ComponentState,
    /// Its calls.
    pub api: ComponentState,
    /// Its agents.
    pub agents: ComponentState,
}

impl Components {
    /// The best that a module with these components can be: without its database or its calls it does not serve.
    pub fn best(self) -> Reported {
        let Self { database, api, agents } = self;
        if [database, api].iter().any(|own| *own != ComponentState::Ok) {
            Reported::Unhealthy
        } else if agents == ComponentState::Ok {
            Reported::Healthy
        } else {
            Reported::Degraded
        }
    }
}

/// What a module measured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Metrics {
    /// The processor time that the machine spends, in percent.
    pub cpu_percent: u32,
    /// The memory of the machine that is in use, in percent.
    pub memory_percent: u32,
    /// The storage that is in use where the module keeps its data, in percent.
    pub storage_percent: u32,
    /// How many tenants have a place there.
    pub tenant_count: u32,
    /// How many agents are connected.
    pub agent_count: u32,
}

/// One report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HealthReport {
    /// Chosen anew at each start of the module.
    pub boot_id: String,
    /// Counts the reports of the boot.
    pub sequence: u32,
    /// What the module says of itself.
    pub status: Reported,
    /// What it looked at.
    pub components: Components,
    /// What it measured.
    pub metrics: Metrics,
    /// The version of kombify that runs.
    pub software_version: String,
}

/// What Admin keeps of a module's reports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tracked {
    /// The last report.
    pub report: HealthReport,
    /// When it came.
    pub report_time: Timestamp,
    /// The state that follows from the reports alone.
    pub state: HealthState,
    /// Since when.
    pub state_time: Timestamp,
    /// How many reports in a row said what the last one says: healthy, or not.
    pub streak: u32,
    /// The boot before that of the last report; empty if there was none.
    pub earlier_boot_id: String,
}

impl Tracked {
    /// What is kept after `report`, which came at `now`; `None` if it is not newer than the last of its boot, or is of the
    /// boot before: it is a repeat, or was overtaken.
    pub fn take(before: Option<&Self>, report: HealthReport, now: Timestamp) -> Option<Self> {
        let Some(before) = before.filter(|before| before.report.boot_id == report.boot_id) else {
            let state =
                if report.status == Reported::Healthy { HealthState::Healthy } else { HealthState::Warming };
            if before.is_some_and(|before| before.earlier_boot_id == report.boot_id) {
                return None;
            }
            let since = before.filter(|before| before.state == state).map_or(now, |before| before.state_time);
            let earlier_boot_id = before.map(|before| before.report.boot_id.clone()).unwrap_or_default();
            return Some(Self {
                report,
                report_time: now,
                state,
                state_time: since,
                streak: 1,
                earlier_boot_id,
            });
        };
        if report.sequence <= before.report.sequence {
            return None;
        }
        let last = before.report.status;
        let same = (last == Reported::Healthy) == (report.status == Reported::Healthy);
        let streak = if same { before.streak.saturating_add(1) } else { 1 };
        let said = HealthState::from(report.status);
        let believed = match before.state {
            HealthState::Warming => report.status == Reported::Healthy,
            // From one bad state to the other: as soon as two reports in a row say so.
            HealthState::Degraded | HealthState::Unhealthy if report.status != Reported::Healthy => {
                last == report.status
            }
            HealthState::Healthy
            | HealthState::Degraded
            | HealthState::Unhealthy
            | HealthState::Unreachable
            | HealthState::Maintenance => streak >= BELIEVED_AFTER,
        };
        let (state, state_time) =
            if believed && said != before.state { (said, now) } else { (before.state, before.state_time) };
        let earlier_boot_id = before.earlier_boot_id.clone();
        Some(Self { report, report_time: now, state, state_time, streak, earlier_boot_id })
    }

    /// How the module is at `now`, and since when.
    pub fn state_at(&self, now: Timestamp) -> (HealthState, Timestamp) {
        match self.report_time.checked_add(UNREACHABLE_AFTER) {
            Ok(silent_since) if silent_since <= now => (HealthState::Unreachable, silent_since),
            Ok(_) | Err(_) => (self.state, self.state_time),
        }
    }
}

/// How a module is that may never have reported, and on which somebody may work.
pub fn state_at(tracked: Option<&Tracked>, maintenance: bool, now: Timestamp) -> HealthState {
    match tracked {
        _ if maintenance => HealthState::Maintenance,
        None => HealthState::Unreachable,
        Some(tracked) => tracked.state_at(now).0,
    }
}

/// A state that began.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HealthEvent {
    /// The state.
    pub state: HealthState,
    /// When it began.
    pub create_time: Timestamp,
    /// What the last report had measured by then.
    pub metrics: Metrics,
}

/// A module that reports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reporter {
    /// Who.
    pub service: ServiceIdentity,
    /// The name of the instance where it is a Stack's.
    pub instance_name: Option<String>,
    /// Since when somebody works on it, if somebody does.
    pub maintenance: Option<Timestamp>,
    /// What is kept of its reports; `None` for an instance that never reported.
    pub tracked: Option<Tracked>,
}

/// Where reports are kept. Each method happens wholly or not at all.
#[async_trait]
pub trait HealthStore: Send + Sync + 'static {
    /// Takes a report by [`Tracked::take`]. Each state that begins is kept for [`HISTORY_HOURS`], the silence before the
    /// report too; the oldest go.
    async fn report(&self, service: &ServiceIdentity, report: &HealthReport, now: Timestamp) -> Result<()>;

    /// Keeps the silences that became too long by `now` in the history.
    async fn note_silences(&self, now: Timestamp) -> Result<()>;

    /// Every module that ever reported and every instance that is not removed, at most 1000, ordered by name.
    async fn reporters(&self) -> Result<Vec<Reporter>>;

    /// A part of the states of an instance, newest first; maintenance is one of them.
    ///
    /// # Errors
    /// - [`Error::NotFound`] if there is none of that id.
    async fn history(&self, instance: InstanceId, page: &Page) -> Result<Listed<HealthEvent>>;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + second).unwrap()
    }

    fn report(boot: &str, sequence: u32, status: Reported) -> HealthReport {
        HealthReport {
            boot_id: boot.into(),
            sequence,
            status,
            components: Components::default(),
            metrics: Metrics::default(),
            software_version: "1".into(),
        }
    }

    /// The states after each report of one boot, ten seconds apart.
    fn states(reports: &[Reported]) -> Vec<&'static str> {
        let mut tracked = None;
        let mut states = Vec::new();
        for (sequence, status) in (1..).zip(reports) {
            let now = at(i64::from(sequence) * REPORT_SECONDS);
            tracked = Tracked::take(tracked.as_ref(), report("boot", sequence, *status), now);
            states.push(tracked.as_ref().unwrap().state_at(now).0.as_str());
        }
        states
    }

    #[test]
    fn a_state_is_believed_after_two_reports() {
        use Reported::{Degraded as D, Healthy as H, Unhealthy as U};
        for (reports, expected) in [
            (&[H, D, H, D, H][..], &["healthy"; 5][..]),
            (&[H, D, D, H, H], &["healthy", "healthy", "degraded", "degraded", "healthy"]),
            (&[H, D, U, U], &["healthy", "healthy", "unhealthy", "unhealthy"]),
            (
                &[H, D, D, U, D, U, U],
                &["healthy", "healthy", "degraded", "degraded", "degraded", "degraded", "unhealthy"],
            ),
            (&[D, U, H, D], &["warming", "warming", "healthy", "healthy"]),
            (
                &[H, U, U, H, U, H, H],
                &["healthy", "healthy", "unhealthy", "unhealthy", "unhealthy", "unhealthy", "healthy"],
            ),
        ] {
            assert_eq!(states(reports), expected, "{reports:?}");
        }
    }

    #[test]
    fn a_new_boot_warms_and_a_repeat_or_an_overtaken_report_changes_nothing() {
        let first = Tracked::take(None, report("a", 5, Reported::Healthy), at(0)).unwrap();
        assert!(Tracked::take(Some(&first), report("a", 5, Reported::Unhealthy), at(1)).is_none());
        assert!(Tracked::take(Some(&first), report("a", 4, Reported::Unhealthy), at(1)).is_none());
        let second = Tracked::take(Some(&first), report("b", 1, Reported::Degraded), at(2)).unwrap();
        assert_eq!((second.state, second.state_time), (HealthState::Warming, at(2)));
        let third = Tracked::take(Some(&second), report("b", 2, Reported::Healthy), at(3)).unwrap();
        assert_eq!(third.state, HealthState::Healthy);
        assert!(Tracked::take(Some(&third), report("a", 6, Reported::Unhealthy), at(4)).is_none());
        let fourth = Tracked::take(Some(&third), report("c", 1, Reported::Healthy), at(5)).unwrap();
        assert!(Tracked::take(Some(&fourth), report("b", 3, Reported::Unhealthy), at(6)).is_none());
    }

    #[test]
    fn silence_makes_unreachable_and_maintenance_goes_over_everything() {
        let tracked = Tracked::take(None, report("a", 1, Reported::Healthy), at(0)).unwrap();
        assert_eq!(tracked.state_at(at(29)), (HealthState::Healthy, at(0)));
        assert_eq!(tracked.state_at(at(30)), (HealthState::Unreachable, at(30)));
        assert_eq!(state_at(None, false, at(0)), HealthState::Unreachable);
        assert_eq!(state_at(Some(&tracked), true, at(90)), HealthState::Maintenance);
    }
}
