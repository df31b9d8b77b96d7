//! Never more than there is room for.

use aiki_core::WorkflowKey;

use crate::subscriber::bench::{Bench, delivered, ids, receipts};
use crate::subscriber::{CaseResult, Harness};

/// No `receive` delivers more than its limit, and small limits still get everything.
pub async fn the_limit_holds_on_one_stream(harness: &dyn Harness) -> CaseResult {
    let bench = Bench::new("the_limit_holds_on_one_stream", harness);
    let subscriber = bench.subscribe("worker").await?;
    let runs = bench.runs(40);
    bench.publish(&runs).await?;
    // The bench checks the limit of every call.
    let mut all = bench.collect(&*subscriber, 1, 1, harness.slack()).await?;
    all.extend(bench.collect(&*subscriber, 39, 7, harness.slack()).await?);
    bench.ensure(delivered(&all) == ids(&runs), || format!("other runs were delivered: {all:?}"))
}

/// Fewer slots than streams: the limit holds over all of them together, and none is forgotten.
pub async fn the_limit_holds_over_many_streams(harness: &dyn Harness) -> CaseResult {
    let bench = Bench::new("the_limit_holds_over_many_streams", harness);
    let workflows: Vec<_> = (0..20).map(|n| WorkflowKey::user(format!("orders-{n}"), "1.0.0")).collect();
    let subscriber = bench.subscribe_to("worker", &workflows, &[]).await?;
    let runs: Vec<_> = workflows.iter().flat_map(|workflow| bench.runs_of(workflow, 3)).collect();
    bench.publish(&runs).await?;
    let mut all = Vec::new();
    for limit in [1, 3, 19] {
        let some = bench.collect(&*subscriber, limit, limit, harness.slack()).await?;
        bench.ack(&*subscriber, &receipts(&some)).await?;
        all.extend(some);
    }
    all.extend(bench.collect(&*subscriber, runs.len() - all.len(), 5, harness.slack()).await?);
    bench.ensure(delivered(&all) == ids(&runs), || format!("other runs were delivered: {all:?}"))
}
