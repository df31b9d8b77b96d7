//! Statistics about workflows: what is asked and what is answered.

use std::collections::BTreeMap;
use std::num::NonZeroU64;

use aiki_core::Timestamp;
use aiki_core::name::{Name, Source};
use aiki_core::run::status::RunStatus;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::common::Order;
use super::request::request;
use crate::read::{At, Input, Invalid, Read, Str1, read_name};

request! {
    /// `workflow.listV1`.
    ListWorkflows {
        /// Whose workflows.
        need source: Source = "source",
        /// At most so many; 50 unless given.
        may limit: NonZeroU64 = "limit",
        /// Without the first ones.
        may offset: u64 = "offset",
        /// Only names that begin like this.
        may prefix: Str1 = "namePrefix",
        /// By name, ascending, unless given.
        may sort: WorkflowSort = "sort",
    }

    /// How workflows are sorted.
    WorkflowSort {
        /// By what.
        need field: WorkflowField = "field",
        /// Which way.
        need order: Order = "order",
    }

    /// `workflow.listVersionsV1`.
    ListVersions {
        /// The workflow's name.
        need name: Str1 = "name",
        /// Whose it is.
        need source: Source = "source",
        /// At most so many; 50 unless given.
        may limit: NonZeroU64 = "limit",
        /// Without the first ones.
        may offset: u64 = "offset",
        /// By the time they were first seen, the newest first, unless given.
        may sort: VersionSort = "sort",
    }

    /// How versions are sorted.
    VersionSort {
        /// By what.
        need field: VersionField = "field",
        /// Which way.
        need order: Order = "order",
    }

    /// A workflow whose runs are counted.
    StatsOf {
        /// Its name.
        need name: Str1 = "name",
        /// Whose it is.
        need source: Source = "source",
        /// Of this version only.
        may version: Str1 = "versionId",
    }
}

/// `workflow.getStatsV1`: of one workflow, or without input of the whole namespace.
#[derive(Clone, Debug, PartialEq)]
pub struct GetStats(pub Option<StatsOf>);

impl Input for GetStats {
    fn input(raw: Option<&RawValue>) -> Result<Self, Invalid> {
        raw.map(|raw| StatsOf::read(raw, &At::ROOT)).transpose().map(Self)
    }
}

/// What workflows are sorted by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
#[allow(missing_docs, reason = "named as what they are")]
pub enum WorkflowField {
    Name,
    RunCount,
    LastRunAt,
}

/// What versions are sorted by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
#[allow(missing_docs, reason = "named as what they are")]
pub enum VersionField {
    FirstSeenAt,
    RunCount,
}

impl Read for WorkflowField {
    fn read(raw: &RawValue, at: &At<'_>) -> Result<Self, Invalid> {
        read_name(raw, at, &[Self::Name, Self::RunCount, Self::LastRunAt], |field| match field {
            Self::Name => "name",
            Self::RunCount => "runCount",
            Self::LastRunAt => "lastRunAt",
        })
    }
}

impl Read for VersionField {
    fn read(raw: &RawValue, at: &At<'_>) -> Result<Self, Invalid> {
        read_name(raw, at, &[Self::FirstSeenAt, Self::RunCount], |field| match field {
            Self::FirstSeenAt => "firstSeenAt",
            Self::RunCount => "runCount",
        })
    }
}

/// What `workflow.listV1` answers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WorkflowList {
    /// The workflows.
    pub workflows: Vec<WorkflowSummary>,
    /// How many fit in all.
    pub total: u64,
}

/// A workflow, all of its versions together.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WorkflowSummary {
    /// Its name.
    pub name: Name,
    /// Whose it is.
    pub source: Source,
    /// How many runs there are.
    pub run_count: u64,
    /// When the newest one was created; `null` when there is none.
    pub last_run_at: Option<Timestamp>,
}

/// What `workflow.listVersionsV1` answers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct VersionList {
    /// The versions.
    pub versions: Vec<VersionSummary>,
    /// How many there are in all.
    pub total: u64,
}

/// A version of a workflow.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct VersionSummary {
    /// Its name.
    pub version_id: Name,
    /// When it was first used.
    pub first_seen_at: Timestamp,
    /// When the newest run was created; `null` when there is none.
    pub last_run_at: Option<Timestamp>,
    /// How many runs there are.
    pub run_count: u64,
}

/// What `workflow.getStatsV1` answers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StatsAnswer {
    /// The counts.
    pub stats: RunStats,
}

/// Runs, counted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RunStats {
    /// How many runs stand in each status; every status is there.
    pub runs_by_status: BTreeMap<RunStatus, u64>,
}

impl RunStats {
    /// Counts where a status without runs may be missing.
    pub fn of(counts: impl IntoIterator<Item = (RunStatus, u64)>) -> Self {
        let mut runs_by_status: BTreeMap<_, _> = RunStatus::ALL.iter().map(|status| (*status, 0)).collect();
        runs_by_status.extend(counts);
        Self { runs_by_status }
    }
}
