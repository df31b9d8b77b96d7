//! Everything in one process, in virtual time.

use std::fmt;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

use aiki_core::definition::{Task, WorkflowVersion};
use aiki_core::failure::HandlerError;
use aiki_core::{Client, Clock, RegisteredWorkflow, RunError, StartRun, Timestamp};
use aiki_server::Server;
use aiki_worker::{RunningWorker, Worker};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::task::JoinHandle;

use crate::broker::Broker;
use crate::builder::TestEnvBuilder;
use crate::clock::EnvClock;
use crate::crash::Switch;
use crate::faults::{Faults, Trouble};
use crate::mock::Mock;
use crate::stage::Stage;
use crate::time::EnvError;
use crate::workflows::Workflows;

/// The least time that can pass: enough for everything that can happen without more.
const A_MOMENT: Duration = Duration::from_millis(1);

/// A server, a queue and workers in this process, in virtual time: a workflow of thirty days ends in
/// milliseconds.
///
/// Time stands still while anything runs, and jumps to the next due moment when everything waits: a sleep, a
/// timeout, a retry, a schedule, a deadline. So `handle.wait().await` is enough to see a run to its end, and
/// [`advance`](Self::advance) lets just so much time pass. Workers and server are those of production; only
/// clock, queue and chance are others. The test itself is a plain `#[tokio::test]`: the environment stops the
/// time of its runtime. (A body that talks to the real world takes no virtual time and may see timers ring
/// early: give it a [mock](Self::mock).)
///
/// ```
/// use std::time::Duration;
/// use aiki_core::{Failure, Run, Task, TaskContext, Workflow};
/// use aiki_testing::TestEnv;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let charge = Task::new("charge", |_: TaskContext, cents: u64| async move { Ok::<_, Failure>(cents) });
/// let subscription = Workflow::new("subscription").version("1.0.0", {
///     let charge = charge.clone();
///     move |run: Run, cents: u64| {
///         let charge = charge.clone();
///         async move {
///             run.sleep("trial", Duration::from_secs(30 * 86_400)).await;
///             Ok::<_, Failure>(charge.start(&run, cents).await?)
///         }
///     }
/// });
///
/// let env = TestEnv::with([&subscription]).await?;
/// env.mock(&charge).returns(700);
/// let handle = env.start(&subscription, 500).await?;
/// env.advance(Duration::from_secs(29 * 86_400)).await;
/// env.assert_not_called(&charge);
/// assert_eq!(handle.wait().await?, 700);
/// env.assert_called_once_with(&charge, &500);
/// # Ok(()) }
/// ```
///
/// Clones are one environment. It ends when the last of them is dropped, or with [`shutdown`](Self::shutdown).
#[derive(Clone)]
pub struct TestEnv {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    server: Server,
    client: Client,
    clock: Arc<EnvClock>,
    pub(crate) broker: Broker,
    pub(crate) stage: Stage,
    workers: Vec<Worker>,
    running: Mutex<Vec<RunningWorker>>,
    recovery: JoinHandle<()>,
}

impl Inner {
    pub(crate) fn new(
        server: Server,
        client: Client,
        clock: Arc<EnvClock>,
        broker: Broker,
        stage: Stage,
        workers: Vec<Worker>,
    ) -> Self {
        let recovery = tokio::spawn(recover(server.clone(), stage.switch.clone()));
        let inner = Self { server, client, clock, broker, stage, workers, running: Mutex::default(), recovery };
        inner.start_workers();
        inner
    }

    /// Starts the workers once there is something to serve.
    fn start_workers(&self) {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        if running.is_empty() && self.workers.iter().all(|worker| !worker.status().workflows.is_empty()) {
            running.extend(self.workers.iter().map(Worker::spawn));
        }
    }

    fn take_running(&self) -> Vec<RunningWorker> {
        std::mem::take(&mut self.running.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        if std::thread::panicking()
            && let Some(trouble) = self.broker.trouble()
        {
            eprintln!("{}", trouble.faults);
        }
        self.recovery.abort();
        for running in self.take_running() {
            running.cancel();
        }
    }
}

/// The server takes back what workers held that have died, as at the start of a new process.
async fn recover(server: Server, switch: Switch) {
    let mut crashes = switch.crashes();
    while crashes.changed().await.is_ok() {
        // The dead have let go by then.
        tokio::task::yield_now().await;
        if server.take_back_orphans().await.is_err() {
            return;
        }
    }
}

impl TestEnv {
    /// An environment that serves these workflow versions: `TestEnv::with([&a])`, or
    /// `TestEnv::with((&a, &b))` where their types differ.
    ///
    /// # Errors
    /// As [`TestEnvBuilder::start`].
    pub async fn with(workflows: impl Workflows) -> Result<Self, EnvError> {
        Self::builder().workflows(workflows).start().await
    }

