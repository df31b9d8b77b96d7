//! The server of one run: core's plans over a head and a stored page, nothing else.

use std::sync::Arc;
use std::time::Duration;

use aiki_core::hash::input_hash;
use aiki_core::name::WorkflowKey;
use aiki_core::run::plan::{
    self, ChildDecision, ClaimDecision, CreateRun, Due, LeaseDecision, ReportContext, ReportError, RunCommand,
};
use aiki_core::run::{HistoryEntry, RunHead, RunOptions, RunState, TaskCounts, TaskState, history};
use aiki_core::server_client::ClaimedRun;
use aiki_core::{Clock, Name, Payload, Report, ReportReceipt, RunId, RunRecord, Transition};

use super::ManualClock;

pub(crate) const LEASE: Duration = Duration::from_secs(30);
pub(crate) const HISTORY_LIMIT: u32 = 50_000;

/// The id of the one run.
pub(crate) const RUN: RunId = RunId::from_bits(0x0199_ABCD_0000 << 80 | 0xFEED << 24);

#[derive(Clone)]
pub(crate) struct Server {
    pub(crate) head: RunHead,
    /// The history as a store keeps it: every claim reads it back.
    pub(crate) page: String,
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
        let mut server = Self { head, page: String::new(), clock };
        server.store(&entries);
        server
    }

    /// Writes entries and head down, and goes on with what a store would read back.
    fn store(&mut self, entries: &[HistoryEntry]) {
        history::append(&mut self.page, entries).unwrap();
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
                Some(ClaimedRun { record, epoch, lease: LEASE, history_limit: HISTORY_LIMIT })
            }
            ClaimDecision::Owned(_) | ClaimDecision::Done => None,
        }
    }

    pub(crate) fn report(&mut self, report: &Report) -> Result<ReportReceipt, ReportError> {
        let mut entries = Vec::new();
        let before = self.head.clone();
        let opens = |transition: &Transition| matches!(transition, Transition::ChildOpened { .. });
        let first = self.head.children_opened;
        let child = |at| ChildDecision::New(RunId::from_bits(RUN.to_bits() + ((u128::from(first + at) + 1) << 24)));
        let count = report.transitions.iter().filter(|transition| opens(transition)).count() as u32;
        let children: Vec<_> = (0..count).map(child).collect();
        let context = ReportContext { children: &children, history_limit: HISTORY_LIMIT };
        let answer = plan::report(&mut self.head, report, context, self.clock.now(), &mut entries);
        if answer.is_err() {
            assert_eq!(self.head, before, "a report that is refused changes nothing");
            assert!(entries.is_empty(), "a report that is refused writes nothing");
        }
        self.store(&entries);
        answer
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

    pub(crate) fn is_over(&self) -> bool {
        self.head.state.is_terminal()
    }

    pub(crate) fn is_ready(&self) -> bool {
        matches!(self.head.state, RunState::Queued { .. })
    }
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
