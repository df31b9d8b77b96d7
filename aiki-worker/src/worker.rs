//! The worker as programs hold it.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use aiki_core::name::Name;
use aiki_core::server_client::WorkerServes;
use aiki_core::{Client, Clock, ServerClient, SubscriberFactory, WorkflowExecutor};
use aiki_runtime::Entropy;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::active::ActiveRuns;
use crate::backup::Route;
use crate::builder::WorkerBuilder;
use crate::dispatcher::Dispatcher;
use crate::error::WorkerError;
use crate::health::WorkerHealth;
use crate::heartbeat::Heartbeat;
use crate::lifecycle::{Control, End, Lifecycle};
use crate::measure::Meter;
use crate::pulse::Pulse;
use crate::reach::Reach;
use crate::registry::{Registry, RegistryHandle};
use crate::report::StopReport;
use crate::status::{Counters, WorkerStatus};
use crate::trace;

/// The server has so long to hear that the worker stops.
const FAREWELL: Duration = Duration::from_millis(250);

/// Checked settings.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Settings {
    pub(crate) slots: usize,
    pub(crate) lease: Duration,
    /// As used.
    pub(crate) heartbeat: Duration,
    /// As configured.
    pub(crate) configured_heartbeat: Duration,
    pub(crate) graceful: Duration,
    pub(crate) heartbeat_on_runtime: bool,
    /// No timers but those that keep claims.
    pub(crate) quiet: bool,
    /// How old a proof of consuming may be.
    pub(crate) readiness_limit: Duration,
}

/// What all parts of one worker share.
pub(crate) struct Shared {
    pub(crate) id: String,
    /// Unique per process start.
    pub(crate) name: Name,
    pub(crate) client: Client,
    pub(crate) factory: Arc<dyn SubscriberFactory>,
    /// How the server is reached.
    pub(crate) server_reach: Arc<Reach>,
    /// How the subscriber is reached; the same one when that asks the server.
    pub(crate) subscriber_reach: Arc<Reach>,
    /// Which way runs come; `None` when there is only one.
    pub(crate) route: Option<Arc<Route>>,
    pub(crate) pools: Vec<Name>,
    pub(crate) settings: Settings,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) entropy: Arc<dyn Entropy>,
    pub(crate) registry: Arc<Registry>,
    pub(crate) active: Arc<ActiveRuns>,
    pub(crate) executor: Arc<dyn WorkflowExecutor>,
    pub(crate) counters: Counters,
    pub(crate) control: watch::Sender<Control>,
    pub(crate) lifecycle: Lifecycle,
    pub(crate) pulse: Pulse,
    /// The server has been told what this worker serves.
    pub(crate) announced: AtomicBool,
    pub(crate) meter: Meter,
}

impl Shared {
    pub(crate) fn server(&self) -> &Arc<dyn ServerClient> {
        self.client.server()
    }

    fn empty_report(&self) -> StopReport {
        StopReport { worker: self.name.as_str().to_owned(), totals: self.counters.totals(), ..StopReport::default() }
    }
}

/// Executes runs. Clones are one worker.
///
/// A worker lives once: made, started, stopped. Two workers never disturb each other, even under the
/// same id: each process start has a name of its own, `<id>:<boot>`.
///
/// | call | meaning |
/// |---|---|
/// | `start` | works until somebody calls `stop`; resolves with the [`StopReport`] |
/// | `start` again | waits for the same end and resolves with the same report |
/// | drop the future of the first `start` | like calling `stop`; the stop goes on in the background |
/// | `stop` | resolves when the worker has stopped, with the same report |
/// | `stop` again, or at the same time | the same report |
/// | `stop` before `start` | the worker is over: a later `start` returns at once, without working |
///
/// A handler that blocks its thread and never yields cannot hang `stop` on a runtime with more than
/// one thread; on a runtime with one thread nothing else can run meanwhile.
#[derive(Clone)]
pub struct Worker {
    shared: Arc<Shared>,
}

impl Worker {
    /// Begins the making of a worker that works for this client's server and namespace.
    pub fn builder(client: Client) -> WorkerBuilder {
        WorkerBuilder::new(client)
    }

