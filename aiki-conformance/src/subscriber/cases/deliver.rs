//! From publish to receive.

use std::time::Duration;

use tokio::time::Instant;

use crate::subscriber::bench::{Bench, delivered, ids, receipts};
use crate::subscriber::{CaseResult, Harness};

/// Each published run is delivered, with its workflow, and only once while it is held.
///
/// *Exact*: a transport that repeats deliveries fails it.
pub async fn delivers_a_published_run_once(harness: &dyn Harness) -> CaseResult {
    let bench = Bench::new("delivers_a_published_run_once", harness);
    let subscriber = bench.subscribe("worker").await?;
    let runs = bench.runs(10);
    bench.publish(&runs).await?;

    let mut all = Vec::new();
    while all.len() < runs.len() {
        let some = bench.receive(&*subscriber, 4).await?;
        bench.ensure(!some.is_empty(), || format!("only {} of 10 runs were delivered", all.len()))?;
        all.extend(some);
    }
    bench.ensure(all.len() == runs.len(), || format!("10 runs made {} deliveries", all.len()))?;
    bench.ensure(delivered(&all) == ids(&runs), || format!("other runs were delivered: {all:?}"))?;
    let workflow = bench.orders();
    bench.ensure(all.iter().all(|delivery| delivery.workflow == workflow), || {
        format!("not all of {workflow}: {all:?}")
    })?;
    bench.nothing(&*subscriber, bench.lease() / 2).await
}

/// A run that was announced while nobody listened waits for the first who does.
pub async fn a_run_published_before_anybody_subscribed_is_delivered(harness: &dyn Harness) -> CaseResult {
    let bench = Bench::new("a_run_published_before_anybody_subscribed_is_delivered", harness);
    let runs = bench.runs(3);
    bench.publish(&runs).await?;
    bench.pass(bench.lease() / 4).await;
    let subscriber = bench.subscribe("late").await?;
    let all = bench.collect_soon(&*subscriber, 3).await?;
    bench.ensure(delivered(&all) == ids(&runs), || format!("other runs were delivered: {all:?}"))
}

/// The same announcement twice delivers the run once or twice, but not never.
pub async fn a_run_published_twice_is_not_lost(harness: &dyn Harness) -> CaseResult {
    let bench = Bench::new("a_run_published_twice_is_not_lost", harness);
    let subscriber = bench.subscribe("worker").await?;
    let runs = bench.runs(5);
    bench.publish(&runs).await?;
    bench.publish(&runs).await?;
    bench.publish(&[&runs[..], &runs[..]].concat()).await?;

    let mut deliveries = bench.collect_soon(&*subscriber, 5).await?;
    bench.ack(&*subscriber, &receipts(&deliveries)).await?;
    // At most one delivery for each announcement: then there is silence.
    for _ in 0..20 {
        let more = bench.receive(&*subscriber, 20).await?;
        if more.is_empty() {
            return bench.ensure(delivered(&deliveries) == ids(&runs), || format!("not the runs: {deliveries:?}"));
        }
        bench.ack(&*subscriber, &receipts(&more)).await?;
        deliveries.extend(more);
    }
    Err(bench.fail("20 announcements led to more than 20 batches of deliveries"))
}

/// A run becomes ready many times in its life: each announcement after an `ack` is a new one.
pub async fn a_run_published_again_after_ack_is_delivered_again(harness: &dyn Harness) -> CaseResult {
    let bench = Bench::new("a_run_published_again_after_ack_is_delivered_again", harness);
    let subscriber = bench.subscribe("worker").await?;
    let runs = bench.runs(1);
    for _ in 0..5 {
        bench.publish(&runs).await?;
        let delivery = bench.one(&*subscriber).await?;
        bench.ensure(delivery.run == runs[0].id, || format!("another run was delivered: {delivery:?}"))?;
        bench.ack(&*subscriber, &[delivery.receipt]).await?;
    }
    Ok(())
}

/// A suspended run may be ready again before the worker has acknowledged the delivery that it ran
/// under. The announcement survives that acknowledgement.
pub async fn a_run_published_again_while_held_is_delivered_again(harness: &dyn Harness) -> CaseResult {
    let bench = Bench::new("a_run_published_again_while_held_is_delivered_again", harness);
    let subscriber = bench.subscribe("worker").await?;
    let runs = bench.runs(1);
    bench.publish(&runs).await?;
    let first = bench.one(&*subscriber).await?;
    bench.publish(&runs).await?;
    bench.ack(&*subscriber, &[first.receipt]).await?;
    let second = bench.one(&*subscriber).await?;
    bench.ensure(second.run == runs[0].id, || format!("another run was delivered: {second:?}"))
}

/// Without runs, `receive` answers with none after a bounded time.
///
/// *Exact*: it counts errors and time.
pub async fn an_empty_receive_returns_without_error(harness: &dyn Harness) -> CaseResult {
    let bench = Bench::new("an_empty_receive_returns_without_error", harness);
    let subscriber = bench.subscribe("worker").await?;
    for _ in 0..3 {
        let begin = Instant::now();
        let nothing = bench.receive(&*subscriber, 8).await?;
        bench.ensure(nothing.is_empty(), || format!("out of nothing came {nothing:?}"))?;
        let (took, longest) = (begin.elapsed(), harness.longest_receive());
        bench.ensure(took <= longest, || format!("receive took {took:?}, longer than {longest:?}"))?;
        bench.ensure(took > Duration::ZERO || subscriber.next_delay(0) > Duration::ZERO, || {
            "receive does not wait and next_delay is 0: a worker would spin".into()
        })?;
    }
    Ok(())
}

/// Whoever waits in `receive` gets what is published meanwhile, in that very call.
///
/// Passes without a look at backends whose guarantees say that `receive` does not wait.
///
/// *Exact*: a call that fails has not waited.
pub async fn a_waiting_receive_is_woken_by_a_publish(harness: &dyn Harness) -> CaseResult {
    let bench = Bench::new("a_waiting_receive_is_woken_by_a_publish", harness);
    let subscriber = bench.subscribe("worker").await?;
    if !subscriber.guarantees().waits {
        return Ok(());
    }
    let runs = bench.runs(1);
    let publish = async {
        bench.pass(Duration::from_millis(20)).await;
        bench.publish(&runs).await
    };
    let (received, published) = tokio::join!(bench.receive(&*subscriber, 8), publish);
    published?;
    let received = received?;
    bench.ensure(delivered(&received) == ids(&runs), || format!("the waiting call returned {received:?}"))
}
