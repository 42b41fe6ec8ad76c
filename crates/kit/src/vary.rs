//! Specs made from a spec by changing it: most are wrong, in ways that nobody would write down. Another schema of the same
//! kit is asked about them, too.

use serde_json::{Map, Value, json};

/// So many variations of a spec, the same each time for the same seed.
pub fn variations(spec: &Value, seed: u64, count: usize) -> Vec<Value> {
    let mut dice = Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let vary = |_| {
        let mut varied = spec.clone();
        for _ in 0..=dice.below(2) {
            let place = dice.below(places(&varied));
            change(&mut varied, place, &mut dice);
        }
        varied
    };
    (0..count).map(vary).collect()
}

/// Small and repeatable; nothing secret hangs on it. Source: Marsaglia, "Xorshift RNGs", 2003.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        let bound = u64::try_from(bound.max(1)).unwrap_or(1);
        usize::try_from(self.0 % bound).unwrap_or_default()
    }

    fn one<'a, T>(&mut self, of: &'a [T]) -> Option<&'a T> {
        of.get(self.below(of.len()))
    }
}

/// How many values there are, the root and those within others included.
fn places(value: &Value) -> usize {
    1 + match value {
        Value::Array(items) => items.iter().map(places).sum::<usize>(),
        Value::Object(entries) => entries.values().map(places).sum(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => 0,
    }
}

/// Changes the value at that place; answers with how many places were passed.
fn change(value: &mut Value, place: usize, dice: &mut Dice) -> usize {
    if place == 0 {
        alter(value, dice);
        return 1;
    }
    let mut passed = 1;
    let inner: Vec<&mut Value> = match value {
        Value::Array(items) => items.iter_mut().collect(),
        Value::Object(entries) => entries.values_mut().collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => Vec::new(),
    };
    for inner in inner {
        let count = places(inner);
        if place < passed + count {
            change(inner, place - passed, dice);
            break;
        }
        passed += count;
    }
    passed
}

/// What a value may become that has nothing to do with what it was.
fn strange() -> [Value; 12] {
    [
        Value::Null,
        json!(true),
        json!(false),
        json!(0),
        json!(-1),
        json!(65_536),
        json!(1.5),
        json!(""),
        json!("x"),
        json!("UPPER case"),
        json!([]),
        json!({}),
    ]
}

fn alter(value: &mut Value, dice: &mut Dice) {
    if dice.below(3) == 0 {
        *value = dice.one(&strange()).cloned().unwrap_or_default();
        return;
    }
    match value {
        Value::Object(entries) => alter_object(entries, dice),
        Value::Array(items) => match (dice.below(3), items.first().cloned()) {
            (0, _) => items.clear(),
            (1, Some(first)) => items.push(first),
            _ => items.push(dice.one(&strange()).cloned().unwrap_or_default()),
        },
        Value::String(text) => alter_text(text, dice),
        Value::Number(number) => {
            let known = number.as_i64().unwrap_or_default();
            let near = [
                json!(known + 1),
                json!(known - 1),
                json!(-known),
                json!(known * 1000),
                json!(number.to_string()),
            ];
            *value = dice.one(&near).cloned().unwrap_or_default();
        }
        Value::Bool(bool) => {
            let near = [json!(!*bool), json!(bool.to_string()), json!(i32::from(*bool))];
            *value = dice.one(&near).cloned().unwrap_or_default();
        }
        Value::Null => *value = json!("null"),
    }
}

fn alter_object(entries: &mut Map<String, Value>, dice: &mut Dice) {
    let keys: Vec<String> = entries.keys().cloned().collect();
    match (dice.below(4), dice.one(&keys)) {
        (0 | 1, Some(key)) => {
            entries.remove(key);
        }
        (2, Some(key)) => {
            if let Some(value) = entries.remove(key) {
                entries.insert(format!("{key}s"), value);
            }
        }
        _ => {
            entries.insert("other".to_owned(), dice.one(&strange()).cloned().unwrap_or_default());
        }
    }
}

fn alter_text(text: &mut String, dice: &mut Dice) {
    match dice.below(8) {
        0 => text.push(' '),
        1 => text.insert(0, '-'),
        2 => *text = text.to_uppercase(),
        3 => text.push_str(&"a".repeat(300)),
        4 => text.push('\n'),
        5 => text.push('\u{e4}'),
        6 => text.push_str("/33"),
        _ => {
            text.pop();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variations_are_many_and_the_same_each_time() {
        let spec =
            json!({"name": "home", "nodes": [{"name": "pi", "ip": "192.168.1.10"}], "port": 53, "on": true});
        let varied = variations(&spec, 7, 200);
        assert_eq!(varied, variations(&spec, 7, 200));
        assert_ne!(varied, variations(&spec, 8, 200));
        let different: std::collections::BTreeSet<_> = varied.iter().map(Value::to_string).collect();
        assert!(different.len() > 120, "{}", different.len());
    }
}
