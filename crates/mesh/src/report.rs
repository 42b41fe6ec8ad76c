//! Reports of health: every module tells Admin every 10 seconds how it is. Source: contract C8.

use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use kombify_contracts::kombify::health::v1::health_service_client::HealthServiceClient;
use kombify_contracts::kombify::health::v1::{
    Components as ComponentsMessage, Metrics as MetricsMessage, ReportHealthRequest,
};
use kombify_core::health::{ComponentState, Components, HealthReport, Metrics, REPORT_SECONDS, Reported};
use kombify_core::{Clock, Ids, Result};
use tokio_util::sync::CancellationToken;

use crate::client::Peer;
use crate::health::{Health, HealthStatus};
use crate::status::to_fault;

/// How soon a report that did not arrive is followed by the next one.
const RETRY: Duration = Duration::from_secs(1);

/// What a module counts for its reports.
#[async_trait]
pub trait Counts: Send + Sync + 'static {
    /// How many tenants have a place there.
    async fn tenants(&self) -> u32;

    /// How many agents are connected.
    async fn agents(&self) -> u32;
}

/// The counts of a module that has neither tenants nor agents.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoCounts;

#[async_trait]
impl Counts for NoCounts {
    async fn tenants(&self) -> u32 {
        0
    }

    async fn agents(&self) -> u32 {
        0
    }
}

/// A module that reports.
pub struct Reporter {
    /// How it is.
    pub health: Health,
    /// What it counts.
    pub counts: Arc<dyn Counts>,
    /// Where it keeps its data; `None`: it keeps none.
    pub storage: Option<PathBuf>,
    /// The process's clock.
    pub clock: Arc<dyn Clock>,
    /// The process's randomness: it names the boot.
    pub ids: Arc<dyn Ids>,
}

impl Reporter {
    /// Reports by `send`, again and again until cancelled. What does not arrive is not sent again: the next report says
    /// more.
    pub async fn run<F>(self, cancel: CancellationToken, send: impl Fn(HealthReport) -> F + Send)
    where
        F: Future<Output = Result<()>> + Send,
    {
        let mut boot = [0; 12];
        self.ids.fill(&mut boot);
        let boot_id = URL_SAFE_NO_PAD.encode(boot);
        let mut processor = Processor::default();
        for sequence in 1..=u32::try_from(i32::MAX).unwrap_or(u32::MAX) {
            let report = self.report(boot_id.clone(), sequence, &mut processor).await;
            let pause = match send(report).await {
                Ok(()) => Duration::from_secs(REPORT_SECONDS.unsigned_abs()),
                Err(cause) => {
                    tracing::warn!(%cause, "health not reported");
                    RETRY
                }
            };
            tokio::select! {
                () = cancel.cancelled() => return,
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    async fn report(&self, boot_id: String, sequence: u32, processor: &mut Processor) -> HealthReport {
        let looked = self.health.look().await;
        let status = match looked.status {
            HealthStatus::Healthy => Reported::Healthy,
            HealthStatus::Degraded => Reported::Degraded,
            HealthStatus::Unhealthy => Reported::Unhealthy,
        };
        let database = match looked.checks.database {
            Some("error") => ComponentState::Error,
            Some(_) | None => ComponentState::Ok,
        };
        HealthReport {
            boot_id,
            sequence,
            status,
            components: Components { database, api: ComponentState::Ok, agents: ComponentState::Ok },
            metrics: Metrics {
                cpu_percent: processor.percent(),
                memory_percent: crate::health::free_memory_percent()
                    .map_or(0, |free| 100 - u32::try_from(free.min(100)).unwrap_or(100)),
                storage_percent: self
                    .storage
                    .as_deref()
                    .and_then(crate::health::used_storage_percent)
                    .unwrap_or(0),
                tenant_count: self.counts.tenants().await,
                agent_count: self.counts.agents().await,
            },
            software_version: env!("CARGO_PKG_VERSION").to_owned(),
        }
    }
}

/// Sends a report to Admin.
///
/// # Errors
/// - what Admin answers, and [`kombify_core::Error::Unavailable`] while it is away.
pub async fn to_admin(admin: Peer, clock: Arc<dyn Clock>, report: HealthReport) -> Result<()> {
    let HealthReport { boot_id, sequence, status, components, metrics, software_version } = report;
    let now = clock.now();
    let request = ReportHealthRequest {
        boot_id,
        sequence: i32::try_from(sequence).unwrap_or(i32::MAX),
        report_time: Some(prost_types::Timestamp { seconds: now.as_second(), nanos: 0 }),
        status: status.as_str().to_owned(),
        components: Some(ComponentsMessage {
            database: components.database.as_str().to_owned(),
            api: components.api.as_str().to_owned(),
            agents: components.agents.as_str().to_owned(),
        }),
        metrics: Some(metrics_message(metrics)),
        software_version,
    };
    HealthServiceClient::new(admin).report_health(request).await.map_err(|status| to_fault(&status))?;
    Ok(())
}

/// What was measured, as it stands in messages.
pub fn metrics_message(metrics: Metrics) -> MetricsMessage {
    let Metrics { cpu_percent, memory_percent, storage_percent, tenant_count, agent_count } = metrics;
    let number = |number: u32| i32::try_from(number).unwrap_or(i32::MAX);
    MetricsMessage {
        cpu_percent: number(cpu_percent),
        memory_percent: number(memory_percent),
        storage_percent: number(storage_percent),
        tenant_count: number(tenant_count),
        agent_count: number(agent_count),
    }
}

/// The machine's processors, between two looks.
#[derive(Default)]
struct Processor {
    last: Option<(u64, u64)>,
}

impl Processor {
    /// The time that was spent since the last look, in percent; 0 at the first, and where the system does not say.
    fn percent(&mut self) -> u32 {
        let Some(now) = std::fs::read_to_string("/proc/stat").ok().as_deref().and_then(spent) else {
            return 0;
        };
        let before = self.last.replace(now);
        before.map_or(0, |before| share(before, now))
    }
}

/// The busy and the whole time that `/proc/stat` tells of.
fn spent(stat: &str) -> Option<(u64, u64)> {
    let line = stat.lines().find_map(|line| line.strip_prefix("cpu "))?;
    let times: Vec<u64> = line.split_whitespace().map_while(|time| time.parse().ok()).collect();
    let whole: u64 = times.iter().take(8).sum();
    let idle = times.get(3)? + times.get(4)?;
    Some((whole.saturating_sub(idle), whole))
}

fn share((busy_before, whole_before): (u64, u64), (busy, whole): (u64, u64)) -> u32 {
    let whole = whole.saturating_sub(whole_before).max(1);
    let busy = busy.saturating_sub(busy_before).min(whole);
    u32::try_from(busy * 100 / whole).unwrap_or(100)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_share_of_the_processor_is_read_between_two_looks() {
        let before = spent("cpu  100 0 100 700 100 0 0 0 0 0\ncpu0 1 1 1 1\n").unwrap();
        assert_eq!(before, (200, 1000));
        let after = spent("cpu  150 0 100 720 130 0 0 0 0 0\n").unwrap();
        assert_eq!(share(before, after), 50);
        assert_eq!(share(after, after), 0);
        assert!(spent("intr 1").is_none());
    }
}
