//! Creating a run.

use aiki_core::run::plan::{self, CreateRun, ReferenceDecision};
use aiki_core::run::{HIDDEN_REFERENCE, Reference};
use aiki_core::server_client::CreatedRun;
use aiki_core::{Name, Payload, RunId, ServerError};

use super::Operation;
use crate::lane::Desk;
use crate::storage::ReferenceKey;

pub(crate) struct Create {
    pub(crate) namespace: Name,
    pub(crate) request: CreateRun,
}

/// The reference id of a start, in full.
pub(super) fn key_of(namespace: &Name, request: &CreateRun) -> Option<ReferenceKey> {
    Some(ReferenceKey::of(namespace, &request.workflow, &request.reference.as_ref()?.id))
}

/// The run that a start finds under its reference id.
pub(super) fn existing(
    desk: &mut Desk<'_>,
    namespace: &Name,
    request: &CreateRun,
) -> Result<Option<RunId>, ServerError> {
    let Some(key) = key_of(namespace, request) else { return Ok(None) };
    let Some(run) = desk.by_reference(&key)? else { return Ok(None) };
    match plan::judge_reference(&desk.run(namespace, run)?.head, request) {
        ReferenceDecision::Existing => Ok(Some(run)),
        ReferenceDecision::Conflict => Err(ServerError::ReferenceConflict { reference_id: key.reference_id, run }),
    }
}

pub(super) fn input_size(request: &CreateRun) -> usize {
    request.input.as_ref().map_or(0, |input: &Payload| input.as_str().len())
}

impl Operation for Create {
    type Answer = CreatedRun;

    fn size(&self) -> usize {
        input_size(&self.request)
    }

    fn references(&self, keys: &mut Vec<ReferenceKey>) {
        keys.extend(key_of(&self.namespace, &self.request));
    }

    fn plan(&self, desk: &mut Desk<'_>) -> Result<CreatedRun, ServerError> {
        if let Some(id) = existing(desk, &self.namespace, &self.request)? {
            // Under a hidden one, this start has made it: the answer was lost.
            let hidden = |reference: &Reference| reference.id.starts_with(HIDDEN_REFERENCE);
            return Ok(CreatedRun { id, existed: !self.request.reference.as_ref().is_some_and(hidden) });
        }
        let mut entries = Vec::with_capacity(3);
        let id = desk.next_id();
        let head = plan::create(&self.request, id, &self.namespace, desk.now(), &mut entries);
        desk.create(head, &entries);
        Ok(CreatedRun { id, existed: false })
    }
}
