//! A whole kit: read from its files, and what can be asked of it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::LazyLock;

use crate::budget::Budget;
use crate::compose::{self, Which};
use crate::files::Files;
use crate::manifest::{Manifest, built_in};
use crate::node::{Node, Path, Value};
use crate::placeholder::{self, Part};
use crate::problem::{Code, Position, Problem, Verdict};
use crate::rules::{self, Findings, Spec};
use crate::schema::{Format, Schema};
use crate::yaml::{self, SPEC_MAX_BYTES};
use crate::{archive, emit, files};

/// What the manifest is in.
pub const MANIFEST: &str = "kit.yaml";
/// What a spec may say, in CUE.
pub const CUE: &str = "schema.cue";
/// The same, as JSON Schema.
pub const SCHEMA: &str = "schema.json";
/// What the Compose file is made of.
pub const COMPOSE: &str = "compose.yaml";
/// The spec to start from.
pub const DEFAULT_SPEC: &str = "default-spec.yaml";
/// What one gets, and what it needs.
pub const README: &str = "README.md";
/// Where the tests are.
pub const TESTS: &str = "tests/";

/// The files that every kit has.
const REQUIRED: [&str; 6] = [MANIFEST, CUE, SCHEMA, COMPOSE, DEFAULT_SPEC, README];

/// What every spec may say.
static BASE: LazyLock<Schema> = LazyLock::new(|| built_in(include_str!("../schema/spec.json")));

/// What is wrong in a file of a kit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The file.
    pub file: String,
    /// What is wrong.
    pub problem: Problem,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file, self.problem)
    }
}

/// A kit that can be used: its files agree with each other.
#[derive(Clone, Debug)]
pub struct Kit {
    files: Files,
    digest: archive::Digest,
    manifest: Manifest,
    schema: Schema,
    compose: Node,
}

/// A Compose file that a spec made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rendered {
    /// The file.
    pub compose_yaml: String,
    /// What a user should know of the spec.
    pub warnings: Vec<Problem>,
}

impl Kit {
    /// Reads a kit.
    ///
    /// # Errors
    /// - everything that is wrong with it, as far as it can be seen.
    pub fn load(files: Files) -> Result<Self, Vec<Finding>> {
        let mut findings = Vec::new();
        for name in REQUIRED {
            if files.find(name).is_none() {
                let message = "is missing";
                findings.push(Finding {
                    file: name.to_owned(),
                    problem: Problem::new(Code::Required, Position::START, "", message),
                });
            }
        }
        let manifest = part(&files, MANIFEST, &mut findings, |node| Manifest::read(&node));
        let schema = part(&files, SCHEMA, &mut findings, |node| Schema::compile(&node));
        let compose = part(&files, COMPOSE, &mut findings, Ok);
        let (Some(manifest), Some(schema), Some(compose)) = (manifest, schema, compose) else {
            return Err(findings);
        };
        let digest = files.digest();
        let kit = Self { files, digest, manifest, schema, compose };
        findings.extend(kit.check());
        if findings.is_empty() { Ok(kit) } else { Err(findings) }
    }

    /// Its files.
    pub const fn files(&self) -> &Files {
        &self.files
    }

    /// What identifies the version: the hash of what is in it.
    pub const fn digest(&self) -> &archive::Digest {
        &self.digest
    }

    /// What it is.
    pub const fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// About how much memory it takes, in bytes.
    pub fn weight_bytes(&self) -> usize {
        self.files.bytes() * 4 + self.schema.weight_bytes()
    }

    /// The text of one of its files; empty where that is not there.
    pub fn text(&self, name: &str) -> &str {
        self.files.find(name).and_then(|bytes| std::str::from_utf8(bytes).ok()).unwrap_or_default()
    }

    /// Checks a spec; `strict` makes warnings errors.
    pub fn validate(&self, spec: &str, strict: bool) -> Verdict {
        self.make(spec, strict).0
    }

