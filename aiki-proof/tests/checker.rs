//! The checker names what is broken, and by which run; and says nothing of a clean history.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a panic is how a test fails")]

use std::time::Duration;

use aiki_core::hash::input_hash;
use aiki_core::name::WorkflowKey;
use aiki_core::run::plan::{self, CreateRun, ReportContext};
use aiki_core::run::record::{self, SleepState, TransitionChange};
use aiki_core::run::{HistoryEntry, QueuedReason, RunHead, RunState};
use aiki_core::{Name, Report, RunId, RunRecord, TaskId, Timestamp, Transition};
use aiki_proof::check::{Bounds, judge};
use aiki_proof::end::{End, Gauge, Shown, Views};
use aiki_proof::history::{AttemptEnd, Fault, Happened, What, Written};

const BOUNDS: Bounds = Bounds { late: Duration::from_secs(60), early: Duration::from_secs(1), lease: LEASE };
const LEASE: Duration = Duration::from_secs(10);

fn run() -> RunId {
    RunId::from_bits((7 << 80) + (1 << 24))
}

fn task() -> TaskId {
    run().task(0)
}

fn worker(name: &str) -> Name {
    Name::from(name.to_owned())
}

/// A case that can be spoiled.
struct Case {
    history: Vec<What>,
    shown: Option<Shown>,
    rows: usize,
    held: usize,
    gauge: u64,
}

impl Views for Case {
    fn announcements(&self, _: RunId) -> Option<usize> {
        Some(self.rows)
    }

    fn held_by(&self, _: &Name) -> Option<usize> {
        Some(self.held)
    }

    fn gauges(&self) -> Vec<Gauge> {
        vec![Gauge { name: "open files".into(), baseline: 3, now: self.gauge }]
    }
}

/// A run of one task: the first worker dies with it, the second completes it.
fn clean() -> Case {
    let (a, b) = (worker("a"), worker("b"));
    let (run, task) = (run(), task());
    let written = Written { ended: vec![(task, true)], closes: true };
    let decided = |worker: &Name| What::Decided {
        run,
        worker: worker.clone(),
        epoch: 2,
        life: "0.1".into(),
        place: "0".into(),
        value: "one".into(),
    };
    let history = vec![
        What::Created { run, key: Some("k".into()) },
        What::Created { run, key: Some("k".into()) },
        What::Published { run },
        What::Delivered { run, worker: a.clone(), receipt: "1".into() },
        What::Granted { run, epoch: 1, worker: a.clone() },
        What::Reported { run, epoch: 1, seq: 1, worker: a.clone(), written: Written::default() },
        What::Began { task, attempt: 1, worker: a.clone() },
        What::Effect { task, attempt: 1, worker: a.clone() },
        What::Fault { fault: Fault::WorkerKilled, worker: Some(a) },
        What::Delivered { run, worker: b.clone(), receipt: "2".into() },
        What::Granted { run, epoch: 2, worker: b.clone() },
        What::Began { task, attempt: 1, worker: b.clone() },
        What::Effect { task, attempt: 1, worker: b.clone() },
        What::Ended { task, attempt: 1, worker: b.clone(), how: AttemptEnd::Returned },
        decided(&b),
        What::Sent { run, epoch: 2, seq: 1, worker: b.clone() },
        What::Reported { run, epoch: 2, seq: 1, worker: b.clone(), written: written.clone() },
        What::Reported { run, epoch: 2, seq: 1, worker: b.clone(), written },
        What::Acked { run, worker: b.clone(), receipt: "2".into() },
        What::Stopped { worker: b },
    ];
    Case { history, shown: Some(shown()), rows: 0, held: 0, gauge: 3 }
}

