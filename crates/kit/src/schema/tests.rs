use proptest::prelude::*;
use serde_json::{Value as Json, json};

use super::*;
use crate::problem::Code;
use crate::yaml::read;

fn node(text: &str) -> Node {
    read(text, text.len()).unwrap()
}

fn schema(json: &Json) -> Schema {
    Schema::compile(&node(&json.to_string())).unwrap()
}

fn problems(schema: &Schema, document: &str) -> Vec<String> {
    schema.check(&node(document)).iter().map(ToString::to_string).collect()
}

fn refused(json: &Json) -> Vec<String> {
    Schema::compile(&node(&json.to_string()))
        .unwrap_err()
        .iter()
        .map(|problem| problem.message.clone())
        .collect()
}

#[test]
fn every_keyword_tells_its_fault_where_it_is() {
    let schema = schema(&json!({
        "type": "object",
        "additionalProperties": false,
        "required": ["name", "port"],
        "properties": {
            "name": {"type": "string", "pattern": "^[a-z]+$", "minLength": 2, "maxLength": 5},
            "port": {"$ref": "#/$defs/port"},
            "mode": {"enum": ["local", "public"]},
            "kit": {"const": "dns"},
            "net": {"type": "string", "format": "ipv4-cidr", "pattern": "^[0-9./]+$"},
            "share": {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1},
            "even": {"type": "integer", "multipleOf": 2},
            "tags": {"type": "array", "items": {"type": "string"}, "minItems": 1, "maxItems": 2, "uniqueItems": true},
            "free": {"type": "object", "additionalProperties": {"type": "boolean"}},
            "services": {"type": "object", "additionalProperties": false, "properties": {"web": {}}},
        },
        "$defs": {"port": {"type": "integer", "minimum": 1, "maximum": 65535}},
    }));
    for (document, expected) in [
        ("name: ab\nport: 1", &[][..]),
        ("port: 1", &["1:1: REQUIRED name: `name` is missing (add `name: ...`)"]),
        ("name: A1\nport: 1", &["1:7: INVALID_FORMAT name: must match ^[a-z]+$"]),
        ("name: a\nport: 1", &["1:7: INVALID_FORMAT name: must have at least 2 characters"]),
        ("name: abcdef\nport: 1", &["1:7: INVALID_FORMAT name: must have at most 5 characters"]),
        ("name: ab\nport: 0", &["2:7: CONSTRAINT_VIOLATION port: must be at least 1"]),
        ("name: ab\nport: 65536", &["2:7: CONSTRAINT_VIOLATION port: must be at most 65535"]),
        (
            "name: ab\nport: '1'",
            &["2:7: INVALID_TYPE port: must be a whole number, and is text (remove the quotes)"],
        ),
        (
            "name: ab\nport: 1.0",
            &[
                "2:7: INVALID_TYPE port: must be a whole number, and is a number with a fraction (quote it, if it is text)",
            ],
        ),
        (
            "name: ab\nport: 1\nmode: publik",
            &[
                "3:7: CONSTRAINT_VIOLATION mode: must be one of \"local\", \"public\" (did you mean `public`?)",
            ],
        ),
        (
            "name: ab\nport: 1\nmode: 7",
            &["3:7: INVALID_TYPE mode: must be text, and is a whole number (quote it, if it is text)"],
        ),
        ("name: ab\nport: 1\nkit: x", &["3:6: CONSTRAINT_VIOLATION kit: must be \"dns\""]),
        (
            "name: ab\nport: 1\nnet: x",
            &["3:6: INVALID_CIDR net: must be an IPv4 range, for example 172.28.10.0/24"],
        ),
        ("name: ab\nport: 1\nshare: 1", &["3:8: CONSTRAINT_VIOLATION share: must be less than 1"]),
        ("name: ab\nport: 1\nshare: 0", &["3:8: CONSTRAINT_VIOLATION share: must be more than 0"]),
        ("name: ab\nport: 1\neven: 3", &["3:7: CONSTRAINT_VIOLATION even: must be a multiple of 2"]),
        ("name: ab\nport: 1\ntags: []", &["3:7: CONSTRAINT_VIOLATION tags: must have at least one entry"]),
        (
            "name: ab\nport: 1\ntags: [a, b, a]",
            &[
                "3:7: CONSTRAINT_VIOLATION tags: must have at most 2 entries",
                "3:14: CONSTRAINT_VIOLATION tags[2]: is there already",
            ],
        ),
        (
            "name: ab\nport: 1\ntags: [a, 2]",
            &["3:11: INVALID_TYPE tags[1]: must be text, and is a whole number (quote it, if it is text)"],
        ),
        (
            "name: ab\nport: 1\nfree: {a: true, b: 1}",
            &[
                "3:20: INVALID_TYPE free.b: must be true or false, and is a whole number (quote it, if it is text)",
            ],
        ),
        (
            "name: ab\nport: 1\nnme: x",
            &["3:1: UNKNOWN_FIELD nme: is a field that is not known here (did you mean `name`?)"],
        ),
        (
            "name: ab\nport: 1\nservices: {wbe: {}}",
            &["3:12: UNKNOWN_SERVICE services.wbe: is a service that is not known here (known are web)"],
        ),
        (
            "name: ~\nport: 1",
            &["1:7: INVALID_TYPE name: must be text, and is empty (write a value, or remove the line)"],
        ),
        ("[]", &["1:1: INVALID_TYPE: must be a mapping, and is a list"]),
    ] {
        assert_eq!(problems(&schema, document), expected, "{document}");
    }
}

