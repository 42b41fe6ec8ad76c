//! The modules: each with its rooms, its store and its neighbours.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use kombify_admin::{Platform, PlatformDirectory, StoredKeys};
use kombify_core::directory::{Directory, TokenOnly};
use kombify_core::{Clock, Ids, PlatformStore, ServiceIdentity};
use kombify_gateway::Gateway;
use kombify_idp::Idp;
use kombify_mesh::audit::{self, Refusals, Scope};
use kombify_mesh::client::Peer;
use kombify_mesh::health::{DatabaseCheck, Health};
use kombify_mesh::identity::claims::ClaimNames;
use kombify_mesh::identity::issuer::Issuer;
use kombify_mesh::identity::keys::{Intervals, KeySet, KeySource, PublishedKey};
use kombify_mesh::identity::service_token::Signer;
use kombify_mesh::identity::verifier::{Accepts, Verifier};
use kombify_mesh::join::{self, MeshKeys};
use kombify_mesh::rate::RateLimiter;
use kombify_mesh::server::{App, Guard, Module};
use kombify_mesh::system::{SystemClock, SystemIds};
use kombify_platform_sqlite::PlatformSqlite;
use kombify_transcode::{Options as TranscodeOptions, TranscodeLayer};
use metrics_exporter_prometheus::PrometheusHandle;
use secrecy::SecretString;
use tokio::net::TcpListener;
use tonic::service::Routes;
use tower::Layer as _;

use super::seed::{DEFAULT_ORGANISATION, PLATFORM_ORGANISATION};
use super::{Process, Sockets};
use crate::Fault;
use crate::config::Config;
use crate::data::{Data, Endpoints};

/// The audience of users' access tokens.
const AUDIENCE: &str = "kombify";

/// The name of each module's only instance in this process.
const INSTANCE: &str = "local";

/// What every module stands on.
pub struct Base {
    pub config: Config,
    pub metrics: PrometheusHandle,
    pub clock: Arc<SystemClock>,
    pub ids: Arc<SystemIds>,
    pub endpoints: Endpoints,
}

impl Base {
    fn clock(&self) -> Arc<dyn Clock> {
        Arc::<SystemClock>::clone(&self.clock)
    }

    fn ids(&self) -> Arc<dyn Ids> {
        Arc::<SystemIds>::clone(&self.ids)
    }

    fn module(&self, service: &'static str, health: Health) -> Module {
        Module {
            service,
            config: self.config.server,
            clock: self.clock(),
            ids: self.ids(),
            // The gateway and Cloud say for whom they speak; both are in this process.
            trusted_proxies: if service == "gateway" {
                [].into()
            } else {
                [IpAddr::V4(Ipv4Addr::LOCALHOST)].into()
            },
            health,
        }
    }

    fn health(&self) -> Health {
        Health::new(self.clock(), Some(self.metrics.clone()))
    }

    fn transcode(&self, services: &[&str]) -> Result<TranscodeLayer, Fault> {
        let methods = kombify_contracts::methods().iter();
        self.transcode_methods(methods.filter(|method| services.contains(&method.service.as_str())))
    }

    fn transcode_methods(
        &self,
        methods: impl Iterator<Item = &'static kombify_contracts::Method>,
    ) -> Result<TranscodeLayer, Fault> {
        let server = self.config.server;
        let options = TranscodeOptions {
            max_body_bytes: server.max_request_bytes,
            body_timeout: Duration::from_secs(server.request_timeout_seconds),
            ..TranscodeOptions::default()
        };
        Ok(TranscodeLayer::new(methods, options, self.clock())?)
    }

    fn intervals(&self) -> Intervals {
        Intervals {
            refresh: Duration::from_secs(self.config.keys.refresh_seconds),
            unknown_key: Duration::from_secs(self.config.keys.unknown_key_seconds),
        }
    }

    fn verifier(&self, module: &str, issuer_keys: Arc<KeySet>, mesh_keys: Arc<KeySet>) -> Arc<Verifier> {
        let accepts = Accepts {
            issuer: self.endpoints.idp.clone(),
            audience: AUDIENCE.into(),
            claims: ClaimNames {
                default_organisation: DEFAULT_ORGANISATION.into(),
                platform_organisation: PLATFORM_ORGANISATION.into(),
                ..ClaimNames::default()
            },
            service_audience: format!("service:{module}"),
        };
        Arc::new(Verifier::new(accepts, issuer_keys, mesh_keys, self.clock()))
    }

    fn guard(&self, verifier: Arc<Verifier>, directory: Arc<dyn Directory>, refusals: Refusals) -> Guard {
        let limiter = Arc::new(RateLimiter::new(self.config.rates.clone(), self.clock()));
        Guard { verifier, directory, limiter, refusals }
    }
}

/// The stores of this process.
pub struct Stores {
    pub platform: Arc<PlatformSqlite>,
    pub idp: Idp,
}

