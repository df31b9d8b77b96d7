//! Who holds a delivery, and for how long.

use aiki_core::subscriber::{DeliveryLease, ReleaseDelay};
use tokio::time::Instant;

use crate::subscriber::bench::{Bench, delivered, receipts};
use crate::subscriber::{CaseResult, Harness};

/// A delivery that is neither acknowledged nor renewed goes to another subscriber, after its lease and
/// not much before.
pub async fn silence_moves_a_delivery_to_another(harness: &dyn Harness) -> CaseResult {
    let bench = Bench::new("silence_moves_a_delivery_to_another", harness);
    let (silent, other) = (bench.subscribe("silent").await?, bench.subscribe("other").await?);
    bench.publish(&bench.runs(3)).await?;
    let begin = Instant::now();
    let held = bench.collect_soon(&*silent, 3).await?;
    bench.nothing(&*other, (bench.lease() * 3 / 4).saturating_sub(begin.elapsed())).await?;
    let moved = bench.collect(&*other, 3, 8, bench.lease() / 4 + harness.slack()).await?;
    bench.ensure(delivered(&moved) == delivered(&held), || format!("other runs were delivered: {moved:?}"))?;
    for delivery in &held {
        let lease = bench.lease_of(&*silent, delivery).await?;
        bench.ensure(lease == DeliveryLease::Others, || format!("the one who lost it is told {lease:?}"))?;
    }
    Ok(())
}

/// Heartbeats keep a delivery for ten times its lease; without them it would have moved nine times.
pub async fn heartbeats_keep_a_delivery(harness: &dyn Harness) -> CaseResult {
    let bench = Bench::new("heartbeats_keep_a_delivery", harness);
    let (busy, other) = (bench.subscribe("busy").await?, bench.subscribe("other").await?);
    bench.publish(&bench.runs(3)).await?;
    let held = bench.collect_soon(&*busy, 3).await?;
    for _ in 0..30 {
        bench.nothing(&*other, bench.lease() / 3).await?;
        let leases = bench.heartbeat(&*busy, &receipts(&held)).await?;
        bench.ensure(leases.iter().all(|lease| *lease == DeliveryLease::Mine), || format!("heartbeat: {leases:?}"))?;
    }
    bench.ack(&*busy, &receipts(&held)).await?;
    bench.nothing(&*other, bench.lease() + harness.slack()).await
}

/// A heartbeat tells, in the order of the question, what is still held, what another has taken over
/// and what nobody knows any more.
pub async fn heartbeat_answers_mine_others_and_gone(harness: &dyn Harness) -> CaseResult {
    let bench = Bench::new("heartbeat_answers_mine_others_and_gone", harness);
    let (one, two) = (bench.subscribe("one").await?, bench.subscribe("two").await?);
    bench.publish(&bench.runs(1)).await?;
    let lost = bench.one(&*one).await?;
    let taken = bench.collect(&*two, 1, 1, bench.lease() + harness.slack()).await?;

    bench.publish(&bench.runs(2)).await?;
    let fresh = bench.collect_soon(&*one, 2).await?;
    bench.ack(&*one, std::slice::from_ref(&fresh[0].receipt)).await?;
    let asked = [&fresh[1], &lost, &fresh[0], &fresh[1]].map(|delivery| delivery.receipt.clone());
    let leases = bench.heartbeat(&*one, &asked).await?;
    let expected = [DeliveryLease::Mine, DeliveryLease::Others, DeliveryLease::Gone, DeliveryLease::Mine];
    bench.ensure(leases == expected, || format!("expected {expected:?}, got {leases:?}"))?;
    let holder = bench.lease_of(&*two, &taken[0]).await?;
    bench.ensure(holder == DeliveryLease::Mine, || format!("the new holder is told {holder:?}"))?;
    let none = bench.heartbeat(&*two, &[]).await?;
    bench.ensure(none.is_empty(), || format!("nothing was asked, the answer is {none:?}"))
}

/// Who was silent for too long and wakes up cannot renew, settle or hand back what is another's now;
/// its heartbeats do not keep a delivery from moving on when the new holder falls silent.
pub async fn a_zombie_does_not_steal_its_delivery_back(harness: &dyn Harness) -> CaseResult {
    let bench = Bench::new("a_zombie_does_not_steal_its_delivery_back", harness);
    let (zombie, heir) = (bench.subscribe("zombie").await?, bench.subscribe("heir").await?);
    let third = bench.subscribe("third").await?;
    bench.publish(&bench.runs(1)).await?;
    let old = bench.one(&*zombie).await?;
    let inherited = bench.collect(&*heir, 1, 1, bench.lease() + harness.slack()).await?;

    let stale = std::slice::from_ref(&old.receipt);
    let lease = bench.lease_of(&*zombie, &old).await?;
    bench.ensure(lease == DeliveryLease::Others, || format!("the zombie is told {lease:?}"))?;
    bench.ack(&*zombie, stale).await?;
    bench.release(&*zombie, stale, ReleaseDelay::None).await?;
    bench.nothing(&*third, bench.lease() / 4).await?;
    let lease = bench.lease_of(&*heir, &inherited[0]).await?;
    bench.ensure(lease == DeliveryLease::Mine, || format!("the heir is told {lease:?}"))?;

    harness.crash(heir).await;
    for _ in 0..4 {
        bench.nothing(&*third, bench.lease() / 6).await?;
        let lease = bench.lease_of(&*zombie, &old).await?;
        bench.ensure(lease != DeliveryLease::Mine, || "the zombie has it back".into())?;
    }
    let last = bench.collect(&*third, 1, 1, bench.lease() / 3 + harness.slack()).await?;
    bench.ensure(last[0].run == old.run, || format!("another run was delivered: {last:?}"))
}
