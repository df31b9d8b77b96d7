//! What bodies and handlers touch outside of the machine, and what is seen of them there.

use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};

use aiki_core::run::TaskState;
use aiki_core::{CancellationToken, Failure, RunRecord, Task, TaskContext, TaskId, Transition};

/// A body at work: it goes on when the host ticks its gate.
pub(crate) struct Gate {
    id: u64,
    pub(crate) task: TaskId,
    ticks_left: u8,
    waker: Option<Waker>,
}

impl Gate {
    /// Whether the body was polled since its last tick. One that nobody polls cannot go on.
    pub(crate) fn is_waiting(&self) -> bool {
        self.waker.is_some()
    }
}

#[derive(Default)]
pub(crate) struct Seen {
    pub(crate) gates: Vec<Gate>,
    next_gate: u64,
    /// Every start of a body, in order.
    pub(crate) executions: Vec<(TaskId, u64)>,
    pub(crate) cancellations: Vec<CancellationToken>,
    /// Tasks that may run: opened or restarted by a report whose answer the pass has, and not settled.
    allowed: HashMap<TaskId, u64>,
    /// What the handler noted in the present pass, and before.
    pub(crate) lines: Vec<String>,
    before: Vec<String>,
    /// So many lines come from polls that an earlier pass has reported.
    reported: usize,
    reported_now: usize,
    silent: bool,
    /// What was noted aloud, in all passes.
    pub(crate) aloud: Vec<String>,
    /// What must never happen but did. Kept, because a panic in a body is a failure like any other.
    pub(crate) violations: Vec<String>,
    /// Bodies that would end at once wait for one tick, so that the host decides their order.
    pub(crate) gate_all: bool,
    /// The latest checkpoint of a task on record, and what its body has said since in this pass.
    checkpoints: HashMap<TaskId, u32>,
    told: HashMap<TaskId, u32>,
    next_checkpoint: u32,
    /// A run that is tried again as a whole may take another path: its notes are not compared.
    pub(crate) forget_lines: bool,
}

#[derive(Clone, Default)]
pub(crate) struct World(Arc<Mutex<Seen>>);