impl Stores {
    /// Opens them, and brings them up to date.
    ///
    /// # Errors
    /// - one line that says which file is not right, and what to do.
    pub fn open(base: &Base, data: &Data) -> Result<Self, Fault> {
        let platform = Arc::new(PlatformSqlite::open(&data.file("platform.db"), base.ids())?);
        let config = kombify_idp::Config {
            issuer: base.endpoints.idp.clone(),
            audience: AUDIENCE.into(),
            access_token_lifetime: Duration::from_secs(base.config.idp.access_token_seconds),
            refresh_token_lifetime: Duration::from_hours(720),
            session_lifetime: Duration::from_hours(12),
            publish_ahead: Duration::from_secs(base.config.idp.publish_ahead_seconds),
            default_org: DEFAULT_ORGANISATION.into(),
            clients: vec![kombify_idp::Client {
                id: crate::token::CLIENT.into(),
                redirect_uris: vec![crate::token::REDIRECT.into()],
                post_logout_redirect_uris: Vec::new(),
            }],
        };
        let idp = Idp::open(&data.file("idp.db"), config, base.clock(), base.ids())?;
        Ok(Self { platform, idp })
    }
}

struct PlatformCheck(Arc<PlatformSqlite>);

#[async_trait]
impl DatabaseCheck for PlatformCheck {
    async fn check(&self) -> kombify_core::Result<()> {
        self.0.database().check().await
    }
}

struct IdpCheck(Idp);

#[async_trait]
impl DatabaseCheck for IdpCheck {
    async fn check(&self) -> kombify_core::Result<()> {
        self.0.check().await
    }
}

/// The keys of a module to which no module speaks for itself.
struct NoKeys;

#[async_trait]
impl KeySource for NoKeys {
    async fn fetch(&self) -> kombify_core::Result<Vec<PublishedKey>> {
        Ok(Vec::new())
    }
}

/// Starts every module.
///
/// # Errors
/// - if a module cannot be put together.
pub fn start(
    base: &Base,
    data: &Data,
    stores: Stores,
    sockets: Sockets,
    process: &mut Process,
) -> Result<(), Fault> {
    let Sockets { gateway, admin, cloud, idp } = sockets;
    let issuer = Issuer::new(&base.endpoints.idp)?;
    let issuer_keys = Arc::new(KeySet::new(issuer.clone(), base.intervals()));
    start_idp(base, data, &stores.idp, idp, process)?;
    keep_fresh(&issuer_keys, process);
    let join_secret = join_secret(&data.file("join/cloud.secret"), &*base.ids)?;
    let join_secrets = BTreeMap::from([("cloud".to_owned(), join_secret.clone())]);
    start_admin(
        base,
        data,
        stores.platform,
        (issuer, Arc::clone(&issuer_keys), join_secrets),
        admin,
        process,
    )?;
    start_cloud(base, data, (Arc::clone(&issuer_keys), join_secret), cloud, process)?;
    start_gateway(base, issuer_keys, gateway, process)
}

fn start_idp(
    base: &Base,
    data: &Data,
    idp: &Idp,
    listener: TcpListener,
    process: &mut Process,
) -> Result<(), Fault> {
    let health = base.health().with_database(Arc::new(IdpCheck(idp.clone())), data.dir().to_owned());
    let module = base.module("idp", health);
    let (routes, reporter) = module.routes(&[], Routes::default())?;
    follow_health(&module, reporter, Vec::new(), process);
    let app = module.app(Some(idp.router()), module.bounded(routes));
    serve(module, listener, app, process);
    Ok(())
}

fn start_admin(
    base: &Base,
    data: &Data,
    store: Arc<PlatformSqlite>,
    (issuer, issuer_keys, join_secrets): (Issuer, Arc<KeySet>, BTreeMap<String, SecretString>),
    listener: TcpListener,
    process: &mut Process,
) -> Result<(), Fault> {
    let own = ServiceIdentity { module: "admin".into(), instance: INSTANCE.into() };
    let signer = Signer::open(&data.file("keys/admin.pkcs8"), own, base.clock())?;
    let health =
        base.health().with_database(Arc::new(PlatformCheck(Arc::clone(&store))), data.dir().to_owned());
    let store: Arc<dyn PlatformStore> = store;
    let stored = StoredKeys::new(Arc::clone(&store), signer.public());
    let platform = Platform {
        store: Arc::clone(&store),
        clock: base.clock(),
        ids: base.ids(),
        issuer,
        mesh_keys: Arc::new(KeySet::new(stored, base.intervals())),
        own_key: signer.public(),
        join_secrets: Arc::new(join_secrets),
        default_region: base.config.region.parse()?,
    };
    keep_fresh(&platform.mesh_keys, process);
    let (refusals, worker) = audit::queue(Scope::Everything, base.clock());
    let cancel = process.cancel.clone();
    process.tasks.spawn(async move {
        worker.run(cancel, |refusals| kombify_admin::keep_refusals(Arc::clone(&store), refusals)).await;
    });
    let verifier = base.verifier("admin", issuer_keys, Arc::clone(&platform.mesh_keys));
    let directory = Arc::new(PlatformDirectory::new(platform.clone()));
    let guard = base.guard(verifier, directory, refusals);
    start_module(
        base,
        base.module("admin", health),
        guard,
        (&kombify_admin::SERVICES, kombify_admin::routes(&platform)),
        listener,
        process,
    )
}

