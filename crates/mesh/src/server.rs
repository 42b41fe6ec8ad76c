//! Serving: the rooms in their order, the sockets, and an end that loses nothing.

use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::extract::ConnectInfo;
use futures_util::future::BoxFuture;
use http::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use kombify_core::directory::Directory;
use kombify_core::{Clock, Ids};
use serde::{Deserialize, Serialize};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tonic::body::Body;
use tonic::service::Routes;
use tower::util::BoxCloneSyncService;
use tower::{Service, ServiceBuilder, ServiceExt as _};

use crate::access::Enforce;
use crate::audit::Refusals;
use crate::edge::{Name, Tell, is_grpc};
use crate::health::Health;
use crate::identity::verifier::Verifier;
use crate::identity::{Identify, Sessions};
use crate::limits::{CatchPanic, Due, OneMessage, Shed, Weigh};
use crate::malformed::RefuseMalformed;
use crate::pages::Plain;
use crate::rate::{Limit, RateLimiter};
use crate::room::{Inner, RoomLayer};
use crate::status::Complete;

/// How a module serves.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct ServerConfig {
    /// How long a request may take whose caller names no deadline, in seconds.
    pub request_timeout_seconds: u64,
    /// How long a request may take at most, in seconds.
    pub max_timeout_seconds: u64,
    /// How long a stream may be silent before it is ended, in seconds.
    pub stream_idle_seconds: u64,
    /// How large a request message may be, in bytes.
    pub max_request_bytes: usize,
    /// How many requests are served at once.
    pub max_requests: usize,
    /// How many connections are open at once.
    pub max_connections: usize,
    /// How long open requests get to end when the module ends, in seconds.
    pub drain_timeout_seconds: u64,
}

impl Default for ServerConfig {
    fn default() -> Self {
        Self {
            request_timeout_seconds: 10,
            max_timeout_seconds: 60,
            stream_idle_seconds: 15 * 60,
            max_request_bytes: 1024 * 1024,
            max_requests: 1024,
            max_connections: 4096,
            drain_timeout_seconds: 25, // Below Docker's and Kubernetes' 30 s grace.
        }
    }
}

/// A whole module, ready to be served.
pub type App = BoxCloneSyncService<Request<Body>, Response<Body>, Infallible>;

/// What guards the methods of a module.
#[derive(Clone)]
pub struct Guard {
    /// Verifies credentials.
    pub verifier: Arc<Verifier>,
    /// Knows what users stand for.
    pub directory: Arc<dyn Directory>,
    /// Counts requests.
    pub limiter: Arc<RateLimiter>,
    /// Takes refusals to the audit log.
    pub refusals: Refusals,
    /// Knows sessions; `None`: the module has none.
    pub sessions: Option<Arc<dyn Sessions>>,
}

/// The pages of a module, beside its methods.
#[derive(Clone, Debug)]
pub struct Pages {
    /// What answers.
    pub router: Router,
    /// The paths that it answers, exactly; `None`: everything that is not gRPC.
    pub paths: Option<&'static [&'static str]>,
}

/// What every room of a module needs.
#[derive(Clone)]
pub struct Module {
    /// The module, as it stands in logs and metrics.
    pub service: &'static str,
    /// How it serves.
    pub config: ServerConfig,
    /// The process's clock.
    pub clock: Arc<dyn Clock>,
    /// The process's randomness.
    pub ids: Arc<dyn Ids>,
    /// The peers whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Arc<[IpAddr]>,
    /// How it is.
    pub health: Health,
}

