//! Whichever side dies, in whatever write and at whatever moment: after the next start Admin and the Stack have the same
//! tenants in the same state, and nothing is half done.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::process::ExitStatusExt as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use kombify_core::{Code, Ids as _};
use kombify_mesh::system::SystemIds;
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use super::sso::{Service, is_refused};
use super::{answers, files, instance, status_of_stack, tenant, until};
use crate::answer::{Answer, Call};
use crate::browser::{Account, sign_up};
use crate::house::{House, Module, Outside};

/// The signal that ends a process which aborts.
const SIGABRT: i32 = 6;

/// The moments at which a write can end the process.
const BEFORE: &str = "before-commit";
const AFTER: &str = "after-commit";

/// How long both sides may take to agree, once both are up.
const AGREED_WITHIN: Duration = Duration::from_secs(20);

/// The time of grace of the tenants that are erased here: a second, and somewhat more.
const GRACE: Duration = Duration::from_millis(1_200);

/// How often the Stack is killed in the storm, unless `KOMBIFY_KILLS` says otherwise.
const KILLS: u64 = 30;

/// How long the Stack lives at most between two kills of the storm: some die while they start.
const LIVES_AT_MOST: u64 = 2_500;

/// How many tenants a creator of the storm has for each kill: enough that kills find it at work.
const TENANTS: u64 = 8;

/// How many of them it keeps at most: an instance has few places.
const KEPT: usize = 15;

/// How long a creator rests after each.
const REST: Duration = Duration::from_millis(100);

/// How many stacks the storm lets stand at most: within every limit of the plan.
const STACKS: usize = 10;

/// These tests need a binary that can be told to die.
fn needed() {
    #[cfg(not(feature = "failpoints"))]
    panic!("this test needs the feature failpoints: run `make test`");
}

/// Somebody who owns a tenant, or is about to.
#[derive(Clone)]
struct Owner {
    slug: String,
    token: String,
}

impl Owner {
    /// Signs up.
    async fn new(house: &House, slug: &str) -> Self {
        let token = sign_up(house.url(Module::Idp), &Account::of(slug)).await.access_token;
        Self { slug: slug.to_owned(), token }
    }

    /// Creates the tenant; the same call again is a repeat.
    fn create(&self, outside: &Outside) -> Call {
        let body = json!({"slug": self.slug, "name": self.slug});
        outside.call("POST", "/v1/tenants").by(&self.token).json(&body).header("idempotency-key", &self.slug)
    }
}

/// A step in the life of a tenant.
#[derive(Clone, Copy, Debug)]
enum Step {
    Suspend,
    Resume,
    Delete,
    Undelete,
}

impl Step {
    /// Every step, each from where the one before it leads.
    const ALL: [Self; 4] = [Self::Suspend, Self::Resume, Self::Delete, Self::Undelete];

    /// The action that Admin writes.
    const fn action(self) -> &'static str {
        match self {
            Self::Suspend => "tenant.suspended",
            Self::Resume => "tenant.resumed",
            Self::Delete => "tenant.deleted",
            Self::Undelete => "tenant.undeleted",
        }
    }

    /// Where it comes from, and where it leads.
    const fn way(self) -> (&'static str, &'static str) {
        match self {
            Self::Suspend => ("active", "suspended"),
            Self::Resume => ("suspended", "active"),
            Self::Delete => ("active", "deleted"),
            Self::Undelete => ("deleted", "active"),
        }
    }

    /// The call, by the platform's people.
    fn call(self, outside: &Outside, root: &str, id: &str) -> Call {
        let (verb, reason) = match self {
            Self::Suspend => ("suspend", Some(json!({"reason": "a test"}))),
            Self::Resume => ("resume", None),
            Self::Delete => ("delete", Some(json!({"reason": "a test"}))),
            Self::Undelete => ("undelete", None),
        };
        let call = outside.call("POST", &format!("/v1/admin/tenants/{id}:{verb}")).by(root);
        if let Some(reason) = reason { call.json(&reason) } else { call }
    }
}

