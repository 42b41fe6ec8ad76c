//! From compose.yaml and a spec to the Compose file of a stack. Source: <https://compose-spec.io>.

pub(crate) mod chosen;
pub(crate) mod services;
pub(crate) mod written;

use std::cell::Cell;
use std::collections::BTreeSet;

use crate::node::{Entry, Node, Path, Value};
use crate::placeholder::{Part, Values, parts};
use crate::problem::{Code, Problem};
use crate::rules::Spec;

/// How many bytes of a file may come from a spec: a long value may stand in many places.
const FILLED_MAX_BYTES: usize = 1024 * 1024;

/// Which services are taken into the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Which {
    /// Those that the spec switches on.
    Enabled,
    /// All: to look at what the kit says of each.
    All,
}

/// The Compose file that `spec` makes of `compose`.
///
/// # Errors
/// - what cannot be filled in.
pub(crate) fn render(compose: &Node, spec: &Spec<'_>, which: Which) -> Result<Node, Problem> {
    let nodes = spec.nodes();
    let manifest = spec.manifest;
    let values = Values { manifest, spec, nodes: &nodes, bytes_left: Cell::new(FILLED_MAX_BYTES) };
    let filled = fill(compose, &values, &Path::default())?;
    let mut file = filled.unwrap_or_else(|| compose.clone());
    let taken: BTreeSet<&str> = match which {
        Which::Enabled => spec.enabled_names(),
        Which::All => manifest.services.iter().map(|service| service.name.as_str()).collect(),
    };
    if let Some(services) = map_mut(&mut file, "services") {
        // What the kit does not have stays to be told.
        services.retain(|entry| which == Which::All || taken.contains(entry.key.as_str()));
        for entry in services {
            depend_on(&mut entry.value, &taken);
            let service = manifest.service(&entry.key);
            let role = service.map(|service| service.role);
            let node = role.and_then(|role| Spec::node_of(&nodes, role)).map_or("", |node| node.name);
            let stack = spec.root.get("name").and_then(Node::as_str).unwrap_or_default();
            label(
                &mut entry.value,
                [
                    ("io.kombify.kit", manifest.id.clone()),
                    ("io.kombify.version", manifest.version.to_string()),
                    ("io.kombify.stack", stack.to_owned()),
                    ("io.kombify.service", entry.key.clone()),
                    ("io.kombify.node", node.to_owned()),
                ],
            );
        }
    }
    prune(&mut file);
    Ok(file)
}

/// The node with its placeholders filled in; `None`: something in it has no value, so that it is left out.
fn fill(node: &Node, values: &Values<'_>, path: &Path) -> Result<Option<Node>, Problem> {
    let value = match &node.value {
        Value::Text { text, plain } => return fill_text(node, text, *plain, values, path),
        Value::List(items) => {
            let mut filled = Vec::with_capacity(items.len());
            for (index, item) in items.iter().enumerate() {
                filled.extend(fill(item, values, &path.index(index))?);
            }
            Value::List(filled)
        }
        Value::Map(entries) => {
            let mut filled = Vec::with_capacity(entries.len());
            for entry in entries {
                if let Some(value) = fill(&entry.value, values, &path.key(&entry.key))? {
                    filled.push(Entry { key: entry.key.clone(), key_at: entry.key_at, value });
                }
            }
            Value::Map(filled)
        }
        Value::Null | Value::Bool(_) | Value::Int(_) | Value::Float(_) => node.value.clone(),
    };
    Ok(Some(Node { value, at: node.at }))
}

fn fill_text(
    node: &Node,
    text: &str,
    plain: bool,
    values: &Values<'_>,
    path: &Path,
) -> Result<Option<Node>, Problem> {
    let problem = |message: String| Problem::new(Code::InvalidFormat, node.at, path.to_string(), message);
    let parts = parts(text).map_err(problem)?;
    let value_of = |name: &str| match values.get(name) {
        Some(value) if !is_scalar(&value) => {
            Err(problem(format!("takes one value, and `{name}` is {}", value.kind())))
        }
        Some(value) if values.take_room(&value).is_none() => {
            Err(problem(format!("is more than the {FILLED_MAX_BYTES} bytes that a spec may fill in")))
        }
        value => Ok(value),
    };
    if let ([Part::Value(name)], true) = (parts.as_slice(), plain) {
        return Ok(value_of(name)?.map(|value| Node { value: value.value, at: node.at }));
    }
    let mut filled = String::new();
    for part in parts {
        match part {
            Part::Text(text) => filled.push_str(text),
            Part::Value(name) => {
                let Some(value) = value_of(name)? else { return Ok(None) };
                match value.as_str() {
                    Some(text) => filled.push_str(text),
                    None => filled.push_str(&value.to_json().to_string()),
                }
            }
        }
    }
    Ok(Some(Node { value: Value::Text { text: filled, plain }, at: node.at }))
}

fn is_scalar(node: &Node) -> bool {
    !matches!(node.value, Value::List(_) | Value::Map(_))
}

fn map_mut<'a>(node: &'a mut Node, key: &str) -> Option<&'a mut Vec<Entry>> {
    let Value::Map(entries) = &mut node.value else { return None };
    let entry = entries.iter_mut().find(|entry| entry.key == key)?;
    if let Value::Map(inner) = &mut entry.value.value { Some(inner) } else { None }
}

