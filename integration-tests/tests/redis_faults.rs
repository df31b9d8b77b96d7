//! Redis goes wrong; no run is lost and none is with two workers.
//!
//! Real time: leases, downtimes and blocked reads are measured by Redis's own clock.
#![allow(clippy::expect_used, clippy::unwrap_used, reason = "helpers of tests")]

use std::collections::BTreeSet;
use std::time::Duration;

use aiki_core::subscriber::{DeliveryLease, ReleaseDelay};
use aiki_core::{Publisher, SubscriberError};
use fred::clients::Client;
use fred::types::Value;
use integration_tests::redis::bench::{
    Bench, LEASE, SOON, STREAM, collect, heartbeat, ids, keep, nothing, receipts, runs, runs_of, until,
};
use integration_tests::redis::{Mode, Proxy, RedisServer, command, connect};
use tokio::time::{Instant, sleep, timeout};

async fn streams_are_lost(harm: &str) {
    let server = RedisServer::start().await;
    let (bench, admin) = (Bench::at(&server.url()), connect(&server.url()).await);
    let worker = bench.subscribe("worker").await;
    let before = runs(8);
    bench.publish(&before[..5]).await;
    let held = collect(&*worker, 5).await;

    // While it waits in a read, with entries held.
    let (received, ()) = tokio::join!(collect(&*worker, 3), async {
        sleep(Duration::from_millis(30)).await;
        command::<Value>(&admin, harm).await;
        bench.publish(&before[5..]).await;
    });
    assert_eq!(received.iter().filter(|delivery| ids(&before[5..]).contains(&delivery.run)).count(), 3);
    assert!(bench.health().groups_recreated > 0);
    if !harm.starts_with("XGROUP") {
        assert_eq!(heartbeat(&*worker, &held).await, [DeliveryLease::Gone; 5]);
    }
    // What was held is announced again by the server; old acknowledgements do no harm.
    worker.ack(&receipts(&held)).await.unwrap();
    bench.publish(&before[..5]).await;
    let again = collect(&*worker, 5).await;
    worker.ack(&receipts(&again)).await.unwrap();
    worker.ack(&receipts(&received)).await.unwrap();
    until("everything is settled", async || {
        // Destroying a group delivers again what was held.
        if let Ok(rest) = worker.receive(16).await {
            worker.ack(&receipts(&rest)).await.unwrap();
        }
        command::<u64>(&admin, &format!("XLEN {STREAM}")).await == 0
    })
    .await;

    // While nobody reads.
    command::<Value>(&admin, harm).await;
    bench.publish(&before).await;
    assert_eq!(collect(&*worker, 8).await.len(), 8);
}

#[tokio::test]
async fn flushall_loses_no_later_run() {
    streams_are_lost("FLUSHALL").await;
}

#[tokio::test]
async fn a_deleted_stream_is_made_again() {
    streams_are_lost(&format!("DEL {STREAM}")).await;
}

#[tokio::test]
async fn a_destroyed_group_is_made_again() {
    streams_are_lost(&format!("XGROUP DESTROY {STREAM} aiki-workers")).await;
}

#[tokio::test]
async fn a_key_of_another_type_stops_only_its_own_runs() {
    let server = RedisServer::start().await;
    let (bench, admin) = (Bench::at(&server.url()), connect(&server.url()).await);
    let worker = bench.subscribe_to("worker", &["orders", "refunds"]).await.unwrap();
    command::<Value>(&admin, &format!("DEL {STREAM}")).await;
    command::<Value>(&admin, &format!("SET {STREAM} x")).await;

    let good = runs_of("refunds", 5);
    let report = bench.publisher.publish(&[runs(3), good.clone()].concat()).await;
    let failed: BTreeSet<_> = report.failed.iter().map(|(run, _)| *run).collect();
    assert_eq!((report.failed.len(), failed), (3, ids(&runs(3))));
    assert!(report.failed[0].1.contains("WRONGTYPE"), "{report:?}");
    let got = collect(&*worker, 5).await;
    assert!(got.iter().all(|delivery| delivery.workflow.name.as_str() == "refunds"));
    until("the stream is left alone", async || bench.health().broken_streams == [STREAM]).await;

    command::<Value>(&admin, &format!("DEL {STREAM}")).await;
    bench.publish(&runs(2)).await;
    worker.ack(&receipts(&got)).await.unwrap();
    let mended = collect(&*worker, 2).await;
    assert!(mended.iter().all(|delivery| delivery.workflow.name.as_str() == "orders"));
    assert_eq!(bench.health().broken_streams, [""; 0]);
}

