//! Holds a document against a schema.

use std::collections::HashSet;

use super::compile::number;
use super::fill;
use super::{Format, Others, Place, ROOT, Rule, Schema};
use crate::budget::{Budget, Exhausted};
use crate::node::{Node, Path, Value, printable};
use crate::problem::{Code, Problem};
use crate::similar;

/// What is wrong with the shape of a document, and what its formats stand at.
#[derive(Debug, Default)]
pub(crate) struct Shape {
    /// What is wrong.
    pub(crate) problems: Vec<Problem>,
    /// Each text that has its shape and a format.
    pub(crate) formats: Vec<(Format, Path, Node)>,
}

pub(super) fn check(schema: &Schema, document: &Node, budget: &mut Budget) -> Shape {
    let mut checker = Checker { schema, budget, shape: Shape::default(), hints_left: HINTS_MAX };
    if checker.value(ROOT, document, &Path::default()) == Err(Exhausted) {
        checker.shape.problems.push(Problem::new(
            Code::ConstraintViolation,
            document.at,
            "",
            "takes more steps to check than a spec may",
        ));
    }
    checker.shape
}

pub(super) fn defaults(schema: &Schema) -> Vec<Problem> {
    let mut problems = Vec::new();
    for (place, rule) in schema.rules.iter().enumerate() {
        let Some(default) = &rule.default else { continue };
        let mut budget = Budget::new();
        let mut checker =
            Checker { schema, budget: &mut budget, shape: Shape::default(), hints_left: HINTS_MAX };
        // One that takes too long is told where a spec has it.
        let _ = checker.value(place, default, &Path::default());
        problems.extend(checker.shape.problems.into_iter().map(|problem| {
            let message = format!("the default is none that may stand there: {}", problem.message);
            Problem { message, ..problem }
        }));
    }
    problems
}

/// So many problems of a shape are looked into: a verdict tells a hundred, in the order of the text.
const ENOUGH: usize = 1000;

/// How many pairs of characters are compared for hints: then there are none any more.
const HINTS_MAX: usize = 2_000_000;

struct Checker<'a> {
    schema: &'a Schema,
    budget: &'a mut Budget,
    shape: Shape,
    /// How many pairs of characters may still be compared for hints.
    hints_left: usize,
}

