//! A worker of the workflow `chain` for a server elsewhere. It tells `ready` on its output, works until it is told to end
//! (SIGTERM), and answers then with the report of its stop and code 0; with 1
//! when it leaves a handler behind that does not yield.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use aiki::prelude::*;
use aiki::{ClientConfig, SubscriberTypes};
use aiki_worker::ClaimSubscriber;
use clap::Parser;
use integration_tests::burdens;
use integration_tests::chain::{self, Ledgers};

/// A worker of the workflow `chain` for a server elsewhere.
#[derive(Debug, Parser)]
struct Arguments {
    /// The server.
    #[arg(long)]
    url: String,
    /// The worker's id.
    #[arg(long)]
    id: String,
    /// Notes all attempts in this directory.
    #[arg(long)]
    ledger: Option<PathBuf>,
    /// Runs at a time.
    #[arg(long, default_value_t = 4)]
    slots: usize,
    /// How long a claim lasts that is not prolonged.
    #[arg(long, default_value_t = 2_000)]
    lease_ms: u64,
    /// How long the answer to a request may take.
    #[arg(long, default_value_t = 1_000)]
    request_ms: u64,
    /// How long a stop waits for runs.
    #[arg(long, default_value_t = 5_000)]
    grace_ms: u64,
    /// Subscribes through this Redis instead of claiming from the server.
    #[arg(long)]
    redis: Option<String>,
    /// The version of the workflow.
    #[arg(long, default_value = "1.0.0")]
    version: String,
    /// Serves the workflows that burden a worker as well.
    #[arg(long)]
    burdens: bool,
    /// Logs to stderr.
    #[arg(long)]
    log: bool,
}

#[tokio::main]
async fn main() -> ExitCode {
    match run(Arguments::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: Arguments) -> Result<(), Box<dyn std::error::Error>> {
    let Arguments { url, id, ledger, slots, lease_ms, request_ms, grace_ms, redis, version, burdens, log } = arguments;
    if log {
        let lines = tracing_subscriber::fmt().with_writer(std::io::stderr).with_ansi(false);
        lines.with_env_filter("info").try_init().map_err(|error| error.to_string())?;
    }
    let mut client = serde_json::json!({ "url": url, "requestTimeoutMs": request_ms });
    let mut worker = serde_json::json!({
        "id": id, "maxConcurrentWorkflowRuns": slots, "gracefulShutdownTimeoutMs": grace_ms,
    });
    if let Some(redis) = &redis {
        client["redis"] = serde_json::json!(redis);
        client["namespace"] = serde_json::json!("default");
        let subscriber = serde_json::json!({ "type": "redis_streams", "claimMinIdleTimeMs": lease_ms });
        worker["subscriber"] = subscriber;
    }
    let config: ClientConfig = serde_json::from_value(client)?;
    let types = SubscriberTypes::of_client(&config)?;
    let client = aiki::connect(config).await?;
    let mut builder = types.worker(client.clone(), WorkerConfig::from_json(&worker.to_string())?)?;
    if redis.is_none() {
        // What the type `http` is, but for the lease, which no configuration can shorten.
        let claims = ClaimSubscriber::new(&client).lease(Duration::from_millis(lease_ms));
        builder = builder.subscriber(claims.poll_interval(Duration::from_millis(200)));
    }
    let worker = builder.build()?;
    let ledgers = ledger.map(|folder| Ledgers::in_directory(&folder)).transpose()?;
    worker.workflow_registry().add(chain::define_version(&version, ledgers));
    if burdens {
        worker.workflow_registry().add(burdens::bulk());
        worker.workflow_registry().add(burdens::hoard());
        worker.workflow_registry().add(burdens::deaf());
    }

    let running = worker.clone();
    let running = tokio::spawn(async move { running.start().await });
    println!("ready");
    aiki::shutdown_signal().await;
    let report = worker.stop().await;
    println!("{report}");
    running.await??;
    if !report.abandoned.is_empty() {
        // The runtime would wait for handlers that do not yield.
        std::process::exit(1);
    }
    Ok(())
}
