//! What is called: bare tonic, a module behind all its rooms, and the gateway in front of that module.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use hyper::server::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::service::TowerToHyperService;
use kombify_contracts::Method;
use kombify_contracts::kombify::identity::v1::identity_service_server::{
    IdentityService, IdentityServiceServer, SERVICE_NAME,
};
use kombify_contracts::kombify::identity::v1::{WhoAmIRequest, WhoAmIResponse};
use kombify_core::Clock;
use kombify_core::directory::TokenOnly;
use kombify_gateway::{Gateway, GatewayConfig};
use kombify_mesh::audit::{self, Scope};
use kombify_mesh::health::Health;
use kombify_mesh::identity::claims::ClaimNames;
use kombify_mesh::identity::keys::{Intervals, KeySet, KeySource, PublishedKey};
use kombify_mesh::identity::verifier::{Accepts, Verifier};
use kombify_mesh::rate::{ClassLimit, RateLimiter, RateLimits};
use kombify_mesh::server::{App, Guard, Module, ServerConfig};
use kombify_mesh::system::{SystemClock, SystemIds};
use kombify_transcode::{Options, TranscodeLayer};
use metrics_exporter_prometheus::PrometheusHandle;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;
use tonic::{Request, Response, Status};
use tower::Layer as _;

use crate::Fault;
use crate::mint::{AUDIENCE, ISSUER};

/// The one service of the module.
const SERVICES: [&str; 1] = [SERVICE_NAME];

/// A server that runs.
pub(crate) struct Served {
    pub(crate) address: SocketAddr,
    tasks: JoinSet<()>,
}

impl Served {
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

/// A method that only answers.
struct Answering(WhoAmIResponse);

#[tonic::async_trait]
impl IdentityService for Answering {
    async fn who_am_i(&self, _: Request<WhoAmIRequest>) -> Result<Response<WhoAmIResponse>, Status> {
        Ok(Response::new(self.0.clone()))
    }
}

/// Starts bare tonic: the generated server on hyper, and nothing between.
pub(crate) async fn bare(answer: WhoAmIResponse) -> Result<Served, Fault> {
    let service = IdentityServiceServer::new(Answering(answer));
    let (listener, address) = listen().await?;
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        let mut connections = JoinSet::new();
        while let Ok((stream, _)) = listener.accept().await {
            // Where this fails the calls are slow, and the ratio shows it.
            let _ = stream.set_nodelay(true);
            let service = TowerToHyperService::new(service.clone());
            let builder = http2::Builder::new(TokioExecutor::new());
            connections.spawn(async move {
                let _ = builder.serve_connection(TokioIo::new(stream), service).await;
            });
        }
    });
    Ok(Served { address, tasks })
}

/// The keys of the issuer, or none.
struct Published(Vec<Value>);

#[async_trait]
impl KeySource for Published {
    async fn fetch(&self) -> kombify_core::Result<Vec<PublishedKey>> {
        let key = |jwk: &Value| -> kombify_core::Result<PublishedKey> {
            let jwk = serde_json::from_value(jwk.clone()).map_err(kombify_core::Error::internal)?;
            Ok(PublishedKey { jwk, owner: None })
        };
        self.0.iter().map(key).collect()
    }
}

/// What a module and the gateway stand on: as `kombify up` puts them together, but for the rate limits, which nobody
/// reaches here.
pub(crate) struct House {
    metrics: PrometheusHandle,
    issuer_keys: Arc<KeySet>,
}

impl House {
    pub(crate) fn new(metrics: PrometheusHandle, published: Vec<Value>) -> Self {
        let issuer_keys = Arc::new(KeySet::new(Published(published), Intervals::default()));
        Self { metrics, issuer_keys }
    }

    /// Starts a module that answers who calls, behind all rooms.
    pub(crate) async fn rooms(&self) -> Result<Served, Fault> {
        let module = self.module("admin", &[IpAddr::V4(Ipv4Addr::LOCALHOST)]);
        let (refusals, worker) = audit::queue(Scope::Everything, clock());
        let guard = Guard {
            verifier: self.verifier("admin"),
            directory: Arc::new(TokenOnly),
            limiter: Arc::new(RateLimiter::new(unreachable_limits(), clock())),
            refusals,
            sessions: None,
        };
        let (routes, _) = module.routes(&SERVICES, Routes::new(kombify_mesh::whoami::service()))?;
        let methods = kombify_contracts::methods().iter();
        let transcode = transcode(methods.filter(|method| SERVICES.contains(&method.service.as_str())))?;
        let app = module.app(None, transcode.layer(module.rooms(guard, &SERVICES, routes)));
        let mut served = serve(module, app).await?;
        served.tasks.spawn(worker.run(CancellationToken::new(), |_| async { Ok(()) }));
        Ok(served)
    }

    /// Starts the gateway in front of the module at `upstream`, which stands for all modules.
    pub(crate) async fn gateway(&self, upstream: &str) -> Result<Served, Fault> {
        let module = self.module("gateway", &[]);
        let (own, _) = module.routes(&kombify_gateway::public_services(), Routes::default())?;
        let modules = kombify_gateway::public_methods().map(|method| method.module.clone());
        let gateway = Gateway {
            module: module.clone(),
            config: GatewayConfig { requests_per_minute_and_address: u32::MAX, ..GatewayConfig::default() },
            verifier: self.verifier("gateway"),
            upstreams: modules.map(|module| (module, upstream.to_owned())).collect(),
            cloud: upstream.to_owned(),
        };
        let app = gateway.app(own, &transcode(kombify_gateway::public_methods())?)?;
        serve(module, app).await
    }

    fn module(&self, service: &'static str, trusted_proxies: &[IpAddr]) -> Module {
        Module {
            service,
            config: ServerConfig::default(),
            clock: clock(),
            ids: Arc::new(SystemIds),
            trusted_proxies: trusted_proxies.into(),
            health: Health::new(clock(), Some(self.metrics.clone())),
        }
    }

    fn verifier(&self, module: &str) -> Arc<Verifier> {
        let accepts = Accepts {
            issuer: ISSUER.into(),
            audience: AUDIENCE.into(),
            claims: ClaimNames::default(),
            service_audience: format!("service:{module}"),
        };
        let mesh_keys = Arc::new(KeySet::new(Published(Vec::new()), Intervals::default()));
        Arc::new(Verifier::new(accepts, Arc::clone(&self.issuer_keys), mesh_keys, clock()))
    }
}

fn clock() -> Arc<dyn Clock> {
    Arc::new(SystemClock)
}

fn unreachable_limits() -> RateLimits {
    let mut limits = RateLimits::default();
    for limit in limits.0.values_mut() {
        *limit = ClassLimit { free: u32::MAX, pro: u32::MAX, enterprise: u32::MAX, ..*limit };
    }
    limits
}

fn transcode(methods: impl Iterator<Item = &'static Method>) -> Result<TranscodeLayer, Fault> {
    let server = ServerConfig::default();
    let options = Options {
        max_body_bytes: server.max_request_bytes,
        body_timeout: Duration::from_secs(server.request_timeout_seconds),
        ..Options::default()
    };
    Ok(TranscodeLayer::new(methods, options, clock())?)
}

async fn serve(module: Module, app: App) -> Result<Served, Fault> {
    let (listener, address) = listen().await?;
    let mut tasks = JoinSet::new();
    tasks.spawn(async move { module.serve(listener, app, CancellationToken::new()).await });
    Ok(Served { address, tasks })
}

async fn listen() -> Result<(TcpListener, SocketAddr), Fault> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let address = listener.local_addr()?;
    Ok((listener, address))
}
