//! Checks a targeting rule: flagd's operations, and what each takes. Source: flagd's schema,
//! <https://flagd.dev/schema/v0/targeting.json>, except that `fractional` and `sem_ver` take rules wherever flagd's
//! evaluator does, and that a rule may be nothing but a reference.

use serde_json::{Map, Value};

use crate::path::{Faults, Path};
use crate::version;

/// The name of the operation that buckets.
pub(crate) const FRACTIONAL: &str = "fractional";

/// The name under which a shared rule is referred to.
pub(crate) const REFERENCE: &str = "$ref";

/// What `sem_ver` can ask.
const RANGES: [&str; 8] = ["=", "!=", "<", "<=", ">", ">=", "^", "~"];

/// What flagd adds to the context, below `$flagd.`.
const OWN: [&str; 2] = ["flagKey", "timestamp"];

/// What an operation takes.
#[derive(Clone, Copy)]
enum Takes {
    /// So many arguments, of any kind.
    Array(usize, usize),
    /// An argument, or an array of them.
    Any,
    /// An array, and what is done with each element: there `var` looks into the element.
    Elements(usize),
    /// The path to a value, or an array of a path and a value in its place.
    Variable,
    /// Names of values.
    Names,
    /// How many, and names of values.
    SomeNames,
    /// Two texts.
    Texts,
    /// A version, a range and a version.
    Versions,
    /// Who is bucketed, and the distributions.
    Distributions,
    /// The name of a shared rule.
    Shared,
}

fn takes(operation: &str) -> Option<Takes> {
    const MANY: usize = usize::MAX;
    Some(match operation {
        "if" | "or" | "and" | "+" | "-" | "max" | "min" | "merge" | "cat" => Takes::Array(1, MANY),
        "==" | "===" | "!=" | "!==" | ">" | ">=" | "%" | "/" | "in" => Takes::Array(2, 2),
        "<" | "<=" | "substr" => Takes::Array(2, 3),
        "*" => Takes::Array(2, MANY),
        "!" | "!!" => Takes::Any,
        "map" | "filter" | "all" | "none" | "some" => Takes::Elements(2),
        "reduce" => Takes::Elements(3),
        "var" => Takes::Variable,
        "missing" => Takes::Names,
        "missing_some" => Takes::SomeNames,
        "starts_with" | "ends_with" => Takes::Texts,
        "sem_ver" => Takes::Versions,
        FRACTIONAL => Takes::Distributions,
        REFERENCE => Takes::Shared,
        _ => return None,
    })
}

/// Checks a rule; an empty one is right, too.
pub(crate) fn check(rule: &Value, path: &Path<'_>, faults: &mut Faults) {
    match rule {
        Value::Object(node) if node.is_empty() => {}
        Value::Object(node) => Checker { faults, in_elements: false }.operation(node, path),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
            faults.add(path, "must be an object of JSONLogic");
        }
    }
}

struct Checker<'a> {
    faults: &'a mut Faults,
    /// Whether `var` looks into the element of an array.
    in_elements: bool,
}

