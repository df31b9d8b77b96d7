//! What a change of one run means for others: its parent is told how it ended, its children are
//! cancelled with it, and a run that waits for its place in a concurrency limit gets it. All of it is
//! committed together with the change.

use std::collections::BTreeSet;

use aiki_core::run::plan;
use aiki_core::run::{RunHead, RunState};
use aiki_core::{Name, RunId, ServerError, system};

use super::desk::{Desk, Edit};
use crate::operation::one_of_many;

/// What is left to do for other runs.
#[derive(Debug, Default)]
pub(super) struct Aftermath {
    ended: Vec<(Name, RunId)>,
    /// Concurrency keys of which a run was given back.
    freed: BTreeSet<(Name, String)>,
}

/// What of a run decides what a change means for others.
pub(super) struct Stood {
    terminal: bool,
    occupied: bool,
}

/// Whether a run takes, or is about to take, one of the places of its key.
fn occupies(head: &RunHead) -> bool {
    head.concurrency.is_some() && (head.lease.is_some() || (head.announce.is_some() && !head.held_back))
}

impl Stood {
    pub(super) fn of(head: &RunHead) -> Self {
        Self { terminal: head.state.is_terminal(), occupied: occupies(head) }
    }

    /// Notes what the change to `head` leads to.
    pub(super) fn compare(self, head: &RunHead, aftermath: &mut Aftermath) {
        let matters = !head.listeners.is_empty() || head.open_children > 0;
        if !self.terminal && head.state.is_terminal() && matters {
            aftermath.ended.push((head.namespace.clone(), head.id));
        }
        if let Some(concurrency) = head.concurrency.as_ref().filter(|_| self.occupied && head.lease.is_none()) {
            aftermath.freed.insert((head.namespace.clone(), concurrency.key.clone()));
        }
    }
}

impl Desk<'_> {
    /// Does what the last operation's changes lead to. What cannot be done spoils the batch: it is never
    /// left out.
    pub(crate) fn follow_up(&mut self) {
        while let Some((namespace, run)) = self.aftermath.ended.pop() {
            if let Err(error) = self.tell_end(&namespace, run) {
                self.give_up(error);
            }
        }
        while let Some((namespace, key)) = self.aftermath.freed.pop_first() {
            if let Err(error) = self.let_next_in(&namespace, &key) {
                self.give_up(error);
            }
        }
    }

    fn tell_end(&mut self, namespace: &Name, run: RunId) -> Result<(), ServerError> {
        let head = self.run(namespace, run)?.head.clone();
        for (at, listener) in head.listeners.iter().enumerate() {
            // The first one is told of its own child; the others found the run under its reference id.
            let own = at == 0 && head.parent == Some(listener.run);
            let told = self.edit(namespace, listener.run, |parent, now, entries| {
                let forgotten = listener.child < parent.base.children && !own;
                if parent.state.is_terminal() || forgotten {
                    return Edit::Unchanged(());
                }
                plan::child_ended(parent, listener.child, own, &head.state, now, entries);
                Edit::Changed(())
            });
            match told {
                Err(ServerError::RunNotFound(_)) => {}
                // One that cannot be read stops neither the run that ends nor the timer that ends it.
                told => drop(one_of_many(listener.run, told)?),
            }
        }
        if matches!(head.state, RunState::Cancelled { .. }) && head.open_children > 0 {
            let request = system::cancel_children_of(run, head.pool().cloned());
            let request = request.map_err(|error| ServerError::Internal(error.to_string()))?;
            let mut entries = Vec::with_capacity(3);
            let (id, now) = (self.next_id(), self.now());
            let head = plan::create(&request, id, namespace, now, &mut entries);
            self.create(head, &entries);
        }
        Ok(())
    }

    /// Makes the runs of a key that were held back ready again for which there is a place, in the order
    /// of ready runs.
    fn let_next_in(&mut self, namespace: &Name, key: &str) -> Result<(), ServerError> {
        let (mut given, mut last) = (self.given(namespace, key)?, None);
        while let Some(wait) = self.next_waiting(namespace, key, last, given)? {
            last = Some(wait);
            let let_in = self.edit(namespace, wait.run, |head, now, _| {
                // Another server may have cancelled it since the line was read.
                if !head.held_back {
                    return Edit::Unchanged(false);
                }
                plan::let_in(head, now);
                Edit::Changed(true)
            });
            given += usize::from(one_of_many(wait.run, let_in)?.unwrap_or(false));
        }
        Ok(())
    }
}
