//! `${{ ... }}`: what a scalar of compose.yaml has in the place of a value.

use std::cell::Cell;

use crate::manifest::{Manifest, Role};
use crate::node::{Node, Value};
use crate::problem::Position;
use crate::rules::{Machine, Spec};

const OPEN: &str = "${{";
const CLOSE: &str = "}}";

/// A part of a text.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Part<'a> {
    /// Text that stays.
    Text(&'a str),
    /// What the path names.
    Value(&'a str),
}

/// The parts of a text.
///
/// # Errors
/// - what is wrong, for people.
pub(crate) fn parts(text: &str) -> Result<Vec<Part<'_>>, String> {
    let mut parts = Vec::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once(OPEN) {
        if !before.is_empty() {
            parts.push(Part::Text(before));
        }
        let (path, behind) = after.split_once(CLOSE).ok_or("has a `${{` without its `}}`")?;
        let path = path.trim();
        let well_formed = !path.is_empty()
            && path.split('.').all(|segment| {
                !segment.is_empty()
                    && segment
                        .bytes()
                        .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
            });
        if !well_formed {
            return Err("has a placeholder that is no path of names".to_owned());
        }
        parts.push(Part::Value(path));
        rest = behind;
    }
    if !rest.is_empty() {
        parts.push(Part::Text(rest));
    }
    for part in &parts {
        if let Part::Text(text) = part
            && text.replace("$$", "").contains('$')
        {
            return Err("has a `$`, which Compose would replace: write `$$`".to_owned());
        }
    }
    Ok(parts)
}

/// What placeholders stand for.
pub(crate) struct Values<'a> {
    pub(crate) manifest: &'a Manifest,
    pub(crate) spec: &'a Spec<'a>,
    pub(crate) nodes: &'a [Machine<'a>],
    /// How many bytes may still be filled in.
    pub(crate) bytes_left: Cell<usize>,
}

/// How a secret is named.
pub(crate) const SECRET_REFERENCE: &str = "secret://";

/// Where whoever deploys puts it.
pub(crate) const SECRET_FILES: &str = "./secrets/";

/// Whether a secret may have this name: it is one file's.
pub(crate) fn is_secret_name(name: &str) -> bool {
    (1..=63).contains(&name.len())
        && name
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"._-".contains(&byte))
        && name.starts_with(|one: char| one.is_ascii_alphanumeric())
}

impl Values<'_> {
    /// Takes room for what is filled in; `None` if there is none left.
    pub(crate) fn take_room(&self, value: &Node) -> Option<()> {
        // A number or yes and no is short.
        let bytes = value.as_str().map_or(8, str::len);
        self.bytes_left.set(self.bytes_left.get().checked_sub(bytes)?);
        Some(())
    }

    /// The value at the path; `None` if there is none.
    pub(crate) fn get(&self, path: &str) -> Option<Node> {
        let text = |text: &str| Some(Node::text(text, Position::START));
        let keys: Vec<&str> = path.split('.').collect();
        let node = match keys.as_slice() {
            ["spec", keys @ ..] => self.spec.root.find(keys).cloned()?,
            ["kit", "id"] => return text(&self.manifest.id),
            ["kit", "version"] => return text(&self.manifest.version.to_string()),
            ["kit", "services", name, "image"] => {
                return text(&self.manifest.service(name)?.image.to_string());
            }
            ["nodes", role, "name"] => return text(self.node(role)?.name),
            ["nodes", role, "ip"] => return text(self.node(role)?.ip),
            _ => return None,
        };
        if matches!(node.value, Value::Null) {
            return None;
        }
        let Some(value) = node.as_str() else { return Some(node) };
        let value = match value.strip_prefix(SECRET_REFERENCE).filter(|name| is_secret_name(name)) {
            Some(name) => format!("{SECRET_FILES}{name}"),
            None => value.replace('$', "$$"),
        };
        Some(Node::text(value, node.at))
    }

    fn node(&self, role: &str) -> Option<&Machine<'_>> {
        Spec::node_of(self.nodes, Role::parse(role)?)
    }
}

/// Whether a path can have a value: what it begins with, and what the schema of the spec has.
pub(crate) fn is_known(path: &str, manifest: &Manifest, has: impl Fn(&[&str]) -> bool) -> bool {
    let keys: Vec<&str> = path.split('.').collect();
    match keys.as_slice() {
        ["spec", keys @ ..] => !keys.is_empty() && has(keys),
        ["kit", "id" | "version"] => true,
        ["kit", "services", name, "image"] => manifest.service(name).is_some(),
        ["nodes", role, "name" | "ip"] => Role::parse(role).is_some(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_has_parts() {
        use Part::{Text, Value};
        for (text, expected) in [
            ("plain", vec![Text("plain")]),
            ("", vec![]),
            ("${{ spec.name }}", vec![Value("spec.name")]),
            ("${{spec.a-b}}:53/udp", vec![Value("spec.a-b"), Text(":53/udp")]),
            ("a${{ x }}b${{ y }}", vec![Text("a"), Value("x"), Text("b"), Value("y")]),
            ("costs 5$$", vec![Text("costs 5$$")]),
        ] {
            assert_eq!(parts(text).unwrap(), expected, "{text}");
        }
        for text in
            ["${{ spec.name", "${{ }}", "${{ a b }}", "${{ a..b }}", "${{ a | b }}", "$HOME", "${X}", "a$"]
        {
            assert!(parts(text).is_err(), "{text}");
        }
    }
}
