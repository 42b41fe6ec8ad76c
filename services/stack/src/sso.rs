//! Into the Stack without a second sign-in: contract C6, the Stack's half.

use kombify_contracts::kombify::sso::v1::launch_service_client::LaunchServiceClient;
use kombify_contracts::kombify::sso::v1::sso_service_server::SsoService;
use kombify_contracts::kombify::sso::v1::{
    ExchangeCodeRequest, ExchangeCodeResponse, RedeemLaunchCodeRequest, Redeemed, SsoSession, SsoUser,
};
use kombify_core::{Change, Error, Result, UserIdentity};
use kombify_mesh::handoff::read_moment;
use kombify_mesh::status::to_fault;
use kombify_mesh::{Opened, OrStatus as _, open};
use tonic::{Request, Response, Status};

use crate::sessions::{self, OpenedSession, SignedIn};
use crate::{Entrance, Host, convert};

/// The service.
pub struct Sso {
    host: Host,
}

impl Sso {
    /// The service, on a host.
    pub fn new(host: &Host) -> Self {
        Self { host: host.clone() }
    }

    async fn exchange(&self, opened: Opened<ExchangeCodeRequest>) -> Result<SsoSession> {
        // Without a challenge: a code that was issued for a browser is not good here.
        let (session, user) = enter(&self.host, &opened.change, &opened.message.code, "").await?;
        let OpenedSession { token, tenant, role, expire_time } = session;
        Ok(SsoSession {
            token,
            tenant_id: tenant.id.to_string(),
            tenant_slug: tenant.slug.to_string(),
            user: Some(SsoUser {
                id: user.sub.to_string(),
                email: user.email.unwrap_or_default(),
                role: role.to_string(),
            }),
            redirect_url: format!("{}/", self.host.origin),
            expire_time: Some(convert::time(expire_time)),
        })
    }
}

/// Redeems a launch code at Admin, and opens the session that it stands for.
///
/// # Errors
/// - [`Error::AuthInvalid`] if Admin refuses the code; the text says why.
/// - those of [`sessions::open`].
pub(crate) async fn enter(
    host: &Host,
    change: &Change,
    code: &str,
    challenge: &str,
) -> Result<(OpenedSession, UserIdentity)> {
    let Entrance::Platform { admin, .. } = &host.entrance else {
        return Err(Error::NotImplemented("single sign-on".into()));
    };
    let request = RedeemLaunchCodeRequest { code: code.to_owned(), challenge: challenge.to_owned() };
    let answer = LaunchServiceClient::new(admin.clone()).redeem_launch_code(request).await;
    let redeemed = answer.map_err(|status| to_fault(&status))?.into_inner().data.unwrap_or_default();
    let (tenant, user) = read(redeemed, change)?;
    let session =
        sessions::open(host, change, SignedIn { user: user.clone(), password_hash: None }, &tenant).await?;
    Ok((session, user))
}

fn read(redeemed: Redeemed, change: &Change) -> Result<(String, UserIdentity)> {
    let Redeemed { tenant_id, sub, email, name, org_id, roles, auth_time } = redeemed;
    let some = |text: String| (!text.is_empty()).then_some(text);
    let user = UserIdentity {
        sub: sub.parse()?,
        org: None,
        owner: org_id.parse()?,
        email: some(email),
        name: some(name),
        roles: roles.into_iter().collect(),
        issued_at: change.time,
        signed_in_at: read_moment("authTime", auth_time)?,
        impersonator: None,
    };
    Ok((tenant_id, user))
}

#[tonic::async_trait]
impl SsoService for Sso {
    async fn exchange_code(
        &self,
        request: Request<ExchangeCodeRequest>,
    ) -> Result<Response<ExchangeCodeResponse>, Status> {
        let session = self.exchange(open(request).or_status()?).await.or_status()?;
        Ok(Response::new(ExchangeCodeResponse { data: Some(session) }))
    }
}
