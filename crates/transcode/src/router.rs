//! The templates of `google.api.http`, and which of them a request means.

use std::collections::HashMap;
use std::sync::Arc;

use kombify_contracts::Method;

use crate::binding::Binding;

/// Why the HTTP form of a method cannot be served.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RouteError {
    /// The template is not one that is read here.
    #[error("{method}: the template {template:?} {problem}")]
    Template {
        /// The gRPC path of the method.
        method: String,
        /// The template.
        template: String,
        /// What is wrong with it.
        problem: String,
    },
    /// Another method has the same verb and path.
    #[error("{method}: {other} answers {verb} {template} already")]
    Twice {
        /// The gRPC path of the method.
        method: String,
        /// The gRPC path of the other.
        other: String,
        /// The verb that they share.
        verb: &'static str,
        /// The template of the method.
        template: String,
    },
    /// The method is a stream.
    #[error("{method}: a stream has no HTTP form")]
    Streaming {
        /// The gRPC path of the method.
        method: String,
    },
    /// A variable of the template leads to no field that a path can fill.
    #[error("{method}: the path variable {variable:?} {problem}")]
    Variable {
        /// The gRPC path of the method.
        method: String,
        /// The variable.
        variable: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The body is for a field that it cannot fill.
    #[error("{method}: the body field {field:?} {problem}")]
    Body {
        /// The gRPC path of the method.
        method: String,
        /// The field.
        field: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// The request or the answer holds a type that is not exposed as JSON.
    #[error("{method}: {type_name} has no JSON form here")]
    Type {
        /// The gRPC path of the method.
        method: String,
        /// The type.
        type_name: String,
    },
}

/// Every path that is served, by the number of its segments; in each bucket the most specific first.
#[derive(Debug, Default)]
pub(crate) struct Router(HashMap<usize, Vec<Node>>);

/// What a request means.
#[derive(Debug)]
pub(crate) enum Found<'router, 'path> {
    /// This method, with the values of its path variables as they stand in the path.
    Method(&'router Arc<Binding>, Vec<&'path str>),
    /// A path that answers other verbs, which are these, sorted.
    Verbs(Vec<String>),
    /// Nothing.
    Nothing,
}

#[derive(Debug)]
struct Node {
    template: Template,
    bindings: Vec<(&'static str, Arc<Binding>)>,
}

/// A path template without the names of its variables.
#[derive(Debug, PartialEq, Eq)]
struct Template {
    segments: Vec<Segment>,
    /// What follows the last colon, where the last segment is a variable.
    verb: Option<String>,
}

/// One part of a path. The order is that of the search: what is literal comes first.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Segment {
    Literal(String),
    Variable,
}

impl Router {
    /// The router of those of `methods` that have an HTTP form.
    pub(crate) fn new(methods: impl IntoIterator<Item = &'static Method>) -> Result<Self, RouteError> {
        let mut router = Self::default();
        for method in methods {
            if let Some(http) = &method.http {
                router.add(method, http.verb, &http.template)?;
            }
        }
        for nodes in router.0.values_mut() {
            // A template with a verb is more specific than the same without.
            nodes.sort_by(|a, b| {
                let (a, b) = (&a.template, &b.template);
                a.segments.cmp(&b.segments).then_with(|| b.verb.cmp(&a.verb))
            });
        }
        Ok(router)
    }

    fn add(&mut self, method: &'static Method, verb: &'static str, text: &str) -> Result<(), RouteError> {
        let (template, variables) = Template::parse(text).map_err(|problem| RouteError::Template {
            method: method.path.clone(),
            template: text.to_owned(),
            problem: problem.to_owned(),
        })?;
        let binding = Arc::new(Binding::new(method, &variables)?);
        let nodes = self.0.entry(template.segments.len()).or_default();
        let Some(node) = nodes.iter_mut().find(|node| node.template == template) else {
            nodes.push(Node { template, bindings: vec![(verb, binding)] });
            return Ok(());
        };
        if let Some((_, other)) = node.bindings.iter().find(|(known, _)| *known == verb) {
            return Err(RouteError::Twice {
                method: method.path.clone(),
                other: other.rpc_path.to_owned(),
                verb,
                template: text.to_owned(),
            });
        }
        node.bindings.push((verb, binding));
        Ok(())
    }

    /// What a verb and a path mean. The most specific template that fits decides about the path, whatever the verb.
    pub(crate) fn find<'path>(&self, verb: &str, path: &'path str) -> Found<'_, 'path> {
        let Some(rest) = path.strip_prefix('/') else { return Found::Nothing };
        let segments = 1 + rest.bytes().filter(|byte| *byte == b'/').count();
        let nodes = self.0.get(&segments).map(Vec::as_slice).unwrap_or_default();
        let Some((node, values)) = nodes.iter().find_map(|node| Some((node, node.template.values(rest)?)))
        else {
            return Found::Nothing;
        };
        if let Some((_, binding)) = node.bindings.iter().find(|(known, _)| *known == verb) {
            return Found::Method(binding, values);
        }
        let mut verbs: Vec<String> = node.bindings.iter().map(|(verb, _)| (*verb).to_owned()).collect();
        verbs.sort();
        Found::Verbs(verbs)
    }
}

