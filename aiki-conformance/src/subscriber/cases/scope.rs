//! Nobody gets what they did not ask for.

use aiki_core::{Name, ReadyRun, WorkflowKey};

use crate::subscriber::bench::{Bench, delivered, ids, receipts};
use crate::subscriber::{CaseResult, Harness};

/// Runs of a workflow that nobody here serves stay away.
pub async fn other_workflows_are_not_delivered(harness: &dyn Harness) -> CaseResult {
    let bench = Bench::new("other_workflows_are_not_delivered", harness);
    let foreign = bench.runs_of(&WorkflowKey::user("refunds", "1.0.0"), 5);
    only_mine(&bench, &[], foreign, bench.runs(5)).await
}

/// Runs of another version of a served workflow stay away: its code is not here.
pub async fn other_versions_are_not_delivered(harness: &dyn Harness) -> CaseResult {
    let bench = Bench::new("other_versions_are_not_delivered", harness);
    let foreign = bench.runs_of(&WorkflowKey::user("orders", "1.0.1"), 5);
    only_mine(&bench, &[], foreign, bench.runs(5)).await
}

/// A worker of pools gets the runs of these pools; a worker without gets the runs without.
pub async fn other_pools_are_not_delivered(harness: &dyn Harness) -> CaseResult {
    let bench = Bench::new("other_pools_are_not_delivered", harness);
    let in_pool = |pool: &str| -> Vec<ReadyRun> {
        bench.runs(3).into_iter().map(|run| ReadyRun { pool: Some(Name::new(pool)), ..run }).collect()
    };
    only_mine(&bench, &[], in_pool("spare"), bench.runs(3)).await?;
    let foreign = [in_pool("gpu-2"), in_pool("spare"), bench.runs(3)].concat();
    only_mine(&bench, &["gpu", "arm"], foreign, [in_pool("arm"), in_pool("gpu")].concat()).await
}

/// Runs of another tenant stay away, also one whose name begins alike.
pub async fn other_namespaces_are_not_delivered(harness: &dyn Harness) -> CaseResult {
    let bench = Bench::new("other_namespaces_are_not_delivered", harness);
    let other = Name::new(format!("{}-2", harness.namespace()));
    let foreign = bench.runs(5).into_iter().map(|run| ReadyRun { namespace: other.clone(), ..run }).collect();
    only_mine(&bench, &[], foreign, bench.runs(5)).await
}

async fn only_mine(bench: &Bench<'_>, pools: &[&str], foreign: Vec<ReadyRun>, mine: Vec<ReadyRun>) -> CaseResult {
    let worker = format!("worker of {pools:?}");
    let subscriber = bench.subscribe_to(&worker, &[bench.orders()], pools).await?;
    bench.publish(&foreign).await?;
    bench.publish(&mine).await?;
    let got = bench.collect_soon(&*subscriber, mine.len()).await?;
    bench.ensure(delivered(&got) == ids(&mine), || format!("foreign runs were delivered: {got:?}"))?;
    bench.nothing(&*subscriber, bench.lease() / 4).await?;
    bench.ack(&*subscriber, &receipts(&got)).await?;
    bench.close(&*subscriber).await
}
