//! Writes the Rust that checks a message by the `buf.validate` rules of its fields.

use std::collections::HashSet;
use std::fmt::Write;

use heck::{ToSnakeCase, ToUpperCamelCase};
use prost_reflect::{DescriptorPool, FieldDescriptor, Kind, MessageDescriptor, MethodDescriptor, Value};

use crate::Result;
use crate::rules::{Ignore, Rules, Wrong, has_rules, refuse_unknown};

/// The Rust for every message of the packages that begin with `prefix`, whose own Rust is under `root`.
pub fn generate(pool: &DescriptorPool, prefix: &str, root: &str) -> Result<String> {
    let generator = Generator { pool, prefix, root };
    let mut code = String::from("use crate::check::{self, Check, Path, Violations};\n\n");
    let methods: Vec<MethodDescriptor> = pool
        .services()
        .filter(|service| service.package_name().starts_with(prefix))
        .flat_map(|service| service.methods().collect::<Vec<_>>())
        .collect();
    let answers: HashSet<String> =
        methods.iter().map(|method| method.output().full_name().to_owned()).collect();
    let mut names = String::new();
    for message in pool.all_messages().filter(|message| generator.ours(message) && !message.is_map_entry()) {
        let (name, path) = (message.full_name(), generator.path(&message));
        let body = generator.message(&message)?;
        let (at, violations) = if body.is_empty() { ("_", "_") } else { ("at", "violations") };
        write!(
            code,
            "impl Check for {path} {{\n\
             const NAME: &'static str = {name:?};\n\
             const ANSWER: bool = {};\n\
             fn check(&self, {at}: &Path<'_>, {violations}: &mut Violations) {{\n{body}}}\n}}\n\n",
            answers.contains(name)
        )?;
        writeln!(names, "{name:?} => check::check_bytes::<{path}>(bytes),")?;
    }
    let mut seen = HashSet::new();
    for method in &methods {
        code.push_str(&generator.request(method, &mut seen)?);
    }
    write!(
        code,
        "/// Checks the message of that name, for tests; `None` for a name that is not here.\n\
         #[cfg(test)]\n\
         pub(crate) fn check_by_name(name: &str, bytes: &[u8]) -> Option<Result<(), Violations>> {{\n\
         Some(match name {{\n{names}_ => return None,\n}})\n}}\n"
    )?;
    Ok(code)
}

struct Generator<'a> {
    pool: &'a DescriptorPool,
    prefix: &'a str,
    root: &'a str,
}

