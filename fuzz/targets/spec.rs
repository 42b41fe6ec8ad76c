//! Any bytes as a spec of a kit: they are judged within the budget, and what is right can be rendered and read again.

#![no_main]

use std::sync::LazyLock;

use kombify_kit::{Files, Kit, SPEC_MAX_BYTES, read};
use libfuzzer_sys::fuzz_target;

static KIT: LazyLock<Kit> = LazyLock::new(|| {
    let mut files = Files::default();
    for (name, text) in [
        ("kit.yaml", include_str!("../../kits/dns/kit.yaml")),
        ("schema.cue", include_str!("../../kits/dns/schema.cue")),
        ("schema.json", include_str!("../../kits/dns/schema.json")),
        ("compose.yaml", include_str!("../../kits/dns/compose.yaml")),
        ("default-spec.yaml", include_str!("../../kits/dns/default-spec.yaml")),
        ("README.md", include_str!("../../kits/dns/README.md")),
    ] {
        files.insert(name, text).expect("a kit of ours fits");
    }
    Kit::load(files).expect("a kit of ours is well")
});

fuzz_target!(|text: &str| {
    let verdict = KIT.validate(text, false);
    if let Ok(document) = read(text, SPEC_MAX_BYTES) {
        // What was read and written is read as the same.
        let json = document.to_json().to_string();
        if let Ok(again) = read(&json, json.len()) {
            assert_eq!(again.to_json().to_string(), json);
        }
    }
    match KIT.render(text) {
        Ok(rendered) => {
            assert!(verdict.is_valid());
            read(&rendered.compose_yaml, rendered.compose_yaml.len()).expect("what is rendered can be read");
        }
        Err(refused) => assert_eq!(refused.errors, verdict.errors),
    }
});
