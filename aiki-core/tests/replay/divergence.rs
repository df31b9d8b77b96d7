//! Law 5: code that no longer follows its record fails the run once, and says why. Code that was
//! changed without harm is left alone.

use std::collections::HashMap;

use aiki_core::hash::input_hash;
use aiki_core::replay::Close;
use aiki_core::run::{ChildRecord, FailureCause, RunState, TaskState};
use aiki_core::{ErrorObject, Failure, RegisteredWorkflow, Run, Task, TaskContext, Transition, Workflow};
use futures::future::{BoxFuture, join_all};
use proptest::prelude::*;

use crate::support::{Driver, Sim, World, cases};

/// A task by its name and its input.
type Address = (usize, u32);

/// The last one is a child.
const NAMES: [&str; 5] = ["charge", "pack", "ship", "thank", "part"];
const CHILD: usize = 4;

fn step(world: &World, name: &str) -> Task<u32, u32> {
    let world = world.clone();
    Task::new(name, move |cx: TaskContext, input: u32| {
        let work = world.begin(&cx, 1);
        async move {
            work.await;
            Ok::<_, Failure>(input + 1)
        }
    })
}

fn call<'a>(world: &World, run: &'a Run, (name, input): Address) -> BoxFuture<'a, Result<u32, Failure>> {
    if name != CHILD {
        let call = step(world, NAMES[name]).start(run, input);
        return Box::pin(async move { Ok(call.await?) });
    }
    let part = Workflow::new(NAMES[CHILD]).version("1", |_: Run, input: u32| async move { Ok::<_, Failure>(input) });
    let child = part.start_child(run, input);
    // However it ends.
    Box::pin(async move { Ok(child.wait().await.unwrap_or(0)) })
}

/// Code that calls these tasks and children, one after the other or all at once.
fn code(world: &World, calls: &[Address], at_once: bool) -> RegisteredWorkflow {
    let (world, calls) = (world.clone(), calls.to_vec());
    let version = Workflow::new("program").version("1", move |run: Run, _: u32| {
        let (world, calls) = (world.clone(), calls.clone());
        async move {
            if at_once {
                let all = calls.iter().map(|address| call(&world, &run, *address));
                for result in join_all(all).await {
                    result?;
                }
            } else {
                for address in calls {
                    call(&world, &run, address).await?;
                }
            }
            Ok::<_, Failure>(0)
        }
    });
    version.register()
}

/// Runs `old` until `crash`, then goes on with `new`. Answers the addresses on record at the crash,
/// and the run. `None` when the old code had come to its end.
fn change(old: (&[Address], bool), new: (&[Address], bool), crash: usize) -> Option<(Vec<Address>, Sim)> {
    let world = World::default();
    let mut whole = Sim::with_workflow(code(&world, old.0, old.1), world.clone(), Driver::Steady);
    let points = whole.run().points;
    let mut sim = Sim::with_workflow(code(&world, old.0, old.1), world.clone(), Driver::Steady);
    sim.crash_at = [crash % points].into();
    sim.run_until(|sim| sim.crashes > 0);
    if sim.server.is_over() {
        return None;
    }
    let record = sim.server.record();
    let on_record = record.tasks.iter().map(|task| {
        let name = NAMES.iter().position(|name| *name == task.name).unwrap();
        (name, task.input.as_ref().unwrap().as_str().parse().unwrap())
    });
    let child = |child: &ChildRecord| {
        let hash = |input: &u32| input_hash(Some(&input.to_string())).unwrap();
        (CHILD, (0..2).find(|input| hash(input) == child.input_hash).unwrap())
    };
    let on_record = on_record.chain(record.children.iter().map(child)).collect();
    sim.written.clear();
    sim.workflow = code(&world, new.0, new.1);
    sim.poke = true;
    sim.run();
    Some((on_record, sim))
}

/// What should become of `new` when these tasks are on record: a call that is not there while others
/// are left over is a divergence. Calls that are made at once are judged together.
fn diverges(on_record: &[Address], new: &[Address], at_once: bool) -> bool {
    let mut left: HashMap<Address, usize> = HashMap::new();
    on_record.iter().for_each(|address| *left.entry(*address).or_default() += 1);
    let mut remaining = on_record.len();
    let mut missing = false;
    for address in new {
        match left.get_mut(address) {
            Some(count) if *count > 0 => {
                *count -= 1;
                remaining -= 1;
            }
            _ if at_once => missing = true,
            _ if remaining > 0 => return true,
            _ => {}
        }
    }
    missing && remaining > 0
}

fn divergence(sim: &Sim) -> Option<ErrorObject> {
    match &sim.server.head.state {
        RunState::Failed { cause: FailureCause::Own(error) } => Some(error.clone()),
        RunState::Completed { .. } => None,
        other => panic!("{other:?}"),
    }
}

fn any_calls() -> impl Strategy<Value = Vec<Address>> {
    prop::collection::vec((0..NAMES.len(), 0..2u32), 1..6)
}

#[derive(Clone, Debug)]
enum Edit {
    Insert(usize, Address),
    Remove(usize),
    Rename(usize, usize),
    Swap(usize, usize),
    Append(Address),
}

fn any_edit() -> impl Strategy<Value = Edit> {
    let address = (0..NAMES.len(), 0..2u32);
    prop_oneof![
        (0..6usize, address.clone()).prop_map(|(at, address)| Edit::Insert(at, address)),
        (0..6usize).prop_map(Edit::Remove),
        (0..6usize, 0..NAMES.len()).prop_map(|(at, name)| Edit::Rename(at, name)),
        (0..6usize, 0..6usize).prop_map(|(a, b)| Edit::Swap(a, b)),
        address.prop_map(Edit::Append),
    ]
}

