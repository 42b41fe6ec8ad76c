//! The `buf.validate` rules of a field, as keywords of a schema.

use prost_reflect::{DynamicMessage, FieldDescriptor, Value};
use regex::Regex;
use serde_json::{Value as Json, json};

/// The option that holds the rules of a field.
const OPTION: &str = "buf.validate.field";

/// The rules of one field, or of the items, keys or values of one.
#[derive(Debug, Default)]
pub struct Rules(Option<DynamicMessage>);

impl Rules {
    /// The rules of a field.
    pub fn of(field: &FieldDescriptor) -> Self {
        let options = field.options();
        let option = options.extensions().find(|(extension, _)| extension.full_name() == OPTION);
        Self::read(option.and_then(|(_, rules)| rules.as_message()))
    }

    /// The rules of a part of the field: of the `items` of "repeated", of the `keys` or `values` of "map".
    pub fn part(&self, of: &str, part: &str) -> Self {
        let part = self.0.as_ref().and_then(|rules| part_of(rules, of, part));
        Self::read(part.as_ref())
    }

    fn read(rules: Option<&DynamicMessage>) -> Self {
        // A schema has no word for rules that are passed over: without them it allows more, and nothing wrong.
        Self(rules.filter(|rules| is_held(rules)).cloned())
    }

    /// Whether the field must be set.
    pub fn required(&self) -> bool {
        let required = self.0.as_ref().and_then(|rules| rules.get_field_by_name("required"));
        required.is_some_and(|required| required.as_bool() == Some(true))
    }

    /// Whether a field that is absent, which is to say zero, breaks the rules of its type.
    pub fn refuse_zero(&self) -> bool {
        self.typed().iter().any(|(rule, value)| match (rule.as_str(), value) {
            ("const", Value::Bool(only)) => *only,
            ("const" | "prefix", Value::String(only)) => !only.is_empty(),
            ("len" | "min_len" | "min_items" | "min_pairs", Value::U64(least)) => *least > 0,
            ("pattern", Value::String(pattern)) => {
                Regex::new(pattern).is_ok_and(|pattern| !pattern.is_match(""))
            }
            ("in", Value::List(values)) => !values.iter().any(is_zero),
            ("gt", Value::I32(bound)) => *bound >= 0,
            ("gte", Value::I32(bound)) => *bound > 0,
            ("lt", Value::I32(bound)) => *bound <= 0,
            ("lte", Value::I32(bound)) => *bound < 0,
            _ => false,
        })
    }

    /// Adds the rules of the type to its schema.
    pub fn narrow(&self, schema: &mut Json) {
        for (rule, value) in self.typed() {
            let keywords: &[&str] = match rule.as_str() {
                "const" => &["const"],
                "in" => &["enum"],
                "len" => &["minLength", "maxLength"],
                "min_len" => &["minLength"],
                "max_len" => &["maxLength"],
                "pattern" => &["pattern"],
                "gt" => &["exclusiveMinimum"],
                "gte" => &["minimum"],
                "lt" => &["exclusiveMaximum"],
                "lte" => &["maximum"],
                "min_items" => &["minItems"],
                "max_items" => &["maxItems"],
                "unique" => &["uniqueItems"],
                "min_pairs" => &["minProperties"],
                "max_pairs" => &["maxProperties"],
                _ => &[],
            };
            for keyword in keywords {
                schema[*keyword] = literal(&value);
            }
            if let ("prefix", Some(prefix)) = (rule.as_str(), value.as_str()) {
                // Beside a pattern, not in its place.
                schema["allOf"] = json!([{"pattern": format!("^{}", regex::escape(prefix))}]);
            }
        }
    }

    /// The rules of the type: the name of each, and what it is set to.
    fn typed(&self) -> Vec<(String, Value)> {
        let Some(rules) = &self.0 else { return Vec::new() };
        let mut typed = Vec::new();
        // Those of an enum are numbers, which JSON does not show.
        for (_, value) in rules.fields().filter(|(of, _)| of.name() != "enum") {
            let Some(rules) = value.as_message() else { continue };
            typed.extend(rules.fields().map(|(rule, value)| (rule.name().to_owned(), value.clone())));
        }
        typed
    }
}

