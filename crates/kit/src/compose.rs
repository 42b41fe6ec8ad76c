//! From compose.yaml and a spec to the Compose file of a stack. Source: <https://compose-spec.io>.

use std::collections::BTreeSet;

use crate::manifest::Manifest;
use crate::node::{Entry, Node, Path, Value, printable};
use crate::placeholder::{Part, SECRET_FILES, Values, is_secret_name, parts};
use crate::problem::{Code, Position, Problem};
use crate::rules::{SECRET_HINT, Spec};

/// Which services are taken into the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Which {
    /// Those that the spec switches on.
    Enabled,
    /// All: to look at what the kit says of each.
    All,
}

/// The Compose file that `spec` makes of `compose`.
///
/// # Errors
/// - what cannot be filled in.
pub(crate) fn render(compose: &Node, spec: &Spec<'_>, which: Which) -> Result<Node, Problem> {
    let nodes = spec.nodes();
    let manifest = spec.manifest;
    let values = Values { manifest, spec, nodes: &nodes };
    let filled = fill(compose, &values, &Path::default())?;
    let mut file = filled.unwrap_or_else(|| compose.clone());
    let taken: BTreeSet<&str> = match which {
        Which::Enabled => spec.enabled_names(),
        Which::All => manifest.services.iter().map(|service| service.name.as_str()).collect(),
    };
    if let Some(services) = map_mut(&mut file, "services") {
        // What the kit does not have stays to be told.
        services.retain(|entry| which == Which::All || taken.contains(entry.key.as_str()));
        for entry in services {
            depend_on(&mut entry.value, &taken);
            let service = manifest.service(&entry.key);
            let role = service.map(|service| service.role);
            let node = role.and_then(|role| Spec::node_of(&nodes, role)).map_or("", |node| node.name);
            let stack = spec.root.get("name").and_then(Node::as_str).unwrap_or_default();
            label(
                &mut entry.value,
                [
                    ("io.kombify.kit", manifest.id.clone()),
                    ("io.kombify.version", manifest.version.to_string()),
                    ("io.kombify.stack", stack.to_owned()),
                    ("io.kombify.service", entry.key.clone()),
                    ("io.kombify.node", node.to_owned()),
                ],
            );
        }
    }
    prune(&mut file);
    Ok(file)
}

/// The node with its placeholders filled in; `None`: something in it has no value, so that it is left out.
fn fill(node: &Node, values: &Values<'_>, path: &Path) -> Result<Option<Node>, Problem> {
    let value = match &node.value {
        Value::Text { text, plain } => return fill_text(node, text, *plain, values, path),
        Value::List(items) => {
            let mut filled = Vec::with_capacity(items.len());
            for (index, item) in items.iter().enumerate() {
                filled.extend(fill(item, values, &path.index(index))?);
            }
            Value::List(filled)
        }
        Value::Map(entries) => {
            let mut filled = Vec::with_capacity(entries.len());
            for entry in entries {
                if let Some(value) = fill(&entry.value, values, &path.key(&entry.key))? {
                    filled.push(Entry { key: entry.key.clone(), key_at: entry.key_at, value });
                }
            }
            Value::Map(filled)
        }
        Value::Null | Value::Bool(_) | Value::Int(_) | Value::Float(_) => node.value.clone(),
    };
    Ok(Some(Node { value, at: node.at }))
}

fn fill_text(
    node: &Node,
    text: &str,
    plain: bool,
    values: &Values<'_>,
    path: &Path,
) -> Result<Option<Node>, Problem> {
    let problem = |message: String| Problem::new(Code::InvalidFormat, node.at, path.to_string(), message);
    let parts = parts(text).map_err(problem)?;
    if let ([Part::Value(name)], true) = (parts.as_slice(), plain) {
        return match values.get(name) {
            Some(value) if is_scalar(&value) => Ok(Some(Node { value: value.value, at: node.at })),
            Some(value) => Err(problem(format!("takes one value, and `{name}` is {}", value.kind()))),
            None => Ok(None),
        };
    }
    let mut filled = String::new();
    for part in parts {
        match part {
            Part::Text(text) => filled.push_str(text),
            Part::Value(name) => match values.get(name) {
                Some(Node { value: Value::Text { text, .. }, .. }) => filled.push_str(&text),
                Some(value) if is_scalar(&value) => {
                    filled.push_str(&value.to_json().to_string());
                }
                Some(value) => {
                    return Err(problem(format!("takes one value, and `{name}` is {}", value.kind())));
                }
                None => return Ok(None),
            },
        }
    }
    Ok(Some(Node { value: Value::Text { text: filled, plain }, at: node.at }))
}

