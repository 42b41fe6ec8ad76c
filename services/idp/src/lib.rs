//! Floor 4: the development identity provider, for `kombify up` and tests only.
//!
//! An OIDC issuer of authorization codes with PKCE, whose paths and claims are as Zitadel's: roles in
//! `urn:zitadel:iam:org:project:roles`, the organisation in `urn:zitadel:iam:user:resourceowner:id`, neither e-mail nor
//! name in an access token. Whoever signs up here counts as verified: so it is refused in every other mode.
//!
//! Refuses to know: the mesh, tenants, plans, how it is served. It has one SQLite file, and [`Idp::router`].

mod admin_api;
mod authorize;
mod client;
mod cookie;
mod csrf;
mod discovery;
mod end_session;
mod issuer;
mod keys;
mod limits;
mod logout;
mod oauth;
mod pages;
mod password;
mod rotate;
mod secret;
mod sign_in;
mod sign_up;
mod store;
#[cfg(test)]
mod testing;
mod token;
mod tokens;
mod userinfo;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::DefaultBodyLimit;
use axum::routing::{get, post};
use axum::{Router, middleware};
use kombify_core::{Clock, Ids, Result};
use kombify_sqlite::OpenError;
use secrecy::SecretString;
use tokio_util::sync::CancellationToken;

pub use crate::client::Client;
use crate::issuer::Issuer;
pub use crate::secret::readable as readable_password;
use crate::store::users::User;

/// How large a form or a body may be, in bytes: many times the longest that is meant.
const BODY_MAX_BYTES: usize = 64 * 1024;

/// What the issuer is told.
#[derive(Clone, Debug)]
pub struct Config {
    /// The issuer's URL, without a slash at the end, for example `http://localhost:8083`. Under `https` the cookies are
    /// `__Host-` and `Secure`.
    pub issuer: String,
    /// The audience of access tokens, for example `kombify`.
    pub audience: String,
    /// How long an access token is good, and an ID token; 15 minutes.
    pub access_token_lifetime: Duration,
    /// How long a family of refresh tokens is good, counted from its sign-in; 30 days.
    pub refresh_token_lifetime: Duration,
    /// How long a browser stays signed in here; 12 hours.
    pub session_lifetime: Duration,
    /// How long a new key is in the JWKS before it signs; 2 minutes, so that every cache of one minute has it by then.
    pub publish_ahead: Duration,
    /// Sign-ins and sign-ups of one address in a minute; 20. Source: the contracts, "Limits".
    pub sign_ins_per_minute: u32,
    /// The organisation of those who sign up; it grants their role `user`, too.
    pub default_org: String,
    /// The personal access token of the service user who may lock users; `None`: nobody may.
    pub service_token: Option<SecretString>,
    /// Who may ask for a sign-in.
    pub clients: Vec<Client>,
}

/// A user who is to be there from the start.
#[derive(Clone, Debug)]
pub struct SeedUser {
    /// The short name to sign in with, for example `alice`.
    pub login: String,
    /// The address; it signs in, too.
    pub email: String,
    /// The name to show.
    pub name: String,
    /// The user's organisation.
    pub org: String,
    /// The roles, each with the id of the organisation that grants it.
    pub roles: Vec<(String, String)>,
    /// The password; `None` makes one.
    pub password: Option<SecretString>,
}

/// A user who was seeded, now or earlier.
#[derive(Clone, Debug)]
pub struct Seeded {
    /// The short name to sign in with.
    pub login: String,
    /// The user's `sub`.
    pub sub: String,
    /// The password, only where the user is new: it is kept as a hash and never shown again.
    pub password: Option<SecretString>,
}

/// The development identity provider.
#[derive(Clone)]
pub struct Idp {
    issuer: Arc<Issuer>,
}

impl Idp {
    /// Opens the database at `path` and brings it up to date. The first signing key is made at its first use.
    ///
    /// # Errors
    /// - [`OpenError`] if the file cannot be opened or migrated.
    pub fn open(
        path: &Path,
        config: Config,
        clock: Arc<dyn Clock>,
        ids: Arc<dyn Ids>,
    ) -> Result<Self, OpenError> {
        Ok(Self { issuer: Arc::new(Issuer::open(path, config, clock, ids)?) })
    }

    /// Looks at a database without changing it: whether [`Self::open`] would take it.
    ///
    /// # Errors
    /// - [`OpenError`] says what is wrong with the file, and the way out.
    pub fn look(path: &Path) -> Result<(), OpenError> {
        store::look(path)
    }

