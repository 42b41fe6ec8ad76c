//! What a kit says of its services in compose.yaml, held against what it says in kit.yaml: with its defaults, and with each
//! spec.

use super::{Mount, used};
use crate::manifest::Manifest;
use crate::node::{Entry, Node};
use crate::problem::{Code, Position, Problem};
use crate::rules::Spec;

/// What a service may be able to do beyond what Docker gives every one.
const CAPABILITIES: [&str; 8] =
    ["CHOWN", "DAC_OVERRIDE", "FOWNER", "NET_ADMIN", "NET_BIND_SERVICE", "NET_RAW", "SYS_NICE", "SYS_TIME"];

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

pub(super) fn check_service(entry: &Entry, manifest: &Manifest, spec: &Spec<'_>) -> Vec<Problem> {
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

/// A port that a service publishes: on the node, in the container, and what it speaks.
fn published(item: &Node) -> Option<(Option<u16>, u16, String)> {
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
