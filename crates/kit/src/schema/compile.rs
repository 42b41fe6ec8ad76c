//! From the text of a schema to what is checked.

use std::collections::HashMap;

use regex::{Regex, RegexBuilder};

use super::{
    Format, Kind, Others, PATTERN_MAX_BYTES, PATTERN_SMALL_BYTES, PATTERN_STEPS, PATTERNS_MAX, Place, ROOT,
    RULES_MAX, Rule, Schema,
};
use crate::node::{Node, Path, Value};
use crate::problem::{Code, Problem};

/// The beginning of every reference.
const DEFS: &str = "#/$defs/";

/// Keywords that say nothing about the shape.
const ANNOTATIONS: [&str; 5] = ["$schema", "$id", "title", "description", "examples"];

pub(super) fn compile(schema: &Node) -> Result<Schema, Vec<Problem>> {
    let mut compiler =
        Compiler { rules: Vec::new(), named: HashMap::new(), patterns: HashMap::new(), problems: Vec::new() };
    compiler.declare(schema);
    compiler.rules.push(Rule::default());
    let root = compiler.rule(schema, &Path::default());
    compiler.set(ROOT, root);
    compiler.define(schema);
    compiler.refuse_circles();
    if compiler.problems.is_empty() {
        Ok(Schema { rules: compiler.rules })
    } else {
        compiler.problems.sort_by_key(|problem| problem.at);
        Err(compiler.problems)
    }
}

struct Compiler {
    rules: Vec<Rule>,
    /// The place of each name under `$defs`; the root is before them.
    named: HashMap<String, Place>,
    /// Every pattern that was compiled, by its text.
    patterns: HashMap<String, (Regex, usize)>,
    problems: Vec<Problem>,
}

impl Compiler {
    fn fault(&mut self, code: Code, node: &Node, path: &Path, message: impl Into<String>) {
        if self.problems.len() < crate::problem::PROBLEMS_MAX {
            self.problems.push(Problem::new(code, node.at, path.to_string(), message));
        }
    }

    fn set(&mut self, place: Place, rule: Rule) {
        if let Some(known) = self.rules.get_mut(place) {
            *known = rule;
        }
    }

    /// Gives every name under `$defs` its place, so that references may lead forward.
    fn declare(&mut self, schema: &Node) {
        let names = schema.get("$defs").map(Node::entries).unwrap_or_default();
        for (place, entry) in (1..).zip(names) {
            self.named.insert(entry.key.clone(), place);
        }
    }

    fn define(&mut self, schema: &Node) {
        let Some(defs) = schema.get("$defs") else { return };
        let path = Path::of(&["$defs"]);
        // The first pass of `rule` has put its subschemas behind the root: names get theirs behind those.
        let first = self.rules.len();
        self.rules.resize(first + defs.entries().len(), Rule::default());
        let moved: HashMap<Place, Place> = (1..).zip(first..).take(defs.entries().len()).collect();
        for (place, entry) in (first..).zip(defs.entries()) {
            let rule = self.rule(&entry.value, &path.key(&entry.key));
            self.set(place, rule);
        }
        // Until now a reference was the number of its name.
        for rule in &mut self.rules {
            rule.reference = rule.reference.and_then(|name| moved.get(&name).copied());
        }
    }

    fn place(&mut self, node: &Node, path: &Path) -> Place {
        let place = self.rules.len();
        if place >= RULES_MAX {
            self.fault(
                Code::ConstraintViolation,
                node,
                path,
                format!("is one of more than {RULES_MAX} schemas"),
            );
            return ROOT;
        }
        self.rules.push(Rule::default());
        let rule = self.rule(node, path);
        self.set(place, rule);
        place
    }

    fn rule(&mut self, node: &Node, path: &Path) -> Rule {
        let mut rule = Rule::default();
        let Value::Map(entries) = &node.value else {
            self.fault(Code::InvalidType, node, path, "must be a schema: a mapping");
            return rule;
        };
        if self.rules.len() >= RULES_MAX {
            return rule;
        }
        for entry in entries {
            let (value, at) = (&entry.value, path.key(&entry.key));
            self.keyword(&mut rule, &entry.key, value, &at);
        }
        rule
    }

