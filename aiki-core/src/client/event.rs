//! Sending events to runs.

use std::future::{Future, IntoFuture};
use std::pin::Pin;

use serde::Serialize;

use super::Client;
use crate::definition::Event;
use crate::id::RunId;
use crate::name::WorkflowKey;
use crate::payload::{Payload, PayloadError};
use crate::run::plan::EventMessage;
use crate::server_client::{MULTICAST_LIMIT, Multicast, SendEvent, ServerError};

/// An event was not sent.
#[derive(Clone, PartialEq, thiserror::Error)]
pub enum SendEventError {
    /// The data cannot be written as JSON.
    #[error("the event's data cannot be sent: {0}")]
    Data(#[from] PayloadError),
    /// The workflow version does not take this event.
    #[error(
        "{workflow} does not declare the event `{event}`: add `.event(&...)` to the version, or `events = [...]` to its \
         `#[aiki::workflow]`"
    )]
    Undeclared {
        /// The workflow version.
        workflow: WorkflowKey,
        /// The event.
        event: &'static str,
    },
    /// The server did not accept it.
    #[error(transparent)]
    Server(#[from] ServerError),
}

crate::debug_as_display!(SendEventError);

/// An event on its way to one or several runs.
#[must_use = "an event is sent when this is awaited"]
#[derive(Debug)]
pub struct SendRunEvent {
    client: Client,
    runs: Vec<RunId>,
    message: Result<EventMessage, SendEventError>,
}

impl SendRunEvent {
    pub(crate) fn new<T: Serialize>(
        client: &Client,
        workflow: &WorkflowKey,
        declared: &[String],
        event: &Event<T>,
        runs: Vec<RunId>,
        data: &T,
    ) -> Self {
        let name = event.name();
        let message = if declared.iter().any(|declared| declared == name) {
            let data = Payload::encode(data).map_err(SendEventError::from);
            data.map(|data| EventMessage { name: name.to_owned(), data, reference_id: None })
        } else {
            Err(SendEventError::Undeclared { workflow: workflow.clone(), event: name })
        };
        Self { client: client.clone(), runs, message }
    }

    /// Gives the event an id of the sender's own, 1 to 256 bytes: a second event of that name and id is
    /// ignored by the run. So it is safe to send it again.
    pub fn reference_id(mut self, id: impl Into<String>) -> Self {
        self.message = self.message.map(|message| EventMessage { reference_id: Some(id.into()), ..message });
        self
    }

    async fn send(self) -> Result<(), SendEventError> {
        let event = self.message?;
        for run in self.runs {
            self.client.server().send_event(SendEvent { run, event: event.clone() }).await?;
        }
        Ok(())
    }

    /// Sends to all runs and answers who got it: one that fails does not keep the others from it.
    pub(crate) async fn multicast(self) -> Result<Multicast, SendEventError> {
        if self.runs.len() > MULTICAST_LIMIT {
            let text =
                format!("{} runs for one event: send it to at most {MULTICAST_LIMIT} at a time", self.runs.len());
            return Err(ServerError::Invalid(text).into());
        }
        let event = self.message?;
        let mut answer = Multicast::default();
        for run in self.runs {
            match self.client.server().send_event(SendEvent { run, event: event.clone() }).await {
                Ok(()) => answer.sent.push(run),
                Err(error) => answer.failed.push((run, error)),
            }
        }
        Ok(answer)
    }
}

impl IntoFuture for SendRunEvent {
    type Output = Result<(), SendEventError>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.send())
    }
}
