//! The decorators do what they say: one counts, one disturbs and can be repeated.

use std::time::Duration;

use aiki_conformance::subscriber::{Counts, Faults, FaultySubscribers, InstrumentedSubscribers};
use aiki_core::{
    Name, Priority, Publisher, ReadyRun, RunId, SubscriberError, SubscriberFactory, Subscription, WorkflowKey,
};
use aiki_subscriber_memory::MemoryQueue;

fn run(n: u128) -> ReadyRun {
    ReadyRun {
        id: RunId::from_bits(n << 24),
        namespace: Name::new("default"),
        workflow: WorkflowKey::user("orders", "1.0.0"),
        pool: None,
        priority: Priority::Normal,
    }
}

fn subscription() -> Subscription {
    Subscription {
        worker: Name::new("worker"),
        namespace: Name::new("default"),
        workflows: vec![WorkflowKey::user("orders", "1.0.0")],
        pools: Vec::new(),
    }
}

#[tokio::test(start_paused = true)]
async fn every_call_is_counted() {
    let queue = MemoryQueue::new();
    let instrumented = InstrumentedSubscribers::new(queue.clone());
    let subscriber = instrumented.subscribe(subscription()).await.unwrap();
    queue.publish(&[run(1), run(2)]).await;
    let held = subscriber.receive(8).await.unwrap();
    assert_eq!(subscriber.receive(8).await.unwrap(), []);
    subscriber.ack(&[held[0].receipt.clone()]).await.unwrap();
    subscriber.heartbeat(&[held[0].receipt.clone(), held[1].receipt.clone()]).await.unwrap();
    subscriber.close().await.unwrap();
    assert_eq!(subscriber.receive(8).await, Err(SubscriberError::Closed));
    let expected = Counts {
        subscriptions: 1,
        receives: 3,
        empty_receives: 1,
        deliveries: 2,
        acks: 1,
        acked: 1,
        heartbeats: 1,
        leases_lost: 1,
        closes: 1,
        errors: 1,
        ..Counts::default()
    };
    assert_eq!(instrumented.counts(), expected);
}

/// What a hundred calls of `receive` bring: `None` for a failure, otherwise the runs.
async fn disturbed_calls(seed: u64) -> Vec<Option<Vec<RunId>>> {
    let faults = Faults { unavailable_per_mille: 200, duplicate_per_mille: 200, ..Faults::seeded(seed) };
    let queue = MemoryQueue::new();
    queue.publish(&(1..=100).map(run).collect::<Vec<_>>()).await;
    let disturbed = FaultySubscribers::new(queue, faults);
    let subscriber = loop {
        if let Ok(subscriber) = disturbed.subscribe(subscription()).await {
            break subscriber;
        }
    };
    let mut calls = Vec::new();
    for _ in 0..100 {
        let runs = subscriber.receive(3).await.ok().map(|some| some.iter().map(|delivery| delivery.run).collect());
        calls.push(runs);
    }
    calls
}

#[tokio::test(start_paused = true)]
async fn a_seed_disturbs_the_same_calls_again() {
    let calls = disturbed_calls(7).await;
    let failed = calls.iter().filter(|call| call.is_none()).count();
    assert!((5..50).contains(&failed), "{failed} of 100 calls failed");
    assert_eq!(disturbed_calls(7).await, calls);
    assert_ne!(disturbed_calls(8).await, calls);
}

#[tokio::test(start_paused = true)]
async fn duplicates_keep_to_the_limit_and_lose_nothing() {
    let faults = Faults {
        seed: 3,
        unavailable_per_mille: 0,
        duplicate_per_mille: 1000,
        delay_per_mille: 0,
        longest_delay: Duration::ZERO,
    };
    let queue = MemoryQueue::new();
    queue.publish(&[run(1), run(2)]).await;
    let subscriber = FaultySubscribers::new(queue.clone(), faults).subscribe(subscription()).await.unwrap();
    let twice: Vec<_> = subscriber.receive(3).await.unwrap().into_iter().map(|delivery| delivery.run).collect();
    assert_eq!(twice, [1, 2, 1].map(|n| run(n).id));
    assert_eq!(queue.held(), 2);
}
