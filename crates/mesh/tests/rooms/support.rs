//! What the tests of the rooms stand on: a clock that is set by hand, ids that count, callers, and what stands before
//! and behind a room.

use std::convert::Infallible;
use std::future::Future;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context as Poller, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::{HeaderValue, Request, Response};
use http_body_util::{BodyExt as _, Full};
use jiff::{SignedDuration, Timestamp};
use kombify_core::error::Remote;
use kombify_core::{
    Caller, Clock, Code, Error, Ids, Membership, Memberships, OrgId, Plan, RequestId, ServiceIdentity, Sub,
    TenantId, TenantRole, TenantStanding, UserIdentity,
};
use kombify_mesh::context::Context;
use kombify_mesh::edge::ClientAddress;
use kombify_mesh::health::Health;
use kombify_mesh::room::{Room, RoomLayer};
use kombify_mesh::server::{App, Module, ServerConfig};
use kombify_mesh::status::{failed, read, refuse};
use kombify_mesh::trace::TraceContext;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tonic::body::Body;
use tower::{Layer as _, Service, ServiceExt as _};

use crate::mint::House;

/// Door USER, no audit name.
pub(crate) const GET_USER: &str = "/kombify.users.v1.UserService/GetUser";
/// Door USER, audited.
pub(crate) const UPDATE_USER: &str = "/kombify.users.v1.UserService/UpdateUser";
/// Door PLATFORM, rate class "admin", no audit name.
pub(crate) const LIST_USERS: &str = "/kombify.users.v1.UserService/ListUsers";
/// Door TENANT for viewers; the tenant stands in a field.
pub(crate) const GET_TENANT: &str = "/kombify.tenancy.v1.TenantService/GetTenant";
/// Door USER, audited, honours an idempotency key.
pub(crate) const CREATE_TENANT: &str = "/kombify.tenancy.v1.TenantService/CreateTenant";
/// Door SERVICE for Cloud, no rate class.
pub(crate) const REPORT_REFUSALS: &str = "/kombify.audit.v1.AuditService/ReportRefusals";
/// Door PUBLIC, rate class "other".
pub(crate) const LIST_KEYS: &str = "/kombify.mesh.v1.KeyService/ListKeys";
/// Door PUBLIC, rate class "sign-in", audited.
pub(crate) const REGISTER_KEY: &str = "/kombify.mesh.v1.KeyService/RegisterKey";
/// A method of others.
pub(crate) const HEALTH: &str = "/grpc.health.v1.Health/Check";

/// The id of every request of these tests.
pub(crate) const REQUEST_ID: &str = "req-1";
/// The address that every request of these tests comes from.
pub(crate) const ADDRESS: &str = "203.0.113.7";
/// The program that makes every request of these tests.
pub(crate) const USER_AGENT: &str = "rooms/1.0";
/// A port of this machine that is free.
pub(crate) const ANY_PORT: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// A clock that is set by hand.
pub(crate) struct Manual(Mutex<Timestamp>);

impl Manual {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self(Mutex::new("2026-01-02T03:04:05Z".parse().unwrap())))
    }

    pub(crate) fn advance(&self, seconds: i64) {
        *self.0.lock().unwrap() += SignedDuration::from_secs(seconds);
    }
}

impl Clock for Manual {
    fn now(&self) -> Timestamp {
        *self.0.lock().unwrap()
    }
}

/// Randomness that never repeats, and is the same in every run.
#[derive(Default)]
pub(crate) struct Counted(AtomicU64);

impl Ids for Counted {
    fn fill(&self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_mut(8) {
            let count = (self.0.fetch_add(1, Ordering::Relaxed) + 1).to_be_bytes();
            chunk.copy_from_slice(&count[8 - chunk.len()..]);
        }
    }
}

type Answer = Arc<dyn Fn(Request<Bytes>) -> BoxFuture<'static, Response<Body>> + Send + Sync>;

