//! Each code by the rules, on a kit that has something for every one of them.

use std::collections::BTreeSet;

use crate::{Code, Files, Finding, Kit};

const MANIFEST: &str = r#"
apiVersion: kombify.io/v1
id: test
version: 1.2.0
title: Test
description: A kit for tests.
licence: MIT
tags: [test]
maturity: stable
minPlan: free
contexts: [local, pi]
os:
  - {name: debian, version: "12", architectures: [amd64, arm64]}
requirements:
  minimum: {cpus: 1, memoryMb: 1024, diskGb: 1}
  recommended: {cpus: 3, memoryMb: 2048, diskGb: 2}
useCases:
  - {name: proxy, title: Reverse proxy, services: [caddy, traefik], required: true}
services:
  - name: web
    title: Web
    homepage: https://example.org
    image: {registry: docker.io, repository: example/web, tag: "1.0"}
    dependsOn: [proxy]
    ports:
      - {name: http, container: 80, setting: port}
      - {name: admin, container: 81, host: 8081}
    volumes:
      - {name: data, path: /data, description: Everything.}
    healthCheck: {port: http, path: /}
    resources: {cpus: 0.5, memoryMb: 256, diskGb: 1}
  - name: caddy
    title: Caddy
    homepage: https://example.org
    image: {registry: docker.io, repository: library/caddy, tag: "2.10.2"}
    ports:
      - {name: https, container: 443, host: 443}
    healthCheck: {}
    resources: {cpus: 0.5, memoryMb: 256, diskGb: 1}
  - name: traefik
    title: Traefik
    homepage: https://example.org
    image: {registry: docker.io, repository: library/traefik, tag: v3.5.0}
    enabled: false
    architectures: [amd64]
    dependsOn: [web]
    ports:
      - {name: https, container: 443, host: 443}
    healthCheck: {}
    resources: {cpus: 0.5, memoryMb: 256, diskGb: 1}
  - name: big
    title: Big
    homepage: https://example.org
    image: {registry: docker.io, repository: example/big, tag: "1"}
    enabled: false
    role: worker
    healthCheck: {}
    resources: {cpus: 3, memoryMb: 6000, diskGb: 1}
"#;

const SCHEMA: &str = r#"{
  "type": "object", "additionalProperties": false, "required": ["name", "kit", "version", "nodes"],
  "properties": {
    "name": {"type": "string"}, "kit": {"type": "string"}, "version": {"type": "string"},
    "context": {"type": "string"}, "domain": {"type": "string", "format": "domain", "default": "home.arpa"},
    "email": {"type": "string", "format": "email"},
    "network": {"type": "object", "properties": {
      "mode": {"enum": ["local", "public"]},
      "subnet": {"type": "string", "format": "ipv4-cidr", "default": "172.28.1.0/24"}}},
    "compute": {"type": "object", "properties": {"tier": {"enum": ["low", "standard", "high"], "default": "standard"}}},
    "nodes": {"type": "array", "items": {"type": "object"}},
    "services": {"type": "object", "properties": {
      "web": {"properties": {"enabled": {"type": "boolean"}, "settings": {"type": "object", "properties": {
        "port": {"type": "integer", "default": 8080},
        "media": {"type": "string", "default": "/srv/media"},
        "tunnel": {"type": "string", "format": "ipv4-cidr"},
        "note": {"type": "string"},
        "nets": {"additionalProperties": {"type": "string", "format": "ipv4-cidr"}},
        "nets.a": {"type": "string"},
        "password": {"type": "string", "default": "secret://web-password"},
        "key": {"type": "string", "format": "secret", "pattern": "^secret://[a-z-]+$"}}}}},
      "caddy": {"properties": {"enabled": {"type": "boolean"}}},
      "traefik": {"properties": {"enabled": {"type": "boolean"}}},
      "big": {"properties": {"enabled": {"type": "boolean"}}}}}
  }
}"#;

const COMPOSE: &str = r#"
services:
  web:
    image: ${{ kit.services.web.image }}
    restart: unless-stopped
    depends_on:
      caddy: {condition: service_started}
      traefik: {condition: service_started}
    ports:
      - "${{ spec.services.web.settings.port }}:80"
      - "8081:81"
    environment:
      NOTE: "${{ spec.services.web.settings.note }}"
      TUNNEL: ${{ spec.services.web.settings.tunnel }}
      KEY_FILE: /run/secrets/key
      PASSWORD_FILE: /run/secrets/password
      MAIN: ${{ nodes.main.ip }}/${{ nodes.worker.name }}
    secrets: [password, key]
    volumes:
      - data:/data
      - ${{ spec.services.web.settings.media }}:/media
    healthcheck: {test: [CMD, "true"]}
  caddy:
    image: ${{ kit.services.caddy.image }}
    restart: unless-stopped
    ports: ["443:443"]
    healthcheck: {test: [CMD, "true"]}
  traefik:
    image: ${{ kit.services.traefik.image }}
    restart: unless-stopped
    ports: ["443:443"]
    networks: [edge]
    healthcheck: {test: [CMD, "true"]}
  big:
    image: ${{ kit.services.big.image }}
    restart: unless-stopped
    healthcheck: {test: [CMD, "true"]}
