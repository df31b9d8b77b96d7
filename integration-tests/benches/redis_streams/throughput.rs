//! Messages a second.

use std::time::Instant;

use aiki_core::{Publisher, ReadyRun, Subscriber};
use aiki_subscriber_redis::RedisPublisher;
use integration_tests::redis::RedisServer;

use crate::{print, raw, run_of, subscribe};

pub(crate) const BATCH: usize = 64;
/// Published and not delivered yet, when publisher and subscriber work side by side.
const AHEAD: usize = 8;

pub(crate) async fn measure(redis: &RedisServer, repeats: usize, messages: usize) {
    let publisher = RedisPublisher::new(redis.url().parse().expect("a good URL"));
    let subscriber = subscribe(redis, &["orders".into()]).await;
    let (mut bare, mut in_turn, mut side_by_side) = (Vec::new(), Vec::new(), Vec::new());
    // The three in turn, so that a slow moment of the machine hits all.
    for _ in 0..repeats {
        bare.push(raw::rate(redis, messages, BATCH).await);
        in_turn.push(one_after_the_other(&publisher, &*subscriber, messages).await);
        side_by_side.push(at_once(&publisher, &*subscriber, messages).await);
    }
    let limit = print("bare client: XADD, XREADGROUP, XACK", "messages/s", 0, bare);
    for (name, rates) in
        [("publish, receive, ack, one after the other", in_turn), ("the same, side by side", side_by_side)]
    {
        let rate = print(name, "messages/s", 0, rates);
        println!("  {:<52} {:>9.0} %", "  of the bare client", rate / limit * 100.0);
    }
    subscriber.close().await.expect("a clean end");
}

fn batch() -> Vec<ReadyRun> {
    (0..BATCH).map(|number| run_of("orders", number)).collect()
}

async fn settle(subscriber: &dyn Subscriber) -> usize {
    let deliveries = subscriber.receive(BATCH).await.expect("deliveries");
    let receipts: Vec<_> = deliveries.into_iter().map(|delivery| delivery.receipt).collect();
    subscriber.ack(&receipts).await.expect("it is settled");
    receipts.len()
}

async fn one_after_the_other(publisher: &RedisPublisher, subscriber: &dyn Subscriber, messages: usize) -> f64 {
    let (batch, mut done) = (batch(), 0);
    let begin = Instant::now();
    while done < messages {
        assert_eq!(publisher.publish(&batch).await.failed, []);
        let mut left = BATCH;
        while left > 0 {
            left -= settle(subscriber).await;
        }
        done += BATCH;
    }
    done as f64 / begin.elapsed().as_secs_f64()
}

async fn at_once(publisher: &RedisPublisher, subscriber: &dyn Subscriber, messages: usize) -> f64 {
    let batches = messages / BATCH;
    let room = tokio::sync::Semaphore::new(AHEAD * BATCH);
    let begin = Instant::now();
    let publish = async {
        let batch = batch();
        for _ in 0..batches {
            room.acquire_many(BATCH as u32).await.expect("it is open").forget();
            assert_eq!(publisher.publish(&batch).await.failed, []);
        }
    };
    let receive = async {
        let mut done = 0;
        while done < batches * BATCH {
            let settled = settle(subscriber).await;
            room.add_permits(settled);
            done += settled;
        }
    };
    tokio::join!(publish, receive);
    (batches * BATCH) as f64 / begin.elapsed().as_secs_f64()
}