    pub(crate) fn from_shared(shared: Shared) -> Self {
        Self { shared: Arc::new(shared) }
    }

    /// Works until [`stop`](Self::stop) is called. While the server or the transport cannot be
    /// reached it tries again, later and later, and says so in the log.
    ///
    /// Dropping the future of the call that started the worker asks it to stop, gracefully and in the
    /// background. Dropping the future of a further call changes nothing.
    ///
    /// # Errors
    /// [`WorkerError::NothingRegistered`] and [`WorkerError::DuplicateWorkflow`] before anything
    /// began: set it right and start again. The others are final: the server refuses this worker, or
    /// its subscriber is misconfigured.
    pub async fn start(&self) -> Result<StopReport, WorkerError> {
        let shared = &self.shared;
        let begun = shared.lifecycle.begin(|| shared.registry.start());
        // Whoever spawned the worker may look at its answer only at the end.
        let begun = begun.inspect_err(|error| trace::not_started(shared.name.as_str(), error));
        let _stop_when_dropped = begun?.then(|| {
            let ending = Ending(shared.clone());
            tokio::spawn(work(ending));
            StopOnDrop(shared.control.clone())
        });
        match shared.lifecycle.ended().await {
            Some(End { error: Some(error), .. }) => Err(error),
            Some(End { report, error: None }) => Ok(report),
            None => Err(WorkerError::Crashed),
        }
    }

    /// Begins to work in the background, on the current tokio runtime.
    ///
    /// ```no_run
    /// # async fn example(worker: aiki_worker::Worker) -> Result<(), aiki_worker::WorkerError> {
    /// let running = worker.spawn();
    /// // ... until it is time to go:
    /// println!("{}", running.stop().await?);
    /// # Ok(()) }
    /// ```
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn spawn(&self) -> RunningWorker {
        let worker = self.clone();
        RunningWorker { worker: self.clone(), task: tokio::spawn(async move { worker.start().await }) }
    }

    /// Stops: takes nothing new, waits for running runs up to the graceful timeout, then cuts short
    /// and gives back what is left. The bodies of tasks that are cut short are told through
    /// [`TaskContext::cancellation`](aiki_core::TaskContext::cancellation) and may clean up for 400 ms;
    /// what they return is not recorded. (When a claim is lost they have 100 ms, less where the lease
    /// is shorter than 1.6 s.) Resolves when that is done, also when the worker failed by itself
    /// (then [`start`](Self::start) says why).
    ///
    /// Dropping the future does not take the stop back.
    pub async fn stop(&self) -> StopReport {
        let shared = &self.shared;
        shared.lifecycle.end_unstarted(|| shared.empty_report());
        shared.control.send_modify(|control| control.stop = true);
        match shared.lifecycle.ended().await {
            Some(end) => end.report,
            None => shared.empty_report(),
        }
    }

    /// Adds workflows: `worker.workflow_registry().add(&a).add(&b)`. Also while it runs.
    pub fn workflow_registry(&self) -> RegistryHandle {
        RegistryHandle::new(self.shared.registry.clone(), self.shared.control.clone())
    }

    /// Takes no new runs until [`resume_intake`](Self::resume_intake). What runs goes on.
    pub fn pause_intake(&self) {
        self.shared.control.send_modify(|control| control.paused = true);
    }

    /// Takes runs again.
    pub fn resume_intake(&self) {
        self.shared.control.send_modify(|control| control.paused = false);
    }

    /// The worker at this moment. Cheap enough for a health check every second.
    pub fn status(&self) -> WorkerStatus {
        let shared = &self.shared;
        let active = shared.active.show();
        WorkerStatus {
            id: shared.id.clone(),
            name: shared.name.as_str().to_owned(),
            phase: shared.lifecycle.phase(),
            paused: shared.control.borrow().paused,
            workflows: shared.registry.keys(),
            ignored_registrations: shared.registry.duplicates(),
            free_slots: shared.settings.slots.saturating_sub(active.len()),
            active,
            totals: shared.counters.totals(),
            last_receive_age: shared.active.ticks.since(shared.pulse.consumed()),
        }
    }

