//! Acknowledging cuts off the beginning of a stream; nothing but what was settled may go with it.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::collections::BTreeSet;

use aiki_core::subscriber::ReleaseDelay;
use aiki_core::{Delivery, Subscriber};
use fred::types::Value;
use integration_tests::redis::bench::{Bench, STREAM, collect, receipts, runs};
use integration_tests::redis::{RedisServer, command, connect};

/// More than Redis keeps in one piece.
const COUNT: u32 = 260;

/// The same order each time, and none that the entries came in.
fn shuffled(deliveries: Vec<Delivery>, seed: usize) -> Vec<Delivery> {
    let mut keyed: Vec<_> =
        deliveries.into_iter().enumerate().map(|(at, delivery)| ((at + seed) * 7_919 % 263, delivery)).collect();
    keyed.sort_by_key(|(key, _)| *key);
    keyed.into_iter().map(|(_, delivery)| delivery).collect()
}

/// The runs of the entries that are left. An entry that was read but not wanted may be put back under a new id.
async fn left(admin: &fred::clients::Client) -> BTreeSet<String> {
    let answer: Value = command(admin, &format!("XRANGE {STREAM} - +")).await;
    let run = |entry: Value| {
        let fields = entry.into_array().pop().map(Value::into_array).unwrap();
        let texts: Vec<_> = fields.into_iter().filter_map(Value::into_string).collect();
        texts.chunks(2).find(|field| field[0] == "run").unwrap()[1].clone()
    };
    answer.into_array().into_iter().map(run).collect()
}

fn run_of(delivery: &Delivery) -> String {
    delivery.run.to_string()
}

#[tokio::test]
async fn settled_in_any_order_by_two_workers_only_the_settled_ones_go() {
    let server = RedisServer::start().await;
    let (bench, admin) = (Bench::at(&server.url()).slow_lease(), connect(&server.url()).await);
    let (one, other) = (bench.subscribe("one").await, bench.subscribe("other").await);
    // They hold entries in turns, and some are never delivered.
    let mut held: Vec<(&dyn Subscriber, Vec<Delivery>)> = vec![(&*one, Vec::new()), (&*other, Vec::new())];
    for part in 0..(COUNT / 20) as usize {
        bench.publish(&runs(COUNT)[part * 20..][..20]).await;
        let (worker, deliveries) = &mut held[part % 2];
        deliveries.extend(collect(*worker, 20).await);
    }
    bench.publish(&runs(COUNT + 15)[COUNT as usize..]).await;
    let mut expected = left(&admin).await;
    assert_eq!(expected.len(), COUNT as usize + 15);

    let mut returned = BTreeSet::new();
    for (seed, (worker, deliveries)) in held.into_iter().enumerate() {
        let deliveries = shuffled(deliveries, seed);
        // A few of the first are handed back and are somebody's business still.
        let (back, settled) = deliveries.split_at(5);
        worker.release(&receipts(back), ReleaseDelay::None).await.unwrap();
        returned.extend(back.iter().map(run_of));
        for part in settled.chunks(9) {
            worker.ack(&receipts(part)).await.unwrap();
            for delivery in part {
                assert!(expected.remove(&run_of(delivery)));
            }
            assert_eq!(left(&admin).await, expected);
        }
    }
    assert!(returned.is_subset(&expected));
    assert_eq!(expected.len(), 10 + 15);

    // A group that was made again has everything before it: nothing that is left may be cut off.
    command::<Value>(&admin, &format!("XGROUP DESTROY {STREAM} aiki-workers")).await;
    let rest = collect(&*one, 25).await;
    one.ack(&receipts(&rest[..1])).await.unwrap();
    assert_eq!(left(&admin).await.len(), 24);
    one.ack(&receipts(&rest)).await.unwrap();
    assert_eq!(left(&admin).await.len(), 0);
}
