//! Requests that are refused before anything is stored.

use std::time::Duration;

use aiki_core::listing::MAX_PAGE;
use aiki_core::name::WorkflowKey;
#[cfg(feature = "http")]
use aiki_core::run::plan::plain::{PlainState, TaskChange};
use aiki_core::run::plan::{CreateRun, Deadline, EventMessage};
use aiki_core::run::{RunOptions, WaitOn};
use aiki_core::schedule::{ActivateSchedule, Timing};
use aiki_core::{InputHash, Name, Payload, Report, ServerError, Timestamp, Transition};
use aiki_schedule::Calendar;

/// The longest name and reference id, in bytes.
const MAX_NAME: usize = 256;
/// The longest lease.
const MAX_LEASE: Duration = Duration::from_secs(24 * 3_600);
/// Runs in one claim, refresh or release, transitions in one report.
pub(crate) const MAX_ITEMS: usize = 1_000;

/// Older hashes of one input.
const MAX_DEPRECATED: usize = 16;

fn invalid(reason: impl ToString) -> ServerError {
    ServerError::Invalid(reason.to_string())
}

pub(crate) fn name(what: &str, name: &str) -> Result<(), ServerError> {
    match name.len() {
        _ if name.contains('\0') => Err(invalid(format!("{what} has a character U+0000: leave it out"))),
        0 => Err(invalid(format!("{what} is empty: give one of 1 to {MAX_NAME} bytes"))),
        1..=MAX_NAME => Ok(()),
        len => Err(invalid(format!("{what} has {len} bytes, the limit is {MAX_NAME}: give a shorter one"))),
    }
}

pub(crate) fn workflow(key: &WorkflowKey) -> Result<(), ServerError> {
    name("the workflow's name", key.name.as_str())?;
    name("the workflow's version", key.version.as_str())
}

pub(crate) fn worker(worker: &Name) -> Result<(), ServerError> {
    name("the worker's name", worker.as_str())
}

pub(crate) fn items(what: &str, count: usize) -> Result<(), ServerError> {
    if count > MAX_ITEMS {
        return Err(invalid(format!("{count} {what} in one request: send at most {MAX_ITEMS} at a time")));
    }
    Ok(())
}

/// The limit of a page.
pub(crate) fn page(limit: usize) -> Result<(), ServerError> {
    match limit {
        1..=MAX_PAGE => Ok(()),
        _ => Err(invalid(format!("a page of {limit}: ask for 1 to {MAX_PAGE} at a time"))),
    }
}

pub(crate) fn lease(lease: Duration) -> Result<(), ServerError> {
    if lease.is_zero() || lease > MAX_LEASE {
        let hours = MAX_LEASE.as_secs() / 3_600;
        return Err(invalid(format!("a lease of {lease:?}: ask for more than 0 and for at most {hours} hours")));
    }
    Ok(())
}

pub(crate) fn create(request: &CreateRun, payload_limit: usize, now: Timestamp) -> Result<(), ServerError> {
    workflow(&request.workflow)?;
    if let Some(reference) = &request.reference {
        name("the reference id", &reference.id)?;
    }
    request.options.iter().try_for_each(options)?;
    if let Some(Deadline::At(at)) = request.deadline
        && at <= now
    {
        return Err(invalid(format!("the deadline is over already: it is {at}, and now is {now}")));
    }
    if let Some(Deadline::Within(Duration::ZERO)) = request.deadline {
        return Err(invalid("the time limit is 0: give the run at least a millisecond"));
    }
    if let Some(concurrency) = &request.concurrency {
        name("the concurrency key", &concurrency.key)?;
        if concurrency.limit == 0 {
            return Err(invalid("the concurrency limit is 0, so that the run could never start: give at least 1"));
        }
    }
    Payload::check_size(request.input.as_ref(), payload_limit).map_err(invalid)
}

pub(crate) fn event(event: &EventMessage, payload_limit: usize) -> Result<(), ServerError> {
    name("the event's name", &event.name)?;
    event.reference_id.iter().try_for_each(|id| name("the event's reference id", id))?;
    Payload::check_size(event.data.as_ref(), payload_limit).map_err(invalid)
}

fn options(options: &RunOptions) -> Result<(), ServerError> {
    options.retry.iter().try_for_each(|retry| retry.validate().map_err(invalid))?;
    options.pool.iter().try_for_each(|pool| name("the pool's name", pool.as_str()))
}

/// Reads the spec of a schedule and hashes its definition on the way.
pub(crate) fn schedule(
    request: &ActivateSchedule,
    payload_limit: usize,
) -> Result<(Calendar, Vec<InputHash>), ServerError> {
    workflow(&request.workflow)?;
    if let Some(reference) = &request.reference {
        name("the reference id", &reference.id)?;
    }
    request.options.iter().try_for_each(options)?;
    if request.deprecated_hashes.len() > MAX_DEPRECATED {
        let count = request.deprecated_hashes.len();
        return Err(invalid(format!("{count} deprecated hashes: send at most {MAX_DEPRECATED}")));
    }
    Payload::check_size(request.input.as_ref(), payload_limit).map_err(invalid)?;
    if matches!(&request.spec.timing, Timing::Cron { expression, .. } if expression.is_empty()) {
        return Err(invalid("the cron expression is empty: give it five fields, such as `0 9 * * *`"));
    }
    let calendar = Calendar::new(&request.spec).map_err(invalid)?;
    Ok((calendar, request.definition_hashes().map_err(invalid)?))
}

