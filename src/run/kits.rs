//! The registry of StackKits.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use include_dir::{Dir, DirEntry, include_dir};
use kombify_contracts::kombify::kits::v1::{Kit as KitMessage, KitSummary};
use kombify_core::stack::PinnedKit;
use kombify_core::{Plan, ServiceIdentity, TenantId};
use kombify_kits::{GitSource, Kits, KitsDirectory, Place, Reach, Registry, RegistryConfig, Source, Viewer};
use kombify_mesh::audit::{self, Scope};
use kombify_mesh::client::Peer;
use kombify_mesh::identity::keys::KeySet;
use kombify_mesh::identity::service_token::Signer;
use kombify_mesh::join::{self, MeshKeys};
use kombify_mesh::report::NoCounts;
use kombify_stack::KitRegistry;
use secrecy::{ExposeSecret as _, SecretString};
use tokio::net::TcpListener;
use tokio::time::Instant;

use super::base::Base;
use super::modules::{INSTANCE, assemble, keep_fresh, report_health, secret_file, serve};
use super::process::{Process, Stage};
use super::which::Which;
use crate::Fault;
use crate::config::KitSource;
use crate::data::Data;

/// The kits that come with the program.
static BUILT_IN: Dir<'static> = include_dir!("$CARGO_MANIFEST_DIR/kits");

/// The name of the source that they are.
const BUILT_IN_NAME: &str = "kombify";

/// Where every version is kept, with the data.
const KEEP: &str = "kits";

/// How long a repository may take for one answer.
const GIT_TIMEOUT: Duration = Duration::from_mins(1);

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
    let own = ServiceIdentity { module: "kits".into(), instance: INSTANCE.into() };
    let signer = Arc::new(Signer::open(&data.file("keys/kits.pkcs8"), own, base.clock())?);
    let stranger = Peer::anonymous(&base.endpoints.admin)?;
    let admin = Peer::new("admin", &base.endpoints.admin, Arc::clone(&signer))?;
    let (registrar, origin) = (stranger.clone(), base.endpoints.kits.clone());
    let secret = secret_file(&data.file("join/kits.secret"), &*base.ids)?;
    process.spawn(Stage::Rest, |cancel| join::register(registrar, signer, secret, origin, cancel));
    let mesh_keys = Arc::new(KeySet::new(MeshKeys::new(stranger), base.intervals()));
    keep_fresh(&mesh_keys, process);
    let (refusals, worker) = audit::queue(Scope::Everything, base.clock());
    let reporter = admin.clone();
    process.spawn(Stage::Pushes, |cancel| async move {
        worker.run(cancel, |refusals| kombify_mesh::refusals::report(reporter.clone(), refusals)).await;
    });
    let module = base.module("kits", base.health().with_storage(data.dir().to_owned()));
    let storage = Some(data.dir().to_owned());
    report_health(base, (module.health.clone(), Arc::new(NoCounts)), admin, storage, process);
    let registry = registry(base, data)?;
    // What is there is there from the first answer on; what repositories have anew comes soon.
    registry.look(Reach::ThisMachine).await;
    let looking = Arc::clone(&registry);
    process.spawn(Stage::Kits, |cancel| looking.run(cancel));
    let kits =
        Kits { registry, organisations: Arc::default(), revocations: Arc::default(), clock: base.clock() };
    let verifier = base.verifier("kits", issuer_keys, mesh_keys);
    let guard = base.guard(verifier, Arc::new(KitsDirectory::new(&kits)), refusals);
    let methods = (&kombify_kits::SERVICES[..], kombify_kits::routes(&kits));
    let app = assemble(base, &module, guard, methods, |_| None, process)?;
    serve(module, Stage::Kits, listener, app, process);
    // Until Admin has pushed its sets, nobody is let in.
    let deadline = Instant::now() + PUSHED_WITHIN;
    let are_there = || kits.organisations.are_there() && kits.revocations.are_there();
    while base.runs(Which::Admin) && !are_there() && Instant::now() < deadline {
        tokio::time::sleep(LOOK_AGAIN).await;
    }
    Ok(())
}

/// Whoever works at a Stack that stands alone has the plan enterprise, and is of no organisation.
const EVERYTHING: Viewer = Viewer { plan: Plan::Enterprise, owner: None };

/// The registry of a Stack that stands alone.
pub struct LocalKits(pub Arc<Registry>);

