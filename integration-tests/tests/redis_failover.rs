//! A replica that lacks the last seconds takes over, under a server and a worker.
#![allow(clippy::expect_used, reason = "a panic is how a test fails")]

use std::time::{Duration, Instant};

use fred::types::Value;
use integration_tests::chain::Chain;
use integration_tests::evidence::once_and_not_again;
use integration_tests::redis::{Mode, Proxy, RedisServer, command, connect};
use integration_tests::rig::{Programs, Rig};
use tokio::time::{sleep, timeout};

const SERVER: &str = env!("CARGO_BIN_EXE_server-program");
const WORKER: &str = env!("CARGO_BIN_EXE_remote-worker");
/// How much the replica lacks.
const LACKING: Duration = Duration::from_secs(2);
/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// The stream of the runs.
const STREAM: &str = "aiki:wf:{default/default}:user:chain:1.0.0";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_replica_lacks_when_it_takes_over_costs_time_and_no_run() {
    let mut primary = RedisServer::start().await;
    let replica = RedisServer::start_with(&["--repl-diskless-sync-delay", "0"]).await;
    let (admin, second) = (connect(&primary.url()).await, connect(&replica.url()).await);
    let line = Proxy::to(primary.port()).await;
    command::<Value>(&second, &format!("REPLICAOF 127.0.0.1 {}", line.port())).await;
    let synced = async {
        while !command::<String>(&second, "INFO replication").await.contains("master_link_status:up") {
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(PATIENCE, synced).await.expect("the replica has the data");
    let address = Proxy::to(primary.port()).await;
    let rig = Rig::start(Programs::at(SERVER, WORKER), Some(address.url()), &[]).await;
    let worker = rig.worker("worker", &["--slots", "4", "--lease-ms", "10000"], &[]);
    let (mut number, mut runs) = (0.., Vec::new());
    let mut next = |tasks, task_ms| Chain { number: number.next().expect("a number"), tasks, task_ms };
    // Some are done, and four keep the worker busy until after the failover.
    for _ in 0..4 {
        runs.push(rig.run(next(1, 5)).await);
    }
    rig.complete(&runs, PATIENCE).await;
    for _ in 0..4 {
        runs.push(rig.run(next(8, 500)).await);
    }
    let busy = async {
        while rig.ledgers.begun.attempts().expect("the ledger").len() < 8 {
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(PATIENCE, busy).await.expect("the worker is busy");
    let known: u64 = command(&admin, "WAIT 1 2000").await;
    assert_eq!(known, 1, "the replica has all of it so far");

    // From here on it hears nothing: of these runs, of their ends, of what is prolonged.
    line.set(Mode::BlackHole);
    for _ in 0..10 {
        runs.push(rig.run(next(1, 5)).await);
        sleep(LACKING / 10).await;
    }
    let there: u64 = command(&admin, &format!("XLEN {STREAM}")).await;
    primary.kill();
    command::<Value>(&second, "REPLICAOF NO ONE").await;
    let left: u64 = command(&second, &format!("XLEN {STREAM}")).await;
    assert!(left < there, "nothing is lacking: {left} of {there} entries");
    address.turn_to(replica.port());
    let up = Instant::now();
    rig.complete(&runs[8..], PATIENCE).await;
    println!(
        "{} of {there} entries were lost; the last of their runs was done {:.1} s after the failover",
        there - left,
        up.elapsed().as_secs_f64()
    );
    rig.complete(&runs, PATIENCE).await;
    let repeated = once_and_not_again(&runs, &rig.ledgers.begun).await;
    println!("{repeated} attempts were repeated");
    assert_eq!(repeated, 0, "nobody but Redis was in trouble");
    let settled = async {
        while command::<u64>(&second, &format!("XLEN {STREAM}")).await > 0 {
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(PATIENCE, settled).await.expect("what is known twice is settled twice");
    println!("the stream is empty {:.1} s after the failover", up.elapsed().as_secs_f64());
    drop(worker);
}
