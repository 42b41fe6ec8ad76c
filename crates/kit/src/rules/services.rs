//! Which services are switched on, and what they need of each other.

use std::collections::BTreeSet;

use super::{Findings, Spec};
use crate::budget::Exhausted;
use crate::graph;
use crate::manifest::{Service, UseCase};
use crate::node::Node;
use crate::problem::{Code, Problem};
use crate::similar;

pub(super) fn check(spec: &Spec<'_>, findings: &mut Findings<'_>) -> Result<(), Exhausted> {
    let enabled = spec.enabled_names();
    unknown(spec, findings)?;
    for use_case in &spec.manifest.use_cases {
        findings.budget.spend(use_case.services.len())?;
        one_of(use_case, spec, &enabled, findings);
    }
    for service in spec.enabled() {
        findings.budget.spend(service.depends_on.len() * spec.manifest.services.len())?;
        needs(service, spec, &enabled, findings);
    }
    let dependencies: usize = spec.manifest.services.iter().map(|service| service.depends_on.len() + 1).sum();
    findings.budget.spend(dependencies * spec.manifest.services.len())?;
    if let Some(circle) = graph::circle(spec.manifest, &enabled) {
        let first = circle.first().cloned().unwrap_or_default();
        let message = format!("these wait for each other: {}", circle.join(" -> "));
        let problem = Problem::new(
            Code::DependencyCycle,
            spec.at_service(&first),
            format!("services.{first}"),
            message,
        );
        findings.error(problem.hint("switch one of them off, or take another alternative"));
    }
    Ok(())
}

/// What the schema has as a service, and the kit has not, or what the schema leaves open.
fn unknown(spec: &Spec<'_>, findings: &mut Findings<'_>) -> Result<(), Exhausted> {
    let entries = spec.root.get("services").map(Node::entries).unwrap_or_default();
    for entry in entries {
        findings.budget.spend(1)?;
        if spec.manifest.service(&entry.key).is_none() {
            let names = || spec.manifest.services.iter().map(|service| service.name.as_str());
            let hint = similar::hint(&entry.key, names()).unwrap_or_else(|| similar::choices(names()));
            let path = crate::node::Path::of(&["services", &entry.key]).to_string();
            let message = "is a service that is not known here";
            findings.error(Problem::new(Code::UnknownService, entry.key_at, path, message).hint(hint));
        }
    }
    Ok(())
}

fn one_of(use_case: &UseCase, spec: &Spec<'_>, enabled: &BTreeSet<&str>, findings: &mut Findings<'_>) {
    let on: Vec<&str> =
        use_case.services.iter().map(String::as_str).filter(|name| enabled.contains(name)).collect();
    let (at, path, message, hint) = match on.as_slice() {
        [] if use_case.required => {
            let message =
                format!("one of {} has to be switched on: {}", use_case.services.join(", "), use_case.title);
            (
                spec.at(&["services"]),
                "services".to_owned(),
                message,
                "set `enabled: true` for one of them".to_owned(),
            )
        }
        [] | [_] => return,
        [first, second, ..] => {
            let message = format!("{first} and {second} are alternatives: {}", use_case.title);
            let hint = format!("set `enabled: false` for all but one of {}", on.join(", "));
            (spec.at_service(second), format!("services.{second}.enabled"), message, hint)
        }
    };
    findings.error(Problem::new(Code::ConstraintViolation, at, path, message).hint(hint));
}

fn needs(service: &Service, spec: &Spec<'_>, enabled: &BTreeSet<&str>, findings: &mut Findings<'_>) {
    for name in &service.depends_on {
        if graph::resolve(spec.manifest, name, enabled).is_none() {
            let at = spec.at_service(&service.name);
            let message = format!("needs {name}, which is switched off");
            let hint = format!("switch {name} on, or {} off", service.name);
            let path = format!("services.{}.enabled", service.name);
            findings.error(Problem::new(Code::ConstraintViolation, at, path, message).hint(hint));
        }
    }
}
