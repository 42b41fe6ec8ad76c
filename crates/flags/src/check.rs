//! Checks the definition of a flag when it is written. Source: <https://flagd.dev/reference/flag-definitions/>.

use std::collections::BTreeMap;

use kombify_core::{Error, Result};
use serde_json::{Map, Value};

use crate::FlagSet;

/// How deep a targeting rule may be.
const DEPTH_MAX: usize = 32;

/// How many variants a flag may have.
const VARIANTS_MAX: usize = 64;

/// Checks the definition of one flag; gives it without blanks. Fields are named by their path in the definition.
///
/// # Errors
/// - [`Error::Invalid`] if it is none, with everything that is wrong.
pub fn check_flag(key: &str, definition: &str) -> Result<String> {
    let value: Value = serde_json::from_str(definition)
        .map_err(|cause| Error::invalid("", format!("must be JSON: {cause}")))?;
    let Value::Object(flag) = &value else {
        return Err(Error::invalid("", "must be an object with state, variants and defaultVariant"));
    };
    let mut wrong = BTreeMap::new();
    for name in flag.keys() {
        if !matches!(name.as_str(), "state" | "variants" | "defaultVariant" | "targeting" | "metadata") {
            let says = "is not known: there are state, variants, defaultVariant, targeting and metadata";
            wrong.insert(name.clone(), says.to_owned());
        }
    }
    if !matches!(flag.get("state").and_then(Value::as_str), Some("ENABLED" | "DISABLED")) {
        wrong.insert("state".to_owned(), "must be ENABLED or DISABLED".to_owned());
    }
    let none = Map::new();
    let variants = match flag.get("variants") {
        Some(Value::Object(variants)) => variants,
        Some(_) | None => &none,
    };
    check_variants(variants, &mut wrong);
    match flag.get("defaultVariant") {
        Some(Value::String(variant)) if variants.contains_key(variant) => {}
        Some(_) | None => {
            wrong.insert("defaultVariant".to_owned(), "must name one of the variants".to_owned());
        }
    }
    match flag.get("targeting") {
        None => {}
        Some(Value::Object(rule)) => {
            if rule.len() > 1 {
                wrong.insert("targeting".to_owned(), "must have one operation".to_owned());
            } else if depth(&Value::Object(rule.clone())) > DEPTH_MAX {
                wrong.insert("targeting".to_owned(), format!("must be at most {DEPTH_MAX} levels deep"));
            }
        }
        Some(_) => {
            wrong.insert("targeting".to_owned(), "must be an object of JsonLogic".to_owned());
        }
    }
    check_metadata(flag.get("metadata"), &mut wrong);
    if !wrong.is_empty() {
        return Err(Error::Invalid(wrong));
    }
    FlagSet::parse(&serde_json::json!({"flags": {key: value}}).to_string())?;
    Ok(value.to_string())
}

/// The values of the variants are all of one type.
fn check_variants(variants: &Map<String, Value>, wrong: &mut BTreeMap<String, String>) {
    if variants.is_empty() || variants.len() > VARIANTS_MAX {
        let says = format!("must be an object with 1 to {VARIANTS_MAX} variants");
        wrong.insert("variants".to_owned(), says);
        return;
    }
    let first = variants.values().next().map(kind);
    for (name, value) in variants {
        let path = format!("variants.{name}");
        match kind(value) {
            None => {
                wrong.insert(path, "must be a boolean, a number, a string or an object".to_owned());
            }
            own if Some(own) != first => {
                wrong.insert(path, "must be of the same type as the other variants".to_owned());
            }
            Some(_) => {}
        }
    }
}

/// The type of a variant's value, where it is one that a flag can have.
const fn kind(value: &Value) -> Option<&'static str> {
    match value {
        Value::Bool(_) => Some("boolean"),
        Value::Number(_) => Some("number"),
        Value::String(_) => Some("string"),
        Value::Object(_) => Some("object"),
        Value::Null | Value::Array(_) => None,
    }
}

