//! The workflow that Aiki itself runs on its users' workers (contract, section 9): when a run is
//! cancelled, its children are.

use std::sync::Arc;
use std::time::Duration;

use crate::definition::{RegisteredWorkflow, Task, Workflow};
use crate::failure::Failure;
use crate::hash::{HashError, input_hash};
use crate::id::RunId;
use crate::name::{Name, Source, WorkflowKey};
use crate::payload::Payload;
use crate::retry::RetryStrategy;
use crate::run::plan::CreateRun;
use crate::run::{RunOptions, RunStatus};
use crate::server_client::ServerClient;

const NAME: &str = "cancel-child-runs";
const VERSION: &str = "1.0.0";

/// Name and version of the workflow.
pub fn cancel_children_key() -> WorkflowKey {
    WorkflowKey { source: Source::System, name: Name::new(NAME), version: Name::new(VERSION) }
}

/// The most attempts that the wire can tell: what is stored and what is read are the same.
const FOR_EVER: u64 = (1 << 53) - 1;

/// The request for the run that cancels the children of `run`.
///
/// # Errors
/// None in practice: an id can be written and hashed.
pub fn cancel_children_of(run: RunId, pool: Option<Name>) -> Result<CreateRun, HashError> {
    let input = Payload::of(&run).ok();
    let input_hash = input_hash(input.as_ref().map(Payload::as_str))?;
    let retry = RetryStrategy::exponential(FOR_EVER, Duration::from_secs(1)).max_delay(Duration::from_secs(30));
    let options = Some(RunOptions { retry: Some(retry), pool });
    Ok(CreateRun { options, ..CreateRun::new(cancel_children_key(), input, input_hash) })
}

/// The workflow, as every worker serves it.
pub fn cancel_children(server: Arc<dyn ServerClient>) -> RegisteredWorkflow {
    let active: Vec<RunStatus> = RunStatus::ALL.iter().copied().filter(|status| !status.is_terminal()).collect();
    let lister = server.clone();
    let list = Task::new("list-non-terminal-child-runs", move |_, run: RunId| {
        let (server, active) = (lister.clone(), active.clone());
        async move {
            let children = server.list_child_runs(run, &active).await?;
            Ok::<Vec<RunId>, Failure>(children.into_iter().map(|child| child.run).collect())
        }
    });
    let cancel = Task::new("cancel-runs", move |_, runs: Vec<RunId>| {
        let server = server.clone();
        async move {
            let mut cancelled = Vec::new();
            for some in runs.chunks(500) {
                cancelled.extend(server.cancel_runs(some).await?);
            }
            Ok::<Vec<RunId>, Failure>(cancelled)
        }
    });
    let version = Workflow::new(NAME).version(VERSION, move |run: crate::Run, cancelled: RunId| {
        let (list, cancel) = (list.clone(), cancel.clone());
        async move {
            let children = list.start(&run, cancelled).await?;
            if !children.is_empty() {
                cancel.start(&run, children).await?;
            }
            Ok::<(), Failure>(())
        }
    });
    version.register().with_source(Source::System)
}
