//! `kombify kits`: what an author of a StackKit does with it, on the directory itself; nothing else has to run.

use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};

use clap::Subcommand;
use kombify_kit::{CUE, DEFAULT_SPEC, Files, Kit, Problem, SCHEMA, TESTS};

use crate::Fault;

mod cue;
mod scaffold;

/// What to do with a kit.
#[derive(Subcommand)]
pub enum KitsCommand {
    /// Makes a directory with a small kit that works, to start from. Its name is the kit's id.
    New {
        /// The directory; it must not be there yet.
        directory: PathBuf,
    },
    /// Looks at everything in kits, or at a spec, and says what is wrong, where, and what to do.
    Validate {
        /// Directories of kits, or their archives.
        #[arg(required = true)]
        kits: Vec<PathBuf>,
        /// A spec to hold against the kit, instead of the kit's own.
        #[arg(long, value_name = "FILE")]
        spec: Option<PathBuf>,
        /// Warnings are errors.
        #[arg(long)]
        strict: bool,
    },
    /// Runs the tests of kits: each spec in `tests/` must be what its first line expects.
    Test {
        /// Directories of kits, or their archives.
        #[arg(required = true)]
        kits: Vec<PathBuf>,
        /// Also asks this `cue` about the shape of each spec: it must say what schema.json says.
        #[arg(long, value_name = "PROGRAM", num_args = 0..=1, default_missing_value = "cue")]
        cue: Option<PathBuf>,
    },
    /// Prints the Compose file that a spec makes.
    Render {
        /// The directory of a kit, or its archive.
        kit: PathBuf,
        /// The spec; without it, the kit's default-spec.yaml.
        #[arg(long, value_name = "FILE")]
        spec: Option<PathBuf>,
    },
    /// Packs a kit into <id>-<version>.tar.gz, and prints its digest: that of the content, which is the same however it is
    /// packed, and not that of the file.
    Pack {
        /// The directory of a kit.
        kit: PathBuf,
        /// Where the archive goes; a directory that is there.
        #[arg(long, value_name = "DIRECTORY", default_value = ".")]
        to: PathBuf,
    },
}

/// Does it.
///
/// # Errors
/// - if something is wrong: what, was printed line by line.
pub fn run(command: KitsCommand) -> Result<(), Fault> {
    match command {
        KitsCommand::New { directory } => scaffold::new(&directory),
        KitsCommand::Validate { kits, spec: None, strict } => each(&kits, |path| validate(path, strict)),
        KitsCommand::Validate { kits, spec: Some(spec), strict } => {
            each(&kits, |path| validate_spec(path, &spec, strict))
        }
        KitsCommand::Test { kits, cue } => each(&kits, |path| test(path, cue.as_deref())),
        KitsCommand::Render { kit, spec } => render(&kit, spec.as_deref()),
        KitsCommand::Pack { kit, to } => pack(&kit, &to),
    }
}

/// Looks at each kit, whatever the others are like.
fn each(kits: &[PathBuf], look: impl Fn(&Path) -> Result<usize, Fault>) -> Result<(), Fault> {
    let mut wrong = 0;
    for path in kits {
        wrong += match look(path) {
            Ok(wrong) => wrong,
            Err(fault) => {
                say(&fault.to_string())?;
                1
            }
        };
    }
    match wrong {
        0 => Ok(()),
        1 => Err("one thing is wrong".into()),
        more => Err(format!("{more} things are wrong").into()),
    }
}

fn say(line: &str) -> Result<(), Fault> {
    Ok(writeln!(std::io::stdout(), "{line}")?)
}

/// The files of a kit: of a directory, or of an archive.
fn files(path: &Path) -> Result<Files, Fault> {
    let read = if path.is_dir() {
        Files::from_directory(path)
    } else if std::fs::metadata(path).is_ok_and(|there| !there.is_file()) {
        return Err(format!("{} is neither a directory nor an archive", path.display()).into());
    } else {
        let file = std::fs::File::open(path).map_err(|cause| format!("{}: {cause}", path.display()))?;
        Files::from_tar_gz(file)
    };
    read.map_err(|cause| format!("{}: {cause}", path.display()).into())
}

