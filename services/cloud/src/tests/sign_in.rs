//! Signing in: what goes to the issuer, what comes back, and what is refused of it.

use std::time::Duration;

use kombify_mesh::rate::RateLimits;
use serde_json::{Value, json};

use super::house::{House, ORIGIN};
use super::issuer::Key;

#[tokio::test]
async fn somebody_signs_in_and_sees_who_they_are() {
    let house = House::open().await;
    let mut browser = house.browser();
    let stranger = browser.get("/").await;
    stranger.is_signed_out();
    stranger.is_silent_about("role=\"alert\"");
    assert!(house.admin.calls().is_empty(), "nobody is asked about nobody");

    let mut browser = house.signed_in().await;
    let names: Vec<_> = browser.cookies.keys().map(String::as_str).collect();
    assert!(names.iter().all(|name| name.starts_with("kombify_cloud_session.")), "{names:?}");
    let page = browser.get("/").await;
    page.says("Ada &lt;Lovelace&gt;");
    page.says("(ada@example.com)");
    page.says("Sign out</button>");
    let [call] = &house.admin.calls()[..] else { panic!("one call shows the tenants") };
    assert_eq!((call.method, call.by_service), ("ListTenants", true));
    assert!(call.user_token.starts_with("access-"), "{call:?}");
}

#[tokio::test]
async fn an_address_that_nobody_has_verified_is_not_shown() {
    let house = House::open().await;
    house.issuer.told().claims.insert("email_verified".into(), false.into());
    house.signed_in().await.get("/").await.is_silent_about("ada@example.com");
}

#[tokio::test]
async fn every_sign_in_has_a_state_a_nonce_and_a_challenge_of_its_own() {
    let house = House::open().await;
    let secrets = async || {
        let sent = house.browser().get("/sign-in").await;
        let url = reqwest::Url::parse(sent.location()).unwrap();
        let of = |wanted: &str| url.query_pairs().find(|(name, _)| name == wanted).unwrap().1.into_owned();
        [of("state"), of("nonce"), of("code_challenge")]
    };
    let (one, other) = (secrets().await, secrets().await);
    for (one, other) in one.iter().zip(&other) {
        assert!(one.len() >= 16 && one != other, "{one} {other}");
    }
}

#[tokio::test]
async fn a_browser_that_comes_back_goes_where_it_wanted_and_never_to_another_site() {
    let house = House::open().await;
    let wanted = "/launch?tenant=home";
    let back = house.browser().sign_in(&house, &format!("/sign-in?return={wanted}")).await;
    assert_eq!(back.header("refresh"), format!("0;url={wanted}"));
    for elsewhere in [
        "https://evil.example/",
        "//evil.example/",
        "/%5Cevil.example/",
        "/%09/evil.example",
        "%0A//evil.example",
        "javascript:alert(1)",
        "evil",
        "",
        "/a&return=/b",
    ] {
        let back = house.browser().sign_in(&house, &format!("/sign-in?return={elsewhere}")).await;
        assert_eq!(back.location(), "/", "{elsewhere}");
        assert_eq!(back.header("refresh"), "", "{elsewhere}");
    }
}

#[tokio::test]
async fn a_browser_comes_back_once_from_a_sign_in_that_it_began_itself() {
    let house = House::open().await;
    let mut browser = house.browser();
    let sent = browser.get("/sign-in").await;
    let back = house.issuer.authorize(sent.location());

    let mut elsewhere = house.browser();
    elsewhere.get(&back).await.refused(401, "AUTH_INVALID");
    let begun = elsewhere.get("/sign-in").await;
    assert!(begun.location().starts_with(&house.issuer.url));
    elsewhere.get(&back).await.refused(401, "AUTH_INVALID");
    assert!(!elsewhere.has_session(), "of two sign-ins, each browser has its own");

    let before = browser.cookies.clone();
    for wrong in [back.replace("state=", "state=x"), back.split("&state").next().unwrap().to_owned()] {
        let mut browser = browser.clone();
        browser.get(&wrong).await.refused(401, "AUTH_INVALID");
        assert!(browser.cookies.is_empty(), "a sign-in that failed is over");
    }
    assert_eq!(browser.get(&back).await.location(), "/");
    assert!(browser.has_session());

    // Somebody has kept the cookie, and gets a fresh code for the same state.
    let mut replayed = house.browser();
    replayed.cookies = before;
    let again = house.issuer.authorize(sent.location());
    replayed.get(&again).await.refused(401, "AUTH_INVALID");
    assert!(!replayed.has_session());
}

