//! Measures how many runs per second go through a server on Postgres with 64 in flight: creates alone, and whole runs
//! (create + claim + two reports), each durable before its answer. The same Postgres is measured first with single
//! rows, so that the figures can be compared between machines.
//!
//! ```sh
//! cargo run --release -p aiki-server --example postgres_throughput <url> [runs] [servers]
//! ```

use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use aiki_core::hash::input_hash;
use aiki_core::name::WorkflowKey;
use aiki_core::run::plan::CreateRun;
use aiki_core::server_client::{ClaimOutcome, ClaimRuns};
use aiki_core::{Client, Name, Payload, Report, RunId, Transition};
use aiki_server::Server;
use tokio_postgres::NoTls;

type Failure = Box<dyn Error + Send + Sync>;

const IN_FLIGHT: usize = 64;
const INPUT: &str = r#"{"order":4711,"items":[{"sku":"a-17","count":2}]}"#;

fn main() -> Result<(), Failure> {
    let mut arguments = std::env::args().skip(1);
    let url = arguments.next().ok_or("give the address of a Postgres database")?;
    let runs: u64 = arguments.next().map_or(Ok(20_000), |text| text.parse())?;
    let servers: usize = arguments.next().map_or(Ok(1), |text| text.parse())?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(measure(&url, runs, servers))
}

async fn measure(url: &str, runs: u64, servers: usize) -> Result<(), Failure> {
    let since = std::time::UNIX_EPOCH.elapsed()?.as_millis();
    let schema = format!("bench_{since}");
    let (admin, connection) = tokio_postgres::connect(url, NoTls).await?;
    tokio::spawn(connection);
    admin
        .batch_execute(&format!(
            "CREATE SCHEMA {schema}_raw; CREATE TABLE {schema}_raw.t (id uuid PRIMARY KEY, text text)"
        ))
        .await?;
    for sessions in [1, IN_FLIGHT] {
        let rate = raw(url, &format!("{schema}_raw.t"), sessions).await?;
        println!(
            "plain Postgres, one inserted row of 700 bytes per transaction, {sessions} sessions: {rate:.0} commits/s"
        );
    }
    let mut clients = Vec::new();
    let mut started = Vec::new();
    for _ in 0..servers {
        let server = Server::builder().postgres(url).postgres_schema(&schema).start().await?;
        clients.push(server.client());
        started.push(server);
    }
    let rate = timed(&clients, runs, false).await?;
    println!("{servers} servers: {rate:.0} creates/s");
    let rate = timed(&clients, runs, true).await?;
    println!("{servers} servers: {rate:.0} runs/s, {:.0} durable requests/s", rate * 4.0);
    for server in started {
        server.close().await;
    }
    admin.batch_execute(&format!("DROP SCHEMA {schema} CASCADE; DROP SCHEMA {schema}_raw CASCADE")).await?;
    Ok(())
}

async fn raw(url: &str, table: &str, sessions: usize) -> Result<f64, Failure> {
    const LENGTH: Duration = Duration::from_secs(4);
    let text = "x".repeat(700);
    let insert = format!("INSERT INTO {table} VALUES (gen_random_uuid(), $1)");
    let mut tasks = Vec::new();
    let begin = Instant::now();
    for _ in 0..sessions {
        let (client, connection) = tokio_postgres::connect(url, NoTls).await?;
        tokio::spawn(connection);
        let (text, insert) = (text.clone(), insert.clone());
        tasks.push(tokio::spawn(async move {
            let (insert, mut count) = (client.prepare(&insert).await?, 0_u32);
            while begin.elapsed() < LENGTH {
                client.execute(&insert, &[&text]).await?;
                count += 1;
            }
            Ok::<u32, Failure>(count)
        }));
    }
    let mut count = 0;
    for task in tasks {
        count += task.await??;
    }
    Ok(f64::from(count) / begin.elapsed().as_secs_f64())
}

async fn timed(clients: &[Client], runs: u64, whole: bool) -> Result<f64, Failure> {
    let (left, begin) = (Arc::new(AtomicU64::new(runs)), Instant::now());
    let mut tasks = Vec::new();
    for task in 0..IN_FLIGHT {
        let (client, left) = (clients[task % clients.len()].clone(), Arc::clone(&left));
        tasks.push(tokio::spawn(async move {
            let worker = Name::new(format!("worker-{task}"));
            while left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok() {
                let run = create(&client).await?;
                if whole {
                    work(&client, &worker, run).await?;
                }
            }
            Ok::<(), Failure>(())
        }));
    }
    for task in tasks {
        task.await??;
    }
    Ok(runs as f64 / begin.elapsed().as_secs_f64())
}

async fn create(client: &Client) -> Result<RunId, Failure> {
    let (key, input) = (WorkflowKey::user("order", "1.0.0"), Payload::from_json(INPUT)?);
    Ok(client.server().create_run(CreateRun::new(key, Some(input), input_hash(Some(INPUT))?)).await?.id)
}

async fn work(client: &Client, worker: &Name, run: RunId) -> Result<(), Failure> {
    let server = client.server();
    let (input, lease) = (Payload::from_json(INPUT)?, Duration::from_secs(60));
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
