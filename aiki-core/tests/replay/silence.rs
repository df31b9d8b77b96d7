//! A poll that repeats what an earlier pass reported is silent; one that brings something new is not.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::task::{Context, Waker};
use std::time::Duration;

use aiki_core::replay::{Pass, PassStep};
use aiki_core::{Clock, Failure, ReportReceipt, RetryStrategy, Run, Task, TaskContext, Workflow};
use proptest::prelude::*;

use crate::support::program::any_program;
use crate::support::{Call, Chance, Driver, ManualClock, Node, Pace, Program, Server, Sim, cases};

fn call(value: u32) -> Node {
    Node::Call(Call::new("a", value))
}

proptest! {
    #![proptest_config(cases(200))]

    /// Every line that a handler notes is checked against what was reported when its pass began; see
    /// `World::note`. Here the crashes are dense.
    #[test]
    fn a_line_is_silent_exactly_when_an_earlier_pass_reported_its_poll(
        program in any_program(),
        seed: u64,
        crashes in prop::collection::btree_set(0..60usize, 0..20),
    ) {
        // A run that is tried again as a whole takes its notes anew.
        let program = Program { failures: 0, retried: false, ..program };
        let mut sim = Sim::new(&program, Driver::Chance(Chance::new(seed), Pace::Any));
        sim.crash_at = crashes;
        sim.run();
        let seen = sim.world.seen();
        let aloud: BTreeSet<_> = seen.aloud.iter().collect();
        prop_assert!(seen.lines.iter().all(|line| aloud.contains(line)), "every line was aloud once");
    }
}

#[test]
fn a_run_without_crashes_notes_everything_aloud_once() {
    let program = Program::of(Node::Seq(vec![call(1), Node::Sleep(61_000), call(2), Node::Sleep(20_023), call(3)]));
    let mut sim = Sim::new(&program, Driver::Steady);
    sim.run();
    assert_eq!(sim.passes, 3);
    let seen = sim.world.seen();
    assert_eq!(seen.aloud, seen.lines, "across three passes nothing was told twice or left out");
}

#[test]
fn a_sleep_that_the_server_ended_is_news() {
    let program = Program::of(Node::Seq(vec![call(1), Node::Sleep(61_000), Node::Sleep(20_023)]));
    let mut sim = Sim::new(&program, Driver::Steady);
    sim.run_until(|sim| sim.passes == 1);
    let before = sim.world.seen().aloud.clone();
    assert!(!before.iter().any(|line| line.starts_with("sleep")), "{before:?}");
    sim.run_until(|sim| sim.passes == 2);
    let seen = sim.world.seen();
    assert!(seen.aloud[before.len()..].iter().all(|line| line.starts_with("sleep")), "{:?}", seen.aloud);
    assert_eq!(seen.aloud.len(), before.len() + 1);
}

#[test]
fn a_crash_before_the_first_report_leaves_nothing_silent() {
    let program = Program::of(Node::Seq(vec![call(1)]));
    let mut sim = Sim::new(&program, Driver::Steady);
    // Polled, and the report is made, but it does not arrive.
    sim.crash_at = [1].into();
    sim.run();
    let aloud = sim.world.seen().aloud.clone();
    assert_eq!(aloud.iter().filter(|line| *line == "begin").count(), 2, "{aloud:?}");
}

/// A second attempt of a run does something new and then asks for what the first had recorded: that is
/// old, but what the handler does about it is not.
#[test]
fn what_follows_something_new_is_new_though_it_asks_for_something_old() {
    let lines: Arc<Mutex<Vec<String>>> = Arc::default();
    let noted = lines.clone();
    let version = Workflow::new("program").version("1", move |run: Run, _: u32| {
        let noted = noted.clone();
        async move {
            let task = Task::new("t", |_: TaskContext, input: u32| async move { Ok::<_, Failure>(input) });
            if run.attempt() > 1 {
                task.start(&run, 2).await?;
                noted.lock().unwrap().push("new".to_owned());
            }
            task.start(&run, 1).await?;
            noted.lock().unwrap().push("old".to_owned());
            Err::<u32, _>(Failure::new("E", "again"))
        }
    });
    let workflow = version.retry(RetryStrategy::fixed(2, Duration::from_secs(1))).register();
    let clock = Arc::new(ManualClock::new());
    let mut server = Server::new(workflow.key(), 1, clock.clone());
    let mut aloud = Vec::new();
    while !server.is_over() {
        clock.advance_to(server.head.due_at().unwrap_or(clock.now()));
        server.due();
        let Some(claim) = server.claim() else { continue };
        let mut pass = Pass::new(claim, &workflow, clock.clone(), Default::default());
        let mut cx = Context::from_waker(Waker::noop());
        loop {
            let silent = pass.is_silent();
            let step = pass.poll(&mut cx);
            let new: Vec<_> = lines.lock().unwrap().drain(..).collect();
            aloud.extend(new.into_iter().filter(|_| !silent));
            match step {
                PassStep::Report(report) => {
                    server.report(&report).unwrap();
                    pass.accepted(&ReportReceipt::default());
                }
                PassStep::Close(_) => break,
                PassStep::Again | PassStep::Wait { .. } => {}
            }
        }
    }
    assert_eq!(aloud, ["old", "new", "old"]);
}
