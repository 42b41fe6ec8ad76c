//! The client: what a call takes along, and what it says when it cannot be made.

use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response};
use kombify_contracts::kombify::mesh::v1::ListKeysRequest;
use kombify_contracts::kombify::mesh::v1::key_service_client::KeyServiceClient;
use kombify_core::{Code, RequestId};
use kombify_mesh::client::Peer;
use kombify_mesh::context::Deadline;
use kombify_mesh::edge::ClientAddress;
use kombify_mesh::identity::service_token::{Signer, ephemeral, published};
use kombify_mesh::identity::verifier::Verified;
use kombify_mesh::server::ServerConfig;
use kombify_mesh::status::to_fault;
use kombify_mesh::trace::TraceContext;
use tokio::net::TcpSocket;
use tokio::time::Instant;
use tonic::Status;
use tonic::body::Body;
use tower::ServiceExt as _;

use crate::mint::House;
use crate::support::{
    ADDRESS, Counted, GET_USER, LIST_KEYS, REQUEST_ID, Served, Stub, USER_AGENT, answered, body, code,
    request, send, service, with,
};

/// How much time the request that causes the calls has.
const TIME: Duration = Duration::from_secs(5);

/// Cloud's signer, whose key `house` knows.
fn signer(house: &House) -> Arc<Signer> {
    let signer = ephemeral(service("cloud"), house.clock.clone(), &Counted::default()).unwrap();
    let key = published(signer.public()).unwrap();
    house.mesh.publish_all(vec![(serde_json::to_value(&key.jwk).unwrap(), key.owner)]);
    Arc::new(signer)
}

/// The call that a request causes.
fn outgoing() -> Request<Body> {
    Request::post(LIST_KEYS).header("content-type", "application/grpc").body(Body::empty()).unwrap()
}

/// A request of Ada, whose answer is due in `time`.
fn incoming(house: &House, time: Duration) -> Request<Body> {
    let mut request = with(request(GET_USER), "authorization", &format!("Bearer {}", house.token()));
    request.extensions_mut().insert(Deadline(Instant::now() + time));
    request
}

/// Lets a request cause a call by `peer`, and gives what the call said.
async fn cause(house: &House, peer: &Peer, incoming: Request<Body>) -> Result<Response<Body>, Status> {
    let (sender, mut answers) = tokio::sync::mpsc::unbounded_channel();
    let peer = peer.clone();
    let stub = Stub::new(move |_| {
        let (peer, sender) = (peer.clone(), sender.clone());
        async move {
            sender.send(peer.oneshot(outgoing()).await).unwrap();
            answered()
        }
    });
    assert_eq!(code(&send(house.identify(), &stub, incoming).await), None);
    answers.recv().await.unwrap()
}

/// The value of a header of the call that came last.
fn carried(upstream: &Stub, name: &str) -> Option<String> {
    let call = upstream.last();
    let mut values = call.headers().get_all(name).iter();
    let first = values.next().map(|value| value.to_str().unwrap().to_owned());
    assert_eq!(values.next(), None, "{name} is there twice");
    first
}

/// What the call says it may take.
fn carried_timeout(upstream: &Stub) -> Duration {
    let timeout = carried(upstream, "grpc-timeout").unwrap();
    Duration::from_millis(timeout.strip_suffix('m').unwrap().parse().unwrap())
}

#[tokio::test]
async fn a_call_takes_along_all_that_its_request_has() {
    let (house, upstream) = (House::new(), Stub::ok());
    let served = Served::start(&upstream).await;
    let peer = Peer::new("admin", &served.url, signer(&house)).unwrap();
    let incoming = incoming(&house, TIME);
    let trace = incoming.extensions().get::<TraceContext>().unwrap().header();
    let response = cause(&house, &peer, incoming).await.unwrap();
    assert_eq!(body(response).await, "answer");

    assert_eq!(upstream.last().uri().path(), LIST_KEYS);
    let authorization = carried(&upstream, "authorization").unwrap();
    let token = authorization.strip_prefix("Bearer ").unwrap();
    let Verified::Service(caller) = house.verifier.verify(token).await.unwrap() else { panic!("a user") };
    assert_eq!(*caller, service("cloud"));
    assert_eq!(carried(&upstream, "x-kombify-user-token"), Some(house.token()));
    assert_eq!(carried(&upstream, "x-request-id").as_deref(), Some(REQUEST_ID));
    assert_eq!(carried(&upstream, "traceparent"), Some(trace));
    assert_eq!(carried(&upstream, "x-forwarded-for").as_deref(), Some(ADDRESS));
    assert!(carried(&upstream, "user-agent").unwrap().starts_with(USER_AGENT));
    let timeout = carried_timeout(&upstream);
    assert!(timeout < TIME && timeout > TIME / 2, "{timeout:?}");
}

#[tokio::test]
async fn a_call_that_no_request_causes_is_the_modules_own() {
    let (house, upstream) = (House::new(), Stub::ok());
    let served = Served::start(&upstream).await;
    let peer = Peer::new("admin", &served.url, signer(&house)).unwrap();
    peer.oneshot(outgoing()).await.unwrap();

    assert!(carried(&upstream, "authorization").is_some());
    for name in ["x-kombify-user-token", "x-request-id", "traceparent", "x-forwarded-for"] {
        assert_eq!(carried(&upstream, name), None, "{name}");
    }
    assert!(carried_timeout(&upstream) < Duration::from_secs(10));
}

