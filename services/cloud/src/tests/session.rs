//! The session: kept by the browser, refreshed in time, and worth nothing once it was ended.

use kombify_core::Error;
use serde_json::Value;
use tokio::task::JoinSet;

use super::admin::tenant;
use super::house::House;
use super::issuer::ACCESS_SECONDS;

#[tokio::test]
async fn a_session_that_somebody_changed_is_none() {
    let house = House::open().await;
    let browser = house.signed_in().await;
    let name = "kombify_cloud_session.0";
    let whole = browser.cookies[name].clone();
    for at in [0, 10, whole.len() / 2, whole.len() - 2] {
        let mut tampered = browser.clone();
        let other = if &whole[at..=at] == "A" { "B" } else { "A" };
        let mut changed = whole.clone();
        changed.replace_range(at..=at, other);
        tampered.cookies.insert(name.to_owned(), changed);
        tampered.get("/").await.is_signed_out();
        assert!(!tampered.has_session(), "it is cleared");
    }
    // The cookie of a sign-in that is under way is no session, whatever it is called.
    let mut renamed = house.browser();
    renamed.get("/sign-in").await;
    let pending = renamed.cookies["kombify_cloud_sign_in.0"].clone();
    renamed.cookies.insert(name.to_owned(), pending);
    renamed.get("/").await.is_signed_out();
    assert!(house.admin.calls().is_empty());
}

#[tokio::test]
async fn a_session_ends_after_twelve_hours_however_often_it_was_refreshed() {
    let house = House::open().await;
    let mut browser = house.signed_in().await;
    house.clock.advance(12 * 3600 - 1);
    browser.get("/").await.says("Ada");
    assert_eq!(house.issuer.told().refreshes, 1);
    let kept = browser.clone();
    house.clock.advance(1);
    browser.get("/").await.is_signed_out();
    let mut kept = kept;
    kept.get("/").await.is_signed_out();
}

#[tokio::test]
async fn an_access_token_is_refreshed_before_it_expires_and_the_browser_gets_the_new_ones() {
    let house = House::open().await;
    let mut browser = house.signed_in().await;
    browser.get("/").await;
    let first = house.admin.calls()[0].user_token.clone();
    house.clock.advance(ACCESS_SECONDS - 61);
    let before = browser.cookies.clone();
    browser.get("/").await;
    assert_eq!((house.issuer.told().refreshes, &house.admin.calls()[0].user_token), (0, &first));
    assert_eq!(browser.cookies, before);
    house.clock.advance(1);
    browser.get("/").await;
    let second = house.admin.calls()[0].user_token.clone();
    assert_eq!(house.issuer.told().refreshes, 1);
    assert_ne!(second, first);
    assert_ne!(browser.cookies, before);
    browser.get("/").await;
    assert_eq!((house.issuer.told().refreshes, &house.admin.calls()[0].user_token), (1, &second));
}

#[tokio::test]
async fn many_requests_of_one_browser_refresh_once() {
    let house = House::open().await;
    let browser = house.signed_in().await;
    house.clock.advance(ACCESS_SECONDS);
    let mut racers = JoinSet::new();
    for _ in 0..32 {
        let mut browser = browser.clone();
        racers.spawn(async move { browser.get("/").await });
    }
    for page in racers.join_all().await {
        page.says("Ada");
    }
    assert_eq!(house.issuer.told().refreshes, 1);
}

#[tokio::test]
async fn whatever_page_refreshed_the_session_and_whether_or_not_it_was_kept_it_goes_on() {
    let house = House::open().await;
    house.admin.told().tenants.push(tenant("home", "active"));
    let mut browser = house.signed_in().await;
    for (uri, form) in
        [("/open?tenant=home", ""), ("/tenants", "slug=a-home&name=A"), ("/launch?tenant=home", "")]
    {
        house.clock.advance(ACCESS_SECONDS);
        let before = browser.cookies.clone();
        let answer = if form.is_empty() { browser.get(uri).await } else { browser.post(uri, form).await };
        assert_eq!(answer.status, 303, "{uri}: {}", answer.body);
        assert_ne!(browser.cookies, before, "{uri} keeps what it refreshed");
    }
    // The answer with the new tokens never got to the browser; by now they have expired, too.
    let lost = browser.cookies.clone();
    house.clock.advance(ACCESS_SECONDS);
    browser.get("/").await.says("Ada");
    browser.cookies = lost;
    house.clock.advance(ACCESS_SECONDS);
    browser.get("/").await.says("Ada");
    // A page that Admin fails to fill keeps them as well.
    house.clock.advance(ACCESS_SECONDS);
    house.admin.refuses("ListTenants", &Error::unavailable("not now", std::time::Duration::from_secs(3)));
    let before = browser.cookies.clone();
    let failed = browser.get("/").await;
    failed.refused(503, "SERVICE_UNAVAILABLE");
    assert_eq!(failed.header("retry-after"), "3");
    assert_ne!(browser.cookies, before);
}

