//! Answers that are bytes as they are, not JSON: those of methods that answer `google.api.HttpBody`.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use http_body_util::Full;
use kombify_contracts::google::api::HttpBody;
use kombify_core::{Error, Result, wire};
use prost::Message as _;
use prost_reflect::MessageDescriptor;
use tonic::body::Body;

/// What a request may say of the bytes that it asks for: which it has already, and which part it wants.
pub(crate) const CONDITIONS: [&str; 3] = ["if-none-match", "if-range", "range"];

/// Whether an answer of that type is bytes.
pub(crate) fn is_raw(message: &MessageDescriptor) -> bool {
    message.full_name() == "google.api.HttpBody"
}

/// The HTTP answer that a message stands for whose gRPC answer has these headers.
pub(crate) fn answer(message: Bytes, headers: &HeaderMap) -> Result<Response<Body>> {
    let HttpBody { content_type, data } = HttpBody::decode(message).map_err(Error::internal)?;
    let status = status(headers);
    if status == StatusCode::NOT_MODIFIED {
        return Ok(with_status(status, Body::empty()));
    }
    let mut answer = with_status(status, Body::new(Full::new(data)));
    let named = HeaderValue::try_from(content_type).ok().filter(|named| !named.is_empty());
    let content_type = named.unwrap_or(HeaderValue::from_static("application/octet-stream"));
    answer.headers_mut().insert(header::CONTENT_TYPE, content_type);
    Ok(answer)
}

/// The status that the service says: of those that go with bytes.
fn status(headers: &HeaderMap) -> StatusCode {
    match headers.get(wire::HTTP_STATUS).map(HeaderValue::as_bytes) {
        Some(b"206") => StatusCode::PARTIAL_CONTENT,
        Some(b"304") => StatusCode::NOT_MODIFIED,
        _ => StatusCode::OK,
    }
}

fn with_status(status: StatusCode, body: Body) -> Response<Body> {
    let mut answer = Response::new(body);
    *answer.status_mut() = status;
    answer
}
