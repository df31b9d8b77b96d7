//! What workers send arrives as it was.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::time::Duration;

use aiki_core::failure::ErrorObject;
use aiki_core::hash::input_hash;
use aiki_core::name::WorkflowKey;
use aiki_core::report::ChildStart;
use aiki_core::run::plan::{CreateRun, Deadline};
use aiki_core::run::{FailureCause, RunOptions, WaitOn};
use aiki_core::{Payload, Priority, Report, RetryStrategy, RunId, Timestamp, Transition};
use aiki_wire::native::{NewRun, Reports};

const RUN: RunId = RunId::from_bits(9 << 24);

fn raw(text: &str) -> Option<Payload> {
    Payload::from_json(text).ok()
}

fn round_trip(transitions: Vec<Transition>) -> (Reports, String) {
    let report = Report { run: RUN, epoch: 3, seq: 1, signals: 2, transitions };
    let text = serde_json::to_string(&Reports { reports: vec![report] }).unwrap();
    (serde_json::from_str(&text).unwrap(), text)
}

#[test]
fn every_transition_arrives_as_it_was() {
    let (id, second) = (RUN.task(0), Duration::from_secs(1));
    let (hash, error) = (input_hash(Some("1")).unwrap(), ErrorObject::new("E", "no"));
    let start = ChildStart {
        workflow: WorkflowKey::user("child", "1"),
        input: raw("null"),
        input_hash: hash.clone(),
        reference: None,
        options: RunOptions::default(),
        priority: Priority::High,
        time_limit: Some(second),
    };
    let data = ErrorObject { data: raw("1.0"), ..error.clone() };
    let transitions = vec![
        Transition::TaskOpened {
            id,
            name: "t".into(),
            input_hash: hash,
            input: raw("12345678901234567890123"),
            retry: Some(RetryStrategy::fixed(3, second)),
        },
        Transition::TaskRestarted { id, attempts: 2 },
        Transition::TaskParked { id, attempts: 2, error: error.clone(), retry_in: second },
        Transition::TaskCompleted { id, attempts: 2, output: None },
        Transition::TaskCompleted { id, attempts: 2, output: raw("null") },
        Transition::TaskFailed { id, attempts: 2, error: data.clone() },
        Transition::SleepOpened { ordinal: 0, name: "s".into(), duration: second },
        Transition::SleepCompleted { ordinal: 0 },
        Transition::SleepDropped { ordinal: 0 },
        Transition::TimeRead { time: Timestamp::from_millis(7) },
        Transition::TaskProgressed { id, checkpoint: raw("[1]").unwrap() },
        Transition::WaitOpened { ordinal: 0, on: WaitOn::Event("e".into()), run: None, timeout: Some(second) },
        Transition::WaitOpened { ordinal: 1, on: WaitOn::Child(0), run: Some(RUN), timeout: None },
        Transition::WaitCompleted { ordinal: 0, event: Some(4) },
        Transition::WaitTimedOut { ordinal: 0 },
        Transition::WaitDropped { ordinal: 0 },
        Transition::ChildOpened { ordinal: 0, start: Box::new(start) },
        Transition::ChildCancelled { ordinal: 0, run: None },
        Transition::Suspended,
        Transition::ContinuedAsNew { input: raw("{}"), events: Vec::new() },
        Transition::Completed { output: raw("1.0") },
        Transition::Failed { cause: FailureCause::Task(id, Some(data)) },
        Transition::RetryScheduled { cause: FailureCause::Own(error), retry_in: second },
    ];
    let (read, text) = round_trip(transitions.clone());
    assert_eq!(read.reports[0].transitions, transitions, "{text}");
    assert!(text.contains("12345678901234567890123") && text.contains("\"output\":1.0"), "{text}");
}

#[test]
fn a_part_of_a_millisecond_is_a_whole_one() {
    let nap = |duration| Transition::SleepOpened { ordinal: 0, name: "s".into(), duration };
    let (read, _) = round_trip(vec![nap(Duration::from_micros(1)), nap(Duration::MAX)]);
    let wanted = [nap(Duration::from_millis(1)), nap(Duration::from_millis(u64::MAX))];
    assert_eq!(read.reports[0].transitions, wanted);
}

#[test]
fn a_start_arrives_as_it_was() {
    let hash = input_hash(None).unwrap();
    let run = CreateRun {
        options: Some(RunOptions::default()),
        deadline: Some(Deadline::Within(Duration::from_secs(2))),
        delay: Duration::from_millis(5),
        ..CreateRun::new(WorkflowKey::user("w", "1"), raw("null"), hash.clone())
    };
    for run in [run, CreateRun::new(WorkflowKey::user("w", "1"), None, hash)] {
        let text = serde_json::to_string(&NewRun { key: None, run: run.clone() }).unwrap();
        assert_eq!(serde_json::from_str::<NewRun>(&text).unwrap().run, run, "{text}");
    }
}
