//! A Git repository as the source of one kit: its tags `v1.2.3` or `1.2.3` are the versions.
//!
//! The `git` program does the fetching, into a bare repository that is no more than a cache; nothing is ever checked
//! out. The files of a version are read from its tree and its blobs (`ls-tree`, `cat-file`), not from `git archive`: an
//! archive is as the repository's own attributes want it (`export-subst`, `export-ignore`, line ends), a blob is as it
//! was committed, so that the same commit gives the same digest wherever it is read. And a tree shows links, submodules
//! and lengths as what they are, before anything is read.
//!
//! A repository is somebody else's, so each command runs with an empty environment and settings of ours, of its
//! transports with the one that the URL names, within a deadline, an address space and a length of its answer; ending
//! it ends every process that it has started. The repository on the disk is measured while it grows. Hooks, filters,
//! helpers and questions are off. Redirects are not followed: the host is the one that the configuration names, and
//! whoever takes a URL from elsewhere checks first where it leads.
//!
//! What a URL carries in front of its host goes to git as a header, in the environment: it stands on no command line,
//! in no file and in no message.

mod command;
mod list;
mod remote;

use std::path::{Path, PathBuf};
use std::pin::pin;
use std::process::ExitStatus;
use std::str::FromStr;
use std::time::Duration;
use std::{fmt, fs, io};

use kombify_core::Error;
use kombify_kit::{BYTES_MAX, FILES_MAX, Files, Hostile};
use semver::Version;
use tokio::sync::Mutex;
use tokio::task::spawn_blocking;
use tokio::time::{MissedTickBehavior, interval};

use self::list::{read_blobs, read_tags, read_tree};
use self::remote::Remote;

/// How long the list of all tags may be, in bytes: some 40,000 tags.
const TAGS_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// How long the list of a commit's files may be, in bytes: ten times as many files as a kit may have, hidden ones
/// included.
const TREE_BYTES_MAX: u64 = 256 * 1024;

/// How long the answer of a command may be that has nothing to say, in bytes.
const SILENCE_BYTES_MAX: u64 = 64 * 1024;

/// How long the files of a commit may be, in bytes, with a line before each and one after.
const BLOBS_BYTES_MAX: u64 = (BYTES_MAX + 64 * FILES_MAX) as u64;

/// How large the repository may be on the disk, in bytes.
const REPOSITORY_BYTES_MAX: u64 = 256 * 1024 * 1024;

/// What the smallest file takes on the disk, in bytes.
const CLUSTER_BYTES: u64 = 4096;

/// How often the repository is measured while it is fetched.
const LOOK_INTERVAL: Duration = Duration::from_millis(250);

/// The repository that one kit comes from.
#[derive(Debug)]
pub struct GitSource {
    remote: Remote,
    folder: String,
    directory: PathBuf,
    timeout: Duration,
    repository_bytes_max: u64,
    /// One after the other: git's locks make the second of two fail, and an unfinished fetch takes everything away.
    turn: Mutex<()>,
}

/// A commit of a repository.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Commit(String);

/// Why a repository gives no versions or no files.
#[derive(Debug, thiserror::Error)]
pub enum GitError {
    /// The URL is none that a kit can be fetched from. Nothing of it is told.
    #[error("the URL of the Git repository {0}")]
    Url(&'static str),
    /// The folder's path is none.
    #[error(
        "the folder in the Git repository must be segments of [A-Za-z0-9][A-Za-z0-9._-]* with / between them"
    )]
    Folder,
    /// The system fails: git cannot be started, or the directory cannot be written.
    #[error("git cannot be used: {0}")]
    Io(#[from] io::Error),
    /// Git ended with a complaint.
    #[error("git {verb}: {complaint}")]
    Refused {
        /// The command.
        verb: &'static str,
        /// What it complained, without secrets and of bounded length.
        complaint: String,
    },
    /// Git was ended by somebody else.
    #[error("git {verb} was ended: {status}")]
    Ended {
        /// The command.
        verb: &'static str,
        /// How.
        status: ExitStatus,
    },
    /// Git took too long.
    #[error("git {verb} took longer than {} s", .timeout.as_secs_f32())]
    Deadline {
        /// The command.
        verb: &'static str,
        /// How long it may take.
        timeout: Duration,
    },
    /// Git's answer is too long.
    #[error("git {verb} has more to say than {limit_bytes} bytes")]
    Answer {
        /// The command.
        verb: &'static str,
        /// How long it may be, in bytes.
        limit_bytes: u64,
    },
    /// Git's answer is not as it should be.
    #[error("git {verb} gives an answer that cannot be read")]
    Unreadable {
        /// The command.
        verb: &'static str,
    },
    /// The repository takes too much of the disk.
    #[error("the Git repository has more than {limit_bytes} bytes")]
    Size {
        /// How large it may be, in bytes.
        limit_bytes: u64,
    },
    /// A file of the commit does not fit into a kit.
    #[error(transparent)]
    Hostile(#[from] Hostile),
}

impl Commit {
    /// The commit's hash in hex digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Commit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Commit {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        // No repository of git's newer hash can be fetched into one of SHA-1's.
        if text.len() == 40 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')) {
            Ok(Self(text.to_owned()))
        } else {
            Err(Error::invalid("commit", "must be 40 of [0-9a-f]"))
        }
    }
}

