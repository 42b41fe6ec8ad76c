//! Local accounts: how people sign in where a Stack stands alone.

use kombify_contracts::kombify::stack::v1::account_service_server::AccountService;
use kombify_contracts::kombify::stack::v1::{
    ChangePasswordRequest, ChangePasswordResponse, CreateAccountRequest, CreateAccountResponse,
    Session as SessionMessage, SignInRequest, SignInResponse, SignOutRequest, SignOutResponse,
};
use kombify_core::host::{Account, HostStore};
use kombify_core::member::{AcceptBy, Joining, MemberStore};
use kombify_core::{Actor, Change, Error, Memberships, Result, Sub};
use kombify_mesh::{Opened, OrStatus as _, open, secret};
use secrecy::SecretString;
use tonic::{Request, Response, Status};

use crate::password::Passwords;
use crate::sessions::{self, OpenedSession, SignedIn, local_user};
use crate::{Entrance, Host, convert, members};

/// The service.
pub struct Accounts {
    host: Host,
    passwords: Passwords,
}

impl Accounts {
    /// The service, on a host.
    pub fn new(host: &Host) -> Self {
        Self { host: host.clone(), passwords: Passwords::new() }
    }

    fn check_mode(&self) -> Result<()> {
        match self.host.entrance {
            Entrance::Alone => Ok(()),
            Entrance::Platform { .. } => Err(Error::NotImplemented(
                "a local account: people sign in at the identity provider, and it".into(),
            )),
        }
    }

    async fn sign_in(&self, opened: Opened<SignInRequest>) -> Result<SessionMessage> {
        self.check_mode()?;
        let SignInRequest { login, password } = opened.message;
        let account = HostStore::find_account(&*self.host.keep, &login).await?;
        let hash = account.as_ref().map(|account| account.password_hash.as_str());
        let right = self.passwords.verify(hash, SecretString::from(password)).await?;
        let Some(account) = account.filter(|_| right) else {
            return Err(Error::AuthInvalid("the login or the password is wrong"));
        };
        self.open(&opened.change, account).await
    }

    /// Opens a session of an account for the tenant that it is a member of.
    async fn open(&self, change: &Change, account: Account) -> Result<SessionMessage> {
        let Account { sub, login: _, name, password_hash: _ } = account;
        let memberships = MemberStore::memberships(&*self.host.keep, &sub, change.time).await?;
        let tenant = first(&memberships).ok_or(Error::AuthInvalid("the account is no member any more"))?;
        let user = local_user(sub, name, change.time);
        let session = sessions::open(&self.host, change, SignedIn { user }, &tenant).await?;
        let OpenedSession { token, expire_time, .. } = session;
        Ok(SessionMessage { token, expire_time: Some(convert::time(expire_time)) })
    }

    async fn create(&self, opened: Opened<CreateAccountRequest>) -> Result<SessionMessage> {
        self.check_mode()?;
        let CreateAccountRequest { code, login, name, password } = opened.message;
        let absent = || Error::not_found("invitation", "of that code");
        let code_hash = secret::hash(&code);
        let tenant = MemberStore::tenant_of_code(&*self.host.keep, &code_hash).await?.ok_or_else(absent)?;
        let placed =
            HostStore::find_tenant(&*self.host.keep, &tenant.to_string()).await?.ok_or_else(absent)?;
        if HostStore::find_account(&*self.host.keep, &login).await?.is_some() {
            return Err(Error::Conflict(format!("the login {login} is taken")));
        }
        let sub: Sub = format!("local-{}", self.host.ids.uuid(opened.change.time)).parse()?;
        let password_hash = self.passwords.hash(&*self.host.ids, SecretString::from(password)).await?;
        let account = Account { sub: sub.clone(), login, name: name.clone(), password_hash };
        let actor = Actor { sub: Some(sub.clone()), ..opened.change.actor.clone() };
        let change = Change { actor, ..opened.change };
        // The membership first: without it an account could do nothing, and the code is good once.
        let joining = Joining { sub, email: String::new(), name, by: AcceptBy::Code(code_hash) };
        members::join(&self.host, &change.beside("invitation.accepted"), &placed, &joining).await?;
        if let Err(fault) = HostStore::add_account(&*self.host.keep, &change, &account).await {
            let scope =
                kombify_core::TenantScope::system(placed.id, "an account that could not be made leaves");
            MemberStore::remove(&*self.host.keep, scope, &change.beside("member.removed"), &account.sub)
                .await?;
            return Err(fault);
        }
        self.open(&change, account).await
    }

    async fn change_password(&self, opened: Opened<ChangePasswordRequest>) -> Result<()> {
        self.check_mode()?;
        let sub = opened.user()?.sub.clone();
        let ChangePasswordRequest { password, new_password } = opened.message;
        let account = HostStore::account_of(&*self.host.keep, &sub).await?;
        let hash = account.as_ref().map(|account| account.password_hash.as_str());
        if !self.passwords.verify(hash, SecretString::from(password)).await? {
            return Err(Error::AuthInvalid("the present password is wrong"));
        }
        let hash = self.passwords.hash(&*self.host.ids, SecretString::from(new_password)).await?;
        HostStore::set_password(&*self.host.keep, &opened.change, &sub, &hash).await?;
        let change = opened.change.beside("user.logout");
        HostStore::end_sessions_of(&*self.host.keep, &change, &sub).await?;
        tracing::info!(user.sub = %sub, "password changed");
        Ok(())
    }
}

/// The first tenant of somebody: alone, a Stack has one.
fn first(memberships: &Memberships) -> Option<String> {
    memberships.iter().next().map(|membership| membership.tenant.to_string())
}

#[tonic::async_trait]
impl AccountService for Accounts {
    async fn sign_in(&self, request: Request<SignInRequest>) -> Result<Response<SignInResponse>, Status> {
        let session = self.sign_in(open(request).or_status()?).await.or_status()?;
        Ok(Response::new(SignInResponse { data: Some(session) }))
    }

    async fn sign_out(&self, request: Request<SignOutRequest>) -> Result<Response<SignOutResponse>, Status> {
        let opened = open(request).or_status()?;
        sessions::end(&self.host, &opened.change, &opened.message.token).await.or_status()?;
        Ok(Response::new(SignOutResponse {}))
    }

    async fn create_account(
        &self,
        request: Request<CreateAccountRequest>,
    ) -> Result<Response<CreateAccountResponse>, Status> {
        let session = self.create(open(request).or_status()?).await.or_status()?;
        Ok(Response::new(CreateAccountResponse { data: Some(session) }))
    }

    async fn change_password(
        &self,
        request: Request<ChangePasswordRequest>,
    ) -> Result<Response<ChangePasswordResponse>, Status> {
        self.change_password(open(request).or_status()?).await.or_status()?;
        Ok(Response::new(ChangePasswordResponse {}))
    }
}
