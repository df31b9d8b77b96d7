//! Children: refused, held back, cancelled, changed, and a thousand of them.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use aiki_core::replay::{Close, PassStep};
use aiki_core::run::{Entry, FailureCause, RunState, WaitOn};
use aiki_core::{
    ChildError, Failure, RegisteredWorkflow, Run, Task, TaskContext, Transition, Workflow, WorkflowVersion,
};
use futures::future::{join, join_all, join3, poll_fn};

use crate::support::{Driver, Hand, Node, Program, Sim, World, gated};

fn handler<F, Fut>(handler: F) -> RegisteredWorkflow
where
    F: Fn(Run, u32) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<u32, Failure>> + Send + 'static,
{
    Workflow::new("program").version("1", handler).register()
}

fn part(version: &str) -> WorkflowVersion<u32, u32, Failure> {
    Workflow::new("part").version(version, |_: Run, input: u32| async move { Ok::<_, Failure>(input) })
}

/// The code was changed so that a child comes before two tasks that are on record: it is held back until
/// both were asked for, and the wait for it with it.
#[test]
fn a_wait_for_a_child_that_is_held_back_begins_after_the_child() {
    let world = World::default();
    let task = gated(&world);
    let old = task.clone();
    let old = handler(move |run, _| {
        let task = old.clone();
        async move { Ok(join(task.start(&run, 1), task.start(&run, 2)).await.0?) }
    });
    let mut hand = Hand::new(&old);
    hand.go();
    hand.workflow = handler(move |run, _| {
        let task = task.clone();
        async move {
            let child = part("1").start_child(&run, 3);
            let (child, first, second) = join3(child.wait(), task.start(&run, 1), task.start(&run, 2)).await;
            Ok(child? + first? + second?)
        }
    });
    hand.reports.clear();
    hand.crash();
    assert!(matches!(hand.go(), PassStep::Wait { .. }));
    match &hand.transitions()[..] {
        [Transition::ChildOpened { ordinal: 0, .. }, Transition::WaitOpened { ordinal: 0, on, .. }] => {
            assert_eq!(*on, WaitOn::Child(0));
        }
        other => panic!("{other:?}"),
    }
    for _ in 0..2 {
        let task = world.waiting()[0];
        world.tick(task);
        hand.go();
    }
    let output = aiki_core::Payload::from_json("30").ok();
    hand.server.arrive(&crate::support::Outside::ChildEnded(0, RunState::Completed { output }));
    hand.claim();
    hand.go_on();
    assert_eq!(hand.output(), "33");
}

#[test]
fn a_refused_child_fails_its_wait_alone_and_again_in_replay() {
    let workflow = handler(|run, _| async move {
        let child = part("1").start_child(&run, 1);
        let Err(ChildError::Engine { error, child: failed }) = child.wait().await else {
            return Ok(0);
        };
        assert_eq!((error.name.as_str(), failed.run, child.id()), ("Refused", None, None));
        run.sleep("nap", std::time::Duration::from_secs(60)).await;
        Ok(1)
    });
    let mut hand = Hand::new(&workflow);
    hand.server.refuses = |_| true;
    hand.go_on();
    assert!(matches!(hand.server.head.state, RunState::Sleeping { .. }), "{}", hand.server.page);
    hand.advance(std::time::Duration::from_secs(60));
    hand.server.due();
    hand.claim();
    hand.go_on();
    assert_eq!(hand.output(), "1");
}

/// The child fails so fast that its end is heard of before the answer to the report that started it.
#[test]
fn a_child_that_ends_before_its_start_is_answered_is_told_from_a_refused_one() {
    let workflow = handler(|run, _| async move {
        let child = part("1").start_child(&run, 1);
        let short = std::time::Duration::from_millis(5);
        // A short sleep keeps the worker, until the run could be suspended but for the answer.
        let (ended, _) = join(child.wait(), run.sleep("nap", short)).await;
        Ok(u32::from(matches!(ended, Err(ChildError::Failed { .. }))))
    });
    let mut hand = Hand::new(&workflow);
    let start = hand.report();
    let receipt = hand.server.report(&start).unwrap();
    let cause = FailureCause::Own(aiki_core::ErrorObject::new("Broken", "at once"));
    hand.server.arrive(&crate::support::Outside::ChildEnded(0, RunState::Failed { cause }));
    hand.deliver();
    assert!(matches!(hand.step(), PassStep::Wait { .. }), "what became of the start is not known yet");
    hand.advance(std::time::Duration::from_millis(5));
    assert!(matches!(hand.step(), PassStep::Wait { .. }));
    hand.pass.accepted(&receipt);
    hand.go();
    assert_eq!(hand.output(), "1");
}

#[test]
fn a_child_is_started_and_cancelled_once_however_often_the_worker_is_lost() {
    let program =
        || Program::of(Node::Seq(vec![Node::CancelledChild(1), Node::Sleep(61_000), Node::CancelledChild(2)]));
    let mut whole = Sim::new(&program(), Driver::Steady);
    whole.run();
    for point in 0..whole.points {
        let mut sim = Sim::new(&program(), Driver::Steady);
        sim.crash_at = [point].into();
        sim.run();
        let count = |is: fn(&Entry) -> bool| sim.server.journal.iter().filter(|entry| is(&entry.entry)).count();
        assert_eq!(count(|entry| matches!(entry, Entry::ChildOpened { .. })), 2);
        assert_eq!(count(|entry| matches!(entry, Entry::ChildCancelled { .. })), 2);
        assert_eq!(sim.outcome(), whole.outcome());
    }
}

