//! What a spec made of a Compose file: what it chose of the node, and its secrets.

use super::{Mount, services};
use crate::node::Node;
use crate::placeholder::{Part, SECRET_FILES, is_secret_name, parts};
use crate::problem::{Code, Position, Problem};
use crate::rules::{SECRET_HINT, Spec};

/// Where on a node a spec may choose a directory of data: below these. What is elsewhere is the system's, or somebody's who did
/// not ask for it.
const ROOTS: [&str; 7] = ["/data/", "/home/", "/media/", "/mnt/", "/srv/", "/storage/", "/volume"];

/// What holds of the services with the kit's defaults, and no longer with a spec in which nothing else is wrong. Places are the
/// spec's.
pub(crate) fn check_services(compose: &Node, file: &Node, spec: &Spec<'_>) -> Vec<Problem> {
    let entries = file.get("services").map(Node::entries).unwrap_or_default().iter();
    let found = entries.flat_map(|entry| services::check_service(entry, spec.manifest, spec));
    let placed = found.map(|problem| {
        let at = chosen_at(compose, problem.at, spec).map_or(Position::START, |(_, at)| at);
        Problem { at, ..problem }
    });
    placed.collect()
}

/// What a spec chose of the node that it must not, and what should name a secret and does not. Places are the spec's.
pub(crate) fn check(compose: &Node, file: &Node, spec: &Spec<'_>) -> Vec<Problem> {
    let mut problems = chosen_mounts(compose, file, spec);
    for entry in file.get("secrets").map(Node::entries).unwrap_or_default() {
        let name =
            entry.value.get("file").and_then(Node::as_str).and_then(|file| file.strip_prefix(SECRET_FILES));
        if !name.is_some_and(is_secret_name) {
            let at = entry.value.get("file").and_then(|file| chosen_at(compose, file.at, spec));
            let (path, at) = at.unwrap_or_else(|| (format!("secrets.{}", entry.key), Position::START));
            let message = "must name a secret, never be one";
            problems.push(Problem::new(Code::ConstraintViolation, at, path, message).hint(SECRET_HINT));
        }
    }
    problems
}

/// What of the spec was filled in at a place of compose.yaml, and where it stands.
fn chosen_at(compose: &Node, at: Position, spec: &Spec<'_>) -> Option<(String, Position)> {
    let text = text_at(compose, at)?;
    let parts = parts(text).ok()?;
    parts.iter().find_map(|part| {
        let Part::Value(name) = part else { return None };
        let path = name.strip_prefix("spec.")?;
        let keys: Vec<&str> = path.split('.').collect();
        Some((path.to_owned(), spec.root.find(&keys)?.at))
    })
}

/// The text that stands there.
fn text_at(node: &Node, at: Position) -> Option<&str> {
    if node.at == at && node.as_str().is_some() {
        return node.as_str();
    }
    let values = node.entries().iter().map(|entry| &entry.value);
    node.items().iter().chain(values).find_map(|inner| text_at(inner, at))
}

/// What a spec has chosen of the node, and must not: where compose.yaml says the same by itself, its author answers for it.
fn chosen_mounts(compose: &Node, file: &Node, spec: &Spec<'_>) -> Vec<Problem> {
    let mut problems = Vec::new();
    for entry in file.get("services").map(Node::entries).unwrap_or_default() {
        let own = compose.find(&["services", &entry.key, "volumes"]).map(Node::items).unwrap_or_default();
        for item in entry.value.get("volumes").map(Node::items).unwrap_or_default() {
            // What is filled in keeps its place.
            let written = own.iter().find(|own| own.at == item.at);
            if written.is_some_and(|own| own.to_json() == item.to_json()) {
                continue;
            }
            let colons = |node: &Node| node.as_str().map_or(0, |text| text.matches(':').count());
            let shifted = written.is_some_and(|own| colons(own) != colons(item));
            let chosen = Mount::of(item).and_then(|mount| mount.host);
            if shifted || !chosen.is_some_and(|path| is_of_data(&path)) {
                let (path, at) = chosen_at(compose, item.at, spec)
                    .unwrap_or_else(|| (format!("services.{}", entry.key), Position::START));
                let message = "gives the service something of the node that is no directory of data";
                let hint = format!("name a directory below {} by its whole path", ROOTS.join(", "));
                problems.push(Problem::new(Code::ConstraintViolation, at, path, message).hint(hint));
            }
        }
    }
    problems
}

/// Whether the path is one of data: plain, not hidden, and below one of the roots.
fn is_of_data(path: &str) -> bool {
    let mut segments = path.split('/').skip(1);
    let plain = segments.all(|segment| {
        let known = |one: char| one.is_alphanumeric() || "._- ".contains(one);
        !segment.is_empty() && !segment.starts_with('.') && segment.chars().all(known)
    });
    // What is right below /home is all that somebody has.
    let is_home = path.starts_with("/home/") && path.matches('/').count() < 3;
    plain && !is_home && ROOTS.iter().any(|root| path.len() > root.len() && path.starts_with(root))
}
