//! What Admin pushes, between its messages and its words: Admin writes them, and every module that is pushed to reads them.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use kombify_contracts::kombify::flags::v1::{ApplyFlagsRequest, OwnerEntitlements, SubOverrides};
use kombify_contracts::kombify::identity::v1::{
    ApplyRevocationsRequest, ApplyRevocationsResponse, Revocation as RevocationMessage,
};
use kombify_contracts::kombify::tenancy::v1::{
    ApplyOrganisationsRequest, ApplyOrganisationsResponse, ApplyTenantsRequest, ApplyTenantsResponse,
    Founder as FounderMessage, PlacedHome as PlacedHomeMessage,
    PlacedOrganisation as PlacedOrganisationMessage, PlacedTenant as PlacedTenantMessage, RefusedTenant,
};
use kombify_core::placed::{
    Basis, Founder, Held, OrganisationPush, PlacedFlags, PlacedHome, PlacedOrganisation, PlacedTenant, Push,
    RevocationPush, TenantPush,
};
use kombify_core::revocation::{Revocation, UserRevocation};
use kombify_core::{Error, Plan, PlanGrant, Result};

/// A moment, as messages have it.
pub fn moment(time: Timestamp) -> prost_types::Timestamp {
    prost_types::Timestamp { seconds: time.as_second(), nanos: time.subsec_nanosecond() }
}

/// The moment that a request names in `field`.
///
/// # Errors
/// - [`Error::Invalid`] if it is not there, or no time.
pub fn read_moment(field: &str, time: Option<prost_types::Timestamp>) -> Result<Timestamp> {
    let time = time.ok_or_else(|| Error::invalid(field, "must be set"))?;
    Timestamp::new(time.seconds, time.nanos).map_err(|_| Error::invalid(field, "is no time"))
}

fn number(number: u32) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}

fn count(number: i32) -> u32 {
    u32::try_from(number).unwrap_or_default()
}

/// `base_version`, `page` and `last_page` of a push.
fn basis(basis: Basis) -> (i32, i32, bool) {
    match basis {
        Basis::Change { base_version } => (number(base_version), 0, false),
        Basis::Snapshot { page, last } => (0, number(page), last),
    }
}

fn read_basis(base_version: i32, page: i32, last: bool) -> Basis {
    match page {
        0 => Basis::Change { base_version: count(base_version) },
        page => Basis::Snapshot { page: count(page), last },
    }
}

/// `plan` and `plan_end_time` of a grant.
fn plan(grant: Option<PlanGrant>) -> (String, Option<prost_types::Timestamp>) {
    let plan = grant.map_or(Plan::Free, |grant| grant.plan);
    (plan.to_string(), grant.map(|grant| moment(grant.end_time)))
}

fn read_plan(plan: &str, end_time: Option<prost_types::Timestamp>) -> Result<Option<PlanGrant>> {
    let end_time = end_time.map(|time| read_moment("planEndTime", Some(time))).transpose()?;
    Ok(match (plan.parse()?, end_time) {
        (plan, Some(end_time)) => Some(PlanGrant { plan, end_time }),
        (Plan::Free, None) => None,
        (plan, None) => Some(PlanGrant::lasting(plan)),
    })
}

/// A push of tenants, as it is sent.
pub fn tenants(push: TenantPush) -> ApplyTenantsRequest {
    let Push { version, basis: on, items } = push;
    let (base_version, page, last_page) = basis(on);
    let tenants = items.into_iter().map(tenant).collect();
    ApplyTenantsRequest { version: number(version), base_version, page, last_page, tenants }
}

fn tenant(tenant: PlacedTenant) -> PlacedTenantMessage {
    let PlacedTenant { id, slug, name, owner, grant, status, generation, founder, create_time } = tenant;
    let (plan, plan_end_time) = plan(grant);
    PlacedTenantMessage {
        tenant_id: id.to_string(),
        slug: slug.to_string(),
        name,
        org_id: owner.to_string(),
        plan,
        plan_end_time,
        status: status.as_str().to_owned(),
        generation: number(generation),
        founder: Some(FounderMessage {
            sub: founder.sub.to_string(),
            email: founder.email,
            name: founder.name,
        }),
        create_time: Some(moment(create_time)),
    }
}

