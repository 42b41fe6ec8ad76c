//! Local accounts: how people sign in where a Stack stands alone.

use kombify_contracts::kombify::stack::v1::account_service_server::AccountService;
use kombify_contracts::kombify::stack::v1::{
    ChangePasswordRequest, ChangePasswordResponse, CreateAccountRequest, CreateAccountResponse,
    Session as SessionMessage, SignInRequest, SignInResponse, SignOutRequest, SignOutResponse,
};
use kombify_core::host::{Account, AccountStore, HostStore};
use kombify_core::member::{AcceptBy, Joining, MemberStore};
use kombify_core::{Actor, Change, Error, Memberships, Result, Sub};
use kombify_mesh::{Opened, OrStatus as _, open, secret};
use secrecy::SecretString;
use tokio::sync::Mutex;
use tonic::{Request, Response, Status};

use crate::password::Passwords;
use crate::sessions::{self, OpenedSession, SignedIn, local_user};
use crate::{Entrance, Host, convert, members};

/// The service.
pub struct Accounts {
    host: Host,
    passwords: Passwords,
    /// Whose turn it is to join: a new account that is taken back is nobody else's meanwhile.
    joining: Mutex<()>,
}

impl Accounts {
    /// The service, on a host.
    pub fn new(host: &Host) -> Self {
        Self { host: host.clone(), passwords: Passwords::new(), joining: Mutex::default() }
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
        let account = AccountStore::find_account(&*self.host.keep, &login).await?;
        let hash = account.as_ref().map(|account| account.password_hash.as_str());
        let right = self.passwords.verify(hash, SecretString::from(password)).await?;
        let Some(account) = account.filter(|_| right) else {
            return Err(Error::AuthInvalid("the login or the password is wrong"));
        };
        self.open(&opened.change, account).await
    }

    /// Opens a session of an account, whose password is right, for the tenant that it is a member of.
    async fn open(&self, change: &Change, account: Account) -> Result<SessionMessage> {
        let Account { sub, login: _, name, password_hash } = account;
        let memberships = MemberStore::memberships(&*self.host.keep, &sub, change.time).await?;
        let tenant = first(&memberships).ok_or(Error::AuthInvalid("the account is no member any more"))?;
        let user = local_user(sub, name, change.time);
        let signed_in = SignedIn { user, password_hash: Some(password_hash) };
        let OpenedSession { token, expire_time, .. } =
            sessions::open(&self.host, change, signed_in, &tenant).await?;
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
        let password = SecretString::from(password);
        let turn = self.joining.lock().await;
        let known = AccountStore::find_account(&*self.host.keep, &login).await?;
        let is_new = known.is_none();
        let account = match known {
            // Of whoever was removed, or did not come as far as the membership.
            Some(account) => self.known(account, password).await?,
            None => self.new_account(&opened.change, login, name, password).await?,
        };
        let actor = Actor { sub: Some(account.sub.clone()), ..opened.change.actor.clone() };
        let change = Change { actor, ..opened.change };
        // The account first: without a membership it can do nothing, and the code is good once.
        if is_new {
            AccountStore::add_account(&*self.host.keep, &change, &account).await?;
        }
        let joining = Joining {
            sub: account.sub.clone(),
            email: String::new(),
            name: account.name.clone(),
            by: AcceptBy::Code(code_hash),
        };
        let accept = change.beside("invitation.accepted");
        if let Err(fault) = members::join(&self.host, &accept, &placed, &joining).await {
            if is_new {
                self.take_back(&change, &account).await;
            }
            return Err(fault);
        }
        drop(turn);
        self.open(&change, account).await
    }

    /// The account, for whoever has its password; for everybody else its login is taken.
    async fn known(&self, account: Account, password: SecretString) -> Result<Account> {
        if self.passwords.verify(Some(&account.password_hash), password).await? {
            Ok(account)
        } else {
            Err(Error::Conflict(format!("the login {} is taken", account.login)))
        }
    }

    async fn new_account(
        &self,
        change: &Change,
        login: String,
        name: String,
        password: SecretString,
    ) -> Result<Account> {
        let sub: Sub = format!("local-{}", self.host.ids.uuid(change.time)).parse()?;
        let password_hash = self.passwords.hash(&*self.host.ids, password).await?;
        Ok(Account { sub, login, name, password_hash })
    }

    /// Takes away the account of somebody who could not join. Where that fails, it waits for whoever has its password.
    async fn take_back(&self, change: &Change, account: &Account) {
        let change = change.beside("account.removed");
        let removed = AccountStore::remove_account(&*self.host.keep, &change, &account.sub).await;
        if let Err(cause) = removed {
            tracing::warn!(user.sub = %account.sub, %cause, "an account without a membership stays");
        }
    }

    async fn change_password(&self, opened: Opened<ChangePasswordRequest>) -> Result<()> {
        self.check_mode()?;
        let sub = opened.user()?.sub.clone();
        let ChangePasswordRequest { password, new_password } = opened.message;
        let account = AccountStore::account_of(&*self.host.keep, &sub).await?;
        let hash = account.as_ref().map(|account| account.password_hash.as_str());
        if !self.passwords.verify(hash, SecretString::from(password)).await? {
            return Err(Error::AuthInvalid("the present password is wrong"));
        }
        let hash = self.passwords.hash(&*self.host.ids, SecretString::from(new_password)).await?;
        AccountStore::set_password(&*self.host.keep, &opened.change, &sub, &hash).await?;
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
