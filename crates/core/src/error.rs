//! What can go wrong, and the one table from a fault to the wire.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The result of what can go wrong.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A cause that only the log sees.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// The domain of every `google.rpc.ErrorInfo` of ours.
pub const DOMAIN: &str = "kombify.io";

/// The detail that says how long a thing is of which a range was asked.
const LENGTH_BYTES: &str = "lengthBytes";

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $text:literal, grpc $grpc:literal, http $http:literal;)*) => {
        /// The code of an error: what a program decides by. It is the `reason` of the `ErrorInfo`, too.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Code {
            $($(#[$doc])* $name,)*
        }

        impl Code {
            /// Every code, in the order of the contract.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// The code as it stands in answers.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }

            /// The number of the gRPC status that carries it.
            pub const fn grpc(self) -> i32 {
                match self { $(Self::$name => $grpc,)* }
            }

            /// The HTTP status that carries it.
            pub const fn http(self) -> u16 {
                match self { $(Self::$name => $http,)* }
            }

            /// The code that is written `text`.
            pub fn parse(text: &str) -> Option<Self> {
                match text { $($text => Some(Self::$name),)* _ => None }
            }
        }
    };
}

codes! {
    /// No credential.
    AuthRequired = "AUTH_REQUIRED", grpc 16, http 401;
    /// A credential that does not hold.
    AuthInvalid = "AUTH_INVALID", grpc 16, http 401;
    /// A caller who may not do this.
    AuthInsufficient = "AUTH_INSUFFICIENT", grpc 7, http 403;
    /// The plan allows no more.
    QuotaExceeded = "QUOTA_EXCEEDED", grpc 8, http 403;
    /// The tenant is suspended.
    TenantSuspended = "TENANT_SUSPENDED", grpc 7, http 403;
    /// Not there, or not for this caller.
    NotFound = "NOT_FOUND", grpc 5, http 404;
    /// The request says something that it must not.
    ValidationFailed = "VALIDATION_FAILED", grpc 3, http 400;
    /// The path knows other verbs than this.
    MethodNotAllowed = "METHOD_NOT_ALLOWED", grpc 12, http 405;
    /// Something that is there stands against it.
    Conflict = "CONFLICT", grpc 6, http 409;
    /// The thing is not in the state that the request was made for.
    PreconditionFailed = "PRECONDITION_FAILED", grpc 9, http 412;
    /// The body is too large.
    PayloadTooLarge = "PAYLOAD_TOO_LARGE", grpc 8, http 413;
    /// The body is of a kind that nobody reads here.
    UnsupportedMediaType = "UNSUPPORTED_MEDIA_TYPE", grpc 3, http 415;
    /// The range lies outside of the thing.
    RangeNotSatisfiable = "RANGE_NOT_SATISFIABLE", grpc 11, http 416;
    /// Too many requests.
    RateLimited = "RATE_LIMITED", grpc 8, http 429;
    /// The caller went away.
    Cancelled = "CANCELLED", grpc 1, http 499;
    /// Our fault.
    InternalError = "INTERNAL_ERROR", grpc 13, http 500;
    /// Nobody serves this.
    NotImplemented = "NOT_IMPLEMENTED", grpc 12, http 501;
    /// Not now; again later.
    ServiceUnavailable = "SERVICE_UNAVAILABLE", grpc 14, http 503;
    /// It took too long.
    DeadlineExceeded = "DEADLINE_EXCEEDED", grpc 4, http 504;
}

impl Code {
    /// The code for a gRPC status that brings no reason of ours.
    pub const fn from_grpc(grpc: i32) -> Self {
        match grpc {
            1 => Self::Cancelled,
            3 | 11 => Self::ValidationFailed,
            4 => Self::DeadlineExceeded,
            5 => Self::NotFound,
            6 | 10 => Self::Conflict,
            7 => Self::AuthInsufficient,
            8 => Self::RateLimited,
            9 => Self::PreconditionFailed,
            12 => Self::NotImplemented,
            14 => Self::ServiceUnavailable,
            16 => Self::AuthRequired,
            _ => Self::InternalError,
        }
    }
}

