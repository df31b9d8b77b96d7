//! Starting a child run on behalf of its parent.

use std::time::Duration;

use super::create::{CreateRun, Deadline};
use crate::failure::ErrorObject;
use crate::id::RunId;
use crate::report::ChildStart;
use crate::run::head::{Listener, RunHead};
use crate::run::options::RunOptions;
use crate::run::state::RunState;

/// How deep children may nest. A workflow that starts itself as its child runs into it.
pub const MAX_DEPTH: u32 = 32;

/// So many runs at most are told how another one ends, one report's more or less.
pub const MAX_LISTENERS: usize = 1_000;

/// What becomes of a child that a report starts.
#[derive(Clone, Debug, PartialEq)]
pub enum ChildDecision {
    /// A new run with this id.
    New(RunId),
    /// A run that has its reference id already, and its state if it has ended.
    Existing {
        /// The run.
        run: RunId,
        /// How it ended.
        ended: Option<RunState>,
    },
    /// It is not started. The handler gets this error as the child's end.
    Refused(ErrorObject),
}

/// Refuses a child that would be nested too deep.
///
/// # Errors
/// What the handler is told.
pub fn judge_depth(parent: &RunHead, start: &ChildStart) -> Result<(), ErrorObject> {
    if parent.depth < MAX_DEPTH {
        return Ok(());
    }
    Err(ErrorObject::new(
        "ChildDepthExceeded",
        format!(
            "{} is not started: its parent {} has {} ancestors, the limit is {MAX_DEPTH}. Does a workflow start \
             itself?",
            start.workflow, parent.id, parent.depth
        ),
    ))
}

/// What a handler is told that finds its own run under the reference id of a child: it would wait for
/// itself.
pub fn own_child(run: RunId) -> ErrorObject {
    let message = format!("run {run} has this reference id itself and cannot be its own child: use another id");
    ErrorObject::new("ReferenceConflict", message)
}

/// What a handler is told that finds a run for whose end too many others wait already.
pub fn crowded(run: RunId) -> ErrorObject {
    let message = format!(
        "{MAX_LISTENERS} handlers wait for run {run} already: start a child of your own, or send yourself an event"
    );
    ErrorObject::new("TooManyListeners", message)
}

/// The request for a child: it belongs to its parent's pool unless it names another, ends before its
/// parent's deadline, and belongs to its parent's trace.
pub fn child_request(parent: &RunHead, start: &ChildStart) -> CreateRun {
    let options = RunOptions {
        pool: start.options.pool.clone().or_else(|| parent.pool().cloned()),
        retry: start.options.retry.clone(),
    };
    let within = start.time_limit.map(|limit| Deadline::Within(limit.max(Duration::from_millis(1))));
    CreateRun {
        reference: start.reference.clone(),
        options: Some(options),
        priority: start.priority,
        deadline: within,
        trace: parent.trace.clone(),
        ..CreateRun::new(start.workflow.clone(), start.input.clone(), start.input_hash.clone())
    }
}

/// Makes a new run the child of another.
pub fn adopt(child: &mut RunHead, parent: &RunHead, ordinal: u32) {
    child.parent = Some(parent.id);
    child.depth = parent.depth + 1;
    child.listeners.push(Listener { run: parent.id, child: ordinal });
    child.deadline = match (child.deadline, parent.deadline) {
        (Some(own), Some(parents)) => Some(own.min(parents)),
        (own, parents) => own.or(parents),
    };
}

/// Has a run that was found under its reference id tell `parent` how it ends. What the parent asked for
/// before it continued as new is nobody's business any more.
pub fn listen(run: &mut RunHead, parent: &RunHead, ordinal: u32) {
    let own = run.parent == Some(parent.id);
    let mut at = 0;
    run.listeners.retain(|listener| {
        at += 1;
        !is_forgotten(listener, parent, own && at == 1)
    });
    run.listeners.push(Listener { run: parent.id, child: ordinal });
}

/// Whether so many runs wait for the end of `run` that `parent` cannot be one more.
pub fn is_crowded(run: &RunHead, parent: &RunHead) -> bool {
    let own = run.parent == Some(parent.id);
    let live =
        run.listeners.iter().enumerate().filter(|(at, listener)| !is_forgotten(listener, parent, own && *at == 0));
    live.count() >= MAX_LISTENERS
}

/// `first_own`: it is how the parent is told of the child that it started itself.
fn is_forgotten(listener: &Listener, parent: &RunHead, first_own: bool) -> bool {
    listener.run == parent.id && listener.child < parent.base.children && !first_own
}
