//! The rooms that bound a request: panics, how many at once, how long, how large.

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use http::header::CONTENT_LENGTH;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use kombify_core::Error;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout_at};
use tonic::body::Body;
use tower_http::timeout::TimeoutBody;

use crate::context::Deadline;
use crate::room::{Inner, Room, forward};
use crate::status::refuse;

/// The room that outlives a panic: the caller gets `INTERNAL_ERROR`, the others go on.
#[derive(Clone, Copy, Debug)]
pub struct CatchPanic;

impl Room for CatchPanic {
    async fn pass(&self, request: Request<Body>, inner: impl Inner) -> Response<Body> {
        let served = std::panic::AssertUnwindSafe(forward(inner, request)).catch_unwind().await;
        served.unwrap_or_else(|_| {
            metrics::counter!("kombify_panics_total").increment(1);
            refuse(&Error::internal("a panic; its message is above"))
        })
    }
}

/// The room that sheds load: over so many requests at once, the next is told to come back.
#[derive(Clone, Debug)]
pub struct Shed {
    places: Arc<Semaphore>,
}

impl Shed {
    /// A room for so many requests at once.
    pub fn new(at_once: usize) -> Self {
        Self { places: Arc::new(Semaphore::new(at_once)) }
    }
}

impl Room for Shed {
    async fn pass(&self, request: Request<Body>, inner: impl Inner) -> Response<Body> {
        let Ok(_place) = self.places.try_acquire() else {
            metrics::counter!("kombify_shed_total").increment(1);
            return refuse(&Error::unavailable("the service is busy", Duration::from_secs(1)));
        };
        forward(inner, request).await
    }
}

/// The room with the clock: an answer that is not there in time is `DEADLINE_EXCEEDED`. It takes the caller's
/// `grpc-timeout`, up to a bound.
#[derive(Clone, Copy, Debug)]
pub struct Due {
    /// Where the caller says nothing.
    pub default: Duration,
    /// Whatever the caller says.
    pub longest: Duration,
    /// How long a stream may be silent.
    pub idle: Duration,
}

impl Room for Due {
    async fn pass(&self, mut request: Request<Body>, inner: impl Inner) -> Response<Body> {
        let header = request.headers().get("grpc-timeout");
        let wanted = match header.map(|value| value.to_str().ok().and_then(parse_timeout)) {
            None => self.default,
            Some(Some(wanted)) => wanted.min(self.longest),
            Some(None) => {
                return refuse(&Error::invalid(
                    "grpc-timeout",
                    "must be at most 8 digits and one of H, M, S, m, u, n",
                ));
            }
        };
        let due = Instant::now() + wanted;
        request.extensions_mut().insert(Deadline(due));
        // Every method of ours takes one message and gives one; what others stream is bounded by its silence.
        let streams = kombify_contracts::method(request.uri().path()).is_none();
        let response = timeout_at(due, forward(inner, request)).await;
        let response = response.unwrap_or_else(|_| refuse(&Error::DeadlineExceeded));
        if streams { response.map(|body| Body::new(TimeoutBody::new(self.idle, body))) } else { response }
    }
}

/// Reads a `grpc-timeout`. Source: "gRPC over HTTP2", Timeout.
fn parse_timeout(text: &str) -> Option<Duration> {
    let unit = text.chars().last().filter(char::is_ascii)?;
    let digits = &text[..text.len() - 1];
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let number: u64 = digits.parse().ok()?;
    match unit {
        'H' => Some(Duration::from_secs(number * 3600)),
        'M' => Some(Duration::from_secs(number * 60)),
        'S' => Some(Duration::from_secs(number)),
        'm' => Some(Duration::from_millis(number)),
        'u' => Some(Duration::from_micros(number)),
        'n' => Some(Duration::from_nanos(number)),
        _ => None,
    }
}

/// The room with the scales: a request message over the bound is `PAYLOAD_TOO_LARGE`. Every method of ours takes one
/// message; methods of others (health, reflection) may stream, and are bounded by their codec.
#[derive(Clone, Copy, Debug)]
pub struct Weigh {
    /// How large a request may be.
    pub max_bytes: usize,
}

impl Room for Weigh {
    async fn pass(&self, request: Request<Body>, inner: impl Inner) -> Response<Body> {
        if kombify_contracts::method(request.uri().path()).is_none() {
            return forward(inner, request).await;
        }
        let too_large = || refuse(&Error::PayloadTooLarge { limit_bytes: self.max_bytes });
        let declared =
            request.headers().get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
        if declared.is_some_and(|length: usize| length > self.max_bytes) {
            return too_large();
        }
        let (parts, body) = request.into_parts();
        match Limited::new(body, self.max_bytes).collect().await {
            Ok(collected) => forward(inner, Request::from_parts(parts, Body::new(collected))).await,
            Err(cause) if cause.is::<LengthLimitError>() => too_large(),
            Err(_) => refuse(&Error::Cancelled),
        }
    }
}

/// The room that opens the envelope: a call of ours is one whole message, and what is not is the caller's fault, not
/// ours. Behind [`Weigh`], which has it whole.
#[derive(Clone, Copy, Debug)]
pub struct OneMessage;

impl Room for OneMessage {
    async fn pass(&self, request: Request<Body>, inner: impl Inner) -> Response<Body> {
        if kombify_contracts::method(request.uri().path()).is_none() {
            return forward(inner, request).await;
        }
        let (parts, body) = request.into_parts();
        match body.collect().await.map(http_body_util::Collected::to_bytes) {
            Ok(body) if is_one_message(&body) => {
                forward(inner, Request::from_parts(parts, Body::new(Full::new(body)))).await
            }
            Ok(_) => refuse(&Error::invalid("", "the body must be one whole gRPC message, not compressed")),
            Err(_) => refuse(&Error::Cancelled),
        }
    }
}

/// Whether a body is the frame of one message: a byte that says whether it is compressed, four of its length, itself.
/// Source: "gRPC over HTTP2", Length-Prefixed-Message.
fn is_one_message(body: &[u8]) -> bool {
    body.split_first_chunk::<5>().is_some_and(|(head, message)| {
        let [compressed, length @ ..] = *head;
        compressed == 0 && u32::from_be_bytes(length) as usize == message.len()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_has_one_whole_message() {
        for right in [&b"\0\0\0\0\0"[..], b"\0\0\0\0\x02ab"] {
            assert!(is_one_message(right), "{right:?}");
        }
        for wrong in [
            &b""[..],
            b"\0",
            b"\0\0\0\0\x02a",
            b"\0\0\0\0\x01ab",
            b"\x01\0\0\0\x01a",
            b"\0\xff\xff\xff\xff",
            b"garbage",
        ] {
            assert!(!is_one_message(wrong), "{wrong:?}");
        }
    }

    #[test]
    fn a_timeout_is_read_as_grpc_writes_it() {
        for (text, expected) in [
            ("1H", Some(Duration::from_hours(1))),
            ("2M", Some(Duration::from_mins(2))),
            ("3S", Some(Duration::from_secs(3))),
            ("40m", Some(Duration::from_millis(40))),
            ("5u", Some(Duration::from_micros(5))),
            ("6n", Some(Duration::from_nanos(6))),
            ("99999999H", Some(Duration::from_hours(99_999_999))),
            ("123456789S", None),
            ("S", None),
            ("", None),
            ("-1S", None),
            ("1s", None),
            ("1é", None),
        ] {
            assert_eq!(parse_timeout(text), expected, "{text:?}");
        }
    }
}
