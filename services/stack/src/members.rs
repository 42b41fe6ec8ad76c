//! Members and invitations.

use kombify_contracts::kombify::stack::v1::member_service_server::MemberService;
use kombify_contracts::kombify::stack::v1::{
    AcceptInvitationRequest, AcceptInvitationResponse, CreateInvitationRequest, CreateInvitationResponse,
    Invitation as InvitationMessage, Joined, LeaveTenantRequest, LeaveTenantResponse, ListInvitationsRequest,
    ListInvitationsResponse, ListMembersRequest, ListMembersResponse, Member as MemberMessage,
    RemoveMemberRequest, RemoveMemberResponse, UpdateMemberRequest, UpdateMemberResponse,
    WithdrawInvitationRequest, WithdrawInvitationResponse,
};
use kombify_contracts::kombify::users::v1::GetUserRequest;
use kombify_contracts::kombify::users::v1::user_service_client::UserServiceClient;
use kombify_core::host::HostStore;
use kombify_core::member::{AcceptBy, INVITATION_LIFETIME, Joining, MemberStore, NewInvitation};
use kombify_core::placed::{PlacedStatus, PlacedTenant};
use kombify_core::{Change, Error, Etag, Page, PlanGrant, Result, Sub, TenantScope, UserIdentity};
use kombify_mesh::secret;
use kombify_mesh::status::to_fault;
use kombify_mesh::{Opened, OrStatus as _, open, open_tenant};
use tonic::{Request, Response, Status};

use crate::{Entrance, Host, convert};

/// The service.
pub struct Members {
    host: Host,
}

impl Members {
    /// The service, on a host.
    pub fn new(host: &Host) -> Self {
        Self { host: host.clone() }
    }

    async fn list(&self, scope: TenantScope, request: ListMembersRequest) -> Result<ListMembersResponse> {
        let page = Page::parse(request.limit, &request.cursor, &format!("members of {}", scope.tenant()))?;
        let limit = self.host.limits(scope).await?.members;
        let listed = MemberStore::list(&*self.host.keep, scope, &page, limit).await?;
        let meta = convert::meta(&listed);
        let data = listed.items.into_iter().map(convert::member).collect();
        Ok(ListMembersResponse { data, meta: Some(meta) })
    }

    async fn update(&self, scope: TenantScope, opened: Opened<UpdateMemberRequest>) -> Result<MemberMessage> {
        let UpdateMemberRequest { sub, update, etag } = opened.message;
        let (sub, etag): (Sub, _) = (sub.parse()?, Etag::parse(&etag)?);
        let role = update.unwrap_or_default().role.unwrap_or_default().parse()?;
        let limit = self.host.limits(scope).await?.members;
        let member =
            MemberStore::set_role(&*self.host.keep, scope, &opened.change, &sub, etag, role, limit).await?;
        tracing::info!(tenant.id = %scope.tenant(), user.sub = %sub, %role, "member updated");
        Ok(convert::member(member))
    }

    async fn remove(&self, scope: TenantScope, change: &Change, sub: &Sub) -> Result<()> {
        let limit = self.host.limits(scope).await?.members;
        MemberStore::remove(&*self.host.keep, scope, change, sub, limit).await?;
        tracing::info!(tenant.id = %scope.tenant(), user.sub = %sub, "member removed");
        Ok(())
    }

    async fn invite(
        &self,
        scope: TenantScope,
        opened: Opened<CreateInvitationRequest>,
    ) -> Result<InvitationMessage> {
        let CreateInvitationRequest { email, role } = opened.message;
        let expire_time = opened.change.time.checked_add(INVITATION_LIFETIME).map_err(Error::internal)?;
        let (code, code_hash) = secret::make(&*self.host.ids);
        let invitation = NewInvitation {
            id: self.host.ids.invitation(opened.change.time),
            email: email.to_lowercase(),
            role: role.parse()?,
            code_hash,
            expire_time,
        };
        let limit = self.host.limits(scope).await?.members;
        let made = MemberStore::invite(&*self.host.keep, scope, &opened.change, &invitation, limit).await?;
        tracing::info!(tenant.id = %scope.tenant(), invitation.id = %made.id, "member invited");
        // A repeat finds an earlier invitation, whose code only its hash is known of.
        let code = if made.id == invitation.id { code } else { String::new() };
        Ok(InvitationMessage { code, ..convert::invitation(made) })
    }

    async fn invitations(
        &self,
        scope: TenantScope,
        request: ListInvitationsRequest,
    ) -> Result<ListInvitationsResponse> {
        let page =
            Page::parse(request.limit, &request.cursor, &format!("invitations of {}", scope.tenant()))?;
        let now = self.host.clock.now();
        let listed = MemberStore::invitations(&*self.host.keep, scope, &page, now).await?;
        let meta = convert::meta(&listed);
        let data = listed.items.into_iter().map(convert::invitation).collect();
        Ok(ListInvitationsResponse { data, meta: Some(meta) })
    }

