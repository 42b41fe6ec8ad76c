//! Into the Stack by single sign-on: every refusal for its own reason, and every code once, however many try.

use std::collections::BTreeSet;
use std::sync::Arc;

use kombify_contracts::kombify::sso::v1::launch_service_client::LaunchServiceClient;
use kombify_contracts::kombify::sso::v1::sso_service_client::SsoServiceClient;
use kombify_contracts::kombify::sso::v1::{
    CreateLaunchCodeRequest, ExchangeCodeRequest, LaunchCode, RedeemLaunchCodeRequest, Redeemed, SsoSession,
};
use kombify_core::{Code, ServiceIdentity};
use kombify_mesh::client::Peer;
use kombify_mesh::identity::service_token::{Signer, ephemeral};
use kombify_mesh::join;
use kombify_mesh::status::to_fault;
use kombify_mesh::system::{SystemClock, SystemIds};
use regex::Regex;
use reqwest::redirect::Policy;
use reqwest::{Method, Url};
use secrecy::SecretString;
use serde_json::json;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Status};

use super::{HANDED_WITHIN, instance, join as become_member, tenant, until};
use crate::answer::{Answer, Call};
use crate::house::{House, Module};

/// For how many codes there is a race.
const CODES: usize = 10_000;

/// How many race for each.
const REDEEMERS: usize = 4;

/// How many codes are raced for at the same time.
const AT_ONCE: usize = 8;

const FORM: &str = "application/x-www-form-urlencoded";

/// A person's browser without its screen: it keeps cookies, and follows a redirect only when told.
struct Browser {
    http: reqwest::Client,
    cloud: String,
    stack: String,
    idp: String,
}

impl Browser {
    /// One that knows nobody.
    fn open(house: &House) -> Self {
        let http = reqwest::Client::builder()
            .timeout(std::time::Duration::from_secs(30))
            .pool_max_idle_per_host(0)
            .cookie_store(true)
            .no_proxy()
            .redirect(Policy::none())
            .build()
            .unwrap();
        let [cloud, stack, idp] =
            [Module::Cloud, Module::Stack, Module::Idp].map(|module| house.url(module).to_owned());
        Self { http, cloud, stack, idp }
    }

