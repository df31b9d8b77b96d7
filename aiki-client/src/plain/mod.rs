//! A server of the plain contract: what our own procedures do, by those of the contract.
//!
//! * `calls`: the requests
//! * `record`: from the contract's record to ours
//! * `held`: the claims of this client
//! * `report`: from our transitions to the contract's
//! * `runs`, `window`: lists of runs
//! * `transitions`: what happened to a run, and results of tasks by hand
//! * `workflows`: workflows, versions and counts
//! * `schedules`: schedules
//! * `unsupported`: what the contract cannot do
//! * `server_client`: the methods
//!
//! `docs/wire-protocol.md` tells for each method what becomes of it.

mod calls;
mod held;
mod record;
mod report;
mod runs;
mod schedules;
mod server_client;
mod transitions;
mod unsupported;
mod window;
mod workflows;

use std::time::Duration;

use aiki_core::{RunId, ServerError};
use aiki_wire::contract::run_record::{FoundRun, WorkflowRunRecord};
use aiki_wire::error::ErrorCode;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::http::{Failure, GaveUp, HttpClient, Repeat};

pub(crate) use held::Claims;

/// Speaks the plain contract.
pub(crate) struct Plain {
    http: HttpClient,
}

impl Plain {
    pub(crate) fn new(http: HttpClient) -> Self {
        Self { http }
    }

    fn claims(&self) -> &Claims {
        &self.http.shared.claims
    }

    /// Calls a procedure of the contract.
    async fn post<A: DeserializeOwned + Send + 'static>(
        &self,
        procedure: &'static str,
        call: &impl Serialize,
        repeat: Repeat,
    ) -> Result<A, GaveUp> {
        let body = serde_json::to_string(&aiki_wire::envelope::Enveloped::new(call));
        let body = body.map_err(|error| GaveUp::refused(ServerError::Invalid(error.to_string())))?;
        self.http.post(procedure, body, repeat, Duration::ZERO).await
    }

    /// Calls a procedure without input.
    async fn ask<A: DeserializeOwned + Send + 'static>(&self, procedure: &'static str) -> Result<A, GaveUp> {
        self.http.post(procedure, "{}".into(), Repeat::Safe, Duration::ZERO).await
    }

    /// Calls a procedure about one run.
    async fn about<A: DeserializeOwned + Send + 'static>(
        &self,
        run: RunId,
        procedure: &'static str,
        call: &impl Serialize,
        repeat: Repeat,
    ) -> Result<A, ServerError> {
        self.post(procedure, call, repeat).await.map_err(|gave_up| self.error(run, gave_up))
    }

    fn error(&self, run: RunId, gave_up: GaveUp) -> ServerError {
        match gave_up.failure {
            Failure::Coded(ErrorCode::NotFound, _) => ServerError::RunNotFound(run),
            Failure::Coded(ErrorCode::RevisionConflict | ErrorCode::TaskStateConflict, _) => {
                ServerError::ClaimLost(run)
            }
            Failure::Coded(ErrorCode::BadRequest, text) => ServerError::IllegalTransition(text),
            _ => self.http.shared.error(gave_up),
        }
    }

    /// The same for whoever takes a refusal for the end.
    fn judgement(&self, run: RunId, gave_up: GaveUp) -> ServerError {
        match gave_up.failure {
            Failure::Refused(_) | Failure::Coded(..) => self.error(run, gave_up),
            _ => self.http.shared.judgement(gave_up),
        }
    }

    async fn fetch(&self, run: RunId) -> Result<WorkflowRunRecord, ServerError> {
        let found: FoundRun =
            self.about(run, "workflowRun/getByIdV1", &calls::Id { id: run.to_string() }, Repeat::Safe).await?;
        Ok(found.run)
    }
}
