//! The story: a user signs in, sees the own profile, gets a tenant; the platform's people operate; everything lasts.

mod drain;
mod failpoints;
mod lasting;
mod operate;
mod ports;
mod profile;
mod provider;
mod sign_in;
mod tenant;

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;

use crate::house::{House, Module};

/// How long what is written by a queue may take to be there.
const QUEUED_WITHIN: Duration = Duration::from_secs(5);

/// What a module makes of the caller.
pub async fn whoami(house: &House, module: Module, token: &str) -> Value {
    house.call_at(module, "GET", "/v1/whoami").by(token).send().await.data().clone()
}

/// What a token says, whoever signed it.
fn claims_of(token: &str) -> Value {
    let claims = token.split('.').nth(1).unwrap();
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims).unwrap()).unwrap()
}

/// The newest rows of the audit log; `filter` is empty or begins with `&`.
async fn audit(house: &House, root: &str, filter: &str) -> Vec<Value> {
    let path = format!("/v1/admin/audit?limit=100{filter}");
    house.call("GET", &path).by(root).send().await.list().to_vec()
}

/// The rows of one action that one request left in the audit log, as soon as there are any.
async fn audited(house: &House, root: &str, action: &str, request_id: &str) -> Vec<Value> {
    let deadline = tokio::time::Instant::now() + QUEUED_WITHIN;
    loop {
        let mut rows = audit(house, root, &format!("&action={action}")).await;
        rows.retain(|row| row["requestId"] == request_id);
        if !rows.is_empty() || tokio::time::Instant::now() > deadline {
            return rows;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Every thing of a list, page by page of `limit`.
async fn pages(house: &House, token: &str, path: &str, limit: usize) -> Vec<Value> {
    let mut all = Vec::new();
    let mut cursor = String::new();
    loop {
        let separator = if path.contains('?') { '&' } else { '?' };
        let next = if cursor.is_empty() { String::new() } else { format!("&cursor={cursor}") };
        let answer =
            house.call("GET", &format!("{path}{separator}limit={limit}{next}")).by(token).send().await;
        let part = answer.list();
        assert_eq!(answer.json["meta"]["limit"], limit);
        assert!(part.len() <= limit, "{}", answer.text);
        all.extend_from_slice(part);
        answer.json["meta"]["nextCursor"].as_str().unwrap().clone_into(&mut cursor);
        if cursor.is_empty() {
            return all;
        }
        assert_eq!(part.len(), limit, "only the last page is short: {}", answer.text);
    }
}
