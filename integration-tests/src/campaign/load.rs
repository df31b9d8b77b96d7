//! The workflow of the campaign: tasks that depend on each other, of six kinds.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use aiki::prelude::*;
use serde::{Deserialize, Serialize};

use super::bug::Bug;
use super::doom::Orders;
use super::notes::{BodyEnd, Note, Notes};
use aiki_core::TaskId;

/// When a body that comes late begins: its result is on record by then.
const LATER: Duration = Duration::from_millis(300);

/// What is special about a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Nothing.
    Plain,
    /// The first attempt of its second task panics.
    TaskPanics,
    /// Its handler panics behind its first task: the run fails.
    HandlerPanics,
    /// It sleeps behind its first task.
    Naps,
    /// Its first two tasks run at the same time.
    Pair,
    /// Its tasks take eight times as long: longer than a worker that stops waits for it.
    Long,
}

/// What one run does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Job {
    /// Tells runs apart.
    pub number: u64,
    /// Tasks.
    pub tasks: u64,
    /// How long each takes, in milliseconds.
    pub task_ms: u64,
}

/// One task of it.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Step {
    number: u64,
    at: u64,
    carried: u64,
    task_ms: u64,
    panics: bool,
}

impl Job {
    /// What is special about the run: decided by its number, so that the load is the same each time.
    pub fn kind(self) -> Kind {
        match self.number % 25 {
            3 => Kind::TaskPanics,
            7 => Kind::HandlerPanics,
            11 | 19 => Kind::Naps,
            13 | 23 => Kind::Pair,
            15 => Kind::Long,
            _ => Kind::Plain,
        }
    }

    /// Under which id it is started.
    pub fn reference(self) -> String {
        format!("run-{}", self.number)
    }

    /// What it has to answer: nothing when it fails.
    pub fn expected(self) -> Option<u64> {
        let step = |carried, at| answer(self.number, at, carried);
        match self.kind() {
            Kind::HandlerPanics => None,
            Kind::Pair if self.tasks >= 2 => Some((2..self.tasks).fold(step(0, 0) ^ step(0, 1), step)),
            _ => Some((0..self.tasks).fold(0, step)),
        }
    }

    /// How many tasks it has opened when it ends.
    pub fn tasks_in_all(self) -> u64 {
        if self.kind() == Kind::HandlerPanics { self.tasks.min(1) } else { self.tasks }
    }
}

/// What a task answers. Every bit of it depends on all that came before. Small enough for a number in JSON.
fn answer(number: u64, at: u64, carried: u64) -> u64 {
    let mut mixed = number.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ at.wrapping_mul(0xD6E8_FEB8_6659_FD93) ^ carried;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    (mixed ^ (mixed >> 27)) >> 12
}

/// The workflow.
pub type Jobs = WorkflowVersion<Job, u64, Failure>;

/// What those who execute it have.
#[derive(Clone, Debug)]
pub struct Inside {
    /// Where they note what happens.
    pub notes: Notes,
    /// What their handlers are ordered to do.
    pub orders: Orders,
    /// What is wrong with them.
    pub bug: Option<Bug>,
}

/// Defines the workflow. Callers, who execute nothing, have nothing of that.
pub fn define(inside: Option<Inside>) -> Jobs {
    let own = inside.clone();
    let step = Task::new("step", move |cx: TaskContext, step: Step| {
        let inside = own.clone();
        async move { Ok::<_, Failure>(body(cx, step, inside).await) }
    });
    let step = step.retry(RetryStrategy::fixed(3, Duration::from_millis(50)));
    Workflow::new("campaign").version("1.0.0", move |run: Run, job: Job| {
        let (step, inside) = (step.clone(), inside.clone());
        async move { handler(&run, job, &step, inside.as_ref()).await }
    })
}

/// A number of its own for each pass of this process, and no other process's.
fn next_pass() -> u64 {
    static PASSES: AtomicU64 = AtomicU64::new(0);
    (u64::from(std::process::id()) << 32) | PASSES.fetch_add(1, Ordering::Relaxed)
}

