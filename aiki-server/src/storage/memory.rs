//! The store without a disk: plain maps. It is the oracle for the others.

mod schedules;
mod workflows;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Bound;

use aiki_core::listing::{RunFilter, RunOrder, WorkflowUse, stats_of};
use aiki_core::name::{Name, Source, WorkflowKey};
use aiki_core::rank::Rank;
use aiki_core::run::RunHead;
use aiki_core::{ReadyRun, RunId, Timestamp};

use super::{
    LoadedRow, QueuedPlace, Reads, ReadyQuery, ReferenceKey, RunQuery, RunWrite, ScheduleReads, ScheduleWrite, Slots,
    Storage, StorageError, StoredRun, Wait, ready_run, slot_key, wait, workflow_changes,
};
use schedules::MemorySchedules;
use workflows::MemoryWorkflows;

type ReadyKey = (Name, WorkflowKey, Option<Name>);

/// The runs that count for a concurrency key.
#[derive(Debug, Default)]
struct Counting {
    holding: BTreeSet<RunId>,
    lines: BTreeMap<u32, BTreeSet<Wait>>,
}

impl Counting {
    fn insert(&mut self, head: &RunHead) {
        match wait(head) {
            Some(wait) => self.lines.entry(wait.limit).or_default().insert(wait),
            None => self.holding.insert(head.id),
        };
    }

    /// Answers whether nobody counts any more.
    fn remove(&mut self, head: &RunHead) -> bool {
        self.holding.remove(&head.id);
        if let Some(wait) = wait(head)
            && let Some(line) = self.lines.get_mut(&wait.limit)
        {
            line.remove(&wait);
            if line.is_empty() {
                self.lines.remove(&wait.limit);
            }
        }
        self.holding.is_empty() && self.lines.is_empty()
    }
}

#[derive(Debug, Default)]
pub(crate) struct MemoryStorage {
    runs: BTreeMap<RunId, StoredRun>,
    pages: HashMap<RunId, BTreeMap<u32, String>>,
    references: HashMap<ReferenceKey, RunId>,
    due: BTreeSet<(Timestamp, RunId)>,
    ready: HashMap<ReadyKey, BTreeSet<(Rank, RunId)>>,
    children: HashMap<RunId, BTreeSet<RunId>>,
    marks: BTreeSet<(RunId, String)>,
    slots: HashMap<(Name, String), Counting>,
    ended: BTreeSet<(Timestamp, RunId)>,
    workflows: MemoryWorkflows,
    schedules: MemorySchedules,
}

impl MemoryStorage {
    fn index(&mut self, head: &RunHead) {
        if let Some(due) = head.due_at() {
            self.due.insert((due, head.id));
        }
        if let Some(parent) = head.parent {
            self.children.entry(parent).or_default().insert(head.id);
        }
        if let Some(key) = slot_key(head) {
            self.slots.entry((head.namespace.clone(), key.to_owned())).or_default().insert(head);
        }
        if let Some(rank) = head.rank() {
            self.ready.entry(ready_key(head)).or_default().insert((rank, head.id));
        }
        self.ended.extend(head.ended_at.map(|ended| (ended, head.id)));
    }

    fn unindex(&mut self, head: &RunHead) {
        if let Some(ended) = head.ended_at {
            self.ended.remove(&(ended, head.id));
        }
        if let Some(key) = slot_key(head) {
            let key = (head.namespace.clone(), key.to_owned());
            if self.slots.get_mut(&key).is_some_and(|counting| counting.remove(head)) {
                self.slots.remove(&key);
            }
        }
        if let Some(due) = head.due_at() {
            self.due.remove(&(due, head.id));
        }
        if let Some(rank) = head.rank()
            && let Some(ranks) = self.ready.get_mut(&ready_key(head))
        {
            ranks.remove(&(rank, head.id));
            if ranks.is_empty() {
                self.ready.remove(&ready_key(head));
            }
        }
    }

    /// How many rows announce a run.
    pub(super) fn announcements(&self, run: RunId) -> usize {
        self.ready.values().flatten().filter(|(_, ready)| *ready == run).count()
    }

    /// How many runs are due at some time.
    pub(super) fn timers(&self) -> usize {
        self.due.len()
    }

    /// Loses the last page of a run's history. Whether there was anything in it.
    pub(super) fn lose_tail(&mut self, run: RunId) -> bool {
        self.runs.get_mut(&run).is_some_and(|stored| !std::mem::take(&mut stored.tail).is_empty())
    }