    /// Checks the shape of a spec alone, as `cue vet` does with the kit's other schema.
    pub fn has_shape(&self, spec: &str) -> bool {
        yaml::read(spec, SPEC_MAX_BYTES).is_ok_and(|node| self.schema.check(&node).is_empty())
    }

    /// The Compose file that a spec makes.
    ///
    /// # Errors
    /// - what is wrong with the spec.
    pub fn render(&self, spec: &str) -> Result<Rendered, Verdict> {
        let (verdict, file) = self.make(spec, false);
        match file {
            Some(file) => Ok(Rendered { compose_yaml: emit::emit(&file), warnings: verdict.warnings }),
            None => Err(verdict),
        }
    }

    /// The verdict on a spec, and the Compose file where nothing is wrong.
    fn make(&self, text: &str, strict: bool) -> (Verdict, Option<Node>) {
        let (mut verdict, judged) = self.judge(text, strict);
        let Some((filled, formats)) = judged else { return (verdict, None) };
        let spec = Spec { manifest: &self.manifest, root: &filled, formats: &formats };
        match compose::render(&self.compose, &spec, Which::Enabled) {
            Ok(file) => {
                // What stands in a place that was told already is told once.
                let told: BTreeSet<Position> = verdict.errors.iter().map(|problem| problem.at).collect();
                let made = compose::chosen::check(&self.compose, &file, &spec);
                verdict.errors.extend(made.into_iter().filter(|problem| !told.contains(&problem.at)));
                if verdict.is_valid() {
                    verdict.errors = compose::chosen::check_services(&self.compose, &file, &spec);
                }
                let file = Some(file).filter(|_| verdict.is_valid());
                (verdict.settled(false), file)
            }
            // What has no shape cannot be filled in, and was told.
            Err(_) if !verdict.is_valid() => (verdict, None),
            Err(problem) => {
                // The place is one of compose.yaml.
                verdict.errors.push(Problem { at: Position::START, ..problem });
                (verdict, None)
            }
        }
    }

    /// The verdict on what a spec says, and the spec with its defaults where it could be read.
    fn judge(&self, text: &str, strict: bool) -> (Verdict, Option<(Node, Formats)>) {
        let mut verdict = Verdict::default();
        let document = match yaml::read(text, SPEC_MAX_BYTES) {
            Ok(document) => document,
            Err(problem) => {
                verdict.errors.push(problem);
                verdict.errors.extend(rules::secrets_in_text(text));
                return (verdict.settled(strict), None);
            }
        };
        let mut budget = Budget::new();
        verdict.errors.extend(rules::secrets_in_text(text));
        let (base, own) = (BASE.shape(&document, &mut budget), self.schema.shape(&document, &mut budget));
        // What the kit's own schema says of a place is nearer than what holds for every spec.
        let told: BTreeSet<(Position, String, Code)> =
            own.problems.iter().map(|problem| (problem.at, problem.path.clone(), problem.code)).collect();
        let is_new = |problem: &Problem| !told.contains(&(problem.at, problem.path.clone(), problem.code));
        let shape: Vec<Problem> =
            own.problems.iter().cloned().chain(base.problems.into_iter().filter(is_new)).collect();
        let shapeless: BTreeSet<String> = shape.iter().map(|problem| problem.path.clone()).collect();
        verdict.errors.extend(shape);
        let Some(filled) = self.schema.fill(&self.with_services(&document), &mut budget) else {
            verdict.errors.push(too_much(document.at));
            return (verdict.settled(strict), None);
        };
        // Defaults are values of the spec, too.
        let mut formats = BTreeMap::new();
        let mut missing = Vec::new();
        for schema in [&*BASE, &self.schema] {
            let shape = schema.shape(&filled, &mut budget);
            missing.extend(shape.problems.into_iter().filter(|problem| problem.code == Code::Required));
            formats.extend(shape.formats.into_iter().map(|found| (found.1.clone(), found)));
        }
        let formats: Formats = formats
            .into_iter()
            .filter(|(path, _)| !shapeless.contains(&path.to_string()))
            .map(|(_, found)| found)
            .collect();
        let spec = Spec { manifest: &self.manifest, root: &filled, formats: &formats };
        // What is required of a service is asked for where it is switched on, even if the spec says nothing of it.
        let asked = |problem: &Problem| {
            let mut keys = problem.path.splitn(3, '.');
            keys.next() == Some("services")
                && keys.next().is_some_and(|name| spec.enabled_names().contains(name))
                && !shapeless.contains(&problem.path)
        };
        verdict.errors.extend(missing.into_iter().filter(asked));
        let mut findings = Findings { verdict: Verdict::default(), budget: &mut budget };
        rules::check(&spec, &mut findings);
        let found = findings.verdict;
        // A key that looks like a secret was told by its place: no message repeats it.
        verdict.errors.retain(|problem| !rules::looks_like_a_secret(&problem.path));
        // What does not have its shape was told with it.
        verdict.errors.extend(found.errors.into_iter().filter(|problem| !shapeless.contains(&problem.path)));
        verdict
            .warnings
            .extend(found.warnings.into_iter().filter(|problem| !shapeless.contains(&problem.path)));
        (verdict.settled(strict), Some((filled, formats)))
    }