impl World {
    pub(crate) fn seen(&self) -> MutexGuard<'_, Seen> {
        self.0.lock().unwrap()
    }

    /// A body starts. It may not, unless the record says that it runs.
    pub(crate) fn begin(&self, cx: &TaskContext, ticks: u8) -> Work {
        let mut seen = self.seen();
        let (task, attempt) = (cx.task_id(), cx.attempt());
        match seen.allowed.get(&task) {
            Some(recorded) if attempt >= *recorded => {}
            other => {
                let text = format!("attempt {attempt} of {task} started while the pass knew {other:?} to be on record");
                seen.violations.push(text);
            }
        }
        let found = cx.checkpoint::<u32>().ok().flatten();
        let known = seen.told.get(&task).or(seen.checkpoints.get(&task)).copied();
        if found != known {
            let text = format!("attempt {attempt} of {task} found the checkpoint {found:?}, it should be {known:?}");
            seen.violations.push(text);
        }
        drop(seen);
        self.begin_unchecked(cx, ticks)
    }

    /// A body starts where no simulation keeps the books.
    pub(crate) fn begin_unchecked(&self, cx: &TaskContext, ticks: u8) -> Work {
        let mut seen = self.seen();
        let (task, attempt) = (cx.task_id(), cx.attempt());
        seen.executions.push((task, attempt));
        seen.cancellations.push(cx.cancellation().clone());
        let ticks_left = if seen.gate_all { 1 } else { ticks };
        let id = seen.next_gate;
        seen.next_gate += 1;
        if ticks_left > 0 {
            seen.gates.push(Gate { id, task, ticks_left, waker: None });
        }
        Work { world: self.clone(), id, task }
    }

    /// The tasks whose bodies can go on by a tick, the oldest first.
    pub(crate) fn waiting(&self) -> Vec<TaskId> {
        self.seen().gates.iter().filter(|gate| gate.is_waiting()).map(|gate| gate.task).collect()
    }

    /// Lets the body of a task go on by one tick.
    pub(crate) fn tick(&self, task: TaskId) {
        let waker = self.seen().gates.iter_mut().find(|gate| gate.task == task && gate.is_waiting()).map(|gate| {
            gate.ticks_left = gate.ticks_left.saturating_sub(1);
            gate.waker.take()
        });
        waker.flatten().expect("a body at work was polled").wake();
    }

    /// The handler notes something, as it would log it.
    pub(crate) fn note(&self, line: String) {
        let mut seen = self.seen();
        if seen.forget_lines {
            return;
        }
        let at = seen.lines.len();
        if !seen.silent {
            seen.aloud.push(line.clone());
        }
        if seen.silent != (at < seen.reported) {
            let text = format!("line {at} `{line}`: silent {}, {} were reported", seen.silent, seen.reported);
            seen.violations.push(text);
        }
        if at < seen.reported && seen.before.get(at) != Some(&line) {
            let text = format!("line {at} was {:?} before and is now `{line}`", seen.before.get(at));
            seen.violations.push(text);
        }
        seen.lines.push(line);
    }

    /// A pass over `record` begins.
    pub(crate) fn begin_pass(&self, record: &RunRecord) {
        let mut seen = self.seen();
        assert!(seen.gates.is_empty(), "no body outlives its pass");
        let running = |task: &aiki_core::run::TaskRecord| match task.state {
            TaskState::Running { attempts } => Some((task.id, attempts)),
            _ => None,
        };
        seen.allowed = record.tasks.iter().filter_map(running).collect();
        let lines = std::mem::take(&mut seen.lines);
        // A pass that crashed early repeated only a part of what was reported.
        if lines.len() >= seen.reported_now {
            seen.before = lines;
        }
        seen.reported = seen.reported_now;
        seen.told.clear();
        let number = |checkpoint: &aiki_core::Payload| checkpoint.as_str().parse().unwrap();
        let checkpoint = |task: &aiki_core::run::TaskRecord| Some((task.id, number(task.checkpoint.as_ref()?)));
        seen.checkpoints = record.tasks.iter().filter_map(checkpoint).collect();
        seen.forget_lines |= record.attempts > 1;
    }

    pub(crate) fn set_silent(&self, silent: bool) {
        self.seen().silent = silent;
    }

    /// The server has written transitions that were made up when the handler had noted `lines`.
    pub(crate) fn written(&self, transitions: &[Transition], lines: usize) {
        let mut seen = self.seen();
        seen.reported_now = lines;
        for transition in transitions {
            match transition {
                Transition::TaskCompleted { id, .. }
                | Transition::TaskFailed { id, .. }
                | Transition::TaskParked { id, .. } => {
                    seen.allowed.remove(id);
                }
                Transition::TaskProgressed { id, checkpoint } => {
                    let checkpoint = checkpoint.as_str().parse().unwrap();
                    seen.checkpoints.insert(*id, checkpoint);
                }
                _ => {}
            }
        }
    }

    /// The handler has begun again as new.
    pub(crate) fn continued(&self) {
        let mut seen = self.seen();
        seen.lines.clear();
        seen.before.clear();
        (seen.reported, seen.reported_now) = (0, 0);
    }

    /// The pass has been told that these transitions were written.
    pub(crate) fn answered(&self, transitions: &[Transition]) {
        let mut seen = self.seen();
        for transition in transitions {
            match transition {
                Transition::TaskOpened { id, .. } => {
                    seen.allowed.insert(*id, 1);
                }
                Transition::TaskRestarted { id, attempts } => {
                    seen.allowed.insert(*id, *attempts);
                }
                _ => {}
            }
        }
    }
}

/// The work of one attempt.
pub(crate) struct Work {
    world: World,
    id: u64,
    task: TaskId,
}

impl Work {
    /// Makes a checkpoint that no body has made before.
    pub(crate) fn checkpoint(&self) -> u32 {
        let mut seen = self.world.seen();
        seen.next_checkpoint += 1;
        let checkpoint = seen.next_checkpoint;
        seen.told.insert(self.task, checkpoint);
        checkpoint
    }

    /// Waits until the body has been ticked once, if it needs more than one tick.
    pub(crate) async fn stage(&self) {
        let left = |world: &World, id| {
            let seen = world.seen();
            seen.gates.iter().find(|gate| gate.id == id).map_or(0, |gate| gate.ticks_left)
        };
        let first = left(&self.world, self.id);
        std::future::poll_fn(|cx| {
            let now = left(&self.world, self.id);
            if first < 2 || now < first {
                return Poll::Ready(());
            }
            if let Some(gate) = self.world.seen().gates.iter_mut().find(|gate| gate.id == self.id) {
                gate.waker = Some(cx.waker().clone());
            }
            Poll::Pending
        })
        .await;
    }
}

impl Future for Work {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let mut seen = self.world.seen();
        match seen.gates.iter().position(|gate| gate.id == self.id) {
            Some(at) if seen.gates[at].ticks_left > 0 => {
                seen.gates[at].waker = Some(cx.waker().clone());
                Poll::Pending
            }
            Some(at) => {
                seen.gates.remove(at);
                Poll::Ready(())
            }
            None => Poll::Ready(()),
        }
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        self.world.seen().gates.retain(|gate| gate.id != self.id);
    }
}

/// A task whose body ends when the world ticks it. Whether it may begin is not checked.
pub(crate) fn gated(world: &World) -> Task<u32, u32> {
    let world = world.clone();
    Task::new("gated", move |cx: TaskContext, input: u32| {
        let work = world.begin_unchecked(&cx, 1);
        async move {
            work.await;
            Ok::<_, Failure>(input)
        }
    })
}
