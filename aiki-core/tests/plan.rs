//! The server's plans: who may write, what a report may say, what time does by itself, and that head and
//! history never tell different stories.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod support;

use std::sync::Arc;
use std::time::Duration;

use aiki_core::failure::ErrorObject;
use aiki_core::hash::input_hash;
use aiki_core::name::{Source, WorkflowKey};
use aiki_core::run::plan::{self, ClaimDecision, CreateRun, Due, LeaseDecision, ReportError};
use aiki_core::run::record::transitions;
use aiki_core::run::{
    Entry, FailureCause, HistoryEntry, QueuedReason, RunHead, RunState, RunStatus, ScheduledReason, SleepState,
    TaskCounts, TaskState,
};
use aiki_core::{Clock, Name, Payload, Report, RunId, Timestamp, Transition};
use proptest::prelude::*;

use support::server::{LEASE, RUN, counts};
use support::{ManualClock, Server, cases};

const MINUTE: Duration = Duration::from_secs(60);

fn key() -> WorkflowKey {
    WorkflowKey { source: Source::User, name: Name::new("program"), version: Name::new("1") }
}

fn server() -> Server {
    Server::new(&key(), 5, Arc::new(ManualClock::new()))
}

/// A server whose run is claimed for the first time.
fn claimed() -> Server {
    let mut server = server();
    assert_eq!(server.claim().unwrap().epoch, 1);
    server
}

fn report(server: &Server, seq: u64, transitions: Vec<Transition>) -> Report {
    Report { run: server.head.id, epoch: server.head.epoch, seq, signals: server.head.signals, transitions }
}

fn opened(ordinal: u32) -> Transition {
    let input_hash = input_hash(Some("1")).unwrap();
    let input = Some(Payload::from_json("1").unwrap());
    Transition::TaskOpened { id: RUN.task(ordinal), name: "t".into(), input_hash, input, retry: None }
}

fn completed(ordinal: u32) -> Transition {
    Transition::TaskCompleted { id: RUN.task(ordinal), attempts: 1, output: None }
}

fn parked(ordinal: u32, retry_in: Duration) -> Transition {
    let error = ErrorObject::new("E", "broken");
    Transition::TaskParked { id: RUN.task(ordinal), attempts: 1, error, retry_in }
}

fn failed(ordinal: u32) -> Transition {
    let error = ErrorObject::new("E", "broken");
    Transition::TaskFailed { id: RUN.task(ordinal), attempts: 1, error }
}

fn restarted(ordinal: u32) -> Transition {
    Transition::TaskRestarted { id: RUN.task(ordinal), attempts: 2 }
}

fn slept(ordinal: u32, name: &str, duration: Duration) -> Transition {
    Transition::SleepOpened { ordinal, name: name.into(), duration }
}

fn retry_run() -> Transition {
    Transition::RetryScheduled { cause: own(), retry_in: MINUTE * 2 }
}

fn own() -> FailureCause {
    FailureCause::Own(ErrorObject::new("E", "broken"))
}

#[track_caller]
fn tell(server: &mut Server, seq: u64, transitions: Vec<Transition>) {
    let report = report(server, seq, transitions);
    server.report(&report).unwrap();
}

fn pass_time(server: &Server, time: Duration) {
    server.clock.advance_to(server.clock.now().after(time));
}

// ---- fences ----

#[test]
fn a_worker_that_was_overtaken_cannot_write() {
    let mut server = claimed();
    let old = report(&server, 1, vec![opened(0)]);
    pass_time(&server, LEASE);
    assert_eq!(server.claim().unwrap().epoch, 2, "a lapsed lease is taken over without waiting for a timer");
    assert_eq!(server.report(&old), Err(ReportError::Lost));
    tell(&mut server, 1, vec![opened(0)]);
    assert_eq!(server.record().tasks.len(), 1);
}

#[test]
fn a_worker_that_handed_its_run_back_cannot_write() {
    let mut server = claimed();
    assert_eq!(server.release(), LeaseDecision::Held);
    let late = report(&server, 1, vec![opened(0)]);
    assert_eq!(server.report(&late), Err(ReportError::Lost));
    assert_eq!(server.release(), LeaseDecision::Lost, "nothing is left to hand back");
    assert_eq!(server.refresh(), LeaseDecision::Lost);
}

