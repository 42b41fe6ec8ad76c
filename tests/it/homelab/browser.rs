//! A person at a real browser: from signing up to a stack, and out again.

use regex::Regex;
use reqwest::Url;
use serde_json::Value;

use super::{HANDED_WITHIN, until};
use crate::house::{House, Module};
use crate::peer::Browser;

const PASSWORD: &str = "the password of somebody";

/// Signs up at the development provider, on the way to Cloud.
pub fn sign_up(browser: &mut Browser, house: &House, name: &str, email: &str) {
    let (cloud, idp) = (house.url(Module::Cloud), house.url(Module::Idp));
    assert_eq!(browser.go(&format!("{cloud}/")), 200);
    browser.follow("Sign in");
    browser.wait_for_url(&format!("{idp}/sign-in"));
    browser.follow("Create one");
    browser.wait_for_url(&format!("{idp}/sign-up"));
    browser.fill("Name", name);
    browser.fill("E-mail address", email);
    browser.fill("Password", PASSWORD);
    browser.press("Create account");
    browser.wait_for_url(&format!("{cloud}/"));
    assert_eq!(browser.url(), format!("{cloud}/"), "nothing of the sign-in stays in the address");
    assert_eq!(browser.text("header .who"), name);
}

/// Nothing went wrong on any page since the last look.
#[track_caller]
fn is_clean(browser: &mut Browser) {
    assert_eq!(browser.problems(), [""; 0]);
}

/// The page there was one that says so by its status, and nothing else went wrong.
#[track_caller]
fn says_only(browser: &mut Browser, url: &str, status: u64) {
    let problems = browser.problems();
    let [only] = &problems[..] else { panic!("{problems:?}") };
    let says = format!("{url}: Failed to load resource: the server responded with a status of {status} ");
    assert!(only.starts_with(&says), "{only}");
}

/// Every cookie is out of reach of scripts, of other sites' requests, and of other hosts.
fn are_guarded(cookies: &[Value]) {
    for cookie in cookies {
        let name = &cookie["name"];
        assert_eq!(cookie["httpOnly"], true, "{name}");
        assert!(cookie["sameSite"] == "Lax" || cookie["sameSite"] == "Strict", "{name}");
        assert_eq!(cookie["domain"], "localhost", "{name} is for its host alone");
        assert_eq!(cookie["path"], "/", "{name}");
    }
}

