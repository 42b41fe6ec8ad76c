//! A Stack that stands alone founds its one tenant and its first account by itself.

use kombify_core::host::{Account, AccountStore, HostStore};
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

/// The first account of a Stack, whose password nobody has seen for sure.
#[derive(Debug)]
pub struct Founded {
    /// What to sign in with.
    pub login: String,
    /// The password: the keep has its hash only.
    pub password: SecretString,
}

/// Founds the one tenant and its admin's account, where that was not done yet. What ends the process in between is taken
/// up by the next start. The limits of the mode are those of the enterprise plan. Source: contract C2.
///
/// `unshown` is the password that an earlier start gave to `note` and that was not shown for sure: a new account gets
/// it, and it is the answer again as long as it is that of the account. Without one, a new account gets a new password,
/// which `note` has before the account has.
///
/// # Errors
/// - what the keep or `note` says.
pub async fn found<E: From<Error>>(
    host: &Host,
    unshown: Option<SecretString>,
    note: impl FnOnce(&SecretString) -> Result<(), E>,
) -> Result<Option<Founded>, E> {
    let sub: Sub = "local-admin".parse()?;
    found_tenant(host, &sub).await?;
    let passwords = Passwords::new();
    let account = AccountStore::find_account(&*host.keep, LOGIN).await?;
    let password = match (account, unshown) {
        (None, unshown) => {
            let password = if let Some(password) = unshown {
                password
            } else {
                let password = make_password(host);
                note(&password)?;
                password
            };
            let password_hash = passwords.hash(&*host.ids, password.clone()).await?;
            let account = Account { sub, login: LOGIN.to_owned(), name: "Admin".to_owned(), password_hash };
            AccountStore::add_account(&*host.keep, &change(host, "account.created"), &account).await?;
            Some(password)
        }
        (Some(account), Some(password)) => {
            // Whoever has changed it has seen it.
            let is_present = passwords.verify(Some(&account.password_hash), password.clone()).await?;
            is_present.then_some(password)
        }
        (Some(_), None) => None,
    };
    Ok(password.map(|password| Founded { login: LOGIN.to_owned(), password }))
}

async fn found_tenant(host: &Host, sub: &Sub) -> Result<()> {
    let keep = &*host.keep;
    let now = host.clock.now();
    if HostStore::held_flags(keep).await?.is_none() {
        let none =
            PlacedFlags { version: 1, definitions: "{\"flags\":{}}".to_owned(), ..PlacedFlags::default() };
        HostStore::apply_flags(keep, &change(host, "flags.applied"), &none).await?;
    }
    if HostStore::held_tenants(keep).await?.is_none() {
        let tenant = PlacedTenant {
            id: host.ids.tenant(now),
            slug: SLUG.parse()?,
            name: "Home".to_owned(),
            owner: OrgId::alone(sub),
            grant: Some(PlanGrant::lasting(Plan::Enterprise)),
            status: PlacedStatus::Active,
            generation: 1,
            founder: Founder { sub: sub.clone(), email: String::new(), name: "Admin".to_owned() },
            create_time: now,
        };
        let push = Push { version: 1, basis: Basis::Snapshot { page: 1, last: true }, items: vec![tenant] };
        let held = HostStore::apply_tenants(keep, &change(host, "tenants.applied"), &push, 1).await?;
        if let Some((_, reason)) = held.refused.into_iter().next() {
            return Err(Error::internal(format!("the tenant could not be made: {reason}")));
        }
    }
    Ok(())
}

fn change(host: &Host, action: &'static str) -> Change {
    let now = host.clock.now();
    Change::system("stack", action, host.ids.request(now), now)
}

fn make_password(host: &Host) -> SecretString {
    let (random, _) = secret::make(&*host.ids);
    random.chars().take(PASSWORD_CHARS).collect::<String>().into()
}