networks:
  edge: {}
volumes:
  data:
secrets:
  password: {file: "${{ spec.services.web.settings.password }}"}
  key: {file: "${{ spec.services.web.settings.key }}"}
"#;

const SPEC: &str = "name: mine
kit: test
version: ^1.0
nodes:
  - {name: one, role: main, ip: 192.168.1.10}
";

fn files(change: impl Fn(&str, &str) -> String) -> Files {
    let mut files = Files::default();
    for (name, text) in [
        ("kit.yaml", MANIFEST),
        ("schema.json", SCHEMA),
        ("schema.cue", "#Spec: {...}\n"),
        ("compose.yaml", COMPOSE),
        ("default-spec.yaml", SPEC),
        ("README.md", "# Test\n"),
    ] {
        files.insert(name, change(name, text)).unwrap();
    }
    files
}

fn kit() -> Kit {
    Kit::load(files(|_, text| text.to_owned())).unwrap_or_else(|findings| panic!("{findings:?}"))
}

fn codes(spec: &str) -> Vec<String> {
    let verdict = kit().validate(spec, false);
    verdict.errors.iter().map(|problem| format!("{} {}", problem.code, problem.path)).collect()
}

/// The spec with further lines.
fn with(lines: &str) -> String {
    format!("{SPEC}{lines}\n")
}