/// The kit, or how many things are wrong with it: each was printed.
fn load(path: &Path) -> Result<Result<Kit, usize>, Fault> {
    match Kit::load(files(path)?) {
        Ok(kit) => Ok(Ok(kit)),
        Err(findings) => {
            for finding in &findings {
                say(&format!("{}/{finding}", path.display()))?;
            }
            Ok(Err(findings.len()))
        }
    }
}

fn validate(path: &Path, strict: bool) -> Result<usize, Fault> {
    let kit = match load(path)? {
        Ok(kit) => kit,
        Err(wrong) => return Ok(wrong),
    };
    let own = path.join(DEFAULT_SPEC);
    let verdict = kit.validate(kit.text(DEFAULT_SPEC), strict);
    told(&own, &verdict.errors, "")?;
    told(&own, &verdict.warnings, " (a warning)")?;
    if !named_for_its_id(path, &kit) {
        let id = &kit.manifest().id;
        say(&format!("{}: the directory of the kit {id} must have the name {id}", path.display()))?;
        return Ok(verdict.errors.len() + 1);
    }
    if verdict.is_valid() {
        let manifest = kit.manifest();
        say(&format!("{}: {} {} is well ({})", path.display(), manifest.id, manifest.version, kit.digest()))?;
    }
    Ok(verdict.errors.len())
}

/// A directory has the name of its kit; an archive may have any.
fn named_for_its_id(path: &Path, kit: &Kit) -> bool {
    let whole = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    !path.is_dir() || whole.file_name().is_some_and(|name| name.to_str() == Some(&kit.manifest().id))
}

fn validate_spec(path: &Path, spec: &Path, strict: bool) -> Result<usize, Fault> {
    let kit = match load(path)? {
        Ok(kit) => kit,
        Err(wrong) => return Ok(wrong),
    };
    let verdict = kit.validate(&read(spec)?, strict);
    told(spec, &verdict.errors, "")?;
    told(spec, &verdict.warnings, " (a warning)")?;
    if verdict.is_valid() {
        let manifest = kit.manifest();
        say(&format!("{}: is a spec of {} {}", spec.display(), manifest.id, manifest.version))?;
    }
    Ok(verdict.errors.len())
}

fn told(file: &Path, problems: &[Problem], kind: &str) -> Result<(), Fault> {
    problems.iter().try_for_each(|problem| say(&format!("{}:{problem}{kind}", file.display())))
}

/// The text of a spec. One that is too large is read far enough to be told so.
fn read(path: &Path) -> Result<String, Fault> {
    let told = |cause: std::io::Error| format!("{}: {cause}", path.display());
    if !std::fs::metadata(path).map_err(told)?.is_file() {
        return Err(format!("{} is no file", path.display()).into());
    }
    let mut bytes = Vec::new();
    let most = u64::try_from(kombify_kit::SPEC_MAX_BYTES)? + 1;
    std::fs::File::open(path).map_err(told)?.take(most).read_to_end(&mut bytes).map_err(told)?;
    String::from_utf8(bytes).or_else(|text| {
        let at = text.utf8_error().valid_up_to();
        let line = text.as_bytes().iter().take(at).filter(|byte| **byte == b'\n').count() + 1;
        // The bound may have cut a character in two: then it is too large, and the text says so.
        let whole = text.as_bytes().len() < kombify_kit::SPEC_MAX_BYTES + 1;
        if whole {
            Err(format!("{}:{line}: is not UTF-8", path.display()).into())
        } else {
            Ok(String::from_utf8_lossy(text.as_bytes()).into_owned())
        }
    })
}

