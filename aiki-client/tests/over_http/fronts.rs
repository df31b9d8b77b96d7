//! A proxy answers for a server that is away: nobody takes its word for the server's.
#![allow(clippy::unwrap_used, reason = "for tests")]

use std::sync::{Arc, Mutex};
use std::time::Duration;

use aiki_client::{ClientConfig, HttpClient};
use aiki_conformance::server::{claim, create};
use aiki_core::run::RunStatus;
use aiki_core::{Client, Failure, Run, ServerClient, ServerError, Task, TaskContext, Workflow};
use aiki_server::Server;
use aiki_worker::{ClaimSubscriber, Worker};
use tokio::time::{sleep, timeout};

use crate::support::front::{CLOUDFLARE, Front, NOT_FOUND, TRAEFIK, Words};
use crate::support::{Served, config};

const MS: Duration = Duration::from_millis(1);
const PATIENCE: Duration = Duration::from_secs(30);
const RUNS: usize = 8;
const TASKS: usize = 6;

async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let looking = async {
        while !holds() {
            sleep(5 * MS).await;
        }
    };
    assert!(timeout(PATIENCE, looking).await.is_ok(), "{what} does not come");
}

/// Gives up soon.
fn hasty(front: &Front) -> HttpClient {
    HttpClient::connect(ClientConfig { retry_for: 30 * MS, ..config(front.address) }).unwrap()
}

async fn served() -> (Server, Served, Front) {
    let server = Server::builder().start().await.unwrap();
    let served = Served::on_any(&server).await;
    let front = Front::of(served.address).await;
    (server, served, front)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn runs_under_way_outlive_a_restart_behind_a_proxy_that_answers_meanwhile() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("aiki.db");
    let server = Server::builder().sqlite(&path).start().await.unwrap();
    let served = Served::on_any(&server).await;
    let (address, front) = (served.address, Front::of(served.address).await);
    let bodies = Arc::<Mutex<Vec<usize>>>::default();
    let counting = Arc::clone(&bodies);
    let step = Task::new("step", move |_: TaskContext, n: usize| {
        counting.lock().unwrap().push(n);
        async move {
            sleep(20 * MS).await;
            Ok::<_, Failure>(n + 1)
        }
    });
    let steps = Workflow::new("steps").version("1", move |run: Run, first: usize| {
        let step = step.clone();
        async move {
            let mut n = first;
            for _ in 0..TASKS {
                n = step.start(&run, n).await?;
            }
            Ok::<_, Failure>(n)
        }
    });
    let hands = Client::new(HttpClient::connect(config(front.address)).unwrap());
    let subscriber = ClaimSubscriber::new(&hands).poll_interval(20 * MS);
    let worker = Worker::builder(hands).subscriber(subscriber).max_concurrent_workflow_runs(RUNS).build().unwrap();
    worker.workflow_registry().add(&steps);
    let starting = worker.clone();
    tokio::spawn(async move { starting.start().await });
    let caller = Client::new(HttpClient::connect(config(front.address)).unwrap());
    let mut runs = Vec::new();
    for n in 0..RUNS {
        runs.push(steps.start(&caller, n * TASKS).await.unwrap());
    }
    // A claim whose answer is lost at the restart would lapse much later: there is none under way.
    until("the work", || bodies.lock().unwrap().iter().filter(|n| *n % TASKS == 0).count() == RUNS).await;

    front.say(TRAEFIK);
    drop(served);
    server.close().await;
    drop(server);
    until("the proxy's turn", || front.spoken() >= 20).await;
    front.say(CLOUDFLARE);
    until("the proxy's second turn", || front.spoken() >= 10).await;
    let server = Server::builder().sqlite(&path).start().await.unwrap();
    let _served = Served::on(&server, address).await;
    front.say_times(NOT_FOUND, 10);
    until("the proxy's last turn", || front.spoken() >= 10).await;

    for (n, run) in runs.iter().enumerate() {
        let ended = timeout(PATIENCE, run.wait()).await.expect("it goes on");
        assert_eq!(ended.unwrap(), (n + 1) * TASKS);
        assert_eq!(run.record().await.unwrap().attempts, 1, "nobody had to begin it anew");
    }
    let mut bodies = bodies.lock().unwrap().clone();
    bodies.sort_unstable();
    assert_eq!(bodies, (0..RUNS * TASKS).collect::<Vec<_>>(), "no handler was stopped: each body ran once");
    let foreign: Vec<_> = front.passed().into_iter().filter(|path| !path.starts_with("/api/native/")).collect();
    assert!(foreign.iter().all(|path| path == "/api/workflowRun/getStateV1"), "the dialect changed: {foreign:?}");
    worker.stop().await;
}

