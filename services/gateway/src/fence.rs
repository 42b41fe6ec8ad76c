//! The fence: removes what only a gateway may say, checks the user's token, and says who calls. Source: contract C2.

use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue, Request, Response};
use kombify_contracts::kombify::contract::v1::Door;
use kombify_core::{Caller, Error, Result, UserIdentity, wire};
use kombify_mesh::edge::{ClientAddress, LoggedCaller};
use kombify_mesh::identity::credentials;
use kombify_mesh::identity::verifier::{Verified, Verifier};
use kombify_mesh::rate::RateLimiter;
use kombify_mesh::room::{Inner, Room, forward};
use kombify_mesh::status::refuse;
use tonic::body::Body;

/// The rate class by which the gateway counts addresses.
pub const ADDRESS_CLASS: &str = "address";

/// The room of the fence.
#[derive(Clone)]
pub struct Fence {
    verifier: Arc<Verifier>,
    limiter: Arc<RateLimiter>,
}

impl Fence {
    /// A fence that verifies by `verifier`, and counts addresses by `limiter`.
    pub fn new(verifier: Arc<Verifier>, limiter: RateLimiter) -> Self {
        Self { verifier, limiter: Arc::new(limiter) }
    }

    async fn check(
        &self,
        path: &str,
        headers: &HeaderMap,
        address: &str,
    ) -> Result<Option<Arc<UserIdentity>>> {
        if let Some(counted) = self.limiter.count(ADDRESS_CLASS, &Caller::default(), address)
            && !counted.allowed
        {
            return Err(Error::RateLimited { limit: counted.limit, retry_after: counted.reset });
        }
        let Some(method) = kombify_contracts::method(path) else {
            return Ok(None); // Health and reflection know no callers.
        };
        let needs_caller = method.access.as_ref().is_some_and(|access| access.door() != Door::Public);
        match credentials(headers)?.bearer {
            None if needs_caller => Err(Error::AuthRequired),
            None => Ok(None),
            Some(token) => match self.verifier.verify(token).await? {
                Verified::User(user) => Ok(Some(user)),
                Verified::Service(_) => Err(Error::AuthInvalid("modules do not call by the gateway")),
            },
        }
    }
}

/// Takes away what a client must not say, whatever it says.
fn strip(headers: &mut HeaderMap) {
    for name in wire::IDENTITY.into_iter().chain([
        wire::USER_TOKEN,
        wire::MALFORMED,
        "x-forwarded-for",
        "forwarded",
        "x-real-ip",
    ]) {
        headers.remove(name);
    }
}

/// Informs whoever stands behind the gateway about the caller.
fn inform(headers: &mut HeaderMap, user: &UserIdentity) {
    let roles = user.roles.iter().map(String::as_str).collect::<Vec<_>>().join(",");
    let plan = user.plan_of_roles().to_string();
    for (name, value) in wire::IDENTITY.into_iter().zip([
        Some(user.sub.as_str()),
        user.email.as_deref(),
        user.name.as_deref(),
        user.org.as_ref().map(kombify_core::OrgId::as_str),
        Some(roles.as_str()),
        Some(plan.as_str()),
    ]) {
        // A name may hold what a header cannot: then it is not said.
        if let Some(value) = value.and_then(|value| HeaderValue::from_str(value).ok()) {
            headers.insert(HeaderName::from_static(name), value);
        }
    }
}

impl Room for Fence {
    async fn pass(&self, mut request: Request<Body>, inner: impl Inner) -> Response<Body> {
        strip(request.headers_mut());
        let address = request.extensions().get::<ClientAddress>().cloned();
        let address = address.map(|address| address.0).unwrap_or_default();
        let user = match self.check(request.uri().path(), request.headers(), &address).await {
            Ok(user) => user,
            Err(fault) => return refuse(&fault),
        };
        if let Ok(address) = HeaderValue::try_from(address) {
            request.headers_mut().insert("x-forwarded-for", address);
        }
        if let Some(user) = &user {
            inform(request.headers_mut(), user);
        }
        let mut response = forward(inner, request).await;
        if let Some(user) = user {
            response.extensions_mut().insert(LoggedCaller(user.sub.to_string()));
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_only_a_gateway_may_say_is_taken_away() {
        let mut headers = HeaderMap::new();
        for name in wire::IDENTITY.into_iter().chain([wire::USER_TOKEN, "x-forwarded-for"]) {
            headers.append(name, HeaderValue::from_static("forged"));
            headers.append(name, HeaderValue::from_static("twice"));
        }
        headers.insert(wire::TENANT_ID, HeaderValue::from_static("home"));
        strip(&mut headers);
        assert_eq!(headers.len(), 1, "{headers:?}");
        assert!(headers.contains_key(wire::TENANT_ID));
    }
}
