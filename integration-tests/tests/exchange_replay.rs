//! The runner of recorded exchanges against scripted servers: every kind of wrong answer is
//! noticed, what the contract leaves open is not.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Bytes;
use axum::http::{StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use integration_tests::exchange::differences::Differences;
use integration_tests::exchange::live::Live;
use integration_tests::exchange::player::Patience;
use integration_tests::exchange::recording::Recording;
use integration_tests::exchange::report::{Fault, Outcome};
use integration_tests::exchange::{Options, replay};
use serde_json::{Value, json};

const RUN: &str = "01M83HW1M7PSEBSJDFPEW3ZWPW";
const TASK: &str = "01M83HW2NEGA7FC2HJ76EC7B71";
const LIVE_RUN: &str = "01M87391CGXDSWEG6T26Z00000";
const LIVE_TASK: &str = "01M87391CGXDSWEG6T26Z00003";
const BEGUN: u64 = 1_795_415_737_959;

fn post(seq: u64, procedure: &str, input: Value, status: u16, body: Value) -> Value {
    json!({
        "seq": seq, "origin": "raw", "sentAtMs": seq * 10, "receivedAtMs": seq * 10 + 5, "method": "POST",
        "path": format!("/api/{procedure}"), "requestHeaders": {"content-type": "application/json"},
        "requestBody": {"json": input}, "status": status,
        "responseHeaders": {"content-type": "application/json"}, "responseBody": body,
    })
}

fn record(id: &str, name: &str, revision: u64, state: Value, transition: &str, at: u64) -> Value {
    json!({"json": {"run": {
        "id": id, "name": name, "versionId": "1", "source": "user", "createdAt": at, "revision": revision,
        "stateTransitionId": transition, "input": null, "inputHash": "h", "attempts": 1, "state": state,
        "tasks": {}, "sleeps": {}, "eventWaits": {}, "childWorkflowRuns": {},
    }}})
}

/// A run that is created, read while it is still scheduled, claimed, started, and sleeps.
fn recording() -> Recording {
    let scheduled = json!({"status": "scheduled", "reason": "new", "scheduledAt": BEGUN});
    let workflows = json!([{"source": "user", "name": "wf", "versionId": "1"}]);
    let refused = json!({"json": {"defined": false, "code": "BAD_REQUEST", "status": 400, "message": "no"}});
    let sleeping = json!({"status": "sleeping", "sleepName": "s", "wakeupAt": BEGUN + 55 + 60_000});
    let exchanges = vec![
        post(
            1,
            "workflowRun/createV1",
            json!({"name": "wf", "versionId": "1", "inputHash": {"value": "h"}}),
            200,
            json!({"json": {"id": RUN}}),
        ),
        post(
            2,
            "workflowRun/getByIdV1",
            json!({"id": RUN}),
            200,
            record(RUN, "wf", 0, scheduled, "01M83HW1M7Y15GMEJ9JJBGWC6F", BEGUN),
        ),
        post(
            3,
            "workflowRun/claimReadyV1",
            json!({"workflows": workflows, "limit": 1}),
            200,
            json!({"json": {"runs": [{"id": RUN}]}}),
        ),
        post(
            4,
            "workflowRun/transitionStateV1",
            json!({"type": "optimistic", "id": RUN, "expectedRevision": 1, "state": {"status": "running"}}),
            200,
            json!({"json": {"revision": 2, "state": {"status": "running"}, "attempts": 1}}),
        ),
        post(
            5,
            "task/transitionStateV1",
            json!({"type": "create", "taskName": "t", "inputHash": "h", "workflowRunId": RUN, "expectedWorkflowRunRevision": 2}),
            200,
            json!({"json": {"taskInfo": {"id": TASK, "name": "t", "inputHash": "h", "state": {"status": "running", "attempts": 1}}}}),
        ),
        post(
            6,
            "workflowRun/transitionStateV1",
            json!({"type": "optimistic", "id": RUN, "expectedRevision": 2, "state": {"status": "sleeping", "sleepName": "s", "durationMs": 60_000}}),
            200,
            json!({"json": {"revision": 3, "state": sleeping, "attempts": 1}}),
        ),
        post(
            7,
            "workflowRun/transitionStateV1",
            json!({"type": "optimistic", "id": RUN, "expectedRevision": 3, "state": {"status": "completed"}}),
            400,
            refused,
        ),
    ];
    of(exchanges)
}

fn of(exchanges: Vec<Value>) -> Recording {
    let whole = json!({"scenario": "99-scripted", "recordedAtEpochMs": BEGUN, "exchanges": exchanges});
    serde_json::from_value(whole).unwrap()
}

fn now() -> u64 {
    u64::try_from(std::time::UNIX_EPOCH.elapsed().unwrap().as_millis()).unwrap()
}

/// How the scripted server answers otherwise than it should.
type Twist = fn(&str, &mut u16, &mut Value);

struct Scripted {
    twist: Twist,
    /// How long a new run stays scheduled.
    lag: Duration,
    revision: u64,
    claimed: bool,
    name: String,
    created: Instant,
}

impl Scripted {
    fn answer(&mut self, procedure: &str, input: &Value) -> (u16, Value) {
        if self.revision == 0 && !self.name.is_empty() && self.created.elapsed() >= self.lag {
            self.revision = 1;
        }
        let wakeup = now() + 60_000;
        let state = match self.revision {
            0 => json!({"status": "scheduled", "reason": "new", "scheduledAt": now()}),
            1 => json!({"status": "queued", "reason": "new"}),
            2 => json!({"status": "running"}),
            _ => json!({"status": "sleeping", "sleepName": "s", "wakeupAt": wakeup}),
        };
        let body = match procedure {
            "workflowRun/createV1" => {
                self.name = input["name"].as_str().unwrap().to_owned();
                self.created = Instant::now();
                json!({"json": {"id": LIVE_RUN}})
            }
            "workflowRun/getByIdV1" => {
                let transition = format!("01M87391CGXDSWEG6T26Z0000{}", self.revision + 1);
                record(LIVE_RUN, &self.name, self.revision, state, &transition, now())
            }
            "workflowRun/getStateV1" => json!({"json": {"state": state}}),
            "workflowRun/claimReadyV1" => {
                let ready = self.revision == 1 && !std::mem::replace(&mut self.claimed, self.revision == 1);
                json!({"json": {"runs": if ready { json!([{"id": LIVE_RUN}]) } else { json!([]) }}})
            }
            "task/transitionStateV1" => {
                let state = json!({"status": "running", "attempts": 1});
                json!({"json": {"taskInfo": {"id": LIVE_TASK, "name": "t", "inputHash": "h", "state": state}}})
            }
            _ if input["expectedRevision"] == self.revision && self.revision < 3 => {
                self.revision += 1;
                let sleeping = json!({"status": "sleeping", "sleepName": "s", "wakeupAt": wakeup});
                let state = if self.revision == 2 { json!({"status": "running"}) } else { sleeping };
                json!({"json": {"revision": self.revision, "state": state, "attempts": 1}})
            }
            _ => {
                let error =
                    json!({"defined": false, "code": "BAD_REQUEST", "status": 400, "message": "another wording"});
                return (400, json!({"json": error}));
            }
        };
        (200, body)
    }
}

async fn serve(twist: Twist, lag: Duration) -> String {
    let name = String::new();
    let script = Scripted { twist, lag, revision: 0, claimed: false, name, created: Instant::now() };
    let script = Arc::new(Mutex::new(script));
    let answer = move |uri: Uri, body: Bytes| {
        let script = Arc::clone(&script);
        async move { respond(&mut script.lock().unwrap(), &uri, &body) }
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, Router::new().fallback(answer)).await });
    url
}

