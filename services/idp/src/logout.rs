//! Tells clients that a session has ended: `OpenID` Connect Back-Channel Logout 1.0.

use std::time::Duration;

use jiff::Timestamp;
use kombify_core::{Error, Result};
use serde_json::json;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::issuer::Issuer;
use crate::store::logouts::{Logout, TRIED_FOR};
use crate::{secret, tokens};

/// How often is looked for what is due.
const LOOK_AGAIN: Duration = Duration::from_millis(200);

/// How long a client may take for one answer.
const TIMEOUT: Duration = Duration::from_secs(3);

/// How long the first retry waits; each further one waits twice as long.
const FIRST_RETRY: Duration = Duration::from_secs(1);

/// How long a retry waits at most.
const LONGEST_RETRY: Duration = Duration::from_mins(1);

/// How long a logout token is good. Source: the standard, 2.4, recommends at most two minutes.
const TOKEN_LIFETIME: Duration = Duration::from_mins(2);

/// Delivers what is due until cancelled: at least once, each client by itself, for ten minutes.
pub(crate) async fn run(issuer: &Issuer, cancel: CancellationToken) {
    let client =
        reqwest::Client::builder().timeout(TIMEOUT).redirect(reqwest::redirect::Policy::none()).build();
    let http = match client {
        Ok(http) => http,
        Err(cause) => {
            tracing::error!(%cause, "no client of HTTP: nobody is told of ended sessions");
            return;
        }
    };
    loop {
        if let Err(cause) = deliver_due(issuer, &http).await {
            tracing::warn!(%cause, "logout tokens not delivered yet");
        }
        tokio::select! {
            () = cancel.cancelled() => return,
            () = tokio::time::sleep(LOOK_AGAIN) => {}
        }
    }
}

async fn deliver_due(issuer: &Issuer, http: &reqwest::Client) -> Result<()> {
    let mut deliveries = JoinSet::new();
    for logout in issuer.store.due_logouts(issuer.now()).await? {
        let uri = issuer.client(&logout.client_id).and_then(|client| client.backchannel_logout_uri.clone());
        let Some(uri) = uri else {
            issuer.store.end_logout(logout.id).await?; // A client that is gone, or wants it no more.
            continue;
        };
        let token = token(issuer, &logout).await?;
        let request = http.post(uri).form(&[("logout_token", token)]);
        deliveries.spawn(async move { (logout, request.send().await) });
    }
    while let Some(delivered) = deliveries.join_next().await {
        let (logout, answer) = delivered.map_err(Error::internal)?;
        let refused = match answer {
            Ok(answer) if answer.status().is_success() => None,
            Ok(answer) => Some(answer.status().to_string()),
            Err(cause) => Some(cause.without_url().to_string()),
        };
        match refused {
            None => issuer.store.end_logout(logout.id).await?,
            Some(cause) => try_again(issuer, &logout, &cause).await?,
        }
    }
    Ok(())
}

async fn try_again(issuer: &Issuer, logout: &Logout, cause: &str) -> Result<()> {
    let now = issuer.now();
    if now.duration_since(logout.create_time).unsigned_abs() >= TRIED_FOR {
        tracing::warn!(client.id = logout.client_id, cause, "a client was not told of an ended session");
        return issuer.store.end_logout(logout.id).await;
    }
    let wait = FIRST_RETRY.saturating_mul(1 << logout.attempts.min(10)).min(LONGEST_RETRY);
    issuer.store.postpone_logout(logout.id, now + wait).await
}

