//! `proto/` -> Rust, a descriptor set and checks, by protox: no `protoc` on the machine. `crates/contracts`
//! runs it.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::{env, fs};

use prost_reflect::DescriptorPool;

#[path = "crates/contracts/build/checks.rs"]
mod checks;
#[path = "crates/contracts/build/pattern.rs"]
mod pattern;
#[path = "crates/contracts/build/rules.rs"]
mod rules;

/// What can go wrong here ends the build, with a sentence for who builds.
type Result<T, E = Box<dyn Error>> = std::result::Result<T, E>;

/// The contracts, seen from `crates/contracts`.
const PROTO: &str = "../../proto";
/// Messages for the tests of the generator and of the contracts' rules.
const FIXTURE: &str = "tests/fixture";
/// Raw bytes as an answer: of `google.api` the one message that is more than an option.
const HTTP_BODY: &str = "google/api/httpbody.proto";

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    for path in ["../../build.rs", "build", PROTO, FIXTURE] {
        println!("cargo:rerun-if-changed={path}");
    }
    let out_dir = PathBuf::from(env::var_os("OUT_DIR").ok_or("OUT_DIR is not set: cargo runs this")?);
    let contracts = Contracts {
        root: PROTO,
        includes: &[PROTO],
        prefix: "kombify.",
        others: &[HTTP_BODY],
        rust_root: "crate",
    };
    contracts.compile(&out_dir)?;
    let fixture = Contracts {
        root: FIXTURE,
        includes: &[FIXTURE, PROTO],
        prefix: "kombify.fixture.",
        others: &[],
        rust_root: "crate::fixture",
    };
    fixture.compile(&out_dir.join("fixture"))
}

/// One tree of protos.
struct Contracts<'a> {
    /// Where its files are.
    root: &'a str,
    /// Where imports are looked for.
    includes: &'a [&'a str],
    /// The packages that become Rust.
    prefix: &'a str,
    /// The files of other packages that become Rust, too, whether one of ours imports them or not.
    others: &'a [&'a str],
    /// The module into which their Rust is included.
    rust_root: &'a str,
}

impl Contracts<'_> {
    /// Writes `kombify.bin` (descriptors), `kombify.rs` (messages, clients, servers) and `checks.rs`.
    fn compile(&self, out_dir: &Path) -> Result<()> {
        fs::create_dir_all(out_dir)?;
        let mut protos = Vec::new();
        find(&Path::new(self.root).join("kombify"), &mut protos)?;
        protos.extend(self.others.iter().map(|file| Path::new(self.root).join(file)));
        protos.sort(); // Directory order differs by machine.

        let mut compiler = protox::Compiler::new(self.includes)?;
        compiler.include_imports(true).include_source_info(true).open_files(&protos)?;
        let encoded = compiler.encode_file_descriptor_set(); // Keeps our options.
        fs::write(out_dir.join("kombify.bin"), &encoded)?;

        let mut files = compiler.file_descriptor_set();
        // The rest of google.api and buf.validate are options only: no message of ours has a field of theirs.
        files.file.retain(|file| {
            let package = file.package();
            package.starts_with(self.prefix)
                || package == "google.protobuf"
                || self.others.contains(&file.name())
        });
        tonic_prost_build::configure()
            .btree_map(".") // The same content gives the same bytes: requests are compared by their hash.
            .bytes(".google.api.HttpBody") // A part of them is no copy.
            .codec_path("crate::codec::CheckedCodec")
            .include_file("kombify.rs")
            .out_dir(out_dir)
            .compile_fds(files)?;

        let pool = DescriptorPool::decode(encoded.as_slice())?;
        let checks = checks::generate(&pool, self.prefix, self.rust_root)?;
        fs::write(out_dir.join("checks.rs"), checks)?;
        Ok(())
    }
}

fn find(dir: &Path, found: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() {
            find(&path, found)?;
        } else if path.extension().is_some_and(|extension| extension == "proto") {
            found.push(path);
        }
    }
    Ok(())
}
