//! Secrets in plain text. No message repeats what was found.

use std::sync::LazyLock;

use regex::{Regex, RegexSet};

use super::{Findings, Spec};
use crate::budget::{Budget, Exhausted};
use crate::node::{Node, Path, Value};
use crate::placeholder::{SECRET_REFERENCE, is_secret_name};
use crate::problem::{Code, Position, Problem};
use crate::schema::Format;

/// What the name of a setting says of its value.
static SECRET_NAME: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"(?i)(passwords?|passwd|passphrases?|secrets?|secret[-_]?key([-_]?base)?|tokens?|api[-_]?keys?|private[-_]?key([-_]?pem)?|access[-_]?key|credentials?|(^|[-_])(pass|pwd|psk))[0-9]*$|[a-z0-9](Pass|Pwd|Psk)$")
        .unwrap_or_else(|_| unreachable!("the pattern is well-formed"))
});

/// What secrets of some makers look like, wherever they stand.
const SHAPES: [(&str, &str); 10] = [
    (r"-----BEGIN [A-Z ]*PRIVATE KEY-----", "a private key"),
    (r"\b(AKIA|ASIA)[0-9A-Z]{16}\b", "an AWS access key"),
    (r"\bgh[pousr]_[A-Za-z0-9]{36,}\b", "a GitHub token"),
    (r"\bgithub_pat_[A-Za-z0-9_]{22,}\b", "a GitHub token"),
    (r"\bglpat-[A-Za-z0-9_-]{20,}", "a GitLab token"),
    (r"\b[rs]k_(live|test)_[A-Za-z0-9]{16,}\b", "a Stripe key"),
    (r"\bxox[abprs]-[A-Za-z0-9-]{10,}", "a Slack token"),
    (r"\beyJ[A-Za-z0-9_-]{10,}\.eyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{10,}", "a JSON Web Token"),
    (r"\b[a-z][a-z0-9+.-]*://[^/\s:@]+:[^/\s:@]+@", "a password in a URL"),
    (r"\bAIza[0-9A-Za-z_-]{35}\b", "a Google API key"),
];

static SHAPE_SET: LazyLock<RegexSet> = LazyLock::new(|| {
    RegexSet::new(SHAPES.map(|(pattern, _)| pattern))
        .unwrap_or_else(|_| unreachable!("the patterns are well-formed"))
});

static SHAPE_EACH: LazyLock<Vec<Regex>> =
    LazyLock::new(|| SHAPES.iter().filter_map(|(pattern, _)| Regex::new(pattern).ok()).collect());

/// What the way out is.
pub(crate) const HINT: &str = "keep it as a secret of the tenant, and name it here: secret://<name>";

pub(super) fn check(spec: &Spec<'_>, findings: &mut Findings<'_>) -> Result<(), Exhausted> {
    let mut found = Vec::new();
    let services = spec.root.get("services").map(Node::entries).unwrap_or_default();
    for entry in services {
        if let Some(settings) = entry.value.get("settings") {
            named(settings, &Path::of(&["services", &entry.key, "settings"]), findings.budget, &mut found)?;
        }
    }
    for (_, path, node) in spec.formats.iter().filter(|(format, ..)| *format == Format::Secret) {
        let name = node.as_str().and_then(|text| text.strip_prefix(SECRET_REFERENCE));
        let path = path.to_string();
        if !name.is_some_and(is_secret_name) && !found.iter().any(|(_, known)| *known == path) {
            let message = "must name a secret, never be one; names are of a-z, 0-9, `.`, `_` and `-`";
            findings.error(Problem::new(Code::ConstraintViolation, node.at, path, message).hint(HINT));
        }
    }
    for (at, path) in found {
        let message = "is a secret by its name, and stands here in plain text";
        findings.error(Problem::new(Code::ConstraintViolation, at, path, message).hint(HINT));
    }
    Ok(())
}

/// Settings whose name says that they are secrets, and that do not name one.
fn named(
    node: &Node,
    path: &Path,
    budget: &mut Budget,
    found: &mut Vec<(Position, String)>,
) -> Result<(), Exhausted> {
    budget.spend(1)?;
    match &node.value {
        Value::Map(entries) => {
            for entry in entries {
                let inner = path.key(&entry.key);
                budget.spend(entry.key.len() / 16)?;
                let plain = match &entry.value.value {
                    Value::Text { text, .. } => !text.is_empty() && !text.starts_with(SECRET_REFERENCE),
                    Value::Int(_) | Value::Float(_) => true,
                    Value::Null | Value::Bool(_) | Value::List(_) | Value::Map(_) => false,
                };
                if plain && SECRET_NAME.is_match(&entry.key) {
                    found.push((entry.value.at, inner.to_string()));
                } else {
                    named(&entry.value, &inner, budget, found)?;
                }
            }
        }
        Value::List(items) => {
            for (index, item) in items.iter().enumerate() {
                named(item, &path.index(index), budget, found)?;
            }
        }
        Value::Null | Value::Bool(_) | Value::Int(_) | Value::Float(_) | Value::Text { .. } => {}
    }
    Ok(())
}

/// Whether a text has something that looks like a secret.
pub(crate) fn looks_like_one(text: &str) -> bool {
    SHAPE_SET.is_match(text)
}

/// What looks like a secret anywhere in the text, comments too.
pub(crate) fn in_text(text: &str) -> Vec<Problem> {
    let mut problems = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        if !SHAPE_SET.is_match(line) {
            continue;
        }
        for (pattern, (_, what)) in SHAPE_EACH.iter().zip(SHAPES) {
            if let Some(found) = pattern.find(line) {
                let before = line.get(..found.start()).unwrap_or_default().chars().count();
                let at = Position { line: number, column: u32::try_from(before + 1).unwrap_or(u32::MAX) };
                let message = format!("looks like {what}, and stands here in plain text");
                problems.push(Problem::new(Code::ConstraintViolation, at, "", message).hint(HINT));
            }
        }
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_known_by_their_looks_and_never_repeated() {
        let body = "0123456789abcdefghijABCDEFGHIJ0123456789";
        for text in [
            "# -----BEGIN RSA PRIVATE KEY-----".to_owned(),
            "key: AKIAIOSFODNN7EXAMPLE".to_owned(),
            format!("key: ghp_{body}"),
            format!("key: sk_live_{body}"),
            "url: postgres://ada:hunter22@db/home".to_owned(),
            format!("x: eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjMifQ.{body}"),
        ] {
            let problems = in_text(&format!("name: home\n{text}\n"));
            assert_eq!(problems.len(), 1, "{text}");
            assert_eq!(problems[0].at.line, 2);
            let told = problems[0].to_string();
            assert!(
                !told.contains(body) && !told.contains("hunter22") && !told.contains("IOSFODNN"),
                "{told}"
            );
        }
        assert!(in_text("name: home\nurl: https://example.org/a:b@c\nx: sk_live\n").is_empty());
    }
}
