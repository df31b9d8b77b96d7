//! When a run is given back to the server, what it waits for there, and who keeps it in the process.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Wake, Waker};
use std::time::Duration;

use aiki_core::replay::{Close, MachineConfig, Pass, PassStep};
use aiki_core::run::{RunStatus, SleepState, TaskState};
use aiki_core::{Clock, Failure, ReportReceipt, RetryStrategy, Run, Task, TaskContext, Transition, Workflow};

use crate::support::server::LEASE;
use crate::support::{Call, Driver, ManualClock, Node, Patience, Program, Server, Sim, World};

fn steady(root: Node) -> Sim {
    Sim::new(&Program::of(root), Driver::Steady)
}

fn elapsed(sim: &Sim) -> Duration {
    sim.clock.now().since(sim.server.head.created_at)
}

fn call(ticks: u8) -> Node {
    Node::Call(Call::new("a", 0).ticks(ticks))
}

#[test]
fn two_sleeps_of_a_minute_side_by_side_take_a_minute() {
    let mut sim = steady(Node::Join(vec![Node::Sleep(60_000), Node::Sleep(60_000)]));
    sim.run();
    assert_eq!(elapsed(&sim), Duration::from_secs(60));
    assert_eq!(sim.passes, 2, "the server wakes both at once");
}

#[test]
fn a_long_body_beside_a_sleep_is_kept_alive_and_the_sleep_ends_in_the_process() {
    // The follow-up of the sleep runs while the long body still does.
    let nap = Node::Seq(vec![Node::Sleep(61_000), Node::Call(Call::new("bb", 1))]);
    let mut sim = steady(Node::Join(vec![call(1), nap]));
    let world = sim.world.clone();
    let claim = sim.server.claim().unwrap();
    world.begin_pass(&claim.record);
    let mut pass = Pass::new(claim, &sim.workflow, sim.clock.clone(), sim.config);
    let mut cx = Context::from_waker(Waker::noop());
    let mut ended_first = None;
    for _ in 0..100 {
        world.set_silent(pass.is_silent());
        match pass.poll(&mut cx) {
            PassStep::Again => {}
            PassStep::Report(report) => {
                sim.server.report(&report).unwrap();
                world.answered(&report.transitions);
                pass.accepted(&ReportReceipt::default());
            }
            PassStep::Close(close) => {
                assert_eq!(close, Close::Completed);
                break;
            }
            PassStep::Wait { until: Some(until), .. } => {
                assert_eq!(world.seen().executions.len(), 1, "the long body has begun");
                sim.clock.advance_to(until);
                sim.server.refresh();
            }
            PassStep::Wait { until: None, stuck } => {
                assert!(!stuck, "a body is at work");
                let record = sim.server.record();
                ended_first.get_or_insert((record.sleeps[0].state, record.tasks[1].state.clone()));
                let waiting = world.waiting();
                world.tick(waiting[0]);
            }
        }
    }
    assert!(sim.server.is_over());
    let (sleep, follow_up) = ended_first.unwrap();
    assert!(matches!(sleep, SleepState::Completed { .. }) && matches!(follow_up, TaskState::Completed { .. }));
    assert_eq!(sim.server.head.epoch, 1, "all in one pass");
}

#[test]
fn a_suspended_run_shows_its_earliest_step() {
    let mut sim = steady(Node::Join(vec![Node::Sleep(90_001), Node::Sleep(20_000)]));
    assert_eq!(sim.pass(), Some(Close::Suspended));
    let state = &sim.server.head.state;
    assert!(matches!(state, aiki_core::RunState::Sleeping { name, .. } if name == "even"), "{state:?}");
    assert_eq!(sim.server.head.due_at(), Some(sim.clock.now().after(Duration::from_secs(20))));
    sim.run();
    assert_eq!(elapsed(&sim), Duration::from_millis(90_001));
}

#[test]
fn a_parked_retry_that_is_due_before_a_sleep_leaves_the_run_running_without_an_owner() {
    let retried = Node::Call(Call::new("a", 0).failing(1, Patience::Long));
    let mut sim = steady(Node::Join(vec![Node::Sleep(61_000), retried]));
    assert_eq!(sim.pass(), Some(Close::Suspended));
    assert_eq!(sim.server.head.state.status(), RunStatus::Running);
    assert_eq!(sim.server.head.lease, None);
    assert_eq!(sim.server.head.due_at(), Some(sim.clock.now().after(Duration::from_millis(30_011))));
    sim.run();
    assert_eq!(elapsed(&sim), Duration::from_secs(61));
}

