//! Messages for the tests, made by chance from their descriptors and rules: valid ones, or ones with wild
//! values in between. The same seed makes the same messages.

use std::collections::HashMap;

use prost_reflect::{
    DynamicMessage, EnumValueDescriptor, FieldDescriptor, Kind, MapKey, MessageDescriptor, ReflectMessage,
    Value,
};
use regex::Regex;
use regex_syntax::hir::{Class, Hir, HirKind};

use crate::method::extension;

/// The `buf.validate` rules of a field.
pub(crate) fn rules(field: &FieldDescriptor) -> Option<DynamicMessage> {
    extension(&field.options(), "buf.validate.field")?.as_message().cloned()
}

/// What stands at `path` in the rules, where it is set.
pub(crate) fn rule(rules: Option<&DynamicMessage>, path: &[&str]) -> Option<Value> {
    let (rules, (name, rest)) = (rules?, path.split_first()?);
    let field = rules.descriptor().get_field_by_name(name)?;
    if !rules.has_field(&field) {
        return None;
    }
    let value = rules.get_field(&field).into_owned();
    if rest.is_empty() { Some(value) } else { rule(value.as_message(), rest) }
}

/// Pseudo-random numbers (xorshift64*).
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let roll = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33;
        usize::try_from(roll).unwrap() % bound
    }

    fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }

    fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len())]
    }
}

/// Makes messages.
pub(crate) struct Sampler {
    /// How many values of a hundred need not keep to their rules.
    pub(crate) wild_percent: usize,
    dice: Dice,
    patterns: HashMap<String, (Hir, Regex)>,
}

/// How deep messages nest.
const DEPTH: usize = 3;

impl Sampler {
    pub(crate) fn new(seed: u64) -> Self {
        Self { wild_percent: 0, dice: Dice(seed), patterns: HashMap::new() }
    }

    pub(crate) fn message(&mut self, descriptor: &MessageDescriptor) -> DynamicMessage {
        self.nested(descriptor, 0)
    }

    fn nested(&mut self, descriptor: &MessageDescriptor, depth: usize) -> DynamicMessage {
        let mut message = DynamicMessage::new(descriptor.clone());
        for field in descriptor.fields() {
            let rules = rules(&field);
            let value = if field.is_map() {
                Some(self.map(&field, rules.as_ref(), depth))
            } else if field.is_list() {
                Some(self.list(&field, rules.as_ref(), depth))
            } else {
                self.single(&field, rules.as_ref(), depth)
            };
            if let Some(value) = value {
                message.set_field(&field, value);
            }
        }
        message
    }

    fn wild(&mut self) -> bool {
        self.dice.chance(self.wild_percent)
    }

    fn single(
        &mut self,
        field: &FieldDescriptor,
        rules: Option<&DynamicMessage>,
        depth: usize,
    ) -> Option<Value> {
        let required = rule(rules, &["required"]) == Some(Value::Bool(true));
        let wild = self.wild();
        if field.supports_presence() {
            let unset_percent = if wild {
                50
            } else if required {
                0
            } else if depth >= DEPTH {
                100
            } else {
                30
            };
            if self.dice.chance(unset_percent) {
                return None;
            }
        }
        Some(self.value(&field.kind(), rules, required && !field.supports_presence(), wild, depth))
    }

    fn list(&mut self, field: &FieldDescriptor, rules: Option<&DynamicMessage>, depth: usize) -> Value {
        let count = self.count(rules, ["repeated", "min_items"], ["repeated", "max_items"]);
        let items = rule(rules, &["repeated", "items"]);
        let unique = rule(rules, &["repeated", "unique"]).is_some();
        let doubled = self.wild();
        let mut list: Vec<Value> = Vec::new();
        for _ in 0..count {
            let wild = self.wild();
            let item =
                self.value(&field.kind(), items.as_ref().and_then(Value::as_message), false, wild, depth);
            if doubled && !list.is_empty() {
                list.push(list[0].clone());
            } else if !unique || !list.contains(&item) {
                list.push(item);
            }
        }
        Value::List(list)
    }

    fn map(&mut self, field: &FieldDescriptor, rules: Option<&DynamicMessage>, depth: usize) -> Value {
        let kind = field.kind();
        let entry = kind.as_message().unwrap();
        let (key, value) = (entry.map_entry_key_field().kind(), entry.map_entry_value_field().kind());
        let (keys, values) = (rule(rules, &["map", "keys"]), rule(rules, &["map", "values"]));
        let mut map: HashMap<MapKey, Value> = HashMap::new();
        for _ in 0..self.count(rules, ["map", "min_pairs"], ["map", "max_pairs"]) {
            let (wild_key, wild_value) = (self.wild(), self.wild());
            let key = self.value(&key, keys.as_ref().and_then(Value::as_message), false, wild_key, depth);
            let value =
                self.value(&value, values.as_ref().and_then(Value::as_message), false, wild_value, depth);
            map.insert(key.into_map_key().unwrap(), value);
        }
        Value::Map(map)
    }

