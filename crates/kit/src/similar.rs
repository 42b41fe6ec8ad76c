//! What somebody may have meant by a name that nobody knows.

use crate::node::printable;

/// How many names a hint tells at most.
const CHOICES_MAX: usize = 12;

/// "did you mean ...?", where a name is near enough.
pub(crate) fn hint<'a>(given: &str, names: impl Iterator<Item = &'a str>) -> Option<String> {
    let near = |name: &str| (name.len() + given.len() < 200).then(|| distance(given, name));
    let (name, distance) =
        names.filter_map(|name| Some((name, near(name)?))).min_by_key(|(_, distance)| *distance)?;
    let enough = distance <= given.chars().count().div_ceil(3).min(3);
    enough.then(|| format!("did you mean `{}`?", printable(name)))
}

/// "known are ...".
pub(crate) fn choices<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let mut names = names.fuse();
    let mut told: Vec<String> = names.by_ref().take(CHOICES_MAX).map(printable).collect();
    told.sort();
    match (told.len(), names.count()) {
        (0, _) => "nothing may stand here".to_owned(),
        (_, 0) => format!("known are {}", told.join(", ")),
        (_, more) => format!("known are {} and {more} more", told.join(", ")),
    }
}

/// How many characters have to be changed, added or taken away (Levenshtein).
fn distance(one: &str, other: &str) -> usize {
    let other: Vec<char> = other.chars().collect();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (place, from) in one.chars().enumerate() {
        let mut corner = place;
        let mut left = place + 1;
        for (above, to) in row.iter_mut().skip(1).zip(&other) {
            let changed = corner + usize::from(from != *to);
            corner = *above;
            left = changed.min(left + 1).min(*above + 1);
            *above = left;
        }
        if let Some(first) = row.first_mut() {
            *first = place + 1;
        }
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_name_is_proposed_if_it_is_near() {
        assert_eq!((distance("kitten", "sitting"), distance("", "abc"), distance("abc", "abc")), (3, 3, 0));
        let names = ["network", "nodes", "name"];
        assert_eq!(hint("netwrk", names.into_iter()).unwrap(), "did you mean `network`?");
        assert_eq!(hint("nmae", names.into_iter()).unwrap(), "did you mean `name`?");
        assert_eq!(hint("volumes", names.into_iter()), None);
        assert_eq!(choices(names.into_iter()), "known are name, network, nodes");
        assert_eq!(choices([].into_iter()), "nothing may stand here");
    }
}
