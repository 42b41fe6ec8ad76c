//! Who the bearer of an access token is.

use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use kombify_core::Result;
use serde_json::Value;

use crate::issuer::Issuer;
use crate::oauth::{self, Refusal};
use crate::tokens::{self, AccessClaims};

pub(crate) async fn userinfo(
    State(issuer): State<Arc<Issuer>>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let Some(claims) = bearer_claims(&issuer, &headers).await? else { return Ok(refused(&headers)) };
    let Some(user) = issuer.store.find_user(&claims.sub).await? else { return Ok(refused(&headers)) };
    let mut answer = tokens::user_claims(&user, &claims.scope);
    if oauth::within("profile", &claims.scope) {
        let (given, family) = user.name.split_once(' ').unwrap_or((user.name.as_str(), ""));
        answer.insert("given_name".into(), given.into());
        if !family.is_empty() {
            answer.insert("family_name".into(), family.into());
        }
        answer.insert("updated_at".into(), user.create_time.as_second().into());
    }
    Ok(oauth::json_answer(StatusCode::OK, &Value::Object(answer)))
}

/// The claims of the access token that the request brings, if it is ours, good, and not taken back.
pub(crate) async fn bearer_claims(issuer: &Issuer, headers: &HeaderMap) -> Result<Option<AccessClaims>> {
    let Some(token) = tokens::bearer(headers) else { return Ok(None) };
    let now = issuer.now();
    let Some(claims) = tokens::read_access_token(&issuer.ring().await?, token, &issuer.config, now) else {
        return Ok(None);
    };
    let stands = issuer.store.has_grant(claims.grant(), now).await?;
    Ok(stands.then_some(claims))
}

/// The refusal of RFC 6750: who brings no token is not told of an error.
fn refused(headers: &HeaderMap) -> Response {
    let challenge = match tokens::bearer(headers) {
        Some(_) => HeaderValue::from_static("Bearer error=\"invalid_token\""),
        None => HeaderValue::from_static("Bearer"),
    };
    (StatusCode::UNAUTHORIZED, [(header::WWW_AUTHENTICATE, challenge)]).into_response()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::json;

    use crate::testing::{House, claims_of};

    #[tokio::test]
    async fn the_bearer_learns_what_the_scope_opens() {
        let house = House::seeded().await;
        let mut browser = house.browser();
        let tokens = browser.sign_in(&house, "openid profile email").await;
        let sub = claims_of(tokens.access())["sub"].clone();
        let answer = browser.userinfo(tokens.access()).await;
        assert_eq!(
            answer.json(),
            json!({
                "sub": sub,
                "name": "Alice Liddell",
                "given_name": "Alice",
                "family_name": "Liddell",
                "preferred_username": "alice",
                "email": "alice@example.com",
                "email_verified": true,
                "updated_at": house.seeded_at.as_second(),
            })
        );
        let tokens = browser.sign_in(&house, "openid").await;
        assert_eq!(browser.userinfo(tokens.access()).await.json(), json!({"sub": sub}));
    }

    #[tokio::test]
    async fn only_a_good_access_token_opens_it() {
        let house = House::seeded().await;
        let mut browser = house.browser();
        let tokens = browser.sign_in(&house, "openid").await;
        let none = browser.get("/oidc/v1/userinfo").await;
        assert_eq!((none.status, none.header("www-authenticate")), (401, "Bearer"));
        for wrong in ["", "x.y.z", tokens.id()] {
            let answer = browser.userinfo(wrong).await;
            assert_eq!(answer.status, 401, "{wrong}");
            assert!(answer.body.is_empty());
        }
        house.clock.advance(Duration::from_mins(15));
        let late = browser.userinfo(tokens.access()).await;
        assert_eq!((late.status, late.header("www-authenticate")), (401, "Bearer error=\"invalid_token\""));
    }
}
