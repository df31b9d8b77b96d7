//! The laws over what comes from outside: events and the ends of children reach a run at any moment,
//! and workers crash at any moment.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::task::{Context, Waker};
use std::time::Duration;

use aiki_core::replay::{Close, MachineConfig, Pass, PassStep};
use aiki_core::run::plan::LeaseDecision;
use aiki_core::run::{RunRecord, WaitState};
use aiki_core::{
    ChildError, Either, Event, Failure, Payload, RegisteredWorkflow, Run, RunState, Task, TaskContext, Workflow,
    WorkflowVersion, race,
};
use proptest::prelude::*;

use crate::support::{Chance, ManualClock, Server, cases};

const APPLE: Event<u32> = Event::new("apple");
const BERRY: Event<u32> = Event::new("berry");
const EVENTS: [Event<u32>; 2] = [APPLE, BERRY];
const STEP_LIMIT: usize = 20_000;

/// One thing that a handler does; the number says which event.
#[derive(Clone, Debug)]
enum Act {
    Take(usize),
    TakeWithin(usize, u64),
    RaceSleep(usize, u64),
    RaceTask(usize),
    /// Two waits side by side.
    Two(usize),
    /// A wait that is dropped while another one goes on.
    Drop(usize),
    /// The same, looked at once before: its event may be taken already, and goes back.
    Glance(usize),
    Child,
    ChildWithin(u64),
    /// Two equal children, waited for in the other order.
    Twins,
    Task,
}

fn any_act() -> impl Strategy<Value = Act> {
    let (event, seconds) = (0..2usize, 1..4u64);
    prop_oneof![
        event.clone().prop_map(Act::Take),
        (event.clone(), seconds.clone()).prop_map(|(event, seconds)| Act::TakeWithin(event, seconds)),
        (event.clone(), seconds.clone()).prop_map(|(event, seconds)| Act::RaceSleep(event, seconds)),
        event.clone().prop_map(Act::RaceTask),
        event.clone().prop_map(Act::Two),
        event.clone().prop_map(Act::Drop),
        event.prop_map(Act::Glance),
        Just(Act::Child),
        seconds.prop_map(Act::ChildWithin),
        Just(Act::Twins),
        Just(Act::Task),
    ]
}

fn child() -> WorkflowVersion<u32, u32, Failure> {
    Workflow::new("child").version("1", |_: Run, n: u32| async move { Ok::<_, Failure>(n) })
}

fn told(end: Result<u32, ChildError<Failure>>) -> String {
    match end {
        Ok(n) => format!("child {n}"),
        Err(ChildError::Failed { .. }) => "child failed".into(),
        Err(ChildError::Cancelled { .. }) => "child cancelled".into(),
        Err(ChildError::WaitTimedOut { .. }) => "child late".into(),
        Err(other) => format!("{other:?}"),
    }
}

/// A handler that does these things and answers what came of each.
fn program(acts: Vec<Act>) -> RegisteredWorkflow {
    let task = Task::new("task", |_: TaskContext, n: u32| async move { Ok::<_, Failure>(n) });
    let handler = move |run: Run, _: u32| {
        let (acts, task) = (acts.clone(), task.clone());
        async move {
            let mut all = Vec::new();
            for (at, act) in acts.into_iter().enumerate() {
                let n = at as u32;
                let (name, taken) = match act {
                    Act::Take(event) => (event, vec![run.event(&EVENTS[event]).await]),
                    Act::TakeWithin(event, seconds) => {
                        let taken = run.event_within(&EVENTS[event], Duration::from_secs(seconds)).await;
                        (event, taken.into_iter().collect())
                    }
                    Act::RaceSleep(event, seconds) => {
                        let nap = run.sleep("nap", Duration::from_secs(seconds));
                        match race(run.event(&EVENTS[event]), nap).await {
                            Either::Left(taken) => (event, vec![taken]),
                            Either::Right(_) => (event, vec![]),
                        }
                    }
                    Act::RaceTask(event) => match race(run.event(&EVENTS[event]), task.start(&run, n)).await {
                        Either::Left(taken) => (event, vec![taken]),
                        Either::Right(_) => (event, vec![]),
                    },
                    Act::Two(event) => {
                        let (one, two) = futures::join!(run.event(&EVENTS[event]), run.event(&EVENTS[event]));
                        (event, vec![one, two])
                    }
                    Act::Drop(event) => {
                        let never = run.event(&EVENTS[event]);
                        let taken = run.event(&EVENTS[event]).await;
                        drop(never);
                        (event, vec![taken])
                    }
                    Act::Glance(event) => {
                        let mut never = run.event(&EVENTS[event]);
                        let taken = run.event(&EVENTS[event]).await;
                        let glance = futures::poll!(&mut never);
                        assert!(glance.is_pending(), "one outcome at a time");
                        drop(never);
                        (event, vec![taken])
                    }
                    Act::Child => {
                        all.push(told(child().start_child(&run, n).wait().await));
                        continue;
                    }
                    Act::ChildWithin(seconds) => {
                        let child = child().start_child(&run, n);
                        all.push(told(child.wait_within(Duration::from_secs(seconds)).await));
                        continue;
                    }
                    Act::Twins => {
                        let (one, two) = (child().start_child(&run, 7), child().start_child(&run, 7));
                        let second = told(two.wait().await);
                        all.push(format!("{second}, {}", told(one.wait().await)));
                        continue;
                    }
                    Act::Task => {
                        all.push(format!("task {}", task.start(&run, n).await?));
                        continue;
                    }
                };
                all.push(format!("{} {taken:?}", EVENTS[name].name()));
            }
            Ok::<_, Failure>(all)
        }
    };
    Workflow::new("signals").version("1", handler).event(&APPLE).event(&BERRY).register()
}

