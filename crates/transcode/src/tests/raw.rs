//! Answers that are bytes as they are.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use kombify_contracts::google::api::HttpBody;
use kombify_core::error::Envelope;
use serde_json::json;
use tonic_types::{ErrorDetails, StatusExt as _};

use super::*;

const DATA: &[u8] = b"\x1f\x8b\0\xff{}";

fn read() -> Request<Body> {
    request("GET", "/v1/raw/a", &[], "")
}

/// A gRPC answer of [`DATA`] as that type, with those headers.
fn bytes(content_type: &str, headers: &[(&'static str, &'static str)]) -> Response<Body> {
    let message = HttpBody { content_type: content_type.to_owned(), data: Bytes::from_static(DATA) };
    let mut answer = grpc(frame(&message.encode_to_vec()), &[("grpc-status", "0")]);
    for &(name, value) in headers {
        answer.headers_mut().append(name, HeaderValue::from_static(value));
    }
    answer
}

/// Every header of the answer.
fn shown(outcome: &Outcome) -> BTreeMap<&str, &str> {
    outcome.answer.headers().keys().map(|name| (name.as_str(), outcome.header(name.as_str()))).collect()
}

#[tokio::test]
async fn bytes_leave_as_they_are_with_all_that_is_said_of_them() {
    let outcome = send(read(), || bytes("application/gzip", &[])).await;
    assert_eq!(outcome.answer.status(), StatusCode::OK);
    assert_eq!(&outcome.answer.body()[..], DATA);
    let plain = BTreeMap::from([("cache-control", "no-store"), ("content-type", "application/gzip")]);
    assert_eq!(shown(&outcome), plain);

    let outcome = send(read(), || {
        let said = [
            ("x-kombify-http-status", "206"),
            ("etag", "\"v1\""),
            ("repr-digest", "sha-256=:AAAA:"),
            ("accept-ranges", "bytes"),
            ("content-range", "bytes 2-7/9"),
            ("content-disposition", "attachment; filename=\"kit.tar.gz\""),
            ("cache-control", "private, no-cache"),
            ("x-ratelimit-limit", "100"),
            ("content-encoding", "br"),
            ("content-length", "3"),
        ];
        bytes("application/gzip", &said)
    })
    .await;
    assert_eq!(outcome.answer.status(), StatusCode::PARTIAL_CONTENT);
    assert_eq!(&outcome.answer.body()[..], DATA);
    let expected = BTreeMap::from([
        ("accept-ranges", "bytes"),
        ("cache-control", "private, no-cache"),
        ("content-disposition", "attachment; filename=\"kit.tar.gz\""),
        ("content-range", "bytes 2-7/9"),
        ("content-type", "application/gzip"),
        ("etag", "\"v1\""),
        ("repr-digest", "sha-256=:AAAA:"),
        ("x-ratelimit-limit", "100"),
    ]);
    assert_eq!(shown(&outcome), expected);
    assert_eq!(outcome.answer.extensions().get::<RpcPath>().unwrap().0, "/fixture.Fixture/Raw");
}

#[tokio::test]
async fn how_long_the_bytes_are_is_known_before_they_leave() {
    let router = Router::new(methods()).unwrap();
    let Found::Method(binding, _) = router.find("GET", "/v1/raw/a") else { panic!("no method") };
    let asked = Asked::new(&HeaderMap::new(), Arc::new(Noon));
    let answer = answer::to_http(bytes("text/csv", &[]), binding, 1024, &asked).await;
    assert_eq!(http_body::Body::size_hint(answer.body()).exact(), u64::try_from(DATA.len()).ok());
}

#[tokio::test]
async fn bytes_of_no_type_that_a_header_can_say_are_just_bytes() {
    let cases: [fn() -> Response<Body>; 2] = [|| bytes("", &[]), || bytes("text/plain\r\nx: y", &[])];
    for answer in cases {
        let outcome = send(read(), answer).await;
        assert_eq!(outcome.header("content-type"), "application/octet-stream");
        assert_eq!(&outcome.answer.body()[..], DATA);
    }
}

#[tokio::test]
async fn what_is_there_already_has_no_body_and_no_type() {
    let outcome =
        send(read(), || bytes("application/gzip", &[("x-kombify-http-status", "304"), ("etag", "\"v1\"")]))
            .await;
    assert_eq!(outcome.answer.status(), StatusCode::NOT_MODIFIED);
    assert!(outcome.answer.body().is_empty());
    assert_eq!(shown(&outcome), BTreeMap::from([("cache-control", "no-store"), ("etag", "\"v1\"")]));
}

