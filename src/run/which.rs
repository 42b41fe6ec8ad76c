//! Which modules a process runs, and where each of them is.

use std::fmt;
use std::net::SocketAddr;

use crate::config::{Elsewhere, Listen};
use crate::data::Endpoints;

/// One module.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub enum Which {
    /// The gateway.
    Gateway,
    /// Admin.
    Admin,
    /// Cloud.
    Cloud,
    /// The Stack.
    Stack,
    /// The registry of StackKits.
    Kits,
    /// The development identity provider.
    Idp,
}

impl Which {
    /// Every module.
    pub const ALL: [Self; 6] = [Self::Gateway, Self::Admin, Self::Cloud, Self::Stack, Self::Kits, Self::Idp];

    /// Its name in the configuration, in the data and in logs.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Gateway => "gateway",
            Self::Admin => "admin",
            Self::Cloud => "cloud",
            Self::Stack => "stack",
            Self::Kits => "kits",
            Self::Idp => "idp",
        }
    }

    /// Where it listens.
    pub const fn listens(self, listen: &Listen) -> SocketAddr {
        match self {
            Self::Gateway => listen.gateway,
            Self::Admin => listen.admin,
            Self::Cloud => listen.cloud,
            Self::Stack => listen.stack,
            Self::Kits => listen.kits,
            Self::Idp => listen.idp,
        }
    }

    /// Where it is, as the configuration says.
    pub fn elsewhere(self, elsewhere: &Elsewhere) -> Option<&str> {
        let url = match self {
            Self::Gateway => &elsewhere.gateway,
            Self::Admin => &elsewhere.admin,
            Self::Cloud => &elsewhere.cloud,
            Self::Stack => &elsewhere.stack,
            Self::Kits => &elsewhere.kits,
            Self::Idp => &elsewhere.idp,
        };
        url.as_deref().map(|url| url.trim_end_matches('/'))
    }

    /// Where it is.
    pub fn endpoint(self, endpoints: &Endpoints) -> &str {
        match self {
            Self::Gateway => &endpoints.gateway,
            Self::Admin => &endpoints.admin,
            Self::Cloud => &endpoints.cloud,
            Self::Stack => &endpoints.stack,
            Self::Kits => &endpoints.kits,
            Self::Idp => &endpoints.idp,
        }
    }
}

impl fmt::Display for Which {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
