//! What workers and clients of the plain contract ask for.

use std::sync::Arc;
use std::time::Duration;

use aiki_core::name::WorkflowKey;
use aiki_core::run::plan::plain::{self, Awaited, PlainError, PlainState, TransitionedRun, TransitionedTask};
use aiki_core::run::plan::plain::{TransitionRun, TransitionTask};
use aiki_core::run::plan::{self, CreateRun, ReferenceDecision};
use aiki_core::{Name, RunId, ServerError};

use super::claim::is_held_back;
use super::{Operation, one_of_many};
use crate::announcer::Announcer;
use crate::lane::{Desk, Edit};
use crate::storage::{ReadyQuery, ReferenceKey};

fn refusal(run: RunId, error: PlainError) -> ServerError {
    match error {
        PlainError::Revision { expected, actual } => ServerError::RevisionConflict { run, expected, actual },
        PlainError::TaskNotFound(task) => ServerError::TaskNotFound(task),
        PlainError::Illegal(_) | PlainError::IllegalTask(_) => ServerError::IllegalTransition(error.to_string()),
    }
}

/// Moves a run.
pub(crate) struct MoveRun {
    pub(crate) namespace: Name,
    pub(crate) request: TransitionRun,
    /// Events that the caller can have seen.
    pub(crate) seen_events: Option<u32>,
    pub(crate) lease: Duration,
}

impl Operation for MoveRun {
    type Answer = TransitionedRun;

    fn touches(&self, runs: &mut Vec<RunId>) {
        runs.push(self.request.run);
        if let PlainState::AwaitingChild { child, .. } = &self.request.to {
            runs.push(*child);
        }
    }

    fn plan(&self, desk: &mut Desk<'_>) -> Result<TransitionedRun, ServerError> {
        let (namespace, run) = (&self.namespace, self.request.run);
        desk.run(namespace, run)?;
        let awaited = self.awaited(desk)?;
        let planned = desk.edit(namespace, run, |head, now, entries| {
            let moved = plain::transition_run(head, &self.request, awaited, self.seen_events, self.lease, now, entries);
            match moved {
                Ok(moved) => Edit::Changed(Ok(moved)),
                Err(error) => Edit::Unchanged(Err(error)),
            }
        })?;
        let moved = planned.map_err(|error| refusal(run, error))?;
        if let (PlainState::AwaitingChild { child, .. }, Some(Awaited { child: u32::MAX, ended: false })) =
            (&self.request.to, awaited)
        {
            let waiting = desk.run(namespace, run)?.head.clone();
            desk.edit(namespace, *child, |head, _, _| {
                plan::listen(head, &waiting, u32::MAX);
                Edit::Changed(())
            })?;
        }
        Ok(moved)
    }
}

impl MoveRun {
    fn awaited(&self, desk: &mut Desk<'_>) -> Result<Option<Awaited>, ServerError> {
        let PlainState::AwaitingChild { child, .. } = &self.request.to else { return Ok(None) };
        let waiting = desk.run(&self.namespace, self.request.run)?.head.clone();
        let head = &desk.run(&self.namespace, *child)?.head;
        let place = plain::place_of(self.request.run, head);
        let ended = head.state.is_terminal();
        if place == u32::MAX && !ended && plan::is_crowded(head, &waiting) {
            return Err(ServerError::Invalid(plan::crowded(*child).message));
        }
        Ok(Some(Awaited { child: place, ended }))
    }
}

/// Moves a task.
pub(crate) struct MoveTask {
    pub(crate) namespace: Name,
    pub(crate) request: TransitionTask,
}

impl Operation for MoveTask {
    type Answer = TransitionedTask;

    fn touches(&self, runs: &mut Vec<RunId>) {
        runs.push(self.request.run);
    }

    fn plan(&self, desk: &mut Desk<'_>) -> Result<TransitionedTask, ServerError> {
        let run = self.request.run;
        let planned = desk.edit(&self.namespace, run, |head, now, entries| {
            match plain::transition_task(head, &self.request, now, entries) {
                Ok(moved) => Edit::Changed(Ok(moved)),
                Err(error) => Edit::Unchanged(Err(error)),
            }
        })?;
        planned.map_err(|error| refusal(run, error))
    }
}