pub(crate) fn report(report: &Report, payload_limit: usize) -> Result<(), ServerError> {
    items("transitions", report.transitions.len())?;
    for transition in &report.transitions {
        match transition {
            Transition::TaskOpened { name: task, retry, .. } => {
                name("the task's name", task)?;
                retry.iter().try_for_each(|retry| retry.validate().map_err(invalid))?;
            }
            Transition::SleepOpened { name: sleep, .. } => name("the sleep's name", sleep)?,
            Transition::WaitOpened { on: WaitOn::Event(event), .. } => name("the event's name", event)?,
            Transition::ChildOpened { start, .. } => {
                workflow(&start.workflow)?;
                start.reference.iter().try_for_each(|reference| name("the reference id", &reference.id))?;
                start.options.retry.iter().try_for_each(|retry| retry.validate().map_err(invalid))?;
                start.options.pool.iter().try_for_each(|pool| name("the pool's name", pool.as_str()))?;
            }
            _ => {}
        }
        Payload::check_size(payload(transition), payload_limit).map_err(invalid)?;
    }
    Ok(())
}

/// A state that a worker of the plain contract asks for.
#[cfg(feature = "http")]
pub(crate) fn plain_state(state: &PlainState, payload_limit: usize) -> Result<(), ServerError> {
    match state {
        PlainState::Sleeping { name: sleep, .. } => name("the sleep's name", sleep)?,
        PlainState::AwaitingEvent { event, .. } => name("the event's name", event)?,
        _ => {}
    }
    Payload::check_size(payload_of_state(state), payload_limit).map_err(invalid)
}

/// What a worker of the plain contract says of a task.
#[cfg(feature = "http")]
pub(crate) fn task_change(change: &TaskChange, payload_limit: usize) -> Result<(), ServerError> {
    if let TaskChange::Create { name: task, retry, .. } = change {
        name("the task's name", task)?;
        retry.iter().try_for_each(|retry| retry.validate().map_err(invalid))?;
    }
    Payload::check_size(payload_of_change(change), payload_limit).map_err(invalid)
}

/// The payload that a state brings.
#[cfg(feature = "http")]
pub(crate) fn payload_of_state(state: &PlainState) -> Option<&Payload> {
    match state {
        PlainState::Completed { output } => output.as_ref(),
        PlainState::AwaitingRetry { cause, .. } | PlainState::Failed { cause } => cause.error()?.data.as_ref(),
        _ => None,
    }
}

/// The payload that a task's change brings.
#[cfg(feature = "http")]
pub(crate) fn payload_of_change(change: &TaskChange) -> Option<&Payload> {
    match change {
        TaskChange::Create { input, .. } => input.as_ref(),
        TaskChange::Complete { output, .. } => output.as_ref(),
        TaskChange::Fail { error, .. } | TaskChange::Park { error, .. } => error.data.as_ref(),
        TaskChange::Retry { .. } => None,
    }
}

/// The payload that a transition brings.
pub(crate) fn payload(transition: &Transition) -> Option<&Payload> {
    match transition {
        Transition::TaskOpened { input, .. } | Transition::ContinuedAsNew { input, .. } => input.as_ref(),
        Transition::ChildOpened { start, .. } => start.input.as_ref(),
        Transition::TaskProgressed { checkpoint, .. } => Some(checkpoint),
        Transition::TaskCompleted { output, .. } | Transition::Completed { output } => output.as_ref(),
        Transition::TaskParked { error, .. } | Transition::TaskFailed { error, .. } => error.data.as_ref(),
        Transition::Failed { cause } | Transition::RetryScheduled { cause, .. } => cause.error()?.data.as_ref(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_list_says_how_many_fit() {
        assert_eq!(items("claims", 1_000), Ok(()));
        let error = items("claims", 1_001).unwrap_err().to_string();
        assert!(error.contains("1001 claims") && error.contains("send at most 1000 at a time"), "{error}");
    }

    #[test]
    fn refused_names_and_leases_say_what_would_do() {
        let too_long = name("the worker's name", &"w".repeat(257)).unwrap_err().to_string();
        assert!(too_long.contains("257 bytes") && too_long.contains("give a shorter one"), "{too_long}");
        let empty = name("the worker's name", "").unwrap_err().to_string();
        assert!(empty.contains("1 to 256 bytes"), "{empty}");
        let endless = lease(Duration::from_secs(86_401)).unwrap_err().to_string();
        assert!(endless.contains("at most 24 hours"), "{endless}");
    }
}
