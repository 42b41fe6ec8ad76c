//! RE2, which `buf.validate` speaks, in the words of the `regex` crate. The two differ where this refuses or
//! rewrites: `\d`, `\s` and `\w` are ASCII in RE2 and Unicode in `regex`.

use std::iter::Peekable;
use std::str::Chars;

use crate::Result;

/// The expression for `regex` that matches what `pattern` matches in RE2.
pub fn from_re2(pattern: &str) -> Result<String> {
    let mut rest = pattern.chars().peekable();
    let mut out = String::new();
    let mut in_class = false;
    while let Some(character) = rest.next() {
        match character {
            '\\' => escape(&mut rest, in_class, &mut out)?,
            '[' if in_class && rest.peek() != Some(&':') => {
                return Err("a '[' in a class must be escaped".into());
            }
            '[' if !in_class => {
                in_class = true;
                out.push('[');
                if rest.next_if_eq(&'^').is_some() {
                    out.push('^');
                }
                // A bracket that comes first stands for itself.
                if rest.next_if_eq(&']').is_some() {
                    out.push_str("\\]");
                }
            }
            '[' => named_class(&mut rest, &mut out),
            ']' => {
                in_class = false;
                out.push(']');
            }
            // `&&`, `--` and `~~` are operators in a class of `regex`; of RE2 they are characters.
            '&' | '-' | '~' if in_class && rest.peek() == Some(&character) => {
                return Err(format!("{character:?} twice in a class").into());
            }
            '(' if !in_class && rest.peek() == Some(&'?') => {
                rest.next();
                if rest.next() != Some(':') {
                    return Err("only \"(?:\" may begin with \"(?\"".into());
                }
                out.push_str("(?:");
            }
            _ => out.push(character),
        }
    }
    regex::Regex::new(&out)?;
    Ok(out)
}

fn escape(rest: &mut Peekable<Chars<'_>>, in_class: bool, out: &mut String) -> Result<()> {
    let (set, negated) = match rest.next().ok_or("ends with a backslash")? {
        'd' => ("0-9", false),
        'D' => ("0-9", true),
        's' => ("\\t\\n\\f\\r ", false),
        'S' => ("\\t\\n\\f\\r ", true),
        'w' => ("0-9A-Za-z_", false),
        'W' => ("0-9A-Za-z_", true),
        letter @ ('b' | 'B' | 'C' | 'Q' | 'E' | 'p' | 'P' | '<' | '>' | '0'..='9') => {
            return Err(format!("\\{letter} means different things to different engines").into());
        }
        other => {
            out.push('\\');
            out.push(other);
            return Ok(());
        }
    };
    match (in_class, negated) {
        (true, false) => out.push_str(set),
        (true, true) => return Err("a negated escape in a class".into()),
        (false, false) => out.extend(["[", set, "]"]),
        (false, true) => out.extend(["[^", set, "]"]),
    }
    Ok(())
}

/// `[:alpha:]` and its like, after the bracket.
fn named_class(rest: &mut Peekable<Chars<'_>>, out: &mut String) {
    out.push('[');
    for character in rest.by_ref() {
        out.push(character);
        if character == ']' {
            break;
        }
    }
}
