//! Pages call the contracts as everybody else does: through the rooms, with the session that the browser has.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use axum::http::{Extensions, HeaderMap, HeaderValue, Request, Response, header};
use kombify_core::{Error, RequestId, Result};
use kombify_mesh::edge::ClientAddress;
use kombify_mesh::server::App;
use kombify_mesh::status::to_fault;
use kombify_mesh::trace::TraceContext;
use tonic::body::Body;
use tower::{Service, ServiceExt as _};

/// The module's own methods, called for one page.
#[derive(Clone)]
pub(super) struct Calls {
    app: App,
    request_id: Option<RequestId>,
    trace: Option<TraceContext>,
    address: Option<ClientAddress>,
    user_agent: Option<HeaderValue>,
    bearer: Option<HeaderValue>,
}

impl Calls {
    /// The methods behind `app`, called for the page of that request, with the session of that token.
    pub(super) fn new(app: App, extensions: &Extensions, headers: &HeaderMap, token: Option<&str>) -> Self {
        let bearer = token.and_then(|token| {
            let mut value = HeaderValue::from_str(&format!("Bearer {token}")).ok()?;
            value.set_sensitive(true);
            Some(value)
        });
        Self {
            app,
            request_id: extensions.get().cloned(),
            trace: extensions.get().cloned(),
            address: extensions.get().cloned(),
            user_agent: headers.get(header::USER_AGENT).cloned(),
            bearer,
        }
    }
}

impl Service<Request<Body>> for Calls {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let this = self.clone();
        let extensions = request.extensions_mut();
        if let Some(request_id) = this.request_id {
            extensions.insert(request_id);
        }
        if let Some(trace) = this.trace {
            extensions.insert(trace);
        }
        if let Some(address) = this.address {
            extensions.insert(address);
        }
        for (name, value) in [(header::AUTHORIZATION, this.bearer), (header::USER_AGENT, this.user_agent)] {
            if let Some(value) = value {
                request.headers_mut().insert(name, value);
            }
        }
        Box::pin(this.app.oneshot(request))
    }
}

/// The message of an answer.
pub(super) fn answer<T>(answer: Result<tonic::Response<T>, tonic::Status>) -> Result<T, Error> {
    answer.map(tonic::Response::into_inner).map_err(|status| to_fault(&status))
}
