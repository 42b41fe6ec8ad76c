//! What waits for what.

use std::collections::{BTreeMap, BTreeSet};

use crate::manifest::Manifest;

/// What `name` stands for: a service, or the enabled service of a use case; `None` if that is off or not there.
pub(crate) fn resolve<'a>(manifest: &'a Manifest, name: &str, enabled: &BTreeSet<&str>) -> Option<&'a str> {
    if let Some(service) = manifest.service(name) {
        return enabled.contains(name).then_some(service.name.as_str());
    }
    let use_case = manifest.use_cases.iter().find(|use_case| use_case.name == name)?;
    use_case.services.iter().map(String::as_str).find(|service| enabled.contains(service))
}

/// Services that wait for each other, the first one again at the end; `None` if none do. Takes time linear to the
/// dependencies, and no stack.
pub(crate) fn circle(manifest: &Manifest, enabled: &BTreeSet<&str>) -> Option<Vec<String>> {
    let waits: BTreeMap<&str, Vec<&str>> = manifest
        .services
        .iter()
        .filter(|service| enabled.contains(service.name.as_str()))
        .map(|service| {
            let needed =
                service.depends_on.iter().filter_map(|name| resolve(manifest, name, enabled)).collect();
            (service.name.as_str(), needed)
        })
        .collect();
    let mut done: BTreeSet<&str> = BTreeSet::new();
    for &start in waits.keys() {
        // The way from the start, and of each service on it what is still to be looked at.
        let mut way: Vec<(&str, usize)> = vec![(start, 0)];
        while let Some((service, next)) = way.last_mut() {
            let needed = waits.get(service).and_then(|needed| needed.get(*next)).copied();
            *next += 1;
            match needed {
                None => {
                    done.insert(service);
                    way.pop();
                }
                Some(needed) if done.contains(needed) => {}
                Some(needed) => {
                    if let Some(from) = way.iter().position(|(service, _)| *service == needed) {
                        let mut circle: Vec<String> =
                            way.iter().skip(from).map(|(service, _)| (*service).to_owned()).collect();
                        circle.push(needed.to_owned());
                        return Some(circle);
                    }
                    way.push((needed, 0));
                }
            }
        }
    }
    None
}
