use std::path::PathBuf;
use std::slice;

use jiff::Timestamp;
use kombify_core::InstanceKeep;
use kombify_core::conformance::SeededIds;
use kombify_core::conformance::host::Keep;
use kombify_core::host::{AccountStore, HostStore, SESSION_LIFETIME, Session};
use kombify_core::member::{AcceptBy, INVITATION_LIFETIME, Joining, MemberStore, NewInvitation};
use kombify_core::placed::{Basis, Founder, Held, PlacedStatus, PlacedTenant, Push};
use kombify_core::stack::{NewStack, StackStore};
use kombify_core::{Code, Membership, Page, Plan, TenantRole, TenantStanding};
use tempfile::TempDir;
use tokio::task::{JoinSet, spawn_blocking};

use super::*;

async fn fresh() -> Keep {
    let (home, store) = home(Options::default()).await;
    let store: Arc<dyn InstanceKeep> = Arc::new(store);
    Keep { store, keep: Box::new(home) }
}

kombify_core::instance_keep_conformance!(fresh);

static IDS: SeededIds = SeededIds::new();

async fn home(options: Options) -> (TempDir, StackSqlite) {
    let home = tempfile::tempdir().unwrap();
    let store = open(home.path(), options).await;
    (home, store)
}

async fn open(dir: &Path, options: Options) -> StackSqlite {
    let dir = dir.to_owned();
    spawn_blocking(move || StackSqlite::open(&dir, Arc::new(SeededIds::new()), options).unwrap())
        .await
        .unwrap()
}

async fn close(store: StackSqlite) {
    spawn_blocking(move || drop(store)).await.unwrap();
}

/// What a process that dies now leaves behind.
async fn crashed(dir: &Path) -> (TempDir, StackSqlite) {
    let copy = tempfile::tempdir().unwrap();
    fs::create_dir(copy.path().join("tenants")).unwrap();
    for part in ["", "tenants"] {
        for entry in fs::read_dir(dir.join(part)).unwrap() {
            let entry = entry.unwrap();
            // The index of the WAL is made anew.
            if entry.file_type().unwrap().is_file() && entry.path().extension() != Some("db-shm".as_ref()) {
                fs::copy(entry.path(), copy.path().join(part).join(entry.file_name())).unwrap();
            }
        }
    }
    let store = open(copy.path(), Options::default()).await;
    (copy, store)
}

fn now() -> Timestamp {
    "2026-01-01T00:00:00Z".parse().unwrap()
}

fn change(action: &'static str) -> Change {
    Change::system("stack", action, "req".parse().unwrap(), now())
}

fn scope(tenant: TenantId) -> TenantScope {
    TenantScope::system(tenant, "a test reads what it wrote")
}

fn sub(text: &str) -> Sub {
    text.parse().unwrap()
}

fn placed(slug: &str) -> PlacedTenant {
    PlacedTenant {
        id: IDS.tenant(now()),
        slug: slug.parse().unwrap(),
        name: slug.to_owned(),
        owner: "org-1".parse().unwrap(),
        grant: None,
        status: PlacedStatus::Active,
        generation: 1,
        founder: Founder {
            sub: sub(&format!("founder-of-{slug}")),
            email: String::new(),
            name: String::new(),
        },
        create_time: now(),
    }
}

async fn push(store: &StackSqlite, items: &[PlacedTenant], max: u32) -> Held {
    let held = HostStore::held_tenants(store).await.unwrap();
    let basis =
        held.map_or(Basis::Snapshot { page: 1, last: true }, |base_version| Basis::Change { base_version });
    let push = Push { version: held.unwrap_or_default() + 1, basis, items: items.to_vec() };
    HostStore::apply_tenants(store, &change("tenants.applied"), &push, max).await.unwrap()
}

async fn place(store: &StackSqlite, slug: &str) -> PlacedTenant {
    let tenant = placed(slug);
    assert_eq!(push(store, slice::from_ref(&tenant), 1000).await.refused, []);
    tenant
}

