//! What comes at the wrong moment: while a pass closes, or after a new attempt has begun.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use aiki_core::Report;
use aiki_core::replay::{Close, MachineConfig, Pass, PassStep};
use aiki_core::{Event, Failure, RegisteredWorkflow, RetryStrategy, Run, RunState, Task, TaskContext, Workflow};

use crate::support::{ManualClock, Server};

const APPLE: Event<u32> = Event::new("apple");
const BERRY: Event<u32> = Event::new("berry");

fn server(workflow: &RegisteredWorkflow) -> Server {
    Server::new(workflow.key(), 5, Arc::new(ManualClock::new()))
}

fn pass(server: &mut Server, workflow: &RegisteredWorkflow) -> Pass {
    let claim = server.claim().unwrap();
    Pass::new(claim, workflow, server.clock.clone(), MachineConfig::default())
}

/// Polls until there is a report, the end, or nothing to do.
fn step(pass: &mut Pass) -> PassStep {
    for _ in 0..1_000 {
        match pass.poll(&mut Context::from_waker(Waker::noop())) {
            PassStep::Again => {}
            step => return step,
        }
    }
    panic!("the pass goes round in a circle")
}

fn report(pass: &mut Pass) -> Report {
    match step(pass) {
        PassStep::Report(report) => report,
        other => panic!("expected a report, got {other:?}"),
    }
}

/// Lets every report be written at once until the pass waits or ends.
fn finish(server: &mut Server, mut pass: Pass) -> Option<Close> {
    loop {
        match step(&mut pass) {
            PassStep::Report(report) => pass.accepted(&server.report(&report).unwrap()),
            PassStep::Close(close) => return Some(close),
            _ => return None,
        }
    }
}

/// Moves the clock to what the run waits for, and runs it until it waits for somebody else.
fn run_on(server: &mut Server, workflow: &RegisteredWorkflow) {
    for _ in 0..100 {
        if server.is_over() {
            return;
        }
        if server.is_ready() {
            let pass = pass(server, workflow);
            finish(server, pass);
        } else if let Some(due) = server.head.due_at() {
            server.clock.advance_to(due);
            server.due();
        } else {
            return;
        }
    }
    panic!("the run does not end: {:?}", server.head.state);
}

/// A task whose body ends when the flag is set.
fn flagged(name: &'static str, flag: &Arc<AtomicBool>) -> Task<(), (), Failure> {
    let flag = flag.clone();
    Task::new(name, move |_: TaskContext, (): ()| {
        let flag = flag.clone();
        std::future::poll_fn(move |cx| {
            cx.waker().wake_by_ref();
            if flag.load(Ordering::SeqCst) { Poll::Ready(Ok(())) } else { Poll::Pending }
        })
    })
}

/// A task that fails when it is called for the first time.
fn flaky(calls: &Arc<AtomicU32>) -> Task<(), (), Failure> {
    let calls = calls.clone();
    Task::new("flaky", move |_: TaskContext, (): ()| {
        let first = calls.fetch_add(1, Ordering::SeqCst) == 0;
        async move { if first { Err(Failure::new("Flaky", "the first call fails")) } else { Ok(()) } }
    })
}

/// Lets the first report be written; the pass then waits for its bodies.
fn begun(server: &mut Server, workflow: &RegisteredWorkflow) -> Pass {
    let mut pass = pass(server, workflow);
    let opened = report(&mut pass);
    pass.accepted(&server.report(&opened).unwrap());
    poll(&mut pass, 5);
    pass
}

fn poll(pass: &mut Pass, times: usize) {
    for _ in 0..times {
        let step = pass.poll(&mut Context::from_waker(Waker::noop()));
        assert!(matches!(step, PassStep::Again | PassStep::Wait { .. }), "{step:?}");
    }
}

#[test]
fn a_signal_that_comes_while_a_suspension_waits_to_be_written_wakes_the_run() {
    let flags = [Arc::<AtomicBool>::default(), Arc::<AtomicBool>::default()];
    let tasks = [flagged("a", &flags[0]), flagged("b", &flags[1])];
    let workflow = Workflow::new("w")
        .version("1", move |run: Run, _: u32| {
            let [a, b] = tasks.clone();
            async move {
                let (apple, a, b) = futures::join!(run.event(&APPLE), a.start(&run, ()), b.start(&run, ()));
                a?;
                b?;
                Ok::<_, Failure>(apple)
            }
        })
        .event(&APPLE)
        .register();
    let mut server = server(&workflow);
    let mut pass = begun(&mut server, &workflow);
    assert!(pass.awaits_signals());
    flags[0].store(true, Ordering::SeqCst);
    let first = report(&mut pass);
    // The worker asks for signals, and the answer takes its time: the pass wants to suspend by then.
    server.send("apple", 1);
    flags[1].store(true, Ordering::SeqCst);
    poll(&mut pass, 200);
    pass.deliver(0, server.signals(0));
    pass.accepted(&server.report(&first).unwrap());
    assert_eq!(finish(&mut server, pass), Some(Close::Suspended));
    assert!(server.is_ready(), "nobody looked at the apple, and the run is {:?}", server.head.state);
}

