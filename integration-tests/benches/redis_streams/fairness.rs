//! Whether a flood makes a trickle wait.

use std::sync::Arc;
use std::time::{Duration, Instant};

use aiki_core::Publisher;
use aiki_subscriber_redis::RedisPublisher;
use integration_tests::redis::RedisServer;
use tokio::sync::Semaphore;

use crate::{quantile, run_of, subscribe};

const FLOOD: usize = 10_000;
/// How long a task takes.
const TASK: Duration = Duration::from_millis(50);
/// Tasks at once.
const SLOTS: usize = 8;
/// Between two runs of the trickle.
const EVERY: Duration = Duration::from_secs(1);

pub(crate) async fn measure(during: Duration) {
    let redis = RedisServer::start().await;
    let publisher = RedisPublisher::new(redis.url().parse().expect("a good URL"));
    let subscriber: Arc<dyn aiki_core::Subscriber> =
        subscribe(&redis, &["flood".into(), "trickle".into()]).await.into();
    let flood: Vec<_> = (0..FLOOD).map(|number| run_of("flood", number)).collect();
    assert_eq!(publisher.publish(&flood).await.failed, []);

    let slots = Arc::new(Semaphore::new(SLOTS));
    let begin = Instant::now();
    let work = async {
        let (mut waits, mut others) = (Vec::new(), 0);
        while begin.elapsed() < during {
            let free = slots.clone().acquire_owned().await.expect("it is open");
            let room = 1 + slots.available_permits();
            drop(free);
            for delivery in subscriber.receive(room).await.expect("deliveries") {
                let slot = slots.clone().acquire_owned().await.expect("it is open");
                if delivery.workflow.name.as_str() == "trickle" {
                    // The run's number is when it was published.
                    let at = Duration::from_micros((delivery.run.to_bits() >> 24) as u64 - 1);
                    waits.push((begin.elapsed().saturating_sub(at)).as_secs_f64() * 1e3);
                } else {
                    others += 1;
                }
                let subscriber = subscriber.clone();
                tokio::spawn(async move {
                    tokio::time::sleep(TASK).await;
                    subscriber.ack(&[delivery.receipt]).await.expect("it is settled");
                    drop(slot);
                });
            }
        }
        (waits, others)
    };
    let publish = async {
        let mut next = tokio::time::interval(EVERY);
        loop {
            next.tick().await;
            let run = run_of("trickle", begin.elapsed().as_micros() as usize);
            assert_eq!(publisher.publish(&[run]).await.failed, []);
        }
    };
    let (mut waits, others) = tokio::select! {
        done = work => done,
        () = publish => return,
    };
    // The last tasks settle what they have.
    let _all = slots.acquire_many(SLOTS as u32).await.expect("it is open");
    subscriber.close().await.expect("a clean end");
    let (median, late) = (quantile(&mut waits, 0.5), quantile(&mut waits, 0.99));
    let count = waits.len();
    println!("  {:<52} {median:>10.1} ms", format!("wait of the trickle, p50 of {count}, tasks of {TASK:?}"));
    println!("  {:<52} {late:>10.1} ms", "  p99");
    println!("  {:<52} {others:>10}", "tasks of the flood meanwhile");
}