/// A push of tenants, as it is received.
///
/// # Errors
/// - [`Error::Invalid`] if a word is none.
pub fn read_tenants(request: ApplyTenantsRequest) -> Result<TenantPush> {
    let ApplyTenantsRequest { version, base_version, page, last_page, tenants } = request;
    let items = tenants.into_iter().map(read_tenant).collect::<Result<_>>()?;
    Ok(Push { version: count(version), basis: read_basis(base_version, page, last_page), items })
}

fn read_tenant(tenant: PlacedTenantMessage) -> Result<PlacedTenant> {
    let PlacedTenantMessage {
        tenant_id,
        slug,
        name,
        org_id,
        plan,
        plan_end_time,
        status,
        generation,
        founder,
        create_time,
    } = tenant;
    let founder = founder.unwrap_or_default();
    Ok(PlacedTenant {
        id: tenant_id.parse()?,
        slug: slug.parse()?,
        name,
        owner: org_id.parse()?,
        grant: read_plan(&plan, plan_end_time)?,
        status: status.parse()?,
        generation: count(generation),
        founder: Founder { sub: founder.sub.parse()?, email: founder.email, name: founder.name },
        create_time: read_moment("createTime", create_time)?,
    })
}

/// What the receiver of tenants holds, as it is answered.
pub fn held_tenants(held: Held) -> ApplyTenantsResponse {
    let Held { version, snapshot_needed, refused } = held;
    let refused = refused
        .into_iter()
        .map(|(tenant, reason)| RefusedTenant { tenant_id: tenant.to_string(), reason })
        .collect();
    ApplyTenantsResponse { held_version: number(version), snapshot_needed, refused }
}

/// What the receiver of tenants says that it holds.
///
/// # Errors
/// - [`Error::Invalid`] if an id is none.
pub fn read_held_tenants(answer: ApplyTenantsResponse) -> Result<Held> {
    let ApplyTenantsResponse { held_version, snapshot_needed, refused } = answer;
    let refused = refused
        .into_iter()
        .map(|refused| Ok((refused.tenant_id.parse()?, refused.reason)))
        .collect::<Result<_>>()?;
    Ok(Held { version: count(held_version), snapshot_needed, refused })
}

/// A push of organisations, as it is sent.
pub fn organisations(push: OrganisationPush) -> ApplyOrganisationsRequest {
    let Push { version, basis: on, items } = push;
    let (base_version, page, last_page) = basis(on);
    let organisations = items.into_iter().map(organisation).collect();
    ApplyOrganisationsRequest { version: number(version), base_version, page, last_page, organisations }
}

fn organisation(organisation: PlacedOrganisation) -> PlacedOrganisationMessage {
    let PlacedOrganisation { owner, grant, tenants } = organisation;
    let (plan, plan_end_time) = plan(grant);
    let tenants = tenants
        .into_iter()
        .map(|PlacedHome { tenant, instance, status }| PlacedHomeMessage {
            tenant_id: tenant.to_string(),
            instance_id: instance.to_string(),
            status: status.as_str().to_owned(),
        })
        .collect();
    PlacedOrganisationMessage { org_id: owner.to_string(), plan, plan_end_time, tenants }
}

/// A push of organisations, as it is received.
///
/// # Errors
/// - [`Error::Invalid`] if a word is none.
pub fn read_organisations(request: ApplyOrganisationsRequest) -> Result<OrganisationPush> {
    let ApplyOrganisationsRequest { version, base_version, page, last_page, organisations } = request;
    let items = organisations.into_iter().map(read_organisation).collect::<Result<_>>()?;
    Ok(Push { version: count(version), basis: read_basis(base_version, page, last_page), items })
}

fn read_organisation(organisation: PlacedOrganisationMessage) -> Result<PlacedOrganisation> {
    let PlacedOrganisationMessage { org_id, plan, plan_end_time, tenants } = organisation;
    let tenants = tenants
        .into_iter()
        .map(|PlacedHomeMessage { tenant_id, instance_id, status }| {
            Ok(PlacedHome {
                tenant: tenant_id.parse()?,
                instance: instance_id.parse()?,
                status: status.parse()?,
            })
        })
        .collect::<Result<_>>()?;
    Ok(PlacedOrganisation { owner: org_id.parse()?, grant: read_plan(&plan, plan_end_time)?, tenants })
}

