//! Versions as flagd reads them in `sem_ver`: with a `v` before, or without their last numbers, and blind to what is built.
//! The engine's operator reads nothing but all three numbers, and compares builds.

use serde_json::Value;

use crate::logic::number_text;

/// The version in full, `1.2.3` or `1.2.3-rc.1`, as the engine reads it.
pub(crate) fn normal(value: &Value) -> Option<String> {
    let text = match value {
        Value::String(text) => text.clone(),
        Value::Number(number) => number_text(number),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => return None,
    };
    let version = text.strip_prefix('v').or_else(|| text.strip_prefix('V')).unwrap_or(&text);
    let (version, build) = halves(version, '+');
    let (core, early) = halves(version, '-');
    let numbers: Vec<_> = core.split('.').collect();
    let is_short = numbers.len() < 3;
    if numbers.len() > 3
        || !numbers.iter().all(|number| is_number(number))
        || (is_short && (build.is_some() || early.is_some()))
        || build.is_some_and(|build| !build.split('.').all(is_identifier))
        || early.is_some_and(|early| !early.split('.').all(is_early))
    {
        return None;
    }
    let early = early.map_or_else(String::new, |early| format!("-{early}"));
    Some(format!("{core}{}{early}", ".0".repeat(3 - numbers.len())))
}

/// What is before the first such character, and what is after it.
fn halves(text: &str, at: char) -> (&str, Option<&str>) {
    text.split_once(at).map_or((text, None), |(before, after)| (before, Some(after)))
}

/// A number without a zero before it.
fn is_number(text: &str) -> bool {
    let is_digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    is_digits && (text == "0" || !text.starts_with('0'))
}

fn is_identifier(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

/// An identifier of what comes before a version; one of digits is a number.
fn is_early(text: &str) -> bool {
    is_identifier(text) && (is_number(text) || !text.bytes().all(|byte| byte.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_version_is_put_in_full() {
        for (version, full) in [
            (json!("1.2.3"), "1.2.3"),
            (json!("v1.2"), "1.2.0"),
            (json!("V1"), "1.0.0"),
            (json!(1), "1.0.0"),
            (json!(1.2), "1.2.0"),
            (json!("1.2.3-rc.1+build.7"), "1.2.3-rc.1"),
            (json!("1.2.3+a-b"), "1.2.3"),
            (json!("0.0.0-0a-"), "0.0.0-0a-"),
        ] {
            assert_eq!(normal(&version).as_deref(), Some(full), "{version}");
        }
    }

    #[test]
    fn what_is_no_version_is_none() {
        for none in [
            "",
            "v",
            "vv1",
            "vV1",
            "1.",
            "1.2.3.4",
            "01.2.3",
            "1.2.x",
            "1.2-rc",
            "1+b",
            "1.2.3-",
            "1.2.3-01",
            "1.2.3+",
            "1.2.3-a..b",
            "1.2.3-a_b",
            " 1.2.3",
            "-1",
            "é",
        ] {
            assert_eq!(normal(&json!(none)), None, "{none}");
        }
        for none in [json!(null), json!(true), json!([1]), json!({}), json!(-1), json!(1e30)] {
            assert_eq!(normal(&none), None, "{none}");
        }
    }
}
