//! The server's plans for what reaches a run from outside and for what it waits for: head and history never
//! tell different stories.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod support;

use std::time::Duration;

use aiki_core::failure::ErrorObject;
use aiki_core::hash::input_hash;
use aiki_core::name::WorkflowKey;
use aiki_core::report::ChildStart;
use aiki_core::run::head::ConcurrencyKey;
use aiki_core::run::plan::{
    self, ChildDecision, ClaimDecision, CreateRun, Deadline, Due, EventMessage, EventRefusal, ReportContext,
    ReportError, RunCommand, SetTaskError, TaskTarget,
};
use aiki_core::run::record::{signals, transitions};
use aiki_core::run::{
    Entry, FailureCause, HistoryEntry, ParkedStep, QueuedReason, ReceivedEvent, RunHead, RunOptions, RunState,
    RunStatus, SleepState, TaskState, TaskStatus, WaitOn, WaitState, history,
};
use aiki_core::{
    Name, Payload, Priority, Report, ReportReceipt, RetryStrategy, RunId, RunRecord, Timestamp, Transition,
};
use proptest::prelude::*;

use support::cases;
use support::server::{LEASE, RUN, counts};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const LIMIT: u32 = 400;

/// One run on a clock that is stepped by hand; its history as a store keeps it.
#[derive(Clone)]
struct Desk {
    head: RunHead,
    page: String,
    now: Timestamp,
    seq: u64,
    limit: u32,
    /// Children that this run started and that have not ended.
    open: Vec<u32>,
}

fn key() -> WorkflowKey {
    WorkflowKey::user("program", "1")
}

fn asked() -> CreateRun {
    CreateRun::new(key(), Payload::from_json("1").ok(), input_hash(Some("1")).unwrap())
}

impl Desk {
    fn new(request: &CreateRun) -> Self {
        let now = Timestamp::from_millis(1_000_000);
        let mut entries = Vec::new();
        let head = plan::create(request, RUN, &Name::new("test"), now, &mut entries);
        let mut desk = Self { head, page: String::new(), now, seq: 0, limit: LIMIT, open: Vec::new() };
        desk.store(entries);
        desk
    }

    /// A run that a worker holds.
    fn claimed() -> Self {
        let mut desk = Self::new(&asked());
        assert_eq!(desk.claim(), ClaimDecision::Granted);
        desk
    }

    fn store(&mut self, entries: Vec<HistoryEntry>) {
        let continued = entries.iter().rposition(|entry| matches!(entry.entry, Entry::Continued { .. }));
        if continued.is_some() {
            self.page.clear();
        }
        history::append(&mut self.page, &entries[continued.unwrap_or(0)..]).unwrap();
        let read: RunHead = serde_json::from_str(&serde_json::to_string(&self.head).unwrap()).unwrap();
        assert_eq!(read, self.head, "a head survives being stored");
    }

    fn entries(&self) -> Vec<HistoryEntry> {
        history::parse(&self.page).map(|entry| entry.unwrap()).collect()
    }

    fn record(&self) -> RunRecord {
        RunRecord::fold(&self.head, self.entries())
    }

    /// Lets a plan work. One that refuses has changed nothing.
    fn plan<T, E>(
        &mut self,
        plan: impl FnOnce(&mut RunHead, Timestamp, &mut Vec<HistoryEntry>) -> Result<T, E>,
    ) -> Result<T, E> {
        let (before, mut entries) = (self.head.clone(), Vec::new());
        let answer = plan(&mut self.head, self.now, &mut entries);
        if answer.is_err() {
            assert_eq!((&self.head, entries.len()), (&before, 0), "what is refused changes nothing");
        }
        self.store(entries);
        answer
    }

    fn claim(&mut self) -> ClaimDecision {
        let claimed =
            self.plan(|head, now, entries| Ok::<_, ()>(plan::claim(head, &Name::new("worker"), LEASE, now, entries)));
        if claimed == Ok(ClaimDecision::Granted) {
            self.seq = 0;
        }
        claimed.unwrap()
    }

    fn due(&mut self) -> Due {
        self.plan(|head, now, entries| Ok::<_, ()>(plan::due(head, now, entries))).unwrap()
    }

    fn pass(&mut self, time: Duration) {
        self.now = self.now.after(time);
    }

