//! What Admin pushes to a module that has no store: held in memory, from the snapshot that the module gets when it starts.

mod organisations;
mod revocations;

use std::collections::{HashMap, HashSet};
use std::hash::Hash;
use std::time::Duration;

use kombify_core::placed::{Basis, Held, Push};
use kombify_core::{Error, Result};

pub use self::organisations::Organisations;
pub use self::revocations::Revocations;

/// When to try again where nothing was pushed yet.
const PUSHED_SOON: Duration = Duration::from_secs(2);

/// One set of what is pushed.
#[derive(Debug)]
pub struct Pushed<K, V> {
    /// What people call it, in the plural.
    name: &'static str,
    /// The version that is held; `None` before the first snapshot is whole.
    version: Option<u32>,
    items: HashMap<K, V>,
    snapshot: Option<Snapshot<K>>,
}

/// A snapshot that is coming in.
#[derive(Debug)]
struct Snapshot<K> {
    version: u32,
    next_page: u32,
    /// What its pages have named so far.
    seen: HashSet<K>,
}

impl<K: Clone + Eq + Hash, V> Pushed<K, V> {
    /// An empty set, to which nothing was pushed yet; people call it `name`.
    pub fn new(name: &'static str) -> Self {
        Self { name, version: None, items: HashMap::new(), snapshot: None }
    }

    /// Whether a first snapshot has come.
    pub fn are_there(&self) -> bool {
        self.version.is_some()
    }

    /// What is held.
    ///
    /// # Errors
    /// - [`Error::Unavailable`] before the first snapshot.
    pub fn items(&self) -> Result<&HashMap<K, V>> {
        if self.are_there() {
            Ok(&self.items)
        } else {
            Err(Error::unavailable(format!("the {} were not pushed yet", self.name), PUSHED_SOON))
        }
    }

    /// What is held of `key`.
    ///
    /// # Errors
    /// - [`Error::Unavailable`] before the first snapshot.
    pub fn find(&self, key: &K) -> Result<Option<&V>> {
        Ok(self.items()?.get(key))
    }

    /// Applies a push, once and in order; what does not matter is not kept. Answers with what is held then, and with every
    /// value that is held no more, whatever took its place.
    pub fn apply(&mut self, push: Push<(K, V)>, matters: impl Fn(&V) -> bool) -> (Held, Vec<V>) {
        let Push { version, basis, items } = push;
        let mut only = None;
        match basis {
            Basis::Change { base_version } => {
                self.snapshot = None;
                match self.version {
                    Some(held) if version <= held => return (self.held(false), Vec::new()),
                    Some(held) if base_version == held => self.version = Some(version),
                    Some(_) | None => return (self.held(true), Vec::new()),
                }
            }
            Basis::Snapshot { .. } if self.version.is_some_and(|held| version < held) => {
                return (self.held(false), Vec::new());
            }
            Basis::Snapshot { page, last } => {
                let so_far = match self.snapshot.take() {
                    _ if page == 1 => Some(HashSet::new()),
                    Some(snapshot) if (snapshot.version, snapshot.next_page) == (version, page) => {
                        Some(snapshot.seen)
                    }
                    Some(_) | None => None,
                };
                let Some(mut seen) = so_far else { return (self.held(true), Vec::new()) };
                seen.extend(items.iter().map(|(key, _)| key.clone()));
                if last {
                    self.version = Some(version);
                    only = Some(seen);
                } else {
                    self.snapshot = Some(Snapshot { version, next_page: page.saturating_add(1), seen });
                }
            }
        }
        let mut gone: Vec<V> =
            items.into_iter().filter_map(|(key, value)| self.items.insert(key, value)).collect();
        let stays =
            |key: &K, value: &V| matters(value) && only.as_ref().is_none_or(|only| only.contains(key));
        gone.extend(self.items.extract_if(|key, value| !stays(key, value)).map(|(_, value)| value));
        (self.held(false), gone)
    }

