//! Handlers that begin again as new at a bad moment.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;

use aiki_core::replay::{Close, PassStep};
use aiki_core::{Failure, RegisteredWorkflow, Run, RunState, Task, TaskContext, Transition, Workflow};
use futures::future::join;

use crate::support::{EVENTS, Hand, World, gated};

fn handler<F, Fut>(handler: F) -> RegisteredWorkflow
where
    F: Fn(Run, u32) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<u32, Failure>> + Send + 'static,
{
    let version = Workflow::new("program").version("1", handler);
    version.event(&EVENTS[0]).event(&EVENTS[1]).register()
}

/// The code was changed: it continues while tasks that it no longer asks for are on record.
#[test]
fn a_continuation_during_replay_leaves_everything_behind() {
    let world = World::default();
    let task = gated(&world);
    let old = handler(move |run, _| {
        let task = task.clone();
        async move { Ok(join(task.start(&run, 1), task.start(&run, 2)).await.0?) }
    });
    let mut hand = Hand::new(&old);
    hand.go();
    assert_eq!(hand.server.record().tasks.len(), 2);
    let quick = Task::new("quick", |_: TaskContext, input: u32| async move { Ok::<_, Failure>(input) });
    hand.workflow = handler(move |run, input| {
        let quick = quick.clone();
        async move {
            if input < 7 {
                return run.continue_as_new(input + 1).await;
            }
            Ok(quick.start(&run, input).await?)
        }
    });
    hand.crash();
    hand.go_on();
    assert_eq!(hand.output(), "7");
    let record = hand.server.record();
    assert!(record.tasks.len() == 1 && record.tasks[0].id.ordinal() == 2, "{:?}", record.tasks);
    assert_eq!(record.history_len as usize, hand.server.entries().len());
}

#[test]
fn an_event_on_its_way_to_a_wait_goes_along() {
    let world = World::default();
    let task = gated(&world);
    let workflow = handler(move |run, input| {
        let task = task.clone();
        async move {
            let mut wait = run.event(&EVENTS[0]);
            if input == 6 {
                return Ok(wait.await);
            }
            let mut task = task.start(&run, 1);
            futures::future::poll_fn(|cx| {
                let done = Pin::new(&mut task).poll(cx).is_ready();
                assert!(Pin::new(&mut wait).poll(cx).is_pending(), "one poll sees one outcome");
                if done { Poll::Ready(()) } else { Poll::Pending }
            })
            .await;
            run.continue_as_new(6).await
        }
    });
    let mut hand = Hand::new(&workflow);
    hand.go();
    hand.send(0);
    hand.deliver();
    assert_eq!(hand.poll(), PassStep::Again, "the wait is to look");
    let running = world.waiting()[0];
    world.tick(running);
    hand.go_on();
    assert_eq!(hand.output(), "100");
}

#[test]
fn an_event_that_the_worker_has_not_seen_puts_the_continuation_off() {
    let passes = Arc::new(AtomicUsize::new(0));
    let counted = passes.clone();
    let workflow = handler(move |run, input| {
        counted.fetch_add(1, Ordering::SeqCst);
        async move {
            if input == 5 {
                return run.continue_as_new(6).await;
            }
            Ok(run.event(&EVENTS[1]).await)
        }
    });
    let mut hand = Hand::new(&workflow);
    let continuation = hand.report();
    assert!(matches!(continuation.transitions[..], [Transition::ContinuedAsNew { .. }]));
    hand.send(1);
    hand.answer(&continuation);
    assert_eq!(hand.step(), PassStep::Close(Close::Continued));
    assert_eq!(hand.server.head.seen, Some(0), "what was logged is not new again");
    hand.claim();
    hand.go_on();
    assert_eq!(hand.output(), "200");
    assert_eq!(passes.load(Ordering::SeqCst), 3);
}

/// The continuation is made up while another report is under way. What the pass hears before it leaves
/// is not in it.
#[test]
fn an_event_that_comes_while_the_continuation_waits_to_leave_is_not_lost() {
    let workflow = handler(|run, input| async move {
        if input == 5 {
            let quick = Task::new("quick", |_: TaskContext, input: u32| async move { Ok::<_, Failure>(input) });
            let _other = run.event(&EVENTS[0]);
            let (done, wait) = (quick.start(&run, 1), run.event(&EVENTS[1]));
            let mut wait = Box::pin(wait);
            let _ = futures::poll!(wait.as_mut());
            let _ = wait.await;
            drop(done);
            return run.continue_as_new(6).await;
        }
        Ok(run.event(&EVENTS[0]).await)
    });
    let mut hand = Hand::new(&workflow);
    let opened = hand.report();
    // The wait ends while its own beginning is still under way.
    hand.send(1);
    hand.deliver();
    assert!(matches!(hand.step(), PassStep::Wait { .. }));
    hand.send(0);
    hand.deliver();
    hand.answer(&opened);
    hand.go_on();
    assert_eq!(hand.output(), "100", "{}", hand.server.page);
}

#[test]
fn children_and_tasks_of_an_earlier_life_are_nobodys_business() {
    let workflow = handler(|run, input| async move {
        let part = Workflow::new("part").version("1", |_: Run, input: u32| async move { Ok::<_, Failure>(input) });
        let child = part.start_child(&run, 1);
        if input == 5 {
            return run.continue_as_new(6).await;
        }
        Ok(child.wait().await?)
    });
    let mut hand = Hand::new(&workflow);
    hand.go_on();
    let ends = hand.server.children_under_way();
    assert_eq!(ends.len(), 2, "the first child goes on");
    hand.server.arrive(&ends[0]);
    assert!(!hand.server.is_ready(), "its end wakes nobody");
    hand.server.arrive(&ends[1]);
    hand.claim();
    hand.go_on();
    assert!(matches!(hand.server.head.state, RunState::Completed { .. } | RunState::Failed { .. }));
    assert_eq!(hand.server.head.open_children, 0);
}