fn respond(script: &mut Scripted, uri: &Uri, body: &[u8]) -> Response {
    let procedure = uri.path().trim_start_matches("/api/");
    let input = serde_json::from_slice::<Value>(body).unwrap_or_default()["json"].take();
    let (mut status, mut body) = script.answer(procedure, &input);
    (script.twist)(procedure, &mut status, &mut body);
    let json = [(header::CONTENT_TYPE, "application/json; charset=utf-8")];
    (StatusCode::from_u16(status).unwrap(), json, body.to_string()).into_response()
}

async fn play(recording: Recording, twist: Twist, lag: Duration, differences: &str) -> Outcome {
    let live = Live::new(&serve(twist, lag).await, None).unwrap();
    let ms = Duration::from_millis;
    let patience = Patience { least: ms(300), beyond: ms(0), between: ms(5) };
    let options = Options { jobs: 1, patience, nonce: "r0".to_owned() };
    let differences = Differences::parse(differences).unwrap();
    let mut reports = replay(&live, &[recording], &differences, &options, |_| {}).await;
    reports.remove(0).outcome
}

async fn faults(twist: Twist) -> Vec<Fault> {
    match play(recording(), twist, Duration::ZERO, "").await {
        Outcome::Differs(faults) => faults,
        other => panic!("nothing noticed: {other:?}"),
    }
}

#[track_caller]
fn noticed(faults: &[Fault], seq: u64, pointer: &str, live: &str) {
    let found = faults.iter().any(|fault| fault.seq == seq && fault.pointer == pointer && fault.live == live);
    assert!(found, "{seq} {pointer} {live} is not among {faults:#?}");
}

