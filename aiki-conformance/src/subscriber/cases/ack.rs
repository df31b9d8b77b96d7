//! Settling deliveries.

use aiki_core::subscriber::{DeliveryLease, Receipt};

use crate::subscriber::bench::{Bench, receipts};
use crate::subscriber::{CaseResult, Harness};

/// What was acknowledged stays away, also after the lease would have lapsed, also when the subscriber
/// is gone by then.
pub async fn acked_runs_never_come_again(harness: &dyn Harness) -> CaseResult {
    let bench = Bench::new("acked_runs_never_come_again", harness);
    let (one, two) = (bench.subscribe("one").await?, bench.subscribe("two").await?);
    bench.publish(&bench.runs(5)).await?;
    let held = bench.collect_soon(&*one, 5).await?;
    bench.ack(&*one, &receipts(&held)).await?;
    // Twice is as good as once.
    bench.ack(&*one, &receipts(&held)).await?;
    harness.crash(one).await;
    bench.nothing(&*two, bench.lease() + harness.slack()).await
}

/// Receipts that the subscriber never gave out, or that are settled, change nothing and are no error.
pub async fn ack_of_an_unknown_receipt_is_ignored(harness: &dyn Harness) -> CaseResult {
    let bench = Bench::new("ack_of_an_unknown_receipt_is_ignored", harness);
    let subscriber = bench.subscribe("worker").await?;
    bench.publish(&bench.runs(2)).await?;
    let held = bench.collect_soon(&*subscriber, 2).await?;
    // Among unknown ones the known one counts. The odd text has the form of a Redis stream's entry id.
    let odd = || Receipt("1700000000000-0".into());
    bench.ack(&*subscriber, &[odd(), held[0].receipt.clone(), odd()]).await?;
    bench.ack(&*subscriber, &[odd(), held[0].receipt.clone()]).await?;
    bench.ack(&*subscriber, &[]).await?;
    let settled = bench.lease_of(&*subscriber, &held[0]).await?;
    bench.ensure(settled == DeliveryLease::Gone, || format!("an acknowledged delivery is {settled:?}"))?;
    let kept = bench.lease_of(&*subscriber, &held[1]).await?;
    bench.ensure(kept == DeliveryLease::Mine, || format!("a delivery that nobody acknowledged is {kept:?}"))
}

/// Only the holder can settle a delivery: from anybody else an `ack` changes nothing.
pub async fn ack_of_anothers_delivery_is_ignored(harness: &dyn Harness) -> CaseResult {
    let bench = Bench::new("ack_of_anothers_delivery_is_ignored", harness);
    let (one, two) = (bench.subscribe("one").await?, bench.subscribe("two").await?);
    bench.publish(&bench.runs(1)).await?;
    let held = bench.one(&*one).await?;
    bench.ack(&*two, std::slice::from_ref(&held.receipt)).await?;
    let lease = bench.lease_of(&*one, &held).await?;
    bench.ensure(lease == DeliveryLease::Mine, || format!("after another's ack it is {lease:?}"))?;
    harness.crash(one).await;
    let again = bench.collect(&*two, 1, 1, bench.lease() + harness.slack()).await?;
    bench.ensure(again[0].run == held.run, || format!("another run was delivered: {again:?}"))
}
