//! Every module on its own port: reflection, health, metrics, and the log of them all.

use std::collections::BTreeMap;

use kombify_contracts::Method;
use kombify_contracts::kombify::contract::v1::Door;
use serde_json::{Value, json};

use crate::browser::{Account, sign_up};
use crate::house::{House, Module};

/// What each port lists, beside health.
const SERVICES: [(Module, &[&str]); 6] = [
    (
        Module::Gateway,
        &[
            "kombify.audit.v1.AuditService",
            "kombify.cloud.v1.ProfileService",
            "kombify.flags.v1.FlagService",
            "kombify.health.v1.HealthService",
            "kombify.identity.v1.IdentityService",
            "kombify.kits.v1.KitService",
            "kombify.stack.v1.AccountService",
            "kombify.stack.v1.ActivityService",
            "kombify.stack.v1.EvaluationService",
            "kombify.stack.v1.MemberService",
            "kombify.stack.v1.StackService",
            "kombify.tenancy.v1.InstanceService",
            "kombify.tenancy.v1.OrganisationService",
            "kombify.tenancy.v1.TenantService",
            "kombify.users.v1.UserService",
        ],
    ),
    (
        Module::Admin,
        &[
            "kombify.audit.v1.AuditService",
            "kombify.flags.v1.FlagService",
            "kombify.health.v1.HealthService",
            "kombify.identity.v1.IdentityService",
            "kombify.identity.v1.RevocationService",
            "kombify.mesh.v1.KeyService",
            "kombify.sso.v1.LaunchService",
            "kombify.tenancy.v1.InstanceService",
            "kombify.tenancy.v1.OrganisationService",
            "kombify.tenancy.v1.TenantReportService",
            "kombify.tenancy.v1.TenantService",
            "kombify.users.v1.UserService",
        ],
    ),
    (
        Module::Cloud,
        &[
            "kombify.cloud.v1.ProfileService",
            "kombify.identity.v1.IdentityService",
            "kombify.identity.v1.RevocationSyncService",
        ],
    ),
    (
        Module::Stack,
        &[
            "kombify.flags.v1.FlagSyncService",
            "kombify.identity.v1.IdentityService",
            "kombify.identity.v1.RevocationSyncService",
            "kombify.sso.v1.SsoService",
            "kombify.stack.v1.AccountService",
            "kombify.stack.v1.ActivityService",
            "kombify.stack.v1.EvaluationService",
            "kombify.stack.v1.MemberService",
            "kombify.stack.v1.StackService",
            "kombify.tenancy.v1.TenantSyncService",
        ],
    ),
    (
        Module::Kits,
        &[
            "kombify.identity.v1.IdentityService",
            "kombify.identity.v1.RevocationSyncService",
            "kombify.kits.v1.KitService",
            "kombify.tenancy.v1.OrganisationSyncService",
        ],
    ),
    (Module::Idp, &[]),
];

