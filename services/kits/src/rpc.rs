//! Contract C7.

use std::sync::Arc;

use kombify_contracts::google::api::HttpBody;
use kombify_contracts::kombify::kits::v1::kit_service_server::KitService;
use kombify_contracts::kombify::kits::v1::{
    DownloadKitRequest, GetKitRequest, GetKitResponse, GetTenantKitRequest, GetTenantKitResponse,
    Kit as KitMessage, ListKitsRequest, ListKitsResponse, ListTenantKitsRequest, ListTenantKitsResponse,
    RenderSpecRequest, RenderSpecResponse, RenderedSpec, ResolveKitRequest, ResolveKitResponse, ResolvedKit,
    SpecVerdict, ValidateSpecRequest, ValidateSpecResponse,
};
use kombify_contracts::kombify::list::v1::ListMeta;
use kombify_core::{Caller, Error, Page, Plan, Result, TenantId};
use kombify_mesh::download::{self, Download};
use kombify_mesh::pushed::Organisations;
use kombify_mesh::{Opened, OrStatus as _, open};
use tonic::metadata::MetadataMap;
use tonic::{Request, Response, Status};

use crate::gate::Viewer;
use crate::index::Release;
use crate::registry::{Registry, read_range};
use crate::{Kits, convert};

/// The service.
pub(crate) struct KitRpc {
    registry: Arc<Registry>,
    organisations: Arc<Organisations>,
    clock: Arc<dyn kombify_core::Clock>,
}

impl KitRpc {
    /// The service of `kits`.
    pub(crate) fn new(kits: &Kits) -> Self {
        Self {
            registry: Arc::clone(&kits.registry),
            organisations: Arc::clone(&kits.organisations),
            clock: Arc::clone(&kits.clock),
        }
    }

    fn list(&self, viewer: &Viewer, request: ListKitsRequest) -> Result<ListKitsResponse> {
        let ListKitsRequest { limit, cursor, search, mut tags } = request;
        tags.sort();
        let page = Page::parse(limit, &cursor, &format!("kits {search:?} {tags:?}"))?;
        let words: Vec<String> = search.split_whitespace().map(str::to_lowercase).collect();
        let fits = |release: &Release| {
            tags.iter().all(|tag| release.manifest.tags.contains(tag))
                && words.iter().all(|word| release.search_text.contains(word))
        };
        let after = page.after.as_ref().map(|position| position.id.as_str()).unwrap_or_default();
        let rows = self.registry.index().list(viewer, fits, after, page.limit as usize + 1);
        let listed = page.cut(rows, |(release, _)| kombify_core::page::Position {
            // Kits are ordered by id alone.
            create_time: jiff::Timestamp::UNIX_EPOCH,
            id: release.manifest.id.clone(),
        });
        let meta = ListMeta { next_cursor: listed.next_cursor, limit: convert::number(listed.limit) };
        let data =
            listed.items.iter().map(|(release, count)| convert::summary(release, viewer, *count)).collect();
        Ok(ListKitsResponse { data, meta: Some(meta) })
    }

    async fn get(&self, viewer: &Viewer, id: &str, version: &str) -> Result<KitMessage> {
        let ranges: Vec<_> = read_range("version", version)?.into_iter().collect();
        self.registry.describe(viewer, id, &ranges).await
    }

    /// For whom a Stack asks: the tenants that have their place there, and no other.
    fn viewer_of(&self, caller: &Caller, tenant: &str) -> Result<Viewer> {
        let tenant: TenantId = tenant.parse()?;
        let service = caller.service().ok_or(Error::AuthRequired)?;
        let home = self.organisations.home(tenant)?;
        let home = home.filter(|(_, home)| home.instance.to_string() == service.instance);
        let (owner, _) = home.ok_or_else(|| Error::not_found("tenant", tenant))?;
        let plan = self.organisations.plan(&owner, self.clock.now())?.unwrap_or(Plan::Free);
        Ok(Viewer { plan, owner: Some(owner) })
    }

    async fn download(
        &self,
        asked: &MetadataMap,
        opened: Opened<DownloadKitRequest>,
    ) -> Result<Response<HttpBody>> {
        let DownloadKitRequest { id, version } = &opened.message;
        let ranges: Vec<_> = read_range("version", version)?.into_iter().collect();
        let resolved = self.registry.index().resolve(&Viewer::of(&opened.caller), id, &ranges)?;
        let loaded = self.registry.whole(&resolved.release).await?;
        let hex = loaded.archive_digest.to_string().replace(':', "-");
        download::answer(
            asked,
            Download {
                data: loaded.archive.clone(),
                content_type: "application/gzip",
                etag: format!("\"{hex}\""),
                repr_digest: download::repr_digest(loaded.archive_digest.as_bytes()),
                file_name: format!("{id}-{}.tar.gz", resolved.release.manifest.version),
            },
        )
    }

    async fn validate(&self, opened: Opened<ValidateSpecRequest>) -> Result<ValidateSpecResponse> {
        let viewer = Viewer::of(&opened.caller);
        let ValidateSpecRequest { id, spec } = opened.message;
        let spec = spec.unwrap_or_default();
        check_spec("spec.specYaml", &spec.spec_yaml)?;
        let range = read_range("spec.version", &spec.version)?;
        let (release, verdict) =
            self.registry.judge(&viewer, &id, range, spec.spec_yaml, spec.strict).await?;
        Ok(ValidateSpecResponse {
            data: Some(SpecVerdict {
                valid: verdict.is_valid(),
                errors: verdict.errors.into_iter().map(convert::problem).collect(),
                warnings: verdict.warnings.into_iter().map(convert::problem).collect(),
                version: release.manifest.version.to_string(),
            }),
        })
    }

