//! Making a worker.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use aiki_core::gate::TaskGate;
use aiki_core::name::Name;
use aiki_core::payload::DEFAULT_PAYLOAD_LIMIT;
use aiki_core::replay::MachineConfig;
use aiki_core::time::ceil_millis;
use aiki_core::{Client, Clock, SubscriberFactory, TaskInterceptor, WorkflowExecutor};
use aiki_runtime::{Entropy, SystemClock, SystemEntropy};
use tokio::sync::watch;

use crate::active::ActiveRuns;
use crate::backup::BackupSubscribers;
use crate::claim_subscriber::{ClaimSubscriber, DEFAULT_LEASE};
use crate::config::{
    ConfigError, DEFAULT_HEARTBEAT, SubscriberConfig, WorkerConfig, effective_heartbeat, heartbeat_against_lease,
};
use crate::executor::{ReplayExecutor, after_loss};
use crate::lifecycle::{Control, Lifecycle};
use crate::limits::{Limit, Limits};
use crate::measure::Meter;
use crate::pulse::Pulse;
use crate::reach::{Reach, Whom};
use crate::registry::Registry;
use crate::status::Counters;
use crate::worker::{Settings, Shared, Worker};

/// How old the proof may be that a worker consumes.
const DEFAULT_READINESS_LIMIT: Duration = Duration::from_secs(15);

type Decorator = Box<dyn FnOnce(Arc<dyn WorkflowExecutor>) -> Arc<dyn WorkflowExecutor> + Send>;

/// Makes a [`Worker`]. Every setting has a default; [`build`](Self::build) checks them all.
#[must_use = "a worker is made by `build()`"]
pub struct WorkerBuilder {
    client: Client,
    config: WorkerConfig,
    subscriber: Option<Arc<dyn SubscriberFactory>>,
    pools: Vec<Name>,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    payload_limit: usize,
    decorators: Vec<Decorator>,
    interceptor: Option<Arc<dyn TaskInterceptor>>,
    heartbeat_on_runtime: bool,
    quiet: bool,
    fail_foreign_waits: bool,
    task_limits: HashMap<String, Limit>,
    workflow_limits: HashMap<String, Limit>,
    backup: bool,
    readiness_limit: Duration,
}

impl WorkerBuilder {
    pub(crate) fn new(client: Client) -> Self {
        Self {
            client,
            config: WorkerConfig::default(),
            subscriber: None,
            pools: Vec::new(),
            clock: Arc::new(SystemClock),
            entropy: Arc::new(SystemEntropy),
            payload_limit: DEFAULT_PAYLOAD_LIMIT,
            decorators: Vec::new(),
            interceptor: None,
            heartbeat_on_runtime: false,
            quiet: false,
            fail_foreign_waits: false,
            task_limits: HashMap::new(),
            workflow_limits: HashMap::new(),
            backup: true,
            readiness_limit: DEFAULT_READINESS_LIMIT,
        }
    }

    /// Takes over a whole configuration. Calls after this one win over it.
    pub fn config(mut self, config: WorkerConfig) -> Self {
        self.config = config;
        self
    }

    /// The worker's name: 1 to 96 letters, digits and `. _ / -`. Generated unless set.
    pub fn id(mut self, id: impl Into<String>) -> Self {
        self.config.id = Some(id.into());
        self
    }

    /// How many runs are executed at the same time. Default 1.
    pub fn max_concurrent_workflow_runs(mut self, runs: usize) -> Self {
        self.config.max_concurrent_workflow_runs = runs;
        self
    }

    /// Through what runs are received, whatever the configuration says; while it fails, they are claimed
    /// straight from the server. Default: always straight from the server, by [`ClaimSubscriber`].
    pub fn subscriber(self, subscriber: impl SubscriberFactory) -> Self {
        self.shared_subscriber(Arc::new(subscriber))
    }

    /// Like [`subscriber`](Self::subscriber), for one that is shared or chosen at run time.
    pub fn shared_subscriber(mut self, subscriber: Arc<dyn SubscriberFactory>) -> Self {
        self.subscriber = Some(subscriber);
        self
    }

    /// Whether ready runs are claimed straight from the server while the subscriber fails. Default: yes. A
    /// subscriber that claims from the server anyway has no backup.
    pub fn backup_subscriber(mut self, backup: bool) -> Self {
        self.backup = backup;
        self
    }

