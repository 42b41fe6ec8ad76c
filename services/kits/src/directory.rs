//! What Kits knows of a verified user: the plan of the user's organisation, and what was revoked.

use std::sync::Arc;

use async_trait::async_trait;
use kombify_core::directory::{Directory, Standing};
use kombify_core::{Clock, Result, UserIdentity};
use kombify_mesh::pushed::{Organisations, Revocations};

use crate::Kits;

/// Kits as a directory: it knows no memberships.
pub struct KitsDirectory {
    organisations: Arc<Organisations>,
    revocations: Arc<Revocations>,
    clock: Arc<dyn Clock>,
}

impl KitsDirectory {
    /// The directory of `kits`.
    pub fn new(kits: &Kits) -> Self {
        Self {
            organisations: Arc::clone(&kits.organisations),
            revocations: Arc::clone(&kits.revocations),
            clock: Arc::clone(&kits.clock),
        }
    }
}

#[async_trait]
impl Directory for KitsDirectory {
    async fn standing(&self, user: &UserIdentity) -> Result<Standing> {
        let plan = self.organisations.plan(&user.owner, self.clock.now())?;
        Ok(Standing { plan, revocation: self.revocations.find(&user.sub)?, ..Standing::default() })
    }

    fn knows_memberships(&self) -> bool {
        false
    }
}