#[test]
fn a_claim_whose_answer_was_lost_is_granted_to_its_owner_again() {
    let mut server = claimed();
    let (lost, revision) = (server.head.epoch, server.head.revision);
    let again = plan::claim(&mut server.head, &Name::new("worker"), LEASE, server.clock.now(), &mut Vec::new());
    assert_eq!(again, ClaimDecision::Granted);
    assert_eq!((server.head.epoch, server.head.revision), (lost + 1, revision));
    let stale = Report { run: RUN, epoch: lost, seq: 1, signals: 0, transitions: vec![opened(0)] };
    assert_eq!(server.report(&stale), Err(ReportError::Lost), "the lost answer is worth nothing now");
    tell(&mut server, 1, vec![opened(0)]);
    let third = plan::claim(&mut server.head, &Name::new("worker"), LEASE, server.clock.now(), &mut Vec::new());
    assert_eq!(third, ClaimDecision::Owned(LEASE), "what was written under a claim stands");
}

#[test]
fn a_new_attempt_of_the_run_is_not_replayed_in_silence() {
    let mut server = claimed();
    tell(&mut server, 1, vec![opened(0), completed(0), retry_run()]);
    assert_eq!(server.head.seen, Some(1));
    pass_time(&server, MINUTE * 2);
    assert_eq!(server.due(), Due::Ready);
    assert_eq!(server.claim().unwrap().record.seen, None);
}

#[test]
fn a_lapsed_lease_that_nobody_took_still_holds() {
    let mut server = claimed();
    pass_time(&server, LEASE * 2);
    tell(&mut server, 1, vec![opened(0)]);
    assert_eq!(server.refresh(), LeaseDecision::Held);
    assert_eq!(server.due(), Due::NotYet, "the refreshed lease is not due");
    assert!(server.claim().is_none(), "and nobody else gets in");
}

#[test]
fn a_refresh_under_an_old_epoch_prolongs_nothing() {
    let mut server = claimed();
    pass_time(&server, LEASE);
    server.claim().unwrap();
    let before = server.head.clone();
    assert_eq!(plan::refresh(&mut server.head, 1, LEASE, server.clock.now()), LeaseDecision::Lost);
    assert_eq!(plan::release(&mut server.head, 1, server.clock.now(), &mut Vec::new()), LeaseDecision::Lost);
    assert_eq!(server.head, before);
}

#[test]
fn a_worker_whose_claim_was_answered_in_vain_claims_again() {
    let mut server = claimed();
    let (page, now) = (server.page.clone(), server.clock.now());
    let claim = |server: &mut Server, worker: &str| {
        let mut entries = Vec::new();
        let decision = plan::claim(&mut server.head, &Name::new(worker), LEASE, now, &mut entries);
        assert!(entries.is_empty());
        decision
    };
    assert_eq!(claim(&mut server, "another"), ClaimDecision::Owned(LEASE));
    assert_eq!(claim(&mut server, "worker"), ClaimDecision::Granted);
    assert_eq!((server.head.epoch, &server.page), (2, &page), "a new fence, and nothing on record");
    tell(&mut server, 1, vec![opened(0)]);
    assert_eq!(claim(&mut server, "worker"), ClaimDecision::Owned(LEASE), "now its answer is known to have arrived");
}

#[test]
fn a_cancelled_run_takes_no_report() {
    let mut server = claimed();
    let late = report(&server, 1, vec![opened(0)]);
    server.cancel();
    assert_eq!(server.report(&late), Err(ReportError::Lost));
}

#[test]
fn a_suspended_run_takes_no_report_and_no_claim() {
    let mut server = claimed();
    tell(&mut server, 1, vec![opened(0), parked(0, MINUTE), Transition::Suspended]);
    let late = report(&server, 2, vec![opened(1)]);
    assert_eq!(server.report(&late), Err(ReportError::Lost));
    assert!(server.claim().is_none());
}

// ---- repeated, reordered and illegal reports ----

#[test]
fn a_repeated_report_gets_the_same_answer_even_after_the_claim_ended() {
    let mut server = claimed();
    let last = report(&server, 1, vec![opened(0), Transition::Completed { output: None }]);
    let receipt = server.report(&last).unwrap();
    let page = server.page.clone();
    assert_eq!(server.report(&last), Ok(receipt));
    assert_eq!(server.page, page);
    assert_eq!(server.record().tasks.len(), 1);
}

