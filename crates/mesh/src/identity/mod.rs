//! Identity: what a caller holds becomes a [`Caller`]. Source: contract C2.

pub mod claims;
pub mod issuer;
pub mod keys;
pub mod service_token;
pub mod verifier;

use std::sync::Arc;

use async_trait::async_trait;
use http::header::AUTHORIZATION;
use http::{HeaderMap, Request, Response};
use kombify_core::directory::{Directory, Standing};
use kombify_core::{
    Caller, Error, Memberships, Plan, RequestId, Result, ServiceIdentity, TenantId, UserIdentity, wire,
};
use tokio::time::Instant;
use tonic::body::Body;

use self::verifier::{Verified, Verifier};
use crate::context::{Context, Deadline, UserToken};
use crate::edge::{ClientAddress, LoggedCaller, RequestVerb, user_agent};
use crate::room::{Inner, Room, forward};
use crate::status::refuse;
use crate::trace::TraceContext;

/// What the bearer token of a session begins with.
pub const SESSION_PREFIX: &str = "ses_";

/// Whose a session is, and the one tenant that it is good for.
#[derive(Clone, Debug)]
pub struct SessionUser {
    /// The user, as the sign-in told.
    pub user: UserIdentity,
    /// The tenant.
    pub tenant: TenantId,
}

/// The sessions of a module that has some: a credential that is good at this instance only. Source: contract C2.
#[async_trait]
pub trait Sessions: Send + Sync + 'static {
    /// Whose session the token is, if it is one and has not ended.
    ///
    /// # Errors
    /// - [`Error::Unavailable`] if the sessions cannot be asked.
    async fn find(&self, token: &str) -> Result<Option<SessionUser>>;

    /// The name of the cookie that holds the token.
    fn cookie(&self) -> &str;

    /// The module's own origin: a write with the cookie comes from there.
    fn origin(&self) -> &str;
}

/// The room that finds out who calls. No header but a credential says anything about identity.
#[derive(Clone)]
pub struct Identify {
    /// Verifies credentials.
    pub verifier: Arc<Verifier>,
    /// Knows what a user stands for.
    pub directory: Arc<dyn Directory>,
    /// Knows sessions; `None`: the module has none.
    pub sessions: Option<Arc<dyn Sessions>>,
}

/// What a request holds: at most one credential, and a user's token beside a service's.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Credentials<'a> {
    /// The bearer token.
    pub bearer: Option<&'a str>,
    /// The token of the user for whom a service speaks.
    pub user: Option<&'a str>,
}

/// Reads the credentials of a request.
///
/// # Errors
/// - [`Error::AuthInvalid`] if there are two, or one that is not understood.
pub fn credentials(headers: &HeaderMap) -> Result<Credentials<'_>> {
    let one = |name: &str| {
        let mut values = headers.get_all(name).iter();
        match (values.next(), values.next()) {
            (None, _) => Ok(None),
            (Some(value), None) => {
                value.to_str().map(Some).map_err(|_| Error::AuthInvalid("a credential is not readable"))
            }
            (Some(_), Some(_)) => Err(Error::AuthInvalid("there are two credentials: send one")),
        }
    };
    let (authorization, api_key) = (one(AUTHORIZATION.as_str())?, one("x-api-key")?);
    let bearer = match (authorization, api_key) {
        (Some(_), Some(_)) => return Err(Error::AuthInvalid("there are two credentials: send one")),
        (None, Some(_)) => {
            return Err(Error::AuthInvalid("API keys are not accepted here: send a bearer token"));
        }
        (None, None) => None,
        (Some(value), None) => {
            let (scheme, token) = value.split_once(' ').unwrap_or((value, ""));
            let token = token.trim();
            if !scheme.eq_ignore_ascii_case("bearer") || token.is_empty() || token.contains(' ') {
                return Err(Error::AuthInvalid("send \"authorization: Bearer <token>\""));
            }
            Some(token)
        }
    };
    Ok(Credentials { bearer, user: one(wire::USER_TOKEN)? })
}

/// The value of the one cookie of that name.
///
/// # Errors
/// - [`Error::AuthInvalid`] if there are two.
pub fn cookie<'a>(headers: &'a HeaderMap, name: &str) -> Result<Option<&'a str>> {
    let lines = headers.get_all(http::header::COOKIE).iter().filter_map(|line| line.to_str().ok());
    let mut values = lines
        .flat_map(|line| line.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .filter_map(|(known, value)| (known == name).then_some(value));
    match (values.next(), values.next()) {
        (value, None) => Ok(value),
        (_, Some(_)) => Err(Error::AuthInvalid("there are two cookies of the session: send one")),
    }
}

