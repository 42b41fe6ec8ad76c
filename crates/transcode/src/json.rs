//! A JSON value as it was written: keys in order, duplicates kept, numbers not rounded.

use std::borrow::Cow;
use std::fmt;

use kombify_core::{Error, Result};
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// How many objects and lists may stand in each other.
pub(crate) const MAX_DEPTH: usize = 32;

/// A JSON value; text borrows from the body where it has no escapes.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Json<'a> {
    Null,
    Bool(bool),
    Unsigned(u64),
    Signed(i64),
    Float(f64),
    Text(Cow<'a, str>),
    List(Vec<Self>),
    Object(Vec<(Cow<'a, str>, Self)>),
    /// A list or an object below [`MAX_DEPTH`] others; what it holds was skipped.
    TooDeep,
}

impl Json<'_> {
    /// The value of the first of the keys that is there and not null.
    pub(crate) fn get(&self, keys: [&str; 2]) -> Option<&Self> {
        let Self::Object(entries) = self else { return None };
        entries
            .iter()
            .find(|(key, value)| keys.contains(&&**key) && !matches!(value, Self::Null))
            .map(|(_, value)| value)
    }
}

/// Reads a body.
pub(crate) fn parse(body: &[u8]) -> Result<Json<'_>> {
    let text = std::str::from_utf8(body).map_err(|cause| {
        Error::invalid(
            "",
            format!("the body is not valid JSON: byte {} is not UTF-8", cause.valid_up_to() + 1),
        )
    })?;
    let mut reader = serde_json::Deserializer::from_str(text);
    let json = Value(MAX_DEPTH).deserialize(&mut reader).map_err(|cause| syntax(&cause))?;
    reader.end().map_err(|cause| syntax(&cause))?;
    Ok(json)
}

fn syntax(cause: &serde_json::Error) -> Error {
    let text = cause.to_string();
    let what = text.rsplit_once(" at line ").map_or(text.as_str(), |(what, _)| what);
    let (line, column) = (cause.line(), cause.column());
    Error::invalid("", format!("the body is not valid JSON: line {line} column {column}: {what}"))
}

/// Reads a value that may still hold so many levels.
struct Value(usize);

impl<'de> DeserializeSeed<'de> for Value {
    type Value = Json<'de>;

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<Json<'de>, D::Error> {
        reader.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Value {
    type Value = Json<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Json<'de>, E> {
        Ok(Json::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Json<'de>, E> {
        Ok(Json::Bool(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Json<'de>, E> {
        Ok(Json::Unsigned(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Json<'de>, E> {
        Ok(Json::Signed(value))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Json<'de>, E> {
        Ok(Json::Float(value))
    }

    fn visit_borrowed_str<E>(self, value: &'de str) -> Result<Json<'de>, E> {
        Ok(Json::Text(Cow::Borrowed(value)))
    }

    fn visit_str<E>(self, value: &str) -> Result<Json<'de>, E> {
        Ok(Json::Text(Cow::Owned(value.to_owned())))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut values: A) -> Result<Json<'de>, A::Error> {
        let Some(inside) = self.0.checked_sub(1) else {
            while values.next_element::<IgnoredAny>()?.is_some() {}
            return Ok(Json::TooDeep);
        };
        let mut list = Vec::new();
        while let Some(value) = values.next_element_seed(Value(inside))? {
            list.push(value);
        }
        Ok(Json::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut values: A) -> Result<Json<'de>, A::Error> {
        let Some(inside) = self.0.checked_sub(1) else {
            while values.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
            return Ok(Json::TooDeep);
        };
        let mut entries = Vec::new();
        while let Some(key) = values.next_key_seed(Key)? {
            entries.push((key, values.next_value_seed(Value(inside))?));
        }
        Ok(Json::Object(entries))
    }
}

struct Key;

impl<'de> DeserializeSeed<'de> for Key {
    type Value = Cow<'de, str>;

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<Cow<'de, str>, D::Error> {
        reader.deserialize_str(self)
    }
}

impl<'de> Visitor<'de> for Key {
    type Value = Cow<'de, str>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_borrowed_str<E>(self, value: &'de str) -> Result<Cow<'de, str>, E> {
        Ok(Cow::Borrowed(value))
    }

    fn visit_str<E>(self, value: &str) -> Result<Cow<'de, str>, E> {
        Ok(Cow::Owned(value.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_is_read_as_it_was_written() {
        let json =
            parse(br#"{"a": [1, -2, 1.5, true, null], "\u0061": "\n", "b": 18446744073709551615}"#).unwrap();
        let list = vec![Json::Unsigned(1), Json::Signed(-2), Json::Float(1.5), Json::Bool(true), Json::Null];
        let expected = Json::Object(vec![
            (Cow::Borrowed("a"), Json::List(list)),
            (Cow::Borrowed("a"), Json::Text(Cow::Borrowed("\n"))),
            (Cow::Borrowed("b"), Json::Unsigned(u64::MAX)),
        ]);
        assert_eq!(json, expected);
        assert_eq!(json.get(["x", "b"]), Some(&Json::Unsigned(u64::MAX)));
        assert_eq!(json.get(["x", "y"]), None);
    }

    #[test]
    fn what_is_not_json_is_named_with_its_place() {
        let cases: &[(&[u8], &str)] = &[
            (b"{\n  \"a\": }", "the body is not valid JSON: line 2 column 8: expected value"),
            (b"{} {}", "the body is not valid JSON: line 1 column 4: trailing characters"),
            (b"{", "the body is not valid JSON: line 1 column 1: EOF while parsing an object"),
            (b" ", "the body is not valid JSON: line 1 column 1: EOF while parsing a value"),
            (b"{1: 2}", "the body is not valid JSON: line 1 column 2: key must be a string"),
            (b"{\"a\": \"\xff\"}", "the body is not valid JSON: byte 8 is not UTF-8"),
        ];
        for &(body, message) in cases {
            assert_eq!(parse(body).unwrap_err().to_string(), message);
        }
    }

    #[test]
    fn what_nests_too_deep_is_skipped_however_deep_it_is() {
        let nested = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
        let text = nested(MAX_DEPTH + 1);
        let mut json = &parse(text.as_bytes()).unwrap();
        let text = nested(MAX_DEPTH);
        let whole = parse(text.as_bytes()).unwrap();
        assert!(!format!("{whole:?}").contains("TooDeep"));
        for _ in 0..MAX_DEPTH {
            let Json::List(list) = json else { panic!("{json:?}") };
            json = &list[0];
        }
        assert_eq!(json, &Json::TooDeep);
        let abyss = nested(100_000);
        assert!(format!("{:?}", parse(abyss.as_bytes()).unwrap()).contains("TooDeep"));
    }
}
