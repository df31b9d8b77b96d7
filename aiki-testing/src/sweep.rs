//! Trying a workflow with a crash at every point where one could matter.

use std::fmt;
use std::future::Future;
use std::pin::Pin;

use aiki_core::definition::WorkflowVersion;
use aiki_core::failure::HandlerError;
use aiki_core::{Payload, RegisteredWorkflow, RunError, RunHandle, RunState};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::builder::TestEnvBuilder;
use crate::crash::CrashPoint;
use crate::diff::{diff, pretty};
use crate::env::TestEnv;
use crate::workflows::Workflows;

/// At most so many points are tried; of more, every second, third and so on.
const POINTS: usize = 2_000;

type Prepare = Box<dyn Fn(&TestEnv) + Send + Sync>;
type Script<O, E> = Box<dyn Fn(TestEnv, RunHandle<O, E>) -> Pin<Box<dyn Future<Output = ()> + Send>> + Send + Sync>;
type Observe = Box<dyn Fn() -> Option<Payload> + Send + Sync>;
type Same<O> = Box<dyn Fn(&O, &O) -> bool + Send + Sync>;

/// Runs a workflow once, and then again and again with a crash of its worker: before and after every report
/// is written, after its answer, and between the effect of every task and its record. Whatever the point, the
/// run has to end with the same result, and no task may run again whose result is on record.
///
/// It finds handlers that depend on what is not recorded: chance, the time of day, a static, an answer from
/// outside of a task. For more than the call alone, see [`CrashSweep`].
///
/// ```
/// use aiki_core::{Failure, Run, Task, TaskContext, Workflow};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), aiki_testing::SweepFailure> {
/// let double = Task::new("double", |_: TaskContext, n: u32| async move { Ok::<_, Failure>(n * 2) });
/// let four_times = Workflow::new("four-times").version("1.0.0", move |run: Run, n: u32| {
///     let double = double.clone();
///     async move {
///         let twice = double.start(&run, n).await?;
///         Ok::<_, Failure>(double.start(&run, twice).await?)
///     }
/// });
/// let report = aiki_testing::crash_sweep(&four_times, 3).await?;
/// assert!(report.points().len() >= 8, "{report}");
/// # Ok(()) }
/// ```
///
/// # Errors
/// [`SweepFailure`] with the first point at which something else came out.
pub async fn crash_sweep<I, O, E>(workflow: &WorkflowVersion<I, O, E>, input: I) -> Result<SweepReport, SweepFailure>
where
    I: Serialize + DeserializeOwned + Send + 'static,
    O: Serialize + DeserializeOwned + Send + 'static,
    E: HandlerError,
{
    CrashSweep::of(workflow).run(input).await
}

/// A [`crash_sweep`] with more to say about it: mocks, further workflows, events on the way, and what must
/// not happen twice.
#[must_use = "a sweep begins with `run(..)`"]
pub struct CrashSweep<I, O, E> {
    workflow: WorkflowVersion<I, O, E>,
    others: Vec<RegisteredWorkflow>,
    prepare: Vec<Prepare>,
    script: Option<Script<O, E>>,
    observe: Option<Observe>,
    same: Option<Same<O>>,
}

