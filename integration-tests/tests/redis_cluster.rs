//! A cluster of three local processes: every pool is served wherever its hash slot is.
//!
//! Real time: leases and downtimes are measured by Redis's own clock.
#![allow(clippy::expect_used, clippy::unwrap_used, reason = "helpers of tests")]

use std::collections::BTreeSet;
use std::time::Duration;

use aiki_core::subscriber::{DeliveryLease, Receipt, ReleaseDelay};
use aiki_core::{Delivery, Name, Priority, Publisher, ReadyRun, RunId, Subscriber, SubscriberError, SubscriberFactory};
use aiki_core::{Subscription, WorkflowKey};
use aiki_subscriber_redis::{RedisPublisher, RedisStreams, RedisUrl};
use fred::types::Value;
use integration_tests::redis::{RedisCluster, command};
use tokio::time::{sleep, timeout};

const LEASE: Duration = Duration::from_secs(2);
const SOON: Duration = Duration::from_secs(10);
/// What the crate's documentation asks for, and what it asks for on a cluster besides.
const RIGHTS: &str = "~aiki:* -@all +ping +select +info +hello +quit +client|id +client|unblock +xadd +xreadgroup \
                      +xgroup +xclaim +xpending +xack +xdel +xtrim +xrange +xinfo +evalsha +eval +script|load +cluster|slots";

/// A cluster, and a pool on each of its nodes.
struct Bench {
    cluster: RedisCluster,
    pools: Vec<Name>,
    factory: RedisStreams,
    publisher: RedisPublisher,
}

impl Bench {
    async fn start() -> Self {
        let user: Vec<&str> = "--user aiki on >secret".split(' ').chain(RIGHTS.split_whitespace()).collect();
        let cluster = RedisCluster::start(&user).await;
        let mut pools = vec![None; 3];
        for letter in 'a'..='z' {
            let pool = Name::new(letter.to_string());
            pools[cluster.owner(&stream(&pool)).await].get_or_insert(pool);
        }
        let url: RedisUrl = cluster.nodes[0].url().parse().unwrap();
        let url = url.credentials(Some("aiki".into()), "secret");
        Self {
            cluster,
            pools: pools.into_iter().map(|pool| pool.expect("a pool on each node")).collect(),
            factory: RedisStreams::new(url.clone()).claim_min_idle_time(LEASE).block_time(Duration::from_millis(200)),
            publisher: RedisPublisher::new(url),
        }
    }

    async fn subscribe(&self, worker: &str) -> Box<dyn Subscriber> {
        let subscription = Subscription {
            worker: Name::new(worker),
            namespace: Name::new("test"),
            workflows: vec![WorkflowKey::user("orders", "1.0.0")],
            pools: self.pools.clone(),
        };
        self.factory.subscribe(subscription).await.expect("a subscription")
    }

    /// Runs of all pools in turn, and who cannot be told.
    async fn publish(&self, numbers: std::ops::Range<u32>) -> Vec<RunId> {
        let run = |number: u32| ReadyRun {
            id: id(number),
            namespace: Name::new("test"),
            workflow: WorkflowKey::user("orders", "1.0.0"),
            pool: Some(self.pools[number as usize % 3].clone()),
            priority: Priority::Normal,
        };
        let failed = self.publisher.publish(&numbers.map(run).collect::<Vec<_>>()).await.failed;
        failed.into_iter().map(|(run, _)| run).collect()
    }

    async fn left(&self) -> u64 {
        let mut left = 0;
        for pool in &self.pools {
            let mut moved = None;
            for number in 0..3 {
                let admin = self.cluster.admin(number).await;
                let slot: u16 = command(&admin, &format!("CLUSTER KEYSLOT {}", stream(pool))).await;
                if command::<u64>(&admin, &format!("CLUSTER COUNTKEYSINSLOT {slot}")).await > 0 {
                    moved = Some(admin);
                }
            }
            let admin = moved.expect("some node has it");
            left += command::<u64>(&admin, &format!("XLEN {}", stream(pool))).await;
        }
        left
    }
}

fn id(number: u32) -> RunId {
    RunId::from_bits((1 + u128::from(number)) << 24)
}

fn stream(pool: &Name) -> String {
    format!("aiki:wf:{{test/{}}}:user:orders:1.0.0", pool.as_str())
}

fn receipts(deliveries: &[Delivery]) -> Vec<Receipt> {
    deliveries.iter().map(|delivery| delivery.receipt.clone()).collect()
}

async fn collect(from: &dyn Subscriber, numbers: impl IntoIterator<Item = u32>) -> Vec<Delivery> {
    let mut missing: BTreeSet<RunId> = numbers.into_iter().map(id).collect();
    let mut all = Vec::new();
    let work = async {
        while !missing.is_empty() {
            match from.receive(4).await {
                Ok(some) => {
                    assert!(some.len() <= 4);
                    all.extend(some.into_iter().filter(|delivery| missing.remove(&delivery.run)));
                }
                Err(SubscriberError::Unavailable(_)) => sleep(from.next_delay(1)).await,
                Err(error) => panic!("{error}"),
            }
        }
    };
    assert!(timeout(SOON, work).await.is_ok(), "{missing:?} were not delivered");
    all
}

