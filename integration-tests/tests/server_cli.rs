//! The commands of `aiki-server` that ask a server that is running: what they show, and what they say when they cannot.
#![allow(clippy::expect_used, reason = "a panic is how a test fails")]

use std::net::TcpListener;
use std::process::Output;

use aiki::ClientConfig;
use aiki::prelude::*;
use integration_tests::program::{self, Program, eventually};
use serde_json::Value;

const BINARY: &str = env!("CARGO_BIN_EXE_server-program");
const NOBODY: &str = "01K00000000000000000000000";

/// Asks this server.
fn ask(server: &Program, arguments: &[&str]) -> Output {
    let url = format!("http://{}", server.address());
    program::command(BINARY, arguments).env("AIKI_URL", url).output().expect("the program starts")
}

/// What it wrote, when it did what it was asked.
fn answer(server: &Program, arguments: &[&str]) -> String {
    let output = ask(server, arguments);
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text")
}

/// Exit code and the only line, when it did not.
fn refusal(server: &Program, arguments: &[&str]) -> (i32, String) {
    told(ask(server, arguments))
}

fn told(output: Output) -> (i32, String) {
    let text = String::from_utf8(output.stderr).expect("text");
    assert_eq!(text.lines().count(), 1, "one line: {text}");
    (output.status.code().expect("it ended by itself"), text.trim().to_owned())
}

