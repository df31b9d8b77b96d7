//! Callers: they start runs, start some of them twice, and wait for some.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use aiki::{Client, Failure, RunError, RunHandle};
use aiki_core::RunId;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::load::{Job, Jobs};
use super::notes::{Note, Notes};
use super::profile::PATIENCE;

/// At most so many starts are under way.
const STARTING: usize = 64;
/// One run of so many is started again at once, under the same key.
const TWICE: u64 = 5;
/// One run of so many is waited for.
const AWAITED: u64 = 20;
/// Pause before a start that failed for now is tried again.
const PAUSE: Duration = Duration::from_millis(200);

/// What callers were answered.
#[derive(Debug, Default)]
pub struct Answers {
    /// The run of each key.
    pub started: BTreeMap<RunId, Job>,
    /// How many runs were waited for, all of them with the right answer.
    pub awaited: u64,
    /// How often a caller had to try again by itself.
    pub retried: u64,
    /// What was answered wrongly.
    pub wrong: Vec<String>,
}

/// The callers.
#[derive(Clone)]
pub struct Callers {
    client: Client,
    workflow: Jobs,
    notes: Notes,
    answers: Arc<Mutex<Answers>>,
    started: Arc<AtomicU64>,
}

impl Callers {
    /// Callers with this client.
    pub fn new(client: &Client, workflow: &Jobs, notes: &Notes) -> Self {
        Self {
            client: client.clone(),
            workflow: workflow.clone(),
            notes: notes.clone(),
            answers: Arc::default(),
            started: Arc::default(),
        }
    }

    fn answers(&self) -> std::sync::MutexGuard<'_, Answers> {
        self.answers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts all jobs, evenly over this time, and waits for those that are waited for.
    pub async fn call(self, jobs: Vec<Job>, window: Duration) -> Answers {
        let begun = Instant::now();
        let starting = Arc::new(Semaphore::new(STARTING));
        let (mut all, count) = (JoinSet::new(), jobs.len().max(1) as u32);
        for (number, job) in (0..).zip(jobs) {
            sleep_until(begun + window * number / count).await;
            let Ok(permit) = Arc::clone(&starting).acquire_owned().await else { break };
            let caller = self.clone();
            all.spawn(async move {
                let run = caller.start(job).await;
                if job.number % TWICE == 0 {
                    caller.start(job).await;
                }
                drop(permit);
                if let Some(run) = run.filter(|_| job.number % AWAITED == 1) {
                    caller.wait(&run, job).await;
                }
            });
            while all.try_join_next().is_some() {}
        }
        while all.join_next().await.is_some() {}
        std::mem::take(&mut *self.answers())
    }

    async fn start(&self, job: Job) -> Option<RunHandle<u64, Failure>> {
        let begun = Instant::now();
        loop {
            match self.workflow.start(&self.client, job).reference_id(job.reference()).await {
                Ok(run) => {
                    self.notes.write(Note::Created { run: run.id(), key: job.reference() });
                    self.started.fetch_add(1, Ordering::Relaxed);
                    self.answers().started.insert(run.id(), job);
                    return Some(run);
                }
                Err(error) if begun.elapsed() > PATIENCE => {
                    self.answers().wrong.push(format!("{} cannot be started: {error}", job.reference()));
                    return None;
                }
                Err(_) => {
                    self.answers().retried += 1;
                    sleep(PAUSE).await;
                }
            }
        }
    }

    async fn wait(&self, run: &RunHandle<u64, Failure>, job: Job) {
        let answered = async {
            loop {
                match (run.wait().await, job.expected()) {
                    (Ok(answer), Some(expected)) if answer == expected => return Ok(()),
                    (Ok(answer), expected) => return Err(format!("{answer}, not {expected:?}")),
                    (Err(RunError::Server(error)), _) if error.is_transient() => {
                        self.answers().retried += 1;
                        sleep(PAUSE).await;
                    }
                    (Err(_), None) => return Ok(()),
                    (Err(error), Some(_)) => return Err(error.to_string()),
                }
            }
        };
        // The end of the load may be far, and what was the last fault may take its time.
        let answered = timeout(PATIENCE * 3, answered).await;
        let mut answers = self.answers();
        match answered {
            Ok(Ok(())) => answers.awaited += 1,
            Ok(Err(wrong)) => answers.wrong.push(format!("who waited for run {} was answered {wrong}", run.id())),
            Err(_) => answers.wrong.push(format!("who waited for run {} was never answered", run.id())),
        }
    }
}
