//! A Stack that stands alone: one tenant, local accounts, no other module.

use std::fs::{self, File};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::json;
use tempfile::TempDir;

use crate::answer::Call;

/// A Stack of its own, ended with the test.
struct Alone {
    home: TempDir,
    child: Child,
    url: String,
    http: reqwest::Client,
}

impl Alone {
    fn start() -> Self {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default(); // Another test may have been first.
        let home = tempfile::tempdir().unwrap();
        let (child, url) = Self::spawn(&home);
        let http = reqwest::Client::builder()
            .timeout(Duration::from_secs(10))
            .pool_max_idle_per_host(0)
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .unwrap();
        Self { home, child, url, http }
    }

    fn spawn(home: &TempDir) -> (Child, String) {
        let out = File::create(home.path().join("out")).unwrap();
        let err = File::options().create(true).append(true).open(home.path().join("err")).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_kombify"));
        for (key, _) in std::env::vars_os().filter(|(key, _)| key.to_string_lossy().starts_with("KOMBIFY_")) {
            command.env_remove(key);
        }
        command
            .env("KOMBIFY__DATA", home.path().join("data"))
            .env("KOMBIFY__LISTEN__STACK", "127.0.0.1:0")
            .args(["run", "--service", "stack"])
            .stdin(Stdio::null())
            .stdout(out)
            .stderr(err);
        let mut child = command.spawn().unwrap();
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            let said = fs::read_to_string(home.path().join("out")).unwrap();
            if let Some(at) = said.find("http://localhost:") {
                let url: String = said[at..].chars().take_while(|letter| !letter.is_whitespace()).collect();
                return (child, url);
            }
            assert!(child.try_wait().unwrap().is_none() && Instant::now() < deadline, "{said}");
            thread::sleep(Duration::from_millis(10));
        }
    }

    fn password(&self) -> String {
        let said = fs::read_to_string(self.home.path().join("out")).unwrap();
        let line = said.lines().find(|line| line.trim_start().starts_with("admin ")).unwrap();
        line.split_whitespace().last().unwrap().to_owned()
    }

    fn call(&self, verb: &str, path: &str) -> Call {
        let verb = Method::from_bytes(verb.as_bytes()).unwrap();
        Call::new(self.http.request(verb, format!("{}{path}", self.url)))
    }

    async fn sign_in(&self, login: &str, password: &str) -> String {
        let body = json!({"login": login, "password": password});
        let session = self.call("POST", "/v1/sessions").json(&body).send().await;
        session.data()["token"].as_str().unwrap().to_owned()
    }
}

