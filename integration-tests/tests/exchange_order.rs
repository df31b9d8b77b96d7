//! What the runner of recorded exchanges makes of a recording before it sends anything.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use integration_tests::exchange::ids::Ids;
use integration_tests::exchange::names::Names;
use integration_tests::exchange::recording::Recording;
use integration_tests::exchange::timeline::Timeline;
use serde_json::{Value, json};

/// The ids below are from the 30 ms that follow.
const BEGUN: u64 = 1_795_416_000_512;
const PARENT: &str = "01M83J4201AAAAAAAAAAAAAAAA";
const CHILD: &str = "01M83J4202BBBBBBBBBBBBBBBB";

/// An exchange with its first and last moment.
fn exchange(seq: u64, moments: (u64, u64), procedure: &str, input: Value, status: u16, body: Value) -> Value {
    json!({
        "seq": seq, "origin": "worker-a", "sentAtMs": moments.0, "receivedAtMs": moments.1, "method": "POST",
        "path": format!("/api/workflowRun/{procedure}"), "requestBody": {"json": input}, "status": status,
        "responseBody": {"json": body},
    })
}

fn transition(seq: u64, moments: (u64, u64), run: &str, state: Value, status: u16, body: Value) -> Value {
    let input = json!({"type": "optimistic", "id": run, "expectedRevision": 2, "state": state});
    exchange(seq, moments, "transitionStateV1", input, status, body)
}

fn wait(seq: u64, moments: (u64, u64), status: &str) -> Value {
    let awaited = json!({"status": "awaiting_child_workflow", "childWorkflowRunId": CHILD, "childWorkflowRunStatus": "completed"});
    let answer = json!({"revision": 3, "state": {"status": status}, "attempts": 1});
    transition(seq, moments, PARENT, awaited, 200, answer)
}

fn end(seq: u64, moments: (u64, u64)) -> Value {
    let answer = json!({"revision": 3, "state": {"status": "completed"}, "attempts": 1});
    transition(seq, moments, CHILD, json!({"status": "completed"}), 200, answer)
}

fn timeline(exchanges: &[Value]) -> Timeline {
    let whole = json!({"scenario": "99", "recordedAtEpochMs": BEGUN, "exchanges": exchanges});
    Timeline::of(&serde_json::from_value::<Recording>(whole).unwrap())
}

fn order(exchanges: &[Value]) -> Vec<u64> {
    timeline(exchanges).exchanges.iter().map(|exchange| exchange.seq).collect()
}

#[test]
fn a_wait_that_found_its_child_at_the_end_is_sent_after_that_end() {
    assert_eq!(order(&[wait(1, (10, 30), "scheduled"), end(2, (12, 20))]), [2, 1]);
    assert_eq!(order(&[wait(1, (10, 30), "awaiting_child_workflow"), end(2, (12, 20))]), [1, 2]);
    assert_eq!(order(&[end(1, (10, 30)), wait(2, (12, 20), "awaiting_child_workflow")]), [2, 1]);
}

#[test]
fn of_two_writers_at_once_the_winner_is_sent_first() {
    let won = |seq, moments| {
        let answer = json!({"revision": 3, "state": {"status": "sleeping"}, "attempts": 1});
        transition(seq, moments, PARENT, json!({"status": "sleeping"}), 200, answer)
    };
    for (status, code) in [(409, "WORKFLOW_RUN_REVISION_CONFLICT"), (400, "BAD_REQUEST")] {
        let lost = |seq, moments| {
            transition(seq, moments, PARENT, json!({"status": "sleeping"}), status, json!({"code": code}))
        };
        assert_eq!(order(&[lost(1, (10, 30)), won(2, (12, 20))]), [2, 1], "{code}");
    }
    // One after the other within a millisecond: the first one was refused for a reason of its own.
    let refused = transition(1, (10, 12), PARENT, json!({"status": "paused"}), 400, json!({"code": "BAD_REQUEST"}));
    assert_eq!(order(&[refused, won(2, (12, 20))]), [1, 2]);
}

#[test]
fn ids_that_nobody_gave_are_sent_as_they_are() {
    let (invented, polled) = ("01M83J4209ZZZZZZZZZZZZZZZZ", "01M83J4203CCCCCCCCCCCCCCCC");
    let later = "7ZZZZZZZZZZZZZZZZZZZZZZZZZ";
    let missing = json!({"code": "NOT_FOUND"});
    let multicast = json!({"ids": [PARENT, invented], "eventName": "e"});
    let poll = |seq, after: &str| {
        let answer = json!({"terminated": false, "latestStateTransitionId": polled});
        let input = json!({"id": PARENT, "afterStateTransitionId": after});
        exchange(seq, (seq * 10, seq * 10 + 5), "hasTerminatedV1", input, 200, answer)
    };
    let unknown = timeline(&[
        exchange(1, (10, 15), "createV1", json!({"name": "w"}), 200, json!({"id": PARENT})),
        exchange(2, (20, 25), "getByIdV1", json!({"id": invented}), 404, missing),
        exchange(
            3,
            (30, 35),
            "multicastEventV1",
            multicast,
            200,
            json!({"sentIds": [PARENT], "failedIds": [invented]}),
        ),
        // The answer that gave this transition was folded away.
        poll(4, "01M83J4204DDDDDDDDDDDDDDDD"),
        poll(5, later),
    ])
    .unknown;
    let mut unknown: Vec<_> = unknown.into_iter().collect();
    unknown.sort();
    assert_eq!(unknown, [invented, later]);
}

#[test]
fn the_workflow_of_the_system_keeps_its_name_where_a_list_does_not_say_whose_it_is() {
    let runs = json!({"runs": [
        {"name": "cancel-child-runs", "versionId": "1.0.0"}, {"name": "mine", "versionId": "1.0.0"},
    ]});
    let live = Names::new("p.").value("workflowRun/listV1", &runs);
    assert_eq!((&live["runs"][0]["name"], &live["runs"][1]["name"]), (&json!("cancel-child-runs"), &json!("p.mine")));
}

#[test]
fn the_reference_of_a_schedules_run_is_sent_with_the_time_at_which_it_was_due_here() {
    let (recorded, live) = (format!("schedule:{PARENT}:1795416002000"), format!("schedule:{CHILD}:1795490000000"));
    let mut ids = Ids::default();
    ids.refer(&recorded, &live);
    ids.refer(&recorded, "schedule:another:1");
    assert_eq!(ids.text(&recorded), live);
}
