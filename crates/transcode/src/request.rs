//! An HTTP request to the one frame of a unary gRPC call.

use bytes::{BufMut as _, Bytes, BytesMut};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, Version, header};
use http_body::Body as _;
use http_body_util::BodyExt as _;
use kombify_core::{Error, Result};
use prost::Message as _;
use prost_reflect::DynamicMessage;
use tonic::body::Body;

use crate::Options;
use crate::binding::{Binding, BodyRule};
use crate::faults::{Faults, JsonPath};
use crate::json;
use crate::raw::CONDITIONS;
use crate::{field, json_in, query};

/// The frame of a message in which nothing is set.
pub(crate) const EMPTY_FRAME: [u8; FRAME_HEAD_BYTES] = [0; FRAME_HEAD_BYTES];

/// What stands before a message in gRPC: a flag (0: not compressed) and the length in 32 bits.
pub(crate) const FRAME_HEAD_BYTES: usize = 5;

/// Headers of the HTTP request that would say something wrong about the gRPC call.
const DROPPED: [&str; 16] = [
    "accept-encoding",
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "expect",
    "grpc-accept-encoding",
    "grpc-encoding",
    "http2-settings",
    "if-match",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// Reads the frame that a request stands for; `values` are those of the path's variables.
pub(crate) async fn read(
    parts: &Parts,
    body: Body,
    binding: &Binding,
    values: &[String],
    options: &Options,
) -> Result<Bytes> {
    let body = receive(&parts.headers, body, binding, options).await?;
    let message = message(parts, &body, binding, values)?;
    let length = message.encoded_len();
    let mut frame = BytesMut::with_capacity(FRAME_HEAD_BYTES + length);
    frame.put_u8(0);
    frame.put_u32(u32::try_from(length).map_err(Error::internal)?);
    message.encode(&mut frame).map_err(Error::internal)?;
    Ok(frame.freeze())
}

/// Makes the head of the HTTP request that of the gRPC call.
pub(crate) fn make_grpc(parts: &mut Parts, binding: &Binding) {
    // Bytes that are read have parts, and may be there already; everything else would have to pass over the question.
    let conditional = binding.raw && parts.method == Method::GET;
    parts.method = Method::POST;
    parts.uri = binding.uri.clone();
    parts.version = Version::HTTP_2;
    for name in DROPPED.into_iter().chain(CONDITIONS.into_iter().filter(|_| !conditional)) {
        parts.headers.remove(name);
    }
    parts.headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    parts.headers.insert(header::TE, HeaderValue::from_static("trailers"));
}

/// The body, as far as it may be there; empty where there is none.
async fn receive(headers: &HeaderMap, body: Body, binding: &Binding, options: &Options) -> Result<Bytes> {
    if body.is_end_stream() {
        return Ok(Bytes::new());
    }
    let wanted = binding.body != BodyRule::Nothing;
    let typed = headers.contains_key(header::CONTENT_TYPE) || headers.contains_key(header::CONTENT_ENCODING);
    if wanted && typed && declared_bytes(headers) != Some(0) {
        check_media_type(headers)?;
    }
    let limit_bytes = options.max_body_bytes;
    if declared_bytes(headers).is_some_and(|declared| declared > limit_bytes) {
        return Err(Error::PayloadTooLarge { limit_bytes });
    }
    let bytes = tokio::time::timeout(options.body_timeout, drain(body, limit_bytes))
        .await
        .map_err(|_| Error::DeadlineExceeded)??;
    if wanted && !bytes.is_empty() {
        check_media_type(headers)?;
    }
    Ok(bytes)
}

fn declared_bytes(headers: &HeaderMap) -> Option<usize> {
    let text = headers.get(header::CONTENT_LENGTH)?.to_str().ok()?;
    // What is no number that fits is larger than every limit; a server that counts has refused it before.
    Some(text.parse().unwrap_or(usize::MAX))
}

async fn drain(mut body: Body, limit_bytes: usize) -> Result<Bytes> {
    let mut bytes = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|cause| {
            tracing::debug!(%cause, "request body ended early");
            Error::Cancelled
        })?;
        let Ok(data) = frame.into_data() else { continue };
        if bytes.len() + data.len() > limit_bytes {
            return Err(Error::PayloadTooLarge { limit_bytes });
        }
        bytes.extend_from_slice(&data);
    }
    Ok(bytes.freeze())
}

