//! What stands beside the body: path variables, query parameters, `If-Match`.

use std::collections::BTreeSet;

use http::{HeaderMap, header};
use prost_reflect::{DynamicMessage, Value};

use crate::binding::{Binding, BodyRule};
use crate::faults::{Faults, cut};
use crate::field::FieldPath;
use crate::json::Json;
use crate::{percent, scalar};

/// How many characters of a parameter's name an answer repeats.
const NAME_MAX_CHARS: usize = 64;

/// Sets the fields that the path names; `body` is what the body said of the whole request, if it says anything.
pub(crate) fn path(
    message: &mut DynamicMessage,
    binding: &Binding,
    values: &[String],
    body: Option<&Json<'_>>,
    faults: &mut Faults,
) {
    for (variable, value) in binding.variables.iter().zip(values) {
        let Some(text) = percent::decode(value, false) else {
            faults.add(variable.json_path(), "is not percent-encoded UTF-8");
            continue;
        };
        match scalar::from_text(&variable.last().kind(), &text) {
            Err(wrong) => faults.add(variable.json_path(), wrong),
            Ok(value) if body.is_some_and(|body| says(body, variable)) => {
                if variable.get(message).as_ref() != Some(&value) {
                    faults.add(variable.json_path(), "contradicts the path");
                }
            }
            Ok(value) => set(message, variable, value, faults),
        }
    }
}

/// Sets the fields that the query names.
pub(crate) fn query(message: &mut DynamicMessage, binding: &Binding, query: &str, faults: &mut Faults) {
    let mut given = BTreeSet::new();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        if faults.is_full() {
            return;
        }
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let (Some(name), Some(value)) = (percent::decode(name, true), percent::decode(value, true)) else {
            faults.add(shown(name), "is not percent-encoded UTF-8");
            continue;
        };
        let field = match FieldPath::resolve(&binding.input, &name) {
            Ok(field) => field,
            Err(wrong) => {
                faults.add(shown(&name), wrong);
                continue;
            }
        };
        let in_the_body = match &binding.body {
            BodyRule::Nothing => false,
            BodyRule::Whole => true,
            BodyRule::Field(body) => body == field.first(),
        };
        let value = match scalar::from_text(&field.last().kind(), &value) {
            Ok(value) => value,
            Err(wrong) => {
                faults.add(field.json_path(), wrong);
                continue;
            }
        };
        if binding.variables.contains(&field) {
            if field.get(message).as_ref() != Some(&value) {
                faults.add(field.json_path(), "contradicts the path");
            }
        } else if in_the_body {
            faults.add(field.json_path(), "must be in the body");
        } else if field.last().is_list() {
            push(message, &field, value, faults);
        } else if given.insert(field.json_path()) {
            set(message, &field, value, faults);
        } else {
            faults.add(field.json_path(), "is given twice");
        }
    }
}

/// Sets the request's `etag` to what `If-Match` says, where the request has one.
pub(crate) fn if_match(
    message: &mut DynamicMessage,
    binding: &Binding,
    headers: &HeaderMap,
    faults: &mut Faults,
) {
    let Some(field) = &binding.if_match else { return };
    let mut values = headers.get_all(header::IF_MATCH).iter();
    let Some(value) = values.next() else { return };
    let alone = values.next().is_none();
    let Some(etag) = value.to_str().ok().filter(|_| alone).and_then(etag) else {
        faults.add(field.json_name(), "must be one etag in If-Match");
        return;
    };
    let etag = Value::String(etag.to_owned());
    let given = message.get_field(field).into_owned();
    if given != etag && given != Value::String(String::new()) {
        faults.add(field.json_name(), "contradicts If-Match");
    } else {
        message.set_field(field, etag);
    }
}

/// The one etag of an `If-Match`: `"x"`, `W/"x"`, `x` or `*`.
fn etag(text: &str) -> Option<&str> {
    let text = text.trim();
    let text = text.strip_prefix("W/").unwrap_or(text);
    let inside = match text.strip_prefix('"') {
        Some(rest) => rest.strip_suffix('"')?,
        None => Some(text).filter(|text| !text.contains([',', ' ', '\t']))?,
    };
    Some(inside).filter(|inside| !inside.is_empty() && !inside.contains('"'))
}

/// A name as an answer repeats it: a caller chose it.
fn shown(name: &str) -> String {
    cut(name, NAME_MAX_CHARS)
}