    fn try_report(&mut self, signals: u32, transitions: Vec<Transition>) -> Result<ReportReceipt, ReportError> {
        let report = Report { run: RUN, epoch: self.head.epoch, seq: self.seq + 1, signals, transitions };
        let opens = |transition: &&Transition| matches!(transition, Transition::ChildOpened { .. });
        let count = report.transitions.iter().filter(opens).count() as u32;
        let first = self.head.children_opened;
        // Every third child is refused, every third found.
        let decide = |at: u32| match (first + at) % 3 {
            2 => ChildDecision::Refused(ErrorObject::new("ChildDepthExceeded", "too deep")),
            1 => ChildDecision::Existing { run: child_run(first + at), ended: None },
            _ => ChildDecision::New(child_run(first + at)),
        };
        let children: Vec<_> = (0..count).map(decide).collect();
        let context = ReportContext { children: &children, history_limit: self.limit };
        let answer = self.plan(|head, now, entries| plan::report(head, &report, context, now, entries));
        if answer.is_ok() {
            self.seq += 1;
            self.open.extend((first..first + count).filter(|ordinal| ordinal % 3 == 0));
        }
        answer
    }

    #[track_caller]
    fn report(&mut self, transitions: Vec<Transition>) -> ReportReceipt {
        self.try_report(self.head.signals, transitions).unwrap()
    }

    fn send(&mut self, name: &str) -> Result<(), EventRefusal> {
        let message = EventMessage { name: name.into(), data: None, reference_id: None };
        let limit = self.limit;
        self.plan(|head, now, entries| plan::receive_event(head, &message, limit, false, now, entries))
    }

    fn end_child(&mut self, child: u32, state: &RunState) {
        let own = self.open.iter().position(|open| *open == child).map(|at| self.open.remove(at)).is_some();
        let ended = self.plan(|head, now, entries| {
            plan::child_ended(head, child, own, state, now, entries);
            Ok::<_, ()>(())
        });
        ended.unwrap();
    }

    fn command(&mut self, command: RunCommand) -> bool {
        self.plan(|head, now, entries| plan::command(head, command, now, entries)).is_ok()
    }

    fn set_task(&mut self, target: &TaskTarget, fail: bool) -> Result<(), SetTaskError> {
        let result = if fail { Err(ErrorObject::new("E", "no")) } else { Ok(None) };
        self.plan(|head, now, entries| plan::set_task_result(head, target, 2, &result, now, entries))
    }
}

fn child_run(ordinal: u32) -> RunId {
    RunId::from_bits(RUN.to_bits() + ((u128::from(ordinal) + 1) << 24))
}

fn own(name: &str) -> FailureCause {
    FailureCause::Own(ErrorObject::new(name, "broken"))
}

fn opened(ordinal: u32) -> Transition {
    let (id, input_hash) = (RUN.task(ordinal), input_hash(Some("1")).unwrap());
    Transition::TaskOpened { id, name: "t".into(), input_hash, input: None, retry: None }
}

fn completed(ordinal: u32) -> Transition {
    Transition::TaskCompleted { id: RUN.task(ordinal), attempts: 1, output: None }
}

fn parked(ordinal: u32, retry_in: Duration) -> Transition {
    Transition::TaskParked { id: RUN.task(ordinal), attempts: 1, error: ErrorObject::new("E", "broken"), retry_in }
}

fn slept(ordinal: u32, duration: Duration) -> Transition {
    Transition::SleepOpened { ordinal, name: "nap".into(), duration }
}

fn wait(ordinal: u32, on: WaitOn, timeout: Option<Duration>) -> Transition {
    Transition::WaitOpened { ordinal, on, run: None, timeout }
}

fn paid(ordinal: u32, timeout: Option<Duration>) -> Transition {
    wait(ordinal, WaitOn::Event("paid".into()), timeout)
}

fn child(ordinal: u32) -> Transition {
    let start = ChildStart {
        workflow: key(),
        input: None,
        input_hash: input_hash(None).unwrap(),
        reference: None,
        options: RunOptions::default(),
        priority: Priority::default(),
        time_limit: None,
    };
    Transition::ChildOpened { ordinal, start: Box::new(start) }
}

fn again() -> Transition {
    Transition::ContinuedAsNew { input: None, events: Vec::new() }
}

fn retried(retry_in: Duration) -> Transition {
    Transition::RetryScheduled { cause: own("E"), retry_in }
}

// ---- what the suite of servers cannot reach ----

#[test]
fn a_retried_run_gives_up_waits_that_last_in_head_and_history() {
    let mut desk = Desk::claimed();
    desk.report(vec![child(0), wait(0, WaitOn::Child(0), Some(MINUTE * 9)), paid(1, Some(MINUTE * 9))]);
    // It ends badly, and the handler fails of something else before it has seen that.
    desk.end_child(0, &RunState::Cancelled { explanation: None });
    desk.report(vec![retried(MINUTE)]);
    desk.pass(MINUTE);
    assert_eq!(desk.due(), Due::Ready);
    let record = desk.record();
    assert!(record.children[0].discarded, "a new attempt does not take it over");
    assert!(record.waits.iter().all(|wait| wait.discarded), "nothing had come of them: they begin anew");
    assert!(desk.head.parked.is_empty(), "{:?}", desk.head.parked);
    check(&desk).unwrap();
    assert_eq!(desk.claim(), ClaimDecision::Granted);
    desk.report(vec![paid(2, None), Transition::Suspended]);
    assert!(matches!(&desk.head.state, RunState::AwaitingEvent { event, timeout_at: None } if event == "paid"));
    check(&desk).unwrap();
}

