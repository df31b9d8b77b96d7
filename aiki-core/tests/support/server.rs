//! The server of one run: core's plans over a head and a stored page, nothing else.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use aiki_core::hash::input_hash;
use aiki_core::name::WorkflowKey;
use aiki_core::report::ChildStart;
use aiki_core::run::plan::{
    self, ChildDecision, ClaimDecision, CreateRun, Due, EventMessage, LeaseDecision, ReportContext, ReportError,
    RunCommand,
};
use aiki_core::run::record::{Signal, signals};
use aiki_core::run::{
    Entry, FailureCause, HistoryEntry, ParkedStep, ReceivedEvent, RunHead, RunOptions, RunState, TaskCounts, TaskState,
    WaitState, history,
};
use aiki_core::server_client::ClaimedRun;
use aiki_core::{Clock, ErrorObject, Name, Payload, Report, ReportReceipt, RunId, RunRecord, Transition};

use super::ManualClock;
use super::program::EVENTS;

pub(crate) const LEASE: Duration = Duration::from_secs(30);
pub(crate) const HISTORY_LIMIT: u32 = 50_000;

/// The id of the one run.
pub(crate) const RUN: RunId = RunId::from_bits(0x0199_ABCD_0000 << 80 | 0xFEED << 24);

#[derive(Clone)]
pub(crate) struct Server {
    pub(crate) head: RunHead,
    /// The history as a store keeps it: every claim reads it back.
    pub(crate) page: String,
    /// Every entry that was ever written, also those that a continuation put away.
    pub(crate) journal: Vec<HistoryEntry>,
    /// The children that a report may start are refused.
    pub(crate) refuses: fn(&ChildStart) -> bool,
    pub(crate) clock: Arc<ManualClock>,
}

impl Server {
    pub(crate) fn new(workflow: &WorkflowKey, input: u32, clock: Arc<ManualClock>) -> Self {
        Self::with_options(workflow, input, None, clock)
    }

    pub(crate) fn with_options(
        workflow: &WorkflowKey,
        input: u32,
        options: Option<RunOptions>,
        clock: Arc<ManualClock>,
    ) -> Self {
        let input = Payload::encode(&input).unwrap();
        let hash = input_hash(input.as_ref().map(Payload::as_str)).unwrap();
        let mut request = CreateRun::new(workflow.clone(), input, hash);
        request.options = options;
        let mut entries = Vec::new();
        let head = plan::create(&request, RUN, &Name::new("test"), clock.now(), &mut entries);
        let mut server = Self { head, page: String::new(), journal: Vec::new(), refuses: |_| false, clock };
        server.store(&entries);
        server
    }

    /// Writes entries and head down, and goes on with what a store would read back.
    fn store(&mut self, entries: &[HistoryEntry]) {
        let continued = entries.iter().rposition(|entry| matches!(entry.entry, Entry::Continued { .. }));
        if continued.is_some() {
            self.page.clear();
        }
        history::append(&mut self.page, &entries[continued.unwrap_or(0)..]).unwrap();
        self.journal.extend_from_slice(entries);
        let head = serde_json::to_string(&self.head).unwrap();
        let read: RunHead = serde_json::from_str(&head).unwrap();
        assert_eq!(read, self.head, "a head survives being stored");
        self.head = read;
    }

    pub(crate) fn entries(&self) -> Vec<HistoryEntry> {
        history::parse(&self.page).map(|entry| entry.unwrap()).collect()
    }

    pub(crate) fn record(&self) -> RunRecord {
        let record = RunRecord::fold(&self.head, self.entries());
        assert_eq!(counts(&record), self.head.counts, "head and history agree on the tasks:\n{}", self.page);
        record
    }

    pub(crate) fn claim(&mut self) -> Option<ClaimedRun> {
        let mut entries = Vec::new();
        let now = self.clock.now();
        let mut decision = plan::claim(&mut self.head, &Name::new("worker"), LEASE, now, &mut entries);
        if self.head.state == RunState::Stalled {
            // An operator who never gives up sends the run back to work.
            assert!(decision == ClaimDecision::Done && self.head.deliveries >= plan::POISON_LIMIT);
            plan::command(&mut self.head, RunCommand::Requeue, now, &mut entries).unwrap();
            decision = plan::claim(&mut self.head, &Name::new("worker"), LEASE, now, &mut entries);
        }
        self.store(&entries);
        match decision {
            ClaimDecision::Granted => {
                let (record, epoch) = (self.record(), self.head.epoch);
                Some(ClaimedRun { record, epoch, lease: LEASE, history_limit: HISTORY_LIMIT, granted_at: None })
            }
            ClaimDecision::Owned(_) | ClaimDecision::Done => None,
        }
    }

