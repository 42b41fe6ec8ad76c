//! A Stack that stands alone: one tenant, local accounts, no other module.

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::task::JoinSet;

use super::until;
use crate::answer::{Answer, Call};

/// The signal that ends a process which aborts.
const SIGABRT: i32 = 6;

/// How long what a start does behind its greeting may take.
const DONE_WITHIN: Duration = Duration::from_secs(10);

/// These tests need a binary that can be told to die.
fn needed() {
    #[cfg(not(feature = "failpoints"))]
    panic!("this test needs the feature failpoints: run `make test`");
}

/// A Stack of its own, ended with the test.
struct Alone {
    home: TempDir,
    child: Child,
    url: String,
    http: reqwest::Client,
}

impl Alone {
    fn start() -> Self {
        Self::start_in(tempfile::tempdir().unwrap())
    }

    fn start_in(home: TempDir) -> Self {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default(); // Another test may have been first.
        let (child, url) = Self::spawn(&home, "");
        let http = reqwest::Client::builder()
            .timeout(Duration::from_secs(10))
            .pool_max_idle_per_host(0)
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .unwrap();
        Self { home, child, url, http }
    }

    /// Ends the process, and starts one that dies at the failpoint.
    fn restart(&mut self, failpoint: &str) {
        let _ = self.child.kill(); // It may have ended meanwhile.
        self.child.wait().unwrap();
        (self.child, self.url) = Self::spawn(&self.home, failpoint);
    }

    fn command(home: &TempDir, failpoint: &str) -> Command {
        let out = File::create(home.path().join("out")).unwrap();
        let err = File::options().create(true).append(true).open(home.path().join("err")).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_kombify"));
        for (key, _) in std::env::vars_os().filter(|(key, _)| key.to_string_lossy().starts_with("KOMBIFY_")) {
            command.env_remove(key);
        }
        command
            .env("KOMBIFY__DATA", home.path().join("data"))
            .env("KOMBIFY__LISTEN__STACK", "127.0.0.1:0")
            .env("KOMBIFY_FAILPOINT", failpoint)
            .args(["run", "--service", "stack"])
            .stdin(Stdio::null())
            .stdout(out)
            .stderr(err);
        command
    }