/// What the real plans make of that run, with a sleep in front.
fn shown() -> Shown {
    let at = |ms: u64| Timestamp::from_millis(1_000_000 + ms);
    let key = WorkflowKey::user("w", "1");
    let request = CreateRun::new(key, None, input_hash(None).unwrap());
    let mut entries: Vec<HistoryEntry> = Vec::new();
    let mut head = plan::create(&request, run(), &Name::new("n"), at(0), &mut entries);
    let report = |head: &mut RunHead, epoch, seq, transitions, now, entries: &mut Vec<HistoryEntry>| {
        let report = Report { run: run(), epoch, seq, signals: 0, transitions };
        let context = ReportContext { children: &[], history_limit: 1_000 };
        plan::report(head, &report, context, now, entries).unwrap();
    };
    plan::claim(&mut head, &worker("z"), LEASE, at(1), &mut entries);
    let nap = vec![
        Transition::SleepOpened { ordinal: 0, name: "nap".into(), duration: Duration::from_secs(3) },
        Transition::Suspended,
    ];
    report(&mut head, 1, 1, nap, at(2), &mut entries);
    plan::due(&mut head, at(3_002), &mut entries);
    plan::claim(&mut head, &worker("a"), LEASE, at(3_003), &mut entries);
    let input_hash = input_hash(None).unwrap();
    let open = Transition::TaskOpened { id: task(), name: "t".into(), input_hash, input: None, retry: None };
    report(&mut head, 2, 1, vec![open], at(3_004), &mut entries);
    plan::due(&mut head, at(13_004), &mut entries);
    plan::claim(&mut head, &worker("b"), LEASE, at(13_005), &mut entries);
    let done = vec![
        Transition::TaskCompleted { id: task(), attempts: 1, output: None },
        Transition::Completed { output: None },
    ];
    report(&mut head, 3, 1, done, at(13_006), &mut entries);
    let record = RunRecord::fold(&head, entries.clone());
    Shown { record, transitions: record::transitions(&head, entries) }
}

fn verdict(case: &Case) -> Vec<String> {
    let history: Vec<Happened> =
        case.history.iter().enumerate().map(|(at, what)| Happened { at: at as u64, what: what.clone() }).collect();
    let mut end = End { now: Timestamp::from_millis(2_000_000), ..End::default() };
    end.runs.extend(case.shown.clone().map(|shown| (run(), Ok(shown))));
    judge(&history, &end, case, BOUNDS).iter().map(ToString::to_string).collect()
}

/// Spoils the clean case and expects the invariant to be named, together with the run.
#[track_caller]
fn breaks(invariant: &str, spoil: impl FnOnce(&mut Case)) {
    let mut case = clean();
    spoil(&mut case);
    let verdict = verdict(&case);
    let wanted = format!("{invariant} run {}: ", run());
    assert!(verdict.iter().any(|line| line.starts_with(&wanted)), "{invariant} is not among {verdict:#?}");
}

fn insert_before_ack(case: &mut Case, what: What) {
    let at = case.history.iter().position(|what| matches!(what, What::Acked { .. })).unwrap();
    case.history.insert(at, what);
}

fn set_state(case: &mut Case, state: RunState) {
    let shown = case.shown.as_mut().unwrap();
    shown.record.state = state.clone();
    shown.transitions.last_mut().unwrap().change = TransitionChange::Run(state);
}

#[test]
fn a_clean_history_is_clean() {
    assert_eq!(verdict(&clean()), Vec::<String>::new());
}

#[test]
fn i1_a_run_that_was_acknowledged_and_is_gone() {
    breaks("I1", |case| case.shown = None);
}

#[test]
fn i2_a_run_that_is_left_behind() {
    breaks("I2", |case| set_state(case, RunState::Queued { reason: QueuedReason::Recovery }));
    let due = Timestamp::from_millis(1_100_000);
    breaks("I2", |case| set_state(case, RunState::Sleeping { name: "nap".into(), wakeup_at: due }));
}

#[test]
fn i3_an_attempt_after_the_record() {
    let began = What::Began { task: task(), attempt: 1, worker: worker("b") };
    breaks("I3", |case| insert_before_ack(case, began));
}