#[tokio::test]
async fn a_proxy_without_its_server_is_not_taken_for_a_server_of_the_plain_contract() {
    let (_server, _served, front) = served().await;
    for words in [TRAEFIK, CLOUDFLARE, NOT_FOUND] {
        let http = hasty(&front);
        front.say(words);
        let away = http.check().await;
        let says = |text: &str| text.contains("is the server up") || text.contains("Web server is down");
        assert!(matches!(&away, Err(ServerError::Unavailable(text)) if says(text)), "{words:?}: {away:?}");
        front.pass();
        let run = create(&Client::new(http.clone())).await;
        http.export_run(run).await.expect("it speaks more than the plain contract");
    }
}

#[tokio::test]
async fn a_server_that_comes_back_while_it_is_asked_what_it_is_is_known() {
    let (_server, _served, front) = served().await;
    let http = hasty(&front);
    front.say_times(NOT_FOUND, 1);
    let run = create(&Client::new(http.clone())).await;
    http.export_run(run).await.expect("it speaks more than the plain contract");
    assert!(front.passed().contains("/api/workflowRun/getStateV1"), "it had to ask");
}

#[tokio::test]
async fn a_server_that_was_set_back_to_the_plain_contract_is_noticed() {
    let (server, _served, front) = served().await;
    let http = hasty(&front);
    let run = create(&Client::new(http.clone())).await;
    let older = Served::plain(&server).await;
    front.turn_to(older.address);
    let first = http.get_run(run).await;
    assert!(matches!(&first, Err(ServerError::Unavailable(text)) if text.contains("plain contract")), "{first:?}");
    assert_eq!(http.get_run(run).await.unwrap().id, run);
    let refused = http.export_run(run).await;
    assert!(matches!(&refused, Err(ServerError::Unsupported { .. })), "{refused:?}");
}

#[tokio::test]
async fn only_the_servers_own_word_refuses_a_report() {
    const PAGES: [Words; 9] = [
        TRAEFIK,
        CLOUDFLARE,
        NOT_FOUND,
        (200, "text/html", "<html>We are back soon</html>"),
        (200, "application/json", r#"{"status":"maintenance"}"#),
        (302, "text/html", "<html>Sign in</html>"),
        (400, "text/html", "<html>400 Bad Request</html>"),
        (413, "text/html", "<html>413 Request Entity Too Large</html>"),
        (500, "text/plain", "Internal Server Error"),
    ];
    let (server, _served, front) = served().await;
    let plain = Served::plain(&server).await;
    for contract in [false, true] {
        front.pass();
        if contract {
            front.turn_to(plain.address);
        }
        let far = Client::new(hasty(&front));
        let mut pass = claim(&far, "w", create(&far).await).await;
        let mut runs = vec![pass.run()];
        for words in PAGES {
            front.say(words);
            let told = pass.try_report(vec![pass.open(0)]).await;
            front.pass();
            match told {
                Err(ServerError::Unavailable(_)) => {}
                // It is open what was written: the server begins the run again.
                Err(ServerError::ClaimLost(_)) if contract => {
                    pass = claim(&far, "w", create(&far).await).await;
                    runs.push(pass.run());
                }
                told => panic!("{words:?}: {told:?}"),
            }
        }
        for run in runs {
            assert_eq!(far.server().get_run(run).await.unwrap().state.status(), RunStatus::Running);
        }
        pass.report(vec![pass.open(0)]).await;
        let refused = pass.try_report(vec![pass.complete(9, "1")]).await;
        assert!(refused.as_ref().is_err_and(|error| !error.is_transient()), "{refused:?}");
    }
}
