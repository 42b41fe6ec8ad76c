//! An Admin that is made for tests: the few methods that Cloud's pages call, without rooms.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};

use kombify_contracts::kombify::identity::v1::revocation_service_server::{
    RevocationService, RevocationServiceServer,
};
use kombify_contracts::kombify::identity::v1::{RevokeSessionsRequest, RevokeSessionsResponse};
use kombify_contracts::kombify::sso::v1::launch_service_server::{LaunchService, LaunchServiceServer};
use kombify_contracts::kombify::sso::v1::{
    CreateLaunchCodeRequest, CreateLaunchCodeResponse, LaunchCode, RedeemLaunchCodeRequest,
    RedeemLaunchCodeResponse,
};
use kombify_contracts::kombify::tenancy::v1::tenant_service_server::{TenantService, TenantServiceServer};
use kombify_contracts::kombify::tenancy::v1::{
    CreateTenantRequest, CreateTenantResponse, DeleteTenantForOwnerRequest, DeleteTenantForOwnerResponse,
    DeleteTenantRequest, DeleteTenantResponse, GetTenantRequest, GetTenantResponse, Launch,
    LaunchTenantRequest, LaunchTenantResponse, ListAllTenantsRequest, ListAllTenantsResponse,
    ListTenantsRequest, ListTenantsResponse, ResumeTenantRequest, ResumeTenantResponse, SuspendTenantRequest,
    SuspendTenantResponse, Tenant, UndeleteTenantForOwnerRequest, UndeleteTenantForOwnerResponse,
    UndeleteTenantRequest, UndeleteTenantResponse,
};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tonic::service::Routes;
use tonic::{Request, Response, Status};

/// Where browsers reach the instance of every tenant.
pub(super) const STACK: &str = "http://stack.example:8080";

/// The one launch code.
pub(super) const CODE: &str = "the-code-that-nobody-else-must-ever-see-123";

/// A call, as it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Call {
    pub(super) method: &'static str,
    /// Whether it brought a service's own token.
    pub(super) by_service: bool,
    /// The user's token beside it.
    pub(super) user_token: String,
    /// What it asked for.
    pub(super) asked: String,
}

/// What a test sets and looks at.
#[derive(Default)]
pub(super) struct Told {
    pub(super) tenants: Vec<Tenant>,
    /// What is answered instead, and to which method.
    pub(super) fault: Option<(&'static str, Status)>,
    pub(super) calls: Vec<Call>,
}

#[derive(Default)]
pub(super) struct Admin {
    told: Mutex<Told>,
}

impl Admin {
    /// Starts it, and says where it is.
    pub(super) async fn start(tasks: &mut JoinSet<()>) -> (Arc<Self>, String) {
        let admin = Arc::new(Self::default());
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let router = Routes::new(TenantServiceServer::from_arc(Arc::clone(&admin)))
            .add_service(LaunchServiceServer::from_arc(Arc::clone(&admin)))
            .add_service(RevocationServiceServer::from_arc(Arc::clone(&admin)))
            .into_axum_router();
        tasks.spawn(async move { axum::serve(listener, router).await.unwrap() });
        (admin, url)
    }

    pub(super) fn told(&self) -> MutexGuard<'_, Told> {
        self.told.lock().unwrap()
    }

    /// Answers `method` with this from now on.
    pub(super) fn refuses(&self, method: &'static str, fault: &kombify_core::Error) {
        self.told().fault = Some((method, kombify_mesh::status::from_fault(fault)));
    }

    /// The calls since the last look.
    pub(super) fn calls(&self) -> Vec<Call> {
        std::mem::take(&mut self.told().calls)
    }

    fn called<T: std::fmt::Debug>(&self, method: &'static str, request: &Request<T>) -> Result<(), Status> {
        let text = |name: &str| {
            request.metadata().get(name).map(|value| value.to_str().unwrap().to_owned()).unwrap_or_default()
        };
        let call = Call {
            method,
            by_service: text("authorization").starts_with("Bearer ey"),
            user_token: text("x-kombify-user-token"),
            asked: format!("{:?}", request.get_ref()),
        };
        let mut told = self.told();
        told.calls.push(call);
        match &told.fault {
            Some((refused, fault)) if *refused == method => Err(fault.clone()),
            Some(_) | None => Ok(()),
        }
    }
}