/// What stands behind a room: it records what reaches it, and answers what it is told.
#[derive(Clone)]
pub(crate) struct Stub {
    seen: Arc<Mutex<Vec<Request<Bytes>>>>,
    answer: Answer,
}

impl Stub {
    /// Answers what `answer` makes of the request.
    pub(crate) fn new<A, F>(answer: A) -> Self
    where
        A: Fn(Request<Bytes>) -> F + Send + Sync + 'static,
        F: Future<Output = Response<Body>> + Send + 'static,
    {
        let answer = move |request| -> BoxFuture<'static, Response<Body>> { Box::pin(answer(request)) };
        Self { seen: Arc::default(), answer: Arc::new(answer) }
    }

    /// Is content with everything.
    pub(crate) fn ok() -> Self {
        Self::new(|_| async { answered() })
    }

    /// Refuses everything.
    pub(crate) fn refusing(fault: impl Fn() -> Error + Send + Sync + 'static) -> Self {
        Self::new(move |_| {
            let response = refuse(&fault());
            async move { response }
        })
    }

    /// Never answers.
    pub(crate) fn silent() -> Self {
        Self::new(|_| std::future::pending())
    }

    /// How many requests came so far.
    pub(crate) fn reached(&self) -> usize {
        self.seen.lock().unwrap().len()
    }

    /// The request that came last.
    pub(crate) fn last(&self) -> Request<Bytes> {
        self.seen.lock().unwrap().last().unwrap().clone()
    }

    /// Waits until so many requests have come.
    pub(crate) async fn until_reached(&self, count: usize) {
        let reached = async {
            while self.reached() < count {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(Duration::from_secs(10), reached).await.unwrap();
    }
}

impl Service<Request<Body>> for Stub {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Poller<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let Self { seen, answer } = self.clone();
        Box::pin(async move {
            let (parts, body) = request.into_parts();
            let request = Request::from_parts(parts, body.collect().await.unwrap().to_bytes());
            seen.lock().unwrap().push(request.clone());
            Ok(answer(request).await)
        })
    }
}

/// A good answer.
pub(crate) fn answered() -> Response<Body> {
    let mut response = Response::new(Body::new(Full::new(Bytes::from_static(b"answer"))));
    response.headers_mut().insert("content-type", HeaderValue::from_static("application/grpc"));
    response
}

/// Sends `request` through `room` to `stub`.
pub(crate) async fn send(room: impl Room, stub: &Stub, request: Request<Body>) -> Response<Body> {
    RoomLayer(room).layer(stub.clone()).oneshot(request).await.unwrap()
}

/// A call of the method at `path`, as the outer rooms hand it on.
pub(crate) fn request(path: &str) -> Request<Body> {
    let request =
        Request::post(path).header("content-type", "application/grpc").header("user-agent", USER_AGENT);
    let mut request = request.body(Body::empty()).unwrap();
    let extensions = request.extensions_mut();
    extensions.insert(REQUEST_ID.parse::<RequestId>().unwrap());
    extensions.insert(TraceContext::continue_from(None, &Counted::default()));
    extensions.insert(ClientAddress(ADDRESS.to_owned()));
    request
}

/// The same with one header more.
pub(crate) fn with(mut request: Request<Body>, name: &'static str, value: &str) -> Request<Body> {
    request.headers_mut().append(name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
    request
}

/// The context of an anonymous request: only the identity room makes one.
pub(crate) async fn context() -> Context {
    let stub = Stub::ok();
    send(House::new().identify(), &stub, request(LIST_KEYS)).await;
    stub.last().extensions().get::<Context>().unwrap().clone()
}

/// A call of the method at `path` by `caller`, as the identity room hands it on.
pub(crate) async fn called(path: &str, caller: &Caller) -> Request<Body> {
    let mut request = request(path);
    request.extensions_mut().insert(Arc::new(caller.clone()));
    request.extensions_mut().insert(context().await);
    request
}

/// The code of a failed answer; `None` of a good one.
pub(crate) fn code(response: &Response<Body>) -> Option<Code> {
    failed(response).map(|status| read(&status).code)
}

/// What a failed answer says.
pub(crate) fn fault(response: &Response<Body>) -> Remote {
    read(&failed(response).unwrap())
}

/// The one value of a header of an answer.
pub(crate) fn header<'a>(response: &'a Response<Body>, name: &str) -> Option<&'a str> {
    let mut values = response.headers().get_all(name).iter();
    let first = values.next().map(|value| value.to_str().unwrap());
    assert_eq!(values.next(), None, "{name} is there twice");
    first
}