    fn check(&self, write: &RunWrite<'_>, writes: &[RunWrite<'_>]) -> Result<(), StorageError> {
        let head = &write.run.head;
        let owner = reference_key(head).and_then(|key| self.references.get(&key));
        let leaves = |owner: &RunId| writes.iter().any(|other| other.forget && other.run.head.id == *owner);
        let taken = write.expected.is_none() && owner.is_some_and(|owner| !leaves(owner));
        if self.runs.get(&head.id).map(|run| run.version) != write.expected || taken {
            return Err(StorageError::Conflict(head.id));
        }
        Ok(())
    }
}

impl MemoryStorage {
    /// Removes a run with all that belongs to it.
    fn forget(&mut self, head: &RunHead) {
        self.runs.remove(&head.id);
        self.unindex(head);
        self.pages.remove(&head.id);
        let own: Vec<_> = self.marks_of(head.id).cloned().collect();
        for mark in &own {
            self.marks.remove(mark);
        }
        if let Some(key) = reference_key(head) {
            self.references.remove(&key);
        }
        if let Some(parent) = head.parent
            && let Some(children) = self.children.get_mut(&parent)
        {
            children.remove(&head.id);
            if children.is_empty() {
                self.children.remove(&parent);
            }
        }
    }

    fn marks_of(&self, id: RunId) -> impl Iterator<Item = &(RunId, String)> {
        self.marks.range((id, String::new())..).take_while(move |(run, _)| *run == id)
    }

    /// The runs of a namespace that fit, in the order of their ids.
    fn fitting<'a>(
        &'a self,
        namespace: &'a Name,
        filter: &'a RunFilter,
    ) -> impl DoubleEndedIterator<Item = &'a RunHead> {
        let (from, until) = filter.id_range();
        let (from, until) = (from.unwrap_or(RunId::from_bits(0)), until.unwrap_or(RunId::from_bits(u128::MAX)));
        // A range that ends before it begins is not accepted by the map.
        let heads = self.runs.range(from..until.max(from)).map(|(_, run)| &run.head);
        heads.filter(move |head| head.namespace == *namespace && filter.matches(head))
    }
}

fn ready_key(head: &RunHead) -> ReadyKey {
    (head.namespace.clone(), head.workflow.clone(), head.pool().cloned())
}

fn reference_key(head: &RunHead) -> Option<ReferenceKey> {
    head.reference_id.as_ref().map(|id| ReferenceKey::of(&head.namespace, &head.workflow, id))
}

impl Reads for MemoryStorage {
    fn load(&mut self, ids: &[RunId]) -> Result<Vec<LoadedRow>, StorageError> {
        Ok(ids.iter().map(|id| Ok(self.runs.get(id).cloned())).collect())
    }

    fn by_reference(&mut self, keys: &[ReferenceKey]) -> Result<Vec<Option<RunId>>, StorageError> {
        Ok(keys.iter().map(|key| self.references.get(key).copied()).collect())
    }

    fn pages(&mut self, id: RunId, first: u32, end: u32) -> Result<Vec<String>, StorageError> {
        let Some(pages) = self.pages.get(&id) else { return Ok(Vec::new()) };
        Ok(pages.range(first..end).map(|(_, page)| page.clone()).collect())
    }

    fn children(&mut self, parent: RunId, limit: usize) -> Result<Vec<RunId>, StorageError> {
        Ok(self.children.get(&parent).into_iter().flatten().take(limit).copied().collect())
    }

    fn is_marked(&mut self, id: RunId, mark: &str) -> Result<bool, StorageError> {
        Ok(self.marks.contains(&(id, mark.to_owned())))
    }

    fn queued(&mut self, after: QueuedPlace, limit: usize) -> Result<Vec<(QueuedPlace, ReadyRun)>, StorageError> {
        let later = self.due.range((Bound::Excluded(after), Bound::Unbounded));
        let runs = later.filter_map(|place| Some((*place, &self.runs.get(&place.1)?.head)));
        let queued = runs.filter(|(_, head)| head.announce.is_some());
        Ok(queued.map(|(place, head)| (place, ready_run(head))).take(limit).collect())
    }

    fn held(&mut self, after: QueuedPlace, limit: usize) -> Result<Vec<(QueuedPlace, Name)>, StorageError> {
        let later = self.due.range((Bound::Excluded(after), Bound::Unbounded));
        let runs = later.filter_map(|place| Some((*place, &self.runs.get(&place.1)?.head)));
        let held = runs.filter(|(_, head)| head.lease.is_some());
        Ok(held.map(|(place, head)| (place, head.namespace.clone())).take(limit).collect())
    }

    fn runs(&mut self, RunQuery { namespace, filter, page }: &RunQuery) -> Result<Vec<RunHead>, StorageError> {
        let fitting = self.fitting(namespace, filter);
        let part =
            |heads: &mut dyn Iterator<Item = &RunHead>| heads.skip(page.offset).take(page.limit).cloned().collect();
        Ok(match page.order {
            RunOrder::OldestFirst => part(&mut fitting.filter(|head| page.after.is_none_or(|after| head.id > after))),
            RunOrder::NewestFirst => {
                part(&mut fitting.rev().filter(|head| page.after.is_none_or(|after| head.id < after)))
            }
        })
    }

