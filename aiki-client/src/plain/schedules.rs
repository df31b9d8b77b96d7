//! Schedules.

use aiki_core::hash::input_hash;
use aiki_core::name::WorkflowKey;
use aiki_core::schedule::{
    ActivateSchedule, ScheduleFilter, ScheduleId, SchedulePage, ScheduleRecord, ScheduleStatus, Timing, definition_hash,
};
use aiki_core::{InputHash, Name, Payload, ServerClient, ServerError};
use aiki_wire::contract::schedule::{
    ActivateV1, Activated, ByReference, CountedSchedule, ListSchedules, ScheduleFilters, ScheduleList,
    ScheduledWorkflow,
};
use aiki_wire::error::ErrorCode;
use aiki_wire::read::Str1;

use super::Plain;
use super::calls::Id;
use super::workflows::page;
use crate::http::{Failure, GaveUp, Repeat};

/// So many schedules of a workflow are looked through for one with a given definition.
const LOOKED_THROUGH: usize = 10_000;
const PAGE: usize = 1_000;

impl Plain {
    pub(super) async fn activate(&self, request: ActivateSchedule) -> Result<ScheduleRecord, ServerError> {
        check(&request.spec.timing)?;
        let Some(call) = ActivateV1::of(request.clone()) else {
            let text = "a schedule needs the name and the version of a workflow, and the hash of the input";
            return Err(ServerError::Invalid(text.into()));
        };
        match self.post::<Activated>("schedule/activateV1", &call, Repeat::Safe).await {
            Ok(Activated { schedule }) => {
                let counted = self.counted(schedule.id, "schedule/getByIdV1").await?;
                self.schedule(counted, Some(&request)).await
            }
            Err(GaveUp { failure: Failure::Coded(ErrorCode::ScheduleConflict, told), .. }) => {
                Err(self.schedule_conflict(&request, told).await?)
            }
            Err(gave_up) => Err(self.http.shared.error(gave_up)),
        }
    }

    pub(super) async fn schedule_by_id(&self, schedule: ScheduleId) -> Result<ScheduleRecord, ServerError> {
        let counted = self.counted(schedule, "schedule/getByIdV1").await?;
        self.schedule(counted, None).await
    }

    pub(super) async fn schedule_by_reference(&self, id: &str) -> Result<ScheduleRecord, ServerError> {
        let not_found = || ServerError::ScheduleNotFound(id.to_owned());
        let call = ByReference { reference: Str1::new(id).ok_or_else(not_found)? };
        match self.post::<CountedSchedule>("schedule/getByReferenceIdV1", &call, Repeat::Safe).await {
            Ok(counted) => self.schedule(counted, None).await,
            Err(GaveUp { failure: Failure::Coded(ErrorCode::NotFound, _), .. }) => Err(not_found()),
            Err(gave_up) => Err(self.http.shared.error(gave_up)),
        }
    }

    pub(super) async fn schedules(
        &self,
        filter: ScheduleFilter,
        limit: usize,
        offset: usize,
    ) -> Result<SchedulePage, ServerError> {
        let limit = page(limit)?;
        let Some(filters) = filters(filter) else { return Ok(SchedulePage { schedules: Vec::new(), total: 0 }) };
        let call = ListSchedules { limit, offset: Some(offset as u64), filters: Some(filters) };
        let found = self.post::<ScheduleList>("schedule/listV1", &call, Repeat::Safe).await;
        let ScheduleList { schedules: found, total } = found.map_err(|gave_up| self.http.shared.error(gave_up))?;
        let mut schedules = Vec::with_capacity(found.len());
        for counted in found {
            schedules.push(self.schedule(counted, None).await?);
        }
        Ok(SchedulePage { schedules, total })
    }

    pub(super) async fn set_schedule(
        &self,
        schedule: ScheduleId,
        status: ScheduleStatus,
    ) -> Result<ScheduleRecord, ServerError> {
        let procedure = match status {
            ScheduleStatus::Active => "schedule/resumeV1",
            ScheduleStatus::Paused => "schedule/pauseV1",
            ScheduleStatus::Inactive => "schedule/deactivateV1",
        };
        self.counted::<Option<()>>(schedule, procedure).await?;
        self.schedule_by_id(schedule).await
    }

