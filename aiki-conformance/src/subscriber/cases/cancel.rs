//! Futures that are dropped.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::time::Duration;

use aiki_core::SubscriberError;

use crate::subscriber::bench::{Bench, ids, receipts};
use crate::subscriber::chance::Chance;
use crate::subscriber::{CaseResult, Harness};

/// Runs that are published while the calls are dropped.
const RUNS: usize = 300;
/// Calls that must have been dropped for the case to have tested anything.
const MIN_DROPPED: usize = 100;
/// Calls at most.
const MAX_CALLS: usize = 20_000;

/// A `receive` whose future is dropped has taken nothing, wherever it was: hundreds are dropped at
/// random points while runs are published, and then everything is delivered without waiting for a
/// lease to lapse.
pub async fn a_dropped_receive_loses_nothing(harness: &dyn Harness) -> CaseResult {
    let bench = Bench::new("a_dropped_receive_loses_nothing", harness);
    let chance = Chance::new(20_260_301);
    let subscriber = bench.subscribe("impatient").await?;
    let runs = bench.runs(RUNS);
    let published = Cell::new(false);

    let publish = async {
        for batch in runs.chunks(3) {
            bench.pass(chance.pause(Duration::from_millis(6))).await;
            bench.publish(batch).await?;
        }
        published.set(true);
        Ok(())
    };
    let receive = async {
        let (mut seen, mut dropped) = (BTreeSet::new(), 0);
        for _ in 0..MAX_CALLS {
            if published.get() && dropped >= MIN_DROPPED {
                break;
            }
            let patience = chance.pause(Duration::from_millis(3));
            let answer = tokio::select! {
                biased;
                answer = subscriber.receive(2) => answer,
                () = bench.pass(patience) => {
                    dropped += 1;
                    continue;
                }
            };
            match answer {
                Ok(deliveries) => {
                    bench.ack(&*subscriber, &receipts(&deliveries)).await?;
                    seen.extend(deliveries.iter().map(|delivery| delivery.run));
                }
                Err(SubscriberError::Unavailable(_)) => {}
                Err(error) => return Err(bench.fail(format!("receive failed: {error}"))),
            }
        }
        Ok((seen, dropped))
    };
    let (published, received) = tokio::join!(publish, receive);
    let () = published?;
    let (mut seen, dropped) = received?;
    bench.ensure(dropped >= MIN_DROPPED, || format!("only {dropped} calls could be dropped"))?;

    let missing = RUNS - seen.len();
    if missing > 0 {
        let rest = bench.collect(&*subscriber, missing, 64, harness.slack()).await?;
        seen.extend(rest.iter().map(|delivery| delivery.run));
    }
    bench.ensure(seen == ids(&runs), || format!("{} of {RUNS} runs were delivered", seen.len()))
}
