//! Fan-out and gather: one run starts 1,000 child runs at once and adds up what they return.
//!
//! ```text
//! cargo run --example fan_out
//! ```
//!
//! The runs are on disk, in a temporary folder. A counter outside of Aiki shows that the work of each child was done once.

use std::collections::BTreeSet;
use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;

use aiki::prelude::*;
use futures::future::try_join_all;

const CHILDREN: u64 = 1_000;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    // How often the task of each child ran.
    let ran: Arc<Vec<AtomicU32>> = Arc::new((0..CHILDREN).map(|_| AtomicU32::new(0)).collect());

    let counter = ran.clone();
    let square = Task::new("square", move |_: TaskContext, n: u64| {
        let ran = counter.clone();
        async move {
            ran[n as usize].fetch_add(1, Ordering::SeqCst);
            Ok::<_, Failure>(n * n)
        }
    });
    let part = Workflow::new("part").version("1.0.0", move |run: Run, n: u64| {
        let square = square.clone();
        async move { Ok::<_, Failure>(square.start(&run, n).await?) }
    });
    let child = part.clone();
    let sum = Workflow::new("sum").version("1.0.0", move |run: Run, count: u64| {
        let child = child.clone();
        async move {
            // All of them start before the first is waited for.
            let children: Vec<_> = (0..count).map(|n| child.start_child(&run, n)).collect();
            let squares = try_join_all(children.iter().map(|child| child.wait())).await?;
            Ok::<_, Failure>(squares.into_iter().sum::<u64>())
        }
    });

    let folder = tempfile::tempdir()?;
    let server = Server::embedded(folder.path().join("fan-out.db")).await?;
    let worker =
        Worker::builder(server.client()).max_concurrent_workflow_runs(100).subscriber(server.subscriber()).build()?;
    worker.workflow_registry().add(&part).add(&sum);
    let running = tokio::spawn({
        let worker = worker.clone();
        async move { worker.start().await }
    });

    let began = Instant::now();
    let handle = sum.start(&server.client(), CHILDREN).await?;
    let total = handle.wait().await?;
    println!("{CHILDREN} children: {total}, in {:.1} s", began.elapsed().as_secs_f64());

    assert_eq!(total, (0..CHILDREN).map(|n| n * n).sum::<u64>());
    let record = handle.record().await?;
    let children: BTreeSet<_> = record.children.iter().filter_map(|child| child.run).collect();
    assert_eq!(children.len() as u64, CHILDREN, "each child is a run of its own");
    let times: BTreeSet<u32> = ran.iter().map(|times| times.load(Ordering::SeqCst)).collect();
    assert_eq!(times, BTreeSet::from([1]), "the work of each child was done once");

    worker.stop().await;
    running.await??;
    server.close().await;
    Ok(())
}