/// Whether a body names a field, and not as null.
fn says(body: &Json<'_>, field: &FieldPath) -> bool {
    let mut steps = field.steps();
    steps.try_fold(body, |json, step| json.get([step.json_name(), step.name()])).is_some()
}

fn set(message: &mut DynamicMessage, field: &FieldPath, value: Value, faults: &mut Faults) {
    match field.holder(message) {
        Ok(holder) => holder.set_field(field.last(), value),
        Err(wrong) => faults.add(field.json_path(), wrong),
    }
}

fn push(message: &mut DynamicMessage, field: &FieldPath, value: Value, faults: &mut Faults) {
    match field.holder(message) {
        Ok(holder) => {
            if let Some(list) = holder.get_field_mut(field.last()).as_list_mut() {
                list.push(value);
            }
        }
        Err(wrong) => faults.add(field.json_path(), wrong),
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use kombify_core::Error;

    use super::*;
    use crate::faults::JsonPath;
    use crate::{field, fixture, json, json_in, json_out};

    /// The binding of a method of the contracts, or of the fixture at `/a/{text}/{nested.i32}` with that body.
    fn binding(method: &str, body: Option<&str>) -> Binding {
        if let Some(method) = kombify_contracts::method(method) {
            return Binding::new(method, &[]).unwrap();
        }
        let variables = ["text".to_owned(), "nested.i32".to_owned()];
        Binding::new(fixture::exposed(method, "POST", "/a/{text}/{nested.i32}", body), &variables).unwrap()
    }

    /// What is set of a message as JSON, or what is wrong as `path: message` lines.
    fn outcome(message: &DynamicMessage, faults: Faults) -> String {
        match faults.into_result() {
            Ok(()) => String::from_utf8(json_out::to_json(message).unwrap()).unwrap(),
            Err(Error::Invalid(fields)) => {
                let lines: Vec<_> =
                    fields.iter().map(|(path, message)| format!("{path}: {message}")).collect();
                lines.join("\n")
            }
            Err(other) => panic!("{other:?}"),
        }
    }

    fn of_query(binding: &Binding, text: &str) -> String {
        let (mut message, mut faults) = (field::empty(&binding.input), Faults::default());
        query(&mut message, binding, text, &mut faults);
        outcome(&message, faults)
    }

    #[test]
    fn the_query_fills_the_fields_by_their_types() {
        let events = binding("/kombify.audit.v1.AuditService/ListEvents", None);
        let empty = r#"{"limit":0,"cursor":"","action":"","sub":"","tenantId":"","outcome":""}"#;
        assert_eq!(of_query(&events, ""), empty);
        assert_eq!(of_query(&events, "&"), empty);
        assert_eq!(
            of_query(&events, "limit=5&tenant_id=t&sub=a+b%2Bc&startTime=2026-01-31T12:00:00Z&action"),
            r#"{"limit":5,"cursor":"","action":"","sub":"a b+c","tenantId":"t","outcome":"","startTime":"2026-01-31T12:00:00Z"}"#
        );
        for (text, wrong) in [
            ("limit=many", "limit: must be a whole number"),
            ("limit=", "limit: must be a whole number"),
            ("limit=1&limit=1", "limit: is given twice"),
            ("tenantId=a&tenant_id=b", "tenantId: is given twice"),
            ("limt=1", "limt: is not a field of ListEventsRequest; did you mean `limit`?"),
            ("=1", ": is not a field of ListEventsRequest"),
            ("sub=%ff", "sub: is not percent-encoded UTF-8"),
            ("s%zb=1", "s%zb: is not percent-encoded UTF-8"),
            (
                "startTime=2026-01-31T12:00:00+01:00",
                "startTime: must be an RFC 3339 time, for example 2026-01-31T12:00:00Z",
            ),
        ] {
            assert_eq!(of_query(&events, text), wrong, "{text}");
        }
    }

    #[test]
    fn the_query_fills_lists_and_what_is_nested_and_nothing_that_is_bound() {
        let whole = binding("Whole", None);
        let set =
            of_query(&whole, "tags=a&tags=b&nested.text=x&nested.nested.flag=true&color=COLOR_RED&maybe=");
        let message = json_in::from_json(&whole.input, set.as_bytes()).unwrap();
        let expected = r#"{"tags": ["a", "b"], "nested": {"text": "x", "nested": {"flag": true}}, "color": 1, "maybe": ""}"#;
        let expected = json_in::from_json(&whole.input, expected.as_bytes()).unwrap();
        assert_eq!(json_out::to_json(&message).unwrap(), json_out::to_json(&expected).unwrap());
        for (text, wrong) in [
            ("children=x", "children: cannot be given as text"),
            ("counts=x", "counts: cannot be given as text"),
            ("nested=x", "nested: cannot be given as text"),
            ("left=a&right=b", "right: must not be given together with left"),
        ] {
            assert_eq!(of_query(&whole, text), wrong, "{text}");
        }
        let everything = binding("Whole", Some("*"));
        assert_eq!(of_query(&everything, "flag=true"), "flag: must be in the body");
        let update = binding("/kombify.users.v1.UserService/UpdateUser", None);
        let wrong = "update.displayName: must be in the body";
        assert_eq!(of_query(&update, "update.displayName=x"), wrong);
    }

    #[test]
    fn the_path_decides_and_is_not_contradicted() {
        let cases: &[(&[&str], &str, &str, Option<&str>)] = &[
            (&["a%2Fb", "7"], "", "{}", None),
            (&["a", "x"], "", "{}", Some("nested.i32: must be a whole number")),
            (&["%ff", "7"], "", "{}", Some("text: is not percent-encoded UTF-8")),
            (&["a", "7"], "text=a&nested.i32=07", "{}", None),
            (&["a", "7"], "text=b", "{}", Some("text: contradicts the path")),
            (&["a", "7"], "", r#"{"text": "a", "nested": {"i32": "7"}}"#, None),
            (&["a", "7"], "", r#"{"text": "b"}"#, Some("text: contradicts the path")),
            (&["a", "7"], "", r#"{"text": ""}"#, Some("text: contradicts the path")),
            (&["a", "7"], "", r#"{"text": null}"#, None),
            (&["a", "7"], "", r#"{"nested": {"i32": 8}}"#, Some("nested.i32: contradicts the path")),
        ];
        let binding = binding("Whole", Some("*"));
        for &(values, text, body, wrong) in cases {
            let (mut message, mut faults) = (field::empty(&binding.input), Faults::default());
            let body = json::parse(body.as_bytes()).unwrap();
            json_in::fill(&mut message, &body, &mut JsonPath::default(), &mut faults);
            let values: Vec<String> = values.iter().map(|value| (*value).to_owned()).collect();
            path(&mut message, &binding, &values, Some(&body), &mut faults);
            query(&mut message, &binding, text, &mut faults);
            let set = outcome(&message, faults);
            match wrong {
                Some(wrong) => assert_eq!(set, wrong, "{text} {body:?}"),
                None => assert!(set.contains(r#""nested":{"i32":7,"#), "{set}"),
            }
        }
    }

    #[test]
    fn if_match_becomes_the_etag_of_the_request() {
        let update = binding("/kombify.users.v1.UserService/UpdateUser", None);
        let none = binding("/kombify.users.v1.UserService/GetUser", None);
        let cases: &[(&[&str], &str, &str)] = &[
            (&["\"v1\""], "", "v1"),
            (&["W/\"v1\""], "", "v1"),
            (&[" v1 "], "", "v1"),
            (&["*"], "", "*"),
            (&["\"a,b\""], "", "a,b"),
            (&["\"v1\""], "etag=v1", "v1"),
            (&["\"v1\""], "etag=", "v1"),
            (&["\"v1\""], "etag=v2", "etag: contradicts If-Match"),
            (&[""], "", "etag: must be one etag in If-Match"),
            (&["\"\""], "", "etag: must be one etag in If-Match"),
            (&["\"v1"], "", "etag: must be one etag in If-Match"),
            (&["\"v1\", \"v2\""], "", "etag: must be one etag in If-Match"),
            (&["v1, v2"], "", "etag: must be one etag in If-Match"),
            (&["\"v1\"", "\"v1\""], "", "etag: must be one etag in If-Match"),
        ];
        for &(values, text, expected) in cases {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(header::IF_MATCH, HeaderValue::from_str(value).unwrap());
            }
            let (mut message, mut faults) = (field::empty(&update.input), Faults::default());
            query(&mut message, &update, text, &mut faults);
            if_match(&mut message, &update, &headers, &mut faults);
            let set = outcome(&message, faults);
            assert!(
                set == expected || set.ends_with(&format!(r#""etag":"{expected}"}}"#)),
                "{values:?}: {set}"
            );

            let (mut message, mut faults) = (field::empty(&none.input), Faults::default());
            if_match(&mut message, &none, &headers, &mut faults);
            assert_eq!(outcome(&message, faults), r#"{"sub":""}"#);
        }
    }
}
