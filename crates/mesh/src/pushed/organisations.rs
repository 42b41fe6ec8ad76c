//! What owns tenants: its plan, and where its tenants are.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use kombify_contracts::kombify::tenancy::v1::organisation_sync_service_server::OrganisationSyncService;
use kombify_contracts::kombify::tenancy::v1::{ApplyOrganisationsRequest, ApplyOrganisationsResponse};
use kombify_core::placed::{Held, OrganisationPush, PlacedHome, PlacedOrganisation, Push};
use kombify_core::{OrgId, Plan, PlanGrant, Result, TenantId};
use tonic::{Request, Response, Status};

use super::Pushed;
use crate::access::open;
use crate::handoff;
use crate::status::OrStatus as _;

/// The organisations that a module holds.
#[derive(Debug)]
pub struct Organisations {
    held: Mutex<State>,
}

#[derive(Debug)]
struct State {
    organisations: Pushed<OrgId, PlacedOrganisation>,
    /// The same by tenant.
    homes: HashMap<TenantId, (OrgId, PlacedHome)>,
}

impl Default for Organisations {
    fn default() -> Self {
        let state = State { organisations: Pushed::new("organisations"), homes: HashMap::new() };
        Self { held: Mutex::new(state) }
    }
}

impl Organisations {
    fn state(&self) -> MutexGuard<'_, State> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a first snapshot has come.
    pub fn are_there(&self) -> bool {
        self.state().organisations.are_there()
    }

    /// The plan that decides for the organisation at `now`; `None`: it is not known, since it was given no plan and has no
    /// tenant.
    ///
    /// # Errors
    /// - [`kombify_core::Error::Unavailable`] before the first snapshot.
    pub fn plan(&self, owner: &OrgId, now: Timestamp) -> Result<Option<Plan>> {
        let state = self.state();
        let found = state.organisations.find(owner)?;
        Ok(found.map(|organisation| PlanGrant::plan_at(organisation.grant.as_ref(), now)))
    }

    /// What owns the tenant, and where it has its place; `None`: there is no such tenant.
    ///
    /// # Errors
    /// - [`kombify_core::Error::Unavailable`] before the first snapshot.
    pub fn home(&self, tenant: TenantId) -> Result<Option<(OrgId, PlacedHome)>> {
        let state = self.state();
        state.organisations.items()?;
        Ok(state.homes.get(&tenant).cloned())
    }

    /// Applies a push, once and in order; what has neither a grant nor a tenant any more goes.
    pub fn apply(&self, push: OrganisationPush) -> Held {
        let Push { version, basis, items } = push;
        let named: Vec<OrgId> = items.iter().map(|organisation| organisation.owner.clone()).collect();
        let items =
            items.into_iter().map(|organisation| (organisation.owner.clone(), organisation)).collect();
        let mut state = self.state();
        let State { organisations, homes } = &mut *state;
        let (held, gone) =
            organisations.apply(Push { version, basis, items }, |organisation| !organisation.is_empty());
        for home in gone.iter().flat_map(|organisation| &organisation.tenants) {
            homes.remove(&home.tenant);
        }
        for organisation in named.iter().filter_map(|owner| organisations.items.get(owner)) {
            let owner = &organisation.owner;
            homes.extend(organisation.tenants.iter().map(|home| (home.tenant, (owner.clone(), *home))));
        }
        held
    }
}

#[tonic::async_trait]
impl OrganisationSyncService for Organisations {
    async fn apply_organisations(
        &self,
        request: Request<ApplyOrganisationsRequest>,
    ) -> Result<Response<ApplyOrganisationsResponse>, Status> {
        let opened = open(request).or_status()?;
        let push = handoff::read_organisations(opened.message).or_status()?;
        Ok(Response::new(handoff::held_organisations(&self.apply(push))))
    }
}

#[cfg(test)]
mod tests {
    use kombify_core::placed::{Basis, PlacedStatus};

    use super::*;

    const NOW: Timestamp = Timestamp::UNIX_EPOCH;
    const WHOLE: Basis = Basis::Snapshot { page: 1, last: true };

