//! Evaluates a targeting rule as flagd's evaluator does. The engine looks into the context, does the sums and has
//! flagd's operations; what decides is ours, where the engine's would decide otherwise than flagd's:
//!
//! - `==`, `<` and the like: the engine fails where the two are of kinds that do not go together, takes null for 0 and
//!   for `""`, and reads dates; flagd finds them unequal.
//! - `in`: flagd compares numbers with texts of numbers, and finds ranges.
//! - `if`, `and`, `or`, `!`: only what is asked for is evaluated, so that the rest cannot fail.
//! - sums: flagd takes what is no number for 0 if it is a text, and else fails.
//! - `cat`: flagd takes the blanks off both ends, and fails on what is neither text nor number.
//! - `substr`: flagd gives the whole text from a place that is not in it, and fails where a part would end before it begins.
//! - `fractional` and `sem_ver`: see their modules. `starts_with` and `ends_with`: null where one is no text.

use std::fmt::Write as _;
use std::mem;

use flagd_evaluation_engine::Operator;
use open_feature::EvaluationContext;
use serde_json::{Number, Value, json};

use crate::rule::FRACTIONAL;
use crate::{fractional, version};

/// The rule cannot be evaluated.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Unreadable;

type Result<T> = std::result::Result<T, Unreadable>;

/// Whoever asks, and for what.
pub(crate) struct Question<'a> {
    pub(crate) flag: &'a str,
    pub(crate) targeting_key: &'a str,
    pub(crate) context: &'a EvaluationContext,
    pub(crate) engine: &'a Operator,
}

impl Question<'_> {
    /// The value of a rule, or of a part of one.
    pub(crate) fn evaluate(&self, rule: &Value) -> Result<Value> {
        match rule {
            Value::Object(node) => match node.iter().next() {
                Some((name, operand)) if node.len() == 1 => self.operation(rule, name, operand),
                Some(_) | None => Ok(rule.clone()),
            },
            Value::Array(items) => self.all(items).map(Value::Array),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => Ok(rule.clone()),
        }
    }

    fn all(&self, items: &[Value]) -> Result<Vec<Value>> {
        items.iter().map(|item| self.evaluate(item)).collect()
    }

    fn operation(&self, rule: &Value, name: &str, operand: &Value) -> Result<Value> {
        let arguments = || operand.as_array().map(Vec::as_slice).ok_or(Unreadable);
        let evaluated = || self.all(arguments()?);
        match name {
            "if" => self.first_true(arguments()?),
            "and" => self.last(arguments()?, false),
            "or" => self.last(arguments()?, true),
            "!" => Ok((!is_true(first(&self.evaluate(operand)?))).into()),
            "!!" => Ok(is_true(first(&self.evaluate(operand)?)).into()),
            "==" | "!=" | "===" | "!==" | "<" | "<=" | ">" | ">=" => Ok(compare(name, &evaluated()?).into()),
            "in" => contains(&evaluated()?).map(Value::Bool),
            "merge" => Ok(merge(evaluated()?)),
            "cat" => self.cat(&evaluated()?),
            "+" | "-" | "*" | "/" | "%" | "min" | "max" => self.sum(name, &evaluated()?),
            "substr" => substr(&evaluated()?).map(Value::String),
            "starts_with" | "ends_with" => match evaluated()?.as_slice() {
                [Value::String(text), Value::String(part)] => self.ask(&json!({name: [text, part]})),
                _ => Ok(Value::Null),
            },
            "sem_ver" => match evaluated()?.as_slice() {
                [one, Value::String(range), other] => match (version::normal(one), version::normal(other)) {
                    (Some(one), Some(other)) => self.ask(&json!({name: [one, range, other]})),
                    (None, _) | (_, None) => Ok(Value::Null),
                },
                _ => Ok(Value::Null),
            },
            FRACTIONAL => {
                Ok(fractional::choose(&evaluated()?, self.flag, self.targeting_key).unwrap_or_default())
            }
            _ => self.ask(rule),
        }
    }

    /// What the engine makes of a rule. It stands in an array, so that a text and what looks like one come out apart.
    fn ask(&self, rule: &Value) -> Result<Value> {
        match self.engine.apply(self.flag, &format!("[{rule}]"), self.context) {
            Ok(Some(made)) => {
                let [made] = serde_json::from_str(&made).map_err(|_| Unreadable)?;
                Ok(made)
            }
            Ok(None) | Err(_) => Err(Unreadable),
        }
    }

    fn first_true(&self, clauses: &[Value]) -> Result<Value> {
        for pair in clauses.chunks(2) {
            match pair {
                [condition, then] => {
                    if is_true(&self.evaluate(condition)?) {
                        return self.evaluate(then);
                    }
                }
                rest => return rest.first().map_or(Ok(Value::Null), |otherwise| self.evaluate(otherwise)),
            }
        }
        Ok(Value::Null)
    }

    /// The first that is as `wanted`, or else the last.
    fn last(&self, items: &[Value], wanted: bool) -> Result<Value> {
        let mut last = Value::Null;
        for item in items {
            last = self.evaluate(item)?;
            if is_true(&last) == wanted {
                break;
            }
        }
        Ok(last)
    }

    fn cat(&self, parts: &[Value]) -> Result<Value> {
        let texts = parts.iter().map(text).collect::<Result<Vec<_>>>()?;
        let whole = self.ask(&json!({"cat": texts}))?;
        let trimmed = whole.as_str().filter(|_| texts.len() > 1).map(str::trim);
        Ok(trimmed.map(Value::from).unwrap_or(whole))
    }

    fn sum(&self, name: &str, parts: &[Value]) -> Result<Value> {
        let parts = parts.iter().map(strict_number).collect::<Result<Vec<_>>>()?;
        if matches!(name, "/" | "%") && parts.iter().skip(1).any(|part| *part == 0.0) {
            return Err(Unreadable);
        }
        let parts = parts.into_iter().map(number).collect::<Result<Vec<_>>>()?;
        self.ask(&json!({name: parts}))
    }
}

