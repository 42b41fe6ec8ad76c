//! What an instance knows of a verified user: where the user is a member here, by which plan, and what was revoked.

use std::time::Duration;

use async_trait::async_trait;
use kombify_core::directory::{Directory, Standing};
use kombify_core::host::HostStore;
use kombify_core::member::MemberStore;
use kombify_core::{Error, Memberships, Plan, PlanGrant, Result, UserIdentity};

use crate::{Entrance, Host};

/// When to try again where Admin has pushed nothing yet.
const PUSHED_SOON: Duration = Duration::from_secs(2);

/// The host as a directory.
pub struct HostDirectory(Host);

impl HostDirectory {
    /// The directory of `host`.
    pub fn new(host: Host) -> Self {
        Self(host)
    }

    /// The plan of the user's own organisation, where it has a tenant here. Where the instance stands alone, everybody has
    /// the limits of enterprise.
    async fn plan(&self, user: &UserIdentity, memberships: &Memberships) -> Result<Option<Plan>> {
        if matches!(self.0.entrance, Entrance::Alone) {
            return Ok(Some(Plan::Enterprise));
        }
        for membership in memberships.iter() {
            let tenant = HostStore::find_tenant(&*self.0.keep, &membership.tenant.to_string()).await?;
            if let Some(tenant) = tenant.filter(|tenant| tenant.owner == user.owner) {
                return Ok(Some(PlanGrant::plan_at(tenant.grant.as_ref(), self.0.clock.now())));
            }
        }
        Ok(None)
    }
}

#[async_trait]
impl Directory for HostDirectory {
    async fn standing(&self, user: &UserIdentity) -> Result<Standing> {
        if HostStore::held_tenants(&*self.0.keep).await?.is_none() {
            return Err(Error::unavailable("the tenants were not pushed to this instance yet", PUSHED_SOON));
        }
        // Without them everybody would pass who is locked out. Where it stands alone, nobody revokes.
        if matches!(self.0.entrance, Entrance::Platform { .. })
            && HostStore::held_revocations(&*self.0.keep).await?.is_none()
        {
            return Err(Error::unavailable(
                "the revocations were not pushed to this instance yet",
                PUSHED_SOON,
            ));
        }
        let revocation = HostStore::revocation(&*self.0.keep, &user.sub).await?;
        let memberships = MemberStore::memberships(&*self.0.keep, &user.sub, self.0.clock.now()).await?;
        let plan = self.plan(user, &memberships).await?;
        Ok(Standing { plan, memberships, email: None, name: None, revocation })
    }

    fn knows_memberships(&self) -> bool {
        true
    }
}
