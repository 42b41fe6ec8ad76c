//! `kombify kits`: an author makes a kit, breaks it, and is told where.

use std::fs;
use std::process::Output;

use kombify_kit::Files;

use super::{copy, default_spec, ours, shape};
use crate::house::House;

fn said(output: &Output) -> String {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    format!("{}{}", text(&output.stdout), text(&output.stderr))
}

#[test]
fn a_new_kit_is_well_and_packs_to_the_same_bytes_each_time() {
    let house = House::fresh();
    let home = house.data().with_file_name("author");
    fs::create_dir(&home).unwrap();
    let at = |path: &str| home.join(path).to_str().unwrap().to_owned();
    let kits = |arguments: &[&str]| house.run(&[&["kits"], arguments].concat(), &[]);
    let kit = at("weather");
    let cue = shape::cue();
    let cue = cue.to_str().unwrap();

    let made = kits(&["new", &kit]);
    assert!(made.status.success(), "{}", said(&made));
    assert!(said(&kits(&["new", &kit])).contains("is there already"));
    assert!(said(&kits(&["new", &at("Wrong Name")])).contains("cannot be the id of a kit"));
    assert!(!home.join("Wrong Name").exists());
    let validated = kits(&["validate", &kit]);
    assert!(
        validated.status.success() && said(&validated).contains("weather 0.1.0 is well"),
        "{}",
        said(&validated)
    );
    let tested = kits(&["test", "--cue", cue, &kit]);
    assert!(tested.status.success(), "{}", said(&tested));
    assert_eq!(said(&tested).matches("ok  ").count(), 2, "{}", said(&tested));
    let rendered = kits(&["render", &kit]);
    assert!(said(&rendered).contains("image: \"docker.io/traefik/whoami:"), "{}", said(&rendered));

    // Packed twice, elsewhere and later: the same bytes.
    let packed = kits(&["pack", &kit, "--to", &at("")]);
    assert!(packed.status.success(), "{}", said(&packed));
    let digest = said(&packed).split_whitespace().last().unwrap().to_owned();
    let archive = fs::read(at("weather-0.1.0.tar.gz")).unwrap();
    let files = Files::from_tar_gz(archive.as_slice()).unwrap();
    assert_eq!((files.digest().to_string(), files.to_tar_gz()), (digest, archive));
    let validated = kits(&["validate", &at("weather-0.1.0.tar.gz")]);
    assert!(validated.status.success(), "{}", said(&validated));
}

#[test]
fn what_is_broken_in_a_kit_is_told_by_its_line() {
    let house = House::fresh();
    let home = house.data().with_file_name("author");
    fs::create_dir(&home).unwrap();
    let kit = home.join("weather").to_str().unwrap().to_owned();
    let kits = |arguments: &[&str]| house.run(&[&["kits"], arguments].concat(), &[]);
    let cue = shape::cue();
    let cue = cue.to_str().unwrap();
    assert!(kits(&["new", &kit]).status.success());
    for (name, from, to, expected) in [
        (
            "kit.yaml",
            "version: 0.1.0",
            "version: one",
            "kit.yaml:3:10: INVALID_FORMAT version: is no semver version",
        ),
        (
            "kit.yaml",
            "licence:",
            "license:",
            "kit.yaml:6:1: UNKNOWN_FIELD license: is a field that is not known here (did you mean `licence`?)",
        ),
        (
            "kit.yaml",
            "tag: v1.11.0",
            "tag: latest",
            "CONSTRAINT_VIOLATION services[0].image.tag: `latest` is a tag that moves",
        ),
        (
            "compose.yaml",
            "settings.port }}:8000",
            "settings.prot }}:8000",
            "compose.yaml:7:9: CONSTRAINT_VIOLATION services.web.ports[0]: `spec.services.web.settings.prot` can never have a value",
        ),
        (
            "compose.yaml",
            "restart: unless-stopped",
            "privileged: true",
            "UNKNOWN_FIELD services.web.privileged: may not stand in a kit",
        ),
        ("compose.yaml", ":8000/tcp", ":8001/tcp", "services.web.ports: kit.yaml has 8000:8000/tcp (`http`)"),
        (
            "schema.json",
            "\"minimum\": 1",
            "\"minimun\": 1",
            "schema.json:63:45: UNKNOWN_FIELD $defs.port.minimun: is a keyword that is not checked here",
        ),
        (
            "default-spec.yaml",
            "ip: 192.168.1.10",
            "ip: 172.28.200.7",
            "default-spec.yaml:7:11: RESERVED_RANGE network.subnet: holds 172.28.200.7",
        ),
        ("README.md", "# weather", "", ""),
    ] {
        let path = home.join("weather").join(name);
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.contains(from), "{name} {from}");
        fs::write(&path, text.replacen(from, to, 1)).unwrap();
        let validated = kits(&["validate", &kit]);
        assert!(said(&validated).contains(expected), "{name}: {}", said(&validated));
        assert_eq!(validated.status.success(), expected.is_empty(), "{}", said(&validated));
        fs::write(&path, text).unwrap();
    }
    // A test that does not hold, and a schema in CUE that says something else.
    fs::write(home.join("weather/tests/wrong.yaml"), "# expect: INVALID_CIDR\nname: x\n").unwrap();
    let tested = kits(&["test", &kit]);
    assert!(!tested.status.success());
    assert!(
        said(&tested).contains("failed  ")
            && said(&tested).contains("expected INVALID_CIDR, found 2:1: REQUIRED")
    );
    fs::remove_file(home.join("weather/tests/wrong.yaml")).unwrap();
    let cue_file = home.join("weather/schema.cue");
    let text = fs::read_to_string(&cue_file).unwrap();
    fs::write(
        &cue_file,
        text.replace("port:     *8000 | int & >=1 & <=65535", "port: *8000 | int & >=1000 & <=65535"),
    )
    .unwrap();
    let tested = kits(&["test", "--cue", cue, &kit]);
    assert!(said(&tested).contains("schema.cue refuses this, and schema.json takes it"), "{}", said(&tested));
    let missing = kits(&["test", "--cue", "/no/such/cue", &kit]);
    assert!(said(&missing).contains("go install cuelang.org/go/cmd/cue"), "{}", said(&missing));
}

