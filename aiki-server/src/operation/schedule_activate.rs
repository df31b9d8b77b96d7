//! Activating a schedule.

use aiki_core::schedule::plan::{self, Activation, Known, NotActivated};
use aiki_core::schedule::{ActivateSchedule, ScheduleRecord};
use aiki_core::{InputHash, Name, Payload, ScheduleId, ServerError};
use aiki_schedule::Calendar;

use super::Operation;
use crate::lane::Desk;
use crate::storage::ScheduleKey;

pub(crate) struct ActivateScheduleOp {
    pub(crate) namespace: Name,
    pub(crate) request: ActivateSchedule,
    /// The request's spec, read.
    pub(crate) calendar: Calendar,
    /// The request's definition hashes.
    pub(crate) hashes: Vec<InputHash>,
}

impl Operation for ActivateScheduleOp {
    type Answer = ScheduleRecord;

    fn size(&self) -> usize {
        self.request.input.as_ref().map_or(0, |input: &Payload| input.as_str().len())
    }

    fn plan(&self, desk: &mut Desk<'_>) -> Result<ScheduleRecord, ServerError> {
        let Self { namespace, request, calendar, hashes } = self;
        let by_reference = match &request.reference {
            Some(reference) => desk.find_schedule(&ScheduleKey::Reference(namespace.clone(), reference.id.clone()))?,
            None => None,
        };
        let mut by_definition = Vec::new();
        for hash in hashes {
            by_definition.extend(desk.find_schedule(&ScheduleKey::Definition(namespace.clone(), hash.clone()))?);
        }
        let known = Known { by_reference: by_reference.as_ref(), by_definition: &by_definition };
        let hash = hashes.first().ok_or_else(|| ServerError::Internal("a schedule without a hash".into()))?;
        let id = match plan::activate(request, hashes, known).map_err(|refused| self.conflict(refused))? {
            Activation::Create => {
                let id = ScheduleId::from_bits(desk.next_id().to_bits());
                desk.create_schedule(plan::create(request, hash.clone(), id, namespace, calendar, desk.now()));
                id
            }
            Activation::Reuse(id) => {
                desk.edit_schedule(id, |record, now| plan::reuse(record, request, hash, calendar, now))?;
                id
            }
            Activation::Keep(id) => id,
        };
        desk.schedule(namespace, id).cloned()
    }
}

impl ActivateScheduleOp {
    fn conflict(&self, refused: NotActivated) -> ServerError {
        let reference = self.request.reference.as_ref().map(|reference| reference.id.as_str()).unwrap_or_default();
        match refused {
            NotActivated::Reference(schedule) => ServerError::ScheduleConflict {
                schedule,
                reason: format!(
                    "the reference id `{reference}` belongs to schedule {schedule}, which has another definition (timing, \
                     workflow version, input or options): use another id and deactivate that schedule, or ask for it as \
                     it is with ConflictPolicy::ReturnExisting"
                ),
            },
            NotActivated::Definition(schedule) => ServerError::ScheduleConflict {
                schedule,
                reason: format!(
                    "schedule {schedule} has the same definition (timing, workflow version, input and options) under \
                     another reference id: use that id or none, or change the definition"
                ),
            },
        }
    }
}