#[test]
fn every_rule_tells_what_is_wrong_by_its_code() {
    let cases: &[(String, &[&str])] = &[
        (SPEC.to_owned(), &[]),
        // REQUIRED
        (with("network: {mode: public}"), &["REQUIRED domain", "REQUIRED email"]),
        (with("network: {mode: public}\ndomain: example.org"), &["REQUIRED email"]),
        (with("network: {mode: public}\ndomain: example.org\nemail: a@example.org"), &[]),
        // INVALID_TYPE, UNKNOWN_FIELD: of every spec, whatever the kit's own schema says
        (with("context: [local]"), &["INVALID_TYPE context"]),
        (with("colour: red"), &["UNKNOWN_FIELD colour"]),
        (with("network: {nat: true}"), &["UNKNOWN_FIELD network.nat"]),
        // INVALID_FORMAT
        (SPEC.replace("^1.0", "newest"), &["INVALID_FORMAT version"]),
        (SPEC.replace("192.168.1.10", "192.168.1.256"), &["INVALID_FORMAT nodes[0].ip"]),
        (SPEC.replace("name: mine", "name: Mine"), &["INVALID_FORMAT name"]),
        (with("domain: a_b.org"), &["INVALID_FORMAT domain"]),
        (with("email: nobody"), &["INVALID_FORMAT email"]),
        (with("domain: [x"), &["INVALID_FORMAT "]),
        (with("services: {web: {settings: {port: 0777}}}"), &["INVALID_FORMAT services.web.settings.port"]),
        // INVALID_CIDR
        (with("network: {subnet: 172.28.1.0/40}"), &["INVALID_CIDR network.subnet"]),
        (with("network: {subnet: 172.28.1.7/24}"), &["INVALID_CIDR network.subnet"]),
        // UNKNOWN_SERVICE
        (with("services: {wed: {enabled: true}}"), &["UNKNOWN_SERVICE services.wed"]),
        // RESERVED_RANGE
        (with("network: {subnet: 172.17.4.0/24}"), &["RESERVED_RANGE network.subnet"]),
        (with("network: {subnet: 8.8.8.0/24}"), &["RESERVED_RANGE network.subnet"]),
        (with("network: {subnet: 169.254.0.0/16}"), &["RESERVED_RANGE network.subnet"]),
        (with("network: {subnet: 192.168.0.0/16}"), &["RESERVED_RANGE network.subnet"]),
        (SPEC.replace("192.168.1.10", "127.0.0.1"), &["RESERVED_RANGE nodes[0].ip"]),
        (
            with("services: {web: {settings: {tunnel: 172.28.1.128/25}}}"),
            &["RESERVED_RANGE services.web.settings.tunnel"],
        ),
        (with("services: {web: {settings: {port: 22}}}"), &["RESERVED_RANGE services.web.settings.port"]),
        // DUPLICATE_PORT
        (with("services: {web: {settings: {port: 8081}}}"), &["DUPLICATE_PORT services.web"]),
        (with("services: {web: {settings: {port: 443}}}"), &["DUPLICATE_PORT services.caddy"]),
        // DEPENDENCY_CYCLE: the other alternative waits for what waits for it.
        (
            with("services: {caddy: {enabled: false}, traefik: {enabled: true}}"),
            &["DEPENDENCY_CYCLE services.traefik"],
        ),
        // RESOURCE_EXCEEDED
        (with("services: {big: {enabled: true}}"), &[]),
        (
            with("compute: {tier: low}\nservices: {big: {enabled: true}}"),
            &["RESOURCE_EXCEEDED compute.tier", "RESOURCE_EXCEEDED compute.tier"],
        ),
        // CONSTRAINT_VIOLATION
        (SPEC.replace("kit: test", "kit: other"), &["CONSTRAINT_VIOLATION kit"]),
        (SPEC.replace("^1.0", "^2"), &["CONSTRAINT_VIOLATION version"]),
        (SPEC.replace("role: main", "role: worker"), &["CONSTRAINT_VIOLATION nodes"]),
        (with("  - {name: two, role: main, ip: 192.168.1.11}"), &["CONSTRAINT_VIOLATION nodes"]),
        (with("  - {name: one, role: worker, ip: 192.168.1.11}"), &["CONSTRAINT_VIOLATION nodes[1].name"]),
        (with("  - {name: two, role: worker, ip: 192.168.1.10}"), &["CONSTRAINT_VIOLATION nodes[1].ip"]),
        (
            with("services: {traefik: {enabled: true}}"),
            &["DUPLICATE_PORT services.traefik", "CONSTRAINT_VIOLATION services.traefik.enabled"],
        ),
        (
            with("services: {caddy: {enabled: false}}"),
            &["CONSTRAINT_VIOLATION services", "CONSTRAINT_VIOLATION services.web.enabled"],
        ),
        (with("context: cloud"), &["CONSTRAINT_VIOLATION context"]),
        (
            with(
                "context: pi\nservices: {web: {enabled: false}, caddy: {enabled: false}, traefik: {enabled: true}}",
            ),
            &["CONSTRAINT_VIOLATION services.traefik", "CONSTRAINT_VIOLATION services.traefik.enabled"],
        ),
        (
            with("services: {web: {settings: {password: hunter2}}}"),
            &["CONSTRAINT_VIOLATION services.web.settings.password"],
        ),
        (
            with("services: {web: {settings: {other: {adminPassword: 12345678}}}}"),
            &["CONSTRAINT_VIOLATION services.web.settings.other.adminPassword"],
        ),
        // A key that looks like a way hides nothing.
        (
            with("services: {web: {settings: {nets: {a: 127.0.0.0/8}, \"nets.a\": 3}}}"),
            &[
                "RESERVED_RANGE services.web.settings.nets.a",
                "INVALID_TYPE services.web.settings[\"nets.a\"]",
            ],
        ),
        (with("# ghp_0123456789abcdefghijABCDEFGHIJ012345"), &["CONSTRAINT_VIOLATION "]),
        (with("services: {web: {settings: {key: hunter2}}}"), &["INVALID_FORMAT services.web.settings.key"]),
    ];
    let mut met = BTreeSet::new();
    for (spec, expected) in cases {
        let mut found = codes(spec);
        let mut expected: Vec<String> = expected.iter().map(|&code| code.to_owned()).collect();
        found.sort();
        expected.sort();
        assert_eq!(found, expected, "{spec}");
        met.extend(found.iter().filter_map(|code| Code::parse(code.split(' ').next().unwrap())));
    }
    assert_eq!(met.len(), Code::ALL.len(), "{met:?}");
}

#[test]
fn a_spec_may_give_a_service_directories_of_data_and_nothing_else() {
    for (path, right) in [
        ("/srv/films", true),
        ("/mnt/tank/Films and series", true),
        ("/home/ada/films", true),
        ("/volume1/films", true),
        ("/srv", false),
        ("/", false),
        ("/etc", false),
        ("/lib", false),
        ("/var/lib/docker", false),
        ("/var/run/docker.sock", false),
        ("/srv/../etc", false),
        ("/srv/a:/etc:/x", false),
        ("/home/ada/.ssh", false),
        ("/home/ada", false),
        ("/opt/app", false),
        ("../up", false),
        ("srv/films", false),
    ] {
        let found = codes(&with(&format!("services: {{web: {{settings: {{media: \"{path}\"}}}}}}")));
        let expected: &[&str] =
            if right { &[] } else { &["CONSTRAINT_VIOLATION services.web.settings.media"] };
        assert_eq!(found, expected, "{path}");
    }
}

#[test]
fn warnings_are_errors_where_a_caller_is_strict() {
    let kit = kit();
    let spec = with("domain: home.local\ncompute: {tier: low}\nservices: {web: {settings: {port: 40000}}}");
    let verdict = kit.validate(&spec, false);
    let warned: Vec<_> =
        verdict.warnings.iter().map(|problem| (problem.path.as_str(), problem.code)).collect();
    assert!(verdict.is_valid());
    assert_eq!(
        warned,
        [
            ("domain", Code::ConstraintViolation),
            ("compute.tier", Code::ResourceExceeded),
            ("services.web.settings.port", Code::ReservedRange),
        ]
    );
    let strict = kit.validate(&spec, true);
    assert_eq!((strict.errors, strict.warnings.len()), (verdict.warnings, 0));
}

