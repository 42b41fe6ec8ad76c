//! Checks definitions when they are written and when they are read. Source: flagd's schema,
//! <https://flagd.dev/schema/v0/flags.json>.

use std::collections::BTreeMap;

use kombify_core::flag::{FlagKey, bounds};
use kombify_core::{Error, Result};
use serde_json::{Map, Value};

use crate::path::{Faults, Path};
use crate::read::read;
use crate::rule::{self, REFERENCE};

/// How long a definition or a set may be, in bytes.
const TEXT_MAX: usize = 512 * 1024;

/// How long the rules of a set may be once each reference is what it refers to, in bytes: a few references to references
/// could make more than there is memory.
const RULES_MAX: usize = 4 * TEXT_MAX;

/// How deep a definition may be, references followed.
const DEPTH_MAX: usize = 64;

/// How many variants a flag may have.
const VARIANTS_MAX: usize = 64;

/// What a text that is no set is called in faults: the field that carries it.
const SET_FIELD: &str = "definitionsJson";

/// Checks the definition of one flag; gives it in one order of names and without blanks, so that the same definition is
/// the same text. Fields are named by their path in the definition.
///
/// It may have nothing that flagd has no meaning for, where flagd itself overlooks it: a `defaultVarient` would be
/// noticed by nobody. It cannot refer to shared rules, which belong to a set.
///
/// # Errors
/// - [`Error::Invalid`] if it is none, with what is wrong.
pub fn check_flag(key: &str, definition: &str) -> Result<String> {
    key.parse::<FlagKey>()?;
    let value = read_text(definition, "", DEPTH_MAX)?;
    let mut faults = Faults::default();
    for name in value.as_object().into_iter().flat_map(Map::keys) {
        if !matches!(name.as_str(), "state" | "variants" | "defaultVariant" | "targeting" | "metadata") {
            let says = "is not known: there are state, variants, defaultVariant, targeting and metadata";
            faults.add(&Path::ROOT.name(name), says);
        }
    }
    check(&value, &Path::ROOT, &mut faults);
    if let Some(targeting) = value.get("targeting")
        && let Err(says) = Shared::default().extent(targeting, 1)
    {
        faults.add(&Path::ROOT.name("targeting"), says);
    }
    faults.into_result()?;
    Ok(value.to_string())
}

/// Reads a set in which everything is right.
pub(crate) fn read_set(text: &str) -> Result<Map<String, Value>> {
    // Two more: the set, and its flags.
    let Value::Object(set) = read_text(text, SET_FIELD, DEPTH_MAX + 2)? else {
        return Err(Error::invalid(SET_FIELD, "must be an object with flags"));
    };
    let mut faults = Faults::default();
    let (path, none) = (Path::ROOT.name("flags"), Map::new());
    let flags = set.get("flags").and_then(Value::as_object).unwrap_or_else(|| {
        faults.add(&path, "must be an object of key to definition");
        &none
    });
    if flags.len() > bounds::FLAGS {
        faults.add(&path, format!("must be at most {}", bounds::FLAGS));
    }
    for (key, flag) in flags {
        let path = path.name(key);
        if key.parse::<FlagKey>().is_err() {
            faults.add(&path, "must have a key of 1 to 128 of [A-Za-z0-9._-]");
        }
        check(flag, &path, &mut faults);
    }
    let mut shared = check_evaluators(set.get("$evaluators"), &mut faults);
    check_references(flags, &mut shared, &mut faults);
    check_metadata(set.get("metadata"), &Path::ROOT.name("metadata"), &mut faults);
    faults.into_result()?;
    Ok(set)
}

fn read_text(text: &str, field: &str, depth_max: usize) -> Result<Value> {
    if text.len() > TEXT_MAX {
        return Err(Error::invalid(field, format!("must be at most {TEXT_MAX} bytes")));
    }
    read(text, field, depth_max)
}