impl Drop for Alone {
    fn drop(&mut self) {
        let _ = self.child.kill(); // It may have ended meanwhile.
        let _ = self.child.wait();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn it_founds_its_tenant_signs_people_in_and_needs_nobody() {
    let mut alone = Alone::start();
    let password = alone.password();
    let admin = alone.sign_in("admin", &password).await;
    let who = alone.call("GET", "/v1/whoami").by(&admin).send().await;
    assert_eq!(who.data()["memberships"][0]["role"], "admin");
    assert_eq!(who.data()["plan"], "enterprise", "the limits of enterprise");
    for name in ["one", "two", "three"] {
        alone.call("POST", "/v1/stacks").by(&admin).json(&json!({"name": name})).send().await.data();
    }
    for (login, password) in [("admin", "wrong"), ("nobody", password.as_str())] {
        let refused = alone.call("POST", "/v1/sessions").json(&json!({"login": login, "password": password}));
        let refused = refused.send().await;
        let error = refused.refused(401, "AUTH_INVALID");
        assert!(error["message"].as_str().unwrap().contains("the login or the password is wrong"));
    }

    let invited =
        alone.call("POST", "/v1/invitations").by(&admin).json(&json!({"role": "viewer"})).send().await;
    let account =
        json!({"code": invited.data()["code"], "login": "vera", "name": "Vera", "password": "long enough"});
    let vera = alone.call("POST", "/v1/accounts").json(&account).send().await;
    let vera = vera.data()["token"].as_str().unwrap().to_owned();
    assert_eq!(alone.call("GET", "/v1/stacks").by(&vera).send().await.list().len(), 3);
    let refused = alone.call("POST", "/v1/stacks").by(&vera).json(&json!({"name": "mine"})).send().await;
    refused.refused(403, "AUTH_INSUFFICIENT");
    let mut again = account.clone();
    again["login"] = "vera-again".into();
    alone.call("POST", "/v1/accounts").json(&again).send().await.refused(404, "NOT_FOUND");

    let change = json!({"password": "long enough", "newPassword": "longer than that"});
    alone.call("POST", "/v1/accounts:changePassword").by(&vera).json(&change).send().await;
    alone.call("GET", "/v1/stacks").by(&vera).send().await.refused(401, "AUTH_INVALID");
    let vera = alone.sign_in("vera", "longer than that").await;
    assert_eq!(alone.call("POST", "/v1/sessions:end").json(&json!({"token": vera})).send().await.status, 200);
    alone.call("GET", "/v1/stacks").by(&vera).send().await.refused(401, "AUTH_INVALID");

    // A session outlives the process, and the password is shown once.
    alone.child.kill().unwrap();
    alone.child.wait().unwrap();
    (alone.child, alone.url) = Alone::spawn(&alone.home);
    assert_eq!(alone.call("GET", "/v1/stacks").by(&admin).send().await.list().len(), 3);
    let said = fs::read_to_string(alone.home.path().join("out")).unwrap();
    assert!(!said.contains("passwords"), "{said}");
    let log = fs::read_to_string(alone.home.path().join("err")).unwrap();
    for secret in [password.as_str(), admin.as_str(), "long enough"] {
        assert!(!log.contains(secret), "a secret is in the log");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn its_pages_sign_in_and_out_and_refuse_forms_of_other_sites() {
    let alone = Alone::start();
    let form = format!("login=admin&password={}", alone.password());
    let post = |path: &str, origin: Option<&str>, form: &str| {
        let call = alone.call("POST", path).raw("application/x-www-form-urlencoded", form.to_owned());
        match origin {
            Some(origin) => call.header("origin", origin),
            None => call,
        }
    };
    for origin in [None, Some("null"), Some("http://evil.example")] {
        assert_eq!(post("/sign-in", origin, &form).send().await.status, 401, "{origin:?}");
    }
    let signed_in = post("/sign-in", Some(&alone.url), &form).send().await;
    assert_eq!((signed_in.status, signed_in.header("location")), (303, "/"));
    let cookie = signed_in.header("set-cookie").split(';').next().unwrap().to_owned();
    let page = alone.call("GET", "/").header("cookie", &cookie).send().await;
    assert!(page.status == 200 && page.text.contains("There is no stack yet"), "{}", page.text);
    assert!(page.header("content-security-policy").starts_with("default-src 'none'"));
    let made = post("/stacks", Some(&alone.url), "name=media&spec_yaml=a%3A+1")
        .header("cookie", &cookie)
        .send()
        .await;
    assert_eq!(made.status, 303, "{}", made.text);
    let wrong =
        post("/stacks", Some(&alone.url), "name=Media&spec_yaml=").header("cookie", &cookie).send().await;
    assert!(
        wrong.status == 400 && wrong.text.contains("value=\"Media\""),
        "what was typed is kept: {}",
        wrong.text
    );
    // The cookie works for JSON, too; a write names where it comes from.
    let listed = alone.call("GET", "/v1/stacks").header("cookie", &cookie).send().await;
    assert_eq!(listed.list().len(), 1);
    let write = |origin: &str| {
        alone
            .call("POST", "/v1/stacks")
            .header("cookie", &cookie)
            .header("origin", origin)
            .json(&json!({"name": "b"}))
    };
    write("http://evil.example").send().await.refused(401, "AUTH_INVALID");
    write(&alone.url).send().await.data();
    assert_eq!(post("/sign-out", Some(&alone.url), "").header("cookie", &cookie).send().await.status, 303);
    assert_eq!(alone.call("GET", "/").header("cookie", &cookie).send().await.status, 401);
}
