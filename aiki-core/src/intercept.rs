//! Standing between a workflow's call of a task and the task's body.

use std::fmt;
use std::sync::Arc;

use crate::context::{BoxFuture, TaskBody, TaskContext};
use crate::failure::Failure;
use crate::name::WorkflowKey;
use crate::payload::Payload;

/// How an attempt ends: the output as it is recorded, or the failure.
pub type AttemptResult = Result<Option<Payload>, Failure>;

/// An attempt under way.
pub type AttemptFuture = BoxFuture<AttemptResult>;

/// One attempt of a task that is about to begin.
pub struct TaskAttempt {
    pub(crate) workflow: WorkflowKey,
    pub(crate) name: Arc<str>,
    pub(crate) context: TaskContext,
    pub(crate) input: Option<Payload>,
    pub(crate) body: TaskBody,
}

impl TaskAttempt {
    /// The workflow that calls the task.
    pub fn workflow(&self) -> &WorkflowKey {
        &self.workflow
    }

    /// The task's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What the body is told.
    pub fn context(&self) -> &TaskContext {
        &self.context
    }

    /// The task's input; `None` when it has none.
    pub fn input(&self) -> Option<&Payload> {
        self.input.as_ref()
    }

    /// Calls the task's own body.
    ///
    /// # Panics
    /// When the body is a closure that panics before it has made its future. The caller of the
    /// interceptor takes that for a failure of the attempt.
    pub fn run(self) -> AttemptFuture {
        (self.body)(self.context, self.input)
    }
}

impl fmt::Debug for TaskAttempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TaskAttempt").field("name", &self.name).field("context", &self.context).finish_non_exhaustive()
    }
}

/// Is asked for every attempt of every task of a worker, in the place of the task's body: it may watch
/// the attempt, or answer itself. What it returns is recorded as if the body had returned it.
///
/// Retries, time limits and panics are dealt with around it, as around a body.
pub trait TaskInterceptor: Send + Sync + 'static {
    /// Makes the attempt, by [`TaskAttempt::run`] or otherwise. The future may be dropped at any point, as
    /// a body may.
    fn attempt(&self, attempt: TaskAttempt) -> AttemptFuture;
}
