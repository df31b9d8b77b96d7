//! The server's plans for workers of the plain contract: one transition at a time, the revision as fence.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::time::Duration;

use aiki_core::hash::input_hash;
use aiki_core::name::WorkflowKey;
use aiki_core::run::plan::plain::{
    Awaited, PLAIN_LEASE, PlainError, PlainState, TaskChange, TransitionRun, TransitionTask, TransitionedRun,
    TransitionedTask, adopt_plainly, claim_plainly, judge_parent, place_of, refresh_plainly, transition_run,
    transition_task,
};
use aiki_core::run::plan::{
    self, ClaimDecision, CreateRun, Due, EventMessage, POISON_LIMIT, ReportContext, ReportError,
};
use aiki_core::run::{
    FailureCause, HistoryEntry, QueuedReason, RunHead, RunState, RunStatus, ScheduledReason, SleepState, TaskState,
    WaitState, history,
};
use aiki_core::{ErrorObject, Name, Payload, Report, RunId, RunRecord, Timestamp, Transition};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

fn run_id(n: u128) -> RunId {
    RunId::from_bits(n << 24)
}

/// One run on a clock that is stepped by hand; its history as a store keeps it.
#[derive(Clone)]
struct Desk {
    head: RunHead,
    page: String,
    now: Timestamp,
}

fn create(id: RunId) -> Desk {
    let request =
        CreateRun::new(WorkflowKey::user("w", "1"), Payload::from_json("1").ok(), input_hash(Some("1")).unwrap());
    let now = Timestamp::from_millis(1_000_000);
    let mut entries = Vec::new();
    let head = plan::create(&request, id, &Name::new("test"), now, &mut entries);
    let mut desk = Desk { head, page: String::new(), now };
    desk.store(&entries);
    desk
}

/// A run on which a plain worker has begun to work.
fn running() -> Desk {
    let mut desk = create(run_id(1));
    assert!(desk.claim());
    desk.go(PlainState::Running).unwrap();
    desk
}

impl Desk {
    fn store(&mut self, entries: &[HistoryEntry]) {
        history::append(&mut self.page, entries).unwrap();
        let read: RunHead = serde_json::from_str(&serde_json::to_string(&self.head).unwrap()).unwrap();
        assert_eq!(read, self.head, "a head survives being stored");
    }

    fn record(&self) -> RunRecord {
        RunRecord::fold(&self.head, history::parse(&self.page).map(|entry| entry.unwrap()))
    }

    fn plan<T>(&mut self, plan: impl FnOnce(&mut RunHead, Timestamp, &mut Vec<HistoryEntry>) -> T) -> T {
        let mut entries = Vec::new();
        let answer = plan(&mut self.head, self.now, &mut entries);
        self.store(&entries);
        answer
    }

    fn try_plan<T>(
        &mut self,
        plan: impl FnOnce(&mut RunHead, Timestamp, &mut Vec<HistoryEntry>) -> Result<T, PlainError>,
    ) -> Result<T, PlainError> {
        let (head, page) = (self.head.clone(), self.page.clone());
        let answer = self.plan(plan);
        if answer.is_err() {
            assert_eq!((&self.head, &self.page), (&head, &page), "what is refused changes nothing");
        }
        answer
    }

    fn claim(&mut self) -> bool {
        self.plan(|head, now, entries| claim_plainly(head, PLAIN_LEASE, now, entries))
    }

    fn claim_by_name(&mut self) -> ClaimDecision {
        self.plan(|head, now, entries| plan::claim(head, &Name::new("ours"), MINUTE, now, entries))
    }

    fn transition(
        &mut self,
        to: PlainState,
        expected_revision: Option<u64>,
        awaited: Option<Awaited>,
        seen: Option<u32>,
    ) -> Result<TransitionedRun, PlainError> {
        let request = TransitionRun { run: self.head.id, expected_revision, to };
        self.try_plan(|head, now, entries| transition_run(head, &request, awaited, seen, PLAIN_LEASE, now, entries))
    }

    /// An optimistic transition by somebody who knows the revision.
    fn go(&mut self, to: PlainState) -> Result<TransitionedRun, PlainError> {
        let revision = self.head.revision;
        self.transition(to, Some(revision), None, None)
    }