#[test]
fn everything_is_told_at_once_with_its_place() {
    let spec = "name: Mine
kit: test
version: ^1.0
nodes:
  - {name: one, role: main, ip: 192.168.1.300}
network: {subnet: 10.1.0.0/99}
services:
  wed: {}
  web:
    settings:
      port: 2375
";
    let told: Vec<String> = kit().validate(spec, false).errors.iter().map(ToString::to_string).collect();
    assert_eq!(
        told,
        [
            "1:7: INVALID_FORMAT name: must match ^[a-z]([a-z0-9-]{0,61}[a-z0-9])?$ (1 to 63 of [a-z0-9-], a letter first, no hyphen last)",
            "5:33: INVALID_FORMAT nodes[0].ip: is no IPv4 address: four numbers from 0 to 255, without leading zeros",
            "6:19: INVALID_CIDR network.subnet: has a prefix of 99 bits (0 to 32)",
            "8:3: UNKNOWN_SERVICE services.wed: is a service that is not known here (did you mean `web`?)",
            "11:13: RESERVED_RANGE services.web.settings.port: is 2375, the port of the Docker Engine",
        ]
    );
}

#[test]
fn a_file_is_filled_in_the_tree_and_never_in_the_text() {
    let kit = kit();
    let spec = with(
        "  - {name: two, role: worker, ip: 192.168.1.11}\nservices:\n  web:\n    settings:\n      note: \"a: b\\n  privileged: true # ${HOME} $$ ${{ spec.name }} 'x' \\\"y\\\"\"",
    );
    let rendered = kit.render(&spec).unwrap().compose_yaml;
    let read = crate::read(&rendered, rendered.len()).unwrap();
    let web = read.find(&["services", "web"]).unwrap();
    let environment = web.get("environment").unwrap();
    assert_eq!(
        environment.get("NOTE").unwrap().as_str(),
        Some("a: b\n  privileged: true # $${HOME} $$$$ $${{ spec.name }} 'x' \"y\"")
    );
    assert!(web.get("privileged").is_none());
    // What has no value is left out, and so is the secret without a file and the variable that names its place.
    assert!(environment.get("TUNNEL").is_none() && environment.get("KEY_FILE").is_none(), "{rendered}");
    assert_eq!(environment.get("PASSWORD_FILE").unwrap().as_str(), Some("/run/secrets/password"));
    assert_eq!(environment.get("MAIN").unwrap().as_str(), Some("192.168.1.10/two"));
    assert_eq!(web.get("secrets").unwrap().items().len(), 1);
    assert_eq!(read.find(&["secrets", "password", "file"]).unwrap().as_str(), Some("./secrets/web-password"));
    assert!(read.find(&["secrets", "key"]).is_none());
    // What is switched off is gone, and what only it used.
    let names: Vec<_> =
        read.get("services").unwrap().entries().iter().map(|entry| entry.key.as_str()).collect();
    assert_eq!(names, ["web", "caddy"]);
    assert_eq!(web.get("depends_on").unwrap().entries().len(), 1);
    assert!(read.get("networks").is_none(), "{rendered}");
    let label = |name: &str| web.find(&["labels", name]).unwrap().as_str().unwrap().to_owned();
    assert_eq!((label("io.kombify.node"), label("io.kombify.stack")), ("one".into(), "mine".into()));
}

/// What is wrong with the kit after a change, each as it is told.
fn findings(file: &str, from: &str, to: &str) -> Vec<String> {
    let change = |name: &str, text: &str| {
        if name == file {
            assert!(text.contains(from), "{file} has no {from}");
            text.replacen(from, to, 1)
        } else {
            text.to_owned()
        }
    };
    let told = |finding: &Finding| {
        format!(
            "{} {} {}: {}",
            finding.file, finding.problem.code, finding.problem.path, finding.problem.message
        )
    };
    match Kit::load(files(change)) {
        Ok(_) => Vec::new(),
        Err(findings) => findings.iter().map(told).collect(),
    }
}