#[tokio::test]
async fn a_status_that_does_not_go_with_bytes_counts_for_nothing_and_never_leaves() {
    let cases: [fn() -> Response<Body>; 6] = [
        || bytes("text/csv", &[("x-kombify-http-status", "200")]),
        || bytes("text/csv", &[("x-kombify-http-status", "204")]),
        || bytes("text/csv", &[("x-kombify-http-status", "404")]),
        || bytes("text/csv", &[("x-kombify-http-status", "500")]),
        || bytes("text/csv", &[("x-kombify-http-status", " 206")]),
        || bytes("text/csv", &[("x-kombify-http-status", "")]),
    ];
    for answer in cases {
        let outcome = send(read(), answer).await;
        assert_eq!((outcome.answer.status(), outcome.header("content-type")), (StatusCode::OK, "text/csv"));
        assert_eq!(&outcome.answer.body()[..], DATA);
        assert!(!outcome.answer.headers().contains_key("x-kombify-http-status"));
    }
}

#[tokio::test]
async fn json_has_no_status_but_its_own() {
    let outcome = send(request("POST", "/v1/tenants", &[JSON], "{}"), || {
        let mut answer = tenant();
        answer.headers_mut().insert("x-kombify-http-status", HeaderValue::from_static("304"));
        answer
    })
    .await;
    assert_eq!(outcome.answer.status(), StatusCode::OK);
    assert_eq!(outcome.json()["data"]["slug"], json!("home"));
    assert!(!outcome.answer.headers().contains_key("x-kombify-http-status"));
}

#[tokio::test]
async fn a_failure_is_an_envelope_whatever_the_method_answers_else() {
    let outcome = send(read(), || {
        let mut status = tonic::Status::not_found("kit a not found");
        status.metadata_mut().insert("x-kombify-http-status", "304".parse().unwrap());
        status.into_http()
    })
    .await;
    assert_eq!((outcome.answer.status(), outcome.code().as_str()), (StatusCode::NOT_FOUND, "NOT_FOUND"));
    assert!(!outcome.answer.headers().contains_key("x-kombify-http-status"));

    let outcome = send(read(), || grpc(frame(&[0xff]), &[("grpc-status", "0")])).await;
    assert_eq!(outcome.code(), "INTERNAL_ERROR");
    let options = Options { max_answer_bytes: 8, ..Options::default() };
    assert_eq!(send_with(options, read(), || bytes("text/csv", &[])).await.code(), "INTERNAL_ERROR");
}

#[tokio::test]
async fn a_range_that_lies_outside_says_how_long_the_thing_is() {
    // By what the status says itself, and by an envelope that a service of ours has written already.
    let cases: [fn() -> Response<Body>; 2] = [
        || {
            let length = [("lengthBytes".to_owned(), "7".to_owned())];
            let details = ErrorDetails::with_error_info("RANGE_NOT_SATISFIABLE", "kombify.io", length);
            tonic::Status::with_error_details(tonic::Code::OutOfRange, "outside", details).into_http()
        },
        || {
            let fault = Error::RangeNotSatisfiable { length_bytes: 7 };
            let envelope = serde_json::to_vec(&Envelope::of(&fault, "req-inside", Noon.now())).unwrap();
            let mut status = tonic::Status::out_of_range("outside");
            let ready = URL_SAFE_NO_PAD.encode(envelope);
            status.metadata_mut().insert("x-kombify-error", ready.parse().unwrap());
            status.metadata_mut().insert("content-range", "bytes */7".parse().unwrap());
            status.into_http()
        },
    ];
    for answer in cases {
        let outcome = send(read(), answer).await;
        assert_eq!(
            (outcome.answer.status().as_u16(), outcome.code().as_str()),
            (416, "RANGE_NOT_SATISFIABLE")
        );
        assert_eq!(outcome.json()["error"]["details"], json!({"lengthBytes": "7"}));
        assert_eq!(outcome.header("content-range"), "bytes */7");
        assert_eq!(outcome.answer.headers().get_all("content-range").iter().count(), 1);
    }
}

#[tokio::test]
async fn what_is_there_and_which_part_is_wanted_is_asked_only_where_bytes_are_read() {
    let conditions = [("if-none-match", "\"v1\""), ("if-range", "\"v1\""), ("range", "bytes=0-1")];
    for (verb, path, asked) in
        [("GET", "/v1/raw/a", true), ("POST", "/v1/raw/a:render", false), ("GET", "/v1/tenants", false)]
    {
        let outcome = send(request(verb, path, &conditions, ""), nothing).await;
        let [call] = outcome.calls.as_slice() else { panic!("{} calls", outcome.calls.len()) };
        for (name, value) in conditions {
            let expected = asked.then_some(value.as_bytes());
            let found = call.headers().get(name).map(HeaderValue::as_bytes);
            assert_eq!(found, expected, "{verb} {path} {name}");
        }
    }
}
