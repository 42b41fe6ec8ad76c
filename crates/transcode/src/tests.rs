//! The layer as a whole, around a service that records what reaches it.

use std::collections::BTreeMap;
use std::sync::{LazyLock, Mutex};

use http::{HeaderValue, StatusCode, Version};
use http_body_util::BodyExt as _;
use kombify_contracts::kombify::tenancy::v1::CreateTenantRequest;
use kombify_contracts::kombify::users::v1::UpdateUserRequest;
use kombify_core::wire::{Malformed, RpcPath};
use prost::Message as _;
use serde_json::json;
use tower::ServiceExt as _;

use super::*;

mod answers;
mod raw;

struct Noon;

impl Clock for Noon {
    fn now(&self) -> jiff::Timestamp {
        "2026-01-31T12:00:00.5Z".parse().unwrap()
    }
}

/// What came of one request: the answer, and the calls that reached the inner service.
struct Outcome {
    answer: Response<Bytes>,
    calls: Vec<Request<Bytes>>,
}

impl Outcome {
    fn json(&self) -> serde_json::Value {
        assert_eq!(self.answer.headers()["content-type"], "application/json");
        serde_json::from_slice(self.answer.body()).unwrap()
    }

    fn code(&self) -> String {
        self.json()["error"]["code"].as_str().unwrap().to_owned()
    }

    fn header(&self, name: &str) -> &str {
        self.answer.headers().get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// The fault that the one call brought in place of a message.
    fn malformed(&self) -> Option<Arc<Error>> {
        let [call] = self.calls.as_slice() else { panic!("{} calls", self.calls.len()) };
        let malformed = call.extensions().get::<Malformed>()?;
        assert_eq!(&call.body()[..], [0; 5]);
        Some(Arc::clone(&malformed.0))
    }
}

/// What is served: the methods of the contracts, and one that answers bytes, as a read and as a verb.
fn methods() -> impl Iterator<Item = &'static Method> {
    static RAW: LazyLock<[&'static Method; 2]> = LazyLock::new(|| {
        [("GET", "/v1/raw/{text}"), ("POST", "/v1/raw/{text}:render")]
            .map(|(verb, template)| fixture::exposed("Raw", verb, template, None))
    });
    kombify_contracts::methods().iter().chain(RAW.iter().copied())
}

async fn send_with(options: Options, request: Request<Body>, answer: fn() -> Response<Body>) -> Outcome {
    let calls = Arc::new(Mutex::new(Vec::new()));
    let recorder = Arc::clone(&calls);
    let inner = tower::service_fn(move |request: Request<Body>| {
        let calls = Arc::clone(&recorder);
        async move {
            let (parts, body) = request.into_parts();
            let body = body.collect().await.unwrap().to_bytes();
            calls.lock().unwrap().push(Request::from_parts(parts, body));
            Ok::<_, Infallible>(answer())
        }
    });
    let layer = TranscodeLayer::new(methods(), options, Arc::new(Noon)).unwrap();
    let (parts, body) = layer.layer(inner).oneshot(request).await.unwrap().into_parts();
    let answer = Response::from_parts(parts, body.collect().await.unwrap().to_bytes());
    let calls = std::mem::take(&mut *calls.lock().unwrap());
    Outcome { answer, calls }
}

async fn send(request: Request<Body>, answer: fn() -> Response<Body>) -> Outcome {
    send_with(Options::default(), request, answer).await
}

fn request(verb: &str, uri: &str, headers: &[(&str, &str)], body: &'static str) -> Request<Body> {
    let mut builder = Request::builder().method(verb).uri(uri).header("x-request-id", "req-1");
    for (name, value) in headers {
        builder = builder.header(*name, *value);
    }
    builder.body(Body::new(Full::new(Bytes::from_static(body.as_bytes())))).unwrap()
}

const JSON: (&str, &str) = ("content-type", "application/json");

