//! What people and programs get to see of runs.
#![allow(clippy::unwrap_used, reason = "for tests")]

mod support;

use std::sync::Arc;
use std::time::Duration;

use aiki_conformance::server::{Pass, child_start, claim, create, create_as, request};
use aiki_core::listing::{RunFilter, RunOrder, RunSummary};
use aiki_core::report::ChildStart;
use aiki_core::run::export::RunExport;
use aiki_core::run::plan::CreateRun;
use aiki_core::run::{FailureCause, Reference, RunStatus};
use aiki_core::server_client::{WorkerInfo, WorkerServes};
use aiki_core::{Client, Clock, ErrorObject, Name, RunId, ServerError, Transition, WorkflowKey};
use aiki_runtime::SeededEntropy;
use aiki_server::Server;
use aiki_server::looking::{Format, ListRuns, LookingError, cancel, export, list, list_workers, show};
use support::ManualClock;

async fn server() -> (Server, Client, Arc<ManualClock>) {
    let clock = Arc::<ManualClock>::default();
    let builder = Server::builder().clock(clock.clone()).entropy(Arc::new(SeededEntropy::new(1)));
    let server = builder.start().await.unwrap();
    let client = server.client();
    (server, client, clock)
}

async fn listed(client: &Client, asked: ListRuns, format: Format, clock: &ManualClock) -> String {
    let mut text = Vec::new();
    list(client, asked, format, clock.now(), &mut text).await.unwrap();
    String::from_utf8(text).unwrap()
}

async fn shown(client: &Client, run: RunId, clock: &ManualClock) -> String {
    let mut text = Vec::new();
    show(client, run, Format::Table, clock.now(), &mut text).await.unwrap();
    String::from_utf8(text).unwrap()
}

#[tokio::test]
async fn a_list_is_a_table_with_times_in_utc() {
    let (_server, client, clock) = server().await;
    let reference = Some(Reference { id: "order\n1".into(), conflict_policy: Default::default() });
    let first = create_as(&client, CreateRun { reference, ..request("1") }).await;
    let mut pass = claim(&client, "w", first).await;
    pass.report(vec![pass.open(0)]).await;
    clock.step(Duration::from_secs(90));
    let second = create(&client).await;
    pass.report(vec![pass.complete(0, "1"), Transition::Completed { output: None }]).await;
    let text = listed(&client, ListRuns::default(), Format::Table, &clock).await;
    let lines: Vec<_> = text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    assert_eq!(lines[0], "RUN WORKFLOW STATUS CREATED TOOK TASKS REFERENCE");
    assert_eq!(lines[1], format!("{second} orders@1.0.0 queued 2026-03-01T00:01:30.000Z now"));
    let expected = "orders@1.0.0 completed 2026-03-01T00:00:00.000Z 1m ago 1m30s 1/1 order\\n1";
    assert_eq!(lines[2], format!("{first} {expected}"));
    assert_eq!(lines.len(), 3);
}

#[tokio::test]
async fn a_list_that_is_cut_says_where_it_goes_on() {
    let (_server, client, clock) = server().await;
    let runs = [create(&client).await, create(&client).await, create(&client).await];
    let asked = |after, limit| ListRuns { order: RunOrder::OldestFirst, after, limit, ..ListRuns::default() };
    let text = listed(&client, asked(None, 2), Format::Table, &clock).await;
    assert_eq!(text.lines().last().unwrap(), format!("there are more: go on after {}", runs[1]));
    let text = listed(&client, asked(Some(runs[1]), 2), Format::Table, &clock).await;
    assert_eq!(text.lines().count(), 2, "{text}");
    assert!(text.lines().last().unwrap().starts_with(&runs[2].to_string()), "{text}");
    assert_eq!(listed(&client, asked(Some(runs[2]), 2), Format::Table, &clock).await, "no runs\n");
}

#[tokio::test]
async fn programs_get_one_document_per_line() {
    let (_server, client, clock) = server().await;
    let runs = [create(&client).await, create(&client).await];
    let text = listed(&client, ListRuns::default(), Format::JsonLines, &clock).await;
    let read: Vec<RunSummary> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(read.iter().map(|run| run.id).collect::<Vec<_>>(), [runs[1], runs[0]]);
    assert_eq!(read, client.list_runs(RunFilter::default()).next_page().await.unwrap().unwrap().runs);
    let failed = RunFilter { statuses: vec![RunStatus::Failed], ..RunFilter::default() };
    let none = ListRuns { filter: failed, ..ListRuns::default() };
    assert_eq!(listed(&client, none, Format::JsonLines, &clock).await, "");
    let mut text = Vec::new();
    show(&client, runs[0], Format::JsonLines, clock.now(), &mut text).await.unwrap();
    let read = RunExport::from_json(&String::from_utf8(text).unwrap()).unwrap();
    assert_eq!(read.record(), client.server().get_run(runs[0]).await.unwrap());
}