#[test]
fn a_users_spec_is_held_against_a_kit_and_rendered() {
    let house = House::fresh();
    let home = house.data().with_file_name("user");
    fs::create_dir(&home).unwrap();
    let dns = ours().join("dns");
    let dns = dns.to_str().unwrap();
    let spec = home.join("spec.yaml");
    let spec_path = spec.to_str().unwrap();
    fs::write(&spec, default_spec("dns")).unwrap();
    let validated = house.run(&["kits", "validate", dns, "--spec", spec_path], &[]);
    assert!(said(&validated).contains("is a spec of dns 1.0.0"), "{}", said(&validated));
    fs::write(&spec, default_spec("dns").replace("home.arpa", "home.local")).unwrap();
    let validated = house.run(&["kits", "validate", dns, "--spec", spec_path], &[]);
    assert!(
        validated.status.success() && said(&validated).contains("spec.yaml:6:9: CONSTRAINT_VIOLATION domain"),
        "{}",
        said(&validated)
    );
    let strict = house.run(&["kits", "validate", dns, "--strict", "--spec", spec_path], &[]);
    assert!(!strict.status.success(), "{}", said(&strict));
    let endless = house.run(&["kits", "validate", dns, "--spec", "/dev/zero"], &[]);
    assert!(said(&endless).contains("/dev/zero is no file"), "{}", said(&endless));
    fs::write(&spec, format!("{}# {}\n", default_spec("dns"), "x".repeat(64 * 1024))).unwrap();
    let large = house.run(&["kits", "validate", dns, "--spec", spec_path], &[]);
    assert!(said(&large).contains("is longer than 65536 bytes"), "{}", said(&large));
    fs::write(&spec, b"name: home\n# \xe4\n").unwrap();
    let latin = house.run(&["kits", "validate", dns, "--spec", spec_path], &[]);
    assert!(said(&latin).contains("spec.yaml:2: is not UTF-8"), "{}", said(&latin));
    let within = house.run(&["kits", "pack", dns, "--to", dns], &[]);
    assert!(said(&within).contains("would be a file of the kit"), "{}", said(&within));
    fs::write(&spec, default_spec("dns").replace("kit: dns", "kit: media")).unwrap();
    let rendered = house.run(&["kits", "render", dns, "--spec", spec_path], &[]);
    assert!(
        !rendered.status.success()
            && said(&rendered).contains("spec.yaml:3:6: CONSTRAINT_VIOLATION kit: must be \"dns\""),
        "{}",
        said(&rendered)
    );
}

#[test]
fn a_hostile_directory_is_refused_by_the_commands_too() {
    let house = House::fresh();
    let home = house.data().with_file_name("hostile");
    copy("dns", &home, "names", |_, text| text);
    std::os::unix::fs::symlink("/etc/passwd", home.join("names/tests/x.yaml")).unwrap();
    let validated = house.run(&["kits", "validate", home.join("names").to_str().unwrap()], &[]);
    assert!(!validated.status.success() && said(&validated).contains("link"), "{}", said(&validated));
    assert!(!said(&validated).contains("root:"), "{}", said(&validated));
}