#[test]
fn a_retried_run_forgets_the_outcome_of_a_child_that_did_not_complete() {
    let mut desk = Desk::claimed();
    desk.report(vec![child(0), wait(0, WaitOn::Child(0), None)]);
    desk.end_child(0, &RunState::Failed { cause: own("E") });
    desk.report(vec![Transition::WaitCompleted { ordinal: 0, event: None }, retried(SECOND)]);
    desk.pass(SECOND);
    desk.due();
    let record = desk.record();
    assert_eq!((record.waits[0].state, record.waits[0].settled), (WaitState::Dropped, None));
}

#[test]
fn a_handler_error_named_like_a_deadline_tells_one_story() {
    let mut desk = Desk::claimed();
    let end = Transition::Failed { cause: own(plan::DEADLINE_EXCEEDED) };
    desk.report(vec![opened(0), opened(1), completed(1), end]);
    assert_eq!(desk.record().tasks[0].state.status(), TaskStatus::Discarded);
    check(&desk).unwrap();
}

#[test]
fn a_deadline_comes_before_everything_else_that_is_due() {
    let mut desk = Desk::new(&CreateRun { deadline: Some(Deadline::Within(MINUTE)), ..asked() });
    desk.claim();
    desk.report(vec![slept(0, MINUTE), slept(1, SECOND), Transition::Suspended]);
    desk.pass(MINUTE);
    assert_eq!(desk.due(), Due::Moved);
    assert!(matches!(desk.head.state, RunState::Failed { .. }));
    let cut = desk.record().sleeps.into_iter().filter(|sleep| matches!(sleep.state, SleepState::Cancelled { .. }));
    assert_eq!(cut.count(), 2);
    assert_eq!((desk.head.due_at(), desk.due()), (None, Due::NotYet));
}

#[test]
fn a_run_that_is_held_back_is_due_for_its_deadline_only() {
    let concurrency = Some(ConcurrencyKey { key: "k".into(), limit: 1 });
    let mut desk = Desk::new(&CreateRun { concurrency, ..asked() });
    plan::hold_back(&mut desk.head);
    assert_eq!((desk.head.due_at(), desk.head.rank()), (None, None));
    let announced = desk.head.announce;
    plan::let_in(&mut desk.head, desk.now);
    assert!(desk.head.rank().is_some());
    assert_ne!(desk.head.announce, announced, "also within one millisecond, it is seen to be announced anew");
    plan::hold_back(&mut desk.head);
    desk.head.deadline = Some(desk.now.after(MINUTE));
    assert_eq!(desk.head.due_at(), desk.head.deadline);
}

#[test]
fn a_run_whose_history_is_full_leaves_no_sleep_behind() {
    let mut desk = Desk::claimed();
    desk.limit = desk.head.history_len + 1;
    let nap = Transition::SleepOpened { ordinal: 0, name: "nap".into(), duration: MINUTE };
    desk.report(vec![nap, opened(0)]);
    assert!(matches!(desk.head.state, RunState::Failed { .. }), "{:?}", desk.head.state);
    let record = desk.record();
    assert!(matches!(record.sleeps[0].state, SleepState::Cancelled { .. }), "{:?}", record.sleeps);
    check(&desk).unwrap();
}

#[test]
fn events_that_are_never_taken_fill_the_history_of_a_run_that_continues() {
    let mut desk = Desk::claimed();
    desk.limit = desk.head.history_len + 12;
    for _ in 0..10 {
        desk.send("note").unwrap();
    }
    let events = || {
        let received_at = Timestamp::from_millis(1);
        vec![ReceivedEvent { name: "note".into(), data: None, reference_id: None, received_at }; 10]
    };
    desk.report(vec![Transition::ContinuedAsNew { input: None, events: events() }]);
    check(&desk).unwrap();
    let sent: Vec<bool> = (0..8).map(|_| desk.send("note").is_ok()).collect();
    assert!(sent[0] && !sent[7], "{sent:?}");
}

