use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aiki::prelude::*;
use aiki::testing::{CrashPoint, CrashSweep, TestEnv, crash_sweep};

const PAID: Event<u64> = Event::new("paid");

fn task(name: &str) -> Task<u32, u32, Failure> {
    Task::new(name, |_: TaskContext, n: u32| async move { Ok::<_, Failure>(n + 1) })
}

type Parent = WorkflowVersion<u32, (u32, u64), Failure>;
type Child = WorkflowVersion<u32, u32, Failure>;

/// A bit of everything: tasks one after the other and at once, a sleep, an event, a child, the time, a retry.
fn everything() -> (Parent, Child) {
    let child = Workflow::new("child").version("1", |run: Run, n: u32| async move {
        run.sleep("nap", Duration::from_secs(60)).await;
        Ok::<_, Failure>(task("in-child").start(&run, n).await?)
    });
    let part = child.clone();
    let parent = Workflow::new("parent")
        .version("1", move |run: Run, n: u32| {
            let child = part.clone();
            let flaky = Task::new("flaky", |cx: TaskContext, n: u32| async move {
                if cx.attempt() < 3 { Err(Failure::new("Flaky", "again")) } else { Ok(n) }
            })
            .retry(RetryStrategy::fixed(3, Duration::from_secs(60)));
            async move {
                let began = run.now();
                let first = flaky.start(&run, n).await?;
                let (left, right) = (task("left"), task("right"));
                let (left, right) = futures::try_join!(left.start(&run, first), right.start(&run, first))?;
                let child = child.start_child(&run, left + right);
                let paid = run.event(&PAID).await;
                let sum = child.wait().await?;
                run.sleep("cool-off", Duration::from_secs(3_600)).await;
                let last = task("last").start(&run, sum).await?;
                Ok::<_, Failure>((last, paid + run.now().since(began).as_secs() / 3_600))
            }
        })
        .event(&PAID);
    (parent, child)
}

#[tokio::test]
async fn a_sound_workflow_ends_the_same_wherever_its_worker_dies() {
    let (parent, child) = everything();
    let sweep = CrashSweep::of(&parent).workflows([&child]).beside(|env, handle| async move {
        env.advance(Duration::from_secs(600)).await;
        handle.send_event(&PAID, 700).await.unwrap();
    });
    let report = sweep.run(1).await.unwrap();
    let text = report.to_string();
    for part in ["task `flaky` opened", "sleep `cool-off` began", "child `child@1` started", "(task `last`)"] {
        assert!(text.contains(part), "{part} in {text}");
    }
    let effects = report.points().iter().filter(|tried| matches!(tried.point, CrashPoint::AfterEffect(_))).count();
    assert_eq!((effects, report.unreached(), report.left_out()), (7, 0, 0), "{text}");
    assert!(report.points().len() > 40, "{text}");
}

#[tokio::test]
async fn a_handler_that_reads_a_static_is_caught() {
    static PASSES: AtomicU32 = AtomicU32::new(0);
    let wrong = Workflow::new("wrong").version("1", |run: Run, (): ()| async move {
        let n = PASSES.fetch_add(1, Ordering::SeqCst);
        task("only").start(&run, 1).await?;
        Ok::<_, Failure>(n)
    });
    let failure = CrashSweep::of(&wrong).prepare(|_| PASSES.store(0, Ordering::SeqCst)).run(()).await.unwrap_err();
    let text = failure.to_string();
    assert!(text.contains("ended differently than without a crash") && text.contains("a static"), "{text}");
    assert!(text.contains("points were tried before"), "{text}");
}

#[tokio::test]
async fn a_handler_that_calls_something_else_each_time_is_caught() {
    static PASSES: AtomicU32 = AtomicU32::new(0);
    let wrong = Workflow::new("wrong").version("1", |run: Run, (): ()| async move {
        let n = PASSES.fetch_add(1, Ordering::SeqCst);
        task("only").start(&run, n).await?;
        Ok::<_, Failure>(())
    });
    let text = crash_sweep(&wrong, ()).await.unwrap_err().to_string();
    assert!(text.contains("no longer follows its record"), "{text}");
}