#[test]
fn a_report_older_than_the_last_is_refused() {
    let mut server = claimed();
    let first = report(&server, 1, vec![opened(0)]);
    server.report(&first).unwrap();
    tell(&mut server, 2, vec![opened(1)]);
    assert_eq!(server.report(&first), Err(ReportError::OutOfOrder { last: 2, got: 1 }));
}

#[test]
fn numbers_begin_anew_with_each_claim() {
    let mut server = claimed();
    tell(&mut server, 1, vec![opened(0)]);
    server.release();
    server.claim().unwrap();
    tell(&mut server, 1, vec![opened(1)]);
    assert_eq!(server.record().tasks.len(), 2);
}

#[test]
fn an_illegal_report_is_refused_whole() {
    let server = {
        let mut server = claimed();
        tell(&mut server, 1, vec![opened(0), slept(0, "nap", MINUTE)]);
        server
    };
    let cases: Vec<(&str, Vec<Transition>)> = vec![
        ("a task out of turn", vec![opened(1), opened(1)]),
        ("a task of nobody", vec![completed(7)]),
        ("a task that ends twice", vec![completed(0), failed(0)]),
        ("a parked task that completes", vec![parked(0, MINUTE), completed(0)]),
        ("a task that is parked twice", vec![parked(0, MINUTE), parked(0, MINUTE)]),
        ("a sleep out of turn", vec![slept(2, "nap", MINUTE)]),
        ("a sleep that never began", vec![Transition::SleepCompleted { ordinal: 9 }]),
        ("a sleep that ends twice", vec![Transition::SleepCompleted { ordinal: 0 }; 2]),
        ("a restart of what is not parked", vec![restarted(0)]),
        ("a task that ends twice", vec![completed(0), completed(0)]),
        ("a failure of what has ended", vec![completed(0), failed(0)]),
        ("an end of what waits for its next attempt", vec![parked(0, MINUTE), completed(0)]),
        ("a dropped sleep that is over", vec![Transition::SleepDropped { ordinal: 0 }; 2]),
        ("a suspension that waits for nothing", vec![Transition::SleepCompleted { ordinal: 0 }, Transition::Suspended]),
        ("something after the end", vec![Transition::Completed { output: None }, opened(1)]),
        ("two ends", vec![Transition::Failed { cause: own() }, Transition::Completed { output: None }]),
    ];
    for (what, transitions) in cases {
        let mut server = server.clone();
        let mut transitions = transitions;
        // Whatever is legal before the illegal part must not be written either.
        transitions.insert(0, Transition::TimeRead { time: Timestamp::from_millis(1) });
        let bad = report(&server, 2, transitions);
        // `Server::report` itself asserts that head and history are left as they were.
        assert!(matches!(server.report(&bad), Err(ReportError::Illegal(_))), "{what}");
        tell(&mut server, 2, vec![completed(0)]);
    }
}

// ---- what is due ----

#[test]
fn a_delayed_run_is_queued_when_its_time_has_come() {
    let clock = ManualClock::new();
    let mut request = CreateRun::new(key(), None, input_hash(None).unwrap());
    request.delay = MINUTE;
    let mut entries = Vec::new();
    let id = RunId::from_bits(1 << 24);
    let mut head = plan::create(&request, id, &Name::new("test"), clock.now(), &mut entries);
    assert_eq!(head.state.status(), RunStatus::Scheduled);
    assert_eq!(head.rank(), None, "it is not ready");
    let due_at = head.due_at().unwrap();
    assert_eq!(due_at, clock.now().after(MINUTE));
    let just_before = Timestamp::from_millis(due_at.as_millis() - 1);
    assert_eq!(plan::due(&mut head, just_before, &mut entries), Due::NotYet);
    assert_eq!(plan::due(&mut head, due_at, &mut entries), Due::Ready);
    assert!(matches!(head.state, RunState::Queued { reason: QueuedReason::New }));
    assert!(head.rank().is_some());
}

