//! `kombify up`: the whole mesh in one process.

mod base;
mod modules;
mod process;
mod seed;
mod welcome;

use std::sync::Arc;

use kombify_mesh::system::{SystemClock, SystemIds};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

use self::process::{Process, Stage};
use crate::Fault;
use crate::config::{Config, Listen};
use crate::data::{Data, Endpoints};

/// The sockets of the modules, bound before anything starts: a taken port stops `up` before it changed anything.
pub struct Sockets {
    pub gateway: TcpListener,
    pub admin: TcpListener,
    pub cloud: TcpListener,
    pub idp: TcpListener,
}

impl Sockets {
    async fn bind(listen: &Listen) -> Result<Self, Fault> {
        async fn one(module: &str, address: std::net::SocketAddr) -> Result<TcpListener, Fault> {
            if !address.ip().is_loopback() {
                return Err(format!("listen.{module} is {address}: `up` has a development identity provider, so it listens on loopback only").into());
            }
            TcpListener::bind(address).await.map_err(|cause| {
                let key = module.to_uppercase();
                format!("{module} cannot listen on {address} ({cause}): end what listens there, or choose another address with KOMBIFY__LISTEN__{key}").into()
            })
        }
        Ok(Self {
            gateway: one("gateway", listen.gateway).await?,
            admin: one("admin", listen.admin).await?,
            cloud: one("cloud", listen.cloud).await?,
            idp: one("idp", listen.idp).await?,
        })
    }

    fn endpoints(&self) -> Result<Endpoints, Fault> {
        let url = |listener: &TcpListener| -> Result<String, Fault> {
            Ok(format!("http://localhost:{}", listener.local_addr()?.port()))
        };
        Ok(Endpoints {
            gateway: url(&self.gateway)?,
            admin: url(&self.admin)?,
            cloud: url(&self.cloud)?,
            idp: url(&self.idp)?,
        })
    }
}

/// Runs the mesh until SIGTERM or SIGINT.
///
/// # Errors
/// - one line that says what is in the way, before anything is changed.
pub async fn up(config: Config) -> Result<(), Fault> {
    // Heard from the first moment on: whoever sees "kombify is up" may end it.
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    kombify_mesh::telemetry::start_logs(&config.log);
    let metrics = kombify_mesh::telemetry::start_metrics()?;
    let data = Data::take(&config.data)?;
    let sockets = Sockets::bind(&config.listen).await?;
    let endpoints = sockets.endpoints()?;
    let (clock, ids) = (Arc::new(SystemClock), Arc::new(SystemIds));
    let base = base::Base { config, metrics, clock, ids, endpoints: endpoints.clone() };
    let stores = base::Stores::open(&base, &data)?;
    let seeded = seed::seed(&base, &data, &stores).await?;

    let upkeep = base.metrics.clone();
    let mut process = Process::default();
    process.spawn(Stage::Rest, |cancel| modules::keep_up(upkeep, cancel));
    modules::start(&base, &data, stores, sockets, &mut process)?;
    data.write_endpoints(&endpoints)?;
    welcome::ready(&endpoints).await?;
    welcome::print(&endpoints, data.dir(), &seeded)?;
    seed::mark(&data)?;

    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    tracing::info!("ending: open requests get their time");
    process.end().await
}