    /// Whether the worker does its work, by proof. Cheap enough for a probe every second; it answers also
    /// while a handler blocks the runtime.
    pub fn health(&self) -> WorkerHealth {
        let shared = &self.shared;
        let (ticks, control) = (shared.active.ticks, *shared.control.borrow());
        WorkerHealth {
            phase: shared.lifecycle.phase(),
            paused: control.paused,
            refused: control.refused,
            since_consume: ticks.since(shared.pulse.consumed()),
            starving: ticks.since(shared.pulse.starving()),
            since_tick: ticks.since(shared.pulse.ticked()),
            on_backup: shared.route.as_ref().is_some_and(|route| route.is_on_backup()),
            backup_switches: shared.route.as_ref().map_or(0, |route| route.switches()),
            held: shared.pulse.held(),
            oldest_lease: shared.active.oldest_lease(),
            readiness_limit: shared.settings.readiness_limit,
        }
    }

    /// The configured or generated id.
    pub fn id(&self) -> &str {
        &self.shared.id
    }

    /// The unique name of this process start: the owner of its claims.
    pub fn name(&self) -> &str {
        self.shared.name.as_str()
    }
}

impl fmt::Debug for Worker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Worker")
            .field("name", &self.shared.name)
            .field("phase", &self.shared.lifecycle.phase())
            .finish_non_exhaustive()
    }
}

/// A worker that was [spawned](Worker::spawn). Dropping this leaves it at work.
#[derive(Debug)]
#[must_use = "it says how the worker ended: keep it, and stop the worker through it"]
pub struct RunningWorker {
    worker: Worker,
    task: JoinHandle<Result<StopReport, WorkerError>>,
}

impl RunningWorker {
    /// The worker.
    pub fn worker(&self) -> &Worker {
        &self.worker
    }

    /// Stops the worker as [`Worker::stop`] does, and says how it ended.
    ///
    /// # Errors
    /// As [`Worker::start`].
    pub async fn stop(self) -> Result<StopReport, WorkerError> {
        self.worker.stop().await;
        self.ended().await
    }

    /// Ends the worker's future: the worker stops in the background, as if [`Worker::start`] had been dropped.
    pub fn cancel(self) {
        self.task.abort();
    }

    /// Waits until the worker has ended, because somebody stopped it or because it had to give up.
    ///
    /// # Errors
    /// As [`Worker::start`].
    pub async fn ended(self) -> Result<StopReport, WorkerError> {
        self.task.await.unwrap_or(Err(WorkerError::Crashed))
    }
}

async fn work(ending: Ending) {
    let shared = &ending.0;
    let settings = &shared.settings;
    if settings.heartbeat < settings.configured_heartbeat {
        trace::heartbeat_lowered(shared.name.as_str(), settings.configured_heartbeat, settings.heartbeat);
    }
    let heartbeat = Heartbeat::start(shared);
    let end = Dispatcher::new(shared.clone()).run().await;
    heartbeat.stop().await;
    farewell(shared).await;
    trace::stopped(&end.report);
    shared.lifecycle.finish(end);
}

/// Tells the server that this worker serves nothing any more, so that nobody takes it for one that was killed. A server
/// that does not answer at once finds out by its silence.
async fn farewell(shared: &Shared) {
    if shared.announced.load(Ordering::Relaxed) {
        let serves = WorkerServes { workflows: Vec::new(), pools: shared.pools.clone() };
        let told = shared.server().announce_worker(&shared.name, serves);
        // Whatever comes of it, the worker has stopped.
        let _ = timeout(FAREWELL, told).await;
    }
}

/// Says that the worker has ended, also when its task panicked or its runtime was shut down.
struct Ending(Arc<Shared>);

impl Drop for Ending {
    fn drop(&mut self) {
        let report = self.0.empty_report();
        self.0.lifecycle.finish(End { report, error: Some(WorkerError::Crashed) });
    }
}

struct StopOnDrop(watch::Sender<Control>);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.send_modify(|control| control.stop = true);
    }
}
