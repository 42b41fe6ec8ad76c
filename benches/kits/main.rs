//! What the registry of StackKits costs: the verdict on a spec of 200 lines, beside reading it and beside another
//! implementation of JSON Schema alone; a page of 100 of 1,000 kits with 10 versions each, and the archive of a kit, beside
//! `WhoAmI` at the same port, which goes through the same rooms and does nothing.
//!
//! `cargo bench --bench kits` takes a minute and prints a table in Markdown. Without `--bench`, which Cargo adds, or with
//! `--quick`, there is little of each: then only that everything succeeds means anything. Only the ratios within one run
//! count.

use std::fmt::Write as _;
use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};
use std::{env, fs, thread};

use kombify_kit::{Files, Kit, SPEC_MAX_BYTES, read};
use serde_json::Value;

type Fault = Box<dyn std::error::Error + Send + Sync>;

/// How long the mesh may take to be up.
const UP_WITHIN: Duration = Duration::from_mins(2);

/// The goal for the verdict on a spec of 200 lines.
const GOAL_MILLIS: f64 = 1.0;

/// How much of everything there is.
#[derive(Clone, Copy)]
struct Size {
    kits: usize,
    versions: usize,
    calls: usize,
}

const WHOLE: Size = Size { kits: 1_000, versions: 10, calls: 2_000 };
const QUICK: Size = Size { kits: 20, versions: 2, calls: 20 };

/// One case: how long each time took, the shortest first.
struct Case {
    name: String,
    times: Vec<Duration>,
}

impl Case {
    fn measure(name: &str, times: usize, mut once: impl FnMut() -> Result<(), Fault>) -> Result<Self, Fault> {
        let mut measured = Vec::with_capacity(times);
        for _ in 0..times {
            let begun = Instant::now();
            once()?;
            measured.push(begun.elapsed());
        }
        measured.sort_unstable();
        Ok(Self { name: name.to_owned(), times: measured })
    }

    fn millis(&self, percent: usize) -> f64 {
        let place = (self.times.len() * percent / 100).min(self.times.len().saturating_sub(1));
        self.times.get(place).map_or(f64::NAN, |time| time.as_secs_f64() * 1_000.0)
    }

    fn print(&self, reference: &Self) {
        let (p50, theirs) = (self.millis(50), reference.millis(50));
        println!(
            "| {} | {p50:.3} | {:.3} | {} | {theirs:.3} | {:.2} |",
            self.name,
            self.millis(99),
            reference.name,
            p50 / theirs
        );
    }
}

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().collect();
    let has = |name: &str| arguments.iter().any(|argument| argument == name);
    let size = if has("--bench") && !has("--quick") { WHOLE } else { QUICK };
    match verdicts(size).and_then(|()| served(size)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(fault) => {
            eprintln!("{fault}");
            ExitCode::FAILURE
        }
    }
}

/// The kit with the most to say, and a spec of it of 200 lines.
fn long_spec() -> Result<(Kit, String), Fault> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("kits/media");
    let kit = Kit::load(Files::from_directory(&path)?).map_err(|findings| format!("{findings:?}"))?;
    let mut spec = kit.text("default-spec.yaml").to_owned();
    // What people write beside: notes. And as many nodes as there may be.
    let nodes: String = (0..40).fold(String::new(), |mut nodes, number| {
        let _ =
            write!(nodes, "  - name: node-{number}\n    role: worker\n    ip: 192.168.200.{}\n", number + 10);
        nodes
    });
    spec = spec.replacen("\nservices:", &format!("\n{nodes}services:"), 1);
    while spec.lines().count() < 200 {
        spec.push_str("# a note\n");
    }
    let verdict = kit.validate(&spec, false);
    if !verdict.is_valid() || !(190..=220).contains(&spec.lines().count()) {
        return Err(format!("the long spec is wrong: {} lines, {verdict:?}", spec.lines().count()).into());
    }
    Ok((kit, spec))
}

fn verdicts(size: Size) -> Result<(), Fault> {
    let (kit, spec) = long_spec()?;
    println!("| case | p50, ms | p99, ms | beside | its p50, ms | ratio |");
    println!("|---|---|---|---|---|---|");
    let ours = Case::measure("the verdict on a spec of 200 lines", size.calls, || {
        if kit.validate(&spec, false).is_valid() { Ok(()) } else { Err("the spec is wrong".into()) }
    })?;
    let reading = Case::measure("reading it", size.calls, || {
        read(&spec, SPEC_MAX_BYTES).map(drop).map_err(|problem| problem.to_string().into())
    })?;
    let schema: Value = serde_json::from_str(kit.text("schema.json"))?;
    let theirs = jsonschema::draft202012::new(&schema).map_err(|fault| fault.to_string())?;
    let document = read(&spec, SPEC_MAX_BYTES).map_err(|problem| problem.to_string())?.to_json();
    let shape = Case::measure("its shape by the crate jsonschema, read already", size.calls, || {
        if theirs.is_valid(&document) { Ok(()) } else { Err("the shape is wrong".into()) }
    })?;
    ours.print(&reading);
    ours.print(&shape);
    println!();
    println!("The goal for the verdict is {GOAL_MILLIS} ms; it took {:.3}.", ours.millis(50));
    println!();
    Ok(())
}

/// A mesh with many kits, which ends with this.
struct Mesh {
    home: tempfile::TempDir,
    child: Child,
    /// From its start until all its modules answer.
    up: Duration,
}

impl Drop for Mesh {
    fn drop(&mut self) {
        let _ = self.child.kill(); // It may have ended meanwhile.
        let _ = self.child.wait();
    }
}