/// Whether a request with a cookie comes from a page of ours: what only reads may come from everywhere, since the answer
/// goes to whoever has the cookie; what writes names its origin. It is held against the configuration, never against `Host`.
fn check_origin(headers: &HeaderMap, verb: Option<&RequestVerb>, own: &str) -> Result<()> {
    let reads = verb.is_some_and(|verb| matches!(verb.0, http::Method::GET | http::Method::HEAD));
    let origin = headers.get(http::header::ORIGIN).and_then(|origin| origin.to_str().ok());
    match origin {
        Some(origin) if origin == own => Ok(()),
        None if reads => Ok(()),
        Some(_) | None => {
            Err(Error::AuthInvalid("a write with the session's cookie must come from this site's own pages"))
        }
    }
}

impl Identify {
    /// The caller whose session comes as a bearer token or as a cookie.
    async fn session(
        &self,
        context: Context,
        request: &Parts<'_>,
        credentials: &Credentials<'_>,
    ) -> Result<Option<(Caller, Context)>> {
        let Some(sessions) = &self.sessions else { return Ok(None) };
        let by_cookie = cookie(request.headers, sessions.cookie())?;
        let by_bearer = credentials.bearer.filter(|bearer| bearer.starts_with(SESSION_PREFIX));
        let token = match (by_cookie, by_bearer, credentials) {
            (Some(_), _, Credentials { bearer: Some(_), .. } | Credentials { user: Some(_), .. }) => {
                return Err(Error::AuthInvalid("there are two credentials: send one"));
            }
            (Some(token), None, _) => {
                check_origin(request.headers, request.verb, sessions.origin())?;
                token
            }
            (_, Some(_), Credentials { user: Some(_), .. }) => {
                return Err(Error::AuthInvalid(
                    "there are two credentials: a user's token goes beside a service's only",
                ));
            }
            (_, Some(token), _) => token,
            (None, None, _) => return Ok(None),
        };
        let found = sessions.find(token).await?;
        let SessionUser { user, tenant } =
            found.ok_or(Error::AuthInvalid("the session has ended: sign in again"))?;
        let standing = context.clone().scope(self.directory.standing(&user)).await?;
        let standing = Standing { memberships: standing.memberships.within(tenant), ..standing };
        Ok(Some((stand(&user, None, standing)?, context)))
    }

    async fn caller(&self, context: Context, request: &Parts<'_>) -> Result<(Caller, Context)> {
        let credentials = credentials(request.headers)?;
        if let Some(known) = self.session(context.clone(), request, &credentials).await? {
            return Ok(known);
        }
        let Some(bearer) = credentials.bearer else {
            return match credentials.user {
                None => Ok((Caller::default(), context)),
                Some(_) => Err(Error::AuthInvalid("a user's token is good only beside a service's")),
            };
        };
        let (user, service, token) = match (self.verifier.verify(bearer).await?, credentials.user) {
            (Verified::User(_), Some(_)) => {
                return Err(Error::AuthInvalid(
                    "there are two credentials: a user's token goes beside a service's only",
                ));
            }
            (Verified::Service(service), None) => return Ok((module(service.as_ref().clone()), context)),
            (Verified::User(user), None) => (user, None, bearer),
            (Verified::Service(service), Some(token)) => match self.verifier.verify(token).await? {
                Verified::Service(_) => {
                    return Err(Error::AuthInvalid("the token beside a service's must be a user's"));
                }
                Verified::User(user) => (user, Some(service.as_ref().clone()), token),
            },
        };
        let context =
            Context { service: service.clone(), user_token: Some(UserToken::new(token)), ..context };
        let standing = context.clone().scope(self.directory.standing(&user)).await?;
        Ok((stand(&user, service, standing)?, context))
    }
}

/// What of a request says who calls.
struct Parts<'a> {
    headers: &'a HeaderMap,
    /// The verb that the client used, before JSON became a message.
    verb: Option<&'a RequestVerb>,
}

/// The caller whom a user and a standing make. What the token does not say of the user, the standing may.
///
/// # Errors
/// - [`Error::AuthInvalid`] if the sign-in counts no more.
#[expect(clippy::disallowed_methods, reason = "the identity layer is the one that makes callers")]
fn stand(user: &UserIdentity, service: Option<ServiceIdentity>, standing: Standing) -> Result<Caller> {
    let Standing { plan, memberships, email, name, revocation } = standing;
    if let Some(revocation) = revocation {
        revocation.check(user.signed_in_at)?;
    }
    let plan = plan.unwrap_or_else(|| user.plan_of_roles());
    let user = UserIdentity {
        email: user.email.clone().or(email),
        name: user.name.clone().or(name),
        ..user.clone()
    };
    Ok(Caller::new(Some(user), service, plan, memberships))
}

