//! Launch codes: contract C6, Admin's half.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::SignedDuration;
use kombify_contracts::kombify::sso::v1::launch_service_server::LaunchService;
use kombify_contracts::kombify::sso::v1::{
    CreateLaunchCodeRequest, CreateLaunchCodeResponse, LaunchCode, RedeemLaunchCodeRequest,
    RedeemLaunchCodeResponse, Redeemed,
};
use kombify_core::launch::{LAUNCH_SECONDS, Launch, LaunchStore, NewLaunch, Sha256};
use kombify_core::{Error, Ids, InstanceId, PlatformStore, Result, ServiceIdentity, TenantScope};
use kombify_mesh::secret;
use kombify_mesh::{Opened, OrStatus as _, open, open_tenant};
use tonic::{Request, Response, Status};

use crate::{Platform, convert};

/// The service.
pub struct Launches {
    store: Arc<dyn PlatformStore>,
    ids: Arc<dyn Ids>,
}

impl Launches {
    /// The service, on the platform's store.
    pub fn new(platform: &Platform) -> Self {
        Self { store: Arc::clone(&platform.store), ids: Arc::clone(&platform.ids) }
    }

    async fn create(
        &self,
        scope: TenantScope,
        opened: Opened<CreateLaunchCodeRequest>,
    ) -> Result<LaunchCode> {
        let user = opened.user()?;
        if opened
            .caller
            .service()
            .is_none_or(|service| !matches!(service.module.as_str(), "cloud" | "gateway"))
        {
            return Err(Error::AuthInsufficient(
                "launch codes are given to Cloud and the gateway only".into(),
            ));
        }
        if user.impersonator.is_some() {
            // A session would outlive the hour of an impersonation, and its rows would not name the one who acts.
            return Err(Error::AuthInsufficient("an impersonation opens no session at a Stack".into()));
        }
        let CreateLaunchCodeRequest { tenant: _, instance_id, challenge } = &opened.message;
        let expire_time = opened.change.time.checked_add(SignedDuration::from_secs(LAUNCH_SECONDS));
        let expire_time = expire_time.map_err(Error::internal)?;
        let (code, hash) = secret::make(&*self.ids);
        let launch = NewLaunch {
            hash,
            sub: user.sub.clone(),
            owner: user.owner.clone(),
            roles: user.roles.clone(),
            challenge: read_challenge(challenge)?,
            instance: if instance_id.is_empty() { None } else { Some(instance_id.parse()?) },
            auth_time: user.signed_in_at,
            expire_time,
        };
        let to = LaunchStore::issue(&*self.store, scope, &opened.change, &launch).await?;
        Ok(LaunchCode {
            code,
            public_endpoint: to.public_endpoint,
            instance_id: to.instance.to_string(),
            expire_time: Some(convert::time(expire_time)),
        })
    }

    async fn redeem(&self, opened: Opened<RedeemLaunchCodeRequest>) -> Result<Redeemed> {
        let instance = instance_of(opened.caller.service())?;
        let challenge = read_challenge(&opened.message.challenge)?;
        let hash = secret::hash(&opened.message.code);
        let launch =
            LaunchStore::redeem(&*self.store, &opened.change, &hash, instance, challenge.as_ref()).await?;
        let Launch { tenant, sub, owner, roles, email, name, auth_time } = launch;
        Ok(Redeemed {
            tenant_id: tenant.to_string(),
            sub: sub.to_string(),
            email,
            name,
            org_id: owner.to_string(),
            roles: roles.into_iter().collect(),
            auth_time: Some(convert::time(auth_time)),
        })
    }
}

/// The instance that a Stack is.
///
/// # Errors
/// - [`Error::AuthInsufficient`] if it is none.
pub fn instance_of(service: Option<&ServiceIdentity>) -> Result<InstanceId> {
    let refused = || Error::AuthInsufficient("this method is for the Stacks of instances".into());
    let service = service.filter(|service| service.module == "stack").ok_or_else(refused)?;
    service.instance.parse().map_err(|_| refused())
}

fn read_challenge(challenge: &str) -> Result<Option<Sha256>> {
    if challenge.is_empty() {
        return Ok(None);
    }
    let wrong = || Error::invalid("challenge", "must be a SHA-256 as base64url without padding");
    let bytes = URL_SAFE_NO_PAD.decode(challenge).map_err(|_| wrong())?;
    Ok(Some(bytes.try_into().map_err(|_| wrong())?))
}

#[tonic::async_trait]
impl LaunchService for Launches {
    async fn create_launch_code(
        &self,
        request: Request<CreateLaunchCodeRequest>,
    ) -> Result<Response<CreateLaunchCodeResponse>, Status> {
        let (scope, opened) = open_tenant(request).or_status()?;
        let code = self.create(scope, opened).await.or_status()?;
        Ok(Response::new(CreateLaunchCodeResponse { data: Some(code) }))
    }

    async fn redeem_launch_code(
        &self,
        request: Request<RedeemLaunchCodeRequest>,
    ) -> Result<Response<RedeemLaunchCodeResponse>, Status> {
        let redeemed = self.redeem(open(request).or_status()?).await.or_status()?;
        Ok(Response::new(RedeemLaunchCodeResponse { data: Some(redeemed) }))
    }
}
