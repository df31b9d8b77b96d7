//! The table at which a batch is planned: the runs it touches, as earlier requests of the same batch
//! left them.

use std::collections::btree_map::Entry as Place;
use std::collections::{BTreeMap, HashMap};

use aiki_core::id::RunIdSource;
use aiki_core::run::RunHead;
use aiki_core::run::history::{self, Entry, HistoryEntry};
use aiki_core::{Name, RunId, ServerError, Timestamp};
use aiki_runtime::Entropy;

use super::TAIL_LIMIT;
use super::aside::Aside;
use super::cache::Cache;
use super::follow_up::{Aftermath, Stood};
use super::places::{Places, Standing};
use super::schedules::{OpenSchedules, SchedulesAside};
use crate::effects::{Before, Change};
use crate::storage::{ReadyQuery, ReferenceKey, RunWrite, Storage, StorageError, StoredRun};

/// A run on the desk.
pub(super) struct OpenRun {
    pub(super) run: StoredRun,
    /// The version of the stored row, `None` before there is one.
    stored: Option<u64>,
    /// Pages that have left the tail since.
    spilled: Vec<String>,
    /// What it is not to accept a second time.
    marks: Vec<String>,
    drop_pages_below: Option<u32>,
    /// What the run looked like before the batch; set with its first change.
    before: Option<Option<Before>>,
    /// The row is to go.
    forgotten: bool,
}

impl OpenRun {
    fn loaded(run: StoredRun) -> Self {
        Self {
            stored: Some(run.version),
            run,
            spilled: Vec::new(),
            marks: Vec::new(),
            drop_pages_below: None,
            before: None,
            forgotten: false,
        }
    }

    /// The row to write, when something was changed.
    pub(super) fn write(&self) -> Option<RunWrite<'_>> {
        let OpenRun { run, stored: expected, spilled, marks, drop_pages_below, .. } = self;
        let (expected, drop_pages_below, forget) = (*expected, *drop_pages_below, self.forgotten);
        let was = self.before.as_ref()?.as_ref().map(|before| before.status);
        Some(RunWrite { run, expected, spilled, marks, drop_pages_below, was, forget })
    }

    /// What has to be made known, when something was changed.
    pub(super) fn change(&self) -> Option<Change<'_>> {
        let before = self.before.as_ref().filter(|_| !self.forgotten)?.as_ref();
        Some(Change { before, head: &self.run.head })
    }
}

/// Whether a plan changed the run it was made for.
pub(crate) enum Edit<T> {
    Changed(T),
    Unchanged(T),
}

/// What the timer has to do.
pub(crate) struct DueRuns {
    pub(crate) runs: Vec<(Name, RunId)>,
    pub(crate) next: Option<Timestamp>,
    /// Whether there may be more that are due by now.
    pub(crate) more: bool,
}

/// What the lane remembers between two batches. All of it can be had from the store again.
#[derive(Debug, Default)]
pub(super) struct Memory {
    pub(super) cache: Cache,
    pub(super) aside: Aside,
    pub(super) schedules_aside: SchedulesAside,
}

pub(crate) struct Desk<'a> {
    now: Timestamp,
    pub(super) storage: &'a mut dyn Storage,
    pub(super) memory: &'a mut Memory,
    ids: &'a mut RunIdSource,
    entropy: &'a dyn Entropy,
    runs: BTreeMap<RunId, OpenRun>,
    pub(super) schedules: OpenSchedules,
    /// Reference ids that were looked up for this batch, or taken in it; `None`: nobody has it.
    references: HashMap<ReferenceKey, Option<RunId>>,
    entries: Vec<HistoryEntry>,
    /// A change that could not be written down: the batch must not be committed.
    broken: Option<ServerError>,
    /// What the changes of the operation under way lead to.
    pub(super) aftermath: Aftermath,
    pub(super) places: Places,
}

impl<'a> Desk<'a> {
    /// A desk with the runs that the batch names, loaded in one go.
    pub(super) fn new(
        now: Timestamp,
        storage: &'a mut dyn Storage,
        memory: &'a mut Memory,
        ids: &'a mut RunIdSource,
        entropy: &'a dyn Entropy,
        touched: &mut Vec<RunId>,
        wanted: &mut Vec<ReferenceKey>,
    ) -> Result<Self, StorageError> {
        let runs = BTreeMap::new();
        // Elsewhere a look-up is no round trip.
        let references = if storage.is_shared() && !wanted.is_empty() {
            let found = storage.reads().by_reference(wanted)?;
            touched.extend(found.iter().flatten());
            wanted.drain(..).zip(found).collect()
        } else {
            HashMap::new()
        };
        let mut desk = Self {
            now,
            storage,
            memory,
            ids,
            entropy,
            runs,
            references,
            entries: Vec::new(),
            broken: None,
            aftermath: Aftermath::default(),
            places: Places::default(),
            schedules: OpenSchedules::default(),
        };
        desk.fetch(touched)?;
        Ok(desk)
    }