    /// The spec with the settings of every service, even if there are none: so the defaults of one setting do not hang on
    /// whether another is required.
    fn with_services(&self, document: &Node) -> Node {
        let mut whole = document.clone();
        let empty = || Node { value: Value::Map(Vec::new()), at: document.at };
        let Some(services) = whole.entry_or("services", empty) else { return whole };
        for name in self.manifest.services.iter().map(|service| service.name.as_str()) {
            if self.schema.has(&["services", name, "settings"])
                && let Some(service) = services.entry_or(name, empty)
            {
                service.entry_or("settings", empty);
            }
        }
        whole
    }

    /// Whether the files agree with each other.
    fn check(&self) -> Vec<Finding> {
        let mut findings = Vec::new();
        let mut tell = |file: &str, problem| findings.push(Finding { file: file.to_owned(), problem });
        for name in REQUIRED.into_iter().filter(|name| self.text(name).trim().is_empty()) {
            tell(name, Problem::new(Code::Required, Position::START, "", "is empty, or not UTF-8"));
        }
        for path in self.files.iter().map(|(path, _)| path).filter(|path| !REQUIRED.contains(path)) {
            let test = path.strip_prefix(TESTS).is_some_and(|name| {
                name.split_once('.').is_some_and(|(name, end)| end == "yaml" && !name.contains('/'))
            });
            if !test {
                let message = "is not a file of a kit: those are kit.yaml, schema.cue, schema.json, compose.yaml, default-spec.yaml, README.md and tests/*.yaml";
                tell(path, Problem::new(Code::UnknownField, Position::START, "", message));
            }
        }
        if !self.text(CUE).contains("#Spec:") {
            let message = "has no definition `#Spec`";
            tell(CUE, Problem::new(Code::Required, Position::START, "#Spec", message));
        }
        for name in self.schema_services().iter().filter(|name| self.manifest.service(name).is_none()) {
            let message = format!("kit.yaml has no service `{name}`");
            tell(
                SCHEMA,
                Problem::new(Code::UnknownService, Position::START, format!("services.{name}"), message),
            );
        }
        for service in &self.manifest.services {
            if !self.schema.has(&["services", &service.name]) {
                let message =
                    format!("kit.yaml has the service `{}`, of which a spec may say nothing", service.name);
                let path = format!("services.{}", service.name);
                tell(SCHEMA, Problem::new(Code::Required, Position::START, path, message));
            }
        }
        let mut placeholders = Vec::new();
        self.placeholders(&self.compose, &Path::default(), &mut placeholders);
        let wrong = !placeholders.is_empty();
        for problem in placeholders {
            tell(COMPOSE, problem);
        }
        let default = self.text(DEFAULT_SPEC);
        let (verdict, judged) = self.judge(default, false);
        for problem in verdict.errors {
            tell(DEFAULT_SPEC, problem);
        }
        for problem in self.schema.check_defaults() {
            tell(SCHEMA, problem);
        }
        let base = BASE.properties(&[]).unwrap_or_default();
        for name in
            self.schema.properties(&[]).unwrap_or_default().into_iter().filter(|name| !base.contains(name))
        {
            let message = format!("no spec has it: there are {}", base.join(", "));
            tell(SCHEMA, Problem::new(Code::UnknownField, Position::START, name, message));
        }
        for problem in compose::written::check(&self.compose, &self.manifest) {
            tell(COMPOSE, problem);
        }
        if let Some((filled, formats)) = judged.filter(|_| !wrong) {
            let spec = Spec { manifest: &self.manifest, root: &filled, formats: &formats };
            match compose::render(&self.compose, &spec, Which::All) {
                Ok(file) => {
                    for problem in compose::services::check(&file, &spec) {
                        tell(COMPOSE, problem);
                    }
                }
                Err(problem) => tell(COMPOSE, problem),
            }
        }
        findings.truncate(crate::problem::PROBLEMS_MAX);
        findings
    }