/// What breaks a kit: the file, what stands there, what takes its place, and how what is told begins.
const BREAKS: &[(&str, &str, &str, &str)] = &[
    (
        "kit.yaml",
        "maturity: stable",
        "maturity: good",
        "kit.yaml CONSTRAINT_VIOLATION maturity: must be one of",
    ),
    ("kit.yaml", "minPlan: free", "minPlan: gold", "kit.yaml CONSTRAINT_VIOLATION minPlan: must be one of"),
    ("kit.yaml", "version: 1.2.0", "version: 1.2", "kit.yaml INVALID_TYPE version: must be text"),
    (
        "kit.yaml",
        "  - name: caddy",
        "  - name: web",
        "kit.yaml CONSTRAINT_VIOLATION services[1].name: `web` is there already",
    ),
    (
        "kit.yaml",
        "dependsOn: [proxy]",
        "dependsOn: [proxi]",
        "kit.yaml UNKNOWN_SERVICE services[0].dependsOn: there is no service and no use case `proxi`",
    ),
    (
        "kit.yaml",
        "dependsOn: [proxy]",
        "dependsOn: [web]",
        "kit.yaml DEPENDENCY_CYCLE services: these wait for each other: web -> web",
    ),
    (
        "kit.yaml",
        "services: [caddy, traefik]",
        "services: [caddy, nginx]",
        "kit.yaml UNKNOWN_SERVICE useCases[0].services: there is no service `nginx`",
    ),
    (
        "kit.yaml",
        "setting: port",
        "setting: port, host: 80",
        "kit.yaml CONSTRAINT_VIOLATION services[0].ports: the port `http` has both",
    ),
    (
        "kit.yaml",
        "{port: http, path: /}",
        "{port: web}",
        "kit.yaml CONSTRAINT_VIOLATION services[0].healthCheck.port: there is no port `web`",
    ),
    (
        "kit.yaml",
        "recommended: {cpus: 3",
        "recommended: {cpus: 0.5",
        "kit.yaml CONSTRAINT_VIOLATION requirements.recommended: is less than the minimum",
    ),
    ("kit.yaml", "https://example.org", "http://example.org", "kit.yaml INVALID_FORMAT services[0].homepage"),
    (
        "schema.json",
        "\"caddy\"",
        "\"candy\"",
        "schema.json UNKNOWN_SERVICE services.candy: kit.yaml has no service `candy`",
    ),
    (
        "schema.json",
        "\"type\": \"object\"",
        "\"type\": \"objekt\"",
        "schema.json CONSTRAINT_VIOLATION type: must be the name of one type of JSON",
    ),
    ("schema.cue", "#Spec", "#Sepc", "schema.cue REQUIRED #Spec: has no definition `#Spec`"),
    (
        "default-spec.yaml",
        "^1.0",
        "^2.0",
        "default-spec.yaml CONSTRAINT_VIOLATION version: does not allow 1.2.0",
    ),
    (
        "compose.yaml",
        "settings.port }}",
        "settings.prot }}",
        "compose.yaml CONSTRAINT_VIOLATION services.web.ports[0]: `spec.services.web.settings.prot` can never have a value",
    ),
    (
        "compose.yaml",
        "nodes.main.ip",
        "nodes.first.ip",
        "compose.yaml CONSTRAINT_VIOLATION services.web.environment.MAIN: `nodes.first.ip` can never have a value",
    ),
    (
        "compose.yaml",
        "8081:81",
        "${PORT}:81",
        "compose.yaml CONSTRAINT_VIOLATION services.web.ports[1]: has a `$`, which Compose would replace",
    ),
    ("compose.yaml", "8081:81", "81", "compose.yaml REQUIRED services.web.ports: has no port of the node"),
    (
        "compose.yaml",
        "      - data:/data\n",
        "",
        "compose.yaml REQUIRED services.web.volumes: kit.yaml has the volume `data`",
    ),
    (
        "compose.yaml",
        "data:/data",
        "data:/elsewhere",
        "compose.yaml CONSTRAINT_VIOLATION services.web.volumes: `data` at /elsewhere is not one of",
    ),
    (
        "compose.yaml",
        "data:/data",
        "./data:/data",
        "compose.yaml CONSTRAINT_VIOLATION services.web.volumes: is a file of the kit",
    ),
    (
        "compose.yaml",
        "data:/data",
        "/var/run/docker.sock:/data",
        "compose.yaml CONSTRAINT_VIOLATION services.web.volumes: lets the service take the node over",
    ),
    (
        "compose.yaml",
        "data:/data",
        "/data",
        "compose.yaml CONSTRAINT_VIOLATION services.web.volumes: has no name, so that it is lost",
    ),
    (
        "compose.yaml",
        "    restart: unless-stopped\n",
        "    privileged: true\n",
        "compose.yaml UNKNOWN_FIELD services.web.privileged: may not stand in a kit",
    ),
    (
        "compose.yaml",
        "    restart: unless-stopped\n",
        "    pid: host\n",
        "compose.yaml UNKNOWN_FIELD services.web.pid: may not stand in a kit",
    ),
    (
        "compose.yaml",
        "    restart: unless-stopped\n",
        "    cap_add: [SYS_ADMIN]\n",
        "compose.yaml CONSTRAINT_VIOLATION services.web.cap_add: must be one of CHOWN",
    ),
    (
        "compose.yaml",
        "    restart: unless-stopped\n",
        "    network_mode: host\n",
        "compose.yaml CONSTRAINT_VIOLATION services.web.network_mode: must be `service:<name>`",
    ),
    (
        "compose.yaml",
        "volumes:\n  data:\n",
        "volumes:\n  data: {driver_opts: {device: /etc}}\n",
        "compose.yaml UNKNOWN_FIELD volumes.data.driver_opts: may not stand here",
    ),
    (
        "schema.json",
        "\"default\": 8080",
        "\"default\": \"8080\"",
        "schema.json INVALID_TYPE : the default is none that may stand there",
    ),
    ("kit.yaml", "version: 1.2.0", "version: 1.2.0+7", "kit.yaml INVALID_FORMAT version: has build metadata"),
    (
        "compose.yaml",
        "    restart: unless-stopped\n",
        "    build: .\n",
        "compose.yaml UNKNOWN_FIELD services.web.build: may not stand in a kit",
    ),
    (
        "compose.yaml",
        "${{ kit.services.web.image }}",
        "example/other:1",
        "compose.yaml CONSTRAINT_VIOLATION services.web.image: is another image",
    ),
    (
        "compose.yaml",
        "    healthcheck: {test: [CMD, \"true\"]}\n",
        "",
        "compose.yaml REQUIRED services.web.healthcheck: `healthcheck` is missing",
    ),
    ("compose.yaml", "  big:\n", "  bag:\n", "compose.yaml UNKNOWN_SERVICE services.bag: is not in kit.yaml"),
    (
        "compose.yaml",
        "volumes:\n  data:\n",
        "volumes: {}\n",
        "compose.yaml REQUIRED volumes.data: a service uses `data`",
    ),
    (
        "compose.yaml",
        "networks:\n  edge",
        "include: [other.yaml]\nnetworks:\n  edge",
        "compose.yaml UNKNOWN_FIELD include: may not stand here",
    ),
    (
        "compose.yaml",
        "services:\n  web:",
        "services:\n  ${{ spec.name }}: {}\n  web:",
        "compose.yaml CONSTRAINT_VIOLATION services[\"${{ spec.name }}\"]: has a `$` in a key",
    ),
    (
        "schema.json",
        "\"default\": \"standard\"",
        "\"default\": \"huge\"",
        "schema.json CONSTRAINT_VIOLATION : the default is none that may stand there",
    ),
    (
        "schema.json",
        "\"email\": {",
        "\"extra\": {}, \"email\": {",
        "schema.json UNKNOWN_FIELD extra: no spec has it",
    ),
    (
        "compose.yaml",
        "    restart: unless-stopped\n",
        "    restart: ${{ spec.services.web.settings.note }}\n",
        "compose.yaml CONSTRAINT_VIOLATION services.web.restart: is what the kit says, and no spec",
    ),
    (
        "compose.yaml",
        "    restart: unless-stopped\n",
        "    privileged: ${{ spec.services.web.settings.note }}\n",
        "compose.yaml UNKNOWN_FIELD services.web.privileged: may not stand in a kit",
    ),
    (
        "compose.yaml",
        "${{ kit.services.web.image }}",
        "${{ spec.services.web.settings.note }}",
        "compose.yaml CONSTRAINT_VIOLATION services.web.image: must be ${{ kit.services.web.image }}",
    ),
    (
        "compose.yaml",
        "      - \"8081:81\"\n",
        "      - \"8081:81\"\n      - ${{ spec.services.web.settings.note }}\n",
        "compose.yaml CONSTRAINT_VIOLATION services.web.ports: is one of 3 ports, and kit.yaml has 2",
    ),
    (
        "compose.yaml",
        "volumes:\n  data:\n",
        "volumes:\n  data: {driver_opts: {device: \"${{ spec.services.web.settings.note }}\"}}\n",
        "compose.yaml UNKNOWN_FIELD volumes.data.driver_opts: may not stand here",
    ),
    (
        "compose.yaml",
        "    restart: unless-stopped\n",
        "    restart: unless-stopped\n    devices: [/dev/sda]\n",
        "compose.yaml CONSTRAINT_VIOLATION services.web.devices: must be a device below",
    ),
    (
        "compose.yaml",
        "    restart: unless-stopped\n",
        "    restart: unless-stopped\n    labels: [a=b]\n",
        "compose.yaml INVALID_TYPE services.web.labels: must be a mapping",
    ),
    (
        "compose.yaml",
        "secrets: [password, key]",
        "secrets: [pasword, key]",
        "compose.yaml REQUIRED secrets.pasword: a service uses `pasword`",
    ),
    (
        "compose.yaml",
        "/run/secrets/password",
        "/run/secrets/pasword",
        "compose.yaml REQUIRED services.web.environment: there is no secret `pasword`",
    ),
    (
        "compose.yaml",
        "  key: {file:",
        "  kay: {file:",
        "compose.yaml REQUIRED secrets.key: a service uses `key`",
    ),
    (
        "compose.yaml",
        "\"${{ spec.services.web.settings.key }}\"}",
        "/etc/shadow}",
        "compose.yaml CONSTRAINT_VIOLATION secrets.key.file: must be the placeholder of a setting",
    ),
    (
        "compose.yaml",
        "caddy: {condition",
        "cady: {condition",
        "compose.yaml UNKNOWN_SERVICE services.web.depends_on: there is no service `cady`",
    ),
    ("README.md", "# Test\n", "", "README.md REQUIRED : is empty"),
];

