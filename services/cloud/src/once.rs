//! What is good once: remembered by its hash, so that it can be told when it comes again.

use std::convert::Infallible;

use quick_cache::sync::Cache;

/// How many are remembered at most.
const REMEMBERED: usize = 10_000;

/// What came already.
pub(crate) struct Once(Cache<[u8; 32], ()>);

impl Default for Once {
    fn default() -> Self {
        Self(Cache::new(REMEMBERED))
    }
}

impl Once {
    /// Whether it came already.
    pub(crate) fn has(&self, text: &str) -> bool {
        self.0.get(&kombify_mesh::secret::hash(text)).is_some()
    }

    /// Remembers it. Says whether it came for the first time: of many at once, one is the first.
    pub(crate) fn take(&self, text: &str) -> bool {
        let mut first = false;
        let Ok(()) = self.0.get_or_insert_with(&kombify_mesh::secret::hash(text), || {
            first = true;
            Ok::<_, Infallible>(())
        });
        first
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_came_is_known_and_the_first_of_many_is_one() {
        let once = Once::default();
        assert!(!once.has("a"));
        let first = std::thread::scope(|scope| {
            let racers: Vec<_> = (0..32).map(|_| scope.spawn(|| once.take("a"))).collect();
            racers.into_iter().map(|racer| racer.join().unwrap()).filter(|first| *first).count()
        });
        assert_eq!(first, 1);
        assert!(once.has("a") && !once.has("b"));
    }
}