#[test]
fn a_queued_run_that_nobody_takes_is_announced_ever_more_rarely() {
    let mut server = server();
    let mut pauses = Vec::new();
    let (page, revision) = (server.page.clone(), server.head.revision);
    for _ in 0..9 {
        let due_at = server.head.due_at().unwrap();
        pauses.push(due_at.since(server.clock.now()).as_secs());
        server.clock.advance_to(due_at);
        assert_eq!(server.due(), Due::Ready);
    }
    assert_eq!(pauses, [5, 5, 10, 20, 40, 80, 160, 300, 300]);
    assert_eq!((server.page, server.head.revision), (page, revision), "an announcement is no transition");
}

#[test]
fn a_lapsed_lease_is_recovered_by_the_timer() {
    let mut server = claimed();
    assert_eq!(server.due(), Due::NotYet);
    pass_time(&server, LEASE);
    assert_eq!(server.due(), Due::Ready);
    assert!(matches!(server.head.state, RunState::Queued { reason: QueuedReason::Recovery }));
    assert_eq!(server.head.attempts, 1, "a lost worker costs no attempt");
}

#[test]
fn a_suspended_run_is_woken_for_its_earliest_step_and_every_sleep_that_is_over_ends() {
    let mut server = claimed();
    let naps = vec![slept(0, "long", MINUTE * 3), slept(1, "b", MINUTE), slept(2, "a", MINUTE), Transition::Suspended];
    tell(&mut server, 1, naps);
    assert!(matches!(&server.head.state, RunState::Sleeping { name, .. } if name == "b"));
    pass_time(&server, MINUTE);
    assert_eq!(server.due(), Due::Ready);
    assert!(matches!(server.head.state, RunState::Queued { reason: QueuedReason::Wakeup }));
    let record = server.record();
    let over = record.sleeps.iter().map(|sleep| (matches!(sleep.state, SleepState::Completed { .. }), sleep.settled));
    assert_eq!(over.collect::<Vec<_>>(), [(false, None), (true, Some(1)), (true, Some(2))]);
}

#[test]
fn sleeps_that_are_over_together_end_in_the_order_of_their_times() {
    let mut server = claimed();
    let naps = vec![slept(0, "late", MINUTE * 2), slept(1, "early", MINUTE), Transition::Suspended];
    tell(&mut server, 1, naps);
    pass_time(&server, MINUTE * 3);
    assert_eq!(server.due(), Due::Ready);
    let places: Vec<_> = server.record().sleeps.iter().map(|sleep| sleep.settled).collect();
    assert_eq!(places, [Some(2), Some(1)]);
}

#[test]
fn a_parked_retry_is_due_without_ending_anything() {
    let mut server = claimed();
    tell(&mut server, 1, vec![opened(0), parked(0, MINUTE), Transition::Suspended]);
    let revision = server.head.revision;
    pass_time(&server, MINUTE);
    assert_eq!(server.due(), Due::Ready);
    assert!(matches!(server.head.state, RunState::Queued { reason: QueuedReason::TaskRetry }));
    assert_eq!(server.head.revision, revision + 1);
    server.claim().unwrap();
    assert!(matches!(server.record().tasks[0].state, TaskState::AwaitingRetry { attempts: 1, .. }));
    tell(&mut server, 1, vec![restarted(0)]);
    assert!(server.head.parked.is_empty());
}

#[test]
fn a_worker_whose_clock_is_behind_is_not_called_again_at_once() {
    let mut server = claimed();
    tell(&mut server, 1, vec![opened(0), parked(0, MINUTE), Transition::Suspended]);
    pass_time(&server, MINUTE);
    assert_eq!(server.due(), Due::Ready);
    server.claim().unwrap();
    // By its clock the retry is not due yet.
    tell(&mut server, 1, vec![Transition::Suspended]);
    let due_at = server.head.due_at().unwrap();
    assert_eq!(due_at.since(server.clock.now()), Duration::from_millis(250));
    server.clock.advance_to(due_at);
    assert_eq!(server.due(), Due::Ready, "but it is called again");
}

