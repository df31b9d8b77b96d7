//! Prints how many deliveries a second one thread publishes, receives and acknowledges.

use std::time::Instant;

use aiki_core::{
    Name, Priority, Publisher, ReadyRun, RunId, Subscriber, SubscriberError, SubscriberFactory, Subscription,
    WorkflowKey,
};
use aiki_subscriber_memory::MemoryQueue;

const BATCH: usize = 64;
const ROUNDS: usize = 30_000;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), SubscriberError> {
    for backlog in [0, 100_000] {
        let queue = MemoryQueue::new();
        let workflow = WorkflowKey::user("orders", "1.0.0");
        let subscription = Subscription {
            worker: Name::new("worker"),
            namespace: Name::new("default"),
            workflows: vec![workflow.clone()],
            pools: Vec::new(),
        };
        let subscriber = queue.subscribe(subscription).await?;
        let mut runs = (1_u128..).map(|n| ReadyRun {
            id: RunId::from_bits(n << 24),
            namespace: Name::new("default"),
            workflow: workflow.clone(),
            pool: None,
            priority: Priority::Normal,
        });
        queue.publish(&runs.by_ref().take(backlog).collect::<Vec<_>>()).await;
        let batches: Vec<Vec<_>> = (0..ROUNDS).map(|_| runs.by_ref().take(BATCH).collect()).collect();

        let begin = Instant::now();
        let mut count = 0;
        for batch in &batches {
            queue.publish(batch).await;
            count += settle(&*subscriber).await?;
        }
        let rate = f64::from(count) / begin.elapsed().as_secs_f64();
        println!("{backlog:>7} waiting: {:.2} million deliveries/s", rate / 1e6);
    }
    Ok(())
}

async fn settle(subscriber: &dyn Subscriber) -> Result<u32, SubscriberError> {
    let deliveries = subscriber.receive(BATCH).await?;
    let receipts: Vec<_> = deliveries.into_iter().map(|delivery| delivery.receipt).collect();
    subscriber.ack(&receipts).await?;
    Ok(receipts.len() as u32)
}