#[test]
fn i4_two_results_of_one_task() {
    let written = Written { ended: vec![(task(), true)], closes: false };
    let twice = What::Reported { run: run(), epoch: 2, seq: 2, worker: worker("b"), written };
    breaks("I4", |case| insert_before_ack(case, twice));
    breaks("I4", |case| {
        let shown = case.shown.as_mut().unwrap();
        let is_result = |change: &TransitionChange| matches!(change, TransitionChange::Task(..));
        let result = shown.transitions.iter().rfind(|one| is_result(&one.change)).unwrap().clone();
        shown.transitions.insert(shown.transitions.len() - 1, result);
    });
}

#[test]
fn i5_i6_a_write_under_an_old_epoch() {
    let late = |case: &mut Case| {
        let (run, worker) = (run(), worker("a"));
        insert_before_ack(case, What::Reported { run, epoch: 1, seq: 2, worker, written: Written::default() });
    };
    breaks("I5", late);
    breaks("I6", late);
    let again = What::Granted { run: run(), epoch: 2, worker: worker("c") };
    breaks("I5", |case| insert_before_ack(case, again));
}

#[test]
fn i7_two_runs_of_one_key() {
    breaks("I7", |case| {
        let other = RunId::from_bits(run().to_bits() + (1 << 24));
        case.history.insert(0, What::Created { run: other, key: Some("k".into()) });
    });
}

#[test]
fn i8_transitions_that_lead_elsewhere() {
    breaks("I8", |case| drop(case.shown.as_mut().unwrap().transitions.pop()));
    breaks("I8", |case| {
        let shown = case.shown.as_mut().unwrap();
        shown.transitions.retain(|one| !matches!(one.change, TransitionChange::Task(..)));
    });
}

#[test]
fn i9_a_run_that_has_ended_and_is_announced() {
    breaks("I9", |case| case.rows = 1);
}

#[test]
fn i10_an_acknowledgement_before_its_time() {
    breaks("I10", |case| {
        let at = case.history.iter().position(|what| matches!(what, What::Granted { epoch: 2, .. })).unwrap();
        case.history.insert(at, What::Acked { run: run(), worker: worker("b"), receipt: "2".into() });
    });
    breaks("I10", |case| {
        let at = case.history.iter().position(|what| matches!(what, What::Granted { epoch: 2, .. })).unwrap();
        case.history.insert(at + 1, What::Acked { run: run(), worker: worker("b"), receipt: "2".into() });
    });
}

#[test]
fn i11_an_attempt_that_is_repeated_for_no_reason() {
    breaks("I11", |case| case.history.retain(|what| !matches!(what, What::Fault { .. })));
}

#[test]
fn i12_a_run_that_takes_down_worker_after_worker() {
    breaks("I12", |case| {
        for epoch in 3..10 {
            let granted = What::Granted { run: run(), epoch, worker: worker(&format!("w{epoch}")) };
            case.history.push(granted);
        }
    });
}

#[test]
fn i13_a_success_after_the_cancellation() {
    breaks("I13", |case| case.history.insert(4, What::Cancelled { run: run() }));
    breaks("I13", |case| {
        let shown = case.shown.as_mut().unwrap();
        let mut cancelled = shown.transitions[0].clone();
        cancelled.change = TransitionChange::Run(RunState::Cancelled { explanation: None });
        shown.transitions.insert(1, cancelled);
    });
}

#[test]
fn i14_a_sleep_that_is_too_short_or_too_long() {
    let moved = |ms: u64| {
        move |case: &mut Case| {
            let shown = case.shown.as_mut().unwrap();
            let wakeup = |state: &RunState| matches!(state, RunState::Queued { reason: QueuedReason::Wakeup });
            let woken = |change: &TransitionChange| matches!(change, TransitionChange::Run(state) if wakeup(state));
            let transition = shown.transitions.iter_mut().find(|one| woken(&one.change)).unwrap();
            transition.created_at = Timestamp::from_millis(ms);
        }
    };
    breaks("I14", moved(1_003_001));
    breaks("I14", moved(1_099_000));
}