/// Checks the definition of a flag, as it stands alone or in a set.
fn check(flag: &Value, path: &Path<'_>, faults: &mut Faults) {
    let Value::Object(flag) = flag else {
        return faults.add(path, "must be an object with state, variants and defaultVariant");
    };
    if !matches!(flag.get("state").and_then(Value::as_str), Some("ENABLED" | "DISABLED")) {
        faults.add(&path.name("state"), "must be ENABLED or DISABLED");
    }
    check_variants(flag.get("variants"), &path.name("variants"), faults);
    let is_there =
        |variant: &str| flag.get("variants").is_some_and(|variants| variants.get(variant).is_some());
    match flag.get("defaultVariant") {
        None | Some(Value::Null) => {}
        Some(Value::String(variant)) if is_there(variant) => {}
        Some(_) => faults.add(&path.name("defaultVariant"), "must name one of the variants, or be null"),
    }
    if let Some(targeting) = flag.get("targeting") {
        rule::check(targeting, &path.name("targeting"), faults);
    }
    check_metadata(flag.get("metadata"), &path.name("metadata"), faults);
}

/// The values of the variants are all of one type.
fn check_variants(variants: Option<&Value>, path: &Path<'_>, faults: &mut Faults) {
    let variants = match variants {
        Some(Value::Object(variants)) if (1..=VARIANTS_MAX).contains(&variants.len()) => variants,
        Some(_) | None => {
            return faults.add(path, format!("must be an object with 1 to {VARIANTS_MAX} variants"));
        }
    };
    let first = variants.values().next().map(kind);
    for (name, value) in variants {
        match kind(value) {
            _ if name.is_empty() => faults.add(path, "must each have a name"),
            None => faults.add(&path.name(name), "must be a boolean, a number, a string or an object"),
            own if Some(own) != first => {
                faults.add(&path.name(name), "must be of the same type as the other variants");
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

fn check_metadata(metadata: Option<&Value>, path: &Path<'_>, faults: &mut Faults) {
    match metadata {
        None => {}
        Some(Value::Object(metadata)) => {
            for (name, value) in metadata {
                if !(value.is_boolean() || value.is_number() || value.is_string()) {
                    faults.add(&path.name(name), "must be a boolean, a number or a string");
                }
            }
        }
        Some(_) => faults.add(path, "must be an object"),
    }
}

/// Checks the rules that flags share; they may refer to each other.
fn check_evaluators<'a>(evaluators: Option<&'a Value>, faults: &mut Faults) -> Shared<'a> {
    let path = Path::ROOT.name("$evaluators");
    match evaluators {
        None => Shared::default(),
        Some(Value::Object(evaluators)) => {
            for (name, evaluator) in evaluators {
                if name.is_empty() || evaluator.as_object().is_some_and(Map::is_empty) {
                    faults.add(&path.name(name), "must have a name, and not be empty");
                }
                rule::check(evaluator, &path.name(name), faults);
            }
            Shared { rules: Some(evaluators), extents: BTreeMap::new() }
        }
        Some(_) => {
            faults.add(&path, "must be an object of name to rule");
            Shared::default()
        }
    }
}

/// Checks that each reference leads to a rule, and that the rules stay within bounds when the references are followed.
fn check_references<'a>(flags: &'a Map<String, Value>, shared: &mut Shared<'a>, faults: &mut Faults) {
    let path = Path::ROOT.name("$evaluators");
    for (name, rule) in shared.rules.into_iter().flatten() {
        if let Err(says) = shared.extent(rule, 1) {
            faults.add(&path.name(name), says);
        }
    }
    let path = Path::ROOT.name("flags");
    let mut bytes = 0_usize;
    for (key, flag) in flags {
        let Some(targeting) = flag.get("targeting") else { continue };
        let path = path.name(key);
        match shared.extent(targeting, 1) {
            Ok(extent) => bytes = bytes.saturating_add(extent.bytes),
            Err(says) => faults.add(&path.name("targeting"), says),
        }
        if bytes > RULES_MAX {
            let says =
                format!("must not make all rules longer than {RULES_MAX} bytes with what they refer to");
            return faults.add(&path.name("targeting"), says);
        }
    }
}

/// How much a rule becomes once each reference is what it refers to.
#[derive(Clone, Copy, Default)]
struct Extent {
    bytes: usize,
    /// A reference counts as a level, so that rules that refer to each other end, too.
    levels: usize,
}

/// The rules that flags share.
#[derive(Default)]
struct Shared<'a> {
    rules: Option<&'a Map<String, Value>>,
    /// Those of the rules that are known already: each is looked at once.
    extents: BTreeMap<&'a str, Extent>,
}