#[test]
fn a_secret_is_named_and_never_a_path() {
    for (text, right) in [
        ("secret://web-key", true),
        ("secret://../../etc/shadow", false),
        ("secret://", false),
        ("/etc/shadow", false),
        ("hunter2", false),
    ] {
        // Without the pattern that the schema has: the format alone says it.
        let files = files(|_, kit| kit.replace(", \"pattern\": \"^secret://[a-z-]+$\"", ""));
        let kit = Kit::load(files).unwrap();
        let spec = format!("{SPEC}services: {{web: {{settings: {{key: \"{text}\"}}}}}}\n");
        let errors = kit.validate(&spec, false).errors;
        let found: Vec<_> = errors.iter().map(|problem| (problem.code, problem.path.as_str())).collect();
        let expected: &[_] =
            if right { &[] } else { &[(Code::ConstraintViolation, "services.web.settings.key")] };
        assert_eq!(found, expected, "{text}");
    }
    // Nor is a setting one whose schema does not say that it names a secret.
    let files = files(|_, kit| {
        kit.replace("\"format\": \"secret\", \"pattern\": \"^secret://[a-z-]+$\"", "\"title\": \"x\"")
    });
    let spec = format!("{SPEC}services: {{web: {{settings: {{key: /etc/shadow}}}}}}\n");
    let told = Kit::load(files).unwrap().validate(&spec, false).errors;
    assert_eq!(
        told.iter().map(|problem| problem.path.as_str()).collect::<Vec<_>>(),
        ["services.web.settings.key"]
    );
}

