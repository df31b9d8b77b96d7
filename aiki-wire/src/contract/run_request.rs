//! Asking for runs, and what else is sent to them.

use std::num::NonZeroU64;

use aiki_core::Payload;
use aiki_core::name::{Name, Source, WorkflowKey};
use aiki_core::run::plan::EventMessage;
use aiki_core::run::status::RunStatus;
use serde_json::value::RawValue;

use super::common::Sort;
use super::request::request;
use crate::read::{At, Invalid, Read, Str1, read_list};

/// At most so many runs get an event in one call.
const MULTICAST: usize = aiki_core::server_client::MULTICAST_LIMIT;

request! {
    /// `workflowRun.getByReferenceIdV1`, and one of `multicastEventByReferenceV1`.
    RunReference {
        /// The workflow's name.
        need name: Str1 = "name",
        /// The workflow's version.
        need version: Str1 = "versionId",
        /// The caller's own id of the run.
        need reference: Str1 = "referenceId",
    }

    /// `workflowRun.listV1`.
    ListRuns {
        /// At most so many; 50 unless given.
        may limit: NonZeroU64 = "limit",
        /// Without the first ones.
        may offset: u64 = "offset",
        /// Only those that fit.
        may filters: RunFilters = "filters",
        /// By id, the newest first unless given.
        may sort: Sort = "sort",
    }

    /// Which runs are listed. Everything that is given has to fit.
    RunFilters {
        /// This one.
        may id: Str1 = "id",
        /// Those of this schedule.
        may schedule: Str1 = "scheduleId",
        /// Those in one of these; empty is any.
        may status: Vec<RunStatus> = "status",
        /// Those of this workflow.
        may workflow: WorkflowFilter = "workflow",
    }

    /// Runs of a workflow.
    WorkflowFilter {
        /// Its name.
        need name: Str1 = "name",
        /// Whose it is.
        need source: Source = "source",
        /// Of this version only.
        may version: Str1 = "versionId",
        /// With this reference id only.
        may reference: Str1 = "referenceId",
    }

    /// `workflowRun.listTransitionsV1`.
    ListTransitions {
        /// The run.
        need id: Str1 = "id",
        /// At most so many; 50 unless given.
        may limit: NonZeroU64 = "limit",
        /// Without the first ones.
        may offset: u64 = "offset",
        /// By id, the newest first unless given.
        may sort: Sort = "sort",
    }

    /// `workflowRun.sendEventV1`.
    SendEventV1 {
        /// The run.
        need id: Str1 = "id",
        /// The event's name.
        need event: Str1 = "eventName",
        /// What it carries.
        may data: Payload = "data",
        /// More about it.
        may options: EventOptions = "options",
    }

    /// More about an event.
    EventOptions {
        /// The sender's own id for it.
        may reference: EventReference = "reference",
    }

    /// The sender's own id for an event: a second event of the same name and id is left out.
    EventReference {
        /// The id.
        need id: Str1 = "id",
    }

    /// `workflowRun.multicastEventV1`.
    MulticastEvent {
        /// The runs.
        need ids: Few<Str1> = "ids",
        /// The event's name.
        need event: Str1 = "eventName",
        /// What it carries.
        may data: Payload = "data",
        /// More about it.
        may options: EventOptions = "options",
    }

    /// `workflowRun.multicastEventByReferenceV1`.
    MulticastByReference {
        /// The runs.
        need references: Few<RunReference> = "references",
        /// The event's name.
        need event: Str1 = "eventName",
        /// What it carries.
        may data: Payload = "data",
        /// More about it.
        may options: EventOptions = "options",
    }

    /// `workflowRun.listChildRunsV1`.
    ListChildRuns {
        /// The parent.
        need id: Str1 = "id",
        /// Those in one of these; empty is any.
        may status: Vec<RunStatus> = "childRunStatus",
    }

    /// `workflowRun.cancelByIdsV1`.
    CancelByIds {
        /// The runs.
        need ids: AtLeastOne<Str1> = "ids",
    }

    /// `workflowRun.claimReadyV1`.
    ClaimReadyV1 {
        /// The workflow versions that the worker serves.
        need workflows: AtLeastOne<ServedWorkflow> = "workflows",
        /// Its pools; none means runs without a pool.
        may pools: Vec<Str1> = "pools",
        /// At most so many runs.
        need limit: NonZeroU64 = "limit",
    }

    /// A workflow version that a worker serves.
    ServedWorkflow {
        /// Whose it is.
        need source: Source = "source",
        /// Its name.
        need name: Str1 = "name",
        /// Its version.
        need version: Str1 = "versionId",
    }

    /// `workflowRun.hasTerminatedV1`.
    HasTerminated {
        /// The run.
        need id: Str1 = "id",
        /// Has it ended behind this transition?
        need after: Str1 = "afterStateTransitionId",
    }
}

/// A list of one to [`MULTICAST_LIMIT`](aiki_core::server_client::MULTICAST_LIMIT) elements.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
#[serde(transparent)]
pub struct Few<T>(pub Vec<T>);

impl<T: Read> Read for Few<T> {
    fn read(raw: &RawValue, at: &At<'_>) -> Result<Self, Invalid> {
        read_list(raw, at, 1, MULTICAST).map(Self)
    }
}

/// A list that is not empty.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
#[serde(transparent)]
pub struct AtLeastOne<T>(pub Vec<T>);

impl<T: Read> Read for AtLeastOne<T> {
    fn read(raw: &RawValue, at: &At<'_>) -> Result<Self, Invalid> {
        read_list(raw, at, 1, crate::read::MAX_ITEMS).map(Self)
    }
}

impl RunReference {
    /// The workflow version.
    pub fn workflow(&self) -> WorkflowKey {
        WorkflowKey::user(&*self.name, &*self.version)
    }
}

impl From<ServedWorkflow> for WorkflowKey {
    fn from(served: ServedWorkflow) -> Self {
        Self { source: served.source, name: Name::from(served.name), version: Name::from(served.version) }
    }
}

/// The event that a call sends.
pub fn event(name: Str1, data: Option<Payload>, options: Option<EventOptions>) -> EventMessage {
    let reference = options.and_then(|options| options.reference);
    EventMessage { name: name.into(), data, reference_id: reference.map(|reference| reference.id.into()) }
}
