//! Which versions of a kit will do.

use semver::{Comparator, Op, Version, VersionReq};

/// The range that a text names: Cargo's (`^1.2`, `~1.2`, `>=1, <2`, `1.*`, `*`), where a whole version alone is that version
/// and no other. `None`: it is no range. Source: <https://docs.rs/semver>, "Requirements".
pub fn read_range(text: &str) -> Option<VersionReq> {
    if let Ok(Version { major, minor, patch, pre, .. }) = text.trim().parse() {
        let exact = Comparator { op: Op::Exact, major, minor: Some(minor), patch: Some(patch), pre };
        return Some(VersionReq { comparators: vec![exact] });
    }
    VersionReq::parse(text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_whole_version_is_that_version_and_others_are_ranges() {
        for (range, version, fits) in [
            ("1.2.3", "1.2.3", true),
            ("1.2.3", "1.2.4", false),
            ("1.2.3-rc.1", "1.2.3-rc.1", true),
            ("1.2.3-rc.1", "1.2.3", false),
            ("1.2", "1.9.0", true),
            ("^1.2", "1.9.0", true),
            ("^1.2", "2.0.0", false),
            ("~1.2", "1.3.0", false),
            (">=1, <2", "1.5.0", true),
            ("*", "7.0.0", true),
            ("*", "7.0.0-rc.1", false),
        ] {
            assert_eq!(
                read_range(range).unwrap().matches(&version.parse().unwrap()),
                fits,
                "{range} {version}"
            );
        }
        for wrong in ["", "newest", "v1", "1.2.3.4", "^"] {
            assert!(read_range(wrong).is_none(), "{wrong}");
        }
    }
}