#[test]
fn a_run_that_continues_for_ever_waits_for_a_shared_child_once() {
    let mut parent = Desk::claimed();
    let mut shared = Desk::new(&asked());
    for ordinal in 0..2_000 {
        assert!(!plan::is_crowded(&shared.head, &parent.head));
        plan::listen(&mut shared.head, &parent.head, ordinal);
        parent.head.base.children = ordinal + 1;
    }
    assert_eq!(shared.head.listeners.len(), 1);
}

#[test]
fn a_repeated_report_knows_of_later_signals() {
    let mut desk = Desk::claimed();
    let report = Report { run: RUN, epoch: 1, seq: 1, signals: 0, transitions: vec![opened(0)] };
    let context = ReportContext { children: &[], history_limit: LIMIT };
    let mut entries = Vec::new();
    let first = plan::report(&mut desk.head, &report, context, desk.now, &mut entries).unwrap();
    desk.send("paid").unwrap();
    let repeated = plan::report(&mut desk.head, &report, context, desk.now, &mut entries).unwrap();
    assert_eq!((first.signals, repeated.signals, first.revision == repeated.revision), (0, 1, true));
}

#[test]
fn a_refused_child_counts_as_a_signal_that_its_worker_has_not_seen() {
    let mut desk = Desk::claimed();
    let wait = wait(0, WaitOn::Child(2), None);
    let receipt = desk.report(vec![child(0), child(1), child(2), wait, Transition::Suspended]);
    assert_eq!(receipt.children, [Some(child_run(0)), Some(child_run(1)), None]);
    assert!(matches!(desk.head.state, RunState::Queued { .. }));
    assert_eq!(desk.head.open_children, 1, "found runs and refused ones are not its own");
    check(&desk).unwrap();
}

#[test]
fn a_child_that_nothing_was_decided_about_is_illegal() {
    let mut desk = Desk::claimed();
    let report = Report { run: RUN, epoch: 1, seq: 1, signals: 0, transitions: vec![child(0)] };
    let context = ReportContext { children: &[], history_limit: LIMIT };
    let refused = desk.plan(|head, now, entries| plan::report(head, &report, context, now, entries));
    assert!(matches!(refused, Err(ReportError::Illegal(_))), "{refused:?}");
}

#[test]
fn illegal_steps_of_waits_and_children_are_refused_whole() {
    let desk = {
        let mut desk = Desk::claimed();
        desk.report(vec![opened(0), paid(0, None), child(0)]);
        desk
    };
    let cases: Vec<(&str, Vec<Transition>)> = vec![
        ("a wait out of turn", vec![paid(2, None)]),
        ("a wait that ends twice", vec![Transition::WaitCompleted { ordinal: 0, event: Some(0) }; 2]),
        ("a wait that never began", vec![Transition::WaitTimedOut { ordinal: 7 }]),
        ("a wait that is dropped twice", vec![Transition::WaitDropped { ordinal: 0 }; 2]),
        ("a child out of turn", vec![child(5)]),
        (
            "progress of a task that ended",
            vec![
                completed(0),
                Transition::TaskProgressed { id: RUN.task(0), checkpoint: Payload::from_json("1").unwrap() },
            ],
        ),
        (
            "progress of a task that waits",
            vec![
                parked(0, SECOND),
                Transition::TaskProgressed { id: RUN.task(0), checkpoint: Payload::from_json("1").unwrap() },
            ],
        ),
        ("something after a new beginning", vec![again(), opened(1)]),
        ("a task of before a new beginning", vec![again(), completed(0)]),
    ];
    for (what, mut transitions) in cases {
        transitions.insert(0, Transition::TimeRead { time: Timestamp::from_millis(1) });
        let mut desk = desk.clone();
        let refused = desk.try_report(0, transitions);
        assert!(matches!(refused, Err(ReportError::Illegal(_))), "{what}: {refused:?}");
        desk.report(vec![completed(0)]);
    }
}

#[test]
fn a_handler_full_of_events_can_still_begin_again() {
    let mut desk = Desk { limit: 12, ..Desk::claimed() };
    let mut sent = 0;
    while desk.send("paid").is_ok() {
        sent += 1;
    }
    assert_eq!(desk.head.history_len, 12);
    // It has not seen the last one, so that it may not begin again yet; that is no reason to fail.
    desk.try_report(sent - 1, vec![again()]).unwrap();
    assert!(matches!(desk.head.state, RunState::Queued { .. }), "{:?}", desk.head.state);
    desk.claim();
    desk.report(vec![again()]);
    assert!(desk.head.history_len <= 2);
    desk.send("paid").unwrap();
    check(&desk).unwrap();
}

