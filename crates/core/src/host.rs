//! What an instance holds beside its tenants' own data: which tenants have a place here, what Admin pushed, who is signed
//! in.

use std::collections::BTreeSet;

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};

use crate::audit::{AuditEvent, AuditFilter, Refusal};
use crate::placed::{Held, PlacedFlags, PlacedTenant, RevocationPush, TenantPush};
use crate::revocation::Revocation;
use crate::tenant::TenantReport;
use crate::{Change, InstanceId, Listed, OrgId, Page, Result, Sub, TenantId, TenantScope};

/// How long a session is good. Source: contract C2, "12 h at most".
pub const SESSION_LIFETIME: SignedDuration = SignedDuration::from_hours(12);

/// A session of one user for one tenant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    /// The SHA-256 of its token.
    pub hash: [u8; 32],
    /// The one tenant that it is good for.
    pub tenant: TenantId,
    /// Whose it is.
    pub sub: Sub,
    /// The verified address; may be empty.
    pub email: String,
    /// The name; may be empty.
    pub name: String,
    /// What owns the user's tenants.
    pub owner: OrgId,
    /// The roles of the user's token at the sign-in.
    pub roles: BTreeSet<String>,
    /// When the user signed in.
    pub auth_time: Timestamp,
    /// When the session began.
    pub create_time: Timestamp,
    /// When it ends.
    pub expire_time: Timestamp,
}

/// A set of flags that an instance holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeldSet {
    /// The set.
    pub flags: PlacedFlags,
    /// When it was applied.
    pub apply_time: Timestamp,
}

/// A local account: how somebody signs in where a Stack stands alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// The user.
    pub sub: Sub,
    /// What is signed in with.
    pub login: String,
    /// What people read.
    pub name: String,
    /// The PHC string of the password's Argon2id hash.
    pub password_hash: String,
}

/// Where local accounts are kept. Each method happens wholly or not at all.
#[async_trait]
pub trait AccountStore: Send + Sync + 'static {
    /// The account with that login.
    async fn find_account(&self, login: &str) -> Result<Option<Account>>;

    /// The account of that user.
    async fn account_of(&self, sub: &Sub) -> Result<Option<Account>>;

    /// Adds an account.
    ///
    /// # Errors
    /// - [`crate::Error::Conflict`] if the login is taken.
    async fn add_account(&self, change: &Change, account: &Account) -> Result<()>;

    /// Changes the hash of the password, and ends every session of the user.
    ///
    /// # Errors
    /// - [`crate::Error::NotFound`] if there is no such account.
    async fn set_password(&self, change: &Change, sub: &Sub, password_hash: &str) -> Result<()>;

    /// Opens a session, as [`HostStore::open_session`] does, for a password that was verified against `password_hash`: one
    /// that was changed since then opens none.
    ///
    /// # Errors
    /// - [`crate::Error::AuthInvalid`] if the account of the session's user has another hash by now, or is gone.
    /// - those of [`HostStore::open_session`].
    async fn open_session_by_password(
        &self,
        change: &Change,
        session: &Session,
        password_hash: &str,
    ) -> Result<()>;

    /// Takes away the account of somebody who joined nowhere; its login is free again.
    ///
    /// # Errors
    /// - [`crate::Error::NotFound`] if there is no such account.
    /// - [`crate::Error::PreconditionFailed`] if the user is a member of a tenant.
    async fn remove_account(&self, change: &Change, sub: &Sub) -> Result<()>;
}

/// Where that is kept. Each method happens wholly or not at all.
#[async_trait]
pub trait HostStore: AccountStore {
    /// Who this instance is, once it was claimed.
    async fn identity(&self) -> Result<Option<InstanceId>>;

    /// Remembers who this instance is.
    ///
    /// # Errors
    /// - [`crate::Error::Conflict`] if it is another one already: its tenants are those of the other.
    async fn remember_identity(&self, id: InstanceId) -> Result<()>;

    /// Applies a push of tenants: makes the data of new ones, with the founder as their admin; takes up what changed;
    /// erases what is to be. What was in no page of a snapshot is no longer placed here; its data stays. At most
    /// `max_tenants` have a place: one more is refused.
    async fn apply_tenants(&self, change: &Change, push: &TenantPush, max_tenants: u32) -> Result<Held>;

    /// Applies a push of revocations; those that do not matter any more at the change's time go.
    async fn apply_revocations(&self, change: &Change, push: &RevocationPush) -> Result<Held>;

    /// Applies a set of flags that is newer than what is held; answers with what is held.
    async fn apply_flags(&self, change: &Change, flags: &PlacedFlags) -> Result<HeldSet>;

    /// The set of flags that is held.
    async fn held_flags(&self) -> Result<Option<HeldSet>>;

    /// The version of the tenants that is held; `None` if they were never pushed.
    async fn held_tenants(&self) -> Result<Option<u32>>;

    /// The version of the revocations that is held; `None` if they were never pushed.
    async fn held_revocations(&self) -> Result<Option<u32>>;

    /// The tenant of that id or slug, if it has a place here and is not erased.
    async fn find_tenant(&self, name: &str) -> Result<Option<PlacedTenant>>;

    /// How many tenants have a place here.
    async fn count_tenants(&self) -> Result<u32>;

    /// What is revoked of the user.
    async fn revocation(&self, sub: &Sub) -> Result<Option<Revocation>>;

    /// Opens a session of a member; ended ones of long ago go.
    ///
    /// # Errors
    /// - [`crate::Error::NotFound`] if the tenant has no place here, or if the user is no member of it.
    async fn open_session(&self, change: &Change, session: &Session) -> Result<()>;

    /// The session with a token of that hash, unless it has ended at `now`.
    async fn find_session(&self, hash: &[u8; 32], now: Timestamp) -> Result<Option<Session>>;

    /// Ends the session with a token of that hash; one that is not there is ended already.
    async fn end_session(&self, change: &Change, hash: &[u8; 32]) -> Result<()>;

    /// Which tenants changed since Admin mirrored them, 20 at most, as they are now.
    async fn reports_due(&self) -> Result<Vec<TenantReport>>;

    /// Admin has mirrored (or refused) these.
    async fn reported(&self, reports: &[TenantReport]) -> Result<()>;

    /// Reports everything anew.
    async fn report_anew(&self) -> Result<()>;

    /// Appends refusals: those within a tenant that has a place here to the tenant's own log, all others to the instance's.
    async fn append_refusals(&self, refusals: &[Refusal]) -> Result<()>;

    /// A part of the tenant's log, newest first.
    async fn activity(
        &self,
        scope: TenantScope,
        filter: &AuditFilter,
        page: &Page,
    ) -> Result<Listed<AuditEvent>>;
}
