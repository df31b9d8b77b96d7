//! Server, Redis and worker as processes of one machine, and the load from this one.
//!
//! ```text
//! cargo bench -p integration-tests --bench three_processes            # -- --quick for a first look
//! ```
//!
//! The database is a SQLite file; with `--postgres` a Postgres of its own, which writes durably.

#![allow(clippy::expect_used, reason = "a benchmark that cannot run stops")]

mod echo;
mod raw_commits;
mod usage;

use std::time::Instant;

use aiki::ClientConfig;
use aiki::prelude::*;
use futures::StreamExt;
use integration_tests::chain::{self, Chain, Chains};
use integration_tests::program::{self, Program};
use integration_tests::redis::{RedisServer, command, connect};
use integration_tests::worker_process::WorkerProcess;
use test_postgres::PostgresServer;

const SERVER: &str = env!("CARGO_BIN_EXE_server-program");
const WORKER: &str = env!("CARGO_BIN_EXE_remote-worker");
const IN_FLIGHT: usize = 64;
const ROUNDS: usize = 3;

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    // `cargo test --benches` runs this program too: then it only has to start.
    if arguments.iter().any(|argument| argument == "--test") {
        return;
    }
    let postgres = arguments.iter().any(|argument| argument == "--postgres");
    let share = if arguments.iter().any(|argument| argument == "--quick") { 10 } else { 1 };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime can be made");
    runtime.block_on(async {
        println!("\nload of the machine before: {}", usage::load());
        for (name, in_flight, requests) in [("64 in flight", IN_FLIGHT, 20_000), ("one at a time", 1, 3_000)] {
            let mut rates = Vec::new();
            for _ in 0..ROUNDS {
                rates.push(echo::rate(requests / share, in_flight).await);
            }
            print(&format!("bare JSON post and echo, {name}"), "/s", 0, rates);
        }
        let postgres = if postgres { Some(PostgresServer::start().await) } else { None };
        if let Some(postgres) = &postgres {
            for sessions in [IN_FLIGHT, 1] {
                let rate = async || raw_commits::postgres(&postgres.url(), sessions).await;
                let rates = vec![rate().await, rate().await, rate().await];
                print(&format!("bare Postgres, a row per commit, {sessions} sessions"), "/s", 0, rates);
            }
        } else {
            let folder = || tempfile::tempdir().expect("a directory");
            let rates = (0..ROUNDS).map(|_| raw_commits::sqlite(folder().path())).collect();
            print("bare SQLite, a row per commit", "/s", 0, rates);
        }
        measure(1, 10_000 / share, 500 / share, postgres.as_ref()).await;
        measure(5, 4_000 / share, 300 / share, postgres.as_ref()).await;
        println!("\nload of the machine after: {}", usage::load());
    });
}

