//! A host without a runtime: drives passes, answers reports, ticks bodies, moves the clock, crashes.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::task::{Context, Waker};
use std::time::Duration;

use aiki_core::replay::{Close, MachineConfig, Pass, PassStep};
use aiki_core::run::plan::{Due, LeaseDecision, ReportError};
use aiki_core::run::{Entry, HistoryEntry, ReceivedEvent, SleepRecord, SleepState, TaskState, WaitOn, WaitState};
use aiki_core::{
    Clock, Payload, RegisteredWorkflow, Report, ReportReceipt, RunRecord, RunState, TaskId, Timestamp, Transition,
};

use super::server::events_left;
use super::{Chance, EVENTS, ManualClock, Outside, Program, Server, World};

/// No simulated run takes this many steps; one that does goes round in circles.
const STEP_LIMIT: usize = 4_000;

/// Who decides what happens next while the pass waits.
#[derive(Clone, Debug)]
pub(crate) enum Driver {
    /// Anything may happen next: answers may take long, bodies end in any order, time may overtake
    /// them, the waker may fire for nothing, answers get lost on their way and are asked for again.
    Chance(Chance, Pace),
    /// Answers come at once; bodies end, and time passes, as in the run that wrote these transitions.
    Follow(Vec<Expected>, VecDeque<Arrival>),
    /// Answers come at once, bodies end in the order in which they began, and time passes last.
    Steady,
}

/// A transition that is to come out.
#[derive(Clone, Debug)]
pub(crate) struct Expected {
    pub(crate) transition: Transition,
    pub(crate) at: Timestamp,
}

/// Something came from outside when so many transitions were written.
#[derive(Clone, Debug)]
pub(crate) struct Arrival {
    pub(crate) written: usize,
    pub(crate) at: Timestamp,
    pub(crate) signal: Outside,
}

/// How time and answers take part in what happens by chance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pace {
    /// Anything goes.
    Any,
    /// Every report is answered at once, and bodies end one at a time.
    Prompt,
    /// Time passes only when nothing else can happen, and bodies end one at a time.
    Lazy,
}

/// What the host may do while the pass waits.
enum Move {
    Answer,
    Tick(Vec<TaskId>),
    Advance(Timestamp),
    /// Something comes from outside.
    Arrive(Outside),
    /// The worker reads the signals behind so many, and hands them to the pass.
    Deliver(u32),
    PollAgain,
}

/// At most so many events and ends of children come that nobody waits for.
const ARRIVALS: usize = 12;

/// How a claim gets lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Loss {
    /// The run is cancelled.
    Cancelled,
    /// The lease lapses and the server takes the run back.
    Lapsed,
}

enum InFlight {
    /// On its way; the handler had noted so many lines when it was made.
    Sent(Report, usize, Timestamp),
    /// Written, but the pass does not know yet.
    Written(Report, ReportReceipt),
}

/// What a run amounts to, without the times at which things happened.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Outcome {
    pub(crate) ending: String,
    pub(crate) attempts: u64,
    /// Name, input hash unless it holds a time, state, place in the settle order.
    pub(crate) tasks: Vec<(String, String, TaskState, Option<u64>)>,
    pub(crate) sleeps: Vec<(String, Option<bool>, Option<u64>)>,
    /// What was waited for, and how it ended, without the time.
    pub(crate) waits: Vec<(WaitOn, Option<WaitState>, Option<u64>)>,
    pub(crate) children: Vec<(String, bool)>,
}

/// A report, when it was written, and the server just before.
pub(crate) struct Written {
    pub(crate) before: Server,
    pub(crate) at: Timestamp,
    pub(crate) report: Report,
    /// So many things had come from outside.
    pub(crate) arrived: usize,
}

