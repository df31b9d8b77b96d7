//! What a store does: keep one row per run and the spilled pages of its history, and answer the few
//! questions that need an index. It decides nothing.

mod error;
#[cfg(test)]
mod fence;
pub(crate) mod kept;
mod listing;
pub(crate) mod memory;
#[cfg(feature = "postgres")]
pub(crate) mod postgres;
mod schedule;
#[cfg(feature = "sqlite")]
pub(crate) mod sqlite;

use std::collections::BTreeMap;

use aiki_core::listing::{RunFilter, WorkflowUse};
use aiki_core::name::{Name, Source, WorkflowKey};
use aiki_core::rank::Rank;
use aiki_core::run::{RunHead, RunStatus};
use aiki_core::{ReadyRun, RunId, Timestamp};

pub(crate) use error::StorageError;
pub(crate) use listing::{RunQuery, WorkflowChange, workflow_changes};
pub(crate) use schedule::{ScheduleKey, ScheduleQuery, ScheduleReads, ScheduleWrite, StoredSchedule};

/// A run as it is stored.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct StoredRun {
    pub(crate) head: RunHead,
    /// The last page of the history, one entry of JSON per line.
    pub(crate) tail: String,
    /// Pages of the history before the tail.
    pub(crate) pages: u32,
    /// Counts the writes of the row: the fence of the next one.
    pub(crate) version: u64,
}

/// The caller's own name of a run, in full.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct ReferenceKey {
    pub(crate) namespace: Name,
    pub(crate) workflow: WorkflowKey,
    pub(crate) reference_id: String,
}

impl ReferenceKey {
    pub(crate) fn of(namespace: &Name, workflow: &WorkflowKey, reference_id: &str) -> Self {
        let (namespace, workflow) = (namespace.clone(), workflow.clone());
        Self { namespace, workflow, reference_id: reference_id.to_owned() }
    }
}

/// One row to be written.
#[derive(Debug)]
pub(crate) struct RunWrite<'a> {
    /// The run after the write.
    pub(crate) run: &'a StoredRun,
    /// The version that the row must have; `None`: there must be no row yet.
    pub(crate) expected: Option<u64>,
    /// Pages that leave the tail with this write. The last of them is page `run.pages - 1`.
    pub(crate) spilled: &'a [String],
    /// What the run is not to accept a second time.
    pub(crate) marks: &'a [String],
    /// Pages below this number are not needed any more.
    pub(crate) drop_pages_below: Option<u32>,
    /// The status of the stored row, `None` when there is none: [`workflow_changes`] counts by it.
    pub(crate) was: Option<RunStatus>,
    /// Removes the row with all that belongs to it, its pages and marks, instead of writing it. Comes before the
    /// other writes of a commit: what the run was called by is free for them.
    pub(crate) forget: bool,
}

/// The runs that count for a concurrency key: those that are worked on, and those that were held back.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Slots {
    /// How many are worked on.
    pub(crate) holding: usize,
    /// The first of those that were held back, in a line of each limit, each in order.
    pub(crate) lines: BTreeMap<u32, Vec<Wait>>,
}

/// The concurrency key under which a run has to be found.
pub(crate) fn slot_key(head: &RunHead) -> Option<&str> {
    let counts = head.lease.is_some() || head.held_back;
    head.concurrency.as_ref().filter(|_| counts).map(|concurrency| concurrency.key.as_str())
}

/// A run that was held back. The lowest rank goes first, and of two the run with the lower id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Wait {
    pub(crate) rank: Rank,
    pub(crate) run: RunId,
    /// It needs one of so many places.
    pub(crate) limit: u32,
}

/// The wait of a run for its concurrency key, while it was held back.
pub(crate) fn wait(head: &RunHead) -> Option<Wait> {
    let concurrency = head.concurrency.as_ref().filter(|_| head.held_back)?;
    let first = Rank::from_u64(0);
    let rank = head.announce.map_or(first, |announce| Rank::of_ready(announce.ready_since, head.priority));
    Some(Wait { rank, run: head.id, limit: concurrency.limit })
}

/// What is asked when somebody wants ready runs.
#[derive(Clone, Debug)]
pub(crate) struct ReadyQuery<'a> {
    pub(crate) namespace: &'a Name,
    pub(crate) workflows: &'a [WorkflowKey],
    /// Empty: runs without a pool.
    pub(crate) pools: &'a [Name],
}

impl ReadyQuery<'_> {
    /// Whether a run is ready and asked for.
    pub(crate) fn matches(&self, head: &RunHead) -> bool {
        let pool_fits = match head.pool() {
            None => self.pools.is_empty(),
            Some(pool) => self.pools.contains(pool),
        };
        head.rank().is_some()
            && pool_fits
            && head.namespace == *self.namespace
            && self.workflows.contains(&head.workflow)
    }
}

/// One row that was asked for: `None` when there is none, an error when this one cannot be read.
pub(crate) type LoadedRow = Result<Option<StoredRun>, StorageError>;

/// A place in a list of runs by due time: due time and id.
pub(crate) type QueuedPlace = (Timestamp, RunId);

