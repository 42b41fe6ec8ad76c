//! `kombify up` and `kombify run`: modules in one process.

mod admin;
mod base;
mod cloud;
mod gateway;
mod idp;
mod kits;
mod later;
mod modules;
mod process;
mod seed;
mod stack;
mod welcome;
mod which;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use kombify_mesh::system::{SystemClock, SystemIds};
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};

use self::base::Base;
use self::process::{Process, Stage};
pub use self::which::Which;
use crate::Fault;
use crate::config::{Config, Mode};
use crate::data::{Data, Endpoints, Passwords, endpoints};

/// The sockets of the modules, bound before anything starts: a taken port stops everything before it changed anything.
type Sockets = BTreeMap<Which, TcpListener>;

async fn bind(config: &Config, modules: &[Which], loopback_only: Option<&str>) -> Result<Sockets, Fault> {
    let mut sockets = Sockets::new();
    for &module in modules {
        let address = module.listens(&config.listen);
        if let Some(why) = loopback_only.filter(|_| !address.ip().is_loopback()) {
            return Err(format!("listen.{module} is {address}: {why}, so it listens on loopback only").into());
        }
        let listener = TcpListener::bind(address).await.map_err(|cause| {
            let key = module.name().to_uppercase();
            format!("{module} cannot listen on {address} ({cause}): end what listens there, or choose another address with KOMBIFY__LISTEN__{key}")
        })?;
        sockets.insert(module, listener);
    }
    Ok(sockets)
}

/// Where every module is: those of this process where they listen; the others as configured, else where they would listen
/// here, else where they were when they ran on this data.
fn locate(config: &Config, sockets: &Sockets) -> Result<Endpoints, Fault> {
    let known = endpoints(&config.data).ok();
    let url = |address: SocketAddr| {
        let host = if address.ip().is_loopback() { "localhost".to_owned() } else { address.ip().to_string() };
        format!("http://{host}:{}", address.port())
    };
    let one = |module: Which| -> Result<String, Fault> {
        if let Some(named) = module.elsewhere(&config.endpoints) {
            return Ok(named.to_owned());
        }
        if let Some(listener) = sockets.get(&module) {
            let address = listener.local_addr()?;
            if address.ip().is_unspecified() {
                return Err(format!(
                    "{module} listens on every address of this machine: say in endpoints.{module} by which URL it is reached"
                )
                .into());
            }
            return Ok(url(address));
        }
        let address = module.listens(&config.listen);
        let known =
            known.as_ref().map(|known| module.endpoint(known).to_owned()).filter(|known| !known.is_empty());
        Ok(if address.port() == 0 { known.unwrap_or_default() } else { url(address) })
    };
    let issuer = config.oidc.issuer.trim_end_matches('/');
    Ok(Endpoints {
        gateway: one(Which::Gateway)?,
        admin: one(Which::Admin)?,
        cloud: one(Which::Cloud)?,
        stack: one(Which::Stack)?,
        kits: one(Which::Kits)?,
        idp: if issuer.is_empty() { one(Which::Idp)? } else { issuer.to_owned() },
    })
}

/// Hears from the first moment on that the process is to end: whoever sees "kombify is up" may end it.
struct Ending {
    terminate: Signal,
    interrupt: Signal,
}

impl Ending {
    fn listen() -> Result<Self, Fault> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    async fn wait(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
        tracing::info!("ending: open requests get their time");
    }
}

/// Runs the mesh until SIGTERM or SIGINT, but for the modules that are left out.
///
/// # Errors
/// - one line that says what is in the way, before anything is changed.
pub async fn up(config: Config, without: &[Which]) -> Result<(), Fault> {
    let modules: Vec<Which> = Which::ALL.into_iter().filter(|module| !without.contains(module)).collect();
    if !modules.contains(&Which::Admin) {
        return Err(
            "`up` is the mesh around Admin: run the other modules with `kombify run --service`".into()
        );
    }
    let config = Config { mode: Mode::SaasShared, ..config };
    let why = "`up` has a development identity provider";
    let mut ending = Ending::listen()?;
    let (base, data, sockets) = prepare(config, &modules, Some(why)).await?;
    let stores = base::Stores::open(&base, &data)?;
    let seeded = seed::seed(&base, &data, &stores).await?;
    let mut process = Process::default();
    tokio::select! {
        started = modules::start(&base, &data, stores, sockets, &mut process) => {
            started?;
        }
        () = ending.wait() => return Ok(()),
    }
    data.write_endpoints(&base.endpoints)?;
    welcome::ready(&base.endpoints, &modules).await?;
    welcome::print(&base.endpoints, data.dir(), &modules, &seeded)?;
    seed::mark(&data)?;
    ending.wait().await;
    process.end().await
}

/// Runs some modules until SIGTERM or SIGINT.
///
/// # Errors
/// - one line that says what is in the way, before anything is changed.
pub async fn run(config: Config, modules: &[Which]) -> Result<(), Fault> {
    let mut modules = modules.to_vec();
    modules.sort_unstable();
    modules.dedup();
    if config.mode.has_local_accounts() && modules != [Which::Stack] {
        return Err(
            "in mode self-hosted the Stack runs alone: `run --service stack`, or name another --mode".into(),
        );
    }
    let development = config.oidc.issuer.is_empty() && !config.mode.has_local_accounts();
    let why = if development {
        Some("without oidc.issuer the development identity provider signs people in")
    } else if config.mode.has_local_accounts() {
        None
    } else {
        Some("it speaks plain HTTP; put a gateway that ends TLS before it")
    };
    if !development && modules.contains(&Which::Idp) {
        return Err("the development identity provider runs only where no oidc.issuer is configured".into());
    }
    let mut ending = Ending::listen()?;
    let (base, data, sockets) = prepare(config, &modules, why).await?;
    let stores = base::Stores::open(&base, &data)?;
    if base.runs(Which::Admin) {
        seed::seed(&base, &data, &stores).await?;
    }
    let mut process = Process::default();
    let founded = tokio::select! {
        started = modules::start(&base, &data, stores, sockets, &mut process) => started?,
        () = ending.wait() => return Ok(()),
    };
    if !base.config.mode.has_local_accounts() {
        data.write_endpoints(&base.endpoints)?;
    }
    welcome::ready(&base.endpoints, &modules).await?;
    let passwords: Passwords = founded.into_iter().collect();
    welcome::print(&base.endpoints, data.dir(), &modules, &passwords)?;
    if base.config.mode.has_local_accounts() {
        stack::first_password_shown(&data)?;
    }
    ending.wait().await;
    process.end().await
}

async fn prepare(
    config: Config,
    modules: &[Which],
    loopback_only: Option<&str>,
) -> Result<(Base, Data, Sockets), Fault> {
    kombify_mesh::telemetry::start_logs(&config.log);
    let metrics = kombify_mesh::telemetry::start_metrics()?;
    let data = Data::take(&config.data, modules)?;
    let sockets = bind(&config, modules, loopback_only).await?;
    let endpoints = locate(&config, &sockets)?;
    let (clock, ids) = (Arc::new(SystemClock), Arc::new(SystemIds));
    let base = Base { config, metrics, clock, ids, endpoints, modules: modules.to_vec() };
    Ok((base, data, sockets))
}

/// Keeps what was counted folded, in every process.
fn keep_up(base: &Base, process: &mut Process) {
    let metrics = base.metrics.clone();
    process.spawn(Stage::Rest, |cancel| modules::keep_up(metrics, cancel));
}
