//! What is said about the calls of tasks.

use std::fmt::Write;

use aiki_core::Payload;
use aiki_core::definition::Task;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::diff::{diff, pretty, same};
use crate::env::TestEnv;
use crate::journal::TaskRun;
use crate::mock::encode;

/// At most so many calls are shown.
const SHOWN: usize = 5;

/// Calls count once, whatever their attempts; an attempt that is repeated after a failure or a crash is the
/// same call.
impl TestEnv {
    /// The inputs of all calls of a task, in the order in which they began.
    ///
    /// # Panics
    /// When an input is not of the task's type.
    #[track_caller]
    pub fn calls<I: DeserializeOwned, O, E>(&self, task: &Task<I, O, E>) -> Vec<I> {
        let calls = self.inner.stage.journal.calls_of(task.name());
        let read = |call: TaskRun| match Payload::decode(call.input.as_ref()) {
            Ok(input) => input,
            Err(error) => panic!("the input of task `{}` is of another type: {error}", call.task),
        };
        calls.into_iter().map(read).collect()
    }

    /// Every attempt of every task, in the order in which they began.
    pub fn task_runs(&self) -> Vec<TaskRun> {
        self.inner.stage.journal.attempts()
    }

    /// How often the body of a task, or its mock, was called: attempts, not calls.
    pub fn attempts<I, O, E>(&self, task: &Task<I, O, E>) -> usize {
        self.task_runs().iter().filter(|run| run.task == task.name()).count()
    }

    /// The task was called once, with this input.
    ///
    /// # Panics
    /// When not; the text shows the difference.
    #[track_caller]
    pub fn assert_called_once_with<I: Serialize, O, E>(&self, task: &Task<I, O, E>, input: &I) {
        let calls = self.inner.stage.journal.calls_of(task.name());
        let expected = encode(input);
        match &calls[..] {
            [call] if same(call.input.as_ref(), expected.as_ref()) => {}
            [call] => panic!(
                "task `{}` was called with another input:\n{}",
                task.name(),
                diff(&pretty(expected.as_ref()), &pretty(call.input.as_ref()))
            ),
            _ => panic!(
                "task `{}` was called {}, not once{}",
                task.name(),
                times(calls.len()),
                self.shown(task.name(), &calls)
            ),
        }
    }

    /// Some call of the task had this input.
    ///
    /// # Panics
    /// When none had; the text shows the calls.
    #[track_caller]
    pub fn assert_called_with<I: Serialize, O, E>(&self, task: &Task<I, O, E>, input: &I) {
        let calls = self.inner.stage.journal.calls_of(task.name());
        let expected = encode(input);
        if calls.iter().any(|call| same(call.input.as_ref(), expected.as_ref())) {
            return;
        }
        match &calls[..] {
            [call] => panic!(
                "task `{}` was called with another input:\n{}",
                task.name(),
                diff(&pretty(expected.as_ref()), &pretty(call.input.as_ref()))
            ),
            _ => panic!(
                "task `{}` was not called with {}, but {}{}",
                task.name(),
                pretty(expected.as_ref()),
                times(calls.len()),
                self.shown(task.name(), &calls)
            ),
        }
    }

    /// The task was called so often.
    ///
    /// # Panics
    /// When not; the text shows the calls.
    #[track_caller]
    pub fn assert_called_times<I, O, E>(&self, task: &Task<I, O, E>, count: usize) {
        let calls = self.inner.stage.journal.calls_of(task.name());
        assert!(
            calls.len() == count,
            "task `{}` was called {}, not {}{}",
            task.name(),
            times(calls.len()),
            times(count),
            self.shown(task.name(), &calls)
        );
    }

    /// The task was not called.
    ///
    /// # Panics
    /// When it was; the text shows the calls.
    #[track_caller]
    pub fn assert_not_called<I, O, E>(&self, task: &Task<I, O, E>) {
        self.assert_called_times(task, 0);
    }

    /// The tasks of these names were called in this order, whatever was called in between:
    /// `env.assert_order([reserve.name(), charge.name()])`.
    ///
    /// # Panics
    /// When not; the text shows the calls in their order.
    #[track_caller]
    pub fn assert_order<N: AsRef<str>>(&self, tasks: impl IntoIterator<Item = N>) {
        let calls = self.inner.stage.journal.calls();
        let mut left = calls.iter();
        for task in tasks {
            let task = task.as_ref();
            if !left.any(|call| call.task == task) {
                let order: Vec<_> = calls.iter().map(|call| format!("`{}`", call.task)).collect();
                panic!("task `{task}` was not called in its turn; the order of the calls: {}", order.join(", "));
            }
        }
    }

    fn shown(&self, task: &str, calls: &[TaskRun]) -> String {
        if calls.is_empty() {
            let mut others: Vec<_> = self.inner.stage.journal.calls().into_iter().map(|call| call.task).collect();
            others.sort();
            others.dedup();
            others.retain(|other| other != task);
            return match others.is_empty() {
                true => "; no other task was called either".to_owned(),
                false => format!("; tasks that were called: {}", others.join(", ")),
            };
        }
        let mut text = ":".to_owned();
        for call in calls.iter().take(SHOWN) {
            let input = call.input.as_ref().map_or("nothing", Payload::as_str);
            let _ = write!(text, "\n  at {} by run {} with {input}", call.at, call.run);
        }
        if calls.len() > SHOWN {
            let _ = write!(text, "\n  and {} more", calls.len() - SHOWN);
        }
        text
    }
}

fn times(count: usize) -> String {
    match count {
        0 => "never".to_owned(),
        1 => "once".to_owned(),
        count => format!("{count} times"),
    }
}
