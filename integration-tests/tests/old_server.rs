//! A newer version changes the tables while an older server works with them.
#![allow(clippy::expect_used, reason = "a panic is how a test fails")]

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use aiki::prelude::*;
use integration_tests::chain::{self, Chain, Ledgers};
use integration_tests::evidence::once_and_not_again;
use integration_tests::program::Program;
use integration_tests::rig;
use integration_tests::worker_process::WorkerProcess;
use test_postgres::PostgresServer;
use tokio::time::{sleep, timeout};

const SERVER: &str = env!("CARGO_BIN_EXE_server-program");
const WORKER: &str = env!("CARGO_BIN_EXE_remote-worker");
/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// Two leases of the worker.
const WATCHED: Duration = Duration::from_secs(4);

/// What a newer version does to the tables at its start, as this one does.
const MIGRATE: &str = "
    BEGIN;
    LOCK TABLE aiki_schema IN ACCESS EXCLUSIVE MODE;
    ALTER TABLE runs ADD COLUMN weight bigint NOT NULL DEFAULT 1;
    UPDATE aiki_schema SET version = version + 1;
    COMMIT";
/// What the operator does who wants the older version back.
const BACK: &str = "
    BEGIN;
    LOCK TABLE aiki_schema IN ACCESS EXCLUSIVE MODE;
    ALTER TABLE runs DROP COLUMN weight;
    UPDATE aiki_schema SET version = version - 1;
    COMMIT";

async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let looking = async {
        while !holds().await {
            sleep(Duration::from_millis(10)).await;
        }
    };
    assert!(timeout(PATIENCE, looking).await.is_ok(), "{what} does not come");
}

/// How often each run was written.
async fn versions(database: &tokio_postgres::Client) -> BTreeMap<String, i64> {
    let rows = database.query("SELECT id::text, version FROM runs", &[]).await.expect("the rows");
    rows.into_iter().map(|row| (row.get(0), row.get(1))).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_older_than_the_tables_writes_nothing_and_says_why() {
    let postgres = PostgresServer::start().await;
    let directory = tempfile::tempdir().expect("a directory");
    let ledgers = Ledgers::in_directory(directory.path()).expect("the ledgers");
    let server = Program::start(SERVER, &["--database", &postgres.url()]);
    let url = format!("http://{}", server.address());
    let folder = directory.path().to_str().expect("text");
    let arguments = ["--url", &url, "--id", "worker", "--ledger", folder, "--slots", "4"];
    let mut worker = WorkerProcess::start(WORKER, &arguments);
    let client = rig::connect(server.address().port()).await;
    let workflow = chain::define(None);
    let mut runs: Vec<(RunHandle<u64, Failure>, Chain)> = Vec::new();
    for number in 0..8 {
        let chain = Chain { number, tasks: 8, task_ms: 150 };
        runs.push((workflow.start(&client, chain).reference_id(format!("run-{number}")).await.expect("a run"), chain));
    }
    let attempts = || ledgers.begun.attempts().expect("the ledger").len();
    until("the work", async || attempts() >= 8).await;

    let database = test_postgres::connect(&postgres.url(), "aiki").await;
    database.batch_execute(MIGRATE).await.expect("the tables are changed");
    let changed = Instant::now();
    let before = versions(&database).await;
    let create = |reference: &str| {
        let body = format!(
            r#"{{"json":{{"name":"w","versionId":"1","inputHash":{{"value":"h"}},"options":{{"reference":{{"id":"{reference}"}}}}}}}}"#
        );
        server.ask("POST", "/api/workflowRun/createV1", None, &body)
    };
    let (status, body) = create("late");
    let refused = changed.elapsed();
    assert_eq!(status, 503, "{body}");
    until("the end of its readiness", async || server.get("/readyz").0 == 503).await;
    println!("a start was refused {refused:?} after the change, not ready after {:?}", changed.elapsed());
    let told = server.get("/readyz").1;
    assert!(told.contains("a newer version has changed the database"), "{told}");
    assert_eq!(server.get("/healthz").0, 200, "it is not broken");

    let (begun, lines) = (attempts(), server.log().lines().count());
    sleep(WATCHED).await;
    assert_eq!(versions(&database).await, before, "it has written to tables that it does not know");
    assert_eq!(attempts(), begun, "a task was begun that nobody can record");
    let log = server.log();
    println!("{} log lines in {WATCHED:?}", log.lines().count() - lines);

    database.batch_execute(BACK).await.expect("the tables are changed back");
    let back = Instant::now();
    until("its readiness", async || server.get("/readyz").0 == 200).await;
    println!("ready {:?} after the tables were changed back", back.elapsed());
    assert_eq!(create("late").0, 200);
    for (run, chain) in &runs {
        let output = timeout(PATIENCE, run.wait()).await.expect("the run ends in good time");
        assert_eq!(output.expect("the run completes"), chain.expected());
    }
    let again = once_and_not_again(&runs, &ledgers.begun).await;
    println!("{again} attempts were repeated");
    assert!(again <= 4, "only what could not be recorded meanwhile: {again}");
    worker.terminate();
    assert_eq!(worker.ended().code(), Some(0));
}
