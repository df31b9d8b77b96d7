//! A worker of the campaign, as a process.

use std::error::Error;
use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use aiki::ClientConfig;
use aiki::prelude::*;
use aiki::redis::RedisStreams;
use clap::Args;
use tracing_subscriber::EnvFilter;

use super::bug::Bug;
use super::deliveries::Deliveries;
use super::doom::Orders;
use super::line::Line;
use super::load::{self, Inside};
use super::notes::{Note, Notes};
use super::profile::{BLOCK, GRACE, HEARTBEAT, LEASE, REQUEST};

/// The variable with the address of Redis, which has a password in it.
pub const REDIS: &str = "CAMPAIGN_REDIS";
/// The variable with the key for the server.
pub const KEY: &str = "CAMPAIGN_KEY";
/// A pause of the process that is longer than this is noted.
const STALL: Duration = Duration::from_millis(300);

/// A worker process.
#[derive(Clone, Debug, Args)]
pub struct WorkerArguments {
    /// The server
    #[arg(long)]
    pub url: String,
    /// The worker's name
    #[arg(long)]
    pub name: String,
    /// Runs at a time
    #[arg(long)]
    pub slots: usize,
    /// Where to note what happens
    #[arg(long)]
    pub notes: PathBuf,
    /// Where to look for what a handler shall do
    #[arg(long)]
    pub orders: PathBuf,
    /// What is logged
    #[arg(long, default_value = "info")]
    pub log_level: String,
    /// What is wrong with it
    #[arg(long, value_enum)]
    pub broken: Option<Bug>,
}

/// Works until it is told to end (SIGTERM).
///
/// # Errors
/// When it cannot begin to work, or does not end as it should.
pub async fn work(arguments: WorkerArguments) -> Result<(), Box<dyn Error>> {
    let WorkerArguments { url, name, slots, notes, orders, log_level, broken } = arguments;
    let lines = tracing_subscriber::fmt().with_writer(std::io::stderr).with_ansi(false);
    lines.with_env_filter(EnvFilter::try_new(&log_level)?).try_init().map_err(|error| error.to_string())?;
    let notes = Notes::open(&notes, &name)?;
    watch(notes.clone());

    let config = serde_json::json!({
        "url": url, "apiKey": std::env::var(KEY)?, "namespace": "default",
        "requestTimeoutMs": REQUEST.as_millis() as u64,
    });
    let config: ClientConfig = serde_json::from_value(config)?;
    let client = Line::client(&aiki::connect(config).await?, notes.clone(), broken);
    let redis = std::env::var(REDIS)?;
    if broken == Some(Bug::LoggedSecret) {
        eprintln!("connecting to {redis}");
    }
    let streams = RedisStreams::new(redis.parse()?).claim_min_idle_time(LEASE).block_time(BLOCK);
    let worker = Worker::builder(client)
        .id(&name)
        .subscriber(Deliveries::new(streams, notes.clone(), broken))
        .heartbeat_interval(HEARTBEAT)
        .graceful_shutdown_timeout(GRACE)
        .max_concurrent_workflow_runs(slots)
        .build()?;
    let inside = Inside { notes: notes.clone(), orders: Orders::new(&orders, &name), bug: broken };
    worker.workflow_registry().add(load::define(Some(inside)));
    let running = worker.clone();
    let running = tokio::spawn(async move { running.start().await });
    println!("{} ready", wall_by_library_ms());
    aiki::shutdown_signal().await;
    let report = worker.stop().await;
    notes.write(Note::Stopped);
    eprintln!("{report}");
    running.await??;
    Ok(())
}

/// The time as everything in this process sees it, but for the notes.
fn wall_by_library_ms() -> u128 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis()
}

/// Notes when this process stood still.
fn watch(notes: Notes) {
    std::thread::spawn(move || {
        loop {
            let slept = Instant::now();
            std::thread::sleep(Duration::from_millis(50));
            if slept.elapsed() > STALL {
                notes.write(Note::Stalled { ms: slept.elapsed().as_millis() as u64 });
            }
        }
    });
}
