//! The `buf.validate` rules of a field, read from its options: what is wrong with a value, as conditions of
//! Rust.

use std::error::Error;

use prost_reflect::{DynamicMessage, EnumDescriptor, FieldDescriptor, Kind, Value};

use crate::{Result, pattern};

/// The one option of a field that is a rule.
const OPTION: &str = "buf.validate.field";

/// A condition in Rust over `value` that holds where the value is wrong, and what people then read.
pub struct Wrong {
    /// The condition.
    pub when: String,
    /// What must be true, after the field's path.
    pub message: String,
    /// The expression that the condition calls `PATTERN`.
    pub pattern: Option<String>,
}

impl Wrong {
    /// What is wrong `when`.
    pub fn new(when: impl Into<String>, message: impl Into<String>) -> Self {
        Self { when: when.into(), message: message.into(), pattern: None }
    }
}

/// When the rules are passed over.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Ignore {
    /// Where the field has presence and is unset.
    Never,
    /// Where the value is the zero value, too.
    Zero,
    /// Always.
    Always,
}

/// The rules of one field, or of the items, keys or values of one.
pub struct Rules {
    /// The field must be set.
    pub required: bool,
    /// When the rules are passed over.
    pub ignore: Ignore,
    /// The rules of the type, and its name.
    typed: Option<(String, DynamicMessage)>,
    /// Whose rules these are, for the messages of a build that fails.
    place: String,
}

/// Whether the field has rules, whichever.
pub fn has_rules(field: &FieldDescriptor) -> bool {
    field.options().extensions().any(|(extension, _)| extension.full_name() == OPTION)
}

/// Fails if `options` hold what this generator does not know.
pub fn refuse_unknown(options: &DynamicMessage, place: &str, known: &[&str]) -> Result<()> {
    if let Some(unknown) = options.unknown_fields().next() {
        return Err(format!(
            "{place}: nobody checks the option or rule with the number {}",
            unknown.number()
        )
        .into());
    }
    match options.extensions().find(|(extension, _)| !known.contains(&extension.full_name())) {
        Some((extension, _)) => {
            Err(format!("{place}: nobody checks the option {}", extension.full_name()).into())
        }
        None => Ok(()),
    }
}

impl Rules {
    /// The rules of a field.
    pub fn of(field: &FieldDescriptor) -> Result<Self> {
        let place = field.full_name();
        let options = field.options();
        refuse_unknown(&options, place, &[OPTION])?;
        match options.extensions().next() {
            Some((_, Value::Message(rules))) => Self::read(rules, place),
            _ => Ok(Self::none(place)),
        }
    }

    fn none(place: &str) -> Self {
        Self { required: false, ignore: Ignore::Never, typed: None, place: place.to_owned() }
    }

    fn read(rules: &DynamicMessage, place: &str) -> Result<Self> {
        refuse_unknown(rules, place, &[])?;
        let mut read = Self::none(place);
        for (field, value) in rules.fields() {
            match (field.name(), value) {
                ("required", Value::Bool(required)) => read.required = *required,
                ("ignore", Value::EnumNumber(0)) => read.ignore = Ignore::Never,
                ("ignore", Value::EnumNumber(1)) => read.ignore = Ignore::Zero,
                ("ignore", Value::EnumNumber(3)) => read.ignore = Ignore::Always,
                (
                    name @ ("int32" | "bool" | "string" | "enum" | "repeated" | "map"),
                    Value::Message(typed),
                ) => {
                    refuse_unknown(typed, place, &[])?;
                    read.typed = Some((name.to_owned(), typed.clone()));
                }
                (name, _) => return Err(read.refuse(name)),
            }
        }
        if read.required && read.ignore == Ignore::Zero {
            return Err(format!("{place}: required, and passed over where it is missing").into());
        }
        Ok(read)
    }

    fn refuse(&self, what: &str) -> Box<dyn Error> {
        format!("{}: the build knows no check for the rule \"{what}\" here", self.place).into()
    }

    /// The rules of the type called `name`; fails if there are those of another type.
    fn typed(&self, name: &str) -> Result<Option<&DynamicMessage>> {
        match &self.typed {
            Some((typed, rules)) if typed == name => Ok(Some(rules)),
            Some((typed, _)) => Err(self.refuse(typed)),
            None => Ok(None),
        }
    }

    /// What can be wrong with one value of `kind`, as `value: &T`.
    pub fn value(&self, kind: &Kind) -> Result<Vec<Wrong>> {
        let Some((name, rules)) = &self.typed else { return Ok(Vec::new()) };
        match (name.as_str(), kind) {
            ("int32", Kind::Int32) => self.int32(rules),
            ("bool", Kind::Bool) => self.bool(rules),
            ("string", Kind::String) => self.string(rules),
            ("enum", Kind::Enum(descriptor)) => self.enumeration(rules, descriptor),
            (name, _) => Err(self.refuse(name)),
        }
    }