pub(crate) struct Sim {
    pub(crate) server: Server,
    pub(crate) world: World,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) workflow: RegisteredWorkflow,
    pub(crate) config: MachineConfig,
    pub(crate) driver: Driver,
    /// The host crashes when it has come to one of these points.
    pub(crate) crash_at: BTreeSet<usize>,
    /// Points passed so far: one before and one after everything that the host does.
    pub(crate) points: usize,
    /// Whether a crashed worker's claim is handed back at once, or lapses.
    pub(crate) release_on_crash: bool,
    /// Everything that came out of passes and was written, in order.
    pub(crate) written: Vec<Transition>,
    /// The same, with what it takes to have it come out again.
    pub(crate) expected: Vec<Expected>,
    pub(crate) reports: Vec<Written>,
    /// What came from outside, in order.
    pub(crate) arrivals: Vec<Arrival>,
    /// The worker is not told of what it could not tell a later worker of: see law 2.
    pub(crate) openly: bool,
    /// Before this report arrives, counted from 0, the claim is lost.
    pub(crate) lose_at: Option<(usize, Loss)>,
    /// Ask a pass that is over for more.
    pub(crate) poke: bool,
    /// Everything that came out of passes, as text.
    pub(crate) transcript: Vec<String>,
    pub(crate) passes: usize,
    pub(crate) crashes: usize,
    steps: usize,
}

impl Sim {
    pub(crate) fn new(program: &Program, driver: Driver) -> Self {
        let world = World::default();
        let workflow = program.workflow(&world);
        let mut sim = Self::with_workflow(workflow, world, driver);
        // Some children are refused; which ones, follows from their input.
        sim.server.refuses = |start| start.input_hash.as_str().bytes().map(u32::from).sum::<u32>() % 7 == 0;
        sim
    }

    pub(crate) fn with_workflow(workflow: RegisteredWorkflow, world: World, driver: Driver) -> Self {
        let clock = Arc::new(ManualClock::new());
        let server = Server::new(workflow.key(), 5, clock.clone());
        Self::on(server, workflow, world, driver)
    }

    /// Goes on with a server that holds a run already.
    pub(crate) fn on(server: Server, workflow: RegisteredWorkflow, world: World, driver: Driver) -> Self {
        Self {
            clock: server.clock.clone(),
            server,
            world,
            workflow,
            config: MachineConfig::default(),
            driver,
            crash_at: BTreeSet::new(),
            points: 0,
            release_on_crash: true,
            written: Vec::new(),
            expected: Vec::new(),
            reports: Vec::new(),
            arrivals: Vec::new(),
            openly: false,
            lose_at: None,
            poke: false,
            transcript: Vec::new(),
            passes: 0,
            crashes: 0,
            steps: 0,
        }
    }

    /// Drives the run to its end.
    pub(crate) fn run(&mut self) -> &mut Self {
        self.run_until(|_| false);
        assert!(self.server.is_over());
        self
    }

    /// Drives the run to its end, or until `stop` holds between two passes.
    pub(crate) fn run_until(&mut self, stop: impl Fn(&Self) -> bool) -> &mut Self {
        while !self.server.is_over() && !stop(self) {
            self.step();
            if self.server.is_ready() {
                if !self.openly {
                    self.arrive_by_chance(6);
                }
                self.pass();
            } else {
                self.wait();
            }
        }
        self.check_events();
        let violations = std::mem::take(&mut self.world.seen().violations);
        assert!(violations.is_empty(), "{violations:#?}\n{}", self.server.page);
        self
    }

    /// No worker has the run, and it waits.
    fn wait(&mut self) {
        let due = self.server.head.due_at();
        let awaited = self.server.awaited();
        let (written, is_waiting) =
            (self.written.len(), !matches!(self.server.head.state, RunState::AwaitingRetry { .. }));
        match &mut self.driver {
            Driver::Follow(_, arrivals) => {
                let next = arrivals.front().filter(|next| next.written <= written);
                if let Some(Arrival { at, .. }) = next
                    && due.is_none_or(|due| *at < due)
                {
                    let Arrival { at, signal, .. } = arrivals.pop_front().expect("it is there");
                    self.clock.advance_to(at);
                    return self.outside(signal);
                }
            }
            // Whoever follows lets the server's own work go first.
            Driver::Chance(..) if self.openly && due.is_some_and(|due| due <= self.clock.now()) => {}
            Driver::Chance(chance, _) if is_waiting => {
                let some = |chance: &mut Chance| match due {
                    Some(due) => chance.below(due.since(self.clock.now()).as_millis().max(1) as usize),
                    None => chance.below(100_000),
                };
                if !awaited.is_empty() && (due.is_none() || chance.one_in(2)) {
                    let at = self.clock.now().after(Duration::from_millis(some(chance) as u64));
                    let signal = awaited[chance.below(awaited.len())].clone();
                    self.clock.advance_to(at);
                    return self.outside(signal);
                }
                if self.arrive_by_chance(4) {
                    return;
                }
            }
            Driver::Steady if due.is_none() => return self.outside(awaited[0].clone()),
            _ => {}
        }
        let due = due.unwrap_or_else(|| panic!("nobody moves the run:\n{}", tail(&self.server.page)));
        self.clock.advance_to(due);
        self.server.due();
    }