fn edited(calls: &[Address], edits: &[Edit]) -> Vec<Address> {
    let mut calls = calls.to_vec();
    for edit in edits {
        let len = calls.len();
        match edit {
            Edit::Insert(at, address) => calls.insert(at % (len + 1), *address),
            Edit::Remove(at) if len > 1 => {
                calls.remove(at % len);
            }
            Edit::Rename(at, name) => calls[at % len].0 = *name,
            Edit::Swap(a, b) => calls.swap(a % len, b % len),
            Edit::Append(address) => calls.push(*address),
            Edit::Remove(_) => {}
        }
    }
    calls
}

proptest! {
    #![proptest_config(cases(400))]

    #[test]
    fn law_5_changed_code_diverges_exactly_when_it_asks_past_its_record(
        old in any_calls(),
        edits in prop::collection::vec(any_edit(), 0..3),
        at_once in prop::bool::ANY,
        crash in 0..40usize,
    ) {
        let new = edited(&old, &edits);
        let Some((on_record, sim)) = change((&old, at_once), (&new, at_once), crash) else { return Ok(()) };
        let error = divergence(&sim);
        prop_assert_eq!(error.is_some(), diverges(&on_record, &new, at_once), "{:?} on record {:?}", error, on_record);
        if let Some(error) = error {
            prop_assert_eq!(&error.name, "NonDeterminismError");
            let failures = sim.written.iter().filter(|transition| matches!(transition, Transition::Failed { .. }));
            prop_assert_eq!(failures.count(), 1);
            prop_assert!(matches!(sim.written.last(), Some(Transition::Failed { .. })), "nothing follows");
            // The call that is not on record is not opened.
            let opened = sim.server.record().tasks.len();
            let before = on_record.len();
            prop_assert!(opened <= before + new.len());
            prop_assert!(error.message.contains("divergence.rs:"), "{}", error.message);
        }
    }

    #[test]
    fn law_5_independent_tasks_may_be_reordered_and_added(
        old in any_calls(),
        added in prop::collection::vec((0..NAMES.len(), 0..2u32), 0..3),
        order in any::<prop::sample::Index>(),
        crash in 0..40usize,
    ) {
        let mut new = old.clone();
        new.rotate_left(order.index(old.len()));
        new.extend(added);
        let Some((_, sim)) = change((&old, true), (&new, true), crash) else { return Ok(()) };
        prop_assert_eq!(divergence(&sim), None);
        let record = sim.server.record();
        let done = record.tasks.iter().filter(|task| matches!(task.state, TaskState::Completed { .. })).count();
        let done = done + record.children.iter().filter(|child| child.ended.is_some()).count();
        prop_assert_eq!(done, new.len(), "what was on record was used");
    }
}

/// Goes on with code that calls something else, once `charge(1)` and `pack(2)` are on record.
fn explained(new: &[Address]) -> String {
    let world = World::default();
    let old = [(0, 1), (1, 2), (2, 3)];
    let crashed = |point| {
        let mut sim = Sim::with_workflow(code(&world, &old, false), world.clone(), Driver::Steady);
        sim.crash_at = [point].into();
        sim.run_until(|sim| sim.crashes > 0);
        sim
    };
    let mut sim = (0..100).map(crashed).find(|sim| sim.server.record().tasks.len() == 2).unwrap();
    sim.crash_at.clear();
    sim.workflow = code(&world, new, false);
    let close = sim.pass();
    assert_eq!(close, Some(Close::Failed));
    divergence(&sim).unwrap().message
}

#[test]
fn a_renamed_task_is_explained_by_what_it_was_called() {
    let text = explained(&[(0, 1), (3, 2)]);
    assert!(text.contains("calls task `thank`, which is not recorded"), "{text}");
    assert!(text.contains("Nearest recorded task: `pack` (same input, another name)"), "{text}");
    assert!(text.contains("Not asked for: task `pack` (running)"), "{text}");
    assert!(text.contains(&format!("{}:", file!())), "the place in the code is named: {text}");
    assert!(text.contains("Give changed code a new version"), "{text}");
}

#[test]
fn another_input_is_explained_with_both_inputs() {
    let text = explained(&[(0, 9), (1, 2)]);
    assert!(text.contains("Nearest recorded task: `charge` (same name, another input)"), "{text}");
    assert!(text.contains("Recorded input: 1; input now: 9."), "{text}");
    assert!(text.contains("2 recorded calls were not asked for"), "{text}");
}

#[test]
fn a_new_call_that_is_dropped_at_once_is_no_divergence() {
    let world = World::default();
    let mut sim = Sim::with_workflow(code(&world, &[(0, 1), (1, 2)], false), world.clone(), Driver::Steady);
    sim.crash_at = [9].into();
    sim.run_until(|sim| sim.crashes > 0);
    assert_eq!(sim.server.record().tasks.len(), 2);
    let version = Workflow::new("program").version("1", move |run: Run, _: u32| {
        let world = world.clone();
        async move {
            drop(step(&world, "thank").start(&run, 9));
            step(&world, "charge").start(&run, 1).await?;
            step(&world, "pack").start(&run, 2).await?;
            Ok::<_, Failure>(0)
        }
    });
    sim.workflow = version.register();
    sim.run();
    assert_eq!(divergence(&sim), None);
    assert_eq!(sim.server.record().tasks.len(), 2, "what nobody waited for was not opened");
}
