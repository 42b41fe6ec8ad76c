//! The room that tells of the request: one line and two metrics, and no secret in either.

use std::cell::RefCell;
use std::io;
use std::sync::Once;

use http::{Request, Response};
use kombify_core::Error;
use kombify_core::wire::RpcPath;
use kombify_mesh::edge::{LoggedCaller, Tell};
use kombify_mesh::status::refuse;
use metrics_exporter_prometheus::PrometheusBuilder;
use serde_json::Value;
use tonic::body::Body;

use crate::support::{GET_USER, REQUEST_ID, Stub, answered, body, code, header, request, send, with};

thread_local! {
    /// What this thread's test has logged: the subscriber is the process's, so that no test takes another's away.
    static LOGGED: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Where the log goes.
struct Lines;

impl io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        LOGGED.with_borrow_mut(|logged| logged.extend_from_slice(bytes));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What the rooms within leave on every answer.
fn mark(mut response: Response<Body>) -> Response<Body> {
    response.extensions_mut().insert(RpcPath(GET_USER));
    response.extensions_mut().insert(LoggedCaller("ada".to_owned()));
    response
}

/// Sends `request`, and gives the log beside the answer.
async fn logged(stub: &Stub, request: Request<Body>) -> (Response<Body>, Vec<Value>) {
    static SUBSCRIBER: Once = Once::new();
    SUBSCRIBER.call_once(|| tracing_subscriber::fmt().json().with_writer(|| Lines).init());
    LOGGED.take();
    let response = send(Tell { service: "test" }, stub, request).await;
    let text = String::from_utf8(LOGGED.take()).unwrap();
    assert!(!text.contains("a-secret-token"), "{text}");
    (response, text.lines().map(|line| serde_json::from_str(line).unwrap()).collect())
}

#[tokio::test]
async fn one_request_is_one_line_that_says_who_what_and_how_it_ended() {
    let good = Stub::new(|_| async { mark(answered()) });
    let bad = Stub::new(|_| async { mark(refuse(&Error::AuthRequired)) });
    for (stub, status) in [(good, "0"), (bad, "16")] {
        let (_, lines) =
            logged(&stub, with(request(GET_USER), "authorization", "Bearer a-secret-token")).await;
        let [line] = lines.as_slice() else { panic!("{lines:?}") };
        let (field, span) =
            (|name: &str| line["fields"][name].as_str(), |name: &str| line["span"][name].as_str());
        assert_eq!((field("message"), field("method")), (Some("request"), Some("POST")));
        assert_eq!((field("path"), field("rpc")), (Some(GET_USER), Some(GET_USER)));
        assert_eq!((field("status"), field("userId")), (Some(status), Some("ada")));
        assert_eq!((span("requestId"), span("service")), (Some(REQUEST_ID), Some("test")));
        assert_eq!(span("traceId").map(str::len), Some(32), "{line}");
        assert!(line["fields"]["durationMs"].as_f64().is_some_and(|millis| millis >= 0.0), "{line}");
    }
}

#[tokio::test]
async fn what_is_not_grpc_is_told_by_its_http_status_and_without_its_query() {
    let stub = Stub::new(|_| async { Response::builder().status(404).body(Body::empty()).unwrap() });
    let request = Request::get("/somewhere?code=a-secret-token").body(Body::empty()).unwrap();
    let (_, lines) = logged(&stub, request).await;
    let field = |name: &str| lines[0]["fields"][name].as_str();
    assert_eq!((field("path"), field("status")), (Some("/somewhere"), Some("404")));
    assert_eq!((field("rpc"), field("userId")), (Some(""), Some("")));
}

#[tokio::test]
async fn an_answer_passes_untouched() {
    let stub = Stub::new(|_| async { mark(answered()) });
    let response = send(Tell { service: "test" }, &stub, request(GET_USER)).await;
    assert_eq!((code(&response), header(&response, "content-type")), (None, Some("application/grpc")));
    assert_eq!(response.extensions().get::<RpcPath>(), Some(&RpcPath(GET_USER)));
    assert_eq!(body(response).await, "answer");
}

#[tokio::test]
async fn metrics_count_by_method_and_status_and_never_by_a_path_that_a_client_chose() {
    let recorder = PrometheusBuilder::new().build_recorder();
    let _counting = metrics::set_default_local_recorder(&recorder);
    let good = Stub::new(|_| async { mark(answered()) });
    for _ in 0..3 {
        send(Tell { service: "test" }, &good, request(GET_USER)).await;
    }
    let bad = Stub::refusing(|| Error::NotImplemented("that".to_owned()));
    send(Tell { service: "test" }, &bad, request("/chosen/by-a-client")).await;

    let text = recorder.handle().render();
    let count = |method: &str, status: &str| {
        let labels =
            [format!("method=\"{method}\""), format!("status=\"{status}\""), "service=\"test\"".to_owned()];
        let is_it = |line: &&str| {
            line.starts_with("kombify_requests_total{")
                && labels.iter().all(|label| line.contains(label.as_str()))
        };
        text.lines().find(is_it).and_then(|line| line.rsplit(' ').next()).map(ToOwned::to_owned)
    };
    assert_eq!(count(GET_USER, "0").as_deref(), Some("3"), "{text}");
    assert_eq!(count("other", "12").as_deref(), Some("1"), "{text}");
    assert!(text.contains("kombify_request_duration_seconds"), "{text}");
    assert!(!text.contains("chosen"), "{text}");
}
