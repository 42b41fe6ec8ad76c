//! Admin.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use kombify_admin::{Platform, PlatformDirectory, ProviderUsers, Pusher, StoredKeys};
use kombify_core::health::HealthStore;
use kombify_core::{PlatformStore, ServiceIdentity};
use kombify_mesh::audit::{self, Scope};
use kombify_mesh::health::DatabaseCheck;
use kombify_mesh::identity::issuer::Issuer;
use kombify_mesh::identity::keys::KeySet;
use kombify_mesh::identity::service_token::Signer;
use kombify_mesh::report::{NoCounts, Reporter};
use kombify_platform_sqlite::PlatformSqlite;
use tokio::net::TcpListener;

use super::base::Base;
use super::idp::SERVICE_TOKEN;
use super::modules::{INSTANCE, assemble, keep_fresh, secret_file, serve};
use super::process::{Process, Stage};
use crate::Fault;
use crate::data::Data;

/// The modules that join by a secret of their own; a Stack claims its instance instead.
const JOINING: [&str; 3] = ["cloud", "gateway", "kits"];

struct PlatformCheck(Arc<PlatformSqlite>);

#[async_trait]
impl DatabaseCheck for PlatformCheck {
    async fn check(&self) -> kombify_core::Result<()> {
        self.0.database().check().await
    }
}

/// Starts it.
///
/// # Errors
/// - if it cannot be put together.
pub fn start(
    base: &Base,
    data: &Data,
    store: Arc<PlatformSqlite>,
    (issuer, issuer_keys): (Issuer, Arc<KeySet>),
    listener: TcpListener,
    process: &mut Process,
) -> Result<(), Fault> {
    let own = ServiceIdentity { module: "admin".into(), instance: INSTANCE.into() };
    let signer = Arc::new(Signer::open(&data.file("keys/admin.pkcs8"), own.clone(), base.clock())?);
    let health =
        base.health().with_database(Arc::new(PlatformCheck(Arc::clone(&store))), data.dir().to_owned());
    let store: Arc<dyn PlatformStore> = store;
    let stored = StoredKeys::new(Arc::clone(&store), signer.public());
    let join_secrets = JOINING
        .into_iter()
        .map(|module| {
            let file = data.file(&format!("join/{module}.secret"));
            Ok((module.to_owned(), secret_file(&file, &*base.ids)?))
        })
        .collect::<Result<BTreeMap<_, _>, Fault>>()?;
    let platform = Platform {
        store: Arc::clone(&store),
        clock: base.clock(),
        ids: base.ids(),
        issuer,
        mesh_keys: Arc::new(KeySet::new(stored, base.intervals())),
        own_key: signer.public(),
        join_secrets: Arc::new(join_secrets),
        provider: provider(base, data)?,
        pushes: Arc::default(),
        acknowledgements: Arc::default(),
        default_region: base.config.region.parse()?,
    };
    keep_fresh(&platform.mesh_keys, process);
    let (refusals, worker) = audit::queue(Scope::Everything, base.clock());
    let log = Arc::clone(&store);
    process.spawn(Stage::Rest, |cancel| async move {
        worker.run(cancel, |refusals| kombify_admin::keep_refusals(Arc::clone(&log), refusals)).await;
    });
    let pusher = Pusher::new(&platform, signer);
    process.spawn(Stage::Pushes, |cancel| pusher.run(cancel));
    let (sweeping, interval) =
        (platform.clone(), Duration::from_secs(base.config.admin.sweep_seconds.max(1)));
    process.spawn(Stage::Rest, |cancel| kombify_admin::sweep(sweeping, interval, cancel));
    let listening = platform.clone();
    process.spawn(Stage::Rest, |cancel| kombify_admin::note_silences(listening, cancel));
    report_itself(base, data, own, (health.clone(), store), process);
    let verifier = base.verifier("admin", issuer_keys, Arc::clone(&platform.mesh_keys));
    let directory = Arc::new(PlatformDirectory::new(platform.clone()));
    let guard = base.guard(verifier, directory, refusals);
    let module = base.module("admin", health);
    let methods = (&kombify_admin::SERVICES[..], kombify_admin::routes(&platform));
    let app = assemble(base, &module, guard, methods, |_| None, process)?;
    serve(module, Stage::Admin, listener, app, process);
    Ok(())
}

/// Admin's own reports go straight into its store.
fn report_itself(
    base: &Base,
    data: &Data,
    own: ServiceIdentity,
    (health, store): (kombify_mesh::health::Health, Arc<dyn PlatformStore>),
    process: &mut Process,
) {
    let reporter = Reporter {
        health,
        counts: Arc::new(NoCounts),
        storage: Some(data.dir().to_owned()),
        clock: base.clock(),
        ids: base.ids(),
    };
    let clock = base.clock();
    process.spawn(Stage::Gateway, |cancel| async move {
        let send = |report| {
            let (store, own, now) = (Arc::clone(&store), own.clone(), clock.now());
            async move { HealthStore::report(&*store, &own, &report, now).await }
        };
        reporter.run(cancel, send).await;
    });
}

/// The users of the identity provider: with the configured token, else with the development provider's own.
fn provider(base: &Base, data: &Data) -> Result<ProviderUsers, Fault> {
    let token = match (&base.config.zitadel.token_file, base.config.oidc.issuer.is_empty()) {
        (Some(file), _) => Some(
            std::fs::read_to_string(file)
                .map_err(|cause| format!("zitadel.token_file {} cannot be read: {cause}", file.display()))?
                .trim()
                .into(),
        ),
        (None, true) => Some(secret_file(&data.file(SERVICE_TOKEN), &*base.ids)?),
        (None, false) => None,
    };
    Ok(ProviderUsers::new(&base.endpoints.idp, token)?)
}
