//! What a spec has to keep to beyond its shape. A rule looks only at what has its shape: whatever else is wrong is told
//! by the shape.

mod network;
mod platform;
mod ports;
mod resources;
mod secrets;
mod services;
mod topology;

use std::collections::BTreeSet;

use crate::budget::{Budget, Exhausted};
use crate::manifest::{Context, Manifest, Role, Service};
use crate::node::{Node, Path};
use crate::problem::{Code, Position, Problem, Verdict};
use crate::schema::Format;

pub(crate) use secrets::{
    HINT as SECRET_HINT, in_text as secrets_in_text, looks_like_one as looks_like_a_secret,
};

/// A spec as the rules see it.
pub(crate) struct Spec<'a> {
    /// Its kit.
    pub(crate) manifest: &'a Manifest,
    /// What it says, defaults filled in.
    pub(crate) root: &'a Node,
    /// What has its shape and a format.
    pub(crate) formats: &'a [(Format, Path, Node)],
}

/// One of its nodes.
pub(crate) struct Machine<'a> {
    pub(crate) name: &'a str,
    pub(crate) role: Role,
    pub(crate) ip: &'a str,
    pub(crate) index: usize,
    pub(crate) at: Position,
}

impl<'a> Spec<'a> {
    /// The nodes that have a name, a role and an address.
    pub(crate) fn nodes(&self) -> Vec<Machine<'a>> {
        let items = self.root.get("nodes").map(Node::items).unwrap_or_default();
        let machine = |(index, node): (usize, &'a Node)| {
            let role = match node.get("role") {
                None => Role::Main,
                Some(role) => Role::parse(role.as_str()?)?,
            };
            let (name, ip) = (node.get("name")?.as_str()?, node.get("ip")?.as_str()?);
            Some(Machine { name, role, ip, index, at: node.at })
        };
        items.iter().enumerate().filter_map(machine).collect()
    }

    /// Whether every node has its shape: what counts nodes counts only then.
    fn nodes_are_whole(&self) -> bool {
        self.root
            .get("nodes")
            .map(Node::items)
            .is_some_and(|items| !items.is_empty() && items.len() == self.nodes().len())
    }

    /// The node that a role means: the first of that role, else the main one, else the first.
    pub(crate) fn node_of(nodes: &'a [Machine<'a>], role: Role) -> Option<&'a Machine<'a>> {
        let first = |role: Role| nodes.iter().find(|node| node.role == role);
        first(role).or_else(|| first(Role::Main)).or_else(|| nodes.first())
    }

    /// Whether the service is switched on.
    pub(crate) fn is_enabled(&self, service: &Service) -> bool {
        self.root
            .find(&["services", &service.name, "enabled"])
            .and_then(Node::as_bool)
            .unwrap_or(service.enabled)
    }

    /// The services that are switched on.
    pub(crate) fn enabled(&self) -> impl Iterator<Item = &'a Service> + use<'a, '_> {
        self.manifest.services.iter().filter(|service| self.is_enabled(service))
    }

    /// Their names.
    pub(crate) fn enabled_names(&self) -> BTreeSet<&'a str> {
        self.enabled().map(|service| service.name.as_str()).collect()
    }

    /// The setting of a service.
    pub(crate) fn setting(&self, service: &str, name: &str) -> Option<&'a Node> {
        self.root.find(&["services", service, "settings", name])
    }

    fn context(&self) -> Option<Context> {
        match self.root.get("context") {
            None => Some(Context::Local),
            Some(context) => Context::parse(context.as_str()?),
        }
    }

    /// Where something stands; what stands nowhere in the text is told at what holds it.
    fn at(&self, keys: &[&str]) -> Position {
        let mut node = self.root;
        for key in keys {
            match node.get(key) {
                Some(inner) => node = inner,
                None => break,
            }
        }
        node.at
    }

    /// Where the service stands.
    fn at_service(&self, name: &str) -> Position {
        let services = self.root.get("services").map(Node::entries).unwrap_or_default();
        let entry = services.iter().find(|entry| entry.key == name);
        entry.map_or_else(|| self.at(&["services"]), |entry| entry.key_at)
    }
}

/// What the rules have found so far, and the work that is left.
pub(crate) struct Findings<'a> {
    pub(crate) verdict: Verdict,
    pub(crate) budget: &'a mut Budget,
}

impl Findings<'_> {
    fn error(&mut self, problem: Problem) {
        self.verdict.errors.push(problem);
    }

    fn warning(&mut self, problem: Problem) {
        self.verdict.warnings.push(problem);
    }
}

/// One rule, or a few that look at the same.
type Rule = fn(&Spec<'_>, &mut Findings<'_>) -> Result<(), Exhausted>;

/// Every rule, in the order in which a reader would ask.
const RULES: [Rule; 8] = [
    topology::check,
    network::check,
    services::check,
    ports::check,
    resources::check,
    platform::check,
    secrets::check,
    platform::check_maturity,
];

/// Holds a spec against every rule.
pub(crate) fn check(spec: &Spec<'_>, findings: &mut Findings<'_>) {
    for rule in RULES {
        if rule(spec, findings) == Err(Exhausted) {
            let message = "takes more steps to check than a spec may";
            findings.error(Problem::new(Code::ConstraintViolation, Position::START, "", message));
            return;
        }
    }
}
