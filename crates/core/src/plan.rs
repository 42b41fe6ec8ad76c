//! Plans and what they allow.

use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;

use crate::{Error, Result};

/// A plan, from least to most.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Plan {
    /// For everybody.
    #[default]
    Free,
    /// For those who run much.
    Pro,
    /// For those who run everything.
    Enterprise,
}

impl Plan {
    /// Every plan, from least to most.
    pub const ALL: [Self; 3] = [Self::Free, Self::Pro, Self::Enterprise];

    /// The plan as it stands in answers.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Free => "free",
            Self::Pro => "pro",
            Self::Enterprise => "enterprise",
        }
    }

    /// The plan that a subscriber role stands for. Source: contract C2.
    pub fn of_role(role: &str) -> Option<Self> {
        match role {
            "subscriber_pro" => Some(Self::Pro),
            "subscriber_enterprise" => Some(Self::Enterprise),
            _ => None,
        }
    }

    /// What the plan allows a tenant. Source: the table "Limits" of the contracts.
    pub const fn limits(self) -> Limits {
        match self {
            Self::Free => {
                Limits { members: Some(5), nodes: 3, stacks: 2, running_simulations: 1, storage_gb: 10 }
            }
            Self::Pro => {
                Limits { members: Some(10), nodes: 10, stacks: 5, running_simulations: 3, storage_gb: 100 }
            }
            Self::Enterprise => {
                Limits { members: None, nodes: 50, stacks: 20, running_simulations: 10, storage_gb: 1000 }
            }
        }
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Plan {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        Self::ALL
            .into_iter()
            .find(|plan| plan.as_str() == text)
            .ok_or_else(|| Error::invalid("plan", "must be free, pro or enterprise"))
    }
}

/// What a plan allows a tenant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Members; `None` stands for unlimited.
    pub members: Option<u32>,
    /// Nodes.
    pub nodes: u32,
    /// Stacks.
    pub stacks: u32,
    /// Simulations that run at the same time.
    pub running_simulations: u32,
    /// Storage, in gigabytes (10^9 bytes).
    pub storage_gb: u32,
}

/// A plan that an organisation was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlanGrant {
    /// The plan.
    pub plan: Plan,
    /// When it ends and the free plan follows.
    pub end_time: Timestamp,
}

/// The end of a grant that has none: 9999-12-30, which every store can keep.
const NEVER: Timestamp = Timestamp::constant(253_402_128_000, 0);

impl PlanGrant {
    /// A grant without an end.
    pub const fn lasting(plan: Plan) -> Self {
        Self { plan, end_time: NEVER }
    }

    /// Whether the grant still holds at `now`.
    pub fn holds_at(&self, now: Timestamp) -> bool {
        now < self.end_time
    }

    /// The plan that decides at `now`: the grant's until it ends, else the free one.
    pub fn plan_at(grant: Option<&Self>, now: Timestamp) -> Plan {
        grant.filter(|grant| grant.holds_at(now)).map_or(Plan::Free, |grant| grant.plan)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_grant_counts_up_to_its_end_and_not_at_it() {
        let end_time: Timestamp = "2026-01-02T00:00:00Z".parse().unwrap();
        let grant = PlanGrant { plan: Plan::Pro, end_time };
        let before = "2026-01-01T23:59:59.999Z".parse().unwrap();
        assert_eq!(PlanGrant::plan_at(Some(&grant), before), Plan::Pro);
        assert_eq!(PlanGrant::plan_at(Some(&grant), end_time), Plan::Free);
        assert_eq!(PlanGrant::plan_at(None, before), Plan::Free);
    }
}
