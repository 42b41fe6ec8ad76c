//! Floor 4: the embedded gateway: one address for everything that is public, as JSON and as gRPC.
//!
//! It checks tokens as a fence, and the service checks them again as the lock. Refuses to know: what any method does;
//! which methods are public, and whose they are, the contracts say.

mod cors;
mod fence;
mod launch;
mod proxy;

use std::collections::BTreeMap;
use std::sync::Arc;

use kombify_contracts::Method;
use kombify_core::Result;
use kombify_mesh::identity::verifier::Verifier;
use kombify_mesh::rate::{ClassLimit, RateLimits};
use kombify_mesh::room::{Inner, RoomLayer};
use kombify_mesh::server::{App, Module, Pages};
use serde::{Deserialize, Serialize};
use tonic::service::Routes;
use tower::{Layer as _, ServiceBuilder};

pub use self::cors::Cors;
pub use self::fence::{ADDRESS_CLASS, Fence};
pub use self::proxy::Proxy;

/// What is the gateway's own to configure.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct GatewayConfig {
    /// The origins of the portals: browsers may call from these.
    pub cors_origins: Vec<String>,
    /// How many requests one address may make in a minute, whoever calls.
    pub requests_per_minute_and_address: u32,
}

impl Default for GatewayConfig {
    fn default() -> Self {
        Self { cors_origins: vec!["http://localhost:3000".into()], requests_per_minute_and_address: 10_000 }
    }
}

impl GatewayConfig {
    /// The limit by address, as the limiter takes it.
    pub fn limits(&self) -> RateLimits {
        let limit = self.requests_per_minute_and_address;
        let class = ClassLimit { free: limit, pro: limit, enterprise: limit, by_address: true };
        RateLimits([(ADDRESS_CLASS.to_owned(), class)].into())
    }
}

/// The methods that the gateway routes: what has a public path.
pub fn public_methods() -> impl Iterator<Item = &'static Method> {
    kombify_contracts::methods().iter().filter(|method| is_public(method))
}

fn is_public(method: &Method) -> bool {
    method.http.as_ref().is_some_and(|http| http.template.starts_with("/v1/"))
}

/// The services that have public methods, for reflection.
pub fn public_services() -> Vec<&'static str> {
    let mut services: Vec<_> = public_methods().map(|method| method.service.as_str()).collect();
    services.sort_unstable();
    services.dedup();
    services
}

/// What the gateway stands on.
pub struct Gateway {
    /// How the gateway serves.
    pub module: Module,
    /// What is its own to configure.
    pub config: GatewayConfig,
    /// Verifies users' tokens.
    pub verifier: Arc<Verifier>,
    /// Where each module is reached.
    pub upstreams: BTreeMap<String, String>,
    /// Cloud's origin: the way into a Stack leads by it.
    pub cloud: String,
}

/// The gateway's pages.
const PAGES: [&str; 1] = ["/kombistack/sso/start"];

impl Gateway {
    /// The whole gateway. `own` answers health and reflection; `transcode` makes calls of JSON.
    ///
    /// # Errors
    /// - [`kombify_core::Error::Invalid`] if the URL of an upstream is none, or if a public method has no upstream.
    pub fn app<L, S>(self, own: Routes, transcode: &L) -> Result<App>
    where
        L: tower::Layer<App, Service = S>,
        S: Inner + Sync,
    {
        let limiter =
            kombify_mesh::rate::RateLimiter::new(self.config.limits(), Arc::clone(&self.module.clock));
        let calls = ServiceBuilder::new()
            .layer(RoomLayer(Fence::new(self.verifier, limiter)))
            .service(Proxy::new(&self.upstreams, own)?);
        let calls = transcode.layer(self.module.bounded(calls));
        let calls = RoomLayer(Cors::new(self.config.cors_origins)).layer(calls);
        let pages = Pages { router: launch::router(self.cloud), paths: Some(&PAGES) };
        Ok(self.module.app(Some(pages), calls))
    }
}
