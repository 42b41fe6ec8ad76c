//! What every module stands on: the configuration, the clock, the randomness, and the stores.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use jiff::SignedDuration;
use kombify_core::directory::Directory;
use kombify_core::{Clock, Ids};
use kombify_idp::Idp;
use kombify_mesh::audit::Refusals;
use kombify_mesh::health::Health;
use kombify_mesh::identity::claims::ClaimNames;
use kombify_mesh::identity::keys::{Intervals, KeySet};
use kombify_mesh::identity::verifier::{Accepts, Verifier};
use kombify_mesh::rate::RateLimiter;
use kombify_mesh::server::{Guard, Module};
use kombify_mesh::system::{SystemClock, SystemIds};
use kombify_platform_sqlite::PlatformSqlite;
use kombify_stack_sqlite::StackSqlite;
use kombify_transcode::{Options as TranscodeOptions, TranscodeLayer};
use metrics_exporter_prometheus::PrometheusHandle;

use super::which::Which;
use crate::Fault;
use crate::config::Config;
use crate::data::{Data, Endpoints};

/// What every module stands on.
pub struct Base {
    pub config: Config,
    pub metrics: PrometheusHandle,
    pub clock: Arc<SystemClock>,
    pub ids: Arc<SystemIds>,
    pub endpoints: Endpoints,
    pub modules: Vec<Which>,
}

impl Base {
    /// Whether this process runs the module.
    pub fn runs(&self, module: Which) -> bool {
        self.modules.contains(&module)
    }

    pub fn clock(&self) -> Arc<dyn Clock> {
        Arc::<SystemClock>::clone(&self.clock)
    }

    pub fn ids(&self) -> Arc<dyn Ids> {
        Arc::<SystemIds>::clone(&self.ids)
    }

    pub fn module(&self, service: &'static str, health: Health) -> Module {
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

    pub fn health(&self) -> Health {
        Health::new(self.clock(), Some(self.metrics.clone()))
    }

    pub fn transcode(&self, services: &[&str]) -> Result<TranscodeLayer, Fault> {
        let methods = kombify_contracts::methods().iter();
        self.transcode_methods(methods.filter(|method| services.contains(&method.service.as_str())))
    }

    pub fn transcode_methods(
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

    pub fn intervals(&self) -> Intervals {
        Intervals {
            refresh: Duration::from_secs(self.config.keys.refresh_seconds),
            unknown_key: Duration::from_secs(self.config.keys.unknown_key_seconds),
        }
    }

    pub fn verifier(&self, module: &str, issuer_keys: Arc<KeySet>, mesh_keys: Arc<KeySet>) -> Arc<Verifier> {
        let accepts = Accepts {
            issuer: self.endpoints.idp.clone(),
            audience: self.config.oidc.audience.clone(),
            claims: ClaimNames {
                default_organisation: self.config.oidc.default_organisation.clone(),
                platform_organisation: self.config.oidc.platform_organisation.clone(),
                ..ClaimNames::default()
            },
            service_audience: format!("service:{module}"),
        };
        Arc::new(Verifier::new(accepts, issuer_keys, mesh_keys, self.clock()))
    }

    pub fn guard(&self, verifier: Arc<Verifier>, directory: Arc<dyn Directory>, refusals: Refusals) -> Guard {
        let limiter = Arc::new(RateLimiter::new(self.config.rates.clone(), self.clock()));
        Guard { verifier, directory, limiter, refusals, sessions: None }
    }
}

/// The stores of this process, each for the module that it runs.
pub struct Stores {
    pub platform: Option<Arc<PlatformSqlite>>,
    pub stack: Option<Arc<StackSqlite>>,
    pub idp: Option<Idp>,
}

impl Stores {
    /// Opens them, and brings them up to date.
    ///
    /// # Errors
    /// - one line that says which file is not right, and what to do.
    pub fn open(base: &Base, data: &Data) -> Result<Self, Fault> {
        let platform = if base.runs(Which::Admin) {
            let grace = SignedDuration::from_secs(i64::try_from(base.config.admin.grace_seconds)?);
            let platform = PlatformSqlite::open(&data.file("platform.db"), base.ids())?.with_grace(grace);
            Some(Arc::new(platform))
        } else {
            None
        };
        let stack = if base.runs(Which::Stack) {
            let options = kombify_stack_sqlite::Options {
                open_tenants: base.config.stack.open_tenants,
                idle: Duration::from_secs(base.config.stack.idle_seconds),
            };
            Some(Arc::new(StackSqlite::open(&data.file("stack"), base.ids(), options)?))
        } else {
            None
        };
        let idp = if base.runs(Which::Idp) { Some(super::idp::open(base, data)?) } else { None };
        Ok(Self { platform, stack, idp })
    }
}
