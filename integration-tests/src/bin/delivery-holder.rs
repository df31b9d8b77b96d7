//! Holds deliveries as a worker does whose handlers take long: `delivery-holder URL NAME LEASE_MS LIMIT`.
//!
//! It receives up to `LIMIT` runs of the workflow `orders` in the namespace `test`, renews them, and tells of each on its
//! output: `ready`, `held RUN`, and with every heartbeat `lease RUN ANSWER`. A line `ack` on its input makes it
//! acknowledge everything it ever received, whoever has it now; it answers `acked`. It ends with its input.

use std::process::ExitCode;
use std::time::Duration;

use aiki_core::subscriber::{DeliveryLease, Receipt};
use aiki_core::{Name, RunId, SubscriberFactory, Subscription, WorkflowKey};
use aiki_subscriber_redis::{RedisStreams, RedisUrl};
use tokio::io::{AsyncBufReadExt, BufReader};

const USAGE: &str = "usage: delivery-holder URL NAME LEASE_MS LIMIT";

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

async fn run() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [url, name, lease, limit] = &arguments[..] else { return Err(USAGE.into()) };
    let url: RedisUrl = url.parse()?;
    let (lease, limit) = (Duration::from_millis(lease.parse()?), limit.parse::<usize>()?);
    let subscription = Subscription {
        worker: Name::new(name),
        namespace: Name::new("test"),
        workflows: vec![WorkflowKey::user("orders", "1.0.0")],
        pools: Vec::new(),
    };
    let streams = RedisStreams::new(url).claim_min_idle_time(lease).block_time(lease / 10);
    let subscriber = streams.subscribe(subscription).await?;
    println!("ready");

    let mut held: Vec<(RunId, Receipt)> = Vec::new();
    let mut all = Vec::new();
    let mut beat = tokio::time::interval(lease / 4);
    let mut commands = BufReader::new(tokio::io::stdin()).lines();
    loop {
        tokio::select! {
            received = subscriber.receive(limit.saturating_sub(held.len())), if held.len() < limit => {
                for delivery in received.unwrap_or_default() {
                    println!("held {}", delivery.run);
                    all.push(delivery.receipt.clone());
                    held.push((delivery.run, delivery.receipt));
                }
            }
            _ = beat.tick() => {
                let receipts: Vec<Receipt> = held.iter().map(|(_, receipt)| receipt.clone()).collect();
                // A heartbeat that fails is not repeated before the next one is due.
                let leases = subscriber.heartbeat(&receipts).await.unwrap_or_default();
                for ((run, _), lease) in held.iter().zip(&leases) {
                    println!("lease {run} {lease:?}");
                }
                let mut leases = leases.into_iter();
                held.retain(|_| leases.next().is_none_or(|lease| lease == DeliveryLease::Mine));
            }
            command = commands.next_line() => match command?.as_deref() {
                Some("ack") => {
                    subscriber.ack(&all).await?;
                    println!("acked");
                }
                Some(other) => return Err(format!("unknown command {other}").into()),
                None => break,
            },
        }
    }
    subscriber.close().await?;
    Ok(())
}
