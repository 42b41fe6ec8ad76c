//! What is wrong with a request, field by field.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use kombify_core::{Error, Result};

/// How many wrong fields one answer names.
const MAX: usize = 64;

/// How many characters of a key that the caller chose an answer repeats.
const KEY_MAX_CHARS: usize = 64;

/// The wrong fields of one request; of each the first fault.
#[derive(Debug, Default)]
pub(crate) struct Faults(BTreeMap<String, String>);

impl Faults {
    pub(crate) fn add(&mut self, path: impl Into<String>, message: impl Into<String>) {
        if !self.is_full() {
            self.0.entry(path.into()).or_insert_with(|| message.into());
        }
    }

    /// Whether there is no use in looking for more.
    pub(crate) fn is_full(&self) -> bool {
        self.0.len() >= MAX
    }

    pub(crate) fn into_result(self) -> Result<()> {
        if self.0.is_empty() { Ok(()) } else { Err(Error::Invalid(self.0)) }
    }
}

/// Where the reader stands in a JSON value, for example `refusals[3].actor.sub`.
#[derive(Debug, Default)]
pub(crate) struct JsonPath(String);

impl JsonPath {
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    pub(crate) fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    /// Goes one step down, to a field of a message; the mark leads back.
    pub(crate) fn enter_field(&mut self, name: &str) -> usize {
        let plain = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        if name.is_empty() || !plain {
            return self.enter_key(name);
        }
        let mark = self.0.len();
        if mark > 0 {
            self.0.push('.');
        }
        self.0.push_str(&cut(name, KEY_MAX_CHARS));
        mark
    }

    /// Goes one step down, to a value of a list.
    pub(crate) fn enter_index(&mut self, index: usize) -> usize {
        let mark = self.0.len();
        let _ = write!(self.0, "[{index}]"); // Writing to a String never fails.
        mark
    }

    /// Goes one step down, to a value of a map.
    pub(crate) fn enter_key(&mut self, key: &str) -> usize {
        let mark = self.0.len();
        let _ = write!(self.0, "[{}]", serde_json::Value::String(cut(key, KEY_MAX_CHARS)));
        mark
    }

    pub(crate) fn leave(&mut self, mark: usize) {
        self.0.truncate(mark);
    }
}

/// The first characters of a text that the caller chose: an answer does not repeat a megabyte.
pub(crate) fn cut(text: &str, max_chars: usize) -> String {
    match text.char_indices().nth(max_chars) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_written_as_javascript_would_and_grows_and_shrinks() {
        let mut path = JsonPath::default();
        let outside = path.enter_field("refusals");
        let inside = path.enter_index(3);
        path.enter_field("details");
        path.enter_key("a \"b\"");
        assert_eq!(path.as_str(), r#"refusals[3].details["a \"b\""]"#);
        path.leave(inside);
        path.enter_field("what is this");
        assert_eq!(path.as_str(), r#"refusals["what is this"]"#);
        path.leave(outside);
        assert!(path.is_root());
    }

    #[test]
    fn only_so_many_faults_are_kept_and_only_so_much_of_a_key() {
        let mut faults = Faults::default();
        for index in 0..1000 {
            faults.add(format!("f{index}"), "is wrong");
        }
        let Err(Error::Invalid(fields)) = faults.into_result() else { panic!("no fault") };
        assert_eq!(fields.len(), MAX);
        assert_eq!(cut(&"é".repeat(100), 3), "ééé...");
        assert_eq!(cut("abc", 3), "abc");
    }
}
