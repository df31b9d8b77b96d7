//! A foreign process locks the server's file for longer than the server waits for it, while it serves.
#![allow(clippy::expect_used, reason = "a panic is how a test fails")]

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use integration_tests::chain::Chain;
use integration_tests::evidence::once_and_not_again;
use integration_tests::program::eventually;
use integration_tests::rig::{Programs, Rig};
use tokio::time::{sleep, timeout};

const SERVER: &str = env!("CARGO_BIN_EXE_server-program");
const WORKER: &str = env!("CARGO_BIN_EXE_remote-worker");
const LOCKER: &str = env!("CARGO_BIN_EXE_campaign");
/// How long the file is locked at least: twice the time that a commit waits for it.
const HELD: Duration = Duration::from_secs(4);
/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// A process that has the file locked. It lets go with this value.
struct Lock(Child);

impl Lock {
    fn of(file: &Path) -> Self {
        let mut command = Command::new(LOCKER);
        command.arg("lock").arg("--database").arg(file).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut lock = Self(command.spawn().expect("it starts"));
        let mut told = String::new();
        BufReader::new(lock.0.stdout.take().expect("it is piped")).read_line(&mut told).expect("it tells");
        assert_eq!(told, "has the lock\n");
        lock
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn creates(reference: usize) -> String {
    let options = format!(r#"{{"reference":{{"id":"refused-{reference}"}}}}"#);
    format!(r#"{{"json":{{"name":"nobodys","versionId":"1","inputHash":{{"value":"h"}},"options":{options}}}}}"#)
}

const CREATE: &str = "/api/workflowRun/createV1";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_another_process_has_locked_refuses_writes_for_so_long_and_loses_nothing() {
    let rig = Rig::start(Programs::at(SERVER, WORKER), None, &[]).await;
    let file = rig.directory.path().join("aiki.db");
    // A lease that outlasts the lock: what is at work goes on with what it has.
    let _worker = rig.worker("patient", &["--lease-ms", "60000"], &[]);
    let mut runs = Vec::new();
    for number in 0..4 {
        runs.push(rig.run(Chain { number, tasks: 40, task_ms: 100 }).await);
    }
    while rig.ledgers.begun.attempts().expect("the ledger").len() < 8 {
        sleep(Duration::from_millis(10)).await;
    }

    let lock = Lock::of(&file);
    let begun = Instant::now();
    // This one's caller asks again until it is answered.
    let patient = tokio::spawn({
        let (client, workflow) = (rig.client.clone(), rig.workflow.clone());
        let chain = Chain { number: 4, tasks: 1, task_ms: 0 };
        async move { (workflow.start(&client, chain).reference_id("run-4").await.expect("it starts"), chain) }
    });
    let first = runs[0].0.id().to_string();
    let mut refused = 0;
    tokio::task::block_in_place(|| {
        while begun.elapsed() < HELD {
            let (status, body) = rig.server.ask("POST", CREATE, None, &creates(refused));
            assert_eq!(status, 503, "{body}");
            assert!(body.contains(r#""SERVICE_UNAVAILABLE""#), "{body}");
            assert!(body.contains("out of order for now: send the request again later"), "{body}");
            refused += 1;
            // Reading needs no lock.
            let get = format!(r#"{{"json":{{"id":"{first}"}}}}"#);
            let (status, body) = rig.server.ask("POST", "/api/workflowRun/getByIdV1", None, &get);
            assert!(status == 200 && body.contains(&first), "{status} {body}");
        }
    });
    assert!(refused > 0 && !patient.is_finished(), "nobody was kept waiting");
    assert!(rig.server.log().contains("database is locked"), "{}", rig.server.log());
    println!("{refused} writes were refused while the file was locked for {:.1?}", begun.elapsed());
    drop(lock);
    let free = Instant::now();

    runs.push(timeout(PATIENCE, patient).await.expect("it is answered in good time").expect("it does not panic"));
    rig.complete(&runs, PATIENCE).await;
    println!("all done {:.1?} after it was free", free.elapsed());
    assert_eq!(once_and_not_again(&runs, &rig.ledgers.begun).await, 0, "no task is begun twice");
    tokio::task::block_in_place(|| {
        eventually("readiness", || (rig.server.get("/readyz").0 == 200).then_some(()));
        for reference in 0..refused {
            let (status, body) = rig.server.ask("POST", CREATE, None, &creates(reference));
            assert_eq!(status, 200, "{body}");
        }
    });
    let count = rig.client.list_runs(Default::default()).count().await.expect("a count");
    assert_eq!(count, runs.len() as u64 + refused as u64, "each request that was sent again has one run");
    let connection = rusqlite::Connection::open(&file).expect("it opens");
    let told: String = connection.query_row("PRAGMA integrity_check", [], |row| row.get(0)).expect("it is checked");
    assert_eq!(told, "ok");
}