#[tokio::test]
async fn a_killed_and_restarted_redis_robs_nobody() {
    let mut server = RedisServer::start_with(&["--appendonly", "yes", "--appendfsync", "always"]).await;
    let bench = Bench::at(&server.url());
    let (busy, idle) = (bench.subscribe("busy").await, bench.subscribe("idle").await);
    bench.publish(&runs(6)).await;
    let held = collect(&*busy, 6).await;
    server.kill();
    // The idle times grow while it is away.
    sleep(LEASE * 3 / 2).await;
    let refused = bench.publisher.publish(&runs(1)).await;
    assert_eq!(refused.failed.len(), 1, "a publisher keeps nothing for later");
    server.restart().await;
    let (leases, ()) = tokio::join!(keep(&*busy, &held, LEASE * 2), nothing(&*idle, LEASE * 2));
    assert_eq!(leases, [DeliveryLease::Mine; 6]);
    assert!(bench.health().connections_lost >= 2);
    busy.ack(&receipts(&held)).await.unwrap();
    until("the publisher is back", async || bench.publisher.publish(&runs(1)).await.failed.is_empty()).await;
    collect(&*idle, 1).await;
}

#[tokio::test]
async fn a_redis_that_stood_still_robs_nobody() {
    let server = RedisServer::start().await;
    let bench = Bench::at(&server.url());
    let busy = bench.subscribe("busy").await;
    let idle = [bench.subscribe("idle-1").await, bench.subscribe("idle-2").await, bench.subscribe("idle-3").await];
    bench.publish(&runs(6)).await;
    let held = collect(&*busy, 6).await;
    let freeze = async {
        sleep(LEASE / 4).await;
        server.freeze();
        sleep(LEASE * 2).await;
        server.thaw();
    };
    let all = LEASE * 5;
    let others = async { tokio::join!(nothing(&*idle[0], all), nothing(&*idle[1], all), nothing(&*idle[2], all)) };
    let (leases, _, ()) = tokio::join!(keep(&*busy, &held, all), others, freeze);
    assert_eq!(leases, [DeliveryLease::Mine; 6]);
    assert_eq!(bench.factory.health().iter().map(|health| health.taken_over).sum::<u64>(), 0);
    // A worker that is really dead is still noticed.
    drop(busy);
    assert_eq!(collect(&*idle[0], 6).await.len(), 6);
}

#[tokio::test]
async fn a_connection_that_swallows_everything_is_replaced() {
    let server = RedisServer::start().await;
    let proxy = Proxy::to(server.port()).await;
    let (bench, direct) = (Bench::at(&proxy.url()), Bench::at(&server.url()));
    let worker = bench.subscribe("worker").await;
    direct.publish(&runs(1)).await;
    let first = collect(&*worker, 1).await;
    worker.ack(&receipts(&first)).await.unwrap();

    proxy.set(Mode::BlackHole);
    let connections = proxy.accepted();
    let begin = Instant::now();
    while worker.receive(1).await.is_ok() {}
    // Twice the block time and 2 s for the read, and as long as a call of `receive` may take.
    assert!(begin.elapsed() < Duration::from_secs(5), "noticed after {:?}", begin.elapsed());
    assert!(bench.health().trouble.is_some());
    assert!(worker.heartbeat(&receipts(&first)).await.is_err(), "a heartbeat fails; it does not hang");

    direct.publish(&runs(5)[1..]).await;
    proxy.set(Mode::Pass);
    let rest = collect(&*worker, 4).await;
    worker.ack(&receipts(&rest)).await.unwrap();
    assert!(bench.health().connections_abandoned >= 1);
    assert!(proxy.accepted() > connections);
    let admin = connect(&server.url()).await;
    until("old connections are closed", async || clients(&admin).await <= 6).await;
}