/// The result as flagd looks for it among the variants: as Go writes it in JSON, without the quotes.
pub(crate) fn variant(result: &Value) -> String {
    let mut text = String::new();
    write(result, &mut text);
    text
}

fn write(value: &Value, text: &mut String) {
    match value {
        Value::Number(number) => text.push_str(&number_text(number)),
        Value::Null | Value::Bool(_) => text.push_str(&value.to_string()),
        Value::String(string) => write_string(string, text),
        Value::Array(items) => {
            text.push('[');
            for (index, item) in items.iter().enumerate() {
                text.push_str(if index == 0 { "" } else { "," });
                write(item, text);
            }
            text.push(']');
        }
        Value::Object(fields) => {
            text.push('{');
            for (index, (name, field)) in fields.iter().enumerate() {
                text.push_str(if index == 0 { "" } else { "," });
                write_string(name, text);
                text.push(':');
                write(field, text);
            }
            text.push('}');
        }
    }
}

fn write_string(string: &str, text: &mut String) {
    for character in Value::from(string).to_string().chars() {
        match character {
            '"' => {}
            // Go writes JSON that can stand in a page.
            '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => {
                let _ = write!(text, "\\u{:04x}", u32::from(character));
            }
            other => text.push(other),
        }
    }
}

/// A number as Go writes it in JSON.
pub(crate) fn number_text(number: &Number) -> String {
    let value = number.as_f64().unwrap_or_default();
    if value == 0.0 || (1e-6..1e21).contains(&value.abs()) {
        return value.to_string();
    }
    let text = format!("{value:e}");
    if text.contains("e-") { text } else { text.replace('e', "e+") }
}

/// What is put together to a text.
fn text(value: &Value) -> Result<String> {
    match value {
        Value::Null => Ok(String::new()),
        Value::String(text) => Ok(text.clone()),
        Value::Number(number) => number.as_f64().map(|number| number.to_string()).ok_or(Unreadable),
        Value::Bool(_) | Value::Array(_) | Value::Object(_) => Err(Unreadable),
    }
}

/// The first element, where there is one.
fn first(value: &Value) -> &Value {
    value.as_array().and_then(|items| items.first()).unwrap_or(value)
}

fn is_true(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(value) => *value,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(items) => !items.is_empty(),
        Value::Object(fields) => !fields.is_empty(),
    }
}

/// A number for the engine; a whole one is written as such, for it to be exact.
fn number(value: f64) -> Result<Value> {
    /// Up to here each whole number can be told from the next: 2^53.
    const WHOLE_MAX: f64 = 9_007_199_254_740_992.0;
    if value.fract() == 0.0 && value.abs() <= WHOLE_MAX {
        return value.to_string().parse::<i64>().map(Value::from).map_err(|_| Unreadable);
    }
    Number::from_f64(value).map(Value::Number).ok_or(Unreadable)
}

/// What is counted with: a text that is no number is 0.
fn strict_number(value: &Value) -> Result<f64> {
    match value {
        Value::Number(number) => number.as_f64().ok_or(Unreadable),
        Value::String(text) => Ok(text.parse().unwrap_or(0.0)),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => Err(Unreadable),
    }
}

