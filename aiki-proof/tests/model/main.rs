//! All interleavings of claim, lease, fence and report: two workers, one run of two tasks, and a budget of
//! faults. The model drives the real plans of `aiki-core`; what is modelled is the network, the queue and the
//! two workers.
//!
//! `AIKI_MODEL_FAULTS=3 cargo test -p aiki-proof --release --test model` explores a larger space.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a panic is how a test fails")]

mod house;

use std::collections::{HashMap, VecDeque};

use house::{House, Plans, Step};
use stateright::{Checker, Model, Property};

/// The house with its budget.
#[derive(Clone, Copy)]
struct Budget {
    faults: u8,
    plans: Plans,
}

impl Model for Budget {
    type State = House;
    type Action = Step;

    fn init_states(&self) -> Vec<House> {
        vec![House::new(self.faults)]
    }

    fn actions(&self, house: &House, steps: &mut Vec<Step>) {
        house.steps(steps);
    }

    fn next_state(&self, house: &House, step: Step) -> Option<House> {
        let mut next = house.clone();
        next.take(step, self.plans);
        (next != *house).then_some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("each result is recorded once", |_, house: &House| house.results.iter().all(|n| *n <= 1)),
            Property::always("nothing is written under an old epoch", |_, house: &House| !house.old_epoch_wrote),
            Property::always("no run is lost", |_, house: &House| house.is_found_again()),
            Property::sometimes("the run completes", |_, house: &House| house.is_over()),
            Property::sometimes("a task is run again", |_, house: &House| house.ran_again),
            Property::sometimes("a report is refused", |_, house: &House| house.refused),
            Property::sometimes("a report is answered again", |_, house: &House| house.answered_again),
        ]
    }
}

fn faults() -> u8 {
    std::env::var("AIKI_MODEL_FAULTS").ok().and_then(|faults| faults.parse().ok()).unwrap_or(2)
}

#[test]
fn the_plans_are_safe_in_every_interleaving() {
    let checker = Budget { faults: faults(), plans: Plans::Real }.checker().spawn_bfs().join();
    println!("{} states, depth {}", checker.unique_state_count(), checker.max_depth());
    checker.assert_properties();
    assert!(checker.unique_state_count() > 10_000, "the space is suspiciously small");
}

#[test]
fn from_every_state_the_run_can_still_complete() {
    let model = Budget { faults: faults().min(2), plans: Plans::Real };
    let mut numbers: HashMap<House, usize> = HashMap::new();
    let mut before: Vec<Vec<usize>> = Vec::new();
    let mut done: VecDeque<usize> = VecDeque::new();
    let mut open: VecDeque<House> = model.init_states().into();
    numbers.insert(open[0].clone(), 0);
    before.push(Vec::new());
    while let Some(house) = open.pop_front() {
        let number = numbers[&house];
        // A run that took five workers down waits for an operator, visibly.
        if house.is_over() || house.is_stalled() {
            done.push_back(number);
        }
        for next in model.next_states(&house) {
            let fresh = numbers.len();
            let known = *numbers.entry(next.clone()).or_insert(fresh);
            if known == fresh {
                before.push(Vec::new());
                open.push_back(next);
            }
            before[known].push(number);
        }
    }
    let mut reached = vec![false; numbers.len()];
    while let Some(number) = done.pop_front() {
        if !std::mem::replace(&mut reached[number], true) {
            done.extend(&before[number]);
        }
    }
    let stuck = numbers.iter().find(|(_, number)| !reached[**number]);
    assert!(stuck.is_none(), "one of {} states leads nowhere: {:#?}", numbers.len(), stuck.unwrap().0);
}

#[test]
fn without_the_fence_there_is_a_counterexample() {
    let checker = Budget { faults: 2, plans: Plans::NoFence }.checker().spawn_bfs().join();
    let found = checker.discovery("nothing is written under an old epoch");
    assert!(found.is_some(), "a plan without a fence passed");
}

#[test]
fn without_the_number_of_a_report_there_is_a_counterexample() {
    let checker = Budget { faults: 2, plans: Plans::BlindResults }.checker().spawn_bfs().join();
    let found = checker.discovery("each result is recorded once");
    assert!(found.is_some(), "a plan that records whatever it is told passed");
}

#[test]
fn without_the_end_of_leases_there_is_a_counterexample() {
    let checker = Budget { faults: 2, plans: Plans::LostOnLapse }.checker().spawn_bfs().join();
    let found = checker.discovery("no run is lost");
    assert!(found.is_some(), "a plan that forgets whose lease lapsed passed");
}

#[test]
fn the_fence_alone_is_enough_where_leases_are_ignored() {
    let checker = Budget { faults: 2, plans: Plans::NoLeases };
    // Workers that take the run from each other can go on for ever.
    let checker = checker.checker().target_max_depth(13).spawn_bfs().join();
    assert!(checker.discovery("each result is recorded once").is_none());
    assert!(checker.discovery("nothing is written under an old epoch").is_none());
}