#[tokio::test]
async fn a_port_that_hangs_up_at_once_is_not_pestered() {
    let server = RedisServer::start().await;
    let proxy = Proxy::to(server.port()).await;
    // Pauses are a share of the lease.
    let (bench, direct) = (Bench::at(&proxy.url()).slow_lease(), Bench::at(&server.url()));
    let worker = bench.subscribe("worker").await;
    proxy.set(Mode::Cut);
    let before = proxy.accepted();
    sleep(Duration::from_secs(4)).await;
    let tries = proxy.accepted() - before;
    println!("{tries} connections tried in 4 s");
    // Three connections, each of them tried after 0.1, 0.2, 0.4 ... s at most.
    assert!(tries <= 45, "{tries} connections tried in 4 s");
    proxy.set(Mode::Pass);
    direct.publish(&runs(2)).await;
    assert_eq!(collect(&*worker, 2).await.len(), 2);
}

#[tokio::test]
async fn when_redis_is_back_the_first_connection_that_sees_it_tells_the_others() {
    let server = RedisServer::start().await;
    let proxy = Proxy::to(server.port()).await;
    let bench = Bench::at(&proxy.url()).slow_lease();
    let _worker = bench.subscribe("worker").await;
    proxy.set(Mode::Cut);
    // Until each of the three pauses for seconds.
    sleep(Duration::from_secs(12)).await;
    let before = proxy.accepted();
    proxy.set(Mode::Pass);
    until("the first is back", async || proxy.accepted() > before).await;
    sleep(Duration::from_millis(700)).await;
    assert!(proxy.accepted() - before >= 3, "{} are back", proxy.accepted() - before);
}

/// Connections that the server has.
async fn clients(admin: &Client) -> usize {
    command::<String>(admin, "CLIENT LIST").await.lines().count()
}

#[tokio::test]
async fn entries_whose_delivery_was_lost_on_the_way_come_long_before_the_lease_ends() {
    let server = RedisServer::start().await;
    let proxy = Proxy::to(server.port()).await;
    let (bench, direct) = (Bench::at(&proxy.url()).slow_lease().long_reads(), Bench::at(&server.url()));
    let admin = connect(&server.url()).await;
    let worker = bench.subscribe("worker").await;
    direct.publish(&[]).await;
    let lose = async {
        // An answer without entries must not be the one that is lost: then nobody would be reading.
        until("a read waits", async || {
            let clients: String = command(&admin, "CLIENT LIST").await;
            clients.lines().any(|client| client.contains(" flags=b ") && client.contains(" cmd=xreadgroup "))
        })
        .await;
        proxy.set(Mode::DropReplies);
        direct.publish(&runs(3)).await;
        until("redis has delivered", async || {
            let pending: Value = command(&admin, &format!("XPENDING {STREAM} aiki-workers - + 10 worker")).await;
            pending.array_len().is_some_and(|count| count > 0)
        })
        .await;
        proxy.set(Mode::Cut);
        sleep(Duration::from_millis(20)).await;
        proxy.set(Mode::Pass);
    };
    let (got, ()) = tokio::join!(collect(&*worker, 3), lose);
    assert_eq!(got.len(), 3);
    worker.ack(&receipts(&got)).await.unwrap();
    assert_eq!(command::<u64>(&admin, &format!("XLEN {STREAM}")).await, 0);
}

