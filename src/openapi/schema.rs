//! Messages of the contracts as schemas: the JSON that a caller sends and gets.

use std::collections::{BTreeMap, BTreeSet};

use kombify_contracts::{descriptors, methods};
use prost_reflect::{FieldDescriptor, Kind, MessageDescriptor};
use serde_json::{Map, Value, json};

use super::rules::Rules;
use crate::comment;

/// The name of the schema of the error envelope.
pub const ERROR: &str = "Error";

/// Which way a message goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// From the caller: its rules are checked, and what it must not hold is refused.
    Request,
    /// To the caller: it may hold more than this version of the contract knows.
    Answer,
}

/// The schemas of messages, each written when it is first referred to.
pub struct Schemas {
    written: Map<String, Value>,
    /// How many messages of ours have a name, packages aside.
    namesakes: BTreeMap<String, usize>,
    /// The messages that stand in answers, by their full names.
    answers: BTreeSet<String>,
}

impl Schemas {
    /// No schema yet, and the names of all.
    pub fn of_contracts() -> Self {
        let mut namesakes: BTreeMap<String, usize> = BTreeMap::new();
        for message in descriptors().all_messages() {
            if message.package_name().starts_with("kombify.") {
                *namesakes.entry(short_name(&message).to_owned()).or_default() += 1;
            }
        }
        let mut answers = BTreeSet::new();
        for method in methods().iter().filter(|method| method.http.is_some()) {
            gather(&method.descriptor.output(), &mut answers);
        }
        Self { written: Map::new(), namesakes, answers }
    }

    /// Every schema that was referred to, by its name.
    pub fn into_map(self) -> Map<String, Value> {
        self.written
    }

    /// A reference to the schema of a message.
    pub fn refer(&mut self, message: &MessageDescriptor, way: Way) -> Value {
        let name = self.name(message, way);
        if !self.written.contains_key(&name) {
            self.written.insert(name.clone(), Value::Null); // A message may hold itself.
            let schema = self.object(message, way);
            self.written.insert(name.clone(), schema);
        }
        json!({"$ref": format!("#/components/schemas/{name}")})
    }

    /// The schema of a field, with its comment.
    pub fn field(&mut self, field: &FieldDescriptor, way: Way) -> Value {
        let rules = if way == Way::Request { Rules::of(field) } else { Rules::default() };
        let kind = field.kind();
        let mut schema = match kind.as_message() {
            Some(entry) if field.is_map() => self.map(entry, &rules, way),
            _ if field.is_list() => {
                let items = self.part(&kind, &rules.part("repeated", "items"), way);
                json!({"type": "array", "items": items})
            }
            _ => self.kind(&kind, way),
        };
        rules.narrow(&mut schema);
        if rules.required() && !field.supports_presence() {
            forbid_empty(&mut schema);
        }
        describe(&mut schema, &comment::of(&field.parent_file(), field.path()));
        schema
    }

    /// The schema of a single value.
    pub fn kind(&mut self, kind: &Kind, way: Way) -> Value {
        match kind {
            Kind::Bool => json!({"type": "boolean"}),
            Kind::String => json!({"type": "string"}),
            Kind::Bytes => json!({"type": "string", "contentEncoding": "base64"}),
            Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => json!({"type": "integer", "format": "int32"}),
            Kind::Uint32 | Kind::Fixed32 => json!({"type": "integer", "format": "uint32"}),
            Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => json!({"type": "string", "format": "int64"}),
            Kind::Uint64 | Kind::Fixed64 => json!({"type": "string", "format": "uint64"}),
            Kind::Float => json!({"type": "number", "format": "float"}),
            Kind::Double => json!({"type": "number", "format": "double"}),
            Kind::Enum(of) => {
                let names: Vec<String> = of.values().map(|value| value.name().to_owned()).collect();
                json!({"type": "string", "enum": names})
            }
            Kind::Message(of) if is_timestamp(of) => json!({"type": "string", "format": "date-time"}),
            Kind::Message(of) => self.refer(of, way),
        }
    }

    fn map(&mut self, entry: &MessageDescriptor, rules: &Rules, way: Way) -> Value {
        let values = entry.map_entry_value_field().kind();
        let values = self.part(&values, &rules.part("map", "values"), way);
        let mut keys = json!({});
        rules.part("map", "keys").narrow(&mut keys);
        let mut schema = json!({"type": "object", "additionalProperties": values});
        if keys != json!({}) {
            schema["propertyNames"] = keys;
        }
        schema
    }

    fn part(&mut self, kind: &Kind, rules: &Rules, way: Way) -> Value {
        let mut schema = self.kind(kind, way);
        rules.narrow(&mut schema);
        schema
    }

    fn object(&mut self, message: &MessageDescriptor, way: Way) -> Value {
        let mut properties = Map::new();
        let mut required = Vec::new();
        for field in message.fields() {
            let name = field.json_name().to_owned();
            if is_required(&field, way) {
                required.push(name.clone());
            }
            properties.insert(name, self.field(&field, way));
        }
        let mut schema = json!({"type": "object", "properties": properties});
        if !required.is_empty() {
            schema["required"] = json!(required);
        }
        if way == Way::Request {
            schema["additionalProperties"] = json!(false);
        }
        describe(&mut schema, &comment::of(&message.parent_file(), message.path()));
        schema
    }

    /// The name of a schema: that of the message, longer only where another has the same.
    fn name(&self, message: &MessageDescriptor, way: Way) -> String {
        let short = short_name(message);
        let alone = self.namesakes.get(short) == Some(&1) && short != ERROR;
        let name = if alone { short } else { message.full_name() };
        let both = way == Way::Request && self.answers.contains(message.full_name());
        if both { format!("{name}Input") } else { name.to_owned() }
    }
}

