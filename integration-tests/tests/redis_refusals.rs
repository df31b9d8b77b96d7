//! Redis answers, and refuses: whole workers and a server wait for it without pestering it, and go on by themselves.
//!
//! How often they ask and how soon they are back is printed, by the counts of Redis itself.
#![allow(clippy::expect_used, reason = "a panic is how a test fails")]

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use fred::clients::Client as RedisClient;
use fred::interfaces::ClientLike;
use fred::types::{ClusterHash, CustomCommand, Value};
use integration_tests::chain::Chain;
use integration_tests::evidence::once_and_not_again;
use integration_tests::redis::{RedisServer, command, connect};
use integration_tests::rig::{Programs, Rig};
use tokio::time::{sleep, timeout};

const SERVER: &str = env!("CARGO_BIN_EXE_server-program");
const WORKER: &str = env!("CARGO_BIN_EXE_remote-worker");
/// How long a trouble lasts.
const TROUBLE: Duration = Duration::from_secs(4);
/// Between two starts of runs meanwhile.
const EVERY: Duration = Duration::from_millis(250);
/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// What Redis was asked so far: how often it did it, and how often it refused, by command.
async fn asked(admin: &RedisClient) -> BTreeMap<String, (u64, u64)> {
    let text: String = command(admin, "INFO commandstats").await;
    let line = |line: &str| {
        let (name, rest) = line.strip_prefix("cmdstat_")?.split_once(':')?;
        let count = |of: &str| {
            let found = rest.split(',').find_map(|part| part.strip_prefix(of)?.strip_prefix('='));
            found.and_then(|count| count.trim().parse::<u64>().ok()).unwrap_or_default()
        };
        let (rejected, failed) = (count("rejected_calls"), count("failed_calls"));
        Some((name.to_owned(), (count("calls") - failed, rejected + failed)))
    };
    text.lines().filter_map(line).collect()
}

/// How often it was refused, in all.
fn refused(asked: &BTreeMap<String, (u64, u64)>) -> u64 {
    asked.values().map(|(_, refused)| refused).sum()
}

/// What was refused in between.
fn refusals(from: &BTreeMap<String, (u64, u64)>, to: &BTreeMap<String, (u64, u64)>) -> BTreeMap<String, u64> {
    let before = |command: &String| from.get(command).map_or(0, |(_, refused)| *refused);
    to.iter().map(|(command, now)| (command.clone(), now.1 - before(command))).filter(|(_, count)| *count > 0).collect()
}

/// How often this was done.
fn done(asked: &BTreeMap<String, (u64, u64)>, command: &str) -> u64 {
    asked.get(command).map_or(0, |(done, _)| *done)
}

/// Words of a command, of which the last may be empty or composed.
type Words = &'static [&'static str];

/// A trouble that comes and goes while runs are started.
struct Trouble {
    name: &'static str,
    begin: &'static [Words],
    end: &'static [Words],
}

async fn tell(admin: &RedisClient, commands: &[Words]) {
    for words in commands {
        let command = CustomCommand::new(words[0], ClusterHash::FirstKey, false);
        admin.custom::<Value, _>(command, words[1..].to_vec()).await.expect("Redis does it");
    }
}

struct Bench {
    admin: RedisClient,
    rig: Rig,
    runs: Vec<(aiki::RunHandle<u64, aiki::Failure>, Chain)>,
}

impl Bench {
    async fn over(url: String) -> Self {
        let admin = connect(&url).await;
        let rig = Rig::start(Programs::at(SERVER, WORKER), Some(url), &[]).await;
        Self { admin, rig, runs: Vec::new() }
    }

    async fn next(&mut self) {
        let chain = Chain { number: self.runs.len() as u64, tasks: 1, task_ms: 5 };
        self.runs.push(self.rig.run(chain).await);
    }

    async fn next_for(&mut self, time: Duration) {
        let until = Instant::now() + time;
        while Instant::now() < until {
            self.next().await;
            sleep(EVERY).await;
        }
    }

    /// Until a run was announced through Redis and delivered by it, and the server is ready. Answers what Redis was asked
    /// in the end.
    async fn until_well(&mut self, before: &BTreeMap<String, (u64, u64)>) -> BTreeMap<String, (u64, u64)> {
        let begun = Instant::now();
        loop {
            let now = asked(&self.admin).await;
            let both =
                done(&now, "xadd") > done(before, "xadd") && done(&now, "xreadgroup") > done(before, "xreadgroup");
            if both && self.rig.server.get("/readyz").0 == 200 {
                return now;
            }
            assert!(begun.elapsed() < PATIENCE, "it is not well again: {}", self.rig.server.get("/readyz").1);
            self.next().await;
            sleep(Duration::from_millis(50)).await;
        }
    }
}

