//! Cloud.

use std::sync::Arc;
use std::time::Duration;

use kombify_cloud::{CloudDirectory, Portal, PortalConfig};
use kombify_core::ServiceIdentity;
use kombify_mesh::audit::{self, Scope};
use kombify_mesh::client::Peer;
use kombify_mesh::identity::keys::KeySet;
use kombify_mesh::identity::service_token::Signer;
use kombify_mesh::join::{self, MeshKeys};
use kombify_mesh::pushed::Revocations;
use kombify_mesh::report::NoCounts;
use kombify_mesh::server::Pages;
use tokio::net::TcpListener;
use tokio::time::Instant;

use super::base::Base;
use super::modules::{INSTANCE, assemble, keep_fresh, report_health, secret_file, serve};
use super::process::{Process, Stage};
use super::which::Which;
use crate::Fault;
use crate::data::Data;

/// How long the identity provider may take for one answer.
const PROVIDER_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a start waits for what Admin, in the same process, pushes.
const PUSHED_WITHIN: Duration = Duration::from_secs(10);

/// Between two looks at whether it has come.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// Starts it.
///
/// # Errors
/// - if it cannot be put together.
pub async fn start(
    base: &Base,
    data: &Data,
    issuer_keys: Arc<KeySet>,
    listener: TcpListener,
    process: &mut Process,
) -> Result<(), Fault> {
    let own = ServiceIdentity { module: "cloud".into(), instance: INSTANCE.into() };
    let signer = Arc::new(Signer::open(&data.file("keys/cloud.pkcs8"), own, base.clock())?);
    let stranger = Peer::anonymous(&base.endpoints.admin)?;
    let admin = Peer::new("admin", &base.endpoints.admin, Arc::clone(&signer))?;
    let kits = Peer::new("kits", &base.endpoints.kits, Arc::clone(&signer))?;
    let (registrar, origin) = (stranger.clone(), base.endpoints.cloud.clone());
    let secret = secret_file(&data.file("join/cloud.secret"), &*base.ids)?;
    process.spawn(Stage::Rest, |cancel| join::register(registrar, signer, secret, origin, cancel));
    let mesh_keys = Arc::new(KeySet::new(MeshKeys::new(stranger), base.intervals()));
    keep_fresh(&mesh_keys, process);
    let (refusals, worker) = audit::queue(Scope::Doors, base.clock());
    let reporter = admin.clone();
    process.spawn(Stage::CloudRefusals, |cancel| async move {
        worker.run(cancel, |refusals| kombify_mesh::refusals::report(reporter.clone(), refusals)).await;
    });
    let module = base.module("cloud", base.health());
    report_health(base, (module.health.clone(), Arc::new(NoCounts)), admin.clone(), None, process);
    let revocations = Arc::new(Revocations::default());
    let portal = Portal::new(PortalConfig {
        admin: admin.clone(),
        kits,
        issuer: base.endpoints.idp.clone(),
        client_id: base.config.oidc.client_id.clone(),
        origin: base.endpoints.cloud.clone(),
        key: secret_file(&data.file("keys/cloud.seal"), &*base.ids)?,
        clock: base.clock(),
        ids: base.ids(),
        issuer_keys: Arc::clone(&issuer_keys),
        revocations: Arc::clone(&revocations),
        http: reqwest::Client::builder()
            .timeout(PROVIDER_TIMEOUT)
            .redirect(reqwest::redirect::Policy::none())
            .build()?,
    })?;
    let verifier = base.verifier("cloud", issuer_keys, mesh_keys);
    let directory = Arc::new(CloudDirectory::new(Arc::clone(&revocations)));
    let guard = base.guard(verifier, directory, refusals);
    let methods = (&kombify_cloud::SERVICES[..], kombify_cloud::routes(admin, Arc::clone(&revocations)));
    let pages = |_| Some(Pages { router: kombify_cloud::pages(portal), paths: Some(kombify_cloud::PAGES) });
    let app = assemble(base, &module, guard, methods, pages, process)?;
    serve(module, Stage::Cloud, listener, app, process);
    // Until Admin has pushed the revocations, nobody is let in.
    let deadline = Instant::now() + PUSHED_WITHIN;
    while base.runs(Which::Admin) && !revocations.are_there() && Instant::now() < deadline {
        tokio::time::sleep(LOOK_AGAIN).await;
    }
    Ok(())
}
