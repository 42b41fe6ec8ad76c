//! What the modules have in common when they start.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use kombify_core::Ids;
use kombify_mesh::client::Peer;
use kombify_mesh::health::Health;
use kombify_mesh::identity::issuer::Issuer;
use kombify_mesh::identity::keys::KeySet;
use kombify_mesh::report::{Counts, Reporter, to_admin};
use kombify_mesh::server::{App, Guard, Module, Pages};
use metrics_exporter_prometheus::PrometheusHandle;
use secrecy::SecretString;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;
use tower::Layer as _;

use super::base::{Base, Stores};
use super::process::{Process, Stage};
use super::which::Which;
use super::{Sockets, admin, cloud, gateway, idp, kits, stack};
use crate::Fault;
use crate::data::Data;

/// How often what was counted is folded.
const UPKEEP_INTERVAL: Duration = Duration::from_secs(5);

/// The name of each module's only instance in this process.
pub const INSTANCE: &str = "local";

/// Folds what was counted, again and again until cancelled: otherwise it would grow until somebody reads `/metrics`.
pub async fn keep_up(metrics: PrometheusHandle, cancel: CancellationToken) {
    loop {
        tokio::select! {
            () = cancel.cancelled() => return,
            () = tokio::time::sleep(UPKEEP_INTERVAL) => metrics.run_upkeep(),
        }
    }
}

/// What was founded by a module that stands alone, and not shown for sure yet: a login and its password.
pub type FirstAccount = Option<(String, String)>;

/// Starts the modules of this process.
///
/// # Errors
/// - if a module cannot be put together.
pub async fn start(
    base: &Base,
    data: &Data,
    stores: Stores,
    mut sockets: Sockets,
    process: &mut Process,
) -> Result<FirstAccount, Fault> {
    super::keep_up(base, process);
    let mut socket = |module: Which| sockets.remove(&module);
    if let (Some(idp), Some(listener)) = (&stores.idp, socket(Which::Idp)) {
        idp::start(base, data, idp, listener, process)?;
    }
    if base.config.mode.has_local_accounts() {
        let (Some(store), Some(listener)) = (stores.stack, socket(Which::Stack)) else { return Ok(None) };
        return stack::start_alone(base, data, store, listener, process).await;
    }
    let issuer = Issuer::new(&base.endpoints.idp)?;
    let issuer_keys = Arc::new(KeySet::new(issuer.clone(), base.intervals()));
    keep_fresh(&issuer_keys, process);
    if let (Some(store), Some(listener)) = (stores.platform, socket(Which::Admin)) {
        admin::start(base, data, store, (issuer, Arc::clone(&issuer_keys)), listener, process)?;
    }
    if let Some(listener) = socket(Which::Kits) {
        kits::start(base, data, Arc::clone(&issuer_keys), listener, process).await?;
    }
    if let (Some(store), Some(listener)) = (stores.stack, socket(Which::Stack)) {
        stack::start(base, data, store, Arc::clone(&issuer_keys), listener, process).await?;
    }
    if let Some(listener) = socket(Which::Cloud) {
        cloud::start(base, data, Arc::clone(&issuer_keys), listener, process).await?;
    }
    if let Some(listener) = socket(Which::Gateway) {
        gateway::start(base, data, issuer_keys, listener, process)?;
    }
    Ok(None)
}

/// A whole module of methods: its rooms, JSON in front of them, pages, health and reflection beside.
///
/// # Errors
/// - if it cannot be put together.
pub fn assemble(
    base: &Base,
    module: &Module,
    guard: Guard,
    (services, routes): (&[&str], Routes),
    pages: impl FnOnce(App) -> Option<Pages>,
    process: &mut Process,
) -> Result<App, Fault> {
    let (routes, reporter) = module.routes(services, routes)?;
    follow_health(module, reporter, services.iter().map(ToString::to_string).collect(), process);
    let limiter = Arc::clone(&guard.limiter);
    let rooms = module.rooms(guard, services, routes);
    let pages = pages(rooms.clone()).map(|pages| pages.counted(limiter));
    let calls = base.transcode(services)?.layer(rooms);
    Ok(module.app(pages, calls))
}

/// Serves an app until its stage ends.
pub fn serve(module: Module, stage: Stage, listener: TcpListener, app: App, process: &mut Process) {
    process.spawn(stage, |cancel| async move { module.serve(listener, app, cancel).await });
}

/// Lets the gRPC health of a module follow its checks.
pub fn follow_health(
    module: &Module,
    reporter: tonic_health::server::HealthReporter,
    services: Vec<String>,
    process: &mut Process,
) {
    let health = module.health.clone();
    process.spawn(Stage::Rest, |cancel| async move { health.follow(reporter, services, cancel).await });
}

/// Lets a module report to Admin how it is.
pub fn report_health(
    base: &Base,
    (health, counts): (Health, Arc<dyn Counts>),
    admin: Peer,
    storage: Option<std::path::PathBuf>,
    process: &mut Process,
) {
    let reporter = Reporter { health, counts, storage, clock: base.clock(), ids: base.ids() };
    let clock = base.clock();
    process.spawn(Stage::Gateway, |cancel| async move {
        reporter.run(cancel, |report| to_admin(admin.clone(), Arc::clone(&clock), report)).await;
    });
}

/// Fetches keys again and again.
pub fn keep_fresh(keys: &Arc<KeySet>, process: &mut Process) {
    let keys = Arc::clone(keys);
    process.spawn(Stage::Rest, |cancel| async move { keys.run(cancel).await });
}

/// The secret in `path`; it is made there if there is none.
///
/// # Errors
/// - what the system says.
pub fn secret_file(path: &Path, ids: &dyn Ids) -> Result<SecretString, Fault> {
    if !path.exists() {
        let mut bytes = [0; 32];
        ids.fill(&mut bytes);
        kombify_mesh::config::write_secret(path, URL_SAFE_NO_PAD.encode(bytes).as_bytes())?;
    }
    Ok(std::fs::read_to_string(path)
        .map_err(|cause| format!("{} cannot be read: {cause}", path.display()))?
        .trim()
        .into())
}
