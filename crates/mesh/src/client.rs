//! The client: how a module calls another. A call carries the deadline, the request's id, its trace, a service token,
//! and the token of the user for whom it is made.

use std::sync::Arc;
use std::task::{Context as Poller, Poll};
use std::time::Duration;

use futures_util::future::BoxFuture;
use http::header::AUTHORIZATION;
use http::{HeaderName, HeaderValue, Request, Response};
use kombify_core::{Error, Result, wire};
use tonic::Status;
use tonic::body::Body;
use tonic::transport::{Channel, Endpoint};
use tower::Service;

use crate::context::Context;
use crate::identity::service_token::Signer;
use crate::trace::TRACEPARENT;

/// How long a connection may take to come about.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// How long a call may take that no request causes.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);

/// How much earlier than the caller's deadline a called module must answer, so that its answer still gets through.
const MARGIN: Duration = Duration::from_millis(20);

/// A connection to the module at `url`, made when it is first used and made again when it breaks.
///
/// # Errors
/// - [`Error::Invalid`] if `url` is none.
pub fn connect(url: &str) -> Result<Channel> {
    let endpoint = Endpoint::from_shared(url.to_owned())
        .map_err(|_| Error::invalid("url", "must be http://<host>:<port>"))?
        .connect_timeout(CONNECT_TIMEOUT)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(Duration::from_secs(30))
        .keep_alive_timeout(Duration::from_secs(10));
    Ok(endpoint.connect_lazy())
}

/// Whether a call failed because its own `grpc-timeout` was over: the channel holds every call to it.
pub fn is_timeout(cause: &tonic::transport::Error) -> bool {
    std::iter::successors(Some(cause as &(dyn std::error::Error + 'static)), |cause| cause.source())
        .any(<dyn std::error::Error + 'static>::is::<tonic::TimeoutExpired>)
}

/// Another module, as the generated clients call it.
#[derive(Clone)]
pub struct Peer {
    channel: Channel,
    signer: Option<Arc<Signer>>,
    audience: Arc<str>,
    /// Whether the user's token goes along.
    for_users: bool,
}

impl Peer {
    /// The module `module` at `url`, called with the tokens of `signer`.
    ///
    /// # Errors
    /// - [`Error::Invalid`] if `url` is none.
    pub fn new(module: &str, url: &str, signer: Arc<Signer>) -> Result<Self> {
        Ok(Self {
            channel: connect(url)?,
            signer: Some(signer),
            audience: format!("service:{module}").into(),
            for_users: true,
        })
    }

    /// The same without a credential: for the methods that everybody may call.
    ///
    /// # Errors
    /// - [`Error::Invalid`] if `url` is none.
    pub fn anonymous(url: &str) -> Result<Self> {
        Ok(Self { channel: connect(url)?, signer: None, audience: "".into(), for_users: false })
    }

    /// The same, for methods that a module calls for itself, whoever made it call: the user's token stays here.
    #[must_use]
    pub fn for_itself(self) -> Self {
        Self { for_users: false, ..self }
    }

    fn prepare(&self, request: &mut Request<Body>) -> Result<()> {
        let headers = request.headers_mut();
        let mut set = |name: HeaderName, value: &str, sensitive: bool| -> Result<()> {
            let mut value = HeaderValue::from_str(value).map_err(Error::internal)?;
            value.set_sensitive(sensitive);
            headers.insert(name, value);
            Ok(())
        };
        if let Some(signer) = &self.signer {
            set(AUTHORIZATION, &format!("Bearer {}", signer.token(&self.audience)?), true)?;
        }
        let context = Context::current();
        let timeout = context.as_ref().map_or(DEFAULT_TIMEOUT, |context| context.deadline.remaining());
        let timeout =
            timeout.checked_sub(MARGIN).filter(|left| !left.is_zero()).ok_or(Error::DeadlineExceeded)?;
        set(HeaderName::from_static("grpc-timeout"), &format!("{}m", timeout.as_millis().max(1)), false)?;
        let Some(context) = context else { return Ok(()) };
        set(HeaderName::from_static(wire::REQUEST_ID), context.request_id.as_str(), false)?;
        set(HeaderName::from_static(TRACEPARENT), &context.trace.header(), false)?;
        // The channel appends its own name to it.
        set(http::header::USER_AGENT, &context.user_agent, false)?;
        if !context.ip.is_empty() {
            set(HeaderName::from_static("x-forwarded-for"), &context.ip, false)?;
        }
        if let Some(token) = context.user_token.as_ref().filter(|_| self.for_users) {
            set(HeaderName::from_static(wire::USER_TOKEN), token.expose(), true)?;
        }
        Ok(())
    }
}

impl Service<Request<Body>> for Peer {
    type Response = Response<Body>;
    type Error = Status;
    type Future = BoxFuture<'static, Result<Response<Body>, Status>>;

    fn poll_ready(&mut self, poller: &mut Poller<'_>) -> Poll<Result<(), Status>> {
        self.channel.poll_ready(poller).map_err(|cause| Status::unavailable(cause.to_string()))
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let prepared = self.prepare(&mut request).map_err(|fault| crate::status::from_fault(&fault));
        // The channel that was polled ready is the one to call.
        let fresh = self.channel.clone();
        let mut ready = std::mem::replace(&mut self.channel, fresh);
        let due = Context::current().map_or(DEFAULT_TIMEOUT, |context| context.deadline.remaining());
        Box::pin(async move {
            prepared?;
            match tokio::time::timeout(due, ready.call(request)).await {
                Ok(Ok(response)) => Ok(response),
                Ok(Err(cause)) if is_timeout(&cause) => {
                    Err(crate::status::from_fault(&Error::DeadlineExceeded))
                }
                Ok(Err(cause)) => Err(Status::unavailable(cause.to_string())),
                Err(_) => Err(crate::status::from_fault(&Error::DeadlineExceeded)),
            }
        })
    }
}
