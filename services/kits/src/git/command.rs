//! One command of git: what it may see, how long it may take, what it may say, and that nothing of it remains.

use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use secrecy::ExposeSecret as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::{Child, ChildStderr, ChildStdout, Command};
use tokio::time::timeout;

use super::GitError;
use super::remote::Remote;

/// Where git and its helpers are looked for.
const PATH: &str = "/usr/local/bin:/usr/bin:/bin";

/// Runs git in an address space of 1 GiB, which its helpers inherit: a few bytes of a pack can claim to become many
/// GiB. And not for ever, should this process be killed meanwhile.
const WITHIN_LIMITS: &str = r#"ulimit -v 1048576 2>/dev/null; exec timeout --kill-after=5 300 git "$@""#;

/// What git is told, whatever a file of its own says.
const SETTINGS: [&str; 14] = [
    // What is larger than any file of a kit is passed through, never held.
    "core.bigFileThreshold=1m",
    "core.hooksPath=/dev/null",
    "credential.helper=",
    "fetch.fsckObjects=true",
    // As packs, objects are few files, and quickly measured.
    "fetch.unpackLimit=1",
    // Nothing goes on when the command has ended.
    "gc.auto=0",
    "http.followRedirects=false",
    "maintenance.auto=false",
    "pack.threads=1",
    "protocol.ext.allow=never",
    "submodule.recurse=false",
    "transfer.bundleURI=false",
    "transfer.fsckObjects=true",
    "transfer.unpackLimit=1",
];

/// How much of what a command complains is kept, in bytes: its end.
const COMPLAINT_BYTES_MAX: usize = 4096;

/// How much of it is told, in characters: its end.
const COMPLAINT_CHARS_MAX: usize = 400;

/// Git in `directory`, where it has its home and its repository, ready for a verb and its arguments.
pub(super) fn prepare(directory: &Path, remote: &Remote) -> Command {
    let mut command = Command::new("/bin/sh");
    command
        .args(["-c", WITHIN_LIMITS, "git", "--git-dir=repository.git"])
        .args(SETTINGS.into_iter().flat_map(|setting| ["-c", setting]))
        .current_dir(directory)
        .env_clear()
        .env("PATH", PATH)
        .env("HOME", directory)
        .env("LC_ALL", "C")
        .env("GIT_ALLOW_PROTOCOL", &remote.scheme)
        .env("GIT_ATTR_NOSYSTEM", "1")
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_NO_REPLACE_OBJECTS", "1")
        .env("GIT_SSH_COMMAND", "ssh -oBatchMode=yes")
        .env("GIT_TERMINAL_PROMPT", "0")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true);
    if let Some(authorization) = &remote.authorization {
        command
            .env("GIT_CONFIG_COUNT", "1")
            .env("GIT_CONFIG_KEY_0", "http.extraHeader")
            .env("GIT_CONFIG_VALUE_0", authorization.expose_secret());
    }
    command
}

/// Runs a command, gives it `input` and returns what it answers.
pub(super) async fn run(
    mut command: Command,
    verb: &'static str,
    input: &[u8],
    answer_bytes_max: u64,
    deadline: Duration,
) -> Result<Vec<u8>, GitError> {
    let mut child = command.spawn()?;
    // Declared after the child, so that it goes before it, whenever this is left.
    let family = Family::of(&child);
    let (answer, complaint, status) = timeout(deadline, talk(&mut child, verb, input, answer_bytes_max))
        .await
        .map_err(|_| GitError::Deadline { verb, timeout: deadline })??;
    family.release();
    if status.success() {
        Ok(answer)
    } else if status.code().is_some() {
        Err(GitError::Refused { verb, complaint: tell(&complaint) })
    } else {
        Err(GitError::Ended { verb, status })
    }
}

/// A command and every process that it has started, git's helpers included. Unless it has ended, it ends with this.
struct Family(Option<Pid>);

impl Family {
    /// The family of a child that leads a group of its own.
    fn of(child: &Child) -> Self {
        Self(child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw))
    }

    /// The child has been waited for: from now on, its number may be somebody else's.
    fn release(mut self) {
        self.0 = None;
    }
}

impl Drop for Family {
    fn drop(&mut self) {
        if let Some(leader) = self.0 {
            // It fails where nobody is left, which is as good.
            let _ = kill_process_group(leader, Signal::KILL);
        }
    }
}

