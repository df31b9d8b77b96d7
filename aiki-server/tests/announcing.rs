//! Announcements through a publisher that has its bad moments, under virtual time.
#![allow(clippy::unwrap_used, reason = "for tests")]

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aiki_conformance::server::{Recorder, create, ready_request};
use aiki_core::{PublishReport, Publisher, ReadyRun};
use aiki_runtime::VirtualClock;
use aiki_server::Server;
use async_trait::async_trait;
use tokio::time::Instant;

/// What a publisher does instead of publishing.
#[derive(Clone, Copy)]
enum Trouble {
    Panic,
    Refuse,
}

/// Has trouble so many times, then works.
struct Flaky {
    trouble: Trouble,
    left: AtomicUsize,
    recorder: Recorder,
}

impl Flaky {
    fn new(trouble: Trouble, times: usize) -> Arc<Self> {
        Arc::new(Self { trouble, left: AtomicUsize::new(times), recorder: Recorder::default() })
    }
}

#[async_trait]
impl Publisher for Flaky {
    async fn publish(&self, runs: &[ReadyRun]) -> PublishReport {
        tokio::task::yield_now().await;
        if self.left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_err() {
            return self.recorder.publish(runs).await;
        }
        match self.trouble {
            Trouble::Panic => panic!("a bad moment"),
            Trouble::Refuse => PublishReport { failed: runs.iter().map(|run| (run.id, "no".to_owned())).collect() },
        }
    }
}

async fn serve(publisher: &Arc<Flaky>) -> Server {
    let clock = Arc::new(VirtualClock::default());
    Server::builder().clock(clock).publisher(publisher.clone()).start().await.unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_publisher_that_panics_does_not_end_announcements() {
    let publisher = Flaky::new(Trouble::Panic, 1);
    let server = serve(&publisher).await;
    let begun = Instant::now();
    let run = create(&server.client()).await;
    publisher.recorder.announced(run, 1).await;
    assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
    let next = create(&server.client()).await;
    publisher.recorder.announced(next, 1).await;
}

#[tokio::test(start_paused = true)]
async fn failed_announcements_are_repeated_in_growing_pauses() {
    let publisher = Flaky::new(Trouble::Refuse, 3);
    let server = serve(&publisher).await;
    let begun = Instant::now();
    let run = create(&server.client()).await;
    publisher.recorder.announced(run, 1).await;
    // 100, 200 and 400 ms, each rounded up by the timer.
    let elapsed = begun.elapsed();
    assert!((Duration::from_millis(700)..Duration::from_millis(710)).contains(&elapsed), "{elapsed:?}");
    // Success ends it.
    tokio::time::sleep(Duration::from_secs(4)).await;
    assert_eq!(publisher.recorder.count(run), 1);
}

#[tokio::test(start_paused = true)]
async fn a_publisher_that_is_away_for_long_is_not_pressed() {
    let publisher = Flaky::new(Trouble::Refuse, usize::MAX);
    let server = serve(&publisher).await;
    create(&server.client()).await;
    tokio::time::sleep(Duration::from_secs(3_600)).await;
    let tries = usize::MAX - publisher.left.load(Ordering::SeqCst);
    // Some twenty announcements by age in the hour, each of them tried a handful of times.
    assert!((50..200).contains(&tries), "{tries}");
}

#[tokio::test(start_paused = true)]
async fn a_run_that_could_not_be_announced_is_given_at_once() {
    let publisher = Flaky::new(Trouble::Refuse, 1);
    let server = serve(&publisher).await;
    let client = server.client();
    let run = create(&client).await;
    tokio::time::sleep(Duration::from_millis(10)).await;
    assert_eq!(publisher.recorder.count(run), 0);
    // Announced runs beside it are left to those who listen.
    let announced = create(&client).await;
    publisher.recorder.announced(announced, 1).await;
    let claimed = client.server().claim_ready(ready_request("w", 10)).await.unwrap();
    assert_eq!(claimed.iter().map(|claimed| claimed.record.id).collect::<Vec<_>>(), [run]);
}

#[tokio::test(start_paused = true)]
async fn a_run_that_was_announced_at_last_is_left_to_those_who_listen() {
    let publisher = Flaky::new(Trouble::Refuse, 1);
    let server = serve(&publisher).await;
    let run = create(&server.client()).await;
    publisher.recorder.announced(run, 1).await;
    assert_eq!(server.client().server().claim_ready(ready_request("w", 10)).await.unwrap(), []);
}

#[tokio::test(start_paused = true)]
async fn without_a_publisher_every_ready_run_is_given_at_once() {
    let server = Server::builder().clock(Arc::new(VirtualClock::default())).start().await.unwrap();
    let run = create(&server.client()).await;
    let claimed = server.client().server().claim_ready(ready_request("w", 10)).await.unwrap();
    assert_eq!(claimed.iter().map(|claimed| claimed.record.id).collect::<Vec<_>>(), [run]);
}

/// What this thread logs.
#[derive(Clone, Default)]
struct Logged(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Logged {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn a_publisher_that_is_away_for_long_does_not_fill_the_log() {
    let logged = Logged::default();
    let writer = logged.clone();
    let lines = tracing_subscriber::fmt().with_writer(move || writer.clone()).with_ansi(false).finish();
    let _guard = tracing::subscriber::set_default(lines);
    let publisher = Flaky::new(Trouble::Refuse, usize::MAX);
    let server = serve(&publisher).await;
    for _ in 0..600 {
        create(&server.client()).await;
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    let text = String::from_utf8(logged.0.lock().unwrap().clone()).unwrap();
    let told = text.lines().filter(|line| line.contains("could not be announced")).count();
    // Ten minutes: one line for each half.
    assert!((15..=21).contains(&told), "{told} lines");
}
