//! Who may see a kit, and who may have it. Source: the contracts, "C7 kits".

use kombify_core::{Caller, Error, OrgId, Plan, Result};

use crate::index::Release;

/// For whom a kit is looked for.
#[derive(Clone, Debug)]
pub struct Viewer {
    /// The plan that decides.
    pub plan: Plan,
    /// The organisation; `None`: nobody's, who sees no custom kits.
    pub owner: Option<OrgId>,
}

impl Viewer {
    /// The viewer that a caller is.
    pub(crate) fn of(caller: &Caller) -> Self {
        Self { plan: caller.plan(), owner: caller.user().map(|user| user.owner.clone()) }
    }

    /// Whether the kit is there for this viewer: a custom kit is, for its own organisation.
    pub(crate) fn sees(&self, organisation: Option<&OrgId>) -> bool {
        organisation.is_none() || organisation == self.owner.as_ref()
    }

    /// Whether the plan is enough.
    pub(crate) fn may_have(&self, release: &Release) -> bool {
        self.plan >= release.needed_plan()
    }

    /// Lets the viewer have it, or says which plan is needed.
    ///
    /// # Errors
    /// - [`Error::PlanInsufficient`] below the plan.
    pub(crate) fn admit(&self, release: &Release) -> Result<()> {
        if self.may_have(release) {
            return Ok(());
        }
        Err(Error::PlanInsufficient {
            what: format!("the kit {}", release.manifest.id),
            required: release.needed_plan(),
        })
    }
}