    fn order(&mut self, to: PlainState) -> Result<TransitionedRun, PlainError> {
        self.transition(to, None, None, None)
    }

    fn task(&mut self, change: TaskChange) -> Result<TransitionedTask, PlainError> {
        let request = TransitionTask { run: self.head.id, expected_revision: self.head.revision, change };
        self.try_plan(|head, now, entries| transition_task(head, &request, now, entries))
    }

    fn open_task(&mut self, name: &str) -> aiki_core::TaskId {
        let change =
            TaskChange::Create { name: name.into(), input: None, input_hash: input_hash(None).unwrap(), retry: None };
        self.task(change).unwrap().id
    }

    fn event(&mut self, name: &str) {
        let event = EventMessage { name: name.into(), data: None, reference_id: None };
        self.plan(|head, now, entries| plan::receive_event(head, &event, 1_000, false, now, entries)).unwrap();
    }

    fn due(&mut self) -> Due {
        self.plan(plan::due)
    }

    fn pass(&mut self, time: Duration) {
        self.now = self.now.after(time);
    }

    fn status(&self) -> RunStatus {
        self.head.state.status()
    }
}

fn error() -> ErrorObject {
    ErrorObject::new("Error", "broken")
}

fn sleep(duration: Duration) -> PlainState {
    PlainState::Sleeping { name: "nap".into(), duration }
}

fn scheduled(reason: ScheduledReason, delay: Duration) -> PlainState {
    PlainState::Scheduled { reason, delay }
}

fn awaiting(event: &str, timeout: Option<Duration>) -> PlainState {
    PlainState::AwaitingEvent { event: event.into(), timeout }
}

#[test]
fn a_claim_leaves_the_run_queued_and_lapses_without_a_transition() {
    let mut desk = create(run_id(1));
    let revision = desk.head.revision;
    assert!(desk.claim());
    assert!(!desk.claim(), "nobody else is told of it");
    assert_eq!(desk.head.rank(), None);
    assert!(matches!(desk.claim_by_name(), ClaimDecision::Owned(_)));
    desk.pass(PLAIN_LEASE - SECOND);
    assert!(desk.plan(|head, now, _| refresh_plainly(head, PLAIN_LEASE, now)));
    desk.pass(2 * SECOND);
    assert_eq!(desk.due(), Due::NotYet, "it was refreshed");
    desk.pass(PLAIN_LEASE);
    assert_eq!(desk.due(), Due::Ready);
    assert_eq!((desk.status(), desk.head.revision), (RunStatus::Queued, revision));
    assert!(desk.head.rank().is_some());
    assert!(desk.claim(), "it is to be had again");
}

#[test]
fn a_worker_that_went_silent_is_recovered_and_fenced() {
    let mut desk = running();
    let revision = desk.head.revision;
    desk.pass(PLAIN_LEASE);
    assert_eq!(desk.due(), Due::Ready);
    assert_eq!(desk.head.state, RunState::Queued { reason: QueuedReason::Recovery });
    assert_eq!((desk.head.revision, desk.head.attempts), (revision + 1, 1));
    desk.go(PlainState::Running).unwrap();
    let late = desk.transition(PlainState::Completed { output: None }, Some(revision), None, None);
    assert_eq!(late, Err(PlainError::Revision { expected: revision, actual: revision + 2 }));
}

#[test]
fn a_run_that_takes_its_workers_down_stalls() {
    let mut desk = create(run_id(1));
    for _ in 0..POISON_LIMIT {
        assert!(desk.claim());
        desk.go(PlainState::Running).unwrap();
        desk.pass(PLAIN_LEASE);
        assert_eq!(desk.due(), Due::Ready);
    }
    assert!(!desk.claim());
    assert_eq!(desk.status(), RunStatus::Stalled);
}

#[test]
fn what_is_illegal_is_said_before_the_revision_is_looked_at() {
    let mut desk = running();
    desk.go(PlainState::Completed { output: None }).unwrap();
    let stale = desk.transition(PlainState::Running, Some(0), None, None);
    assert!(matches!(stale, Err(PlainError::Illegal(_))), "{stale:?}");
    let mut desk = running();
    let stale = desk.transition(PlainState::Running, Some(0), None, None);
    assert!(matches!(stale, Err(PlainError::Revision { expected: 0, .. })), "{stale:?}");
}

