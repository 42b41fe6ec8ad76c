//! Addresses and ranges. Source: RFC 1918 (private), RFC 6598 (shared), RFC 6890 (special purposes).

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;

use super::{Findings, Spec};
use crate::budget::Exhausted;
use crate::node::Node;
use crate::problem::{Code, Position, Problem};
use crate::schema::Format;

/// The least and the most bits of a subnet's prefix.
const PREFIX: std::ops::RangeInclusive<u8> = 8..=29;

const fn net(a: u8, b: u8, c: u8, d: u8, prefix: u8) -> Ipv4Net {
    Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), prefix)
}

/// Ranges that containers may have.
const PRIVATE: [Ipv4Net; 4] =
    [net(10, 0, 0, 0, 8), net(172, 16, 0, 0, 12), net(192, 168, 0, 0, 16), net(100, 64, 0, 0, 10)];

/// Ranges that nobody may have, and whose they are.
const RESERVED: [(Ipv4Net, &str); 6] = [
    (net(0, 0, 0, 0, 8), "\"this network\""),
    (net(127, 0, 0, 0, 8), "loopback"),
    (net(169, 254, 0, 0, 16), "link-local addresses"),
    (net(172, 17, 0, 0, 16), "Docker's own bridge"),
    (net(224, 0, 0, 0, 4), "multicast"),
    (net(240, 0, 0, 0, 4), "the future"),
];

pub(super) fn check(spec: &Spec<'_>, findings: &mut Findings<'_>) -> Result<(), Exhausted> {
    findings.budget.spend(spec.formats.len())?;
    let addresses = addresses(spec, findings);
    let ranges = ranges(spec, findings);
    findings.budget.spend(ranges.len() * (ranges.len() + addresses.len()))?;
    for (index, (range, at, path)) in ranges.iter().enumerate() {
        if let Some((address, _)) = addresses.iter().find(|(address, _)| range.contains(address)) {
            let message = format!("holds {address}, which is a node's");
            let hint = "containers and nodes need ranges of their own".to_owned();
            findings.error(Problem::new(Code::ReservedRange, *at, path.clone(), message).hint(hint));
        }
        let other =
            ranges.iter().take(index).find(|(other, _, _)| other.contains(range) || range.contains(other));
        if let Some((_, _, other)) = other {
            let message = format!("meets the range of {other}");
            findings.error(Problem::new(Code::ReservedRange, *at, path.clone(), message));
        }
    }
    public(spec, findings);
    Ok(())
}

/// The nodes' addresses that can be some.
fn addresses(spec: &Spec<'_>, findings: &mut Findings<'_>) -> Vec<(Ipv4Addr, String)> {
    let mut addresses = Vec::new();
    for (format, path, node) in spec.formats {
        let Some(text) = node.as_str().filter(|_| *format == Format::Ipv4) else { continue };
        let path = path.to_string();
        let Ok(address) = text.parse::<Ipv4Addr>() else {
            let message = "is no IPv4 address: four numbers from 0 to 255, without leading zeros";
            findings.error(Problem::new(Code::InvalidFormat, node.at, path, message));
            continue;
        };
        if let Some((_, whose)) = RESERVED.iter().find(|(range, _)| range.contains(&address)) {
            let message = format!("is of a range that belongs to {whose}");
            findings.error(Problem::new(Code::ReservedRange, node.at, path, message));
            continue;
        }
        addresses.push((address, path));
    }
    addresses
}

/// The ranges that can be some.
fn ranges(spec: &Spec<'_>, findings: &mut Findings<'_>) -> Vec<(Ipv4Net, Position, String)> {
    let mut ranges = Vec::new();
    for (format, path, node) in spec.formats {
        let Some(text) = node.as_str().filter(|_| *format == Format::Ipv4Cidr) else { continue };
        let path = path.to_string();
        let range = match range(text) {
            Ok(range) => range,
            Err((message, hint)) => {
                findings.error(Problem::new(Code::InvalidCidr, node.at, path, message).hint(hint));
                continue;
            }
        };
        let reserved =
            RESERVED.iter().find(|(reserved, _)| reserved.contains(&range) || range.contains(reserved));
        if let Some((_, whose)) = reserved {
            let message = format!("meets the range of {whose}");
            let hint = "take one of 10.0.0.0/8, 172.18.0.0 to 172.31.255.255 or 192.168.0.0/16";
            findings.error(Problem::new(Code::ReservedRange, node.at, path, message).hint(hint));
            continue;
        }
        if !PRIVATE.iter().any(|private| private.contains(&range)) {
            let message = "is a public range: its addresses are somebody's on the Internet";
            let hint = "take one of 10.0.0.0/8, 172.18.0.0 to 172.31.255.255 or 192.168.0.0/16";
            findings.error(Problem::new(Code::ReservedRange, node.at, path, message).hint(hint));
            continue;
        }
        ranges.push((range, node.at, path));
    }
    ranges
}