#[tokio::test]
async fn pools_on_three_nodes_are_one_subscription() {
    let bench = Bench::start().await;
    let (worker, other) = (bench.subscribe("worker").await, bench.subscribe("other").await);
    // The publisher knows one node and is told of the others.
    assert_eq!(bench.publish(0..30).await, []);
    let got = collect(&*worker, 0..30).await;
    assert_eq!(worker.heartbeat(&receipts(&got)).await.unwrap(), [DeliveryLease::Mine; 30]);
    assert_eq!(other.heartbeat(&receipts(&got)).await.unwrap(), [DeliveryLease::Others; 30]);
    worker.ack(&receipts(&got[..20])).await.unwrap();
    assert_eq!(bench.left().await, 10);
    worker.release(&receipts(&got[20..25]), ReleaseDelay::None).await.unwrap();
    worker.close().await.unwrap();
    let rest: Vec<u32> =
        (0..30).filter(|number| got[20..].iter().any(|delivery| delivery.run == id(*number))).collect();
    let again = collect(&*other, rest).await;
    other.ack(&receipts(&again)).await.unwrap();
    assert_eq!(bench.left().await, 0);
    other.close().await.unwrap();
    // The documented rights were enough.
    for number in 0..3 {
        let log: Value = command(&bench.cluster.admin(number).await, "ACL LOG").await;
        assert_eq!(log.array_len(), Some(0), "{log:?}");
    }
}

#[tokio::test]
async fn a_hash_slot_that_moves_takes_its_deliveries_with_it() {
    let bench = Bench::start().await;
    let worker = bench.subscribe("worker").await;
    bench.publish(0..6).await;
    let held = collect(&*worker, 0..6).await;
    bench.cluster.move_slot(&stream(&bench.pools[1]), 1, 2).await;
    // The first that are told are the reads and the publisher; each is sent on.
    let published = async {
        assert_eq!(bench.publish(6..12).await, []);
    };
    let (more, ()) = tokio::join!(collect(&*worker, 6..12), published);
    assert_eq!(worker.heartbeat(&receipts(&held)).await.unwrap(), [DeliveryLease::Mine; 6]);
    worker.ack(&receipts(&held)).await.unwrap();
    worker.ack(&receipts(&more)).await.unwrap();
    assert_eq!(bench.left().await, 0);
}

#[tokio::test]
async fn a_node_that_dies_stops_only_its_own_pools() {
    let mut bench = Bench::start().await;
    let worker = bench.subscribe("worker").await;
    assert_eq!(bench.publish(0..3).await, []);
    let held = collect(&*worker, 0..3).await;
    // The node of the URL: what the others have goes on all the same.
    bench.cluster.nodes[0].kill();
    let refused = worker.ack(&receipts(&held)).await;
    assert!(matches!(refused, Err(SubscriberError::Unavailable(_))), "{refused:?}");
    for (number, pool) in bench.pools.iter().enumerate().skip(1) {
        let left: u64 = command(&bench.cluster.admin(number).await, &format!("XLEN {}", stream(pool))).await;
        assert_eq!(left, 0, "it was settled where it could be");
    }
    let others = || (3..30).filter(|number| number % 3 != 0);
    let failed: BTreeSet<_> = bench.publish(3..30).await.into_iter().collect();
    assert_eq!(failed, (3..30).filter(|number| number % 3 == 0).map(id).collect());
    let got = collect(&*worker, others()).await;
    worker.ack(&receipts(&got)).await.unwrap();
    let health = bench.factory.health().into_iter().next().expect("a live subscription");
    assert!(health.trouble.is_some(), "{health:?}");

    bench.cluster.nodes[0].restart().await;
    let publish = async {
        while !bench.publish(30..31).await.is_empty() {
            sleep(Duration::from_millis(20)).await;
        }
    };
    let ((), _) = tokio::join!(publish, collect(&*worker, 30..31));
    let well = async {
        while bench.factory.health()[0].trouble.is_some() {
            let _ = worker.receive(1).await;
        }
    };
    timeout(SOON, well).await.expect("the trouble ends");
}

#[tokio::test]
async fn a_replica_that_takes_over_is_found_with_everything_that_was_held() {
    let mut bench = Bench::start().await;
    bench.cluster.add_replica(1).await;
    let worker = bench.subscribe("worker").await;
    assert_eq!(bench.publish(0..3).await, []);
    let held = collect(&*worker, 0..3).await;
    let waited: u64 = command(&bench.cluster.admin(1).await, "WAIT 1 2000").await;
    assert_eq!(waited, 1, "the replica has it too");
    bench.cluster.nodes[1].kill();
    let published = async {
        while !bench.publish(4..5).await.is_empty() {
            sleep(Duration::from_millis(20)).await;
        }
    };
    let ((), fresh) = tokio::join!(published, collect(&*worker, [4]));
    let receipts = receipts(&[held, fresh].concat());
    assert_eq!(worker.heartbeat(&receipts).await.unwrap(), [DeliveryLease::Mine; 4]);
    worker.ack(&receipts).await.unwrap();
    assert_eq!(worker.heartbeat(&receipts).await.unwrap(), [DeliveryLease::Gone; 4]);
}

#[tokio::test]
async fn a_database_other_than_the_first_is_refused_with_the_reason() {
    let bench = Bench::start().await;
    let url: RedisUrl = format!("{}/3", bench.cluster.nodes[0].url()).parse().unwrap();
    let subscription = Subscription {
        worker: Name::new("worker"),
        namespace: Name::new("test"),
        workflows: vec![WorkflowKey::user("orders", "1.0.0")],
        pools: Vec::new(),
    };
    let error = RedisStreams::new(url).subscribe(subscription).await.err();
    let said = |text: &str| text.contains("SELECT is not allowed in cluster mode");
    assert!(matches!(&error, Some(SubscriberError::Misconfigured(text)) if said(text)), "{error:?}");
}
