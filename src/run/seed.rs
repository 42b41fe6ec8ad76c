//! The users, organisations and the instance that a new mesh begins with.

use kombify_core::instance::{Endpoints, InstanceMode, InstanceStore, NewInstance};
use kombify_core::organisation::OrganisationStore;
use kombify_core::user::{ProviderProfile, Sighting, UserStore};
use kombify_core::{Change, Clock as _, Ids as _, OrgId, Plan, PlanGrant, Sub};
use kombify_idp::{Idp, SeedUser};
use kombify_platform_sqlite::PlatformSqlite;
use secrecy::ExposeSecret as _;

use super::base::{Base, Stores};
use super::modules::secret_file;
use super::stack::join_secret_name;
use crate::Fault;
use crate::data::{Data, Passwords, passwords, passwords_file};

/// The file that says that the data is seeded.
const MARK: &str = "seeded";

/// How long the seeded plans hold, in hours: ten years.
const GRANT_HOURS: i64 = 10 * 365 * 24;

/// The issuer's default organisation: self-registered users land here.
const DEFAULT_ORGANISATION: &str = "310000000000000001";

/// The platform's own organisation.
const PLATFORM_ORGANISATION: &str = "310000000000000002";

struct Person {
    login: &'static str,
    name: &'static str,
    org: &'static str,
    roles: &'static [(&'static str, &'static str)],
    plan: Plan,
}

const BOBS_ORGANISATION: &str = "310000000000000003";
const CAROLS_ORGANISATION: &str = "310000000000000004";

const PEOPLE: [Person; 4] = [
    Person {
        login: "root",
        name: "Root",
        org: PLATFORM_ORGANISATION,
        roles: &[("user", PLATFORM_ORGANISATION), ("kombisphere_admin", PLATFORM_ORGANISATION)],
        plan: Plan::Free,
    },
    Person {
        login: "alice",
        name: "Alice Example",
        org: DEFAULT_ORGANISATION,
        roles: &[("user", DEFAULT_ORGANISATION)],
        plan: Plan::Free,
    },
    Person {
        login: "bob",
        name: "Bob Example",
        org: BOBS_ORGANISATION,
        roles: &[("user", BOBS_ORGANISATION), ("subscriber_pro", PLATFORM_ORGANISATION)],
        plan: Plan::Pro,
    },
    Person {
        login: "carol",
        name: "Carol Example",
        org: CAROLS_ORGANISATION,
        roles: &[("user", CAROLS_ORGANISATION), ("subscriber_enterprise", PLATFORM_ORGANISATION)],
        plan: Plan::Enterprise,
    },
];

/// Seeds a new mesh; a mesh that was seeded stays as its people made it, but for where its own instance is: that is as the
/// configuration says. Gives the passwords that nobody saw yet.
///
/// Every step can be done again, and the mark comes last, after the passwords were printed: whatever ends the process in
/// between, the next `up` goes on.
///
/// # Errors
/// - what a store or the system says.
pub async fn seed(base: &Base, data: &Data, stores: &Stores) -> Result<Passwords, Fault> {
    let Some(platform) = &stores.platform else { return Ok(Passwords::new()) };
    if data.file(MARK).exists() {
        place_instance(base, platform).await?;
        return Ok(Passwords::new());
    }
    // People are seeded where their identity provider is: another one has its own.
    let mut passwords = Passwords::new();
    if let Some(idp) = &stores.idp {
        passwords = make_passwords(base, data)?;
        for person in &PEOPLE {
            seed_person(base, (platform, idp), person, &passwords).await?;
        }
    }
    seed_instance(base, data, platform).await?;
    Ok(passwords)
}

/// Marks the data as seeded: its people saw their passwords.
///
/// # Errors
/// - what the system says.
pub fn mark(data: &Data) -> Result<(), Fault> {
    Ok(kombify_mesh::config::write_secret(&data.file(MARK), b"")?)
}