/// What a command answers, the end of what it complains, and how it ends.
async fn talk(
    child: &mut Child,
    verb: &'static str,
    input: &[u8],
    answer_bytes_max: u64,
) -> Result<(Vec<u8>, Vec<u8>, ExitStatus), GitError> {
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let give = async move {
        if let Some(mut stdin) = stdin {
            // Who takes no more has ended, and how it ended says why.
            let _ = stdin.write_all(input).await;
        }
        Ok(())
    };
    let (answer, complaint, ()) =
        tokio::try_join!(read_answer(stdout, verb, answer_bytes_max), read_complaint(stderr), give)?;
    Ok((answer, complaint, child.wait().await?))
}

async fn read_answer(
    stdout: Option<ChildStdout>,
    verb: &'static str,
    limit_bytes: u64,
) -> Result<Vec<u8>, GitError> {
    let mut answer = Vec::new();
    if let Some(stdout) = stdout {
        // One byte more: an answer that is too long uses the limit up.
        let mut stdout = stdout.take(limit_bytes + 1);
        stdout.read_to_end(&mut answer).await?;
        if stdout.limit() == 0 {
            return Err(GitError::Answer { verb, limit_bytes });
        }
    }
    Ok(answer)
}

/// The end of what a command complains. It is read to the last byte, since nobody can write into a full pipe.
async fn read_complaint(stderr: Option<ChildStderr>) -> Result<Vec<u8>, GitError> {
    let mut complaint = Vec::new();
    if let Some(mut stderr) = stderr {
        let mut piece = [0; 1024];
        loop {
            let read = stderr.read(&mut piece).await?;
            if read == 0 {
                break;
            }
            complaint.extend_from_slice(&piece[..read]);
            let beyond = complaint.len().saturating_sub(COMPLAINT_BYTES_MAX);
            complaint.drain(..beyond);
        }
    }
    Ok(complaint)
}

/// A complaint as one line that may be shown: without whatever stands before a host, without control characters, and of
/// bounded length. What git complains may be what the server told it.
fn tell(complaint: &[u8]) -> String {
    let text = String::from_utf8_lossy(complaint);
    // Where the beginning is missing, the first word may be the end of a secret.
    let is_whole = complaint.len() < COMPLAINT_BYTES_MAX;
    let start = if is_whole { 0 } else { text.find(char::is_whitespace).unwrap_or(text.len()) };
    let words: Vec<_> = text[start..].split_whitespace().map(redact).collect();
    let line = words.join(" ").replace(char::is_control, "?");
    let beyond = line.chars().count().saturating_sub(COMPLAINT_CHARS_MAX);
    line.chars().skip(beyond).collect()
}

/// A word without what stands before the last `@` of a URL.
fn redact(word: &str) -> String {
    if let Some(scheme) = word.find("://")
        && let Some(at) = word.rfind('@')
        && scheme < at
    {
        format!("{}://[REDACTED]{}", &word[..scheme], &word[at..])
    } else {
        word.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_complaint_tells_no_secret() {
        for (complaint, told) in [
            ("", ""),
            ("fatal: no such repository\n", "fatal: no such repository"),
            (
                "fatal: unable to access 'https://ann:s3cret@git.example/kit.git/': 403",
                "fatal: unable to access 'https://[REDACTED]@git.example/kit.git/': 403",
            ),
            ("https://tok/en@git.example", "https://[REDACTED]@git.example"),
            ("https://a@b@git.example/", "https://[REDACTED]@git.example/"),
            ("https://git.example/kit.git ann@example.com", "https://git.example/kit.git ann@example.com"),
            ("remote: a\u{1b}[2Jb\r\n\tc\0", "remote: a?[2Jb c?"),
        ] {
            assert_eq!(tell(complaint.as_bytes()), told);
        }
        assert_eq!(tell(b"\xff"), "\u{fffd}");
    }

    #[test]
    fn of_a_long_complaint_the_end_is_told() {
        let long = format!("{}END", "word ".repeat(1000));
        let told = tell(&long.as_bytes()[long.len() - COMPLAINT_BYTES_MAX..]);
        assert_eq!(told.chars().count(), COMPLAINT_CHARS_MAX);
        assert!(told.ends_with("word END"), "{told}");
        // What is cut in a secret does not show its end.
        let secret = format!("https://ann:{}@git.example/", "s".repeat(2 * COMPLAINT_BYTES_MAX));
        assert_eq!(tell(&secret.as_bytes()[secret.len() - COMPLAINT_BYTES_MAX..]), "");
    }
}
