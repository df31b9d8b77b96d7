//! What workers ask: claims and reports.

use std::time::Duration;

use aiki_core::name::WorkflowKey;
use aiki_core::server_client::{ClaimRef, ClaimStatus};
use aiki_core::time::millis;
use aiki_core::{Name, Report, ReportReceipt, RunId};
use serde::{Deserialize, Serialize};

use super::{Outcome, RunData, call};

/// Claims delivered runs.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ClaimRuns {
    /// The worker.
    pub worker: Name,
    /// How long the claims last.
    #[serde(rename = "leaseMs", with = "millis")]
    pub lease: Duration,
    /// The runs.
    pub runs: Vec<RunId>,
}

/// A claim that was granted.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Claimed {
    /// The run.
    pub run: RunData,
    /// The claim's number.
    pub epoch: u64,
    /// How long it lasts.
    #[serde(rename = "leaseMs", with = "millis")]
    pub lease: Duration,
    /// How many entries the run's history may have.
    pub history_limit: u32,
    /// How long the request had waited when it was granted.
    #[serde(default, rename = "waitedMs", with = "millis", skip_serializing_if = "Duration::is_zero")]
    pub waited: Duration,
}

/// The answer for one delivered run.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ClaimAnswer {
    /// The worker owns it.
    Granted(Box<Claimed>),
    /// Somebody else does.
    Owned {
        /// How long at most.
        #[serde(rename = "remainingMs", with = "millis")]
        remaining: Duration,
    },
    /// It needs no delivery.
    Done,
}

/// Claims whatever is ready.
///
/// A request with the `question` of one that waits ends that wait. With a `limit` of 0 it does only that.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ClaimReadyRuns {
    /// The worker.
    pub worker: Name,
    /// How long the claims last.
    #[serde(rename = "leaseMs", with = "millis")]
    pub lease: Duration,
    /// What it serves.
    pub workflows: Vec<WorkflowKey>,
    /// Its pools; empty means runs without a pool.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pools: Vec<Name>,
    /// At most so many runs.
    pub limit: usize,
    /// Chosen by the worker anew for each question. The same number again, because the answer was lost, claims
    /// the same runs again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub question: Option<u64>,
    /// How long to wait when nothing is ready; zero answers at once.
    #[serde(default, rename = "waitMs", with = "millis", skip_serializing_if = "Duration::is_zero")]
    pub wait: Duration,
}

/// Prolongs claims.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RefreshRuns {
    /// The worker.
    pub worker: Name,
    /// How long the claims last from now on.
    #[serde(rename = "leaseMs", with = "millis")]
    pub lease: Duration,
    /// The claims.
    pub claims: Vec<ClaimRef>,
}

/// Gives claims back.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ReleaseRuns {
    /// The worker.
    pub worker: Name,
    /// The claims.
    pub claims: Vec<ClaimRef>,
}

/// Records reports, each by itself.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Reports {
    /// The reports.
    pub reports: Vec<Report>,
}

call!(ClaimRuns, "claimRuns" -> Vec<ClaimAnswer>);
call!(ClaimReadyRuns, "claimReadyRuns" -> Vec<Claimed>);
call!(RefreshRuns, "refreshRuns" -> Vec<ClaimStatus>);
call!(ReleaseRuns, "releaseRuns" -> Vec<ClaimStatus>);
call!(Reports, "report" -> Vec<Outcome<ReportReceipt>>);