#[tokio::test]
async fn a_server_with_other_ids_times_messages_and_exact_timers_is_as_recorded() {
    let outcome = play(recording(), |_, _, _| {}, Duration::ZERO, "").await;
    let Outcome::Ok { exchanges: 7, foreign: 0, tolerated } = outcome else { panic!("{outcome:?}") };
    assert_eq!(tolerated.into_values().collect::<Vec<_>>(), [1], "one read after the timer");
}

#[tokio::test]
async fn a_server_that_needs_a_while_to_queue_is_waited_for() {
    let outcome = play(recording(), |_, _, _| {}, Duration::from_millis(80), "").await;
    let Outcome::Ok { tolerated, .. } = outcome else { panic!("{outcome:?}") };
    assert!(tolerated.is_empty(), "nothing was ahead: {tolerated:?}");
}

#[tokio::test]
async fn another_status_is_noticed() {
    let faults = faults(|_, status, _| {
        if *status == 400 {
            *status = 409
        }
    })
    .await;
    noticed(&faults, 7, "status", "\"409 BAD_REQUEST\"");
}

#[tokio::test]
async fn another_error_code_is_noticed() {
    let faults = faults(|_, status, body| {
        if *status == 400 {
            body["json"]["code"] = json!("NOT_FOUND")
        }
    })
    .await;
    noticed(&faults, 7, "status", "\"400 NOT_FOUND\"");
}

#[tokio::test]
async fn a_key_too_many_in_an_error_is_noticed() {
    let faults = faults(|_, status, body| {
        if *status == 400 {
            body["json"]["data"] = json!(1)
        }
    })
    .await;
    noticed(&faults, 7, "/json/data", "1");
}

#[tokio::test]
async fn a_missing_key_is_noticed() {
    let twist: Twist = |procedure, _, body| {
        if procedure == "workflowRun/getByIdV1" {
            body["json"]["run"].as_object_mut().unwrap().remove("input");
        }
    };
    noticed(&faults(twist).await, 2, "/json/run/input", "(absent)");
}

#[tokio::test]
async fn a_key_too_many_is_noticed() {
    let twist: Twist = |procedure, _, body| {
        if procedure == "workflowRun/getByIdV1" {
            body["json"]["run"]["referenceId"] = Value::Null;
        }
    };
    noticed(&faults(twist).await, 2, "/json/run/referenceId", "null");
}

#[tokio::test]
async fn another_value_is_noticed() {
    let twist: Twist = |procedure, _, body| {
        if procedure == "task/transitionStateV1" {
            body["json"]["taskInfo"]["state"]["attempts"] = json!(2);
        }
    };
    noticed(&faults(twist).await, 5, "/json/taskInfo/state/attempts", "2");
}

#[tokio::test]
async fn one_id_for_two_things_is_noticed() {
    let twist: Twist = |procedure, _, body| {
        if procedure == "task/transitionStateV1" {
            body["json"]["taskInfo"]["id"] = json!(LIVE_RUN);
        }
    };
    noticed(&faults(twist).await, 5, "/json/taskInfo/id", &format!("\"{LIVE_RUN}\""));
}

#[tokio::test]
async fn two_ids_for_one_thing_are_noticed() {
    let twist: Twist = |procedure, _, body| {
        if procedure == "workflowRun/getByIdV1" {
            body["json"]["run"]["id"] = json!(LIVE_TASK);
        }
    };
    noticed(&faults(twist).await, 2, "/json/run/id", &format!("\"{LIVE_TASK}\""));
}

#[tokio::test]
async fn another_revision_is_noticed() {
    let twist: Twist = |procedure, _, body| {
        if procedure == "workflowRun/transitionStateV1" && body["json"]["revision"] == 2 {
            body["json"]["revision"] = json!(3);
        }
    };
    noticed(&faults(twist).await, 4, "/json/revision", "3");
}

#[tokio::test]
async fn a_read_that_is_two_steps_ahead_is_noticed() {
    let twist: Twist = |procedure, _, body| {
        if procedure == "workflowRun/getByIdV1" && body["json"]["run"]["revision"] == 1 {
            body["json"]["run"]["revision"] = json!(2);
        }
    };
    noticed(&faults(twist).await, 2, "/json/run/revision", "2");
}

#[tokio::test]
async fn a_delay_that_is_left_out_is_noticed() {
    let twist: Twist = |procedure, _, body| {
        if procedure == "workflowRun/transitionStateV1" && body["json"]["revision"] == 3 {
            body["json"]["state"]["wakeupAt"] = json!(1_795_415_738_000_u64);
        }
    };
    noticed(&faults(twist).await, 6, "/json/state/wakeupAt", "1795415738000");
}