    fn spawn(home: &TempDir, failpoint: &str) -> (Child, String) {
        let mut child = Self::command(home, failpoint).spawn().unwrap();
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

    fn said(&self) -> String {
        fs::read_to_string(self.home.path().join("out")).unwrap()
    }

    fn password(&self) -> String {
        let said = self.said();
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

    /// The code of a new invitation.
    async fn invite(&self, admin: &str, role: &str) -> String {
        let invited =
            self.call("POST", "/v1/invitations").by(admin).json(&json!({"role": role})).send().await;
        invited.data()["code"].as_str().unwrap().to_owned()
    }

    fn creation(&self, code: &str, login: &str, password: &str) -> Call {
        let name = login.to_uppercase();
        let body = json!({"code": code, "login": login, "name": name, "password": password});
        self.call("POST", "/v1/accounts").json(&body)
    }

    async fn create(&self, code: &str, login: &str, password: &str) -> Answer {
        self.creation(code, login, password).send().await
    }

    /// The members of those names.
    async fn members(&self, admin: &str, name: &str) -> Vec<Value> {
        let listed = self.call("GET", "/v1/members").by(admin).send().await;
        listed.list().iter().filter(|member| member["name"] == name).cloned().collect()
    }
}

/// The file with the first password.
fn first_password(home: &TempDir) -> PathBuf {
    home.path().join("data/stack/first-password")
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
    (alone.child, alone.url) = Alone::spawn(&alone.home, "");
    assert_eq!(alone.call("GET", "/v1/stacks").by(&admin).send().await.list().len(), 3);
    assert!(!alone.said().contains("passwords"), "{}", alone.said());
    let log = fs::read_to_string(alone.home.path().join("err")).unwrap();
    for secret in [password.as_str(), admin.as_str(), "long enough"] {
        assert!(!log.contains(secret), "a secret is in the log");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn its_first_password_is_shown_until_it_surely_was() {
    needed();
    let home = tempfile::tempdir().unwrap();
    let file = first_password(&home);
    for moment in ["before-commit", "after-commit"] {
        let mut dies = Alone::command(&home, &format!("account.created:{moment}"));
        assert_eq!(dies.status().unwrap().signal(), Some(SIGABRT), "{moment}");
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600, "{moment}");
    }
    let kept = fs::read_to_string(&file).unwrap();
    let mut alone = Alone::start_in(home);
    assert_eq!(alone.password(), kept);
    let admin = alone.sign_in("admin", &kept).await;
    until("the file is gone", DONE_WITHIN, async || !file.exists()).await;
    // What a process leaves that dies between the two.
    fs::write(&file, &kept).unwrap();
    alone.restart("");
    assert_eq!(alone.password(), kept);
    until("the file is gone", DONE_WITHIN, async || !file.exists()).await;
    let change = json!({"password": kept, "newPassword": "longer than that"});
    let changed = alone.call("POST", "/v1/accounts:changePassword").by(&admin).json(&change).send().await;
    assert_eq!(changed.status, 200, "{}", changed.text);
    fs::write(&file, &kept).unwrap();
    alone.restart("");
    until("the file is gone", DONE_WITHIN, async || !file.exists()).await;
    assert!(!alone.said().contains(&kept), "it is another one by now");
    alone.sign_in("admin", "longer than that").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_code_and_a_login_are_good_however_often_joining_dies() {
    needed();
    let mut alone = Alone::start();
    let admin = alone.sign_in("admin", &alone.password()).await;
    let code = alone.invite(&admin, "viewer").await;
    for failpoint in
        ["account.created:before-commit", "account.created:after-commit", "invitation.accepted:before-commit"]
    {
        alone.restart(failpoint);
        let died = alone.creation(&code, "vera", "long enough").try_send().await;
        assert!(died.is_err(), "{failpoint}: {died:?}");
        assert_eq!(alone.child.wait().unwrap().signal(), Some(SIGABRT), "{failpoint}");
    }
    alone.restart("");
    assert_eq!(alone.members(&admin, "VERA").await, Vec::<Value>::new());
    let body = json!({"login": "vera", "password": "long enough"});
    alone.call("POST", "/v1/sessions").json(&body).send().await.refused(401, "AUTH_INVALID");
    alone.create(&code, "vera", "long and wrong").await.refused(409, "CONFLICT");
    alone.create(&code, "vera", "long enough").await.data();
    alone.create(&code, "vera", "long enough").await.refused(404, "NOT_FOUND");
    // Whoever has joined can sign in.
    let code = alone.invite(&admin, "viewer").await;
    alone.restart("invitation.accepted:after-commit");
    assert!(alone.creation(&code, "wim", "long enough").try_send().await.is_err());
    alone.restart("");
    alone.sign_in("wim", "long enough").await;
    for name in ["VERA", "WIM"] {
        assert_eq!(alone.members(&admin, name).await.len(), 1, "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_login_of_whoever_could_not_join_is_free() {
    let alone = Alone::start();
    let admin = alone.sign_in("admin", &alone.password()).await;
    let used = alone.invite(&admin, "viewer").await;
    alone.create(&used, "vera", "long enough").await.data();
    alone.create(&used, "wim", "long enough").await.refused(404, "NOT_FOUND");
    let code = alone.invite(&admin, "viewer").await;
    alone.create(&code, "vera", "long and wrong").await.refused(409, "CONFLICT");
    alone.create(&code, "wim", "another password").await.data();
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_was_removed_comes_back_by_a_new_invitation_and_the_old_password() {
    let alone = Alone::start();
    let admin = alone.sign_in("admin", &alone.password()).await;
    let code = alone.invite(&admin, "viewer").await;
    let before = alone.create(&code, "vera", "long enough").await;
    let before = before.data()["token"].as_str().unwrap().to_owned();
    let code = alone.invite(&admin, "member").await;
    alone.create(&code, "vera", "long enough").await.refused(409, "CONFLICT"); // A member already.
    let vera = alone.members(&admin, "VERA").await.remove(0);
    let path = format!("/v1/members/{}", vera["sub"].as_str().unwrap());
    assert_eq!(alone.call("DELETE", &path).by(&admin).send().await.status, 200);
    alone.call("GET", "/v1/stacks").by(&before).send().await.refused(401, "AUTH_INVALID");
    let body = json!({"login": "vera", "password": "long enough"});
    alone.call("POST", "/v1/sessions").json(&body).send().await.refused(401, "AUTH_INVALID");
    let wrong = alone.create(&code, "vera", "long and wrong").await;
    let said = wrong.refused(409, "CONFLICT")["message"].as_str().unwrap();
    assert!(said.contains("the login vera is taken"), "{said}");
    let again = alone.create(&code, "vera", "long enough").await;
    let again = again.data()["token"].as_str().unwrap();
    alone.call("POST", "/v1/stacks").by(again).json(&json!({"name": "media"})).send().await.data();
    let back = alone.members(&admin, "VERA").await;
    assert_eq!((back.len(), &back[0]["sub"], &back[0]["role"]), (1, &vera["sub"], &json!("member")));
    alone.sign_in("vera", "long enough").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_code_that_is_sent_often_makes_one_member_who_can_sign_in() {
    let alone = Alone::start();
    let admin = alone.sign_in("admin", &alone.password()).await;
    let code = alone.invite(&admin, "viewer").await;
    let mut racers = JoinSet::new();
    for _ in 0..12 {
        racers.spawn(alone.creation(&code, "vera", "long enough").send());
    }
    let answers = racers.join_all().await;
    let (made, refused): (Vec<_>, Vec<_>) = answers.iter().partition(|answer| answer.status == 200);
    assert_eq!(made.len(), 1, "{refused:?}");
    for answer in refused {
        answer.refused(404, "NOT_FOUND");
    }
    alone.sign_in("vera", "long enough").await;
    assert_eq!(alone.members(&admin, "VERA").await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_password_that_is_changed_leaves_no_session_even_if_the_process_dies_of_it() {
    needed();
    let mut alone = Alone::start();
    let password = alone.password();
    let admin = alone.sign_in("admin", &password).await;
    let change = json!({"password": password, "newPassword": "longer than that"});
    for (moment, there) in [("before-commit", true), ("after-commit", false)] {
        alone.restart(&format!("account.password.changed:{moment}"));
        let call = alone.call("POST", "/v1/accounts:changePassword").by(&admin).json(&change);
        assert!(call.try_send().await.is_err(), "{moment}");
        assert_eq!(alone.child.wait().unwrap().signal(), Some(SIGABRT), "{moment}");
        alone.restart("");
        let status = alone.call("GET", "/v1/stacks").by(&admin).send().await.status;
        assert_eq!(status, if there { 200 } else { 401 }, "{moment}");
    }
    alone.sign_in("admin", "longer than that").await;
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