/// A gRPC answer of that data and those trailers.
fn grpc(data: Vec<u8>, trailers: &[(&'static str, &str)]) -> Response<Body> {
    let trailers: HeaderMap = trailers
        .iter()
        .map(|(name, value)| (http::HeaderName::from_static(name), HeaderValue::from_str(value).unwrap()))
        .collect();
    let trailers = std::future::ready(Some(Ok::<_, Infallible>(trailers)));
    let mut answer = Response::new(Body::new(Full::new(Bytes::from(data)).with_trailers(trailers)));
    answer.headers_mut().insert("content-type", HeaderValue::from_static("application/grpc"));
    answer
}

fn frame(message: &[u8]) -> Vec<u8> {
    let mut frame = vec![0];
    frame.extend(u32::try_from(message.len()).unwrap().to_be_bytes());
    frame.extend(message);
    frame
}

fn tenant() -> Response<Body> {
    let json = r#"{"data": {"id": "tenant_1", "slug": "home", "limits": {"members": -1}, "etag": "7"}}"#;
    let of = fixture::contract("kombify.tenancy.v1.CreateTenantResponse");
    let message = from_json(&of, json.as_bytes()).unwrap();
    let mut answer = grpc(frame(&message.encode_to_vec()), &[("grpc-status", "0")]);
    for (name, value) in [
        ("x-ratelimit-limit", "100"),
        ("set-cookie", "a=1"),
        ("date", "today"),
        ("grpc-encoding", "identity"),
        ("grpc-accept-encoding", "gzip"),
    ] {
        answer.headers_mut().append(name, HeaderValue::from_static(value));
    }
    answer.headers_mut().append("set-cookie", HeaderValue::from_static("b=2"));
    answer
}

fn nothing() -> Response<Body> {
    grpc(frame(b""), &[("grpc-status", "0")])
}

#[tokio::test]
async fn a_request_becomes_a_call_and_its_answer_json() {
    let headers = [
        ("content-type", "application/json; charset=utf-8"),
        ("authorization", "Bearer t"),
        ("host", "localhost:8090"),
        ("accept-encoding", "gzip"),
        ("connection", "keep-alive"),
        ("grpc-encoding", "gzip"),
        ("idempotency-key", "k"),
        ("if-none-match", "\"v1\""),
        ("if-range", "\"v1\""),
        ("range", "bytes=0-1"),
    ];
    let body = r#"{"slug": "home", "name": "Home \u00e9"}"#;
    let mut create = request("POST", "/v1/tenants", &headers, body);
    create.extensions_mut().insert(7_u8);
    let outcome = send(create, tenant).await;

    assert!(outcome.malformed().is_none());
    let call = &outcome.calls[0];
    assert_eq!((call.method().as_str(), call.version()), ("POST", Version::HTTP_2));
    assert_eq!(call.uri(), "/kombify.tenancy.v1.TenantService/CreateTenant");
    assert_eq!(call.extensions().get::<u8>(), Some(&7));
    let kept: BTreeMap<_, _> =
        call.headers().iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap())).collect();
    let expected = BTreeMap::from([
        ("authorization", "Bearer t"),
        ("content-type", "application/grpc"),
        ("host", "localhost:8090"),
        ("idempotency-key", "k"),
        ("te", "trailers"),
        ("x-request-id", "req-1"),
    ]);
    assert_eq!(kept, expected);
    let message = CreateTenantRequest { slug: "home".into(), name: "Home é".into(), region: String::new() };
    assert_eq!(&call.body()[..], frame(&message.encode_to_vec()));

    assert_eq!(outcome.answer.status(), StatusCode::OK);
    assert_eq!(outcome.json()["data"]["limits"]["members"], json!(-1));
    assert_eq!(outcome.json()["data"]["name"], json!(""));
    let names: Vec<_> = outcome.answer.headers().keys().map(http::HeaderName::as_str).collect();
    let shown: BTreeMap<_, _> = names.into_iter().map(|name| (name, outcome.header(name))).collect();
    assert_eq!(
        shown,
        BTreeMap::from([
            ("cache-control", "no-store"),
            ("content-type", "application/json"),
            ("etag", "\"7\""),
            ("set-cookie", "a=1"),
            ("x-ratelimit-limit", "100"),
        ])
    );
    assert_eq!(outcome.answer.headers().get_all("set-cookie").iter().count(), 2);
    let path = outcome.answer.extensions().get::<RpcPath>().unwrap().0;
    assert_eq!(path, "/kombify.tenancy.v1.TenantService/CreateTenant");
}

