//! The outermost rooms: the request's id, and its span, log line and metrics.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use axum::extract::ConnectInfo;
use http::{HeaderMap, HeaderValue, Request, Response};
use kombify_core::wire::{REQUEST_ID, RpcPath};
use kombify_core::{Clock, Ids, RequestId};
use tonic::body::Body;
use tracing::Instrument as _;

use crate::room::{Inner, Room, forward};
use crate::trace::{TRACEPARENT, TraceContext};

/// Who is logged as the caller. A response extension, set by the identity room.
#[derive(Clone, Debug)]
pub struct LoggedCaller(pub String);

/// The caller's address, as far as it is known: the peer's, or what a configured proxy says. A request extension.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientAddress(pub String);

/// The verb that the client used: a call of JSON becomes a message, which is always posted. A request extension.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestVerb(pub http::Method);

/// The room that names the request: keeps a well-formed `X-Request-ID`, makes one where there is none, and gives it
/// back with every answer. It also settles the trace and the caller's address.
#[derive(Clone)]
pub struct Name {
    /// The process's clock.
    pub clock: Arc<dyn Clock>,
    /// The process's randomness.
    pub ids: Arc<dyn Ids>,
    /// The peers whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Arc<[std::net::IpAddr]>,
}

impl Name {
    fn address(&self, request: &Request<Body>) -> String {
        let peer =
            request.extensions().get::<ConnectInfo<SocketAddr>>().map(|info| info.0.ip().to_canonical());
        match peer {
            Some(peer) if self.trusted_proxies.contains(&peer) => {
                forwarded_for(request.headers(), &self.trusted_proxies).unwrap_or_else(|| peer.to_string())
            }
            Some(peer) => peer.to_string(),
            None => String::new(),
        }
    }
}

/// The last address of `X-Forwarded-For` that no proxy of ours has: what the outermost proxy of ours saw.
fn forwarded_for(headers: &HeaderMap, trusted: &[std::net::IpAddr]) -> Option<String> {
    let addresses: Vec<std::net::IpAddr> = headers
        .get_all("x-forwarded-for")
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(|address| address.trim().parse())
        .collect::<Result<_, _>>()
        .ok()?;
    let outside = addresses.iter().rev().find(|address| !trusted.contains(address));
    outside.or(addresses.first()).map(ToString::to_string)
}

impl Room for Name {
    async fn pass(&self, mut request: Request<Body>, inner: impl Inner) -> Response<Body> {
        let given =
            request.headers().get(REQUEST_ID).and_then(|id| id.to_str().ok()).and_then(|id| id.parse().ok());
        let id: RequestId = given.unwrap_or_else(|| self.ids.request(self.clock.now()));
        let traceparent = request.headers().get(TRACEPARENT).and_then(|header| header.to_str().ok());
        let trace = TraceContext::continue_from(traceparent, &*self.ids);
        let address = ClientAddress(self.address(&request));
        let header = HeaderValue::from_str(id.as_str()).ok();
        if let Some(header) = &header {
            request.headers_mut().insert(REQUEST_ID, header.clone());
        }
        request.extensions_mut().insert(id);
        request.extensions_mut().insert(trace);
        request.extensions_mut().insert(address);
        let verb = RequestVerb(request.method().clone());
        request.extensions_mut().insert(verb);
        let mut response = forward(inner, request).await;
        if let Some(header) = header {
            response.headers_mut().insert(REQUEST_ID, header);
        }
        response
    }
}

/// The room that tells of the request: one span, one log line, and its metrics.
#[derive(Clone, Debug)]
pub struct Tell {
    /// The module, as it stands in logs and metrics.
    pub service: &'static str,
}

impl Room for Tell {
    async fn pass(&self, request: Request<Body>, inner: impl Inner) -> Response<Body> {
        let begun = Instant::now();
        let extension = |text: Option<&str>| text.unwrap_or_default().to_owned();
        let span = tracing::info_span!(
            "request",
            service = self.service,
            requestId = extension(request.extensions().get::<RequestId>().map(RequestId::as_str)),
            traceId = extension(request.extensions().get::<TraceContext>().map(TraceContext::trace_id)),
        );
        let (verb, path) = (request.method().clone(), request.uri().path().to_owned());
        let is_grpc = is_grpc(request.headers());
        async {
            let response = forward(inner, request).await;
            let elapsed = begun.elapsed();
            let rpc = response.extensions().get::<RpcPath>().map_or("", |rpc| rpc.0);
            let status =
                if is_grpc { grpc_status(&response) } else { response.status().as_u16().to_string() };
            let user = response.extensions().get::<LoggedCaller>().map_or("", |caller| caller.0.as_str());
            let millis = elapsed.as_secs_f64() * 1000.0;
            tracing::info!(method = %verb, path, rpc, status, userId = user, durationMs = millis, "request");
            let labels = [
                ("service", self.service.to_owned()),
                ("method", if rpc.is_empty() { "other".to_owned() } else { rpc.to_owned() }),
                ("status", status),
            ];
            metrics::counter!("kombify_requests_total", &labels).increment(1);
            metrics::histogram!("kombify_request_duration_seconds", &labels[..2])
                .record(elapsed.as_secs_f64());
            response
        }
        .instrument(span)
        .await
    }
}

/// Who the caller says to be; what each of our own hops appended to it is taken off again.
pub(crate) fn user_agent(headers: &HeaderMap) -> String {
    let agent =
        headers.get(http::header::USER_AGENT).and_then(|agent| agent.to_str().ok()).unwrap_or_default();
    let mut own = agent;
    while let Some((before, last)) = own.rsplit_once(' ') {
        if !last.starts_with("tonic/") {
            break;
        }
        own = before;
    }
    own.chars().take(256).collect()
}

/// Whether a message is gRPC, by its content type.
pub fn is_grpc(headers: &HeaderMap) -> bool {
    headers
        .get(http::header::CONTENT_TYPE)
        .is_some_and(|value| value.as_bytes().starts_with(b"application/grpc"))
}

fn grpc_status(response: &Response<Body>) -> String {
    let status = response.headers().get("grpc-status").and_then(|status| status.to_str().ok());
    status.unwrap_or("0").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_our_own_hops_append_to_the_user_agent_is_taken_off() {
        for (given, expected) in [
            ("curl/7.88.1 tonic/0.14.9 tonic/0.14.9", "curl/7.88.1"),
            ("tonic/0.14.9", "tonic/0.14.9"),
            ("Mozilla/5.0 (X11; Linux x86_64) tonic/0.14.9", "Mozilla/5.0 (X11; Linux x86_64)"),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert("user-agent", given.parse().unwrap());
            assert_eq!(user_agent(&headers), expected);
        }
    }

    #[test]
    fn only_what_our_own_proxies_saw_is_believed() {
        let trusted = ["10.0.0.1".parse().unwrap(), "10.0.0.2".parse().unwrap()];
        for (header, expected) in [
            ("203.0.113.7", Some("203.0.113.7")),
            ("6.6.6.6, 203.0.113.7, 10.0.0.2", Some("203.0.113.7")),
            ("10.0.0.1", Some("10.0.0.1")),
            ("nonsense", None),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert("x-forwarded-for", header.parse().unwrap());
            assert_eq!(forwarded_for(&headers, &trusted).as_deref(), expected, "{header}");
        }
        assert_eq!(forwarded_for(&HeaderMap::new(), &trusted), None);
    }
}
