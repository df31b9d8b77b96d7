//! Events that come at the wrong moment.

use std::future::Future;
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use aiki_core::replay::{Close, PassStep};
use aiki_core::run::{QueuedReason, RunState, WaitState};
use aiki_core::{Either, Elapsed, Failure, RegisteredWorkflow, RetryStrategy, Run, Task, TaskContext, Workflow, race};
use futures::future::join;

use crate::support::{Call, Driver, EVENTS, Hand, Node, Program, Sim, World, gated};

const MINUTE: Duration = Duration::from_secs(60);

fn handler<F, Fut>(handler: F) -> RegisteredWorkflow
where
    F: Fn(Run) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<u32, Failure>> + Send + 'static,
{
    let version = Workflow::new("program").version("1", move |run: Run, _: u32| handler(run));
    let version = version.retry(RetryStrategy::fixed(3, Duration::from_secs(1)));
    version.event(&EVENTS[0]).event(&EVENTS[1]).register()
}

fn tick(world: &World) {
    let task = world.waiting()[0];
    world.tick(task);
}

#[test]
fn an_event_between_the_last_look_and_the_suspension_is_not_slept_through() {
    let workflow = handler(|run| async move { Ok(run.event(&EVENTS[0]).await) });
    let mut hand = Hand::new(&workflow);
    let suspension = hand.report();
    hand.send(0);
    hand.answer(&suspension);
    assert_eq!(hand.server.head.state, RunState::Queued { reason: QueuedReason::Event });
    assert_eq!(hand.step(), PassStep::Close(Close::Suspended));
    hand.claim();
    hand.go();
    assert_eq!(hand.output(), "100");
}

/// The last report waits for the answer to the one before. What the pass hears meanwhile it must not
/// claim to have known when it made up its mind to suspend.
#[test]
fn an_event_that_is_heard_of_when_the_suspension_is_made_up_is_not_slept_through() {
    let workflow = handler(|run| async move {
        let (event, _) = join(run.event(&EVENTS[0]), run.sleep("nap", Duration::from_millis(5))).await;
        Ok(event)
    });
    let mut hand = Hand::new(&workflow);
    let opened = hand.report();
    hand.advance(Duration::from_millis(5));
    assert!(matches!(hand.step(), PassStep::Wait { .. }), "one report is under way at a time");
    hand.send(0);
    hand.deliver();
    hand.answer(&opened);
    hand.go_on();
    assert_eq!(hand.output(), "100", "{:?}", hand.reports);
}

#[test]
fn a_report_that_comes_late_ends_no_wait_whose_event_came_in_time() {
    let world = World::default();
    let task = gated(&world);
    let workflow = handler(move |run| {
        let task = task.clone();
        async move {
            let (event, _) = join(run.event_within(&EVENTS[0], MINUTE), task.start(&run, 1)).await;
            Ok(event.unwrap_or(7))
        }
    });
    let mut hand = Hand::new(&workflow);
    hand.go();
    hand.advance(Duration::from_secs(50));
    hand.send(0);
    tick(&world);
    let suspension = hand.report();
    hand.advance(Duration::from_secs(20));
    hand.answer(&suspension);
    hand.go_on();
    assert_eq!(hand.output(), "100", "{}", hand.server.page);
}

#[test]
fn an_event_at_the_moment_of_the_timeout_wins_in_the_process() {
    let workflow =
        handler(|run| async move { Ok(run.event_within(&EVENTS[0], Duration::from_millis(5)).await.unwrap_or(7)) });
    let mut hand = Hand::new(&workflow);
    let PassStep::Wait { until: Some(until), .. } = hand.go() else { panic!("a short wait stays here") };
    hand.clock.advance_to(until);
    hand.send(0);
    hand.deliver();
    hand.go();
    assert_eq!(hand.output(), "100");
}

#[test]
fn an_event_at_the_moment_of_the_timeout_is_left_for_the_next_wait_on_the_server() {
    let workflow = handler(|run| async move {
        let first = run.event_within(&EVENTS[0], MINUTE).await;
        assert_eq!(first, Err(Elapsed(MINUTE)));
        Ok(run.event(&EVENTS[0]).await)
    });
    let mut hand = Hand::new(&workflow);
    assert_eq!(hand.go(), PassStep::Close(Close::Suspended));
    hand.advance(MINUTE);
    hand.send(0);
    hand.claim();
    hand.go_on();
    assert_eq!(hand.output(), "100");
}

/// Two waits for one event. The event is on its way to the first one when that is dropped.
#[test]
fn an_event_whose_wait_is_dropped_while_it_waits_its_turn_goes_to_the_other_wait() {
    let world = World::default();
    let task = gated(&world);
    let workflow = handler(move |run| {
        let task = task.clone();
        async move {
            let mut task = task.start(&run, 1);
            let mut first = Some(run.event(&EVENTS[0]));
            let second = run.event(&EVENTS[0]);
            futures::future::poll_fn(|cx| {
                let done = Pin::new(&mut task).poll(cx).is_ready();
                if let Some(wait) = &mut first {
                    assert!(Pin::new(wait).poll(cx).is_pending(), "one poll sees one outcome");
                }
                if done {
                    first = None;
                    return Poll::Ready(());
                }
                Poll::Pending
            })
            .await;
            Ok(second.await)
        }
    });
    let mut hand = Hand::new(&workflow);
    hand.go();
    hand.send(0);
    hand.deliver();
    assert_eq!(hand.poll(), PassStep::Again, "the first wait is to look");
    tick(&world);
    hand.go_on();
    assert_eq!(hand.output(), "100");
    let states: Vec<_> = hand.server.record().waits.iter().map(|wait| wait.state).collect();
    assert_eq!(states, [WaitState::Dropped, WaitState::Completed { event: Some(0) }]);
}

