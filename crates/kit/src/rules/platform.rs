//! Whether the kit runs where the spec wants it.

use super::{Findings, Spec};
use crate::budget::Exhausted;
use crate::manifest::{Architecture, Maturity};
use crate::problem::{Code, Problem};

pub(super) fn check(spec: &Spec<'_>, findings: &mut Findings<'_>) -> Result<(), Exhausted> {
    let Some(context) = spec.context() else { return Ok(()) };
    let manifest = spec.manifest;
    let at = spec.at(&["context"]);
    if !manifest.contexts.contains(&context) {
        let known: Vec<_> = manifest.contexts.iter().map(|context| context.as_str()).collect();
        let message = format!("the kit is not made for the context {context}");
        let hint = format!("it is made for {}", known.join(", "));
        findings.error(Problem::new(Code::ConstraintViolation, at, "context", message).hint(hint));
        return Ok(());
    }
    let Some(architecture) = context.architecture() else { return Ok(()) };
    if !manifest.os.iter().any(|os| os.architectures.contains(&architecture)) {
        let systems: Vec<_> = manifest.os.iter().map(|os| format!("{} {}", os.name, os.version)).collect();
        let message =
            format!("the context {context} is {architecture}, on which the kit supports no operating system");
        let hint = format!("it supports {}", systems.join(", "));
        findings.error(Problem::new(Code::ConstraintViolation, at, "context", message).hint(hint));
    }
    for service in spec.enabled() {
        findings.budget.spend(1)?;
        if !service.architectures.contains(&architecture) {
            let known: Vec<_> = service.architectures.iter().copied().map(Architecture::as_str).collect();
            let at = spec.at_service(&service.name);
            let message = format!("has no image for {architecture}, which the context {context} is");
            let hint = format!("it has one for {}: switch it off, or take another context", known.join(", "));
            let path = format!("services.{}", service.name);
            findings.error(Problem::new(Code::ConstraintViolation, at, path, message).hint(hint));
        }
    }
    Ok(())
}

pub(super) fn check_maturity(spec: &Spec<'_>, findings: &mut Findings<'_>) -> Result<(), Exhausted> {
    findings.budget.spend(1)?;
    if spec.manifest.maturity == Maturity::Deprecated {
        let message = "the kit is deprecated: nobody works on it any more";
        findings.warning(Problem::new(Code::ConstraintViolation, spec.at(&["kit"]), "kit", message));
    }
    Ok(())
}