/// What is compared with: what is no number is not comparable with anything.
fn loose_number(value: &Value) -> f64 {
    match value {
        Value::Null => 0.0,
        Value::Bool(value) => f64::from(u8::from(*value)),
        Value::Number(number) => number.as_f64().unwrap_or(f64::NAN),
        Value::String(text) if text.trim().is_empty() => 0.0,
        Value::String(text) => {
            let number = text.parse::<f64>().unwrap_or(f64::NAN);
            // One that is too large is none, but `inf` is.
            let is_too_large = number.is_infinite() && text.bytes().any(|byte| byte.is_ascii_digit());
            if is_too_large { f64::NAN } else { number }
        }
        Value::Array(_) | Value::Object(_) => f64::NAN,
    }
}

fn compare(name: &str, parts: &[Value]) -> bool {
    let holds = |one: &Value, other: &Value| match name {
        "==" => are_equal(one, other),
        "!=" => !are_equal(one, other),
        "===" => are_same(one, other),
        "!==" => !are_same(one, other),
        "<" => is_less(one, other),
        "<=" => is_less(one, other) || are_equal(one, other),
        ">" => is_less(other, one),
        _ => is_less(other, one) || are_equal(one, other),
    };
    match parts {
        [one, other, third] if name.starts_with(['<', '>']) => holds(one, other) && holds(other, third),
        [one, other, ..] => holds(one, other),
        [_] | [] => false,
    }
}

#[expect(clippy::float_cmp, reason = "two numbers of a rule are equal or not")]
fn are_equal(one: &Value, other: &Value) -> bool {
    match (one, other) {
        (Value::Null, _) | (_, Value::Null) => one == other,
        (Value::String(one), Value::String(other)) => one == other,
        (one, other) => loose_number(one) == loose_number(other),
    }
}

fn are_same(one: &Value, other: &Value) -> bool {
    mem::discriminant(one) == mem::discriminant(other) && are_equal(one, other)
}

fn is_less(one: &Value, other: &Value) -> bool {
    match (one, other) {
        (Value::String(one), Value::String(other)) => one < other,
        (one, other) => loose_number(one) < loose_number(other),
    }
}

/// Whether the first is in the second: a part of a text, an element of an array, or between the two of an element.
fn contains(parts: &[Value]) -> Result<bool> {
    let [what, place, ..] = parts else { return Ok(false) };
    let items = match (place, what) {
        (Value::String(text), Value::String(part)) => return Ok(text.contains(part)),
        (Value::String(_), _) => return Err(Unreadable),
        (Value::Array(items), _) => items,
        (_, _) => return Ok(false),
    };
    for item in items {
        let is_it = match (item, what) {
            (Value::Array(range), what) => {
                let [least, most, ..] = range.as_slice() else { return Err(Unreadable) };
                let what = strict_number(what)?;
                (strict_number(least)?..=strict_number(most)?).contains(&what)
            }
            (item, Value::Number(what)) => Some(strict_number(item)?) == what.as_f64(),
            (Value::Object(_), Value::Object(_)) => return Err(Unreadable),
            (item, what) => item == what,
        };
        if is_it {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The elements of those that are arrays, and the others, in one array.
fn merge(parts: Vec<Value>) -> Value {
    let mut merged = Vec::new();
    for part in parts {
        if let Value::Array(items) = part {
            merged.extend(items);
        } else {
            merged.push(part);
        }
    }
    merged.into()
}

/// A part of a text, from a place on and so many characters; counted from the end where less than none. The whole where
/// the place is not in it.
fn substr(parts: &[Value]) -> Result<String> {
    let place = |part: &Value| number(strict_number(part)?.trunc())?.as_i64().ok_or(Unreadable);
    let (whole, from, count) = match parts {
        [whole, from] => (text(whole)?, place(from)?, None),
        [whole, from, count, ..] => (text(whole)?, place(from)?, Some(place(count)?)),
        [_] | [] => return Err(Unreadable),
    };
    let characters: Vec<_> = whole.chars().collect();
    let end = i64::try_from(characters.len()).map_err(|_| Unreadable)?;
    let from = if from < 0 { end + from } else { from };
    if !(0..=end).contains(&from) {
        return Ok(whole);
    }
    let to = match count {
        Some(count) if count < 0 => end + count,
        Some(count) => end.min(from + count),
        None => end,
    };
    let place = |place: i64| usize::try_from(place).map_err(|_| Unreadable);
    characters.get(place(from)?..place(to)?).map(|part| part.iter().collect()).ok_or(Unreadable)
}