#[tokio::test]
async fn who_comes_back_too_often_is_refused_by_address_and_what_was_begun_stays_good() {
    let house = House::counting(RateLimits::default()).await;
    let mut browser = house.browser();
    let sent = browser.get("/sign-in").await;
    let back = house.issuer.authorize(sent.location());
    for _ in 0..20 {
        house.browser().get("/callback?code=x&state=y").await.refused(401, "AUTH_INVALID");
    }
    let refused = browser.get(&back).await;
    refused.refused(429, "RATE_LIMITED");
    assert_eq!(refused.header("retry-after"), "60");
    house.clock.advance(60);
    assert_eq!(browser.get(&back).await.location(), "/");
    assert!(browser.has_session());
}

#[tokio::test]
async fn a_sign_in_is_over_after_ten_minutes() {
    let house = House::open().await;
    for (seconds, location) in [(599, "/"), (600, "")] {
        let mut browser = house.browser();
        let sent = browser.get("/sign-in").await;
        house.clock.advance(seconds);
        let back = browser.get(&house.issuer.authorize(sent.location())).await;
        assert_eq!(back.location(), location, "after {seconds} s: {}", back.body);
    }
}

#[tokio::test]
async fn what_the_issuer_says_of_somebody_must_hold() {
    let house = House::open().await;
    for (name, wrong) in [
        ("nonce", json!("of another sign-in")),
        ("nonce", Value::Null),
        ("aud", json!("another-client")),
        ("iss", json!("https://evil.example")),
        ("exp", json!(1_000_000)),
        ("sub", json!("")),
    ] {
        house.issuer.told().claims = [(name.to_owned(), wrong.clone())].into_iter().collect();
        let mut browser = house.browser();
        browser.sign_in(&house, "/sign-in").await.refused(401, "AUTH_INVALID");
        assert!(!browser.has_session(), "{name}: {wrong}");
    }
    house.issuer.told().claims.clear();
    // Another key under the same id.
    house.issuer.told().signs = Key::new("first");
    let mut browser = house.browser();
    browser.sign_in(&house, "/sign-in").await.refused(401, "AUTH_INVALID");
    assert!(!browser.has_session());
}

#[tokio::test]
async fn what_the_issuer_refuses_is_a_page_that_says_so() {
    let house = House::open().await;
    let mut browser = house.browser();
    let sent = browser.get("/sign-in").await;
    let back = house.issuer.authorize(sent.location());
    let state = back.split("&state=").nth(1).unwrap();
    let refused =
        browser.get(&format!("/callback?error=access_denied&error_description=%3Cb%3E&state={state}")).await;
    refused.refused(401, "AUTH_INVALID");
    refused.is_silent_about("<b>");
    refused.says("Back to the start");
    let mut browser = house.browser();
    let sent = browser.get("/sign-in").await;
    let back = house.issuer.authorize(sent.location()).replace("code-", "other-");
    browser.get(&back).await.refused(401, "AUTH_INVALID");
}

#[tokio::test]
async fn an_issuer_that_is_away_is_left_alone_and_what_it_said_stays_good() {
    let house = House::open().await;
    house.issuer.told().is_away = true;
    for _ in 0..5 {
        let away = house.browser().get("/sign-in").await;
        away.refused(503, "SERVICE_UNAVAILABLE");
        assert_eq!(away.header("retry-after"), "5");
    }
    assert_eq!(house.issuer.told().discoveries, 1, "whoever comes meanwhile does not wait for it, too");

    house.issuer.told().is_away = false;
    pass(Duration::from_secs(2)).await;
    assert!(house.browser().get("/sign-in").await.location().starts_with(&house.issuer.url));
    house.browser().get("/sign-in").await;
    assert_eq!(house.issuer.told().discoveries, 2);

    pass(Duration::from_secs(599)).await;
    house.browser().get("/sign-in").await;
    assert_eq!(house.issuer.told().discoveries, 2);
    pass(Duration::from_secs(2)).await;
    house.issuer.told().is_away = true;
    assert!(house.browser().get("/sign-in").await.location().starts_with(&house.issuer.url));
    assert_eq!(house.issuer.told().discoveries, 3, "it was asked anew, in vain");
}

