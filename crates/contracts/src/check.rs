//! What the generated checks are made of: where a message is wrong, and what must be true there.

use std::collections::HashSet;
use std::fmt::{self, Display, Formatter};
use std::hash::Hash;

use regex::Regex;

use crate::google::api::HttpBody;

/// A message whose contract says what is valid. The build writes it for every message, from its
/// `buf.validate` options.
pub trait Check {
    /// The full name of the message, for example "kombify.users.v1.GetUserRequest".
    const NAME: &'static str;
    /// Whether a method answers with the message. Answers are believed: a newer server may say more than this
    /// contract.
    const ANSWER: bool;

    /// Adds what is wrong with the message, which stands `at`, to `violations`.
    fn check(&self, at: &Path<'_>, violations: &mut Violations);
}

/// Raw bytes of others' contract: an answer, wherever it stands.
impl Check for HttpBody {
    const NAME: &'static str = "google.api.HttpBody";
    const ANSWER: bool = true;

    fn check(&self, _: &Path<'_>, _: &mut Violations) {}
}

/// Checks a whole message.
///
/// # Errors
/// [`Violations`] if anything is wrong with it.
pub fn check(message: &impl Check) -> Result<(), Violations> {
    let mut violations = Violations::default();
    message.check(&Path::ROOT, &mut violations);
    if violations.0.is_empty() { Ok(()) } else { Err(violations) }
}

/// Where a value stands in a message. Writes a JSON path such as `spec.kits[0].name` or `details["k"]`; costs
/// nothing until then.
#[derive(Clone, Copy)]
pub struct Path<'a> {
    parent: Option<&'a Self>,
    step: Step<'a>,
}

#[derive(Clone, Copy)]
enum Step<'a> {
    Root,
    Field(&'static str),
    Index(usize),
    Key(&'a str),
    Item(&'a dyn Display),
}

impl Path<'_> {
    /// The message itself.
    pub const ROOT: Self = Self { parent: None, step: Step::Root };
    /// How much of a map's key a path shows: the key is the caller's, and has no bound.
    const KEY_CHARACTERS: usize = 64;

    /// The field of that JSON name in this message.
    #[must_use]
    pub fn field(&self, name: &'static str) -> Path<'_> {
        Path { parent: Some(self), step: Step::Field(name) }
    }

    /// The item at that place in this list.
    #[must_use]
    pub fn index(&self, index: usize) -> Path<'_> {
        Path { parent: Some(self), step: Step::Index(index) }
    }

    /// The value of that key in this map.
    #[must_use]
    pub fn key<'b>(&'b self, key: &'b str) -> Path<'b> {
        Path { parent: Some(self), step: Step::Key(key) }
    }

    /// The value of a key that is a number or a truth value in this map.
    #[must_use]
    pub fn item<'b>(&'b self, key: &'b dyn Display) -> Path<'b> {
        Path { parent: Some(self), step: Step::Item(key) }
    }
}

impl Display for Path<'_> {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        if let Some(parent) = self.parent {
            write!(formatter, "{parent}")?;
        }
        match self.step {
            Step::Root => Ok(()),
            Step::Field(name) => {
                let first = self.parent.is_none_or(|parent| matches!(parent.step, Step::Root));
                write!(formatter, "{}{name}", if first { "" } else { "." })
            }
            Step::Index(index) => write!(formatter, "[{index}]"),
            Step::Item(key) => write!(formatter, "[{key}]"),
            Step::Key(key) => {
                formatter.write_str("[\"")?;
                for character in key.chars().take(Self::KEY_CHARACTERS) {
                    match character {
                        '"' | '\\' => write!(formatter, "\\{character}")?,
                        '\0'..='\x1f' => write!(formatter, "\\u{:04x}", u32::from(character))?,
                        _ => write!(formatter, "{character}")?,
                    }
                }
                formatter.write_str("\"]")
            }
        }
    }
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Where, as a JSON path.
    pub path: String,
    /// What must be true there, for example "must have at most 64 characters".
    pub message: String,
}

/// What is wrong with a message: the first things, in the order of the fields.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Violations(Vec<Violation>);

impl Violations {
    /// How many are told at most: an answer stays small, whatever was sent.
    pub const LIMIT: usize = 64;

    /// Adds one, unless there are enough.
    pub fn add(&mut self, at: &Path<'_>, message: &str) {
        if self.0.len() < Self::LIMIT {
            self.0.push(Violation { path: at.to_string(), message: message.to_owned() });
        }
    }

    /// Each of them.
    pub fn as_slice(&self) -> &[Violation] {
        &self.0
    }
}