#[tokio::test]
async fn a_module_that_calls_for_itself_sends_no_users_token() {
    let (house, upstream) = (House::new(), Stub::ok());
    let served = Served::start(&upstream).await;
    let peer = Peer::new("admin", &served.url, signer(&house)).unwrap();
    let mut unsigned = request(GET_USER);
    unsigned.extensions_mut().remove::<ClientAddress>();
    cause(&house, &peer, unsigned).await.unwrap();
    assert_eq!(carried(&upstream, "x-kombify-user-token"), None);
    assert_eq!(carried(&upstream, "x-forwarded-for"), None);
    assert_eq!(carried(&upstream, "x-request-id").as_deref(), Some(REQUEST_ID));
}

#[tokio::test]
async fn an_anonymous_client_shows_no_credential_at_all() {
    let (house, upstream) = (House::new(), Stub::ok());
    let served = Served::start(&upstream).await;
    let peer = Peer::anonymous(&served.url).unwrap();
    cause(&house, &peer, incoming(&house, TIME)).await.unwrap();
    assert_eq!(carried(&upstream, "authorization"), None);
    assert_eq!(carried(&upstream, "x-kombify-user-token"), None);
    assert_eq!(carried(&upstream, "x-request-id").as_deref(), Some(REQUEST_ID));
}

#[tokio::test]
async fn each_request_takes_along_its_own_even_at_the_same_time() {
    let house = House::new();
    let upstream = Stub::new(|request| async move {
        let mut response = answered();
        response.headers_mut().insert("x-heard", request.headers()["x-request-id"].clone());
        response
    });
    let served = Served::start(&upstream).await;
    let peer = Peer::new("admin", &served.url, signer(&house)).unwrap();
    let calls = (0..20).map(|number| {
        let (house, peer) = (&house, &peer);
        async move {
            let mut incoming = incoming(house, TIME);
            let id: RequestId = format!("r{number}").parse().unwrap();
            incoming.extensions_mut().insert(id.clone());
            let response = cause(house, peer, incoming).await.unwrap();
            assert_eq!(response.headers()["x-heard"], id.as_str());
        }
    });
    futures_util::future::join_all(calls).await;
}

#[tokio::test]
async fn no_call_is_made_when_the_time_is_up() {
    let (house, upstream) = (House::new(), Stub::ok());
    let served = Served::start(&upstream).await;
    let peer = Peer::new("admin", &served.url, signer(&house)).unwrap();
    for time in [Duration::ZERO, Duration::from_millis(10)] {
        let status = cause(&house, &peer, incoming(&house, time)).await.unwrap_err();
        assert_eq!(to_fault(&status).code(), Code::DeadlineExceeded, "{time:?}");
    }
    assert_eq!(upstream.reached(), 0);
}

#[tokio::test]
async fn a_module_that_is_too_slow_is_a_deadline_that_passed() {
    let (house, upstream) = (House::new(), Stub::silent());
    let served = Served::start(&upstream).await;
    let peer = Peer::new("admin", &served.url, signer(&house)).unwrap();
    let begun = Instant::now();
    let status = cause(&house, &peer, incoming(&house, Duration::from_millis(300))).await.unwrap_err();
    assert_eq!(to_fault(&status).code(), Code::DeadlineExceeded, "{status:?}");
    assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn a_module_that_is_away_is_unavailable_and_its_address_stays_inside() {
    let deaf = TcpSocket::new_v4().unwrap(); // It has the port, and does not listen.
    deaf.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = deaf.local_addr().unwrap();
    let house = House::new();
    let peer = Peer::new("admin", &format!("http://{address}"), signer(&house)).unwrap();
    let status = KeyServiceClient::new(peer).list_keys(ListKeysRequest {}).await.unwrap_err();
    assert_eq!(status.code(), tonic::Code::Unavailable);
    let fault = to_fault(&status);
    assert_eq!(fault.code(), Code::ServiceUnavailable);
    assert!(fault.retry_after().is_some());
    for told in [status.message().to_owned(), fault.to_string(), format!("{:?}", fault.details())] {
        assert!(!told.contains("127.0.0.1") && !told.contains(&address.port().to_string()), "{told}");
    }
}

#[tokio::test]
async fn a_module_that_comes_back_is_called_again() {
    let (house, upstream) = (House::new(), Stub::ok());
    let first = Served::start(&upstream).await;
    let peer = Peer::new("admin", &first.url, signer(&house)).unwrap();
    peer.clone().oneshot(outgoing()).await.unwrap();
    let address = first.address;
    first.cancel.cancel();
    first.ended().await;
    assert!(peer.clone().oneshot(outgoing()).await.is_err());

    let again = Served::start_with(&upstream, ServerConfig::default(), address).await;
    peer.clone().oneshot(outgoing()).await.unwrap();
    assert_eq!(upstream.reached(), 2);
    drop(again);
}

#[tokio::test]
async fn a_url_that_is_none_is_refused() {
    for url in ["", "not a url"] {
        assert_eq!(Peer::anonymous(url).err().unwrap().code(), Code::ValidationFailed, "{url:?}");
    }
}