    pub(crate) fn report(&mut self, report: &Report) -> Result<ReportReceipt, ReportError> {
        let mut entries = Vec::new();
        let before = self.head.clone();
        let decide = |transition: &Transition| match transition {
            Transition::ChildOpened { start, .. } if (self.refuses)(start) => {
                Some(ChildDecision::Refused(ErrorObject::new("Refused", "not this one")))
            }
            Transition::ChildOpened { ordinal, .. } => Some(ChildDecision::New(child_id(*ordinal))),
            _ => None,
        };
        let children: Vec<_> = report.transitions.iter().filter_map(decide).collect();
        let context = ReportContext { children: &children, history_limit: HISTORY_LIMIT };
        let answer = plan::report(&mut self.head, report, context, self.clock.now(), &mut entries);
        if answer.is_err() {
            assert_eq!(self.head, before, "a report that is refused changes nothing");
            assert!(entries.is_empty(), "a report that is refused writes nothing");
        }
        self.store(&entries);
        answer
    }

    /// Something comes from outside.
    pub(crate) fn arrive(&mut self, signal: &Outside) {
        let (mut entries, now) = (Vec::new(), self.clock.now());
        match signal {
            Outside::Event(message) => {
                plan::receive_event(&mut self.head, message, HISTORY_LIMIT, false, now, &mut entries).unwrap();
            }
            Outside::ChildEnded(child, state) => {
                plan::child_ended(&mut self.head, *child, true, state, now, &mut entries);
            }
        }
        self.store(&entries);
    }

    /// An event, numbered through.
    pub(crate) fn next_event(&self, name: usize) -> Outside {
        let sent = self.journal.iter().filter(|entry| matches!(entry.entry, Entry::EventReceived { .. })).count();
        // Whoever waits for one kind is given the same, however the other kind came in between.
        let of_name = |entry: &&HistoryEntry| matches!(&entry.entry, Entry::EventReceived { event } if event.name == EVENTS[name].name());
        let number = self.journal.iter().filter(of_name).count();
        let data = Payload::encode(&(100 * (name as u32 + 1) + number as u32)).unwrap();
        let reference_id = Some(sent.to_string());
        Outside::Event(EventMessage { name: EVENTS[name].name().to_owned(), data, reference_id })
    }

    /// The children that have not ended, also those from before a continuation, with the end that they
    /// will have: it follows from their input.
    pub(crate) fn children_under_way(&self) -> Vec<Outside> {
        let mut open: BTreeMap<u32, (&str, bool)> = BTreeMap::new();
        for HistoryEntry { entry, .. } in &self.journal {
            match entry {
                Entry::ChildOpened { ordinal, input_hash, .. } => {
                    open.insert(*ordinal, (input_hash.as_str(), false));
                }
                Entry::ChildEnded { ordinal, .. } => drop(open.remove(ordinal)),
                Entry::ChildCancelled { ordinal } => {
                    open.entry(*ordinal).and_modify(|(_, cancelled)| *cancelled = true);
                }
                _ => {}
            }
        }
        let end = |hash: &str, cancelled: bool| match hash.bytes().map(u32::from).sum::<u32>() % 5 {
            _ if cancelled => RunState::Cancelled { explanation: None },
            0 => RunState::Failed { cause: FailureCause::Own(ErrorObject::new("Broken", "a child")) },
            1 => RunState::Cancelled { explanation: Some("by somebody else".into()) },
            number => RunState::Completed { output: Payload::encode(&number).unwrap() },
        };
        open.into_iter()
            .map(|(ordinal, (hash, cancelled))| Outside::ChildEnded(ordinal, end(hash, cancelled)))
            .collect()
    }

    /// The signals behind the first `known` ones, as a worker reads them.
    pub(crate) fn signals(&self, known: u32) -> Vec<Signal> {
        signals(&self.head, known, self.entries())
    }