fn is_scalar(node: &Node) -> bool {
    !matches!(node.value, Value::List(_) | Value::Map(_))
}

fn map_mut<'a>(node: &'a mut Node, key: &str) -> Option<&'a mut Vec<Entry>> {
    let Value::Map(entries) = &mut node.value else { return None };
    let entry = entries.iter_mut().find(|entry| entry.key == key)?;
    if let Value::Map(inner) = &mut entry.value.value { Some(inner) } else { None }
}

/// Takes out what is not there: both forms of `depends_on` are known.
fn depend_on(service: &mut Node, taken: &BTreeSet<&str>) {
    let Value::Map(entries) = &mut service.value else { return };
    for entry in entries.iter_mut().filter(|entry| entry.key == "depends_on") {
        match &mut entry.value.value {
            Value::List(items) => items.retain(|item| item.as_str().is_some_and(|name| taken.contains(name))),
            Value::Map(entries) => entries.retain(|entry| taken.contains(entry.key.as_str())),
            Value::Null | Value::Bool(_) | Value::Int(_) | Value::Float(_) | Value::Text { .. } => {}
        }
    }
    entries.retain(|entry| entry.key != "depends_on" || !is_empty(&entry.value));
}

fn is_empty(node: &Node) -> bool {
    node.items().is_empty() && node.entries().is_empty()
}

fn label(service: &mut Node, labels: [(&str, String); 5]) {
    let at = service.at;
    let Value::Map(entries) = &mut service.value else { return };
    if !entries.iter().any(|entry| entry.key == "labels") {
        let value = Node { value: Value::Map(Vec::new()), at };
        entries.push(Entry { key: "labels".into(), key_at: at, value });
    }
    let known = entries.iter_mut().find(|entry| entry.key == "labels");
    let Some(Entry { value: Node { value: Value::Map(known), .. }, .. }) = known else { return };
    known.retain(|entry| !labels.iter().any(|(name, _)| entry.key == *name));
    for (name, value) in labels {
        known.push(Entry { key: name.to_owned(), key_at: at, value: Node::text(value, at) });
    }
}

/// Where a service finds a secret.
const SECRETS: &str = "/run/secrets/";

/// Takes out secrets without a file, with who uses them and the variables that name their place, and then the volumes, networks and secrets that nobody uses.
fn prune(file: &mut Node) {
    let there: BTreeSet<String> = file
        .get("secrets")
        .map(Node::entries)
        .unwrap_or_default()
        .iter()
        .filter(|entry| entry.value.get("file").is_some())
        .map(|entry| entry.key.clone())
        .collect();
    let gone = |text: &str| named_secrets(text).any(|name| !there.contains(name));
    for entry in map_mut(file, "services").into_iter().flatten() {
        if let Value::Map(entries) = &mut entry.value.value {
            for entry in entries.iter_mut().filter(|entry| entry.key == "environment") {
                match &mut entry.value.value {
                    Value::Map(entries) => entries.retain(|entry| !entry.value.as_str().is_some_and(gone)),
                    Value::List(items) => items.retain(|item| !item.as_str().is_some_and(gone)),
                    Value::Null | Value::Bool(_) | Value::Int(_) | Value::Float(_) | Value::Text { .. } => {}
                }
            }
            for entry in entries.iter_mut().filter(|entry| entry.key == "secrets") {
                if let Value::List(items) = &mut entry.value.value {
                    items.retain(|item| used_name(item).is_none_or(|name| there.contains(&name)));
                }
            }
            entries.retain(|entry| entry.key != "secrets" || !is_empty(&entry.value));
        }
    }
    for kind in ["volumes", "networks", "secrets"] {
        let used = used(file, kind);
        if let Some(entries) = map_mut(file, kind) {
            entries
                .retain(|entry| used.contains(&entry.key) || (kind == "networks" && entry.key == "default"));
        }
    }
    if let Value::Map(entries) = &mut file.value {
        entries.retain(|entry| {
            !["volumes", "networks", "secrets"].contains(&entry.key.as_str()) || !is_empty(&entry.value)
        });
    }
}