#[test]
fn only_the_server_recovers() {
    let mut desk = running();
    let refused = desk.go(PlainState::Queued { reason: QueuedReason::Recovery });
    assert!(matches!(refused, Err(PlainError::Illegal(_))), "{refused:?}");
}

#[test]
fn our_own_worker_loses_a_run_that_a_plain_one_moves() {
    let mut desk = create(run_id(1));
    assert_eq!(desk.claim_by_name(), ClaimDecision::Granted);
    let epoch = desk.head.epoch;
    desk.go(PlainState::Running).unwrap();
    let report = Report { run: desk.head.id, epoch, seq: 1, signals: 0, transitions: vec![Transition::Suspended] };
    let context = ReportContext { children: &[], history_limit: 1_000 };
    let answer = desk.plan(|head, now, entries| plan::report(head, &report, context, now, entries));
    assert_eq!(answer, Err(ReportError::Lost));
}

#[test]
fn a_sleep_lasts_as_long_as_was_asked_for() {
    let mut desk = running();
    let slept = desk.go(sleep(MINUTE)).unwrap();
    assert_eq!(slept.state, RunState::Sleeping { name: "nap".into(), wakeup_at: desk.now.after(MINUTE) });
    assert_eq!(desk.head.lease, None);
    desk.pass(MINUTE);
    assert_eq!(desk.due(), Due::Ready);
    assert_eq!(desk.head.state, RunState::Queued { reason: QueuedReason::Wakeup });
    assert!(matches!(desk.record().sleeps[0].state, SleepState::Completed { duration_ms: 60_000, .. }));
}

#[test]
fn a_sleep_of_no_time_is_over_at_once() {
    let mut desk = running();
    desk.go(sleep(Duration::ZERO)).unwrap();
    assert_eq!(desk.due(), Due::Ready);
    assert!(matches!(desk.record().sleeps[0].state, SleepState::Completed { duration_ms: 1, .. }));
}

#[test]
fn waking_a_sleeper_cuts_its_sleep_short_also_when_it_is_to_start_later() {
    for delay in [Duration::ZERO, SECOND] {
        let mut desk = running();
        desk.go(sleep(MINUTE)).unwrap();
        let woken = desk.order(scheduled(ScheduledReason::WakeupEarly, delay)).unwrap();
        let expected =
            RunState::Scheduled { scheduled_at: desk.now.after(delay), reason: ScheduledReason::WakeupEarly };
        assert_eq!(woken.state, expected);
        assert!(matches!(desk.record().sleeps[0].state, SleepState::Cancelled { .. }));
        desk.pass(delay);
        desk.due();
        assert_eq!(desk.head.state, RunState::Queued { reason: QueuedReason::WakeupEarly });
        assert_eq!(desk.head.revision, woken.revision + 1);
        let again = desk.order(scheduled(ScheduledReason::WakeupEarly, delay));
        assert!(matches!(again, Err(PlainError::Illegal(_))), "{again:?}");
    }
}

#[test]
fn an_event_ends_the_wait_for_it_when_it_comes() {
    let mut desk = running();
    desk.event("other");
    desk.go(awaiting("paid", Some(MINUTE))).unwrap();
    desk.event("other");
    assert_eq!(desk.status(), RunStatus::AwaitingEvent, "nobody waits for that one");
    desk.event("paid");
    assert_eq!(desk.head.state, RunState::Queued { reason: QueuedReason::Event });
    assert!(desk.head.parked.is_empty());
    let record = desk.record();
    assert_eq!(record.waits[0].state, WaitState::Completed { event: Some(2) });
    assert_eq!(record.events[2].name, "paid");
    desk.pass(2 * MINUTE);
    desk.due();
    assert_eq!(desk.record().waits[0].state, WaitState::Completed { event: Some(2) }, "it does not time out as well");
}

#[test]
fn a_wait_for_an_event_times_out() {
    let mut desk = running();
    desk.go(awaiting("paid", Some(MINUTE))).unwrap();
    desk.pass(MINUTE);
    assert_eq!(desk.due(), Due::Ready);
    assert_eq!(desk.head.state, RunState::Queued { reason: QueuedReason::EventWaitTimeout });
    assert_eq!(desk.record().waits[0].state, WaitState::TimedOut { timed_out_at: desk.now });
}