/// A tenant, as a list shows it.
pub(super) fn tenant(slug: &str, status: &str) -> Tenant {
    Tenant {
        slug: slug.to_owned(),
        name: format!("{slug} & more"),
        plan: "free".to_owned(),
        status: status.to_owned(),
        ..Tenant::default()
    }
}

/// Methods that Cloud's pages never call.
macro_rules! not_here {
    ($($method:ident($request:ident) -> $response:ident;)*) => {
        $(
            fn $method<'life0, 'async_trait>(
                &'life0 self,
                _: Request<$request>,
            ) -> Pin<Box<dyn Future<Output = Result<Response<$response>, Status>> + Send + 'async_trait>>
            where
                'life0: 'async_trait,
                Self: 'async_trait,
            {
                Box::pin(async { Err(Status::unimplemented("not here")) })
            }
        )*
    };
}

#[tonic::async_trait]
impl TenantService for Admin {
    async fn create_tenant(
        &self,
        request: Request<CreateTenantRequest>,
    ) -> Result<Response<CreateTenantResponse>, Status> {
        self.called("CreateTenant", &request)?;
        let made = tenant(&request.get_ref().slug, "active");
        self.told().tenants.push(made.clone());
        Ok(Response::new(CreateTenantResponse { data: Some(made) }))
    }

    async fn list_tenants(
        &self,
        request: Request<ListTenantsRequest>,
    ) -> Result<Response<ListTenantsResponse>, Status> {
        self.called("ListTenants", &request)?;
        Ok(Response::new(ListTenantsResponse { data: self.told().tenants.clone(), meta: None }))
    }

    async fn launch_tenant(
        &self,
        request: Request<LaunchTenantRequest>,
    ) -> Result<Response<LaunchTenantResponse>, Status> {
        self.called("LaunchTenant", &request)?;
        let redirect_url = format!("{STACK}/sso/start?tenant={}", request.get_ref().tenant);
        Ok(Response::new(LaunchTenantResponse { data: Some(Launch { redirect_url }) }))
    }

    not_here! {
        get_tenant(GetTenantRequest) -> GetTenantResponse;
        delete_tenant(DeleteTenantRequest) -> DeleteTenantResponse;
        undelete_tenant(UndeleteTenantRequest) -> UndeleteTenantResponse;
        list_all_tenants(ListAllTenantsRequest) -> ListAllTenantsResponse;
        suspend_tenant(SuspendTenantRequest) -> SuspendTenantResponse;
        resume_tenant(ResumeTenantRequest) -> ResumeTenantResponse;
        delete_tenant_for_owner(DeleteTenantForOwnerRequest) -> DeleteTenantForOwnerResponse;
        undelete_tenant_for_owner(UndeleteTenantForOwnerRequest) -> UndeleteTenantForOwnerResponse;
    }
}

#[tonic::async_trait]
impl LaunchService for Admin {
    async fn create_launch_code(
        &self,
        request: Request<CreateLaunchCodeRequest>,
    ) -> Result<Response<CreateLaunchCodeResponse>, Status> {
        self.called("CreateLaunchCode", &request)?;
        let code = LaunchCode {
            code: CODE.to_owned(),
            public_endpoint: STACK.to_owned(),
            instance_id: request.into_inner().instance_id,
            expire_time: None,
        };
        Ok(Response::new(CreateLaunchCodeResponse { data: Some(code) }))
    }

    not_here! {
        redeem_launch_code(RedeemLaunchCodeRequest) -> RedeemLaunchCodeResponse;
    }
}

#[tonic::async_trait]
impl RevocationService for Admin {
    async fn revoke_sessions(
        &self,
        request: Request<RevokeSessionsRequest>,
    ) -> Result<Response<RevokeSessionsResponse>, Status> {
        self.called("RevokeSessions", &request)?;
        Ok(Response::new(RevokeSessionsResponse {}))
    }
}
