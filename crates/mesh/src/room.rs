//! Rooms: the layers of the way of a request, one decision each.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::{Request, Response};
use tonic::body::Body;
use tower::{Layer, Service, ServiceExt as _};

/// What stands behind a room: always ready, never failing, an answer for everything.
pub trait Inner:
    Service<Request<Body>, Response = Response<Body>, Error = Infallible, Future: Send> + Clone + Send + 'static
{
}

impl<S> Inner for S where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible, Future: Send>
        + Clone
        + Send
        + 'static
{
}

/// One room of the way: it looks at the request, hands it on or answers itself, and looks at the answer.
pub trait Room: Clone + Send + Sync + 'static {
    /// Takes a request through the room.
    fn pass(&self, request: Request<Body>, inner: impl Inner) -> impl Future<Output = Response<Body>> + Send;
}

/// Hands the request on to what is behind.
pub async fn forward(inner: impl Inner, request: Request<Body>) -> Response<Body> {
    match inner.oneshot(request).await {
        Ok(response) => response,
        Err(never) => match never {},
    }
}

/// A room as a tower layer.
#[derive(Clone, Debug)]
pub struct RoomLayer<R>(pub R);

impl<R: Clone, S> Layer<S> for RoomLayer<R> {
    type Service = RoomService<R, S>;

    fn layer(&self, inner: S) -> Self::Service {
        RoomService(Arc::new((self.0.clone(), inner)))
    }
}

/// A room with what is behind it. A clone is one more reference to it, however much is behind.
#[derive(Debug)]
pub struct RoomService<R, S>(Arc<(R, S)>);

impl<R, S> Clone for RoomService<R, S> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<R: Room, S: Inner + Sync> Service<Request<Body>> for RoomService<R, S> {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let this = Arc::clone(&self.0);
        Box::pin(async move {
            let (room, inner) = &*this;
            Ok(room.pass(request, inner.clone()).await)
        })
    }
}
