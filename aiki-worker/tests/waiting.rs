//! Handlers that wait: durably, or not.

mod common;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use aiki_core::{Failure, RetryStrategy, Run, Task, TaskContext, Workflow, WorkflowVersion};
use common::logs::Logs;
use common::{House, start, until};
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use tokio::time::Instant;

const HOUR: Duration = Duration::from_secs(3_600);

fn double() -> WorkflowVersion<u32, u32> {
    Workflow::new("double").version("1.0.0", |_: Run, n: u32| async move { Ok::<_, Failure>(n * 2) })
}

#[tokio::test(start_paused = true)]
async fn a_long_sleep_holds_no_slot() {
    let house = House::new().await;
    let nap = Workflow::new("nap").version("1.0.0", |run: Run, (): ()| async move {
        run.sleep("long", HOUR).await;
        Ok::<_, Failure>(())
    });
    let worker = house.worker("one-slot").max_concurrent_workflow_runs(1).build().unwrap();
    worker.workflow_registry().add(&nap).add(double());
    start(&worker);
    let began = Instant::now();
    let mut sleeping = Vec::new();
    for _ in 0..20 {
        sleeping.push(nap.start(&house.client, ()).await.unwrap());
    }
    assert_eq!(double().start(&house.client, 2).await.unwrap().wait().await.unwrap(), 4);
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    until("all sleep", || worker.status().totals.suspended == 20).await;
    assert_eq!(worker.status().free_slots, 1);
    for handle in &sleeping {
        handle.wait().await.unwrap();
    }
    assert!(began.elapsed() >= HOUR && began.elapsed() < HOUR + Duration::from_secs(5), "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn two_sleeps_at_once_take_as_long_as_one() {
    let house = House::new().await;
    let workflow = Workflow::new("both").version("1.0.0", |run: Run, (): ()| async move {
        let minute = Duration::from_secs(60);
        futures::join!(run.sleep("left", minute), run.sleep("right", minute));
        Ok::<_, Failure>(())
    });
    let worker = house.worker("w").build().unwrap();
    worker.workflow_registry().add(&workflow);
    start(&worker);
    let began = Instant::now();
    workflow.start(&house.client, ()).await.unwrap().wait().await.unwrap();
    let took = began.elapsed();
    assert!((Duration::from_secs(60)..Duration::from_secs(62)).contains(&took), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn a_sleep_beside_a_running_task_does_not_cut_the_task_short() {
    let house = House::new().await;
    let work = Task::new("work", |_: TaskContext, secs: u64| async move {
        tokio::time::sleep(Duration::from_secs(secs)).await;
        Ok::<_, Failure>(secs)
    });
    let workflow = Workflow::new("beside").version("1.0.0", move |run: Run, (): ()| {
        let work = work.clone();
        async move {
            let (done, _) = futures::join!(work.start(&run, 90), run.sleep("short", Duration::from_secs(30)));
            Ok::<_, Failure>(done?)
        }
    });
    let worker = house.worker("w").build().unwrap();
    worker.workflow_registry().add(&workflow);
    start(&worker);
    let began = Instant::now();
    assert_eq!(workflow.start(&house.client, ()).await.unwrap().wait().await.unwrap(), 90);
    assert!(began.elapsed() < Duration::from_secs(92), "{:?}", began.elapsed());
    assert_eq!(worker.stop().await.totals.claimed, 1);
}

#[tokio::test(start_paused = true)]
async fn a_workflow_that_depends_on_the_order_replays_the_same() {
    let house = House::new().await;
    let orders = Arc::new(Mutex::new(Vec::new()));
    let work = Task::new("work", |_: TaskContext, (n, ms): (u32, u64)| async move {
        tokio::time::sleep(Duration::from_millis(ms)).await;
        Ok::<_, Failure>(n)
    });
    let seen = orders.clone();
    let workflow = Workflow::new("unordered").version("1.0.0", move |run: Run, (): ()| {
        let (work, seen) = (work.clone(), seen.clone());
        async move {
            let mut order = Vec::new();
            {
                let delays = [(0, 50), (1, 10), (2, 40), (3, 20), (4, 30)];
                let mut all: FuturesUnordered<_> = delays.into_iter().map(|call| work.start(&run, call)).collect();
                while let Some(n) = all.next().await {
                    order.push(n?);
                    // What comes next depends on who was first.
                    work.start(&run, (100 + order[order.len() - 1], 1)).await?;
                }
            }
            seen.lock().unwrap().push(order.clone());
            run.sleep("pause", HOUR).await;
            Ok::<_, Failure>(order)
        }
    });
    let worker = house.worker("w").build().unwrap();
    worker.workflow_registry().add(&workflow);
    start(&worker);
    let order = workflow.start(&house.client, ()).await.unwrap().wait().await.unwrap();
    let passes = orders.lock().unwrap().clone();
    assert_eq!(passes.len(), 2);
    assert_eq!(passes[0], passes[1]);
    assert_eq!(order, passes[0]);
    assert_ne!(order, [0, 1, 2, 3, 4], "the order of the calls would prove nothing");
}

/// Waits for the runtime's own timer.
fn foreign() -> WorkflowVersion<u64, u64> {
    Workflow::new("foreign").version("1.0.0", |run: Run, secs: u64| async move {
        run.now();
        tokio::time::sleep(Duration::from_secs(secs)).await;
        Ok::<_, Failure>(secs)
    })
}

#[tokio::test(start_paused = true)]
async fn a_foreign_timer_is_reported_within_a_second() {
    let logs = Logs::capture();
    let house = House::new().await;
    let worker = house.worker("w").build().unwrap();
    worker.workflow_registry().add(foreign());
    start(&worker);
    let handle = foreign().start(&house.client, 30).await.unwrap();
    tokio::time::sleep(Duration::from_millis(900)).await;
    assert_eq!(logs.count("not durable"), 0, "too early");
    assert!(!worker.status().active[0].foreign_wait);
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(logs.count("not durable"), 1, "{}", logs.text());
    assert!(logs.text().contains("foreign@1.0.0"));
    assert!(worker.status().active[0].foreign_wait);
    // It is a warning: the run goes on, and is not warned of again.
    assert_eq!(handle.wait().await.unwrap(), 30);
    assert_eq!(logs.count("not durable"), 1);
}

#[tokio::test(start_paused = true)]
async fn a_foreign_wait_is_shown_with_the_place_of_the_last_durable_call() {
    let logs = Logs::capture();
    let house = House::new().await;
    let work = Task::new("work", |_: TaskContext, (): ()| async { Ok::<_, Failure>(()) });
    let workflow = Workflow::new("placed").version("1.0.0", move |run: Run, (): ()| {
        let work = work.clone();
        async move {
            work.start(&run, ()).await?;
            std::future::pending::<()>().await;
            Ok::<_, Failure>(())
        }
    });
    let worker = house.worker("w").build().unwrap();
    worker.workflow_registry().add(&workflow);
    start(&worker);
    workflow.start(&house.client, ()).await.unwrap();
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    let place = worker.status().active[0].last_call.unwrap();
    assert!(place.file().ends_with("waiting.rs"), "{place}");
    assert!(logs.text().contains(&place.to_string()), "{}", logs.text());
}

#[tokio::test(start_paused = true)]
async fn a_foreign_wait_fails_the_run_where_that_is_asked_for() {
    let house = House::new().await;
    let worker = house.worker("strict").fail_foreign_waits(true).build().unwrap();
    worker.workflow_registry().add(foreign());
    start(&worker);
    let began = Instant::now();
    let handle = foreign().start(&house.client, 3_000).await.unwrap();
    let error = handle.wait().await.unwrap_err().to_string();
    assert!(error.contains("not durable"), "{error}");
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn many_short_steps_leave_room_for_others() {
    let house = House::new().await;
    let work = Task::new("work", |_: TaskContext, n: u32| async move { Ok::<_, Failure>(n) });
    let workflow = Workflow::new("many").version("1.0.0", move |run: Run, count: u32| {
        let work = work.clone();
        async move {
            let mut sum = 0;
            for n in 0..count {
                sum += work.start(&run, n).await?;
            }
            run.sleep("pause", HOUR).await;
            Ok::<_, Failure>(sum)
        }
    });
    let worker = house.worker("w").build().unwrap();
    worker.workflow_registry().add(&workflow);
    start(&worker);
    // The second pass replays all of it without anything to wait for.
    let handle = workflow.start(&house.client, 1_000).await.unwrap();
    assert_eq!(handle.wait().await.unwrap(), 499_500);
    assert_eq!(worker.stop().await.totals.claimed, 2);
}

/// A clock that differs from the one of the server.
struct Wrong {
    right: Arc<aiki_runtime::VirtualClock>,
    ahead: Duration,
    behind: Duration,
}

impl aiki_core::Clock for Wrong {
    fn now(&self) -> aiki_core::Timestamp {
        let now = aiki_core::Clock::now(&*self.right).after(self.ahead);
        aiki_core::Timestamp::from_millis(now.as_millis() - self.behind.as_millis() as u64)
    }
}

#[tokio::test(start_paused = true)]
async fn waits_last_as_long_as_they_should_on_a_worker_whose_clock_is_wrong() {
    for (ahead, behind) in [(HOUR, Duration::ZERO), (Duration::ZERO, HOUR)] {
        let house = House::new().await;
        let attempts = Arc::new(Mutex::new(Vec::new()));
        let began = Instant::now();
        let noted = attempts.clone();
        let flaky = Task::new("flaky", move |_: TaskContext, (): ()| {
            let noted = noted.clone();
            async move {
                noted.lock().unwrap().push(began.elapsed());
                if noted.lock().unwrap().len() < 2 { Err(Failure::new("Busy", "not yet")) } else { Ok(()) }
            }
        })
        .retry(RetryStrategy::fixed(2, Duration::from_secs(30)));
        let workflow = Workflow::new("waits").version("1.0.0", move |run: Run, (): ()| {
            let flaky = flaky.clone();
            async move {
                flaky.start(&run, ()).await?;
                run.sleep("minute", Duration::from_secs(60)).await;
                Ok::<_, Failure>(())
            }
        });
        let worker =
            house.worker("w").clock(Arc::new(Wrong { right: house.clock.clone(), ahead, behind })).build().unwrap();
        worker.workflow_registry().add(&workflow);
        start(&worker);
        workflow.start(&house.client, ()).await.unwrap().wait().await.unwrap();
        let attempts = attempts.lock().unwrap().clone();
        let pause = attempts[1] - attempts[0];
        assert!((Duration::from_secs(30)..Duration::from_secs(32)).contains(&pause), "{pause:?} {ahead:?} {behind:?}");
        let took = began.elapsed();
        assert!((Duration::from_secs(90)..Duration::from_secs(94)).contains(&took), "{took:?} {ahead:?} {behind:?}");
        assert!(worker.status().totals.claimed < 6, "it is not called over and over: {:?}", worker.status());
    }
}

#[tokio::test(start_paused = true)]
async fn a_sleep_beside_a_body_goes_by_the_clock_of_the_server_too() {
    let (none, second) = (Duration::ZERO, Duration::from_secs(1));
    for (ahead, behind) in [(HOUR, none), (second * 3, none), (none, second * 3), (none, HOUR)] {
        let house = House::new().await;
        let long = Task::new("long", |_: TaskContext, (): ()| async move {
            tokio::time::sleep(Duration::from_secs(60)).await;
            Ok::<_, Failure>(())
        });
        let woken = Arc::new(Mutex::new(None));
        let noted = woken.clone();
        let workflow = Workflow::new("w").version("1.0.0", move |run: Run, (): ()| {
            let (long, noted) = (long.clone(), noted.clone());
            async move {
                let began = Instant::now();
                let sleep = async {
                    run.sleep("short", Duration::from_millis(500)).await;
                    noted.lock().unwrap().get_or_insert(began.elapsed());
                };
                Ok::<_, Failure>(futures::join!(long.start(&run, ()), sleep).0?)
            }
        });
        let clock = Wrong { right: house.clock.clone(), ahead, behind };
        let worker = house.worker("w").clock(Arc::new(clock)).build().unwrap();
        worker.workflow_registry().add(&workflow);
        start(&worker);
        workflow.start(&house.client, ()).await.unwrap().wait().await.unwrap();
        let slept = woken.lock().unwrap().unwrap().as_millis();
        assert!((500..700).contains(&slept), "{slept} ms on a clock that is {ahead:?} ahead and {behind:?} behind");
    }
}
