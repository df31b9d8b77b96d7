use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use aiki::prelude::*;
use aiki::{Limit, Timestamp};
use futures::future::join_all;
use tokio::time::Instant;

use super::{HOUR, House};

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test(start_paused = true)]
async fn an_attempt_that_takes_too_long_is_told_dropped_and_tried_again() {
    let told = Arc::new(AtomicU32::new(0));
    let tells = told.clone();
    let flaky = Task::new("flaky", move |cx: TaskContext, (): ()| {
        let tells = tells.clone();
        async move {
            if cx.attempt() < 3 {
                cx.cancellation().cancelled().await;
                tells.fetch_add(1, Ordering::SeqCst);
                std::future::pending::<()>().await;
            }
            Ok::<_, Failure>(cx.attempt())
        }
    })
    .time_limit(10 * SECOND)
    .retry(RetryStrategy::fixed(3, 5 * SECOND));
    let hopeless = Task::new("hopeless", |_: TaskContext, (): ()| async move {
        std::future::pending::<()>().await;
        Ok::<_, Failure>(())
    })
    .heartbeat_timeout(SECOND);
    let works = Workflow::new("works").version("1", move |run: Run, (): ()| {
        let (flaky, hopeless) = (flaky.clone(), hopeless.clone());
        async move {
            let attempts = flaky.start(&run, ()).await?;
            let timed_out = matches!(hopeless.start(&run, ()).await, Err(TaskError::TimedOut { .. }));
            Ok::<_, Failure>((attempts, timed_out))
        }
    });
    let house = House::with(vec![works.register()]).await;
    let began = Instant::now();
    let handle = works.start(&house.client, ()).await.unwrap();
    assert_eq!(handle.wait().await.unwrap(), (3, true));
    assert_eq!(told.load(Ordering::SeqCst), 2);
    assert!(began.elapsed() < 32 * SECOND, "{:?}", began.elapsed());
    house.close().await;
}

#[tokio::test(start_paused = true)]
async fn heartbeats_keep_a_task_alive_and_the_next_attempt_goes_on_from_the_checkpoint() {
    let steps = Arc::new(AtomicU32::new(0));
    let counter = steps.clone();
    let import = Task::new("import", move |cx: TaskContext, rows: u32| {
        let steps = counter.clone();
        async move {
            let first = cx.checkpoint::<u32>()?.unwrap_or(0);
            for row in first..rows {
                tokio::time::sleep(2 * SECOND).await;
                steps.fetch_add(1, Ordering::SeqCst);
                cx.heartbeat_with(&(row + 1))?;
                if row == 6 && cx.attempt() == 1 {
                    return Err(Failure::new("Broken", "the connection is gone"));
                }
            }
            Ok::<_, Failure>(first)
        }
    })
    .heartbeat_timeout(3 * SECOND)
    .retry(RetryStrategy::fixed(2, SECOND));
    let works = Workflow::new("works").version("1", move |run: Run, (): ()| {
        let import = import.clone();
        async move { Ok::<_, Failure>(import.start(&run, 10).await?) }
    });
    let house = House::with(vec![works.register()]).await;
    let handle = works.start(&house.client, ()).await.unwrap();
    assert_eq!(handle.wait().await.unwrap(), 7, "the second attempt begins behind the seventh row");
    assert_eq!(steps.load(Ordering::SeqCst), 10, "no row is imported twice");
    house.close().await;
}

#[tokio::test(start_paused = true)]
async fn a_deadline_ends_the_run_its_tasks_and_its_children() {
    let told = Arc::new(AtomicU32::new(0));
    let tells = told.clone();
    let slow = Task::new("slow", move |cx: TaskContext, (): ()| {
        let tells = tells.clone();
        async move {
            assert!(cx.deadline().is_some());
            cx.cancellation().cancelled().await;
            tells.fetch_add(1, Ordering::SeqCst);
            Ok::<_, Failure>(())
        }
    });
    let child = Workflow::new("child").version("1", move |run: Run, (): ()| {
        let slow = slow.clone();
        async move { Ok::<_, Failure>(slow.start(&run, ()).await?) }
    });
    let part = child.clone();
    let parent = Workflow::new("parent").version("1", move |run: Run, (): ()| {
        let child = part.clone();
        async move { Ok::<_, Failure>(child.start_child(&run, ()).wait().await?) }
    });
    let house = House::with(vec![child.register(), parent.register()]).await;
    let began = Instant::now();
    let handle = parent.start(&house.client, ()).time_limit(HOUR).await.unwrap();
    assert!(matches!(handle.wait().await, Err(RunError::TimedOut)));
    assert!(began.elapsed() >= HOUR && began.elapsed() < HOUR + SECOND, "{:?}", began.elapsed());
    tokio::time::sleep(SECOND).await;
    let child = house.client.handle(&child, handle.record().await.unwrap().children[0].run.unwrap());
    assert!(matches!(child.wait().await, Err(RunError::TimedOut)));
    assert_eq!(told.load(Ordering::SeqCst), 1);
    let past = parent.start(&house.client, ()).deadline(Timestamp::from_millis(1)).await.unwrap_err().to_string();
    assert!(past.contains("the deadline is over already"), "{past}");
    house.close().await;
}