#[test]
fn an_interrupted_attempt_keeps_its_number_and_needs_no_retries() {
    let mut whole = steady(call(1));
    whole.run();
    for point in 0..whole.points {
        let mut sim = steady(call(1));
        sim.crash_at = [point].into();
        sim.run();
        assert!(sim.world.seen().executions.iter().all(|(_, attempt)| *attempt == 1));
        assert!(matches!(sim.server.record().tasks[0].state, TaskState::Completed { attempts: 1, .. }));
        assert_eq!(sim.server.head.state.status(), RunStatus::Completed, "a crash is no failure");
    }
}

#[test]
fn a_second_attempt_that_was_interrupted_is_still_the_second() {
    let retried = || Node::Call(Call::new("a", 0).failing(1, Patience::Long).ticks(1));
    let mut whole = steady(retried());
    whole.run();
    for point in 0..whole.points {
        let mut sim = steady(retried());
        sim.crash_at = [point].into();
        sim.run();
        assert_eq!(sim.world.seen().executions.last().map(|(_, attempt)| *attempt), Some(2));
        assert!(matches!(sim.server.record().tasks[0].state, TaskState::Completed { attempts: 2, .. }));
    }
}

#[test]
fn fractions_of_a_millisecond_are_rounded_up_and_nothing_is_a_millisecond() {
    let naps = [Duration::ZERO, Duration::from_nanos(1), Duration::from_micros(2_500)];
    let version = Workflow::new("program").version("1", move |run: Run, _: u32| async move {
        for nap in naps {
            run.sleep("nap", nap).await;
        }
        Ok::<_, Failure>(0)
    });
    let mut sim = Sim::with_workflow(version.register(), World::default(), Driver::Steady);
    sim.run();
    assert_eq!(elapsed(&sim), Duration::from_millis(1 + 1 + 3));
    assert_eq!(sim.passes, 1, "waits of a few milliseconds stay in the process");
    let lasted: Vec<_> = sim
        .server
        .record()
        .sleeps
        .iter()
        .map(|sleep| match sleep.state {
            SleepState::Completed { duration_ms, .. } => duration_ms,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(lasted, [1, 1, 3]);
}

#[test]
fn a_short_sleep_that_nobody_looks_at_keeps_no_worker() {
    let mut sim = steady(Node::LateSleep(3, Box::new(Node::Sleep(3_600_000))));
    assert_eq!(sim.pass(), Some(Close::Suspended));
    assert!(elapsed(&sim) <= Duration::from_millis(20), "the worker did not wait out the hour");
    sim.run();
    assert_eq!(elapsed(&sim), Duration::from_secs(3_600));
}

#[test]
fn an_overdue_sleep_that_nobody_looks_at_keeps_no_worker_either() {
    let root = || Node::LateSleep(20_023, Box::new(Node::Seq(vec![call(1), Node::Sleep(3_600_000)])));
    let mut sim = steady(root());
    // The worker is lost while the body runs; when its lease has lapsed the first sleep is over.
    sim.crash_at = [5].into();
    sim.release_on_crash = false;
    assert_eq!(sim.pass(), None);
    assert_eq!(sim.world.seen().executions.len(), 1);
    assert_eq!(sim.pass(), Some(Close::Suspended));
    assert_eq!(elapsed(&sim), LEASE, "the second worker did not wait");
    sim.run();
    assert_eq!(elapsed(&sim), LEASE + Duration::from_secs(3_600));
}

#[test]
fn a_sleep_that_ended_before_anybody_looked_holds_nobody_up() {
    let inner = Node::Seq(vec![Node::Sleep(61_000), call(1)]);
    let mut sim = steady(Node::LateSleep(20_023, Box::new(inner)));
    sim.run();
    assert_eq!(elapsed(&sim), Duration::from_secs(61));
}

#[test]
fn a_parked_task_that_lost_its_race_does_not_wake_the_run_again() {
    let loser = Node::Call(Call::new("a", 0).failing(2, Patience::Long));
    let race = Node::Race(Box::new(Node::Sleep(20_023)), Box::new(loser));
    let mut sim = steady(Node::Seq(vec![race, Node::Sleep(3_600_000)]));
    sim.run();
    assert_eq!(elapsed(&sim), Duration::from_millis(3_620_023));
    assert_eq!(sim.passes, 3, "one for each sleep, and the first");
}

#[test]
fn sleeps_that_lost_their_races_neither_wake_the_run_nor_pile_up() {
    let race = |n| Node::Race(Box::new(call(n)), Box::new(Node::Sleep(20_023)));
    let mut sim = steady(Node::Seq((0..40).map(race).chain([Node::Sleep(3_600_000)]).collect()));
    sim.run();
    assert_eq!(sim.passes, 2, "the first, and one after the sleep that was waited for");
    assert_eq!(elapsed(&sim), Duration::from_millis(3_600_000));
    assert_eq!(sim.server.head.parked, []);
}

/// Polls the first pass of a handler until it waits, answering its reports.
fn until_it_waits(root: impl Fn(Run) -> futures::future::BoxFuture<'static, ()> + Send + Sync + 'static) -> PassStep {
    let version = Workflow::new("program").version("1", move |run: Run, _: u32| {
        let handler = root(run);
        async move {
            handler.await;
            Ok::<_, Failure>(0)
        }
    });
    let clock = Arc::new(ManualClock::new());
    let mut server = Server::new(version.key(), 1, clock.clone());
    let mut pass = Pass::new(server.claim().unwrap(), &version.register(), clock, MachineConfig::default());
    let mut cx = Context::from_waker(Waker::noop());
    for _ in 0..100 {
        match pass.poll(&mut cx) {
            PassStep::Again => {}
            PassStep::Report(report) => {
                server.report(&report).unwrap();
                pass.accepted(&ReportReceipt::default());
            }
            other => return other,
        }
    }
    panic!("the pass neither waits nor closes");
}

#[test]
fn waiting_for_something_that_is_not_durable_is_flagged() {
    let step = until_it_waits(|_| Box::pin(futures::future::pending()));
    assert_eq!(step, PassStep::Wait { until: None, stuck: true });
}

#[test]
fn waiting_for_something_foreign_beside_a_short_sleep_is_no_trouble_yet() {
    let step = until_it_waits(|run| {
        Box::pin(async move {
            futures::future::join(run.sleep("nap", Duration::from_millis(5)), futures::future::pending::<()>()).await;
        })
    });
    assert!(matches!(step, PassStep::Wait { until: Some(_), stuck: false }), "{step:?}");
}

#[test]
fn a_foreign_wait_beside_a_long_sleep_is_suspended_with_it() {
    let step = until_it_waits(|run| {
        Box::pin(async move {
            futures::future::join(run.sleep("nap", Duration::from_secs(60)), futures::future::pending::<()>()).await;
        })
    });
    assert_eq!(step, PassStep::Close(Close::Suspended));
}

#[test]
fn the_handler_is_gone_when_its_suspension_is_reported() {
    struct Guard(Arc<AtomicBool>);
    impl Drop for Guard {
        fn drop(&mut self) {
            self.0.store(true, Ordering::SeqCst);
        }
    }
    let dropped = Arc::new(AtomicBool::new(false));
    let flag = dropped.clone();
    let version = Workflow::new("program").version("1", move |run: Run, _: u32| {
        let guard = Guard(flag.clone());
        async move {
            let _guard = guard;
            run.sleep("nap", Duration::from_secs(60)).await;
            Ok::<_, Failure>(0)
        }
    });
    let clock = Arc::new(ManualClock::new());
    let mut server = Server::new(version.key(), 1, clock.clone());
    let mut pass = Pass::new(server.claim().unwrap(), &version.register(), clock, MachineConfig::default());
    let step = pass.poll(&mut Context::from_waker(Waker::noop()));
    let PassStep::Report(report) = step else { panic!("{step:?}") };
    assert_eq!(report.transitions.last(), Some(&Transition::Suspended));
    assert!(dropped.load(Ordering::SeqCst));
}

/// Runs a task that fails as `failure` says in its first attempt; answers the attempts that it took.
fn attempts(failure: impl Fn() -> Failure + Send + Sync + Clone + 'static) -> (u64, Duration, RunStatus) {
    let version = Workflow::new("program").version("1", move |run: Run, _: u32| {
        let failure = failure.clone();
        let task = Task::new("t", move |cx: TaskContext, _: u32| {
            let result = if cx.attempt() == 1 { Err(failure()) } else { Ok(1) };
            async move { result }
        });
        let task = task.retry(RetryStrategy::fixed(3, Duration::from_millis(4)));
        async move { Ok::<u32, Failure>(task.start(&run, 1).await?) }
    });
    let mut sim = Sim::with_workflow(version.register(), World::default(), Driver::Steady);
    sim.run();
    let attempts = sim.server.record().tasks[0].state.attempts();
    (attempts, elapsed(&sim), sim.server.head.state.status())
}

#[test]
fn an_error_may_forbid_a_retry_or_put_it_off() {
    let plain = attempts(|| Failure::new("E", "broken"));
    assert_eq!(plain, (2, Duration::from_millis(4), RunStatus::Completed));
    let never = attempts(|| Failure::non_retryable("E", "broken"));
    assert_eq!(never, (1, Duration::ZERO, RunStatus::Failed));
    let later = attempts(|| Failure::new("E", "busy").retry_after(Duration::from_secs(60)));
    assert_eq!(later, (2, Duration::from_secs(60), RunStatus::Completed));
}

#[test]
fn a_host_that_waits_is_woken_by_a_body_that_goes_on() {
    #[derive(Default)]
    struct Wakes(AtomicUsize);
    impl Wake for Wakes {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }
    let mut sim = steady(call(1));
    let claim = sim.server.claim().unwrap();
    sim.world.begin_pass(&claim.record);
    let mut pass = Pass::new(claim, &sim.workflow, sim.clock.clone(), sim.config);
    let wakes = Arc::new(Wakes::default());
    let waker = Waker::from(wakes.clone());
    let mut cx = Context::from_waker(&waker);
    let PassStep::Report(report) = pass.poll(&mut cx) else { panic!("the task is opened") };
    assert_eq!(pass.poll(&mut cx), PassStep::Wait { until: None, stuck: false }, "its answer is under way");
    sim.server.report(&report).unwrap();
    sim.world.answered(&report.transitions);
    pass.accepted(&ReportReceipt::default());
    assert_eq!(pass.poll(&mut cx), PassStep::Wait { until: None, stuck: false }, "the body is at work");
    let before = wakes.0.load(Ordering::SeqCst);
    sim.world.tick(report.run.task(0));
    assert_eq!(wakes.0.load(Ordering::SeqCst), before + 1);
    assert!(matches!(pass.poll(&mut cx), PassStep::Report(_)));
}

#[test]
fn a_sleep_that_lost_its_race_does_not_wake_the_run() {
    let race = Node::Race(Box::new(Node::Sleep(20_023)), Box::new(Node::Sleep(61_000)));
    let mut sim = steady(Node::Seq(vec![race, Node::Sleep(3_600_000)]));
    sim.run();
    assert_eq!(elapsed(&sim), Duration::from_millis(3_620_023));
    assert_eq!(sim.passes, 3);
    assert!(matches!(sim.server.record().sleeps[1].state, SleepState::Cancelled { .. }));
}

/// Two sleeps are over at once. The handler is busy with the first when it drops the second, whose end
/// waits for its turn: it is recorded as it would be if the second were still to come.
#[test]
fn a_sleep_that_is_dropped_when_it_was_just_over_is_dropped_on_record() {
    let inner = Node::Race(Box::new(call(0)), Box::new(Node::Sleep(3)));
    let mut sim = steady(Node::Join(vec![Node::Sleep(3), inner]));
    sim.crash_at = [4].into();
    sim.release_on_crash = false;
    sim.run();
    let record = sim.server.record();
    assert!(sim.passes == 2 && record.sleeps.len() == 2, "the worker was lost when both sleeps had begun");
    assert!(matches!(record.sleeps[0].state, SleepState::Completed { .. }), "{:?}", record.sleeps);
    assert!(matches!(record.sleeps[1].state, SleepState::Cancelled { .. }), "{:?}", record.sleeps);
}
