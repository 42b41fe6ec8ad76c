//! The room that names the request: its id, its trace, the caller's address.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use axum::extract::ConnectInfo;
use http::{HeaderValue, Request};
use kombify_core::{Error, RequestId};
use kombify_mesh::edge::{ClientAddress, Name};
use kombify_mesh::trace::TraceContext;
use tonic::body::Body;

use crate::support::{Counted, GET_USER, Manual, Stub, header, send, with};

/// Two proxies of ours.
const PROXIES: [&str; 2] = ["10.0.0.1", "10.0.0.2"];

fn name() -> Name {
    let trusted: Vec<IpAddr> = PROXIES.iter().map(|proxy| proxy.parse().unwrap()).collect();
    Name { clock: Manual::new(), ids: Arc::new(Counted::default()), trusted_proxies: trusted.into() }
}

/// A request as it comes from the socket.
fn bare() -> Request<Body> {
    Request::post(GET_USER).body(Body::empty()).unwrap()
}

/// The id that the request has behind the room: as header and as extension.
fn id(stub: &Stub) -> String {
    let inner = stub.last();
    let id = inner.extensions().get::<RequestId>().unwrap().to_string();
    assert_eq!(inner.headers().get_all("x-request-id").iter().collect::<Vec<_>>(), [id.as_str()]);
    id
}

#[tokio::test]
async fn a_well_formed_id_is_kept_and_given_back() {
    let stub = Stub::ok();
    for given in ["a", "A.b_9-", &"x".repeat(128)] {
        let response = send(name(), &stub, with(bare(), "x-request-id", given)).await;
        assert_eq!(id(&stub), given);
        assert_eq!(header(&response, "x-request-id"), Some(given));
    }
}

#[tokio::test]
async fn an_id_that_is_missing_or_malformed_is_made() {
    let (stub, name) = (Stub::ok(), name());
    let mut made = Vec::new();
    for given in [None, Some(""), Some("a b"), Some("a/b"), Some("caf\u{e9}"), Some(&*"x".repeat(129))] {
        let request = given.map_or_else(bare, |given| with(bare(), "x-request-id", given));
        let response = send(name.clone(), &stub, request).await;
        let id = id(&stub);
        assert!(id.starts_with("req_") && id.parse::<RequestId>().is_ok(), "{id}");
        assert_eq!(header(&response, "x-request-id"), Some(id.as_str()));
        assert!(!made.contains(&id), "{id} is made twice");
        made.push(id);
    }
}

#[tokio::test]
async fn a_failed_answer_has_the_id_too_whatever_the_service_said() {
    let stub = Stub::refusing(|| Error::AuthRequired);
    let response = send(name(), &stub, with(bare(), "x-request-id", "mine")).await;
    assert_eq!(header(&response, "x-request-id"), Some("mine"));

    let stub = Stub::new(|_| async {
        let mut response = crate::support::answered();
        response.headers_mut().insert("x-request-id", HeaderValue::from_static("theirs"));
        response
    });
    let response = send(name(), &stub, with(bare(), "x-request-id", "mine")).await;
    assert_eq!(header(&response, "x-request-id"), Some("mine"));
}

#[tokio::test]
async fn a_trace_goes_on_and_a_missing_one_begins() {
    let stub = Stub::ok();
    let trace = |stub: &Stub| stub.last().extensions().get::<TraceContext>().unwrap().clone();
    let given = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    send(name(), &stub, with(bare(), "traceparent", given)).await;
    assert_eq!(trace(&stub).trace_id(), "4bf92f3577b34da6a3ce929d0e0e4736");
    assert_ne!(trace(&stub).header(), given, "the span is our own");
    assert!(trace(&stub).header().ends_with("-01"), "it is still sampled");

    for broken in [None, Some("00-4bf92f3577b34da6a3ce929d0e0e4736")] {
        let request = broken.map_or_else(bare, |broken| with(bare(), "traceparent", broken));
        send(name(), &stub, request).await;
        assert_eq!(trace(&stub).trace_id().len(), 32);
        assert_ne!(trace(&stub).trace_id(), "4bf92f3577b34da6a3ce929d0e0e4736");
    }
}

#[tokio::test]
async fn a_forwarded_address_is_believed_only_from_our_own_proxies() {
    let stub = Stub::ok();
    for (peer, forwarded, address) in [
        ("203.0.113.7", None, "203.0.113.7"),
        ("203.0.113.7", Some("198.51.100.1"), "203.0.113.7"),
        ("203.0.113.7", Some("10.0.0.1"), "203.0.113.7"),
        ("10.0.0.1", Some("198.51.100.1"), "198.51.100.1"),
        ("10.0.0.1", Some("6.6.6.6, 198.51.100.1"), "198.51.100.1"),
        ("10.0.0.1", Some("6.6.6.6, 198.51.100.1, 10.0.0.2"), "198.51.100.1"),
        ("10.0.0.1", Some("2001:db8::7"), "2001:db8::7"),
        ("10.0.0.1", Some("not an address"), "10.0.0.1"),
        ("10.0.0.1", None, "10.0.0.1"),
        ("::ffff:10.0.0.1", Some("198.51.100.1"), "198.51.100.1"),
        ("::ffff:203.0.113.7", Some("198.51.100.1"), "203.0.113.7"),
    ] {
        let mut request = bare();
        request.extensions_mut().insert(ConnectInfo(SocketAddr::new(peer.parse().unwrap(), 40_000)));
        let request = match forwarded {
            Some(forwarded) => with(request, "x-forwarded-for", forwarded),
            None => request,
        };
        send(name(), &stub, request).await;
        let found = stub.last().extensions().get::<ClientAddress>().unwrap().0.clone();
        assert_eq!(found, address, "{peer} forwards {forwarded:?}");
    }
    send(name(), &stub, with(bare(), "x-forwarded-for", "198.51.100.1")).await;
    assert_eq!(stub.last().extensions().get::<ClientAddress>().unwrap().0, "");
}

#[tokio::test]
async fn proxies_that_speak_in_several_headers_are_read_in_their_order() {
    let stub = Stub::ok();
    let mut request = bare();
    request.extensions_mut().insert(ConnectInfo::<SocketAddr>("10.0.0.1:40000".parse().unwrap()));
    let request = with(with(request, "x-forwarded-for", "6.6.6.6"), "x-forwarded-for", "198.51.100.1");
    send(name(), &stub, request).await;
    assert_eq!(stub.last().extensions().get::<ClientAddress>().unwrap().0, "198.51.100.1");
}
