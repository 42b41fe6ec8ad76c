//! The headers of requests and answers: each described once, and referred to where it applies.

use kombify_contracts::Method;
use kombify_contracts::kombify::contract::v1::{Access, Door};
use prost_reflect::{Kind, MessageDescriptor};
use serde_json::{Value, json};

/// The headers of every answer to a call that was counted.
const RATE: [&str; 5] =
    ["X-RateLimit-Limit", "X-RateLimit-Remaining", "X-RateLimit-Reset", "RateLimit", "RateLimit-Policy"];

/// What a download says of the thing beside its etag.
const DOWNLOAD: [&str; 2] = ["Repr-Digest", "Accept-Ranges"];

/// The header parameters that operations refer to, by name.
pub fn parameters() -> Value {
    json!({
        "X-Request-ID": parameter(
            "X-Request-ID",
            "Names the request in every log and in the answer. Kept if it is well-formed; else, and where there is \
             none, one is made.",
            &json!({"type": "string", "pattern": "^[A-Za-z0-9._-]{1,128}$"}),
        ),
        "X-Tenant-ID": parameter(
            "X-Tenant-ID",
            "The tenant that the call is for, by id or by slug. It must not contradict what the request names.",
            &json!({"type": "string", "minLength": 1, "maxLength": 128}),
        ),
        "Idempotency-Key": parameter(
            "Idempotency-Key",
            "The promise that a repeat is a repeat, kept for 24 hours: a repeat changes nothing, and answers the same \
             thing as it is now. The same key with another request is CONFLICT.",
            &json!({"type": "string", "minLength": 1, "maxLength": 128}),
        ),
        "If-Match": parameter(
            "If-Match",
            "The etag that the change is made for, for example \"v3\" with its quotes; absent or *: whatever is there.",
            &json!({"type": "string", "minLength": 1}),
        ),
        "If-None-Match": parameter(
            "If-None-Match",
            "The etags of what is there already, each with its quotes, or *: of that nothing is sent again.",
            &json!({"type": "string", "minLength": 1}),
        ),
        "Range": parameter(
            "Range",
            "The one part that is wanted, for example bytes=0-1023. Several parts, and other units, are passed over.",
            &json!({"type": "string", "minLength": 1}),
        ),
        "If-Range": parameter(
            "If-Range",
            "The etag of the thing of which the part is wanted: of another one the whole is sent.",
            &json!({"type": "string", "minLength": 1}),
        ),
    })
}

/// The headers of answers, by name.
pub fn answers() -> Value {
    let header = |description: &str, schema: Value| json!({"description": description, "schema": schema});
    let text = || json!({"type": "string"});
    let number = || json!({"type": "integer", "minimum": 0});
    json!({
        "X-Request-ID": header("The request's name in every log.", text()),
        "ETag": header("The etag of the thing, in quotes.", text()),
        "Repr-Digest": header("The SHA-256 of the whole thing, as RFC 9530 has it.", text()),
        "Accept-Ranges": header("The unit in which parts can be asked for: bytes.", text()),
        "Content-Range": header("Which part it is, and how long the whole thing is.", text()),
        "Retry-After": header("When to try again, in seconds.", number()),
        "X-RateLimit-Limit": header("Requests per minute.", number()),
        "X-RateLimit-Remaining": header("How many are left in this window.", number()),
        "X-RateLimit-Reset": header("When the window ends, in seconds.", number()),
        "RateLimit": header("What is left and when the window ends, as the draft of the IETF has it.", text()),
        "RateLimit-Policy": header("The limit and its window, as the draft of the IETF has it.", text()),
    })
}

/// References to the header parameters of one method.
pub fn of_request(method: &Method, access: &Access) -> Vec<Value> {
    // Beside the doors of tenants, a comment says where the tenant counts.
    let tenant = access.door() == Door::Tenant || method.doc.contains("X-Tenant-ID");
    let download = is_download(method);
    let names = [
        ("X-Request-ID", true),
        ("X-Tenant-ID", tenant),
        ("Idempotency-Key", access.idempotency_key),
        ("If-Match", has_etag(&method.descriptor.input())),
        ("If-None-Match", download),
        ("Range", download),
        ("If-Range", download),
    ];
    let applying = names.into_iter().filter(|(_, applies)| *applies);
    applying.map(|(name, _)| json!({"$ref": format!("#/components/parameters/{name}")})).collect()
}

/// References to the headers of a method's successful answer.
pub fn of_answer(method: &Method, access: &Access) -> Value {
    refer(&names(method, access))
}

/// References to the headers of an answer that is a part of the thing.
pub fn of_part(method: &Method, access: &Access) -> Value {
    let mut names = names(method, access);
    names.push("Content-Range");
    refer(&names)
}

