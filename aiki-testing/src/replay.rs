//! Replaying a recorded run against the code of today.

use std::fmt;
use std::sync::Arc;
use std::task::{Context, Waker};
use std::time::Duration;

use aiki_core::definition::WorkflowVersion;
use aiki_core::intercept::AttemptFuture;
use aiki_core::replay::{MachineConfig, Pass, PassStep};
use aiki_core::run::export::RunExport;
use aiki_core::run::history::Entry;
use aiki_core::run::{FailureCause, RunRecord, RunState};
use aiki_core::server_client::ClaimedRun;
use aiki_core::{Clock, Report, TaskAttempt, TaskInterceptor, Timestamp, Transition};

use crate::crash::describe;
use crate::diff::{diff, pretty, same};

/// A handler that is polled more often than this goes round in circles.
const POLLS: usize = 1_000_000;

/// What replay found when code and record agree.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Replayed {
    /// How many entries the history has.
    pub entries: usize,
    /// Whether the run has ended on record, and the code came to the same end.
    pub ended: bool,
    /// What the code would do next, behind the record; `None` when it waits or has ended.
    pub next: Option<String>,
}

/// Where code and record part ways.
#[derive(Clone, PartialEq, Eq)]
pub struct Divergence {
    entry: usize,
    entries: usize,
    at: Timestamp,
    text: String,
}

impl Divergence {
    /// The first entry of the history that the code does not account for, from 0. As many as there are entries
    /// when the code goes on behind the record's end.
    pub fn entry(&self) -> usize {
        self.entry
    }

    /// What is wrong. Where a worker would have found the divergence, it is the text of its
    /// `NonDeterminismError`.
    pub fn text(&self) -> &str {
        &self.text
    }
}

impl fmt::Display for Divergence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { entry, entries, at, text } = self;
        if entry == entries {
            write!(f, "behind the last of {entries} entries: {text}")
        } else {
            write!(f, "at entry {entry} of {entries}, of {at}: {text}")
        }
    }
}

aiki_core::debug_as_display!(Divergence);

impl std::error::Error for Divergence {}

/// Replays a run that was exported against this code: its handler gets every recorded outcome, and no task is
/// executed. Keep exports of real runs beside the tests, and a change that would break runs under way fails
/// there.
///
/// ```
/// use aiki_core::{Failure, Run, Task, TaskContext, Workflow};
/// use aiki_testing::{TestEnv, replay};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let of = |task: &'static str| Workflow::new("orders").version("1.0.0", move |run: Run, n: u32| async move {
///     let task = Task::new(task, |_: TaskContext, n: u32| async move { Ok::<_, Failure>(n + 1) });
///     Ok::<_, Failure>(task.start(&run, n).await?)
/// });
/// let orders = of("charge");
/// let env = TestEnv::with([&orders]).await?;
/// let handle = env.start(&orders, 1).await?;
/// handle.wait().await?;
/// let export = handle.export().await?; // or `RunExport::from_json(include_str!("order-42.json"))?`
///
/// assert!(replay(&orders, &export)?.ended);
/// let divergence = replay(&of("charge-card"), &export).unwrap_err();
/// assert!(divergence.to_string().contains("calls task `charge-card`, which is not recorded"));
/// # Ok(()) }
/// ```
///
/// The name of the version does not matter: what is compared is what the code does. A run that continued as new
/// is replayed from there on. A run that failed because of its surroundings (a deadline, a lost worker) or was
/// cancelled is compared as far as its record goes.
///
/// # Errors
/// [`Divergence`] says at which entry code and record part ways, and how.
pub fn replay<I, O, E>(workflow: &WorkflowVersion<I, O, E>, export: &RunExport) -> Result<Replayed, Divergence> {
    let record = RunRecord::fold(&export.head, export.history.iter().cloned());
    let claim = ClaimedRun {
        record,
        epoch: export.head.epoch + 1,
        lease: Duration::from_secs(60),
        history_limit: u32::MAX,
        granted_at: None,
    };
    let clock = Arc::new(Standing(export.exported_at));
    let (config, nobody) = (MachineConfig::default(), Arc::new(Nobody));
    let pass = Pass::intercepted(claim, &workflow.register(), clock, config, None, Some(nobody));
    Replay { export, pass }.run()
}

struct Replay<'a> {
    export: &'a RunExport,
    pass: Pass,
}

/// How the handler came to rest.
enum Rest {
    Reports(Report),
    /// It waits for a step that is on record and has not ended, or for something that is not durable.
    Waits,
}

