//! The workflow versions of the store without a disk.

use std::collections::BTreeMap;

use aiki_core::listing::WorkflowUse;
use aiki_core::name::{Source, WorkflowKey};
use aiki_core::run::RunStatus;
use aiki_core::{Name, RunId};

use crate::storage::WorkflowChange;

#[derive(Debug, Default)]
pub(crate) struct MemoryWorkflows(BTreeMap<(Name, WorkflowKey), WorkflowUse>);

impl MemoryWorkflows {
    pub(super) fn write(&mut self, change: &WorkflowChange<'_>) {
        let key = (change.namespace.clone(), change.workflow.clone());
        let row = self.0.entry(key).or_insert_with(|| WorkflowUse {
            workflow: change.workflow.clone(),
            first_seen_at: change.used_at,
            last_run_at: None,
            runs: Default::default(),
        });
        row.last_run_at = change.last_run.map(RunId::created_at).or(row.last_run_at);
        RunStatus::ALL.iter().zip(change.runs).for_each(|(status, by)| row.runs.add(*status, by));
    }

    pub(super) fn list(&self, namespace: &Name, of: Option<(Source, &Name)>) -> Vec<WorkflowUse> {
        let asked = |key: &WorkflowKey| of.is_none_or(|of| of == (key.source, &key.name));
        let rows = self.0.iter().filter(|((own, key), _)| own == namespace && asked(key));
        rows.map(|(_, row)| row.clone()).collect()
    }
}