/// A mesh that is up, whose Stack runs in a process of its own, and where nobody calls too often.
fn up_apart(env: &[(&'static str, &str)]) -> House {
    let mut house = House::fresh_apart().without_limits();
    for (key, value) in env {
        house = house.with_env(key, *value);
    }
    house.start();
    house.start_stack(&[]);
    house
}

/// Starts the Stack, which dies at that point of what Admin pushes first, and starts it again.
fn die_in_the_stack(house: &mut House, failpoint: &str) {
    house.spawn_stack(&[("KOMBIFY_FAILPOINT", failpoint)]);
    let status = house.wait_for_the_stacks_end();
    assert_eq!(status.signal(), Some(SIGABRT), "{failpoint}: {status}");
    house.start_stack(&[]);
}

/// The status of a tenant, as Admin lists it; empty where it is not there.
async fn status(house: &House, root: &str, slug: &str) -> String {
    let tenants = house.all(root, "/v1/admin/tenants").await;
    let tenant = tenants.iter().find(|tenant| tenant["slug"] == slug);
    tenant.map_or(String::new(), |tenant| tenant["status"].as_str().unwrap().to_owned())
}

/// Waits until both sides agree.
async fn agree(house: &House, root: &str, owners: &[Owner], when: &str) {
    let deadline = Instant::now() + AGREED_WITHIN;
    while let Err(difference) = compare(house, root, owners).await {
        assert!(Instant::now() < deadline, "{when}: {difference}");
        sleep(Duration::from_millis(50)).await;
    }
}

/// Says in what both sides differ: in which tenants there are, in what they let their owners do, or in what is on its way.
async fn compare(house: &House, root: &str, owners: &[Owner]) -> Result<(), String> {
    let tenants = house.all(root, "/v1/admin/tenants").await;
    let by_slug: BTreeMap<&str, &Value> =
        tenants.iter().map(|tenant| (tenant["slug"].as_str().unwrap(), tenant)).collect();
    if by_slug.len() != tenants.len() {
        return Err(format!("a tenant is doubled: {tenants:?}"));
    }
    let ids: BTreeSet<String> =
        tenants.iter().map(|tenant| tenant["id"].as_str().unwrap().to_owned()).collect();
    let files = files(&house.data().join("stack"));
    if ids != files {
        return Err(format!("Admin has {ids:?}, the Stack {files:?}"));
    }
    let places = instance(house, root).await["tenantCount"].clone();
    if places != tenants.len() {
        return Err(format!("{places} places are taken by {} tenants", tenants.len()));
    }
    for owner in owners {
        let expected = match by_slug.get(owner.slug.as_str()).map(|tenant| tenant["status"].as_str().unwrap())
        {
            Some("active") => (200, Value::Null),
            Some("suspended") => (403, json!("TENANT_SUSPENDED")),
            Some("deleted") | None => (404, json!("NOT_FOUND")),
            Some(other) => return Err(format!("{} is {other}", owner.slug)),
        };
        let call = house.call_at(Module::Stack, "GET", "/v1/stacks?limit=100").by(&owner.token);
        let answer = call.header("x-tenant-id", &owner.slug).try_send().await;
        let answer = answer.map_err(|cause| format!("the Stack does not answer: {cause}"))?;
        if (answer.status, answer.json["error"]["code"].clone()) != expected {
            return Err(format!("{} is {expected:?} by Admin: {}", owner.slug, answer.text));
        }
        if answer.status == 200 && by_slug[owner.slug.as_str()]["usage"]["stacks"] != answer.list().len() {
            return Err(format!("Admin counts other stacks of {} than there are", owner.slug));
        }
    }
    let syncs = status_of_stack(house, root).await["syncs"].clone();
    let waits = |sync: &Value| sync["pending"] != 0 || sync["lastError"] != "";
    if syncs.as_array().unwrap().iter().any(waits) {
        return Err(format!("something is on its way: {syncs}"));
    }
    Ok(())
}

/// Lets Admin die in every step of a tenant's life.
async fn admin_dies(moment: &str) {
    needed();
    let mut house = up_apart(&[]);
    let root = house.token("root");
    let owner = Owner::new(&house, "home").await;
    let owners = [owner.clone()];
    let there = moment == AFTER;

    let failpoint = format!("tenant.created:{moment}");
    house.kill();
    house.start_with(&[("KOMBIFY_FAILPOINT", &failpoint)]);
    let dying = owner.create(&house.outside()).try_send().await;
    dying.unwrap_err();
    assert_eq!(house.wait_for_its_end().signal(), Some(SIGABRT), "{failpoint}");
    house.start();
    agree(&house, &root, &owners, &failpoint).await;
    let before = files(&house.data().join("stack"));
    assert_eq!(before.len(), usize::from(there), "{failpoint}");
    let created = owner.create(&house.outside()).send().await;
    let id = created.data()["id"].as_str().unwrap().to_owned();
    assert!(!there || before.contains(&id), "{failpoint}: the same call is the same tenant");
    assert_eq!(owner.create(&house.outside()).send().await.data()["id"], id, "{failpoint}");
    agree(&house, &root, &owners, &failpoint).await;

    for step in Step::ALL {
        let failpoint = format!("{}:{moment}", step.action());
        let (from, to) = step.way();
        house.kill();
        house.start_with(&[("KOMBIFY_FAILPOINT", &failpoint)]);
        step.call(&house.outside(), &root, &id).try_send().await.unwrap_err();
        assert_eq!(house.wait_for_its_end().signal(), Some(SIGABRT), "{failpoint}");
        house.start();
        agree(&house, &root, &owners, &failpoint).await;
        assert_eq!(status(&house, &root, "home").await, if there { to } else { from }, "{failpoint}");
        let again = step.call(&house.outside(), &root, &id).send().await;
        if there {
            again.refused(412, "PRECONDITION_FAILED");
        } else {
            assert_eq!(again.data()["status"], to, "{failpoint}");
        }
        agree(&house, &root, &owners, &failpoint).await;
        assert_eq!(status(&house, &root, "home").await, to, "{failpoint}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_admin_did_not_commit_the_stack_never_sees() {
    admin_dies(BEFORE).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_admin_committed_and_told_nobody_the_stack_has_after_the_next_start() {
    admin_dies(AFTER).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stack_that_dies_while_it_takes_a_tenant_has_it_once_after_its_start() {
    needed();
    let mut house = up_apart(&[]);
    let root = house.token("root");
    let mut owners = Vec::new();
    for write in ["tenant.founded", "tenants.applied"] {
        for moment in [BEFORE, AFTER] {
            let failpoint = format!("{write}:{moment}");
            let owner = Owner::new(&house, &failpoint.replace(['.', ':'], "-")).await;
            owners.push(owner.clone());
            house.kill_stack();
            let mut creating = JoinSet::new();
            let create = owner.create(&house.outside());
            creating.spawn(async move { create.send().await });
            until("the place is taken", AGREED_WITHIN, async || {
                status(&house, &root, &owner.slug).await == "creating"
            })
            .await;
            die_in_the_stack(&mut house, &failpoint);
            agree(&house, &root, &owners, &failpoint).await;
            let created = creating.join_next().await.unwrap().unwrap();
            let id = created.data()["id"].clone();
            assert!(files(&house.data().join("stack")).contains(id.as_str().unwrap()), "{failpoint}");
            assert_eq!(owner.create(&house.outside()).send().await.data()["id"], id, "{failpoint}");
            let call = house.call_at(Module::Stack, "GET", "/v1/members").by(&owner.token);
            assert_eq!(call.send().await.list().len(), 1, "{failpoint}: its founder is there once");
        }
    }
    agree(&house, &root, &owners, "behind everything").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stack_that_dies_while_it_applies_a_step_of_a_tenants_life_has_taken_it_after_its_start() {
    needed();
    let mut house = up_apart(&[]);
    let [alice, root] = ["alice", "root"].map(|user| house.token(user));
    let home = tenant(&house, &alice, "home").await;
    let owners = [Owner { slug: "home".into(), token: alice }];
    let id = home["id"].as_str().unwrap();
    super::stack(&house, &owners[0].token, "media").await.data();
    agree(&house, &root, &owners, "at first").await;
    for moment in [BEFORE, AFTER] {
        for step in Step::ALL {
            let when = format!("{step:?}, {moment}");
            house.kill_stack();
            assert_eq!(
                step.call(&house.outside(), &root, id).send().await.data()["status"],
                step.way().1,
                "{when}"
            );
            die_in_the_stack(&mut house, &format!("tenants.applied:{moment}"));
            agree(&house, &root, &owners, &when).await;
            assert_eq!(status(&house, &root, "home").await, step.way().1, "{when}");
        }
    }
    let kept = house.call("GET", "/v1/stacks").by(&owners[0].token).send().await;
    assert_eq!(kept.list().len(), 1, "what its members made outlives it all");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_erasure_that_either_side_died_in_comes_to_its_end() {
    needed();
    let mut house =
        up_apart(&[("KOMBIFY__ADMIN__GRACE_SECONDS", "1"), ("KOMBIFY__ADMIN__SWEEP_SECONDS", "1")]);
    let root = house.token("root");
    let stays = Owner::new(&house, "stays").await;
    stays.create(&house.outside()).send().await.data();
    for (side, write) in [
        (Module::Admin, "tenant.erasing"),
        (Module::Stack, "tenants.erasing"),
        (Module::Stack, "tenants.applied"),
    ] {
        for moment in [BEFORE, AFTER] {
            let failpoint = format!("{write}:{moment}");
            let goes = Owner::new(&house, &failpoint.replace(['.', ':'], "-")).await;
            let created = goes.create(&house.outside()).send().await;
            let id = created.data()["id"].as_str().unwrap().to_owned();
            let owners = [stays.clone(), goes.clone()];
            agree(&house, &root, &owners, &failpoint).await;
            if side == Module::Admin {
                Step::Delete.call(&house.outside(), &root, &id).send().await.data();
                house.kill();
                sleep(GRACE).await; // What is due then is erased by the first sweep.
                let ended = house.start_to_its_end(&[("KOMBIFY_FAILPOINT", &failpoint)]);
                assert_eq!(ended.signal(), Some(SIGABRT), "{failpoint}: {ended}");
                house.start();
            } else {
                house.kill_stack();
                Step::Delete.call(&house.outside(), &root, &id).send().await.data();
                until("its time of grace is over", AGREED_WITHIN, async || {
                    status(&house, &root, &goes.slug).await.is_empty()
                })
                .await;
                assert!(
                    files(&house.data().join("stack")).contains(&id),
                    "{failpoint}: the Stack does not know yet"
                );
                die_in_the_stack(&mut house, &failpoint);
            }
            until("it is erased", AGREED_WITHIN, async || {
                status(&house, &root, &goes.slug).await.is_empty()
                    && !files(&house.data().join("stack")).contains(&id)
            })
            .await;
            agree(&house, &root, &owners, &failpoint).await;
            let left = fs::read_dir(house.data().join("stack/tenants")).unwrap();
            let left: Vec<_> = left.map(|entry| entry.unwrap().file_name()).collect();
            assert!(left.iter().all(|name| !name.to_str().unwrap().contains(&id)), "{failpoint}: {left:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_launch_that_either_side_died_in_lets_nobody_in_twice() {
    needed();
    let mut house = up_apart(&[]);
    let [alice, root] = ["alice", "root"].map(|user| house.token(user));
    tenant(&house, &alice, "home").await;
    let cloud = Service::cloud(&house, &root).await;
    let used = "the launch code was used already";
    for moment in [BEFORE, AFTER] {
        let rows =
            async |house: &House| house.all(&root, "/v1/admin/audit?action=launch.code.issued").await.len();
        let failpoint = format!("launch.code.issued:{moment}");
        let before = rows(&house).await;
        house.kill();
        house.start_with(&[("KOMBIFY_FAILPOINT", &failpoint)]);
        cloud.issue(Some(&alice), "home", "").await.unwrap_err();
        assert_eq!(house.wait_for_its_end().signal(), Some(SIGABRT), "{failpoint}");
        house.start();
        assert_eq!(rows(&house).await - before, usize::from(moment == AFTER), "{failpoint}");

        let failpoint = format!("launch.code.redeemed:{moment}");
        house.kill();
        house.start_with(&[("KOMBIFY_FAILPOINT", &failpoint)]);
        let code = cloud.issue(Some(&alice), "home", "").await.unwrap().code;
        is_refused(cloud.exchange(&code).await, Code::ServiceUnavailable, "");
        assert_eq!(house.wait_for_its_end().signal(), Some(SIGABRT), "{failpoint}");
        house.start();
        let again = cloud.exchange(&code).await;
        if moment == AFTER {
            is_refused(again, Code::AuthInvalid, used);
        } else {
            enters(&house, &again.unwrap().token).await;
        }

        let failpoint = format!("user.login:{moment}");
        house.kill_stack();
        house.start_stack(&[("KOMBIFY_FAILPOINT", &failpoint)]);
        until("the Stack answers", AGREED_WITHIN, async || answers(&house, Module::Stack).await).await;
        let code = cloud.issue(Some(&alice), "home", "").await.unwrap().code;
        cloud.exchange(&code).await.unwrap_err();
        let ended = house.wait_for_the_stacks_end();
        assert_eq!(ended.signal(), Some(SIGABRT), "{failpoint}: {ended}");
        house.start_stack(&[]);
        until("the Stack answers", AGREED_WITHIN, async || answers(&house, Module::Stack).await).await;
        is_refused(cloud.exchange(&code).await, Code::AuthInvalid, used);
        let code = cloud.issue(Some(&alice), "home", "").await.unwrap().code;
        enters(&house, &cloud.exchange(&code).await.unwrap().token).await;
    }
}

/// The session is good.
async fn enters(house: &House, session: &str) {
    house.call_at(Module::Stack, "GET", "/v1/stacks").by(session).send().await.data();
}

/// Numbers that look random, and are the same for the same seed: by `SplitMix64`.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    }
}

/// A number of the environment.
fn number(key: &str) -> Option<u64> {
    let value = std::env::var_os(key)?;
    Some(value.to_str().and_then(|value| value.parse().ok()).unwrap_or_else(|| panic!("{key} is no number")))
}

/// The definite answer to a call that is made again as long as the Stack is away or dies of it.
async fn insist(mut call: impl FnMut() -> Call) -> Answer {
    loop {
        match call().try_send().await {
            Ok(answer) if !matches!(answer.status, 502..=504) => return answer,
            Ok(_) | Err(_) => sleep(Duration::from_millis(20)).await,
        }
    }
}

/// A tenant that the storm created.
struct Created {
    owner: Owner,
    id: Value,
    /// Whether it was deleted since.
    deleted: bool,
}

/// Creates one tenant after the other, and deletes most of them.
async fn create_and_delete(outside: Outside, owners: Vec<Owner>, stop: Arc<AtomicBool>) -> Vec<Created> {
    let (mut created, each) = (Vec::new(), owners.len().div_ceil(KEPT));
    for (count, owner) in owners.into_iter().enumerate() {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let answer = insist(|| owner.create(&outside)).await;
        let id = answer.data()["id"].clone();
        let deleted = count % each != 0;
        if deleted {
            let path = format!("/v1/tenants/{}", owner.slug);
            let answer = insist(|| outside.call("DELETE", &path).by(&owner.token)).await;
            assert_eq!(answer.status, 200, "{}", answer.text);
        }
        created.push(Created { owner, id, deleted });
        sleep(REST).await;
    }
    created
}

/// Launches into a tenant again and again, and gives the codes with the sessions that they gave; none where the answer
/// died on its way.
async fn launch(
    cloud: Arc<Service>,
    token: String,
    tenant: &'static str,
    stop: Arc<AtomicBool>,
) -> Vec<(String, Option<String>)> {
    let mut launched = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        let code = cloud.issue(Some(&token), tenant, "").await.unwrap().code;
        let session = loop {
            match cloud.exchange(&code).await {
                Ok(session) => break Some(session.token),
                Err(fault) if fault.code() == tonic::Code::Unauthenticated => {
                    is_refused::<()>(Err(fault), Code::AuthInvalid, "the launch code was used already");
                    break None;
                }
                Err(_) => sleep(Duration::from_millis(20)).await,
            }
        };
        launched.push((code, session));
        sleep(Duration::from_millis(30)).await;
    }
    launched
}

/// Suspends and resumes a tenant; it ends as it happens to be.
async fn suspend_and_resume(outside: Outside, root: String, id: String, stop: Arc<AtomicBool>) {
    for step in [Step::Suspend, Step::Resume].into_iter().cycle() {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        step.call(&outside, &root, &id).send().await.data();
        sleep(Duration::from_millis(70)).await;
    }
}

/// Makes and deletes stacks, and gives the ids of those that must be there, with their names.
async fn make_stacks(outside: Outside, token: String, stop: Arc<AtomicBool>) -> BTreeMap<String, String> {
    let mut there = BTreeMap::new();
    for count in 0.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let name = format!("stack-{count}");
        let make = || {
            let call = outside.call("POST", "/v1/stacks").by(&token).json(&json!({"name": name}));
            call.header("idempotency-key", &name)
        };
        let answer = insist(make).await;
        there.insert(answer.data()["id"].as_str().unwrap().to_owned(), name);
        if there.len() > STACKS {
            let (id, _) = there.pop_first().unwrap();
            let deleted = insist(|| outside.call("DELETE", &format!("/v1/stacks/{id}")).by(&token)).await;
            // It may have been deleted by the call before, whose answer died on its way.
            assert!(matches!(deleted.status, 200 | 404), "{}", deleted.text);
        }
    }
    there
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stack_that_is_killed_at_random_moments_of_a_storm_loses_and_doubles_nothing() {
    let kills = number("KOMBIFY_KILLS").unwrap_or(KILLS);
    let seed = number("KOMBIFY_SEED").unwrap_or_else(|| {
        let mut seed = [0; 8];
        SystemIds.fill(&mut seed);
        u64::from_le_bytes(seed)
    });
    println!("KOMBIFY_KILLS={kills} KOMBIFY_SEED={seed}");
    let mut house = up_apart(&[
        ("KOMBIFY__STACK__MAX_TENANTS", "10000"),
        ("KOMBIFY__ADMIN__GRACE_SECONDS", "1"),
        ("KOMBIFY__ADMIN__SWEEP_SECONDS", "1"),
    ]);
    let [alice, carol, root] = ["alice", "carol", "root"].map(|user| house.token(user));
    let home = tenant(&house, &alice, "home").await["id"].as_str().unwrap().to_owned();
    tenant(&house, &carol, "carols").await;
    let [mut first, mut second] = [Vec::new(), Vec::new()];
    for number in 0..kills * TENANTS {
        first.push(Owner::new(&house, &format!("first-{number}")).await);
        second.push(Owner::new(&house, &format!("second-{number}")).await);
    }
    let cloud = Arc::new(Service::cloud(&house, &root).await);
    let (stop, outside) = (Arc::new(AtomicBool::new(false)), house.outside());
    let mut creators = JoinSet::new();
    for owners in [first, second] {
        creators.spawn(create_and_delete(outside.clone(), owners, Arc::clone(&stop)));
    }
    let mut others = JoinSet::new();
    others.spawn(suspend_and_resume(outside.clone(), root.clone(), home, Arc::clone(&stop)));
    let mut makers = JoinSet::new();
    makers.spawn(make_stacks(outside.clone(), carol.clone(), Arc::clone(&stop)));
    let mut launchers = JoinSet::new();
    launchers.spawn(launch(Arc::clone(&cloud), carol.clone(), "carols", Arc::clone(&stop)));

    let mut random = Random(seed);
    for kill in 0..kills {
        sleep(Duration::from_millis(random.below(LIVES_AT_MOST))).await;
        assert!(house.stack_runs(), "the Stack ended by itself before kill {kill}");
        house.kill_stack();
        house.spawn_stack(&[]);
    }
    stop.store(true, Ordering::Relaxed);
    let created: Vec<Created> = creators.join_all().await.into_iter().flatten().collect();
    let stacks = makers.join_all().await.pop().unwrap();
    let launched = launchers.join_all().await.pop().unwrap();
    others.join_all().await;
    assert!(house.stack_runs(), "the Stack ended by itself");

    let (gone, kept): (Vec<_>, Vec<_>) = created.into_iter().partition(|tenant| tenant.deleted);
    until("every deleted tenant is erased", AGREED_WITHIN, async || {
        files(&house.data().join("stack")).len() == kept.len() + 2
    })
    .await;
    let mut owners: Vec<Owner> = kept.iter().chain(&gone).map(|tenant| tenant.owner.clone()).collect();
    owners.push(Owner { slug: "home".into(), token: alice });
    owners.push(Owner { slug: "carols".into(), token: carol.clone() });
    agree(&house, &root, &owners, "behind the storm").await;
    for Created { owner, id, .. } in &kept {
        assert_eq!(&owner.create(&outside).send().await.data()["id"], id, "the same call is the same tenant");
    }
    for Created { owner, .. } in &gone {
        owner.create(&outside).send().await.refused(404, "NOT_FOUND");
    }
    let listed = house.all(&carol, "/v1/stacks").await;
    let word = |stack: &Value, field: &str| stack[field].as_str().unwrap().to_owned();
    let listed: BTreeMap<_, _> =
        listed.iter().map(|stack| (word(stack, "id"), word(stack, "name"))).collect();
    assert_eq!(listed, stacks);
    let rows = house.all(&root, "/v1/admin/audit?action=launch.code.redeemed").await;
    let redeemed = rows.iter().filter(|row| row["outcome"] == "done").count();
    assert_eq!(redeemed, launched.len(), "each code was redeemed once");
    let sessions: BTreeSet<&String> = launched.iter().filter_map(|(_, session)| session.as_ref()).collect();
    for session in &sessions {
        enters(&house, session).await;
    }
    for (code, _) in &launched {
        is_refused(cloud.exchange(code).await, Code::AuthInvalid, "the launch code was used already");
    }
    println!(
        "{} tenants stay, {} came and went, {} stacks are there, {} codes were redeemed, {} gave a session",
        kept.len() + 2,
        gone.len(),
        stacks.len(),
        launched.len(),
        sessions.len()
    );
}
