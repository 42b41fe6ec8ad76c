//! A parsed YAML document: a tree that knows where in the text each value stands.

use std::fmt::{self, Write as _};

use serde_json::Value as Json;

use crate::problem::Position;

/// A value and where it stands.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// The value.
    pub value: Value,
    /// Where it begins.
    pub at: Position,
}

/// A value of YAML's core schema, as far as JSON has it, too.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// Nothing.
    Null,
    /// Yes or no.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// Another number.
    Float(f64),
    /// Text.
    Text {
        /// What it says.
        text: String,
        /// Whether it stood without quotes.
        plain: bool,
    },
    /// A sequence.
    List(Vec<Node>),
    /// A mapping; keys are unique.
    Map(Vec<Entry>),
}

/// One entry of a mapping.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// The key, as text.
    pub key: String,
    /// Where the key stands.
    pub key_at: Position,
    /// The value.
    pub value: Node,
}

impl Node {
    /// A text that stands in no document.
    pub(crate) fn text(text: impl Into<String>, at: Position) -> Self {
        Self { value: Value::Text { text: text.into(), plain: false }, at }
    }

    /// The value of that key, where this is a mapping that has it.
    pub fn get(&self, key: &str) -> Option<&Self> {
        self.entries().iter().find(|entry| entry.key == key).map(|entry| &entry.value)
    }

    /// The entries; none where this is no mapping.
    pub fn entries(&self) -> &[Entry] {
        if let Value::Map(entries) = &self.value { entries } else { &[] }
    }

    /// The items; none where this is no sequence.
    pub fn items(&self) -> &[Self] {
        if let Value::List(items) = &self.value { items } else { &[] }
    }

    /// The text, where this is one.
    pub fn as_str(&self) -> Option<&str> {
        if let Value::Text { text, .. } = &self.value { Some(text) } else { None }
    }

    /// The whole number, where this is one.
    pub fn as_int(&self) -> Option<i64> {
        if let Value::Int(number) = self.value { Some(number) } else { None }
    }

    /// Yes or no, where this is one of them.
    pub fn as_bool(&self) -> Option<bool> {
        if let Value::Bool(bool) = self.value { Some(bool) } else { None }
    }

    /// The value under these keys, one within the other.
    pub fn find(&self, keys: &[&str]) -> Option<&Self> {
        keys.iter().try_fold(self, |node, key| node.get(key))
    }

    /// The value of a key, put there first where it is missing; `None` where this is no mapping.
    pub(crate) fn entry_or(&mut self, key: &str, missing: impl FnOnce() -> Self) -> Option<&mut Self> {
        let at = self.at;
        let Value::Map(entries) = &mut self.value else { return None };
        let known = entries.iter().position(|entry| entry.key == key).unwrap_or_else(|| {
            entries.push(Entry { key: key.to_owned(), key_at: at, value: missing() });
            entries.len() - 1
        });
        entries.get_mut(known).map(|entry| &mut entry.value)
    }

    /// The same as JSON.
    pub fn to_json(&self) -> Json {
        match &self.value {
            Value::Null => Json::Null,
            Value::Bool(bool) => (*bool).into(),
            Value::Int(number) => (*number).into(),
            Value::Float(number) => (*number).into(),
            Value::Text { text, .. } => text.as_str().into(),
            Value::List(items) => items.iter().map(Self::to_json).collect(),
            Value::Map(entries) => {
                entries.iter().map(|entry| (entry.key.clone(), entry.value.to_json())).collect()
            }
        }
    }

    /// What it is, for people.
    pub(crate) const fn kind(&self) -> &'static str {
        match &self.value {
            Value::Null => "empty",
            Value::Bool(_) => "true or false",
            Value::Int(_) => "a whole number",
            Value::Float(_) => "a number with a fraction",
            Value::Text { .. } => "text",
            Value::List(_) => "a list",
            Value::Map(_) => "a mapping",
        }
    }
}

/// The way to a value: "nodes\[0\].ip".
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Path(Vec<Segment>);

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Segment {
    Key(String),
    Index(usize),
}

impl Path {
    /// The way from the root by these keys.
    pub(crate) fn of(keys: &[&str]) -> Self {
        Self(keys.iter().map(|key| Segment::Key((*key).to_owned())).collect())
    }

    /// Goes into a mapping.
    pub(crate) fn key(&self, key: &str) -> Self {
        let mut segments = self.0.clone();
        segments.push(Segment::Key(key.to_owned()));
        Self(segments)
    }

    /// Goes into a sequence.
    pub(crate) fn index(&self, index: usize) -> Self {
        let mut segments = self.0.clone();
        segments.push(Segment::Index(index));
        Self(segments)
    }

    /// Whether this is the way to one service: "services.<name>".
    pub(crate) fn is_service(&self) -> bool {
        matches!(self.0.as_slice(), [Segment::Key(first), Segment::Key(_)] if first == "services")
    }
}

/// How long a key may be in a path that people read, in characters.
const KEY_MAX_CHARS: usize = 64;

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, segment) in self.0.iter().enumerate() {
            match segment {
                Segment::Index(index) => write!(f, "[{index}]")?,
                Segment::Key(key) if is_name(key) => {
                    if place > 0 {
                        f.write_char('.')?;
                    }
                    f.write_str(key)?;
                }
                // Another key must not look like a way through several.
                Segment::Key(key) => write!(f, "[{:?}]", printable(key))?,
            }
        }
        Ok(())
    }
}

/// Whether a key can stand in a path as it is.
fn is_name(key: &str) -> bool {
    (1..=KEY_MAX_CHARS).contains(&key.len())
        && key
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_' || byte == b'$')
}

/// A key as it may stand in a message: on one line, and not too long.
pub(crate) fn printable(key: &str) -> String {
    let mut text: String =
        key.chars().take(KEY_MAX_CHARS).map(|one| if one.is_control() { '\u{fffd}' } else { one }).collect();
    if key.chars().nth(KEY_MAX_CHARS).is_some() {
        text.push('…');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_reads_as_in_javascript() {
        let path = Path::of(&["nodes"]).index(3).key("ip");
        assert_eq!(path.to_string(), "nodes[3].ip");
        assert_eq!(Path::default().to_string(), "");
        assert!(Path::of(&["services", "web"]).is_service());
        assert!(!Path::of(&["services", "web", "enabled"]).is_service());
        let long = Path::of(&[&"k".repeat(100), "a\nb"]).to_string();
        assert_eq!(long, format!("[\"{}…\"][\"a\u{fffd}b\"]", "k".repeat(64)));
        assert_eq!(Path::of(&["a.b", "c"]).to_string(), "[\"a.b\"].c");
    }
}
