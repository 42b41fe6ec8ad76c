//! Floor 2: HTTP/JSON to unary gRPC and back, as a tower layer, from the descriptors of the contracts. An answer that is
//! `google.api.HttpBody` leaves as the bytes that it holds.
//!
//! Refuses to know: services, callers, stores, sockets. A request that cannot become a message is not answered here:
//! it goes on as [`wire::Malformed`], so that the doors inside decide first who may learn of it. Only a path that
//! nobody serves (404) and a verb that a path does not answer (405) end here.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request, Response, header};
use http_body_util::Full;
use kombify_contracts::Method;
use kombify_core::{Clock, Error, wire};
use tonic::body::Body;
use tower::{Layer, Service};

mod answer;
mod binding;
mod faults;
mod field;
#[cfg(test)]
mod fixture;
mod json;
mod json_in;
mod json_out;
mod percent;
mod query;
mod raw;
mod request;
mod router;
mod scalar;
#[cfg(test)]
mod tests;

pub use json_in::from_json;
pub use json_out::to_json;
pub use router::RouteError;

use answer::Asked;
use binding::Binding;
use router::{Found, Router};

/// How many characters of an unknown path an answer repeats.
const PATH_MAX_CHARS: usize = 200;

/// What a request and an answer may cost.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// How large a JSON body may be.
    pub max_body_bytes: usize,
    /// How long the body may take to arrive, from its first byte to its last.
    pub body_timeout: Duration,
    /// How large an answer from inside may be before it becomes JSON, or the bytes that it holds.
    pub max_answer_bytes: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            max_body_bytes: 1024 * 1024,
            body_timeout: Duration::from_secs(10),
            max_answer_bytes: 16 * 1024 * 1024,
        }
    }
}

/// Wraps a gRPC service so that it answers the HTTP form of its methods, too.
#[derive(Clone)]
pub struct TranscodeLayer(Arc<Shared>);

struct Shared {
    router: Router,
    options: Options,
    clock: Arc<dyn Clock>,
}

impl TranscodeLayer {
    /// A layer for those of `methods` that have an HTTP form; `clock` dates the error envelopes.
    ///
    /// # Errors
    /// - [`RouteError`] if the HTTP form of a method cannot be served; it names the method.
    pub fn new(
        methods: impl IntoIterator<Item = &'static Method>,
        options: Options,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, RouteError> {
        Ok(Self(Arc::new(Shared { router: Router::new(methods)?, options, clock })))
    }
}

impl<S> Layer<S> for TranscodeLayer {
    type Service = Transcode<S>;

    fn layer(&self, inner: S) -> Transcode<S> {
        Transcode { inner, shared: Arc::clone(&self.0) }
    }
}

/// A gRPC service that answers JSON, too. What is gRPC already passes through untouched.
#[derive(Clone)]
pub struct Transcode<S> {
    inner: S,
    shared: Arc<Shared>,
}

impl<S> Service<Request<Body>> for Transcode<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        // The clone is not ready yet, the service that was polled is: it takes this call.
        let clone = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, clone);
        if is_grpc(request.headers()) {
            return Box::pin(inner.call(request));
        }
        let path = request.uri().path();
        let asked = Asked::new(request.headers(), Arc::clone(&self.shared.clock));
        let refusal = match self.shared.router.find(request.method().as_str(), path) {
            Found::Method(binding, values) => {
                let binding = Arc::clone(binding);
                let values = values.into_iter().map(str::to_owned).collect();
                return Box::pin(transcode(inner, request, binding, values, self.shared.options, asked));
            }
            Found::Verbs(allow) => Error::MethodNotAllowed { allow },
            Found::Nothing => Error::not_found("path", faults::cut(path, PATH_MAX_CHARS)),
        };
        let response = answer::refusal(&refusal, &asked);
        Box::pin(async move { Ok(response) })
    }
}

/// Whether a message is gRPC already, in any of its forms.
fn is_grpc(headers: &HeaderMap) -> bool {
    let kind = b"application/grpc";
    headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.as_bytes().get(..kind.len()))
        .is_some_and(|start| start.eq_ignore_ascii_case(kind))
}

async fn transcode<S>(
    mut inner: S,
    request: Request<Body>,
    binding: Arc<Binding>,
    values: Vec<String>,
    options: Options,
    asked: Asked,
) -> Result<Response<Body>, Infallible>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
{
    let (mut parts, body) = request.into_parts();
    let frame = match request::read(&parts, body, &binding, &values, &options).await {
        Ok(frame) => frame,
        Err(fault) => {
            parts.extensions.insert(wire::Malformed(Arc::new(fault)));
            Bytes::from_static(&request::EMPTY_FRAME)
        }
    };
    request::make_grpc(&mut parts, &binding);
    let response = inner.call(Request::from_parts(parts, Body::new(Full::new(frame)))).await?;
    Ok(answer::to_http(response, &binding, options.max_answer_bytes, &asked).await)
}
