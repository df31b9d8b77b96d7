//! Starting the runs of schedules whose time has come. The runs and the schedule's advance are one
//! commit: an occurrence has its run and is done with, or neither.

use aiki_core::run::plan as run_plan;
use aiki_core::schedule::ScheduleRecord;
use aiki_core::schedule::plan::{self, OVERLAP_EXPLANATION, Previous};
use aiki_core::{RunId, ServerError, Timestamp};
use aiki_schedule::Calendar;

use super::{Operation, one_of_many};
use crate::lane::{Desk, DueSchedules, Edit};

/// At most so many schedules are looked at in one commit.
const SCHEDULES: usize = 100;
/// At most so many occurrences of one schedule have their run in one commit; the rest goes on in the next.
const OCCURRENCES: usize = 100;
/// A commit takes no further schedule once it has so many runs, or runs with so many bytes of input.
const RUNS: usize = 1_000;
const BYTES: usize = 4_000_000;

pub(crate) struct FireSchedules;

/// What was done.
pub(crate) struct Fired {
    /// Whether there may be more that are due by now.
    pub(crate) more: bool,
    /// When a schedule that was not looked at is due.
    pub(crate) next: Option<Timestamp>,
}

impl Operation for FireSchedules {
    type Answer = Fired;

    fn plan(&self, desk: &mut Desk<'_>) -> Result<Fired, ServerError> {
        let DueSchedules { schedules, next, mut more } = desk.due_schedules(SCHEDULES)?;
        let (mut runs, mut bytes) = (0, 0);
        for record in schedules {
            if runs >= RUNS || bytes >= BYTES {
                more = true;
                break;
            }
            match Calendar::new(&record.spec) {
                Ok(calendar) => {
                    let size = record.input.as_ref().map_or(0, |input| input.as_str().len());
                    let limit = (BYTES / size.max(1)).clamp(1, OCCURRENCES);
                    let (made, still_due) = fire(desk, record, &calendar, limit)?;
                    (runs, bytes, more) = (runs + made, bytes + made * size, more || still_due);
                }
                // It could be served once: this version's time zones or limits are others.
                Err(error) => desk.leave_schedule_aside(record.id, &error.to_string()),
            }
        }
        Ok(Fired { more, next })
    }
}

/// Fires one schedule, for at most `limit` occurrences; answers how many runs it has made and whether it is still due.
fn fire(
    desk: &mut Desk<'_>,
    mut record: ScheduleRecord,
    calendar: &Calendar,
    limit: usize,
) -> Result<(usize, bool), ServerError> {
    let (namespace, now) = (record.namespace.clone(), desk.now());
    let previous = match record.last_run {
        Some(run) => desk.is_open(&namespace, run)?.then_some(run),
        None => None,
    };
    let Some(fired) = plan::fire(&mut record, calendar, now, previous.is_some(), limit) else {
        return Ok((0, false));
    };
    if let (Previous::Cancelled, Some(run)) = (fired.previous, previous) {
        cancel(desk, &record, run)?;
    }
    for occurrence in &fired.occurrences {
        record.last_run = Some(start(desk, &mut record, *occurrence)?);
    }
    let still_due = record.due_at().is_some_and(|due| due <= now);
    desk.edit_schedule(record.id, |stored, _| {
        *stored = record;
        true
    })?;
    Ok((fired.occurrences.len(), still_due))
}

fn cancel(desk: &mut Desk<'_>, record: &ScheduleRecord, run: RunId) -> Result<(), ServerError> {
    let cancelled = desk.edit(&record.namespace, run, |head, now, entries| {
        match run_plan::cancel(head, Some(OVERLAP_EXPLANATION.into()), now, entries) {
            Ok(()) => Edit::Changed(()),
            Err(_) => Edit::Unchanged(()),
        }
    });
    one_of_many(run, cancelled).map(drop)
}

/// Makes the run of an occurrence. Where a caller has taken its reference id already, that run stands for it.
fn start(desk: &mut Desk<'_>, record: &mut ScheduleRecord, occurrence: Timestamp) -> Result<RunId, ServerError> {
    if let Some(run) = desk.run_of(record, &record.run_reference(occurrence))? {
        record.run_count -= 1;
        return Ok(run);
    }
    let mut entries = Vec::with_capacity(3);
    let (id, now) = (desk.next_id(), desk.now());
    let head = plan::create_run(record, occurrence, id, now, &mut entries);
    desk.create(head, &entries);
    Ok(id)
}
