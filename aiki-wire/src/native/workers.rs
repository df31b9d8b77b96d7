//! What workers and the server tell each other besides claims and reports.

use std::time::Duration;

use aiki_core::server_client::{WorkerInfo, WorkerServes};
use aiki_core::time::millis;
use aiki_core::{Name, RunId};
use serde::{Deserialize, Serialize};

use super::call;

/// Waits until something has happened to runs that the worker holds.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AwaitNews {
    /// The worker.
    pub worker: Name,
    /// At most so long.
    #[serde(rename = "timeoutMs", with = "millis")]
    pub timeout: Duration,
}

/// Tells what a worker serves.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AnnounceWorker {
    /// The worker.
    pub worker: Name,
    /// What it serves.
    pub serves: WorkerServes,
}

/// The workers that the server has heard of lately.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct ListWorkers {}

call!(AwaitNews, "awaitNews" -> Vec<RunId>);
call!(AnnounceWorker, "announceWorker" -> ());
call!(ListWorkers, "listWorkers" -> Vec<WorkerInfo>);
