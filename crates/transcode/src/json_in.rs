//! JSON to messages: protobuf's JSON form, stricter where it leaves two readings, with every fault by its path.

use std::collections::HashMap;

use kombify_core::Result;
use prost_reflect::{
    DynamicMessage, FieldDescriptor, Kind, MapKey, MessageDescriptor, ReflectMessage as _, Value,
};

use crate::faults::{Faults, JsonPath};
use crate::field;
use crate::json::{self, Json, MAX_DEPTH};
use crate::scalar;

/// Reads a JSON object as a message of that type.
///
/// # Errors
/// - [`kombify_core::Error::Invalid`] with every field that is not as the message wants it, 64 at most.
pub fn from_json(descriptor: &MessageDescriptor, text: &[u8]) -> Result<DynamicMessage> {
    let mut message = field::empty(descriptor);
    let mut faults = Faults::default();
    fill(&mut message, &json::parse(text)?, &mut JsonPath::default(), &mut faults);
    faults.into_result()?;
    Ok(message)
}

/// Sets the fields of `message` that a JSON object names; `path` is where the object stands.
pub(crate) fn fill(message: &mut DynamicMessage, json: &Json<'_>, path: &mut JsonPath, faults: &mut Faults) {
    let Json::Object(entries) = json else {
        let what = if path.is_root() { "the body must be a JSON object" } else { "must be an object" };
        faults.add(path.as_str(), what);
        return;
    };
    let descriptor = message.descriptor();
    let mut seen = Vec::new();
    for (key, json) in entries {
        if faults.is_full() {
            return;
        }
        let Some(field) = field::find(&descriptor, key) else {
            let mark = path.enter_field(key);
            faults.add(path.as_str(), field::unknown(&descriptor, key));
            path.leave(mark);
            continue;
        };
        let mark = path.enter_field(field.json_name());
        if seen.contains(&field.number()) {
            faults.add(path.as_str(), "is given twice");
        } else {
            seen.push(field.number());
            set(message, &field, json, path, faults);
        }
        path.leave(mark);
    }
}

fn set(
    message: &mut DynamicMessage,
    field: &FieldDescriptor,
    json: &Json<'_>,
    path: &mut JsonPath,
    faults: &mut Faults,
) {
    if matches!(json, Json::Null) {
        return;
    }
    if let Some(rival) = field::rival(message, field) {
        faults.add(path.as_str(), field::together(&rival));
        return;
    }
    let value = if field.is_list() {
        list(field, json, path, faults)
    } else if field.is_map() {
        map(field, json, path, faults)
    } else {
        one(&field.kind(), json, path, faults)
    };
    if let Some(value) = value {
        message.set_field(field, value);
    }
}

fn list(field: &FieldDescriptor, json: &Json<'_>, path: &mut JsonPath, faults: &mut Faults) -> Option<Value> {
    let Json::List(items) = json else {
        faults.add(path.as_str(), unless_too_deep(json, "must be a list"));
        return None;
    };
    let kind = field.kind();
    let mut values = Vec::with_capacity(items.len());
    for (index, item) in items.iter().enumerate() {
        if faults.is_full() {
            return None;
        }
        let mark = path.enter_index(index);
        values.extend(one(&kind, item, path, faults));
        path.leave(mark);
    }
    Some(Value::List(values))
}

fn map(field: &FieldDescriptor, json: &Json<'_>, path: &mut JsonPath, faults: &mut Faults) -> Option<Value> {
    let Json::Object(entries) = json else {
        faults.add(path.as_str(), unless_too_deep(json, "must be an object"));
        return None;
    };
    let kind = field.kind();
    let entry = kind.as_message()?;
    let (key_kind, value_kind) = (entry.map_entry_key_field().kind(), entry.map_entry_value_field().kind());
    let mut values: HashMap<MapKey, Value> = HashMap::with_capacity(entries.len());
    for (key, json) in entries {
        if faults.is_full() {
            return None;
        }
        let mark = path.enter_key(key);
        match scalar::map_key(&key_kind, key) {
            Err(wrong) => faults.add(path.as_str(), format!("the key {wrong}")),
            Ok(key) if values.contains_key(&key) => faults.add(path.as_str(), "is given twice"),
            Ok(key) => values.extend(one(&value_kind, json, path, faults).map(|value| (key, value))),
        }
        path.leave(mark);
    }
    Some(Value::Map(values))
}

fn one(kind: &Kind, json: &Json<'_>, path: &mut JsonPath, faults: &mut Faults) -> Option<Value> {
    if matches!(json, Json::Null) {
        faults.add(path.as_str(), "must not be null");
        return None;
    }
    if let Kind::Message(of) = kind
        && !field::is_timestamp(of)
        && !matches!(json, Json::TooDeep)
    {
        let mut message = field::empty(of);
        fill(&mut message, json, path, faults);
        return Some(Value::Message(message));
    }
    scalar::from_json(kind, json)
        .map_err(|wrong| faults.add(path.as_str(), unless_too_deep(json, &wrong)))
        .ok()
}

