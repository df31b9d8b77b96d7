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
mod places;
mod queue;
mod schedules;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use aiki_core::id::RunIdSource;
use aiki_core::{Clock, RunId, ServerError};
use aiki_runtime::Entropy;

use crate::effects::Effects;
use crate::measure;
use crate::notice;
use crate::operation::Operation;
use crate::panic::panic_text;
use crate::storage::{ReferenceKey, Storage, StorageError};
use desk::Memory;
pub(crate) use desk::{Desk, DueRuns, Edit};
pub(crate) use handle::LaneHandle;
pub(crate) use places::holds_place;
pub(crate) use schedules::DueSchedules;

/// A history tail longer than this becomes a page of its own, in bytes.
const TAIL_LIMIT: usize = 2 * 1024;

/// A batch that met others' changes is planned as a whole this many times more, then request by request.
const ROUNDS_TOGETHER: u32 = 3;
/// A request that meets them alone is planned this many times more: of two servers that change the same run, one gets
/// on each time.
const ROUNDS_ALONE: u32 = 30;
/// A request whose rows somebody keeps locked is planned this many times more: the others wait behind it.
const ROUNDS_LOCKED: u32 = 1;
/// The longest pause between them; doubles.
const FIRST_PAUSE: Duration = Duration::from_micros(500);
const LONGEST_PAUSE: Duration = Duration::from_millis(20);

/// One request in the lane, whatever it is.
pub(crate) trait Job: Send {
    /// Names the runs it is going to look at, so that all are loaded in one go.
    fn touches(&self, runs: &mut Vec<RunId>);
    /// Names the reference ids that it is going to look up.
    fn references(&self, keys: &mut Vec<ReferenceKey>);
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
    wanted: Vec<ReferenceKey>,
}

impl Lane {
    /// A lane over a store. Ids of new runs and schedules go on behind the highest that is stored.
    pub(crate) fn new(
        mut storage: Box<dyn Storage>,
        clock: Arc<dyn Clock>,
        entropy: Arc<dyn Entropy>,
        effects: Arc<Effects>,
    ) -> Result<Self, StorageError> {
        let last_schedule = storage.reads().schedules().last_id()?.map(|id| RunId::from_bits(id.to_bits()));
        let ids = storage.last_id()?.max(last_schedule).map_or_else(RunIdSource::default, RunIdSource::after);
        Ok(Self {
            storage,
            memory: Memory::default(),
            ids,
            clock,
            entropy,
            effects,
            touched: Vec::new(),
            wanted: Vec::new(),
        })
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
        let _ = self.storage.settle();
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
    /// one does not fail the others. What others changed meanwhile is planned again.
    fn work_through(&mut self, jobs: &mut [&mut dyn Job]) {
        measure::batch(jobs.len());
        let Err(mut setback) = self.attempt(jobs) else { return };
        for round in 0..ROUNDS_TOGETHER {
            if !setback.is_contended() {
                break;
            }
            self.pause(round);
            match self.attempt(jobs) {
                Ok(()) => return,
                Err(again) => setback = again,
            }
        }
        if setback.is_final() || (jobs.len() == 1 && setback.is_its_own()) {
            let error = ServerError::from(setback);
            jobs.iter_mut().for_each(|job| job.refuse(error.clone()));
            return;
        }
        for at in 0..jobs.len() {
            let Err(setback) = self.attempt_alone(&mut *jobs[at]) else { continue };
            // The store is away: the others would only wait for the same answer.
            let rest = setback.is_final().then(StorageError::away);
            jobs[at].refuse(setback.into());
            if let Some(error) = rest {
                jobs[at + 1..].iter_mut().for_each(|job| job.refuse(error.clone().into()));
                return;
            }
        }
    }

    fn attempt_alone(&mut self, job: &mut dyn Job) -> Result<(), Setback> {
        let mut round = 0;
        loop {
            match self.attempt(&mut [&mut *job]) {
                // Whoever was first got on: this is somebody else's progress, and the next round is likely ours.
                Err(setback) if setback.is_contended() && round < ROUNDS_ALONE => self.pause(round),
                Err(Setback::Store(StorageError::Locked)) if round < ROUNDS_LOCKED => {}
                done => return done,
            }
            round += 1;
        }
    }

    /// Lets the other servers go first for a moment, of a random length that grows.
    fn pause(&self, round: u32) {
        let longest = FIRST_PAUSE.saturating_mul(1 << round.min(8)).min(LONGEST_PAUSE);
        let longest = u64::try_from(longest.as_micros()).unwrap_or(u64::MAX).max(1);
        std::thread::sleep(Duration::from_micros(self.entropy.next_u64() % longest));
    }

    fn attempt(&mut self, jobs: &mut [&mut dyn Job]) -> Result<(), Setback> {
        let done = self.plan_and_commit(jobs);
        if done.is_err() {
            // What the questions of the batch have locked is free again. A store that fails has let go by itself.
            let _ = self.storage.settle();
        }
        done
    }

    fn plan_and_commit(&mut self, jobs: &mut [&mut dyn Job]) -> Result<(), Setback> {
        self.touched.clear();
        self.wanted.clear();
        jobs.iter().for_each(|job| job.touches(&mut self.touched));
        jobs.iter().for_each(|job| job.references(&mut self.wanted));
        let mut desk = Desk::new(
            self.clock.now(),
            &mut *self.storage,
            &mut self.memory,
            &mut self.ids,
            &*self.entropy,
            &mut self.touched,
            &mut self.wanted,
        )
        .map_err(Setback::Store)?;
        jobs.iter_mut().for_each(|job| job.plan(&mut desk));
        let (now, runs, schedules) = desk.finish().map_err(Setback::Plan)?;
        let mut writes: Vec<_> = runs.values().filter_map(desk::OpenRun::write).collect();
        // What goes makes room for what comes.
        writes.sort_by_key(|write| !write.forget);
        let changed = schedules.writes();
        let shared = self.storage.is_shared();
        if writes.is_empty() && changed.is_empty() {
            self.storage.settle().map_err(Setback::Store)?;
        } else {
            let changes = runs.values().filter_map(desk::OpenRun::change);
            if let Some(note) = shared.then(|| notice::write(self.effects.server, changes)).flatten() {
                self.storage.tell_others(note);
            }
            let began = Instant::now();
            let committed = self.storage.commit(&writes, &changed);
            measure::commit(began.elapsed(), committed.is_ok());
            if let Err(StorageError::Unknown(_)) = committed {
                self.effects.doubt.arise();
            }
            committed.map_err(Setback::Store)?;
        }
        self.effects.timer.arm_schedules(schedules.earliest_due());
        self.effects.emit(now, runs.values().filter_map(desk::OpenRun::change));
        if !shared {
            runs.into_values().for_each(|open| self.memory.cache.put(open.run));
        }
        Ok(())
    }
}

/// Why a batch was not committed.
enum Setback {
    Store(StorageError),
    Plan(ServerError),
}

impl Setback {
    /// Whether others changed the same rows: planned again on what is there now, it may well be committed.
    fn is_contended(&self) -> bool {
        matches!(self, Setback::Store(StorageError::Contended))
    }