#[tokio::test(start_paused = true)]
async fn a_worker_runs_only_so_many_tasks_of_a_name_and_runs_of_a_key() {
    let (now, most) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
    let (current, maximum) = (now.clone(), most.clone());
    let charge = Task::new("charge", move |_: TaskContext, _: u32| {
        let (now, most) = (current.clone(), maximum.clone());
        async move {
            most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            tokio::time::sleep(SECOND).await;
            now.fetch_sub(1, Ordering::SeqCst);
            Ok::<_, Failure>(())
        }
    })
    .time_limit(2 * SECOND);
    let pays = Workflow::new("pays").version("1", move |run: Run, n: u32| {
        let charge = charge.clone();
        async move {
            let charges = join_all((0..n).map(|n| charge.start(&run, n))).await;
            charges.into_iter().collect::<Result<Vec<()>, _>>()?;
            Ok::<_, Failure>(())
        }
    });
    let limit = |worker: aiki::WorkerBuilder| worker.task_limit("charge", Limit::concurrency(3));
    let house = House::configured(vec![pays.register()], |server| server, limit).await;
    let began = Instant::now();
    pays.start(&house.client, 9).await.unwrap().wait().await.unwrap();
    assert_eq!(most.swap(0, Ordering::SeqCst), 3);
    assert!(began.elapsed() >= 3 * SECOND && began.elapsed() < 4 * SECOND, "{:?}", began.elapsed());

    let mut handles = Vec::new();
    for _ in 0..6 {
        handles.push(pays.start(&house.client, 1).concurrency("customer-7", 2).await.unwrap());
    }
    let began = Instant::now();
    join_all(handles.iter().map(|handle| handle.wait())).await.into_iter().collect::<Result<Vec<_>, _>>().unwrap();
    assert_eq!(most.load(Ordering::SeqCst), 2, "two runs of the key at a time");
    assert!(began.elapsed() < 4 * SECOND, "{:?}", began.elapsed());
    house.close().await;
}

#[tokio::test(start_paused = true)]
async fn a_worker_works_on_so_many_runs_of_a_workflow_and_others_go_by() {
    let (now, most) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
    let (current, maximum) = (now.clone(), most.clone());
    let work = Task::new("work", move |_: TaskContext, (): ()| {
        let (now, most) = (current.clone(), maximum.clone());
        async move {
            most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            tokio::time::sleep(SECOND).await;
            now.fetch_sub(1, Ordering::SeqCst);
            Ok::<_, Failure>(())
        }
    });
    let heavy = Workflow::new("heavy").version("1", move |run: Run, (): ()| {
        let work = work.clone();
        async move { Ok::<_, Failure>(work.start(&run, ()).await?) }
    });
    let light = Workflow::new("light").version("1", |_: Run, (): ()| async move { Ok::<_, Failure>(()) });
    let limit = |worker: aiki::WorkerBuilder| worker.workflow_limit("heavy", Limit::concurrency(2));
    let house = House::configured(vec![heavy.register(), light.register()], |server| server, limit).await;
    let mut handles = Vec::new();
    for _ in 0..6 {
        handles.push(heavy.start(&house.client, ()).await.unwrap());
    }
    let began = Instant::now();
    light.start(&house.client, ()).await.unwrap().wait().await.unwrap();
    assert!(began.elapsed() < SECOND, "{:?}", began.elapsed());
    join_all(handles.iter().map(|handle| handle.wait())).await.into_iter().collect::<Result<Vec<_>, _>>().unwrap();
    assert_eq!(most.load(Ordering::SeqCst), 2);
    house.close().await;
}
