use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::process;

use kombify_kit::FILE_BYTES_MAX;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::time::timeout;

use super::*;

/// Longer than any command here takes.
const PATIENCE: Duration = Duration::from_mins(1);

/// A repository as somebody else keeps it.
struct Origin(TempDir);

impl Origin {
    fn new() -> Self {
        let origin = Self(tempfile::tempdir().unwrap());
        origin.git(&["init", "--quiet", "--initial-branch=main"]);
        origin
    }

    fn git(&self, arguments: &[&str]) {
        let output = process::Command::new("git")
            .args(["-c", "user.name=Ann", "-c", "user.email=ann@example.com"])
            .args(arguments)
            .current_dir(self.0.path())
            .env_clear()
            .env("PATH", "/usr/local/bin:/usr/bin:/bin")
            .env("HOME", self.0.path())
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .output()
            .unwrap();
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    }

    fn write(&self, path: &str, content: &[u8]) {
        let path = self.0.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    /// Commits whatever there is, and tags it.
    fn tag(&self, tag: &str) {
        self.git(&["add", "--all"]);
        self.git(&["commit", "--quiet", "--allow-empty", "--message=a change"]);
        self.git(&["tag", "--force", tag]);
    }

    fn url(&self) -> String {
        format!("file://{}", self.0.path().display())
    }
}

fn cached(url: &str, folder: &str) -> (GitSource, TempDir) {
    let cache = tempfile::tempdir().unwrap();
    (GitSource::new(url, folder, cache.path(), PATIENCE).unwrap(), cache)
}

async fn versions(source: &GitSource) -> Vec<String> {
    source.versions().await.unwrap().iter().map(|(version, _)| version.to_string()).collect()
}

/// The files of the newest version.
async fn newest(source: &GitSource) -> Result<Files, GitError> {
    let versions = source.versions().await?;
    source.files(&versions[0].1).await
}

#[tokio::test]
async fn the_versions_are_the_tags_of_commits_as_they_are_now() {
    let origin = Origin::new();
    let (source, _cache) = cached(&origin.url(), "");
    assert!(versions(&source).await.is_empty());

    origin.write("kit.yaml", b"one");
    origin.tag("v1.0.0");
    origin.git(&["tag", "--annotate", "--message=a release", "1.1.0"]);
    origin.git(&["tag", "unstable"]);
    origin.git(&["tag", "v9.0.0", "HEAD:kit.yaml"]);
    origin.write("kit.yaml", b"two");
    origin.tag("v2.0.0-rc.1");
    assert_eq!(versions(&source).await, ["2.0.0-rc.1", "1.1.0", "1.0.0"]);

    let before = source.versions().await.unwrap();
    assert_eq!(before[1].1, before[2].1);
    assert_ne!(before[0].1, before[1].1);
    assert_eq!(source.files(&before[2].1).await.unwrap().find("kit.yaml").unwrap(), "one");
    assert_eq!(source.files(&before[0].1).await.unwrap().find("kit.yaml").unwrap(), "two");

    origin.git(&["tag", "--delete", "1.1.0"]);
    origin.git(&["tag", "--force", "v1.0.0"]);
    origin.tag("v2.0.0");
    let after = source.versions().await.unwrap();
    assert_eq!(versions(&source).await, ["2.0.0", "2.0.0-rc.1", "1.0.0"]);
    assert_eq!(after[2].1, before[0].1, "the tag has moved");

    origin.git(&["tag", "--delete", "v1.0.0", "v2.0.0-rc.1", "v2.0.0", "v9.0.0", "unstable"]);
    assert!(versions(&source).await.is_empty());
    assert!(!source.mark().exists());
}

#[tokio::test]
async fn a_commit_is_the_same_kit_as_its_checkout_whatever_its_attributes_say() {
    let origin = Origin::new();
    origin.write(".gitattributes", b"kit.yaml export-subst\nREADME.md export-ignore\n* text eol=crlf\n");
    origin.write(".github/workflows/test.yaml", b"on: push\n");
    origin.write("kit.yaml", b"# $Format:%H$ $Id$\nname: x\n");
    origin.write("README.md", b"#\n");
    origin.write("tests/run.yaml", b"hi\n");
    let run = origin.0.path().join("tests/run.yaml");
    fs::set_permissions(run, fs::Permissions::from_mode(0o755)).unwrap();
    origin.tag("v1.0.0");

    let (source, _cache) = cached(&origin.url(), "");
    let files = newest(&source).await.unwrap();
    let paths: Vec<_> = files.iter().map(|(path, _)| path).collect();
    assert_eq!(paths, ["README.md", "kit.yaml", "tests/run.yaml"]);
    assert_eq!(files.find("kit.yaml").unwrap(), "# $Format:%H$ $Id$\nname: x\n");
    assert_eq!(files, Files::from_directory(origin.0.path()).unwrap());

    let (other, _cache) = cached(&origin.url(), "");
    assert_eq!(newest(&other).await.unwrap().digest(), files.digest());
}

#[tokio::test]
async fn a_kit_may_lie_in_a_folder() {
    let origin = Origin::new();
    origin.write("README.md", b"not of the kit");
    origin.write("kits/web/kit.yaml", b"name: web\n");
    origin.write("kits/web/tests/a.yaml", b"hi");
    symlink("web", origin.0.path().join("kits/link")).unwrap();
    origin.tag("v1.0.0");
    let (source, _cache) = cached(&origin.url(), "kits/web");
    let files = newest(&source).await.unwrap();
    assert_eq!(files.iter().map(|(path, _)| path).collect::<Vec<_>>(), ["kit.yaml", "tests/a.yaml"]);
    for none in ["kits/none", "kits/link", "kits/web/kit.yaml"] {
        let (source, _cache) = cached(&origin.url(), none);
        let fault = newest(&source).await.unwrap_err();
        assert!(matches!(fault, GitError::Refused { verb: "ls-tree", .. }), "{none}: {fault}");
    }
    for wrong in ["/", "/kits", "kits/", "..", "kits/../..", "-r", "a b", "a:b", ".git"] {
        let fault = GitSource::new(&origin.url(), wrong, source.directory.as_path(), PATIENCE).unwrap_err();
        assert!(matches!(fault, GitError::Folder), "{wrong}: {fault}");
    }
}

#[tokio::test]
async fn what_does_not_fit_into_a_kit_is_refused_by_name() {
    type Change = fn(&Origin);
    let changes: [(Change, &str); 6] = [
        (|origin| symlink("/etc/passwd", origin.0.path().join("a")).unwrap(), "'a' is a symbolic link"),
        (
            |origin| {
                let entry = "160000,0123456789012345678901234567890123456789,a";
                origin.write("b", b"");
                origin.git(&["add", "--all"]);
                origin.git(&["update-index", "--add", "--cacheinfo", entry]);
                origin.git(&["commit", "--quiet", "--message=a submodule"]);
                origin.git(&["tag", "v2.0.0"]);
                // What is tagged next is an older version.
                origin.git(&["reset", "--quiet", "--hard", "HEAD~1"]);
            },
            "'a' is a submodule",
        ),
        (|origin| origin.write("a", &vec![0; FILE_BYTES_MAX + 1]), "'a' has more than 262144 bytes"),
        (|origin| origin.write("a b", b""), "'a b' is no path of a kit"),
        (|origin| origin.write("KIT.yaml", b""), "'kit.yaml' differs from 'KIT.yaml' by case only"),
        (
            |origin| (0..FILES_MAX).for_each(|number| origin.write(&format!("f{number:03}"), b"")),
            "'kit.yaml' is one file more than the 200",
        ),
    ];
    for (change, says) in changes {
        let origin = Origin::new();
        origin.write("kit.yaml", b"name: x\n");
        origin.tag("v0.0.1");
        change(&origin);
        origin.tag("v1.0.0");
        let (source, _cache) = cached(&origin.url(), "");
        let fault = newest(&source).await.unwrap_err();
        assert!(matches!(fault, GitError::Hostile(_)), "{says}: {fault}");
        assert!(fault.to_string().contains(says), "{says}: {fault}");
    }
}

#[tokio::test]
async fn a_tree_without_end_is_left() {
    let origin = Origin::new();
    let long = "x".repeat(120);
    for number in 0..2000 {
        origin.write(&format!(".hidden/{long}{number}"), b"");
    }
    origin.tag("v1.0.0");
    let (source, _cache) = cached(&origin.url(), "");
    let fault = newest(&source).await.unwrap_err();
    assert!(matches!(fault, GitError::Answer { verb: "ls-tree", limit_bytes: TREE_BYTES_MAX }), "{fault}");
}

#[tokio::test]
async fn git_says_in_its_own_words_what_it_refuses() {
    let nowhere = tempfile::tempdir().unwrap();
    let (source, _cache) = cached(&format!("file://{}/none", nowhere.path().display()), "");
    let fault = source.versions().await.unwrap_err();
    assert!(matches!(fault, GitError::Refused { verb: "fetch", .. }), "{fault}");
    assert!(fault.to_string().contains("does not appear to be a git repository"), "{fault}");
    // Git ended by itself, so that what is there may stay.
    assert!(!source.mark().exists());

    let origin = Origin::new();
    origin.tag("v1.0.0");
    let (source, _cache) = cached(&origin.url(), "");
    source.versions().await.unwrap();
    let unknown = "0123456789012345678901234567890123456789".parse().unwrap();
    let fault = source.files(&unknown).await.unwrap_err();
    assert!(matches!(fault, GitError::Refused { verb: "ls-tree", .. }), "{fault}");
    assert!("HEAD".parse::<Commit>().is_err());
    assert!("--all".parse::<Commit>().is_err());
}

#[tokio::test]
async fn hooks_and_settings_of_others_have_no_effect() {
    let origin = Origin::new();
    origin.write("kit.yaml", b"name: x\n");
    origin.tag("v1.0.0");
    let (source, cache) = cached(&origin.url(), "");
    source.versions().await.unwrap();
    let ran = cache.path().join("ran");
    let hook = source.repository().join("hooks/reference-transaction");
    fs::create_dir_all(hook.parent().unwrap()).unwrap();
    fs::write(&hook, format!("#!/bin/sh\ntouch {}\n", ran.display())).unwrap();
    fs::set_permissions(&hook, fs::Permissions::from_mode(0o755)).unwrap();
    origin.tag("v1.1.0");
    assert_eq!(versions(&source).await, ["1.1.0", "1.0.0"]);
    assert!(!ran.exists());
}

#[tokio::test]
async fn a_fetch_that_was_broken_off_is_begun_anew() {
    let origin = Origin::new();
    origin.tag("v1.0.0");
    let (source, _cache) = cached(&origin.url(), "");
    source.versions().await.unwrap();
    origin.tag("v1.1.0");
    let lock = source.repository().join("shallow.lock");
    fs::write(&lock, "").unwrap();
    fs::write(source.mark(), "").unwrap();
    assert_eq!(versions(&source).await, ["1.1.0", "1.0.0"]);
    assert!(!lock.exists());
    assert!(!source.mark().exists());
}

#[tokio::test]
async fn a_repository_has_its_bound_on_the_disk() {
    let origin = Origin::new();
    let mut state = 1_u32;
    let noise: Vec<u8> = std::iter::repeat_with(|| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state.to_be_bytes()[0]
    })
    .take(1024 * 1024)
    .collect();
    origin.write("large", &noise);
    origin.tag("v1.0.0");
    let (mut source, _cache) = cached(&origin.url(), "");
    source.repository_bytes_max = 512 * 1024;
    let fault = source.versions().await.unwrap_err();
    assert!(matches!(fault, GitError::Size { limit_bytes: 524_288 }), "{fault}");
    assert!(source.mark().exists());
    source.repository_bytes_max = REPOSITORY_BYTES_MAX;
    assert_eq!(versions(&source).await, ["1.0.0"]);
}