async fn token(issuer: &Issuer, logout: &Logout) -> Result<String> {
    let (ring, now): (_, Timestamp) = (issuer.ring().await?, issuer.now());
    let claims = json!({
        "iss": issuer.config.issuer,
        "sub": logout.sub,
        "aud": logout.client_id,
        // The session's end: a later attempt must not end a later sign-in.
        "iat": logout.create_time.as_second(),
        "exp": (now + TOKEN_LIFETIME).as_second(),
        "jti": secret::digits(&*issuer.ids),
        "sid": logout.sid,
        "events": {"http://schemas.openid.net/event/backchannel-logout": {}},
    });
    tokens::sign_logout(ring.current(now)?, &claims)
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use axum::http::StatusCode;
    use axum::routing::post;
    use axum::{Form, Router};

    use super::*;
    use crate::testing::{AUDIENCE, House, ISSUER, PORTAL, claims_of};

    /// A client that answers so, one answer after the other, and remembers what it was told.
    async fn client(answers: Vec<StatusCode>, tasks: &mut JoinSet<()>) -> (String, Arc<Mutex<Vec<String>>>) {
        let told = Arc::new(Mutex::new(Vec::new()));
        let (heard, answers) = (Arc::clone(&told), Arc::new(Mutex::new(answers)));
        let hear = move |Form(fields): Form<Vec<(String, String)>>| async move {
            let [(name, token)] = &fields[..] else { panic!("{fields:?}") };
            assert_eq!(name, "logout_token");
            heard.lock().unwrap().push(token.clone());
            answers.lock().unwrap().remove(0)
        };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let uri = format!("http://{}/backchannel", listener.local_addr().unwrap());
        let router = Router::new().route("/backchannel", post(hear));
        tasks.spawn(async move { axum::serve(listener, router).await.unwrap() });
        (uri, told)
    }

    fn http() -> reqwest::Client {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default(); // Another test may have been first.
        reqwest::Client::builder().timeout(TIMEOUT).no_proxy().build().unwrap()
    }

    async fn end_alices_sessions(house: &House) -> String {
        let alice = house.issuer().store.find_user_by_login("alice").await.unwrap().unwrap().sub;
        house.browser().sign_in(house, "openid").await;
        let clients = house.issuer().told_clients();
        house.issuer().store.set_lock(&alice, true, clients, house.now()).await.unwrap();
        alice
    }

    #[tokio::test]
    async fn a_client_is_told_until_it_has_heard() {
        let mut tasks = JoinSet::new();
        let answers = vec![StatusCode::SERVICE_UNAVAILABLE, StatusCode::OK];
        let (uri, told) = client(answers, &mut tasks).await;
        let house = House::telling(&uri).seed().await;
        let alice = end_alices_sessions(&house).await;
        let (issuer, http, ended) = (house.issuer(), http(), house.now());
        deliver_due(issuer, &http).await.unwrap();
        deliver_due(issuer, &http).await.unwrap();
        assert_eq!(told.lock().unwrap().len(), 1, "it waits before it tries again");
        house.clock.advance(FIRST_RETRY);
        deliver_due(issuer, &http).await.unwrap();
        house.clock.advance(LONGEST_RETRY);
        deliver_due(issuer, &http).await.unwrap();
        let told = told.lock().unwrap().clone();
        assert_eq!(told.len(), 2, "who has heard is told no more");
        let claims = told.iter().map(|token| claims_of(token)).collect::<Vec<_>>();
        for claims in &claims {
            assert_eq!((&claims["iss"], &claims["aud"]), (&json!(ISSUER), &json!(PORTAL)));
            assert_eq!((&claims["sub"], &claims["iat"]), (&json!(alice), &json!(ended.as_second())));
            assert!(claims["events"]["http://schemas.openid.net/event/backchannel-logout"].is_object());
            assert!(claims["sid"].is_string() && claims.get("nonce").is_none(), "{claims}");
            assert_ne!(claims["aud"], AUDIENCE);
        }
        assert_ne!(claims[0]["jti"], claims[1]["jti"], "each token is one of its own");
    }

    #[tokio::test]
    async fn a_client_that_never_hears_is_given_up() {
        let mut tasks = JoinSet::new();
        let (uri, told) = client(vec![StatusCode::BAD_REQUEST; 100], &mut tasks).await;
        let house = House::telling(&uri).seed().await;
        end_alices_sessions(&house).await;
        let http = http();
        for _ in 0..100 {
            deliver_due(house.issuer(), &http).await.unwrap();
            house.clock.advance(LONGEST_RETRY);
        }
        let tries = told.lock().unwrap().len();
        assert!((5..20).contains(&tries), "{tries}");
    }
}
