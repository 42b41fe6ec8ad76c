//! What an instance knows of a verified user: where the user is a member here, by which plan, and what was revoked.

use std::sync::OnceLock;
use std::time::Duration;

use async_trait::async_trait;
use kombify_core::directory::{Directory, Standing};
use kombify_core::host::HostStore;
use kombify_core::member::MemberStore;
use kombify_core::{Error, Memberships, Plan, PlanGrant, Result, UserIdentity};
use tokio::time::Instant;

use crate::{Entrance, Host};

/// Within what Admin pushes to an instance that was claimed, if nothing is wrong; and when to try again where it has not.
const PUSHED_SOON: Duration = Duration::from_secs(2);

/// Between two looks at whether it has.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// The host as a directory.
pub struct HostDirectory {
    host: Host,
    /// That nothing is missing was seen: what is held once is held for ever.
    complete: OnceLock<()>,
}

impl HostDirectory {
    /// The directory of `host`.
    pub fn new(host: Host) -> Self {
        Self { host, complete: OnceLock::new() }
    }

    /// What Admin has to push before anybody can be let in, and has not pushed yet. Without the revocations everybody would
    /// pass who is locked out; where it stands alone, nobody revokes.
    async fn missing(&self) -> Result<Option<&'static str>> {
        if HostStore::held_tenants(&*self.host.keep).await?.is_none() {
            return Ok(Some("the tenants were not pushed to this instance yet"));
        }
        let from_admin = matches!(self.host.entrance, Entrance::Platform { .. });
        if from_admin && HostStore::held_revocations(&*self.host.keep).await?.is_none() {
            return Ok(Some("the revocations were not pushed to this instance yet"));
        }
        Ok(None)
    }

    /// Waits a moment for what is missing: an instance that has just been claimed gets it within that.
    async fn wait_for_sets(&self) -> Result<()> {
        if self.complete.get().is_some() {
            return Ok(());
        }
        let deadline = Instant::now() + PUSHED_SOON;
        while let Some(missing) = self.missing().await? {
            if Instant::now() >= deadline {
                return Err(Error::unavailable(missing, PUSHED_SOON));
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
        let _ = self.complete.set(()); // Another call may have been first.
        Ok(())
    }

    /// The plan of the user's own organisation, where it has a tenant here. Where the instance stands alone, everybody has
    /// the limits of enterprise.
    async fn plan(&self, user: &UserIdentity, memberships: &Memberships) -> Result<Option<Plan>> {
        if matches!(self.host.entrance, Entrance::Alone) {
            return Ok(Some(Plan::Enterprise));
        }
        for membership in memberships.iter() {
            let tenant = HostStore::find_tenant(&*self.host.keep, &membership.tenant.to_string()).await?;
            if let Some(tenant) = tenant.filter(|tenant| tenant.owner == user.owner) {
                return Ok(Some(PlanGrant::plan_at(tenant.grant.as_ref(), self.host.clock.now())));
            }
        }
        Ok(None)
    }
}

#[async_trait]
impl Directory for HostDirectory {
    async fn standing(&self, user: &UserIdentity) -> Result<Standing> {
        self.wait_for_sets().await?;
        let revocation = HostStore::revocation(&*self.host.keep, &user.sub).await?;
        let memberships =
            MemberStore::memberships(&*self.host.keep, &user.sub, self.host.clock.now()).await?;
        let plan = self.plan(user, &memberships).await?;
        Ok(Standing { plan, memberships, email: None, name: None, revocation })
    }

    fn knows_memberships(&self) -> bool {
        true
    }
}
