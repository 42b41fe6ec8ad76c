//! What becomes of the inner service's answers.

use std::collections::HashMap;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use kombify_core::error::{Details, Envelope};
use serde_json::json;
use tonic_types::{ErrorDetails, FieldViolation, StatusExt as _};

use super::*;

fn list() -> Request<Body> {
    request("GET", "/v1/tenants", &[], "")
}

fn envelope() -> Vec<u8> {
    let fault = Error::QuotaExceeded { resource: "stacks", limit: 2, used: 2 };
    serde_json::to_vec(&Envelope::of(&fault, "req-inside", Noon.now())).unwrap()
}

#[tokio::test]
async fn an_envelope_that_is_there_is_handed_on_as_it_is() {
    let outcome = send(list(), || {
        let mut status = tonic::Status::resource_exhausted("quota");
        let value = URL_SAFE_NO_PAD.encode(envelope());
        status.metadata_mut().insert("x-kombify-error", value.parse().unwrap());
        status.metadata_mut().insert("x-quota-limit", "2".parse().unwrap());
        status.into_http()
    })
    .await;
    assert_eq!(outcome.answer.status(), StatusCode::FORBIDDEN);
    assert_eq!(&outcome.answer.body()[..], envelope());
    assert_eq!((outcome.header("x-quota-limit"), outcome.header("x-kombify-error")), ("2", ""));
    assert_eq!(outcome.header("cache-control"), "no-store");

    let outcome = send(list(), || {
        grpc(Vec::new(), &[("grpc-status", "8"), ("x-kombify-error", &URL_SAFE_NO_PAD.encode(envelope()))])
    })
    .await;
    assert_eq!(&outcome.answer.body()[..], envelope());

    let outcome = send(list(), || {
        let mut details = ErrorDetails::new();
        details.set_retry_info(Some(Duration::from_secs(7)));
        let mut status = tonic::Status::with_error_details(tonic::Code::ResourceExhausted, "quota", details);
        let value = URL_SAFE_NO_PAD.encode(envelope());
        status.metadata_mut().insert("x-kombify-error", value.parse().unwrap());
        status.into_http()
    })
    .await;
    assert_eq!((&outcome.answer.body()[..], outcome.header("retry-after")), (&*envelope(), "7"));

    let outcome =
        send(list(), || grpc(Vec::new(), &[("grpc-status", "5"), ("x-kombify-error", "e30")])).await;
    assert_eq!(outcome.code(), "NOT_FOUND");
}

#[tokio::test]
async fn a_status_becomes_an_envelope_by_its_reason_and_its_fields() {
    let outcome = send(list(), || {
        let mut details = ErrorDetails::with_error_info(
            "VALIDATION_FAILED",
            "kombify.io",
            HashMap::from([("hint".to_owned(), "h".to_owned())]),
        );
        details.set_bad_request(vec![FieldViolation::new("limit", "is too large")]);
        tonic::Status::with_error_details(tonic::Code::Unknown, "limit is too large: é%", details).into_http()
    })
    .await;
    assert_eq!(outcome.answer.status(), StatusCode::BAD_REQUEST);
    assert_eq!(
        outcome.json(),
        json!({"error": {
            "code": "VALIDATION_FAILED",
            "message": "limit is too large: é%",
            "details": {"fields": {"limit": "is too large"}, "hint": "h"},
            "requestId": "req-1",
            "timestamp": "2026-01-31T12:00:00Z",
        }})
    );

    let outcome = send(list(), || {
        let mut details = ErrorDetails::with_error_info("SERVICE_UNAVAILABLE", "kombify.io", HashMap::new());
        details.set_retry_info(Some(Duration::from_millis(1500)));
        tonic::Status::with_error_details(tonic::Code::Unavailable, "no place left", details).into_http()
    })
    .await;
    assert_eq!((outcome.answer.status().as_u16(), outcome.header("retry-after")), (503, "2"));
    assert_eq!(outcome.json()["error"]["message"], "no place left");

    let outcome =
        send(list(), || tonic::Status::unavailable("tcp connect error: 10.0.0.1").into_http()).await;
    assert_eq!(outcome.json()["error"]["message"], "service unavailable");
    let outcome = send(list(), || tonic::Status::internal("/etc/passwd").into_http()).await;
    assert_eq!(outcome.json()["error"]["message"], "internal error");
    let outcome = send(list(), || tonic::Status::unimplemented("").into_http()).await;
    assert_eq!((outcome.code().as_str(), outcome.answer.status().as_u16()), ("NOT_IMPLEMENTED", 501));
}

