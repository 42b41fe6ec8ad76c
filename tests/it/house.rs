//! A whole mesh for one test: the built binary, started on data and ports of its own.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use reqwest::Method;
use reqwest::redirect::Policy;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::answer::{Call, Grpc};

/// How long the mesh may take to be up.
const UP_WITHIN: Duration = Duration::from_secs(30);

/// How long a command, or the end of the mesh, may take.
const DONE_WITHIN: Duration = Duration::from_secs(30);

/// Between two looks at something that is waited for.
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// What `up` prints last but a few lines, when everything is there.
const UP_MARK: &str = "Next, in another shell";

/// The modules of the mesh.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Module {
    /// The gateway: everything public.
    Gateway,
    /// The platform's back end.
    Admin,
    /// The user portal's back end.
    Cloud,
    /// Tenants' homelabs.
    Stack,
    /// The registry of StackKits.
    Kits,
    /// The development identity provider.
    Idp,
}

impl Module {
    /// Every module.
    pub const ALL: [Self; 6] = [Self::Gateway, Self::Admin, Self::Cloud, Self::Stack, Self::Kits, Self::Idp];

    /// The module's name, in the configuration and in `endpoints.json`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Gateway => "gateway",
            Self::Admin => "admin",
            Self::Cloud => "cloud",
            Self::Stack => "stack",
            Self::Kits => "kits",
            Self::Idp => "idp",
        }
    }
}

/// A mesh of one test. Its data and its ports outlive a restart; it ends with the test.
pub struct House {
    home: TempDir,
    ports: [u16; 6],
    env: Vec<(String, String)>,
    child: Option<Child>,
    /// The Stack, where it runs in a process of its own.
    stack: Option<Child>,
    /// Whether it does.
    apart: bool,
    /// What does not run either.
    without: Option<&'static str>,
    urls: BTreeMap<String, String>,
    http: reqwest::Client,
}

impl House {
    /// A mesh that was never started.
    pub fn fresh() -> Self {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default(); // Another test may have been first.
        let http = reqwest::Client::builder()
            .timeout(Duration::from_secs(30))
            .pool_max_idle_per_host(0) // A connection must not outlive the process that it leads to.
            .no_proxy()
            .redirect(Policy::none())
            .build()
            .unwrap();
        let home = tempfile::tempdir().unwrap();
        Self {
            home,
            ports: free_ports(),
            env: Vec::new(),
            child: None,
            stack: None,
            apart: false,
            without: None,
            urls: BTreeMap::new(),
            http,
        }
    }

    /// A mesh that is up.
    pub fn up() -> Self {
        let mut house = Self::fresh();
        house.start();
        house
    }

    /// A mesh that was never started, whose Stack runs in a process of its own.
    pub fn fresh_apart() -> Self {
        let mut house = Self::fresh();
        house.apart = true;
        house
    }

    /// A mesh that is up, whose Stack runs in a process of its own.
    pub fn up_apart() -> Self {
        let mut house = Self::fresh_apart();
        house.start();
        house.start_stack(&[]);
        house
    }

    /// The same mesh with a variable in the environment of every start.
    pub fn with_env(mut self, key: &'static str, value: impl Into<String>) -> Self {
        self.env.push((key.to_owned(), value.into()));
        self
    }

    /// The same mesh, where nobody calls too often.
    pub fn without_limits(mut self) -> Self {
        for class in ["ADMIN", "OTHER", "SIGN-IN", "STACKS", "STACKKITS"] {
            for plan in ["FREE", "PRO", "ENTERPRISE"] {
                self.env.push((format!("KOMBIFY__RATES__{class}__{plan}"), "1000000".to_owned()));
            }
        }
        self
    }

    /// Gives every start and command this configuration.
    pub fn configure_with(&self, toml: &str) {
        fs::write(self.config(), toml).unwrap();
    }

    fn config(&self) -> PathBuf {
        self.home.path().join("kombify.toml")
    }

    /// Starts the mesh, and waits until it is up.
    pub fn start(&mut self) {
        self.start_with(&[]);
    }

