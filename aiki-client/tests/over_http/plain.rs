//! The client and a worker against a server that speaks the plain contract only.
#![allow(clippy::unwrap_used, reason = "for tests")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use aiki_client::HttpClient;
use aiki_conformance::server::{Pass, child_start, claim, create, request, workflow};
use aiki_core::report::ChildStart;
use aiki_core::run::head::ConcurrencyKey;
use aiki_core::run::plan::{CreateRun, Deadline, RunCommand};
use aiki_core::run::{Reference, RunStatus};
use aiki_core::server_client::ClaimStatus;
use aiki_core::{
    Client, Event, Failure, Name, RetryStrategy, Run, RunError, ServerClient, ServerError, Task, TaskContext,
    Transition, Workflow,
};
use aiki_server::Server;
use aiki_worker::{ClaimSubscriber, Worker};

use crate::support::{Served, config};

const MS: Duration = Duration::from_millis(1);

pub(crate) async fn plain() -> (Server, Served, HttpClient) {
    let server = Server::builder().start().await.unwrap();
    let served = Served::plain(&server).await;
    let http = HttpClient::connect(config(served.address)).unwrap();
    (server, served, http)
}

pub(crate) fn work(client: &Client, register: impl FnOnce(&Worker)) -> Worker {
    let subscriber = ClaimSubscriber::new(client).poll_interval(20 * MS);
    let worker =
        Worker::builder(client.clone()).subscriber(subscriber).max_concurrent_workflow_runs(4).build().unwrap();
    register(&worker);
    let starting = worker.clone();
    tokio::spawn(async move { starting.start().await });
    worker
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_runs_tasks_sleeps_events_and_children_by_the_plain_contract() {
    const GO: Event<u32> = Event::new("go");
    let tried = Arc::new(AtomicU32::new(0));
    let counting = Arc::clone(&tried);
    let add = Task::new("add", move |_: TaskContext, (a, b): (u32, u32)| {
        let tried = Arc::clone(&counting);
        async move {
            match tried.fetch_add(1, Ordering::SeqCst) {
                0 => Err(Failure::new("Hiccup", "not yet")),
                _ => Ok(a + b),
            }
        }
    })
    .retry(RetryStrategy::fixed(3, 30 * MS));
    let double = Workflow::new("double").version("1", |_: Run, n: u32| async move { Ok::<_, Failure>(n * 2) });
    let child = double.clone();
    let whole = Workflow::new("whole")
        .version("1", move |run: Run, first: u32| {
            let (add, child) = (add.clone(), child.clone());
            async move {
                let sum = add.start(&run, (first, 1)).await?;
                run.sleep("nap", 30 * MS).await;
                let more = run.event(&GO).await;
                let sum = add.start(&run, (sum, more)).await?;
                Ok::<_, Failure>(child.start_child(&run, sum).wait().await?)
            }
        })
        .event(&GO);
    let server = Server::builder().start().await.unwrap();
    for served in [Served::plain(&server).await, Served::abroad(&server).await] {
        tried.store(0, Ordering::SeqCst);
        let client = Client::new(HttpClient::connect(config(served.address)).unwrap());
        let worker = work(&client, |worker| drop(worker.workflow_registry().add(&double).add(&whole)));
        let run = whole.start(&client, 1).await.unwrap();
        // It waits, or will: both are the same to the sender.
        run.send_event(&GO, 5).await.unwrap();
        let ended = tokio::time::timeout(Duration::from_secs(30), run.wait()).await;
        assert_eq!(ended.unwrap().unwrap(), 14);
        assert_eq!(tried.load(Ordering::SeqCst), 3, "each task's result was computed once");
        let record = run.record().await.unwrap();
        assert_eq!((record.tasks.len(), record.sleeps.len(), record.children.len()), (2, 1, 1));
        worker.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failure_and_a_wait_that_times_out_are_told_by_the_plain_contract() {
    const GO: Event<u32> = Event::new("go");
    let break_down =
        Task::new("break", |_: TaskContext, (): ()| async move { Err::<(), _>(Failure::new("Broken", "broken")) });
    let whole = Workflow::new("whole")
        .version("1", move |run: Run, (): ()| {
            let break_down = break_down.clone();
            async move {
                let late = run.event_within(&GO, 30 * MS).await;
                assert!(late.is_err(), "nobody sends it");
                break_down.start(&run, ()).await?;
                Ok::<_, Failure>(())
            }
        })
        .event(&GO);
    let (_server, _served, http) = plain().await;
    let client = Client::new(http);
    let worker = work(&client, |worker| drop(worker.workflow_registry().add(&whole)));
    let run = whole.start(&client, ()).await.unwrap();
    let ended = tokio::time::timeout(Duration::from_secs(30), run.wait()).await.unwrap();
    assert!(matches!(ended, Err(RunError::Failed(_) | RunError::Engine(_))), "{ended:?}");
    worker.stop().await;
}

#[tokio::test]
async fn callers_start_find_wait_and_cancel_by_the_plain_contract() {
    let (_server, _served, http) = plain().await;
    let reference = Some(Reference { id: "mine".into(), conflict_policy: Default::default() });
    let asked = CreateRun { reference, ..request("1") };
    let created = http.create_run(asked.clone()).await.unwrap();
    assert_eq!(http.create_run(asked).await.unwrap().id, created.id);
    assert_eq!(http.get_run_by_reference(&workflow(), "mine").await.unwrap().id, created.id);
    let absent = http.get_run_by_reference(&workflow(), "yours").await;
    assert!(matches!(absent, Err(ServerError::ReferenceNotFound { .. })), "{absent:?}");
    let view = http.await_run(created.id, 20 * MS).await.unwrap();
    assert_eq!(view.state.status(), RunStatus::Queued);
    http.cancel_run(created.id, Some("enough".into())).await.unwrap();
    assert_eq!(http.await_run(created.id, 20 * MS).await.unwrap().state.status(), RunStatus::Cancelled);
    let again = http.cancel_run(created.id, None).await;
    assert!(matches!(again, Err(ServerError::IllegalTransition(_))), "{again:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_that_wants_to_continue_as_new_fails_at_once_and_says_what_to_do() {
    let again = Workflow::new("again").version("1", |run: Run, n: u32| async move {
        if n < 3 {
            return run.continue_as_new(n + 1).await;
        }
        Ok::<_, Failure>(n)
    });
    let (_server, _served, http) = plain().await;
    let client = Client::new(http);
    let worker = work(&client, |worker| drop(worker.workflow_registry().add(&again)));
    let run = again.start(&client, 1).await.unwrap();
    let ended = tokio::time::timeout(Duration::from_secs(30), run.wait()).await.unwrap();
    let text = format!("{ended:?}");
    assert!(text.contains("continuing a run as new is not possible"), "{text}");
    assert!(text.contains("continuedAsNew") && text.contains("Start another run"), "{text}");
    worker.stop().await;
}

#[tokio::test]
async fn a_refused_report_leaves_the_claim_to_whoever_fails_the_run() {
    let (_server, _served, http) = plain().await;
    let client = Client::new(http);
    let run = create(&client).await;
    let mut pass = claim(&client, "w", run).await;
    let continued = vec![pass.open(0), Transition::ContinuedAsNew { input: None, events: Vec::new() }];
    let refused = pass.try_report(continued).await;
    assert!(matches!(&refused, Err(ServerError::Unsupported { .. })), "{refused:?}");
    assert!(client.server().get_run(run).await.unwrap().tasks.is_empty(), "nothing of it was written");
    let limited = ChildStart { time_limit: Some(MS), ..child_start("1") };
    let refused = pass.try_report(vec![pass.open(0), Pass::start_child(0, limited)]).await;
    assert!(matches!(&refused, Err(ServerError::Unsupported { .. })), "{refused:?}");
    assert!(client.server().get_run(run).await.unwrap().tasks.is_empty(), "nor of this one");
    let missing = pass.try_report(vec![pass.complete(7, "1")]).await;
    assert!(missing.is_err(), "there is no such task");
    pass.finish().await;
    assert_eq!(client.server().await_run(run, MS).await.unwrap().state.status(), RunStatus::Completed);
}

#[tokio::test]
async fn what_would_come_to_nothing_is_refused_with_the_extension_and_a_way_out() {
    let (_server, _served, http) = plain().await;
    let run = http.create_run(request("1")).await.unwrap().id;
    let concurrency = Some(ConcurrencyKey { key: "tenant".into(), limit: 1 });
    let deadline = Some(Deadline::Within(Duration::from_secs(1)));
    let refused = [
        http.create_run(CreateRun { concurrency, ..request("1") }).await.unwrap_err(),
        http.create_run(CreateRun { deadline, ..request("1") }).await.unwrap_err(),
        http.export_run(run).await.unwrap_err(),
        http.list_workers().await.unwrap_err(),
    ];
    for (error, extension) in refused.iter().zip(["concurrency", "deadline", "exportRun", "listWorkers"]) {
        assert!(matches!(error, ServerError::Unsupported { .. }) && !error.is_transient(), "{error:?}");
        let text = error.to_string();
        assert!(text.contains(extension) && text.contains("plain contract") && text.contains("update"), "{text}");
    }
    assert_eq!(http.count_runs(Default::default()).await, Ok(1), "nothing was started");
}

#[tokio::test]
async fn a_claim_that_another_worker_took_over_is_lost_also_while_the_run_goes_on() {
    let (_server, served, http) = plain().await;
    let other = http.clone();
    let client = Client::new(http);
    let run = create(&client).await;
    let pass = claim(&client, "w", run).await;
    let name = Name::new("w");
    for _ in 0..2 {
        assert_eq!(other.refresh_runs(&name, &[pass.claim()], MS).await.unwrap(), [ClaimStatus::Held]);
    }
    let thief = HttpClient::connect(config(served.address)).unwrap();
    claim(&Client::new(thief), "v", run).await;
    assert_eq!(other.refresh_runs(&name, &[pass.claim()], MS).await.unwrap(), [ClaimStatus::Lost]);
    assert_eq!(other.refresh_runs(&name, &[pass.claim()], MS).await.unwrap(), [ClaimStatus::Lost], "and stays so");
}

#[tokio::test]
async fn a_report_of_a_run_that_was_paused_meanwhile_tells_that_the_claim_is_gone() {
    let (_server, _served, http) = plain().await;
    let client = Client::new(http);
    let run = create(&client).await;
    let mut pass = claim(&client, "w", run).await;
    client.server().command_run(run, RunCommand::Pause).await.unwrap();
    // A run that is paused may not sleep: the contract says that first.
    let told = pass.try_report(vec![Pass::sleep(0, MS), Transition::Suspended]).await;
    assert_eq!(told, Err(ServerError::ClaimLost(run)));
}