impl Generator<'_> {
    fn ours(&self, message: &MessageDescriptor) -> bool {
        message.package_name().starts_with(self.prefix)
    }

    /// The Rust path of a message, as prost names it.
    fn path(&self, message: &MessageDescriptor) -> String {
        let mut parts = vec![message.name().to_upper_camel_case()];
        let mut outer = message.parent_message();
        while let Some(message) = outer {
            parts.push(identifier(&message.name().to_snake_case()));
            outer = message.parent_message();
        }
        parts.extend(message.package_name().rsplit('.').map(identifier));
        parts.reverse();
        format!("{}::{}", self.root, parts.join("::"))
    }

    /// Whether anything in the message, however deep, can be wrong.
    fn ruled(&self, message: &MessageDescriptor, seen: &mut HashSet<String>) -> bool {
        self.ours(message)
            && seen.insert(message.full_name().to_owned())
            && message.fields().any(|field| {
                has_rules(&field) || field.kind().as_message().is_some_and(|inner| self.ruled(inner, seen))
            })
    }

    fn message(&self, message: &MessageDescriptor) -> Result<String> {
        refuse_unknown(&message.options(), message.full_name(), &[])?;
        for oneof in message.oneofs() {
            refuse_unknown(&oneof.options(), oneof.full_name(), &[])?;
        }
        message.fields().map(|field| self.field(&field)).collect()
    }

    fn field(&self, field: &FieldDescriptor) -> Result<String> {
        let rules = Rules::of(field)?;
        if field.containing_oneof().is_some_and(|oneof| !oneof.is_synthetic()) {
            return if has_rules(field) || !self.nested(&field.kind()).is_empty() {
                Err(format!("{}: the build knows no checks in a oneof", field.full_name()).into())
            } else {
                Ok(String::new())
            };
        }
        if rules.ignore == Ignore::Always {
            return Ok(String::new());
        }
        let place = format!("self.{}", identifier(field.name()));
        let body = if field.is_map() {
            self.map(field, &rules, &place)?
        } else if field.is_list() {
            self.list(field, &rules, &place)?
        } else {
            self.single(field, &rules, &place)?
        };
        if body.is_empty() {
            return Ok(body);
        }
        Ok(format!("{{\nlet at = at.field({:?});\n{body}}}\n", field.json_name()))
    }

    fn single(&self, field: &FieldDescriptor, rules: &Rules, place: &str) -> Result<String> {
        let kind = field.kind();
        let mut wrong = rules.value(&kind)?;
        if field.supports_presence() {
            let checks = chain(&wrong) + &self.nested(&kind);
            let required = format!("violations.add(&at, {REQUIRED:?});\n");
            return Ok(match (rules.required, checks.is_empty()) {
                (false, true) => String::new(),
                (true, true) => format!("if {place}.is_none() {{\n{required}}}\n"),
                (false, false) => format!("if let Some(value) = &{place} {{\n{checks}}}\n"),
                (true, false) => {
                    format!("if let Some(value) = &{place} {{\n{checks}}} else {{\n{required}}}\n")
                }
            });
        }
        if rules.required {
            wrong.insert(0, Wrong::new(zero(&kind, field)?, REQUIRED));
        }
        if wrong.is_empty() {
            return Ok(String::new());
        }
        let checks = unless_ignored(rules, chain(&wrong), || zero(&kind, field))?;
        Ok(format!("let value = &{place};\n{checks}"))
    }

    fn list(&self, field: &FieldDescriptor, rules: &Rules, place: &str) -> Result<String> {
        let kind = field.kind();
        let (mut wrong, items) = rules.list(&kind)?;
        let inner = self.part(&items, &kind, field, "")?;
        if rules.required {
            wrong.insert(0, Wrong::new("value.is_empty()", REQUIRED));
        }
        let mut code = unless_ignored(rules, chain(&wrong), || Ok("value.is_empty()".to_owned()))?;
        if !inner.is_empty() {
            write!(
                code,
                "for (index, value) in value.iter().enumerate() {{\nlet at = at.index(index);\n{inner}}}\n"
            )?;
        }
        Ok(if code.is_empty() { code } else { format!("let value = &{place};\n{code}") })
    }

    fn map(&self, field: &FieldDescriptor, rules: &Rules, place: &str) -> Result<String> {
        let Kind::Message(entry) = field.kind() else { return Ok(String::new()) };
        let (key, value) = (entry.map_entry_key_field(), entry.map_entry_value_field());
        let (mut wrong, keys, values) = rules.map()?;
        let of_key = self.part(&keys, &key.kind(), field, "key ")?;
        let of_value = self.part(&values, &value.kind(), field, "")?;
        if rules.required {
            wrong.insert(0, Wrong::new("value.is_empty()", REQUIRED));
        }
        let mut code = unless_ignored(rules, chain(&wrong), || Ok("value.is_empty()".to_owned()))?;
        if !of_key.is_empty() || !of_value.is_empty() {
            let subscript = if key.kind() == Kind::String { "key" } else { "item" };
            write!(code, "for (key, value) in value {{\nlet at = at.{subscript}(key);\n")?;
            if !of_key.is_empty() {
                write!(code, "{{\nlet value = key;\n{of_key}}}\n")?;
            }
            let of_value = if of_value.is_empty() { "let _ = value;\n" } else { of_value.as_str() };
            writeln!(code, "{of_value}}}")?;
        }
        Ok(if code.is_empty() { code } else { format!("let value = &{place};\n{code}") })
    }

    /// The checks of an item, key or value, as `value: &T`.
    fn part(&self, rules: &Rules, kind: &Kind, field: &FieldDescriptor, whose: &str) -> Result<String> {
        if rules.ignore == Ignore::Always {
            return Ok(String::new());
        }
        let mut wrong = rules.value(kind)?;
        for wrong in &mut wrong {
            wrong.message.insert_str(0, whose);
        }
        unless_ignored(rules, chain(&wrong) + &self.nested(kind), || zero(kind, field))
    }

    fn nested(&self, kind: &Kind) -> String {
        if kind.as_message().is_some_and(|message| self.ruled(message, &mut HashSet::new())) {
            "value.check(&at, violations);\n".to_owned()
        } else {
            String::new()
        }
    }

    /// What the access layer reads from the request of a method.
    fn request(&self, method: &MethodDescriptor, seen: &mut HashSet<String>) -> Result<String> {
        let input = method.input();
        if !self.ours(&input) {
            return Ok(String::new());
        }
        if !seen.insert(input.full_name().to_owned()) {
            return Err(format!("{}: is the request of two methods", input.full_name()).into());
        }
        let tenant = match self.tenant_field(method) {
            None => "None".to_owned(),
            Some(name) => {
                let field = input
                    .get_field_by_name(&name)
                    .filter(|field| {
                        field.kind() == Kind::String && !field.is_list() && !field.supports_presence()
                    })
                    .ok_or_else(|| {
                        format!(
                            "{}: tenant_field names {name:?}, which is no text of the request",
                            method.full_name()
                        )
                    })?;
                format!(
                    "Some(self.{}.as_str()).filter(|tenant| !tenant.is_empty())",
                    identifier(field.name())
                )
            }
        };
        Ok(format!(
            "impl crate::Request for {} {{\nfn tenant(&self) -> Option<&str> {{\n{tenant}\n}}\n}}\n\n",
            self.path(&input)
        ))
    }

    fn tenant_field(&self, method: &MethodDescriptor) -> Option<String> {
        let extension = self.pool.get_extension_by_name("kombify.contract.v1.access")?;
        let options = method.options();
        let access = options.get_extension(&extension);
        let name = access.as_message()?.get_field_by_name("tenant_field")?.as_str()?.to_owned();
        Some(name).filter(|name| !name.is_empty())
    }
}

