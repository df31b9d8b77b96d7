//! A human decides, or nobody does: an expense waits up to three days for a manager, then it is escalated.
//!
//! ```text
//! cargo run --example approval
//! ```
//!
//! One expense is approved and paid, one is rejected (the caller gets the workflow's own error), one is not looked at.
//! Time is virtual: the three days pass at once. A waiting run holds no worker: here the worker comes by for a minute on
//! three of the days.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use aiki::VirtualClock;
use aiki::prelude::*;
use serde::{Deserialize, Serialize};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
const PATIENCE: Duration = Duration::from_secs(3 * 24 * 60 * 60);

const DECIDED: Event<Decision> = Event::new("decided");

#[derive(Clone, Serialize, Deserialize)]
struct Claim {
    employee: String,
    cents: u64,
}

#[derive(Serialize, Deserialize)]
enum Decision {
    Approve,
    Reject { reason: String },
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
enum Outcome {
    Paid { transfer: String },
    Escalated { to: String },
}

#[derive(Debug, Serialize, Deserialize, thiserror::Error)]
#[error("the {service} does not answer")]
struct Silent {
    service: String,
}

#[derive(Debug, Serialize, Deserialize, thiserror::Error)]
enum ExpenseError {
    #[error("rejected: {reason}")]
    Rejected { reason: String },
    #[error(transparent)]
    Service(#[from] TaskError<Silent>),
}

/// The bank is silent at first; how it is asked again is part of the definition.
#[aiki::task(retry = exponential(5, "1s"))]
async fn pay_out(cx: TaskContext, claim: Claim) -> Result<String, Silent> {
    match cx.attempt() {
        1 => Err(Silent { service: "bank".to_owned() }),
        _ => Ok(format!("{} cents to {}", claim.cents, claim.employee)),
    }
}

#[aiki::task(retry = fixed(3, "10s"))]
async fn notify(person: String) -> Result<String, Silent> {
    Ok(person)
}

#[aiki::workflow(version = "1.0.0", events = [DECIDED])]
async fn expense(run: Run, claim: Claim) -> Result<Outcome, ExpenseError> {
    notify.start(&run, "the manager".to_owned()).await?;
    match run.event_within(&DECIDED, PATIENCE).await {
        Ok(Decision::Approve) => Ok(Outcome::Paid { transfer: pay_out.start(&run, claim).await? }),
        Ok(Decision::Reject { reason }) => Err(ExpenseError::Rejected { reason }),
        Err(_elapsed) => Ok(Outcome::Escalated { to: notify.start(&run, "the director".to_owned()).await? }),
    }
}

/// A worker that is there for a minute, by the virtual clock.
async fn work_a_minute(server: &Server, clock: &Arc<VirtualClock>) -> Result<(), Box<dyn Error>> {
    let worker = Worker::builder(server.client())
        .subscriber(server.subscriber())
        .clock(clock.clone())
        .heartbeat_on_runtime(true)
        .build()?;
    worker.workflow_registry().add(expense);
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
    let claim = |employee: &str, cents| Claim { employee: employee.to_owned(), cents };
    let approved = expense.start(&client, claim("Ada", 4_200)).await?;
    let rejected = expense.start(&client, claim("Ben", 990_000)).await?;
    let forgotten = expense.start(&client, claim("Eve", 1_500)).await?;
    work_a_minute(&server, &clock).await?;

    tokio::time::sleep(DAY).await;
    approved.send_event(&DECIDED, Decision::Approve).await?;
    rejected.send_event(&DECIDED, Decision::Reject { reason: "no yachts".to_owned() }).await?;
    work_a_minute(&server, &clock).await?;

    let outcome = approved.wait().await?;
    println!("Ada: {outcome:?}");
    assert_eq!(outcome, Outcome::Paid { transfer: "4200 cents to Ada".to_owned() });

    match rejected.wait().await {
        Err(RunError::Failed(ExpenseError::Rejected { reason })) => {
            println!("Ben: rejected: {reason}");
            assert_eq!(reason, "no yachts");
        }
        other => return Err(format!("Ben's expense should be rejected, but it is {other:?}").into()),
    }

    tokio::time::sleep(DAY).await;
    assert!(!forgotten.state().await?.is_terminal(), "the manager has three days");
    tokio::time::sleep(DAY).await;
    work_a_minute(&server, &clock).await?;
    let outcome = forgotten.wait().await?;
    println!("Eve: {outcome:?}");
    assert_eq!(outcome, Outcome::Escalated { to: "the director".to_owned() });

    server.close().await;
    Ok(())
}
