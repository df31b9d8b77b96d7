//! Many waits for ends of runs share a few long polls.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use aiki_core::server_client::RunView;
use aiki_core::{RunId, ServerError};
use aiki_wire::native::AwaitRuns;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep};

use super::client::Shared;
use super::io::closed;
use super::send::{Repeat, jittered};

/// Long polls under way at the same time.
const POLLS: usize = 16;
/// With so many of them, each lasts [`SHORT`] only: whoever comes next waits for one to be over.
const BUSY: usize = 8;
const SHORT: Duration = Duration::from_secs(1);
/// At most so many runs are asked for in one of them.
const RUNS: usize = 500;
/// At most so many runs are waited for.
const LIMIT: usize = 100_000;
/// The pause after a failure; it doubles.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// The longest pause after an answer that came too soon to be one to a long poll: the server is about to stop.
const LONGEST_REST: Duration = Duration::from_secs(1);

type Answer = Result<RunView, ServerError>;

#[derive(Default)]
struct State {
    waiting: HashMap<RunId, Vec<oneshot::Sender<Answer>>>,
    /// Runs that no poll asks for.
    fresh: HashSet<RunId>,
    polls: usize,
}

/// All waits of one client.
#[derive(Default)]
pub(super) struct Waits {
    state: Mutex<State>,
}

/// What became of a long poll.
enum Asked {
    /// It was kept, or brought an end.
    Kept,
    /// Nothing has happened, and yet it was answered.
    TooSoon,
}

/// Frees its place, also when the poll was given up.
struct Poll {
    shared: Weak<Shared>,
    runs: Vec<RunId>,
}

impl Waits {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until a run has ended. When the future is dropped, the wait is over with the next answer.
    pub(super) async fn ended(shared: &Arc<Shared>, run: RunId) -> Answer {
        let (answer, answered) = oneshot::channel();
        let poll = {
            let mut state = shared.waits.state();
            if state.waiting.len() >= LIMIT && !state.waiting.contains_key(&run) {
                return Err(ServerError::Unavailable(format!("more than {LIMIT} runs are waited for already")));
            }
            let waiting = state.waiting.entry(run).or_default();
            waiting.retain(|answer| !answer.is_closed());
            if waiting.is_empty() {
                waiting.push(answer);
                state.fresh.insert(run);
            } else {
                waiting.push(answer);
            }
            let free = state.polls < POLLS && !state.fresh.is_empty();
            state.polls += usize::from(free);
            free
        };
        if poll {
            let poll = Poll { shared: Arc::downgrade(shared), runs: Vec::new() };
            shared.io.spawn(poll.run());
        }
        answered.await.unwrap_or_else(|_| Err(closed()))
    }

    /// What the next poll asks for: what none asks for yet, without those whom nobody waits for any more.
    fn take(&self) -> Vec<RunId> {
        let mut state = self.state();
        let State { waiting, fresh, polls } = &mut *state;
        let mut runs: Vec<RunId> = Vec::new();
        fresh.retain(|run| {
            if runs.len() >= RUNS {
                return true;
            }
            if let Some(answers) = waiting.get_mut(run) {
                answers.retain(|answer| !answer.is_closed());
                if answers.is_empty() {
                    waiting.remove(run);
                } else {
                    runs.push(*run);
                }
            }
            false
        });
        *polls -= usize::from(runs.is_empty());
        runs
    }

    fn tell(&self, run: RunId, answer: &Answer) {
        let mut state = self.state();
        state.fresh.remove(&run);
        for waiting in state.waiting.remove(&run).into_iter().flatten() {
            // Whoever waited may have gone.
            let _ = waiting.send(answer.clone());
        }
    }

    fn put_back(&self, runs: Vec<RunId>) {
        let mut state = self.state();
        let State { waiting, fresh, .. } = &mut *state;
        fresh.extend(runs.into_iter().filter(|run| waiting.contains_key(run)));
    }

    fn timeout(&self, max_wait: Duration) -> Duration {
        if self.state().polls >= BUSY { SHORT.min(max_wait) } else { max_wait }
    }
}

impl Poll {
    async fn run(mut self) {
        let mut pause = FIRST_PAUSE;
        loop {
            let Some(shared) = self.shared.upgrade() else { return };
            self.runs = shared.waits.take();
            if self.runs.is_empty() {
                // Its place was freed with that.
                self.shared = Weak::new();
                return;
            }
            match self.ask(&shared).await {
                Ok(Asked::Kept) => pause = FIRST_PAUSE,
                Ok(Asked::TooSoon) => {
                    drop(shared);
                    pause = pause.min(LONGEST_REST);
                    sleep(jittered(pause)).await;
                    pause *= 2;
                }
                Err(error) if error.is_transient() => {
                    // The server comes back, or the time of those who wait is over.
                    shared.waits.put_back(std::mem::take(&mut self.runs));
                    drop(shared);
                    sleep(jittered(pause)).await;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
                Err(error) => {
                    for run in std::mem::take(&mut self.runs) {
                        shared.waits.tell(run, &Err(error.clone()));
                    }
                }
            }
        }
    }

    async fn ask(&mut self, shared: &Arc<Shared>) -> Result<Asked, ServerError> {
        let began = Instant::now();
        let timeout = shared.waits.timeout(shared.max_wait().await?);
        let call = AwaitRuns { runs: self.runs.clone(), timeout };
        let answers = shared.call_for(&call, Repeat::Safe, timeout, None).await?;
        let asked = self.runs.len();
        let mut left: HashSet<RunId> = std::mem::take(&mut self.runs).into_iter().collect();
        for told in answers {
            let view = told.view.into_result();
            let over = match &view {
                Ok(view) => view.state.is_terminal(),
                Err(error) => !error.is_transient(),
            };
            if over && left.remove(&told.run) {
                shared.waits.tell(told.run, &view);
            }
        }
        let too_soon = left.len() == asked && began.elapsed() < timeout / 2;
        shared.waits.put_back(left.into_iter().collect());
        Ok(if too_soon { Asked::TooSoon } else { Asked::Kept })
    }
}

impl Drop for Poll {
    fn drop(&mut self) {
        if let Some(shared) = self.shared.upgrade() {
            let mut state = shared.waits.state();
            state.polls = state.polls.saturating_sub(1);
            if state.polls == 0 {
                // The client was closed.
                state.waiting.clear();
                state.fresh.clear();
            }
        }
    }
}