impl<'a> Shared<'a> {
    /// The extent of what stands below so many levels; says what is wrong where there is none.
    fn extent(&mut self, value: &'a Value, above: usize) -> Result<Extent, &'static str> {
        match value {
            Value::Object(node) => match node.get(REFERENCE) {
                Some(Value::String(name)) if node.len() == 1 => self.referred(name, above),
                Some(_) | None => {
                    self.sum(node.iter().map(|(name, inner)| (name.len() + 3, inner)), above + 1)
                }
            },
            Value::Array(items) => self.sum(items.iter().map(|item| (1, item)), above + 1),
            Value::String(text) => Ok(Extent { bytes: text.len() + 2, levels: 0 }),
            Value::Null | Value::Bool(_) | Value::Number(_) => Ok(Extent { bytes: 24, levels: 0 }),
        }
    }

    /// That of parts, each with what it takes beside itself, which stand in one.
    fn sum(
        &mut self,
        parts: impl Iterator<Item = (usize, &'a Value)>,
        above: usize,
    ) -> Result<Extent, &'static str> {
        is_within(above)?;
        let mut sum = Extent { bytes: 2, levels: 1 };
        for (bytes, part) in parts {
            let extent = self.extent(part, above)?;
            sum.bytes = sum.bytes.saturating_add(bytes).saturating_add(extent.bytes);
            sum.levels = sum.levels.max(extent.levels + 1);
        }
        Ok(sum)
    }

    /// That of the rule of a name.
    fn referred(&mut self, name: &'a str, above: usize) -> Result<Extent, &'static str> {
        is_within(above + 1)?;
        let extent = if let Some(known) = self.extents.get(name) {
            *known
        } else {
            let rule = self.rules.and_then(|rules| rules.get(name));
            self.extent(rule.ok_or("must refer to rules that stand in $evaluators")?, above + 1)?
        };
        self.extents.insert(name, extent);
        is_within(above + 1 + extent.levels)?;
        Ok(Extent { levels: extent.levels + 1, ..extent })
    }
}

fn is_within(levels: usize) -> Result<(), &'static str> {
    if levels > DEPTH_MAX { Err("must not be so deep, nor refer to itself") } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::FlagSet;

    fn on_off() -> Value {
        json!({"state": "ENABLED", "variants": {"on": true, "off": false}, "defaultVariant": "off"})
    }

    fn with(name: &str, value: Value) -> Value {
        let mut flag = on_off();
        flag[name] = value;
        flag
    }

    /// A rule with so many levels; the flag is one more.
    fn deep(levels: usize) -> Value {
        (0..levels).fold(json!(true), |inner, _| json!({"!": inner}))
    }

    fn paths<T>(checked: Result<T>) -> Vec<String> {
        match checked {
            Ok(_) => Vec::new(),
            Err(Error::Invalid(fields)) => fields.into_keys().collect(),
            Err(fault) => panic!("{fault}"),
        }
    }

    fn parsed(set: &Value) -> Vec<String> {
        paths(FlagSet::parse(&set.to_string()))
    }

    #[test]
    fn what_is_right_is_kept_in_one_order_and_without_blanks() {
        let text = "{ \"state\": \"ENABLED\", \"variants\": {\"on\": true}, \"defaultVariant\": \"on\" }";
        let kept = check_flag("new-ui", text).unwrap();
        assert_eq!(kept, r#"{"defaultVariant":"on","state":"ENABLED","variants":{"on":true}}"#);
        for right in [
            on_off(),
            with("defaultVariant", Value::Null),
            with("state", json!("DISABLED")),
            with("targeting", json!({})),
            with("targeting", deep(63)),
            with("metadata", json!({"team": "a", "size": 1, "old": true})),
            json!({"state": "ENABLED", "variants": {"a": {"x": [null]}, "b": {}}}),
            json!({"state": "ENABLED", "variants": {"a": 1, "b": -2.5e300}}),
        ] {
            assert_eq!(paths(check_flag("new-ui", &right.to_string())), [""; 0], "{right}");
            assert_eq!(parsed(&json!({"flags": {"new-ui": right}})), [""; 0], "{right}");
        }
    }

    #[test]
    fn what_is_wrong_is_named_by_its_path() {
        let too_deep = format!("targeting{}", ".!".repeat(63));
        for (wrong, expected) in [
            (json!([]), vec![""]),
            (json!({}), vec!["state", "variants"]),
            (with("state", json!("on")), vec!["state"]),
            (with("state", Value::Null), vec!["state"]),
            (with("defaultVariant", json!("none")), vec!["defaultVariant"]),
            (with("defaultVariant", json!("")), vec!["defaultVariant"]),
            (with("defaultVariant", json!(true)), vec!["defaultVariant"]),
            (with("variants", json!({})), vec!["defaultVariant", "variants"]),
            (with("variants", json!([true])), vec!["defaultVariant", "variants"]),
            (with("variants", json!({"off": false, "on": "yes"})), vec!["variants.on"]),
            (with("variants", json!({"off": false, "on": null})), vec!["variants.on"]),
            (with("variants", json!({"off": [1]})), vec!["variants.off"]),
            (with("variants", json!({"off": false, "": true})), vec!["variants"]),
            (with("targeting", json!("on")), vec!["targeting"]),
            (with("targeting", Value::Null), vec!["targeting"]),
            (with("targeting", json!({"!": 1, "if": []})), vec!["targeting"]),
            (with("targeting", json!({"iff": []})), vec!["targeting.iff"]),
            (with("targeting", json!({"if": [{"$ref": "shared"}, "on"]})), vec!["targeting"]),
            (with("targeting", deep(64)), vec![&too_deep]),
            (with("metadata", json!({"team": []})), vec!["metadata.team"]),
            (with("metadata", json!("team")), vec!["metadata"]),
        ] {
            assert_eq!(paths(check_flag("new-ui", &wrong.to_string())), expected, "{wrong}");
            let below = |path: &&str| format!("flags.new-ui{}{path}", if path.is_empty() { "" } else { "." });
            let expected: Vec<_> = expected.iter().map(below).collect();
            assert_eq!(parsed(&json!({"flags": {"new-ui": wrong}})), expected, "{wrong}");
        }
        let twice = r#"{"state": "ENABLED", "variants": {"on": true, "on": false}}"#;
        assert_eq!(paths(check_flag("new-ui", twice)), ["variants.on"]);
        assert_eq!(paths(check_flag("new-ui", "{")), [""]);
        assert_eq!(paths(check_flag("new ui", &on_off().to_string())), ["key"]);
        assert_eq!(paths(check_flag("a", &" ".repeat(TEXT_MAX + 1))), [""]);
    }

    #[test]
    fn a_name_that_flagd_overlooks_is_refused_when_written_and_overlooked_when_read() {
        let flag = with("defaultVarient", json!("on"));
        assert_eq!(paths(check_flag("new-ui", &flag.to_string())), ["defaultVarient"]);
        let schema = "https://flagd.dev/schema/v0/flags.json";
        assert_eq!(parsed(&json!({"$schema": schema, "flags": {"new-ui": flag}})), [""; 0]);
    }

    #[test]
    fn a_set_is_checked_as_a_whole() {
        for (set, expected) in [
            (json!([]), vec!["definitionsJson"]),
            (json!({}), vec!["flags"]),
            (json!({"flags": []}), vec!["flags"]),
            (json!({"flags": {"": on_off(), "a b": on_off()}}), vec!["flags.", "flags.a b"]),
            (json!({"flags": {}, "metadata": {"version": 1, "x": null}}), vec!["metadata.x"]),
            (json!({"flags": {}, "$evaluators": []}), vec!["$evaluators"]),
            (json!({"flags": {}, "$evaluators": {"a": {}, "b": 1}}), vec!["$evaluators.a", "$evaluators.b"]),
            (json!({"flags": {}, "$evaluators": {"a": {"iff": []}}}), vec!["$evaluators.a.iff"]),
            (json!({"flags": {}, "$evaluators": {"a": {"$ref": "b"}}}), vec!["$evaluators.a"]),
        ] {
            assert_eq!(parsed(&set), expected, "{set}");
        }
        assert_eq!(paths(FlagSet::parse(r#"{"flags": {}, "flags": {}}"#)), ["flags"]);
        assert_eq!(paths(FlagSet::parse("{")), ["definitionsJson"]);
        assert_eq!(paths(FlagSet::parse(&" ".repeat(TEXT_MAX + 1))), ["definitionsJson"]);
    }

    #[test]
    fn a_set_has_a_thousand_flags_at_most() {
        let many = |count: usize| {
            let flags: Map<_, _> = (0..count).map(|key| (format!("flag-{key}"), on_off())).collect();
            json!({"flags": flags})
        };
        assert_eq!(parsed(&many(1000)), [""; 0]);
        assert_eq!(parsed(&many(1001)), ["flags"]);
    }

    #[test]
    fn references_that_lead_nowhere_or_in_a_circle_or_too_far_are_refused() {
        let refer = |name: &str| json!({"$ref": name});
        let refused = |evaluators: &Value| {
            let flag = with("targeting", json!({"if": [{"$ref": "a"}, "on"]}));
            let wrong = parsed(&json!({"flags": {"f": flag}, "$evaluators": evaluators}));
            wrong.contains(&"flags.f.targeting".to_owned())
        };
        assert!(!refused(&json!({"a": {"!": refer("b")}, "b": {"!": refer("c")}, "c": {"!": true}})));
        assert!(refused(&json!({"b": {"!": true}})));
        assert!(refused(&json!({"a": refer("a")})));
        assert!(refused(
            &json!({"a": {"or": [refer("b"), refer("b")]}, "b": {"or": [refer("a"), refer("a")]}})
        ));
        // Below the flag, the `if`, its array and the reference.
        assert!(!refused(&json!({"a": deep(60)})));
        assert!(refused(&json!({"a": deep(61)})));
        // What is near enough at its first place is too far at its second.
        let twice = |levels| json!({"a": {"or": [refer("b"), {"!": {"!": refer("b")}}]}, "b": deep(levels)});
        assert!(!refused(&twice(55)));
        assert!(refused(&twice(56)));
    }

    #[test]
    fn references_that_would_fill_the_memory_or_the_stack_are_refused() {
        let refer = |name: &str| json!({"$ref": name});
        let set = |evaluators: Map<String, Value>| {
            let flag = with("targeting", refer("r0"));
            json!({"flags": {"f": flag}, "$evaluators": evaluators})
        };
        // Each level is four of the next: 4^20 rules in the end.
        let mut growing: Map<_, _> = (0..20)
            .map(|level| {
                let next = refer(&format!("r{}", level + 1));
                (format!("r{level}"), json!({"or": [next, next, next, next]}))
            })
            .collect();
        growing.insert("r20".into(), json!({"var": "plan"}));
        assert_eq!(parsed(&set(growing)), ["flags.f.targeting"]);

        let mut chain: Map<_, _> =
            (0..10_000).map(|link| (format!("r{link}"), refer(&format!("r{}", link + 1)))).collect();
        chain.insert("r10000".into(), json!({"var": "plan"}));
        assert!(!parsed(&set(chain)).is_empty());
    }

    #[test]
    fn a_shared_rule_is_checked_where_it_is_used() {
        let shared = json!({"bucket": {"fractional": [["on"], ["off"]]}});
        let set = |rule: Value| json!({"flags": {"f": with("targeting", rule)}, "$evaluators": shared});
        assert_eq!(parsed(&set(json!({"$ref": "bucket"}))), [""; 0]);
        let each = json!({"map": [{"var": "roles"}, {"$ref": "bucket"}]});
        assert_eq!(parsed(&set(each)), ["flags.f.targeting.map.1.fractional"]);
    }
}