/// The secrets whose place a text names.
fn named_secrets(text: &str) -> impl Iterator<Item = &str> {
    text.split(SECRETS).skip(1).map(|rest| {
        let end = rest.find(|one: char| !one.is_ascii_alphanumeric() && !"._-".contains(one));
        rest.get(..end.unwrap_or(rest.len())).unwrap_or_default()
    })
}

/// The names of volumes, networks or secrets that services use.
pub(crate) fn used(file: &Node, kind: &str) -> BTreeSet<String> {
    let services = file.get("services").map(Node::entries).unwrap_or_default();
    let mut used = BTreeSet::new();
    for service in services {
        let Some(list) = service.value.get(kind) else { continue };
        used.extend(list.entries().iter().map(|entry| entry.key.clone()));
        used.extend(list.items().iter().filter_map(|item| match kind {
            "volumes" => Mount::of(item).and_then(|mount| mount.volume),
            _ => used_name(item),
        }));
    }
    used
}

/// The name in a list of names: alone, or as the `source` of the long form.
fn used_name(item: &Node) -> Option<String> {
    item.as_str().or_else(|| item.get("source").and_then(Node::as_str)).map(str::to_owned)
}

/// What a service mounts.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Mount {
    /// The named volume.
    pub(crate) volume: Option<String>,
    /// What of the node.
    pub(crate) host: Option<String>,
    /// Where.
    pub(crate) path: String,
}

impl Mount {
    /// What the entry of `volumes` says, in its short or its long form.
    pub(crate) fn of(item: &Node) -> Option<Self> {
        let (source, path) = if let Some(text) = item.as_str() {
            let mut parts = text.split(':');
            let (source, path) = (parts.next()?, parts.next());
            match path {
                Some(path) => (Some(source.to_owned()), path.to_owned()),
                None => (None, source.to_owned()),
            }
        } else {
            let text = |key| item.get(key).and_then(Node::as_str).map(str::to_owned);
            if text("type").is_some_and(|kind| kind == "tmpfs") {
                return Some(Self { volume: None, host: None, path: text("target")? });
            }
            (text("source"), text("target")?)
        };
        let of_host = |source: &String| source.starts_with(['/', '.', '~']);
        Some(Self {
            host: source.clone().filter(of_host),
            volume: source.filter(|source| !of_host(source)),
            path,
        })
    }
}

/// Where on a node a spec may choose a directory of data: below these. What is elsewhere is the system's, or somebody's who did
/// not ask for it.
const ROOTS: [&str; 7] = ["/data/", "/home/", "/media/", "/mnt/", "/srv/", "/storage/", "/volume"];

/// What a spec made of the services that it must not: what holds of them with the kit's defaults holds with every spec. Places
/// are the spec's.
pub(crate) fn check_rendered(compose: &Node, file: &Node, spec: &Spec<'_>) -> Vec<Problem> {
    let mut problems = chosen_mounts(compose, file, spec);
    for entry in file.get("services").map(Node::entries).unwrap_or_default() {
        for problem in check_service(entry, spec.manifest, spec) {
            let at = chosen_at(compose, problem.at, spec).map_or(Position::START, |(_, at)| at);
            // What is chosen badly is told once.
            if !problems.iter().any(|known| known.at == at) {
                problems.push(Problem { at, ..problem });
            }
        }
    }
    for entry in file.get("secrets").map(Node::entries).unwrap_or_default() {
        let name =
            entry.value.get("file").and_then(Node::as_str).and_then(|file| file.strip_prefix(SECRET_FILES));
        if !name.is_some_and(is_secret_name) {
            let at = entry.value.get("file").and_then(|file| chosen_at(compose, file.at, spec));
            let (path, at) = at.unwrap_or_else(|| (format!("secrets.{}", entry.key), Position::START));
            let message = "must name a secret, never be one";
            problems.push(Problem::new(Code::ConstraintViolation, at, path, message).hint(SECRET_HINT));
        }
    }
    problems
}