#[test]
fn what_a_service_requires_is_asked_for_where_it_is_on_and_takes_no_default_away() {
    let files = files(|_, kit| {
        let kit = kit.replace(
            "\"settings\": {\"type\": \"object\", ",
            "\"settings\": {\"type\": \"object\", \"required\": [\"note\"], ",
        );
        kit.replace(
            "  - {name: one, role: main, ip: 192.168.1.10}\n",
            "  - {name: one, role: main, ip: 192.168.1.10}\nservices: {web: {settings: {note: x}}}\n",
        )
    });
    let kit = Kit::load(files).unwrap_or_else(|findings| panic!("{findings:?}"));
    let errors = kit.validate(SPEC, false).errors;
    let found: Vec<_> = errors.iter().map(|problem| (problem.code, problem.path.as_str())).collect();
    assert_eq!(found, [(Code::Required, "services.web.settings.note")]);
    let off = format!("{SPEC}services: {{web: {{enabled: false}}}}\n");
    assert!(kit.validate(&off, false).is_valid());
    let on = format!("{SPEC}services: {{web: {{settings: {{note: x}}}}}}\n");
    assert!(kit.render(&on).unwrap().compose_yaml.contains("8080:80"));
}

#[test]
fn a_secret_is_told_beside_whatever_else_and_never_repeated() {
    let token = format!("ghp_{}", "0123456789abcdefghijABCDEFGHIJ0123456789");
    for spec in [format!("{SPEC}{token}: 1\n"), format!("{SPEC}domain: !!str x # {token}\n")] {
        let told: Vec<String> = kit().validate(&spec, false).errors.iter().map(ToString::to_string).collect();
        assert!(told.iter().any(|told| told.contains("looks like a GitHub token")), "{told:?}");
        assert!(!told.iter().any(|told| told.contains(&token)), "{told:?}");
    }
}

#[test]
fn what_a_spec_makes_of_the_node_is_told_beside_other_faults() {
    let spec = with("domain: -x\nservices: {web: {settings: {media: /etc}}}");
    assert_eq!(codes(&spec), ["INVALID_FORMAT domain", "CONSTRAINT_VIOLATION services.web.settings.media"]);
}

#[test]
fn what_holds_of_a_service_with_the_defaults_holds_with_every_spec() {
    let files = files(|_, kit| {
        kit.replace("    restart: unless-stopped\n    depends_on", "    restart: unless-stopped\n    devices: [\"${{ spec.services.web.settings.note }}:/dev/x\"]\n    depends_on")
    });
    let kit = Kit::load(files).unwrap_or_else(|findings| panic!("{findings:?}"));
    for (settings, expected) in [
        ("note: /dev/ttyUSB0", &[][..]),
        ("note: /dev/sda", &["services.web.devices"]),
        ("note: /dev/serial/../sda", &["services.web.devices"]),
        ("port: 0", &["services.web.ports", "services.web.ports"]),
        ("port: 99999", &["services.web.ports"]),
    ] {
        let spec = format!("{SPEC}services: {{web: {{settings: {{{settings}}}}}}}\n");
        let errors = kit.validate(&spec, false).errors;
        let found: Vec<_> = errors.iter().map(|problem| problem.path.as_str()).collect();
        assert_eq!(found, expected, "{settings}");
    }
}

