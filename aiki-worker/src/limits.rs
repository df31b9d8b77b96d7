//! Limits on the tasks or runs of one name: how many are under way at once on this worker, and how many
//! begin in a time.

use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use aiki_core::gate::{TaskGate, TaskTurn};
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep_until};

/// A limit on what bears one name on one worker: tasks or runs. What is over the limit waits for its
/// turn.
///
/// ```
/// use std::time::Duration;
/// use aiki_worker::Limit;
///
/// let gateway = Limit::concurrency(4).rate(50, Duration::from_secs(1));
/// # let _ = gateway;
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limit {
    concurrency: Option<usize>,
    rate: Option<(u32, Duration)>,
}

impl Limit {
    /// At most so many at the same time; 0 counts as 1.
    pub fn concurrency(many: usize) -> Self {
        Self { concurrency: Some(many.clamp(1, Semaphore::MAX_PERMITS)), rate: None }
    }

    /// At most so many begin in any such time, evenly spread; 0 counts as 1.
    pub fn rate(self, starts: u32, per: Duration) -> Self {
        Self { rate: Some((starts.max(1), per)), ..self }
    }
}

/// The limits of a worker.
#[derive(Debug, Default)]
pub(crate) struct Limits {
    lines: HashMap<String, Line>,
}

/// Where those of one name line up.
#[derive(Clone, Debug)]
struct Line {
    places: Option<Arc<Semaphore>>,
    pace: Option<Arc<Pace>>,
}

/// When the next may begin: each takes a slot of `interval` on the time line.
#[derive(Debug)]
struct Pace {
    interval: Duration,
    next: Mutex<Option<Instant>>,
}

impl Limits {
    pub(crate) fn new(limits: HashMap<String, Limit>) -> Self {
        let line = |limit: Limit| Line {
            places: limit.concurrency.map(|many| Arc::new(Semaphore::new(many))),
            pace: limit.rate.map(|(starts, per)| Arc::new(Pace { interval: per / starts, next: Mutex::default() })),
        };
        Self { lines: limits.into_iter().map(|(name, limit)| (name, line(limit))).collect() }
    }
}

impl Limits {
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

impl TaskGate for Limits {
    fn enter(&self, name: &str) -> Pin<Box<dyn Future<Output = TaskTurn> + Send>> {
        let Some(Line { places, pace }) = self.lines.get(name).cloned() else {
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

    fn limits(limit: Limit) -> Limits {
        Limits::new(HashMap::from([("charge".to_owned(), limit)]))
    }

    #[tokio::test]
    async fn the_next_one_waits_until_a_place_is_free_and_others_do_not() {
        let limits = limits(Limit::concurrency(1));
        let first = limits.enter("charge").await;
        let mut second = limits.enter("charge");
        assert!((&mut second).now_or_never().is_none());
        assert!(limits.enter("mail").now_or_never().is_some());
        drop(first);
        assert!(second.now_or_never().is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn starts_are_spread_evenly() {
        let limits = limits(Limit::default().rate(10, Duration::from_secs(1)));
        let began = Instant::now();
        for _ in 0..11 {
            limits.enter("charge").await;
        }
        assert_eq!(began.elapsed(), Duration::from_secs(1));
    }

    #[tokio::test]
    async fn one_who_gives_up_leaves_no_gap() {
        let limits = limits(Limit::concurrency(1));
        let first = limits.enter("charge").await;
        drop(limits.enter("charge"));
        drop(first);
        assert!(limits.enter("charge").now_or_never().is_some());
    }
}