/// What of the spec was filled in at a place of compose.yaml, and where it stands.
fn chosen_at(compose: &Node, at: Position, spec: &Spec<'_>) -> Option<(String, Position)> {
    let text = text_at(compose, at)?;
    let parts = parts(text).ok()?;
    parts.iter().find_map(|part| {
        let Part::Value(name) = part else { return None };
        let path = name.strip_prefix("spec.")?;
        let keys: Vec<&str> = path.split('.').collect();
        Some((path.to_owned(), spec.root.find(&keys)?.at))
    })
}

/// The text that stands there.
fn text_at(node: &Node, at: Position) -> Option<&str> {
    if node.at == at && node.as_str().is_some() {
        return node.as_str();
    }
    let values = node.entries().iter().map(|entry| &entry.value);
    node.items().iter().chain(values).find_map(|inner| text_at(inner, at))
}

/// What a spec has chosen of the node, and must not: where compose.yaml says the same by itself, its author answers for it.
fn chosen_mounts(compose: &Node, file: &Node, spec: &Spec<'_>) -> Vec<Problem> {
    let mut problems = Vec::new();
    for entry in file.get("services").map(Node::entries).unwrap_or_default() {
        let own = compose.find(&["services", &entry.key, "volumes"]).map(Node::items).unwrap_or_default();
        for item in entry.value.get("volumes").map(Node::items).unwrap_or_default() {
            // What is filled in keeps its place.
            let written = own.iter().find(|own| own.at == item.at);
            if written.is_some_and(|own| own.to_json() == item.to_json()) {
                continue;
            }
            let colons = |node: &Node| node.as_str().map_or(0, |text| text.matches(':').count());
            let shifted = written.is_some_and(|own| colons(own) != colons(item));
            let chosen = Mount::of(item).and_then(|mount| mount.host);
            if shifted || !chosen.is_some_and(|path| is_of_data(&path)) {
                let (path, at) = chosen_at(compose, item.at, spec)
                    .unwrap_or_else(|| (format!("services.{}", entry.key), Position::START));
                let message = "gives the service something of the node that is no directory of data";
                let hint = format!("name a directory below {} by its whole path", ROOTS.join(", "));
                problems.push(Problem::new(Code::ConstraintViolation, at, path, message).hint(hint));
            }
        }
    }
    problems
}

/// Whether the path is one of data: plain, not hidden, and below one of the roots.
fn is_of_data(path: &str) -> bool {
    let mut segments = path.split('/').skip(1);
    let plain = segments.all(|segment| {
        let known = |one: char| one.is_alphanumeric() || "._- ".contains(one);
        !segment.is_empty() && !segment.starts_with('.') && segment.chars().all(known)
    });
    // What is right below /home is all that somebody has.
    let is_home = path.starts_with("/home/") && path.matches('/').count() < 3;
    plain && !is_home && ROOTS.iter().any(|root| path.len() > root.len() && path.starts_with(root))
}

/// Directories of the node from which a service could take the node over: a kit that needs one is none.
fn takes_the_node_over(path: &str) -> bool {
    let plain: Vec<&str> = path.split('/').filter(|segment| !segment.is_empty() && *segment != ".").collect();
    let path = &format!("/{}", plain.join("/")).trim_end_matches('/').to_owned();
    let within =
        |kept: &str| path.strip_prefix(kept).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    path.is_empty()
        || plain.contains(&"..")
        || path.as_str() == "/var"
        || path.rsplit('.').next() == Some("sock")
        || [
            "/boot",
            "/dev",
            "/etc",
            "/lib",
            "/lib64",
            "/proc",
            "/root",
            "/run",
            "/sys",
            "/usr",
            "/var/lib/docker",
            "/var/run",
            "/var/spool",
        ]
        .into_iter()
        .any(within)
}

