//! The way into a tenant, as the browser goes it.

use kombify_core::Error;
use kombify_mesh::rate::RateLimits;

use super::admin::{CODE, STACK};
use super::house::House;

const INSTANCE: &str = "instance_01890a5d-ac96-774b-bcce-b302099a8057";

fn wanted() -> String {
    format!("/launch?tenant=home&instance={INSTANCE}&challenge={}", "c".repeat(43))
}

#[tokio::test]
async fn the_code_is_in_a_form_for_the_instance_as_admin_knows_it_and_nowhere_else() {
    let house = House::open().await;
    let mut browser = house.signed_in().await;
    house.admin.calls();
    // What the query says of a place counts for nothing.
    let page = browser.get(&format!("{}&public_endpoint=http://evil.example", wanted())).await;
    assert_eq!(page.status, 200, "{}", page.body);
    page.says(&format!(r#"<form id="launch" method="post" action="{STACK}/sso/callback">"#));
    page.says(r#"<script src="/launch.js" defer></script>"#);
    page.says(r#"<button type="submit">Continue</button>"#);
    page.is_silent_about("evil");
    assert_eq!(page.body.matches(CODE).count(), 1);
    page.says(&format!(r#"<input type="hidden" name="code" value="{CODE}">"#));
    for (name, value) in &page.headers {
        assert!(!value.to_str().unwrap().contains(CODE), "{name}");
    }
    let policy = page.header("content-security-policy");
    assert!(policy.contains(&format!("form-action {STACK};")), "{policy}");
    assert!(policy.contains("script-src 'self';") && !policy.contains("unsafe"), "{policy}");
    assert_eq!(page.header("referrer-policy"), "strict-origin");
    assert_eq!(page.header("cache-control"), "no-store");
    let [call] = &house.admin.calls()[..] else { panic!("one call gives the code") };
    assert_eq!((call.method, call.by_service), ("CreateLaunchCode", true));
    assert!(call.user_token.starts_with("access-"));
    let challenge = "c".repeat(43);
    for asked in [r#"tenant: "home""#, &format!("{INSTANCE:?}"), &format!("{challenge:?}")] {
        assert!(call.asked.contains(asked), "{call:?}");
    }
    let script = browser.get("/launch.js").await;
    assert!(script.header("content-type").starts_with("text/javascript"));
    script.says("submit()");
}

#[tokio::test]
async fn without_a_challenge_the_browser_goes_to_the_instance_first() {
    let house = House::open().await;
    let mut browser = house.signed_in().await;
    house.admin.calls();
    let sent = browser.get("/launch?tenant=home").await;
    assert_eq!((sent.status.as_u16(), sent.location()), (303, &*format!("{STACK}/sso/start?tenant=home")));
    assert_eq!(house.admin.calls()[0].method, "LaunchTenant");
}

#[tokio::test]
async fn who_is_not_signed_in_signs_in_and_comes_back_to_the_launch() {
    let house = House::open().await;
    let mut browser = house.browser();
    let back = browser.sign_in(&house, &wanted()).await;
    assert_eq!(back.header("refresh"), format!("0;url={}", wanted()));
    assert!(house.admin.calls().is_empty(), "no code for nobody");
    browser.get(&wanted()).await.says(CODE);
}

#[tokio::test]
async fn who_was_signed_out_elsewhere_is_asked_again_and_who_is_no_member_is_told() {
    let house = House::open().await;
    let mut browser = house.signed_in().await;
    let mut kept = browser.clone();
    house.admin.refuses("CreateLaunchCode", &Error::AuthInvalid("its sign-in was ended: sign in again"));
    let asked = browser.get(&wanted()).await;
    assert!(asked.location().starts_with(&house.issuer.url), "{}", asked.body);
    assert!(!browser.has_session());
    for (fault, status, code) in [
        (Error::not_found("tenant", "home"), 404, "NOT_FOUND"),
        (Error::TenantSuspended, 403, "TENANT_SUSPENDED"),
        (Error::PreconditionFailed("it is elsewhere".into()), 412, "PRECONDITION_FAILED"),
    ] {
        house.admin.refuses("CreateLaunchCode", &fault);
        kept.get(&wanted()).await.refused(status, code);
        assert!(kept.has_session());
    }
}

#[tokio::test]
async fn who_asks_too_often_is_refused_by_address_before_admin_is_asked() {
    let mut limits = RateLimits::default();
    limits.0.get_mut("other").unwrap().free = 4;
    let house = House::counting(limits).await;
    let mut browser = house.signed_in().await;
    house.admin.calls();
    browser.get(&wanted()).await.says(CODE);
    assert_eq!(browser.get("/open?tenant=home").await.status, 303);
    browser.post("/tenants", "slug=home&name=Home").await;
    house.admin.calls();
    for uri in [&*wanted(), "/open?tenant=home", "/sign-in"] {
        let refused = browser.get(uri).await;
        refused.refused(429, "RATE_LIMITED");
        assert_eq!(refused.header("retry-after"), "60");
        assert_eq!(refused.header("x-frame-options"), "DENY");
    }
    browser.post("/tenants", "slug=attic&name=Attic").await.refused(429, "RATE_LIMITED");
    assert!(house.admin.calls().is_empty());
    assert!(browser.has_session());
    assert_eq!(browser.get("/").await.status, 200, "what only shows is not counted here");

    let mut elsewhere = browser.clone();
    elsewhere.address = "203.0.113.8";
    elsewhere.get(&wanted()).await.says(CODE);
    house.clock.advance(60);
    browser.get(&wanted()).await.says(CODE);
}

#[tokio::test]
async fn what_is_asked_for_wrongly_is_named_and_never_gets_to_admin() {
    let house = House::open().await;
    let mut browser = house.signed_in().await;
    house.admin.calls();
    for (query, field) in [
        ("", "tenant"),
        ("tenant=ab", "tenant"),
        ("tenant=Home", "tenant"),
        ("tenant=home%0D%0A", "tenant"),
        (&*format!("tenant={}", "a".repeat(51)), "tenant"),
        ("tenant=home&instance=evil.example", "instance"),
        ("tenant=home&challenge=short", "challenge"),
        (&*format!("tenant=home&challenge={}", "+".repeat(43)), "challenge"),
    ] {
        let refused = browser.get(&format!("/launch?{query}")).await;
        refused.refused(400, "VALIDATION_FAILED");
        refused.says(&format!("{field} must"));
    }
    assert!(house.admin.calls().is_empty());
}
