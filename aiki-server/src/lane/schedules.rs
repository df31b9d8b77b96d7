//! The schedules on the desk, as earlier requests of the same batch left them.

use std::collections::{BTreeMap, HashSet};

use aiki_core::schedule::ScheduleRecord;
use aiki_core::{Name, RunId, ScheduleId, ServerError, Timestamp};

use super::Desk;
use crate::storage::{ReferenceKey, ScheduleKey, ScheduleWrite, StoredSchedule};

/// At most so many schedules that cannot be read or served are remembered.
const ASIDE_LIMIT: usize = 1_000;

/// A schedule on the desk.
pub(super) struct OpenSchedule {
    schedule: StoredSchedule,
    /// The version of the stored row, `None` before there is one.
    stored: Option<u64>,
    changed: bool,
}

#[derive(Default)]
pub(super) struct OpenSchedules(BTreeMap<ScheduleId, OpenSchedule>);

impl OpenSchedules {
    /// The rows to write.
    pub(super) fn writes(&self) -> Vec<ScheduleWrite<'_>> {
        let changed = self.0.values().filter(|open| open.changed);
        changed.map(|open| ScheduleWrite { schedule: &open.schedule, expected: open.stored }).collect()
    }

    /// When the first of those that were changed is due.
    pub(super) fn earliest_due(&self) -> Timestamp {
        let changed = self.0.values().filter(|open| open.changed);
        changed.filter_map(|open| open.schedule.record.due_at()).min().unwrap_or(Timestamp::MAX)
    }
}

/// Schedules that are left aside until the server starts again, so that they stop nobody else.
#[derive(Debug, Default)]
pub(super) struct SchedulesAside(HashSet<ScheduleId>);

/// What the timer has to do.
pub(crate) struct DueSchedules {
    pub(crate) schedules: Vec<ScheduleRecord>,
    pub(crate) next: Option<Timestamp>,
    /// Whether there may be more that are due by now.
    pub(crate) more: bool,
}