#[test]
fn a_handler_that_could_not_begin_again_is_replayed_in_silence() {
    let mut desk = Desk::claimed();
    desk.report(vec![opened(0), completed(0)]);
    desk.send("paid").unwrap();
    desk.try_report(0, vec![again()]).unwrap();
    assert_eq!(desk.head.seen, Some(1));
    desk.claim();
    desk.report(vec![again()]);
    assert_eq!((desk.head.seen, desk.head.settled_before), (None, 1));
}

#[test]
fn an_end_of_a_child_from_before_a_new_beginning_ends_nothing_new() {
    let mut desk = Desk::claimed();
    desk.report(vec![child(0), again()]);
    desk.claim();
    desk.report(vec![child(1), wait(0, WaitOn::Child(1), None), Transition::Suspended]);
    desk.end_child(0, &RunState::Completed { output: None });
    assert_eq!(desk.head.state.status(), RunStatus::AwaitingChildWorkflow);
    assert_eq!(desk.head.open_children, 0, "the first was its own, the second was found");
    assert_eq!(desk.record().children[0].ended, None);
    check(&desk).unwrap();
    desk.end_child(1, &RunState::Completed { output: None });
    assert!(matches!(desk.head.state, RunState::Queued { reason: QueuedReason::ChildWorkflow }));
}

#[test]
fn an_operators_result_counts_as_progress() {
    let mut desk = Desk::claimed();
    desk.report(vec![opened(0)]);
    for _ in 0..plan::POISON_LIMIT {
        desk.pass(LEASE);
        desk.due();
        desk.claim();
    }
    assert_eq!(desk.head.deliveries, plan::POISON_LIMIT);
    desk.set_task(&TaskTarget::Existing(RUN.task(0)), false).unwrap();
    assert_eq!(desk.claim(), ClaimDecision::Granted, "it is not stalled");
}

#[test]
fn a_run_with_a_child_of_every_kind_of_limit_passes_on_the_nearest() {
    let parent = |deadline| Desk::new(&CreateRun { deadline, ..asked() }).head;
    let Transition::ChildOpened { start, .. } = child(0) else { unreachable!() };
    let now = Timestamp::from_millis(1_000_000);
    let table = [(None, None, None), (Some(9), None, Some(9)), (None, Some(4), Some(4)), (Some(9), Some(4), Some(4))];
    for (of_parent, of_child, expected) in table.into_iter().chain([(Some(3), Some(4), Some(3))]) {
        let parent = parent(of_parent.map(|secs| Deadline::Within(SECOND * secs)));
        let start = ChildStart { time_limit: of_child.map(|secs| SECOND * secs), ..(*start).clone() };
        let request = plan::child_request(&parent, &start);
        let mut head = plan::create(&request, child_run(0), &Name::new("test"), now, &mut Vec::new());
        plan::adopt(&mut head, &parent, 7);
        assert_eq!(head.deadline, expected.map(|secs| now.after(SECOND * secs)));
        assert_eq!((head.parent, head.depth, head.listeners[0].child), (Some(RUN), 1, 7));
    }
}

#[test]
fn the_canceller_is_the_run_that_the_contract_describes() {
    let request = aiki_core::system::cancel_children_of(RUN, Some(Name::new("gpu"))).unwrap();
    assert_eq!(request.input.as_ref().map(Payload::as_str), Some(format!("\"{RUN}\"").as_str()));
    assert_eq!(request.input_hash, input_hash(Some(&format!("\"{RUN}\""))).unwrap());
    let retry = RetryStrategy::exponential((1 << 53) - 1, SECOND).max_delay(SECOND * 30);
    assert_eq!(request.options, Some(RunOptions { pool: Some(Name::new("gpu")), retry: Some(retry) }));
    assert_eq!((request.reference, request.delay), (None, Duration::ZERO));
}

// ---- random histories ----

#[derive(Clone, Debug)]
enum Request {
    Claim,
    Release,
    Due,
    Wait(u64),
    Cancel,
    Send(bool),
    EndChild(u32, u8),
    Command(RunCommand),
    SetTask(u32, bool),
    Seed,
    Report { behind: bool, told: Vec<Told> },
}

/// A part of a report; numbers count back from the newest that would do.
#[derive(Clone, Copy, Debug)]
enum Told {
    Open,
    Complete(u32),
    Fail(u32),
    Park(u32, u64),
    Restart(u32),
    Progress(u32),
    Sleep(u64),
    Wake(u32),
    WaitEvent(bool, Option<u64>),
    WaitChild(u32, Option<u64>),
    EndWait(u32, u8),
    Child,
    CancelChild,
    Continue,
    Suspend,
    End,
    Retry(u64),
}

