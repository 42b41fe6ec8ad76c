//! Users: contract C1.

use std::sync::Arc;
use std::time::Duration;

use jiff::tz::TimeZone;
use kombify_contracts::kombify::users::v1::user_service_server::UserService;
use kombify_contracts::kombify::users::v1::{
    GetUserRequest, GetUserResponse, ListUsersRequest, ListUsersResponse, LockUserRequest, LockUserResponse,
    LockedUser, UnlockUserRequest, UnlockUserResponse, UpdateUserRequest, UpdateUserResponse,
    User as UserMessage, UserUpdate,
};
use kombify_core::sync::{SyncKind, SyncStore};
use kombify_core::user::{Revoked, Theme, UserFilter, UserPatch, UserStore};
use kombify_core::{Change, Clock, Error, Etag, Page, PlatformStore, Result, Sub};
use kombify_mesh::{Opened, OrStatus as _, open};
use tokio::sync::Notify;
use tokio::time::Instant;
use tonic::{Request, Response, Status};

use crate::provider::ProviderUsers;
use crate::{Platform, answer_by, convert};

/// The service.
pub struct Users {
    store: Arc<dyn PlatformStore>,
    clock: Arc<dyn Clock>,
    provider: ProviderUsers,
    pushes: Arc<Notify>,
    acknowledgements: Arc<Notify>,
}

/// How long a lock waits for the modules. Source: contract C2.
const ACKNOWLEDGED_WITHIN: Duration = Duration::from_secs(5);

/// Between two looks at who has acknowledged.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

impl Users {
    /// The service, on the platform's store.
    pub fn new(platform: &Platform) -> Self {
        Self {
            store: Arc::clone(&platform.store),
            clock: Arc::clone(&platform.clock),
            provider: platform.provider.clone(),
            pushes: Arc::clone(&platform.pushes),
            acknowledgements: Arc::clone(&platform.acknowledgements),
        }
    }

    async fn get(&self, opened: Opened<GetUserRequest>) -> Result<UserMessage> {
        let sub = own(&opened, &opened.message.sub)?;
        let user =
            UserStore::find(&*self.store, &sub).await?.ok_or_else(|| Error::not_found("user", &sub))?;
        Ok(convert::user(user, self.clock.now()))
    }

    async fn update(&self, opened: Opened<UpdateUserRequest>) -> Result<UserMessage> {
        let sub = own(&opened, &opened.message.sub)?;
        let etag = Etag::parse(&opened.message.etag)?;
        let patch = patch(opened.message.update.unwrap_or_default())?;
        let user = UserStore::update(&*self.store, &opened.change, &sub, etag, patch).await?;
        Ok(convert::user(user, self.clock.now()))
    }

    async fn list(&self, opened: Opened<ListUsersRequest>) -> Result<ListUsersResponse> {
        let ListUsersRequest { limit, cursor, search, org_id } = opened.message;
        let page = Page::parse(limit, &cursor, &format!("users\n{search}\n{org_id}"))?;
        let owner = if org_id.is_empty() { None } else { Some(org_id.parse()?) };
        let listed = UserStore::list(&*self.store, &UserFilter { search, owner }, &page).await?;
        let (meta, now) = (convert::meta(&listed), self.clock.now());
        let data = listed.items.into_iter().map(|user| convert::user(user, now)).collect();
        Ok(ListUsersResponse { data, meta: Some(meta) })
    }
}

impl Users {
    /// Locks or unlocks: at the identity provider first, so that nothing here says what is not so there.
    async fn set_lock(&self, change: &Change, sub: &str, locked: bool, reason: &str) -> Result<LockedUser> {
        let sub: Sub = sub.parse()?;
        if UserStore::find(&*self.store, &sub).await?.is_none() {
            return Err(Error::not_found("user", sub));
        }
        self.provider.set_lock(&sub, locked).await?;
        let Revoked { user, version } =
            UserStore::set_lock(&*self.store, change, &sub, locked, reason).await?;
        self.pushes.notify_one();
        tracing::info!(user.sub = %sub, locked, "user lock set");
        let unacknowledged = self.unacknowledged(version).await?;
        Ok(LockedUser { user: Some(convert::user(user, self.clock.now())), unacknowledged })
    }

