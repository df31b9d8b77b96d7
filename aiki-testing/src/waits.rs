//! Saying what a run waits for.

use aiki_core::run::record::SleepState;
use aiki_core::run::{RunRecord, RunState, TaskState, WaitOn, WaitState};

/// At most so many things are named.
const NAMED: usize = 8;

/// What keeps a run from its end, for people.
pub(crate) fn describe(record: &RunRecord, unserved: bool) -> String {
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
