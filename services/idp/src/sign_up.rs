//! Somebody new.

use std::sync::Arc;

use axum::extract::rejection::{FormRejection, QueryRejection};
use axum::extract::{Form, Query, State};
use axum::http::HeaderMap;
use axum::response::Response;
use kombify_core::{Error, Result};
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;

use crate::issuer::Issuer;
use crate::limits::Address;
use crate::pages::{self, Fault, SignUp};
use crate::password::{MAX_CHARS, MIN_CHARS};
use crate::secret;
use crate::sign_in::{Asked, finish, waiting, with_form};
use crate::store::users::{User, fold};

/// What everybody is who signs up.
const ROLE: &str = "user";

/// How long a name is at most, in characters.
const NAME_MAX_CHARS: usize = 200;

/// How long an address is at most, in bytes (RFC 5321).
const EMAIL_MAX_BYTES: usize = 254;

/// The form.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(crate) struct Typed {
    csrf: String,
    request: String,
    name: String,
    email: String,
    password: SecretString,
}

pub(crate) async fn show(
    State(issuer): State<Arc<Issuer>>,
    headers: HeaderMap,
    asked: Result<Query<Asked>, QueryRejection>,
) -> Result<Response, Fault> {
    let request = asked.map(|Query(asked)| asked.request).unwrap_or_default();
    let pending = waiting(&issuer, &request).await?;
    let email =
        pending.as_ref().and_then(|pending| pending.login_hint.as_deref()).filter(|hint| hint.contains('@'));
    let typed = SignUp { email: email.unwrap_or_default(), ..SignUp::default() };
    Ok(with_form(&issuer, &headers, &request, pending.as_ref(), |form| pages::sign_up(form, &typed)))
}

pub(crate) async fn submit(
    State(issuer): State<Arc<Issuer>>,
    headers: HeaderMap,
    address: Address,
    typed: Result<Form<Typed>, FormRejection>,
) -> Result<Response, Fault> {
    let Form(typed) = typed.map_err(|_| Error::invalid("", "the form must come from its own page"))?;
    issuer.limits.form(&address, issuer.now())?;
    issuer.csrf.check(&issuer.cookies, &headers, &typed.csrf)?;
    let mut page = check(&typed);
    if page.name_error.or(page.email_error).or(page.password_error).is_none() {
        match create(&issuer, &typed).await {
            Ok(user) => {
                tracing::info!(user.sub = %user.sub, "user signed up");
                return Ok(finish(&issuer, &headers, &user, &typed.request).await?);
            }
            Err(Error::Conflict(_)) => {
                page.email_error = Some("This address has an account: sign in with it.");
            }
            Err(fault) => return Err(fault.into()),
        }
    }
    let pending = waiting(&issuer, &typed.request).await?;
    Ok(with_form(&issuer, &headers, &typed.request, pending.as_ref(), |form| pages::sign_up(form, &page)))
}

/// What was typed, with what is wrong with it.
fn check(typed: &Typed) -> SignUp<'_> {
    let name = typed.name.trim();
    let name_good =
        (1..=NAME_MAX_CHARS).contains(&name.chars().count()) && !name.chars().any(char::is_control);
    let password_good = (MIN_CHARS..=MAX_CHARS).contains(&typed.password.expose_secret().chars().count());
    SignUp {
        name: &typed.name,
        email: &typed.email,
        name_error: (!name_good).then_some("A name has 1 to 200 characters."),
        email_error: (!is_address(typed.email.trim())).then_some("This is no e-mail address."),
        password_error: (!password_good).then_some("A password has 10 to 128 characters."),
    }
}

/// Whether it has the form of an address; only a mail could tell whether it is one.
fn is_address(email: &str) -> bool {
    let clean = email.len() <= EMAIL_MAX_BYTES && !email.chars().any(|c| c.is_whitespace() || c.is_control());
    clean
        && email.split_once('@').is_some_and(|(local, domain)| {
            (1..=64).contains(&local.len()) && !domain.is_empty() && !domain.contains('@')
        })
}

