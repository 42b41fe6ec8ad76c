//! The tests of a kit: specs whose first line says what is expected of them.

use std::collections::BTreeSet;

use crate::kit::{Kit, TESTS};
use crate::problem::Code;

/// A test that was run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Case {
    /// The file.
    pub file: String,
    /// What is wrong with the outcome; `None`: nothing.
    pub failure: Option<String>,
}

impl Kit {
    /// Runs every test of the kit.
    pub fn test(&self) -> Vec<Case> {
        let files = self.files().iter().map(|(path, _)| path).filter(|path| path.starts_with(TESTS));
        files.map(|file| Case { file: file.to_owned(), failure: self.run(self.text(file)).err() }).collect()
    }

    fn run(&self, spec: &str) -> Result<(), String> {
        let Expected { strict, codes } = Expected::read(spec)?;
        let verdict = self.validate(spec, strict);
        let found: BTreeSet<Code> = verdict.errors.iter().map(|problem| problem.code).collect();
        if found == codes {
            if found.is_empty() {
                self.render(spec).map_err(|verdict| told(&verdict.errors))?;
            }
            return Ok(());
        }
        Err(format!(
            "expected {}, found {}",
            words(&codes),
            if found.is_empty() { "valid".into() } else { told(&verdict.errors) }
        ))
    }
}

fn told(problems: &[crate::Problem]) -> String {
    problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

fn words(codes: &BTreeSet<Code>) -> String {
    if codes.is_empty() {
        return "valid".to_owned();
    }
    codes.iter().map(|code| code.as_str()).collect::<Vec<_>>().join(", ")
}

/// What the first line expects.
#[derive(Debug, PartialEq, Eq)]
struct Expected {
    strict: bool,
    codes: BTreeSet<Code>,
}

impl Expected {
    fn read(spec: &str) -> Result<Self, String> {
        let line = spec.lines().next().unwrap_or_default();
        let form = "1:1: the first line must be `# expect: valid`, `# expect: <CODE>, ...` or `# expect (strict): ...`";
        let rest = line.strip_prefix("# expect").ok_or(form)?;
        let (strict, rest) = match rest.strip_prefix(" (strict)") {
            Some(rest) => (true, rest),
            None => (false, rest),
        };
        let words = rest.strip_prefix(':').ok_or(form)?.trim();
        if words == "valid" {
            return Ok(Self { strict, codes: BTreeSet::new() });
        }
        let code =
            |word: &str| Code::parse(word.trim()).ok_or_else(|| format!("1:1: `{}` is no code", word.trim()));
        Ok(Self { strict, codes: words.split(',').map(code).collect::<Result<_, _>>()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_line_says_what_is_expected() {
        let read = |line: &str| Expected::read(&format!("{line}\nname: x\n"));
        let codes = |codes: &[Code]| codes.iter().copied().collect::<BTreeSet<_>>();
        assert_eq!(read("# expect: valid"), Ok(Expected { strict: false, codes: codes(&[]) }));
        assert_eq!(
            read("# expect (strict): DUPLICATE_PORT, REQUIRED"),
            Ok(Expected { strict: true, codes: codes(&[Code::DuplicatePort, Code::Required]) })
        );
        assert!(read("name: x").unwrap_err().contains("the first line must be"));
        assert_eq!(read("# expect: NOTHING").unwrap_err(), "1:1: `NOTHING` is no code");
        assert_eq!(read("# expect:").unwrap_err(), "1:1: `` is no code");
    }
}
