//! The seven laws, one test each or a few. The fifth, which is about changed code, stands in
//! `divergence.rs`.

use std::collections::BTreeSet;

use aiki_core::run::{RunRecord, RunState, TaskState, WaitState};
use aiki_core::{TaskId, Transition};
use proptest::prelude::*;

use crate::support::host::{Arrival, Loss, Outcome, briefs, outcome};
use crate::support::program::any_program;
use crate::support::{Chance, Driver, Pace, Program, Server, Sim, World, cases};

fn by_chance(seed: u64) -> Driver {
    Driver::Chance(Chance::new(seed), Pace::Any)
}

fn any_crashes() -> impl Strategy<Value = BTreeSet<usize>> {
    prop::collection::btree_set(0..120usize, 0..6)
}

proptest! {
    #![proptest_config(cases(200))]

    #[test]
    fn law_1_same_record_and_same_inputs_give_the_same_actions(
        program in any_program(),
        seed: u64,
        crashes in any_crashes(),
    ) {
        let run = || {
            let mut sim = Sim::new(&program, by_chance(seed));
            sim.crash_at = crashes.clone();
            sim.run();
            (sim.transcript.join("\n"), sim.server.page)
        };
        let (first, second) = (run(), run());
        prop_assert_eq!(first.0, second.0);
        prop_assert_eq!(first.1, second.1);
    }
}

/// Runs a program with one-tick bodies, so that the order in which they end can be repeated.
fn gated(program: &Program, seed: u64, pace: Pace) -> Sim {
    let mut sim = Sim::new(program, Driver::Chance(Chance::new(seed), pace));
    sim.openly = true;
    // The worker hears of a refusal only when the run would have waited for it.
    sim.server.refuses = |_| false;
    sim.world.seen().gate_all = true;
    sim.run();
    sim
}

/// Drives a run that was cut to its end.
fn go_on(program: &Program, server: Server, driver: Driver) -> Sim {
    let world = World::default();
    let follows = matches!(driver, Driver::Follow(..));
    world.seen().gate_all = follows;
    world.seen().forget_lines = true;
    let workflow = program.workflow(&world);
    let mut sim = Sim::on(server, workflow, world, driver);
    sim.openly = follows;
    sim.run();
    sim
}

/// Whether a worker knew a child's id already or left it to the server makes no difference.
fn known(transitions: &[Transition]) -> Vec<Transition> {
    let mut transitions = transitions.to_vec();
    for transition in &mut transitions {
        if let Transition::WaitOpened { run, .. } | Transition::ChildCancelled { run, .. } = transition {
            *run = None;
        }
    }
    transitions
}

fn settled(record: &RunRecord) -> Vec<(TaskId, TaskState, Option<u64>)> {
    let is_settled = |state: &TaskState| matches!(state, TaskState::Completed { .. });
    record
        .tasks
        .iter()
        .filter(|task| is_settled(&task.state))
        .map(|task| (task.id, task.state.clone(), task.settled))
        .collect()
}

proptest! {
    #![proptest_config(cases(60))]

    #[test]
    fn law_2_a_run_that_is_cut_off_goes_on_with_what_was_cut_off(
        program in any_program(),
        seed: u64,
        pace in prop_oneof![Just(Pace::Prompt), Just(Pace::Lazy)],
    ) {
        let program = program.without_hidden_waits().without_chunks().without_limits();
        let whole = gated(&program, seed, pace);
        let record = whole.server.record();
        let mut already = 0;
        for (at, written) in whole.reports.iter().enumerate() {
            for kept in 0..=written.report.transitions.len() {
                let outside = whole.arrivals[written.arrived..].iter().cloned();
                let outside = outside.map(|next| Arrival { written: next.written.saturating_sub(already + kept), ..next });
                let follow = Driver::Follow(whole.expected[already + kept..].to_vec(), outside.collect());
                let again = go_on(&program, whole.cut(at, kept), follow);
                let expected = &whole.written[already + kept..];
                prop_assert!(
                    known(expected) == known(&again.written),
                    "cut in report {at} after {kept}\n expected {}\n found    {}",
                    briefs(expected),
                    briefs(&again.written)
                );
                let replayed = again.server.record();
                prop_assert_eq!(&record.state, &replayed.state);
                prop_assert_eq!(&record.tasks, &replayed.tasks);
                prop_assert_eq!(&record.sleeps, &replayed.sleeps);
                prop_assert_eq!(&record.times, &replayed.times);
                prop_assert_eq!(&record.events, &replayed.events);
                prop_assert_eq!(&record.waits, &replayed.waits);
                prop_assert_eq!(&record.children, &replayed.children);
            }
            already += written.report.transitions.len();
        }
    }

    /// Whatever else happens after the cut, and however wildly the run went before: what was recorded
    /// stands, and code that did not change never diverges.
    #[test]
    fn law_2_what_was_recorded_before_a_cut_stands(program in any_program(), seed: u64) {
        let mut whole = Sim::new(&program, by_chance(seed));
        whole.run();
        for (at, written) in whole.reports.iter().enumerate() {
            for kept in 0..=written.report.transitions.len() {
                let server = whole.cut(at, kept);
                let before = server.record();
                let again = go_on(&program, server, Driver::Steady).server;
                let after = again.record();
                let (mut kept_tasks, all) = (settled(&before), settled(&after));
                kept_tasks.retain(|(task, ..)| task.ordinal() >= again.head.base.tasks);
                prop_assert!(kept_tasks.iter().all(|task| all.contains(task)), "{:?}\n{:?}", kept_tasks, all);
                let diverged = |record: &RunRecord| match &record.state {
                    RunState::Failed { cause } => cause.error().is_some_and(|error| error.name == "NonDeterminismError"),
                    _ => false,
                };
                prop_assert!(!diverged(&after), "{:?}", after.state);
            }
        }
        let replayed = go_on(&program, whole.before_its_end(), Driver::Steady);
        prop_assert_eq!(replayed.written.len(), 1, "all but the end was on record");
        prop_assert_eq!(replayed.outcome(), whole.outcome());
    }
}