#[tokio::test]
async fn unreadable_entries_go_to_the_dead_letters_and_block_nothing() {
    let server = RedisServer::start().await;
    let (bench, admin) = (Bench::at(&server.url()), connect(&server.url()).await);
    let worker = bench.subscribe("worker").await;
    let run = runs(1)[0].id;
    let long = "x".repeat(5_000);
    for fields in ["x y", "v 1", "v 9 run z", "v 1 run not-a-ulid", &format!("v 1 run {run} more {long}")] {
        command::<Value>(&admin, &format!("XADD {STREAM} * {fields}")).await;
        bench.publish(&runs(1)).await;
        let got = collect(&*worker, 1).await;
        worker.ack(&receipts(&got)).await.unwrap();
    }
    command::<Value>(&admin, &format!("XADD {STREAM} * v 1 run {run} hint new")).await;
    let got = collect(&*worker, 1).await;
    worker.ack(&receipts(&got)).await.unwrap();

    until("all are buried", async || {
        let _ = worker.receive(1).await;
        command::<u64>(&admin, "XLEN aiki:dead:{test/default}").await == 5
    })
    .await;
    assert_eq!(bench.health().dead_letters, 5);
    until("the stream is empty", async || command::<u64>(&admin, &format!("XLEN {STREAM}")).await == 0).await;
    let dead: Value = command(&admin, "XRANGE aiki:dead:{test/default} - +").await;
    let text = format!("{dead:?}");
    for reason in ["no field v", "no field run", "unknown version", "the run is not an id", "larger than 4 KB"] {
        assert!(text.contains(reason), "{reason} is missing: {text:.2000}");
    }
}

#[tokio::test]
async fn entries_deleted_while_held_are_gone_and_not_an_error() {
    let server = RedisServer::start().await;
    let (bench, admin) = (Bench::at(&server.url()), connect(&server.url()).await);
    let (worker, other) = (bench.subscribe("worker").await, bench.subscribe("other").await);
    bench.publish(&runs(2)).await;
    let held = collect(&*worker, 2).await;
    command::<Value>(&admin, &format!("XTRIM {STREAM} MAXLEN 0")).await;
    assert_eq!(heartbeat(&*worker, &held[..1]).await, [DeliveryLease::Gone]);
    // The other one looks abandoned in the end; there is nothing to take over.
    nothing(&*other, LEASE * 2).await;
    until("nothing is pending", async || {
        let _ = other.receive(1).await;
        let pending: Value = command(&admin, &format!("XPENDING {STREAM} aiki-workers - + 10")).await;
        pending.array_len() == Some(0)
    })
    .await;
}

#[tokio::test]
async fn a_full_redis_refuses_new_runs_and_delivers_the_old_ones() {
    let server = RedisServer::start().await;
    let (bench, admin) = (Bench::at(&server.url()), connect(&server.url()).await);
    let worker = bench.subscribe("worker").await;
    bench.publish(&runs(3)).await;
    command::<Value>(&admin, "CONFIG SET maxmemory 1").await;
    let refused = bench.publisher.publish(&runs(8)[3..]).await;
    assert_eq!(refused.failed.iter().map(|(run, _)| *run).collect::<BTreeSet<_>>(), ids(&runs(8)[3..]));
    assert!(refused.failed[0].1.starts_with("OOM"), "{refused:?}");
    let got = collect(&*worker, 3).await;
    assert_eq!(heartbeat(&*worker, &got).await, [DeliveryLease::Mine; 3]);
    worker.release(&receipts(&got[..1]), ReleaseDelay::None).await.unwrap();
    worker.ack(&receipts(&got[1..])).await.unwrap();
    command::<Value>(&admin, "CONFIG SET maxmemory 0").await;
    bench.publish(&runs(8)[3..]).await;
    assert_eq!(collect(&*worker, 6).await.len(), 6);
}

#[tokio::test]
async fn announcing_several_times_delivers_at_least_once_and_leaves_nothing_behind() {
    let server = RedisServer::start().await;
    let (bench, admin) = (Bench::at(&server.url()), connect(&server.url()).await);
    let worker = bench.subscribe("worker").await;
    let all = runs(50);
    for times in 1..=5 {
        bench.publish(&all[10 * (times - 1)..]).await;
    }
    let mut seen = BTreeSet::new();
    until("everything is settled", async || {
        let some = worker.receive(16).await.unwrap();
        seen.extend(some.iter().map(|delivery| delivery.run));
        worker.ack(&receipts(&some)).await.unwrap();
        command::<u64>(&admin, &format!("XLEN {STREAM}")).await == 0
    })
    .await;
    assert_eq!(seen, ids(&all));
}

