//! `kombify openapi`: the JSON of the contracts as an `OpenAPI` 3.1 document, from the descriptors.

#[cfg(test)]
mod fixture;
mod headers;
mod operation;
mod responses;
mod rules;
mod schema;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use serde_json::{Map, Value, json};

use self::schema::{ERROR, Schemas};
use crate::comment;
use crate::config::Listen;

/// The document: what the gateway serves, or with `public_only` unset also what modules serve each other.
pub fn document(public_only: bool) -> Value {
    let listen = Listen::default();
    let public: BTreeSet<&str> =
        kombify_gateway::public_methods().map(|method| method.path.as_str()).collect();
    let mut schemas = Schemas::of_contracts();
    let mut paths = Map::new();
    let mut tags: BTreeMap<&str, String> = BTreeMap::new();
    for method in kombify_contracts::methods() {
        let is_public = public.contains(method.path.as_str());
        let Some(http) = method.http.as_ref().filter(|_| is_public || !public_only) else { continue };
        let service = method.descriptor.parent_service();
        tags.entry(service.name()).or_insert_with(|| comment::of(&service.parent_file(), service.path()));
        let mut operation = operation::operation(method, http, &mut schemas);
        if let Some(address) = own_port(&method.module, &listen).filter(|_| !is_public) {
            operation["servers"] = json!([{"url": url(address), "description": "The module's own port."}]);
        }
        let path = paths.entry(operation::path(method, http)).or_insert_with(|| json!({}));
        path[http.verb.to_lowercase()] = operation;
    }
    let tags: Vec<Value> =
        tags.iter().map(|(name, comment)| json!({"name": name, "description": comment})).collect();
    let mut schemas = schemas.into_map();
    schemas.insert(ERROR.to_owned(), responses::error_schema());
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "kombify",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "The control plane of a SaaS for homelabs, as its contracts say it.",
            "license": {"name": "Apache License 2.0", "identifier": env!("CARGO_PKG_LICENSE")},
        },
        "servers": [{"url": url(listen.gateway), "description": "The gateway."}],
        "security": [{"bearerAuth": []}],
        "tags": tags,
        "paths": paths,
        "components": {
            "schemas": schemas,
            "parameters": headers::parameters(),
            "headers": headers::answers(),
            "responses": {"Error": responses::any_refusal()},
            "securitySchemes": {"bearerAuth": {
                "type": "http",
                "scheme": "bearer",
                "bearerFormat": "JWT",
                "description": "An access token of the identity provider.",
            }},
        },
    })
}

fn url(address: SocketAddr) -> String {
    format!("http://localhost:{}", address.port())
}

/// Where a module listens that serves contracts of its own.
fn own_port(module: &str, listen: &Listen) -> Option<SocketAddr> {
    match module {
        "admin" => Some(listen.admin),
        "cloud" => Some(listen.cloud),
        "stack" => Some(listen.stack),
        "kits" => Some(listen.kits),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every operation of the document: its path, its verb and itself.
    fn operations(document: &Value) -> Vec<(String, String, Value)> {
        let paths = document["paths"].as_object().unwrap().iter();
        let of_path = |(path, verbs): (&String, &Value)| {
            let verbs = verbs.as_object().unwrap().iter();
            verbs.map(|(verb, one)| (path.clone(), verb.clone(), one.clone())).collect::<Vec<_>>()
        };
        paths.flat_map(of_path).collect()
    }

    /// Every reference in the document.
    fn references(value: &Value, found: &mut BTreeSet<String>) {
        match value {
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
            Value::Array(values) => {
                for value in values {
                    references(value, found);
                }
            }
            Value::Object(values) => {
                found.extend(values.get("$ref").and_then(Value::as_str).map(str::to_owned));
                for value in values.values() {
                    references(value, found);
                }
            }
        }
    }

    #[test]
    fn what_is_public_has_one_operation_each() {
        let document = document(true);
        let operations = operations(&document);
        assert_eq!(operations.len(), kombify_gateway::public_methods().count());
        assert!(operations.iter().all(|(path, ..)| path.starts_with("/v1/")));
        let ids: BTreeSet<_> = operations.iter().map(|(.., one)| one["operationId"].to_string()).collect();
        assert_eq!(ids.len(), operations.len());
        let drain = &document["paths"]["/v1/admin/instances/{id}:drain"]["post"];
        assert_eq!(drain["operationId"], "InstanceService_DrainInstance");
        assert_eq!(drain["summary"], "Stops placing tenants on an instance; those it has stay");
    }

    #[test]
    fn what_modules_serve_each_other_is_there_on_demand_at_their_own_ports() {
        let document = document(false);
        let (internal, public): (Vec<_>, Vec<_>) =
            operations(&document).into_iter().partition(|(path, ..)| path.starts_with("/api/internal/"));
        assert!(internal.len() >= 2);
        assert_eq!(public.len(), kombify_gateway::public_methods().count());
        for (path, .., one) in &internal {
            let port = if path.starts_with("/api/internal/users/") { 8090 } else { 8080 };
            assert_eq!(one["servers"][0]["url"], format!("http://localhost:{port}"), "{path}");
        }
        assert!(public.iter().all(|(.., one)| one.get("servers").is_none()));
        assert_eq!(document["servers"][0]["url"], "http://localhost:8000");
    }

    #[test]
    fn every_reference_leads_somewhere_and_every_schema_is_used() {
        for public_only in [true, false] {
            let document = document(public_only);
            let mut found = BTreeSet::new();
            references(&document, &mut found);
            for reference in &found {
                let pointer = reference.strip_prefix('#').unwrap();
                assert!(document.pointer(pointer).is_some_and(Value::is_object), "{reference}");
            }
            for (name, schema) in document["components"]["schemas"].as_object().unwrap() {
                assert!(found.contains(&format!("#/components/schemas/{name}")), "nobody uses {name}");
                let text = schema["description"].as_str();
                assert!(text.is_some_and(|text| !text.is_empty()), "{name} says nothing of itself");
            }
        }
    }

    #[test]
    fn every_tag_is_described_and_the_document_is_the_same_each_time() {
        let one = document(true);
        let tags: BTreeSet<_> =
            one["tags"].as_array().unwrap().iter().map(|tag| tag["name"].to_string()).collect();
        for (.., operation) in operations(&one) {
            assert!(tags.contains(&operation["tags"][0].to_string()), "{operation}");
        }
        assert!(one["tags"].as_array().unwrap().iter().all(|tag| tag["description"] != ""));
        assert_eq!(one.to_string(), document(true).to_string());
    }
}