#[tokio::test]
async fn a_server_that_never_answers_meets_the_deadline_and_nobody_goes_on_waiting() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/kit.git", listener.local_addr().unwrap());
    let cache = tempfile::tempdir().unwrap();
    let source = GitSource::new(&url, "", cache.path(), Duration::from_secs(3)).unwrap();
    let silence = async {
        let (mut socket, _) = listener.accept().await.unwrap();
        // It ends when whoever asks is gone: git's helper, which is a process of its own.
        let mut asked = Vec::new();
        let _ = socket.read_to_end(&mut asked).await;
    };
    let both = async { tokio::join!(source.versions(), silence) };
    let (versions, ()) = timeout(PATIENCE, both).await.unwrap();
    let fault = versions.unwrap_err();
    assert!(matches!(fault, GitError::Deadline { verb: "fetch", .. }), "{fault}");
    assert!(fault.to_string().contains("3 s"), "{fault}");
    assert!(source.mark().exists());
}

#[tokio::test]
async fn whoever_stops_waiting_stops_git() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/kit.git", listener.local_addr().unwrap());
    let (source, _cache) = cached(&url, "");
    let mut socket = tokio::select! {
        versions = source.versions() => panic!("{versions:?}"),
        accepted = listener.accept() => accepted.unwrap().0,
    };
    let mut asked = Vec::new();
    let ended = timeout(PATIENCE, socket.read_to_end(&mut asked)).await;
    assert!(ended.is_ok());
}

