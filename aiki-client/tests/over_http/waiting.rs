//! Workers that wait at the server for runs to get ready. In real time; no wait is waited for to its end.
#![allow(clippy::unwrap_used, reason = "for tests")]

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use aiki_client::{ClientConfig, HttpClient};
use aiki_conformance::server::{create, ready_request, request, workflow};
use aiki_core::server_client::{ClaimReady, ClaimedRun};
use aiki_core::{CancellationToken, Client, RunId, ServerClient, ServerError};
use aiki_server::Server;
use aiki_worker::{ClaimSubscriber, Worker};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use crate::support::{Served, config};

/// Far longer than anything takes here, and than the server waits at most.
const LONG: Duration = Duration::from_secs(20);
/// Far shorter than a wait.
const SOON: Duration = Duration::from_secs(5);
/// Long enough for a request to be under way.
const A_MOMENT: Duration = Duration::from_millis(60);

async fn served() -> (Server, Served) {
    let server = Server::builder().start().await.unwrap();
    let served = Served::on_any(&server).await;
    (server, served)
}

fn client(served: &Served) -> HttpClient {
    HttpClient::connect(config(served.address)).unwrap()
}

type Answer = Result<Vec<ClaimedRun>, ServerError>;

fn waits(http: &HttpClient, worker: &str, wait: Duration, enough: &CancellationToken) -> JoinHandle<Answer> {
    let (http, request, enough) = (http.clone(), ready_request(worker, 5), enough.clone());
    tokio::spawn(async move { http.await_ready(request, wait, &enough).await })
}

async fn soon(answer: JoinHandle<Answer>) -> Vec<RunId> {
    let answer = timeout(SOON, answer).await.unwrap().unwrap().unwrap();
    answer.into_iter().map(|claimed| claimed.record.id).collect()
}

#[tokio::test]
async fn one_who_waits_is_granted_a_run_as_soon_as_there_is_one_and_its_lease_counts_from_then() {
    let (server, served) = served().await;
    let waiting = waits(&client(&served), "w", LONG, &CancellationToken::new());
    sleep(A_MOMENT).await;
    let run = create(&server.client()).await;
    let claimed = timeout(SOON, waiting).await.unwrap().unwrap().unwrap();
    let [ClaimedRun { record, epoch: 1, lease, .. }] = &claimed[..] else { panic!("{claimed:?}") };
    assert_eq!(record.id, run);
    let asked = ready_request("w", 5).lease;
    assert!(*lease > asked && *lease < asked + SOON, "{lease:?} from the moment of the question");
}

#[tokio::test]
async fn a_wait_for_nothing_ends_with_nothing() {
    let (_server, served) = served().await;
    let waiting = waits(&client(&served), "w", A_MOMENT, &CancellationToken::new());
    assert_eq!(soon(waiting).await, []);
}

#[tokio::test]
async fn a_server_that_drains_answers_those_who_wait_and_those_who_come_later() {
    let (server, served) = served().await;
    let http = client(&served);
    let waiting = waits(&http, "w", LONG, &CancellationToken::new());
    sleep(A_MOMENT).await;
    server.drain();
    assert_eq!(soon(waiting).await, []);
    assert_eq!(soon(waits(&http, "w", LONG, &CancellationToken::new())).await, []);
}

#[tokio::test]
async fn a_wait_for_an_end_asks_a_server_that_drains_only_now_and_then() {
    let (server, served) = served().await;
    let (http, near) = (client(&served), server.client());
    let run = create(&near).await;
    let waiting = {
        let http = http.clone();
        tokio::spawn(async move { http.await_run(run, LONG).await })
    };
    sleep(A_MOMENT).await;
    server.drain();
    let before = http.requests();
    sleep(10 * A_MOMENT).await;
    let asked = http.requests() - before;
    assert!((1..=8).contains(&asked), "{asked} requests");
    near.server().cancel_run(run, None).await.unwrap();
    let ended = timeout(SOON, waiting).await.expect("the end is still told").unwrap().unwrap();
    assert!(ended.state.is_terminal());
}

#[tokio::test]
async fn of_two_who_wait_one_gets_the_run_and_the_other_the_next_one() {
    let (server, served) = served().await;
    let http = client(&served);
    let first = waits(&http, "a", LONG, &CancellationToken::new());
    sleep(A_MOMENT).await;
    let second = waits(&http, "b", LONG, &CancellationToken::new());
    sleep(A_MOMENT).await;
    let run = create(&server.client()).await;
    assert_eq!(soon(first).await, [run], "who has waited longest");
    assert!(!second.is_finished());
    let next = create(&server.client()).await;
    assert_eq!(soon(second).await, [next]);
}

#[tokio::test]
async fn one_who_has_enough_is_answered_at_once_and_leaves_the_run_to_others() {
    let (server, served) = served().await;
    let (http, enough) = (client(&served), CancellationToken::new());
    let waiting = waits(&http, "w", LONG, &enough);
    sleep(A_MOMENT).await;
    enough.cancel();
    assert_eq!(soon(waiting).await, []);
    let run = create(&server.client()).await;
    assert_eq!(soon(waits(&http, "v", LONG, &CancellationToken::new())).await, [run]);
}