async fn create(issuer: &Issuer, typed: &Typed) -> Result<User> {
    let email = fold(&typed.email);
    if issuer.store.find_user_by_login(&email).await?.is_some() {
        return Err(Error::Conflict(format!("{email} is taken")));
    }
    let org = &issuer.config.default_org;
    let now = issuer.now();
    let user = User {
        sub: secret::digits(&*issuer.ids),
        login: email.clone(),
        email,
        name: typed.name.trim().to_owned(),
        org: org.clone(),
        roles: vec![(ROLE.to_owned(), org.clone())],
        locked: false,
        password_hash: issuer.passwords.hash(&*issuer.ids, typed.password.clone()).await?,
        create_time: now,
        sequence: 1,
        change_time: now,
    };
    issuer.store.add_user(user.clone()).await?;
    Ok(user)
}

#[cfg(test)]
mod tests {

    use crate::testing::{CALLBACK, DEFAULT_ORG, House, authorize_uri, claims_of};

    const NEW: [(&str, &str); 3] =
        [("name", "Bob Builder"), ("email", "Bob@Example.com"), ("password", "correct horse")];

    #[tokio::test]
    async fn who_signs_up_is_signed_in_and_goes_on_to_the_client() {
        let house = House::open();
        let mut browser = house.browser();
        let page = browser.get(&authorize_uri(&[("prompt", "create")])).await.follow(&mut browser).await;
        assert!(page.body.contains("counts as verified"));
        let answer = browser.submit(&page, "/sign-up", &NEW).await;
        let location = answer.location().unwrap();
        assert!(location.starts_with(&format!("{CALLBACK}?code=")), "{location}");
        let tokens = browser.redeem(&answer.code()).await;
        let (access, id) = (claims_of(tokens.access()), claims_of(tokens.id()));
        assert_eq!(access["urn:zitadel:iam:user:resourceowner:id"], DEFAULT_ORG);
        assert!(access["urn:zitadel:iam:org:project:roles"]["user"].get(DEFAULT_ORG).is_some());
        assert_eq!(id["email"], "bob@example.com");
        assert_eq!(id["preferred_username"], "bob@example.com");
        assert_eq!(id["name"], "Bob Builder");

        let mut again = house.browser();
        let page = again.get("/sign-in").await;
        let fields = [("login", "bob@example.com"), ("password", "correct horse")];
        assert_eq!(again.submit(&page, "/sign-in", &fields).await.status, 303);
    }

    #[tokio::test]
    async fn an_address_has_one_account() {
        let house = House::seeded().await;
        let mut browser = house.browser();
        let page = browser.get("/sign-up").await;
        assert_eq!(browser.submit(&page, "/sign-up", &NEW).await.status, 303);
        for email in ["bob@example.com", "alice@example.com"] {
            let fields = [("name", "Bob"), ("email", email), ("password", "another horse")];
            let answer = browser.submit(&page, "/sign-up", &fields).await;
            assert_eq!(answer.status, 422, "{email}");
            assert!(answer.body.contains("This address has an account"));
        }
    }

    #[tokio::test]
    async fn what_is_wrong_stands_beside_its_field() {
        let mut browser = House::open().browser();
        let page = browser.get("/sign-up").await;
        let long = "p".repeat(129);
        for (field, value) in [
            ("name", " "),
            ("name", "a\u{7}b"),
            ("email", "bob"),
            ("email", "bob@"),
            ("email", "@example.com"),
            ("email", "bob@exa mple.com"),
            ("email", "bob@a@b"),
            ("password", "too short"),
            ("password", long.as_str()),
        ] {
            let mut fields = NEW;
            fields.iter_mut().filter(|(name, _)| *name == field).for_each(|(_, kept)| *kept = value);
            let answer = browser.submit(&page, "/sign-up", &fields).await;
            assert_eq!(answer.status, 422, "{field} {value}");
            assert!(answer.body.contains(&format!("id=\"{field}-error\"")), "{field} {value}");
        }
    }
}
