//! Whether the nodes have what the services take.

use std::collections::BTreeMap;

use super::{Findings, Spec};
use crate::budget::Exhausted;
use crate::manifest::{Context, Resources, Role};
use crate::node::Node;
use crate::problem::{Code, Problem};

/// What a node of a tier has. Source: docs/guides/stackkits.md, "A spec".
const TIERS: [(&str, Resources); 3] = [
    ("low", Resources { cpus: 2.0, memory_mb: 4096, disk_gb: 32.0 }),
    ("standard", Resources { cpus: 4.0, memory_mb: 8192, disk_gb: 128.0 }),
    ("high", Resources { cpus: 8.0, memory_mb: 32_768, disk_gb: 512.0 }),
];

/// What a Raspberry Pi has at most.
const PI: Resources = Resources { cpus: 4.0, memory_mb: 8192, disk_gb: 128.0 };

pub(super) fn check(spec: &Spec<'_>, findings: &mut Findings<'_>) -> Result<(), Exhausted> {
    let tier = spec.root.find(&["compute", "tier"]);
    let name = tier.map_or(Some("low"), Node::as_str);
    let Some((name, node_has)) = TIERS.into_iter().find(|(tier, _)| Some(*tier) == name) else {
        return Ok(());
    };
    if !spec.nodes_are_whole() {
        return Ok(());
    }
    let pi = spec.context() == Some(Context::Pi);
    let node_has = if pi { least(node_has, PI) } else { node_has };
    let nodes = spec.nodes();
    let at = spec.at(&["compute", "tier"]);
    let mut taken: BTreeMap<&str, (Role, Resources)> = BTreeMap::new();
    for service in spec.enabled() {
        findings.budget.spend(nodes.len())?;
        let Some(node) = Spec::node_of(&nodes, service.role) else { continue };
        let (_, sum) = taken.entry(node.name).or_insert((node.role, Resources::default()));
        *sum = add(*sum, service.resources);
    }
    for (node, (_, sum)) in &taken {
        for lack in lacks(*sum, node_has) {
            let message = format!("the services of node {node} take {lack} that a node of tier {name} has");
            let hint = "take a higher tier, give services another node by its role, or switch some off";
            findings.error(Problem::new(Code::ResourceExceeded, at, "compute.tier", message).hint(hint));
        }
    }
    let count = u32::try_from(nodes.len()).unwrap_or(u32::MAX);
    let all = Resources {
        cpus: node_has.cpus * f64::from(count),
        memory_mb: node_has.memory_mb.saturating_mul(count),
        disk_gb: node_has.disk_gb * f64::from(count),
    };
    let needed = spec.manifest.requirements;
    let under = lacks(needed.minimum, all);
    for lack in &under {
        let message = format!("the kit needs {lack} that {count} of tier {name} have");
        findings.error(
            Problem::new(Code::ResourceExceeded, at, "compute.tier", message).hint("take a higher tier"),
        );
    }
    if under.is_empty() {
        for lack in lacks(needed.recommended, all) {
            let message = format!("the kit works well with {lack} that {count} of tier {name} have");
            let problem = Problem::new(Code::ResourceExceeded, at, "compute.tier", message);
            findings.warning(problem.hint("take a higher tier"));
        }
    }
    Ok(())
}

fn least(one: Resources, other: Resources) -> Resources {
    Resources {
        cpus: one.cpus.min(other.cpus),
        memory_mb: one.memory_mb.min(other.memory_mb),
        disk_gb: one.disk_gb.min(other.disk_gb),
    }
}

fn add(one: Resources, other: Resources) -> Resources {
    Resources {
        cpus: one.cpus + other.cpus,
        memory_mb: one.memory_mb.saturating_add(other.memory_mb),
        disk_gb: one.disk_gb + other.disk_gb,
    }
}

/// What is wanted beyond what is there, in words.
fn lacks(wanted: Resources, there: Resources) -> Vec<String> {
    let mut lacks = Vec::new();
    // Sums of decimal fractions are a little off.
    if wanted.cpus > there.cpus + 1e-9 {
        lacks.push(format!("{} CPUs, more than the {}", round(wanted.cpus), round(there.cpus)));
    }
    if wanted.memory_mb > there.memory_mb {
        lacks.push(format!("{} MB of memory, more than the {}", wanted.memory_mb, there.memory_mb));
    }
    if wanted.disk_gb > there.disk_gb + 1e-9 {
        lacks.push(format!("{} GB of disk, more than the {}", round(wanted.disk_gb), round(there.disk_gb)));
    }
    lacks
}

fn round(number: f64) -> f64 {
    (number * 100.0).round() / 100.0
}