    fn schema_services(&self) -> Vec<String> {
        let names = self.schema.properties(&["services"]).unwrap_or_default();
        names.into_iter().map(str::to_owned).collect()
    }

    /// Placeholders that can never have a value, and keys that have some.
    fn placeholders(&self, node: &Node, path: &Path, problems: &mut Vec<Problem>) {
        let mut tell = |at, path: &Path, message: String| {
            problems.push(Problem::new(Code::ConstraintViolation, at, path.to_string(), message));
        };
        match &node.value {
            Value::Text { text, .. } => match placeholder::parts(text) {
                Err(message) => tell(node.at, path, message),
                Ok(parts) => {
                    for part in parts {
                        let Part::Value(name) = part else { continue };
                        let known = placeholder::is_known(name, &self.manifest, |keys| self.schema.has(keys));
                        if !known {
                            tell(node.at, path, format!("`{name}` can never have a value"));
                        }
                    }
                }
            },
            Value::List(items) => {
                for (index, item) in items.iter().enumerate() {
                    self.placeholders(item, &path.index(index), problems);
                }
            }
            Value::Map(entries) => {
                for entry in entries {
                    let inner = path.key(&entry.key);
                    if entry.key.contains('$') {
                        problems.push(Problem::new(
                            Code::ConstraintViolation,
                            entry.key_at,
                            inner.to_string(),
                            "has a `$` in a key: only values are filled in",
                        ));
                    }
                    self.placeholders(&entry.value, &inner, problems);
                }
            }
            Value::Null | Value::Bool(_) | Value::Int(_) | Value::Float(_) => {}
        }
    }
}

/// The budget of a check is spent.
fn too_much(at: Position) -> Problem {
    Problem::new(Code::ConstraintViolation, at, "", "takes more steps to check than a spec may")
}

/// What has its shape and a format.
type Formats = Vec<(Format, Path, Node)>;

/// Reads one file, and makes something of it; what is wrong goes to the findings.
fn part<T>(
    files: &Files,
    name: &str,
    findings: &mut Vec<Finding>,
    read: impl FnOnce(Node) -> Result<T, Vec<Problem>>,
) -> Option<T> {
    let bytes = files.find(name)?;
    let made = std::str::from_utf8(bytes)
        .map_err(|_| vec![Problem::new(Code::InvalidFormat, Position::START, "", "is not UTF-8")])
        .and_then(|text| yaml::read(text, files::FILE_BYTES_MAX).map_err(|problem| vec![problem]))
        .and_then(read);
    match made {
        Ok(made) => Some(made),
        Err(problems) => {
            findings.extend(problems.into_iter().map(|problem| Finding { file: name.to_owned(), problem }));
            None
        }
    }
}
