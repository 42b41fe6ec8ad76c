//! What can be configured: one TOML file, and `KOMBIFY__SECTION__KEY` over it.

use std::net::SocketAddr;
use std::path::PathBuf;

use kombify_gateway::GatewayConfig;
use kombify_mesh::rate::RateLimits;
use kombify_mesh::server::ServerConfig;
use serde::{Deserialize, Serialize};

/// Names of the environment that others use, too, and the keys that they stand for.
pub const CUSTOMARY: [(&str, &str); 2] =
    [("ZITADEL_ISSUER", "oidc.issuer"), ("ZITADEL_CLIENT_ID", "oidc.client_id")];

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
    /// How the modules stand in the world; `up` shows "saas-shared".
    pub mode: Mode,
    /// Where each module listens.
    pub listen: Listen,
    /// Where the modules of other processes are; what is not named is where it would listen here.
    pub endpoints: Elsewhere,
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
    /// The identity provider that signs people in.
    pub oidc: Oidc,
    /// Its user API.
    pub zitadel: Zitadel,
    /// Admin's own.
    pub admin: Admin,
    /// The Stack's own.
    pub stack: Stack,
    /// The registry of StackKits.
    pub kits: Kits,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            data: "data".into(),
            log: "info".into(),
            region: "local".into(),
            mode: Mode::default(),
            listen: Listen::default(),
            endpoints: Elsewhere::default(),
            server: ServerConfig::default(),
            rates: RateLimits::default(),
            gateway: GatewayConfig::default(),
            keys: Keys::default(),
            idp: Idp::default(),
            oidc: Oidc::default(),
            zitadel: Zitadel::default(),
            admin: Admin::default(),
            stack: Stack::default(),
            kits: Kits::default(),
        }
    }
}

/// How the modules stand in the world. Read once; code asks the value. Source: the contracts, "Deployment modes".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// One tenant, local sign-in, no billing; a Stack needs no other module.
    #[default]
    SelfHosted,
    /// Many tenants, sign-in by OIDC only.
    SaasShared,
    /// As shared, with one tenant.
    SaasDedicated,
}

impl Mode {
    /// Whether people sign in at the Stack itself.
    pub const fn has_local_accounts(self) -> bool {
        match self {
            Self::SelfHosted => true,
            Self::SaasShared | Self::SaasDedicated => false,
        }
    }
}

/// Where the modules of other processes are: URLs without a slash at the end.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Elsewhere {
    /// The gateway.
    pub gateway: Option<String>,
    /// Admin.
    pub admin: Option<String>,
    /// Cloud, as browsers reach it.
    pub cloud: Option<String>,
    /// The Stack, as browsers and the gateway reach it.
    pub stack: Option<String>,
    /// The registry of StackKits.
    pub kits: Option<String>,
    /// The development identity provider.
    pub idp: Option<String>,
}

/// The identity provider. Defaults are the development provider's.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Oidc {
    /// The issuer's URL; empty: the development provider. `ZITADEL_ISSUER` in the environment says the same.
    pub issuer: String,
    /// The audience of users' access tokens.
    pub audience: String,
    /// Cloud as a client of it. `ZITADEL_CLIENT_ID` in the environment says the same.
    pub client_id: String,
    /// The issuer's default organisation: its users own their tenants alone.
    pub default_organisation: String,
    /// The platform's own organisation: platform roles count only where it granted them.
    pub platform_organisation: String,
}

impl Default for Oidc {
    fn default() -> Self {
        Self {
            issuer: String::new(),
            audience: "kombify".into(),
            client_id: "kombify-cloud".into(),
            default_organisation: "310000000000000001".into(),
            platform_organisation: "310000000000000002".into(),
        }
    }
}

/// Zitadel's user API.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Zitadel {
    /// The file with the personal access token of the service user who locks users; none: the development provider's.
    pub token_file: Option<PathBuf>,
}

/// Admin.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Admin {
    /// How often is looked for deleted tenants whose time of grace is over, in seconds.
    pub sweep_seconds: u64,
    /// How long a deleted tenant can be undeleted, in seconds.
    pub grace_seconds: u64,
}

impl Default for Admin {
    fn default() -> Self {
        Self { sweep_seconds: 60, grace_seconds: 30 * 24 * 3600 }
    }
}

/// The Stack.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Stack {
    /// The name of the instance that it claims.
    pub instance: String,
    /// The file with the instance's join secret; none: `join/stack-<instance>.secret` with the data.
    pub join_secret_file: Option<PathBuf>,
    /// How many tenants it takes, whatever Admin thinks.
    pub max_tenants: u32,
    /// How many tenants' files are open at once.
    pub open_tenants: usize,
    /// How long a tenant's file stays open without use, in seconds.
    pub idle_seconds: u64,
}

impl Default for Stack {
    fn default() -> Self {
        Self {
            instance: "local".into(),
            join_secret_file: None,
            max_tenants: 10_000,
            open_tenants: 64,
            idle_seconds: 60,
        }
    }
}

/// The registry of StackKits.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Kits {
    /// Whether the kits that come with the program are there.
    pub built_in: bool,
    /// Between two looks at the sources, in seconds.
    pub refresh_seconds: u64,
    /// Where further kits come from. An id belongs to the source that had it first.
    pub sources: Vec<KitSource>,
}

impl Default for Kits {
    fn default() -> Self {
        Self { built_in: true, refresh_seconds: 60, sources: Vec::new() }
    }
}

/// A source of kits: a directory, or a Git repository.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct KitSource {
    /// Its name: 1 to 40 of `[a-z0-9-]`. What was seen of it is kept under this name.
    pub name: String,
    /// The directory, with kits in it, or of one kit.
    pub path: Option<PathBuf>,
    /// The URL of the repository, without a password: its tags are the versions of the kit in it.
    pub git: Option<String>,
    /// Who asks it, by HTTP.
    pub user: Option<String>,
    /// The file with the password or token of `user`.
    pub password_file: Option<PathBuf>,
    /// Where in the repository the kit is; none: it is the whole.
    pub folder: Option<String>,
    /// The organisation that has these kits for itself, as a custom kit; none: everybody.
    pub organisation: Option<String>,
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
    /// The Stack.
    pub stack: SocketAddr,
    /// The registry of StackKits.
    pub kits: SocketAddr,
    /// The development identity provider.
    pub idp: SocketAddr,
}

impl Default for Listen {
    fn default() -> Self {
        let local = |port| SocketAddr::from(([127, 0, 0, 1], port));
        Self {
            gateway: local(8000),
            admin: local(8090),
            cloud: local(3000),
            stack: local(8080),
            kits: local(8082),
            idp: local(8083),
        }
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