fn part_of(rules: &DynamicMessage, of: &str, part: &str) -> Option<DynamicMessage> {
    let typed = rules.get_field_by_name(of)?;
    let part = typed.as_message()?.get_field_by_name(part)?;
    part.as_message().cloned()
}

fn is_held(rules: &DynamicMessage) -> bool {
    rules.get_field_by_name("ignore").is_none_or(|ignore| ignore.as_enum_number() == Some(0))
}

fn is_zero(value: &Value) -> bool {
    value.as_str() == Some("") || value.as_i32() == Some(0)
}

/// What a rule is set to, as JSON.
fn literal(value: &Value) -> Json {
    if let Some(values) = value.as_list() {
        return values.iter().map(literal).collect();
    }
    let text = value.as_str().map(Json::from);
    let number = || value.as_i32().map(Json::from).or_else(|| value.as_u64().map(Json::from));
    let flag = || value.as_bool().map(Json::from);
    text.or_else(number).or_else(flag).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn field(message: &str, name: &str) -> FieldDescriptor {
        let message = kombify_contracts::descriptors().get_message_by_name(message).unwrap();
        message.get_field_by_name(name).unwrap()
    }

    fn keywords(message: &str, name: &str) -> Json {
        let mut schema = json!({});
        Rules::of(&field(message, name)).narrow(&mut schema);
        schema
    }

    #[test]
    fn every_rule_has_its_keyword() {
        let list = "kombify.tenancy.v1.ListInstancesRequest";
        assert_eq!(keywords(list, "limit"), json!({"minimum": 0, "maximum": 100}));
        assert_eq!(keywords(list, "cursor"), json!({"maxLength": 512}));
        assert_eq!(keywords(list, "status"), json!({"enum": ["", "active", "draining"]}));
        let tenant = "kombify.tenancy.v1.CreateTenantRequest";
        let name = json!({"minLength": 1, "maxLength": 100, "pattern": r"^[^\x00-\x1f\x7f]*$"});
        assert_eq!(keywords(tenant, "name"), name);
        let refusals = json!({"minItems": 1, "maxItems": 100});
        assert_eq!(keywords("kombify.audit.v1.ReportRefusalsRequest", "refusals"), refusals);
        assert_eq!(keywords("kombify.audit.v1.Refusal", "details"), json!({"maxProperties": 8}));
        assert_eq!(keywords("kombify.tenancy.v1.Tenant", "name"), json!({}));
    }

    #[test]
    fn the_parts_of_a_field_have_rules_of_their_own() {
        let details = Rules::of(&field("kombify.audit.v1.Refusal", "details"));
        let (mut keys, mut values) = (json!({}), json!({}));
        details.part("map", "keys").narrow(&mut keys);
        details.part("map", "values").narrow(&mut values);
        assert_eq!((keys, values), (json!({"minLength": 1, "maxLength": 32}), json!({"maxLength": 200})));
    }

    #[test]
    fn what_must_not_be_zero_is_known() {
        for (message, name, refuses) in [
            ("kombify.tenancy.v1.CreateTenantRequest", "slug", true),
            ("kombify.tenancy.v1.CreateTenantRequest", "name", true),
            ("kombify.tenancy.v1.CreateTenantRequest", "region", false),
            ("kombify.tenancy.v1.PlanGrant", "plan", true),
            ("kombify.tenancy.v1.ListInstancesRequest", "status", false),
            ("kombify.tenancy.v1.ListInstancesRequest", "limit", false),
            ("kombify.audit.v1.ReportRefusalsRequest", "refusals", true),
            ("kombify.audit.v1.Refusal", "details", false),
        ] {
            assert_eq!(Rules::of(&field(message, name)).refuse_zero(), refuses, "{message}.{name}");
        }
        assert!(Rules::of(&field("kombify.tenancy.v1.PlanGrant", "end_time")).required());
        assert!(!Rules::of(&field("kombify.tenancy.v1.PlanGrant", "reason")).required());
    }
}
