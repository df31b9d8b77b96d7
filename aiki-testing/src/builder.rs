//! Making an environment.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use aiki_core::{Client, Clock, RegisteredWorkflow, Timestamp};
use aiki_runtime::{SeededEntropy, VirtualClock};
use aiki_server::Server;
use aiki_worker::{Worker, WorkerBuilder};
use tokio::sync::watch;

use crate::broker::{Broker, LEASE};
use crate::clock::EnvClock;
use crate::crash::{Mortal, Switch};
use crate::env::{Inner, TestEnv};
use crate::faults::{Faults, Trouble};
use crate::journal::Journal;
use crate::link::{Link, REPORTS, Side};
use crate::mock::Mocks;
use crate::stage::Stage;
use crate::time::{EnvError, make_virtual};
use crate::workflows::Workflows;

/// How many runs one worker of an environment executes at the same time.
const SLOTS: usize = 64;
/// Longer than this nobody waits for the end of a run.
const PATIENCE: Duration = Duration::from_secs(3_650 * 86_400);

type Change = Box<dyn Fn(WorkerBuilder) -> WorkerBuilder + Send>;

/// Says more about a [`TestEnv`] before it starts.
#[must_use = "an environment is made by `start()`"]
pub struct TestEnvBuilder {
    workflows: Vec<RegisteredWorkflow>,
    workers: usize,
    seed: u64,
    starting_at: Option<Timestamp>,
    patience: Duration,
    reports: u64,
    faults: Option<Faults>,
    worker: Change,
}

impl TestEnvBuilder {
    pub(crate) fn new() -> Self {
        Self {
            workflows: Vec::new(),
            workers: 1,
            seed: 0,
            starting_at: None,
            patience: PATIENCE,
            reports: REPORTS,
            faults: None,
            worker: Box::new(|worker| worker),
        }
    }

    /// Serves this workflow version.
    pub fn workflow(mut self, workflow: impl Into<RegisteredWorkflow>) -> Self {
        self.workflows.push(workflow.into());
        self
    }

    /// Serves these workflow versions.
    pub fn workflows(mut self, workflows: impl Workflows) -> Self {
        self.workflows.extend(workflows.registered());
        self
    }

    /// How many workers there are. One unless said otherwise.
    pub fn workers(mut self, workers: usize) -> Self {
        self.workers = workers.max(1);
        self
    }

    /// Where chance begins, for ids and delays. The same seed makes the same ids. 0 unless said otherwise.
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// The time at which it starts. 1 March 2026, 00:00 UTC unless said otherwise.
    pub fn starting_at(mut self, time: Timestamp) -> Self {
        self.starting_at = Some(time);
        self
    }

    /// How long the end of a run is waited for, in virtual time, before the wait fails and says what the run
    /// waits for. Ten years unless said otherwise: it costs no time when nothing happens.
    pub fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// How many reports the workers may write while the end of a run is waited for, before the wait fails: a run
    /// that goes round in circles must not keep its test for ever. 20,000 unless said otherwise.
    pub fn report_limit(mut self, reports: u64) -> Self {
        self.reports = reports;
        self
    }

    /// What goes wrong from the beginning on.
    pub fn faults(mut self, faults: Faults) -> Self {
        self.faults = Some(faults);
        self
    }

    /// Says more about the workers, such as their limits or pools.
    pub fn worker(mut self, change: impl Fn(WorkerBuilder) -> WorkerBuilder + Send + 'static) -> Self {
        self.worker = Box::new(change);
        self
    }

    /// Makes the time of this test virtual, unless it is already, and starts server and workers.
    ///
    /// # Errors
    /// [`EnvError`] outside of a tokio runtime, on one with several threads, and when a worker's settings
    /// are wrong.
    pub async fn start(self) -> Result<TestEnv, EnvError> {
        make_virtual()?;
        let clock = self.starting_at.map_or_else(VirtualClock::default, VirtualClock::starting_at);
        let clock = Arc::new(EnvClock(clock));
        let shared: Arc<dyn Clock> = clock.clone();
        let (broker, switch) = (Broker::new(), Switch::default());
        broker.set_trouble(self.faults.map(Trouble::new));
        let entropy = |part: u64| Arc::new(SeededEntropy::new(self.seed.wrapping_add(part << 32)));
        let builder = Server::builder().clock(shared.clone()).entropy(entropy(0)).publisher(Arc::new(broker.clone()));
        let server = builder.start().await.map_err(|error| EnvError::Start(error.to_string()))?;
        let link = Link {
            inner: server.client().server().clone(),
            side: Side::Caller(self.patience, self.reports),
            broker: broker.clone(),
            switch: switch.clone(),
            reports: watch::Sender::new(0),
        };
        let stage = Stage {
            clock: shared.clone(),
            journal: Journal::default(),
            mocks: Mocks::default(),
            switch: switch.clone(),
        };
        let mut workers = Vec::with_capacity(self.workers);
        for number in 1..=self.workers as u64 {
            let builder = Worker::builder(Client::new(Link { side: Side::Worker, ..link.clone() }))
                .id(format!("test-worker-{number}"))
                .max_concurrent_workflow_runs(SLOTS)
                .subscriber(broker.clone())
                .heartbeat_interval(LEASE / 3)
                .clock(shared.clone())
                .entropy(entropy(number))
                .fail_foreign_waits(true);
            let mortal = switch.clone();
            let worker = (self.worker)(builder)
                .task_interceptor(Arc::new(stage.clone()))
                .executor(move |inner| Arc::new(Mortal { inner, switch: mortal }))
                .quiet(true)
                .build()
                .map_err(|error| EnvError::Start(error.to_string()))?;
            for workflow in &self.workflows {
                worker.workflow_registry().add(workflow.clone());
            }
            workers.push(worker);
        }
        let client = Client::new(link);
        let env = TestEnv { inner: Arc::new(Inner::new(server, client, clock, broker, stage, workers)) };
        // What cannot start says so now, and everybody has subscribed before the first run comes.
        env.settle().await;
        Ok(env)
    }
}

impl fmt::Debug for TestEnvBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TestEnvBuilder").field("workflows", &self.workflows).finish_non_exhaustive()
    }
}
