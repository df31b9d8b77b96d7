//! The workflows of a namespace and how their runs stand. A store keeps one row per workflow version, so that no
//! question here reads runs; what the rows amount to is decided here.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::WorkflowFilter;
use crate::name::{Name, Source, WorkflowKey};
use crate::run::RunStatus;
use crate::time::Timestamp;

/// How many runs are in which status.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "BTreeMap<RunStatus, u64>", into = "BTreeMap<RunStatus, u64>")]
pub struct StatusCounts([u64; RunStatus::ALL.len()]);

impl StatusCounts {
    /// The runs in this status.
    pub fn of(&self, status: RunStatus) -> u64 {
        self.0[status as usize]
    }

    /// The runs in one of these statuses; none given is any.
    pub fn of_any(&self, statuses: &[RunStatus]) -> u64 {
        let asked = |status: &RunStatus| statuses.is_empty() || statuses.contains(status);
        RunStatus::ALL.iter().filter(|status| asked(status)).map(|status| self.of(*status)).sum()
    }

    /// All runs.
    pub fn total(&self) -> u64 {
        self.0.iter().sum()
    }

    /// The counts, each with its status, in the order of [`RunStatus::ALL`].
    pub fn iter(&self) -> impl Iterator<Item = (RunStatus, u64)> + '_ {
        RunStatus::ALL.iter().map(|status| (*status, self.of(*status)))
    }

    /// Counts `by` runs more, or fewer, in this status.
    pub fn add(&mut self, status: RunStatus, by: i64) {
        let count = &mut self.0[status as usize];
        *count = count.saturating_add_signed(by);
    }

    /// Counts the runs of another count too.
    pub fn include(&mut self, other: &StatusCounts) {
        self.0.iter_mut().zip(other.0).for_each(|(count, more)| *count += more);
    }
}

impl From<BTreeMap<RunStatus, u64>> for StatusCounts {
    fn from(counts: BTreeMap<RunStatus, u64>) -> Self {
        counts.into_iter().collect()
    }
}

impl From<StatusCounts> for BTreeMap<RunStatus, u64> {
    fn from(counts: StatusCounts) -> Self {
        counts.iter().collect()
    }
}

impl FromIterator<(RunStatus, u64)> for StatusCounts {
    fn from_iter<T: IntoIterator<Item = (RunStatus, u64)>>(counts: T) -> Self {
        let mut all = Self::default();
        counts.into_iter().for_each(|(status, count)| all.0[status as usize] += count);
        all
    }
}

/// A workflow version that was used: a run of it was created, or a schedule of it was activated.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WorkflowUse {
    /// The workflow version.
    pub workflow: WorkflowKey,
    /// When it was first used.
    pub first_seen_at: Timestamp,
    /// When its newest run was created, which may be gone by now; `None` when there never was one.
    pub last_run_at: Option<Timestamp>,
    /// Its runs that are there.
    pub runs: StatusCounts,
}

/// Ascending or descending.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SortOrder {
    /// The least first.
    #[default]
    Asc,
    /// The greatest first.
    Desc,
}

impl SortOrder {
    fn apply(self, ordering: Ordering) -> Ordering {
        match self {
            SortOrder::Asc => ordering,
            SortOrder::Desc => ordering.reverse(),
        }
    }
}

/// By what a list of workflows is sorted; those that are equal go by name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum WorkflowSort {
    /// By name.
    #[default]
    Name,
    /// By the number of runs.
    RunCount,
    /// By the newest run. One without runs counts as the oldest.
    LastRunAt,
}

/// Which workflows are asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WorkflowsQuery {
    /// Whose workflows.
    pub source: Source,
    /// The name begins with this, literally.
    pub name_prefix: Option<String>,
    /// The order.
    pub sort: (WorkflowSort, SortOrder),
    /// At most so many, 1 to [`MAX_PAGE`](super::MAX_PAGE).
    pub limit: usize,
    /// Leaves out so many.
    pub offset: usize,
}

