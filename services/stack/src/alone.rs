//! A Stack that stands alone founds its one tenant and its first account by itself.

use kombify_core::host::{Account, HostStore};
use kombify_core::placed::{Basis, Founder, PlacedFlags, PlacedStatus, PlacedTenant, Push};
use kombify_core::{Change, Error, OrgId, Plan, PlanGrant, Result, Sub};
use kombify_mesh::secret;
use secrecy::SecretString;

use crate::Host;
use crate::password::Passwords;

/// The login of the first account.
const LOGIN: &str = "admin";

/// The slug of the one tenant.
const SLUG: &str = "home";

/// How many characters of a made password are kept: 120 bits.
const PASSWORD_CHARS: usize = 20;

/// The first account of a Stack that was founded just now.
#[derive(Debug)]
pub struct Founded {
    /// What to sign in with.
    pub login: String,
    /// The password: kept as a hash, and never shown again.
    pub password: SecretString,
}

/// Founds the one tenant and its admin's account, where that was not done yet. What ends the process in between is taken
/// up by the next start. The limits of the mode are those of the enterprise plan. Source: contract C2.
///
/// # Errors
/// - what the keep says.
pub async fn found(host: &Host) -> Result<Option<Founded>> {
    let keep = &*host.keep;
    let now = host.clock.now();
    let change = |action| Change::system("stack", action, host.ids.request(now), now);
    if HostStore::held_flags(keep).await?.is_none() {
        let none =
            PlacedFlags { version: 1, definitions: "{\"flags\":{}}".to_owned(), ..PlacedFlags::default() };
        HostStore::apply_flags(keep, &change("flags.applied"), &none).await?;
    }
    let sub: Sub = "local-admin".parse()?;
    if HostStore::held_tenants(keep).await?.is_none() {
        let tenant = PlacedTenant {
            id: host.ids.tenant(now),
            slug: SLUG.parse()?,
            name: "Home".to_owned(),
            owner: OrgId::alone(&sub),
            grant: Some(PlanGrant::lasting(Plan::Enterprise)),
            status: PlacedStatus::Active,
            generation: 1,
            founder: Founder { sub: sub.clone(), email: String::new(), name: "Admin".to_owned() },
            create_time: now,
        };
        let push = Push { version: 1, basis: Basis::Snapshot { page: 1, last: true }, items: vec![tenant] };
        let held = HostStore::apply_tenants(keep, &change("tenants.applied"), &push, 1).await?;
        if let Some((_, reason)) = held.refused.into_iter().next() {
            return Err(Error::internal(format!("the tenant could not be made: {reason}")));
        }
    }
    if HostStore::find_account(keep, LOGIN).await?.is_some() {
        return Ok(None);
    }
    let (random, _) = secret::make(&*host.ids);
    let password: SecretString = random.chars().take(PASSWORD_CHARS).collect::<String>().into();
    let password_hash = Passwords::new().hash(&*host.ids, password.clone()).await?;
    let account = Account { sub, login: LOGIN.to_owned(), name: "Admin".to_owned(), password_hash };
    HostStore::add_account(keep, &change("account.created"), &account).await?;
    Ok(Some(Founded { login: LOGIN.to_owned(), password }))
}