    /// The modules that do not have that version of the revocations yet, after a while.
    async fn unacknowledged(&self, version: u32) -> Result<Vec<String>> {
        let due = answer_by(ACKNOWLEDGED_WITHIN);
        loop {
            let streams = SyncStore::streams(&*self.store).await?;
            let behind: Vec<String> = streams
                .iter()
                .filter(|stream| stream.kind == SyncKind::Revocations)
                .filter(|stream| stream.acknowledged_version < version || stream.snapshot_due)
                .map(|stream| stream.target.to_string())
                .collect();
            if behind.is_empty() || Instant::now() >= due {
                return Ok(behind);
            }
            let _ = tokio::time::timeout(LOOK_AGAIN, self.acknowledgements.notified()).await;
        }
    }
}

/// The user of that `sub`, if it is the caller: whether another exists is nobody's business.
fn own<R>(opened: &Opened<R>, sub: &str) -> Result<Sub> {
    let caller = &opened.user()?.sub;
    if caller.as_str() == sub { Ok(caller.clone()) } else { Err(Error::not_found("user", sub)) }
}

fn patch(update: UserUpdate) -> Result<UserPatch> {
    let UserUpdate { display_name, avatar_url, preferences } = update;
    let preferences = preferences.unwrap_or_default();
    if let Some(zone) = preferences.timezone.as_deref().filter(|zone| !zone.is_empty()) {
        TimeZone::get(zone).map_err(|_| {
            Error::invalid(
                "update.preferences.timezone",
                "must be a zone of the IANA database, for example Europe/Zurich",
            )
        })?;
    }
    Ok(UserPatch {
        display_name: display_name.map(|name| name.trim().to_owned()),
        avatar_url,
        locale: preferences.locale,
        timezone: preferences.timezone,
        theme: preferences.theme.as_deref().map(Theme::parse).transpose()?,
        email_notices: preferences.email_notices,
    })
}

#[tonic::async_trait]
impl UserService for Users {
    async fn get_user(&self, request: Request<GetUserRequest>) -> Result<Response<GetUserResponse>, Status> {
        let user = self.get(open(request).or_status()?).await.or_status()?;
        Ok(Response::new(GetUserResponse { data: Some(user) }))
    }

    async fn update_user(
        &self,
        request: Request<UpdateUserRequest>,
    ) -> Result<Response<UpdateUserResponse>, Status> {
        let user = self.update(open(request).or_status()?).await.or_status()?;
        Ok(Response::new(UpdateUserResponse { data: Some(user) }))
    }

    async fn list_users(
        &self,
        request: Request<ListUsersRequest>,
    ) -> Result<Response<ListUsersResponse>, Status> {
        Ok(Response::new(self.list(open(request).or_status()?).await.or_status()?))
    }

    async fn lock_user(
        &self,
        request: Request<LockUserRequest>,
    ) -> Result<Response<LockUserResponse>, Status> {
        let Opened { change, message: LockUserRequest { sub, lock }, .. } = open(request).or_status()?;
        let reason = lock.unwrap_or_default().reason;
        let data = self.set_lock(&change, &sub, true, &reason).await.or_status()?;
        Ok(Response::new(LockUserResponse { data: Some(data) }))
    }

    async fn unlock_user(
        &self,
        request: Request<UnlockUserRequest>,
    ) -> Result<Response<UnlockUserResponse>, Status> {
        let Opened { change, message, .. } = open(request).or_status()?;
        let data = self.set_lock(&change, &message.sub, false, "").await.or_status()?;
        Ok(Response::new(UnlockUserResponse { data: Some(data) }))
    }
}