    /// Something comes from outside now.
    pub(crate) fn outside(&mut self, signal: Outside) {
        self.server.arrive(&signal);
        self.arrivals.push(Arrival { written: self.written.len(), at: self.clock.now(), signal });
    }

    fn arrive_by_chance(&mut self, times: usize) -> bool {
        let Driver::Chance(chance, _) = &mut self.driver else { return false };
        if self.arrivals.len() >= ARRIVALS || self.server.is_over() || !chance.one_in(times) {
            return false;
        }
        let mut all = self.server.children_under_way();
        all.extend((0..EVENTS.len()).map(|name| self.server.next_event(name)));
        let signal = all.swap_remove(chance.below(all.len()));
        self.outside(signal);
        true
    }

    /// What arrived is given to one wait at most, in order, and nothing of it is lost.
    fn check_events(&self) {
        let mut events: Vec<ReceivedEvent> = Vec::new();
        let mut taken: BTreeSet<u32> = BTreeSet::new();
        let mut waits: BTreeMap<u32, String> = BTreeMap::new();
        let mut sent = Vec::new();
        for HistoryEntry { entry, .. } in &self.server.journal {
            match entry {
                Entry::EventReceived { event } => {
                    sent.push(event.clone());
                    events.push(event.clone());
                }
                Entry::WaitOpened { ordinal, on: WaitOn::Event(name), .. } => {
                    drop(waits.insert(*ordinal, name.clone()))
                }
                Entry::WaitCompleted { ordinal, event: Some(index) } => {
                    let name = waits.remove(ordinal).expect("a wait ends once");
                    let event = &events[*index as usize];
                    assert_eq!(event.name, name, "a wait gets what it waits for");
                    let first = (0..).find(|at| !taken.contains(at) && events[*at as usize].name == name);
                    assert_eq!(first, Some(*index), "in order, each once:\n{}", self.server.page);
                    taken.insert(*index);
                }
                Entry::WaitTimedOut { ordinal } | Entry::WaitDropped { ordinal } => drop(waits.remove(ordinal)),
                Entry::Continued { events: carried, .. } => {
                    let left = (0..).zip(&events).filter(|(at, _)| !taken.contains(at));
                    let left: Vec<_> = left.map(|(_, event)| event.clone()).collect();
                    assert_eq!(*carried, left, "what nobody took goes along");
                    (events, taken) = (left, BTreeSet::new());
                    waits.clear();
                }
                _ => {}
            }
        }
        let numbers: Vec<_> = sent.iter().map(|event| event.reference_id.clone().unwrap_or_default()).collect();
        assert_eq!(numbers, (0..sent.len()).map(|number| number.to_string()).collect::<Vec<_>>());
        assert_eq!(events_left(&self.server.record()).len(), events.len() - taken.len());
    }

    /// One pass. `None` when the host crashed.
    pub(crate) fn pass(&mut self) -> Option<Close> {
        let claim = self.server.claim().expect("a run that is ready can be claimed");
        self.passes += 1;
        self.world.begin_pass(&claim.record);
        let pass = Pass::new(claim, &self.workflow, self.clock.clone(), self.config);
        let close = self.drive(pass);
        if close.is_none() {
            self.crashes += 1;
            self.recover();
        }
        close
    }

