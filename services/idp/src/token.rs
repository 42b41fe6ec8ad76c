//! The token endpoint: codes and refresh tokens become tokens.

use std::sync::Arc;

use aws_lc_rs::digest;
use axum::extract::rejection::FormRejection;
use axum::extract::{Form, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::Response;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use kombify_core::Error;
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use serde_json::json;

use crate::issuer::Issuer;
use crate::oauth::{self, Refusal};
use crate::secret::{self, RANDOM_LEN};
use crate::store::grants::{Grant, Redemption, Refresh};
use crate::tokens::Issue;

/// What the form may say, as it comes.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(crate) struct Wanted {
    grant_type: Option<String>,
    client_id: Option<String>,
    client_secret: Option<SecretString>,
    code: Option<SecretString>,
    redirect_uri: Option<String>,
    code_verifier: Option<SecretString>,
    refresh_token: Option<SecretString>,
    scope: Option<String>,
}

/// A refresh token: the secret of its family, which stays, and its own.
struct RefreshToken {
    family: String,
    own: String,
}

impl RefreshToken {
    fn parse(text: &str) -> Option<Self> {
        let (family, own) = text.split_once('.')?;
        let good = family.len() == RANDOM_LEN && own.len() == RANDOM_LEN;
        good.then(|| Self { family: family.to_owned(), own: own.to_owned() })
    }

    fn text(&self) -> String {
        format!("{}.{}", self.family, self.own)
    }
}

pub(crate) async fn token(
    State(issuer): State<Arc<Issuer>>,
    headers: HeaderMap,
    wanted: Result<Form<Wanted>, FormRejection>,
) -> Result<Response, Refusal> {
    let Form(wanted) = wanted
        .map_err(|_| Refusal::new("invalid_request", "a form is needed, each parameter at most once"))?;
    let has_secret = wanted.client_secret.as_ref().is_some_and(|secret| !secret.expose_secret().is_empty());
    if has_secret || headers.contains_key(header::AUTHORIZATION) {
        return Err(Refusal::new("invalid_client", "clients here are public: send client_id alone"));
    }
    let client = wanted.client_id.as_deref().and_then(|id| issuer.client(id));
    let client_id = client
        .map(|client| client.id.clone())
        .ok_or(Refusal::new("invalid_client", "client_id must name a client of this issuer"))?;
    match wanted.grant_type.as_deref() {
        Some("authorization_code") => redeem(&issuer, client_id, wanted).await,
        Some("refresh_token") => refresh(&issuer, client_id, wanted).await,
        Some(_) => Err(Refusal::new(
            "unsupported_grant_type",
            "grant_type must be authorization_code or refresh_token",
        )),
        None => Err(Refusal::new("invalid_request", "grant_type is needed")),
    }
}

async fn redeem(issuer: &Issuer, client_id: String, wanted: Wanted) -> Result<Response, Refusal> {
    let missing = Refusal::new("invalid_request", "code, redirect_uri and code_verifier are needed");
    let code = wanted.code.ok_or(missing)?;
    let redirect_uri = wanted.redirect_uri.ok_or(missing)?;
    let verifier = wanted.code_verifier.ok_or(missing)?;
    if !(43..=128).contains(&verifier.expose_secret().len()) {
        return Err(Refusal::new("invalid_request", "code_verifier must have 43 to 128 characters"));
    }
    let ids = &*issuer.ids;
    let next = RefreshToken { family: secret::random(ids), own: secret::random(ids) };
    let redeemed = issuer
        .store
        .redeem(Redemption {
            code: secret::hash(code.expose_secret()),
            client_id,
            redirect_uri,
            challenge: challenge(verifier.expose_secret()),
            grant_id: secret::digits(ids),
            family: secret::hash(&next.family),
            refresh: secret::hash(&next.own),
            access_lifetime: issuer.config.access_token_lifetime,
            refresh_lifetime: issuer.config.refresh_token_lifetime,
            now: issuer.now(),
        })
        .await?;
    let (grant, nonce) =
        redeemed.ok_or(Refusal::new("invalid_grant", "the code is not good, or not for this client"))?;
    tracing::info!(user.sub = %grant.sub, client.id = %grant.client_id, "code redeemed");
    let scope = grant.scope.clone();
    issue(issuer, &grant, &scope, nonce.as_deref(), &next).await
}