fn create(server: &Program, more: &str) -> String {
    let created =
        call(server, "workflowRun/createV1", &format!(r#"{{"name":"orders","inputHash":{{"value":"h"}},{more}}}"#));
    created["id"].as_str().expect("an id").to_owned()
}

/// Calls a procedure of the contract. Answers what it did.
fn call(server: &Program, procedure: &str, input: &str) -> Value {
    let (status, body) = server.ask("POST", &format!("/api/{procedure}"), None, &format!(r#"{{"json":{input}}}"#));
    assert_eq!(status, 200, "{procedure}: {body}");
    serde_json::from_str::<Value>(&body).expect("JSON")["json"].take()
}

fn memory() -> Program {
    Program::start(BINARY, &["--database", "memory"])
}

/// The ids of a list, in its order.
fn listed(server: &Program, flags: &[&str]) -> Vec<String> {
    let arguments: Vec<&str> = ["runs", "list", "--json"].iter().chain(flags).copied().collect();
    let id = |line: &str| serde_json::from_str::<Value>(line).expect("JSON")["id"].as_str().expect("an id").to_owned();
    answer(server, &arguments).lines().map(id).collect()
}

#[test]
fn a_list_has_what_its_flags_ask_for() {
    let server = memory();
    assert_eq!(answer(&server, &["runs", "list"]), "no runs\n");
    let first = create(&server, r#""versionId":"1","options":{"reference":{"id":"order-1"}}"#);
    let second = create(&server, r#""versionId":"2""#);
    let third = create(&server, r#""versionId":"2""#);
    answer(&server, &["runs", "cancel", &second]);

    let table = answer(&server, &["runs", "list"]);
    assert_eq!(table.lines().count(), 4, "{table}");
    assert!(table.starts_with("RUN ") && table.contains("orders@1") && table.contains("order-1"), "{table}");
    let all = [&third, &second, &first];
    assert_eq!(listed(&server, &[]).iter().collect::<Vec<_>>(), all);
    let cases: &[(&[&str], &[&String])] = &[
        (&["--status", "cancelled"], &[&second]),
        (&["--status", "cancelled,queued"], &all),
        (&["--status", "failed"], &[]),
        (&["--workflow", "orders", "--version", "2"], &[&third, &second]),
        (&["--workflow", "others"], &[]),
        (&["--reference", "order-1"], &[&first]),
        (&["--since", "1h"], &all),
        (&["--since", "2026-01-01", "--until", "1h"], &[]),
        (&["--limit", "2"], &[&third, &second]),
        (&["--after", &second], &[&first]),
        (&["--oldest-first", "--limit", "1"], &[&first]),
    ];
    for (flags, expected) in cases {
        assert_eq!(listed(&server, flags).iter().collect::<Vec<_>>(), *expected, "{flags:?}");
    }
    let cut = answer(&server, &["runs", "list", "--limit", "1"]);
    assert!(cut.ends_with(&format!("go on after {third}\n")), "{cut}");
}

#[test]
fn the_runs_of_a_parent_and_of_a_schedule_are_listed_and_no_others() {
    let server = memory();
    let parents = [create(&server, r#""versionId":"1""#), create(&server, r#""versionId":"1""#)];
    let claim = r#"{"workflows":[{"source":"user","name":"orders","versionId":"1"}],"limit":10}"#;
    assert_eq!(call(&server, "workflowRun/claimReadyV1", claim)["runs"].as_array().map(Vec::len), Some(2));
    let begin = |parent: &String| {
        let run = call(&server, "workflowRun/getByIdV1", &format!(r#"{{"id":"{parent}"}}"#));
        let at = format!(r#""id":"{parent}","expectedRevision":{}"#, run["run"]["revision"]);
        let running = format!(r#"{{"type":"optimistic",{at},"state":{{"status":"running"}}}}"#);
        call(&server, "workflowRun/transitionStateV1", &running)["revision"].clone()
    };
    let child = |of: &String, hash: u64, revision: &Value| {
        let parent = format!(r#""parent":{{"workflowRunId":"{of}","expectedRevision":{revision}}}"#);
        let input = format!(r#"{{"name":"parts","versionId":"1","inputHash":{{"value":"{hash}"}},{parent}}}"#);
        call(&server, "workflowRun/createV1", &input)["id"].as_str().expect("an id").to_owned()
    };
    let revisions = parents.each_ref().map(begin);
    let first = child(&parents[0], 1, &revisions[0]);
    let others = child(&parents[1], 1, &revisions[1]);
    let second = child(&parents[0], 2, &revisions[0]);

    // As its run stays queued, each schedule has one.
    let every = r#""spec":{"type":"interval","everyMs":100,"overlapPolicy":"skip"}"#;
    let schedules = ["hourly", "daily"].map(|name| {
        let run = r#""workflowVersionId":"1","workflowRunInputHash":{"value":"h"}"#;
        let activated = call(&server, "schedule/activateV1", &format!(r#"{{"workflowName":"{name}",{run},{every}}}"#));
        activated["schedule"]["id"].as_str().expect("an id").to_owned()
    });
    for (schedule, name) in schedules.iter().zip(["hourly", "daily"]) {
        let fired = || Some(listed(&server, &["--workflow", name])).filter(|runs| !runs.is_empty());
        let runs = eventually("the run of the schedule", fired);
        assert_eq!(runs.len(), 1);
        assert_eq!(listed(&server, &["--schedule", schedule]), runs);
    }

    assert_eq!(listed(&server, &["--parent", &parents[0]]), [second.clone(), first.clone()]);
    assert_eq!(listed(&server, &["--parent", &parents[1]]), [others]);
    assert_eq!(listed(&server, &["--parent", &parents[0], "--oldest-first", "--limit", "1"]), [first]);
    assert_eq!(listed(&server, &["--parent", &second]), [""; 0]);
    assert_eq!(listed(&server, &["--schedule", NOBODY]), [""; 0]);
}

#[test]
fn a_run_is_shown_cancelled_and_exported() {
    let server = memory();
    let run = create(&server, r#""versionId":"1","input":{"order":42}"#);
    let shown = answer(&server, &["runs", "show", &run]);
    assert!(shown.contains(r#"{"order":42}"#) && shown.contains("what happened"), "{shown}");

    let cancelled = answer(&server, &["runs", "cancel", &run, "--explanation", "the customer left"]);
    assert_eq!(cancelled, format!("{run}\n"));
    let shown = answer(&server, &["runs", "show", &run]);
    assert!(shown.contains("cancelled") && shown.contains("the customer left"), "{shown}");

    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("run.json");
    let path = file.to_str().expect("text");
    assert_eq!(answer(&server, &["runs", "export", &run, "--output", path]), "");
    let written = std::fs::read_to_string(&file).expect("the file");
    for text in
        [written, answer(&server, &["runs", "export", &run]), answer(&server, &["runs", "show", "--json", &run])]
    {
        let export: Value = serde_json::from_str(&text).expect("JSON");
        assert_eq!((&export["aiki-export"], &export["run"]["id"]), (&1.into(), &run.as_str().into()));
        assert!(export["history"].as_array().is_some_and(|history| history.len() > 1), "{text}");
    }
}

#[test]
fn an_export_that_failed_leaves_the_file_as_it_was() {
    use std::os::unix::fs::PermissionsExt;
    let server = memory();
    let run = create(&server, r#""versionId":"1""#);
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("run.json");
    let path = file.to_str().expect("text");
    let (code, _) = refusal(&server, &["runs", "export", &run, NOBODY, "--output", path]);
    assert!(code == 10 && !file.exists(), "{code}");
    answer(&server, &["runs", "export", &run, &run, "--output", path]);
    let before = std::fs::read_to_string(&file).expect("the file");
    assert_eq!(before.lines().count(), 2);
    assert_eq!(file.metadata().expect("the file").permissions().mode() & 0o777, 0o600);
    refusal(&server, &["runs", "export", NOBODY, "--output", path]);
    assert_eq!(std::fs::read_to_string(&file).expect("the file"), before);
    let (code, line) = refusal(&server, &["runs", "export", &run, "--output", "/nowhere/run.json"]);
    assert!(code == 1 && line.contains("/nowhere/run.json cannot be written"), "{code} {line}");
}

#[test]
fn a_run_that_is_not_there_is_code_10() {
    let server = memory();
    for command in ["show", "export", "cancel"] {
        let (code, line) = refusal(&server, &["runs", command, NOBODY]);
        assert_eq!(code, 10, "{line}");
        assert!(line.contains(&format!("there is no run {NOBODY}")) && line.contains("runs list"), "{line}");
    }
}

#[test]
fn one_run_that_cannot_be_cancelled_does_not_keep_the_others_alive() {
    let server = memory();
    let runs = [create(&server, r#""versionId":"1""#), create(&server, r#""versionId":"1""#)];
    answer(&server, &["runs", "cancel", &runs[0]]);
    let output = ask(&server, &["runs", "cancel", NOBODY, &runs[0], &runs[1]]);
    assert_eq!(String::from_utf8_lossy(&output.stdout), format!("{}\n", runs[1]));
    let (code, line) = told(output);
    assert_eq!(code, 10);
    assert!(line.contains(NOBODY) && line.contains(&format!("{} was not cancelled", runs[0])), "{line}");
    assert_eq!(listed(&server, &["--status", "queued"]), [""; 0]);
}

#[test]
fn a_server_that_is_not_there_is_code_8_and_says_what_to_do() {
    let free = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address").to_string();
    for arguments in [["runs", "list"], ["workers", "list"]] {
        let (code, line) = told(program::command(BINARY, &arguments).args(["--url", &free]).output().expect("it ends"));
        assert_eq!(code, 8, "{line}");
        assert!(line.contains(&free) && line.contains("`aiki-server`") && line.contains("AIKI_URL"), "{line}");
    }
}

#[test]
fn a_key_is_asked_for_and_opens_its_namespace_only() {
    let folder = tempfile::tempdir().expect("a folder");
    let place = format!("sqlite://{}", folder.path().join("aiki.db").display());
    let key = |namespace: &str| {
        let flags = ["keys", "create", "--database", &place, "--namespace", namespace, "--role", "client"];
        String::from_utf8(program::run(BINARY, &flags).stdout).expect("text").trim().to_owned()
    };
    let (shop, other) = (key("shop"), key("other"));
    let server = Program::start(BINARY, &["--database", &place]);
    let url = format!("http://{}", server.address());
    let (code, line) = refusal(&server, &["runs", "list"]);
    assert!(code == 9 && line.contains("AIKI_API_KEY") && line.contains("keys create"), "{code} {line}");
    let wrong = format!("{}x", &shop[..shop.len() - 1]);
    let (code, line) = refusal(&server, &["runs", "list", "--api-key", &wrong]);
    assert!(code == 9 && line.contains("keys list") && !line.contains(&wrong), "{code} {line}");

    let body = r#"{"json":{"name":"orders","versionId":"1","inputHash":{"value":"h"}}}"#;
    assert_eq!(server.ask("POST", "/api/workflowRun/createV1", Some(&shop), body).0, 200);
    let list = |key: &str| {
        let mut command = program::command(BINARY, &["runs", "list", "--url", &url]);
        String::from_utf8(command.env("AIKI_API_KEY", key).output().expect("it ends").stdout).expect("text")
    };
    assert!(list(&shop).contains("orders@1"), "{}", list(&shop));
    assert_eq!(list(&other), "no runs\n");
}

#[test]
fn a_mistake_on_the_command_line_is_one_line_and_code_2() {
    let cases: &[(&[&str], &str)] = &[
        (&["runs", "list", "--status", "done"], "completed"),
        (&["runs", "list", "--since", "yesterday"], "such as 90m"),
        (&["runs", "list", "--limit", "0"], "--limit"),
        (&["runs", "list", "--version", "1"], "--workflow"),
        (&["runs", "show", "42"], "expected 26 characters"),
        (&["runs", "show"], "<ID>"),
        (&["runs", "cancel"], "<ID>"),
        (&["runs", "list", "--url", "redis://localhost"], "http"),
        (&["runs", "list", "--ca-file", "/nowhere/ca.pem", "--url", "https://localhost"], "/nowhere/ca.pem"),
        (&["runs"], "say what to do: list, show, cancel, export"),
    ];
    for (arguments, expected) in cases {
        let (code, line) = program::refused(BINARY, arguments);
        assert_eq!(code, 2, "{line}");
        assert!(line.contains(expected) && !line.contains("For more information"), "{arguments:?}: {line}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn workers_are_listed_with_what_they_serve() {
    let server = memory();
    assert_eq!(answer(&server, &["workers", "list"]), "no workers\n");
    let client = aiki::connect(ClientConfig::new(server.address().to_string())).await.expect("it connects");
    let worker = Worker::builder(client).id("worker-1").pool("gpu").build().expect("a worker");
    let orders =
        Workflow::new("orders").version("1.0.0", |_: Run, order: String| async move { Ok::<_, Failure>(order) });
    worker.workflow_registry().add(&orders);
    let running = tokio::spawn({
        let worker = worker.clone();
        async move { worker.start().await }
    });
    let table = tokio::task::block_in_place(|| {
        eventually("the worker", || {
            Some(answer(&server, &["workers", "list"])).filter(|table| table.contains("orders@1.0.0"))
        })
    });
    let row: Vec<_> = table.lines().nth(1).expect("a row").split_whitespace().collect();
    assert!(row[0].starts_with("worker-1") && row.contains(&"gpu"), "{table}");
    let json = answer(&server, &["workers", "list", "--json"]);
    let info: Value = serde_json::from_str(&json).expect("one document");
    assert_eq!(info["serves"]["pools"], serde_json::json!(["gpu"]));
    worker.stop().await;
    running.await.expect("it ends").expect("it worked");
}

#[test]
fn help_tells_variables_and_exit_codes() {
    for arguments in [["runs", "list", "--help"], ["runs", "cancel", "--help"], ["workers", "list", "--help"]] {
        let help = String::from_utf8(program::run(BINARY, &arguments).stdout).expect("text");
        for told in ["AIKI_URL", "AIKI_API_KEY", "Exit codes", "  8 ", "  10 "] {
            assert!(help.contains(told), "{told}\n{help}");
        }
    }
}
