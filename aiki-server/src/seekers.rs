//! Workers that wait for runs to get ready.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use aiki_core::name::WorkflowKey;
use aiki_core::run::RunHead;
use aiki_core::server_client::ClaimReady;
use aiki_core::{Name, ServerError};
use tokio::sync::Notify;

/// At most so many wait at the same time.
const LIMIT: usize = 10_000;

/// A worker's question, by its number.
type Question = (Name, u64);

/// What a run is wanted for.
#[derive(Clone, Debug)]
struct Find {
    namespace: Name,
    workflow: WorkflowKey,
    pool: Option<Name>,
}

#[derive(Debug)]
struct Seeking {
    namespace: Name,
    workflows: Vec<WorkflowKey>,
    pools: Vec<Name>,
    question: Option<Question>,
    /// What woke it, until it looks.
    found: Option<Find>,
    /// The same question was asked again: nobody waits for this answer.
    over: bool,
    wake: Arc<Notify>,
}

impl Seeking {
    fn wants(&self, find: &Find) -> bool {
        let pool = find.pool.as_ref().map_or(self.pools.is_empty(), |pool| self.pools.contains(pool));
        pool && self.found.is_none() && !self.over
    }
}

#[derive(Debug, Default)]
struct Waiting {
    /// Who has waited longest comes first.
    seeking: BTreeMap<u64, Seeking>,
    by_workflow: HashMap<(Name, WorkflowKey), Vec<u64>>,
    next: u64,
}

impl Waiting {
    /// Wakes the first who wants it: one run is for one worker.
    fn wake(&mut self, find: Find) {
        let Some(numbers) = self.by_workflow.get(&(find.namespace.clone(), find.workflow.clone())) else { return };
        for number in numbers {
            if let Some(seeking) = self.seeking.get_mut(number)
                && seeking.wants(&find)
            {
                seeking.found = Some(find);
                seeking.wake.notify_one();
                return;
            }
        }
    }

    fn remove(&mut self, number: u64) -> Option<Seeking> {
        let seeking = self.seeking.remove(&number)?;
        for workflow in &seeking.workflows {
            let key = (seeking.namespace.clone(), workflow.clone());
            if let Some(numbers) = self.by_workflow.get_mut(&key) {
                numbers.retain(|other| *other != number);
                if numbers.is_empty() {
                    self.by_workflow.remove(&key);
                }
            }
        }
        Some(seeking)
    }
}

/// All who wait.
#[derive(Debug, Default)]
pub(crate) struct Seekers {
    waiting: Mutex<Waiting>,
    count: AtomicUsize,
}

/// One who waits. Dropping it ends the wait, and wakes another one when it was woken and did not look.
#[derive(Debug)]
pub(crate) struct Seeker {
    seekers: Arc<Seekers>,
    number: u64,
    wake: Arc<Notify>,
}

impl Seekers {
    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins a wait. Look for runs after this, never before: then none can slip through.
    pub(crate) fn seek(
        self: &Arc<Self>,
        namespace: &Name,
        request: &ClaimReady,
        question: Option<u64>,
    ) -> Result<Seeker, ServerError> {
        let mut waiting = self.waiting();
        if waiting.seeking.len() >= LIMIT {
            return Err(ServerError::Unavailable(format!("more than {LIMIT} workers wait for runs")));
        }
        let (number, wake) = (waiting.next, Arc::new(Notify::new()));
        waiting.next += 1;
        for workflow in &request.workflows {
            waiting.by_workflow.entry((namespace.clone(), workflow.clone())).or_default().push(number);
        }
        let seeking = Seeking {
            namespace: namespace.clone(),
            workflows: request.workflows.clone(),
            pools: request.pools.clone(),
            question: question.map(|number| (request.worker.clone(), number)),
            found: None,
            over: false,
            wake: Arc::clone(&wake),
        };
        waiting.seeking.insert(number, seeking);
        self.count.store(waiting.seeking.len(), Ordering::SeqCst);
        Ok(Seeker { seekers: Arc::clone(self), number, wake })
    }

    /// A run has become ready.
    pub(crate) fn ready(&self, head: &RunHead) {
        // Whoever begins to wait looks first, and sees this run then.
        if self.count.load(Ordering::SeqCst) == 0 {
            return;
        }
        let find =
            Find { namespace: head.namespace.clone(), workflow: head.workflow.clone(), pool: head.pool().cloned() };
        self.waiting().wake(find);
    }

