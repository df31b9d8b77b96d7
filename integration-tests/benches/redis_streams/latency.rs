//! From a publication to its delivery, while nothing else happens.

use std::time::{Duration, Instant};

use aiki_core::Publisher;
use aiki_subscriber_redis::RedisPublisher;
use integration_tests::redis::RedisServer;
use tokio::sync::mpsc;

use crate::{print, quantile, raw, run_of, subscribe};

/// The reader waits again by then.
const PAUSE: Duration = Duration::from_millis(2);

pub(crate) async fn measure(redis: &RedisServer, repeats: usize, deliveries: usize) {
    let (mut bare, mut bare_late, mut ours, mut ours_late) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for _ in 0..repeats {
        let mut times = bare_client(redis, deliveries / repeats).await;
        bare.push(quantile(&mut times, 0.5));
        bare_late.push(quantile(&mut times, 0.99));
        let mut times = subscriber(redis, deliveries / repeats).await;
        ours.push(quantile(&mut times, 0.5));
        ours_late.push(quantile(&mut times, 0.99));
    }
    let limit = print("bare client: XADD to a read that waits, p50", "ms", 3, bare);
    print("  p99", "ms", 3, bare_late);
    let time = print("publish to receive, p50", "ms", 3, ours);
    print("  p99", "ms", 3, ours_late);
    println!("  {:<52} {:>10.2}", "  times the bare client", time / limit);
}

async fn bare_client(redis: &RedisServer, deliveries: usize) -> Vec<f64> {
    let (writer, reader) = raw::open(redis).await;
    let (tell, mut told) = mpsc::channel(1);
    let reading = tokio::spawn(async move {
        for _ in 0..deliveries {
            let ids = loop {
                let ids = raw::read(&reader, 1).await;
                if !ids.is_empty() {
                    break ids;
                }
            };
            tell.send(Instant::now()).await.expect("somebody measures");
            raw::ack(&reader, ids).await;
        }
    });
    let mut times = Vec::new();
    for _ in 0..deliveries {
        tokio::time::sleep(PAUSE).await;
        let begin = Instant::now();
        raw::add(&writer, 1).await;
        times.push((told.recv().await.expect("a delivery") - begin).as_secs_f64() * 1e3);
    }
    reading.await.expect("it did not panic");
    times
}

async fn subscriber(redis: &RedisServer, deliveries: usize) -> Vec<f64> {
    let publisher = RedisPublisher::new(redis.url().parse().expect("a good URL"));
    let subscriber = subscribe(redis, &["orders".into()]).await;
    let (tell, mut told) = mpsc::channel(1);
    let receiving = tokio::spawn(async move {
        for _ in 0..deliveries {
            let got = loop {
                let got = subscriber.receive(8).await.expect("deliveries");
                if !got.is_empty() {
                    break got;
                }
            };
            tell.send(Instant::now()).await.expect("somebody measures");
            let receipts: Vec<_> = got.into_iter().map(|delivery| delivery.receipt).collect();
            subscriber.ack(&receipts).await.expect("it is settled");
        }
        subscriber.close().await.expect("a clean end");
    });
    publisher.publish(&[]).await;
    let mut times = Vec::new();
    for number in 0..deliveries {
        tokio::time::sleep(PAUSE).await;
        let begin = Instant::now();
        assert_eq!(publisher.publish(&[run_of("orders", number)]).await.failed, []);
        times.push((told.recv().await.expect("a delivery") - begin).as_secs_f64() * 1e3);
    }
    receiving.await.expect("it did not panic");
    times
}