    fn held(&self, snapshot_needed: bool) -> Held {
        Held { version: self.version.unwrap_or_default(), snapshot_needed, refused: Vec::new() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A set of numbers by name, in which those below zero do not matter.
    fn apply(
        set: &mut Pushed<&'static str, i8>,
        version: u32,
        basis: Basis,
        items: &[(&'static str, i8)],
    ) -> (u32, bool, Vec<i8>) {
        let push = Push { version, basis, items: items.to_vec() };
        let (held, mut gone) = set.apply(push, |number| *number >= 0);
        gone.sort_unstable();
        (held.version, held.snapshot_needed, gone)
    }

    fn known(set: &Pushed<&'static str, i8>) -> Vec<(&'static str, i8)> {
        let mut items: Vec<_> = set.items().unwrap().iter().map(|(key, value)| (*key, *value)).collect();
        items.sort_unstable();
        items
    }

    const fn change(base_version: u32) -> Basis {
        Basis::Change { base_version }
    }

    const fn page(page: u32, last: bool) -> Basis {
        Basis::Snapshot { page, last }
    }

    #[test]
    fn nothing_is_known_before_the_first_snapshot_is_whole() {
        let mut set = Pushed::new("numbers");
        assert_eq!(apply(&mut set, 5, page(1, false), &[("a", 1)]), (0, false, vec![]));
        let missing = set.find(&"a").unwrap_err();
        assert!(matches!(missing, Error::Unavailable { .. }) && !set.are_there());
        assert_eq!(missing.to_string(), "the numbers were not pushed yet");
        assert_eq!(apply(&mut set, 5, page(2, true), &[("b", 2)]), (5, false, vec![]));
        assert!(set.are_there());
        assert_eq!((set.find(&"a").unwrap(), set.find(&"c").unwrap()), (Some(&1), None));
        assert_eq!(known(&set), [("a", 1), ("b", 2)]);
    }

    #[test]
    fn what_does_not_build_on_what_is_held_asks_for_a_snapshot() {
        let mut set = Pushed::new("numbers");
        assert_eq!(apply(&mut set, 2, change(1), &[("a", 1)]), (0, true, vec![]));
        assert_eq!(apply(&mut set, 2, page(2, true), &[]), (0, true, vec![]));
        assert_eq!(apply(&mut set, 2, page(1, true), &[("a", 1)]), (2, false, vec![]));
        assert_eq!(apply(&mut set, 5, change(4), &[("b", 2)]), (2, true, vec![]));
        assert_eq!(apply(&mut set, 3, change(2), &[("b", 2)]), (3, false, vec![]));
        assert_eq!(
            apply(&mut set, 3, change(2), &[("c", 3)]),
            (3, false, vec![]),
            "a repeat changes nothing"
        );
        assert_eq!(known(&set), [("a", 1), ("b", 2)]);
        assert_eq!(apply(&mut set, 2, page(1, true), &[]), (3, false, vec![]), "it was overtaken");
        assert_eq!(known(&set), [("a", 1), ("b", 2)]);
    }

    #[test]
    fn the_pages_of_a_snapshot_come_in_order_and_are_of_one_version() {
        let whole = || {
            let mut set = Pushed::new("numbers");
            assert_eq!(apply(&mut set, 2, page(1, true), &[("a", 1)]), (2, false, vec![]));
            assert_eq!(apply(&mut set, 4, page(1, false), &[("b", 2)]), (2, false, vec![]));
            set
        };
        for (version, next, expected) in [
            (4, page(2, true), (4, false, vec![1])),
            (4, page(3, true), (2, true, vec![])),
            (5, page(2, true), (2, true, vec![])),
            (5, page(1, true), (5, false, vec![1, 2])),
            (4, page(2, false), (2, false, vec![])),
        ] {
            assert_eq!(apply(&mut whole(), version, next, &[("c", 3)]), expected, "{version} {next:?}");
        }
        // A change between two pages ends the snapshot.
        let mut set = whole();
        assert_eq!(apply(&mut set, 3, change(2), &[]), (3, false, vec![]));
        assert_eq!(apply(&mut set, 4, page(2, true), &[]), (3, true, vec![]));
    }

    #[test]
    fn what_is_held_no_more_is_told() {
        let mut set = Pushed::new("numbers");
        apply(&mut set, 1, page(1, true), &[("a", 1), ("b", 2), ("c", 3), ("d", -4)]);
        assert_eq!(known(&set), [("a", 1), ("b", 2), ("c", 3)]);
        assert_eq!(apply(&mut set, 2, change(1), &[("a", 9), ("b", -1)]), (2, false, vec![-1, 1, 2]));
        assert_eq!(known(&set), [("a", 9), ("c", 3)]);
        assert_eq!(apply(&mut set, 3, page(1, true), &[("a", 9)]), (3, false, vec![3, 9]));
        assert_eq!(known(&set), [("a", 9)]);
    }
}
