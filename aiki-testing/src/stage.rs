//! What stands between the calls of tasks and their bodies.

use std::sync::Arc;

use aiki_core::intercept::AttemptFuture;
use aiki_core::name::Source;
use aiki_core::{Clock, TaskAttempt, TaskInterceptor};

use crate::crash::Switch;
use crate::journal::Journal;
use crate::mock::Mocks;

/// Notes every attempt, lets mocks stand in, and is where a worker dies between effect and record.
#[derive(Clone)]
pub(crate) struct Stage {
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) journal: Journal,
    pub(crate) mocks: Mocks,
    pub(crate) switch: Switch,
}

impl TaskInterceptor for Stage {
    fn attempt(&self, attempt: TaskAttempt) -> AttemptFuture {
        // The engine's own work is nobody's to mock or to count.
        if attempt.workflow().source == Source::System {
            return attempt.run();
        }
        let name = attempt.name().to_owned();
        self.switch.begins(attempt.context().task_id(), &name);
        let place = self.journal.begin(&attempt, self.clock.now(), self.mocks.has(&name));
        let body = self.mocks.run(&attempt).unwrap_or_else(|| attempt.run());
        let stage = self.clone();
        Box::pin(async move {
            let result = body.await;
            stage.journal.end(place, &result);
            if stage.switch.effect(&name) {
                std::future::pending::<()>().await;
            }
            result
        })
    }
}
