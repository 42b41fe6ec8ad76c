//! People sign in at an identity provider that others made, and leave there.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;

use super::until;
use crate::peer::{Browser, Peer};

/// How long the mesh may take to be up.
const UP_WITHIN: Duration = Duration::from_secs(30);

/// How long the end of a session at the provider may take to be heard everywhere.
const HEARD_WITHIN: Duration = Duration::from_secs(5);

/// The mesh without its own provider; it ends with the test.
struct Mesh {
    home: TempDir,
    child: Child,
    urls: BTreeMap<String, String>,
}

impl Mesh {
    /// Starts it: it signs people in at `issuer`, and Cloud is where the issuer knows it.
    fn start(issuer: &str, cloud_port: u16) -> Self {
        let home = tempfile::tempdir().unwrap();
        let file = |name: &str| File::create(home.path().join(name)).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_kombify"));
        for (key, _) in std::env::vars_os().filter(|(key, _)| key.to_string_lossy().starts_with("KOMBIFY_")) {
            command.env_remove(key);
        }
        for module in ["ADMIN", "GATEWAY", "STACK"] {
            command.env(format!("KOMBIFY__LISTEN__{module}"), "127.0.0.1:0");
        }
        command
            .env("KOMBIFY__LISTEN__CLOUD", format!("127.0.0.1:{cloud_port}"))
            .env("KOMBIFY__DATA", home.path().join("data"))
            .env("ZITADEL_ISSUER", issuer)
            .args(["run", "--mode", "saas-shared", "--service", "admin,cloud,gateway,stack"])
            .current_dir(home.path())
            .stdin(Stdio::null())
            .stdout(file("out"))
            .stderr(file("err"));
        let child = command.spawn().unwrap();
        let mut mesh = Self { home, child, urls: BTreeMap::new() };
        let deadline = Instant::now() + UP_WITHIN;
        while !mesh.read("out").starts_with("kombify is up") {
            let ended = mesh.child.try_wait().unwrap();
            assert!(ended.is_none() && Instant::now() < deadline, "{ended:?}: {}", mesh.read("err"));
            thread::sleep(Duration::from_millis(10));
        }
        mesh.urls = serde_json::from_str(&mesh.read("data/endpoints.json")).unwrap();
        mesh
    }

    fn page(&self, module: &str) -> String {
        format!("{}/", self.urls[module])
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.home.path().join(name)).unwrap()
    }
}

impl Drop for Mesh {
    fn drop(&mut self) {
        let _ = self.child.kill(); // It may have ended meanwhile.
        let _ = self.child.wait();
        if thread::panicking() {
            let log = fs::read_to_string(self.home.path().join("err")).unwrap_or_default();
            let last: Vec<&str> = log.lines().rev().take(20).collect();
            eprintln!("the mesh's last lines, newest first:\n{}", last.join("\n"));
        }
    }
}

fn user(sub: &str, name: &str) -> Value {
    let organisation = "310000000000000001";
    json!({
        "sub": sub,
        "email": format!("{}@elsewhere.example", name.to_lowercase()),
        "name": name,
        "emailVerified": true,
        "organisation": organisation,
        "roles": {"user": {organisation: "elsewhere.localhost"}},
    })
}

/// Signs in by the provider's page, creates a tenant at Cloud, and opens it.
fn settle(browser: &mut Browser, mesh: &Mesh, issuer: &str, name: &str) {
    let (cloud, stack) = (mesh.page("cloud"), mesh.page("stack"));
    browser.go(&cloud);
    browser.follow("Sign in");
    browser.wait_for_url(issuer);
    browser.fill("Login", &format!("{}@elsewhere.example", name.to_lowercase()));
    browser.press("Sign in");
    browser.wait_for_url(&cloud);
    let who = format!("You are {name} ({}@elsewhere.example).", name.to_lowercase());
    assert!(browser.text("main").contains(&who));
    browser.fill("Slug", &name.to_lowercase());
    browser.fill("Name", name);
    browser.press("Create tenant");
    browser.wait_for("#tenants");
    browser.follow(&format!("Open {}", name.to_lowercase()));
    browser.wait_for_url(&stack);
    assert_eq!(browser.text("header .who"), name);
    assert_eq!(browser.problems(), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_leaves_at_another_provider_has_left_cloud_and_the_stack() {
    let cloud_port = TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port();
    let cloud = format!("http://localhost:{cloud_port}");
    let mut provider = Peer::start("oidc-provider.mjs");
    let started = provider.ask(&json!({
        "clientId": "kombify-cloud",
        "redirectUri": format!("{cloud}/callback"),
        "postLogoutRedirectUri": format!("{cloud}/"),
        "backchannelLogoutUri": format!("{cloud}/backchannel-logout"),
        "audience": "kombify",
        "users": [user("320000000000000001", "Erika"), user("320000000000000002", "Frank")],
    }));
    let issuer = started["issuer"].as_str().unwrap();
    let mesh = Mesh::start(issuer, cloud_port);
    let (cloud, stack) = (mesh.page("cloud"), mesh.page("stack"));
    let mut browser = Browser::open();
    settle(&mut browser, &mesh, issuer, "Erika");
    browser.hand_to_new("frank");
    settle(&mut browser, &mesh, issuer, "Frank");

    browser.hand_to("main");
    browser.go(&format!("{issuer}/session/end"));
    browser.press("Sign out");
    browser.wait_for_url(&format!("{issuer}/session/end/success"));
    until("the Stack's session has ended", HEARD_WITHIN, async || browser.go(&stack) == 401).await;
    let signed_out = async || {
        browser.go(&cloud);
        browser.count("a[href='/sign-in']") == 1
    };
    until("Cloud's session has ended", HEARD_WITHIN, signed_out).await;

    browser.hand_to("frank");
    assert_eq!(browser.go(&stack), 200, "nobody else has left");
    browser.go(&cloud);
    assert_eq!(browser.text("header .who"), "Frank");

    // Signing out at Cloud leads over the provider back to Cloud, and ends the session there.
    browser.press("Sign out");
    browser.wait_for("a[href='/sign-in']");
    assert_eq!(browser.url(), cloud);
    browser.follow("Sign in");
    browser.wait_for_url(issuer);
    assert_eq!(browser.text("h1"), "Sign in", "the provider asks again");
    until("the Stack's session has ended", HEARD_WITHIN, async || browser.go(&stack) == 401).await;
}
