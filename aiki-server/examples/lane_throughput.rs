//! Measures how many runs per second go through a server on SQLite with 64 in flight, where a run is
//! create + claim + two reports, each durable before its answer. The same file system is measured
//! first with plain SQLite, so that the figures can be compared between machines.
//!
//! ```sh
//! cargo run --release -p aiki-server --example lane_throughput [runs] [folder]
//! ```

use std::error::Error;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use aiki_core::hash::input_hash;
use aiki_core::name::WorkflowKey;
use aiki_core::run::plan::CreateRun;
use aiki_core::server_client::{ClaimOutcome, ClaimRuns};
use aiki_core::{Client, Name, Payload, Report, Transition};
use aiki_server::Server;

type Failure = Box<dyn Error + Send + Sync>;

const IN_FLIGHT: usize = 64;
const INPUT: &str = r#"{"order":4711,"items":[{"sku":"a-17","count":2}]}"#;

fn main() -> Result<(), Failure> {
    let mut arguments = std::env::args().skip(1);
    let runs: u64 = arguments.next().map_or(Ok(100_000), |text| text.parse())?;
    let folder = match arguments.next() {
        Some(folder) => tempfile::tempdir_in(folder)?,
        None => tempfile::tempdir()?,
    };
    let rows = raw_rows(&folder.path().join("raw.db"))?;
    println!("plain SQLite, 64 inserted rows of 700 bytes per transaction: {rows:.0} rows/s");
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let rate = runtime.block_on(lane(&folder.path().join("aiki.db"), runs))?;
    println!(
        "server: {rate:.0} runs/s, {:.0} durable requests/s, {:.2} of plain SQLite",
        rate * 4.0,
        rate * 4.0 / rows
    );
    Ok(())
}

fn raw_rows(path: &Path) -> Result<f64, Failure> {
    const ROWS: u32 = 200_000;
    let mut connection = rusqlite::Connection::open(path)?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.execute_batch("CREATE TABLE t (id BLOB NOT NULL UNIQUE, text TEXT NOT NULL)")?;
    let text = "x".repeat(700);
    let begin = Instant::now();
    for batch in 0..ROWS / 64 {
        let transaction = connection.transaction()?;
        for row in 0..64 {
            let id = u128::from(batch * 64 + row).to_be_bytes();
            transaction.prepare_cached("INSERT INTO t VALUES (?1, ?2)")?.execute((id, &text))?;
        }
        transaction.commit()?;
    }
    Ok(f64::from(ROWS) / begin.elapsed().as_secs_f64())
}

async fn lane(path: &Path, runs: u64) -> Result<f64, Failure> {
    let server = Server::builder().sqlite(path).start().await?;
    let (client, left) = (server.client(), Arc::new(AtomicU64::new(runs)));
    let begin = Instant::now();
    let mut tasks = Vec::new();
    for task in 0..IN_FLIGHT {
        let (client, left) = (client.clone(), Arc::clone(&left));
        tasks.push(tokio::spawn(async move {
            let worker = Name::new(format!("worker-{task}"));
            while left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok() {
                one_run(&client, &worker).await?;
            }
            Ok::<(), Failure>(())
        }));
    }
    for task in tasks {
        task.await??;
    }
    let rate = runs as f64 / begin.elapsed().as_secs_f64();
    server.close().await;
    Ok(rate)
}

async fn one_run(client: &Client, worker: &Name) -> Result<(), Failure> {
    let server = client.server();
    let input = Payload::from_json(INPUT)?;
    let key = WorkflowKey::user("order", "1.0.0");
    let run = server.create_run(CreateRun::new(key, Some(input.clone()), input_hash(Some(INPUT))?)).await?.id;
    let lease = Duration::from_secs(60);
    let claims = server.claim_runs(ClaimRuns { worker: worker.clone(), runs: vec![run], lease }).await?;
    let Some(ClaimOutcome::Granted(claimed)) = claims.into_iter().next() else {
        return Err("the claim was not granted".into());
    };
    let (id, hash) = (run.task(0), claimed.record.input_hash.clone());
    let opened =
        Transition::TaskOpened { id, name: "charge".into(), input_hash: hash, input: Some(input.clone()), retry: None };
    let epoch = claimed.epoch;
    server.report(Report { run, epoch, seq: 1, signals: 0, transitions: vec![opened] }).await?;
    let completed = Transition::TaskCompleted { id, attempts: 1, output: Some(input.clone()) };
    let ended = Transition::Completed { output: Some(input) };
    server.report(Report { run, epoch, seq: 2, signals: 0, transitions: vec![completed, ended] }).await?;
    Ok(())
}
