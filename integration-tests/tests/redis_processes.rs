//! Workers that are killed, and workers that come back from the dead.
//!
//! Real time and real processes. A process that only holds deliveries stands in for the worker.
#![allow(clippy::expect_used, clippy::unwrap_used, reason = "helpers of tests")]

use std::collections::BTreeSet;
use std::time::Duration;

use aiki_core::subscriber::DeliveryLease;
use aiki_core::{Delivery, Subscriber, SubscriberError};
use integration_tests::redis::bench::{Bench, HEARTBEAT, LEASE, RECOVERED, SOON, STREAM, receipts, runs};
use integration_tests::redis::{Holder, RedisServer, command, connect};
use tokio::time::{Instant, sleep, timeout};

const PROGRAM: &str = env!("CARGO_BIN_EXE_delivery-holder");

/// Receives so many different runs, and says how long after `since` the last one came. Renews what it has.
async fn collect(from: &dyn Subscriber, count: usize, since: Instant) -> (Vec<Delivery>, Duration) {
    let (mut all, mut seen) = (Vec::<Delivery>::new(), BTreeSet::new());
    let work = async {
        while seen.len() < count {
            match from.receive(16).await {
                Ok(some) => all.extend(some.into_iter().filter(|delivery| seen.insert(delivery.run))),
                Err(SubscriberError::Unavailable(_)) => sleep(from.next_delay(1)).await,
                Err(error) => panic!("{error}"),
            }
            from.heartbeat(&receipts(&all)).await.expect("the lease is renewed");
        }
    };
    assert!(timeout(SOON, work).await.is_ok(), "{} of {count} runs were delivered", all.len());
    (all, since.elapsed())
}

#[tokio::test]
async fn a_worker_killed_midway_is_replaced_within_a_lease_and_a_sweep() {
    let server = RedisServer::start().await;
    let bench = Bench::at(&server.url());
    let mut doomed = Holder::start(PROGRAM, &server.url(), "doomed", LEASE, 3).await;
    bench.publish(&runs(3)).await;
    for _ in 0..3 {
        doomed.says("held").await;
    }
    let survivor = bench.subscribe("survivor").await;
    // It lives: for more than a lease nobody else gets anything.
    let living = Instant::now();
    while living.elapsed() < LEASE * 3 / 2 {
        assert_eq!(survivor.receive(16).await.unwrap(), []);
    }
    doomed.says("lease").await;
    let death = Instant::now();
    doomed.kill().await;
    let (got, after) = collect(&*survivor, 3, death).await;
    assert!(after <= RECOVERED, "taken over {after:?} after the death");
    assert!(after + HEARTBEAT >= LEASE, "taken over {after:?} after the death, before the lease had lapsed");
    survivor.ack(&receipts(&got)).await.unwrap();
    let admin = connect(&server.url()).await;
    assert_eq!(command::<u64>(&admin, &format!("XLEN {STREAM}")).await, 0);
}

#[tokio::test]
async fn a_worker_that_was_frozen_destroys_nothing_that_is_anothers_now() {
    let server = RedisServer::start().await;
    let bench = Bench::at(&server.url());
    let mut zombie = Holder::start(PROGRAM, &server.url(), "zombie", LEASE, 3).await;
    bench.publish(&runs(3)).await;
    for _ in 0..3 {
        zombie.says("held").await;
    }
    let owner = bench.subscribe("owner").await;
    zombie.freeze();
    let frozen = Instant::now();
    let (got, after) = collect(&*owner, 3, frozen).await;
    assert!(after <= RECOVERED, "taken over {after:?} after the freeze");
    while frozen.elapsed() < LEASE * 2 {
        assert_eq!(owner.heartbeat(&receipts(&got)).await.unwrap(), [DeliveryLease::Mine; 3]);
        sleep(Duration::from_millis(100)).await;
    }
    zombie.thaw();
    // What it still believes to be its own it cannot settle, and is told so.
    zombie.tell("ack").await;
    zombie.says("acked").await;
    let admin = connect(&server.url()).await;
    assert_eq!(command::<u64>(&admin, &format!("XLEN {STREAM}")).await, 3);
    assert_eq!(owner.heartbeat(&receipts(&got)).await.unwrap(), [DeliveryLease::Mine; 3]);

    // It has room again and goes on with new work, which nobody else asks for.
    bench.publish(&runs(4)[3..]).await;
    let fresh = loop {
        let told = zombie.says("").await;
        if let Some(run) = told.strip_prefix("held ") {
            break run.to_owned();
        }
    };
    assert_eq!(fresh, runs(4)[3].id.to_string());
    assert!(got.iter().all(|delivery| delivery.run.to_string() != fresh));
    zombie.tell("ack").await;
    zombie.says("acked").await;
    assert_eq!(command::<u64>(&admin, &format!("XLEN {STREAM}")).await, 3, "its own, and nothing else");
    owner.ack(&receipts(&got)).await.unwrap();
    assert_eq!(command::<u64>(&admin, &format!("XLEN {STREAM}")).await, 0);
}

#[tokio::test]
async fn a_worker_killed_under_a_name_is_not_kept_alive_by_another_of_that_name() {
    // As two processes of one configured id would be, but for what every start adds to it.
    let server = RedisServer::start().await;
    let bench = Bench::at(&server.url());
    let mut first = Holder::start(PROGRAM, &server.url(), "worker:1", LEASE, 2).await;
    bench.publish(&runs(2)).await;
    for _ in 0..2 {
        first.says("held").await;
    }
    first.kill().await;
    let death = Instant::now();
    let second = bench.subscribe("worker:2").await;
    let (got, after) = collect(&*second, 2, death).await;
    assert!(after <= RECOVERED, "taken over {after:?} after the death");
    second.ack(&receipts(&got)).await.unwrap();
    second.close().await.unwrap();
}