    fn drive(&mut self, mut pass: Pass) -> Option<Close> {
        let mut cx = Context::from_waker(Waker::noop());
        let mut in_flight = None;
        loop {
            self.step();
            if self.crashes() {
                return None;
            }
            self.world.set_silent(pass.is_silent());
            let step = pass.poll(&mut cx);
            self.transcript.push(format!("{step:?}"));
            match step {
                PassStep::Again => {}
                PassStep::Report(report) => {
                    assert!(in_flight.is_none(), "one report is under way at a time");
                    in_flight = Some(InFlight::Sent(report, self.world.seen().lines.len(), self.clock.now()));
                    if self.crashes() {
                        return None;
                    }
                    if self.lost() {
                        return Some(self.reject(pass, in_flight));
                    }
                    // Behind the worker's back.
                    self.arrive_unseen();
                    if self.is_prompt() {
                        self.arrive(&mut in_flight);
                    }
                    if self.crashes() {
                        return None;
                    }
                    self.arrive_unseen();
                    if self.is_prompt() {
                        self.answer(&mut pass, &mut in_flight);
                    }
                }
                PassStep::Close(close) => {
                    assert!(in_flight.is_none(), "a pass closes when its last report is answered");
                    self.check_silence(pass);
                    return Some(close);
                }
                PassStep::Wait { until, .. } => match self.choose(&pass, in_flight.is_some(), until) {
                    Move::PollAgain => {}
                    Move::Deliver(after) => pass.deliver(after, self.server.signals(after)),
                    Move::Arrive(signal) => {
                        self.outside(signal);
                        if self.openly {
                            let known = pass.known_signals();
                            pass.deliver(known, self.server.signals(known));
                        }
                    }
                    Move::Answer => {
                        self.arrive(&mut in_flight);
                        if self.crashes() {
                            return None;
                        }
                        self.answer(&mut pass, &mut in_flight);
                    }
                    Move::Tick(tasks) => tasks.into_iter().for_each(|task| self.world.tick(task)),
                    Move::Advance(at) => {
                        self.clock.advance_to(at);
                        assert_eq!(self.server.refresh(), LeaseDecision::Held);
                    }
                },
            }
        }
    }

    fn arrive_unseen(&mut self) {
        if !self.openly {
            self.arrive_by_chance(12);
        }
    }

    fn choose(&mut self, pass: &Pass, in_flight: bool, until: Option<Timestamp>) -> Move {
        let gates = self.world.waiting();
        let (known, base) = (pass.known_signals(), self.server.head.base.signals);
        let news = known < self.server.head.signals;
        let arrivals = self.arrivals.len();
        let may_arrive = arrivals < ARRIVALS && !self.server.is_over() && !(self.openly && in_flight);
        if let Driver::Chance(chance, _) = &mut self.driver {
            // An answer that took long repeats what is known by now.
            let overlap = (chance.below(3) as u32).min(known - base.min(known));
            if news && chance.one_in(if pass.awaits_signals() { 2 } else { 6 }) {
                return Move::Deliver(known - overlap);
            }
            if may_arrive && chance.one_in(10) {
                let mut all = self.server.children_under_way();
                all.extend((0..EVENTS.len()).map(|name| self.server.next_event(name)));
                return Move::Arrive(all.swap_remove(chance.below(all.len())));
            }
        }
        let time = until.map(Move::Advance);
        match &mut self.driver {
            Driver::Chance(chance, pace) => {
                let mut moves: Vec<_> = gates.iter().map(|task| Move::Tick(vec![*task])).collect();
                if *pace == Pace::Any && gates.len() > 1 {
                    // Several bodies get as far before the handler is polled again.
                    let some = gates.iter().copied().filter(|_| chance.one_in(2)).collect();
                    moves.push(Move::Tick(some));
                }
                if in_flight {
                    moves.push(Move::Answer);
                }
                if *pace != Pace::Lazy || moves.is_empty() {
                    moves.extend(time);
                }
                assert!(!moves.is_empty(), "the pass waits for nothing:\n{}", self.server.page);
                if chance.one_in(10) { Move::PollAgain } else { moves.swap_remove(chance.below(moves.len())) }
            }
            Driver::Steady | Driver::Follow(..) if in_flight => Move::Answer,
            Driver::Steady => {
                let first = gates.first().map(|task| Move::Tick(vec![*task]));
                first.or(time).expect("the pass waits for something")
            }
            Driver::Follow(expected, arrivals) => {
                if let Some(Arrival { at, .. }) = arrivals.front().filter(|next| next.written <= self.written.len()) {
                    if *at > self.clock.now() {
                        return Move::Advance(until.map_or(*at, |until| until.min(*at)));
                    }
                    let Arrival { signal, .. } = arrivals.pop_front().expect("it is there");
                    return Move::Arrive(signal);
                }
                let next = expected.get(self.written.len());
                if let Some(Expected { at, .. }) = next
                    && *at > self.clock.now()
                {
                    return Move::Advance(until.map_or(*at, |until| until.min(*at)));
                }
                let tick = match next.map(|next| &next.transition) {
                    Some(
                        Transition::TaskCompleted { id, .. }
                        | Transition::TaskFailed { id, .. }
                        | Transition::TaskParked { id, .. },
                    ) if gates.contains(id) => Some(Move::Tick(vec![*id])),
                    _ => None,
                };
                tick.or(time).unwrap_or_else(|| {
                    let log = self.transcript.join("\n");
                    panic!("nothing leads to {next:?}\n{}\n{log}", tail(&self.server.page))
                })
            }
        }
    }