async fn refresh(issuer: &Issuer, client_id: String, wanted: Wanted) -> Result<Response, Refusal> {
    let refused = Refusal::new("invalid_grant", "the refresh token is not good, or not for this client");
    let presented = wanted.refresh_token.ok_or(Refusal::new("invalid_request", "refresh_token is needed"))?;
    let presented = RefreshToken::parse(presented.expose_secret()).ok_or(refused)?;
    let next = RefreshToken { family: presented.family, own: secret::random(&*issuer.ids) };
    let refresh = Refresh {
        family: secret::hash(&next.family),
        presented: secret::hash(&presented.own),
        next: secret::hash(&next.own),
        client_id,
        scope: wanted.scope.clone(),
        now: issuer.now(),
    };
    let grant = match issuer.store.refresh(refresh).await {
        Err(Error::Invalid(_)) => {
            return Err(Refusal::new("invalid_scope", "scope must lie within what was granted"));
        }
        answered => answered?.ok_or(refused)?,
    };
    let scope = wanted.scope.unwrap_or_else(|| grant.scope.clone());
    // The nonce belonged to the first ID token alone (OIDC Core, 12.2).
    issue(issuer, &grant, &scope, None, &next).await
}

async fn issue(
    issuer: &Issuer,
    grant: &Grant,
    scope: &str,
    nonce: Option<&str>,
    next: &RefreshToken,
) -> Result<Response, Refusal> {
    let user = issuer.store.find_user(&grant.sub).await?;
    let user = user.filter(|user| !user.locked);
    let user = user.ok_or(Refusal::new("invalid_grant", "the user is gone, or locked"))?;
    let (ring, now) = (issuer.ring().await?, issuer.now());
    let issue = Issue { key: ring.current(now)?, grant, user: &user, scope, config: &issuer.config, now };
    let access_token = issue.access_token(&*issuer.ids)?;
    let mut body = json!({
        "access_token": access_token,
        "token_type": "Bearer",
        "expires_in": issuer.config.access_token_lifetime.as_secs(),
        "scope": scope,
        "id_token": issue.id_token(nonce, &access_token)?,
    });
    if oauth::within("offline_access", &grant.scope) {
        body["refresh_token"] = next.text().into();
    }
    Ok(oauth::json_answer(StatusCode::OK, &body))
}