fn any_told() -> impl Strategy<Value = Told> {
    let timeout = || prop::option::of(0..90u64);
    prop_oneof![
        4 => Just(Told::Open),
        3 => (0..4u32).prop_map(Told::Complete),
        1 => (0..4u32).prop_map(Told::Fail),
        2 => (0..4u32, 0..90u64).prop_map(|(task, secs)| Told::Park(task, secs)),
        2 => (0..4u32).prop_map(Told::Restart),
        2 => (0..4u32).prop_map(Told::Progress),
        2 => (0..90u64).prop_map(Told::Sleep),
        1 => (0..3u32).prop_map(Told::Wake),
        3 => (any::<bool>(), timeout()).prop_map(|(name, timeout)| Told::WaitEvent(name, timeout)),
        3 => (0..3u32, timeout()).prop_map(|(child, timeout)| Told::WaitChild(child, timeout)),
        3 => (0..4u32, 0..3u8).prop_map(|(wait, how)| Told::EndWait(wait, how)),
        3 => Just(Told::Child),
        1 => Just(Told::CancelChild),
        1 => Just(Told::Continue),
        4 => Just(Told::Suspend),
        1 => Just(Told::End),
        1 => (0..90u64).prop_map(Told::Retry),
    ]
}

fn any_request() -> impl Strategy<Value = Request> {
    let commands = [RunCommand::Pause, RunCommand::Resume, RunCommand::WakeUp, RunCommand::Requeue];
    prop_oneof![
        8 => Just(Request::Claim),
        1 => Just(Request::Release),
        4 => Just(Request::Due),
        3 => (0..60u64).prop_map(Request::Wait),
        1 => Just(Request::Cancel),
        3 => any::<bool>().prop_map(Request::Send),
        3 => (0..4u32, 0..3u8).prop_map(|(child, how)| Request::EndChild(child, how)),
        4 => prop::sample::select(commands.to_vec()).prop_map(Request::Command),
        1 => (0..4u32, any::<bool>()).prop_map(|(task, fail)| Request::SetTask(task, fail)),
        1 => Just(Request::Seed),
        12 => (prop::bool::weighted(0.3), prop::collection::vec(any_told(), 1..6))
            .prop_map(|(behind, told)| Request::Report { behind, told }),
    ]
}

/// The `n`-th newest of those that fit.
fn newest<T>(list: &[T], n: u32, fits: impl Fn(&T) -> bool) -> Option<u32> {
    let fitting: Vec<u32> = (0..list.len() as u32).filter(|at| fits(&list[*at as usize])).collect();
    fitting.iter().rev().nth(n as usize % fitting.len().max(1)).copied()
}

/// What a worker could have meant by it.
fn meant(desk: &Desk, told: &[Told]) -> Vec<Transition> {
    let mut record = desk.record();
    let base = desk.head.base;
    let mut count = record.ordinals;
    let mut children_before = desk.head.children_opened;
    let mut transitions = Vec::new();
    let secs = |secs: u64| Duration::from_secs(secs);
    for told in told {
        let task = |record: &RunRecord, n, status| {
            newest(&record.tasks, n, |task| task.state.status() == status).map(|at| at as usize)
        };
        let next = |count: &mut u32| {
            *count += 1;
            *count - 1
        };
        match *told {
            Told::Open => transitions.push(opened(next(&mut count.tasks))),
            Told::Complete(n) | Told::Fail(n) | Told::Park(n, _) | Told::Progress(n) => {
                let Some(at) = task(&record, n, TaskStatus::Running) else { continue };
                let (ordinal, error) = (base.tasks + at as u32, ErrorObject::new("E", "no"));
                let id = RUN.task(ordinal);
                transitions.push(match *told {
                    Told::Complete(_) => completed(ordinal),
                    Told::Fail(_) => Transition::TaskFailed { id, attempts: 1, error },
                    Told::Park(_, after) => parked(ordinal, secs(after)),
                    _ => Transition::TaskProgressed { id, checkpoint: Payload::from_json("1").unwrap() },
                });
                if !matches!(told, Told::Progress(_)) {
                    record.tasks[at].state = TaskState::Discarded { attempts: 1 };
                }
            }
            Told::Restart(n) => {
                let Some(at) = task(&record, n, TaskStatus::AwaitingRetry) else { continue };
                record.tasks[at].state = TaskState::Discarded { attempts: 1 };
                transitions.push(Transition::TaskRestarted { id: RUN.task(base.tasks + at as u32), attempts: 2 });
            }
            Told::Sleep(duration) => transitions.push(slept(next(&mut count.sleeps), secs(duration))),
            Told::Wake(n) => {
                let lasts = |state: &SleepState| matches!(state, SleepState::Sleeping { .. });
                let Some(at) = newest(&record.sleeps, n, |sleep| lasts(&sleep.state)) else { continue };
                record.sleeps[at as usize].state = SleepState::Cancelled { cancelled_at: desk.now };
                transitions.push(Transition::SleepCompleted { ordinal: base.sleeps + at });
            }
            Told::WaitEvent(name, timeout) => {
                let on = WaitOn::Event(if name { "paid" } else { "shipped" }.into());
                transitions.push(wait(next(&mut count.waits), on, timeout.map(secs)));
            }
            Told::WaitChild(n, timeout) => {
                let since = children_before - base.children;
                let Some(back) = since.checked_sub(1 + n) else { continue };
                let child = base.children + back;
                // One that this report starts is not known to the worker yet.
                let run = record.children.iter().find(|known| known.ordinal == child).and_then(|child| child.run);
                let (ordinal, on) = (next(&mut count.waits), WaitOn::Child(child));
                transitions.push(Transition::WaitOpened { ordinal, on, run, timeout: timeout.map(secs) });
            }
            Told::EndWait(n, how) => {
                let lasts = |state: &WaitState| matches!(state, WaitState::Waiting { .. });
                let Some(at) = newest(&record.waits, n, |wait| lasts(&wait.state)) else { continue };
                record.waits[at as usize].state = WaitState::Dropped;
                let ordinal = base.waits + at;
                transitions.push(match how {
                    0 => Transition::WaitCompleted { ordinal, event: None },
                    1 => Transition::WaitTimedOut { ordinal },
                    _ => Transition::WaitDropped { ordinal },
                });
            }
            Told::Child => {
                transitions.push(child(next(&mut count.children)));
                children_before = count.children;
            }
            Told::CancelChild => {
                let Some(ordinal) = count.children.checked_sub(1) else { continue };
                transitions.push(Transition::ChildCancelled { ordinal, run: None });
            }
            Told::Continue => transitions.push(again()),
            Told::Suspend => transitions.push(Transition::Suspended),
            Told::End => transitions.push(Transition::Completed { output: None }),
            Told::Retry(after) => transitions.push(retried(secs(after))),
        }
        if transitions.last().is_some_and(Transition::ends_claim) {
            break;
        }
    }
    transitions
}

