//! Time limits, heartbeats and checkpoints of tasks.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use aiki_core::replay::PassStep;
use aiki_core::run::{RunState, TaskState};
use aiki_core::{
    Clock, Failure, RegisteredWorkflow, RetryStrategy, Run, Task, TaskContext, Timestamp, Transition, Workflow,
};

use crate::support::{Hand, World};

const LIMIT: Duration = Duration::from_secs(10);

fn calls(task: Task<u32, u32>) -> RegisteredWorkflow {
    let version = Workflow::new("program").version("1", move |run: Run, input: u32| {
        let task = task.clone();
        async move { Ok::<_, Failure>(task.start(&run, input).await?) }
    });
    version.register()
}

/// Lets time pass to whenever the pass wants to be polled next.
fn pass_time(hand: &mut Hand) -> PassStep {
    match hand.go() {
        PassStep::Wait { until: Some(until), .. } => {
            hand.clock.advance_to(until);
            hand.go()
        }
        step => step,
    }
}

fn task_error(hand: &Hand) -> String {
    match &hand.server.record().tasks[0].state {
        TaskState::Failed { error, .. } => error.name.clone(),
        state => panic!("{state:?}"),
    }
}

#[test]
fn what_an_overdue_body_returns_in_its_grace_comes_too_late() {
    let ended = Arc::new(Mutex::new(false));
    let flag = ended.clone();
    let task = Task::new("slow", move |cx: TaskContext, input: u32| {
        let flag = flag.clone();
        async move {
            cx.cancellation().cancelled().await;
            *flag.lock().unwrap() = true;
            Ok::<_, Failure>(input)
        }
    });
    let mut hand = Hand::new(&calls(task.time_limit(LIMIT)));
    let began = hand.clock.now();
    pass_time(&mut hand);
    assert!(*ended.lock().unwrap(), "it was told and could clean up");
    assert_eq!(hand.clock.now().since(began), LIMIT, "nobody waited out the grace");
    assert_eq!(task_error(&hand), "TaskTimedOut");
    assert!(matches!(hand.server.head.state, RunState::Failed { .. }));
}

#[test]
fn a_body_that_does_not_listen_is_dropped_after_its_grace() {
    let world = World::default();
    let seen = world.clone();
    let task = Task::new("deaf", move |cx: TaskContext, input: u32| {
        let work = seen.begin_unchecked(&cx, 1);
        async move {
            work.await;
            Ok::<_, Failure>(input)
        }
    });
    let mut hand = Hand::new(&calls(task.time_limit(LIMIT)));
    let began = hand.clock.now();
    pass_time(&mut hand);
    assert_eq!(world.waiting().len(), 1, "it may clean up");
    pass_time(&mut hand);
    assert!(world.seen().gates.is_empty(), "it was dropped");
    assert_eq!(hand.clock.now().since(began), LIMIT + Duration::from_millis(100));
    assert_eq!(task_error(&hand), "TaskTimedOut");
}

/// Works on for as many steps as its input says, a step for each time that it is polled, and says after
/// each how far it has got.
async fn flood(cx: TaskContext, steps: u32) -> Result<u32, Failure> {
    for step in 0..steps {
        cx.heartbeat_with(&step)?;
        let mut first = true;
        std::future::poll_fn(|cx| {
            cx.waker().wake_by_ref();
            if std::mem::take(&mut first) { std::task::Poll::Pending } else { std::task::Poll::Ready(()) }
        })
        .await;
    }
    Ok(steps)
}

/// When checkpoints were written, of every task.
fn checkpoints(mut hand: Hand, pace: Duration) -> (Hand, Vec<(Timestamp, String)>) {
    let mut written = Vec::new();
    for _ in 0..10_000 {
        match hand.poll() {
            PassStep::Report(report) => {
                for transition in &report.transitions {
                    if let Transition::TaskProgressed { checkpoint, .. } = transition {
                        written.push((hand.clock.now(), checkpoint.as_str().to_owned()));
                    }
                }
                hand.answer(&report);
            }
            PassStep::Close(_) => return (hand, written),
            PassStep::Again | PassStep::Wait { .. } => hand.advance(pace),
        }
    }
    panic!("the body does not end");
}