/// What a service of a kit may say in compose.yaml.
const SERVICE_KEYS: [&str; 33] = [
    "cap_add",
    "cap_drop",
    "command",
    "cpus",
    "depends_on",
    "devices",
    "dns",
    "entrypoint",
    "environment",
    "expose",
    "extra_hosts",
    "group_add",
    "healthcheck",
    "hostname",
    "image",
    "init",
    "labels",
    "logging",
    "mem_limit",
    "network_mode",
    "networks",
    "ports",
    "read_only",
    "restart",
    "secrets",
    "shm_size",
    "stop_grace_period",
    "stop_signal",
    "tmpfs",
    "ulimits",
    "user",
    "volumes",
    "working_dir",
];

/// What a service may be able to do beyond what Docker gives every one.
const CAPABILITIES: [&str; 8] =
    ["CHOWN", "DAC_OVERRIDE", "FOWNER", "NET_ADMIN", "NET_BIND_SERVICE", "NET_RAW", "SYS_NICE", "SYS_TIME"];

/// A port that a service publishes: on the node, in the container, and what it speaks.
pub(crate) fn published(item: &Node) -> Option<(Option<u16>, u16, String)> {
    if let Some(number) = item.as_int() {
        return Some((None, u16::try_from(number).ok()?, "tcp".to_owned()));
    }
    let Some(text) = item.as_str() else {
        let number = |key: &str| {
            let node = item.get(key)?;
            node.as_int().map_or_else(|| node.as_str()?.parse().ok(), |number| u16::try_from(number).ok())
        };
        let protocol = item.get("protocol").and_then(Node::as_str).unwrap_or("tcp");
        return Some((number("published"), number("target")?, protocol.to_owned()));
    };
    let (ports, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let mut numbers = ports.rsplit(':');
    let container = numbers.next()?.parse().ok()?;
    let host = match numbers.next() {
        Some(host) => Some(host.parse().ok().filter(|port| *port != 0)?),
        None => None,
    };
    Some((host, container, protocol.to_owned()))
}

/// What of a service a spec may have a say in. In `image` the only placeholder is that of the kit's own image.
const FILLED_KEYS: [&str; 15] = [
    "command",
    "cpus",
    "devices",
    "dns",
    "environment",
    "extra_hosts",
    "healthcheck",
    "hostname",
    "image",
    "labels",
    "mem_limit",
    "ports",
    "shm_size",
    "stop_grace_period",
    "volumes",
];

/// What can be said of compose.yaml as it is written, whatever a spec says: which keys there are, where a placeholder may
/// stand, and that every name leads somewhere.
pub(crate) fn check_written(compose: &Node, manifest: &Manifest) -> Vec<Problem> {
    let mut problems = Vec::new();
    let mut tell = |code, at: Position, path: String, message: String| {
        problems.push(Problem::new(code, at, path, message));
    };
    for (kind, keys) in [("volumes", &[][..]), ("networks", &["ipam", "internal"]), ("secrets", &["file"])] {
        for entry in compose.get(kind).map(Node::entries).unwrap_or_default() {
            for key in entry.value.entries().iter().filter(|key| !keys.contains(&key.key.as_str())) {
                let message = match kind {
                    "volumes" => "may not stand here: a volume is one of Docker's own".to_owned(),
                    _ => format!("may not stand here: of its {kind} a kit says {} alone", keys.join(" and ")),
                };
                tell(Code::UnknownField, key.key_at, format!("{kind}.{}.{}", entry.key, key.key), message);
            }
        }
    }
    let there = |kind: &str, name: &str| compose.find(&[kind, name]).is_some();
    for entry in compose.get("secrets").map(Node::entries).unwrap_or_default() {
        let file = entry.value.get("file");
        let parts = file.and_then(Node::as_str).map(parts);
        let is_of_spec = matches!(parts.as_ref().map(|parts| parts.as_deref()), Some(Ok([Part::Value(name)])) if name.starts_with("spec."));
        if !is_of_spec {
            let at = file.map_or(entry.key_at, |file| file.at);
            let message =
                "must be the placeholder of a setting that names a secret, and nothing else".to_owned();
            tell(Code::ConstraintViolation, at, format!("secrets.{}.file", entry.key), message);
        }
    }
    for entry in compose.get("services").map(Node::entries).unwrap_or_default() {
        let path = format!("services.{}", entry.key);
        for key in entry.value.entries() {
            let path = format!("{path}.{}", key.key);
            if !SERVICE_KEYS.contains(&key.key.as_str()) {
                tell(Code::UnknownField, key.key_at, path.clone(), "may not stand in a kit".to_owned());
            } else if !FILLED_KEYS.contains(&key.key.as_str())
                && let Some(at) = placeholder_in(&key.value)
            {
                let message =
                    "is what the kit says, and no spec: a placeholder may not stand here".to_owned();
                tell(Code::ConstraintViolation, at, path.clone(), message);
            }
            if key.key == "labels" && !matches!(key.value.value, Value::Map(_)) {
                let message = format!("must be a mapping, and is {}", key.value.kind());
                tell(Code::InvalidType, key.value.at, path, message);
            }
        }
        if let Some(image) = entry.value.get("image")
            && placeholder_in(image).is_some()
            && !matches!(
                image.as_str().map(parts).as_ref().map(|parts| parts.as_deref()),
                Some(Ok([Part::Value(name)])) if *name == format!("kit.services.{}.image", entry.key)
            )
        {
            let message = format!("must be ${{{{ kit.services.{}.image }}}}", entry.key);
            tell(Code::ConstraintViolation, image.at, format!("{path}.image"), message);
        }
        let ports = entry.value.get("ports").map(Node::items).unwrap_or_default();
        let known = manifest.service(&entry.key).map(|service| service.ports.len());
        if let (Some(known), Some(port)) = (known, known.and_then(|known| ports.get(known))) {
            let message = format!("is one of {} ports, and kit.yaml has {known}", ports.len());
            tell(Code::ConstraintViolation, port.at, format!("{path}.ports"), message);
        }
        let depends_on = entry.value.get("depends_on");
        let names = depends_on.map(Node::items).unwrap_or_default().iter();
        let names = names.filter_map(|item| Some((item.as_str()?, item.at)));
        let keys = depends_on.map(Node::entries).unwrap_or_default().iter();
        for (name, at) in names.chain(keys.map(|entry| (entry.key.as_str(), entry.key_at))) {
            if !there("services", name) {
                let message = format!("there is no service `{}`", printable(name));
                tell(Code::UnknownService, at, format!("{path}.depends_on"), message);
            }
        }
        for item in entry.value.get("secrets").map(Node::items).unwrap_or_default() {
            if let Some(name) = used_name(item).filter(|name| !there("secrets", name)) {
                let message = format!("a service uses `{}`, which is missing here", printable(&name));
                tell(Code::Required, item.at, format!("secrets.{name}"), message);
            }
        }
        let environment = entry.value.get("environment");
        let values = environment.map(Node::entries).unwrap_or_default().iter().map(|entry| &entry.value);
        for value in values.chain(environment.map(Node::items).unwrap_or_default()) {
            for name in value.as_str().into_iter().flat_map(named_secrets) {
                if !there("secrets", name) {
                    let message = format!("there is no secret `{name}`");
                    tell(Code::Required, value.at, format!("{path}.environment"), message);
                }
            }
        }
    }
    problems
}

/// Where the first placeholder stands.
fn placeholder_in(node: &Node) -> Option<Position> {
    if node.as_str().is_some_and(|text| text.contains("${{")) {
        return Some(node.at);
    }
    let values = node.entries().iter().map(|entry| &entry.value);
    node.items().iter().chain(values).find_map(placeholder_in)
}

/// Devices of a node that a service may have: what plays, shows, counts and talks to other things, and never a disk.
const DEVICES: [&str; 9] = [
    "/dev/bus/usb/",
    "/dev/dri/",
    "/dev/hidraw",
    "/dev/net/tun",
    "/dev/serial/",
    "/dev/snd",
    "/dev/ttyACM",
    "/dev/ttyAMA",
    "/dev/ttyUSB",
];

/// What a kit says of its services in compose.yaml, held against what it says in kit.yaml. `file` is rendered, with every
/// service in it; places are those of compose.yaml.
pub(crate) fn check(file: &Node, spec: &Spec<'_>) -> Vec<Problem> {
    let mut problems = Vec::new();
    let mut tell = |code, at: Position, path: String, message: String| {
        problems.push(Problem::new(code, at, path, message));
    };
    for entry in file.entries() {
        if !["services", "networks", "volumes", "secrets"].contains(&entry.key.as_str()) {
            let message = "may not stand here: a kit has services, networks, volumes and secrets".to_owned();
            tell(Code::UnknownField, entry.key_at, entry.key.clone(), message);
        }
    }
    let services = file.get("services").map(Node::entries).unwrap_or_default();
    let manifest = spec.manifest;
    for service in &manifest.services {
        if !services.iter().any(|entry| entry.key == service.name) {
            let message = format!("kit.yaml has the service `{}`, which is missing here", service.name);
            tell(Code::Required, file.at, format!("services.{}", service.name), message);
        }
    }
    for kind in ["volumes", "networks", "secrets"] {
        let there = file.get(kind).map(Node::entries).unwrap_or_default();
        for name in used(file, kind) {
            if name != "default" && !there.iter().any(|entry| entry.key == name) {
                let message = format!("a service uses `{name}`, which is missing here");
                tell(Code::Required, file.at, format!("{kind}.{name}"), message);
            }
        }
    }
    for entry in services {
        problems.extend(check_service(entry, manifest, spec));
    }
    problems
}

fn check_service(entry: &Entry, manifest: &Manifest, spec: &Spec<'_>) -> Vec<Problem> {
    let path = format!("services.{}", entry.key);
    let Some(service) = manifest.service(&entry.key) else {
        let message = "is not in kit.yaml".to_owned();
        return vec![Problem::new(Code::UnknownService, entry.key_at, path, message)];
    };
    let mut problems = Vec::new();
    let mut tell = |code, at: Position, key: &str, message: String| {
        problems.push(Problem::new(code, at, format!("{path}.{key}"), message));
    };
    for capability in entry.value.get("cap_add").map(Node::items).unwrap_or_default() {
        if !capability.as_str().is_some_and(|name| CAPABILITIES.contains(&name)) {
            let message = format!("must be one of {}", CAPABILITIES.join(", "));
            tell(Code::ConstraintViolation, capability.at, "cap_add", message);
        }
    }
    if let Some(mode) = entry.value.get("network_mode")
        && !mode.as_str().is_some_and(|mode| mode.starts_with("service:"))
    {
        let message = "must be `service:<name>`: the ports of a node are given by `ports`".to_owned();
        tell(Code::ConstraintViolation, mode.at, "network_mode", message);
    }
    for key in ["image", "healthcheck", "restart"] {
        if entry.value.get(key).is_none() {
            tell(Code::Required, entry.key_at, key, format!("`{key}` is missing"));
        }
    }
    let tests = entry.value.find(&["healthcheck", "test"]);
    if entry.value.get("healthcheck").is_some()
        && tests.is_none_or(|test| test.as_str().is_none() && test.items().is_empty())
    {
        tell(Code::Required, entry.key_at, "healthcheck.test", "`test` is missing".to_owned());
    }
    if let Some(image) =
        entry.value.get("image").filter(|image| image.as_str() != Some(&service.image.to_string()))
    {
        let message =
            format!("is another image than kit.yaml's: write ${{{{ kit.services.{}.image }}}}", service.name);
        tell(Code::ConstraintViolation, image.at, "image", message);
    }
    for device in entry.value.get("devices").map(Node::items).unwrap_or_default() {
        let host = device.as_str().and_then(|text| text.split(':').next()).unwrap_or_default();
        if host.contains("/.") || !DEVICES.iter().any(|known| host.starts_with(known)) {
            let message = format!("must be a device below {}", DEVICES.join(", "));
            tell(Code::ConstraintViolation, device.at, "devices", message);
        }
    }
    ports(entry, service, spec, &mut tell);
    let mounts = entry.value.get("volumes").map(Node::items).unwrap_or_default();
    for item in mounts {
        match Mount::of(item) {
            None => tell(Code::InvalidFormat, item.at, "volumes", "is no mount".to_owned()),
            Some(Mount { volume: Some(name), path, .. }) => {
                if !service.volumes.iter().any(|volume| volume.name == name && volume.path == path) {
                    let message =
                        format!("`{name}` at {path} is not one of the service's volumes in kit.yaml");
                    tell(Code::ConstraintViolation, item.at, "volumes", message);
                }
            }
            Some(Mount { host: Some(host), .. }) => {
                if !host.starts_with('/') {
                    let message =
                        "is a file of the kit, which does not come with it: name a volume".to_owned();
                    tell(Code::ConstraintViolation, item.at, "volumes", message);
                } else if takes_the_node_over(&host) {
                    let message = "lets the service take the node over".to_owned();
                    tell(Code::ConstraintViolation, item.at, "volumes", message);
                }
            }
            Some(Mount { volume: None, host: None, .. }) => {
                tell(
                    Code::ConstraintViolation,
                    item.at,
                    "volumes",
                    "has no name, so that it is lost".to_owned(),
                );
            }
        }
    }
    for volume in &service.volumes {
        let mounted =
            mounts.iter().filter_map(Mount::of).any(|mount| mount.volume.as_ref() == Some(&volume.name));
        if !mounted {
            tell(
                Code::Required,
                entry.key_at,
                "volumes",
                format!("kit.yaml has the volume `{}`", volume.name),
            );
        }
    }
    problems
}

fn ports(
    entry: &Entry,
    service: &crate::manifest::Service,
    spec: &Spec<'_>,
    tell: &mut impl FnMut(Code, Position, &str, String),
) {
    let items = entry.value.get("ports").map(Node::items).unwrap_or_default();
    let mut there = Vec::new();
    for item in items {
        match published(item) {
            Some((Some(host), container, protocol)) => there.push((item.at, host, container, protocol)),
            Some((None, ..)) => {
                let message = "has no port of the node, so that it is another one each time".to_owned();
                tell(Code::Required, item.at, "ports", message);
            }
            None => tell(
                Code::InvalidFormat,
                item.at,
                "ports",
                "is no port: <node>:<container>/<protocol>".to_owned(),
            ),
        }
    }
    for port in &service.ports {
        let setting = port.setting.as_ref().map(|name| spec.setting(&service.name, name));
        if let (Some(None), Some(name)) = (setting, &port.setting) {
            let message = format!("the port `{}` is the setting `{name}`, which has no default", port.name);
            tell(Code::Required, entry.key_at, "ports", message);
        }
        let chosen = setting.flatten().and_then(Node::as_int).and_then(|number| u16::try_from(number).ok());
        let Some(host) = chosen.or(port.host) else { continue };
        let found = there.iter().position(|(_, at_node, container, protocol)| {
            (*at_node, *container, protocol.as_str()) == (host, port.container, port.protocol.as_str())
        });
        if let Some(found) = found {
            there.swap_remove(found);
        } else {
            let message =
                format!("kit.yaml has {host}:{}/{} (`{}`)", port.container, port.protocol, port.name);
            tell(Code::Required, entry.key_at, "ports", message);
        }
    }
    for (at, host, container, protocol) in there {
        let message = format!("{host}:{container}/{protocol} is not one of the service's ports in kit.yaml");
        tell(Code::ConstraintViolation, at, "ports", message);
    }
}
