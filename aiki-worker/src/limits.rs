//! Limits on the tasks of one name: how many run at once on this worker, and how many begin in a time.

use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use aiki_core::gate::{TaskGate, TaskTurn};
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep_until};

/// A limit on the tasks of one name on one worker. Tasks over the limit wait for their turn; their time
/// limits begin when it has come.
///
/// ```
/// use std::time::Duration;
/// use aiki_worker::TaskLimit;
///
/// let gateway = TaskLimit::concurrency(4).rate(50, Duration::from_secs(1));
/// # let _ = gateway;
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TaskLimit {
    concurrency: Option<usize>,
    rate: Option<(u32, Duration)>,
}

impl TaskLimit {
    /// At most so many bodies at the same time; 0 counts as 1.
    pub fn concurrency(bodies: usize) -> Self {
        Self { concurrency: Some(bodies.clamp(1, Semaphore::MAX_PERMITS)), rate: None }
    }

    /// At most so many begin in any such time, evenly spread; 0 counts as 1.
    pub fn rate(self, starts: u32, per: Duration) -> Self {
        Self { rate: Some((starts.max(1), per)), ..self }
    }
}

/// The limits of a worker.
#[derive(Debug, Default)]
pub(crate) struct TaskLimits {
    lines: HashMap<String, Line>,
}

/// Where tasks of one name line up.
#[derive(Clone, Debug)]
struct Line {
    places: Option<Arc<Semaphore>>,
    pace: Option<Arc<Pace>>,
}

/// When the next task may begin: each takes a slot of `interval` on the time line.
#[derive(Debug)]
struct Pace {
    interval: Duration,
    next: Mutex<Option<Instant>>,
}

impl TaskLimits {
    pub(crate) fn new(limits: HashMap<String, TaskLimit>) -> Self {
        let line = |limit: TaskLimit| Line {
            places: limit.concurrency.map(|bodies| Arc::new(Semaphore::new(bodies))),
            pace: limit.rate.map(|(starts, per)| Arc::new(Pace { interval: per / starts, next: Mutex::default() })),
        };
        Self { lines: limits.into_iter().map(|(name, limit)| (name, line(limit))).collect() }
    }
}

impl TaskLimits {
    pub(crate) fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }
}

impl Pace {
    /// Takes the next slot.
    fn take(&self) -> Instant {
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        let at = next.unwrap_or_else(Instant::now).max(Instant::now());
        *next = Some(at + self.interval);
        at
    }
}

impl TaskGate for TaskLimits {
    fn enter(&self, task: &str) -> Pin<Box<dyn Future<Output = TaskTurn> + Send>> {
        let Some(Line { places, pace }) = self.lines.get(task).cloned() else {
            return Box::pin(std::future::ready(Box::new(()) as TaskTurn));
        };
        Box::pin(async move {
            let place = match places {
                // The semaphore is never closed.
                Some(places) => places.acquire_owned().await.ok(),
                None => None,
            };
            if let Some(pace) = pace {
                sleep_until(pace.take()).await;
            }
            Box::new(place) as TaskTurn
        })
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    fn limits(limit: TaskLimit) -> TaskLimits {
        TaskLimits::new(HashMap::from([("charge".to_owned(), limit)]))
    }

    #[tokio::test]
    async fn the_next_one_waits_until_a_place_is_free_and_others_do_not() {
        let limits = limits(TaskLimit::concurrency(1));
        let first = limits.enter("charge").await;
        let mut second = limits.enter("charge");
        assert!((&mut second).now_or_never().is_none());
        assert!(limits.enter("mail").now_or_never().is_some());
        drop(first);
        assert!(second.now_or_never().is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn starts_are_spread_evenly() {
        let limits = limits(TaskLimit::default().rate(10, Duration::from_secs(1)));
        let began = Instant::now();
        for _ in 0..11 {
            limits.enter("charge").await;
        }
        assert_eq!(began.elapsed(), Duration::from_secs(1));
    }

    #[tokio::test]
    async fn one_who_gives_up_leaves_no_gap() {
        let limits = limits(TaskLimit::concurrency(1));
        let first = limits.enter("charge").await;
        drop(limits.enter("charge"));
        drop(first);
        assert!(limits.enter("charge").now_or_never().is_some());
    }
}
