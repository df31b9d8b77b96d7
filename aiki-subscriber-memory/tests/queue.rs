//! What this queue promises beyond the suite: its limit, its counts, and exact times.

use std::time::Duration;

use aiki_core::subscriber::ReleaseDelay;
use aiki_core::{Name, Priority, Publisher, ReadyRun, RunId, Subscriber, SubscriberFactory, Subscription, WorkflowKey};
use aiki_subscriber_memory::{MemoryQueue, MemoryQueueConfig};
use tokio::time::Instant;

fn run(n: u128) -> ReadyRun {
    ReadyRun {
        id: RunId::from_bits(n << 24),
        namespace: Name::new("default"),
        workflow: WorkflowKey::user("orders", "1.0.0"),
        pool: None,
        priority: Priority::Normal,
    }
}

#[allow(clippy::unwrap_used, reason = "only tests call it")]
async fn subscribe(queue: &MemoryQueue, worker: &str) -> Box<dyn Subscriber> {
    let subscription = Subscription {
        worker: Name::new(worker),
        namespace: Name::new("default"),
        workflows: vec![WorkflowKey::user("orders", "1.0.0")],
        pools: Vec::new(),
    };
    queue.subscribe(subscription).await.unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_full_queue_refuses_by_name_and_takes_again_when_there_is_room() {
    let queue = MemoryQueue::with(MemoryQueueConfig { capacity: 2, ..MemoryQueueConfig::default() });
    let report = queue.publish(&[run(1), run(2), run(1), run(3)]).await;
    assert_eq!(report.failed, [(run(3).id, "the queue is full: it holds 2 runs".to_owned())]);

    let subscriber = subscribe(&queue, "worker").await;
    let one = subscriber.receive(1).await.unwrap();
    assert_eq!(queue.publish(&[run(3)]).await.failed.len(), 1, "what is held counts as well");
    subscriber.ack(&[one[0].receipt.clone()]).await.unwrap();
    assert_eq!(queue.publish(&[run(3)]).await.failed, []);
}

#[tokio::test(start_paused = true)]
async fn counts_follow_a_run_through_the_queue() {
    let queue = MemoryQueue::new();
    let counts = || (queue.depth(), queue.held(), queue.delayed());
    queue.publish(&[run(1), run(2), run(1)]).await;
    assert_eq!(counts(), (2, 0, 0));
    let subscriber = subscribe(&queue, "worker").await;
    let taken = subscriber.receive(8).await.unwrap();
    assert_eq!(counts(), (0, 2, 0));
    let later = ReleaseDelay::After(Duration::from_secs(5));
    subscriber.release(&[taken[0].receipt.clone()], later).await.unwrap();
    assert_eq!(counts(), (0, 1, 1));
    subscriber.ack(&[taken[1].receipt.clone()]).await.unwrap();
    assert_eq!(counts(), (0, 0, 1));
    assert!(format!("{queue:?}").contains("delayed: 1"));
}

#[tokio::test(start_paused = true)]
async fn a_waiting_receive_notices_a_lapse_to_the_millisecond() {
    // Nothing but the lapse can wake the call within its hour.
    let queue =
        MemoryQueue::with(MemoryQueueConfig { block_time: Duration::from_secs(3600), ..MemoryQueueConfig::default() });
    let (dead, heir) = (subscribe(&queue, "dead").await, subscribe(&queue, "heir").await);
    let begin = Instant::now();
    // The one who dies has waited longer and gets the run, while the heir waits already.
    let dies = async move { dead.receive(1).await.unwrap() };
    let (held, inherited, _) = tokio::join!(dies, heir.receive(1), async {
        tokio::time::sleep(Duration::from_millis(10)).await;
        queue.publish(&[run(1)]).await
    });
    assert_eq!(held[0].run, run(1).id);
    assert_eq!(inherited.unwrap()[0].run, run(1).id);
    assert_eq!(begin.elapsed(), Duration::from_millis(60_010));
}

#[tokio::test(start_paused = true)]
async fn the_announcement_of_a_delayed_run_ends_its_delay() {
    let queue = MemoryQueue::new();
    queue.publish(&[run(1)]).await;
    let subscriber = subscribe(&queue, "worker").await;
    let held = subscriber.receive(1).await.unwrap();
    let begin = Instant::now();
    subscriber.release(&[held[0].receipt.clone()], ReleaseDelay::After(Duration::MAX)).await.unwrap();
    assert_eq!(subscriber.receive(1).await.unwrap(), []);
    queue.publish(&[run(1)]).await;
    assert_eq!(subscriber.receive(1).await.unwrap()[0].run, run(1).id);
    assert_eq!(begin.elapsed(), Duration::from_secs(1), "one block time, spent on the empty call");
}

#[tokio::test(start_paused = true)]
async fn a_wake_up_that_is_dropped_goes_to_the_next_who_waits() {
    let queue = MemoryQueue::new();
    let (first, second) = (subscribe(&queue, "first").await, subscribe(&queue, "second").await);
    let begin = Instant::now();
    let mut dropped = first.receive(1);
    let mut waits = second.receive(1);
    // Both wait, the first one longer.
    assert!(poll_once(&mut dropped).await.is_none());
    assert!(poll_once(&mut waits).await.is_none());
    queue.publish(&[run(1)]).await;
    drop(dropped);
    assert_eq!(waits.await.unwrap()[0].run, run(1).id);
    assert_eq!(begin.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn one_batch_wakes_as_many_as_it_can_serve() {
    let queue = MemoryQueue::new();
    let (first, second) = (subscribe(&queue, "first").await, subscribe(&queue, "second").await);
    let begin = Instant::now();
    let (one, two, _) = tokio::join!(first.receive(2), second.receive(2), async {
        tokio::task::yield_now().await;
        queue.publish(&[run(1), run(2), run(3)]).await
    });
    assert_eq!((one.unwrap().len(), two.unwrap().len()), (2, 1));
    assert_eq!(begin.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn handed_back_runs_keep_their_order_and_go_first() {
    let queue = MemoryQueue::new();
    queue.publish(&[run(1), run(2), run(3), run(4)]).await;
    let (leaving, staying) = (subscribe(&queue, "leaving").await, subscribe(&queue, "staying").await);
    leaving.receive(3).await.unwrap();
    leaving.close().await.unwrap();
    let order: Vec<_> = staying.receive(8).await.unwrap().into_iter().map(|delivery| delivery.run).collect();
    assert_eq!(order, [1, 2, 3, 4].map(|n| run(n).id));
}

/// The future's answer if it has one at once.
async fn poll_once<F: Future + Unpin>(future: &mut F) -> Option<F::Output> {
    tokio::select! {
        biased;
        output = future => Some(output),
        () = std::future::ready(()) => None,
    }
}
