//! What every contract of ours keeps to, as functions that find what does not.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

use prost_reflect::{
    DescriptorPool, DynamicMessage, FieldDescriptor, FileDescriptor, Kind, MessageDescriptor,
    ServiceDescriptor, Value,
};
use regex::Regex;
use regex_syntax::hir::Look;

use crate::kombify::contract::v1::{Door, TenantRole};
use crate::method::{Http, Method, comment};
use crate::samples::{rule, rules};

/// The contracts of the packages that begin with `prefix`.
pub(crate) struct Contracts {
    pub(crate) pool: DescriptorPool,
    pub(crate) prefix: &'static str,
}

/// What breaks a rule: the full name of the element, and what is wrong with it.
pub(crate) type Findings = BTreeSet<(String, &'static str)>;

/// The message of others that an exposed method may answer: raw bytes.
const HTTP_BODY: &str = "google.api.HttpBody";

/// The rate classes.
const RATES: [&str; 9] =
    ["stacks", "simulations", "admin", "catalog", "stackkits", "billing", "sign-in", "webhooks", "other"];

impl Contracts {
    fn services(&self) -> impl Iterator<Item = ServiceDescriptor> {
        self.pool.services().filter(move |service| service.package_name().starts_with(self.prefix))
    }

    fn methods(&self) -> Vec<Method> {
        self.services().flat_map(|service| service.methods().map(Method::of).collect::<Vec<_>>()).collect()
    }

    /// The methods that have an HTTP form.
    fn exposed(&self) -> Vec<(Method, Http)> {
        self.methods()
            .into_iter()
            .filter_map(|method| method.http.clone().map(|http| (method, http)))
            .collect()
    }

    fn messages(&self) -> impl Iterator<Item = MessageDescriptor> {
        self.pool
            .all_messages()
            .filter(move |message| message.package_name().starts_with(self.prefix) && !message.is_map_entry())
    }
}

/// A message and every message of ours that stands in it, however deep.
fn reachable(message: &MessageDescriptor) -> BTreeMap<String, MessageDescriptor> {
    fn walk(message: &MessageDescriptor, found: &mut BTreeMap<String, MessageDescriptor>) {
        let new = found.insert(message.full_name().to_owned(), message.clone()).is_none();
        for field in message.fields().filter(|_| new) {
            if let Kind::Message(inner) = field.kind()
                && inner.package_name().starts_with("kombify.")
            {
                walk(&inner, found);
            }
        }
    }
    let mut found = BTreeMap::new();
    walk(message, &mut found);
    found.retain(|_, message| !message.is_map_entry());
    found
}

/// Whether an exposed method answers raw bytes: no JSON, and no message of its own.
fn answers_bytes(method: &Method) -> bool {
    method.http.is_some() && method.descriptor.output().full_name() == HTTP_BODY
}

/// Every method says who may call it, as completely as its door asks for.
pub(crate) fn access(contracts: &Contracts) -> Findings {
    let mut findings = Findings::new();
    for method in contracts.methods() {
        let mut find = |what| findings.insert((method.descriptor.full_name().to_owned(), what));
        if method.module.is_empty() {
            find("no module answers for the service");
        }
        let Some(access) = &method.access else {
            find("has no access rule");
            continue;
        };
        let door = access.door();
        if door == Door::Unspecified {
            find("has no door");
        }
        if access.rate.is_empty() && !matches!(door, Door::Public | Door::Service) {
            find("has no rate class");
        }
        if !access.rate.is_empty() && !RATES.contains(&access.rate.as_str()) {
            find("has a rate class that does not exist");
        }
        if door == Door::Tenant && access.tenant_role() == TenantRole::Unspecified {
            find("asks for no role in the tenant");
        }
        if door == Door::Platform && access.platform_roles.is_empty() {
            find("asks for no role in the platform");
        }
        if door == Door::Service && access.services.is_empty() {
            find("names no service that may call");
        }
        if door != Door::Tenant && !access.tenant_field.is_empty() {
            find("names a tenant where none is asked for");
        }
    }
    findings
}

/// Every field of a request has its bound.
pub(crate) fn bounds(contracts: &Contracts) -> Findings {
    let methods = contracts.methods();
    let messages = methods.iter().flat_map(|method| reachable(&method.descriptor.input()).into_values());
    messages
        .flat_map(|message| message.fields().collect::<Vec<_>>())
        .filter_map(|field| Some((field.full_name().to_owned(), unbounded(&field)?)))
        .collect()
}

fn unbounded(field: &FieldDescriptor) -> Option<&'static str> {
    let rules = rules(field).filter(|rules| rule(Some(rules), &["ignore"]) != Some(Value::EnumNumber(3)));
    let at = |path: &[&str]| rule(rules.as_ref(), path);
    if let (true, Some(entry)) = (field.is_map(), field.kind().as_message()) {
        if at(&["map", "max_pairs"]).is_none() {
            return Some("has no bound for its pairs");
        }
        let (keys, values) = (at(&["map", "keys"]), at(&["map", "values"]));
        return unbounded_value(
            &entry.map_entry_key_field().kind(),
            keys.as_ref().and_then(Value::as_message),
        )
        .or_else(|| {
            let kind = entry.map_entry_value_field().kind();
            unbounded_value(&kind, values.as_ref().and_then(Value::as_message))
        });
    }
    if field.is_list() {
        if at(&["repeated", "max_items"]).is_none() {
            return Some("has no bound for its items");
        }
        let items = at(&["repeated", "items"]);
        return unbounded_value(&field.kind(), items.as_ref().and_then(Value::as_message));
    }
    unbounded_value(&field.kind(), rules.as_ref())
}

