//! The answer of a unary gRPC call to an HTTP answer: the message as JSON, its bytes, or the error envelope.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf as _, Bytes, BytesMut};
use http::response::Parts;
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full};
use kombify_core::error::{Details, Envelope, Remote};
use kombify_core::wire::{self, RpcPath};
use kombify_core::{Clock, Code, Error};
use prost::Message as _;
use prost_reflect::{DynamicMessage, Value};
use tonic::body::Body;
use tonic_types::{ErrorDetails, RpcStatusExt as _};

use crate::binding::Binding;
use crate::request::FRAME_HEAD_BYTES;
use crate::{is_grpc, json_out, percent, raw, scalar};

/// Headers of the gRPC answer that would say something wrong about the HTTP answer.
const DROPPED: [&str; 11] = [
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "date",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    wire::ERROR,
    wire::HTTP_STATUS,
];

/// What an error envelope says beside the fault.
pub(crate) struct Asked {
    request_id: String,
    clock: Arc<dyn Clock>,
}

impl Asked {
    /// The request with these headers.
    pub(crate) fn new(headers: &HeaderMap, clock: Arc<dyn Clock>) -> Self {
        let request_id = headers.get(wire::REQUEST_ID).and_then(|id| id.to_str().ok()).unwrap_or_default();
        Self { request_id: request_id.to_owned(), clock }
    }
}

/// Why there is no message: a fault, or an envelope that a service of ours has written already.
enum Refusal {
    Fault(Error),
    Written { code: Code, envelope: Vec<u8>, again: Again },
}

/// What the headers of a refusal say of another try.
struct Again {
    /// When.
    retry_after: Option<Duration>,
    /// Within what: the `Content-Range`.
    content_range: Option<String>,
}

/// The HTTP answer to a gRPC answer.
pub(crate) async fn to_http(
    response: Response<Body>,
    binding: &Binding,
    max_bytes: usize,
    asked: &Asked,
) -> Response<Body> {
    let (mut parts, body) = response.into_parts();
    let received = receive(&mut parts, body, max_bytes).await;
    let read = received.and_then(|data| write(data, binding, &parts.headers).map_err(Refusal::Fault));
    let mut answer = match read {
        Ok(answer) => answer,
        Err(Refusal::Fault(fault)) => {
            if let Error::Internal(cause) = &fault {
                tracing::error!(%cause, rpc.method = binding.rpc_path, "answer cannot be given over HTTP");
            }
            written(&fault, asked)
        }
        Err(Refusal::Written { code, envelope, again }) => refused(code, envelope, again),
    };
    *answer.extensions_mut() = parts.extensions;
    answer.extensions_mut().insert(RpcPath(binding.rpc_path));
    finish(answer, &parts.headers)
}

/// The HTTP answer to a request that never reaches a method.
pub(crate) fn refusal(fault: &Error, asked: &Asked) -> Response<Body> {
    let mut answer = written(fault, asked);
    if let Error::MethodNotAllowed { allow } = fault
        && let Ok(allow) = HeaderValue::from_str(&allow.join(", "))
    {
        answer.headers_mut().insert(header::ALLOW, allow);
    }
    finish(answer, &HeaderMap::new())
}

/// Adds what the gRPC answer says in its headers, and what every answer says.
fn finish(mut answer: Response<Body>, inner: &HeaderMap) -> Response<Body> {
    let mut headers = HeaderMap::new();
    for (name, value) in inner {
        if !name.as_str().starts_with("grpc-") && !DROPPED.contains(&name.as_str()) {
            headers.append(name, value.clone());
        }
    }
    let own = std::mem::take(answer.headers_mut());
    for (name, value) in &own {
        // What the service says of these itself stands.
        let may_stand = [header::CONTENT_RANGE, header::ETAG, header::RETRY_AFTER, header::WWW_AUTHENTICATE]
            .contains(name);
        if !may_stand || !headers.contains_key(name) {
            headers.insert(name, value.clone());
        }
    }
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    *answer.headers_mut() = headers;
    answer
}