    async fn render(&self, opened: Opened<RenderSpecRequest>) -> Result<RenderSpecResponse> {
        let viewer = Viewer::of(&opened.caller);
        let RenderSpecRequest { id, spec } = opened.message;
        let spec = spec.unwrap_or_default();
        check_spec("spec.specYaml", &spec.spec_yaml)?;
        let range = read_range("spec.version", &spec.version)?;
        let (release, loaded, text) = self.registry.for_spec(&viewer, &id, range, spec.spec_yaml).await?;
        let rendered = self.registry.judging(move || loaded.kit.render(&text)).await?;
        let rendered = rendered.map_err(|verdict| convert::problems(&verdict.errors))?;
        Ok(RenderSpecResponse {
            data: Some(RenderedSpec {
                compose_yaml: rendered.compose_yaml,
                version: release.manifest.version.to_string(),
                digest: release.digest.to_string(),
                warnings: rendered.warnings.into_iter().map(convert::problem).collect(),
            }),
        })
    }

    async fn resolve(&self, opened: Opened<ResolveKitRequest>) -> Result<ResolveKitResponse> {
        let ResolveKitRequest { tenant_id, kit, range, spec_yaml } = opened.message;
        check_spec("specYaml", &spec_yaml)?;
        let viewer = self.viewer_of(&opened.caller, &tenant_id)?;
        let (version, digest) = self.registry.pin(&viewer, &kit, &range, spec_yaml).await?;
        let data = ResolvedKit { id: kit, version: version.to_string(), digest: digest.to_string() };
        Ok(ResolveKitResponse { data: Some(data) })
    }
}

/// The contract bounds characters; a spec is bounded in bytes.
fn check_spec(field: &str, spec: &str) -> Result<()> {
    let most = kombify_kit::SPEC_MAX_BYTES;
    if spec.len() > most {
        return Err(Error::invalid(field, format!("must be at most {most} bytes")));
    }
    Ok(())
}

#[tonic::async_trait]
impl KitService for KitRpc {
    async fn list_kits(
        &self,
        request: Request<ListKitsRequest>,
    ) -> Result<Response<ListKitsResponse>, Status> {
        let opened = open(request).or_status()?;
        let viewer = Viewer::of(&opened.caller);
        Ok(Response::new(self.list(&viewer, opened.message).or_status()?))
    }

    async fn get_kit(&self, request: Request<GetKitRequest>) -> Result<Response<GetKitResponse>, Status> {
        let opened = open(request).or_status()?;
        let GetKitRequest { id, version } = opened.message;
        let kit = self.get(&Viewer::of(&opened.caller), &id, &version).await.or_status()?;
        Ok(Response::new(GetKitResponse { data: Some(kit) }))
    }

    async fn download_kit(&self, request: Request<DownloadKitRequest>) -> Result<Response<HttpBody>, Status> {
        let asked = request.metadata().clone();
        let opened = open(request).or_status()?;
        self.download(&asked, opened).await.or_status()
    }

    async fn validate_spec(
        &self,
        request: Request<ValidateSpecRequest>,
    ) -> Result<Response<ValidateSpecResponse>, Status> {
        let opened = open(request).or_status()?;
        Ok(Response::new(self.validate(opened).await.or_status()?))
    }

    async fn render_spec(
        &self,
        request: Request<RenderSpecRequest>,
    ) -> Result<Response<RenderSpecResponse>, Status> {
        let opened = open(request).or_status()?;
        Ok(Response::new(self.render(opened).await.or_status()?))
    }

    async fn list_tenant_kits(
        &self,
        request: Request<ListTenantKitsRequest>,
    ) -> Result<Response<ListTenantKitsResponse>, Status> {
        let opened = open(request).or_status()?;
        let ListTenantKitsRequest { tenant_id, limit, cursor } = opened.message;
        let viewer = self.viewer_of(&opened.caller, &tenant_id).or_status()?;
        let request = ListKitsRequest { limit, cursor, ..ListKitsRequest::default() };
        let ListKitsResponse { data, meta } = self.list(&viewer, request).or_status()?;
        Ok(Response::new(ListTenantKitsResponse { data, meta }))
    }

    async fn get_tenant_kit(
        &self,
        request: Request<GetTenantKitRequest>,
    ) -> Result<Response<GetTenantKitResponse>, Status> {
        let opened = open(request).or_status()?;
        let GetTenantKitRequest { tenant_id, kit } = opened.message;
        let viewer = self.viewer_of(&opened.caller, &tenant_id).or_status()?;
        let kit = self.get(&viewer, &kit, "").await.or_status()?;
        Ok(Response::new(GetTenantKitResponse { data: Some(kit) }))
    }

    async fn resolve_kit(
        &self,
        request: Request<ResolveKitRequest>,
    ) -> Result<Response<ResolveKitResponse>, Status> {
        let opened = open(request).or_status()?;
        Ok(Response::new(self.resolve(opened).await.or_status()?))
    }
}