/// What a missing field reads.
const REQUIRED: &str = "is required";

/// One `if` over everything that can be wrong with `value`: the first that is wrong is told.
fn chain(wrong: &[Wrong]) -> String {
    let mut code = String::new();
    if let Some(expression) = wrong.iter().find_map(|wrong| wrong.pattern.as_ref()) {
        let lazy = "std::sync::LazyLock";
        code = format!(
            "static PATTERN: {lazy}<regex::Regex> = {lazy}::new(|| check::pattern({expression:?}));\n"
        );
    }
    let tests: Vec<String> = wrong
        .iter()
        .map(|wrong| format!("if {} {{\nviolations.add(&at, {:?});\n}}", wrong.when, wrong.message))
        .collect();
    if tests.is_empty() { code } else { code + &tests.join(" else ") + "\n" }
}

/// The checks, for values that the rules do not pass over.
fn unless_ignored(rules: &Rules, checks: String, zero: impl FnOnce() -> Result<String>) -> Result<String> {
    if checks.is_empty() || rules.ignore != Ignore::Zero {
        return Ok(checks);
    }
    Ok(format!("if !({}) {{\n{checks}}}\n", zero()?))
}

/// The condition under which `value: &T` is the zero value of its type.
fn zero(kind: &Kind, field: &FieldDescriptor) -> Result<String> {
    match kind.default_value() {
        Value::Bool(_) => Ok("!*value".to_owned()),
        Value::String(_) | Value::Bytes(_) => Ok("value.is_empty()".to_owned()),
        Value::I32(_) | Value::I64(_) | Value::U32(_) | Value::U64(_) | Value::EnumNumber(_) => {
            Ok("*value == 0".to_owned())
        }
        Value::F32(_) | Value::F64(_) | Value::Message(_) | Value::List(_) | Value::Map(_) => {
            Err(format!("{}: the build knows no zero value here", field.full_name()).into())
        }
    }
}

/// A name as prost writes it where it is a keyword.
fn identifier(name: &str) -> String {
    match name {
        "as" | "async" | "await" | "break" | "const" | "continue" | "dyn" | "else" | "enum" | "false"
        | "fn" | "for" | "gen" | "if" | "impl" | "in" | "let" | "loop" | "match" | "mod" | "move" | "mut"
        | "pub" | "ref" | "return" | "static" | "struct" | "trait" | "true" | "type" | "unsafe" | "use"
        | "where" | "while" | "abstract" | "become" | "box" | "do" | "final" | "macro" | "override"
        | "priv" | "try" | "typeof" | "unsized" | "virtual" | "yield" => format!("r#{name}"),
        "self" | "super" | "extern" | "crate" => format!("{name}_"),
        _ => name.to_owned(),
    }
}