impl Checker<'_> {
    fn argument(&mut self, argument: &Value, path: &Path<'_>) {
        match argument {
            Value::Object(node) => self.operation(node, path),
            Value::Array(items) => self.arguments(items, path),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }

    fn arguments(&mut self, arguments: &[Value], path: &Path<'_>) {
        for (index, argument) in arguments.iter().enumerate() {
            self.argument(argument, &path.index(index));
        }
    }

    fn operation(&mut self, node: &Map<String, Value>, path: &Path<'_>) {
        let Some((name, operand)) = node.iter().next().filter(|_| node.len() == 1) else {
            return self.faults.add(path, "must have one operation");
        };
        let path = &path.name(name);
        let Some(takes) = takes(name) else {
            return self.faults.add(path, "is not an operation that flagd knows");
        };
        let array = operand.as_array().map(Vec::as_slice);
        match (takes, array) {
            (Takes::Any, _) => self.argument(operand, path),
            (Takes::Variable, _) => self.variable(operand, path),
            (Takes::Shared, _) => {
                if !operand.is_string() {
                    self.faults.add(path, "must be the name of a rule in $evaluators");
                }
            }
            (Takes::Array(least, most), Some(arguments)) => {
                self.count(arguments, least, most, path);
                self.arguments(arguments, path);
            }
            (Takes::Elements(count), Some(arguments)) => {
                self.count(arguments, count, count, path);
                self.elements(arguments, path);
            }
            (Takes::Names, Some(names)) => self.names(names, path),
            (Takes::SomeNames, Some([Value::Number(_), Value::Array(names)])) => {
                self.names(names, &path.index(1));
            }
            (Takes::SomeNames, Some(_)) => {
                self.faults.add(path, "must be an array of a number and an array of names");
            }
            (Takes::Texts, Some(arguments)) => {
                self.count(arguments, 2, 2, path);
                for (index, argument) in arguments.iter().enumerate() {
                    self.text(argument, &path.index(index));
                }
            }
            (Takes::Versions, Some(arguments)) => self.versions(arguments, path),
            (Takes::Distributions, Some(arguments)) => self.distributions(arguments, path),
            (
                Takes::Array(..)
                | Takes::Elements(_)
                | Takes::Names
                | Takes::SomeNames
                | Takes::Texts
                | Takes::Versions
                | Takes::Distributions,
                None,
            ) => self.faults.add(path, "must be an array"),
        }
    }

    fn count(&mut self, arguments: &[Value], least: usize, most: usize, path: &Path<'_>) {
        if (least..=most).contains(&arguments.len()) {
            return;
        }
        let says = match (least, most) {
            (least, most) if least == most => format!("must have {least} elements"),
            (least, usize::MAX) => format!("must have at least {least} elements"),
            (least, most) => format!("must have {least} to {most} elements"),
        };
        self.faults.add(path, says);
    }

    /// The array is looked for where the operation stands, and what is done with its elements is done in them.
    fn elements(&mut self, arguments: &[Value], path: &Path<'_>) {
        let outside = self.in_elements;
        for (index, argument) in arguments.iter().enumerate() {
            self.in_elements = outside || index == 1;
            self.argument(argument, &path.index(index));
        }
        self.in_elements = outside;
    }

    fn text(&mut self, argument: &Value, path: &Path<'_>) {
        match argument {
            Value::String(_) => {}
            Value::Object(node) => self.operation(node, path),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) => {
                self.faults.add(path, "must be a text or a rule");
            }
        }
    }

    fn versions(&mut self, arguments: &[Value], path: &Path<'_>) {
        let [one, range, other] = arguments else { return self.count(arguments, 3, 3, path) };
        self.version(one, &path.index(0));
        if !range.as_str().is_some_and(|range| RANGES.contains(&range)) {
            self.faults.add(&path.index(1), format!("must be one of {}", RANGES.join(" ")));
        }
        self.version(other, &path.index(2));
    }

    fn version(&mut self, argument: &Value, path: &Path<'_>) {
        match argument {
            Value::Object(node) => self.operation(node, path),
            own if version::normal(own).is_some() => {}
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
                self.faults.add(path, "must be a version such as 1.2.3, or a rule");
            }
        }
    }

    fn distributions(&mut self, arguments: &[Value], path: &Path<'_>) {
        if self.in_elements {
            return self.faults.add(path, "must not stand in a rule for the elements of an array");
        }
        let mut count = 0;
        for (index, argument) in arguments.iter().enumerate() {
            let path = &path.index(index);
            match argument {
                Value::Array(distribution) => {
                    count += 1;
                    self.distribution(distribution, path);
                }
                Value::Object(node) if index == 0 => self.operation(node, path),
                Value::String(_) if index == 0 => {}
                Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Object(_) => {
                    self.faults.add(path, "must be an array of a variant and its weight");
                }
            }
        }
        if count == 0 {
            self.faults.add(path, "must have an array of a variant and its weight");
        }
    }

    fn distribution(&mut self, distribution: &[Value], path: &Path<'_>) {
        self.count(distribution, 1, 2, path);
        self.arguments(distribution, path);
        match distribution.first() {
            Some(Value::Array(_) | Value::Number(_)) => {
                self.faults.add(&path.index(0), "must name a variant");
            }
            Some(Value::Null | Value::Bool(_) | Value::String(_) | Value::Object(_)) | None => {}
        }
        match distribution.get(1) {
            Some(Value::Number(weight)) => {
                let fits = |weight: f64| weight.fract() == 0.0 && weight <= f64::from(i32::MAX);
                if !weight.as_f64().is_some_and(fits) {
                    self.faults.add(&path.index(1), format!("must be a whole number up to {}", i32::MAX));
                }
            }
            Some(Value::Null | Value::Bool(_) | Value::String(_) | Value::Array(_)) => {
                self.faults.add(&path.index(1), "must be a number or a rule");
            }
            Some(Value::Object(_)) | None => {}
        }
    }

    fn names(&mut self, names: &[Value], path: &Path<'_>) {
        for (index, name) in names.iter().enumerate() {
            if !name.is_string() {
                self.faults.add(&path.index(index), "must be a name");
            }
        }
    }

    fn variable(&mut self, operand: &Value, path: &Path<'_>) {
        match operand {
            Value::String(name) if name.strip_prefix("$flagd.").is_some_and(|own| !OWN.contains(&own)) => {
                self.faults.add(path, "must be $flagd.flagKey or $flagd.timestamp: flagd adds no more");
            }
            Value::String(_) => {}
            Value::Array(parts) => match parts.as_slice() {
                [Value::String(_)]
                | [Value::String(_), Value::Null | Value::Bool(_) | Value::String(_) | Value::Number(_)] => {}
                _ => self.faults.add(path, "must be a name, and perhaps a value where there is none"),
            },
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => {
                self.faults.add(path, "must be a name, or an array of a name and a value");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use kombify_core::Error;
    use serde_json::json;

    use super::*;

    fn wrong(rule: &Value) -> Vec<String> {
        let mut faults = Faults::default();
        check(rule, &Path::ROOT.name("targeting"), &mut faults);
        match faults.into_result() {
            Ok(()) => Vec::new(),
            Err(Error::Invalid(fields)) => fields.into_keys().collect(),
            Err(fault) => panic!("{fault}"),
        }
    }

    #[test]
    fn what_flagd_knows_is_right() {
        for rule in [
            json!({}),
            json!({"$ref": "shared"}),
            json!({"if": [{"==": [{"var": "plan"}, "pro"]}, "on", {"$ref": "shared"}]}),
            json!({"if": [{"in": [{"var": ["plan", "free"]}, ["pro", ["a"]]]}, null]}),
            json!({"!": {"missing": ["email"]}}),
            json!({"!!": [{"missing_some": [1, ["email", "phone"]]}]}),
            json!({"<": [1, {"var": "$flagd.timestamp"}, 9]}),
            json!({"some": [{"var": "roles"}, {"==": [{"var": ""}, "admin"]}]}),
            json!({"reduce": [{"var": "roles"}, {"+": [{"var": "accumulator"}, 1]}, 0]}),
            json!({"starts_with": [{"var": "orgId"}, "a"]}),
            json!({"sem_ver": [{"var": "version"}, "~", "v1.2"]}),
            json!({"fractional": [["on", 1], ["off"], [null, {"-": [9, 1]}]]}),
            json!({"fractional": [{"var": "orgId"}, [{"if": [true, "on"]}, -1]]}),
            json!({"fractional": ["all", ["on", 2_147_483_647]]}),
        ] {
            assert_eq!(wrong(&rule), [""; 0], "{rule}");
        }
    }

    #[test]
    fn what_flagd_does_not_know_is_named_by_its_path() {
        for (rule, path) in [
            (json!("on"), ""),
            (json!(["on"]), ""),
            (json!({"if": [true, "on"], "!": 1}), ""),
            (json!({"iff": [true, "on"]}), ".iff"),
            (json!({"?:": [true, "on"]}), ".?:"),
            (json!({"if": []}), ".if"),
            (json!({"if": true}), ".if"),
            (json!({"if": [{}, "on"]}), ".if.0"),
            (json!({"if": [true, [{"a": 1, "b": 2}]]}), ".if.1.0"),
            (json!({"==": ["pro"]}), ".=="),
            (json!({"<": [1, 2, 3, 4]}), ".<"),
            (json!({"!": {"plan": "pro"}}), ".!.plan"),
            (json!({"var": {"cat": ["pl", "an"]}}), ".var"),
            (json!({"var": ["plan", ["pro"]]}), ".var"),
            (json!({"var": "$flagd.plan"}), ".var"),
            (json!({"missing": [1]}), ".missing.0"),
            (json!({"missing_some": ["1", ["a"]]}), ".missing_some"),
            (json!({"starts_with": [1, "a"]}), ".starts_with.0"),
            (json!({"ends_with": ["a"]}), ".ends_with"),
            (json!({"sem_ver": ["1.2.3", ">"]}), ".sem_ver"),
            (json!({"sem_ver": ["1.2.3", "=>", "1.2.3"]}), ".sem_ver.1"),
            (json!({"sem_ver": ["1.2.3", {"var": "range"}, "1.2.3"]}), ".sem_ver.1"),
            (json!({"sem_ver": ["1.2.x", "=", "1.2.3"]}), ".sem_ver.0"),
            (json!({"fractional": {"var": "roles"}}), ".fractional"),
            (json!({"fractional": ["all"]}), ".fractional"),
            (json!({"fractional": [["on"], "off"]}), ".fractional.1"),
            (json!({"fractional": [["on", 1, 2]]}), ".fractional.0"),
            (json!({"fractional": [[1, 2]]}), ".fractional.0.0"),
            (json!({"fractional": [["on", 0.5]]}), ".fractional.0.1"),
            (json!({"fractional": [["on", 2_147_483_648_u32]]}), ".fractional.0.1"),
            (json!({"fractional": [["on", "much"]]}), ".fractional.0.1"),
            (json!({"some": [{"var": "roles"}, {"fractional": [["on"]]}]}), ".some.1.fractional"),
            (json!({"$ref": 1}), ".$ref"),
        ] {
            assert_eq!(wrong(&rule), [format!("targeting{path}")], "{rule}");
        }
    }
}