/// A server, whatever happens outside of it, and a worker that may crash.
struct World {
    server: Server,
    clock: Arc<ManualClock>,
    workflow: RegisteredWorkflow,
    chance: Chance,
    outside: VecDeque<(usize, u32)>,
    crashes_left: usize,
    /// The server before each report, and what the report says.
    before: Vec<Server>,
    steps: usize,
}

impl World {
    fn new(acts: &[Act], seed: u64, crashes_left: usize) -> Self {
        let clock = Arc::new(ManualClock::new());
        let workflow = program(acts.to_vec());
        let server = Server::new(workflow.key(), 5, clock.clone());
        let mut chance = Chance::new(seed);
        // Enough of both for whatever the handler waits for, in any order.
        let outside = (0..60).map(|n| (chance.below(2), n)).collect();
        Self { server, clock, workflow, chance, outside, crashes_left, before: Vec::new(), steps: 0 }
    }

    fn step(&mut self) {
        self.steps += 1;
        assert!(self.steps < STEP_LIMIT, "the run goes round in circles:\n{}", self.server.page);
    }

    /// Something happens outside: an event is sent or a child ends.
    fn happen(&mut self) -> bool {
        if self.server.is_over() {
            return false;
        }
        let record = self.server.record();
        let open: Vec<u32> =
            record.children.iter().filter(|child| child.ended.is_none()).map(|child| child.ordinal).collect();
        if !open.is_empty() && self.chance.one_in(2) {
            let child = open[self.chance.below(open.len())];
            let state = match self.chance.below(3) {
                0 => RunState::Cancelled { explanation: None },
                _ => RunState::Completed { output: Payload::encode(&child).unwrap() },
            };
            self.server.end_child(child, &state);
            return true;
        }
        let Some((event, data)) = self.outside.pop_front() else { return false };
        self.server.send(EVENTS[event].name(), data);
        true
    }

    fn run(&mut self) -> RunRecord {
        while !self.server.is_over() {
            self.step();
            if self.server.is_ready() {
                self.pass();
                continue;
            }
            let due = self.server.head.due_at();
            match due {
                Some(due) if self.chance.one_in(2) || self.outside.is_empty() => {
                    self.clock.advance_to(due);
                    self.server.due();
                }
                _ => {
                    let happened = self.happen();
                    assert!(happened || due.is_some(), "nothing will move the run:\n{}", self.server.page);
                }
            }
        }
        self.server.record()
    }

    fn crashes(&mut self) -> bool {
        let crashes = self.crashes_left > 0 && self.chance.one_in(12);
        self.crashes_left -= usize::from(crashes);
        crashes
    }

    fn deliver(&mut self, pass: &mut Pass) {
        let known = pass.known_signals();
        pass.deliver(known, self.server.signals(known));
    }

