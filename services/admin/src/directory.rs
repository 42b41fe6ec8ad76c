//! What the platform knows of a verified user: the first sight of a `sub` makes the user's row, a newer token makes us
//! read userinfo again.

use std::sync::Arc;

use async_trait::async_trait;
use kombify_core::directory::{Directory, Standing};
use kombify_core::tenant::TenantStore;
use kombify_core::user::{Sighting, User, UserStore};
use kombify_core::{Actor, Change, PlanGrant, Result, UserIdentity};
use kombify_mesh::context::Context;

use crate::Platform;

/// The platform as a directory.
pub struct PlatformDirectory(Platform);

impl PlatformDirectory {
    /// The directory of `platform`.
    pub fn new(platform: Platform) -> Self {
        Self(platform)
    }

    async fn sight(&self, user: &UserIdentity, known: Option<User>) -> Result<User> {
        let now = self.0.clock.now();
        // The mirror is only a cache: an issuer that is away for a moment keeps nobody out.
        let profile = self.0.issuer.userinfo(user.sub.as_str()).await;
        if profile.is_none()
            && let Some(known) = known
            && known.owner == user.owner
        {
            return Ok(known);
        }
        let context = Context::current();
        let change = Change {
            actor: Actor {
                sub: Some(user.sub.clone()),
                service: context.as_ref().and_then(|context| context.service.clone()),
                impersonator: user.impersonator.clone(),
            },
            action: "user.created",
            request_id: context
                .as_ref()
                .map_or_else(|| self.0.ids.request(now), |context| context.request_id.clone()),
            idempotency: None,
            ip: context.as_ref().map(|context| context.ip.clone()).unwrap_or_default(),
            user_agent: context.map(|context| context.user_agent).unwrap_or_default(),
            time: now,
        };
        let sighting = Sighting {
            sub: user.sub.clone(),
            owner: user.owner.clone(),
            token_time: user.issued_at,
            profile,
        };
        UserStore::sight(&*self.0.store, &change, &sighting).await
    }
}

#[async_trait]
impl Directory for PlatformDirectory {
    async fn standing(&self, user: &UserIdentity) -> Result<Standing> {
        let store: &Arc<_> = &self.0.store;
        let known = UserStore::find(&**store, &user.sub).await?;
        let row = match known {
            Some(row) if row.identity_time >= user.issued_at => row,
            other => self.sight(user, other).await?,
        };
        let memberships = TenantStore::memberships(&**store, &user.sub).await?;
        let text = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        Ok(Standing {
            plan: Some(PlanGrant::plan_at(row.grant.as_ref(), self.0.clock.now())),
            email: text(&row.profile.email),
            name: text(row.display_name()),
            revocation: row.revocation,
            memberships,
        })
    }

    fn knows_memberships(&self) -> bool {
        true
    }
}
