//! The floors of the house: a crate uses only what lies below it.

use std::collections::BTreeMap;

use cargo_metadata::{DependencyKind, MetadataCommand};

/// Every crate and its floor. A crate that is not here fails the test.
const FLOORS: [(&str, u8); 17] = [
    ("kombify-contracts", 0),
    ("kombify-core", 0),
    ("kombify-flags", 2),
    ("kombify-kit", 2),
    ("kombify-mesh", 2),
    ("kombify-pages", 2),
    ("kombify-sqlite", 2),
    ("kombify-transcode", 2),
    ("kombify-platform-sqlite", 3),
    ("kombify-stack-sqlite", 3),
    ("kombify-admin", 4),
    ("kombify-cloud", 4),
    ("kombify-gateway", 4),
    ("kombify-idp", 4),
    ("kombify-kits", 4),
    ("kombify-stack", 4),
    ("kombify", 5),
];

/// The stores: only the binary brings one to a service.
const STORE_FLOOR: u8 = 3;
const SERVICE_FLOOR: u8 = 4;

/// What is wrong with the uses `(who, what)`.
fn breaches(floors: &BTreeMap<&str, u8>, uses: &[(String, String)]) -> Vec<String> {
    let wrong = |(who, what): &(String, String)| match (floors.get(who.as_str()), floors.get(what.as_str())) {
        (None, _) => Some(format!("{who} has no floor")),
        (_, None) => Some(format!("{what} has no floor")),
        (Some(upper), Some(lower)) if lower >= upper => {
            Some(format!("{who} uses {what}, which is not below it"))
        }
        (Some(&SERVICE_FLOOR), Some(&STORE_FLOOR)) => {
            Some(format!("{who} is a service and uses the store {what}"))
        }
        (Some(_), Some(_)) => None,
    };
    uses.iter().filter_map(wrong).collect()
}

#[test]
fn a_crate_uses_only_the_floors_below_its_own() {
    let metadata = MetadataCommand::new().no_deps().exec().unwrap();
    let floors = BTreeMap::from(FLOORS);
    let names: Vec<_> = metadata.packages.iter().map(|package| package.name.to_string()).collect();
    for name in &names {
        assert!(
            floors.contains_key(name.as_str()),
            "{name} has no floor: give it one here and in ARCHITECTURE.md"
        );
    }
    assert_eq!(names.len(), FLOORS.len(), "a floor is named for a crate that is not there");
    let uses: Vec<_> = metadata
        .packages
        .iter()
        .flat_map(|package| {
            package
                .dependencies
                .iter()
                .filter(|dependency| {
                    dependency.kind != DependencyKind::Development && names.contains(&dependency.name)
                })
                .map(|dependency| (package.name.to_string(), dependency.name.clone()))
        })
        .collect();
    assert!(uses.len() > 20, "the uses were not found: {uses:?}");
    assert_eq!(breaches(&floors, &uses), Vec::<String>::new());
}

#[test]
fn a_breach_is_found() {
    let floors = BTreeMap::from(FLOORS);
    for (who, what) in [
        ("kombify-core", "kombify-contracts"),
        ("kombify-mesh", "kombify-transcode"),
        ("kombify-core", "kombify-mesh"),
        ("kombify-admin", "kombify-cloud"),
        ("kombify-admin", "kombify-platform-sqlite"),
        ("kombify-new", "kombify-core"),
    ] {
        let uses = [(who.to_owned(), what.to_owned())];
        assert_eq!(breaches(&floors, &uses).len(), 1, "{who} -> {what}");
    }
}
