//! Revocations: what ends a user's sessions everywhere.

use std::sync::Arc;

use kombify_contracts::kombify::identity::v1::revocation_service_server::RevocationService;
use kombify_contracts::kombify::identity::v1::{RevokeSessionsRequest, RevokeSessionsResponse};
use kombify_core::user::UserStore;
use kombify_core::{PlatformStore, Result, Sub};
use kombify_mesh::handoff::read_moment;
use kombify_mesh::{Opened, OrStatus as _, open};
use tokio::sync::Notify;
use tonic::{Request, Response, Status};

use crate::Platform;

/// The service.
pub struct Revocations {
    store: Arc<dyn PlatformStore>,
    pushes: Arc<Notify>,
}

impl Revocations {
    /// The service, on the platform's store.
    pub fn new(platform: &Platform) -> Self {
        Self { store: Arc::clone(&platform.store), pushes: Arc::clone(&platform.pushes) }
    }

    async fn revoke(&self, opened: Opened<RevokeSessionsRequest>) -> Result<()> {
        let RevokeSessionsRequest { sub, revoke_time } = opened.message;
        let sub: Sub = sub.parse()?;
        let revoke_time = read_moment("revokeTime", revoke_time)?;
        // Nobody revokes what is still to come: a clock that is ahead must not lock anybody out.
        let revoke_time = revoke_time.min(opened.change.time);
        UserStore::revoke(&*self.store, &opened.change, &sub, revoke_time).await?;
        self.pushes.notify_one();
        tracing::info!(user.sub = %sub, "sessions revoked");
        Ok(())
    }
}

#[tonic::async_trait]
impl RevocationService for Revocations {
    async fn revoke_sessions(
        &self,
        request: Request<RevokeSessionsRequest>,
    ) -> Result<Response<RevokeSessionsResponse>, Status> {
        self.revoke(open(request).or_status()?).await.or_status()?;
        Ok(Response::new(RevokeSessionsResponse {}))
    }
}
