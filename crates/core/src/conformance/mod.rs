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
use crate::flag::FlagStore;
use crate::health::{Components, HealthReport, HealthStore, Metrics, Reported};
use crate::instance::{Claim, Instance, InstanceMode, InstanceStore, NewInstance};
use crate::launch::LaunchStore;
use crate::mesh_key::MeshKeyStore;
use crate::organisation::OrganisationStore;
use crate::placed::{Basis, Held, TenantPush};
use crate::sync::{SyncKind, SyncStore, SyncStream};
use crate::tenant::{NewTenant, Tenant, TenantMove, TenantStore};
use crate::user::{ProviderProfile, Sighting, User, UserStore};
use crate::{
    Actor, Change, Clock, Code, Idempotency, Ids, InstanceId, OrgId, Page, PlatformStore, Result,
    ServiceIdentity, Sub, TenantId, TenantScope,
};

pub mod audit;
pub mod flag;
pub mod health;
pub mod host;
pub mod idempotency;
pub mod instance;
pub mod launch;
pub mod mesh_key;
pub mod organisation;
pub mod organisation_sync;
pub mod race;
pub mod sync;
pub mod tenant;
pub mod tenant_life;
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
                a_lock_ends_every_sign_in_and_its_end_only_those_of_before
                a_lock_is_told_to_every_module_each_time
                a_revocation_only_moves_forward_and_is_told_once
                nobody_unknown_is_locked_or_revoked
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
                only_a_healthy_instance_with_a_stack_takes_a_tenant
                a_mirror_takes_what_is_newer_from_the_place_of_the_tenant
                a_mirror_takes_nothing_for_another_place
            }
            tenant_life {
                a_new_tenant_is_creating
                every_move_is_allowed_from_where_it_says_and_from_nowhere_else
                a_move_is_audited_with_its_reason_and_told_to_the_instance
                a_move_needs_the_present_etag
                an_undeleted_tenant_is_what_it_was
                members_see_where_the_tenant_is_in_its_life
                a_tenant_is_erased_after_its_time_of_grace_and_not_before
                what_is_being_erased_is_nowhere_and_keeps_its_place
                what_is_erased_gives_back_place_and_owner_and_keeps_the_slug
                a_hundred_begin_to_be_erased_at_once
            }
            race {
                no_place_is_given_twice_however_many_race
                one_owner_who_races_gets_one_tenant
                one_slug_that_many_want_goes_to_one
                twins_make_one_tenant
                one_name_that_many_want_goes_to_one
                one_user_whom_many_see_is_one_user
                one_etag_that_many_hold_is_good_for_one
                one_code_that_many_redeem_is_good_for_one
                no_place_is_lost_or_given_twice_while_tenants_are_refused
                one_tenant_that_many_delete_is_deleted_once
                many_changes_of_the_flags_are_as_many_versions
                many_reports_of_one_sequence_begin_one_state
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
                maintenance_is_set_once_and_every_time_audited
                an_instance_is_found_by_its_name_until_it_is_removed
                a_claim_registers_the_key_once_and_connects_every_time
                a_claim_needs_the_secret_and_the_present_key
                an_instance_shows_its_last_report
            }
            organisation {
                an_organisation_is_there_from_its_first_user_on
                a_grant_takes_the_place_of_the_one_before
                a_grant_shows_in_users_and_tenants
                a_grant_for_nobody_known_finds_nothing
            }
            audit {
                every_write_leaves_exactly_one_row
                what_is_decided_leaves_one_row_and_its_hand_off_none
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
            sync {
                a_module_that_connects_gets_everything_anew
                streams_are_in_order_and_know_what_waits
                a_snapshot_brings_everything_once_in_pages_of_one_version
                what_changes_while_a_snapshot_is_under_way_is_pushed_behind_it
                a_page_of_a_snapshot_that_was_begun_anew_is_not_given
                changes_come_in_order_each_subject_once_and_as_it_is_now
                more_changes_than_a_push_holds_come_in_several
                a_tenant_is_pushed_as_its_instance_has_to_know_it
                an_instance_is_told_of_its_own_tenants_only
                a_grant_is_told_to_the_instances_of_the_owner
                a_new_tenant_that_is_taken_is_active
                a_new_tenant_that_is_refused_never_was
                a_tenant_that_is_refused_later_stays
                a_tenant_that_was_never_taken_is_gone_whatever_was_decided_since
                a_module_that_is_ahead_gets_everything_anew
                a_tenant_is_erased_only_when_its_erasure_was_pushed
                a_module_that_needs_a_snapshot_gets_one_next
                a_version_only_moves_forward
                a_failed_try_is_put_off_and_the_next_success_forgets_it
                a_snapshot_of_revocations_holds_those_that_matter
                every_module_acknowledges_the_version_of_a_revocation
                flags_are_pending_until_their_version_is_acknowledged
                a_removed_instance_is_told_nothing
            }
            organisation_sync {
                a_grant_is_told_with_its_end
                a_tenant_is_told_with_its_owner_all_its_life
                a_tenant_that_is_refused_is_taken_back
                an_owner_who_changes_often_is_told_once
                a_snapshot_of_organisations_holds_those_with_a_grant_or_a_tenant
                only_who_decides_by_plan_without_tenants_is_told_of_organisations
            }
            launch {
                a_code_lets_its_user_in_once
                a_code_is_refused_for_the_plainest_reason
                a_code_expires_at_its_time_and_not_before
                a_code_of_a_user_who_was_locked_or_signed_out_is_used_up
                a_code_of_a_tenant_that_is_closed_is_refused
                a_code_is_issued_for_an_open_tenant_and_its_own_instance
                codes_of_long_ago_go
                a_redemption_shows_the_names_that_the_platform_mirrors
            }
            flag {
                a_flag_is_found_as_it_was_set
                what_is_so_already_makes_no_new_version
                a_flag_needs_the_present_etag
                a_deleted_flag_is_gone_and_its_etag_never_comes_again
                pages_hold_every_flag_once_and_in_order
                every_change_is_kept_with_what_was_before
                overrides_are_set_and_taken_away
                entitlements_are_of_plans_and_of_organisations_that_were_seen
                pages_hold_every_entitlement_once_and_in_order
                the_set_is_pushed_whole_and_in_order
                the_flags_are_bounded
                the_overrides_are_bounded
                the_entitlements_are_bounded
            }
            health {
                a_state_is_believed_by_its_rules_and_kept_when_it_begins
                a_report_that_is_not_newer_changes_nothing
                a_silence_is_kept_once_when_it_is_noted_or_when_a_report_ends_it
                a_reporter_is_shown_as_it_reported
                every_module_that_reported_and_every_instance_is_a_reporter
                pages_hold_every_state_once_and_in_order
                a_state_is_kept_for_ninety_days
                a_history_is_of_an_instance_that_is_there
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

    fn syncs(&self) -> &dyn SyncStore {
        &*self.a
    }

    fn launches(&self) -> &dyn LaunchStore {
        &*self.a
    }

    fn flags(&self) -> &dyn FlagStore {
        &*self.a
    }

    fn health(&self) -> &dyn HealthStore {
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

    /// An instance that takes tenants.
    async fn register(&self, name: &str, region: &str, max_tenants: u32) -> Instance {
        let instance = new_instance(name, region, max_tenants);
        self.instances().register(&change("instance.registered"), &instance).await.unwrap();
        self.bring_up(instance.id).await
    }

    /// Gives the instance its Stack, which is healthy however long the suite takes.
    async fn bring_up(&self, id: InstanceId) -> Instance {
        self.instances().claim(&change("instance.claimed"), id, &new_claim(id)).await.unwrap();
        let report = new_report("boot", 1, Reported::Healthy);
        self.health().report(&stack(id), &report, seconds(CLOCK.now(), YEARS)).await.unwrap();
        self.instances().find(id).await.unwrap().unwrap()
    }

    /// The Stack says that it took everything that there is for it.
    async fn take_all(&self, id: InstanceId) {
        let (mut page, mut after) = (0, None);
        while let Some(push) = self.syncs().tenants_for(&stack(id), page, after).await.unwrap() {
            self.take(id, &push).await;
            (page, after) = next_page(&push);
        }
    }

    /// The Stack says that it took the push.
    async fn take(&self, id: InstanceId, push: &TenantPush) {
        let tenants: Vec<TenantId> = push.items.iter().map(|tenant| tenant.id).collect();
        self.answer(id, push.version, &held(push.version), &tenants).await;
    }

    /// The Stack answers to a push of tenants.
    async fn answer(&self, id: InstanceId, pushed: u32, held: &Held, tenants: &[TenantId]) {
        self.syncs()
            .acknowledge(&change("sync.acknowledged"), &stack(id), SyncKind::Tenants, pushed, held, tenants)
            .await
            .unwrap();
    }

    /// How far the module has the kind, seen from the other handle.
    async fn stream(&self, target: &ServiceIdentity, kind: SyncKind) -> SyncStream {
        let streams = SyncStore::streams(&*self.b).await.unwrap();
        streams.into_iter().find(|stream| stream.target == *target && stream.kind == kind).unwrap()
    }

    /// The tenant, seen from the other handle.
    async fn tenant(&self, id: TenantId) -> Option<Tenant> {
        TenantStore::find(&*self.b, scope(id)).await.unwrap()
    }

    /// Moves the tenant on in its life.
    async fn move_on(&self, id: TenantId, to: TenantMove) -> Tenant {
        self.tenants().change_status(&change("tenant.moved"), id, None, to, "a reason").await.unwrap()
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

/// Ten years, in seconds: the suite takes less.
const YEARS: i64 = 10 * 365 * 86_400;

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
        join_secret_hash: [7; 32],
    }
}

/// The proof that goes with [`new_instance`]; the key is the instance's own.
fn new_claim(id: InstanceId) -> Claim {
    Claim {
        join_secret_hash: [7; 32],
        kid: format!("key of {id}"),
        public_key: format!("public key of {id}"),
        replaces: None,
    }
}

/// The name of the instance in the mesh.
fn stack(id: InstanceId) -> ServiceIdentity {
    ServiceIdentity { module: "stack".to_owned(), instance: id.to_string() }
}

/// The module that is told of organisations.
fn kits() -> ServiceIdentity {
    ServiceIdentity { module: "kits".to_owned(), instance: "local".to_owned() }
}

fn new_report(boot: &str, sequence: u32, status: Reported) -> HealthReport {
    HealthReport {
        boot_id: boot.to_owned(),
        sequence,
        status,
        components: Components::default(),
        metrics: Metrics { cpu_percent: sequence, ..Metrics::default() },
        software_version: "1.2.3".to_owned(),
    }
}

/// What a module answers that has everything up to `version`.
fn held(version: u32) -> Held {
    Held { version, ..Held::default() }
}

/// What is asked for behind `push`.
fn next_page(push: &TenantPush) -> (u32, Option<TenantId>) {
    match push.basis {
        Basis::Snapshot { page, last: false } => (page + 1, push.items.last().map(|tenant| tenant.id)),
        Basis::Snapshot { last: true, .. } | Basis::Change { .. } => (0, None),
    }
}

fn scope(id: TenantId) -> TenantScope {
    TenantScope::system(id, "the suite reads what it wrote")
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
