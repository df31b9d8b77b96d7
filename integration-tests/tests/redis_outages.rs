//! Redis restarts, loads, evicts and changes its mind about passwords; the subscriber says so and goes on by itself.
//!
//! Real time: downtimes and leases are measured by Redis's own clock.
#![allow(clippy::expect_used, clippy::unwrap_used, reason = "helpers of tests")]

use aiki_core::subscriber::DeliveryLease;
use aiki_core::{Publisher, SubscriberError};
use fred::types::Value;
use integration_tests::redis::bench::{
    Bench, LEASE, STREAM, collect, heartbeat, ids, keep, nothing, receipts, runs, until,
};
use integration_tests::redis::{RedisServer, command, connect};

#[tokio::test]
async fn a_killed_redis_that_kept_nothing_gets_everything_announced_again() {
    let mut server = RedisServer::start().await;
    let bench = Bench::at(&server.url());
    let (busy, idle) = (bench.subscribe("busy").await, bench.subscribe("idle").await);
    bench.publish(&runs(6)).await;
    let held = collect(&*busy, 6).await;
    server.kill();
    assert_eq!(bench.publisher.publish(&runs(8)).await.failed.len(), 8, "a publisher keeps nothing for later");
    server.restart().await;
    assert_eq!(heartbeat(&*busy, &held).await, [DeliveryLease::Gone; 6]);
    // Old receipts settle nothing that is new.
    until("the publisher is back", async || bench.publisher.publish(&runs(8)[..1]).await.failed.is_empty()).await;
    bench.publish(&runs(8)[1..]).await;
    busy.ack(&receipts(&held)).await.unwrap();
    let again = collect(&*idle, 8).await;
    assert_eq!(heartbeat(&*idle, &again).await, [DeliveryLease::Mine; 8]);
    idle.ack(&receipts(&again)).await.unwrap();
    assert!(bench.factory.health().iter().any(|health| health.groups_recreated > 0));
}

#[tokio::test]
async fn a_redis_that_still_loads_is_waited_for_and_robs_nobody() {
    let mut server = RedisServer::start_with(&["--rdbcompression", "no"]).await;
    let (bench, admin) = (Bench::at(&server.url()), connect(&server.url()).await);
    let (busy, idle) = (bench.subscribe("busy").await, bench.subscribe("idle").await);
    bench.publish(&runs(3)).await;
    let held = collect(&*busy, 3).await;
    for number in 0..40 {
        command::<Value>(&admin, &format!("SET filler:{number} {}", "x".repeat(2_000))).await;
    }
    command::<Value>(&admin, "SAVE").await;
    server.kill();
    // 50 ms for each of them makes a lease, and an answer now and then.
    server.restart_with(&["--key-load-delay", "50000", "--loading-process-events-interval-bytes", "1024"]).await;
    until("the worker says why", async || {
        matches!(idle.receive(1).await, Err(SubscriberError::Unavailable(text)) if text.starts_with("LOADING"))
    })
    .await;
    let refused = bench.publisher.publish(&runs(4)[3..]).await;
    assert_eq!(refused.failed.len(), 1);
    let loading = async {
        until("it has loaded", async || bench.publisher.publish(&runs(4)[3..]).await.failed.is_empty()).await;
    };
    let (leases, (), fresh) = tokio::join!(keep(&*busy, &held, LEASE * 2), loading, collect(&*idle, 1));
    assert_eq!(leases, [DeliveryLease::Mine; 3]);
    assert_eq!(fresh[0].run, runs(4)[3].id);
}