/// References to the headers of a refusal; `again` is the one that tells of another try, where the answer has it.
pub fn of_refusal(again: Option<&str>) -> Value {
    let names: Vec<&str> = std::iter::once("X-Request-ID").chain(again).collect();
    refer(&names)
}

/// Whether the method answers bytes as they are, not JSON.
pub fn is_raw(method: &Method) -> bool {
    method.descriptor.output().full_name() == "google.api.HttpBody"
}

/// Whether the bytes are read: of those a part can be asked for, and they are not sent where they are there already.
pub fn is_download(method: &Method) -> bool {
    is_raw(method) && method.http.as_ref().is_some_and(|http| http.verb == "GET")
}

/// The names of the headers of a method's successful answer.
fn names(method: &Method, access: &Access) -> Vec<&'static str> {
    let data = method.descriptor.output().get_field_by_name("data").filter(|data| !data.is_list());
    let etag = data.is_some_and(|data| data.kind().as_message().is_some_and(has_etag));
    let download = is_download(method);
    let mut names = vec!["X-Request-ID"];
    if etag || download {
        names.push("ETag");
    }
    if download {
        names.extend(DOWNLOAD);
    }
    if !access.rate.is_empty() {
        names.extend(RATE);
    }
    names
}

fn refer(names: &[&str]) -> Value {
    let reference = |name: &str| json!({"$ref": format!("#/components/headers/{name}")});
    Value::Object(names.iter().map(|name| ((*name).to_owned(), reference(name))).collect())
}

fn parameter(name: &str, description: &str, schema: &Value) -> Value {
    json!({"name": name, "in": "header", "description": description, "schema": schema})
}

/// Whether the message has an etag: that of a request is `If-Match`, that of an answer `ETag`.
fn has_etag(message: &MessageDescriptor) -> bool {
    let etag = message.get_field_by_name("etag");
    etag.is_some_and(|etag| etag.kind() == Kind::String && !etag.is_list())
}

#[cfg(test)]
mod tests {
    use super::super::fixture;
    use super::*;

    fn asked(method: &Method) -> Vec<String> {
        let headers = of_request(method, method.access.as_ref().unwrap());
        headers
            .iter()
            .map(|header| {
                header["$ref"].as_str().unwrap().trim_start_matches("#/components/parameters/").to_owned()
            })
            .collect()
    }

    #[test]
    fn a_header_stands_where_it_applies() {
        let cases: [(&str, &[&str]); 5] = [
            ("/kombify.tenancy.v1.TenantService/ListTenants", &["X-Request-ID"]),
            ("/kombify.tenancy.v1.TenantService/GetTenant", &["X-Request-ID", "X-Tenant-ID"]),
            ("/kombify.identity.v1.IdentityService/WhoAmI", &["X-Request-ID", "X-Tenant-ID"]),
            ("/kombify.tenancy.v1.TenantService/CreateTenant", &["X-Request-ID", "Idempotency-Key"]),
            ("/kombify.tenancy.v1.InstanceService/DrainInstance", &["X-Request-ID", "If-Match"]),
        ];
        for (method, headers) in cases {
            assert_eq!(asked(kombify_contracts::method(method).unwrap()), headers, "{method}");
        }
        let download = ["X-Request-ID", "If-None-Match", "Range", "If-Range"];
        assert_eq!(asked(&fixture::download("GET")), download);
        assert_eq!(asked(&fixture::download("POST")), ["X-Request-ID"]);
    }

    #[test]
    fn an_answer_has_the_etag_of_its_thing_and_the_rate_of_its_class() {
        for (method, etag) in [
            ("/kombify.tenancy.v1.TenantService/GetTenant", true),
            ("/kombify.tenancy.v1.TenantService/ListTenants", false),
            ("/kombify.identity.v1.IdentityService/WhoAmI", false),
        ] {
            let method = kombify_contracts::method(method).unwrap();
            let headers = of_answer(method, method.access.as_ref().unwrap());
            assert_eq!(headers.get("ETag").is_some(), etag, "{}", method.path);
            assert!(RATE.iter().all(|name| headers.get(name).is_some()), "{headers}");
            let uncounted = of_answer(method, &Access::default());
            assert!(RATE.iter().all(|name| uncounted.get(name).is_none()), "{uncounted}");
        }
    }

    #[test]
    fn every_header_that_is_referred_to_is_described() {
        let (parameters, answers) = (parameters(), answers());
        let names = ["X-Request-ID", "ETag", "Retry-After", "Content-Range"];
        for name in RATE.into_iter().chain(DOWNLOAD).chain(names) {
            assert!(answers.get(name).is_some(), "{name}");
        }
        for (name, parameter) in parameters.as_object().unwrap() {
            assert_eq!(parameter["name"], json!(name));
        }
    }
}