impl Replay<'_> {
    fn run(mut self) -> Result<Replayed, Divergence> {
        let Some(rest) = self.rest() else {
            return Err(self.parted(format!("the handler was polled {POLLS} times and did not come to rest")));
        };
        let done: Vec<Transition> = match rest {
            Rest::Reports(report) => report.transitions,
            Rest::Waits => Vec::new(),
        };
        if let Some(error) = done.iter().find_map(|transition| match transition {
            Transition::Failed { cause: FailureCause::Own(error) } if error.name == "NonDeterminismError" => {
                Some(error)
            }
            _ => None,
        }) {
            return Err(self.parted(error.message.clone()));
        }
        // What a handler reads of the time behind the record is nobody's divergence.
        let new: Vec<&Transition> =
            done.iter().filter(|transition| !matches!(transition, Transition::TimeRead { .. })).collect();
        match (self.end(), &new[..]) {
            (None, _) => {
                let next = (!new.is_empty()).then(|| describe(&done));
                Ok(self.agreed(false, next))
            }
            (Some(end), [only]) if ends_as(end, only) => self.all_asked_for(),
            (Some(end), [only]) if is_end(only) => {
                let (expected, found) = (end_text(end), transition_text(only));
                Err(self.behind(format!("the code comes to another end:\n{}", diff(&expected, &found))))
            }
            (Some(end), []) => Err(self.behind(format!(
                "the run is {} on record, and the code waits for something that the record does not have",
                end.status()
            ))),
            (Some(end), _) => Err(self.behind(format!(
                "the run is {} on record, and the code goes on: {}",
                end.status(),
                describe(&done)
            ))),
        }
    }

    fn rest(&mut self) -> Option<Rest> {
        let mut cx = Context::from_waker(Waker::noop());
        for _ in 0..POLLS {
            match self.pass.poll(&mut cx) {
                PassStep::Again => {}
                PassStep::Report(report) => return Some(Rest::Reports(report)),
                PassStep::Close(_) | PassStep::Wait { .. } => return Some(Rest::Waits),
            }
        }
        None
    }

    /// How the handler came to its end on record, if it did.
    fn end(&self) -> Option<&RunState> {
        match &self.export.head.state {
            state @ RunState::Completed { .. } => Some(state),
            // What the engine says of a run is not what its handler returned.
            RunState::Failed { cause: FailureCause::Own(error) } if ENGINE.contains(&error.name.as_str()) => None,
            state @ RunState::Failed { .. } => Some(state),
            _ => None,
        }
    }

    fn agreed(&self, ended: bool, next: Option<String>) -> Replayed {
        Replayed { entries: self.export.history.len(), ended, next }
    }

    /// The code came to the recorded end. Did it ask for all that is on record?
    fn all_asked_for(&self) -> Result<Replayed, Divergence> {
        match self.first_left() {
            None => Ok(self.agreed(true, None)),
            Some((entry, what)) => Err(self
                .divergence(entry, format!("the code came to its end without asking for {what}, which is on record"))),
        }
    }

    fn parted(&self, text: String) -> Divergence {
        let entry = self.first_left().map_or(self.export.history.len(), |(entry, _)| entry);
        self.divergence(entry, text)
    }

    /// The first thing that the code did not ask for, else the entry with which the run ended.
    fn behind(&self, text: String) -> Divergence {
        let ends = |entry: &Entry| matches!(entry, Entry::Run { state, .. } if state.is_terminal());
        let end = self.export.history.iter().rposition(|entry| ends(&entry.entry));
        let entry = self.first_left().map(|(entry, _)| entry).or(end).unwrap_or(self.export.history.len());
        self.divergence(entry, text)
    }

    fn divergence(&self, entry: usize, text: String) -> Divergence {
        let at = self.export.history.get(entry).map_or(self.export.exported_at, |entry| entry.at);
        Divergence { entry, entries: self.export.history.len(), at, text }
    }

    /// Where the first task or child began that the code has not asked for.
    fn first_left(&self) -> Option<(usize, String)> {
        let (tasks, children) = self.pass.not_asked_for();
        self.export.history.iter().enumerate().find_map(|(at, entry)| match &entry.entry {
            Entry::TaskOpened { ordinal, name, .. } | Entry::TaskSeeded { ordinal, name, .. }
                if tasks.contains(&self.export.head.id.task(*ordinal)) =>
            {
                Some((at, format!("task `{name}`")))
            }
            Entry::ChildOpened { ordinal, workflow, .. } if children.contains(ordinal) => {
                Some((at, format!("child `{workflow}`")))
            }
            _ => None,
        })
    }
}

/// Names of errors that no handler returned.
const ENGINE: [&str; 5] =
    ["NonDeterminismError", "DeadlineExceeded", "ForeignWait", "ReportRefused", "HistoryLimitExceeded"];

fn is_end(transition: &Transition) -> bool {
    matches!(transition, Transition::Completed { .. } | Transition::Failed { .. } | Transition::RetryScheduled { .. })
}

fn ends_as(end: &RunState, transition: &Transition) -> bool {
    match (end, transition) {
        (RunState::Completed { output: recorded }, Transition::Completed { output }) => {
            same(recorded.as_ref(), output.as_ref())
        }
        (
            RunState::Failed { cause: recorded },
            Transition::Failed { cause } | Transition::RetryScheduled { cause, .. },
        ) => {
            let told = |cause: &FailureCause| cause.error().map(|error| (error.name.clone(), error.message.clone()));
            told(recorded) == told(cause)
        }
        _ => false,
    }
}

fn end_text(end: &RunState) -> String {
    match end {
        RunState::Completed { output } => format!("completed\n{}", pretty(output.as_ref())),
        RunState::Failed { cause } => failed_text(cause),
        other => other.status().to_string(),
    }
}

fn transition_text(transition: &Transition) -> String {
    match transition {
        Transition::Completed { output } => format!("completed\n{}", pretty(output.as_ref())),
        Transition::Failed { cause } | Transition::RetryScheduled { cause, .. } => failed_text(cause),
        _ => String::new(),
    }
}

fn failed_text(cause: &FailureCause) -> String {
    cause.error().map_or("failed".to_owned(), |error| format!("failed\n{}: {}", error.name, error.message))
}

/// The time at which the run was exported.
struct Standing(Timestamp);

impl Clock for Standing {
    fn now(&self) -> Timestamp {
        self.0
    }
}

/// Executes nothing: an attempt of which the record has no result never ends.
struct Nobody;

impl TaskInterceptor for Nobody {
    fn attempt(&self, _: TaskAttempt) -> AttemptFuture {
        Box::pin(std::future::pending())
    }
}