/// Whether the field is always there.
pub fn is_required(field: &FieldDescriptor, way: Way) -> bool {
    match way {
        // Scalars, lists and maps are always written; and what a response itself holds, the contracts promise.
        Way::Answer => !field.supports_presence() || field.parent_message().name().ends_with("Response"),
        Way::Request => {
            let rules = Rules::of(field);
            rules.required() || (!field.supports_presence() && rules.refuse_zero())
        }
    }
}

/// Whether a message is the one that JSON writes as a text.
pub fn is_timestamp(message: &MessageDescriptor) -> bool {
    message.full_name() == "google.protobuf.Timestamp"
}

fn short_name(message: &MessageDescriptor) -> &str {
    let name = message.full_name();
    name.strip_prefix(message.package_name()).and_then(|name| name.strip_prefix('.')).unwrap_or(name)
}

fn gather(message: &MessageDescriptor, found: &mut BTreeSet<String>) {
    if !found.insert(message.full_name().to_owned()) {
        return;
    }
    for field in message.fields() {
        if let Kind::Message(inner) = field.kind() {
            gather(&inner, found);
        }
    }
}

fn forbid_empty(schema: &mut Value) {
    let keyword = match schema["type"].as_str() {
        Some("string") => "minLength",
        Some("array") => "minItems",
        Some("object") => "minProperties",
        _ => return,
    };
    if schema.get(keyword).is_none() {
        schema[keyword] = json!(1);
    }
}

fn describe(schema: &mut Value, text: &str) {
    if !text.is_empty() {
        schema["description"] = json!(text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The schemas that one message brings along.
    fn written(message: &str, way: Way) -> Map<String, Value> {
        let mut schemas = Schemas::of_contracts();
        schemas.refer(&descriptors().get_message_by_name(message).unwrap(), way);
        schemas.into_map()
    }

    #[test]
    fn a_request_says_what_it_must_hold_and_refuses_the_rest() {
        let schemas = written("kombify.tenancy.v1.CreateTenantRequest", Way::Request);
        let schema = &schemas["CreateTenantRequest"];
        assert_eq!(schema["required"], json!(["slug", "name"]));
        assert_eq!(schema["additionalProperties"], json!(false));
        assert_eq!(schema["description"], "Creates a tenant.");
        assert_eq!(schema["properties"]["slug"]["pattern"], "^[a-z][a-z0-9-]{1,38}[a-z0-9]$");
        let grant = &written("kombify.tenancy.v1.PlanGrant", Way::Request)["PlanGrant"];
        assert_eq!(grant["required"], json!(["plan", "endTime", "reason"]));
        let end = &grant["properties"]["endTime"];
        assert_eq!((&end["type"], &end["format"]), (&json!("string"), &json!("date-time")));
    }

    #[test]
    fn a_change_needs_nothing_and_brings_the_messages_that_it_holds() {
        let schemas = written("kombify.users.v1.UserUpdate", Way::Request);
        let update = &schemas["UserUpdate"];
        assert_eq!(update.get("required"), None);
        assert_eq!(update["properties"]["displayName"]["maxLength"], 100);
        assert_eq!(update["properties"]["preferences"]["$ref"], "#/components/schemas/PreferencesUpdate");
        assert_eq!(
            schemas["PreferencesUpdate"]["properties"]["theme"]["enum"],
            json!(["", "light", "dark", "system"])
        );
    }

    #[test]
    fn an_answer_says_what_is_always_written_and_may_hold_more() {
        let schemas = written("kombify.tenancy.v1.ListAllTenantsResponse", Way::Answer);
        assert_eq!(schemas["ListAllTenantsResponse"]["required"], json!(["data", "meta"]));
        let tenant = &schemas["Tenant"];
        let always = json!(["id", "slug", "name", "orgId", "plan", "status", "instanceId", "etag"]);
        assert_eq!(tenant["required"], always);
        assert_eq!(tenant.get("additionalProperties"), None);
        assert_eq!(tenant["properties"]["createTime"]["format"], "date-time");
        assert_eq!(schemas["Limits"]["properties"]["storageGb"]["format"], "int32");
        let actor = &written("kombify.audit.v1.Actor", Way::Answer)["Actor"];
        assert_eq!(actor["properties"]["sub"].get("maxLength"), None);
    }

    #[test]
    fn a_map_is_an_object_of_any_names() {
        let event = &written("kombify.audit.v1.AuditEvent", Way::Answer)["AuditEvent"];
        assert_eq!(event["properties"]["details"]["additionalProperties"], json!({"type": "string"}));
        assert!(event["required"].as_array().unwrap().contains(&json!("details")));
        let refusal = &written("kombify.audit.v1.Refusal", Way::Request)["Refusal"];
        let details = &refusal["properties"]["details"];
        assert_eq!(details["additionalProperties"], json!({"type": "string", "maxLength": 200}));
        assert_eq!(details["propertyNames"], json!({"minLength": 1, "maxLength": 32}));
    }

    #[test]
    fn a_message_that_goes_both_ways_has_a_schema_for_each() {
        let schemas = written("kombify.audit.v1.Refusal", Way::Request);
        assert_eq!(schemas["ActorInput"]["additionalProperties"], json!(false));
        assert_eq!(schemas["ActorInput"]["properties"]["sub"]["maxLength"], 200);
        assert!(!schemas.contains_key("Actor"));
    }
}