impl<I, O, E> CrashSweep<I, O, E>
where
    I: Serialize + DeserializeOwned + Send + 'static,
    O: Serialize + DeserializeOwned + Send + 'static,
    E: HandlerError,
{
    /// A sweep over runs of this version.
    pub fn of(workflow: &WorkflowVersion<I, O, E>) -> Self {
        let workflow = workflow.clone();
        Self { workflow, others: Vec::new(), prepare: Vec::new(), script: None, observe: None, same: None }
    }

    /// Further workflow versions, such as those of its children.
    pub fn workflows(mut self, workflows: impl Workflows) -> Self {
        self.others.extend(workflows.registered());
        self
    }

    /// Does this before every try, with its environment: mocks, and the world as it is at the beginning.
    pub fn prepare(mut self, prepare: impl Fn(&TestEnv) + Send + Sync + 'static) -> Self {
        self.prepare.push(Box::new(prepare));
        self
    }

    /// Does this beside every run: send events, for instance.
    pub fn beside<F, Fut>(mut self, script: F) -> Self
    where
        F: Fn(TestEnv, RunHandle<O, E>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        self.script = Some(Box::new(move |env, handle| Box::pin(script(env, handle))));
        self
    }

    /// Looks at the world after every try: it has to be the same, whatever the crash. So effects outside of
    /// tasks are found, and tasks that cannot stand to be repeated. Set the world back in
    /// [`prepare`](Self::prepare).
    pub fn observe<T: Serialize>(mut self, observe: impl Fn() -> T + Send + Sync + 'static) -> Self {
        self.observe = Some(Box::new(move || Payload::of(&observe()).ok()));
        self
    }

    /// Compares outputs in this way, where some part of them may differ.
    pub fn same_if(mut self, same: impl Fn(&O, &O) -> bool + Send + Sync + 'static) -> Self {
        self.same = Some(Box::new(same));
        self
    }

    /// Runs the sweep.
    ///
    /// # Errors
    /// [`SweepFailure`] with the first point at which something else came out, or without a point when the
    /// run does not even end without a crash.
    pub async fn run(self, input: I) -> Result<SweepReport, SweepFailure> {
        let fail = |point, why: String, report: &SweepReport| SweepFailure { point, why, report: report.clone() };
        let mut report = SweepReport::default();
        let input = Payload::encode(&input).map_err(|error| fail(None, error.to_string(), &report))?;
        let clean = self.one(input.as_ref(), None).await.map_err(|why| fail(None, why, &report))?;
        let points = points(&clean);
        let step = points.len().div_ceil(POINTS).max(1);
        report.left_out = points.len() - points.len().div_ceil(step);
        for (point, what) in points.into_iter().step_by(step) {
            let tried = self.one(input.as_ref(), Some(point)).await;
            report.points.push(SweptPoint { point, what });
            let tried = tried.map_err(|why| fail(Some(point), why, &report))?;
            report.unreached += usize::from(!tried.fired);
            self.compare(&clean, &tried).map_err(|why| fail(Some(point), why, &report))?;
        }
        Ok(report)
    }

    async fn one(&self, input: Option<&Payload>, point: Option<CrashPoint>) -> Result<Tried, String> {
        let builder: TestEnvBuilder = TestEnv::builder().workflow(&self.workflow).workflows(self.others.clone());
        let env = builder.start().await.map_err(|error| error.to_string())?;
        for prepare in &self.prepare {
            prepare(&env);
        }
        let switch = env.inner.stage.switch.clone();
        if let Some(point) = point {
            switch.arm(point);
        }
        let input = Payload::decode::<I>(input).map_err(|error| error.to_string())?;
        let handle = env.start(&self.workflow, input).await.map_err(|error| error.to_string())?;
        let ended = match &self.script {
            None => handle.wait().await,
            Some(script) => tokio::join!(handle.wait(), script(env.clone(), handle.clone())).0,
        };
        if let Err(RunError::Server(error)) = ended {
            return Err(error.to_string());
        }
        let state = handle.state().await.map_err(|error| error.to_string())?;
        // A crash behind the last report is one as well.
        env.settle().await;
        let (reports, effects) = switch.seen();
        let tried = Tried {
            state,
            reports,
            effects,
            repeated: switch.repeated(),
            seen: self.observe.as_ref().and_then(|observe| observe()),
            fired: switch.has_fired(),
        };
        env.shutdown().await;
        Ok(tried)
    }

    fn compare(&self, clean: &Tried, tried: &Tried) -> Result<(), String> {
        if let Some(task) = tried.repeated.first() {
            return Err(format!("task `{task}` ran again although its result was on record"));
        }
        let same = match (&self.same, clean.read::<O>(), tried.read::<O>()) {
            (Some(same), Some(clean), Some(tried)) => same(&clean, &tried),
            _ => clean.state == tried.state,
        };
        if !same {
            return Err(format!(
                "the run ended differently than without a crash. Its handler depends on something that is not \
                 recorded: chance, a clock, a static, or an answer from outside of a task.\n{}",
                diff(&shown(&clean.state), &shown(&tried.state))
            ));
        }
        if pretty(clean.seen.as_ref()) != pretty(tried.seen.as_ref()) {
            return Err(format!(
                "what is observed afterwards differs. Either there is an effect outside of a task, or a task that \
                 was repeated does not recognise so: hand its `idempotency_key()` to the service.\n{}",
                diff(&pretty(clean.seen.as_ref()), &pretty(tried.seen.as_ref()))
            ));
        }
        Ok(())
    }
}

