//! Starting a run as the child of another.

use aiki_core::run::plan::plain;
use aiki_core::run::plan::{self, CreateRun};
use aiki_core::{Name, RunId, ServerError};

use super::refusal;
use crate::lane::{Desk, Edit};
use crate::operation::Operation;
use crate::operation::create::{existing, input_size, key_of};
use crate::storage::ReferenceKey;

/// Starts a run as the child of another.
pub(crate) struct CreateChild {
    pub(crate) namespace: Name,
    pub(crate) request: CreateRun,
    pub(crate) parent: RunId,
    pub(crate) expected_revision: u64,
}

impl Operation for CreateChild {
    type Answer = RunId;

    fn touches(&self, runs: &mut Vec<RunId>) {
        runs.push(self.parent);
    }

    fn size(&self) -> usize {
        input_size(&self.request)
    }

    fn references(&self, keys: &mut Vec<ReferenceKey>) {
        keys.extend(key_of(&self.namespace, &self.request));
    }

    fn plan(&self, desk: &mut Desk<'_>) -> Result<RunId, ServerError> {
        let (namespace, request) = (&self.namespace, &self.request);
        let parent = &desk.run(namespace, self.parent)?.head;
        plain::judge_parent(parent, self.expected_revision).map_err(|error| refusal(self.parent, error))?;
        if let Some(run) = existing(desk, namespace, request)? {
            return Ok(run);
        }
        let id = desk.next_id();
        let ordinal = desk.edit(namespace, self.parent, |head, now, entries| {
            Edit::Changed(plain::adopt_plainly(head, id, request, now, entries))
        })?;
        let mut entries = Vec::with_capacity(3);
        let mut head = plan::create(request, id, namespace, desk.now(), &mut entries);
        plan::adopt(&mut head, &desk.run(namespace, self.parent)?.head, ordinal);
        desk.create(head, &entries);
        Ok(id)
    }
}
