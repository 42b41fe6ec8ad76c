//! What people send by forms, and what every page says to browsers.

use std::time::Duration;

use kombify_core::Error;
use tokio::time::timeout;

use super::admin::{STACK, tenant};
use super::house::{House, ORIGIN};

#[tokio::test]
async fn a_form_of_another_site_does_nothing() {
    let house = House::open().await;
    let mut browser = house.signed_in().await;
    house.admin.calls();
    let evil = "http://evil.example";
    for (uri, form) in [("/tenants", "slug=home&name=Home"), ("/sign-out", "")] {
        for origins in [
            &[][..],
            &["null"],
            &[evil],
            &["http://localhost:3001"],
            &["https://localhost:3000"],
            &["http://localhost:3000/"],
            &[ORIGIN, evil],
        ] {
            browser.post_from(origins, uri, form).await.refused(401, "AUTH_INVALID");
            assert!(browser.has_session(), "{uri} {origins:?}");
        }
    }
    assert!(house.admin.calls().is_empty());
}

#[tokio::test]
async fn a_form_of_another_site_is_not_even_read() {
    let house = House::open().await;
    let mut browser = house.signed_in().await;
    for uri in ["/tenants", "/sign-out"] {
        let posted = browser.post_nothing_from(&["http://evil.example"], uri);
        let refused = timeout(Duration::from_secs(5), posted).await.expect("nobody waits for the form");
        refused.refused(401, "AUTH_INVALID");
    }
}

#[tokio::test]
async fn somebody_creates_a_tenant_sees_it_and_opens_it() {
    let house = House::open().await;
    let mut browser = house.signed_in().await;
    browser.get("/").await.says("You are a member of no tenant yet.");
    let created = browser.post("/tenants", "slug=home&name=Home+of+Ada").await;
    assert_eq!((created.status.as_u16(), created.location()), (303, "/"), "{}", created.body);
    let calls = house.admin.calls();
    let call = calls.iter().find(|call| call.method == "CreateTenant").unwrap();
    assert!(call.asked.contains(r#"slug: "home", name: "Home of Ada""#), "{call:?}");
    assert!(call.by_service && call.user_token.starts_with("access-"));
    house.admin.told().tenants.push(tenant("attic", "suspended"));
    let page = browser.get("/").await;
    page.says("home &amp; more");
    page.says(r#"href="/open?tenant=home" aria-label="Open home""#);
    let policy = page.header("content-security-policy");
    assert!(policy.contains(&format!("form-action 'self' {};", house.issuer.url)), "{policy}");
    page.says("<td>suspended</td>");
    page.is_silent_about(r#"aria-label="Open attic""#);
    let opened = browser.get("/open?tenant=home").await;
    assert_eq!(
        (opened.status.as_u16(), opened.location()),
        (303, &*format!("{STACK}/sso/start?tenant=home"))
    );
}

#[tokio::test]
async fn what_is_wrong_stands_beside_its_field_and_what_was_typed_stays() {
    let house = House::open().await;
    let mut browser = house.signed_in().await;
    // What the contract says of a slug is held against it wherever the request is read.
    let refused = browser.post("/tenants", "slug=ho%22me&name=%3CHome%3E").await;
    refused.refused(400, "VALIDATION_FAILED");
    let slug = refused.body.find(r#"id="slug""#).unwrap();
    let fault = refused.body.find(r#"id="slug-says""#).unwrap();
    let name = refused.body.find(r#"id="name""#).unwrap();
    assert!(slug < fault && fault < name, "{}", refused.body);
    assert_eq!(refused.body.matches("role=\"alert\"").count(), 1);
    refused.says(r#"value="ho&quot;me""#);
    refused.says(r#"value="&lt;Home&gt;""#);
    assert_eq!(refused.body.matches(r#"aria-invalid="true""#).count(), 1);
    let both = browser.post("/tenants", "slug=&name=").await;
    assert_eq!(both.body.matches(r#"aria-invalid="true""#).count(), 2, "{}", both.body);

    house.admin.refuses("CreateTenant", &Error::invalid("name", "must not be <that>"));
    browser.post("/tenants", "slug=home&name=Home").await.says("must not be &lt;that&gt;");

    house.admin.refuses("CreateTenant", &Error::invalid("region", "must be one that is served"));
    browser.post("/tenants", "slug=home&name=Home").await.says("region must be one that is served");
    house.admin.refuses("CreateTenant", &Error::Conflict("the slug home is taken".into()));
    let taken = browser.post("/tenants", "slug=home&name=Home").await;
    taken.refused(409, "CONFLICT");
    taken.says(r#"value="home""#);
    house.admin.refuses("CreateTenant", &Error::internal("the secret inside"));
    let failed = browser.post("/tenants", "slug=home&name=Home").await;
    failed.refused(500, "INTERNAL_ERROR");
    failed.is_silent_about("secret");
    house.admin.refuses("LaunchTenant", &Error::TenantSuspended);
    browser.get("/open?tenant=home").await.refused(403, "TENANT_SUSPENDED");
    assert!(browser.has_session());
}

#[tokio::test]
async fn every_page_is_hardened() {
    let house = House::open().await;
    let mut signed_in = house.signed_in().await;
    for uri in ["/", "/sign-in", "/callback", "/launch", "/launch?tenant=home", "/open", "/tenants"] {
        for (who, browser) in [("nobody", &mut house.browser()), ("somebody", &mut signed_in)] {
            let page = browser.get(uri).await;
            let policy = page.header("content-security-policy");
            for part in
                ["default-src 'none'", "frame-ancestors 'none'", "base-uri 'none'", "style-src 'self'"]
            {
                assert!(policy.contains(part), "{who} {uri}: {policy}");
            }
            assert!(!policy.contains("unsafe") && !policy.contains("script-src"), "{who} {uri}: {policy}");
            for (name, value) in [
                ("x-frame-options", "DENY"),
                ("x-content-type-options", "nosniff"),
                ("cache-control", "no-store"),
            ] {
                assert_eq!(page.header(name), value, "{who} {uri}");
            }
            assert_ne!(page.header("referrer-policy"), "", "{who} {uri}");
            page.is_silent_about("<script>");
        }
    }
}

#[tokio::test]
async fn every_path_of_the_list_answers_and_no_other_does() {
    let house = House::open().await;
    let mut browser = house.browser();
    for path in crate::PAGES {
        assert_ne!(browser.get(path).await.status, 404, "{path}");
    }
    for path in ["/v1/users/me", "/launch/", "/health", "/kombify.cloud.v1.ProfileService/GetProfile"] {
        assert_eq!(browser.get(path).await.status, 404, "{path}");
    }
}