#[tokio::test]
async fn path_body_and_if_match_fill_one_message() {
    let update = request(
        "PATCH",
        "/api/internal/users/user%3A1",
        &[JSON, ("if-match", "\"v1\"")],
        r#"{"displayName": "", "preferences": {"theme": "dark"}}"#,
    );
    let outcome = send(update, nothing).await;
    assert!(outcome.malformed().is_none());
    let message = UpdateUserRequest::decode(&outcome.calls[0].body()[5..]).unwrap();
    assert_eq!((message.sub.as_str(), message.etag.as_str()), ("user:1", "v1"));
    let update = message.update.unwrap();
    assert_eq!((update.display_name.as_deref(), update.avatar_url), (Some(""), None));
    assert_eq!(update.preferences.unwrap().theme.as_deref(), Some("dark"));
    assert!(!outcome.calls[0].headers().contains_key("if-match"));

    for (body, set) in [("", false), ("{}", true)] {
        let outcome = send(request("PATCH", "/api/internal/users/u", &[JSON], body), nothing).await;
        let message = UpdateUserRequest::decode(&outcome.calls[0].body()[5..]).unwrap();
        assert_eq!(message.update.is_some(), set, "{body}");
    }
}

#[tokio::test]
async fn what_is_grpc_passes_through_untouched() {
    let path = "/kombify.tenancy.v1.TenantService/CreateTenant";
    for kind in ["application/grpc", "Application/gRPC+proto", "application/grpc-web"] {
        let outcome =
            send(request("POST", path, &[("content-type", kind), ("te", "x")], "abc"), nothing).await;
        let [call] = outcome.calls.as_slice() else { panic!("{kind}") };
        assert_eq!((call.uri().path(), call.headers()["te"].as_bytes()), (path, &b"x"[..]));
        assert_eq!(&call.body()[..], b"abc");
        assert_eq!(&outcome.answer.body()[..], [0; 5]);
    }
}

#[tokio::test]
async fn unknown_paths_and_verbs_end_here() {
    for (verb, path, status, allow) in [
        ("GET", "/v1/nothing", 404, ""),
        ("GET", "/v1/tenants/", 404, ""),
        ("POST", "/kombify.tenancy.v1.TenantService/CreateTenant", 404, ""),
        ("DELETE", "/v1/tenants", 405, "GET, POST"),
        ("HEAD", "/v1/tenants", 405, "GET, POST"),
        ("OPTIONS", "/v1/users/me", 405, "GET, PATCH"),
    ] {
        let outcome = send(request(verb, path, &[], ""), nothing).await;
        assert!(outcome.calls.is_empty());
        assert_eq!(outcome.answer.status().as_u16(), status, "{verb} {path}");
        assert_eq!(outcome.header("allow"), allow);
        assert_eq!(outcome.header("cache-control"), "no-store");
        assert_eq!(outcome.json()["error"]["requestId"], "req-1");
        assert_eq!(outcome.json()["error"]["timestamp"], "2026-01-31T12:00:00Z");
        assert_eq!(outcome.code(), if status == 404 { "NOT_FOUND" } else { "METHOD_NOT_ALLOWED" });
    }
}