    /// Whether trying again is out of the question: nobody answers, or it is not known what was stored.
    fn is_final(&self) -> bool {
        matches!(self, Setback::Store(StorageError::Unreachable(_) | StorageError::Unknown(_)))
    }

    /// Whether the request itself is at fault.
    fn is_its_own(&self) -> bool {
        match self {
            Setback::Store(error) => matches!(error, StorageError::Damaged(_) | StorageError::Unfit(_)),
            Setback::Plan(error) => !matches!(error, ServerError::Unavailable(_)),
        }
    }
}

impl From<Setback> for ServerError {
    fn from(setback: Setback) -> Self {
        match setback {
            Setback::Store(error) => error.into(),
            Setback::Plan(error) => error,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::double::{Double, lane};
    use super::*;
    use crate::operation::{Cancel, ClaimReadyRuns, Create, ReceiveEvent, Retire};
    use crate::storage::memory::MemoryStorage;
    use aiki_core::name::WorkflowKey;
    #[cfg(feature = "http")]
    use aiki_core::run::head::ConcurrencyKey;
    use aiki_core::run::plan::EventMessage;
    use aiki_core::server_client::{ClaimReady, SendEvent};
    use aiki_core::{Name, Timestamp};

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
        let stored = lane.storage().reads().load(&[id]).unwrap().remove(0).unwrap().unwrap();
        assert_eq!((stored.version, stored.head.epoch), (1, 1));
    }

    #[cfg(feature = "http")]
    #[test]
    fn a_run_that_has_to_wait_keeps_no_other_from_a_plain_worker() {
        use crate::operation::ClaimPlainly;
        let mut lane = lane(MemoryStorage::default());
        let limited = |reference: &str| {
            let mut create = double::create(reference);
            create.request.concurrency = Some(ConcurrencyKey { key: "k".into(), limit: 1 });
            Planned::new(create)
        };
        let (mut working, mut first) = (limited("working"), claim_ready(1));
        lane.work(&mut [&mut working, &mut first]);
        assert_eq!(first.into_answer().unwrap().len(), 1);
        let (mut waits, mut free) = (limited("waits"), create("free"));
        let mut told = Planned::new(ClaimPlainly {
            namespace: Name::new("n"),
            workflows: vec![WorkflowKey::user("w", "1")],
            pools: Vec::new(),
            limit: 1,
            lease: Duration::from_secs(9),
            announcer: None,
        });
        lane.work(&mut [&mut waits, &mut free, &mut told]);
        assert_eq!(told.into_answer(), Ok(vec![free.into_answer().unwrap().id]));
    }

    #[test]
    fn a_reference_id_is_free_behind_the_run_that_goes_in_the_same_batch_also_on_a_shared_store() {
        let mut lane = lane(Double::new(|_| Ok(())).shared());
        let mut first = create("a");
        lane.work(&mut [&mut first]);
        let run = first.into_answer().unwrap().id;
        let cancel = Cancel { namespace: Name::new("n"), run, explanation: None };
        lane.work(&mut [&mut Planned::new(cancel)]);
        let retire = Retire { runs: vec![(Name::new("n"), run)], until: Timestamp::MAX };
        let (mut retired, mut again) = (Planned::new(retire), create("a"));
        lane.work(&mut [&mut retired, &mut again]);
        assert_eq!(retired.into_answer(), Ok(1));
        let again = again.into_answer().unwrap();
        assert!(again.id != run && !again.existed, "{again:?}");
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
            Planned::new(ReceiveEvent { namespace, request, key: None, history_limit, late: false })
        };
        let (mut refused, mut accepted, mut again) = (send(0), send(100), send(100));
        lane.work(&mut [&mut refused, &mut accepted, &mut again]);
        assert!(matches!(refused.into_answer(), Err(ServerError::Invalid(_))));
        assert_eq!((accepted.into_answer(), again.into_answer()), (Ok(()), Ok(())));
        let stored = lane.storage().reads().load(&[run]).unwrap().remove(0).unwrap().unwrap();
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
        let stored = lane.storage().reads().load(&ids[1..]).unwrap();
        let epochs: Vec<_> = stored.into_iter().map(|row| row.unwrap().unwrap().head.epoch).collect();
        assert_eq!(epochs, [0, 0], "nothing of the refused claim is left");
    }
}
