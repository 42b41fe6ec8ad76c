//! The suite that every backend of the platform stores must pass: one sentence a case, one file a noun.
//!
//! A backend proves itself in one line, `platform_store_conformance!(fresh);`, where `fresh` is an
//! `async fn() -> Pair` beside it that makes a new database and opens it twice.
#![expect(clippy::unwrap_used, clippy::missing_panics_doc, reason = "a failed step is a failed test")]

use std::any::Any;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use jiff::{SignedDuration, Timestamp};
use tokio::task::JoinSet;

use crate::audit::{AuditEvent, AuditFilter, AuditStore};
use crate::instance::{Instance, InstanceMode, InstanceStore, NewInstance};
use crate::mesh_key::MeshKeyStore;
use crate::organisation::OrganisationStore;
use crate::tenant::{NewTenant, Tenant, TenantStore};
use crate::user::{ProviderProfile, Sighting, User, UserStore};
use crate::{
    Actor, Change, Clock, Code, Idempotency, Ids, InstanceId, OrgId, Page, PlatformStore, Result, Sub,
};

pub mod audit;
pub mod idempotency;
pub mod instance;
pub mod mesh_key;
pub mod organisation;
pub mod race;
pub mod tenant;
pub mod user;

/// One `#[tokio::test]` for every case of the suite, each on a database of its own.
///
/// `$fresh` names an `async fn() -> kombify_core::conformance::Pair` beside the call.
#[macro_export]
macro_rules! platform_store_conformance {
    ($fresh:ident) => {
        $crate::conformance_cases! { $fresh,
            user {
                first_sight_makes_a_user_and_is_audited_once
                a_newer_token_refreshes_what_the_provider_says_and_keeps_what_the_user_set
                an_older_token_changes_nothing
                a_sighting_without_userinfo_keeps_what_is_mirrored_and_a_later_one_brings_it
                what_looks_the_same_keeps_its_version
                an_update_sets_what_it_names_and_an_empty_text_falls_back
                an_update_needs_the_present_etag
                an_update_of_a_stranger_finds_nothing
                pages_hold_every_user_once_and_in_order
                a_search_finds_addresses_and_shown_names_and_takes_every_letter_as_it_is
                a_list_of_an_organisation_holds_its_users_only
            }
            tenant {
                a_tenant_has_a_place_and_its_creator_as_admin
                the_emptiest_instance_takes_the_tenant
                an_instance_that_drains_or_is_dedicated_takes_none
                the_region_is_respected
                what_stands_against_a_tenant_is_said_before_a_missing_place
                an_owner_has_one_tenant_and_a_slug_is_given_once
                a_member_lists_the_own_tenants_only
                pages_hold_every_tenant_once_and_in_order
                a_list_is_narrowed_by_search_and_instance
                a_tenant_of_nobody_known_is_not_found
            }
            race {
                no_place_is_given_twice_however_many_race
                one_owner_who_races_gets_one_tenant
                one_slug_that_many_want_goes_to_one
                twins_make_one_tenant
                one_name_that_many_want_goes_to_one
                one_user_whom_many_see_is_one_user
                one_etag_that_many_hold_is_good_for_one
            }
            idempotency {
                a_repeat_answers_with_the_same_tenant_as_it_is_now
                another_request_under_the_same_key_is_a_conflict
                a_key_is_kept_for_a_day
                a_key_belongs_to_its_caller_and_its_method
                a_user_has_the_same_key_through_every_service
                an_error_is_not_kept
                a_repeat_for_what_is_gone_finds_nothing
                a_repeated_grant_grants_nothing_again
            }
            instance {
                an_instance_is_registered_active_and_empty
                a_name_is_taken_until_its_instance_is_removed
                a_status_is_set_once_and_every_time_audited
                a_status_needs_the_present_etag
                a_tenant_leaves_the_etag_of_its_instance
                only_what_drains_and_is_empty_is_removed
                what_was_removed_is_nowhere
                pages_hold_every_instance_once_and_in_order
                a_list_of_a_status_holds_no_other
            }
            organisation {
                an_organisation_is_there_from_its_first_user_on
                a_grant_takes_the_place_of_the_one_before
                a_grant_shows_in_users_and_tenants
                a_grant_for_nobody_known_finds_nothing
            }
            audit {
                every_write_leaves_exactly_one_row
                a_row_says_all_that_the_change_knows
                what_fails_leaves_no_row
                refusals_are_appended_as_they_are_and_in_their_order
                reading_is_a_row_that_is_not_yet_in_its_own_answer
                a_filter_holds_for_every_row
                pages_hold_every_row_once_and_in_order
            }
            mesh_key {
                a_key_is_found_by_its_service_and_listed_in_order
                the_same_key_again_changes_nothing
                a_key_is_replaced_only_in_the_name_of_the_present_one
                two_services_never_share_a_key
                the_mesh_is_bounded
            }
        }
    };
}

