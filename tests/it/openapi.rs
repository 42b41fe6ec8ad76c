//! What `kombify openapi` prints, held against the specification by a validator that is not ours.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

/// What the binary prints, without configuration of the environment's own.
fn openapi(arguments: &[&str]) -> Value {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kombify"));
    for (key, _) in std::env::vars_os() {
        if key.to_string_lossy().starts_with("KOMBIFY_") {
            command.env_remove(key);
        }
    }
    let output = command.arg("openapi").args(arguments).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// What the validator says of a document.
fn validate(document: &Value) -> Output {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("openapi.json");
    fs::write(&file, document.to_string()).unwrap();
    let arguments = ["-m", "openapi_spec_validator", "--schema", "3.1", "--validation-errors", "all"];
    Command::new(python()).args(arguments).arg(&file).output().unwrap()
}

fn python() -> PathBuf {
    let beside = || Path::new(env!("CARGO_MANIFEST_DIR")).join("target/tools");
    let tools = std::env::var_os("KOMBIFY_TOOLS").filter(|tools| tools != OsStr::new("")).map(PathBuf::from);
    let python = tools.unwrap_or_else(beside).join("venv/bin/python");
    assert!(python.exists(), "{} is not there: run `make tools`", python.display());
    python
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[test]
fn the_document_is_what_the_specification_asks_for() {
    let cases: [&[&str]; 2] = [&[], &["--internal"]];
    for arguments in cases {
        let document = openapi(arguments);
        assert_eq!(document["openapi"], "3.1.0");
        let valid = validate(&document);
        assert!(valid.status.success(), "{arguments:?}: {}", said(&valid));
    }
}

#[test]
fn the_validator_refuses_what_is_wrong() {
    let right = openapi(&[]);
    let breaches: [(&str, fn(&mut Value)); 3] = [
        ("'info' is a required property", |document| {
            document.as_object_mut().unwrap().remove("info");
        }),
        ("was not resolved", |document| {
            document["paths"]["/v1/tenants/{tenant}"]["get"]["parameters"][0]["name"] = "other".into();
        }),
        ("is not unique", |document| {
            let id = document["paths"]["/v1/tenants"]["get"]["operationId"].clone();
            document["paths"]["/v1/tenants"]["post"]["operationId"] = id;
        }),
    ];
    for (told, spoil) in breaches {
        let mut wrong = right.clone();
        spoil(&mut wrong);
        let refused = validate(&wrong);
        assert!(!refused.status.success() && said(&refused).contains(told), "{told}: {}", said(&refused));
    }
}