/// A worker with the lease of a minute that it has unless told otherwise: pauses are a share of it.
async fn is_waited_for(Trouble { name, begin, end }: Trouble) {
    let redis = RedisServer::start_with(&["--enable-protected-configs", "yes"]).await;
    let mut bench = Bench::over(redis.url()).await;
    let worker = bench.rig.worker("worker", &["--lease-ms", "60000"], &[]);
    bench.next_for(EVERY * 4).await;
    let before = asked(&bench.admin).await;
    bench.until_well(&before).await;
    let (before, runs_before) = (asked(&bench.admin).await, bench.runs.len());
    tell(&bench.admin, begin).await;
    let began = Instant::now();
    bench.next_for(TROUBLE).await;
    let (status, told) = bench.rig.server.get("/readyz");
    assert_eq!(status, 503, "{name}: the server says that it is ready: {told}");
    let (ends, lasted, runs) = (asked(&bench.admin).await, began.elapsed().as_secs_f64(), bench.runs.len());
    tell(&bench.admin, end).await;
    let ended = Instant::now();
    bench.until_well(&ends).await;
    println!(
        "{name}: {:?} refused in {lasted:.1} s with {} new runs; well again after {:.2} s; {told:.200}",
        refusals(&before, &ends),
        runs - runs_before,
        ended.elapsed().as_secs_f64()
    );
    let runs = std::mem::take(&mut bench.runs);
    bench.rig.complete(&runs, PATIENCE).await;
    let repeated = once_and_not_again(&runs, &bench.rig.ledgers.begun).await;
    assert_eq!(repeated, 0, "nobody but Redis was in trouble");
    drop(worker);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_without_memory_is_waited_for() {
    let (begin, end): (&[Words], &[Words]) =
        (&[&["CONFIG", "SET", "maxmemory", "1"]], &[&["CONFIG", "SET", "maxmemory", "0"]]);
    is_waited_for(Trouble { name: "OOM", begin, end }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_cannot_save_is_waited_for() {
    is_waited_for(Trouble {
        name: "MISCONF",
        begin: &[&["CONFIG", "SET", "save", "3600 1"], &["CONFIG", "SET", "dir", "/sys"], &["BGSAVE"]],
        end: &[&["CONFIG", "SET", "stop-writes-on-bgsave-error", "no"]],
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_is_a_replica_for_a_while_is_waited_for() {
    let (begin, end): (&[Words], &[Words]) = (&[&["REPLICAOF", "127.0.0.1", "1"]], &[&["REPLICAOF", "NO", "ONE"]]);
    is_waited_for(Trouble { name: "READONLY", begin, end }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rights_that_are_taken_away_for_a_while_are_waited_for() {
    is_waited_for(Trouble {
        name: "NOPERM",
        begin: &[&["ACL", "SETUSER", "default", "-xreadgroup", "-xadd"]],
        end: &[&["ACL", "SETUSER", "default", "+@all"]],
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_password_that_is_asked_for_all_at_once_is_waited_for() {
    is_waited_for(Trouble {
        name: "NOAUTH",
        begin: &[&["CONFIG", "SET", "requirepass", "new"], &["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]],
        end: &[&["CONFIG", "SET", "requirepass", ""]],
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_whose_disk_is_full_is_waited_for_and_needs_no_restart() {
    // A limit for files is what a full disk is to Redis; it must not be killed for it.
    let before = ["sh", "-c", "trap '' XFSZ; exec \"$0\" \"$@\""];
    let redis = RedisServer::start_under(&before, &["--appendonly", "yes", "--appendfsync", "everysec"]).await;
    let limit = |bytes: &str| {
        let (process, limit) = (redis.id().expect("it runs").to_string(), format!("--fsize={bytes}:unlimited"));
        let status = std::process::Command::new("prlimit").args(["--pid", &process, &limit]).status();
        assert!(status.expect("prlimit exists").success());
    };
    let mut bench = Bench::over(redis.url()).await;
    let worker = bench.rig.worker("worker", &["--lease-ms", "60000"], &[]);
    bench.next_for(EVERY * 8).await;
    let well = asked(&bench.admin).await;
    bench.until_well(&well).await;

    limit("1");
    let full = Instant::now();
    loop {
        bench.next().await;
        if bench.rig.server.get("/readyz").1.contains("MISCONF") {
            break;
        }
        assert!(full.elapsed() < PATIENCE, "Redis does not mind: {}", bench.rig.server.get("/readyz").1);
        sleep(Duration::from_millis(50)).await;
    }
    println!("the server knows after {:.1} s: {}", full.elapsed().as_secs_f64(), bench.rig.server.get("/readyz").1);
    let begin = asked(&bench.admin).await;
    let began = Instant::now();
    let before = bench.rig.ledgers.ended.attempts().expect("the ledger").len();
    bench.next_for(TROUBLE).await;
    let meanwhile = bench.rig.ledgers.ended.attempts().expect("the ledger").len() - before;
    let (end, lasted) = (asked(&bench.admin).await, began.elapsed().as_secs_f64());
    let often = (refused(&end) - refused(&begin)) as f64 / lasted;
    limit("unlimited");
    let space = Instant::now();
    bench.until_well(&end).await;
    println!(
        "disk full: refused {often:.1} times a second, {:?}, {meanwhile} tasks done meanwhile; well again {:.2} s after there was space",
        refusals(&begin, &end),
        space.elapsed().as_secs_f64()
    );
    let runs = std::mem::take(&mut bench.runs);
    timeout(PATIENCE, bench.rig.complete(&runs, PATIENCE)).await.expect("all runs complete");
    println!("{} attempts repeated of {} runs", once_and_not_again(&runs, &bench.rig.ledgers.begun).await, runs.len());
    drop(worker);
}
