//! Launch codes: how Admin tells a Stack that a user has signed in. Source: contract C6.

use std::collections::BTreeSet;

use async_trait::async_trait;
use jiff::Timestamp;

use crate::{Change, Error, InstanceId, OrgId, Result, Sub, TenantId, TenantScope};

/// How long a code is good, in seconds. Source: contract C6.
pub const LAUNCH_SECONDS: i64 = 60;

/// The SHA-256 of a code or of a nonce.
pub type Sha256 = [u8; 32];

/// A code that is to be issued.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewLaunch {
    /// The code's hash: the code itself is kept nowhere.
    pub hash: Sha256,
    /// The user whom it lets in.
    pub sub: Sub,
    /// What owns the user's tenants.
    pub owner: OrgId,
    /// The roles of the user's token.
    pub roles: BTreeSet<String>,
    /// The hash of the browser's nonce; `None`: for a service.
    pub challenge: Option<Sha256>,
    /// The instance that asked; `None`: whichever has the tenant.
    pub instance: Option<InstanceId>,
    /// When the user signed in.
    pub auth_time: Timestamp,
    /// When it expires.
    pub expire_time: Timestamp,
}

/// Where a code leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Destination {
    /// The instance.
    pub instance: InstanceId,
    /// Where browsers reach it.
    pub public_endpoint: String,
}

/// What a redeemed code stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Launch {
    /// The tenant.
    pub tenant: TenantId,
    /// The user.
    pub sub: Sub,
    /// What owns the user's tenants.
    pub owner: OrgId,
    /// The roles of the user's token.
    pub roles: BTreeSet<String>,
    /// The address that the platform mirrors; may be empty.
    pub email: String,
    /// The name that is shown; may be empty.
    pub name: String,
    /// When the user signed in.
    pub auth_time: Timestamp,
}

/// Why a code is refused: each with its own words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LaunchRefusal {
    /// There is no such code.
    Unknown,
    /// It was used.
    Used,
    /// Its time is over.
    Expired,
    /// It is for a tenant on another instance.
    OtherInstance,
    /// It was issued for another browser, or for a service.
    OtherChallenge,
    /// Its user may not go on: locked or signed out since.
    Revoked,
}

impl From<LaunchRefusal> for Error {
    fn from(refusal: LaunchRefusal) -> Self {
        Self::AuthInvalid(match refusal {
            LaunchRefusal::Unknown => "the launch code is not known",
            LaunchRefusal::Used => "the launch code was used already",
            LaunchRefusal::Expired => "the launch code has expired: it is good for a minute",
            LaunchRefusal::OtherInstance => "the launch code is for another instance",
            LaunchRefusal::OtherChallenge => "the launch code was issued for another browser",
            LaunchRefusal::Revoked => "the user of the launch code was locked or signed out",
        })
    }
}

/// Where codes are kept. Each method happens wholly or not at all.
#[async_trait]
pub trait LaunchStore: Send + Sync + 'static {
    /// Issues a code for the scope's tenant.
    ///
    /// # Errors
    /// - [`Error::PreconditionFailed`] if the tenant is on another instance than the one that asked.
    async fn issue(&self, scope: TenantScope, change: &Change, launch: &NewLaunch) -> Result<Destination>;

    /// Redeems a code for `instance`, once, however many try: one statement decides.
    ///
    /// # Errors
    /// - [`LaunchRefusal`], as [`Error::AuthInvalid`].
    async fn redeem(
        &self,
        change: &Change,
        hash: &Sha256,
        instance: InstanceId,
        challenge: Option<&Sha256>,
    ) -> Result<Launch>;
}
