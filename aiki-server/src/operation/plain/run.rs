//! Moving a run.

use std::time::Duration;

use aiki_core::run::plan;
use aiki_core::run::plan::plain::{self, Awaited, PlainState, TransitionRun, TransitionedRun};
use aiki_core::{Name, RunId, ServerError};

use super::{refusal, size};
use crate::lane::{Desk, Edit};
use crate::operation::Operation;
use crate::validate;

/// Moves a run.
pub(crate) struct MoveRun {
    pub(crate) namespace: Name,
    pub(crate) request: TransitionRun,
    /// Events that the caller can have seen.
    pub(crate) seen_events: Option<u32>,
    pub(crate) lease: Duration,
}

impl Operation for MoveRun {
    type Answer = TransitionedRun;

    fn touches(&self, runs: &mut Vec<RunId>) {
        runs.push(self.request.run);
        if let PlainState::AwaitingChild { child, .. } = &self.request.to {
            runs.push(*child);
        }
    }

    fn size(&self) -> usize {
        size(validate::payload_of_state(&self.request.to))
    }

    fn plan(&self, desk: &mut Desk<'_>) -> Result<TransitionedRun, ServerError> {
        let (namespace, run) = (&self.namespace, self.request.run);
        desk.run(namespace, run)?;
        let awaited = self.awaited(desk)?;
        let planned = desk.edit(namespace, run, |head, now, entries| {
            let moved = plain::transition_run(head, &self.request, awaited, self.seen_events, self.lease, now, entries);
            match moved {
                Ok(moved) => Edit::Changed(Ok(moved)),
                Err(error) => Edit::Unchanged(Err(error)),
            }
        })?;
        let moved = planned.map_err(|error| refusal(run, error))?;
        if let (PlainState::AwaitingChild { child, .. }, Some(Awaited { child: u32::MAX, ended: false })) =
            (&self.request.to, awaited)
        {
            let waiting = desk.run(namespace, run)?.head.clone();
            desk.edit(namespace, *child, |head, _, _| {
                plan::listen(head, &waiting, u32::MAX);
                Edit::Changed(())
            })?;
        }
        Ok(moved)
    }
}

impl MoveRun {
    fn awaited(&self, desk: &mut Desk<'_>) -> Result<Option<Awaited>, ServerError> {
        let PlainState::AwaitingChild { child, .. } = &self.request.to else { return Ok(None) };
        let waiting = desk.run(&self.namespace, self.request.run)?.head.clone();
        let head = &desk.run(&self.namespace, *child)?.head;
        let place = plain::place_of(self.request.run, head);
        let ended = head.state.is_terminal();
        if place == u32::MAX && !ended && plan::is_crowded(head, &waiting) {
            return Err(ServerError::Invalid(plan::crowded(*child).message));
        }
        Ok(Some(Awaited { child: place, ended }))
    }
}