async fn add_stack(store: &StackSqlite, tenant: TenantId, name: &str) -> Result<()> {
    let new =
        NewStack { id: IDS.stack(now()), name: name.parse().unwrap(), kit: None, spec_yaml: "x".into() };
    StackStore::create(store, scope(tenant), &change("stack.created"), &new, Plan::Enterprise.limits().into())
        .await
        .map(drop)
}

async fn invite(store: &StackSqlite, tenant: TenantId) -> [u8; 32] {
    let mut code_hash = [0; 32];
    IDS.fill(&mut code_hash);
    let new = NewInvitation {
        id: IDS.invitation(now()),
        email: String::new(),
        role: TenantRole::Member,
        code_hash,
        expire_time: now() + INVITATION_LIFETIME,
    };
    MemberStore::invite(store, scope(tenant), &change("invitation.created"), &new, None).await.unwrap();
    code_hash
}

async fn accept(store: &StackSqlite, tenant: TenantId, who: &str, hash: [u8; 32]) -> Result<()> {
    let joining =
        Joining { sub: sub(who), email: String::new(), name: String::new(), by: AcceptBy::Code(hash) };
    let accept = change("invitation.accepted");
    MemberStore::accept(store, scope(tenant), &accept, &joining, None).await.map(drop)
}

async fn join(store: &StackSqlite, tenant: TenantId, who: &str) {
    let hash = invite(store, tenant).await;
    accept(store, tenant, who, hash).await.unwrap();
}

async fn sign_in(store: &StackSqlite, tenant: TenantId, who: &str) -> [u8; 32] {
    let mut hash = [0; 32];
    IDS.fill(&mut hash);
    let session = Session {
        hash,
        tenant,
        sub: sub(who),
        email: String::new(),
        name: String::new(),
        owner: "org-1".parse().unwrap(),
        roles: BTreeSet::new(),
        auth_time: now(),
        create_time: now(),
        expire_time: now() + SESSION_LIFETIME,
    };
    HostStore::open_session(store, &change("user.login"), &session).await.unwrap();
    hash
}

async fn is_member(store: &StackSqlite, tenant: TenantId, who: &str) -> bool {
    let memberships = MemberStore::memberships(store, &sub(who), now()).await.unwrap();
    let is_sure = |membership: &Membership| membership.standing != TenantStanding::Unreadable;
    memberships.iter().any(|membership| membership.tenant == tenant && is_sure(membership))
}

async fn is_signed_in(store: &StackSqlite, hash: &[u8; 32]) -> bool {
    HostStore::find_session(store, hash, now()).await.unwrap().is_some()
}

async fn members(store: &StackSqlite, tenant: TenantId) -> Result<usize> {
    MemberStore::list(store, scope(tenant), &Page::first(), None).await.map(|listed| listed.items.len())
}

fn code<T: std::fmt::Debug>(result: Result<T>) -> Code {
    result.unwrap_err().code()
}

fn tenant_file(dir: &Path, tenant: TenantId) -> PathBuf {
    dir.join("tenants").join(format!("{tenant}.db"))
}

/// The names in the directory of the tenants that begin with the tenant's id.
fn files_of(dir: &Path, tenant: TenantId) -> Vec<String> {
    let names = fs::read_dir(dir.join("tenants")).unwrap();
    let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name.starts_with(&tenant.to_string())).collect()
}

fn sql(path: &Path, statements: &str) {
    Connection::open(path).unwrap().execute_batch(statements).unwrap();
}

fn ask<T: rusqlite::types::FromSql>(path: &Path, question: &str) -> T {
    Connection::open(path).unwrap().query_row(question, (), |row| row.get(0)).unwrap()
}

/// How many tenants' files below `dir` this process has open at one moment.
#[cfg(target_os = "linux")]
fn open_files(dir: &Path) -> usize {
    let dir = dir.join("tenants");
    let look = || -> BTreeSet<PathBuf> {
        fs::read_dir("/proc/self/fd")
            .unwrap()
            .filter_map(|entry| fs::read_link(entry.unwrap().path()).ok())
            .filter(|path| path.starts_with(&dir) && path.extension() == Some("db".as_ref()))
            .collect()
    };
    // A look takes a while: what stands in two of them was open between them.
    look().intersection(&look()).count()
}

