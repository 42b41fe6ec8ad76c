//! kit.yaml: what a kit is.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::LazyLock;

use kombify_core::Plan;
use semver::Version;
use serde::Deserialize;

use crate::files::{FILE_BYTES_MAX, Files};
use crate::graph;
use crate::kit::{Finding, MANIFEST};
use crate::node::{Node, Path};
use crate::problem::{Code, Position, Problem};
use crate::schema::Schema;
use crate::yaml;

/// The shape of kit.yaml.
static SCHEMA: LazyLock<Schema> = LazyLock::new(|| built_in(include_str!("../schema/kit.json")));

/// A schema of ours.
pub(crate) fn built_in(text: &str) -> Schema {
    let compiled =
        yaml::read(text, text.len()).map_err(|problem| vec![problem]).and_then(|node| Schema::compile(&node));
    compiled.unwrap_or_else(|problems| unreachable!("a schema of ours is wrong: {problems:?}"))
}

/// What a kit is.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    /// Its id.
    pub id: String,
    /// Its version.
    pub version: Version,
    /// What people read.
    pub title: String,
    /// What it is, in a few sentences.
    pub description: String,
    /// The licence of the kit itself, by SPDX.
    pub licence: String,
    /// What it is found by.
    pub tags: Vec<String>,
    /// How far it is.
    pub maturity: Maturity,
    /// The least plan whose tenants may have it.
    #[serde(deserialize_with = "plan")]
    pub min_plan: Plan,
    /// Where it may be deployed.
    pub contexts: Vec<Context>,
    /// What it was tested on.
    pub os: Vec<Os>,
    /// What it needs, of all nodes together.
    pub requirements: Requirements,
    /// What alternatives there are.
    pub use_cases: Vec<UseCase>,
    /// Its services, in the order of the file.
    pub services: Vec<Service>,
}

fn plan<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Plan, D::Error> {
    String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
}

macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$of:meta])* $variant:ident = $text:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize)]
        #[serde(rename_all = "kebab-case")]
        pub enum $name { $($(#[$of])* $variant,)* }

        impl $name {
            /// The word as it stands in files and answers.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)* }
            }

            /// The value that is written `text`.
            pub fn parse(text: &str) -> Option<Self> {
                match text { $($text => Some(Self::$variant),)* _ => None }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}

words! {
    /// How far a kit is.
    Maturity {
        /// It may change in every way.
        Experimental = "experimental",
        /// It works, and may still change.
        Beta = "beta",
        /// It keeps to semver.
        Stable = "stable",
        /// Nobody works on it any more.
        Deprecated = "deprecated",
    }
}

words! {
    /// Where a stack is deployed.
    Context {
        /// On machines at home.
        Local = "local",
        /// On rented machines.
        Cloud = "cloud",
        /// On Raspberry Pis: arm64, and at most 4 CPUs, 8 GB of memory and 128 GB of disk.
        Pi = "pi",
    }
}

words! {
    /// What a node is for.
    Role {
        /// The one that everything runs on that names no other.
        Main = "main",
        /// One that takes load.
        Worker = "worker",
        /// One that keeps data.
        Storage = "storage",
    }
}

words! {
    /// The instruction set of a machine.
    Architecture {
        /// x86-64.
        Amd64 = "amd64",
        /// 64-bit ARM.
        Arm64 = "arm64",
    }
}

words! {
    /// What a port speaks.
    Protocol {
        /// TCP.
        Tcp = "tcp",
        /// UDP.
        Udp = "udp",
    }
}

impl Context {
    /// The architecture of the machines there, where it is only one.
    pub const fn architecture(self) -> Option<Architecture> {
        match self {
            // Machines of either kind stand at home, and can be rented.
            Self::Local | Self::Cloud => None,
            Self::Pi => Some(Architecture::Arm64),
        }
    }
}

/// An operating system that a kit was tested on.
#[derive(Clone, Debug, Deserialize)]
pub struct Os {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// On which machines.
    pub architectures: Vec<Architecture>,
}

/// What a kit needs.
#[derive(Clone, Copy, Debug, Deserialize)]
pub struct Requirements {
    /// Without this it does not work.
    pub minimum: Resources,
    /// With this it works well.
    pub recommended: Resources,
}

/// An amount of resources.
#[derive(Clone, Copy, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Resources {
    /// CPUs.
    pub cpus: f64,
    /// Memory, in megabytes (2^20 bytes).
    pub memory_mb: u32,
    /// Disk, in gigabytes (10^9 bytes).
    pub disk_gb: f64,
}

/// What several services can do, of which one is taken.
#[derive(Clone, Debug, Deserialize)]
pub struct UseCase {
    /// Its name; no service has it.
    pub name: String,
    /// What people read.
    pub title: String,
    /// The services.
    pub services: Vec<String>,
    /// Whether one of them has to be there.
    pub required: bool,
}

/// One service of a kit.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Service {
    /// Its name.
    pub name: String,
    /// What people read.
    pub title: String,
    /// What it is for.
    pub description: String,
    /// The page of who makes it.
    pub homepage: String,
    /// What it runs.
    pub image: Image,
    /// Whether it is there where a spec says nothing.
    pub enabled: bool,
    /// Which node it runs on.
    pub role: Role,
    /// Which machines its image runs on.
    pub architectures: Vec<Architecture>,
    /// What has to run before it: services or use cases.
    pub depends_on: Vec<String>,
    /// Its ports.
    pub ports: Vec<Port>,
    /// What it keeps.
    pub volumes: Vec<Volume>,
    /// How it is seen from outside whether it is well.
    pub health_check: HealthCheck,
    /// What it takes.
    pub resources: Resources,
}

/// An image by its tag; the digest is found when it is deployed.
#[derive(Clone, Debug, Deserialize)]
pub struct Image {
    /// The registry, for example "docker.io".
    pub registry: String,
    /// The repository, for example "jellyfin/jellyfin".
    pub repository: String,
    /// The tag.
    pub tag: String,
}

impl fmt::Display for Image {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}:{}", self.registry, self.repository, self.tag)
    }
}

