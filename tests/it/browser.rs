//! A person at a browser, and the client that the person signs in to: by the library `openidconnect`, which is not the
//! provider's own.

use std::time::Duration;

use openidconnect::core::{CoreAuthenticationFlow, CoreClient, CoreProviderMetadata, CoreUserInfoClaims};
use openidconnect::{
    AccessTokenHash, AuthorizationCode, ClientId, CsrfToken, IssuerUrl, Nonce, OAuth2TokenResponse as _,
    PkceCodeChallenge, RedirectUrl, Scope, TokenResponse as _,
};
use regex::Regex;
use reqwest::redirect::Policy;
use reqwest::{Response, Url};

/// A port of its own: the client's redirect is good for any on loopback.
const REDIRECT: &str = "http://127.0.0.1:9/callback";

/// What a person types in to sign up.
pub struct Account {
    /// The name.
    pub name: &'static str,
    /// The address.
    pub email: String,
    /// The password.
    pub password: String,
}

impl Account {
    /// An account under the address of `login`.
    pub fn of(login: &str) -> Self {
        Self {
            name: "Dora New",
            email: format!("{login}@example.com"),
            password: format!("secret-of-{login}"),
        }
    }
}

/// Somebody who signed up, as the client sees it.
pub struct SignedUp {
    /// The `sub` of the verified ID token.
    pub sub: String,
    /// The access token.
    pub access_token: String,
    /// The ID token.
    pub id_token: String,
    /// The value of every cookie that the browser got, and the code that the client got.
    pub secrets: Vec<String>,
}

/// Signs up at the provider on the way to a client, by an authorization code with PKCE; every claim that comes back is
/// verified by the library.
pub async fn sign_up(issuer: &str, account: &Account) -> SignedUp {
    let mut browser = Browser::open();
    let http = browser.http.clone();
    let issuer = IssuerUrl::new(issuer.to_owned()).unwrap();
    let metadata = CoreProviderMetadata::discover_async(issuer, &http).await.unwrap();
    let client = CoreClient::from_provider_metadata(metadata, ClientId::new("kombify-cli".to_owned()), None)
        .set_redirect_uri(RedirectUrl::new(REDIRECT.to_owned()).unwrap());
    let (challenge, verifier) = PkceCodeChallenge::new_random_sha256();
    let (url, state, nonce) = client
        .authorize_url(CoreAuthenticationFlow::AuthorizationCode, CsrfToken::new_random, Nonce::new_random)
        .add_scopes(["profile", "email"].map(|scope| Scope::new(scope.to_owned())))
        .set_pkce_challenge(challenge)
        .url();

    let back = browser.sign_up(url, account).await;
    let parameter =
        |name: &str| back.query_pairs().find(|(key, _)| key == name).map(|(_, value)| value.into_owned());
    assert_eq!(parameter("state").as_ref(), Some(state.secret()));
    let code = parameter("code").unwrap();
    let request = client.exchange_code(AuthorizationCode::new(code.clone())).unwrap();
    let answer = request.set_pkce_verifier(verifier).request_async(&http).await.unwrap();

    let id_token = answer.id_token().unwrap();
    let keys = client.id_token_verifier();
    let claims = id_token.claims(&keys, &nonce).unwrap();
    assert!(id_token.claims(&keys, &Nonce::new_random()).is_err(), "an ID token is for one nonce");
    let signing_key = id_token.signing_key(&keys).unwrap();
    let algorithm = id_token.signing_alg().unwrap();
    let hash = AccessTokenHash::from_token(answer.access_token(), algorithm, signing_key).unwrap();
    assert_eq!(claims.access_token_hash(), Some(&hash));
    assert_eq!(claims.email().map(|email| email.as_str()), Some(account.email.as_str()));

    let asked = client.user_info(answer.access_token().clone(), Some(claims.subject().clone())).unwrap();
    let info: CoreUserInfoClaims = asked.request_async(&http).await.unwrap();
    assert_eq!(info.subject(), claims.subject());
    assert_eq!(info.email().map(|email| email.as_str()), Some(account.email.as_str()));
    assert_eq!(info.email_verified(), Some(true));
    let name = info.name().and_then(|name| name.get(None)).map(|name| name.as_str());
    assert_eq!(name, Some(account.name));

    browser.secrets.push(code);
    SignedUp {
        sub: claims.subject().as_str().to_owned(),
        access_token: answer.access_token().secret().clone(),
        id_token: id_token.to_string(),
        secrets: browser.secrets,
    }
}

struct Browser {
    http: reqwest::Client,
    secrets: Vec<String>,
}

impl Browser {
    fn open() -> Self {
        let http = reqwest::Client::builder()
            .timeout(Duration::from_secs(30))
            .cookie_store(true)
            .no_proxy()
            .redirect(Policy::none())
            .build()
            .unwrap();
        Self { http, secrets: Vec::new() }
    }

    /// Goes the way of a person without an account, up to the redirect that leads back to the client.
    async fn sign_up(&mut self, start: Url, account: &Account) -> Url {
        let redirect = self.send(self.http.get(start.clone())).await;
        let sign_in = leads_to(&start, &redirect);
        let page = self.page(sign_in.clone()).await;
        let link = Regex::new(r#"href="(/sign-up\?request=[^"]+)""#).unwrap();
        let sign_up = sign_in.join(&link.captures(&page).unwrap()[1]).unwrap();
        let page = self.page(sign_up.clone()).await;

        let hidden = Regex::new(r#"<input type="hidden" name="([^"]*)" value="([^"]*)">"#).unwrap();
        let hidden = hidden.captures_iter(&page).map(|field| (field[1].to_owned(), field[2].to_owned()));
        let mut form: Vec<(String, String)> = hidden.collect();
        for (name, value) in [
            ("name", account.name),
            ("email", account.email.as_str()),
            ("password", account.password.as_str()),
        ] {
            form.push((name.to_owned(), value.to_owned()));
        }
        let action = sign_up.join("/sign-up").unwrap();
        let origin = action.origin().ascii_serialization();
        let sent = self.send(self.http.post(action.clone()).header("origin", origin).form(&form)).await;
        let back = leads_to(&action, &sent);
        assert!(back.as_str().starts_with(REDIRECT), "{back}");
        back
    }

    async fn page(&mut self, url: Url) -> String {
        let response = self.send(self.http.get(url)).await;
        assert_eq!(response.status(), 200);
        response.text().await.unwrap()
    }

    async fn send(&mut self, request: reqwest::RequestBuilder) -> Response {
        let response = request.send().await.unwrap();
        for cookie in response.headers().get_all("set-cookie") {
            let (_, value) = cookie.to_str().unwrap().split(';').next().unwrap().split_once('=').unwrap();
            self.secrets.push(value.to_owned());
        }
        response
    }
}

fn leads_to(from: &Url, redirect: &Response) -> Url {
    assert_eq!(redirect.status(), 303);
    from.join(redirect.headers()["location"].to_str().unwrap()).unwrap()
}
