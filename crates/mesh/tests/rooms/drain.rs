//! The end of a module: what is open gets its answer, what is new goes elsewhere, and what takes too long is cut.

use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response};
use kombify_mesh::client::connect;
use kombify_mesh::server::ServerConfig;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};
use tonic::body::Body;
use tonic::transport::Channel;
use tower::ServiceExt as _;

use crate::support::{ANY_PORT, GET_USER, Served, Stub, answered, body};

/// How long anything here may take at most.
const PATIENCE: Duration = Duration::from_secs(10);

type Answer = Result<Response<Body>, tonic::transport::Error>;

/// A stub that answers when the gate opens.
fn gated() -> (Stub, Arc<Semaphore>) {
    let gate = Arc::new(Semaphore::new(0));
    let inside = Arc::clone(&gate);
    let stub = Stub::new(move |_| {
        let gate = Arc::clone(&inside);
        async move {
            gate.acquire().await.unwrap().forget();
            answered()
        }
    });
    (stub, gate)
}

async fn call(channel: Channel) -> Answer {
    let request =
        Request::post(GET_USER).header("content-type", "application/grpc").body(Body::empty()).unwrap();
    channel.oneshot(request).await
}

/// Waits until new connections are refused.
async fn until_refusing(served: &Served) {
    let refusing = async {
        while TcpStream::connect(served.address).await.is_ok() {
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(PATIENCE, refusing).await.unwrap();
}

#[tokio::test]
async fn a_request_that_is_open_gets_its_answer_and_a_new_connection_is_refused() {
    let (stub, gate) = gated();
    let served = Served::start(&stub).await;
    let channel = connect(&served.url).unwrap();
    let mut open = JoinSet::new();
    open.spawn(call(channel.clone()));
    stub.until_reached(1).await;
    assert!(is_ready(&served).await);

    served.cancel.cancel();
    until_refusing(&served).await;
    assert!(!is_ready(&served).await, "whoever asks learns that it goes away");
    assert!(call(connect(&served.url).unwrap()).await.is_err());
    assert!(
        timeout(Duration::from_millis(100), open.join_next()).await.is_err(),
        "the open request is still open"
    );

    gate.add_permits(1);
    let answer = timeout(PATIENCE, open.join_next()).await.unwrap().unwrap().unwrap().unwrap();
    assert_eq!(body(answer).await, "answer");
    served.ended().await;
    assert_eq!(stub.reached(), 1);
}

#[tokio::test]
async fn idle_connections_do_not_keep_it_from_ending() {
    let (stub, gate) = gated();
    let served = Served::start(&stub).await;
    let channel = connect(&served.url).unwrap();
    gate.add_permits(1);
    call(channel.clone()).await.unwrap();
    let mut old = TcpStream::connect(served.address).await.unwrap();
    gate.add_permits(1);
    old.write_all(b"POST / HTTP/1.1\r\nhost: localhost\r\ncontent-length: 0\r\n\r\n").await.unwrap();
    let mut first = [0; 12];
    old.read_exact(&mut first).await.unwrap();
    assert_eq!(&first, b"HTTP/1.1 200");

    let begun = Instant::now();
    served.cancel.cancel();
    served.ended().await;
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    drop(channel);
}

#[tokio::test]
async fn a_request_that_takes_longer_than_the_drain_is_cut() {
    let stub = Stub::silent();
    let config = ServerConfig { drain_timeout_seconds: 1, ..ServerConfig::default() };
    let served = Served::start_with(&stub, config, ANY_PORT).await;
    let mut open = JoinSet::new();
    open.spawn(call(connect(&served.url).unwrap()));
    stub.until_reached(1).await;

    let begun = Instant::now();
    served.cancel.cancel();
    served.ended().await;
    let elapsed = begun.elapsed();
    assert!(elapsed >= Duration::from_millis(900) && elapsed < Duration::from_secs(5), "{elapsed:?}");
    let answer = timeout(PATIENCE, open.join_next()).await.unwrap().unwrap().unwrap();
    assert!(answer.is_err(), "the caller is told, and does not wait");
}

#[tokio::test]
async fn no_more_connections_than_the_bound_are_open_at_once() {
    let stub = Stub::ok();
    let config = ServerConfig { max_connections: 1, ..ServerConfig::default() };
    let served = Served::start_with(&stub, config, ANY_PORT).await;
    let first = connect(&served.url).unwrap();
    call(first.clone()).await.unwrap();
    let mut second = JoinSet::new();
    second.spawn(call(connect(&served.url).unwrap()));
    assert!(timeout(Duration::from_millis(200), second.join_next()).await.is_err(), "there is no place yet");
    call(first.clone()).await.unwrap();

    drop(first);
    timeout(PATIENCE, second.join_next()).await.unwrap().unwrap().unwrap().unwrap();
    assert_eq!(stub.reached(), 3);
}

async fn is_ready(served: &Served) -> bool {
    let request = Request::get("/ready").body(axum::body::Body::empty()).unwrap();
    served.health.router().oneshot(request).await.unwrap().status().is_success()
}