fn start_cloud(
    base: &Base,
    data: &Data,
    (issuer_keys, join_secret): (Arc<KeySet>, SecretString),
    listener: TcpListener,
    process: &mut Process,
) -> Result<(), Fault> {
    let own = ServiceIdentity { module: "cloud".into(), instance: INSTANCE.into() };
    let signer = Arc::new(Signer::open(&data.file("keys/cloud.pkcs8"), own, base.clock())?);
    let stranger = Peer::anonymous(&base.endpoints.admin)?;
    let admin = Peer::new("admin", &base.endpoints.admin, Arc::clone(&signer))?;
    process.tasks.spawn(join::register(stranger.clone(), signer, join_secret, process.cancel.clone()));
    let mesh_keys = Arc::new(KeySet::new(MeshKeys::new(stranger), base.intervals()));
    keep_fresh(&mesh_keys, process);
    let (refusals, worker) = audit::queue(Scope::Doors, base.clock());
    let (cancel, reporter) = (process.cancel.clone(), admin.clone());
    process.tasks.spawn(async move {
        worker.run(cancel, |refusals| kombify_cloud::report_refusals(reporter.clone(), refusals)).await;
    });
    let guard = base.guard(base.verifier("cloud", issuer_keys, mesh_keys), Arc::new(TokenOnly), refusals);
    let module = base.module("cloud", base.health());
    start_module(
        base,
        module,
        guard,
        (&kombify_cloud::SERVICES, kombify_cloud::routes(admin)),
        listener,
        process,
    )
}

fn start_gateway(
    base: &Base,
    issuer_keys: Arc<KeySet>,
    listener: TcpListener,
    process: &mut Process,
) -> Result<(), Fault> {
    let no_keys = Arc::new(KeySet::new(NoKeys, base.intervals()));
    let module = base.module("gateway", base.health());
    let services = kombify_gateway::public_services();
    let (own, reporter) = module.routes(&services, Routes::default())?;
    follow_health(&module, reporter, services.iter().map(ToString::to_string).collect(), process);
    let gateway = Gateway {
        module: module.clone(),
        config: base.config.gateway.clone(),
        verifier: base.verifier("gateway", issuer_keys, no_keys),
        upstreams: BTreeMap::from([
            ("admin".to_owned(), base.endpoints.admin.clone()),
            ("cloud".to_owned(), base.endpoints.cloud.clone()),
        ]),
    };
    let transcode = base.transcode_methods(kombify_gateway::public_methods())?;
    let app = gateway.app(own, &transcode)?;
    serve(module, listener, app, process);
    Ok(())
}

/// Starts a module of methods: its rooms, JSON in front of them, health and reflection beside.
fn start_module(
    base: &Base,
    module: Module,
    guard: Guard,
    (services, routes): (&[&str], Routes),
    listener: TcpListener,
    process: &mut Process,
) -> Result<(), Fault> {
    let (routes, reporter) = module.routes(services, routes)?;
    follow_health(&module, reporter, services.iter().map(ToString::to_string).collect(), process);
    let calls = base.transcode(services)?.layer(module.rooms(guard, services, routes));
    let app = module.app(None, calls);
    serve(module, listener, app, process);
    Ok(())
}

fn serve(module: Module, listener: TcpListener, app: App, process: &mut Process) {
    let cancel = process.cancel.clone();
    process.tasks.spawn(async move { module.serve(listener, app, cancel).await });
}

fn follow_health(
    module: &Module,
    reporter: tonic_health::server::HealthReporter,
    services: Vec<String>,
    process: &mut Process,
) {
    let (health, cancel) = (module.health.clone(), process.cancel.clone());
    process.tasks.spawn(async move { health.follow(reporter, services, cancel).await });
}

fn keep_fresh(keys: &Arc<KeySet>, process: &mut Process) {
    let (keys, cancel) = (Arc::clone(keys), process.cancel.clone());
    process.tasks.spawn(async move { keys.run(cancel).await });
}

/// The join secret in `path`; it is made there if there is none.
fn join_secret(path: &Path, ids: &dyn Ids) -> Result<SecretString, Fault> {
    if !path.exists() {
        let mut bytes = [0; 32];
        ids.fill(&mut bytes);
        kombify_mesh::config::write_secret(path, URL_SAFE_NO_PAD.encode(bytes).as_bytes())?;
    }
    Ok(std::fs::read_to_string(path)?.trim().into())
}
