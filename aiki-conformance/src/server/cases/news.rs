//! What workers and the server tell each other besides claims and reports.

use std::time::Duration;

use aiki_core::name::WorkflowKey;
use aiki_core::run::RunOptions;
use aiki_core::run::plan::{CreateRun, RunCommand};
use aiki_core::server_client::WorkerServes;
use aiki_core::{Client, Name, RunId, Transition};

use crate::server::{LEASE, Pass, ServerHarness, child_start, claim, create, create_as, request, send, workflow};

/// Longer than anything that has to come takes.
const PATIENCE: Duration = Duration::from_secs(5);
/// Long enough for something that must not come.
const SHORT: Duration = Duration::from_millis(30);

async fn news(client: &Client, worker: &str, timeout: Duration) -> Vec<RunId> {
    client.server().await_news(&Name::new(worker), timeout).await.unwrap()
}

/// A worker that waits for news already.
async fn listener(client: &Client, worker: &'static str) -> tokio::task::JoinHandle<Vec<RunId>> {
    let client = client.clone();
    let waits = tokio::spawn(async move { news(&client, worker, PATIENCE).await });
    for _ in 0..10 {
        tokio::task::yield_now().await;
    }
    waits
}

pub async fn a_worker_hears_at_once_that_it_lost_a_run(harness: &impl ServerHarness) {
    let client = harness.client();
    let server = client.server();
    for way in 0..4 {
        let run = create(&client).await;
        let mut pass = claim(&client, "w", run).await;
        pass.report(vec![pass.open(0)]).await;
        let waits = listener(&client, "w").await;
        match way {
            0 => server.cancel_run(run, None).await.unwrap(),
            1 => server.command_run(run, RunCommand::Pause).await.unwrap(),
            2 => assert_eq!(server.cancel_runs(&[run]).await.unwrap(), [run]),
            _ => {
                let target = aiki_core::run::plan::TaskTarget::Existing(run.task(0));
                let result = aiki_core::server_client::SetTaskResult { run, target, result: Ok(None) };
                server.set_task_result(result).await.unwrap();
            }
        }
        assert_eq!(waits.await.unwrap(), [run], "way {way}");
    }
}

pub async fn a_worker_hears_of_signals_for_the_runs_it_holds(harness: &impl ServerHarness) {
    let client = harness.client();
    let (run, other) = (create(&client).await, create(&client).await);
    let mut pass = claim(&client, "w", run).await;
    let child = pass.report(vec![Pass::start_child(0, child_start("1"))]).await.children[0].unwrap();
    claim(&client, "v", other).await;
    let waits = listener(&client, "w").await;
    send(&client, other, "paid").await;
    send(&client, run, "paid").await;
    assert_eq!(waits.await.unwrap(), [run], "not of the runs of others");
    // Those that come while nobody asks are kept, once for each run.
    send(&client, run, "paid").await;
    claim(&client, "w", child).await.finish().await;
    assert_eq!(news(&client, "w", PATIENCE).await, [run]);
    assert!(news(&client, "w", SHORT).await.is_empty());
    pass.finish().await;
}

pub async fn what_a_worker_does_itself_is_no_news(harness: &impl ServerHarness) {
    let client = harness.client();
    // So that news would be kept.
    assert!(news(&client, "w", SHORT).await.is_empty());
    let (run, released) = (create(&client).await, create(&client).await);
    let mut pass = claim(&client, "w", run).await;
    let refreshed = claim(&client, "w", released).await;
    pass.report(vec![pass.open(0)]).await;
    pass.report(vec![pass.complete(0, "1"), Pass::sleep(0, PATIENCE), Transition::Suspended]).await;
    client.server().refresh_runs(&Name::new("w"), &[refreshed.claim()], LEASE).await.unwrap();
    refreshed.finish().await;
    let continued = create(&client).await;
    claim(&client, "w", continued).await.report(vec![Transition::ContinuedAsNew { input: None, events: vec![] }]).await;
    assert!(news(&client, "w", SHORT).await.is_empty());
    // Nobody holds it: nobody is told.
    send(&client, run, "paid").await;
    assert!(news(&client, "w", SHORT).await.is_empty());
}

pub async fn a_worker_that_holds_nothing_yet_is_not_forgotten_while_it_listens(harness: &impl ServerHarness) {
    let client = harness.client();
    let waits = listener(&client, "w").await;
    client.server().list_workers().await.unwrap();
    let run = create(&client).await;
    claim(&client, "w", run).await;
    send(&client, run, "paid").await;
    assert_eq!(waits.await.unwrap(), [run]);
}

async fn unserved(client: &Client, run: RunId) -> bool {
    client.server().await_run(run, Duration::ZERO).await.unwrap().unserved
}

fn serves(workflow: WorkflowKey, pools: &[&str]) -> WorkerServes {
    WorkerServes { workflows: vec![workflow], pools: pools.iter().copied().map(Name::new).collect() }
}

pub async fn a_run_of_a_version_that_nobody_serves_says_so(harness: &impl ServerHarness) {
    let client = harness.client();
    let server = client.server();
    let worker = Name::new("w");
    let plain = create(&client).await;
    let options = Some(RunOptions { pool: Some(Name::new("gpu")), retry: None });
    let pooled = create_as(&client, CreateRun { options, ..request("1") }).await;
    let delayed = create_as(&client, CreateRun { delay: PATIENCE, ..request("1") }).await;
    let state =
        async || (unserved(&client, plain).await, unserved(&client, pooled).await, unserved(&client, delayed).await);
    assert_eq!(state().await, (true, true, false), "only what is ready lacks a worker");
    server.announce_worker(&worker, serves(WorkflowKey::user("orders", "2.0.0"), &[])).await.unwrap();
    assert_eq!(state().await, (true, true, false), "another version");
    harness.client_for(Name::new("other")).server().announce_worker(&worker, serves(workflow(), &[])).await.unwrap();
    assert_eq!(state().await, (true, true, false), "another namespace");
    server.announce_worker(&worker, serves(workflow(), &[])).await.unwrap();
    assert_eq!(state().await, (false, true, false), "a worker of a pool serves its pools and nothing else");
    server.announce_worker(&worker, serves(workflow(), &["gpu", "mail"])).await.unwrap();
    assert_eq!(state().await, (true, false, false));
    let listed = server.list_workers().await.unwrap();
    let known = listed.iter().find(|known| known.name == worker).unwrap();
    assert_eq!(known.serves, Some(serves(workflow(), &["gpu", "mail"])));
    harness.advance(Duration::from_secs(91)).await;
    assert!(state().await.1, "it was not heard of for too long");
}
