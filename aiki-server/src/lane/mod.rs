//! The commit lane: the only way to change a run. Requests that queued while the last commit was
//! under way are planned one after the other, committed in one transaction and answered together.
//! There is no window in which it waits for more.

mod cache;
mod desk;
mod handle;
mod queue;

use std::sync::Arc;

use aiki_core::id::RunIdSource;
use aiki_core::{Clock, RunId, ServerError};
use aiki_runtime::Entropy;

use crate::effects::Effects;
use crate::operation::Operation;
use crate::storage::{Storage, StorageError};
use cache::Cache;
pub(crate) use desk::{Desk, DueRuns, Edit};
pub(crate) use handle::LaneHandle;

/// A history tail longer than this becomes a page of its own, in bytes.
const TAIL_LIMIT: usize = 2 * 1024;

/// One request in the lane, whatever it is.
pub(crate) trait Job: Send {
    /// Names the runs it is going to look at, so that all are loaded in one go.
    fn touches(&self, runs: &mut Vec<RunId>);
    /// Plans it and keeps the answer.
    fn plan(&mut self, desk: &mut Desk<'_>);
    /// Replaces the answer: what was planned was not stored.
    fn refuse(&mut self, error: ServerError);
    /// Sends the answer to whoever waits for it.
    fn reply(self: Box<Self>);
}

/// An operation with its answer.
pub(crate) struct Planned<O: Operation> {
    operation: O,
    answer: Option<Result<O::Answer, ServerError>>,
}

impl<O: Operation> Planned<O> {
    fn new(operation: O) -> Self {
        Self { operation, answer: None }
    }

    fn into_answer(self) -> Result<O::Answer, ServerError> {
        self.answer.unwrap_or_else(|| Err(ServerError::Internal("the request was not worked on".into())))
    }
}

/// Plans and commits.
pub(crate) struct Lane {
    storage: Box<dyn Storage>,
    cache: Cache,
    ids: RunIdSource,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    effects: Arc<Effects>,
    touched: Vec<RunId>,
}

impl Lane {
    /// A lane over a store. Ids of new runs go on behind the highest that is stored.
    pub(crate) fn new(
        mut storage: Box<dyn Storage>,
        clock: Arc<dyn Clock>,
        entropy: Arc<dyn Entropy>,
        effects: Arc<Effects>,
    ) -> Result<Self, StorageError> {
        let ids = storage.last_id()?.map_or_else(RunIdSource::default, RunIdSource::after);
        Ok(Self { storage, cache: Cache::default(), ids, clock, entropy, effects, touched: Vec::new() })
    }

    pub(crate) fn storage(&mut self) -> &mut dyn Storage {
        &mut *self.storage
    }

    /// Works on a batch. When it cannot be committed as a whole, each of its requests is tried alone,
    /// so that a bad one does not fail the others.
    fn work(&mut self, jobs: &mut [&mut dyn Job]) {
        let Err(error) = self.attempt(jobs) else { return };
        if jobs.len() == 1 && !matches!(error, ServerError::Unavailable(_)) {
            jobs[0].refuse(error);
            return;
        }
        for job in jobs {
            if let Err(error) = self.attempt(&mut [&mut **job]) {
                job.refuse(error);
            }
        }
    }