/// Takes out what is not there: both forms of `depends_on` are known.
fn depend_on(service: &mut Node, taken: &BTreeSet<&str>) {
    let Value::Map(entries) = &mut service.value else { return };
    for entry in entries.iter_mut().filter(|entry| entry.key == "depends_on") {
        match &mut entry.value.value {
            Value::List(items) => items.retain(|item| item.as_str().is_some_and(|name| taken.contains(name))),
            Value::Map(entries) => entries.retain(|entry| taken.contains(entry.key.as_str())),
            Value::Null | Value::Bool(_) | Value::Int(_) | Value::Float(_) | Value::Text { .. } => {}
        }
    }
    entries.retain(|entry| entry.key != "depends_on" || !is_empty(&entry.value));
}

fn is_empty(node: &Node) -> bool {
    node.items().is_empty() && node.entries().is_empty()
}

fn label(service: &mut Node, labels: [(&str, String); 5]) {
    let at = service.at;
    let Value::Map(entries) = &mut service.value else { return };
    if !entries.iter().any(|entry| entry.key == "labels") {
        let value = Node { value: Value::Map(Vec::new()), at };
        entries.push(Entry { key: "labels".into(), key_at: at, value });
    }
    let known = entries.iter_mut().find(|entry| entry.key == "labels");
    let Some(Entry { value: Node { value: Value::Map(known), .. }, .. }) = known else { return };
    known.retain(|entry| !labels.iter().any(|(name, _)| entry.key == *name));
    for (name, value) in labels {
        known.push(Entry { key: name.to_owned(), key_at: at, value: Node::text(value, at) });
    }
}

/// Where a service finds a secret.
const SECRETS: &str = "/run/secrets/";

/// Takes out secrets without a file, with who uses them and the variables that name their place, and then the volumes, networks and secrets that nobody uses.
fn prune(file: &mut Node) {
    let there: BTreeSet<String> = file
        .get("secrets")
        .map(Node::entries)
        .unwrap_or_default()
        .iter()
        .filter(|entry| entry.value.get("file").is_some())
        .map(|entry| entry.key.clone())
        .collect();
    let gone = |text: &str| named_secrets(text).any(|name| !there.contains(name));
    for entry in map_mut(file, "services").into_iter().flatten() {
        if let Value::Map(entries) = &mut entry.value.value {
            for entry in entries.iter_mut().filter(|entry| entry.key == "environment") {
                match &mut entry.value.value {
                    Value::Map(entries) => entries.retain(|entry| !entry.value.as_str().is_some_and(gone)),
                    Value::List(items) => items.retain(|item| !item.as_str().is_some_and(gone)),
                    Value::Null | Value::Bool(_) | Value::Int(_) | Value::Float(_) | Value::Text { .. } => {}
                }
            }
            for entry in entries.iter_mut().filter(|entry| entry.key == "secrets") {
                if let Value::List(items) = &mut entry.value.value {
                    items.retain(|item| used_name(item).is_none_or(|name| there.contains(&name)));
                }
            }
            entries.retain(|entry| entry.key != "secrets" || !is_empty(&entry.value));
        }
    }
    for kind in ["volumes", "networks", "secrets"] {
        let used = used(file, kind);
        if let Some(entries) = map_mut(file, kind) {
            entries
                .retain(|entry| used.contains(&entry.key) || (kind == "networks" && entry.key == "default"));
        }
    }
    if let Value::Map(entries) = &mut file.value {
        entries.retain(|entry| {
            !["volumes", "networks", "secrets"].contains(&entry.key.as_str()) || !is_empty(&entry.value)
        });
    }
}

/// The secrets whose place a text names.
fn named_secrets(text: &str) -> impl Iterator<Item = &str> {
    text.split(SECRETS).skip(1).map(|rest| {
        let end = rest.find(|one: char| !one.is_ascii_alphanumeric() && !"._-".contains(one));
        rest.get(..end.unwrap_or(rest.len())).unwrap_or_default()
    })
}

/// The names of volumes, networks or secrets that services use.
pub(crate) fn used(file: &Node, kind: &str) -> BTreeSet<String> {
    let services = file.get("services").map(Node::entries).unwrap_or_default();
    let mut used = BTreeSet::new();
    for service in services {
        let Some(list) = service.value.get(kind) else { continue };
        used.extend(list.entries().iter().map(|entry| entry.key.clone()));
        used.extend(list.items().iter().filter_map(|item| match kind {
            "volumes" => Mount::of(item).and_then(|mount| mount.volume),
            _ => used_name(item),
        }));
    }
    used
}

/// The name in a list of names: alone, or as the `source` of the long form.
fn used_name(item: &Node) -> Option<String> {
    item.as_str().or_else(|| item.get("source").and_then(Node::as_str)).map(str::to_owned)
}

/// What a service mounts.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Mount {
    /// The named volume.
    pub(crate) volume: Option<String>,
    /// What of the node.
    pub(crate) host: Option<String>,
    /// Where.
    pub(crate) path: String,
}

impl Mount {
    /// What the entry of `volumes` says, in its short or its long form.
    pub(crate) fn of(item: &Node) -> Option<Self> {
        let (source, path) = if let Some(text) = item.as_str() {
            let mut parts = text.split(':');
            let (source, path) = (parts.next()?, parts.next());
            match path {
                Some(path) => (Some(source.to_owned()), path.to_owned()),
                None => (None, source.to_owned()),
            }
        } else {
            let text = |key| item.get(key).and_then(Node::as_str).map(str::to_owned);
            if text("type").is_some_and(|kind| kind == "tmpfs") {
                return Some(Self { volume: None, host: None, path: text("target")? });
            }
            (text("source"), text("target")?)
        };
        let of_host = |source: &String| source.starts_with(['/', '.', '~']);
        Some(Self {
            host: source.clone().filter(of_host),
            volume: source.filter(|source| !of_host(source)),
            path,
        })
    }
}
