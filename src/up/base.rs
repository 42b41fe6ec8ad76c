//! What every module stands on: the configuration, the clock, the randomness, and the stores.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

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
use kombify_transcode::{Options as TranscodeOptions, TranscodeLayer};
use metrics_exporter_prometheus::PrometheusHandle;

use crate::Fault;
use crate::config::Config;
use crate::data::{Data, Endpoints};

/// The issuer's default organisation: self-registered users land here.
pub const DEFAULT_ORGANISATION: &str = "310000000000000001";

/// The platform's own organisation.
pub const PLATFORM_ORGANISATION: &str = "310000000000000002";

/// The audience of users' access tokens.
const AUDIENCE: &str = "kombify";

/// What every module stands on.
pub struct Base {
    pub config: Config,
    pub metrics: PrometheusHandle,
    pub clock: Arc<SystemClock>,
    pub ids: Arc<SystemIds>,
    pub endpoints: Endpoints,
}

impl Base {
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

    pub fn guard(&self, verifier: Arc<Verifier>, directory: Arc<dyn Directory>, refusals: Refusals) -> Guard {
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
            sign_ins_per_minute: base.config.rates.0.get("sign-in").map_or(u32::MAX, |limit| limit.free),
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