#[test]
fn an_event_that_came_between_the_look_and_the_wait_wakes_the_run() {
    let mut desk = running();
    desk.event("paid");
    let revision = desk.head.revision;
    let waiting = desk.transition(awaiting("paid", None), Some(revision), None, Some(0)).unwrap();
    assert_eq!(waiting.revision, revision + 1);
    assert!(matches!(waiting.state, RunState::Scheduled { reason: ScheduledReason::Event, .. }), "{waiting:?}");
    assert_eq!(desk.head.state, RunState::Queued { reason: QueuedReason::Event });
    let mut desk = running();
    desk.event("paid");
    let revision = desk.head.revision;
    desk.transition(awaiting("paid", None), Some(revision), None, Some(1)).unwrap();
    assert_eq!(desk.status(), RunStatus::AwaitingEvent, "the worker has seen that one");
}

#[test]
fn a_child_that_ends_wakes_the_parent_that_waits_for_it() {
    let mut parent = running();
    let request = CreateRun::new(WorkflowKey::user("child", "1"), None, input_hash(None).unwrap());
    assert!(matches!(judge_parent(&parent.head, 0), Err(PlainError::Revision { expected: 0, .. })));
    judge_parent(&parent.head, parent.head.revision).unwrap();
    let revision = parent.head.revision;
    let place = parent.plan(|head, now, entries| adopt_plainly(head, run_id(2), &request, now, entries));
    assert_eq!(parent.head.revision, revision, "a child is no transition");
    let mut child = create(run_id(2));
    plan::adopt(&mut child.head, &parent.head, place);
    let awaited = Awaited { child: place_of(parent.head.id, &child.head), ended: false };
    assert_eq!(awaited.child, 0);
    let to = PlainState::AwaitingChild { child: run_id(2), awaited: RunStatus::Completed, timeout: Some(MINUTE) };
    parent.transition(to, Some(revision), Some(awaited), None).unwrap();
    assert_eq!(parent.status(), RunStatus::AwaitingChildWorkflow);
    let ended = RunState::Failed { cause: FailureCause::Own(error()) };
    parent.plan(|head, now, entries| plan::child_ended(head, 0, true, &ended, now, entries));
    assert_eq!(parent.head.state, RunState::Queued { reason: QueuedReason::ChildWorkflow });
    let record = parent.record();
    assert_eq!(record.waits[0].state, WaitState::Completed { event: None });
    assert_eq!(record.waits[0].awaited, Some(RunStatus::Completed), "what was awaited, not how it ended");
    assert_eq!(record.children[0].ended, Some(ended));
    assert_eq!(parent.head.open_children, 0);
}

#[test]
fn waiting_for_a_child_that_has_ended_is_one_transition_and_over_at_once() {
    let mut parent = running();
    let revision = parent.head.revision;
    let to = PlainState::AwaitingChild { child: run_id(2), awaited: RunStatus::Completed, timeout: None };
    let answer = parent.transition(to, Some(revision), Some(Awaited { child: 0, ended: true }), None).unwrap();
    assert_eq!(answer.revision, revision + 1);
    assert!(matches!(answer.state, RunState::Scheduled { reason: ScheduledReason::ChildWorkflow, .. }));
    assert_eq!(parent.head.state, RunState::Queued { reason: QueuedReason::ChildWorkflow });
    assert_eq!(parent.record().waits[0].state, WaitState::Completed { event: None });
}

#[test]
fn a_parked_task_leaves_the_run_running_until_it_is_due() {
    let mut desk = running();
    let (first, second) = (desk.open_task("first"), desk.open_task("second"));
    let revision = desk.head.revision;
    desk.task(TaskChange::Park { id: first, attempts: 1, error: error(), retry_in: SECOND }).unwrap();
    assert_eq!((desk.status(), desk.head.revision), (RunStatus::Running, revision));
    desk.task(TaskChange::Complete { id: second, attempts: 1, output: None }).unwrap();
    desk.pass(SECOND);
    assert_eq!(desk.due(), Due::Ready);
    assert_eq!(desk.head.state, RunState::Queued { reason: QueuedReason::TaskRetry });
    desk.go(PlainState::Running).unwrap();
    let retried = desk.task(TaskChange::Retry { id: first, attempts: 2 }).unwrap();
    assert_eq!(retried.state, TaskState::Running { attempts: 2 });
    desk.task(TaskChange::Fail { id: first, attempts: 2, error: error() }).unwrap();
    let counts = desk.head.counts;
    assert_eq!((counts.running, counts.awaiting_retry, counts.completed, counts.failed), (0, 0, 1, 1));
}