#[async_trait]
impl KitRegistry for LocalKits {
    async fn pin(&self, _: TenantId, kit: &str, range: &str, spec: &str) -> kombify_core::Result<PinnedKit> {
        let (version, digest) = self.0.pin(&EVERYTHING, kit, range, spec.to_owned()).await?;
        Ok(PinnedKit { id: kit.to_owned(), version: version.to_string(), digest: digest.to_string() })
    }

    async fn list(&self, _: TenantId) -> kombify_core::Result<Vec<KitSummary>> {
        Ok(self.0.summaries(&EVERYTHING, usize::try_from(kombify_stack::KITS_SHOWN).unwrap_or_default()))
    }

    async fn get(&self, _: TenantId, kit: &str) -> kombify_core::Result<KitMessage> {
        self.0.describe(&EVERYTHING, kit, &[]).await
    }
}

/// The registry as it is configured.
///
/// # Errors
/// - one line that says what is wrong with a source.
pub fn registry(base: &Base, data: &Data) -> Result<Arc<Registry>, Fault> {
    let config = &base.config.kits;
    let mut sources = Vec::new();
    if config.built_in {
        sources.push(Source {
            name: BUILT_IN_NAME.to_owned(),
            place: Place::BuiltIn(built_in().into()),
            organisation: None,
        });
    }
    for (index, source) in config.sources.iter().enumerate() {
        let read = read(source, &data.file(KEEP).join(".git").join(&source.name));
        sources.push(read.map_err(|cause| format!("kits.sources[{index}]: {cause}"))?);
    }
    let refresh = Duration::from_secs(config.refresh_seconds.max(1));
    Ok(Arc::new(Registry::new(RegistryConfig { sources, keep: data.file(KEEP), refresh })?))
}

fn read(source: &KitSource, directory: &Path) -> Result<Source, Fault> {
    let KitSource { name, path, git, user, password_file, folder, organisation } = source;
    let of_a_repository = folder.is_some() || user.is_some() || password_file.is_some();
    let place = match (path, git) {
        (Some(path), None) if !of_a_repository => Place::Directory(path.clone()),
        (Some(_), None) => {
            return Err("`folder`, `user` and `password_file` are of a repository: name its `git`".into());
        }
        (None, Some(url)) => {
            let url = with_credentials(url, user.as_deref(), password_file.as_deref())?;
            let folder = folder.as_deref().unwrap_or_default();
            Place::Git(Arc::new(GitSource::new(url.expose_secret(), folder, directory, GIT_TIMEOUT)?))
        }
        (Some(_), Some(_)) | (None, None) => return Err("name one of `path` and `git`".into()),
    };
    if organisation.as_ref().is_some_and(|owner| owner.trim() != owner) {
        return Err("`organisation` must be an id, without blanks around it".into());
    }
    let organisation = organisation.as_ref().map(|owner| owner.parse()).transpose()?;
    Ok(Source { name: name.clone(), place, organisation })
}

/// The URL with who asks. A password in the configuration itself would be shown by whoever shows a line of it.
fn with_credentials(url: &str, user: Option<&str>, file: Option<&Path>) -> Result<SecretString, Fault> {
    if url.contains('@') && !url.starts_with("ssh://") {
        return Err("`git` must hold no password: name who asks by `user` and `password_file`".into());
    }
    let Some(file) = file else {
        return match user {
            None => Ok(url.to_owned().into()),
            Some(_) => Err("`user` needs its `password_file`".into()),
        };
    };
    let password = std::fs::read_to_string(file)
        .map_err(|cause| format!("password_file {} cannot be read: {cause}", file.display()))?;
    let mut parsed = reqwest::Url::parse(url).map_err(|_| "`git` is no URL")?;
    let set =
        parsed.set_username(user.unwrap_or("git")).and_then(|()| parsed.set_password(Some(password.trim())));
    set.map_err(|()| "`password_file` is for http:// and https://")?;
    Ok(String::from(parsed).into())
}

/// The kits that come with the program, each path with its content.
pub fn built_in() -> Vec<(&'static str, &'static [u8])> {
    let mut files = Vec::new();
    let mut dirs = vec![&BUILT_IN];
    while let Some(dir) = dirs.pop() {
        for entry in dir.entries() {
            match entry {
                DirEntry::Dir(dir) => dirs.push(dir),
                DirEntry::File(file) => {
                    files.extend(file.path().to_str().map(|path| (path, file.contents())));
                }
            }
        }
    }
    files.sort_unstable();
    files
}
