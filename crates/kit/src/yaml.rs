//! Reads YAML 1.2 within bounds: one document, its core schema, no tags; what readers of YAML 1.1 take for something else
//! has to be quoted.

use std::collections::{HashMap, HashSet};
use std::sync::LazyLock;

use regex::Regex;
use saphyr_parser::{Event, Marker, Parser, ScalarStyle, ScanError, StrInput};

use crate::node::{Entry, Node, Path, Value, printable};
use crate::problem::{Code, Position, Problem};

/// How long a text may be, in bytes. Source: the contracts, "C7 kits" (a spec) and the bound of a kit's files.
pub const SPEC_MAX_BYTES: usize = 64 * 1024;

/// How deep mappings and sequences may stand in each other.
pub const DEPTH_MAX: usize = 32;

/// How many aliases a document may have.
pub const ALIASES_MAX: usize = 64;

/// How many values a document may have, with those that aliases repeat.
pub const NODES_MAX: usize = 20_000;

/// How many bytes of text a document may have, with those that aliases repeat.
const TEXT_MAX_BYTES: usize = 1024 * 1024;

/// Reads a document of at most `max_bytes`.
///
/// # Errors
/// - the first thing that is wrong with it.
pub fn read(text: &str, max_bytes: usize) -> Result<Node, Problem> {
    if text.len() > max_bytes {
        let message = format!("is longer than {max_bytes} bytes");
        return Err(Problem::new(Code::ConstraintViolation, Position::START, "", message));
    }
    refuse_control_characters(text)?;
    let mut reader = Reader {
        parser: Parser::new_from_str(text),
        anchors: HashMap::new(),
        anchored_sizes: HashMap::new(),
        aliases: 0,
        nodes: 0,
        text_bytes: 0,
    };
    reader.document()
}

/// YAML has no control characters but these: readers differ in what they do with others.
fn refuse_control_characters(text: &str) -> Result<(), Problem> {
    for (line, content) in (1..).zip(text.split('\n')) {
        let content = content.strip_suffix('\r').unwrap_or(content);
        let found = content.chars().position(|one| (one.is_control() && one != '\t') || one == '\u{feff}');
        if let Some(column) =
            found.filter(|column| (line, *column) != (1, 0) || !content.starts_with('\u{feff}'))
        {
            let at = Position { line, column: count(column).saturating_add(1) };
            return Err(Problem::new(Code::InvalidFormat, at, "", "has a control character")
                .hint("remove it, or write it as an escape in double quotes"));
        }
    }
    Ok(())
}

fn count(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

fn position(marker: &Marker) -> Position {
    Position { line: count(marker.line()).max(1), column: count(marker.col()).saturating_add(1) }
}

struct Reader<'input> {
    parser: Parser<'input, StrInput<'input>>,
    /// What an alias may name: only what is whole.
    anchors: HashMap<usize, Node>,
    /// How many values and bytes of text each of them repeats, and how many levels.
    anchored_sizes: HashMap<usize, (usize, usize, usize)>,
    aliases: usize,
    nodes: usize,
    text_bytes: usize,
}

/// What ends where the next value was looked for.
enum Next {
    Node(Node),
    End,
}

impl<'input> Reader<'input> {
    fn document(&mut self) -> Result<Node, Problem> {
        let mut root = None;
        loop {
            let (event, at) = self.event(&Path::default())?;
            match event {
                Event::StreamEnd => break,
                Event::StreamStart | Event::DocumentEnd | Event::Nothing => {}
                Event::DocumentStart(_) if root.is_some() => {
                    return Err(Problem::new(Code::InvalidFormat, at, "", "has more than one document")
                        .hint("keep one: nothing may follow `---` or `...`"));
                }
                Event::DocumentStart(_) => {
                    let Next::Node(node) = self.node(&Path::default(), 0)? else {
                        return Err(Problem::new(Code::InvalidFormat, at, "", "is not a document"));
                    };
                    root = Some(node);
                }
                Event::Alias(_)
                | Event::Scalar(..)
                | Event::SequenceStart(..)
                | Event::SequenceEnd
                | Event::MappingStart(..)
                | Event::MappingEnd => {
                    return Err(Problem::new(Code::InvalidFormat, at, "", "is not a document"));
                }
            }
        }
        Ok(root.unwrap_or(Node { value: Value::Null, at: Position::START }))
    }