    /// The subscriber's section of the configuration, unless an explicit subscriber wins over it:
    /// for whoever makes a subscriber of it.
    pub fn unresolved_subscriber(&self) -> Option<&SubscriberConfig> {
        self.config.subscriber.as_ref().filter(|_| self.subscriber.is_none())
    }

    /// How often claims are prolonged. Default 30 s. When set, at most half of the subscriber's
    /// `claim_min_idle_time`. A third of that is used when this is longer.
    pub fn heartbeat_interval(mut self, interval: Duration) -> Self {
        self.config.workflow_run.heartbeat_interval_ms = Some(ceil_millis(interval));
        self
    }

    /// How long a stop waits for running runs. Default 5 s.
    pub fn graceful_shutdown_timeout(mut self, timeout: Duration) -> Self {
        self.config.graceful_shutdown_timeout_ms = ceil_millis(timeout);
        self
    }

    /// Makes the worker a member of a pool; it then takes the runs that are reserved for its pools.
    pub fn pool(mut self, pool: impl Into<Name>) -> Self {
        self.pools.push(pool.into());
        self
    }

    /// What tells the time to handlers, set right by the server's at each claim. Default: the system's clock.
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// The source of chance for names and delays. Default: the system's randomness. Two workers
    /// under one id need different sequences.
    pub fn entropy(mut self, entropy: Arc<dyn Entropy>) -> Self {
        self.entropy = entropy;
        self
    }

    /// The largest input or output of a task, and output of a run, in bytes. Default 1 MB.
    pub fn payload_limit(mut self, bytes: usize) -> Self {
        self.payload_limit = bytes;
        self
    }

    /// Wraps the executor, to measure or disturb it. The last call is the outermost.
    pub fn executor(
        mut self,
        decorator: impl FnOnce(Arc<dyn WorkflowExecutor>) -> Arc<dyn WorkflowExecutor> + Send + 'static,
    ) -> Self {
        self.decorators.push(Box::new(decorator));
        self
    }

    /// Stands between the calls of tasks and their bodies, attempt by attempt: to watch them, or to answer
    /// in their place. The last call counts.
    pub fn task_interceptor(mut self, interceptor: Arc<dyn TaskInterceptor>) -> Self {
        self.interceptor = Some(interceptor);
        self
    }

    /// Sets no timers of its own: none while the worker executes nothing, and otherwise only those that keep
    /// its claims, which run as with [`heartbeat_on_runtime`](Self::heartbeat_on_runtime). For tests with
    /// virtual time, which stops at every timer. The worker's [health](Worker::health) then says nothing, and
    /// the server forgets what an idle worker serves.
    pub fn quiet(mut self, quiet: bool) -> Self {
        self.quiet = quiet;
        self
    }

    /// Runs the heartbeats on the worker's own runtime instead of a thread of their own: for tests
    /// with virtual time. A handler that blocks the runtime then costs its claim.
    pub fn heartbeat_on_runtime(mut self, on_runtime: bool) -> Self {
        self.heartbeat_on_runtime = on_runtime;
        self
    }

    /// How old the proof may be that the worker consumes, before its [health](Worker::health) is not ready
    /// any more. Default 15 s; longer than a `receive` of the subscriber may wait.
    pub fn readiness_limit(mut self, limit: Duration) -> Self {
        self.readiness_limit = limit;
        self
    }

    /// Fails a run whose handler has waited for a second for something that is not durable, instead
    /// of only warning.
    ///
    /// Only a handler that waits for nothing else is noticed. A timer of the runtime *beside* a durable
    /// step is not: see [foreign timers](crate#foreign-timers).
    pub fn fail_foreign_waits(mut self, fail: bool) -> Self {
        self.fail_foreign_waits = fail;
        self
    }

    /// Limits the runs of one workflow, whatever their version, that this worker works on. A run that
    /// waits for its turn occupies one of the worker's slots, so give it enough of them, or a worker of
    /// its own. To limit runs over all workers, start them with a
    /// [concurrency key](aiki_core::StartRun::concurrency).
    pub fn workflow_limit(mut self, workflow: impl Into<String>, limit: Limit) -> Self {
        self.workflow_limits.insert(workflow.into(), limit);
        self
    }