/// A port of a service.
#[derive(Clone, Debug, Deserialize)]
pub struct Port {
    /// Its name.
    pub name: String,
    /// Its number in the container.
    pub container: u16,
    /// What it speaks.
    pub protocol: Protocol,
    /// Its number on the node, where that is fixed.
    #[serde(default)]
    pub host: Option<u16>,
    /// The setting of the service that is its number on the node.
    #[serde(default)]
    pub setting: Option<String>,
}

/// Data that a service keeps.
#[derive(Clone, Debug, Deserialize)]
pub struct Volume {
    /// The name of the volume.
    pub name: String,
    /// Where the service has it.
    pub path: String,
    /// What is in it.
    pub description: String,
    /// Whether it is to be backed up.
    pub backup: bool,
}

/// How it is seen from outside whether a service is well.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct HealthCheck {
    /// The name of the port that is asked; `None`: the container's own health check is all.
    #[serde(default)]
    pub port: Option<String>,
    /// The path that is asked by HTTP; empty: a connection is enough.
    #[serde(default)]
    pub path: String,
}

impl Manifest {
    /// Reads kit.yaml.
    ///
    /// # Errors
    /// - everything that is wrong with it.
    pub fn read(node: &Node) -> Result<Self, Vec<Problem>> {
        let problems = SCHEMA.check(node);
        if !problems.is_empty() {
            return Err(problems);
        }
        let mut budget = crate::budget::Budget::new();
        let filled = SCHEMA.fill(node, &mut budget).unwrap_or_else(|| node.clone());
        let manifest: Self = serde_json::from_value(filled.to_json()).map_err(|cause| {
            // What the shape leaves open: only the version is more than its pattern says.
            let at = node.get("version").map_or(node.at, |version| version.at);
            vec![
                Problem::new(Code::InvalidFormat, at, "version", format!("is no semver version: {cause}"))
                    .hint("for example 1.0.0"),
            ]
        })?;
        let problems = Checker { manifest: &manifest, node, problems: Vec::new() }.check();
        if problems.is_empty() { Ok(manifest) } else { Err(problems) }
    }

    /// The manifest of a kit.
    ///
    /// # Errors
    /// - the first thing that is wrong with it.
    pub fn of(files: &Files) -> Result<Self, Finding> {
        let at = |problem| Finding { file: MANIFEST.to_owned(), problem };
        let missing = || at(Problem::new(Code::Required, Position::START, "", "is missing"));
        let bytes = files.find(MANIFEST).ok_or_else(missing)?;
        let text = String::from_utf8_lossy(bytes);
        let node = yaml::read(&text, FILE_BYTES_MAX).map_err(at)?;
        Self::read(&node).map_err(|problems| problems.into_iter().next().map_or_else(missing, at))
    }

    /// The service of that name.
    pub fn service(&self, name: &str) -> Option<&Service> {
        self.services.iter().find(|service| service.name == name)
    }

    /// The use case that the service is one of.
    pub fn use_case_of(&self, service: &str) -> Option<&UseCase> {
        self.use_cases.iter().find(|use_case| use_case.services.iter().any(|name| name == service))
    }
}

/// Holds a manifest against the rules between its fields.
struct Checker<'a> {
    manifest: &'a Manifest,
    node: &'a Node,
    problems: Vec<Problem>,
}

