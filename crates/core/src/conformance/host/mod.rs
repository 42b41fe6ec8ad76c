//! The suite that whatever keeps an instance's things must pass: one sentence a case, one file a noun.
//!
//! A backend proves itself in one line, `instance_keep_conformance!(fresh);`, where `fresh` is an `async fn() -> Keep`
//! beside it that opens a new one.

use std::any::Any;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use tokio::task::JoinSet;

use super::{CLOCK, IDS, change, org, scope, seconds, sub};
use crate::audit::{AuditEvent, AuditFilter};
use crate::host::{HostStore, SESSION_LIFETIME, Session};
use crate::member::{AcceptBy, INVITATION_LIFETIME, Invitation, Joining, Member, MemberStore, NewInvitation};
use crate::placed::{Basis, Founder, Held, PlacedStatus, PlacedTenant, Push};
use crate::stack::{NewStack, Stack, StackLimits, StackStore};
use crate::{Clock as _, Ids as _, InstanceKeep, Membership, Page, Result, TenantId, TenantRole};

pub mod flag;
pub mod invitation;
pub mod log;
pub mod member;
pub mod race;
pub mod report;
pub mod revocation;
pub mod session;
pub mod stack;
pub mod tenant;

/// One `#[tokio::test]` for every case of the suite, each on a keep of its own.
///
/// `$fresh` names an `async fn() -> kombify_core::conformance::host::Keep` beside the call.
#[macro_export]
macro_rules! instance_keep_conformance {
    ($fresh:ident) => {
        $crate::instance_keep_cases! { $fresh,
            tenant {
                a_new_tenant_has_its_founder_as_admin
                a_change_applies_once_and_only_to_what_it_builds_on
                a_snapshot_takes_the_place_of_what_it_does_not_name
                the_pages_of_a_snapshot_come_in_order
                a_snapshot_of_before_is_not_applied_and_the_same_again_is
                one_more_than_fits_is_refused
                a_repeat_of_a_push_refuses_what_was_refused
                what_is_pushed_again_changes_the_record_and_not_the_members
                a_closed_tenant_shows_its_standing
                an_erased_tenant_is_nowhere
                whoever_is_over_the_limit_of_the_plan_is_a_viewer
                an_identity_is_remembered_for_ever
            }
            revocation {
                a_revocation_ends_the_sessions_of_before
                a_lock_ends_every_session
                what_does_not_matter_any_more_goes
                revocations_are_applied_in_order
                a_snapshot_of_revocations_brings_all_there_are
            }
            flag {
                the_newest_set_is_held_as_it_was_pushed
            }
            session {
                a_session_is_good_until_its_time
                a_session_ends_once_and_alone
                ended_sessions_of_long_ago_go
                a_session_is_for_a_tenant_that_has_a_place
                a_session_is_for_a_member
                an_account_is_found_by_login_and_by_user
                a_new_password_ends_every_session_and_the_old_one_opens_none
                an_account_goes_unless_it_is_that_of_a_member
            }
            member {
                a_role_is_set_once_and_every_time_audited
                a_role_needs_the_present_etag
                the_last_admin_stays
                an_admin_over_the_limit_is_none_to_rely_on
                a_removed_member_is_out_and_its_sessions_for_the_tenant_end
                pages_hold_every_member_once_and_in_order
                whoever_came_last_is_over_the_limit
                a_sign_in_is_noted_and_the_etag_stays
                one_tenant_never_sees_the_rows_of_another
            }
            invitation {
                whoever_has_the_code_joins_once
                an_address_joins_by_its_own_invitation
                an_invitation_is_good_until_its_time
                a_withdrawn_invitation_is_good_for_nobody
                an_address_is_invited_once
                members_and_pending_invitations_count_together
                a_member_joins_no_second_time_and_nobody_over_the_limit
                a_repeated_invitation_is_the_same_one
                a_code_leads_to_its_tenant_while_it_is_good
                pages_hold_every_invitation_once_and_in_order
            }
            stack {
                a_stack_is_found_as_it_was_made
                a_name_is_taken_until_its_stack_is_gone
                a_tenant_has_no_more_stacks_than_its_limit
                nothing_grows_beyond_the_storage_of_the_plan
                an_update_sets_what_it_names
                what_is_so_already_keeps_its_version
                a_stack_needs_the_present_etag
                what_is_over_the_limit_is_only_read_and_deleted
                a_spec_has_its_bound
                a_repeat_answers_with_the_same_stack_as_it_is_now
                pages_hold_every_stack_once_and_in_order
            }
            report {
                a_tenant_is_due_until_it_was_reported
                a_change_of_members_is_due
                a_change_of_usage_is_due
                what_changes_while_it_is_reported_stays_due
                everything_is_due_anew
                a_new_generation_is_due
                twenty_are_reported_at_once
            }
            log {
                every_write_leaves_exactly_one_row
                what_fails_leaves_no_row
                refusals_go_to_the_log_of_their_tenant
                pages_hold_every_row_once_and_in_order
            }
            race {
                no_stack_is_made_over_the_limit_however_many_race
                no_invitation_is_made_over_the_limit_however_many_race
                nobody_joins_over_the_limit_however_many_race
                one_code_that_many_have_is_good_for_one
                twins_make_one_stack
                one_name_that_many_want_goes_to_one
                two_admins_who_remove_each_other_leave_one
                no_session_outlives_a_removal_however_many_are_opened
                the_memberships_are_those_of_the_tenants_however_many_change_them
                one_push_that_comes_often_is_applied_once
                no_tenant_is_taken_over_the_limit_however_many_pushes_race
            }
        }
    };
}