#[test]
fn what_is_not_checked_is_refused() {
    for (json, expected) in [
        (json!({"anyOf": []}), "is a keyword that is not checked here"),
        (json!({"properties": {"a": {"dependentRequired": {}}}}), "is a keyword that is not checked here"),
        (json!({"type": ["string", "null"]}), "must be the name of one type of JSON"),
        (json!({"type": "text"}), "must be the name of one type of JSON"),
        (json!({"format": "uuid"}), "must be ipv4, ipv4-cidr, domain, email or secret"),
        (
            json!({"pattern": "a(?=b)"}),
            "is not a pattern of RE2: error: look-around, including look-ahead and look-behind, is not supported",
        ),
        (json!({"$ref": "#/properties/a"}), "must be #/$defs/<name>, and the name must be there"),
        (json!({"$ref": "#/$defs/a"}), "must be #/$defs/<name>, and the name must be there"),
        (
            json!({"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}}),
            "has a reference that leads back to itself",
        ),
        (json!({"minItems": -1}), "must be a whole number, 0 or more"),
        (json!({"enum": []}), "must be a list with at least one value"),
        (json!({"multipleOf": 0}), "must be more than 0"),
        (json!({"required": "a"}), "must be a list of names"),
        (json!({"properties": []}), "must be a mapping"),
        (json!({"items": 7}), "must be a schema: a mapping"),
        (json!({"properties": {"a": {"$defs": {}}}}), "is a keyword that is not checked here"),
    ] {
        assert_eq!(refused(&json), [expected], "{json}");
    }
    assert!(refused(&json!({"pattern": "(a{0,200}){0,200}"}))[0].contains("is not a pattern of RE2"));
    let many: serde_json::Map<String, Json> = (0..3000).map(|at| (format!("p{at}"), json!({}))).collect();
    assert!(refused(&json!({"properties": many}))[0].contains("is one of more than 2000 schemas"));
}

#[test]
fn defaults_are_filled_in_at_every_level() {
    let schema = schema(&json!({
        "properties": {
            "a": {"$ref": "#/$defs/port", "default": 53},
            "b": {"properties": {"c": {"default": "x"}, "d": {}}},
            "e": {"properties": {"f": {}}},
            "g": {"required": ["h"], "properties": {"h": {}, "i": {"default": 1}}},
            "list": {"items": {"properties": {"role": {"default": "main"}}}},
        },
        "$defs": {"port": {"type": "integer"}},
    }));
    let fill = |document: &str| schema.fill(&node(document), &mut Budget::new()).unwrap().to_json();
    assert_eq!(fill("{}"), json!({"a": 53, "b": {"c": "x"}}));
    assert_eq!(
        fill("{a: 1, b: {c: y}, e: {}, g: {h: 2}, list: [{}, {role: worker}]}"),
        json!({"a": 1, "b": {"c": "y"}, "e": {}, "g": {"h": 2, "i": 1}, "list": [{"role": "main"}, {"role": "worker"}]})
    );
    // A default that needs a default that needs itself.
    let endless = self::schema(&json!({
        "$ref": "#/$defs/a",
        "$defs": {"a": {"properties": {"x": {"$ref": "#/$defs/a"}}}},
    }));
    assert!(endless.fill(&node("{}"), &mut Budget::new()).is_none());
}

#[test]
fn the_work_is_bounded() {
    let choices: Vec<usize> = (0..1500).map(|choice| choice + 20_000).collect();
    let unique = schema(&json!({"items": {"enum": choices}}));
    let document = format!("[{}]", (0..19_000).map(|at| at.to_string()).collect::<Vec<_>>().join(","));
    let problems = unique.check(&node(&document));
    let last = problems.last().unwrap();
    assert!(problems.len() < 5000, "{}", problems.len());
    assert!(last.code == Code::ConstraintViolation && last.message.contains("more steps"), "{last}");
    // A small schema whose defaults are large when they are filled in.
    let many = |name: &str| -> serde_json::Map<String, Json> {
        (0..600).map(|at| (format!("p{at}"), json!({"$ref": format!("#/$defs/{name}")}))).collect()
    };
    let bomb = schema(&json!({
        "properties": many("inner"),
        "$defs": {"big": {"default": vec![0; 9000]}, "inner": {"properties": many("big")}},
    }));
    assert!(bomb.fill(&node("{}"), &mut Budget::new()).is_none());
}

/// Schemas of the keywords that are known here.
fn any_schema() -> impl Strategy<Value = Json> {
    let leaf = prop_oneof![
        Just(json!({})),
        Just(json!({"type": "boolean"})),
        Just(json!({"type": "null"})),
        (0..5_i64, 0..9_i64)
            .prop_map(|(least, more)| json!({"type": "integer", "minimum": least, "maximum": least + more})),
        (1..4_i64).prop_map(|step| json!({"type": "integer", "multipleOf": step})),
        (0..4_i64).prop_map(
            |bound| json!({"type": "number", "exclusiveMinimum": bound, "exclusiveMaximum": bound + 3})
        ),
        (0..3_usize, 0..4_usize).prop_map(
            |(least, more)| json!({"type": "string", "minLength": least, "maxLength": least + more})
        ),
        prop_oneof![Just("^[a-c]+$"), Just("b"), Just(r"^\w\d?$")]
            .prop_map(|pattern| json!({"type": "string", "pattern": pattern})),
        prop::collection::vec(any_scalar(), 1..4).prop_map(|choices| json!({"enum": choices})),
        any_scalar().prop_map(|choice| json!({"const": choice})),
    ];
    leaf.prop_recursive(3, 20, 4, |inner| {
        let properties = prop::collection::btree_map("[a-d]", inner.clone(), 0..4);
        let others = prop_oneof![Just(json!(true)), Just(json!(false)), inner.clone()];
        prop_oneof![
            (properties, others, prop::collection::btree_set("[a-d]", 0..3)).prop_map(|(properties, others, required)| {
                json!({"type": "object", "properties": properties, "additionalProperties": others, "required": required})
            }),
            (inner, 0..3_usize, 0..3_usize, any::<bool>()).prop_map(|(items, least, more, unique)| {
                json!({"type": "array", "items": items, "minItems": least, "maxItems": least + more, "uniqueItems": unique})
            }),
        ]
    })
}

fn any_scalar() -> impl Strategy<Value = Json> {
    prop_oneof![
        Just(Json::Null),
        any::<bool>().prop_map(Json::from),
        (-2..12_i64).prop_map(Json::from),
        // Halves: what is written with a fraction is no whole number here, where JSON Schema takes 1.0 for one.
        (0..8_i32).prop_map(|number| json!(f64::from(number) + 0.5)),
        "[a-d1]{0,4}".prop_map(Json::from),
    ]
}

fn any_document() -> impl Strategy<Value = Json> {
    any_scalar().prop_recursive(3, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Json::from),
            prop::collection::btree_map("[a-e]", inner, 0..4).prop_map(|map| json!(map)),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3000, failure_persistence: None, ..ProptestConfig::default() })]

    /// The crate `jsonschema` is the second opinion.
    #[test]
    fn another_implementation_gives_the_same_verdict(schema in any_schema(), documents in prop::collection::vec(any_document(), 4)) {
        let theirs = jsonschema::draft202012::options().with_pattern_options(jsonschema::PatternOptions::regex()).build(&schema).unwrap();
        let ours = Schema::compile(&node(&schema.to_string())).unwrap();
        for document in documents {
            let found = ours.check(&node(&document.to_string()));
            prop_assert_eq!(found.is_empty(), theirs.is_valid(&document), "{} {} {:?}", schema, document, found);
        }
    }
}