#[tokio::test]
async fn a_401_says_how_to_come_back() {
    let outcome = send(list(), || tonic::Status::unauthenticated("no").into_http()).await;
    assert_eq!((outcome.code().as_str(), outcome.header("www-authenticate")), ("AUTH_REQUIRED", "Bearer"));
    let outcome = send(list(), || {
        let details = ErrorDetails::with_error_info("AUTH_INVALID", "kombify.io", HashMap::new());
        tonic::Status::with_error_details(tonic::Code::Unauthenticated, "no", details).into_http()
    })
    .await;
    let challenge = "Bearer error=\"invalid_token\"";
    assert_eq!((outcome.code().as_str(), outcome.header("www-authenticate")), ("AUTH_INVALID", challenge));
}

/// A body that breaks off.
struct Broken;

impl http_body::Body for Broken {
    type Data = Bytes;
    type Error = tonic::Status;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Bytes>, tonic::Status>>> {
        Poll::Ready(Some(Err(tonic::Status::unavailable("reset by 10.0.0.1"))))
    }
}

/// A gRPC answer of that body.
fn begun(body: Body) -> Response<Body> {
    let mut answer = Response::new(body);
    answer.headers_mut().insert("content-type", HeaderValue::from_static("application/grpc"));
    answer
}

#[tokio::test]
async fn whatever_comes_from_inside_the_answer_is_an_envelope() {
    let plain = |status: u16, kind: &'static str| {
        let mut answer = Response::new(Body::new(Full::new(Bytes::from_static(b"<html>"))));
        *answer.status_mut() = StatusCode::from_u16(status).unwrap();
        answer.headers_mut().insert("content-type", HeaderValue::from_static(kind));
        answer
    };
    let cases: [(&str, fn() -> Response<Body>, &str); 11] = [
        ("no status", || grpc(frame(b""), &[]), "INTERNAL_ERROR"),
        ("no message", || grpc(Vec::new(), &[("grpc-status", "0")]), "INTERNAL_ERROR"),
        (
            "two messages",
            || grpc([frame(b""), frame(b"")].concat(), &[("grpc-status", "0")]),
            "INTERNAL_ERROR",
        ),
        ("compressed", || grpc(vec![1, 0, 0, 0, 0], &[("grpc-status", "0")]), "INTERNAL_ERROR"),
        ("no protobuf", || grpc(frame(&[0xff]), &[("grpc-status", "0")]), "INTERNAL_ERROR"),
        ("too large", || grpc(frame(&[0; 100]), &[("grpc-status", "0")]), "INTERNAL_ERROR"),
        ("no number", || grpc(Vec::new(), &[("grpc-status", "x")]), "INTERNAL_ERROR"),
        (
            "no base64",
            || grpc(Vec::new(), &[("grpc-status", "5"), ("grpc-status-details-bin", "*")]),
            "NOT_FOUND",
        ),
        ("broken off", || begun(Body::new(Broken)), "SERVICE_UNAVAILABLE"),
        ("unexpected end", || begun(Body::empty()), "INTERNAL_ERROR"),
        ("nothing at all", || Response::new(Body::empty()), "INTERNAL_ERROR"),
    ];
    for (what, answer, code) in cases {
        let options = Options { max_answer_bytes: 50, ..Options::default() };
        let outcome = send_with(options, list(), answer).await;
        assert_eq!(outcome.code(), code, "{what}");
        assert_eq!(outcome.json()["error"]["requestId"], "req-1", "{what}");
        assert!(outcome.answer.extensions().get::<RpcPath>().is_some(), "{what}");
    }
    for (status, code, http) in [
        (404, "NOT_FOUND", 404),
        (429, "RATE_LIMITED", 429),
        (502, "SERVICE_UNAVAILABLE", 503),
        (418, "VALIDATION_FAILED", 400),
        (500, "INTERNAL_ERROR", 500),
        (200, "INTERNAL_ERROR", 500),
    ] {
        let binding = Router::new(kombify_contracts::methods()).unwrap();
        let Found::Method(binding, _) = binding.find("GET", "/v1/tenants") else { panic!("no method") };
        let asked = Asked::new(&HeaderMap::new(), Arc::new(Noon));
        let answer = answer::to_http(plain(status, "text/html"), binding, 100, &asked).await;
        assert_eq!(answer.status().as_u16(), http, "{status}");
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        let envelope: Envelope = serde_json::from_slice(&body).unwrap();
        assert_eq!((envelope.error.code.as_str(), envelope.error.details), (code, Details::default()));
    }
}
