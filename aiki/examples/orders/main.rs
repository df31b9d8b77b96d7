//! The main job: a file of orders, each one a durable run that reserves, charges and ships.
//!
//! ```text
//! cargo run --example orders                          # the orders beside this file
//! cargo run --example orders -- path/to/other.jsonl   # your own
//! cargo run --example orders -- --state DIR           # where database and ledger live
//! cargo run --example orders --features redis -- --redis redis://localhost:6379
//! ```
//!
//! Kill it half-way (`kill -9`) and start it again: it carries on where it stopped. The database knows
//! which orders are done, and the ledger shows that no card was charged after its charge was recorded.

mod input;
mod ledger;
mod summary;
mod workflow;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use aiki::prelude::*;
use futures::StreamExt;
use futures::stream::FuturesUnordered;

use crate::input::{Order, read_orders};
use crate::ledger::Ledger;
use crate::summary::{Ended, Summary};
use crate::workflow::{OrderError, Shipped};

/// Runs that are started and waited for at the same time.
const IN_FLIGHT: usize = 64;

struct Arguments {
    orders: PathBuf,
    state: PathBuf,
    /// Through which Redis the runs go to the workers, instead of in memory.
    redis: Option<String>,
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = match arguments(std::env::args().skip(1)) {
        Ok(arguments) => arguments,
        Err(text) => {
            eprintln!("{text}");
            return ExitCode::from(2);
        }
    };
    match run(arguments).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(Trouble::Input(text)) => {
            eprintln!("{text}");
            ExitCode::from(2)
        }
        Err(Trouble::Other(error)) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

enum Trouble {
    Input(String),
    Other(Box<dyn std::error::Error>),
}

impl<E: std::error::Error + 'static> From<E> for Trouble {
    fn from(error: E) -> Self {
        Trouble::Other(Box::new(error))
    }
}

fn arguments(mut args: impl Iterator<Item = String>) -> Result<Arguments, String> {
    let here = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let mut found = Arguments {
        orders: here.join("examples/orders.jsonl"),
        state: here.join("../target/orders-example"),
        redis: None,
    };
    while let Some(argument) = args.next() {
        match argument.as_str() {
            "--state" => found.state = args.next().ok_or("--state needs a directory")?.into(),
            "--redis" => found.redis = Some(args.next().ok_or("--redis needs a URL, such as redis://localhost:6379")?),
            "--help" | "-h" => {
                println!("usage: orders [ORDERS.jsonl] [--state DIR] [--redis URL]");
                std::process::exit(0);
            }
            flag if flag.starts_with('-') => return Err(format!("unknown option {flag}; see --help")),
            path => found.orders = path.into(),
        }
    }
    Ok(found)
}

async fn run(arguments: Arguments) -> Result<bool, Trouble> {
    let input = read_orders(&arguments.orders).map_err(Trouble::Input)?;
    for skipped in &input.skipped {
        println!("line {}: skipped: {}", skipped.line, skipped.reason);
    }

    if input.orders.is_empty() {
        let path = arguments.orders.display();
        return Err(Trouble::Input(format!("{path} holds no orders: give a file with one order per line")));
    }
    let state = arguments.state.display();
    std::fs::create_dir_all(&arguments.state).map_err(|error| {
        Trouble::Input(format!("{state} cannot be used for database and ledger: {error}; give --state DIR"))
    })?;
    let mut summary = Summary::new(&input);
    summary.log();
    println!("database and ledger are in {state}; delete it to begin afresh");
    let ledger = Arc::new(Ledger::open(&arguments.state.join("ledger.jsonl"))?);
    let order_processing = workflow::define(ledger.clone());

    let server = Server::builder().sqlite(arguments.state.join("orders.db"));
    let server = match &arguments.redis {
        Some(url) => through_redis(server, url).map_err(Trouble::Input)?,
        None => server,
    };
    let server = server.start().await?;
    let client = server.client();
    let mut workers = Vec::new();
    for number in 1..=2 {
        let worker = Worker::builder(client.clone())
            .id(format!("worker-{number}"))
            .max_concurrent_workflow_runs(5)
            .subscriber(server.subscriber())
            .build()?;
        worker.workflow_registry().add(&order_processing);
        let running = worker.clone();
        workers.push((worker, tokio::spawn(async move { running.start().await })));
    }

    let began = Instant::now();
    let mut waiting = FuturesUnordered::new();
    let mut orders = input.orders.into_iter();
    loop {
        while waiting.len() < IN_FLIGHT {
            let Some(order) = orders.next() else { break };
            waiting.push(follow(&client, &order_processing, order));
        }
        let Some(ended) = waiting.next().await else { break };
        summary.add(ended);
    }
    summary.finish(began.elapsed());

    for (worker, running) in workers {
        worker.stop().await;
        // A worker that could not start or stop says so here.
        running.await??;
    }
    let audit = ledger.audit(&client, &order_processing, summary.runs()).await?;
    server.close().await;
    summary.print(&audit);
    Ok(summary.is_sound() && audit.charged_after_recorded == 0)
}

#[cfg(feature = "redis")]
fn through_redis(server: aiki::ServerBuilder, url: &str) -> Result<aiki::ServerBuilder, String> {
    let url: aiki::redis::RedisUrl = url.parse().map_err(|error| format!("--redis: {error}"))?;
    println!("runs go to the workers through {url}");
    Ok(server.redis(url))
}

#[cfg(not(feature = "redis"))]
fn through_redis(_: aiki::ServerBuilder, _: &str) -> Result<aiki::ServerBuilder, String> {
    Err("--redis needs the feature `redis`: cargo run --example orders --features redis -- --redis URL".into())
}

/// Starts one order and waits for its end. The order's id is the reference id: starting it again
/// finds the run that is there.
async fn follow(
    client: &Client,
    workflow: &WorkflowVersion<Order, Shipped, OrderError>,
    order: Order,
) -> (String, Ended) {
    let id = order.id.clone();
    let began = Instant::now();
    let handle = match workflow.start(client, order).reference_id(&id).await {
        Ok(handle) => handle,
        Err(StartError::Server(ServerError::ReferenceConflict { .. })) => return (id, Ended::Conflict),
        Err(error) => return (id, Ended::Trouble(error.to_string())),
    };
    let earlier = handle.existed() && handle.state().await.is_ok_and(|state| state.is_terminal());
    let result = handle.wait().await;
    let took: Option<Duration> = (!handle.existed()).then(|| began.elapsed());
    let retries = match handle.record().await {
        Ok(record) => record.tasks.iter().map(|task| task.state.attempts().saturating_sub(1)).sum(),
        Err(error) => return (id, Ended::Trouble(error.to_string())),
    };
    let run = handle.id();
    let ended = match result {
        Ok(shipped) => Ended::Completed { run, earlier, took, retries, cents: shipped.cents },
        Err(RunError::Failed(error)) => Ended::Failed { run, earlier, took, retries, reason: error.reason() },
        Err(RunError::Cancelled { .. }) => Ended::Failed { run, earlier, took, retries, reason: "cancelled".into() },
        Err(error) => Ended::Trouble(error.to_string()),
    };
    (id, ended)
}
