//! CORS: which pages may call, and what they may see. Source: the contracts, "Deployment modes".

use std::sync::Arc;

use http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_METHOD, ORIGIN, VARY,
};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use kombify_mesh::room::{Inner, Room, forward};
use tonic::body::Body;

const ALLOW_HEADERS: &str = "authorization, content-type, idempotency-key, if-match, if-none-match, \
     if-range, range, x-api-key, x-request-id, x-tenant-id";
const EXPOSE_HEADERS: &str = "accept-ranges, content-disposition, content-range, etag, repr-digest, \
     retry-after, x-request-id, x-ratelimit-limit, x-ratelimit-remaining, x-ratelimit-reset, ratelimit, \
     ratelimit-policy, x-quota-limit, x-quota-used, x-quota-remaining";

/// The room that lets the portals' pages call. No credentials: a page sends its token itself.
#[derive(Clone, Debug)]
pub struct Cors {
    origins: Arc<[String]>,
}

impl Cors {
    /// The room for these origins.
    pub fn new(origins: Vec<String>) -> Self {
        Self { origins: origins.into() }
    }

    fn allowed(&self, request: &Request<Body>) -> Option<HeaderValue> {
        let origin = request.headers().get(ORIGIN)?;
        self.origins.iter().any(|known| known.as_bytes() == origin.as_bytes()).then(|| origin.clone())
    }
}

impl Room for Cors {
    async fn pass(&self, request: Request<Body>, inner: impl Inner) -> Response<Body> {
        let origin = self.allowed(&request);
        let preflight = request.method() == Method::OPTIONS
            && request.headers().contains_key(ACCESS_CONTROL_REQUEST_METHOD);
        let mut response = if preflight {
            let mut response = Response::new(Body::empty());
            *response.status_mut() = StatusCode::NO_CONTENT;
            response
        } else {
            forward(inner, request).await
        };
        let headers = response.headers_mut();
        headers.append(VARY, HeaderValue::from_static("origin"));
        let Some(origin) = origin else { return response };
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        if preflight {
            headers.insert(
                ACCESS_CONTROL_ALLOW_METHODS,
                HeaderValue::from_static("GET, POST, PUT, PATCH, DELETE"),
            );
            headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, HeaderValue::from_static(ALLOW_HEADERS));
            headers.insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("600"));
        } else {
            headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static(EXPOSE_HEADERS));
        }
        response
    }
}
