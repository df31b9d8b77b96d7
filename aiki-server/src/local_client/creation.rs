//! Starting runs, and finding them by the reference id they were started with.

use aiki_core::name::WorkflowKey;
use aiki_core::run::plan::CreateRun;
use aiki_core::run::{ConflictPolicy, HIDDEN_REFERENCE, Reference};
use aiki_core::server_client::CreatedRun;
use aiki_core::{RunId, ServerError};

use super::LocalClient;
use crate::operation::Create;
use crate::storage::ReferenceKey;
use crate::validate;

impl LocalClient {
    /// Creates a run, once for each key.
    pub(crate) async fn create_run_once(
        &self,
        key: Option<String>,
        request: CreateRun,
    ) -> Result<CreatedRun, ServerError> {
        self.server.lane.call(self.creation(key, request)?).await
    }

    /// The operation that creates a run, once for each key.
    pub(crate) fn creation(&self, key: Option<String>, mut request: CreateRun) -> Result<Create, ServerError> {
        request.trace = request.trace.or_else(|| self.trace.clone());
        let hidden = |reference: &Reference| reference.id.starts_with(HIDDEN_REFERENCE);
        if request.reference.as_ref().is_some_and(hidden) {
            return Err(ServerError::Invalid("the reference id begins with a control character: give another".into()));
        }
        if let (None, Some(key)) = (&request.reference, key) {
            let conflict_policy = ConflictPolicy::ReturnExisting;
            request.reference = Some(Reference { id: format!("{HIDDEN_REFERENCE}{key}"), conflict_policy });
        }
        validate::create(&request, self.server.payload_limit, self.server.clock.now())?;
        Ok(Create { namespace: self.namespace.clone(), request })
    }

    /// The run with a reference id.
    pub(crate) async fn find_by_reference(
        &self,
        workflow: &WorkflowKey,
        reference_id: &str,
    ) -> Result<RunId, ServerError> {
        let key = ReferenceKey::of(&self.namespace, workflow, reference_id);
        let found = self.server.readers.read(move |store| store.by_reference(&[key])).await?;
        found.first().copied().flatten().ok_or_else(|| ServerError::ReferenceNotFound {
            workflow: workflow.clone(),
            reference_id: reference_id.to_owned(),
        })
    }
}