async fn measure(tasks: u64, runs: usize, alone: usize, postgres: Option<&PostgresServer>) {
    println!("\nW{tasks}: {runs} runs with {IN_FLIGHT} in flight, {alone} one at a time, {ROUNDS} rounds");
    let names = ["server, s of processor per 1,000 runs", "worker", "Redis", "load"];
    let (mut rates, mut half, mut late) = (Vec::new(), Vec::new(), Vec::new());
    let (mut calls, mut calls_alone, mut commands) = (Vec::new(), Vec::new(), Vec::new());
    let (mut resident, mut database_processor) = (Vec::new(), Vec::new());
    let mut processors: [Vec<f64>; 4] = Default::default();
    for _ in 0..ROUNDS {
        let redis = RedisServer::start().await;
        let folder = tempfile::tempdir().expect("a directory");
        let file = format!("sqlite://{}", folder.path().join("aiki.db").display());
        let database = postgres.map_or(file, PostgresServer::url);
        let database_cpu = || postgres.map_or(0.0, |postgres| usage::cpu_seconds_of_family(postgres.id()));
        let arguments = ["--listen", "127.0.0.1:0", "--database", &database, "--redis", &redis.url()];
        let server = Program::spawn(program::command(SERVER, &arguments));
        let url = format!("http://{}", server.address());
        let lease = ["--lease-ms", "60000", "--request-ms", "30000"];
        let mut arguments = vec!["--url", &url, "--id", "worker", "--slots", "64"];
        let address = redis.url();
        arguments.extend(["--redis", &address]);
        arguments.extend(lease);
        let worker = WorkerProcess::start(WORKER, &arguments);
        let client = aiki::connect(ClientConfig::new(&url)).await.expect("a client");
        let load = (chain::define(None), client);
        let admin = connect(&address).await;
        let processes = [server.id(), worker.id(), redis.id().expect("it runs"), std::process::id()];

        // The first ones open the connections.
        for _ in 0..10 {
            one(&load, 0, tasks).await;
        }
        let (mut times, calls_before) = (Vec::new(), requests(&server));
        for number in 0..alone {
            times.push(one(&load, number, tasks).await);
        }
        calls_alone.push((requests(&server) - calls_before) / alone as f64);
        times.sort_by(f64::total_cmp);
        half.push(times[(times.len() - 1) / 2]);
        late.push(times[(times.len() - 1) * 99 / 100]);

        command::<String>(&admin, "CONFIG RESETSTAT").await;
        let (calls_before, cpu_before) = (requests(&server), processes.map(usage::cpu_seconds));
        let (database_before, begin) = (database_cpu(), Instant::now());
        let all = futures::stream::iter(alone..alone + runs).map(|number| one(&load, number, tasks));
        all.buffer_unordered(IN_FLIGHT).collect::<Vec<_>>().await;
        rates.push(runs as f64 / begin.elapsed().as_secs_f64());
        database_processor.push((database_cpu() - database_before) / runs as f64 * 1e3);
        for (at, process) in processes.into_iter().enumerate() {
            processors[at].push((usage::cpu_seconds(process) - cpu_before[at]) / runs as f64 * 1e3);
        }
        calls.push((requests(&server) - calls_before) / runs as f64);
        let stats: String = command(&admin, "INFO commandstats").await;
        commands.push(calls_in(&stats) / runs as f64);
        resident.push(usage::resident_mb(server.id()));
    }
    print("throughput", "runs/s", 0, rates);
    print("start to result, one at a time, p50", "ms", 2, half);
    print("  p99", "ms", 2, late);
    print("HTTP requests per run, one at a time", "", 2, calls_alone);
    print(&format!("HTTP requests per run, {IN_FLIGHT} in flight"), "", 2, calls);
    print("Redis commands per run, those in scripts too", "", 2, commands);
    for (name, values) in names.into_iter().zip(processors) {
        print(name, "s", 3, values);
    }
    if postgres.is_some() {
        print("Postgres", "s", 3, database_processor);
    }
    print("server, resident", "MB", 0, resident);
}

/// Starts a run and waits for its result: the time in milliseconds.
async fn one((workflow, client): &(Chains, Client), number: usize, tasks: u64) -> f64 {
    let begin = Instant::now();
    let chain = Chain { number: number as u64, tasks, task_ms: 0 };
    let run = workflow.start(client, chain).await.expect("the run starts");
    assert_eq!(run.wait().await.expect("the run completes"), chain.expected());
    begin.elapsed().as_secs_f64() * 1e3
}

/// Requests that the server has answered so far.
fn requests(server: &Program) -> f64 {
    let text = server.get("/metrics").1;
    let counts = text.lines().filter(|line| line.starts_with("aiki_requests_total{"));
    counts.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
}

/// Commands in Redis's own statistics.
fn calls_in(stats: &str) -> f64 {
    let counts = stats.lines().filter_map(|line| line.split_once(":calls=")?.1.split(',').next()?.parse::<f64>().ok());
    counts.sum()
}

/// Prints median, minimum and maximum of one figure.
fn print(name: &str, unit: &str, digits: usize, mut values: Vec<f64>) {
    values.sort_by(f64::total_cmp);
    let (min, max, median) = (values[0], values[values.len() - 1], values[values.len() / 2]);
    println!("  {name:<52} {median:>10.digits$} {unit:<8} ({min:.digits$} to {max:.digits$})");
}
