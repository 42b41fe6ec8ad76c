//! What can be said of compose.yaml as it is written, whatever a spec says.

use super::{named_secrets, used_name};
use crate::manifest::Manifest;
use crate::node::{Node, Value, printable};
use crate::placeholder::{Part, parts};
use crate::problem::{Code, Position, Problem};

/// What a service of a kit may say in compose.yaml.
const SERVICE_KEYS: [&str; 33] = [
    "cap_add",
    "cap_drop",
    "command",
    "cpus",
    "depends_on",
    "devices",
    "dns",
    "entrypoint",
    "environment",
    "expose",
    "extra_hosts",
    "group_add",
    "healthcheck",
    "hostname",
    "image",
    "init",
    "labels",
    "logging",
    "mem_limit",
    "network_mode",
    "networks",
    "ports",
    "read_only",
    "restart",
    "secrets",
    "shm_size",
    "stop_grace_period",
    "stop_signal",
    "tmpfs",
    "ulimits",
    "user",
    "volumes",
    "working_dir",
];

/// What of a service a spec may have a say in. In `image` the only placeholder is that of the kit's own image.
const FILLED_KEYS: [&str; 15] = [
    "command",
    "cpus",
    "devices",
    "dns",
    "environment",
    "extra_hosts",
    "healthcheck",
    "hostname",
    "image",
    "labels",
    "mem_limit",
    "ports",
    "shm_size",
    "stop_grace_period",
    "volumes",
];

/// What can be said of compose.yaml as it is written, whatever a spec says: which keys there are, where a placeholder may
/// stand, and that every name leads somewhere.
pub(crate) fn check(compose: &Node, manifest: &Manifest) -> Vec<Problem> {
    let mut problems = Vec::new();
    let mut tell = |code, at: Position, path: String, message: String| {
        problems.push(Problem::new(code, at, path, message));
    };
    for (kind, keys) in [("volumes", &[][..]), ("networks", &["ipam", "internal"]), ("secrets", &["file"])] {
        for entry in compose.get(kind).map(Node::entries).unwrap_or_default() {
            for key in entry.value.entries().iter().filter(|key| !keys.contains(&key.key.as_str())) {
                let message = match kind {
                    "volumes" => "may not stand here: a volume is one of Docker's own".to_owned(),
                    _ => format!("may not stand here: of its {kind} a kit says {} alone", keys.join(" and ")),
                };
                tell(Code::UnknownField, key.key_at, format!("{kind}.{}.{}", entry.key, key.key), message);
            }
        }
    }
    let there = |kind: &str, name: &str| compose.find(&[kind, name]).is_some();
    for entry in compose.get("secrets").map(Node::entries).unwrap_or_default() {
        let file = entry.value.get("file");
        let parts = file.and_then(Node::as_str).map(parts);
        let is_of_spec = matches!(parts.as_ref().map(|parts| parts.as_deref()), Some(Ok([Part::Value(name)])) if name.starts_with("spec."));
        if !is_of_spec {
            let at = file.map_or(entry.key_at, |file| file.at);
            let message =
                "must be the placeholder of a setting that names a secret, and nothing else".to_owned();
            tell(Code::ConstraintViolation, at, format!("secrets.{}.file", entry.key), message);
        }
    }
    for entry in compose.get("services").map(Node::entries).unwrap_or_default() {
        let path = format!("services.{}", entry.key);
        for key in entry.value.entries() {
            let path = format!("{path}.{}", key.key);
            if !SERVICE_KEYS.contains(&key.key.as_str()) {
                tell(Code::UnknownField, key.key_at, path.clone(), "may not stand in a kit".to_owned());
            } else if !FILLED_KEYS.contains(&key.key.as_str())
                && let Some(at) = placeholder_in(&key.value)
            {
                let message =
                    "is what the kit says, and no spec: a placeholder may not stand here".to_owned();
                tell(Code::ConstraintViolation, at, path.clone(), message);
            }
            if key.key == "labels" && !matches!(key.value.value, Value::Map(_)) {
                let message = format!("must be a mapping, and is {}", key.value.kind());
                tell(Code::InvalidType, key.value.at, path, message);
            }
        }
        if let Some(image) = entry.value.get("image")
            && placeholder_in(image).is_some()
            && !matches!(
                image.as_str().map(parts).as_ref().map(|parts| parts.as_deref()),
                Some(Ok([Part::Value(name)])) if *name == format!("kit.services.{}.image", entry.key)
            )
        {
            let message = format!("must be ${{{{ kit.services.{}.image }}}}", entry.key);
            tell(Code::ConstraintViolation, image.at, format!("{path}.image"), message);
        }
        let ports = entry.value.get("ports").map(Node::items).unwrap_or_default();
        let known = manifest.service(&entry.key).map(|service| service.ports.len());
        if let (Some(known), Some(port)) = (known, known.and_then(|known| ports.get(known))) {
            let message = format!("is one of {} ports, and kit.yaml has {known}", ports.len());
            tell(Code::ConstraintViolation, port.at, format!("{path}.ports"), message);
        }
        let depends_on = entry.value.get("depends_on");
        let names = depends_on.map(Node::items).unwrap_or_default().iter();
        let names = names.filter_map(|item| Some((item.as_str()?, item.at)));
        let keys = depends_on.map(Node::entries).unwrap_or_default().iter();
        for (name, at) in names.chain(keys.map(|entry| (entry.key.as_str(), entry.key_at))) {
            if !there("services", name) {
                let message = format!("there is no service `{}`", printable(name));
                tell(Code::UnknownService, at, format!("{path}.depends_on"), message);
            }
        }
        for item in entry.value.get("secrets").map(Node::items).unwrap_or_default() {
            if let Some(name) = used_name(item).filter(|name| !there("secrets", name)) {
                let message = format!("a service uses `{}`, which is missing here", printable(&name));
                tell(Code::Required, item.at, format!("secrets.{name}"), message);
            }
        }
        let environment = entry.value.get("environment");
        let values = environment.map(Node::entries).unwrap_or_default().iter().map(|entry| &entry.value);
        for value in values.chain(environment.map(Node::items).unwrap_or_default()) {
            for name in value.as_str().into_iter().flat_map(named_secrets) {
                if !there("secrets", name) {
                    let message = format!("there is no secret `{name}`");
                    tell(Code::Required, value.at, format!("{path}.environment"), message);
                }
            }
        }
    }
    problems
}

/// Where the first placeholder stands.
fn placeholder_in(node: &Node) -> Option<Position> {
    if node.as_str().is_some_and(|text| text.contains("${{")) {
        return Some(node.at);
    }
    let values = node.entries().iter().map(|entry| &entry.value);
    node.items().iter().chain(values).find_map(placeholder_in)
}
