//! One method as an operation: what a caller sends, and what comes back.

use kombify_contracts::kombify::contract::v1::{Access, Door, TenantRole};
use kombify_contracts::{Http, Method};
use prost_reflect::{FieldDescriptor, MessageDescriptor};
use serde_json::{Value, json};

use super::schema::{Schemas, Way, is_required, is_timestamp};
use super::{headers, responses};
use crate::{comment, contracts};

/// The path of the method, whose variables have their JSON names.
pub fn path(method: &Method, http: &Http) -> String {
    let input = method.descriptor.input();
    let mut path = http.template.clone();
    for name in variables(&http.template) {
        if let Some(field) = input.get_field_by_name(name) {
            path = path.replace(&format!("{{{name}}}"), &format!("{{{}}}", field.json_name()));
        }
    }
    path
}

/// The operation; what it refers to is added to `schemas`.
pub fn operation(method: &Method, http: &Http, schemas: &mut Schemas) -> Value {
    let access = method.access.clone().unwrap_or_default();
    let input = method.descriptor.input();
    let service = method.descriptor.parent_service().name();
    let mut parameters = parameters(&input, http, schemas);
    parameters.extend(headers::of_request(method, &access));
    let mut operation = json!({
        "operationId": format!("{service}_{}", method.name),
        "tags": [service],
        "summary": comment::first_sentence(&method.doc).trim_end_matches('.'),
        "description": comment::running(&method.doc),
        "parameters": parameters,
        "responses": responses::responses(method, &access, schemas),
        "x-kombify-access": rule(&access),
    });
    if let Some(body) = body(&input, http, schemas) {
        operation["requestBody"] = body;
    }
    if access.door() == Door::Public {
        operation["security"] = json!([]);
    }
    operation
}

/// The access rule, as far as it says something.
fn rule(access: &Access) -> Value {
    let mut rule = json!({"door": contracts::door_name(access.door())});
    if access.tenant_role() != TenantRole::Unspecified {
        rule["tenantRole"] = json!(contracts::role_name(access.tenant_role()));
    }
    for (name, values) in [("platformRoles", &access.platform_roles), ("services", &access.services)] {
        if !values.is_empty() {
            rule[name] = json!(values);
        }
    }
    for (name, value) in [("rate", &access.rate), ("audit", &access.audit)] {
        if !value.is_empty() {
            rule[name] = json!(value);
        }
    }
    rule
}

/// The names of a template's variables.
fn variables(template: &str) -> Vec<&str> {
    template.split('{').skip(1).filter_map(|rest| Some(rest.split_once('}')?.0)).collect()
}

/// The parameters of the path and of the query.
fn parameters(input: &MessageDescriptor, http: &Http, schemas: &mut Schemas) -> Vec<Value> {
    let variables = variables(&http.template);
    let mut parameters = Vec::new();
    for field in variables.iter().filter_map(|name| input.get_field_by_name(name)) {
        parameters.push(parameter("path", field.json_name(), &field, true, schemas));
    }
    let body = http.body.as_deref().unwrap_or_default();
    if body == "*" {
        return parameters;
    }
    let mut named = Vec::new();
    for field in input.fields() {
        // An etag is given as If-Match.
        let elsewhere = variables.contains(&field.name()) || field.name() == body || field.name() == "etag";
        if !elsewhere {
            reach(&field, "", &mut Vec::new(), &mut named);
        }
    }
    for (name, field) in named {
        let required = name == field.json_name() && is_required(&field, Way::Request);
        parameters.push(parameter("query", &name, &field, required, schemas));
    }
    parameters
}

/// Adds what a query can say of a field, each by its path: of a message, what it holds; of maps and lists of messages,
/// nothing.
fn reach(
    field: &FieldDescriptor,
    prefix: &str,
    within: &mut Vec<String>,
    named: &mut Vec<(String, FieldDescriptor)>,
) {
    let path = format!("{prefix}{}", field.json_name());
    let kind = field.kind();
    let Some(message) = kind.as_message().filter(|message| !is_timestamp(message)) else {
        named.push((path, field.clone()));
        return;
    };
    let again = within.iter().any(|outer| outer == message.full_name());
    if again || field.is_list() || field.is_map() {
        return;
    }
    within.push(message.full_name().to_owned());
    for inner in message.fields() {
        reach(&inner, &format!("{path}."), within, named);
    }
    within.pop();
}

fn parameter(
    place: &str,
    name: &str,
    field: &FieldDescriptor,
    required: bool,
    schemas: &mut Schemas,
) -> Value {
    let mut schema = schemas.field(field, Way::Request);
    let description = schema.as_object_mut().and_then(|schema| schema.remove("description"));
    let mut parameter = json!({"name": name, "in": place, "required": required, "schema": schema});
    if let Some(description) = description {
        parameter["description"] = description;
    }
    parameter
}

