//! Pools: two workers with the same code in different pools, and a child run that belongs in the other one.
//!
//! ```text
//! cargo run --example pools
//! ```
//!
//! Orders are handled by the worker in the pool `web`; the picture of each is rendered by the one in the pool `gpu`.

use std::error::Error;

use aiki::prelude::*;
use futures::future::try_join_all;

/// The workflows as the worker in this pool has them: its tasks tell where they ran.
struct Workflows {
    render: WorkflowVersion<u32, String, Failure>,
    order: WorkflowVersion<u32, (String, String), Failure>,
}

fn workflows(pool: &'static str) -> Workflows {
    let work =
        Task::new(
            "work",
            move |_: TaskContext, what: String| async move { Ok::<_, Failure>(format!("{what} in {pool}")) },
        );

    let paint = work.clone();
    let render = Workflow::new("render").version("1.0.0", move |run: Run, number: u32| {
        let paint = paint.clone();
        async move { Ok::<_, Failure>(paint.start(&run, format!("picture {number}")).await?) }
    });

    let child = render.clone();
    let order = Workflow::new("order").version("1.0.0", move |run: Run, number: u32| {
        let (work, child) = (work.clone(), child.clone());
        async move {
            // Without `.pool(..)` a child belongs in its parent's pool.
            let picture = child.child().pool("gpu").start(&run, number);
            let order = work.start(&run, format!("order {number}")).await?;
            Ok::<_, Failure>((order, picture.wait().await?))
        }
    });
    Workflows { render, order }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let server = Server::in_memory().await?;
    let mut workers = Vec::new();
    for pool in ["web", "gpu"] {
        let worker = Worker::builder(server.client()).id(pool).pool(pool).subscriber(server.subscriber()).build()?;
        let Workflows { render, order } = workflows(pool);
        worker.workflow_registry().add(&render).add(&order);
        let running = worker.clone();
        workers.push((worker, tokio::spawn(async move { running.start().await })));
    }

    // To start a run only its name and types count: any of the two definitions will do.
    let (client, order) = (server.client(), workflows("web").order);
    let mut handles = Vec::new();
    for number in 1..=20 {
        handles.push(order.start(&client, number).pool("web").await?);
    }
    let ended = try_join_all(handles.iter().map(|handle| handle.wait())).await?;
    for (number, (order, picture)) in (1..).zip(&ended) {
        assert_eq!(*order, format!("order {number} in web"));
        assert_eq!(*picture, format!("picture {number} in gpu"));
    }
    println!("{} orders, the last: {:?}", ended.len(), ended.last());

    for (worker, running) in workers {
        worker.stop().await;
        running.await??;
    }
    server.close().await;
    Ok(())
}