    /// Brings runs to the desk that are not there yet. Ids without a run are left out, and so are runs
    /// that cannot be read; the last of these is answered.
    pub(super) fn fetch(&mut self, wanted: &mut Vec<RunId>) -> Result<Option<StorageError>, StorageError> {
        wanted.retain(|id| match self.runs.entry(*id) {
            Place::Occupied(_) => false,
            Place::Vacant(slot) => match self.memory.cache.take(*id) {
                Some(run) => {
                    slot.insert(OpenRun::loaded(run));
                    false
                }
                None => true,
            },
        });
        let mut damage = None;
        if !wanted.is_empty() {
            for (id, row) in wanted.iter().zip(self.storage.reads().load(wanted)?) {
                match row {
                    Ok(Some(run)) => drop(self.runs.entry(*id).or_insert_with(|| OpenRun::loaded(run))),
                    Ok(None) => {}
                    Err(error) => {
                        self.memory.aside.put(*id, &error);
                        damage = Some(error);
                    }
                }
            }
        }
        Ok(damage)
    }

    /// Brings what a list named to the desk, without what was left aside; answers what is there.
    pub(crate) fn fetch_listed(&mut self, mut ids: Vec<RunId>) -> Result<Vec<RunId>, ServerError> {
        ids.retain(|id| !self.memory.aside.has(id));
        self.fetch(&mut ids.clone())?;
        ids.retain(|id| self.runs.contains_key(id));
        Ok(ids)
    }

    /// The time of this batch.
    pub(crate) fn now(&self) -> Timestamp {
        self.now
    }

    /// The id of a new run.
    pub(crate) fn next_id(&mut self) -> RunId {
        self.ids.next(self.now, self.entropy.next_u64())
    }

    /// The run, as the requests before left it.
    pub(crate) fn run(&mut self, namespace: &Name, id: RunId) -> Result<&StoredRun, ServerError> {
        Ok(&self.open(namespace, id)?.run)
    }

    fn open(&mut self, namespace: &Name, id: RunId) -> Result<&mut OpenRun, ServerError> {
        if !self.runs.contains_key(&id)
            && let Some(damage) = self.fetch(&mut vec![id])?
        {
            return Err(damage.into());
        }
        let open = self.runs.get_mut(&id).filter(|open| open.run.head.namespace == *namespace && !open.forgotten);
        open.ok_or(ServerError::RunNotFound(id))
    }

    /// Removes a run that this batch has not changed, for this and all later requests; answers whether it did.
    pub(crate) fn forget(&mut self, id: RunId) -> bool {
        let Some(open) = self.runs.get_mut(&id).filter(|open| open.before.is_none()) else { return false };
        open.before = Some(Some(Before::of(&open.run.head)));
        open.forgotten = true;
        true
    }

    /// Lets a plan work on a run and notes what it did.
    pub(crate) fn edit<T>(
        &mut self,
        namespace: &Name,
        id: RunId,
        plan: impl FnOnce(&mut RunHead, Timestamp, &mut Vec<HistoryEntry>) -> Edit<T>,
    ) -> Result<T, ServerError> {
        let now = self.now;
        let mut entries = std::mem::take(&mut self.entries);
        // Not by `open`: the rest of the desk is still needed.
        self.open(namespace, id)?;
        let Some(open) = self.runs.get_mut(&id) else { return Err(ServerError::RunNotFound(id)) };
        let before = open.before.is_none().then(|| Before::of(&open.run.head));
        let (stood, standing) = (Stood::of(&open.run.head), Standing::of(&open.run.head));
        let answer = match plan(&mut open.run.head, now, &mut entries) {
            Edit::Unchanged(answer) => answer,
            Edit::Changed(answer) => {
                if let Some(before) = before {
                    open.before = Some(Some(before));
                    open.run.version += 1;
                }
                let written = append(open, &entries);
                stood.compare(&open.run.head, &mut self.aftermath);
                self.places.note(&open.run.head, standing);
                self.broken = self.broken.take().or(written.err());
                answer
            }
        };
        entries.clear();
        self.entries = entries;
        Ok(answer)
    }

    /// Puts a new run on the desk.
    pub(crate) fn create(&mut self, head: RunHead, entries: &[HistoryEntry]) {
        let id = head.id;
        if let Some(reference_id) = &head.reference_id {
            self.references.insert(ReferenceKey::of(&head.namespace, &head.workflow, reference_id), Some(id));
        }
        let run = StoredRun { head, tail: String::with_capacity(512), pages: 0, version: 1 };
        let mut open = OpenRun { before: Some(None), stored: None, ..OpenRun::loaded(run) };
        let written = append(&mut open, entries);
        self.broken = self.broken.take().or(written.err());
        self.runs.insert(id, open);
    }