/// Reads the whole body; the trailers join the headers.
async fn receive(parts: &mut Parts, mut body: Body, max_bytes: usize) -> Result<Bytes, Refusal> {
    if !is_grpc(&parts.headers) {
        return Err(ready(&parts.headers).unwrap_or_else(|| Refusal::Fault(from_http(parts.status))));
    }
    if let Some(refusal) = status(&parts.headers).and_then(Result::err) {
        return Err(refusal);
    }
    let mut data = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|status| {
            Refusal::Fault(from_grpc(i32::from(status.code()), status.message(), &unpack(status.details())))
        })?;
        match frame.into_data() {
            Ok(bytes) if data.len() + bytes.len() > max_bytes => {
                return Err(fault(format!("the answer is larger than {max_bytes} bytes")));
            }
            Ok(bytes) => data.extend_from_slice(&bytes),
            Err(frame) => {
                if let Ok(trailers) = frame.into_trailers() {
                    parts.headers.extend(trailers);
                }
            }
        }
    }
    status(&parts.headers).unwrap_or_else(|| Err(fault("the answer ended without a status")))?;
    Ok(data.freeze())
}

/// What `grpc-status` says, where it is there.
fn status(headers: &HeaderMap) -> Option<Result<(), Refusal>> {
    let status = headers.get("grpc-status")?.to_str().ok().and_then(|text| text.trim().parse::<i32>().ok());
    // 2: what is no status is UNKNOWN.
    let status = status.unwrap_or(2);
    if status == 0 {
        return Some(Ok(()));
    }
    Some(Err(ready(headers).unwrap_or_else(|| {
        let message = headers.get("grpc-message").map(HeaderValue::as_bytes).unwrap_or_default();
        let message = String::from_utf8_lossy(message);
        let message = percent::decode(&message, false).unwrap_or_else(|| message.into_owned());
        Refusal::Fault(from_grpc(status, &message, &details(headers)))
    })))
}

/// The envelope that a service of ours has put beside its status.
fn ready(headers: &HeaderMap) -> Option<Refusal> {
    let envelope = scalar::base64(headers.get(wire::ERROR)?.as_bytes())?;
    let read: Envelope = serde_json::from_slice(&envelope).ok()?;
    let code = Code::parse(&read.error.code)?;
    let retry_after = details(headers).retry_info().and_then(|info| info.retry_delay);
    let again = Again { retry_after, content_range: read.content_range() };
    Some(Refusal::Written { code, envelope, again })
}

/// The details that travel beside a status in headers or trailers.
fn details(headers: &HeaderMap) -> ErrorDetails {
    let bytes = headers.get("grpc-status-details-bin").and_then(|value| scalar::base64(value.as_bytes()));
    unpack(&bytes.unwrap_or_default())
}

/// The details that a `google.rpc.Status` holds.
fn unpack(status: &[u8]) -> ErrorDetails {
    tonic_types::Status::decode(status).unwrap_or_default().get_error_details()
}

/// The fault that a gRPC status stands for. The reason of its `ErrorInfo` decides; the number only where there is none.
fn from_grpc(status: i32, message: &str, details: &ErrorDetails) -> Error {
    let info = details.error_info();
    let reason = info.and_then(|info| Code::parse(&info.reason));
    let code = reason.unwrap_or_else(|| Code::from_grpc(status));
    // Without a reason of ours these speak of the inside: of addresses, of libraries.
    let inside = matches!(code, Code::InternalError | Code::ServiceUnavailable) && reason.is_none();
    if inside {
        tracing::warn!(
            grpc.status = status,
            cause = message,
            "a service answered with a status that is not ours"
        );
    }
    let message = if message.is_empty() || inside { words(code) } else { message.to_owned() };
    let pairs = info.into_iter().flat_map(|info| info.metadata.clone()).filter(|(key, _)| key != "fields");
    let fields = details
        .bad_request()
        .into_iter()
        .flat_map(|request| &request.field_violations)
        .map(|violation| (violation.field.clone(), violation.description.clone()));
    Error::Remote(Box::new(Remote {
        code,
        message,
        details: Details { fields: fields.collect(), pairs: pairs.collect() },
        retry_after: details.retry_info().and_then(|info| info.retry_delay),
    }))
}

