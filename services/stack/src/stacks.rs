//! Stacks: made, read, changed and deleted by members.

use std::collections::BTreeMap;

use kombify_contracts::kombify::stack::v1::stack_service_server::StackService;
use kombify_contracts::kombify::stack::v1::{
    CreateStackRequest, CreateStackResponse, DeleteStackRequest, DeleteStackResponse, GetStackRequest,
    GetStackResponse, ListStacksRequest, ListStacksResponse, Stack as StackMessage, StackUpdate,
    UpdateStackRequest, UpdateStackResponse,
};
use kombify_core::stack::{NewStack, PinnedKit, SPEC_MAX_BYTES, Stack, StackPatch, StackStore};
use kombify_core::{Change, Error, Etag, Page, Result, StackId, TenantScope};
use kombify_mesh::{Opened, OrStatus as _, open_tenant};
use tonic::{Request, Response, Status};

use crate::{Host, convert};

/// How often a change is tried anew that others overtake while the registry of kits is asked.
const TRIES: usize = 3;

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
        let name = name.parse()?;
        // A repeat is answered by what was made, whatever the registry says now.
        if let Some(earlier) = StackStore::repeated(&*self.host.keep, scope, &opened.change).await? {
            return Ok(convert::stack(earlier));
        }
        let stack = NewStack {
            id: self.host.ids.stack(opened.change.time),
            name,
            kit: self.pin(scope, &kit, ("kitVersion", &kit_version), &spec_yaml).await?,
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
        let update = update.unwrap_or_default();
        if let Some(spec) = &update.spec_yaml {
            check_spec("update.specYaml", spec)?;
        }
        let stack = self.change(scope, &opened.change, (id, etag), &update).await?;
        tracing::info!(tenant.id = %stack.tenant, stack.id = %stack.id, "stack updated");
        Ok(convert::stack(stack))
    }

    /// Changes a stack. The registry of kits is asked about the stack as it is: what others change meanwhile is not passed
    /// over.
    async fn change(
        &self,
        scope: TenantScope,
        change: &Change,
        (id, wanted): (StackId, Option<Etag>),
        update: &StackUpdate,
    ) -> Result<Stack> {
        let StackUpdate { name, spec_yaml, kit, kit_version } = update;
        let name: Option<kombify_core::stack::StackName> =
            name.as_ref().map(|name| name.parse()).transpose()?;
        let limits = self.host.limits(scope).await?.into();
        let asks = spec_yaml.is_some() || kit.is_some() || kit_version.is_some();
        for _ in 0..TRIES {
            let (etag, kit) = if asks {
                let stack = StackStore::find(&*self.host.keep, scope, id).await?;
                let stack = stack.ok_or_else(|| Error::not_found("stack", id))?;
                Etag::check(wanted, stack.etag)?;
                (Some(stack.etag), self.repin(scope, &stack, update).await?)
            } else {
                (wanted, None)
            };
            let patch = StackPatch { name: name.clone(), spec_yaml: spec_yaml.clone(), kit };
            match StackStore::update(&*self.host.keep, scope, change, id, etag, patch, limits).await {
                Err(Error::PreconditionFailed(_)) if asks && wanted.is_none() => {}
                done => return done,
            }
        }
        Err(Error::Conflict("the stack is being changed by others: try again".into()))
    }

    /// What a stack is pinned to after a change; `None`: as before.
    async fn repin(
        &self,
        scope: TenantScope,
        stack: &Stack,
        update: &StackUpdate,
    ) -> Result<Option<Option<PinnedKit>>> {
        let StackUpdate { name: _, spec_yaml, kit, kit_version } = update;
        let present = stack.kit.as_ref();
        let kit = kit.as_deref().unwrap_or_else(|| present.map_or("", |kit| kit.id.as_str()));
        if kit.is_empty() {
            if kit_version.as_deref().is_some_and(|version| !version.is_empty()) {
                return Err(Error::invalid("update.kitVersion", "must be empty without a kit"));
            }
            return Ok(Some(None));
        }
        // A kit that stays stays at its version, unless another one is asked for.
        let pinned =
            present.filter(|present| present.id == kit).map(|present| format!("={}", present.version));
        let range = kit_version.clone().or(pinned).unwrap_or_default();
        let spec = spec_yaml.as_deref().unwrap_or(&stack.spec_yaml);
        let pinned = self.pin(scope, kit, ("update.kitVersion", &range), spec).await?;
        // The version stays, and so does what it is.
        let stays = present.filter(|present| kit_version.is_none() && present.id == kit);
        if let (Some(before), Some(after)) = (stays, &pinned)
            && before.digest != after.digest
        {
            let message = format!("{kit} {} is another one now: send kitVersion to take it", before.version);
            return Err(Error::Conflict(message));
        }
        Ok(Some(pinned))
    }

    /// The version of a kit that a stack is pinned to; `None`: it is a draft.
    async fn pin(
        &self,
        scope: TenantScope,
        kit: &str,
        (field, range): (&str, &str),
        spec: &str,
    ) -> Result<Option<PinnedKit>> {
        if kit.is_empty() {
            return Ok(None);
        }
        let pinned = self.host.kits.pin(scope.tenant(), kit, range, spec).await;
        pinned.map(Some).map_err(|fault| as_asked(fault, field))
    }

    async fn delete(&self, scope: TenantScope, opened: Opened<DeleteStackRequest>) -> Result<()> {
        let DeleteStackRequest { id, etag } = &opened.message;
        let (id, etag): (StackId, _) = (id.parse()?, Etag::parse(etag)?);
        StackStore::delete(&*self.host.keep, scope, &opened.change, id, etag).await?;
        tracing::info!(tenant.id = %scope.tenant(), stack.id = %id, "stack deleted");
        Ok(())
    }
}

/// What was wrong, by the names of who asked the Stack: the registry has the range under a name of its own.
fn as_asked(mut fault: Error, field: &str) -> Error {
    let rename = |fields: &mut BTreeMap<String, String>| {
        if let Some(message) = fields.remove("range") {
            fields.insert(field.to_owned(), message);
        }
    };
    if let Error::Invalid(fields) = &mut fault {
        rename(fields);
    }
    if let Error::Remote(remote) = &mut fault {
        rename(&mut remote.details.fields);
        // Where only the range is wrong, the message names it, too.
        if let Some(rest) = remote.message.strip_prefix("range ") {
            remote.message = format!("{field} {rest}");
        }
    }
    fault
}

/// The contract bounds characters; the store bounds bytes.
fn check_spec(field: &str, spec: &str) -> Result<()> {
    if spec.len() > SPEC_MAX_BYTES {
        return Err(Error::invalid(field, format!("must be at most {SPEC_MAX_BYTES} bytes")));
    }
    Ok(())
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