async fn handler(run: &Run, job: Job, step: &Task<Step, u64>, inside: Option<&Inside>) -> Result<u64, Failure> {
    let kind = job.kind();
    let pass = next_pass();
    let decided = |place: String, value: u64| {
        if let Some(Inside { notes, .. }) = inside {
            let (life, value) = (run.attempt().to_string(), value.to_string());
            notes.write(Note::Decided { run: run.id(), pass, life, place, value });
        }
    };
    let task_ms = if kind == Kind::Long { job.task_ms * 8 } else { job.task_ms };
    let call = |at: u64, carried: u64| {
        let panics = kind == Kind::TaskPanics && at == 1;
        step.start(run, Step { number: job.number, at, carried, task_ms, panics })
    };
    let obey = || {
        if let Some(Inside { orders, .. }) = inside {
            orders.obey(run.id());
        }
    };
    obey();
    let (mut carried, mut at) = (0, 0);
    if kind == Kind::Pair && job.tasks >= 2 {
        let (left, right) = futures::future::join(call(0, 0), call(1, 0)).await;
        (carried, at) = (left? ^ right?, 2);
        decided("pair".into(), carried);
    }
    while at < job.tasks {
        carried = call(at, carried).await?;
        decided(at.to_string(), carried);
        obey();
        at += 1;
        if at == 1 && kind == Kind::HandlerPanics {
            std::panic::panic_any("a planned panic of a handler");
        }
        if at == 1 && kind == Kind::Naps {
            run.sleep("nap", Duration::from_millis(300)).await;
        }
    }
    Ok(carried)
}

async fn body(cx: TaskContext, step: Step, inside: Option<Inside>) -> u64 {
    let bug = inside.as_ref().and_then(|inside| inside.bug);
    let mut attempt = inside.map(|Inside { notes, .. }| Attempt::begin(notes, &cx, step.number));
    tokio::time::sleep(Duration::from_millis(step.task_ms)).await;
    if step.panics && cx.attempt() == 1 {
        std::panic::panic_any("a planned panic of a task");
    }
    if let Some(attempt) = &mut attempt {
        attempt.end(BodyEnd::Returned);
        if bug == Some(Bug::LateBody) {
            let notes = attempt.notes.clone();
            tokio::spawn(async move {
                tokio::time::sleep(LATER).await;
                Attempt::begin(notes, &cx, step.number).end(BodyEnd::Returned);
            });
        }
    }
    answer(step.number, step.at, step.carried)
}

/// Notes how an attempt ends, however it does.
struct Attempt {
    notes: Notes,
    task: TaskId,
    attempt: u64,
    over: bool,
}

impl Attempt {
    fn begin(notes: Notes, cx: &TaskContext, number: u64) -> Self {
        let (task, attempt) = (cx.task_id(), cx.attempt());
        notes.write(Note::Began { task, attempt, number });
        Self { notes, task, attempt, over: false }
    }

    fn end(&mut self, how: BodyEnd) {
        self.over = true;
        self.notes.write(Note::Ended { task: self.task, attempt: self.attempt, how });
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        if !self.over {
            self.end(if std::thread::panicking() { BodyEnd::Panicked } else { BodyEnd::Dropped });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_comes_up_and_answers_differ() {
        let jobs: Vec<Job> = (0..25).map(|number| Job { number, tasks: 5, task_ms: 0 }).collect();
        for kind in [Kind::Plain, Kind::TaskPanics, Kind::HandlerPanics, Kind::Naps, Kind::Pair, Kind::Long] {
            assert!(jobs.iter().any(|job| job.kind() == kind), "{kind:?}");
        }
        let answers: std::collections::BTreeSet<_> = jobs.iter().filter_map(|job| job.expected()).collect();
        assert_eq!(answers.len(), 24, "one fails, no two others answer the same");
        assert!(answers.iter().all(|answer| *answer < 1 << 53));
    }
}