/// A fault. What `Display` says is for the caller; a cause is for the log.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The call needs a caller, and there is none.
    #[error("a credential is needed: send \"authorization: Bearer <token>\"")]
    AuthRequired,
    /// The credential does not hold; the text says why, and nothing of the credential.
    #[error("the credential is not valid: {0}")]
    AuthInvalid(&'static str),
    /// The caller is known, and may not.
    #[error("{0}")]
    AuthInsufficient(String),
    /// The caller is known, and the plan is not enough.
    #[error("{what} needs the plan {required}")]
    PlanInsufficient {
        /// What needs it, for example "the kit media".
        what: String,
        /// The least plan that is enough.
        required: crate::Plan,
    },
    /// The thing does not exist, or belongs to another tenant: the two look alike.
    #[error("{kind} {id} not found")]
    NotFound {
        /// What was asked for, for example "tenant".
        kind: &'static str,
        /// The id as the caller gave it.
        id: String,
    },
    /// Fields of the request are wrong: JSON path -> what must be true.
    #[error("{}", describe(.0))]
    Invalid(BTreeMap<String, String>),
    /// Something that is there stands against it.
    #[error("{0}")]
    Conflict(String),
    /// The thing is not in the state that the request was made for.
    #[error("{0}")]
    PreconditionFailed(String),
    /// The tenant's plan allows no more.
    #[error("plan limit of {limit} {resource} reached")]
    QuotaExceeded {
        /// What is limited, for example "stacks".
        resource: &'static str,
        /// How many the plan allows.
        limit: u32,
        /// How many there are.
        used: u32,
    },
    /// The platform suspended the tenant; what it has is kept.
    #[error("the tenant is suspended: the platform's people can say why")]
    TenantSuspended,
    /// The path is served, but not with this verb.
    #[error("the path answers {}", .allow.join(", "))]
    MethodNotAllowed {
        /// The verbs that the path answers, for the `Allow` header.
        allow: Vec<String>,
    },
    /// The request is larger than the service reads.
    #[error("the request is larger than {limit_bytes} bytes")]
    PayloadTooLarge {
        /// How much the service reads.
        limit_bytes: usize,
    },
    /// The body's media type is not read here.
    #[error("the body must be {wanted}")]
    UnsupportedMediaType {
        /// What is read here.
        wanted: &'static str,
    },
    /// The part that was asked for lies outside of the thing.
    #[error("the range lies outside of the thing: it has {length_bytes} bytes")]
    RangeNotSatisfiable {
        /// How long the whole thing is.
        length_bytes: usize,
    },
    /// The caller made more requests than the caller's plan allows in a minute.
    #[error("too many requests: the limit is {limit} a minute")]
    RateLimited {
        /// Requests per minute.
        limit: u32,
        /// When to try again.
        retry_after: Duration,
    },
    /// Not now.
    #[error("{message}")]
    Unavailable {
        /// What is missing.
        message: String,
        /// When to try again.
        retry_after: Duration,
    },
    /// The caller went away.
    #[error("the call was cancelled")]
    Cancelled,
    /// The answer did not come within the deadline.
    #[error("the deadline passed before the answer was there")]
    DeadlineExceeded,
    /// Nobody serves this.
    #[error("{0} is not served here")]
    NotImplemented(String),
    /// What another module answered, handed on as it came.
    #[error("{}", .0.message)]
    Remote(Box<Remote>),
    /// Our fault. The cause is logged, never shown.
    #[error("internal error")]
    Internal(#[source] BoxError),
}

/// A fault that another module answered with.
#[derive(Clone, Debug)]
pub struct Remote {
    /// Its code.
    pub code: Code,
    /// Its message.
    pub message: String,
    /// Its details.
    pub details: Details,
    /// When to try again, where the module said so.
    pub retry_after: Option<Duration>,
}

fn describe(fields: &BTreeMap<String, String>) -> String {
    match fields.first_key_value() {
        Some((path, message)) if fields.len() == 1 && path.is_empty() => message.clone(),
        Some((path, message)) if fields.len() == 1 => format!("{path} {message}"),
        _ => format!("{} fields are not valid", fields.len()),
    }
}

impl Error {
    /// One wrong field: where it is (JSON path), and what must be true of it.
    pub fn invalid(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self::Invalid(BTreeMap::from([(field.into(), message.into())]))
    }

    /// The thing of that kind and id is not there, or not for this caller.
    pub fn not_found(kind: &'static str, id: impl fmt::Display) -> Self {
        Self::NotFound { kind, id: format!("{id}") }
    }

    /// Our fault; the cause goes to the log.
    pub fn internal(cause: impl Into<BoxError>) -> Self {
        Self::Internal(cause.into())
    }

    /// Something that the answer needs is away for a while.
    pub fn unavailable(message: impl Into<String>, retry_after: Duration) -> Self {
        Self::Unavailable { message: message.into(), retry_after }
    }

    /// The code that goes with the fault.
    pub fn code(&self) -> Code {
        match self {
            Self::AuthRequired => Code::AuthRequired,
            Self::AuthInvalid(_) => Code::AuthInvalid,
            Self::AuthInsufficient(_) | Self::PlanInsufficient { .. } => Code::AuthInsufficient,
            Self::NotFound { .. } => Code::NotFound,
            Self::Invalid(_) => Code::ValidationFailed,
            Self::Conflict(_) => Code::Conflict,
            Self::PreconditionFailed(_) => Code::PreconditionFailed,
            Self::QuotaExceeded { .. } => Code::QuotaExceeded,
            Self::TenantSuspended => Code::TenantSuspended,
            Self::MethodNotAllowed { .. } => Code::MethodNotAllowed,
            Self::PayloadTooLarge { .. } => Code::PayloadTooLarge,
            Self::UnsupportedMediaType { .. } => Code::UnsupportedMediaType,
            Self::RangeNotSatisfiable { .. } => Code::RangeNotSatisfiable,
            Self::RateLimited { .. } => Code::RateLimited,
            Self::Unavailable { .. } => Code::ServiceUnavailable,
            Self::Cancelled => Code::Cancelled,
            Self::DeadlineExceeded => Code::DeadlineExceeded,
            Self::NotImplemented(_) => Code::NotImplemented,
            Self::Remote(remote) => remote.code,
            Self::Internal(_) => Code::InternalError,
        }
    }

    /// What an answer says beside the message: wrong fields, and pairs of text.
    pub fn details(&self) -> Details {
        match self {
            Self::Invalid(fields) => Details { fields: fields.clone(), pairs: BTreeMap::new() },
            Self::QuotaExceeded { resource, limit, used } => Details::pairs([
                ("resource", (*resource).to_owned()),
                ("limit", limit.to_string()),
                ("used", used.to_string()),
            ]),
            Self::PayloadTooLarge { limit_bytes } => {
                Details::pairs([("limitBytes", limit_bytes.to_string())])
            }
            Self::RangeNotSatisfiable { length_bytes } => {
                Details::pairs([(LENGTH_BYTES, length_bytes.to_string())])
            }
            Self::PlanInsufficient { required, .. } => {
                Details::pairs([("requiredPlan", required.as_str().to_owned())])
            }
            Self::MethodNotAllowed { allow } => Details::pairs([("allow", allow.join(", "))]),
            Self::RateLimited { limit, .. } => Details::pairs([("limit", limit.to_string())]),
            Self::Remote(remote) => remote.details.clone(),
            Self::AuthRequired
            | Self::AuthInvalid(_)
            | Self::AuthInsufficient(_)
            | Self::NotFound { .. }
            | Self::Conflict(_)
            | Self::PreconditionFailed(_)
            | Self::TenantSuspended
            | Self::UnsupportedMediaType { .. }
            | Self::Unavailable { .. }
            | Self::Cancelled
            | Self::DeadlineExceeded
            | Self::NotImplemented(_)
            | Self::Internal(_) => Details::default(),
        }
    }

    /// When to try again, where that is known.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::RateLimited { retry_after, .. } | Self::Unavailable { retry_after, .. } => {
                Some(*retry_after)
            }
            Self::Remote(remote) => remote.retry_after,
            Self::AuthRequired
            | Self::AuthInvalid(_)
            | Self::AuthInsufficient(_)
            | Self::PlanInsufficient { .. }
            | Self::NotFound { .. }
            | Self::Invalid(_)
            | Self::Conflict(_)
            | Self::PreconditionFailed(_)
            | Self::QuotaExceeded { .. }
            | Self::TenantSuspended
            | Self::MethodNotAllowed { .. }
            | Self::PayloadTooLarge { .. }
            | Self::UnsupportedMediaType { .. }
            | Self::RangeNotSatisfiable { .. }
            | Self::Cancelled
            | Self::DeadlineExceeded
            | Self::NotImplemented(_)
            | Self::Internal(_) => None,
        }
    }
}