    fn is_prompt(&mut self) -> bool {
        match &mut self.driver {
            Driver::Chance(chance, pace) => *pace == Pace::Prompt || !chance.one_in(3),
            _ => true,
        }
    }

    /// Loses the claim if now is the time.
    fn lost(&mut self) -> bool {
        match self.lose_at {
            Some((at, loss)) if at == self.reports.len() => {
                match loss {
                    Loss::Cancelled => self.server.cancel(),
                    Loss::Lapsed => {
                        self.clock.advance_to(self.server.head.lease.as_ref().unwrap().until);
                        assert_eq!(self.server.due(), Due::Ready);
                    }
                }
                self.lose_at = None;
                true
            }
            _ => false,
        }
    }

    /// The report that is under way is refused: the pass must end in silence.
    fn reject(&mut self, mut pass: Pass, in_flight: Option<InFlight>) -> Close {
        let Some(InFlight::Sent(report, ..)) = in_flight else { panic!("a report is under way") };
        assert_eq!(self.server.report(&report), Err(ReportError::Lost));
        let page = self.server.page.clone();
        assert!(!pass.cancellation().is_cancelled());
        pass.rejected();
        assert!(pass.cancellation().is_cancelled(), "bodies are told");
        assert!(self.world.seen().gates.is_empty(), "the handler's future and its bodies are dropped");
        self.poke = true;
        self.check_silence(pass);
        assert_eq!(self.server.page, page);
        Close::Lost
    }

    /// A pass that is over stays silent, whatever is told to it.
    fn check_silence(&self, mut pass: Pass) {
        assert!(self.world.seen().gates.is_empty(), "no body goes on after the end");
        if !self.poke {
            return;
        }
        let mut cx = Context::from_waker(Waker::noop());
        let executions = self.world.seen().executions.len();
        for round in 0..6 {
            let step = pass.poll(&mut cx);
            assert_eq!(step, PassStep::Wait { until: None, stuck: false }, "round {round}");
            match round {
                0 => pass.accepted(&ReportReceipt::default()),
                1 => self.clock.advance_to(self.clock.now().after(Duration::from_secs(100_000))),
                2 => pass.fail(aiki_core::Failure::new("Late", "too late")),
                3 => pass.rejected(),
                _ => pass.accepted(&ReportReceipt::default()),
            }
        }
        assert_eq!(self.world.seen().executions.len(), executions, "nothing runs after the end");
    }

