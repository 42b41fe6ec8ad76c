//! The Stack.

use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use kombify_core::audit::Refusal;
use kombify_core::host::HostStore;
use kombify_core::{Clock as _, Ids as _, InstanceId, InstanceKeep, ServiceIdentity};
use kombify_kits::Reach;
use kombify_mesh::audit::{self, Scope};
use kombify_mesh::client::Peer;
use kombify_mesh::health::{DatabaseCheck, Health};
use kombify_mesh::identity::keys::{KeySet, KeySource, PublishedKey};
use kombify_mesh::identity::service_token::Signer;
use kombify_mesh::identity::verifier::Verifier;
use kombify_mesh::join::{self, MeshKeys};
use kombify_mesh::server::{App, Guard, Module, Pages};
use kombify_stack::{Entrance, Host, HostCounts, HostDirectory, HostSessions, MeshKits};
use kombify_stack_sqlite::StackSqlite;
use secrecy::{ExposeSecret as _, SecretString};
use tokio::net::TcpListener;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tower::util::BoxCloneSyncService;

use super::base::Base;
use super::kits;
use super::later::Later;
use super::modules::{FirstAccount, assemble, keep_fresh, report_health, secret_file, serve};
use super::process::{Process, Stage};
use crate::Fault;
use crate::data::Data;

/// How often is looked for tenants' files that nobody uses.
const CLOSE_IDLE_INTERVAL: Duration = Duration::from_secs(10);

struct StackCheck(Arc<StackSqlite>);

#[async_trait]
impl DatabaseCheck for StackCheck {
    async fn check(&self) -> kombify_core::Result<()> {
        self.0.check().await
    }
}

/// The keys of a Stack that stands alone: nobody signs for it.
struct NoKeys;

#[async_trait]
impl KeySource for NoKeys {
    async fn fetch(&self) -> kombify_core::Result<Vec<PublishedKey>> {
        Ok(Vec::new())
    }
}

/// Starts it as an instance of the platform. Until the instance was claimed at Admin once, everything is answered with
/// `SERVICE_UNAVAILABLE`, and the start waits; afterwards it serves whether Admin is there or not.
///
/// # Errors
/// - if it cannot be put together.
pub async fn start(
    base: &Base,
    data: &Data,
    store: Arc<StackSqlite>,
    issuer_keys: Arc<KeySet>,
    listener: TcpListener,
    process: &mut Process,
) -> Result<(), Fault> {
    let health = keep_well(base, data, &store, process);
    let module = base.module("stack", health.clone());
    let later = Later::new(&module, "this instance was not claimed at Admin yet");
    serve(module.clone(), Stage::Stack, listener, BoxCloneSyncService::new(later.clone()), process);
    let claim = Claim::open(base, data)?;
    let instance = if let Some(instance) = HostStore::identity(&*store).await? {
        // Everything is pushed anew to a Stack that has started.
        process.spawn(Stage::Rest, |cancel| async move {
            let _ = claim.claim(&cancel).await; // Whoever it is: it is remembered already.
        });
        instance
    } else {
        let cancel = CancellationToken::new();
        let instance = claim.claim(&cancel).await.ok_or("the instance was not claimed")?;
        HostStore::remember_identity(&*store, instance).await?;
        instance
    };
    let own = ServiceIdentity { module: "stack".into(), instance: instance.to_string() };
    let signer = Arc::new(Signer::open(&data.file(KEY), own, base.clock())?);
    let admin = Peer::new("admin", &base.endpoints.admin, Arc::clone(&signer))?;
    let kits = Peer::new("kits", &base.endpoints.kits, signer)?;
    let mesh_keys =
        Arc::new(KeySet::new(MeshKeys::new(Peer::anonymous(&base.endpoints.admin)?), base.intervals()));
    keep_fresh(&mesh_keys, process);
    let keep: Arc<dyn InstanceKeep> = store;
    let host = Host {
        keep: Arc::clone(&keep),
        clock: base.clock(),
        ids: base.ids(),
        instance,
        origin: base.endpoints.stack.clone(),
        entrance: Entrance::Platform { admin: admin.clone(), cloud: base.endpoints.cloud.clone() },
        kits: Arc::new(MeshKits::new(kits)),
        max_tenants: base.config.stack.max_tenants,
    };
    let (reporting, reporter) = (Arc::clone(&keep), admin.clone());
    process.spawn(Stage::Stack, |cancel| kombify_stack::report_tenants(reporting, reporter, cancel));
    let counts = Arc::new(HostCounts(Arc::clone(&keep)));
    report_health(base, (health, counts), admin, Some(data.dir().to_owned()), process);
    let verifier = base.verifier(&format!("stack/{instance}"), issuer_keys, mesh_keys);
    later.arrive(put_together(base, &module, host, verifier, process)?);
    Ok(())
}

/// The password of the first account, from before there is the account until after it was printed; its owner's alone.
const FIRST_PASSWORD: &str = "stack/first-password";

