//! Sessions at this instance: 256 random bits, kept as a hash, good for one tenant and 12 hours at most. Source: C2, C6.

use async_trait::async_trait;
use jiff::Timestamp;
use kombify_core::host::{AccountStore, HostStore, SESSION_LIFETIME, Session};
use kombify_core::member::MemberStore;
use kombify_core::placed::{PlacedStatus, PlacedTenant};
use kombify_core::{Actor, Change, Error, Result, Sub, TenantRole, TenantScope, UserIdentity};
use kombify_mesh::identity::{SESSION_PREFIX, SessionUser, Sessions};
use kombify_mesh::secret;

use crate::Host;

/// The sessions of a host.
pub struct HostSessions {
    host: Host,
    cookie: String,
}

impl HostSessions {
    /// The sessions of `host`.
    pub fn new(host: Host) -> Self {
        let cookie = cookie(&host, "session");
        Self { host, cookie }
    }
}

/// The name of a cookie of this instance: loopback ports share cookies, so it says whose it is; under TLS no sibling host
/// can plant it.
pub(crate) fn cookie(host: &Host, what: &str) -> String {
    let prefix = if is_secure(host) { "__Host-" } else { "" };
    let id: String = host.instance.to_string().chars().filter(char::is_ascii_hexdigit).skip(4).collect();
    format!("{prefix}kombify_stack_{id}_{what}")
}

/// Whether browsers reach the instance by TLS.
pub(crate) fn is_secure(host: &Host) -> bool {
    host.origin.starts_with("https://")
}

/// The hash under which the session of a token is kept; `None` for what is no token of a session.
pub(crate) fn hash(token: &str) -> Option<[u8; 32]> {
    token.starts_with(SESSION_PREFIX).then(|| secret::hash(token))
}

/// Who signs in, as a sign-in told.
pub(crate) struct SignedIn {
    pub(crate) user: UserIdentity,
    /// What a password was verified against, where it was one.
    pub(crate) password_hash: Option<String>,
}

/// A session that was opened: its token is shown this once.
pub(crate) struct OpenedSession {
    pub(crate) token: String,
    pub(crate) tenant: PlacedTenant,
    pub(crate) role: TenantRole,
    pub(crate) expire_time: Timestamp,
}

/// Opens a session of somebody who has signed in, for a tenant that has its place here.
///
/// # Errors
/// - [`Error::NotFound`] if the tenant has no place here, or the user is no member.
/// - [`Error::TenantSuspended`] while it is suspended.
/// - [`Error::AuthInvalid`] if the sign-in counts no more, or the password was changed meanwhile.
pub(crate) async fn open(
    host: &Host,
    change: &Change,
    SignedIn { user, password_hash }: SignedIn,
    tenant: &str,
) -> Result<OpenedSession> {
    let absent = || Error::not_found("tenant", tenant);
    let placed = HostStore::find_tenant(&*host.keep, tenant).await?.ok_or_else(absent)?;
    let memberships = MemberStore::memberships(&*host.keep, &user.sub, change.time).await?;
    let role = memberships.find(tenant).ok_or_else(absent)?.role;
    match placed.status {
        PlacedStatus::Active => {}
        PlacedStatus::Suspended => return Err(Error::TenantSuspended),
        PlacedStatus::Deleted | PlacedStatus::Erased => return Err(absent()),
    }
    if let Some(revocation) = HostStore::revocation(&*host.keep, &user.sub).await? {
        revocation.check(user.signed_in_at)?;
    }
    let (random, _) = secret::make(&*host.ids);
    let token = format!("{SESSION_PREFIX}{random}");
    let expire_time = change.time.checked_add(SESSION_LIFETIME).map_err(Error::internal)?;
    let session = Session {
        hash: secret::hash(&token),
        tenant: placed.id,
        sub: user.sub.clone(),
        email: user.email.unwrap_or_default(),
        name: user.name.unwrap_or_default(),
        owner: user.owner,
        roles: user.roles,
        auth_time: user.signed_in_at,
        create_time: change.time,
        expire_time,
    };
    let actor = Actor { sub: Some(user.sub.clone()), ..change.actor.clone() };
    let change = Change { actor, action: "user.login", ..change.clone() };
    // Read above for what is answered; that it is so still is held in the transaction that opens the session.
    match password_hash {
        Some(hash) => {
            AccountStore::open_session_by_password(&*host.keep, &change, &session, &hash).await?;
        }
        None => HostStore::open_session(&*host.keep, &change, &session).await?,
    }
    let scope = TenantScope::system(placed.id, "a member signs in");
    MemberStore::note_sign_in(&*host.keep, scope, &user.sub, change.time).await?;
    tracing::info!(tenant.id = %placed.id, user.sub = %user.sub, "session opened");
    Ok(OpenedSession { token, tenant: placed, role, expire_time })
}

/// Ends the session of a token, in the name of its user. One that has ended already is no fault.
pub(crate) async fn end(host: &Host, change: &Change, token: &str) -> Result<()> {
    let Some(hash) = hash(token) else { return Ok(()) };
    let Some(session) = HostStore::find_session(&*host.keep, &hash, change.time).await? else {
        return Ok(());
    };
    let actor = Actor { sub: Some(session.sub.clone()), ..change.actor.clone() };
    let change = Change { actor, action: "user.logout", ..change.clone() };
    HostStore::end_session(&*host.keep, &change, &hash).await?;
    tracing::info!(tenant.id = %session.tenant, user.sub = %session.sub, "session ended");
    Ok(())
}

/// The user of a session, as an identity.
fn identity(session: Session) -> UserIdentity {
    let Session {
        hash: _,
        tenant: _,
        sub,
        email,
        name,
        owner,
        roles,
        auth_time,
        create_time,
        expire_time: _,
    } = session;
    let some = |text: String| (!text.is_empty()).then_some(text);
    UserIdentity {
        sub,
        org: None,
        owner,
        email: some(email),
        name: some(name),
        roles,
        issued_at: create_time,
        signed_in_at: auth_time,
        impersonator: None,
    }
}

/// A user who signed in at this instance itself.
pub(crate) fn local_user(sub: Sub, name: String, now: Timestamp) -> UserIdentity {
    UserIdentity {
        owner: kombify_core::OrgId::alone(&sub),
        sub,
        org: None,
        email: None,
        name: Some(name),
        roles: std::iter::once("user".to_owned()).collect(),
        issued_at: now,
        signed_in_at: now,
        impersonator: None,
    }
}

#[async_trait]
impl Sessions for HostSessions {
    async fn find(&self, token: &str) -> Result<Option<SessionUser>> {
        let Some(hash) = hash(token) else { return Ok(None) };
        let session = HostStore::find_session(&*self.host.keep, &hash, self.host.clock.now()).await?;
        Ok(session.map(|session| SessionUser { tenant: session.tenant, user: identity(session) }))
    }

    fn cookie(&self) -> &str {
        &self.cookie
    }

    fn origin(&self) -> &str {
        &self.host.origin
    }
}
