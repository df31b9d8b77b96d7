//! Replaying a long record costs in proportion to its length: counted in polls, not in time.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Waker};

use aiki_core::hash::input_hash;
use aiki_core::replay::{Close, MachineConfig, Pass, PassStep};
use aiki_core::{
    Failure, Payload, RegisteredWorkflow, Report, ReportReceipt, Run, Task, TaskContext, Transition, Workflow,
};
use futures::future::{join_all, poll_fn};

use crate::support::{ManualClock, Server};

/// A run that has completed `count` tasks, with the inputs 0, 1, 2 and so on.
fn with_history(workflow: &RegisteredWorkflow, count: u32) -> Server {
    let mut server = Server::new(workflow.key(), count, Arc::new(ManualClock::new()));
    let epoch = server.claim().unwrap().epoch;
    let run = server.head.id;
    let steps = (0..count).flat_map(|n| {
        let input = Payload::encode(&n).unwrap();
        let input_hash = input_hash(input.as_ref().map(Payload::as_str)).unwrap();
        let id = run.task(n);
        [
            Transition::TaskOpened { id, name: "step".into(), input_hash, input: input.clone(), retry: None },
            Transition::TaskCompleted { id, attempts: 1, output: input },
        ]
    });
    server.report(&Report { run, epoch, seq: 1, signals: 0, transitions: steps.collect() }).unwrap();
    server.release();
    server
}

/// Replays a run to its end; answers how often the pass and the steps' futures were polled.
fn replay(count: u32, at_once: bool) -> (u64, u64) {
    let polls = Arc::new(AtomicU64::new(0));
    let counted = polls.clone();
    let version = Workflow::new("program").version("1", move |run: Run, count: u32| {
        let polls = counted.clone();
        async move {
            let step =
                Task::new("step", |_: TaskContext, _: u32| async { Err::<u32, _>(Failure::new("Ran", "again")) });
            let call = |n| {
                let (mut call, polls) = (step.start(&run, n), polls.clone());
                poll_fn(move |cx| {
                    polls.fetch_add(1, Ordering::SeqCst);
                    std::pin::Pin::new(&mut call).poll(cx)
                })
            };
            if at_once {
                for result in join_all((0..count).map(call)).await {
                    result?;
                }
            } else {
                for n in 0..count {
                    call(n).await?;
                }
            }
            Ok::<_, Failure>(0)
        }
    });
    let workflow = version.register();
    let mut server = with_history(&workflow, count);
    let clock = server.clock.clone();
    let mut pass = Pass::new(server.claim().unwrap(), &workflow, clock, MachineConfig::default());
    let mut cx = Context::from_waker(Waker::noop());
    let mut passes = 0;
    loop {
        passes += 1;
        match pass.poll(&mut cx) {
            PassStep::Again => {}
            PassStep::Report(report) => {
                assert!(matches!(report.transitions[..], [Transition::Completed { .. }]), "{report:?}");
                server.report(&report).unwrap();
                pass.accepted(&ReportReceipt::default());
            }
            PassStep::Close(close) => {
                assert_eq!(close, Close::Completed);
                return (passes, polls.load(Ordering::SeqCst));
            }
            PassStep::Wait { .. } => panic!("everything is on record"),
        }
    }
}

#[test]
fn ten_thousand_steps_in_a_row_take_two_polls_each() {
    let (passes, polls) = replay(10_000, false);
    assert!(passes <= 10_000 + 5, "{passes}");
    assert_eq!(polls, 20_000);
}

#[test]
fn ten_thousand_steps_side_by_side_take_two_polls_each() {
    let (passes, polls) = replay(10_000, true);
    assert!(passes <= 10_000 + 5, "{passes}");
    assert_eq!(polls, 20_000);
}
