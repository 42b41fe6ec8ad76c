//! How the HTTP form of one method becomes its request, worked out once.

use std::collections::HashSet;

use http::Uri;
use kombify_contracts::Method;
use prost_reflect::{FieldDescriptor, MessageDescriptor};

use crate::field::{self, FieldPath};
use crate::raw::is_raw;
use crate::router::RouteError;

/// One method that has an HTTP form.
#[derive(Debug)]
pub(crate) struct Binding {
    /// Its path in gRPC.
    pub(crate) rpc_path: &'static str,
    /// The same, as the inner request has it.
    pub(crate) uri: Uri,
    /// The type of its request.
    pub(crate) input: MessageDescriptor,
    /// The type of its answer.
    pub(crate) output: MessageDescriptor,
    /// Whether its answer is bytes, not JSON.
    pub(crate) raw: bool,
    /// The fields that the path fills, in the order of the template.
    pub(crate) variables: Vec<FieldPath>,
    /// What the body fills.
    pub(crate) body: BodyRule,
    /// The field that `If-Match` fills.
    pub(crate) if_match: Option<FieldDescriptor>,
    /// Where the answer holds what becomes `ETag`.
    pub(crate) etag: Option<FieldPath>,
}

/// What a body fills.
#[derive(Debug, PartialEq)]
pub(crate) enum BodyRule {
    /// Nothing: there is none.
    Nothing,
    /// The whole request.
    Whole,
    /// One field of the request, which is a message.
    Field(FieldDescriptor),
}

impl Binding {
    /// The binding of `method`, whose template names `variables`.
    pub(crate) fn new(method: &'static Method, variables: &[String]) -> Result<Self, RouteError> {
        let descriptor = &method.descriptor;
        let named = || method.path.clone();
        if descriptor.is_client_streaming() || descriptor.is_server_streaming() {
            return Err(RouteError::Streaming { method: named() });
        }
        let (input, output) = (descriptor.input(), descriptor.output());
        let raw = is_raw(&output);
        for message in [Some(&input), Some(&output).filter(|_| !raw)].into_iter().flatten() {
            if let Some(type_name) = hidden(message, &mut HashSet::new()) {
                return Err(RouteError::Type { method: named(), type_name });
            }
        }
        let body =
            match method.http.as_ref().and_then(|http| http.body.as_deref()) {
                None => BodyRule::Nothing,
                Some("*") => BodyRule::Whole,
                Some(name) => BodyRule::Field(body_field(&input, name).map_err(|problem| {
                    RouteError::Body { method: named(), field: name.to_owned(), problem }
                })?),
            };
        let mut paths: Vec<FieldPath> = Vec::with_capacity(variables.len());
        for name in variables {
            let path = variable(&input, name, &body).and_then(|path| {
                let twice = paths.contains(&path);
                if twice { Err("stands in the template twice".to_owned()) } else { Ok(path) }
            });
            let wrong = |problem| RouteError::Variable { method: named(), variable: name.clone(), problem };
            paths.push(path.map_err(wrong)?);
        }
        let uri = method.path.parse::<Uri>().map_err(|cause| RouteError::Template {
            method: named(),
            template: method.path.clone(),
            problem: cause.to_string(),
        })?;
        Ok(Self {
            rpc_path: &method.path,
            uri,
            if_match: field::etag(&input),
            etag: field::data_etag(&output),
            input,
            output,
            raw,
            variables: paths,
            body,
        })
    }
}

fn body_field(input: &MessageDescriptor, name: &str) -> Result<FieldDescriptor, &'static str> {
    let field = input.get_field_by_name(name).ok_or("does not exist")?;
    let kind = field.kind();
    let single = !field.is_list() && !field.is_map();
    let fits = kind.as_message().is_some_and(|of| single && !field::is_timestamp(of));
    if fits { Ok(field) } else { Err("is not a message") }
}

fn variable(input: &MessageDescriptor, name: &str, body: &BodyRule) -> Result<FieldPath, String> {
    let path = FieldPath::resolve(input, name)?;
    if path.last().is_list() || path.last().kind().as_message().is_some() {
        return Err("is not a scalar".to_owned());
    }
    if matches!(body, BodyRule::Field(field) if field == path.first()) {
        return Err("is in the field that the body fills".to_owned());
    }
    Ok(path)
}

/// The first type in a message that has a form of its own, which we do not write there: in JSON transcoders differ, and
/// raw bytes are a whole answer or nothing.
fn hidden(message: &MessageDescriptor, seen: &mut HashSet<String>) -> Option<String> {
    let name = message.full_name();
    if field::is_timestamp(message) || name == "google.protobuf.Empty" || !seen.insert(name.to_owned()) {
        return None;
    }
    if message.package_name() == "google.protobuf" || is_raw(message) {
        return Some(name.to_owned());
    }
    message.fields().find_map(|field| {
        if field.is_group() {
            return Some(field.full_name().to_owned());
        }
        hidden(field.kind().as_message()?, seen)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture;

    fn problem(descriptor: &str, body: Option<&str>, variables: &[&str]) -> String {
        let variables: Vec<String> = variables.iter().map(|name| (*name).to_owned()).collect();
        match Binding::new(fixture::exposed(descriptor, "POST", "/x", body), &variables) {
            Ok(_) => String::new(),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn what_cannot_be_served_is_refused_with_the_name_of_the_method() {
        for (method, body, variables, expected) in [
            ("Whole", Some("*"), ["text", "nested.flag"], ""),
            ("Whole", Some("nested"), ["text", "flag"], ""),
            ("Raw", None, ["text", "flag"], ""),
            ("Stream", None, ["text", "flag"], "/fixture.Fixture/Stream: a stream has no HTTP form"),
            (
                "Hidden",
                None,
                ["text", "flag"],
                "/fixture.Fixture/Hidden: google.protobuf.Duration has no JSON form here",
            ),
            (
                "TakeRaw",
                Some("*"),
                ["text", "flag"],
                "/fixture.Fixture/TakeRaw: google.api.HttpBody has no JSON form here",
            ),
            (
                "RawWithin",
                None,
                ["text", "flag"],
                "/fixture.Fixture/RawWithin: google.api.HttpBody has no JSON form here",
            ),
            (
                "Whole",
                Some("nothing"),
                ["a", "b"],
                "/fixture.Fixture/Whole: the body field \"nothing\" does not exist",
            ),
            (
                "Whole",
                Some("text"),
                ["a", "b"],
                "/fixture.Fixture/Whole: the body field \"text\" is not a message",
            ),
            (
                "Whole",
                Some("children"),
                ["a", "b"],
                "/fixture.Fixture/Whole: the body field \"children\" is not a message",
            ),
            (
                "Whole",
                None,
                ["text", "tags"],
                "/fixture.Fixture/Whole: the path variable \"tags\" is not a scalar",
            ),
            (
                "Whole",
                None,
                ["text", "nested"],
                "/fixture.Fixture/Whole: the path variable \"nested\" is not a scalar",
            ),
            (
                "Whole",
                None,
                ["text", "text"],
                "/fixture.Fixture/Whole: the path variable \"text\" stands in the template twice",
            ),
            (
                "Whole",
                Some("nested"),
                ["text", "nested.flag"],
                "/fixture.Fixture/Whole: the path variable \"nested.flag\" is in the field that the body fills",
            ),
            (
                "Whole",
                None,
                ["text", "flak"],
                "/fixture.Fixture/Whole: the path variable \"flak\" is not a field of Everything; did you mean `flag`?",
            ),
        ] {
            assert_eq!(problem(method, body, &variables), expected);
        }
    }
}
