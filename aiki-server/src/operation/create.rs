//! Creating a run.

use aiki_core::run::HIDDEN_REFERENCE;
use aiki_core::run::plan::{self, CreateRun, ReferenceDecision};
use aiki_core::server_client::CreatedRun;
use aiki_core::{Name, Payload, ServerError};

use super::Operation;
use crate::lane::Desk;
use crate::storage::ReferenceKey;

pub(crate) struct Create {
    pub(crate) namespace: Name,
    pub(crate) request: CreateRun,
}

impl Create {
    fn key(&self) -> Option<ReferenceKey> {
        let reference_id = self.request.reference.as_ref()?.id.clone();
        let (namespace, workflow) = (self.namespace.clone(), self.request.workflow.clone());
        Some(ReferenceKey { namespace, workflow, reference_id })
    }
}

impl Operation for Create {
    type Answer = CreatedRun;

    fn size(&self) -> usize {
        self.request.input.as_ref().map_or(0, |input: &Payload| input.as_str().len())
    }

    fn references(&self, keys: &mut Vec<ReferenceKey>) {
        keys.extend(self.key());
    }

    fn plan(&self, desk: &mut Desk<'_>) -> Result<CreatedRun, ServerError> {
        if let Some(key) = self.key()
            && let Some(run) = desk.by_reference(&key)?
        {
            let existing = desk.run(&self.namespace, run)?;
            return match plan::judge_reference(&existing.head, &self.request) {
                // Under a hidden one, this start has made it: the answer was lost.
                ReferenceDecision::Existing => {
                    Ok(CreatedRun { id: run, existed: !key.reference_id.starts_with(HIDDEN_REFERENCE) })
                }
                ReferenceDecision::Conflict => {
                    Err(ServerError::ReferenceConflict { reference_id: key.reference_id, run })
                }
            };
        }
        let mut entries = Vec::with_capacity(3);
        let id = desk.next_id();
        let head = plan::create(&self.request, id, &self.namespace, desk.now(), &mut entries);
        desk.create(head, &entries);
        Ok(CreatedRun { id, existed: false })
    }
}