/// Refuses every body but `application/json`, in UTF-8 and not compressed.
fn check_media_type(headers: &HeaderMap) -> Result<()> {
    let mut types = headers.get_all(header::CONTENT_TYPE).iter();
    let (first, second) = (types.next(), types.next());
    let is_json = second.is_none() && first.and_then(|value| value.to_str().ok()).is_some_and(is_json);
    let plain = headers
        .get_all(header::CONTENT_ENCODING)
        .iter()
        .all(|coding| coding.as_bytes().trim_ascii().eq_ignore_ascii_case(b"identity"));
    if is_json && plain { Ok(()) } else { Err(Error::UnsupportedMediaType { wanted: "application/json" }) }
}

fn is_json(media_type: &str) -> bool {
    let mut parts = media_type.split(';').map(str::trim);
    parts.next().is_some_and(|name| name.eq_ignore_ascii_case("application/json"))
        && parts.filter(|parameter| !parameter.is_empty()).all(|parameter| {
            parameter.split_once('=').is_some_and(|(name, value)| {
                name.trim().eq_ignore_ascii_case("charset")
                    && value.trim().trim_matches('"').eq_ignore_ascii_case("utf-8")
            })
        })
}

fn message(parts: &Parts, body: &[u8], binding: &Binding, values: &[String]) -> Result<DynamicMessage> {
    let mut message = field::empty(&binding.input);
    let mut faults = Faults::default();
    let mut path = JsonPath::default();
    let mut whole = None;
    match &binding.body {
        BodyRule::Nothing if is_blank(body) => {}
        BodyRule::Nothing => faults.add("body", "must be empty: this method takes none"),
        BodyRule::Whole | BodyRule::Field(_) if body.is_empty() => {}
        BodyRule::Whole => {
            let json = json::parse(body)?;
            json_in::fill(&mut message, &json, &mut path, &mut faults);
            whole = Some(json);
        }
        BodyRule::Field(of) => {
            let json = json::parse(body)?;
            path.enter_field(of.json_name());
            if let Some(inner) = message.get_field_mut(of).as_message_mut() {
                json_in::fill(inner, &json, &mut path, &mut faults);
            }
        }
    }
    query::path(&mut message, binding, values, whole.as_ref(), &mut faults);
    query::query(&mut message, binding, parts.uri.query().unwrap_or_default(), &mut faults);
    query::if_match(&mut message, binding, &parts.headers, &mut faults);
    faults.into_result()?;
    Ok(message)
}

/// Whether a body says nothing: no bytes, white space, or an empty object.
fn is_blank(body: &[u8]) -> bool {
    let body = body.trim_ascii();
    let inside = body.strip_prefix(b"{").and_then(|rest| rest.strip_suffix(b"}"));
    body.is_empty() || inside.is_some_and(|inside| inside.trim_ascii().is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_media_type_is_json_in_utf_8_and_not_compressed() {
        for (media_type, coding, fits) in [
            (Some("application/json"), None, true),
            (Some("Application/JSON"), None, true),
            (Some("application/json; charset=utf-8"), None, true),
            (Some("application/json;CHARSET=\"UTF-8\";"), None, true),
            (Some("application/json"), Some("identity"), true),
            (None, None, false),
            (Some(""), None, false),
            (Some("text/json"), None, false),
            (Some("application/json2"), None, false),
            (Some("application/merge-patch+json"), None, false),
            (Some("application/json; charset=latin1"), None, false),
            (Some("application/json; v=1"), None, false),
            (Some("application/json"), Some("gzip"), false),
        ] {
            let mut headers = HeaderMap::new();
            let fields = [(header::CONTENT_TYPE, media_type), (header::CONTENT_ENCODING, coding)];
            for (name, value) in fields {
                headers.extend(value.map(|value| (name, HeaderValue::from_static(value))));
            }
            assert_eq!(check_media_type(&headers).is_ok(), fits, "{media_type:?} {coding:?}");
        }
        let twice = HeaderValue::from_static("application/json");
        let mut headers = HeaderMap::new();
        headers.append(header::CONTENT_TYPE, twice.clone());
        headers.append(header::CONTENT_TYPE, twice);
        assert!(check_media_type(&headers).is_err());
    }

    #[test]
    fn a_body_without_a_field_is_blank() {
        for (body, blank) in [
            ("", true),
            (" \n", true),
            ("{}", true),
            (" { } ", true),
            ("null", false),
            ("{\"a\":1}", false),
            ("{", false),
        ] {
            assert_eq!(is_blank(body.as_bytes()), blank, "{body}");
        }
    }
}