fn test(path: &Path, cue: Option<&Path>) -> Result<usize, Fault> {
    let kit = match load(path)? {
        Ok(kit) => kit,
        Err(wrong) => return Ok(wrong),
    };
    let mut wrong = 0;
    let cases = kit.test();
    for case in &cases {
        match &case.failure {
            None => say(&format!("ok      {}/{}", path.display(), case.file))?,
            Some(failure) => {
                wrong += 1;
                say(&format!("failed  {}/{}: {failure}", path.display(), case.file))?;
            }
        }
    }
    if cases.is_empty() {
        wrong += 1;
        say(&format!("{}: there is no test in {TESTS}", path.display()))?;
    }
    if let Some(cue) = cue {
        wrong += agree(path, &kit, cue)?;
    }
    Ok(wrong)
}

/// How many variations of each spec `cue` is asked about, too.
const VARIATIONS: usize = 10;

/// Whether `cue vet` and schema.json say the same of the shape of every spec, and of others that are made from it.
fn agree(path: &Path, kit: &Kit, program: &Path) -> Result<usize, Fault> {
    // It is run in another directory: a path to it is made whole, and a name alone is looked up.
    let whole = std::path::absolute(program)?;
    let program = if program.components().count() > 1 { &whole } else { program };
    let cue = cue::Cue::new(program, kit)?;
    let mut wrong = 0;
    let specs = kit
        .files()
        .iter()
        .map(|(name, _)| name)
        .filter(|name| name.starts_with(TESTS) || *name == DEFAULT_SPEC);
    for (seed, name) in (1..).zip(specs) {
        // What cannot be read as a spec at all has no shape to agree about.
        let Ok(document) = kombify_kit::read(kit.text(name), kombify_kit::SPEC_MAX_BYTES) else { continue };
        let document = document.to_json();
        let varied = kombify_kit::variations(&document, seed, VARIATIONS);
        for spec in std::iter::once(document).chain(varied) {
            let spec = spec.to_string();
            let theirs = cue.takes(&spec)?;
            if theirs != kit.has_shape(&spec) {
                wrong += 1;
                let (says, other) = if theirs { ("takes", "refuses") } else { ("refuses", "takes") };
                say(&format!(
                    "{}/{name}: {CUE} {says} this, and {SCHEMA} {other} it: {spec}",
                    path.display()
                ))?;
            }
        }
    }
    Ok(wrong)
}

/// The kit; what is wrong with it goes to where errors go: what is printed may become a file.
fn load_well(path: &Path) -> Result<Kit, Fault> {
    Kit::load(files(path)?).map_err(|findings| {
        for finding in &findings {
            // Where that cannot be written, there is nobody to tell.
            let _ = writeln!(std::io::stderr(), "{}/{finding}", path.display());
        }
        "the kit is not well".into()
    })
}

fn render(path: &Path, spec: Option<&Path>) -> Result<(), Fault> {
    let kit = load_well(path)?;
    let (file, text) = match spec {
        Some(spec) => (spec.to_owned(), read(spec)?),
        None => (path.join(DEFAULT_SPEC), kit.text(DEFAULT_SPEC).to_owned()),
    };
    match kit.render(&text) {
        Ok(rendered) => {
            for problem in &rendered.warnings {
                writeln!(std::io::stderr(), "{}:{problem} (a warning)", file.display())?;
            }
            Ok(write!(std::io::stdout(), "{}", rendered.compose_yaml)?)
        }
        Err(verdict) => {
            for problem in &verdict.errors {
                writeln!(std::io::stderr(), "{}:{problem}", file.display())?;
            }
            Err("the spec is not well".into())
        }
    }
}

fn pack(path: &Path, to: &Path) -> Result<(), Fault> {
    let kit = load_well(path)?;
    if path.canonicalize()? == to.canonicalize().map_err(|cause| format!("{}: {cause}", to.display()))? {
        return Err("the archive would be a file of the kit: give another directory by --to".into());
    }
    let manifest = kit.manifest();
    let archive = to.join(format!("{}-{}.tar.gz", manifest.id, manifest.version));
    std::fs::write(&archive, kit.files().to_tar_gz())
        .map_err(|cause| format!("{}: {cause}", archive.display()))?;
    say(&format!("{} {}", archive.display(), kit.digest()))
}