#[test]
fn a_retried_run_gives_up_what_did_not_complete() {
    let mut server = claimed();
    let transitions = vec![
        opened(0),
        opened(1),
        opened(2),
        opened(3),
        completed(0),
        failed(1),
        parked(2, MINUTE),
        slept(0, "nap", MINUTE * 9),
        Transition::RetryScheduled { cause: own(), retry_in: MINUTE * 2 },
    ];
    tell(&mut server, 1, transitions);
    assert_eq!(server.head.due_at(), Some(server.clock.now().after(MINUTE * 2)), "a parked task does not come first");
    pass_time(&server, MINUTE * 2);
    assert_eq!(server.due(), Due::Ready);
    assert_eq!(server.head.attempts, 2);
    let counts = TaskCounts { completed: 1, discarded: 3, ..TaskCounts::default() };
    assert_eq!(server.head.counts, counts);
    let record = server.claim().unwrap().record;
    let kept: Vec<_> = record.tasks.iter().map(|task| task.settled).collect();
    assert_eq!(kept, [Some(1), None, None, None], "only what completed is replayed");
    assert!(matches!(record.sleeps[0].state, SleepState::Sleeping { .. }), "a sleep goes on");
    assert_eq!(server.head.parked.len(), 1);
}

#[test]
fn nothing_is_due_for_a_run_that_has_ended() {
    for end in [Transition::Completed { output: None }, Transition::Failed { cause: own() }] {
        let mut server = claimed();
        tell(&mut server, 1, vec![opened(0), parked(0, MINUTE), slept(0, "nap", MINUTE), end]);
        assert_eq!(server.head.due_at(), None);
        pass_time(&server, MINUTE * 100);
        assert_eq!(server.due(), Due::NotYet);
        assert!(server.claim().is_none());
        assert!(plan::cancel(&mut server.head, None, server.clock.now(), &mut Vec::new()).is_err());
    }
}

#[test]
fn every_state_with_a_time_is_due_then_and_the_others_never() {
    let at = Timestamp::from_millis(5_000_000);
    let child = RunId::from_bits(9 << 24);
    let awaited = RunStatus::Completed;
    let table: Vec<(RunState, Option<QueuedReason>)> = vec![
        (RunState::Scheduled { scheduled_at: at, reason: ScheduledReason::Event }, Some(QueuedReason::Event)),
        (
            RunState::Scheduled { scheduled_at: at, reason: ScheduledReason::WakeupEarly },
            Some(QueuedReason::WakeupEarly),
        ),
        (RunState::Sleeping { name: "n".into(), wakeup_at: at }, Some(QueuedReason::Wakeup)),
        (RunState::AwaitingRetry { next_attempt_at: at, cause: own() }, Some(QueuedReason::Retry)),
        (RunState::AwaitingEvent { event: "e".into(), timeout_at: Some(at) }, Some(QueuedReason::EventWaitTimeout)),
        (RunState::AwaitingEvent { event: "e".into(), timeout_at: None }, None),
        (
            RunState::AwaitingChild { child, awaited, timeout_at: Some(at) },
            Some(QueuedReason::ChildWorkflowWaitTimeout),
        ),
        (RunState::AwaitingChild { child, awaited, timeout_at: None }, None),
        (RunState::Paused, None),
        (RunState::Stalled, None),
        (RunState::Cancelled { explanation: None }, None),
        (RunState::Completed { output: None }, None),
        (RunState::Failed { cause: own() }, None),
    ];
    for (state, queued) in table {
        let mut head = RunHead { state: state.clone(), announce: None, ..server().head };
        assert_eq!(head.due_at(), queued.map(|_| at), "{state:?}");
        let mut entries = Vec::new();
        let early = plan::due(&mut head, Timestamp::from_millis(at.as_millis() - 1), &mut entries);
        assert_eq!((early, entries.len()), (Due::NotYet, 0), "{state:?}");
        let due = plan::due(&mut head, at, &mut entries);
        match queued {
            Some(reason) => {
                assert_eq!(due, Due::Ready);
                assert_eq!(head.state, RunState::Queued { reason });
            }
            None => assert_eq!((due, &head.state), (Due::NotYet, &state)),
        }
    }
}

#[test]
fn cancelling_discards_the_tasks_under_way_and_ends_the_sleeps() {
    let mut server = claimed();
    let transitions = vec![
        opened(0),
        opened(1),
        opened(2),
        completed(0),
        parked(1, MINUTE),
        slept(0, "nap", MINUTE),
        Transition::Suspended,
    ];
    tell(&mut server, 1, transitions);
    server.cancel();
    let record = server.record();
    let statuses: Vec<_> = record.tasks.iter().map(|task| task.state.status().as_str()).collect();
    assert_eq!(statuses, ["completed", "discarded", "discarded"]);
    assert!(matches!(record.sleeps[0].state, SleepState::Cancelled { .. }));
    assert_eq!(server.head.due_at(), None);
}