#[test]
fn a_task_moves_only_as_the_contract_says() {
    let mut desk = running();
    let id = desk.open_task("t");
    let complete = |id| TaskChange::Complete { id, attempts: 1, output: None };
    desk.task(TaskChange::Retry { id, attempts: 2 }).unwrap();
    desk.task(TaskChange::Park { id, attempts: 2, error: error(), retry_in: SECOND }).unwrap();
    assert!(matches!(desk.task(complete(id)), Err(PlainError::Refused(_))), "it waits for its next attempt");
    desk.task(TaskChange::Retry { id, attempts: 3 }).unwrap();
    desk.task(complete(id)).unwrap();
    assert!(matches!(desk.task(complete(id)), Err(PlainError::Refused(_))), "its result stands");
    let stranger = run_id(9).task(0);
    assert_eq!(desk.task(complete(stranger)), Err(PlainError::TaskNotFound(stranger)));
    let unborn = desk.head.id.task(7);
    assert_eq!(desk.task(complete(unborn)), Err(PlainError::TaskNotFound(unborn)));
    let request = TransitionTask { run: desk.head.id, expected_revision: 0, change: complete(stranger) };
    let stale = desk.try_plan(|head, now, entries| transition_task(head, &request, now, entries));
    assert!(matches!(stale, Err(PlainError::Revision { .. })), "the revision comes before the task: {stale:?}");
}

#[test]
fn a_retry_of_the_run_gives_up_what_did_not_complete() {
    let mut desk = running();
    let (failed, done) = (desk.open_task("failed"), desk.open_task("done"));
    desk.task(TaskChange::Fail { id: failed, attempts: 1, error: error() }).unwrap();
    desk.task(TaskChange::Complete { id: done, attempts: 1, output: None }).unwrap();
    let cause = FailureCause::Task(failed, None);
    desk.go(PlainState::Failed { cause: cause.clone() }).unwrap();
    desk.go(PlainState::AwaitingRetry { cause, retry_in: SECOND }).unwrap();
    desk.pass(SECOND);
    assert_eq!(desk.due(), Due::Ready);
    assert_eq!((desk.head.attempts, desk.head.counts.discarded), (2, 1));
    let tasks = desk.record().tasks;
    assert!(
        matches!(tasks[0].state, TaskState::Discarded { .. }) && matches!(tasks[1].state, TaskState::Completed { .. })
    );
}

#[test]
fn pausing_fences_the_worker_and_resuming_sends_the_run_back() {
    let mut desk = running();
    let revision = desk.head.revision;
    desk.order(PlainState::Paused).unwrap();
    let late = desk.transition(PlainState::Completed { output: None }, Some(revision), None, None);
    assert!(matches!(late, Err(PlainError::Illegal(_))), "{late:?}");
    assert!(matches!(desk.order(PlainState::Paused), Err(PlainError::Illegal(_))), "once is enough");
    let resumed = desk.order(scheduled(ScheduledReason::Resumption, Duration::ZERO)).unwrap();
    assert_eq!(resumed.state.status(), RunStatus::Scheduled);
    assert_eq!(desk.head.state, RunState::Queued { reason: QueuedReason::Resumption });
}

#[test]
fn a_caller_that_says_a_wait_is_over_ends_it() {
    let mut desk = running();
    desk.go(awaiting("paid", Some(MINUTE))).unwrap();
    desk.go(PlainState::Queued { reason: QueuedReason::EventWaitTimeout }).unwrap();
    assert!(matches!(desk.record().waits[0].state, WaitState::TimedOut { .. }));
    assert!(desk.head.rank().is_some(), "and the run is delivered");
    desk.go(PlainState::Running).unwrap();
    desk.go(awaiting("paid", None)).unwrap();
    desk.go(scheduled(ScheduledReason::Event, Duration::ZERO)).unwrap();
    assert_eq!(desk.head.state, RunState::Queued { reason: QueuedReason::Event });
    assert!(desk.head.parked.is_empty());
}
