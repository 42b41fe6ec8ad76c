//! The names of writes that go beside the one that decides, for spans and failpoints.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

/// `<action>.<what>`, for example "member.removed.indexed".
pub(crate) fn beside(action: &'static str, what: &'static str) -> &'static str {
    static NAMES: Mutex<BTreeMap<(&str, &str), &str>> = Mutex::new(BTreeMap::new());
    // Actions are constants of the program: so are the names that are made of them, once each.
    NAMES
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .entry((action, what))
        .or_insert_with(|| Box::leak(format!("{action}.{what}").into_boxed_str()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_made_once() {
        let name = beside("member.removed", "indexed");
        assert_eq!(name, "member.removed.indexed");
        assert!(std::ptr::eq(name, beside("member.removed", "indexed")));
        assert_eq!(beside("member.removed", "marked"), "member.removed.marked");
    }
}