fn unless_too_deep(json: &Json<'_>, wrong: &str) -> String {
    match json {
        Json::TooDeep => format!("nests deeper than {MAX_DEPTH} levels"),
        Json::Null
        | Json::Bool(_)
        | Json::Unsigned(_)
        | Json::Signed(_)
        | Json::Float(_)
        | Json::Text(_)
        | Json::List(_)
        | Json::Object(_) => wrong.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use kombify_core::Error;

    use super::*;
    use crate::fixture;

    /// What is wrong with a body, as `path: message` lines.
    fn faults(message: &MessageDescriptor, json: &str) -> Vec<String> {
        match from_json(message, json.as_bytes()) {
            Ok(_) => Vec::new(),
            Err(Error::Invalid(fields)) => {
                fields.into_iter().map(|(path, message)| format!("{path}: {message}")).collect()
            }
            Err(other) => panic!("{other:?}"),
        }
    }

    #[test]
    fn every_wrong_field_is_named_by_its_path() {
        let user = fixture::contract("kombify.users.v1.UpdateUserRequest");
        let tenant = fixture::contract("kombify.tenancy.v1.CreateTenantRequest");
        let refusals = fixture::contract("kombify.audit.v1.ReportRefusalsRequest");
        let everything = fixture::everything();
        let cases: &[(&MessageDescriptor, &str, &[&str])] = &[
            (&tenant, r#"{"slug": "home", "name": "Home", "region": null}"#, &[]),
            (&tenant, "[]", &[": the body must be a JSON object"]),
            (
                &tenant,
                r#"{"slug": 7, "nam": "x"}"#,
                &[
                    "nam: is not a field of CreateTenantRequest; did you mean `name`?",
                    "slug: must be a string",
                ],
            ),
            (&tenant, r#"{"slug": "a", "slug": null}"#, &["slug: is given twice"]),
            (
                &tenant,
                r#"{"a b": 1, "": 2}"#,
                &[
                    r#"[""]: is not a field of CreateTenantRequest"#,
                    r#"["a b"]: is not a field of CreateTenantRequest"#,
                ],
            ),
            (&user, r#"{"update": {"display_name": "A", "preferences": {"emailNotices": true}}}"#, &[]),
            (
                &user,
                r#"{"update": {"displayName": "A", "display_name": "B"}}"#,
                &["update.displayName: is given twice"],
            ),
            (
                &user,
                r#"{"update": {"preferences": {"theme": 3, "Locale": ""}}}"#,
                &[
                    "update.preferences.Locale: is not a field of PreferencesUpdate; did you mean `locale`?",
                    "update.preferences.theme: must be a string",
                ],
            ),
            (&user, r#"{"update": "x"}"#, &["update: must be an object"]),
            (&refusals, r#"{"refusals": {}}"#, &["refusals: must be a list"]),
            (
                &refusals,
                r#"{"refusals": [{}, null, {"actor": {"sub": true}, "createTime": "now", "details": {"k": 1, "l": null, "m": "", "m": ""}}]}"#,
                &[
                    "refusals[1]: must not be null",
                    "refusals[2].actor.sub: must be a string",
                    "refusals[2].createTime: must be an RFC 3339 time, for example 2026-01-31T12:00:00Z",
                    r#"refusals[2].details["k"]: must be a string"#,
                    r#"refusals[2].details["l"]: must not be null"#,
                    r#"refusals[2].details["m"]: is given twice"#,
                ],
            ),
            (
                &everything,
                r#"{"byNumber": {"x": {}, "1": {"tags": [1]}}, "byFlag": {"yes": ""}}"#,
                &[
                    r#"byFlag["yes"]: the key must be true or false"#,
                    r#"byNumber["1"].tags[0]: must be a string"#,
                    r#"byNumber["x"]: the key must be a whole number"#,
                ],
            ),
            (&everything, r#"{"left": null, "right": "r"}"#, &[]),
            (&everything, r#"{"left": "", "right": "r"}"#, &["right: must not be given together with left"]),
        ];
        for &(message, json, expected) in cases {
            assert_eq!(faults(message, json), expected, "{json}");
        }
    }

    #[test]
    fn a_body_becomes_the_message_that_it_says() {
        let text = r#"{
            "i32": "7", "u64": 18446744073709551615, "maybe": "", "tags": ["a", "b"], "counts": {"k": 1},
            "byNumber": {"-1": {"flag": true}}, "children": [{}, {"text": "x"}], "seenTime": "2026-01-31T12:00:00Z",
            "color": "COLOR_RED", "nested": {}
        }"#;
        let message = from_json(&fixture::everything(), text.as_bytes()).unwrap();
        let get = |name| message.get_field_by_name(name).unwrap().into_owned();
        assert_eq!(get("i32"), Value::I32(7));
        assert_eq!(get("u64"), Value::U64(u64::MAX));
        assert!(message.has_field_by_name("maybe") && message.has_field_by_name("nested"));
        assert!(!message.has_field_by_name("left") && !message.has_field_by_name("flag"));
        assert_eq!(get("tags"), Value::List(vec![Value::String("a".into()), Value::String("b".into())]));
        assert_eq!(get("counts"), Value::Map([(MapKey::String("k".into()), Value::I32(1))].into()));
        let by_number = get("by_number");
        let inner = by_number.as_map().unwrap()[&MapKey::I32(-1)].as_message().unwrap();
        assert_eq!(*inner.get_field_by_name("flag").unwrap(), Value::Bool(true));
        assert_eq!(get("children").as_list().unwrap().len(), 2);
        let seconds = get("seen_time").as_message().unwrap().get_field_by_number(1).unwrap().into_owned();
        assert_eq!(seconds, Value::I64(1_769_860_800));
        assert_eq!(get("color"), Value::EnumNumber(1));
    }

    #[test]
    fn depth_and_faults_are_bounded() {
        let nested = |levels: usize| format!("{}{{}}{}", r#"{"nested":"#.repeat(levels), "}".repeat(levels));
        assert_eq!(faults(&fixture::everything(), &nested(MAX_DEPTH - 1)), Vec::<String>::new());
        let path = ["nested"; MAX_DEPTH].join(".");
        let expected = format!("{path}: nests deeper than 32 levels");
        assert_eq!(faults(&fixture::everything(), &nested(MAX_DEPTH)), [expected]);

        let wrong = format!(r#"{{"tags": [{}1]}}"#, "1, ".repeat(10_000));
        assert_eq!(faults(&fixture::everything(), &wrong).len(), 64);
    }
}