impl Checker<'_> {
    fn value(&mut self, place: Place, node: &Node, path: &Path) -> Result<(), Exhausted> {
        let schema = self.schema;
        for rule in schema.chain(place) {
            self.budget.spend(1)?;
            let known = self.shape.problems.len();
            self.rule(rule, node, path)?;
            if self.shape.problems.len() > known {
                // What does not have its type or its form is told once.
                return Ok(());
            }
        }
        Ok(())
    }

    fn rule(&mut self, rule: &Rule, node: &Node, path: &Path) -> Result<(), Exhausted> {
        if let Some(kind) = rule.kind.filter(|kind| !kind.takes(&node.value)) {
            let message = format!("must be {}, and is {}", kind.words(), node.kind());
            self.tell(Code::InvalidType, node, path, message, type_hint(node));
            return Ok(());
        }
        if let Some(choices) = &rule.choices {
            self.choice(choices, node, path)?;
        }
        match &node.value {
            Value::Text { text, .. } => self.text(rule, text, node, path)?,
            Value::Int(_) | Value::Float(_) => self.number(rule, node, path),
            Value::List(items) => self.list(rule, items, node, path)?,
            Value::Map(_) => self.mapping(rule, node, path)?,
            Value::Null | Value::Bool(_) => {}
        }
        Ok(())
    }

    fn tell(&mut self, code: Code, node: &Node, path: &Path, message: String, hint: String) {
        self.shape.problems.push(Problem::new(code, node.at, path.to_string(), message).hint(hint));
    }

    /// What was meant, as long as there is work left for hints.
    fn hint<'a>(&mut self, given: &str, names: impl Iterator<Item = &'a str> + Clone) -> Option<String> {
        let cost = names.clone().map(|name| (name.len() + 1) * (given.len() + 1)).sum();
        self.hints_left = self.hints_left.checked_sub(cost)?;
        similar::hint(given, names)
    }

    fn choice(&mut self, choices: &[Node], node: &Node, path: &Path) -> Result<(), Exhausted> {
        self.budget.spend(choices.iter().map(fill::weight).sum::<usize>() + fill::weight(node))?;
        if choices.iter().any(|choice| same(choice, node)) {
            return Ok(());
        }
        let kinds =
            |choice: &Node| std::mem::discriminant(&choice.value) == std::mem::discriminant(&node.value);
        if let Some(first) = choices.first().filter(|_| !choices.iter().any(kinds)) {
            let message = format!("must be {}, and is {}", first.kind(), node.kind());
            self.tell(Code::InvalidType, node, path, message, type_hint(node));
            return Ok(());
        }
        let words: Vec<String> = choices.iter().take(20).map(|choice| choice.to_json().to_string()).collect();
        let message = match words.as_slice() {
            [one] => format!("must be {one}"),
            several => format!("must be one of {}", several.join(", ")),
        };
        let names = choices.iter().filter_map(Node::as_str);
        let hint = node.as_str().and_then(|text| self.hint(text, names)).unwrap_or_default();
        self.tell(Code::ConstraintViolation, node, path, message, hint);
        Ok(())
    }

    fn text(&mut self, rule: &Rule, text: &str, node: &Node, path: &Path) -> Result<(), Exhausted> {
        // A pattern is matched in time linear to the text, and each byte may take as many steps as the pattern has states.
        self.budget.spend(text.len() / 16 + text.len() * rule.pattern_steps)?;
        let code =
            if rule.format == Some(Format::Ipv4Cidr) { Code::InvalidCidr } else { Code::InvalidFormat };
        let length = text.chars().count();
        let hint = || if rule.title.is_empty() { String::new() } else { rule.title.clone() };
        if rule.length.least.is_some_and(|least| length < least) {
            let least = rule.length.least.unwrap_or_default();
            self.tell(code, node, path, format!("must have at least {least} characters"), hint());
        } else if rule.length.most.is_some_and(|most| length > most) {
            let most = rule.length.most.unwrap_or_default();
            self.tell(code, node, path, format!("must have at most {most} characters"), hint());
        } else if let Some(pattern) = rule.pattern.as_ref().filter(|pattern| !pattern.is_match(text)) {
            let wanted = match rule.format {
                Some(Format::Ipv4) => "must be an IPv4 address, for example 192.168.1.10".to_owned(),
                Some(Format::Ipv4Cidr) => "must be an IPv4 range, for example 172.28.10.0/24".to_owned(),
                Some(Format::Domain) => "must be a domain in lower case, for example home.arpa".to_owned(),
                Some(Format::Email) => "must be an e-mail address".to_owned(),
                Some(Format::Secret) => "must name a secret, never be one: secret://<name>".to_owned(),
                None => format!("must match {pattern}"),
            };
            self.tell(code, node, path, wanted, hint());
        } else if let Some(format) = rule.format {
            self.shape.formats.push((format, path.clone(), node.clone()));
        }
        Ok(())
    }

    fn number(&mut self, rule: &Rule, node: &Node, path: &Path) {
        let Some(value) = number(node) else { return };
        let (number, exclusive) = (&rule.number, &rule.exclusive);
        let message = if let Some(least) = number.least.filter(|least| value < *least) {
            format!("must be at least {least}")
        } else if let Some(most) = number.most.filter(|most| value > *most) {
            format!("must be at most {most}")
        } else if let Some(least) = exclusive.least.filter(|least| value <= *least) {
            format!("must be more than {least}")
        } else if let Some(most) = exclusive.most.filter(|most| value >= *most) {
            format!("must be less than {most}")
        } else if let Some(step) = rule.multiple_of.filter(|step| {
            let times = value / step;
            // Decimal fractions are a little off.
            (times - times.round()).abs() > 1e-9 * times.abs().max(1.0)
        }) {
            format!("must be a multiple of {step}")
        } else {
            return;
        };
        self.tell(Code::ConstraintViolation, node, path, message, rule.title.clone());
    }

    fn list(&mut self, rule: &Rule, items: &[Node], node: &Node, path: &Path) -> Result<(), Exhausted> {
        let entries = |count: usize| if count == 1 { "entry".to_owned() } else { format!("{count} entries") };
        if let Some(least) = rule.items_count.least.filter(|least| items.len() < *least) {
            let message = format!(
                "must have at least {}",
                if least == 1 { "one entry".into() } else { entries(least) }
            );
            self.tell(Code::ConstraintViolation, node, path, message, rule.title.clone());
        }
        if let Some(most) = rule.items_count.most.filter(|most| items.len() > *most) {
            let message =
                format!("must have at most {}", if most == 1 { "one entry".into() } else { entries(most) });
            self.tell(Code::ConstraintViolation, node, path, message, rule.title.clone());
        }
        if rule.unique {
            let mut seen = HashSet::new();
            for (index, item) in items.iter().enumerate() {
                self.budget.spend(fill::weight(item))?;
                if !seen.insert(item.to_json().to_string()) {
                    let message = "is there already".to_owned();
                    self.tell(Code::ConstraintViolation, item, &path.index(index), message, String::new());
                }
            }
        }
        let Some(place) = rule.items else { return Ok(()) };
        for (index, item) in items.iter().enumerate() {
            self.value(place, item, &path.index(index))?;
        }
        Ok(())
    }

    fn mapping(&mut self, rule: &Rule, node: &Node, path: &Path) -> Result<(), Exhausted> {
        self.budget.spend(rule.required.len())?;
        for name in rule.required.iter().filter(|name| node.get(name).is_none()) {
            let message = format!("`{}` is missing", printable(name));
            self.tell(
                Code::Required,
                node,
                &path.key(name),
                message,
                format!("add `{}: ...`", printable(name)),
            );
        }
        for entry in node.entries() {
            self.budget.spend(1)?;
            let inner = path.key(&entry.key);
            match (rule.properties.get(&entry.key), rule.others) {
                (Some(place), _) => self.value(*place, &entry.value, &inner)?,
                (None, Others::Like(place)) => self.value(place, &entry.value, &inner)?,
                (None, Others::Any) => {}
                (None, Others::None) => {
                    let (code, what) = if inner.is_service() {
                        (Code::UnknownService, "service")
                    } else {
                        (Code::UnknownField, "field")
                    };
                    if self.shape.problems.len() > ENOUGH {
                        continue; // No more of them is ever told.
                    }
                    let names = rule.properties.keys().map(String::as_str);
                    let hint =
                        self.hint(&entry.key, names.clone()).unwrap_or_else(|| similar::choices(names));
                    let message = format!("is a {what} that is not known here");
                    let problem = Problem::new(code, entry.key_at, inner.to_string(), message).hint(hint);
                    self.shape.problems.push(problem);
                }
            }
        }
        Ok(())
    }
}

/// What often is meant by a value of the wrong type.
fn type_hint(node: &Node) -> String {
    match &node.value {
        Value::Text { text, plain: false }
            if text.parse::<f64>().is_ok() || text == "true" || text == "false" =>
        {
            "remove the quotes".to_owned()
        }
        Value::Int(_) | Value::Float(_) | Value::Bool(_) => "quote it, if it is text".to_owned(),
        Value::Null => "write a value, or remove the line".to_owned(),
        Value::Text { .. } | Value::List(_) | Value::Map(_) => String::new(),
    }
}

/// Whether two values are the same, wherever they stand.
fn same(one: &Node, other: &Node) -> bool {
    one.to_json() == other.to_json()
}
