//! A client asks for a sign-in: the code comes at once where the user is signed in, else after the form.

use std::sync::Arc;

use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::HeaderMap;
use axum::response::Response;
use jiff::{SignedDuration, Timestamp};
use kombify_core::{Error, Result};
use serde::Deserialize;

use crate::client::Client;
use crate::issuer::Issuer;
use crate::oauth::{self, Refusal};
use crate::pages::Fault;
use crate::secret;
use crate::store::requests::Pending;
use crate::store::sessions::Session;

/// What a client may ask for; what else is in a scope is left out, as the standard has it.
const SCOPES: [&str; 4] = ["openid", "profile", "email", "offline_access"];

/// What the query may say, as it comes.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(crate) struct Wanted {
    client_id: Option<String>,
    redirect_uri: Option<String>,
    response_type: Option<String>,
    response_mode: Option<String>,
    scope: Option<String>,
    state: Option<String>,
    nonce: Option<String>,
    code_challenge: Option<String>,
    code_challenge_method: Option<String>,
    prompt: Option<String>,
    max_age: Option<String>,
    login_hint: Option<String>,
    request: Option<String>,
    request_uri: Option<String>,
}

/// How the user is to be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Prompt {
    /// Only where nobody is signed in.
    IfNeeded,
    /// Not at all.
    Never,
    /// Always.
    Login,
    /// For a new account.
    Create,
}

/// A request that was found good.
#[derive(Debug)]
struct Good {
    pending: Pending,
    prompt: Prompt,
    max_age: Option<SignedDuration>,
}

pub(crate) async fn authorize(
    State(issuer): State<Arc<Issuer>>,
    headers: HeaderMap,
    wanted: Result<Query<Wanted>, QueryRejection>,
) -> Result<Response, Fault> {
    let Query(wanted) =
        wanted.map_err(|_| Error::invalid("", "each parameter may be given once, as UTF-8"))?;
    let (client, redirect_uri) = verified_target(&issuer, &wanted)?;
    let answer = match check(&wanted, client, redirect_uri) {
        Ok(good) => decide(&issuer, &headers, good).await?,
        Err(refusal) => Err(refusal),
    };
    Ok(match answer {
        Ok(response) => response,
        Err(Refusal { error, description }) => {
            let parameters = [
                ("error", Some(error)),
                ("error_description", Some(description)),
                ("state", wanted.state.as_deref()),
            ];
            oauth::see_other(&oauth::with_parameters(redirect_uri, &parameters))?
        }
    })
}

/// Sends the browser back with its code.
pub(crate) fn answer(pending: &Pending, code: &str) -> Result<Response> {
    let parameters = [("code", Some(code)), ("state", pending.state.as_deref())];
    oauth::see_other(&oauth::with_parameters(&pending.redirect_uri, &parameters))
}

/// The client, and where the answer goes. Before both are known nothing is sent anywhere: it would be an open redirect.
fn verified_target<'a>(issuer: &'a Issuer, wanted: &'a Wanted) -> Result<(&'a Client, &'a str)> {
    let client = wanted
        .client_id
        .as_deref()
        .and_then(|id| issuer.client(id))
        .ok_or_else(|| Error::invalid("client_id", "must name a client of this issuer"))?;
    let redirect_uri = wanted
        .redirect_uri
        .as_deref()
        .filter(|uri| client.may_redirect_to(uri))
        .ok_or_else(|| Error::invalid("redirect_uri", "must be one that the client registered"))?;
    Ok((client, redirect_uri))
}