/// The range that a text names.
fn range(text: &str) -> Result<Ipv4Net, (String, String)> {
    let form = || ("is no IPv4 range".to_owned(), "for example 172.28.10.0/24".to_owned());
    let (address, prefix) = text.split_once('/').ok_or_else(form)?;
    let address: Ipv4Addr = address.parse().map_err(|_| form())?;
    if prefix.starts_with(['0', '+']) && prefix != "0" {
        return Err(form());
    }
    let prefix: u8 = prefix.parse().map_err(|_| form())?;
    let range = Ipv4Net::new(address, prefix)
        .map_err(|_| (format!("has a prefix of {prefix} bits"), "0 to 32".into()))?;
    if range.network() != address {
        let hint = format!("the range that it is in is {}/{prefix}", range.network());
        return Err((format!("has bits behind its prefix of {prefix}"), hint));
    }
    if !PREFIX.contains(&prefix) {
        let (least, most) = (PREFIX.start(), PREFIX.end());
        return Err((format!("has a prefix of {prefix} bits"), format!("{least} to {most}")));
    }
    Ok(range)
}

/// What is reached from the Internet needs a domain there, and somebody whom the certificate's issuer can tell.
fn public(spec: &Spec<'_>, findings: &mut Findings<'_>) {
    let domain = spec.root.get("domain");
    let name = domain.and_then(Node::as_str).unwrap_or_default();
    let at = spec.at(&["domain"]);
    for (format, path, node) in spec.formats {
        let text = node.as_str().unwrap_or_default();
        let wrong = match format {
            Format::Domain => !is_domain(text),
            Format::Email => !is_email(text),
            Format::Ipv4 | Format::Ipv4Cidr | Format::Secret => false,
        };
        if wrong {
            let what = if *format == Format::Domain { "is no domain name" } else { "is no e-mail address" };
            findings.error(Problem::new(Code::InvalidFormat, node.at, path.to_string(), what));
        }
    }
    if name.rsplit('.').next() == Some("local") {
        let message = "ends in .local, which multicast DNS has for itself (RFC 6762)";
        findings.warning(
            Problem::new(Code::ConstraintViolation, at, "domain", message).hint("for example home.arpa"),
        );
    }
    let mode = spec.root.find(&["network", "mode"]).and_then(Node::as_str);
    if mode != Some("public") {
        return;
    }
    let at_mode = spec.at(&["network", "mode"]);
    if name.is_empty() {
        let message = "`domain` is missing: mode public is reached under one";
        findings.error(Problem::new(Code::Required, at_mode, "domain", message));
    } else if is_of_the_home(name) {
        let message = "is no domain of the Internet, which mode public needs";
        findings.error(Problem::new(Code::Required, at, "domain", message).hint("name one that you own"));
    }
    if spec.root.get("email").is_none() {
        let message = "`email` is missing: certificates of mode public are issued to one";
        findings.error(Problem::new(Code::Required, at_mode, "email", message).hint("add `email: ...`"));
    }
}

/// Source: RFC 1123 2.1 and RFC 1035 2.3.4.
fn is_domain(text: &str) -> bool {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    text.len() <= 253 && text.contains('.') && text.split('.').all(label)
}

fn is_email(text: &str) -> bool {
    text.rsplit_once('@').is_some_and(|(local, domain)| {
        (1..=64).contains(&local.len())
            && !local.contains(|one: char| one.is_whitespace() || one.is_control() || one == '@')
            && is_domain(&domain.to_ascii_lowercase())
    })
}

/// Source: RFC 2606, RFC 6761, RFC 6762, RFC 8375.
fn is_of_the_home(domain: &str) -> bool {
    [".arpa", ".local", ".lan", ".home", ".internal", ".localhost", ".test", ".invalid", ".example"]
        .iter()
        .any(|end| domain.ends_with(end))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_has_a_prefix_and_no_bits_behind_it() {
        for (text, expected) in [
            ("172.28.10.0/24", None),
            ("10.0.0.0/8", None),
            ("192.168.1.8/29", None),
            ("172.28.10.1/24", Some("has bits behind its prefix of 24")),
            ("172.28.10.0/33", Some("has a prefix of 33 bits")),
            ("172.28.10.0/30", Some("has a prefix of 30 bits")),
            ("0.0.0.0/0", Some("has a prefix of 0 bits")),
            ("172.28.256.0/24", Some("is no IPv4 range")),
            ("172.028.10.0/24", Some("is no IPv4 range")),
            ("172.28.10.0", Some("is no IPv4 range")),
            ("10.0.0.0/08", Some("is no IPv4 range")),
            ("10.0.0.0/+8", Some("is no IPv4 range")),
            ("fd00::/64", Some("is no IPv4 range")),
        ] {
            assert_eq!(range(text).err().map(|(message, _)| message).as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn names_are_those_of_the_rfcs() {
        for (text, right) in [
            ("home.arpa", true),
            ("a-1.example.org", true),
            ("arpa", false),
            ("-a.org", false),
            ("a..org", false),
            ("A.org", false),
            (&format!("{}.org", "a".repeat(64)), false),
            (&format!("{}.org", "a.".repeat(126)), false),
        ] {
            assert_eq!(is_domain(text), right, "{text}");
        }
        for (text, right) in
            [("ada@example.org", true), ("@example.org", false), ("ada@home", false), ("a b@c.de", false)]
        {
            assert_eq!(is_email(text), right, "{text}");
        }
    }
}