/// The passwords of the people to seed, on the disk before anybody has them.
fn make_passwords(base: &Base, data: &Data) -> Result<Passwords, Fault> {
    let mut made = passwords(data.dir())?;
    for person in &PEOPLE {
        made.entry(person.login.to_owned())
            .or_insert_with(|| kombify_idp::readable_password(&*base.ids).expose_secret().to_owned());
    }
    kombify_mesh::config::write_secret(&passwords_file(data.dir()), &serde_json::to_vec_pretty(&made)?)?;
    Ok(made)
}

async fn seed_person(
    base: &Base,
    (platform, idp): (&PlatformSqlite, &Idp),
    person: &Person,
    passwords: &Passwords,
) -> Result<(), Fault> {
    let email = format!("{}@example.com", person.login);
    let user = SeedUser {
        login: person.login.to_owned(),
        email: email.clone(),
        name: person.name.to_owned(),
        org: person.org.to_owned(),
        roles: person.roles.iter().map(|(role, by)| ((*role).to_owned(), (*by).to_owned())).collect(),
        password: passwords.get(person.login).map(|password| password.as_str().into()),
    };
    let seeded = idp.seed(&[user]).await?;
    let sub: Sub = seeded.first().ok_or("the identity provider seeded nobody")?.sub.parse()?;
    let owner = if person.org == DEFAULT_ORGANISATION { OrgId::alone(&sub) } else { person.org.parse()? };
    let profile = ProviderProfile { email, name: person.name.to_owned(), picture: String::new() };
    let now = base.clock.now();
    let change = |action| Change::system("up", action, base.ids.request(now), now);
    let sighting = Sighting { sub, owner: owner.clone(), token_time: now, profile: Some(profile) };
    UserStore::sight(platform, &change("user.created"), &sighting).await?;
    let organisation = OrganisationStore::find(platform, &owner).await?;
    if person.plan != Plan::Free && organisation.is_none_or(|organisation| organisation.grant.is_none()) {
        let end_time = now.checked_add(jiff::SignedDuration::from_hours(GRANT_HOURS))?;
        let grant = PlanGrant { plan: person.plan, end_time };
        let change = change("organisation.plan.granted");
        OrganisationStore::grant(platform, &change, &owner, grant, "seeded by up").await?;
    }
    Ok(())
}

/// The instance that this mesh was seeded with may have another port than before.
async fn place_instance(base: &Base, platform: &PlatformSqlite) -> Result<(), Fault> {
    let Some(instance) = InstanceStore::find_by_name(platform, &base.config.stack.instance).await? else {
        return Ok(());
    };
    let endpoint = &base.endpoints.stack;
    if [&instance.internal_endpoint, &instance.public_endpoint] == [endpoint, endpoint] {
        return Ok(());
    }
    let now = base.clock.now();
    let change = Change::system("up", "instance.updated", base.ids.request(now), now);
    let endpoints = Endpoints { internal: Some(endpoint.clone()), public: Some(endpoint.clone()) };
    InstanceStore::set_endpoints(platform, &change, instance.id, None, endpoints).await?;
    Ok(())
}

async fn seed_instance(base: &Base, data: &Data, platform: &PlatformSqlite) -> Result<(), Fault> {
    let page = kombify_core::Page::first();
    if !InstanceStore::list(platform, None, &page).await?.items.is_empty() {
        return Ok(());
    }
    let now = base.clock.now();
    let name = base.config.stack.instance.clone();
    let join_secret = secret_file(&data.file(&join_secret_name(&name)), &*base.ids)?;
    let endpoint = &base.endpoints.stack;
    let instance = NewInstance {
        id: base.ids.instance(now),
        name,
        region: base.config.region.parse()?,
        mode: InstanceMode::Shared,
        max_tenants: InstanceMode::Shared.default_max_tenants(),
        internal_endpoint: endpoint.clone(),
        public_endpoint: endpoint.clone(),
        join_secret_hash: kombify_mesh::secret::hash(join_secret.expose_secret()),
    };
    let change = Change::system("up", "instance.registered", base.ids.request(now), now);
    InstanceStore::register(platform, &change, &instance).await?;
    Ok(())
}