#[tokio::test(flavor = "multi_thread")]
async fn every_port_lists_describes_and_answers_its_own_services() {
    let house = House::up();
    let (alice, root) = (house.token("alice"), house.token("root"));
    for (module, services) in SERVICES {
        let listed = house.grpcurl(module, &[], &["list"]);
        let mut expected = vec!["grpc.health.v1.Health"];
        expected.extend(services);
        assert_eq!(listed.lines(), expected, "{}", module.name());
        for service in services.iter().chain([&""]) {
            let health = house.rpc(module, None, "grpc.health.v1.Health/Check", &json!({"service": service}));
            assert_eq!(health.json(), json!({"status": "SERVING"}), "{service} at {}", module.name());
        }
        for service in services {
            let described = house.grpcurl(module, &[], &["describe", service]);
            let text = described.lines().join("\n");
            assert!(text.starts_with(&format!("{service} is a service:")), "{text}");
            assert!(
                text.contains("option (.kombify.contract.v1.access)"),
                "the contract comes along: {text}"
            );
        }
    }
    let user = house.grpcurl(Module::Admin, &[], &["describe", "kombify.users.v1.UserService"]);
    assert!(user.text.contains("rpc GetUser ( .kombify.users.v1.GetUserRequest )"), "{}", user.text);
    let message = house.grpcurl(Module::Cloud, &[], &["describe", "kombify.users.v1.UserUpdate"]);
    assert!(message.text.contains("optional string display_name = 1"), "{}", message.text);

    for (module, token, method) in [
        (Module::Gateway, &alice, "kombify.tenancy.v1.TenantService/ListTenants"),
        (Module::Admin, &root, "kombify.users.v1.UserService/ListUsers"),
        (Module::Cloud, &alice, "kombify.cloud.v1.ProfileService/GetProfile"),
    ] {
        let answer = house.rpc(module, Some(token), method, &json!({}));
        assert!(!answer.json()["data"].is_null(), "{method}");
        house.rpc(module, None, method, &json!({})).refused(16, "Unauthenticated");
    }
    let elsewhere =
        house.rpc(Module::Cloud, Some(&root), "kombify.users.v1.UserService/ListUsers", &json!({}));
    elsewhere.refused(12, "Unimplemented");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_gateway_routes_what_is_public_and_nothing_else() {
    let house = House::up();
    let root = house.token("root");
    let is_public =
        |method: &&Method| method.http.as_ref().is_some_and(|http| http.template.starts_with("/v1/"));
    let (public, internal): (Vec<&Method>, Vec<&Method>) =
        kombify_contracts::methods().iter().partition(is_public);
    assert!(public.len() >= 15 && internal.len() >= 5, "{} and {}", public.len(), internal.len());
    for method in internal {
        let answer = house.rpc(Module::Gateway, Some(&root), method.path.trim_start_matches('/'), &json!({}));
        answer.refused(12, "is not served here");
        if let Some(http) = &method.http {
            let path = http.template.replace("{sub}", "1");
            house.call(http.verb, &path).by(&root).send().await.refused(404, "NOT_FOUND");
        }
    }
    for method in public {
        let answer = house.rpc(Module::Gateway, None, method.path.trim_start_matches('/'), &json!({}));
        if method.access.as_ref().is_some_and(|access| access.door() == Door::Public) {
            answer.refused(3, "InvalidArgument");
        } else {
            answer.refused(16, "Unauthenticated");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_port_says_how_it_is() {
    let house = House::up();
    for module in Module::ALL {
        let health = house.call_at(module, "GET", "/health").send().await;
        assert_eq!((health.status, &health.json["status"]), (200, &json!("healthy")), "{}", health.text);
        assert_eq!(health.json["version"], env!("CARGO_PKG_VERSION"));
        let has_store = matches!(module, Module::Admin | Module::Idp | Module::Stack);
        let checks: BTreeMap<String, String> = serde_json::from_value(health.json["checks"].clone()).unwrap();
        assert_eq!(checks.contains_key("database"), has_store, "{}", health.text);
        assert!(checks.values().all(|check| check == "ok"), "{}", health.text);
        assert_eq!(house.call_at(module, "GET", "/ready").send().await.status, 200);
        let metrics = house.call_at(module, "GET", "/metrics").send().await;
        assert_eq!(metrics.status, 200);
        assert!(metrics.text.contains("# TYPE kombify_requests_total counter"), "{}", metrics.text);
        let counted = format!("kombify_requests_total{{service=\"{}\"", module.name());
        assert!(metrics.text.contains(&counted), "{}", metrics.text);
        for path in ["/health", "/ready", "/metrics"] {
            let wrong = house.call_at(module, "DELETE", path).send().await;
            assert_eq!(wrong.status, 405, "{path} at {}", module.name());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_is_json_and_holds_no_secret() {
    let mut house = House::up();
    let mut secrets = Vec::new();
    for user in ["alice", "bob", "carol", "root"] {
        let token = house.token(user);
        for module in [Module::Gateway, Module::Admin, Module::Cloud] {
            house.call_at(module, "GET", "/v1/whoami").by(&token).send().await.data();
        }
        // Where a token does not belong, it must not be written down either.
        let query = house.call("GET", &format!("/v1/users/me?access_token={token}")).by(&token);
        assert_eq!(query.send().await.status, 400);
        house.call("GET", "/v1/whoami").header("authorization", &format!("Basic {token}")).send().await;
        house.call_at(Module::Admin, "GET", "/v1/whoami").header("x-api-key", &token).send().await;
        let tenant = json!({"slug": user, "name": format!("The tenant of {user}")});
        house.call("POST", "/v1/tenants").by(&token).json(&tenant).send().await.data();
        secrets.push(token);
    }
    let account = Account::of("dora");
    let dora = sign_up(house.url(Module::Idp), &account).await;
    house.call("GET", "/v1/whoami").by(&dora.id_token).send().await.refused(401, "AUTH_INVALID");
    let wrong = house.run(&["token", "dora@example.com"], &[("KOMBIFY_PASSWORD", "a-wrong-password")]);
    assert!(!wrong.status.success());
    let right = house.run(&["token", "dora@example.com"], &[("KOMBIFY_PASSWORD", &account.password)]);
    assert!(right.status.success());
    secrets.extend([account.password, "a-wrong-password".to_owned(), dora.access_token, dora.id_token]);
    secrets.extend(dora.secrets);

    let data = house.data();
    let passwords = std::fs::read(data.join("passwords.json")).unwrap();
    let passwords: BTreeMap<String, String> = serde_json::from_slice(&passwords).unwrap();
    secrets.extend(passwords.into_values());
    secrets.push(std::fs::read_to_string(data.join("join/cloud.secret")).unwrap().trim().to_owned());
    for kept in std::fs::read_dir(data.join("tokens")).unwrap() {
        let kept: Value = serde_json::from_slice(&std::fs::read(kept.unwrap().path()).unwrap()).unwrap();
        for name in ["access_token", "refresh_token"] {
            secrets.push(kept[name].as_str().unwrap().to_owned());
        }
    }
    assert!(secrets.len() >= 24 && secrets.iter().all(|secret| secret.len() >= 8), "{}", secrets.len());

    house.restart();
    assert!(house.terminate().success());
    let log = house.log();
    let mut requests = 0;
    for line in log.lines() {
        let fields: Value = serde_json::from_str(line).unwrap_or_else(|cause| panic!("{cause}: {line}"));
        for field in ["timestamp", "level", "message", "service"] {
            assert!(fields[field].as_str().is_some_and(|text| !text.is_empty()), "no {field}: {line}");
        }
        if fields["message"] == "request" {
            requests += 1;
            for field in ["requestId", "traceId", "userId", "method", "path", "status", "durationMs"] {
                assert!(!fields[field].is_null(), "no {field}: {line}");
            }
        }
    }
    assert!(requests >= 40, "only {requests} requests are in the log");
    for secret in &secrets {
        let line = log.lines().find(|line| line.contains(secret.as_str()));
        assert!(line.is_none(), "a secret is in the log: {}", line.unwrap_or_default());
    }
}
