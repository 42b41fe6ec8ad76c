//! Users: a mirror of the identity provider's, and what they set here.

use async_trait::async_trait;
use jiff::Timestamp;

use crate::revocation::Revocation;
use crate::{Change, Error, Etag, Listed, OrgId, Page, PlanGrant, Result, Sub};

/// A user as the platform knows one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// Who it is.
    pub sub: Sub,
    /// What owns the user's tenant.
    pub owner: OrgId,
    /// What userinfo said last.
    pub profile: ProviderProfile,
    /// What the user set here; stronger than the provider's.
    pub own: OwnProfile,
    /// The grant of the user's organisation.
    pub grant: Option<PlanGrant>,
    /// When the platform first saw the user.
    pub create_time: Timestamp,
    /// When the user was last changed.
    pub update_time: Timestamp,
    /// Which of the user's sign-ins count no more; a locked user's, none does.
    pub revocation: Option<Revocation>,
    /// The issue time of the newest token whose userinfo is mirrored here.
    pub identity_time: Timestamp,
    /// The version of the row.
    pub etag: Etag,
}

impl User {
    /// The name that is shown: the user's own, else the provider's.
    pub fn display_name(&self) -> &str {
        if self.own.display_name.is_empty() { &self.profile.name } else { &self.own.display_name }
    }

    /// The picture that is shown: the user's own, else the provider's.
    pub fn avatar_url(&self) -> &str {
        if self.own.avatar_url.is_empty() { &self.profile.picture } else { &self.own.avatar_url }
    }
}

/// What the identity provider's userinfo says; absent text is empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProviderProfile {
    /// The address, only where the provider calls it verified.
    pub email: String,
    /// The name.
    pub name: String,
    /// The URL of a picture.
    pub picture: String,
}

/// What the user set here; absent text is empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OwnProfile {
    /// The name.
    pub display_name: String,
    /// The URL of a picture.
    pub avatar_url: String,
    /// A language tag.
    pub locale: String,
    /// A zone of the IANA database.
    pub timezone: String,
    /// The theme of the pages.
    pub theme: Option<Theme>,
    /// Whether notices are sent by e-mail.
    pub email_notices: bool,
}

/// How pages look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Theme {
    /// Dark on light.
    Light,
    /// Light on dark.
    Dark,
    /// As the system says.
    System,
}

impl Theme {
    /// Every theme.
    pub const ALL: [Self; 3] = [Self::Light, Self::Dark, Self::System];

    /// The theme as it stands in answers.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Light => "light",
            Self::Dark => "dark",
            Self::System => "system",
        }
    }

    /// The theme of that name; empty is none.
    ///
    /// # Errors
    /// - [`Error::Invalid`] for any other text.
    pub fn parse(text: &str) -> Result<Option<Self>> {
        if text.is_empty() {
            return Ok(None);
        }
        Self::ALL
            .into_iter()
            .find(|theme| theme.as_str() == text)
            .map(Some)
            .ok_or_else(|| Error::invalid("theme", "must be light, dark, system or empty"))
    }
}

/// A change of what a user set: `None` stays, empty is cleared.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UserPatch {
    /// The name.
    pub display_name: Option<String>,
    /// The URL of a picture.
    pub avatar_url: Option<String>,
    /// A language tag.
    pub locale: Option<String>,
    /// A zone of the IANA database.
    pub timezone: Option<String>,
    /// The theme; `Some(None)` clears it.
    pub theme: Option<Option<Theme>>,
    /// Whether notices are sent by e-mail.
    pub email_notices: Option<bool>,
}

impl UserPatch {
    /// `own` with the patch on it.
    #[must_use]
    pub fn apply(self, own: OwnProfile) -> OwnProfile {
        OwnProfile {
            display_name: self.display_name.unwrap_or(own.display_name),
            avatar_url: self.avatar_url.unwrap_or(own.avatar_url),
            locale: self.locale.unwrap_or(own.locale),
            timezone: self.timezone.unwrap_or(own.timezone),
            theme: self.theme.unwrap_or(own.theme),
            email_notices: self.email_notices.unwrap_or(own.email_notices),
        }
    }
}

/// A user whom a module saw with a verified token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sighting {
    /// Who it is.
    pub sub: Sub,
    /// What owns the user's tenant.
    pub owner: OrgId,
    /// When the token was issued.
    pub token_time: Timestamp,
    /// What userinfo says; `None` where it could not be asked, and what is mirrored stays.
    pub profile: Option<ProviderProfile>,
}

/// Which users a list holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UserFilter {
    /// Only those whose address or shown name contains this, ignoring case; empty: all.
    pub search: String,
    /// Only those of this organisation.
    pub owner: Option<OrgId>,
}

/// A user of whom every module is being told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revoked {
    /// The user.
    pub user: User,
    /// Who has acknowledged this version of the revocations knows it.
    pub version: u32,
}

/// Where users are kept. Each method happens wholly or not at all.
#[async_trait]
pub trait UserStore: Send + Sync + 'static {
    /// Makes or refreshes the row of a user who was seen, and the row of the organisation. What the user set stays.
    /// The audit has a row where the user is new. An older token than the mirrored one changes nothing.
    async fn sight(&self, change: &Change, sighting: &Sighting) -> Result<User>;

    /// The user, if the platform ever saw one of that `sub`.
    async fn find(&self, sub: &Sub) -> Result<Option<User>>;

    /// Changes what the user set. What is so already stays as it is, etag too; the audit has a row all the same.
    ///
    /// # Errors
    /// - [`Error::NotFound`] if the user was never seen.
    /// - [`Error::PreconditionFailed`] if `etag` is not the present one.
    async fn update(&self, change: &Change, sub: &Sub, etag: Option<Etag>, patch: UserPatch) -> Result<User>;

    /// Locks the user or ends the lock, and tells every module. A lock also ends every sign-in of before, for good. Locking
    /// a locked user again tells the modules again. `reason` goes to the audit.
    ///
    /// # Errors
    /// - [`Error::NotFound`] if the user was never seen.
    async fn set_lock(&self, change: &Change, sub: &Sub, locked: bool, reason: &str) -> Result<Revoked>;

    /// Lets no sign-in of the user count that is older than `revoke_time`, and tells every module. What is revoked already
    /// changes nothing and leaves no row.
    ///
    /// # Errors
    /// - [`Error::NotFound`] if the user was never seen.
    async fn revoke(&self, change: &Change, sub: &Sub, revoke_time: Timestamp) -> Result<Revoked>;

    /// A part of the users, newest first.
    async fn list(&self, filter: &UserFilter, page: &Page) -> Result<Listed<User>>;
}