#[tokio::test]
async fn fifty_subscriptions_leave_neither_consumers_nor_connections() {
    let server = RedisServer::start().await;
    let (bench, admin) = (Bench::at(&server.url()), connect(&server.url()).await);
    bench.publish(&runs(1)).await;
    let before = clients(&admin).await;
    for number in 0..50 {
        let worker = bench.subscribe(&format!("worker-{number}")).await;
        let got = collect(&*worker, 1).await;
        assert_eq!(got[0].run, runs(1)[0].id);
        if number % 2 == 0 {
            worker.release(&receipts(&got), ReleaseDelay::None).await.unwrap();
        }
        worker.close().await.unwrap();
        // Not dropped yet: it is the closing that ends the connections.
        until("its connections are closed", async || clients(&admin).await == before).await;
    }
    let consumers: Value = command(&admin, &format!("XINFO CONSUMERS {STREAM} aiki-workers")).await;
    // The one that handed back entries wait with.
    assert_eq!(consumers.array_len(), Some(1), "{consumers:?}");
}

#[tokio::test]
async fn wrong_credentials_and_missing_rights_are_told_at_once() {
    let server = RedisServer::start_with(&["--requirepass", "right"]).await;
    let admin = connect(&format!("redis://:right@127.0.0.1:{}", server.port())).await;
    command::<Value>(&admin, "ACL SETUSER meek on >meek ~* &* +@all -xclaim").await;
    for credentials in ["", "default:wrong@", "meek:meek@"] {
        let bench = Bench::at(&format!("redis://{credentials}127.0.0.1:{}", server.port()));
        let error = bench.subscribe_to("worker", &["orders"]).await.err().expect("no subscription");
        assert!(matches!(error, SubscriberError::Misconfigured(_)), "{credentials}: {error:?}");
        assert!(!error.to_string().contains("wrong@"), "{error}");
    }
    // What the crate's documentation asks for is enough.
    let rights = "~aiki:* -@all +ping +select +info +hello +quit +client|id +client|unblock +xadd \
                  +xreadgroup +xgroup +xclaim +xpending +xack +xdel +xtrim +xrange +xinfo +evalsha +eval +script|load";
    command::<Value>(&admin, &format!("ACL SETUSER aiki on >aiki {rights}")).await;
    let bench = Bench::at(&format!("redis://aiki:aiki@127.0.0.1:{}/3", server.port()));
    let worker = bench.subscribe("worker").await;
    let other = bench.subscribe("other").await;
    bench.publish(&runs(2)).await;
    let got = collect(&*worker, 2).await;
    assert_eq!(heartbeat(&*worker, &got).await, [DeliveryLease::Mine; 2]);
    worker.ack(&receipts(&got[..1])).await.unwrap();
    worker.close().await.unwrap();
    assert_eq!(collect(&*other, 1).await[0].run, got[1].run);
    let log: Value = command(&admin, "ACL LOG").await;
    assert!(!format!("{log:?}").contains("\"aiki\""), "{log:?}");
}

#[tokio::test]
async fn a_port_that_accepts_and_says_nothing_is_unavailable() {
    let server = RedisServer::start().await;
    let proxy = Proxy::to(server.port()).await;
    proxy.set(Mode::BlackHole);
    let bench = Bench::at(&proxy.url());
    let error = timeout(SOON, bench.subscribe_to("worker", &["orders"])).await.expect("an answer").err();
    assert!(matches!(error, Some(SubscriberError::Unavailable(_))), "{error:?}");
    let report = timeout(SOON, bench.publisher.publish(&runs(2))).await.expect("an answer");
    assert_eq!(report.failed.len(), 2);
}

#[tokio::test]
async fn a_blocked_runtime_does_not_stop_what_keeps_deliveries() {
    // This test's runtime has one thread, which is blocked; the subscriber has one of its own.
    let server = RedisServer::start().await;
    let bench = Bench::at(&server.url()).slow_lease();
    let worker = bench.subscribe("worker").await;
    bench.publish(&runs(1)).await;
    let held = collect(&*worker, 1).await;
    let leases = std::thread::scope(|scope| {
        let (worker, held) = (&worker, &held);
        let beat = || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(heartbeat(&**worker, held))
        };
        // Joining blocks the test's own runtime.
        scope.spawn(beat).join().unwrap()
    });
    assert_eq!(leases, [DeliveryLease::Mine]);
}