fn check(wanted: &Wanted, client: &Client, redirect_uri: &str) -> Result<Good, Refusal> {
    let invalid = |description| Refusal::new("invalid_request", description);
    if wanted.request.is_some() {
        return Err(Refusal::new("request_not_supported", "request objects are not read here"));
    }
    if wanted.request_uri.is_some() {
        return Err(Refusal::new("request_uri_not_supported", "request objects are not read here"));
    }
    if wanted.response_type.as_deref() != Some("code") {
        return Err(Refusal::new("unsupported_response_type", "response_type must be code"));
    }
    if wanted.response_mode.as_deref().is_some_and(|mode| mode != "query") {
        return Err(invalid("response_mode must be query"));
    }
    for (text, most) in
        [(&wanted.state, 2048), (&wanted.nonce, 512), (&wanted.login_hint, 320), (&wanted.scope, 1024)]
    {
        if text.as_ref().is_some_and(|text| text.len() > most) {
            return Err(invalid("state, nonce, login_hint or scope is too long"));
        }
    }
    let scope = kept_scope(wanted.scope.as_deref().unwrap_or_default());
    if !oauth::within("openid", &scope) {
        return Err(Refusal::new("invalid_scope", "scope must have openid"));
    }
    if wanted.code_challenge_method.as_deref() != Some("S256") {
        return Err(invalid("code_challenge_method must be S256"));
    }
    let challenge = wanted
        .code_challenge
        .clone()
        .filter(|challenge| challenge.len() == secret::RANDOM_LEN && challenge.bytes().all(is_base64url))
        .ok_or_else(|| invalid("code_challenge must be SHA-256 as base64url"))?;
    let prompt = prompt(wanted.prompt.as_deref().unwrap_or_default())?;
    let max_age = wanted
        .max_age
        .as_deref()
        .map(|seconds| seconds.parse::<u32>().map(|seconds| SignedDuration::from_secs(seconds.into())))
        .transpose()
        .map_err(|_| invalid("max_age must be a number of seconds"))?;
    let pending = Pending {
        client_id: client.id.clone(),
        redirect_uri: redirect_uri.to_owned(),
        scope,
        challenge,
        state: wanted.state.clone(),
        nonce: wanted.nonce.clone(),
        login_hint: wanted.login_hint.clone(),
    };
    Ok(Good { pending, prompt, max_age })
}

fn kept_scope(scope: &str) -> String {
    let kept: Vec<&str> =
        SCOPES.into_iter().filter(|known| scope.split(' ').any(|word| word == *known)).collect();
    kept.join(" ")
}

fn is_base64url(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_'
}

fn prompt(text: &str) -> Result<Prompt, Refusal> {
    let words: Vec<&str> = text.split(' ').filter(|word| !word.is_empty()).collect();
    match words.as_slice() {
        // There is nothing to consent to: the clients are our own.
        [] | ["consent"] => Ok(Prompt::IfNeeded),
        ["none"] => Ok(Prompt::Never),
        ["create"] => Ok(Prompt::Create),
        ["login" | "select_account"] | ["login", "consent"] | ["consent", "login"] => Ok(Prompt::Login),
        _ => Err(Refusal::new("invalid_request", "prompt must be none, login or create")),
    }
}

async fn decide(issuer: &Issuer, headers: &HeaderMap, good: Good) -> Result<Result<Response, Refusal>> {
    let now = issuer.now();
    let Good { pending, prompt, max_age } = good;
    let session = issuer.session(headers).await?.filter(|session| is_fresh(session, max_age, now));
    let page = match (prompt, session) {
        (Prompt::IfNeeded | Prompt::Never, Some(session)) => {
            let code = secret::random(&*issuer.ids);
            let response = answer(&pending, &code)?;
            issuer.store.add_code(secret::hash(&code), pending, session, now).await?;
            return Ok(Ok(response));
        }
        (Prompt::Never, None) => return Ok(Err(Refusal::new("login_required", "nobody is signed in here"))),
        (Prompt::Create, _) => "/sign-up",
        (Prompt::Login, _) | (Prompt::IfNeeded, None) => "/sign-in",
    };
    let request = secret::random(&*issuer.ids);
    issuer.store.add_request(secret::hash(&request), pending, now).await?;
    Ok(Ok(oauth::see_other(&oauth::with_parameters(page, &[("request", Some(request.as_str()))]))?))
}

