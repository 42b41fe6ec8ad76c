//! Of every kit, a hundred specs and more: what schema.json says of their shape, the real `cue vet` says, too; and what a
//! spec makes, the real Compose accepts.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use kombify_kit::{Code, Files, Kit, SPEC_MAX_BYTES, TESTS, read, variations};
use serde_json::Value;

use super::ours;

/// How many specs of each kit there are at least.
const SPECS: usize = 100;

/// How many variations there are of each spec that somebody wrote.
const VARIATIONS: usize = 9;

/// Where the tools of the tests are.
fn tool(name: &str) -> PathBuf {
    let beside = || Path::new(env!("CARGO_MANIFEST_DIR")).join("target/tools");
    let tools = std::env::var_os("KOMBIFY_TOOLS").filter(|tools| !tools.is_empty()).map(PathBuf::from);
    let path = tools.unwrap_or_else(beside).join("bin").join(name);
    assert!(path.exists(), "{} is not there: run `make tools`", path.display());
    path
}

/// The real `cue`.
pub fn cue() -> PathBuf {
    tool("cue")
}

/// The kits that we ship, each with its specs: those that somebody wrote, and their variations.
fn kits() -> BTreeMap<String, (Kit, Vec<String>)> {
    let mut kits = BTreeMap::new();
    for entry in fs::read_dir(ours()).unwrap() {
        let path = entry.unwrap().path();
        let kit = Kit::load(Files::from_directory(&path).unwrap()).unwrap();
        let written: Vec<&str> = kit
            .files()
            .iter()
            .map(|(name, _)| name)
            .filter(|name| name.starts_with(TESTS) || *name == "default-spec.yaml")
            .collect();
        let mut specs = Vec::new();
        for (seed, name) in (1..).zip(written) {
            specs.push(kit.text(name).to_owned());
            if let Ok(document) = read(kit.text(name), SPEC_MAX_BYTES) {
                specs.extend(variations(&document.to_json(), seed, VARIATIONS).iter().map(Value::to_string));
            }
        }
        assert!(specs.len() >= SPECS, "{}: {}", path.display(), specs.len());
        kits.insert(kit.manifest().id.clone(), (kit, specs));
    }
    assert_eq!(kits.len(), 6);
    kits
}

#[test]
fn cue_and_json_schema_give_the_same_verdict_on_every_shape() {
    let dir = tempfile::tempdir().unwrap();
    let cue = cue();
    for (id, (kit, specs)) in kits() {
        fs::write(dir.path().join("schema.cue"), kit.text("schema.cue")).unwrap();
        let mut taken = 0;
        for (number, spec) in specs.iter().enumerate() {
            // As it is written: `cue` reads the YAML by itself.
            let file = format!("{id}-{number}.yaml");
            fs::write(dir.path().join(&file), spec).unwrap();
            let vet = Command::new(&cue)
                .args(["vet", "-c", "-d", "#Spec", "schema.cue", &file])
                .current_dir(dir.path())
                .stdin(Stdio::null())
                .output()
                .unwrap();
            let ours = kit.has_shape(spec);
            taken += usize::from(ours);
            assert_eq!(vet.status.success(), ours, "{id}: {spec}\n{}", String::from_utf8_lossy(&vet.stderr));
        }
        assert!(taken >= 10 && taken <= specs.len() - 10, "{id}: {taken} of {} are taken", specs.len());
    }
}

#[test]
fn compose_accepts_what_every_valid_spec_makes() {
    let dir = tempfile::tempdir().unwrap();
    let mut files = Vec::new();
    for (id, (kit, specs)) in kits() {
        let mut made = BTreeSet::new();
        for spec in &specs {
            let verdict = kit.validate(spec, false);
            match kit.render(spec) {
                Ok(rendered) => {
                    assert!(verdict.is_valid(), "{id}: {spec}");
                    made.insert(rendered.compose_yaml);
                }
                Err(refused) => assert_eq!(refused.errors, verdict.errors, "{id}: {spec}"),
            }
        }
        assert!(made.len() >= 4, "{id}: only {} files", made.len());
        for (number, compose) in made.into_iter().enumerate() {
            let file = dir.path().join(format!("{id}-{number}.yaml"));
            fs::write(&file, compose).unwrap();
            files.push(file);
        }
    }
    // One process for all: most of a single call is the start of Python.
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/peers/compose-config.py");
    let mut compose = Command::new("/usr/bin/python3")
        .arg(script)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .unwrap();
    let list: Vec<_> = files.iter().map(|file| file.display().to_string()).collect();
    compose.stdin.take().unwrap().write_all(list.join("\n").as_bytes()).unwrap();
    let output = compose.wait_with_output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{said}");
    assert_eq!(said.trim(), format!("{} files are accepted", files.len()));
}

#[test]
fn every_test_of_every_kit_holds_and_every_code_is_met() {
    let mut met = BTreeSet::new();
    for (id, (kit, specs)) in kits() {
        for case in kit.test() {
            assert_eq!(case.failure, None, "{id} {}", case.file);
        }
        for spec in specs {
            met.extend(kit.validate(&spec, true).errors.iter().map(|problem| problem.code));
        }
    }
    // None of ours has alternatives that wait for each other: crates/kit has a kit that does.
    let missing: Vec<_> = Code::ALL.into_iter().filter(|code| !met.contains(code)).collect();
    assert_eq!(missing, [Code::DependencyCycle]);
}
