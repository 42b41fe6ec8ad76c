//! What git lists: tags, the files of a commit, and their contents.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use bytes::Bytes;
use kombify_kit::{BYTES_MAX, FILE_BYTES_MAX, FILES_MAX, Files, Hostile, Wrong};
use semver::Version;

use super::{Commit, GitError};

/// How many versions are looked at, the newest ones.
const VERSIONS_MAX: usize = 500;

/// The versions among the tags that `for-each-ref` lists, the newest first.
pub(super) fn read_tags(tags: &str) -> Vec<(Version, Commit)> {
    let mut versions: BTreeMap<Version, Option<Commit>> = BTreeMap::new();
    for (version, commit) in tags.lines().filter_map(read_tag) {
        match versions.entry(version) {
            Entry::Vacant(place) => {
                place.insert(Some(commit));
            }
            Entry::Occupied(mut there) => {
                if there.get().as_ref() != Some(&commit) {
                    tracing::warn!(version = %there.key(), "two tags of a version name two commits");
                    there.insert(None);
                }
            }
        }
    }
    let versions = versions.into_iter().rev();
    versions.filter_map(|(version, commit)| Some((version, commit?))).take(VERSIONS_MAX).collect()
}

/// What a line of `for-each-ref` says, if it is of a version's tag: what the tag is and which, what it is a tag of and
/// which (two blanks where it is no object of its own), and its name.
fn read_tag(line: &str) -> Option<(Version, Commit)> {
    let mut words = line.splitn(5, ' ');
    let mut word = || words.next();
    let (kind, id, inner_kind, inner_id, name) = (word()?, word()?, word()?, word()?, word()?);
    let commit = match (kind, inner_kind) {
        ("commit", _) => id,
        ("tag", "commit") => inner_id,
        _ => return None,
    };
    let name = name.strip_prefix("refs/tags/")?;
    let version = Version::parse(name.strip_prefix('v').unwrap_or(name)).ok()?;
    Some((version, commit.parse().ok()?))
}

/// A file of a commit that has not been read yet.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Blob {
    pub(super) path: String,
    pub(super) id: String,
    pub(super) bytes: usize,
}

/// Reads what `ls-tree` lists: `<mode> <type> <id> <length>`, a tab, the path, a zero. All that a kit may not have is
/// refused here; what a path may be, [`Files`] knows.
pub(super) fn read_tree(list: &[u8]) -> Result<Vec<Blob>, GitError> {
    let unreadable = || GitError::Unreadable { verb: "ls-tree" };
    let (mut blobs, mut bytes_left) = (Vec::new(), BYTES_MAX);
    for entry in list.split(|byte| *byte == 0).filter(|entry| !entry.is_empty()) {
        let entry = String::from_utf8_lossy(entry);
        let (facts, path) = entry.split_once('\t').ok_or_else(unreadable)?;
        if path.split('/').any(|name| name.starts_with('.')) {
            continue;
        }
        let facts: Vec<_> = facts.split_ascii_whitespace().collect();
        let [mode, _, id, bytes] = facts[..] else { return Err(unreadable()) };
        let refused = |wrong| Hostile::new(path, wrong);
        match mode {
            // A file that can be run is a file: whatever uses a kit does not run it.
            "100644" | "100755" => {}
            "120000" => return Err(refused(Wrong::Kind("a symbolic link")).into()),
            "160000" => return Err(refused(Wrong::Kind("a submodule")).into()),
            _ => return Err(refused(Wrong::Kind("of a kind that is not known")).into()),
        }
        let bytes: usize = bytes.parse().map_err(|_| unreadable())?;
        if bytes > FILE_BYTES_MAX {
            return Err(refused(Wrong::FileBytes).into());
        }
        if blobs.len() == FILES_MAX {
            return Err(refused(Wrong::Files).into());
        }
        bytes_left = bytes_left.checked_sub(bytes).ok_or_else(|| refused(Wrong::Bytes))?;
        blobs.push(Blob { path: path.to_owned(), id: id.to_owned(), bytes });
    }
    Ok(blobs)
}