    /// What would end one of the waits that the suspended run has. Nobody may wait for what is there.
    pub(crate) fn awaited(&self) -> Vec<Outside> {
        let record = self.record();
        let children = self.children_under_way();
        let mut awaited = Vec::new();
        for parked in &self.head.parked {
            match &parked.step {
                ParkedStep::Event { name, .. } => {
                    let left = events_left(&record);
                    assert!(!left.iter().any(|event| event.name == *name), "`{name}` is there:\n{}", self.page);
                    awaited.push(self.next_event(EVENTS.iter().position(|event| event.name() == name).unwrap()));
                }
                ParkedStep::Child { child: of, .. } => {
                    let end = children.iter().find(|end| matches!(end, Outside::ChildEnded(child, _) if child == of));
                    awaited.push(end.unwrap_or_else(|| panic!("child {of} has ended:\n{}", self.page)).clone());
                }
                ParkedStep::Sleep { .. } | ParkedStep::Task(_) => {}
            }
        }
        awaited
    }

    pub(crate) fn due(&mut self) -> Due {
        let mut entries = Vec::new();
        let due = plan::due(&mut self.head, self.clock.now(), &mut entries);
        self.store(&entries);
        due
    }

    pub(crate) fn refresh(&mut self) -> LeaseDecision {
        let epoch = self.head.epoch;
        plan::refresh(&mut self.head, epoch, LEASE, self.clock.now())
    }

    pub(crate) fn release(&mut self) -> LeaseDecision {
        let mut entries = Vec::new();
        let epoch = self.head.epoch;
        let decision = plan::release(&mut self.head, epoch, self.clock.now(), &mut entries);
        self.store(&entries);
        decision
    }

    pub(crate) fn cancel(&mut self) {
        let mut entries = Vec::new();
        plan::cancel(&mut self.head, None, self.clock.now(), &mut entries).unwrap();
        self.store(&entries);
    }

    /// An event reaches the run from outside.
    pub(crate) fn send(&mut self, name: &str, data: u32) {
        let mut entries = Vec::new();
        let data = Payload::encode(&data).unwrap();
        let message = EventMessage { name: name.into(), data, reference_id: None };
        plan::receive_event(&mut self.head, &message, HISTORY_LIMIT, false, self.clock.now(), &mut entries).unwrap();
        self.store(&entries);
    }

    /// A child of the run ends.
    pub(crate) fn end_child(&mut self, child: u32, state: &RunState) {
        let mut entries = Vec::new();
        plan::child_ended(&mut self.head, child, true, state, self.clock.now(), &mut entries);
        self.store(&entries);
    }

    pub(crate) fn is_over(&self) -> bool {
        self.head.state.is_terminal()
    }

    pub(crate) fn is_ready(&self) -> bool {
        matches!(self.head.state, RunState::Queued { .. })
    }
}

/// Something from outside that reaches the run.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Outside {
    Event(EventMessage),
    ChildEnded(u32, RunState),
}

fn child_id(ordinal: u32) -> RunId {
    RunId::from_bits(RUN.to_bits() + ((u128::from(ordinal) + 1) << 24))
}

/// The events of a record that no wait has ended with, in order.
pub(crate) fn events_left(record: &RunRecord) -> Vec<ReceivedEvent> {
    let taken: Vec<usize> = record
        .waits
        .iter()
        .filter_map(|wait| match wait.state {
            WaitState::Completed { event } => event.map(|index| index as usize),
            _ => None,
        })
        .collect();
    let left = record.events.iter().enumerate().filter(|(at, _)| !taken.contains(at));
    left.map(|(_, event)| event.clone()).collect()
}

/// The tasks of a record by status, counted anew.
pub(crate) fn counts(record: &RunRecord) -> TaskCounts {
    let mut counts = TaskCounts::default();
    for task in &record.tasks {
        let counter = match task.state {
            TaskState::Running { .. } => &mut counts.running,
            TaskState::AwaitingRetry { .. } => &mut counts.awaiting_retry,
            TaskState::Completed { .. } => &mut counts.completed,
            TaskState::Failed { .. } => &mut counts.failed,
            TaskState::Discarded { .. } => &mut counts.discarded,
        };
        *counter += 1;
    }
    counts
}
