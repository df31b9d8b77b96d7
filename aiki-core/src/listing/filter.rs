//! Which runs are asked for.

use serde::{Deserialize, Serialize};

use crate::id::{RunId, ScheduleId};
use crate::name::{Name, Source, WorkflowKey};
use crate::run::{RunHead, RunStatus};
use crate::time::Timestamp;

/// A workflow, in one version or in all of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WorkflowFilter {
    /// Whose workflow it is.
    #[serde(default)]
    pub source: Source,
    /// The workflow's name.
    pub name: Name,
    /// The version; `None` is any.
    #[serde(default, rename = "versionId", skip_serializing_if = "Option::is_none")]
    pub version: Option<Name>,
}

impl WorkflowFilter {
    /// A user's workflow in any version.
    pub fn named(name: impl Into<Name>) -> Self {
        Self { source: Source::User, name: name.into(), version: None }
    }

    /// Whether a workflow version is meant.
    pub fn matches(&self, key: &WorkflowKey) -> bool {
        self.source == key.source
            && self.name == key.name
            && self.version.as_ref().is_none_or(|version| *version == key.version)
    }
}

impl From<WorkflowKey> for WorkflowFilter {
    fn from(key: WorkflowKey) -> Self {
        Self { source: key.source, name: key.name, version: Some(key.version) }
    }
}

/// Which runs are asked for. Everything that is given has to fit; the default is every run.
///
/// ```
/// use aiki_core::listing::{RunFilter, WorkflowFilter};
/// use aiki_core::run::RunStatus;
///
/// let failed = RunFilter {
///     statuses: vec![RunStatus::Failed],
///     workflow: Some(WorkflowFilter::named("orders")),
///     ..RunFilter::default()
/// };
/// # let _ = failed;
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RunFilter {
    /// This run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<RunId>,
    /// In one of these statuses; empty is any.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub statuses: Vec<RunStatus>,
    /// Of this workflow.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workflow: Option<WorkflowFilter>,
    /// With this reference id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reference_id: Option<String>,
    /// Started by this schedule.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub schedule: Option<ScheduleId>,
    /// Started by this run as its child.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parent: Option<RunId>,
    /// Created at this time or later, by the time in the run's id: it never goes back, unlike a clock.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created_from: Option<Timestamp>,
    /// Created before this time, likewise.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created_until: Option<Timestamp>,
}

impl RunFilter {
    /// Whether a run fits. Its namespace is not looked at.
    pub fn matches(&self, head: &RunHead) -> bool {
        let created = head.id.created_at();
        self.id.is_none_or(|id| id == head.id)
            && (self.statuses.is_empty() || self.statuses.contains(&head.state.status()))
            && self.workflow.as_ref().is_none_or(|workflow| workflow.matches(&head.workflow))
            && (self.reference_id.is_none() || self.reference_id == head.reference_id)
            && (self.schedule.is_none() || self.schedule == head.schedule)
            && (self.parent.is_none() || self.parent == head.parent)
            && self.created_from.is_none_or(|from| created >= from)
            && self.created_until.is_none_or(|until| created < until)
    }

    /// The ids that fit lie from the first of these to before the second; `None`: there is no such bound.
    pub fn id_range(&self) -> (Option<RunId>, Option<RunId>) {
        (self.created_from.map(RunId::first_at), self.created_until.map(RunId::first_at))
    }

    /// Whether the counts of workflows by status answer how many runs fit.
    pub fn is_counted(&self) -> bool {
        let Self { id, statuses: _, workflow: _, reference_id, schedule, parent, created_from, created_until } = self;
        id.is_none()
            && reference_id.is_none()
            && schedule.is_none()
            && parent.is_none()
            && created_from.is_none()
            && created_until.is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hash::input_hash;
    use crate::run::plan::{CreateRun, create};

    fn head(millis: u64) -> RunHead {
        let id = RunId::from_bits(u128::from(millis) << 80 | 77 << 24);
        let request = CreateRun::new(WorkflowKey::user("orders", "2"), None, input_hash(None).unwrap());
        create(&request, id, &Name::new("n"), Timestamp::from_millis(1), &mut Vec::new())
    }

    #[test]
    fn the_time_of_creation_is_the_one_of_the_id() {
        let at = Timestamp::from_millis;
        let between = |from, until| RunFilter {
            created_from: Some(at(from)),
            created_until: Some(at(until)),
            ..RunFilter::default()
        };
        let run = head(500);
        assert!(between(500, 501).matches(&run));
        assert!(!between(501, 900).matches(&run));
        assert!(!between(100, 500).matches(&run));
        let (from, until) = between(500, 501).id_range();
        assert!(from.unwrap() < run.id && run.id < until.unwrap());
    }

    #[test]
    fn the_end_of_time_is_a_bound_that_nothing_reaches() {
        let filter = RunFilter { created_until: Some(Timestamp::MAX), ..RunFilter::default() };
        assert!(filter.matches(&head(500)) && filter.id_range().1.unwrap() > head(500).id);
        let filter = RunFilter { created_from: Some(Timestamp::MAX), ..RunFilter::default() };
        assert!(!filter.matches(&head(500)) && filter.id_range().0.unwrap() > head(500).id);
    }

    #[test]
    fn a_workflow_without_a_version_is_all_of_them() {
        let of = |workflow| RunFilter { workflow: Some(workflow), ..RunFilter::default() };
        assert!(of(WorkflowFilter::named("orders")).matches(&head(1)));
        assert!(of(WorkflowKey::user("orders", "2").into()).matches(&head(1)));
        assert!(!of(WorkflowKey::user("orders", "1").into()).matches(&head(1)));
        let system = WorkflowFilter { source: Source::System, ..WorkflowFilter::named("orders") };
        assert!(!of(system).matches(&head(1)));
    }
}
