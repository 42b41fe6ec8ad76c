//! What the rooms of a module cost: a unary call through all of them, with a verified token, against the same call to
//! bare tonic; and the call as JSON through the gateway.
//!
//! `cargo bench --bench calls 2>/dev/null` takes a minute and a quarter and prints a table in Markdown. The log is
//! written as in production, one line for every request, and goes to the standard error: to a terminal it would cost
//! more than what is measured. Without `--bench`, which Cargo adds, or with `--quick`, the rounds are short: then only
//! that every call succeeds means anything.
//!
//! The servers and the load share one process and the cores of one machine, and only the ratios within one run count.

mod load;
mod mint;
mod servers;
mod table;

use std::io::IsTerminal as _;
use std::process::ExitCode;
use std::time::Duration;

use tokio::runtime::Runtime;

use self::load::{Round, Target, gateway_answer, rooms_answer};
use self::mint::Mint;
use self::servers::House;
use self::table::Row;

type Fault = Box<dyn std::error::Error + Send + Sync>;

/// How many calls are under way at once, case by case.
const STREAMS: [usize; 3] = [1, 8, 64];

/// How many calls are under way at once where the gateway is measured, too.
const GATEWAY_STREAMS: usize = 64;

/// How many rounds each case has: the median is told.
const ROUNDS: usize = 3;

/// The goal: calls through all rooms, in calls of bare tonic, at the most streams.
const GOAL: f64 = 0.85;

/// However slow the machine is, the bench ends.
const LONGEST: Duration = Duration::from_secs(85);

/// The names of the runtimes, by which their threads are known.
const SERVERS: &str = "servers";
const GATEWAY: &str = "gateway";
const LOAD: &str = "load";

/// How long each case is called.
struct Plan {
    warm_up: Duration,
    round: Duration,
}

fn main() -> ExitCode {
    let given = |flag: &str| std::env::args().any(|argument| argument == flag);
    let quick = !given("--bench") || given("--quick") || given("--test");
    let plan = if quick {
        Plan { warm_up: Duration::from_millis(100), round: Duration::from_millis(300) }
    } else {
        Plan { warm_up: Duration::from_secs(1), round: Duration::from_secs(3) }
    };
    if !quick && std::io::stderr().is_terminal() {
        println!("the log would fill the terminal, and be measured: add 2>/dev/null");
        return ExitCode::FAILURE;
    }
    match run(&plan) {
        Ok(()) => ExitCode::SUCCESS,
        Err(fault) => {
            println!("the bench failed: {fault}"); // The standard error is thrown away, most of the time.
            ExitCode::FAILURE
        }
    }
}

fn run(plan: &Plan) -> Result<(), Fault> {
    kombify_mesh::telemetry::start_logs("info");
    let metrics = kombify_mesh::telemetry::start_metrics()?;
    let (servers, gateway, load) = (runtime(SERVERS)?, runtime(GATEWAY)?, runtime(LOAD)?);
    let mint = Mint::make()?;
    let tokens = mint.tokens()?;
    let house = House::new(metrics, mint.published());

    let rooms = servers.block_on(house.rooms())?;
    let front = gateway.block_on(house.gateway(&rooms.url()))?;
    let answer = load.block_on(rooms_answer(&rooms, &tokens))?;
    let bare = servers.block_on(servers::bare(answer.clone()))?;
    let json = load.block_on(gateway_answer(&front, &tokens))?;

    let measured = async {
        let mut rows = Vec::new();
        for streams in STREAMS {
            let mut targets = vec![
                Target::grpc("bare tonic", &[SERVERS], &bare, streams, &[], &answer).await?,
                Target::grpc("all rooms", &[SERVERS], &rooms, streams, &tokens, &answer).await?,
            ];
            if streams == GATEWAY_STREAMS {
                let both = &[GATEWAY, SERVERS];
                targets
                    .push(Target::json("JSON, by the gateway", both, &front, streams, &tokens, &json).await?);
            }
            rows.extend(measure(plan, streams, &mut targets).await?);
        }
        Ok::<_, Fault>(rows)
    };
    let rows = load
        .block_on(async { tokio::time::timeout(LONGEST, measured).await })
        .map_err(|_| format!("it was not done after {} s", LONGEST.as_secs()))??;
    table::print(&rows, GOAL);
    Ok(())
}

/// A runtime as a process of ours has one, whose threads can be told from those of the others.
fn runtime(name: &str) -> Result<Runtime, Fault> {
    Ok(tokio::runtime::Builder::new_multi_thread().thread_name(name).enable_all().build()?)
}

/// Calls the targets in turn, so that what else the machine does meets all of them.
async fn measure(plan: &Plan, streams: usize, targets: &mut [Target]) -> Result<Vec<Row>, Fault> {
    for target in &mut *targets {
        target.round(plan.warm_up).await?;
    }
    let mut rounds: Vec<Vec<Round>> = targets.iter().map(|_| Vec::new()).collect();
    for _ in 0..ROUNDS {
        for (target, rounds) in targets.iter_mut().zip(&mut rounds) {
            rounds.push(target.round(plan.round).await?);
        }
    }
    let rows = targets.iter().zip(&rounds).map(|(target, rounds)| Row::of(target.name, streams, rounds));
    let mut rows: Vec<Row> = rows.collect();
    let bare = rows.first().map_or(f64::NAN, |row| row.calls_per_second);
    for row in &mut rows {
        row.ratio = row.calls_per_second / bare;
    }
    Ok(rows)
}