/// Reads what `cat-file` gives for each blob, in their order: `<id> blob <length>`, a line's end, the bytes, a line's
/// end.
pub(super) fn read_blobs(blobs: &[Blob], contents: Vec<u8>) -> Result<Files, GitError> {
    let (mut files, mut rest) = (Files::default(), Bytes::from(contents));
    for Blob { path, id, bytes } in blobs {
        let header = format!("{id} blob {bytes}\n");
        let end = header.len() + bytes;
        if !rest.starts_with(header.as_bytes()) || rest.get(end) != Some(&b'\n') {
            return Err(GitError::Unreadable { verb: "cat-file" });
        }
        let content = rest.split_to(end + 1).slice(header.len()..end);
        files.insert(path, content)?;
    }
    if rest.is_empty() { Ok(files) } else { Err(GitError::Unreadable { verb: "cat-file" }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
    const B: &str = "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb";

    fn versions(tags: &str) -> Vec<String> {
        read_tags(tags)
            .into_iter()
            .map(|(version, commit)| format!("{version} {}", &commit.as_str()[..1]))
            .collect()
    }

    fn fault(list: &[u8]) -> String {
        read_tree(list).unwrap_err().to_string()
    }

    #[test]
    fn a_version_is_a_tag_of_a_commit() {
        let tags = [
            format!("commit {A}   refs/tags/v1.2.3"),
            format!("commit {A}   refs/tags/1.10.0"),
            format!("tag {A} commit {B} refs/tags/v2.0.0"),
            format!("commit {A}   refs/tags/v2.0.0-rc.1"),
            format!("tag {A} tag {B} refs/tags/v3.0.0"),
            format!("tag {A} blob {B} refs/tags/v3.0.1"),
            format!("tree {A}   refs/tags/v3.0.2"),
            format!("blob {A}   refs/tags/v3.0.3"),
            format!("commit {}   refs/tags/v3.0.4", &A[1..]),
            format!("commit {A}   refs/tags/v4"),
            format!("commit {A}   refs/tags/vv4.0.0"),
            format!("commit {A}   refs/tags/V4.0.0"),
            format!("commit {A}   refs/tags/04.0.0"),
            format!("commit {A}   refs/tags/kit/v4.0.0"),
            format!("commit {A}   refs/heads/v4.0.0"),
            format!("commit {A} refs/tags/v4.0.0"),
            "commit".into(),
            String::new(),
        ];
        assert_eq!(versions(&tags.join("\n")), ["2.0.0 b", "2.0.0-rc.1 a", "1.10.0 a", "1.2.3 a"]);
    }

    #[test]
    fn a_version_that_is_two_commits_is_none() {
        let tag = |name: &str, commit: &str| format!("commit {commit}   refs/tags/{name}\n");
        let same = tag("1.0.0", A) + &tag("v1.0.0", A);
        assert_eq!(versions(&same), ["1.0.0 a"]);
        let two = tag("1.0.0", A) + &tag("v1.0.0", B) + &tag("v1.1.0", B);
        assert_eq!(versions(&two), ["1.1.0 b"]);
    }

    #[test]
    fn the_newest_versions_are_looked_at() {
        let tags: String = (0..=VERSIONS_MAX)
            .fold(String::new(), |tags, patch| tags + &format!("commit {A}   refs/tags/v0.0.{patch}\n"));
        let versions = versions(&tags);
        assert_eq!(versions.len(), VERSIONS_MAX);
        assert_eq!((versions[0].as_str(), versions[VERSIONS_MAX - 1].as_str()), ("0.0.500 a", "0.0.1 a"));
    }

    #[test]
    fn a_tree_has_files_and_nothing_else() {
        let list = format!(
            "100644 blob {A}       2\tkit.yaml\0100755 blob {B}      13\ttests/run.yaml\0\
             100644 blob {B}       2\t.gitignore\0120000 blob {B}       2\tdocs/.link\0\
             160000 commit {B}       -\t.sub/x\0"
        );
        let blob = |path: &str, id: &str, bytes| Blob { path: path.into(), id: id.into(), bytes };
        let expected = [blob("kit.yaml", A, 2), blob("tests/run.yaml", B, 13)];
        assert_eq!(read_tree(list.as_bytes()).unwrap(), expected);
        assert!(read_tree(b"").unwrap().is_empty());

        let unreadable = "git ls-tree gives an answer that cannot be read";
        for (list, says) in [
            (
                format!("120000 blob {A} 2\ta"),
                "'a' is a symbolic link: a kit has nothing but files and folders",
            ),
            (
                format!("160000 commit {A} -\ta"),
                "'a' is a submodule: a kit has nothing but files and folders",
            ),
            (format!("040000 tree {A} -\ta"), "'a' is of a kind that is not known"),
            (format!("100644 blob {A} 262145\ta"), "'a' has more than 262144 bytes"),
            (format!("100644 blob {A} -\ta"), unreadable),
            (format!("100644 blob {A} -1\ta"), unreadable),
            (format!("100644 blob {A} 99999999999999999999999\ta"), unreadable),
            (format!("100644 blob {A}\ta"), unreadable),
            (format!("100644 blob {A} 2 3\ta"), unreadable),
            (format!("100644 blob {A} 2 a"), unreadable),
            ("a".into(), unreadable),
        ] {
            assert!(fault(list.as_bytes()).starts_with(says), "{list}");
        }
        let entry = |path: usize, bytes: usize| format!("100644 blob {A} {bytes}\tf{path}\0");
        let many: String = (0..=FILES_MAX).map(|path| entry(path, 0)).collect::<Vec<_>>().concat();
        assert!(fault(many.as_bytes()).starts_with("'f200' is one file more than the 200"));
        let large: String = (0..9).map(|path| entry(path, FILE_BYTES_MAX)).collect::<Vec<_>>().concat();
        assert!(fault(large.as_bytes()).starts_with("'f8' makes the kit larger than"));
    }

    #[test]
    fn contents_belong_to_their_files() {
        let blob = |path: &str, id: &str, bytes| Blob { path: path.into(), id: id.into(), bytes };
        let blobs = [blob("a", A, 3), blob("b", B, 0), blob("c", A, 3)];
        let whole = format!("{A} blob 3\nx\ny\n{B} blob 0\n\n{A} blob 3\nx\ny\n");
        let files = read_blobs(&blobs, whole.clone().into()).unwrap();
        assert_eq!(files.len(), 3);
        assert_eq!(files.find("a").unwrap(), "x\ny");
        assert_eq!(files.find("b").unwrap(), "");
        assert_eq!(files.find("c"), files.find("a"));
        let unreadable = "git cat-file gives an answer that cannot be read";
        for length in 0..whole.len() {
            let fault = read_blobs(&blobs, whole.as_bytes()[..length].to_vec()).unwrap_err().to_string();
            assert_eq!(fault, unreadable, "{length}");
        }
        for wrong in [
            format!("{whole}\n"),
            whole.replacen("blob 3", "blob 4", 1),
            whole.replacen("blob", "tree", 1),
            whole.replacen(A, B, 1),
            whole.replacen(&format!("{A} blob 3"), &format!("{A} missing"), 1),
        ] {
            assert_eq!(read_blobs(&blobs, wrong.into()).unwrap_err().to_string(), unreadable);
        }
        let fault = read_blobs(&[blob("../a", B, 0)], format!("{B} blob 0\n\n").into()).unwrap_err();
        assert!(fault.to_string().starts_with("'../a' is no path of a kit"), "{fault}");
    }
}
