//! Where something stands in a definition, and what is wrong there.

use std::collections::BTreeMap;
use std::fmt;

use kombify_core::{Error, Result};

/// How many faults are named at most.
const FAULTS_MAX: usize = 32;

/// How much of a name is shown in a path, in characters.
const NAME_MAX: usize = 128;

/// The way to a value, written as `flags.new-ui.targeting.if.0`. Only where something is wrong it becomes text.
#[derive(Clone, Copy)]
pub(crate) struct Path<'a> {
    above: Option<&'a Path<'a>>,
    step: Step<'a>,
}

#[derive(Clone, Copy)]
enum Step<'a> {
    Root,
    Name(&'a str),
    Index(usize),
}

impl Path<'_> {
    /// The whole.
    pub(crate) const ROOT: Path<'static> = Path { above: None, step: Step::Root };

    /// The value of that name in the object that is here.
    pub(crate) const fn name<'b>(&'b self, name: &'b str) -> Path<'b> {
        Path { above: Some(self), step: Step::Name(name) }
    }

    /// The element at that place of the array that is here.
    pub(crate) const fn index(&self, index: usize) -> Path<'_> {
        Path { above: Some(self), step: Step::Index(index) }
    }
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(above) = self.above.filter(|above| !matches!(above.step, Step::Root)) {
            write!(f, "{above}.")?;
        }
        match self.step {
            Step::Root => Ok(()),
            Step::Name(name) => write!(f, "{name:.NAME_MAX$}"),
            Step::Index(index) => write!(f, "{index}"),
        }
    }
}

/// What is wrong, by path: the first that is found at each, and not without end.
#[derive(Default)]
pub(crate) struct Faults(BTreeMap<String, String>);

impl Faults {
    pub(crate) fn add(&mut self, path: &Path<'_>, says: impl Into<String>) {
        if self.0.len() < FAULTS_MAX {
            self.0.entry(path.to_string()).or_insert_with(|| says.into());
        }
    }

    /// Nothing, if nothing is wrong.
    pub(crate) fn into_result(self) -> Result<()> {
        if self.0.is_empty() { Ok(()) } else { Err(Error::Invalid(self.0)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_written_with_dots() {
        let (flags, long) = (Path::ROOT.name("flags"), "x".repeat(500));
        let flag = flags.name("new-ui");
        assert_eq!(Path::ROOT.to_string(), "");
        assert_eq!(flag.index(3).name("if").to_string(), "flags.new-ui.3.if");
        assert_eq!(flag.name(&long).to_string().len(), "flags.new-ui.".len() + NAME_MAX);
    }

    #[test]
    fn faults_end_somewhere() {
        let mut faults = Faults::default();
        for index in 0..1000 {
            faults.add(&Path::ROOT.index(index), "is wrong");
        }
        let Err(Error::Invalid(fields)) = faults.into_result() else { panic!("nothing is wrong") };
        assert_eq!(fields.len(), FAULTS_MAX);
        assert!(Faults::default().into_result().is_ok());
    }
}
