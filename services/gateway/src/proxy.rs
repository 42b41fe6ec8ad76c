//! The proxy: hands a public method's call to the module that answers for it, and everything else to the gateway's own
//! health and reflection.

use std::collections::HashMap;
use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::header::{CONNECTION, HOST};
use http::{HeaderName, HeaderValue, Request, Response};
use kombify_core::wire::RpcPath;
use kombify_core::{Error, Result};
use kombify_mesh::client::{connect, is_timeout};
use kombify_mesh::context::Deadline;
use kombify_mesh::malformed::carry;
use kombify_mesh::status::refuse;
use kombify_mesh::trace::{TRACEPARENT, TraceContext};
use tonic::body::Body;
use tonic::service::Routes;
use tonic::transport::Channel;
use tower::{Service, ServiceExt as _};

/// The service behind the gateway's rooms.
#[derive(Clone)]
pub struct Proxy {
    routes: Arc<HashMap<&'static str, Channel>>,
    own: Routes,
}

impl Proxy {
    /// A proxy to the modules at `upstreams` (module -> URL).
    ///
    /// # Errors
    /// - [`Error::Invalid`] if a URL is none, or if a public method's module has no URL.
    pub fn new<'a>(
        upstreams: impl IntoIterator<Item = (&'a String, &'a String)>,
        own: Routes,
    ) -> Result<Self> {
        let channels: HashMap<&str, Channel> = upstreams
            .into_iter()
            .map(|(module, url)| Ok((module.as_str(), connect(url)?)))
            .collect::<Result<_>>()?;
        let routes = crate::public_methods()
            .map(|method| {
                let missing =
                    || Error::invalid("upstreams", format!("must name the URL of {}", method.module));
                let channel = channels.get(method.module.as_str()).cloned().ok_or_else(missing)?;
                Ok((method.path.as_str(), channel))
            })
            .collect::<Result<_>>()?;
        Ok(Self { routes: Arc::new(routes), own })
    }
}

/// Puts what the request takes along into its headers, and takes out what was for this connection only.
fn prepare(request: &mut Request<Body>) {
    let deadline =
        request.extensions().get::<Deadline>().map(|deadline| deadline.remaining().as_millis().max(1));
    let trace = request.extensions().get::<TraceContext>().map(TraceContext::header);
    let headers = request.headers_mut();
    headers.remove(HOST);
    headers.remove(CONNECTION);
    for (name, value) in [
        ("grpc-timeout", deadline.map(|millis| format!("{}m", millis.min(99_999_999)))),
        (TRACEPARENT, trace),
    ] {
        if let Some(value) = value.and_then(|value| HeaderValue::try_from(value).ok()) {
            headers.insert(HeaderName::from_static(name), value);
        }
    }
}

impl Service<Request<Body>> for Proxy {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let path = request.uri().path();
        let Some(method) = kombify_contracts::method(path) else {
            let own = self.own.clone();
            return Box::pin(own.oneshot(request));
        };
        let Some(channel) = self.routes.get(method.path.as_str()).cloned() else {
            let fault = Error::NotImplemented(path.to_owned());
            return Box::pin(async move { Ok(refuse(&fault)) });
        };
        prepare(&mut request);
        // The module refuses it, behind its doors: so a stranger gets a stranger's answer, and a row of the audit.
        carry(&mut request);
        Box::pin(async move {
            let mut response = channel.oneshot(request).await.unwrap_or_else(|cause| {
                if is_timeout(&cause) {
                    return refuse(&Error::DeadlineExceeded);
                }
                tracing::warn!(%cause, module = method.module, "a module is away");
                let message = format!("{} is away", method.module);
                refuse(&Error::unavailable(message, Duration::from_secs(5)))
            });
            response.extensions_mut().insert(RpcPath(&method.path));
            Ok(response)
        })
    }
}
