//! What many tenants in one Stack cost: each gets a file of its own, is written to, and is read at random, beside bare
//! SQLite that does the same: the schema in a new file, a row into a file that stays open, a row out of it.
//!
//! `cargo bench --bench tenants` takes a minute and prints a table in Markdown, for 1,000 tenants or as many as
//! `KOMBIFY_TENANTS` says. Without `--bench`, which Cargo adds, or with `--quick`, there are few: then only that
//! everything succeeds means anything.
//!
//! Both sides make each write durable before they go on, and only the ratios within one run count.

use std::path::Path;
use std::process::ExitCode;
use std::slice;
use std::sync::Arc;
use std::time::{Duration, Instant};
use std::{env, fs};

use jiff::Timestamp;
use kombify_core::host::HostStore;
use kombify_core::placed::{Basis, Founder, PlacedStatus, PlacedTenant, Push};
use kombify_core::stack::{NewStack, StackStore};
use kombify_core::{Change, Clock as _, Ids, Plan, StackId, TenantId, TenantScope};
use kombify_mesh::system::{SystemClock, SystemIds};
use kombify_stack_sqlite::{Options, StackSqlite};
use rusqlite::{Connection, params};

type Fault = Box<dyn std::error::Error + Send + Sync>;

/// How many tenants there are, unless `KOMBIFY_TENANTS` says otherwise; in a quick run, always.
const TENANTS: usize = 1_000;
const QUICK: usize = 20;

/// How many reads there are for each tenant.
const READS: usize = 5;

/// A spec as people write them: 2 KiB.
const SPEC_BYTES: usize = 2_048;

/// The schema of a tenant's file.
const SCHEMA: &str = include_str!("../../migrations/tenant/0001_ground.sql");

/// One case: how long each time took, the shortest first.
struct Case {
    name: &'static str,
    times: Vec<Duration>,
}

impl Case {
    fn new(name: &'static str, mut times: Vec<Duration>) -> Self {
        times.sort_unstable();
        Self { name, times }
    }

    fn at(&self, share: f64) -> f64 {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            clippy::cast_precision_loss,
            reason = "a place in a list"
        )]
        let place = (self.times.len() as f64 * share) as usize;
        self.times.get(place.min(self.times.len() - 1)).map_or(f64::NAN, Duration::as_secs_f64)
    }

    /// Prints the row; the ratio is how many of the reference one of these costs, by the medians.
    fn print(&self, reference: &Self) {
        println!(
            "| {} | {:.3} | {:.3} | {} | {:.3} | {:.2} |",
            self.name,
            self.at(0.5) * 1_000.0,
            self.at(0.99) * 1_000.0,
            reference.name,
            reference.at(0.5) * 1_000.0,
            self.at(0.5) / reference.at(0.5),
        );
    }
}

/// What the process has taken from the system.
struct Taken {
    resident_mib: f64,
    open_files: usize,
}

impl Taken {
    fn now() -> Result<Self, Fault> {
        let status = fs::read_to_string("/proc/self/status")?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
        let kib: f64 = line.trim().trim_end_matches(" kB").parse()?;
        Ok(Self { resident_mib: kib / 1024.0, open_files: fs::read_dir("/proc/self/fd")?.count() })
    }
}

/// Numbers that look random and are the same in every run: by `SplitMix64`.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from(mixed ^ (mixed >> 31)).unwrap_or_default() % bound
    }
}

fn main() -> ExitCode {
    let given = |flag: &str| env::args().any(|argument| argument == flag);
    let quick = !given("--bench") || given("--quick") || given("--test");
    let asked = env::var_os("KOMBIFY_TENANTS").and_then(|count| count.to_str()?.parse().ok());
    let tenants = if quick { QUICK } else { asked.unwrap_or(TENANTS) };
    match run(tenants) {
        Ok(()) => ExitCode::SUCCESS,
        Err(fault) => {
            println!("the bench failed: {fault}");
            ExitCode::FAILURE
        }
    }
}

fn run(tenants: usize) -> Result<(), Fault> {
    let home = tempfile::tempdir()?;
    let bare = Bare::measure(home.path(), tenants)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let before = Taken::now()?;
    let store = StackSqlite::open(&home.path().join("stack"), Arc::new(SystemIds), Options::default())?;
    let (ours, behind) = runtime.block_on(async {
        let ours = Ours::measure(&store, tenants).await?;
        Ok::<_, Fault>((ours, Taken::now()?))
    })?;
    println!("| case | p50, ms | p99, ms | beside | its p50, ms | ratio |");
    println!("|---|---|---|---|---|---|");
    for (case, reference) in [
        (&ours.create, &bare.create),
        (&ours.write, &bare.write),
        (&ours.read, &bare.read),
        (&ours.read_again, &bare.read),
    ] {
        case.print(reference);
    }
    let options = Options::default();
    let build =
        if cfg!(debug_assertions) { "a debug build, which says nothing about speed" } else { "release" };
    println!();
    println!(
        "{tenants} tenants, at most {} of them open; {build}. They took {:.0} MiB and {} open files.",
        options.open_tenants,
        behind.resident_mib - before.resident_mib,
        behind.open_files - before.open_files,
    );
    Ok(())
}

/// Bare SQLite, as durable as ours.
struct Bare {
    create: Case,
    write: Case,
    read: Case,
}

