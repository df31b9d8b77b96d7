//! What workers, callers and operators write about a run: reports, events, results of tasks.

use aiki_core::run::plan::TaskTarget;
use aiki_core::server_client::{SendEvent, SetTaskResult};
use aiki_core::{Payload, Report, ServerClient, ServerError};

use super::LocalClient;
use crate::operation::{ReceiveEvent, SetTask, WriteReport};
use crate::validate;

impl LocalClient {
    /// The operation that writes a report.
    pub(crate) fn writing(&self, report: Report) -> Result<WriteReport, ServerError> {
        validate::report(&report, self.server.payload_limit)?;
        Ok(WriteReport { namespace: self.namespace.clone(), report, history_limit: self.server.history_limit })
    }

    /// Hands over an event, once for each key.
    pub(crate) async fn send_event_once(&self, request: SendEvent, key: Option<String>) -> Result<(), ServerError> {
        self.server.lane.call(self.reception(request, key)?).await
    }

    /// The operation that hands over an event, once for each key.
    pub(crate) fn reception(&self, request: SendEvent, key: Option<String>) -> Result<ReceiveEvent, ServerError> {
        validate::event(&request.event, self.server.payload_limit)?;
        key.iter().try_for_each(|key| validate::name("the event's key", key))?;
        let (namespace, history_limit) = (self.namespace.clone(), self.server.history_limit);
        Ok(ReceiveEvent { namespace, request, key, history_limit, late: false })
    }

    /// Gives a task a result in the place of its body.
    pub(super) async fn set_task(&self, request: SetTaskResult) -> Result<(), ServerError> {
        let payload = request.result.as_ref().map_or_else(|error| error.data.as_ref(), |output| output.as_ref());
        Payload::check_size(payload, self.server.payload_limit)
            .map_err(|error| ServerError::Invalid(error.to_string()))?;
        let attempts = match &request.target {
            TaskTarget::New { name, .. } => {
                validate::name("the task's name", name)?;
                1
            }
            TaskTarget::Existing(task) => {
                let record = self.get_run(request.run).await?;
                let found = record.tasks.iter().find(|recorded| recorded.id == *task);
                found.ok_or(ServerError::TaskNotFound(*task))?.state.attempts() + 1
            }
        };
        self.server.lane.call(SetTask { namespace: self.namespace.clone(), request, attempts }).await
    }
}
