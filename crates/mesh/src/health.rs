//! Health: `/health`, `/ready`, `/metrics` and `grpc.health.v1.Health` say the same thing. Source: contract C8.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use axum::Json;
use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use kombify_core::clock::rfc3339_seconds;
use kombify_core::{Clock, Result};
use metrics_exporter_prometheus::PrometheusHandle;
use serde::Serialize;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;

/// How long one check may take.
const CHECK_TIMEOUT: Duration = Duration::from_secs(2);

/// How often the gRPC health status follows the checks.
const FOLLOW_INTERVAL: Duration = Duration::from_secs(2);

/// Below this much free space the storage is not well.
const MIN_FREE_BYTES: u64 = 64 * 1024 * 1024;

/// Below this share of available memory, in percent, the memory is not well.
const MIN_FREE_MEMORY_PERCENT: u64 = 2;

/// What a module asks whether its database is well.
#[async_trait]
pub trait DatabaseCheck: Send + Sync + 'static {
    /// Whether the database answers.
    ///
    /// # Errors
    /// - if it does not.
    async fn check(&self) -> Result<()>;
}

/// What a module looks at to know whether it is well.
#[derive(Clone)]
pub struct Health {
    database: Option<Arc<dyn DatabaseCheck>>,
    storage: Option<PathBuf>,
    draining: Arc<AtomicBool>,
    clock: Arc<dyn Clock>,
    metrics: Option<PrometheusHandle>,
}

/// The three states, from best to worst.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum HealthStatus {
    /// All is well.
    Healthy,
    /// It serves, but something is not well.
    Degraded,
    /// It does not serve.
    Unhealthy,
}

/// What `/health` answers.
#[derive(Clone, Debug, Serialize)]
pub struct HealthReport {
    /// The worst of the checks.
    pub status: HealthStatus,
    /// The version of kombify.
    pub version: &'static str,
    /// When it was looked at.
    pub timestamp: String,
    /// What was looked at: "ok" or "error"; what a module does not have is not there.
    pub checks: Checks,
}

/// The checks, one by one.
#[derive(Clone, Debug, Serialize)]
pub struct Checks {
    /// Whether the database answers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub database: Option<&'static str>,
    /// Whether there is space where the module keeps its data.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub storage: Option<&'static str>,
    /// Whether there is memory.
    pub memory: &'static str,
}

impl Health {
    /// The health of a module without a database.
    pub fn new(clock: Arc<dyn Clock>, metrics: Option<PrometheusHandle>) -> Self {
        Self { database: None, storage: None, draining: Arc::default(), clock, metrics }
    }

    /// The same with the directory in which the module keeps its data.
    #[must_use]
    pub fn with_storage(self, storage: PathBuf) -> Self {
        Self { storage: Some(storage), ..self }
    }

    /// The same with a database, whose file is in the directory `storage`.
    #[must_use]
    pub fn with_database(self, database: Arc<dyn DatabaseCheck>, storage: PathBuf) -> Self {
        Self { database: Some(database), storage: Some(storage), ..self }
    }

    /// Says from now on that the module is not ready: it is going away.
    pub fn drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    /// Looks.
    pub async fn look(&self) -> HealthReport {
        let word = |well: bool| if well { "ok" } else { "error" };
        let database = match &self.database {
            None => None,
            Some(database) => Some(matches!(timeout(CHECK_TIMEOUT, database.check()).await, Ok(Ok(())))),
        };
        let storage =
            self.storage.as_ref().map(|dir| free_bytes(dir).is_some_and(|free| free >= MIN_FREE_BYTES));
        let memory = free_memory_percent().is_none_or(|percent| percent >= MIN_FREE_MEMORY_PERCENT);
        let status = match (database, storage, memory) {
            (Some(false), ..) => HealthStatus::Unhealthy,
            (_, Some(false), _) | (_, _, false) => HealthStatus::Degraded,
            _ => HealthStatus::Healthy,
        };
        HealthReport {
            status,
            version: env!("CARGO_PKG_VERSION"),
            timestamp: rfc3339_seconds(self.clock.now()),
            checks: Checks { database: database.map(word), storage: storage.map(word), memory: word(memory) },
        }
    }

    async fn is_ready(&self) -> bool {
        !self.draining.load(Ordering::Relaxed) && self.look().await.status != HealthStatus::Unhealthy
    }

    /// `/health`, `/ready` and `/metrics`.
    pub fn router(&self) -> Router {
        Router::new()
            .route("/health", get(health))
            .route("/ready", get(ready))
            .route("/metrics", get(render_metrics))
            .with_state(self.clone())
    }

    /// Lets the gRPC health status of `services` follow the checks, until cancelled.
    pub async fn follow(&self, reporter: HealthReporter, services: Vec<String>, cancel: CancellationToken) {
        loop {
            let status =
                if self.is_ready().await { ServingStatus::Serving } else { ServingStatus::NotServing };
            for service in services.iter().map(String::as_str).chain([""]) {
                reporter.set_service_status(service, status).await;
            }
            tokio::select! {
                () = cancel.cancelled() => return,
                () = tokio::time::sleep(FOLLOW_INTERVAL) => {}
            }
        }
    }
}

async fn health(State(health): State<Health>) -> Response {
    let report = health.look().await;
    let status = match report.status {
        HealthStatus::Healthy | HealthStatus::Degraded => StatusCode::OK,
        HealthStatus::Unhealthy => StatusCode::SERVICE_UNAVAILABLE,
    };
    (status, [("cache-control", "no-store")], Json(report)).into_response()
}

async fn ready(State(health): State<Health>) -> Response {
    if health.is_ready().await {
        (StatusCode::OK, "ready\n").into_response()
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "not ready\n").into_response()
    }
}

async fn render_metrics(State(health): State<Health>) -> Response {
    let Some(handle) = health.metrics else { return StatusCode::NOT_FOUND.into_response() };
    ([("content-type", "text/plain; version=0.0.4")], handle.render()).into_response()
}

fn free_bytes(dir: &std::path::Path) -> Option<u64> {
    let stat = rustix::fs::statvfs(dir).ok()?;
    Some(stat.f_bavail * stat.f_frsize)
}

/// The share of the storage under `dir` that is in use, in percent; `None` where the system does not say.
pub(crate) fn used_storage_percent(dir: &std::path::Path) -> Option<u32> {
    let stat = rustix::fs::statvfs(dir).ok()?;
    let used = stat.f_blocks.saturating_sub(stat.f_bfree);
    u32::try_from(used * 100 / (used + stat.f_bavail).max(1)).ok()
}

/// The share of memory that is available, in percent; `None` where the system does not say.
pub(crate) fn free_memory_percent() -> Option<u64> {
    let info = std::fs::read_to_string("/proc/meminfo").ok()?;
    let value = |name: &str| -> Option<u64> {
        let line = info.lines().find_map(|line| line.strip_prefix(name))?;
        line.split_whitespace().next()?.parse().ok()
    };
    Some(value("MemAvailable:")? * 100 / value("MemTotal:")?.max(1))
}
