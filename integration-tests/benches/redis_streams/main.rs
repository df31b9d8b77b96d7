//! Subscriber and publisher over a local Redis, each beside what a bare client reaches in the same run.
//!
//! ```text
//! cargo bench -p integration-tests --bench redis_streams            # about a minute and a half
//! cargo bench -p integration-tests --bench redis_streams -- --quick # half a minute, for a first look
//! ```

#![allow(clippy::expect_used, reason = "a benchmark that cannot run stops")]

mod fairness;
mod idle;
mod latency;
mod raw;
mod throughput;

use std::time::Duration;

use aiki_core::{Name, Priority, ReadyRun, RunId, Subscriber, SubscriberFactory, Subscription, WorkflowKey};
use aiki_subscriber_redis::{RedisStreams, RedisUrl};
use integration_tests::redis::RedisServer;

/// How much is measured.
struct Size {
    repeats: usize,
    messages: usize,
    deliveries: usize,
    idle: Duration,
    fairness: Duration,
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    // `cargo test --benches` runs this program too: then it only has to start.
    if arguments.iter().any(|argument| argument == "--test") {
        return;
    }
    let size = if arguments.iter().any(|argument| argument == "--quick") {
        let (idle, fairness) = (Duration::from_secs(8), Duration::from_secs(5));
        Size { repeats: 3, messages: 64_000, deliveries: 1_000, idle, fairness }
    } else {
        let (idle, fairness) = (Duration::from_secs(30), Duration::from_secs(40));
        Size { repeats: 5, messages: 192_000, deliveries: 2_000, idle, fairness }
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime can be made");
    runtime.block_on(async {
        let redis = RedisServer::start().await;
        println!("\nmessages: published, delivered and acknowledged in batches of {}", throughput::BATCH);
        throughput::measure(&redis, size.repeats, size.messages).await;
        println!("\none message over an idle Redis, p50 of {} (p99 in its own line)", size.deliveries);
        latency::measure(&redis, size.repeats, size.deliveries).await;
        println!("\none idle subscription with {} workflows, default times", idle::WORKFLOWS);
        idle::measure(size.idle).await;
        println!("\none stream with 10,000 queued, another with one a second");
        fairness::measure(size.fairness).await;
    });
}

fn run_of(workflow: &str, number: usize) -> ReadyRun {
    ReadyRun {
        id: RunId::from_bits((1 + number as u128) << 24),
        namespace: Name::new("bench"),
        workflow: WorkflowKey::user(workflow, "1.0.0"),
        pool: None,
        priority: Priority::Normal,
    }
}

async fn subscribe(redis: &RedisServer, workflows: &[String]) -> Box<dyn Subscriber> {
    let url: RedisUrl = redis.url().parse().expect("a good URL");
    let subscription = Subscription {
        worker: Name::new("worker"),
        namespace: Name::new("bench"),
        workflows: workflows.iter().map(|name| WorkflowKey::user(name.as_str(), "1.0.0")).collect(),
        pools: Vec::new(),
    };
    RedisStreams::new(url).subscribe(subscription).await.expect("a subscription")
}

/// Prints median, minimum and maximum of one figure, and answers the median.
fn print(name: &str, unit: &str, digits: usize, mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let (min, max, median) = (values[0], values[values.len() - 1], values[values.len() / 2]);
    println!("  {name:<52} {median:>10.digits$} {unit:<12} ({min:.digits$} to {max:.digits$})");
    median
}

/// The value below which this part of them lies.
fn quantile(values: &mut [f64], part: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    values[((values.len() - 1) as f64 * part) as usize]
}
