//! What a module knows of a user beyond the token.

use async_trait::async_trait;

use crate::revocation::Revocation;
use crate::{Memberships, Plan, Result, UserIdentity};

/// What a user stands for on the platform.
#[derive(Clone, Debug, Default)]
pub struct Standing {
    /// The plan of the user's organisation; `None` where the module holds no plans and the token's roles decide.
    pub plan: Option<Plan>,
    /// Where the user is a member.
    pub memberships: Memberships,
    /// The verified address that the module mirrors.
    pub email: Option<String>,
    /// The name that the module mirrors.
    pub name: Option<String>,
    /// Which of the user's sign-ins count no more.
    pub revocation: Option<Revocation>,
}

/// Where the identity layer asks about a verified user. Each module fills it from what it holds.
#[async_trait]
pub trait Directory: Send + Sync + 'static {
    /// What `user` stands for, now.
    ///
    /// # Errors
    /// - [`crate::Error::Unavailable`] if what the module holds cannot be asked.
    async fn standing(&self, user: &UserIdentity) -> Result<Standing>;

    /// Whether the module knows memberships: only such a module may serve methods for tenants.
    fn knows_memberships(&self) -> bool;
}

/// The directory of a module that holds nothing: the token's roles decide the plan, and nobody is a member.
#[derive(Clone, Copy, Debug, Default)]
pub struct TokenOnly;

#[async_trait]
impl Directory for TokenOnly {
    async fn standing(&self, _user: &UserIdentity) -> Result<Standing> {
        Ok(Standing::default())
    }

    fn knows_memberships(&self) -> bool {
        false
    }
}