    async fn counted<A: serde::de::DeserializeOwned + Send + 'static>(
        &self,
        schedule: ScheduleId,
        procedure: &'static str,
    ) -> Result<A, ServerError> {
        let id = schedule.to_string();
        self.post(procedure, &Id { id: id.clone() }, Repeat::Safe).await.map_err(|gave_up| match gave_up.failure {
            Failure::Coded(ErrorCode::NotFound, _) => ServerError::ScheduleNotFound(id),
            _ => self.http.shared.error(gave_up),
        })
    }

    /// The record. The contract tells no hashes: they are those of `asked`, if that is what was found, or of our own
    /// hasher. The latest run is found under its reference id.
    async fn schedule(
        &self,
        counted: CountedSchedule,
        asked: Option<&ActivateSchedule>,
    ) -> Result<ScheduleRecord, ServerError> {
        let CountedSchedule { schedule: found, run_count } = counted;
        let workflow = WorkflowKey {
            source: found.workflow_source,
            name: found.workflow_name,
            version: found.workflow_version_id,
        };
        let options = found.workflow_run_options;
        // No input is told as null.
        let input = found.workflow_run_input.filter(|input| input.as_str() != "null");
        let hash = hashed(input.as_ref())?;
        let (input, input_hash) = match asked {
            Some(asked)
                if (&asked.workflow, &asked.spec, &asked.options) == (&workflow, &found.spec, &options)
                    && same_input(asked, &hash) =>
            {
                (asked.input.clone(), asked.input_hash.clone())
            }
            _ => (input, hash),
        };
        let definition_hash = definition_hash(&workflow, &found.spec, &input_hash, options.as_ref());
        let mut record = ScheduleRecord {
            id: found.id,
            namespace: self.namespace().clone(),
            workflow,
            status: found.status,
            spec: found.spec,
            input,
            input_hash,
            definition_hash: definition_hash.map_err(|error| ServerError::Internal(error.to_string()))?,
            reference_id: found.reference_id,
            options,
            created_at: found.created_at,
            updated_at: found.updated_at,
            last_occurrence: found.last_occurrence,
            next_run_at: found.next_run_at,
            last_run: None,
            run_count,
        };
        if let Some(last) = record.last_occurrence {
            record.last_run = self.run_under(&record.workflow, &record.run_reference(last)).await?;
        }
        Ok(record)
    }

    /// The schedule that stands in the way, which the contract does not name.
    async fn schedule_conflict(&self, request: &ActivateSchedule, told: String) -> Result<ServerError, ServerError> {
        if let Some(reference) = &request.reference {
            match self.schedule_by_reference(&reference.id).await {
                Ok(ScheduleRecord { id: schedule, .. }) => {
                    let reason = format!(
                        "the reference id `{}` belongs to schedule {schedule}, which has another definition (timing, \
                         workflow version, input or options): use another id and deactivate that schedule, or ask for \
                         it as it is with ConflictPolicy::ReturnExisting",
                        reference.id
                    );
                    return Ok(ServerError::ScheduleConflict { schedule, reason });
                }
                Err(ServerError::ScheduleNotFound(_)) => {}
                Err(error) => return Err(error),
            }
        }
        let WorkflowKey { name, version, .. } = request.workflow.clone();
        let of = ScheduleFilter { workflows: vec![(name, Some(version))], ..ScheduleFilter::default() };
        for offset in (0..LOOKED_THROUGH).step_by(PAGE) {
            let page = self.schedules(of.clone(), PAGE, offset).await?;
            let same = page.schedules.iter().find(|record| {
                (&record.spec, &record.options) == (&request.spec, &request.options)
                    && same_input(request, &record.input_hash)
            });
            if let Some(ScheduleRecord { id: schedule, .. }) = same {
                let (schedule, reason) = (
                    *schedule,
                    format!(
                        "schedule {schedule} has the same definition (timing, workflow version, input and options) \
                         under another reference id: use that id or none, or change the definition"
                    ),
                );
                return Ok(ServerError::ScheduleConflict { schedule, reason });
            }
            if page.schedules.len() < PAGE {
                break;
            }
        }
        Ok(ServerError::Invalid(told))
    }
}

/// What cannot be a spec, which servers of the contract tell as a fault of their own or not at all.
fn check(timing: &Timing) -> Result<(), ServerError> {
    match timing {
        Timing::Interval { every_ms: 0 } => {
            Err(ServerError::Invalid("the interval is 0: give a millisecond or more".into()))
        }
        Timing::Cron { expression, .. } if expression.trim().is_empty() => {
            Err(ServerError::Invalid("the cron expression is empty: give five fields, or six with seconds".into()))
        }
        _ => Ok(()),
    }
}

fn hashed(input: Option<&Payload>) -> Result<InputHash, ServerError> {
    input_hash(input.map(Payload::as_str)).map_err(|error| ServerError::Internal(error.to_string()))
}

/// Whether an input with this hash is the one that was asked for. Servers may write it otherwise than it was sent.
fn same_input(asked: &ActivateSchedule, hash: &InputHash) -> bool {
    let input = asked.input.as_ref().filter(|input| input.as_str() != "null");
    hashed(input).is_ok_and(|own| own == *hash)
}

/// `None` when nothing can fit.
fn filters(filter: ScheduleFilter) -> Option<ScheduleFilters> {
    let ScheduleFilter { statuses, id, reference_id, workflows } = filter;
    let reference = match reference_id {
        Some(id) => Some(Str1::new(id)?),
        None => None,
    };
    let any = workflows.is_empty();
    let own = |(name, version): (Name, Option<Name>)| {
        let version = version.map(|version| Str1::new(version.as_str()).ok_or(())).transpose().ok()?;
        let source = aiki_core::name::Source::User;
        Some(ScheduledWorkflow { name: Str1::new(name.as_str())?, version, source })
    };
    let workflows: Vec<_> = workflows.into_iter().filter_map(own).collect();
    (any || !workflows.is_empty()).then(|| ScheduleFilters {
        status: Some(statuses).filter(|statuses| !statuses.is_empty()),
        id: id.and_then(|id| Str1::new(id.to_string())),
        reference,
        workflows: Some(workflows).filter(|workflows| !workflows.is_empty()),
    })
}