#[tokio::test]
async fn what_opens_a_repository_goes_to_its_host_alone_and_stands_nowhere() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (source, cache) = cached(&format!("http://hannelore:s3cr%65t@{address}/kit.git"), "");
    let answer = async {
        let (mut socket, _) = listener.accept().await.unwrap();
        let (mut asked, mut piece) = (Vec::new(), [0; 1024]);
        while !asked.ends_with(b"\r\n\r\n") {
            let read = socket.read(&mut piece).await.unwrap();
            assert_ne!(read, 0);
            asked.extend_from_slice(&piece[..read]);
        }
        let elsewhere = format!("Location: http://{address}/elsewhere.git/info/refs?service=git-upload-pack");
        let head =
            format!("HTTP/1.1 302 Found\r\n{elsewhere}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        socket.write_all(head.as_bytes()).await.unwrap();
        String::from_utf8(asked).unwrap()
    };
    let both = async { tokio::join!(source.versions(), answer) };
    let (versions, asked) = timeout(PATIENCE, both).await.unwrap();
    // hannelore:s3cret
    assert!(asked.contains("\r\nAuthorization: Basic aGFubmVsb3JlOnMzY3JldA==\r\n"), "{asked}");
    let fault = versions.unwrap_err();
    assert!(matches!(fault, GitError::Refused { verb: "fetch", .. }), "{fault}");
    assert!(fault.to_string().contains("302"), "a redirect is not followed: {fault}");
    for secret in ["hannelore", "s3cr", "aGFubmVs"] {
        assert!(!format!("{fault} {fault:?} {source:?}").contains(secret), "{fault}");
        let settings = fs::read_to_string(cache.path().join("repository.git/config")).unwrap();
        assert!(!settings.contains(secret), "{settings}");
    }
}

#[tokio::test]
async fn nothing_but_the_transport_of_the_url_is_used() {
    let origin = Origin::new();
    origin.tag("v1.0.0");
    let (mut source, _cache) = cached(&origin.url(), "");
    for scheme in ["https", "http", "ssh"] {
        source.remote.scheme = scheme.into();
        let fault = source.versions().await.unwrap_err();
        assert!(fault.to_string().contains("transport 'file' not allowed"), "{fault}");
    }
}
