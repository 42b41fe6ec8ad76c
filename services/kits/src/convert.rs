//! Domain to wire. Each function takes its value apart field by field, so that a new field must find its place here.

use std::collections::BTreeMap;

use kombify_contracts::kombify::kits::v1 as pb;
use kombify_core::Error;
use kombify_kit::{
    DEFAULT_SPEC, HealthCheck, Kit, Manifest, Os, Port, Problem, README, Requirements, Resources, Service,
    UseCase, Version, Volume,
};

use crate::gate::Viewer;
use crate::index::Release;

/// A number, as the wire has it.
pub fn number(number: u32) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}

/// A kit in a list.
pub fn summary(release: &Release, viewer: &Viewer, versions: usize) -> pb::KitSummary {
    let manifest = &release.manifest;
    pb::KitSummary {
        id: manifest.id.clone(),
        version: manifest.version.to_string(),
        title: manifest.title.clone(),
        description: manifest.description.clone(),
        tags: manifest.tags.clone(),
        maturity: manifest.maturity.to_string(),
        min_plan: release.needed_plan().to_string(),
        available: viewer.may_have(release),
        version_count: i32::try_from(versions).unwrap_or(i32::MAX),
    }
}

/// A kit, which its viewer may have.
pub fn kit(release: &Release, versions: &[Version], whole: &Kit) -> pb::Kit {
    let Manifest {
        id,
        version,
        title,
        description,
        licence,
        tags,
        maturity,
        min_plan: _,
        contexts,
        os,
        requirements: Requirements { minimum, recommended },
        use_cases,
        services,
    } = &release.manifest;
    pb::Kit {
        id: id.clone(),
        version: version.to_string(),
        digest: release.digest.to_string(),
        title: title.clone(),
        description: description.clone(),
        licence: licence.clone(),
        tags: tags.clone(),
        maturity: maturity.to_string(),
        min_plan: release.needed_plan().to_string(),
        contexts: contexts.iter().map(ToString::to_string).collect(),
        os: os.iter().map(operating_system).collect(),
        minimum: Some(resources(*minimum)),
        recommended: Some(resources(*recommended)),
        use_cases: use_cases.iter().map(use_case).collect(),
        services: services.iter().map(service).collect(),
        versions: versions.iter().map(ToString::to_string).collect(),
        readme: whole.text(README).to_owned(),
        default_spec_yaml: whole.text(DEFAULT_SPEC).to_owned(),
    }
}

fn operating_system(os: &Os) -> pb::OperatingSystem {
    let Os { name, version, architectures } = os;
    pb::OperatingSystem {
        name: name.clone(),
        version: version.clone(),
        architectures: architectures.iter().map(ToString::to_string).collect(),
    }
}

fn resources(resources: Resources) -> pb::Resources {
    let Resources { cpus, memory_mb, disk_gb } = resources;
    pb::Resources { cpus, memory_mb: number(memory_mb), disk_gb }
}

fn use_case(use_case: &UseCase) -> pb::UseCase {
    let UseCase { name, title, services, required } = use_case;
    pb::UseCase { name: name.clone(), title: title.clone(), services: services.clone(), required: *required }
}

fn service(service: &Service) -> pb::Service {
    let Service {
        name,
        title,
        description,
        homepage,
        image,
        enabled,
        role,
        architectures,
        depends_on,
        ports,
        volumes,
        health_check: HealthCheck { port: asked, path },
        resources: taken,
    } = service;
    pb::Service {
        name: name.clone(),
        title: title.clone(),
        description: description.clone(),
        homepage: homepage.clone(),
        image: image.to_string(),
        enabled: *enabled,
        role: role.to_string(),
        architectures: architectures.iter().map(ToString::to_string).collect(),
        depends_on: depends_on.clone(),
        ports: ports.iter().map(port).collect(),
        volumes: volumes.iter().map(volume).collect(),
        health_check: asked.as_ref().map(|port| pb::HealthCheck { port: port.clone(), path: path.clone() }),
        resources: Some(resources(*taken)),
    }
}

fn port(port: &Port) -> pb::Port {
    let Port { name, container, protocol, host, setting } = port;
    pb::Port {
        name: name.clone(),
        container: i32::from(*container),
        protocol: protocol.to_string(),
        host: host.map_or(0, i32::from),
        setting: setting.clone().unwrap_or_default(),
    }
}

fn volume(volume: &Volume) -> pb::Volume {
    let Volume { name, path, description, backup } = volume;
    pb::Volume { name: name.clone(), path: path.clone(), description: description.clone(), backup: *backup }
}

/// One thing about a spec.
pub fn problem(problem: Problem) -> pb::SpecProblem {
    let Problem { at, path, code, message, hint } = problem;
    pb::SpecProblem {
        path,
        message,
        code: code.to_string(),
        line: number(at.line),
        column: number(at.column),
        hint,
    }
}

/// Every fault of a spec by its path behind "spec", as the answer has it.
pub fn problems(problems: &[Problem]) -> Error {
    let mut fields = BTreeMap::new();
    for problem in problems {
        let path = match problem.path.as_str() {
            "" => "spec".to_owned(),
            path => format!("spec.{path}"),
        };
        let Problem { at, code, message, hint, .. } = problem;
        let hint = if hint.is_empty() { String::new() } else { format!("; {hint}") };
        let told = format!("{code} at line {}, column {}: {message}{hint}", at.line, at.column);
        fields
            .entry(path)
            .and_modify(|known: &mut String| *known = format!("{known}. {told}"))
            .or_insert(told);
    }
    Error::Invalid(fields)
}