impl Default for WorkflowsQuery {
    fn default() -> Self {
        Self { source: Source::User, name_prefix: None, sort: Default::default(), limit: 50, offset: 0 }
    }
}

/// A workflow with all of its versions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WorkflowSummary {
    /// Whose workflow it is.
    pub source: Source,
    /// Its name.
    pub name: Name,
    /// Its runs that are there.
    pub run_count: u64,
    /// When its newest run was created, which may be gone by now.
    pub last_run_at: Option<Timestamp>,
}

/// A part of a list of workflows.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WorkflowsPage {
    /// The workflows.
    pub workflows: Vec<WorkflowSummary>,
    /// How many fit in all.
    pub total: u64,
}

/// By what a list of versions is sorted; those that are equal go by version.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum VersionSort {
    /// By the first use.
    #[default]
    FirstSeenAt,
    /// By the number of runs.
    RunCount,
}

/// The versions of which workflow are asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct VersionsQuery {
    /// Whose workflow.
    pub source: Source,
    /// Its name.
    pub name: Name,
    /// The order.
    pub sort: (VersionSort, SortOrder),
    /// At most so many, 1 to [`MAX_PAGE`](super::MAX_PAGE).
    pub limit: usize,
    /// Leaves out so many.
    pub offset: usize,
}

impl VersionsQuery {
    /// The versions of a user's workflow, the latest first.
    pub fn of(name: impl Into<Name>) -> Self {
        let sort = (VersionSort::FirstSeenAt, SortOrder::Desc);
        Self { source: Source::User, name: name.into(), sort, limit: 50, offset: 0 }
    }
}

/// A version of a workflow.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct VersionSummary {
    /// The version.
    pub version: Name,
    /// When it was first used.
    pub first_seen_at: Timestamp,
    /// When its newest run was created, which may be gone by now.
    pub last_run_at: Option<Timestamp>,
    /// Its runs that are there.
    pub run_count: u64,
}

/// A part of a list of versions.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct VersionsPage {
    /// The versions.
    pub versions: Vec<VersionSummary>,
    /// How many there are in all.
    pub total: u64,
}

/// Answers a question about workflows from the rows of a namespace.
pub fn workflows_page(rows: &[WorkflowUse], query: &WorkflowsQuery) -> WorkflowsPage {
    let prefix = query.name_prefix.as_deref().unwrap_or_default();
    let mut names: BTreeMap<&Name, WorkflowSummary> = BTreeMap::new();
    for row in rows {
        let key = &row.workflow;
        if key.source != query.source || !key.name.as_str().starts_with(prefix) {
            continue;
        }
        let (source, name) = (key.source, key.name.clone());
        let empty = WorkflowSummary { source, name, run_count: 0, last_run_at: None };
        let summary = names.entry(&key.name).or_insert(empty);
        summary.run_count += row.runs.total();
        summary.last_run_at = summary.last_run_at.max(row.last_run_at);
    }
    let mut workflows: Vec<_> = names.into_values().collect();
    let (field, order) = query.sort;
    workflows.sort_by(|a, b| {
        let ordering = match field {
            WorkflowSort::Name => a.name.cmp(&b.name),
            WorkflowSort::RunCount => a.run_count.cmp(&b.run_count),
            WorkflowSort::LastRunAt => a.last_run_at.cmp(&b.last_run_at),
        };
        order.apply(ordering).then_with(|| a.name.cmp(&b.name))
    });
    let total = workflows.len() as u64;
    WorkflowsPage { workflows: workflows.into_iter().skip(query.offset).take(query.limit).collect(), total }
}

