//! The audit log: what was done, and what was refused.

use std::collections::BTreeMap;

use async_trait::async_trait;
use jiff::Timestamp;

use crate::{Actor, AuditEventId, Change, Error, Listed, Page, RequestId, Result, Sub, TenantId};

/// How an action ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was done.
    Done,
    /// It was refused.
    Refused,
}

impl Outcome {
    /// The outcome as it stands in answers.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Refused => "refused",
        }
    }

    /// The outcome of that name; empty is none.
    ///
    /// # Errors
    /// - [`Error::Invalid`] for any other text.
    pub fn parse(text: &str) -> Result<Option<Self>> {
        match text {
            "" => Ok(None),
            "done" => Ok(Some(Self::Done)),
            "refused" => Ok(Some(Self::Refused)),
            _ => Err(Error::invalid("outcome", "must be done, refused or empty")),
        }
    }
}

/// The action of a refused call whose method names none.
pub const ACCESS_REFUSED: &str = "access.refused";

/// One row of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditEvent {
    /// Its id.
    pub id: AuditEventId,
    /// When it happened.
    pub create_time: Timestamp,
    /// Who acted.
    pub actor: Actor,
    /// What was done or refused.
    pub action: String,
    /// What it was done to.
    pub target: String,
    /// The tenant that it concerns.
    pub tenant: Option<TenantId>,
    /// The caller's address.
    pub ip: String,
    /// The caller's User-Agent.
    pub user_agent: String,
    /// The request that did it.
    pub request_id: RequestId,
    /// How it ended.
    pub outcome: Outcome,
    /// What else there is to say.
    pub details: BTreeMap<String, String>,
}

/// A call of a known caller that was refused; it becomes a row of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// When.
    pub time: Timestamp,
    /// Who called.
    pub actor: Actor,
    /// The action that was refused: the method's, else [`ACCESS_REFUSED`].
    pub action: String,
    /// What it was to be done to: the method's gRPC path.
    pub target: String,
    /// The tenant that the caller had entered.
    pub tenant: Option<TenantId>,
    /// The caller's address.
    pub ip: String,
    /// The caller's User-Agent.
    pub user_agent: String,
    /// The request.
    pub request_id: RequestId,
    /// The error code, and what else there is to say.
    pub details: BTreeMap<String, String>,
}

/// Which rows a list holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AuditFilter {
    /// Only this action; empty: all.
    pub action: String,
    /// Only what this user did.
    pub sub: Option<Sub>,
    /// Only what concerns this tenant.
    pub tenant: Option<TenantId>,
    /// Only what ended so.
    pub outcome: Option<Outcome>,
    /// Only what happened at this time or later.
    pub start_time: Option<Timestamp>,
    /// Only what happened before this time.
    pub end_time: Option<Timestamp>,
}

/// Where the log is kept. Each method happens wholly or not at all.
#[async_trait]
pub trait AuditStore: Send + Sync + 'static {
    /// Appends refusals, in their order.
    async fn append_refusals(&self, refusals: &[Refusal]) -> Result<()>;

    /// A part of the log, newest first. Reading is an action: its own row is written in the same transaction, and is
    /// not yet in what is read.
    async fn read(&self, change: &Change, filter: &AuditFilter, page: &Page) -> Result<Listed<AuditEvent>>;
}
