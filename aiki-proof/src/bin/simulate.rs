//! Simulates many seeds, or one again.
//!
//! `cargo run -p aiki-proof --release --bin simulate -- --seeds 10000`, and for a seed that failed
//! `... --bin simulate -- --seed 4711 --trace`.

use std::collections::BTreeSet;
use std::process::ExitCode;
use std::time::Instant;

use aiki_proof::history::Fault;
use aiki_proof::sim::{Options, Store, WAYS, simulate};
use clap::Parser;

/// Simulates server, workers and transport with faults, and judges what happened.
#[derive(Parser)]
struct Args {
    /// How many seeds.
    #[arg(long, default_value_t = 200)]
    seeds: u64,
    /// The first of them.
    #[arg(long, default_value_t = 1)]
    first: u64,
    /// Only this one.
    #[arg(long)]
    seed: Option<u64>,
    /// Turns with faults.
    #[arg(long, default_value_t = 300)]
    steps: u32,
    /// Workers.
    #[arg(long, default_value_t = 3)]
    workers: usize,
    /// Where the server keeps its runs.
    #[arg(long, value_enum, default_value_t)]
    store: Store,
    /// Print all that happened, and what became of runs that broke an invariant.
    #[arg(long)]
    trace: bool,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let options = Options { steps: args.steps, workers: args.workers, store: args.store, bug: None };
    let seeds = match args.seed {
        Some(seed) => seed..seed + 1,
        None => args.first..args.first + args.seeds,
    };
    let (began, count) = (Instant::now(), seeds.end - seeds.start);
    let (mut failed, mut runs, mut things) = (Vec::new(), 0, 0);
    let (mut faults, mut ways) = (BTreeSet::new(), BTreeSet::new());
    for seed in seeds {
        match simulate(seed, options) {
            Ok(outcome) => {
                if args.trace {
                    print!("{}{}", outcome.trace(), outcome.broken());
                }
                if !outcome.violations.is_empty() {
                    print!("{outcome}");
                    failed.push(seed);
                }
                runs += outcome.end.runs.len();
                things += outcome.history.len();
                faults.extend(outcome.faults());
                ways.extend(outcome.ways);
            }
            Err(error) => {
                println!("seed {seed}: {error}");
                failed.push(seed);
            }
        }
    }
    println!("{count} seeds of {} steps in {:?}: {runs} runs, {things} things happened", args.steps, began.elapsed());
    if args.seed.is_none() {
        let missing: Vec<_> = Fault::ALL.iter().filter(|fault| !faults.contains(fault)).collect();
        println!("faults that never came: {missing:?}");
        let missing: Vec<_> = WAYS.iter().filter(|way| !ways.contains(*way)).collect();
        println!("ways that were never taken: {missing:?}");
    }
    if failed.is_empty() {
        return ExitCode::SUCCESS;
    }
    println!("failed: {failed:?}; again with --seed {} --trace", failed[0]);
    ExitCode::FAILURE
}