/// What the history says is parked, with the time of sleeps and waits.
fn parked_by_record(head: &RunHead, record: &RunRecord) -> Vec<(ParkedStep, Option<Timestamp>)> {
    let mut steps = Vec::new();
    for (at, sleep) in record.sleeps.iter().enumerate() {
        if let SleepState::Sleeping { wakeup_at } = sleep.state {
            let ordinal = head.base.sleeps + at as u32;
            steps.push((ParkedStep::Sleep { ordinal, name: sleep.name.clone() }, Some(wakeup_at)));
        }
    }
    for task in &record.tasks {
        if matches!(task.state, TaskState::AwaitingRetry { .. }) {
            steps.push((ParkedStep::Task(task.id.ordinal()), None));
        }
    }
    for wait in record.waits.iter().filter(|wait| !wait.discarded) {
        let WaitState::Waiting { timeout_at } = wait.state else { continue };
        let ordinal = wait.ordinal;
        let step = match &wait.on {
            WaitOn::Event(name) => ParkedStep::Event { ordinal, name: name.clone() },
            WaitOn::Child(child) => {
                let known = record.children.iter().find(|known| known.ordinal == *child).and_then(|child| child.run);
                ParkedStep::Child { ordinal, child: *child, run: known.unwrap_or(RunId::from_bits(0)) }
            }
        };
        steps.push((step, Some(timeout_at.unwrap_or(Timestamp::MAX))));
    }
    steps
}