/// The details of an answer: wrong fields, and pairs of text.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Details {
    /// JSON path -> what must be true.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub fields: BTreeMap<String, String>,
    /// Everything else.
    #[serde(flatten)]
    pub pairs: BTreeMap<String, String>,
}

impl Details {
    /// Details without fields.
    pub fn pairs<const N: usize>(pairs: [(&str, String); N]) -> Self {
        Self {
            fields: BTreeMap::new(),
            pairs: pairs.into_iter().map(|(key, value)| (key.to_owned(), value)).collect(),
        }
    }
}

/// The error envelope, as every JSON answer carries it: `{"error": {...}}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Envelope {
    /// The one key.
    pub error: EnvelopeError,
}

/// What the envelope holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EnvelopeError {
    /// The code of the table.
    pub code: String,
    /// For people.
    pub message: String,
    /// Wrong fields, and pairs of text.
    pub details: Details,
    /// The request that failed; the log knows it.
    pub request_id: String,
    /// When, RFC 3339, whole seconds.
    pub timestamp: String,
}

impl Envelope {
    /// The envelope of a fault.
    pub fn of(fault: &Error, request_id: &str, now: jiff::Timestamp) -> Self {
        Self {
            error: EnvelopeError {
                code: fault.code().as_str().to_owned(),
                message: fault.to_string(),
                details: fault.details(),
                request_id: request_id.to_owned(),
                timestamp: crate::clock::rfc3339_seconds(now),
            },
        }
    }