    /// One at which that user of the first start has signed in at Cloud.
    async fn of(house: &House, login: &str) -> Self {
        let browser = Self::open(house);
        let said = house.said();
        let line = said.lines().find(|line| line.trim_start().starts_with(&format!("{login} "))).unwrap();
        let password = line.split_whitespace().last().unwrap();
        let page = browser.follow(&format!("{}/sign-in", browser.cloud)).await;
        let hidden = Regex::new(r#"<input type="hidden" name="([^"]*)" value="([^"]*)">"#).unwrap();
        let hidden = hidden.captures_iter(&page.text).map(|field| (field[1].to_owned(), field[2].to_owned()));
        let typed = [("login", login), ("password", password)];
        let typed = typed.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let form: Vec<_> = hidden.chain(typed).collect();
        let url = format!("{}/sign-in", browser.idp);
        let sent = browser.http.post(&url).header("origin", &browser.idp).form(&form);
        let sent = Call::new(sent).send().await;
        assert_eq!(sent.status, 303, "{}", sent.text);
        let home = browser.follow(sent.header("location")).await;
        assert!(home.status == 200 && home.text.contains(&format!("{login}@example.com")), "{}", home.text);
        browser
    }

    fn call(&self, verb: &str, url: &str) -> Call {
        Call::new(self.http.request(Method::from_bytes(verb.as_bytes()).unwrap(), url))
    }

    /// The page behind the redirects.
    async fn follow(&self, url: &str) -> Answer {
        let mut url = Url::parse(url).unwrap();
        loop {
            let answer = self.call("GET", url.as_str()).send().await;
            if answer.status != 303 {
                return answer;
            }
            url = url.join(answer.header("location")).unwrap();
        }
    }

    /// Begins a launch at the Stack, which sets the nonce: the address at Cloud that follows, and the nonce's cookie.
    async fn begin(&self, tenant: &str) -> (Url, String) {
        let start = self.call("GET", &format!("{}/sso/start?tenant={tenant}", self.stack)).send().await;
        assert_eq!(start.status, 303, "{}", start.text);
        let nonce = start.header("set-cookie").split(';').next().unwrap().to_owned();
        (Url::parse(start.header("location")).unwrap(), nonce)
    }

    /// Cloud's page of a launch that this browser began.
    async fn launch(&self, tenant: &str) -> Answer {
        let (launch, _) = self.begin(tenant).await;
        self.call("GET", launch.as_str()).send().await
    }

    /// The code of a launch that this browser began.
    async fn code(&self, tenant: &str) -> String {
        code_of(&self.launch(tenant).await)
    }

    /// Posts a code at the Stack, from a page of `origin`.
    fn post(&self, code: &str, origin: Option<&str>) -> Call {
        let call = self.call("POST", &format!("{}/sso/callback", self.stack));
        let call = call.raw(FORM, format!("code={code}"));
        match origin {
            Some(origin) => call.header("origin", origin),
            None => call,
        }
    }

    /// Posts a code at the Stack, as Cloud's page does.
    async fn enter(&self, code: &str) -> Answer {
        self.post(code, Some(&self.cloud)).send().await
    }

    /// The status of the Stack's own page.
    async fn inside(&self) -> u16 {
        self.call("GET", &format!("{}/", self.stack)).send().await.status
    }
}

/// The code that Cloud's page posts.
#[track_caller]
fn code_of(page: &Answer) -> String {
    let code = Regex::new(r#"<input type="hidden" name="code" value="([^"]{43})">"#).unwrap();
    code.captures(&page.text).unwrap_or_else(|| panic!("{} {}", page.status, page.text))[1].to_owned()
}

/// Holds a page against the refusal that it must be; nobody is let in by it.
#[track_caller]
fn refused(page: &Answer, status: u16, code: &str, words: &str) {
    assert_eq!(page.status, status, "{}", page.text);
    assert!(page.text.contains(&format!(r#"data-code="{code}""#)), "{}", page.text);
    assert!(page.text.contains(words), "{words}: {}", page.text);
    assert!(!page.header("set-cookie").contains("_session="), "{:?}", page.headers);
}

/// A module, by its own key.
pub(super) struct Service {
    own: ServiceIdentity,
    admin: Peer,
    stack: Peer,
}

impl Service {
    /// Cloud.
    pub(super) async fn cloud(house: &House, root: &str) -> Self {
        Self::of(house, root, "cloud", is_cloud()).await
    }

    /// The house's own Stack.
    pub(super) async fn stack(house: &House, root: &str) -> Self {
        let id = instance(house, root).await["id"].as_str().unwrap().to_owned();
        Self::of(house, root, "stack", ServiceIdentity { module: "stack".into(), instance: id }).await
    }

    async fn of(house: &House, root: &str, key: &str, own: ServiceIdentity) -> Self {
        let path = house.data().join(format!("keys/{key}.pkcs8"));
        assert!(path.exists(), "a key that is made anew is nobody's");
        Self::with(house, root, Signer::open(&path, own, Arc::new(SystemClock)).unwrap()).await
    }

    /// Whoever signs so.
    async fn with(house: &House, root: &str, signer: Signer) -> Self {
        let stack = format!("stack/{}", instance(house, root).await["id"].as_str().unwrap());
        let (own, signer) = (signer.service().clone(), Arc::new(signer));
        let admin = Peer::new("admin", house.url(Module::Admin), Arc::clone(&signer)).unwrap();
        let stack = Peer::new(&stack, house.url(Module::Stack), signer).unwrap();
        Self { own, admin, stack }
    }

    /// The Stack of another instance, which claims its place now.
    async fn other_stack(house: &House, root: &str) -> Self {
        let endpoint = "https://other.example";
        let body = json!({"name": "other", "internalEndpoint": endpoint, "publicEndpoint": endpoint});
        let made = house.call("POST", "/v1/admin/instances").by(root).json(&body).send().await;
        let secret = SecretString::from(made.data()["joinSecret"].as_str().unwrap());
        let path = house.data().join("keys/other.pkcs8");
        let as_who = |instance: &str| ServiceIdentity { module: "stack".into(), instance: instance.into() };
        let claimant = Signer::open(&path, as_who("other"), Arc::new(SystemClock)).unwrap();
        let admin = Peer::anonymous(house.url(Module::Admin)).unwrap();
        let claimed = join::claim(admin, &claimant, &secret, &CancellationToken::new()).await.unwrap();
        assert_eq!(made.data()["id"], claimed.to_string());
        Self::of(house, root, "other", as_who(&claimed.to_string())).await
    }

    /// A code for whoever has that token.
    pub(super) async fn issue(
        &self,
        user: Option<&str>,
        tenant: &str,
        challenge: &str,
    ) -> Result<LaunchCode, Status> {
        let request = CreateLaunchCodeRequest {
            tenant: tenant.into(),
            instance_id: String::new(),
            challenge: challenge.into(),
        };
        let mut request = Request::new(request);
        if let Some(user) = user {
            request.metadata_mut().insert("x-kombify-user-token", user.parse().unwrap());
        }
        let answer = LaunchServiceClient::new(self.admin.clone()).create_launch_code(request).await;
        answer.map(|answer| answer.into_inner().data.unwrap())
    }

    /// Redeems a code at Admin.
    async fn redeem(&self, code: &str, challenge: &str) -> Result<Redeemed, Status> {
        let request = RedeemLaunchCodeRequest { code: code.into(), challenge: challenge.into() };
        let answer = LaunchServiceClient::new(self.admin.clone()).redeem_launch_code(request).await;
        answer.map(|answer| answer.into_inner().data.unwrap())
    }

    /// Exchanges a code at the Stack.
    pub(super) async fn exchange(&self, code: &str) -> Result<SsoSession, Status> {
        let request = ExchangeCodeRequest { code: code.into() };
        let answer = SsoServiceClient::new(self.stack.clone()).exchange_code(request).await;
        answer.map(|answer| answer.into_inner().data.unwrap())
    }
}

/// Cloud's own identity.
fn is_cloud() -> ServiceIdentity {
    ServiceIdentity { module: "cloud".into(), instance: "local".into() }
}

/// Holds what a module is answered against the refusal that it must be.
#[track_caller]
pub(super) fn is_refused<T: std::fmt::Debug>(answer: Result<T, Status>, code: Code, words: &str) {
    let fault = to_fault(&answer.unwrap_err());
    assert_eq!(fault.code(), code, "{fault}");
    assert!(fault.to_string().contains(words), "{words}: {fault}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_code_is_refused_at_the_stacks_door_for_its_own_reason() {
    let house = House::up();
    let [alice, root] = ["alice", "root"].map(|user| house.token(user));
    tenant(&house, &alice, "home").await;
    let browser = Browser::of(&house, "alice").await;
    let (launch, nonce) = browser.begin("home").await;
    let code = code_of(&browser.call("GET", launch.as_str()).send().await);

    // Neither the place nor the browser: what was refused for them is still good for who is right.
    let stack = browser.stack.clone();
    for origin in [None, Some("null"), Some("http://evil.example"), Some(stack.as_str())] {
        let page = browser.post(&code, origin).send().await;
        refused(&page, 401, "AUTH_INVALID", "the launch comes from a page that is not Cloud's");
    }
    let stranger = Browser::open(&house);
    let page = stranger.enter(&code).await;
    refused(&page, 401, "AUTH_INVALID", "this browser did not begin the launch");
    stranger.begin("home").await;
    refused(
        &stranger.enter(&code).await,
        401,
        "AUTH_INVALID",
        "the launch code was issued for another browser",
    );
    assert_eq!(stranger.inside().await, 401);
    for wrong in ["", "short", &format!("{}=", &code[1..])] {
        refused(&browser.enter(wrong).await, 400, "VALIDATION_FAILED", "must be a launch code");
    }
    let unknown = "A".repeat(43);
    refused(&browser.enter(&unknown).await, 401, "AUTH_INVALID", "the launch code is not known");
    let of_a_service = Service::cloud(&house, &root).await.issue(Some(&alice), "home", "").await.unwrap();
    refused(
        &browser.enter(&of_a_service.code).await,
        401,
        "AUTH_INVALID",
        "the launch code was issued for another browser",
    );

    let entered = browser.enter(&code).await;
    assert_eq!((entered.status, entered.header("location")), (303, "/"), "{}", entered.text);
    assert_eq!(browser.inside().await, 200);
    // Once: neither the browser that used it, nor one that has copied its nonce.
    refused(&browser.enter(&code).await, 401, "AUTH_INVALID", "this browser did not begin the launch");
    let copied = Browser::open(&house).post(&code, Some(&browser.cloud)).header("cookie", &nonce);
    refused(&copied.send().await, 401, "AUTH_INVALID", "the launch code was used already");
    browser.begin("home").await;
    refused(&browser.enter(&code).await, 401, "AUTH_INVALID", "the launch code was used already");
    assert_eq!(browser.inside().await, 200, "who was let in stays");
}

#[tokio::test(flavor = "multi_thread")]
async fn cloud_launches_members_only_and_only_to_the_tenants_own_instance() {
    let house = House::up();
    let [alice, root] = ["alice", "root"].map(|user| house.token(user));
    tenant(&house, &alice, "home").await;
    let other = Service::other_stack(&house, &root).await;
    let browser = Browser::of(&house, "alice").await;

    let (mut launch, _) = browser.begin("home").await;
    let here = instance(&house, &root).await["id"].as_str().unwrap().to_owned();
    let elsewhere = launch.as_str().replace(&here, &other.own.instance);
    assert_ne!(launch.as_str(), elsewhere);
    let page = browser.call("GET", &elsewhere).send().await;
    refused(&page, 412, "PRECONDITION_FAILED", "the tenant is on another instance than the one that asked");

    // That there is a tenant is a secret to those who are not of it.
    let bob = Browser::of(&house, "bob").await;
    for slug in ["home", "nowhere"] {
        refused(&bob.launch(slug).await, 404, "NOT_FOUND", &format!("tenant {slug} not found"));
    }
    // Who is nobody yet is asked who it is, and told nothing.
    let nobody = Browser::open(&house);
    for slug in ["home", "nowhere"] {
        let page = nobody.launch(slug).await;
        assert_eq!(page.status, 303, "{}", page.text);
        assert!(page.header("location").starts_with(&nobody.idp), "{}", page.header("location"));
    }
    // A launch of before is as good as one of now: it names nobody.
    launch.set_fragment(None);
    let code = code_of(&browser.call("GET", launch.as_str()).send().await);
    assert_eq!(browser.enter(&code).await.status, 303);
}

#[tokio::test(flavor = "multi_thread")]
async fn cloud_calls_people_as_they_want_to_be_called() {
    let house = House::up();
    let browser = Browser::of(&house, "alice").await;
    let home = format!("{}/", browser.cloud);
    assert!(browser.follow(&home).await.text.contains("You are <strong>Alice Example</strong>"));
    let call = house.call("PATCH", "/v1/users/me").by(&house.token("alice"));
    call.json(&json!({"displayName": "Al <3"})).send().await.data();
    let page = browser.follow(&home).await;
    assert!(page.text.contains("You are <strong>Al &lt;3</strong>"), "{}", page.text);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_on_another_instance_is_entered_there() {
    let house = House::up();
    let [alice, root] = ["alice", "root"].map(|user| house.token(user));
    let other = house.add_stack(&root, "other", 5, &[]).await;
    let here = instance(&house, &root).await["id"].as_str().unwrap().to_owned();
    let drain = house.call("POST", &format!("/v1/admin/instances/{here}:drain")).by(&root);
    assert_eq!(drain.send().await.data()["status"], "draining");
    assert_eq!(tenant(&house, &alice, "home").await["instanceId"], other.id);

    let launch = house.call("POST", "/v1/tenants/home:launch").by(&alice).send().await;
    let start = launch.data()["redirectUrl"].as_str().unwrap();
    assert!(start.starts_with(&format!("{}/sso/start?tenant=", other.url)), "{start}");
    let mut browser = Browser::of(&house, "alice").await;
    browser.stack.clone_from(&other.url);
    let page = browser.launch("home").await;
    assert!(page.text.contains(&format!(r#"action="{}/sso/callback""#, other.url)), "{}", page.text);
    assert!(page.header("content-security-policy").contains(&format!("form-action {};", other.url)));
    assert_eq!(browser.enter(&code_of(&page)).await.status, 303);
    assert_eq!(browser.inside().await, 200);

    // Each Stack knows its own tenants only.
    let own = other.call("GET", "/v1/stacks").by(&alice).header("x-tenant-id", "home").send().await;
    assert!(own.list().is_empty());
    let asked = house.call_at(Module::Stack, "GET", "/v1/stacks").by(&alice).header("x-tenant-id", "home");
    asked.send().await.refused(404, "NOT_FOUND");
    let code = Service::cloud(&house, &root).await.issue(Some(&alice), "home", "").await.unwrap();
    assert_eq!(code.instance_id, other.id);
    let elsewhere = Service::cloud(&house, &root).await.exchange(&code.code).await;
    is_refused(elsewhere, Code::AuthInvalid, "the launch code is for another instance");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_taken_away_since_the_launch_is_refused_at_the_door() {
    let house = House::up();
    let [alice, bob, carol, root] = ["alice", "bob", "carol", "root"].map(|user| house.token(user));
    let home = tenant(&house, &alice, "home").await;
    tenant(&house, &carol, "carols").await;
    become_member(&house, &alice, &bob, "viewer").await;
    until("Admin mirrors the member", HANDED_WITHIN, async || {
        house.call("GET", "/v1/tenants").by(&bob).send().await.list().len() == 1
    })
    .await;
    let [of_alice, of_bob, of_carol] = [
        Browser::of(&house, "alice").await,
        Browser::of(&house, "bob").await,
        Browser::of(&house, "carol").await,
    ];
    let admins = format!("/v1/admin/tenants/{}", home["id"].as_str().unwrap());
    // The page names the tenant's plan: bob's own is another.
    assert_eq!(of_bob.enter(&of_bob.code("home").await).await.status, 303);
    let page = of_bob.follow(&format!("{}/", of_bob.stack)).await;
    assert!(page.text.contains("on the plan <strong>free</strong>"), "{}", page.text);

    // The tenant was suspended: the code is lost with that.
    let code = of_alice.code("home").await;
    let suspend = json!({"reason": "unpaid"});
    house.call("POST", &format!("{admins}:suspend")).by(&root).json(&suspend).send().await.data();
    refused(&of_alice.enter(&code).await, 403, "TENANT_SUSPENDED", "suspended");
    refused(&of_alice.launch("home").await, 403, "TENANT_SUSPENDED", "suspended");
    house.call("POST", &format!("{admins}:resume")).by(&root).send().await.data();
    refused(&of_alice.enter(&code).await, 401, "AUTH_INVALID", "the launch code was used already");
    until("the Stack lets in again", HANDED_WITHIN, async || {
        let code = of_alice.code("home").await;
        of_alice.enter(&code).await.status == 303
    })
    .await;

    // The user was taken out of the tenant.
    let code = of_bob.code("home").await;
    let members = house.call("GET", "/v1/members").by(&alice).send().await;
    let is_bob = |member: &&serde_json::Value| member["email"] == "bob@example.com";
    let sub = members.list().iter().find(is_bob).unwrap()["sub"].as_str().unwrap().to_owned();
    assert_eq!(house.call("DELETE", &format!("/v1/members/{sub}")).by(&alice).send().await.status, 200);
    refused(&of_bob.enter(&code).await, 404, "NOT_FOUND", "not found");
    assert_eq!(of_bob.inside().await, 401);

    // The user was locked.
    let code = of_carol.code("carols").await;
    let listed = house.call("GET", "/v1/admin/users?search=carol@").by(&root).send().await;
    let path = format!("/v1/admin/users/{}:lock", listed.list()[0]["sub"].as_str().unwrap());
    house.call("POST", &path).by(&root).json(&json!({"reason": "stolen"})).send().await.data();
    let page = of_carol.enter(&code).await;
    refused(&page, 401, "AUTH_INVALID", "the user of the launch code was locked or signed out");
    refused(&of_carol.enter(&code).await, 401, "AUTH_INVALID", "the launch code was used already");

    // The tenant was deleted.
    let code = of_alice.code("home").await;
    assert_eq!(house.call("DELETE", "/v1/tenants/home").by(&alice).send().await.status, 200);
    refused(&of_alice.enter(&code).await, 404, "NOT_FOUND", "not found");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_code_of_a_service_is_issued_by_cloud_exchanged_by_cloud_and_redeemed_by_its_stack_alone() {
    let house = House::up();
    let [alice, root] = ["alice", "root"].map(|user| house.token(user));
    let home = tenant(&house, &alice, "home").await;
    let cloud = Service::cloud(&house, &root).await;
    let (own, other) = (Service::stack(&house, &root).await, Service::other_stack(&house, &root).await);

    // Nobody gets a code alone: not a user, not a module without one, and no Stack.
    let asked = json!({"tenant": "home"});
    let alone =
        house.rpc(Module::Admin, Some(&alice), "kombify.sso.v1.LaunchService/CreateLaunchCode", &asked);
    alone.refused(7, "Cloud and the gateway only");
    is_refused(
        cloud.issue(None, "home", "").await,
        Code::AuthInsufficient,
        "send the user's token beside the service's",
    );
    is_refused(
        own.issue(Some(&alice), "home", "").await,
        Code::AuthInsufficient,
        "Cloud and the gateway only",
    );

    // Only Stacks redeem, and each what is for its own instance.
    let code = cloud.issue(Some(&alice), "home", "").await.unwrap();
    assert_eq!(code.instance_id, own.own.instance);
    is_refused(cloud.redeem(&code.code, "").await, Code::AuthInsufficient, "");
    for token in [None, Some(alice.as_str())] {
        let method = "kombify.sso.v1.LaunchService/RedeemLaunchCode";
        let redeemed = house.rpc(Module::Admin, token, method, &json!({"code": code.code}));
        assert_eq!(redeemed.code, if token.is_some() { 7 } else { 16 }, "{}", redeemed.fault);
    }
    is_refused(
        other.redeem(&code.code, "").await,
        Code::AuthInvalid,
        "the launch code is for another instance",
    );
    is_refused(
        own.redeem(&code.code, &"A".repeat(43)).await,
        Code::AuthInvalid,
        "the launch code was issued for another browser",
    );
    let redeemed = own.redeem(&code.code, "").await.unwrap();
    assert_eq!(
        (redeemed.tenant_id.as_str(), redeemed.email.as_str()),
        (home["id"].as_str().unwrap(), "alice@example.com")
    );
    is_refused(own.redeem(&code.code, "").await, Code::AuthInvalid, "the launch code was used already");
    is_refused(cloud.exchange(&code.code).await, Code::AuthInvalid, "the launch code was used already");

    // Cloud exchanges at the Stack; no user does, and no other Stack.
    let code = cloud.issue(Some(&alice), "home", "").await.unwrap();
    is_refused(other.exchange(&code.code).await, Code::AuthInsufficient, "");
    for token in [None, Some(alice.as_str())] {
        let method = "kombify.sso.v1.SsoService/ExchangeCode";
        let exchanged = house.rpc(Module::Stack, token, method, &json!({"code": code.code}));
        assert_eq!(exchanged.code, if token.is_some() { 7 } else { 16 }, "{}", exchanged.fault);
    }
    let session = cloud.exchange(&code.code).await.unwrap();
    let user = session.user.unwrap();
    assert_eq!(
        (session.tenant_slug.as_str(), user.email.as_str(), user.role.as_str()),
        ("home", "alice@example.com", "admin")
    );
    let inside = house.call_at(Module::Stack, "GET", "/v1/stacks").by(&session.token).send().await;
    assert!(inside.list().is_empty());
    for module in [Module::Admin, Module::Cloud, Module::Gateway] {
        let elsewhere = house.call_at(module, "GET", "/v1/whoami").by(&session.token).send().await;
        assert_eq!(elsewhere.status, 401, "{module:?}: a session is good at its own instance only");
    }
    is_refused(cloud.exchange(&code.code).await, Code::AuthInvalid, "the launch code was used already");
    let unknown = "A".repeat(43);
    is_refused(cloud.exchange(&unknown).await, Code::AuthInvalid, "the launch code is not known");

    // What was issued for a browser is nothing for a service.
    let code = cloud.issue(Some(&alice), "home", &"A".repeat(43)).await.unwrap();
    let exchanged = cloud.exchange(&code.code).await;
    is_refused(exchanged, Code::AuthInvalid, "the launch code was issued for another browser");

    // A key that nobody registered is no module, whoever it says that it is.
    let forged = ephemeral(is_cloud(), Arc::new(SystemClock), &SystemIds).unwrap();
    let forged = Service::with(&house, &root, forged).await;
    is_refused(forged.issue(Some(&alice), "home", "").await, Code::AuthInvalid, "");
    is_refused(forged.exchange(&code.code).await, Code::AuthInvalid, "");
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_who_race_for_a_code_one_gets_in() {
    let mut house = House::fresh().without_limits();
    house.start();
    let [carol, root] = ["carol", "root"].map(|user| house.token(user));
    tenant(&house, &carol, "carols").await;
    let cloud = Arc::new(Service::cloud(&house, &root).await);
    let mut workers = JoinSet::new();
    for worker in 0..AT_ONCE {
        let (cloud, carol) = (Arc::clone(&cloud), carol.clone());
        workers.spawn(async move {
            let mut sessions = Vec::new();
            for _ in (worker..CODES).step_by(AT_ONCE) {
                let code = cloud.issue(Some(&carol), "carols", "").await.unwrap().code;
                sessions.push(race(&cloud, &code).await);
            }
            sessions
        });
    }
    let sessions = workers.join_all().await.concat();
    assert_eq!(sessions.len(), CODES);
    assert_eq!(sessions.iter().collect::<BTreeSet<_>>().len(), CODES, "every session is one of its own");
    let rows = house.all(&root, "/v1/admin/audit?action=launch.code.redeemed").await;
    let redeemed = rows.iter().filter(|row| row["outcome"] == "done").count();
    assert_eq!(redeemed, CODES, "each was redeemed once, whatever was answered");
    for session in [&sessions[0], &sessions[CODES - 1]] {
        house.call_at(Module::Stack, "GET", "/v1/stacks").by(session).send().await.data();
    }
}

/// Exchanges the code from everywhere at once: the session of the only one who got in.
async fn race(cloud: &Arc<Service>, code: &str) -> String {
    let mut racers = JoinSet::new();
    for _ in 0..REDEEMERS {
        let (cloud, code) = (Arc::clone(cloud), code.to_owned());
        racers.spawn(async move { cloud.exchange(&code).await });
    }
    let (good, bad): (Vec<_>, Vec<_>) = racers.join_all().await.into_iter().partition(Result::is_ok);
    for refusal in bad {
        is_refused(refusal, Code::AuthInvalid, "the launch code was used already");
    }
    let [Ok(session)] = &good[..] else { panic!("{} got in", good.len()) };
    session.token.clone()
}
