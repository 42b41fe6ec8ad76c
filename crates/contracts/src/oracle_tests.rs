//! Our checks against Buf's protovalidate, on messages made by chance.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fmt::Write;
use std::path::{Path as FilePath, PathBuf};
use std::process::Command;
use std::{env, fs};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use prost::Message;
use prost_reflect::{DescriptorPool, DynamicMessage, MessageDescriptor, ReflectMessage};

use crate::check::Path;
use crate::samples::{Sampler, rules};
use crate::{Violations, file_descriptor_set, fixture, generated, methods};

/// How many messages of each type.
const ROUNDS: usize = 400;
/// How many values of a hundred are wild in every other message.
const WILD_PERCENT: usize = 25;
/// How many disagreements are shown.
const SHOWN: usize = 5;

/// What protovalidate answers: for each wrong field the steps to it, each a name and perhaps an index or a
/// key.
type Answer = Vec<Vec<Vec<serde_json::Value>>>;

#[test]
fn the_checks_agree_with_bufs_protovalidate_on_every_request_type() {
    let types = types();
    let mut sampler = Sampler::new(0x6b6f_6d62_6966_7921);
    let mut messages = Vec::new();
    for descriptor in &types {
        for round in 0..ROUNDS {
            sampler.wild_percent = if round % 2 == 0 { 0 } else { WILD_PERCENT };
            messages.push(sampler.message(descriptor));
        }
    }
    let answers = ask(&messages);
    assert_eq!(answers.len(), messages.len(), "the oracle answers each message");

    let mut disagreements = Vec::new();
    let mut counts: BTreeMap<String, (usize, usize)> = BTreeMap::new();
    for (message, answer) in messages.iter().zip(&answers) {
        let descriptor = message.descriptor();
        let theirs: BTreeSet<String> = answer.iter().map(|steps| json_path(&descriptor, steps)).collect();
        let told = check(message);
        let full = told.len() == Violations::LIMIT;
        let ours: BTreeSet<String> = told.into_iter().collect();
        let agreed = if full { ours.is_subset(&theirs) } else { ours == theirs };
        if !agreed {
            disagreements
                .push(format!("{}\n{message}\nours: {ours:?}\ntheirs: {theirs:?}", descriptor.full_name()));
        }
        let (right, wrong) = counts.entry(descriptor.full_name().to_owned()).or_default();
        *(if theirs.is_empty() { right } else { wrong }) += 1;
    }
    assert!(
        disagreements.is_empty(),
        "{} of {} messages; the first:\n{}",
        disagreements.len(),
        messages.len(),
        disagreements[..disagreements.len().min(SHOWN)].join("\n\n")
    );
    for descriptor in &types {
        let (right, wrong) = counts[descriptor.full_name()];
        assert!(right > 0, "no message of {} was right", descriptor.full_name());
        let ruled = ruled(descriptor, &mut HashSet::new());
        assert_eq!(wrong > 0, ruled, "{wrong} messages of {} were wrong", descriptor.full_name());
    }
}

fn fixture_descriptors() -> &'static [u8] {
    include_bytes!(concat!(env!("OUT_DIR"), "/fixture/kombify.bin"))
}

/// Every request of ours, and every message of the fixture.
fn types() -> Vec<MessageDescriptor> {
    let mut types: Vec<MessageDescriptor> =
        methods().iter().map(|method| method.descriptor.input()).collect();
    let pool = DescriptorPool::decode(fixture_descriptors()).unwrap();
    types.extend(
        pool.all_messages().filter(|one| one.package_name() == "kombify.fixture.v1" && !one.is_map_entry()),
    );
    types
}

/// Whether anything in the message can be wrong.
fn ruled(message: &MessageDescriptor, seen: &mut HashSet<String>) -> bool {
    seen.insert(message.full_name().to_owned())
        && message.fields().any(|field| {
            rules(&field).is_some() || field.kind().as_message().is_some_and(|inner| ruled(inner, seen))
        })
}

/// The paths that our check tells.
fn check(message: &DynamicMessage) -> Vec<String> {
    let descriptor = message.descriptor();
    let (name, bytes) = (descriptor.full_name(), message.encode_to_vec());
    let checked = generated::checks::check_by_name(name, &bytes)
        .or_else(|| fixture::checks::check_by_name(name, &bytes))
        .unwrap_or_else(|| panic!("nothing checks {name}"));
    let wrong = checked.err().unwrap_or_default();
    wrong.as_slice().iter().map(|one| one.path.clone()).collect()
}

/// What Buf's protovalidate says of each message.
fn ask(messages: &[DynamicMessage]) -> Vec<Answer> {
    let root = FilePath::new(env!("CARGO_MANIFEST_DIR"));
    let python = env::var_os("KOMBIFY_TOOLS")
        .map_or_else(|| root.join("../../target/tools"), PathBuf::from)
        .join("venv/bin/python");
    assert!(python.exists(), "{} is missing: run `make tools`", python.display());

    let dir = tempfile::tempdir().unwrap();
    let mut questions = String::new();
    for message in messages {
        let name = message.descriptor().full_name().to_owned();
        let bytes = BASE64_STANDARD.encode(message.encode_to_vec());
        writeln!(questions, "{}", serde_json::json!({"type": name, "message": bytes})).unwrap();
    }
    let files = ["kombify.bin", "fixture.bin", "questions"].map(|name| dir.path().join(name));
    let contents = [file_descriptor_set(), fixture_descriptors(), questions.as_bytes()];
    for (file, content) in files.iter().zip(contents) {
        fs::write(file, content).unwrap();
    }
    let output = Command::new(python)
        .arg(root.join("tests/oracle/protovalidate_oracle.py"))
        .args(files)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let answers = String::from_utf8(output.stdout).unwrap();
    answers.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// A path of protovalidate's, written as ours are.
fn json_path(descriptor: &MessageDescriptor, steps: &[Vec<serde_json::Value>]) -> String {
    let mut path = String::new();
    let mut message = Some(descriptor.clone());
    for step in steps {
        let field = message.unwrap().get_field_by_name(step[0].as_str().unwrap()).unwrap();
        let dot = if path.is_empty() { "" } else { "." };
        write!(path, "{dot}{}", field.json_name()).unwrap();
        if let Some(subscript) = step.get(1) {
            match subscript.as_str() {
                Some(key) => write!(path, "{}", Path::ROOT.key(key)).unwrap(),
                None => write!(path, "[{subscript}]").unwrap(),
            }
        }
        let mut kind = field.kind();
        if field.is_map() {
            kind = kind.as_message().unwrap().map_entry_value_field().kind();
        }
        message = kind.as_message().cloned();
    }
    path
}
