//! Users: contract C1.

use std::sync::Arc;

use jiff::tz::TimeZone;
use kombify_contracts::kombify::users::v1::user_service_server::UserService;
use kombify_contracts::kombify::users::v1::{
    GetUserRequest, GetUserResponse, ListUsersRequest, ListUsersResponse, UpdateUserRequest,
    UpdateUserResponse, User as UserMessage, UserUpdate,
};
use kombify_core::user::{Theme, UserFilter, UserPatch, UserStore};
use kombify_core::{Clock, Error, Etag, Page, PlatformStore, Result, Sub};
use kombify_mesh::{Opened, OrStatus as _, open};
use tonic::{Request, Response, Status};

use crate::{Platform, convert};

/// The service.
pub struct Users {
    store: Arc<dyn PlatformStore>,
    clock: Arc<dyn Clock>,
}

impl Users {
    /// The service, on the platform's store.
    pub fn new(platform: &Platform) -> Self {
        Self { store: Arc::clone(&platform.store), clock: Arc::clone(&platform.clock) }
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
}