impl Desk<'_> {
    /// The schedule, whatever its namespace; `None` when there is none.
    fn bring(&mut self, id: ScheduleId) -> Result<Option<&mut OpenSchedule>, ServerError> {
        if !self.schedules.0.contains_key(&id)
            && let Some(schedule) = self.storage.reads().schedules().load(id)?
        {
            let stored = Some(schedule.version);
            self.schedules.0.insert(id, OpenSchedule { schedule, stored, changed: false });
        }
        Ok(self.schedules.0.get_mut(&id))
    }

    /// The schedule with this id.
    pub(crate) fn schedule(&mut self, namespace: &Name, id: ScheduleId) -> Result<&ScheduleRecord, ServerError> {
        let open = self.bring(id)?.filter(|open| open.schedule.record.namespace == *namespace);
        open.map(|open| &open.schedule.record).ok_or_else(|| ServerError::ScheduleNotFound(id.to_string()))
    }

    /// The schedule with this key.
    pub(crate) fn find_schedule(&mut self, key: &ScheduleKey) -> Result<Option<ScheduleRecord>, ServerError> {
        let found = self.schedules.0.values().find(|open| key.is_of(&open.schedule.record));
        if let Some(open) = found {
            return Ok(Some(open.schedule.record.clone()));
        }
        let Some(id) = self.storage.reads().schedules().find(key)? else { return Ok(None) };
        // The batch may have given it another key.
        let stands = self.bring(id)?.filter(|open| key.is_of(&open.schedule.record));
        Ok(stands.map(|open| open.schedule.record.clone()))
    }

    /// Lets a plan work on a schedule that is there. It answers whether it changed it.
    pub(crate) fn edit_schedule(
        &mut self,
        id: ScheduleId,
        plan: impl FnOnce(&mut ScheduleRecord, Timestamp) -> bool,
    ) -> Result<(), ServerError> {
        let now = self.now();
        let open = self.bring(id)?.ok_or_else(|| ServerError::ScheduleNotFound(id.to_string()))?;
        if plan(&mut open.schedule.record, now) && !std::mem::replace(&mut open.changed, true) {
            open.schedule.version += open.stored.map_or(0, |_| 1);
        }
        Ok(())
    }

    /// Puts a new schedule on the desk.
    pub(crate) fn create_schedule(&mut self, record: ScheduleRecord) {
        let (id, schedule) = (record.id, StoredSchedule { record, version: 1 });
        self.schedules.0.insert(id, OpenSchedule { schedule, stored: None, changed: true });
    }

    /// Schedules whose time has come, the earliest first, without those that were left aside, and when
    /// the next one is due.
    pub(crate) fn due_schedules(&mut self, limit: usize) -> Result<DueSchedules, ServerError> {
        let now = self.now();
        let aside = self.memory.schedules_aside.0.len();
        let listed = self.storage.reads().schedules().due(now, limit + aside)?;
        let next = self.storage.reads().schedules().next_due(now)?;
        let full = listed.len() >= limit + aside;
        let mut schedules = Vec::new();
        for id in listed {
            if self.memory.schedules_aside.0.contains(&id) {
                continue;
            }
            match self.bring(id) {
                Ok(open) => schedules.extend(open.map(|open| open.schedule.record.clone())),
                Err(ServerError::Internal(damage)) => self.leave_schedule_aside(id, &damage),
                Err(error) => return Err(error),
            }
        }
        // Going on has to lead somewhere.
        let more = full && (!schedules.is_empty() || self.memory.schedules_aside.0.len() > aside);
        Ok(DueSchedules { schedules, next, more })
    }

    /// Leaves a schedule aside and says so.
    pub(crate) fn leave_schedule_aside(&mut self, schedule: ScheduleId, reason: &str) {
        let aside = &mut self.memory.schedules_aside.0;
        if aside.len() < ASIDE_LIMIT {
            aside.insert(schedule);
        }
        tracing::error!(%schedule, reason, "a schedule cannot be served: it is left aside until the server starts again");
    }

    /// Whether the run is there and has not ended. One that cannot be read counts as ended.
    pub(crate) fn is_open(&mut self, namespace: &Name, run: RunId) -> Result<bool, ServerError> {
        match self.run(namespace, run) {
            Ok(run) => Ok(!run.head.state.is_terminal()),
            Err(ServerError::RunNotFound(_) | ServerError::Internal(_)) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// The run of this reference id, when somebody has it already.
    pub(crate) fn run_of(&mut self, record: &ScheduleRecord, reference_id: &str) -> Result<Option<RunId>, ServerError> {
        self.by_reference(&ReferenceKey::of(&record.namespace, &record.workflow, reference_id))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::sync::{Arc, Mutex};
    use std::time::Duration;

    use aiki_core::hash::input_hash;
    use aiki_core::name::WorkflowKey;
    use aiki_core::schedule::ActivateSchedule;
    use aiki_core::{Clock, Name, OverlapPolicy, Payload, ScheduleSpec, Timestamp};

    use super::super::double::{Double, lane_with};
    use super::super::{Lane, LaneHandle, Planned};
    use crate::operation::{ActivateScheduleOp, FireSchedules};
    use crate::storage::StorageError;
    use crate::timer::Timer;
    use crate::validate;

    #[derive(Default)]
    struct Hand(AtomicU64);

    impl Clock for Hand {
        fn now(&self) -> Timestamp {
            Timestamp::from_millis(self.0.load(Ordering::SeqCst))
        }
    }

    type Rows = Arc<Mutex<Vec<usize>>>;

    /// A lane that tells how many runs each commit wrote, and that fails while it is told to.
    fn counting(clock: &Arc<Hand>, fails: &Arc<Mutex<bool>>) -> (Lane, Rows) {
        let rows = Rows::default();
        let (own, fails) = (Arc::clone(&rows), Arc::clone(fails));
        let store = Double::new(move |runs| {
            if *fails.lock().unwrap() {
                return Err(StorageError::Full);
            }
            own.lock().unwrap().push(runs);
            Ok(())
        });
        (lane_with(store, Arc::clone(clock) as Arc<dyn Clock>), rows)
    }

    fn every_second(lane: &mut Lane, bytes: usize) {
        let input = format!("\"{}\"", "x".repeat(bytes));
        let spec = ScheduleSpec::every(Duration::from_secs(1)).overlap(OverlapPolicy::Allow);
        let hash = input_hash(Some(&input)).unwrap();
        let request = ActivateSchedule::new(WorkflowKey::user("w", "1"), spec, Payload::from_json(input).ok(), hash);
        let (calendar, hashes) = validate::schedule(&request, 5_000_000).unwrap();
        let mut activate = Planned::new(ActivateScheduleOp { namespace: Name::new("n"), request, calendar, hashes });
        lane.work(&mut [&mut activate]);
        activate.into_answer().unwrap();
    }

    /// Fires for as long as there is more.
    fn fire(lane: &mut Lane) {
        loop {
            let mut fired = Planned::new(FireSchedules);
            lane.work(&mut [&mut fired]);
            if !fired.into_answer().unwrap().more {
                return;
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_its_own_timers_keep_busy_serves_the_schedules_of_others_too() {
        let clock: Arc<dyn Clock> = Arc::new(aiki_runtime::VirtualClock::default());
        let rows = Rows::default();
        let own = Arc::clone(&rows);
        let store = Double::new(move |runs| {
            own.lock().unwrap().push(runs);
            Ok(())
        });
        // The timer of this lane is that of the server that is gone: nobody runs it.
        let mut lane = lane_with(store, Arc::clone(&clock));
        every_second(&mut lane, 1);
        let lane = LaneHandle::Inline(Arc::new(Mutex::new(Some(lane))));
        let timer = Arc::new(Timer::new(Some(Duration::from_secs(1))));
        tokio::spawn(Arc::clone(&timer).run(Arc::clone(&clock), lane));
        for _ in 0..25 {
            tokio::time::sleep(Duration::from_millis(200)).await;
            timer.arm(clock.now());
        }
        assert!(rows.lock().unwrap().iter().sum::<usize>() >= 4, "{rows:?}");
    }

    #[test]
    fn catching_up_takes_a_bounded_number_of_runs_per_commit() {
        let (clock, fails) = Default::default();
        let (mut lane, rows) = counting(&clock, &fails);
        every_second(&mut lane, 1);
        clock.0.store(250_000, Ordering::SeqCst);
        fire(&mut lane);
        assert_eq!(*rows.lock().unwrap(), [0, 100, 100, 50]);
    }

    #[test]
    fn catching_up_takes_a_bounded_number_of_bytes_per_commit() {
        let (clock, fails) = Default::default();
        let (mut lane, rows) = counting(&clock, &fails);
        every_second(&mut lane, 1_500_000);
        clock.0.store(5_000, Ordering::SeqCst);
        fire(&mut lane);
        assert_eq!(*rows.lock().unwrap(), [0, 2, 2, 1]);
    }

    #[test]
    fn a_commit_that_fails_leaves_its_occurrences_for_the_next() {
        let (clock, fails): (Arc<Hand>, Arc<Mutex<bool>>) = Default::default();
        let (mut lane, rows) = counting(&clock, &fails);
        every_second(&mut lane, 1);
        clock.0.store(3_000, Ordering::SeqCst);
        *fails.lock().unwrap() = true;
        let mut fired = Planned::new(FireSchedules);
        lane.work(&mut [&mut fired]);
        assert!(matches!(fired.into_answer(), Err(aiki_core::ServerError::Unavailable(_))));
        *fails.lock().unwrap() = false;
        fire(&mut lane);
        fire(&mut lane);
        assert_eq!(*rows.lock().unwrap(), [0, 3], "all three, once");
    }
}
