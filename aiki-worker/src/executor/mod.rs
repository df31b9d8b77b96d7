//! Executing one claimed run: the handler is replayed, and what it brings forward is reported.

mod clean_up;
mod clock;
mod drive;
mod quiet;
mod reporting;
mod signals;

use std::sync::Arc;
use std::time::Duration;

use aiki_core::gate::TaskGate;
use aiki_core::replay::{Close, MachineConfig, Pass};
use aiki_core::server_client::ClaimedRun;
use aiki_core::{Clock, ExecutionScope, Outcome, ServerClient, TaskInterceptor, WorkflowExecutor};
use aiki_runtime::Entropy;
use async_trait::async_trait;

use crate::active::{ActiveRuns, Watch};
use crate::limits::Limits;
use crate::measure::Meter;
use crate::reach::Reach;
use crate::registry::Registry;
use crate::trace;
pub(crate) use clean_up::after_loss;
use clock::PassClock;
use drive::Drive;
use quiet::Handler;

/// The worker's own executor.
pub(crate) struct ReplayExecutor {
    pub(crate) server: Arc<dyn ServerClient>,
    /// How it is reached.
    pub(crate) reach: Arc<Reach>,
    pub(crate) registry: Arc<Registry>,
    pub(crate) active: Arc<ActiveRuns>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) entropy: Arc<dyn Entropy>,
    pub(crate) machine: MachineConfig,
    pub(crate) fail_foreign_waits: bool,
    /// Limits on the tasks of this worker.
    pub(crate) gate: Option<Arc<dyn TaskGate>>,
    pub(crate) interceptor: Option<Arc<dyn TaskInterceptor>>,
    /// Limits on the runs of this worker, by the name of their workflow.
    pub(crate) turns: Limits,
    /// How long bodies may clean up after the claim was lost.
    pub(crate) lost_clean_up: Duration,
    pub(crate) meter: Meter,
}

#[async_trait]
impl WorkflowExecutor for ReplayExecutor {
    async fn execute(&self, claim: ClaimedRun, scope: ExecutionScope) -> Outcome {
        let (run, epoch) = (claim.record.id, claim.epoch);
        let Some(workflow) = self.registry.get(&claim.record.workflow) else {
            trace::not_registered(run, &claim.record.workflow);
            return Outcome::Interrupted;
        };
        let workflow_key = claim.record.workflow.clone();
        // Before anything else takes time.
        let clock = Arc::new(PassClock::new(self.clock.clone(), claim.granted_at));
        let _turn = tokio::select! {
            biased;
            turn = self.turns.enter(workflow_key.name.as_str()) => turn,
            () = scope.lost.cancelled() => return Outcome::Closed(Close::Lost),
            () = scope.interrupted.cancelled() => return Outcome::Interrupted,
        };
        let active = self.active.get(run);
        let unwatched = Watch::default();
        let watch = active.as_ref().map_or(&unwatched, |active| &active.watch);
        let mut handler = Handler::new(&claim.record, watch, self.active.ticks);
        // A handler may be a closure that works before it returns its future.
        let pass = handler.surround(claim.record.seen.is_some(), {
            let clock = clock.clone();
            let machine = self.machine;
            let (gate, interceptor) = (self.gate.clone(), self.interceptor.clone());
            move || Pass::intercepted(claim, &workflow, clock, machine, gate, interceptor)
        });
        let history = pass.history();
        if history.is_nearly_full() {
            trace::history_nearly_full(run, &workflow_key, history);
        }
        Drive { executor: self, run, epoch, workflow: workflow_key, scope, watch, handler, pass, clock, live: false }
            .run()
            .await
    }
}
