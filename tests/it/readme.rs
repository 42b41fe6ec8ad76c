//! The README's commands, taken from the README and run, and held against what the README says that they print.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::LazyLock;

use regex::Regex;

use crate::house::{House, Module};

/// One block of commands, and what it prints.
struct Step {
    commands: String,
    prints: String,
}

/// The blocks of commands of the README, each with the block of output that follows.
fn steps(readme: &str) -> Vec<Step> {
    static BLOCK: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"(?s)```(\w+)\n(.*?)```").unwrap());
    let mut steps = Vec::new();
    let mut pending = None;
    for block in BLOCK.captures_iter(readme) {
        match (&block[1], pending.take()) {
            ("sh", None) => pending = Some(block[2].to_owned()),
            ("sh", Some(commands)) => panic!("these commands say nothing of what they print: {commands}"),
            (_, Some(commands)) => steps.push(Step { commands, prints: block[2].trim().to_owned() }),
            (_, None) => {}
        }
    }
    assert!(pending.is_none(), "the last commands say nothing of what they print");
    steps
}

/// The text with everything that differs from run to run replaced by its kind.
fn settled(text: &str) -> String {
    static KINDS: LazyLock<Vec<(Regex, &str)>> = LazyLock::new(|| {
        [
            (r"_[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", "_ID"),
            (r"\b[1-9][0-9]{17}\b", "NUMBER"),
            (r"sha256:[0-9a-f]{64}", "sha256:DIGEST"),
            (r"\b20[0-8][0-9]-[0-9]{2}-[0-9]{2}T[0-9:]{8}Z", "TIME"),
        ]
        .into_iter()
        .map(|(pattern, kind)| (Regex::new(pattern).unwrap(), kind))
        .collect()
    });
    let mut text = text.trim().to_owned();
    for (pattern, kind) in KINDS.iter() {
        text = pattern.replace_all(&text, *kind).into_owned();
    }
    text
}

#[test]
fn the_commands_of_the_readme_print_what_it_says() {
    let root = env!("CARGO_MANIFEST_DIR");
    let readme = std::fs::read_to_string(format!("{root}/README.md")).unwrap();
    let steps = steps(&readme);
    assert!(steps.len() >= 10, "the story has become short: {} steps", steps.len());

    let house = House::up();
    let binary = std::path::Path::new(env!("CARGO_BIN_EXE_kombify")).parent().unwrap();
    let tools = std::env::var_os("KOMBIFY_TOOLS")
        .map_or_else(|| format!("{root}/target/tools").into(), PathBuf::from);
    let mut script = String::from("set -euo pipefail\n");
    for step in &steps {
        let mut commands = step.commands.clone();
        for (port, module) in [
            (8000, Module::Gateway),
            (8080, Module::Stack),
            (8090, Module::Admin),
            (8082, Module::Kits),
            (3000, Module::Cloud),
            (8083, Module::Idp),
        ] {
            let there = house.url(module).trim_start_matches("http://").to_owned();
            commands = commands.replace(&format!("localhost:{port}/"), &format!("{there}/"));
            commands = commands.replace(&format!("localhost:{port} "), &format!("{there} "));
        }
        script.push_str(&commands);
        script.push_str("echo; echo '#### next'\n");
    }
    let others = std::env::var_os("PATH").unwrap();
    let own = [binary.to_owned(), tools.join("bin")];
    let path = std::env::join_paths(own.into_iter().chain(std::env::split_paths(&others))).unwrap();
    let output = Command::new("bash")
        .arg("-c")
        .arg(&script)
        .current_dir(root)
        .env("KOMBIFY__DATA", house.data())
        .env("PATH", path)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let printed = String::from_utf8(output.stdout).unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    let printed: Vec<_> = printed.split("#### next\n").collect();
    let port = Regex::new(r"localhost:\d+").unwrap();
    for (step, printed) in steps.iter().zip(&printed) {
        let same = |text: &str| port.replace_all(&settled(text), "localhost:PORT").into_owned();
        assert_eq!(same(printed), same(&step.prints), "{}\n{errors}", step.commands);
    }
    assert!(output.status.success(), "{errors}");
    assert_eq!(printed.len(), steps.len() + 1);
}

#[test]
fn the_readme_names_the_two_commands_and_every_error_code_has_its_page() {
    let root = env!("CARGO_MANIFEST_DIR");
    let readme = std::fs::read_to_string(format!("{root}/README.md")).unwrap();
    for command in ["make up", "make test"] {
        assert!(readme.contains(command), "{command}");
    }
    for code in kombify_core::Code::ALL {
        let page = format!("{root}/docs/errors/{}.md", code.as_str());
        let text = std::fs::read_to_string(&page).unwrap_or_else(|_| panic!("{page} is missing"));
        assert!(text.contains(&code.http().to_string()), "{page} does not name HTTP {}", code.http());
    }
}
