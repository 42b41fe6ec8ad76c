//! Ports on nodes.

use std::collections::BTreeMap;

use super::{Findings, Spec};
use crate::budget::Exhausted;
use crate::problem::{Code, Problem};

/// Ports of a node that are kept, and whose they are.
const KEPT: [(u16, &str); 3] = [(22, "SSH"), (2375, "the Docker Engine"), (2376, "the Docker Engine")];

/// The ports that Linux gives to clients by default (`net.ipv4.ip_local_port_range`).
const OF_CLIENTS: std::ops::RangeInclusive<u16> = 32_768..=60_999;

pub(super) fn check(spec: &Spec<'_>, findings: &mut Findings<'_>) -> Result<(), Exhausted> {
    let nodes = spec.nodes();
    let mut taken = BTreeMap::new();
    for service in spec.enabled() {
        let node = Spec::node_of(&nodes, service.role).map_or("", |node| node.name);
        for port in &service.ports {
            findings.budget.spend(1)?;
            let setting = port.setting.as_ref().and_then(|name| spec.setting(&service.name, name));
            let chosen = setting.and_then(|node| u16::try_from(node.as_int()?).ok());
            let Some(number) = chosen.or(port.host) else { continue };
            let at = setting.map_or_else(|| spec.at_service(&service.name), |node| node.at);
            let path = match &port.setting {
                Some(setting) => format!("services.{}.settings.{setting}", service.name),
                None => format!("services.{}", service.name),
            };
            if let Some((_, whose)) = KEPT.iter().find(|(kept, _)| *kept == number) {
                let message = format!("is {number}, the port of {whose}");
                findings.error(Problem::new(Code::ReservedRange, at, path.clone(), message));
            }
            if OF_CLIENTS.contains(&number) {
                let message = format!("is {number}, of the ports that the system gives to clients");
                let hint = "take one below 32768";
                findings.warning(Problem::new(Code::ReservedRange, at, path.clone(), message).hint(hint));
            }
            let key = (node, port.protocol, number);
            if let Some(first) = taken.insert(key, (&service.name, &port.name)) {
                let (service, name) = first;
                let protocol = port.protocol;
                let message =
                    format!("is {protocol} port {number}, which {service} ({name}) has on the same node");
                findings.error(
                    Problem::new(Code::DuplicatePort, at, path, message)
                        .hint("give one of them another port"),
                );
            }
        }
    }
    Ok(())
}
