//! How much work a check may do: counted, so that the same input always costs the same, whatever the machine.

/// The work that is left.
#[derive(Debug)]
pub(crate) struct Budget(u32);

/// There is no work left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Exhausted;

/// How many steps one check may take. The specs of the kits that we ship take less than a thousandth of it.
pub const STEPS_MAX: u32 = 2_000_000;

impl Budget {
    /// A whole budget.
    pub(crate) const fn new() -> Self {
        Self(STEPS_MAX)
    }

    /// Takes `steps`.
    pub(crate) fn spend(&mut self, steps: usize) -> Result<(), Exhausted> {
        let steps = u32::try_from(steps).unwrap_or(u32::MAX);
        // What was too much once stays too much.
        let left = self.0.checked_sub(steps);
        self.0 = left.unwrap_or_default();
        left.map(drop).ok_or(Exhausted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_ends() {
        let mut budget = Budget::new();
        assert_eq!(budget.spend(STEPS_MAX as usize - 1), Ok(()));
        assert_eq!(budget.spend(1), Ok(()));
        assert_eq!(budget.spend(1), Err(Exhausted));
        let mut budget = Budget::new();
        assert_eq!(budget.spend(STEPS_MAX as usize + 1), Err(Exhausted));
        assert_eq!(budget.spend(1), Err(Exhausted), "what was too much stays too much");
        assert_eq!(budget.spend(usize::MAX), Err(Exhausted));
    }
}