/// The cases of [`platform_store_conformance!`], as tests.
#[doc(hidden)]
#[macro_export]
macro_rules! conformance_cases {
    ($fresh:ident, $($noun:ident { $($case:ident)* })*) => {
        $(mod $noun {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $case() {
                let pair = super::$fresh().await;
                $crate::conformance::$noun::$case(&pair).await;
            })*
        })*
    };
}

/// One new database, opened twice: on one handle alone, writers may only queue, and a race proves nothing.
pub struct Pair {
    /// The one.
    pub a: Arc<dyn PlatformStore>,
    /// The other.
    pub b: Arc<dyn PlatformStore>,
    /// What the database needs to live, for example its directory.
    pub keep: Box<dyn Any + Send>,
}

impl Pair {
    fn users(&self) -> &dyn UserStore {
        &*self.a
    }

    fn tenants(&self) -> &dyn TenantStore {
        &*self.a
    }

    fn instances(&self) -> &dyn InstanceStore {
        &*self.a
    }

    fn organisations(&self) -> &dyn OrganisationStore {
        &*self.a
    }

    fn log(&self) -> &dyn AuditStore {
        &*self.a
    }

    fn keys(&self) -> &dyn MeshKeyStore {
        &*self.a
    }

    /// What `racers` of them answer, half of them on either handle, all at the same time.
    async fn race<T, F>(
        &self,
        racers: usize,
        run: impl Fn(usize, Arc<dyn PlatformStore>) -> F,
    ) -> Vec<Result<T>>
    where
        T: Send + 'static,
        F: Future<Output = Result<T>> + Send + 'static,
    {
        let mut set = JoinSet::new();
        for racer in 0..racers {
            let store = if racer % 2 == 0 { &self.a } else { &self.b };
            set.spawn(run(racer, Arc::clone(store)));
        }
        set.join_all().await
    }

    async fn register(&self, name: &str, region: &str, max_tenants: u32) -> Instance {
        let instance = new_instance(name, region, max_tenants);
        self.instances().register(&change("instance.registered"), &instance).await.unwrap()
    }

    async fn create(&self, slug: &str, owner: &str) -> Tenant {
        self.tenants().create(&change("tenant.created"), &new_tenant(slug, owner)).await.unwrap()
    }

    async fn sight(&self, sighting: &Sighting) -> User {
        self.users().sight(&change("user.created"), sighting).await.unwrap()
    }

    /// The newest rows of the log, seen from the other handle.
    async fn rows(&self, filter: &AuditFilter) -> Vec<AuditEvent> {
        AuditStore::read(&*self.b, &change("audit.read"), filter, &Page::first()).await.unwrap().items
    }

    /// The newest rows of one action.
    async fn rows_of(&self, action: &str) -> Vec<AuditEvent> {
        self.rows(&AuditFilter { action: action.to_owned(), ..AuditFilter::default() }).await
    }
}

/// Ids out of a counter: never the same twice, and of one millisecond in the order of their making.
#[derive(Debug, Default)]
pub struct SeededIds(AtomicU64);

impl SeededIds {
    /// Ids from the first one on.
    pub const fn new() -> Self {
        Self(AtomicU64::new(0))
    }
}