/// Lets the second attempt of the run begin.
fn try_again(hand: &mut Hand) {
    assert!(matches!(hand.server.head.state, RunState::AwaitingRetry { .. }));
    hand.advance(Duration::from_secs(1));
    hand.server.due();
    hand.claim();
    hand.go_on();
}

/// The first wait lost its race and left nothing behind, so the next attempt's first wait meets the record of the
/// second one; and loses its race again.
#[test]
fn an_event_and_a_result_that_an_attempt_has_had_reach_the_next_one_however_its_races_end() {
    let world = World::default();
    let task = gated(&world);
    let workflow = handler(move |run| {
        let task = task.clone();
        async move {
            let first = race(run.event(&EVENTS[0]), task.start(&run, 1)).await;
            assert!(matches!(first, Either::Right(Ok(_))), "the task is faster");
            let fast = race(task.start(&run, 3), task.start(&run, 2)).await;
            assert!(matches!(fast, Either::Right(Ok(_))), "the second task is faster");
            let slow = task.start(&run, 3).await?;
            let event = run.event(&EVENTS[0]).await;
            if run.attempt() == 1 { Err(Failure::new("Broken", "once")) } else { Ok(event + slow) }
        }
    });
    let mut hand = Hand::new(&workflow);
    hand.go();
    tick(&world);
    hand.go();
    let second = world.waiting()[1];
    world.tick(second);
    hand.go();
    let third = *world.waiting().last().expect("it runs");
    world.tick(third);
    hand.send(0);
    hand.deliver();
    hand.go_on();
    let tasks = hand.server.record().tasks.len();
    try_again(&mut hand);
    assert_eq!(hand.output(), "103", "{}", hand.server.page);
    assert_eq!(hand.server.record().tasks.len(), tasks, "nothing was begun anew");
}

#[test]
fn a_wait_that_may_last_for_ever_is_not_given_the_timeout_of_an_earlier_attempt() {
    let workflow = handler(|run| async move {
        if run.attempt() == 1 {
            let _ = run.event_within(&EVENTS[0], MINUTE).await;
            return Err(Failure::new("Broken", "once"));
        }
        Ok(run.event(&EVENTS[0]).await)
    });
    let mut hand = Hand::new(&workflow);
    hand.go();
    hand.advance(MINUTE);
    hand.server.due();
    hand.claim();
    hand.go_on();
    try_again(&mut hand);
    hand.send(0);
    hand.claim();
    hand.go_on();
    assert_eq!(hand.output(), "100", "{}", hand.server.page);
}

#[test]
fn a_wait_that_was_dropped_in_a_failed_attempt_waits_again_in_the_next() {
    let workflow = handler(|run| async move {
        let attempt = run.attempt();
        let task = Task::new("flaky", move |_: TaskContext, _: u32| async move {
            if attempt == 1 { Err(Failure::new("Broken", "once")) } else { Ok(1) }
        });
        let (event, nap) = (run.event(&EVENTS[0]), run.sleep("nap", MINUTE));
        task.start(&run, 1).await?;
        match race(event, nap).await {
            Either::Left(event) => Ok(event),
            Either::Right(_) => Ok(7),
        }
    });
    let mut hand = Hand::new(&workflow);
    hand.go_on();
    assert!(matches!(hand.server.head.state, RunState::AwaitingRetry { .. }));
    hand.advance(Duration::from_secs(1));
    hand.server.due();
    hand.claim();
    hand.go_on();
    assert!(hand.server.head.parked.len() == 2, "the event and the sleep are waited for anew:\n{}", hand.server.page);
    hand.send(0);
    hand.claim();
    hand.go_on();
    assert_eq!(hand.output(), "100");
}

#[test]
fn a_body_under_way_starts_again_though_replay_ends_with_an_event_there() {
    let root = Node::Late(Call::new("a", 0), Box::new(Node::Event(0, None)));
    let mut sim = Sim::new(&Program::of(root), Driver::Steady);
    sim.run();
    assert_eq!(sim.passes, 2);
    assert!(matches!(sim.server.head.state, RunState::Completed { .. }));
}

#[test]
fn events_that_are_told_twice_are_taken_once() {
    let workflow = handler(|run| async move {
        let (first, second) = (run.event(&EVENTS[0]).await, run.event(&EVENTS[0]).await);
        Ok(first * 1_000 + second)
    });
    let mut hand = Hand::new(&workflow);
    let suspension = hand.report();
    hand.send(0);
    hand.answer(&suspension);
    hand.step();
    hand.claim();
    let again = hand.report();
    hand.send(0);
    hand.answer(&again);
    hand.step();
    hand.claim();
    let all = hand.server.signals(0);
    hand.pass.deliver(0, all.clone());
    hand.pass.deliver(1, all[1..].to_vec());
    hand.go();
    assert_eq!(hand.output(), "100101");
}

#[test]
fn the_record_of_a_child_wait_and_an_event_wait_survives_a_crash_at_every_point() {
    let waits = || {
        let event =
            Node::Race(Box::new(Node::Event(0, Some(61_000))), Box::new(Node::Call(Call::new("a", 0).ticks(1))));
        Program::of(Node::Seq(vec![event, Node::Child(1, None), Node::Event(1, None)]))
    };
    let mut whole = Sim::new(&waits(), Driver::Steady);
    whole.run();
    for point in 0..whole.points {
        let mut sim = Sim::new(&waits(), Driver::Steady);
        sim.crash_at = [point].into();
        sim.run();
        assert_eq!(sim.outcome(), whole.outcome());
    }
}
