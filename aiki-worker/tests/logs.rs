//! What handlers log is seen once, however often they are replayed.

mod common;

use std::time::Duration;

use aiki_core::{Failure, Run, Task, TaskContext, Workflow};
use common::logs::Logs;
use common::{House, start};

#[tokio::test(start_paused = true)]
async fn each_line_of_a_handler_is_logged_once_over_several_passes() {
    let logs = Logs::capture();
    let house = House::new().await;
    let work = Task::new("work", |_: TaskContext, n: u32| async move {
        tracing::info!(n, "the body works");
        Ok::<_, Failure>(n)
    });
    let workflow = Workflow::new("chatty").version("1.0.0", move |run: Run, (): ()| {
        let work = work.clone();
        async move {
            tracing::info!("line one");
            work.start(&run, 1).await?;
            tracing::info!("line two");
            run.sleep("first", Duration::from_secs(600)).await;
            tracing::info!("line three");
            let both = futures::join!(work.start(&run, 2), work.start(&run, 3));
            both.0?;
            both.1?;
            tracing::info!("line four");
            run.sleep("second", Duration::from_secs(600)).await;
            tracing::info!("line five");
            Ok::<_, Failure>(())
        }
    });
    let worker = house.worker("w").build().unwrap();
    worker.workflow_registry().add(&workflow);
    start(&worker);
    let handle = workflow.start(&house.client, ()).await.unwrap();
    handle.wait().await.unwrap();
    assert_eq!(worker.stop().await.totals.claimed, 3, "there was nothing to replay");
    for line in ["line one", "line two", "line three", "line four", "line five"] {
        assert_eq!(logs.count(line), 1, "{line}:\n{}", logs.text());
    }
    assert_eq!(logs.count("the body works"), 3);
    // Every line says which run it belongs to.
    let id = handle.id().to_string();
    let text = logs.text();
    let all = text.lines().filter(|line| line.contains("line ") || line.contains("the body works"));
    for line in all {
        assert!(line.contains(&id) && line.contains("chatty@1.0.0") && line.contains("attempt=1"), "{line}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_worker_says_when_it_lowers_its_heartbeat_and_when_it_stops() {
    let logs = Logs::capture();
    let house = House::new().await;
    let worker = house.worker("teller").heartbeat_interval(Duration::from_secs(30)).build().unwrap();
    let nothing = Workflow::new("n").version("1", |_: Run, (): ()| async { Ok::<_, Failure>(()) });
    worker.workflow_registry().add(&nothing);
    start(&worker);
    nothing.start(&house.client, ()).await.unwrap().wait().await.unwrap();
    tokio::time::sleep(Duration::from_secs(300)).await;
    worker.stop().await;
    assert_eq!(logs.count("effective_ms=20000"), 1, "{}", logs.text());
    assert_eq!(logs.count("the worker has stopped"), 1);
}

#[tokio::test(start_paused = true)]
async fn a_run_and_its_child_are_found_under_the_trace_that_started_them() {
    const TRACE: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let logs = Logs::capture();
    let house = House::new().await;
    let child = Workflow::new("child").version("1", |run: Run, (): ()| async move {
        tracing::info!("the child works");
        Ok::<_, Failure>(run.trace_parent().map(ToString::to_string))
    });
    let parent = Workflow::new("parent").version("1", {
        let child = child.clone();
        move |run: Run, (): ()| {
            let child = child.clone();
            async move {
                tracing::info!("the parent works");
                Ok::<_, Failure>(child.start_child(&run, ()).wait().await?)
            }
        }
    });
    let worker = house.worker("w").build().unwrap();
    worker.workflow_registry().add(&parent).add(&child);
    start(&worker);
    let traced = parent.start(&house.client, ()).trace(TRACE.parse().unwrap()).await.unwrap();
    assert_eq!(traced.wait().await.unwrap().as_deref(), Some(TRACE));
    assert_eq!(parent.start(&house.client, ()).await.unwrap().wait().await.unwrap(), None);
    worker.stop().await;
    for line in ["the parent works", "the child works"] {
        let with = logs.text().lines().filter(|text| text.contains(line) && text.contains(TRACE)).count();
        assert_eq!((with, logs.count(line)), (1, 2), "{line}:\n{}", logs.text());
    }
    assert!(logs.text().contains("trace_id=\"0af7651916cd43dd8448eb211c80319c\""), "{}", logs.text());
}