impl Ids for SeededIds {
    fn fill(&self, bytes: &mut [u8]) {
        let count = self.0.fetch_add(1, Ordering::Relaxed);
        bytes.fill(0);
        for (slot, byte) in bytes.iter_mut().rev().zip(count.to_le_bytes()) {
            *slot = byte;
        }
    }
}

/// A clock on which every look is one second after the one before.
#[derive(Debug)]
pub struct SteppingClock(AtomicI64);

impl SteppingClock {
    /// A clock that begins at `second` of the Unix epoch.
    pub const fn new(second: i64) -> Self {
        Self(AtomicI64::new(second))
    }
}

impl Clock for SteppingClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_second(self.0.fetch_add(1, Ordering::Relaxed)).unwrap()
    }
}

static IDS: SeededIds = SeededIds::new();
static CLOCK: SteppingClock = SteppingClock::new(1_767_225_600); // 2026-01-01T00:00:00Z

fn change(action: &'static str) -> Change {
    change_by("operator", action)
}

fn change_by(by: &str, action: &'static str) -> Change {
    let time = CLOCK.now();
    Change {
        actor: Actor { sub: Some(sub(by)), service: None, impersonator: None },
        action,
        request_id: IDS.request(time),
        idempotency: None,
        ip: "192.0.2.7".to_owned(),
        user_agent: "conformance/1".to_owned(),
        time,
    }
}

/// The same change with the promise that a repeat is a repeat; `request` stands for what is asked.
fn promised(change: Change, key: &str, request: u8) -> Change {
    let method = format!("/test/{}", change.action);
    let idempotency = Idempotency { key: key.to_owned(), method, tenant: None, digest: [request; 32] };
    Change { idempotency: Some(idempotency), ..change }
}

fn seconds(time: Timestamp, seconds: i64) -> Timestamp {
    time + SignedDuration::from_secs(seconds)
}

fn sub(text: &str) -> Sub {
    text.parse().unwrap()
}

fn org(text: &str) -> OrgId {
    text.parse().unwrap()
}

fn instance_id() -> InstanceId {
    IDS.instance(CLOCK.now())
}

fn new_instance(name: &str, region: &str, max_tenants: u32) -> NewInstance {
    NewInstance {
        id: instance_id(),
        name: name.to_owned(),
        region: region.parse().unwrap(),
        mode: InstanceMode::Shared,
        max_tenants,
        internal_endpoint: format!("http://{name}.internal:8080"),
        public_endpoint: format!("https://{name}.example"),
    }
}

/// A tenant in the region "eu", created by `creator-of-<slug>`.
fn new_tenant(slug: &str, owner: &str) -> NewTenant {
    NewTenant {
        id: IDS.tenant(CLOCK.now()),
        slug: slug.parse().unwrap(),
        name: format!("The {slug}"),
        owner: org(owner),
        creator: creator(slug),
        region: "eu".parse().unwrap(),
    }
}

fn creator(slug: &str) -> Sub {
    sub(&format!("creator-of-{slug}"))
}

fn sighting(who: &str, owner: &str, token_second: i64) -> Sighting {
    Sighting {
        sub: sub(who),
        owner: org(owner),
        token_time: Timestamp::from_second(token_second).unwrap(),
        profile: Some(ProviderProfile {
            email: format!("{who}@example.org"),
            name: format!("Name of {who}"),
            picture: format!("https://example.org/{who}.png"),
        }),
    }
}

fn code<T: std::fmt::Debug>(result: Result<T>) -> Code {
    result.unwrap_err().code()
}

/// Asks for page after page and gives every row, with a bound of rows for each page.
async fn all_pages<T, F>(limit: i32, next: impl Fn(Page) -> F) -> Vec<T>
where
    F: Future<Output = Result<crate::Listed<T>>>,
{
    let mut rows = Vec::new();
    let mut cursor = String::new();
    loop {
        let listed = next(Page::parse(limit, &cursor, "").unwrap()).await.unwrap();
        assert!(i64::try_from(listed.items.len()).unwrap() <= i64::from(limit));
        rows.extend(listed.items);
        cursor = listed.next_cursor;
        if cursor.is_empty() {
            return rows;
        }
        assert!(rows.len() < 1000, "the pages have no end");
    }
}
