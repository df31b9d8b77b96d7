//! What follows from a commit: announcements, timers, wake-ups, the list of workers.

use std::sync::Arc;

use aiki_core::run::head::{Announcement, Lease, RunHead};
use aiki_core::{Name, RunId, Timestamp};

use crate::announcer::Announcer;
use crate::storage::ready_run;
use crate::timer::Timer;
use crate::watchers::Watchers;
use crate::workers::Workers;

/// What of a run decides which effects a change has.
pub(crate) struct Before {
    revision: u64,
    announce: Option<Announcement>,
    lease: Option<Lease>,
    /// Number of the claim and of its last report.
    reported: (u64, Option<u64>),
    signals: u32,
    ended: bool,
}

impl Before {
    pub(crate) fn of(head: &RunHead) -> Self {
        Self {
            revision: head.revision,
            announce: head.announce,
            lease: head.lease.clone(),
            reported: reported(head),
            signals: head.signals,
            ended: head.state.is_terminal(),
        }
    }
}

fn reported(head: &RunHead) -> (u64, Option<u64>) {
    (head.epoch, head.last_report.as_ref().map(|last| last.seq))
}

/// A run that a commit changed.
pub(crate) struct Change<'a> {
    /// `None`: it is new.
    pub(crate) before: Option<&'a Before>,
    pub(crate) head: &'a RunHead,
}

impl Change<'_> {
    /// Whether the run has to be announced: it became ready, or is announced again by its age.
    fn is_announced(&self) -> bool {
        self.head.announce.is_some()
            && !self.head.held_back
            && self
                .before
                .is_none_or(|before| before.announce != self.head.announce || before.revision != self.head.revision)
    }

    /// Whether the run ended with this change.
    pub(crate) fn has_ended(&self) -> bool {
        let before = self.before.is_some_and(|before| before.ended);
        self.head.state.is_terminal() && !before
    }

    /// The worker to which something happened that it did not do itself: its claim is gone, or a signal
    /// has come.
    pub(crate) fn concerns(&self) -> Option<&Name> {
        let before = self.before?;
        let lease = before.lease.as_ref()?;
        let lost = self.head.lease.is_none() && before.reported == reported(self.head);
        (lost || before.signals != self.head.signals).then_some(&lease.owner)
    }

    fn lease_before(&self) -> Option<&Lease> {
        self.before.and_then(|before| before.lease.as_ref())
    }
}

/// Who held a run and who holds it now.
pub(crate) struct LeaseChange {
    pub(crate) namespace: Name,
    pub(crate) run: RunId,
    pub(crate) before: Option<Name>,
    pub(crate) after: Option<(Name, Timestamp)>,
}

/// Those who want to know.
pub(crate) struct Effects {
    /// Names this server among those of a store.
    pub(crate) server: u64,
    pub(crate) announcer: Option<Arc<Announcer>>,
    pub(crate) timer: Arc<Timer>,
    pub(crate) watchers: Arc<Watchers>,
    pub(crate) workers: Arc<Workers>,
}

impl Effects {
    /// Makes a commit known. Never blocks.
    pub(crate) fn emit<'a>(&self, now: Timestamp, changes: impl Iterator<Item = Change<'a>>) {
        let mut ready = Vec::new();
        let mut leases = Vec::new();
        let mut concerned = Vec::new();
        let mut earliest = Timestamp::MAX;
        for change in changes {
            let head = change.head;
            if self.announcer.is_some() && change.is_announced() {
                ready.push(ready_run(head));
            }
            if let Some(due) = head.due_at() {
                earliest = earliest.min(due);
            }
            if head.state.is_terminal() {
                self.watchers.ended(head);
            }
            if let Some(worker) = change.concerns() {
                concerned.push((head.namespace.clone(), worker.clone(), head.id));
            }
            if change.lease_before().is_some() || head.lease.is_some() {
                leases.push(LeaseChange {
                    namespace: head.namespace.clone(),
                    run: head.id,
                    before: change.lease_before().map(|lease| lease.owner.clone()),
                    after: head.lease.as_ref().map(|lease| (lease.owner.clone(), lease.since)),
                });
            }
        }
        self.timer.arm(earliest);
        self.workers.leases_changed(now, leases);
        for (namespace, worker, run) in concerned {
            self.workers.tell(&namespace, &worker, run);
        }
        if let Some(announcer) = &self.announcer {
            announcer.announce(ready);
        }
    }
}