impl Bare {
    fn measure(home: &Path, tenants: usize) -> Result<Self, Fault> {
        let open = |name: &str| {
            let connection = Connection::open(home.join(name))?;
            connection.pragma_update(None, "journal_mode", "WAL")?;
            connection.pragma_update(None, "synchronous", "FULL")?;
            Ok::<_, Fault>(connection)
        };
        let (mut create, mut write, mut read) = (Vec::new(), Vec::new(), Vec::new());
        for number in 0..tenants {
            let begun = Instant::now();
            open(&format!("bare-{number}.db"))?.execute_batch(&format!("BEGIN; {SCHEMA}; COMMIT"))?;
            create.push(begun.elapsed());
        }
        let connection = open("bare.db")?;
        connection.execute_batch("CREATE TABLE rows (id INTEGER PRIMARY KEY, spec TEXT NOT NULL) STRICT")?;
        let spec = "x".repeat(SPEC_BYTES);
        for number in 0..tenants {
            let begun = Instant::now();
            connection
                .prepare_cached("INSERT INTO rows (id, spec) VALUES (?1, ?2)")?
                .execute(params![i64::try_from(number)?, spec])?;
            write.push(begun.elapsed());
        }
        let mut random = Random(1);
        for _ in 0..tenants * READS {
            let begun = Instant::now();
            let found: String = connection
                .prepare_cached("SELECT spec FROM rows WHERE id = ?1")?
                .query_row([i64::try_from(random.below(tenants))?], |row| row.get(0))?;
            assert_eq!(found.len(), SPEC_BYTES);
            read.push(begun.elapsed());
        }
        Ok(Self {
            create: Case::new("the schema in a new file", create),
            write: Case::new("a row into an open file", write),
            read: Case::new("a row out of an open file", read),
        })
    }
}

/// The Stack's keep.
struct Ours {
    create: Case,
    write: Case,
    read: Case,
    read_again: Case,
}

impl Ours {
    async fn measure(store: &StackSqlite, tenants: usize) -> Result<Self, Fault> {
        let ids: &dyn Ids = &SystemIds;
        let now = SystemClock.now();
        let (mut create, mut write, mut stacks) = (Vec::new(), Vec::new(), Vec::new());
        for number in 0..tenants {
            let tenant = placed(ids.tenant(now), number, now)?;
            let begun = Instant::now();
            apply(store, &tenant, number).await?;
            create.push(begun.elapsed());
            stacks.push((tenant.id, ids.stack(now)));
        }
        let spec = "x".repeat(SPEC_BYTES);
        let limits = Plan::Enterprise.limits().into();
        for (tenant, stack) in &stacks {
            let new = NewStack { id: *stack, name: "media".parse()?, kit: None, spec_yaml: spec.clone() };
            let begun = Instant::now();
            StackStore::create(store, scope(*tenant), &change("stack.created", now), &new, limits).await?;
            write.push(begun.elapsed());
        }
        let (mut read, mut read_again) = (Vec::new(), Vec::new());
        let mut random = Random(1);
        for _ in 0..tenants * READS {
            let chosen = stacks.get(random.below(tenants)).copied().ok_or("no tenant was chosen")?;
            read.push(find(store, chosen).await?);
            read_again.push(find(store, chosen).await?);
        }
        Ok(Self {
            create: Case::new("a tenant is made", create),
            write: Case::new("a stack is made, tenant by tenant", write),
            read: Case::new("a stack of any tenant is read", read),
            read_again: Case::new("and read again", read_again),
        })
    }
}

async fn apply(store: &StackSqlite, tenant: &PlacedTenant, number: usize) -> Result<(), Fault> {
    let held = u32::try_from(number)?;
    let basis = match held {
        0 => Basis::Snapshot { page: 1, last: true },
        base_version => Basis::Change { base_version },
    };
    let push = Push { version: held + 1, basis, items: slice::from_ref(tenant).to_vec() };
    let change = change("tenants.applied", tenant.create_time);
    let held = HostStore::apply_tenants(store, &change, &push, u32::MAX).await?;
    if held.refused.is_empty() { Ok(()) } else { Err(format!("{:?}", held.refused).into()) }
}

async fn find(store: &StackSqlite, (tenant, stack): (TenantId, StackId)) -> Result<Duration, Fault> {
    let begun = Instant::now();
    let found = StackStore::find(store, scope(tenant), stack).await?.ok_or("a stack is not there")?;
    let took = begun.elapsed();
    assert_eq!(found.spec_yaml.len(), SPEC_BYTES);
    Ok(took)
}

fn placed(id: TenantId, number: usize, now: Timestamp) -> Result<PlacedTenant, Fault> {
    let slug = format!("tenant-{number}");
    Ok(PlacedTenant {
        id,
        slug: slug.parse()?,
        name: slug,
        owner: format!("org-{number}").parse()?,
        grant: None,
        status: PlacedStatus::Active,
        generation: 1,
        founder: Founder {
            sub: format!("founder-{number}").parse()?,
            email: String::new(),
            name: String::new(),
        },
        create_time: now,
    })
}

fn scope(tenant: TenantId) -> TenantScope {
    TenantScope::system(tenant, "a bench reads what it wrote")
}

fn change(action: &'static str, now: Timestamp) -> Change {
    Change::system("stack", action, SystemIds.request(now), now)
}
