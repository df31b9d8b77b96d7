//! Several subscribers at one queue.

use aiki_core::subscriber::DeliveryLease;

use crate::subscriber::bench::{Bench, delivered, ids, receipts};
use crate::subscriber::{CaseResult, Harness};

/// Subscribers of the same workflow share its runs: each run is with one of them.
pub async fn two_subscribers_never_hold_the_same_run(harness: &dyn Harness) -> CaseResult {
    let bench = Bench::new("two_subscribers_never_hold_the_same_run", harness);
    let (one, two) = (bench.subscribe("one").await?, bench.subscribe("two").await?);
    let runs = bench.runs(40);
    bench.publish(&runs).await?;
    let (mut with_one, mut with_two) = (Vec::new(), Vec::new());
    // Both ask at once, ten rounds of two from each.
    for _ in 0..10 {
        let (a, b) =
            tokio::join!(bench.collect(&*one, 2, 2, harness.slack()), bench.collect(&*two, 2, 2, harness.slack()));
        with_one.extend(a?);
        with_two.extend(b?);
    }
    let (one_has, two_has) = (delivered(&with_one), delivered(&with_two));
    let both: Vec<_> = one_has.intersection(&two_has).collect();
    bench.ensure(both.is_empty(), || format!("both hold {both:?}"))?;
    bench.ensure(&one_has | &two_has == ids(&runs), || "other runs were delivered".into())
}

/// Workers that differ in the end of their names only, as two starts of one process do, are two.
pub async fn similar_worker_names_do_not_disturb_each_other(harness: &dyn Harness) -> CaseResult {
    let bench = Bench::new("similar_worker_names_do_not_disturb_each_other", harness);
    let (old, new) = (bench.subscribe("host-1:a").await?, bench.subscribe("host-1:ab").await?);
    let runs = bench.runs(4);
    bench.publish(&runs).await?;
    let with_old = bench.collect(&*old, 2, 2, harness.slack()).await?;
    let with_new = bench.collect(&*new, 2, 2, harness.slack()).await?;

    bench.ack(&*new, &receipts(&with_old)).await?;
    for delivery in &with_old {
        let lease = bench.lease_of(&*old, delivery).await?;
        bench.ensure(lease == DeliveryLease::Mine, || format!("the old one's delivery is {lease:?}"))?;
    }
    bench.close(&*old).await?;
    for delivery in &with_new {
        let lease = bench.lease_of(&*new, delivery).await?;
        bench.ensure(lease == DeliveryLease::Mine, || format!("after the old one's end the new one's is {lease:?}"))?;
    }
    let handed_back = bench.collect_soon(&*new, 2).await?;
    bench.ensure(delivered(&handed_back) == delivered(&with_old), || format!("other runs came back: {handed_back:?}"))
}