#[test]
fn a_signal_that_comes_while_a_new_beginning_waits_to_be_written_is_kept() {
    let flags = [Arc::<AtomicBool>::default(), Arc::<AtomicBool>::default()];
    let tasks = [flagged("a", &flags[0]), flagged("b", &flags[1])];
    let workflow = Workflow::new("w")
        .version("1", move |run: Run, left: u32| {
            let [a, b] = tasks.clone();
            async move {
                if left == 0 {
                    return Ok::<_, Failure>(run.event(&APPLE).await);
                }
                let again = async {
                    let _ = b.start(&run, ()).await;
                    run.continue_as_new::<_, ()>(0).await;
                };
                let _ = futures::join!(run.event(&BERRY), a.start(&run, ()), again);
                Ok(0)
            }
        })
        .event(&APPLE)
        .event(&BERRY)
        .register();
    let mut server = server(&workflow);
    let mut pass = begun(&mut server, &workflow);
    flags[0].store(true, Ordering::SeqCst);
    let first = report(&mut pass);
    server.send("apple", 7);
    flags[1].store(true, Ordering::SeqCst);
    poll(&mut pass, 200);
    pass.deliver(0, server.signals(0));
    pass.accepted(&server.report(&first).unwrap());
    finish(&mut server, pass);
    run_on(&mut server, &workflow);
    assert!(server.is_over(), "the apple is lost: {:?}", server.head.state);
}

#[test]
fn a_wait_that_an_earlier_attempt_dropped_is_a_wait_again() {
    let calls = Arc::<AtomicU32>::default();
    let workflow = Workflow::new("w")
        .version("1", move |run: Run, _: u32| {
            let flaky = flaky(&calls);
            async move {
                let task = async { flaky.start(&run, ()).await.map_err(Failure::from) };
                let event = async { Ok::<_, Failure>(run.event(&APPLE).await) };
                Ok::<_, Failure>(futures::try_join!(task, event)?.1)
            }
        })
        .retry(RetryStrategy::fixed(2, Duration::from_secs(1)))
        .event(&APPLE)
        .register();
    let mut server = server(&workflow);
    run_on(&mut server, &workflow);
    assert_eq!(server.head.attempts, 2);
    server.send("apple", 1);
    run_on(&mut server, &workflow);
    assert!(matches!(server.head.state, RunState::Completed { .. }), "{:?}", server.head.state);
}

#[test]
fn a_sleep_that_an_earlier_attempt_dropped_lasts_its_time() {
    let calls = Arc::<AtomicU32>::default();
    let workflow = Workflow::new("w")
        .version("1", move |run: Run, _: u32| {
            let flaky = flaky(&calls);
            async move {
                let task = async { flaky.start(&run, ()).await.map_err(Failure::from) };
                let sleep = async {
                    run.sleep("nap", Duration::from_secs(3_600)).await;
                    Ok::<_, Failure>(())
                };
                futures::try_join!(task, sleep)?;
                Ok::<_, Failure>(())
            }
        })
        .retry(RetryStrategy::fixed(2, Duration::from_secs(1)))
        .register();
    let mut server = server(&workflow);
    let began = aiki_core::Clock::now(&*server.clock);
    run_on(&mut server, &workflow);
    assert!(matches!(server.head.state, RunState::Completed { .. }), "{:?}", server.head.state);
    let took = aiki_core::Clock::now(&*server.clock).since(began);
    assert!(took >= Duration::from_secs(3_601), "the sleep of an hour took {took:?}");
}

#[test]
fn a_body_that_fails_beside_a_new_beginning_does_not_spoil_it() {
    let flag = Arc::<AtomicBool>::default();
    let ended = flag.clone();
    let body = Task::new("body", move |_: TaskContext, (): ()| {
        let flag = ended.clone();
        std::future::poll_fn(move |_| {
            if flag.load(Ordering::SeqCst) {
                Poll::Ready(Err::<(), _>(Failure::from_object(aiki_core::ErrorObject::new("Late", "x"))))
            } else {
                Poll::Pending
            }
        })
    })
    .retry(RetryStrategy::fixed(3, Duration::from_secs(60)));
    // Ends when it is polled for the second time: both bodies have begun by then.
    let quick = Task::new("quick", |_: TaskContext, (): ()| {
        let mut polled = false;
        std::future::poll_fn(move |cx| {
            cx.waker().wake_by_ref();
            if std::mem::replace(&mut polled, true) { Poll::Ready(Ok::<_, Failure>(())) } else { Poll::Pending }
        })
    });
    let workflow = Workflow::new("w")
        .version("1", move |run: Run, left: u32| {
            let (body, quick, flag) = (body.clone(), quick.clone(), flag.clone());
            async move {
                if left == 0 {
                    return Ok::<_, Failure>(());
                }
                let again = async {
                    let _ = quick.start(&run, ()).await;
                    flag.store(true, Ordering::SeqCst);
                    run.continue_as_new::<_, ()>(0).await;
                };
                let _ = futures::join!(again, body.start(&run, ()));
                Ok(())
            }
        })
        .register();
    let mut server = server(&workflow);
    run_on(&mut server, &workflow);
    assert!(matches!(server.head.state, RunState::Completed { .. }), "{:?}", server.head.state);
}
