//! What a method answers: the thing, its bytes, or the error envelope.

use std::collections::BTreeMap;

use kombify_contracts::Method;
use kombify_contracts::kombify::contract::v1::Access;
use kombify_core::Code;
use serde_json::{Map, Value, json};

use super::headers;
use super::schema::{ERROR, Schemas, Way};
use crate::comment;

/// What ends the condition of one failure before the next.
const JOINTS: [&str; 5] = [".", " with", " and", " or", ","];

/// The header by which a refusal tells of another try.
const AGAIN: [(Code, &str); 3] = [
    (Code::RateLimited, "Retry-After"),
    (Code::ServiceUnavailable, "Retry-After"),
    (Code::RangeNotSatisfiable, "Content-Range"),
];

/// Every answer of a method, by HTTP status.
pub fn responses(method: &Method, access: &Access, schemas: &mut Schemas) -> Value {
    let output = method.descriptor.output();
    let content = if headers::is_raw(method) {
        json!({"*/*": {"schema": {"type": "string", "format": "binary"}}})
    } else {
        json!({"application/json": {"schema": schemas.refer(&output, Way::Answer)}})
    };
    let success = json!({
        "description": comment::of(&output.parent_file(), output.path()),
        "headers": headers::of_answer(method, access),
        "content": content,
    });
    let mut reasons: BTreeMap<u16, Vec<String>> = BTreeMap::new();
    for (code, reason) in failures(&method.doc) {
        reasons.entry(code.http()).or_default().push(reason);
    }
    if access.idempotency_key {
        let reason = "CONFLICT if the Idempotency-Key came with another request".to_owned();
        reasons.entry(Code::Conflict.http()).or_default().push(reason);
    }
    let mut responses = Map::new();
    responses.insert("200".to_owned(), success);
    if headers::is_download(method) {
        let part = json!({
            "description": "The part that Range asks for.",
            "headers": headers::of_part(method, access),
            "content": content,
        });
        responses.insert("206".to_owned(), part);
        let unchanged = json!({
            "description": "Nothing: it is what If-None-Match names.",
            "headers": headers::of_answer(method, access),
        });
        responses.insert("304".to_owned(), unchanged);
        let outside = || vec!["RANGE_NOT_SATISFIABLE if the Range lies outside of the thing".to_owned()];
        reasons.entry(Code::RangeNotSatisfiable.http()).or_insert_with(outside);
    }
    for (status, reasons) in reasons {
        let again = AGAIN.iter().find(|(code, _)| code.http() == status).map(|(_, name)| *name);
        responses.insert(status.to_string(), refusal(&format!("{}.", reasons.join("; ")), again));
    }
    responses.insert("default".to_owned(), json!({"$ref": "#/components/responses/Error"}));
    Value::Object(responses)
}

/// The answer to every failure that an operation does not name.
pub fn any_refusal() -> Value {
    refusal("Any other failure: the code says which.", Some("Retry-After"))
}

/// The error envelope.
pub fn error_schema() -> Value {
    let codes: Vec<&str> = Code::ALL.iter().map(|code| code.as_str()).collect();
    json!({
        "type": "object",
        "description": "What went wrong.",
        "required": ["error"],
        "properties": {"error": {
            "type": "object",
            "required": ["code", "message", "details", "requestId", "timestamp"],
            "properties": {
                "code": {"type": "string", "enum": codes, "description": "What a program decides by."},
                "message": {"type": "string", "description": "For people."},
                "details": {
                    "type": "object",
                    "description": "Wrong fields, and pairs of text.",
                    "properties": {"fields": {
                        "type": "object",
                        "description": "The path of each wrong field, and what must be true there.",
                        "additionalProperties": {"type": "string"},
                    }},
                    "additionalProperties": {"type": "string"},
                },
                "requestId": {"type": "string", "description": "The request that failed; the log knows it."},
                "timestamp": {"type": "string", "format": "date-time", "description": "When."},
            },
        }},
    })
}

fn refusal(description: &str, again: Option<&str>) -> Value {
    let schema = format!("#/components/schemas/{ERROR}");
    json!({
        "description": description,
        "headers": headers::of_refusal(again),
        "content": {"application/json": {"schema": {"$ref": schema}}},
    })
}

/// How a comment says that the method fails: each code, and the words from it to the next.
fn failures(comment: &str) -> Vec<(Code, String)> {
    let text = comment::running(comment);
    let mut found = Vec::new();
    for rest in text.split("Fails with ").skip(1) {
        let line = rest.lines().next().unwrap_or_default();
        let sentence = line.split_once(". ").map_or(line, |(sentence, _)| sentence);
        let mut codes: Vec<(usize, Code)> = Vec::new();
        for &code in Code::ALL {
            codes.extend(sentence.match_indices(code.as_str()).map(|(at, _)| (at, code)));
        }
        codes.sort_unstable();
        let ends = codes.iter().skip(1).map(|(at, _)| *at).chain([sentence.len()]);
        for (&(begin, code), end) in codes.iter().zip(ends) {
            found.push((code, without_joints(&sentence[begin..end])));
        }
    }
    found
}

