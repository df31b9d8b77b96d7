//! The clocks of Redis and of the server are set by an hour, forward and back, while runs are under way.
#![allow(clippy::expect_used, reason = "a panic is how a test fails")]

use std::time::{Duration, Instant};

use aiki::Schedule;
use aiki::listing::RunFilter;
use integration_tests::chain::Chain;
use integration_tests::evidence::{once_and_not_again, recorded_tasks};
use integration_tests::redis::{RedisServer, command, connect};
use integration_tests::rig::{Programs, Rig};
use integration_tests::set_clock::SetClock;
use tokio::time::sleep;

const SERVER: &str = env!("CARGO_BIN_EXE_server-program");
const WORKER: &str = env!("CARGO_BIN_EXE_remote-worker");
/// How far a clock is set.
const HOUR: i64 = 3_600;
/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// Between two occurrences of the schedule.
const EVERY: Duration = Duration::from_secs(1);

fn borrowed(words: &[String]) -> Vec<&str> {
    words.iter().map(String::as_str).collect()
}

async fn busy(rig: &Rig, attempts: usize) {
    let work = async {
        while rig.ledgers.begun.attempts().expect("the ledger").len() < attempts {
            sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, work).await.expect("the work");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_whose_clock_is_set_by_an_hour_makes_nobody_do_anything_twice() {
    let clock = SetClock::new().expect("a clock");
    let redis = RedisServer::start_under(&borrowed(&clock.words()), &[]).await;
    let admin = connect(&redis.url()).await;
    let time = async || command::<Vec<String>>(&admin, "TIME").await[0].parse::<i64>().expect("seconds");
    let real = time().await;
    let rig = Rig::start(Programs::at(SERVER, WORKER), Some(redis.url()), &[]).await;
    let workers = ["one", "two"].map(|id| rig.worker(id, &["--slots", "5", "--lease-ms", "10000"], &[]));
    let (mut runs, mut count) = (Vec::new(), 0);
    let began = Instant::now();
    for off in [HOUR, 0, -HOUR, 0] {
        for _ in 0..6 {
            runs.push(rig.run(Chain { number: runs.len() as u64, tasks: 6, task_ms: 400 }).await);
        }
        count += 12;
        busy(&rig, count).await;
        clock.set(off).expect("it can be set");
        let set = async {
            while (time().await - real - off).abs() > 600 {
                sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::time::timeout(PATIENCE, set).await.expect("the clock of Redis is set");
        sleep(Duration::from_secs(1)).await;
        count = rig.ledgers.begun.attempts().expect("the ledger").len();
    }
    rig.complete(&runs, PATIENCE).await;
    let repeated = once_and_not_again(&runs, &rig.ledgers.begun).await;
    println!(
        "clock of Redis set 4 times in {:?}: {repeated} attempts of {} runs repeated",
        began.elapsed(),
        runs.len()
    );
    assert_eq!(repeated, 0, "who has a run is told by the server");
    let left = rig.metric("aiki_claims_total", "");
    println!("{left} claims were answered");
    drop(workers);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_whose_clock_is_set_by_an_hour_records_nothing_twice_and_goes_on() {
    let clock = SetClock::new().expect("a clock");
    let words = clock.words();
    let rig = Rig::start(Programs::at(SERVER, WORKER), None, &borrowed(&words)).await;
    let workers = [rig.worker("one", &["--slots", "4"], &[]), rig.worker("two", &["--slots", "4"], &[])];
    let occurring = Chain { number: 1_000, tasks: 1, task_ms: 5 };
    let schedule = Schedule::every(EVERY).activate(&rig.client, &rig.workflow, occurring).await.expect("a schedule");
    let mut runs = Vec::new();
    let occurred = async || {
        let list = RunFilter { schedule: Some(schedule.id()), ..RunFilter::default() };
        rig.client.list_runs(list).count().await.expect("a count")
    };
    for off in [HOUR, 0, -HOUR, 0] {
        for _ in 0..6 {
            runs.push(rig.run(Chain { number: runs.len() as u64, tasks: 6, task_ms: 400 }).await);
        }
        busy(&rig, rig.ledgers.begun.attempts().expect("the ledger").len() + 4).await;
        let (before, set) = (occurred().await, Instant::now());
        clock.set(off).expect("it can be set");
        sleep(Duration::from_secs(3)).await;
        println!("off by {off} s: {} occurrences in {:?}", occurred().await - before, set.elapsed());
    }
    let began = Instant::now();
    rig.complete(&runs, PATIENCE).await;
    println!("all runs are done {:?} later", began.elapsed());
    let again = began.elapsed();
    schedule.pause().await.expect("no more occurrences");
    let mut list = rig.client.list_runs(RunFilter { schedule: Some(schedule.id()), ..RunFilter::default() });
    let mut references = std::collections::BTreeSet::new();
    while let Some(run) = list.next().await.expect("the list") {
        assert!(references.insert(run.reference_id), "an occurrence has two runs");
        runs.push((rig.client.handle(&rig.workflow, run.id), occurring));
    }
    rig.complete(&runs, PATIENCE).await;
    // Attempts and records are dated by different clocks: only their numbers can be compared.
    let mut recorded = 0;
    for (run, chain) in &runs {
        let of_run = recorded_tasks(&run.transitions().await.expect("the history"));
        assert_eq!(of_run.len() as u64, chain.tasks, "all tasks are on record, once");
        recorded += of_run.len();
    }
    let repeated = rig.ledgers.begun.attempts().expect("the ledger").len() - recorded;
    println!("{repeated} of {recorded} attempts repeated; done after {again:?}");
    assert!(repeated <= 8, "only what was under way when the clock was set forward: {repeated}");
    drop(workers);
}