    fn keyword(&mut self, rule: &mut Rule, key: &str, value: &Node, path: &Path) {
        match key {
            "title" => value.as_str().unwrap_or_default().clone_into(&mut rule.title),
            "type" => {
                rule.kind = self.known(value, path, "the name of one type of JSON", Kind::parse);
            }
            "format" => {
                let known = "ipv4, ipv4-cidr, domain, email or secret";
                rule.format = self.known(value, path, known, Format::parse);
            }
            "const" => rule.choices = Some(vec![value.clone()]),
            "enum" => {
                rule.choices = Some(value.items().to_vec());
                if value.items().is_empty() {
                    self.fault(Code::InvalidType, value, path, "must be a list with at least one value");
                }
            }
            "default" => rule.default = Some(value.clone()),
            "properties" => {
                self.mapping(value, path);
                for entry in value.entries() {
                    let place = self.place(&entry.value, &path.key(&entry.key));
                    rule.properties.insert(entry.key.clone(), place);
                }
            }
            "required" => {
                rule.required = value.items().iter().filter_map(Node::as_str).map(str::to_owned).collect();
                if rule.required.len() != value.items().len() || !matches!(value.value, Value::List(_)) {
                    self.fault(Code::InvalidType, value, path, "must be a list of names");
                }
            }
            "additionalProperties" => {
                rule.others = match value.as_bool() {
                    Some(true) => Others::Any,
                    Some(false) => Others::None,
                    None => Others::Like(self.place(value, path)),
                };
            }
            "items" => rule.items = Some(self.place(value, path)),
            "uniqueItems" => rule.unique = self.bool(value, path),
            "minItems" => rule.items_count.least = self.count(value, path),
            "maxItems" => rule.items_count.most = self.count(value, path),
            "minLength" => rule.length.least = self.count(value, path),
            "maxLength" => rule.length.most = self.count(value, path),
            "minimum" => rule.number.least = self.number(value, path),
            "maximum" => rule.number.most = self.number(value, path),
            "exclusiveMinimum" => rule.exclusive.least = self.number(value, path),
            "exclusiveMaximum" => rule.exclusive.most = self.number(value, path),
            "multipleOf" => {
                rule.multiple_of = self.number(value, path).filter(|step| *step > 0.0);
                if rule.multiple_of.is_none() {
                    self.fault(Code::ConstraintViolation, value, path, "must be more than 0");
                }
            }
            "pattern" => self.pattern(rule, value, path),
            "$ref" => self.reference(rule, value, path),
            "$defs" if path.to_string() == "$defs" => self.mapping(value, path),
            _ if ANNOTATIONS.contains(&key) => {}
            _ => self.problems.push(
                Problem::new(
                    Code::UnknownField,
                    value.at,
                    path.to_string(),
                    "is a keyword that is not checked here",
                )
                .hint("docs/guides/stackkits.md names those that are"),
            ),
        }
    }

    fn known<T>(
        &mut self,
        value: &Node,
        path: &Path,
        words: &str,
        parse: impl Fn(&str) -> Option<T>,
    ) -> Option<T> {
        let known = value.as_str().and_then(parse);
        if known.is_none() {
            self.fault(Code::ConstraintViolation, value, path, format!("must be {words}"));
        }
        known
    }

    fn mapping(&mut self, value: &Node, path: &Path) {
        if !matches!(value.value, Value::Map(_)) {
            self.fault(Code::InvalidType, value, path, "must be a mapping");
        }
    }

    fn bool(&mut self, value: &Node, path: &Path) -> bool {
        if value.as_bool().is_none() {
            self.fault(Code::InvalidType, value, path, "must be true or false");
        }
        value.as_bool().unwrap_or_default()
    }

    fn count(&mut self, value: &Node, path: &Path) -> Option<usize> {
        let count = value.as_int().and_then(|number| usize::try_from(number).ok());
        if count.is_none() {
            self.fault(Code::InvalidType, value, path, "must be a whole number, 0 or more");
        }
        count
    }

    fn number(&mut self, value: &Node, path: &Path) -> Option<f64> {
        let number = number(value);
        if number.is_none() {
            self.fault(Code::InvalidType, value, path, "must be a number");
        }
        number
    }