fn without_joints(text: &str) -> String {
    let mut text = text.trim_end();
    for joint in JOINTS {
        text = text.strip_suffix(joint).unwrap_or(text);
    }
    text.to_owned()
}

#[cfg(test)]
mod tests {
    use super::super::fixture;
    use super::*;

    fn of(method: &str) -> Value {
        let method = kombify_contracts::method(method).unwrap();
        responses(method, method.access.as_ref().unwrap(), &mut Schemas::of_contracts())
    }

    fn statuses(responses: &Value) -> Vec<&str> {
        responses.as_object().unwrap().keys().map(String::as_str).collect()
    }

    #[test]
    fn a_comment_names_its_failures() {
        let said = "Changes it. Fails with NOT_FOUND for all but members: it is a secret, with CONFLICT if the\nname is \
                    taken, and with SERVICE_UNAVAILABLE (Retry-After) while it is away. No more is said of NOT_FOUND.";
        assert_eq!(
            failures(said),
            [
                (Code::NotFound, "NOT_FOUND for all but members: it is a secret".to_owned()),
                (Code::Conflict, "CONFLICT if the name is taken".to_owned()),
                (Code::ServiceUnavailable, "SERVICE_UNAVAILABLE (Retry-After) while it is away".to_owned()),
            ]
        );
        assert!(failures("Gives it.").is_empty());
    }

    #[test]
    fn every_failure_that_a_comment_names_is_an_answer() {
        let create = of("/kombify.tenancy.v1.TenantService/CreateTenant");
        assert_eq!(
            create["409"]["description"],
            "CONFLICT if the organisation has a tenant or the slug was ever given; CONFLICT if the Idempotency-Key \
             came with another request."
        );
        assert_eq!(create["503"]["headers"]["Retry-After"]["$ref"], "#/components/headers/Retry-After");
        assert_eq!(create["200"]["description"], "Gives the tenant as created, or on a repeat as it is now.");
        assert_eq!(statuses(&create), ["200", "409", "503", "default"]);
        let update = of("/kombify.cloud.v1.ProfileService/UpdateProfile");
        assert_eq!(statuses(&update), ["200", "400", "412", "503", "default"]);
    }

    #[test]
    fn bytes_are_bytes_of_any_type_and_have_no_schema() {
        let mut schemas = Schemas::of_contracts();
        let [read, made] =
            ["GET", "POST"].map(|verb| responses(&fixture::download(verb), &Access::default(), &mut schemas));
        assert!(schemas.into_map().is_empty());
        assert_eq!(statuses(&read), ["200", "206", "304", "404", "416", "default"]);
        assert_eq!(statuses(&made), ["200", "404", "default"]);
        let content = json!({"*/*": {"schema": {"type": "string", "format": "binary"}}});
        for answer in [&read["200"], &read["206"], &made["200"]] {
            assert_eq!(answer["content"], content);
        }
        assert!(read["200"]["description"].as_str().unwrap().starts_with("Raw bytes of some media type."));
        assert_eq!(read["304"].get("content"), None);

        let cases: [(&Value, &[&str]); 5] = [
            (&read["200"], &["Accept-Ranges", "ETag", "Repr-Digest", "X-Request-ID"]),
            (&read["206"], &["Accept-Ranges", "Content-Range", "ETag", "Repr-Digest", "X-Request-ID"]),
            (&read["304"], &["Accept-Ranges", "ETag", "Repr-Digest", "X-Request-ID"]),
            (&read["416"], &["Content-Range", "X-Request-ID"]),
            (&made["200"], &["X-Request-ID"]),
        ];
        for (answer, expected) in cases {
            let names: Vec<_> = answer["headers"].as_object().unwrap().keys().map(String::as_str).collect();
            assert_eq!(names, expected, "{answer}");
        }
    }

    #[test]
    fn the_schema_of_an_error_has_the_keys_of_the_envelope() {
        use kombify_core::error::{Details, Envelope, EnvelopeError};
        let envelope = Envelope {
            error: EnvelopeError {
                code: "NOT_FOUND".into(),
                message: "not found".into(),
                details: Details::default(),
                request_id: "req_1".into(),
                timestamp: "2026-01-31T12:00:00Z".into(),
            },
        };
        let written = serde_json::to_value(envelope).unwrap();
        let schema = error_schema();
        let known = &schema["properties"]["error"];
        let mut required: Vec<_> = known["required"].as_array().unwrap().clone();
        required.sort_by_key(Value::to_string);
        let keys: Vec<_> = written["error"].as_object().unwrap().keys().map(|key| json!(key)).collect();
        assert_eq!(keys, required);
        let properties: Vec<_> =
            known["properties"].as_object().unwrap().keys().map(|key| json!(key)).collect();
        assert_eq!(keys, properties);
        assert_eq!(known["properties"]["code"]["enum"].as_array().unwrap().len(), Code::ALL.len());
    }
}
