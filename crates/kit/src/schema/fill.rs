//! Fills in defaults.

use super::{Others, Place, ROOT, Rule, Schema};
use crate::budget::{Budget, Exhausted};
use crate::node::{Entry, Node, Value};
use crate::problem::Position;
use crate::yaml::{DEPTH_MAX, NODES_MAX};

pub(super) fn fill(schema: &Schema, document: &Node, budget: &mut Budget) -> Option<Node> {
    let mut whole = document.clone();
    Filler { schema, budget, filled: 0 }.value(ROOT, &mut whole, 0).ok()?;
    Some(whole)
}

struct Filler<'a> {
    schema: &'a Schema,
    budget: &'a mut Budget,
    /// How much was filled in: what is checked afterwards stays about as large as a document may be.
    filled: usize,
}

impl Filler<'_> {
    fn value(&mut self, place: Place, node: &mut Node, depth: usize) -> Result<(), Exhausted> {
        if depth > DEPTH_MAX {
            return Err(Exhausted);
        }
        let schema = self.schema;
        for rule in schema.chain(place) {
            self.budget.spend(1)?;
            self.rule(rule, node, depth)?;
        }
        Ok(())
    }

    fn rule(&mut self, rule: &Rule, node: &mut Node, depth: usize) -> Result<(), Exhausted> {
        let at = node.at;
        match &mut node.value {
            Value::Map(entries) => {
                for (name, place) in &rule.properties {
                    self.budget.spend(1)?;
                    if entries.iter().any(|entry| entry.key == *name) {
                        continue;
                    }
                    if let Some(value) = self.missing(*place, at, depth + 1)? {
                        entries.push(Entry { key: name.clone(), key_at: at, value });
                    }
                }
                for entry in entries {
                    let place = rule.properties.get(&entry.key).copied().or(match rule.others {
                        Others::Like(place) => Some(place),
                        Others::Any | Others::None => None,
                    });
                    if let Some(place) = place {
                        self.value(place, &mut entry.value, depth + 1)?;
                    }
                }
            }
            Value::List(items) => {
                if let Some(place) = rule.items {
                    for item in items {
                        self.value(place, item, depth + 1)?;
                    }
                }
            }
            Value::Null | Value::Bool(_) | Value::Int(_) | Value::Float(_) | Value::Text { .. } => {}
        }
        Ok(())
    }

    /// The default of what is not there; an object has one if something in it has.
    fn missing(&mut self, place: Place, at: Position, depth: usize) -> Result<Option<Node>, Exhausted> {
        if depth > DEPTH_MAX {
            return Err(Exhausted);
        }
        self.budget.spend(1)?;
        let schema = self.schema;
        if let Some(default) = schema.chain(place).find_map(|rule| rule.default.as_ref()) {
            let weight = weight(default);
            self.budget.spend(weight)?;
            self.filled += weight;
            if self.filled > NODES_MAX {
                return Err(Exhausted);
            }
            return Ok(Some(placed(default, at)));
        }
        let mut entries: Vec<Entry> = Vec::new();
        for rule in schema.chain(place) {
            for (name, place) in &rule.properties {
                // What is required has to be written: an object without it is not made up.
                if rule.required.contains(name) {
                    return Ok(None);
                }
                if let Some(value) = self.missing(*place, at, depth + 1)? {
                    entries.push(Entry { key: name.clone(), key_at: at, value });
                }
            }
        }
        Ok((!entries.is_empty()).then_some(Node { value: Value::Map(entries), at }))
    }
}

/// What it costs to copy a value: each value in it, and its text.
pub(super) fn weight(node: &Node) -> usize {
    let text = node.as_str().map_or(0, str::len);
    let items: usize = node.items().iter().map(weight).sum();
    let entries: usize = node.entries().iter().map(|entry| entry.key.len() / 16 + weight(&entry.value)).sum();
    1 + text / 16 + items + entries
}

/// A default, where the one that is without it stands.
fn placed(node: &Node, at: Position) -> Node {
    let value = match &node.value {
        Value::List(items) => Value::List(items.iter().map(|item| placed(item, at)).collect()),
        Value::Map(entries) => Value::Map(
            entries
                .iter()
                .map(|entry| Entry { key: entry.key.clone(), key_at: at, value: placed(&entry.value, at) })
                .collect(),
        ),
        Value::Null | Value::Bool(_) | Value::Int(_) | Value::Float(_) | Value::Text { .. } => {
            node.value.clone()
        }
    };
    Node { value, at }
}
