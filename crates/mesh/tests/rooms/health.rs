//! Health: what `/health`, `/ready`, `/metrics` and `grpc.health.v1.Health` say.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use axum::body::Body;
use axum::http::{Request, Response};
use http_body_util::BodyExt as _;
use kombify_core::{Error, Result};
use kombify_mesh::health::{DatabaseCheck, Health};
use metrics_exporter_prometheus::PrometheusBuilder;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tower::ServiceExt as _;

use crate::support::Manual;

const WELL: u8 = 0;
const FAILS: u8 = 1;
const HANGS: u8 = 2;

/// A database that is as it is told to be.
#[derive(Default)]
struct Database(AtomicU8);

impl Database {
    fn turn(&self, state: u8) {
        self.0.store(state, Ordering::Relaxed);
    }
}

#[async_trait]
impl DatabaseCheck for Database {
    async fn check(&self) -> Result<()> {
        match self.0.load(Ordering::Relaxed) {
            WELL => Ok(()),
            HANGS => std::future::pending().await,
            _ => Err(Error::internal("disk /dev/sda1 is on fire")),
        }
    }
}

/// A module whose database keeps its file in `dir`.
fn with_database(dir: &Path) -> (Health, Arc<Database>) {
    let database = Arc::new(Database::default());
    (Health::new(Manual::new(), None).with_database(database.clone(), dir.to_owned()), database)
}

async fn get(health: &Health, path: &str) -> Response<Body> {
    health.router().oneshot(Request::get(path).body(Body::empty()).unwrap()).await.unwrap()
}

async fn status(health: &Health, path: &str) -> u16 {
    get(health, path).await.status().as_u16()
}

async fn text(response: Response<Body>) -> String {
    String::from_utf8(response.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap()
}

/// The status and the report of `/health`.
async fn report(health: &Health) -> (u16, Value) {
    let response = get(health, "/health").await;
    assert_eq!(response.headers()["content-type"], "application/json");
    assert_eq!(response.headers()["cache-control"], "no-store");
    (response.status().as_u16(), serde_json::from_str(&text(response).await).unwrap())
}

#[tokio::test]
async fn a_module_that_is_well_says_so_in_the_shape_of_the_contract() {
    let dir = tempfile::tempdir().unwrap();
    let (health, _) = with_database(dir.path());
    let expected = json!({
        "status": "healthy",
        "version": env!("CARGO_PKG_VERSION"),
        "timestamp": "2026-01-02T03:04:05Z",
        "checks": {"database": "ok", "storage": "ok", "memory": "ok"},
    });
    assert_eq!(report(&health).await, (200, expected));
    assert_eq!(status(&health, "/ready").await, 200);
}

#[tokio::test]
async fn what_a_module_does_not_have_is_not_looked_at() {
    let health = Health::new(Manual::new(), None);
    let (status, report) = report(&health).await;
    assert_eq!((status, &report["checks"]), (200, &json!({"memory": "ok"})));
}

#[tokio::test(start_paused = true)]
async fn a_database_that_fails_or_hangs_makes_the_module_unhealthy() {
    let dir = tempfile::tempdir().unwrap();
    let (health, database) = with_database(dir.path());
    for state in [FAILS, HANGS] {
        database.turn(state);
        let begun = Instant::now();
        let (status, report) = report(&health).await;
        assert_eq!((status, &report["status"]), (503, &json!("unhealthy")));
        assert_eq!(report["checks"]["database"], "error");
        assert!(!report.to_string().contains("sda1"), "{report}");
        assert_eq!(self::status(&health, "/ready").await, 503);
        assert!(
            begun.elapsed() < Duration::from_secs(5),
            "a check does not wait for ever: {:?}",
            begun.elapsed()
        );
    }
    database.turn(WELL);
    assert_eq!((status(&health, "/health").await, status(&health, "/ready").await), (200, 200));
}

#[tokio::test]
async fn a_module_without_its_storage_is_degraded_and_serves_on() {
    let (health, _) = with_database(Path::new("/nowhere/at/all"));
    let (status, report) = report(&health).await;
    assert_eq!((status, &report["status"]), (200, &json!("degraded")));
    assert_eq!(report["checks"]["storage"], "error");
    assert_eq!(self::status(&health, "/ready").await, 200);
}

#[tokio::test]
async fn a_module_that_drains_is_healthy_and_not_ready() {
    let dir = tempfile::tempdir().unwrap();
    let (health, _) = with_database(dir.path());
    health.clone().drain();
    assert_eq!((status(&health, "/health").await, status(&health, "/ready").await), (200, 503));
}

#[tokio::test]
async fn metrics_are_rendered_where_they_are_counted() {
    assert_eq!(status(&Health::new(Manual::new(), None), "/metrics").await, 404);
    let recorder = PrometheusBuilder::new().build_recorder();
    let health = Health::new(Manual::new(), Some(recorder.handle()));
    let _counting = metrics::set_default_local_recorder(&recorder);
    metrics::counter!("kombify_rooms_total").increment(3);
    let response = get(&health, "/metrics").await;
    assert_eq!(response.headers()["content-type"], "text/plain; version=0.0.4");
    let text = text(response).await;
    assert!(text.contains("kombify_rooms_total 3"), "{text}");
}

#[tokio::test(start_paused = true)]
async fn the_health_of_grpc_follows() {
    let dir = tempfile::tempdir().unwrap();
    let (health, database) = with_database(dir.path());
    let (reporter, server) = tonic_health::server::health_reporter();
    let (cancel, client) = (CancellationToken::new(), HealthClient::new(server));
    let services = vec!["kombify.users.v1.UserService".to_owned()];
    let check = async {
        for (state, expected) in [
            (WELL, ServingStatus::Serving),
            (FAILS, ServingStatus::NotServing),
            (HANGS, ServingStatus::NotServing),
            (WELL, ServingStatus::Serving),
        ] {
            database.turn(state);
            sleep(Duration::from_secs(5)).await;
            for service in ["", "kombify.users.v1.UserService"] {
                let request = HealthCheckRequest { service: service.to_owned() };
                let answer = client.clone().check(request).await.unwrap().into_inner();
                assert_eq!(answer.status(), expected, "{service:?}");
            }
        }
        health.drain();
        sleep(Duration::from_secs(5)).await;
        let answer = client.clone().check(HealthCheckRequest::default()).await.unwrap().into_inner();
        assert_eq!(answer.status(), ServingStatus::NotServing);
        let unknown = HealthCheckRequest { service: "kombify.cloud.v1.ProfileService".to_owned() };
        assert_eq!(client.clone().check(unknown).await.unwrap_err().code(), tonic::Code::NotFound);
        cancel.cancel();
    };
    tokio::join!(health.follow(reporter, services, cancel.clone()), check);
}