    fn string(&self, rules: &DynamicMessage) -> Result<Vec<Wrong>> {
        let (mut least, mut most) = (None, None);
        let mut wrong = Vec::new();
        for (field, value) in rules.fields() {
            match (field.name(), value) {
                ("const", Value::String(text)) => {
                    let message =
                        if text.is_empty() { "must be empty".to_owned() } else { format!("must be {text}") };
                    wrong.push(Wrong::new(format!("value != {text:?}"), message));
                }
                ("min_len", Value::U64(length)) => least = Some(*length),
                ("max_len", Value::U64(length)) => most = Some(*length),
                ("len", Value::U64(length)) => {
                    wrong.extend(self.counted(
                        "check::characters(value)",
                        Some(*length),
                        Some(*length),
                        "character",
                    )?);
                }
                ("pattern", Value::String(re2)) => {
                    let expression = pattern::from_re2(re2)
                        .map_err(|error| format!("{}: the pattern {re2}: {error}", self.place))?;
                    let message = format!("must match {re2}");
                    let pattern = Some(expression);
                    wrong.push(Wrong { when: "!PATTERN.is_match(value)".to_owned(), message, pattern });
                }
                ("prefix", Value::String(text)) => {
                    wrong.push(Wrong::new(
                        format!("!value.starts_with({text:?})"),
                        format!("must start with {text}"),
                    ));
                }
                ("in", Value::List(values)) => {
                    let texts: Vec<&str> = values.iter().filter_map(Value::as_str).collect();
                    let arms: Vec<String> = texts.iter().map(|text| format!("{text:?}")).collect();
                    let named: Vec<&str> = texts.iter().copied().filter(|text| !text.is_empty()).collect();
                    let empty = if named.len() < texts.len() { "empty or " } else { "" };
                    wrong.push(Wrong::new(
                        format!("!matches!(value.as_str(), {})", arms.join(" | ")),
                        format!("must be {empty}one of {}", named.join(", ")),
                    ));
                }
                (name, _) => return Err(self.refuse(name)),
            }
        }
        let counted = self.counted("check::characters(value)", least, most, "character")?;
        Ok(counted.into_iter().chain(wrong).collect())
    }

    fn int32(&self, rules: &DynamicMessage) -> Result<Vec<Wrong>> {
        let (mut least, mut most) = (i64::from(i32::MIN), i64::from(i32::MAX));
        let mut wrong = Vec::new();
        for (field, value) in rules.fields() {
            match (field.name(), value) {
                ("lt", Value::I32(bound)) => most = i64::from(*bound) - 1,
                ("lte", Value::I32(bound)) => most = i64::from(*bound),
                ("gt", Value::I32(bound)) => least = i64::from(*bound) + 1,
                ("gte", Value::I32(bound)) => least = i64::from(*bound),
                ("in", Value::List(values)) => {
                    let numbers = numbers(values);
                    wrong.push(Wrong::new(
                        format!("!matches!(*value, {})", numbers.join(" | ")),
                        format!("must be one of {}", numbers.join(", ")),
                    ));
                }
                (name, _) => return Err(self.refuse(name)),
            }
        }
        // Protovalidate reads bounds that cross as "outside of"; here they are a mistake.
        if least > most {
            return Err(format!("{}: no number is {least} to {most}", self.place).into());
        }
        match (least > i64::from(i32::MIN), most < i64::from(i32::MAX)) {
            (true, true) => wrong.push(Wrong::new(
                format!("!({least}..={most}).contains(value)"),
                format!("must be from {least} to {most}"),
            )),
            (true, false) => {
                wrong.push(Wrong::new(format!("*value < {least}"), format!("must be at least {least}")));
            }
            (false, true) => {
                wrong.push(Wrong::new(format!("*value > {most}"), format!("must be at most {most}")));
            }
            (false, false) => {}
        }
        Ok(wrong)
    }

    fn bool(&self, rules: &DynamicMessage) -> Result<Vec<Wrong>> {
        rules
            .fields()
            .map(|(field, value)| match (field.name(), value) {
                ("const", Value::Bool(true)) => Ok(Wrong::new("!*value", "must be true")),
                ("const", Value::Bool(false)) => Ok(Wrong::new("*value", "must be false")),
                (name, _) => Err(self.refuse(name)),
            })
            .collect()
    }