impl Display for Violations {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        match self.0.as_slice() {
            [only] => write!(formatter, "{} {}", only.path, only.message),
            all => write!(formatter, "{} fields are not valid", all.len()),
        }
    }
}

impl std::error::Error for Violations {}

/// How many Unicode code points a text has: what `min_len`, `max_len` and `len` count.
pub fn characters(text: &str) -> usize {
    text.chars().count()
}

/// Whether two items are alike.
pub fn repeats<T: Eq + Hash>(items: &[T]) -> bool {
    let mut seen = HashSet::with_capacity(items.len());
    !items.iter().all(|item| seen.insert(item))
}

/// A pattern that the build has compiled before.
///
/// # Panics
/// If it does not compile.
pub fn pattern(expression: &str) -> Regex {
    Regex::new(expression).expect("the build has compiled it")
}

/// Decodes and checks.
#[cfg(test)]
pub(crate) fn check_bytes<M: prost::Message + Default + Check>(bytes: &[u8]) -> Result<(), Violations> {
    check(&M::decode(bytes).unwrap())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::kombify::fixture::v1::{Leaf, Lists, Maps, Nested, Strings, nested::Twig};

    #[test]
    fn a_path_is_written_as_json_names_it() {
        let long = "k".repeat(100);
        let root = Path::ROOT;
        let leaves = root.field("spec").field("kits").index(0).field("leafName").to_string();
        assert_eq!(leaves, "spec.kits[0].leafName");
        assert_eq!(root.field("details").key("a.b \"\\\n").to_string(), r#"details["a.b \"\\\u000a"]"#);
        assert_eq!(root.field("counts").item(&-7).field("size").to_string(), "counts[-7].size");
        assert_eq!(root.field("m").key(&long).to_string().len(), "m[\"\"]".len() + Path::KEY_CHARACTERS);
    }

    #[test]
    fn what_is_wrong_is_told_once_for_each_place_by_its_json_path() {
        let maps = Maps {
            counted: [("k".into(), "v".into())].into(),
            bounded: [("longer".into(), "UP".into())].into(),
            leaves: [("k".into(), Leaf { leaf_name: String::new(), size: 10 })].into(),
            required: [(String::new(), String::new())].into(),
            ..Maps::default()
        };
        let wrong = check(&maps).unwrap_err();
        let told: Vec<_> =
            wrong.as_slice().iter().map(|one| (one.path.as_str(), one.message.as_str())).collect();
        assert_eq!(
            told,
            [
                ("bounded[\"longer\"]", "key must have 1 to 4 characters"),
                ("bounded[\"longer\"]", "must match ^[a-z]*$"),
                ("leaves[\"k\"].leafName", "must have 1 to 4 characters"),
                ("leaves[\"k\"].size", "must be from 0 to 9"),
            ]
        );
        assert_eq!(wrong.to_string(), "4 fields are not valid");
    }

    #[test]
    fn one_wrong_field_is_named_in_the_sentence() {
        let twig = Twig { leaves: Vec::new(), display_name: "four".into() };
        assert_eq!(check(&twig).unwrap_err().to_string(), "displayName must have at most 3 characters");
        let nested = Nested { twig: Some(twig), ..Nested::default() };
        let told = check(&nested).unwrap_err();
        let paths: Vec<_> = told.as_slice().iter().map(|one| one.path.as_str()).collect();
        assert_eq!(paths, ["required", "createTime", "twig.displayName"]);
    }

    #[test]
    fn messages_are_sentences_for_people() {
        let strings = Strings { r#in: "other".into(), len: "ab".into(), ..Strings::default() };
        let wrong = check(&strings).unwrap_err();
        let message = |path: &str| {
            wrong.as_slice().iter().find(|one| one.path == path).map(|one| one.message.as_str()).unwrap()
        };
        assert_eq!(message("const"), "must be fixed");
        assert_eq!(message("minLen"), "must have at least 3 characters");
        assert_eq!(message("name"), "must have 1 to 8 characters");
        assert_eq!(message("len"), "must have exactly 4 characters");
        assert_eq!(message("prefix"), "must start with kit_");
        assert_eq!(message("required"), "is required");
        assert_eq!(message("in"), "must be empty or one of free, it's \"quoted\" \\ {braced}, größe");
    }

    #[test]
    fn however_much_is_wrong_only_so_much_is_told() {
        let lists = Lists { ignore_empty_items: vec!["a".into(); 1000], ..Lists::default() };
        assert_eq!(check(&lists).unwrap_err().as_slice().len(), Violations::LIMIT);
    }
}
