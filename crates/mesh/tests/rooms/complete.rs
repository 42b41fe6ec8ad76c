//! The room that completes failed answers.

use std::collections::BTreeMap;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::Response;
use kombify_core::error::Envelope;
use kombify_core::wire::{ERROR, ERROR_MAX_BYTES, RpcPath};
use kombify_core::{Code, Error};
use kombify_mesh::status::{Complete, failed, from_fault};
use tonic::Status;
use tonic::body::Body;
use tonic_types::StatusExt as _;

use crate::support::{
    GET_USER, Manual, REQUEST_ID, Stub, answered, body, code, fault, header, request, send,
};

fn complete() -> Complete {
    Complete::new(Manual::new())
}

/// The answer to a request that ends with `status`.
async fn completed(status: Status) -> Response<Body> {
    let stub = Stub::new(move |_| {
        let response = status.clone().into_http();
        async move { response }
    });
    send(complete(), &stub, request(GET_USER)).await
}

/// The ready envelope of an answer.
fn envelope(response: &Response<Body>) -> Envelope {
    let json = URL_SAFE_NO_PAD.decode(header(response, ERROR).unwrap()).unwrap();
    serde_json::from_slice(&json).unwrap()
}

#[tokio::test]
async fn a_fault_leaves_with_its_envelope_and_the_id_of_its_request() {
    let response = completed(from_fault(&Error::invalid("update.theme", "must be light"))).await;
    let error = envelope(&response).error;
    assert_eq!(
        (error.code.as_str(), error.message.as_str()),
        ("VALIDATION_FAILED", "update.theme must be light")
    );
    assert_eq!(
        error.details.fields,
        BTreeMap::from([("update.theme".to_owned(), "must be light".to_owned())])
    );
    assert_eq!((error.request_id.as_str(), error.timestamp.as_str()), (REQUEST_ID, "2026-01-02T03:04:05Z"));

    let status = failed(&response).unwrap();
    assert_eq!(
        (status.code(), status.message()),
        (tonic::Code::InvalidArgument, "update.theme must be light")
    );
    let details = status.get_error_details();
    assert_eq!(details.request_info().map(|info| info.request_id.as_str()), Some(REQUEST_ID));
    assert_eq!(details.error_info().map(|info| info.reason.as_str()), Some("VALIDATION_FAILED"));
    assert_eq!(details.bad_request().map(|bad| bad.field_violations[0].field.as_str()), Some("update.theme"));
    assert_eq!(header(&response, "retry-after"), None);
    assert_eq!(header(&response, "content-type"), Some("application/grpc"));
    assert_eq!(body(response).await, "");
}

#[tokio::test]
async fn what_can_be_tried_again_says_when() {
    for (fault, seconds) in [
        (Error::unavailable("no place", Duration::from_secs(30)), "30"),
        (Error::unavailable("no place", Duration::from_millis(1)), "1"),
        (Error::unavailable("no place", Duration::from_millis(1001)), "2"),
        (Error::RateLimited { limit: 10, retry_after: Duration::from_secs(7) }, "7"),
    ] {
        let response = completed(from_fault(&fault)).await;
        assert_eq!(header(&response, "retry-after"), Some(seconds), "{fault}");
        assert_eq!(crate::support::fault(&response).retry_after, fault.retry_after());
    }
}

#[tokio::test]
async fn a_range_that_lies_outside_says_how_long_the_thing_is() {
    let once = completed(from_fault(&Error::RangeNotSatisfiable { length_bytes: 7 })).await;
    // As a gateway completes what a module has completed.
    let twice = completed(failed(&once).unwrap()).await;
    for response in [once, twice] {
        assert_eq!(header(&response, "content-range"), Some("bytes */7"));
        assert_eq!(
            (code(&response), envelope(&response).http_status()),
            (Some(Code::RangeNotSatisfiable), 416)
        );
    }
    let other = completed(from_fault(&Error::PayloadTooLarge { limit_bytes: 7 })).await;
    assert_eq!(header(&other, "content-range"), None);
}

#[tokio::test]
async fn a_quota_stands_in_three_headers() {
    for (limit, used, remaining) in [(2, 2, "0"), (10, 3, "7"), (2, 5, "0")] {
        let response = completed(from_fault(&Error::QuotaExceeded { resource: "stacks", limit, used })).await;
        let quota =
            ["x-quota-limit", "x-quota-used", "x-quota-remaining"].map(|name| header(&response, name));
        assert_eq!(
            quota,
            [Some(limit.to_string().as_str()), Some(used.to_string().as_str()), Some(remaining)]
        );
        assert_eq!(envelope(&response).error.details.pairs["resource"], "stacks");
    }
    let response =
        completed(from_fault(&Error::RateLimited { limit: 2, retry_after: Duration::from_secs(1) })).await;
    assert_eq!(header(&response, "x-quota-limit"), None);
}

