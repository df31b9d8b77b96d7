//! What the plain contract asks for beyond [`ServerClient`].

use aiki_core::name::WorkflowKey;
use aiki_core::run::plan::CreateRun;
use aiki_core::run::plan::plain::{TransitionRun, TransitionTask, TransitionedRun};
use aiki_core::run::record::TaskRecord;
use aiki_core::server_client::SendEvent;
use aiki_core::{Name, RunId, RunRecord, ServerClient, ServerError};

use crate::local_client::LocalClient;
use crate::measure::{self, Claimed};
use crate::operation::{ClaimPlainly, CreateChild, MoveRun, MoveTask, ReceiveEvent, RefreshPlainly};
use crate::validate;

impl LocalClient {
    /// Moves a run as a worker or client of the plain contract does.
    pub(crate) async fn transition_run(&self, request: TransitionRun) -> Result<TransitionedRun, ServerError> {
        validate::plain_state(&request.to, self.server.payload_limit)?;
        let seen_events = self.server.looks.take(request.run);
        let (namespace, lease) = (self.namespace.clone(), self.server.plain_lease);
        self.server.lane.call(MoveRun { namespace, request, seen_events, lease }).await
    }

    /// Moves a task as a worker of the plain contract does; answers the task as it stands then.
    pub(crate) async fn transition_task(&self, request: TransitionTask) -> Result<TaskRecord, ServerError> {
        validate::task_change(&request.change, self.server.payload_limit)?;
        let run = request.run;
        let moved = self.server.lane.call(MoveTask { namespace: self.namespace.clone(), request }).await?;
        let mut record = self.get_run(run).await?;
        let at = record.tasks.iter().position(|task| task.id == moved.id);
        let task = at.map(|at| record.tasks.swap_remove(at)).ok_or(ServerError::TaskNotFound(moved.id))?;
        Ok(TaskRecord { state: moved.state, ..task })
    }

    /// Starts a run, as the child of another that has a certain revision.
    pub(crate) async fn create_plain_run(
        &self,
        request: CreateRun,
        parent: Option<(RunId, u64)>,
    ) -> Result<RunId, ServerError> {
        let Some((parent, expected_revision)) = parent else { return Ok(self.create_run(request).await?.id) };
        validate::create(&request, self.server.payload_limit, self.server.clock.now())?;
        let namespace = self.namespace.clone();
        self.server.lane.call(CreateChild { namespace, request, parent, expected_revision }).await
    }

    /// Tells of ready runs that nobody else is told of for a while.
    pub(crate) async fn claim_plain(
        &self,
        workflows: Vec<WorkflowKey>,
        pools: Vec<Name>,
        limit: usize,
    ) -> Result<Vec<RunId>, ServerError> {
        validate::items("workflows", workflows.len())?;
        validate::items("pools", pools.len())?;
        // More at once than the lane works on gladly are had by asking again.
        let limit = limit.min(validate::MAX_ITEMS);
        let (namespace, lease) = (self.namespace.clone(), self.server.plain_lease);
        let announcer = self.server.announcer.clone();
        let told = self.server.lane.call(ClaimPlainly { namespace, workflows, pools, limit, lease, announcer }).await?;
        measure::claims(Claimed::Granted, told.len());
        Ok(told)
    }

    /// Keeps a claim that was made by [`claim_plain`](Self::claim_plain), if there is one.
    pub(crate) async fn refresh_plain(&self, run: RunId) -> Result<(), ServerError> {
        let (namespace, lease) = (self.namespace.clone(), self.server.plain_lease);
        self.server.lane.call(RefreshPlainly { namespace, run, lease }).await
    }

    /// Hands an event to a run. One that has ended keeps it, though nobody will look.
    pub(crate) async fn send_plain_event(&self, request: SendEvent) -> Result<(), ServerError> {
        validate::event(&request.event, self.server.payload_limit)?;
        let (namespace, history_limit) = (self.namespace.clone(), self.server.history_limit);
        self.server.lane.call(ReceiveEvent { namespace, request, key: None, history_limit, late: true }).await
    }

    /// The whole run, for a caller that may be about to say that it waits for an event.
    pub(crate) async fn look_at_run(&self, run: RunId) -> Result<RunRecord, ServerError> {
        let record = self.get_run(run).await?;
        if !record.state.is_terminal() {
            self.server.looks.note(run, record.events.len() as u32);
        }
        Ok(record)
    }
}
