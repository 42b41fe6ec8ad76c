//! Which kit, which version, which nodes.

use std::collections::BTreeMap;

use super::{Findings, Spec};
use crate::budget::Exhausted;
use crate::manifest::Role;
use crate::node::{Node, printable};
use crate::problem::{Code, Problem};
use crate::range::read_range;

pub(super) fn check(spec: &Spec<'_>, findings: &mut Findings<'_>) -> Result<(), Exhausted> {
    kit(spec, findings);
    version(spec, findings);
    nodes(spec, findings)
}

fn kit(spec: &Spec<'_>, findings: &mut Findings<'_>) {
    let id = &spec.manifest.id;
    if let Some(node) = spec.root.get("kit").filter(|node| node.as_str().is_some_and(|kit| kit != id)) {
        let message = format!("names another kit than `{id}`");
        findings.error(
            Problem::new(Code::ConstraintViolation, node.at, "kit", message).hint(format!("kit: {id}")),
        );
    }
}

fn version(spec: &Spec<'_>, findings: &mut Findings<'_>) {
    let Some((node, text)) = spec.root.get("version").and_then(|node| Some((node, node.as_str()?))) else {
        return;
    };
    let problem = match read_range(text) {
        None => Problem::new(Code::InvalidFormat, node.at, "version", "must be a range of semver versions")
            .hint("for example ^1.0 or =1.2.3"),
        Some(range) if !range.matches(&spec.manifest.version) => {
            let message =
                format!("does not allow {}, the version that it is checked against", spec.manifest.version);
            Problem::new(Code::ConstraintViolation, node.at, "version", message)
                .hint(format!("for example ^{}", spec.manifest.version))
        }
        Some(_) => return,
    };
    findings.error(problem);
}

fn nodes(spec: &Spec<'_>, findings: &mut Findings<'_>) -> Result<(), Exhausted> {
    let nodes = spec.nodes();
    findings.budget.spend(nodes.len())?;
    let (mut names, mut addresses) = (BTreeMap::new(), BTreeMap::new());
    for node in &nodes {
        let at = |key| {
            let value = spec.root.get("nodes").and_then(|nodes| nodes.items().get(node.index)?.get(key));
            (value.map_or(node.at, |value: &Node| value.at), format!("nodes[{}].{key}", node.index))
        };
        for (key, value, taken) in [("name", node.name, &mut names), ("ip", node.ip, &mut addresses)] {
            if let Some(first) = taken.insert(value, node.index) {
                let (at, path) = at(key);
                let message = format!("`{}` is the {key} of nodes[{first}], too", printable(value));
                findings.error(Problem::new(Code::ConstraintViolation, at, path, message));
            }
        }
    }
    let main = nodes.iter().filter(|node| node.role == Role::Main).count();
    if spec.nodes_are_whole() && main != 1 {
        let at = spec.at(&["nodes"]);
        let message = format!("exactly one node has the role main, not {main}");
        let hint = if main == 0 {
            "give one node `role: main`"
        } else {
            "give the others `role: worker` or `role: storage`"
        };
        findings.error(Problem::new(Code::ConstraintViolation, at, "nodes", message).hint(hint));
    }
    Ok(())
}