#[tokio::test]
async fn a_run_is_shown_with_what_happened_to_it_and_why() {
    let (_server, client, clock) = server().await;
    let run = create(&client).await;
    let text = shown(&client, run, &clock).await;
    assert!(text.contains("queued; no worker"), "{text}");
    let mut pass = claim(&client, "w", run).await;
    pass.report(vec![pass.open(0)]).await;
    let error = ErrorObject::new("Declined", "the card\u{1b}[31m was declined");
    let failed = Transition::TaskFailed { id: run.task(0), attempts: 1, error: error.clone() };
    let cause = FailureCause::Task(run.task(0), Some(error));
    pass.report(vec![failed, Transition::Failed { cause }]).await;
    clock.step(Duration::from_secs(3_600));
    let text = shown(&client, run, &clock).await;
    let line = |begins: &str| text.lines().find(|line| line.trim_start().starts_with(begins)).unwrap().to_owned();
    assert!(line("status").ends_with("failed"), "{text}");
    assert!(line("because").contains("was declined"), "{text}");
    assert!(line("ended").contains("1h ago"), "{text}");
    assert!(line("input").ends_with("{\"order\":1}"), "{text}");
    assert!(!text.contains('\u{1b}'), "{text}");
    let happened: Vec<_> = text.lines().skip_while(|line| *line != "what happened").skip(2).collect();
    assert_eq!(happened.len(), client.server().list_transitions(run).await.unwrap().len());
    assert!(happened.last().unwrap().contains("failed"), "{text}");
}

#[tokio::test]
async fn a_run_is_shown_with_its_children_and_why_another_worker_was_given_it() {
    let (_server, client, clock) = server().await;
    let run = create(&client).await;
    let mut pass = claim(&client, "first", run).await;
    let part = |version| ChildStart { workflow: WorkflowKey::user("parts", version), ..child_start("1") };
    pass.report(vec![Pass::start_child(0, part("1.0.0")), Pass::start_child(1, part("2.0.0"))]).await;
    let claims = [pass.claim()];
    client.server().release_runs(&Name::new("first"), &claims).await.unwrap();
    claim(&client, "second", run).await;
    let text = shown(&client, run, &clock).await;
    let children: Vec<_> = text.lines().skip_while(|line| *line != "children").skip(2).take(2).collect();
    for (child, version) in children.iter().zip(["parts@1.0.0", "parts@2.0.0"]) {
        assert!(child.contains(version) && child.contains("queued"), "{text}");
    }
    let taken: Vec<_> = text.lines().filter(|line| line.contains("the worker handed it back")).collect();
    assert!(taken.len() == 1 && taken[0].contains("queued"), "{text}");
}

#[tokio::test]
async fn a_worker_that_was_killed_is_told_from_one_that_stopped() {
    let (_server, client, clock) = server().await;
    let serves = |workflows| WorkerServes { workflows, pools: Vec::new() };
    let orders = || vec![WorkflowKey::user("orders", "1.0.0")];
    for worker in ["killed", "stopped"] {
        client.server().announce_worker(&Name::new(worker), serves(orders())).await.unwrap();
    }
    client.server().announce_worker(&Name::new("stopped"), serves(Vec::new())).await.unwrap();
    clock.step(Duration::from_secs(61));
    client.server().announce_worker(&Name::new("there"), serves(orders())).await.unwrap();
    let mut texts = [Format::Table, Format::JsonLines].map(|format| (format, Vec::new()));
    for (format, text) in &mut texts {
        list_workers(&client, *format, clock.now(), text).await.unwrap();
    }
    let [table, json] = texts.map(|(_, text)| String::from_utf8(text).unwrap());
    let states: Vec<_> = table.lines().map(|line| line.split_whitespace().take(2).collect::<Vec<_>>()).collect();
    let expected =
        [vec!["WORKER", "STATE"], vec!["killed", "silent"], vec!["stopped", "stopped"], vec!["there", "working"]];
    assert_eq!(states, expected, "{table}");
    assert!(json.lines().next().unwrap().contains(r#""state":"silent""#), "{json}");
    assert!(json.lines().all(|line| serde_json::from_str::<WorkerInfo>(line).is_ok()), "{json}");
}

#[tokio::test]
async fn what_is_not_there_is_an_error() {
    let (_server, client, clock) = server().await;
    let nobody = RunId::from_bits(7 << 24);
    for format in [Format::Table, Format::JsonLines] {
        let error = show(&client, nobody, format, clock.now(), &mut Vec::new()).await.unwrap_err();
        assert!(matches!(error, LookingError::Server(ServerError::RunNotFound(run)) if run == nobody), "{error}");
    }
    let error = export(&client, nobody, &mut Vec::new()).await.unwrap_err();
    assert!(matches!(error, LookingError::Server(ServerError::RunNotFound(_))), "{error}");
}

#[tokio::test]
async fn those_that_were_cancelled_are_told() {
    let (_server, client, _clock) = server().await;
    let (open, ended) = (create(&client).await, create(&client).await);
    client.server().cancel_run(ended, None).await.unwrap();
    let mut text = Vec::new();
    cancel(&client, &[ended, open], &mut text).await.unwrap();
    assert_eq!(String::from_utf8(text).unwrap(), format!("{open}\n"));
}