/// The body of the request, where the method reads one.
fn body(input: &MessageDescriptor, http: &Http, schemas: &mut Schemas) -> Option<Value> {
    let (schema, required) = match http.body.as_deref()? {
        "*" => {
            let required = input.fields().any(|field| is_required(&field, Way::Request));
            (schemas.refer(input, Way::Request), required)
        }
        name => {
            let field = input.get_field_by_name(name)?;
            (schemas.kind(&field.kind(), Way::Request), is_required(&field, Way::Request))
        }
    };
    Some(json!({"required": required, "content": {"application/json": {"schema": schema}}}))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(method: &str) -> Value {
        let method = kombify_contracts::method(method).unwrap();
        operation(method, method.http.as_ref().unwrap(), &mut Schemas::of_contracts())
    }

    /// The names of the parameters in one place.
    fn names(operation: &Value, place: &str) -> Vec<String> {
        let parameters = operation["parameters"].as_array().unwrap().iter();
        let there = parameters.filter(|parameter| parameter["in"] == place);
        there.map(|parameter| parameter["name"].as_str().unwrap().to_owned()).collect()
    }

    #[test]
    fn what_the_path_and_the_body_do_not_fill_is_in_the_query() {
        let list = of("/kombify.tenancy.v1.InstanceService/ListInstances");
        assert_eq!(names(&list, "query"), ["limit", "cursor", "status"]);
        let limit = &list["parameters"][0];
        assert_eq!(
            *limit,
            json!({
                "name": "limit", "in": "query", "required": false,
                "description": "How many at most; 1 to 100; 0: 50.",
                "schema": {"type": "integer", "format": "int32", "minimum": 0, "maximum": 100},
            })
        );
        let events = of("/kombify.audit.v1.AuditService/ListEvents");
        assert!(names(&events, "query").contains(&"startTime".to_owned()));
        let drain = of("/kombify.tenancy.v1.InstanceService/DrainInstance");
        assert_eq!((names(&drain, "path"), names(&drain, "query").len()), (vec!["id".to_owned()], 0));
        assert_eq!(drain["parameters"][0]["required"], json!(true));
        assert_eq!(drain.get("requestBody"), None);
        let grant = of("/kombify.tenancy.v1.OrganisationService/GrantPlan");
        assert_eq!(names(&grant, "query").len(), 0);
        assert_eq!(grant["requestBody"]["required"], json!(true));
        let body = &grant["requestBody"]["content"]["application/json"]["schema"];
        assert_eq!(body["$ref"], "#/components/schemas/PlanGrant");
    }

    #[test]
    fn a_query_reaches_into_messages() {
        let input = kombify_contracts::descriptors()
            .get_message_by_name("kombify.users.v1.UpdateUserRequest")
            .unwrap();
        let http = Http { verb: "GET", template: "/v1/users/{sub}".to_owned(), body: None };
        let parameters = json!({"parameters": parameters(&input, &http, &mut Schemas::of_contracts())});
        assert_eq!(names(&parameters, "path"), ["sub"]);
        let expected = [
            "update.displayName",
            "update.avatarUrl",
            "update.preferences.locale",
            "update.preferences.timezone",
            "update.preferences.theme",
            "update.preferences.emailNotices",
        ];
        assert_eq!(names(&parameters, "query"), expected);
    }

    #[test]
    fn the_access_rule_stands_beside() {
        let get = of("/kombify.tenancy.v1.TenantService/GetTenant");
        let rule = json!({"door": "TENANT", "tenantRole": "viewer", "rate": "other"});
        assert_eq!(get["x-kombify-access"], rule);
        let drain = of("/kombify.tenancy.v1.InstanceService/DrainInstance");
        let roles = json!(["admin", "kombisphere_admin"]);
        let rule =
            json!({"door": "PLATFORM", "platformRoles": roles, "rate": "admin", "audit": "instance.drained"});
        assert_eq!(drain["x-kombify-access"], rule);
    }

    #[test]
    fn only_what_is_public_needs_no_token() {
        let mut method =
            kombify_contracts::method("/kombify.tenancy.v1.TenantService/GetTenant").unwrap().clone();
        let http = method.http.clone().unwrap();
        let schemas = &mut Schemas::of_contracts();
        assert_eq!(operation(&method, &http, schemas).get("security"), None);
        method.access = Some(Access { door: Door::Public.into(), ..Access::default() });
        assert_eq!(operation(&method, &http, schemas)["security"], json!([]));
    }

    #[test]
    fn a_path_has_the_names_of_json() {
        let method = kombify_contracts::method("/kombify.users.v1.UserService/ListUsers").unwrap();
        let template = "/v1/organisations/{org_id}/users:search".to_owned();
        let http = Http { verb: "GET", template, body: None };
        assert_eq!(path(method, &http), "/v1/organisations/{orgId}/users:search");
    }
}
