//! What can be configured: one TOML file, and `KOMBIFY__SECTION__KEY` over it.

use std::net::SocketAddr;
use std::path::PathBuf;

use kombify_gateway::GatewayConfig;
use kombify_mesh::rate::RateLimits;
use kombify_mesh::server::ServerConfig;
use serde::{Deserialize, Serialize};

/// The configuration.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Where the data is kept.
    pub data: PathBuf,
    /// Which log lines are written: what `RUST_LOG` takes.
    pub log: String,
    /// The region of a tenant or an instance for which nobody names one.
    pub region: String,
    /// Where each module listens.
    pub listen: Listen,
    /// How every module serves.
    pub server: ServerConfig,
    /// Requests per minute, by rate class.
    pub rates: RateLimits,
    /// The gateway's own.
    pub gateway: GatewayConfig,
    /// The keys that verify tokens.
    pub keys: Keys,
    /// The development identity provider's own.
    pub idp: Idp,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            data: "data".into(),
            log: "info".into(),
            region: "local".into(),
            listen: Listen::default(),
            server: ServerConfig::default(),
            rates: RateLimits::default(),
            gateway: GatewayConfig::default(),
            keys: Keys::default(),
            idp: Idp::default(),
        }
    }
}

/// Where each module listens; port 0 takes any free one.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Listen {
    /// The gateway.
    pub gateway: SocketAddr,
    /// Admin.
    pub admin: SocketAddr,
    /// Cloud.
    pub cloud: SocketAddr,
    /// The development identity provider.
    pub idp: SocketAddr,
}

impl Default for Listen {
    fn default() -> Self {
        let local = |port| SocketAddr::from(([127, 0, 0, 1], port));
        Self { gateway: local(8000), admin: local(8090), cloud: local(3000), idp: local(8083) }
    }
}

/// How often the keys that verify tokens are fetched.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Keys {
    /// Between two refetches, in seconds.
    pub refresh_seconds: u64,
    /// Between two refetches because of an unknown key id, in seconds.
    pub unknown_key_seconds: u64,
}

impl Default for Keys {
    fn default() -> Self {
        use kombify_mesh::identity::keys::{REFRESH_INTERVAL, UNKNOWN_KEY_INTERVAL};
        Self {
            refresh_seconds: REFRESH_INTERVAL.as_secs(),
            unknown_key_seconds: UNKNOWN_KEY_INTERVAL.as_secs(),
        }
    }
}

/// The development identity provider.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Idp {
    /// How long an access token is good, in seconds.
    pub access_token_seconds: u64,
    /// How long a new key is published before it signs, in seconds.
    pub publish_ahead_seconds: u64,
}

impl Default for Idp {
    fn default() -> Self {
        Self { access_token_seconds: 15 * 60, publish_ahead_seconds: 120 }
    }
}