/// What must hold of a run at any time.
fn check(desk: &Desk) -> Result<(), TestCaseError> {
    let (head, entries, record) = (&desk.head, desk.entries(), desk.record());
    prop_assert_eq!(counts(&record), head.counts);
    let carried = entries.iter().map(|entry| match &entry.entry {
        Entry::Continued { events, .. } => events.len() as u32,
        _ => 0,
    });
    prop_assert_eq!(entries.len() as u32 + carried.sum::<u32>(), head.history_len);
    prop_assert_eq!(head.open_children as usize, desk.open.len());
    let since = head.base;
    let now = head.ordinals();
    prop_assert_eq!(record.tasks.len() as u32, now.tasks - since.tasks);
    prop_assert_eq!(record.sleeps.len() as u32, now.sleeps - since.sleeps);
    prop_assert_eq!(record.waits.len() as u32, now.waits - since.waits);
    prop_assert_eq!(record.children.len() as u32, now.children - since.children);
    prop_assert_eq!(signals(head, 0, entries.clone()).len() as u32, now.signals - since.signals);
    let listed = transitions(head, entries.clone());
    prop_assert_eq!(listed.len() as u32, now.transitions - since.transitions);
    prop_assert!(listed.iter().any(|entry| entry.id == head.state_transition_id()));
    let settled = entries.iter().filter(|entry| entry.entry.settles()).count() as u64;
    prop_assert_eq!(settled + head.settled_before, head.settled);
    prop_assert_eq!(head.announce.is_some(), matches!(head.state, RunState::Queued { .. }));
    prop_assert!(head.lease.is_none() || head.state == RunState::Running);
    let under_way = |state: &TaskState| matches!(state.status(), TaskStatus::Running | TaskStatus::AwaitingRetry);
    let open: Vec<u32> =
        record.tasks.iter().filter(|task| under_way(&task.state)).map(|task| task.id.ordinal()).collect();
    prop_assert!(head.checkpoints.iter().all(|checkpoint| open.contains(&checkpoint.task)));
    if head.state.is_terminal() {
        prop_assert!(head.parked.is_empty() && head.due_at().is_none());
        return Ok(());
    }
    prop_assert_eq!(&head.open_tasks, &open);
    let expected = parked_by_record(head, &record);
    prop_assert_eq!(expected.len(), head.parked.len(), "{:?}\n{:?}", expected, head.parked);
    for (step, due) in expected {
        let found = head.parked.iter().find(|parked| parked.step == step);
        prop_assert!(found.is_some_and(|parked| due.is_none_or(|due| due == parked.due)), "{:?}: {:?}", step, found);
    }
    // A run that has not ended is found again, unless it waits for somebody else.
    let somebody = match &head.state {
        RunState::Paused | RunState::Stalled => true,
        RunState::AwaitingEvent { timeout_at, .. } | RunState::AwaitingChild { timeout_at, .. } => timeout_at.is_none(),
        _ => false,
    };
    prop_assert!(head.due_at().is_some() || somebody, "{:?}", head.state);
    Ok(())
}

fn play(desk: &mut Desk, request: Request) {
    match request {
        Request::Claim => drop(desk.claim()),
        Request::Release => {
            let epoch = desk.head.epoch;
            desk.plan(|head, now, entries| Ok::<_, ()>(plan::release(head, epoch, now, entries))).unwrap();
        }
        Request::Due => drop(desk.due()),
        Request::Wait(secs) => desk.pass(Duration::from_secs(secs)),
        Request::Cancel => drop(desk.plan(|head, now, entries| plan::cancel(head, None, now, entries))),
        Request::Send(paid) => drop(desk.send(if paid { "paid" } else { "shipped" })),
        Request::EndChild(n, how) if !desk.head.state.is_terminal() => {
            let record = desk.record();
            let open = |child: &aiki_core::run::ChildRecord| child.ended.is_none();
            let Some(at) = newest(&record.children, n, open) else { return };
            let state = match how {
                0 => RunState::Completed { output: None },
                1 => RunState::Failed { cause: own("E") },
                _ => RunState::Cancelled { explanation: None },
            };
            desk.end_child(record.children[at as usize].ordinal, &state);
        }
        Request::EndChild(..) => {}
        Request::Command(command) => drop(desk.command(command)),
        Request::SetTask(n, fail) => {
            let Some(task) = desk.head.tasks_opened.checked_sub(1 + n) else { return };
            let _ = desk.set_task(&TaskTarget::Existing(RUN.task(task)), fail);
        }
        Request::Seed => {
            let target = TaskTarget::New { name: "t".into(), input: None, input_hash: input_hash(None).unwrap() };
            let _ = desk.set_task(&target, false);
        }
        Request::Report { behind, told } => {
            let signals = desk.head.signals.saturating_sub(u32::from(behind));
            let _ = desk.try_report(signals, meant(desk, &told));
        }
    }
}

proptest! {
    #![proptest_config(cases(400))]

    #[test]
    fn head_and_history_agree_whatever_reaches_a_run(
        deadline in prop::option::weighted(0.2, 1..300u64),
        requests in prop::collection::vec(any_request(), 1..60),
    ) {
        let deadline = deadline.map(|secs| Deadline::Within(Duration::from_secs(secs)));
        let mut desk = Desk::new(&CreateRun { deadline, ..asked() });
        check(&desk)?;
        for request in requests {
            let before = desk.head.clone();
            play(&mut desk, request);
            check(&desk)?;
            let head = &desk.head;
            prop_assert!(head.revision >= before.revision && head.epoch >= before.epoch);
            prop_assert!(head.signals >= before.signals && head.settled >= before.settled);
            prop_assert!(!before.state.is_terminal() || head.state == before.state, "an end is an end");
        }
    }
}