    /// Limits the tasks of one name on this worker. The time limits of an attempt begin when its turn
    /// has come.
    pub fn task_limit(mut self, task: impl Into<String>, limit: Limit) -> Self {
        self.task_limits.insert(task.into(), limit);
        self
    }

    /// Checks everything and makes the worker. Nothing is sent yet.
    ///
    /// # Errors
    /// [`ConfigError`] names the setting as the configuration's key, and what to do. A configuration
    /// that names a subscriber needs an explicit one here.
    pub fn build(self) -> Result<Worker, ConfigError> {
        self.config.validate()?;
        if let Some(subscriber) = self.unresolved_subscriber() {
            return Err(ConfigError::unresolved_subscriber(&subscriber.kind));
        }
        let boot = self.entropy.next_u64();
        let id = self.config.id.clone().unwrap_or_else(|| format!("worker-{:08x}", self.entropy.next_u64() >> 32));
        let name = Name::from(format!("{id}:{:012x}", boot >> 16));
        let claims = ClaimSubscriber::new(&self.client).owner(name.clone()).entropy(self.entropy.clone());
        let factory = self.subscriber.unwrap_or_else(|| Arc::new(claims.clone()));
        let lease = factory.claim_min_idle_time().unwrap_or(DEFAULT_LEASE);
        let meter = Meter::of(&id);
        let (factory, route) = match self.backup && !factory.claims_from_server() {
            false => (factory, None),
            true => {
                // It must not keep anybody from asking the primary again.
                let backed = BackupSubscribers::new(factory, claims.lease(lease).wait(Duration::ZERO));
                let backed = backed.entropy(self.entropy.clone()).meter(meter.clone());
                let route = backed.route();
                (Arc::new(backed) as Arc<dyn SubscriberFactory>, Some(route))
            }
        };
        if let Some(heartbeat) = self.config.heartbeat_interval() {
            heartbeat_against_lease(heartbeat, lease)?;
        }
        let configured_heartbeat = self.config.heartbeat_interval().unwrap_or(DEFAULT_HEARTBEAT);
        let settings = Settings {
            slots: self.config.max_concurrent_workflow_runs,
            lease,
            heartbeat: effective_heartbeat(configured_heartbeat, lease),
            configured_heartbeat,
            graceful: self.config.graceful_shutdown_timeout(),
            heartbeat_on_runtime: self.heartbeat_on_runtime || self.quiet,
            quiet: self.quiet,
            readiness_limit: self.readiness_limit,
        };
        let limits = Limits::new(self.task_limits);
        let turns = Limits::new(self.workflow_limits);
        let gate = (!limits.is_empty()).then(|| Arc::new(limits) as Arc<dyn TaskGate>);
        let (registry, active) = {
            let system = aiki_core::system::cancel_children(self.client.server().clone());
            (Arc::new(Registry::new(system)), Arc::new(ActiveRuns::new()))
        };
        let server_reach = Arc::new(Reach::new(&name, Whom::Server));
        let subscriber_reach = match factory.claims_from_server() {
            true => server_reach.clone(),
            false => Arc::new(Reach::new(&name, Whom::Subscriber)),
        };
        let own: Arc<dyn WorkflowExecutor> = Arc::new(ReplayExecutor {
            server: self.client.server().clone(),
            reach: server_reach.clone(),
            registry: registry.clone(),
            active: active.clone(),
            clock: self.clock.clone(),
            entropy: self.entropy.clone(),
            machine: MachineConfig { payload_limit: self.payload_limit, ..MachineConfig::default() },
            fail_foreign_waits: self.fail_foreign_waits,
            gate,
            interceptor: self.interceptor,
            turns,
            lost_clean_up: after_loss(lease),
            meter: meter.clone(),
        });
        let executor = self.decorators.into_iter().fold(own, |inner, decorate| decorate(inner));
        Ok(Worker::from_shared(Shared {
            id,
            name,
            client: self.client,
            factory,
            server_reach,
            subscriber_reach,
            route,
            pools: self.pools,
            settings,
            clock: self.clock,
            entropy: self.entropy,
            registry,
            active,
            executor,
            counters: Counters::default(),
            control: watch::Sender::new(Control::default()),
            lifecycle: Lifecycle::new(),
            pulse: Pulse::default(),
            announced: AtomicBool::new(false),
            meter,
        }))
    }
}

impl fmt::Debug for WorkerBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WorkerBuilder").field("config", &self.config).finish_non_exhaustive()
    }
}
