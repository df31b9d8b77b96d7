//! How soon a worker is back at a server whose line breaks again and again.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod common;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use aiki_core::server_client::ServerLayer;
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