/// The fault that the HTTP status of an answer that is no gRPC stands for.
fn from_http(status: StatusCode) -> Error {
    let code = match status.as_u16() {
        408 => Code::DeadlineExceeded,
        502 => Code::ServiceUnavailable,
        number => {
            let fallback =
                if status.is_client_error() { Code::ValidationFailed } else { Code::InternalError };
            Code::ALL.iter().copied().find(|code| code.http() == number).unwrap_or(fallback)
        }
    };
    tracing::warn!(http.status = status.as_u16(), "a service answered with something that is not gRPC");
    let details = Details::default();
    Error::Remote(Box::new(Remote { code, message: words(code), details, retry_after: None }))
}

/// A code in words, for an answer that brings none.
fn words(code: Code) -> String {
    code.as_str().to_ascii_lowercase().replace('_', " ")
}

fn fault(cause: impl Into<String>) -> Refusal {
    Refusal::Fault(Error::internal(cause.into()))
}

/// The message of a gRPC answer with these headers: as JSON with its etag, or the bytes that it holds.
fn write(data: Bytes, binding: &Binding, headers: &HeaderMap) -> Result<Response<Body>, Error> {
    let bytes = message(data)?;
    if binding.raw {
        return raw::answer(bytes, headers);
    }
    let message = DynamicMessage::decode(binding.output.clone(), bytes).map_err(Error::internal)?;
    let mut answer = with_json(StatusCode::OK, json_out::to_json(&message)?);
    if let Some(etag) = binding.etag.as_ref().and_then(|field| etag(&field.get(&message)?)) {
        answer.headers_mut().insert(header::ETAG, etag);
    }
    Ok(answer)
}

/// The one message of a gRPC answer, without what stands before it.
fn message(mut data: Bytes) -> Result<Bytes, Error> {
    let (head, bytes) = data
        .split_first_chunk::<FRAME_HEAD_BYTES>()
        .ok_or_else(|| Error::internal("the answer has no message"))?;
    let [flag, length @ ..] = *head;
    if flag != 0 {
        return Err(Error::internal("the answer is compressed"));
    }
    if usize::try_from(u32::from_be_bytes(length)).ok() != Some(bytes.len()) {
        return Err(Error::internal("the answer is not one message"));
    }
    data.advance(FRAME_HEAD_BYTES);
    Ok(data)
}

fn etag(value: &Value) -> Option<HeaderValue> {
    let text = value.as_str().filter(|text| !text.is_empty() && !text.contains('"'))?;
    HeaderValue::from_str(&format!("\"{text}\"")).ok()
}

fn written(fault: &Error, asked: &Asked) -> Response<Body> {
    let envelope = Envelope::of(fault, &asked.request_id, asked.clock.now());
    let again = Again { retry_after: fault.retry_after(), content_range: envelope.content_range() };
    refused(fault.code(), serde_json::to_vec(&envelope).unwrap_or_default(), again)
}

/// Whole seconds, rounded up; at least one.
fn seconds(delay: Duration) -> HeaderValue {
    let whole = delay.as_secs().saturating_add(u64::from(delay.subsec_nanos() > 0));
    HeaderValue::from(whole.max(1))
}

fn refused(code: Code, envelope: Vec<u8>, again: Again) -> Response<Body> {
    let status = StatusCode::from_u16(code.http()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut answer = with_json(status, envelope);
    if status == StatusCode::UNAUTHORIZED {
        let invalid = code == Code::AuthInvalid;
        let challenge = if invalid { "Bearer error=\"invalid_token\"" } else { "Bearer" };
        answer.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
    }
    if let Some(delay) = again.retry_after {
        answer.headers_mut().insert(header::RETRY_AFTER, seconds(delay));
    }
    if let Some(range) = again.content_range.and_then(|range| HeaderValue::try_from(range).ok()) {
        answer.headers_mut().insert(header::CONTENT_RANGE, range);
    }
    answer
}

fn with_json(status: StatusCode, json: Vec<u8>) -> Response<Body> {
    let mut answer = Response::new(Body::new(Full::new(Bytes::from(json))));
    *answer.status_mut() = status;
    answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    answer
}
