//! The real `cue`: what it says of a kit's schema.cue.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use kombify_kit::{CUE, Kit};

use crate::Fault;

/// `cue vet` with the schema of a kit.
pub struct Cue {
    program: PathBuf,
    dir: tempfile::TempDir,
}

impl Cue {
    /// The program, and the schema of `kit` where it can read it.
    ///
    /// # Errors
    /// - if the program is not there.
    pub fn new(program: &Path, kit: &Kit) -> Result<Self, Fault> {
        let dir = tempfile::tempdir()?;
        std::fs::write(dir.path().join(CUE), kit.text(CUE))?;
        let cue = Self { program: program.to_owned(), dir };
        let version = Command::new(program).arg("version").stdin(Stdio::null()).output();
        if !version.is_ok_and(|output| output.status.success()) {
            let install = "go install cuelang.org/go/cmd/cue@v0.17.1";
            return Err(format!("{} does not run: install it with `{install}`", program.display()).into());
        }
        Ok(cue)
    }

    /// Whether it takes a spec, given as JSON.
    ///
    /// # Errors
    /// - if it cannot be run.
    pub fn takes(&self, spec: &str) -> Result<bool, Fault> {
        let file = self.dir.path().join("spec.json");
        std::fs::write(&file, spec)?;
        let output = Command::new(&self.program)
            .args(["vet", "-c", "-d", "#Spec", CUE, "spec.json"])
            .current_dir(self.dir.path())
            .stdin(Stdio::null())
            .output()?;
        Ok(output.status.success())
    }
}