/// A worker with a run that it holds and since when.
pub(crate) type Holder = (Name, RunId, Timestamp);

/// Questions that change nothing.
pub(crate) trait Reads: Send {
    /// The runs with these ids, in their order. Fails as a whole only when the store itself does.
    fn load(&mut self, ids: &[RunId]) -> Result<Vec<LoadedRow>, StorageError>;

    /// The runs with these reference ids, in their order.
    fn by_reference(&mut self, keys: &[ReferenceKey]) -> Result<Vec<Option<RunId>>, StorageError>;

    /// The pages of a run's history from `first` to before `end`.
    fn pages(&mut self, id: RunId, first: u32, end: u32) -> Result<Vec<String>, StorageError>;

    /// The children of a run, in the order of their ids, at most `limit`.
    fn children(&mut self, parent: RunId, limit: usize) -> Result<Vec<RunId>, StorageError>;

    /// Whether a run has such a mark.
    fn is_marked(&mut self, id: RunId, mark: &str) -> Result<bool, StorageError>;

    /// Queued runs of all namespaces by due time and id, at most `limit` from behind `after`. Rows that
    /// cannot be read are left out.
    fn queued(&mut self, after: QueuedPlace, limit: usize) -> Result<Vec<(QueuedPlace, ReadyRun)>, StorageError>;

    /// Claimed runs of all namespaces by the end of their lease and id, at most `limit` from behind
    /// `after`.
    fn held(&mut self, after: QueuedPlace, limit: usize) -> Result<Vec<(QueuedPlace, Name)>, StorageError>;

    /// The part of a list of runs that is asked for: runs of the namespace that fit the filter, in the order of their
    /// ids, from behind `after` (a run that need not be there) and `offset` more, at most `limit`. Rows that cannot be
    /// read are left out.
    fn runs(&mut self, query: &RunQuery) -> Result<Vec<RunHead>, StorageError>;

    /// How many runs of the namespace fit the filter.
    fn count(&mut self, namespace: &Name, filter: &RunFilter) -> Result<u64, StorageError>;

    /// The workflow versions of the namespace that were used, or those of one workflow, by source, name and version.
    fn workflows(&mut self, namespace: &Name, of: Option<(Source, &Name)>) -> Result<Vec<WorkflowUse>, StorageError>;

    /// Runs of all namespaces that ended at `until` or before, by their end and id, at most `limit` from behind
    /// `after`.
    fn ended(
        &mut self,
        until: Timestamp,
        after: QueuedPlace,
        limit: usize,
    ) -> Result<Vec<(QueuedPlace, Name)>, StorageError>;
    /// The claimed runs of a namespace by worker and id, at most `limit`. Only stores that are shared are asked: of
    /// the others the server knows it by itself.
    fn holders(&mut self, _namespace: &Name, _limit: usize) -> Result<Vec<Holder>, StorageError> {
        Ok(Vec::new())
    }

    /// Questions about schedules.
    fn schedules(&mut self) -> &mut dyn ScheduleReads;
}

/// A store. Calls come from one thread at a time.
pub(crate) trait Storage: Send + 'static {
    /// What the connection that writes reads.
    fn reads(&mut self) -> &mut dyn Reads;

    /// Writes all rows or none. Durable when it returns.
    fn commit(&mut self, writes: &[RunWrite<'_>], schedules: &[ScheduleWrite<'_>]) -> Result<(), StorageError>;

    /// Runs that are due at `now`, the earliest first, at most `limit`.
    fn due(&mut self, now: Timestamp, limit: usize) -> Result<Vec<RunId>, StorageError>;

    /// The first due time after `now`.
    fn next_due(&mut self, now: Timestamp) -> Result<Option<Timestamp>, StorageError>;

    /// Ready runs, lowest rank first and then by id, at most `limit`.
    fn ready(&mut self, query: &ReadyQuery<'_>, limit: usize) -> Result<Vec<RunId>, StorageError>;

    /// The runs that count for a concurrency key, at most `limit` of each line.
    fn slots(&mut self, namespace: &Name, key: &str, limit: usize) -> Result<Slots, StorageError>;

    /// The highest id of a run.
    fn last_id(&mut self) -> Result<Option<RunId>, StorageError>;

    /// Called between batches: time for upkeep. `idle` says that nothing waits.
    fn maintain(&mut self, _idle: bool) {}

    /// Whether other servers write to it as well: then nothing that was read is true for longer than a batch.
    fn is_shared(&self) -> bool {
        false
    }

    /// Tells other servers of the commit that follows, with it.
    fn tell_others(&mut self, _note: String) {}

    /// Ends a batch that commits nothing: lets go of what its questions have locked. An error says that they were
    /// not answered as they should.
    fn settle(&mut self) -> Result<(), StorageError> {
        Ok(())
    }
}

/// The announcement of a run.
pub(crate) fn ready_run(head: &RunHead) -> ReadyRun {
    ReadyRun {
        id: head.id,
        namespace: head.namespace.clone(),
        workflow: head.workflow.clone(),
        pool: head.pool().cloned(),
        priority: head.priority,
    }
}