    fn tenant(number: u8) -> TenantId {
        format!("tenant_00000000-0000-7000-8000-0000000000{number:02}").parse().unwrap()
    }

    fn home(number: u8, status: PlacedStatus) -> PlacedHome {
        let instance = "instance_00000000-0000-7000-8000-000000000001".parse().unwrap();
        PlacedHome { tenant: tenant(number), instance, status }
    }

    fn organisation(owner: &str, grant: Option<PlanGrant>, tenants: &[PlacedHome]) -> PlacedOrganisation {
        PlacedOrganisation { owner: owner.parse().unwrap(), grant, tenants: tenants.to_vec() }
    }

    fn apply(
        organisations: &Organisations,
        version: u32,
        basis: Basis,
        items: &[PlacedOrganisation],
    ) -> (u32, bool) {
        let held = organisations.apply(Push { version, basis, items: items.to_vec() });
        (held.version, held.snapshot_needed)
    }

    fn plan(organisations: &Organisations, owner: &str, now: Timestamp) -> Option<Plan> {
        organisations.plan(&owner.parse().unwrap(), now).unwrap()
    }

    #[test]
    fn a_plan_holds_until_its_end_and_is_not_known_of_a_stranger() {
        let organisations = Organisations::default();
        let end_time = Timestamp::from_second(60).unwrap();
        let items = [
            organisation("acme", Some(PlanGrant { plan: Plan::Pro, end_time }), &[]),
            organisation("user:ada", None, &[home(1, PlacedStatus::Active)]),
            organisation("nothing", None, &[]),
        ];
        assert!(organisations.plan(&"acme".parse().unwrap(), NOW).is_err() && !organisations.are_there());
        assert_eq!(apply(&organisations, 3, WHOLE, &items), (3, false));
        assert!(organisations.are_there());
        for (owner, now, expected) in [
            ("acme", NOW, Some(Plan::Pro)),
            ("acme", end_time, Some(Plan::Free)),
            ("user:ada", NOW, Some(Plan::Free)),
            ("nothing", NOW, None),
            ("umbrella", NOW, None),
        ] {
            assert_eq!(plan(&organisations, owner, now), expected, "{owner}");
        }
        let change = Basis::Change { base_version: 3 };
        assert_eq!(apply(&organisations, 4, change, &[organisation("acme", None, &[])]), (4, false));
        assert_eq!(plan(&organisations, "acme", NOW), None);
    }

    #[test]
    fn a_tenant_is_found_where_it_is_now_as_long_as_it_is_there() {
        let organisations = Organisations::default();
        let found = |number| {
            let found = organisations.home(tenant(number)).unwrap();
            found.map(|(owner, home)| (owner.to_string(), home))
        };
        assert!(organisations.home(tenant(1)).is_err());
        let acme = |homes: &[PlacedHome]| organisation("acme", None, homes);
        let (active, suspended) = (home(1, PlacedStatus::Active), home(1, PlacedStatus::Suspended));
        let other = home(2, PlacedStatus::Active);
        let umbrella = organisation("umbrella", None, &[other]);
        apply(&organisations, 1, WHOLE, &[acme(&[active]), umbrella]);
        assert_eq!(found(1), Some(("acme".to_owned(), active)));
        assert_eq!(found(2), Some(("umbrella".to_owned(), other)));
        assert_eq!(found(3), None);
        let change = |base_version| Basis::Change { base_version };
        apply(&organisations, 2, change(1), &[acme(&[suspended])]);
        assert_eq!(found(1).unwrap().1, suspended);
        // What is not applied changes nothing.
        assert_eq!(apply(&organisations, 9, change(8), &[acme(&[])]), (2, true));
        assert_eq!(found(1).unwrap().1, suspended);
        apply(&organisations, 3, change(2), &[acme(&[home(3, PlacedStatus::Active)])]);
        assert_eq!((found(1), found(3).unwrap().0.as_str()), (None, "acme"));
        apply(&organisations, 4, change(3), &[acme(&[])]);
        assert_eq!(found(3), None);
        apply(&organisations, 5, WHOLE, &[acme(&[active])]);
        assert_eq!((found(1).is_some(), found(2)), (true, None), "what is in no page is gone");
    }
}