    /// The fault that it is about, as a module hands it on.
    pub fn into_fault(self) -> Error {
        let EnvelopeError { code, message, details, request_id: _, timestamp: _ } = self.error;
        let code = Code::parse(&code).unwrap_or(Code::InternalError);
        Error::Remote(Box::new(Remote { code, message, details, retry_after: None }))
    }

    /// What its `Content-Range` says, where a range lay outside of a thing: how long the thing is.
    pub fn content_range(&self) -> Option<String> {
        let is_range = self.error.code == Code::RangeNotSatisfiable.as_str();
        let length = self.error.details.pairs.get(LENGTH_BYTES).filter(|_| is_range)?;
        Some(format!("bytes */{}", length.parse::<u64>().ok()?))
    }

    /// The HTTP status that goes with it.
    pub fn http_status(&self) -> u16 {
        Code::parse(&self.error.code).unwrap_or(Code::InternalError).http()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_is_read_as_it_is_written_and_survives_its_grpc_status() {
        for &code in Code::ALL {
            assert_eq!(Code::parse(code.as_str()), Some(code));
            let back = Code::from_grpc(code.grpc());
            // A 416 of ours brings its reason; gRPC's OUT_OF_RANGE alone is a fault of the request like any other.
            let expected = if code == Code::RangeNotSatisfiable { 3 } else { code.grpc() };
            assert_eq!(back.grpc(), expected, "{code:?} comes back as {back:?}");
        }
    }

    #[test]
    fn the_envelope_has_the_shape_of_the_contract() {
        let fault = Error::invalid("spec.kits[0].name", "is required");
        let now = "2026-01-02T03:04:05.678Z".parse().unwrap();
        let json = serde_json::to_value(Envelope::of(&fault, "req_1", now)).unwrap();
        assert_eq!(
            json,
            serde_json::json!({"error": {
                "code": "VALIDATION_FAILED",
                "message": "spec.kits[0].name is required",
                "details": {"fields": {"spec.kits[0].name": "is required"}},
                "requestId": "req_1",
                "timestamp": "2026-01-02T03:04:05Z",
            }})
        );
    }

    #[test]
    fn a_range_that_lies_outside_says_how_long_the_thing_is() {
        let now = "2026-01-02T03:04:05Z".parse().unwrap();
        let envelope = Envelope::of(&Error::RangeNotSatisfiable { length_bytes: 7 }, "req_1", now);
        assert_eq!(envelope.http_status(), 416);
        assert_eq!(envelope.error.details, Details::pairs([("lengthBytes", "7".to_owned())]));
        assert_eq!(envelope.content_range().as_deref(), Some("bytes */7"));
        let handed_on = Envelope::of(&envelope.clone().into_fault(), "req_2", now);
        assert_eq!(handed_on.content_range().as_deref(), Some("bytes */7"));

        let mut odd = envelope;
        odd.error.details = Details::pairs([("lengthBytes", "7\r\nx: y".to_owned())]);
        assert_eq!(odd.content_range(), None);
        let other = Envelope::of(&Error::PayloadTooLarge { limit_bytes: 7 }, "req_1", now);
        assert_eq!(other.content_range(), None);
    }

    #[test]
    fn an_internal_error_says_nothing_of_the_inside() {
        let fault = Error::internal("disk /dev/sda1 is on fire");
        assert_eq!(fault.to_string(), "internal error");
        assert_eq!(fault.details(), Details::default());
    }
}