impl Template {
    /// Reads a template: literals, `{field}`, and `:verb` at the end. Gives the names of the variables, too.
    fn parse(text: &str) -> Result<(Self, Vec<String>), &'static str> {
        let rest = text.strip_prefix('/').ok_or("does not begin with a slash")?;
        let mut template = Self { segments: Vec::new(), verb: None };
        let mut variables = Vec::new();
        for part in rest.split('/') {
            if template.verb.is_some() {
                return Err("has a verb that is not at the end");
            }
            let Some(variable) = part.strip_prefix('{') else {
                if part.is_empty() || part.contains(['{', '}', '*', '%', '?', '#']) {
                    return Err("has a segment that is neither a literal nor a variable");
                }
                template.segments.push(Segment::Literal(part.to_owned()));
                continue;
            };
            let (name, verb) = variable.split_once('}').ok_or("has a brace that is not closed")?;
            let name = name.strip_suffix("=*").unwrap_or(name);
            if name.contains(['=', '*', '{']) {
                return Err("has a variable of more than one segment");
            }
            if !verb.is_empty() {
                let word =
                    |verb: &&str| !verb.is_empty() && verb.bytes().all(|byte| byte.is_ascii_alphanumeric());
                let verb = verb.strip_prefix(':').filter(word).ok_or("has something behind a variable")?;
                template.verb = Some(verb.to_owned());
            }
            variables.push(name.to_owned());
            template.segments.push(Segment::Variable);
        }
        Ok((template, variables))
    }

    /// The values of the variables in a path of as many segments (without its first slash), if the path fits.
    fn values<'path>(&self, path: &'path str) -> Option<Vec<&'path str>> {
        let last = self.segments.len() - 1;
        let mut values = Vec::new();
        for (index, (segment, part)) in self.segments.iter().zip(path.split('/')).enumerate() {
            match segment {
                Segment::Literal(literal) => {
                    if literal != part {
                        return None;
                    }
                }
                Segment::Variable => {
                    let value = match &self.verb {
                        Some(verb) if index == last => part.strip_suffix(verb.as_str())?.strip_suffix(':')?,
                        Some(_) | None => part,
                    };
                    if value.is_empty() {
                        return None;
                    }
                    values.push(value);
                }
            }
        }
        Some(values)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture;

    /// What a request means, in one line.
    fn found(router: &Router, verb: &str, path: &str) -> String {
        match router.find(verb, path) {
            Found::Method(binding, values) => {
                let (_, method) = binding.rpc_path.rsplit_once('/').unwrap();
                [vec![method], values].concat().join(" ")
            }
            Found::Verbs(verbs) => verbs.join(", "),
            Found::Nothing => String::new(),
        }
    }

    #[test]
    fn the_paths_of_the_contracts_lead_to_their_methods() {
        let router = Router::new(kombify_contracts::methods()).unwrap();
        for (verb, path, expected) in [
            ("GET", "/v1/tenants", "ListTenants"),
            ("POST", "/v1/tenants", "CreateTenant"),
            ("GET", "/v1/tenants/home", "GetTenant home"),
            ("GET", "/v1/admin/organisations/user:123", "GetOrganisation user:123"),
            ("POST", "/v1/admin/organisations/user:123:grantPlan", "GrantPlan user:123"),
            ("POST", "/v1/admin/organisations/a%2Fb:grantPlan", "GrantPlan a%2Fb"),
            ("GET", "/v1/admin/organisations/user:123:grantPlan", "POST"),
            ("POST", "/v1/admin/organisations/user:123", "GET"),
            ("GET", "/v1/admin/organisations/o1%3AgrantPlan", "GetOrganisation o1%3AgrantPlan"),
            ("POST", "/v1/admin/instances/i:drain", "DrainInstance i"),
            ("POST", "/v1/admin/instances/i:activate", "ActivateInstance i"),
            ("DELETE", "/v1/admin/instances/i", "RemoveInstance i"),
            ("PUT", "/v1/admin/instances/i", "DELETE, GET, PATCH"),
            ("HEAD", "/v1/users/me", "GET, PATCH"),
            ("OPTIONS", "/v1/users/me", "GET, PATCH"),
            ("get", "/v1/users/me", "GET, PATCH"),
            ("GET", "/v1/users/me/", ""),
            ("GET", "/v1/tenants/", ""),
            ("GET", "/v1//tenants", ""),
            ("GET", "//v1/tenants", ""),
            ("GET", "/v1/%74enants", ""),
            ("GET", "/V1/tenants", ""),
            ("GET", "/", ""),
            ("GET", "", ""),
            ("OPTIONS", "*", ""),
            ("POST", "/kombify.tenancy.v1.TenantService/CreateTenant", ""),
        ] {
            assert_eq!(found(&router, verb, path), expected, "{verb} {path}");
        }
    }

    #[test]
    fn the_most_specific_template_wins_in_whatever_order_they_come() {
        let templates = [
            "/a/{text}",
            "/a/{text}:run",
            "/a/b",
            "/{text}/b",
            "/a/{text=*}/{etag}",
            "/a/b/{text}:run",
            "/a/b:run",
        ];
        for turn in 0..templates.len() {
            let mut turned = templates;
            turned.rotate_left(turn);
            let router =
                Router::new(turned.map(|template| fixture::exposed("Whole", "GET", template, None))).unwrap();
            let template = |path: &str| match router.find("GET", path) {
                Found::Method(_, values) => values.join(" "),
                Found::Verbs(_) | Found::Nothing => "-".to_owned(),
            };
            for (path, values) in [
                ("/a/b", ""),
                ("/a/b:run", ""),
                ("/a/c", "c"),
                ("/a/c:run", "c"),
                ("/a/c:d:run", "c:d"),
                ("/a/c:runs", "c:runs"),
                ("/a/:run", ":run"),
                ("/x/b", "x"),
                ("/x/c", "-"),
                ("/a/b/c:run", "c"),
                ("/a/b/c", "b c"),
                ("/a/b/c/d", "-"),
            ] {
                assert_eq!(template(path), values, "{path} in turn {turn}");
            }
        }
    }

    #[test]
    fn templates_that_clash_or_are_no_templates_are_refused() {
        let one = fixture::exposed("Whole", "GET", "/a/{text}", None);
        let other = fixture::exposed("Whole", "GET", "/a/{etag}", None);
        let error = Router::new([one, other]).unwrap_err();
        assert_eq!(
            error.to_string(),
            "/fixture.Fixture/Whole: /fixture.Fixture/Whole answers GET /a/{etag} already"
        );
        let post = fixture::exposed("Whole", "POST", "/a/{etag}", None);
        assert!(Router::new([one, post]).is_ok());
        for template in [
            "",
            "a",
            "/",
            "/a//b",
            "/{text",
            "/{text}x",
            "/{text}:",
            "/{text}:a:b",
            "/{text=**}",
            "/{text}:run/b",
            "/*",
            "/a{text}",
        ] {
            let error = Router::new([fixture::exposed("Whole", "GET", template, None)]).unwrap_err();
            assert!(matches!(error, RouteError::Template { .. }), "{template}: {error}");
        }
    }
}
