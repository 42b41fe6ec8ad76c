//! The Stack, as its people and the platform's use it: work, invitations, flags, the life of a tenant, health, locks, and
//! what stays when something is away or dies.

mod alone;
mod away;
mod backup;
pub mod browser;
mod flags;
mod health;
mod kills;
mod life;
mod lock;
mod members;
mod provider;
mod sso;
mod strangers;
mod work;

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use crate::answer::Answer;
use crate::house::{House, Module};

/// How long what is handed over may take to be there.
pub const HANDED_WITHIN: Duration = Duration::from_secs(10);

/// Creates a tenant, which is active when it is answered.
pub async fn tenant(house: &House, token: &str, slug: &str) -> Value {
    let body = json!({"slug": slug, "name": slug});
    let created = house.call("POST", "/v1/tenants").by(token).json(&body).send().await;
    assert_eq!(created.data()["status"], "active", "{}", created.text);
    created.data().clone()
}

/// Creates a stack in the caller's only tenant.
async fn stack(house: &House, token: &str, name: &str) -> Answer {
    house.call("POST", "/v1/stacks").by(token).json(&json!({"name": name})).send().await
}

/// The moment, in seconds since 1970.
pub fn now() -> i64 {
    use kombify_core::Clock as _;
    kombify_mesh::system::SystemClock.now().as_second()
}

/// The instance named `local`, as Admin sees it.
pub async fn instance(house: &House, root: &str) -> Value {
    let listed = house.call("GET", "/v1/admin/instances").by(root).send().await;
    listed.list().iter().find(|instance| instance["name"] == "local").unwrap().clone()
}

/// How Admin sees the Stack of the instance `local`.
async fn status_of_stack(house: &House, root: &str) -> Value {
    let listed = house.call("GET", "/v1/admin/status").by(root).send().await;
    listed.list().iter().find(|module| module["instanceName"] == "local").unwrap().clone()
}

/// The tenants that have a file in that data of a Stack.
fn files(stack: &Path) -> BTreeSet<String> {
    let paths = fs::read_dir(stack.join("tenants")).unwrap().map(|entry| entry.unwrap().path());
    let databases = paths.filter(|path| path.extension() == Some(OsStr::new("db")));
    databases.map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned()).collect()
}

/// Looks again and again until `look` says that it is so.
pub async fn until(what: &str, within: Duration, mut look: impl AsyncFnMut() -> bool) {
    let deadline = tokio::time::Instant::now() + within;
    while !look().await {
        assert!(tokio::time::Instant::now() < deadline, "{what}: not within {within:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Invites the user of `guest` into the only tenant of `host`, and accepts for the guest.
async fn join(house: &House, host: &str, guest: &str, role: &str) -> Value {
    let invited = house.call("POST", "/v1/invitations").by(host).json(&json!({"role": role})).send().await;
    let code = invited.data()["code"].clone();
    let accepted =
        house.call("POST", "/v1/invitations:accept").by(guest).json(&json!({"code": code})).send().await;
    accepted.data().clone()
}

/// Whether the module answers at all.
async fn answers(house: &House, module: Module) -> bool {
    house.call_at(module, "GET", "/ready").try_send().await.is_ok_and(|answer| answer.status == 200)
}
