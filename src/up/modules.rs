//! The modules: each with its rooms, its store and its neighbours.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use kombify_admin::{Platform, PlatformDirectory, StoredKeys};
use kombify_core::directory::TokenOnly;
use kombify_core::{Ids, PlatformStore, ServiceIdentity};
use kombify_gateway::Gateway;
use kombify_idp::Idp;
use kombify_mesh::audit::{self, Scope};
use kombify_mesh::client::Peer;
use kombify_mesh::health::DatabaseCheck;
use kombify_mesh::identity::issuer::Issuer;
use kombify_mesh::identity::keys::{KeySet, KeySource, PublishedKey};
use kombify_mesh::identity::service_token::Signer;
use kombify_mesh::join::{self, MeshKeys};
use kombify_mesh::server::{App, Guard, Module};
use kombify_platform_sqlite::PlatformSqlite;
use metrics_exporter_prometheus::PrometheusHandle;
use secrecy::SecretString;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;
use tower::Layer as _;

use super::Sockets;
use super::base::{Base, Stores};
use super::process::{Process, Stage};
use crate::Fault;
use crate::data::Data;

/// How often what was counted is folded.
const UPKEEP_INTERVAL: Duration = Duration::from_secs(5);

/// The name of each module's only instance in this process.
const INSTANCE: &str = "local";

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

/// Folds what was counted, again and again until cancelled: otherwise it would grow until somebody reads `/metrics`.
pub async fn keep_up(metrics: PrometheusHandle, cancel: CancellationToken) {
    loop {
        tokio::select! {
            () = cancel.cancelled() => return,
            () = tokio::time::sleep(UPKEEP_INTERVAL) => metrics.run_upkeep(),
        }
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
    serve(module, Stage::Rest, listener, app, process);
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
    process.spawn(Stage::Rest, |cancel| async move {
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
        (Stage::Admin, listener),
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
    let registrar = stranger.clone();
    process.spawn(Stage::Rest, |cancel| join::register(registrar, signer, join_secret, cancel));
    let mesh_keys = Arc::new(KeySet::new(MeshKeys::new(stranger), base.intervals()));
    keep_fresh(&mesh_keys, process);
    let (refusals, worker) = audit::queue(Scope::Doors, base.clock());
    let reporter = admin.clone();
    process.spawn(Stage::CloudRefusals, |cancel| async move {
        worker.run(cancel, |refusals| kombify_cloud::report_refusals(reporter.clone(), refusals)).await;
    });
    let guard = base.guard(base.verifier("cloud", issuer_keys, mesh_keys), Arc::new(TokenOnly), refusals);
    let module = base.module("cloud", base.health());
    start_module(
        base,
        module,
        guard,
        (&kombify_cloud::SERVICES, kombify_cloud::routes(admin)),
        (Stage::Cloud, listener),
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
    serve(module, Stage::Gateway, listener, app, process);
    Ok(())
}

/// Starts a module of methods: its rooms, JSON in front of them, health and reflection beside.
fn start_module(
    base: &Base,
    module: Module,
    guard: Guard,
    (services, routes): (&[&str], Routes),
    (stage, listener): (Stage, TcpListener),
    process: &mut Process,
) -> Result<(), Fault> {
    let (routes, reporter) = module.routes(services, routes)?;
    follow_health(&module, reporter, services.iter().map(ToString::to_string).collect(), process);
    let calls = base.transcode(services)?.layer(module.rooms(guard, services, routes));
    let app = module.app(None, calls);
    serve(module, stage, listener, app, process);
    Ok(())
}

fn serve(module: Module, stage: Stage, listener: TcpListener, app: App, process: &mut Process) {
    process.spawn(stage, |cancel| async move { module.serve(listener, app, cancel).await });
}

fn follow_health(
    module: &Module,
    reporter: tonic_health::server::HealthReporter,
    services: Vec<String>,
    process: &mut Process,
) {
    let health = module.health.clone();
    process.spawn(Stage::Rest, |cancel| async move { health.follow(reporter, services, cancel).await });
}

fn keep_fresh(keys: &Arc<KeySet>, process: &mut Process) {
    let keys = Arc::clone(keys);
    process.spawn(Stage::Rest, |cancel| async move { keys.run(cancel).await });
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
