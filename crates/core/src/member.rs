//! Members of tenants, and invitations to become one.

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};

use crate::{
    Change, Etag, InvitationId, Listed, Memberships, Page, Result, Sub, TenantId, TenantRole, TenantScope,
};

/// How long an invitation is good: 7 days.
pub const INVITATION_LIFETIME: SignedDuration = SignedDuration::from_hours(7 * 24);

/// How many members a tenant has at most, whatever its plan: as many as an instance can report in one message.
pub const MEMBERS_MAX: u32 = 1000;

/// A user who may enter a tenant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// The user.
    pub sub: Sub,
    /// The address at the time of joining; may be empty.
    pub email: String,
    /// The name at the time of joining; may be empty.
    pub name: String,
    /// What the user may do.
    pub role: TenantRole,
    /// Whether the plan allows fewer members by now: then the user only reads.
    pub over_limit: bool,
    /// When the user became a member.
    pub create_time: Timestamp,
    /// When the user signed in at this instance last.
    pub last_sign_in_time: Option<Timestamp>,
    /// The version of the row.
    pub etag: Etag,
}

/// What has become of an invitation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InvitationStatus {
    /// It can be accepted.
    Pending,
    /// It was.
    Accepted,
    /// It was withdrawn.
    Withdrawn,
    /// Its time is over.
    Expired,
}

impl InvitationStatus {
    /// The status as it stands in answers.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Accepted => "accepted",
            Self::Withdrawn => "withdrawn",
            Self::Expired => "expired",
        }
    }
}

/// An offer of membership.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invitation {
    /// Its id.
    pub id: InvitationId,
    /// Whom it is for; empty: whoever has the code.
    pub email: String,
    /// The role.
    pub role: TenantRole,
    /// What has become of it, at the time of the read.
    pub status: InvitationStatus,
    /// Who made it.
    pub inviter: Sub,
    /// When.
    pub create_time: Timestamp,
    /// When it expires.
    pub expire_time: Timestamp,
}

/// An invitation that is to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewInvitation {
    /// Its id.
    pub id: InvitationId,
    /// Whom it is for, in lower case; empty: whoever has the code.
    pub email: String,
    /// The role.
    pub role: TenantRole,
    /// The SHA-256 of the code.
    pub code_hash: [u8; 32],
    /// When it expires.
    pub expire_time: Timestamp,
}

/// By what somebody accepts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AcceptBy {
    /// The SHA-256 of the code.
    Code([u8; 32]),
    /// The verified address, in lower case.
    Email(String),
}

/// Somebody who accepts an invitation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Joining {
    /// The user.
    pub sub: Sub,
    /// The verified address; may be empty.
    pub email: String,
    /// The name; may be empty.
    pub name: String,
    /// By what.
    pub by: AcceptBy,
}

/// Where members and invitations are kept. Each method happens wholly or not at all; `limit` is what the plan allows,
/// `None` stands for unlimited.
#[async_trait]
pub trait MemberStore: Send + Sync + 'static {
    /// A part of the members, newest first.
    async fn list(&self, scope: TenantScope, page: &Page, limit: Option<u32>) -> Result<Listed<Member>>;

    /// Gives a member another role.
    ///
    /// # Errors
    /// - [`crate::Error::NotFound`] if the user is no member.
    /// - [`crate::Error::PreconditionFailed`] if `etag` is not the present one, or if nobody would be an admin any more.
    async fn set_role(
        &self,
        scope: TenantScope,
        change: &Change,
        sub: &Sub,
        etag: Option<Etag>,
        role: TenantRole,
        limit: Option<u32>,
    ) -> Result<Member>;

    /// Takes a member out; the sessions of the user for this tenant end with it.
    ///
    /// # Errors
    /// - [`crate::Error::NotFound`] if the user is no member.
    /// - [`crate::Error::PreconditionFailed`] if nobody would be an admin any more who can act as one: within `limit`.
    async fn remove(&self, scope: TenantScope, change: &Change, sub: &Sub, limit: Option<u32>) -> Result<()>;

    /// Makes an invitation. A change that was made before (same idempotency key) answers with the invitation of that time,
    /// as it is now.
    ///
    /// # Errors
    /// - [`crate::Error::Conflict`] if the address belongs to a member or has a pending invitation, or if the idempotency key was
    ///   used with another request.
    /// - [`crate::Error::QuotaExceeded`] if members and pending invitations together are `limit`.
    async fn invite(
        &self,
        scope: TenantScope,
        change: &Change,
        invitation: &NewInvitation,
        limit: Option<u32>,
    ) -> Result<Invitation>;

    /// A part of the invitations, newest first, as they are at `now`.
    async fn invitations(
        &self,
        scope: TenantScope,
        page: &Page,
        now: Timestamp,
    ) -> Result<Listed<Invitation>>;

    /// Withdraws an invitation.
    ///
    /// # Errors
    /// - [`crate::Error::NotFound`] if there is none of that id.
    /// - [`crate::Error::PreconditionFailed`] if it is not pending.
    async fn withdraw(&self, scope: TenantScope, change: &Change, id: InvitationId) -> Result<()>;

    /// The tenant that a code with that hash leads to, unless it was used or withdrawn; its time may be over.
    async fn tenant_of_code(&self, code_hash: &[u8; 32]) -> Result<Option<TenantId>>;

    /// Makes somebody a member by a pending invitation.
    ///
    /// # Errors
    /// - [`crate::Error::NotFound`] if no pending invitation fits.
    /// - [`crate::Error::Conflict`] if the user is a member already.
    /// - [`crate::Error::QuotaExceeded`] if there are `limit` members.
    async fn accept(
        &self,
        scope: TenantScope,
        change: &Change,
        joining: &Joining,
        limit: Option<u32>,
    ) -> Result<Member>;

    /// Where the user is a member at this instance, ordered by tenant, at `now`: whoever is over the limit of a tenant's
    /// plan is a viewer there.
    async fn memberships(&self, sub: &Sub, now: Timestamp) -> Result<Memberships>;

    /// Notes that the user signed in for the tenant (the SSO mapping keeps the last time).
    async fn note_sign_in(&self, scope: TenantScope, sub: &Sub, now: Timestamp) -> Result<()>;
}