/// The S256 challenge of a verifier (RFC 7636).
pub(crate) fn challenge(verifier: &str) -> String {
    URL_SAFE_NO_PAD.encode(digest::digest(&digest::SHA256, verifier.as_bytes()))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::testing::{Answer, CALLBACK, House, PORTAL, VERIFIER, claims_of};

    #[test]
    fn the_challenge_is_that_of_the_standard() {
        let verifier = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
        assert_eq!(challenge(verifier), "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM");
    }

    fn refused(answer: &Answer, error: &str) {
        assert_eq!(answer.json()["error"], error, "{}", answer.body);
        assert!(answer.json().get("access_token").is_none());
        assert_eq!(answer.header("cache-control"), "no-store");
    }

    #[tokio::test]
    async fn a_code_is_good_once_and_its_second_use_takes_the_tokens_back() {
        let house = House::seeded().await;
        let mut browser = house.browser();
        let code = browser.code(&house, "openid offline_access").await;
        let tokens = browser.redeem(&code).await;
        assert_eq!(browser.userinfo(tokens.access()).await.status, 200);
        refused(&browser.token(&code_form(&code)).await, "invalid_grant");
        assert_eq!(browser.userinfo(tokens.access()).await.status, 401);
        refused(&browser.token(&refresh_form(tokens.refresh().unwrap())).await, "invalid_grant");
    }

    fn code_form(code: &str) -> [(&'static str, &str); 5] {
        [
            ("grant_type", "authorization_code"),
            ("client_id", PORTAL),
            ("redirect_uri", CALLBACK),
            ("code_verifier", VERIFIER),
            ("code", code),
        ]
    }

    fn refresh_form(token: &str) -> [(&'static str, &str); 3] {
        [("grant_type", "refresh_token"), ("client_id", PORTAL), ("refresh_token", token)]
    }

    #[tokio::test]
    async fn a_code_is_good_only_with_its_own_verifier_client_and_redirect_uri_and_is_burnt_by_any_other() {
        let house = House::seeded().await;
        let mut browser = house.browser();
        let wrong_verifier = "v".repeat(43);
        for (name, value) in [
            ("code_verifier", wrong_verifier.as_str()),
            ("client_id", "cli"),
            ("redirect_uri", "http://localhost:3000/other"),
        ] {
            let code = browser.code(&house, "openid").await;
            let mut form = code_form(&code);
            form.iter_mut().filter(|(key, _)| *key == name).for_each(|(_, kept)| *kept = value);
            refused(&browser.token(&form).await, "invalid_grant");
            refused(&browser.token(&code_form(&code)).await, "invalid_grant");
        }
    }

    #[tokio::test]
    async fn a_code_lasts_a_minute_and_no_longer_than_its_session() {
        let house = House::seeded().await;
        let mut browser = house.browser();
        let code = browser.code(&house, "openid").await;
        house.clock.advance(Duration::from_mins(1));
        refused(&browser.token(&code_form(&code)).await, "invalid_grant");

        let code = browser.code(&house, "openid").await;
        let sid = browser.session(&house).await.unwrap().sid;
        house.issuer().store.sign_out(&sid, Vec::new(), house.issuer().now()).await.unwrap();
        refused(&browser.token(&code_form(&code)).await, "invalid_grant");
    }

    #[tokio::test]
    async fn of_many_who_bring_the_same_code_one_gets_tokens() {
        let house = House::seeded().await;
        let code = house.browser().code(&house, "openid").await;
        let mut racers = tokio::task::JoinSet::new();
        for _ in 0..32 {
            let (mut browser, code) = (house.browser(), code.clone());
            racers.spawn(async move { browser.token(&code_form(&code)).await.status });
        }
        let won = racers.join_all().await.into_iter().filter(|status| *status == 200).count();
        assert_eq!(won, 1);
    }

    #[tokio::test]
    async fn a_refresh_token_rotates_and_its_reuse_ends_the_family() {
        let house = House::seeded().await;
        let mut browser = house.browser();
        let first = browser.sign_in(&house, "openid email offline_access").await;
        house.clock.advance(Duration::from_hours(1));
        let second = browser.token(&refresh_form(first.refresh().unwrap())).await.tokens();
        assert_ne!(first.refresh(), second.refresh());
        let (before, after) = (claims_of(first.id()), claims_of(second.id()));
        assert_eq!(before["auth_time"], after["auth_time"]);
        assert_eq!(before["sid"], after["sid"]);
        assert!(after.get("nonce").is_none());
        assert_eq!(browser.userinfo(second.access()).await.status, 200);

        refused(&browser.token(&refresh_form(first.refresh().unwrap())).await, "invalid_grant");
        refused(&browser.token(&refresh_form(second.refresh().unwrap())).await, "invalid_grant");
        assert_eq!(browser.userinfo(second.access()).await.status, 401);
    }

    #[tokio::test]
    async fn a_refresh_token_narrows_its_scope_and_never_widens_it() {
        let house = House::seeded().await;
        let mut browser = house.browser();
        let first = browser.sign_in(&house, "openid email offline_access").await;
        let mut form = refresh_form(first.refresh().unwrap()).to_vec();
        form.push(("scope", "openid profile"));
        refused(&browser.token(&form).await, "invalid_scope");
        form.last_mut().unwrap().1 = "openid";
        let second = browser.token(&form).await.tokens();
        assert_eq!(claims_of(second.access())["scope"], "openid");
        assert!(claims_of(second.id()).get("email").is_none());
    }

    #[tokio::test]
    async fn a_family_ends_thirty_days_after_its_sign_in() {
        let house = House::seeded().await;
        let mut browser = house.browser();
        let mut tokens = browser.sign_in(&house, "openid offline_access").await;
        for _ in 0..2 {
            house.clock.advance(Duration::from_hours(336));
            tokens = browser.token(&refresh_form(tokens.refresh().unwrap())).await.tokens();
        }
        house.clock.advance(Duration::from_hours(48));
        refused(&browser.token(&refresh_form(tokens.refresh().unwrap())).await, "invalid_grant");
    }

    #[tokio::test]
    async fn what_is_not_a_request_for_tokens_is_refused_by_its_name() {
        let mut browser = House::open().browser();
        for (form, error) in [
            (vec![], "invalid_client"),
            (vec![("client_id", "somebody")], "invalid_client"),
            (vec![("client_id", PORTAL), ("client_secret", "x")], "invalid_client"),
            (vec![("client_id", PORTAL)], "invalid_request"),
            (vec![("client_id", PORTAL), ("grant_type", "password")], "unsupported_grant_type"),
            (vec![("client_id", PORTAL), ("client_id", PORTAL)], "invalid_request"),
            (vec![("client_id", PORTAL), ("grant_type", "authorization_code")], "invalid_request"),
            (
                vec![("client_id", PORTAL), ("grant_type", "refresh_token"), ("refresh_token", "x")],
                "invalid_grant",
            ),
        ] {
            refused(&browser.token(&form).await, error);
        }
    }
}