/// Starts a run as the child of another.
pub(crate) struct CreateChild {
    pub(crate) namespace: Name,
    pub(crate) request: CreateRun,
    pub(crate) parent: RunId,
    pub(crate) expected_revision: u64,
}

impl Operation for CreateChild {
    type Answer = RunId;

    fn touches(&self, runs: &mut Vec<RunId>) {
        runs.push(self.parent);
    }

    fn plan(&self, desk: &mut Desk<'_>) -> Result<RunId, ServerError> {
        let (namespace, request) = (&self.namespace, &self.request);
        let parent = &desk.run(namespace, self.parent)?.head;
        plain::judge_parent(parent, self.expected_revision).map_err(|error| refusal(self.parent, error))?;
        if let Some(reference) = &request.reference {
            let (workflow, reference_id) = (request.workflow.clone(), reference.id.clone());
            let key = ReferenceKey { namespace: namespace.clone(), workflow, reference_id };
            if let Some(run) = desk.by_reference(&key)? {
                return match plan::judge_reference(&desk.run(namespace, run)?.head, request) {
                    ReferenceDecision::Existing => Ok(run),
                    ReferenceDecision::Conflict => {
                        Err(ServerError::ReferenceConflict { reference_id: key.reference_id, run })
                    }
                };
            }
        }
        let id = desk.next_id();
        let ordinal = desk.edit(namespace, self.parent, |head, now, entries| {
            Edit::Changed(plain::adopt_plainly(head, id, request, now, entries))
        })?;
        let mut entries = Vec::with_capacity(3);
        let mut head = plan::create(request, id, namespace, desk.now(), &mut entries);
        plan::adopt(&mut head, &desk.run(namespace, self.parent)?.head, ordinal);
        desk.create(head, &entries);
        Ok(id)
    }
}

/// Tells plain workers of ready runs.
pub(crate) struct ClaimPlainly {
    pub(crate) namespace: Name,
    pub(crate) workflows: Vec<WorkflowKey>,
    pub(crate) pools: Vec<Name>,
    pub(crate) limit: usize,
    pub(crate) lease: Duration,
    /// Who announces ready runs, if anybody does.
    pub(crate) announcer: Option<Arc<Announcer>>,
}

impl Operation for ClaimPlainly {
    type Answer = Vec<RunId>;

    fn plan(&self, desk: &mut Desk<'_>) -> Result<Vec<RunId>, ServerError> {
        let namespace = &self.namespace;
        let query = ReadyQuery { namespace, workflows: &self.workflows, pools: &self.pools };
        let (mut claimed, now) = (Vec::new(), desk.now());
        for run in desk.ready(&query, self.limit)? {
            let announced = self.announcer.as_ref().is_some_and(|announcer| announcer.has_announced(run));
            if !plan::is_offered(&desk.run(namespace, run)?.head, announced, now) {
                continue;
            }
            if one_of_many(run, self.claim_one(desk, run))?.unwrap_or(false) {
                claimed.push(run);
            }
        }
        Ok(claimed)
    }
}

impl ClaimPlainly {
    fn claim_one(&self, desk: &mut Desk<'_>, run: RunId) -> Result<bool, ServerError> {
        if is_held_back(desk, &self.namespace, run)? {
            return Ok(false);
        }
        desk.edit(&self.namespace, run, |head, now, entries| {
            match plain::claim_plainly(head, self.lease, now, entries) {
                true => Edit::Changed(true),
                false if entries.is_empty() => Edit::Unchanged(false),
                false => Edit::Changed(false),
            }
        })
    }
}

/// Keeps a plain claim.
pub(crate) struct RefreshPlainly {
    pub(crate) namespace: Name,
    pub(crate) run: RunId,
    pub(crate) lease: Duration,
}

impl Operation for RefreshPlainly {
    type Answer = ();

    fn touches(&self, runs: &mut Vec<RunId>) {
        runs.push(self.run);
    }

    fn plan(&self, desk: &mut Desk<'_>) -> Result<(), ServerError> {
        let refreshed =
            desk.edit(&self.namespace, self.run, |head, now, _| match plain::refresh_plainly(head, self.lease, now) {
                true => Edit::Changed(()),
                false => Edit::Unchanged(()),
            });
        match refreshed {
            Err(ServerError::RunNotFound(_)) => Ok(()),
            refreshed => refreshed,
        }
    }
}
