//! Step 1: a user signs up or in at the identity provider, has a token, and every module knows who calls.

use std::collections::BTreeMap;

use aws_lc_rs::signature::Ed25519KeyPair;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};

use super::{claims_of, whoami};
use crate::browser::{Account, sign_up};
use crate::house::{House, Module};

/// The seeded users: login, plan, roles.
const SEEDED: [(&str, &str, &[&str]); 4] = [
    ("root", "free", &["kombisphere_admin", "user"]),
    ("alice", "free", &["user"]),
    ("bob", "pro", &["subscriber_pro", "user"]),
    ("carol", "enterprise", &["subscriber_enterprise", "user"]),
];

#[tokio::test(flavor = "multi_thread")]
async fn every_seeded_user_signs_in_by_the_password_that_up_printed_and_the_token_is_used_again() {
    let house = House::up();
    let passwords = std::fs::read(house.data().join("passwords.json")).unwrap();
    let passwords: BTreeMap<String, String> = serde_json::from_slice(&passwords).unwrap();
    assert_eq!(passwords.keys().collect::<Vec<_>>(), ["alice", "bob", "carol", "root"]);
    let said = house.said();
    for (login, plan, roles) in SEEDED {
        assert!(said.contains(&passwords[login]), "the password of {login} was not printed");
        let token = house.token(login);
        let identity = whoami(&house, Module::Gateway, &token).await;
        assert_eq!(identity["userId"], claims_of(&token)["sub"]);
        assert_eq!(identity["email"], format!("{login}@example.com"));
        assert_eq!(identity["plan"], plan, "{login}");
        assert_eq!(identity["roles"], json!(roles), "{login}");
        assert_eq!(identity["memberships"], json!([]));
        assert_eq!(house.token(login), token, "a token that is still good is used again");
    }
    let unknown = house.run(&["token", "mallory"], &[]);
    assert!(!unknown.status.success());
    assert!(String::from_utf8(unknown.stderr).unwrap().contains("mallory"));
    let wrong = house.run(&["token", "alice@example.com"], &[("KOMBIFY_PASSWORD", "not-her-password")]);
    assert!(!wrong.status.success());
    assert!(wrong.stdout.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_ends_soon_is_refreshed_without_the_password() {
    let mut house = House::fresh().with_env("KOMBIFY__IDP__ACCESS_TOKEN_SECONDS", "60");
    house.start();
    let first = house.token("alice");
    // Without it there is no way to sign in anew.
    std::fs::remove_file(house.data().join("passwords.json")).unwrap();
    assert!(!house.run(&["token", "bob"], &[]).status.success());
    let second = house.token("alice");
    let third = house.token("alice");
    assert_ne!(second, first);
    assert_ne!(third, second);
    for token in [&first, &second, &third] {
        assert_eq!(whoami(&house, Module::Gateway, token).await["email"], "alice@example.com");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_signs_up_at_the_provider_is_known_to_the_mesh_at_once() {
    let house = House::up();
    let account = Account::of("dora");
    let dora = sign_up(house.url(Module::Idp), &account).await;
    let claims = claims_of(&dora.access_token);
    assert_eq!(claims["sub"], dora.sub.as_str());
    assert!(claims["auth_time"].is_i64(), "{claims}");
    for absent in ["email", "email_verified", "name"] {
        assert!(claims.get(absent).is_none(), "an access token has no {absent}: {claims}");
    }
    let identity = whoami(&house, Module::Gateway, &dora.access_token).await;
    assert_eq!(identity["userId"], dora.sub.as_str());
    assert_eq!(identity["email"], account.email.as_str(), "from the mirror of userinfo");
    assert_eq!(identity["name"], account.name);
    assert_eq!((&identity["plan"], &identity["roles"]), (&json!("free"), &json!(["user"])));

    let root = house.token("root");
    let users = house.call("GET", "/v1/admin/users?search=dora").by(&root).send().await;
    assert_eq!(users.list().len(), 1, "{}", users.text);
    assert_eq!(users.list()[0]["sub"], dora.sub.as_str());

    let signed_in = house.run(&["token", &account.email], &[("KOMBIFY_PASSWORD", &account.password)]);
    let token = String::from_utf8(signed_in.stdout).unwrap();
    assert_eq!(whoami(&house, Module::Gateway, token.trim()).await["userId"], dora.sub.as_str());

    let id_token = house.call("GET", "/v1/whoami").by(&dora.id_token).send().await;
    id_token.refused(401, "AUTH_INVALID");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_is_forged_or_of_another_issuer_is_refused_at_every_port() {
    let (house, elsewhere) = (House::up(), House::up());
    let token = house.token("alice");
    let mut wrong = forgeries(&token);
    wrong.push(("another issuer's", elsewhere.token("alice")));
    for module in [Module::Gateway, Module::Admin, Module::Cloud] {
        for (what, forged) in &wrong {
            let answer = house.call_at(module, "GET", "/v1/whoami").by(forged).send().await;
            assert_eq!(answer.status, 401, "{what} at {}", module.name());
            answer.refused(401, "AUTH_INVALID");
            assert!(answer.header("www-authenticate").starts_with("Bearer"), "{what}");
        }
        let nobody = house.call_at(module, "GET", "/v1/whoami").send().await;
        nobody.refused(401, "AUTH_REQUIRED");
        assert_eq!(whoami(&house, module, &token).await["userId"], claims_of(&token)["sub"]);
    }
}

/// What somebody makes of a token without the issuer's key.
fn forgeries(token: &str) -> Vec<(&'static str, String)> {
    let parts: Vec<&str> = token.split('.').collect();
    let [header, claims, signature] = parts[..] else { panic!("a token has three parts") };
    let encode = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let mut another = claims_of(token);
    another["sub"] = "1".into();
    let mut later = claims_of(token);
    later["exp"] = (later["exp"].as_i64().unwrap() + 3600).into();
    let kid = jsonwebtoken::decode_header(token).unwrap().kid;
    let unsigned = json!({"alg": "none", "kid": kid, "typ": "at+jwt"});
    let pkcs8 = Ed25519KeyPair::generate().unwrap().to_pkcs8v1().unwrap();
    let own = Header { kid, ..Header::new(Algorithm::EdDSA) };
    let nobody = Header { kid: Some("nobody".to_owned()), ..Header::new(Algorithm::EdDSA) };
    let key = EncodingKey::from_ed_der(pkcs8.as_ref());
    let by = |header: &Header| jsonwebtoken::encode(header, &claims_of(token), &key).unwrap();
    vec![
        ("another user's claims", format!("{header}.{}.{signature}", encode(&another))),
        ("a longer life", format!("{header}.{}.{signature}", encode(&later))),
        ("a cut signature", format!("{header}.{claims}.{}", &signature[..signature.len() - 4])),
        ("no signature", format!("{}.{claims}.", encode(&unsigned))),
        ("another key under the same name", by(&own)),
        ("a key that nobody knows", by(&nobody)),
        ("no token at all", "token".to_owned()),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_client_says_of_itself_changes_nothing() {
    let house = House::up();
    let (alice, root) = (house.token("alice"), house.token("root"));
    for module in [Module::Gateway, Module::Admin, Module::Cloud] {
        let plain = whoami(&house, module, &alice).await;
        assert_eq!(plain["userId"], claims_of(&alice)["sub"]);
        let forged = house
            .call_at(module, "GET", "/v1/whoami")
            .by(&alice)
            .header("x-user-id", "1")
            .header("x-user-email", "root@example.com")
            .header("x-user-name", "Root")
            .header("x-user-roles", "kombisphere_admin,admin")
            .header("x-org-id", "310000000000000002")
            .header("x-subscription-plan", "enterprise")
            .send()
            .await;
        assert_eq!(forged.data(), &plain, "{}", module.name());
    }
    let admin = house
        .call("GET", "/v1/admin/users")
        .by(&alice)
        .header("x-user-roles", "kombisphere_admin")
        .header("x-kombify-user-token", &root)
        .send()
        .await;
    admin.refused(403, "AUTH_INSUFFICIENT");

    // Only a module has a user's token beside its own: the gateway takes it away, a module refuses the two.
    let beside =
        |module| house.call_at(module, "GET", "/v1/whoami").by(&alice).header("x-kombify-user-token", &root);
    assert_eq!(beside(Module::Gateway).send().await.data()["userId"], claims_of(&alice)["sub"]);
    beside(Module::Admin).send().await.refused(401, "AUTH_INVALID");
    beside(Module::Cloud).send().await.refused(401, "AUTH_INVALID");
    for module in [Module::Gateway, Module::Admin, Module::Cloud] {
        let alone = house.call_at(module, "GET", "/v1/whoami").header("x-kombify-user-token", &root);
        assert_eq!(alone.send().await.status, 401, "{}", module.name());
        let named = house.call_at(module, "GET", "/v1/whoami").header("x-user-id", "1");
        named.send().await.refused(401, "AUTH_REQUIRED");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_module_tells_on_its_own_port_what_it_makes_of_the_caller() {
    let house = House::up();
    let alice = house.token("alice");
    for (module, email) in
        [(Module::Gateway, "alice@example.com"), (Module::Admin, "alice@example.com"), (Module::Cloud, "")]
    {
        let json = whoami(&house, module, &alice).await;
        assert_eq!(json["email"], email, "an access token has none, and only Admin has a mirror");
        let grpc = house.rpc(module, Some(&alice), "kombify.identity.v1.IdentityService/WhoAmI", &json!({}));
        assert_eq!(grpc.json()["data"], json, "{}", module.name());
        let nobody = house.rpc(module, None, "kombify.identity.v1.IdentityService/WhoAmI", &json!({}));
        nobody.refused(16, "Unauthenticated");
    }
    assert_eq!(house.call_at(Module::Idp, "GET", "/v1/whoami").by(&alice).send().await.status, 404);
}