#[tokio::test]
async fn a_key_that_the_issuer_published_meanwhile_is_good() {
    let house = House::open().await;
    house.signed_in().await;
    let next = Key::new("next");
    house.issuer.told().published.push(std::sync::Arc::clone(&next));
    house.issuer.told().signs = next;
    pass(Duration::from_mins(2)).await;
    house.signed_in().await;
    assert_eq!(house.issuer.told().discoveries, 2);
    // A key that it does not publish makes nobody ask again and again.
    house.issuer.told().signs = Key::new("unknown");
    for _ in 0..3 {
        house.browser().sign_in(&house, "/sign-in").await.refused(401, "AUTH_INVALID");
    }
    assert_eq!(house.issuer.told().discoveries, 2);
}

#[tokio::test]
async fn whose_sign_in_was_ended_signs_in_anew_where_the_issuer_still_holds_it() {
    let house = House::open().await;
    let signed_in_at = kombify_core::Clock::now(&*house.clock).as_second();
    house.issuer.told().claims.insert("auth_time".into(), signed_in_at.into());
    house.clock.advance(60);
    house.revoke(false);
    house.clock.advance(60);
    let mut browser = house.browser();
    let anew = browser.sign_in(&house, "/sign-in?return=/launch?tenant=home").await;
    assert!(anew.location().contains("prompt=login"), "{}", anew.location());
    assert!(!browser.has_session());
    // It asked, and somebody has signed in.
    let mut asked = browser.clone();
    house.issuer.told().claims.clear();
    let back = asked.get(&house.issuer.authorize(anew.location())).await;
    assert_eq!(back.header("refresh"), "0;url=/launch?tenant=home");
    assert!(asked.has_session());
    // It did not ask: there is no third time.
    house.issuer.told().claims.insert("auth_time".into(), signed_in_at.into());
    let mut browser = house.browser();
    let anew = browser.sign_in(&house, "/sign-in").await;
    browser.get(&house.issuer.authorize(anew.location())).await.refused(401, "AUTH_INVALID");
    assert!(!browser.has_session());
}

#[tokio::test]
async fn signing_out_ends_the_session_here_and_leads_to_where_it_ends_at_the_issuer() {
    let house = House::open().await;
    let mut browser = house.signed_in().await;
    let before = browser.cookies.clone();
    let left = browser.post("/sign-out", "").await;
    assert_eq!(left.status, 303);
    let url = reqwest::Url::parse(left.location()).unwrap();
    assert!(url.as_str().starts_with(&format!("{}/end?", house.issuer.url)), "{url}");
    let says = |wanted: &str| url.query_pairs().find(|(name, _)| name == wanted).unwrap().1.into_owned();
    assert_eq!(says("post_logout_redirect_uri"), format!("{ORIGIN}/"));
    assert_eq!(says("client_id"), super::house::CLIENT_ID);
    assert_eq!(says("id_token_hint").split('.').count(), 3);
    assert!(browser.cookies.is_empty());
    browser.get("/").await.is_signed_out();

    // Where there is no such place, where the token has expired meanwhile, and where nobody is signed in.
    house.issuer.told().ends_sessions = false;
    pass(Duration::from_secs(601)).await;
    browser.cookies = before;
    house.clock.advance(3600);
    assert_eq!(browser.post("/sign-out", "").await.location(), "/");
    assert!(browser.cookies.is_empty());
    assert_eq!(house.issuer.told().refreshes, 0, "nobody needs new tokens to leave");
    assert_eq!(browser.post("/sign-out", "").await.location(), "/");
}

/// So much time passes for what asks the runtime's clock.
async fn pass(time: Duration) {
    tokio::time::pause();
    tokio::time::advance(time).await;
    tokio::time::resume();
}