#[test]
fn a_long_value_in_many_places_has_a_bound() {
    let many = "${{ spec.services.web.settings.note }}".repeat(100);
    let files =
        files(|_, kit| kit.replace("      NOTE: \"", &format!("      MANY: \"{many}\"\n      NOTE: \"")));
    let kit = Kit::load(files).unwrap_or_else(|findings| panic!("{findings:?}"));
    let spec = |length| format!("{SPEC}services: {{web: {{settings: {{note: {}}}}}}}\n", "x".repeat(length));
    assert!(kit.render(&spec(1_000)).is_ok());
    let told = kit.render(&spec(20_000)).unwrap_err().errors;
    assert!(told[0].message.contains("1048576 bytes"), "{told:?}");
}

#[test]
fn what_is_costly_ends_with_its_budget() {
    let names: Vec<String> = (0..1900).map(|number| format!("\"{number:0>100}\": {{}}")).collect();
    let files = files(|_, kit| {
        let kit = kit.replace(
            "\"settings\": {\"type\": \"object\", ",
            "\"settings\": {\"type\": \"object\", \"additionalProperties\": false, ",
        );
        kit.replace(
            "\"note\": {\"type\": \"string\"}",
            &format!(
                "\"note\": {{\"type\": \"string\", \"pattern\": \"(a|b)*a(a|b){{900}}c\"}}, {}",
                names.join(", ")
            ),
        )
    });
    let kit = Kit::load(files).unwrap_or_else(|findings| panic!("{findings:?}"));
    let unknown: Vec<String> = (0..600).map(|number| format!("{number:x>98}: 1")).collect();
    let spec = format!("{SPEC}services: {{web: {{settings: {{additional: 1, {}}}}}}}\n", unknown.join(", "));
    let verdict = kit.validate(&spec, false);
    assert_eq!(verdict.errors.len(), 100);
    // There is work for two hints among so many names, and not for a third.
    let near = format!("{SPEC}services: {{web: {{settings: {{nate: 1, nota: 1, noti: 1}}}}}}\n");
    let hints =
        kit.validate(&near, false).errors.into_iter().filter(|problem| problem.hint.starts_with("did you"));
    assert_eq!(hints.count(), 2);
    let long = format!("{SPEC}services: {{web: {{settings: {{note: {}}}}}}}\n", "ab".repeat(30_000));
    let told = kit.validate(&long, false).errors;
    assert!(told.iter().any(|problem| problem.message.contains("more steps")), "{told:?}");
}

#[test]
fn a_kit_whose_files_do_not_agree_is_none() {
    for (file, from, to, expected) in BREAKS {
        let found = findings(file, from, to);
        assert!(found.iter().any(|finding| finding.starts_with(expected)), "{expected}\n{found:#?}");
    }
}

#[test]
fn a_kit_has_the_files_of_a_kit_and_no_others() {
    let mut more = files(|_, text| text.to_owned());
    more.insert("run.sh", "x").unwrap();
    more.insert("tests/one.yaml", "# expect: valid\n").unwrap();
    let findings = Kit::load(more).unwrap_err();
    assert_eq!(findings.iter().map(|finding| finding.file.as_str()).collect::<Vec<_>>(), ["run.sh"]);
    let mut fewer = Files::default();
    fewer.insert("kit.yaml", MANIFEST).unwrap();
    let missing: Vec<_> = Kit::load(fewer).unwrap_err().into_iter().map(|finding| finding.file).collect();
    assert_eq!(missing, ["schema.cue", "schema.json", "compose.yaml", "default-spec.yaml", "README.md"]);
}

#[test]
fn tests_of_a_kit_are_run_by_what_they_expect() {
    let mut files = files(|_, text| text.to_owned());
    files.insert("tests/right.yaml", format!("# expect: valid\n{SPEC}")).unwrap();
    files.insert("tests/wrong.yaml", format!("# expect: INVALID_CIDR\n{SPEC}")).unwrap();
    files
        .insert(
            "tests/range.yaml",
            format!("# expect: INVALID_CIDR\n{SPEC}network: {{subnet: 10.0.0.0/77}}\n"),
        )
        .unwrap();
    let kit = Kit::load(files).unwrap();
    let failed: Vec<_> = kit.test().into_iter().filter(|case| case.failure.is_some()).collect();
    assert_eq!(failed.len(), 1);
    assert_eq!(failed[0].file, "tests/wrong.yaml");
    assert_eq!(failed[0].failure.as_deref(), Some("expected INVALID_CIDR, found valid"));
}