/// The cases of [`instance_keep_conformance!`], as tests.
#[doc(hidden)]
#[macro_export]
macro_rules! instance_keep_cases {
    ($fresh:ident, $($noun:ident { $($case:ident)* })*) => {
        mod conformance {
            $(mod $noun {
                $(#[tokio::test(flavor = "multi_thread")]
                async fn $case() {
                    let keep = super::super::$fresh().await;
                    $crate::conformance::host::$noun::$case(&keep).await;
                })*
            })*
        }
    };
}

/// How many tenants the instance of the suite takes.
const MAX_TENANTS: u32 = 40;

/// What an instance keeps, new.
pub struct Keep {
    /// The keep itself.
    pub store: Arc<dyn InstanceKeep>,
    /// What it needs to live, for example its directory.
    pub keep: Box<dyn Any + Send>,
}

impl Keep {
    fn host(&self) -> &dyn HostStore {
        &*self.store
    }

    fn members(&self) -> &dyn MemberStore {
        &*self.store
    }

    fn stacks(&self) -> &dyn StackStore {
        &*self.store
    }

    /// Pushes what changed, on top of what is held; a first push is a snapshot.
    async fn push(&self, items: &[PlacedTenant]) -> Held {
        let held = self.host().held_tenants().await.unwrap();
        let basis = held
            .map_or(Basis::Snapshot { page: 1, last: true }, |base_version| Basis::Change { base_version });
        let version = held.unwrap_or_default() + 1;
        self.push_as(version, basis, items).await
    }

    async fn push_as(&self, version: u32, basis: Basis, items: &[PlacedTenant]) -> Held {
        let push = Push { version, basis, items: items.to_vec() };
        self.host().apply_tenants(&change("tenants.applied"), &push, MAX_TENANTS).await.unwrap()
    }

    /// A tenant that has its place here.
    async fn place(&self, slug: &str) -> PlacedTenant {
        let tenant = placed(slug);
        assert_eq!(self.push(std::slice::from_ref(&tenant)).await.refused, []);
        tenant
    }

    /// Somebody who joins the tenant by an invitation.
    async fn join(&self, tenant: TenantId, who: &str, role: TenantRole) -> Member {
        let invitation = new_invitation("", role);
        self.invite(tenant, &invitation).await;
        self.accept(tenant, who, AcceptBy::Code(invitation.code_hash), None).await.unwrap()
    }

    async fn invite(&self, tenant: TenantId, invitation: &NewInvitation) -> Invitation {
        let invite = change("invitation.created");
        self.members().invite(scope(tenant), &invite, invitation, None).await.unwrap()
    }

    async fn accept(&self, tenant: TenantId, who: &str, by: AcceptBy, limit: Option<u32>) -> Result<Member> {
        let accept = change("invitation.accepted");
        self.members().accept(scope(tenant), &accept, &joining(who, by), limit).await
    }

    /// A stack of that name.
    async fn stack(&self, tenant: TenantId, name: &str) -> Stack {
        let create = change("stack.created");
        self.stacks().create(scope(tenant), &create, &new_stack(name), places(1000)).await.unwrap()
    }

    /// A session of the member for the tenant, which began now.
    async fn session(&self, tenant: TenantId, who: &str) -> Session {
        let session = new_session(tenant, who, CLOCK.now());
        self.host().open_session(&change("user.login"), &session).await.unwrap();
        session
    }