/// Starts it alone: it founds its one tenant, and gives the password of its first account, at every start again until
/// [`first_password_shown`].
///
/// # Errors
/// - if it cannot be put together.
pub async fn start_alone(
    base: &Base,
    data: &Data,
    store: Arc<StackSqlite>,
    listener: TcpListener,
    process: &mut Process,
) -> Result<FirstAccount, Fault> {
    let health = keep_well(base, data, &store, process);
    let module = base.module("stack", health);
    let instance = if let Some(instance) = HostStore::identity(&*store).await? {
        instance
    } else {
        let instance = base.ids.instance(base.clock.now());
        HostStore::remember_identity(&*store, instance).await?;
        instance
    };
    let kits = kits::registry(base, data)?;
    kits.look(Reach::ThisMachine).await;
    let looking = Arc::clone(&kits);
    process.spawn(Stage::Rest, |cancel| looking.run(cancel));
    let host = Host {
        keep: store,
        clock: base.clock(),
        ids: base.ids(),
        instance,
        origin: base.endpoints.stack.clone(),
        entrance: Entrance::Alone,
        kits: Arc::new(kits::LocalKits(kits)),
        max_tenants: 1,
    };
    let file = data.file(FIRST_PASSWORD);
    let note = |password: &SecretString| note_first_password(&file, password);
    let founded = kombify_stack::found(&host, unshown_first_password(&file)?, note).await?;
    let nobody = || Arc::new(KeySet::new(NoKeys, base.intervals()));
    let verifier = base.verifier("stack", nobody(), nobody());
    let app = put_together(base, &module, host, verifier, process)?;
    serve(module, Stage::Stack, listener, app, process);
    Ok(founded.map(|founded| (founded.login, founded.password.expose_secret().to_owned())))
}

/// Forgets the password of the first account: somebody saw it, or it is another one by now.
///
/// # Errors
/// - if its file cannot be removed.
pub fn first_password_shown(data: &Data) -> Result<(), Fault> {
    let file = data.file(FIRST_PASSWORD);
    match std::fs::remove_file(&file) {
        Err(cause) if cause.kind() != ErrorKind::NotFound => {
            Err(format!("{} cannot be removed: {cause}", file.display()).into())
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

fn unshown_first_password(file: &Path) -> Result<Option<SecretString>, Fault> {
    match std::fs::read_to_string(file) {
        Ok(password) => Ok(Some(password.into())),
        Err(cause) if cause.kind() == ErrorKind::NotFound => Ok(None),
        Err(cause) => Err(format!("{} cannot be read: {cause}", file.display()).into()),
    }
}

fn note_first_password(file: &Path, password: &SecretString) -> Result<(), Fault> {
    let written = kombify_mesh::config::write_secret(file, password.expose_secret().as_bytes());
    // The name must outlast a power cut, too: the account does.
    let lasting = written.and_then(|()| std::fs::File::open(file.parent().unwrap_or(file))?.sync_all());
    lasting.map_err(|cause| format!("{} cannot be written: {cause}", file.display()).into())
}

/// The key with which the Stack signs.
const KEY: &str = "keys/stack.pkcs8";

/// What claims the instance: its name, its secret and its key.
struct Claim {
    admin: Peer,
    claimant: Signer,
    join_secret: SecretString,
}

impl Claim {
    fn open(base: &Base, data: &Data) -> Result<Self, Fault> {
        let config = &base.config.stack;
        let own = ServiceIdentity { module: "stack".into(), instance: config.instance.clone() };
        let join_secret = match &config.join_secret_file {
            Some(file) => std::fs::read_to_string(file)
                .map_err(|cause| {
                    format!("stack.join_secret_file {} cannot be read: {cause}", file.display())
                })?
                .trim()
                .into(),
            None => secret_file(&data.file(&join_secret_name(&config.instance)), &*base.ids)?,
        };
        Ok(Self {
            admin: Peer::anonymous(&base.endpoints.admin)?,
            claimant: Signer::open(&data.file(KEY), own, base.clock())?,
            join_secret,
        })
    }

    async fn claim(&self, cancel: &CancellationToken) -> Option<InstanceId> {
        join::claim(self.admin.clone(), &self.claimant, &self.join_secret, cancel).await
    }
}

/// The file with the join secret of the instance of that name.
pub fn join_secret_name(instance: &str) -> String {
    format!("join/stack-{instance}.secret")
}

/// The health of the Stack, and the worker that closes what nobody uses.
fn keep_well(base: &Base, data: &Data, store: &Arc<StackSqlite>, process: &mut Process) -> Health {
    let idle = Arc::clone(store);
    process.spawn(Stage::Rest, |cancel| async move {
        loop {
            tokio::select! {
                () = cancel.cancelled() => return,
                () = tokio::time::sleep(CLOSE_IDLE_INTERVAL) => idle.close_idle(Instant::now()),
            }
        }
    });
    base.health().with_database(Arc::new(StackCheck(Arc::clone(store))), data.dir().to_owned())
}

fn put_together(
    base: &Base,
    module: &Module,
    host: Host,
    verifier: Arc<Verifier>,
    process: &mut Process,
) -> Result<App, Fault> {
    let (refusals, worker) = audit::queue(Scope::Everything, base.clock());
    let log = Arc::clone(&host.keep);
    process.spawn(Stage::Rest, |cancel| async move {
        let deliver = |refusals: Vec<Refusal>| {
            let log = Arc::clone(&log);
            async move { HostStore::append_refusals(&*log, &refusals).await }
        };
        worker.run(cancel, deliver).await;
    });
    let sessions = Arc::new(HostSessions::new(host.clone()));
    let guard = Guard {
        sessions: Some(sessions),
        ..base.guard(verifier, Arc::new(HostDirectory::new(host.clone())), refusals)
    };
    let methods = (&kombify_stack::SERVICES[..], kombify_stack::routes(&host));
    let pages =
        |calls| Some(Pages { router: kombify_stack::pages(host, calls), paths: Some(&kombify_stack::PAGES) });
    assemble(base, module, guard, methods, pages, process)
}