/// Replays code that starts another child than the one on record.
fn explained(change: impl Fn(&Run) -> aiki_core::Child<'_, u32, Failure> + Send + Sync + Clone + 'static) -> String {
    let start = |run: &Run| part("1").child().reference_id("r1").start(run, 1).id();
    let old = handler(move |run, _| async move {
        start(&run);
        run.sleep("nap", std::time::Duration::from_secs(60)).await;
        Ok(0)
    });
    let mut hand = Hand::new(&old);
    hand.go();
    hand.advance(std::time::Duration::from_secs(60));
    hand.server.due();
    hand.workflow = handler(move |run, _| {
        let change = change.clone();
        async move {
            let child = change(&run);
            run.sleep("nap", std::time::Duration::from_secs(60)).await;
            drop(child);
            Ok(0)
        }
    });
    hand.claim();
    assert_eq!(hand.go(), PassStep::Close(Close::Failed));
    match &hand.server.head.state {
        RunState::Failed { cause: FailureCause::Own(error) } => {
            assert_eq!(error.name, "NonDeterminismError");
            error.message.clone()
        }
        state => panic!("{state:?}"),
    }
}

#[test]
fn a_changed_child_is_explained_by_what_was_changed() {
    let text = explained(|run| part("2").child().reference_id("r1").start(run, 1));
    assert!(text.contains("starts child `part@2`, which is not recorded"), "{text}");
    assert!(text.contains("Nearest recorded child: `part@1` (another version)"), "{text}");
    let text = explained(|run| part("1").child().reference_id("r2").start(run, 1));
    assert!(text.contains("Nearest recorded child: `part@1` (another reference id)"), "{text}");
    let text = explained(|run| {
        let other = Workflow::new("other").version("1", |_: Run, input: u32| async move { Ok::<_, Failure>(input) });
        other.child().reference_id("r1").start(run, 1)
    });
    assert!(text.contains("starts child `other@1`"), "{text}");
    assert!(text.contains("Nearest recorded child: `part@1` (the first one left over)"), "{text}");
    assert!(text.contains("Not asked for: child `part@1`"), "{text}");
}

/// The code was changed so that it starts a child that it does not wait for, and returns as soon as the
/// tasks on record have been asked for.
#[test]
fn a_child_that_was_held_back_starts_before_the_handler_ends() {
    let nap = std::time::Duration::from_secs(60);
    let quick = Task::new("quick", |_: TaskContext, input: u32| async move { Ok::<_, Failure>(input) });
    let task = quick.clone();
    let old = handler(move |run, _| {
        let task = task.clone();
        async move {
            task.start(&run, 1).await?;
            run.sleep("nap", nap).await;
            Ok(0)
        }
    });
    let mut hand = Hand::new(&old);
    hand.go();
    hand.advance(nap);
    hand.server.due();
    hand.workflow = handler(move |run, _| {
        let task = quick.clone();
        async move {
            part("1").start_child(&run, 9);
            task.start(&run, 1).await?;
            run.sleep("nap", nap).await;
            Ok(1)
        }
    });
    hand.claim();
    hand.go_on();
    assert_eq!(hand.output(), "1");
    assert_eq!(hand.server.head.open_children, 1);
}

const MANY: u32 = 1_000;

/// Starts `count` children and waits for all; answers how often their waits were polled in each pass.
fn fan_out(count: u32, polls: &Arc<AtomicUsize>) -> Hand {
    let polls = polls.clone();
    let workflow = handler(move |run, _| {
        let polls = polls.clone();
        async move {
            let children: Vec<_> = (0..count).map(|input| part("1").start_child(&run, input)).collect();
            let waits = children.iter().map(|child| {
                let (mut wait, polls) = (child.wait(), polls.clone());
                poll_fn(move |cx| {
                    polls.fetch_add(1, Ordering::SeqCst);
                    std::pin::Pin::new(&mut wait).poll(cx)
                })
            });
            for result in join_all(waits).await {
                result?;
            }
            Ok(count)
        }
    });
    Hand::new(&workflow)
}

#[test]
fn a_thousand_children_start_in_bounded_reports_and_are_replayed_once_each() {
    let polls = Arc::new(AtomicUsize::new(0));
    let mut hand = fan_out(MANY, &polls);
    hand.go();
    assert!(hand.reports.iter().all(|report| report.len() <= 500));
    assert_eq!(hand.transitions().len(), 2 * MANY as usize + 1, "each child, each wait, the suspension");
    assert_eq!(hand.server.head.open_children, MANY);
    // They end in another order than they began.
    for child in (0..MANY).rev() {
        let output = aiki_core::Payload::from_json(child.to_string()).ok();
        hand.server.arrive(&crate::support::Outside::ChildEnded(child, RunState::Completed { output }));
    }
    (hand.polls, hand.reports) = (0, Vec::new());
    polls.store(0, Ordering::SeqCst);
    hand.claim();
    hand.go();
    assert_eq!(hand.output(), "1000");
    let found = (hand.polls, polls.load(Ordering::SeqCst));
    assert!(found.0 <= 4 * MANY as usize && found.1 <= 3 * MANY as usize, "{found:?}");
    assert!(hand.reports.iter().all(|report| report.len() <= 500));
}