fn unbounded_value(kind: &Kind, rules: Option<&DynamicMessage>) -> Option<&'static str> {
    let has = |path: &[&str]| rule(rules, path).is_some();
    match kind {
        Kind::Bool | Kind::Enum(_) | Kind::Message(_) => None,
        Kind::String => {
            let bounded = ["const", "in", "len", "max_len"].into_iter().any(|name| has(&["string", name]))
                || rule(rules, &["string", "pattern"])
                    .is_some_and(|pattern| pattern.as_str().is_some_and(finite));
            (!bounded).then_some("has no bound for its length")
        }
        Kind::Int32 => {
            let above = has(&["int32", "lt"]) || has(&["int32", "lte"]);
            let below = has(&["int32", "gt"]) || has(&["int32", "gte"]);
            (!((above && below) || has(&["int32", "in"]))).then_some("has no two bounds")
        }
        Kind::Double
        | Kind::Float
        | Kind::Int64
        | Kind::Uint32
        | Kind::Uint64
        | Kind::Sint32
        | Kind::Sint64
        | Kind::Fixed32
        | Kind::Fixed64
        | Kind::Sfixed32
        | Kind::Sfixed64
        | Kind::Bytes => Some("is of a kind that has no rules here"),
    }
}

/// Whether the pattern is anchored and matches nothing longer than some length.
fn finite(pattern: &str) -> bool {
    regex_syntax::parse(pattern).is_ok_and(|expression| {
        let properties = expression.properties();
        properties.look_set_prefix().contains(Look::Start)
            && properties.look_set_suffix().contains(Look::End)
            && properties.maximum_len().is_some()
    })
}

/// What has an HTTP form keeps to the JSON that every transcoder renders alike.
pub(crate) fn json(contracts: &Contracts) -> Findings {
    let mut findings = Findings::new();
    for (method, _) in contracts.exposed() {
        let answer = Some((method.descriptor.output(), true)).filter(|_| !answers_bytes(&method));
        for (top, answer) in [(method.descriptor.input(), false)].into_iter().chain(answer) {
            let messages = reachable(&top).into_values();
            for field in messages.flat_map(|message| message.fields().collect::<Vec<_>>()) {
                findings.extend(odd(&field, answer).map(|what| (field.full_name().to_owned(), what)));
            }
        }
    }
    findings
}

