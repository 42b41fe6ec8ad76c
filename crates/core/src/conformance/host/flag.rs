//! What must hold for the set of flags that is pushed.

use std::collections::{BTreeMap, BTreeSet};

use super::super::{change, org, sub};
use super::Keep;
use crate::Plan;
use crate::host::HeldSet;
use crate::placed::PlacedFlags;

fn names<const N: usize>(names: [&str; N]) -> BTreeSet<String> {
    names.into_iter().map(str::to_owned).collect()
}

/// A newer set takes the place of the one before, whole; an older one, or the same again, does nothing.
pub async fn the_newest_set_is_held_as_it_was_pushed(keep: &Keep) {
    assert_eq!(keep.host().held_flags().await.unwrap(), None);
    let set = PlacedFlags {
        version: 7,
        definitions: r#"{"flags":{"new-home":{"state":"ENABLED"}}}"#.into(),
        plans: BTreeMap::from([(Plan::Free, names([])), (Plan::Pro, names(["vpn", "backup"]))]),
        organisations: BTreeMap::from([(org("user:ann \"o'clock\""), names(["beta"]))]),
        overrides: BTreeMap::from([(sub("ann"), r#"{"new-home":true}"#.into())]),
    };
    let apply = async |set: &PlacedFlags| {
        let change = change("flags.applied");
        (change.time, keep.host().apply_flags(&change, set).await.unwrap())
    };
    let (apply_time, answer) = apply(&set).await;
    let first = HeldSet { flags: set.clone(), apply_time };
    assert_eq!(answer, first);
    for version in [7, 6, 0] {
        let other = PlacedFlags { version, ..PlacedFlags::default() };
        assert_eq!(apply(&other).await.1, first, "{version}");
        assert_eq!(keep.host().held_flags().await.unwrap(), Some(first.clone()));
    }
    let next = PlacedFlags { version: 9, ..PlacedFlags::default() };
    let (apply_time, answer) = apply(&next).await;
    assert_eq!(answer, HeldSet { flags: next, apply_time });
    assert_eq!(keep.host().held_flags().await.unwrap(), Some(answer));
}