impl<I, O, E> fmt::Debug for CrashSweep<I, O, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CrashSweep").field("workflow", &self.workflow).finish_non_exhaustive()
    }
}

/// What came of one try.
struct Tried {
    state: RunState,
    reports: Vec<String>,
    effects: Vec<String>,
    repeated: Vec<String>,
    seen: Option<Payload>,
    fired: bool,
}

impl Tried {
    /// The output, where there is one.
    fn read<O: DeserializeOwned>(&self) -> Option<O> {
        match &self.state {
            RunState::Completed { output } => Payload::decode(output.as_ref()).ok(),
            _ => None,
        }
    }
}

fn shown(state: &RunState) -> String {
    pretty(Payload::of(state).ok().as_ref())
}

/// Every point at which a crash could matter, with what happened there without one.
fn points(clean: &Tried) -> Vec<(CrashPoint, String)> {
    let mut points = Vec::new();
    for (number, what) in (1..).zip(&clean.reports) {
        let around = [CrashPoint::BeforeReport, CrashPoint::BeforeAnswer, CrashPoint::AfterAnswer];
        points.extend(around.map(|point| (point(number), what.clone())));
    }
    points.extend((1..).zip(&clean.effects).map(|(number, what)| (CrashPoint::AfterEffect(number), what.clone())));
    points
}

/// A point that was tried.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SweptPoint {
    /// The point.
    pub point: CrashPoint,
    /// What the report said, or which task it was.
    pub what: String,
}

/// The points that a sweep tried.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SweepReport {
    points: Vec<SweptPoint>,
    left_out: usize,
    unreached: usize,
}

impl SweepReport {
    /// The points, in the order in which they were tried.
    pub fn points(&self) -> &[SweptPoint] {
        &self.points
    }

    /// How many points were left out, because there were too many.
    pub fn left_out(&self) -> usize {
        self.left_out
    }

    /// How many points were not reached, because the run took another course than at first.
    pub fn unreached(&self) -> usize {
        self.unreached
    }
}

impl fmt::Display for SweepReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} points were tried", self.points.len())?;
        if self.left_out > 0 {
            write!(f, ", {} left out", self.left_out)?;
        }
        if self.unreached > 0 {
            write!(f, ", {} of them not reached", self.unreached)?;
        }
        for SweptPoint { point, what } in &self.points {
            write!(f, "\n  {point} ({what})")?;
        }
        Ok(())
    }
}

/// A crash that made a difference.
#[derive(Clone, PartialEq, Eq)]
pub struct SweepFailure {
    point: Option<CrashPoint>,
    why: String,
    report: SweepReport,
}

impl SweepFailure {
    /// Where the workers died; `None` when the run did not even end without a crash.
    pub fn point(&self) -> Option<CrashPoint> {
        self.point
    }

    /// What was tried, the failing point last.
    pub fn report(&self) -> &SweepReport {
        &self.report
    }
}

impl fmt::Display for SweepFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.point {
            None => write!(f, "without any crash: {}", self.why),
            Some(point) => {
                let what = self.report.points.last().map_or("", |last| &last.what);
                write!(f, "a crash {point} ({what}): {}", self.why)?;
                write!(f, "\n{} points were tried before", self.report.points.len() - 1)
            }
        }
    }
}

aiki_core::debug_as_display!(SweepFailure);

impl std::error::Error for SweepFailure {}