    /// How many items or pairs: a few within the bounds, or the counts around them.
    fn count(&mut self, rules: Option<&DynamicMessage>, least: [&str; 2], most: [&str; 2]) -> usize {
        let bound = |path: &[&str]| rule(rules, path)?.as_u64().and_then(|bound| usize::try_from(bound).ok());
        let required = usize::from(rule(rules, &["required"]).is_some());
        let (least, most) = (bound(&least).unwrap_or(0).max(required), bound(&most));
        if self.wild() {
            *self.dice.pick(&[
                0,
                least.saturating_sub(1),
                least,
                most.unwrap_or(least),
                most.unwrap_or(least) + 1,
            ])
        } else {
            let most = most.unwrap_or(least + 3).min(least + 3);
            least + self.dice.below(most - least + 1)
        }
    }

    fn value(
        &mut self,
        kind: &Kind,
        rules: Option<&DynamicMessage>,
        required: bool,
        wild: bool,
        depth: usize,
    ) -> Value {
        if let Kind::Message(message) = kind {
            let empty = wild && self.dice.chance(30);
            return Value::Message(if empty {
                DynamicMessage::new(message.clone())
            } else {
                self.nested(message, depth + 1)
            });
        }
        let candidates = self.candidates(kind, rules);
        let mut good = candidates.clone();
        good.retain(|value| self.keeps(kind, rules, value) && !(required && value.is_default(kind)));
        let from = if wild || good.is_empty() { candidates } else { good };
        self.dice.pick(&from).clone()
    }

    /// Values of the kind, around what the rules name.
    fn candidates(&mut self, kind: &Kind, rules: Option<&DynamicMessage>) -> Vec<Value> {
        if *kind == Kind::String {
            return self.texts(rules).into_iter().map(Value::String).collect();
        }
        let named = |name: &str, set: &str| -> Vec<i32> {
            let set = rule(rules, &[name, set]);
            let values = set.as_ref().and_then(Value::as_list).unwrap_or_default();
            values.iter().filter_map(Value::as_i32).collect()
        };
        if *kind == Kind::Int32 {
            let mut numbers = vec![0, 1, -1, 42, i32::MIN, i32::MAX];
            numbers.extend(named("int32", "in"));
            for bound in ["lt", "lte", "gt", "gte"] {
                let bound = rule(rules, &["int32", bound]).and_then(|bound| bound.as_i32());
                numbers.extend(bound.iter().flat_map(|at| [at.saturating_sub(1), *at, at.saturating_add(1)]));
            }
            return numbers.into_iter().map(Value::I32).collect();
        }
        if let Kind::Enum(descriptor) = kind {
            let mut numbers = vec![99, -7];
            numbers.extend(descriptor.values().map(|value: EnumValueDescriptor| value.number()));
            numbers.extend(named("enum", "in"));
            numbers.extend(named("enum", "not_in"));
            return numbers.into_iter().map(Value::EnumNumber).collect();
        }
        if *kind == Kind::Bool {
            return vec![Value::Bool(false), Value::Bool(true)];
        }
        vec![kind.default_value()]
    }

    fn texts(&mut self, rules: Option<&DynamicMessage>) -> Vec<String> {
        let mut texts: Vec<String> =
            ["", "a", "abc", "äöü", "A b", "\u{1}", "x\n", "null", "🦀🦀", "e\u{301}"]
                .map(str::to_owned)
                .into();
        let named = |name: &str| rule(rules, &["string", name]);
        texts.extend(named("const").and_then(|value| value.as_str().map(str::to_owned)));
        if let Some(Value::List(values)) = named("in") {
            texts.extend(values.iter().filter_map(Value::as_str).map(str::to_owned));
        }
        if let Some(prefix) = named("prefix").and_then(|value| value.as_str().map(str::to_owned)) {
            texts.extend([prefix.clone(), format!("{prefix}x"), format!("x{prefix}")]);
        }
        for bound in ["len", "min_len", "max_len"] {
            let Some(length) = named(bound).and_then(|value| usize::try_from(value.as_u64()?).ok()) else {
                continue;
            };
            for length in [length.saturating_sub(1), length, length + 1] {
                texts.extend(["a", "ß", "🦀"].map(|letter| letter.repeat(length)));
            }
        }
        if let Some(Value::String(pattern)) = named("pattern") {
            let hir = self.pattern(&pattern).0.clone();
            for _ in 0..8 {
                let mut text = String::new();
                write_match(&hir, &mut self.dice, &mut text);
                texts.extend([
                    text.clone(),
                    text.to_uppercase(),
                    format!("{text}\n"),
                    format!("\u{a0}{text}"),
                ]);
                texts.push(text);
            }
        }
        texts
    }