#[tokio::test]
async fn what_cannot_become_a_message_goes_on_as_malformed() {
    let user = "/api/internal/users/u";
    let cases: &[(&str, &str, &[(&str, &str)], &'static str, &str)] = &[
        ("POST", "/v1/tenants", &[JSON], r#"{"slug": 1}"#, "slug must be a string"),
        ("POST", "/v1/tenants", &[JSON], r#"{"slug": "a", "slug": "b"}"#, "slug is given twice"),
        (
            "POST",
            "/v1/tenants",
            &[JSON],
            "{",
            "the body is not valid JSON: line 1 column 1: EOF while parsing an object",
        ),
        ("POST", "/v1/tenants", &[JSON], "[]", "the body must be a JSON object"),
        ("POST", "/v1/tenants", &[], "{}", "the body must be application/json"),
        ("POST", "/v1/tenants", &[("content-type", "text/plain")], "{}", "the body must be application/json"),
        (
            "POST",
            "/v1/tenants",
            &[JSON, ("content-encoding", "gzip")],
            "{}",
            "the body must be application/json",
        ),
        ("POST", "/v1/tenants?slug=a", &[JSON], "{}", "slug must be in the body"),
        (
            "PATCH",
            user,
            &[JSON],
            r#"{"preferences": {"Theme": "dark"}}"#,
            "update.preferences.Theme is not a field of PreferencesUpdate; did you mean `theme`?",
        ),
        ("PATCH", user, &[JSON], "null", "update must be an object"),
        ("PATCH", "/api/internal/users/u?sub=v", &[JSON], "{}", "sub contradicts the path"),
        (
            "PATCH",
            "/api/internal/users/u?etag=a",
            &[JSON, ("if-match", "b")],
            "{}",
            "etag contradicts If-Match",
        ),
        ("GET", "/api/internal/users/%ff", &[], "", "sub is not percent-encoded UTF-8"),
        ("GET", "/v1/tenants?limit=x", &[], "", "limit must be a whole number"),
        ("GET", "/v1/tenants?limit=1", &[], "x", "body must be empty: this method takes none"),
    ];
    for &(verb, uri, headers, body, expected) in cases {
        let outcome = send(request(verb, uri, headers, body), nothing).await;
        let fault = outcome.malformed().unwrap_or_else(|| panic!("{verb} {uri} {body} went through"));
        assert_eq!(fault.to_string(), expected, "{verb} {uri} {body}");
        assert_eq!(outcome.calls[0].headers()["content-type"], "application/grpc");
    }
    for (verb, uri, body) in [
        ("GET", "/v1/tenants?limit=1", " {} "),
        ("GET", "/api/internal/users/u?sub=u", ""),
        ("POST", "/v1/tenants", ""),
        ("POST", "/v1/admin/instances/i:drain", "{}"),
    ] {
        assert!(send(request(verb, uri, &[], body), nothing).await.malformed().is_none(), "{verb} {uri}");
    }
}

/// A body of unknown length that never ends.
struct Stalled;

impl http_body::Body for Stalled {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Bytes>, Infallible>>> {
        Poll::Pending
    }
}

#[tokio::test]
async fn size_and_time_of_a_body_are_bounded() {
    let options =
        Options { max_body_bytes: 16, body_timeout: Duration::from_millis(20), ..Options::default() };
    let body = r#"{"slug": "a-longer-one"}"#;
    let counted = request("POST", "/v1/tenants", &[JSON, ("content-length", "24")], body);
    let uncounted = request("POST", "/v1/tenants", &[JSON], body);
    let unwanted = request("GET", "/v1/tenants", &[], body);
    for request in [counted, uncounted, unwanted] {
        let outcome = send_with(options, request, nothing).await;
        let fault = outcome.malformed().unwrap();
        assert!(matches!(*fault, Error::PayloadTooLarge { limit_bytes: 16 }), "{fault}");
    }
    let mut declared = request("POST", "/v1/tenants", &[JSON, ("content-length", "24")], "");
    *declared.body_mut() = Body::new(Stalled);
    let outcome = send_with(options, declared, nothing).await;
    assert!(matches!(*outcome.malformed().unwrap(), Error::PayloadTooLarge { .. }));
    let mut stalled = request("POST", "/v1/tenants", &[JSON], "");
    *stalled.body_mut() = Body::new(Stalled);
    let outcome = send_with(options, stalled, nothing).await;
    assert!(matches!(*outcome.malformed().unwrap(), Error::DeadlineExceeded));
}