#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread")]
async fn no_more_files_are_open_than_may_be_with_two_hundred_tenants_at_work() {
    let idle = Duration::from_mins(1);
    let (home, store) = home(Options { open_tenants: 8, idle }).await;
    let tenants: Vec<PlacedTenant> = (0..200).map(|number| placed(&format!("tenant-{number}"))).collect();
    assert_eq!(push(&store, &tenants, 200).await.refused, []);
    let mut most = 0;
    for round in 0..3 {
        let mut racers = JoinSet::new();
        for tenant in &tenants {
            let (store, tenant) = (store.clone(), tenant.id);
            racers.spawn(async move { add_stack(&store, tenant, &format!("stack-{round}")).await });
        }
        while let Some(result) = racers.join_next().await {
            result.unwrap().unwrap();
            most = most.max(open_files(home.path()));
        }
    }
    assert!((2..=8).contains(&most), "{most} files were open");
    for tenant in tenants.iter().step_by(20) {
        let listed = StackStore::list(&store, scope(tenant.id), &Page::first()).await.unwrap();
        assert_eq!(listed.items.len(), 3);
    }
    assert_eq!(open_files(home.path()), 8);
    store.close_idle(Instant::now());
    assert_eq!(open_files(home.path()), 8, "used just now");
    store.close_idle(Instant::now() + idle);
    for _ in 0..500 {
        if open_files(home.path()) == 0 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(open_files(home.path()), 0, "nobody used them for long");
    add_stack(&store, tenants[0].id, "later").await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_in_use_is_neither_closed_nor_its_place_taken() {
    let (_home, store) = home(Options { open_tenants: 1, idle: Duration::ZERO }).await;
    let (one, two) = (place(&store, "one").await.id, place(&store, "two").await.id);
    let using = store.files.open(one).await.unwrap();
    store.close_idle(Instant::now() + Duration::from_hours(1));
    let mut other = Box::pin(members(&store, two));
    let waits = tokio::time::timeout(Duration::from_millis(100), &mut other).await;
    assert!(waits.is_err(), "there is one place, and it is in use: {waits:?}");
    // Whoever wants the same file shares it.
    assert_eq!(members(&store, one).await.unwrap(), 1);
    using.check().await.unwrap();
    drop(using);
    assert_eq!(other.await.unwrap(), 1);
    assert_eq!(members(&store, one).await.unwrap(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_that_is_slow_to_open_keeps_nobody_else_waiting() {
    let (home, store) = home(Options::default()).await;
    let (slow, other) = (place(&store, "slow").await.id, place(&store, "other").await.id);
    close(store).await;
    let store = open(home.path(), Options::default()).await;
    let lock = Connection::open(tenant_file(home.path(), slow)).unwrap();
    lock.execute_batch("PRAGMA locking_mode = EXCLUSIVE; BEGIN EXCLUSIVE; DELETE FROM invitations; COMMIT")
        .unwrap();
    let waiting = {
        let store = store.clone();
        let mut waiting = JoinSet::new();
        waiting.spawn(async move { members(&store, slow).await });
        waiting
    };
    tokio::time::sleep(Duration::from_millis(100)).await;
    for _ in 0..3 {
        let answer = tokio::time::timeout(Duration::from_secs(2), members(&store, other)).await;
        assert_eq!(answer.expect("nobody waits for another tenant").unwrap(), 1);
    }
    drop(lock);
    assert_eq!(waiting.join_all().await.remove(0).unwrap(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_cannot_be_opened_harms_only_its_own_tenant() {
    for (what, spoil) in [
        ("a newer schema", (|path| sql(path, "PRAGMA user_version = 99")) as fn(&Path)),
        ("not there", |path| fs::remove_file(path).unwrap()),
        ("empty", |path| fs::write(path, "").unwrap()),
        ("nobody's", |path| sql(path, "DELETE FROM tenant")),
        ("no database", |path| fs::write(path, "This is a letter, and no database. ".repeat(200)).unwrap()),
        ("another's", |path| sql(path, "UPDATE tenant SET tenant_id = 'tenant_of_another'")),
    ] {
        let (home, store) = home(Options::default()).await;
        let (broken, other) = (place(&store, "broken").await.id, place(&store, "other").await.id);
        let invitation = invite(&store, broken).await;
        join(&store, broken, "ann").await;
        join(&store, other, "ann").await;
        close(store).await;
        let path = tenant_file(home.path(), broken);
        spoil(&path);
        let before = fs::read(&path).ok();
        let store = open(home.path(), Options::default()).await;
        for _ in 0..2 {
            assert_eq!(code(members(&store, broken).await), Code::ServiceUnavailable, "{what}");
            assert_eq!(members(&store, other).await.unwrap(), 2, "{what}");
        }
        assert_eq!(code(add_stack(&store, broken, "attic").await), Code::ServiceUnavailable, "{what}");
        assert_eq!(code(accept(&store, broken, "bob", invitation).await), Code::ServiceUnavailable, "{what}");
        assert_eq!(fs::read(&path).ok(), before, "{what}: the file is as it was");
        // What instance.db knows goes on.
        assert!(is_member(&store, broken, "ann").await && is_member(&store, other, "ann").await, "{what}");
        HostStore::report_anew(&store).await.unwrap();
        assert_eq!(HostStore::reports_due(&store).await.unwrap().len(), 2, "{what}");
        let next = placed("next");
        assert_eq!(push(&store, slice::from_ref(&next), 9).await.refused, [], "{what}");
        add_stack(&store, next.id, "attic").await.unwrap();
        // Of members that cannot be read nobody is sure: the index may be wrong about them.
        sql(&home.path().join("instance.db"), "UPDATE tenants SET dirty = 1");
        let (_copy, store) = crashed(home.path()).await;
        assert!(!is_member(&store, broken, "ann").await, "{what}");
        assert!(is_member(&store, other, "ann").await, "{what}");
        let due = HostStore::reports_due(&store).await.unwrap();
        assert!(due.iter().all(|report| report.tenant != broken), "{what}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_tenant_leaves_no_file() {
    let (home, store) = home(Options::default()).await;
    let tenants = ["one", "two", "blocked", "stuck"].map(placed);
    let [one, two, blocked, stuck] = [0, 1, 2, 3].map(|number| tenants[number].id);
    // What stands in the way was there before, and stays.
    fs::create_dir(tenant_file(home.path(), blocked)).unwrap();
    let wal = home.path().join("tenants").join(format!("{stuck}.db-wal"));
    fs::create_dir(&wal).unwrap();
    let held = push(&store, &tenants, 9).await;
    let refused: BTreeSet<TenantId> = held.refused.iter().map(|(id, _)| *id).collect();
    assert_eq!(refused, [blocked, stuck].into());
    assert!(held.refused.iter().all(|(_, reason)| reason.contains("cannot be")), "{held:?}");
    assert_eq!(files_of(home.path(), blocked), [format!("{blocked}.db")]);
    assert_eq!(files_of(home.path(), stuck), [format!("{stuck}.db-wal")]);
    for tenant in [one, two] {
        assert_eq!(members(&store, tenant).await.unwrap(), 1);
    }
    for tenant in [blocked, stuck] {
        assert_eq!(code(members(&store, tenant).await), Code::NotFound);
    }
    let over = placed("over");
    assert_eq!(push(&store, slice::from_ref(&over), 2).await.refused.len(), 1);
    assert_eq!(files_of(home.path(), over.id), Vec::<String>::new());
    // When nothing stands in the way any more, they are taken.
    fs::remove_dir(tenant_file(home.path(), blocked)).unwrap();
    fs::remove_dir(wal).unwrap();
    assert_eq!(push(&store, &tenants[2..], 9).await.refused, []);
    assert_eq!(members(&store, blocked).await.unwrap(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_erased_tenant_leaves_nothing_on_the_disk() {
    let (home, store) = home(Options::default()).await;
    let (tenant, other) = (place(&store, "home").await, place(&store, "other").await.id);
    add_stack(&store, tenant.id, "attic").await.unwrap();
    join(&store, tenant.id, "ann").await;
    invite(&store, tenant.id).await;
    sign_in(&store, tenant.id, "ann").await;
    assert!(files_of(home.path(), tenant.id).len() > 1, "the file is open, with its WAL");
    let mut readers = JoinSet::new();
    for _ in 0..32 {
        let (store, id) = (store.clone(), tenant.id);
        readers.spawn(async move {
            // Until it is gone, it is all there.
            while let Ok(members) = members(&store, id).await {
                assert_eq!(members, 2);
            }
        });
    }
    let erased = PlacedTenant { status: PlacedStatus::Erased, ..tenant.clone() };
    push(&store, &[erased], 9).await;
    readers.join_all().await;
    assert_eq!(files_of(home.path(), tenant.id), Vec::<String>::new());
    assert_eq!(members(&store, other).await.unwrap(), 1);
    let instance = home.path().join("instance.db");
    for table in ["tenants", "memberships", "sessions", "invitation_codes"] {
        let id = tenant.id;
        let rows: u32 = ask(&instance, &format!("SELECT COUNT(*) FROM {table} WHERE tenant_id = '{id}'"));
        assert_eq!(rows, 0, "{table}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_being_erased_is_erased_by_the_next_process() {
    let (home, store) = home(Options::default()).await;
    let (tenant, other) = (place(&store, "home").await, place(&store, "other").await.id);
    add_stack(&store, tenant.id, "attic").await.unwrap();
    // What the first of the steps leaves.
    let id = tenant.id;
    store.instance.write("test", move |transaction| tenant::mark_erasing(transaction, id)).await.unwrap();
    let (copy, store) = crashed(home.path()).await;
    assert_eq!(files_of(copy.path(), tenant.id), Vec::<String>::new());
    assert_eq!(ask::<u32>(&copy.path().join("instance.db"), "SELECT COUNT(*) FROM tenants"), 1);
    assert_eq!(code(members(&store, tenant.id).await), Code::NotFound);
    assert_eq!(members(&store, other).await.unwrap(), 1);
    // Admin, which did not hear of it, says it again.
    let erased = PlacedTenant { status: PlacedStatus::Erased, ..tenant };
    assert_eq!(push(&store, &[erased], 9).await.refused, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn members_that_changed_in_a_crash_are_taken_over_by_the_next_process() {
    let (home, store) = home(Options::default()).await;
    let tenant = place(&store, "home").await.id;
    join(&store, tenant, "ann").await;
    join(&store, tenant, "bob").await;
    let (anns, bobs) = (sign_in(&store, tenant, "ann").await, sign_in(&store, tenant, "bob").await);
    let due = HostStore::reports_due(&store).await.unwrap();
    HostStore::reported(&store, &due).await.unwrap();
    store.mark(tenant, &change("member.removed")).await.unwrap();
    // A crash behind the mark: nothing happened.
    let (copy, after) = crashed(home.path()).await;
    assert!(is_member(&after, tenant, "ann").await && is_signed_in(&after, &anns).await);
    assert_eq!(HostStore::reports_due(&after).await.unwrap(), []);
    assert_eq!(ask::<u32>(&copy.path().join("instance.db"), "SELECT SUM(dirty) FROM tenants"), 0);
    // A crash behind the commit in the tenant's file: it did.
    sql(
        &tenant_file(home.path(), tenant),
        "DELETE FROM members WHERE sub = 'ann';
         INSERT INTO members (sub, email, email_key, name, role, create_time) VALUES ('cy', '', '', '', 'viewer', 7)",
    );
    let (_copy, after) = crashed(home.path()).await;
    assert!(!is_member(&after, tenant, "ann").await && !is_signed_in(&after, &anns).await);
    assert!(is_member(&after, tenant, "bob").await && is_signed_in(&after, &bobs).await);
    assert!(is_member(&after, tenant, "cy").await);
    let reports = HostStore::reports_due(&after).await.unwrap();
    assert_eq!(reports.len(), 1);
    assert!(reports[0].version > due[0].version && reports[0].members.contains_key(&sub("cy")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_of_a_crash_before_its_row_is_taken_when_the_push_comes_again() {
    let (home, store) = home(Options::default()).await;
    place(&store, "other").await;
    let tenant = placed("home");
    store.found(&change("tenants.applied"), &tenant).await.unwrap();
    let (copy, store) = crashed(home.path()).await;
    assert_eq!(code(members(&store, tenant.id).await), Code::NotFound);
    assert!(tenant_file(copy.path(), tenant.id).exists(), "nobody's file is deleted");
    let other_founder = Founder { sub: sub("somebody"), email: String::new(), name: String::new() };
    let again = PlacedTenant { founder: other_founder, ..tenant.clone() };
    assert_eq!(push(&store, &[again], 9).await.refused, []);
    assert_eq!(members(&store, tenant.id).await.unwrap(), 1);
    assert!(is_member(&store, tenant.id, "founder-of-home").await);
    assert!(!is_member(&store, tenant.id, "somebody").await);
}

#[tokio::test(flavor = "multi_thread")]
async fn members_that_could_not_be_indexed_are_before_anybody_reads_them() {
    let (home, store) = home(Options::default()).await;
    let (tenant, other) = (place(&store, "home").await.id, place(&store, "other").await.id);
    join(&store, other, "ann").await;
    let instance = home.path().join("instance.db");
    sql(&instance, "CREATE TRIGGER full BEFORE INSERT ON memberships BEGIN SELECT RAISE(ABORT, 'full'); END");
    join(&store, tenant, "ann").await;
    assert!(!is_member(&store, tenant, "ann").await);
    assert!(!is_member(&store, tenant, "founder-of-home").await, "the index is not trusted");
    assert!(is_member(&store, other, "ann").await, "of another tenant it is");
    assert_eq!(ask::<u32>(&instance, "SELECT SUM(dirty) FROM tenants"), 1);
    sql(&instance, "DROP TRIGGER full");
    // The next try is due.
    store.stale().insert(tenant, None);
    let mut readers = JoinSet::new();
    for _ in 0..32 {
        let store = store.clone();
        readers.spawn(async move { is_member(&store, tenant, "ann").await });
    }
    assert!(readers.join_all().await.into_iter().all(|member| member), "everybody waits for it");
    assert_eq!(ask::<u32>(&instance, "SELECT SUM(dirty) FROM tenants"), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_whose_caller_goes_away_is_in_both_files_or_in_none() {
    let (_home, store) = home(Options::default()).await;
    let tenant = place(&store, "home").await.id;
    let mut joined = 0;
    for number in 0..60_u32 {
        let (who, hash) = (format!("racer-{number}"), invite(&store, tenant).await);
        let patience = async {
            for _ in 0..number * number {
                tokio::task::yield_now().await;
            }
        };
        tokio::select! {
            biased;
            answer = accept(&store, tenant, &who, hash) => answer.unwrap(),
            () = patience => {}
        }
        // Whoever reads waits for what began.
        let indexed = is_member(&store, tenant, &who).await;
        let file = store.files.open(tenant).await.unwrap();
        let _alone = store.files.alone(tenant).await.unwrap();
        let there = file
            .read(move |connection| {
                kombify_sqlite::query::exists(connection, "SELECT 1 FROM members WHERE sub = ?1", [who])
            })
            .await
            .unwrap();
        assert_eq!(indexed, there, "{number}");
        joined += usize::from(there);
    }
    assert!(joined < 60, "nobody went away too soon");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_begins_anew_behind_a_restart() {
    let (home, store) = home(Options::default()).await;
    let tenants = ["one", "two"].map(placed);
    let page = |page, last| Push {
        version: 3,
        basis: Basis::Snapshot { page, last },
        items: vec![tenants[page as usize - 1].clone()],
    };
    let first = page(1, false);
    let applied = change("tenants.applied");
    assert_eq!(HostStore::apply_tenants(&store, &applied, &first, 9).await.unwrap(), Held::default());
    close(store).await;
    let store = open(home.path(), Options::default()).await;
    let second = page(2, true);
    let answer = HostStore::apply_tenants(&store, &applied, &second, 9).await.unwrap();
    assert!(answer.snapshot_needed);
    assert_eq!(HostStore::held_tenants(&store).await.unwrap(), None);
    for push in [first, second] {
        assert!(!HostStore::apply_tenants(&store, &applied, &push, 9).await.unwrap().snapshot_needed);
    }
    assert_eq!(HostStore::held_tenants(&store).await.unwrap(), Some(3));
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_outlives_a_restart() {
    let (home, store) = home(Options::default()).await;
    let tenant = place(&store, "home").await;
    let instance = IDS.instance(now());
    HostStore::remember_identity(&store, instance).await.unwrap();
    join(&store, tenant.id, "ann").await;
    let session = sign_in(&store, tenant.id, "ann").await;
    let due = HostStore::reports_due(&store).await.unwrap();
    HostStore::reported(&store, &due).await.unwrap();
    close(store).await;
    let store = open(home.path(), Options::default()).await;
    assert_eq!(HostStore::identity(&store).await.unwrap(), Some(instance));
    assert_eq!(HostStore::find_tenant(&store, "home").await.unwrap(), Some(tenant.clone()));
    assert!(is_member(&store, tenant.id, "ann").await && is_signed_in(&store, &session).await);
    assert_eq!(members(&store, tenant.id).await.unwrap(), 2);
    assert_eq!(HostStore::reports_due(&store).await.unwrap(), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_of_what_is_in_use_is_whole() {
    let (home, store) = home(Options::default()).await;
    let tenant = place(&store, "home").await.id;
    add_stack(&store, tenant, "attic").await.unwrap();
    let (copy, of_instance) = (home.path().join("copy.db"), home.path().join("instance-copy.db"));
    kombify_sqlite::backup(&home.path().join(format!("tenants/{tenant}.db")), &copy).unwrap();
    kombify_sqlite::backup(&home.path().join("instance.db"), &of_instance).unwrap();
    assert_eq!(ask::<String>(&copy, "SELECT name FROM stacks"), "attic");
    assert_eq!(ask::<String>(&of_instance, "SELECT slug FROM tenants"), "home");
    StackSqlite::look(&of_instance).unwrap();
    store.check().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copied_index_is_not_trusted_beyond_the_files_that_were_copied_later() {
    let (home, store) = home(Options::default()).await;
    let tenant = place(&store, "home").await.id;
    join(&store, tenant, "ann").await;
    let copy = tempfile::tempdir().unwrap();
    fs::create_dir(copy.path().join("tenants")).unwrap();
    let index = copy.path().join("instance.db");
    kombify_sqlite::backup(&home.path().join("instance.db"), &index).unwrap();
    MemberStore::remove(&store, scope(tenant), &change("member.removed"), &sub("ann"), None).await.unwrap();
    let file = tenant_file(copy.path(), tenant);
    kombify_sqlite::backup(&tenant_file(home.path(), tenant), &file).unwrap();
    StackSqlite::distrust(&index).unwrap();
    let store = open(copy.path(), Options::default()).await;
    assert!(!is_member(&store, tenant, "ann").await);
    assert!(is_member(&store, tenant, "founder-of-home").await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_has_as_many_members_as_a_report_carries_and_reports_carry_no_more() {
    let (home, store) = home(Options::default()).await;
    let tenants = [place(&store, "one").await.id, place(&store, "two").await.id];
    let hash = invite(&store, tenants[0]).await;
    close(store).await;
    let most = kombify_core::member::MEMBERS_MAX;
    for tenant in tenants {
        // With the founder there are as many as there may be.
        let fill = format!(
            "WITH RECURSIVE numbers (number) AS (
                  SELECT 1 UNION ALL SELECT number + 1 FROM numbers WHERE number < {most} - 1)
             INSERT INTO members (sub, email, email_key, name, role, create_time)
             SELECT 'user-' || number, '', '', '', 'viewer', number FROM numbers"
        );
        sql(&tenant_file(home.path(), tenant), &fill);
    }
    sql(&home.path().join("instance.db"), "UPDATE tenants SET dirty = 1");
    let store = open(home.path(), Options::default()).await;
    HostStore::report_anew(&store).await.unwrap();
    for _ in 0..2 {
        let due = HostStore::reports_due(&store).await.unwrap();
        let carried: Vec<usize> = due.iter().map(|report| report.members.len()).collect();
        assert_eq!(carried, [usize::try_from(most).unwrap()]);
        HostStore::reported(&store, &due).await.unwrap();
    }
    assert_eq!(HostStore::reports_due(&store).await.unwrap(), []);
    assert_eq!(code(accept(&store, tenants[0], "ann", hash).await), Code::QuotaExceeded);
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_and_accounts_leave_one_row_each_and_rows_never_change() {
    let (home, store) = home(Options::default()).await;
    let tenant = place(&store, "home").await.id;
    join(&store, tenant, "ann").await;
    let hash = sign_in(&store, tenant, "ann").await;
    HostStore::end_session(&store, &change("user.logout"), &hash).await.unwrap();
    HostStore::end_session(&store, &change("user.logout"), &hash).await.unwrap();
    let account = kombify_core::host::Account {
        sub: sub("ann"),
        login: "ann".into(),
        name: String::new(),
        password_hash: "hash".into(),
    };
    AccountStore::add_account(&store, &change("account.created"), &account).await.unwrap();
    AccountStore::set_password(&store, &change("account.password.changed"), &sub("ann"), "other")
        .await
        .unwrap();
    let instance = home.path().join("instance.db");
    let actions: String =
        ask(&instance, "SELECT group_concat(action, ' ' ORDER BY event_id) FROM audit_events");
    let expected = "user.login user.logout account.created account.password.changed";
    assert_eq!(actions, expected);
    for path in [instance, tenant_file(home.path(), tenant)] {
        let connection = Connection::open(&path).unwrap();
        for statement in [
            "UPDATE audit_events SET action = 'x'",
            "DELETE FROM audit_events",
            "REPLACE INTO audit_events SELECT * FROM audit_events",
        ] {
            let fault = connection.execute(statement, ()).unwrap_err().to_string();
            assert!(fault.contains("audit_events: a row"), "{statement}: {fault}");
        }
    }
}

#[cfg(unix)]
#[tokio::test(flavor = "multi_thread")]
async fn only_its_own_user_reads_anything() {
    use std::os::unix::fs::PermissionsExt;

    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("stack");
    let store = open(&dir, Options::default()).await;
    let tenant = place(&store, "home").await.id;
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    for path in [dir.clone(), dir.join("tenants")] {
        assert_eq!(mode(&path), 0o700, "{}", path.display());
    }
    for path in [dir.join("instance.db"), tenant_file(&dir, tenant)] {
        assert_eq!(mode(&path), 0o600, "{}", path.display());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_newer_instance_is_refused_with_the_way_out() {
    let (home, store) = home(Options::default()).await;
    close(store).await;
    let path = home.path().join("instance.db");
    sql(&path, "PRAGMA user_version = 99");
    let dir = home.path().to_owned();
    let open = move || StackSqlite::open(&dir, Arc::new(SeededIds::new()), Options::default()).err().unwrap();
    let fault = spawn_blocking(open).await.unwrap().to_string();
    assert!(fault.ends_with("run a newer kombify; nothing was changed"), "{fault}");
    assert_eq!(StackSqlite::look(&path).unwrap_err().to_string(), fault);
}