/// Answers a question about versions from the rows of a namespace.
pub fn versions_page(rows: &[WorkflowUse], query: &VersionsQuery) -> VersionsPage {
    let of = |row: &&WorkflowUse| row.workflow.source == query.source && row.workflow.name == query.name;
    let summary = |row: &WorkflowUse| VersionSummary {
        version: row.workflow.version.clone(),
        first_seen_at: row.first_seen_at,
        last_run_at: row.last_run_at,
        run_count: row.runs.total(),
    };
    let mut versions: Vec<_> = rows.iter().filter(of).map(summary).collect();
    let (field, order) = query.sort;
    versions.sort_by(|a, b| {
        let ordering = match field {
            VersionSort::FirstSeenAt => a.first_seen_at.cmp(&b.first_seen_at),
            VersionSort::RunCount => a.run_count.cmp(&b.run_count),
        };
        order.apply(ordering).then_with(|| a.version.cmp(&b.version))
    });
    let total = versions.len() as u64;
    VersionsPage { versions: versions.into_iter().skip(query.offset).take(query.limit).collect(), total }
}

/// How the runs of a workflow stand, or with `None` those of the namespace, from its rows.
pub fn stats_of(rows: &[WorkflowUse], workflow: Option<&WorkflowFilter>) -> StatusCounts {
    let mut counts = StatusCounts::default();
    let asked = |row: &&WorkflowUse| workflow.is_none_or(|workflow| workflow.matches(&row.workflow));
    rows.iter().filter(asked).for_each(|row| counts.include(&row.runs));
    counts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(name: &str, version: &str, runs: u64, last: Option<u64>) -> WorkflowUse {
        WorkflowUse {
            workflow: WorkflowKey::user(name, version),
            first_seen_at: Timestamp::from_millis(10 * version.len() as u64),
            last_run_at: last.map(Timestamp::from_millis),
            runs: [(RunStatus::Failed, runs)].into_iter().collect(),
        }
    }

    fn names(rows: &[WorkflowUse], query: &WorkflowsQuery) -> Vec<String> {
        workflows_page(rows, query).workflows.iter().map(|workflow| workflow.name.to_string()).collect()
    }

    #[test]
    fn versions_of_one_name_are_one_workflow() {
        let rows = [row("b", "1", 2, Some(7)), row("b", "22", 3, Some(5)), row("a", "1", 0, None)];
        let page = workflows_page(&rows, &WorkflowsQuery::default());
        assert_eq!((page.workflows.len(), page.total), (2, 2));
        assert_eq!(page.workflows[1].run_count, 5);
        assert_eq!(page.workflows[1].last_run_at, Some(Timestamp::from_millis(7)));
        let versions = versions_page(&rows, &VersionsQuery::of("b")).versions;
        assert_eq!(versions.iter().map(|version| version.version.as_str()).collect::<Vec<_>>(), ["22", "1"]);
        assert_eq!(stats_of(&rows, Some(&WorkflowFilter::named("b"))).of(RunStatus::Failed), 5);
        assert_eq!(stats_of(&rows, Some(&WorkflowFilter::named("none"))), StatusCounts::default());
    }

    #[test]
    fn equal_ones_go_by_name_in_either_order() {
        let rows = [row("c", "1", 1, None), row("a", "1", 1, None), row("b", "1", 2, Some(1))];
        let sorted = |sort| names(&rows, &WorkflowsQuery { sort, ..WorkflowsQuery::default() });
        assert_eq!(sorted((WorkflowSort::RunCount, SortOrder::Desc)), ["b", "a", "c"]);
        assert_eq!(sorted((WorkflowSort::RunCount, SortOrder::Asc)), ["a", "c", "b"]);
        assert_eq!(sorted((WorkflowSort::LastRunAt, SortOrder::Asc)), ["a", "c", "b"]);
        assert_eq!(sorted((WorkflowSort::Name, SortOrder::Desc)), ["c", "b", "a"]);
    }

    #[test]
    fn a_prefix_has_no_wildcards() {
        let rows = [row("a%b", "1", 1, None), row("axb", "1", 1, None), row("a_b", "1", 1, None)];
        let with = |prefix: &str| WorkflowsQuery { name_prefix: Some(prefix.into()), ..WorkflowsQuery::default() };
        assert_eq!(names(&rows, &with("a%")), ["a%b"]);
        assert_eq!(names(&rows, &with("a_")), ["a_b"]);
        assert_eq!(names(&rows, &WorkflowsQuery { limit: 1, offset: 1, ..with("a") }), ["a_b"]);
    }
}