#[test]
fn a_flood_of_heartbeats_is_reported_once_a_second_with_the_latest() {
    let version = Workflow::new("program").version("1", |run: Run, _: u32| async move {
        Ok::<_, Failure>(Task::new("flood", flood).start(&run, 1_000).await?)
    });
    let (hand, written) = checkpoints(Hand::new(&version.register()), Duration::from_millis(10));
    assert_eq!(hand.output(), "1000");
    assert!(written.len() >= 5, "{written:?}");
    for pair in written.windows(2) {
        assert!(pair[1].0.since(pair[0].0) >= Duration::from_secs(1), "{written:?}");
        let step = |at: usize| pair[at].1.parse::<u32>().unwrap();
        assert!(step(1) > step(0) + 10, "the latest one goes: {written:?}");
    }
}

#[test]
fn a_task_that_fails_at_once_again_and_again_keeps_the_pace_of_its_checkpoints() {
    let attempts = RetryStrategy::fixed(20, Duration::from_millis(4));
    let task = Task::new("flaky", |cx: TaskContext, _: u32| async move {
        let found = cx.checkpoint::<u64>()?;
        assert_eq!(found.unwrap_or(0), cx.attempt() - 1, "each attempt finds what the one before said");
        cx.heartbeat_with(&cx.attempt())?;
        if cx.attempt() < 20 { Err(Failure::new("Broken", "again")) } else { Ok(1) }
    });
    let (hand, written) = checkpoints(Hand::new(&calls(task.retry(attempts))), Duration::from_millis(1));
    assert_eq!(hand.output(), "1");
    assert_eq!(written.len(), 1, "all within a second: {written:?}");
}

#[test]
fn each_attempt_has_the_whole_limit_for_itself() {
    let world = World::default();
    let seen = world.clone();
    let task = Task::new("slow", move |cx: TaskContext, input: u32| {
        let work = seen.begin_unchecked(&cx, 1);
        let attempt = cx.attempt();
        async move {
            work.await;
            if attempt == 1 { Err(Failure::new("Broken", "once")) } else { Ok(input) }
        }
    });
    let task = task.retry(RetryStrategy::fixed(3, Duration::from_millis(4))).time_limit(LIMIT);
    let mut hand = Hand::new(&calls(task));
    hand.go();
    for _ in 0..2 {
        hand.advance(LIMIT - Duration::from_secs(1));
        let task = world.waiting()[0];
        world.tick(task);
        pass_time(&mut hand);
    }
    assert_eq!(hand.output(), "5", "eighteen seconds in all");
    assert!(matches!(hand.server.record().tasks[0].state, TaskState::Completed { attempts: 2, .. }));
}

#[test]
fn an_attempt_that_was_cut_short_finds_the_last_checkpoint_on_record() {
    let found = Arc::new(Mutex::new(Vec::new()));
    let (list, world) = (found.clone(), World::default());
    let seen = world.clone();
    let task = Task::new("slow", move |cx: TaskContext, input: u32| {
        let (list, work) = (list.clone(), seen.begin_unchecked(&cx, 1));
        async move {
            list.lock().unwrap().push(cx.checkpoint::<u32>()?);
            cx.heartbeat_with(&7u32)?;
            work.await;
            cx.heartbeat_with(&8u32)?;
            std::future::pending::<()>().await;
            Ok::<_, Failure>(input)
        }
    });
    let mut hand = Hand::new(&calls(task));
    hand.go();
    let task = world.waiting()[0];
    world.tick(task);
    hand.go();
    assert_eq!(hand.server.head.checkpoints.len(), 1);
    // The second one was said within the second and is lost with the worker.
    hand.crash();
    hand.go();
    assert_eq!(*found.lock().unwrap(), [None, Some(7)]);
    let task = world.waiting()[0];
    world.tick(task);
    hand.go();
    pass_time(&mut hand);
    hand.crash();
    hand.go();
    assert_eq!(*found.lock().unwrap(), [None, Some(7), Some(8)], "it was sent when the second was over");
}