#[tokio::test]
async fn an_effect_outside_of_a_task_is_caught_and_one_inside_is_not() {
    let sent = Arc::new(Mutex::new(Vec::new()));
    let (outbox, watched, cleared) = (sent.clone(), sent.clone(), sent.clone());
    let wrong = Workflow::new("wrong").version("1", move |run: Run, (): ()| {
        let outbox = outbox.clone();
        async move {
            task("first").start(&run, 1).await?;
            outbox.lock().unwrap().push("mail".to_owned());
            task("second").start(&run, 1).await?;
            Ok::<_, Failure>(())
        }
    });
    let sweep = CrashSweep::of(&wrong).prepare(move |_| cleared.lock().unwrap().clear());
    let text = sweep.observe(move || watched.lock().unwrap().clone()).run(()).await.unwrap_err().to_string();
    assert!(text.contains("there is an effect outside of a task"), "{text}");

    // With the key of its task the mailbox knows a repetition.
    let (outbox, watched, cleared) = (sent.clone(), sent.clone(), sent);
    let send = Task::new("send", move |cx: TaskContext, (): ()| {
        let outbox = outbox.clone();
        async move {
            let mut outbox = outbox.lock().unwrap();
            if !outbox.contains(&cx.idempotency_key()) {
                outbox.push(cx.idempotency_key());
            }
            Ok::<_, Failure>(())
        }
    });
    let right = Workflow::new("right").version("1", move |run: Run, (): ()| {
        let send = send.clone();
        async move { Ok::<_, Failure>(send.start(&run, ()).await?) }
    });
    let sweep = CrashSweep::of(&right).prepare(move |_| cleared.lock().unwrap().clear());
    sweep.observe(move || watched.lock().unwrap().len()).run(()).await.unwrap();
}

#[tokio::test]
async fn a_part_of_the_output_that_may_differ_can_be_left_out() {
    static RUNS: AtomicU32 = AtomicU32::new(0);
    let numbered = Workflow::new("numbered")
        .version("1", |_: Run, n: u32| async move { Ok::<_, Failure>((n, RUNS.fetch_add(1, Ordering::SeqCst))) });
    crash_sweep(&numbered, 1).await.unwrap_err();
    CrashSweep::of(&numbered).same_if(|one, other| one.0 == other.0).run(1).await.unwrap();
}

#[tokio::test]
async fn a_run_that_does_not_end_anyway_is_said_to_be_no_matter_of_crashes() {
    let waits = Workflow::new("waits")
        .version("1", |run: Run, (): ()| async move { Ok::<_, Failure>(run.event(&PAID).await) })
        .event(&PAID);
    let failure = crash_sweep(&waits, ()).await.unwrap_err();
    assert_eq!(failure.point(), None);
    let text = failure.to_string();
    assert!(text.contains("without any crash") && text.contains("event `paid`"), "{text}");
}

#[tokio::test]
async fn a_crash_by_hand_repeats_the_task_that_was_under_way_and_no_other() {
    let (first, second) = (task("first"), task("second"));
    let tasks = (first.clone(), second.clone());
    let two = Workflow::new("two").version("1", move |run: Run, n: u32| {
        let (first, second) = tasks.clone();
        async move {
            let n = first.start(&run, n).await?;
            Ok::<_, Failure>(second.start(&run, n).await?)
        }
    });
    let env = TestEnv::builder().workflow(&two).workers(2).start().await.unwrap();
    env.mock(&second).takes(Duration::from_secs(60)).returns(9);
    let (before, handle) = (env.now(), env.start(&two, 1).await.unwrap());
    env.advance(Duration::from_secs(30)).await;
    env.crash_workers();
    assert_eq!(handle.wait().await.unwrap(), 9);
    assert_eq!((env.attempts(&first), env.attempts(&second)), (1, 2));
    assert_eq!(env.now().since(before).as_secs(), 90, "begun anew at once, and from the beginning");
}
