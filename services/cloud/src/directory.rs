//! What Cloud knows of a verified user.

use std::sync::Arc;

use async_trait::async_trait;
use kombify_core::directory::{Directory, Standing};
use kombify_core::{Result, UserIdentity};
use kombify_mesh::pushed::Revocations;

/// Cloud as a directory: it knows no plans and no memberships, and what was revoked.
pub struct CloudDirectory(Arc<Revocations>);

impl CloudDirectory {
    /// The directory with these revocations.
    pub fn new(revocations: Arc<Revocations>) -> Self {
        Self(revocations)
    }
}

#[async_trait]
impl Directory for CloudDirectory {
    async fn standing(&self, user: &UserIdentity) -> Result<Standing> {
        Ok(Standing { revocation: self.0.find(&user.sub)?, ..Standing::default() })
    }

    fn knows_memberships(&self) -> bool {
        false
    }
}
