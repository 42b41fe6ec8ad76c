//! A module that is not there yet: until it is, it answers that it is not.

use std::convert::Infallible;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::future::BoxFuture;
use http::{Request, Response};
use kombify_core::Error;
use kombify_mesh::server::{App, Module};
use tonic::body::Body;
use tower::{Service, ServiceExt as _};

/// When to try again.
const SOON: Duration = Duration::from_secs(2);

/// An app that comes later; in its place until then stands one that refuses.
#[derive(Clone)]
pub struct Later {
    there: Arc<OnceLock<App>>,
    until_then: App,
}

impl Later {
    /// An app of `module` that comes later. `why` says what it waits for.
    pub fn new(module: &Module, why: &'static str) -> Self {
        let refuse = tower::service_fn(move |_: Request<Body>| async move {
            Ok::<_, Infallible>(kombify_mesh::status::refuse(&Error::unavailable(why, SOON)))
        });
        let until_then = module.app(None, module.bounded(refuse));
        Self { there: Arc::default(), until_then }
    }

    /// It is there.
    pub fn arrive(&self, app: App) {
        let _ = self.there.set(app); // It arrives once.
    }
}

impl Service<Request<Body>> for Later {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let app = self.there.get().unwrap_or(&self.until_then).clone();
        Box::pin(app.oneshot(request))
    }
}