/// The caller who is a module for itself.
#[expect(clippy::disallowed_methods, reason = "the identity layer is the one that makes callers")]
fn module(service: ServiceIdentity) -> Caller {
    Caller::new(None, Some(service), Plan::default(), Memberships::default())
}

impl Room for Identify {
    async fn pass(&self, mut request: Request<Body>, inner: impl Inner) -> Response<Body> {
        if kombify_contracts::method(request.uri().path()).is_none() {
            return forward(inner, request).await; // Health and reflection know no callers.
        }
        let extensions = request.extensions();
        let (Some(request_id), Some(trace)) =
            (extensions.get::<RequestId>().cloned(), extensions.get::<TraceContext>().cloned())
        else {
            return refuse(&Error::internal("a request without a name: the outer rooms are missing"));
        };
        let deadline = extensions.get::<Deadline>().copied();
        let address = extensions.get::<ClientAddress>().cloned();
        let context = Context {
            request_id,
            trace,
            deadline: deadline
                .unwrap_or_else(|| Deadline(Instant::now() + std::time::Duration::from_secs(10))),
            service: None,
            user_token: None,
            ip: address.map(|address| address.0).unwrap_or_default(),
            user_agent: user_agent(request.headers()),
            entered: Arc::default(),
        };
        let parts = Parts { headers: request.headers(), verb: request.extensions().get() };
        let (caller, context) = match self.caller(context, &parts).await {
            Ok(known) => known,
            Err(fault) => {
                metrics::counter!("kombify_refused_credentials_total").increment(1);
                return refuse(&fault);
            }
        };
        let logged =
            caller.user().map(|user| user.sub.to_string()).or(caller.service().map(ToString::to_string));
        request.extensions_mut().insert(Arc::new(caller));
        request.extensions_mut().insert(context.clone());
        // What identified the caller goes no further: what a service calls in turn gets it from the context.
        request.headers_mut().remove(AUTHORIZATION);
        request.headers_mut().remove(wire::USER_TOKEN);
        request.headers_mut().remove(http::header::COOKIE);
        let mut response = context.scope(forward(inner, request)).await;
        if let Some(logged) = logged {
            response.extensions_mut().insert(LoggedCaller(logged));
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, value.parse().unwrap());
        }
        headers
    }

    #[test]
    fn a_cookie_is_read_by_its_whole_name_and_only_once() {
        let line = headers(&[("cookie", "a=1; session=ses_x"), ("cookie", "session2=y")]);
        assert_eq!(cookie(&line, "session").unwrap(), Some("ses_x"));
        assert_eq!(cookie(&line, "other").unwrap(), None);
        let twice = headers(&[("cookie", "session=a"), ("cookie", "session=b")]);
        assert!(cookie(&twice, "session").is_err());
    }

    #[test]
    fn a_write_with_a_cookie_comes_from_an_own_page() {
        let own = "http://localhost:8080";
        let (get, post) = (RequestVerb(http::Method::GET), RequestVerb(http::Method::POST));
        for (origin, verb, good) in [
            (Some(own), Some(&post), true),
            (Some(own), Some(&get), true),
            (None, Some(&get), true),
            (None, Some(&post), false),
            (None, None, false),
            (Some("null"), Some(&post), false),
            (Some("http://localhost:8081"), Some(&post), false),
            (Some("http://localhost:8081"), Some(&get), false),
        ] {
            let mut headers = HeaderMap::new();
            if let Some(origin) = origin {
                headers.insert("origin", origin.parse().unwrap());
            }
            assert_eq!(check_origin(&headers, verb, own).is_ok(), good, "{origin:?} {verb:?}");
        }
    }

    #[test]
    fn exactly_one_credential_is_read() {
        assert_eq!(credentials(&headers(&[])).unwrap(), Credentials::default());
        let one = headers(&[("authorization", "bearer a.b.c")]);
        assert_eq!(credentials(&one).unwrap().bearer, Some("a.b.c"));
        for wrong in [
            &[("authorization", "Bearer a"), ("authorization", "Bearer a")][..],
            &[("authorization", "Bearer a"), ("x-api-key", "k")],
            &[("x-api-key", "k")],
            &[("authorization", "Basic dTpw")],
            &[("authorization", "Bearer")],
            &[("authorization", "Bearer a b")],
            &[("x-kombify-user-token", "a"), ("x-kombify-user-token", "b")],
        ] {
            assert_eq!(
                credentials(&headers(wrong)).unwrap_err().code().as_str(),
                "AUTH_INVALID",
                "{wrong:?}"
            );
        }
    }
}
