//! The one way out: a fault becomes a gRPC status, and every failed answer is completed with its request.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response};
use kombify_core::error::{DOMAIN, Details, Envelope, Remote};
use kombify_core::{Clock, Code, Error, RequestId, wire};
use tonic::Status;
use tonic::body::Body;
use tonic_types::{ErrorDetails, StatusExt as _};

use crate::room::{Inner, Room, forward};

/// The status of a fault. This is where an internal fault is logged, once.
pub fn from_fault(fault: &Error) -> Status {
    if let Error::Internal(cause) = fault {
        tracing::error!(%cause, "request failed");
    }
    let code = fault.code();
    let Details { fields, mut pairs } = fault.details();
    let (fields, left_out) = within_bounds(fields);
    if left_out > 0 {
        pairs.insert("fieldsLeftOut".to_owned(), left_out.to_string());
    }
    let mut details =
        ErrorDetails::with_error_info(code.as_str(), DOMAIN, pairs.into_iter().collect::<HashMap<_, _>>());
    for (path, message) in fields {
        details.add_bad_request_violation(path, message);
    }
    if let Some(delay) = fault.retry_after() {
        details.set_retry_info(Some(delay));
    }
    Status::with_error_details(tonic::Code::from_i32(code.grpc()), fault.to_string(), details)
}

/// How many wrong fields an answer names. Source: the contracts, "Answers".
const FIELDS_MAX: usize = 64;

/// How many bytes they have together: what stands in headers is bounded by every peer, 16 KiB in all by most.
const FIELDS_MAX_BYTES: usize = 6 * 1024;

/// As many wrong fields as an answer can name, and how many more there are.
fn within_bounds(fields: BTreeMap<String, String>) -> (BTreeMap<String, String>, usize) {
    let count = fields.len();
    let mut left = FIELDS_MAX_BYTES;
    let named: BTreeMap<_, _> = fields
        .into_iter()
        .take(FIELDS_MAX)
        .take_while(|(path, message)| {
            let bytes = path.len() + message.len() + 8;
            let fits = bytes <= left;
            left = left.saturating_sub(bytes);
            fits
        })
        .collect();
    let left_out = count - named.len();
    (named, left_out)
}

/// What another module answered, as a fault to hand on. What its transport says stays inside.
pub fn to_fault(status: &Status) -> Error {
    let remote = read(status);
    match remote.code {
        Code::InternalError => Error::internal(format!("the called module failed: {}", status.message())),
        Code::DeadlineExceeded => Error::DeadlineExceeded,
        Code::Cancelled => Error::Cancelled,
        Code::ServiceUnavailable if status.details().is_empty() => {
            tracing::warn!(cause = %status.message(), "a module is away");
            Error::unavailable("a module that the answer needs is away", Duration::from_secs(5))
        }
        Code::AuthRequired
        | Code::AuthInvalid
        | Code::AuthInsufficient
        | Code::QuotaExceeded
        | Code::TenantSuspended
        | Code::NotFound
        | Code::ValidationFailed
        | Code::MethodNotAllowed
        | Code::Conflict
        | Code::PreconditionFailed
        | Code::PayloadTooLarge
        | Code::UnsupportedMediaType
        | Code::RangeNotSatisfiable
        | Code::RateLimited
        | Code::NotImplemented
        | Code::ServiceUnavailable => Error::Remote(Box::new(remote)),
    }
}

/// What a failed status says, by its `ErrorInfo` where it has one of ours, else by its gRPC code.
pub fn read(status: &Status) -> Remote {
    let details = status.get_error_details();
    let info = details.error_info().filter(|info| info.domain == DOMAIN);
    let code = info
        .and_then(|info| Code::parse(&info.reason))
        .unwrap_or_else(|| Code::from_grpc(i32::from(status.code())));
    let fields = details
        .bad_request()
        .map(|bad| {
            bad.field_violations
                .iter()
                .map(|field| (field.field.clone(), field.description.clone()))
                .collect()
        })
        .unwrap_or_default();
    let pairs: BTreeMap<_, _> =
        info.map(|info| info.metadata.clone().into_iter().collect()).unwrap_or_default();
    let message = match (info, code) {
        (None, Code::InternalError) => "internal error".to_owned(),
        // A transport's words: addresses, causes.
        (None, Code::ServiceUnavailable) => "a module that the answer needs is away".to_owned(),
        (None, Code::NotImplemented) if status.message().is_empty() => {
            "the method is not served here".to_owned()
        }
        _ => status.message().to_owned(),
    };
    let retry_after = details.retry_info().and_then(|retry| retry.retry_delay);
    Remote { code, message, details: Details { fields, pairs }, retry_after }
}

/// Turns a fault into the status of a service method.
pub trait OrStatus<T> {
    /// The value, or the status of the fault.
    ///
    /// # Errors
    /// - the fault, as [`from_fault`] says it.
    fn or_status(self) -> Result<T, Status>;
}

impl<T> OrStatus<T> for kombify_core::Result<T> {
    fn or_status(self) -> Result<T, Status> {
        self.map_err(|fault| from_fault(&fault))
    }
}