    fn event(&mut self, path: &Path) -> Result<(Event<'input>, Position), Problem> {
        match self.parser.next_event() {
            Some(Ok((event, span))) => Ok((event, position(&span.start))),
            Some(Err(cause)) => Err(unreadable(&cause)),
            None => {
                Err(Problem::new(Code::InvalidFormat, Position::START, path.to_string(), "ends too early"))
            }
        }
    }

    fn node(&mut self, path: &Path, depth: usize) -> Result<Next, Problem> {
        let (event, at) = self.event(path)?;
        let fault = |code, message: String| Problem::new(code, at, path.to_string(), message);
        let before = (self.nodes, self.text_bytes);
        self.count_nodes(1, at, path)?;
        if depth > DEPTH_MAX {
            return Err(fault(Code::ConstraintViolation, format!("is deeper than {DEPTH_MAX} levels")));
        }
        let (value, anchor, tag) = match event {
            Event::SequenceEnd | Event::MappingEnd => {
                self.nodes -= 1;
                return Ok(Next::End);
            }
            Event::Alias(anchor) => return self.alias(anchor, at, path, depth).map(Next::Node),
            Event::Scalar(text, style, anchor, tag) => {
                self.count_text(text.len(), at, path)?;
                let value = scalar(&text, style).map_err(|(message, hint)| {
                    Problem::new(Code::InvalidFormat, at, path.to_string(), message).hint(hint)
                })?;
                (value, anchor, tag)
            }
            Event::SequenceStart(anchor, tag) => {
                let mut items = Vec::new();
                while let Next::Node(item) = self.node(&path.index(items.len()), depth + 1)? {
                    items.push(item);
                }
                (Value::List(items), anchor, tag)
            }
            Event::MappingStart(anchor, tag) => (Value::Map(self.entries(path, depth)?), anchor, tag),
            Event::Nothing
            | Event::StreamStart
            | Event::StreamEnd
            | Event::DocumentStart(_)
            | Event::DocumentEnd => {
                return Err(fault(Code::InvalidFormat, "is not a value".to_owned()));
            }
        };
        if tag.is_some() {
            let message = "has a tag".to_owned();
            return Err(fault(Code::InvalidFormat, message).hint("remove the word that begins with `!`"));
        }
        let node = Node { value, at };
        if anchor > 0 {
            self.anchors.insert(anchor, node.clone());
            let sizes = (self.nodes - before.0, self.text_bytes - before.1, height(&node));
            self.anchored_sizes.insert(anchor, sizes);
        }
        Ok(Next::Node(node))
    }

    fn entries(&mut self, path: &Path, depth: usize) -> Result<Vec<Entry>, Problem> {
        let mut entries: Vec<Entry> = Vec::new();
        let mut keys = HashSet::new();
        loop {
            let (event, key_at) = self.event(path)?;
            let key = match event {
                Event::MappingEnd => return Ok(entries),
                Event::Scalar(text, style, 0, None) => {
                    if style == ScalarStyle::Plain && text == "<<" {
                        let message = "is a merge key, which YAML 1.2 does not have";
                        return Err(Problem::new(Code::InvalidFormat, key_at, path.to_string(), message)
                            .hint("write the entries here"));
                    }
                    text.into_owned()
                }
                Event::Scalar(..)
                | Event::Alias(_)
                | Event::SequenceStart(..)
                | Event::SequenceEnd
                | Event::MappingStart(..)
                | Event::Nothing
                | Event::StreamStart
                | Event::StreamEnd
                | Event::DocumentStart(_)
                | Event::DocumentEnd => {
                    let message = "has a key that is no plain text";
                    return Err(Problem::new(Code::InvalidFormat, key_at, path.to_string(), message));
                }
            };
            self.count_nodes(1, key_at, path)?;
            self.count_text(key.len(), key_at, path)?;
            let inner = path.key(&key);
            if !keys.insert(key.clone()) {
                let message = format!("has the key `{}` twice", printable(&key));
                return Err(Problem::new(Code::InvalidFormat, key_at, inner.to_string(), message)
                    .hint("keep one of them"));
            }
            let Next::Node(value) = self.node(&inner, depth + 1)? else {
                return Err(Problem::new(Code::InvalidFormat, key_at, inner.to_string(), "has no value"));
            };
            entries.push(Entry { key, key_at, value });
        }
    }