/// The body of an answer.
pub(crate) async fn body(response: Response<Body>) -> Bytes {
    response.into_body().collect().await.unwrap().to_bytes()
}

/// The module `module`, its one instance.
pub(crate) fn service(module: &str) -> ServiceIdentity {
    ServiceIdentity { module: module.to_owned(), instance: "local".to_owned() }
}

/// The user `sub`, with these roles.
pub(crate) fn user(sub: &str, roles: &[&str]) -> UserIdentity {
    let sub: Sub = sub.parse().unwrap();
    UserIdentity {
        owner: OrgId::alone(&sub),
        sub,
        org: None,
        email: None,
        name: None,
        roles: roles.iter().map(|role| (*role).to_owned()).collect(),
        issued_at: "2026-01-02T03:00:00Z".parse().unwrap(),
        signed_in_at: "2026-01-02T03:00:00Z".parse().unwrap(),
        impersonator: None,
    }
}

/// A caller as the identity room makes one.
#[expect(clippy::disallowed_methods, reason = "the rooms behind identity are tested without it")]
pub(crate) fn caller(
    user: Option<UserIdentity>,
    service: Option<ServiceIdentity>,
    plan: Plan,
    memberships: Vec<Membership>,
) -> Caller {
    Caller::new(user, service, plan, Memberships::new(memberships))
}

/// Ada: a user of the free plan, in no tenant.
pub(crate) fn ada() -> Caller {
    caller(Some(user("ada", &["user"])), None, Plan::Free, Vec::new())
}

/// The module `module`, for itself.
pub(crate) fn module(module: &str) -> Caller {
    caller(None, Some(service(module)), Plan::Free, Vec::new())
}

/// A membership in the tenant `slug`, whose id ends in `number`.
pub(crate) fn membership(slug: &str, number: u8, role: TenantRole) -> Membership {
    Membership { tenant: tenant_id(number), slug: slug.to_owned(), role, standing: TenantStanding::Open }
}

/// A tenant's id that ends in `number`.
pub(crate) fn tenant_id(number: u8) -> TenantId {
    format!("tenant_01890a5d-ac96-774b-bcce-b302099a80{number:02x}").parse().unwrap()
}

/// A stub that listens, served as a module is.
pub(crate) struct Served {
    pub(crate) url: String,
    pub(crate) address: SocketAddr,
    pub(crate) health: Health,
    pub(crate) cancel: CancellationToken,
    tasks: JoinSet<()>,
}

impl Served {
    pub(crate) async fn start(stub: &Stub) -> Self {
        Self::start_with(stub, ServerConfig::default(), ANY_PORT).await
    }

    pub(crate) async fn start_with(stub: &Stub, config: ServerConfig, address: SocketAddr) -> Self {
        let clock = Manual::new();
        let health = Health::new(clock.clone(), None);
        let module = Module {
            service: "test",
            config,
            clock,
            ids: Arc::new(Counted::default()),
            trusted_proxies: Vec::<IpAddr>::new().into(),
            health: health.clone(),
        };
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let cancel = CancellationToken::new();
        let (app, until) = (App::new(stub.clone()), cancel.clone());
        let mut tasks = JoinSet::new();
        tasks.spawn(async move { module.serve(listener, app, until).await });
        Self { url: format!("http://{address}"), address, health, cancel, tasks }
    }

    /// Waits until it serves no more.
    pub(crate) async fn ended(mut self) {
        timeout(Duration::from_secs(10), self.tasks.join_next()).await.unwrap().unwrap().unwrap();
    }
}