/// The gRPC answer of a fault, for rooms.
pub fn refuse(fault: &Error) -> Response<Body> {
    from_fault(fault).into_http()
}

/// The status of a failed answer: what its headers say, where it is a trailers-only one.
pub fn failed(response: &Response<Body>) -> Option<Status> {
    Status::from_header_map(response.headers()).filter(|status| status.code() != tonic::Code::Ok)
}

/// The room that completes every failed answer: with the request's id, the time, the ready envelope, and the headers
/// that go with the code.
#[derive(Clone)]
pub struct Complete {
    clock: Arc<dyn Clock>,
}

impl Complete {
    /// The room, on the clock of the process.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock }
    }

    fn complete(&self, request_id: &str, status: &Status, mut headers: HeaderMap) -> Response<Body> {
        let fault = Error::Remote(Box::new(read(status)));
        if fault.code() == Code::InternalError && status.get_details_error_info().is_none() {
            tracing::error!(cause = %status.message(), "request failed");
        }
        let completed = from_fault(&fault);
        let mut details = completed.get_error_details();
        details.set_request_info(request_id, "");
        let completed = Status::with_error_details(completed.code(), completed.message(), details);
        let envelope = Envelope::of(&fault, request_id, self.clock.now());
        let mut response: Response<Body> = completed.into_http();
        for name in
            ["grpc-status", "grpc-message", "grpc-status-details-bin", "content-type", "content-length"]
        {
            headers.remove(name);
        }
        for (name, value) in extra_headers(&fault, &envelope) {
            headers.insert(name, value);
        }
        response.headers_mut().extend(headers);
        response
    }
}

fn extra_headers(fault: &Error, envelope: &Envelope) -> Vec<(HeaderName, HeaderValue)> {
    let mut headers = Vec::new();
    let mut add = |name: &'static str, value: String| {
        if let Ok(value) = HeaderValue::try_from(value) {
            headers.push((HeaderName::from_static(name), value));
        }
    };
    if let Ok(json) = serde_json::to_vec(envelope) {
        let text = URL_SAFE_NO_PAD.encode(json);
        if text.len() <= wire::ERROR_MAX_BYTES {
            add(wire::ERROR, text);
        }
    }
    if let Some(delay) = fault.retry_after() {
        add("retry-after", seconds_up(delay).to_string());
    }
    if let Some(range) = envelope.content_range() {
        add("content-range", range);
    }
    let pairs = &envelope.error.details.pairs;
    if fault.code() == Code::QuotaExceeded
        && let (Some(limit), Some(used)) = (pairs.get("limit"), pairs.get("used"))
    {
        let remaining = limit.parse::<u32>().unwrap_or(0).saturating_sub(used.parse().unwrap_or(0));
        add("x-quota-limit", limit.clone());
        add("x-quota-used", used.clone());
        add("x-quota-remaining", remaining.to_string());
    }
    headers
}

/// Whole seconds, rounded up, at least one: what `Retry-After` takes.
pub fn seconds_up(delay: Duration) -> u64 {
    (delay.as_secs() + u64::from(delay.subsec_nanos() > 0)).max(1)
}

impl Room for Complete {
    async fn pass(&self, request: Request<Body>, inner: impl Inner) -> Response<Body> {
        let id = request.extensions().get::<RequestId>().cloned();
        let response = forward(inner, request).await;
        match failed(&response) {
            None => response,
            Some(status) => {
                let (parts, _) = response.into_parts();
                let mut completed =
                    self.complete(id.as_ref().map_or("", RequestId::as_str), &status, parts.headers);
                *completed.extensions_mut() = parts.extensions;
                completed
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_survives_the_wire() {
        let fault = Error::QuotaExceeded { resource: "stacks", limit: 2, used: 2 };
        let status = from_fault(&fault);
        assert_eq!(status.code(), tonic::Code::ResourceExhausted);
        let back = to_fault(&status);
        assert_eq!(back.code(), Code::QuotaExceeded);
        assert_eq!(back.details(), fault.details());
        assert_eq!(back.to_string(), fault.to_string());

        let fault = Error::unavailable("no place", Duration::from_secs(30));
        assert_eq!(to_fault(&from_fault(&fault)).retry_after(), Some(Duration::from_secs(30)));
        for fault in
            [Error::invalid("update.theme", "must be light"), Error::RangeNotSatisfiable { length_bytes: 7 }]
        {
            let back = to_fault(&from_fault(&fault));
            assert_eq!((back.code(), back.details()), (fault.code(), fault.details()));
        }
    }

    #[test]
    fn what_a_transport_says_stays_inside() {
        let fault = to_fault(&Status::unavailable("tcp connect error: 10.0.0.7:8090"));
        assert_eq!(fault.code(), Code::ServiceUnavailable);
        assert!(!fault.to_string().contains("10.0.0.7"));
        let fault = to_fault(&Status::internal("h2 protocol error"));
        assert_eq!(fault.to_string(), "internal error");
    }
}