/// What the receiver of organisations holds, as it is answered.
pub fn held_organisations(held: &Held) -> ApplyOrganisationsResponse {
    ApplyOrganisationsResponse { held_version: number(held.version), snapshot_needed: held.snapshot_needed }
}

/// What the receiver of organisations says that it holds.
pub fn read_held_organisations(answer: ApplyOrganisationsResponse) -> Held {
    let ApplyOrganisationsResponse { held_version, snapshot_needed } = answer;
    Held { version: count(held_version), snapshot_needed, refused: Vec::new() }
}

/// A push of revocations, as it is sent.
pub fn revocations(push: RevocationPush) -> ApplyRevocationsRequest {
    let Push { version, basis: on, items } = push;
    let (base_version, page, last_page) = basis(on);
    let revocations = items
        .into_iter()
        .map(|UserRevocation { sub, revocation: Revocation { time, locked } }| RevocationMessage {
            sub: sub.to_string(),
            revoke_time: Some(moment(time)),
            locked,
        })
        .collect();
    ApplyRevocationsRequest { version: number(version), base_version, page, last_page, revocations }
}

/// A push of revocations, as it is received.
///
/// # Errors
/// - [`Error::Invalid`] if a word is none.
pub fn read_revocations(request: ApplyRevocationsRequest) -> Result<RevocationPush> {
    let ApplyRevocationsRequest { version, base_version, page, last_page, revocations } = request;
    let items = revocations
        .into_iter()
        .map(|RevocationMessage { sub, revoke_time, locked }| {
            let time = read_moment("revokeTime", revoke_time)?;
            Ok(UserRevocation { sub: sub.parse()?, revocation: Revocation { time, locked } })
        })
        .collect::<Result<_>>()?;
    Ok(Push { version: count(version), basis: read_basis(base_version, page, last_page), items })
}

/// What the receiver of revocations holds, as it is answered.
pub fn held_revocations(held: &Held) -> ApplyRevocationsResponse {
    ApplyRevocationsResponse { held_version: number(held.version), snapshot_needed: held.snapshot_needed }
}

/// What the receiver of revocations says that it holds.
pub fn read_held_revocations(answer: ApplyRevocationsResponse) -> Held {
    let ApplyRevocationsResponse { held_version, snapshot_needed } = answer;
    Held { version: count(held_version), snapshot_needed, refused: Vec::new() }
}

/// A set of flags, as it is sent.
pub fn flags(flags: PlacedFlags) -> ApplyFlagsRequest {
    let PlacedFlags { version, definitions, plans, organisations, overrides } = flags;
    let entitled = |(owner, entitlements): (String, BTreeSet<String>)| OwnerEntitlements {
        owner,
        entitlements: entitlements.into_iter().collect(),
    };
    ApplyFlagsRequest {
        version: number(version),
        definitions_json: definitions,
        plans: plans.into_iter().map(|(plan, set)| entitled((plan.to_string(), set))).collect(),
        organisations: organisations.into_iter().map(|(org, set)| entitled((org.to_string(), set))).collect(),
        overrides: overrides
            .into_iter()
            .map(|(sub, flags_json)| SubOverrides { sub: sub.to_string(), flags_json })
            .collect(),
    }
}

/// A set of flags, as it is received.
///
/// # Errors
/// - [`Error::Invalid`] if a word is none.
pub fn read_flags(request: ApplyFlagsRequest) -> Result<PlacedFlags> {
    let ApplyFlagsRequest { version, definitions_json, plans, organisations, overrides } = request;
    let set = |entitlements: Vec<String>| entitlements.into_iter().collect::<BTreeSet<_>>();
    Ok(PlacedFlags {
        version: count(version),
        definitions: definitions_json,
        plans: plans
            .into_iter()
            .map(|entitled| Ok((entitled.owner.parse()?, set(entitled.entitlements))))
            .collect::<Result<BTreeMap<_, _>>>()?,
        organisations: organisations
            .into_iter()
            .map(|entitled| Ok((entitled.owner.parse()?, set(entitled.entitlements))))
            .collect::<Result<BTreeMap<_, _>>>()?,
        overrides: overrides
            .into_iter()
            .map(|overrides| Ok((overrides.sub.parse()?, overrides.flags_json)))
            .collect::<Result<BTreeMap<_, _>>>()?,
    })
}