#[tokio::test]
async fn a_refresh_that_the_issuer_refuses_signs_out_and_says_so() {
    let house = House::open().await;
    let mut browser = house.signed_in().await;
    house.issuer.told().refresh.clear();
    house.clock.advance(ACCESS_SECONDS);
    house.admin.calls();
    let page = browser.get("/").await;
    page.is_signed_out();
    page.says(r#"data-code="AUTH_INVALID""#);
    assert!(!browser.has_session());
    assert!(house.admin.calls().is_empty());
}

#[tokio::test]
async fn an_issuer_that_is_away_signs_nobody_out() {
    let house = House::open().await;
    let mut browser = house.signed_in().await;
    house.issuer.told().is_away = true;
    house.clock.advance(ACCESS_SECONDS - 1);
    browser.get("/").await.says("Ada");
    house.clock.advance(1);
    browser.get("/").await.refused(503, "SERVICE_UNAVAILABLE");
    house.issuer.told().is_away = false;
    browser.get("/").await.says("Ada");
}

#[tokio::test]
async fn whose_sign_in_was_ended_or_who_was_locked_is_refused_before_anybody_is_called() {
    for locked in [false, true] {
        let house = House::open().await;
        let mut browser = house.signed_in().await;
        let mut forms = browser.clone();
        house.revoke(locked);
        house.clock.advance(ACCESS_SECONDS);
        let page = browser.get("/").await;
        page.is_signed_out();
        page.says(if locked { "its user is locked" } else { "its sign-in was ended" });
        assert!(!browser.has_session());
        let mut browser = forms.clone();
        browser.get("/open?tenant=home").await.is_signed_out();
        assert!(!browser.has_session());
        let mut browser = forms.clone();
        browser.post("/tenants", "slug=home&name=Home").await.is_signed_out();
        assert!(!browser.has_session());
        let launch = forms.get("/launch?tenant=home").await;
        assert!(launch.location().starts_with(&house.issuer.url), "{}", launch.body);
        assert_eq!((house.admin.calls().len(), house.issuer.told().refreshes), (0, 0));
    }
}

#[tokio::test]
async fn whom_admin_does_not_know_any_more_is_signed_out() {
    let house = House::open().await;
    let mut browser = house.signed_in().await;
    house.admin.refuses("ListTenants", &Error::AuthInvalid("its user is locked"));
    let page = browser.get("/").await;
    page.is_signed_out();
    page.says("its user is locked");
    assert!(!browser.has_session());
}

#[tokio::test]
async fn before_admin_has_pushed_what_it_revoked_nobody_is_let_in() {
    let house = House::before_the_push().await;
    let mut browser = house.signed_in().await;
    let page = browser.get("/").await;
    page.refused(503, "SERVICE_UNAVAILABLE");
    assert_eq!(page.header("retry-after"), "2");
    assert!(house.admin.calls().is_empty());
    assert!(browser.has_session(), "and nobody is signed out");
}

#[tokio::test]
async fn tokens_that_are_long_are_kept_in_several_cookies() {
    let house = House::open().await;
    house.issuer.told().claims.insert("padding".into(), Value::from("x".repeat(4000)));
    let mut browser = house.signed_in().await;
    assert!(browser.cookies.len() > 1, "{:?}", browser.cookies.keys());
    browser.get("/").await.says("Ada");
    assert!(browser.cookies.remove("kombify_cloud_session.1").is_some());
    browser.get("/").await.is_signed_out();
}
