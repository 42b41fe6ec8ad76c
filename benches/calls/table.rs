//! The table that the bench prints.

use std::time::Duration;

use crate::load::Round;

/// One case: the medians of its rounds.
pub(crate) struct Row {
    case: &'static str,
    streams: usize,
    pub(crate) calls_per_second: f64,
    p50: Duration,
    p99: Duration,
    /// By each runtime on the way; empty where the system does not tell.
    cpu: Vec<Duration>,
    /// In calls of bare tonic, with as many streams in the same run.
    pub(crate) ratio: f64,
}

impl Row {
    /// The row of a case; its ratio is not known yet.
    pub(crate) fn of(case: &'static str, streams: usize, rounds: &[Round]) -> Self {
        let mut rates: Vec<f64> = rounds.iter().map(|round| round.calls_per_second).collect();
        rates.sort_by(f64::total_cmp);
        let runtimes = rounds.iter().map(|round| round.cpu.len()).min().unwrap_or_default();
        Self {
            case,
            streams,
            calls_per_second: rates.get(rates.len() / 2).copied().unwrap_or(f64::NAN),
            p50: median(rounds, |round| round.p50),
            p99: median(rounds, |round| round.p99),
            cpu: (0..runtimes).map(|runtime| median(rounds, |round| round.cpu[runtime])).collect(),
            ratio: f64::NAN,
        }
    }
}

fn median(rounds: &[Round], of: impl Fn(&Round) -> Duration) -> Duration {
    let mut values: Vec<Duration> = rounds.iter().map(of).collect();
    values.sort_unstable();
    values.get(values.len() / 2).copied().unwrap_or_default()
}

/// Prints the rows, and what they were measured on.
pub(crate) fn print(rows: &[Row], goal: f64) {
    println!("| case | streams | calls/s | p50, ms | p99, ms | server CPU, µs a call | ratio |");
    println!("|---|---|---|---|---|---|---|");
    for row in rows {
        let millis = |time: Duration| time.as_secs_f64() * 1000.0;
        let cpu: Vec<_> =
            row.cpu.iter().map(|used| format!("{:.1}", used.as_secs_f64() * 1_000_000.0)).collect();
        println!(
            "| {} | {} | {:.0} | {:.3} | {:.3} | {} | {:.2} |",
            row.case,
            row.streams,
            row.calls_per_second,
            millis(row.p50),
            millis(row.p99),
            if cpu.is_empty() { "-".to_owned() } else { cpu.join(" + ") },
            row.ratio,
        );
    }
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let build =
        if cfg!(debug_assertions) { "a debug build, which says nothing about speed" } else { "release" };
    println!();
    println!(
        "{cores} cores, shared by the servers and the load; {build}. The goal for all rooms at 64 streams is {goal}."
    );
}