#[tokio::test]
async fn a_redis_that_refuses_writes_is_waited_for() {
    let server = RedisServer::start_with(&["--enable-protected-configs", "yes", "--save", "3600 1"]).await;
    let (bench, admin) = (Bench::at(&server.url()), connect(&server.url()).await);
    let worker = bench.subscribe("worker").await;
    // A save that cannot succeed.
    for words in ["CONFIG SET dir /sys", "BGSAVE"] {
        command::<Value>(&admin, words).await;
    }
    until("the worker says why", async || {
        let answer = worker.receive(1).await;
        matches!(answer, Err(SubscriberError::Unavailable(text)) if text.starts_with("MISCONF"))
    })
    .await;
    let refused = bench.publisher.publish(&runs(1)).await;
    assert!(refused.failed[0].1.contains("MISCONF"), "{refused:?}");
    command::<Value>(&admin, "CONFIG SET stop-writes-on-bgsave-error no").await;
    until("the publisher is back", async || bench.publisher.publish(&runs(2)).await.failed.is_empty()).await;
    collect(&*worker, 2).await;
}

#[tokio::test]
async fn a_primary_that_becomes_a_replica_and_back_is_found_again() {
    let server = RedisServer::start().await;
    let (bench, admin) = (Bench::at(&server.url()), connect(&server.url()).await);
    let worker = bench.subscribe("worker").await;
    bench.publish(&runs(1)).await;
    let held = collect(&*worker, 1).await;
    command::<Value>(&admin, "REPLICAOF 127.0.0.1 1").await;
    until("the worker says why", async || {
        matches!(worker.receive(1).await, Err(SubscriberError::Unavailable(text)) if text.starts_with("READONLY"))
    })
    .await;
    assert_eq!(bench.publisher.publish(&runs(1)).await.failed.len(), 1);
    command::<Value>(&admin, "REPLICAOF NO ONE").await;
    assert_eq!(heartbeat(&*worker, &held).await, [DeliveryLease::Mine]);
    until("the publisher is back", async || bench.publisher.publish(&runs(3)[1..]).await.failed.is_empty()).await;
    collect(&*worker, 2).await;
}

#[tokio::test]
async fn closing_without_redis_ends_soon_and_says_that_it_handed_nothing_back() {
    let mut server = RedisServer::start().await;
    let bench = Bench::at(&server.url());
    let worker = bench.subscribe("worker").await;
    bench.publish(&runs(1)).await;
    collect(&*worker, 1).await;
    server.kill();
    let closed = timeout(SOON, worker.close()).await.expect("it ends");
    assert!(matches!(closed, Err(SubscriberError::Unavailable(_))), "{closed:?}");
    assert_eq!(worker.receive(1).await, Err(SubscriberError::Closed));
}

#[tokio::test]
async fn a_new_worker_gets_what_was_handed_back_at_once_and_robs_nobody() {
    let server = RedisServer::start().await;
    let bench = Bench::at(&server.url()).slow_lease();
    let (leaving, staying) = (bench.subscribe("leaving").await, bench.subscribe("staying").await);
    bench.publish(&runs(2)).await;
    let kept = collect(&*staying, 2).await;
    bench.publish(&runs(4)[2..]).await;
    let given = collect(&*leaving, 2).await;
    leaving.close().await.unwrap();
    // The others would look for it after minutes; the new one looks when it begins.
    let new = bench.subscribe("new").await;
    let got: BTreeSet<_> = collect(&*new, 2).await.iter().map(|delivery| delivery.run).collect();
    assert_eq!(got, given.iter().map(|delivery| delivery.run).collect());
    assert_eq!(heartbeat(&*staying, &kept).await, [DeliveryLease::Mine; 2]);
}
