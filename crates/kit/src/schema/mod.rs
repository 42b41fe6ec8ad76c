//! The part of JSON Schema 2020-12 that says which shape a spec has. Source: <https://json-schema.org/draft/2020-12>.
//!
//! Ours, and not a library's, for three reasons: every fault needs its place in the text and a code of the contract; the
//! work has to be counted; and a keyword that is not checked must be refused, not passed over. Another implementation is
//! held against it in the tests, and so is `cue vet`.

mod check;
mod compile;
mod fill;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashSet};

use regex::Regex;

use crate::budget::Budget;
use crate::node::{Node, Value};
use crate::problem::Problem;

pub(crate) use check::Shape;

/// How many subschemas a schema may have.
const RULES_MAX: usize = 2000;

/// How large a compiled pattern may be, in bytes.
const PATTERN_MAX_BYTES: usize = 512 * 1024;

/// A compiled pattern of at most so many bytes is a small one.
const PATTERN_SMALL_BYTES: usize = 16 * 1024;

/// How many steps a byte of text costs at most, for a small pattern and for another: as many as there are states to be in.
const PATTERN_STEPS: (usize, usize) = (4, 64);

/// How many different patterns a schema may have.
const PATTERNS_MAX: usize = 64;

/// A compiled schema.
#[derive(Clone, Debug)]
pub struct Schema {
    /// Every subschema; a reference is a place in here.
    rules: Vec<Rule>,
}

/// The place of a subschema.
type Place = usize;

/// The whole schema is the first subschema.
const ROOT: Place = 0;

/// One subschema.
#[derive(Clone, Debug, Default)]
struct Rule {
    kind: Option<Kind>,
    choices: Option<Vec<Node>>,
    reference: Option<Place>,
    properties: BTreeMap<String, Place>,
    required: Vec<String>,
    others: Others,
    items: Option<Place>,
    items_count: Bounds<usize>,
    unique: bool,
    length: Bounds<usize>,
    pattern: Option<Regex>,
    /// How many steps a byte costs that is held against the pattern.
    pattern_steps: usize,
    format: Option<Format>,
    number: Bounds<f64>,
    exclusive: Bounds<f64>,
    multiple_of: Option<f64>,
    default: Option<Node>,
    title: String,
}

/// The least and the most, both included unless said otherwise.
#[derive(Clone, Copy, Debug)]
struct Bounds<T> {
    least: Option<T>,
    most: Option<T>,
}

impl<T> Default for Bounds<T> {
    fn default() -> Self {
        Self { least: None, most: None }
    }
}

/// What the properties may be that nobody names.
#[derive(Clone, Copy, Debug, Default)]
enum Others {
    #[default]
    Any,
    None,
    Like(Place),
}

/// A type of JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Null,
    Boolean,
    Integer,
    Number,
    String,
    Array,
    Object,
}

impl Kind {
    const ALL: [(Self, &'static str, &'static str); 7] = [
        (Self::Null, "null", "empty"),
        (Self::Boolean, "boolean", "true or false"),
        (Self::Integer, "integer", "a whole number"),
        (Self::Number, "number", "a number"),
        (Self::String, "string", "text"),
        (Self::Array, "array", "a list"),
        (Self::Object, "object", "a mapping"),
    ];

    fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|(_, name, _)| *name == text).map(|(kind, _, _)| kind)
    }

    fn words(self) -> &'static str {
        Self::ALL.into_iter().find(|(kind, _, _)| *kind == self).map_or("", |(_, _, words)| words)
    }

    /// Whether the value is of this type. A number written with a fraction is no whole number, even if the fraction is zero:
    /// so CUE has it, too.
    const fn takes(self, value: &Value) -> bool {
        match (self, value) {
            (Self::Null, Value::Null)
            | (Self::Boolean, Value::Bool(_))
            | (Self::Integer, Value::Int(_))
            | (Self::Number, Value::Int(_) | Value::Float(_))
            | (Self::String, Value::Text { .. })
            | (Self::Array, Value::List(_))
            | (Self::Object, Value::Map(_)) => true,
            (
                Self::Null
                | Self::Boolean
                | Self::Integer
                | Self::Number
                | Self::String
                | Self::Array
                | Self::Object,
                _,
            ) => false,
        }
    }
}

/// What a text stands for: annotations, by which the rules behind the shape know where to look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Format {
    /// An IPv4 address.
    Ipv4,
    /// An IPv4 range.
    Ipv4Cidr,
    /// A domain name.
    Domain,
    /// An e-mail address.
    Email,
    /// The name of a secret.
    Secret,
}

impl Format {
    const ALL: [(Self, &'static str); 5] = [
        (Self::Ipv4, "ipv4"),
        (Self::Ipv4Cidr, "ipv4-cidr"),
        (Self::Domain, "domain"),
        (Self::Email, "email"),
        (Self::Secret, "secret"),
    ];

    fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|(_, name)| *name == text).map(|(format, _)| format)
    }
}

impl Schema {
    /// Compiles a schema.
    ///
    /// # Errors
    /// - everything that is wrong with it, or that is not known here.
    pub fn compile(schema: &Node) -> Result<Self, Vec<Problem>> {
        compile::compile(schema)
    }

    /// About how much memory it takes, in bytes: patterns take most.
    pub(crate) fn weight_bytes(&self) -> usize {
        let patterns: HashSet<&str> =
            self.rules.iter().filter_map(|rule| rule.pattern.as_ref()).map(Regex::as_str).collect();
        self.rules.len() * size_of::<Rule>() + patterns.len() * PATTERN_MAX_BYTES / 2
    }

    /// Checks the shape of `document`.
    pub fn check(&self, document: &Node) -> Vec<Problem> {
        self.shape(document, &mut Budget::new()).problems
    }

    /// Checks the shape, and finds what the formats stand at.
    pub(crate) fn shape(&self, document: &Node, budget: &mut Budget) -> Shape {
        check::check(self, document, budget)
    }

    /// The document with every default filled in, or `None` if that is too much.
    pub(crate) fn fill(&self, document: &Node, budget: &mut Budget) -> Option<Node> {
        fill::fill(self, document, budget)
    }

    /// What is wrong with the defaults: each has to be what may stand in its place. Places are those of the schema.
    pub(crate) fn check_defaults(&self) -> Vec<Problem> {
        check::defaults(self)
    }

    /// The names of the properties at these keys, where the schema names every one.
    pub(crate) fn properties(&self, keys: &[&str]) -> Option<Vec<&str>> {
        let place = keys.iter().try_fold(ROOT, |place, key| self.property(place, key))?;
        let rules = self.chain(place);
        Some(rules.flat_map(|rule| rule.properties.keys().map(String::as_str)).collect())
    }

    /// Whether a value may stand at these keys; a number stands for every item.
    pub(crate) fn has(&self, keys: &[&str]) -> bool {
        keys.iter().try_fold(ROOT, |place, key| self.property(place, key)).is_some()
    }

    fn property(&self, place: Place, key: &str) -> Option<Place> {
        self.chain(place).find_map(|rule| {
            rule.properties.get(key).copied().or(match rule.others {
                Others::Like(place) => Some(place),
                Others::Any | Others::None => None,
            })
        })
    }

    /// The subschema and those that it refers to. References that lead back to themselves do not compile.
    fn chain(&self, place: Place) -> impl Iterator<Item = &Rule> {
        std::iter::successors(self.rules.get(place), |rule| {
            rule.reference.and_then(|place| self.rules.get(place))
        })
    }
}