#[cfg(test)]
mod tests {
    use kombify_core::placed::PlacedStatus;

    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn tenants_are_read_as_they_are_written() {
        let tenant = PlacedTenant {
            id: "tenant_01890a5d-ac96-774b-bcce-b302099a8057".parse().unwrap(),
            slug: "home".parse().unwrap(),
            name: "Home".into(),
            owner: "acme".parse().unwrap(),
            grant: Some(PlanGrant { plan: Plan::Pro, end_time: at("2027-01-01T00:00:00.5Z") }),
            status: PlacedStatus::Suspended,
            generation: 3,
            founder: Founder {
                sub: "ada".parse().unwrap(),
                email: "ada@example.com".into(),
                name: "Ada".into(),
            },
            create_time: at("2026-01-01T00:00:00.123456Z"),
        };
        let free = PlacedTenant { grant: None, status: PlacedStatus::Erased, ..tenant.clone() };
        for basis in [Basis::Change { base_version: 7 }, Basis::Snapshot { page: 2, last: true }] {
            let push = Push { version: 9, basis, items: vec![tenant.clone(), free.clone()] };
            assert_eq!(read_tenants(tenants(push.clone())).unwrap(), push);
        }
        let held = Held { version: 4, snapshot_needed: true, refused: vec![(tenant.id, "full".into())] };
        assert_eq!(read_held_tenants(held_tenants(held.clone())).unwrap(), held);
    }

    #[test]
    fn organisations_are_read_as_they_are_written() {
        let home = PlacedHome {
            tenant: "tenant_01890a5d-ac96-774b-bcce-b302099a8057".parse().unwrap(),
            instance: "instance_01890a5d-ac96-774b-bcce-b302099a8057".parse().unwrap(),
            status: PlacedStatus::Deleted,
        };
        let acme = PlacedOrganisation {
            owner: "acme".parse().unwrap(),
            grant: Some(PlanGrant { plan: Plan::Free, end_time: at("2027-01-01T00:00:00.5Z") }),
            tenants: vec![home],
        };
        let nothing =
            PlacedOrganisation { owner: "user:ada".parse().unwrap(), grant: None, tenants: Vec::new() };
        let grant = Some(PlanGrant::lasting(Plan::Enterprise));
        let items = vec![PlacedOrganisation { grant, ..nothing.clone() }, acme, nothing];
        for basis in [Basis::Change { base_version: 7 }, Basis::Snapshot { page: 2, last: false }] {
            let push = Push { version: 9, basis, items: items.clone() };
            assert_eq!(read_organisations(organisations(push.clone())).unwrap(), push);
        }
        let held = Held { version: 4, snapshot_needed: true, refused: Vec::new() };
        assert_eq!(read_held_organisations(held_organisations(&held)), held);
    }

    #[test]
    fn revocations_and_flags_are_read_as_they_are_written() {
        let revocation = UserRevocation {
            sub: "ada".parse().unwrap(),
            revocation: Revocation { time: at("2026-01-01T00:00:00.25Z"), locked: true },
        };
        let push = Push { version: 2, basis: Basis::Change { base_version: 1 }, items: vec![revocation] };
        assert_eq!(read_revocations(revocations(push.clone())).unwrap(), push);
        let set: BTreeSet<String> = ["custom-domains".to_owned()].into();
        let placed = PlacedFlags {
            version: 5,
            definitions: "{}".into(),
            plans: [(Plan::Pro, set.clone())].into(),
            organisations: [("acme".parse().unwrap(), set)].into(),
            overrides: [("ada".parse().unwrap(), "{\"a\":true}".to_owned())].into(),
        };
        assert_eq!(read_flags(flags(placed.clone())).unwrap(), placed);
    }
}