    /// Whether the session is good when it began.
    async fn is_open(&self, session: &Session) -> bool {
        self.host().find_session(&session.hash, session.create_time).await.unwrap().is_some()
    }

    /// Where the user is a member now.
    async fn memberships(&self, who: &str) -> Vec<Membership> {
        let memberships = self.members().memberships(&sub(who), CLOCK.now()).await.unwrap();
        memberships.iter().cloned().collect()
    }

    /// The role of the user in the tenant, as the index of memberships has it.
    async fn role(&self, tenant: TenantId, who: &str) -> Option<TenantRole> {
        let memberships = self.memberships(who).await;
        memberships.iter().find(|membership| membership.tenant == tenant).map(|membership| membership.role)
    }

    /// Everybody in the tenant, newest first.
    async fn everybody(&self, tenant: TenantId, limit: Option<u32>) -> Vec<Member> {
        self.members().list(scope(tenant), &Page::first(), limit).await.unwrap().items
    }

    /// The newest rows of the tenant's log of that action; empty: of all.
    async fn log(&self, tenant: TenantId, action: &str) -> Vec<AuditEvent> {
        let filter = AuditFilter { action: action.to_owned(), ..AuditFilter::default() };
        self.host().activity(scope(tenant), &filter, &Page::first()).await.unwrap().items
    }

    /// What `racers` of them answer, all at the same time.
    async fn race<T, F>(
        &self,
        racers: usize,
        run: impl Fn(usize, Arc<dyn InstanceKeep>) -> F,
    ) -> Vec<Result<T>>
    where
        T: Send + 'static,
        F: Future<Output = Result<T>> + Send + 'static,
    {
        let mut set = JoinSet::new();
        for racer in 0..racers {
            set.spawn(run(racer, Arc::clone(&self.store)));
        }
        set.join_all().await
    }
}

/// A tenant on the free plan, founded by `founder-of-<slug>`.
fn placed(slug: &str) -> PlacedTenant {
    let now = CLOCK.now();
    PlacedTenant {
        id: IDS.tenant(now),
        slug: slug.parse().unwrap(),
        name: format!("The {slug}"),
        owner: org(&format!("org-of-{slug}")),
        grant: None,
        status: PlacedStatus::Active,
        generation: 1,
        founder: Founder {
            sub: sub(&founder(slug)),
            email: format!("Founder.Of.{slug}@example.org"),
            name: format!("Founder of {slug}"),
        },
        create_time: now,
    }
}

fn founder(slug: &str) -> String {
    format!("founder-of-{slug}")
}

/// An invitation whose code nobody else has.
fn new_invitation(email: &str, role: TenantRole) -> NewInvitation {
    let now = CLOCK.now();
    NewInvitation {
        id: IDS.invitation(now),
        email: email.to_owned(),
        role,
        code_hash: new_hash(),
        expire_time: now + INVITATION_LIFETIME,
    }
}

fn new_hash() -> [u8; 32] {
    let mut hash = [0; 32];
    IDS.fill(&mut hash);
    hash
}

fn joining(who: &str, by: AcceptBy) -> Joining {
    Joining { sub: sub(who), email: format!("{who}@example.org"), name: format!("Name of {who}"), by }
}

/// So many stacks, and storage enough.
fn places(stacks: u32) -> StackLimits {
    StackLimits { stacks, storage_gb: 10 }
}

fn new_stack(name: &str) -> NewStack {
    let now = CLOCK.now();
    NewStack {
        id: IDS.stack(now),
        name: name.parse().unwrap(),
        kit: None,
        spec_yaml: format!("name: {name}\n"),
    }
}

fn new_session(tenant: TenantId, who: &str, now: Timestamp) -> Session {
    Session {
        hash: new_hash(),
        tenant,
        sub: sub(who),
        email: format!("{who}@example.org"),
        name: format!("Name of {who}"),
        owner: org("org-1"),
        roles: ["user".to_owned(), "manager".to_owned()].into(),
        auth_time: now,
        create_time: now,
        expire_time: now + SESSION_LIFETIME,
    }
}

fn hours(time: Timestamp, hours: i64) -> Timestamp {
    time + SignedDuration::from_hours(hours)
}

/// A moment far behind everything that the suite does.
fn far() -> Timestamp {
    seconds(CLOCK.now(), super::YEARS)
}
