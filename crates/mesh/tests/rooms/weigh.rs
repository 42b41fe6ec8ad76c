//! The room with the scales.

use std::io;

use bytes::Bytes;
use futures_util::stream;
use http::Request;
use http_body::Frame;
use http_body_util::{Full, StreamBody};
use kombify_core::Code;
use kombify_mesh::limits::Weigh;
use tonic::body::Body;

use crate::support::{GET_USER, HEALTH, Stub, code, fault, request, send, with};

const MAX: usize = 16;

const WEIGH: Weigh = Weigh { max_bytes: MAX };

/// The same request with a body that declares its length.
fn whole(request: Request<Body>, bytes: usize) -> Request<Body> {
    let body = Body::new(Full::new(Bytes::from(vec![7_u8; bytes])));
    with(request.map(|_| body), "content-length", &bytes.to_string())
}

/// The same request with a body that comes in these parts.
fn streamed(request: Request<Body>, parts: Vec<io::Result<usize>>) -> Request<Body> {
    let frames = parts.into_iter().map(|part| part.map(|bytes| Frame::data(Bytes::from(vec![7_u8; bytes]))));
    request.map(|_| Body::new(StreamBody::new(stream::iter(frames.collect::<Vec<_>>()))))
}

#[tokio::test]
async fn a_message_over_the_bound_does_not_get_through() {
    let stub = Stub::ok();
    for too_large in [
        whole(request(GET_USER), MAX + 1),
        streamed(request(GET_USER), vec![Ok(10), Ok(7)]),
        streamed(request(GET_USER), vec![Ok(MAX + 1)]),
        streamed(with(request(GET_USER), "content-length", "1"), vec![Ok(10), Ok(7)]),
        streamed(with(request(GET_USER), "content-length", "99999999999"), vec![]),
    ] {
        let response = send(WEIGH, &stub, too_large).await;
        let fault = fault(&response);
        assert_eq!(fault.code, Code::PayloadTooLarge);
        assert_eq!(fault.details.pairs["limitBytes"], MAX.to_string());
    }
    assert_eq!(stub.reached(), 0);
}

#[tokio::test]
async fn a_message_of_exactly_the_bound_passes_whole() {
    let stub = Stub::ok();
    for fits in [
        whole(request(GET_USER), MAX),
        streamed(request(GET_USER), vec![Ok(10), Ok(6)]),
        streamed(request(GET_USER), vec![Ok(0), Ok(MAX), Ok(0)]),
    ] {
        assert_eq!(code(&send(WEIGH, &stub, fits).await), None);
        assert_eq!(*stub.last().body(), vec![7_u8; MAX]);
    }
    assert_eq!(code(&send(WEIGH, &stub, request(GET_USER)).await), None);
    assert!(stub.last().body().is_empty());
}

#[tokio::test]
async fn a_message_that_breaks_off_is_a_caller_who_went_away() {
    let stub = Stub::ok();
    let broken = streamed(request(GET_USER), vec![Ok(3), Err(io::ErrorKind::ConnectionReset.into())]);
    let response = send(WEIGH, &stub, broken).await;
    assert_eq!((code(&response), stub.reached()), (Some(Code::Cancelled), 0));
}

#[tokio::test]
async fn methods_of_others_are_not_weighed() {
    let stub = Stub::ok();
    assert_eq!(code(&send(WEIGH, &stub, whole(request(HEALTH), MAX + 1)).await), None);
    assert_eq!(stub.last().body().len(), MAX + 1);
}