/// Sends a question and leaves its answer unread.
async fn ask(address: SocketAddr, limit: usize, question: u64) -> TcpStream {
    let ClaimReady { worker, lease, .. } = ready_request("w", limit);
    let wait = LONG.as_millis() as u64;
    let body = json!({"json": {
        "worker": worker, "leaseMs": lease.as_millis() as u64, "workflows": [workflow()], "limit": limit,
        "question": question, "waitMs": wait,
    }});
    let body = body.to_string();
    let mut stream = TcpStream::connect(address).await.unwrap();
    let head = format!(
        "POST /api/native/claimReadyRuns HTTP/1.1\r\nhost: a\r\nauthorization: Bearer key-default\r\nconnection: \
         close\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    stream
}

/// The runs of the answer, by id and epoch.
async fn told(mut stream: TcpStream) -> Vec<(String, u64)> {
    let mut text = String::new();
    timeout(SOON, stream.read_to_string(&mut text)).await.unwrap().unwrap();
    let body = text.split_once("\r\n\r\n").unwrap().1;
    let answer: Value = serde_json::from_str(body).unwrap_or_else(|error| panic!("{error}: {text}"));
    let runs = answer["json"].as_array().unwrap_or_else(|| panic!("{text}"));
    let read = |run: &Value| (run["run"]["head"]["id"].as_str().unwrap().to_owned(), run["epoch"].as_u64().unwrap());
    runs.iter().map(read).collect()
}

#[tokio::test]
async fn a_request_that_was_dropped_holds_nothing() {
    let (server, served) = served().await;
    drop(ask(served.address, 5, 1).await);
    sleep(A_MOMENT).await;
    let run = create(&server.client()).await;
    sleep(A_MOMENT).await;
    let claimed = server.client().server().claim_ready(ready_request("v", 5)).await.unwrap();
    let claimed: Vec<_> = claimed.iter().map(|claimed| (claimed.record.id, claimed.epoch)).collect();
    assert_eq!(claimed, [(run, 1)], "nobody has had it before");
}

#[tokio::test]
async fn a_question_that_is_asked_again_is_answered_in_the_first_ones_stead_and_then_always_the_same() {
    let (server, served) = served().await;
    let first = ask(served.address, 5, 7).await;
    sleep(A_MOMENT).await;
    let second = ask(served.address, 5, 7).await;
    assert_eq!(told(first).await, [], "the first wait is over");
    let run = create(&server.client()).await.to_string();
    assert_eq!(told(second).await, [(run.clone(), 1)]);
    create(&server.client()).await;
    assert_eq!(told(ask(served.address, 5, 7).await).await, [(run, 2)], "the answer was lost: the same run again");
}

#[tokio::test]
async fn a_question_that_was_ended_before_it_came_does_not_wait() {
    let (_server, served) = served().await;
    assert_eq!(told(ask(served.address, 0, 9).await).await, []);
    assert_eq!(told(ask(served.address, 5, 9).await).await, []);
}

#[tokio::test]
async fn an_idle_worker_asks_seldom_starts_a_run_at_once_and_stops_at_once() {
    let (server, served) = served().await;
    let http = HttpClient::connect(ClientConfig { retry_for: SOON, ..config(served.address) }).unwrap();
    let client = Client::new(http.clone());
    let subscriber = ClaimSubscriber::new(&client).poll_interval(Duration::from_millis(10)).wait(LONG);
    let worker = Worker::builder(client).subscriber(subscriber).build().unwrap();
    let begun = Arc::new(AtomicUsize::new(0));
    let counting = Arc::clone(&begun);
    let handler =
        aiki_core::Workflow::new(workflow().name.as_str()).version("1.0.0", move |_: aiki_core::Run, _: u64| {
            counting.fetch_add(1, Ordering::SeqCst);
            async { Ok::<_, aiki_core::Failure>(()) }
        });
    worker.workflow_registry().add(&handler);
    let running = tokio::spawn({
        let worker = worker.clone();
        async move { worker.start().await }
    });
    sleep(10 * A_MOMENT).await;
    let before = http.requests();
    sleep(10 * A_MOMENT).await;
    assert!(http.requests() <= before + 2, "{} requests of an idle worker", http.requests() - before);
    let run = server.client().server().create_run(request("1")).await.unwrap().id;
    let ended = timeout(SOON, server.client().server().await_run(run, LONG)).await.expect("it runs").unwrap();
    assert!(ended.state.is_terminal() && begun.load(Ordering::SeqCst) == 1, "{ended:?}");
    sleep(A_MOMENT).await;
    timeout(SOON, worker.stop()).await.expect("its question is ended with it");
    running.await.unwrap().unwrap();
}
