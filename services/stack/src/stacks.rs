//! Stacks: made, read, changed and deleted by members.

use std::time::Duration;

use kombify_contracts::kombify::stack::v1::stack_service_server::StackService;
use kombify_contracts::kombify::stack::v1::{
    CreateStackRequest, CreateStackResponse, DeleteStackRequest, DeleteStackResponse, GetStackRequest,
    GetStackResponse, ListStacksRequest, ListStacksResponse, Stack as StackMessage, StackUpdate,
    UpdateStackRequest, UpdateStackResponse,
};
use kombify_core::stack::{NewStack, PinnedKit, SPEC_MAX_BYTES, StackPatch, StackStore};
use kombify_core::{Error, Etag, Page, Result, StackId, TenantScope};
use kombify_mesh::{Opened, OrStatus as _, open_tenant};
use tonic::{Request, Response, Status};

use crate::{Host, convert};

/// When to try again where the registry of kits is away.
const KITS_RETRY: Duration = Duration::from_secs(30);

/// The service.
pub struct Stacks {
    host: Host,
}

impl Stacks {
    /// The service, on a host.
    pub fn new(host: &Host) -> Self {
        Self { host: host.clone() }
    }

    async fn create(&self, scope: TenantScope, opened: Opened<CreateStackRequest>) -> Result<StackMessage> {
        let CreateStackRequest { name, kit, kit_version, spec_yaml } = opened.message;
        if kit.is_empty() && !kit_version.is_empty() {
            return Err(Error::invalid("kitVersion", "must be empty without a kit"));
        }
        check_spec("specYaml", &spec_yaml)?;
        let stack = NewStack {
            id: self.host.ids.stack(opened.change.time),
            name: name.parse()?,
            kit: pin(&kit)?,
            spec_yaml,
        };
        let limits = self.host.limits(scope).await?.into();
        let stack = StackStore::create(&*self.host.keep, scope, &opened.change, &stack, limits).await?;
        tracing::info!(tenant.id = %stack.tenant, stack.id = %stack.id, "stack created");
        Ok(convert::stack(stack))
    }

    async fn get(&self, scope: TenantScope, id: &str) -> Result<StackMessage> {
        let id: StackId = id.parse()?;
        let stack = StackStore::find(&*self.host.keep, scope, id).await?;
        stack.map(convert::stack).ok_or_else(|| Error::not_found("stack", id))
    }

    async fn list(&self, scope: TenantScope, request: ListStacksRequest) -> Result<ListStacksResponse> {
        let page = Page::parse(request.limit, &request.cursor, &format!("stacks of {}", scope.tenant()))?;
        let listed = StackStore::list(&*self.host.keep, scope, &page).await?;
        let meta = convert::meta(&listed);
        Ok(ListStacksResponse {
            data: listed.items.into_iter().map(convert::stack).collect(),
            meta: Some(meta),
        })
    }

    async fn update(&self, scope: TenantScope, opened: Opened<UpdateStackRequest>) -> Result<StackMessage> {
        let UpdateStackRequest { id, update, etag } = opened.message;
        let (id, etag): (StackId, _) = (id.parse()?, Etag::parse(&etag)?);
        let StackUpdate { name, spec_yaml, kit } = update.unwrap_or_default();
        if let Some(spec) = &spec_yaml {
            check_spec("update.specYaml", spec)?;
        }
        let patch = StackPatch {
            name: name.map(|name| name.parse()).transpose()?,
            spec_yaml,
            kit: kit.as_deref().map(pin).transpose()?,
        };
        let limits = self.host.limits(scope).await?.into();
        let stack =
            StackStore::update(&*self.host.keep, scope, &opened.change, id, etag, patch, limits).await?;
        tracing::info!(tenant.id = %stack.tenant, stack.id = %stack.id, "stack updated");
        Ok(convert::stack(stack))
    }

    async fn delete(&self, scope: TenantScope, opened: Opened<DeleteStackRequest>) -> Result<()> {
        let DeleteStackRequest { id, etag } = &opened.message;
        let (id, etag): (StackId, _) = (id.parse()?, Etag::parse(etag)?);
        StackStore::delete(&*self.host.keep, scope, &opened.change, id, etag).await?;
        tracing::info!(tenant.id = %scope.tenant(), stack.id = %id, "stack deleted");
        Ok(())
    }
}

/// The contract bounds characters; the store bounds bytes.
fn check_spec(field: &str, spec: &str) -> Result<()> {
    if spec.len() > SPEC_MAX_BYTES {
        return Err(Error::invalid(field, format!("must be at most {SPEC_MAX_BYTES} bytes")));
    }
    Ok(())
}

/// The version of a kit that a stack is pinned to: the registry of kits would say which. It is not there yet.
fn pin(kit: &str) -> Result<Option<PinnedKit>> {
    if kit.is_empty() {
        return Ok(None);
    }
    Err(Error::unavailable("the registry of kits is away: without a kit the stack is a draft", KITS_RETRY))
}

#[tonic::async_trait]
impl StackService for Stacks {
    async fn create_stack(
        &self,
        request: Request<CreateStackRequest>,
    ) -> Result<Response<CreateStackResponse>, Status> {
        let (scope, opened) = open_tenant(request).or_status()?;
        let stack = self.create(scope, opened).await.or_status()?;
        Ok(Response::new(CreateStackResponse { data: Some(stack) }))
    }

    async fn get_stack(
        &self,
        request: Request<GetStackRequest>,
    ) -> Result<Response<GetStackResponse>, Status> {
        let (scope, opened) = open_tenant(request).or_status()?;
        let stack = self.get(scope, &opened.message.id).await.or_status()?;
        Ok(Response::new(GetStackResponse { data: Some(stack) }))
    }

    async fn list_stacks(
        &self,
        request: Request<ListStacksRequest>,
    ) -> Result<Response<ListStacksResponse>, Status> {
        let (scope, opened) = open_tenant(request).or_status()?;
        Ok(Response::new(self.list(scope, opened.message).await.or_status()?))
    }

    async fn update_stack(
        &self,
        request: Request<UpdateStackRequest>,
    ) -> Result<Response<UpdateStackResponse>, Status> {
        let (scope, opened) = open_tenant(request).or_status()?;
        let stack = self.update(scope, opened).await.or_status()?;
        Ok(Response::new(UpdateStackResponse { data: Some(stack) }))
    }

    async fn delete_stack(
        &self,
        request: Request<DeleteStackRequest>,
    ) -> Result<Response<DeleteStackResponse>, Status> {
        let (scope, opened) = open_tenant(request).or_status()?;
        self.delete(scope, opened).await.or_status()?;
        Ok(Response::new(DeleteStackResponse {}))
    }
}