proptest! {
    #![proptest_config(cases(200))]

    /// The bodies themselves check it, each when it starts, in this and in every other test here.
    #[test]
    fn law_3_no_body_runs_before_the_report_that_opened_it_was_accepted(
        program in any_program(),
        seed: u64,
        crashes in any_crashes(),
        release: bool,
    ) {
        let mut sim = Sim::new(&program, by_chance(seed));
        (sim.crash_at, sim.release_on_crash) = (crashes, release);
        sim.run();
        let executions = &sim.world.seen().executions;
        prop_assert!(executions.iter().all(|(task, _)| task.ordinal() < sim.server.head.tasks_opened));
    }

    #[test]
    fn law_4_nothing_comes_out_of_a_pass_that_is_over(program in any_program(), seed: u64, crashes in any_crashes()) {
        let mut sim = Sim::new(&program, by_chance(seed));
        (sim.crash_at, sim.poke) = (crashes, true);
        sim.run();
        prop_assert!(sim.passes > 0);
    }

    #[test]
    fn law_6_a_pass_whose_report_is_refused_ends_in_silence(
        program in any_program(),
        seed: u64,
        at in 0..12usize,
        loss in prop_oneof![Just(Loss::Cancelled), Just(Loss::Lapsed)],
    ) {
        let mut sim = Sim::new(&program, by_chance(seed));
        sim.lose_at = Some((at, loss));
        sim.run();
        // A run of fewer reports was never refused one.
        let refused = sim.lose_at.is_none();
        prop_assert_eq!(refused && loss == Loss::Cancelled, matches!(sim.server.head.state, RunState::Cancelled { .. }));
        prop_assert!(refused || sim.reports.len() <= at);
    }
}

/// What must come out the same however often the workers crash.
fn comparable(program: &Program, mut outcome: Outcome) -> Outcome {
    for (_, state, _) in &mut outcome.waits {
        // Which other events had come before.
        if let Some(WaitState::Completed { event }) = state {
            *event = event.map(|_| 0);
        }
    }
    if program.root.is_concurrent() {
        // What runs side by side may be opened and settled in any order, and a sleep that nobody waits
        // for any more may or may not have ended.
        outcome.tasks.iter_mut().for_each(|(.., settled)| *settled = None);
        outcome.tasks.sort_by_key(|(name, hash, state, _)| (name.clone(), hash.clone(), format!("{state:?}")));
        outcome.sleeps.clear();
        outcome.waits.clear();
        outcome.children.clear();
    }
    outcome
}

/// A run that has ended can be replayed to the same end from its record alone, and everything that it
/// recorded ran and was recorded once.
fn check_crashed(program: &Program, crashed: &Sim, whole: &Outcome) -> Result<(), TestCaseError> {
    crashed.check_ledger();
    if !program.root.is_order_sensitive() {
        let (expected, found) = (comparable(program, whole.clone()), comparable(program, crashed.outcome()));
        prop_assert_eq!(expected, found, "{}", crashed.server.page);
    }
    let replayed = go_on(program, crashed.before_its_end(), Driver::Steady);
    prop_assert!(replayed.written.len() == 1, "{}\n{}", briefs(&replayed.written), replayed.server.page);
    prop_assert_eq!(outcome(&replayed.server.record()), crashed.outcome());
    Ok(())
}

proptest! {
    #![proptest_config(cases(30))]

    /// One crash at every point of a run in turn: before and after each poll, before a report
    /// arrives, after it arrived but before the worker knows, after the answer.
    #[test]
    fn law_7_a_crash_at_any_point_changes_nothing(program in any_program(), seed: u64, release: bool) {
        let mut whole = Sim::new(&program, by_chance(seed));
        whole.run().check_ledger();
        for point in 0..whole.points {
            let mut crashed = Sim::new(&program, by_chance(seed));
            (crashed.crash_at, crashed.release_on_crash) = (BTreeSet::from([point]), release);
            crashed.run();
            prop_assert_eq!(crashed.crashes, 1);
            check_crashed(&program, &crashed, &whole.outcome())?;
        }
    }
}

proptest! {
    #![proptest_config(cases(400))]

    #[test]
    fn law_7_any_number_of_crashes_changes_nothing(
        program in any_program(),
        seed: u64,
        other_seed: u64,
        crashes in prop::collection::btree_set(0..150usize, 1..12),
        release: bool,
    ) {
        let mut whole = Sim::new(&program, by_chance(seed));
        whole.run().check_ledger();
        let mut crashed = Sim::new(&program, by_chance(other_seed));
        (crashed.crash_at, crashed.release_on_crash) = (crashes, release);
        crashed.run();
        check_crashed(&program, &crashed, &whole.outcome())?;
    }
}