#[tokio::test]
async fn a_policy_that_evicts_is_told_and_an_evicted_stream_is_made_again() {
    let server = RedisServer::start_with(&["--maxmemory-policy", "allkeys-lru", "--maxmemory-samples", "10"]).await;
    let (bench, admin) = (Bench::at(&server.url()), connect(&server.url()).await);
    let worker = bench.subscribe("worker").await;
    assert_eq!(bench.health().eviction_policy.as_deref(), Some("allkeys-lru"));
    let held = {
        bench.publish(&runs(2)).await;
        collect(&*worker, 2).await
    };
    command::<Value>(&admin, "CONFIG SET maxmemory 1").await;
    // Whatever is written next finds no room until everything else has gone.
    until("the stream is evicted", async || {
        let _ = worker.receive(1).await;
        command::<u64>(&admin, &format!("EXISTS {STREAM}")).await == 0 || bench.health().groups_recreated > 0
    })
    .await;
    command::<Value>(&admin, "CONFIG SET maxmemory 0").await;
    assert_eq!(heartbeat(&*worker, &held).await, [DeliveryLease::Gone; 2]);
    bench.publish(&runs(5)).await;
    let got = collect(&*worker, 5).await;
    assert_eq!(got.iter().map(|delivery| delivery.run).collect::<std::collections::BTreeSet<_>>(), ids(&runs(5)));

    let tame = RedisServer::start().await;
    let bench = Bench::at(&tame.url());
    let _worker = bench.subscribe("worker").await;
    assert_eq!(bench.health().eviction_policy, None);
}

#[tokio::test]
async fn a_password_that_is_changed_and_changed_back_costs_time_and_no_run() {
    let server = RedisServer::start_with(&["--requirepass", "old"]).await;
    let url = format!("redis://:old@127.0.0.1:{}", server.port());
    let (bench, admin) = (Bench::at(&url), connect(&url).await);
    let (busy, idle) = (bench.subscribe("busy").await, bench.subscribe("idle").await);
    bench.publish(&runs(2)).await;
    let held = collect(&*busy, 2).await;

    command::<Value>(&admin, "CONFIG SET requirepass new").await;
    // Connections that are there stay; new ones are refused.
    command::<Value>(&admin, "CLIENT KILL TYPE normal SKIPME yes").await;
    until("the worker says why", async || {
        matches!(idle.receive(1).await, Err(SubscriberError::Unavailable(text)) if text.starts_with("WRONGPASS"))
    })
    .await;
    let refused = bench.publisher.publish(&runs(3)[2..]).await;
    assert!(refused.failed[0].1.starts_with("WRONGPASS"), "{refused:?}");
    // Health tells of the latest trouble of any connection: of some of them first that they were closed.
    until("health says why", async || {
        let trouble = bench.health().trouble.unwrap_or_default();
        assert!(!trouble.contains("old"), "{trouble}");
        trouble.starts_with("WRONGPASS")
    })
    .await;

    command::<Value>(&admin, "CONFIG SET requirepass old").await;
    let (leases, ()) = tokio::join!(keep(&*busy, &held, LEASE * 2), nothing(&*idle, LEASE * 2));
    assert_eq!(leases, [DeliveryLease::Mine; 2]);
    until("the publisher is back", async || bench.publisher.publish(&runs(3)[2..]).await.failed.is_empty()).await;
    collect(&*idle, 1).await;
}

/// File descriptors and threads of this process.
fn resources() -> (usize, usize) {
    let count = |folder: &str| std::fs::read_dir(folder).map(Iterator::count).unwrap_or_default();
    (count("/proc/self/fd"), count("/proc/self/task"))
}

#[tokio::test]
async fn five_hundred_starts_and_stops_leave_nothing_behind() {
    let server = RedisServer::start().await;
    let (bench, admin) = (Bench::at(&server.url()), connect(&server.url()).await);
    bench.publish(&runs(1)).await;
    let clients = async || command::<String>(&admin, "CLIENT LIST").await.lines().count();
    // What is made once, by the first: a publisher's connection, buffers of the runtime.
    bench.subscribe("first").await.close().await.unwrap();
    until("the first is gone", async || clients().await == 2).await;
    let before = resources();
    for number in 0..500 {
        let worker = bench.subscribe(&format!("worker-{number}")).await;
        if number % 50 == 0 {
            assert_eq!(collect(&*worker, 1).await[0].run, runs(1)[0].id);
        }
        worker.close().await.unwrap();
    }
    until("connections are closed", async || clients().await == 2).await;
    until("descriptors and threads are given back", async || {
        let now = resources();
        now.0 <= before.0 && now.1 <= before.1
    })
    .await;
    let consumers: Value = command(&admin, &format!("XINFO CONSUMERS {STREAM} aiki-workers")).await;
    // The one that handed back entries wait with.
    assert_eq!(consumers.array_len(), Some(1), "{consumers:?}");
    assert_eq!(bench.factory.health(), []);
}
