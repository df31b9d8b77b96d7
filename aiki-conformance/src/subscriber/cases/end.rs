//! Subscribers that end, with and without warning.

use std::time::Duration;

use aiki_core::SubscriberError;
use tokio::time::Instant;

use crate::subscriber::bench::{Bench, delivered};
use crate::subscriber::{CaseResult, Harness};

/// A clean end hands everything back: others get it without waiting for any lease.
pub async fn close_hands_back_at_once(harness: &dyn Harness) -> CaseResult {
    let bench = Bench::new("close_hands_back_at_once", harness);
    let (leaving, staying) = (bench.subscribe("leaving").await?, bench.subscribe("staying").await?);
    bench.publish(&bench.runs(5)).await?;
    let held = bench.collect_soon(&*leaving, 5).await?;
    bench.close(&*leaving).await?;
    let moved = bench.collect_soon(&*staying, 5).await?;
    bench.ensure(delivered(&moved) == delivered(&held), || format!("other runs were delivered: {moved:?}"))
}

/// After `close`, `receive` says so and delivers nothing, however often it is asked; a second `close`
/// does no harm.
pub async fn receive_after_close_is_closed(harness: &dyn Harness) -> CaseResult {
    let bench = Bench::new("receive_after_close_is_closed", harness);
    let subscriber = bench.subscribe("worker").await?;
    bench.close(&*subscriber).await?;
    bench.close(&*subscriber).await?;
    bench.publish(&bench.runs(1)).await?;
    for _ in 0..3 {
        let answer = bench.receive_or_error(&*subscriber, 1).await?;
        bench.ensure(answer == Err(SubscriberError::Closed), || format!("a closed subscriber answers {answer:?}"))?;
    }
    let other = bench.subscribe("other").await?;
    bench.one(&*other).await.map(|_| ())
}

/// A `receive` that waits when the subscriber is closed does not wait on.
///
/// Passes without a look at backends whose guarantees say that `receive` does not wait.
///
/// *Exact*: a call that fails has not waited.
pub async fn a_waiting_receive_is_woken_by_close(harness: &dyn Harness) -> CaseResult {
    let bench = Bench::new("a_waiting_receive_is_woken_by_close", harness);
    let subscriber = bench.subscribe("worker").await?;
    if !subscriber.guarantees().waits {
        return Ok(());
    }
    let close = async {
        bench.pass(Duration::from_millis(5)).await;
        bench.close(&*subscriber).await
    };
    let (answer, closed) = tokio::join!(bench.receive_or_error(&*subscriber, 1), close);
    closed?;
    let answer = answer?;
    bench.ensure(answer == Err(SubscriberError::Closed), || format!("the waiting call returned {answer:?}"))
}

/// What a dead subscriber held goes to another after the lease, and not much before.
pub async fn a_crashed_subscribers_runs_go_to_another(harness: &dyn Harness) -> CaseResult {
    let bench = Bench::new("a_crashed_subscribers_runs_go_to_another", harness);
    let (dying, other) = (bench.subscribe("dying").await?, bench.subscribe("other").await?);
    bench.publish(&bench.runs(5)).await?;
    let begin = Instant::now();
    let held = bench.collect_soon(&*dying, 5).await?;
    harness.crash(dying).await;
    bench.nothing(&*other, (bench.lease() * 3 / 4).saturating_sub(begin.elapsed())).await?;
    let moved = bench.collect(&*other, 5, 2, bench.lease() / 4 + harness.slack()).await?;
    bench.ensure(delivered(&moved) == delivered(&held), || format!("other runs were delivered: {moved:?}"))
}