    async fn accept(&self, opened: Opened<AcceptInvitationRequest>) -> Result<Joined> {
        let AcceptInvitationRequest { code, tenant } = &opened.message;
        let tenant =
            if tenant.is_empty() { opened.tenant_header.clone().unwrap_or_default() } else { tenant.clone() };
        let user = opened.user()?.clone();
        // The same for whoever is not invited, whether or not there is such a tenant.
        let absent = || {
            Error::not_found("invitation", if code.is_empty() { "for that address" } else { "of that code" })
        };
        let (email, name) = self.profile(&user).await?;
        let (named, by) = if code.is_empty() {
            if tenant.is_empty() {
                return Err(Error::invalid("tenant", "must be named where there is no code"));
            }
            if email.is_empty() {
                return Err(absent());
            }
            (tenant.clone(), AcceptBy::Email(email.to_lowercase()))
        } else {
            let hash = secret::hash(code);
            let id = MemberStore::tenant_of_code(&*self.host.keep, &hash).await?.ok_or_else(absent)?;
            (id.to_string(), AcceptBy::Code(hash))
        };
        let placed = HostStore::find_tenant(&*self.host.keep, &named).await?.ok_or_else(absent)?;
        if !tenant.is_empty() && tenant != placed.id.to_string() && tenant != placed.slug.as_str() {
            return Err(absent());
        }
        let joining = Joining { sub: user.sub.clone(), email, name, by };
        let member = join(&self.host, &opened.change, &placed, &joining).await?;
        Ok(Joined {
            tenant_id: placed.id.to_string(),
            tenant_slug: placed.slug.to_string(),
            role: member.role,
        })
    }

    /// The verified address and the name: what the caller's token or session has, else what Admin mirrors.
    async fn profile(&self, user: &UserIdentity) -> Result<(String, String)> {
        let known = |value: &Option<String>| value.clone().unwrap_or_default();
        match (&self.host.entrance, &user.email) {
            (Entrance::Platform { admin, .. }, None) => {
                let request = GetUserRequest { sub: user.sub.to_string() };
                let answer = UserServiceClient::new(admin.clone()).get_user(request).await;
                let mirrored =
                    answer.map_err(|status| to_fault(&status))?.into_inner().data.unwrap_or_default();
                Ok((mirrored.email, mirrored.display_name))
            }
            (Entrance::Platform { .. } | Entrance::Alone, _) => Ok((known(&user.email), known(&user.name))),
        }
    }
}

/// Makes somebody a member of a tenant by an invitation.
pub(crate) async fn join(
    host: &Host,
    change: &Change,
    placed: &PlacedTenant,
    joining: &Joining,
) -> Result<MemberMessage> {
    match placed.status {
        PlacedStatus::Active => {}
        PlacedStatus::Suspended => return Err(Error::TenantSuspended),
        PlacedStatus::Deleted | PlacedStatus::Erased => return Err(Error::not_found("tenant", &placed.slug)),
    }
    let scope = TenantScope::system(placed.id, "whoever is invited is no member yet");
    let plan = PlanGrant::plan_at(placed.grant.as_ref(), host.clock.now());
    let member = MemberStore::accept(&*host.keep, scope, change, joining, plan.limits().members).await?;
    tracing::info!(tenant.id = %placed.id, user.sub = %member.sub, role = %member.role, "member joined");
    Ok(convert::member(member))
}

#[tonic::async_trait]
impl MemberService for Members {
    async fn list_members(
        &self,
        request: Request<ListMembersRequest>,
    ) -> Result<Response<ListMembersResponse>, Status> {
        let (scope, opened) = open_tenant(request).or_status()?;
        Ok(Response::new(self.list(scope, opened.message).await.or_status()?))
    }

    async fn update_member(
        &self,
        request: Request<UpdateMemberRequest>,
    ) -> Result<Response<UpdateMemberResponse>, Status> {
        let (scope, opened) = open_tenant(request).or_status()?;
        let member = self.update(scope, opened).await.or_status()?;
        Ok(Response::new(UpdateMemberResponse { data: Some(member) }))
    }

    async fn remove_member(
        &self,
        request: Request<RemoveMemberRequest>,
    ) -> Result<Response<RemoveMemberResponse>, Status> {
        let (scope, Opened { change, message, .. }) = open_tenant(request).or_status()?;
        let sub = message.sub.parse().or_status()?;
        self.remove(scope, &change, &sub).await.or_status()?;
        Ok(Response::new(RemoveMemberResponse {}))
    }

    async fn leave_tenant(
        &self,
        request: Request<LeaveTenantRequest>,
    ) -> Result<Response<LeaveTenantResponse>, Status> {
        let (scope, opened) = open_tenant(request).or_status()?;
        let sub = opened.user().or_status()?.sub.clone();
        self.remove(scope, &opened.change, &sub).await.or_status()?;
        Ok(Response::new(LeaveTenantResponse {}))
    }

    async fn create_invitation(
        &self,
        request: Request<CreateInvitationRequest>,
    ) -> Result<Response<CreateInvitationResponse>, Status> {
        let (scope, opened) = open_tenant(request).or_status()?;
        let invitation = self.invite(scope, opened).await.or_status()?;
        Ok(Response::new(CreateInvitationResponse { data: Some(invitation) }))
    }

    async fn list_invitations(
        &self,
        request: Request<ListInvitationsRequest>,
    ) -> Result<Response<ListInvitationsResponse>, Status> {
        let (scope, opened) = open_tenant(request).or_status()?;
        Ok(Response::new(self.invitations(scope, opened.message).await.or_status()?))
    }

    async fn withdraw_invitation(
        &self,
        request: Request<WithdrawInvitationRequest>,
    ) -> Result<Response<WithdrawInvitationResponse>, Status> {
        let (scope, Opened { change, message, .. }) = open_tenant(request).or_status()?;
        let id = message.id.parse().or_status()?;
        MemberStore::withdraw(&*self.host.keep, scope, &change, id).await.or_status()?;
        tracing::info!(tenant.id = %scope.tenant(), invitation.id = %id, "invitation withdrawn");
        Ok(Response::new(WithdrawInvitationResponse {}))
    }

    async fn accept_invitation(
        &self,
        request: Request<AcceptInvitationRequest>,
    ) -> Result<Response<AcceptInvitationResponse>, Status> {
        let joined = self.accept(open(request).or_status()?).await.or_status()?;
        Ok(Response::new(AcceptInvitationResponse { data: Some(joined) }))
    }
}