    /// Whether the run has accepted this before.
    pub(crate) fn is_marked(&mut self, namespace: &Name, id: RunId, mark: &str) -> Result<bool, ServerError> {
        let marked = self.open(namespace, id)?.marks.iter().any(|known| known == mark);
        Ok(marked || self.storage.reads().is_marked(id, mark)?)
    }

    /// Notes something that the run is not to accept a second time.
    pub(crate) fn mark(&mut self, namespace: &Name, id: RunId, mark: String) -> Result<(), ServerError> {
        self.open(namespace, id)?.marks.push(mark);
        Ok(())
    }

    pub(super) fn give_up(&mut self, error: ServerError) {
        self.broken = self.broken.take().or(Some(error));
    }

    /// The run that has this reference id.
    pub(crate) fn by_reference(&mut self, key: &ReferenceKey) -> Result<Option<RunId>, ServerError> {
        let found = match self.references.get(key) {
            Some(known) => *known,
            None => self.storage.reads().by_reference(std::slice::from_ref(key))?.pop().flatten(),
        };
        // The batch may have removed the run.
        Ok(found.filter(|id| self.runs.get(id).is_none_or(|open| !open.forgotten)))
    }

    /// Ready runs, the most urgent and then the oldest first.
    pub(crate) fn ready(&mut self, query: &ReadyQuery<'_>, limit: usize) -> Result<Vec<RunId>, ServerError> {
        // Runs that the batch changed stand in the store as they were: take their place on the desk
        // instead, and ask for so many more.
        let changed: Vec<RunId> =
            self.runs.iter().filter(|(_, open)| open.before.is_some()).map(|(id, _)| *id).collect();
        let wanted = limit + changed.len();
        let ids = loop {
            let aside = self.memory.aside.count();
            let listed = self.storage.ready(query, wanted + aside)?;
            let ids = self.fetch_listed(listed)?;
            // What was found unreadable just now took the place of others.
            if self.memory.aside.count() == aside {
                break ids;
            }
        };
        let mut found: Vec<_> = ids
            .iter()
            .chain(&changed)
            .filter_map(|id| self.runs.get(id))
            .filter(|open| query.matches(&open.run.head))
            .map(|open| (open.run.head.rank(), open.run.head.id))
            .collect();
        found.sort_unstable();
        found.dedup();
        Ok(found.into_iter().take(limit).map(|(_, id)| id).collect())
    }

    /// Runs whose stored due time has come, the earliest first, and when the next one is due.
    pub(crate) fn due(&mut self, limit: usize) -> Result<DueRuns, ServerError> {
        let aside = self.memory.aside.count();
        let listed = self.storage.due(self.now, limit + aside)?;
        let next = self.storage.next_due(self.now)?;
        let full = listed.len() >= limit + aside;
        let ids = self.fetch_listed(listed)?;
        // Going on has to lead somewhere: to runs that move on, or to unreadable ones that are left
        // aside from now on.
        let more = full && (!ids.is_empty() || self.memory.aside.count() > aside);
        let namespace = |id: &RunId| self.runs.get(id).map(|open| (open.run.head.namespace.clone(), *id));
        Ok(DueRuns { runs: ids.iter().filter_map(namespace).collect(), next, more })
    }

    /// Ends the planning.
    pub(super) fn finish(self) -> Result<(Timestamp, BTreeMap<RunId, OpenRun>, OpenSchedules), ServerError> {
        match self.broken {
            Some(error) => Err(error),
            None => Ok((self.now, self.runs, self.schedules)),
        }
    }
}

fn append(open: &mut OpenRun, entries: &[HistoryEntry]) -> Result<(), ServerError> {
    let run = &mut open.run;
    let continued = entries.iter().rposition(|entry| matches!(entry.entry, Entry::Continued { .. }));
    let entries = match continued {
        // What came before is not replayed any more. The pages of the last time go; those of this time
        // stay once more, for readers that are under way.
        Some(at) => {
            run.tail.clear();
            open.drop_pages_below = Some(run.head.first_page);
            run.head.first_page = run.pages;
            &entries[at..]
        }
        None => entries,
    };
    history::append(&mut run.tail, entries).map_err(|error| ServerError::Internal(error.to_string()))?;
    if run.tail.len() > TAIL_LIMIT {
        open.spilled.push(std::mem::take(&mut run.tail));
        run.pages += 1;
    }
    Ok(())
}
