//! Writes YAML that readers of YAML 1.1 and 1.2 take for the same. Source: <https://yaml.org/spec/1.2.2/>.

use std::fmt::Write as _;
use std::sync::LazyLock;

use regex::Regex;

use crate::node::{Node, Value};

/// Text that every reader takes for text without quotes.
static PLAIN: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"^(/[A-Za-z0-9._-]|[A-Za-z_])[A-Za-z0-9_./-]*$")
        .unwrap_or_else(|_| unreachable!("the pattern is well-formed"))
});

/// What readers of YAML 1.1 take for something else than text, in lower case.
const WORDS: [&str; 11] = ["y", "n", "yes", "no", "on", "off", "true", "false", "null", "nan", "inf"];

/// The document as text.
pub(crate) fn emit(node: &Node) -> String {
    let mut out = String::new();
    block(&mut out, node, 0);
    out
}

fn block(out: &mut String, node: &Node, indent: usize) {
    for (index, entry) in node.entries().iter().enumerate() {
        // The first entry of a mapping in a sequence stands behind the hyphen.
        if index > 0 || !out.ends_with("- ") {
            pad(out, indent);
        }
        text(out, &entry.key);
        out.push(':');
        if is_block(&entry.value) {
            out.push('\n');
            block(out, &entry.value, indent + 2);
        } else {
            if entry.value.value != Value::Null {
                out.push(' ');
                scalar(out, &entry.value);
            }
            out.push('\n');
        }
    }
    for item in node.items() {
        pad(out, indent);
        if item.items().is_empty() {
            out.push_str("- ");
        } else {
            out.push_str("-\n");
        }
        if is_block(item) {
            block(out, item, indent + 2);
        } else {
            scalar(out, item);
            out.push('\n');
        }
    }
    if !is_block(node) {
        scalar(out, node);
        out.push('\n');
    }
}

/// Whether it takes lines of its own.
fn is_block(node: &Node) -> bool {
    !node.entries().is_empty() || !node.items().is_empty()
}

fn pad(out: &mut String, indent: usize) {
    out.extend(std::iter::repeat_n(' ', indent));
}

fn scalar(out: &mut String, node: &Node) {
    // Writing to a String does not fail.
    let _ = match &node.value {
        Value::Null => write!(out, "null"),
        Value::Bool(bool) => write!(out, "{bool}"),
        Value::Int(number) => write!(out, "{number}"),
        // Without a point, readers of YAML 1.1 take 1e-7 for text.
        Value::Float(number) => match format!("{number:?}") {
            text if text.contains('.') => write!(out, "{text}"),
            text => write!(out, "{}", text.replacen('e', ".0e", 1)),
        },
        Value::Text { text: written, .. } => {
            text(out, written);
            Ok(())
        }
        Value::List(_) => write!(out, "[]"),
        Value::Map(_) => write!(out, "{{}}"),
    };
}

fn text(out: &mut String, text: &str) {
    if PLAIN.is_match(text) && !WORDS.contains(&text.to_ascii_lowercase().as_str()) {
        out.push_str(text);
        return;
    }
    out.push('"');
    for one in text.chars() {
        // Writing to a String does not fail.
        let _ = match one {
            '"' => write!(out, "\\\""),
            '\\' => write!(out, "\\\\"),
            '\n' => write!(out, "\\n"),
            '\t' => write!(out, "\\t"),
            '\r' => write!(out, "\\r"),
            // What YAML 1.1 takes for a line break, or does not print.
            '\u{0}'..='\u{1f}' | '\u{7f}'..='\u{9f}' => write!(out, "\\x{:02x}", u32::from(one)),
            '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}' => {
                write!(out, "\\u{:04x}", u32::from(one))
            }
            _ => {
                out.push(one);
                Ok(())
            }
        };
    }
    out.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::yaml::{SPEC_MAX_BYTES, read};

    #[test]
    fn what_is_written_is_read_back_the_same() {
        let source = r##"
a: 1
b: [1, -2.5, 1.0e-7, true, null, "", text, "1", "yes", "a: b", "- x", "#", 'it''s', "ü\n\t\\\"", "/a/b", "1.5", "0x1"]
c: {d: {}, e: [], "key with: colon": [[1, [2]], {f: {g: h}, i: [j]}]}
"on": ~
"##;
        let node = read(source, SPEC_MAX_BYTES).unwrap();
        let text = emit(&node);
        assert_eq!(read(&text, SPEC_MAX_BYTES).unwrap().to_json(), node.to_json(), "{text}");
    }

    #[test]
    fn it_reads_as_people_write_it() {
        let node =
            read("services: {web: {image: 'nginx', ports: ['80:80'], x: {z: 1}}}\nvolumes: {data: }", 1000)
                .unwrap();
        let expected = "services:\n  web:\n    image: nginx\n    ports:\n      - \"80:80\"\n    x:\n      z: 1\nvolumes:\n  data:\n";
        assert_eq!(emit(&node), expected);
    }
}
