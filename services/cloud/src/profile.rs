//! The caller's own profile: contract C1, called at Admin.

use kombify_contracts::kombify::cloud::v1::profile_service_server::ProfileService;
use kombify_contracts::kombify::cloud::v1::{
    GetProfileRequest, GetProfileResponse, UpdateProfileRequest, UpdateProfileResponse,
};
use kombify_contracts::kombify::users::v1::user_service_client::UserServiceClient;
use kombify_contracts::kombify::users::v1::{GetUserRequest, UpdateUserRequest, User};
use kombify_core::Result;
use kombify_mesh::client::Peer;
use kombify_mesh::status::to_fault;
use kombify_mesh::{Opened, OrStatus as _, open};
use tonic::{Request, Response, Status};

/// The service.
pub struct Profile {
    admin: Peer,
}

impl Profile {
    /// The service, with `admin` behind it.
    pub fn new(admin: Peer) -> Self {
        Self { admin }
    }

    async fn get(&self, opened: Opened<GetProfileRequest>) -> Result<Option<User>> {
        let request = GetUserRequest { sub: opened.user()?.sub.to_string() };
        let answer = UserServiceClient::new(self.admin.clone()).get_user(request).await;
        Ok(answer.map_err(|status| to_fault(&status))?.into_inner().data)
    }

    async fn update(&self, opened: Opened<UpdateProfileRequest>) -> Result<Option<User>> {
        let sub = opened.user()?.sub.to_string();
        let UpdateProfileRequest { update, etag } = opened.message;
        let request = UpdateUserRequest { sub, update, etag };
        let answer = UserServiceClient::new(self.admin.clone()).update_user(request).await;
        Ok(answer.map_err(|status| to_fault(&status))?.into_inner().data)
    }
}

#[tonic::async_trait]
impl ProfileService for Profile {
    async fn get_profile(
        &self,
        request: Request<GetProfileRequest>,
    ) -> Result<Response<GetProfileResponse>, Status> {
        let data = self.get(open(request).or_status()?).await.or_status()?;
        Ok(Response::new(GetProfileResponse { data }))
    }

    async fn update_profile(
        &self,
        request: Request<UpdateProfileRequest>,
    ) -> Result<Response<UpdateProfileResponse>, Status> {
        let data = self.update(open(request).or_status()?).await.or_status()?;
        Ok(Response::new(UpdateProfileResponse { data }))
    }
}
