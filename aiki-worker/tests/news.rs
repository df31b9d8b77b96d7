//! Questions for news: how soon they are asked again, and what must not get lost between two.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod common;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aiki_core::server_client::{RunView, ServerLayer};
use aiki_core::{Client, Failure, Name, Run, RunId, ServerClient, ServerError, Workflow};
use async_trait::async_trait;
use common::{House, start};
use tokio::time::{Instant, sleep};

/// A question for news breaks after so long; answers when each was asked and when it broke.
struct Breaking {
    inner: Arc<dyn ServerClient>,
    stands: Duration,
    questions: Arc<Mutex<Vec<(Instant, Instant)>>>,
}

#[async_trait]
impl ServerLayer for Breaking {
    fn inner(&self) -> &Arc<dyn ServerClient> {
        &self.inner
    }

    async fn await_news(&self, _worker: &Name, _timeout: Duration) -> Result<Vec<RunId>, ServerError> {
        let asked = Instant::now();
        sleep(self.stands).await;
        self.questions.lock().unwrap().push((asked, Instant::now()));
        Err(ServerError::Unavailable("the line broke".into()))
    }
}

/// The pauses between a break and the next question, when each question stands for so long.
async fn pauses(stands: Duration) -> Vec<Duration> {
    let house = House::new().await;
    let questions = Arc::<Mutex<Vec<_>>>::default();
    let breaking = Breaking { inner: house.client.server().clone(), stands, questions: questions.clone() };
    let worker = house.worker_for("w", Client::new(breaking)).build().unwrap();
    let nothing = |_: Run, (): ()| async { Ok::<_, Failure>(()) };
    worker.workflow_registry().add(Workflow::new("nothing").version("1", nothing));
    start(&worker);
    sleep(Duration::from_secs(30)).await;
    let questions = questions.lock().unwrap();
    questions.windows(2).map(|pair| pair[1].0 - pair[0].1).collect()
}

#[tokio::test(start_paused = true)]
async fn each_break_of_a_line_that_stood_is_answered_at_once() {
    let pauses = pauses(Duration::from_millis(600)).await;
    assert!(pauses.len() > 30, "{pauses:?}");
    assert!(pauses.iter().all(|pause| *pause <= Duration::from_millis(60)), "{pauses:?}");
}

#[tokio::test(start_paused = true)]
async fn a_line_that_does_not_stand_is_tried_less_and_less_often() {
    let pauses = pauses(Duration::ZERO).await;
    assert!(pauses.is_sorted() && pauses[0] <= Duration::from_millis(60), "{pauses:?}");
    assert!(pauses.len() < 25, "{pauses:?}");
}

/// Counts long polls.
struct Counting {
    inner: Arc<dyn ServerClient>,
    news: Arc<AtomicUsize>,
    ends: Arc<AtomicUsize>,
}

#[async_trait]
impl ServerLayer for Counting {
    fn inner(&self) -> &Arc<dyn ServerClient> {
        &self.inner
    }

    async fn await_news(&self, worker: &Name, timeout: Duration) -> Result<Vec<RunId>, ServerError> {
        self.news.fetch_add(1, Ordering::SeqCst);
        self.inner.await_news(worker, timeout).await
    }

    async fn await_run(&self, run: RunId, timeout: Duration) -> Result<RunView, ServerError> {
        self.ends.fetch_add(1, Ordering::SeqCst);
        self.inner.await_run(run, timeout).await
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_that_drains_is_asked_again_only_now_and_then() {
    let house = House::new().await;
    let (news, ends) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let counting = Counting { inner: house.client.server().clone(), news: news.clone(), ends: ends.clone() };
    let client = Client::new(counting);
    let worker = house.worker_for("w", client.clone()).build().unwrap();
    let naps = Workflow::new("naps").version("1", |run: Run, (): ()| async move {
        run.sleep("nap", Duration::from_secs(25)).await;
        Ok::<_, Failure>(5)
    });
    worker.workflow_registry().add(&naps);
    start(&worker);
    let handle = naps.start(&client, ()).await.unwrap();
    let waiting = tokio::spawn(async move { handle.wait().await });
    sleep(Duration::from_secs(5)).await;
    let before = (news.load(Ordering::SeqCst), ends.load(Ordering::SeqCst));
    assert!(before.0 <= 2 && before.1 == 1, "{before:?}");
    house.server.drain();
    sleep(Duration::from_secs(10)).await;
    let (news, ends) = (news.load(Ordering::SeqCst), ends.load(Ordering::SeqCst));
    assert!((5..=15).contains(&news), "{news} questions for news in 10 s");
    assert!((5..=55).contains(&ends), "{ends} questions for the end in 10 s");
    assert_eq!(waiting.await.unwrap().unwrap(), 5, "the end is still told");
}
