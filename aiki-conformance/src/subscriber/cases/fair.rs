//! Nobody starves.

use std::collections::BTreeSet;

use aiki_core::{Priority, ReadyRun, WorkflowKey};

use crate::subscriber::bench::{Bench, ids, receipts};
use crate::subscriber::{CaseResult, Harness};

/// Runs on the flooded stream.
const FLOOD: usize = 10_000;
/// Streams with a trickle beside it.
const TRICKLES: usize = 4;

/// One stream with 10,000 waiting runs, four with one now and then: with fewer slots than streams, a
/// run of the four waits for at most twice as many calls as there are streams.
pub async fn a_flooded_stream_does_not_starve_the_others(harness: &dyn Harness) -> CaseResult {
    let bench = Bench::new("a_flooded_stream_does_not_starve_the_others", harness);
    let mut workflows: Vec<_> = (0..TRICKLES).map(|n| WorkflowKey::user(format!("trickle-{n}"), "1.0.0")).collect();
    workflows.insert(TRICKLES / 2, bench.orders());
    let subscriber = bench.subscribe_to("worker", &workflows, &[]).await?;
    for batch in bench.runs(FLOOD).chunks(500) {
        bench.publish(batch).await?;
    }
    let most_calls = 2 * workflows.len();
    let mut from_flood = 0;
    for round in 0..40 {
        let trickle = &workflows.iter().filter(|workflow| workflow.name.as_str() != "orders").nth(round % TRICKLES);
        let Some(trickle) = trickle else { continue };
        let one = bench.runs_of(trickle, 1);
        bench.publish(&one).await?;
        let limit = 1 + round % 3;
        let mut calls = 0;
        loop {
            calls += 1;
            let some = bench.receive(&*subscriber, limit).await?;
            bench.ack(&*subscriber, &receipts(&some)).await?;
            from_flood += some.iter().filter(|delivery| delivery.workflow.name.as_str() == "orders").count();
            if some.iter().any(|delivery| delivery.run == one[0].id) {
                break;
            }
            bench.ensure(calls < most_calls, || {
                format!("with a limit of {limit}, a run waited for more than {most_calls} calls beside a flood")
            })?;
        }
    }
    bench.ensure(from_flood > 0, || "the flooded stream itself got nothing".into())
}

/// A run of high priority overtakes those of lower priority that wait already.
pub async fn high_priority_goes_first(harness: &dyn Harness) -> CaseResult {
    let bench = Bench::new("high_priority_goes_first", harness);
    let subscriber = bench.subscribe("worker").await?;
    bench.publish(&of(Priority::Low, bench.runs(50))).await?;
    bench.publish(&of(Priority::Normal, bench.runs(50))).await?;
    bench.publish(&of(Priority::High, bench.runs(1))).await?;
    let last = of(Priority::High, bench.runs(1));
    bench.publish(&last).await?;
    // Two of high priority, and perhaps a lower one whose turn it was.
    let first = bench.collect(&*subscriber, 3, 1, harness.slack()).await?;
    bench.ensure(first.iter().any(|delivery| delivery.run == last[0].id), || {
        format!("two runs of high priority are not among the first three of 102: {first:?}")
    })
}

/// While runs of high priority keep coming, one of a lower priority has every so-manieth place, as
/// the harness tells.
pub async fn a_flood_of_high_priority_starves_nobody(harness: &dyn Harness) -> CaseResult {
    let bench = Bench::new("a_flood_of_high_priority_starves_nobody", harness);
    let subscriber = bench.subscribe("worker").await?;
    let bound = harness.starvation_bound();
    let normal = of(Priority::Normal, bench.runs(3));
    let low = of(Priority::Low, bench.runs(1));
    let lower: BTreeSet<_> = &ids(&normal) | &ids(&low);
    bench.publish(&normal).await?;
    bench.publish(&low).await?;
    let (mut streak, mut lower_seen, mut seen) = (0, 0, BTreeSet::new());
    while lower_seen < lower.len() {
        // There are always more of high priority than one call takes.
        bench.publish(&of(Priority::High, bench.runs(4))).await?;
        let some = bench.receive(&*subscriber, 3).await?;
        bench.ack(&*subscriber, &receipts(&some)).await?;
        for delivery in some.into_iter().filter(|delivery| seen.insert(delivery.run)) {
            if lower.contains(&delivery.run) {
                (streak, lower_seen) = (0, lower_seen + 1);
                continue;
            }
            streak += 1;
            bench.ensure(streak <= bound, || {
                format!("{streak} runs of high priority in a row, though the bound is {bound} and lower ones wait")
            })?;
        }
    }
    Ok(())
}

fn of(priority: Priority, runs: Vec<ReadyRun>) -> Vec<ReadyRun> {
    runs.into_iter().map(|run| ReadyRun { priority, ..run }).collect()
}
