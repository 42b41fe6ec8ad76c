//! The ids: `UUIDv7` (RFC 9562) behind a prefix that says what it names.

use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use uuid::Uuid;

use crate::{Error, Result};

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $prefix:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(Uuid);

        impl $name {
            /// What stands before the underscore.
            pub const PREFIX: &'static str = $prefix;

            /// The id that holds `uuid`.
            pub const fn from_uuid(uuid: Uuid) -> Self {
                Self(uuid)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($prefix, "_{}"), self.0.hyphenated())
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl FromStr for $name {
            type Err = Error;

            fn from_str(text: &str) -> Result<Self> {
                text.strip_prefix(concat!($prefix, "_"))
                    .filter(|uuid| uuid.len() == 36 && !uuid.bytes().any(|byte| byte.is_ascii_uppercase()))
                    .and_then(|uuid| Uuid::try_parse(uuid).ok())
                    .map(Self)
                    .ok_or_else(|| Error::invalid("id", concat!("must be ", $prefix, "_ and a UUID in lower case")))
            }
        }
    };
}

id!(
    /// One customer, isolated from every other.
    TenantId,
    "tenant"
);
id!(
    /// One running Stack.
    InstanceId,
    "instance"
);
id!(
    /// One stack of a tenant.
    StackId,
    "stack"
);
id!(
    /// One invitation to a tenant.
    InvitationId,
    "invitation"
);
id!(
    /// One row of the audit log.
    AuditEventId,
    "audit"
);

/// Names one request in every log, answer and audit row: 1 to 128 of `[A-Za-z0-9._-]`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RequestId(String);

impl RequestId {
    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for RequestId {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let well_formed = (1..=128).contains(&text.len())
            && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte));
        if well_formed {
            Ok(Self(text.to_owned()))
        } else {
            Err(Error::invalid("requestId", "must be 1 to 128 of [A-Za-z0-9._-]"))
        }
    }
}

/// Where randomness comes from, and the ids that are made of it.
pub trait Ids: Send + Sync + 'static {
    /// Fills `bytes` with randomness that nobody can guess.
    fn fill(&self, bytes: &mut [u8]);

    /// A `UUIDv7` of the moment `now`.
    fn uuid(&self, now: Timestamp) -> Uuid {
        let mut random = [0; 10];
        self.fill(&mut random);
        let millis = u64::try_from(now.as_millisecond()).unwrap_or_default();
        uuid::Builder::from_unix_timestamp_millis(millis, &random).into_uuid()
    }

    /// A new tenant's id.
    fn tenant(&self, now: Timestamp) -> TenantId {
        TenantId(self.uuid(now))
    }

    /// A new instance's id.
    fn instance(&self, now: Timestamp) -> InstanceId {
        InstanceId(self.uuid(now))
    }

    /// A new stack's id.
    fn stack(&self, now: Timestamp) -> StackId {
        StackId(self.uuid(now))
    }

    /// A new invitation's id.
    fn invitation(&self, now: Timestamp) -> InvitationId {
        InvitationId(self.uuid(now))
    }

    /// A new audit row's id.
    fn audit_event(&self, now: Timestamp) -> AuditEventId {
        AuditEventId(self.uuid(now))
    }

    /// A new request's id.
    fn request(&self, now: Timestamp) -> RequestId {
        RequestId(format!("req_{}", self.uuid(now).hyphenated()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_read_as_it_is_written_and_only_under_its_own_prefix() {
        let text = "tenant_01890a5d-ac96-774b-bcce-b302099a8057";
        assert_eq!(text.parse::<TenantId>().unwrap().to_string(), text);
        for wrong in [
            "",
            "tenant_",
            "instance_01890a5d-ac96-774b-bcce-b302099a8057",
            "01890a5d-ac96-774b-bcce-b302099a8057",
            "tenant_01890A5D-AC96-774B-BCCE-B302099A8057",
            "tenant_01890a5dac96774bbcceb302099a8057",
            "tenant_{01890a5d-ac96-774b-bcce-b302099a80}",
        ] {
            assert!(wrong.parse::<TenantId>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_request_id_is_kept_only_if_it_is_well_formed() {
        assert!("a.B_9-".parse::<RequestId>().is_ok());
        assert!("x".repeat(128).parse::<RequestId>().is_ok());
        for wrong in ["", "a b", "a\n", "ä", &"x".repeat(129)] {
            assert!(wrong.parse::<RequestId>().is_err(), "{wrong:?}");
        }
    }
}
