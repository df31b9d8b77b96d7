//! Saying what a run waits for.

use aiki_core::RunId;
use aiki_core::run::record::SleepState;
use aiki_core::run::{RunRecord, RunState, TaskState, WaitOn, WaitState};

/// At most so many things are named.
const NAMED: usize = 8;

/// Whether the run goes on when one of its children ends, and not before.
pub(crate) fn is_for_children_only(record: &RunRecord) -> bool {
    let mut waiting = record.waits.iter().filter_map(|wait| match wait.state {
        WaitState::Waiting { timeout_at } => Some((&wait.on, timeout_at)),
        _ => None,
    });
    let asleep = record.sleeps.iter().any(|sleep| matches!(sleep.state, SleepState::Sleeping { .. }));
    let busy = record
        .tasks
        .iter()
        .any(|task| matches!(task.state, TaskState::Running { .. } | TaskState::AwaitingRetry { .. }));
    matches!(record.state, RunState::AwaitingChild { .. })
        && !asleep
        && !busy
        && waiting.all(|(on, timeout)| matches!(on, WaitOn::Child(_)) && timeout.is_none())
}

/// What keeps a run from its end, for people. `unserved_children`: those that no worker serves.
pub(crate) fn describe(record: &RunRecord, unserved: bool, unserved_children: &[RunId]) -> String {
    let mut what = match &record.state {
        RunState::Queued { .. } if unserved => {
            vec![format!("a worker that serves {}: add it to the environment", record.workflow)]
        }
        RunState::Paused => vec!["somebody who resumes it: it is paused".to_owned()],
        RunState::Stalled => vec!["somebody who requeues it: it is stalled".to_owned()],
        RunState::AwaitingRetry { next_attempt_at, cause } => {
            let why = cause.error().map(|error| format!(" behind `{error}`")).unwrap_or_default();
            vec![format!("its attempt {} at {next_attempt_at}{why}", record.attempts + 1)]
        }
        _ => Vec::new(),
    };
    for task in &record.tasks {
        match &task.state {
            TaskState::Running { attempts } => {
                what.push(format!("task `{}` (attempt {attempts} is under way)", task.name));
            }
            TaskState::AwaitingRetry { attempts, error, .. } => {
                what.push(format!("task `{}` (attempt {attempts} failed: {error})", task.name));
            }
            _ => {}
        }
    }
    for wait in record.waits.iter().filter(|wait| matches!(wait.state, WaitState::Waiting { .. })) {
        what.push(match &wait.on {
            WaitOn::Event(event) => format!("event `{event}`, which nobody has sent"),
            WaitOn::Child(child) => {
                let child = record.children.iter().find(|record| record.ordinal == *child);
                child.map_or("a child".to_owned(), |child| match child.run {
                    Some(run) if unserved_children.contains(&run) => {
                        format!(
                            "child `{0}`, and that for a worker that serves {0}: add it to the environment",
                            child.workflow
                        )
                    }
                    Some(run) => format!("child `{}` ({run})", child.workflow),
                    None => format!("child `{}`", child.workflow),
                })
            }
        });
    }
    for sleep in &record.sleeps {
        if let SleepState::Sleeping { wakeup_at } = sleep.state {
            what.push(format!("sleep `{}` until {wakeup_at}", sleep.name));
        }
    }
    if what.is_empty() {
        what.push("something that is not durable, or it goes round in circles".to_owned());
    }
    let more = what.len().saturating_sub(NAMED);
    what.truncate(NAMED);
    let more = if more > 0 { format!("; and {more} more") } else { String::new() };
    format!("it is {} and waits for {}{more}", record.state.status(), what.join("; for "))
}
