//! `WhoAmI`: what a service makes of its caller. Every module serves it.

use kombify_contracts::kombify::identity::v1::identity_service_server::{
    IdentityService, IdentityServiceServer,
};
use kombify_contracts::kombify::identity::v1::{Identity, TenantMembership, WhoAmIRequest, WhoAmIResponse};
use kombify_core::{Result, TenantRole};
use tonic::{Request, Response, Status};

use crate::access::{Opened, open};
use crate::status::OrStatus as _;

/// The service.
#[derive(Clone, Copy, Debug)]
pub struct WhoAmI;

/// The service, ready to be served.
pub fn service() -> IdentityServiceServer<WhoAmI> {
    IdentityServiceServer::new(WhoAmI)
}

#[tonic::async_trait]
impl IdentityService for WhoAmI {
    async fn who_am_i(&self, request: Request<WhoAmIRequest>) -> Result<Response<WhoAmIResponse>, Status> {
        let identity = open(request).and_then(|opened| identify(&opened)).or_status()?;
        Ok(Response::new(WhoAmIResponse { data: Some(identity) }))
    }
}

fn identify<R>(opened: &Opened<R>) -> Result<Identity> {
    let (caller, user) = (&opened.caller, opened.user()?);
    let tenant =
        opened.tenant_header.as_ref().map(|tenant| caller.enter(tenant, TenantRole::Viewer)).transpose()?;
    let memberships = caller.memberships().iter().map(|membership| TenantMembership {
        tenant_id: membership.tenant.to_string(),
        slug: membership.slug.clone(),
        role: membership.role.to_string(),
    });
    Ok(Identity {
        user_id: user.sub.to_string(),
        email: user.email.clone().unwrap_or_default(),
        name: user.name.clone().unwrap_or_default(),
        org_id: user.org.as_ref().map(ToString::to_string).unwrap_or_default(),
        roles: user.roles.iter().cloned().collect(),
        plan: caller.plan().to_string(),
        tenant_id: tenant.map(|scope| scope.tenant().to_string()).unwrap_or_default(),
        service: caller.service().map(ToString::to_string).unwrap_or_default(),
        memberships: memberships.collect(),
    })
}
