//! Versions side by side: one worker serves two, and a run of a third waits, visibly, until its worker is there.
//!
//! ```text
//! cargo run --example versions
//! ```
//!
//! A run stays with the version that it began with, also when a newer one is served. Time is virtual.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use aiki::prelude::*;
use aiki::{RunState, VirtualClock};
use tokio::task::JoinHandle;

const HOUR: Duration = Duration::from_secs(60 * 60);

#[aiki::workflow(name = "invoice", version = "1.0.0")]
async fn invoice_v1(run: Run, cents: u64) -> Result<String, Failure> {
    run.sleep("until-the-evening", HOUR).await;
    Ok(format!("{cents} cents"))
}

#[aiki::workflow(name = "invoice", version = "2.0.0")]
async fn invoice_v2(_run: Run, cents: u64) -> Result<String, Failure> {
    Ok(format!("{} € {:02}", cents / 100, cents % 100))
}

/// Another input type: another version may be another contract.
#[aiki::workflow(name = "invoice", version = "3.0.0")]
async fn invoice_v3(_run: Run, lines: Vec<u64>) -> Result<String, Failure> {
    Ok(format!("{} lines, {} cents", lines.len(), lines.iter().sum::<u64>()))
}

type Running = JoinHandle<Result<aiki::StopReport, aiki::WorkerError>>;

fn worker(server: &Server, clock: &Arc<VirtualClock>, id: &str) -> Result<Worker, aiki::ConfigError> {
    Worker::builder(server.client())
        .id(id)
        .subscriber(server.subscriber())
        .clock(clock.clone())
        .heartbeat_on_runtime(true)
        .build()
}

fn begin(worker: &Worker) -> Running {
    let worker = worker.clone();
    tokio::spawn(async move { worker.start().await })
}

#[tokio::main(flavor = "current_thread", start_paused = true)]
async fn main() -> Result<(), Box<dyn Error>> {
    let clock = Arc::new(VirtualClock::default());
    let server = Server::builder().clock(clock.clone()).start().await?;
    let client = server.client();

    let first = worker(&server, &clock, "versions-1-and-2")?;
    first.workflow_registry().add(invoice_v1).add(invoice_v2);
    let first_running = begin(&first);

    let old = invoice_v1.start(&client, 1_999).await?;
    let new = invoice_v2.start(&client, 1_999).await?;
    assert_eq!(new.wait().await?, "19 € 99");
    assert!(!old.state().await?.is_terminal(), "the run of version 1 sleeps, and stays with version 1");

    // Nobody serves version 3 yet: the run is not lost and does not fail, and one can see why it waits.
    let early = invoice_v3.start(&client, vec![700, 50]).await?;
    tokio::time::sleep(HOUR / 2).await;
    let (unserved, state) = (early.is_unserved().await?, early.state().await?);
    println!("version 3 without a worker: unserved {unserved}");
    assert!(unserved);
    assert!(matches!(state, RunState::Queued { .. }), "{state:?}");

    let second = worker(&server, &clock, "version-3")?;
    second.workflow_registry().add(invoice_v3);
    let second_running = begin(&second);
    let invoice = early.wait().await?;
    println!("version 3 with its worker: {invoice}");
    assert_eq!(invoice, "2 lines, 750 cents");
    assert!(!early.is_unserved().await?);

    let invoice = old.wait().await?;
    println!("version 1, in the evening: {invoice}");
    assert_eq!(invoice, "1999 cents");

    for (worker, running) in [(first, first_running), (second, second_running)] {
        worker.stop().await;
        running.await??;
    }
    server.close().await;
    Ok(())
}
