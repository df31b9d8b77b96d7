//! The end of a server, and its timer under virtual time.
#![allow(clippy::unwrap_used, reason = "for tests")]

mod support;

use std::time::Duration;

use aiki_conformance::server::{LEASE, Pass, ServerHarness, claim, create, ready_request, request};
use aiki_core::run::SleepState;
use aiki_core::{Name, RunId, ServerError, Transition};
use support::Memory;

fn is_closed<T: std::fmt::Debug>(answer: Result<T, ServerError>) {
    assert!(matches!(&answer, Err(ServerError::Unavailable(text)) if text.contains("closed")), "{answer:?}");
}

async fn everything_answers_closed(harness: &impl ServerHarness, run: RunId) {
    let client = harness.client();
    let server = client.server();
    is_closed(server.create_run(request("1")).await);
    is_closed(server.get_run(run).await);
    is_closed(server.await_run(run, Duration::from_secs(1)).await);
    is_closed(server.list_transitions(run).await);
    is_closed(server.cancel_run(run, None).await);
    is_closed(server.claim_ready(ready_request("w", 1)).await);
    is_closed(server.refresh_runs(&Name::new("w"), &[], LEASE).await);
}

#[tokio::test(start_paused = true)]
async fn a_closed_memory_server_says_so_to_everybody() {
    let harness = Memory::start().await;
    let run = create(&harness.client()).await;
    let client = harness.client();
    let waiting = tokio::spawn(async move { client.server().await_run(run, Duration::from_secs(1_000)).await });
    tokio::task::yield_now().await;
    harness.server.close().await;
    is_closed(waiting.await.unwrap());
    everything_answers_closed(&harness, run).await;
}

#[cfg(feature = "sqlite")]
#[tokio::test]
async fn a_closed_sqlite_server_says_so_to_everybody() {
    let harness = support::Kept::sqlite().await;
    let run = create(&harness.client()).await;
    harness.server().close().await;
    everything_answers_closed(&harness, run).await;
}

#[cfg(feature = "sqlite")]
#[tokio::test]
async fn closing_answers_what_was_asked_before() {
    let harness = support::Kept::sqlite().await;
    let client = harness.client();
    let asked: Vec<_> = (0..50)
        .map(|_| {
            let client = client.clone();
            tokio::spawn(async move { client.server().create_run(request("1")).await })
        })
        .collect();
    tokio::task::yield_now().await;
    harness.server().close().await;
    for one in asked {
        match one.await.unwrap() {
            Ok(created) => assert!(!created.existed),
            refused => is_closed(refused),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn two_hundred_sleeps_end_within_fifty_milliseconds_of_their_time() {
    const RUNS: u64 = 200;
    let harness = Memory::start().await;
    let client = harness.client();
    let mut runs = Vec::new();
    for n in 0..RUNS {
        let run = create(&client).await;
        let mut pass = claim(&client, "w", run).await;
        // From a second to a few hours.
        let nap = Duration::from_millis(1_000 + n * n * 300);
        pass.report(vec![Pass::sleep(0, nap), Transition::Suspended]).await;
        runs.push((run, nap));
    }
    tokio::time::sleep(Duration::from_secs(4 * 3_600)).await;
    for (run, nap) in runs {
        let record = client.server().get_run(run).await.unwrap();
        let SleepState::Completed { duration_ms, .. } = record.sleeps[0].state else { panic!("{record:?}") };
        let late = Duration::from_millis(duration_ms).saturating_sub(nap);
        assert!(late < Duration::from_millis(50), "{nap:?}: {late:?} late");
    }
}

#[cfg(feature = "sqlite")]
#[tokio::test]
async fn the_timer_of_a_sqlite_server_goes_by_itself() {
    let folder = tempfile::tempdir().unwrap();
    let recorder = std::sync::Arc::new(aiki_conformance::server::Recorder::default());
    let builder = aiki_server::Server::builder().sqlite(folder.path().join("aiki.db")).publisher(recorder.clone());
    let server = builder.start().await.unwrap();
    let delayed = |millis| aiki_core::run::plan::CreateRun { delay: Duration::from_millis(millis), ..request("1") };
    // The second is due before the first: the timer has to be set back.
    let late = server.client().server().create_run(delayed(60)).await.unwrap().id;
    let soon = server.client().server().create_run(delayed(10)).await.unwrap().id;
    recorder.announced(soon, 1).await;
    recorder.announced(late, 1).await;
    server.close().await;
}

#[tokio::test(start_paused = true)]
async fn who_waits_is_answered_when_the_server_is_about_to_stop_and_the_rest_goes_on() {
    let harness = Memory::start().await;
    let run = create(&harness.client()).await;
    let hour = Duration::from_secs(3_600);
    let (client, listener) = (harness.client(), harness.client());
    let end = tokio::spawn(async move { client.server().await_run(run, hour).await });
    let news = tokio::spawn(async move { listener.server().await_news(&Name::new("w"), hour).await });
    tokio::task::yield_now().await;
    let begun = tokio::time::Instant::now();
    assert!(!harness.server.health().await.draining);
    harness.server.drain();
    assert_eq!(end.await.unwrap().unwrap().state.status().as_str(), "queued");
    assert_eq!(news.await.unwrap(), Ok(Vec::new()));
    assert_eq!(begun.elapsed(), Duration::ZERO, "nobody waited");
    let client = harness.client();
    let server = client.server();
    assert_eq!(server.await_run(run, hour).await.unwrap().state.status().as_str(), "queued");
    assert_eq!(server.await_news(&Name::new("w"), hour).await, Ok(Vec::new()));
    assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
    create(&client).await;
    let health = harness.server.health().await;
    assert!(health.draining && health.store.is_ok() && !health.is_ready());
    harness.server.close().await;
    assert!(harness.server.health().await.store.is_err());
}