fn check_metadata(metadata: Option<&Value>, wrong: &mut BTreeMap<String, String>) {
    match metadata {
        None => {}
        Some(Value::Object(metadata)) => {
            for (name, value) in metadata {
                if !(value.is_boolean() || value.is_number() || value.is_string()) {
                    let says = "must be a boolean, a number or a string".to_owned();
                    wrong.insert(format!("metadata.{name}"), says);
                }
            }
        }
        Some(_) => {
            wrong.insert("metadata".to_owned(), "must be an object".to_owned());
        }
    }
}

/// How many levels of arrays and objects there are, one over another.
fn depth(value: &Value) -> usize {
    match value {
        Value::Array(items) => 1 + items.iter().map(depth).max().unwrap_or(0),
        Value::Object(fields) => 1 + fields.values().map(depth).max().unwrap_or(0),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => 0,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn on_off() -> Value {
        json!({"state": "ENABLED", "variants": {"on": true, "off": false}, "defaultVariant": "off"})
    }

    fn with(change: impl FnOnce(&mut Map<String, Value>)) -> Value {
        let mut flag = on_off();
        change(flag.as_object_mut().unwrap());
        flag
    }

    fn deep(levels: usize) -> Value {
        (0..levels).fold(json!(true), |inner, _| json!({"!": inner}))
    }

    #[test]
    fn what_is_right_is_kept_without_blanks() {
        let text = "{ \"state\": \"ENABLED\", \"variants\": {\"on\": true}, \"defaultVariant\": \"on\" }";
        let kept = check_flag("new-ui", text).unwrap();
        assert_eq!(kept, r#"{"defaultVariant":"on","state":"ENABLED","variants":{"on":true}}"#);
        for right in [
            on_off(),
            with(|flag| drop(flag.insert("state".into(), "DISABLED".into()))),
            with(|flag| drop(flag.insert("targeting".into(), json!({})))),
            with(|flag| drop(flag.insert("targeting".into(), deep(32)))),
            with(|flag| drop(flag.insert("metadata".into(), json!({"team": "a", "size": 1, "old": true})))),
        ] {
            assert!(check_flag("new-ui", &right.to_string()).is_ok(), "{right}");
        }
    }

    #[test]
    fn what_is_wrong_is_named_by_its_path() {
        for (wrong, paths) in [
            (json!([]), vec![""]),
            (json!({}), vec!["defaultVariant", "state", "variants"]),
            (with(|flag| drop(flag.insert("sate".into(), "ENABLED".into()))), vec!["sate"]),
            (with(|flag| drop(flag.insert("state".into(), "on".into()))), vec!["state"]),
            (with(|flag| drop(flag.insert("defaultVariant".into(), "none".into()))), vec!["defaultVariant"]),
            (with(|flag| drop(flag.insert("defaultVariant".into(), Value::Null))), vec!["defaultVariant"]),
            (
                with(|flag| drop(flag.insert("variants".into(), json!({"off": false, "on": "yes"})))),
                vec!["variants.on"],
            ),
            (
                with(|flag| drop(flag.insert("variants".into(), json!({"off": false, "on": null})))),
                vec!["variants.on"],
            ),
            (with(|flag| drop(flag.insert("targeting".into(), json!("on")))), vec!["targeting"]),
            (
                with(|flag| drop(flag.insert("targeting".into(), json!({"!": 1, "if": []})))),
                vec!["targeting"],
            ),
            (with(|flag| drop(flag.insert("targeting".into(), deep(33)))), vec!["targeting"]),
            (with(|flag| drop(flag.insert("metadata".into(), json!({"team": []})))), vec!["metadata.team"]),
        ] {
            let fault = check_flag("new-ui", &wrong.to_string()).unwrap_err();
            let Error::Invalid(fields) = fault else { panic!("{wrong}: {fault}") };
            assert_eq!(fields.keys().map(String::as_str).collect::<Vec<_>>(), paths, "{wrong}");
        }
        assert!(check_flag("new-ui", "{").is_err());
    }
}
