//! Rate limits: so many requests per minute, class and caller. Source: the contracts, "Limits".

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::{HeaderMap, HeaderValue, Request, Response};
use kombify_core::{Caller, Clock, Error, Plan};
use serde::{Deserialize, Serialize};
use tonic::body::Body;

use crate::edge::ClientAddress;
use crate::room::{Inner, Room, forward};
use crate::status::{refuse, seconds_up};

/// The window in which requests are counted, in seconds.
const WINDOW_SECONDS: i64 = 60;

/// How many callers are counted at the same time at most; over it, what has not called longest is forgotten.
const MAX_COUNTED: usize = 100_000;

/// The limit of one class: requests per minute.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct ClassLimit {
    /// For callers of the free plan, and for addresses.
    pub free: u32,
    /// For callers of the pro plan.
    pub pro: u32,
    /// For callers of the enterprise plan.
    pub enterprise: u32,
    /// Whether it counts by address, whoever calls.
    #[serde(default)]
    pub by_address: bool,
}

/// The limits, by class. What a configuration says goes over the defaults, class by class.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct RateLimits(pub HashMap<String, ClassLimit>);

impl<'de> Deserialize<'de> for RateLimits {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let configured = HashMap::<String, ClassLimit>::deserialize(deserializer)?;
        let mut limits = Self::default();
        for (class, limit) in configured {
            match limits.0.get_mut(&class) {
                Some(known) => *known = limit,
                None => return Err(serde::de::Error::custom(format!("{class} is no rate class"))),
            }
        }
        Ok(limits)
    }
}

impl Default for RateLimits {
    fn default() -> Self {
        let class = |name: &str, free, pro, enterprise, by_address| {
            (name.to_owned(), ClassLimit { free, pro, enterprise, by_address })
        };
        Self(HashMap::from([
            class("admin", 10, 100, 500, false),
            class("other", 100, 500, 2000, false),
            class("sign-in", 20, 20, 20, true),
            class("stackkits", 500, 1000, 5000, false),
            class("stacks", 100, 500, 5000, false),
        ]))
    }
}

/// What the counting of one request says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counted {
    /// Requests per minute.
    pub limit: u32,
    /// How many are left in this window.
    pub remaining: u32,
    /// When the window ends.
    pub reset: Duration,
    /// Whether this request was within the limit.
    pub allowed: bool,
}

#[derive(Clone, Copy)]
struct Window {
    begins: i64,
    count: u32,
}

/// Counts requests in fixed windows of a minute, which begin with the caller's first request.
pub struct RateLimiter {
    limits: RateLimits,
    windows: Mutex<HashMap<String, Window>>,
    clock: Arc<dyn Clock>,
}

impl RateLimiter {
    /// A limiter that has counted nothing.
    pub fn new(limits: RateLimits, clock: Arc<dyn Clock>) -> Self {
        Self { limits, windows: Mutex::default(), clock }
    }

    /// Counts one request of `class`; `None` where the caller has no limit there.
    pub fn count(&self, class: &str, caller: &Caller, address: &str) -> Option<Counted> {
        let limits = self.limits.0.get(class)?;
        let by_address = || (limits.free, format!("{class} address {address}"));
        let (limit, key) = match (caller.user(), caller.service()) {
            _ if limits.by_address => by_address(),
            (Some(user), _) if class == "admin" && user.roles.contains("kombisphere_admin") => return None,
            (Some(user), _) => {
                let limit = match caller.plan() {
                    Plan::Free => limits.free,
                    Plan::Pro => limits.pro,
                    Plan::Enterprise => limits.enterprise,
                };
                (limit, format!("{class} user {}", user.sub))
            }
            (None, Some(_)) => return None,
            (None, None) => by_address(),
        };
        Some(self.count_key(key, limit))
    }

    fn count_key(&self, key: String, limit: u32) -> Counted {
        let now = self.clock.now().as_second();
        let mut windows = self.windows.lock().unwrap_or_else(PoisonError::into_inner);
        if windows.len() >= MAX_COUNTED && !windows.contains_key(&key) {
            windows.retain(|_, window| now - window.begins < WINDOW_SECONDS);
            if windows.len() >= MAX_COUNTED
                && let Some(oldest) =
                    windows.iter().min_by_key(|(_, window)| window.begins).map(|(key, _)| key.clone())
            {
                windows.remove(&oldest);
            }
        }
        let window = windows.entry(key).or_insert(Window { begins: now, count: 0 });
        // A clock that was set back must not lock anybody out.
        if !(0..WINDOW_SECONDS).contains(&(now - window.begins)) {
            *window = Window { begins: now, count: 0 };
        }
        let allowed = window.count < limit;
        if allowed {
            window.count += 1;
        }
        let reset = u64::try_from(window.begins + WINDOW_SECONDS - now).unwrap_or(1);
        Counted {
            limit,
            remaining: limit - window.count.min(limit),
            reset: Duration::from_secs(reset),
            allowed,
        }
    }
}

impl Counted {
    /// The fault of a request that was over the limit.
    pub(crate) fn refusal(&self) -> Option<Error> {
        if self.allowed {
            return None;
        }
        metrics::counter!("kombify_rate_limited_total").increment(1);
        Some(Error::RateLimited { limit: self.limit, retry_after: self.reset })
    }

    fn write(&self, headers: &mut HeaderMap) {
        let reset = seconds_up(self.reset);
        for (name, value) in [
            ("x-ratelimit-limit", self.limit.to_string()),
            ("x-ratelimit-remaining", self.remaining.to_string()),
            ("x-ratelimit-reset", reset.to_string()),
            ("ratelimit-policy", format!("\"minute\";q={};w={WINDOW_SECONDS}", self.limit)),
            ("ratelimit", format!("\"minute\";r={};t={reset}", self.remaining)),
        ] {
            if let Ok(value) = HeaderValue::try_from(value) {
                headers.insert(name, value);
            }
        }
    }
}

/// The room that counts.
#[derive(Clone)]
pub struct Limit {
    /// What counts.
    pub limiter: Arc<RateLimiter>,
}

impl Room for Limit {
    async fn pass(&self, request: Request<Body>, inner: impl Inner) -> Response<Body> {
        let class = kombify_contracts::method(request.uri().path())
            .and_then(|method| method.access.as_ref())
            .map_or("", |access| access.rate.as_str());
        let extensions = request.extensions();
        let caller = extensions.get::<Arc<Caller>>().cloned().unwrap_or_default();
        let address = extensions.get::<ClientAddress>().map_or("", |address| address.0.as_str());
        let Some(counted) = self.limiter.count(class, &caller, address) else {
            return forward(inner, request).await;
        };
        let mut response = match counted.refusal() {
            None => forward(inner, request).await,
            Some(refusal) => refuse(&refusal),
        };
        counted.write(response.headers_mut());
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_class_that_a_contract_names_has_its_limits() {
        let RateLimits(limits) = RateLimits::default();
        for method in kombify_contracts::methods() {
            let class = method.access.as_ref().map_or("", |access| access.rate.as_str());
            assert!(class.is_empty() || limits.contains_key(class), "{}: {class}", method.path);
        }
    }
}