    fn pass(&mut self) {
        let claim = self.server.claim().unwrap();
        let mut pass = Pass::new(claim, &self.workflow, self.clock.clone(), MachineConfig::default());
        let mut cx = Context::from_waker(Waker::noop());
        loop {
            self.step();
            if self.chance.one_in(6) && self.happen() && self.chance.one_in(2) {
                self.deliver(&mut pass);
            }
            if self.crashes() {
                break;
            }
            match pass.poll(&mut cx) {
                PassStep::Again => {}
                PassStep::Report(report) => {
                    if self.chance.one_in(4) {
                        // Between the last look and the report.
                        self.happen();
                    }
                    self.before.push(self.server.clone());
                    let receipt = self.server.report(&report).unwrap_or_else(|error| panic!("{error}: {report:?}"));
                    assert_eq!(self.server.report(&report), Ok(receipt.clone()), "the same report, the same answer");
                    if self.crashes() {
                        break;
                    }
                    pass.accepted(&receipt);
                    if receipt.signals > pass.known_signals() && self.chance.one_in(2) {
                        self.deliver(&mut pass);
                    }
                }
                PassStep::Close(close) => {
                    assert_ne!(close, Close::Lost);
                    return;
                }
                PassStep::Wait { until, .. } => {
                    let happened = self.happen();
                    self.deliver(&mut pass);
                    if let (false, Some(until)) = (happened, until) {
                        self.clock.advance_to(until);
                        assert_eq!(self.server.refresh(), LeaseDecision::Held);
                    }
                }
            }
        }
        drop(pass);
        if self.server.head.lease.is_some() {
            self.server.release();
        }
    }
}

fn output(record: &RunRecord) -> Vec<String> {
    match &record.state {
        RunState::Completed { output } => Payload::decode(output.as_ref()).unwrap(),
        other => panic!("{other:?}"),
    }
}

/// Every event was given to one wait at most, and those of a name in the order in which they came.
fn check_events(record: &RunRecord) -> Result<(), TestCaseError> {
    let mut taken: BTreeMap<&str, Vec<(u64, u32)>> = BTreeMap::new();
    for wait in &record.waits {
        if let (WaitState::Completed { event: Some(event) }, Some(settled)) = (wait.state, wait.settled) {
            taken.entry(&record.events[event as usize].name).or_default().push((settled, event));
        }
    }
    for (name, mut events) in taken {
        events.sort_unstable();
        prop_assert!(events.windows(2).all(|pair| pair[0].1 < pair[1].1), "{name}: {events:?}");
        // Nothing was passed over.
        let of_name = record.events.iter().enumerate().filter(|(_, event)| event.name == name);
        let first: Vec<u32> = of_name.map(|(at, _)| at as u32).take(events.len()).collect();
        prop_assert_eq!(first, events.into_iter().map(|(_, event)| event).collect::<Vec<_>>());
    }
    Ok(())
}

proptest! {
    #![proptest_config(cases(150))]

    #[test]
    fn whatever_comes_is_given_once_and_in_order_over_any_crashes(
        acts in prop::collection::vec(any_act(), 1..8),
        seed: u64,
        crashes in 0..8usize,
    ) {
        let mut world = World::new(&acts, seed, crashes);
        let record = world.run();
        check_events(&record)?;
        prop_assert_eq!(output(&record).len(), acts.len());

        // From any point of its life on, without further news but what the handler still waits for, the
        // run comes to an end, and what was settled stands.
        for before in &world.before {
            let mut again = World::new(&acts, seed ^ 1, 0);
            let clock = Arc::new(ManualClock::new());
            clock.advance_to(world.clock_at(before));
            (again.server, again.clock) = (Server { clock: clock.clone(), ..before.clone() }, clock);
            if again.server.head.lease.is_some() {
                again.server.release();
            }
            let after = again.run();
            check_events(&after)?;
            let settled = |record: &RunRecord| -> Vec<_> {
                record.waits.iter().filter(|wait| wait.settled.is_some()).cloned().collect()
            };
            let (was, is) = (settled(&before.record()), settled(&after));
            prop_assert!(was.iter().all(|wait| is.contains(wait)), "{was:?}\n{is:?}");
        }
    }
}

impl World {
    /// The time at which a server of this run stood so: the last entry's.
    fn clock_at(&self, server: &Server) -> aiki_core::Timestamp {
        server.entries().last().map(|entry| entry.at).unwrap_or_default().max(server.head.created_at)
    }
}