    /// Starts the mesh with these variables, and waits until it is up.
    pub fn start_with(&mut self, env: &[(&str, &str)]) {
        self.spawn(env);
        let deadline = Instant::now() + UP_WITHIN;
        loop {
            let said = self.said();
            if said.starts_with("kombify is up") && said.contains(UP_MARK) {
                break;
            }
            if let Some(status) = self.ended() {
                panic!("`kombify up` ended with {status}:\n{}", self.log());
            }
            assert!(Instant::now() < deadline, "`kombify up` is not up in time:\n{}", self.log());
            thread::sleep(LOOK_AGAIN);
        }
        self.urls = serde_json::from_slice(&fs::read(self.data().join("endpoints.json")).unwrap()).unwrap();
    }

    /// Starts the mesh without a module, and waits until it is up.
    pub fn start_without(&mut self, module: &'static str) {
        self.without = Some(module);
        self.start();
    }

    /// Starts a module of this mesh in a process of its own, and does not wait for anything. Whoever starts it ends it.
    pub fn start_apart(&self, module: &str) -> Child {
        let err = File::options().create(true).append(true).open(self.home.path().join("err")).unwrap();
        let mut command = self.command();
        self.configure(&mut command, &[]);
        command.args(["run", "--mode", "saas-shared", "--service", module]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(err).spawn().unwrap()
    }

    /// Starts the Stack in its own process with these variables, and waits until it serves.
    pub fn start_stack(&mut self, env: &[(&str, &str)]) {
        self.spawn_stack(env);
        let deadline = Instant::now() + UP_WITHIN;
        while !fs::read_to_string(self.home.path().join("stack-out")).unwrap().starts_with("kombify is up") {
            if let Some(status) = self.stack.as_mut().unwrap().try_wait().unwrap() {
                panic!("the Stack ended with {status}:\n{}", self.log());
            }
            assert!(Instant::now() < deadline, "the Stack is not up in time:\n{}", self.log());
            thread::sleep(LOOK_AGAIN);
        }
    }

    /// Starts the Stack in its own process with these variables, and does not wait for anything.
    pub fn spawn_stack(&mut self, env: &[(&str, &str)]) {
        assert!(self.stack.is_none(), "the Stack runs already");
        let out = File::create(self.home.path().join("stack-out")).unwrap();
        let err = File::options().create(true).append(true).open(self.home.path().join("err")).unwrap();
        let mut command = self.command();
        self.configure(&mut command, env);
        command.args(["run", "--mode", "saas-shared", "--service", "stack"]);
        command.stdin(Stdio::null()).stdout(out).stderr(err);
        self.stack = Some(command.spawn().unwrap());
    }

    /// Ends the Stack's own process at once (SIGKILL), unless it has ended by itself.
    pub fn kill_stack(&mut self) {
        if let Some(mut stack) = self.stack.take() {
            stack.kill().unwrap();
            stack.wait().unwrap();
        }
    }

    /// Adds an instance of that name with so many places, and starts its Stack, in its own process on its own data, with
    /// these variables; it has places when Admin has heard of it.
    pub async fn add_stack(&self, root: &str, name: &str, places: u32, env: &[(&str, &str)]) -> OtherStack {
        let url = format!("http://127.0.0.1:{}", free_ports()[0]);
        let body =
            json!({"name": name, "maxTenants": places, "internalEndpoint": url, "publicEndpoint": url});
        let made = self.call("POST", "/v1/admin/instances").by(root).json(&body).send().await;
        let id = made.data()["id"].as_str().unwrap().to_owned();
        let place = self.home.path().join(name);
        fs::create_dir(&place).unwrap();
        let secret = place.join("secret");
        fs::write(&secret, made.data()["joinSecret"].as_str().unwrap()).unwrap();
        let mut command = self.command();
        self.configure(&mut command, env);
        let address = url.strip_prefix("http://").unwrap();
        command.env("KOMBIFY__LISTEN__STACK", address).env("KOMBIFY__STACK__INSTANCE", name);
        command.env("KOMBIFY__STACK__JOIN_SECRET_FILE", &secret).env("KOMBIFY__DATA", place.join("data"));
        command.args(["run", "--mode", "saas-shared", "--service", "stack"]).stdin(Stdio::null());
        command.stdout(Stdio::null()).stderr(File::create(place.join("err")).unwrap());
        let child = command.spawn().unwrap();
        let other = OtherStack { id, url, place, child, http: self.http.clone() };
        let deadline = Instant::now() + UP_WITHIN;
        loop {
            let listed = self.all(root, "/v1/admin/instances").await;
            let own = listed.iter().find(|instance| instance["id"] == other.id).unwrap();
            if own["health"] == "healthy" {
                return other;
            }
            assert!(Instant::now() < deadline, "{name} is not healthy in time: {own}\n{}", other.log());
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }

    /// Whether the Stack's own process runs still.
    pub fn stack_runs(&mut self) -> bool {
        self.stack.as_mut().is_some_and(|stack| stack.try_wait().unwrap().is_none())
    }

    /// Waits until the Stack's own process has ended by itself, and gives what it ended with.
    pub fn wait_for_the_stacks_end(&mut self) -> ExitStatus {
        let deadline = Instant::now() + DONE_WITHIN;
        loop {
            if let Some(status) = self.stack.as_mut().unwrap().try_wait().unwrap() {
                self.stack = None;
                return status;
            }
            assert!(Instant::now() < deadline, "the Stack does not end:\n{}", self.log());
            thread::sleep(LOOK_AGAIN);
        }
    }

    /// Starts the mesh with these variables, which do not let it live, and gives what it ended with.
    pub fn start_to_its_end(&mut self, env: &[(&str, &str)]) -> ExitStatus {
        self.spawn(env);
        self.wait_for_its_end()
    }

    /// Asks the mesh to end, waits, and starts it again.
    pub fn restart(&mut self) {
        let status = self.terminate();
        assert!(status.success(), "{status}:\n{}", self.log());
        self.start();
    }

    /// Asks the mesh to end (SIGTERM), and gives what it ended with.
    pub fn terminate(&mut self) -> ExitStatus {
        let id = self.child.as_ref().unwrap().id();
        let asked = Command::new("sh").args(["-c", &format!("kill -TERM {id}")]).status().unwrap();
        assert!(asked.success());
        self.wait_for_its_end()
    }

    /// Ends the mesh at once (SIGKILL).
    pub fn kill(&mut self) {
        let mut child = self.child.take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// Waits until the mesh has ended by itself, and gives what it ended with.
    pub fn wait_for_its_end(&mut self) -> ExitStatus {
        let deadline = Instant::now() + DONE_WITHIN;
        loop {
            if let Some(status) = self.ended() {
                return status;
            }
            assert!(Instant::now() < deadline, "the mesh does not end:\n{}", self.log());
            thread::sleep(LOOK_AGAIN);
        }
    }

    /// Lets the module listen elsewhere from the next start on.
    pub fn give_another_port(&mut self, module: Module) {
        let at = Module::ALL.iter().position(|other| *other == module).unwrap();
        self.ports[at] = free_ports()[0];
    }

    /// The directory with the data.
    pub fn data(&self) -> PathBuf {
        self.home.path().join("data")
    }

    /// What the present start printed.
    pub fn said(&self) -> String {
        fs::read_to_string(self.home.path().join("out")).unwrap()
    }

    /// What every start logged.
    pub fn log(&self) -> String {
        fs::read_to_string(self.home.path().join("err")).unwrap()
    }

    /// Where a module is.
    pub fn url(&self, module: Module) -> &str {
        &self.urls[module.name()]
    }

    /// An access token of a user, as `kombify token` prints it.
    pub fn token(&self, user: &str) -> String {
        let output = self.run(&["token", user], &[]);
        assert!(output.status.success(), "{user}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    /// Runs another command of the binary on the same data, to its end.
    pub fn run(&self, arguments: &[&str], env: &[(&str, &str)]) -> Output {
        let mut command = self.command();
        command.args(arguments).envs(env.iter().copied());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let deadline = Instant::now() + DONE_WITHIN;
        while child.try_wait().unwrap().is_none() {
            if Instant::now() > deadline {
                child.kill().unwrap();
                child.wait().unwrap();
                panic!("kombify {arguments:?} does not end");
            }
            thread::sleep(LOOK_AGAIN);
        }
        child.wait_with_output().unwrap()
    }

    /// A call of JSON at the gateway.
    pub fn call(&self, verb: &str, path: &str) -> Call {
        self.call_at(Module::Gateway, verb, path)
    }

    /// Every thing of a list at the gateway, page by page.
    pub async fn all(&self, token: &str, path: &str) -> Vec<Value> {
        let mut all = Vec::new();
        let mut cursor = String::new();
        loop {
            let separator = if path.contains('?') { '&' } else { '?' };
            let page =
                self.call("GET", &format!("{path}{separator}limit=100{cursor}")).by(token).send().await;
            all.extend_from_slice(page.list());
            let next = page.json["meta"]["nextCursor"].as_str().unwrap();
            if next.is_empty() {
                return all;
            }
            cursor = format!("&cursor={next}");
        }
    }

    /// Who calls the gateway whatever happens to the mesh meanwhile.
    pub fn outside(&self) -> Outside {
        Outside { gateway: self.url(Module::Gateway).to_owned(), http: self.http.clone() }
    }

    /// A call of JSON at a module's own port.
    pub fn call_at(&self, module: Module, verb: &str, path: &str) -> Call {
        let verb = Method::from_bytes(verb.as_bytes()).unwrap();
        Call::new(self.http.request(verb, format!("{}{path}", self.url(module))))
    }

    /// What a module answers to these bytes of HTTP/1.1, which ask for the connection to be closed.
    pub fn raw(&self, module: Module, request: &str) -> String {
        let [gateway, admin, cloud, stack, kits, idp] = self.ports;
        let port = match module {
            Module::Gateway => gateway,
            Module::Admin => admin,
            Module::Cloud => cloud,
            Module::Stack => stack,
            Module::Kits => kits,
            Module::Idp => idp,
        };
        let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        stream.set_read_timeout(Some(DONE_WITHIN)).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    /// What grpcurl makes of a module: `words` stand behind the address.
    pub fn grpcurl(&self, module: Module, flags: &[&str], words: &[&str]) -> Grpc {
        let address = self.url(module).trim_start_matches("http://");
        let output = Command::new(grpcurl())
            .args(["-plaintext", "-emit-defaults", "-max-time", "20"])
            .args(flags)
            .arg(address)
            .args(words)
            .output()
            .unwrap();
        Grpc::new(&output)
    }

    /// A call of gRPC at a module's own port by grpcurl, which learns the method by reflection.
    pub fn rpc(&self, module: Module, token: Option<&str>, method: &str, message: &Value) -> Grpc {
        let credential = token.map(|token| format!("authorization: Bearer {token}"));
        let message = message.to_string();
        let mut flags = vec!["-d", message.as_str()];
        if let Some(credential) = &credential {
            flags.extend(["-H", credential.as_str()]);
        }
        self.grpcurl(module, &flags, &[method])
    }

    fn spawn(&mut self, env: &[(&str, &str)]) {
        assert!(self.child.is_none(), "the mesh runs already");
        let out = File::create(self.home.path().join("out")).unwrap();
        let err = File::options().create(true).append(true).open(self.home.path().join("err")).unwrap();
        let mut command = self.command();
        self.configure(&mut command, env);
        command.arg("up");
        if self.apart {
            command.args(["--without", "stack"]);
        }
        if let Some(module) = self.without {
            command.args(["--without", module]);
        }
        command.stdin(Stdio::null()).stdout(out).stderr(err);
        self.child = Some(command.spawn().unwrap());
    }

    /// The mesh's own ports and variables, and these variables over them.
    fn configure(&self, command: &mut Command, env: &[(&str, &str)]) {
        for (module, port) in Module::ALL.into_iter().zip(self.ports) {
            let key = format!("KOMBIFY__LISTEN__{}", module.name().to_uppercase());
            command.env(key, format!("127.0.0.1:{port}"));
        }
        for (key, value) in &self.env {
            command.env(key, value);
        }
        command.envs(env.iter().copied());
    }

    /// The binary on this data, with nothing of the environment's own configuration, and any free ports.
    fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_kombify"));
        for (key, _) in std::env::vars_os() {
            if key.to_string_lossy().starts_with("KOMBIFY_") {
                command.env_remove(key);
            }
        }
        for module in Module::ALL {
            command.env(format!("KOMBIFY__LISTEN__{}", module.name().to_uppercase()), "127.0.0.1:0");
        }
        command.env("KOMBIFY__DATA", self.data()).current_dir(self.home.path());
        if self.config().exists() {
            command.arg("--config").arg(self.config());
        }
        command
    }

    fn ended(&mut self) -> Option<ExitStatus> {
        let status = self.child.as_mut()?.try_wait().unwrap()?;
        self.child = None;
        Some(status)
    }
}

/// The Stack of an instance that was added to a mesh; it ends with the test.
pub struct OtherStack {
    /// The instance.
    pub id: String,
    /// Where it is.
    pub url: String,
    place: PathBuf,
    child: Child,
    http: reqwest::Client,
}

impl OtherStack {
    /// The directory with its data.
    pub fn data(&self) -> PathBuf {
        self.place.join("data")
    }

    /// A call of JSON at its port.
    pub fn call(&self, verb: &str, path: &str) -> Call {
        let verb = Method::from_bytes(verb.as_bytes()).unwrap();
        Call::new(self.http.request(verb, format!("{}{path}", self.url)))
    }

    fn log(&self) -> String {
        fs::read_to_string(self.place.join("err")).unwrap()
    }
}

impl Drop for OtherStack {
    fn drop(&mut self) {
        let _ = self.child.kill(); // It may have ended meanwhile.
        let _ = self.child.wait();
    }
}

/// Who calls the gateway whatever happens to the mesh meanwhile.
#[derive(Clone)]
pub struct Outside {
    gateway: String,
    http: reqwest::Client,
}

impl Outside {
    /// A call of JSON at the gateway.
    pub fn call(&self, verb: &str, path: &str) -> Call {
        let verb = Method::from_bytes(verb.as_bytes()).unwrap();
        Call::new(self.http.request(verb, format!("{}{path}", self.gateway)))
    }
}

impl Drop for House {
    fn drop(&mut self) {
        for mut child in self.child.take().into_iter().chain(self.stack.take()) {
            let _ = child.kill(); // It may have ended meanwhile.
            let _ = child.wait();
        }
        if thread::panicking() {
            let log = fs::read_to_string(self.home.path().join("err")).unwrap_or_default();
            let last: Vec<&str> = log.lines().rev().take(20).collect();
            eprintln!("the mesh's last lines, newest first:\n{}", last.join("\n"));
        }
    }
}

/// Ports that nobody has, and that the system gives to no outgoing connection: a mesh that starts again must find its
/// own, since its issuer is a URL.
fn free_ports() -> [u16; 6] {
    const FIRST: u16 = 10_000;
    const COUNT: u16 = 20_000;
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let offset = u16::try_from(std::process::id() % 1000).unwrap_or_default() * 20;
    let free = || {
        for _ in 0..COUNT {
            let next = NEXT.fetch_add(1, Ordering::Relaxed) % COUNT;
            let port = FIRST + (next + offset) % COUNT;
            if TcpListener::bind(("127.0.0.1", port)).is_ok() {
                return port;
            }
        }
        panic!("no port is free");
    };
    [free(), free(), free(), free(), free(), free()]
}

fn grpcurl() -> PathBuf {
    let beside = || Path::new(env!("CARGO_MANIFEST_DIR")).join("target/tools");
    let tools = std::env::var_os("KOMBIFY_TOOLS").filter(|tools| tools != OsStr::new("")).map(PathBuf::from);
    let path = tools.unwrap_or_else(beside).join("bin/grpcurl");
    assert!(path.exists(), "{} is not there: run `make tools`", path.display());
    path
}
