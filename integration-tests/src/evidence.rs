//! What histories and ledgers must say, whatever went wrong.

use std::collections::HashMap;

use aiki::prelude::*;
use aiki::run::TaskState;
use aiki::run::record::{TransitionChange, TransitionRecord};

use crate::chain::Chain;
use crate::ledger::Ledger;

/// When the results of the tasks were recorded, in milliseconds since the Unix epoch.
///
/// # Panics
/// When a result was recorded twice.
pub fn recorded_tasks(transitions: &[TransitionRecord]) -> HashMap<String, u64> {
    let mut recorded = HashMap::new();
    for transition in transitions {
        if let TransitionChange::Task(task, TaskState::Completed { .. }) = &transition.change {
            let before = recorded.insert(task.to_string(), transition.created_at.as_millis());
            assert_eq!(before, None, "task {task} was recorded twice");
        }
    }
    recorded
}

/// Checks that each task of these runs, which are all that there are, was recorded once and never executed afterwards.
/// Answers how many attempts there were beyond one per task.
///
/// # Panics
/// When that is not so.
#[allow(clippy::expect_used)]
pub async fn once_and_not_again(runs: &[(RunHandle<u64, Failure>, Chain)], begun: &Ledger) -> usize {
    let mut recorded = HashMap::new();
    for (run, chain) in runs {
        let of_run = recorded_tasks(&run.transitions().await.expect("the history"));
        assert_eq!(of_run.len() as u64, chain.tasks, "all tasks are on record");
        recorded.extend(of_run);
    }
    let attempts = begun.attempts().expect("the ledger");
    for attempt in &attempts {
        let at = recorded.get(&attempt.task).expect("every attempted task was recorded in the end");
        assert!(attempt.began_ms <= *at, "task {} ran after its result was recorded", attempt.task);
    }
    attempts.len() - recorded.len()
}