    fn count(&mut self, namespace: &Name, filter: &RunFilter) -> Result<u64, StorageError> {
        if filter.is_counted() {
            let counts = stats_of(&self.workflows.list(namespace, None), filter.workflow.as_ref());
            return Ok(counts.of_any(&filter.statuses));
        }
        Ok(self.fitting(namespace, filter).count() as u64)
    }

    fn workflows(&mut self, namespace: &Name, of: Option<(Source, &Name)>) -> Result<Vec<WorkflowUse>, StorageError> {
        Ok(self.workflows.list(namespace, of))
    }

    fn ended(
        &mut self,
        until: Timestamp,
        after: QueuedPlace,
        limit: usize,
    ) -> Result<Vec<(QueuedPlace, Name)>, StorageError> {
        let later = self.ended.range((Bound::Excluded(after), Bound::Unbounded));
        let places = later.take_while(|(ended, _)| *ended <= until).take(limit);
        Ok(places.filter_map(|place| Some((*place, self.runs.get(&place.1)?.head.namespace.clone()))).collect())
    }

    fn schedules(&mut self) -> &mut dyn ScheduleReads {
        &mut self.schedules
    }
}

impl Storage for MemoryStorage {
    fn reads(&mut self) -> &mut dyn Reads {
        self
    }

    fn commit(&mut self, writes: &[RunWrite<'_>], schedules: &[ScheduleWrite<'_>]) -> Result<(), StorageError> {
        writes.iter().try_for_each(|write| self.check(write, writes))?;
        schedules.iter().try_for_each(|write| self.schedules.check(write))?;
        schedules.iter().for_each(|write| self.schedules.write(write));
        workflow_changes(writes, schedules).iter().for_each(|change| self.workflows.write(change));
        writes.iter().filter(|write| write.forget).for_each(|write| self.forget(&write.run.head));
        for write in writes.iter().filter(|write| !write.forget) {
            let head = &write.run.head;
            if let Some(before) = self.runs.insert(head.id, write.run.clone()) {
                self.unindex(&before.head);
            } else if let Some(key) = reference_key(head) {
                self.references.insert(key, head.id);
            }
            self.index(head);
            if !write.spilled.is_empty() {
                let first = write.run.pages - write.spilled.len() as u32;
                self.pages.entry(head.id).or_default().extend((first..).zip(write.spilled.iter().cloned()));
            }
            if let (Some(below), Some(pages)) = (write.drop_pages_below, self.pages.get_mut(&head.id)) {
                *pages = pages.split_off(&below);
            }
            self.marks.extend(write.marks.iter().map(|mark| (head.id, mark.clone())));
        }
        Ok(())
    }

    fn due(&mut self, now: Timestamp, limit: usize) -> Result<Vec<RunId>, StorageError> {
        Ok(self.due.iter().take_while(|(due, _)| *due <= now).take(limit).map(|(_, id)| *id).collect())
    }

    fn next_due(&mut self, now: Timestamp) -> Result<Option<Timestamp>, StorageError> {
        let after = (now, RunId::from_bits(u128::MAX));
        Ok(self.due.range(after..).find(|(due, _)| *due > now).map(|(due, _)| *due))
    }

    fn ready(&mut self, query: &ReadyQuery<'_>, limit: usize) -> Result<Vec<RunId>, StorageError> {
        let pools: Vec<Option<Name>> = match query.pools {
            [] => vec![None],
            pools => pools.iter().cloned().map(Some).collect(),
        };
        let mut found: Vec<(Rank, RunId)> = Vec::new();
        for workflow in query.workflows {
            for pool in &pools {
                let key = (query.namespace.clone(), workflow.clone(), pool.clone());
                if let Some(ranks) = self.ready.get(&key) {
                    found.extend(ranks.iter().take(limit));
                }
            }
        }
        found.sort_unstable();
        found.dedup();
        Ok(found.into_iter().take(limit).map(|(_, id)| id).collect())
    }

    fn slots(&mut self, namespace: &Name, key: &str, limit: usize) -> Result<Slots, StorageError> {
        let Some(counting) = self.slots.get(&(namespace.clone(), key.to_owned())) else { return Ok(Slots::default()) };
        let lines = counting.lines.iter().filter(|_| limit > 0);
        let lines = lines.map(|(places, line)| (*places, line.iter().take(limit).copied().collect())).collect();
        Ok(Slots { holding: counting.holding.len(), lines })
    }

    fn last_id(&mut self) -> Result<Option<RunId>, StorageError> {
        Ok(self.runs.keys().next_back().copied())
    }
}
