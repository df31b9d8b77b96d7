//! Answers that are lost, servers that restart.
#![allow(clippy::unwrap_used, reason = "for tests")]

use std::path::Path;
use std::time::Duration;

use aiki_client::HttpClient;
use aiki_conformance::server::{Pass, as_claimed, claim, create, event, ready_request, request, workflow};
use aiki_core::run::RunStatus;
use aiki_core::run::plan::RunCommand;
use aiki_core::server_client::ClaimRuns;
use aiki_core::{Client, Name, RunId, RunState, ServerError, Transition};
use aiki_server::Server;

use crate::support::proxy::Proxy;
use crate::support::{Served, config};

/// A server, a client that reaches it through a proxy, and one that needs no network.
struct Scene {
    near: Client,
    far: Client,
    proxy: Proxy,
    _served: Served,
}

impl Scene {
    async fn set() -> Self {
        let server = Server::builder().start().await.unwrap();
        let served = Served::on_any(&server).await;
        let proxy = Proxy::to(served.address).await;
        let http = HttpClient::connect(config(proxy.address)).unwrap();
        http.check().await.unwrap();
        Self { near: server.client(), far: Client::new(http), proxy, _served: served }
    }

    async fn ready(&self) -> Vec<RunId> {
        let ready = self.near.server().claim_ready(ready_request("counter", 100)).await.unwrap();
        ready.into_iter().map(|claimed| claimed.record.id).collect()
    }

    /// All answers that were to be lost were.
    fn lost(&self) -> bool {
        self.proxy.left() == 0
    }
}

#[tokio::test]
async fn a_start_whose_answer_was_lost_makes_one_run() {
    let scene = Scene::set().await;
    scene.proxy.lose(2);
    let created = scene.far.server().create_run(request("1")).await.unwrap();
    assert!(scene.lost() && !created.existed);
    assert_eq!(scene.ready().await, [created.id]);
}

#[tokio::test]
async fn a_start_that_waits_and_whose_answer_was_lost_makes_one_run() {
    let scene = Scene::set().await;
    scene.proxy.lose(1);
    let (created, view) = scene.far.server().create_and_wait(request("1"), Duration::from_millis(30)).await.unwrap();
    assert!(scene.lost() && !created.existed);
    assert_eq!(view.state.status(), RunStatus::Queued);
    assert_eq!(scene.ready().await, [created.id]);
}

#[tokio::test]
async fn an_event_whose_answer_was_lost_is_handed_over_once() {
    let scene = Scene::set().await;
    let run = create(&scene.near).await;
    scene.proxy.lose(1);
    scene.far.server().send_event(event(run, "paid", None)).await.unwrap();
    scene.far.server().send_event(event(run, "paid", None)).await.unwrap();
    assert!(scene.lost());
    assert_eq!(scene.near.server().get_run(run).await.unwrap().events.len(), 2, "one for each call");
}

#[tokio::test]
async fn a_report_whose_answer_was_lost_is_written_once() {
    let scene = Scene::set().await;
    let run = create(&scene.near).await;
    let mut pass = claim(&scene.far, "w", run).await;
    scene.proxy.lose(1);
    pass.report(vec![pass.open(0)]).await;
    pass.report(vec![pass.complete(0, "1")]).await;
    assert!(scene.lost());
    assert_eq!(scene.near.server().get_run(run).await.unwrap().tasks.len(), 1);
    pass.finish().await;
}

#[tokio::test]
async fn claims_whose_answer_was_lost_are_granted_again() {
    let scene = Scene::set().await;
    let run = create(&scene.near).await;
    scene.proxy.lose(1);
    let ready = scene.far.server().claim_ready(ready_request("w", 10)).await.unwrap();
    assert_eq!(ready.iter().map(|claimed| claimed.record.id).collect::<Vec<_>>(), [run]);
    Pass::of(&scene.far, ready.into_iter().next().unwrap()).finish().await;
    let run = create(&scene.near).await;
    scene.proxy.lose(1);
    let asked = ClaimRuns { worker: Name::new("w"), runs: vec![run], lease: Duration::from_secs(30) };
    let claimed = as_claimed(scene.far.server().claim_runs(asked).await.unwrap().remove(0));
    assert!(scene.lost());
    Pass::of(&scene.far, claimed).finish().await;
}

#[tokio::test]
async fn a_cancellation_whose_answer_was_lost_is_no_error() {
    let scene = Scene::set().await;
    let run = create(&scene.near).await;
    scene.proxy.lose(1);
    scene.far.server().cancel_run(run, None).await.unwrap();
    assert!(scene.lost());
    let again = scene.far.server().cancel_run(run, None).await;
    assert!(matches!(again, Err(ServerError::IllegalTransition(_))), "{again:?}");
}

#[tokio::test]
async fn a_command_whose_answer_was_lost_is_not_sent_again() {
    let scene = Scene::set().await;
    let run = create(&scene.near).await;
    scene.proxy.lose(1);
    let lost = scene.far.server().command_run(run, RunCommand::Pause).await;
    assert!(matches!(&lost, Err(ServerError::Unavailable(text)) if text.contains("may have been done")), "{lost:?}");
    assert_eq!(scene.near.server().get_run(run).await.unwrap().state, RunState::Paused);
}

async fn restartable(path: &Path) -> Server {
    Server::builder().sqlite(path).start().await.unwrap()
}

#[tokio::test]
async fn waits_and_starts_outlive_a_restart_of_the_server() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("aiki.db");
    let server = restartable(&path).await;
    let served = Served::on_any(&server).await;
    let address = served.address;
    let far = Client::new(HttpClient::connect(config(address)).unwrap());
    let run = create(&far).await;
    let waiting = {
        let far = far.clone();
        tokio::spawn(async move { far.server().await_run(run, Duration::from_secs(60)).await })
    };
    let news = {
        let far = far.clone();
        tokio::spawn(async move { far.server().await_news(&Name::new("w"), Duration::from_secs(60)).await })
    };
    tokio::time::sleep(Duration::from_millis(50)).await;
    drop(served);
    server.close().await;
    drop(server);
    assert!(matches!(news.await.unwrap(), Err(ServerError::Unavailable(_))), "whoever asked has to look by itself");
    // Sent while nobody listens.
    let starting = {
        let far = far.clone();
        tokio::spawn(async move { far.server().create_run(request("2")).await })
    };
    tokio::time::sleep(Duration::from_millis(50)).await;
    let server = restartable(&path).await;
    let _served = Served::on(&server, address).await;
    assert_ne!(starting.await.unwrap().unwrap().id, run);
    claim(&far, "w", run).await.finish().await;
    let view = waiting.await.unwrap().unwrap();
    assert_eq!(view.state.status(), RunStatus::Completed);
}

#[tokio::test]
async fn a_claim_outlives_a_restart_of_the_server() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("aiki.db");
    let server = restartable(&path).await;
    let served = Served::on_any(&server).await;
    let address = served.address;
    let far = Client::new(HttpClient::connect(config(address)).unwrap());
    let run = create(&far).await;
    let mut pass = claim(&far, "w", run).await;
    pass.report(vec![pass.open(0)]).await;
    drop(served);
    server.close().await;
    drop(server);
    let server = restartable(&path).await;
    let _served = Served::on(&server, address).await;
    // Its worker is another process: it goes on.
    pass.report(vec![pass.complete(0, "1"), Transition::Completed { output: None }]).await;
    let record = far.server().get_run(run).await.unwrap();
    assert_eq!((record.state.status(), record.workflow), (RunStatus::Completed, workflow()));
}