    fn alias(&mut self, anchor: usize, at: Position, path: &Path, depth: usize) -> Result<Node, Problem> {
        self.aliases += 1;
        if self.aliases > ALIASES_MAX {
            let message = format!("is one of more than {ALIASES_MAX} aliases");
            return Err(Problem::new(Code::ConstraintViolation, at, path.to_string(), message));
        }
        let Some(node) = self.anchors.get(&anchor) else {
            return Err(Problem::new(
                Code::InvalidFormat,
                at,
                path.to_string(),
                "is an alias of what holds it",
            ));
        };
        // Counted before it is copied: what an alias repeats may hold aliases, too.
        let (nodes, bytes, height) = self.anchored_sizes.get(&anchor).copied().unwrap_or_default();
        if depth + height > DEPTH_MAX {
            let message = format!("is deeper than {DEPTH_MAX} levels");
            return Err(Problem::new(Code::ConstraintViolation, at, path.to_string(), message));
        }
        let node = node.clone();
        self.count_nodes(nodes, at, path)?;
        self.count_text(bytes, at, path)?;
        Ok(node)
    }

    fn count_nodes(&mut self, nodes: usize, at: Position, path: &Path) -> Result<(), Problem> {
        self.nodes += nodes;
        if self.nodes > NODES_MAX {
            let message = format!("goes beyond {NODES_MAX} values");
            return Err(Problem::new(Code::ConstraintViolation, at, path.to_string(), message));
        }
        Ok(())
    }

    fn count_text(&mut self, bytes: usize, at: Position, path: &Path) -> Result<(), Problem> {
        self.text_bytes += bytes;
        if self.text_bytes > TEXT_MAX_BYTES {
            let message = format!("goes beyond {TEXT_MAX_BYTES} bytes of text");
            return Err(Problem::new(Code::ConstraintViolation, at, path.to_string(), message));
        }
        Ok(())
    }
}

/// How many levels stand within a value.
fn height(node: &Node) -> usize {
    let items = node.items().iter().map(height).max();
    let entries = node.entries().iter().map(|entry| height(&entry.value)).max();
    items.max(entries).map_or(0, |inner| inner + 1)
}

fn unreadable(cause: &ScanError) -> Problem {
    let message = format!("is not YAML: {}", printable(cause.info()));
    Problem::new(Code::InvalidFormat, position(cause.marker()), "", message)
        .hint("look at the indentation and the quotes of this line and the one before")
}

macro_rules! pattern {
    ($name:ident, $pattern:literal) => {
        static $name: LazyLock<Regex> = LazyLock::new(|| {
            Regex::new($pattern).unwrap_or_else(|_| unreachable!("the pattern is well-formed"))
        });
    };
}

pattern!(INT, r"^[-+]?(0|[1-9][0-9]*)$");
pattern!(FLOAT, r"^[-+]?(\.[0-9]+|(0|[1-9][0-9]*)(\.[0-9]*)?)([eE][-+]?[0-9]+)?$");
pattern!(
    AMBIGUOUS,
    r"^[-+]?(0[0-9_]+[0-9_.]*|0[boxBOX][0-9a-fA-F_]+|[0-9][0-9_.]*_[0-9_.]*([eE][-+]?[0-9_]*)?|[0-9][0-9.]*[eE][-+]?[0-9]*_[0-9_]*|[0-9]+(:[0-5]?[0-9])+(\.[0-9_]*)?|\.(inf|Inf|INF)|\.(nan|NaN|NAN))$"
);

