//! Kits, as every page of ours shows them.

use kombify_contracts::kombify::kits::v1::{Kit, KitSummary, Resources, Service};
use maud::{Markup, html};

/// The kits that there are; what the plan does not have says which one does.
pub fn list(kits: &[KitSummary]) -> Markup {
    html! {
        @if kits.is_empty() {
            p { "There is no StackKit." }
        } @else {
            table id="kits" {
                thead { tr { th { "StackKit" } th.wide { "Version" } th { "Plan" } } }
                tbody {
                    @for kit in kits {
                        tr {
                            td.broad {
                                @if kit.available { a href=(format!("/kit?id={}", kit.id)) { (kit.title) } }
                                @else { (kit.title) }
                                p.note { (kit.description) }
                            }
                            td.wide { (kit.version) @if kit.maturity != "stable" { " (" (kit.maturity) ")" } }
                            td { (kit.min_plan) @if !kit.available { " (above yours)" } }
                        }
                    }
                }
            }
        }
    }
}

/// Everything about one kit.
pub fn one(kit: &Kit) -> Markup {
    html! {
        p { (kit.description) }
        p.note {
            (kit.id) " " (kit.version) ", " (kit.maturity) ", for the plan " (kit.min_plan) " and up. Needs "
            (needs(kit.minimum.as_ref())) ", better " (needs(kit.recommended.as_ref())) "."
        }
        h2 { "Services" }
        table id="services" {
            thead { tr { th { "Service" } th { "Image" } th.wide { "Ports" } th { "By default" } } }
            tbody { @for service in &kit.services { (row(service)) } }
        }
        h2 { "Read me" }
        pre id="readme" { (kit.readme) }
    }
}

fn needs(resources: Option<&Resources>) -> String {
    let Resources { cpus, memory_mb, disk_gb } = resources.copied().unwrap_or_default();
    let s = if cpus > 1.0 { "s" } else { "" };
    format!("{cpus} CPU{s}, {memory_mb} MB of memory and {disk_gb} GB of disk")
}

fn row(service: &Service) -> Markup {
    let ports: Vec<String> = service
        .ports
        .iter()
        .filter(|port| port.host > 0 || !port.setting.is_empty())
        .map(|port| {
            let on_the_node =
                if port.setting.is_empty() { port.host.to_string() } else { port.setting.clone() };
            format!("{on_the_node} ({}/{})", port.name, port.protocol)
        })
        .collect();
    html! {
        tr {
            td { a href=(service.homepage) rel="noreferrer" { (service.title) } }
            td { (service.image) }
            td.wide { (ports.join(", ")) }
            td { @if service.enabled { "on" } @else { "off" } }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_author_wrote_is_escaped() {
        let kit = Kit { readme: "<script>".into(), description: "<b>".into(), ..Kit::default() };
        let shown = one(&kit).into_string();
        assert!(!shown.contains("<script>") && !shown.contains("<b>"), "{shown}");
    }

    #[test]
    fn what_is_above_the_plan_is_no_link() {
        let kit = |id: &str, available| KitSummary {
            id: id.into(),
            title: id.into(),
            available,
            ..KitSummary::default()
        };
        let shown = list(&[kit("dns", true), kit("media", false)]).into_string();
        assert!(shown.contains(r#"href="/kit?id=dns""#) && !shown.contains("id=media"), "{shown}");
        assert!(shown.contains("above yours"));
    }
}