/// A sleep that its worker waited out was cut short by two seconds; `resent` after its first sending the report of
/// it was accepted.
fn waited_out_too_early(resent: u64) -> Vec<String> {
    let mut case = clean();
    let shown = case.shown.as_mut().unwrap();
    let SleepState::Completed { completed_at, .. } = &mut shown.record.sleeps[0].state else { panic!("it ended") };
    *completed_at = Timestamp::from_millis(completed_at.as_millis() - 2_000);
    let at = |what: &What| if matches!(what, What::Reported { epoch: 2, .. }) { 100 + resent } else { 100 };
    let history: Vec<_> = case.history.iter().map(|what| Happened { at: at(what), what: what.clone() }).collect();
    let mut end = End { now: Timestamp::from_millis(2_000_000), ..End::default() };
    end.runs.extend(case.shown.clone().map(|shown| (run(), Ok(shown))));
    judge(&history, &end, &case, BOUNDS).iter().map(ToString::to_string).collect()
}

#[test]
fn i14_a_wait_counts_from_its_decision_however_late_the_server_hears_of_it() {
    assert!(waited_out_too_early(900).iter().any(|line| line.starts_with("I14")));
    assert_eq!(waited_out_too_early(1_100), Vec::<String>::new());
}

#[test]
fn i15_i16_what_is_left_behind() {
    let mut case = clean();
    (case.gauge, case.held) = (4, 2);
    let verdict = verdict(&case);
    assert!(verdict.iter().any(|line| line == "I15: open files is 4, not 3 as before"), "{verdict:#?}");
    assert!(verdict.iter().any(|line| line == "I16: b has stopped and holds 2 deliveries"), "{verdict:#?}");
}

#[test]
fn i16_a_body_that_outlives_its_worker() {
    breaks("I16", |case| case.history.retain(|what| !matches!(what, What::Ended { .. })));
    breaks("I16", |case| case.history.push(What::Effect { task: task(), attempt: 1, worker: worker("b") }));
}

#[test]
fn i17_a_handler_that_is_told_another_story() {
    breaks("I17", |case| {
        let (run, worker) = (run(), worker("b"));
        let value = "two".to_owned();
        let (life, place) = ("0.1".to_owned(), "0".to_owned());
        case.history.push(What::Decided { run, worker: worker.clone(), epoch: 2, life, place, value });
        case.history.push(What::Sent { run, epoch: 2, seq: 2, worker: worker.clone() });
        case.history.push(What::Reported { run, epoch: 2, seq: 2, worker, written: Written::default() });
    });
}

#[test]
fn i17_what_a_pass_saw_and_never_sent_is_not_held_against_the_next_one_of_its_worker() {
    let mut case = clean();
    let (run, worker) = (run(), worker("b"));
    let decided = |epoch, place: &str, value: &str| {
        let (worker, life, place, value) = (worker.clone(), "0.1".into(), place.into(), value.into());
        What::Decided { run, worker, epoch, life, place, value }
    };
    // The old pass goes on for a moment under the new claim.
    case.history.extend([
        What::Granted { run, epoch: 3, worker: worker.clone() },
        decided(2, "9", "unsent"),
        What::Sent { run, epoch: 3, seq: 1, worker: worker.clone() },
        What::Reported { run, epoch: 3, seq: 1, worker: worker.clone(), written: Written::default() },
        decided(3, "9", "sent"),
        What::Sent { run, epoch: 3, seq: 2, worker: worker.clone() },
        What::Reported { run, epoch: 3, seq: 2, worker: worker.clone(), written: Written::default() },
    ]);
    assert_eq!(verdict(&case), Vec::<String>::new());
}