    /// Ends the waits of a worker that were begun with this question.
    #[cfg(feature = "http")]
    pub(crate) fn end(&self, namespace: &Name, worker: &Name, question: u64) {
        for seeking in self.waiting().seeking.values_mut() {
            let same = seeking.question.as_ref().is_some_and(|(by, number)| by == worker && *number == question);
            if same && seeking.namespace == *namespace {
                seeking.over = true;
                seeking.wake.notify_one();
            }
        }
    }
}

impl Seeker {
    /// Takes note that it looks now: whatever gets ready from here on wakes it again. Answers whether it is to go on.
    pub(crate) fn looks(&self) -> bool {
        match self.seekers.waiting().seeking.get_mut(&self.number) {
            Some(seeking) => {
                seeking.found = None;
                !seeking.over
            }
            None => false,
        }
    }

    /// Waits until there is something to look for, or nobody waits any more. Cancel-safe.
    pub(crate) async fn woken(&self) {
        self.wake.notified().await;
    }
}

impl Drop for Seeker {
    fn drop(&mut self) {
        let mut waiting = self.seekers.waiting();
        let found = waiting.remove(self.number).and_then(|seeking| seeking.found);
        self.seekers.count.store(waiting.seeking.len(), Ordering::SeqCst);
        if let Some(find) = found {
            waiting.wake(find);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use aiki_core::hash::input_hash;
    use aiki_core::run::plan::{CreateRun, create};
    use aiki_core::{RunId, Timestamp};
    use futures::FutureExt;

    use super::*;

    fn head() -> RunHead {
        let request = CreateRun::new(WorkflowKey::user("w", "1"), None, input_hash(None).unwrap());
        let namespace = Name::new("n");
        create(&request, RunId::from_bits(1 << 24), &namespace, Timestamp::from_millis(1), &mut Vec::new())
    }

    fn seek(seekers: &Arc<Seekers>, worker: &str, workflow: &str, pools: &[&str]) -> Seeker {
        let request = ClaimReady {
            worker: Name::new(worker),
            workflows: vec![WorkflowKey::user(workflow, "1")],
            pools: pools.iter().map(|pool| Name::new(*pool)).collect(),
            limit: 1,
            lease: Duration::from_secs(9),
        };
        seekers.seek(&Name::new("n"), &request, Some(7)).unwrap()
    }

    fn is_woken(seeker: &Seeker) -> bool {
        seeker.woken().now_or_never().is_some()
    }

    #[test]
    fn one_run_wakes_the_one_who_has_waited_longest_and_can_do_it() {
        let seekers = Arc::default();
        let (other, pooled) = (seek(&seekers, "a", "x", &[]), seek(&seekers, "b", "w", &["gpu"]));
        let (first, second) = (seek(&seekers, "c", "w", &[]), seek(&seekers, "d", "w", &[]));
        seekers.ready(&head());
        assert!(is_woken(&first) && !is_woken(&second) && !is_woken(&other) && !is_woken(&pooled));
        // It has not looked yet: the next run is for another one.
        seekers.ready(&head());
        assert!(is_woken(&second) && !is_woken(&first));
        assert!(first.looks());
        seekers.ready(&head());
        assert!(is_woken(&first));
    }

    #[test]
    fn one_who_goes_away_before_it_looks_leaves_the_run_to_another() {
        let seekers = Arc::default();
        let (first, second) = (seek(&seekers, "a", "w", &[]), seek(&seekers, "b", "w", &[]));
        seekers.ready(&head());
        drop(first);
        assert!(is_woken(&second));
        assert!(second.looks());
        drop(second);
        assert_eq!(seekers.waiting().by_workflow.len() + seekers.count.load(Ordering::SeqCst), 0, "nothing is left");
    }

    #[cfg(feature = "http")]
    #[test]
    fn the_same_question_again_ends_the_wait_and_takes_no_run_from_others() {
        let seekers = Arc::default();
        let (old, other) = (seek(&seekers, "a", "w", &[]), seek(&seekers, "b", "w", &[]));
        seekers.end(&Name::new("n"), &Name::new("a"), 7);
        assert!(is_woken(&old) && !old.looks() && !is_woken(&other));
        seekers.ready(&head());
        assert!(is_woken(&other) && !is_woken(&old));
    }
}
