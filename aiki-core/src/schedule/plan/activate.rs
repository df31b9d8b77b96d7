//! Judging a request for a schedule.

use crate::hash::InputHash;
use crate::id::ScheduleId;
use crate::name::Name;
use crate::run::ConflictPolicy;
use crate::schedule::plan::next_run_at;
use crate::schedule::{ActivateSchedule, Occurrences, ScheduleRecord, ScheduleStatus};
use crate::time::Timestamp;

/// The schedules that a request is about, as they stand.
#[derive(Clone, Copy, Debug, Default)]
pub struct Known<'a> {
    /// The one with the reference id of the request.
    pub by_reference: Option<&'a ScheduleRecord>,
    /// Those with one of the definition hashes, in the order of the hashes.
    pub by_definition: &'a [ScheduleRecord],
}

/// What a request amounts to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    /// There is none like it: make one.
    Create,
    /// This one is meant: see that it is active. It takes the request's reference id if it has none.
    Reuse(ScheduleId),
    /// This one has the reference id and another definition; the caller wants it as it is.
    Keep(ScheduleId),
}

/// Why a request is refused: another schedule has what it asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotActivated {
    /// The reference id belongs to this schedule, which has another definition.
    Reference(ScheduleId),
    /// The definition belongs to this schedule, which has another reference id.
    Definition(ScheduleId),
}

/// Decides what a request amounts to. `hashes` are those of
/// [`definition_hashes`](ActivateSchedule::definition_hashes).
///
/// # Errors
/// [`NotActivated`] when another schedule has the reference id or the definition.
pub fn activate(
    request: &ActivateSchedule,
    hashes: &[InputHash],
    known: Known<'_>,
) -> Result<Activation, NotActivated> {
    // What is made or reused ends up with the first hash: nobody else may have it.
    let taken = |by: Option<ScheduleId>| {
        let owner = known.by_definition.iter().find(|record| Some(&record.definition_hash) == hashes.first());
        match owner.filter(|owner| Some(owner.id) != by) {
            Some(owner) => Err(NotActivated::Definition(owner.id)),
            None => Ok(()),
        }
    };
    let reuse = |id| taken(Some(id)).map(|()| Activation::Reuse(id));
    let Some(reference) = &request.reference else {
        return known.by_definition.first().map_or(Ok(Activation::Create), |record| reuse(record.id));
    };
    if let Some(record) = known.by_reference {
        return match reference.conflict_policy {
            _ if hashes.contains(&record.definition_hash) => reuse(record.id),
            ConflictPolicy::ReturnExisting => Ok(Activation::Keep(record.id)),
            ConflictPolicy::Error => Err(NotActivated::Reference(record.id)),
        };
    }
    match known.by_definition.iter().find(|record| record.reference_id.is_none()) {
        Some(record) => reuse(record.id),
        None => taken(None).map(|()| Activation::Create),
    }
}

/// Makes a schedule.
pub fn create(
    request: &ActivateSchedule,
    definition_hash: InputHash,
    id: ScheduleId,
    namespace: &Name,
    occurrences: &dyn Occurrences,
    now: Timestamp,
) -> ScheduleRecord {
    ScheduleRecord {
        id,
        namespace: namespace.clone(),
        workflow: request.workflow.clone(),
        status: ScheduleStatus::Active,
        spec: request.spec.clone(),
        input: request.input.clone(),
        input_hash: request.input_hash.clone(),
        definition_hash,
        reference_id: request.reference.as_ref().map(|reference| reference.id.clone()),
        options: request.options.clone(),
        created_at: now,
        updated_at: now,
        last_occurrence: None,
        next_run_at: next_run_at(occurrences, now),
        last_run: None,
        run_count: 0,
    }
}

/// Brings a schedule back into service for a request that means it; answers whether anything changed. Its anchor
/// stays, so `allow` catches up with what was missed.
pub fn reuse(
    record: &mut ScheduleRecord,
    request: &ActivateSchedule,
    definition_hash: &InputHash,
    occurrences: &dyn Occurrences,
    now: Timestamp,
) -> bool {
    let wanted = request.reference.as_ref().map(|reference| &reference.id);
    let adopts = record.reference_id.is_none() && wanted.is_some();
    let starts = adopts || record.status != ScheduleStatus::Active;
    let rehashed = record.definition_hash != *definition_hash;
    if adopts {
        record.reference_id = wanted.cloned();
    }
    if starts {
        record.status = ScheduleStatus::Active;
        record.next_run_at = next_run_at(occurrences, now);
    }
    if rehashed {
        record.definition_hash = definition_hash.clone();
        record.input_hash = request.input_hash.clone();
    }
    let changed = starts || rehashed;
    if changed {
        record.updated_at = now;
    }
    changed
}