// ---- random histories ----

/// What may be asked of a server; most of it is refused at any given time.
#[derive(Clone, Debug)]
enum Request {
    Claim,
    Release,
    Refresh,
    Due,
    Wait(u64),
    Cancel,
    Report(Vec<Told>),
}

/// A part of a report; ordinals count back from the newest.
#[derive(Clone, Copy, Debug)]
enum Told {
    Open,
    Complete(u32),
    Fail(u32),
    Park(u32, u64),
    Restart(u32),
    Sleep(u64),
    Wake(u32),
    Time,
    Suspend,
    End,
    Retry(u64),
}

fn any_told() -> impl Strategy<Value = Told> {
    prop_oneof![
        6 => Just(Told::Open),
        4 => (0..4u32).prop_map(Told::Complete),
        2 => (0..4u32).prop_map(Told::Fail),
        3 => (0..4u32, 0..90u64).prop_map(|(task, secs)| Told::Park(task, secs)),
        3 => (0..4u32).prop_map(Told::Restart),
        3 => (0..90u64).prop_map(Told::Sleep),
        2 => (0..3u32).prop_map(Told::Wake),
        1 => Just(Told::Time),
        2 => Just(Told::Suspend),
        1 => Just(Told::End),
        1 => (0..90u64).prop_map(Told::Retry),
    ]
}

fn any_request() -> impl Strategy<Value = Request> {
    prop_oneof![
        5 => Just(Request::Claim),
        1 => Just(Request::Release),
        1 => Just(Request::Refresh),
        4 => Just(Request::Due),
        3 => (0..60u64).prop_map(Request::Wait),
        1 => Just(Request::Cancel),
        8 => prop::collection::vec(any_told(), 1..5).prop_map(Request::Report),
    ]
}

/// Turns a part of a report into a transition that a worker could have meant: a task that is under way
/// ends, a parked one restarts.
fn meant(server: &Server, told: &[Told]) -> Vec<Transition> {
    let record = server.record();
    let mut states: Vec<Option<&str>> = record.tasks.iter().map(|task| Some(task.state.status().as_str())).collect();
    let mut sleeps = server.head.sleeps_opened;
    let mut transitions = Vec::new();
    for told in told {
        let back = |list: usize, n: u32| (list as u32).checked_sub(1 + n);
        let under_way = |states: &[Option<&str>], n, status| {
            back(states.len(), n).filter(|task| states[*task as usize] == Some(status))
        };
        match *told {
            Told::Open => {
                transitions.push(opened(states.len() as u32));
                states.push(Some("running"));
            }
            Told::Complete(n) => {
                let Some(task) = under_way(&states, n, "running") else { continue };
                transitions.push(completed(task));
                states[task as usize] = None;
            }
            Told::Fail(n) => {
                let Some(task) = under_way(&states, n, "running") else { continue };
                transitions.push(failed(task));
                states[task as usize] = None;
            }
            Told::Park(n, secs) => {
                let Some(task) = under_way(&states, n, "running") else { continue };
                transitions.push(parked(task, Duration::from_secs(secs)));
                states[task as usize] = Some("awaiting_retry");
            }
            Told::Restart(n) => {
                let Some(task) = under_way(&states, n, "awaiting_retry") else { continue };
                transitions.push(restarted(task));
                states[task as usize] = Some("running");
            }
            Told::Sleep(secs) => {
                transitions.push(slept(sleeps, "nap", Duration::from_secs(secs)));
                sleeps += 1;
            }
            Told::Wake(n) => {
                let Some(ordinal) = back(sleeps as usize, n) else { continue };
                transitions.push(Transition::SleepCompleted { ordinal });
            }
            Told::Time => transitions.push(Transition::TimeRead { time: server.clock.now() }),
            Told::Suspend => transitions.push(Transition::Suspended),
            Told::End => transitions.push(Transition::Completed { output: None }),
            Told::Retry(secs) => {
                transitions.push(Transition::RetryScheduled { cause: own(), retry_in: Duration::from_secs(secs) });
            }
        }
    }
    transitions
}

