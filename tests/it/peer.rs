//! Programs of others that a test leads: a browser, an identity provider. Each is a script of tests/peers that hears and
//! says lines of JSON.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;

/// How long a peer may take for one answer; a command of the browser takes 20 s at most.
const ANSWERED_WITHIN: Duration = Duration::from_secs(30);

/// How long a peer may take to end.
const ENDED_WITHIN: Duration = Duration::from_secs(20);

/// A peer that runs; it ends with the test.
pub struct Peer {
    script: &'static str,
    child: Child,
    stdin: Option<ChildStdin>,
    said: Receiver<String>,
    home: TempDir,
}

impl Peer {
    /// Starts the peer of that script of tests/peers.
    pub fn start(script: &'static str) -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let node = tools().join("bin/node");
        assert!(node.exists(), "{} is not there: run `make tools`", node.display());
        let home = tempfile::tempdir().unwrap();
        let mut child = Command::new(node)
            .arg(root.join("tests/peers").join(script))
            .env("KOMBIFY_TOOLS", tools())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(File::create(home.path().join("err")).unwrap())
            .spawn()
            .unwrap();
        let (stdin, stdout) = (child.stdin.take(), child.stdout.take().unwrap());
        let (say, said) = channel();
        thread::spawn(move || {
            let lines = BufReader::new(stdout).lines();
            lines.map_while(Result::ok).try_for_each(|line| say.send(line))
        });
        Self { script, child, stdin, said, home }
    }

    /// Tells the peer one thing, and gives what it answers.
    pub fn ask(&mut self, message: &Value) -> Value {
        // One that cannot start has ended already: that it says nothing tells why.
        let _ = writeln!(self.stdin.as_mut().unwrap(), "{message}");
        match self.said.recv_timeout(ANSWERED_WITHIN) {
            Ok(line) => serde_json::from_str(&line).unwrap(),
            Err(cause) => {
                let log = fs::read_to_string(self.home.path().join("err")).unwrap();
                panic!("{}: {cause}; where a tool is missing, run `make tools`:\n{log}", self.script)
            }
        }
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.stdin = None; // It ends when nothing more can come.
        let deadline = Instant::now() + ENDED_WITHIN;
        while matches!(self.child.try_wait(), Ok(None)) && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(10));
        }
        let _ = self.child.kill(); // It has ended, mostly.
        let _ = self.child.wait();
    }
}

/// A browser: Chromium.
pub struct Browser(Peer);

impl Browser {
    /// A browser that knows nobody.
    pub fn open() -> Self {
        Self(Peer::start("browser.mjs"))
    }

    /// Goes to an address, and gives the status of the page that is there.
    #[track_caller]
    pub fn go(&mut self, url: &str) -> u64 {
        self.obey(&json!({"command": "open", "url": url}))["status"].as_u64().unwrap()
    }

    /// Types into the field with that label.
    #[track_caller]
    pub fn fill(&mut self, label: &str, value: &str) {
        self.obey(&json!({"command": "fill", "label": label, "value": value}));
    }

    /// Presses the button of that name.
    #[track_caller]
    pub fn press(&mut self, name: &str) {
        self.obey(&json!({"command": "click", "role": "button", "name": name}));
    }

    /// Follows the link of that name.
    #[track_caller]
    pub fn follow(&mut self, name: &str) {
        self.obey(&json!({"command": "click", "role": "link", "name": name}));
    }

    /// The text of what CSS selects, as it is seen.
    #[track_caller]
    pub fn text(&mut self, selector: &str) -> String {
        self.obey(&json!({"command": "text", "selector": selector}))["text"].as_str().unwrap().to_owned()
    }

    /// How much there is of what CSS selects.
    #[track_caller]
    pub fn count(&mut self, selector: &str) -> u64 {
        self.obey(&json!({"command": "count", "selector": selector}))["count"].as_u64().unwrap()
    }

    /// Waits until there is what CSS selects.
    #[track_caller]
    pub fn wait_for(&mut self, selector: &str) {
        self.obey(&json!({"command": "waitFor", "selector": selector}));
    }

    /// Waits until the address begins so.
    #[track_caller]
    pub fn wait_for_url(&mut self, start: &str) {
        self.obey(&json!({"command": "waitFor", "url": start}));
    }

    /// The address.
    #[track_caller]
    pub fn url(&mut self) -> String {
        self.obey(&json!({"command": "url"}))["url"].as_str().unwrap().to_owned()
    }

    /// A picture of the whole page, as a PNG in that directory.
    #[track_caller]
    pub fn picture(&mut self, directory: &Path, name: &str) {
        let path = directory.join(format!("{name}.png"));
        self.obey(&json!({"command": "screenshot", "path": path}));
        assert!(fs::read(&path).unwrap().starts_with(b"\x89PNG"), "{}", path.display());
    }

    /// The cookies, with their flags.
    #[track_caller]
    pub fn cookies(&mut self) -> Vec<Value> {
        self.obey(&json!({"command": "cookies"}))["cookies"].as_array().unwrap().clone()
    }

    /// What went wrong on the pages since this was asked: errors of scripts, what a policy stopped, what failed to load.
    #[track_caller]
    pub fn problems(&mut self) -> Vec<String> {
        let answer = self.obey(&json!({"command": "problems"}));
        let text = |problem: &Value| {
            let [text, url] = ["text", "url"].map(|key| problem[key].as_str().unwrap_or_default());
            format!("{url}: {text}")
        };
        answer["problems"].as_array().unwrap().iter().map(text).collect()
    }

    /// Another person's browser; the first one is called `main`.
    #[track_caller]
    pub fn hand_to_new(&mut self, name: &str) {
        self.obey(&json!({"command": "newContext", "name": name}));
    }

    /// Back to the browser of that name.
    #[track_caller]
    pub fn hand_to(&mut self, name: &str) {
        self.obey(&json!({"command": "switchTo", "name": name}));
    }

    #[track_caller]
    fn obey(&mut self, command: &Value) -> Value {
        let answer = self.0.ask(command);
        assert_eq!(answer["ok"], true, "{command}: {}", answer["error"]);
        answer
    }
}

fn tools() -> PathBuf {
    let named = std::env::var_os("KOMBIFY_TOOLS").filter(|tools| tools != OsStr::new("")).map(PathBuf::from);
    named.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("target/tools"))
}