fn odd(field: &FieldDescriptor, answer: bool) -> Option<&'static str> {
    if let Some(oneof) = field.containing_oneof() {
        if !oneof.is_synthetic() {
            return Some("is in a oneof");
        }
        if answer {
            return Some("is optional in an answer");
        }
    }
    let mut kind = field.kind();
    if let (true, Some(entry)) = (field.is_map(), field.kind().as_message()) {
        if entry.map_entry_key_field().kind() != Kind::String {
            return Some("is a map whose keys are no text");
        }
        kind = entry.map_entry_value_field().kind();
    }
    let time = kind.as_message().is_some_and(|message| message.full_name() == "google.protobuf.Timestamp");
    if time != field.name().ends_with("_time") {
        return Some("is a time by its kind or by its name, but not by both");
    }
    match kind {
        Kind::Bool
        | Kind::String
        | Kind::Int32
        | Kind::Sint32
        | Kind::Sfixed32
        | Kind::Float
        | Kind::Double => None,
        Kind::Int64 | Kind::Uint64 | Kind::Sint64 | Kind::Fixed64 | Kind::Sfixed64 => Some("has 64 bits"),
        Kind::Uint32 | Kind::Fixed32 => Some("is unsigned"),
        Kind::Bytes => Some("is bytes"),
        Kind::Enum(_) => Some("is an enum"),
        Kind::Message(message) => {
            (!time && !message.package_name().starts_with("kombify.")).then_some("is a message of others")
        }
    }
}

static SEGMENT: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"^[a-z][a-z0-9-]*$").unwrap());
static VARIABLE: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"\{([a-z_]+)\}").unwrap());
static VERB: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"^[a-z][A-Za-z]*$").unwrap());

/// Paths, verbs and bodies are of the one shape; no two methods have the same.
pub(crate) fn paths(contracts: &Contracts) -> Findings {
    let mut findings = Findings::new();
    let mut taken = BTreeSet::new();
    for (method, http) in contracts.exposed() {
        let mut find = |what| findings.insert((method.descriptor.full_name().to_owned(), what));
        let (path, verb) = match http.template.split_once(':') {
            Some((path, verb)) => (path, Some(verb)),
            None => (http.template.as_str(), None),
        };
        if !path.starts_with("/v1/") && !path.starts_with("/api/internal/") {
            find("is under neither /v1/ nor /api/internal/");
        }
        let plain = VARIABLE.replace_all(path, "variable");
        if !plain.split('/').skip(1).all(|segment| SEGMENT.is_match(segment)) {
            find("has a segment that is not of [a-z0-9-]");
        }
        if verb.is_some_and(|verb| !VERB.is_match(verb)) {
            find("has a verb that is not in camelCase");
        }
        if !taken.insert((http.verb, VARIABLE.replace_all(&http.template, "{}").into_owned())) {
            find("has the path of another method");
        }
        let input = method.descriptor.input();
        let variables: Vec<&str> =
            VARIABLE.captures_iter(path).map(|captures| captures.extract::<1>().1[0]).collect();
        let text = |name: &&str| {
            input
                .get_field_by_name(name)
                .is_some_and(|field| field.kind() == Kind::String && !field.is_list())
        };
        if !variables.iter().all(text) {
            find("has a variable that is no text of the request");
        }
        match http.body.as_deref() {
            None => {}
            Some(_) if matches!(http.verb, "GET" | "DELETE") => {
                find("has a body where none is read");
            }
            Some("*") if variables.is_empty() => {}
            Some("*") => {
                find("fills every field, and has variables in its path");
            }
            Some(name) if body(&input, name).is_some() => {}
            Some(_) => {
                find("has a body that is no message of the request");
            }
        }
    }
    findings
}

/// The message that the body fills.
fn body(input: &MessageDescriptor, name: &str) -> Option<MessageDescriptor> {
    let field = input.get_field_by_name(name).filter(|field| !field.is_list() && !field.is_map())?;
    field.kind().as_message().cloned()
}