    fn pattern(&mut self, pattern: &str) -> &(Hir, Regex) {
        let compile = || (regex_syntax::parse(pattern).unwrap(), Regex::new(pattern).unwrap());
        self.patterns.entry(pattern.to_owned()).or_insert_with(compile)
    }

    /// Whether the value keeps to its rules, roughly: who decides is the oracle.
    fn keeps(&mut self, kind: &Kind, rules: Option<&DynamicMessage>, value: &Value) -> bool {
        let name = match (kind.as_enum(), kind == &Kind::Int32, kind == &Kind::Bool) {
            (Some(_), ..) => "enum",
            (None, true, _) => "int32",
            (None, _, true) => "bool",
            (None, false, false) => "string",
        };
        let named = |set: &str| rule(rules, &[name, set]);
        if named("const").is_some_and(|only| only != *value) {
            return false;
        }
        let number = value.as_i32().or(value.as_enum_number());
        let among = |set: Value| match number {
            Some(number) => set.as_list().is_some_and(|set| set.contains(&Value::I32(number))),
            None => set.as_list().is_some_and(|set| set.contains(value)),
        };
        if named("in").is_some_and(|set| !among(set)) || named("not_in").is_some_and(among) {
            return false;
        }
        if let Some(text) = value.as_str() {
            let length = u64::try_from(text.chars().count()).unwrap();
            let bound = |bound: &str| named(bound).and_then(|bound| bound.as_u64());
            return bound("len").is_none_or(|exact| length == exact)
                && bound("min_len").is_none_or(|least| length >= least)
                && bound("max_len").is_none_or(|most| length <= most)
                && named("prefix").is_none_or(|prefix| text.starts_with(prefix.as_str().unwrap()))
                && named("pattern")
                    .is_none_or(|pattern| self.pattern(pattern.as_str().unwrap()).1.is_match(text));
        }
        let bound = |bound: &str| named(bound).and_then(|bound| bound.as_i32());
        let defined =
            kind.as_enum().zip(number).is_none_or(|(kind, number)| kind.get_value(number).is_some());
        (defined || named("defined_only").is_none())
            && bound("lt").is_none_or(|most| number < Some(most))
            && bound("lte").is_none_or(|most| number <= Some(most))
            && bound("gt").is_none_or(|least| number > Some(least))
            && bound("gte").is_none_or(|least| number >= Some(least))
    }
}

/// Adds a text that the expression matches.
fn write_match(hir: &Hir, dice: &mut Dice, text: &mut String) {
    match hir.kind() {
        HirKind::Empty | HirKind::Look(_) | HirKind::Class(Class::Bytes(_)) => {}
        HirKind::Literal(literal) => text.push_str(&String::from_utf8_lossy(&literal.0)),
        HirKind::Class(Class::Unicode(class)) => {
            let ascii: Vec<_> =
                class.ranges().iter().copied().filter(|range| range.start().is_ascii()).collect();
            let plain = !ascii.is_empty() && dice.chance(90);
            let range = *dice.pick(if plain { ascii.as_slice() } else { class.ranges() });
            let end = if plain { range.end().min('\x7f') } else { range.end() };
            let (start, end) = (u32::from(range.start()), u32::from(end));
            let offset = u32::try_from(dice.below(usize::try_from(end - start + 1).unwrap())).unwrap();
            text.push(char::from_u32(start + offset).unwrap_or(range.start()));
        }
        HirKind::Repetition(repetition) => {
            let most = repetition.max.unwrap_or(repetition.min + 4);
            let random =
                repetition.min + u32::try_from(dice.below(usize::try_from(most).unwrap() + 1)).unwrap();
            let count = *dice.pick(&[repetition.min, most, random.min(most)]);
            for _ in 0..count {
                write_match(&repetition.sub, dice, text);
            }
        }
        HirKind::Capture(capture) => write_match(&capture.sub, dice, text),
        HirKind::Concat(parts) => {
            for part in parts {
                write_match(part, dice, text);
            }
        }
        HirKind::Alternation(parts) => write_match(dice.pick(parts), dice, text),
    }
}