/// The value of a scalar by YAML's core schema; what is not allowed comes with what to do.
fn scalar(text: &str, style: ScalarStyle) -> Result<Value, (&'static str, &'static str)> {
    if text.chars().any(|one| one.is_control() && !matches!(one, '\n' | '\t')) {
        return Err(("has a control character", "remove it"));
    }
    if style != ScalarStyle::Plain {
        return Ok(Value::Text { text: text.to_owned(), plain: false });
    }
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Ok(Value::Null),
        "true" | "True" | "TRUE" => return Ok(Value::Bool(true)),
        "false" | "False" | "FALSE" => return Ok(Value::Bool(false)),
        _ => {}
    }
    if INT.is_match(text) {
        return match text.parse() {
            Ok(number) => Ok(Value::Int(number)),
            Err(_) => Err(("is a number of more than 64 bits", "quote it, if it is text")),
        };
    }
    if FLOAT.is_match(text) {
        return match text.parse::<f64>() {
            Ok(number) if number.is_finite() => Ok(Value::Float(number)),
            Ok(_) | Err(_) => Err(("is a number that is too large", "quote it, if it is text")),
        };
    }
    if AMBIGUOUS.is_match(text) {
        let message = "is a number to some readers and text to others";
        return Err((message, "quote it, or write the number in full"));
    }
    Ok(Value::Text { text: text.to_owned(), plain: true })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(text: &str) -> Value {
        read(&format!("a: {text}"), SPEC_MAX_BYTES).unwrap().get("a").unwrap().value.clone()
    }

    fn problem(text: &str) -> String {
        read(text, SPEC_MAX_BYTES).unwrap_err().to_string()
    }

    #[test]
    fn scalars_are_those_of_the_core_schema() {
        let plain = |text: &str| Value::Text { text: text.into(), plain: true };
        for (text, expected) in [
            ("", Value::Null),
            ("~", Value::Null),
            ("null", Value::Null),
            ("true", Value::Bool(true)),
            ("False", Value::Bool(false)),
            ("0", Value::Int(0)),
            ("-7", Value::Int(-7)),
            ("9223372036854775807", Value::Int(i64::MAX)),
            ("1.0", Value::Float(1.0)),
            ("1e3", Value::Float(1000.0)),
            (".5", Value::Float(0.5)),
            ("yes", plain("yes")),
            ("no", plain("no")),
            ("on", plain("on")),
            ("1.2.3", plain("1.2.3")),
            ("2026-01-01", plain("2026-01-01")),
            ("'1'", Value::Text { text: "1".into(), plain: false }),
            ("\"true\"", Value::Text { text: "true".into(), plain: false }),
            ("\"017\"", Value::Text { text: "017".into(), plain: false }),
        ] {
            assert_eq!(value(text), expected, "{text}");
        }
    }

    #[test]
    fn what_readers_take_differently_has_to_be_quoted() {
        for text in [
            "017", "1_000", "0o17", "0x1F", "0X1F", "0b11", "1.0_0", "1e1_0", "22:22", "1:30:00", ".inf",
            "-.INF", ".nan", "00", "1e999",
        ] {
            assert!(
                problem(&format!("a: {text}")).starts_with("1:4: INVALID_FORMAT a: is a number"),
                "{text}"
            );
        }
    }

    #[test]
    fn values_know_where_they_stand() {
        let node = read("a: 1\nb:\n  - x\n  - {c: 'ü', d: 2}\n", SPEC_MAX_BYTES).unwrap();
        let at = |node: &Node| (node.at.line, node.at.column);
        let list = node.get("b").unwrap();
        assert_eq!(at(node.get("a").unwrap()), (1, 4));
        assert_eq!(at(&list.items()[0]), (3, 5));
        let inner = &list.items()[1];
        assert_eq!((at(inner), at(inner.get("d").unwrap())), ((4, 5), (4, 17)));
        assert_eq!(inner.entries()[1].key_at, Position { line: 4, column: 14 });
    }

    #[test]
    fn what_is_no_single_plain_document_is_refused_where_it_goes_wrong() {
        for (text, expected) in [
            ("a: [1, 2", "2:1: INVALID_FORMAT: is not YAML"),
            ("a: 1\n---\nb: 2\n", "2:1: INVALID_FORMAT: has more than one document"),
            ("a: 1\nb: 2\na: 3\n", "3:1: INVALID_FORMAT a: has the key `a` twice"),
            ("a: !!str 1", "1:4: INVALID_FORMAT a: has a tag"),
            ("a: !own {}", "1:4: INVALID_FORMAT a: has a tag"),
            ("base: &b {x: 1}\na:\n  <<: *b\n", "3:3: INVALID_FORMAT a: is a merge key"),
            ("? [1]\n: 2\n", "1:3: INVALID_FORMAT: has a key that is no plain text"),
            ("a: &a [*a]", "1:8: INVALID_FORMAT a[0]: is an alias of what holds it"),
            ("a: \"x\\0y\"", "1:4: INVALID_FORMAT a: has a control character"),
            ("a: x\u{7}y", "1:5: INVALID_FORMAT: has a control character"),
            ("a: 99999999999999999999", "1:4: INVALID_FORMAT a: is a number of more than 64 bits"),
        ] {
            let problem = problem(text);
            assert!(problem.starts_with(expected), "{text}: {problem}");
        }
        assert_eq!(read("", SPEC_MAX_BYTES).unwrap().value, Value::Null);
        assert_eq!(read("# nothing\n", SPEC_MAX_BYTES).unwrap().value, Value::Null);
        assert_eq!(read("---\na: 1\n...\n", SPEC_MAX_BYTES).unwrap().get("a").unwrap().as_int(), Some(1));
        assert_eq!(read("\u{feff}a: 1\r\n", SPEC_MAX_BYTES).unwrap().get("a").unwrap().as_int(), Some(1));
    }

    #[test]
    fn every_size_has_a_bound() {
        let long = format!("a: {}", "x".repeat(SPEC_MAX_BYTES));
        assert!(problem(&long).contains("is longer than 65536 bytes"));
        assert!(read(&format!("{}1{}", "[".repeat(32), "]".repeat(32)), SPEC_MAX_BYTES).is_ok());
        assert!(problem(&format!("{}1{}", "[".repeat(33), "]".repeat(33))).contains("deeper than 32 levels"));
        // The parser has a bound of its own for these.
        assert!(read(&"[".repeat(60_000), SPEC_MAX_BYTES).is_err());
        assert!(read(&"- ".repeat(30_000), SPEC_MAX_BYTES).is_err());
        let aliases = |count: usize| format!("a: &a 1\nb: [{}]", vec!["*a"; count].join(", "));
        assert!(read(&aliases(64), SPEC_MAX_BYTES).is_ok());
        assert!(problem(&aliases(65)).contains("more than 64 aliases"));
        // Each alias is one level, and what it repeats is many.
        let deep = |alias: usize| {
            format!(
                "a: &a {}1{}\nb: {}*a{}",
                "[".repeat(20),
                "]".repeat(20),
                "[".repeat(alias),
                "]".repeat(alias)
            )
        };
        assert!(read(&deep(11), SPEC_MAX_BYTES).is_ok());
        assert!(problem(&deep(12)).contains("deeper than 32 levels"));
        // A billion laughs: each level repeats the one before nine times.
        let mut laughs = vec!["a0: &a0 [ha, ha, ha, ha, ha, ha, ha, ha, ha]".to_owned()];
        for level in 1..8 {
            let all = vec![format!("*a{}", level - 1); 9].join(", ");
            laughs.push(format!("a{level}: &a{level} [{all}]"));
        }
        assert!(problem(&laughs.join("\n")).contains("goes beyond 20000 values"));
        let text = format!("a: &a {}\nb: [{}]", "x".repeat(60_000), vec!["*a"; 30].join(", "));
        assert!(problem(&text).contains("bytes of text"));
        assert!(problem(&format!("[{}]", "1,".repeat(30_000))).contains("goes beyond 20000 values"));
    }
}