/// The cookies as a browser sends them.
fn header_of(cookies: &[Value]) -> String {
    let pair = |cookie: &Value| {
        format!("{}={}", cookie["name"].as_str().unwrap(), cookie["value"].as_str().unwrap())
    };
    cookies.iter().map(pair).collect::<Vec<_>>().join("; ")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_signs_up_opens_the_stack_works_there_and_leaves() {
    let house = House::up();
    let pictures = tempfile::tempdir().unwrap();
    let [cloud, stack] = [Module::Cloud, Module::Stack].map(|module| format!("{}/", house.url(module)));
    let mut browser = Browser::open();
    sign_up(&mut browser, &house, "Dora New", "dora@example.com");
    assert!(browser.text("main").contains("You are a member of no tenant yet."));
    browser.fill("Slug", "home");
    browser.fill("Name", "Home of Dora");
    browser.press("Create tenant");
    browser.wait_for("#tenants");
    let row = browser.text("#tenants tbody tr");
    assert!(row.contains("Home of Dora") && row.contains("active"), "{row}");
    browser.picture(pictures.path(), "cloud");
    is_clean(&mut browser);

    // Straight from the one page to the other: nothing is asked between them.
    browser.follow("Open home");
    browser.wait_for_url(&stack);
    assert_eq!(browser.url(), stack, "nothing of the launch stays in the address");
    assert_eq!(browser.count("input[type=password]"), 0);
    assert_eq!(browser.text("header .who"), "Dora New");
    assert!(browser.text("main").contains("Tenant home, where you are admin, on the plan free."));
    assert!(browser.text("#members").contains("dora@example.com"));
    let cookies = browser.cookies();
    are_guarded(&cookies);
    let session =
        cookies.iter().find(|cookie| cookie["name"].as_str().unwrap().starts_with("kombify_stack_"));
    let session = header_of(&[session.unwrap().clone()]);
    let here = house.call_at(Module::Stack, "GET", "/v1/whoami").header("cookie", &session).send().await;
    let token = house.run(&["token", "dora@example.com"], &[("KOMBIFY_PASSWORD", PASSWORD)]);
    let token = String::from_utf8(token.stdout).unwrap();
    let there = house.call("GET", "/v1/whoami").by(token.trim()).send().await;
    assert_eq!(here.data()["userId"], there.data()["userId"], "the same person");

    browser.fill("Name", "media");
    browser.fill("Spec (YAML)", "services:\n  jellyfin: {}\n");
    browser.press("Create stack");
    browser.wait_for("#stacks");
    assert!(browser.text("#stacks tbody tr").contains("media"));
    let listed = house.call_at(Module::Stack, "GET", "/v1/stacks").header("cookie", &session).send().await;
    assert_eq!(listed.list()[0]["specYaml"], "services:\n  jellyfin: {}\n", "as it was typed");
    browser.picture(pictures.path(), "stack");
    is_clean(&mut browser);

    browser.fill("Name", "Not A Name");
    browser.press("Create stack");
    browser.wait_for("[role=alert]");
    browser.picture(pictures.path(), "stack-refused");
    let left_by_the_form = browser.url();
    says_only(&mut browser, &left_by_the_form, 400);
    assert_eq!(browser.go(&left_by_the_form), 200);
    assert_eq!(browser.url(), stack);
    is_clean(&mut browser);

    browser.press("Sign out");
    browser.wait_for_url(&cloud);
    is_clean(&mut browser);
    assert_eq!(browser.go(&stack), 401, "at the Stack the person is gone");
    browser.picture(pictures.path(), "stack-signed-out");
    says_only(&mut browser, &stack, 401);
    let ended = house.call_at(Module::Stack, "GET", "/v1/stacks").header("cookie", &session).send().await;
    ended.refused(401, "AUTH_INVALID");

    browser.follow("Open a tenant from your portal");
    browser.wait_for("#tenants");
    browser.press("Sign out");
    browser.wait_for("a[href='/sign-in']");
    assert_eq!(browser.url(), cloud);
    browser.follow("Sign in");
    browser.wait_for_url(house.url(Module::Idp));
    assert_eq!(browser.count("input[type=password]"), 1, "the provider asks again");
    is_clean(&mut browser);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stranger_sees_nothing_of_a_tenant_and_a_link_to_it_signs_its_people_in() {
    let house = House::up();
    let [cloud, stack] = [Module::Cloud, Module::Stack].map(|module| format!("{}/", house.url(module)));
    let mut browser = Browser::open();
    sign_up(&mut browser, &house, "Dora New", "dora@example.com");
    browser.fill("Slug", "home");
    browser.fill("Name", "Home of Dora");
    browser.press("Create tenant");
    browser.wait_for("#tenants");
    browser.follow("Open home");
    browser.wait_for_url(&stack);
    is_clean(&mut browser);

    browser.hand_to_new("stranger");
    sign_up(&mut browser, &house, "Erik Other", "erik@example.com");
    assert!(browser.text("main").contains("You are a member of no tenant yet."));
    assert_eq!(browser.count("#tenants"), 0);
    is_clean(&mut browser);
    let launch = format!("{cloud}launch?tenant=home");
    assert_eq!(browser.go(&launch), 404, "that there is such a tenant is a secret, too");
    says_only(&mut browser, &launch, 404);
    assert_eq!(browser.go(&stack), 401);
    says_only(&mut browser, &stack, 401);

    // The link at the API's host, at a browser where nobody has signed in.
    browser.hand_to_new("elsewhere");
    let link = format!("{}/kombistack/sso/start?tenant=home", house.url(Module::Gateway));
    assert_eq!(browser.go(&link), 200);
    browser.fill("Name or e-mail address", "dora@example.com");
    browser.fill("Password", PASSWORD);
    browser.press("Sign in");
    browser.wait_for_url(&stack);
    assert_eq!(browser.url(), stack);
    assert_eq!(browser.text("header .who"), "Dora New");
    is_clean(&mut browser);

    // Signed out at one of them, a person is signed out everywhere; everybody else stays.
    browser.hand_to("main");
    browser.go(&cloud);
    browser.press("Sign out");
    browser.wait_for("a[href='/sign-in']");
    browser.hand_to("elsewhere");
    until("the other browser is signed out", HANDED_WITHIN, async || browser.go(&stack) == 401).await;
    browser.hand_to("stranger");
    assert_eq!(browser.go(&cloud), 200);
    assert_eq!(browser.text("header .who"), "Erik Other");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_launch_code_is_in_the_body_of_two_messages_and_nowhere_else() {
    let house = House::up();
    let [cloud, stack] = [Module::Cloud, Module::Stack].map(|module| house.url(module).to_owned());
    let mut browser = Browser::open();
    sign_up(&mut browser, &house, "Dora New", "dora@example.com");
    browser.fill("Slug", "home");
    browser.fill("Name", "Home of Dora");
    browser.press("Create tenant");
    browser.wait_for("#tenants");
    let cookies = header_of(&browser.cookies());
    let own = format!("{cloud}/");

    // The way of the browser, step by step, with what the browser has.
    let form = "application/x-www-form-urlencoded";
    let open =
        house.call_at(Module::Cloud, "GET", "/open?tenant=home").header("cookie", &cookies).send().await;
    assert_eq!(
        (open.status, open.header("location")),
        (303, format!("{stack}/sso/start?tenant=home").as_str())
    );
    let start = house.call_at(Module::Stack, "GET", "/sso/start?tenant=home").send().await;
    let nonce = start.header("set-cookie").split(';').next().unwrap().to_owned();
    let launch = Url::parse(start.header("location")).unwrap();
    assert!(launch.as_str().starts_with(&format!("{own}launch?tenant=home&instance=instance_")), "{launch}");
    let path = format!("{}?{}", launch.path(), launch.query().unwrap());
    let page = house.call_at(Module::Cloud, "GET", &path).header("cookie", &cookies).send().await;
    assert_eq!(page.status, 200, "{}", page.text);
    let code = Regex::new(r#"<input type="hidden" name="code" value="([^"]{43})">"#).unwrap();
    let code = code.captures(&page.text).unwrap()[1].to_owned();
    assert_eq!(page.text.matches(&code).count(), 1);
    let secret = nonce.split_once('=').unwrap().1;
    for (step, answer) in [("open", &open), ("start", &start), ("launch", &page)] {
        let says = |text: &str| answer.headers.values().any(|value| value.to_str().unwrap().contains(text));
        assert!(!says(&code), "{step}");
        assert!(step == "start" || !says(secret), "{step}");
    }
    assert!(!launch.as_str().contains(&code) && !launch.as_str().contains(secret));
    // The address of the page, with the challenge in it, is told to nobody; its origin is what the Stack goes by.
    assert_eq!(page.header("referrer-policy"), "strict-origin");
    assert_eq!(page.header("cache-control"), "no-store");
    let policy = page.header("content-security-policy");
    assert!(policy.contains(&format!("form-action {stack};")), "{policy}");

    let post = |cookie: &str| {
        let call = house.call_at(Module::Stack, "POST", "/sso/callback").raw(form, format!("code={code}"));
        call.header("origin", &cloud).header("cookie", cookie)
    };
    let elsewhere = post("nothing=1").send().await;
    assert_eq!(elsewhere.status, 401, "a code without the nonce of its browser");
    let other = house.call_at(Module::Stack, "GET", "/sso/start?tenant=home").send().await;
    let other = post(other.header("set-cookie").split(';').next().unwrap()).send().await;
    assert_eq!(other.status, 401, "a code with the nonce of another browser");
    let entered = post(&nonce).send().await;
    assert_eq!((entered.status, entered.header("location")), (303, "/"), "{}", entered.text);
    assert!(entered.headers.values().all(|value| !value.to_str().unwrap().contains(&code)));
    assert_eq!(post(&nonce).send().await.status, 401, "a code is good once");
    let log = house.log();
    assert!(!log.contains(&code) && !log.contains(secret) && !log.contains(PASSWORD));
}