    fn attempt(&mut self, jobs: &mut [&mut dyn Job]) -> Result<(), ServerError> {
        self.touched.clear();
        jobs.iter().for_each(|job| job.touches(&mut self.touched));
        let mut desk = Desk::new(
            self.clock.now(),
            &mut *self.storage,
            &mut self.cache,
            &mut self.ids,
            &*self.entropy,
            &mut self.touched,
        )?;
        jobs.iter_mut().for_each(|job| job.plan(&mut desk));
        let (now, runs) = desk.finish()?;
        let writes: Vec<_> = runs.values().filter_map(desk::OpenRun::write).collect();
        if !writes.is_empty() {
            self.storage.commit(&writes)?;
        }
        self.effects.emit(now, runs.values().filter_map(desk::OpenRun::change));
        runs.into_values().for_each(|open| self.cache.put(open.run));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::operation::{Cancel, ClaimReadyRuns, Create};
    use crate::storage::memory::MemoryStorage;
    use crate::storage::{QueuedPlace, Reads, ReadyQuery, ReferenceKey, RunWrite, StoredRun};
    use crate::timer::Timer;
    use aiki_core::hash::input_hash;
    use aiki_core::name::WorkflowKey;
    use aiki_core::run::Reference;
    use aiki_core::run::plan::CreateRun;
    use aiki_core::server_client::ClaimReady;
    use aiki_core::{Name, ReadyRun, Timestamp};
    use aiki_runtime::{SeededEntropy, SystemClock};
    use std::time::Duration;

    /// Refuses transactions of more than a few rows.
    struct Narrow(MemoryStorage);

    impl Reads for Narrow {
        fn load(&mut self, ids: &[RunId]) -> Result<Vec<Option<StoredRun>>, StorageError> {
            self.0.load(ids)
        }
        fn by_reference(&mut self, keys: &[ReferenceKey]) -> Result<Vec<Option<RunId>>, StorageError> {
            self.0.by_reference(keys)
        }
        fn pages(&mut self, id: RunId, count: u32) -> Result<Vec<String>, StorageError> {
            self.0.pages(id, count)
        }
        fn queued(&mut self, after: QueuedPlace, limit: usize) -> Result<Vec<(QueuedPlace, ReadyRun)>, StorageError> {
            self.0.queued(after, limit)
        }
        fn held(&mut self, after: QueuedPlace, limit: usize) -> Result<Vec<(QueuedPlace, Name)>, StorageError> {
            self.0.held(after, limit)
        }
    }

    impl Storage for Narrow {
        fn commit(&mut self, writes: &[RunWrite<'_>]) -> Result<(), StorageError> {
            if writes.len() > 2 { Err(StorageError::Full) } else { self.0.commit(writes) }
        }
        fn due(&mut self, now: Timestamp, limit: usize) -> Result<Vec<RunId>, StorageError> {
            self.0.due(now, limit)
        }
        fn next_due(&mut self, now: Timestamp) -> Result<Option<Timestamp>, StorageError> {
            self.0.next_due(now)
        }
        fn ready(&mut self, query: &ReadyQuery<'_>, limit: usize) -> Result<Vec<RunId>, StorageError> {
            self.0.ready(query, limit)
        }
        fn last_id(&mut self) -> Result<Option<RunId>, StorageError> {
            self.0.last_id()
        }
    }

    fn lane(storage: impl Storage) -> Lane {
        let effects = Effects {
            announcer: None,
            timer: Arc::new(Timer::new()),
            watchers: Arc::default(),
            workers: Arc::default(),
        };
        let (clock, entropy) = (Arc::new(SystemClock), Arc::new(SeededEntropy::new(1)));
        Lane::new(Box::new(storage), clock, entropy, Arc::new(effects)).unwrap()
    }

    fn create(reference: &str) -> Planned<Create> {
        let reference = Some(Reference { id: reference.into(), conflict_policy: Default::default() });
        let key = WorkflowKey::user("w", "1");
        let request = CreateRun { reference, ..CreateRun::new(key, None, input_hash(None).unwrap()) };
        Planned::new(Create { namespace: Name::new("n"), request })
    }

    fn claim_ready(limit: usize) -> Planned<ClaimReadyRuns> {
        let (worker, workflows) = (Name::new("worker"), vec![WorkflowKey::user("w", "1")]);
        let request = ClaimReady { worker, workflows, pools: Vec::new(), limit, lease: Duration::from_secs(9) };
        Planned::new(ClaimReadyRuns { namespace: Name::new("n"), request })
    }

    #[test]
    fn later_requests_of_a_batch_see_what_earlier_ones_did() {
        let mut lane = lane(MemoryStorage::default());
        let (mut first, mut again) = (create("a"), create("a"));
        let (mut claimed, mut nothing_left) = (claim_ready(5), claim_ready(5));
        lane.work(&mut [&mut first, &mut again, &mut claimed, &mut nothing_left]);
        let id = first.into_answer().unwrap().id;
        let again = again.into_answer().unwrap();
        assert_eq!((again.id, again.existed), (id, true));
        let claimed = claimed.into_answer().unwrap();
        assert_eq!(claimed.iter().map(|run| run.head.id).collect::<Vec<_>>(), [id]);
        assert!(nothing_left.into_answer().unwrap().is_empty());
        // Three changes of one run are one write of its row.
        let stored = lane.storage().load(&[id]).unwrap().remove(0).unwrap();
        assert_eq!((stored.version, stored.head.epoch), (1, 1));
    }

    #[test]
    fn a_batch_that_cannot_be_committed_is_tried_one_by_one() {
        let mut lane = lane(Narrow(MemoryStorage::default()));
        let (mut a, mut b, mut c) = (create("a"), create("b"), create("c"));
        lane.work(&mut [&mut a, &mut b, &mut c]);
        let ids = [a, b, c].map(|one| one.into_answer().unwrap().id);
        // Together they would touch three rows: the claim is refused, the others are not.
        let run = ids[0];
        let cancel = Cancel { namespace: Name::new("n"), run, explanation: None };
        let (mut too_much, mut cancel, mut d) = (claim_ready(3), Planned::new(cancel), create("d"));
        lane.work(&mut [&mut too_much, &mut cancel, &mut d]);
        assert_eq!(too_much.into_answer(), Err(StorageError::Full.into()));
        cancel.into_answer().unwrap();
        assert!(!d.into_answer().unwrap().existed);
        let stored = lane.storage().load(&ids[1..]).unwrap();
        assert!(stored.iter().flatten().all(|run| run.head.epoch == 0), "nothing of the refused claim is left");
    }
}