impl GitSource {
    /// The kit in `folder` (empty: the whole) of the repository at `url`, which is `https:`, `http:`, `ssh:` or
    /// `file:`. What is fetched is kept in `directory`, which belongs to this source alone and may be deleted at any
    /// time. Each command of git may take as long as `timeout`.
    ///
    /// # Errors
    /// - [`GitError::Url`] if nothing can be fetched from there.
    /// - [`GitError::Folder`] if that is no path.
    /// - [`GitError::Io`] if the directory's place cannot be told.
    pub fn new(url: &str, folder: &str, directory: &Path, timeout: Duration) -> Result<Self, GitError> {
        if !folder.is_empty() && !folder.split('/').all(is_segment) {
            return Err(GitError::Folder);
        }
        Ok(Self {
            remote: Remote::parse(url)?,
            folder: folder.to_owned(),
            directory: std::path::absolute(directory)?,
            timeout,
            repository_bytes_max: REPOSITORY_BYTES_MAX,
            turn: Mutex::new(()),
        })
    }

    /// Fetches the tags; gives the versions among them, the newest first and 500 at most, each with its commit. A
    /// version whose two tags (`v1.2.3` and `1.2.3`) name two commits is left out.
    ///
    /// It may be cancelled: every process of git's ends, and the next call begins anew.
    ///
    /// # Errors
    /// - [`GitError::Refused`] with git's own words, for example that there is no such repository.
    /// - [`GitError::Deadline`], [`GitError::Size`] and [`GitError::Answer`] if it is beyond a bound.
    /// - [`GitError::Ended`], [`GitError::Io`] if the system fails.
    pub async fn versions(&self) -> Result<Vec<(Version, Commit)>, GitError> {
        let _turn = self.turn.lock().await;
        self.fetch().await?;
        let format = "--format=%(objecttype) %(objectname) %(*objecttype) %(*objectname) %(refname)";
        let tags = self.run("for-each-ref", &[format, "refs/tags"], &[], TAGS_BYTES_MAX).await?;
        Ok(read_tags(&String::from_utf8_lossy(&tags)))
    }

    /// The files of a commit that [`GitSource::versions`] gave, as they were committed; whatever is hidden
    /// (`.gitignore`, `.github`) is left out, as it is of a directory.
    ///
    /// # Errors
    /// - [`GitError::Hostile`] if there is a file that does not fit, or something else than files and folders.
    /// - [`GitError::Refused`] if there is no such commit any more, or it has no such folder.
    /// - As [`GitSource::versions`].
    pub async fn files(&self, commit: &Commit) -> Result<Files, GitError> {
        let _turn = self.turn.lock().await;
        let tree = format!("{commit}:{}", self.folder);
        let arguments = ["-r", "-l", "-z", "--full-tree", "--", &tree];
        let blobs = read_tree(&self.run("ls-tree", &arguments, &[], TREE_BYTES_MAX).await?)?;
        let wanted: Vec<_> = blobs.iter().map(|blob| blob.id.as_str()).collect();
        let (arguments, wanted) = (["--batch", "--buffer"], wanted.join("\n"));
        let contents = self.run("cat-file", &arguments, wanted.as_bytes(), BLOBS_BYTES_MAX).await?;
        read_blobs(&blobs, contents)
    }