/// Lists answer `{data, meta}` or `{data}`, single things `{data}`, and what is done `{}`; or it is raw bytes.
pub(crate) fn answers(contracts: &Contracts) -> Findings {
    let mut findings = Findings::new();
    for (method, _) in contracts.exposed() {
        if answers_bytes(&method) {
            continue;
        }
        let output = method.descriptor.output();
        let (data, meta) = (output.get_field_by_name("data"), output.get_field_by_name("meta"));
        let known = usize::from(data.is_some()) + usize::from(meta.is_some());
        let list = data.as_ref().is_some_and(FieldDescriptor::is_list);
        let is_message = |field: &FieldDescriptor| field.kind().as_message().is_some() && !field.is_map();
        let is_meta = |field: &FieldDescriptor| {
            field.kind().as_message().is_some_and(|kind| kind.package_name() == "kombify.list.v1")
                && !field.is_list()
        };
        let mut find = |what| findings.insert((method.descriptor.full_name().to_owned(), what));
        if output.fields().len() != known {
            find("answers more than data and meta");
        }
        if data.as_ref().is_some_and(|data| !is_message(data)) {
            find("answers data that is no message");
        }
        if meta.is_some_and(|meta| !list || !is_meta(&meta)) {
            find("answers a meta that is not a list's");
        }
        if method.name.starts_with("List") != list {
            find("is a list by its name or by its answer, but not by both");
        }
    }
    findings
}

/// Every method has a request and a response of its own, by its name; raw bytes have none.
pub(crate) fn names(contracts: &Contracts) -> Findings {
    let mut findings = Findings::new();
    let mut uses: BTreeMap<String, usize> = BTreeMap::new();
    for method in contracts.methods() {
        let package = method.descriptor.parent_service().package_name().to_owned();
        let answer = Some((method.descriptor.output(), "Response")).filter(|_| !answers_bytes(&method));
        for (message, suffix) in [(method.descriptor.input(), "Request")].into_iter().chain(answer) {
            if message.full_name() != format!("{package}.{}{suffix}", method.name) {
                findings.insert((
                    method.descriptor.full_name().to_owned(),
                    "takes or gives what has another's name",
                ));
            }
            *uses.entry(message.full_name().to_owned()).or_default() += 1;
        }
    }
    let shared = uses.into_iter().filter(|(_, count)| *count > 1);
    findings.extend(shared.map(|(name, _)| (name, "is of more than one method")));
    findings
}

/// A partial update can tell absent from empty.
pub(crate) fn patches(contracts: &Contracts) -> Findings {
    let mut findings = Findings::new();
    for (method, http) in contracts.exposed() {
        if http.verb != "PATCH" {
            continue;
        }
        let Some(body) = http.body.and_then(|name| body(&method.descriptor.input(), &name)) else {
            findings
                .insert((method.descriptor.full_name().to_owned(), "changes, and its body is no message"));
            continue;
        };
        let fields = reachable(&body).into_values().flat_map(|message| message.fields().collect::<Vec<_>>());
        let blind = fields.filter(|field| !field.supports_presence());
        findings.extend(blind.map(|field| (field.full_name().to_owned(), "cannot be absent")));
    }
    findings
}

/// Everything has a comment.
pub(crate) fn comments(contracts: &Contracts) -> Findings {
    let mut findings = Findings::new();
    let mut look = |file: &FileDescriptor, path: &[i32], name: &str| {
        if comment(file, path).is_empty() {
            findings.insert((name.to_owned(), "has no comment"));
        }
    };
    for service in contracts.services() {
        look(&service.parent_file(), service.path(), service.full_name());
        for method in service.methods() {
            look(&service.parent_file(), method.path(), method.full_name());
        }
    }
    for message in contracts.messages() {
        look(&message.parent_file(), message.path(), message.full_name());
        for field in message.fields() {
            look(&message.parent_file(), field.path(), field.full_name());
        }
    }
    findings
}
