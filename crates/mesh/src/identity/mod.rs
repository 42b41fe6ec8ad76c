//! Identity: what a caller holds becomes a [`Caller`]. Source: contract C2.

pub mod claims;
pub mod issuer;
pub mod keys;
pub mod service_token;
pub mod verifier;

use std::sync::Arc;

use http::header::AUTHORIZATION;
use http::{HeaderMap, Request, Response};
use kombify_core::directory::{Directory, Standing};
use kombify_core::{
    Caller, Error, Memberships, Plan, RequestId, Result, ServiceIdentity, UserIdentity, wire,
};
use tokio::time::Instant;
use tonic::body::Body;

use self::verifier::{Verified, Verifier};
use crate::context::{Context, Deadline, UserToken};
use crate::edge::{ClientAddress, LoggedCaller};
use crate::room::{Inner, Room, forward};
use crate::status::refuse;
use crate::trace::TraceContext;

/// The room that finds out who calls. No header but a credential says anything about identity.
#[derive(Clone)]
pub struct Identify {
    /// Verifies credentials.
    pub verifier: Arc<Verifier>,
    /// Knows what a user stands for.
    pub directory: Arc<dyn Directory>,
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

impl Identify {
    async fn caller(&self, context: Context, headers: &HeaderMap) -> Result<(Caller, Context)> {
        let credentials = credentials(headers)?;
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
        Ok((stand(&user, service, standing), context))
    }
}

/// The caller whom a user and a standing make. What the token does not say of the user, the standing may.
#[expect(clippy::disallowed_methods, reason = "the identity layer is the one that makes callers")]
fn stand(user: &UserIdentity, service: Option<ServiceIdentity>, standing: Standing) -> Caller {
    let Standing { plan, memberships, email, name } = standing;
    let plan = plan.unwrap_or_else(|| user.plan_of_roles());
    let user = UserIdentity {
        email: user.email.clone().or(email),
        name: user.name.clone().or(name),
        ..user.clone()
    };
    Caller::new(Some(user), service, plan, memberships)
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
        };
        let (caller, context) = match self.caller(context, request.headers()).await {
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
        let mut response = context.scope(forward(inner, request)).await;
        if let Some(logged) = logged {
            response.extensions_mut().insert(LoggedCaller(logged));
        }
        response
    }
}

/// Who the caller says to be; what each of our own hops appended to it is taken off again.
fn user_agent(headers: &HeaderMap) -> String {
    let agent =
        headers.get(http::header::USER_AGENT).and_then(|agent| agent.to_str().ok()).unwrap_or_default();
    let mut own = agent;
    while let Some((before, last)) = own.rsplit_once(' ') {
        if !last.starts_with("tonic/") {
            break;
        }
        own = before;
    }
    own.chars().take(256).collect()
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
    fn what_our_own_hops_append_to_the_user_agent_is_taken_off() {
        for (given, expected) in [
            ("curl/7.88.1 tonic/0.14.9 tonic/0.14.9", "curl/7.88.1"),
            ("tonic/0.14.9", "tonic/0.14.9"),
            ("Mozilla/5.0 (X11; Linux x86_64) tonic/0.14.9", "Mozilla/5.0 (X11; Linux x86_64)"),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert("user-agent", given.parse().unwrap());
            assert_eq!(user_agent(&headers), expected);
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