    /// Fetches the tags. Where a fetch was broken off (by a bound, by a crash), its locks and half a pack remain: the
    /// mark that it leaves makes the next one begin with nothing.
    async fn fetch(&self) -> Result<(), GitError> {
        let mark = self.mark();
        tokio::fs::create_dir_all(&self.directory).await?;
        if tokio::fs::try_exists(&mark).await? {
            match tokio::fs::remove_dir_all(self.repository()).await {
                Err(fault) if fault.kind() != io::ErrorKind::NotFound => return Err(fault.into()),
                Ok(()) | Err(_) => {}
            }
        }
        tokio::fs::write(&mark, "").await?;
        let arguments = ["--quiet", "--bare", "--template="];
        self.run("init", &arguments, &[], SILENCE_BYTES_MAX).await?;
        let mut fetched = self.fetch_measured().await;
        // Where there is no tag at all, git takes away what was there and fails without a word.
        let is_silent = matches!(&fetched, Err(GitError::Refused { complaint, .. }) if complaint.is_empty());
        if is_silent {
            let arguments = ["--tags", "--", self.remote.url.as_str()];
            if self.run("ls-remote", &arguments, &[], TAGS_BYTES_MAX).await?.is_empty() {
                fetched = Ok(());
            }
        }
        if matches!(fetched, Ok(()) | Err(GitError::Refused { .. })) {
            // Git has ended by itself and left everything in order.
            tokio::fs::remove_file(&mark).await?;
        }
        fetched
    }

    async fn fetch_measured(&self) -> Result<(), GitError> {
        let arguments = [
            "--quiet",
            "--depth=1",
            "--no-recurse-submodules",
            "--no-tags",
            "--no-write-fetch-head",
            "--prune",
            "--",
            self.remote.url.as_str(),
            // A tag may move: what becomes of a version then, the registry decides.
            "+refs/tags/*:refs/tags/*",
        ];
        let mut fetching = pin!(self.run("fetch", &arguments, &[], SILENCE_BYTES_MAX));
        let mut looks = interval(LOOK_INTERVAL);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                fetched = &mut fetching => {
                    fetched?;
                    return self.measure().await;
                }
                _ = looks.tick() => self.measure().await?,
            }
        }
    }

    async fn measure(&self) -> Result<(), GitError> {
        let (repository, limit_bytes) = (self.repository(), self.repository_bytes_max);
        let bytes = spawn_blocking(move || disk_bytes(&repository, limit_bytes)).await;
        if bytes.map_err(io::Error::other)?? > limit_bytes {
            Err(GitError::Size { limit_bytes })
        } else {
            Ok(())
        }
    }

    /// Runs one command of git, gives it `input` and returns what it answers.
    async fn run(
        &self,
        verb: &'static str,
        arguments: &[&str],
        input: &[u8],
        answer_bytes_max: u64,
    ) -> Result<Vec<u8>, GitError> {
        let mut command = command::prepare(&self.directory, &self.remote);
        command.arg(verb).args(arguments);
        command::run(command, verb, input, answer_bytes_max, self.timeout).await
    }

    fn repository(&self) -> PathBuf {
        self.directory.join("repository.git")
    }

    fn mark(&self) -> PathBuf {
        self.directory.join("fetching")
    }
}

fn is_segment(segment: &str) -> bool {
    segment.starts_with(|first: char| first.is_ascii_alphanumeric())
        && segment.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
}

/// What everything in a folder takes on the disk, in bytes, and no more of it than is enough. What goes away meanwhile
/// is not counted.
fn disk_bytes(folder: &Path, enough: u64) -> io::Result<u64> {
    let (mut bytes, mut folders) = (0, vec![folder.to_owned()]);
    while let Some(folder) = folders.pop() {
        for entry in present(fs::read_dir(folder))?.into_iter().flatten() {
            let entry = entry?;
            let Some(metadata) = present(entry.metadata())? else { continue };
            bytes += metadata.len().max(CLUSTER_BYTES);
            if bytes > enough {
                return Ok(bytes);
            }
            if metadata.is_dir() {
                folders.push(entry.path());
            }
        }
    }
    Ok(bytes)
}

fn present<T>(found: io::Result<T>) -> io::Result<Option<T>> {
    match found {
        Err(fault) if fault.kind() == io::ErrorKind::NotFound => Ok(None),
        found => found.map(Some),
    }
}

#[cfg(test)]
mod tests;