    /// An environment with more to say about it.
    pub fn builder() -> TestEnvBuilder {
        TestEnvBuilder::new()
    }

    /// A client of the environment's server: for starts with more to say, events, schedules, and for the code
    /// under test.
    pub fn client(&self) -> Client {
        self.inner.client.clone()
    }

    /// The workers.
    pub fn workers(&self) -> &[Worker] {
        &self.inner.workers
    }

    /// Serves a further workflow version from now on.
    pub fn register(&self, workflow: impl Into<RegisteredWorkflow>) {
        let workflow = workflow.into();
        for worker in &self.inner.workers {
            worker.workflow_registry().add(workflow.clone());
        }
        self.inner.start_workers();
    }

    /// Starts a run: await the answer, or say more about it first.
    pub fn start<I, O, E>(&self, workflow: &WorkflowVersion<I, O, E>, input: I) -> StartRun<O, E>
    where
        I: Serialize + DeserializeOwned + Send + 'static,
    {
        workflow.start(&self.inner.client, input)
    }

    /// Starts a run and waits for its end, however long that is in virtual time.
    ///
    /// # Errors
    /// [`RunError`], as the run's handle answers it. A run that never ends is an error that says what it
    /// waits for.
    ///
    /// # Panics
    /// When the run cannot be started.
    pub async fn run_to_end<I, O, E>(&self, workflow: &WorkflowVersion<I, O, E>, input: I) -> Result<O, RunError<E>>
    where
        I: Serialize + DeserializeOwned + Send + 'static,
        O: DeserializeOwned + 'static,
        E: HandlerError,
    {
        match self.start(workflow, input).await {
            Ok(handle) => handle.wait().await,
            Err(error) => panic!("a run of {} cannot be started: {error}", workflow.key()),
        }
    }

    /// The time, by the clock of server and workers.
    pub fn now(&self) -> Timestamp {
        self.inner.clock.now()
    }

    /// Lets so much time pass, and a millisecond in which what became due by then takes effect.
    pub async fn advance(&self, time: Duration) {
        tokio::time::sleep(time).await;
        self.settle().await;
    }

    /// Lets everything happen that can happen within a millisecond.
    pub async fn settle(&self) {
        tokio::time::sleep(A_MOMENT).await;
    }

    /// Puts a mock in the place of a task's body, for all tasks of that name: say what it answers. An earlier
    /// mock of the task is forgotten. Tasks without a mock run for real.
    pub fn mock<I, O, E>(&self, task: &Task<I, O, E>) -> Mock<I, O, E> {
        self.inner.stage.mocks.begin(task)
    }

    /// Lets the task's own body run again.
    pub fn unmock<I, O, E>(&self, task: &Task<I, O, E>) {
        self.inner.stage.mocks.remove(task.name());
    }

    /// What goes wrong from now on, in the place of what went wrong before.
    pub fn faults(&self, faults: Faults) {
        self.inner.broker.set_trouble(Some(Trouble::new(faults)));
    }

    /// Nothing goes wrong any more.
    pub fn no_faults(&self) {
        self.inner.broker.set_trouble(None);
    }

    /// The queue forgets all that it has, and everybody has to subscribe again.
    pub fn restart_broker(&self) {
        self.inner.broker.restart();
    }

    /// All workers die now, without a word: what they have under way is on no record. New ones take over at
    /// once, as after the start of a new process.
    pub fn crash_workers(&self) {
        self.inner.stage.switch.crash();
    }

    /// Ends the environment: workers stop, the server is closed. Dropping it does the same in the background.
    pub async fn shutdown(self) {
        for running in self.inner.take_running() {
            // How it ended does not matter any more.
            let _ = running.stop().await;
        }
        self.inner.server.close().await;
    }
}

impl fmt::Debug for TestEnv {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TestEnv").field("now", &self.now()).finish_non_exhaustive()
    }
}
