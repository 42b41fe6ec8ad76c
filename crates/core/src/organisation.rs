//! Organisations and the plans that they were given.

use async_trait::async_trait;
use jiff::Timestamp;

use crate::{Change, OrgId, PlanGrant, Result};

/// What owns a tenant, as the platform knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Organisation {
    /// Its id.
    pub id: OrgId,
    /// The plan that it was given last, ended or not.
    pub grant: Option<PlanGrant>,
    /// When the platform first saw it.
    pub create_time: Timestamp,
}

/// Where organisations are kept. Each method happens wholly or not at all.
#[async_trait]
pub trait OrganisationStore: Send + Sync + 'static {
    /// The organisation, if a user of it was ever seen.
    async fn find(&self, id: &OrgId) -> Result<Option<Organisation>>;

    /// Puts `grant` in the place of the grant that the organisation has; `reason` goes to the audit. A change that was
    /// made before (same idempotency key) grants nothing again.
    ///
    /// # Errors
    /// - [`crate::Error::NotFound`] if no user of it was ever seen.
    /// - [`crate::Error::Conflict`] if the idempotency key was used with another request.
    async fn grant(
        &self,
        change: &Change,
        id: &OrgId,
        grant: PlanGrant,
        reason: &str,
    ) -> Result<Organisation>;
}