impl Checker<'_> {
    fn check(mut self) -> Vec<Problem> {
        self.unique("useCases", self.manifest.use_cases.iter().map(|one| one.name.clone()).collect());
        self.unique("services", self.manifest.services.iter().map(|one| one.name.clone()).collect());
        self.use_cases();
        for (index, service) in self.manifest.services.iter().enumerate() {
            self.service(index, service);
        }
        if !self.manifest.version.build.is_empty() {
            let message = "has build metadata (`+...`), which no range can name".to_owned();
            self.tell(Code::InvalidFormat, &["version"], None, &[], message);
        }
        self.requirements();
        self.dependencies();
        self.problems
    }

    fn tell(&mut self, code: Code, keys: &[&str], index: Option<usize>, inner: &[&str], message: String) {
        let mut node = self.node.find(keys).unwrap_or(self.node);
        let mut path = Path::of(keys);
        if let Some(index) = index {
            node = node.items().get(index).unwrap_or(node);
            path = path.index(index);
        }
        for key in inner {
            node = node.get(key).unwrap_or(node);
            path = path.key(key);
        }
        self.problems.push(Problem::new(code, node.at, path.to_string(), message));
    }

    fn unique(&mut self, key: &str, names: Vec<String>) {
        let mut seen = BTreeSet::new();
        for (index, name) in names.into_iter().enumerate() {
            if !seen.insert(name.clone()) {
                let message = format!("`{name}` is there already");
                self.tell(Code::ConstraintViolation, &[key], Some(index), &["name"], message);
            }
        }
    }

    fn use_cases(&mut self) {
        let manifest = self.manifest;
        let mut taken: BTreeMap<&str, &str> = BTreeMap::new();
        for (index, use_case) in manifest.use_cases.iter().enumerate() {
            let at = |inner| (["useCases"], Some(index), inner);
            if manifest.service(&use_case.name).is_some() {
                let (keys, index, inner) = at(["name"]);
                let message = format!("`{}` is the name of a service, too", use_case.name);
                self.tell(Code::ConstraintViolation, &keys, index, &inner, message);
            }
            for name in &use_case.services {
                let (keys, index, inner) = at(["services"]);
                if manifest.service(name).is_none() {
                    self.tell(
                        Code::UnknownService,
                        &keys,
                        index,
                        &inner,
                        format!("there is no service `{name}`"),
                    );
                } else if let Some(other) = taken.insert(name, &use_case.name) {
                    let message = format!("`{name}` is one of the use case `{other}` already");
                    self.tell(Code::ConstraintViolation, &keys, index, &inner, message);
                }
            }
        }
    }

    fn service(&mut self, index: usize, service: &Service) {
        let manifest = self.manifest;
        for name in &service.depends_on {
            let known = manifest.service(name).is_some()
                || manifest.use_cases.iter().any(|use_case| use_case.name == *name);
            if !known {
                let message = format!("there is no service and no use case `{name}`");
                self.tell(Code::UnknownService, &["services"], Some(index), &["dependsOn"], message);
            }
        }
        let mut ports = BTreeSet::new();
        for port in &service.ports {
            if !ports.insert(port.name.as_str()) {
                let message = format!("two ports are named `{}`", port.name);
                self.tell(Code::ConstraintViolation, &["services"], Some(index), &["ports"], message);
            }
            if port.host.is_some() && port.setting.is_some() {
                let message = format!("the port `{}` has both `host` and `setting`: keep one", port.name);
                self.tell(Code::ConstraintViolation, &["services"], Some(index), &["ports"], message);
            }
        }
        if let Some(port) = service.health_check.port.as_ref().filter(|port| !ports.contains(port.as_str())) {
            let message = format!("there is no port `{port}`");
            self.tell(
                Code::ConstraintViolation,
                &["services"],
                Some(index),
                &["healthCheck", "port"],
                message,
            );
        }
        if service.health_check.port.is_none() && !service.health_check.path.is_empty() {
            let message = "a path is asked at a port: name one".to_owned();
            self.tell(Code::Required, &["services"], Some(index), &["healthCheck", "path"], message);
        }
        if matches!(service.image.tag.as_str(), "latest" | "stable" | "edge" | "nightly" | "main" | "master")
        {
            let message = format!("`{}` is a tag that moves: name a fixed one", service.image.tag);
            self.tell(Code::ConstraintViolation, &["services"], Some(index), &["image", "tag"], message);
        }
    }

    fn requirements(&mut self) {
        let Requirements { minimum, recommended } = self.manifest.requirements;
        let less = minimum.cpus > recommended.cpus
            || minimum.memory_mb > recommended.memory_mb
            || minimum.disk_gb > recommended.disk_gb;
        if less {
            let message = "is less than the minimum".to_owned();
            self.tell(Code::ConstraintViolation, &["requirements", "recommended"], None, &[], message);
        }
    }

    /// With what is enabled by default: what a spec chooses is checked with the spec.
    fn dependencies(&mut self) {
        let enabled: BTreeSet<&str> = self
            .manifest
            .services
            .iter()
            .filter(|service| service.enabled)
            .map(|service| service.name.as_str())
            .collect();
        if let Some(circle) = graph::circle(self.manifest, &enabled) {
            let message = format!("these wait for each other: {}", circle.join(" -> "));
            self.tell(Code::DependencyCycle, &["services"], None, &[], message);
        }
    }
}
