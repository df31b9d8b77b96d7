use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use aiki::prelude::*;
use aiki::{RunState, ServerError};
use tokio::time::Instant;

use super::{HOUR, House, until};

#[tokio::test(start_paused = true)]
async fn a_paused_run_stands_still_and_a_cancelled_one_tells_its_tasks_at_once() {
    let (begun, told) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
    let (begins, tells) = (begun.clone(), told.clone());
    let slow = Task::new("slow", move |cx: TaskContext, (): ()| {
        let (begins, tells) = (begins.clone(), tells.clone());
        async move {
            begins.fetch_add(1, Ordering::SeqCst);
            tokio::select! {
                () = tokio::time::sleep(HOUR) => {}
                () = cx.cancellation().cancelled() => { tells.fetch_add(1, Ordering::SeqCst); }
            }
            Ok::<_, Failure>(())
        }
    });
    let works = Workflow::new("works").version("1", move |run: Run, (): ()| {
        let slow = slow.clone();
        async move { Ok::<_, Failure>(slow.start(&run, ()).await?) }
    });
    let house = House::with(vec![works.register()]).await;
    let handle = works.start(&house.client, ()).await.unwrap();
    let wait_for = async |counter: &AtomicU32, count| {
        while counter.load(Ordering::SeqCst) < count {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    wait_for(&begun, 1).await;
    let paused = Instant::now();
    handle.pause().await.unwrap();
    wait_for(&told, 1).await;
    assert!(paused.elapsed() < Duration::from_secs(1), "told after {:?}", paused.elapsed());
    assert!(matches!(handle.pause().await, Err(ServerError::IllegalTransition(_))), "once is enough");
    tokio::time::sleep(3 * HOUR).await;
    assert_eq!((handle.state().await.unwrap(), begun.load(Ordering::SeqCst)), (RunState::Paused, 1));
    handle.resume().await.unwrap();
    wait_for(&begun, 2).await;
    let cancelled = Instant::now();
    handle.cancel_with("enough").await.unwrap();
    wait_for(&told, 2).await;
    assert!(cancelled.elapsed() < Duration::from_secs(1), "told after {:?}", cancelled.elapsed());
    let again = handle.cancel().await.unwrap_err().to_string();
    assert!(again.contains("cancelled"), "{again}");
    house.close().await;
}

#[tokio::test(start_paused = true)]
async fn a_sleeper_is_woken_early() {
    let naps = Workflow::new("naps").version("1", |run: Run, (): ()| async move {
        Ok::<_, Failure>(run.sleep("nap", 30 * HOUR).await == aiki::Slept::WokenEarly)
    });
    let house = House::with(vec![naps.register()]).await;
    let handle = naps.start(&house.client, ()).await.unwrap();
    until(&handle, |state| matches!(state, RunState::Sleeping { .. })).await;
    handle.wake_up().await.unwrap();
    assert!(handle.wait().await.unwrap());
    assert!(matches!(handle.wake_up().await, Err(ServerError::IllegalTransition(_))));
    house.close().await;
}

#[tokio::test(start_paused = true)]
async fn an_operator_gives_a_result_and_many_runs_are_cancelled_at_once() {
    let stuck = Task::new("stuck", |_: TaskContext, (): ()| async move {
        std::future::pending::<()>().await;
        Ok::<_, Failure>(0_u32)
    });
    let waits = Workflow::new("waits").version("1", move |run: Run, (): ()| {
        let stuck = stuck.clone();
        async move { Ok::<_, Failure>(stuck.start(&run, ()).await?) }
    });
    let house = House::with(vec![waits.register()]).await;
    let handle = waits.start(&house.client, ()).await.unwrap();
    let mut task = None;
    while task.is_none() {
        tokio::time::sleep(Duration::from_millis(1)).await;
        task = handle.record().await.unwrap().tasks.first().map(|task| task.id);
    }
    house.client.set_task_output(task.unwrap(), &42_u32).await.unwrap();
    assert_eq!(handle.wait().await.unwrap(), 42);
    let late = house.client.set_task_output(task.unwrap(), &43_u32).await;
    assert!(matches!(late, Err(ServerError::RunEnded { .. })), "{late:?}");
    let mut runs = vec![handle.id()];
    for _ in 0..3 {
        runs.push(waits.start(&house.client, ()).await.unwrap().id());
    }
    assert_eq!(house.client.cancel_runs(&runs).await.unwrap(), runs[1..]);
    house.close().await;
}

#[tokio::test(start_paused = true)]
async fn a_version_that_nobody_serves_waits_visibly_and_starts_when_a_worker_comes() {
    let version =
        |name: &str| Workflow::new("greet").version(name, |_: Run, (): ()| async move { Ok::<_, Failure>(()) });
    let (old, new) = (version("1"), version("2"));
    let house = House::with(vec![old.register()]).await;
    old.start(&house.client, ()).await.unwrap().wait().await.unwrap();
    let handle = new.start(&house.client, ()).await.unwrap();
    tokio::time::sleep(HOUR).await;
    assert!(handle.is_unserved().await.unwrap());
    assert!(matches!(handle.state().await.unwrap(), RunState::Queued { .. }), "it never stalls for that");
    house.worker.workflow_registry().add(&new);
    handle.wait().await.unwrap();
    assert!(!handle.is_unserved().await.unwrap());
    house.close().await;
}