#[tokio::test]
async fn a_run_that_is_never_handed_out_is_noticed() {
    let twist: Twist = |procedure, _, body| {
        if procedure == "workflowRun/claimReadyV1" {
            body["json"]["runs"] = json!([]);
        }
    };
    noticed(&faults(twist).await, 3, "/json/runs", "not handed out in time");
}

#[tokio::test]
async fn a_run_that_is_handed_out_though_nobody_recorded_it_is_noticed() {
    let mut recording = recording();
    recording.exchanges[2].response_body = Some(json!({"json": {"runs": []}}));
    let outcome = play(recording, |_, _, _| {}, Duration::ZERO, "").await;
    let Outcome::Differs(faults) = outcome else { panic!("{outcome:?}") };
    noticed(&faults, 3, "/json/runs", &format!("handed out {RUN} (recorded id)"));
}

#[tokio::test]
async fn a_run_that_is_handed_out_early_waits_for_the_recorded_claim() {
    let mut recording = recording();
    let mut empty = recording.exchanges[2].clone();
    empty.response_body = Some(json!({"json": {"runs": []}}));
    recording.exchanges.insert(2, empty);
    let outcome = play(recording, |_, _, _| {}, Duration::ZERO, "").await;
    assert!(matches!(outcome, Outcome::Ok { exchanges: 8, .. }), "{outcome:?}");
}

#[tokio::test]
async fn more_runs_than_the_limit_are_noticed() {
    let twist: Twist = |procedure, _, body| {
        if procedure == "workflowRun/claimReadyV1" {
            body["json"]["runs"] = json!([{"id": LIVE_RUN}, {"id": LIVE_RUN}]);
        }
    };
    noticed(&faults(twist).await, 3, "/json/runs", "2");
}

const TAKEN: &str = r#"
[[difference]]
fixture = "99"
procedure = "task/transitionStateV1"
pointer = "/json/taskInfo/state/attempts"
recorded = 1
accept = [2]
why = "told beforehand"
"#;

#[tokio::test]
async fn a_difference_is_allowed_where_it_is_written_down_and_nowhere_else() {
    let two: Twist = |procedure, _, body| {
        if procedure == "task/transitionStateV1" {
            body["json"]["taskInfo"]["state"]["attempts"] = json!(2);
        }
    };
    let three: Twist = |procedure, _, body| {
        if procedure == "task/transitionStateV1" {
            body["json"]["taskInfo"]["state"]["attempts"] = json!(3);
        }
    };
    let outcome = play(recording(), two, Duration::ZERO, TAKEN).await;
    assert!(
        matches!(&outcome, Outcome::Ok { tolerated, .. } if tolerated.contains_key("told beforehand")),
        "{outcome:?}"
    );
    let other_value = play(recording(), three, Duration::ZERO, TAKEN).await;
    assert!(matches!(other_value, Outcome::Differs(_)), "{other_value:?}");
    let other_fixture = play(recording(), two, Duration::ZERO, &TAKEN.replace("\"99\"", "\"98\"")).await;
    assert!(matches!(other_fixture, Outcome::Differs(_)), "{other_fixture:?}");
}

#[tokio::test]
async fn runs_of_an_earlier_session_are_left_out() {
    let old = "01M83FX0AZ4WXGRV0J8FQTGMQ0";
    let mut recording = recording();
    recording.exchanges[2].response_body = Some(json!({"json": {"runs": [{"id": RUN}, {"id": old}]}}));
    let about_it =
        post(8, "workflowRun/getStateV1", json!({"id": old}), 200, json!({"json": {"state": {"status": "paused"}}}));
    recording.exchanges.push(serde_json::from_value(about_it).unwrap());
    let outcome = play(recording, |_, _, _| {}, Duration::ZERO, "").await;
    assert!(matches!(outcome, Outcome::Ok { exchanges: 7, foreign: 1, .. }), "{outcome:?}");
}

#[tokio::test]
async fn a_scenario_with_a_key_is_not_ok_when_there_is_no_key() {
    let mut recording = recording();
    let credentials = "Bearer aiki_00000000_REDACTED".to_owned();
    recording.exchanges[0].request_headers.insert("authorization".to_owned(), credentials);
    let outcome = play(recording, |_, _, _| {}, Duration::ZERO, "").await;
    assert!(matches!(outcome, Outcome::Skipped(_)), "{outcome:?}");
}

#[test]
fn the_differences_of_the_contract_can_be_read() {
    Differences::of_the_contract().unwrap();
}
