//! A worker process that is killed without warning, again and again.
#![allow(clippy::expect_used, reason = "a panic is how a test fails")]

use std::collections::HashMap;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use aiki::prelude::*;
use aiki::run::TaskState;
use aiki::run::record::TransitionChange;
use integration_tests::ledger::Ledger;
use integration_tests::pipeline;

const RUNS: u64 = 60;

fn start(directory: &Path) -> Child {
    Command::new(env!("CARGO_BIN_EXE_pipeline-worker"))
        .arg(directory)
        .arg(RUNS.to_string())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the worker process starts")
}

/// Kills the process once the ledger has grown to `lines`, or answers that it ended before.
fn kill_at(child: &mut Child, ledger: &Ledger, lines: usize) -> bool {
    loop {
        if child.try_wait().expect("the process can be asked").is_some() {
            return false;
        }
        if ledger.attempts().is_ok_and(|attempts| attempts.len() >= lines) {
            child.kill().expect("the process can be killed");
            child.wait().expect("the process is gone");
            return true;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[tokio::test]
async fn nothing_is_lost_or_done_after_it_was_recorded() {
    let directory = tempfile::tempdir().expect("a directory");
    let ledger = Ledger::in_directory(directory.path());
    let mut kills = 0;
    // Spread over the whole life of the load: from the first task to the last ones.
    for lines in [1, 7, 30, 61, 100, 140, 180, 220] {
        let mut child = start(directory.path());
        kills += usize::from(kill_at(&mut child, &ledger, lines));
    }
    assert!(kills >= 6, "the process was killed only {kills} times");
    let end = start(directory.path()).wait_with_output().expect("the last process ends by itself");
    assert!(end.status.success(), "{}", String::from_utf8_lossy(&end.stderr));

    let server = Server::embedded(directory.path().join("aiki.db")).await.expect("the database opens");
    let client = server.client();
    let workflow = pipeline::define(ledger.clone());
    let mut recorded = HashMap::new();
    for number in 0..RUNS {
        let handle = client.handle_by_reference(&workflow, &format!("run-{number}")).await.expect("the run exists");
        assert_eq!(handle.wait().await.expect("the run completed"), pipeline::expected(number));
        let transitions = client.server().list_transitions(handle.id()).await.expect("the history");
        for transition in transitions {
            if let TransitionChange::Task(task, TaskState::Completed { .. }) = transition.change {
                let before = recorded.insert(task.to_string(), transition.created_at.as_millis());
                assert_eq!(before, None, "task {task} was recorded twice");
            }
        }
    }
    server.close().await;
    assert_eq!(recorded.len(), RUNS as usize * pipeline::TASKS);

    let attempts = ledger.attempts().expect("the ledger");
    for attempt in &attempts {
        let recorded_at = recorded.get(&attempt.task).expect("every attempted task was recorded in the end");
        assert!(attempt.began_ms <= *recorded_at, "task {} ran after its result was recorded", attempt.task);
    }
    // A kill can cost at most one extra attempt per task that was under way: 8 slots, 2 tasks each.
    let extra = attempts.len() - recorded.len();
    assert!(extra <= kills * 16, "{extra} extra attempts for {kills} kills");
}

#[test]
fn a_second_process_on_the_same_file_is_refused() {
    let directory = tempfile::tempdir().expect("a directory");
    let ledger = Ledger::in_directory(directory.path());
    let mut first = start(directory.path());
    while ledger.attempts().expect("the ledger").is_empty() {
        assert!(first.try_wait().expect("the process can be asked").is_none(), "the first process ended early");
        std::thread::sleep(Duration::from_millis(1));
    }
    let second = start(directory.path()).wait_with_output().expect("the second process ends");
    let text = String::from_utf8_lossy(&second.stderr).into_owned();
    first.kill().expect("the first process can be killed");
    first.wait().expect("the first process is gone");
    assert!(!second.status.success());
    assert!(text.contains("is in use by another server"), "{text}");
}