    fn pattern(&mut self, rule: &mut Rule, value: &Node, path: &Path) {
        let Some(text) = value.as_str() else {
            self.fault(Code::InvalidType, value, path, "must be a pattern: text");
            return;
        };
        if let Some(known) = self.patterns.get(text) {
            (rule.pattern, rule.pattern_steps) = (Some(known.0.clone()), known.1);
            return;
        }
        if self.patterns.len() >= PATTERNS_MAX {
            let message = format!("is one of more than {PATTERNS_MAX} patterns");
            self.fault(Code::ConstraintViolation, value, path, message);
            return;
        }
        // RE2's classes are those of ASCII, as CUE reads them.
        let Some(ascii) = ascii(text) else {
            let message = "has \\D, \\S or \\W within brackets: write what they stand for";
            self.fault(Code::InvalidFormat, value, path, message);
            return;
        };
        let build = |bytes: usize| RegexBuilder::new(&ascii).size_limit(bytes).nest_limit(50).build();
        let small = build(PATTERN_SMALL_BYTES).map(|pattern| (pattern, PATTERN_STEPS.0));
        match small.or_else(|_| build(PATTERN_MAX_BYTES).map(|pattern| (pattern, PATTERN_STEPS.1))) {
            Ok((pattern, steps)) => {
                self.patterns.insert(text.to_owned(), (pattern.clone(), steps));
                (rule.pattern, rule.pattern_steps) = (Some(pattern), steps);
            }
            Err(cause) => {
                let last = cause.to_string().lines().last().unwrap_or_default().trim().to_owned();
                self.fault(Code::InvalidFormat, value, path, format!("is not a pattern of RE2: {last}"));
            }
        }
    }

    fn reference(&mut self, rule: &mut Rule, value: &Node, path: &Path) {
        let name = value.as_str().and_then(|text| text.strip_prefix(DEFS));
        rule.reference = name.and_then(|name| self.named.get(name)).copied();
        if rule.reference.is_none() {
            let message = format!("must be {DEFS}<name>, and the name must be there");
            self.fault(Code::ConstraintViolation, value, path, message);
        }
    }

    /// A reference that leads back to itself says nothing about any value.
    fn refuse_circles(&mut self) {
        for start in 0..self.rules.len() {
            let mut place = start;
            for _ in 0..=self.rules.len() {
                match self.rules.get(place).and_then(|rule| rule.reference) {
                    Some(next) if next != start => place = next,
                    Some(_) => {
                        let at = crate::problem::Position::START;
                        self.problems.push(Problem::new(
                            Code::DependencyCycle,
                            at,
                            "$defs",
                            "has a reference that leads back to itself",
                        ));
                        return;
                    }
                    None => break,
                }
            }
        }
    }
}

/// The number, whole or not.
pub(super) fn number(node: &Node) -> Option<f64> {
    match node.value {
        #[expect(
            clippy::cast_precision_loss,
            reason = "bounds and steps are small; JSON has no other numbers"
        )]
        Value::Int(number) => Some(number as f64),
        Value::Float(number) => Some(number),
        Value::Null | Value::Bool(_) | Value::Text { .. } | Value::List(_) | Value::Map(_) => None,
    }
}

/// The pattern with `\d`, `\s` and `\w` as RE2 has them: of ASCII alone. `None`: their opposites stand within brackets, where
/// there is no word for them.
fn ascii(pattern: &str) -> Option<String> {
    let mut out = String::with_capacity(pattern.len());
    let (mut escaped, mut class) = (false, false);
    for one in pattern.chars() {
        if escaped {
            escaped = false;
            let set = match one {
                'd' => Some(("0-9", "[0-9]")),
                's' => Some((r"\t\n\x0c\r ", r"[\t\n\x0c\r ]")),
                'w' => Some(("0-9A-Za-z_", "[0-9A-Za-z_]")),
                _ => None,
            };
            match (set, class, one) {
                (Some((inner, _)), true, _) => out.push_str(inner),
                (Some((_, whole)), false, _) => out.push_str(whole),
                (None, true, 'D' | 'S' | 'W') => return None,
                (None, false, 'D') => out.push_str("[^0-9]"),
                (None, false, 'S') => out.push_str(r"[^\t\n\x0c\r ]"),
                (None, false, 'W') => out.push_str("[^0-9A-Za-z_]"),
                (None, _, 'b') => out.push_str(r"(?-u:\b)"),
                (None, ..) => {
                    out.push('\\');
                    out.push(one);
                }
            }
            continue;
        }
        match one {
            '\\' => {
                escaped = true;
                continue;
            }
            '[' => class = true,
            ']' => class = false,
            _ => {}
        }
        out.push(one);
    }
    if escaped {
        out.push('\\');
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_are_of_ascii() {
        for (pattern, expected) in [
            (r"^\d+$", "^[0-9]+$"),
            (r"[^@\s]", r"[^@\t\n\x0c\r ]"),
            (r"\\d", r"\\d"),
            (r"\W\.", r"[^0-9A-Za-z_]\."),
            (r"a\", r"a\"),
        ] {
            assert_eq!(ascii(pattern).as_deref(), Some(expected));
        }
        assert_eq!(ascii(r"[\D]"), None);
    }
}
