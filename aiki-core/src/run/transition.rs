//! Which moves a run may make (contract, section 3.1). The only place that decides it.

use super::state::RunState;
use super::status::{QueuedReason, RunStatus, ScheduledReason};

/// A move that the state machine does not have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a run that is {from} cannot become {to}")]
pub struct IllegalTransition {
    /// Where the run stands.
    pub from: RunStatus,
    /// Where it was to go.
    pub to: RunStatus,
}

/// Says whether a run in state `from` may move to `to`.
pub fn permits(from: &RunState, to: &RunState) -> bool {
    use RunStatus as S;
    let is_active = |status| !RunStatus::is_terminal(status);
    match (from, to) {
        // Any run that has not ended may be cancelled.
        (_, RunState::Cancelled { .. }) => is_active(from.status()),
        (RunState::Scheduled { reason, .. }, RunState::Queued { reason: queued }) => {
            QueuedReason::from(*reason) == *queued
        }
        (RunState::Queued { .. }, RunState::Running | RunState::Paused | RunState::Stalled) => true,
        (RunState::Queued { .. }, RunState::Failed { .. }) => true,
        (RunState::Running, RunState::Queued { reason }) => {
            matches!(reason, QueuedReason::TaskRetry | QueuedReason::Recovery)
        }
        (RunState::Running, to) => matches!(
            to.status(),
            S::Running
                | S::Sleeping
                | S::AwaitingEvent
                | S::AwaitingRetry
                | S::AwaitingChildWorkflow
                | S::Completed
                | S::Failed
                | S::Paused
        ),
        (RunState::Scheduled { .. }, RunState::Paused) => true,
        (from, RunState::Scheduled { reason, .. }) => matches!(
            (from.status(), reason),
            (S::Paused, ScheduledReason::Resumption)
                | (S::Sleeping, ScheduledReason::WakeupEarly)
                | (S::AwaitingEvent, ScheduledReason::Event)
                | (S::AwaitingChildWorkflow, ScheduledReason::ChildWorkflow)
                | (S::Stalled, ScheduledReason::Redelivery)
        ),
        (from, RunState::Queued { reason }) => matches!(
            (from.status(), reason),
            (S::Sleeping, QueuedReason::Wakeup)
                | (S::AwaitingEvent, QueuedReason::EventWaitTimeout)
                | (S::AwaitingRetry, QueuedReason::Retry)
                | (S::AwaitingChildWorkflow, QueuedReason::ChildWorkflowWaitTimeout)
        ),
        (RunState::Failed { .. }, RunState::AwaitingRetry { .. }) => true,
        _ => false,
    }
}

/// Says whether the server itself may move a run so. A run of ours may wait for several things at
/// once, of which its state shows one: any of them may wake it. And a run may fail of its deadline
/// wherever it stands.
pub fn permits_to_server(from: &RunState, to: &RunState) -> bool {
    let waits = matches!(
        from.status(),
        RunStatus::Sleeping | RunStatus::AwaitingEvent | RunStatus::AwaitingChildWorkflow | RunStatus::Running
    );
    permits(from, to)
        || match to {
            RunState::Failed { .. } => !from.is_terminal(),
            // What the run was going to wait for is there already.
            RunState::Scheduled { reason: ScheduledReason::Event | ScheduledReason::ChildWorkflow, .. } => {
                matches!(from, RunState::Running)
            }
            RunState::Queued { reason } => {
                waits
                    && matches!(
                        reason,
                        QueuedReason::Event
                            | QueuedReason::ChildWorkflow
                            | QueuedReason::Wakeup
                            | QueuedReason::WakeupEarly
                            | QueuedReason::TaskRetry
                            | QueuedReason::EventWaitTimeout
                            | QueuedReason::ChildWorkflowWaitTimeout
                    )
            }
            _ => false,
        }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failure::ErrorObject;
    use crate::id::RunId;
    use crate::run::state::FailureCause;
    use crate::time::Timestamp;

    /// One state for every status and reason.
    fn all_states() -> Vec<(&'static str, RunState)> {
        let at = Timestamp::from_millis(1);
        let cause = || FailureCause::Own(ErrorObject::new("E", "m"));
        let mut states = vec![
            ("running", RunState::Running),
            ("paused", RunState::Paused),
            ("stalled", RunState::Stalled),
            ("sleeping", RunState::Sleeping { name: "n".into(), wakeup_at: at }),
            ("awaiting_event", RunState::AwaitingEvent { event: "e".into(), timeout_at: None }),
            ("awaiting_retry", RunState::AwaitingRetry { next_attempt_at: at, cause: cause() }),
            (
                "awaiting_child",
                RunState::AwaitingChild { child: RunId::from_bits(1), awaited: RunStatus::Completed, timeout_at: None },
            ),
            ("cancelled", RunState::Cancelled { explanation: None }),
            ("completed", RunState::Completed { output: None }),
            ("failed", RunState::Failed { cause: cause() }),
        ];
        for reason in ScheduledReason::ALL {
            states.push((
                Box::leak(format!("scheduled({reason})").into_boxed_str()),
                RunState::Scheduled { scheduled_at: at, reason: *reason },
            ));
        }
        for reason in QueuedReason::ALL {
            states
                .push((Box::leak(format!("queued({reason})").into_boxed_str()), RunState::Queued { reason: *reason }));
        }
        states
    }

    /// The table of the contract, written again in its own words, one row per source.
    fn legal(from: &str) -> Vec<&'static str> {
        if from.starts_with("scheduled(") {
            let reason = &from["scheduled(".len()..from.len() - 1];
            return vec![Box::leak(format!("queued({reason})").into_boxed_str()), "paused", "cancelled"];
        }
        if from.starts_with("queued(") {
            return vec!["running", "paused", "cancelled", "stalled", "failed"];
        }
        match from {
            "running" => vec![
                "running",
                "queued(task_retry)",
                "queued(recovery)",
                "sleeping",
                "awaiting_event",
                "awaiting_retry",
                "awaiting_child",
                "completed",
                "failed",
                "paused",
                "cancelled",
            ],
            "paused" => vec!["scheduled(resumption)", "cancelled"],
            "sleeping" => vec!["scheduled(wakeup_early)", "queued(wakeup)", "cancelled"],
            "awaiting_event" => vec!["scheduled(event)", "queued(event_wait_timeout)", "cancelled"],
            "awaiting_retry" => vec!["queued(retry)", "cancelled"],
            "awaiting_child" => {
                vec!["scheduled(child_workflow)", "queued(child_workflow_wait_timeout)", "cancelled"]
            }
            "stalled" => vec!["scheduled(redelivery)", "cancelled"],
            "failed" => vec!["awaiting_retry"],
            _ => vec![],
        }
    }

    #[test]
    fn every_pair_of_states_follows_the_table() {
        let states = all_states();
        for (from_name, from) in &states {
            for (to_name, to) in &states {
                let expected = legal(from_name).contains(to_name);
                assert_eq!(permits(from, to), expected, "{from_name} -> {to_name}");
            }
        }
    }
}
