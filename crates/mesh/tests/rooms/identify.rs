//! The identity room: what a caller holds becomes a caller, and nothing else does.

use std::sync::Arc;

use async_trait::async_trait;
use kombify_core::directory::Standing;
use kombify_core::revocation::Revocation;
use kombify_core::{Caller, Code, Memberships, Plan, RequestId, Result, TenantRole, wire};
use kombify_mesh::context::Context;
use kombify_mesh::edge::LoggedCaller;
use kombify_mesh::identity::verifier::CLOCK_SKEW_SECONDS;
use kombify_mesh::identity::{SessionUser, Sessions};
use serde_json::{Value, json};

use crate::mint::{House, Key, Known, base64, changed, hmac_token, unsigned, without};
use crate::support::{
    ADDRESS, GET_USER, HEALTH, REQUEST_ID, Stub, USER_AGENT, code, fault, membership, request, send, service,
    tenant_id, user, with,
};

fn bearer(token: &str) -> String {
    format!("Bearer {token}")
}

/// The caller whom these headers make.
async fn accepted(house: &House, headers: &[(&'static str, &str)]) -> Caller {
    let (response, stub) = house.call(headers).await;
    assert!(code(&response).is_none(), "{:?}", fault(&response));
    Caller::clone(stub.last().extensions().get::<Arc<Caller>>().unwrap())
}

/// Why these headers are refused.
async fn refused(house: &House, headers: &[(&'static str, &str)]) -> String {
    let (response, stub) = house.call(headers).await;
    assert_eq!(stub.reached(), 0, "{headers:?}");
    let fault = fault(&response);
    assert_eq!(fault.code, Code::AuthInvalid, "{}", fault.message);
    fault.message
}

async fn refused_token(house: &House, token: &str) -> String {
    refused(house, &[("authorization", bearer(token).as_str())]).await
}

#[tokio::test]
async fn a_request_without_a_credential_is_of_an_unknown_caller() {
    let caller = accepted(&House::new(), &[]).await;
    assert!(!caller.is_known());
}

#[tokio::test]
async fn a_token_of_each_algorithm_is_good() {
    let house = House::new();
    let keys = [Key::rs256("rsa"), Key::es256("ec"), Key::ed("ed")];
    house.issuer.publish(&[&keys[0], &keys[1], &keys[2]]);
    for key in &keys {
        let caller =
            accepted(&house, &[("authorization", bearer(&key.token(&house.claims())).as_str())]).await;
        assert_eq!(caller.user().unwrap().sub.as_str(), "ada", "{}", key.alg);
        assert!(caller.service().is_none());
    }
}

#[tokio::test]
async fn a_token_for_several_audiences_is_good_if_we_are_one_of_them() {
    let house = House::new();
    let token = house.key.token(&changed(house.claims(), "aud", json!(["portal", "kombify"])));
    accepted(&house, &[("authorization", bearer(&token).as_str())]).await;
}

#[tokio::test]
async fn a_token_that_is_not_for_us_is_refused_and_the_answer_says_why() {
    let house = House::new();
    let claims = || house.claims();
    for (claims, why) in [
        (changed(claims(), "iss", json!("https://evil.example")), "its issuer is not ours"),
        (changed(claims(), "iss", json!(["https://issuer.example"])), "its issuer is not ours"),
        (without(claims(), "iss"), "its issuer is not ours"),
        (changed(claims(), "aud", json!("portal")), "its audience is another"), // An ID token: for a client.
        (changed(claims(), "aud", json!(["portal", "cli"])), "its audience is another"),
        (without(claims(), "aud"), "a claim is missing"),
        (without(claims(), "sub"), "a claim is missing"),
        (changed(claims(), "sub", json!("")), "its subject is missing"),
        (changed(claims(), "sub", json!("service:cloud/local")), "its subject is not a user"),
        (without(claims(), "iat"), "its issue time is missing"),
        (without(claims(), "exp"), "a claim is missing"),
        (changed(claims(), "exp", json!("tomorrow")), ""),
        (changed(claims(), "act", json!({"sub": ""})), "its actor is not a user"),
    ] {
        let message = refused_token(&house, &house.key.token(&claims)).await;
        assert!(message.contains(why), "{claims}: {message}");
    }
}

#[tokio::test]
async fn a_token_is_good_up_to_the_skew_of_clocks_and_no_longer() {
    for (claim, offset, good) in [
        ("exp", 1, true),
        ("exp", 1 - CLOCK_SKEW_SECONDS, true),
        ("exp", -CLOCK_SKEW_SECONDS, false),
        ("exp", -900, false),
        ("nbf", CLOCK_SKEW_SECONDS, true),
        ("nbf", CLOCK_SKEW_SECONDS + 1, false),
        ("iat", CLOCK_SKEW_SECONDS, true),
        ("iat", CLOCK_SKEW_SECONDS + 1, false),
    ] {
        let house = House::new();
        let token = house.key.token(&changed(house.claims(), claim, json!(house.now() + offset)));
        let (response, stub) = house.call(&[("authorization", bearer(&token).as_str())]).await;
        assert_eq!(stub.reached(), usize::from(good), "{claim} {offset}");
        assert_eq!(code(&response), (!good).then_some(Code::AuthInvalid), "{claim} {offset}");
    }
}

#[tokio::test]
async fn a_forged_token_is_refused() {
    let house = House::new();
    let (rsa, stranger) = (Key::rs256("rsa"), Key::ed("issuer-1"));
    house.issuer.publish(&[&house.key, &rsa]);
    let claims = house.claims();
    let header = |name: &str, value: Value| changed(house.key.header(), name, value);
    let good = house.token();
    let (head, signature) = (good.split('.').next().unwrap(), good.rsplit('.').next().unwrap());
    let admin = base64(changed(claims.clone(), "sub", json!("root")).to_string().as_bytes());
    let hs256 = |key: &Key| changed(key.header(), "alg", json!("HS256"));
    let tokens = [
        ("no algorithm", format!("{}.", unsigned(&header("alg", json!("none")), &claims))),
        ("no algorithm, signed", house.key.token_with(&header("alg", json!("none")), &claims)),
        ("no algorithm, spelt anew", format!("{}.", unsigned(&header("alg", json!("NONE")), &claims))),
        ("HMAC by the public key", hmac_token(&hs256(&house.key), &claims, &house.key.public)),
        (
            "HMAC by the key's text",
            hmac_token(&hs256(&house.key), &claims, base64(&house.key.public).as_bytes()),
        ),
        ("HMAC by the RSA key", hmac_token(&hs256(&rsa), &claims, &rsa.public)),
        ("the algorithm of another key", house.key.token_with(&header("alg", json!("RS256")), &claims)),
        (
            "another hash than the key's",
            rsa.token_with(&changed(rsa.header(), "alg", json!("RS512")), &claims),
        ),
        ("the id of another key", house.key.token_with(&header("kid", json!("rsa")), &claims)),
        ("a key of a stranger under our id", stranger.token(&claims)),
        ("a key that the token brings", stranger.token_with(&header("jwk", stranger.jwk.clone()), &claims)),
        ("a key that is not published", house.key.token_with(&header("kid", json!("other")), &claims)),
        ("no key", house.key.token_with(&without(house.key.header(), "kid"), &claims)),
        ("an empty key id", house.key.token_with(&header("kid", json!("")), &claims)),
        ("another payload", format!("{head}.{admin}.{signature}")),
        ("a shorter signature", good[..good.len() - 4].to_owned()),
        ("no signature", format!("{head}.{admin}.")),
        ("four parts", format!("{good}.x")),
        ("two parts", good.rsplit_once('.').unwrap().0.to_owned()),
        ("no parts", "garbage".to_owned()),
        ("dots", "..".to_owned()),
        ("empty objects", "e30.e30.e30".to_owned()),
        ("too much", house.key.token(&changed(claims.clone(), "name", json!("x".repeat(8 * 1024))))),
    ];
    for (name, token) in tokens {
        let message = refused_token(&house, &token).await;
        assert!(message.starts_with("the credential is not valid"), "{name}: {message}");
        assert!(!message.contains(&token), "{name}: {message}");
    }
    accepted(&house, &[("authorization", bearer(&good).as_str())]).await;
}

#[tokio::test]
async fn headers_that_claim_an_identity_change_nothing() {
    let house = House::new();
    let token = bearer(&house.token());
    let forged = wire::IDENTITY.map(|name| (name, "kombisphere_admin"));
    let (nobody, ada): (&[_], &[_]) = (&[], &[("authorization", token.as_str())]);
    for credential in [nobody, ada] {
        let honest = accepted(&house, credential).await;
        let outcome = accepted(&house, &[credential, &forged[..]].concat()).await;
        assert_eq!(format!("{outcome:?}"), format!("{honest:?}"));
        assert!(!format!("{outcome:?}").contains("kombisphere_admin"));
    }
}

#[tokio::test]
async fn exactly_one_credential_is_accepted() {
    let house = House::new();
    let tokens = [house.token(), house.service_token()];
    let [user, module] = tokens.each_ref().map(String::as_str);
    let credentials = [bearer(user), bearer(module), format!("Basic {user}")];
    let [by_user, by_module, basic] = credentials.each_ref().map(String::as_str);
    for headers in [
        vec![("authorization", by_user), ("authorization", by_user)],
        vec![("authorization", by_user), ("authorization", by_module)],
        vec![("authorization", by_user), ("x-api-key", "key")],
        vec![("x-api-key", "key")],
        vec![("authorization", basic)],
        vec![("authorization", "Bearer")],
        vec![("authorization", user)],
        vec![("x-kombify-user-token", user)],
        vec![("authorization", by_user), ("x-kombify-user-token", user)],
        vec![("authorization", by_module), ("x-kombify-user-token", user), ("x-kombify-user-token", user)],
        vec![("authorization", by_module), ("x-kombify-user-token", module)],
        vec![("authorization", by_module), ("x-kombify-user-token", "garbage")],
        vec![("authorization", by_module), ("x-kombify-user-token", "")],
    ] {
        refused(&house, &headers).await;
    }
}

#[tokio::test]
async fn a_module_calls_for_itself_and_for_a_user() {
    let house = House::new();
    let by_module = bearer(&house.service_token());
    let caller = accepted(&house, &[("authorization", by_module.as_str())]).await;
    assert_eq!((caller.service(), caller.user().is_none()), (Some(&service("cloud")), true));

    let user = house.token();
    let pair = [("authorization", by_module.as_str()), ("x-kombify-user-token", user.as_str())];
    let caller = accepted(&house, &pair).await;
    assert_eq!(caller.service(), Some(&service("cloud")));
    assert_eq!(caller.user().unwrap().sub.as_str(), "ada");
}

#[tokio::test]
async fn a_service_token_is_good_only_by_its_own_key_at_the_module_that_it_names() {
    let house = House::new();
    let claims = |module: &str| house.service_claims(module);
    let issued = changed(claims("cloud"), "iss", json!(crate::mint::ISSUER));
    for (token, why) in [
        (house.stack.token(&claims("cloud")), "its key belongs to another service"),
        (house.cloud.token(&claims("admin")), "its key belongs to another service"),
        (
            house.cloud.token(&changed(claims("cloud"), "aud", json!("service:kits"))),
            "its audience is another",
        ),
        (house.cloud.token(&changed(claims("cloud"), "aud", json!("kombify"))), "its audience is another"),
        (house.cloud.token(&changed(claims("cloud"), "sub", json!("ada"))), "its subject is not a service"),
        (house.cloud.token(&changed(claims("cloud"), "exp", json!(house.now() - 60))), "it has expired"),
        (house.key.token(&claims("cloud")), "its key is not known"),
        (house.cloud.token(&house.claims()), "its key is not known"),
        (house.key.token(&issued), "its audience is another"),
    ] {
        let message = refused_token(&house, &token).await;
        assert!(message.contains(why), "{message}, and not: {why}");
    }
}

#[tokio::test]
async fn what_identified_the_caller_goes_no_further() {
    let house = House::new();
    let (user, module) = (house.token(), house.service_token());
    let by_module = bearer(&module);
    let pair = [
        ("authorization", by_module.as_str()),
        ("x-kombify-user-token", user.as_str()),
        ("x-tenant-id", "home"),
    ];
    let (_, stub) = house.call(&pair).await;
    let inner = stub.last();
    assert!(!inner.headers().contains_key("authorization"));
    assert!(!inner.headers().contains_key("x-kombify-user-token"));
    assert_eq!(inner.headers()["x-tenant-id"], "home");
    let context = inner.extensions().get::<Context>().unwrap();
    assert_eq!(context.request_id.as_str(), REQUEST_ID);
    assert_eq!((context.ip.as_str(), context.user_agent.as_str()), (ADDRESS, USER_AGENT));
    let told = format!("{context:?} {:?}", inner.extensions().get::<Arc<Caller>>());
    assert!(!told.contains(&user) && !told.contains(&module), "{told}");
}

#[tokio::test]
async fn a_remembered_token_is_refused_once_its_key_is_dropped() {
    let house = House::new();
    let (user, module) = (bearer(&house.token()), bearer(&house.service_token()));
    let other = Key::ed("issuer-2");
    for credential in [user.as_str(), module.as_str()] {
        accepted(&house, &[("authorization", credential)]).await;
    }
    house.issuer.publish(&[&other]);
    house.mesh.publish_of(&[(&house.stack, "stack")]);
    house.issuer_keys.refresh().await.unwrap();
    house.mesh_keys.refresh().await.unwrap();
    for credential in [user.as_str(), module.as_str()] {
        let message = refused(&house, &[("authorization", credential)]).await;
        assert!(message.contains("its key is not known"), "{message}");
    }
}

#[tokio::test]
async fn a_remembered_token_is_refused_once_it_expires() {
    let house = House::new();
    for (token, lifetime) in [(house.token(), 900), (house.service_token(), 60)] {
        let credential = bearer(&token);
        let begun = house.now();
        for age in [0, lifetime / 2, lifetime + CLOCK_SKEW_SECONDS - 1] {
            house.clock.advance(begun + age - house.now());
            accepted(&house, &[("authorization", credential.as_str())]).await;
        }
        house.clock.advance(1);
        let message = refused(&house, &[("authorization", credential.as_str())]).await;
        assert!(message.contains("it has expired"), "{message}");
        house.clock.advance(begun - house.now());
    }
}

#[tokio::test]
async fn methods_of_others_know_no_callers() {
    let (house, stub) = (House::new(), Stub::ok());
    let response =
        send(house.identify(), &stub, with(request(HEALTH), "authorization", "Bearer garbage")).await;
    assert_eq!(code(&response), None);
    assert!(stub.last().extensions().get::<Arc<Caller>>().is_none());
}

#[tokio::test]
async fn a_request_that_came_past_the_outer_rooms_is_our_fault() {
    let (house, stub) = (House::new(), Stub::ok());
    let mut request = request(GET_USER);
    request.extensions_mut().remove::<RequestId>();
    let response = send(house.identify(), &stub, request).await;
    assert_eq!((code(&response), stub.reached()), (Some(Code::InternalError), 0));
}

#[tokio::test]
async fn the_log_learns_who_called() {
    let house = House::new();
    let (user, module) = (bearer(&house.token()), bearer(&house.service_token()));
    for (credential, logged) in [
        (user.as_str(), Some("ada")),
        (module.as_str(), Some("service:cloud/local")),
        ("Bearer garbage", None),
    ] {
        let (response, _) = house.call(&[("authorization", credential)]).await;
        assert_eq!(response.extensions().get::<LoggedCaller>().map(|caller| caller.0.as_str()), logged);
    }
    let (response, _) = house.call(&[]).await;
    assert!(response.extensions().get::<LoggedCaller>().is_none());
}

#[tokio::test]
async fn the_directory_adds_what_the_token_does_not_say() {
    let mut house = House::new();
    house.directory = Arc::new(Known(Some(Standing {
        plan: Some(Plan::Enterprise),
        memberships: Memberships::new(vec![membership("home", 1, TenantRole::Member)]),
        email: Some("mirror@example.com".to_owned()),
        name: Some("Mirror".to_owned()),
        revocation: None,
    })));
    let claims = changed(house.claims(), "name", json!("Ada"));
    let claims =
        changed(claims, "urn:zitadel:iam:org:project:roles", json!({"subscriber_pro": {"1": "acme"}}));
    let credential = bearer(&house.key.token(&claims));
    let caller = accepted(&house, &[("authorization", credential.as_str())]).await;
    let user = caller.user().unwrap();
    assert_eq!((user.name.as_deref(), user.email.as_deref()), (Some("Ada"), Some("mirror@example.com")));
    assert_eq!(caller.plan(), Plan::Enterprise, "the platform's plan decides, not the role");
    assert!(caller.enter("home", TenantRole::Member).is_ok());

    let house = House::new();
    let credential = bearer(&house.key.token(&claims));
    let caller = accepted(&house, &[("authorization", credential.as_str())]).await;
    assert_eq!(caller.plan(), Plan::Pro, "where no plan is known, the role decides");
}

#[tokio::test]
async fn a_user_whose_standing_cannot_be_asked_is_told_to_come_back() {
    let mut house = House::new();
    house.directory = Arc::new(Known(None));
    let (response, stub) = house.call(&[("authorization", bearer(&house.token()).as_str())]).await;
    assert_eq!((code(&response), stub.reached()), (Some(Code::ServiceUnavailable), 0));
}

#[tokio::test]
async fn a_token_that_no_key_can_verify_yet_is_told_to_come_back() {
    let house = House::new();
    house.issuer.fail(true);
    let (response, stub) = house.call(&[("authorization", bearer(&house.token()).as_str())]).await;
    assert_eq!((code(&response), stub.reached()), (Some(Code::ServiceUnavailable), 0));
    assert!(fault(&response).retry_after.is_some());
}

/// One session, `ses_good`, of `ada` for the tenant "home".
struct OneSession;

#[async_trait]
impl Sessions for OneSession {
    async fn find(&self, token: &str) -> Result<Option<SessionUser>> {
        let session = SessionUser { user: user("ada", &[]), tenant: tenant_id(1) };
        Ok((token == "ses_good").then_some(session))
    }

    fn cookie(&self) -> &'static str {
        "kombify_session"
    }

    fn origin(&self) -> &'static str {
        "http://localhost:8080"
    }
}

fn with_sessions() -> House {
    let mut house = House::new();
    house.sessions = Some(Arc::new(OneSession));
    house.directory = Arc::new(Known(Some(Standing {
        memberships: Memberships::new(vec![
            membership("home", 1, TenantRole::Member),
            membership("other", 2, TenantRole::Admin),
        ]),
        ..Standing::default()
    })));
    house
}

#[tokio::test]
async fn a_session_is_good_for_its_one_tenant() {
    let house = with_sessions();
    let origin = ("origin", "http://localhost:8080");
    for headers in
        [&[("authorization", "Bearer ses_good")][..], &[("cookie", "a=b; kombify_session=ses_good"), origin]]
    {
        let caller = accepted(&house, headers).await;
        assert_eq!(caller.user().unwrap().sub.as_str(), "ada");
        let slugs: Vec<_> = caller.memberships().iter().map(|membership| membership.slug.as_str()).collect();
        assert_eq!(slugs, ["home"], "{headers:?}");
    }
    let ended = refused(&house, &[("authorization", "Bearer ses_ended")]).await;
    assert!(ended.contains("has ended"), "{ended}");
}

#[tokio::test]
async fn a_session_stands_alone_and_its_cookie_comes_from_an_own_page() {
    let house = with_sessions();
    let token = bearer(&house.key.token(&house.claims()));
    let cookie = ("cookie", "kombify_session=ses_good");
    let own = ("origin", "http://localhost:8080");
    for headers in [
        &[cookie][..],
        &[cookie, ("origin", "null")],
        &[cookie, ("origin", "http://localhost:3000")],
        &[cookie, own, ("authorization", token.as_str())],
        &[cookie, own, ("authorization", "Bearer ses_good")],
        &[cookie, own, ("x-kombify-user-token", "x")],
        &[("authorization", "Bearer ses_good"), ("x-kombify-user-token", "x")],
        &[("cookie", "kombify_session=ses_good; kombify_session=ses_good"), own],
    ] {
        refused(&house, headers).await;
    }
    let without = House::new();
    refused(&without, &[("authorization", "Bearer ses_good")]).await;
    assert!(
        !accepted(&without, &[cookie, own]).await.is_known(),
        "a cookie is nothing to a module without sessions"
    );
}

#[tokio::test]
async fn a_sign_in_before_the_revocation_counts_no_more() {
    let mut house = House::new();
    let now = house.now();
    let revoke = |seconds: i64, locked: bool| {
        let time = jiff::Timestamp::from_second(seconds).unwrap();
        let revocation = Some(Revocation { time, locked });
        Arc::new(Known(Some(Standing { revocation, ..Standing::default() })))
    };
    let signed_in = |seconds: i64| changed(house.claims(), "auth_time", json!(seconds));
    let (before, after) = (house.key.token(&signed_in(now - 100)), house.key.token(&signed_in(now - 10)));
    let (before, after) = (bearer(&before), bearer(&after));
    house.directory = revoke(now - 50, false);
    assert!(refused(&house, &[("authorization", before.as_str())]).await.contains("was ended"));
    accepted(&house, &[("authorization", after.as_str())]).await;
    house.directory = revoke(now - 50, true);
    assert!(refused(&house, &[("authorization", after.as_str())]).await.contains("is locked"));
}
