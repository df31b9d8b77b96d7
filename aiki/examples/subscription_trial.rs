//! A payment against a timeout: a trial that becomes a subscription when a payment comes within 14 days.
//!
//! ```text
//! cargo run --example subscription_trial
//! ```
//!
//! Time is virtual: it jumps ahead whenever everything waits, so the fortnight passes at once. A waiting run holds no
//! worker: here a new one comes by for a minute on three of the days. `start_paused` needs tokio's feature `test-util`.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use aiki::prelude::*;
use aiki::{Either, VirtualClock, race};
use serde::{Deserialize, Serialize};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
const TRIAL: Duration = Duration::from_secs(14 * 24 * 60 * 60);

/// A payment, in cents.
const PAID: Event<u64> = Event::new("paid");

#[derive(Debug, PartialEq, Serialize, Deserialize)]
enum Subscription {
    Active { cents: u64 },
    Closed { account: String },
}

#[aiki::task(retry = exponential(5, "1s"))]
async fn close_account(subscriber: String) -> Result<String, Failure> {
    Ok(format!("{subscriber}'s account"))
}

#[aiki::workflow(version = "1.0.0", events = [PAID])]
async fn subscription_trial(run: Run, subscriber: String) -> Result<Subscription, Failure> {
    match race(run.event(&PAID), run.sleep("trial", TRIAL)).await {
        Either::Left(cents) => Ok(Subscription::Active { cents }),
        Either::Right(_) => Ok(Subscription::Closed { account: close_account.start(&run, subscriber).await? }),
    }
}

/// A worker that is there for a minute, by the virtual clock.
async fn work_a_minute(server: &Server, clock: &Arc<VirtualClock>) -> Result<(), Box<dyn Error>> {
    let worker = Worker::builder(server.client())
        .subscriber(server.subscriber())
        .clock(clock.clone())
        .heartbeat_on_runtime(true)
        .build()?;
    worker.workflow_registry().add(subscription_trial);
    let running = tokio::spawn({
        let worker = worker.clone();
        async move { worker.start().await }
    });
    tokio::time::sleep(Duration::from_secs(60)).await;
    worker.stop().await;
    running.await??;
    Ok(())
}

#[tokio::main(flavor = "current_thread", start_paused = true)]
async fn main() -> Result<(), Box<dyn Error>> {
    let clock = Arc::new(VirtualClock::default());
    let server = Server::builder().clock(clock.clone()).start().await?;
    let client = server.client();
    let ada = subscription_trial.start(&client, "Ada".to_owned()).reference_id("ada").await?;
    let ben = subscription_trial.start(&client, "Ben".to_owned()).reference_id("ben").await?;
    work_a_minute(&server, &clock).await?;
    assert!(!ada.state().await?.is_terminal() && !ben.state().await?.is_terminal(), "both are on trial");

    // Ada pays on the third day. The payment service tells it twice; the reference id makes it one payment.
    tokio::time::sleep(3 * DAY).await;
    for _ in 0..2 {
        ada.send_event(&PAID, 900).reference_id("payment-1").await?;
    }
    work_a_minute(&server, &clock).await?;
    let paid = ada.wait().await?;
    println!("Ada: {paid:?}");
    assert_eq!(paid, Subscription::Active { cents: 900 });

    // The trial began in the first minute. A day before its end Ben still has his account.
    tokio::time::sleep(10 * DAY).await;
    assert!(!ben.state().await?.is_terminal(), "Ben has the whole trial");
    tokio::time::sleep(DAY).await;
    work_a_minute(&server, &clock).await?;
    let closed = ben.wait().await?;
    println!("Ben: {closed:?}");
    assert_eq!(closed, Subscription::Closed { account: "Ben's account".to_owned() });

    server.close().await;
    Ok(())
}