    /// The report reaches the server.
    fn arrive(&mut self, in_flight: &mut Option<InFlight>) {
        let (report, lines, made_at) = match in_flight.take() {
            Some(InFlight::Sent(report, lines, at)) => (report, lines, at),
            other => return *in_flight = other,
        };
        self.reports.push(Written {
            before: self.server.clone(),
            at: self.clock.now(),
            report: report.clone(),
            arrived: self.arrivals.len(),
        });
        let receipt = self.server.report(&report).unwrap_or_else(|error| panic!("{error}: {report:?}"));
        self.world.written(&report.transitions, lines);
        if self.server.head.seen.is_none() {
            self.world.continued();
        }
        self.written.extend(report.transitions.iter().cloned());
        let expected = |transition: &Transition| Expected { transition: transition.clone(), at: made_at };
        self.expected.extend(report.transitions.iter().map(expected));
        if let Driver::Chance(chance, _) = &mut self.driver
            && chance.one_in(4)
        {
            let (head, page) = (self.server.head.clone(), self.server.page.clone());
            assert_eq!(self.server.report(&report), Ok(receipt.clone()), "the answer to a repeated report is the same");
            assert_eq!((&self.server.head, &self.server.page), (&head, &page), "and nothing is done twice");
        }
        *in_flight = Some(InFlight::Written(report, receipt));
    }

    fn answer(&mut self, pass: &mut Pass, in_flight: &mut Option<InFlight>) {
        self.arrive(in_flight);
        if let Some(InFlight::Written(report, receipt)) = in_flight.take() {
            self.world.answered(&report.transitions);
            pass.accepted(&receipt);
            let known = pass.known_signals();
            if known < receipt.signals && pass.awaits_signals() && !self.openly && self.crashes.is_multiple_of(2) {
                pass.deliver(known, self.server.signals(known));
            }
        }
    }

    fn crashes(&mut self) -> bool {
        self.points += 1;
        self.crash_at.contains(&(self.points - 1))
    }

    /// The worker is gone; whatever claim it had is handed back, or lapses.
    fn recover(&mut self) {
        let Some(lease) = self.server.head.lease.clone() else { return };
        if self.release_on_crash {
            assert_eq!(self.server.release(), LeaseDecision::Held);
            return;
        }
        self.clock.advance_to(lease.until);
        // Sometimes the server's timer comes first, sometimes the next claim.
        if self.points.is_multiple_of(2) {
            self.server.due();
        } else {
            self.server.head.lease.as_ref().expect("nobody took it");
            let mut probe = self.server.clone();
            probe.claim().expect("a lapsed claim can be taken over");
            self.server.due();
        }
    }

    fn step(&mut self) {
        self.steps += 1;
        assert!(self.steps < STEP_LIMIT, "the run goes round in circles:\n{}", tail(&self.server.page));
    }

    /// The server of this finished run as it stood after the first `kept` transitions of the `at`-th
    /// report, the worker having just handed the run back.
    pub(crate) fn cut(&self, at: usize, kept: usize) -> Server {
        let Written { before, at: time, report, arrived } = &self.reports[at];
        let clock = Arc::new(ManualClock::new());
        match (&before.head.lease, at.checked_sub(1)) {
            (_, _) if kept > 0 => clock.advance_to(*time),
            // Since the last report, or the claim, there was nothing else on record.
            (Some(lease), last) => {
                clock.advance_to(last.map_or(lease.since, |last| lease.since.max(self.reports[last].at)))
            }
            (None, _) => unreachable!("a report is written under a lease"),
        }
        if let Some(last) = arrived.checked_sub(1) {
            clock.advance_to(self.arrivals[last].at);
        }
        let mut server = Server { clock, ..before.clone() };
        if kept > 0 {
            let transitions = report.transitions[..kept].to_vec();
            server.report(&Report { transitions, ..report.clone() }).unwrap();
        }
        if server.head.lease.is_some() {
            server.release();
        }
        server
    }

    /// The server of this finished run as it stood when all was on record but the end.
    pub(crate) fn before_its_end(&self) -> Server {
        let last = self.reports.len() - 1;
        self.cut(last, self.reports[last].report.transitions.len() - 1)
    }

    pub(crate) fn outcome(&self) -> Outcome {
        outcome(&self.server.record())
    }

    /// Every task that is recorded as settled ran, and was recorded once.
    pub(crate) fn check_ledger(&self) {
        let executions = self.world.seen().executions.clone();
        for task in &self.server.record().tasks {
            let (TaskState::Completed { attempts, .. } | TaskState::Failed { attempts, .. }) = task.state else {
                continue;
            };
            assert!(executions.contains(&(task.id, attempts)), "{} was recorded but never ran", task.name);
            let times = |transition: &&Transition| matches!(transition, Transition::TaskCompleted { id, .. } | Transition::TaskFailed { id, .. } if *id == task.id);
            assert_eq!(self.written.iter().filter(times).count(), 1, "{} was recorded once", task.name);
        }
    }
}