    fn enumeration(&self, rules: &DynamicMessage, descriptor: &EnumDescriptor) -> Result<Vec<Wrong>> {
        let name = |number: &String| {
            let value = number.parse().ok().and_then(|number| descriptor.get_value(number));
            value.map_or_else(|| number.clone(), |value| value.name().to_owned())
        };
        let mut wrong = Vec::new();
        for (field, value) in rules.fields() {
            let (allowed, numbers) = match (field.name(), value) {
                ("defined_only", Value::Bool(false)) => continue,
                ("defined_only", Value::Bool(true)) => {
                    (true, descriptor.values().map(|value| value.number().to_string()).collect())
                }
                ("in", Value::List(values)) => (true, numbers(values)),
                ("not_in", Value::List(values)) => (false, numbers(values)),
                (name, _) => return Err(self.refuse(name)),
            };
            let names = numbers.iter().map(name).collect::<Vec<_>>().join(", ");
            let arms = numbers.join(" | ");
            wrong.push(if allowed {
                Wrong::new(format!("!matches!(*value, {arms})"), format!("must be one of {names}"))
            } else {
                Wrong::new(format!("matches!(*value, {arms})"), format!("must not be one of {names}"))
            });
        }
        Ok(wrong)
    }

    /// What can be wrong with a list as a whole, as `value: &Vec<T>`, and the rules of its items.
    pub fn list(&self, kind: &Kind) -> Result<(Vec<Wrong>, Self)> {
        let mut items = Self::none(&format!("{} (items)", self.place));
        let Some(rules) = self.typed("repeated")? else { return Ok((Vec::new(), items)) };
        let (mut least, mut most) = (None, None);
        let mut wrong = Vec::new();
        for (field, value) in rules.fields() {
            match (field.name(), value) {
                ("min_items", Value::U64(count)) => least = Some(*count),
                ("max_items", Value::U64(count)) => most = Some(*count),
                ("unique", Value::Bool(false)) => {}
                ("unique", Value::Bool(true))
                    if matches!(kind, Kind::String | Kind::Int32 | Kind::Bool | Kind::Enum(_)) =>
                {
                    wrong.push(Wrong::new("check::repeats(value)", "must not have an item twice"));
                }
                ("items", Value::Message(rules)) => items = items.part(rules)?,
                (name, _) => return Err(self.refuse(name)),
            }
        }
        let counted = self.counted("value.len()", least, most, "item")?;
        Ok((counted.into_iter().chain(wrong).collect(), items))
    }

    /// What can be wrong with a map as a whole, as `value: &BTreeMap<K, V>`, and the rules of its keys and
    /// values.
    pub fn map(&self) -> Result<(Vec<Wrong>, Self, Self)> {
        let mut keys = Self::none(&format!("{} (keys)", self.place));
        let mut values = Self::none(&format!("{} (values)", self.place));
        let Some(rules) = self.typed("map")? else { return Ok((Vec::new(), keys, values)) };
        let (mut least, mut most) = (None, None);
        for (field, value) in rules.fields() {
            match (field.name(), value) {
                ("min_pairs", Value::U64(count)) => least = Some(*count),
                ("max_pairs", Value::U64(count)) => most = Some(*count),
                ("keys", Value::Message(rules)) => keys = keys.part(rules)?,
                ("values", Value::Message(rules)) => values = values.part(rules)?,
                (name, _) => return Err(self.refuse(name)),
            }
        }
        let counted = self.counted("value.len()", least, most, "pair")?;
        Ok((counted.into_iter().collect(), keys, values))
    }

    /// The rules of a part of a field. A part is always there: protovalidate leaves `required` unchecked on
    /// one.
    fn part(&self, rules: &DynamicMessage) -> Result<Self> {
        let part = Self::read(rules, &self.place)?;
        if part.required { Err(self.refuse("required")) } else { Ok(part) }
    }

    fn counted(
        &self,
        count: &str,
        least: Option<u64>,
        most: Option<u64>,
        unit: &str,
    ) -> Result<Option<Wrong>> {
        let least = least.filter(|least| *least > 0);
        let plural = |count: u64| if count == 1 { unit.to_owned() } else { format!("{unit}s") };
        Ok(Some(match (least, most) {
            (None, None) => return Ok(None),
            (Some(least), Some(most)) if least > most => {
                return Err(format!("{}: nothing has {least} to {most} {unit}s", self.place).into());
            }
            (Some(least), Some(most)) if least == most => Wrong::new(
                format!("{count} != {least}"),
                format!("must have exactly {least} {}", plural(least)),
            ),
            (Some(least), Some(most)) => Wrong::new(
                format!("!({least}..={most}).contains(&{count})"),
                format!("must have {least} to {most} {}", plural(most)),
            ),
            (Some(least), None) => Wrong::new(
                format!("{count} < {least}"),
                format!("must have at least {least} {}", plural(least)),
            ),
            (None, Some(most)) => {
                Wrong::new(format!("{count} > {most}"), format!("must have at most {most} {}", plural(most)))
            }
        }))
    }
}

fn numbers(values: &[Value]) -> Vec<String> {
    values.iter().filter_map(Value::as_i32).map(|number| number.to_string()).collect()
}