impl Mesh {
    fn start(size: Size) -> Result<Self, Fault> {
        let home = tempfile::tempdir()?;
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("kits/dns");
        let dns = Files::from_directory(&path)?;
        // As the registry keeps what it has seen: to take it in is not what is measured.
        for kit in 0..size.kits {
            let dir = home.path().join(format!("data/kits/bench/kit-{kit}"));
            fs::create_dir_all(&dir)?;
            for version in 0..size.versions {
                let mut files = Files::default();
                for (name, content) in dns.iter() {
                    let text = String::from_utf8_lossy(content)
                        .replace("\nid: dns\n", &format!("\nid: kit-{kit}\n"))
                        .replace("\nversion: 1.0.0\n", &format!("\nversion: 1.{version}.0\n"));
                    files.insert(name, text)?;
                }
                fs::write(dir.join(format!("1.{version}.0.tar.gz")), files.to_tar_gz())?;
            }
        }
        fs::create_dir(home.path().join("empty"))?;
        let source = format!(
            "[[kits.sources]]\nname = \"bench\"\npath = \"{}\"\n",
            home.path().join("empty").display()
        );
        fs::write(home.path().join("kombify.toml"), source)?;
        let mut command = Command::new(env!("CARGO_BIN_EXE_kombify"));
        for module in ["GATEWAY", "ADMIN", "CLOUD", "STACK", "KITS", "IDP"] {
            command.env(format!("KOMBIFY__LISTEN__{module}"), "127.0.0.1:0");
        }
        for plan in ["FREE", "PRO", "ENTERPRISE"] {
            command.env(format!("KOMBIFY__RATES__STACKKITS__{plan}"), "10000000");
            command.env(format!("KOMBIFY__RATES__OTHER__{plan}"), "10000000");
        }
        let out = fs::File::create(home.path().join("out"))?;
        command.env("KOMBIFY__DATA", home.path().join("data")).env("KOMBIFY__LOG", "warn");
        command.arg("--config").arg(home.path().join("kombify.toml")).arg("up");
        let begun = Instant::now();
        let child = command.stdin(Stdio::null()).stdout(out).stderr(Stdio::null()).spawn()?;
        let mut mesh = Self { home, child, up: Duration::ZERO };
        let deadline = begun + UP_WITHIN;
        while !fs::read_to_string(mesh.home.path().join("out"))?.contains("Next, in another shell") {
            if mesh.child.try_wait()?.is_some() || Instant::now() > deadline {
                return Err("the mesh did not come up".into());
            }
            thread::sleep(Duration::from_millis(10));
        }
        mesh.up = begun.elapsed();
        Ok(mesh)
    }

    fn kits(&self) -> Result<String, Fault> {
        let endpoints: Value =
            serde_json::from_slice(&fs::read(self.home.path().join("data/endpoints.json"))?)?;
        Ok(endpoints["kits"].as_str().ok_or("kits are nowhere")?.to_owned())
    }

    fn token(&self) -> Result<String, Fault> {
        let output = Command::new(env!("CARGO_BIN_EXE_kombify"))
            .env("KOMBIFY__DATA", self.home.path().join("data"))
            .args(["token", "alice"])
            .output()?;
        Ok(String::from_utf8(output.stdout)?.trim().to_owned())
    }
}

fn served(size: Size) -> Result<(), Fault> {
    let mesh = Mesh::start(size)?;
    let (kits, token) = (mesh.kits()?, mesh.token()?);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let http = reqwest::Client::builder().timeout(Duration::from_secs(30)).no_proxy().build()?;
    let get = |path: &str| -> Result<Vec<u8>, Fault> {
        let call = http.get(format!("{kits}{path}")).bearer_auth(&token);
        let answer = runtime.block_on(async { call.send().await?.error_for_status()?.bytes().await })?;
        Ok(answer.to_vec())
    };
    let page: Value = serde_json::from_slice(&get("/v1/stackkits?limit=100")?)?;
    let listed = page["data"].as_array().map_or(0, Vec::len);
    if listed != 100.min(size.kits + 6) {
        return Err(format!("{listed} kits are listed").into());
    }
    let archive = get("/v1/stackkits/dns/download")?.len();
    let nothing = Case::measure("WhoAmI", size.calls, || get("/v1/whoami").map(drop))?;
    let list = Case::measure("a page of 100 kits", size.calls, || get("/v1/stackkits?limit=100").map(drop))?;
    let search = Case::measure("a search through all", size.calls / 4, || {
        get("/v1/stackkits?search=no-such-word").map(drop)
    })?;
    let download =
        Case::measure("the archive of a kit", size.calls, || get("/v1/stackkits/dns/download").map(drop))?;
    println!("| case | p50, ms | p99, ms | beside | its p50, ms | ratio |");
    println!("|---|---|---|---|---|---|");
    for case in [&list, &search, &download] {
        case.print(&nothing);
    }
    #[expect(clippy::cast_precision_loss, reason = "an archive has at most 4 MiB")]
    let rate = archive as f64 / 1_000_000.0 / (download.millis(50) / 1_000.0);
    let build =
        if cfg!(debug_assertions) { "a debug build, which says nothing about speed" } else { "release" };
    println!();
    println!(
        "{} kits with {} versions each, and a start on them of {:.1} s; archives of {archive} bytes, one after the other: {rate:.1} MB/s. {build}.",
        size.kits,
        size.versions,
        mesh.up.as_secs_f64(),
    );
    Ok(())
}
