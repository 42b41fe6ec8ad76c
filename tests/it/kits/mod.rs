//! StackKits: the registry as its callers use it, the stacks that are made of kits, and the commands of an author.

mod commands;
mod download;
mod gate;
mod pages;
mod shape;
mod sources;
mod stacks;

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::house::House;

/// The directory with the kits that we ship.
fn ours() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("kits")
}

/// The spec of a kit to start from.
fn default_spec(kit: &str) -> String {
    fs::read_to_string(ours().join(kit).join("default-spec.yaml")).unwrap()
}

/// Asks for the verdict on a spec.
async fn validate(house: &House, token: &str, kit: &str, spec: &str) -> Value {
    let path = format!("/v1/stackkits/{kit}/validate");
    let answer = house.call("POST", &path).by(token).json(&json!({"specYaml": spec})).send().await;
    answer.data().clone()
}

/// The codes of the errors of a verdict, each once.
fn codes(verdict: &Value) -> Vec<&str> {
    let mut codes: Vec<&str> =
        verdict["errors"].as_array().unwrap().iter().map(|error| error["code"].as_str().unwrap()).collect();
    codes.sort_unstable();
    codes.dedup();
    codes
}

/// Copies a kit that we ship to a directory, under another id and with changes in its files.
fn copy(kit: &str, to: &Path, id: &str, change: impl Fn(&str, String) -> String) {
    let mut pending = vec![ours().join(kit)];
    while let Some(dir) = pending.pop() {
        for entry in fs::read_dir(&dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                pending.push(path);
                continue;
            }
            let name = path.strip_prefix(ours().join(kit)).unwrap().to_str().unwrap().to_owned();
            let text = fs::read_to_string(&path).unwrap();
            let text = text
                .replace(&format!("\nid: {kit}\n"), &format!("\nid: {id}\n"))
                .replace(&format!("kit: {kit}\n"), &format!("kit: {id}\n"))
                .replace(&format!("\"const\": \"{kit}\""), &format!("\"const\": \"{id}\""))
                .replace(&format!("kit!:     \"{kit}\""), &format!("kit!:     \"{id}\""));
            let file = to.join(id).join(&name);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, change(&name, text)).unwrap();
        }
    }
}
