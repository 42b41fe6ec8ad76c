//! What is wrong with a spec or a kit: where, by which code, and what to do.

use std::fmt;

/// The code of a problem. Source: the contracts, "C7 kits".
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Code {
    /// Something that has to be there is not.
    Required,
    /// A value is of another type.
    InvalidType,
    /// A text does not have its form.
    InvalidFormat,
    /// An address range is none.
    InvalidCidr,
    /// Nobody knows a field of that name.
    UnknownField,
    /// The kit has no service of that name.
    UnknownService,
    /// An address range or a port belongs to something else.
    ReservedRange,
    /// Two ports of one node are the same.
    DuplicatePort,
    /// Services wait for each other.
    DependencyCycle,
    /// The nodes do not have as much.
    ResourceExceeded,
    /// A bound, a choice or a rule between fields does not hold.
    ConstraintViolation,
}

impl Code {
    /// Every code, in the order of the contract.
    pub const ALL: [Self; 11] = [
        Self::Required,
        Self::InvalidType,
        Self::InvalidFormat,
        Self::InvalidCidr,
        Self::UnknownField,
        Self::UnknownService,
        Self::ReservedRange,
        Self::DuplicatePort,
        Self::DependencyCycle,
        Self::ResourceExceeded,
        Self::ConstraintViolation,
    ];

    /// The code as it stands in answers.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Required => "REQUIRED",
            Self::InvalidType => "INVALID_TYPE",
            Self::InvalidFormat => "INVALID_FORMAT",
            Self::InvalidCidr => "INVALID_CIDR",
            Self::UnknownField => "UNKNOWN_FIELD",
            Self::UnknownService => "UNKNOWN_SERVICE",
            Self::ReservedRange => "RESERVED_RANGE",
            Self::DuplicatePort => "DUPLICATE_PORT",
            Self::DependencyCycle => "DEPENDENCY_CYCLE",
            Self::ResourceExceeded => "RESOURCE_EXCEEDED",
            Self::ConstraintViolation => "CONSTRAINT_VIOLATION",
        }
    }

    /// The code that is written `text`.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|code| code.as_str() == text)
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A place in a text: both count from 1, columns in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Position {
    /// The line.
    pub line: u32,
    /// The column.
    pub column: u32,
}

impl Position {
    /// Where every text begins.
    pub const START: Self = Self { line: 1, column: 1 };
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.line, self.column)
    }
}

/// One thing that is wrong. No text of it repeats a value that might be a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Where in the text.
    pub at: Position,
    /// Which field, for example "nodes\[0\].ip"; empty: the whole.
    pub path: String,
    /// Of which kind it is.
    pub code: Code,
    /// What is wrong, for people.
    pub message: String,
    /// The way out; may be empty.
    pub hint: String,
}

impl Problem {
    /// A problem without a hint.
    pub fn new(code: Code, at: Position, path: impl Into<String>, message: impl Into<String>) -> Self {
        Self { at, path: path.into(), code, message: message.into(), hint: String::new() }
    }

    /// With the way out.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = hint.into();
        self
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.at, self.code)?;
        if !self.path.is_empty() {
            write!(f, " {}", self.path)?;
        }
        write!(f, ": {}", self.message)?;
        if self.hint.is_empty() { Ok(()) } else { write!(f, " ({})", self.hint) }
    }
}

/// How many problems of one kind, errors or warnings, are told at most.
pub const PROBLEMS_MAX: usize = 100;

/// What a check has found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// What makes a spec wrong, in the order of the text.
    pub errors: Vec<Problem>,
    /// What a user should know.
    pub warnings: Vec<Problem>,
}

impl Verdict {
    /// Whether nothing is wrong.
    pub fn is_valid(&self) -> bool {
        self.errors.is_empty()
    }

    /// In the order of the text, each thing once, and no more than [`PROBLEMS_MAX`]; `strict` makes warnings errors.
    #[must_use]
    pub(crate) fn settled(mut self, strict: bool) -> Self {
        if strict {
            self.errors.append(&mut self.warnings);
        }
        for problems in [&mut self.errors, &mut self.warnings] {
            let key =
                |problem: &Problem| (problem.at, problem.path.clone(), problem.code, problem.message.clone());
            problems.sort_by_cached_key(key);
            problems.dedup_by(|one, other| key(one) == key(other));
            problems.truncate(PROBLEMS_MAX);
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_is_read_as_it_is_written() {
        for code in Code::ALL {
            assert_eq!(Code::parse(code.as_str()), Some(code));
        }
        assert_eq!(Code::parse("required"), None);
    }

    #[test]
    fn a_problem_reads_like_a_compilers() {
        let at = Position { line: 7, column: 11 };
        let problem = Problem::new(Code::InvalidCidr, at, "network.subnet", "the prefix is 33");
        assert_eq!(problem.to_string(), "7:11: INVALID_CIDR network.subnet: the prefix is 33");
        let problem = problem.hint("0 to 32");
        assert_eq!(problem.to_string(), "7:11: INVALID_CIDR network.subnet: the prefix is 33 (0 to 32)");
    }

    #[test]
    fn a_verdict_is_sorted_bounded_and_says_nothing_twice() {
        let at = |line| Position { line, column: 1 };
        let errors =
            (0..300).map(|line| Problem::new(Code::Required, at(600 - line / 2), "a", "x")).collect();
        let warnings = vec![Problem::new(Code::ReservedRange, at(1), "b", "y")];
        let verdict = Verdict { errors, warnings };
        let settled = verdict.clone().settled(false);
        assert_eq!((settled.errors.len(), settled.warnings.len()), (PROBLEMS_MAX, 1));
        assert!(settled.errors.is_sorted_by(|one, other| one.at < other.at));
        let strict = verdict.settled(true);
        assert_eq!((strict.errors[0].code, strict.warnings.len()), (Code::ReservedRange, 0));
    }
}