pub(crate) fn tail(page: &str) -> String {
    let lines: Vec<_> = page.lines().collect();
    lines[lines.len().saturating_sub(60)..].join("\n")
}

pub(crate) fn outcome(record: &RunRecord) -> Outcome {
    let ending = match &record.state {
        RunState::Completed { output } => format!("completed {}", output.as_ref().map_or("", Payload::as_str)),
        RunState::Failed { cause } => format!("failed {:?}", cause.error().map(|error| &error.message)),
        other => format!("{}", other.status()),
    };
    let tasks = record.tasks.iter().map(|task| {
        let hash = if task.name == "now" { "a time" } else { task.input_hash.as_str() };
        let mut state = task.state.clone();
        if let TaskState::AwaitingRetry { next_attempt_at, .. } = &mut state {
            *next_attempt_at = Timestamp::EPOCH;
        }
        (task.name.clone(), hash.to_owned(), state, task.settled)
    });
    let sleeps = record.sleeps.iter().map(|SleepRecord { name, state, settled, .. }| {
        let in_full = match state {
            SleepState::Sleeping { .. } => None,
            SleepState::Completed { .. } => Some(true),
            SleepState::Cancelled { .. } => Some(false),
        };
        (name.clone(), in_full, *settled)
    });
    let waits = record.waits.iter().map(|wait| {
        let state = match wait.state {
            WaitState::Waiting { .. } => None,
            WaitState::TimedOut { .. } => Some(WaitState::TimedOut { timed_out_at: Timestamp::EPOCH }),
            other => Some(other),
        };
        (wait.on.clone(), state, wait.settled)
    });
    let children = record.children.iter().map(|child| (child.input_hash.as_str().to_owned(), child.cancelled));
    Outcome {
        ending,
        attempts: record.attempts,
        tasks: tasks.collect(),
        sleeps: sleeps.collect(),
        waits: waits.collect(),
        children: children.collect(),
    }
}

/// A transition in a few words, with its task's ordinal.
pub(crate) fn brief(transition: &Transition) -> String {
    match transition {
        Transition::TaskOpened { id, name, .. } => format!("open {} {name}", id.ordinal()),
        Transition::TaskRestarted { id, attempts } => format!("restart {}:{attempts}", id.ordinal()),
        Transition::TaskParked { id, attempts, .. } => format!("park {}:{attempts}", id.ordinal()),
        Transition::TaskCompleted { id, attempts, .. } => format!("complete {}:{attempts}", id.ordinal()),
        Transition::TaskFailed { id, attempts, .. } => format!("fail {}:{attempts}", id.ordinal()),
        Transition::SleepOpened { ordinal, .. } => format!("sleep {ordinal}"),
        Transition::SleepCompleted { ordinal } => format!("wake {ordinal}"),
        Transition::SleepDropped { ordinal } => format!("drop {ordinal}"),
        Transition::TimeRead { .. } => "time".into(),
        Transition::Suspended => "suspend".into(),
        Transition::Completed { .. } => "complete run".into(),
        Transition::Failed { .. } => "fail run".into(),
        Transition::RetryScheduled { .. } => "retry run".into(),
        Transition::TaskProgressed { id, .. } => format!("progress {}", id.ordinal()),
        Transition::WaitOpened { ordinal, .. } => format!("wait {ordinal}"),
        Transition::WaitCompleted { ordinal, .. } => format!("waited {ordinal}"),
        Transition::WaitTimedOut { ordinal } => format!("timed out {ordinal}"),
        Transition::WaitDropped { ordinal } => format!("drop wait {ordinal}"),
        Transition::ChildOpened { ordinal, .. } => format!("child {ordinal}"),
        Transition::ChildCancelled { ordinal, .. } => format!("cancel child {ordinal}"),
        Transition::ContinuedAsNew { .. } => "continue".into(),
    }
}

pub(crate) fn briefs(transitions: &[Transition]) -> String {
    transitions.iter().map(brief).collect::<Vec<_>>().join(", ")
}