fn is_fresh(session: &Session, max_age: Option<SignedDuration>, now: Timestamp) -> bool {
    max_age.is_none_or(|max_age| now.duration_since(session.auth_time) <= max_age)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use crate::testing::{CALLBACK, House, PORTAL, authorize_uri};

    #[tokio::test]
    async fn without_a_known_client_and_its_redirect_uri_nothing_is_sent_anywhere() {
        let mut browser = House::open().browser();
        for (name, value) in [
            ("client_id", "somebody"),
            ("client_id", ""),
            ("redirect_uri", "http://evil.example/"),
            ("redirect_uri", "http://localhost:3000/auth/callback/../x"),
            ("redirect_uri", ""),
        ] {
            let answer = browser.get(&authorize_uri(&[(name, value)])).await;
            assert_eq!(answer.status, 400, "{name} {value}");
            assert!(answer.location().is_none(), "{name} {value}");
        }
        let twice = format!("{}&redirect_uri=http://evil.example/", authorize_uri(&[]));
        let answer = browser.get(&twice).await;
        assert_eq!(answer.status, 400);
        assert!(answer.location().is_none());
    }

    #[tokio::test]
    async fn what_is_wrong_beside_goes_back_to_the_client_with_its_state() {
        let mut browser = House::open().browser();
        for (name, value, error) in [
            ("response_type", "token", "unsupported_response_type"),
            ("response_mode", "fragment", "invalid_request"),
            ("scope", "email", "invalid_scope"),
            ("code_challenge", "short", "invalid_request"),
            ("code_challenge_method", "plain", "invalid_request"),
            ("prompt", "none login", "invalid_request"),
            ("prompt", "none", "login_required"),
            ("max_age", "soon", "invalid_request"),
            ("request", "e30", "request_not_supported"),
            ("request_uri", "http://a/", "request_uri_not_supported"),
        ] {
            let answer = browser.get(&authorize_uri(&[(name, value)])).await;
            let location = answer.location().unwrap();
            assert!(
                location.starts_with(&format!("{CALLBACK}?error={error}&")),
                "{name} {value}: {location}"
            );
            assert!(location.ends_with("&state=state%201"), "{location}");
        }
    }

    #[tokio::test]
    async fn who_is_signed_in_gets_the_code_at_once_unless_the_client_wants_more() {
        let house = House::seeded().await;
        let mut browser = house.browser();
        browser.sign_in(&house, "openid").await;
        house.clock.advance(Duration::from_secs(100));
        for (parameters, leads_to) in [
            (vec![], CALLBACK),
            (vec![("prompt", "none")], CALLBACK),
            (vec![("max_age", "100")], CALLBACK),
            (vec![("max_age", "99")], "/sign-in?request="),
            (vec![("prompt", "login")], "/sign-in?request="),
            (vec![("prompt", "create")], "/sign-up?request="),
        ] {
            let answer = browser.get(&authorize_uri(&parameters)).await;
            assert!(
                answer.location().unwrap().starts_with(leads_to),
                "{parameters:?} {:?}",
                answer.location()
            );
        }
        let other = house.browser().get(&authorize_uri(&[])).await;
        assert!(other.location().unwrap().starts_with("/sign-in?request="));
        house.clock.advance(Duration::from_hours(12));
        assert!(browser.get(&authorize_uri(&[])).await.location().unwrap().starts_with("/sign-in?request="));
    }

    #[tokio::test]
    async fn a_second_sign_in_of_the_same_user_goes_on_with_the_same_session() {
        let house = House::seeded().await;
        let mut browser = house.browser();
        browser.sign_in(&house, "openid").await;
        let first = browser.session(&house).await.unwrap();
        house.clock.advance(Duration::from_secs(5));
        let cookie = browser.cookies.clone();
        browser.sign_in_with(&house, &[("prompt", "login"), ("client_id", PORTAL)]).await;
        let second = browser.session(&house).await.unwrap();
        assert_eq!(first.sid, second.sid);
        assert!(second.auth_time > first.auth_time);
        browser.cookies = cookie;
        assert!(browser.session(&house).await.is_none(), "the earlier cookie is no longer good");
    }
}