fn run_entries(entries: &[HistoryEntry]) -> u64 {
    entries.iter().filter(|entry| matches!(entry.entry, Entry::Run { .. })).count() as u64
}

/// What must hold of a server at any time.
fn check(server: &Server) -> Result<(), TestCaseError> {
    let (head, entries) = (&server.head, server.entries());
    let record = server.record();
    prop_assert_eq!(counts(&record), head.counts);
    prop_assert_eq!(record.tasks.len() as u32, head.tasks_opened);
    prop_assert_eq!(record.sleeps.len() as u32, head.sleeps_opened);
    prop_assert_eq!(run_entries(&entries), head.revision + 1, "one revision for each transition of the run");
    let listed = transitions(head, entries.clone());
    prop_assert_eq!(listed.len() as u32, head.transitions);
    prop_assert!(listed.windows(2).all(|pair| pair[0].id < pair[1].id), "ids ascend");
    prop_assert!(listed.windows(2).all(|pair| pair[0].created_at <= pair[1].created_at));
    prop_assert!(listed.iter().any(|entry| entry.id == head.state_transition_id()));
    let settled = entries.iter().filter(|entry| entry.entry.settles()).count() as u64;
    prop_assert_eq!(settled, head.settled);
    prop_assert!(head.seen.is_none_or(|seen| seen <= head.settled));
    let mut places: Vec<_> = record.tasks.iter().filter_map(|task| task.settled).collect();
    places.extend(record.sleeps.iter().filter_map(|sleep| sleep.settled));
    places.sort();
    prop_assert!(places.windows(2).all(|pair| pair[0] < pair[1]), "no two steps settle at one place");
    prop_assert_eq!(head.announce.is_some(), matches!(head.state, RunState::Queued { .. }));
    prop_assert!(head.lease.is_none() || head.state == RunState::Running);
    prop_assert!(record.tasks.windows(2).all(|pair| pair[0].id < pair[1].id));
    // A run that has not ended is always found again: through a timer or through a claim.
    prop_assert!(head.due_at().is_some() != head.state.is_terminal(), "{:?}", head.state);
    if !head.state.is_terminal() {
        let parked = head.counts.awaiting_retry as usize;
        let tasks = head.parked.iter().filter(|parked| matches!(parked.step, aiki_core::run::ParkedStep::Task(_)));
        prop_assert_eq!(tasks.count(), parked, "every task that waits for a retry is parked");
    }
    Ok(())
}

proptest! {
    #![proptest_config(cases(300))]

    #[test]
    fn head_and_history_agree_whatever_happens(requests in prop::collection::vec(any_request(), 1..40)) {
        let mut server = server();
        let mut seq = 0;
        for request in requests {
            let before = (server.head.clone(), server.entries().len());
            match request {
                Request::Claim => {
                    if server.claim().is_some() {
                        seq = 0;
                    }
                }
                Request::Release => {
                    server.release();
                }
                Request::Refresh => {
                    server.refresh();
                }
                Request::Due => {
                    server.due();
                }
                Request::Wait(secs) => pass_time(&server, Duration::from_secs(secs)),
                Request::Cancel => {
                    let mut entries = Vec::new();
                    if !server.is_over() && before.1.is_multiple_of(3) {
                        server.cancel();
                    } else if server.is_over() {
                        let now = server.clock.now();
                        prop_assert!(plan::cancel(&mut server.head, None, now, &mut entries).is_err());
                        prop_assert!(entries.is_empty());
                    }
                }
                Request::Report(told) => {
                    let report = report(&server, seq + 1, meant(&server, &told));
                    if let Ok(receipt) = server.report(&report) {
                        prop_assert_eq!(receipt.revision, server.head.revision);
                        let written = (server.head.clone(), server.page.clone());
                        prop_assert_eq!(server.report(&report), Ok(receipt));
                        prop_assert_eq!((server.head.clone(), server.page.clone()), written);
                        seq += 1;
                    }
                }
            }
            check(&server)?;
            let grown = run_entries(&server.entries()[before.1..]);
            prop_assert_eq!(server.head.revision, before.0.revision + grown);
            prop_assert!(server.head.epoch >= before.0.epoch && server.head.attempts >= before.0.attempts);
        }
    }
}
