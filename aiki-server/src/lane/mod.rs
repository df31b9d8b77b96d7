//! The commit lane: the only way to change a run. Requests that queued while the last commit was
//! under way are planned one after the other, committed in one transaction and answered together.
//! There is no window in which it waits for more.

mod aside;
mod cache;
mod desk;
#[cfg(test)]
mod double;
mod follow_up;
mod handle;
mod queue;
mod schedules;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Instant;

use aiki_core::id::RunIdSource;
use aiki_core::{Clock, RunId, ServerError};
use aiki_runtime::Entropy;

use crate::effects::Effects;
use crate::measure;
use crate::operation::Operation;
use crate::panic::panic_text;
use crate::storage::{Storage, StorageError};
use desk::Memory;
pub(crate) use desk::{Desk, DueRuns, Edit};
pub(crate) use handle::LaneHandle;
pub(crate) use schedules::DueSchedules;

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
    memory: Memory,
    ids: RunIdSource,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    effects: Arc<Effects>,
    touched: Vec<RunId>,
}

impl Lane {
    /// A lane over a store. Ids of new runs and schedules go on behind the highest that is stored.
    pub(crate) fn new(
        mut storage: Box<dyn Storage>,
        clock: Arc<dyn Clock>,
        entropy: Arc<dyn Entropy>,
        effects: Arc<Effects>,
    ) -> Result<Self, StorageError> {
        let last_schedule = storage.schedules().last_id()?.map(|id| RunId::from_bits(id.to_bits()));
        let ids = storage.last_id()?.max(last_schedule).map_or_else(RunIdSource::default, RunIdSource::after);
        Ok(Self { storage, memory: Memory::default(), ids, clock, entropy, effects, touched: Vec::new() })
    }

    pub(crate) fn storage(&mut self) -> &mut dyn Storage {
        &mut *self.storage
    }

    /// Works on a batch. A panic in it is the answer to all of its requests, and the lane goes on.
    fn work(&mut self, jobs: &mut [&mut dyn Job]) {
        // What a panic leaves behind half done is thrown away; the store rolls its transaction back.
        let Err(panic) = catch_unwind(AssertUnwindSafe(|| self.work_through(jobs))) else { return };
        let reason = panic_text(&*panic);
        tracing::error!(reason, requests = jobs.len(), "a batch of requests panicked");
        self.memory = Memory::default();
        // Timers that the batch was to set are found in the store.
        self.effects.timer.look_again();
        let refusal = format!("a batch of requests panicked, look whether this one took effect: {reason}");
        jobs.iter_mut().for_each(|job| job.refuse(ServerError::Internal(refusal.clone())));
    }

    /// Gives the store time for upkeep. A panic in it is logged.
    fn maintain(&mut self, idle: bool) {
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| self.storage.maintain(idle))) {
            tracing::error!(reason = panic_text(&*panic), "the upkeep of the store panicked");
        }
    }

    /// When a batch cannot be committed as a whole, each of its requests is tried alone, so that a bad
    /// one does not fail the others.
    fn work_through(&mut self, jobs: &mut [&mut dyn Job]) {
        measure::batch(jobs.len());
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
            &mut self.memory,
            &mut self.ids,
            &*self.entropy,
            &mut self.touched,
        )?;
        jobs.iter_mut().for_each(|job| job.plan(&mut desk));
        let (now, runs, schedules) = desk.finish()?;
        let mut writes: Vec<_> = runs.values().filter_map(desk::OpenRun::write).collect();
        // What goes makes room for what comes.
        writes.sort_by_key(|write| !write.forget);
        let changed = schedules.writes();
        if !writes.is_empty() || !changed.is_empty() {
            let began = Instant::now();
            let committed = self.storage.commit(&writes, &changed);
            measure::commit(began.elapsed(), committed.is_ok());
            committed?;
        }
        self.effects.timer.arm_schedules(schedules.earliest_due());
        self.effects.emit(now, runs.values().filter_map(desk::OpenRun::change));
        runs.into_values().for_each(|open| self.memory.cache.put(open.run));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::double::{Double, lane};
    use super::*;
    use crate::operation::{Cancel, ClaimReadyRuns, Create, ReceiveEvent};
    use crate::storage::memory::MemoryStorage;
    use aiki_core::Name;
    use aiki_core::name::WorkflowKey;
    use aiki_core::run::plan::EventMessage;
    use aiki_core::server_client::{ClaimReady, SendEvent};
    use std::time::Duration;

    fn create(reference: &str) -> Planned<Create> {
        Planned::new(double::create(reference))
    }

    fn claim_ready(limit: usize) -> Planned<ClaimReadyRuns> {
        let (worker, workflows) = (Name::new("worker"), vec![WorkflowKey::user("w", "1")]);
        let request = ClaimReady { worker, workflows, pools: Vec::new(), limit, lease: Duration::from_secs(9) };
        Planned::new(ClaimReadyRuns { namespace: Name::new("n"), request, in_process: true, announcer: None })
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
        let stored = lane.storage().load(&[id]).unwrap().remove(0).unwrap().unwrap();
        assert_eq!((stored.version, stored.head.epoch), (1, 1));
    }

    #[test]
    fn an_event_that_was_refused_is_accepted_later_in_the_same_batch() {
        let mut lane = lane(MemoryStorage::default());
        let mut created = create("a");
        lane.work(&mut [&mut created]);
        let run = created.into_answer().unwrap().id;
        let send = |history_limit| {
            let event = EventMessage { name: "paid".into(), data: None, reference_id: Some("once".into()) };
            let (namespace, request) = (Name::new("n"), SendEvent { run, event });
            Planned::new(ReceiveEvent { namespace, request, history_limit, late: false })
        };
        let (mut refused, mut accepted, mut again) = (send(0), send(100), send(100));
        lane.work(&mut [&mut refused, &mut accepted, &mut again]);
        assert!(matches!(refused.into_answer(), Err(ServerError::Invalid(_))));
        assert_eq!((accepted.into_answer(), again.into_answer()), (Ok(()), Ok(())));
        let stored = lane.storage().load(&[run]).unwrap().remove(0).unwrap().unwrap();
        assert_eq!(stored.head.signals, 1);
    }

    #[test]
    fn a_batch_that_cannot_be_committed_is_tried_one_by_one() {
        let mut lane = lane(Double::new(|rows| {
            // Refuses transactions of more than a few rows.
            if rows > 2 { Err(StorageError::Full) } else { Ok(()) }
        }));
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
        let epochs: Vec<_> = stored.into_iter().map(|row| row.unwrap().unwrap().head.epoch).collect();
        assert_eq!(epochs, [0, 0], "nothing of the refused claim is left");
    }
}