impl Module {
    /// The rooms that every call of a module passes, in their order: completion, panic, shed, deadline, size, identity,
    /// refusals, rate limit, access; then the codec. Whoever is refused at a door is counted, too.
    ///
    /// # Panics
    /// If `routes` serves a method for tenants and the directory knows no memberships: nobody could ever enter.
    pub fn rooms(&self, guard: Guard, services: &[&str], routes: Routes) -> App {
        let for_tenants = kombify_contracts::methods().iter().find(|method| {
            services.contains(&method.service.as_str())
                && method.access.as_ref().is_some_and(|access| {
                    access.door() == kombify_contracts::kombify::contract::v1::Door::Tenant
                })
        });
        assert!(
            for_tenants.is_none() || guard.directory.knows_memberships(),
            "{} serves methods for tenants, and knows no memberships",
            self.service
        );
        let Guard { verifier, directory, limiter, refusals, sessions } = guard;
        let rooms = ServiceBuilder::new()
            .layer(RoomLayer(Identify { verifier, directory, sessions }))
            .layer(RoomLayer(refusals))
            .layer(RoomLayer(Limit { limiter }))
            .layer(RoomLayer(Enforce { clock: Arc::clone(&self.clock) }))
            .layer(RoomLayer(RefuseMalformed))
            .service(routes);
        self.bounded(rooms)
    }

    /// The rooms that bound a request, before `inner`: completion, panic, shed, deadline, size.
    pub fn bounded(&self, inner: impl Inner + Sync) -> App {
        let config = &self.config;
        let due = Due {
            default: Duration::from_secs(config.request_timeout_seconds),
            longest: Duration::from_secs(config.max_timeout_seconds),
            idle: Duration::from_secs(config.stream_idle_seconds),
        };
        let rooms = ServiceBuilder::new()
            .layer(RoomLayer(Complete::new(Arc::clone(&self.clock))))
            .layer(RoomLayer(CatchPanic))
            .layer(RoomLayer(Shed::new(config.max_requests)))
            .layer(RoomLayer(due))
            .layer(RoomLayer(Weigh { max_bytes: config.max_request_bytes }))
            .layer(RoomLayer(OneMessage))
            .service(inner);
        BoxCloneSyncService::new(rooms)
    }

    /// The rooms that bound a page: panic, shed, deadline, each refusal in plain words. Pages have as many places as
    /// calls, beside theirs; the deadline is the server's own, whatever the browser says, and holds for its form, too.
    fn bounded_pages(&self, router: Router) -> App {
        let config = &self.config;
        let timeout = Duration::from_secs(config.request_timeout_seconds);
        let idle = Duration::from_secs(config.stream_idle_seconds);
        let rooms = ServiceBuilder::new()
            .layer(RoomLayer(Plain))
            .layer(RoomLayer(CatchPanic))
            .layer(RoomLayer(Shed::new(config.max_requests)))
            .layer(RoomLayer(Due { default: timeout, longest: timeout, idle }))
            .service(site(router));
        BoxCloneSyncService::new(rooms)
    }

    /// The whole module: the outermost rooms, `/health`, `/ready`, `/metrics` and the pages of `pages`, and `calls`
    /// for everything else.
    pub fn app(&self, pages: Option<Pages>, calls: impl Inner + Sync) -> App {
        let (router, paths) = match pages {
            Some(Pages { router, paths }) => (router, paths),
            None => (Router::new(), Some(&[][..])),
        };
        // Who asks how a module is must hear it from one that is busy, too.
        let health = BoxCloneSyncService::new(site(self.health.router()));
        let pages = self.bounded_pages(router);
        let name = Name {
            clock: Arc::clone(&self.clock),
            ids: Arc::clone(&self.ids),
            trusted_proxies: Arc::clone(&self.trusted_proxies),
        };
        let rooms = ServiceBuilder::new()
            .layer(RoomLayer(name))
            .layer(RoomLayer(Tell { service: self.service }))
            .service(Front { health, pages, calls, paths });
        BoxCloneSyncService::new(rooms)
    }

    /// Health and reflection of the module's own services, as every port answers them, beside the services themselves.
    ///
    /// # Errors
    /// - if the descriptors cannot be read.
    pub fn routes(
        &self,
        services: &[&str],
        routes: Routes,
    ) -> Result<(Routes, tonic_health::server::HealthReporter), tonic_reflection::server::Error> {
        let (reporter, health) = tonic_health::server::health_reporter();
        let reflection = || {
            let own = tonic_reflection::server::Builder::configure()
                .register_encoded_file_descriptor_set(kombify_contracts::file_descriptor_set())
                .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
                // So that a client can read the details of an error.
                .register_encoded_file_descriptor_set(tonic_types::pb::FILE_DESCRIPTOR_SET)
                .with_service_name("grpc.health.v1.Health");
            services.iter().fold(own, |own, service| own.with_service_name(*service))
        };
        let routes = routes
            .add_service(health)
            .add_service(reflection().build_v1()?)
            .add_service(reflection().build_v1alpha()?)
            .prepare();
        Ok((routes, reporter))
    }