#[tokio::test]
async fn what_a_library_answers_becomes_an_envelope_that_says_nothing_of_the_inside() {
    let secret = "h2 error at 10.0.0.7: disk /dev/sda1";
    for (status, code, message) in [
        (Status::unimplemented(""), Code::NotImplemented, "the method is not served here"),
        (Status::internal(secret), Code::InternalError, "internal error"),
        (Status::unknown(secret), Code::InternalError, "internal error"),
        (Status::data_loss(secret), Code::InternalError, "internal error"),
        (Status::invalid_argument("no message"), Code::ValidationFailed, "no message"),
        (Status::out_of_range("too large"), Code::ValidationFailed, "too large"),
    ] {
        let response = completed(status).await;
        let error = envelope(&response).error;
        assert_eq!((error.code.as_str(), error.message.as_str()), (code.as_str(), message));
        assert_eq!(error.request_id, REQUEST_ID);
        let fault = fault(&response);
        assert_eq!((fault.code, fault.message.as_str()), (code, message));
        let status = failed(&response).unwrap();
        let told = [format!("{status:?}"), String::from_utf8_lossy(status.details()).into_owned()].concat();
        assert!(!told.contains("10.0.0.7") && !told.contains("sda1"), "{told}");
    }
}

#[tokio::test]
async fn an_internal_fault_keeps_its_cause_to_itself() {
    let response = completed(from_fault(&Error::internal("disk /dev/sda1 is on fire"))).await;
    assert_eq!(envelope(&response).error.message, "internal error");
    assert!(!format!("{:?}", failed(&response).unwrap()).contains("sda1"));
}

#[tokio::test]
async fn a_success_passes_untouched() {
    let stub = Stub::new(|_| async {
        let mut response = answered();
        response.headers_mut().insert("etag", "\"7\"".parse().unwrap());
        response.extensions_mut().insert(RpcPath(GET_USER));
        response
    });
    let response = send(complete(), &stub, request(GET_USER)).await;
    assert_eq!((code(&response), header(&response, ERROR)), (None, None));
    assert_eq!((header(&response, "etag"), response.headers().len()), (Some("\"7\""), 2));
    assert!(response.extensions().get::<RpcPath>().is_some());
    assert_eq!(body(response).await, "answer");
}

#[tokio::test]
async fn a_status_of_zero_is_a_success() {
    let stub = Stub::new(|_| async {
        let mut response = answered();
        response.headers_mut().insert("grpc-status", "0".parse().unwrap());
        response
    });
    let response = send(complete(), &stub, request(GET_USER)).await;
    assert_eq!((header(&response, ERROR), header(&response, "grpc-status")), (None, Some("0")));
}

#[tokio::test]
async fn an_answer_that_was_complete_already_has_nothing_twice() {
    let fault = || Error::RateLimited { limit: 10, retry_after: Duration::from_secs(7) };
    let once = completed(from_fault(&fault())).await;
    let (stub, before) = {
        let headers = once.headers().clone();
        let before = headers.len();
        let stub = Stub::new(move |_| {
            let mut response = Response::new(Body::empty());
            *response.headers_mut() = headers.clone();
            response.headers_mut().insert("x-ratelimit-limit", "10".parse().unwrap());
            response.extensions_mut().insert(RpcPath(GET_USER));
            async move { response }
        });
        (stub, before)
    };
    let twice = send(complete(), &stub, request(GET_USER)).await;
    assert_eq!(twice.headers().len(), before + 1, "{:?}", twice.headers());
    for name in once.headers().keys() {
        assert!(header(&twice, name.as_str()).is_some(), "{name}");
    }
    assert_eq!(header(&twice, "x-ratelimit-limit"), Some("10"), "what the rooms within said stays");
    assert!(twice.extensions().get::<RpcPath>().is_some());
    assert_eq!(envelope(&twice), envelope(&once));
}

#[tokio::test]
async fn an_envelope_that_is_too_large_for_a_header_stays_out_of_it() {
    let response = completed(from_fault(&Error::Conflict("x".repeat(ERROR_MAX_BYTES)))).await;
    assert_eq!(header(&response, ERROR), None);
    assert_eq!(code(&response), Some(Code::Conflict));
    let response = completed(from_fault(&Error::Conflict("x".repeat(ERROR_MAX_BYTES / 2)))).await;
    assert!(header(&response, ERROR).is_some_and(|text| text.len() <= ERROR_MAX_BYTES));
}

#[tokio::test]
async fn a_request_that_nobody_named_is_completed_too() {
    let stub = Stub::refusing(|| Error::AuthRequired);
    let mut request = request(GET_USER);
    request.extensions_mut().clear();
    let response = send(complete(), &stub, request).await;
    assert_eq!(envelope(&response).error.request_id, "");
}
