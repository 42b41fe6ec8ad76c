//! Who knows the kits: a stack that names one is checked there, and pinned to a version.

use async_trait::async_trait;
use kombify_contracts::kombify::kits::v1::kit_service_client::KitServiceClient;
use kombify_contracts::kombify::kits::v1::{
    GetTenantKitRequest, Kit, KitSummary, ListTenantKitsRequest, ResolveKitRequest,
};
use kombify_core::stack::PinnedKit;
use kombify_core::{Result, TenantId};
use kombify_mesh::client::Peer;
use kombify_mesh::status::to_fault;

/// The registry of kits, as a Stack asks it.
#[async_trait]
pub trait KitRegistry: Send + Sync + 'static {
    /// The newest version of a kit that `range` and the spec allow; an empty range allows all.
    ///
    /// # Errors
    /// - [`kombify_core::Error::NotFound`] if there is no such kit or version for the tenant.
    /// - [`kombify_core::Error::PlanInsufficient`] below the kit's plan.
    /// - [`kombify_core::Error::Invalid`] if something is wrong with the spec, or the range is none ("range").
    /// - [`kombify_core::Error::Unavailable`] if the registry is away.
    async fn pin(&self, tenant: TenantId, kit: &str, range: &str, spec: &str) -> Result<PinnedKit>;

    /// The kits that the tenant sees, by id; the first hundred.
    ///
    /// # Errors
    /// - [`kombify_core::Error::Unavailable`] if the registry is away.
    async fn list(&self, tenant: TenantId) -> Result<Vec<KitSummary>>;

    /// Everything about a kit.
    ///
    /// # Errors
    /// - [`kombify_core::Error::NotFound`] if there is no such kit for the tenant.
    /// - [`kombify_core::Error::PlanInsufficient`] below the kit's plan.
    /// - [`kombify_core::Error::Unavailable`] if the registry is away.
    async fn get(&self, tenant: TenantId, kit: &str) -> Result<Kit>;
}

/// How many kits a page shows.
pub const SHOWN: i32 = 100;

/// The registry as a module of the mesh.
pub struct MeshKits(Peer);

impl MeshKits {
    /// The registry, called with this instance's key: it decides by the tenant, not by who works there, so that a session of
    /// this instance is as good as a token.
    pub fn new(kits: Peer) -> Self {
        Self(kits.for_itself())
    }
}

#[async_trait]
impl KitRegistry for MeshKits {
    async fn pin(&self, tenant: TenantId, kit: &str, range: &str, spec: &str) -> Result<PinnedKit> {
        let request = ResolveKitRequest {
            tenant_id: tenant.to_string(),
            kit: kit.to_owned(),
            range: range.to_owned(),
            spec_yaml: spec.to_owned(),
        };
        let answer = KitServiceClient::new(self.0.clone()).resolve_kit(request).await;
        let answer = answer.map_err(|status| to_fault(&status))?;
        let found = answer.into_inner().data.unwrap_or_default();
        Ok(PinnedKit { id: found.id, version: found.version, digest: found.digest })
    }

    async fn list(&self, tenant: TenantId) -> Result<Vec<KitSummary>> {
        let request =
            ListTenantKitsRequest { tenant_id: tenant.to_string(), limit: SHOWN, cursor: String::new() };
        let answer = KitServiceClient::new(self.0.clone()).list_tenant_kits(request).await;
        Ok(answer.map_err(|status| to_fault(&status))?.into_inner().data)
    }

    async fn get(&self, tenant: TenantId, kit: &str) -> Result<Kit> {
        let request = GetTenantKitRequest { tenant_id: tenant.to_string(), kit: kit.to_owned() };
        let answer = KitServiceClient::new(self.0.clone()).get_tenant_kit(request).await;
        Ok(answer.map_err(|status| to_fault(&status))?.into_inner().data.unwrap_or_default())
    }
}