    /// Serves `app` on `listener` until cancelled; then takes no more connections, and gives the open requests their
    /// time to end.
    pub async fn serve(&self, listener: TcpListener, app: App, cancel: CancellationToken) {
        let places = Arc::new(Semaphore::new(self.config.max_connections));
        let graceful = GracefulShutdown::new();
        let mut connections = JoinSet::new();
        let mut builder = auto::Builder::new(TokioExecutor::new());
        builder.http1().timer(TokioTimer::new()).header_read_timeout(Duration::from_secs(10));
        builder
            .http2()
            .timer(TokioTimer::new())
            .max_concurrent_streams(256)
            .keep_alive_interval(Some(Duration::from_secs(30)))
            .keep_alive_timeout(Duration::from_secs(20));
        loop {
            let accepted = tokio::select! {
                () = cancel.cancelled() => break,
                Some(_) = connections.join_next(), if !connections.is_empty() => continue,
                accepted = accept(&listener, &places) => accepted,
            };
            let Some((stream, peer, place)) = accepted else { continue };
            let app = app.clone();
            let service = tower::service_fn(move |request: Request<hyper::body::Incoming>| {
                let mut request = request.map(Body::new);
                request.extensions_mut().insert(ConnectInfo(peer));
                app.clone().oneshot(request)
            });
            let connection = builder
                .serve_connection(TokioIo::new(stream), TowerToHyperService::new(service))
                .into_owned();
            let connection = graceful.watch(connection);
            connections.spawn(async move {
                if let Err(cause) = connection.await {
                    tracing::debug!(%cause, "connection ended");
                }
                drop(place);
            });
        }
        self.health.drain();
        drop(listener);
        let drained =
            tokio::time::timeout(Duration::from_secs(self.config.drain_timeout_seconds), graceful.shutdown());
        if drained.await.is_err() {
            tracing::warn!(service = self.service, "requests were cut off: they did not end in time");
        }
        connections.shutdown().await;
    }
}

async fn accept(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
) -> Option<(TcpStream, SocketAddr, tokio::sync::OwnedSemaphorePermit)> {
    let place = Arc::clone(places).acquire_owned().await.ok()?;
    match listener.accept().await {
        Ok((stream, peer)) => {
            // Without it every small answer waits for the peer's delayed acknowledgement.
            if let Err(cause) = stream.set_nodelay(true) {
                tracing::debug!(%cause, "no TCP_NODELAY");
            }
            Some((stream, peer, place))
        }
        Err(cause) => {
            tracing::warn!(%cause, "no connection accepted");
            tokio::time::sleep(Duration::from_millis(100)).await; // For example: no more file descriptors.
            None
        }
    }
}

/// A router, as it stands behind rooms.
fn site(router: Router) -> impl Inner + Sync {
    tower::service_fn(move |request: Request<Body>| {
        let router = router.clone();
        async move {
            let response = router.oneshot(request.map(axum::body::Body::new)).await?;
            Ok::<_, Infallible>(response.map(Body::new))
        }
    })
}

/// Sends a request to the pages or to the methods.
#[derive(Clone)]
struct Front<S> {
    health: App,
    pages: App,
    calls: S,
    paths: Option<&'static [&'static str]>,
}

impl<S: Inner> Service<Request<Body>> for Front<S> {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let path = request.uri().path();
        let of_health = matches!(path, "/health" | "/ready" | "/metrics");
        let of_pages = self.paths.is_none_or(|paths| paths.contains(&path));
        if is_grpc(request.headers()) || !(of_health || of_pages) {
            Box::pin(self.calls.clone().oneshot(request))
        } else if of_health {
            Box::pin(self.health.clone().oneshot(request))
        } else {
            Box::pin(self.pages.clone().oneshot(request))
        }
    }
}
