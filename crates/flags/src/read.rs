//! Reads JSON strictly: a name that stands twice in an object, and what stands too deep, is a fault at its path.

use std::cell::RefCell;
use std::fmt;

use kombify_core::{Error, Result};
use serde::de::{self, DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

use crate::path::{Faults, Path};

/// Reads a text, which is called `field` where it is no JSON. At most `depth_max` arrays and objects stand one in
/// another.
///
/// # Errors
/// - [`Error::Invalid`] if it cannot be read so.
pub fn read(text: &str, field: &str, depth_max: usize) -> Result<Value> {
    let faults = RefCell::default();
    let mut json = serde_json::Deserializer::from_str(text);
    let whole = Node { path: Path::ROOT, depth_left: depth_max, faults: &faults };
    let value = whole
        .deserialize(&mut json)
        .and_then(|value| json.end().map(|()| value))
        .map_err(|cause| Error::invalid(field, format!("must be JSON: {cause}")))?;
    faults.into_inner().into_result()?;
    Ok(value)
}

/// A value that is about to be read.
struct Node<'a> {
    path: Path<'a>,
    depth_left: usize,
    faults: &'a RefCell<Faults>,
}

impl Node<'_> {
    fn inner<'b>(&'b self, path: Path<'b>) -> Node<'b> {
        Node { path, depth_left: self.depth_left - 1, faults: self.faults }
    }

    fn fault(&self, path: &Path<'_>, says: &str) {
        self.faults.borrow_mut().add(path, says);
    }

    /// Whether no array or object may stand here.
    fn is_too_deep(&self) -> bool {
        if self.depth_left == 0 {
            self.fault(&self.path, "must not be so deep");
        }
        self.depth_left == 0
    }
}

impl<'de> DeserializeSeed<'de> for Node<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Node<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Value, E> {
        Number::from_f64(value).map(Value::Number).ok_or_else(|| E::custom("number out of range"))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        if self.is_too_deep() {
            while items.next_element::<IgnoredAny>()?.is_some() {}
            return Ok(Value::Null);
        }
        let mut read = Vec::new();
        while let Some(item) = items.next_element_seed(self.inner(self.path.index(read.len())))? {
            read.push(item);
        }
        Ok(read.into())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Value, A::Error> {
        if self.is_too_deep() {
            while fields.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
            return Ok(Value::Null);
        }
        let mut read = Map::new();
        while let Some(name) = fields.next_key::<String>()? {
            let path = self.path.name(&name);
            let value = fields.next_value_seed(self.inner(path))?;
            if read.contains_key(&name) {
                self.fault(&path, "must stand there once");
            }
            read.insert(name, value);
        }
        Ok(read.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wrong(text: &str, depth_max: usize) -> Vec<(String, String)> {
        match read(text, "text", depth_max) {
            Ok(_) => Vec::new(),
            Err(Error::Invalid(fields)) => fields.into_iter().collect(),
            Err(fault) => panic!("{fault}"),
        }
    }

    #[test]
    fn what_is_right_is_read_as_ever() {
        let text = r#" {"a": [null, true, -1, 18446744073709551615, 2.5, "x\u0041", {"b": {}}]} "#;
        assert_eq!(read(text, "text", 4).unwrap(), text.parse::<Value>().unwrap());
    }

    #[test]
    fn a_name_that_stands_twice_is_a_fault_wherever_it_stands() {
        let says = "must stand there once".to_owned();
        assert_eq!(wrong(r#"{"a": 1, "a": 1}"#, 9), [("a".to_owned(), says.clone())]);
        assert_eq!(wrong(r#"{"a": [0, {"b": 1, "\u0062": 2}]}"#, 9), [("a.1.b".to_owned(), says)]);
        assert!(wrong(r#"{"a": {"a": 1}, "b": [{"a": 1}, {"a": 1}]}"#, 9).is_empty());
    }

    #[test]
    fn depth_has_an_end() {
        assert!(wrong(r#"{"a": [1]}"#, 2).is_empty());
        assert_eq!(wrong(r#"{"a": [1]}"#, 1), [("a".to_owned(), "must not be so deep".to_owned())]);
        for levels in [1000, 100_000] {
            let (open, close) = ("[".repeat(levels), "]".repeat(levels));
            assert_eq!(wrong(&format!("{open}{close}"), 64).len(), 1, "{levels}");
            assert_eq!(wrong(&open, 64)[0].0, "text", "{levels}");
            assert_eq!(wrong(&"{\"a\":".repeat(levels), 64)[0].0, "text", "{levels}");
        }
    }

    #[test]
    fn what_is_no_json_is_a_fault_of_the_text() {
        for text in ["", "{", "{}x", "[1,]", "{'a': 1}", "1e999", "nul", "\u{feff}{}", r#"{"a": "\ud800"}"#] {
            let fields = wrong(text, 9);
            assert!(fields.len() == 1 && fields[0].0 == "text", "{text}: {fields:?}");
            assert!(fields[0].1.starts_with("must be JSON: "), "{fields:?}");
        }
    }
}
