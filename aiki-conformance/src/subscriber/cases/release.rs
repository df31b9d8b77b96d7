//! Handing deliveries back.

use std::time::Duration;

use aiki_core::subscriber::{DeliveryLease, ReleaseDelay};
use tokio::time::Instant;

use crate::subscriber::bench::{Bench, delivered, receipts};
use crate::subscriber::{CaseResult, Harness};

/// Released without a delay, a run goes to whoever asks next, long before its lease would have ended.
pub async fn a_released_run_is_available_at_once(harness: &dyn Harness) -> CaseResult {
    let bench = Bench::new("a_released_run_is_available_at_once", harness);
    let (one, two) = (bench.subscribe("one").await?, bench.subscribe("two").await?);
    bench.publish(&bench.runs(3)).await?;
    let held = bench.collect_soon(&*one, 3).await?;
    // Only the holder can hand back.
    bench.release(&*two, &receipts(&held), ReleaseDelay::None).await?;
    bench.nothing(&*two, harness.slack() / 4).await?;
    bench.release(&*one, &receipts(&held[..2]), ReleaseDelay::None).await?;
    let moved = bench.collect_soon(&*two, 2).await?;
    bench.ensure(delivered(&moved) == delivered(&held[..2]), || format!("other runs were delivered: {moved:?}"))?;
    let kept = bench.lease_of(&*one, &held[2]).await?;
    bench.ensure(kept == DeliveryLease::Mine, || format!("what was not released is {kept:?}"))
}

/// Released with a delay, a run comes after it and not before, and its old holder has no part in it.
pub async fn a_delayed_release_is_not_delivered_early(harness: &dyn Harness) -> CaseResult {
    let bench = Bench::new("a_delayed_release_is_not_delivered_early", harness);
    let (one, two) = (bench.subscribe("one").await?, bench.subscribe("two").await?);
    for delay in [bench.lease() / 2, bench.lease() * 3 / 4] {
        let runs = bench.runs(1);
        bench.publish(&runs).await?;
        let held = bench.one(&*one).await?;
        // The time from here on includes any repetition of the call.
        let begin = Instant::now();
        bench.release(&*one, &[held.receipt], ReleaseDelay::After(delay)).await?;
        // A whole millisecond is left for backends that count in those.
        let silence = delay.saturating_sub(begin.elapsed()).saturating_sub(Duration::from_millis(1));
        bench.nothing(&*two, silence).await?;
        let moved = bench.collect_soon(&*two, 1).await?;
        bench.ensure(moved[0].run == runs[0].id, || format!("another run was delivered: {moved:?}"))?;
        bench.ack(&*two, &receipts(&moved)).await?;
    }
    Ok(())
}