    /// Creates those of `users` whose login is missing, each with a password of its own. The others stay as they are.
    ///
    /// # Errors
    /// - [`kombify_core::Error::Conflict`] if a new user's address belongs to somebody else.
    pub async fn seed(&self, users: &[SeedUser]) -> Result<Vec<Seeded>> {
        let mut seeded = Vec::with_capacity(users.len());
        for user in users {
            seeded.push(self.seed_one(user).await?);
        }
        Ok(seeded)
    }

    async fn seed_one(&self, seed: &SeedUser) -> Result<Seeded> {
        let issuer = &self.issuer;
        let login = store::users::fold(&seed.login);
        if let Some(present) = issuer.store.find_user_by_login(&login).await? {
            return Ok(Seeded { login, sub: present.sub, password: None });
        }
        let password = seed.password.clone().unwrap_or_else(|| secret::readable(&*issuer.ids));
        let sub = secret::digits(&*issuer.ids);
        let now = issuer.clock.now();
        let user = User {
            sub: sub.clone(),
            login: login.clone(),
            email: store::users::fold(&seed.email),
            name: seed.name.clone(),
            org: seed.org.clone(),
            roles: seed.roles.clone(),
            password_hash: issuer.passwords.hash(&*issuer.ids, password.clone()).await?,
            locked: false,
            create_time: now,
            sequence: 1,
            change_time: now,
        };
        issuer.store.add_user(user).await?;
        tracing::info!(user.sub = %sub, user.login = %login, "user seeded");
        Ok(Seeded { login, sub, password: Some(password) })
    }

    /// Everything that is served. Whoever serves it may give each request its
    /// `axum::extract::ConnectInfo<std::net::SocketAddr>`: without, all callers share one limit of sign-ins.
    pub fn router(&self) -> Router {
        let issuer = &self.issuer;
        Router::new()
            .route("/.well-known/openid-configuration", get(discovery::configuration))
            .route("/oauth/v2/keys", get(discovery::keys))
            .route("/oauth/v2/authorize", get(authorize::authorize))
            .route("/oauth/v2/token", post(token::token))
            .route("/oidc/v1/userinfo", get(userinfo::userinfo).post(userinfo::userinfo))
            .route("/oidc/v1/end_session", get(end_session::asked).post(end_session::posted))
            .route("/sign-in", get(sign_in::show).post(sign_in::submit))
            .route("/sign-up", get(sign_up::show).post(sign_up::submit))
            .route("/keys:rotate", post(rotate::rotate))
            .route("/v2/users/{user_id}", get(admin_api::get))
            .route("/v2/users/{user_id}/lock", post(admin_api::lock))
            .route("/v2/users/{user_id}/unlock", post(admin_api::unlock))
            .route("/style.css", get(pages::stylesheet))
            .layer(DefaultBodyLimit::max(BODY_MAX_BYTES))
            .layer(middleware::map_response_with_state(Arc::clone(issuer), pages::harden))
            .with_state(Arc::clone(issuer))
    }

    /// Tells clients of ended sessions, until cancelled.
    pub async fn run(&self, cancel: CancellationToken) {
        logout::run(&self.issuer, cancel).await;
    }

    /// Says whether the database answers.
    ///
    /// # Errors
    /// - [`kombify_core::Error::Internal`] if it does not.
    pub async fn check(&self) -> Result<()> {
        self.issuer.store.check().await
    }
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret as _;

    use crate::testing::{House, seeds};

    #[tokio::test]
    async fn a_user_is_seeded_once_and_the_password_is_shown_once() {
        let house = House::open();
        let first = house.idp.seed(&seeds()).await.unwrap();
        let again = house.idp.seed(&seeds()).await.unwrap();
        assert_eq!(first.len(), 2);
        for (first, again) in first.iter().zip(&again) {
            assert!(first.password.as_ref().unwrap().expose_secret().len() >= 20);
            assert!(again.password.is_none());
            assert_eq!(first.sub, again.sub);
            assert_eq!(first.sub.len(), 18);
            assert!(first.sub.bytes().all(|byte| byte.is_ascii_digit()));
        }
        assert_ne!(first[0].sub, first[1].sub);
        house.idp.check().await.unwrap();
    }

    #[tokio::test]
    async fn every_answer_is_hardened() {
        let mut browser = House::open().browser();
        for path in ["/sign-in", "/sign-up", "/style.css", "/oidc/v1/userinfo", "/oauth/v2/authorize"] {
            let answer = browser.get(path).await;
            let policy = answer.header("content-security-policy");
            assert!(
                policy.contains("default-src 'none'") && policy.contains("frame-ancestors 'none'"),
                "{path}"
            );
            assert_eq!(answer.header("x-frame-options"), "DENY", "{path}");
            assert_eq!(answer.header("x-content-type-options"), "nosniff", "{path}");
        }
    }
}
